//! Writing to a store that may be away: straight to it, or into the journal behind what waits there.
//!
//! Both is decided and done within the pile's turn, so that a pile's writes keep their order: whoever finds the store
//! away has journaled before the next one looks, and while anything waits, everything queues behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use futures_util::{StreamExt, stream};

use super::{Document, Expect, Ledger, SettledOrder, StartAttempt, Told};
use crate::domain::order::Happening;
use crate::domain::{Order, OrderState, PileCode, Record, WallMs};
use crate::store::document::{self, JournalEntry, Journaled};
use crate::store::journal::{Journal, Listed, Pages};
use crate::store::{Batch, Key, Partition, Precondition, Put, Settled, StoreError};

impl Ledger {
    /// Entries that are not in the store yet; 0 if there is no journal.
    pub fn journal_depth(&self) -> usize {
        self.journal.as_ref().map_or(0, Journal::depth)
    }

    /// Whether the journal can be written; if not, why.
    pub fn journal_health(&self) -> Result<(), StoreError> {
        self.journal.as_ref().map_or(Ok(()), Journal::health)
    }

    /// Returns when nothing waits in the journal. Somebody has to drain it meanwhile.
    pub async fn drained(&self) {
        if let Some(journal) = &self.journal {
            journal.drained().await;
        }
    }

    /// For what may not overtake anything of its pile.
    pub(super) async fn behind_nothing<T>(
        &self,
        journal: &Journal,
        pile: PileCode,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let lane = journal.enter(pile);
        let _turn = lane.turn().await;
        if lane.is_waiting() {
            let why = format!("older writes of pile {pile} wait in the journal");
            return Err(StoreError::Unavailable(why));
        }
        call.await
    }

    pub(super) async fn write_journaled(
        &self,
        journal: &Journal,
        pile: PileCode,
        batch: Batch,
        starts: bool,
    ) -> Result<Vec<u64>, StoreError> {
        if starts {
            // The charge that it starts ends in a record, which could not be acknowledged.
            journal.health()?;
        }
        let lane = journal.enter(pile);
        let _turn = lane.turn().await;
        let mut tried = false;
        if !lane.is_waiting() && self.store.health().is_ok() {
            match self.store.commit(self.partition(pile), batch.clone()).await {
                // It may have got there: its id will tell.
                Err(StoreError::Unavailable(why)) => {
                    tracing::debug!(%pile, why, "store away, writing to the journal");
                    tried = true;
                }
                answer => return answer.map(|committed| committed.versions),
            }
        }
        // What the store would refuse for ever must not wait for it.
        document::late_batch(batch.clone()).check(self.partition(pile), self.store.partitions())?;
        let version = |put: &Put| batch.require.iter().find_map(|must| must.next_version(&put.key)).unwrap_or(1);
        let versions = batch.put.iter().map(version).collect();
        journal.append(&lane, Journaled::Batch { batch, tried }, journal.now()).await?.wait();
        Ok(versions)
    }

    pub(super) async fn settle_journaled(
        &self,
        journal: &Journal,
        record: Record,
        latest: Option<(Order, u64)>,
        now: WallMs,
    ) -> Result<SettledOrder, StoreError> {
        let lane = journal.enter(record.pile);
        let _turn = lane.turn().await;
        let journaled = journaled(&record, latest.clone(), now);
        if lane.has(document::record_digest(&record)) {
            return Ok(journaled);
        }
        let behind = lane.is_waiting();
        let ours = latest.as_ref().map(|(order, _)| Box::new(order.clone()));
        let entry = Journaled::Record { record: Box::new(record.clone()), ours };
        let placed = journal.append(&lane, entry, now).await?;
        if behind || self.store.health().is_err() {
            placed.wait();
            return Ok(journaled);
        }
        match self.settle_in_store(&record, latest, now, Told::AtOnce).await {
            Ok(settled) => {
                placed.keep().await;
                Ok(settled)
            }
            Err(
                StoreError::Unavailable(_)
                | StoreError::Contested { .. }
                | StoreError::Superseded { .. }
                | StoreError::Conflict { .. },
            ) => {
                placed.wait();
                Ok(journaled)
            }
            Err(error @ StoreError::Invalid(_)) => {
                placed.withdraw();
                Err(error)
            }
        }
    }

    /// Settles again what has been settled lately in these partitions and is not there any more: their store may have
    /// lost it. What is to be done is put behind what waits, and [`Ledger::drain`] does it. Mostly it is nothing, and then
    /// no pile waits for it.
    ///
    /// Of a partition that cannot be asked nobody knows what it has lost: it is to be asked again when it answers. All of
    /// its records for lost would be an hour's settlements, each done twice, while piles wait for theirs.
    ///
    /// Only records are kept for this. Batches that went straight to the store are not journaled; the sessions that wrote
    /// them still have the documents and write them again.
    pub async fn resettle(&self, partitions: &BTreeSet<Partition>) -> Result<Resettled, StoreError> {
        let mut told = Resettled::default();
        let Some(journal) = &self.journal else { return Ok(told) };
        let away = Mutex::new(BTreeMap::new());
        let are_there = || away.lock().unwrap_or_else(PoisonError::into_inner).len() < partitions.len();
        let mut pages = Pages::default();
        while are_there()
            && let Some(page) = journal.kept(&mut pages).await?
        {
            let ours = page.into_iter().filter(|listed| partitions.contains(&self.partition(listed.pile)));
            let lost = stream::iter(ours).map(|listed| self.if_lost(listed, &away)).buffered(ASKED_AT_ONCE);
            let lost: Vec<_> = lost.filter_map(std::future::ready).collect().await;
            told.records += lost.iter().filter(|listed| journal.reopen(listed)).count();
        }
        told.away = away.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(told)
    }

    /// What cannot be read counts as lost: it is set aside by who drains.
    async fn if_lost(&self, listed: Listed, away: &Mutex<BTreeMap<Partition, StoreError>>) -> Option<Listed> {
        let (partition, away) = (self.partition(listed.pile), || away.lock().unwrap_or_else(PoisonError::into_inner));
        if away().contains_key(&partition) {
            return None;
        }
        let there = match &listed.entry {
            Ok(entry) => self.is_settled_as(entry).await,
            Err(_) => Ok(false),
        };
        match there {
            Ok(true) => None,
            Ok(false) | Err(StoreError::Invalid(_)) => Some(listed),
            Err(
                error @ (StoreError::Unavailable(_)
                | StoreError::Contested { .. }
                | StoreError::Superseded { .. }
                | StoreError::Conflict { .. }),
            ) => {
                away().insert(partition, error);
                None
            }
        }
    }

    /// Whether the store has exactly this record, and the start attempt behind it.
    async fn is_settled_as(&self, entry: &JournalEntry) -> Result<bool, StoreError> {
        let Journaled::Record { record, ours } = &entry.what else { return Ok(false) };
        if !self.record(record.pile, record.serial).await?.is_some_and(|there| there.same_as(record)) {
            return Ok(false);
        }
        match ours.as_deref().and_then(StartAttempt::of) {
            None => Ok(true),
            Some(attempt) => Ok(self.start_attempt(attempt.pile, attempt.id).await?.is_some()),
        }
    }
}

/// What [`Ledger::resettle`] has come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resettled {
    /// Records that are to be settled again.
    pub records: usize,
    /// What could not be asked, and why.
    pub away: BTreeMap<Partition, StoreError>,
}

/// What is known of the order without the store.
fn journaled(record: &Record, latest: Option<(Order, u64)>, now: WallMs) -> SettledOrder {
    let settled = latest.map(|(mut order, version)| {
        order.apply(now, Happening::Recorded(Box::new(record.clone())));
        (order, version + 1)
    });
    let (order, version) = settled.unzip();
    SettledOrder { outcome: Settled::Journaled, order, version: version.unwrap_or(0) }
}

/// Kept records the store is asked about side by side.
const ASKED_AT_ONCE: usize = 64;

impl Document {
    /// Whether a charge begins with it, which ends in a record.
    pub(super) fn starts_charge(&self, expect: Expect) -> bool {
        match self {
            Self::Order(order) => expect == Expect::Absent && order.state == OrderState::Requested,
            Self::StartAttempt(_) => expect == Expect::Absent,
            Self::Pile(_) => false,
        }
    }
}

impl Precondition {
    /// Of the document `key`, once the batch is written; `None` if it is about something else.
    fn next_version(&self, key: &Key) -> Option<u64> {
        match self {
            Self::Absent(about) if about == key => Some(1),
            Self::Version(about, version) if about == key => Some(version + 1),
            Self::Absent(_) | Self::Version(..) | Self::Owner(..) => None,
        }
    }
}
