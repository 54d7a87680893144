//! Records that are settled stay for a while: the store may lose them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use crate::Site;
use crate::common;
use crate::far::Mood;
use crate::values::{NOW, attempt, event, of, order, pile, record, write};
use pileway::domain::order::{Change, StartRequest};
use pileway::domain::{Order, RequestId};
use pileway::store::ledger::{Expect, Resettled};
use pileway::store::{Partition, Settled};

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_later_there_is_nothing_left_to_settle_again() {
    let site = Site::new().await;
    site.ledger.settle(record(&order(pile(1), 1), 1), None, NOW).await.expect("settles");
    site.clock.fetch_add(AN_HOUR, Ordering::SeqCst);
    site.far.lose(1);
    assert_eq!(taken_for_lost(&site).await, 1);
    // The drain keeps house when it begins, and nothing else ends the wait of what cannot be settled.
    site.far.set(Mood::Away);
    let drain = tokio::spawn(site.ledger.clone().drain());
    let gone =
        common::eventually("the journal to forget", || async { (site.ledger.journal_depth() == 0).then_some(()) });
    gone.await;
    drain.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_store_that_cannot_be_asked_nothing_is_taken_for_lost() {
    let site = Site::new().await;
    let (one, other) = (order(pile(1), 1), order(pile(2), 1));
    for order in [&one, &other] {
        site.ledger.settle(record(order, 1), None, NOW).await.expect("settles");
    }
    site.far.lose(1);
    for mood in [Mood::Away, Mood::Gone] {
        site.far.set(mood);
        let told = site.ledger.resettle(&all()).await.expect("reads");
        let asked: BTreeSet<_> = [pile(1), pile(2)].map(|pile| site.far.partition(pile)).into();
        assert_eq!((told.records, told.away.into_keys().collect()), (0, asked), "who is away, and nothing else");
        assert_eq!(site.ledger.journal_depth(), 0);
    }
    site.far.set(Mood::Here);
    assert_eq!(taken_for_lost(&site).await, 1, "asked again it says so");
    site.drain().await;
    assert_eq!(site.ledger.record(pile(2), other.serial).await, Ok(Some(record(&other, 1))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_settled_before_a_long_outage_is_still_there_when_the_store_comes_back_without_it() {
    let site = Site::new().await;
    let (lost, meanwhile) = (order(pile(1), 1), order(pile(2), 1));
    site.ledger.settle(record(&lost, 1), None, NOW).await.expect("settles");
    site.far.set(Mood::Gone);
    site.clock.fetch_add(AN_HOUR, Ordering::SeqCst);
    site.ledger.settle(record(&meanwhile, 1), None, NOW).await.expect("journals");
    let drain = tokio::spawn(site.ledger.clone().drain());
    let looked_round =
        common::eventually("the drain to have looked round", || async { (site.far.in_vain() >= 3).then_some(()) });
    looked_round.await;
    drain.abort();
    let _ = drain.await;
    site.far.lose(1);
    site.far.set(Mood::Here);
    assert_eq!(taken_for_lost(&site).await, 1);
    site.drain().await;
    assert_eq!(site.ledger.record(pile(1), lost.serial).await, Ok(Some(record(&lost, 1))));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_new_records_do_not_take_the_place_of_kept_ones() {
    let site = Site::new().await;
    let (before, after) = (order(pile(1), 1), order(pile(1), 2));
    site.ledger.settle(record(&before, 1), None, NOW).await.expect("settles");
    let site = site.killed().await;
    site.ledger.settle(record(&after, 1), None, NOW).await.expect("settles");
    site.far.lose(2);
    assert_eq!(taken_for_lost(&site).await, 2);
    site.drain().await;
    for order in [before, after] {
        assert_eq!(site.ledger.record(pile(1), order.serial).await, Ok(Some(record(&order, 1))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_was_lost_with_its_settled_order_is_not_started_again() {
    let site = Site::new().await;
    let fence = site.claim(pile(1), 1).await;
    let id = RequestId::from_bytes([1; 16]);
    let request = Some(StartRequest { id, arguments: 1 });
    let order = Order { request, order_id: "theirs".to_owned(), ..order(pile(1), 1) };
    let documents = vec![(attempt(&order, 1), Expect::Absent), (of(&order), Expect::Absent)];
    let created = write(1, 1, fence, documents, vec![event(&order, Change::Created)]);
    site.ledger.write(created).await.expect("writes");
    let settled = site.ledger.settle(record(&order, 1), Some((order.clone(), 1)), NOW).await.expect("settles");
    assert_eq!(settled.outcome, Settled::First);

    site.far.lose(2);
    assert_eq!(site.ledger.start_attempt(pile(1), id).await, Ok(None));
    assert_eq!(taken_for_lost(&site).await, 1);
    site.drain().await;
    let there = site.ledger.start_attempt(pile(1), id).await.expect("reads").expect("a retry finds it");
    assert_eq!((there.serial, there.arguments, there.created_at), (order.serial, 1, order.created_at));
    let (stored, _) = site.ledger.order(pile(1), order.serial).await.expect("reads").expect("is there");
    assert_eq!((stored.order_id, stored.request), (order.order_id, order.request));
}

/// What a store that answers has lost of all.
async fn taken_for_lost(site: &Site) -> usize {
    let Resettled { records, away } = site.ledger.resettle(&all()).await.expect("reads");
    assert_eq!(away, BTreeMap::new());
    records
}

fn all() -> BTreeSet<Partition> {
    (0..64).map(Partition).collect()
}

/// And a little more.
const AN_HOUR: i64 = 3_600_001;
