//! What time decides about piles without a session, against a real store.

mod lost;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::domain::event::OfflineReason;
use crate::domain::order::{AnomalyKind, Change, Happening, Metered, StopCause};
use crate::domain::pile::{Identity, Presence, TariffOnPile};
use crate::domain::{
    Amount, Energy, EventKind, Fence, Gun, Order, OrderState, Pile, PileCode, Serial, SessionId, WallMs,
};
use crate::session::absent::Absent;
use crate::session::{Departed, Now, Sessions, Watch};
use crate::store::embedded::{Config, Embedded};
use crate::store::journal::{self, Journal};
use crate::store::ledger::{Document, Expect, Ledger, Write};
use crate::store::{BatchId, Claim, EventWatch, Orphan, Partition, Seen, Store};

use super::node::{Switched, until};

const BEGUN: WallMs = WallMs(1_800_000_000_000);
const NOW: Now = Now { mono: Duration::ZERO, wall: BEGUN };
/// Long after every deadline.
const LATER: Duration = Duration::from_secs(1000);

struct Left {
    ledger: Ledger,
    fence: Fence,
    pile: Pile,
    order: Order,
    _dir: tempfile::TempDir,
}

/// A pile that went away with a start unanswered.
async fn left() -> Left {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Embedded::open(Config::new(dir.path())).expect("opens");
    let ledger = Ledger::new(Arc::new(store));
    let code: PileCode = "32010600019236".parse().expect("14 digits");
    let session = SessionId { incarnation: 7, counter: 1 };
    let fence = ledger.claim(Claim::login(code, session, BEGUN, 1)).await.expect("claims").fence;
    let pile = Pile {
        code,
        identity: Identity::default(),
        presence: Presence::Online,
        presence_since: BEGUN,
        last_seen: BEGUN,
        first_seen: BEGUN,
        address: String::new(),
        guns: vec![],
        tariff: TariffOnPile::default(),
    };
    let order = Order::requested(code, Gun::new(1).expect("a gun"), Serial::from_bytes([3; 16]), BEGUN);
    let documents = vec![
        (Document::Pile(Box::new(pile.clone())), Expect::Absent),
        (Document::Order(Box::new(order.clone())), Expect::Absent),
    ];
    let write = Write { id: BatchId { session, n: 1 }, pile: code, fence: Some(fence), documents, events: vec![] };
    assert_eq!(ledger.write(write).await.expect("writes"), [1, 1]);
    Left { ledger, fence, pile, order, _dir: dir }
}

/// A watch that runs as if `LATER` had come.
struct Watched {
    ledger: Ledger,
    feed: EventWatch,
    task: JoinHandle<()>,
}

impl Watched {
    async fn over(departed: &Departed, ledger: &Ledger) -> Self {
        let feed = ledger.watch().await.expect("watches");
        let started = Instant::now().checked_sub(LATER).expect("a machine that has run for so long");
        let now = || Now { mono: LATER, wall: BEGUN.plus_ms(LATER.as_millis() as u64) };
        let lost_after = Duration::from_secs(40);
        let work = Watch { sessions: Sessions::new(8), ledger: ledger.clone(), started, lost_after };
        let task = tokio::spawn(departed.clone().run(work, now));
        Self { ledger: ledger.clone(), feed, task }
    }

    /// The next events.
    async fn tells(&mut self, events: usize) -> Vec<EventKind> {
        let mut told = vec![];
        while told.len() < events {
            let next = timeout(Duration::from_secs(30), self.feed.next()).await;
            let Seen::Event(stamped) = next.expect("an event in time").expect("readable") else { panic!("a gap") };
            told.push(stamped.event.kind);
        }
        told
    }

    /// Until nobody owns the pile.
    async fn releases(&self, pile: PileCode) {
        let released = async {
            while self.ledger.owner(pile).await.expect("reads").is_some() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), released).await.expect("released in time");
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Events that a watch tells.
async fn watch(departed: Departed, ledger: &Ledger, events: usize) -> Vec<EventKind> {
    Watched::over(&departed, ledger).await.tells(events).await
}

#[tokio::test]
async fn an_unanswered_start_of_a_pile_that_never_returns_fails_and_the_pile_is_reported_once() {
    let Left { ledger, fence, pile, order, _dir } = left().await;
    let departed = Departed::default();
    let (code, serial) = (pile.code, order.serial);
    let lost_at = Some(Duration::from_secs(40));
    let reason = OfflineReason::Disconnected;
    let begun = Now { mono: Duration::ZERO, wall: BEGUN };
    departed.left(
        begun,
        Absent {
            fence,
            pile,
            version: Some(1),
            lost_at,
            reason,
            orders: vec![(order, 1)],
            elsewhere: false,
            losses: 0,
        },
    );
    let told = watch(departed, &ledger, 3).await;
    assert!(matches!(told[0], EventKind::PileOffline { reason: OfflineReason::Disconnected, .. }));
    let changes = told[1..].iter().map(|kind| match kind {
        EventKind::Order { change, .. } => *change,
        other => panic!("{other:?}"),
    });
    let changes: Vec<_> = changes.collect();
    assert_eq!(changes, [Change::Anomaly(AnomalyKind::StartTimeout), Change::Failed]);
    let (stored, _) = ledger.order(code, serial).await.expect("reads").expect("there");
    assert_eq!(stored.state, OrderState::Failed);
    assert_eq!(ledger.pile(code).await.expect("reads").expect("there").presence, Presence::Offline);
}

#[tokio::test]
async fn what_a_run_that_is_over_has_left_is_judged_by_whoever_adopts_it_and_then_released() {
    let Left { ledger, fence, pile, order, .. } = &left().await;
    let departed = Departed::default();
    let (begun, lost_after) = (Now { mono: Duration::ZERO, wall: BEGUN }, Duration::from_secs(40));
    let orphan = Orphan { pile: pile.code, fence: *fence };
    // The sweep comes by again and again.
    for _ in 0..3 {
        departed.adopt(ledger, begun, orphan, lost_after).await.expect("reads");
    }
    let mut watched = Watched::over(&departed, ledger).await;
    let told = watched.tells(3).await;
    assert!(told.iter().any(|kind| matches!(kind, EventKind::PileOffline { reason: OfflineReason::NodeLost, .. })));
    let (stored, _) = ledger.order(pile.code, order.serial).await.expect("reads").expect("there");
    assert_eq!(stored.state, OrderState::Failed);
    watched.releases(pile.code).await;
}

#[tokio::test]
async fn an_orphan_with_nothing_due_is_released_and_one_that_was_claimed_since_is_left_alone() {
    let Left { ledger, fence, mut pile, mut order, _dir } = left().await;
    (pile.presence, order.state) = (Presence::Offline, OrderState::Abnormal);
    let documents = vec![
        (Document::Pile(Box::new(pile.clone())), Expect::Version(1)),
        (Document::Order(Box::new(order)), Expect::Version(1)),
    ];
    let id = BatchId { session: fence.session, n: 2 };
    let write = Write { id, pile: pile.code, fence: Some(fence), documents, events: vec![] };
    ledger.write(write).await.expect("writes");
    let (begun, lost_after) = (Now { mono: Duration::ZERO, wall: BEGUN }, Duration::from_secs(40));
    let departed = Departed::default();
    let stale = Fence { epoch: crate::domain::Epoch(fence.epoch.0 - 1), ..fence };
    departed.adopt(&ledger, begun, Orphan { pile: pile.code, fence: stale }, lost_after).await.expect("reads");
    departed.adopt(&ledger, begun, Orphan { pile: pile.code, fence }, lost_after).await.expect("reads");
    Watched::over(&departed, &ledger).await.releases(pile.code).await;
    assert_eq!(ledger.pile(pile.code).await.expect("reads").expect("there").presence_since, BEGUN, "nothing was told");
}

#[tokio::test]
async fn a_pile_that_was_heard_elsewhere_is_judged_only_if_the_store_says_it_is_still_ours() {
    let Left { ledger, fence, pile, order, _dir } = left().await;
    let (code, serial) = (pile.code, order.serial);
    let departed = Departed::default();
    let (begun, lost_at) = (Now { mono: Duration::ZERO, wall: BEGUN }, Some(Duration::from_secs(40)));
    let reason = OfflineReason::Disconnected;
    departed.left(
        begun,
        Absent {
            fence,
            pile,
            version: Some(1),
            lost_at,
            reason,
            orders: vec![(order, 1)],
            elsewhere: false,
            losses: 0,
        },
    );
    departed.heard_elsewhere(code);
    // The order's deadlines go on; that the pile is gone is not told before it has had its time again.
    let told = watch(departed, &ledger, 2).await;
    assert!(told.iter().all(|kind| matches!(kind, EventKind::Order { .. })), "{told:?}");
    let (stored, _) = ledger.order(code, serial).await.expect("reads").expect("there");
    assert_eq!(stored.state, OrderState::Failed);
    assert_eq!(ledger.pile(code).await.expect("reads").expect("there").presence, Presence::Online);
}

#[tokio::test]
async fn a_newer_claim_elsewhere_silences_the_watch_over_an_absent_pile() {
    let Left { fence, pile, order, .. } = left().await;
    let code = pile.code;
    let departed = Departed::default();
    let begun = Now { mono: Duration::ZERO, wall: BEGUN };
    let (lost_at, reason) = (Some(Duration::from_secs(40)), OfflineReason::Disconnected);
    departed.left(
        begun,
        Absent {
            fence,
            pile,
            version: Some(1),
            lost_at,
            reason,
            orders: vec![(order, 1)],
            elsewhere: false,
            losses: 0,
        },
    );
    departed.claimed_elsewhere(code, Fence { epoch: fence.epoch, ..fence });
    assert_eq!(departed.watched(), 1, "an eviction that is no newer silences nobody");
    departed.claimed_elsewhere(code, Fence { epoch: crate::domain::Epoch(fence.epoch.0 + 1), ..fence });
    assert_eq!(departed.watched(), 0);
}

#[tokio::test]
async fn a_pile_somebody_else_has_claimed_since_is_theirs_to_judge() {
    let Left { ledger, fence, pile, order, _dir } = left().await;
    let (code, serial) = (pile.code, order.serial);
    let theirs = SessionId { incarnation: 9, counter: 1 };
    ledger.claim(Claim::login(code, theirs, BEGUN, 1)).await.expect("claims");
    let departed = Departed::default();
    let begun = Now { mono: Duration::ZERO, wall: BEGUN };
    let (lost_at, reason) = (Some(Duration::from_secs(40)), OfflineReason::Disconnected);
    departed.left(
        begun,
        Absent {
            fence,
            pile,
            version: Some(1),
            lost_at,
            reason,
            orders: vec![(order, 1)],
            elsewhere: false,
            losses: 0,
        },
    );
    // A second pile, due later, shows that the first has been attended to.
    let Left { pile: mut other, .. } = left().await;
    other.code = "32010600019237".parse().expect("14 digits");
    let session = SessionId { incarnation: 7, counter: 2 };
    let other_fence = ledger.claim(Claim::login(other.code, session, BEGUN, 1)).await.expect("claims").fence;
    let lost_at = Some(Duration::from_secs(500));
    let absent = Absent {
        fence: other_fence,
        pile: other,
        version: None,
        lost_at,
        reason,
        orders: vec![],
        elsewhere: false,
        losses: 0,
    };
    departed.left(begun, absent);
    let told = watch(departed, &ledger, 1).await;
    assert!(matches!(&told[0], EventKind::PileOffline { pile, .. } if pile.code != code));
    let (stored, _) = ledger.order(code, serial).await.expect("reads").expect("there");
    assert_eq!(stored.state, OrderState::Requested);
}

#[tokio::test]
async fn a_pile_whose_claim_the_store_has_lost_is_judged_all_the_same() {
    for released in [false, true] {
        let Left { ledger, fence, pile, order, _dir } = left().await;
        let (code, serial) = (pile.code, order.serial);
        if released {
            assert!(ledger.release(code, fence).await.expect("reads"));
        }
        // What the store knew before it lost its last writes: an older session.
        let epoch = crate::domain::Epoch(fence.epoch.0 + 1);
        let lost = Fence { session: SessionId { incarnation: 7, counter: 2 }, epoch };
        let departed = Departed::default();
        let (begun, lost_at) = (Now { mono: Duration::ZERO, wall: BEGUN }, Some(Duration::from_secs(40)));
        let (reason, orders) = (OfflineReason::Disconnected, vec![(order, 1)]);
        let absent =
            Absent { fence: lost, pile, version: Some(1), lost_at, reason, orders, elsewhere: false, losses: 0 };
        departed.left(begun, absent);
        let told = watch(departed.clone(), &ledger, 2).await;
        assert!(told.iter().all(|kind| matches!(kind, EventKind::Order { .. })), "{told:?}");
        assert_eq!(ledger.order(code, serial).await.expect("reads").expect("there").0.state, OrderState::Failed);
        let owner = ledger.owner(code).await.expect("reads").expect("claimed again");
        assert!(owner.session == lost.session && owner.epoch > lost.epoch, "{owner:?}");
    }
}

#[tokio::test]
async fn nothing_is_decided_while_the_store_is_away_for_the_pile_may_be_elsewhere() {
    let Left { fence, pile, order, .. } = left().await;
    let dir = tempfile::tempdir().expect("a directory");
    let store = Switched::on(&dir.path().join("store"));
    let journal = Journal::open(journal::Config::new(dir.path().join("journal"))).await.expect("opens");
    let ledger = Ledger::with_journal(store.clone(), journal);
    store.away.store(true, Ordering::SeqCst);

    let (departed, code) = (Departed::default(), pile.code);
    let (begun, lost_at) = (Now { mono: Duration::ZERO, wall: BEGUN }, Some(Duration::from_secs(40)));
    let (reason, orders) = (OfflineReason::Disconnected, vec![(order, 1)]);
    departed
        .left(begun, Absent { fence, pile, version: Some(1), lost_at, reason, orders, elsewhere: false, losses: 0 });
    let started = Instant::now().checked_sub(LATER).expect("a machine that has run for so long");
    let now = move || Now { mono: started.elapsed(), wall: BEGUN.plus_ms(started.elapsed().as_millis() as u64) };
    let lost_after = Duration::from_secs(40);
    let work = Watch { sessions: Sessions::new(8), ledger: ledger.clone(), started, lost_after };
    let task = tokio::spawn(departed.clone().run(work, now));
    until("the watch to have looked again", async || store.looked.load(Ordering::SeqCst) > 1).await;

    let theirs = SessionId { incarnation: 9, counter: 1 };
    store.store.claim(Claim::login(code, theirs, BEGUN.plus_ms(1), 1)).await.expect("claims");
    store.away.store(false, Ordering::SeqCst);
    until("the pile to be left to its owner", async || departed.watched() == 0).await;
    let partition = Partition::of(code, store.partitions());
    assert_eq!((ledger.journal_depth(), store.log_end(partition).await), (0, Ok(0)), "nothing was told");
    task.abort();
}

#[tokio::test]
async fn a_stop_whose_pile_does_not_return_in_time_expires_and_that_is_told_once() {
    let Left { ledger, fence, pile, order, .. } = &left().await;
    let mut order = order.clone();
    let metered = Metered { at: BEGUN, energy: Energy(1), amount: Amount(1), soc_percent: 0 };
    order.apply(BEGUN, Happening::Accepted);
    order.apply(BEGUN, Happening::Charging(metered));
    // It is being stopped, and was last heard to charge on: another 0x36 is for its next session, if it comes in time.
    order.apply(BEGUN, Happening::StopRequested(StopCause::Caller));
    order.apply(BEGUN, Happening::Charging(metered));
    order.apply(BEGUN, Happening::StopPlanned { expires_at: BEGUN.plus_ms(60_000) });
    let write = Write {
        id: BatchId { session: fence.session, n: 2 },
        pile: pile.code,
        fence: Some(*fence),
        documents: vec![(Document::Order(Box::new(order.clone())), Expect::Version(1))],
        events: vec![],
    };
    ledger.write(write).await.expect("writes");
    let departed = Departed::default();
    let begun = Now { mono: Duration::ZERO, wall: BEGUN };
    let (serial, reason) = (order.serial, OfflineReason::Disconnected);
    let absent = Absent {
        fence: *fence,
        pile: pile.clone(),
        version: Some(1),
        lost_at: None,
        reason,
        orders: vec![(order, 2)],
        elsewhere: false,
        losses: 0,
    };
    departed.left(begun, absent);
    let mut watched = Watched::over(&departed, ledger).await;
    let told = watched.tells(1).await;
    assert!(matches!(told[..], [EventKind::Order { change: Change::StopExpired, .. }]), "{told:?}");
    watched.releases(pile.code).await;
    let (stored, _) = ledger.order(pile.code, serial).await.expect("reads").expect("there");
    assert_eq!((stored.state, stored.stop_at_login), (OrderState::Stopping, None));
}
