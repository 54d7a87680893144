//! The log from a place on, of some partitions or all: a page is a merge of them by the times at which events were
//! recorded. Within a partition the log's order counts, whatever the times say.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::try_join_all;

use super::ledger::Ledger;
use super::position::recorded_at;
use super::query::MAX_PAGE;
use super::{Entry, Gap, GapReason, Partition, Position, Scan, Store, StoreError};
use crate::domain::{PileCode, WallMs};

/// What to read again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replay {
    /// Sorted; empty = all.
    pub piles: Vec<PileCode>,
    pub begin: Begin,
    /// Nothing recorded before this.
    pub from: Option<WallMs>,
    /// Each partition ends with the first event that was recorded at this time or later.
    pub to: Option<WallMs>,
    /// 1 to [`MAX_PAGE`].
    pub page_size: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Begin {
    /// With the oldest that is wanted and kept.
    Earliest,
    /// Behind these: one for each partition that has anything of `piles`.
    Behind(Vec<(Partition, Position)>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replayed<T> {
    pub items: Vec<T>,
    pub gaps: Vec<Gap>,
    /// Behind what was looked at.
    pub behind: Vec<(Partition, Position)>,
    /// Nothing more is there now.
    pub ended: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReplayError {
    /// It says nothing about a partition that is wanted.
    #[error("the cursor is not of a list with these piles")]
    BadCursor,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Ledger {
    /// Entries of the log for which `keep` has something to say; it is asked only about those of `piles` within the times.
    pub async fn replay<T>(
        &self,
        replay: Replay,
        mut keep: impl FnMut(&Entry) -> Option<T>,
    ) -> Result<Replayed<T>, ReplayError> {
        let store = &**self.store();
        let Replay { piles, begin, from, to, page_size } = replay;
        let mut partitions: Vec<_> = match &piles[..] {
            [] => (0..store.partitions()).map(Partition).collect(),
            piles => piles.iter().map(|pile| Partition::of(*pile, store.partitions())).collect(),
        };
        partitions.sort_unstable();
        partitions.dedup();
        // Twice an even share: then most partitions are read once.
        let limit = (2 * page_size / partitions.len()).clamp(4, Scan::MAX_LIMIT / 2);
        let begin = &begin;
        let heads = partitions.into_iter().map(|partition| async move {
            let position = match (begin, from) {
                (Begin::Earliest, None) => Position::earliest(store, partition).await?,
                (Begin::Earliest, Some(from)) => Position::before(store, partition, from).await?,
                (Begin::Behind(all), _) => {
                    let found = all.iter().find(|(at, _)| *at == partition);
                    found.ok_or(ReplayError::BadCursor)?.1
                }
            };
            let mut head = Head { partition, read: position, behind: position, limit, ..Head::default() };
            head.refill(store, to).await?;
            Ok::<_, ReplayError>(head)
        });
        let mut heads = try_join_all(heads).await?;
        let mut items = vec![];
        for _ in 0..MAX_LOOKED_AT {
            let waiting = heads.iter_mut().filter(|head| !head.waiting.is_empty());
            let next = waiting.min_by_key(|head| head.waiting.front().map(|(at, _)| *at));
            let Some(head) = next.filter(|_| items.len() < page_size) else { break };
            let Some((at, entry)) = head.waiting.pop_front() else { break };
            head.behind = Position::behind(&entry, at);
            head.refill(store, to).await?;
            if from.is_none_or(|from| at >= from) && (piles.is_empty() || piles.binary_search(&entry.pile).is_ok()) {
                items.extend(keep(&entry));
            }
        }
        let ended = heads.iter().all(|head| head.waiting.is_empty());
        let behind = heads.iter().map(|head| (head.partition, head.behind)).collect();
        let gaps = heads.into_iter().flat_map(|head| head.gaps).collect();
        Ok(Replayed { items, gaps, behind, ended })
    }
}

/// One partition's part of a merge. While it has more, something of it waits.
struct Head {
    partition: Partition,
    /// Behind what was looked at.
    behind: Position,
    /// Behind what waits.
    read: Position,
    /// And when it was recorded, as far as that can be read.
    waiting: VecDeque<(WallMs, Arc<Entry>)>,
    gaps: Vec<Gap>,
    limit: usize,
    exhausted: bool,
}

impl Default for Head {
    fn default() -> Self {
        let (behind, read) = (Position::START, Position::START);
        let (waiting, gaps) = (VecDeque::new(), vec![]);
        Self { partition: Partition::GLOBAL, behind, read, waiting, gaps, limit: 1, exhausted: false }
    }
}

impl Head {
    async fn refill(&mut self, store: &dyn Store, to: Option<WallMs>) -> Result<(), StoreError> {
        if !self.waiting.is_empty() || self.exhausted {
            return Ok(());
        }
        let (gap, entries) = self.read.read_on(store, self.partition, self.limit).await?;
        self.exhausted = entries.len() < self.limit;
        if let Some(gap) = gap {
            if gap.reason == GapReason::Lost {
                // Where the reader was is nowhere any more.
                self.behind = Position { offset: gap.from - 1, ..Position::START };
                self.read = self.behind;
            }
            self.gaps.push(gap);
        }
        for entry in entries {
            let at = recorded_at(&entry, self.read.at);
            if to.is_some_and(|to| at >= to) {
                self.exhausted = true;
                break;
            }
            self.read = Position::behind(&entry, at);
            self.waiting.push_back((at, entry));
        }
        Ok(())
    }
}

/// Entries one page looks at: a filter that matches little ends in a short page with a token, not in a long call.
const MAX_LOOKED_AT: usize = 4 * MAX_PAGE;
