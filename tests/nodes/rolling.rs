//! A deploy: each node is told to end and comes back, one after the other, under load.

use std::time::Instant;

use crate::common::eventually;
use crate::common::redis::Redis;
use crate::load::{self, Load};
use crate::trio::{NODES, Trio, online};

const PILES: u32 = 600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_is_calm() {
    let _alone = crate::ONE_AT_A_TIME.lock().await;
    let redis = Redis::start();
    let mut trio = Trio::start(&redis.url()).await;
    let fleet = trio.piles("32010600500001", PILES).await;
    let load = Load::begin(&trio.apis, &fleet, 16);
    let begun = Instant::now();
    for n in 0..NODES {
        let before = load.told().started;
        eventually("the load to run", || async { (load.told().started > before + 150).then_some(()) }).await;
        // A load balancer that has seen it become unready asks the others.
        load.without(n);
        let ended = trio.nodes[n].end();
        assert!(ended.success(), "node {n} ended with {ended}: {}", trio.nodes[n].log());
        trio.nodes[n].start_again();
        trio.reconnect(n).await;
        load.with(n, trio.apis[n].clone());
        online(&fleet, PILES).await;
    }
    let told = load.end().await;
    load::check_starts(&told, &fleet);
    assert!(told.untyped.is_empty(), "untyped: {:?}", told.untyped);
    crate::killed::acknowledged(&fleet).await;
    crate::stored::check(crate::stored::open(&redis.url()).await, &[&fleet]).await;
    let log = crate::stored::Log::read(&*crate::stored::open(&redis.url()).await).await;
    assert!(log.offline.is_empty(), "false offline events: {:?}", log.offline);
    eprintln!(
        "{NODES} restarts in {:.1?}: {} calls, {}.{:02} % failed, each typed: {:?}",
        begun.elapsed(),
        told.answers,
        told.failed_share() / 100,
        told.failed_share() % 100,
        told.errors
    );
    fleet.stop().await;
}
