//! Domain values to protobuf and back: the only place that knows both.
//!
//! Requests become commands and queries in [`args`]; resources are written by [`pile`], [`order`], [`vehicle`],
//! [`curve`] and [`telemetry`].
//! Conversions destructure without `..`, so that a new field stops the build where it must be handled.

pub mod args;
pub mod authorizer;
pub mod cluster;
pub mod estimate;
pub mod curve;
pub mod event;
pub mod order;
pub mod pile;
pub mod terms;
pub mod telemetry;
pub mod vehicle;

use jiff::civil::DateTime;

use super::pb;
use crate::domain::units::UtcOffset;
use crate::domain::{Amount, Energy, Price, WallMs};
use crate::store::{Gap, GapReason, Stamped};
use pb::google::r#type::Money;

/// Money of a charge: steps of 0.0001 CNY.
pub fn amount(amount: Amount) -> Money {
    money(amount.0, 10_000)
}

/// A price per kWh: steps of 0.00001 CNY.
pub fn price(price: Price) -> Money {
    money(i64::from(price.0), 100_000)
}

/// An account balance in 0.01 CNY.
pub fn balance(fen: u32) -> Money {
    money(i64::from(fen), 100)
}

/// What a caller of the API reads from an amount; `None` if it is not CNY, malformed or finer than 0.0001.
pub fn to_amount(money: &Money) -> Option<Amount> {
    steps(money, 10_000).map(Amount)
}

/// What a caller of the API reads from a price per kWh; `None` if it is not CNY, malformed, negative or finer than
/// 0.00001.
pub fn to_price(money: &Money) -> Option<Price> {
    steps(money, 100_000).and_then(|n| u32::try_from(n).ok()).map(Price)
}

/// `count` steps of which `per_unit` make one CNY.
fn money(count: i64, per_unit: i64) -> Money {
    let nanos = count % per_unit * (NANOS / per_unit);
    Money { currency_code: CNY.to_owned(), units: count / per_unit, nanos: nanos as i32 }
}

/// How many steps of 1/`per_unit` CNY, if it is a whole number of them.
fn steps(money: &Money, per_unit: i64) -> Option<i64> {
    let Money { currency_code, units, nanos } = money;
    let nanos = i64::from(*nanos);
    let one_sign = nanos == 0 || *units == 0 || (nanos < 0) == (*units < 0);
    let step = NANOS / per_unit;
    if currency_code != CNY || !one_sign || nanos.abs() >= NANOS || nanos % step != 0 {
        return None;
    }
    units.checked_mul(per_unit)?.checked_add(nanos / step)
}

pub fn energy_mwh(energy: Energy) -> i64 {
    integer(energy.mwh())
}

/// What a caller of the API reads from milliwatt-hours; `None` if it is negative or finer than 0.0001 kWh.
pub fn energy(mwh: i64) -> Option<Energy> {
    let mwh = u64::try_from(mwh).ok()?;
    (mwh % 100 == 0).then_some(Energy(mwh / 100))
}

pub fn timestamp(at: WallMs) -> prost_types::Timestamp {
    let nanos = at.0.rem_euclid(1000) * 1_000_000;
    prost_types::Timestamp { seconds: at.0.div_euclid(1000), nanos: nanos as i32 }
}

/// Milliseconds, and whether there is a rest; `None` outside the years 1 to 9999 or if malformed.
pub fn to_wall(at: prost_types::Timestamp) -> Option<(WallMs, bool)> {
    const YEARS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
    let valid = YEARS.contains(&at.seconds) && (0..NANOS).contains(&i64::from(at.nanos));
    valid.then(|| (WallMs(at.seconds * 1000 + i64::from(at.nanos / 1_000_000)), at.nanos % 1_000_000 != 0))
}

/// The pile's wall clock, and the instant it means in the zone `offset`.
pub fn pile_time(local: DateTime, offset: UtcOffset) -> pb::PileTime {
    pb::PileTime { text: format!("{local:.3}"), time: offset.instant(local).map(timestamp) }
}

pub fn position(stamped: &Stamped, offset: UtcOffset) -> pb::EventPosition {
    pb::EventPosition {
        event_id: stamped.event_id(),
        epoch: integer(stamped.epoch.0),
        seq: integer(stamped.seq),
        recorded_at: Some(timestamp(stamped.event.recorded_at)),
        pile_time: stamped.event.pile_time.map(|local| pile_time(local, offset)),
        late: stamped.late,
    }
}

/// That events are missing. Of partitions and offsets callers need to know no more than that they tell gaps apart.
pub fn gap(gap: Gap) -> pb::EventGap {
    let Gap { partition, from, to, reason } = gap;
    let reason = match reason {
        GapReason::Trimmed => pb::EventGapReason::Trimmed,
        GapReason::Lost => pb::EventGapReason::Lost,
    };
    pb::EventGap { partition: i32::from(partition.0), from: integer(from), to: integer(to), reason: reason.into() }
}

/// A byte that piles extend at will, with its name from a table of the document's names.
fn coded(code: u8, names: &[(u8, &str)]) -> pb::NamedCode {
    let name = names.iter().find(|(known, _)| *known == code).map_or("", |(_, name)| name);
    pb::NamedCode { code: i32::from(code), name: name.to_owned() }
}

/// Counters stay far below; what does not fit shows as the largest value.
fn integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn small(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

const CNY: &str = "CNY";
const NANOS: i64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact_both_ways() {
        let check = |count, units, nanos| {
            let made = amount(Amount(count));
            assert_eq!((made.units, made.nanos, made.currency_code.as_str()), (units, nanos, "CNY"));
            assert_eq!(to_amount(&made), Some(Amount(count)));
        };
        check(0, 0, 0);
        check(1, 0, 100_000);
        check(172_838, 17, 283_800_000);
        check(-15_000, -1, -500_000_000);
        check(i64::MAX, i64::MAX / 10_000, 580_700_000);
        let made = price(Price(u32::MAX));
        assert_eq!((made.units, made.nanos), (42_949, 672_950_000));
        assert_eq!(to_price(&made), Some(Price(u32::MAX)));
    }

    #[test]
    fn money_that_is_none_is_refused() {
        let check = |currency: &str, units, nanos| {
            let money = Money { currency_code: currency.to_owned(), units, nanos };
            assert_eq!(to_amount(&money), None, "{money:?}");
        };
        check("USD", 1, 0);
        check("", 1, 0);
        check("CNY", 1, -100_000);
        check("CNY", -1, 100_000);
        check("CNY", 1, 1_000_000_000);
        check("CNY", 1, i32::MIN);
        check("CNY", 0, 99_999);
        check("CNY", i64::MAX, 0);
    }

    #[test]
    fn times_are_exact_to_the_millisecond() {
        let check = |ms, seconds, nanos| {
            let made = timestamp(WallMs(ms));
            assert_eq!((made.seconds, made.nanos), (seconds, nanos));
            assert_eq!(to_wall(made), Some((WallMs(ms), false)));
        };
        check(0, 0, 0);
        check(1_737_549_716_937, 1_737_549_716, 937_000_000);
        check(-1, -1, 999_000_000);
        let at = |seconds, nanos| to_wall(prost_types::Timestamp { seconds, nanos });
        assert_eq!(at(1, 1), Some((WallMs(1000), true)));
        assert_eq!((at(i64::MAX, 0), at(0, -1), at(0, i32::MAX)), (None, None, None));
    }

    #[test]
    fn the_piles_clock_is_told_as_text_and_as_an_instant() {
        let local = jiff::civil::date(2025, 1, 22).at(20, 41, 56, 0);
        let told = pile_time(local, UtcOffset::parse("+08:00").expect("offset"));
        assert_eq!(told.text, "2025-01-22T20:41:56.000");
        assert_eq!(told.time, Some(timestamp(WallMs(1_737_549_716_000))));
    }
}
