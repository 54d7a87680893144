//! Which runs of which nodes there are: this one's lease, and the table of all that have one.
//!
//! ```text
//!   every renew_every, and whenever somebody must know ──▶ store.renew ──ok──▶ table, for everybody to see
//!                                                              │                 fresh, or another lineage ──▶ reassert
//!                                                              └─away─▶ the table stays as it was last known
//! ```
//!
//! One task renews. Nobody else asks the store who is there: whoever needs the newest answer has the task renew at once,
//! and all who need it at one time share one renewal.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::config::Config;
use super::reassert::Reasserter;
use crate::observe;
use crate::store::ledger::Ledger;
use crate::store::{Lease, Member, Partition, Renewed, StoreError};

/// Cheap to clone; all clones are one table.
#[derive(Clone)]
pub struct Members(Arc<Inner>);

struct Inner {
    config: Config,
    ledger: Ledger,
    me: Mutex<Member>,
    seen: watch::Sender<View>,
    wanted: Notify,
    /// Renewals that have begun.
    begun: AtomicU64,
    retired: AtomicBool,
}

/// Who is there, as the store last said.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// By incarnation.
    pub members: Arc<BTreeMap<u64, Member>>,
    /// When the last renewal that succeeded began; `None` before the first.
    pub renewed_at: Option<Instant>,
    /// Since when renewals have succeeded, each within the lease of the one before; `None` while the store is away.
    pub steady_since: Option<Instant>,
    /// The number of the newest renewal that has ended, well or not.
    pub(super) ended: u64,
}

/// What is known of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    Living(Member),
    /// Its lease has run out, or it has retired.
    Gone,
    /// The store is away, and the run has not been met before.
    Unknown,
}

impl Members {
    /// `me` is what others are told of this run.
    pub fn new(config: Config, ledger: Ledger, me: Member) -> Self {
        let seen = watch::Sender::new(View::default());
        let (wanted, begun, retired) = (Notify::new(), AtomicU64::new(0), AtomicBool::new(false));
        Self(Arc::new(Inner { config, ledger, me: Mutex::new(me), seen, wanted, begun, retired }))
    }

    /// This run.
    pub fn me(&self) -> Member {
        self.lock().clone()
    }

    pub fn view(&self) -> View {
        self.0.seen.borrow().clone()
    }

    /// Hears of every renewal.
    pub fn changes(&self) -> watch::Receiver<View> {
        self.0.seen.subscribe()
    }

    /// Who is there now: the answer to a question asked after this call. False if the store did not say.
    pub async fn refresh(&self) -> bool {
        let mut seen = self.0.seen.subscribe();
        let wanted = self.0.begun.load(Ordering::Acquire) + 1;
        self.0.wanted.notify_one();
        // Ends without one only with the task that renews, which is with the node.
        seen.wait_for(|view| view.ended >= wanted).await.is_ok_and(|view| view.steady_since.is_some())
    }

    /// Whether the run is there. One that is not in the table may have begun a moment ago: then the store is asked. One
    /// that has a lease has had it before it owned anything, so what the store says now is not too early.
    pub async fn find(&self, incarnation: u64) -> Found {
        let there = || self.0.seen.borrow().members.get(&incarnation).cloned();
        match there() {
            Some(member) => Found::Living(member),
            None if self.refresh().await => there().map_or(Found::Gone, Found::Living),
            None => Found::Unknown,
        }
    }

    /// From now on others are told that this run takes no new piles. False if the store could not be told.
    pub async fn set_draining(&self) -> bool {
        self.lock().draining = true;
        self.refresh().await
    }

    /// This run is over for all others. Nothing is renewed after it.
    pub async fn retire(&self) -> Result<(), StoreError> {
        self.0.retired.store(true, Ordering::Release);
        self.0.ledger.store().retire(self.me().incarnation).await
    }

    /// Renews for as long as it is polled, and has `reasserter` say again what the store may have forgotten.
    pub async fn keep(self, reasserter: Reasserter) {
        let mut due = Instant::now();
        let mut lineage = None;
        loop {
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.0.wanted.notified() => {}
            }
            let began = Instant::now();
            let number = self.0.begun.fetch_add(1, Ordering::AcqRel) + 1;
            let succeeded = self.renew(began, number, &mut lineage, &reasserter).await;
            due = began + if succeeded { self.0.config.renew_every } else { self.0.config.renew_every / 3 };
            // Whoever asks within a moment shares the next renewal.
            sleep_until(began + AT_LEAST).await;
        }
    }

    async fn renew(
        &self,
        began: Instant,
        number: u64,
        lineage: &mut Option<Vec<u64>>,
        reasserter: &Reasserter,
    ) -> bool {
        let age = self.0.seen.borrow().renewed_at.map_or(Duration::ZERO, |at| at.elapsed());
        match self.ask_store().await {
            Ok((renewed, now)) => {
                observe::lease_renewal("ok", age);
                // A renewal whose answer was lost may be the one that found the lease gone.
                let lapsed = renewed.fresh || age >= self.0.config.lease_ttl;
                // Before anybody sees the lease renewed: who waits for that waits for what follows from it too. At the
                // first renewal as well: what was claimed before it has been there without a lease.
                if lapsed {
                    if self.0.seen.borrow().renewed_at.is_some() {
                        tracing::warn!(age_ms = age.as_millis(), "the lease had lapsed: every pile is claimed again");
                    }
                    reasserter.everything();
                }
                let before = lineage.replace(now);
                if before.is_none() {
                    reasserter.first_met();
                }
                let changed = before.map_or(vec![], |before| differences(&before, lineage.as_deref().unwrap_or(&[])));
                if !changed.is_empty() {
                    tracing::warn!(partitions = changed.len(), "writes may be lost: their piles are claimed again");
                    reasserter.partitions(&changed);
                }
                self.publish(began, number, renewed.members, lapsed);
                true
            }
            Err(error) => {
                observe::lease_renewal("failed", age);
                let newly = self.0.seen.borrow().steady_since.is_some() && !self.0.retired.load(Ordering::Acquire);
                if newly {
                    tracing::warn!(%error, "the lease could not be renewed");
                }
                self.0.seen.send_modify(|view| (view.steady_since, view.ended) = (None, number));
                false
            }
        }
    }

    async fn ask_store(&self) -> Result<(Renewed, Vec<u64>), StoreError> {
        if self.0.retired.load(Ordering::Acquire) {
            return Err(StoreError::Unavailable("this run has retired".into()));
        }
        let store = self.0.ledger.store();
        let lease = Lease { member: self.me(), ttl: self.0.config.lease_ttl };
        let asked = async { Ok((store.renew(lease).await?, store.lineage().await?)) };
        let late = |_| StoreError::Unavailable("no answer while the lease holds".into());
        timeout(self.0.config.lease_ttl, asked).await.map_err(late)?
    }

    fn publish(&self, began: Instant, number: u64, members: Vec<Member>, lapsed: bool) {
        let members: BTreeMap<u64, Member> = members.into_iter().map(|member| (member.incarnation, member)).collect();
        self.0.seen.send_modify(|view| {
            for (incarnation, member) in &members {
                if !view.members.contains_key(incarnation) {
                    tracing::info!(node = %member.node, peer = %member.peer, "node is there");
                }
            }
            for member in view.members.values().filter(|member| !members.contains_key(&member.incarnation)) {
                tracing::info!(node = %member.node, peer = %member.peer, "node is gone");
            }
            let steady = view.steady_since.filter(|_| !lapsed).unwrap_or(began);
            let (renewed_at, steady_since) = (Some(began), Some(steady));
            *view = View { members: Arc::new(members), renewed_at, steady_since, ended: number };
        });
    }

    fn lock(&self) -> MutexGuard<'_, Member> {
        self.0.me.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    /// Everybody but `me`.
    pub fn others(&self, me: u64) -> impl Iterator<Item = &Member> {
        self.members.values().filter(move |member| member.incarnation != me)
    }
}

/// Where `now` is another than `before`.
fn differences(before: &[u64], now: &[u64]) -> Vec<Partition> {
    let changed = before.iter().zip(now).enumerate().filter(|(_, (before, now))| before != now);
    changed.map(|(partition, _)| Partition(partition as u16)).collect()
}

const AT_LEAST: Duration = Duration::from_millis(20);
