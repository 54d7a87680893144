//! Several nodes over one store: any of them answers every call, and one of them holds the pile.

mod common;
#[path = "cluster/nodes.rs"]
mod nodes;
#[path = "cluster/broken.rs"]
mod broken;
#[path = "cluster/away.rs"]
mod away;
#[path = "cluster/trust.rs"]
mod trust;
#[path = "cluster/telemetry.rs"]
mod telemetry;
#[path = "cluster/members.rs"]
mod members;

use std::time::{Duration, Instant};

use common::api::{changes, start_request, wire_serial};
use common::{Pile, eventually, frames, reason, within};
use nodes::{Node, Shared};
use pileway::api::pb;
use pileway::wire::*;
use tonic::Code;

const PILE: &str = "32010600019236";

#[tokio::test]
async fn a_command_asked_at_one_node_reaches_the_pile_at_another_and_its_answer_comes_back() {
    let shared = Shared::new();
    let (a, b) = (shared.node("a").await, shared.node("b").await);
    let mut pile = b.pile(PILE).await;

    let (set, ()) = tokio::join!(a.api.sync_clock(PILE), answer_clock(&mut pile));
    assert!(set.expect("SyncClock").pile_time.is_some());

    let reboot = pb::RebootPileRequest { pile: PILE.into(), timing: pb::CommandTiming::Immediately.into() };
    let answer = async {
        pile.expect::<Reboot>().await;
        pile.send(RebootResponse { pile_code: frames::code(PILE), result: Outcome::Success }).await;
    };
    let mut piles = a.api.piles.clone();
    let (rebooted, ()) = tokio::join!(within("RebootPile", piles.reboot_pile(reboot)), answer);
    rebooted.expect("RebootPile");

    let read = pb::ReadTelemetryRequest { pile: PILE.into(), gun: 2 };
    let answer = async {
        pile.expect::<RealtimeQuery>().await;
        pile.idle(2).await;
    };
    let mut telemetry = a.api.telemetry.clone();
    let (read, ()) = tokio::join!(within("ReadTelemetry", telemetry.read_telemetry(read)), answer);
    assert_eq!(read.expect("ReadTelemetry").into_inner().telemetry.expect("measured").gun, 2);

    let (order, serial) = tokio::join!(a.api.start(start_request(PILE, 1)), pile.answer_start(StartFailure::None));
    let order = order.expect("StartCharging");
    assert_eq!((order.state(), wire_serial(&order)), (pb::OrderState::Starting, serial));
    pile.charge(1, serial, 100).await;
    pile.served().await;
    // As fresh as at the node that holds the pile.
    assert_eq!(a.api.order(PILE, &order.serial).await.state(), pb::OrderState::Charging);

    let (stopped, ()) = tokio::join!(a.api.stop(PILE, &order.serial), pile.answer_stop(StopFailure::None));
    assert_eq!(stopped.expect("StopCharging").confirmed_by(), pb::StopProof::Answer);
    pile.settle(1, serial, 100).await;
    a.api.order_becomes(PILE, &order.serial, pb::OrderState::Settled).await;

    let session = a.api.session(PILE).await;
    assert_eq!((session.node.as_str(), session.frames > 3), ("b", true));
    assert_eq!(session.session_id, b.api.session(PILE).await.session_id);

    a.api.disconnect(PILE, pb::CommandTiming::Immediately).await.expect("DisconnectPile");
    pile.closed().await;
    b.api.session_ends(PILE).await;
    let offline = a.api.sync_clock(PILE).await.expect_err("nobody is there");
    assert_eq!(reason(&offline), (Code::Unavailable, "PILE_OFFLINE".into()));
    assert!(!common::api::fact(&offline, "last_seen").is_empty());
    let unknown = a.api.sync_clock("99999999999999").await.expect_err("never seen");
    assert_eq!(reason(&unknown), (Code::NotFound, "PILE_UNKNOWN".into()));
}

#[tokio::test]
async fn what_the_pile_says_no_to_is_told_in_the_same_words_at_any_node() {
    let shared = Shared::new();
    let (a, b) = (shared.node("a").await, shared.node("b").await);
    let mut pile = b.pile(PILE).await;
    for node in [&b, &a] {
        let start = node.api.start(start_request(PILE, 1));
        let (refused, _) = tokio::join!(start, pile.answer_start(StartFailure::EquipmentFault));
        let refused = refused.expect_err("the pile said no");
        assert_eq!(reason(&refused), (Code::FailedPrecondition, "PILE_REJECTED".into()));
        assert_eq!(common::api::fact(&refused, "frame"), "0x33");
        let error = node.api.start(start_request(PILE, 7)).await.expect_err("no such gun");
        assert_eq!(reason(&error), (Code::NotFound, "GUN_UNKNOWN".into()));
    }
}

#[tokio::test]
async fn a_start_with_one_request_id_starts_once_whichever_node_is_asked() {
    let shared = Shared::new();
    let (a, b) = (shared.node("a").await, shared.node("b").await);
    let mut pile = b.pile(PILE).await;
    let request = start_request(PILE, 1);
    let (first, second, serial) =
        tokio::join!(a.api.start(request.clone()), b.api.start(request.clone()), pile.answer_start(StartFailure::None));
    let serials = [first, second].map(|order| wire_serial(&order.expect("started")));
    assert_eq!(serials, [serial, serial]);
    assert_eq!(wire_serial(&a.api.start(request).await.expect("replayed")), serial);
    assert!(pile.seen().await.iter().all(|frame| !matches!(frame, Frame::RemoteStart(_))), "started twice");
}

#[tokio::test]
async fn a_pile_that_moves_is_found_again_and_its_old_session_ends_within_a_second_without_an_offline_event() {
    let shared = Shared::new();
    let (a, b, c) = (shared.node("a").await, shared.node("b").await, shared.node("c").await);
    let mut events = c.api.watch_piles().await;
    let mut old = a.pile(PILE).await;
    let (set, ()) = tokio::join!(c.api.sync_clock(PILE), answer_clock(&mut old));
    set.expect("c remembers where it is");

    // The old socket stays open: its other end is gone, and nobody has said so.
    let began = Instant::now();
    let mut new = b.pile(PILE).await;
    old.closed().await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());

    for node in [&c, &a, &b] {
        let (set, ()) = tokio::join!(node.api.sync_clock(PILE), answer_clock(&mut new));
        set.unwrap_or_else(|error| panic!("{}: {error:?}", node.name));
        assert_eq!(node.api.session(PILE).await.node, "b");
    }
    // What happened last, so that what has not happened by then did not happen.
    let other = "32010600019237";
    let _other = c.pile(other).await;
    let seen = events.until(other, pb::PileChange::Online).await;
    let of_pile = changes(&seen, PILE);
    assert!(of_pile.iter().all(|change| *change != pb::PileChange::Offline), "{of_pile:?}");
}

#[tokio::test]
async fn logins_that_go_back_and_forth_leave_exactly_one_session() {
    let shared = Shared::new();
    let (a, b) = (shared.node("a").await, shared.node("b").await);
    let mut lines = vec![];
    for n in 0..6 {
        let node: &Node = if n % 2 == 0 { &a } else { &b };
        lines.push(Pile::login_at(node.piles, PILE, 2).await);
    }
    let mut last = lines.pop().expect("six");
    for mut line in lines {
        line.closed().await;
    }
    let in_both = || async { (a.api.session(PILE).await == b.api.session(PILE).await).then_some(()) };
    eventually("both to tell of one session", in_both).await;
    let (set, ()) = tokio::join!(a.api.sync_clock(PILE), answer_clock(&mut last));
    set.expect("the last login holds the pile");
}

/// Answers 0x56.
async fn answer_clock(pile: &mut Pile) {
    let time = pile.expect::<TimeSync>().await.time;
    pile.send(TimeSyncResponse { pile_code: frames::code(PILE), time }).await;
}
