//! Stopping a charge whose pile is away: the stop waits with the order, over sessions and runs of the node, and stops
//! nobody else.

use pileway::api::pb;
use pileway::api::pb::{OrderChange, OrderState, StopCause, StopProof, WhenOffline};
use pileway::wire::{Frame, RealtimeQuery, RemoteStop};
use tonic::Code;

use crate::common::{Api, Node, Pile, reason};
use crate::{A, charging, violations};

fn at_login(serial: &str, seconds: i64) -> pb::StopChargingRequest {
    pb::StopChargingRequest {
        pile: A.into(),
        serial: serial.into(),
        when_offline: WhenOffline::AtLogin.into(),
        expiry: Some(prost_types::Duration { seconds, nanos: 0 }),
    }
}

#[tokio::test]
async fn a_stop_waits_for_its_pile_over_a_restart_and_goes_out_when_it_is_seen_to_charge() {
    let mut node = Node::start();
    let mut api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    let (serial, wire) = charging(&api, &mut pile).await;
    drop(pile);
    api.session_ends(A).await;
    let status = api.stop(A, &serial).await.expect_err("away");
    assert_eq!(reason(&status), (Code::Unavailable, "PILE_OFFLINE".into()));
    for _ in 0..2 {
        let planned = api.stop_with(at_login(&serial, 3600)).await.expect("kept");
        assert_eq!(planned.confirmed_by(), StopProof::Pending);
        let order = planned.order.expect("the order");
        assert_eq!(order.state(), OrderState::Charging);
        let plan = order.stop_at_login.expect("the plan");
        let (asked, expires) = (plan.requested_at.expect("a time"), plan.expires_at.expect("a time"));
        assert!((3599..=3601).contains(&(expires.seconds - asked.seconds)), "{plan:?}");
    }

    node.restart();
    api = Api::of(&node).await;
    let mut events = api.watch_orders(&[A]).await;
    let mut pile = Pile::login(&node, A).await;
    // Nothing is stopped before it is known what charges there.
    pile.expect::<RealtimeQuery>().await;
    assert!(!pile.seen().await.iter().any(|frame| matches!(frame, Frame::RemoteStop(_))));
    pile.charge(1, wire, 2000).await;
    pile.expect::<RemoteStop>().await;
    let order = api.order_becomes(A, &serial, OrderState::Stopping).await;
    assert_eq!((order.stop.expect("a stop").cause(), order.stop_at_login), (StopCause::AtLogin, None));
    events.until(&serial, OrderChange::StopRequested).await;
    pile.settle(1, wire, 2000).await;
    assert_eq!(api.order(A, &serial).await.state(), OrderState::Settled);
    let status = api.stop_with(at_login(&serial, 60)).await.expect_err("settled");
    assert_eq!(reason(&status).1, "ORDER_NOT_ACTIVE");
}

#[tokio::test]
async fn a_stop_that_waits_stops_nobody_else() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    let (serial, wire) = charging(&api, &mut pile).await;
    drop(pile);
    api.session_ends(A).await;
    api.stop_with(at_login(&serial, 3600)).await.expect("kept");

    // Somebody has charged with an offline card meanwhile.
    let stranger = pileway::wire::Serial([0xE1; 16]);
    let mut pile = Pile::login(&node, A).await;
    pile.charge(1, stranger, 10).await;
    api.order_becomes(A, &stranger.to_string(), OrderState::Charging).await;
    assert!(!pile.seen().await.iter().any(|frame| matches!(frame, Frame::RemoteStop(_))));
    drop(pile);
    api.session_ends(A).await;
    let status = api.stop_with(at_login(&serial, 60)).await.expect_err("another order has the gun");
    assert_eq!(reason(&status), (Code::FailedPrecondition, "ORDER_NOT_ACTIVE".into()));
    let status = api.stop_with(at_login("0123456789abcdef0123456789abcdef", 60)).await.expect_err("no such order");
    assert_eq!(reason(&status), (Code::NotFound, "ORDER_UNKNOWN".into()));

    let mut pile = Pile::login(&node, A).await;
    pile.settle(1, stranger, 10).await;
    pile.settle(1, wire, 1000).await;
    assert!(!pile.seen().await.iter().any(|frame| matches!(frame, Frame::RemoteStop(_))));
}

#[tokio::test]
async fn a_stop_that_waits_says_for_how_long_and_a_pile_that_is_there_is_stopped_at_once() {
    let node = Node::start();
    let api = Api::of(&node).await;
    let mut pile = Pile::login(&node, A).await;
    let (serial, _) = charging(&api, &mut pile).await;
    for seconds in [0, 7 * 24 * 3600 + 1, -5] {
        let status = api.stop_with(at_login(&serial, seconds)).await.expect_err("wrong");
        assert_eq!(violations(&status), ["expiry"]);
    }
    let fail = pb::StopChargingRequest { when_offline: WhenOffline::Fail.into(), ..at_login(&serial, 60) };
    assert_eq!(violations(&api.stop_with(fail).await.expect_err("wrong")), ["expiry"]);
    let odd = pb::StopChargingRequest { when_offline: 9, expiry: None, ..at_login(&serial, 60) };
    assert_eq!(violations(&api.stop_with(odd).await.expect_err("wrong")), ["when_offline"]);

    let (stopped, ()) =
        tokio::join!(api.stop_with(at_login(&serial, 60)), pile.answer_stop(pileway::wire::StopFailure::None));
    let stopped = stopped.expect("stopped");
    assert_eq!(stopped.confirmed_by(), StopProof::Answer);
    assert_eq!(stopped.order.expect("an order").stop.expect("a stop").cause(), StopCause::Caller);
}
