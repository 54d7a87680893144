//! Names of things: piles, guns, orders, sessions, requests.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A pile code: 14 decimal digits, kept packed two to a byte as the protocol sends them.
///
/// Leading zeros matter; codes are compared as text. Source: every frame's `pile_code`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PileCode([u8; 7]);

impl PileCode {
    /// From the seven wire bytes. Hex letters are no pile code: such a pile cannot be named by any caller.
    pub fn from_bcd(bytes: [u8; 7]) -> Result<Self, BadId> {
        if bytes.iter().all(|b| b >> 4 <= 9 && b & 0x0F <= 9) {
            Ok(Self(bytes))
        } else {
            Err(BadId { what: "pile", value: hex(&bytes), reason: "must be 14 decimal digits" })
        }
    }

    /// The seven packed bytes.
    pub fn bcd(&self) -> [u8; 7] {
        self.0
    }
}

impl FromStr for PileCode {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let digits = text.len() == 14 && text.bytes().all(|b| b.is_ascii_digit());
        let bad = || BadId { what: "pile", value: shortened(text), reason: "must be 14 decimal digits" };
        let bytes = digits.then(|| unhex::<7>(text)).flatten().ok_or_else(bad)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for PileCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for PileCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PileCode({self})")
    }
}

/// A gun (connector) of a pile: 1 to 255. Most piles have one or two.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Gun(std::num::NonZeroU8);

impl Gun {
    pub fn new(number: u8) -> Result<Self, BadId> {
        let bad = || BadId { what: "gun", value: number.to_string(), reason: "guns are numbered from 1" };
        std::num::NonZeroU8::new(number).map(Self).ok_or_else(bad)
    }

    pub fn number(self) -> u8 {
        self.0.get()
    }
}

impl fmt::Display for Gun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A transaction serial: 32 hex digits, opaque. Ours follow the protocol's rule (§4); a pile's own need not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial([u8; 16]);

impl Serial {
    /// All zero: "no transaction" in 0x13.
    pub const NONE: Self = Self([0; 16]);

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub fn bytes(&self) -> [u8; 16] {
        self.0
    }

    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// A new serial by the protocol's rule: pile code, gun, `YYMMDDhhmmss` of the pile's wall clock, and a counter of
    /// four digits, here `salt` modulo 10,000 (random, so that two nodes seldom meet).
    pub fn compose(pile: PileCode, gun: Gun, local: jiff::civil::DateTime, salt: u16) -> Self {
        let mut bytes = [0; 16];
        bytes[..7].copy_from_slice(&pile.bcd());
        bytes[7] = bcd(gun.number() % 100);
        bytes[8..14].copy_from_slice(&Self::clock(local));
        let salt = salt % 10_000;
        bytes[14] = bcd((salt / 100) as u8);
        bytes[15] = bcd((salt % 100) as u8);
        Self(bytes)
    }

    /// `YYMMDDhhmmss`, packed.
    pub fn clock(local: jiff::civil::DateTime) -> [u8; 6] {
        let parts = [
            local.year().rem_euclid(100) as u8,
            local.month() as u8,
            local.day() as u8,
            local.hour() as u8,
            local.minute() as u8,
            local.second() as u8,
        ];
        parts.map(bcd)
    }
}

impl FromStr for Serial {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId { what: "serial", value: shortened(text), reason: "must be 32 hex digits" };
        unhex::<16>(text).map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

/// One pile's login on one connection. `incarnation` names one run of one node process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId {
    pub incarnation: u64,
    pub counter: u64,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.incarnation, self.counter)
    }
}

/// Orders the owners of one pile in time; `max(stored + 1, claimer's unix milliseconds)`. Never compared across piles.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// What proves that a write comes from the pile's present owner. Compared for equality.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Fence {
    pub session: SessionId,
    pub epoch: Epoch,
}

/// A caller's `request_id`: a UUID that names one attempt, kept for 24 h.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId([u8; 16]);

impl RequestId {
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub fn bytes(&self) -> [u8; 16] {
        self.0
    }
}

impl FromStr for RequestId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId { what: "request_id", value: shortened(text), reason: "must be a UUID" };
        let dashes = [8, 13, 18, 23];
        if text.len() != 36 || !text.is_ascii() || dashes.iter().any(|&at| text.as_bytes()[at] != b'-') {
            return Err(bad());
        }
        unhex::<16>(&text.replace('-', "")).map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let h = hex(&self.0);
        write!(f, "{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({self})")
    }
}

/// A name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} = \"{value}\": {reason}")]
pub struct BadId {
    pub what: &'static str,
    pub value: String,
    pub reason: &'static str,
}

/// Between nodes, names travel as the text people know them by.
macro_rules! as_text {
    ($($Name:ident)+) => {$(
        impl Serialize for $Name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $Name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(de::Error::custom)
            }
        }
    )+};
}

as_text! { PileCode Serial RequestId }

/// Lower-case hex text.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [b >> 4, b & 0x0F]).map(|n| DIGITS[n as usize] as char).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (to, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let nibble = |b: u8| (b as char).to_digit(16).map(|n| n as u8);
        *to = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

fn bcd(n: u8) -> u8 {
    ((n / 10) << 4) | (n % 10)
}

/// What a caller sent may be long; what an error repeats is not.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_follows_the_rule_of_the_protocol() {
        let pile: PileCode = "32010600019236".parse().expect("14 digits");
        let gun = Gun::new(1).expect("a gun");
        let local = jiff::civil::date(2020, 1, 6).at(18, 3, 42, 0);
        assert_eq!(Serial::compose(pile, gun, local, 3060).to_string(), "32010600019236012001061803423060");
    }

    #[test]
    fn names_that_are_none_say_so() {
        for bad in ["", "1", "3201060001923x", "320106000192361", "3201060001923é"] {
            assert!(bad.parse::<PileCode>().is_err(), "{bad}");
        }
        assert!(PileCode::from_bcd([0xFA; 7]).is_err());
        assert!(Gun::new(0).is_err());
        assert!("xyz".parse::<Serial>().is_err());
        assert!("123e4567-e89b-12d3-a456-42661417400".parse::<RequestId>().is_err());
        let id = "123e4567-e89b-12d3-a456-426614174000";
        assert_eq!(id.parse::<RequestId>().expect("a UUID").to_string(), id);
    }
}
