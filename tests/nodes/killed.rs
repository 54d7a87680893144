//! kill -9 of a node with a thousand piles, under command load.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pileway::api::pb;
use pileway::sim::{Fleet, FleetConfig, PileConfig, Reconnect};

use crate::common::api::of;
use crate::common::redis::Redis;
use crate::common::{eventually, within};
use crate::load::{self, Load};
use crate::trio::{self, Trio, online};

const PILES: u32 = 3000;
const AWAY: u32 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_takes_nothing_with_it() {
    let _alone = crate::ONE_AT_A_TIME.lock().await;
    let redis = Redis::start();
    let mut trio = Trio::start(&redis.url()).await;
    let fleet = trio.piles("32010600300001", PILES).await;
    // These do not come back.
    let hours = Duration::from_hours(1);
    let gone = trio::fleet("32010600390001", vec![trio.nodes[0].piles.to_string()]);
    let first = PileConfig { reconnect: Reconnect { min: hours, max: hours }, ..gone.first.clone() };
    let gone = Fleet::start(&FleetConfig { piles: AWAY, first, ..gone });
    online(&gone, AWAY).await;
    let mut events = trio.apis[1].watch_piles().await;

    let load = Load::begin(&trio.apis, &fleet, 32);
    let busy = || async { (load.told().started > 200).then_some(()) };
    eventually("the load to run", busy).await;
    load.without(0);
    trio.nodes[0].kill();
    let killed = Instant::now();
    within("every pile to be served again", fleet.until(|fleet| fleet.online() == u64::from(PILES))).await;
    let back = killed.elapsed();
    let before = load.told().started;
    eventually("the load to go on", || async { (load.told().started > before + 200).then_some(()) }).await;
    // Served means served: a command reaches every pile that was on the dead node, from any node.
    for n in (0..PILES as usize).step_by(3).step_by(20) {
        let pile = fleet.piles()[n].code().to_string();
        trio.apis[1 + n % 2].sync_clock(&pile).await.expect("an answer");
    }
    let told = load.end().await;

    let mut offline: BTreeMap<String, u32> = BTreeMap::new();
    let limit = killed + Duration::from_secs(90);
    while offline.len() < AWAY as usize {
        let event = events.next_until(limit).await.expect("all who stay away to be told offline within 90 s");
        if event.change() == pb::PileChange::Offline {
            *offline.entry(of(&event).to_owned()).or_default() += 1;
        }
    }
    let took = killed.elapsed();
    let expected: BTreeMap<_, _> = gone.piles().iter().map(|pile| (pile.code().to_string(), 1)).collect();
    assert_eq!(offline, expected, "those that stayed away, once each, and nobody else");

    load::check_starts(&told, &fleet);
    assert!(told.untyped.is_empty(), "untyped: {:?}", told.untyped);
    assert!(told.late.is_empty(), "answers after their deadline: {:?}", told.late);
    eprintln!("{} calls, {} starts, errors {:?}", told.answers, told.started, told.errors);
    eprintln!("all {PILES} piles back after {back:.1?}, {AWAY} absent ones told offline within {took:.1?}");
    trio.nodes.remove(0);
    acknowledged(&fleet).await;
    crate::stored::check(crate::stored::open(&redis.url()).await, &[&fleet]).await;
    let log = crate::stored::Log::read(&*crate::stored::open(&redis.url()).await).await;
    assert!(log.offline.values().all(|times| *times == 1), "{:?}", log.offline);
    assert_eq!(log.offline.len(), AWAY as usize);
    fleet.stop().await;
}

/// Every record that a pile has made is acknowledged in the end.
pub async fn acknowledged(fleet: &Fleet) {
    within("every record to be acknowledged", fleet.until(|fleet| fleet.ledger().unacked().next().is_none())).await;
}
