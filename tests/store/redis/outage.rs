//! Redis goes away, and comes back; what calls say meanwhile, and how soon.

use std::time::{Duration, Instant};

use pileway::domain::PileCode;
use pileway::store::redis::{Config, Mode, OpenError, Redis};
use pileway::store::{Offset, Partition, Store, StoreError};

use crate::common::{append, batch, claim, key, partition, pile, put};
use crate::servers::{self, PATIENCE};

/// Shorter than what counts as slow anywhere, longer than a local server needs on a busy machine.
const LIMIT: Duration = Duration::from_millis(800);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_fail_at_once_while_redis_is_down_and_go_on_when_it_is_back() {
    let mut server = servers::Redis::start();
    let store = open(server.url()).await;
    write(&store, pile(1), 1).await.expect("commits");
    server.kill();
    assert!(unavailable(&store.get(key(pile(1), "a")).await));
    fails_at_once(&store).await;
    server.restart();
    healthy(&store).await;
    assert_eq!(store.get(key(pile(1), "a")).await.expect("reads").expect("is there").version, 1);
    write(&store, pile(1), 2).await.expect("commits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_costs_one_time_limit_and_not_more() {
    let server = servers::Redis::start();
    let store = open(server.url()).await;
    server.freeze();
    let since = Instant::now();
    assert!(unavailable(&store.claim(claim(pile(1), 1, 1)).await));
    assert!(since.elapsed() < 2 * LIMIT, "{:?}", since.elapsed());
    fails_at_once(&store).await;
    server.thaw();
    healthy(&store).await;
    // What was sent before is carried out now or was never read; it is the same claim either way.
    let claimed = store.claim(claim(pile(1), 1, 1)).await.expect("claims");
    assert_eq!(claimed.fence, crate::common::fence(1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_was_lost_is_the_same_when_it_is_sent_again() {
    let server = servers::Redis::start();
    let store = open(server.url()).await;
    let mut sent = batch(1, 1);
    sent.put = vec![put(pile(1), "a", "x")];
    sent.append = vec![append(pile(1), "event")];
    let at = partition(&store, pile(1));
    server.freeze();
    assert!(unavailable(&store.commit(at, sent.clone()).await));
    server.thaw();
    healthy(&store).await;
    for _ in 0..2 {
        let committed = store.commit(at, sent.clone()).await.expect("commits");
        assert_eq!((committed.versions, committed.offsets), (vec![1], vec![1]));
    }
    assert_eq!(store.log_end(at).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_slow_call_does_not_end_the_store() {
    let server = servers::Redis::with(&["enable-debug-command yes"]);
    let store = open(server.url()).await;
    let url = server.url();
    let busy = std::thread::spawn(move || {
        let mut connection = redis::Client::open(url)?.get_connection()?;
        redis::cmd("DEBUG").arg("SLEEP").arg("1.2").query::<()>(&mut connection)
    });
    // Until one call has met it.
    let limit = Instant::now() + PATIENCE;
    while store.get(key(pile(1), "a")).await.is_ok() {
        assert!(Instant::now() < limit, "never slow");
    }
    healthy(&store).await;
    busy.join().expect("no panic").expect("sleeps");
    write(&store, pile(1), 1).await.expect("commits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_while_redis_is_away() {
    let mut server = servers::Redis::start();
    server.kill();
    let since = Instant::now();
    let store = open(server.url()).await;
    assert!(since.elapsed() < 2 * LIMIT);
    assert_eq!(store.report(), None);
    fails_at_once(&store).await;
    server.restart();
    healthy(&store).await;
    assert!(store.report().is_some());
    write(&store, pile(1), 1).await.expect("commits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_of_another_pileway_is_refused_now_or_when_it_is_found() {
    let mut server = servers::Redis::start();
    drop(open(server.url()).await);
    let other = Config { partitions: 16, time_limit: LIMIT, ..Config::new(server.url()) };
    let error = Redis::open(other.clone()).await.err().expect("is refused");
    assert!(matches!(&error, OpenError::Partitions { found, configured: 16, .. } if found == "64"), "{error}");

    server.kill();
    let late = Redis::open(other).await.expect("starts");
    server.restart();
    let said = |why: &str| late.health().is_err_and(|error| error.to_string().contains(why));
    eventually("the refusal", async || said("created with 64 partitions, configured are 16")).await;
    assert!(unavailable(&late.get(key(pile(1), "a")).await));

    let _: u64 = server.cli(&["HSET", "pw:{pg}:meta", "format", "7"]);
    let error = Redis::open(Config::new(server.url())).await.err().expect("is refused");
    assert!(matches!(&error, OpenError::Format { found, known: 1, .. } if found == "7"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_memory_refuses_writes_and_answers_reads() {
    let server = servers::Redis::start();
    let store = open(server.url()).await;
    write(&store, pile(1), 1).await.expect("commits");
    let _: () = server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(unavailable(&write(&store, pile(1), 2).await));
    eventually("reads to go on", async || store.get(key(pile(1), "a")).await.is_ok()).await;
    // Being reached again and again changes nothing.
    for _ in 0..500 {
        let health = store.health();
        assert!(health.is_err_and(|error| error.to_string().contains("maxmemory")), "{:?}", store.health());
        store.get(key(pile(1), "a")).await.ok();
    }
    assert_eq!(store.log_end(partition(&store, pile(1))).await, Ok(1), "nothing of it was written");
    let _: () = server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    healthy(&store).await;
    write(&store, pile(1), 2).await.expect("commits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_somebody_has_emptied_has_another_lineage() {
    let server = servers::Redis::start();
    let store = open(server.url()).await;
    write(&store, pile(1), 1).await.expect("commits");
    let before = store.lineage().await.expect("reads");
    assert_eq!(store.lineage().await.as_ref(), Ok(&before));
    let _: () = server.cli(&["FLUSHALL"]);
    let after = store.lineage().await.expect("reads");
    assert!(before.iter().zip(&after).all(|(before, after)| before != after), "everything is gone");
    assert_eq!(store.lineage().await, Ok(after), "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_becomes_a_replica_is_no_longer_asked() {
    let server = servers::Redis::start();
    let store = open(server.url()).await;
    write(&store, pile(1), 1).await.expect("commits");
    // Of nobody: what it has stays, and grows old.
    let _: () = server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    assert!(unavailable(&write(&store, pile(1), 2).await));
    let replica = async || store.health().is_err_and(|error| error.to_string().contains("replica"));
    eventually("the reason", replica).await;
    assert!(unavailable(&store.get(key(pile(1), "a")).await), "it may be old");
    let _: () = server.cli(&["REPLICAOF", "NO", "ONE"]);
    healthy(&store).await;
    write(&store, pile(1), 2).await.expect("commits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_fail_over_is_followed() {
    let mut sentinel = servers::Sentinel::start();
    let store = open(sentinel.url()).await;
    assert_eq!(store.report().expect("it answered").mode, Mode::Sentinel);
    let before = store.lineage().await.expect("reads");
    write(&store, pile(1), 1).await.expect("commits");
    servers::until("the replica to have it", || {
        let (master, replica) = (&sentinel.servers[0], &sentinel.servers[1]);
        master.cli::<u64>(&["DBSIZE"]) == replica.cli::<u64>(&["DBSIZE"])
    });
    sentinel.kill_master();
    assert!(unavailable(&write(&store, pile(1), 2).await));
    healthy(&store).await;
    write(&store, pile(1), 2).await.expect("commits");
    assert_eq!(store.get(key(pile(1), "a")).await.expect("reads").expect("is there").version, 2);
    assert_ne!(store.lineage().await.expect("reads"), before, "what was acknowledged last may be lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_master_of_a_cluster_is_followed() {
    let mut cluster = servers::Cluster::start();
    let store = open(cluster.seeds()).await;
    let report = store.report().expect("it answered");
    assert_eq!((report.mode, report.safe), (Mode::Cluster, Ok(())));
    let before = store.lineage().await.expect("reads");
    assert_eq!(before.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "one of each master");
    let piles: Vec<_> = (1..20).map(pile).collect();
    for pile in &piles {
        write(&store, *pile, 1).await.expect("commits");
    }
    let here = partition(&store, piles[0]);
    cluster.kill_master_of(&format!("pw:{{p{:02}}}:log", here.0));
    let since = Instant::now();
    let limit = since + PATIENCE;
    while write(&store, piles[0], 2).await.is_err() {
        assert!(Instant::now() < limit, "{:?}", store.health());
        tokio::task::yield_now().await;
    }
    healthy(&store).await;
    for pile in &piles[1..] {
        write(&store, *pile, 2).await.expect("commits");
    }
    let after = store.lineage().await.expect("reads");
    let same = |partition: Partition| before[usize::from(partition.0)] == after[usize::from(partition.0)];
    assert!(!same(here));
    assert!((0..64).map(Partition).any(same), "the others have lost nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_store_says_so() {
    let server = servers::Redis::start();
    let store = open(server.url()).await;
    store.close().await;
    assert_eq!(store.get(key(pile(1), "a")).await, Err(StoreError::Unavailable("closing".to_owned())));
    servers::until("its connections to be closed", || {
        // The one that asks is the only one left.
        server.cli::<String>(&["CLIENT", "LIST"]).lines().count() == 1
    });
}

async fn open(url: String) -> Redis {
    Redis::open(Config { time_limit: LIMIT, ..Config::new(url) }).await.expect("starts")
}

async fn write(store: &Redis, pile: PileCode, n: u64) -> Result<Vec<Offset>, StoreError> {
    let mut batch = batch(pile.bcd()[6].into(), n);
    batch.put = vec![put(pile, "a", "x")];
    batch.append = vec![append(pile, "event")];
    store.commit(partition(store, pile), batch).await.map(|committed| committed.offsets)
}

fn unavailable<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Unavailable(_)))
}

/// Fifty calls in less than the time limit of one.
async fn fails_at_once(store: &Redis) {
    assert!(store.health().is_err());
    let since = Instant::now();
    for n in 0..50 {
        assert!(unavailable(&write(store, pile(1), 100 + n).await));
    }
    assert!(since.elapsed() < LIMIT, "{:?}", since.elapsed());
}

async fn healthy(store: &Redis) {
    eventually("the store to be well", async || store.health().is_ok()).await;
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < limit, "waited {PATIENCE:?} in vain for {what}");
        tokio::task::yield_now().await;
    }
}
