//! What piles cost Redis: a script when they come back, and nothing while they are there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

use pileway::sim::{Fleet, FleetConfig, PileConfig};

use crate::common::redis::Redis;
use crate::common::within;
use crate::trio::{Trio, fleet, online};

const PILES: u32 = 200;
const HEARTBEATS: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_pile_costs_redis_nothing_and_a_pile_that_comes_back_one_script() {
    let _alone = crate::ONE_AT_A_TIME.lock().await;
    let redis = Redis::start();
    let trio = Trio::start(&redis.url()).await;
    let config = fleet("32010600900001", trio.addresses());
    let first = PileConfig { heartbeat: Duration::from_millis(200), ..config.first.clone() };
    let fleet = Fleet::start(&FleetConfig { piles: PILES, first, ..config });
    online(&fleet, PILES).await;
    // The first login gives the pile its tariff, the second confirms it: only then everything is known and written.
    come_back(&fleet).await;

    let log = CommandLog::of(&redis);
    let before = fleet.report().counters.heartbeats_answered;
    beats(&fleet, HEARTBEATS).await;
    let idle = log.so_far();
    let heartbeats = fleet.report().counters.heartbeats_answered - before;
    assert_eq!(naming_piles(&idle), BTreeMap::new(), "{heartbeats} heartbeats cost Redis commands");
    // The nodes themselves do say that they are there.
    assert!(idle.iter().any(|line| line.contains(":node:")), "the log tells of renewals: {idle:?}");

    come_back(&fleet).await;
    let back = log.so_far();
    let scripts = naming_piles(&back);
    eprintln!(
        "{heartbeats} heartbeats: 0 commands; {} piles back: {} scripts",
        scripts.len(),
        scripts.values().sum::<u32>()
    );
    assert_eq!(scripts.len(), PILES as usize);
    let more: Vec<_> = scripts.iter().filter(|(_, count)| **count != 1).collect();
    assert!(more.is_empty(), "more than one script: {more:?}");
    fleet.stop().await;
}

/// All piles, after a moment's absence, at the next node each; until nothing happens any more.
async fn come_back(fleet: &Fleet) {
    within("all piles to be ready", fleet.wait_for(0..PILES as usize, |view| view.ready)).await;
    fleet.hold(0..PILES as usize).await;
    fleet.resume(0..PILES as usize).await;
    online(fleet, PILES).await;
    within("all piles to be ready", fleet.wait_for(0..PILES as usize, |view| view.ready)).await;
    beats(fleet, HEARTBEATS).await;
}

/// Until every pile has had so many heartbeats answered, more or less.
async fn beats(fleet: &Fleet, count: u64) {
    let enough = fleet.report().counters.heartbeats_answered + count * u64::from(PILES);
    within("heartbeats", fleet.until(|fleet| fleet.report().counters.heartbeats_answered >= enough)).await;
}

/// How often clients sent something that names a pile, by pile. What scripts do within is not sent.
fn naming_piles(lines: &[String]) -> BTreeMap<String, u32> {
    let mut count = BTreeMap::new();
    for line in lines.iter().filter(|line| !line.contains(" lua] ")) {
        if let Some(at) = line.find("320106009") {
            *count.entry(line[at..at + 14].to_owned()).or_default() += 1;
        }
    }
    count
}

/// Everything Redis is sent, from MONITOR.
struct CommandLog {
    lines: mpsc::Receiver<String>,
}

impl CommandLog {
    fn of(redis: &Redis) -> Self {
        let mut socket = TcpStream::connect(("127.0.0.1", redis.port)).expect("Redis listens");
        socket.write_all(b"MONITOR\r\n").expect("writes");
        // More than is sent while anybody looks.
        let (sender, lines) = mpsc::sync_channel(1_000_000);
        let mut reader = BufReader::new(socket);
        let mut ok = String::new();
        reader.read_line(&mut ok).expect("reads");
        assert_eq!(ok, "+OK\r\n");
        std::thread::spawn(move || {
            reader
                .split(b'\n')
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(String::from_utf8_lossy(&line).into_owned()))
        });
        Self { lines }
    }

    fn so_far(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }
}
