//! What every store promises, in bytes.

use std::sync::Arc;

use futures_util::future::join_all;
use pileway::domain::Epoch;
use pileway::store::{
    Batch, Claimed, IndexName, Key, Kind, Precondition, Put, Scan, Settled, Settlement, Store, StoreError, Versioned,
};
use tokio::sync::broadcast::error::TryRecvError;

use crate::common::{after, append, batch, claim, fence, found, indexed, key, partition, pile, put, scan, session};

type Any = Arc<dyn Store>;

pub async fn a_batch_is_all_or_nothing(store: Any) {
    let pile = pile(1);
    let at = partition(&*store, pile);
    let mut good = batch(1, 1);
    good.put = vec![put(pile, "a", "1"), put(pile, "b", "1")];
    good.append = vec![append(pile, "e1"), append(pile, "e2")];
    let committed = store.commit(at, good).await.expect("commits");
    assert_eq!((committed.versions, committed.offsets), (vec![1, 1], vec![1, 2]));

    let mut bad = batch(1, 2);
    bad.put = vec![put(pile, "a", "2"), put(pile, "c", "2")];
    bad.delete = vec![key(pile, "b")];
    bad.append = vec![append(pile, "e3")];
    bad.require = vec![Precondition::Version(key(pile, "a"), 1), Precondition::Absent(key(pile, "b"))];
    let refused = store.commit(at, bad.clone()).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    let value = |id| store.get(key(pile, id));
    assert_eq!(value("a").await.expect("reads").expect("is there").value, "1");
    assert!(value("b").await.expect("reads").is_some());
    assert!(value("c").await.expect("reads").is_none());
    assert_eq!(store.log_end(at).await, Ok(2));

    bad.require = vec![Precondition::Version(key(pile, "b"), 1)];
    store.commit(at, bad).await.expect("commits");
    assert_eq!(value("a").await.expect("reads").expect("is there").value, "2");
    assert!(value("b").await.expect("reads").is_none());
    assert!(value("c").await.expect("reads").is_some());
    assert_eq!(store.log_end(at).await, Ok(3));
}

pub async fn preconditions_tell_what_is_there_instead(store: Any) {
    let pile = pile(1);
    let at = partition(&*store, pile);
    let mut first = batch(1, 1);
    first.put = vec![put(pile, "a", "here")];
    store.commit(at, first).await.expect("commits");

    let here = Some(Versioned { version: 1, value: "here".into() });
    let cases = [
        (Precondition::Absent(key(pile, "a")), here.clone()),
        (Precondition::Version(key(pile, "a"), 2), here),
        (Precondition::Version(key(pile, "none"), 1), None),
        (Precondition::Owner(pile, fence(1, 1)), None),
    ];
    for (n, (failed, current)) in (2..).zip(cases) {
        let mut batch = batch(1, n);
        // The first that fails is the one reported.
        batch.require = vec![failed.clone(), Precondition::Absent(key(pile, "a"))];
        let refused = store.commit(at, batch).await;
        assert_eq!(refused, Err(StoreError::Conflict { failed: Box::new(failed), current }));
    }
}

pub async fn versions_count_puts(store: Any) {
    let pile = pile(1);
    for version in 1..=3 {
        let mut batch = batch(1, version);
        batch.put = vec![put(pile, "a", "x")];
        let committed = store.commit(partition(&*store, pile), batch).await.expect("commits");
        assert_eq!(committed.versions, [version]);
        assert_eq!(store.get(key(pile, "a")).await.expect("reads").expect("is there").version, version);
    }
}

pub async fn a_fence_holds_only_for_the_exact_owner(store: Any) {
    let pile = pile(1);
    let old = store.claim(claim(pile, 1, 1000)).await.expect("claims").fence;
    let new = store.claim(claim(pile, 2, 1000)).await.expect("claims").fence;
    for (n, (fence, holds)) in
        [(old, false), (fence(2, 1000), false), (fence(1, new.epoch.0), false), (new, true)].into_iter().enumerate()
    {
        let mut batch = batch(9, n as u64);
        batch.require = vec![Precondition::Owner(pile, fence)];
        batch.put = vec![put(pile, "a", "x")];
        assert_eq!(store.commit(partition(&*store, pile), batch).await.is_ok(), holds, "{fence:?}");
    }
}

pub async fn the_same_batch_again_returns_the_stored_result(store: Any) {
    let pile = pile(1);
    let at = partition(&*store, pile);
    let mut first = batch(1, 5);
    first.require = vec![Precondition::Absent(key(pile, "a"))];
    first.put = vec![put(pile, "a", "x")];
    first.append = vec![append(pile, "e")];
    let result = store.commit(at, first.clone()).await.expect("commits");
    assert_eq!(store.commit(at, first.clone()).await, Ok(result), "although its precondition fails by now");
    assert_eq!(store.log_end(at).await, Ok(1), "and nothing is appended twice");

    let mut other = first.clone();
    other.put = vec![put(pile, "a", "something else")];
    let refused = store.commit(at, other).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "the same id with other contents: {refused:?}");

    let mut next = batch(1, 6);
    next.put = vec![put(pile, "a", "y")];
    store.commit(at, next).await.expect("commits");
    let refused = store.commit(at, first).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "a session that has moved on: {refused:?}");

    let mut unnamed = batch(1, 0);
    unnamed.id = None;
    unnamed.append = vec![append(pile, "e")];
    store.commit(at, unnamed.clone()).await.expect("commits");
    store.commit(at, unnamed).await.expect("commits again");
    assert_eq!(store.log_end(at).await, Ok(3));
}

pub async fn a_refused_batch_leaves_no_trace_of_its_id(store: Any) {
    let pile = pile(1);
    let at = partition(&*store, pile);
    let mut refused = batch(1, 1);
    refused.require = vec![Precondition::Version(key(pile, "a"), 1)];
    store.commit(at, refused).await.expect_err("nothing is there");
    let mut merged = batch(1, 1);
    merged.put = vec![put(pile, "a", "x")];
    store.commit(at, merged).await.expect("the id is still free");
}

pub async fn a_claim_takes_the_pile_and_names_the_previous_owner(store: Any) {
    let pile = pile(1);
    assert_eq!(store.owner(pile).await, Ok(None));
    let first = store.claim(claim(pile, 1, 1000)).await.expect("claims");
    assert_eq!(first, Claimed { fence: fence(1, 1000), previous: None, pile: None, open_orders: vec![] });
    let second = store.claim(claim(pile, 2, 5000)).await.expect("claims");
    assert_eq!((second.fence, second.previous), (fence(2, 5000), Some(fence(1, 1000))));
    assert_eq!(store.owner(pile).await, Ok(Some(fence(2, 5000))));
}

pub async fn the_same_session_claiming_again_gets_the_same_answer(store: Any) {
    let pile = pile(1);
    store.claim(claim(pile, 1, 1000)).await.expect("claims");
    let first = store.claim(claim(pile, 2, 2000)).await.expect("claims");
    assert_eq!(store.claim(claim(pile, 2, 9000)).await, Ok(first));
}

pub async fn epochs_never_go_back(store: Any) {
    let pile = pile(1);
    let first = store.claim(claim(pile, 1, 1000)).await.expect("claims");
    let slow_clock = store.claim(claim(pile, 2, 10)).await.expect("claims");
    assert_eq!(slow_clock.fence.epoch, Epoch(1001));
    assert!(store.release(pile, slow_clock.fence).await.expect("releases"));
    let after_release = store.claim(claim(pile, 3, 10)).await.expect("claims");
    assert_eq!((after_release.fence.epoch, after_release.previous), (Epoch(1002), None));
    assert_ne!(after_release.fence, first.fence);
}

pub async fn a_claim_brings_the_open_orders(store: Any) {
    let (ours, other) = (pile(1), pile(2));
    let open = |pile, id: &str| indexed(pile, id, &[(IndexName::OrderOpen, &format!("{pile}001{id}"))]);
    let mut writes = batch(1, 1);
    writes.put = vec![open(ours, "b"), open(ours, "a"), put(ours, "closed", "x")];
    let document = Put { key: Key::of_pile(Kind::Pile, ours, vec![]), ..put(ours, "", "the pile") };
    writes.put.push(document);
    store.commit(partition(&*store, ours), writes).await.expect("commits");
    let mut writes = batch(2, 1);
    writes.put = vec![open(other, "c")];
    store.commit(partition(&*store, other), writes).await.expect("commits");

    let claimed = store.claim(claim(ours, 1, 1)).await.expect("claims");
    assert_eq!(claimed.pile.expect("is there").value, "the pile");
    let ids: Vec<_> = claimed.open_orders.iter().map(|(key, stored)| (&*key.id, &*stored.value)).collect();
    assert_eq!(ids, [(&b"a"[..], &b"a"[..]), (b"b", b"b")]);
}

pub async fn a_login_stays_cheap_with_many_open_orders(store: Any) {
    let pile = pile(1);
    for n in 0..Claimed::MAX_OPEN_ORDERS + 10 {
        let mut batch = batch(1, n as u64);
        let sort = format!("{pile}001{n:04}");
        batch.put = vec![indexed(pile, &format!("{n:04}"), &[(IndexName::OrderOpen, &sort)])];
        store.commit(partition(&*store, pile), batch).await.expect("commits");
    }
    let open = store.claim(claim(pile, 1, 1)).await.expect("claims").open_orders;
    assert_eq!(open.len(), Claimed::MAX_OPEN_ORDERS);
    assert_eq!((&*open[0].0.id, &*open[255].0.id), (&b"0010"[..], &b"0265"[..]), "the highest, in order");
}

pub async fn only_the_exact_owner_releases(store: Any) {
    let pile = pile(1);
    let old = store.claim(claim(pile, 1, 1000)).await.expect("claims").fence;
    let new = store.claim(claim(pile, 2, 1000)).await.expect("claims").fence;
    for stale in [old, fence(2, 1000), fence(1, 1001)] {
        assert_eq!(store.release(pile, stale).await, Ok(false));
    }
    assert_eq!(store.owner(pile).await, Ok(Some(new)));
    assert_eq!(store.release(pile, new).await, Ok(true));
    assert_eq!(store.release(pile, new).await, Ok(false));
    assert_eq!(store.owner(pile).await, Ok(None));
}

pub fn settlement(n: u64, digest: u8, order_is: Precondition) -> Settlement {
    let pile = pile(n);
    let record = |kind, id: &[u8]| Key::of_pile(kind, pile, id.to_vec());
    let text = format!("record {digest}");
    Settlement {
        record: record(Kind::Record, b"serial"),
        digest: [digest; 32],
        value: text.clone().into(),
        due: ["5".to_owned(), "8".to_owned()],
        order: put(pile, "serial", &format!("settled by {digest}")),
        order_is,
        events: vec![append(pile, "settled")],
        conflict: Put {
            key: record(Kind::RecordConflict, &[b"serial", &[digest; 32][..]].concat()),
            value: text.into(),
            indexes: vec![],
        },
        conflict_event: append(pile, "conflict"),
    }
}

pub async fn a_record_settles_once(store: Any) {
    let pile = pile(1);
    let once = settlement(1, 1, Precondition::Absent(key(pile, "serial")));
    assert_eq!(store.settle(once.clone()).await, Ok(Settled::First));
    assert_eq!(store.settle(once.clone()).await, Ok(Settled::Again), "whatever the order is by now");
    assert_eq!(store.get(once.record).await.expect("reads").expect("is there").value, "record 1");
    assert_eq!(store.get(key(pile, "serial")).await.expect("reads").expect("is there").version, 1);
    assert_eq!(store.log_end(partition(&*store, pile)).await, Ok(1));
}

pub async fn a_conflicting_record_is_kept_once(store: Any) {
    let pile = pile(1);
    let absent = Precondition::Absent(key(pile, "serial"));
    store.settle(settlement(1, 1, absent.clone())).await.expect("settles");
    for (digest, first) in [(2, true), (2, false), (3, true), (3, false), (2, false)] {
        let other = settlement(1, digest, absent.clone());
        assert_eq!(store.settle(other.clone()).await, Ok(Settled::Conflict { first }));
        let kept = store.get(other.conflict.key).await.expect("reads").expect("is there");
        assert_eq!((kept.version, &*kept.value), (1, format!("record {digest}").as_bytes()));
    }
    assert_eq!(store.get(key(pile, "serial")).await.expect("reads").expect("is there").value, "settled by 1");
    let log = store.read_log(partition(&*store, pile), 0, 10).await.expect("reads");
    let log: Vec<_> = log.iter().map(|entry| &*entry.payload).collect();
    assert_eq!(log, [&b"settled"[..], b"conflict", b"conflict"]);
}

pub async fn a_settlement_needs_no_owner_but_the_right_order(store: Any) {
    let pile = pile(1);
    store.claim(claim(pile, 1, 1)).await.expect("somebody owns the pile");
    let mut order = batch(1, 1);
    order.put = vec![put(pile, "serial", "charging")];
    store.commit(partition(&*store, pile), order).await.expect("commits");

    let absent = Precondition::Absent(key(pile, "serial"));
    let refused = store.settle(settlement(1, 1, absent.clone())).await;
    let current = Some(Versioned { version: 1, value: "charging".into() });
    assert_eq!(refused, Err(StoreError::Conflict { failed: Box::new(absent), current }));
    let record = settlement(1, 1, Precondition::Absent(key(pile, "x"))).record;
    assert_eq!(store.get(record).await, Ok(None), "a refused settlement leaves no record");

    let right = Precondition::Version(key(pile, "serial"), 1);
    assert_eq!(store.settle(settlement(1, 1, right)).await, Ok(Settled::First));
}

pub async fn a_stale_order_write_cannot_undo_a_settlement(store: Any) {
    let pile = pile(1);
    let mut order = batch(1, 1);
    order.put = vec![put(pile, "serial", "charging")];
    store.commit(partition(&*store, pile), order).await.expect("commits");
    store.settle(settlement(1, 1, Precondition::Version(key(pile, "serial"), 1))).await.expect("settles");

    let mut stale = batch(1, 2);
    stale.require = vec![Precondition::Version(key(pile, "serial"), 1)];
    stale.put = vec![put(pile, "serial", "stopping")];
    store.commit(partition(&*store, pile), stale).await.expect_err("the order has moved on");
    assert_eq!(store.get(key(pile, "serial")).await.expect("reads").expect("is there").value, "settled by 1");
}

pub async fn a_put_replaces_all_index_entries(store: Any) {
    use IndexName::{OrderState, OrderTime};
    let pile = pile(1);
    let write = async |n, indexes: &[(IndexName, &str)]| {
        let mut batch = batch(1, n);
        batch.put = vec![indexed(pile, "a", indexes)];
        store.commit(partition(&*store, pile), batch).await.expect("commits");
        let found = async |index| found(&*store, pile, scan(index, "")).await.len();
        [found(OrderTime).await, found(OrderState).await]
    };
    assert_eq!(write(1, &[(OrderTime, "1"), (OrderState, "open")]).await, [1, 1]);
    assert_eq!(write(2, &[(OrderTime, "1"), (OrderState, "closed")]).await, [1, 1]);
    assert_eq!(found(&*store, pile, scan(OrderState, "open")).await, [""; 0]);
    assert_eq!(write(3, &[(OrderTime, "1"), (OrderTime, "2"), (OrderTime, "2")]).await, [2, 0]);

    let mut delete = batch(1, 4);
    delete.delete = vec![key(pile, "a"), key(pile, "never there")];
    store.commit(partition(&*store, pile), delete).await.expect("commits");
    assert_eq!(found(&*store, pile, scan(OrderTime, "")).await, [""; 0]);
}

pub async fn scans_have_bounds_and_directions(store: Any) {
    let pile = pile(1);
    let mut batch = batch(1, 1);
    // id = sort, but for the two that share a sort string and are told apart by key.
    batch.put = ["a", "a1", "a2", "a3", "b1"].map(|s| indexed(pile, s, &[(IndexName::OrderTime, s)])).to_vec();
    batch.put.push(indexed(pile, "a2+", &[(IndexName::OrderTime, "a2")]));
    batch.put.push(indexed(pile, "other", &[(IndexName::OrderState, "a2")]));
    store.commit(partition(&*store, pile), batch).await.expect("commits");

    let all = scan(IndexName::OrderTime, "");
    let check = async |scan: Scan, expected: &[&str]| {
        assert_eq!(found(&*store, pile, scan.clone()).await, expected, "{scan:?}");
        // Backwards it is the same, unless something depends on the direction.
        if scan.after.is_none() && scan.limit > 10 && !scan.descending {
            let mut reversed = expected.to_vec();
            reversed.reverse();
            assert_eq!(found(&*store, pile, Scan { descending: true, ..scan }).await, reversed);
        }
    };
    let text = str::to_owned;
    check(all.clone(), &["a", "a1", "a2", "a2+", "a3", "b1"]).await;
    check(scan(IndexName::OrderTime, "a"), &["a", "a1", "a2", "a2+", "a3"]).await;
    check(scan(IndexName::OrderTime, "c"), &[]).await;
    check(Scan { from: text("a2"), ..all.clone() }, &["a2", "a2+", "a3", "b1"]).await;
    check(Scan { to: text("a2"), ..all.clone() }, &["a", "a1", "a2", "a2+"]).await;
    check(Scan { from: text("a1"), to: text("a2"), prefix: text("a"), ..all.clone() }, &["a1", "a2", "a2+"]).await;
    check(Scan { from: text("a9"), to: text("a0"), ..all.clone() }, &[]).await;
    check(Scan { limit: 2, ..all.clone() }, &["a", "a1"]).await;
    check(Scan { limit: 0, ..all.clone() }, &[]).await;
    check(Scan { limit: 2, descending: true, ..all.clone() }, &["b1", "a3"]).await;
    check(Scan { after: Some(after(pile, "a2", "a2")), ..all.clone() }, &["a2+", "a3", "b1"]).await;
    check(Scan { after: Some(after(pile, "a2", "a2+")), descending: true, ..all.clone() }, &["a2", "a1", "a"]).await;
    check(Scan { after: Some(after(pile, "a2", "gone")), ..all.clone() }, &["a3", "b1"]).await;
    check(Scan { after: Some(after(pile, "z", "")), ..all.clone() }, &[]).await;
    check(Scan { after: Some(after(pile, "a1", "a1")), from: text("a3"), ..all }, &["a3", "b1"]).await;
}

pub async fn the_log_has_no_gaps(store: Any) {
    let piles = [pile(1), pile(2), pile(3)];
    let owner = store.claim(claim(piles[0], 1, 1000)).await.expect("claims");
    for n in 0..10 {
        for (writer, pile) in piles.into_iter().enumerate() {
            let mut batch = batch(writer as u64, n);
            batch.append = vec![append(pile, "one"), append(pile, "two")];
            store.commit(partition(&*store, pile), batch.clone()).await.expect("commits");
            batch.id = None;
            batch.require = vec![Precondition::Version(key(pile, "none"), 1)];
            store.commit(partition(&*store, pile), batch).await.expect_err("refused: uses up no number");
        }
    }
    for pile in piles {
        let at = partition(&*store, pile);
        let log = store.read_log(at, 0, 1000).await.expect("reads");
        assert!(log.iter().zip(1..).all(|(entry, offset)| entry.offset == offset && entry.partition == at));
        assert_eq!(store.log_end(at).await, Ok(log.len() as u64));
        let ours: Vec<_> = log.iter().filter(|entry| entry.pile == pile).collect();
        assert_eq!(ours.iter().map(|entry| entry.seq).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
        let epoch = if pile == piles[0] { owner.fence.epoch } else { Epoch(0) };
        assert!(ours.iter().all(|entry| entry.epoch == epoch), "epoch 0 is that of a pile nobody ever owned");
        let tail = store.read_log(at, 5, 3).await.expect("reads");
        assert_eq!(tail.iter().map(|entry| entry.offset).collect::<Vec<_>>(), [6, 7, 8]);
    }
}

pub async fn a_slow_reader_of_the_feed_loses_nothing(store: Any) {
    let pile = pile(1);
    let at = partition(&*store, pile);
    let mut feed = store.feed();
    for n in 0..50 {
        let mut batch = batch(1, n);
        batch.append = (0..100).map(|_| append(pile, "e")).collect();
        store.commit(at, batch).await.expect("commits");
    }
    let mut seen = 0;
    loop {
        match feed.try_recv() {
            Ok(entry) if entry.offset == seen + 1 => seen = entry.offset,
            Ok(entry) => assert!(entry.offset <= seen, "a gap without a word"),
            Err(TryRecvError::Lagged(_)) => loop {
                let log = store.read_log(at, seen, 100).await.expect("reads");
                let Some(last) = log.last() else { break };
                assert_eq!(log[0].offset, seen + 1);
                seen = last.offset;
            },
            Err(_) => break,
        }
    }
    assert_eq!(seen, 5000);
}

pub async fn the_feed_tells_only_what_is_durable(store: Any) {
    let pile = pile(1);
    let mut feed = store.feed();
    let mut good = batch(1, 1);
    good.append = vec![append(pile, "good")];
    let mut bad = batch(2, 1);
    bad.require = vec![Precondition::Version(key(pile, "none"), 1)];
    bad.append = vec![append(pile, "bad")];
    store.commit(partition(&*store, pile), bad).await.expect_err("refused");
    store.commit(partition(&*store, pile), good).await.expect("commits");
    let entry = feed.try_recv().expect("who has the answer finds the event");
    assert_eq!((&*entry.payload, entry.offset, entry.seq), (&b"good"[..], 1, 1));
    assert!(matches!(feed.try_recv(), Err(TryRecvError::Empty)));
}

pub async fn expiry_takes_what_is_due_and_no_more(store: Any) {
    let pile = pile(1);
    let at = partition(&*store, pile);
    let mut writes = batch(1, 1);
    for due in ["1", "2", "3", "4"] {
        writes.put.push(indexed(pile, due, &[(IndexName::Expiry, due), (IndexName::OrderTime, due)]));
    }
    writes.put.push(put(pile, "forever", "x"));
    store.commit(at, writes).await.expect("commits");
    let expire = async |before: &str, limit| store.expire(at, before.to_owned(), limit).await.expect("expires");
    assert_eq!(expire("1", 10).await, 0, "what is due at this very moment stays");
    assert_eq!(expire("4", 2).await, 2);
    assert_eq!(found(&*store, pile, scan(IndexName::OrderTime, "")).await, ["3", "4"]);
    assert_eq!(expire("4", 2).await, 1);
    assert_eq!(expire("4", 2).await, 0);
    assert_eq!(store.get(key(pile, "1")).await, Ok(None));
    assert!(store.get(key(pile, "forever")).await.expect("reads").is_some());
}

pub async fn a_record_that_is_due_shrinks_to_what_tells_a_copy_and_goes_with_its_conflicts(store: Any) {
    let pile = pile(1);
    let at = partition(&*store, pile);
    let absent = Precondition::Absent(key(pile, "serial"));
    let once = settlement(1, 1, absent.clone());
    let (other, third) = (settlement(1, 2, absent.clone()), settlement(1, 3, absent.clone()));
    assert_eq!(store.settle(once.clone()).await, Ok(Settled::First));
    assert_eq!(store.settle(other.clone()).await, Ok(Settled::Conflict { first: true }));
    // The next pile's record, and the conflict beside it, are none of this one's business.
    let neighbour = (2..1000).find(|n| partition(&*store, crate::common::pile(*n)) == at).expect("some pile");
    let order_is = Precondition::Absent(key(crate::common::pile(neighbour), "serial"));
    let beside = settlement(neighbour, 2, order_is.clone());
    let late = ["6".to_owned(), "9".to_owned()];
    store.settle(Settlement { due: late, ..settlement(neighbour, 1, order_is) }).await.expect("settles");
    store.settle(beside.clone()).await.expect("is kept");

    let expire = async |before: &str| store.expire(at, before.to_owned(), 10).await.expect("expires");
    let value = async |key: Key| store.get(key).await.expect("reads").map(|stored| stored.value);
    assert_eq!(expire("5").await, 0);
    assert_eq!(expire("6").await, 1);
    assert_eq!(value(once.record.clone()).await, Some("".into()), "its bytes are gone");
    assert_eq!(value(other.conflict.key.clone()).await, Some("record 2".into()));
    assert_eq!(expire("6").await, 0, "it shrinks once");
    assert_eq!(store.settle(once.clone()).await, Ok(Settled::Again), "a copy is known");
    assert_eq!(store.settle(other.clone()).await, Ok(Settled::Conflict { first: false }));
    assert_eq!(store.settle(third.clone()).await, Ok(Settled::Conflict { first: true }), "and so is what is none");

    assert_eq!(expire("8").await, 1, "the neighbour's");
    assert_eq!(expire("9").await, 1);
    for gone in [once.record.clone(), other.conflict.key, third.conflict.key] {
        assert_eq!(store.get(gone).await, Ok(None));
    }
    assert_eq!(value(beside.conflict.key).await, Some("record 2".into()));
    let anew = settlement(1, 2, Precondition::Version(key(pile, "serial"), 1));
    assert_eq!(store.settle(anew).await, Ok(Settled::First), "nobody remembers");
    assert_eq!(expire("9").await, 2, "both times have passed: nothing is left of it");
    assert_eq!(store.get(once.record).await, Ok(None));
}

pub async fn bounds_are_refused(store: Any) {
    let pile = pile(1);
    let at = partition(&*store, pile);
    let check = async |what: &str, change: &dyn Fn(&mut Batch)| {
        let mut batch = batch(1, 1);
        change(&mut batch);
        let refused = store.commit(at, batch).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{what}: {refused:?}");
    };
    check("too many operations", &|b| b.append = vec![append(pile, ""); Batch::MAX_OPERATIONS + 1]).await;
    check("too many bytes", &|b| b.put = vec![put(pile, "a", &"x".repeat(Batch::MAX_BYTES + 1))]).await;
    let nine = [(IndexName::OrderTime, "x"); Put::MAX_INDEXES + 1];
    check("too many indexes", &|b| b.put = vec![indexed(pile, "a", &nine)]).await;
    check("NUL in a sort string", &|b| b.put = vec![indexed(pile, "a", &[(IndexName::Pile, "a\0b")])]).await;
    let long = "x".repeat(129);
    check("a long sort string", &|b| b.put = vec![indexed(pile, "a", &[(IndexName::Pile, &long)])]).await;
    check("a long id", &|b| b.delete = vec![key(pile, &"x".repeat(Key::MAX_ID + 1))]).await;
    check("a key twice", &|b| b.put = vec![put(pile, "a", "1"), put(pile, "a", "2")]).await;
    check("put and delete", &|b| (b.put, b.delete) = (vec![put(pile, "a", "1")], vec![key(pile, "a")])).await;
    let stray = (2..1000).map(crate::common::pile).find(|p| partition(&*store, *p) != at).expect("some pile");
    check("another partition", &|b| b.append = vec![append(stray, "")]).await;

    let mut full = batch(1, 1);
    full.append = vec![append(pile, ""); Batch::MAX_OPERATIONS - 1];
    full.put = vec![put(pile, "a", &"x".repeat(Batch::MAX_BYTES))];
    store.commit(at, full).await.expect("exactly at the bounds");
    let scan = Scan { limit: Scan::MAX_LIMIT + 1, ..scan(IndexName::Pile, "") };
    assert!(matches!(store.list(at, scan).await, Err(StoreError::Invalid(_))));
}

pub async fn concurrent_writers_each_get_their_own_answer(store: Any) {
    // A counter that many increment by compare-and-set: no increment is lost, and refused ones disturb nobody.
    let pile = pile(1);
    let at = partition(&*store, pile);
    let increment = async |writer: u64| {
        let mut tries = 0;
        for n in 0.. {
            let current = store.get(key(pile, "counter")).await.expect("reads");
            let mut batch = Batch::new(pileway::store::BatchId { session: session(writer), n });
            batch.require = vec![match &current {
                Some(stored) => Precondition::Version(key(pile, "counter"), stored.version),
                None => Precondition::Absent(key(pile, "counter")),
            }];
            batch.put = vec![put(pile, "counter", "x"), put(pile, &writer.to_string(), "mine")];
            batch.append = vec![append(pile, "incremented")];
            tries += 1;
            match store.commit(at, batch).await {
                Ok(committed) => return (committed.versions[0], tries),
                Err(StoreError::Conflict { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        unreachable!("endless")
    };
    let mut versions: Vec<_> = join_all((0..40).map(increment)).await.into_iter().map(|(version, _)| version).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=40).collect::<Vec<_>>());
    assert_eq!(store.log_end(at).await, Ok(40));
}
