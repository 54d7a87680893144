//! A body as named values: what `pileway decode`, the API and logs show. Works from the rows, on bytes, so that it also
//! shows what is whole in a body that is cut.

use super::field::text::{shown, shown_reversed};
use super::field::{BitSpec, Civil, Cp56Time2a, Decimal, Field, FieldSpec, Group, Kind, Labels, TextKind};
use super::table::FrameSpec;

/// A field's value, with the bytes it was read from.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// BCD or a byte string.
    Hex(&'a [u8]),
    /// Text in reading order, without padding.
    Text {
        /// As on the wire.
        raw: &'a [u8],
        /// To read.
        text: String,
    },
    /// A time; `None` if it is zero or does not exist.
    Time {
        /// As on the wire.
        raw: &'a [u8],
        /// To read.
        civil: Option<Civil>,
    },
    /// A number.
    Number {
        /// As on the wire.
        raw: u64,
        /// For scaled numbers: the value, or `None` inside for "no value" (A13).
        scaled: Option<Option<Decimal>>,
        /// Unit, if there is one.
        unit: Option<&'static str>,
    },
    /// An enumeration; `None`: nobody named this value.
    Label {
        /// As on the wire.
        raw: u8,
        /// The protocol's word.
        label: Option<&'static str>,
    },
    /// One enumeration per half hour.
    LabelArray {
        /// As on the wire.
        raw: &'a [u8],
        /// The named values.
        labels: Labels,
    },
    /// A bit field.
    Bits {
        /// As on the wire.
        raw: u16,
        /// Its members.
        members: &'static [BitSpec],
    },
    /// Entries of a group.
    Group(Vec<Vec<(&'static FieldSpec, Value<'a>)>>),
}

impl FrameSpec {
    /// The fields of a body, in order, as far as they are whole.
    pub fn values<'a>(&'static self, body: &'a [u8]) -> impl Iterator<Item = (&'static FieldSpec, Value<'a>)> {
        self.fields.iter().map_while(move |field| Some((field, value(field, body)?)))
    }
}

/// The word for a raw value.
pub fn label(labels: Labels, raw: u8) -> Option<&'static str> {
    labels.iter().find(|(value, _)| *value == raw).map(|(_, label)| *label)
}

/// Where a field of varying width ends; `body.len()` at most.
fn end(field: &FieldSpec, body: &[u8]) -> Option<usize> {
    let rest = body.len().checked_sub(field.offset)?;
    let counted = |width: usize| number(&body[field.offset - width..field.offset]) as usize;
    let len = match (field.len, field.kind) {
        (Some(len), _) => len,
        (None, Kind::Text(TextKind::Counted(width))) => counted(width),
        // A cut group shows the entries that are whole.
        (None, Kind::Group(group)) if group.count_width > 0 => {
            rest.min(counted(group.count_width).min(group.max) * width(group.entry))
        }
        (None, _) => rest,
    };
    (len <= rest).then_some(field.offset + len)
}

fn value<'a>(field: &'static FieldSpec, body: &'a [u8]) -> Option<Value<'a>> {
    let bytes = body.get(field.offset..end(field, body)?)?;
    Some(match field.kind {
        Kind::Hex => Value::Hex(bytes),
        Kind::Text(TextKind::Reversed) => Value::Text { raw: bytes, text: shown_reversed(bytes) },
        Kind::Text(TextKind::Plain | TextKind::Counted(_) | TextKind::ToEnd) => {
            Value::Text { raw: bytes, text: shown(bytes) }
        }
        Kind::Time => Value::Time { raw: bytes, civil: Cp56Time2a::read(bytes).civil() },
        Kind::Number(scale) => {
            let raw = number(bytes);
            Value::Number { raw, scaled: scale.decimals.map(|_| scale.value(raw)), unit: scale.unit }
        }
        Kind::Label(labels) => Value::Label { raw: bytes[0], label: label(labels, bytes[0]) },
        Kind::LabelArray(labels) => Value::LabelArray { raw: bytes, labels },
        Kind::Bits(members) => Value::Bits { raw: number(bytes) as u16, members },
        Kind::Group(group) => Value::Group(entries(group, bytes)),
    })
}

fn entries(group: Group, bytes: &[u8]) -> Vec<Vec<(&'static FieldSpec, Value<'_>)>> {
    let fits = |entry: &[FieldSpec]| bytes.len().is_multiple_of(width(entry));
    let entry = match group.also {
        Some(also) if fits(also) && !fits(group.entry) => also,
        Some(_) | None => group.entry,
    };
    let whole = bytes.chunks_exact(width(entry));
    whole.map(|bytes| entry.iter().filter_map(|field| Some((field, value(field, bytes)?))).collect()).collect()
}

/// Bytes of one entry; its fields are all of fixed width.
fn width(entry: &[FieldSpec]) -> usize {
    entry.last().map_or(1, |last| last.offset + last.len.unwrap_or(0))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
