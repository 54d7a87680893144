//! Quantities. Integers end to end: money and energy are never floats.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01 UTC, from this node's clock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct WallMs(pub i64);

impl WallMs {
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add_unsigned(ms))
    }

    /// Milliseconds from `earlier` to `self`; 0 if `earlier` is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0).max(0) as u64
    }

    /// The wall clock of a pile whose zone is `offset_s` seconds east of UTC.
    pub fn local(self, offset: UtcOffset) -> DateTime {
        let ms = self.0.clamp(0, MAX_MS);
        let at = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        at.to_zoned(TimeZone::fixed(offset.0)).datetime()
    }
}

/// A fixed offset from UTC in seconds: the zone of a pile's clock. The protocol never states it; +08:00 is observed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UtcOffset(Offset);

impl UtcOffset {
    /// `seconds` east of UTC, −14 h to +14 h.
    pub fn from_seconds(seconds: i32) -> Option<Self> {
        (seconds.abs() <= 14 * 3600).then(|| Offset::from_seconds(seconds).ok().map(Self)).flatten()
    }

    /// From text like `+08:00`.
    pub fn parse(text: &str) -> Option<Self> {
        let (sign, rest) = match text.split_at_checked(1)? {
            ("+", rest) => (1, rest),
            ("-", rest) => (-1, rest),
            _ => return None,
        };
        let (h, m) = rest.split_once(':')?;
        let two_digits = |t: &str| (t.len() == 2).then(|| t.parse::<i32>().ok()).flatten();
        let (h, m) = (two_digits(h)?, two_digits(m).filter(|m| *m < 60)?);
        Self::from_seconds(sign * (h * 3600 + m * 60))
    }

    /// The instant at which a clock of this zone shows `local`; `None` outside the representable range.
    pub fn instant(self, local: DateTime) -> Option<WallMs> {
        let zoned = local.to_zoned(TimeZone::fixed(self.0)).ok()?;
        Some(WallMs(zoned.timestamp().as_millisecond()))
    }
}

impl fmt::Display for UtcOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0.seconds();
        let sign = if s < 0 { '-' } else { '+' };
        write!(f, "{sign}{:02}:{:02}", s.abs() / 3600, s.abs() / 60 % 60)
    }
}

/// Energy in units of 0.0001 kWh (0.1 Wh), as in 0x13 and the record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Energy(pub u64);

impl Energy {
    /// Milliwatt-hours: the API's unit. What does not fit is the largest value: it came from a socket.
    pub fn mwh(self) -> u64 {
        self.0.saturating_mul(100)
    }
}

/// Money of a charge in units of 0.0001 CNY, as in 0x13 and the record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Amount(pub i64);

/// A price in units of 0.00001 CNY per kWh, as in 0x0A, 0x58 and the record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Price(pub u32);

impl Price {
    /// What `energy` costs at this price, rounded half up to 0.0001 CNY.
    pub fn cost(self, energy: Energy) -> Amount {
        // 1e-5 CNY/kWh × 1e-4 kWh = 1e-9 CNY; an amount is 1e-4 CNY.
        let nano = u128::from(self.0) * u128::from(energy.0);
        Amount(i64::try_from((nano + 50_000) / 100_000).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Energy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:04}", self.0 / 10_000, self.0 % 10_000)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let abs = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:04}", abs / 10_000, abs % 10_000)
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:05}", self.0 / 100_000, self.0 % 100_000)
    }
}

macro_rules! sums {
    ($($unit:ident)*) => {$(
        impl Add for $unit {
            type Output = Self;
            fn add(self, other: Self) -> Self { Self(self.0.saturating_add(other.0)) }
        }
        impl Sub for $unit {
            type Output = Self;
            fn sub(self, other: Self) -> Self { Self(self.0.saturating_sub(other.0)) }
        }
        impl AddAssign for $unit {
            fn add_assign(&mut self, other: Self) { *self = *self + other; }
        }
        impl std::iter::Sum for $unit {
            fn sum<I: Iterator<Item = Self>>(items: I) -> Self { items.fold(Self::default(), Add::add) }
        }
    )*};
}

sums! { Energy Amount Price }

/// 9999-12-30T00:00:00Z: leaves room for every offset.
const MAX_MS: i64 = 253_402_128_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_rounds_half_up_to_a_ten_thousandth() {
        let check = |price, energy, amount| assert_eq!(Price(price).cost(Energy(energy)), Amount(amount));
        check(140_000, 123_456, 172_838); // 1.4 × 12.3456 = 17.28384
        check(110_000, 54_321, 59_753); // 1.1 × 5.4321 = 5.97531
        check(50_000, 1, 1); // 0.5 × 0.0001 = 0.00005 rounds up
        check(49_999, 1, 0);
        check(u32::MAX, u64::MAX, i64::MAX);
    }

    #[test]
    fn milliwatt_hours_have_an_end() {
        assert_eq!(Energy(46_223).mwh(), 4_622_300);
        assert_eq!(Energy(u64::MAX).mwh(), u64::MAX);
    }

    #[test]
    fn offsets_read_and_print() {
        for text in ["+08:00", "-03:30", "+00:00"] {
            assert_eq!(UtcOffset::parse(text).expect(text).to_string(), text);
        }
        for bad in ["", "8", "+8:00", "+08:60", "+15:00", "08:00", "+0x:00", "é8:00"] {
            assert!(UtcOffset::parse(bad).is_none(), "{bad}");
        }
        let local = WallMs(1_737_549_716_937).local(UtcOffset::parse("+08:00").expect("offset"));
        assert_eq!(local.to_string(), "2025-01-22T20:41:56.937");
        assert_eq!(UtcOffset::parse("+08:00").expect("offset").instant(local), Some(WallMs(1_737_549_716_937)));
    }
}
