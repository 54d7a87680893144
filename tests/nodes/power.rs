//! A node and its Redis go at once, and Redis comes back without what it had acknowledged.

use crate::common::eventually;
use crate::common::redis::Redis;
use crate::killed::acknowledged;
use crate::load::Load;
use crate::trio::{self, Trio, online};
use pileway::sim::{Fleet, FleetConfig};

const PILES: u32 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_power_failure_is_on_the_nodes_disk() {
    let _alone = crate::ONE_AT_A_TIME.lock().await;
    let mut redis = Redis::with(&["appendonly no", "save \"\""]);
    let mut trio = Trio::start(&redis.url()).await;
    let node = &trio.nodes[0];
    let fleet = trio::fleet("32010600500001", vec![node.piles.to_string()]);
    let fleet = Fleet::start(&FleetConfig { piles: PILES, ..fleet });
    online(&fleet, PILES).await;
    let load = Load::begin(&trio.apis[..1], &fleet, 4);
    eventually("some charges", || async { (load.told().started > 10).then_some(()) }).await;
    load.end().await;
    acknowledged(&fleet).await;

    for node in &mut trio.nodes {
        node.kill();
    }
    redis.restart();
    trio.nodes[0].start_again();
    crate::stored::check(crate::stored::open(&redis.url()).await, &[&fleet]).await;
    fleet.stop().await;
}
