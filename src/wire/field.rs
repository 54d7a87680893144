//! Field types: what stands in a row's type column.
//!
//! A type knows its width, how it reads and writes its bytes, and – as data – how it is shown ([`Kind`]). Scale, bias
//! and opaqueness live here and nowhere else. No bit pattern is refused: what a pile sent survives decode, log and
//! re-encode, so the only thing that can be wrong with a fixed field is that the body ends before it.

mod bits;
mod clock;
mod ident;
mod label;
mod quantity;
pub(super) mod tail;
pub(super) mod text;

pub use bits::BitSpec;
pub use clock::{Civil, Cp56Time2a};
pub use ident::{Bcd, GunIndex, GunNo, NotHex, Opaque, PileCode, Serial, TariffNo};
pub use label::Labels;
pub use quantity::{
    Amount, AmpHours, Amps, AmpsOffset, Balance, CellVolts, Decimal, Energy, EnergyTenths, Kilowatts, MeterEnergy,
    Minutes, MinutesShort, Ordinal, Percent, PercentTenths, Price, ProductionYear, ProtocolVersion, Scale, Temp,
    TempOrNone, U24, Volts,
};
pub use tail::{Counted, CountedText, Entry, Tail, TailError, TextToEnd, ToEnd, TooMany};
pub use text::{Ascii, ReversedAscii, TooLong, VinReversed};

pub(super) use bits::bits;
pub(super) use label::open_enum;

use std::fmt;

/// A field of fixed width.
pub trait Field: Sized {
    /// Bytes on the wire.
    const WIDTH: usize;
    /// How it is shown.
    const KIND: Kind;
    /// Reads `bytes`, which are exactly [`Field::WIDTH`] long: the table's rows slice them with constants.
    fn read(bytes: &[u8]) -> Self;
    /// Writes into `out`, which is exactly [`Field::WIDTH`] long.
    fn write(&self, out: &mut [u8]);
}

/// What a field is, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldSpec {
    /// Name.
    pub name: &'static str,
    /// First byte within the body, or within the entry of a group.
    pub offset: usize,
    /// Width in bytes; `None` if it varies.
    pub len: Option<usize>,
    /// How it is shown.
    pub kind: Kind,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No frame has this type byte.
    UnknownType,
    /// The body ends within or before it.
    Cut {
        /// Bytes that are not there.
        missing: usize,
    },
    /// The body ends within an entry of a group.
    CutEntry {
        /// Which entry, from 0.
        entry: usize,
        /// The entry's field that is cut.
        field: &'static str,
        /// Bytes that are not there, for all entries announced.
        missing: usize,
    },
    /// More entries than the document allows.
    TooMany {
        /// Announced.
        count: usize,
        /// Allowed.
        max: usize,
    },
    /// The entries have nine bytes, as in the document's sample: the clear flag is missing (A32).
    NoClearFlag,
}

/// How a field's bytes are shown and, given back as `raw`, read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// BCD and byte strings: lower-case hex, never a number, because real BCD contains hex letters.
    Hex,
    /// ASCII, padded with zeros; the VIN of 0x31, 0xA1 and 0xA5 is sent back to front.
    Text(TextKind),
    /// CP56Time2a.
    Time,
    /// A little-endian unsigned number.
    Number(Scale),
    /// One byte of an open enumeration.
    Label(Labels),
    /// An array of one-byte enumerations, one per half hour.
    LabelArray(Labels),
    /// A bit field.
    Bits(&'static [BitSpec]),
    /// A group repeated as often as its count field says, or to the end of the body.
    Group(Group),
}

/// Where a text's length comes from and in which order its characters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// Fixed width.
    Plain,
    /// Fixed width, last character first.
    Reversed,
    /// As many bytes as the count field of this width in front of it says.
    Counted(usize),
    /// The rest of the body.
    ToEnd,
}

/// A repeated group of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The fields of one entry.
    pub entry: &'static [FieldSpec],
    /// The most entries the document allows.
    pub max: usize,
    /// Width of the count field in front of the group; 0: the group runs to the end of the body.
    pub count_width: usize,
    /// A second layout of an entry that devices use, told apart by divisibility (A32).
    pub also: Option<&'static [FieldSpec]>,
}

impl Kind {
    /// A number that is just a number.
    pub(super) const PLAIN: Kind = Kind::Number(Scale::PLAIN);
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType => write!(f, "no frame has this type byte"),
            Self::Cut { missing } => write!(f, "the body ends {missing} byte{} too early for it", plural(*missing)),
            Self::CutEntry { entry, field, missing } => {
                write!(
                    f,
                    "the body ends within `{field}` of entry {entry}, {missing} byte{} too early",
                    plural(*missing)
                )
            }
            Self::TooMany { count, max } => write!(f, "{count} entries, at most {max} are allowed"),
            Self::NoClearFlag => write!(f, "the entries have 9 bytes: the clear flag `cleared` is missing"),
        }
    }
}

macro_rules! plain_integer {
    ($($ty:ty),*) => {$(
        impl Field for $ty {
            const WIDTH: usize = size_of::<$ty>();
            const KIND: Kind = Kind::PLAIN;
            #[inline]
            fn read(bytes: &[u8]) -> Self {
                let mut raw = [0; size_of::<$ty>()];
                raw.copy_from_slice(bytes);
                <$ty>::from_le_bytes(raw)
            }
            #[inline]
            fn write(&self, out: &mut [u8]) {
                out.copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
plain_integer!(u8, u16, u32);

const fn plural(number: usize) -> &'static str {
    if number == 1 { "" } else { "s" }
}
