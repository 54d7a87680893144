//! Bytes in the file: tables, keys, rows. Integers are big-endian, so that bytes sort as numbers do.
//!
//! | table       | key                                     | value                                                  |
//! |-------------|-----------------------------------------|--------------------------------------------------------|
//! | `meta`      | name                                    | number                                                 |
//! | `documents` | kind, pile, id                          | version, digest (records only), index entries, value   |
//! | `indexes`   | partition, index, sort, NUL, kind, pile, id | –                                                  |
//! | `log`       | partition, offset                       | pile, epoch, seq, payload                              |
//! | `log_ends`  | partition                               | newest offset                                          |
//! | `piles`     | pile                                    | newest epoch, last seq, owner, former owners, takeovers |
//! | `owned`     | partition, incarnation, pile            | –                                                      |
//! | `batches`   | session                                 | last n, fingerprint, hour, result                      |
//! | `batch_age` | hour, session                           | –                                                      |
//! | `trial`     | nothing                                 | zeros; there only while a disk that failed is tried    |

use std::sync::Arc;

use bytes::Bytes;
use redb::{ReadableTable, TableDefinition};

use crate::domain::{Epoch, Fence, PileCode, SessionId};
use crate::store::{Committed, Entry, IndexCursor, IndexName, Key, Kind, Of, Offset, Partition, StoreError, Versioned};

pub(super) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

pub(super) const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");
pub(super) const DOCUMENTS: Definition = TableDefinition::new("documents");
pub(super) const INDEXES: Definition = TableDefinition::new("indexes");
pub(super) const LOG: Definition = TableDefinition::new("log");
pub(super) const LOG_ENDS: Definition = TableDefinition::new("log_ends");
pub(super) const PILES: Definition = TableDefinition::new("piles");
pub(super) const OWNED: Definition = TableDefinition::new("owned");
pub(super) const BATCHES: Definition = TableDefinition::new("batches");
pub(super) const BATCH_AGE: Definition = TableDefinition::new("batch_age");
pub(super) const TRIAL: Definition = TableDefinition::new("trial");

/// Any of the tables above, in a read or a write transaction.
pub(super) trait Bytewise: ReadableTable<&'static [u8], &'static [u8]> {}

impl<T: ReadableTable<&'static [u8], &'static [u8]>> Bytewise for T {}

/// Why an operation in a transaction ends early.
pub(super) enum Failure {
    /// This operation only; nothing of it was written.
    Refused(StoreError),
    /// The file: the whole transaction is given up.
    Disk(String),
}

impl Failure {
    pub(super) fn disk(error: impl Into<redb::Error>) -> Self {
        Self::Disk(error.into().to_string())
    }
}

impl From<redb::StorageError> for Failure {
    fn from(error: redb::StorageError) -> Self {
        Self::disk(error)
    }
}

impl From<redb::TableError> for Failure {
    fn from(error: redb::TableError) -> Self {
        Self::disk(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => error,
            Failure::Disk(why) => Self::Unavailable(why),
        }
    }
}

/// A document with what the store needs to replace it.
pub(super) struct Row {
    pub(super) version: u64,
    /// Of a record; other documents have none.
    pub(super) digest: Option<[u8; 32]>,
    /// Each: number of the index, sort string.
    pub(super) indexes: Vec<Vec<u8>>,
    pub(super) value: Bytes,
}

impl Row {
    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { version, digest, indexes, value } = self;
        let mut row = Vec::with_capacity(64 + indexes.iter().map(|i| i.len() + 1).sum::<usize>() + value.len());
        row.extend(version.to_be_bytes());
        match digest {
            Some(digest) => {
                row.push(1);
                row.extend(digest);
            }
            None => row.push(0),
        }
        // Both lengths are bounded by the contract, far below 256.
        row.push(indexes.len() as u8);
        for index in indexes {
            row.push(index.len() as u8);
            row.extend(index);
        }
        row.extend_from_slice(value);
        row
    }

    pub(super) fn decode(row: &[u8]) -> Result<Self, Failure> {
        let mut row = Reader(row);
        let version = row.u64()?;
        let digest = if row.u8()? == 0 { None } else { Some(row.take()?) };
        let count = row.u8()?;
        let indexes = (0..count).map(|_| row.u8().and_then(|len| row.slice(usize::from(len))).map(<[u8]>::to_vec));
        let indexes = indexes.collect::<Result<_, _>>()?;
        Ok(Self { version, digest, indexes, value: Bytes::copy_from_slice(row.0) })
    }

    pub(super) fn versioned(self) -> Versioned {
        Versioned { version: self.version, value: self.value }
    }
}

/// What the store keeps of a pile itself.
#[derive(Default)]
pub(super) struct PileRow {
    /// Survives a release, so that epochs never go back.
    pub(super) epoch: Epoch,
    pub(super) seq: u64,
    pub(super) owner: Option<SessionId>,
    /// What the owner's claim was told; repeated when it claims again.
    pub(super) previous: Option<Fence>,
    /// Of the last one who claimed.
    pub(super) identity: u64,
    /// When the pile was last taken over by another identity; at most [`crate::store::Claim::TAKEOVERS`].
    pub(super) takeovers: Vec<u64>,
    /// Former owners, the last [`crate::store::Claim::REMEMBERED`].
    pub(super) superseded: Vec<SessionId>,
}

impl PileRow {
    pub(super) fn fence(&self) -> Option<Fence> {
        self.owner.map(|session| Fence { session, epoch: self.epoch })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { epoch, seq, owner, previous, identity, takeovers, superseded } = self;
        let mut row = Vec::with_capacity(96);
        row.extend(epoch.0.to_be_bytes());
        row.extend(seq.to_be_bytes());
        row.push(u8::from(owner.is_some()) | u8::from(previous.is_some()) << 1);
        row.extend(owner.iter().flat_map(|s| session_key(*s)));
        row.extend(previous.iter().flat_map(|f| session_key(f.session).into_iter().chain(f.epoch.0.to_be_bytes())));
        row.push(superseded.len() as u8);
        row.extend(superseded.iter().flat_map(|s| session_key(*s)));
        row.extend([*identity].iter().chain(takeovers).flat_map(|number| number.to_be_bytes()));
        row
    }

    pub(super) fn decode(row: &[u8]) -> Result<Self, Failure> {
        let mut row = Reader(row);
        let epoch = Epoch(row.u64()?);
        let seq = row.u64()?;
        let present = row.u8()?;
        let owner = if present & 1 == 0 { None } else { Some(row.session()?) };
        let previous = match present & 2 {
            0 => None,
            _ => Some(Fence { session: row.session()?, epoch: Epoch(row.u64()?) }),
        };
        let superseded = (0..row.u8()?).map(|_| row.session()).collect::<Result<_, _>>()?;
        let identity = row.u64()?;
        let mut takeovers = Vec::new();
        while !row.0.is_empty() {
            takeovers.push(row.u64()?);
        }
        Ok(Self { epoch, seq, owner, previous, identity, takeovers, superseded })
    }
}

/// The last batch of a session.
pub(super) struct BatchRow {
    pub(super) n: u64,
    pub(super) fingerprint: u64,
    /// Hours since 1970: where its entry in `batch_age` is.
    pub(super) hour: u32,
    pub(super) result: Committed,
}

impl BatchRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { n, fingerprint, hour, result: Committed { versions, offsets } } = self;
        let mut row = Vec::with_capacity(32 + 8 * (versions.len() + offsets.len()));
        row.extend(n.to_be_bytes());
        row.extend(fingerprint.to_be_bytes());
        row.extend(hour.to_be_bytes());
        // Bounded by the operations of a batch.
        row.push(versions.len() as u8);
        row.extend(versions.iter().chain(offsets).flat_map(|number| number.to_be_bytes()));
        row
    }

    pub(super) fn decode(row: &[u8]) -> Result<Self, Failure> {
        let mut row = Reader(row);
        let n = row.u64()?;
        let fingerprint = row.u64()?;
        let hour = u32::from_be_bytes(row.take()?);
        let count = row.u8()?;
        let versions = (0..count).map(|_| row.u64()).collect::<Result<_, _>>()?;
        let mut offsets = Vec::new();
        while !row.0.is_empty() {
            offsets.push(row.u64()?);
        }
        Ok(Self { n, fingerprint, hour, result: Committed { versions, offsets } })
    }
}

pub(super) fn document_key(key: &Key) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + key.id.len());
    bytes.push(key.kind as u8);
    bytes.extend(key.of.to_bytes());
    bytes.extend(&key.id);
    bytes
}

pub(super) fn index_prefix(partition: Partition, index: IndexName) -> [u8; 3] {
    let [high, low] = partition.0.to_be_bytes();
    [high, low, index as u8]
}

/// `entry` is the index's number and the sort string.
pub(super) fn index_key(partition: Partition, entry: &[u8], document: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(3 + entry.len() + document.len());
    bytes.extend(partition.0.to_be_bytes());
    bytes.extend(entry);
    bytes.push(0);
    bytes.extend(document);
    bytes
}

/// The sort string and the document's key of an index key.
pub(super) fn index_cursor(bytes: &[u8]) -> Result<(IndexCursor, &[u8]), Failure> {
    let rest = bytes.get(3..).ok_or_else(damaged)?;
    let nul = rest.iter().position(|b| *b == 0).ok_or_else(damaged)?;
    let sort = std::str::from_utf8(&rest[..nul]).map_err(|_| damaged())?.to_owned();
    let document = &rest[nul + 1..];
    let mut key = Reader(document);
    let kind = key.u8()?;
    let kind = Kind::ALL.into_iter().find(|k| *k as u8 == kind).ok_or_else(damaged)?;
    let of = Of::from_bytes(key.take()?).ok_or_else(damaged)?;
    let key = Key { kind, of, id: key.0.to_vec() };
    Ok((IndexCursor { sort, key }, document))
}

pub(super) fn owned_key(partition: Partition, incarnation: u64, pile: PileCode) -> [u8; 17] {
    let mut key = [0; 17];
    key[..2].copy_from_slice(&partition.0.to_be_bytes());
    key[2..10].copy_from_slice(&incarnation.to_be_bytes());
    key[10..].copy_from_slice(&pile.bcd());
    key
}

/// Run and pile of a key of `owned`.
pub(super) fn owned(key: &[u8]) -> Result<(u64, PileCode), Failure> {
    let mut key = Reader(key.get(2..).ok_or_else(damaged)?);
    Ok((key.u64()?, key.pile()?))
}

pub(super) fn log_key(partition: Partition, offset: Offset) -> [u8; 10] {
    let mut key = [0; 10];
    key[..2].copy_from_slice(&partition.0.to_be_bytes());
    key[2..].copy_from_slice(&offset.to_be_bytes());
    key
}

pub(super) fn log_value(entry: &Entry) -> Vec<u8> {
    let Entry { partition: _, offset: _, pile, epoch, seq, payload } = entry;
    let mut bytes = Vec::with_capacity(23 + payload.len());
    bytes.extend(pile.bcd());
    bytes.extend(epoch.0.to_be_bytes());
    bytes.extend(seq.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

pub(super) fn log_entry(key: &[u8], value: &[u8]) -> Result<Arc<Entry>, Failure> {
    let mut key = Reader(key);
    let partition = Partition(u16::from_be_bytes(key.take()?));
    let offset = key.u64()?;
    let mut value = Reader(value);
    let pile = value.pile()?;
    let epoch = Epoch(value.u64()?);
    let seq = value.u64()?;
    Ok(Arc::new(Entry { partition, offset, pile, epoch, seq, payload: Bytes::copy_from_slice(value.0) }))
}

pub(super) fn session_key(session: SessionId) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&session.incarnation.to_be_bytes());
    key[8..].copy_from_slice(&session.counter.to_be_bytes());
    key
}

pub(super) fn age_key(hour: u32, session: &[u8]) -> Vec<u8> {
    hour.to_be_bytes().into_iter().chain(session.iter().copied()).collect()
}

pub(super) fn number(bytes: &[u8]) -> Result<u64, Failure> {
    Reader(bytes).u64()
}

/// redb verifies checksums, so this is a defect rather than a bad disk; it concerns one value, not the file.
pub(super) fn damaged() -> Failure {
    Failure::Refused(StoreError::Invalid("a stored row cannot be read".to_owned()))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn slice(&mut self, len: usize) -> Result<&'a [u8], Failure> {
        let (head, rest) = self.0.split_at_checked(len).ok_or_else(damaged)?;
        self.0 = rest;
        Ok(head)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        self.slice(N)?.try_into().map_err(|_| damaged())
    }

    fn u8(&mut self) -> Result<u8, Failure> {
        self.take().map(|[byte]| byte)
    }

    fn u64(&mut self) -> Result<u64, Failure> {
        self.take().map(u64::from_be_bytes)
    }

    fn session(&mut self) -> Result<SessionId, Failure> {
        Ok(SessionId { incarnation: self.u64()?, counter: self.u64()? })
    }

    fn pile(&mut self) -> Result<PileCode, Failure> {
        PileCode::from_bcd(self.take()?).map_err(|_| damaged())
    }
}
