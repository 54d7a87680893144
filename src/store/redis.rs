//! The store that many nodes share: Redis, alone, behind Sentinels or as a Cluster.
//!
//! ```text
//!   callers ──▶ link: up? ──▶ one script, one round trip ──▶ feed, then the answer
//!                 │  no: `Unavailable`, at once
//!                 └──▶ keeper: connects, inspects, tries a write, until Redis is back
//!   listeners ◀── feed ◀── published, and looked at every few seconds
//! ```
//!
//! An operation is one Lua script, which Redis runs alone and to its end: `redis/lua/lib.lua` says how it is all or
//! nothing. It touches one partition, and so one slot. A script may have been carried out although its answer was lost;
//! like all writes of the contract it can be repeated as it is, and that is its caller's business.
//!
//! What Redis acknowledges it may still lose, in a fail-over or by its settings: [`Report`] says what it is set to, and
//! [`Store::lineage`] when it may have happened.

mod address;
mod connection;
mod script;
mod layout;
mod inspect;
mod link;
mod read;
mod write;
mod feed;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{
    Batch, Claim, Claimed, Committed, Entry, Fence, Indexed, Key, Lease, Offset, Orphan, PARTITIONS, Partition,
    PileCode, Renewed, Scan, Settled, Settlement, Store, StoreError, Versioned,
};
use address::Address;
use feed::Feed;
use inspect::Expected;
use layout::Keys;
use link::{Access, Link};

pub use connection::Mode;
pub use inspect::{Report, Version};

#[derive(Clone, Debug)]
pub struct Config {
    /// `redis://`, `redis+cluster://` or `redis+sentinel://`, with `rediss` for TLS; user and password in it. See
    /// [`OpenError::Url`] for what is wrong with one.
    pub url: String,
    /// How long a call may take, connecting included. After this it is [`StoreError::Unavailable`].
    pub time_limit: Duration,
    pub durability: Durability,
    /// The certificate authority to trust instead of the system's, as PEM.
    pub ca_file: Option<PathBuf>,
    /// Fixed when the store is created.
    pub partitions: u16,
    /// Entries a reader of [`Store::feed`] may be behind before it has to read the log.
    pub feed: usize,
    /// What all keys begin with; other deployments in the same Redis have another one.
    pub prefix: String,
}

/// Whose word counts on whether Redis keeps what it acknowledges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Its CONFIG; it counts as unsafe where that cannot be read.
    Checked,
    /// The operator's, where CONFIG cannot be read.
    Asserted,
}

impl Config {
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            time_limit: Duration::from_secs(2),
            durability: Durability::Checked,
            ca_file: None,
            partitions: PARTITIONS,
            feed: 4096,
            prefix: "pw".to_owned(),
        }
    }
}

pub struct Redis {
    link: Arc<Link>,
    feed: Arc<Feed>,
    tasks: TaskTracker,
    /// A task has ended, however.
    over: CancellationToken,
    partitions: u16,
}

impl Redis {
    /// Asks Redis once what it is. If it does not answer, the store starts all the same, and is down until it does: a
    /// node must be able to start while Redis is away.
    pub async fn open(config: Config) -> Result<Self, OpenError> {
        let Config { url, time_limit, durability, ca_file, partitions, feed, prefix } = config;
        let address = Address::read(&url, ca_file.as_deref())?;
        let url = address.to_string();
        if partitions == 0 {
            return Err(OpenError::NoPartitions { url });
        }
        // Braces would make a hash tag of their own.
        if prefix.is_empty() || prefix.contains(['{', '}']) {
            return Err(OpenError::Prefix { prefix });
        }
        let expected = Expected { url, partitions, durability };
        let link = Link::open(address, Keys::new(prefix), expected, time_limit).await?;
        let feed = Arc::new(Feed::new(partitions, feed));
        let tasks = TaskTracker::new();
        let over = CancellationToken::new();
        let (keeping, following) = (link.clone().keep(), feed.clone().follow(link.clone()));
        let ends = over.clone().drop_guard();
        tasks.spawn(async move {
            let _ends = ends;
            keeping.await;
        });
        let ends = over.clone().drop_guard();
        tasks.spawn(async move {
            let _ends = ends;
            following.await;
        });
        tasks.close();
        Ok(Self { link, feed, tasks, over, partitions })
    }

    /// What was found at the last connection; `None` if there has been none.
    pub fn report(&self) -> Option<Report> {
        self.link.report()
    }

    /// Ends every task; later calls are [`StoreError::Unavailable`]. Calls under way keep their own limit.
    pub async fn close(&self) {
        self.link.end();
        self.tasks.wait().await;
    }

    /// Returns when nothing keeps the connection any more: the store has been closed, or a task of it has died.
    pub async fn closed(&self) {
        self.over.cancelled().await;
    }

    fn of(&self, pile: PileCode) -> Partition {
        Partition::of(pile, self.partitions)
    }

    fn check_partition(&self, partition: Partition) -> Result<(), StoreError> {
        if partition.0 < self.partitions || partition == Partition::GLOBAL {
            return Ok(());
        }
        Err(StoreError::Invalid(format!("partition {partition} of {}", self.partitions)))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.link.end();
    }
}

impl Store for Redis {
    fn commit(&self, partition: Partition, batch: Batch) -> BoxFuture<'_, Result<Committed, StoreError>> {
        Box::pin(async move {
            self.check_partition(partition)?;
            batch.check(partition, self.partitions)?;
            let (committed, appended) = write::commit(&self.link, partition, &batch).await?;
            self.feed.appended(&appended);
            Ok(committed)
        })
    }

    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, StoreError>> {
        Box::pin(write::claim(&self.link, self.of(claim.pile), claim))
    }

    fn release(&self, pile: PileCode, fence: Fence) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(write::release(&self.link, self.of(pile), pile, fence))
    }

    fn settle(&self, settlement: Settlement) -> BoxFuture<'_, Result<Settled, StoreError>> {
        Box::pin(async move {
            settlement.check()?;
            let partition = settlement.record.of.partition(self.partitions);
            let (settled, appended) = write::settle(&self.link, partition, &settlement).await?;
            self.feed.appended(&appended);
            Ok(settled)
        })
    }

    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>> {
        Box::pin(async move { read::get(&self.link, key.of.partition(self.partitions), &key).await })
    }

    fn owner(&self, pile: PileCode) -> BoxFuture<'_, Result<Option<Fence>, StoreError>> {
        Box::pin(read::owner(&self.link, self.of(pile), pile))
    }

    fn list(&self, partition: Partition, scan: Scan) -> BoxFuture<'_, Result<Vec<Indexed>, StoreError>> {
        Box::pin(async move {
            scan.check()?;
            read::list(&self.link, partition, &scan).await
        })
    }

    fn read_log(
        &self,
        partition: Partition,
        after: Offset,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Arc<Entry>>, StoreError>> {
        Box::pin(read::log(&self.link, partition, after, limit.min(Scan::MAX_LIMIT)))
    }

    fn log_end(&self, partition: Partition) -> BoxFuture<'_, Result<Offset, StoreError>> {
        Box::pin(read::log_end(&self.link, partition))
    }

    /// Entries that other nodes append come a moment after they have become durable, and the first entry of a partition
    /// may be one that was already there.
    fn feed(&self) -> broadcast::Receiver<Arc<Entry>> {
        self.feed.subscribe()
    }

    fn expire(&self, partition: Partition, before: String, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move { write::expire(&self.link, partition, &before, limit.min(Scan::MAX_LIMIT)).await })
    }

    fn trim(&self, partition: Partition, before: Offset, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(write::trim(&self.link, partition, before, limit.min(Scan::MAX_LIMIT)))
    }

    fn renew(&self, lease: Lease) -> BoxFuture<'_, Result<Renewed, StoreError>> {
        Box::pin(async move { write::renew(&self.link, &lease).await })
    }

    fn retire(&self, incarnation: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(write::retire(&self.link, incarnation))
    }

    fn orphans(
        &self,
        partition: Partition,
        living: Vec<u64>,
        after: Option<Orphan>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Orphan>, StoreError>> {
        let limit = limit.min(Scan::MAX_LIMIT);
        Box::pin(async move { read::orphans(&self.link, partition, &living, after, limit).await })
    }

    fn lineage(&self) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        let partitions = self.partitions;
        let keys = &self.link.keys;
        let ask = async move |connection: &mut _| inspect::lineage(connection, keys, partitions).await;
        Box::pin(self.link.with(Access::Write, ask))
    }

    fn partitions(&self) -> u16 {
        self.partitions
    }

    fn health(&self) -> Result<(), StoreError> {
        self.link.health()
    }
}

/// Why a store does not open. None of them shows a password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("store {url}: {reason}")]
    Url { url: String, reason: String },
    #[error("store: the certificate authority {} cannot be read", path.display())]
    Authority { path: PathBuf, source: io::Error },
    #[error("store {url}: partitions = 0: at least 1 is needed")]
    NoPartitions { url: String },
    #[error("store: prefix = {prefix:?}: must not be empty, and must have no braces")]
    Prefix { prefix: String },
    #[error("store {url}: Redis {found}; {} is the oldest that will do", Version::OLDEST)]
    Version { url: String, found: Version },
    #[error("store {url}: written by another pileway, in format {found}; this one knows {known}")]
    Format { url: String, found: String, known: u64 },
    #[error("store {url}: created with {found} partitions, configured are {configured}")]
    Partitions { url: String, found: String, configured: u16 },
}
