//! What callers read: lists, watches, measurements, health. A slow reader hurts only itself.

use pileway::api::pb;
use pileway::api::pb::{OrderChange, OrderState};
use pileway::wire::*;
use tonic::{Code, Streaming};

use crate::common::{Api, Node, Pile, eventually, frames, reason, within};
use crate::{A, B, charging, kinds, violations, with_two_guns};

#[tokio::test]
async fn lists_come_in_pages_and_filters_add_up() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    let mut other = Pile::login(&node, B).await;
    for n in 1..=7 {
        pile.settle(1, Serial([n; 16]), 10).await;
    }
    let (open, _) = charging(&api, &mut other).await;

    let list = async |request: pb::ListOrdersRequest| {
        within("ListOrders", api.charging.clone().list_orders(request)).await.map(tonic::Response::into_inner)
    };
    let of_a = pb::ListOrdersRequest { pile: A.into(), page_size: 3, ..Default::default() };
    let mut pages = vec![list(of_a.clone()).await.expect("a page")];
    while let Some(page_token) = pages.last().map(|page| page.next_page_token.clone()).filter(|t| !t.is_empty()) {
        pages.push(list(pb::ListOrdersRequest { page_token, ..of_a.clone() }).await.expect("a page"));
    }
    assert_eq!(pages.iter().map(|page| page.orders.len()).collect::<Vec<_>>(), [3, 3, 1]);
    let serials: Vec<_> = pages.iter().flat_map(|page| &page.orders).map(|order| order.serial.clone()).collect();
    // Those of one millisecond come in any order; newest first otherwise.
    let created: Vec<_> = pages
        .iter()
        .flat_map(|page| &page.orders)
        .map(|o| o.created_at.expect("a time"))
        .map(|t| (t.seconds, t.nanos))
        .collect();
    assert!(created.is_sorted_by(|newer, older| newer >= older), "{created:?}");
    let mut sorted = serials.clone();
    sorted.sort();
    assert_eq!(sorted, (1..=7).map(|n: u8| Serial([n; 16]).to_string()).collect::<Vec<_>>());

    let stray =
        pb::ListOrdersRequest { pile: B.into(), page_token: pages[0].next_page_token.clone(), ..Default::default() };
    let status = list(stray).await.expect_err("a token of another list");
    assert_eq!((reason(&status).0, violations(&status)), (Code::InvalidArgument, vec!["page_token".to_owned()]));

    let filtered = async |request| list(request).await.expect("a page").orders.into_iter().map(|o| o.serial).collect();
    let state = |state: OrderState| pb::ListOrdersRequest { state: state.into(), ..Default::default() };
    let found: Vec<_> = filtered(state(OrderState::Charging)).await;
    assert_eq!(found, std::slice::from_ref(&open));
    let found: Vec<_> = filtered(pb::ListOrdersRequest { pile: B.into(), ..state(OrderState::Settled) }).await;
    assert!(found.is_empty(), "{found:?}");
    let newest = pages[0].orders[0].created_at;
    let after = prost_types::Timestamp { seconds: newest.expect("a time").seconds + 3600, nanos: 0 };
    let found: Vec<_> = filtered(pb::ListOrdersRequest { created_from: Some(after), ..Default::default() }).await;
    assert!(found.is_empty(), "{found:?}");
    let found: Vec<_> = filtered(pb::ListOrdersRequest { created_to: Some(after), ..Default::default() }).await;
    assert_eq!(found.len(), 8);

    let piles = api.piles.clone().list_piles(pb::ListPilesRequest { page_size: 1, ..Default::default() }).await;
    let piles = piles.expect("a page").into_inner();
    assert_eq!((piles.piles[0].pile.as_str(), piles.next_page_token.is_empty()), (A, false));
}

#[tokio::test]
async fn a_watch_begins_with_what_is_open() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    let mut other = Pile::login(&node, B).await;
    let (order, serial) = charging(&api, &mut pile).await;
    other.settle(1, Serial([8; 16]), 10).await;
    let (theirs, _) = charging(&api, &mut other).await;

    let mut all = api.watch_orders(&[]).await;
    let mut open: Vec<_> = all.snapshot.iter().map(|order| order.serial.clone()).collect();
    open.sort();
    let mut expected = vec![order.clone(), theirs];
    expected.sort();
    assert_eq!(open, expected);
    let mut of_a = api.watch_orders(&[A]).await;
    assert_eq!(of_a.snapshot.iter().map(|order| order.serial.as_str()).collect::<Vec<_>>(), [order.as_str()]);

    other.settle(1, Serial([7; 16]), 10).await;
    pile.settle(1, serial, 20_000).await;
    assert_eq!(kinds(&of_a.until(&order, OrderChange::Settled).await), [OrderChange::Settled]);
    // An adopted order is made and settled in one.
    assert_eq!(kinds(&all.until(&order, OrderChange::Settled).await), [OrderChange::Settled, OrderChange::Settled]);
}

#[tokio::test]
async fn what_a_pile_measures_is_watched_from_the_latest_on() {
    let (node, api, mut pile) = with_two_guns().await;
    let mut other = Pile::login(&node, B).await;
    pile.idle(1).await;
    pile.charge(2, Serial([2; 16]), 1000).await;
    pile.send(battery(Serial([2; 16]))).await;
    other.idle(1).await;
    pile.served().await;
    other.served().await;

    let mut all = watch(&api, &[], &[]).await;
    let mut known = vec![];
    for _ in 0..4 {
        let message = next(&mut all).await;
        assert!(message.snapshot && message.skipped == 0, "{message:?}");
        let telemetry = message.telemetry.expect("a measurement");
        known.push((telemetry.pile, telemetry.gun, kind(telemetry.measured.as_ref())));
    }
    known.sort();
    let expected = [(A, 1, "live"), (A, 2, "battery"), (A, 2, "live"), (B, 1, "live")];
    assert_eq!(known, expected.map(|(pile, gun, kind)| (pile.to_owned(), gun, kind)));

    // Only what was asked for, and it ends with its session.
    let mut batteries = watch(&api, &[A], &[pb::TelemetryKind::Battery]).await;
    assert!(next(&mut batteries).await.snapshot);
    pile.idle(2).await;
    other.idle(1).await;
    pile.send(battery(Serial::ZERO)).await;
    let message = next(&mut batteries).await;
    assert_eq!((message.snapshot, message.skipped), (false, 0));
    let telemetry = message.telemetry.expect("a measurement");
    assert_eq!((telemetry.serial.as_str(), kind(telemetry.measured.as_ref())), ("", "battery"));
    drop(pile);
    api.session_ends(A).await;
    let telemetry = next(&mut watch(&api, &[], &[]).await).await.telemetry.expect("a measurement");
    assert_eq!(telemetry.pile, B);
}

#[tokio::test]
async fn a_slow_reader_gets_the_latest_and_how_many_it_missed() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    let mut slow = watch(&api, &[A], &[]).await;
    // Far more than fits between a node and a client that does not read.
    let count = 20_000;
    let mut frames = bytes::BytesMut::new();
    for n in 1..=count {
        let frame = frames::charging(A, 1, Serial([2; 16]), n);
        Outgoing::new(Sequence([0, 0]), frame).write(&mut frames).expect("fits");
    }
    pile.send_bytes(&frames).await;
    pile.served().await;
    let (mut read, mut skipped) = (0, 0);
    loop {
        let message = next(&mut slow).await;
        (read, skipped) = (read + 1, skipped + message.skipped);
        let Some(pb::telemetry::Measured::Live(live)) = message.telemetry.and_then(|t| t.measured) else { panic!() };
        if live.energy_mwh == i64::from(count) * 100 {
            break;
        }
    }
    assert_eq!(read + skipped, i64::from(count));
    assert!(skipped > 0, "nothing was skipped: the reader was not slow enough");
}

#[tokio::test]
async fn a_reading_comes_from_the_pile() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    let read = |gun| pb::ReadTelemetryRequest { pile: A.into(), gun };
    let mut client = api.telemetry.clone();
    let (answer, ()) = tokio::join!(client.read_telemetry(read(1)), async {
        assert_eq!(pile.expect::<RealtimeQuery>().await.gun_no, GunNo(1));
        pile.charge(1, Serial([5; 16]), 12_345).await;
    });
    let telemetry = answer.expect("the pile's answer").into_inner().telemetry.expect("a measurement");
    assert_eq!(telemetry.serial, "05".repeat(16));
    let Some(pb::telemetry::Measured::Live(live)) = telemetry.measured else { panic!("{telemetry:?}") };
    assert_eq!((live.voltage_mv, live.current_ma, live.power_w), (400_000, 100_000, 40_000));
    assert_eq!((live.energy_mwh, live.soc_percent, live.cable_celsius), (1_234_500, Some(55), Some(20)));
    let status = client.read_telemetry(read(2)).await.expect_err("one gun");
    assert_eq!(reason(&status), (Code::NotFound, "GUN_UNKNOWN".into()));
}

fn battery(serial: Serial) -> BmsInfo {
    BmsInfo {
        transaction_serial: serial,
        pile_code: frames::code(A),
        gun_no: GunNo(2),
        max_cell_voltage_no: Ordinal(0),
        max_temp: Temp(80),
        max_temp_point_no: Ordinal(0),
        min_temp: Temp(70),
        min_temp_point_no: Ordinal(0),
        state_byte1: BatteryStateByte1(0),
        state_byte2: BatteryStateByte2(0),
    }
}

async fn watch(api: &Api, piles: &[&str], kinds: &[pb::TelemetryKind]) -> Streaming<pb::WatchTelemetryResponse> {
    let request = pb::WatchTelemetryRequest {
        piles: piles.iter().map(|pile| (*pile).to_owned()).collect(),
        kinds: kinds.iter().map(|kind| (*kind).into()).collect(),
    };
    within("WatchTelemetry", api.telemetry.clone().watch_telemetry(request)).await.expect("a watch").into_inner()
}

async fn next(watch: &mut Streaming<pb::WatchTelemetryResponse>) -> pb::WatchTelemetryResponse {
    within("a measurement", watch.message()).await.expect("the watch goes on").expect("the watch goes on")
}

fn kind(measured: Option<&pb::telemetry::Measured>) -> &'static str {
    match measured.expect("a measurement") {
        pb::telemetry::Measured::Live(_) => "live",
        pb::telemetry::Measured::Demand(_) => "demand",
        pb::telemetry::Measured::Battery(_) => "battery",
        pb::telemetry::Measured::GroundLock(_) => "ground lock",
    }
}

#[tokio::test]
async fn health_names_the_node_its_services_and_its_store() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;

    let node = Node::start();
    let health = HealthClient::new(Api::of(&node).await.channel);
    for service in
        ["", "pileway.v1.PileService", "pileway.v1.ChargingService", "pileway.v1.TelemetryService", "pileway.store"]
    {
        eventually(service, || async {
            let request = HealthCheckRequest { service: service.to_owned() };
            let answer = health.clone().check(request).await.ok()?;
            (answer.into_inner().status() == ServingStatus::Serving).then_some(())
        })
        .await;
    }
    let request = HealthCheckRequest { service: "no.such.Service".to_owned() };
    assert_eq!(health.clone().check(request).await.expect_err("unknown").code(), Code::NotFound);
}
