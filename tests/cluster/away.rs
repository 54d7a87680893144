//! The store is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use pileway::api::pb;
use pileway::domain::{Fence, PileCode};
use pileway::store::*;
use tokio::sync::broadcast;
use tonic::Code;

use crate::common::{eventually, has_passed, reason};
use crate::nodes::Shared;
use crate::{PILE, answer_clock};

const OTHER: &str = "32010600019237";

#[tokio::test]
async fn without_the_store_what_is_here_and_what_is_remembered_is_reached_and_the_rest_is_not() {
    let away = Arc::new(AtomicBool::new(false));
    let shared = Shared::over(|store| Arc::new(Interrupted { store, away: away.clone(), forgetful: Arc::default() }));
    let (a, b) = (shared.node("a").await, shared.node("b").await);
    let (mut remembered, _unknown) = (b.pile(PILE).await, b.pile(OTHER).await);
    let (set, ()) = tokio::join!(a.api.sync_clock(PILE), answer_clock(&mut remembered));
    set.expect("a remembers where it is");

    away.store(true, Ordering::SeqCst);
    // For longer than any lease holds: nodes do not take each other for dead because the store is.
    let patience = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < patience {
        for node in [&b, &a] {
            let (set, ()) = tokio::join!(node.api.sync_clock(PILE), answer_clock(&mut remembered));
            set.unwrap_or_else(|error| panic!("{}: {error:?}", node.name));
        }
    }
    let request = pb::GetOwnerRequest { pile: PILE.into() };
    let owner =
        b.api.cluster.clone().get_owner(request).await.expect("it is here").into_inner().owner.expect("an owner");
    assert_eq!((owner.state(), owner.node.as_str()), (pb::OwnerState::Local, "b"));
    let error = a.api.sync_clock(OTHER).await.expect_err("nobody can say where it is");
    assert_eq!(reason(&error), (Code::Unavailable, "STORE_UNAVAILABLE".into()));

    away.store(false, Ordering::SeqCst);
    // Known to be there before it is known where: the session is told as soon as its node is known again.
    let told = |pile: pb::Pile| pile.session.is_some_and(|session| session.node == "b").then_some(());
    let found = || async { told(a.api.pile(OTHER).await) };
    eventually("the store to be asked again", found).await;
    // They were not taken for gone, and neither were their piles.
    let (set, ()) = tokio::join!(a.api.sync_clock(PILE), answer_clock(&mut remembered));
    set.expect("still there");
}

#[tokio::test]
async fn a_lease_that_had_lapsed_is_noticed_though_the_answer_that_said_so_was_lost() {
    let (away, forgetful) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let wrap = |store| Interrupted { store, away: away.clone(), forgetful: forgetful.clone() };
    let shared = Shared::over(|store| Arc::new(wrap(store)));
    let a = shared.node("a").await;
    let _pile = a.pile(PILE).await;
    let before = a.api.session(PILE).await.epoch;

    away.store(true, Ordering::SeqCst);
    has_passed(Duration::from_millis(1500), Instant::now()).await;
    // Renewals get there, and what they are answered does not come back whole.
    forgetful.store(true, Ordering::SeqCst);
    away.store(false, Ordering::SeqCst);
    has_passed(Duration::from_millis(600), Instant::now()).await;
    forgetful.store(false, Ordering::SeqCst);
    let again = || async { (a.api.session(PILE).await.epoch > before).then_some(()) };
    eventually("its piles to be claimed again", again).await;
}

/// A store that answers nothing while it is away.
struct Interrupted {
    store: Arc<dyn Store>,
    away: Arc<AtomicBool>,
    /// It does not say whether it has lost writes.
    forgetful: Arc<AtomicBool>,
}

macro_rules! unless_away {
    ($self:ident, $call:expr) => {
        if $self.away.load(Ordering::SeqCst) {
            ready(Err(StoreError::Unavailable("away".into()))).boxed()
        } else {
            $call
        }
    };
}

impl Store for Interrupted {
    fn commit(&self, partition: Partition, batch: Batch) -> BoxFuture<'_, Result<Committed, StoreError>> {
        unless_away!(self, self.store.commit(partition, batch))
    }

    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, StoreError>> {
        unless_away!(self, self.store.claim(claim))
    }

    fn release(&self, pile: PileCode, fence: Fence) -> BoxFuture<'_, Result<bool, StoreError>> {
        unless_away!(self, self.store.release(pile, fence))
    }

    fn settle(&self, settlement: Settlement) -> BoxFuture<'_, Result<Settled, StoreError>> {
        unless_away!(self, self.store.settle(settlement))
    }

    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>> {
        unless_away!(self, self.store.get(key))
    }

    fn owner(&self, pile: PileCode) -> BoxFuture<'_, Result<Option<Fence>, StoreError>> {
        unless_away!(self, self.store.owner(pile))
    }

    fn list(&self, partition: Partition, scan: Scan) -> BoxFuture<'_, Result<Vec<Indexed>, StoreError>> {
        unless_away!(self, self.store.list(partition, scan))
    }

    fn read_log(
        &self,
        partition: Partition,
        after: Offset,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Arc<Entry>>, StoreError>> {
        unless_away!(self, self.store.read_log(partition, after, limit))
    }

    fn log_end(&self, partition: Partition) -> BoxFuture<'_, Result<Offset, StoreError>> {
        unless_away!(self, self.store.log_end(partition))
    }

    fn feed(&self) -> broadcast::Receiver<Arc<Entry>> {
        self.store.feed()
    }

    fn expire(&self, partition: Partition, before: String, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        unless_away!(self, self.store.expire(partition, before, limit))
    }

    fn trim(&self, partition: Partition, before: Offset, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        unless_away!(self, self.store.trim(partition, before, limit))
    }

    fn renew(&self, lease: Lease) -> BoxFuture<'_, Result<Renewed, StoreError>> {
        unless_away!(self, self.store.renew(lease))
    }

    fn retire(&self, incarnation: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        unless_away!(self, self.store.retire(incarnation))
    }

    fn orphans(
        &self,
        partition: Partition,
        living: Vec<u64>,
        after: Option<Orphan>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Orphan>, StoreError>> {
        unless_away!(self, self.store.orphans(partition, living, after, limit))
    }

    fn lineage(&self) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        if self.forgetful.load(Ordering::SeqCst) {
            return ready(Err(StoreError::Unavailable("forgetful".into()))).boxed();
        }
        unless_away!(self, self.store.lineage())
    }

    fn partitions(&self) -> u16 {
        self.store.partitions()
    }

    fn health(&self) -> Result<(), StoreError> {
        if self.away.load(Ordering::SeqCst) { Err(StoreError::Unavailable("away".into())) } else { self.store.health() }
    }
}
