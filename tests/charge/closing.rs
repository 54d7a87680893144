//! An order whose record never comes is ended by an operator, whether its pile is there or not; a record that comes after
//! all settles it and says what is left to correct.

use pileway::api::pb;
use pileway::api::pb::{ClosingSource, OrderAnomalyKind, OrderChange, OrderState};
use pileway::wire::{Frame, StartFailure};
use tonic::Code;

use crate::common::api::start_request;
use crate::common::{Api, Node, Pile, reason};
use crate::{A, charging, cny, kinds, violations};

#[tokio::test]
async fn an_order_is_closed_by_its_session_and_a_late_record_settles_it() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut events = api.watch_orders(&[A]).await;
    let mut pile = Pile::login(&node, A).await;
    let (serial, wire) = charging(&api, &mut pile).await;

    let status = api.close(A, &serial, false).await.expect_err("it charges");
    assert_eq!(reason(&status), (Code::FailedPrecondition, "ORDER_ACTIVE".into()));
    // Two idle 0x13 in mid-charge: a rule is broken, and nobody knows whether a record will come.
    pile.idle(1).await;
    pile.idle(1).await;
    api.order_becomes(A, &serial, OrderState::Abnormal).await;
    let closed = api.close(A, &serial, false).await.expect("closed");
    assert_eq!(closed.state(), OrderState::ClosedWithoutRecord);
    let closing = closed.closing.clone().expect("how");
    assert_eq!((closing.source(), closing.energy_mwh), (ClosingSource::LastTelemetry, 100_000));
    assert_eq!(closing.reason, "its pile is gone");
    assert_eq!(api.close(A, &serial, true).await.expect("the same"), closed);
    assert_eq!(api.order(A, &serial).await, closed);

    pile.settle(1, wire, 20_000).await;
    let settled = api.order(A, &serial).await;
    assert_eq!((settled.state(), &settled.closing), (OrderState::Settled, &Some(closing.clone())));
    let more = settled.record_after_close.expect("the difference");
    assert_eq!(more.energy_mwh, 2_000_000 - closing.energy_mwh);
    let billed = settled.bill.expect("a bill").total_amount;
    assert_eq!(billed, Some(cny(2, 800_000_000)));
    let kinds_of = settled.anomalies.iter().map(pb::OrderAnomaly::kind).collect::<Vec<_>>();
    assert_eq!(kinds_of, [OrderAnomalyKind::IdleWhileCharging, OrderAnomalyKind::RecordAfterClose]);
    let mut seen = events.until(&serial, OrderChange::Settled).await;
    seen.push(events.next().await.expect("the watch goes on"));
    assert_eq!(
        kinds(&seen)[3..],
        [OrderChange::Anomaly, OrderChange::Closed, OrderChange::Settled, OrderChange::Anomaly]
    );
    assert_eq!(seen.last().expect("an event").anomaly(), OrderAnomalyKind::RecordAfterClose);
    let status = api.close(A, &serial.replace(&serial[..2], "ee"), true).await.expect_err("no such order");
    assert_eq!(reason(&status), (Code::NotFound, "ORDER_UNKNOWN".into()));
}

#[tokio::test]
async fn an_order_of_a_pile_that_is_gone_is_closed_all_the_same_and_stays_closed_when_the_pile_returns() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    let (serial, wire) = charging(&api, &mut pile).await;
    drop(pile);
    api.session_ends(A).await;
    let given = pb::CloseOrderRequest {
        pile: A.into(),
        serial: serial.clone(),
        reason: "burnt down".into(),
        energy_mwh: Some(1_500_000),
        amount: Some(cny(2, 100_000_000)),
        force: true,
    };
    let closed = api.close_with(given).await.expect("closed");
    let closing = closed.closing.clone().expect("how");
    assert_eq!((closing.source(), closing.energy_mwh), (ClosingSource::Given, 1_500_000));
    assert_eq!(closing.amount, Some(cny(2, 100_000_000)));

    let mut pile = Pile::login(&node, A).await;
    pile.charge(1, wire, 30_000).await;
    pile.served().await;
    assert_eq!(api.order(A, &serial).await, closed, "whatever the pile says of it");
    // The gun is free for the next one.
    let (_, next) = charging(&api, &mut pile).await;
    pile.settle(1, next, 10).await;
    pile.settle(1, wire, 14_000).await;
    let settled = api.order(A, &serial).await;
    assert_eq!(settled.state(), OrderState::Settled);
    let more = settled.record_after_close.expect("the difference");
    assert_eq!((more.energy_mwh, more.amount), (-100_000, Some(cny(0, -140_000_000))));
}

#[tokio::test]
async fn a_closing_says_why_and_both_amounts_or_none() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let good = pb::CloseOrderRequest {
        pile: A.into(),
        serial: "0123456789abcdef0123456789abcdef".into(),
        reason: "lost".into(),
        ..Default::default()
    };
    let check = async |request: pb::CloseOrderRequest, wrong: &[&str]| {
        let status = api.close_with(request).await.expect_err("wrong");
        assert_eq!(violations(&status), wrong);
    };
    check(pb::CloseOrderRequest { reason: String::new(), pile: "1".into(), ..good.clone() }, &["pile", "reason"]).await;
    check(pb::CloseOrderRequest { reason: "ä".repeat(257), ..good.clone() }, &["reason"]).await;
    check(pb::CloseOrderRequest { energy_mwh: Some(100), ..good.clone() }, &["amount"]).await;
    check(pb::CloseOrderRequest { amount: Some(cny(1, 0)), ..good.clone() }, &["energy_mwh"]).await;
    let finer = pb::CloseOrderRequest { energy_mwh: Some(150), amount: Some(cny(-1, 0)), ..good };
    check(finer, &["energy_mwh", "amount"]).await;
}

#[tokio::test]
async fn an_order_that_failed_and_charges_after_all_is_stopped_unless_it_is_to_be_adopted() {
    for (setting, state) in [("stop", OrderState::Stopping), ("adopt", OrderState::Charging)] {
        let node = Node::with(&[("PILE__LATE_START", setting)]);
        let api = Api::of(&node).await;
        let mut pile = Pile::login(&node, A).await;
        let refused = pile.answer_start(StartFailure::EquipmentFault);
        let (answer, wire) = tokio::join!(api.start(start_request(A, 1)), refused);
        answer.expect_err("the pile said no");
        pile.charge(1, wire, 100).await;
        let order = api.order_becomes(A, &wire.to_string(), state).await;
        assert_eq!(order.anomalies.last().expect("a breach").kind(), OrderAnomalyKind::LateStart);
        let stops = pile.seen().await.into_iter().filter(|frame| matches!(frame, Frame::RemoteStop(_))).count();
        assert_eq!(stops, usize::from(setting == "stop"));
        assert_eq!(order.stop.map(|stop| stop.cause()), (stops == 1).then_some(pb::StopCause::LateStart));
        pile.settle(1, wire, 200).await;
        assert_eq!(api.order(A, &wire.to_string()).await.state(), OrderState::Settled);
    }
}
