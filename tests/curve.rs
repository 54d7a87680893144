//! A charge is told moment by moment, whichever node is asked, and the pile may change nodes in the middle of it.

mod common;

use common::api::start_request;
use common::redis::Redis;
use common::{Api, Node, Pile, eventually, frames, reason, within};
use pileway::api::pb;
use pileway::wire::*;
use tonic::{Code, Status};

const A: &str = "32010600019236";

async fn curve(api: &Api, serial: &str) -> Result<pb::GetChargingCurveResponse, Status> {
    let request = pb::GetChargingCurveRequest { pile: A.into(), serial: serial.into() };
    Ok(within("GetChargingCurve", api.charging.clone().get_charging_curve(request)).await?.into_inner())
}

/// Waits until the curve has so many points.
async fn curve_of(api: &Api, serial: &str, count: usize) -> pb::GetChargingCurveResponse {
    let ask = || async {
        let told = curve(api, serial).await.expect("GetChargingCurve");
        (told.points.len() == count).then_some(told)
    };
    eventually("points of the curve", ask).await
}

fn energies(told: &pb::GetChargingCurveResponse) -> Vec<i64> {
    told.points.iter().map(|point| point.energy_mwh / 100).collect()
}

fn demand(serial: Serial) -> BmsDemandAndOutput {
    BmsDemandAndOutput {
        transaction_serial: serial,
        pile_code: frames::code(A),
        gun_no: GunNo(1),
        bms_voltage_demand: Volts(4100),
        bms_current_demand: AmpsOffset::from_milliamps(150_000),
        charge_mode: ChargeMode::ConstantCurrent,
        bms_measured_voltage: Volts(4000),
        bms_measured_current: AmpsOffset::from_milliamps(100_000),
        max_cell_voltage_and_group: CellVoltageAndGroup(390),
        soc: Percent(55),
        remaining_minutes: Minutes(40),
        pile_output_voltage: Volts(4000),
        pile_output_current: AmpsOffset::from_milliamps(100_000),
        charge_minutes: Minutes(3),
    }
}

fn extremes(serial: Serial) -> BmsInfo {
    BmsInfo {
        transaction_serial: serial,
        pile_code: frames::code(A),
        gun_no: GunNo(1),
        max_cell_voltage_no: Ordinal(1),
        max_temp: Temp::from_celsius(31),
        max_temp_point_no: Ordinal(1),
        min_temp: Temp::from_celsius(-4),
        min_temp_point_no: Ordinal(1),
        state_byte1: BatteryStateByte1(0),
        state_byte2: BatteryStateByte2(0b01_00_00),
    }
}

#[tokio::test]
async fn a_curve_outlasts_the_node_that_measured_it_and_goes_on_at_the_next() {
    let mut node = Node::start();
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    let (order, serial) = tokio::join!(api.start(start_request(A, 1)), pile.answer_start(StartFailure::None));
    let order = order.expect("the pile said yes").serial;
    let nothing = curve(&api, &order).await.expect("an order");
    assert_eq!((nothing.points.len(), nothing.expired, nothing.live), (0, false, true));

    pile.charge(1, serial, 100).await;
    pile.send(demand(serial)).await;
    pile.send(extremes(serial)).await;
    pile.served().await;
    let told = curve(&api, &order).await.expect("a curve");
    assert!(told.live && !told.expired);
    let [point] = &told.points[..] else { panic!("{told:?}") };
    assert_eq!(
        (point.energy_mwh, point.voltage_mv, point.current_ma, point.power_w),
        (10_000, 400_000, 100_000, 40_000)
    );
    assert_eq!((point.soc_percent, point.battery_max_celsius, point.gap), (Some(55), Some(30), false));
    let wanted = point.demand.as_ref().expect("0x23 came with it");
    assert_eq!((wanted.voltage_mv, wanted.current_ma, wanted.max_cell_voltage_mv), (410_000, 150_000, 3_900));
    assert_eq!(wanted.charge_mode.as_ref().expect("told").name, "constant current");
    assert_eq!(point.extremes, Some(pb::CurveExtremes { max_celsius: 31, min_celsius: -4 }));

    // Told to go: what it has not stored yet is stored now.
    assert!(node.end().success());
    node.start_again();
    let api = Api::of(&node).await;
    let stored = curve(&api, &order).await.expect("a curve");
    assert_eq!((&stored.points, stored.live), (&told.points, false));
    let mut pile = Pile::login(&node, A).await;
    pile.charge(1, serial, 200).await;
    assert_eq!(energies(&curve_of(&api, &order, 2).await), [100, 200]);
    // And once more, with its connection: the end of the order is the end of its curve.
    pile.settle(1, serial, 300).await;
    pile.idle(1).await;
    pile.served().await;
    drop(pile);
    api.session_ends(A).await;
    let after = curve_of(&api, &order, 2).await;
    assert_eq!((energies(&after), after.live, after.expired), (vec![100, 200], false, false));

    let unknown = curve(&api, &"ab".repeat(16)).await.expect_err("no such order");
    assert_eq!(reason(&unknown), (Code::NotFound, "ORDER_UNKNOWN".into()));
    let bad = curve(&api, "ab").await.expect_err("no serial");
    assert_eq!(reason(&bad), (Code::InvalidArgument, "INVALID_ARGUMENT".into()));
}

#[tokio::test]
async fn a_node_that_is_killed_costs_only_what_it_had_not_stored() {
    let mut node = Node::start();
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    let (order, serial) = tokio::join!(api.start(start_request(A, 1)), pile.answer_start(StartFailure::None));
    let order = order.expect("the pile said yes").serial;
    pile.charge(1, serial, 100).await;
    api.order_becomes(A, &order, pb::OrderState::Charging).await;
    node.restart();
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    pile.charge(1, serial, 200).await;
    assert_eq!(energies(&curve_of(&api, &order, 1).await), [200]);
    pile.settle(1, serial, 300).await;
    assert_eq!(api.order(A, &order).await.state(), pb::OrderState::Settled);
}

/// The energy of the next 0x13, mWh.
async fn measured(watch: &mut tonic::Streaming<pb::WatchTelemetryResponse>) -> i64 {
    loop {
        let message = within("telemetry", watch.message()).await.expect("goes on").expect("goes on");
        if let Some(pb::telemetry::Measured::Live(live)) = message.telemetry.and_then(|told| told.measured) {
            return live.energy_mwh;
        }
    }
}

/// One of two on a Redis.
fn node(redis: &Redis, id: &str) -> Node {
    Node::with(&[
        ("REDIS__URL", &redis.url()),
        ("NODE__ID", id),
        ("PEER__LISTEN", "127.0.0.1:0"),
        ("PEER__SECRET", "a-secret-of-these-tests"),
        ("DRAIN__SETTLE", "0s"),
    ])
}

#[tokio::test]
async fn a_pile_that_moves_in_mid_charge_keeps_its_order_and_the_whole_of_its_curve() {
    let redis = Redis::start();
    let (a, b) = (node(&redis, "a"), node(&redis, "b"));
    let (at_a, at_b) = (Api::of(&a).await, Api::of(&b).await);
    let mut pile = Pile::login(&a, A).await;
    let (order, serial) = tokio::join!(at_a.start(start_request(A, 1)), pile.answer_start(StartFailure::None));
    let order = order.expect("the pile said yes").serial;
    let watch = pb::WatchTelemetryRequest { piles: vec![A.into()], kinds: vec![] };
    let mut telemetry = at_a.telemetry.clone();
    let watch = within("WatchTelemetry", telemetry.watch_telemetry(watch)).await.expect("a watch");
    let mut watch = watch.into_inner();
    pile.charge(1, serial, 100).await;
    assert_eq!(measured(&mut watch).await, 10_000);
    pile.served().await;
    let told = curve(&at_b, &order).await.expect("over one hop");
    assert_eq!((energies(&told), told.live), (vec![100], true), "what is in the memory of the other node");

    // The old connection stays open: what its session has measured is stored as it is ended.
    let mut moved = Pile::login(&b, A).await;
    moved.charge(1, serial, 200).await;
    assert_eq!(measured(&mut watch).await, 20_000, "the same watch, at the node it has left");
    pile.closed().await;
    for api in [&at_a, &at_b] {
        assert_eq!(energies(&curve_of(api, &order, 2).await), [100, 200]);
    }
    moved.settle(1, serial, 300).await;
    let settled = at_a.order_becomes(A, &order, pb::OrderState::Settled).await;
    assert_eq!(settled.serial, order);
}
