//! ASCII fields: left-aligned, padded with zeros on the right.

use std::fmt;

use super::{Field, Kind, TextKind};

/// Text of `N` bytes. Bytes that are not ASCII are kept and shown as a replacement character.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ascii<const N: usize>(pub [u8; N]);

/// Text of `N` bytes sent last character first: the VIN of 0x31, 0xA1 and 0xA5 (A19).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReversedAscii<const N: usize>(pub [u8; N]);

/// The VIN of a start request.
pub type VinReversed = ReversedAscii<17>;

/// Text that does not fit its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes of text, the field has {room}")]
pub struct TooLong {
    /// Bytes of the text.
    pub bytes: usize,
    /// Bytes of the field.
    pub room: usize,
}

impl<const N: usize> Ascii<N> {
    /// No text.
    pub const ZERO: Self = Self([0; N]);

    /// Pads with zeros; an error when `text` is too long.
    pub fn new(text: &str) -> Result<Self, TooLong> {
        let mut raw = [0; N];
        let room = raw.get_mut(..text.len()).ok_or(TooLong { bytes: text.len(), room: N })?;
        room.copy_from_slice(text.as_bytes());
        Ok(Self(raw))
    }

    /// The text without the trailing zeros.
    pub fn text(&self) -> String {
        shown(&self.0)
    }
}

impl<const N: usize> ReversedAscii<N> {
    /// No text.
    pub const ZERO: Self = Self([0; N]);

    /// From text in reading order, as sent by the document's rule: reversed. An error when `text` is too long.
    pub fn new(text: &str) -> Result<Self, TooLong> {
        let Ascii(mut raw) = Ascii::<N>::new(text)?;
        raw[..text.len()].reverse();
        Ok(Self(raw))
    }

    /// The text in reading order, taken as sent by the document's rule.
    pub fn text(&self) -> String {
        shown_reversed(&self.0)
    }

    /// The text as on the wire: the reading order of piles that do not reverse.
    pub fn wire_text(&self) -> String {
        shown(&self.0)
    }
}

macro_rules! text_field {
    ($Name:ident, $kind:expr) => {
        impl<const N: usize> Field for $Name<N> {
            const WIDTH: usize = N;
            const KIND: Kind = Kind::Text($kind);
            #[inline]
            fn read(bytes: &[u8]) -> Self {
                let mut raw = [0; N];
                raw.copy_from_slice(bytes);
                Self(raw)
            }
            #[inline]
            fn write(&self, out: &mut [u8]) {
                out.copy_from_slice(&self.0);
            }
        }

        impl<const N: usize> fmt::Debug for $Name<N> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.text().fmt(f)
            }
        }
    };
}
text_field!(Ascii, TextKind::Plain);
text_field!(ReversedAscii, TextKind::Reversed);

/// Text in wire order, without the zeros behind it.
pub(in crate::wire) fn shown(bytes: &[u8]) -> String {
    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    bytes[..end].iter().map(|b| if b.is_ascii() { char::from(*b) } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// Text in reading order. The padding may stand on either side: some devices reverse the whole field.
pub(in crate::wire) fn shown_reversed(bytes: &[u8]) -> String {
    let reversed: Vec<u8> = bytes.iter().rev().copied().skip_while(|b| *b == 0).collect();
    shown(&reversed)
}
