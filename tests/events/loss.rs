//! What is deleted, what is lost, and how consumers hear of it.

use std::sync::Arc;
use std::time::Duration;

use pileway::api::pb;
use pileway::domain::WallMs;
use pileway::store::redis::{Config, Redis};
use pileway::store::{Partition, Store};

use crate::common::redis::Redis as Server;
use crate::common::{eventually, within};
use crate::nodes::Shared;
use crate::reader::{Message, Reader, Teller, code, lag, now, numbers};

#[tokio::test]
async fn old_events_are_deleted_when_every_group_has_them_and_a_group_nobody_is_in_does_not_count() {
    let shared = Shared::new();
    let node = shared
        .node_with("a", |config| {
            (config.events.keep, config.events.trim_every) = (Duration::from_mins(1), Duration::from_millis(100));
            config.events.idle_group = Duration::from_mins(1);
        })
        .await;
    let teller = Teller::on(&shared.store);
    let at = Partition::of(code(1), shared.store.partitions());
    // Joined before anything is there to be deleted.
    let mut reader = Reader::join(&node.api, "g").await;
    // Old in a moment, and not before the group is known to all who delete.
    let old = WallMs(now().0 - 57_000);
    teller.tell_at(1, 1..=10, old).await;
    let all = reader.take(10).await;
    reader.acknowledge(&all[3]).await;
    let first = || async { shared.store.read_log(at, 0, 1).await.expect("reads").first().map(|entry| entry.offset) };
    let trimmed_to = |offset| async move { (first().await == Some(offset)).then_some(()) };
    // Up to the entry the cursor is behind.
    eventually("what is acknowledged to go", || trimmed_to(4)).await;
    reader.acknowledge(&all[9]).await;
    eventually("all that is old to go, but for the newest", || trimmed_to(10)).await;
    // What is young stays, acknowledged or not.
    teller.tell(1, [11]).await;
    let told = reader.next().await;
    assert_eq!(told.number, 11);
    reader.acknowledge(&told).await;
    eventually("the rest of what is old", || trimmed_to(10)).await;
    assert_eq!(lag(&node.api, "g").await.unacknowledged, 0);
}

#[tokio::test]
async fn what_is_too_much_goes_whoever_needs_it_and_a_group_is_told() {
    let shared = Shared::new();
    let node = shared
        .node_with("a", |config| {
            (config.events.max_per_partition, config.events.trim_every) = (1000, Duration::from_millis(100));
        })
        .await;
    let teller = Teller::on(&shared.store);
    let request = crate::reader::to_join("g", pb::GroupStart::Earliest, 5);
    let mut reader = Reader::with(&node.api, request).await;
    teller.tell(1, 1..=10).await;
    let some = reader.take(5).await;
    teller.tell(1, 11..=1500).await;
    let at = Partition::of(code(1), shared.store.partitions());
    let first = || async { (shared.store.read_log(at, 0, 1).await.expect("reads")[0].offset == 501).then_some(()) };
    eventually("too much to go", first).await;
    reader.acknowledge(&some[4]).await;
    let Some(Message::Gap(gap)) = within("a gap", reader.message()).await.expect("goes on") else { panic!("no gap") };
    assert_eq!((gap.from, gap.to, gap.reason()), (6, 500, pb::EventGapReason::Trimmed));
    let more = reader.take(5).await;
    assert_eq!(numbers(&more, 1), [501, 502, 503, 504, 505]);
    reader.acknowledge(&more[4]).await;
    assert_eq!(reader.next().await.number, 506);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_has_lost_everything_is_a_gap_and_what_happens_then_is_delivered() {
    let server = Server::start();
    let store: Arc<dyn Store> = Arc::new(Redis::open(Config::new(server.url())).await.expect("opens"));
    let shared = Shared::over(|_| store);
    let node = shared.node("a").await;
    let teller = Teller::on(&shared.store);
    let mut reader = Reader::join(&node.api, "g").await;
    teller.tell(1, 1..=10).await;
    teller.tell(2, 1..=10).await;
    let all = reader.take(20).await;
    reader.acknowledge(all.iter().rfind(|told| told.pile == 1).expect("delivered")).await;

    let _: String = server.cli(&["FLUSHALL"]);
    // Longer than it was, so that offsets alone would tell nothing.
    teller.tell(1, 101..=120).await;
    teller.tell(2, [101]).await;
    let (mut gaps, mut anew) = (vec![], vec![]);
    let all_there = |anew: &[_]| numbers(anew, 1).ends_with(&[120]) && numbers(anew, 2).ends_with(&[101]);
    while !all_there(&anew) {
        match within("more", reader.message()).await.expect("the stream goes on").expect("more") {
            Message::Event(told) => anew.push(told),
            Message::Gap(gap) => gaps.push(gap),
        }
    }
    let of = |pile| i32::from(Partition::of(code(pile), 64).0);
    for pile in [1, 2] {
        let gap = gaps
            .iter()
            .find(|gap| gap.partition == of(pile))
            .unwrap_or_else(|| panic!("of {pile}: {gaps:?}, {anew:?}"));
        assert_eq!(gap.reason(), pb::EventGapReason::Lost);
    }
    let first = numbers(&anew, 1);
    assert!(first.windows(20).any(|some| some == (101..=120).collect::<Vec<_>>()), "{first:?}");
    // And can be acknowledged.
    let last = anew.iter().rfind(|told| told.pile == 1).expect("delivered");
    let done = || async { reader.try_acknowledge(&last.cursor).await.is_ok().then_some(()) };
    eventually("it to be acknowledged", done).await;
    let open = || async { (lag(&node.api, "g").await.unacknowledged == 1).then_some(()) };
    eventually("the other pile's to be all that is open", open).await;
}
