//! Documents, event logs and ownership: one trait, one contract, several implementations.
//!
//! A store knows partitions, keys, versions, indexes and fences; what a document *means* is in [`document`], which
//! turns domain values into the protobuf of `pileway.store.v1` and back. [`ledger`] is the typed door the rest of
//! pileway uses.
//!
//! ```text
//!   session, api ──▶ ledger (domain values) ──▶ dyn Store (bytes) ──▶ embedded (redb, group-committed fsync)
//!                    │                                        └─▶ redis (many nodes; one script per operation)
//!                    ├─ query    lists over partitions        ▲
//!                    ├─ replay   the log, from some time on
//!                    ├─ watch    the log, from now on      check (bounds every implementation enforces)
//!                    └─ journal  where writes wait while a store that may be away is
//! ```
//!
//! Everything of a pile lives in partition `crc16(pile code) mod P`, and one [`Batch`] changes any of it, all or nothing.
//! `tests/store.rs` is the contract as a suite, `tests/kill.rs` what remains of it after `kill -9`.

pub mod ledger;
mod value;
mod query;
mod position;
mod watch;
mod replay;
pub mod document;
mod check;
pub mod embedded;
pub mod redis;
pub mod journal;

pub use position::{Gap, GapReason, Mark, Position, recorded_at};
pub use query::{DEFAULT_PAGE, MAX_PAGE, OrderQuery, Page, PileQuery, QueryError};
pub use replay::{Begin, Replay, ReplayError, Replayed};
pub use value::{
    Claim, Claimed, Held, IndexCursor, Indexed, Lease, Member, Orphan, Renewed, Scan, Settled, Settlement, StoreError,
};
pub use watch::{EventWatch, Seen, Stamped, stamped};

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::broadcast;

use crate::domain::{Epoch, Fence, PileCode, SessionId};

/// The one contract. Every call is bounded in time by its implementation and ends in an answer or a [`StoreError`].
///
/// A write that ends in [`StoreError::Unavailable`], or whose future is dropped, may have become durable or may still
/// become so. All of them are safe to repeat as they are: a commit by its [`BatchId`], a claim by its session, a release
/// by its fence, a settlement by its digest.
pub trait Store: Send + Sync + 'static {
    /// Preconditions, puts, deletes and appends: all of it durable (fsynced) when this returns, or nothing.
    /// The same [`BatchId`] again returns the stored result; a refused batch leaves no trace, not even its id.
    /// Preconditions are checked in order, and the first that fails is the one reported.
    fn commit(&self, partition: Partition, batch: Batch) -> BoxFuture<'_, Result<Committed, StoreError>>;

    /// Makes `claim.session` the owner of the pile. The same session claiming again, while it is the owner, gets the
    /// same fence and the same previous owner; documents are as they are now. A session that was the owner and is not any
    /// more does not become it again: a login whose answer was lost may be sent twice, and between the two the pile may
    /// have logged in elsewhere. It is [`StoreError::Superseded`]; the last [`Claim::REMEMBERED`] are known. What [`Claim::held`] asks for instead is
    /// said there.
    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, StoreError>>;

    /// Forgets the owner if it is exactly `fence`; false if it is not (any more). The epoch is kept: the next one is
    /// higher, whatever the next claimer's clock says.
    fn release(&self, pile: PileCode, fence: Fence) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Puts the immutable record if absent, and only then the order and its event. The one unfenced write.
    fn settle(&self, settlement: Settlement) -> BoxFuture<'_, Result<Settled, StoreError>>;

    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>>;

    /// Who owns the pile now.
    fn owner(&self, pile: PileCode) -> BoxFuture<'_, Result<Option<Fence>, StoreError>>;

    /// Index entries of one partition in order, with their documents: one consistent view.
    fn list(&self, partition: Partition, scan: Scan) -> BoxFuture<'_, Result<Vec<Indexed>, StoreError>>;

    /// Log entries of one partition with an offset greater than `after`, oldest first, at most `limit`
    /// ([`Scan::MAX_LIMIT`] at most).
    fn read_log(
        &self,
        partition: Partition,
        after: Offset,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Arc<Entry>>, StoreError>>;

    /// The offset of the newest log entry of a partition; 0 if there is none.
    fn log_end(&self, partition: Partition) -> BoxFuture<'_, Result<Offset, StoreError>>;

    /// Entries after they have become durable, on any partition, from now on; in order within a partition. A slow reader
    /// is told that it lagged and goes on with [`Store::read_log`].
    fn feed(&self) -> broadcast::Receiver<Arc<Entry>>;

    /// Deletes log entries with an offset below `before`, oldest first, at most `limit` ([`Scan::MAX_LIMIT`] at most); how
    /// many it deleted. The newest entry of a log always stays: it is what a log that was lost is told by.
    fn trim(&self, partition: Partition, before: Offset, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>>;

    /// Deletes documents whose [`IndexName::Expiry`] sort string is below `before`, going through at most `limit` of these;
    /// through how many it went. A document with another one, not below, loses its bytes and all other index entries
    /// instead: a record stays known by its digest. With a record go the conflicting ones kept beside it.
    fn expire(&self, partition: Partition, before: String, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>>;

    /// Says that this run of this node is there, for `lease.ttl` from now on by the store's own clock, and who else is.
    fn renew(&self, lease: Lease) -> BoxFuture<'_, Result<Renewed, StoreError>>;

    /// This run is over: its lease goes at once, and what it owned is left to [`Store::orphans`].
    fn retire(&self, incarnation: u64) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Piles of one partition owned by sessions of runs that are not in `living`, in order of incarnation and pile code,
    /// after `after`, at most `limit` ([`Scan::MAX_LIMIT`] at most).
    fn orphans(
        &self,
        partition: Partition,
        living: Vec<u64>,
        after: Option<Orphan>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Orphan>, StoreError>>;

    /// One number per partition, which changes when the partition may have lost writes that were acknowledged: another
    /// server answers for it, or the same one has restarted. Never changes where an acknowledged write cannot be lost.
    fn lineage(&self) -> BoxFuture<'_, Result<Vec<u64>, StoreError>>;

    /// How many partitions there are; fixed when the store was created.
    fn partitions(&self) -> u16;

    /// Whether writes succeed, as far as is known without trying; if not, why. Reads may go on all the same.
    fn health(&self) -> Result<(), StoreError>;
}

/// `crc16(pile code) mod P`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Partition(pub u16);

impl Partition {
    /// Where documents are that belong to no pile. It has no log, and is none of [`Store::partitions`].
    pub const GLOBAL: Self = Self(u16::MAX);

    pub fn of(pile: PileCode, partitions: u16) -> Self {
        let crc = crc::Crc::<u16>::new(&crc::CRC_16_XMODEM);
        Self(crc.checksum(pile.to_string().as_bytes()) % partitions)
    }
}

/// The partitions a new deployment is created with.
pub const PARTITIONS: u16 = 64;

/// Position in a partition's log; the first entry has 1.
pub type Offset = u64;

/// Names one document.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key {
    pub kind: Kind,
    pub of: Of,
    /// What tells documents of one kind and owner apart: a serial, a request id; empty if there is only one. At most
    /// [`Key::MAX_ID`] bytes.
    pub id: Vec<u8>,
}

impl Key {
    pub const MAX_ID: usize = 64;

    pub fn of_pile(kind: Kind, pile: PileCode, id: Vec<u8>) -> Self {
        Self { kind, of: Of::Pile(pile), id }
    }

    /// `None` if it belongs to no pile.
    pub fn pile(&self) -> Option<PileCode> {
        match self.of {
            Of::Pile(pile) => Some(pile),
            Of::Partition(_) => None,
        }
    }
}

/// What a document belongs to, and by that where it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Of {
    Pile(PileCode),
    /// A partition as such, or [`Partition::GLOBAL`].
    Partition(Partition),
}

impl Of {
    pub fn partition(self, partitions: u16) -> Partition {
        match self {
            Self::Pile(pile) => Partition::of(pile, partitions),
            Self::Partition(partition) => partition,
        }
    }

    /// A pile's decimal digits are packed, so that no byte of them is 0xFF.
    pub fn to_bytes(self) -> [u8; 7] {
        match self {
            Self::Pile(pile) => pile.bcd(),
            Self::Partition(Partition(number)) => {
                let [high, low] = number.to_be_bytes();
                [0xFF, 0, 0, 0, 0, high, low]
            }
        }
    }

    pub fn from_bytes(bytes: [u8; 7]) -> Option<Self> {
        match bytes {
            [0xFF, 0, 0, 0, 0, high, low] => Some(Self::Partition(Partition(u16::from_be_bytes([high, low])))),
            bcd => PileCode::from_bcd(bcd).ok().map(Self::Pile),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Kind {
    Pile = 1,
    Order = 2,
    /// The immutable record of an order.
    Record = 3,
    /// Records that differ from the one that settled their order.
    RecordConflict = 4,
    /// A StartCharging attempt, by request id.
    StartRequest = 5,
    /// What waits in a node's journal, by sequence number. Only there.
    Journal = 6,
    /// A chunk of a charging curve, by serial and number.
    Curve = 7,
    /// A group of event consumers, by name. In [`Partition::GLOBAL`].
    Group = 20,
    /// How far a group has come in a partition, and who reads it there. In the partition.
    GroupCursor = 21,
}

impl Kind {
    pub const ALL: [Self; 9] = [
        Self::Pile,
        Self::Order,
        Self::Record,
        Self::RecordConflict,
        Self::StartRequest,
        Self::Journal,
        Self::Curve,
        Self::Group,
        Self::GroupCursor,
    ];
}

/// A document as stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Versioned {
    /// 1 when first put, then one more with every put.
    pub version: u64,
    pub value: Bytes,
}

/// All or nothing. At most [`Batch::MAX_OPERATIONS`] operations and [`Batch::MAX_BYTES`] of values and payloads; each
/// key is put or deleted once, and every key and append belongs to the partition of the commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Batch {
    /// `None` for a batch that needs no stored answer, because its preconditions refuse it when it comes again.
    pub id: Option<BatchId>,
    pub require: Vec<Precondition>,
    pub put: Vec<Put>,
    pub delete: Vec<Key>,
    pub append: Vec<Append>,
}

impl Batch {
    pub const MAX_OPERATIONS: usize = 128;
    pub const MAX_BYTES: usize = 64 * 1024;

    pub fn new(id: BatchId) -> Self {
        Self { id: Some(id), require: vec![], put: vec![], delete: vec![], append: vec![] }
    }
}

/// One commit of one session; `n` counts up. A session has at most one in flight, so a store remembers the last `n` of
/// each, with its result, for at least [`BatchId::KEPT_MS`]. The last `n` with other contents, or an older `n`, is
/// [`StoreError::Invalid`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BatchId {
    pub session: SessionId,
    pub n: u64,
}

impl BatchId {
    /// 24 hours: far longer than anything repeats a call.
    pub const KEPT_MS: u64 = 24 * 3600 * 1000;
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Precondition {
    Absent(Key),
    Version(Key, u64),
    /// The pile's owner is exactly this.
    Owner(PileCode, Fence),
}

/// A document and the whole set of its index entries, which replaces the previous set.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Put {
    pub key: Key,
    pub value: Bytes,
    /// At most [`Put::MAX_INDEXES`].
    pub indexes: Vec<IndexEntry>,
}

impl Put {
    pub const MAX_INDEXES: usize = 8;
}

/// `sort` orders the entries of an index bytewise; equal strings are told apart by key. At most
/// [`IndexEntry::MAX_SORT`] bytes, none of them NUL.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct IndexEntry {
    pub index: IndexName,
    pub sort: String,
}

impl IndexEntry {
    pub const MAX_SORT: usize = 128;
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum IndexName {
    /// Every pile: pile code.
    Pile = 1,
    /// Piles by presence: presence, pile code.
    PilePresence = 2,
    /// Every order: creation time, serial.
    OrderTime = 3,
    /// Orders of a pile: pile code, creation time, serial.
    OrderPile = 4,
    /// Orders by state: state, creation time, serial.
    OrderState = 5,
    /// Open orders: pile code, gun, serial. Loaded by [`Store::claim`].
    OrderOpen = 6,
    /// When to delete the document: unix milliseconds, 20 digits.
    Expiry = 7,
    /// Entries of a journal that are not in the store yet: sequence number, 20 digits. Only there.
    JournalPending = 8,
    /// Chunks of charging curves: pile code, serial, number.
    Curve = 9,
    /// Groups of event consumers: name.
    Group = 20,
}

/// An event to append. The store gives it offset, epoch and the pile's next seq.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Append {
    pub pile: PileCode,
    pub payload: Bytes,
}

/// A log entry. (pile, epoch, seq) is unique; seq counts the events of a pile without a gap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub partition: Partition,
    pub offset: Offset,
    pub pile: PileCode,
    /// The pile's newest epoch when the entry was appended; 0 if it never had an owner.
    pub epoch: Epoch,
    pub seq: u64,
    pub payload: Bytes,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Committed {
    /// The new version of each put, in order.
    pub versions: Vec<u64>,
    /// The offset of each append, in order.
    pub offsets: Vec<Offset>,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pile(pile) => pile.fmt(f),
            Self::Partition(partition) => write!(f, "partition {partition}"),
        }
    }
}
