//! The caller gets the pile's own answer, a definite error, or an explicit unknown; a start starts once; an acknowledged
//! record is settled, once.

#[path = "../common/mod.rs"]
mod common;
mod reading;
mod closing;
mod away;
mod balance;
mod limits;
mod parallel;

use std::time::Duration;

use common::api::{fact, new_request_id, start_request, wire_serial};
use common::{Api, Node, Pile, frames, reason};
use pileway::api::pb;
use pileway::api::pb::{OrderAnomalyKind, OrderChange, OrderOrigin, OrderState};
use pileway::wire::*;
use tonic::{Code, Status};
use tonic_types::StatusExt;

const A: &str = "32010600019236";
const B: &str = "32010600019237";

fn cny(units: i64, nanos: i32) -> pb::Money {
    pb::Money { currency_code: "CNY".into(), units, nanos }
}

fn rejected() -> (Code, String) {
    (Code::FailedPrecondition, "PILE_REJECTED".into())
}

/// What is told of a charge that is stopped, from its start to its bill.
const STOPPED_AND_BILLED: [OrderChange; 6] = [
    OrderChange::Created,
    OrderChange::Accepted,
    OrderChange::Charging,
    OrderChange::StopRequested,
    OrderChange::Finished,
    OrderChange::Settled,
];

/// A node, what it is asked through, and a pile that is online there.
async fn with_two_guns() -> (Node, Api, Pile) {
    let node = Node::start();
    let api = Api::of(&node).await;
    let pile = Pile::login_with_guns(&node, A, 2).await;
    (node, api, pile)
}

/// Starts a charge on gun 1 that the pile accepts.
async fn started(api: &Api, pile: &mut Pile) -> (pb::Order, Serial) {
    let request = start_request(&pile.code, 1);
    let (order, serial) = tokio::join!(api.start(request), pile.answer_start(StartFailure::None));
    (order.expect("the pile said yes"), serial)
}

/// Starts a charge on gun 1 that energy flows in.
async fn charging(api: &Api, pile: &mut Pile) -> (String, Serial) {
    let (order, serial) = started(api, pile).await;
    pile.charge(1, serial, 1000).await;
    api.order_becomes(&pile.code, &order.serial, OrderState::Charging).await;
    (order.serial, serial)
}

fn kinds(events: &[pb::OrderEvent]) -> Vec<OrderChange> {
    events.iter().map(pb::OrderEvent::change).collect()
}

#[tokio::test]
async fn one_charge_from_login_to_settled_bill() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut events = api.watch_orders(&[A]).await;
    let mut pile = Pile::login_with_guns(&node, A, 2).await;

    // The tariff: ours differs from the one the pile names, until it has fetched ours and names that.
    let check = |number| TariffCheckRequest { pile_code: frames::code(A), tariff_model_no: number };
    pile.send(check(TariffNo([0, 0]))).await;
    assert_eq!(pile.expect::<TariffCheckResponse>().await.result, TariffCheck::Differs);
    pile.send(TariffRequest { pile_code: frames::code(A) }).await;
    let tariff = pile.expect::<TariffResponse>().await;
    assert_eq!((tariff.peak_energy_price, tariff.peak_service_price), (Price(100_000), Price(40_000)));
    pile.send(check(tariff.tariff_model_no)).await;
    assert_eq!(pile.expect::<TariffCheckResponse>().await.result, TariffCheck::Same);

    let request = pb::StartChargingRequest {
        order_id: "invoice 17".into(),
        attributes: [("tenant".to_owned(), "nord".to_owned())].into(),
        logical_card: "0000001000000573".into(),
        physical_card: "00000000d14b0a54".into(),
        ..start_request(A, 2)
    };
    let (order, start) = tokio::join!(api.start(request.clone()), async {
        let start = pile.expect::<RemoteStart>().await;
        let answer = frames::start_answer(A, 2, start.transaction_serial, StartFailure::None);
        pile.send(answer).await;
        start
    });
    let order = order.expect("the pile said yes");
    assert_eq!((order.state(), order.origin()), (OrderState::Starting, OrderOrigin::Platform));
    let asked = api.order(A, &order.serial).await;
    assert_eq!(asked.state(), OrderState::Starting, "never behind what a caller was told");
    assert_eq!(order.name, format!("piles/{A}/orders/{}", order.serial));
    assert_eq!(wire_serial(&order), start.transaction_serial);
    assert_eq!((start.gun_no, start.balance), (GunNo(2), Balance(5000)));
    assert_eq!(start.logical_card.to_string(), request.logical_card);
    assert_eq!(start.physical_card.to_string(), request.physical_card);

    pile.charge(2, start.transaction_serial, 10_000).await;
    let charging = api.order_becomes(A, &order.serial, OrderState::Charging).await;
    assert_eq!(charging.last_metered.expect("metered").energy_mwh, 1_000_000);
    // GetOrder is as fresh as the last measurement, of which the store hears nothing.
    pile.charge(2, start.transaction_serial, 15_000).await;
    pile.served().await;
    assert_eq!(api.order(A, &order.serial).await.last_metered.expect("metered").energy_mwh, 1_500_000);

    let (stopped, ()) = tokio::join!(api.stop(A, &order.serial), pile.answer_stop(StopFailure::None));
    let stopped = stopped.expect("the pile said yes");
    assert_eq!(stopped.confirmed_by(), pb::StopProof::Answer);
    assert_eq!(stopped.order.expect("an order").state(), OrderState::Stopping);
    assert_eq!(api.order(A, &order.serial).await.state(), OrderState::Stopping);
    pile.idle(2).await;
    api.order_becomes(A, &order.serial, OrderState::Finished).await;

    pile.settle(2, start.transaction_serial, 20_000).await;
    let settled = api.order(A, &order.serial).await;
    assert_eq!(settled.state(), OrderState::Settled);
    assert_eq!((&settled.order_id, &settled.attributes), (&request.order_id, &request.attributes));
    assert_eq!(settled.request_id, request.request_id);
    let bill = settled.bill.expect("a bill");
    assert_eq!((bill.total_energy_mwh, bill.total_amount), (2_000_000, Some(cny(2, 800_000_000))));
    assert_eq!((bill.total_energy_fee, bill.total_service_fee), (Some(cny(2, 0)), Some(cny(0, 800_000_000))));
    assert_eq!(bill.meter_end_mwh - bill.meter_start_mwh, bill.total_energy_mwh);
    assert_eq!(bill.vin, "LSVAA4182E2184847");
    assert_eq!(bill.start_time.expect("a time").text, "2026-05-17T08:30:00.000");
    let raw = bill.raw_record.expect("evidence");
    assert_eq!((raw.frame_code, raw.body.len()), (0x3B, 158));

    let seen = events.until(&order.serial, OrderChange::Settled).await;
    assert_eq!(kinds(&seen), STOPPED_AND_BILLED);
    let positions: Vec<_> =
        seen.iter().map(|event| event.position.as_ref().expect("a position")).map(|p| (p.epoch, p.seq)).collect();
    assert!(positions.is_sorted_by(|a, b| a < b), "{positions:?}");
}

#[tokio::test]
async fn a_start_answers_what_the_pile_answers() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;

    for (no, code, name) in [
        (StartFailure::WrongPileCode, "1", "pile code does not match"),
        (StartFailure::AlreadyCharging, "2", "gun already charging"),
        (StartFailure::EquipmentFault, "3", "equipment fault"),
        (StartFailure::Unknown(0x77), "119", "unknown reason"),
    ] {
        let (answer, serial) = tokio::join!(api.start(start_request(A, 1)), pile.answer_start(no));
        let status = answer.expect_err("the pile said no");
        assert_eq!(reason(&status), rejected());
        assert_eq!((fact(&status, "code"), fact(&status, "name")), (code.into(), name.into()));
        let order = api.order_becomes(A, &serial.to_string(), OrderState::Failed).await;
        assert_eq!(order.failure.expect("a failure").kind(), pb::StartFailureKind::Rejected);
    }

    // Not plugged in, and plugged in later.
    let not_plugged = pile.answer_start(StartFailure::NotPluggedIn);
    let (answer, serial) = tokio::join!(api.start(start_request(A, 1)), not_plugged);
    let order = answer.expect("an order that waits");
    assert_eq!(order.state(), OrderState::WaitingForPlug);
    assert!(order.plug_deadline.is_some());
    pile.send(frames::start_answer(A, 1, serial, StartFailure::None)).await;
    let order = api.order_becomes(A, &order.serial, OrderState::Starting).await;
    assert_eq!(order.plug_deadline, None);
    pile.settle(1, serial, 10).await;

    // The record of a failed start instead of 0x33, in every layout.
    let stop_reason = StopReason::StartFailedNoBhm;
    for layout in ["0x3b", "0x3f", "0x3d"] {
        let request = start_request(A, 1);
        let (answer, serial) = tokio::join!(api.start(request.clone()), async {
            let serial = pile.expect::<RemoteStart>().await.transaction_serial;
            let record: Frame = match layout {
                "0x3b" => TransactionRecord { stop_reason, ..frames::record(A, 1, serial, 0) }.into(),
                "0x3f" => TransactionRecordV14 { stop_reason, ..frames::record_v14(A, 1, serial, 0) }.into(),
                _ => TransactionRecordV17 { stop_reason, ..frames::record_v17(A, 1, serial, 0) }.into(),
            };
            pile.settle_frame(record).await;
            serial
        });
        // The same again, of what is stored.
        for status in [answer.expect_err("it failed on the pile"), api.start(request).await.expect_err("the same")] {
            assert_eq!(reason(&status), rejected());
            assert_eq!((fact(&status, "code"), fact(&status, "frame")), (0x59.to_string(), layout.to_owned()));
        }
        let order = api.order(A, &serial.to_string()).await;
        assert_eq!(order.state(), OrderState::Settled);
        assert_eq!(order.failure.expect("a failure").kind(), pb::StartFailureKind::FailedOnPile);
    }

    let status = api.start(start_request(A, 2)).await.expect_err("one gun");
    assert_eq!(reason(&status), (Code::NotFound, "GUN_UNKNOWN".into()));
    assert_eq!(fact(&status, "guns"), "1");
}

#[tokio::test]
async fn a_start_without_an_answer_is_unknown_and_its_order_tells() {
    let node = Node::with(&[("GRPC__START_DEADLINE", "500ms")]);
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    let request = start_request(A, 1);
    let (answer, start) = tokio::join!(api.start(request.clone()), pile.expect::<RemoteStart>());
    let status = answer.expect_err("no answer");
    assert_eq!(reason(&status), (Code::DeadlineExceeded, "OUTCOME_UNKNOWN".into()));
    let serial = fact(&status, "serial");
    assert_eq!(serial, start.transaction_serial.to_string());
    assert_eq!(api.order(A, &serial).await.state(), OrderState::Requested);
    assert_eq!(reason(&api.start(start_request(A, 1)).await.expect_err("busy")).1, "GUN_BUSY");

    // The answer comes after all, and a retry finds it.
    pile.send(frames::start_answer(A, 1, start.transaction_serial, StartFailure::None)).await;
    api.order_becomes(A, &serial, OrderState::Starting).await;
    assert_eq!(api.start(request).await.expect("what has become of it").serial, serial);
    assert!(pile.seen().await.is_empty(), "it is not started twice");
}

#[tokio::test]
async fn the_answer_is_there_before_the_caller_stops_listening() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    // The margin is a twentieth of it, which must be more than this machine may be late.
    let call = api.start_within(start_request(A, 1), Duration::from_secs(8));
    let (answer, _) = tokio::join!(call, pile.expect::<RemoteStart>());
    // A caller whose own timer had gone off would have no ErrorInfo.
    assert_eq!(reason(&answer.expect_err("no answer")).1, "OUTCOME_UNKNOWN");

    // No time at all: nothing is done.
    let call = api.start_within(start_request(A, 1), Duration::from_millis(40));
    call.await.expect_err("no time");
    assert_eq!(api.orders(A).await.len(), 1);
    assert!(pile.seen().await.is_empty());
}

#[tokio::test]
async fn a_request_id_starts_once_however_often_it_is_sent() {
    let (mut node, mut api, mut pile) = with_two_guns().await;
    let (request, refused) = (start_request(A, 1), start_request(A, 2));

    // Together: both get the one answer.
    let (first, second, serial) =
        tokio::join!(api.start(request.clone()), api.start(request.clone()), pile.answer_start(StartFailure::None));
    let serial = serial.to_string();
    assert_eq!((first.expect("yes").serial, second.expect("yes").serial), (serial.clone(), serial.clone()));
    let (answer, _) = tokio::join!(api.start(refused.clone()), pile.answer_start(StartFailure::EquipmentFault));
    assert_eq!(reason(&answer.expect_err("no")), rejected());

    // Later: what has become of it, also by the next run of the node.
    for round in 0..3 {
        assert_eq!(api.start(request.clone()).await.expect("the same").serial, serial);
        let status = api.start(refused.clone()).await.expect_err("the same");
        assert_eq!((reason(&status), fact(&status, "code")), (rejected(), "3".into()));
        for other in [
            pb::StartChargingRequest { gun: 2, ..request.clone() },
            pb::StartChargingRequest { balance: Some(cny(51, 0)), ..request.clone() },
            pb::StartChargingRequest { order_id: "another".into(), ..request.clone() },
        ] {
            let status = api.start(other).await.expect_err("another wish");
            assert_eq!(reason(&status), (Code::InvalidArgument, "REQUEST_REUSED".into()));
            assert_eq!(violations(&status), ["request_id"]);
        }
        assert!(pile.seen().await.is_empty(), "nothing is started again");
        if round == 0 {
            node.restart();
            api = Api::of(&node).await;
            pile = Pile::login_with_guns(&node, A, 2).await;
        } else if round == 1 {
            pile.settle(1, serial.parse().expect("hex"), 100).await;
        }
    }
    assert_eq!(api.start(request.clone()).await.expect("the same").state(), OrderState::Settled);
    assert_eq!(api.orders(A).await.len(), 2);

    // Also while somebody else has the gun, and while the pile is away.
    let next = start_request(A, 1);
    let (answer, _) = tokio::join!(api.start(next), pile.answer_start(StartFailure::None));
    answer.expect("yes");
    assert_eq!(api.start(request.clone()).await.expect("the same").state(), OrderState::Settled);
    drop(pile);
    assert_eq!(api.start(request).await.expect("the same").state(), OrderState::Settled);
    assert_eq!(reason(&api.start(refused).await.expect_err("the same")), rejected());
}

fn violations(status: &Status) -> Vec<String> {
    let named = status.get_details_bad_request().expect("BadRequest").field_violations;
    named.into_iter().map(|violation| violation.field).collect()
}

#[tokio::test]
async fn a_gun_has_one_order_and_a_stop_names_it() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    let (order, serial) = charging(&api, &mut pile).await;

    let status = api.start(start_request(A, 1)).await.expect_err("busy");
    assert_eq!(reason(&status), (Code::FailedPrecondition, "GUN_BUSY".into()));
    assert_eq!(fact(&status, "serial"), order);
    let not_active = (Code::FailedPrecondition, "ORDER_NOT_ACTIVE".to_owned());
    let other = "0123456789abcdef0123456789abcdef";
    assert_eq!(reason(&api.stop(A, other).await.expect_err("another order")), not_active);
    assert!(pile.seen().await.is_empty(), "nobody's charge is stopped by mistake");

    // The pile says no; asked again, its record is the answer.
    let (answer, ()) = tokio::join!(api.stop(A, &order), pile.answer_stop(StopFailure::Other));
    let status = answer.expect_err("the pile said no");
    assert_eq!((reason(&status), fact(&status, "frame")), (rejected(), "0x35".into()));
    let (answer, ()) = tokio::join!(api.stop(A, &order), async {
        pile.expect::<RemoteStop>().await;
        pile.settle(1, serial, 5000).await;
    });
    let answer = answer.expect("the record proves it");
    assert_eq!(answer.confirmed_by(), pb::StopProof::Record);
    assert_eq!(answer.order.expect("an order").state(), OrderState::Settled);
    assert_eq!(reason(&api.stop(A, &order).await.expect_err("over")), not_active);

    // A serial of the caller's own, once.
    let request = pb::StartChargingRequest { serial: other.into(), ..start_request(A, 1) };
    let (answer, serial) = tokio::join!(api.start(request.clone()), pile.answer_start(StartFailure::None));
    assert_eq!((answer.expect("yes").serial, serial.to_string()), (other.into(), other.to_owned()));
    pile.settle(1, serial, 1).await;
    let again = pb::StartChargingRequest { request_id: new_request_id(), ..request };
    assert_eq!(reason(&api.start(again).await.expect_err("taken")), (Code::AlreadyExists, "SERIAL_TAKEN".into()));
    assert!(pile.seen().await.is_empty());
}

#[tokio::test]
async fn an_acknowledged_record_is_settled_whatever_order_it_is_of() {
    let (_node, api, mut pile) = with_two_guns().await;

    // Records nobody here knows of: of offline charges, in every layout.
    let serial = |n: u8| Serial([n; 16]);
    let records: [(Frame, i32); 3] = [
        (frames::record(A, 1, serial(0x3B), 20_000).into(), 0x3B),
        (frames::record_v14(A, 1, serial(0x3F), 20_000).into(), 0x3F),
        (frames::record_v17(A, 1, serial(0x3D), 20_000).into(), 0x3D),
    ];
    for (record, code) in records {
        let serial = record.serial().expect("a serial").to_string();
        pile.settle_frame(record).await;
        let order = api.order(A, &serial).await;
        assert_eq!((order.state(), order.origin()), (OrderState::Settled, OrderOrigin::Pile));
        assert_eq!(order.anomalies.first().expect("adopted").kind(), OrderAnomalyKind::UnknownSerial);
        let bill = order.bill.expect("a bill");
        assert_eq!((bill.total_energy_mwh, bill.total_amount), (2_000_000, Some(cny(2, 800_000_000))));
        assert_eq!(bill.meter_end_mwh - bill.meter_start_mwh, 2_000_000);
        assert_eq!(bill.raw_record.expect("evidence").frame_code, code);
    }

    // Every 0x40 finds its order settled, however many come at once.
    for n in 0..50 {
        pile.send(frames::record(A, 1, serial(100 + n), 100 + u32::from(n))).await;
    }
    for _ in 0..50 {
        let acked = pile.expect::<TransactionRecordAck>().await.transaction_serial;
        let order = api.order(A, &acked.to_string()).await;
        assert_eq!(order.state(), OrderState::Settled);
        assert_eq!(order.bill.expect("a bill").total_energy_mwh, i64::from(acked.0[0]) * 100);
    }

    // Charging under a serial nobody gave out: adopted, and never stopped.
    pile.charge(2, serial(2), 500).await;
    let order = api.order_becomes(A, &serial(2).to_string(), OrderState::Charging).await;
    assert_eq!(order.origin(), OrderOrigin::Pile);
    pile.settle(2, serial(2), 600).await;
    assert_eq!(api.order(A, &serial(2).to_string()).await.state(), OrderState::Settled);
    assert!(pile.seen().await.is_empty());
}

#[tokio::test]
async fn every_copy_of_a_record_is_answered_and_its_order_settles_once() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    let mut events = api.watch_orders(&[]).await;
    let (order, serial) = charging(&api, &mut pile).await;
    let record = frames::record(A, 1, serial, 20_000);

    // Copies in one segment with the first, and one later.
    let mut glued = bytes::BytesMut::new();
    for n in 0..5 {
        Outgoing::new(Sequence([n, 7]), record.clone()).write(&mut glued).expect("fits");
    }
    pile.send_bytes(&glued).await;
    for n in 0..5 {
        assert_eq!(pile.expect_with_sequence::<TransactionRecordAck>().await.1, Sequence([n, 7]));
    }
    pile.settle_frame(record.clone()).await;

    // One that says something else is kept, flagged and answered; the first stays the bill.
    for _ in 0..2 {
        pile.settle(1, serial, 30_000).await;
    }
    let settled = api.order(A, &order).await;
    assert_eq!(settled.bill.expect("a bill").total_energy_mwh, 2_000_000);
    let anomalies: Vec<_> = settled.anomalies.iter().map(pb::OrderAnomaly::kind).collect();
    assert_eq!(anomalies, [OrderAnomalyKind::RecordConflict]);

    pile.settle(1, Serial([9; 16]), 1).await;
    let seen = events.until(&"09".repeat(16), OrderChange::Settled).await;
    let flagged: Vec<_> = seen.iter().filter(|e| e.anomaly() == OrderAnomalyKind::RecordConflict).collect();
    assert_eq!(flagged.len(), 1, "{flagged:#?}");
    let of_order: Vec<_> = seen.into_iter().filter(|e| e.order.as_ref().is_some_and(|o| o.serial == order)).collect();
    let settlements = kinds(&of_order).into_iter().filter(|kind| *kind == OrderChange::Settled).count();
    assert_eq!(settlements, 1, "{of_order:#?}");
}

#[tokio::test]
async fn nothing_follows_the_settlement_of_an_order() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    let mut events = api.watch_orders(&[]).await;
    let (order, serial) = charging(&api, &mut pile).await;
    let (stopped, ()) = tokio::join!(api.stop(A, &order), pile.answer_stop(StopFailure::None));
    stopped.expect("the pile said yes");
    events.until(&order, OrderChange::StopRequested).await;

    // The gun is idle while its record is on its way to the store.
    let mut glued = bytes::BytesMut::new();
    Outgoing::new(Sequence([1, 7]), frames::record(A, 1, serial, 2000)).write(&mut glued).expect("fits");
    Outgoing::new(Sequence([2, 7]), frames::idle(A, 1)).write(&mut glued).expect("fits");
    pile.send_bytes(&glued).await;
    pile.expect::<TransactionRecordAck>().await;
    pile.settle(1, Serial([9; 16]), 1).await;
    let seen = events.until(&"09".repeat(16), OrderChange::Settled).await;
    let of_order: Vec<_> = seen.into_iter().filter(|e| e.order.as_ref().is_some_and(|o| o.serial == order)).collect();
    let last = of_order.last().expect("it was settled");
    assert_eq!(last.change(), OrderChange::Settled, "{of_order:#?}");
}

#[tokio::test]
async fn an_order_outlives_its_node() {
    let mut node = Node::start();
    let mut pile = Pile::login(&node, A).await;
    let (order, serial) = charging(&Api::of(&node).await, &mut pile).await;
    node.restart();
    let api = Api::of(&node).await;
    let events = api.watch_orders(&[]).await;
    assert_eq!(
        events.snapshot.iter().map(|o| (o.serial.clone(), o.state())).collect::<Vec<_>>(),
        [(order.clone(), OrderState::Charging)]
    );
    let status = api.stop(A, &order).await.expect_err("not back yet");
    assert_eq!(reason(&status), (Code::Unavailable, "PILE_OFFLINE".into()));
    let mut pile = Pile::login(&node, A).await;
    assert_eq!(reason(&api.start(start_request(A, 1)).await.expect_err("busy")).1, "GUN_BUSY");
    let (stopped, ()) = tokio::join!(api.stop(A, &order), pile.answer_stop(StopFailure::None));
    stopped.expect("the pile said yes");
    pile.settle(1, serial, 20_000).await;
    assert_eq!(api.order(A, &order).await.state(), OrderState::Settled);
    assert_eq!(api.orders(A).await.len(), 1);
}

#[tokio::test]
async fn a_caller_is_told_everything_that_is_wrong_at_once() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let request = pb::StartChargingRequest {
        pile: "123".into(),
        gun: 0,
        request_id: "again".into(),
        serial: "00".repeat(16),
        order_id: "x".repeat(129),
        attributes: [("a".to_owned(), "b".repeat(1024))].into(),
        logical_card: "12".into(),
        physical_card: "zz".into(),
        balance: Some(cny(-1, 0)),
        limits: None,
        expected_tariff: "abc".into(),
    };
    let status = api.start(request).await.expect_err("wrong");
    assert_eq!(reason(&status), (Code::InvalidArgument, "INVALID_ARGUMENT".into()));
    let all = [
        "pile",
        "gun",
        "request_id",
        "serial",
        "order_id",
        "attributes",
        "logical_card",
        "physical_card",
        "balance",
        "expected_tariff",
    ];
    assert_eq!(violations(&status), all);
    let status = api.stop("", "").await.expect_err("wrong");
    assert_eq!(violations(&status), ["pile", "serial"]);
    let status = api.find_order(A, &"1".repeat(32)).await.expect_err("no such order");
    assert_eq!(reason(&status), (Code::NotFound, "ORDER_UNKNOWN".into()));
}

#[tokio::test]
async fn nobody_charges_with_a_card_nobody_here_knows() {
    let node = Node::start();
    let mut pile = Pile::login(&node, A).await;
    let ask = StartRequest {
        pile_code: frames::code(A),
        gun_no: GunNo(1),
        start_mode: StartMode::Card,
        need_password: YesNo::No,
        account_or_card: Opaque([0, 0, 0, 0, 0xD1, 0x4B, 0x0A, 0x54]),
        password: Opaque::ZERO,
        vin: VinReversed::ZERO,
    };
    let sequence = pile.send(ask).await;
    let (answer, echoed) = pile.expect_with_sequence::<StartConfirm>().await;
    assert_eq!((answer.auth_result, echoed), (Outcome::Failure, sequence));
}
