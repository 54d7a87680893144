//! A node that stands still past its lease, and goes on.

use std::time::{Duration, Instant};

use pileway::api::pb;
use pileway::domain::pile::Presence;
use pileway::sim::{Fleet, FleetConfig, PileConfig};
use pileway::store::ledger::Ledger;
use tokio::task::JoinSet;

use crate::common::api::{start_request, timed};
use crate::common::redis::Redis;
use crate::common::{eventually, has_passed, within};
use crate::load::{self, Load};
use crate::trio::{self, Trio, online};

const PILES: u32 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_frozen_past_its_lease_gives_up_what_it_lost() {
    let _alone = crate::ONE_AT_A_TIME.lock().await;
    let redis = Redis::start();
    let trio = Trio::with(&redis.url(), &[("PILE__LOST_AFTER", "8s")]).await;
    // Whoever has nothing to say is heard of all the same, well before it is taken for lost.
    let of_all = trio::fleet("32010600400001", trio.addresses());
    let first = PileConfig { heartbeat: Duration::from_secs(2), ..of_all.first };
    let fleet = Fleet::start(&FleetConfig { piles: PILES, first, ..of_all });
    online(&fleet, PILES).await;
    let load = Load::begin(&trio.apis, &fleet, 16);
    eventually("the load to run", || async { (load.told().started > 100).then_some(()) }).await;
    // Asked while it is frozen, it answers nobody; what its callers see is their own time-out.
    load.without(0);
    trio.nodes[0].freeze();
    // What callers ask it now lies in its sockets until it goes on, long after they have given up.
    let mut asked = JoinSet::new();
    for (n, pile) in fleet.piles().iter().enumerate().take(90) {
        let (mut api, pile) = (trio.apis[0].clone(), pile.code().to_string());
        let serial = format!("{pile}01{:016x}", 0xF000_0000 + n);
        let request = pb::StartChargingRequest { serial: serial.clone(), ..start_request(&pile, 1) };
        let patience = Duration::from_secs(2);
        load.told().starts.insert(serial.parse().expect("32 digits"), Instant::now() + patience);
        asked.spawn(async move { api.charging.start_charging(timed(request, patience)).await.map(drop) });
    }
    let answers = within("callers to give up", asked.join_all()).await;
    assert!(answers.iter().all(Result::is_err), "a frozen node answers nobody");
    // Half of its piles notice and go elsewhere, their old connections stay open; the other half waits.
    let moved: Vec<usize> = (0..PILES as usize).step_by(6).collect();
    for n in &moved {
        fleet.piles()[*n].half_open().await;
    }
    let elsewhere = || async {
        let mut at_node_1 = 0;
        for n in &moved {
            let pile = trio.apis[1].pile(&fleet.piles()[*n].code().to_string()).await;
            at_node_1 += usize::from(pile.session.is_some());
        }
        (at_node_1 == moved.len()).then_some(())
    };
    eventually("the moved piles to be elsewhere", elsewhere).await;
    // Past the lease, and past the absence at which the others judge the piles that wait.
    has_passed(Duration::from_secs(25), Instant::now()).await;
    trio.nodes[0].thaw();
    online(&fleet, PILES).await;

    // Whatever it believed to hold: its own API sends every caller to where the pile is.
    for n in &moved {
        let pile = fleet.piles()[*n].code().to_string();
        let answered = || async { trio.apis[0].sync_clock(&pile).await.ok() };
        within("the pile's own answer", eventually("an answer", answered)).await;
    }
    // Whoever took its piles on while it stood still has heard that they are back, and judges them no more.
    has_passed(Duration::from_secs(12), Instant::now()).await;
    let store = Ledger::new(crate::stored::open(&redis.url()).await);
    for pile in fleet.piles() {
        let stored = store.pile(pile.code()).await.expect("reads").expect("is known");
        assert_eq!(stored.presence, Presence::Online, "{}", pile.code());
        assert!(store.owner(pile.code()).await.expect("reads").is_some(), "{} has an owner", pile.code());
    }
    let told = load.end().await;
    load::check_starts(&told, &fleet);
    assert!(told.untyped.is_empty(), "untyped: {:?}", told.untyped);
    crate::killed::acknowledged(&fleet).await;
    crate::stored::check(crate::stored::open(&redis.url()).await, &[&fleet]).await;
    eprintln!("{} calls, {} starts, errors {:?}", told.answers, told.started, told.errors);
    fleet.stop().await;
}
