//! What energy costs: the price at a time, and the cost of an energy curve across periods and midnight.
//!
//! Integers, and three roundings, each stated where it happens and nowhere else:
//!
//! * **energy** – where a curve crosses a half hour, the meter is read *down* to 0.0001 kWh. What is cut off goes to the
//!   next piece, so that the pieces always sum to the whole, and no class is off by a whole unit per crossing;
//! * **loss energy** – energy × (1 + ratio), once per class, half up to 0.0001 kWh ([`LossRatio::apply`]);
//! * **money** – price × loss energy, once per class, half up to 0.0001 CNY ([`Price::cost`](super::Price::cost)). The
//!   service fee is the amount less the energy fee, as in a [`Bill`](crate::domain::Bill): sums close.

use jiff::civil::{DateTime, date};

use super::{Period, PricePair, Tariff};
use crate::domain::units::{Amount, Energy, Price};

impl Tariff {
    /// Energy price and service price in force at `local`, on the pile's wall clock.
    pub fn prices_at(&self, local: DateTime) -> PricePair {
        self.prices_of(self.period_at(local))
    }

    /// The first half hour after `local`: the prices hold at least until then. `None` at the end of the calendar.
    pub fn next_half_hour(local: DateTime) -> Option<DateTime> {
        let into = millis(local).rem_euclid(HALF_HOUR_MS);
        let whole = local.with().subsec_nanosecond(local.subsec_nanosecond() / 1_000_000 * 1_000_000).build().ok()?;
        whole.checked_add(jiff::SignedDuration::from_millis(HALF_HOUR_MS - into)).ok()
    }

    /// Which classes are in force at some moment of `from..=to`, by [`Period::index`]. None, if `to` is earlier.
    pub fn periods_between(&self, from: DateTime, to: DateTime) -> [bool; 4] {
        let mut seen = [false; 4];
        let (first, last) = (millis(from).div_euclid(HALF_HOUR_MS), millis(to).div_euclid(HALF_HOUR_MS));
        for half_hour in (first..=last).take(self.half_hours.len()) {
            seen[self.class_of(half_hour).index()] = true;
        }
        seen
    }

    /// What a charge along `curve` costs with this tariff.
    pub fn cost(&self, curve: &Curve, loss: LossRatio) -> Cost {
        let mut energies = [Energy(0); 4];
        for pair in curve.points.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            let mut read = from;
            while read.at < to.at {
                let half_hour = read.at.div_euclid(HALF_HOUR_MS);
                let at = to.at.min((half_hour + 1) * HALF_HOUR_MS);
                let next = Point { at, energy: between(from, to, at) };
                energies[self.class_of(half_hour).index()] += next.energy - read.energy;
                read = next;
            }
        }
        self.cost_of(energies, loss)
    }

    /// What these energies cost, by [`Period::index`].
    pub fn cost_of(&self, energies: [Energy; 4], loss: LossRatio) -> Cost {
        Cost {
            periods: Period::ALL.map(|period| {
                let (prices, energy) = (self.prices_of(period), energies[period.index()]);
                let loss_energy = loss.apply(energy);
                let amount = prices.unit().cost(loss_energy);
                let energy_fee = prices.energy.cost(loss_energy);
                let service_fee = amount - energy_fee;
                PeriodCost { unit_price: prices.unit(), energy, loss_energy, energy_fee, service_fee, amount }
            }),
        }
    }

    /// Half hours are numbered on from 1970, and every day has the same 48.
    fn class_of(&self, half_hour: i64) -> Period {
        self.half_hours[half_hour.rem_euclid(self.half_hours.len() as i64) as usize]
    }
}

/// What is added to energy for what is lost between meter and vehicle (计损比例): billed is energy × (1 + ratio). In
/// 0.1 %, at most 100 %. What the byte in 0x0A means is not documented, so we send 0 there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LossRatio(u16);

impl LossRatio {
    pub const MAX_PERMILLE: u16 = 1000;

    pub fn from_permille(permille: u16) -> Option<Self> {
        (permille <= Self::MAX_PERMILLE).then_some(Self(permille))
    }

    pub fn permille(self) -> u16 {
        self.0
    }

    /// What is billed for `energy`, rounded half up to 0.0001 kWh.
    pub fn apply(self, energy: Energy) -> Energy {
        let thousandths = u128::from(energy.0) * u128::from(1000 + self.0);
        Energy(u64::try_from((thousandths + 500) / 1000).unwrap_or(u64::MAX))
    }
}

/// Readings of a meter over time, on the pile's wall clock: neither time nor energy goes back. Between two of them power
/// is constant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Curve {
    /// At least one.
    points: Vec<Point>,
}

/// Why readings are no curve. `at` counts from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadCurve {
    #[error("a curve has at least one point")]
    Empty,
    /// Two readings of one moment are two powers, or none.
    #[error("point {at} is not later than the one before")]
    TimeStands { at: usize },
    #[error("point {at} has less energy than the one before")]
    EnergyFalls { at: usize },
    #[error("point {at} is more than 31 days after the first")]
    TooLong { at: usize },
}

impl Curve {
    /// Longer than any charge, and short enough to go through half hour by half hour.
    const MAX_MS: i64 = 31 * 24 * 3600 * 1000;

    /// What the meter read when, to the millisecond; the first reading need not be 0.
    pub fn new(readings: impl IntoIterator<Item = (DateTime, Energy)>) -> Result<Self, BadCurve> {
        let mut points: Vec<Point> = vec![];
        for (at, (time, energy)) in readings.into_iter().enumerate() {
            let point = Point { at: millis(time), energy };
            if let Some(before) = points.last() {
                if point.at <= before.at {
                    return Err(BadCurve::TimeStands { at });
                }
                if point.energy < before.energy {
                    return Err(BadCurve::EnergyFalls { at });
                }
                if point.at - points[0].at > Self::MAX_MS {
                    return Err(BadCurve::TooLong { at });
                }
            }
            points.push(point);
        }
        if points.is_empty() { Err(BadCurve::Empty) } else { Ok(Self { points }) }
    }

    /// From the first reading to the last.
    pub fn energy(&self) -> Energy {
        self.points.last().map_or(Energy(0), |last| last.energy - self.points[0].energy)
    }
}

/// What a charge costs, class by class, as a record would say it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    /// By [`Period::index`].
    pub periods: [PeriodCost; 4],
}

/// One price class of it. `energy_fee + service_fee` is `amount`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeriodCost {
    /// Energy price + service price.
    pub unit_price: Price,
    pub energy: Energy,
    pub loss_energy: Energy,
    pub energy_fee: Amount,
    pub service_fee: Amount,
    pub amount: Amount,
}

impl Cost {
    pub fn energy(&self) -> Energy {
        self.periods.iter().map(|period| period.energy).sum()
    }

    pub fn loss_energy(&self) -> Energy {
        self.periods.iter().map(|period| period.loss_energy).sum()
    }

    pub fn energy_fee(&self) -> Amount {
        self.periods.iter().map(|period| period.energy_fee).sum()
    }

    pub fn service_fee(&self) -> Amount {
        self.periods.iter().map(|period| period.service_fee).sum()
    }

    pub fn amount(&self) -> Amount {
        self.periods.iter().map(|period| period.amount).sum()
    }
}

/// A reading; `at` as [`millis`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Point {
    at: i64,
    energy: Energy,
}

/// The reading at `at`, which is between the two, rounded down.
fn between(from: Point, to: Point, at: i64) -> Energy {
    let (span, passed) = ((to.at - from.at).unsigned_abs(), (at - from.at).unsigned_abs());
    let gained = u128::from(to.energy.0 - from.energy.0) * u128::from(passed) / u128::from(span.max(1));
    // Not more than was gained in the whole span.
    Energy(from.energy.0 + gained as u64)
}

/// Milliseconds of a wall clock since 1970 began on it.
fn millis(local: DateTime) -> i64 {
    let since = local.duration_since(date(1970, 1, 1).at(0, 0, 0, 0));
    since.as_secs() * 1000 + i64::from(since.subsec_nanos()).div_euclid(1_000_000)
}

const HALF_HOUR_MS: i64 = 30 * 60 * 1000;

#[cfg(test)]
mod tests;
