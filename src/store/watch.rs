//! Following the log: the feed while it keeps up, the log itself when it does not. Nothing is lost or repeated, and
//! each partition comes in its order; and where the log itself has lost something, that is said.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::document::StoredEvent;
use super::ledger::Ledger;
use super::position::recorded_at;
use super::{Entry, Gap, GapReason, Offset, Partition, Position, Store, StoreError, document};
use crate::domain::{Epoch, Event};

/// An event and its place in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stamped {
    pub partition: Partition,
    pub offset: Offset,
    /// (pile, epoch, seq) is unique; seq counts the events of a pile without a gap.
    pub epoch: Epoch,
    pub seq: u64,
    /// It waited in a node's journal: what the log tells before it may have happened after it.
    pub late: bool,
    pub event: Event,
}

impl Stamped {
    /// Pile, epoch and seq as one unique name.
    pub fn event_id(&self) -> String {
        format!("{}-{}-{}", self.event.pile, self.epoch.0, self.seq)
    }
}

/// What a watch meets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    Event(Box<Stamped>),
    /// What is missing before the next event of its partition.
    Gap(Gap),
}

pub struct EventWatch {
    store: Arc<dyn Store>,
    feed: broadcast::Receiver<Arc<Entry>>,
    /// By partition: the last entry that was handed out or waits in `read`.
    seen: Vec<Position>,
    /// Partitions whose log has to be read before the feed means anything.
    behind: BTreeSet<Partition>,
    /// Read from the log, not handed out yet.
    read: VecDeque<Result<Arc<Entry>, Gap>>,
}

impl Ledger {
    /// Everything appended from this call on, of every pile.
    pub async fn watch(&self) -> Result<EventWatch, StoreError> {
        EventWatch::start(self.store().clone()).await
    }
}

impl EventWatch {
    async fn start(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        // The ends first, the feed second: what is appended in between is in the log, so every log is read once.
        let partitions = (0..store.partitions()).map(Partition);
        let seen = try_join_all(partitions.clone().map(|partition| Position::end(&*store, partition))).await?;
        let feed = store.feed();
        Ok(Self { store, feed, seen, behind: partitions.collect(), read: VecDeque::new() })
    }

    /// The next event, or that some are missing; waits for it. Cancel-safe: whatever was taken from feed or log is kept in
    /// `self` or not taken.
    ///
    /// An event that cannot be read is one `Invalid`; the next call goes on behind it.
    pub async fn next(&mut self) -> Result<Seen, StoreError> {
        loop {
            match self.read.pop_front() {
                Some(Ok(entry)) => return stamped(&entry).map(|stamped| Seen::Event(Box::new(stamped))),
                Some(Err(gap)) => return Ok(Seen::Gap(gap)),
                None => {}
            }
            if let Some(partition) = self.behind.first().copied() {
                self.read_log(partition).await?;
                continue;
            }
            match self.feed.recv().await {
                Ok(entry) => {
                    let seen = self.seen.get_mut(usize::from(entry.partition.0));
                    let seen = seen.ok_or_else(|| StoreError::Invalid("a partition too many".to_owned()))?;
                    if entry.offset <= seen.offset {
                        continue;
                    }
                    if entry.offset > seen.offset + 1 {
                        self.behind.insert(entry.partition);
                        continue;
                    }
                    *seen = Position::behind(&entry, recorded_at(&entry, seen.at));
                    self.read.push_back(Ok(entry));
                }
                Err(RecvError::Lagged(_)) => {
                    self.behind = (0..self.store.partitions()).map(Partition).collect();
                }
                // A store that cannot stand by what its feed has told ends it.
                Err(RecvError::Closed) => {
                    self.feed = self.store.feed();
                    self.behind = (0..self.store.partitions()).map(Partition).collect();
                }
            }
        }
    }

    async fn read_log(&mut self, partition: Partition) -> Result<(), StoreError> {
        let seen = self.seen.get(usize::from(partition.0)).copied().unwrap_or_default();
        let (gap, entries) = seen.read_on(&*self.store, partition, READ_AT_ONCE).await?;
        // A log that was lost and is empty has no entry to stand behind yet.
        let mut now = gap
            .filter(|gap| gap.reason == GapReason::Lost)
            .map(|gap| Position { offset: gap.from - 1, ..Position::START });
        if let Some(last) = entries.last() {
            now = Some(Position::behind(last, recorded_at(last, seen.at)));
        }
        // No await from here on: what was read is kept.
        if entries.len() < READ_AT_ONCE {
            self.behind.remove(&partition);
        }
        if let (Some(now), Some(seen)) = (now, self.seen.get_mut(usize::from(partition.0))) {
            *seen = now;
        }
        if let Some(gap) = gap {
            let Gap { partition, from, to, reason } = gap;
            tracing::warn!(%partition, from, to, reason = reason.name(), "events are missing: going on behind them");
            self.read.push_back(Err(gap));
        }
        self.read.extend(entries.into_iter().map(Ok));
        Ok(())
    }
}

pub fn stamped(entry: &Entry) -> Result<Stamped, StoreError> {
    let Entry { partition, offset, pile: _, epoch, seq, payload } = entry;
    let StoredEvent { event, late } =
        document::read_stored_event(&format!("{offset} of partition {partition}"), payload)?;
    Ok(Stamped { partition: *partition, offset: *offset, epoch: *epoch, seq: *seq, late, event })
}

const READ_AT_ONCE: usize = 256;
