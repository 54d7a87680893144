//! A relation between fields of a record, and which of them is wrong if it does not hold.

use std::fmt;

use jiff::civil::DateTime;

use super::{Check, Field, Finding, whole};
use crate::domain::record::Record;
use crate::domain::tariff::Period;

pub(super) struct Equation {
    pub(super) check: Check,
    /// Within its tolerance.
    pub(super) holds: bool,
    /// How many of the first suspects cannot be wrong if it holds: those whose every other value would have broken it.
    pub(super) clears: usize,
    /// Every field in it, with what it would have to be if the others were right; the one most likely wrong first.
    pub(super) suspects: Vec<(Field, Value)>,
}

impl Equation {
    /// A total and the four classes it is the sum of, exactly.
    pub(super) fn sum(
        check: Check,
        part: fn(Period) -> Field,
        total: Field,
        record: &Record,
        unit: fn(i128) -> Value,
    ) -> Self {
        let number = |field| Value::of(record, field).number();
        let sum: i128 = Period::ALL.into_iter().map(|period| number(part(period))).sum();
        let missing = number(total) - sum;
        let parts = Period::ALL.into_iter().map(|period| (part(period), unit(number(part(period)) + missing)));
        let suspects: Vec<_> = [(total, unit(sum))].into_iter().chain(parts).collect();
        Self { check, holds: missing == 0, clears: suspects.len(), suspects }
    }

    fn has(&self, field: Field) -> bool {
        self.suspects.iter().any(|(suspect, _)| *suspect == field)
    }

    fn clears(&self, field: Field) -> bool {
        self.holds && self.suspects.iter().take(self.clears).any(|(suspect, _)| *suspect == field)
    }
}

/// The fields that are wrong, as far as can be told, each once: those that explain the most, until nothing is left to
/// explain. Of fields that explain equally much all are named.
pub(super) fn diagnose(equations: &[Equation], actual: impl Fn(Field) -> Value) -> Vec<Finding> {
    let mut broken: Vec<_> = equations.iter().filter(|equation| !equation.holds).collect();
    let is_cleared = |field: Field| equations.iter().any(|equation| equation.clears(field));
    let mut findings = vec![];
    while !broken.is_empty() {
        let explained = |field: Field| broken.iter().filter(|equation| equation.has(field)).count();
        let suspects = broken.iter().flat_map(|equation| &equation.suspects).map(|(field, _)| *field);
        let open: Vec<_> = suspects.filter(|field| !is_cleared(*field)).collect();
        let most = open.iter().map(|field| explained(*field)).max();
        let mut named: Vec<Field> = vec![];
        let foremost = open.into_iter().filter(|field| Some(explained(*field)) == most);
        // Where every field is cleared by something else, the one it is about is as good as any.
        let about = broken.iter().filter(|_| most.is_none()).filter_map(|equation| equation.suspects.first());
        for field in foremost.chain(about.map(|(field, _)| *field)) {
            if !named.contains(&field) {
                named.push(field);
            }
        }
        for field in &named {
            let judged = broken.iter().find_map(|equation| {
                let (_, expected) = equation.suspects.iter().find(|(suspect, _)| suspect == field)?;
                Some(Finding::new(equation.check, *field, expected, &actual(*field)))
            });
            findings.extend(judged);
        }
        broken.retain(|equation| !named.iter().any(|field| equation.has(*field)));
    }
    findings
}

/// What a field says, or should say. Numbers in the units of the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Value {
    Energy(i128),
    Amount(i128),
    Price(i128),
    Time(DateTime),
    Code(u8),
    Text(String),
}

impl Value {
    pub(super) fn of(record: &Record, field: Field) -> Self {
        let class = |period: Period| record.periods[period.index()];
        let time = |time: Option<DateTime>| time.map_or(Self::Text(String::new()), Self::Time);
        match field {
            Field::GunNo => Self::Code(record.gun.number()),
            Field::StartTime => time(record.started),
            Field::EndTime => time(record.ended),
            Field::TradeTime => time(record.traded),
            Field::UnitPrice(period) => Self::Price(class(period).unit_price.0.into()),
            Field::Energy(period) => Self::Energy(whole(class(period).energy)),
            Field::LossEnergy(period) => Self::Energy(whole(class(period).loss_energy)),
            Field::Amount(period) => Self::Amount(class(period).amount.0.into()),
            Field::MeterStart => Self::Energy(whole(record.meter_start)),
            Field::MeterEnd => Self::Energy(whole(record.meter_end)),
            Field::TotalEnergy => Self::Energy(whole(record.total_energy)),
            Field::TotalLossEnergy => Self::Energy(whole(record.total_loss_energy)),
            Field::TotalAmount => Self::Amount(record.total_amount.0.into()),
            Field::Vin => Self::Text(record.vin.clone()),
            Field::StartType => Self::Code(record.start_type),
        }
    }

    /// 0 for what is no number.
    fn number(&self) -> i128 {
        match self {
            Self::Energy(n) | Self::Amount(n) | Self::Price(n) => *n,
            Self::Code(code) => (*code).into(),
            Self::Time(_) | Self::Text(_) => 0,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut decimal = |n: i128, digits: usize| {
            let (sign, n, one) = (if n < 0 { "-" } else { "" }, n.unsigned_abs(), 10_u128.pow(digits as u32));
            write!(f, "{sign}{}.{:0digits$}", n / one, n % one)
        };
        match self {
            Self::Energy(n) | Self::Amount(n) => decimal(*n, 4),
            Self::Price(n) => decimal(*n, 5),
            Self::Time(at) => write!(f, "{at:.3}"),
            Self::Code(code) => code.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl Finding {
    pub(super) fn new(check: Check, field: Field, expected: &Value, actual: &Value) -> Self {
        Self { check, field, expected: expected.to_string(), actual: actual.to_string() }
    }
}
