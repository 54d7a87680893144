//! How soon an event that is appended is with a consumer of a group: one event at a time, from before it is appended until
//! it has come out of a stream of the API.
//!
//! ```text
//!   XADD    on the same Redis, until a connection that blocks in XREAD has it: the least that Redis can do
//!   append  the store alone, until the event is durable
//!   1, 8    the same until one of so many consumers has it; each acknowledges now and then
//! ```

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use pileway::api::pb::event_service_client::EventServiceClient;
use pileway::api::pb::subscribe_response::Update;
use pileway::api::pb::{self, event::Kind};
use pileway::app::{App, Stores};
use pileway::config::Config;
use pileway::domain::{Event, EventKind, PileCode, Serial, SessionId, WallMs};
use pileway::settings::Secret;
use pileway::store::BatchId;
use pileway::store::ledger::{Ledger, Write};
use redis::aio::MultiplexedConnection;
use serde::Serialize;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use crate::load::turns::{Client, Turns, play};
use crate::process::directory;
use crate::redis::{Redis, SETTINGS};
use crate::rounds::Speed;

#[derive(Serialize)]
pub struct Figure {
    /// Its settings.
    pub redis: &'static str,
    pub rows: Vec<Row>,
}

#[derive(Serialize)]
pub struct Row {
    pub what: &'static str,
    /// The times are those of one event.
    #[serde(flatten)]
    pub speed: Speed,
}

pub async fn measure() -> anyhow::Result<Figure> {
    let redis = Redis::start().await?;
    let (alone, shared) = (Node::start("").await?, Node::start(&redis.url()).await?);
    let mut raw = [Raw::connect(&redis.url()).await?];
    let mut tellers = [
        ("embedded: append alone", alone.teller(0).await?),
        ("embedded: 1 consumer", alone.teller(1).await?),
        ("embedded: 8 consumers", alone.teller(8).await?),
        ("Redis: append alone", shared.teller(0).await?),
        ("Redis: 1 consumer", shared.teller(1).await?),
        ("Redis: 8 consumers", shared.teller(8).await?),
    ];
    let mut rounds: Vec<(&'static str, Vec<Turns>)> = vec![("Redis: XADD to XREAD", vec![])];
    rounds.extend(tellers.iter().map(|(what, _)| (*what, vec![])));
    for _ in 0..ROUNDS {
        rounds[0].1.push(play(&mut raw).await?);
        for (n, (_, teller)) in tellers.iter_mut().enumerate() {
            rounds[n + 1].1.push(play(std::slice::from_mut(teller)).await?);
        }
    }
    drop(tellers);
    alone.end().await;
    shared.end().await;
    let rows = rounds.iter().map(|(what, rounds)| Row { what, speed: Speed::of(rounds) }).collect();
    Ok(Figure { redis: SETTINGS, rows })
}

/// A node in this process, whose store events can be appended to as its sessions do.
struct Node {
    app: App,
    grpc: SocketAddr,
    ledger: Ledger,
    _data: TempDir,
}

impl Node {
    /// Alone if `redis` is empty.
    async fn start(redis: &str) -> anyhow::Result<Self> {
        let data = directory()?;
        let mut config = Config::defaults();
        data.path().clone_into(&mut config.store.data_dir);
        config.redis.url = Secret::new(redis);
        for listen in [&mut config.pile.listen, &mut config.grpc.listen, &mut config.peer.listen] {
            *listen = SocketAddr::from(([127, 0, 0, 1], 0));
        }
        let stores = Stores::open(&config).await?;
        let ledger = stores.ledger.clone();
        let app = App::start_on(config, stores).await?;
        let grpc = app.grpc;
        Ok(Self { app, grpc, ledger, _data: data })
    }

    async fn teller(&self, consumers: u64) -> anyhow::Result<Teller> {
        let (heard, hearing) = mpsc::channel(1024);
        let mut teller =
            Teller { ledger: self.ledger.clone(), group: consumers, n: 0, hearing, consumers: JoinSet::new() };
        if consumers == 0 {
            return Ok(teller);
        }
        let api = EventServiceClient::connect(format!("http://{}", self.grpc)).await?;
        let group = format!("bench-{consumers}");
        for _ in 0..consumers {
            teller.consumers.spawn(consume(api.clone(), group.clone(), consumers, heard.clone()));
        }
        timeout(LIMIT, spread(api, group, consumers)).await.context("partitions were not spread")??;
        Ok(teller)
    }

    async fn end(self) {
        // What it has not settled concerns nobody here.
        let _ = self.app.shut_down().await;
    }
}

/// Until each of the consumers holds its share.
async fn spread(mut api: EventServiceClient<Channel>, group: String, consumers: u64) -> anyhow::Result<()> {
    loop {
        if let Ok(lag) = api.get_lag(pb::GetLagRequest { group: group.clone() }).await {
            let held: Vec<_> = lag.into_inner().partitions.into_iter().map(|one| one.consumer).collect();
            let different: BTreeSet<_> = held.iter().collect();
            if held.iter().all(|one| !one.is_empty()) && different.len() as u64 == consumers {
                return Ok(());
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn consume(
    mut api: EventServiceClient<Channel>,
    group: String,
    mine: u64,
    heard: mpsc::Sender<u64>,
) -> anyhow::Result<()> {
    let request = pb::SubscribeRequest { group: group.clone(), max_in_flight: 10_000, ..Default::default() };
    let mut stream = api.subscribe(request).await?.into_inner();
    let (mut consumer, mut seen) = (String::new(), 0_u64);
    while let Some(message) = stream.message().await? {
        match message.update {
            Some(Update::Joined(joined)) => consumer = joined.consumer,
            Some(Update::Event(event)) => {
                let Some(Kind::RecordConflict(conflict)) = &event.kind else { bail!("not ours: {event:?}") };
                let number = u128::from_str_radix(&conflict.serial, 16)?;
                // Groups hear what is told for others as well.
                if (number >> 64) as u64 == mine {
                    heard.send(number as u64).await?;
                }
                seen += 1;
                if seen.is_multiple_of(ACKNOWLEDGE_EVERY) {
                    let (group, consumer, cursor) = (group.clone(), consumer.clone(), event.cursor);
                    let mut api = api.clone();
                    // One that is refused is acknowledged by a later one.
                    tokio::spawn(
                        async move { api.acknowledge(pb::AcknowledgeRequest { group, consumer, cursor }).await },
                    );
                }
            }
            Some(Update::Gap(gap)) => bail!("events are missing: {gap:?}"),
            None => bail!("an empty message"),
        }
    }
    Ok(())
}

/// Appends an event, and waits until a consumer of its group has it.
struct Teller {
    ledger: Ledger,
    /// How many consumers it has; names the group.
    group: u64,
    n: u64,
    hearing: mpsc::Receiver<u64>,
    consumers: JoinSet<anyhow::Result<()>>,
}

impl Client for Teller {
    async fn turn(&mut self) -> anyhow::Result<()> {
        self.n += 1;
        let pile: PileCode = format!("7{:013}", self.n % PILES).parse()?;
        let serial = Serial::from_bytes((u128::from(self.group) << 64 | u128::from(self.n)).to_be_bytes());
        let (kind, now) = (EventKind::RecordConflict { serial }, WallMs(unix_ms()?));
        let session = SessionId { incarnation: 1 + self.group, counter: self.n % PILES };
        self.ledger
            .write(Write {
                id: BatchId { session, n: self.n },
                pile,
                fence: None,
                documents: vec![],
                events: vec![Event { pile, recorded_at: now, pile_time: None, kind }],
            })
            .await?;
        while self.group > 0 {
            tokio::select! {
                heard = self.hearing.recv() => if heard.context("nobody listens")? == self.n { break },
                Some(ended) = self.consumers.join_next() => bail!("a consumer has ended: {ended:?}"),
            }
        }
        Ok(())
    }
}

/// What Redis itself takes for it.
struct Raw {
    writer: MultiplexedConnection,
    reader: MultiplexedConnection,
    last: String,
    payload: String,
}

impl Raw {
    async fn connect(url: &str) -> anyhow::Result<Self> {
        let client = redis::Client::open(url)?;
        let (writer, reader) =
            (client.get_multiplexed_async_connection().await?, client.get_multiplexed_async_connection().await?);
        Ok(Self { writer, reader, last: "0-0".to_owned(), payload: "x".repeat(BYTES) })
    }
}

impl Client for Raw {
    async fn turn(&mut self) -> anyhow::Result<()> {
        let (mut read, mut add) = (redis::cmd("XREAD"), redis::cmd("XADD"));
        read.arg("BLOCK").arg(5000).arg("STREAMS").arg("raw").arg(&self.last);
        add.arg("raw").arg("MAXLEN").arg("~").arg(1000).arg("*").arg("event").arg(&self.payload);
        let reading = read.query_async::<Streams>(&mut self.reader);
        let adding = add.query_async::<String>(&mut self.writer);
        let (read, added) = tokio::join!(reading, adding);
        self.last = added?;
        let found = read?.pop().and_then(|(_, mut entries)| entries.pop());
        let (found, _) = found.context("nothing was read")?;
        ensure!(found == self.last, "{found} was read, {} was added", self.last);
        Ok(())
    }
}

/// By stream: ids and fields.
type Streams = Vec<(String, Vec<(String, Vec<String>)>)>;

fn unix_ms() -> anyhow::Result<i64> {
    Ok(i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis())?)
}

/// Enough to be in most partitions.
const PILES: u64 = 256;
const ACKNOWLEDGE_EVERY: u64 = 100;
/// About those of an event in a log.
const BYTES: usize = 64;
/// Odd, so that the median is one of them.
const ROUNDS: usize = 3;
const LIMIT: Duration = Duration::from_mins(1);
