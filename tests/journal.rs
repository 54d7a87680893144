//! The journal's promises: on a real disk, with a store behind it that is away, slow or forgetful when the test says so.
//!
//! The far store is an embedded one in a wrapper ([`far::Far`]). Nothing here sleeps: rounds of the drain are made by
//! hand, except where the drain itself is what is tested.

#[path = "common/mod.rs"]
mod common;
#[path = "journal/far.rs"]
mod far;
#[path = "journal/values.rs"]
mod values;
#[path = "journal/model.rs"]
mod model;
#[path = "journal/kept.rs"]
mod kept;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::Poll;
use std::time::Duration;

use common::within;
use far::{Far, Mood};
use pileway::cli::journal::{Remaining, replay, show};
use pileway::domain::order::{Change, Close, Happening, StartRequest};
use pileway::domain::{Amount, Energy, Fence, Order, OrderState, PileCode, RequestId, WallMs};
use pileway::store::journal::{self, Journal, Of, OpenError};
use pileway::store::ledger::{Expect, Ledger, Resettled, Retention, Write, WriteError};
use pileway::store::{Claim, Settled, StoreError};
use tempfile::TempDir;
use values::{NOW, attempt, event, of, order, pile, record, session, told, write};

/// A ledger with a journal on a disk, and the store far away.
struct Site {
    far: Arc<Far>,
    dir: TempDir,
    ledger: Ledger,
    clock: Arc<AtomicI64>,
}

impl Site {
    async fn new() -> Self {
        let far = Far::new();
        let (dir, clock) = (tempfile::tempdir().expect("a directory"), Arc::new(AtomicI64::new(NOW.0)));
        let ledger = ledger(&far, &dir, &clock).await;
        Self { far, dir, ledger, clock }
    }

    /// As after a kill: whatever was in memory is gone.
    async fn killed(self) -> Self {
        let Self { far, dir, ledger, clock } = self;
        drop(ledger);
        let ledger = self::ledger(&far, &dir, &clock).await;
        Self { far, dir, ledger, clock }
    }

    async fn claim(&self, pile: PileCode, counter: u64) -> Fence {
        self.ledger.claim(Claim::login(pile, session(counter), NOW, 1)).await.expect("claims").fence
    }

    /// Rounds until nothing waits.
    async fn drain(&self) -> usize {
        let mut dropped = 0;
        while self.ledger.journal_depth() > 0 {
            let round = self.ledger.drain_round().await;
            assert!(round.away.is_empty(), "{:?}", round.away);
            dropped += round.dropped;
        }
        dropped
    }
}

async fn ledger(far: &Arc<Far>, dir: &TempDir, clock: &Arc<AtomicI64>) -> Ledger {
    let clock = clock.clone();
    let now: journal::Clock = Arc::new(move || WallMs(clock.load(Ordering::SeqCst)));
    let config = journal::Config { clock: now, grace: Duration::ZERO, ..journal::Config::new(dir.path()) };
    Ledger::with_journal(far.clone(), Journal::open(config).await.expect("opens"))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_store_there_nothing_waits_and_nothing_is_late() {
    let site = Site::new().await;
    let (fence, order) = (site.claim(pile(1), 1).await, order(pile(1), 1));
    let created = write(1, 1, fence, vec![(of(&order), Expect::Absent)], vec![event(&order, Change::Created)]);
    assert_eq!(site.ledger.write(created.clone()).await, Ok(vec![1]));
    assert_eq!(site.ledger.write(created).await, Ok(vec![1]), "a retry");
    let settled = site.ledger.settle(record(&order, 1), Some((order.clone(), 1)), NOW).await.expect("settles");
    assert_eq!((settled.outcome, site.ledger.journal_depth()), (Settled::First, 0));
    let settled = site.ledger.settle(record(&order, 1), Some((order.clone(), 1)), NOW).await.expect("settles");
    assert_eq!(settled.outcome, Settled::Again);
    let expected = [(Change::Created, NOW, false), (Change::Settled, NOW, false)];
    assert_eq!(told(&*site.far, pile(1)).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_taken_while_the_store_is_away_settles_once_when_it_is_back() {
    for mood in [Mood::Away, Mood::Mute] {
        let site = Site::new().await;
        let (fence, order) = (site.claim(pile(1), 1).await, order(pile(1), 1));
        site.ledger.write(write(1, 1, fence, vec![(of(&order), Expect::Absent)], vec![])).await.expect("writes");

        site.far.set(mood);
        let (record, arrived) = (record(&order, 1), NOW.plus_ms(5000));
        for _copy in 0..3 {
            let settled =
                site.ledger.settle(record.clone(), Some((order.clone(), 1)), arrived).await.expect("journals");
            assert_eq!((settled.outcome, settled.version), (Settled::Journaled, 2));
            assert_eq!(settled.order.map(|order| order.state), Some(OrderState::Settled));
            assert_eq!(site.ledger.journal_depth(), 1, "copies are not written twice");
        }
        let other = site.ledger.settle(values::record(&order, 2), None, arrived).await.expect("journals");
        assert_eq!((other.outcome, site.ledger.journal_depth()), (Settled::Journaled, 2));
        let round = site.ledger.drain_round().await;
        assert!(round.delivered == 0 && !round.away.is_empty(), "{round:?}");

        site.far.set(Mood::Here);
        site.drain().await;
        let stored = site.ledger.order(pile(1), order.serial).await.expect("reads").expect("is there").0;
        assert_eq!((stored.state, stored.settled_at), (OrderState::Settled, Some(arrived)));
        assert_eq!(site.ledger.record(pile(1), order.serial).await, Ok(Some(record)));
        let told = told(&*site.far, pile(1)).await;
        let settlements: Vec<_> = told.iter().filter(|(change, ..)| *change == Change::Settled).collect();
        // A mute store had carried it out at once, when it was not late.
        assert_eq!(settlements, [&(Change::Settled, arrived, mood == Mood::Away)], "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_closed_while_the_store_was_away_is_closed_wherever_its_pile_is_by_then() {
    let site = Site::new().await;
    let (fence, order) = (site.claim(pile(1), 1).await, order(pile(1), 1));
    site.ledger.write(write(1, 1, fence, vec![(of(&order), Expect::Absent)], vec![])).await.expect("writes");
    site.far.set(Mood::Away);
    let mut closed = order.clone();
    let close = Close { reason: "lost".to_owned(), given: Some((Energy(7), Amount(9))), force: true };
    assert_eq!(closed.apply(NOW.plus_ms(1), Happening::Closed(Box::new(close))), [Change::Closed]);
    let told_so = write(1, 2, fence, vec![(of(&closed), Expect::Version(1))], vec![event(&closed, Change::Closed)]);
    site.ledger.write(told_so).await.expect("journals");

    site.far.set(Mood::Here);
    // Another node's, who knows nothing of it.
    let elsewhere = Ledger::new(site.far.clone());
    let fence = elsewhere.claim(Claim::login(pile(1), session(2), NOW, 1)).await.expect("claims").fence;
    let mut seen = order.clone();
    seen.apply(NOW.plus_ms(2), Happening::Accepted);
    elsewhere.write(write(2, 1, fence, vec![(of(&seen), Expect::Version(1))], vec![])).await.expect("writes");
    assert_eq!(site.drain().await, 0, "nothing is lost");
    let stored = elsewhere.order(pile(1), order.serial).await.expect("reads").expect("is there").0;
    assert_eq!((stored.state, &stored.closing), (OrderState::ClosedWithoutRecord, &closed.closing));
    assert_eq!(stored.accepted_at, seen.accepted_at, "and nothing else is undone");
    assert_eq!(told(&*site.far, pile(1)).await, [(Change::Closed, NOW, true)], "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_was_planned_while_the_store_was_away_is_planned_wherever_its_pile_is_by_then() {
    for expires_ms in [60_000, 1] {
        let site = Site::new().await;
        let (fence, order) = (site.claim(pile(1), 1).await, order(pile(1), 1));
        site.ledger.write(write(1, 1, fence, vec![(of(&order), Expect::Absent)], vec![])).await.expect("writes");
        site.far.set(Mood::Away);
        let mut planned = order.clone();
        let changes = planned.apply(NOW, Happening::StopPlanned { expires_at: NOW.plus_ms(expires_ms) });
        assert_eq!(changes, [Change::StopPlanned]);
        let told_so =
            write(1, 2, fence, vec![(of(&planned), Expect::Version(1))], vec![event(&planned, Change::StopPlanned)]);
        site.ledger.write(told_so).await.expect("journals");

        site.far.set(Mood::Here);
        site.clock.fetch_add(10, Ordering::SeqCst);
        let elsewhere = Ledger::new(site.far.clone());
        elsewhere.claim(Claim::login(pile(1), session(2), NOW, 1)).await.expect("claims");
        let too_late = expires_ms < 10;
        assert_eq!(site.drain().await, usize::from(too_late));
        let stored = elsewhere.order(pile(1), order.serial).await.expect("reads").expect("is there").0;
        assert_eq!(stored.stop_at_login, planned.stop_at_login.filter(|_| !too_late));
        assert_eq!(told(&*site.far, pile(1)).await, [(Change::StopPlanned, NOW, true)], "once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill() {
    let site = Site::new().await;
    let (fence, first) = (site.claim(pile(1), 1).await, order(pile(1), 1));
    site.far.set(Mood::Away);
    let events = vec![event(&first, Change::Created)];
    let start = vec![(attempt(&first, 1), Expect::Absent), (of(&first), Expect::Absent)];
    assert_eq!(site.ledger.write(write(1, 1, fence, start, events)).await, Ok(vec![1, 1]), "a start, before 0x34");
    let taken = site.ledger.settle(record(&first, 1), Some((first.clone(), 1)), NOW).await.expect("journals");
    assert_eq!(taken.outcome, Settled::Journaled);

    let site = site.killed().await;
    assert_eq!(site.ledger.journal_depth(), 2);
    let taken = site.ledger.settle(record(&first, 1), None, NOW).await.expect("is there");
    assert_eq!((taken.outcome, site.ledger.journal_depth()), (Settled::Journaled, 2), "a copy after the kill");
    site.far.set(Mood::Here);
    // Even though the store is there: something waits.
    let behind = write(1, 2, fence, vec![], vec![event(&first, Change::Finished)]);
    assert_eq!(site.ledger.write(behind).await, Ok(vec![]));
    assert_eq!(site.ledger.journal_depth(), 3);
    assert_eq!(site.drain().await, 0);
    let changes: Vec<_> = told(&*site.far, pile(1)).await.into_iter().map(|(change, ..)| change).collect();
    assert_eq!(changes, [Change::Created, Change::Settled, Change::Finished]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_the_stores_answer_and_the_journals_repeats_nothing() {
    let site = Site::new().await;
    let (fence, order) = (site.claim(pile(1), 1).await, order(pile(1), 1));
    let kept = tempfile::tempdir().expect("a directory");
    site.far.set(Mood::Away);
    for n in 1..=3 {
        let events = vec![event(&order, Change::Created)];
        site.ledger.write(write(1, n, fence, vec![], events)).await.expect("journals");
    }
    site.ledger.settle(record(&order, 1), None, NOW).await.expect("journals");
    // The journal as it is now comes back after everything has been delivered.
    let Site { far, dir, ledger: before, clock } = site;
    drop(before);
    copy(&dir, &kept);
    far.set(Mood::Here);
    let site = Site { ledger: ledger(&far, &dir, &clock).await, far, dir, clock };
    site.drain().await;
    let once = told(&*site.far, pile(1)).await;
    assert_eq!(once.len(), 4);

    let ledger = ledger(&site.far, &kept, &site.clock).await;
    assert_eq!(ledger.journal_depth(), 4);
    while ledger.journal_depth() > 0 {
        ledger.drain_round().await;
    }
    assert_eq!(told(&*site.far, pile(1)).await, once);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_keep_their_order_and_their_time_over_an_outage() {
    let site = Site::new().await;
    let (fence, order) = (site.claim(pile(1), 1).await, order(pile(1), 1));
    let at = |ms, change| {
        let mut event = event(&order, change);
        event.recorded_at = NOW.plus_ms(ms);
        write(1, ms, fence, vec![], vec![event])
    };
    site.ledger.write(at(1, Change::Created)).await.expect("writes");
    site.far.set(Mood::Away);
    site.ledger.write(at(2, Change::Accepted)).await.expect("journals");
    site.ledger.write(at(3, Change::Charging)).await.expect("journals");
    site.far.set(Mood::Here);
    site.ledger.write(at(4, Change::StopRequested)).await.expect("journals behind the others");
    assert_eq!(site.ledger.journal_depth(), 3);
    let other = site.claim(pile(2), 9).await;
    site.ledger.write(values::write_of(pile(2), 9, 1, other)).await.expect("another pile goes straight");
    assert_eq!(site.ledger.journal_depth(), 3);
    site.drain().await;
    site.ledger.write(at(5, Change::Finished)).await.expect("goes straight again");
    let expected = [
        (Change::Created, NOW.plus_ms(1), false),
        (Change::Accepted, NOW.plus_ms(2), true),
        (Change::Charging, NOW.plus_ms(3), true),
        (Change::StopRequested, NOW.plus_ms(4), true),
        (Change::Finished, NOW.plus_ms(5), false),
    ];
    assert_eq!(told(&*site.far, pile(1)).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_does_not_overtake_what_waits() {
    let site = Site::new().await;
    let fence = site.claim(pile(1), 1).await;
    site.far.set(Mood::Away);
    site.ledger.write(values::write_of(pile(1), 1, 1, fence)).await.expect("journals");
    site.far.set(Mood::Here);
    let claim = site.ledger.claim(Claim::login(pile(1), session(2), NOW, 1)).await;
    assert!(matches!(&claim, Err(StoreError::Unavailable(why)) if why.contains("journal")), "{claim:?}");
    let release = site.ledger.release(pile(1), fence).await;
    assert!(matches!(release, Err(StoreError::Unavailable(_))), "{release:?}");
    assert_eq!(site.ledger.owner(pile(1)).await, Ok(Some(fence)));
    site.drain().await;
    assert_eq!(site.claim(pile(1), 2).await.session, session(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_meets_the_outage_is_ahead_of_all_that_come_after_it() {
    let site = Site::new().await;
    let (fence, order) = (site.claim(pile(1), 1).await, order(pile(1), 1));
    let gate = site.far.hold();
    let ledger = site.ledger.clone();
    let at = |n, change| write(1, n, fence, vec![], vec![event(&order, change)]);
    let (first, second) = (at(1, Change::Created), at(2, Change::Accepted));
    let first = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.write(first).await }
    });
    within("the store to be asked", site.far.asked()).await;
    // Departed watchers and other nodes' hand-overs write without waiting for the session.
    let mut second = std::pin::pin!(site.ledger.write(second));
    let looked = std::future::poll_fn(|context| Poll::Ready(second.as_mut().poll(context).is_pending()));
    assert!(looked.await, "waits for the first");
    assert_eq!(site.far.hanging(), 1, "and is not at the store");
    site.far.set(Mood::Away);
    drop(gate);
    assert_eq!(within("the first", first).await.expect("ends"), Ok(vec![]));
    assert_eq!(within("the second", second).await, Ok(vec![]));
    assert_eq!(site.ledger.journal_depth(), 2);
    site.far.set(Mood::Here);
    site.drain().await;
    let changes: Vec<_> = told(&*site.far, pile(1)).await.into_iter().map(|(change, ..)| change).collect();
    assert_eq!(changes, [Change::Created, Change::Accepted]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_gives_up_leaves_its_record_waiting() {
    let site = Site::new().await;
    let order = order(pile(1), 1);
    let gate = site.far.hold();
    let (ledger, taken) = (site.ledger.clone(), record(&order, 1));
    let settling = tokio::spawn(async move { ledger.settle(taken, None, NOW).await });
    within("the store to be asked", site.far.asked()).await;
    assert_eq!(site.ledger.journal_depth(), 0, "it is on its way");
    settling.abort();
    assert!(within("the caller to be gone", settling).await.is_err());
    assert_eq!(site.ledger.journal_depth(), 1, "on the disk, and known to be");
    drop(gate);
    site.drain().await;
    assert_eq!(told(&*site.far, pile(1)).await, [(Change::Settled, NOW, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_on_the_disk_before_the_store_is_asked() {
    let site = Site::new().await;
    let order = order(pile(1), 1);
    let gate = site.far.hold();
    let (ledger, taken) = (site.ledger.clone(), record(&order, 1));
    let settling = tokio::spawn(async move { ledger.settle(taken, None, NOW).await });
    within("the store to be asked", site.far.asked()).await;
    // As the disk is at this moment, were the node to be killed.
    let killed = tempfile::tempdir().expect("a directory");
    copy(&site.dir, &killed);
    let found = self::ledger(&site.far, &killed, &site.clock).await;
    assert_eq!(found.journal_depth(), 1);
    drop(gate);
    within("the settlement", settling).await.expect("ends").expect("settles");
    found.drain_round().await;
    assert_eq!((found.journal_depth(), told(&*site.far, pile(1)).await.len()), (0, 1), "once all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_the_store_took_without_saying_so_is_recognised() {
    let site = Site::new().await;
    let (fence, order) = (site.claim(pile(1), 1).await, order(pile(1), 1));
    site.far.set(Mood::Mute);
    let documents = vec![(of(&order), Expect::Absent)];
    let created = write(1, 1, fence, documents, vec![event(&order, Change::Created)]);
    assert_eq!(site.ledger.write(created).await, Ok(vec![1]));
    assert_eq!(site.ledger.journal_depth(), 1);
    // Also what the drain is not told is tried again.
    site.far.set(Mood::Mute);
    let next = write(1, 2, fence, vec![(of(&order), Expect::Version(1))], vec![event(&order, Change::Accepted)]);
    assert_eq!(site.ledger.write(next).await, Ok(vec![2]));
    for _ in 0..3 {
        let round = site.ledger.drain_round().await;
        assert!(!round.away.is_empty() && round.dropped == 0, "{round:?}");
    }
    let site = site.killed().await;
    site.far.set(Mood::Here);
    assert_eq!(site.drain().await, 0);
    let expected = [(Change::Created, NOW, false), (Change::Accepted, NOW, true)];
    assert_eq!(told(&*site.far, pile(1)).await, expected);
    assert_eq!(site.ledger.order(pile(1), order.serial).await, Ok(Some((order, 2))));
}

/// A node dies with an order in its journal; the pile brings the record to another node, which has never heard of the order
/// and settles it first. What the dead node's disk still has to say must not make the settled order an open one again.
#[tokio::test]
async fn an_order_that_was_settled_elsewhere_stays_settled_when_its_history_comes_late() {
    let site = Site::new().await;
    let fence = site.claim(pile(1), 1).await;
    site.far.set(Mood::Away);
    let mut order = order(pile(1), 1);
    let created = vec![(attempt(&order, 1), Expect::Absent), (of(&order), Expect::Absent)];
    let write_created = write(1, 1, fence, created, vec![event(&order, Change::Created)]);
    assert_eq!(site.ledger.write(write_created).await, Ok(vec![1, 1]));
    for (n, happening) in [(2, Happening::Accepted), (3, Happening::ChargeEnded)] {
        order.apply(NOW.plus_ms(n), happening);
        let documents = vec![(of(&order), Expect::Version(n - 1))];
        let written = site.ledger.write(write(1, n, fence, documents, vec![])).await;
        assert_eq!(written, Ok(vec![n]));
    }
    site.far.set(Mood::Here);
    let elsewhere = Ledger::new(site.far.clone());
    let settled = elsewhere.settle(record(&order, 1), None, NOW).await.expect("settles");
    assert_eq!((settled.outcome, settled.version), (Settled::First, 1));
    site.drain().await;
    let stored = elsewhere.order(pile(1), order.serial).await.expect("reads").expect("is there").0;
    assert_eq!(stored.state, OrderState::Settled);
    assert_eq!(site.ledger.journal_depth(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_whose_session_is_over_the_events_and_new_orders_stay() {
    for mute in [false, true] {
        let site = Site::new().await;
        let (fence, old, new) = (site.claim(pile(1), 1).await, order(pile(1), 1), order(pile(1), 2));
        site.ledger.write(write(1, 1, fence, vec![(of(&old), Expect::Absent)], vec![])).await.expect("writes");
        site.far.set(Mood::Away);
        let mut charged = old.clone();
        charged.order_id = "of the session that is over".to_owned();
        let documents =
            vec![(of(&charged), Expect::Version(1)), (attempt(&new, 1), Expect::Absent), (of(&new), Expect::Absent)];
        let events = vec![event(&old, Change::Finished), event(&new, Change::Created)];
        assert_eq!(site.ledger.write(write(1, 2, fence, documents, events)).await, Ok(vec![2, 1, 1]));

        // Another node's session has taken the pile meanwhile.
        site.far.set(Mood::Here);
        let elsewhere = Ledger::new(site.far.clone());
        let newer = elsewhere.claim(Claim::login(pile(1), session(2), NOW, 1)).await.expect("claims").fence;
        if mute {
            // Each step is carried out and not answered, and then repeated.
            site.far.set(Mood::Mute);
            for _ in 0..4 {
                assert!(!site.ledger.drain_round().await.away.is_empty());
            }
            site.far.set(Mood::Here);
        }
        let dropped = site.drain().await;
        assert_eq!(dropped, 1, "the order's new version");
        assert_eq!(site.ledger.order(pile(1), old.serial).await, Ok(Some((old, 1))));
        assert_eq!(site.ledger.order(pile(1), new.serial).await, Ok(Some((new, 1))));
        let expected = [(Change::Finished, NOW, true), (Change::Created, NOW, true)];
        assert_eq!(told(&*site.far, pile(1)).await, expected);
        assert_eq!(site.ledger.owner(pile(1)).await, Ok(Some(newer)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_about_a_document_that_has_changed_everything_else_stays() {
    let site = Site::new().await;
    let (fence, one, two) = (site.claim(pile(1), 1).await, order(pile(1), 1), order(pile(1), 2));
    let both = vec![(of(&one), Expect::Absent), (of(&two), Expect::Absent)];
    site.ledger.write(write(1, 1, fence, both, vec![])).await.expect("writes");
    site.far.set(Mood::Away);
    let ours = |order: &pileway::domain::Order| {
        let mut ours = order.clone();
        ours.order_id = "ours".to_owned();
        ours
    };
    let documents = vec![(of(&ours(&one)), Expect::Version(1)), (of(&ours(&two)), Expect::Version(1))];
    let events = vec![event(&one, Change::Finished)];
    site.ledger.write(write(1, 2, fence, documents, events)).await.expect("journals");
    site.far.set(Mood::Here);
    // An operator has changed one of them.
    let mut theirs = one.clone();
    theirs.order_id = "theirs".to_owned();
    let changed = vec![(of(&theirs), Expect::Version(1))];
    Ledger::new(site.far.clone()).write(write(7, 1, fence, changed, vec![])).await.expect("writes");

    assert_eq!(site.drain().await, 1);
    assert_eq!(site.ledger.order(pile(1), one.serial).await, Ok(Some((theirs, 2))));
    assert_eq!(site.ledger.order(pile(1), two.serial).await, Ok(Some((ours(&two), 2))));
    assert_eq!(told(&*site.far, pile(1)).await, [(Change::Finished, NOW, true)]);
    // The session, which knows nothing of this, finds out and goes on.
    let stale = write(1, 3, fence, vec![(of(&ours(&one)), Expect::Version(2))], vec![]);
    assert_eq!(site.ledger.write(stale).await, Ok(vec![3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_again_without_a_fence_tells_of_its_order_only_if_that_was_lost() {
    for lost in [true, false] {
        let site = Site::new().await;
        let (fence, order) = (site.claim(pile(1), 1).await, order(pile(1), 1));
        if !lost {
            site.ledger.write(write(1, 1, fence, vec![(of(&order), Expect::Absent)], vec![])).await.expect("writes");
        }
        site.far.set(Mood::Away);
        let documents = vec![(of(&order), Expect::Absent), (attempt(&order, 1), Expect::Absent)];
        let again = write(2, 1, fence, documents, vec![event(&order, Change::Finished)]);
        site.ledger.write(Write { fence: None, ..again }).await.expect("journals");
        site.far.set(Mood::Here);
        site.drain().await;
        assert!(site.ledger.order(pile(1), order.serial).await.expect("reads").is_some());
        let told = told(&*site.far, pile(1)).await;
        assert_eq!(told, if lost { vec![(Change::Finished, NOW, true)] } else { vec![] }, "lost: {lost}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_found_by_its_serial_learns_how_it_began_from_what_was_put_again_meanwhile() {
    let site = Site::new().await;
    let (fence, mut begun) = (site.claim(pile(1), 1).await, order(pile(1), 1));
    begun.request = Some(StartRequest { id: RequestId::from_bytes([1; 16]), arguments: 1 });
    begun.order_id = "ours".to_owned();
    let found = Order::adopted(begun.pile, begun.gun, begun.serial, NOW.plus_ms(1));
    site.ledger.write(write(1, 1, fence, vec![(of(&found), Expect::Absent)], vec![])).await.expect("writes");
    site.far.set(Mood::Away);
    let documents = vec![(attempt(&begun, 1), Expect::Absent), (of(&begun), Expect::Absent)];
    site.ledger.write(Write { fence: None, ..write(2, 1, fence, documents, vec![]) }).await.expect("journals");
    site.far.set(Mood::Here);
    assert_eq!(site.drain().await, 0);
    let (stored, _) = site.ledger.order(pile(1), begun.serial).await.expect("reads").expect("there");
    assert_eq!((stored.request, stored.order_id.as_str()), (begun.request, "ours"));
    assert_eq!(stored.anomalies, found.anomalies);
    assert!(site.ledger.start_attempt(pile(1), RequestId::from_bytes([1; 16])).await.expect("reads").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journaled_record_keeps_what_only_the_session_knew() {
    let site = Site::new().await;
    let (fence, stored) = (site.claim(pile(1), 1).await, order(pile(1), 1));
    site.ledger.write(write(1, 1, fence, vec![(of(&stored), Expect::Absent)], vec![])).await.expect("writes");
    let mut ours = stored.clone();
    ours.accepted_at = Some(NOW.plus_ms(1));
    site.far.set(Mood::Away);
    site.ledger.settle(record(&ours, 1), Some((ours.clone(), 1)), NOW).await.expect("journals");
    site.far.set(Mood::Here);
    // Meanwhile somebody else has named it.
    let mut named = stored.clone();
    named.order_id = "named".to_owned();
    let changed = write(7, 1, fence, vec![(of(&named), Expect::Version(1))], vec![]);
    Ledger::new(site.far.clone()).write(changed).await.expect("writes");
    site.drain().await;
    let settled = site.ledger.order(pile(1), stored.serial).await.expect("reads").expect("is there").0;
    assert_eq!((&*settled.order_id, settled.accepted_at), ("named", ours.accepted_at));
    assert_eq!(settled.state, OrderState::Settled);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_has_lost_is_settled_again() {
    let site = Site::new().await;
    let (kept, lost) = (order(pile(1), 1), order(pile(1), 2));
    for order in [&kept, &lost] {
        let settled = site.ledger.settle(record(order, 1), Some((order.clone(), 0)), NOW).await;
        // Version 0 is nothing's: the store says so, and the session's copy is what it is made of.
        assert_eq!(settled.expect("settles").outcome, Settled::First);
    }
    let far_away = order(pile(3), 1);
    site.ledger.settle(record(&far_away, 1), None, NOW).await.expect("settles");
    site.far.lose(2);
    assert_eq!(site.ledger.record(pile(1), lost.serial).await, Ok(None));
    assert_ne!(site.ledger.record(pile(1), kept.serial).await, Ok(None));

    let of_one = [site.far.partition(pile(1))].into();
    let again = |records| Ok(Resettled { records, ..Resettled::default() });
    assert_eq!(site.ledger.resettle(&of_one).await, again(1), "what the store still has is known by its digest");
    assert_eq!(site.ledger.resettle(&of_one).await, again(0), "once is enough");
    site.drain().await;
    assert_eq!(site.ledger.record(pile(1), lost.serial).await, Ok(Some(record(&lost, 1))));
    let expected = [(Change::Settled, NOW, false), (Change::Settled, NOW, true)];
    assert_eq!(told(&*site.far, pile(1)).await, expected);
    assert_eq!(site.ledger.record(pile(3), far_away.serial).await, Ok(None), "not asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_goes_on_by_itself_when_the_store_is_back() {
    let site = Site::new().await;
    let mut fences = vec![];
    for n in 1..=100 {
        fences.push((n, site.claim(pile(n), n).await));
    }
    let drain = tokio::spawn(site.ledger.clone().drain());
    site.far.set(Mood::Away);
    for (n, fence) in &fences {
        for batch in 1..=3 {
            site.ledger.write(values::write_of(pile(*n), *n, batch, *fence)).await.expect("journals");
        }
    }
    assert_eq!(site.ledger.journal_depth(), 300);
    site.far.set(Mood::Here);
    within("the journal to be empty", site.ledger.drained()).await;
    for (n, fence) in fences {
        assert_eq!(told(&*site.far, pile(n)).await.len(), 3);
        site.ledger.write(values::write_of(pile(n), n, 4, fence)).await.expect("goes straight");
    }
    assert_eq!(site.ledger.journal_depth(), 0);
    drain.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_a_record_does_not_lose_it() {
    let site = Site::new().await;
    let order = order(pile(1), 1);
    site.far.set(Mood::Away);
    site.ledger.settle(record(&order, 1), None, NOW).await.expect("journals");
    let fence = Fence { session: session(1), epoch: pileway::domain::Epoch(1) };
    site.ledger.write(values::write_of(pile(1), 1, 1, fence)).await.expect("journals");
    site.far.set(Mood::Refusing);
    let round = site.ledger.drain_round().await;
    assert_eq!((round.set_aside, round.dropped), (1, 1), "{round:?}");
    assert_eq!(site.ledger.journal_depth(), 1, "a node does not end as if nothing were left");
    let site = site.killed().await;
    site.far.set(Mood::Here);
    site.drain().await;
    assert_eq!(site.ledger.record(pile(1), order.serial).await, Ok(Some(record(&order, 1))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_one_journal_for_one_process() {
    let site = Site::new().await;
    let second = Journal::open(journal::Config::new(site.dir.path())).await;
    assert!(matches!(second, Err(OpenError::Disk(_))), "in use");
    let other = tempfile::tempdir().expect("a directory");
    let store = pileway::store::embedded::Embedded::open(pileway::store::embedded::Config::new(other.path()));
    drop(store.expect("opens"));
    let store = Journal::open(journal::Config::new(other.path())).await;
    assert!(matches!(store, Err(OpenError::NotAJournal { .. })), "a store is no journal");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_is_shown_and_replayed_by_hand() {
    let site = Site::new().await;
    let (fence, one, two) = (site.claim(pile(1), 1).await, order(pile(1), 1), order(pile(1), 2));
    site.ledger.settle(record(&one, 1), None, NOW).await.expect("settles");
    site.far.set(Mood::Away);
    site.ledger.write(values::write_of(pile(1), 1, 1, fence)).await.expect("journals");
    site.ledger.settle(record(&two, 1), None, NOW).await.expect("journals");
    let Site { far, dir, ledger, .. } = site;
    drop(ledger);

    let mut text = vec![];
    show(dir.path(), NOW.plus_ms(61_000), pileway::cli::journal::Form::Table, &mut text).await.expect("shows");
    let text = String::from_utf8(text).expect("text");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[1].contains("batch") && lines[1].contains("pending"), "{text}");
    assert!(lines[2].contains(&two.serial.to_string()) && lines[2].contains("pending"), "{text}");
    assert!(lines[3].contains(&one.serial.to_string()) && lines[3].contains("settled"), "{text}");
    let mut json = vec![];
    show(dir.path(), NOW.plus_ms(61_000), pileway::cli::journal::Form::Json, &mut json).await.expect("shows");
    let entries: Vec<serde_json::Value> = json
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).expect("JSON"))
        .collect();
    assert_eq!(entries[1]["pile"], pile(1).to_string());
    assert_eq!((&entries[1]["kind"], &entries[1]["serial"]), (&"record".into(), &two.serial.to_string().into()));

    let (mut said, kept) = (vec![], Retention { orders: DAY, tombstones: DAY });
    let left = replay(dir.path(), far.clone(), kept, Duration::ZERO, &mut said).await.expect("replays");
    assert_eq!(left, Remaining(2), "the store is away");
    far.set(Mood::Here);
    let left = replay(dir.path(), far.clone(), kept, common::PATIENCE, &mut said).await.expect("replays");
    assert_eq!(left, Remaining(0), "{}", String::from_utf8_lossy(&said));
    let reader = Ledger::new(far.clone());
    assert_eq!(reader.record(pile(1), two.serial).await, Ok(Some(record(&two, 1))));
    let now =
        WallMs(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_millis() as i64);
    reader.expire(now).await.expect("expires");
    let kept = reader.record(pile(1), two.serial).await.expect("reads");
    assert!(kept.is_some(), "what was brought today goes tomorrow, whenever it happened");
    reader.expire(now.plus_ms(DAY.as_millis() as u64 + 1)).await.expect("expires");
    assert_eq!(reader.record(pile(1), two.serial).await, Ok(None));

    let nothing = tempfile::tempdir().expect("a directory");
    let missing = nothing.path().join("journal");
    assert!(show(&missing, NOW, pileway::cli::journal::Form::Table, &mut vec![]).await.is_err());
    assert!(!missing.exists(), "looking at a journal does not make one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_fenced_learns_it_when_the_store_is_there() {
    let site = Site::new().await;
    let old = site.claim(pile(1), 1).await;
    site.claim(pile(1), 2).await;
    let refused = site.ledger.write(values::write_of(pile(1), 1, 1, old)).await;
    assert_eq!(refused, Err(WriteError::Fenced));
    let kept = Journal::open(journal::Config::new(tempfile::tempdir().expect("a directory").path())).await;
    assert!(kept.expect("opens").list(Of::Pending, None).await.expect("lists").0.is_empty());
    assert_eq!(site.ledger.journal_depth(), 0);
}

const DAY: Duration = Duration::from_hours(24);

fn copy(from: &TempDir, to: &TempDir) {
    for file in std::fs::read_dir(from.path()).expect("reads") {
        let file = file.expect("reads");
        std::fs::copy(file.path(), to.path().join(file.file_name())).expect("copies");
    }
}
