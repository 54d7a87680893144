use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::domain::command::{GunStart, NewBalance, ParallelStart, Start, StopProof, When};
use crate::domain::curve::{Demanded, Extremes, Point};
use crate::domain::order::{
    Anomaly, AnomalyKind, Close, Closing, ClosingSource, Failure, Limits, Metered, RecordAfterClose, Stop, StopCause,
};
use crate::domain::pile::SessionSeen;
use crate::domain::record::audit::{Check, Field, Finding};
use crate::domain::record::{Fees, RecordedPeriod};
use crate::domain::tariff::PricePair;
use crate::domain::telemetry::{Battery, Demand, GroundLock, Live, Measured, Status};
use crate::domain::vehicle::{Flag, Said, StopReasons, Vehicle};
use crate::domain::{
    Amount, Bill, Energy, Gun, Order, OrderState, Period, Price, Record, RequestId, Serial, Tariff, WallMs,
};

fn pile() -> PileCode {
    "32010600019236".parse().expect("a pile")
}

fn gun() -> Gun {
    Gun::new(2).expect("a gun")
}

fn serial() -> Serial {
    Serial::from_bytes([0xA5; 16])
}

fn request_id() -> RequestId {
    "123e4567-e89b-12d3-a456-426614174000".parse().expect("a UUID")
}

fn fence() -> Fence {
    Fence { session: SessionId { incarnation: u64::MAX, counter: 3 }, epoch: Epoch(u64::MAX - 1) }
}

/// An order with everything that one can have.
fn order() -> Order {
    let price = PricePair { energy: Price(120_000), service: Price(40_000) };
    let mut half_hours = [Period::Flat; 48];
    half_hours[47] = Period::Sharp;
    let tariff = Tariff { prices: [price; 4], half_hours };
    let time = jiff::civil::date(2026, 2, 28).at(23, 59, 59, 999_000_000);
    let period = RecordedPeriod {
        unit_price: Price(160_000),
        energy: Energy(u64::MAX),
        loss_energy: Energy(1),
        amount: Amount(i64::MIN),
    };
    let record = Record {
        pile: pile(),
        gun: gun(),
        serial: serial(),
        started: Some(time),
        ended: None,
        traded: Some(time),
        periods: [period; 4],
        meter_start: Energy(0),
        meter_end: Energy(5),
        total_energy: Energy(5),
        total_loss_energy: Energy(5),
        total_amount: Amount(8),
        vin: "LSVAA4182E2184847".into(),
        start_type: 1,
        stop_reason: 0x40,
        stop_reason_name: "Finished: „full“ \"\\\u{0}".into(),
        physical_card: [0xFF; 8],
        code: 0x3B,
        body: (0..=255).collect(),
    };
    let fees = Fees { energy: Amount(5), service: Amount(-3) };
    let mut order = Order::adopted(pile(), gun(), serial(), WallMs(-1));
    order.state = OrderState::Settled;
    order.order_id = "订单 7".into();
    order.attributes = BTreeMap::from([("k".into(), "v".into()), (String::new(), "empty key".into())]);
    order.request = Some(crate::domain::order::StartRequest { id: request_id(), arguments: u64::MAX });
    order.stop = Some(Stop {
        requested_at: WallMs(1),
        last_sent_at: WallMs(2),
        sent: 3,
        still_charging: true,
        cause: StopCause::LateStart,
        takes_back: true,
    });
    order.failure = Some(Failure::FailedOnPile { code: 0x4A, name: "no BHM".into() });
    order.anomalies = AnomalyKind::ALL.map(|kind| Anomaly { kind, at: WallMs(i64::MAX) }).to_vec();
    order.tariff = Some(tariff);
    order.last = Some(Metered { at: WallMs(3), energy: Energy(4), amount: Amount(5), soc_percent: 6 });
    let finding =
        Finding { check: Check::Vin, field: Field::Vin, expected: "17 of them".into(), actual: "\u{0}".into() };
    order.bill = Some(Bill { record, fees: Some([fees; 4]), audit: vec![finding] });
    order.closing = Some(Closing {
        at: WallMs(4),
        reason: "lost".into(),
        energy: Energy(5),
        amount: Amount(6),
        source: ClosingSource::LastTelemetry,
    });
    order.record_after_close = Some(RecordAfterClose { energy: -7, amount: Amount(-8) });
    order.vehicle = Some(Box::new(vehicle()));
    order
}

fn vehicle() -> Vehicle {
    let causes = vec![Flag { name: "bms_initiated".into(), value: 1 }];
    let what = StopReasons { causes, faults: vec![], errors: vec![] };
    Vehicle { charger_stop: Some(Said { at: WallMs(9), what }), ..Vehicle::default() }
}

fn telemetry(measured: Measured) -> Telemetry {
    Telemetry { pile: pile(), gun: gun(), serial: Some(serial()), at: WallMs(7), measured }
}

fn measurements() -> Vec<Telemetry> {
    let live = Live {
        status: Status::Unknown(9),
        gun_returned: None,
        gun_plugged: true,
        voltage_mv: u32::MAX,
        current_ma: 0,
        cable_celsius: Some(-40),
        soc_percent: Some(100),
        battery_max_celsius: None,
        charge_minutes: u16::MAX,
        remaining_minutes: Some(0),
        energy: Energy(u64::MAX),
        loss_energy: Energy(0),
        amount: Amount(-1),
        fault_bits: 0x8001,
        faults: vec!["emergency_stop".into(), "door_open".into()],
    };
    let demand = Demand {
        voltage_demand_mv: 1,
        current_demand_ma: 2,
        charge_mode: 3,
        voltage_measured_mv: 4,
        current_measured_ma: 5,
        max_cell_voltage_mv: 6,
        max_cell_group: 7,
        soc_percent: 8,
        remaining_minutes: 9,
        output_voltage_mv: 10,
        output_current_ma: 11,
        charge_minutes: 12,
    };
    let battery = Battery {
        max_cell_voltage_no: 1,
        max_celsius: -50,
        max_celsius_point_no: 2,
        min_celsius: -50,
        min_celsius_point_no: 3,
        warnings: vec!["soc_state".into()],
        charging_allowed: false,
    };
    let lock = GroundLock { lock_state: 0x55, space_state: 0xFF, battery_percent: 3, alarm: 0 };
    let all = [Measured::Live(live), Measured::Demand(demand), Measured::Battery(battery), Measured::GroundLock(lock)];
    all.map(telemetry).to_vec()
}

fn commands() -> Vec<Command> {
    let start = Start {
        gun: gun(),
        request_id: request_id(),
        serial: Some(serial()),
        order_id: "订单 7".into(),
        attributes: BTreeMap::from([("a".into(), "\n".into())]),
        logical_card: [1; 8],
        physical_card: [0xFF; 8],
        balance_fen: u32::MAX,
        limits: Limits { amount: Some(Amount(1)), soc_percent: Some(90), ..Limits::default() },
        expected_tariff: Some(u64::MAX),
    };
    vec![
        Command::StartCharging(Box::new(start.clone())),
        Command::StartCharging(Box::new(Start {
            serial: None,
            attributes: BTreeMap::new(),
            limits: Limits::default(),
            expected_tariff: None,
            ..start
        })),
        Command::StartParallelCharging(Box::new(parallel_start())),
        Command::StopCharging { serial: serial() },
        Command::UpdateBalance(NewBalance { serial: serial(), fen: 5, physical_card: [2; 8] }),
        Command::StopAtLogin { serial: serial(), expires_at: WallMs(7) },
        Command::CloseOrder {
            serial: serial(),
            close: Box::new(Close { reason: "lost".into(), given: Some((Energy(1), Amount(2))), force: true }),
        },
        Command::ReadOrder { serial: serial() },
        Command::ReadCurve { serial: serial() },
        Command::ReadSession,
        Command::ReadTelemetry { gun: gun() },
        Command::Reboot { when: When::Immediately },
        Command::Reboot { when: When::WhenIdle },
        Command::SyncClock,
        Command::Disconnect { when: When::WhenIdle },
    ]
}

fn parallel_start() -> ParallelStart {
    let part = GunStart {
        gun: gun(),
        serial: Some(serial()),
        balance_fen: 7,
        limits: Limits { soc_percent: Some(90), ..Limits::default() },
    };
    ParallelStart {
        guns: [part, GunStart { serial: None, limits: Limits::default(), ..part }],
        request_id: request_id(),
        order_id: "订单 8".into(),
        attributes: BTreeMap::from([("a".into(), "b".into())]),
        logical_card: [1; 8],
        physical_card: [2; 8],
        expected_tariff: Some(3),
    }
}

fn replies() -> Vec<Reply> {
    let time = jiff::civil::date(2099, 12, 31).at(0, 0, 0, 0);
    let seen = SessionSeen {
        node: "b".into(),
        fence: fence(),
        connected_at: WallMs(1),
        last_seen: WallMs(2),
        address: "[::1]:5".into(),
        frames: u64::MAX,
        swapped_crc_frames: 1,
        refused_frames: 0,
    };
    let mut replies = vec![
        Reply::Started(Box::new(order())),
        Reply::ParallelStarted(Box::new([order(), order()])),
        Reply::StartedBefore { serial: serial() },
        Reply::Stopped { order: Box::new(order()), confirmed_by: StopProof::Answer },
        Reply::Stopped { order: Box::new(order()), confirmed_by: StopProof::Record },
        Reply::BalanceUpdated(Box::new(order())),
        Reply::StopPlanned(Box::new(order())),
        Reply::Closed(Box::new(order())),
        Reply::Order(Some(Box::new(order()))),
        Reply::Order(None),
        Reply::Curve(vec![]),
        Reply::Curve(vec![point()]),
        Reply::Session(Box::new(seen)),
        Reply::RebootAccepted,
        Reply::Clock { pile_time: Some(time) },
        Reply::Clock { pile_time: None },
        Reply::Disconnected,
    ];
    replies.extend(measurements().into_iter().map(|measured| Reply::Telemetry(Box::new(measured))));
    replies
}

fn point() -> Point {
    let demand = Demanded { voltage_mv: 5, current_ma: 6, charge_mode: 7, max_cell_voltage_mv: 8 };
    Point {
        at: WallMs(1),
        energy: Energy(u64::MAX),
        amount: Amount(-2),
        soc_percent: Some(3),
        voltage_mv: 4,
        current_ma: u32::MAX,
        cable_celsius: Some(-9),
        battery_max_celsius: None,
        demand: Some(demand),
        extremes: Some(Extremes { max_celsius: 10, min_celsius: -11 }),
    }
}

fn errors() -> Vec<CommandError> {
    vec![
        CommandError::PileUnknown,
        CommandError::PileOffline { last_seen: Some(WallMs(5)) },
        CommandError::PileOffline { last_seen: None },
        CommandError::PileBusy { why: "its mailbox is full".into(), retry_after: Some(Duration::from_millis(1500)) },
        CommandError::PileBusy { why: "made up".to_owned().into(), retry_after: None },
        CommandError::PileRejected { frame: 0x33, code: 3, name: "equipment fault".into() },
        CommandError::GunBusy { gun: gun(), serial: serial() },
        CommandError::GunUnknown { gun: gun(), guns: 1 },
        CommandError::OrderNotActive { serial: serial(), state: OrderState::Settled.name().into() },
        CommandError::OrderNotHeld { serial: serial() },
        CommandError::OrderActive { serial: serial(), state: OrderState::Charging.name().into() },
        CommandError::OutcomeUnknown { serial: Some(serial()) },
        CommandError::NodeLost { serial: None },
        CommandError::Unsupported { what: "levitate".into() },
        CommandError::TariffNotCurrent { expected: u64::MAX, current: 1 },
        CommandError::UnsupportedByPile { what: "power limit".into(), version: 16 },
        CommandError::DeadlinePassed,
        CommandError::SessionLost { written: true },
        CommandError::StoreUnavailable { reason: "disk full".into() },
        CommandError::RequestReused { id: request_id() },
        CommandError::SerialTaken { serial: serial() },
    ]
}

#[test]
fn every_command_reply_error_and_measurement_comes_back_as_it_was() {
    for command in commands() {
        assert_eq!(read_command(&write(&command)), Ok(command));
    }
    for reply in replies() {
        assert_eq!(read_reply(&write(&reply)), Ok(reply));
    }
    for error in errors() {
        assert_eq!(read_error(&write(&error)), Ok(error));
    }
    for measured in measurements() {
        assert_eq!(read_telemetry(&write(&measured)), Ok(measured));
    }
}

/// So that a new variant has its line above: as many names as variants.
#[test]
fn none_is_left_out() {
    let commands: BTreeSet<_> = commands().iter().map(Command::name).collect();
    assert_eq!(commands.len(), 13);
    for name in &commands {
        // Every variant is a name, and the other way round: an unknown one lists them all.
        assert!(known("Command").contains(&(*name).to_owned()), "{name}");
    }
    assert_eq!(known("Command").len(), commands.len());
    let errors: BTreeSet<_> = errors().iter().map(CommandError::name).collect();
    assert_eq!(known("CommandError").len(), errors.len());
    let replies: BTreeSet<_> = replies().iter().map(|reply| variant(&write(reply))).collect();
    assert_eq!(known("Reply").len(), replies.len());
}

/// What serde expects where it meets a variant that does not exist.
fn known(of: &str) -> Vec<String> {
    let text = br#""levitate""#;
    let error = match of {
        "Command" => read::<Command>("", text).expect_err("unknown"),
        "CommandError" => read::<CommandError>("", text).expect_err("unknown"),
        _ => read::<Reply>("", text).expect_err("unknown"),
    };
    error.reason.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

fn variant(json: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(json).expect("JSON");
    match json {
        serde_json::Value::String(name) => name,
        serde_json::Value::Object(of_one) => of_one.keys().next().expect("a name").clone(),
        other => panic!("{other}"),
    }
}

/// Nodes of two releases talk to each other: these bytes may be added to, and not changed.
#[test]
fn what_one_release_writes_the_next_one_reads() {
    let commands: Vec<_> = commands().iter().map(|command| String::from_utf8(write(command)).expect("text")).collect();
    assert_eq!(
        commands[1..],
        [
            concat!(
                r#"{"start_charging":{"gun":2,"request_id":"123e4567-e89b-12d3-a456-426614174000","serial":null,"#,
                r#""order_id":"订单 7","attributes":{},"logical_card":[1,1,1,1,1,1,1,1],"#,
                r#""physical_card":[255,255,255,255,255,255,255,255],"balance_fen":4294967295}}"#
            ),
            concat!(
                r#"{"start_parallel_charging":{"guns":["#,
                r#"{"gun":2,"serial":"a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5","balance_fen":7,"limits":{"amount":null,"#,
                r#""energy":null,"duration_s":null,"soc_percent":90,"max_power_w":null,"by_pile":false}},"#,
                r#"{"gun":2,"serial":null,"balance_fen":7}],"#,
                r#""request_id":"123e4567-e89b-12d3-a456-426614174000","order_id":"订单 8","attributes":{"a":"b"},"#,
                r#""logical_card":[1,1,1,1,1,1,1,1],"physical_card":[2,2,2,2,2,2,2,2],"expected_tariff":3}}"#
            ),
            r#"{"stop_charging":{"serial":"a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5"}}"#,
            concat!(
                r#"{"update_balance":{"serial":"a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5","fen":5,"#,
                r#""physical_card":[2,2,2,2,2,2,2,2]}}"#
            ),
            r#"{"stop_at_login":{"serial":"a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5","expires_at":7}}"#,
            concat!(
                r#"{"close_order":{"serial":"a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5","close":{"reason":"lost","#,
                r#""given":[1,2],"force":true}}}"#
            ),
            r#"{"read_order":{"serial":"a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5"}}"#,
            r#"{"read_curve":{"serial":"a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5"}}"#,
            r#""read_session""#,
            r#"{"read_telemetry":{"gun":2}}"#,
            r#"{"reboot":{"when":"immediately"}}"#,
            r#"{"reboot":{"when":"when_idle"}}"#,
            r#""sync_clock""#,
            r#"{"disconnect":{"when":"when_idle"}}"#,
        ]
    );
    // What a newer node adds is refused if it is used: the command would not be the same without it.
    let unused = br#"{"reboot":{"when":"immediately","gently":null}}"#;
    assert_eq!(read_command(unused), Ok(Command::Reboot { when: When::Immediately }));
    for newer in [r#"{"reboot":{"when":"immediately","gently":true}}"#, &deeper("limits")] {
        let Err(CommandError::Unsupported { what }) = read_command(newer.as_bytes()) else { panic!("{newer}") };
        assert!(what.contains("`gently` is not known"), "{what}");
    }
    assert_eq!(write(&CommandError::SessionLost { written: false }), br#"{"session_lost":{"written":false}}"#);
    assert_eq!(write(&Reply::RebootAccepted), br#""reboot_accepted""#);
}

/// The start with something more in one of its objects.
fn deeper(object: &str) -> String {
    let mut json: serde_json::Value = serde_json::from_slice(&write(&commands()[0])).expect("JSON");
    json["start_charging"][object]["gently"] = 1.into();
    json.to_string()
}

#[test]
fn evictions_and_filters_come_back_as_they_were() {
    let eviction = Eviction { pile: pile(), by: fence(), heard_ms_ago: 7, whom: Whom::Run(12) };
    assert_eq!(read_eviction(&write_eviction(&eviction), 12), Ok(eviction));
    let anybody = Eviction { whom: Whom::Anybody, ..eviction };
    assert_eq!(read_eviction(&write_eviction(&anybody), 12), Ok(anybody));
    assert!(read_eviction(&pb::EvictRequest::default(), 12).is_err());
    for evicted in [Evicted::Ended, Evicted::NotHere, Evicted::HeardLater] {
        assert_eq!(read_evicted(write_evicted(evicted)), Ok(evicted));
    }
    assert!(read_evicted(pb::EvictResponse { outcome: 9 }).is_err());

    let check = |filter: Filter| {
        let read = read_filter(&write_filter(&filter)).expect("readable");
        assert_eq!((read.piles, read.kinds), (filter.piles, filter.kinds));
    };
    check(Filter::default());
    check(Filter { piles: vec![pile()], kinds: Kind::ALL.to_vec() });
    // All kinds but the unknown ones; not all kinds because all are unknown.
    let request = |kinds: &[&str]| pb::WatchTelemetryRequest {
        piles: vec![],
        kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
    };
    assert_eq!(read_filter(&request(&["\"smell\"", "\"live\""])).map(|filter| filter.kinds), Ok(vec![Kind::Live]));
    assert!(read_filter(&request(&["\"smell\""])).is_err());
}
