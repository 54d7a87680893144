//! One vehicle on two guns, started by a caller: both charge or none, both bills settle.

use pileway::api::pb;
use pileway::api::pb::{OrderAnomalyKind, OrderChange, OrderState, StartFailureKind, StopCause};
use pileway::sim::{Behaviour, Fleet, FleetConfig, PileConfig};
use pileway::wire::*;
use tonic::Code;

use crate::common::api::{fact, parallel_request, start_request, wire_serial};
use crate::common::{Api, Node, Pile, eventually, frames, reason};
use crate::{A, B, STOPPED_AND_BILLED, cny, rejected, violations, with_two_guns};

/// Waits for both 0xA4, and answers them, each with yes or a no; `None` is no answer.
async fn answer(pile: &mut Pile, reasons: [Option<StartFailure>; 2]) -> [ParallelRemoteStart; 2] {
    let starts = [pile.expect::<ParallelRemoteStart>().await, pile.expect::<ParallelRemoteStart>().await];
    for (start, reason) in starts.iter().zip(reasons) {
        if let Some(reason) = reason {
            pile.send(frames::parallel_answer(start, reason)).await;
        }
    }
    starts
}

const YES: Option<StartFailure> = Some(StartFailure::None);

/// A vehicle that charges on both guns.
async fn charging(api: &Api, pile: &mut Pile) -> [pb::Order; 2] {
    let (orders, _) = tokio::join!(api.start_parallel(parallel_request(A)), answer(pile, [YES, YES]));
    let orders = orders.expect("the pile said yes twice");
    for (gun, order) in (1..).zip(&orders) {
        pile.charge(gun, wire_serial(order), 1000).await;
        api.order_becomes(A, &order.serial, OrderState::Charging).await;
    }
    orders
}

/// The guns that 0x36 has gone to since.
async fn stopped(pile: &mut Pile) -> Vec<u8> {
    let gun = |frame: &Frame| if let Frame::RemoteStop(stop) = frame { stop.gun_no.number(2) } else { 0 };
    pile.seen().await.iter().map(gun).collect()
}

#[tokio::test]
async fn one_charge_on_two_guns_from_the_start_to_both_bills() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut events = api.watch_orders(&[A]).await;
    let mut pile = Pile::login_with_guns(&node, A, 2).await;

    let mut request = parallel_request(A);
    request.order_id = "invoice 18".into();
    request.attributes = [("tenant".to_owned(), "nord".to_owned())].into();
    request.logical_card = "0000001000000573".into();
    request.physical_card = "00000000d14b0a54".into();
    request.guns[1].balance = Some(cny(7, 0));
    request.guns[0].limits = Some(pb::ChargeLimits { soc_percent: Some(90), ..Default::default() });
    request.guns.reverse();
    let (orders, starts) = tokio::join!(api.start_parallel(request.clone()), answer(&mut pile, [YES, YES]));
    let orders = orders.expect("the pile said yes twice");
    assert_eq!([orders[0].gun, orders[1].gun], [1, 2], "by number, however they were named");
    assert_eq!(orders[0].parallel_no.len(), 12);
    for ((order, other), (start, balance)) in orders.iter().zip(orders.iter().rev()).zip(starts.iter().zip([5000, 700]))
    {
        assert_eq!((order.state(), order.origin()), (OrderState::Starting, pb::OrderOrigin::Platform));
        assert_eq!((wire_serial(order), i32::from(start.gun_no.0)), (start.transaction_serial, order.gun));
        assert_eq!(order.parallel_no, start.parallel_no.to_string());
        assert_eq!((&order.parallel_no, &order.parallel_serial), (&other.parallel_no, &other.serial));
        assert_eq!((&order.order_id, &order.attributes), (&request.order_id, &request.attributes));
        assert_eq!(order.request_id, request.request_id);
        assert_eq!(start.balance, Balance(balance));
        assert_eq!(start.logical_card.to_string(), request.logical_card);
        assert_eq!(start.physical_card.to_string(), request.physical_card);
    }
    assert_eq!(orders[0].limits.as_ref().expect("agreed").soc_percent, Some(90));

    for (gun, order) in (1..).zip(&orders) {
        pile.charge(gun, wire_serial(order), 1000 * u32::from(gun)).await;
        let charging = api.order_becomes(A, &order.serial, OrderState::Charging).await;
        assert_eq!(charging.last_metered.expect("metered").energy_mwh, 100_000 * i64::from(gun));
    }

    // One gun is named, both end; as some piles do, it says so for both.
    let (stop, ()) = tokio::join!(api.stop(A, &orders[1].serial), async {
        for gun in [2, 1] {
            assert_eq!(pile.expect::<RemoteStop>().await.gun_no.number(2), gun);
            pile.send(frames::stop_answer(A, gun, StopFailure::None)).await;
        }
    });
    assert_eq!(stop.expect("the pile said yes").order.expect("an order").serial, orders[1].serial);
    for (gun, order) in (1..).zip(&orders) {
        pile.idle(gun).await;
        api.order_becomes(A, &order.serial, OrderState::Finished).await;
        pile.settle(gun, wire_serial(order), 20_000 * u32::from(gun)).await;
        let settled = api.order(A, &order.serial).await;
        assert_eq!(settled.state(), OrderState::Settled);
        let bill = settled.bill.expect("a bill");
        assert_eq!((bill.total_energy_mwh, bill.audit), (2_000_000 * i64::from(gun), vec![]));
        let cause = if gun == 2 { StopCause::Caller } else { StopCause::OtherGun };
        assert_eq!(settled.stop.expect("stopped").cause(), cause);
    }
    let seen = events.until(&orders[1].serial, OrderChange::Settled).await;
    for order in &orders {
        let of = |event: &&pb::OrderEvent| event.order.as_ref().is_some_and(|after| after.serial == order.serial);
        let changes: Vec<_> = seen.iter().filter(of).map(pb::OrderEvent::change).collect();
        assert_eq!(changes, STOPPED_AND_BILLED);
    }
    assert!(pile.seen().await.is_empty());
}

#[tokio::test]
async fn a_no_of_one_gun_is_the_answer_and_the_other_is_stopped() {
    let (_node, api, mut pile) = with_two_guns().await;
    for (no, reasons) in
        [(2, [YES, Some(StartFailure::EquipmentFault)]), (1, [Some(StartFailure::EquipmentFault), YES])]
    {
        let request = parallel_request(A);
        let (answered, starts) = tokio::join!(api.start_parallel(request.clone()), answer(&mut pile, reasons));
        let serials = starts.map(|start| start.transaction_serial.to_string());
        let refused = &serials[no - 1];
        // The same again, of what is stored.
        for status in [answered.expect_err("one no"), api.start_parallel(request).await.expect_err("the same")] {
            assert_eq!(reason(&status), rejected());
            assert_eq!((fact(&status, "frame"), fact(&status, "code")), ("0xa3".into(), "3".into()));
            assert_eq!((fact(&status, "gun"), &fact(&status, "serial")), (no.to_string(), refused));
        }
        let failed = api.order_becomes(A, refused, OrderState::Failed).await;
        assert_eq!(failed.failure.expect("a failure").kind(), StartFailureKind::Rejected);
        let other = api.order_becomes(A, &serials[2 - no], OrderState::Stopping).await;
        assert_eq!(other.stop.expect("stopped").cause(), StopCause::OtherGun);
        assert_eq!(stopped(&mut pile).await, [3 - no as u8]);
        // It had begun, and owes a record.
        pile.settle(3 - no as u8, serials[2 - no].parse().expect("hex"), 10).await;
    }

    // Both, as a pile should.
    let fault = Some(StartFailure::EquipmentFault);
    let (answered, starts) = tokio::join!(api.start_parallel(parallel_request(A)), answer(&mut pile, [fault, fault]));
    assert_eq!(reason(&answered.expect_err("no")), rejected());
    for start in starts {
        api.order_becomes(A, &start.transaction_serial.to_string(), OrderState::Failed).await;
    }
    assert_eq!(stopped(&mut pile).await, [0; 0]);

    // Not plugged in, and plugged in later.
    let plug = Some(StartFailure::NotPluggedIn);
    let (answered, starts) = tokio::join!(api.start_parallel(parallel_request(A)), answer(&mut pile, [plug, plug]));
    for order in answered.expect("it waits") {
        assert_eq!(order.state(), OrderState::WaitingForPlug);
    }
    for start in starts {
        pile.send(frames::parallel_answer(&start, StartFailure::None)).await;
        api.order_becomes(A, &start.transaction_serial.to_string(), OrderState::Starting).await;
    }
}

#[tokio::test]
async fn silence_is_unknown_and_both_orders_tell() {
    // A twentieth of it is what this machine may be late: a caller whose own timer goes off is told no serial.
    let node = Node::with(&[("GRPC__START_DEADLINE", "4s")]);
    let api = Api::of(&node).await;
    let mut pile = Pile::login_with_guns(&node, A, 2).await;
    let request = parallel_request(A);
    let (answered, starts) = tokio::join!(api.start_parallel(request.clone()), answer(&mut pile, [YES, None]));
    let status = answered.expect_err("half an answer");
    assert_eq!(reason(&status), (Code::DeadlineExceeded, "OUTCOME_UNKNOWN".into()));
    let serials = starts.clone().map(|start| start.transaction_serial.to_string());
    assert_eq!(fact(&status, "serial"), serials[0]);
    api.order_becomes(A, &serials[0], OrderState::Starting).await;
    assert_eq!(api.order(A, &serials[1]).await.state(), OrderState::Requested);
    let status = api.start(start_request(A, 2)).await.expect_err("busy");
    assert_eq!((reason(&status).1.as_str(), fact(&status, "serial")), ("GUN_BUSY", serials[1].clone()));

    // The other answer comes after all, and a retry finds it.
    pile.send(frames::parallel_answer(&starts[1], StartFailure::None)).await;
    api.order_becomes(A, &serials[1], OrderState::Starting).await;
    let again = api.start_parallel(request).await.expect("what has become of it");
    assert_eq!(again.map(|order| order.serial), serials);
    assert!(pile.seen().await.is_empty(), "it is not started twice");
}

#[tokio::test]
async fn a_request_id_starts_both_guns_once_however_often_it_is_sent() {
    let (mut node, mut api, mut pile) = with_two_guns().await;
    let request = parallel_request(A);
    let (first, second, starts) = tokio::join!(
        api.start_parallel(request.clone()),
        api.start_parallel(request.clone()),
        answer(&mut pile, [YES, YES])
    );
    let serials = starts.map(|start| start.transaction_serial.to_string());
    for orders in [first, second] {
        assert_eq!(orders.expect("yes").map(|order| order.serial), serials);
    }
    for round in 0..4 {
        let again = api.start_parallel(request.clone()).await.expect("the same");
        assert_eq!(again.map(|order| order.serial), serials);
        let mut others = [request.clone(), request.clone()];
        others[0].guns[1].balance = Some(cny(51, 0));
        others[1].order_id = "another".into();
        for other in others {
            let status = api.start_parallel(other).await.expect_err("another wish");
            assert_eq!(reason(&status), (Code::InvalidArgument, "REQUEST_REUSED".into()));
        }
        let alone = pb::StartChargingRequest { request_id: request.request_id.clone(), ..start_request(A, 1) };
        assert_eq!(reason(&api.start(alone).await.expect_err("another wish")).1, "REQUEST_REUSED");
        assert!(pile.seen().await.is_empty(), "nothing is started again");
        match round {
            0 => {
                node.restart();
                api = Api::of(&node).await;
                pile = Pile::login_with_guns(&node, A, 2).await;
            }
            1 => pile.settle(2, serials[1].parse().expect("hex"), 100).await,
            2 => pile.settle(1, serials[0].parse().expect("hex"), 100).await,
            _ => {}
        }
    }
    // Also while the pile is away; and one that was refused.
    let refused = parallel_request(A);
    let fault = Some(StartFailure::EquipmentFault);
    let (answered, starts) = tokio::join!(api.start_parallel(refused.clone()), answer(&mut pile, [fault, fault]));
    assert_eq!(reason(&answered.expect_err("no")), rejected());
    for start in &starts {
        // The answer overtakes what is stored.
        api.order_becomes(A, &start.transaction_serial.to_string(), OrderState::Failed).await;
    }
    drop(pile);
    api.session_ends(A).await;
    for order in api.start_parallel(request).await.expect("the same") {
        assert_eq!(order.state(), OrderState::Settled);
    }
    assert_eq!(reason(&api.start_parallel(refused).await.expect_err("the same")), rejected());
    assert_eq!(api.orders(A).await.len(), 4);
}

#[tokio::test]
async fn a_pile_that_goes_in_the_middle_keeps_both_orders() {
    let (node, api, mut pile) = with_two_guns().await;
    let request = parallel_request(A);
    let (answered, starts) = tokio::join!(api.start_parallel(request.clone()), async {
        let starts = answer(&mut pile, [None, None]).await;
        drop(pile);
        starts
    });
    assert_eq!(reason(&answered.expect_err("it went")), (Code::Aborted, "SESSION_LOST".into()));
    let serials = starts.map(|start| start.transaction_serial.to_string());
    for serial in &serials {
        assert_eq!(api.order(A, serial).await.state(), OrderState::Requested);
    }
    let status = api.start_parallel(request.clone()).await.expect_err("nobody knows");
    assert_eq!(reason(&status).1, "OUTCOME_UNKNOWN");

    // It has started both, and comes back with them.
    let mut pile = Pile::login_with_guns(&node, A, 2).await;
    for (gun, serial) in (1..).zip(&serials) {
        pile.charge(gun, serial.parse().expect("hex"), 1000).await;
        api.order_becomes(A, serial, OrderState::Charging).await;
    }
    let again = api.start_parallel(request).await.expect("what has become of it");
    assert_eq!(again.map(|order| order.serial), serials);
    for (gun, serial) in (1..).zip(&serials) {
        pile.settle(gun, serial.parse().expect("hex"), 2000).await;
        api.order_becomes(A, serial, OrderState::Settled).await;
    }
    assert!(pile.seen().await.is_empty());
}

#[tokio::test]
async fn a_stop_of_one_gun_stops_both_whatever_the_pile_makes_of_it() {
    let (_node, api, mut pile) = with_two_guns().await;
    let orders = charging(&api, &mut pile).await;
    let (stop, ()) = tokio::join!(api.stop(A, &orders[0].serial), async {
        // It ends both by the first, and has nothing left for the second.
        pile.expect::<RemoteStop>().await;
        pile.send(frames::stop_answer(A, 1, StopFailure::None)).await;
        pile.expect::<RemoteStop>().await;
        pile.send(frames::stop_answer(A, 2, StopFailure::NotCharging)).await;
    });
    stop.expect("the pile said yes");
    for (gun, order) in (1..).zip(&orders) {
        pile.settle(gun, wire_serial(order), 2000).await;
        let settled = api.order_becomes(A, &order.serial, OrderState::Settled).await;
        assert!(settled.anomalies.iter().all(|a| a.kind() == OrderAnomalyKind::BillMismatch), "{settled:?}");
    }
    let orders = charging(&api, &mut pile).await;
    // A record of one of them ends nothing but itself.
    pile.settle(2, wire_serial(&orders[1]), 2000).await;
    assert_eq!(stopped(&mut pile).await, [0; 0]);
    assert_eq!(api.order(A, &orders[0].serial).await.state(), OrderState::Charging);
}

#[tokio::test]
async fn what_cannot_be_a_vehicle_on_two_guns_is_refused() {
    let (_node, api, mut pile) = with_two_guns().await;
    let check = async |change: fn(&mut pb::StartParallelChargingRequest), code, name: &str| {
        let mut request = parallel_request(A);
        change(&mut request);
        let status = api.start_parallel(request).await.expect_err(name);
        assert_eq!(reason(&status), (code, name.to_owned()));
        status
    };
    let same = check(|r| r.guns[1].gun = 1, Code::InvalidArgument, "INVALID_ARGUMENT").await;
    assert_eq!(violations(&same), ["guns[1].gun"]);
    let one = check(|r| r.guns.truncate(1), Code::InvalidArgument, "INVALID_ARGUMENT").await;
    assert_eq!(violations(&one), ["guns"]);
    let third = check(|r| r.guns[1].gun = 3, Code::NotFound, "GUN_UNKNOWN").await;
    assert_eq!((fact(&third, "gun"), fact(&third, "guns")), ("3".into(), "2".into()));
    let power = |r: &mut pb::StartParallelChargingRequest| {
        r.guns[0].limits = Some(pb::ChargeLimits { max_power_w: Some(7000), ..Default::default() });
    };
    let power = check(power, Code::Unimplemented, "UNSUPPORTED_BY_PILE").await;
    assert_eq!(fact(&power, "what"), "power limit of a parallel charge");
    check(|r| r.expected_tariff = "00000000000000ff".into(), Code::FailedPrecondition, "TARIFF_NOT_CURRENT").await;
    check(|r| r.pile = "99999999999999".into(), Code::NotFound, "PILE_UNKNOWN").await;
    assert!(pile.seen().await.is_empty());
    assert!(api.orders(A).await.is_empty());

    // V1.5 has no such frame.
    let old = LoginRequest { protocol_version: ProtocolVersion(15), ..frames::login(A, 2) };
    pile.send(old).await;
    pile.expect::<LoginResponse>().await;
    let old = check(|_| {}, Code::Unimplemented, "UNSUPPORTED_BY_PILE").await;
    assert_eq!((fact(&old, "what"), fact(&old, "version")), ("parallel charging".into(), "15".into()));
}

#[tokio::test]
async fn a_simulated_pile_charges_a_vehicle_on_both_guns_or_is_stopped() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let pile = async |code: &str, behaviours: &[Behaviour]| {
        let first = PileConfig {
            guns: 2,
            charge_for: behaviours.is_empty().then_some(std::time::Duration::from_millis(500)),
            behaviours: behaviours.to_vec(),
            ..PileConfig::new(code.parse().expect("14 digits"))
        };
        let fleet = Fleet::start(&FleetConfig::new(vec![node.piles.to_string()], first));
        api.session_begins(code).await;
        fleet
    };
    // As it should.
    let fleet = pile(A, &[]).await;
    let orders = start_with_tariff(&api, A).await.expect("it says yes to both");
    for order in &orders {
        let settled = api.order_becomes(A, &order.serial, OrderState::Settled).await;
        assert_eq!(settled.bill.expect("a bill").audit, vec![]);
    }
    fleet.stop().await;

    // Yes and no: the one that charges is stopped, and billed.
    let fleet = pile(B, &[Behaviour::RefuseSecond(3)]).await;
    let status = start_with_tariff(&api, B).await.expect_err("no for the second");
    assert_eq!((reason(&status), fact(&status, "gun")), (rejected(), "2".into()));
    let refused = api.order_becomes(B, &fact(&status, "serial"), OrderState::Failed).await;
    let stopped = api.order_becomes(B, &refused.parallel_serial, OrderState::Settled).await;
    assert_eq!(stopped.stop.expect("stopped").cause(), StopCause::OtherGun);
    fleet.stop().await;
}

/// Once the pile has its tariff, without which it must not charge: it is given it, and says so.
async fn start_with_tariff(api: &Api, pile: &str) -> Result<[pb::Order; 2], tonic::Status> {
    let given = eventually("a tariff", || async { api.pile(pile).await.tariff }).await;
    let expected_tariff = given.fingerprint;
    api.start_parallel(pb::StartParallelChargingRequest { expected_tariff, ..parallel_request(pile) }).await
}
