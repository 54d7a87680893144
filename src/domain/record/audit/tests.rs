use jiff::civil::date;

use super::*;
use crate::domain::ids::Serial;
use crate::domain::tariff::PricePair;

/// 1 h from 08:30 in peak (1.4 CNY), across 09:00 in flat (1.1 CNY), started remotely. The numbers of the protocol's sample.
fn record() -> Record {
    let class = |unit_price, energy, amount| RecordedPeriod {
        unit_price: Price(unit_price),
        energy: Energy(energy),
        loss_energy: Energy(energy),
        amount: Amount(amount),
    };
    let time = |minute| Some(date(2026, 5, 17).at(8, minute, 0, 0));
    Record {
        pile: "32010600019236".parse().expect("14 digits"),
        gun: gun(),
        serial: Serial::from_bytes([7; 16]),
        started: time(30),
        ended: date(2026, 5, 17).at(9, 30, 0, 0).into(),
        traded: date(2026, 5, 17).at(9, 30, 5, 0).into(),
        periods: [
            class(160_000, 0, 0),
            class(140_000, 123_456, 172_838),
            class(110_000, 54_321, 59_753),
            class(70_000, 0, 0),
        ],
        meter_start: Energy(1_000_000),
        meter_end: Energy(1_177_777),
        total_energy: Energy(177_777),
        total_loss_energy: Energy(177_777),
        total_amount: Amount(232_591),
        vin: "LSVAM4187C2184847".to_owned(),
        start_type: 1,
        stop_reason: 0x41,
        stop_reason_name: String::new(),
        physical_card: [0; 8],
        code: 0x3B,
        body: vec![],
    }
}

fn gun() -> Gun {
    Gun::new(1).expect("a gun")
}

/// Peak until 09:00, flat after it.
fn tariff() -> Tariff {
    let pair = |energy| PricePair { energy: Price(energy), service: Price(40_000) };
    let mut half_hours = [Period::Flat; 48];
    half_hours[..18].fill(Period::Peak);
    Tariff { prices: [pair(120_000), pair(100_000), pair(70_000), pair(30_000)], half_hours }
}

const MINUTE: u64 = 60_000;

/// An order that was seen to charge for 50 of the 60 minutes.
fn facts(tariff: &Tariff) -> Facts<'_> {
    let at = |minute| WallMs(1_779_000_000_000).plus_ms(minute * MINUTE);
    Facts {
        gun: gun(),
        start_types: &[1],
        not_before: Some(at(0)),
        charging: Some((at(5), at(55))),
        ended_at: Some(at(60)),
        now: at(61),
        metered: Some((Energy(177_000), Amount(231_000))),
        tariff: Some(tariff),
    }
}

/// Nobody had heard of it.
fn nothing(now: u64) -> Facts<'static> {
    let (charging, ended_at, metered) = (None, None, None);
    Facts {
        gun: gun(),
        start_types: &[],
        not_before: None,
        charging,
        ended_at,
        now: WallMs(now as i64),
        metered,
        tariff: None,
    }
}

#[track_caller]
fn finds(change: impl FnOnce(&mut Record), expected: &[(Check, &str, &str, &str)]) {
    let tariff = tariff();
    let mut record = record();
    change(&mut record);
    let found = audit(&record, &facts(&tariff));
    let found: Vec<_> =
        found.iter().map(|f| (f.check, f.field.name(), f.expected.as_str(), f.actual.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_record_that_fits_is_clean() {
    finds(|_| {}, &[]);
    assert_eq!(audit(&record(), &nothing(0)), [], "and so is one of which nothing is known");
}

#[test]
fn what_says_most_things_twice_tells_which_of_them_is_wrong() {
    let peak = Period::Peak.index();
    finds(|r| r.total_amount = Amount(242_591), &[(Check::AmountSum, "total_amount", "23.2591", "24.2591")]);
    finds(|r| r.periods[peak].amount = Amount(182_838), &[(Check::AmountSum, "peak_amount", "17.2838", "18.2838")]);
    finds(|r| r.periods[peak].energy = Energy(113_456), &[(Check::EnergySum, "peak_energy", "12.3456", "11.3456")]);
    let loss = (Check::LossEnergySum, "peak_loss_energy", "12.3456", "13.3456");
    finds(|r| r.periods[peak].loss_energy = Energy(133_456), &[loss]);
    finds(
        |r| r.periods[peak].unit_price = Price(150_000),
        &[(Check::UnitPrice, "peak_unit_price", "1.40000", "1.50000")],
    );
    finds(|r| r.total_energy = Energy(277_777), &[(Check::EnergySum, "total_energy", "17.7777", "27.7777")]);
    // Of two readings nobody can say which is wrong.
    let (start, end) =
        ((Check::Meter, "meter_start", "100.0000", "99.0000"), (Check::Meter, "meter_end", "116.7777", "117.7777"));
    finds(|r| r.meter_start = Energy(990_000), &[end, start]);
}

#[test]
fn several_faults_are_each_named_where_they_show() {
    let both = |r: &mut Record| {
        r.periods[Period::Flat.index()].amount = Amount(60_000);
        r.meter_end = Energy(1_277_777);
    };
    finds(
        both,
        &[
            (Check::AmountSum, "flat_amount", "5.9753", "6.0000"),
            (Check::Meter, "meter_end", "117.7777", "127.7777"),
            (Check::Meter, "meter_start", "110.0000", "100.0000"),
        ],
    );
}

#[test]
fn rounding_of_piles_and_meters_is_no_finding() {
    let rounded_up = |r: &mut Record| {
        r.periods[Period::Flat.index()].amount = Amount(59_754);
        r.total_amount = Amount(232_592);
    };
    finds(rounded_up, &[]);
    finds(|r| (r.meter_start, r.meter_end) = (Energy(1_000_000), Energy(1_177_700)), &[]);
    // 2.5 % lost: 126,542.4 and 55,679.025 units, which a pile may cut off.
    let with_loss = |r: &mut Record| {
        let [_, peak, flat, _] = &mut r.periods;
        (peak.loss_energy, peak.amount) = (Energy(126_542), Amount(177_158));
        (flat.loss_energy, flat.amount) = (Energy(55_679), Amount(61_246));
        (r.total_loss_energy, r.total_amount) = (Energy(182_221), Amount(238_404));
    };
    finds(with_loss, &[]);
}

#[test]
fn a_ratio_of_one_class_only_is_found() {
    let flat_only = |r: &mut Record| {
        let flat = &mut r.periods[Period::Flat.index()];
        (flat.loss_energy, flat.amount) = (Energy(64_321), Amount(70_753));
        (r.total_loss_energy, r.total_amount) = (Energy(187_777), Amount(243_591));
    };
    let tariff = tariff();
    let mut record = record();
    flat_only(&mut record);
    let found = audit(&record, &facts(&tariff));
    assert!(found.iter().all(|finding| finding.check == Check::LossRatio) && !found.is_empty(), "{found:#?}");
}

#[test]
fn a_meter_with_four_bytes_may_turn_over() {
    let turned = |r: &mut Record| {
        (r.code, r.meter_start, r.meter_end) = (0x3F, Energy((1 << 32) - 100_000), Energy(77_777));
    };
    finds(turned, &[]);
    let not = |r: &mut Record| {
        turned(r);
        r.code = 0x3B;
    };
    let tariff = tariff();
    let mut record = record();
    not(&mut record);
    assert_eq!(audit(&record, &facts(&tariff)).first().map(|finding| finding.check), Some(Check::Meter));
}

#[test]
fn times_are_held_against_each_other_and_against_what_was_seen() {
    let at = |hour, minute| Some(date(2026, 5, 17).at(hour, minute, 0, 0));
    let fields = |change: &dyn Fn(&mut Record)| {
        let (tariff, mut record) = (tariff(), record());
        change(&mut record);
        audit(&record, &facts(&tariff)).into_iter().map(|f| (f.check, f.field.name())).collect::<Vec<_>>()
    };
    assert_eq!(fields(&|r| r.traded = at(9, 20)), [(Check::TimeOrder, "trade_time"), (Check::TimeOrder, "end_time")]);
    assert_eq!(fields(&|r| r.started = at(6, 30)), [(Check::Sightings, "start_time")]);
    assert_eq!(fields(&|r| r.traded = at(23, 0))[0], (Check::Sightings, "trade_time"));
    let end = fields(&|r| r.ended = at(8, 40));
    assert!(end.contains(&(Check::Sightings, "end_time")), "seen to charge for 50 min: {end:?}");
    assert!(end.contains(&(Check::PeriodHours, "flat_energy")), "{end:?}");
    assert_eq!(fields(&|r| (r.started, r.ended, r.traded) = (None, None, None)), [], "not known");
}

#[test]
fn the_record_is_of_this_order() {
    finds(|r| r.gun = Gun::new(2).expect("a gun"), &[(Check::Gun, "gun_no", "1", "2")]);
    finds(|r| r.start_type = 4, &[(Check::StartType, "start_type", "1", "4")]);
    finds(|r| r.start_type = 9, &[]);
    let no_vin = "17 letters and digits without I, O and Q";
    finds(|r| r.vin = "LSVAM4187C218484O".into(), &[(Check::Vin, "vin", no_vin, "LSVAM4187C218484O")]);
    finds(|r| r.vin.clear(), &[]);
}

#[test]
fn less_than_was_metered_live_is_found() {
    let less = |r: &mut Record| {
        let flat = &mut r.periods[Period::Flat.index()];
        *flat = RecordedPeriod { unit_price: flat.unit_price, ..RecordedPeriod::default() };
        (r.total_energy, r.total_loss_energy, r.total_amount) = (Energy(123_456), Energy(123_456), Amount(172_838));
        r.meter_end = Energy(1_123_456);
    };
    finds(
        less,
        &[
            (Check::Telemetry, "total_energy", "17.7000", "12.3456"),
            (Check::Telemetry, "total_amount", "23.1000", "17.2838"),
        ],
    );
}

#[test]
fn a_failed_start_and_any_numbers_are_audited() {
    let nothing_delivered = |r: &mut Record| {
        r.periods = [RecordedPeriod::default(); 4];
        (r.total_energy, r.total_loss_energy, r.total_amount) = (Energy(0), Energy(0), Amount(0));
        (r.meter_end, r.stop_reason) = (r.meter_start, 0x4A);
    };
    let mut failed = record();
    nothing_delivered(&mut failed);
    assert_eq!(audit(&failed, &Facts { tariff: Some(&tariff()), ..nothing(0) }), []);

    let most = RecordedPeriod {
        unit_price: Price(u32::MAX),
        energy: Energy(u64::MAX),
        loss_energy: Energy(u64::MAX),
        amount: Amount(i64::MIN),
    };
    let mut absurd = Record { periods: [most; 4], meter_start: Energy(u64::MAX), meter_end: Energy(0), ..record() };
    (absurd.started, absurd.ended) = (Some(DateTime::MAX), Some(DateTime::MIN));
    assert!(!audit(&absurd, &facts(&tariff())).is_empty());
}
