//! A store in memory that each consumer of a test sees through its own glass: slow at random, standing still, or broken.
//! With paused time a minute of it takes a moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, watch};
use tokio::time::sleep;

use crate::domain::{Epoch, Event, EventKind, PileCode, Serial, WallMs};
use crate::store::document::{self, Group, GroupCursor};
use crate::store::*;

pub const PARTITIONS: u16 = 64;

pub struct Memory {
    kept: Mutex<Kept>,
    feed: Mutex<broadcast::Sender<Arc<Entry>>>,
}

struct Kept {
    documents: HashMap<Key, Document>,
    logs: Vec<BTreeMap<Offset, Arc<Entry>>>,
    ends: Vec<Offset>,
    seqs: BTreeMap<PileCode, u64>,
}

struct Document {
    version: u64,
    value: Bytes,
    indexes: Vec<IndexEntry>,
}

impl Memory {
    pub fn new() -> Arc<Self> {
        let parts = usize::from(PARTITIONS);
        let (logs, ends) = (vec![BTreeMap::new(); parts], vec![0; parts]);
        let kept = Kept { documents: HashMap::new(), logs, ends, seqs: BTreeMap::new() };
        Arc::new(Self { kept: Mutex::new(kept), feed: Mutex::new(broadcast::channel(4096).0) })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no panic while it was held")
    }

    /// Everything is lost, and whoever listens hears that its feed has ended.
    pub fn lose(&self) {
        let mut kept = self.kept();
        kept.documents.clear();
        kept.logs.iter_mut().for_each(BTreeMap::clear);
        kept.ends.fill(0);
        kept.seqs.clear();
        *self.feed.lock().expect("no panic while it was held") = broadcast::channel(4096).0;
    }

    /// The same for one log, and no document.
    pub fn lose_log(&self, partition: Partition) {
        let mut kept = self.kept();
        let at = usize::from(partition.0);
        kept.logs[at].clear();
        kept.ends[at] = 0;
        kept.seqs.retain(|pile, _| Partition::of(*pile, PARTITIONS) != partition);
        *self.feed.lock().expect("no panic while it was held") = broadcast::channel(4096).0;
    }

    /// An event of the pile.
    pub fn tell(&self, pile: PileCode, number: u64, at: WallMs) {
        let mut serial = [0; 16];
        serial[8..].copy_from_slice(&number.to_be_bytes());
        let kind = EventKind::RecordConflict { serial: Serial::from_bytes(serial) };
        let Append { pile, payload } = document::append(&Event { pile, recorded_at: at, pile_time: None, kind });
        let partition = Partition::of(pile, PARTITIONS);
        let mut kept = self.kept();
        let seq = kept.seqs.entry(pile).or_default();
        *seq += 1;
        let seq = *seq;
        let at = usize::from(partition.0);
        kept.ends[at] += 1;
        let offset = kept.ends[at];
        let entry = Arc::new(Entry { partition, offset, pile, epoch: Epoch(1), seq, payload });
        kept.logs[at].insert(offset, entry.clone());
        let _ = self.feed.lock().expect("no panic while it was held").send(entry);
    }

    pub fn group(&self, name: &str) -> Option<Group> {
        let key = document::group_key(name);
        self.kept().documents.get(&key).map(|kept| document::read_group(&key, &kept.value).expect("readable"))
    }

    pub fn cursor(&self, name: &str, partition: Partition) -> Option<GroupCursor> {
        let key = document::group_cursor_key(name, partition);
        self.kept().documents.get(&key).map(|kept| document::read_group_cursor(&key, &kept.value).expect("readable"))
    }

    pub fn put(&self, put: Put) {
        self.kept().put(put);
    }
}

impl Kept {
    fn put(&mut self, Put { key, value, indexes }: Put) -> u64 {
        let version = self.documents.get(&key).map_or(1, |document| document.version + 1);
        self.documents.insert(key, Document { version, value, indexes });
        version
    }
}

/// The store as one consumer sees it.
pub struct Glass {
    memory: Arc<Memory>,
    chance: AtomicU64,
    /// Each call takes up to so many milliseconds on its way there, and back.
    pub slow_ms: AtomicU64,
    /// Reads of these documents do not come back while they are in here.
    pub held_up: watch::Sender<BTreeSet<Key>>,
    /// Partitions of which nothing can be read or written.
    pub broken: Mutex<BTreeSet<Partition>>,
    /// The same, and only found out after five seconds.
    pub hangs: Mutex<BTreeSet<Partition>>,
    reads: Mutex<HashMap<Key, usize>>,
}

impl Glass {
    pub fn on(memory: &Arc<Memory>, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            memory: memory.clone(),
            chance: AtomicU64::new(seed),
            slow_ms: AtomicU64::new(0),
            held_up: watch::Sender::default(),
            broken: Mutex::default(),
            hangs: Mutex::default(),
            reads: Mutex::default(),
        })
    }

    /// How often the document was read through this glass.
    pub fn reads_of(&self, key: &Key) -> usize {
        self.reads.lock().expect("no panic while it was held").get(key).copied().unwrap_or(0)
    }

    async fn way(&self) {
        let slow = self.slow_ms.load(Ordering::Relaxed);
        if slow > 0 {
            let next = |seed: u64| seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let drawn = self.chance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |seed| Some(next(seed)));
            sleep(Duration::from_millis((drawn.expect("always some") >> 33) % slow)).await;
        }
    }

    async fn reach(&self, partition: Partition) -> Result<(), StoreError> {
        self.way().await;
        if self.hangs.lock().expect("no panic while it was held").contains(&partition) {
            sleep(Duration::from_secs(5)).await;
            return Err(StoreError::Unavailable("hangs".to_owned()));
        }
        let broken = self.broken.lock().expect("no panic while it was held").contains(&partition);
        if broken { Err(StoreError::Unavailable("broken".to_owned())) } else { Ok(()) }
    }

    /// Asks on the way there, carries out, and answers on the way back.
    fn call<'a, T: Send + 'a>(
        &'a self,
        partition: Partition,
        work: impl FnOnce(&mut Kept) -> Result<T, StoreError> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        Box::pin(async move {
            self.reach(partition).await?;
            let done = work(&mut self.memory.kept());
            self.way().await;
            done
        })
    }
}

macro_rules! not_here {
    ($($name:ident($($type:ty),*) -> $answer:ty;)+) => {
        $(fn $name(&self, $(_: $type),*) -> BoxFuture<'_, Result<$answer, StoreError>> {
            Box::pin(async { Err(StoreError::Invalid("groups do not ask for it".to_owned())) })
        })+
    };
}

impl Store for Glass {
    fn commit(&self, partition: Partition, batch: Batch) -> BoxFuture<'_, Result<Committed, StoreError>> {
        self.call(partition, |kept| {
            let Batch { id: _, require, put, delete, append: _ } = batch;
            for must in require {
                let (key, wanted) = match &must {
                    Precondition::Absent(key) => (key, None),
                    Precondition::Version(key, version) => (key, Some(*version)),
                    Precondition::Owner(..) => return Err(StoreError::Invalid("of no pile".to_owned())),
                };
                let there = kept.documents.get(key).map(|document| document.version);
                if there != wanted {
                    return Err(StoreError::Conflict { failed: Box::new(must), current: None });
                }
            }
            for key in delete {
                kept.documents.remove(&key);
            }
            Ok(Committed { versions: put.into_iter().map(|put| kept.put(put)).collect(), offsets: vec![] })
        })
    }

    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>> {
        Box::pin(async move {
            *self.reads.lock().expect("no panic while it was held").entry(key.clone()).or_default() += 1;
            // Nobody drops the sender while somebody reads.
            let _ = self.held_up.subscribe().wait_for(|held_up| !held_up.contains(&key)).await;
            let read = self.call(key.of.partition(PARTITIONS), |kept| {
                let versioned = |Document { version, value, indexes: _ }: &Document| Versioned {
                    version: *version,
                    value: value.clone(),
                };
                Ok(kept.documents.get(&key).map(versioned))
            });
            read.await
        })
    }

    fn list(&self, partition: Partition, scan: Scan) -> BoxFuture<'_, Result<Vec<Indexed>, StoreError>> {
        self.call(partition, move |kept| {
            let mut found: Vec<_> = kept
                .documents
                .iter()
                .flat_map(|(key, document)| {
                    let of = document.indexes.iter().filter(|entry| entry.index == scan.index);
                    of.map(move |entry| Indexed {
                        cursor: IndexCursor { sort: entry.sort.clone(), key: key.clone() },
                        document: Versioned { version: document.version, value: document.value.clone() },
                    })
                })
                .collect();
            found.sort_by(|one, other| one.cursor.sort.cmp(&other.cursor.sort));
            found.retain(|one| scan.after.as_ref().is_none_or(|after| one.cursor.sort > after.sort));
            found.truncate(scan.limit);
            Ok(found)
        })
    }

    fn read_log(
        &self,
        partition: Partition,
        after: Offset,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Arc<Entry>>, StoreError>> {
        self.call(partition, move |kept| {
            let log = &kept.logs[usize::from(partition.0)];
            Ok(log.range(after + 1..).take(limit).map(|(_, entry)| entry.clone()).collect())
        })
    }

    fn log_end(&self, partition: Partition) -> BoxFuture<'_, Result<Offset, StoreError>> {
        self.call(partition, move |kept| Ok(kept.ends[usize::from(partition.0)]))
    }

    fn trim(&self, partition: Partition, before: Offset, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.call(partition, move |kept| {
            let (end, log) = (kept.ends[usize::from(partition.0)], &mut kept.logs[usize::from(partition.0)]);
            let gone: Vec<_> = log.range(..before.min(end)).take(limit).map(|(offset, _)| *offset).collect();
            for offset in &gone {
                log.remove(offset);
            }
            Ok(gone.len())
        })
    }

    not_here! {
        claim(Claim) -> Claimed;
        release(PileCode, crate::domain::Fence) -> bool;
        settle(Settlement) -> Settled;
        owner(PileCode) -> Option<crate::domain::Fence>;
        expire(Partition, String, usize) -> usize;
        renew(Lease) -> Renewed;
        retire(u64) -> ();
        orphans(Partition, Vec<u64>, Option<Orphan>, usize) -> Vec<Orphan>;
        lineage() -> Vec<u64>;
    }

    fn feed(&self) -> broadcast::Receiver<Arc<Entry>> {
        self.memory.feed.lock().expect("no panic while it was held").subscribe()
    }

    fn partitions(&self) -> u16 {
        PARTITIONS
    }

    fn health(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
