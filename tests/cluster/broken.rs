//! Nodes that die, stand still, or do not belong here.

use std::time::{Duration, Instant};

use pileway::api::pb;
use pileway::config::Config;
use pileway::domain::PileCode;
use pileway::store::{Batch, Key, Kind, PARTITIONS, Partition, Put};
use pileway::wire::*;
use tonic::Code;

use crate::common::api::{changes, fact, start_request, timed, wire_serial};
use crate::common::{eventually, frames, reason, within};
use crate::nodes::Shared;
use crate::{PILE, answer_clock};

#[tokio::test]
async fn a_node_that_dies_during_a_call_leaves_an_unknown_outcome_or_none_if_the_call_only_read() {
    let shared = Shared::new();
    let (a, mut b) = (shared.node("a").await, shared.node("b").await);
    let mut pile = b.pile(PILE).await;
    let request = start_request(PILE, 1);
    let mut telemetry = a.api.telemetry.clone();
    let read = telemetry.read_telemetry(pb::ReadTelemetryRequest { pile: PILE.into(), gun: 2 });
    let dies = async {
        pile.expect::<RealtimeQuery>().await;
        pile.expect::<RemoteStart>().await;
        b.kill();
    };
    let began = Instant::now();
    let (started, read, ()) = tokio::join!(a.api.start(request.clone()), within("ReadTelemetry", read), dies);
    assert!(began.elapsed() < Duration::from_secs(10), "well before the deadline");
    let unknown = started.expect_err("nobody can say");
    assert_eq!(reason(&unknown), (Code::Aborted, "OUTCOME_UNKNOWN".into()));
    let lost = read.expect_err("no answer");
    assert_eq!(reason(&lost), (Code::Unavailable, "SESSION_LOST".into()));
    assert_eq!(fact(&lost, "written"), "false");

    // The pile comes to the other node. The same request id does not start it twice.
    let mut pile = a.pile(PILE).await;
    let known = a.api.start_within(request, Duration::from_secs(1)).await.expect_err("still nobody knows");
    assert_eq!(reason(&known).1, "OUTCOME_UNKNOWN");
    assert!(pile.seen().await.iter().all(|frame| !matches!(frame, Frame::RemoteStart(_))), "started twice");
}

#[tokio::test]
async fn the_piles_of_a_dead_node_cannot_be_reached_then_are_offline_and_are_told_so_exactly_once() {
    let shared = Shared::new();
    let short = |config: &mut pileway::config::Config| config.pile.session.lost_after = Duration::from_millis(1500);
    let (a, c) = (shared.node_with("a", short).await, shared.node_with("c", short).await);
    let mut b = shared.node_with("b", short).await;
    let piles: Vec<String> = (10..20).map(|n| format!("320106000192{n}")).collect();
    let mut lines = vec![];
    for pile in &piles {
        lines.push(b.pile(pile).await);
    }
    let mut events = a.api.watch_piles().await;
    b.kill();

    // Known to be there by its lease, but nobody answers: a call that only reads has lost nothing. (Of another one that
    // was on its way when the connection broke, nobody could say.)
    let mut telemetry = a.api.telemetry.clone();
    let read = telemetry.read_telemetry(pb::ReadTelemetryRequest { pile: piles[0].clone(), gun: 1 });
    let error = within("ReadTelemetry", read).await.expect_err("its node is dead");
    assert_eq!(reason(&error), (Code::Unavailable, "SESSION_LOST".into()));
    // Once the lease has run out there is nobody to be asked.
    let offline = || async {
        let error = a.api.sync_clock(&piles[0]).await.expect_err("its node is dead");
        (reason(&error).1 == "PILE_OFFLINE").then_some(())
    };
    eventually("the lease to run out", offline).await;

    let mut seen = vec![];
    for pile in &piles {
        if !changes(&seen, pile).contains(&pb::PileChange::Offline) {
            seen.extend(events.until(pile, pb::PileChange::Offline).await);
        }
    }
    // Whoever swept what, both have looked again by the time another pile comes and goes.
    let _after = [a.pile("32010600019230").await, c.pile("32010600019231").await];
    seen.extend(events.until("32010600019230", pb::PileChange::Offline).await);
    for pile in &piles {
        let offline = changes(&seen, pile).iter().filter(|change| **change == pb::PileChange::Offline).count();
        assert_eq!(offline, 1, "{pile}");
    }
}

#[tokio::test]
async fn a_dead_nodes_pile_that_cannot_be_read_does_not_keep_the_others_from_being_seen_to() {
    let shared = Shared::new();
    let short = |config: &mut pileway::config::Config| config.pile.session.lost_after = Duration::from_millis(500);
    let (a, mut b) = (shared.node_with("a", short).await, shared.node("b").await);
    // Found in the order of their partitions.
    let mut piles: Vec<PileCode> = (10..14).map(|n| format!("320106000192{n}").parse().expect("a pile")).collect();
    piles.sort_by_key(|pile| Partition::of(*pile, PARTITIONS));
    let mut lines = vec![];
    for pile in &piles {
        lines.push(b.pile(&pile.to_string()).await);
    }
    let mut events = a.api.watch_piles().await;
    b.kill();
    let key = Key::of_pile(Kind::Pile, piles[0], vec![]);
    let batch = Batch {
        id: None,
        require: vec![],
        put: vec![Put { key, value: b"\xff no document".to_vec().into(), indexes: vec![] }],
        delete: vec![],
        append: vec![],
    };
    shared.store.commit(Partition::of(piles[0], PARTITIONS), batch).await.expect("put");
    let mut seen = vec![];
    for pile in piles[1..].iter().map(ToString::to_string) {
        if !changes(&seen, &pile).contains(&pb::PileChange::Offline) {
            seen.extend(events.until(&pile, pb::PileChange::Offline).await);
        }
    }
}

#[tokio::test]
async fn the_piles_of_a_node_that_was_taken_for_dead_and_is_back_are_not_judged_by_who_took_them_over() {
    let shared = Shared::new();
    let short = |config: &mut pileway::config::Config| config.pile.session.lost_after = Duration::from_secs(3);
    let a = shared.node_with("a", short).await;
    let (b, mut c) = (shared.node("b").await, shared.node("c").await);
    let other = "32010600019237";
    let (mut pile, _other) = (b.pile(PILE).await, c.pile(other).await);
    let mut events = a.api.watch_piles().await;
    // Both are taken for dead at one time, so that what becomes of the one tells when the other is due.
    let thaw = b.freeze().await;
    c.kill();
    let alone = || async {
        let listed = a.api.cluster.clone().list_nodes(pb::ListNodesRequest {}).await.expect("ListNodes");
        (listed.into_inner().nodes.len() == 1).then_some(())
    };
    eventually("both leases to run out", alone).await;
    crate::common::has_passed(Duration::from_secs(1), Instant::now()).await;
    drop(thaw);

    let mut seen = events.until(other, pb::PileChange::Offline).await;
    let _other = a.pile(other).await;
    seen.extend(events.until(other, pb::PileChange::Online).await);
    assert_eq!(changes(&seen, PILE), [], "it has been there all the time");
    let (set, ()) = tokio::join!(a.api.sync_clock(PILE), answer_clock(&mut pile));
    set.expect("it is found");
}

#[tokio::test]
async fn a_node_that_stands_still_is_answered_for_in_time_and_does_nothing_late() {
    let shared = Shared::new();
    // It does not stand still for longer than its lease.
    let patient = |config: &mut Config| config.cluster.lease_ttl = Duration::from_secs(20);
    let (a, b) = (shared.node_with("a", patient).await, shared.node_with("b", patient).await);
    let mut pile = b.pile(PILE).await;
    let (set, ()) = tokio::join!(a.api.sync_clock(PILE), answer_clock(&mut pile));
    set.expect("the way is known");

    let thaw = b.freeze().await;
    // Answers come a twentieth of it earlier, which must be more than this machine may be late: a caller whose own timer
    // had gone off would have no reason.
    let deadline = Duration::from_secs(4);
    let (mut piles, mut telemetry) = (a.api.piles.clone(), a.api.telemetry.clone());
    let reboot = pb::RebootPileRequest { pile: PILE.into(), timing: pb::CommandTiming::Immediately.into() };
    let read = pb::ReadTelemetryRequest { pile: PILE.into(), gun: 1 };
    let (start, reboot, read) = tokio::join!(
        a.api.start_within(start_request(PILE, 1), deadline),
        piles.reboot_pile(timed(reboot, deadline)),
        telemetry.read_telemetry(timed(read, deadline)),
    );
    for error in [start.expect_err("no answer"), reboot.expect_err("no answer")] {
        assert_eq!(reason(&error), (Code::DeadlineExceeded, "OUTCOME_UNKNOWN".into()));
    }
    let error = read.expect_err("no answer");
    assert_eq!(reason(&error), (Code::DeadlineExceeded, "DEADLINE_PASSED".into()));

    drop(thaw);
    // Up to here, by what is sent after it.
    let set = async {
        let ask = || async { a.api.sync_clock(PILE).await.ok() };
        eventually("the node to serve again", ask).await
    };
    let mut late = vec![];
    let answer = async {
        loop {
            let packet = pile.next().await.expect("the node keeps the connection");
            if let Frame::TimeSync(TimeSync { time, .. }) = packet.frame {
                pile.send(TimeSyncResponse { pile_code: frames::code(PILE), time }).await;
                return;
            }
            late.push(packet.frame);
        }
    };
    tokio::join!(set, answer);
    let late = |frame: &Frame| matches!(frame, Frame::RemoteStart(_) | Frame::Reboot(_) | Frame::RealtimeQuery(_));
    assert!(!pile.seen().await.iter().any(late));
}

#[tokio::test]
async fn a_node_that_stood_still_for_longer_than_its_lease_comes_back_with_its_piles() {
    let shared = Shared::new();
    let (a, b) = (shared.node("a").await, shared.node("b").await);
    let mut pile = b.pile(PILE).await;
    let thaw = b.freeze().await;
    let gone = || async {
        let error = a.api.sync_clock(PILE).await.expect_err("it stands still");
        (reason(&error).1 == "PILE_OFFLINE").then_some(())
    };
    let few = Duration::from_millis(300);
    let asked = || async { a.api.start_within(start_request(PILE, 2), few).await.err().map(|error| reason(&error).1) };
    assert_eq!(asked().await.as_deref(), Some("OUTCOME_UNKNOWN"));
    eventually("its lease to run out", gone).await;
    drop(thaw);
    let back = || async { (a.api.session(PILE).await.node == "b").then_some(()) };
    eventually("its lease to be back", back).await;
    pile.served().await;
    let set = async {
        let ask = || async { a.api.sync_clock(PILE).await.ok() };
        eventually("its piles to be served", ask).await
    };
    tokio::join!(set, answer_clock(&mut pile));
    assert!(pile.seen().await.iter().all(|frame| !matches!(frame, Frame::RemoteStart(_))), "a start came late");
}

#[tokio::test]
async fn a_start_whose_node_is_gone_is_known_once_the_pile_says_what_it_does() {
    let shared = Shared::new();
    let (a, mut b) = (shared.node("a").await, shared.node("b").await);
    let mut pile = b.pile(PILE).await;
    let request = start_request(PILE, 1);
    let (order, serial) = tokio::join!(a.api.start(request.clone()), pile.answer_start(StartFailure::None));
    assert_eq!(wire_serial(&order.expect("started")), serial);
    b.kill();
    let mut pile = a.pile(PILE).await;
    pile.charge(1, serial, 500).await;
    pile.served().await;
    let again = a.api.start(request).await.expect("the same start");
    assert_eq!((wire_serial(&again), again.state()), (serial, pb::OrderState::Charging));
}
