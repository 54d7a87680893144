//! What the typed door adds: documents with a meaning.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use pileway::domain::event::OfflineReason;
use pileway::domain::order::{AnomalyKind, Change, Happening, Metered, Origin};
use pileway::domain::pile::{GunState, GunStatus, Identity, Presence, TariffOnPile};
use pileway::domain::record::RecordedPeriod;
use pileway::domain::tariff::{Period, PricePair};
use pileway::domain::{
    Amount, Energy, Event, EventKind, Fence, Gun, Order, OrderState, Pile, PileCode, Price, Record, RequestId, Serial,
    Tariff, WallMs,
};
use pileway::store::ledger::{Document, Expect, Ledger, Retention, StartAttempt, Write, WriteError};
use pileway::store::{BatchId, Claim, Settled, Store, document};
use pileway::store::{EventWatch, OrderQuery, PileQuery, QueryError, Seen};

use crate::common::{partition, pile, session};

type Any = Arc<dyn Store>;

pub const NOW: WallMs = WallMs(1_760_000_000_000);

pub async fn a_write_goes_together_and_returns_versions(store: Any) {
    let ledger = Ledger::new(store);
    let fence = ledger.claim(Claim::login(pile(1), session(1), NOW, 1)).await.expect("claims").fence;
    let order = order(pile(1), 1, NOW);
    let documents = vec![(a_pile(1, Presence::Online), Expect::Absent), (of(&order), Expect::Absent)];
    let events = vec![event(&order, Change::Created)];
    let first = Write { fence: Some(fence), events, ..write(pile(1), 1, documents) };
    assert_eq!(ledger.write(first.clone()).await, Ok(vec![1, 1]));
    assert_eq!(ledger.write(first).await, Ok(vec![1, 1]), "a retry");
    assert_eq!(ledger.order(pile(1), order.serial).await, Ok(Some((order, 1))));
    let stored = ledger.pile_versioned(pile(1)).await.expect("reads");
    assert_eq!(
        stored.map(|(pile, version)| (Document::Pile(Box::new(pile)), version)),
        Some((a_pile(1, Presence::Online), 1))
    );
    assert_eq!(ledger.owner(pile(1)).await, Ok(Some(fence)));

    let stray = write(pile(1), 2, vec![(a_pile(2, Presence::Online), Expect::Absent)]);
    assert!(matches!(ledger.write(stray).await, Err(WriteError::Store(_))), "a write is of one pile");
}

pub async fn a_write_with_attributes_again_returns_the_stored_result(store: Any) {
    let ledger = Ledger::new(store);
    let mut order = order(pile(1), 1, NOW);
    // So many that no map without an order of its own gives the same bytes twice.
    order.attributes = (0..16).map(|n| (format!("key {n}"), n.to_string())).collect();
    let events = vec![event(&order, Change::Created)];
    let first = Write { events, ..write(pile(1), 1, vec![(of(&order), Expect::Absent)]) };
    for _ in 0..4 {
        assert_eq!(ledger.write(first.clone()).await, Ok(vec![1]));
    }
}

pub async fn a_write_conflict_names_the_document_and_what_is_stored(store: Any) {
    let ledger = Ledger::new(store);
    let order = order(pile(1), 1, NOW);
    ledger.write(write(pile(1), 1, vec![(of(&order), Expect::Absent)])).await.expect("writes");

    let taken = vec![(a_pile(1, Presence::Online), Expect::Absent), (of(&order), Expect::Absent)];
    let conflict = ledger.write(write(pile(1), 2, taken)).await;
    assert_eq!(conflict, Err(WriteError::Conflict { at: 1, current: Some((of(&order), 1)) }));
    let gone = vec![(a_pile(1, Presence::Online), Expect::Version(3))];
    let conflict = ledger.write(write(pile(1), 2, gone)).await;
    assert_eq!(conflict, Err(WriteError::Conflict { at: 0, current: None }));
}

pub async fn a_write_of_a_session_that_is_over_is_fenced(store: Any) {
    let ledger = Ledger::new(store);
    let old = ledger.claim(Claim::login(pile(1), session(1), NOW, 1)).await.expect("claims").fence;
    ledger.claim(Claim::login(pile(1), session(2), NOW, 1)).await.expect("claims");
    // Fenced counts more than a conflict.
    let documents = vec![(a_pile(1, Presence::Online), Expect::Version(9))];
    let late = Write { fence: Some(old), ..write(pile(1), 1, documents) };
    assert_eq!(ledger.write(late).await, Err(WriteError::Fenced));
}

pub async fn a_login_brings_pile_and_open_orders(store: Any) {
    let ledger = Ledger::new(store);
    let (open, mut failed) = (order(pile(1), 1, NOW), order(pile(1), 2, NOW));
    failed.apply(NOW.plus_ms(90_000), Happening::Tick);
    assert_eq!(failed.state, OrderState::Failed);
    let documents = [a_pile(1, Presence::Offline), of(&open), of(&failed)].map(|d| (d, Expect::Absent)).to_vec();
    ledger.write(write(pile(1), 1, documents)).await.expect("writes");
    let login = ledger.claim(Claim::login(pile(1), session(1), NOW, 1)).await.expect("claims");
    assert_eq!(login.fence, Fence { session: session(1), epoch: pileway::domain::Epoch(NOW.0.unsigned_abs()) });
    assert_eq!(login.pile.map(|(pile, version)| (pile.presence, version)), Some((Presence::Offline, 1)));
    assert_eq!(login.open_orders, [(open, 1)]);
}

pub async fn a_record_settles_its_order(store: Any) {
    let ledger = Ledger::new(store.clone());
    let mut order = order(pile(1), 1, NOW);
    order.tariff = Some(tariff());
    ledger.write(write(pile(1), 1, vec![(of(&order), Expect::Absent)])).await.expect("writes");

    let record = record(&order, 1);
    let settled = ledger.settle(record.clone(), Some((order.clone(), 1)), NOW).await.expect("settles");
    let stored = ledger.order(pile(1), order.serial).await.expect("reads");
    assert_eq!((settled.outcome, settled.order.clone().zip(Some(settled.version))), (Settled::First, stored));
    let (bill, version) = (settled.order.expect("is there").bill.expect("has a bill"), settled.version);
    assert_eq!((bill.record, version), (record.clone(), 2));
    assert!(bill.fees.is_some(), "split with the order's tariff");
    assert_eq!(ledger.record(pile(1), order.serial).await, Ok(Some(record.clone())));

    let again = ledger.settle(record, Some((order, 1)), NOW).await.expect("settles again");
    assert_eq!((again.outcome, again.version), (Settled::Again, 2));
    assert_eq!(again.order.map(|o| o.state), Some(OrderState::Settled));
    assert_eq!(store.log_end(partition(&*store, pile(1))).await, Ok(1));
}

pub async fn a_record_of_an_unknown_serial_makes_an_adopted_order(store: Any) {
    let ledger = Ledger::new(store);
    let unknown = order(pile(1), 1, NOW);
    let settled = ledger.settle(record(&unknown, 1), None, NOW).await.expect("settles");
    let order = settled.order.expect("is there");
    assert_eq!((settled.outcome, settled.version), (Settled::First, 1));
    assert_eq!((order.origin, order.state), (Origin::Pile, OrderState::Settled));
}

pub async fn a_settlement_merges_with_what_was_written_meanwhile(store: Any) {
    let ledger = Ledger::new(store);
    let mut order = order(pile(1), 1, NOW);
    ledger.write(write(pile(1), 1, vec![(of(&order), Expect::Absent)])).await.expect("writes");
    // The session saw it charge and knows the tariff, but has stored neither.
    let mut ours = order.clone();
    let metered = Metered { at: NOW.plus_ms(5), energy: Energy(7), amount: Amount(9), soc_percent: 50 };
    ours.apply(NOW.plus_ms(5), Happening::Charging(metered));
    ours.tariff = Some(tariff());
    // Somebody else wrote the order meanwhile.
    "named by the caller".clone_into(&mut order.order_id);
    ledger.write(write(pile(1), 2, vec![(of(&order), Expect::Version(1))])).await.expect("writes");

    let settled = ledger.settle(record(&order, 1), Some((ours, 1)), NOW.plus_ms(10)).await.expect("settles");
    let order = settled.order.expect("is there");
    assert_eq!((settled.outcome, settled.version), (Settled::First, 3));
    assert_eq!((&*order.order_id, order.last), ("named by the caller", Some(metered)));
    assert_eq!(order.charging_at, Some(NOW.plus_ms(5)));
    assert!(order.bill.expect("has a bill").fees.is_some());
}

/// A version alone would allow it: the order was written once by its session, and once, anew, by the settlement of a record
/// that came to a node which did not know it.
pub async fn a_settled_order_is_not_unsettled_by_a_write_that_happens_to_know_its_version(store: Any) {
    let ledger = Ledger::new(store);
    let mut order = order(pile(1), 1, NOW);
    let settled = ledger.settle(record(&order, 1), None, NOW).await.expect("settles");
    assert_eq!((settled.outcome, settled.version), (Settled::First, 1));
    order.apply(NOW.plus_ms(5), Happening::Accepted);
    let late = ledger.write(write(pile(1), 1, vec![(of(&order), Expect::Version(1))])).await;
    let stored = ledger.order(pile(1), order.serial).await.expect("reads").expect("is there");
    assert_eq!(stored.0.state, OrderState::Settled);
    assert_eq!(late, Err(WriteError::Conflict { at: 0, current: Some((of(&stored.0), stored.1)) }));
}

pub async fn a_conflicting_record_is_kept_and_flagged_once(store: Any) {
    let ledger = Ledger::new(store.clone());
    let order = order(pile(1), 1, NOW);
    let (settling, other) = (record(&order, 1), record(&order, 2));
    ledger.settle(settling.clone(), None, NOW).await.expect("settles");
    for first in [true, false, false] {
        let conflict = ledger.settle(other.clone(), None, NOW).await.expect("settles");
        assert_eq!(conflict.outcome, Settled::Conflict { first });
        let order = conflict.order.expect("is there");
        assert_eq!(order.bill.expect("has a bill").record, settling, "the first record stays the bill");
        let kinds: Vec<_> = order.anomalies.iter().map(|a| a.kind).collect();
        assert_eq!(kinds, [AnomalyKind::UnknownSerial, AnomalyKind::RecordConflict]);
    }
    let key = document::record_conflict_key(pile(1), order.serial, document::record_digest(&other));
    let kept = store.get(key.clone()).await.expect("reads").expect("is kept");
    assert_eq!(document::read_record(&key, &kept.value), Ok(other));
    assert_eq!(store.log_end(partition(&*store, pile(1))).await, Ok(3), "settled, conflict, flagged");
}

pub async fn a_record_that_differs_each_time_does_not_fill_the_store(store: Any) {
    let ledger = Ledger::new(store.clone());
    let (order, neighbour) = (order(pile(1), 1, NOW), order(pile(1), 2, NOW));
    ledger.settle(record(&order, 0), None, NOW).await.expect("settles");
    for variant in 1..=40 {
        let record = record(&order, variant);
        let conflict = ledger.settle(record.clone(), None, NOW).await.expect("settles");
        let kept = variant <= 16;
        assert_eq!(conflict.outcome, Settled::Conflict { first: kept }, "{variant}");
        let key = document::record_conflict_key(pile(1), order.serial, document::record_digest(&record));
        assert_eq!(store.get(key).await.expect("reads").is_some(), kept, "{variant}");
    }
    assert_eq!(store.log_end(partition(&*store, pile(1))).await, Ok(18), "settled, 16 conflicts, flagged");
    // Each order has its own.
    for (variant, outcome) in [(0, Settled::First), (1, Settled::Conflict { first: true })] {
        let settled = ledger.settle(record(&neighbour, variant), None, NOW).await.expect("settles");
        assert_eq!(settled.outcome, outcome);
    }
}

pub async fn many_copies_at_once_settle_once(store: Any) {
    let ledger = Ledger::new(store.clone());
    let order = order(pile(1), 1, NOW);
    let settle = || ledger.settle(record(&order, 1), None, NOW);
    let outcomes = join_all((0..30).map(|_| settle())).await;
    let outcomes = outcomes.into_iter().map(|settled| settled.expect("settles").outcome);
    let first = outcomes.filter(|outcome| *outcome == Settled::First).count();
    assert_eq!((first, store.log_end(partition(&*store, pile(1))).await), (1, Ok(1)));
}

pub async fn a_start_attempt_is_found_by_its_request(store: Any) {
    let ledger = Ledger::new(store);
    let id = RequestId::from_bytes([7; 16]);
    let order = order(pile(1), 1, NOW);
    let attempt = StartAttempt { pile: pile(1), id, arguments: 99, serial: order.serial, created_at: NOW };
    assert_eq!(ledger.start_attempt(pile(1), id).await, Ok(None));
    let documents = vec![(Document::StartAttempt(attempt), Expect::Absent), (of(&order), Expect::Absent)];
    ledger.write(write(pile(1), 1, documents.clone())).await.expect("writes");
    assert_eq!(ledger.start_attempt(pile(1), id).await, Ok(Some(attempt)));
    let twice = ledger.write(write(pile(1), 2, documents)).await;
    let current = Some((Document::StartAttempt(attempt), 1));
    assert_eq!(twice, Err(WriteError::Conflict { at: 0, current }));

    let day = 24 * 3600 * 1000;
    assert_eq!(ledger.expire(NOW.plus_ms(day)).await, Ok(0));
    assert_eq!(ledger.expire(NOW.plus_ms(day + 1)).await, Ok(1));
    assert_eq!(ledger.start_attempt(pile(1), id).await, Ok(None));
}

pub async fn piles_are_listed_by_code_over_all_partitions(store: Any) {
    let ledger = Ledger::new(store);
    let presence = |n: u64| if n.is_multiple_of(3) { Presence::Offline } else { Presence::Online };
    for n in (1..=200).rev() {
        ledger.write(write(pile(n), 201 - n, vec![(a_pile(n, presence(n)), Expect::Absent)])).await.expect("writes");
    }
    for (wanted, page_size) in [(None, 7), (None, 0), (None, 5000), (Some(Presence::Offline), 10)] {
        let mut listed = vec![];
        let mut query = PileQuery { presence: wanted, page_size, page_token: String::new() };
        loop {
            let page = ledger.piles(query.clone()).await.expect("lists");
            listed.extend(page.items.into_iter().map(|pile| pile.code));
            if page.next_page_token.is_empty() {
                break;
            }
            query.page_token = page.next_page_token;
        }
        let expected: Vec<_> = (1..=200).filter(|n| wanted.is_none_or(|w| w == presence(*n))).map(pile).collect();
        assert_eq!(listed, expected);
    }
}

pub async fn orders_are_listed_newest_first(store: Any) {
    let ledger = Ledger::new(store);
    for n in 1..=120 {
        let mut order = order(pile(n % 5), n, NOW.plus_ms(n));
        if n % 2 == 0 {
            order.apply(order.created_at.plus_ms(1), Happening::Accepted);
        }
        ledger.write(write(pile(n % 5), n, vec![(of(&order), Expect::Absent)])).await.expect("writes");
    }
    let check = async |query: OrderQuery, expected: &dyn Fn(u64) -> bool| {
        let mut query = OrderQuery { page_size: 7, ..query };
        let mut listed = vec![];
        loop {
            let page = ledger.orders(query.clone()).await.expect("lists");
            listed.extend(page.items.into_iter().map(|order| order.created_at.since(NOW)));
            if page.next_page_token.is_empty() {
                break;
            }
            query.page_token = page.next_page_token;
        }
        assert_eq!(listed, (1..=120).rev().filter(|n| expected(*n)).collect::<Vec<_>>(), "{query:?}");
    };
    let all = OrderQuery::default();
    let starting = Some(OrderState::Starting);
    check(all.clone(), &|_| true).await;
    check(OrderQuery { pile: Some(pile(3)), ..all.clone() }, &|n| n % 5 == 3).await;
    check(OrderQuery { state: starting, ..all.clone() }, &|n| n % 2 == 0).await;
    check(OrderQuery { pile: Some(pile(3)), state: starting, ..all.clone() }, &|n| n % 10 == 8).await;
    check(OrderQuery { state: Some(OrderState::Settled), ..all.clone() }, &|_| false).await;
    let (from, to) = (Some(NOW.plus_ms(10)), Some(NOW.plus_ms(20)));
    let within = OrderQuery { created_from: from, created_to: to, ..all.clone() };
    check(within.clone(), &|n| (10..20).contains(&n)).await;
    check(OrderQuery { state: starting, ..within.clone() }, &|n| n % 2 == 0 && (10..20).contains(&n)).await;
    check(OrderQuery { pile: Some(pile(3)), ..within }, &|n| n % 5 == 3 && (10..20).contains(&n)).await;
    check(OrderQuery { created_from: from, ..all.clone() }, &|n| n >= 10).await;
    check(OrderQuery { created_to: to, ..all }, &|n| n < 20).await;
}

pub async fn orders_of_one_pile_come_in_pages_of_any_size(store: Any) {
    let ledger = Ledger::new(store);
    let order = order(pile(1), 1, NOW);
    ledger.write(write(pile(1), 1, vec![(of(&order), Expect::Absent)])).await.expect("writes");
    for page_size in [0, 1, 512, 513, 1000, 5000] {
        let query = OrderQuery { pile: Some(pile(1)), page_size, ..OrderQuery::default() };
        let page = ledger.orders(query).await.map(|page| page.items.len());
        assert_eq!(page, Ok(1), "pages of {page_size}");
    }
}

pub async fn a_page_token_belongs_to_its_query(store: Any) {
    let ledger = Ledger::new(store);
    for n in 1..=3 {
        let documents =
            vec![(a_pile(n, Presence::Online), Expect::Absent), (of(&order(pile(n), n, NOW)), Expect::Absent)];
        ledger.write(write(pile(n), n, documents)).await.expect("writes");
    }
    let query = PileQuery { page_size: 1, ..PileQuery::default() };
    let token = ledger.piles(query.clone()).await.expect("lists").next_page_token;
    let next = PileQuery { page_size: 2, page_token: token.clone(), ..query.clone() };
    assert_eq!(ledger.piles(next).await.expect("another page size is no other query").items.len(), 2);

    let other = PileQuery { presence: Some(Presence::Online), page_token: token.clone(), ..query.clone() };
    assert_eq!(ledger.piles(other).await, Err(QueryError::BadPageToken));
    let other = OrderQuery { page_token: token.clone(), ..OrderQuery::default() };
    assert_eq!(ledger.orders(other).await, Err(QueryError::BadPageToken));
    let digit = if token.ends_with('0') { "1" } else { "0" };
    let bent = token[..token.len() - 1].to_owned() + digit;
    for bad in ["x", "0", "00", "é", &bent, &token[2..], &(token.clone() + "00"), &"0".repeat(100_000)] {
        let query = PileQuery { page_token: bad.to_owned(), ..query.clone() };
        assert_eq!(ledger.piles(query).await, Err(QueryError::BadPageToken), "{bad:.80}");
    }
}

/// Two days, and three days of tombstones.
const RETENTION: Retention =
    Retention { orders: Duration::from_hours(2 * 24), tombstones: Duration::from_hours(3 * 24) };
const DAY_MS: u64 = 24 * 3600 * 1000;

pub async fn orders_that_are_over_expire_when_they_are_configured_to(store: Any) {
    for (n, ledger, days) in [(1, Ledger::new(store.clone()), 14), (2, Ledger::new(store).keeping(RETENTION), 2)] {
        let (open, over) = (order(pile(n), 1, NOW), order(pile(n), 2, NOW));
        ledger.write(write(pile(n), n, vec![(of(&open), Expect::Absent)])).await.expect("writes");
        ledger.settle(record(&over, 1), None, NOW).await.expect("settles");
        let kept = days * DAY_MS;
        assert_eq!(ledger.expire(NOW.plus_ms(kept)).await, Ok(0));
        assert!(ledger.record(pile(n), over.serial).await.expect("reads").is_some());
        assert_eq!(ledger.expire(NOW.plus_ms(kept + 1)).await, Ok(2), "the order, and the body of its record");
        assert!(ledger.order(pile(n), open.serial).await.expect("reads").is_some());
        assert_eq!(ledger.order(pile(n), over.serial).await, Ok(None));
        assert_eq!(ledger.record(pile(n), over.serial).await, Ok(None));
        // The next ledger's are younger than this.
        assert_eq!(ledger.expire(NOW.plus_ms(1000 * DAY_MS)).await, Ok(1));
    }
}

pub async fn a_late_copy_is_known_by_the_tombstone_and_the_order_is_not_made_again(store: Any) {
    let ledger = Ledger::new(store.clone()).keeping(RETENTION);
    let over = order(pile(1), 1, NOW);
    ledger.settle(record(&over, 1), None, NOW).await.expect("settles");
    ledger.expire(NOW.plus_ms(2 * DAY_MS + 1)).await.expect("expires");
    assert_eq!(ledger.order(pile(1), over.serial).await, Ok(None));

    let late = NOW.plus_ms(4 * DAY_MS);
    let copy = ledger.settle(record(&over, 1), None, late).await.expect("settles");
    assert_eq!((copy.outcome, copy.order, copy.version), (Settled::Again, None, 0));
    let other = ledger.settle(record(&over, 2), None, late).await.expect("settles");
    assert_eq!((other.outcome, other.order), (Settled::Conflict { first: true }, None));
    // Neither a start under this serial nor a charge that goes on under it opens it again.
    let again = ledger.write(write(pile(1), 1, vec![(of(&over), Expect::Absent)])).await;
    assert_eq!(again, Err(WriteError::Conflict { at: 0, current: None }));
    let mut charging = Order::adopted(pile(1), over.gun, over.serial, late);
    charging.state = OrderState::Charging;
    let adopted = ledger.write(write(pile(1), 2, vec![(of(&charging), Expect::Absent)])).await;
    assert_eq!(adopted, Err(WriteError::Conflict { at: 0, current: None }));
    let merged = ledger.settle(record(&over, 1), Some((charging, 0)), late).await.expect("settles");
    assert_eq!((merged.outcome, merged.order), (Settled::Again, None));

    assert_eq!(ledger.expire(NOW.plus_ms(5 * DAY_MS)).await, Ok(0));
    assert_eq!(ledger.expire(NOW.plus_ms(5 * DAY_MS + 1)).await, Ok(1));
    let conflict = document::record_conflict_key(pile(1), over.serial, document::record_digest(&record(&over, 2)));
    assert_eq!(store.get(conflict).await, Ok(None), "it goes with the tombstone");
    let unknown = ledger.settle(record(&over, 1), None, NOW.plus_ms(6 * DAY_MS)).await.expect("settles");
    assert_eq!(unknown.outcome, Settled::First, "nobody remembers");
}

pub async fn a_record_that_comes_weeks_late_settles_an_adopted_order(store: Any) {
    let ledger = Ledger::new(store).keeping(RETENTION);
    // Of a serial never seen, and of one whose order failed and has expired.
    let (never, mut failed) = (order(pile(1), 1, NOW), order(pile(1), 2, NOW));
    failed.state = OrderState::Failed;
    ledger.write(write(pile(1), 1, vec![(of(&failed), Expect::Absent)])).await.expect("writes");
    let weeks_later = NOW.plus_ms(40 * DAY_MS);
    assert_eq!(ledger.expire(weeks_later).await, Ok(1));
    for known in [never, failed] {
        let late = ledger.settle(record(&known, 1), None, weeks_later).await.expect("settles");
        let order = late.order.expect("an order");
        assert_eq!((late.outcome, order.state, order.origin), (Settled::First, OrderState::Settled, Origin::Pile));
        assert_eq!(order.anomalies.first().map(|anomaly| anomaly.kind), Some(AnomalyKind::UnknownSerial));
        assert_eq!(ledger.order(pile(1), known.serial).await, Ok(Some((order, 1))));
    }
    assert_eq!(ledger.expire(weeks_later.plus_ms(2 * DAY_MS)).await, Ok(0), "its time begins when it is settled");
}

pub async fn a_watch_tells_everything_from_its_call_on(store: Any) {
    let ledger = Ledger::new(store);
    let before = order(pile(1), 1, NOW);
    ledger.settle(record(&before, 1), None, NOW).await.expect("settles");
    let mut watch = ledger.watch().await.expect("watches");

    let Document::Pile(a_pile) = a_pile(1, Presence::Offline) else { panic!("a pile") };
    let order = order(pile(1), 2, NOW);
    let kinds = [
        EventKind::PileOnline(a_pile.clone()),
        EventKind::PileOffline { pile: a_pile.clone(), reason: OfflineReason::NodeLost },
        EventKind::GunChanged(a_pile),
        EventKind::Order { order: Box::new(order.clone()), change: Change::Anomaly(AnomalyKind::LateStart) },
        EventKind::RecordConflict { serial: order.serial },
    ];
    let pile_time = Some(jiff::civil::date(2026, 2, 3).at(4, 5, 6, 7_000_000));
    let events = kinds.map(|kind| Event { pile: pile(1), recorded_at: NOW, pile_time, kind });
    let written = Write { events: events.to_vec(), ..write(pile(1), 1, vec![]) };
    ledger.write(written).await.expect("writes");
    for (seq, event) in (2..).zip(events) {
        let stamped = next(&mut watch).await;
        assert_eq!((stamped.seq, stamped.offset), (seq, seq));
        assert_eq!(stamped.event_id(), format!("00000000000001-0-{seq}"));
        assert_eq!(stamped.event, event);
    }
}

pub async fn a_watch_that_lags_goes_on_from_the_log(store: Any) {
    let ledger = Ledger::new(store.clone());
    let mut watch = ledger.watch().await.expect("watches");
    // The first event makes it read the feed, which then overruns it.
    let append = async |pile: PileCode, n: u64| {
        let events = (0..10).map(|_| event(&order(pile, n, NOW), Change::Created)).collect();
        ledger.write(Write { events, ..write(pile, n, vec![]) }).await.expect("writes");
    };
    append(pile(0), 1).await;
    assert_eq!(next(&mut watch).await.seq, 1);
    for n in 2..200 {
        append(pile(n % 7), n).await;
    }
    let mut seen = [1, 0, 0, 0, 0, 0, 0];
    for _ in 1..199 * 10 {
        let stamped = next(&mut watch).await;
        let at = (0..7).find(|n| pile(*n) == stamped.event.pile).expect("one of ours") as usize;
        seen[at] += 1;
        assert_eq!(stamped.seq, seen[at], "in order, without a gap, nothing twice");
    }
    assert_eq!(seen.iter().sum::<u64>(), 1990);
}

/// The next event; a watch that has none is broken, so that it may not wait for ever.
async fn next(watch: &mut EventWatch) -> pileway::store::Stamped {
    let limit = std::time::Duration::from_secs(20);
    match tokio::time::timeout(limit, watch.next()).await.expect("there is one").expect("reads") {
        Seen::Event(stamped) => *stamped,
        Seen::Gap(gap) => panic!("{gap:?}"),
    }
}

pub fn write(pile: PileCode, n: u64, documents: Vec<(Document, Expect)>) -> Write {
    Write { id: BatchId { session: session(1), n }, pile, fence: None, documents, events: vec![] }
}

pub fn of(order: &Order) -> Document {
    Document::Order(Box::new(order.clone()))
}

pub fn event(order: &Order, change: Change) -> Event {
    let kind = EventKind::Order { order: Box::new(order.clone()), change };
    Event { pile: order.pile, recorded_at: NOW, pile_time: None, kind }
}

fn gun() -> Gun {
    Gun::new(1).expect("a gun")
}

pub fn order(pile: PileCode, n: u64, created: WallMs) -> Order {
    let mut serial = [0; 16];
    serial[..7].copy_from_slice(&pile.bcd());
    serial[8..].copy_from_slice(&n.to_be_bytes());
    Order::requested(pile, gun(), Serial::from_bytes(serial), created)
}

fn a_pile(n: u64, presence: Presence) -> Document {
    Document::Pile(Box::new(Pile {
        code: pile(n),
        identity: Identity { gun_count: 1, software_version: "V1".to_owned(), ..Identity::default() },
        presence,
        presence_since: NOW,
        last_seen: NOW,
        first_seen: NOW,
        address: "10.0.0.1:5".to_owned(),
        guns: vec![GunStatus { gun: gun(), state: GunState::Idle, faults: 3, since: NOW, alarms: vec![] }],
        tariff: TariffOnPile { fingerprint: 5, number: 2, confirmed: true },
    }))
}

fn tariff() -> Tariff {
    let pair = PricePair { energy: Price(100_000), service: Price(50_000) };
    Tariff { prices: [pair; 4], half_hours: [Period::Flat; 48] }
}

/// What the pile bills for `order`; another `variant` bills something else.
fn record(order: &Order, variant: u8) -> Record {
    let period = RecordedPeriod {
        unit_price: Price(150_000),
        energy: Energy(10_000),
        loss_energy: Energy(10_000),
        amount: Amount(15_000),
    };
    Record {
        pile: order.pile,
        gun: order.gun,
        serial: order.serial,
        started: Some(jiff::civil::date(2026, 1, 1).at(2, 2, 3, 0)),
        ended: None,
        traded: Some(jiff::civil::date(2026, 1, 1).at(2, 3, 4, 5_000_000)),
        periods: [period; 4],
        meter_start: Energy(1),
        meter_end: Energy(40_001),
        total_energy: Energy(40_000),
        total_loss_energy: Energy(40_000),
        total_amount: Amount(60_000),
        vin: "LSVAM4187C2184841".to_owned(),
        start_type: 1,
        stop_reason: 0x40,
        stop_reason_name: "Finished".to_owned(),
        physical_card: [1; 8],
        code: 0x3B,
        body: [&[variant], &order.serial.bytes()[..], &[0; 140]].concat(),
    }
}
