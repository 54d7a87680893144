//! The store of a node that stands alone: one redb file, one writer, fsync before every answer.
//!
//! ```text
//!   callers ──▶ bounded queue ──▶ writer thread: takes what waits, ONE transaction, ONE fsync ──▶ feed, then answers
//!      └──────▶ blocking pool: read transactions, which neither wait for the writer nor hold it up
//! ```
//!
//! Group commit is what makes fsync affordable: an fsync costs the same for one settlement as for 256, and the more
//! callers wait, the bigger the groups get. An operation checks everything before its first write, so a refused one
//! leaves no trace in the transaction it shares with others.
//!
//! When the disk fails (full, mostly), the writer opens the file again and tries, with growing pauses, whether it can
//! write; until it can, writes are refused with what the disk said, and [`Store::health`] says it too. A writer that
//! panicked does not come back: [`Embedded::closed`].

mod disk;
mod layout;
mod tables;
mod apply;
mod read;
mod writer;
mod members;

use std::fs::{self, File};
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use redb::{Database, DatabaseError, ReadTransaction};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    Batch, Claim, Claimed, Committed, Entry, Fence, Indexed, Key, Lease, Offset, Orphan, PARTITIONS, Partition,
    PileCode, Renewed, Scan, Settled, Settlement, Store, StoreError, Versioned,
};
use disk::{Disk, Open};
use layout::Failure;
use members::Members;
use tables::Tables;
use writer::{Message, Writer};

#[derive(Clone, Debug)]
pub struct Config {
    /// Created if it is not there. One process at a time.
    pub dir: PathBuf,
    /// Fixed when the store is created.
    pub partitions: u16,
    /// Memory for redb's cache; the kernel's page cache does the rest.
    pub cache_bytes: usize,
    /// Writes that may wait for the writer.
    pub queue: usize,
    /// Entries a reader of [`Store::feed`] may be behind before it has to read the log.
    pub feed: usize,
    /// How long a call may take. After this it is [`StoreError::Unavailable`], and if it was a write that the writer had
    /// not begun, it is not carried out.
    pub time_limit: Duration,
}

impl Config {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            partitions: PARTITIONS,
            cache_bytes: 16 * 1024 * 1024,
            queue: 4096,
            feed: 4096,
            time_limit: Duration::from_secs(5),
        }
    }
}

pub struct Embedded {
    disk: Arc<Disk>,
    /// `None` only while dropping.
    jobs: Option<mpsc::Sender<Message>>,
    reads: Arc<Semaphore>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// The writer has.
    ended: CancellationToken,
    feed: broadcast::Sender<Arc<Entry>>,
    members: Members,
    partitions: u16,
    time_limit: Duration,
}

impl Embedded {
    /// Opens or creates the store in `config.dir`. After an unclean end redb verifies the whole file first, which takes
    /// about a second per gigabyte.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        let (path, cache_bytes) = (config.dir.join(FILE), config.cache_bytes);
        Self::open_with(config, Box::new(move || create(&path, cache_bytes)))
    }

    fn open_with(
        config: Config,
        create: Box<dyn Fn() -> Result<Database, OpenError> + Send + Sync>,
    ) -> Result<Self, OpenError> {
        let Config { dir, partitions, cache_bytes: _, queue, feed, time_limit } = config;
        if partitions == 0 {
            return Err(OpenError::NoPartitions { path: dir });
        }
        prepare(&dir)?;
        let path = dir.join(FILE);
        let at = path.clone();
        let open: Open = Box::new(move || {
            let database = create()?;
            tables::prepare(&database, &at, partitions)?;
            Ok(database)
        });
        let disk = Arc::new(Disk::open(open)?);
        // The file's own fsync does not make its name durable.
        sync_dir(&dir)?;

        let (feed, _) = broadcast::channel(feed.max(1));
        let (jobs, waiting) = mpsc::channel(queue.max(1));
        let ended = CancellationToken::new();
        let writer = Writer { disk: disk.clone(), waiting, feed: feed.clone(), partitions, ended: ended.clone() };
        let thread = writer.start().map_err(|source| OpenError::Io { path, source })?;
        let (reads, writer) = (Arc::new(Semaphore::new(MAX_READS)), Mutex::new(Some(thread)));
        Ok(Self {
            disk,
            jobs: Some(jobs),
            reads,
            writer,
            ended,
            feed,
            members: Members::default(),
            partitions,
            time_limit,
        })
    }

    /// Returns when nothing can be written any more: after [`Embedded::close`], or because the writer panicked.
    pub async fn closed(&self) {
        self.ended.cancelled().await;
    }

    /// Carries out what waits, then ends the writer; later writes are [`StoreError::Unavailable`]. The file stays locked
    /// until the store is dropped. A writer that does not end within twice the time limit is left behind.
    pub async fn close(&self) {
        let Some(jobs) = &self.jobs else { return };
        let close = async {
            // Fails only if the writer has ended, which is what is wanted.
            let _ = jobs.send(Message::Close).await;
            self.ended.cancelled().await;
        };
        let limit = 2 * self.time_limit;
        if tokio::time::timeout(limit, close).await.is_err() {
            tracing::error!(?limit, "the store's writer does not end: what waits for it is not stored");
            // So that dropping the store does not wait either.
            drop(self.writer.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    /// Whether there is a store in `dir`.
    pub fn is_in(dir: &Path) -> bool {
        dir.join(FILE).is_file()
    }

    /// A commit beyond [`Batch::MAX_BYTES`], for a journal: one entry of it holds a whole batch.
    pub(super) async fn commit_large(&self, batch: Batch) -> Result<Committed, StoreError> {
        let fingerprint = fingerprint(&batch);
        self.write(move |tables| tables.commit(&batch, fingerprint)).await
    }

    /// Hands `operation` to the writer and waits until what it did is durable.
    async fn write<T, F>(&self, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tables<'_>) -> Result<T, Failure> + Send + 'static,
    {
        let Some(jobs) = &self.jobs else { return Err(unavailable("closing")) };
        let (reply, answer) = oneshot::channel();
        let job = Message::Job(writer::job(operation, reply));
        let call = async {
            jobs.send(job).await.map_err(|_| unavailable("the writer has ended"))?;
            answer.await.map_err(|_| unavailable("the writer gave the write up"))?
        };
        self.bounded(call).await
    }

    /// Reads go to the blocking pool even though most of them hit a cache: a disk that hangs must not hang the sockets
    /// that share the runtime, and the time limit could not end a read on a worker. The pool's queue has no bound, so
    /// the places in it have.
    async fn read<T, F>(&self, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&ReadTransaction) -> Result<T, Failure> + Send + 'static,
    {
        let (disk, places) = (self.disk.clone(), self.reads.clone());
        let call = async {
            let place = places.acquire_owned().await.map_err(|_| unavailable("closing"))?;
            let read = tokio::task::spawn_blocking(move || {
                // Held until the read is over, though its caller may long have been told that it took too long.
                let _place = place;
                operation(&disk.begin_read()?)
            });
            let answer = read.await.map_err(|_| unavailable("the read was given up"))?;
            if matches!(answer, Err(Failure::Disk(_))) {
                self.tell_writer();
            }
            answer.map_err(StoreError::from)
        };
        self.bounded(call).await
    }

    /// After an error in a read redb is done with the file, which the writer finds out when it begins to write, even
    /// nothing.
    fn tell_writer(&self) {
        if let (Some(jobs), None) = (&self.jobs, self.disk.trouble()) {
            // A full queue has work that finds it out.
            let _ = jobs.try_send(Message::Job(Box::new(|_| Ok(Box::new(|_| ())))));
        }
    }

    async fn bounded<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        match tokio::time::timeout(self.time_limit, call).await {
            Ok(answer) => answer,
            Err(_) => Err(unavailable(&format!("no answer within {:?}", self.time_limit))),
        }
    }

    fn check_partition(&self, partition: Partition) -> Result<(), StoreError> {
        if partition.0 < self.partitions || partition == Partition::GLOBAL {
            return Ok(());
        }
        Err(StoreError::Invalid(format!("partition {partition} of {}", self.partitions)))
    }
}

impl Store for Embedded {
    fn commit(&self, partition: Partition, batch: Batch) -> BoxFuture<'_, Result<Committed, StoreError>> {
        Box::pin(async move {
            self.check_partition(partition)?;
            batch.check(partition, self.partitions)?;
            let fingerprint = fingerprint(&batch);
            self.write(move |tables| tables.commit(&batch, fingerprint)).await
        })
    }

    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, StoreError>> {
        Box::pin(self.write(move |tables| tables.claim(claim)))
    }

    fn release(&self, pile: PileCode, fence: Fence) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.write(move |tables| tables.release(pile, fence)))
    }

    fn settle(&self, settlement: Settlement) -> BoxFuture<'_, Result<Settled, StoreError>> {
        Box::pin(async move {
            settlement.check()?;
            self.write(move |tables| tables.settle(&settlement)).await
        })
    }

    fn renew(&self, lease: Lease) -> BoxFuture<'_, Result<Renewed, StoreError>> {
        Box::pin(async move { Ok(self.members.renew(lease, Instant::now())) })
    }

    fn retire(&self, incarnation: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.members.retire(incarnation);
            Ok(())
        })
    }

    fn orphans(
        &self,
        partition: Partition,
        living: Vec<u64>,
        after: Option<Orphan>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Orphan>, StoreError>> {
        let limit = limit.min(Scan::MAX_LIMIT);
        Box::pin(self.read(move |transaction| read::orphans(transaction, partition, &living, after, limit)))
    }

    /// What was acknowledged is in the file.
    fn lineage(&self) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        Box::pin(async { Ok(vec![0; usize::from(self.partitions)]) })
    }

    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>> {
        Box::pin(self.read(move |transaction| read::get(transaction, &key)))
    }

    fn owner(&self, pile: PileCode) -> BoxFuture<'_, Result<Option<Fence>, StoreError>> {
        Box::pin(self.read(move |transaction| read::owner(transaction, pile)))
    }

    fn list(&self, partition: Partition, scan: Scan) -> BoxFuture<'_, Result<Vec<Indexed>, StoreError>> {
        Box::pin(async move {
            scan.check()?;
            self.read(move |transaction| read::list(transaction, partition, &scan)).await
        })
    }

    fn read_log(
        &self,
        partition: Partition,
        after: Offset,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Arc<Entry>>, StoreError>> {
        let limit = limit.min(Scan::MAX_LIMIT);
        Box::pin(self.read(move |transaction| read::log(transaction, partition, after, limit)))
    }

    fn log_end(&self, partition: Partition) -> BoxFuture<'_, Result<Offset, StoreError>> {
        Box::pin(self.read(move |transaction| read::log_end(transaction, partition)))
    }

    fn feed(&self) -> broadcast::Receiver<Arc<Entry>> {
        self.feed.subscribe()
    }

    fn expire(&self, partition: Partition, before: String, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move {
            let limit = limit.min(Scan::MAX_LIMIT);
            // Mostly there is nothing to do, and a look is cheaper than a place in the writer's queue.
            let due = before.clone();
            if !self.read(move |transaction| read::anything_due(transaction, partition, &due)).await? {
                return Ok(0);
            }
            self.write(move |tables| tables.expire(partition, &before, limit)).await
        })
    }

    fn trim(&self, partition: Partition, before: Offset, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        let limit = limit.min(Scan::MAX_LIMIT);
        Box::pin(self.write(move |tables| tables.trim(partition, before, limit)))
    }

    fn partitions(&self) -> u16 {
        self.partitions
    }

    fn health(&self) -> Result<(), StoreError> {
        if self.ended.is_cancelled() {
            return Err(unavailable("the writer has ended"));
        }
        self.disk.trouble().map_or(Ok(()), |why| Err(StoreError::Unavailable(why)))
    }
}

/// Carries out what waits before it returns: at most the queue, in groups.
impl Drop for Embedded {
    fn drop(&mut self) {
        self.jobs = None;
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the writer has been logged by the writer.
            let _ = thread.join();
        }
    }
}

/// Why a store does not open. Each names the path.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("store {}: not a directory", path.display())]
    NotADirectory { path: PathBuf },
    #[error("store {}: in use by another process", path.display())]
    Locked { path: PathBuf },
    #[error("store {}: written by another pileway, in format {found}; this one knows {known}", path.display())]
    Format { path: PathBuf, found: u64, known: u64 },
    #[error("store {}: created with {found} partitions, configured are {configured}", path.display())]
    Partitions { path: PathBuf, found: u64, configured: u16 },
    #[error("store {}: partitions = 0: at least 1 is needed", path.display())]
    NoPartitions { path: PathBuf },
    #[error("store {}: cannot be opened", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The file is none of ours, or is damaged.
    #[error("store {}: damaged, or no store of ours", path.display())]
    Database { path: PathBuf, source: Box<redb::Error> },
}

fn prepare(dir: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(OpenError::NotADirectory { path: dir.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(dir).map_err(io)?;
            dir.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_dir)
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(OpenError::NotADirectory { path: dir.to_owned() })
        }
        Err(error) => Err(io(error)),
    }
}

fn sync_dir(dir: &Path) -> Result<(), OpenError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| OpenError::Io { path: dir.to_owned(), source })
}

fn create(path: &Path, cache_bytes: usize) -> Result<Database, OpenError> {
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes);
    let at = path.to_owned();
    builder.set_repair_callback(move |repair| {
        tracing::info!(path = %at.display(), progress = repair.progress(), "store was not closed; verifying it");
    });
    builder.create(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::Locked { path: path.to_owned() },
        DatabaseError::Storage(redb::StorageError::Io(source)) => OpenError::Io { path: path.to_owned(), source },
        other => OpenError::Database { path: path.to_owned(), source: Box::new(other.into()) },
    })
}

/// Tells a repeated batch from another one under the same id. Compared only within the life of a session, which is
/// within the life of a process: the hash need not be stable over releases.
fn fingerprint(batch: &Batch) -> u64 {
    let mut hasher = DefaultHasher::new();
    batch.hash(&mut hasher);
    hasher.finish()
}

fn unavailable(why: &str) -> StoreError {
    StoreError::Unavailable(why.to_owned())
}

/// Reads at a time: a list reads all partitions at once, and tokio has 512 threads for such work.
const MAX_READS: usize = 256;
const FILE: &str = "pileway.redb";

#[cfg(test)]
pub(crate) mod tests;
