//! A pile that logs in elsewhere while its old connection is half open.

use std::time::{Duration, Instant};

use pileway::api::pb;

use crate::common::api::changes;
use crate::common::pile::Pile;
use crate::common::redis::Redis;
use crate::trio::Trio;

const PILE: &str = "32010600200001";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_login_has_the_pile_and_nobody_hears_of_an_absence() {
    let _alone = crate::ONE_AT_A_TIME.lock().await;
    let redis = Redis::start();
    let trio = Trio::start(&redis.url()).await;
    let mut events = trio.apis[2].watch_piles().await;
    // Three rounds around the nodes, so that every node takes over from every other.
    let mut old = Pile::login(&trio.nodes[0], PILE).await;
    old.idle(1).await;
    trio.apis[0].session_begins(PILE).await;
    for round in 1..=9 {
        let node = if round % 2 == 0 { round % 3 } else { (round + 1) % 3 };
        let mut new = Pile::login(&trio.nodes[node], PILE).await;
        let logged_in = Instant::now();
        // The old connection is never closed by the pile.
        old.closed().await;
        let took = logged_in.elapsed();
        assert!(took <= Duration::from_secs(1), "the old session lived for {took:?}");
        for api in &trio.apis {
            let clock = tokio::spawn({
                let api = api.clone();
                async move { api.sync_clock(PILE).await }
            });
            let set = new.expect::<pileway::wire::TimeSync>().await;
            new.send(pileway::wire::TimeSyncResponse { pile_code: set.pile_code, time: set.time }).await;
            clock.await.expect("no panic").expect("the pile's own answer");
        }
        old = new;
    }
    // Something to end the watch with.
    old.idle(1).await;
    let last = Pile::login(&trio.nodes[0], "32010600200002").await;
    let seen = events.until("32010600200002", pb::PileChange::Online).await;
    let changes = changes(&seen, PILE);
    assert_eq!(changes.iter().filter(|change| **change == pb::PileChange::Online).count(), 1, "{changes:?}");
    assert!(!changes.contains(&pb::PileChange::Offline), "{changes:?}");
    drop(last);
}
