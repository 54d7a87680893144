//! Variable ends of a body: counted groups, groups and text up to the end. Bounded by the bytes that are there.

use std::ops::Deref;

use bytes::{BufMut, BytesMut};

use super::text::{TooLong, shown};
use super::{FieldSpec, Reason};
use super::{Group, Kind, TextKind};

/// The variable end of a body, its count field included.
pub trait Tail: Sized {
    /// Width of the count field in front; 0 if the tail runs to the end of the body.
    const COUNT_WIDTH: usize;
    /// How it is shown.
    const KIND: Kind;
    /// Reads from `rest`, the body from the count field on, and says how many bytes it took.
    fn decode(rest: &[u8]) -> Result<(Self, usize), TailError>;
    /// Appends count field and content.
    fn encode(&self, out: &mut BytesMut);
}

/// What is wrong with a tail, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailError {
    /// Whether the count field is to blame, not the content.
    pub in_count: bool,
    /// Byte within the tail, count field included.
    pub at: usize,
    /// What is wrong.
    pub reason: Reason,
}

/// One entry of a group: rows of fixed fields.
pub trait Entry: Sized {
    /// Bytes of one entry.
    const WIDTH: usize;
    /// Its fields, offsets counted from the entry's start.
    const FIELDS: &'static [FieldSpec];
    /// Reads exactly [`Entry::WIDTH`] bytes.
    fn read(bytes: &[u8]) -> Self;
    /// Appends the entry.
    fn write(&self, out: &mut BytesMut);
}

/// More entries than a frame can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{entries} entries, at most {max}")]
pub struct TooMany {
    /// How many were given.
    pub entries: usize,
    /// How many are allowed.
    pub max: usize,
}

/// A count byte and as many entries, at most `MAX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted<E, const MAX: usize>(Vec<E>);

/// Entries up to the end of the body, at most `MAX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToEnd<E, const MAX: usize>(Vec<E>);

/// A little-endian count field of `W` bytes and as many bytes of text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CountedText<const W: usize>(Vec<u8>);

/// Text up to the end of the body; a device pads it with zeros.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextToEnd(Vec<u8>);

macro_rules! entries {
    ($Name:ident) => {
        impl<E, const MAX: usize> $Name<E, MAX> {
            /// At most `MAX` entries.
            pub fn new(entries: Vec<E>) -> Result<Self, TooMany> {
                if entries.len() > MAX { Err(TooMany { entries: entries.len(), max: MAX }) } else { Ok(Self(entries)) }
            }
        }

        impl<E, const MAX: usize> Deref for $Name<E, MAX> {
            type Target = [E];
            fn deref(&self) -> &[E] {
                &self.0
            }
        }
    };
}
entries!(Counted);
entries!(ToEnd);

impl<E: Entry, const MAX: usize> Tail for Counted<E, MAX> {
    const COUNT_WIDTH: usize = 1;
    const KIND: Kind = Kind::Group(Group { entry: E::FIELDS, max: MAX, count_width: 1, also: None });

    fn decode(rest: &[u8]) -> Result<(Self, usize), TailError> {
        let Some((count, rest)) = rest.split_first() else {
            return Err(TailError { in_count: true, at: 0, reason: Reason::Cut { missing: 1 } });
        };
        let count = usize::from(*count);
        if count > MAX {
            return Err(TailError { in_count: true, at: 0, reason: Reason::TooMany { count, max: MAX } });
        }
        let Some(entries) = rest.get(..count * E::WIDTH) else {
            return Err(cut_entry::<E>(1, rest.len(), count * E::WIDTH));
        };
        Ok((Self(entries.chunks_exact(E::WIDTH).map(E::read).collect()), 1 + entries.len()))
    }

    fn encode(&self, out: &mut BytesMut) {
        // `new` and `decode` bound the number by MAX, which fits a byte in every row.
        out.put_u8(self.0.len() as u8);
        self.0.iter().for_each(|entry| entry.write(out));
    }
}

impl<E: Entry, const MAX: usize> Tail for ToEnd<E, MAX> {
    const COUNT_WIDTH: usize = 0;
    const KIND: Kind = Kind::Group(Group { entry: E::FIELDS, max: MAX, count_width: 0, also: None });

    fn decode(rest: &[u8]) -> Result<(Self, usize), TailError> {
        let known = &rest[..rest.len().min(MAX * E::WIDTH)];
        if !known.len().is_multiple_of(E::WIDTH) {
            return Err(cut_entry::<E>(0, known.len(), known.len().next_multiple_of(E::WIDTH)));
        }
        Ok((Self(known.chunks_exact(E::WIDTH).map(E::read).collect()), known.len()))
    }

    fn encode(&self, out: &mut BytesMut) {
        self.0.iter().for_each(|entry| entry.write(out));
    }
}

impl<const W: usize> CountedText<W> {
    /// At most 200 bytes, as the document says; the frame's length byte would allow little more.
    pub fn new(text: &str) -> Result<Self, TooLong> {
        bounded(text).map(Self)
    }

    /// The text.
    pub fn text(&self) -> String {
        shown(&self.0)
    }
}

impl<const W: usize> Tail for CountedText<W> {
    const COUNT_WIDTH: usize = W;
    const KIND: Kind = Kind::Text(TextKind::Counted(W));

    fn decode(rest: &[u8]) -> Result<(Self, usize), TailError> {
        let Some((count, rest)) = rest.split_at_checked(W) else {
            return Err(TailError { in_count: true, at: 0, reason: Reason::Cut { missing: W - rest.len() } });
        };
        let count = count.iter().rev().fold(0, |count, byte| count << 8 | usize::from(*byte));
        let Some(text) = rest.get(..count) else {
            return Err(TailError { in_count: false, at: W, reason: Reason::Cut { missing: count - rest.len() } });
        };
        Ok((Self(text.to_vec()), W + count))
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_uint_le(self.0.len() as u64, W);
        out.put_slice(&self.0);
    }
}

impl TextToEnd {
    /// At most 200 bytes.
    pub fn new(text: &str) -> Result<Self, TooLong> {
        bounded(text).map(Self)
    }

    /// The text without the padding.
    pub fn text(&self) -> String {
        shown(&self.0)
    }
}

impl Tail for TextToEnd {
    const COUNT_WIDTH: usize = 0;
    const KIND: Kind = Kind::Text(TextKind::ToEnd);

    fn decode(rest: &[u8]) -> Result<(Self, usize), TailError> {
        Ok((Self(rest.to_vec()), rest.len()))
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_slice(&self.0);
    }
}

/// The first field of an entry that `have` bytes of content do not hold, `want` being needed.
pub(in crate::wire) fn cut_entry<E: Entry>(count_width: usize, have: usize, want: usize) -> TailError {
    let (whole, within) = (have / E::WIDTH, have % E::WIDTH);
    let cut = E::FIELDS.iter().find(|field| field.offset + field.len.unwrap_or(0) > within);
    TailError {
        in_count: false,
        at: count_width + whole * E::WIDTH + cut.map_or(0, |field| field.offset),
        reason: Reason::CutEntry { entry: whole, field: cut.map_or("", |field| field.name), missing: want - have },
    }
}

fn bounded(text: &str) -> Result<Vec<u8>, TooLong> {
    const MAX: usize = 200;
    if text.len() > MAX { Err(TooLong { bytes: text.len(), room: MAX }) } else { Ok(text.as_bytes().to_vec()) }
}
