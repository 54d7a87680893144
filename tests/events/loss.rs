//! What is deleted, what is lost, and how consumers hear of it.

use std::sync::Arc;
use std::time::Duration;

use pileway::api::pb;
use pileway::domain::WallMs;
use pileway::store::document::{ConsumerId, Group, GroupStart};
use pileway::store::redis::{Config, Redis};
use pileway::store::{Batch, Partition, Position, Put, Store, document};

use crate::common::redis::Redis as Server;
use crate::common::{eventually, within};
use crate::nodes::Shared;
use crate::reader::{Message, Reader, Teller, code, lag, now, numbers};

#[tokio::test]
async fn old_events_are_deleted_when_every_group_has_them() {
    let shared = Shared::new();
    let node = shared
        .node_with("a", |config| {
            (config.events.keep, config.events.trim_every) = (Duration::from_mins(1), Duration::from_millis(100));
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
async fn a_group_whose_consumers_died_with_their_node_keeps_no_events_when_nobody_has_come_back_for_long() {
    let shared = Shared::new();
    let teller = Teller::on(&shared.store);
    teller.tell(1, 1..=10).await;
    // Of a run that is over.
    let dead = ConsumerId { incarnation: 4711, number: 1 };
    let group = Group { consumers: vec![dead], assigned: vec![Some(dead); 64], ..group_at("g", 0) };
    put(&shared.store, Partition::GLOBAL, document::put_group(&group, now())).await;
    let moment = Duration::from_millis(1);
    let _node = shared
        .node_with("a", |config| {
            (config.events.keep, config.events.idle_group) = (moment, moment);
            config.events.trim_every = Duration::from_millis(100);
        })
        .await;
    let at = Partition::of(code(1), shared.store.partitions());
    let first = || async { (shared.store.read_log(at, 0, 1).await.expect("reads")[0].offset == 10).then_some(()) };
    eventually("what only that group needs to go", first).await;
    let key = document::group_key("g");
    let stored = shared.store.get(key.clone()).await.expect("reads").expect("it is not deleted");
    let group = document::read_group(&key, &stored.value).expect("reads");
    assert!(group.consumers.is_empty() && group.lapsed, "{group:?}");
}

#[tokio::test]
async fn a_partition_of_which_nothing_can_be_deleted_keeps_no_other_from_it() {
    let shared = Shared::new();
    let teller = Teller::on(&shared.store);
    let of = |pile| Partition::of(code(pile), shared.store.partitions());
    let (before, behind) = if of(1).0 < of(2).0 { (1, 2) } else { (2, 1) };
    for pile in [before, behind] {
        teller.tell(pile, 1..=10).await;
    }
    put(&shared.store, Partition::GLOBAL, document::put_group(&group_at("g", 10), now())).await;
    let key = document::group_cursor_key("g", of(before));
    put(&shared.store, of(before), Put { key, value: vec![0xff; 9].into(), indexes: vec![] }).await;
    let _node = shared
        .node_with("a", |config| {
            (config.events.keep, config.events.trim_every) = (Duration::from_millis(1), Duration::from_millis(100));
        })
        .await;
    let (store, of) = (&shared.store, &of);
    let first = |pile| async move { store.read_log(of(pile), 0, 1).await.expect("reads")[0].offset };
    let first = &first;
    eventually("the other partition's to go", || async move { (first(behind).await == 10).then_some(()) }).await;
    assert_eq!(first(before).await, 1, "how far the group has come in it cannot be read");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_that_a_consumer_went_before_reading_is_told_to_the_next_until_something_behind_it_is_acknowledged() {
    let server = Server::start();
    let store: Arc<dyn Store> = Arc::new(Redis::open(Config::new(server.url())).await.expect("opens"));
    let shared = Shared::over(|_| store);
    let node = shared.node("a").await;
    let teller = Teller::on(&shared.store);
    let mut goes = Reader::join(&node.api, "g").await;
    teller.tell(1, 1..=10).await;
    let all = goes.take(10).await;
    goes.acknowledge(&all[9]).await;
    let _: String = server.cli(&["FLUSHALL"]);
    teller.tell(1, [101]).await;
    let at = Partition::of(code(1), shared.store.partitions());
    let moved = || async {
        let key = document::group_cursor_key("g", at);
        let stored = shared.store.get(key.clone()).await.expect("reads")?;
        let cursor = document::read_group_cursor(&key, &stored.value).expect("reads");
        (cursor.acknowledged.offset == 0).then_some(())
    };
    eventually("the cursor to be where the log goes on", moved).await;
    drop(goes);

    // Twice: what is told and not acknowledged is told again.
    for _ in 0..2 {
        let mut next = Reader::join(&node.api, "g").await;
        assert!(!next.joined.created);
        let told = within("a gap", next.message()).await.expect("goes on");
        let Some(Message::Gap(gap)) = told else { panic!("{told:?} before the gap") };
        assert_eq!((gap.from, gap.to, gap.reason()), (1, 10, pb::EventGapReason::Lost));
        assert_eq!(gap.partition, i32::from(at.0));
    }
    let mut next = Reader::join(&node.api, "g").await;
    assert!(matches!(within("a gap", next.message()).await, Ok(Some(Message::Gap(_)))));
    let told = next.next().await;
    assert_eq!(told.number, 101);
    next.acknowledge(&told).await;
    drop(next);
    let mut last = Reader::join(&node.api, "g").await;
    teller.tell(1, [102]).await;
    assert_eq!(last.next().await.number, 102, "and no gap before it");
}

/// A group that nobody is in, and that began behind the entry with this offset of each partition.
pub fn group_at(name: &str, offset: u64) -> Group {
    Group {
        name: name.to_owned(),
        birth: 7,
        created_at: now(),
        start: GroupStart::Now,
        starts: vec![Position { offset, ..Position::START }; 64],
        consumers: vec![],
        assigned: vec![None; 64],
        idle_since: Some(now()),
        lapsed: false,
        deleted: false,
    }
}

pub async fn put(store: &Arc<dyn Store>, partition: Partition, put: Put) {
    let batch = Batch { id: None, require: vec![], put: vec![put], delete: vec![], append: vec![] };
    store.commit(partition, batch).await.expect("the store takes it");
}
