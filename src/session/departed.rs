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
//!
//! A store that takes over from another may have lost the last writes, and the watch may be the last who knows of an open
//! order. So whenever it hears of that, and whenever it lets go of an order it has not seen the end of, it puts the order
//! again, and what had started it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::absent::Absent;
use super::device::device;
use super::remember::Putting;
use super::{Now, Sessions};
use crate::domain::event::OfflineReason;
use crate::domain::pile::Presence;
use crate::domain::{Fence, Order, Pile, PileCode};
use crate::store::ledger::{Document, Ledger, Write, WriteError};
use crate::store::{BatchId, Claim, Held, Orphan, StoreError};

/// What the watch works with.
pub struct Watch {
    pub sessions: Sessions,
    pub ledger: Ledger,
    /// Monotonic time counts from here.
    pub started: Instant,
    pub lost_after: Duration,
}

/// The piles that are watched for. Cheap to clone. Bounded by the number of piles, one entry each, and by
/// [`MAX_LEFT_BEHIND`].
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
    /// Orders that are not watched any more, and when they are put again in case the store has lost them.
    left_behind: VecDeque<(Duration, Order)>,
    /// How often the store may have lost writes, and when that was heard of last.
    losses: u64,
    lost_at: Option<Instant>,
}

impl Departed {
    /// A session is over. Those of one pile may end in any order; the newest one's word counts.
    pub fn left(&self, now: Now, absent: Absent) {
        let waiting = self.waiting();
        // Nobody may have told the session of a loss before it ended.
        let told = waiting.lost_at.is_none_or(|at| at.elapsed() > HEARD_OF);
        let losses = if told { waiting.losses } else { waiting.losses - 1 };
        drop(waiting);
        self.watch_until_due(now, Absent { losses, ..absent });
    }

    /// Its new session is here. Whether that knows an order, and how it began, says `has`.
    pub fn came_back(&self, pile: PileCode, has: impl Fn(&Order) -> bool) {
        let mut waiting = self.waiting();
        if let Some(absent) = waiting.remove(pile) {
            waiting.leave_behind(OVERDUE, absent.orders().filter(|order| !has(order)));
        }
        drop(waiting);
        self.0.changed.notify_one();
    }

    /// Somebody else has claimed the pile with `by`, and watches over it now.
    pub fn claimed_elsewhere(&self, pile: PileCode, by: Fence) {
        let mut waiting = self.waiting();
        if waiting.absent.get(&pile).is_some_and(|(_, there)| there.fence.epoch < by.epoch)
            && let Some(absent) = waiting.remove(pile)
        {
            waiting.leave_behind(OVERDUE, absent.orders());
        }
        drop(waiting);
        self.0.changed.notify_one();
    }

    /// The store may have lost writes, about these piles at least: what is known of them here is put again now, and of the
    /// others when their time comes.
    pub fn doubt(&self, doubted: impl Fn(PileCode) -> bool) {
        let mut waiting = self.waiting();
        (waiting.losses, waiting.lost_at) = (waiting.losses + 1, Some(Instant::now()));
        let piles: Vec<_> = waiting.absent.keys().copied().filter(|pile| doubted(*pile)).collect();
        for pile in piles {
            let Some(absent) = waiting.remove(pile) else { continue };
            waiting.insert(OVERDUE, absent);
        }
        drop(waiting);
        self.0.changed.notify_one();
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
        self.adopt_as(ledger, now, orphan, (lost_after, OfflineReason::NodeLost, None)).await
    }

    /// `known`: the pile as it was known here, if the store does not know it at all.
    async fn adopt_as(
        &self,
        ledger: &Ledger,
        now: Now,
        orphan: Orphan,
        (lost_after, reason, known): (Duration, OfflineReason, Option<&Pile>),
    ) -> Result<(), StoreError> {
        let Orphan { pile: code, fence } = orphan;
        if self.waiting().absent.get(&code).is_some_and(|(_, there)| there.fence.epoch >= fence.epoch) {
            return Ok(());
        }
        let losses = self.waiting().losses;
        let stored = ledger.pile_versioned(code).await?.map(|(pile, version)| (pile, Some(version)));
        let orders = ledger.open_orders(code).await?;
        // Read after the documents: if this still is the owner, nobody newer has written them.
        if ledger.owner(code).await? != Some(fence) {
            return Ok(());
        }
        let Some((pile, version)) = stored.or_else(|| Some((known?.clone(), None))) else {
            // Claimed, and nothing was ever told of it.
            return ledger.release(code, fence).await.map(drop);
        };
        let lost_at = (pile.presence == Presence::Online).then_some(now.mono + lost_after);
        let elsewhere = false;
        self.watch_until_due(now, Absent { fence, pile, version, lost_at, reason, orders, elsewhere, losses });
        Ok(())
    }

    /// Attends to piles as their time comes, many at once, so that the store can sync them together. Ends only by being
    /// dropped.
    pub async fn run(self, watch: Watch, now: impl Fn() -> Now) {
        let watch = Arc::new(watch);
        let mut attended = JoinSet::new();
        loop {
            let changed = self.0.changed.notified();
            let next = self.waiting().next_due();
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
            if let Some(order) = self.waiting().take_left_behind(now.mono) {
                attended.spawn(self.clone().put_left_behind(watch.clone(), now, order));
                continue;
            }
            let Some(absent) = self.waiting().take_due(now.mono) else { continue };
            match watch.sessions.live(absent.pile.code) {
                None => drop(attended.spawn(self.clone().attend(watch.clone(), now, absent))),
                // It may never claim the pile.
                Some(live) if live.provisional => self.watch(now.mono + AGAIN, Absent { elsewhere: true, ..absent }),
                Some(_) => self.leave_behind(OVERDUE, absent.orders()),
            }
        }
    }

    async fn attend(self, watch: Arc<Watch>, now: Now, mut absent: Absent) {
        if watch.ledger.store().health().is_err() {
            // It may log in where nobody hears of it from here; what was decided now would be told after that.
            let elsewhere = absent.elsewhere || absent.due(now).is_none_or(|due| due <= now.mono);
            return self.watch(now.mono + AGAIN, Absent { elsewhere, ..absent });
        }
        if absent.elsewhere {
            let Some(ours) = self.still_ours(&watch, now, absent).await else { return };
            absent = ours;
        }
        let losses = self.waiting().losses;
        if absent.losses < losses {
            if let Err(error) = put_all_again(&watch, now, &absent).await {
                tracing::debug!(pile = %absent.pile.code, %error, "what a store may have lost is not put again yet");
                return self.watch(now.mono + AGAIN, absent);
            }
            absent.losses = losses;
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
                Err(WriteError::Conflict { current: None, .. }) if matches!(document, Document::Order(_)) => {
                    // The store has lost it, although it knows whose the pile is.
                    return self.fenced(&watch, now, absent).await;
                }
                Err(WriteError::Conflict { current, .. }) => {
                    if let (Document::Order(ours), Some((Document::Order(theirs), _))) = (&document, &current)
                        && !theirs.knows_beginning_of(ours)
                    {
                        self.leave_behind(OVERDUE, [ours.as_ref().clone()]);
                    }
                    absent.conflict(document, current);
                }
                Err(WriteError::Store(error)) => {
                    tracing::debug!(pile = %absent.pile.code, %error, "not written about an absent pile yet");
                    return self.watch(now.mono + AGAIN, absent);
                }
            }
        }
        if absent.due(now).is_some() {
            return self.watch_until_due(now, absent);
        }
        // Nothing is due any more: whoever claims it next is to find everything in the store. If somebody has, it is theirs.
        if let Err(error) = let_go(&watch, now, &absent).await {
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
    /// of it now, and has as long to come back as after any other loss. A store that has lost the claim may have lost the
    /// orders that were written after it, too.
    async fn fenced(&self, watch: &Watch, now: Now, absent: Absent) {
        match self.judged_anew(watch, now, &absent).await {
            Ok(()) => {}
            Err(error @ StoreError::Invalid(_)) => {
                tracing::error!(pile = %absent.pile.code, %error, "an absent pile is not watched any more");
            }
            Err(_) => self.watch(now.mono + AGAIN, absent),
        }
    }

    async fn judged_anew(&self, watch: &Watch, now: Now, absent: &Absent) -> Result<(), StoreError> {
        let losses = self.waiting().losses;
        let was_lost = put_all_again(watch, now, absent).await?;
        let code = absent.pile.code;
        if was_lost {
            find_again(watch, code).await;
        }
        if watch.sessions.live(code).is_some() {
            return Ok(());
        }
        let fence = match watch.ledger.owner(code).await? {
            Some(owner) if owner.epoch > absent.fence.epoch => watch.sessions.is_own(owner).then_some(owner),
            _ => self.claim_again(watch, absent).await?,
        };
        let Some(fence) = fence else { return Ok(()) };
        let (orphan, judged) = (Orphan { pile: code, fence }, (watch.lost_after, absent.reason, Some(&absent.pile)));
        self.adopt_as(&watch.ledger, now, orphan, judged).await?;
        if self.waiting().losses > losses {
            // What was just put again may be lost, and what was read have been read after that.
            self.leave_behind(OVERDUE, absent.orders.iter().map(|(order, _)| order.clone()));
        }
        Ok(())
    }

    fn leave_behind(&self, at: Duration, orders: impl IntoIterator<Item = Order>) {
        self.waiting().leave_behind(at, orders);
        self.0.changed.notify_one();
    }

    async fn put_left_behind(self, watch: Arc<Watch>, now: Now, order: Order) {
        match put_again(&watch, now, &order).await {
            Ok(true) => find_again(&watch, order.pile).await,
            Ok(false) => {}
            Err(_) => self.leave_behind(now.mono + AGAIN, [order]),
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

    fn watch_until_due(&self, now: Now, absent: Absent) {
        // Even if nothing is due any more: its fence is to be released.
        let due = if absent.losses < self.waiting().losses { OVERDUE } else { absent.due(now).unwrap_or(now.mono) };
        self.watch(due, absent);
    }

    /// Of two entries of one pile the newer one stays, and the orders of the other are not forgotten.
    fn watch(&self, due: Duration, absent: Absent) {
        let mut waiting = self.waiting();
        let (older, newer) = match waiting.remove_with_due(absent.pile.code) {
            None => (None, (due, absent)),
            Some(there) if there.1.fence.epoch > absent.fence.epoch => (Some(absent), there),
            Some((_, there)) => (Some(there), (due, absent)),
        };
        if let Some(older) = older {
            waiting.leave_behind(OVERDUE, older.orders().filter(|order| !newer.1.has(order)));
        }
        waiting.insert(newer.0, newer.1);
        drop(waiting);
        self.0.changed.notify_one();
    }

    #[cfg(test)]
    pub fn watched(&self) -> usize {
        self.waiting().absent.len()
    }

    #[cfg(test)]
    pub fn left_behind(&self) -> usize {
        self.waiting().left_behind.len()
    }

    #[cfg(test)]
    pub fn next_due(&self) -> Option<Duration> {
        self.waiting().next_due()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A panic while the lock was held cannot leave a pile in one of the two maps only for long: both are keyed by it.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn insert(&mut self, due: Duration, absent: Absent) {
        let code = absent.pile.code;
        self.due.insert((due, code));
        self.absent.insert(code, (due, absent));
    }

    fn remove(&mut self, pile: PileCode) -> Option<Absent> {
        self.remove_with_due(pile).map(|(_, absent)| absent)
    }

    fn remove_with_due(&mut self, pile: PileCode) -> Option<(Duration, Absent)> {
        let (due, absent) = self.absent.remove(&pile)?;
        self.due.remove(&(due, pile));
        Some((due, absent))
    }

    /// Orders that are not watched here any more.
    fn leave_behind(&mut self, at: Duration, orders: impl IntoIterator<Item = Order>) {
        for order in orders {
            if self.left_behind.len() >= MAX_LEFT_BEHIND {
                tracing::error!(pile = %order.pile, serial = %order.serial, "an order is not put again: too many wait");
                continue;
            }
            self.left_behind.push_back((at, order));
        }
    }

    fn next_due(&self) -> Option<Duration> {
        let pile = self.due.first().map(|(at, _)| *at);
        [pile, self.left_behind.front().map(|(at, _)| *at)].into_iter().flatten().min()
    }

    fn take_due(&mut self, now: Duration) -> Option<Absent> {
        let (at, pile) = *self.due.first()?;
        if at > now { None } else { self.remove(pile) }
    }

    fn take_left_behind(&mut self, now: Duration) -> Option<Order> {
        self.left_behind.pop_front_if(|(at, _)| *at <= now).map(|(_, order)| order)
    }
}

/// Nothing is left to decide about the pile.
async fn let_go(watch: &Watch, now: Now, absent: &Absent) -> Result<bool, StoreError> {
    put_all_again(watch, now, absent).await?;
    watch.ledger.release(absent.pile.code, absent.fence).await
}

async fn put_all_again(watch: &Watch, now: Now, absent: &Absent) -> Result<bool, StoreError> {
    let mut was_lost = false;
    for (order, _) in &absent.orders {
        was_lost |= put_again(watch, now, order).await?;
    }
    Ok(was_lost)
}

/// A session that is here has not found at its login what has been put again: now it does, and watches over it.
async fn find_again(watch: &Watch, pile: PileCode) {
    if watch.sessions.live(pile).is_some() {
        watch.sessions.reassert(vec![(pile, false)]).await;
    }
}

/// [`Putting`], to its end; whether anything was missing. What the store cannot take, or cannot read of what it has, is
/// not tried again.
async fn put_again(watch: &Watch, now: Now, order: &Order) -> Result<bool, StoreError> {
    let (session, mut n) = (watch.sessions.next_session(), 0);
    let mut next = || {
        n += 1;
        BatchId { session, n }
    };
    let mut left = Some(Putting::of(Box::new(order.clone()), vec![], next(), now.wall));
    let mut was_lost = false;
    while let Some(putting) = left {
        let result = watch.ledger.write(putting.write()).await;
        was_lost |= result.is_ok();
        left = match putting.answered(result, (next(), now.wall)) {
            Ok(left) => left,
            Err(error @ (StoreError::Invalid(_) | StoreError::Conflict { .. })) => {
                tracing::error!(pile = %order.pile, serial = %order.serial, %error, "an order is not put again");
                None
            }
            Err(
                error @ (StoreError::Unavailable(_) | StoreError::Superseded { .. } | StoreError::Contested { .. }),
            ) => return Err(error),
        };
    }
    Ok(was_lost)
}

/// Piles attended to at once.
const AT_ONCE: usize = 64;
/// What has this time is attended to next.
const OVERDUE: Duration = Duration::ZERO;
/// After a time-out of the store.
const AGAIN: Duration = Duration::from_secs(1);
/// For so long after a loss sessions may end that had not been told of it: they are told one after another, and a session
/// that has ended may wait for the store for five minutes.
const HEARD_OF: Duration = Duration::from_mins(10);
/// Orders that wait to be put again, while the store is slow or many piles move at once. Those beyond are not put again.
const MAX_LEFT_BEHIND: usize = 16_384;
