//! A node's journal: on its own disk, what a store that is away has yet to be given.
//!
//! ```text
//!   settle ──▶ journal (fsync) ──▶ store ──▶ kept for an hour
//!   write  ─────────────────────▶ store
//!                 └─ away, or something of this pile waits already ──▶ journal ──▶ store, when it is back
//! ```
//!
//! The disk is an [`Embedded`] store of its own: group commit, recovery from a full disk and the lock on the directory
//! are the same. Entries are its documents: those that wait are found by [`IndexName::JournalPending`] in the order of
//! their sequence numbers, those that are in the store by [`IndexName::Expiry`]. In memory are only their numbers, by
//! pile ([`lanes`]).
//!
//! What goes into a journal and how it comes out is the ledger's (`ledger/journaled.rs`, `ledger/drain.rs`).

mod lanes;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::Notify;

use super::document::{self, JournalEntry, Journaled};
use super::embedded::{self, Embedded};
use super::{Batch, IndexCursor, IndexName, Indexed, Key, Partition, Put, Scan, Store, StoreError};
use crate::domain::{PileCode, WallMs};
use lanes::Lanes;

pub(super) use lanes::{Lane, Waiting};

#[derive(Clone)]
pub struct Config {
    /// Created if it is not there. One process at a time.
    pub dir: PathBuf,
    /// Memory for the cache of the file.
    pub cache_bytes: usize,
    /// How long the disk may take; after that it counts as failing.
    pub time_limit: Duration,
    /// How long records stay after they have been settled, for [`super::ledger::Ledger::resettle`]: at least, because
    /// nothing is forgotten while the store is away, nor ...
    pub kept: Duration,
    /// ... before it has been back for so long: what it has lost has to be found out first.
    pub grace: Duration,
    /// When things arrive.
    pub clock: Clock,
}

/// Wall time.
pub type Clock = Arc<dyn Fn() -> WallMs + Send + Sync>;

impl Config {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cache_bytes: 16 * 1024 * 1024,
            time_limit: Duration::from_secs(5),
            kept: Duration::from_hours(1),
            grace: Duration::from_mins(1),
            clock: Arc::new(wall),
        }
    }
}

/// Cheap to clone: all clones are one journal.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

struct Inner {
    disk: Embedded,
    lanes: Lanes,
    /// Names this run of the journal.
    incarnation: u64,
    /// Sequence number of the next entry.
    next: AtomicU64,
    kept_ms: u64,
    grace: Duration,
    clock: Clock,
    /// Entries nobody was told about that may be on the disk all the same. No more than the disk was writing when it
    /// failed, or when those who waited for it gave up.
    doubtful: Mutex<Vec<Key>>,
    /// There is something to do for [`super::ledger::Ledger::drain`].
    work: Notify,
    /// Whoever drains; piles drain many at once, but each of them once.
    pub(super) draining: tokio::sync::Mutex<()>,
}

/// Why a journal does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("journal {}: the directory holds the store of a node that stands alone, and no journal", path.display())]
    NotAJournal { path: PathBuf },
    #[error("the journal cannot be opened")]
    Disk(#[source] embedded::OpenError),
    #[error("journal {}: cannot be read", path.display())]
    Read { path: PathBuf, source: StoreError },
    #[error("the system gives no random numbers: {0}")]
    Chance(String),
}

/// An entry as people see it.
#[derive(Debug)]
pub struct Listed {
    pub pile: PileCode,
    pub seq: u64,
    /// What cannot be read is named.
    pub entry: Result<JournalEntry, StoreError>,
}

/// Which entries [`Journal::list`] gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Of {
    /// Not in the store yet, oldest first.
    Pending,
    /// In the store, and kept; those that are forgotten next first.
    Settled,
}

/// How far [`Journal::kept`] has come.
#[derive(Default)]
pub(super) struct Pages {
    after: Option<IndexCursor>,
    last: Option<String>,
    done: bool,
}

impl Journal {
    /// Opens or creates it, and finds what waits in it.
    pub async fn open(config: Config) -> Result<Self, OpenError> {
        let Config { dir, cache_bytes, time_limit, kept, grace, clock } = config;
        let disk = embedded::Config { partitions: 1, cache_bytes, time_limit, ..embedded::Config::new(&dir) };
        let disk = Embedded::open(disk).map_err(|error| match error {
            embedded::OpenError::Partitions { path, .. } => OpenError::NotAJournal { path },
            other => OpenError::Disk(other),
        })?;
        Self::on(disk, dir, (kept, grace), clock).await
    }

    /// Whether there is one in `dir`.
    pub fn is_in(dir: &Path) -> bool {
        Embedded::is_in(dir)
    }

    pub(super) async fn on(
        disk: Embedded,
        path: PathBuf,
        (kept, grace): (Duration, Duration),
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let incarnation = getrandom::u64().map_err(|error| OpenError::Chance(error.to_string()))?;
        let journal = Self(Arc::new(Inner {
            disk,
            lanes: Lanes::default(),
            incarnation,
            next: AtomicU64::new(1),
            kept_ms: kept.as_millis() as u64,
            grace,
            clock,
            doubtful: Mutex::default(),
            work: Notify::new(),
            draining: tokio::sync::Mutex::default(),
        }));
        journal.load().await.map_err(|source| OpenError::Read { path, source })?;
        Ok(journal)
    }

    async fn load(&self) -> Result<(), StoreError> {
        // A new entry must not take the place of one that is kept.
        let mut after = None;
        loop {
            let (page, next) = self.list(Of::Settled, after).await?;
            for Listed { seq, .. } in page {
                self.0.next.fetch_max(seq + 1, Ordering::Relaxed);
            }
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        let mut after = None;
        loop {
            let (page, next) = self.list(Of::Pending, after).await?;
            for Listed { pile, seq, entry } in page {
                self.0.next.fetch_max(seq + 1, Ordering::Relaxed);
                let lane = self.enter(pile);
                // A run that was killed may have given the store the first of a pile, and no more than that.
                let mut waiting = Waiting::new(seq, entry.as_ref().ok());
                waiting.maybe_there = !lane.is_waiting();
                lane.push(waiting);
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// One page, and where the next one begins.
    pub async fn list(
        &self,
        of: Of,
        after: Option<IndexCursor>,
    ) -> Result<(Vec<Listed>, Option<IndexCursor>), StoreError> {
        let index = match of {
            Of::Pending => IndexName::JournalPending,
            Of::Settled => IndexName::Expiry,
        };
        let (prefix, from, to) = (String::new(), String::new(), String::new());
        let scan = Scan { index, prefix, after, from, to, descending: false, limit: PAGE };
        let found = self.0.disk.list(ALL, scan).await?;
        let next = found.last().filter(|_| found.len() == PAGE).map(|last| last.cursor.clone());
        let listed = found.into_iter().map(|Indexed { cursor, document }| {
            let entry = document::read_journal_entry(&cursor.key, &document.value);
            Ok(Listed { pile: cursor.key.pile, seq: document::journal_seq(&cursor.key)?, entry })
        });
        Ok((listed.collect::<Result<_, StoreError>>()?, next))
    }

    /// Whether it can be written, as far as is known without trying; if not, why.
    pub fn health(&self) -> Result<(), StoreError> {
        self.0.disk.health()
    }

    /// Entries that are not in the store yet.
    pub fn depth(&self) -> usize {
        self.0.lanes.depth()
    }

    /// Returns when nothing waits.
    pub async fn drained(&self) {
        self.0.lanes.drained().await;
    }

    /// Returns when nothing can be written any more: after [`Journal::close`], or because the writer panicked.
    pub async fn closed(&self) {
        self.0.disk.closed().await;
    }

    /// Carries out what waits for the disk; later writes are refused.
    pub async fn close(&self) {
        self.0.disk.close().await;
    }

    pub(super) fn now(&self) -> WallMs {
        (self.0.clock)()
    }

    pub(super) fn enter(&self, pile: PileCode) -> Lane<'_> {
        self.0.lanes.enter(pile)
    }

    /// Piles something waits for.
    pub(super) fn piles(&self) -> Vec<PileCode> {
        self.0.lanes.waiting_piles()
    }

    pub(super) async fn turn_to_drain(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.draining.lock().await
    }

    pub(super) fn has_work(&self) -> bool {
        !self.doubtful().is_empty() || self.0.lanes.is_anything_waiting()
    }

    /// Something may have been added to what there is to do.
    pub(super) async fn work(&self) {
        self.0.work.notified().await;
    }

    /// Durable when it returns; then it waits for the store unless [`Placed`] is told otherwise. Whoever is given an
    /// error may try again: what of the failed attempt has got to the disk all the same is removed.
    pub(super) async fn append<'a>(
        &'a self,
        lane: &'a Lane<'a>,
        what: Journaled,
        arrived_at: WallMs,
    ) -> Result<Placed<'a>, StoreError> {
        // A disk that is known to fail is not asked, so that nothing is left in doubt.
        self.health().map_err(not_journaled)?;
        let entry = JournalEntry { arrived_at, incarnation: self.0.incarnation, what };
        let seq = self.0.next.fetch_add(1, Ordering::Relaxed);
        let put = document::put_pending(lane.pile(), seq, &entry);
        let (key, value) = (put.key.clone(), put.value.clone());
        let doubt = Doubt { journal: self, key: Some(key.clone()) };
        self.write(vec![put], vec![]).await.map_err(not_journaled)?;
        doubt.dispel();
        Ok(Placed { journal: self, lane, key, value, waiting: Some(Waiting::new(seq, Some(&entry))) })
    }

    /// `None` if there is none (any more).
    pub(super) async fn read(&self, key: &Key) -> Result<Option<(Bytes, JournalEntry)>, StoreError> {
        let Some(stored) = self.0.disk.get(key.clone()).await? else { return Ok(None) };
        let entry = document::read_journal_entry(key, &stored.value)?;
        Ok(Some((stored.value, entry)))
    }

    /// A record is in the store: it is kept for a while.
    pub(super) async fn keep(&self, key: Key, value: Bytes) -> Result<(), StoreError> {
        let expires = self.now().plus_ms(self.0.kept_ms);
        self.write(vec![document::put_settled(key, value, expires)], vec![]).await
    }

    pub(super) async fn remove(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        self.write(vec![], keys).await
    }

    /// Removes what is in doubt.
    pub(super) async fn remove_doubtful(&self) -> Result<(), StoreError> {
        loop {
            let some: Vec<Key> = self.doubtful().iter().take(Batch::MAX_OPERATIONS).cloned().collect();
            if some.is_empty() {
                return Ok(());
            }
            self.remove(some.clone()).await?;
            self.doubtful().retain(|key| !some.contains(key));
        }
    }

    /// Kept records that were settled by now, a page at a time; what is settled again meanwhile is kept behind these.
    pub(super) async fn kept(&self, pages: &mut Pages) -> Result<Option<Vec<Listed>>, StoreError> {
        let last = pages.last.get_or_insert_with(|| document::sortable(self.now().plus_ms(self.0.kept_ms))).clone();
        if pages.done {
            return Ok(None);
        }
        let (page, next) = self.list(Of::Settled, pages.after.take()).await?;
        pages.after = next.filter(|next| next.sort <= last);
        pages.done = pages.after.is_none();
        Ok(Some(page))
    }

    /// Lets a kept record wait again. False if it does.
    pub(super) fn reopen(&self, listed: &Listed) -> bool {
        let lane = self.enter(listed.pile);
        let new = !lane.has_seq(listed.seq);
        if new {
            self.wait(&lane, Waiting::new(listed.seq, listed.entry.as_ref().ok()));
        }
        new
    }

    /// See [`Config::grace`].
    pub(super) fn grace(&self) -> Duration {
        self.0.grace
    }

    /// Forgets records that have been kept long enough.
    pub(super) async fn expire(&self) -> Result<(), StoreError> {
        let before = document::sortable(self.now());
        while self.0.disk.expire(ALL, before.clone(), Scan::MAX_LIMIT).await? == Scan::MAX_LIMIT {}
        Ok(())
    }

    async fn write(&self, put: Vec<Put>, delete: Vec<Key>) -> Result<(), StoreError> {
        // Needs no id: whatever is written here may be written again.
        let batch = Batch { id: None, require: vec![], put, delete, append: vec![] };
        self.0.disk.commit_large(batch).await.map(|_| ())
    }

    fn doubtful(&self) -> MutexGuard<'_, Vec<Key>> {
        self.0.doubtful.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doubt(&self, key: Key) {
        self.doubtful().push(key);
        self.0.work.notify_one();
    }

    pub(super) fn wait(&self, lane: &Lane<'_>, waiting: Waiting) {
        lane.push(waiting);
        self.0.work.notify_one();
    }
}

/// An entry that is durable. Dropped it waits for the store, also if whoever held it is dropped in the middle.
pub(super) struct Placed<'a> {
    journal: &'a Journal,
    lane: &'a Lane<'a>,
    key: Key,
    value: Bytes,
    waiting: Option<Waiting>,
}

impl Placed<'_> {
    /// The store is yet to be given it.
    pub(super) fn wait(self) {
        drop(self);
    }

    /// The store has it.
    pub(super) async fn keep(mut self) {
        if let Some(waiting) = &mut self.waiting {
            waiting.done = true;
        }
        match self.journal.keep(self.key.clone(), self.value.clone()).await {
            Ok(()) => self.waiting = None,
            // It is marked later, by whoever drains.
            Err(error) => tracing::warn!(pile = %self.key.pile, %error, "settled record not marked in the journal yet"),
        }
    }

    /// The store will never take it.
    pub(super) fn withdraw(mut self) {
        self.waiting = None;
        self.journal.doubt(self.key.clone());
    }
}

impl Drop for Placed<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            self.journal.wait(self.lane, waiting);
        }
    }
}

/// An entry that may or may not get to the disk.
struct Doubt<'a> {
    journal: &'a Journal,
    key: Option<Key>,
}

impl Doubt<'_> {
    fn dispel(mut self) {
        self.key = None;
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.journal.doubt(key);
        }
    }
}

fn not_journaled(error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(why) => StoreError::Unavailable(format!("journal: {why}")),
        other @ (StoreError::Conflict { .. }
        | StoreError::Contested { .. }
        | StoreError::Superseded { .. }
        | StoreError::Invalid(_)) => other,
    }
}

fn wall() -> WallMs {
    WallMs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64)
}

/// A journal is not divided.
const ALL: Partition = Partition(0);
/// Entries read at a time; each is as large as a batch at most.
const PAGE: usize = 128;
