//! Domain values as stored bytes: a format byte, then the protobuf of `pileway.store.v1`.
//!
//! Conversions destructure without `..` in both directions, so that a new field stops the build where it must be
//! handled. What cannot be read back is an error that names the document and the field; it is never guessed at.

mod field;
mod pile;
mod record;
mod retention;
mod vehicle;
mod curve;
mod order;
mod event;
mod journal;
mod group;

pub use event::{Envelope, StoredEvent};
pub use group::{
    ConsumerId, EventCursor, Group, GroupCursor, GroupStart, group_cursor_key, group_key, put_group, put_group_cursor,
    read_group, read_group_cursor,
};
pub use journal::{JournalEntry, Journaled};
pub use retention::Retention;

use bytes::{BufMut, Bytes};
use prost::Message;
use sha2::{Digest, Sha256};

use super::{Append, Batch, IndexEntry, IndexName, Key, Kind, Put, StoreError};
use crate::domain::curve::Chunk;
use crate::domain::order::StartRequest;
use crate::domain::pile::Presence;
use crate::domain::{Event, Order, OrderState, Pile, PileCode, Record, RequestId, Serial, WallMs};
use field::Unreadable;

/// The messages of `proto/pileway/store/v1`.
#[allow(clippy::all, clippy::pedantic, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("pileway.store.v1");
}

/// One attempt to start: what makes a retry with the same `request_id` start nothing twice.
/// Expires [`START_ATTEMPT_KEPT_MS`] after `created_at`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StartAttempt {
    pub pile: PileCode,
    pub id: RequestId,
    /// Fingerprint of all arguments ([`crate::domain::command::Start::arguments`]).
    pub arguments: u64,
    /// Of its order; of two, the one that leads.
    pub serial: Serial,
    pub created_at: WallMs,
}

impl StartAttempt {
    /// What makes a retry of the start behind `order` start nothing twice; `None` if there was no start, and for the second
    /// of two orders: there is one attempt.
    pub fn of(order: &Order) -> Option<Self> {
        let StartRequest { id, arguments } = order.request.filter(|_| order.leads())?;
        Some(Self { pile: order.pile, id, arguments, serial: order.serial, created_at: order.created_at })
    }
}

/// A `request_id` names one attempt for 24 hours.
pub const START_ATTEMPT_KEPT_MS: u64 = 24 * 3600 * 1000;

pub fn pile_key(pile: PileCode) -> Key {
    Key::of_pile(Kind::Pile, pile, vec![])
}

pub fn order_key(pile: PileCode, serial: Serial) -> Key {
    Key::of_pile(Kind::Order, pile, serial.bytes().to_vec())
}

pub fn record_key(pile: PileCode, serial: Serial) -> Key {
    Key::of_pile(Kind::Record, pile, serial.bytes().to_vec())
}

/// One per digest: the same conflicting copy is kept once, and of a serial at most
/// [`super::Settlement::MAX_CONFLICTS`].
pub fn record_conflict_key(pile: PileCode, serial: Serial, digest: [u8; 32]) -> Key {
    Key::of_pile(Kind::RecordConflict, pile, [&serial.bytes()[..], &digest].concat())
}

pub fn start_attempt_key(pile: PileCode, id: RequestId) -> Key {
    Key::of_pile(Kind::StartRequest, pile, id.bytes().to_vec())
}

/// What tells a copy of a record from a conflicting one: frame code and body.
pub fn record_digest(record: &Record) -> [u8; 32] {
    Sha256::new().chain_update([record.code]).chain_update(&record.body).finalize().into()
}

pub fn put_pile(pile: &Pile) -> Put {
    let code = pile.code.to_string();
    let presence = presence_prefix(pile.presence) + &code;
    let indexes = vec![entry(IndexName::Pile, code), entry(IndexName::PilePresence, presence)];
    Put { key: pile_key(pile.code), value: encode(&v1::Pile::from(pile)), indexes }
}

/// It is kept as `retention` says once it is over.
pub fn put_order(order: &Order, retention: &Retention) -> Put {
    let Order { pile, gun, serial, state, created_at, updated_at, .. } = order;
    let created = format!("{}{serial}", sortable(*created_at));
    let mut indexes = vec![
        entry(IndexName::OrderTime, created.clone()),
        entry(IndexName::OrderPile, format!("{pile}{created}")),
        entry(IndexName::OrderState, order_state_prefix(*state) + &created),
    ];
    if state.is_open() {
        indexes.push(entry(IndexName::OrderOpen, format!("{pile}{:03}{serial}", gun.number())));
    } else {
        let closed = *state == OrderState::ClosedWithoutRecord;
        let goes = if closed { retention.closed_order_goes(*updated_at) } else { retention.order_goes(*updated_at) };
        indexes.push(entry(IndexName::Expiry, sortable(goes)));
    }
    Put { key: order_key(*pile, *serial), value: encode(&v1::Order::from(order)), indexes }
}

pub fn put_record_conflict(record: &Record) -> Put {
    let key = record_conflict_key(record.pile, record.serial, record_digest(record));
    Put { key, value: record_value(record), indexes: vec![] }
}

pub fn record_value(record: &Record) -> Bytes {
    encode(&v1::Record::from(record))
}

pub fn put_start_attempt(attempt: &StartAttempt) -> Put {
    let expires = sortable(attempt.created_at.plus_ms(START_ATTEMPT_KEPT_MS));
    Put {
        key: start_attempt_key(attempt.pile, attempt.id),
        value: encode(&v1::StartAttempt::from(attempt)),
        indexes: vec![entry(IndexName::Expiry, expires)],
    }
}

/// One per first moment of a chunk.
pub fn curve_key(chunk: &Chunk) -> Key {
    Key::of_pile(Kind::Curve, chunk.pile, [&chunk.serial.bytes()[..], &chunk.number().to_be_bytes()].concat())
}

pub fn put_curve(chunk: &Chunk, expires: WallMs) -> Put {
    let Chunk { pile, gun: _, serial, points: _ } = chunk;
    let place = format!("{}{:020}", curve_prefix(*pile, *serial), chunk.number());
    let indexes = vec![entry(IndexName::Curve, place), entry(IndexName::Expiry, sortable(expires))];
    Put { key: curve_key(chunk), value: encode(&v1::CurveChunk::from(chunk)), indexes }
}

/// What the sort strings of [`IndexName::Curve`] begin with.
pub fn curve_prefix(pile: PileCode, serial: Serial) -> String {
    format!("{pile}{serial}")
}

pub fn read_curve(key: &Key, value: &[u8]) -> Result<Chunk, StoreError> {
    decode::<v1::CurveChunk, _>(value).map_err(|why| unreadable(key, &why))
}

pub fn append(event: &Event) -> Append {
    Append { pile: event.pile, payload: encode(&v1::Event::from(event)) }
}

/// The same event, marked late. What follows a message is read as more of its fields, so the bytes that were journaled
/// stay what they are: the same ones go to the store however often, and fields of a newer pileway are kept.
pub fn late(append: Append) -> Append {
    let Append { pile, payload } = append;
    let mark = v1::Event { late: true, ..v1::Event::default() };
    Append { pile, payload: [&payload[..], &mark.encode_to_vec()].concat().into() }
}

/// The same batch, with all its events marked late.
pub fn late_batch(batch: Batch) -> Batch {
    Batch { append: batch.append.into_iter().map(late).collect(), ..batch }
}

/// Unlike any other entry's, and in the order of `seq` within the pile.
pub fn journal_key(pile: PileCode, seq: u64) -> Key {
    Key::of_pile(Kind::Journal, pile, seq.to_be_bytes().to_vec())
}

/// An entry that is not in the store yet.
pub fn put_pending(pile: PileCode, seq: u64, entry: &JournalEntry) -> Put {
    Put {
        key: journal_key(pile, seq),
        value: encode(&v1::JournalEntry::from(entry)),
        indexes: vec![self::entry(IndexName::JournalPending, format!("{seq:020}"))],
    }
}

/// An entry that is in the store, and is kept until `expires`.
pub fn put_settled(key: Key, value: Bytes, expires: WallMs) -> Put {
    Put { key, value, indexes: vec![entry(IndexName::Expiry, sortable(expires))] }
}

pub fn read_journal_entry(key: &Key, value: &[u8]) -> Result<JournalEntry, StoreError> {
    decode::<v1::JournalEntry, _>(value).map_err(|why| unreadable(key, &why))
}

/// Where the entry of this key stands among all of its journal.
pub fn journal_seq(key: &Key) -> Result<u64, StoreError> {
    let seq = key.id[..].try_into().map(u64::from_be_bytes);
    seq.map_err(|_| unreadable(key, &Unreadable("no sequence number".to_owned())))
}

pub fn read_pile(key: &Key, value: &[u8]) -> Result<Pile, StoreError> {
    decode::<v1::Pile, _>(value).map_err(|why| unreadable(key, &why))
}

pub fn read_order(key: &Key, value: &[u8]) -> Result<Order, StoreError> {
    decode::<v1::Order, _>(value).map_err(|why| unreadable(key, &why))
}

/// Of [`Kind::Record`] and [`Kind::RecordConflict`]; not of a record that has shrunk, which has no bytes.
pub fn read_record(key: &Key, value: &[u8]) -> Result<Record, StoreError> {
    decode::<v1::Record, _>(value).map_err(|why| unreadable(key, &why))
}

pub fn read_start_attempt(key: &Key, value: &[u8]) -> Result<StartAttempt, StoreError> {
    decode::<v1::StartAttempt, _>(value).map_err(|why| unreadable(key, &why))
}

/// `position` names the log entry in the error.
pub fn read_event(position: &str, payload: &[u8]) -> Result<Event, StoreError> {
    read_stored_event(position, payload).map(|stored| stored.event)
}

/// With what its author did not know.
pub fn read_stored_event(position: &str, payload: &[u8]) -> Result<StoredEvent, StoreError> {
    decode::<v1::Event, _>(payload).map_err(|Unreadable(why)| StoreError::Invalid(format!("event {position}: {why}")))
}

/// What can be read of any event, of whatever kind. `None` if it is damaged, or of another format.
pub fn read_envelope(payload: &[u8]) -> Option<Envelope> {
    payload.strip_prefix(&[FORMAT]).and_then(|message| Envelope::decode(message).ok())
}

/// Bytes of a text of at most 1024 hex digits: page tokens are far shorter.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    field::unhex(text, 1024)
}

/// What the sort strings of [`IndexName::PilePresence`] begin with.
pub fn presence_prefix(presence: Presence) -> String {
    format!("{}/", presence.name())
}

/// What the sort strings of [`IndexName::OrderState`] begin with.
pub fn order_state_prefix(state: OrderState) -> String {
    format!("{}/", state.name())
}

/// Twenty digits, which sort as text as the times do. Nothing here happened before 1970.
pub fn sortable(at: WallMs) -> String {
    format!("{:020}", at.0.max(0))
}

fn entry(index: IndexName, sort: String) -> IndexEntry {
    IndexEntry { index, sort }
}

fn encode(message: &impl Message) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + message.encoded_len());
    bytes.put_u8(FORMAT);
    // A Vec grows: there is always room.
    message.encode_raw(&mut bytes);
    bytes.into()
}

fn decode<M, T>(value: &[u8]) -> Result<T, Unreadable>
where
    M: Message + Default,
    T: TryFrom<M, Error = Unreadable>,
{
    match value.split_first() {
        Some((&FORMAT, message)) => M::decode(message).map_err(|error| Unreadable(error.to_string()))?.try_into(),
        Some((format, _)) => Err(Unreadable(format!("format {format}: this pileway knows {FORMAT}"))),
        None => Err(Unreadable("empty".to_owned())),
    }
}

fn unreadable(key: &Key, Unreadable(why): &Unreadable) -> StoreError {
    let Key { kind, of, id } = key;
    StoreError::Invalid(format!("{kind:?} {of}/{}: {why}", crate::domain::ids::hex(id)))
}

/// Before every value.
const FORMAT: u8 = 1;

#[cfg(test)]
mod tests;
