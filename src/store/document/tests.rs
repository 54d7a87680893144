use std::collections::BTreeMap;

use prost::Message;

use super::*;
use crate::domain::alarm::{Alarm, Fault};
use crate::domain::curve::{Chunk, Demanded, Extremes, Point};
use crate::domain::driver::{AtPile, Card, GrantedLimits, Shown, Vin};
use crate::domain::event::OfflineReason;
use crate::domain::order::{
    Anomaly, AnomalyKind, BalanceLow, Change, Closing, ClosingSource, Failure, Limits, Metered, Origin, Parallel,
    RecordAfterClose, StartRequest, Stop, StopAtLogin, StopCause,
};
use crate::domain::pile::{GunState, GunStatus, Identity, TariffOnPile};
use crate::domain::record::audit::{Check, Field, Finding};
use crate::domain::record::{Bill, Fees, RecordedPeriod};
use crate::domain::tariff::{Period, PricePair};
use crate::domain::vehicle::{BmsReport, Flag, Handshake, Missed, Parameters, Statistics, StopReasons, Vehicle};
use crate::domain::{Amount, Energy, EventKind, Gun, Price, Tariff};

#[test]
fn everything_comes_back_as_it_was() {
    let pile = pile();
    let key = pile_key(pile.code);
    assert_eq!(read_pile(&key, &put_pile(&pile).value), Ok(pile.clone()));

    for order in [order(), Order::requested(pile.code, gun(), serial(), WallMs(-1))] {
        let put = put_order(&order, &Retention::default());
        assert_eq!(read_order(&put.key, &put.value), Ok(order));
    }
    let record = record();
    assert_eq!(read_record(&key, &record_value(&record)), Ok(record.clone()));
    let empty = Record { started: None, ended: None, traded: None, vin: String::new(), body: vec![], ..record };
    assert_eq!(read_record(&key, &record_value(&empty)), Ok(empty));

    let attempt =
        StartAttempt { pile: pile.code, id: request(), arguments: u64::MAX, serial: serial(), created_at: WallMs(9) };
    assert_eq!(read_start_attempt(&key, &put_start_attempt(&attempt).value), Ok(attempt));

    for change in changes() {
        event_comes_back(EventKind::Order { order: Box::new(order()), change });
    }
    for reason in [OfflineReason::Silent, OfflineReason::Disconnected, OfflineReason::NodeLost] {
        event_comes_back(EventKind::PileOffline { pile: Box::new(pile.clone()), reason });
    }
    event_comes_back(EventKind::PileOnline(Box::new(pile.clone())));
    event_comes_back(EventKind::GunChanged(Box::new(pile.clone())));
    let alarm = Alarm { fault: Fault::FanController, raised_at: WallMs(-7) };
    event_comes_back(EventKind::AlarmRaised { pile: Box::new(pile.clone()), gun: gun(), alarm });
    event_comes_back(EventKind::AlarmCleared { pile: Box::new(pile.clone()), gun: gun(), alarm });
    let (address, iccid) = ("192.0.2.1:4711".to_owned(), "89860".repeat(4));
    event_comes_back(EventKind::DuplicatePileCode { pile: Box::new(pile), address, iccid });
    event_comes_back(EventKind::RecordConflict { serial: serial() });
    for report in reports() {
        for order in [None, Some(Box::new(order()))] {
            event_comes_back(EventKind::Bms { gun: gun(), serial: serial(), report: Box::new(report.clone()), order });
        }
    }
}

#[test]
fn a_chunk_of_a_curve_comes_back_and_the_largest_one_is_small() {
    let point = |at| Point {
        at: WallMs(at),
        energy: Energy(1),
        amount: Amount(-2),
        soc_percent: Some(0),
        voltage_mv: 4,
        current_ma: 5,
        cable_celsius: Some(-6),
        battery_max_celsius: Some(7),
        demand: Some(Demanded { voltage_mv: 8, current_ma: 9, charge_mode: 10, max_cell_voltage_mv: 11 }),
        extremes: Some(Extremes { max_celsius: -12, min_celsius: -13 }),
    };
    let plain = Point { soc_percent: None, cable_celsius: None, demand: None, extremes: None, ..point(900) };
    let chunk = |points| Chunk { pile: pile().code, gun: gun(), serial: serial(), points };
    let small = chunk(vec![point(100), point(115), plain]);
    let put = put_curve(&small, WallMs(5));
    assert_eq!(read_curve(&put.key, &put.value), Ok(small));
    assert_eq!(put.indexes[0].sort, format!("{}{}{:020}", pile().code, serial(), 100));
    let nothing = v1::CurveChunk { points: vec![], ..v1::CurveChunk::from(&chunk(vec![point(1)])) };
    assert!(read_curve(&put.key, &encode(&nothing)).is_err());

    // What the wire can say at most, and times as they are today.
    let demand =
        Demanded { voltage_mv: 6_553_500, current_ma: 6_153_500, charge_mode: 255, max_cell_voltage_mv: 40_950 };
    let most = |n: i64| Point {
        energy: Energy(u32::MAX.into()),
        amount: Amount(u32::MAX.into()),
        soc_percent: Some(255),
        voltage_mv: 6_553_500,
        current_ma: 6_553_500,
        cable_celsius: Some(205),
        battery_max_celsius: Some(205),
        demand: Some(demand),
        extremes: Some(Extremes { max_celsius: 205, min_celsius: 205 }),
        ..point(1_760_000_000_000 + n * 3_600_000)
    };
    let largest = chunk((0..Chunk::MAX_POINTS as i64).map(most).collect());
    let bytes = put_curve(&largest, WallMs(5)).value.len();
    assert!(bytes <= 8 * 1024, "{bytes}");
}

#[test]
fn every_variant_of_an_enumeration_comes_back() {
    let back = |order: Order| {
        let put = put_order(&order, &Retention::default());
        assert_eq!(read_order(&put.key, &put.value), Ok(order));
    };
    for state in OrderState::ALL {
        back(Order { state, ..order() });
    }
    let anomalies = AnomalyKind::ALL.map(|kind| Anomaly { kind, at: WallMs(1) }).to_vec();
    back(Order { anomalies, ..order() });
    for origin in [Origin::Platform, Origin::Pile, Origin::Card, Origin::Vin, Origin::OfflineCard] {
        back(Order { origin, ..order() });
    }
    let vin = at_pile(Shown::Vin(Vin("LSVAM4187C2184847".to_owned())));
    back(Order { at_pile: Some(Box::new(AtPile { parallel_no: None, ..vin })), ..order() });
    let named = |name: &str| (7, name.to_owned());
    let ((code, name), (code2, name2)) = (named("no"), named("did not"));
    let failures = [
        Failure::Rejected { code, name },
        Failure::NotPluggedIn,
        Failure::NoStart,
        Failure::FailedOnPile { code: code2, name: name2 },
        Failure::NotSent,
    ];
    for failure in failures {
        back(Order { failure: Some(failure), ..order() });
    }
    for state in [
        GunState::Offline,
        GunState::Idle,
        GunState::Plugged,
        GunState::Starting,
        GunState::Charging,
        GunState::Finished,
        GunState::Fault,
        GunState::OutOfService,
    ] {
        let alarms = Fault::ALL.map(|fault| Alarm { fault, raised_at: WallMs(3) }).into();
        let guns = vec![GunStatus { gun: gun(), state, faults: u16::MAX, since: WallMs(4), alarms }];
        let pile = Pile { guns, ..pile() };
        assert_eq!(read_pile(&pile_key(pile.code), &put_pile(&pile).value), Ok(pile));
    }
}

#[test]
fn what_cannot_be_read_names_document_and_field() {
    let key = order_key(pile().code, serial());
    let check = |change: &dyn Fn(&mut v1::Order), expected: &str| {
        let mut stored = v1::Order::from(&order());
        change(&mut stored);
        let error = read_order(&key, &encode(&stored)).expect_err("cannot be read").to_string();
        let name = "Order 32010600019236/00112233445566778899aabbccddeeff";
        assert!(error.contains(name) && error.ends_with(expected), "{error}");
    };
    check(&|o| o.state = 77, "state = 77: not known here");
    check(&|o| o.state = 0, "OrderState is missing");
    check(&|o| o.serial = vec![1, 2].into(), "serial has 2 bytes, not 16");
    check(&|o| o.gun = 256, "gun = 256: not known here");
    check(&|o| o.anomalies[0].kind = 99, "anomalies.kind = 99: not known here");
    check(&|o| o.tariff.as_mut().expect("has one").prices.truncate(3), "tariff.prices has 3 items, not 4");
    check(&|o| o.bill.as_mut().expect("has one").record = None, "bill.record is missing");

    let later = [&[2][..], &v1::Order::from(&order()).encode_to_vec()].concat();
    for (bytes, expected) in [(&later[..], "format 2: this pileway knows 1"), (&[], "empty"), (&[1, 0xFF], "")] {
        let error = read_order(&key, bytes).expect_err("cannot be read").to_string();
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
fn sort_strings_are_in_the_order_of_what_they_say() {
    let sorts = |at: i64| put_order(&Order { created_at: WallMs(at), ..order() }, &Retention::default()).indexes;
    for (early, late) in sorts(999).iter().zip(sorts(1_000)).take(3) {
        assert!(early.sort < late.sort, "{early:?} {late:?}");
    }
    assert_eq!(sortable(WallMs(-5)), sortable(WallMs(0)));
}

#[test]
fn only_open_orders_are_in_the_open_index_and_only_others_expire() {
    for state in OrderState::ALL {
        let put = put_order(&Order { state, ..order() }, &Retention::default());
        let has = |index| put.indexes.iter().any(|entry| entry.index == index);
        assert_eq!((has(IndexName::OrderOpen), has(IndexName::Expiry)), (state.is_open(), !state.is_open()));
    }
}

/// Nodes of two releases read one log: what one of them does not know was recorded when it was all the same, or the newer one
/// takes the log for another one after an upgrade.
#[test]
fn an_event_of_a_kind_that_is_not_known_was_recorded_when_it_says() {
    let pile = pile().code;
    let known =
        Event { pile, recorded_at: WallMs(47), pile_time: None, kind: EventKind::RecordConflict { serial: serial() } };
    let bare = v1::Event { kind: None, ..v1::Event::from(&known) };
    // Field 100, of two bytes.
    let payload: Bytes = [&encode(&bare)[..], &[0xa2, 0x06, 2, 1, 2]].concat().into();
    assert!(read_event("", &payload).is_err(), "of a kind that is not known");
    let at = crate::store::Partition(0);
    let entry = |payload| crate::store::Entry {
        partition: at,
        offset: 1,
        pile,
        epoch: crate::domain::Epoch(1),
        seq: 1,
        payload,
    };
    let recorded =
        [payload, append(&known).payload].map(|payload| crate::store::recorded_at(&entry(payload), WallMs(0)));
    assert_eq!(recorded, [WallMs(47); 2]);
}

fn event_comes_back(kind: EventKind) {
    let pile_time = Some(jiff::civil::date(2026, 1, 2).at(3, 4, 5, 678_000_000));
    let event = Event { pile: pile().code, recorded_at: WallMs(8), pile_time, kind };
    let on_time = append(&event);
    let stored = |late| Ok(StoredEvent { event: event.clone(), late });
    let envelope = |late| Some(Envelope { recorded_at_ms: 8, late });
    assert_eq!(read_envelope(&on_time.payload), envelope(false));
    assert_eq!(read_envelope(&late(on_time.clone()).payload), envelope(true));
    assert_eq!(read_stored_event("1", &on_time.payload), stored(false));
    assert_eq!(read_stored_event("1", &late(on_time).payload), stored(true));
}

fn changes() -> Vec<Change> {
    let plain = [
        Change::Created,
        Change::WaitingForPlug,
        Change::Accepted,
        Change::Charging,
        Change::StopRequested,
        Change::RepeatStop,
        Change::Finished,
        Change::Failed,
        Change::Settled,
        Change::Closed,
        Change::StopPlanned,
        Change::StopExpired,
        Change::BalanceLow,
    ];
    plain.into_iter().chain(AnomalyKind::ALL.map(Change::Anomaly)).collect()
}

fn gun() -> Gun {
    Gun::new(255).expect("a gun")
}

fn serial() -> Serial {
    "00112233445566778899aabbccddeeff".parse().expect("a serial")
}

fn request() -> RequestId {
    RequestId::from_bytes([3; 16])
}

/// No two numbers are the same, so that no two fields can be mixed up.
fn pile() -> Pile {
    Pile {
        code: "32010600019236".parse().expect("a pile"),
        identity: Identity {
            pile_type: 1,
            gun_count: 2,
            protocol_version: 16,
            software_version: "V3".to_owned(),
            network_type: 4,
            iccid: "5".to_owned(),
            operator: 6,
        },
        presence: Presence::Offline,
        presence_since: WallMs(7),
        last_seen: WallMs(8),
        first_seen: WallMs(9),
        address: "10.0.0.1:5".to_owned(),
        guns: vec![],
        tariff: TariffOnPile { fingerprint: 10, number: 11, confirmed: true },
    }
}

fn order() -> Order {
    let pair = |n| PricePair { energy: Price(n), service: Price(n + 1) };
    let mut half_hours = [Period::Sharp; 48];
    half_hours[1] = Period::Peak;
    half_hours[2] = Period::Flat;
    half_hours[47] = Period::Valley;
    let fees = |n| Fees { energy: Amount(n), service: Amount(-n) };
    Order {
        state: OrderState::Settled,
        origin: Origin::Pile,
        order_id: "order".to_owned(),
        attributes: BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]),
        request: Some(StartRequest { id: request(), arguments: 1 }),
        updated_at: WallMs(2),
        accepted_at: Some(WallMs(3)),
        plug_deadline: Some(WallMs(4)),
        charging_at: Some(WallMs(5)),
        stop: Some(Stop {
            requested_at: WallMs(6),
            last_sent_at: WallMs(7),
            sent: 8,
            still_charging: true,
            cause: StopCause::LateStart,
            takes_back: true,
        }),
        ended_at: Some(WallMs(9)),
        settled_at: Some(WallMs(0)),
        failure: Some(Failure::Rejected { code: 10, name: "no".to_owned() }),
        anomalies: vec![Anomaly { kind: AnomalyKind::LateStart, at: WallMs(11) }],
        tariff: Some(Tariff { prices: [pair(1), pair(3), pair(5), pair(7)], half_hours }),
        last: Some(Metered { at: WallMs(12), energy: Energy(13), amount: Amount(14), soc_percent: 15 }),
        idle_seen: 16,
        bill: Some(Bill { record: record(), fees: Some([fees(1), fees(2), fees(3), fees(4)]), audit: findings() }),
        vehicle: Some(Box::new(vehicle())),
        closing: Some(Closing {
            at: WallMs(17),
            reason: "lost".to_owned(),
            energy: Energy(18),
            amount: Amount(19),
            source: ClosingSource::Given,
        }),
        stop_at_login: Some(StopAtLogin { requested_at: WallMs(22), expires_at: WallMs(23) }),
        balance_fen: Some(24),
        balance_low: Some(BalanceLow { at: WallMs(25), eta: WallMs(26) }),
        limits: Some(Limits {
            amount: Some(Amount(27)),
            energy: Some(Energy(28)),
            duration_s: Some(29),
            soc_percent: Some(30),
            max_power_w: Some(31),
            by_pile: true,
        }),
        record_after_close: Some(RecordAfterClose { energy: -20, amount: Amount(-21) }),
        at_pile: Some(Box::new(at_pile(Shown::Card(Card([1, 2, 3, 4, 5, 6, 7, 8]))))),
        parallel: Some(Parallel { number: [0x26; 6], gun: gun(), serial: serial() }),
        ..Order::requested(pile().code, gun(), serial(), WallMs(1))
    }
}

/// With one report of each kind.
fn vehicle() -> Vehicle {
    let mut vehicle = Vehicle::default();
    for (at, report) in (80..).zip(reports()) {
        assert!(vehicle.take(WallMs(at), &report));
    }
    vehicle
}

fn reports() -> [BmsReport; 6] {
    let flags = |names: &[&'static str]| {
        names.iter().zip(1..).map(|(name, value)| Flag { name: (*name).into(), value }).collect::<Vec<_>>()
    };
    let reasons = |n| StopReasons { causes: flags(&["a", "b", "c"][..n]), faults: flags(&["d"]), errors: vec![] };
    [
        BmsReport::Handshake(Handshake {
            bms_version: [1, 2, 3],
            battery_type: 4,
            rated_capacity_mah: 5,
            rated_voltage_mv: 6,
            battery_vendor: "7".to_owned(),
            battery_pack: [8, 9, 10, 11],
            production_year: 12,
            production_month: 13,
            production_day: 14,
            charge_cycles: 15,
            ownership: 16,
            vin: "17".to_owned(),
            software_version: [18; 8],
        }),
        BmsReport::Parameters(Parameters {
            max_cell_voltage_mv: 1,
            max_current_ma: 2,
            nominal_energy_wh: 3,
            max_voltage_mv: 4,
            max_celsius: -5,
            soc_permille: 6,
            voltage_mv: 7,
            pile_max_voltage_mv: 8,
            pile_min_voltage_mv: 9,
            pile_max_current_ma: 10,
            pile_min_current_ma: 11,
        }),
        BmsReport::Statistics(Statistics {
            soc_percent: 1,
            min_cell_voltage_mv: 2,
            max_cell_voltage_mv: 3,
            min_celsius: -4,
            max_celsius: 5,
            charge_minutes: 6,
            energy_wh: 7,
            charger_no: 8,
        }),
        BmsReport::Error(Missed { by_bms: flags(&["a", "b"]), by_charger: flags(&["c"]) }),
        BmsReport::BmsStop(reasons(1)),
        BmsReport::ChargerStop(reasons(3)),
    ]
}

/// Every check, and every field.
fn findings() -> Vec<Finding> {
    let checks = Check::ALL.into_iter().cycle();
    let finding = |(field, check)| Finding { check, field, expected: "1.0000".to_owned(), actual: String::new() };
    Field::all().zip(checks).map(finding).collect()
}

fn at_pile(shown: Shown) -> AtPile {
    AtPile {
        shown,
        account: "account".to_owned(),
        logical_card: [9; 8],
        balance_fen: 18,
        limits: GrantedLimits { max_power_kw: 19, soc_percent: 20, energy: 21 },
        parallel_no: Some([0x24; 6]),
    }
}

fn record() -> Record {
    let clock = |second| Some(jiff::civil::date(2026, 1, 2).at(3, 4, second, 5_000_000));
    let period = |n| RecordedPeriod {
        unit_price: Price(n),
        energy: Energy(10 + u64::from(n)),
        loss_energy: Energy(20 + u64::from(n)),
        amount: Amount(30 + i64::from(n)),
    };
    Record {
        pile: pile().code,
        gun: gun(),
        serial: serial(),
        started: clock(1),
        ended: clock(2),
        traded: clock(3),
        periods: [period(1), period(2), period(3), period(4)],
        meter_start: Energy(50),
        meter_end: Energy(51),
        total_energy: Energy(52),
        total_loss_energy: Energy(53),
        total_amount: Amount(-54),
        vin: "vin".to_owned(),
        start_type: 55,
        stop_reason: 56,
        stop_reason_name: "stopped".to_owned(),
        physical_card: [1, 2, 3, 4, 5, 6, 7, 8],
        code: 0x3B,
        body: vec![57; 155],
    }
}
