//! Redis goes away, in every way it can, and comes back.

use std::time::{Duration, Instant};

use pileway::api::pb;
use pileway::sim::{Fleet, FleetConfig};

use crate::common::redis::{Cluster, Redis, Sentinel};
use crate::common::{Api, eventually, has_passed, within};
use crate::load::{self, Load};
use crate::trio::{self, Trio, online};

const PILES: u32 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_without_redis_is_a_minute_of_work() {
    let _alone = crate::ONE_AT_A_TIME.lock().await;
    let mut redis = Redis::start();
    let mut trio = Trio::start(&redis.url()).await;
    let fleet = trio.piles("32010600600001", PILES).await;
    let load = Load::begin(&trio.apis, &fleet, 16);
    eventually("the load to run", || async { (load.told().started > 300).then_some(()) }).await;
    let connections = fleet.report().counters.offlines;

    redis.kill();
    let away = Instant::now();
    let (before, acked) = (load.told().started, fleet.report().counters.records_acked);
    eventually("starts while redis is away", || async { (load.told().started > before + 50).then_some(()) }).await;
    let more = || async { (fleet.report().counters.records_acked > acked + 50).then_some(()) };
    eventually("acknowledged records while redis is away", more).await;
    // A pile that logs in now is served, but starts nothing.
    let new = Fleet::start(&FleetConfig { piles: 10, ..trio::fleet("32010600690001", trio.addresses()) });
    online(&new, 10).await;
    provisional(&trio, &new).await;
    assert_eq!(fleet.report().counters.offlines, connections, "no connection of a pile was dropped");

    // And now one of the nodes dies too, with a journal that nobody else has.
    load.without(2);
    trio.nodes[2].restart();
    online(&fleet, PILES).await;
    trio.reconnect(2).await;
    load.with(2, trio.apis[2].clone());
    let connections = fleet.report().counters.offlines;
    has_passed(Duration::from_mins(1), away).await;
    assert_eq!(fleet.report().counters.offlines, connections, "no connection of a pile was dropped");
    redis.restart();
    let before = load.told().started;
    eventually("the load to go on", || async { (load.told().started > before + 100).then_some(()) }).await;
    starts_everywhere(&trio.apis[1], &new).await;
    let told = load.end().await;

    finish(told, crate::stored::open(&redis.url()).await, &[&fleet, &new]).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_fail_over_under_load_loses_nothing() {
    let _alone = crate::ONE_AT_A_TIME.lock().await;
    let mut sentinel = Sentinel::start();
    let trio = Trio::start(&sentinel.url()).await;
    let fleet = trio.piles("32010600700001", PILES).await;
    let load = Load::begin(&trio.apis, &fleet, 16);
    eventually("the load to run", || async { (load.told().started > 200).then_some(()) }).await;
    let connections = fleet.report().counters.offlines;
    sentinel.kill_master();
    let before = load.told().started;
    eventually("the load to go on", || async { (load.told().started > before + 100).then_some(()) }).await;
    assert_eq!(fleet.report().counters.offlines, connections, "no connection of a pile was dropped");
    let told = load.end().await;
    finish(told, crate::stored::open(&sentinel.url()).await, &[&fleet]).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_master_of_a_cluster_under_load_loses_nothing() {
    let _alone = crate::ONE_AT_A_TIME.lock().await;
    let mut cluster = Cluster::start();
    let trio = Trio::start(&cluster.url()).await;
    let fleet = trio.piles("32010600800001", PILES).await;
    let load = Load::begin(&trio.apis, &fleet, 16);
    eventually("the load to run", || async { (load.told().started > 200).then_some(()) }).await;
    let connections = fleet.report().counters.offlines;
    cluster.kill_master_of("{p01}");
    let before = load.told().started;
    eventually("the load to go on", || async { (load.told().started > before + 100).then_some(()) }).await;
    assert_eq!(fleet.report().counters.offlines, connections, "no connection of a pile was dropped");
    let told = load.end().await;
    finish(told, crate::stored::open(&cluster.url()).await, &[&fleet]).await;
    fleet.stop().await;
}

async fn finish(told: load::Told, store: std::sync::Arc<dyn pileway::store::Store>, fleets: &[&Fleet]) {
    load::check_starts(&told, fleets[0]);
    assert!(told.untyped.is_empty(), "untyped: {:?}", told.untyped);
    assert!(told.late.is_empty(), "answers after their deadline: {:?}", told.late);
    for fleet in fleets {
        crate::killed::acknowledged(fleet).await;
    }
    crate::stored::check(store, fleets).await;
    eprintln!("{} calls, {} starts, errors {:?}", told.answers, told.started, told.errors);
}

/// Piles that logged in while the store is away answer, and start nothing.
async fn provisional(trio: &Trio, fleet: &Fleet) {
    for (n, pile) in fleet.piles().iter().enumerate() {
        let (api, pile) = (&trio.apis[n % 3], pile.code().to_string());
        let request = pb::ReadTelemetryRequest { pile: pile.clone(), gun: 1 };
        let answer = within("ReadTelemetry", api.telemetry.clone().read_telemetry(request)).await;
        answer.expect("served by the node it is on");
        let refused = api.start(crate::common::api::start_request(&pile, 1)).await.expect_err("no start");
        assert_eq!(crate::common::reason(&refused).1, "STORE_UNAVAILABLE");
    }
}

async fn starts_everywhere(api: &Api, fleet: &Fleet) {
    for pile in fleet.piles() {
        let pile = pile.code().to_string();
        let started = || Box::pin(async { api.start(crate::common::api::start_request(&pile, 1)).await.ok() });
        eventually("a pile that logged in without redis to charge", started).await;
    }
}
