//! Piles whose connection has gone. A closed socket is not yet offline: the pile has until `lost_after_s` after its last
//! frame to come back, on whatever connection; then it is reported offline, once.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::{Now, Sessions};
use crate::domain::event::OfflineReason;
use crate::domain::pile::Presence;
use crate::domain::{Event, EventKind, Fence, Pile, PileCode};
use crate::store::ledger::{Document, Expect, Ledger, Write, WriteError};
use crate::store::{BatchId, StoreError};
use crate::store::{PileQuery, QueryError};

/// A pile without a session, as its last one left it.
pub struct Absent {
    pub pile: Pile,
    pub version: Option<u64>,
    pub fence: Fence,
    /// When to report it, on the node's monotonic clock.
    pub lost_at: Duration,
    pub reason: OfflineReason,
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
    absent: HashMap<PileCode, Absent>,
    due: BTreeSet<(Duration, PileCode)>,
}

impl Departed {
    /// Sessions of one pile may end in any order; the newest one's word counts.
    pub fn left(&self, absent: Absent) {
        let mut waiting = self.waiting();
        if waiting.absent.get(&absent.pile.code).is_some_and(|there| there.fence.epoch > absent.fence.epoch) {
            return;
        }
        waiting.remove(absent.pile.code);
        waiting.due.insert((absent.lost_at, absent.pile.code));
        waiting.absent.insert(absent.pile.code, absent);
        drop(waiting);
        self.0.changed.notify_one();
    }

    pub fn came_back(&self, pile: PileCode) {
        self.waiting().remove(pile);
    }

    /// Piles that the last run of this node left online: it cannot have reported them.
    pub async fn left_by_last_run(&self, ledger: &Ledger, lost_at: Duration) -> Result<usize, StoreError> {
        let mut query = PileQuery { presence: Some(Presence::Online), page_size: 500, page_token: String::new() };
        let mut found = 0;
        loop {
            let page = match ledger.piles(query.clone()).await {
                Ok(page) => page,
                Err(QueryError::Store(error)) => return Err(error),
                Err(QueryError::BadPageToken) => return Err(StoreError::Invalid("own page token refused".into())),
            };
            for pile in page.items {
                let Some((pile, version)) = ledger.pile_versioned(pile.code).await? else { continue };
                let Some(fence) = ledger.owner(pile.code).await? else { continue };
                let reason = OfflineReason::NodeRestarted;
                self.left(Absent { pile, version: Some(version), fence, lost_at, reason });
                found += 1;
            }
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            query.page_token = page.next_page_token;
        }
    }

    /// Reports piles as their time comes. Ends only by being dropped.
    pub async fn run(self, sessions: Sessions, ledger: Ledger, started: Instant, now: impl Fn() -> Now) {
        loop {
            let changed = self.0.changed.notified();
            let next = self.waiting().due.first().map(|(at, _)| *at);
            let Some(next) = next else {
                changed.await;
                continue;
            };
            tokio::select! {
                () = sleep_until(started + next) => {}
                () = changed => continue,
            }
            let due = self.waiting().take_due(now().mono);
            if let Some(absent) = due
                && sessions.live(absent.pile.code).is_none()
            {
                self.report(&sessions, &ledger, now(), absent).await;
            }
        }
    }

    async fn report(&self, sessions: &Sessions, ledger: &Ledger, now: Now, mut absent: Absent) {
        let code = absent.pile.code;
        absent.pile.presence = Presence::Offline;
        absent.pile.presence_since = now.wall;
        let pile = Box::new(absent.pile.clone());
        let offline = EventKind::PileOffline { pile: pile.clone(), reason: absent.reason };
        let write = Write {
            id: BatchId { session: sessions.next_session(), n: 1 },
            pile: code,
            // Whoever has claimed the pile since is the one to speak for it.
            fence: Some(absent.fence),
            documents: vec![(Document::Pile(pile), absent.version.map_or(Expect::Absent, Expect::Version))],
            events: vec![Event { pile: code, recorded_at: now.wall, pile_time: None, kind: offline }],
        };
        match ledger.write(write).await {
            Ok(_) => tracing::info!(pile = %code, reason = absent.reason.name(), "pile offline"),
            Err(WriteError::Fenced) => {}
            Err(WriteError::Conflict { current, .. }) => {
                absent.version = current.map(|(_, version)| version);
                self.left(absent);
            }
            Err(WriteError::Store(error)) => {
                tracing::warn!(pile = %code, %error, "offline not reported yet");
                absent.pile.presence = Presence::Online;
                absent.lost_at = now.mono + AGAIN;
                self.left(absent);
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A panic while the lock was held cannot leave a pile in one of the two maps only for long: both are keyed by it.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn remove(&mut self, pile: PileCode) -> Option<Absent> {
        let absent = self.absent.remove(&pile)?;
        self.due.remove(&(absent.lost_at, pile));
        Some(absent)
    }

    fn take_due(&mut self, now: Duration) -> Option<Absent> {
        let (at, pile) = *self.due.first()?;
        if at > now { None } else { self.remove(pile) }
    }
}

/// After a time-out of the store.
const AGAIN: Duration = Duration::from_secs(1);
