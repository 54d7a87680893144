//! Whichever node is asked, the pile itself answers; and what a hop costs.

use std::time::{Duration, Instant};

use pileway::api::pb;
use pileway::sim::{Fleet, FleetConfig};
use tokio::task::JoinSet;
use tonic::Code;

use crate::common::api::{parallel_request, start_request};
use crate::common::redis::Redis;
use crate::common::{Api, Chance, eventually, reason, within};
use crate::trio::{self, Trio, online};

const PILES: u32 = 3000;
/// With two guns.
const PAIRS: u32 = 6;
const CALLS: usize = 2000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_at_any_node_gets_the_piles_own_answer() {
    let _alone = crate::ONE_AT_A_TIME.lock().await;
    let redis = Redis::start();
    let trio = Trio::start(&redis.url()).await;
    let fleet = trio.piles("32010600100001", PILES).await;
    let mut chance = Chance::seeded();

    let mut asked = JoinSet::new();
    for n in 0..60 {
        // No pile twice, and every node for piles of every node.
        let pile = fleet.piles()[n * 50 + chance.below(50) as usize].code().to_string();
        let mut api = trio.apis[chance.below(3) as usize].clone();
        asked.spawn(async move { every_rpc(&mut api, &pile).await });
    }
    asked.join_all().await;
    // Those that were rebooted are back.
    online(&fleet, PILES).await;
    vehicles_on_two_guns(&trio, &mut chance).await;
    let unknown = trio.apis[1].sync_clock("99999999999999").await.expect_err("no such pile");
    assert_eq!(reason(&unknown), (Code::NotFound, "PILE_UNKNOWN".to_owned()));

    let bare = bare_call(&trio.apis[0]).await;
    let mut own = vec![];
    let mut others = vec![];
    // Pile n logs in at address n modulo 3, so node 0 has every third.
    for n in 0..CALLS {
        let at = chance.below(u64::from(PILES) / 3) as usize * 3;
        let (pile, list) = if n % 2 == 0 { (at, &mut own) } else { (at + 1, &mut others) };
        let pile = fleet.piles()[pile].code().to_string();
        let request = pb::ReadTelemetryRequest { pile, gun: 1 };
        let begun = Instant::now();
        let answer = trio.apis[0].telemetry.clone().read_telemetry(request).await;
        list.push(begun.elapsed());
        answer.expect("an answer");
    }
    let (bare, own, others) = (Percentiles::of(bare), Percentiles::of(own), Percentiles::of(others));
    eprintln!("call                p50        p99");
    for (name, figures) in [("bare tonic call", &bare), ("local", &own), ("forwarded", &others)] {
        eprintln!("{name:16} {:>8.0?} {:>10.0?}", figures.p50, figures.p99);
    }
    let goal = own.p50 + 2 * bare.p50;
    eprintln!("forwarded p50 is {:.2} of local p50 + 2 bare calls", others.p50.as_secs_f64() / goal.as_secs_f64());
    fleet.stop().await;
}

async fn every_rpc(api: &mut Api, pile: &str) {
    let told = || async { Some(api.pile(pile).await).filter(|found| found.session.is_some()) };
    let found = eventually("the session to be told, wherever it is", told).await;
    assert_eq!(found.pile, pile);
    let request = pb::ReadTelemetryRequest { pile: pile.to_owned(), gun: 1 };
    let measured =
        within("ReadTelemetry", api.telemetry.read_telemetry(request)).await.expect("an answer").into_inner();
    assert_eq!(measured.telemetry.expect("telemetry").pile, pile);
    let clock = api.sync_clock(pile).await.expect("an answer");
    assert!(clock.pile_time.is_some());

    let order = api.start(start_request(pile, 1)).await.expect("starts");
    assert_eq!(api.order(pile, &order.serial).await.serial, order.serial);
    match api.stop(pile, &order.serial).await {
        Ok(stopped) => assert_eq!(stopped.order.expect("an order").serial, order.serial),
        // It has ended by itself meanwhile, and its record has come or is on its way.
        Err(status) => assert!(["ORDER_NOT_ACTIVE", "PILE_REJECTED"].contains(&&*reason(&status).1), "{status:?}"),
    }
    api.order_becomes(pile, &order.serial, pb::OrderState::Settled).await;
    let request = pb::RebootPileRequest { pile: pile.to_owned(), timing: pb::CommandTiming::WhenIdle.into() };
    within("RebootPile", api.piles.reboot_pile(request)).await.expect("an answer");
}

/// The same of the one call that takes two guns, at every node.
async fn vehicles_on_two_guns(trio: &Trio, chance: &mut Chance) {
    let mut config = FleetConfig { piles: PAIRS, ..trio::fleet("32010600200001", trio.addresses()) };
    config.first.guns = 2;
    let fleet = Fleet::start(&config);
    online(&fleet, PAIRS).await;
    for pile in fleet.piles() {
        let (pile, api) = (pile.code().to_string(), &trio.apis[chance.below(3) as usize]);
        let orders = api.start_parallel(parallel_request(&pile)).await.expect("starts on both guns");
        for order in &orders {
            api.order_becomes(&pile, &order.serial, pb::OrderState::Settled).await;
        }
    }
    fleet.stop().await;
}

/// The least a call can cost here: one that asks nobody.
async fn bare_call(api: &Api) -> Vec<Duration> {
    let mut took = vec![];
    for _ in 0..CALLS / 2 {
        // Refused by its arguments: in and out of tonic, and nothing in between.
        let request = pb::ReadTelemetryRequest { pile: "no pile".to_owned(), gun: 1 };
        let begun = Instant::now();
        api.telemetry.clone().read_telemetry(request).await.expect_err("no pile");
        took.push(begun.elapsed());
    }
    took
}

struct Percentiles {
    p50: Duration,
    p99: Duration,
}

impl Percentiles {
    fn of(mut took: Vec<Duration>) -> Self {
        took.sort();
        Self { p50: took[took.len() / 2], p99: took[took.len() * 99 / 100] }
    }
}
