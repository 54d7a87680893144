//! The record: the pile's own bill for an order (0x3B; 0x3F in V1.4, 0x3D in V1.7). Whether it is right is in [`audit`].

pub mod audit;

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use super::ids::{Gun, PileCode, Serial};
use super::tariff::{Period, Tariff};
use super::units::{Amount, Energy, Price};
use audit::Finding;

/// What the pile says an order cost, number by number, and the bytes it said it with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    pub pile: PileCode,
    pub gun: Gun,
    pub serial: Serial,
    /// Wall clock of the pile; `None` if it sent zeros or nonsense.
    pub started: Option<DateTime>,
    pub ended: Option<DateTime>,
    pub traded: Option<DateTime>,
    /// By [`Period::index`].
    pub periods: [RecordedPeriod; 4],
    pub meter_start: Energy,
    pub meter_end: Energy,
    pub total_energy: Energy,
    pub total_loss_energy: Energy,
    pub total_amount: Amount,
    /// Reading order; empty if unknown.
    pub vin: String,
    /// Raw `start_type`: 1 app, 2 card, 4 offline card, 5 VIN; others occur.
    pub start_type: u8,
    /// Raw `stop_reason` and its meaning, e.g. "Finished: SOC reached 100 %"; empty for codes no document names.
    pub stop_reason: u8,
    pub stop_reason_name: String,
    /// Opaque; all zero if none.
    pub physical_card: [u8; 8],
    /// Frame code and body as received: evidence, and what tells a copy from a conflict.
    pub code: u8,
    pub body: Vec<u8>,
}

impl Record {
    /// A copy has the same frame code and body; anything else under the same serial is a conflict.
    pub fn same_as(&self, other: &Self) -> bool {
        self.code == other.code && self.body == other.body
    }

    /// Start failures have stop reasons 0x4A–0x69 and no energy: nothing was delivered.
    pub fn is_failed_start(&self) -> bool {
        (0x4A..=0x69).contains(&self.stop_reason) && self.total_energy == Energy(0)
    }
}

/// One price class of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RecordedPeriod {
    /// Energy price + service price.
    pub unit_price: Price,
    pub energy: Energy,
    /// Equals `energy` while no loss ratio is set.
    pub loss_energy: Energy,
    pub amount: Amount,
}

/// A settled order's bill: the pile's numbers, with each amount split into energy fee and service fee.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bill {
    pub record: Record,
    /// By [`Period::index`]; `None` when the tariff the pile billed with is not known here.
    pub fees: Option<[Fees; 4]>,
    /// What the audit found when the order was settled; empty if the record fits.
    #[serde(default)]
    pub audit: Vec<Finding>,
}

impl Bill {
    /// Splits with `tariff`, the one we had given the pile at the start – unless the record's own prices say that it billed
    /// with another. The energy fee is energy price × loss energy; the service fee is what remains of the pile's amount,
    /// so that sums always close.
    pub fn new(record: Record, tariff: Option<&Tariff>, audit: Vec<Finding>) -> Self {
        let billed_with = |tariff: &&Tariff| {
            Period::ALL.into_iter().zip(record.periods).all(|(period, billed)| {
                billed.loss_energy == Energy(0) || billed.unit_price == tariff.prices_of(period).unit()
            })
        };
        let fees = tariff.filter(billed_with).map(|tariff| {
            Period::ALL.map(|period| {
                let billed = record.periods[period.index()];
                let energy = tariff.prices_of(period).energy.cost(billed.loss_energy).min(billed.amount);
                Fees { energy, service: billed.amount - energy }
            })
        });
        Self { record, fees, audit }
    }

    /// Energy fee and service fee of the whole charge.
    pub fn total_fees(&self) -> Option<Fees> {
        let fees = self.fees.as_ref()?;
        let energy: Amount = fees.iter().map(|f| f.energy).sum();
        Some(Fees { energy, service: self.record.total_amount - energy })
    }
}

/// An amount in its two parts, 0.0001 CNY each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Fees {
    pub energy: Amount,
    pub service: Amount,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::tariff::PricePair;

    fn record(unit_price: u32) -> Record {
        let mut periods = [RecordedPeriod::default(); 4];
        let (energy, amount) = (Energy(100_000), Amount(140_000));
        periods[1] = RecordedPeriod { unit_price: Price(unit_price), energy, loss_energy: energy, amount };
        Record {
            pile: "32010600019236".parse().expect("14 digits"),
            gun: Gun::new(1).expect("a gun"),
            serial: Serial::NONE,
            started: None,
            ended: None,
            traded: None,
            periods,
            meter_start: Energy(0),
            meter_end: energy,
            total_energy: energy,
            total_loss_energy: energy,
            total_amount: amount,
            vin: String::new(),
            start_type: 1,
            stop_reason: 0x40,
            stop_reason_name: String::new(),
            physical_card: [0; 8],
            code: 0x3B,
            body: vec![],
        }
    }

    #[test]
    fn fees_are_split_only_with_the_tariff_the_record_was_billed_with() {
        let price = PricePair { energy: Price(100_000), service: Price(40_000) };
        let tariff = Tariff { prices: [price; 4], half_hours: [Period::Peak; 48] };
        let total = |unit| Bill::new(record(unit), Some(&tariff), vec![]).total_fees();
        assert_eq!(total(140_000), Some(Fees { energy: Amount(100_000), service: Amount(40_000) }));
        assert_eq!(total(130_000), None, "another price: another tariff");
        assert_eq!(Bill::new(record(140_000), None, vec![]).total_fees(), None);
    }
}
