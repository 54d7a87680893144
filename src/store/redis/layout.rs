//! Keys and values. All keys of a partition share its hash tag, so that they are in one slot of a Cluster.
//!
//! | key                 | type   | what                                                                              |
//! |---------------------|--------|-----------------------------------------------------------------------------------|
//! | `pw:{pNN}:d:<name>` | string | a document: version, digest, lengths of index entries; newline; entries; value    |
//! | `pw:{pNN}:i:<n>`    | zset   | index n: sort string, NUL, name of the document                                   |
//! | `pw:{pNN}:i:0`      | zset   | records in conflict, which have to be counted: NUL, name                          |
//! | `pw:{pNN}:log`      | stream | `<offset>-0`: pile, epoch, seq, payload                                           |
//! | `pw:{pNN}:o:<pile>` | hash   | newest epoch, last seq, owner, previous owner, identity, takeovers                |
//! | `pw:{pNN}:r:<run>`  | zset   | piles owned by sessions of this run                                               |
//! | `pw:{pNN}:runs`     | zset   | runs of which there is such a set                                                 |
//! | `pw:{pNN}:b:<session>` | string | last n, fingerprint, versions, offsets; goes after [`BatchId::KEPT_MS`]        |
//! | `pw:{pg}:meta`      | hash   | format, partitions                                                                |
//! | `pw:{pg}:node:<run>` | string | a member, as JSON; goes with its lease                                           |
//! | `pw:{pg}:nodes`     | zset   | runs that may have a lease                                                        |
//!
//! The name of a document is the digit of its kind, its pile (or `p` and the 13 digits of a partition) and its id. A run is an incarnation as 16 hex digits. All
//! zsets have score 0 and are sorted by their members, bytewise.

use std::sync::Arc;

use bytes::Bytes;
use redis::Value;
use serde::{Deserialize, Serialize};

use crate::domain::{Epoch, Fence, PileCode, SessionId};
use crate::store::{
    BatchId, Entry, IndexCursor, IndexEntry, IndexName, Key, Kind, Mark, Member, Of, Offset, Partition, Put, Scan,
    StoreError, Versioned,
};

/// The names of keys, under the prefix of this deployment.
#[derive(Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: String) -> Self {
        Self { prefix }
    }

    /// What all keys of a partition begin with.
    pub(super) fn base(&self, partition: Partition) -> String {
        format!("{}:{{{}}}:", self.prefix, tag(partition))
    }

    /// What the keys of no pile begin with.
    pub(super) fn global(&self) -> String {
        self.base(Partition::GLOBAL)
    }

    /// Where it is said that a partition's log has grown: its number.
    pub(super) fn channel(&self) -> String {
        format!("{}:feed", self.prefix)
    }
}

/// Decides the slot.
pub(super) fn tag(partition: Partition) -> String {
    if partition == Partition::GLOBAL { "pg".to_owned() } else { format!("p{partition:02}") }
}

/// One character for each kind and index: a digit, and behind 9 what follows it in ASCII, which 40 of them leave at `X`.
fn digit(number: u8) -> u8 {
    b'0' + number
}

pub(super) fn document(base: &str, key: &Key) -> Vec<u8> {
    [format!("{base}d:").as_bytes(), &name(key)].concat()
}

pub(super) fn index(base: &str, index: IndexName) -> String {
    format!("{base}i:{}", char::from(digit(index as u8)))
}

pub(super) fn log(base: &str) -> String {
    format!("{base}log")
}

pub(super) fn own(base: &str, pile: PileCode) -> String {
    format!("{base}o:{pile}")
}

pub(super) fn batch(base: &str, id: BatchId) -> String {
    format!("{base}b:{}", session(id.session))
}

/// Sorts as the numbers do.
pub(super) fn run(incarnation: u64) -> String {
    format!("{incarnation:016x}")
}

/// Begins with its run.
pub(super) fn session(session: SessionId) -> String {
    format!("{}-{:x}", run(session.incarnation), session.counter)
}

pub(super) fn name(key: &Key) -> Vec<u8> {
    let Key { kind, of, id } = key;
    let of = match of {
        Of::Pile(pile) => pile.to_string(),
        Of::Partition(Partition(number)) => format!("p{number:013}"),
    };
    [&[digit(*kind as u8)], of.as_bytes(), id].concat()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A document's row behind its version.
pub(super) fn row_tail(value: &Bytes, entries: &[String], digest: Option<&[u8; 32]>) -> Vec<u8> {
    let digest = digest.map_or_else(|| "-".to_owned(), |digest| hex(digest));
    let lengths = entries.iter().fold(String::new(), |text, entry| text + &format!(" {}", entry.len()));
    [format!(" {digest}{lengths}\n{}", entries.concat()).as_bytes(), value].concat()
}

/// The index entries of a put as they are kept: each once, the digit of the index first.
pub(super) fn entries(put: &Put) -> Vec<String> {
    let entry = |IndexEntry { index, sort }: &IndexEntry| format!("{}{sort}", char::from(digit(*index as u8)));
    let mut entries: Vec<_> = put.indexes.iter().map(entry).collect();
    if put.key.kind == Kind::RecordConflict {
        entries.push("0".to_owned());
    }
    entries.sort();
    entries.dedup();
    entries
}

pub(super) fn versioned(row: &[u8]) -> Result<Versioned, StoreError> {
    let end = row.iter().position(|byte| *byte == b'\n').ok_or_else(damaged)?;
    let header = std::str::from_utf8(&row[..end]).map_err(|_| damaged())?;
    let mut header = header.split(' ');
    let version = header.next().and_then(|version| version.parse().ok()).ok_or_else(damaged)?;
    let entries: usize =
        header.skip(1).try_fold(0, |sum, length| Some(sum + length.parse::<usize>().ok()?)).ok_or_else(damaged)?;
    let value = row.get(end + 1 + entries..).ok_or_else(damaged)?;
    Ok(Versioned { version, value: Bytes::copy_from_slice(value) })
}

pub(super) fn key_of(name: &[u8]) -> Result<Key, StoreError> {
    let (kind, rest) = name.split_first().ok_or_else(damaged)?;
    let kind = Kind::ALL.into_iter().find(|known| digit(*known as u8) == *kind).ok_or_else(damaged)?;
    let (of, id) = rest.split_at_checked(14).ok_or_else(damaged)?;
    let of = match of.strip_prefix(b"p") {
        Some(partition) => Of::Partition(Partition(text(partition)?.parse().map_err(|_| damaged())?)),
        None => Of::Pile(pile_of(of)?),
    };
    Ok(Key { kind, of, id: id.to_vec() })
}

pub(super) fn cursor(member: &[u8]) -> Result<IndexCursor, StoreError> {
    let nul = member.iter().position(|byte| *byte == 0).ok_or_else(damaged)?;
    let sort = String::from_utf8(member[..nul].to_vec()).map_err(|_| damaged())?;
    Ok(IndexCursor { sort, key: key_of(&member[nul + 1..])? })
}

/// The bounds of a scan as ZRANGEBYLEX takes them, low and high; `None` if nothing can lie between.
///
/// No sort string has a NUL or the byte 0xFF in it, so "sort, 0x01" lies behind all entries with exactly this string,
/// and "prefix, 0xFF" behind all that begin with it.
pub(super) fn bounds(scan: &Scan) -> Option<(Vec<u8>, Vec<u8>)> {
    let Scan { index: _, prefix, after, from, to, descending, limit: _ } = scan;
    let mut low = prefix.clone().max(from.clone()).into_bytes();
    let mut high = [prefix.as_bytes(), &[0xFF]].concat();
    if !to.is_empty() {
        high = high.min([to.as_bytes(), &[1]].concat());
    }
    if let Some(IndexCursor { sort, key }) = after {
        let at = [sort.as_bytes(), &[0], &name(key)].concat();
        if *descending {
            high = high.min(at);
        } else {
            // The first possible member behind `at`.
            low = low.max([&*at, &[0]].concat());
        }
    }
    (low < high).then(|| ([b"[", &*low].concat(), [b"(", &*high].concat()))
}

/// All members of index 0 that are conflicts of `record`, as ZLEXCOUNT takes it.
pub(super) fn conflicts(record: &Key, kind: Kind) -> (Vec<u8>, Vec<u8>) {
    let first = [&[0], &*name(&Key { kind, ..record.clone() })].concat();
    let mut behind = first.clone();
    while behind.last() == Some(&0xFF) {
        behind.pop();
    }
    // There is one: the digit of the kind is not 0xFF.
    if let Some(byte) = behind.last_mut() {
        *byte += 1;
    }
    ([b"[", &*first].concat(), [b"(", &*behind].concat())
}

pub(super) fn fence(session: &[u8], epoch: &[u8]) -> Result<Fence, StoreError> {
    let (incarnation, counter) = text(session)?.split_once('-').ok_or_else(damaged)?;
    let hex = |digits| u64::from_str_radix(digits, 16).map_err(|_| damaged());
    let session = SessionId { incarnation: hex(incarnation)?, counter: hex(counter)? };
    Ok(Fence { session, epoch: Epoch(number(epoch)?) })
}

pub(super) fn log_entry(partition: Partition, entry: Value) -> Result<Arc<Entry>, StoreError> {
    let [id, fields] = array(entry)?.try_into().map_err(|_| damaged())?;
    let id = bytes(id)?;
    let offset: Offset = number(text(&id)?.split_once('-').ok_or_else(damaged)?.0.as_bytes())?;
    let (mut pile, mut epoch, mut seq, mut payload) = (None, None, None, None);
    let mut fields = array(fields)?.into_iter();
    while let (Some(field), Some(value)) = (fields.next(), fields.next()) {
        let value = bytes(value)?;
        match &*bytes(field)? {
            b"pile" => pile = Some(pile_of(&value)?),
            b"epoch" => epoch = Some(Epoch(number(&value)?)),
            b"seq" => seq = Some(number(&value)?),
            b"payload" => payload = Some(Bytes::from(value)),
            // Of a newer release.
            _ => {}
        }
    }
    let (Some(pile), Some(epoch), Some(seq), Some(payload)) = (pile, epoch, seq, payload) else {
        return Err(damaged());
    };
    Ok(Arc::new(Entry { partition, offset, pile, epoch, seq, payload }))
}

/// What an entry is: tells it from any other, one of a log that was lost among them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct What {
    mark: Mark,
    /// The beginning of its payload, which says when it was recorded.
    head: Vec<u8>,
}

impl What {
    pub(super) fn of(entry: &Entry) -> Self {
        Self { mark: Mark::of(entry), head: entry.payload[..entry.payload.len().min(HEAD)].to_vec() }
    }

    /// As scripts say it; `None` if there is none.
    pub(super) fn said(said: &[u8]) -> Result<Option<Self>, StoreError> {
        if said.is_empty() {
            return Ok(None);
        }
        let mut words = said.splitn(4, |byte| *byte == b' ');
        let mut next = || words.next().ok_or_else(damaged);
        let mark = Mark { pile: pile_of(next()?)?, epoch: Epoch(number(next()?)?), seq: number(next()?)? };
        Ok(Some(Self { mark, head: next()?.to_vec() }))
    }
}

/// A member as it is kept. A newer release may have more to say, and an older one less.
#[derive(Serialize, Deserialize)]
#[serde(default)]
struct Said {
    incarnation: u64,
    node: String,
    peer: String,
    version: String,
    draining: bool,
    started_at_ms: u64,
}

impl Default for Said {
    fn default() -> Self {
        let empty = String::new;
        Self { incarnation: 0, node: empty(), peer: empty(), version: empty(), draining: false, started_at_ms: 0 }
    }
}

pub(super) fn say(member: &Member) -> Vec<u8> {
    let Member { incarnation, node, peer, version, draining, started_at_ms } = member.clone();
    let said = Said { incarnation, node, peer, version, draining, started_at_ms };
    serde_json::to_vec(&said).expect("text and numbers are always JSON")
}

pub(super) fn member(said: &[u8]) -> Result<Member, StoreError> {
    let Said { incarnation, node, peer, version, draining, started_at_ms } = serde_json::from_slice(said)
        .map_err(|error| StoreError::Invalid(format!("a member cannot be read: {error}")))?;
    Ok(Member { incarnation, node, peer, version, draining, started_at_ms })
}

pub(super) fn array(value: Value) -> Result<Vec<Value>, StoreError> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err(damaged()),
    }
}

pub(super) fn bytes(value: Value) -> Result<Vec<u8>, StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::Int(number) => Ok(number.to_string().into_bytes()),
        _ => Err(damaged()),
    }
}

pub(super) fn present(value: Value) -> Result<Option<Vec<u8>>, StoreError> {
    if value == Value::Nil { Ok(None) } else { bytes(value).map(Some) }
}

pub(super) fn number(digits: &[u8]) -> Result<u64, StoreError> {
    text(digits)?.parse().map_err(|_| damaged())
}

pub(super) fn numbers(list: &[u8]) -> Result<Vec<u64>, StoreError> {
    list.split(|byte| *byte == b',').filter(|digits| !digits.is_empty()).map(number).collect()
}

pub(super) fn pile_of(digits: &[u8]) -> Result<PileCode, StoreError> {
    text(digits)?.parse().map_err(|_| damaged())
}

fn text(bytes: &[u8]) -> Result<&str, StoreError> {
    std::str::from_utf8(bytes).map_err(|_| damaged())
}

/// As much as the scripts give.
const HEAD: usize = 24;

/// Something under our keys that we have not written.
pub(super) fn damaged() -> StoreError {
    StoreError::Invalid("what Redis answers cannot be read".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: Kind, id: &[u8]) -> Key {
        Key::of_pile(kind, "32010200000001".parse().expect("a pile"), id.to_vec())
    }

    #[test]
    fn keys_of_a_partition_share_its_tag() {
        let keys = Keys::new("pw".to_owned());
        let base = keys.base(Partition(7));
        assert_eq!(base, "pw:{p07}:");
        assert_eq!(document(&base, &key(Kind::Order, b"ab\xFF")), b"pw:{p07}:d:232010200000001ab\xFF");
        assert_eq!((keys.global(), keys.channel()), ("pw:{pg}:".to_owned(), "pw:feed".to_owned()));
    }

    #[test]
    fn rows_and_cursors_are_read_as_they_are_written() {
        let put = Put {
            key: key(Kind::RecordConflict, b"\0\n 7"),
            value: Bytes::from_static(b"1 2\n\0"),
            indexes: ["b", "a", "b"]
                .map(|sort| IndexEntry { index: IndexName::Expiry, sort: sort.to_owned() })
                .to_vec(),
        };
        let entries = entries(&put);
        assert_eq!(entries, ["0", "7a", "7b"]);
        for digest in [None, Some([0xAB; 32])] {
            let row = [b"12", &*row_tail(&put.value, &entries, digest.as_ref())].concat();
            assert_eq!(versioned(&row), Ok(Versioned { version: 12, value: put.value.clone() }));
        }
        for damaged in ["", "1", "x -\n", "1 - 5\nabc", "1 - -1\nabc"] {
            assert!(versioned(damaged.as_bytes()).is_err(), "{damaged:?}");
        }
        let member = [b"sort\0", &*name(&put.key)].concat();
        assert_eq!(cursor(&member), Ok(IndexCursor { sort: "sort".to_owned(), key: put.key }));
        assert!(cursor(b"no name").is_err() && cursor(b"sort\09").is_err());
    }

    #[test]
    fn the_conflicts_of_a_record_end_where_the_next_record_begins() {
        let range = |id: &[u8]| conflicts(&key(Kind::Record, id), Kind::RecordConflict);
        let member = |rest: &[u8]| [b"\x00432010200000001", rest].concat();
        assert_eq!(range(b"a"), ([b"[", &*member(b"a")].concat(), [b"(", &*member(b"b")].concat()));
        assert_eq!(range(b"a\xFF\xFF").1, [b"(", &*member(b"b")].concat());
        // All of the pile: the successor of its last digit.
        assert_eq!(range(b"\xFF").1, b"(\x00432010200000002");
    }

    #[test]
    fn sessions_are_read_as_they_are_written_and_sort_by_run() {
        let id = SessionId { incarnation: 0xABC, counter: u64::MAX };
        let fence = fence(session(id).as_bytes(), b"1760000000000").expect("a fence");
        assert_eq!((fence.session, fence.epoch), (id, Epoch(1_760_000_000_000)));
        assert!(session(id).starts_with(&run(id.incarnation)));
        assert!(run(9) < run(10) && run(u64::MAX - 1) < run(u64::MAX));
    }

    #[test]
    fn members_of_other_releases_are_read() {
        let newer = br#"{"incarnation":7,"node":"a","peer":"b:1","version":"9","zone":{"name":"x"}}"#;
        let read = member(newer).expect("is read");
        assert_eq!((read.incarnation, &*read.node, read.draining), (7, "a", false));
        assert_eq!(member(&say(&read)), Ok(read));
        assert!(member(b"7").is_err());
    }
}
