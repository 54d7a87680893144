//! What a vehicle says once of its charge is told as it comes, and is on the order for as long as there is one.

mod common;

use common::api::start_request;
use common::{Api, Node};
use pileway::api::pb::{self, OrderChange, bms_reported::Report};
use pileway::sim::{Behaviour, PileConfig};

const A: &str = "32010600019236";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vehicle_is_told_of_from_its_handshake_to_its_statistics_and_stays_on_the_order() {
    let mut node = Node::start();
    let api = Api::of(&node).await;
    let mut events = api.watch_orders(&[]).await;
    let config = PileConfig {
        behaviours: vec![Behaviour::BmsError],
        speed: 60,
        ..PileConfig::new(A.parse().expect("14 digits"))
    };
    let pile = pileway::sim::spawn(config, vec![node.piles.to_string()]);
    api.session_begins(A).await;
    let order = api.start(start_request(A, 1)).await.expect("the pile said yes");
    let mut seen = events.until(&order.serial, OrderChange::Charging).await;
    // Whether 0x17 has come by then is chance.
    if !seen.iter().any(|event| matches!(report(event), Some(Report::Parameters(_)))) {
        seen.extend(events.until(&order.serial, OrderChange::Vehicle).await);
    }
    api.stop(A, &order.serial).await.expect("the pile said yes");
    seen.extend(events.until(&order.serial, OrderChange::Settled).await);

    let reports: Vec<_> = seen.iter().filter_map(report).collect();
    let [
        Report::Handshake(hello),
        Report::Parameters(limits),
        Report::Error(error),
        Report::ChargerStop(reasons),
        Report::Statistics(end),
    ] = &reports[..]
    else {
        panic!("{reports:?}")
    };
    assert_eq!((hello.vin.len(), hello.production_year, limits.max_current_ma), (17, 2025, 150_000));
    assert_eq!(names(&error.missed_by_charger), ["bcl_timeout"]);
    assert_eq!(names(&reasons.causes), ["manual"]);
    assert!(end.soc_percent > 0 && end.charger_number == 1, "{end:?}");
    for event in seen.iter().filter(|event| event.change() == OrderChange::Vehicle) {
        let (order, bms) = (event.order.as_ref().expect("an order"), event.bms.as_ref().expect("what was said"));
        assert!(order.vehicle.is_some(), "the order after it");
        assert_eq!((&bms.pile, bms.gun, &bms.serial), (&order.pile, order.gun, &order.serial));
    }

    let settled = api.order(A, &order.serial).await;
    let vehicle = settled.vehicle.clone().expect("it has told much");
    assert_eq!(vehicle.handshake.as_ref(), Some(hello));
    assert_eq!(vehicle.handshake.expect("told").vin, settled.bill.as_ref().expect("a bill").vin);
    assert_eq!((vehicle.parameters.as_ref(), vehicle.statistics.as_ref()), (Some(limits), Some(end)));
    assert!(vehicle.error_at.is_some() && vehicle.charger_stop.is_some() && vehicle.bms_stop.is_none());
    node.restart();
    assert_eq!(Api::of(&node).await.order(A, &order.serial).await, settled);
    pile.stop().await;
}

fn report(event: &pb::OrderEvent) -> Option<&Report> {
    event.bms.as_ref().and_then(|bms| bms.report.as_ref())
}

fn names(flags: &[pb::VehicleFlag]) -> Vec<&str> {
    assert!(flags.iter().all(|flag| flag.state() == pb::VehicleFlagState::Set));
    flags.iter().map(|flag| flag.name.as_str()).collect()
}
