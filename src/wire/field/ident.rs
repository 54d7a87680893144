//! Identifiers and byte strings: opaque, compared byte by byte, shown as hex.

use std::fmt;
use std::str::FromStr;

use super::{Field, Kind};

/// Text that should have been exactly so many hex digits and is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {digits} hex digits")]
pub struct NotHex {
    /// How many digits were wanted.
    pub digits: usize,
}

macro_rules! hex_bytes {
    ($($(#[$doc:meta])* $Name:ident [$width:expr] $(<const $N:ident>)?;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $Name $(<const $N: usize>)? (pub [u8; $width]);

        impl $(<const $N: usize>)? $Name $(<$N>)? {
            /// All zero: what a pile sends for "none".
            pub const ZERO: Self = Self([0; $width]);

            /// Whether all bytes are zero.
            pub fn is_zero(&self) -> bool {
                self.0.iter().all(|b| *b == 0)
            }
        }

        impl $(<const $N: usize>)? Field for $Name $(<$N>)? {
            const WIDTH: usize = $width;
            const KIND: Kind = Kind::Hex;
            #[inline]
            fn read(bytes: &[u8]) -> Self {
                let mut raw = [0; $width];
                raw.copy_from_slice(bytes);
                Self(raw)
            }
            #[inline]
            fn write(&self, out: &mut [u8]) {
                out.copy_from_slice(&self.0);
            }
        }

        impl $(<const $N: usize>)? fmt::Display for $Name $(<$N>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl $(<const $N: usize>)? fmt::Debug for $Name $(<$N>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl $(<const $N: usize>)? FromStr for $Name $(<$N>)? {
            type Err = NotHex;
            /// Accepts exactly two hex digits per byte.
            fn from_str(text: &str) -> Result<Self, NotHex> {
                let mut raw = [0; $width];
                read_hex(text, &mut raw)?;
                Ok(Self(raw))
            }
        }
    )*};
}

hex_bytes! {
    /// A pile's name: 14 digits, leading zeros matter (A10).
    PileCode [7];
    /// A transaction serial: 16 opaque bytes (A11); all zero in 0x13 when idle.
    Serial [16];
    /// A tariff model number: two opaque bytes, echoed as received (A16); `00 00` means "none yet".
    TariffNo [2];
    /// `N` bytes of packed decimal. Real traffic has hex letters in it, so it is never turned into a number.
    Bcd [N] <const N>;
    /// `N` bytes kept in the order of the wire: card numbers, passwords, cable codes, BMS versions (A20, A21, A40).
    Opaque [N] <const N>;
}

/// A gun's number, 1-based: BCD by the document, plain binary from many firmwares; the same up to 9 (A9).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GunNo(pub u8);

impl GunNo {
    /// The gun's number on a pile with `gun_count` guns.
    ///
    /// A nibble above 9 can only be binary. Where both readings are possible (0x10 is BCD 10 or binary 16) it is binary
    /// if the pile has that many guns, else BCD; pass 0 for an unknown count.
    pub fn number(self, gun_count: u8) -> u8 {
        let (high, low) = (self.0 >> 4, self.0 & 0x0F);
        if high > 9 || low > 9 || self.0 <= gun_count { self.0 } else { high * 10 + low }
    }

    /// BCD, as the document wants it. Numbers above 99 have no BCD byte and stay binary.
    pub const fn from_number(number: u8) -> Self {
        if number > 99 { Self(number) } else { Self(((number / 10) << 4) | (number % 10)) }
    }
}

impl Field for GunNo {
    const WIDTH: usize = 1;
    const KIND: Kind = Kind::Hex;
    #[inline]
    fn read(bytes: &[u8]) -> Self {
        Self(bytes[0])
    }
    #[inline]
    fn write(&self, out: &mut [u8]) {
        out[0] = self.0;
    }
}

impl fmt::Display for GunNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&[self.0], f)
    }
}

impl fmt::Debug for GunNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&[self.0], f)
    }
}

/// A gun's number, 1-based and binary: 0x61, 0x62, 0x63 and 0x9C.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GunIndex(pub u8);

impl Field for GunIndex {
    const WIDTH: usize = 1;
    const KIND: Kind = Kind::PLAIN;
    #[inline]
    fn read(bytes: &[u8]) -> Self {
        Self(bytes[0])
    }
    #[inline]
    fn write(&self, out: &mut [u8]) {
        out[0] = self.0;
    }
}

/// Writes bytes as lower-case hex.
pub(super) fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

fn read_hex(text: &str, out: &mut [u8]) -> Result<(), NotHex> {
    let refused = NotHex { digits: out.len() * 2 };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != out.len() || !rest.is_empty() {
        return Err(refused);
    }
    for (byte, pair) in out.iter_mut().zip(pairs) {
        let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else { return Err(refused) };
        *byte = high << 4 | low;
    }
    Ok(())
}

fn digit(letter: u8) -> Option<u8> {
    char::from(letter).to_digit(16).map(|d| d as u8)
}
