//! What a script does and does not do to Redis, and how nodes hear of each other's writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pileway::domain::order::Change;
use pileway::domain::{Order, PileCode};
use pileway::store::ledger::{Expect, Ledger, Write};
use pileway::store::redis::{Config, Redis};
use pileway::store::{GapReason, IndexName, Partition, Seen, Settlement, Store, StoreError};
use tokio::time::timeout;

use crate::common::{append, batch, claim, indexed, key, partition, pile, put};
use crate::ledger::{NOW, event, of, order, write};
use crate::redis_store::append_one;
use crate::servers::{self, PATIENCE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_is_one_round_trip_and_an_idle_pile_is_none() {
    let server = servers::Redis::start();
    let store = Redis::open(Config::new(server.url())).await.expect("starts");
    let mut orders = batch(1, 1);
    orders.put = (0..20).map(|n| order_of(pile(1), &format!("{n:02}"))).collect();
    store.commit(partition(&store, pile(1)), orders).await.expect("commits");
    // From here on the server knows the script.
    store.claim(claim(pile(1), 1, 1)).await.expect("claims");

    let before = server.commands();
    for n in 2..12 {
        let claimed = store.claim(claim(pile(1), n, 1)).await.expect("claims");
        assert_eq!((claimed.open_orders.len(), claimed.previous.is_some()), (20, true));
    }
    let spent = difference(&before, &server.commands());
    let scripts = spent.iter().filter(|(name, _)| ["eval", "evalsha", "script|load"].contains(&name.as_str()));
    assert_eq!(scripts.collect::<Vec<_>>(), [(&"evalsha".to_owned(), &10)]);

    let before = server.commands();
    let since = Instant::now();
    servers::until("a second to pass", || since.elapsed() > Duration::from_secs(1));
    let spent = difference(&before, &server.commands());
    let asked: Vec<_> =
        spent.keys().filter(|name| !["info", "client|setinfo", "hello"].contains(&name.as_str())).collect();
    assert_eq!(asked, [""; 0], "nobody watches, and nobody does anything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgets_the_scripts_is_told_again() {
    let server = servers::Redis::start();
    let store = Redis::open(Config::new(server.url())).await.expect("starts");
    for n in 1..3 {
        let _: () = server.cli(&["SCRIPT", "FLUSH"]);
        append_one(&store, pile(1), n).await.expect("commits");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_the_wrong_type_is_an_error_before_anything_is_written() {
    let server = servers::Redis::start();
    let store = Redis::open(Config::new(server.url())).await.expect("starts");
    let pile = pile(1);
    let at = partition(&store, pile);
    let base = format!("pw:{{p{:02}}}:", at.0);
    let document = format!("{base}d:2{pile}b");
    let names = [format!("{base}i:3"), format!("{base}log"), format!("{base}o:{pile}"), document];
    for (n, name) in (1..).zip(names) {
        let mut writes = batch(n, 1);
        writes.put = vec![put(pile, "a", "x"), indexed(pile, "b", &[(IndexName::OrderTime, "1")])];
        writes.append = vec![append(pile, "event")];
        let _: u64 = server.cli(&["SADD", &name, "not ours"]);
        let refused = store.commit(at, writes.clone()).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{name}: {refused:?}");
        assert_eq!(store.health(), Ok(()), "{name}: it is not the server's fault");
        let all: Vec<String> = server.cli(&["KEYS", &format!("{base}*")]);
        assert_eq!(all, std::slice::from_ref(&name), "nothing else was written");
        let _: u64 = server.cli(&["DEL", &name]);
    }

    let owned = [format!("{base}runs"), format!("{base}r:{:016x}", 7), format!("{base}d:1{pile}")];
    for name in owned {
        let _: u64 = server.cli(&["HSET", &name, "not", "ours"]);
        let refused = store.claim(claim(pile, 1, 1)).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{name}: {refused:?}");
        assert_eq!(store.owner(pile).await, Ok(None));
        let _: u64 = server.cli(&["DEL", &name]);
    }

    let _: u64 = server.cli(&["SADD", &format!("{base}i:3"), "not ours"]);
    let settlement = settlement(pile);
    let refused = store.settle(settlement.clone()).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    assert_eq!(store.get(settlement.record).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_appends_another_hears_even_if_it_was_not_told() {
    let server = servers::Redis::start();
    let open = || Redis::open(Config::new(server.url()));
    let (here, there) = (open().await.expect("starts"), open().await.expect("starts"));
    let mut feed = there.feed();
    append_one(&here, pile(1), 1).await.expect("commits");
    let first = timeout(PATIENCE, feed.recv()).await.expect("in time").expect("an entry");
    assert_eq!((first.pile, first.offset), (pile(1), 1));

    // In order, whoever appends.
    for n in 2..50 {
        let by = if n % 2 == 0 { &here } else { &there };
        append_one(by, pile(1), n).await.expect("commits");
    }
    for offset in 2..50 {
        let entry = timeout(PATIENCE, feed.recv()).await.expect("in time").expect("an entry");
        assert_eq!((entry.offset, entry.seq), (offset, offset));
    }

    // Cut off from what is published; it comes back by itself.
    let killed: u64 = server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert_eq!(killed, 1);
    append_one(&here, pile(2), 1).await.expect("commits");
    let entry = timeout(PATIENCE, feed.recv()).await.expect("in time").expect("an entry");
    assert_eq!(entry.pile, pile(2));
    // Published to nobody's ear: only the look at the end of the log finds it.
    let base = format!("pw:{{p{:02}}}:", partition(&here, pile(3)).0);
    let payload = ["pile", &pile(3).to_string(), "epoch", "0", "seq", "1", "payload", "x"].map(str::to_owned);
    let log = format!("{base}log");
    let end = here.log_end(partition(&here, pile(3))).await.expect("reads");
    let id = format!("{}-0", end + 1);
    let command: Vec<&str> = ["XADD", &log, &id].into_iter().chain(payload.iter().map(String::as_str)).collect();
    let _: String = server.cli(&command);
    let entry = timeout(PATIENCE, feed.recv()).await.expect("in time").expect("an entry");
    assert_eq!((entry.pile, entry.offset), (pile(3), end + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_when_a_log_has_lost_its_end() {
    let server = servers::Redis::start();
    let open = || Redis::open(Config::new(server.url()));
    let ledger = Ledger::new(Arc::new(open().await.expect("starts")));
    let other = Ledger::new(Arc::new(open().await.expect("starts")));
    let mut watch = other.watch().await.expect("watches");
    let create = async |n: u64| {
        let order: Order = order(pile(1), n, NOW);
        let documents = vec![(of(&order), Expect::Absent)];
        let events = vec![event(&order, Change::Created)];
        ledger.write(Write { events, ..write(pile(1), n, documents) }).await.expect("writes");
        order.serial
    };
    for n in 1..=10 {
        create(n).await;
        let told = timeout(PATIENCE, watch.next()).await.expect("in time").expect("an event");
        assert!(matches!(told, Seen::Event(event) if event.offset == n));
    }
    let base = format!("pw:{{p{:02}}}:", Partition::of(pile(1), 64).0);
    let _: u64 = server.cli(&["DEL", &format!("{base}log")]);
    // It is told that something is missing, whether the log is as long again by then or not.
    let limit = Instant::now() + PATIENCE;
    for n in 11.. {
        create(n).await;
        if let Ok(told) = timeout(Duration::from_secs(1), watch.next()).await {
            let Seen::Gap(gap) = told.expect("reads") else { panic!("an event after a loss, without a word about it") };
            assert_eq!((gap.reason, gap.from, gap.to), (GapReason::Lost, 1, 10));
            // All that is there now is new, and none of it is missing.
            for seq in 11..=n {
                let told = timeout(PATIENCE, watch.next()).await.expect("in time").expect("an event");
                assert!(matches!(&told, Seen::Event(event) if event.seq == seq), "{seq}: {told:?}");
            }
            return;
        }
        assert!(Instant::now() < limit, "it says nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_that_own_nothing_any_more_leave_nothing_to_look_through() {
    let server = servers::Redis::start();
    let store = Redis::open(Config::new(server.url())).await.expect("starts");
    let at = partition(&store, pile(1));
    let runs = format!("pw:{{p{:02}}}:runs", at.0);
    let known = || server.cli::<Vec<String>>(&["ZRANGE", &runs, "0", "-1"]);
    let login = |incarnation| pileway::store::Claim {
        session: pileway::domain::SessionId { incarnation, counter: 1 },
        ..claim(pile(1), 1, 1)
    };
    store.claim(login(1)).await.expect("claims");
    assert_eq!(known(), [format!("{:016x}", 1)]);
    let taken = store.claim(login(2)).await.expect("claims").fence;
    assert_eq!(known(), [format!("{:016x}", 2)]);
    assert_eq!(store.release(pile(1), taken).await, Ok(true));
    assert_eq!(known(), [""; 0]);
}

fn order_of(pile: PileCode, id: &str) -> pileway::store::Put {
    indexed(pile, id, &[(IndexName::OrderOpen, &format!("{pile}001{id}"))])
}

fn settlement(pile: PileCode) -> Settlement {
    let of = crate::contract::settlement(1, 1, pileway::store::Precondition::Absent(key(pile, "serial")));
    assert_eq!(of.record.pile(), Some(pile));
    let order = indexed(pile, "serial", &[(IndexName::OrderTime, "1")]);
    Settlement { order, ..of }
}

fn difference(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let more = |(name, count): (&String, &u64)| {
        let more = count - before.get(name).copied().unwrap_or(0);
        (more > 0).then(|| (name.clone(), more))
    };
    after.iter().filter_map(more).collect()
}
