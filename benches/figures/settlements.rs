//! Records settled durably: by a store, by a node, and what the disk and Redis can do at most, in turns.
//!
//! ```text
//!   fsync   one file on the disk of the stores; the records of all clients, then fsync, again and again
//!   XADD    redis-benchmark, about as many bytes as a settlement stores
//!   stores  in this process, settling orders that are stored, one in flight for each client
//!   nodes   piles send 0x3B and wait for 0x40; nobody has seen the order, so the node first looks for it
//! ```

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use pileway::domain::record::RecordedPeriod;
use pileway::domain::{Amount, Energy, Gun, Order, PileCode, Price, Record, Serial, SessionId, WallMs};
use pileway::store::embedded::{self, Embedded};
use pileway::store::journal::{self, Journal};
use pileway::store::ledger::{Document, Expect, Ledger, Write as Batch};
use pileway::store::redis::{Config, Redis as Shared};
use pileway::store::{BatchId, Settled};
use serde::Serialize;

use crate::load::WINDOW;
use crate::load::turns::{Client, Turns, play};
use crate::process::{Process, Server, directory};
use crate::redis::{Redis, SETTINGS};
use crate::rounds::{Ratio, Speed};

#[derive(Serialize)]
pub struct Figure {
    pub clients: u32,
    /// Its settings.
    pub redis: &'static str,
    /// Records per second; the times are those of one group.
    pub fsync: Speed,
    pub xadd: Speed,
    pub settled: Vec<Side>,
}

#[derive(Serialize)]
pub struct Side {
    pub by: &'static str,
    #[serde(flatten)]
    pub speed: Speed,
    pub of_fsync: Ratio,
    /// `None` without Redis.
    pub of_xadd: Option<Ratio>,
}

pub async fn measure() -> anyhow::Result<Figure> {
    let redis = Redis::start().await?;
    let payload = "x".repeat(BYTES);
    // So that Redis has enough memory wherever this runs.
    let xadd = ["XADD", "records", "MAXLEN", "~", "10000", "*", "record", &payload];
    let pace = redis.pace(CLIENTS, &xadd).await?;

    let (alone, journal) = (directory()?, directory()?);
    let embedded = Arc::new(Embedded::open(embedded::Config::new(alone.path()))?);
    let journal = Journal::open(journal::Config::new(journal.path())).await?;
    // Not the prefix of the node.
    let shared = Config { prefix: "bench".to_owned(), ..Config::new(redis.url()) };
    let shared = Arc::new(Shared::open(shared).await?);
    let ledgers = [Ledger::new(embedded.clone()), Ledger::with_journal(shared.clone(), journal.clone())];
    let mut tills = ledgers.each_ref().map(tills_of);

    // A round that does not count, to see how many orders one takes.
    let mut enough = [0; 2];
    for (enough, tills) in enough.iter_mut().zip(&mut tills) {
        *enough = (play(tills).await?.all * 2 / u64::from(CLIENTS)) as usize;
    }

    let nodes = (Server::node().await?, Server::node_on(&redis.url()).await?);
    let mut piles = [nodes.0.clients("records", CLIENTS).await?, nodes.1.clients("records", CLIENTS).await?];

    let (mut fsync, mut added, mut settled) = (vec![], vec![], [const { vec![] }; 4]);
    for _ in 0..ROUNDS {
        fsync.push(appended(alone.path().join("appended")).await?);
        added.push(redis.benchmark(CLIENTS, pace, &xadd).await?);
        let (stores, nodes) = settled.split_at_mut(2);
        for ((rounds, tills), enough) in stores.iter_mut().zip(&mut tills).zip(&enough) {
            try_join_all(tills.iter_mut().map(|till| till.stock(*enough))).await?;
            rounds.push(play(tills).await?);
        }
        for (rounds, piles) in nodes.iter_mut().zip(&mut piles) {
            rounds.push(ask(piles).await?);
        }
    }
    embedded.close().await;
    journal.close().await;
    shared.close().await;
    let by = [("embedded store", false), ("Redis and journal", true), ("node alone", false), ("node on Redis", true)];
    let side = |((by, on_redis), rounds): ((_, bool), &Vec<Turns>)| Side {
        by,
        speed: Speed::of(rounds),
        of_fsync: Ratio::of_turns(rounds, &fsync),
        of_xadd: on_redis.then(|| Ratio::of_turns(rounds, &added)),
    };
    Ok(Figure {
        clients: CLIENTS,
        redis: SETTINGS,
        fsync: Speed::of(&fsync),
        xadd: Speed::of(&added),
        settled: by.into_iter().zip(&settled).map(side).collect(),
    })
}

async fn ask(piles: &mut Process) -> anyhow::Result<Turns> {
    Ok(serde_json::from_str(&piles.ask("settle", WINDOW + ROUND_LIMIT).await?)?)
}

/// The least that makes records durable in groups: no store can do it with fewer fsyncs than one for all that wait.
async fn appended(path: std::path::PathBuf) -> anyhow::Result<Turns> {
    let group = vec![b'x'; CLIENTS as usize * BYTES];
    let append = move || {
        let mut file = std::fs::File::create(path)?;
        let (began, mut took) = (Instant::now(), vec![]);
        while began.elapsed() < WINDOW {
            let since = Instant::now();
            file.write_all(&group)?;
            file.sync_data()?;
            took.push(since.elapsed().as_secs_f64() * 1e6);
        }
        let all = took.len() as u64 * u64::from(CLIENTS);
        let per_second = all as f64 / began.elapsed().as_secs_f64();
        took.sort_by(f64::total_cmp);
        let percentile = |p: usize| took[(took.len() - 1) * p / 100];
        anyhow::Ok(Turns { per_second, all, p50_us: percentile(50), p99_us: percentile(99) })
    };
    tokio::task::spawn_blocking(append).await?.context("cannot append to a file")
}

fn tills_of(ledger: &Ledger) -> Vec<Till> {
    (0..CLIENTS).map(|number| Till { ledger: ledger.clone(), number, orders: vec![], seen: 0 }).collect()
}

/// Settles one order of its pile after the other.
struct Till {
    ledger: Ledger,
    number: u32,
    /// Stored in their first version, and not settled yet.
    orders: Vec<Order>,
    /// Orders so far.
    seen: u64,
}

impl Client for Till {
    async fn turn(&mut self) -> anyhow::Result<()> {
        if self.orders.is_empty() {
            self.store_orders().await?;
        }
        let order = self.orders.pop().context("no order has been stored")?;
        let settled = self.ledger.settle(record_of(&order), Some((order, 1)), NOW).await?;
        ensure!(settled.outcome == Settled::First, "a record was not settled in the store: {:?}", settled.outcome);
        Ok(())
    }
}

impl Till {
    /// While no clock runs.
    async fn stock(&mut self, enough: usize) -> anyhow::Result<()> {
        while self.orders.len() < enough {
            self.store_orders().await?;
        }
        Ok(())
    }

    async fn store_orders(&mut self) -> anyhow::Result<()> {
        let pile: PileCode = format!("8{:013}", self.number).parse()?;
        let gun = Gun::new(1)?;
        let mut orders = vec![];
        for _ in 0..ORDERS {
            self.seen += 1;
            let mut serial = [0; 16];
            serial[..7].copy_from_slice(&pile.bcd());
            serial[8..].copy_from_slice(&self.seen.to_be_bytes());
            orders.push(Order::requested(pile, gun, Serial::from_bytes(serial), NOW));
        }
        let session = SessionId { incarnation: 1, counter: u64::from(self.number) };
        let documents = orders.iter().map(|order| (Document::Order(Box::new(order.clone())), Expect::Absent));
        let (id, documents) = (BatchId { session, n: self.seen }, documents.collect());
        self.ledger.write(Batch { id, pile, fence: None, documents, events: vec![] }).await?;
        self.orders.append(&mut orders);
        Ok(())
    }
}

/// 10 kWh at 1.40000 CNY.
fn record_of(order: &Order) -> Record {
    let (energy, amount) = (Energy(100_000), Amount(140_000));
    let mut periods = [RecordedPeriod::default(); 4];
    periods[1] = RecordedPeriod { unit_price: Price(140_000), energy, loss_energy: energy, amount };
    let mut body = order.serial.bytes().to_vec();
    body.resize(BODY, 0);
    Record {
        pile: order.pile,
        gun: order.gun,
        serial: order.serial,
        started: None,
        ended: None,
        traded: None,
        periods,
        meter_start: Energy(50_000_000),
        meter_end: Energy(50_100_000),
        total_energy: energy,
        total_loss_energy: energy,
        total_amount: amount,
        vin: "LSVAA4182E2184847".to_owned(),
        start_type: 1,
        stop_reason: 0x40,
        stop_reason_name: "Finished".to_owned(),
        physical_card: [0; 8],
        code: 0x3B,
        body,
    }
}

const NOW: WallMs = WallMs(1_760_000_000_000);
const CLIENTS: u32 = 64;
/// About what a settlement stores: the record, the order with its bill, and the event.
const BYTES: usize = 1024;
/// Of 0x3B.
const BODY: usize = 158;
/// Stored at a time: a batch has at most 128 operations, and each of them is three.
const ORDERS: usize = 40;
/// Odd, so that the median is one of them.
const ROUNDS: usize = 5;
const ROUND_LIMIT: Duration = Duration::from_secs(30);
