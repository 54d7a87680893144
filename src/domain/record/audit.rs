//! The audit: does a record agree with itself, with the tariff the pile had, and with what was seen of the order?
//!
//! A finding never keeps an order from being settled: it is for people to look at. What cannot be known – the tariff of
//! a charge that began offline, how long one took that was never seen – is not judged.
//!
//! A record says most things several times: a class's energy is also in the total, in the loss energy, and on the meter.
//! Each such relation is an [`Equation`]. If some do not hold, the field that is wrong is, most likely, the one that is in
//! most of those, and in none that holds exactly.
//!
//! **Tolerances.** Sums are exact. An amount may be one unit (0.0001 CNY) off, because piles round up, down or half up. A
//! meter may be one step of a common meter ([`METER_STEP`]) off, and live telemetry as much ahead. What a pile's clock
//! says may be [`CLOCK_SLACK_MS`] off what was seen, because clocks are set in mid-charge; the zone of that clock is not
//! known here, so times are compared with what was seen by their distance only.

use jiff::SignedDuration;
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use super::{Record, RecordedPeriod};
use crate::domain::ids::Gun;
use crate::domain::tariff::{Period, Tariff};
use crate::domain::units::{Amount, Energy, Price, WallMs};

mod equation;

use equation::{Equation, Value, diagnose};

/// What the order knows that a record can be held against.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub gun: Gun,
    /// The `start_type`s this order can have; empty if not known.
    pub start_types: &'static [u8],
    /// The charge cannot have begun earlier.
    pub not_before: Option<WallMs>,
    /// The first and the last 0x13 that charged under this serial.
    pub charging: Option<(WallMs, WallMs)>,
    /// When the charge was seen to have ended.
    pub ended_at: Option<WallMs>,
    /// When the record came.
    pub now: WallMs,
    /// What 0x13 last metered.
    pub metered: Option<(Energy, Amount)>,
    /// What the pile was known to bill with.
    pub tariff: Option<&'a Tariff>,
}

/// Something in a record that does not fit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finding {
    pub check: Check,
    pub field: Field,
    /// What the field would have to be if everything else were right, and what it is: decimals in kWh, CNY, CNY/kWh, or
    /// the text of a time.
    pub expected: String,
    pub actual: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Amount of a class = unit price × loss energy.
    PeriodAmount,
    /// Total energy = sum of the classes.
    EnergySum,
    /// Total loss energy = sum of the classes.
    LossEnergySum,
    /// Total amount = sum of the classes.
    AmountSum,
    /// Meter at the end − meter at the start = total energy.
    Meter,
    /// Loss energy is not less than energy, and by one ratio in all classes.
    LossRatio,
    /// Unit prices are those of the tariff the pile had confirmed.
    UnitPrice,
    /// Start, end and trade are in this order.
    TimeOrder,
    /// The times fit what was seen of the order.
    Sightings,
    /// Energy only in classes the tariff has between start and end.
    PeriodHours,
    /// Not less than what 0x13 said last.
    Telemetry,
    /// The order's gun.
    Gun,
    /// The way the order was started.
    StartType,
    /// 17 letters and digits without I, O and Q, or none.
    Vin,
}

impl Check {
    pub const ALL: [Self; 14] = [
        Self::PeriodAmount,
        Self::EnergySum,
        Self::LossEnergySum,
        Self::AmountSum,
        Self::Meter,
        Self::LossRatio,
        Self::UnitPrice,
        Self::TimeOrder,
        Self::Sightings,
        Self::PeriodHours,
        Self::Telemetry,
        Self::Gun,
        Self::StartType,
        Self::Vin,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::PeriodAmount => "period_amount",
            Self::EnergySum => "energy_sum",
            Self::LossEnergySum => "loss_energy_sum",
            Self::AmountSum => "amount_sum",
            Self::Meter => "meter",
            Self::LossRatio => "loss_ratio",
            Self::UnitPrice => "unit_price",
            Self::TimeOrder => "time_order",
            Self::Sightings => "sightings",
            Self::PeriodHours => "period_hours",
            Self::Telemetry => "telemetry",
            Self::Gun => "gun",
            Self::StartType => "start_type",
            Self::Vin => "vin",
        }
    }
}

/// A field of the record that can be judged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    GunNo,
    StartTime,
    EndTime,
    TradeTime,
    UnitPrice(Period),
    Energy(Period),
    LossEnergy(Period),
    Amount(Period),
    MeterStart,
    MeterEnd,
    TotalEnergy,
    TotalLossEnergy,
    TotalAmount,
    Vin,
    StartType,
}

impl Field {
    pub fn all() -> impl Iterator<Item = Self> {
        let of_order = [Self::GunNo, Self::StartTime, Self::EndTime, Self::TradeTime, Self::Vin, Self::StartType];
        let of_class = [Self::UnitPrice, Self::Energy, Self::LossEnergy, Self::Amount];
        let of_classes = Period::ALL.into_iter().flat_map(move |period| of_class.map(|field| field(period)));
        let totals = [Self::MeterStart, Self::MeterEnd, Self::TotalEnergy, Self::TotalLossEnergy, Self::TotalAmount];
        of_order.into_iter().chain(of_classes).chain(totals)
    }

    /// As the rows of 0x3B call it.
    pub fn name(self) -> &'static str {
        let of = |names: [&'static str; 4], period: Period| names[period.index()];
        match self {
            Self::GunNo => "gun_no",
            Self::StartTime => "start_time",
            Self::EndTime => "end_time",
            Self::TradeTime => "trade_time",
            Self::UnitPrice(p) => {
                of(["sharp_unit_price", "peak_unit_price", "flat_unit_price", "valley_unit_price"], p)
            }
            Self::Energy(p) => of(["sharp_energy", "peak_energy", "flat_energy", "valley_energy"], p),
            Self::LossEnergy(p) => {
                of(["sharp_loss_energy", "peak_loss_energy", "flat_loss_energy", "valley_loss_energy"], p)
            }
            Self::Amount(p) => of(["sharp_amount", "peak_amount", "flat_amount", "valley_amount"], p),
            Self::MeterStart => "meter_start",
            Self::MeterEnd => "meter_end",
            Self::TotalEnergy => "total_energy",
            Self::TotalLossEnergy => "total_loss_energy",
            Self::TotalAmount => "total_amount",
            Self::Vin => "vin",
            Self::StartType => "start_type",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|field| field.name() == name)
    }
}

/// Everything in `record` that does not fit; empty if it is clean.
pub fn audit(record: &Record, facts: &Facts) -> Vec<Finding> {
    let mut findings = diagnose(&amounts(record, facts), |field| Value::of(record, field));
    findings.extend(diagnose(&times(record, facts), |field| Value::of(record, field)));
    findings.extend(hours(record, facts.tariff));
    findings.extend(identity(record, facts));
    findings
}

/// Energies, prices and amounts.
fn amounts(record: &Record, facts: &Facts) -> Vec<Equation> {
    let mut equations = vec![];
    let total_energy = whole(record.total_energy);
    let total_loss = whole(record.total_loss_energy);
    let classes = Period::ALL.map(|period| (period, record.periods[period.index()]));

    for (period, billed) in classes.iter().filter(|(_, billed)| is_used(billed)) {
        if let Some(tariff) = facts.tariff {
            let expected = Value::Price(tariff.prices_of(*period).unit().0.into());
            let suspects = vec![(Field::UnitPrice(*period), expected.clone())];
            let holds = expected == Value::Price(billed.unit_price.0.into());
            equations.push(Equation { check: Check::UnitPrice, holds, clears: 1, suspects });
        }
    }

    equations.push(Equation::sum(Check::EnergySum, Field::Energy, Field::TotalEnergy, record, Value::Energy));
    let loss_energies = (Field::LossEnergy as fn(Period) -> Field, Field::TotalLossEnergy);
    equations.push(Equation::sum(Check::LossEnergySum, loss_energies.0, loss_energies.1, record, Value::Energy));
    equations.push(Equation::sum(Check::AmountSum, Field::Amount, Field::TotalAmount, record, Value::Amount));

    for (period, billed) in classes {
        let RecordedPeriod { unit_price, energy: _, loss_energy, amount } = billed;
        let expected = unit_price.cost(loss_energy);
        let off = amount.0.abs_diff(expected.0);
        // What the others would have to be: to the unit for which the amount is this one.
        let nano = i128::from(amount.0) * 100_000;
        let suspects = vec![
            (Field::Amount(period), Value::Amount(expected.0.into())),
            (Field::LossEnergy(period), Value::Energy(nano / i128::from(unit_price.0.max(1)))),
            (Field::UnitPrice(period), Value::Price(nano / whole(loss_energy).max(1))),
        ];
        // Another energy or price may round to the same amount.
        let clears = usize::from(off == 0);
        equations.push(Equation { check: Check::PeriodAmount, holds: off <= AMOUNT_STEP, clears, suspects });
    }

    equations.push(meter(record));

    // An energy of 1 unit with a ratio of 10 % may be 1 or 2: the total has each class's rounding in it as well.
    let used = classes.iter().filter(|(_, billed)| is_used(billed)).count() as i128;
    for (period, billed) in classes.into_iter().filter(|(_, billed)| is_used(billed)) {
        let (energy, loss) = (whole(billed.energy), whole(billed.loss_energy));
        let (ours, theirs) = (loss.saturating_mul(total_energy), energy.saturating_mul(total_loss));
        let off = (ours - theirs).abs();
        let suspects = vec![
            (Field::LossEnergy(period), Value::Energy(theirs / total_energy.max(1))),
            (Field::Energy(period), Value::Energy(ours / total_loss.max(1))),
            (Field::TotalLossEnergy, Value::Energy(ours / energy.max(1))),
            (Field::TotalEnergy, Value::Energy(theirs / loss.max(1))),
        ];
        let holds = off <= total_energy + used * energy;
        equations.push(Equation { check: Check::LossRatio, holds, clears: 0, suspects });
        let suspects =
            vec![(Field::LossEnergy(period), Value::Energy(energy)), (Field::Energy(period), Value::Energy(loss))];
        equations.push(Equation { check: Check::LossRatio, holds: loss >= energy, clears: 0, suspects });
    }

    if let Some((energy, amount)) = facts.metered {
        let dearest = record.periods.iter().map(|billed| billed.unit_price).max().unwrap_or_default();
        let ahead = whole(energy) - total_energy;
        let suspects = vec![(Field::TotalEnergy, Value::Energy(whole(energy)))];
        let holds = ahead <= whole(METER_STEP);
        equations.push(Equation { check: Check::Telemetry, holds, clears: 0, suspects });
        let ahead = amount - record.total_amount;
        let suspects = vec![(Field::TotalAmount, Value::Amount(amount.0.into()))];
        let holds = ahead <= dearest.cost(METER_STEP) + Amount(1);
        equations.push(Equation { check: Check::Telemetry, holds, clears: 0, suspects });
    }
    equations
}

/// The meter of 0x3F has four bytes and begins anew after 429,496.7296 kWh; the others outlive the pile.
fn meter(record: &Record) -> Equation {
    let (start, end) = (whole(record.meter_start), whole(record.meter_end));
    let turn = if record.code == 0x3F && end < start { 1 << 32 } else { 0 };
    let total = whole(record.total_energy);
    let off = (end + turn - start - total).abs();
    let suspects = vec![
        (Field::MeterEnd, Value::Energy(start + total - turn)),
        (Field::MeterStart, Value::Energy(end + turn - total)),
        (Field::TotalEnergy, Value::Energy(end + turn - start)),
    ];
    let clears = if off == 0 { suspects.len() } else { 0 };
    Equation { check: Check::Meter, holds: off <= whole(METER_STEP), clears, suspects }
}

fn times(record: &Record, facts: &Facts) -> Vec<Equation> {
    let mut equations = vec![];
    let slack = SignedDuration::from_millis(CLOCK_SLACK_MS);
    let after = |from: WallMs, to: WallMs| SignedDuration::from_millis(to.since(from) as i64);
    let mut check = |check, holds, first: (Field, DateTime), second: (Field, DateTime)| {
        let suspects = vec![(first.0, Value::Time(first.1)), (second.0, Value::Time(second.1))];
        equations.push(Equation { check, holds, clears: 0, suspects });
    };
    if let (Some(start), Some(end)) = (record.started, record.ended) {
        let took = end.duration_since(start);
        check(Check::TimeOrder, start <= end, (Field::EndTime, start), (Field::StartTime, end));
        if let Some((first, last)) = facts.charging {
            let seen = after(first, last);
            let (end_then, start_then) = (start.saturating_add(seen), end.saturating_sub(seen));
            let holds = took >= seen - slack;
            check(Check::Sightings, holds, (Field::EndTime, end_then), (Field::StartTime, start_then));
        }
        if let Some(first) = facts.not_before {
            let at_most = after(first, facts.ended_at.unwrap_or(facts.now));
            let (end_then, start_then) = (start.saturating_add(at_most), end.saturating_sub(at_most));
            let holds = took <= at_most + slack;
            check(Check::Sightings, holds, (Field::EndTime, end_then), (Field::StartTime, start_then));
        }
    }
    if let (Some(end), Some(trade)) = (record.ended, record.traded) {
        let holds = trade.duration_since(end) >= -SignedDuration::from_millis(EDGE_MS);
        check(Check::TimeOrder, holds, (Field::TradeTime, end), (Field::EndTime, trade));
    }
    if let (Some(start), Some(trade), Some(first)) = (record.started, record.traded, facts.not_before) {
        let at_most = after(first, facts.now);
        let (trade_then, start_then) = (start.saturating_add(at_most), trade.saturating_sub(at_most));
        let holds = trade.duration_since(start) <= at_most + slack;
        check(Check::Sightings, holds, (Field::TradeTime, trade_then), (Field::StartTime, start_then));
    }
    equations
}

/// Energy in classes that were not in force. The edges are soft: a pile may meter a moment before it looks at its clock.
fn hours(record: &Record, tariff: Option<&Tariff>) -> impl Iterator<Item = Finding> {
    let edge = SignedDuration::from_millis(EDGE_MS);
    let in_force = match (tariff, record.started, record.ended) {
        (Some(tariff), Some(start), Some(end)) if start <= end => {
            tariff.periods_between(start.saturating_sub(edge), end.saturating_add(edge))
        }
        _ => [true; 4],
    };
    let idle = Period::ALL.into_iter().filter(move |period| !in_force[period.index()]);
    idle.filter(|period| record.periods[period.index()].energy != Energy(0)).map(|period| {
        let field = Field::Energy(period);
        Finding::new(Check::PeriodHours, field, &Value::Energy(0), &Value::of(record, field))
    })
}

fn identity(record: &Record, facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![];
    let mut find = |check, field, expected: Value| {
        findings.push(Finding::new(check, field, &expected, &Value::of(record, field)));
    };
    if record.gun != facts.gun {
        find(Check::Gun, Field::GunNo, Value::Code(facts.gun.number()));
    }
    // Piles have codes of their own as well, which contradict nothing.
    let is_other = START_TYPES.contains(&record.start_type) && !facts.start_types.contains(&record.start_type);
    if let (Some(expected), true) = (facts.start_types.first(), is_other) {
        find(Check::StartType, Field::StartType, Value::Code(*expected));
    }
    let of_vin = |c: char| c.is_ascii_digit() || (c.is_ascii_uppercase() && !"IOQ".contains(c));
    let is_vin = record.vin.chars().count() == 17 && record.vin.chars().all(of_vin);
    if !(record.vin.is_empty() || is_vin) {
        find(Check::Vin, Field::Vin, Value::Text("17 letters and digits without I, O and Q".to_owned()));
    }
    findings
}

/// What is billed in this class, or should have been.
fn is_used(billed: &RecordedPeriod) -> bool {
    let RecordedPeriod { unit_price: Price(_), energy, loss_energy, amount } = *billed;
    energy != Energy(0) || loss_energy != Energy(0) || amount != Amount(0)
}

fn whole(energy: Energy) -> i128 {
    energy.0.into()
}

/// 0.01 kWh: the step of common meters.
const METER_STEP: Energy = Energy(100);
/// 0.0001 CNY.
const AMOUNT_STEP: u64 = 1;
/// A clock is set at login and daily, by as much as it was off.
const CLOCK_SLACK_MS: i64 = 30 * 60 * 1000;
/// Between two looks of a pile at its own clock.
const EDGE_MS: i64 = 60 * 1000;
/// Those that documents name: app, card, VIN (in one dialect), offline card, VIN.
const START_TYPES: [u8; 5] = [1, 2, 3, 4, 5];

#[cfg(test)]
mod tests;
