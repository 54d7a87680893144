//! Charges of a simulated pile, and their orders.

use std::time::Duration;

use bytes::BytesMut;
use jiff::civil::DateTime;
use pileway::domain::order::{Change, Happening, Metered};
use pileway::domain::record::RecordedPeriod;
use pileway::domain::tariff::PricePair;
use pileway::domain::tariff::cost::LossRatio;
use pileway::domain::{Amount, Energy, Gun, Order, Period, Price, Record, Serial, Tariff, WallMs};
use pileway::sim::Action;
use pileway::wire;
use pileway::wire::{
    Civil, Cp56Time2a, Frame, GunStatus, PeriodRate, PeriodRates, RealtimeData, TariffNo, TariffResponse, TimeSync,
    TransactionRecord,
};

use crate::common::Chance;
use crate::platform::{self, CODE, Platform, START};

/// A charge that is over.
#[derive(Debug)]
pub struct Charged {
    pub tariff: Tariff,
    pub loss_percent: u8,
    pub record: TransactionRecord,
    /// What 0x13 said while it charged, and when.
    seen: Vec<(WallMs, RealtimeData)>,
    started_at: WallMs,
    ended_at: WallMs,
}

impl Charged {
    /// Any tariff, any time of day, up to 30 h, ended in any way.
    pub fn at_random(chance: &mut Chance) -> Self {
        let tariff = random_tariff(chance);
        let loss_percent = if chance.below(2) == 0 { 0 } else { 1 + chance.below(20) as u8 };
        let slow = chance.below(3) == 0;
        let mut platform = Platform::ready(|config| {
            (config.dc, config.speed, config.seed) = (!slow, SPEED, chance.next());
            // AC piles take a day for it.
            config.battery_kwh = if slow { 300 } else { 20 + chance.below(180) as u16 };
            config.soc = Some(chance.below(100) as u8);
        });
        platform.send(TariffResponse { loss_ratio: loss_percent, ..wire_tariff(&tariff) });
        let start = jiff::civil::date(2026, 3, 9).at(0, 0, 0, 0) + minutes(chance.below(24 * 60));
        platform.send(TimeSync { pile_code: CODE, time: wire_time(start) });
        let balance = if chance.below(4) == 0 { chance.below(20_000) as u32 } else { 100_000_000 };
        let started_at = now(&platform);
        platform.start(7, balance);
        let longest = match chance.below(20) {
            0 => 0,
            _ if slow => 30 * 60,
            _ => 180,
        };
        platform.wait(Duration::from_millis(chance.below(longest * 60 * 1000 + 1) / u64::from(SPEED)));
        match chance.below(3) {
            0 => platform.stop(),
            1 => platform.act(Action::Unplug(1)),
            _ => platform.act(Action::Fault(1, 1)),
        }
        let charging = |(at, outgoing): &(Duration, wire::Outgoing)| match platform::frame(outgoing) {
            Frame::RealtimeData(row) if row.status == GunStatus::Charging => Some((wall(*at), row.clone())),
            _ => None,
        };
        let seen = platform.sent.iter().filter_map(charging).collect();
        // It may have ended by itself before.
        let is_record = |(_, outgoing): &&(Duration, wire::Outgoing)| platform::code(outgoing) == 0x3B;
        let ended_at = wall(platform.sent.iter().find(is_record).expect("a record").0);
        Self { tariff, loss_percent, record: platform.record(), seen, started_at, ended_at }
    }

    /// Its order, settled by `record`, and what that changed.
    pub fn settled(&self, record: &TransactionRecord) -> (Order, Vec<Change>) {
        let pile = "32010600019236".parse().expect("a code");
        let mut order = Order::requested(pile, gun(1), Serial::from_bytes([7; 16]), self.started_at);
        order.tariff = Some(self.tariff.clone());
        order.apply(self.started_at, Happening::Accepted);
        for (at, row) in &self.seen {
            let (energy, amount) = (Energy(row.energy.raw().into()), Amount(row.amount.raw().into()));
            let metered = Metered { at: *at, energy, amount, soc_percent: row.soc.raw() };
            order.apply(*at, Happening::Charging(metered));
        }
        order.apply(self.ended_at, Happening::ChargeEnded);
        let changes = order.apply(self.ended_at.plus_ms(1000), Happening::Recorded(Box::new(domain(record))));
        (order, changes)
    }

    pub fn loss(&self) -> LossRatio {
        LossRatio::from_permille(u16::from(self.loss_percent) * 10).expect("at most 20 %")
    }

    pub fn energies(&self) -> [u64; 4] {
        domain(&self.record).periods.map(|period| period.energy.0)
    }
}

/// The time in the field of this name.
pub fn local(record: &TransactionRecord, field: &str) -> Option<DateTime> {
    date_time(match field {
        "start_time" => record.start_time,
        "end_time" => record.end_time,
        "trade_time" => record.trade_time,
        other => panic!("{other} is no time of 0x3B"),
    })
}

pub fn wire_time(at: DateTime) -> Cp56Time2a {
    let civil = Civil {
        year: at.year().unsigned_abs(),
        month: at.month().unsigned_abs(),
        day: at.day().unsigned_abs(),
        hour: at.hour().unsigned_abs(),
        minute: at.minute().unsigned_abs(),
        second: at.second().unsigned_abs(),
        millisecond: at.millisecond().unsigned_abs(),
        day_of_week: 0,
    };
    Cp56Time2a::from_civil(civil).expect("a time the wire can say")
}

fn date_time(time: Cp56Time2a) -> Option<DateTime> {
    let Civil { year, month, day, hour, minute, second, millisecond, day_of_week: _ } = time.civil()?;
    let [month, day, hour, minute, second] = [month, day, hour, minute, second].map(u8::cast_signed);
    DateTime::new(year.cast_signed(), month, day, hour, minute, second, i32::from(millisecond) * 1_000_000).ok()
}

fn domain(record: &TransactionRecord) -> Record {
    let mut body = BytesMut::new();
    Frame::from(record.clone()).encode_body(&mut body);
    let energy = |energy: wire::Energy| Energy(energy.raw().into());
    let class = |price: wire::Price, plain, loss, amount: wire::Amount| RecordedPeriod {
        unit_price: Price(price.raw()),
        energy: energy(plain),
        loss_energy: energy(loss),
        amount: Amount(amount.raw().into()),
    };
    let r = record;
    Record {
        pile: "32010600019236".parse().expect("a code"),
        gun: gun(r.gun_no.number(99)),
        serial: Serial::from_bytes(r.transaction_serial.0),
        started: date_time(r.start_time),
        ended: date_time(r.end_time),
        traded: date_time(r.trade_time),
        periods: [
            class(r.sharp_unit_price, r.sharp_energy, r.sharp_loss_energy, r.sharp_amount),
            class(r.peak_unit_price, r.peak_energy, r.peak_loss_energy, r.peak_amount),
            class(r.flat_unit_price, r.flat_energy, r.flat_loss_energy, r.flat_amount),
            class(r.valley_unit_price, r.valley_energy, r.valley_loss_energy, r.valley_amount),
        ],
        meter_start: Energy(r.meter_start.raw()),
        meter_end: Energy(r.meter_end.raw()),
        total_energy: energy(r.total_energy),
        total_loss_energy: energy(r.total_loss_energy),
        total_amount: Amount(r.total_amount.raw().into()),
        vin: r.vin.text(),
        start_type: r.start_type.raw(),
        stop_reason: r.stop_reason.raw(),
        stop_reason_name: String::new(),
        physical_card: r.physical_card.0,
        code: 0x3B,
        body: body.to_vec(),
    }
}

/// Prices of up to 3 CNY/kWh, odd to the last digit, and a class for every stretch of the day.
fn random_tariff(chance: &mut Chance) -> Tariff {
    let mut price = |most| Price(1 + chance.below(most) as u32);
    let prices = [(); 4].map(|()| PricePair { energy: price(200_000), service: price(100_000) });
    let mut half_hours = [Period::Flat; 48];
    let mut class = Period::Flat;
    for half_hour in &mut half_hours {
        if chance.below(4) == 0 {
            class = Period::ALL[chance.below(4) as usize];
        }
        *half_hour = class;
    }
    Tariff { prices, half_hours }
}

fn wire_tariff(tariff: &Tariff) -> TariffResponse {
    let price = |price: Price| wire::Price(price.0);
    let [sharp, peak, flat, valley] = tariff.prices;
    let rates = tariff.half_hours.map(|period| match period {
        Period::Sharp => PeriodRate::Sharp,
        Period::Peak => PeriodRate::Peak,
        Period::Flat => PeriodRate::Flat,
        Period::Valley => PeriodRate::Valley,
    });
    TariffResponse {
        pile_code: CODE,
        tariff_model_no: TariffNo([0, 2]),
        sharp_energy_price: price(sharp.energy),
        sharp_service_price: price(sharp.service),
        peak_energy_price: price(peak.energy),
        peak_service_price: price(peak.service),
        flat_energy_price: price(flat.energy),
        flat_service_price: price(flat.service),
        valley_energy_price: price(valley.energy),
        valley_service_price: price(valley.service),
        loss_ratio: 0,
        period_rate: PeriodRates(rates),
    }
}

fn now(platform: &Platform) -> WallMs {
    wall(platform.mono)
}

/// What time it is for somebody whose clock runs as fast as the pile's.
fn wall(mono: Duration) -> WallMs {
    WallMs(START).plus_ms((mono * SPEED).as_millis() as u64)
}

fn minutes(n: u64) -> jiff::SignedDuration {
    jiff::SignedDuration::from_mins(n as i64)
}

fn gun(number: u8) -> Gun {
    Gun::new(number).expect("a gun")
}

/// An hour in a second.
const SPEED: u32 = 3600;
