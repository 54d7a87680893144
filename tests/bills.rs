//! Bills are right, and wrong ones are found out: hand-computed bills, simulated charges that audit clean, and every
//! field of the record changed.

#[path = "bills/charges.rs"]
mod charges;
#[path = "common/mod.rs"]
mod common;
#[path = "sim/platform.rs"]
#[allow(dead_code, reason = "the simulator's own tests use all of it")]
mod platform;

use std::collections::BTreeMap;

use bytes::BytesMut;
use charges::Charged;
use common::api::start_request;
use common::{Api, Chance, Node, Pile, frames};
use jiff::civil::{DateTime, date};
use pileway::api::pb;
use pileway::api::pb::estimate_cost_request::Energy as Energies;
use pileway::domain::order::Change;
use pileway::domain::tariff::PricePair;
use pileway::domain::tariff::cost::{Curve, LossRatio};
use pileway::domain::{Amount, Energy, OrderState, Period, Price, Tariff};
use pileway::wire::{Amount as WireAmount, Frame, StartFailure, TransactionRecord};
use serde_json::Value;
use tonic::Code;
use tonic_types::StatusExt;

// ---- bills computed by hand -----------------------------------------------------------------------------------------

/// Energy price + service price: sharp 1.50 + 0.40, peak 1.20 + 0.40, flat 1.00 + 0.40, valley 0.30001 + 0.40 CNY/kWh.
/// Valley until 08:00, peak until 12:00, flat until 18:00, sharp until 22:00, flat until midnight.
fn tariff() -> Tariff {
    let pair = |energy| PricePair { energy: Price(energy), service: Price(40_000) };
    let mut half_hours = [Period::Valley; 48];
    half_hours[16..24].fill(Period::Peak);
    half_hours[24..36].fill(Period::Flat);
    half_hours[36..44].fill(Period::Sharp);
    half_hours[44..].fill(Period::Flat);
    Tariff { prices: [pair(150_000), pair(120_000), pair(100_000), pair(30_001)], half_hours }
}

/// On the `day`-th of May.
fn at(day: i8, hour: i8, minute: i8) -> DateTime {
    date(2026, 5, day).at(hour, minute, 0, 0)
}

/// One class: energy and loss energy in 0.0001 kWh, energy fee and amount in 0.0001 CNY.
type Class = (Period, u64, u64, i64, i64);

struct Row {
    name: &'static str,
    /// Time and meter in 0.0001 kWh.
    readings: Vec<(DateTime, u64)>,
    loss_permille: u16,
    /// Classes not named have nothing.
    classes: Vec<Class>,
}

fn row(name: &'static str, readings: &[(DateTime, u64)], loss_permille: u16, classes: &[Class]) -> Row {
    Row { name, readings: readings.to_vec(), loss_permille, classes: classes.to_vec() }
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    use Period::{Flat, Peak, Sharp, Valley};
    vec![
        // 10 kWh × 1.20 = 12.00; × 1.60 = 16.00. The meter need not begin at 0.
        row("within one period", &[(at(1, 8, 10), 50_000_000), (at(1, 8, 50), 50_100_000)], 0,
            &[(Peak, 100_000, 100_000, 120_000, 160_000)]),
        // Half of 20 kWh on each side of 12:00: 10 × 1.60 and 10 × 1.40.
        row("across two periods", &[(at(1, 11, 30), 0), (at(1, 12, 30), 200_000)], 0,
            &[(Peak, 100_000, 100_000, 120_000, 160_000), (Flat, 100_000, 100_000, 100_000, 140_000)]),
        // Half of 14.08 kWh each: 7.04 × 1.40 = 9.856; 7.04 × 0.70001 = 4.9280704, fee 7.04 × 0.30001 = 2.1120704.
        row("across midnight", &[(at(1, 23, 0), 0), (at(2, 1, 0), 140_800)], 0,
            &[(Flat, 70_400, 70_400, 70_400, 98_560), (Valley, 70_400, 70_400, 21_121, 49_281)]),
        // 10 kW for 1 + 4 + 6 + 1 h: 10 × 0.70001 = 7.0001, 40 × 1.60 = 64, 60 × 1.40 = 84, 10 × 1.90 = 19.
        row("across all four", &[(at(1, 7, 0), 0), (at(1, 19, 0), 1_200_000)], 0,
            &[(Valley, 100_000, 100_000, 30_001, 70_001), (Peak, 400_000, 400_000, 480_000, 640_000),
              (Flat, 600_000, 600_000, 600_000, 840_000), (Sharp, 100_000, 100_000, 150_000, 190_000)]),
        // 3.3333 × 1.05 = 3.499965, billed 3.5; × 1.60 = 5.60, fee 3.5 × 1.20 = 4.20.
        row("with a loss ratio", &[(at(1, 8, 0), 0), (at(1, 9, 0), 33_333)], 50,
            &[(Peak, 33_333, 35_000, 42_000, 56_000)]),
        // 10 % of 0.0005 kWh is half a unit, up: 0.0006; of 0.0004 less than half: 0.0004. 6 × 1.6 = 9.6, fee 7.2;
        // 4 × 1.4 = 5.6, fee 4.
        row("with a loss ratio across two periods", &[(at(1, 11, 0), 0), (at(1, 12, 0), 5), (at(1, 13, 0), 9)], 100,
            &[(Peak, 5, 6, 7, 10), (Flat, 4, 4, 4, 6)]),
        // 5 × 0.70001 = 3.50005, half a unit, up; fee 5 × 0.30001 = 1.50005, up as well.
        row("exactly half a unit goes up", &[(at(1, 1, 0), 0), (at(1, 2, 0), 50_000)], 0,
            &[(Valley, 50_000, 50_000, 15_001, 35_001)]),
        // 1.9999 × 0.70001 = 1.399949999, just less than half, down; fee 1.9999 × 0.30001 = 0.599989999, up.
        row("just less than half goes down", &[(at(1, 1, 0), 0), (at(1, 2, 0), 19_999)], 0,
            &[(Valley, 19_999, 19_999, 6_000, 13_999)]),
        row("zero energy", &[(at(1, 8, 0), 77), (at(1, 9, 0), 77)], 50, &[]),
        row("a single reading", &[(at(1, 8, 0), 77)], 0, &[]),
        // 8 × 1.60 = 12.80 up to 12:00:00.000, and 8 × 1.40 = 11.20 from then on.
        row("up to the half hour", &[(at(1, 11, 0), 0), (at(1, 12, 0), 80_000)], 0,
            &[(Peak, 80_000, 80_000, 96_000, 128_000)]),
        row("from the half hour", &[(at(1, 12, 0), 0), (at(1, 13, 0), 80_000)], 0,
            &[(Flat, 80_000, 80_000, 80_000, 112_000)]),
        // Half of 3 units is read as 1 at 12:00, the rest follows: 1 × 1.6 = 1.6, fee 1.2; 2 × 1.4 = 2.8, fee 2.
        row("less than a unit at the boundary", &[(at(1, 11, 45), 0), (at(1, 12, 15), 3)], 0,
            &[(Peak, 1, 1, 1, 2), (Flat, 2, 2, 2, 3)]),
        // 1 kW for 30 h: valley 8 + 6, peak 4, flat 6 + 2, sharp 4. 14 × 0.70001 = 9.80014, fee 14 × 0.30001 = 4.20014.
        row("more than 24 h", &[(at(1, 0, 0), 0), (at(2, 6, 0), 300_000)], 0,
            &[(Valley, 140_000, 140_000, 42_001, 98_001), (Peak, 40_000, 40_000, 48_000, 64_000),
              (Flat, 80_000, 80_000, 80_000, 112_000), (Sharp, 40_000, 40_000, 60_000, 76_000)]),
        // 6 kWh until 11:30, nothing until 12:30, 3 kWh until 13:00: 6 × 1.60 = 9.60; 3 × 1.40 = 4.20.
        row("with a pause across the boundary",
            &[(at(1, 11, 0), 0), (at(1, 11, 30), 60_000), (at(1, 12, 30), 60_000), (at(1, 13, 0), 90_000)], 0,
            &[(Peak, 60_000, 60_000, 72_000, 96_000), (Flat, 30_000, 30_000, 30_000, 42_000)]),
    ]
}

#[test]
fn bills_computed_by_hand_are_what_the_tariff_says() {
    for Row { name, readings, loss_permille, classes } in rows() {
        let curve = Curve::new(readings.into_iter().map(|(at, energy)| (at, Energy(energy)))).expect(name);
        let cost = tariff().cost(&curve, LossRatio::from_permille(loss_permille).expect(name));
        let used = Period::ALL.map(|period| (period, cost.periods[period.index()]));
        let used = used.into_iter().filter(|(_, part)| part.energy != Energy(0) || part.amount != Amount(0));
        let billed: BTreeMap<_, _> = used
            .map(|(period, part)| {
                assert_eq!(part.energy_fee + part.service_fee, part.amount, "{name}");
                (period, (part.energy.0, part.loss_energy.0, part.energy_fee.0, part.amount.0))
            })
            .collect();
        let expected: BTreeMap<_, _> =
            classes.iter().map(|(period, e, l, fee, amount)| (*period, (*e, *l, *fee, *amount))).collect();
        assert_eq!(billed, expected, "{name}");
        assert_eq!(cost.amount().0, classes.iter().map(|class| class.4).sum::<i64>(), "{name}");
    }
}

// ---- simulated charges ----------------------------------------------------------------------------------------------

#[test]
fn a_thousand_random_simulated_charges_audit_clean() {
    let mut chance = Chance::seeded();
    let (mut with_loss, mut across, mut over_a_day, mut empty) = (0, 0, 0, 0);
    for _ in 0..1000 {
        let charged = Charged::at_random(&mut chance);
        let (order, changes) = charged.settled(&charged.record);
        assert_eq!(changes, [Change::Settled], "{:#?}\n{charged:#?}", order.bill.map(|bill| bill.audit));
        assert_eq!(order.state, OrderState::Settled);
        let bill = order.bill.expect("a bill");

        // The simulator bills by an arithmetic of its own: ours comes to the same, to the last unit.
        let cost = charged.tariff.cost_of(bill.record.periods.map(|period| period.energy), charged.loss());
        for (billed, ours) in bill.record.periods.iter().zip(cost.periods) {
            assert_eq!((billed.loss_energy, billed.amount), (ours.loss_energy, ours.amount), "{charged:#?}");
        }
        let fees = bill.total_fees().expect("the tariff is known");
        assert_eq!((fees.energy, fees.service), (cost.energy_fee(), cost.service_fee()));

        let used = bill.record.periods.iter().filter(|period| period.energy != Energy(0)).count();
        let took = bill.record.ended.expect("an end").duration_since(bill.record.started.expect("a start"));
        with_loss += usize::from(charged.loss_percent > 0 && used > 0);
        across += usize::from(used > 1);
        over_a_day += usize::from(took > jiff::SignedDuration::from_hours(24));
        empty += usize::from(used == 0);
    }
    // All that is worth auditing has come up.
    assert!(
        with_loss > 300 && across > 300 && over_a_day > 3 && empty > 3,
        "{with_loss} {across} {over_a_day} {empty}"
    );
}

/// Fields of 0x3B that nothing else says anything about, each with the reason.
const NOT_AUDITED: [(&str, &str); 4] = [
    ("transaction_serial", "names the order: another serial is a record of another order"),
    ("pile_code", "must be one that is logged in on the connection, or the frame is refused before it is a record"),
    ("stop_reason", "only the pile knows why it stopped, and codes of its own are common"),
    ("physical_card", "opaque, and the platform that starts a charge need not know a card"),
];

#[test]
fn every_field_that_is_changed_in_a_record_is_named() {
    let mut chance = Chance::seeded();
    let table: Value = serde_json::from_str(include_str!("data/frames.json")).expect("JSON");
    let frames = table.as_array().expect("a list of frames");
    let frame = frames.iter().find(|frame| frame["code"] == "0x3B").expect("0x3B is in the table");
    let fields = frame["fields"].as_array().expect("fields");
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..300 {
        let charged = Charged::at_random(&mut chance);
        for field in fields {
            let name = field["name"].as_str().expect("a name");
            if NOT_AUDITED.iter().any(|(field, _)| *field == name) {
                continue;
            }
            let Some(changed) = change(&charged, field, &mut chance) else { continue };
            let (order, changes) = charged.settled(&changed);
            assert_eq!(changes.len(), 2, "{name}: {changed:#?}\n{charged:#?}");
            assert_eq!(order.state, OrderState::Settled, "it settles all the same");
            let audit = order.bill.expect("a bill").audit;
            let named: Vec<_> = audit.iter().map(|finding| finding.field.name()).collect();
            assert!(named.contains(&name), "{name} is not among {audit:#?}\n{changed:#?}\n{charged:#?}");
            *found.entry(name).or_default() += 1;
        }
    }
    let audited: Vec<_> = fields.iter().map(|field| field["name"].as_str().expect("a name")).collect();
    for name in audited.iter().filter(|name| NOT_AUDITED.iter().all(|(field, _)| field != *name)) {
        assert!(found.get(name).is_some_and(|times| *times > 20), "{name} was hardly ever changed: {found:?}");
    }
    assert!(NOT_AUDITED.iter().all(|(field, _)| audited.contains(field)), "an exception for a field that is none");
}

/// The same record with one field changed at random, by more than what its audit tolerates; `None` if nothing can tell.
fn change(charged: &Charged, field: &Value, chance: &mut Chance) -> Option<TransactionRecord> {
    let mut body = BytesMut::new();
    Frame::from(charged.record.clone()).encode_body(&mut body);
    let number = |key: &str| field[key].as_u64().expect("a number") as usize;
    let (offset, len, name) = (number("offset"), number("len"), field["name"].as_str().expect("a name"));
    let bytes = &mut body[offset..offset + len];
    match field["type"].as_str().expect("a type") {
        "u32le" | "u40le" => {
            let class = Period::ALL.into_iter().find(|period| name.starts_with(period.name()));
            let is_used = |period: Period| charged.energies()[period.index()] != 0;
            if name.ends_with("_unit_price") && !class.is_some_and(is_used) {
                // Nobody pays it, and some piles send 0.
                return None;
            }
            let mut wide = [0; 8];
            wide[..len].copy_from_slice(bytes);
            let old = u64::from_le_bytes(wide);
            // 0.01 kWh of a meter is rounding.
            let least = if name.starts_with("meter_") { 101 } else { 1 };
            let most = (1_u64 << (8 * len)) - 1;
            let by = least + if chance.below(2) == 0 { chance.below(1000) } else { chance.below(most / 2) };
            let new = if old >= by && chance.below(2) == 0 { old - by } else { (old + by).min(most) };
            bytes.copy_from_slice(&new.to_le_bytes()[..len]);
        }
        "cp56time2a" => {
            // More than a clock may be off, in what may be a charge of a few minutes.
            let by = jiff::SignedDuration::from_mins(121 + chance.below(60 * 24 * 30) as i64);
            let time = charges::local(&charged.record, name)?;
            let time = if chance.below(2) == 0 { time + by } else { time - by };
            bytes.copy_from_slice(&charges::wire_time(time).0);
        }
        "bcd" => bytes[0] = 2 + chance.below(8) as u8,
        // Started by a card, offline or not, or by a VIN.
        "u8" => bytes[0] = [2, 4, 5][chance.below(3) as usize],
        "ascii" => {
            if charged.record.vin.text().is_empty() {
                return None;
            }
            bytes[chance.below(len as u64) as usize] = b"IOQioq -"[chance.below(8) as usize];
        }
        other => panic!("{name} is of type {other}: how is it changed?"),
    }
    match Frame::decode(0x3B, &body).expect("any numbers can be read").frame {
        Frame::TransactionRecord(changed) => Some(changed),
        other => panic!("{other:?} is no 0x3B"),
    }
}

// ---- over a socket --------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_record_that_does_not_fit_settles_and_is_told_once() {
    const A: &str = "32010600019236";
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    let mut events = api.watch_orders(&[]).await;
    let (order, serial) = tokio::join!(api.start(start_request(A, 1)), pile.answer_start(StartFailure::None));
    let order = order.expect("the pile said yes").serial;
    let record = frames::record(A, 1, serial, 20_000);
    let overcharged = TransactionRecord { total_amount: WireAmount(record.total_amount.raw() + 100), ..record };
    // A copy of it as well.
    for _ in 0..2 {
        pile.settle_frame(overcharged.clone()).await;
    }

    let settled = api.order(A, &order).await;
    assert_eq!(settled.state(), pb::OrderState::Settled);
    let kinds: Vec<_> = settled.anomalies.iter().map(pb::OrderAnomaly::kind).collect();
    assert_eq!(kinds, [pb::OrderAnomalyKind::BillMismatch]);
    let expected = pb::BillFinding {
        check: pb::BillCheck::AmountSum.into(),
        field: "total_amount".into(),
        expected: "2.8000".into(),
        actual: "2.8100".into(),
    };
    assert_eq!(settled.bill.expect("a bill").audit, [expected]);

    // The next order's settlement comes after everything of this one; its record fits.
    let (next, serial) = tokio::join!(api.start(start_request(A, 1)), pile.answer_start(StartFailure::None));
    let next = next.expect("the pile said yes").serial;
    pile.settle(1, serial, 20_000).await;
    assert_eq!(api.order(A, &next).await.bill.expect("a bill").audit, []);
    let seen = events.until(&next, pb::OrderChange::Settled).await;
    let of_first = seen.iter().filter(|event| event.order.as_ref().is_some_and(|of| of.serial == order));
    let told: Vec<_> = of_first.map(|event| (event.change(), event.anomaly())).collect();
    let mismatch = (pb::OrderChange::Anomaly, pb::OrderAnomalyKind::BillMismatch);
    let settlement = (pb::OrderChange::Settled, pb::OrderAnomalyKind::Unspecified);
    assert_eq!(told[told.len() - 2..], [settlement, mismatch], "{told:?}");
    assert_eq!(told.iter().filter(|what| **what == mismatch).count(), 1);
}

// ---- estimates ------------------------------------------------------------------------------------------------------

/// 2026-05-17, on a clock of +08:00.
fn instant(hour: i64, minute: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: 1_778_947_200 + hour * 3600 + minute * 60, nanos: 0 }
}

fn constant(energy_mwh: i64, power_w: i64) -> Energies {
    Energies::Constant(pb::ConstantCharge { energy_mwh, power_w })
}

fn curve(points: &[(i64, i64)]) -> Energies {
    let point =
        |(hour, energy_mwh): &(i64, i64)| pb::EnergyPoint { time: Some(instant(*hour, 0)), energy_mwh: *energy_mwh };
    Energies::Curve(pb::EnergyCurve { points: points.iter().map(point).collect() })
}

#[tokio::test]
async fn what_a_charge_would_cost_is_told_class_by_class() {
    let node = Node::start();
    let api = Api::of(&node).await;
    // 20 kWh at 10 kW from 09:00: an hour of peak at 1.00 + 0.40, an hour of sharp at 1.20 + 0.40; and 5 % of loss.
    let request = pb::EstimateCostRequest {
        start_time: Some(instant(9, 0)),
        energy: Some(constant(20_000_000, 10_000)),
        loss_ratio_permille: Some(50),
        ..Default::default()
    };
    let by_power = api.charging.clone().estimate_cost(request).await.expect("an estimate").into_inner();
    let money = |money: &Option<pb::Money>| money.as_ref().map(|money| (money.units, money.nanos / 1_000_000));
    let classes: Vec<_> = by_power
        .periods
        .iter()
        .map(|part| (part.energy_mwh, part.loss_energy_mwh, money(&part.amount), money(&part.energy_fee)))
        .collect();
    let nothing = (0, 0, Some((0, 0)), Some((0, 0)));
    // 10.5 × 1.60 = 16.80 and × 1.20 = 12.60; 10.5 × 1.40 = 14.70 and × 1.00 = 10.50.
    let (sharp, peak) = (
        (10_000_000, 10_500_000, Some((16, 800)), Some((12, 600))),
        (10_000_000, 10_500_000, Some((14, 700)), Some((10, 500))),
    );
    assert_eq!(classes, [sharp, peak, nothing, nothing]);
    assert_eq!((by_power.total_energy_mwh, by_power.total_loss_energy_mwh), (20_000_000, 21_000_000));
    let totals = [&by_power.total_amount, &by_power.total_energy_fee, &by_power.total_service_fee].map(money);
    assert_eq!(totals, [Some((31, 500)), Some((23, 100)), Some((8, 400))]);
    let clock = |time: &Option<pb::PileTime>| time.as_ref().expect("a time").text.clone();
    assert_eq!(clock(&by_power.start_time), "2026-05-17T09:00:00.000");
    assert_eq!(clock(&by_power.end_time), "2026-05-17T11:00:00.000");
    let used = by_power.tariff.clone().expect("the tariff");
    assert_eq!((used.classes.len(), used.half_hours.len(), used.fingerprint.len()), (4, 48, 16));
    assert_eq!(used.half_hours[18], i32::from(pb::TariffPeriod::Peak));
    assert_eq!(money(&used.classes[0].energy_price), Some((1, 200)));

    // The same as a meter would read it, of a pile nobody has seen.
    let energy = curve(&[(9, 500), (10, 10_000_500), (11, 20_000_500)]);
    let request = pb::EstimateCostRequest {
        pile: "32010600019236".into(),
        energy: Some(energy),
        loss_ratio_permille: Some(50),
        ..Default::default()
    };
    let by_curve = api.charging.clone().estimate_cost(request).await.expect("an estimate").into_inner();
    assert_eq!(by_curve, by_power);

    // From now on, if nobody says otherwise; and nothing costs nothing.
    let request = pb::EstimateCostRequest { energy: Some(constant(0, 1)), ..Default::default() };
    let none = api.charging.clone().estimate_cost(request).await.expect("an estimate").into_inner();
    assert_eq!((none.total_energy_mwh, money(&none.total_amount)), (0, Some((0, 0))));
}

#[tokio::test]
async fn an_estimate_names_every_argument_that_is_none() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let check = async |request: pb::EstimateCostRequest, fields: &[&str]| {
        let status = api.charging.clone().estimate_cost(request).await.expect_err("nonsense");
        assert_eq!(common::reason(&status), (Code::InvalidArgument, "INVALID_ARGUMENT".into()));
        let named = status.get_details_bad_request().expect("BadRequest").field_violations;
        let named: Vec<_> = named.into_iter().map(|violation| violation.field).collect();
        assert_eq!(named, fields);
    };
    let of = |energy| pb::EstimateCostRequest { energy: Some(energy), ..Default::default() };
    check(pb::EstimateCostRequest::default(), &["energy"]).await;
    let all = pb::EstimateCostRequest {
        pile: "x".into(),
        loss_ratio_permille: Some(-1),
        start_time: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
        energy: Some(constant(-100, 0)),
    };
    let named = ["pile", "loss_ratio_permille", "start_time", "constant.energy_mwh", "constant.power_w"];
    check(all, &named).await;
    check(
        pb::EstimateCostRequest { loss_ratio_permille: Some(1001), ..of(constant(100, 1)) },
        &["loss_ratio_permille"],
    )
    .await;
    check(of(constant(150, 1)), &["constant.energy_mwh"]).await;
    check(of(constant(10_000_000_100, 10_000_001)), &["constant.energy_mwh", "constant.power_w"]).await;
    check(of(constant(i64::MAX, i64::MAX)), &["constant.energy_mwh", "constant.power_w"]).await;
    check(of(constant(10_000_000_000, 1)), &["constant"]).await;
    check(of(curve(&[])), &["curve.points"]).await;
    check(of(curve(&[(0, 0), (169, 100)])), &["curve.points"]).await;
    check(of(curve(&[(0, 0), (0, 100)])), &["curve.points[1].time"]).await;
    check(of(curve(&[(0, 0), (2, 100), (1, 200)])), &["curve.points[2].time"]).await;
    check(of(curve(&[(0, 100), (1, 0)])), &["curve.points[1].energy_mwh"]).await;
    check(of(curve(&[(0, 0), (1, 1)])), &["curve.points[1].energy_mwh"]).await;
    let started = pb::EstimateCostRequest { start_time: Some(instant(0, 0)), ..of(curve(&[(0, 0)])) };
    check(started, &["start_time"]).await;
    let timeless = pb::EnergyCurve { points: vec![pb::EnergyPoint { time: None, energy_mwh: 0 }] };
    check(of(Energies::Curve(timeless)), &["curve.points[0].time"]).await;
    let points: Vec<_> = (0..10_001).map(|n| (n, 0)).collect();
    check(of(curve(&points)), &["curve.points"]).await;
}
