//! What a consumer delivers next, and what is in flight: in memory alone, for all its partitions together.
//!
//! ```text
//!   feed ──fed──▶ ┐                                   ┌─▶ gaps ───┐
//!   log ──read──▶ ┴─▶ a partition: ready, oldest first ┴─▶ turns ──┴─next─▶ the client ──▶ in flight ──▶ acknowledged
//! ```
//!
//! What is ready has been read ahead and is nobody's business yet: only what the client was given is in flight, and all of
//! that together is at most what it asked for, partitions that are about to be somebody else's included. What the feed tells
//! when there is no room for it is left to the log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::holding::Held;
use crate::observe;
use crate::store::{Entry, Gap, Offset, Partition, Position, recorded_at};

/// What a client is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delivery {
    Event {
        entry: Arc<Entry>,
        /// Behind the event, to be acknowledged.
        position: Position,
        /// Of the group, and of the lease it is delivered under.
        birth: u64,
        lease: u64,
    },
    Gap(Gap),
}

pub struct Flight {
    group: String,
    birth: u64,
    /// May be in flight.
    most: usize,
    partitions: BTreeMap<Partition, Reading>,
    /// Partitions whose log has to be read before the feed means anything.
    behind: BTreeSet<Partition>,
    gaps: VecDeque<Gap>,
    /// Partitions with something ready, the longest waiting first.
    turns: VecDeque<Partition>,
    /// Delivered and not acknowledged, of all partitions.
    open: usize,
    /// Read ahead, of all partitions.
    ready: usize,
}

struct Reading {
    held: Arc<Held>,
    /// Behind what is ready, or was delivered.
    read: Position,
    ready: VecDeque<(Arc<Entry>, Position)>,
    /// Delivered, oldest first.
    unacknowledged: VecDeque<Offset>,
    newest: Offset,
    /// Its log is being read, or was in vain.
    reads: bool,
}

/// A partition whose log is to be read, from where on, and under which lease.
pub struct ToRead {
    pub partition: Partition,
    pub held: Arc<Held>,
    pub from: Position,
}

impl Flight {
    /// `most` may be in flight, at least 1.
    pub fn new(group: String, birth: u64, most: usize) -> Self {
        let (partitions, behind, gaps, turns) = Default::default();
        Self { group, birth, most, partitions, behind, gaps, turns, open: 0, ready: 0 }
    }

    /// What is held now, and how far it is acknowledged.
    pub fn follow(&mut self, held: &BTreeMap<Partition, Arc<Held>>) {
        let is_held = |at: &Partition, lease| held.get(at).is_some_and(|held| held.lease == lease);
        self.partitions.retain(|at, reading| is_held(at, reading.held.lease));
        for (at, held) in held {
            if !self.partitions.contains_key(at) {
                self.gaps.retain(|gap| gap.partition != *at);
                self.gaps.extend(held.gap);
                self.behind.insert(*at);
                self.partitions.insert(*at, Reading::new(held.clone()));
            }
        }
        (self.open, self.ready) = (0, 0);
        for reading in self.partitions.values_mut() {
            let progress = reading.held.progress();
            while reading.unacknowledged.front().is_some_and(|offset| *offset <= progress.acknowledged.offset) {
                reading.unacknowledged.pop_front();
            }
            if progress.closed {
                reading.ready.clear();
            }
            self.open += reading.unacknowledged.len();
            self.ready += reading.ready.len();
        }
        let partitions = &self.partitions;
        let is_open = |at: &Partition| partitions.get(at).is_some_and(|reading| !reading.held.progress().closed);
        self.behind.retain(is_open);
        // What the client has not been given it need not acknowledge.
        self.gaps.retain(|gap| is_open(&gap.partition));
        self.turns.retain(|at| partitions.get(at).is_some_and(|reading| !reading.ready.is_empty()));
    }

    pub fn fed(&mut self, entry: Arc<Entry>) {
        let (at, fits) = (entry.partition, self.ready < self.room());
        let Some(reading) = self.partitions.get_mut(&at) else { return };
        reading.newest = reading.newest.max(entry.offset);
        if entry.offset <= reading.read.offset || self.behind.contains(&at) || reading.reads {
            // Whoever reads finds it, or finds that it has to read once more.
            return;
        }
        if entry.offset == reading.read.offset + 1 && fits {
            reading.push(entry);
            self.ready += 1;
            if reading.ready.len() == 1 {
                self.turns.push_back(at);
            }
        } else {
            self.behind.insert(at);
        }
    }

    /// The feed tells nothing of what was appended since: every log has to be read.
    pub fn fall_behind(&mut self) {
        self.behind.extend(self.partitions.keys().copied());
    }

    /// Logs to be read, each once at a time, while there is room for what is found.
    pub fn start_reading(&mut self) -> Vec<ToRead> {
        if self.behind.is_empty() || self.room() == 0 {
            return vec![];
        }
        let partitions = &mut self.partitions;
        let mut found = vec![];
        self.behind.retain(|at| {
            let Some(reading) = partitions.get_mut(at) else { return false };
            if reading.reads || !reading.ready.is_empty() {
                return true;
            }
            reading.reads = true;
            found.push(ToRead { partition: *at, held: reading.held.clone(), from: reading.read });
            false
        });
        found
    }

    /// How many entries are read at once: not more than may be in flight.
    pub fn limit(&self) -> usize {
        self.most.min(READ_AT_ONCE)
    }

    /// What a log has told behind where [`Flight::start_reading`] said, asked for at most `limit`.
    pub fn read(&mut self, at: Partition, lease: u64, gap: Option<Gap>, entries: Vec<Arc<Entry>>) {
        let full = entries.len() >= self.limit();
        let Some(reading) = self.partitions.get_mut(&at).filter(|reading| reading.held.lease == lease) else { return };
        reading.reads = false;
        self.gaps.extend(gap);
        self.ready += entries.len();
        for entry in entries {
            reading.push(entry);
        }
        if !reading.ready.is_empty() {
            self.turns.push_back(at);
        }
        if full || reading.newest > reading.read.offset {
            self.behind.insert(at);
        }
    }

    /// After a read that failed. Until then nothing is taken from the feed: it means nothing before the log is read.
    pub fn read_again(&mut self, at: Partition, lease: u64) {
        if let Some(reading) = self.partitions.get_mut(&at).filter(|reading| reading.held.lease == lease) {
            reading.reads = false;
            self.behind.insert(at);
        }
    }

    /// Whether there is something for the client now.
    pub fn has_next(&self) -> bool {
        !self.gaps.is_empty() || (self.room() > 0 && !self.turns.is_empty())
    }

    /// As much is in flight as may be.
    pub fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// What the client is given now, and from now on is in flight.
    pub fn next(&mut self) -> Option<Delivery> {
        // They are behind all that was delivered, and before all that is ready.
        if let Some(gap) = self.gaps.pop_front() {
            return Some(Delivery::Gap(gap));
        }
        if self.room() == 0 {
            return None;
        }
        while let Some(at) = self.turns.pop_front() {
            let Some(reading) = self.partitions.get_mut(&at) else { continue };
            let Some((entry, position)) = reading.ready.pop_front() else { continue };
            self.ready -= 1;
            if !reading.held.deliver(position) {
                self.ready -= reading.ready.len();
                reading.ready.clear();
                continue;
            }
            if !reading.ready.is_empty() {
                self.turns.push_back(at);
            }
            reading.unacknowledged.push_back(entry.offset);
            self.open += 1;
            observe::event_delivered(&self.group, entry.offset <= reading.held.again_until);
            return Some(Delivery::Event { entry, position, birth: self.birth, lease: reading.held.lease });
        }
        None
    }

    /// How many events there are that are not acknowledged, delivered or not.
    pub fn unacknowledged(&self) -> u64 {
        let of = |reading: &Reading| {
            let newest = reading.newest.max(reading.read.offset);
            newest.saturating_sub(reading.held.progress().acknowledged.offset)
        };
        self.partitions.values().map(of).sum()
    }

    fn room(&self) -> usize {
        self.most.saturating_sub(self.open)
    }
}

impl Reading {
    fn new(held: Arc<Held>) -> Self {
        let read = held.progress().acknowledged;
        let newest = read.offset;
        Self { held, read, ready: VecDeque::new(), unacknowledged: VecDeque::new(), newest, reads: false }
    }

    fn push(&mut self, entry: Arc<Entry>) {
        self.read = Position::behind(&entry, recorded_at(&entry, self.read.at));
        self.newest = self.newest.max(entry.offset);
        self.ready.push_back((entry, self.read));
    }
}

const READ_AT_ONCE: usize = 128;
