//! Live telemetry: the latest of each gun, and everybody who watches.
//!
//! Publishing never waits and keeps nothing but the latest: a slow watcher finds the newest measurement and the number
//! it missed, and disturbs nobody. What must not be lost is an event and lives in the store.
//!
//! A hub knows this node's piles. What other nodes measure comes into a watch from beside, through its [`Inlet`].
//!
//! Bounds: one measurement per (pile, gun, kind) here and, per watcher, one pending per (pile, gun, kind) it asked for
//! and one gap per node.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use tokio::sync::Notify;

use crate::domain::telemetry::Kind;
use crate::domain::{Gun, PileCode, Telemetry};

/// Cheap to clone; all clones are one hub.
#[derive(Clone, Default)]
pub struct Hub(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Sharded by the last byte of the pile code, so that sessions on different cores seldom meet.
    latest: [Mutex<HashMap<PileCode, Vec<Arc<Telemetry>>>>; SHARDS],
    watchers: RwLock<Vec<Weak<Watcher>>>,
    /// So that publishing costs one load while nobody watches.
    watching: AtomicUsize,
}

/// What a watcher wants; an empty list means all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub piles: Vec<PileCode>,
    pub kinds: Vec<Kind>,
}

/// A measurement, and how many newer-than-last ones of the same gun and kind were skipped on the way to it.
#[derive(Clone, Debug)]
pub struct Update {
    pub telemetry: Arc<Telemetry>,
    pub skipped: u64,
    /// It was there before the watch began.
    pub snapshot: bool,
}

/// What a watcher hears.
#[derive(Clone, Debug)]
pub enum Told {
    Update(Update),
    Gap(Gap),
}

/// What a node measures may be missing from here on, or comes again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gap {
    /// What people call the node.
    pub node: String,
    pub reason: GapReason,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GapReason {
    /// It does not answer, and is asked again until it does.
    Unreachable,
    /// It is gone.
    Left,
    /// It is there: a snapshot of its piles follows.
    Joined,
}

/// One watch. Dropping it ends it.
pub struct Watch {
    watcher: Arc<Watcher>,
    hub: Hub,
}

/// Another way into one watch; nothing once that has ended.
#[derive(Clone)]
pub struct Inlet(Weak<Watcher>);

struct Watcher {
    piles: HashSet<PileCode>,
    kinds: HashSet<Kind>,
    pending: Mutex<Pending>,
    ready: Notify,
}

type Slot = (PileCode, Gun, Kind);

#[derive(Default)]
struct Pending {
    waiting: BTreeMap<Slot, Update>,
    /// Handed out last: the next one is taken from behind it, so that a slow watcher hears of every gun in turn.
    last: Option<Slot>,
    /// The newest of each node. Handed out before any measurement.
    gaps: BTreeMap<String, GapReason>,
}

impl Hub {
    /// Keeps it as the latest of its gun and hands it to everybody who watches.
    pub fn publish(&self, telemetry: Telemetry) {
        let telemetry = Arc::new(telemetry);
        self.keep(&telemetry);
        if self.0.watching.load(Ordering::Acquire) == 0 {
            return;
        }
        let watchers = self.0.watchers.read().unwrap_or_else(PoisonError::into_inner);
        for watcher in watchers.iter().filter_map(Weak::upgrade) {
            watcher.offer(&telemetry, 0, false);
        }
    }

    /// The latest of each gun and kind of a pile; empty if its session has ended.
    pub fn latest(&self, pile: PileCode) -> Vec<Arc<Telemetry>> {
        self.shard(pile).get(&pile).cloned().unwrap_or_default()
    }

    /// Drops what is kept of a pile whose session has ended: it is no longer live.
    pub fn forget(&self, pile: PileCode) {
        self.shard(pile).remove(&pile);
    }

    /// Begins with a snapshot of what is kept; then every publication, conflated.
    pub fn watch(&self, filter: Filter) -> Watch {
        let watcher = Arc::new(Watcher {
            piles: filter.piles.into_iter().collect(),
            kinds: filter.kinds.into_iter().collect(),
            pending: Mutex::default(),
            ready: Notify::new(),
        });
        // Registered before the snapshot is read: a measurement between the two is seen twice, never missed.
        self.0.watchers.write().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&watcher));
        self.0.watching.fetch_add(1, Ordering::AcqRel);
        for shard in &self.0.latest {
            let kept: Vec<_> = lock(shard).values().flatten().cloned().collect();
            for telemetry in kept {
                watcher.offer(&telemetry, 0, true);
            }
        }
        Watch { watcher, hub: self.clone() }
    }

    fn keep(&self, telemetry: &Arc<Telemetry>) {
        let mut shard = self.shard(telemetry.pile);
        let kept = shard.entry(telemetry.pile).or_default();
        let kind = telemetry.measured.kind();
        match kept.iter_mut().find(|t| t.gun == telemetry.gun && t.measured.kind() == kind) {
            Some(slot) => *slot = telemetry.clone(),
            None => kept.push(telemetry.clone()),
        }
    }

    fn shard(&self, pile: PileCode) -> MutexGuard<'_, HashMap<PileCode, Vec<Arc<Telemetry>>>> {
        lock(&self.0.latest[pile.bcd()[6] as usize % SHARDS])
    }
}

impl Watch {
    /// The next measurement or gap. Cancel-safe; waits while there is nothing new.
    pub async fn next(&mut self) -> Told {
        loop {
            let ready = self.watcher.ready.notified();
            if let Some(told) = self.watcher.take() {
                return told;
            }
            ready.await;
        }
    }

    pub fn inlet(&self) -> Inlet {
        Inlet(Arc::downgrade(&self.watcher))
    }
}

impl Inlet {
    /// A measurement from elsewhere; `skipped` were left out on its way here.
    pub fn offer(&self, telemetry: Telemetry, skipped: u64, snapshot: bool) {
        if let Some(watcher) = self.0.upgrade() {
            watcher.offer(&Arc::new(telemetry), skipped, snapshot);
        }
    }

    pub fn gap(&self, Gap { node, reason }: Gap) {
        if let Some(watcher) = self.0.upgrade() {
            lock(&watcher.pending).gaps.insert(node, reason);
            watcher.ready.notify_one();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mine = Arc::downgrade(&self.watcher);
        let mut watchers = self.hub.0.watchers.write().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|w| !w.ptr_eq(&mine));
        self.hub.0.watching.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Watcher {
    fn offer(&self, telemetry: &Arc<Telemetry>, skipped: u64, snapshot: bool) {
        let kind = telemetry.measured.kind();
        let wanted = (self.piles.is_empty() || self.piles.contains(&telemetry.pile))
            && (self.kinds.is_empty() || self.kinds.contains(&kind));
        if !wanted {
            return;
        }
        let mut pending = lock(&self.pending);
        let slot = (telemetry.pile, telemetry.gun, kind);
        let update =
            |before: u64| Update { telemetry: telemetry.clone(), skipped: before.saturating_add(skipped), snapshot };
        match pending.waiting.get_mut(&slot) {
            // A snapshot never replaces something newer: what was published while it was read, unlike what has waited
            // since before its node was out of reach.
            Some(waiting) if snapshot && waiting.telemetry.at >= telemetry.at => {}
            Some(waiting) => *waiting = update(waiting.skipped + 1),
            None => {
                pending.waiting.insert(slot, update(0));
            }
        }
        drop(pending);
        self.ready.notify_one();
    }

    fn take(&self) -> Option<Told> {
        let mut pending = lock(&self.pending);
        if let Some((node, reason)) = pending.gaps.pop_first() {
            return Some(Told::Gap(Gap { node, reason }));
        }
        let after = pending.last.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = pending.waiting.range((after, Bound::Unbounded)).next();
        let slot = *behind.or_else(|| pending.waiting.iter().next())?.0;
        pending.last = Some(slot);
        pending.waiting.remove(&slot).map(Told::Update)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held cannot leave these maps half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const SHARDS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::WallMs;
    use crate::domain::telemetry::{GroundLock, Measured};

    fn measured(pile: u8, n: i64) -> Telemetry {
        Telemetry {
            pile: PileCode::from_bcd([0, 0, 0, 0, 0, 0, pile]).expect("digits"),
            gun: Gun::new(1).expect("a gun"),
            serial: None,
            at: WallMs(n),
            measured: Measured::GroundLock(GroundLock { lock_state: 0, space_state: 0, battery_percent: 0, alarm: 0 }),
        }
    }

    async fn next(watch: &mut Watch) -> Update {
        match watch.next().await {
            Told::Update(update) => update,
            Told::Gap(gap) => panic!("{gap:?}"),
        }
    }

    #[tokio::test]
    async fn what_comes_from_beside_is_filtered_and_conflated_with_the_rest() {
        let hub = Hub::default();
        let mut watch = hub.watch(Filter { piles: vec![measured(2, 0).pile], kinds: vec![] });
        let inlet = watch.inlet();
        inlet.offer(measured(1, 1), 0, true);
        inlet.offer(measured(2, 1), 3, true);
        inlet.offer(measured(2, 2), 1, false);
        inlet.gap(Gap { node: "b".into(), reason: GapReason::Unreachable });
        inlet.gap(Gap { node: "b".into(), reason: GapReason::Left });
        let Told::Gap(gap) = watch.next().await else { panic!("the gap comes first") };
        assert_eq!(gap, Gap { node: "b".into(), reason: GapReason::Left });
        let update = next(&mut watch).await;
        assert_eq!((update.telemetry.at, update.skipped, update.snapshot), (WallMs(2), 5, false));
        drop(watch);
        inlet.offer(measured(2, 3), 0, false);
        assert!(hub.latest(measured(2, 0).pile).is_empty(), "the piles of others are not kept");
    }

    #[tokio::test]
    async fn what_a_node_tells_when_it_is_back_replaces_what_has_waited_since_before() {
        let hub = Hub::default();
        let mut watch = hub.watch(Filter::default());
        let inlet = watch.inlet();
        inlet.offer(measured(1, 5), 0, false);
        inlet.offer(measured(1, 4), 0, true);
        inlet.offer(measured(1, 9), 0, true);
        let update = next(&mut watch).await;
        assert_eq!((update.telemetry.at, update.skipped), (WallMs(9), 1));
    }

    #[tokio::test]
    async fn a_slow_watcher_sees_the_newest_and_how_many_it_missed() {
        let hub = Hub::default();
        hub.publish(measured(1, 0));
        let mut watch = hub.watch(Filter::default());
        let first = next(&mut watch).await;
        assert!(first.snapshot && first.skipped == 0);
        for n in 1..=5 {
            hub.publish(measured(1, n));
        }
        let update = next(&mut watch).await;
        assert_eq!((update.telemetry.at, update.skipped, update.snapshot), (WallMs(5), 4, false));
    }

    #[tokio::test]
    async fn a_filter_lets_only_its_piles_through() {
        let hub = Hub::default();
        let wanted = measured(2, 7);
        let mut watch = hub.watch(Filter { piles: vec![wanted.pile], kinds: vec![] });
        hub.publish(measured(1, 6));
        hub.publish(wanted.clone());
        assert_eq!(*next(&mut watch).await.telemetry, wanted);
        drop(watch);
        assert_eq!(hub.0.watching.load(Ordering::Acquire), 0);
        assert!(hub.0.watchers.read().expect("no panic").is_empty());
    }

    #[tokio::test]
    async fn a_slow_watcher_hears_of_every_gun_in_turn() {
        let hub = Hub::default();
        let mut watch = hub.watch(Filter::default());
        let (one, two) = (measured(1, 1), measured(2, 1));
        for _ in 0..3 {
            hub.publish(one.clone());
            hub.publish(two.clone());
            let first = next(&mut watch).await.telemetry.pile;
            hub.publish(if first == one.pile { one.clone() } else { two.clone() });
            assert_ne!(next(&mut watch).await.telemetry.pile, first);
        }
    }

    #[test]
    fn what_is_forgotten_is_not_in_the_next_snapshot() {
        let hub = Hub::default();
        let gone = measured(3, 1);
        hub.publish(gone.clone());
        assert_eq!(hub.latest(gone.pile).len(), 1);
        hub.forget(gone.pile);
        assert!(hub.latest(gone.pile).is_empty());
    }
}
