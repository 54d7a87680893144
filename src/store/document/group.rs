//! Groups of event consumers, their cursors, and what callers are given to come back with.

use prost::Message;
use sha2::{Digest, Sha256};

use super::field::{self, Unreadable, enumerated, enumeration, packed, required, wall};
use super::{decode, encode, entry, sortable, unreadable, v1};
use crate::domain::{Epoch, WallMs, ids};
use crate::store::{IndexName, Key, Kind, Mark, Of, Partition, Position, Put, StoreError};

/// A group: who is in it, and which partitions are whose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    pub name: String,
    /// Unlike that of any other group, one of the same name that was deleted among them.
    pub birth: u64,
    pub created_at: WallMs,
    pub start: GroupStart,
    /// By partition: where it began.
    pub starts: Vec<Position>,
    /// In the order in which they joined.
    pub consumers: Vec<ConsumerId>,
    /// By partition: whose it is to be.
    pub assigned: Vec<Option<ConsumerId>>,
    /// Since when nobody is in it.
    pub idle_since: Option<WallMs>,
    /// It pins no events any more.
    pub lapsed: bool,
    /// Its document stays for a while, to tell those who consume.
    pub deleted: bool,
}

/// Where a group begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupStart {
    Earliest,
    Now,
    Time(WallMs),
}

/// One stream of one run of a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConsumerId {
    pub incarnation: u64,
    pub number: u64,
}

/// How far a group has come in a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupCursor {
    /// Of its group: one of another birth is none.
    pub birth: u64,
    /// Behind what is acknowledged.
    pub acknowledged: Position,
    /// The offset behind what had been delivered when this was written.
    pub delivered: u64,
    /// Counts who had the partition: what was delivered under another lease cannot be acknowledged.
    pub lease: u64,
    pub holder: Option<ConsumerId>,
    /// The log was lost, and here is where the group had come before. Whoever takes the partition tells its client first,
    /// until something behind that is acknowledged: the cursor has moved, and nothing else shows the gap any more.
    pub lost_to: Option<u64>,
}

/// What the cursor of an event says, or that of a list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EventCursor {
    pub positions: Vec<(Partition, Position)>,
    /// Birth of the group and lease, if a group was delivered the event.
    pub lease: Option<(u64, u64)>,
}

/// A deleted group is remembered for so long: far longer than a consumer needs to notice.
pub const DELETED_GROUP_KEPT_MS: u64 = 3600 * 1000;

pub fn group_key(name: &str) -> Key {
    Key { kind: Kind::Group, of: Of::Partition(Partition::GLOBAL), id: name.as_bytes().to_vec() }
}

pub fn group_cursor_key(name: &str, partition: Partition) -> Key {
    Key { kind: Kind::GroupCursor, of: Of::Partition(partition), id: name.as_bytes().to_vec() }
}

/// `now` decides when a deleted one is forgotten.
pub fn put_group(group: &Group, now: WallMs) -> Put {
    let index = if group.deleted {
        entry(IndexName::Expiry, sortable(now.plus_ms(DELETED_GROUP_KEPT_MS)))
    } else {
        entry(IndexName::Group, group.name.clone())
    };
    Put { key: group_key(&group.name), value: encode(&v1::Group::from(group)), indexes: vec![index] }
}

pub fn put_group_cursor(name: &str, partition: Partition, cursor: &GroupCursor) -> Put {
    let value = encode(&v1::GroupCursor::from(cursor));
    Put { key: group_cursor_key(name, partition), value, indexes: vec![] }
}

pub fn read_group(key: &Key, value: &[u8]) -> Result<Group, StoreError> {
    let name = std::str::from_utf8(&key.id).map_err(|_| unreadable(key, &Unreadable("no name".to_owned())))?;
    let group = decode::<v1::Group, Group>(value).map_err(|why| unreadable(key, &why))?;
    Ok(Group { name: name.to_owned(), ..group })
}

pub fn read_group_cursor(key: &Key, value: &[u8]) -> Result<GroupCursor, StoreError> {
    decode::<v1::GroupCursor, _>(value).map_err(|why| unreadable(key, &why))
}

impl EventCursor {
    /// Text that callers bring back as it is. `about` is what it is good for: where it is not, it cannot be read.
    pub fn seal(&self, about: &str) -> String {
        let mut sealed = v1::EventCursor::from(self);
        sealed.check = check(about, &sealed);
        ids::hex(&sealed.encode_to_vec())
    }

    /// `None` if it is none of ours, damaged, or about something else.
    pub fn open(text: &str, about: &str) -> Option<Self> {
        let sealed = v1::EventCursor::decode(&*field::unhex(text, MAX_TEXT)?).ok()?;
        (sealed.check == check(about, &sealed)).then_some(())?;
        let v1::EventCursor { check: _, positions, lease, birth } = sealed;
        let position = |v1::CursorPosition { partition, position }: v1::CursorPosition| {
            let position = Position::try_from(position?).ok()?;
            Some((Partition(u16::try_from(partition).ok()?), position))
        };
        let positions = positions.into_iter().map(position).collect::<Option<_>>()?;
        Some(Self { positions, lease: lease.map(|lease| (birth, lease)) })
    }
}

impl From<&EventCursor> for v1::EventCursor {
    fn from(cursor: &EventCursor) -> Self {
        let EventCursor { positions, lease } = cursor;
        let position = |(partition, position): &(Partition, Position)| v1::CursorPosition {
            partition: u32::from(partition.0),
            position: Some(position.into()),
        };
        Self {
            check: bytes::Bytes::new(),
            positions: positions.iter().map(position).collect(),
            lease: lease.map(|(_, lease)| lease),
            birth: lease.map_or(0, |(birth, _)| birth),
        }
    }
}

/// Not a secret: it catches mistakes, not opponents.
fn check(about: &str, sealed: &v1::EventCursor) -> bytes::Bytes {
    let bare = v1::EventCursor { check: bytes::Bytes::new(), ..sealed.clone() };
    let hash = Sha256::new().chain_update(about).chain_update([0]).chain_update(bare.encode_to_vec()).finalize();
    packed(&hash[..8])
}

impl From<&Position> for v1::LogPosition {
    fn from(position: &Position) -> Self {
        let Position { offset, mark, at } = position;
        Self {
            offset: *offset,
            pile: mark.map(|mark| packed(&mark.pile.bcd())).unwrap_or_default(),
            epoch: mark.map_or(0, |mark| mark.epoch.0),
            seq: mark.map_or(0, |mark| mark.seq),
            recorded_at_ms: at.0,
        }
    }
}

impl TryFrom<v1::LogPosition> for Position {
    type Error = Unreadable;

    fn try_from(stored: v1::LogPosition) -> Result<Self, Unreadable> {
        let v1::LogPosition { offset, pile, epoch, seq, recorded_at_ms } = stored;
        let mark = match &pile[..] {
            [] => None,
            _ => Some(Mark { pile: field::pile(&pile)?, epoch: Epoch(epoch), seq }),
        };
        Ok(Self { offset, mark, at: WallMs(recorded_at_ms) })
    }
}

impl From<&ConsumerId> for v1::GroupConsumer {
    fn from(id: &ConsumerId) -> Self {
        let ConsumerId { incarnation, number } = *id;
        Self { incarnation, number }
    }
}

impl From<v1::GroupConsumer> for ConsumerId {
    fn from(stored: v1::GroupConsumer) -> Self {
        let v1::GroupConsumer { incarnation, number } = stored;
        Self { incarnation, number }
    }
}

impl From<&Group> for v1::Group {
    fn from(group: &Group) -> Self {
        let Group { name: _, birth, created_at, start, starts, consumers, assigned, idle_since, lapsed, deleted } =
            group;
        let number = |whose: &Option<ConsumerId>| {
            let at = whose.and_then(|id| consumers.iter().position(|other| *other == id));
            at.map_or(0, |at| at as u32 + 1)
        };
        let (start, start_time) = match start {
            GroupStart::Earliest => (v1::GroupStart::Earliest, None),
            GroupStart::Now => (v1::GroupStart::Now, None),
            GroupStart::Time(at) => (v1::GroupStart::Time, Some(at.0)),
        };
        Self {
            birth: *birth,
            created_at_ms: created_at.0,
            start: start.into(),
            start_time_ms: start_time,
            starts: starts.iter().map(v1::LogPosition::from).collect(),
            consumers: consumers.iter().map(v1::GroupConsumer::from).collect(),
            assigned: assigned.iter().map(number).collect(),
            idle_since_ms: idle_since.map(|at| at.0),
            lapsed: *lapsed,
            deleted: *deleted,
        }
    }
}

/// Without its name, which is in the key.
impl TryFrom<v1::Group> for Group {
    type Error = Unreadable;

    fn try_from(stored: v1::Group) -> Result<Self, Unreadable> {
        let v1::Group {
            birth,
            created_at_ms,
            start,
            start_time_ms,
            starts,
            consumers,
            assigned,
            idle_since_ms,
            lapsed,
            deleted,
        } = stored;
        let consumers: Vec<ConsumerId> = consumers.into_iter().map(ConsumerId::from).collect();
        let whose = |number: u32| (number as usize).checked_sub(1).and_then(|at| consumers.get(at).copied());
        let start = match enumerated::<v1::GroupStart, Begin>("start", start)? {
            Begin::Earliest => GroupStart::Earliest,
            Begin::Now => GroupStart::Now,
            Begin::Time => GroupStart::Time(WallMs(required("start_time_ms", start_time_ms)?)),
        };
        Ok(Self {
            name: String::new(),
            birth,
            created_at: WallMs(created_at_ms),
            start,
            starts: starts.into_iter().map(Position::try_from).collect::<Result<_, _>>()?,
            assigned: assigned.into_iter().map(whose).collect(),
            consumers,
            idle_since: wall(idle_since_ms),
            lapsed,
            deleted,
        })
    }
}

/// [`GroupStart`] without its time.
enum Begin {
    Earliest,
    Now,
    Time,
}

enumeration!(Begin, GroupStart: Earliest Now Time);

impl From<&GroupCursor> for v1::GroupCursor {
    fn from(cursor: &GroupCursor) -> Self {
        let GroupCursor { birth, acknowledged, delivered, lease, holder, lost_to } = cursor;
        Self {
            birth: *birth,
            acknowledged: Some(acknowledged.into()),
            delivered: *delivered,
            lease: *lease,
            holder: holder.as_ref().map(v1::GroupConsumer::from),
            lost_to: *lost_to,
        }
    }
}

impl TryFrom<v1::GroupCursor> for GroupCursor {
    type Error = Unreadable;

    fn try_from(stored: v1::GroupCursor) -> Result<Self, Unreadable> {
        let v1::GroupCursor { birth, acknowledged, delivered, lease, holder, lost_to } = stored;
        let acknowledged = required("acknowledged", acknowledged)?.try_into()?;
        Ok(Self { birth, acknowledged, delivered, lease, holder: holder.map(ConsumerId::from), lost_to })
    }
}

/// A list's cursor names every partition.
const MAX_TEXT: usize = 64 * 1024;
