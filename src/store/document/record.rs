//! The record, the bill made of it, and the tariff that splits it.

use super::field::{
    self, Unreadable, array, bad, bytes, clock, clock_text, enumerated, enumeration, packed, required, small,
};
use super::v1;
use crate::domain::record::audit::{Check, Field, Finding};
use crate::domain::record::{Fees, RecordedPeriod};
use crate::domain::tariff::{Period, PricePair};
use crate::domain::{Amount, Bill, Energy, Price, Record, Tariff};

impl From<&Record> for v1::Record {
    fn from(record: &Record) -> Self {
        let Record {
            pile,
            gun,
            serial,
            started,
            ended,
            traded,
            periods,
            meter_start,
            meter_end,
            total_energy,
            total_loss_energy,
            total_amount,
            vin,
            start_type,
            stop_reason,
            stop_reason_name,
            physical_card,
            code,
            body,
        } = record;
        Self {
            pile: packed(&pile.bcd()),
            gun: u32::from(gun.number()),
            serial: packed(&serial.bytes()),
            started: clock_text(*started),
            ended: clock_text(*ended),
            traded: clock_text(*traded),
            periods: periods.iter().map(Into::into).collect(),
            meter_start: meter_start.0,
            meter_end: meter_end.0,
            total_energy: total_energy.0,
            total_loss_energy: total_loss_energy.0,
            total_amount: total_amount.0,
            vin: vin.clone(),
            start_type: u32::from(*start_type),
            stop_reason: u32::from(*stop_reason),
            stop_reason_name: stop_reason_name.clone(),
            physical_card: packed(physical_card),
            code: u32::from(*code),
            body: packed(body),
        }
    }
}

impl TryFrom<v1::Record> for Record {
    type Error = Unreadable;

    fn try_from(stored: v1::Record) -> Result<Self, Unreadable> {
        let v1::Record {
            pile,
            gun,
            serial,
            started,
            ended,
            traded,
            periods,
            meter_start,
            meter_end,
            total_energy,
            total_loss_energy,
            total_amount,
            vin,
            start_type,
            stop_reason,
            stop_reason_name,
            physical_card,
            code,
            body,
        } = stored;
        Ok(Self {
            pile: field::pile(&pile)?,
            gun: field::gun(gun)?,
            serial: field::serial(&serial)?,
            started: clock("started", started)?,
            ended: clock("ended", ended)?,
            traded: clock("traded", traded)?,
            periods: array("periods", periods)?.map(Into::into),
            meter_start: Energy(meter_start),
            meter_end: Energy(meter_end),
            total_energy: Energy(total_energy),
            total_loss_energy: Energy(total_loss_energy),
            total_amount: Amount(total_amount),
            vin,
            start_type: small("start_type", start_type)?,
            stop_reason: small("stop_reason", stop_reason)?,
            stop_reason_name,
            physical_card: bytes("physical_card", &physical_card)?,
            code: small("code", code)?,
            body: body.into(),
        })
    }
}

impl From<&RecordedPeriod> for v1::RecordedPeriod {
    fn from(period: &RecordedPeriod) -> Self {
        let RecordedPeriod { unit_price, energy, loss_energy, amount } = *period;
        Self { unit_price: unit_price.0, energy: energy.0, loss_energy: loss_energy.0, amount: amount.0 }
    }
}

impl From<v1::RecordedPeriod> for RecordedPeriod {
    fn from(stored: v1::RecordedPeriod) -> Self {
        let v1::RecordedPeriod { unit_price, energy, loss_energy, amount } = stored;
        Self {
            unit_price: Price(unit_price),
            energy: Energy(energy),
            loss_energy: Energy(loss_energy),
            amount: Amount(amount),
        }
    }
}

impl From<&Bill> for v1::Bill {
    fn from(bill: &Bill) -> Self {
        let Bill { record, fees, audit } = bill;
        let fees =
            fees.iter().flatten().map(|Fees { energy, service }| v1::Fees { energy: energy.0, service: service.0 });
        Self { record: Some(record.into()), fees: fees.collect(), audit: audit.iter().map(Into::into).collect() }
    }
}

impl TryFrom<v1::Bill> for Bill {
    type Error = Unreadable;

    fn try_from(stored: v1::Bill) -> Result<Self, Unreadable> {
        let v1::Bill { record, fees, audit } = stored;
        let record = required("bill.record", record)?.try_into()?;
        let audit = audit.into_iter().map(Finding::try_from).collect::<Result<_, _>>()?;
        if fees.is_empty() {
            return Ok(Self { record, fees: None, audit });
        }
        let fees: [v1::Fees; 4] = array("bill.fees", fees)?;
        let fees = fees.map(|v1::Fees { energy, service }| Fees { energy: Amount(energy), service: Amount(service) });
        Ok(Self { record, fees: Some(fees), audit })
    }
}

impl From<&Finding> for v1::Finding {
    fn from(finding: &Finding) -> Self {
        let Finding { check, field, expected, actual } = finding;
        Self {
            check: v1::Check::from(*check).into(),
            field: field.name().to_owned(),
            expected: expected.clone(),
            actual: actual.clone(),
        }
    }
}

impl TryFrom<v1::Finding> for Finding {
    type Error = Unreadable;

    fn try_from(stored: v1::Finding) -> Result<Self, Unreadable> {
        let v1::Finding { check, field, expected, actual } = stored;
        Ok(Self {
            check: enumerated::<v1::Check, _>("finding.check", check)?,
            field: Field::from_name(&field).ok_or_else(|| bad("finding.field", field))?,
            expected,
            actual,
        })
    }
}

enumeration!(Check, Check:
    PeriodAmount EnergySum LossEnergySum AmountSum Meter LossRatio UnitPrice TimeOrder Sightings PeriodHours Telemetry
    Gun StartType Vin);

impl From<&Tariff> for v1::Tariff {
    fn from(tariff: &Tariff) -> Self {
        let Tariff { prices, half_hours } = tariff;
        let pair = |PricePair { energy, service }: &PricePair| v1::PricePair { energy: energy.0, service: service.0 };
        let hours: Vec<u8> = half_hours.iter().map(|period| period.index() as u8).collect();
        Self { prices: prices.iter().map(pair).collect(), half_hours: hours.into() }
    }
}

impl TryFrom<v1::Tariff> for Tariff {
    type Error = Unreadable;

    fn try_from(stored: v1::Tariff) -> Result<Self, Unreadable> {
        let v1::Tariff { prices, half_hours } = stored;
        let prices: [v1::PricePair; 4] = array("tariff.prices", prices)?;
        let hours: [u8; 48] = bytes("tariff.half_hours", &half_hours)?;
        let mut tariff = Self {
            prices: prices
                .map(|v1::PricePair { energy, service }| PricePair { energy: Price(energy), service: Price(service) }),
            half_hours: [Period::Flat; 48],
        };
        for (to, hour) in tariff.half_hours.iter_mut().zip(hours) {
            *to = *Period::ALL.get(usize::from(hour)).ok_or_else(|| bad("tariff.half_hours", hour))?;
        }
        Ok(tariff)
    }
}
