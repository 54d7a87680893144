//! Piles without a session: what time decides about them is decided all the same.
//!
//! A closed socket is not yet offline: the pile has until `lost_after` after its last frame to come back, on whatever
//! connection; then it is reported offline, once. Its open orders keep their deadlines: a start nobody can answer any
//! more fails after 90 s, a record that does not come is overdue after 30 s.
//!
//! Every write carries the fence of the pile's last session: whoever has claimed the pile since speaks for it. When time
//! has nothing left to decide, that fence is released, so that what each run of a node owns stays about as long as the
//! list of piles that are there.
//!
//! Who is watched over: piles that left this node, and those of nodes that are gone ([`Departed::adopt`]).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::device::device;
use super::held::tell_operator;
use super::{Now, Sessions};
use crate::domain::event::OfflineReason;
use crate::domain::pile::Presence;
use crate::domain::{Event, EventKind, Fence, Order, Pile, PileCode};
use crate::store::ledger::{Document, Expect, Ledger, Write, WriteError};
use crate::store::{BatchId, Claim, Held, Orphan, StoreError};

/// A pile without a session, as its last one left it.
pub struct Absent {
    pub fence: Fence,
    pub pile: Pile,
    pub version: Option<u64>,
    /// When to report it offline, on the node's monotonic clock; `None`: that has been done.
    pub lost_at: Option<Duration>,
    pub reason: OfflineReason,
    /// Its open orders and their stored versions.
    pub orders: Vec<(Order, u64)>,
    /// It has logged in elsewhere, where the store could not be asked: until the store says that this fence still
    /// stands, time decides nothing.
    pub elsewhere: bool,
}

/// What the watch works with.
pub struct Watch {
    pub sessions: Sessions,
    pub ledger: Ledger,
    /// Monotonic time counts from here.
    pub started: Instant,
    pub lost_after: Duration,
}

/// The piles that are watched for. Cheap to clone. Bounded by the number of piles: one entry each.
#[derive(Clone, Default)]
pub struct Departed(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    absent: HashMap<PileCode, (Duration, Absent)>,
    due: BTreeSet<(Duration, PileCode)>,
}

impl Departed {
    /// Sessions of one pile may end in any order; the newest one's word counts.
    pub fn left(&self, now: Now, absent: Absent) {
        // Even if nothing is due any more: its fence is to be released.
        let due = absent.due(now).unwrap_or(now.mono);
        self.watch(due, absent);
    }

    pub fn came_back(&self, pile: PileCode) {
        self.waiting().remove(pile);
    }

    /// Somebody else has claimed the pile with `by`, and watches over it now.
    pub fn claimed_elsewhere(&self, pile: PileCode, by: Fence) {
        let mut waiting = self.waiting();
        if waiting.absent.get(&pile).is_some_and(|(_, there)| there.fence.epoch < by.epoch) {
            waiting.remove(pile);
        }
    }

    /// The pile has logged in somewhere, but not in the store: nothing is decided until the store can say whose it is.
    pub fn heard_elsewhere(&self, pile: PileCode) {
        if let Some((_, absent)) = self.waiting().absent.get_mut(&pile) {
            absent.elsewhere = true;
        }
    }

    /// Takes on a pile of a run that is over: it has `lost_after` from now on to come back. Does nothing if it is
    /// watched already, or owned by somebody else meanwhile.
    pub async fn adopt(
        &self,
        ledger: &Ledger,
        now: Now,
        orphan: Orphan,
        lost_after: Duration,
    ) -> Result<(), StoreError> {
        self.adopt_as(ledger, now, orphan, (lost_after, OfflineReason::NodeLost)).await
    }

    async fn adopt_as(
        &self,
        ledger: &Ledger,
        now: Now,
        orphan: Orphan,
        (lost_after, reason): (Duration, OfflineReason),
    ) -> Result<(), StoreError> {
        let Orphan { pile: code, fence } = orphan;
        if self.waiting().absent.get(&code).is_some_and(|(_, there)| there.fence.epoch >= fence.epoch) {
            return Ok(());
        }
        let stored = ledger.pile_versioned(code).await?;
        let orders = ledger.open_orders(code).await?;
        // Read after the documents: if this still is the owner, nobody newer has written them.
        if ledger.owner(code).await? != Some(fence) {
            return Ok(());
        }
        let Some((pile, version)) = stored else {
            // Claimed, and nothing was ever told of it.
            return ledger.release(code, fence).await.map(drop);
        };
        let lost_at = (pile.presence == Presence::Online).then_some(now.mono + lost_after);
        self.left(now, Absent { fence, pile, version: Some(version), lost_at, reason, orders, elsewhere: false });
        Ok(())
    }

    /// Attends to piles as their time comes, many at once, so that the store can sync them together. Ends only by being
    /// dropped.
    pub async fn run(self, watch: Watch, now: impl Fn() -> Now) {
        let watch = Arc::new(watch);
        let mut attended = JoinSet::new();
        loop {
            let changed = self.0.changed.notified();
            let next = self.waiting().due.first().map(|(at, _)| *at);
            let time = async {
                match next {
                    Some(next) => sleep_until(watch.started + next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = time, if attended.len() < AT_ONCE => {}
                () = changed => continue,
                Some(_) = attended.join_next() => continue,
            }
            let now = now();
            let Some(absent) = self.waiting().take_due(now.mono) else { continue };
            match watch.sessions.live(absent.pile.code) {
                None => drop(attended.spawn(self.clone().attend(watch.clone(), now, absent))),
                // It may never claim the pile.
                Some(live) if live.provisional => self.watch(now.mono + AGAIN, Absent { elsewhere: true, ..absent }),
                Some(_) => {}
            }
        }
    }

    async fn attend(self, watch: Arc<Watch>, now: Now, mut absent: Absent) {
        if watch.ledger.store().health().is_err() {
            // It may log in where nobody hears of it from here; what was decided now would be told after that.
            return self.watch(now.mono + AGAIN, Absent { elsewhere: true, ..absent });
        }
        if absent.elsewhere {
            let Some(ours) = self.still_ours(&watch, now, absent).await else { return };
            absent = ours;
        }
        while let Some((document, expect, events)) = absent.decide(now) {
            let write = Write {
                id: BatchId { session: watch.sessions.next_session(), n: 1 },
                pile: absent.pile.code,
                fence: Some(absent.fence),
                documents: vec![(document.clone(), expect)],
                events,
            };
            match watch.ledger.write(write).await {
                Ok(versions) => absent.written(document, versions.first().copied()),
                Err(WriteError::Fenced) => return self.fenced(&watch, now, absent).await,
                Err(WriteError::Conflict { current, .. }) => absent.conflict(document, current),
                Err(WriteError::Store(error)) => {
                    tracing::debug!(pile = %absent.pile.code, %error, "not written about an absent pile yet");
                    return self.watch(now.mono + AGAIN, absent);
                }
            }
        }
        if absent.due(now).is_some() {
            return self.left(now, absent);
        }
        // Nothing is due any more: whoever claims it next finds everything in the store. If somebody has, it is theirs.
        if let Err(error) = watch.ledger.release(absent.pile.code, absent.fence).await {
            tracing::debug!(pile = %absent.pile.code, %error, "an absent pile is not released yet");
            self.watch(now.mono + AGAIN, absent);
        }
    }

    /// Whether the fence still stands, of a pile that may have logged in elsewhere. The pile gets as long to be heard of
    /// as after any other loss; while the store cannot be asked, it waits.
    async fn still_ours(&self, watch: &Watch, now: Now, absent: Absent) -> Option<Absent> {
        match watch.ledger.owner(absent.pile.code).await {
            Ok(Some(owner)) if owner == absent.fence => {
                let lost_at = absent.lost_at.map(|_| now.mono + watch.lost_after);
                Some(Absent { elsewhere: false, lost_at, ..absent })
            }
            Ok(_) => {
                self.fenced(watch, now, absent).await;
                None
            }
            Err(_) => {
                self.watch(now.mono + AGAIN, absent);
                None
            }
        }
    }

    /// Usually the pile is back. But a claim whose answer was lost has nobody behind it, and a store that has lost the
    /// claim of this fence has nobody else who would report the pile gone: then it is ours to judge, with what is stored
    /// of it now, and has as long to come back as after any other loss.
    async fn fenced(&self, watch: &Watch, now: Now, absent: Absent) {
        let code = absent.pile.code;
        if watch.sessions.live(code).is_some() {
            return;
        }
        let fence = match watch.ledger.owner(code).await {
            Ok(Some(owner)) if owner.epoch > absent.fence.epoch => Ok(watch.sessions.is_own(owner).then_some(owner)),
            Ok(_) => self.claim_again(watch, &absent).await,
            Err(error) => Err(error),
        };
        let adopted = match fence {
            Ok(None) => return,
            Ok(Some(fence)) => {
                let (orphan, judged) = (Orphan { pile: code, fence }, (watch.lost_after, absent.reason));
                self.adopt_as(&watch.ledger, now, orphan, judged).await
            }
            Err(error) => Err(error),
        };
        if adopted.is_err() {
            self.watch(now.mono + AGAIN, absent);
        }
    }

    /// `None` if somebody newer was there.
    async fn claim_again(&self, watch: &Watch, absent: &Absent) -> Result<Option<Fence>, StoreError> {
        let Absent { fence, pile, .. } = absent;
        let claim = Claim {
            pile: pile.code,
            session: fence.session,
            now_ms: fence.epoch.0,
            identity: device(&pile.address, &pile.identity),
            held: Held::Fence { fence: *fence, anew: true },
        };
        match watch.ledger.claim(claim).await {
            Ok(login) => Ok(Some(login.fence)),
            Err(StoreError::Superseded { .. } | StoreError::Contested { .. }) => Ok(None),
            Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict { .. } | StoreError::Invalid(_))) => {
                Err(error)
            }
        }
    }

    fn watch(&self, due: Duration, absent: Absent) {
        let code = absent.pile.code;
        let mut waiting = self.waiting();
        if waiting.absent.get(&code).is_some_and(|(_, there)| there.fence.epoch > absent.fence.epoch) {
            return;
        }
        waiting.remove(code);
        waiting.due.insert((due, code));
        waiting.absent.insert(code, (due, absent));
        drop(waiting);
        self.0.changed.notify_one();
    }

    #[cfg(test)]
    pub fn watched(&self) -> usize {
        self.waiting().absent.len()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A panic while the lock was held cannot leave a pile in one of the two maps only for long: both are keyed by it.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Absent {
    /// When time decides something about it.
    pub(super) fn due(&self, now: Now) -> Option<Duration> {
        let orders = self.orders.iter().filter_map(|(order, _)| order.due_without_pile()).min();
        let orders = orders.map(|due| now.mono + Duration::from_millis(due.since(now.wall)));
        [self.lost_at, orders].into_iter().flatten().min()
    }

    /// What is due now, as it should be stored and told.
    pub(super) fn decide(&self, now: Now) -> Option<(Document, Expect, Vec<Event>)> {
        if self.lost_at.is_some_and(|at| at <= now.mono) {
            let mut pile = self.pile.clone();
            pile.presence = Presence::Offline;
            pile.presence_since = now.wall;
            let kind = EventKind::PileOffline { pile: Box::new(pile.clone()), reason: self.reason };
            let expect = self.version.map_or(Expect::Absent, Expect::Version);
            return Some((Document::Pile(Box::new(pile)), expect, vec![self.event(now, kind)]));
        }
        let (order, version, changes) = self.orders.iter().find_map(|(order, version)| {
            let mut order = order.clone();
            let changes = order.tick_without_pile(now.wall);
            (!changes.is_empty()).then_some((order, *version, changes))
        })?;
        let events = changes.into_iter().map(|change| {
            tell_operator(&order, change);
            self.event(now, EventKind::Order { order: Box::new(order.clone()), change })
        });
        let events = events.collect();
        Some((Document::Order(Box::new(order)), Expect::Version(version), events))
    }

    pub(super) fn written(&mut self, document: Document, version: Option<u64>) {
        match document {
            Document::Pile(pile) => {
                tracing::info!(pile = %pile.code, reason = self.reason.name(), "pile offline");
                self.pile = *pile;
                self.version = version;
                self.lost_at = None;
            }
            Document::Order(order) => {
                if let Some(held) = self.orders.iter_mut().find(|(held, _)| held.serial == order.serial) {
                    *held = (*order, version.unwrap_or(held.1 + 1));
                }
                self.orders.retain(|(held, _)| held.state.is_open());
            }
            Document::StartAttempt(_) => {}
        }
    }

    /// Somebody else has written the document: what is stored counts.
    pub(super) fn conflict(&mut self, ours: Document, current: Option<(Document, u64)>) {
        match (ours, current) {
            (Document::Pile(_), Some((Document::Pile(stored), version))) => {
                // An earlier attempt that was thought to have failed may have got there: once is enough.
                if stored.presence == Presence::Offline {
                    self.lost_at = None;
                }
                (self.pile, self.version) = (*stored, Some(version));
            }
            (Document::Pile(_), _) => self.version = None,
            (Document::Order(order), current) => {
                self.orders.retain(|(held, _)| held.serial != order.serial);
                if let Some((Document::Order(stored), version)) = current
                    && stored.state.is_open()
                {
                    self.orders.push((*stored, version));
                }
            }
            (Document::StartAttempt(_), _) => {}
        }
    }

    fn event(&self, now: Now, kind: EventKind) -> Event {
        Event { pile: self.pile.code, recorded_at: now.wall, pile_time: None, kind }
    }
}

impl Waiting {
    fn remove(&mut self, pile: PileCode) -> Option<Absent> {
        let (due, absent) = self.absent.remove(&pile)?;
        self.due.remove(&(due, pile));
        Some(absent)
    }

    fn take_due(&mut self, now: Duration) -> Option<Absent> {
        let (at, pile) = *self.due.first()?;
        if at > now { None } else { self.remove(pile) }
    }
}

/// Piles attended to at once.
const AT_ONCE: usize = 64;
/// After a time-out of the store.
const AGAIN: Duration = Duration::from_secs(1);
