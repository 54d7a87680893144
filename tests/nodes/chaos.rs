//! Minutes in which nodes, Redis and the consumers of a group are killed at random, under load: whatever a pile was told is
//! settled is settled once, and was delivered to the group, in the order in which it happened to each pile.

use std::time::{Duration, Instant};

use crate::common::redis::Redis;
use crate::common::{Chance, eventually, has_passed};
use crate::consumers::Consumers;
use crate::load::{self, Load};
use crate::trio::{NODES, Trio, online};

const PILES: u32 = 400;
const CONSUMERS: usize = 4;
const SETTLEMENTS: u64 = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_every_acknowledged_record_is_settled_once_and_delivered() {
    let _alone = crate::ONE_AT_A_TIME.lock().await;
    let seconds = std::env::var("PILEWAY_TEST_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let mut redis = Redis::start();
    let mut trio = Trio::start(&redis.url()).await;
    let fleet = trio.piles("32010600900001", PILES).await;
    let load = Load::begin(&trio.apis, &fleet, 8);
    let consumers = Consumers::begin("bills", load.nodes(), CONSUMERS);
    let (begun, mut chance) = (Instant::now(), Chance::seeded());
    let (mut disasters, mut slowest) = (0, Duration::ZERO);
    let enough = || fleet.report().counters.records_acked >= SETTLEMENTS;
    while begun.elapsed() < Duration::from_secs(seconds) || (!enough() && begun.elapsed() < LIMIT) {
        // Nothing is shown by killing what has not come back: so much has to work in between.
        let (before, since) = (fleet.report().counters.records_acked, Instant::now());
        let goes_on = || async { (fleet.report().counters.records_acked > before + 20).then_some(()) };
        eventually("records to be acknowledged", goes_on).await;
        slowest = slowest.max(since.elapsed());
        has_passed(Duration::from_millis(chance.below(5_000)), Instant::now()).await;
        disaster(&mut trio, &mut redis, &load, &mut chance).await;
        disasters += 1;
    }
    online(&fleet, PILES).await;
    let told = load.end().await;
    eprintln!(
        "{disasters} disasters in {:.0?}, records again after {slowest:.1?} at most: {} calls, {} starts, {}.{:02} % failed, errors {:?}",
        begun.elapsed(),
        told.answers,
        told.started,
        told.failed_share() / 100,
        told.failed_share() % 100,
        told.errors
    );
    load::check_starts(&told, &fleet);
    assert!(told.untyped.is_empty(), "untyped: {:?}", told.untyped);
    crate::killed::acknowledged(&fleet).await;
    let acked = fleet.report().counters.records_acked;
    assert!(seconds < 300 || acked >= SETTLEMENTS, "only {acked} settlements: too few to prove anything");
    crate::stored::check(crate::stored::open(&redis.url()).await, &[&fleet]).await;
    consumers.finish(&fleet).await;
    fleet.stop().await;
}

/// Something dies, and comes back after a moment.
async fn disaster(trio: &mut Trio, redis: &mut Redis, load: &Load, chance: &mut Chance) {
    let n = chance.below(NODES as u64) as usize;
    let away = Duration::from_millis(chance.below(8_000));
    match chance.below(8) {
        // A node dies.
        0..3 => {
            load.without(n);
            trio.nodes[n].kill();
            has_passed(away, Instant::now()).await;
            trio.nodes[n].start_again();
        }
        // A node is told to end.
        3 => {
            load.without(n);
            let ended = trio.nodes[n].end();
            // What the last outage has left on its disk may be more than it brings away in time: then it says so.
            let said = trio.nodes[n].log().trim_end().ends_with("entries of the journal are not in the store yet");
            assert!(ended.success() || said, "node {n} ended with {ended}: {}", trio.nodes[n].log());
            trio.nodes[n].start_again();
        }
        // Redis dies.
        4..7 => {
            redis.kill();
            has_passed(away, Instant::now()).await;
            redis.restart();
            return;
        }
        // Redis dies, and then a node with what it has written down meanwhile.
        _ => {
            redis.kill();
            has_passed(away / 2, Instant::now()).await;
            load.without(n);
            trio.nodes[n].restart();
            has_passed(away / 2, Instant::now()).await;
            redis.restart();
        }
    }
    trio.reconnect(n).await;
    load.with(n, trio.apis[n].clone());
}

/// A machine that has not settled enough by then never will.
const LIMIT: Duration = Duration::from_mins(10);
