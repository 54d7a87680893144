//! Where a reader stands in a log, so that it can go on there: next week, on another node, after a fail-over.
//!
//! ```text
//!   log:      … 41  42  43  44  45        a reader behind 42 goes on with 43
//!   trimmed:                44  45        43 is gone: a gap, and on with 44
//!   lost:     … 41  42' 43'               42 is another entry now: a gap, and on with what was recorded shortly before 42
//! ```
//!
//! Offsets alone cannot tell a log that was lost and has grown again: they are given out a second time. What an entry was
//! can: (pile, epoch, seq), which come again only of piles that no session has claimed since, and when it was recorded.

use std::sync::Arc;

use super::{Entry, Offset, Partition, Scan, Store, StoreError, document};
use crate::domain::{Epoch, PileCode, WallMs};

/// Behind the entry at `offset`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Position {
    pub offset: Offset,
    /// What the entry there was; `None` if the reader has not seen it.
    pub mark: Option<Mark>,
    /// When that entry was recorded: where to go on if it is lost.
    pub at: WallMs,
}

/// Names an entry, as long as its pile is claimed again after a loss.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    pub pile: PileCode,
    pub epoch: Epoch,
    pub seq: u64,
}

/// What a reader will never see, or not where it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    pub partition: Partition,
    /// The first offset that is missing. Of a log that was lost: where reading goes on.
    pub from: Offset,
    /// The last offset that is missing. Of a log that was lost: where the reader was.
    pub to: Offset,
    pub reason: GapReason,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GapReason {
    /// Older than what is kept.
    Trimmed,
    /// The store has lost the end of the log. Some of what is still there is told again.
    Lost,
}

impl GapReason {
    /// The metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::Lost => "lost",
        }
    }
}

impl Mark {
    pub fn of(entry: &Entry) -> Self {
        let Entry { partition: _, offset: _, pile, epoch, seq, payload: _ } = entry;
        Self { pile: *pile, epoch: *epoch, seq: *seq }
    }
}

impl Position {
    /// Before the first entry there ever was.
    pub const START: Self = Self { offset: 0, mark: None, at: WallMs(0) };

    /// Behind `entry`, which was recorded at `at`.
    pub fn behind(entry: &Entry, at: WallMs) -> Self {
        Self { offset: entry.offset, mark: Some(Mark::of(entry)), at }
    }

    /// Behind the newest entry there is.
    pub async fn end(store: &dyn Store, partition: Partition) -> Result<Self, StoreError> {
        let offset = store.log_end(partition).await?;
        Self::of(store, partition, offset).await
    }

    /// Before the oldest entry that is kept.
    pub async fn earliest(store: &dyn Store, partition: Partition) -> Result<Self, StoreError> {
        let first = store.read_log(partition, 0, 1).await?;
        Ok(Self { offset: first.first().map_or(0, |first| first.offset - 1), ..Self::START })
    }

    /// Before the first entry that was recorded at `at` or later, as the clocks of nodes tell it: found by halving, since
    /// a log is nearly in the order of its times. Entries that waited in a journal are not, and do not count.
    pub async fn before(store: &dyn Store, partition: Partition, at: WallMs) -> Result<Self, StoreError> {
        let end = store.log_end(partition).await?;
        let (mut low, mut high) = (Self::earliest(store, partition).await?.offset, end);
        while low < high {
            let middle = low + (high - low) / 2;
            let entries = store.read_log(partition, middle, PROBE).await?;
            let times = entries.iter().filter_map(|entry| {
                let read = document::read_envelope(&entry.payload)?;
                (!read.late).then_some(WallMs(read.recorded_at_ms))
            });
            match times.take(1).next() {
                Some(recorded) if recorded < at => low = middle + 1,
                // Nothing but late ones, or none that can be read: rather too early than too late.
                Some(_) | None => high = middle,
            }
        }
        Self::of(store, partition, low).await
    }

    async fn of(store: &dyn Store, partition: Partition, offset: Offset) -> Result<Self, StoreError> {
        let Some(before) = offset.checked_sub(1) else { return Ok(Self::START) };
        let there = store.read_log(partition, before, 1).await?;
        let there = there.first().filter(|entry| entry.offset == offset);
        Ok(there.map_or(Self { offset, ..Self::START }, |entry| Self::behind(entry, recorded_at(entry, WallMs(0)))))
    }

    /// The next entries, at most `limit` (less than [`Scan::MAX_LIMIT`]), and the gap before them, if there is one.
    pub async fn read_on(
        self,
        store: &dyn Store,
        partition: Partition,
        limit: usize,
    ) -> Result<(Option<Gap>, Vec<Arc<Entry>>), StoreError> {
        let Self { offset, mark, at } = self;
        // With the entry itself, to see that it is still the same one.
        let (after, more) = if mark.is_some() { (offset.saturating_sub(1), 1) } else { (offset, 0) };
        let mut entries = store.read_log(partition, after, (limit + more).min(Scan::MAX_LIMIT)).await?;
        let intact = match (mark, entries.first()) {
            (Some(mark), Some(first)) if first.offset == offset => {
                mark == Mark::of(first) && recorded_at(first, at) == at
            }
            // The newest entry is never trimmed: an empty log has lost it.
            (Some(_), None) => false,
            (None, None) => store.log_end(partition).await? >= offset,
            (_, Some(first)) => first.offset > offset,
        };
        if !intact {
            let on = Self::before(store, partition, WallMs(at.0 - SLACK_MS)).await?;
            let entries = store.read_log(partition, on.offset, limit).await?;
            return Ok((Some(Gap { partition, from: on.offset + 1, to: offset, reason: GapReason::Lost }), entries));
        }
        if entries.first().is_some_and(|first| first.offset == offset) {
            entries.remove(0);
        }
        entries.truncate(limit);
        let trimmed = entries.first().filter(|first| first.offset > offset + 1);
        let gap =
            trimmed.map(|first| Gap { partition, from: offset + 1, to: first.offset - 1, reason: GapReason::Trimmed });
        Ok((gap, entries))
    }
}

/// When an entry was recorded, whatever it tells: nodes of two releases must say the same of it, or one of them takes the
/// log for another one. `otherwise` if it is damaged.
pub fn recorded_at(entry: &Entry, otherwise: WallMs) -> WallMs {
    document::read_envelope(&entry.payload).map_or(otherwise, |envelope| WallMs(envelope.recorded_at_ms))
}

/// Looked at to find one that was not late.
const PROBE: usize = 16;
/// A fail-over loses seconds, and clocks differ by less than a minute: what was recorded so long before an entry that is
/// lost was appended before everything that is lost with it.
const SLACK_MS: i64 = 5 * 60 * 1000;
