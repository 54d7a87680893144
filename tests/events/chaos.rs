//! Consumers that come, stall, crash and acknowledge at random, on two nodes over a real Redis, while events are appended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pileway::store::redis::{Config, Redis};
use pileway::store::{Partition, Store, document};

use crate::common::redis::Redis as Server;
use crate::common::{Chance, within};
use crate::nodes::Shared;
use crate::reader::{Message, Reader, Teller, Told, code, lag};

const PILES: u64 = 20;
const LAST: u64 = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_consumers_do_nothing_is_lost_order_holds_and_cursors_never_go_back() {
    let server = Server::start();
    let store: Arc<dyn Store> = Arc::new(Redis::open(Config::new(server.url())).await.expect("opens"));
    let shared = Shared::over(|_| store.clone());
    let nodes = [shared.node("a").await, shared.node("b").await];
    let mut chance = Chance::seeded();
    let teller = Arc::new(Teller::on(&shared.store));
    let telling = tokio::spawn({
        let teller = teller.clone();
        async move {
            for n in 1..=LAST {
                for pile in 0..PILES {
                    teller.tell(pile, [n]).await;
                }
            }
        }
    });

    // Each with what it was delivered and has not acknowledged.
    let mut readers: Vec<(Reader, Vec<Told>)> = vec![(Reader::join(&nodes[0].api, "g").await, vec![])];
    // Of each pile: the highest number that was delivered, each of them after the one before it.
    let mut delivered: BTreeMap<u64, u64> = BTreeMap::new();
    let mut cursors: BTreeMap<Partition, u64> = BTreeMap::new();
    let began = Instant::now();
    let mut quiet = false;
    loop {
        // For a while anything may happen; then those who are left finish the work.
        quiet |= began.elapsed() > Duration::from_secs(12) && telling.is_finished();
        match chance.below(40) {
            0 if !quiet && readers.len() < 5 => {
                let node = &nodes[chance.below(2) as usize];
                readers.push((Reader::join(&node.api, "g").await, vec![]));
            }
            1 if !quiet && readers.len() > 1 => drop(readers.swap_remove(chance.below(readers.len() as u64) as usize)),
            _ => {}
        }
        let at = chance.below(readers.len() as u64) as usize;
        let (reader, open) = &mut readers[at];
        for _ in 0..chance.below(60) {
            match tokio::time::timeout(Duration::from_millis(20), reader.message()).await {
                Ok(message) => match message.expect("the stream goes on").expect("more") {
                    Message::Event(one) => {
                        let seen = delivered.entry(one.pile).or_default();
                        assert!(one.number <= *seen + 1, "{one:?} before what comes before it, {seen}");
                        *seen = one.number.max(*seen);
                        open.push(one);
                    }
                    Message::Gap(gap) => panic!("nothing was lost: {gap:?}"),
                },
                Err(_) => break,
            }
        }
        // Some of it, or all of it, or nothing: of partitions that were lost meanwhile it may not.
        if (quiet || chance.below(3) > 0) && !open.is_empty() {
            let upto = if quiet { open.len() } else { 1 + chance.below(open.len() as u64) as usize };
            for one in open.drain(..upto).collect::<Vec<_>>() {
                match reader.try_acknowledge(&one.cursor).await {
                    Ok(()) => {}
                    Err(status) => assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status:?}"),
                }
            }
        }
        for partition in (0..PILES).map(|pile| Partition::of(code(pile), 64)) {
            let key = document::group_cursor_key("g", partition);
            let Some(stored) = store.get(key.clone()).await.expect("reads") else { continue };
            let now = document::read_group_cursor(&key, &stored.value).expect("reads").acknowledged.offset;
            let before = cursors.insert(partition, now).unwrap_or(0);
            assert!(before <= now, "the cursor of {partition} went back from {before} to {now}");
        }
        if quiet && lag(&nodes[0].api, "g").await.unacknowledged == 0 {
            break;
        }
        assert!(began.elapsed() < Duration::from_mins(2), "not done: {:?}", lag(&nodes[0].api, "g").await);
    }
    within("everything to be told", telling).await.expect("no panic");
    let all: BTreeMap<u64, u64> = (0..PILES).map(|pile| (pile, LAST)).collect();
    assert_eq!(delivered, all, "every event of every pile was delivered");
}
