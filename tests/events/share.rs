//! Several consumers of one group, on one node and on several: partitions are spread over them, and move.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pileway::store::document::GroupCursor;
use pileway::store::{Batch, Partition, document};

use crate::common::eventually;
use crate::nodes::Shared;
use crate::reader::{Message, Reader, Teller, Told, acknowledge, code, holdings, lag, numbers};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_spread_over_consumers_on_all_nodes_and_a_new_one_takes_its_share() {
    let shared = Shared::new();
    let (a, b) = (shared.node("a").await, shared.node("b").await);
    let first = Reader::join(&a.api, "g").await;
    shares(&a, &[64]).await;
    let second = Reader::join(&b.api, "g").await;
    shares(&a, &[32, 32]).await;
    let third = Reader::join(&b.api, "g").await;
    shares(&a, &[21, 21, 22]).await;
    let names: BTreeSet<_> = [&first, &second, &third].map(|reader| reader.joined.consumer.clone()).into();
    assert_eq!(holdings(&b.api, "g").await.into_keys().collect::<BTreeSet<_>>(), names);
    // A stream that is closed is noticed at once.
    drop(second);
    shares(&a, &[32, 32]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_changes_hands_behind_what_was_acknowledged_and_nothing_is_missing() {
    let shared = Shared::new();
    let (a, b) = (shared.node("a").await, shared.node("b").await);
    let teller = Teller::on(&shared.store);
    let mut first = Reader::join(&a.api, "g").await;
    for pile in 0..200 {
        teller.tell(pile, 1..=5).await;
    }
    let all = first.take(1000).await;
    for told in all.iter().filter(|told| told.number == 3) {
        first.acknowledge(told).await;
    }
    let mut second = Reader::join(&b.api, "g").await;
    shares(&b, &[32, 32]).await;
    let mut here = vec![];
    for pile in 0..200 {
        teller.tell(pile, [6]).await;
    }
    // Either has what is its, and what was not acknowledged comes again to whom it is now.
    let mut there: Vec<Told> = vec![];
    let mut missing: BTreeSet<u64> = (0..200).collect();
    while !missing.is_empty() {
        let told = tokio::select! {
            told = first.next() => { here.push(told.clone()); told }
            told = second.next() => { there.push(told.clone()); told }
        };
        if told.number == 6 {
            missing.remove(&told.pile);
        }
    }
    for pile in 0..200 {
        let (here, there) = (numbers(&here, pile), numbers(&there, pile));
        match (&here[..], &there[..]) {
            ([6], []) => {}
            // Acknowledged cumulatively per partition: at least what is behind each pile's own third.
            ([], there) => assert!(there.ends_with(&[6]) && there.is_sorted(), "{pile}: {there:?}"),
            other => panic!("{pile}: two consumers were delivered it: {other:?}"),
        }
    }
    assert!(there.iter().any(|told| told.number < 6), "what was not acknowledged was delivered again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_partitions_of_a_node_that_is_killed_are_others_when_its_lease_is_over() {
    let shared = Shared::new();
    let (mut a, b) = (shared.node("a").await, shared.node("b").await);
    let teller = Teller::on(&shared.store);
    let mut dies = Reader::join(&a.api, "g").await;
    let mut lives = Reader::join(&b.api, "g").await;
    shares(&b, &[32, 32]).await;
    for pile in 0..100 {
        teller.tell(pile, 1..=2).await;
    }
    let before = dies.take(20).await;
    a.kill();
    let mut seen = vec![];
    let mut missing: BTreeSet<(u64, u64)> = (0..100).flat_map(|pile| [(pile, 1), (pile, 2)]).collect();
    while !missing.is_empty() {
        let told = lives.next().await;
        missing.remove(&(told.pile, told.number));
        seen.push(told);
    }
    for told in &before {
        assert!(numbers(&seen, told.pile).contains(&told.number), "{told:?} was never acknowledged");
    }
    for pile in 0..100 {
        assert_eq!(numbers(&seen, pile), [1, 2], "of pile {pile}");
    }
    shares(&b, &[64]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_does_not_acknowledge_stalls_its_own_partitions_only() {
    let shared = Shared::new();
    let node = shared.node("a").await;
    let teller = Teller::on(&shared.store);
    let request = crate::reader::to_join("g", pileway::api::pb::GroupStart::Earliest, 1);
    let mut stalls = Reader::with(&node.api, request).await;
    let mut works = Reader::join(&node.api, "g").await;
    shares(&node, &[32, 32]).await;
    for pile in 0..100 {
        teller.tell(pile, 1..=10).await;
    }
    let stuck = stalls.next().await;
    let held = lag(&node.api, "g").await.partitions;
    let its: i64 =
        held.iter().filter(|p| p.consumer == stalls.joined.consumer).map(|partition| partition.unacknowledged).sum();
    let rest = 1000 - usize::try_from(its).expect("positive");
    assert!(rest > 0 && its > 1, "both have something");
    for told in works.take(rest).await {
        works.acknowledge(&told).await;
        assert_ne!(told.pile, stuck.pile);
    }
    assert_eq!(lag(&node.api, "g").await.unacknowledged, its);
    // What it left comes to the other when it goes.
    drop(stalls);
    let mut left = vec![];
    while left.len() < usize::try_from(its).expect("positive") {
        match works.message().await.expect("goes on").expect("more") {
            Message::Event(told) => left.push(told),
            Message::Gap(gap) => panic!("{gap:?}"),
        }
    }
    assert!(left.contains(&Told {
        cursor: left.iter().find(|told| told.pile == stuck.pile).expect("there").cursor.clone(),
        ..stuck
    }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_was_taken_away_is_noticed_by_one_whose_acknowledgements_go_through_another_node() {
    let shared = Shared::new();
    let (a, b) = (shared.node("a").await, shared.node("b").await);
    let teller = Teller::on(&shared.store);
    let mut reader = Reader::join(&a.api, "g").await;
    teller.tell(1, 1..=2).await;
    let before = reader.take(2).await;
    // Somebody who has gone again had it meanwhile, as far as anybody can tell.
    let at = Partition::of(code(1), shared.store.partitions());
    let key = document::group_cursor_key("g", at);
    let stored = shared.store.get(key.clone()).await.expect("reads").expect("it is held");
    let cursor = document::read_group_cursor(&key, &stored.value).expect("reads");
    let taken = GroupCursor { holder: None, lease: cursor.lease + 1, ..cursor };
    let put = vec![document::put_group_cursor("g", at, &taken)];
    let batch = Batch { id: None, require: vec![], put, delete: vec![], append: vec![] };
    shared.store.commit(at, batch).await.expect("the store takes it");
    let refused = acknowledge(&b.api, &reader.joined, &before[1].cursor).await.expect_err("of a lease that is over");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);

    let again = reader.take(2).await;
    assert_eq!(numbers(&again, 1), [1, 2]);
    acknowledge(&b.api, &reader.joined, &again[1].cursor).await.expect("of the lease that counts");
    assert_eq!(lag(&b.api, "g").await.unacknowledged, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_on_a_node_that_others_have_not_heard_of_is_not_taken_for_dead() {
    let shared = Shared::new();
    let slow = |config: &mut pileway::config::Config| {
        (config.cluster.renew_every, config.cluster.lease_ttl) = (Duration::from_secs(2), Duration::from_secs(6));
    };
    let began = Instant::now();
    let a = shared.node_with("a", slow).await;
    let first = Reader::join(&a.api, "g").await;
    // From now on it would say of others that they are gone.
    crate::common::has_passed(Duration::from_millis(4500), began).await;
    // It has just looked who is there, and will not before the new node has been there for long.
    a.api.cluster.clone().list_nodes(pileway::api::pb::ListNodesRequest {}).await.expect("ListNodes");
    let b = shared.node_with("b", slow).await;
    let new = Reader::join(&b.api, "g").await;
    // Whoever else joins has all of its node look at the group.
    let third = Reader::join(&a.api, "g").await;
    let key = document::group_key("g");
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(800) {
        let stored = shared.store.get(key.clone()).await.expect("reads").expect("a group");
        let group = document::read_group(&key, &stored.value).expect("reads");
        assert_eq!(group.consumers.len(), 3, "after {:?}", began.elapsed());
        crate::common::has_passed(Duration::from_millis(5), Instant::now()).await;
    }
    drop((first, new, third));
}

/// Waits until the consumers of group `g` hold so many partitions each. Asked now and then: each answer is read from 64
/// cursors, and a node that does nothing but answer this has no time for anything else.
async fn shares(node: &crate::nodes::Node, expected: &[usize]) {
    let spread = || async {
        crate::common::has_passed(Duration::from_millis(20), Instant::now()).await;
        let mut held: Vec<_> = holdings(&node.api, "g").await.into_values().collect();
        held.sort_unstable();
        (held == expected).then_some(())
    };
    eventually("partitions to be spread", spread).await;
}
