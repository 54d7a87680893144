//! One watch, the measurements of all nodes.

use pileway::api::pb;
use tonic::Streaming;

use crate::PILE;
use crate::common::within;
use crate::nodes::{Node, Shared};

const OTHER: &str = "32010600019237";

#[tokio::test]
async fn a_watch_at_one_node_hears_all_of_them_and_a_node_that_goes_is_a_gap() {
    let shared = Shared::new();
    let (a, mut b) = (shared.node("a").await, shared.node("b").await);
    let (mut here, mut there) = (a.pile(PILE).await, b.pile(OTHER).await);
    there.idle(1).await;
    there.served().await;
    let mut watch = watch(&a, &[]).await;
    // What was there before the watch, on the other node too.
    let first = measured(&mut watch, OTHER).await;
    assert!(first.snapshot);
    here.idle(1).await;
    assert!(!measured(&mut watch, PILE).await.snapshot);
    there.idle(2).await;
    while measured(&mut watch, OTHER).await.telemetry.expect("measured").gun != 2 {}

    b.kill();
    let gap = gap(&mut watch).await;
    assert_eq!((gap.node.as_str(), gap.reason()), ("b", pb::TelemetryGapReason::Unreachable));
    // The watch goes on.
    here.idle(1).await;
    measured(&mut watch, PILE).await;
    let c = shared.node("c").await;
    let reasons = [pb::TelemetryGapReason::Left, pb::TelemetryGapReason::Joined];
    let mut seen = vec![];
    while seen.len() < 2 {
        let gap = self::gap(&mut watch).await;
        if reasons.contains(&gap.reason()) {
            seen.push((gap.node.clone(), gap.reason()));
        }
    }
    seen.sort_by_key(|(node, _)| node.clone());
    assert_eq!(seen, [("b".into(), reasons[0]), ("c".into(), reasons[1])]);
    let mut there = c.pile(OTHER).await;
    there.idle(1).await;
    measured(&mut watch, OTHER).await;
}

#[tokio::test]
async fn a_watch_of_one_pile_follows_it_from_node_to_node() {
    let shared = Shared::new();
    let (a, b, c) = (shared.node("a").await, shared.node("b").await, shared.node("c").await);
    let mut watch = watch(&a, &[PILE]).await;
    let mut other = b.pile(OTHER).await;
    for node in [&b, &c, &a, &b] {
        let mut pile = node.pile(PILE).await;
        other.idle(1).await;
        other.served().await;
        pile.idle(1).await;
        measured(&mut watch, PILE).await;
    }
}

async fn watch(node: &Node, piles: &[&str]) -> Streaming<pb::WatchTelemetryResponse> {
    let piles = piles.iter().map(|pile| (*pile).to_owned()).collect();
    let request = pb::WatchTelemetryRequest { piles, kinds: vec![] };
    let mut telemetry = node.api.telemetry.clone();
    within("WatchTelemetry", telemetry.watch_telemetry(request)).await.expect("WatchTelemetry").into_inner()
}

async fn next(watch: &mut Streaming<pb::WatchTelemetryResponse>) -> pb::WatchTelemetryResponse {
    within("telemetry", watch.message()).await.expect("the watch goes on").expect("the watch goes on")
}

/// The next measurement, which is of this pile; gaps and the pile's other side are passed over.
async fn measured(watch: &mut Streaming<pb::WatchTelemetryResponse>, pile: &str) -> pb::WatchTelemetryResponse {
    loop {
        let message = next(watch).await;
        if message.telemetry.as_ref().is_some_and(|telemetry| telemetry.pile == pile) {
            return message;
        }
    }
}

async fn gap(watch: &mut Streaming<pb::WatchTelemetryResponse>) -> pb::TelemetryGap {
    loop {
        if let Some(gap) = next(watch).await.gap {
            return gap;
        }
    }
}
