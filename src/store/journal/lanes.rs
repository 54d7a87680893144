//! What waits, by pile and in order: numbers only, the entries themselves are on the disk, which bounds them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::domain::PileCode;
use crate::store::document::{self, JournalEntry, Journaled};

#[derive(Default)]
pub(super) struct Lanes {
    /// Only piles somebody is busy with or something waits for.
    piles: Mutex<HashMap<PileCode, Arc<Inner>>>,
    /// Entries that wait, and those that were set aside.
    depth: watch::Sender<usize>,
}

struct Inner {
    pile: PileCode,
    /// Writers of a pile pass one after the other, so that "straight to the store, or behind what waits" is decided and
    /// done as one.
    turn: tokio::sync::Mutex<()>,
    waiting: Mutex<VecDeque<Waiting>>,
}

/// An entry that waits.
#[derive(Clone, Debug)]
pub(in crate::store) struct Waiting {
    pub(in crate::store) seq: u64,
    /// Of a record.
    digest: Option<[u8; 32]>,
    /// A run before this one may have given it to the store.
    pub(in crate::store) maybe_there: bool,
    /// The store has it, but the journal does not say so yet.
    pub(in crate::store) done: bool,
}

impl Waiting {
    /// `entry` is `None` if it cannot be read.
    pub(in crate::store) fn new(seq: u64, entry: Option<&JournalEntry>) -> Self {
        let digest = entry.and_then(|entry| match &entry.what {
            Journaled::Batch { .. } => None,
            Journaled::Record { record, .. } => Some(document::record_digest(record)),
        });
        Self { seq, digest, maybe_there: false, done: false }
    }
}

impl Lanes {
    pub(super) fn enter(&self, pile: PileCode) -> Lane<'_> {
        let new = || Inner { pile, turn: tokio::sync::Mutex::default(), waiting: Mutex::default() };
        let lane = self.piles().entry(pile).or_insert_with(|| Arc::new(new())).clone();
        Lane { lanes: self, lane }
    }

    pub(super) fn waiting_piles(&self) -> Vec<PileCode> {
        self.piles().values().filter(|lane| !lane.waiting().is_empty()).map(|lane| lane.pile).collect()
    }

    pub(super) fn is_anything_waiting(&self) -> bool {
        self.piles().values().any(|lane| !lane.waiting().is_empty())
    }

    pub(super) fn depth(&self) -> usize {
        *self.depth.borrow()
    }

    pub(super) async fn drained(&self) {
        // Fails only without a sender, which is `self`.
        let _ = self.depth.subscribe().wait_for(|depth| *depth == 0).await;
    }

    fn count(&self, change: impl FnOnce(&mut usize)) {
        self.depth.send_modify(change);
        crate::observe::journal_depth(self.depth());
    }

    fn piles(&self) -> MutexGuard<'_, HashMap<PileCode, Arc<Inner>>> {
        // A panic while the lock was held cannot leave a map half changed.
        self.piles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One pile's way to the store. It is forgotten when the last one leaves it and nothing waits.
pub(in crate::store) struct Lane<'a> {
    lanes: &'a Lanes,
    lane: Arc<Inner>,
}

impl Lane<'_> {
    pub(in crate::store) fn pile(&self) -> PileCode {
        self.lane.pile
    }

    /// Waits for those who came before, each of whom is bounded by the store's time limit and the disk's.
    pub(in crate::store) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.lane.turn.lock().await
    }

    pub(in crate::store) fn is_waiting(&self) -> bool {
        !self.lane.waiting().is_empty()
    }

    /// Whether a record that says exactly this waits.
    pub(in crate::store) fn has(&self, digest: [u8; 32]) -> bool {
        self.lane.waiting().iter().any(|waiting| waiting.digest == Some(digest))
    }

    pub(in crate::store) fn has_seq(&self, seq: u64) -> bool {
        self.lane.waiting().iter().any(|waiting| waiting.seq == seq)
    }

    /// Behind all others.
    pub(in crate::store) fn push(&self, new: Waiting) {
        self.lane.waiting().push_back(new);
        self.lanes.count(|depth| *depth += 1);
    }

    pub(in crate::store) fn first(&self) -> Option<Waiting> {
        self.lane.waiting().front().cloned()
    }

    /// The store has taken the first.
    pub(in crate::store) fn done(&self, seq: u64) {
        if let Some(first) = self.lane.waiting().front_mut().filter(|first| first.seq == seq) {
            first.done = true;
        }
    }

    /// The first is in the store, and the journal says so.
    pub(in crate::store) fn pop(&self, seq: u64) {
        if self.set_aside(seq) {
            self.lanes.count(|depth| *depth = depth.saturating_sub(1));
        }
    }

    /// The first will never get to the store. It stays on the disk and counts, but holds up nobody.
    pub(in crate::store) fn set_aside(&self, seq: u64) -> bool {
        let mut waiting = self.lane.waiting();
        let is_first = waiting.front().is_some_and(|first| first.seq == seq);
        if is_first {
            waiting.pop_front();
        }
        is_first
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        let mut piles = self.lanes.piles();
        // The map's and ours; who enters does so under the same lock.
        if Arc::strong_count(&self.lane) == 2 && self.lane.waiting().is_empty() {
            piles.remove(&self.lane.pile);
        }
    }
}
