//! What a journal holds: whole batches and records, as bytes that outlive the process.

use super::field::{self, Unreadable, bad, packed, required};
use super::v1;
use crate::domain::{Epoch, Fence, Order, PileCode, Record, SessionId, WallMs, ids};
use crate::store::{Append, Batch, BatchId, IndexEntry, IndexName, Key, Kind, Of, Precondition, Put};

/// One thing that has to get to the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalEntry {
    pub arrived_at: WallMs,
    /// Names the run of the journal that wrote it: with the entry's sequence number it is unlike any other entry's.
    pub incarnation: u64,
    pub what: Journaled,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Journaled {
    Batch {
        batch: Batch,
        /// The store was given it and did not answer: it may be there.
        tried: bool,
    },
    Record {
        record: Box<Record>,
        /// The session's copy of the order, before the record came.
        ours: Option<Box<Order>>,
    },
}

impl From<&JournalEntry> for v1::JournalEntry {
    fn from(entry: &JournalEntry) -> Self {
        let JournalEntry { arrived_at, incarnation, what } = entry;
        let what = match what {
            Journaled::Batch { batch, tried } => v1::journal_entry::What::Batch(stored_batch(batch, *tried)),
            Journaled::Record { record, ours } => v1::journal_entry::What::Record(v1::JournalRecord {
                record: Some((&**record).into()),
                ours: ours.as_ref().map(|order| (&**order).into()),
            }),
        };
        Self { arrived_at_ms: arrived_at.0, incarnation: *incarnation, what: Some(what) }
    }
}

impl TryFrom<v1::JournalEntry> for JournalEntry {
    type Error = Unreadable;

    fn try_from(stored: v1::JournalEntry) -> Result<Self, Unreadable> {
        let v1::JournalEntry { arrived_at_ms, incarnation, what } = stored;
        let what = match required("what", what)? {
            v1::journal_entry::What::Batch(batch) => read_batch(batch)?,
            v1::journal_entry::What::Record(v1::JournalRecord { record, ours }) => Journaled::Record {
                record: Box::new(required("record.record", record)?.try_into()?),
                ours: ours.map(|order| Order::try_from(order).map(Box::new)).transpose()?,
            },
        };
        Ok(Self { arrived_at: WallMs(arrived_at_ms), incarnation, what })
    }
}

fn stored_batch(batch: &Batch, tried: bool) -> v1::JournalBatch {
    let Batch { id, require, put, delete, append } = batch;
    let BatchId { session, n } = id.unwrap_or(NO_ID);
    v1::JournalBatch {
        tried,
        session_incarnation: session.incarnation,
        session_counter: session.counter,
        n,
        require: require.iter().map(Into::into).collect(),
        put: put.iter().map(Into::into).collect(),
        delete: delete.iter().map(Into::into).collect(),
        append: append.iter().map(Into::into).collect(),
    }
}

fn read_batch(stored: v1::JournalBatch) -> Result<Journaled, Unreadable> {
    let v1::JournalBatch { tried, session_incarnation, session_counter, n, require, put, delete, append } = stored;
    let session = SessionId { incarnation: session_incarnation, counter: session_counter };
    let batch = Batch {
        id: Some(BatchId { session, n }).filter(|id| *id != NO_ID),
        require: require.into_iter().map(Precondition::try_from).collect::<Result<_, _>>()?,
        put: put.into_iter().map(Put::try_from).collect::<Result<_, _>>()?,
        delete: delete.into_iter().map(Key::try_from).collect::<Result<_, _>>()?,
        append: append.into_iter().map(Append::try_from).collect::<Result<_, _>>()?,
    };
    Ok(Journaled::Batch { batch, tried })
}

impl From<&Key> for v1::JournalKey {
    fn from(key: &Key) -> Self {
        let Key { kind, of, id } = key;
        Self { kind: *kind as u32, pile: packed(&of.to_bytes()), id: packed(id) }
    }
}

impl TryFrom<v1::JournalKey> for Key {
    type Error = Unreadable;

    fn try_from(stored: v1::JournalKey) -> Result<Self, Unreadable> {
        let v1::JournalKey { kind, pile, id } = stored;
        let known = Kind::ALL.into_iter().find(|k| *k as u32 == kind);
        let kind = known.ok_or_else(|| bad("key.kind", kind))?;
        let of = Of::from_bytes(field::bytes("key.pile", &pile)?).ok_or_else(|| bad("key.pile", ids::hex(&pile)))?;
        Ok(Self { kind, of, id: id.into() })
    }
}

impl From<&Precondition> for v1::JournalPrecondition {
    fn from(precondition: &Precondition) -> Self {
        use v1::journal_precondition::Is;
        let is = match precondition {
            Precondition::Absent(key) => Is::Absent(key.into()),
            Precondition::Version(key, version) => {
                Is::Version(v1::JournalVersion { key: Some(key.into()), version: *version })
            }
            Precondition::Owner(pile, Fence { session, epoch }) => Is::Owner(v1::JournalOwner {
                pile: packed(&pile.bcd()),
                session_incarnation: session.incarnation,
                session_counter: session.counter,
                epoch: epoch.0,
            }),
        };
        Self { is: Some(is) }
    }
}

impl TryFrom<v1::JournalPrecondition> for Precondition {
    type Error = Unreadable;

    fn try_from(stored: v1::JournalPrecondition) -> Result<Self, Unreadable> {
        use v1::journal_precondition::Is;
        Ok(match required("require.is", stored.is)? {
            Is::Absent(key) => Self::Absent(key.try_into()?),
            Is::Version(v1::JournalVersion { key, version }) => {
                Self::Version(required("require.version.key", key)?.try_into()?, version)
            }
            Is::Owner(v1::JournalOwner { pile, session_incarnation, session_counter, epoch }) => {
                let session = SessionId { incarnation: session_incarnation, counter: session_counter };
                Self::Owner(field::pile(&pile)?, Fence { session, epoch: Epoch(epoch) })
            }
        })
    }
}

impl From<&Put> for v1::JournalPut {
    fn from(put: &Put) -> Self {
        let Put { key, value, indexes } = put;
        let entry = |IndexEntry { index, sort }: &IndexEntry| v1::JournalIndexEntry {
            index: *index as u32,
            sort: sort.clone(),
        };
        Self { key: Some(key.into()), value: value.clone(), indexes: indexes.iter().map(entry).collect() }
    }
}

impl TryFrom<v1::JournalPut> for Put {
    type Error = Unreadable;

    fn try_from(stored: v1::JournalPut) -> Result<Self, Unreadable> {
        let v1::JournalPut { key, value, indexes } = stored;
        let entry = |v1::JournalIndexEntry { index, sort }| {
            let known = INDEXES.into_iter().find(|i| *i as u32 == index);
            Ok(IndexEntry { index: known.ok_or_else(|| bad("put.index", index))?, sort })
        };
        let indexes = indexes.into_iter().map(entry).collect::<Result<_, Unreadable>>()?;
        Ok(Self { key: required("put.key", key)?.try_into()?, value, indexes })
    }
}

impl From<&Append> for v1::JournalAppend {
    fn from(append: &Append) -> Self {
        let Append { pile, payload } = append;
        Self { pile: packed(&pile.bcd()), payload: payload.clone() }
    }
}

impl TryFrom<v1::JournalAppend> for Append {
    type Error = Unreadable;

    fn try_from(stored: v1::JournalAppend) -> Result<Self, Unreadable> {
        let v1::JournalAppend { pile, payload } = stored;
        let pile: PileCode = field::pile(&pile)?;
        Ok(Self { pile, payload })
    }
}

/// Of documents that are journaled; journal entries are not.
const INDEXES: [IndexName; 7] = [
    IndexName::Pile,
    IndexName::PilePresence,
    IndexName::OrderTime,
    IndexName::OrderPile,
    IndexName::OrderState,
    IndexName::OrderOpen,
    IndexName::Expiry,
];
/// Sessions count their batches from 1.
const NO_ID: BatchId = BatchId { session: SessionId { incarnation: 0, counter: 0 }, n: 0 };
