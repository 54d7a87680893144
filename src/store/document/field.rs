//! Single fields, and enumerations.

use bytes::Bytes;
use jiff::civil::DateTime;

use crate::domain::{Gun, PileCode, Serial, WallMs};

/// Why a document cannot be read: the field and what is wrong with it.
#[derive(Debug)]
pub struct Unreadable(pub String);

pub(super) fn bad(field: &str, value: impl std::fmt::Display) -> Unreadable {
    Unreadable(format!("{field} = {value}: not known here"))
}

pub(super) fn required<T>(field: &str, value: Option<T>) -> Result<T, Unreadable> {
    value.ok_or_else(|| Unreadable(format!("{field} is missing")))
}

pub(super) fn bytes<const N: usize>(field: &str, value: &Bytes) -> Result<[u8; N], Unreadable> {
    let found = value.len();
    value[..].try_into().map_err(|_| Unreadable(format!("{field} has {found} bytes, not {N}")))
}

pub(super) fn array<T, const N: usize>(field: &str, value: Vec<T>) -> Result<[T; N], Unreadable> {
    let found = value.len();
    value.try_into().map_err(|_| Unreadable(format!("{field} has {found} items, not {N}")))
}

pub(super) fn small<T: TryFrom<u32>>(field: &str, value: u32) -> Result<T, Unreadable> {
    T::try_from(value).map_err(|_| bad(field, value))
}

pub(super) fn pile(value: &Bytes) -> Result<PileCode, Unreadable> {
    PileCode::from_bcd(bytes("pile", value)?).map_err(|error| Unreadable(error.to_string()))
}

pub(super) fn gun(value: u32) -> Result<Gun, Unreadable> {
    Gun::new(small("gun", value)?).map_err(|error| Unreadable(error.to_string()))
}

pub(super) fn serial(value: &Bytes) -> Result<Serial, Unreadable> {
    bytes("serial", value).map(Serial::from_bytes)
}

/// Hex digits of at most `limit`: what a caller sends must not size an allocation.
pub(in crate::store) fn unhex(text: &str, limit: usize) -> Option<Vec<u8>> {
    if text.len() > limit || !text.len().is_multiple_of(2) {
        return None;
    }
    let nibble = |b: &u8| (*b as char).to_digit(16).map(|n| n as u8);
    text.as_bytes().chunks_exact(2).map(|pair| Some(nibble(&pair[0])? << 4 | nibble(&pair[1])?)).collect()
}

pub(super) fn packed(value: &[u8]) -> Bytes {
    Bytes::copy_from_slice(value)
}

/// A pile's wall clock, as text: it has no zone.
pub(super) fn clock(field: &str, value: Option<String>) -> Result<Option<DateTime>, Unreadable> {
    value.map(|text| text.parse().map_err(|_| bad(field, text))).transpose()
}

pub(super) fn clock_text(value: Option<DateTime>) -> Option<String> {
    value.map(|at| at.to_string())
}

pub(super) fn wall(value: Option<i64>) -> Option<WallMs> {
    value.map(WallMs)
}

/// Both directions of an enumeration from one list. The first match has no `_`: a new variant stops the build.
macro_rules! enumeration {
    ($domain:ty, $stored:ident: $($variant:ident)*) => {
        impl From<$domain> for v1::$stored {
            fn from(value: $domain) -> Self {
                match value { $(<$domain>::$variant => Self::$variant,)* }
            }
        }

        impl TryFrom<v1::$stored> for $domain {
            type Error = Unreadable;

            fn try_from(value: v1::$stored) -> Result<Self, Unreadable> {
                match value {
                    $(v1::$stored::$variant => Ok(Self::$variant),)*
                    v1::$stored::Unspecified => Err(Unreadable(concat!(stringify!($stored), " is missing").to_owned())),
                }
            }
        }
    };
}

pub(super) use enumeration;

/// A stored number as the enumeration `S` of the protos, then as the domain's `T`.
pub(super) fn enumerated<S, T>(field: &str, value: i32) -> Result<T, Unreadable>
where
    S: TryFrom<i32>,
    T: TryFrom<S, Error = Unreadable>,
{
    S::try_from(value).map_err(|_| bad(field, value))?.try_into()
}
