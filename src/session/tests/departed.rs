//! What time decides about piles without a session, against a real store.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::domain::event::OfflineReason;
use crate::domain::order::{AnomalyKind, Change};
use crate::domain::pile::{Identity, Presence, TariffOnPile};
use crate::domain::{EventKind, Fence, Gun, Order, OrderState, Pile, PileCode, Serial, SessionId, WallMs};
use crate::session::departed::Absent;
use crate::session::{Departed, Now, Sessions, Watch};
use crate::store::embedded::{Config, Embedded};
use crate::store::ledger::{Document, Expect, Ledger, Write};
use crate::store::{BatchId, Claim};

const BEGUN: WallMs = WallMs(1_800_000_000_000);
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

/// Runs the watch as if `LATER` had come, until `events` have been told.
async fn watch(departed: Departed, ledger: &Ledger, events: usize) -> Vec<EventKind> {
    let mut feed = ledger.watch().await.expect("watches");
    let started = Instant::now().checked_sub(LATER).expect("a machine that has run for so long");
    let now = || Now { mono: LATER, wall: BEGUN.plus_ms(LATER.as_millis() as u64) };
    let lost_after = Duration::from_secs(40);
    let work = Watch { sessions: Sessions::new(8), ledger: ledger.clone(), started, lost_after };
    let task = tokio::spawn(departed.run(work, now));
    let mut told = vec![];
    while told.len() < events {
        let next = timeout(Duration::from_secs(30), feed.next()).await;
        told.push(next.expect("an event in time").expect("readable").event.kind);
    }
    task.abort();
    told
}

#[tokio::test]
async fn an_unanswered_start_of_a_pile_that_never_returns_fails_and_the_pile_is_reported_once() {
    let Left { ledger, fence, pile, order, _dir } = left().await;
    let departed = Departed::default();
    let (code, serial) = (pile.code, order.serial);
    let lost_at = Some(Duration::from_secs(40));
    let reason = OfflineReason::Disconnected;
    let begun = Now { mono: Duration::ZERO, wall: BEGUN };
    departed.left(begun, Absent { fence, pile, version: Some(1), lost_at, reason, orders: vec![(order, 1)] });
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
async fn the_next_run_of_the_node_judges_what_the_last_one_left() {
    let Left { ledger, pile, order, .. } = &left().await;
    let departed = Departed::default();
    let begun = Now { mono: Duration::ZERO, wall: BEGUN };
    departed.left_by_last_run(ledger, begun, Duration::from_secs(40)).await.expect("reads");
    let told = watch(departed, ledger, 3).await;
    assert!(
        told.iter().any(|kind| matches!(kind, EventKind::PileOffline { reason: OfflineReason::NodeRestarted, .. }))
    );
    let (stored, _) = ledger.order(pile.code, order.serial).await.expect("reads").expect("there");
    assert_eq!(stored.state, OrderState::Failed);
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
    departed.left(begun, Absent { fence, pile, version: Some(1), lost_at, reason, orders: vec![(order, 1)] });
    // A second pile, due later, shows that the first has been attended to.
    let Left { pile: mut other, .. } = left().await;
    other.code = "32010600019237".parse().expect("14 digits");
    let session = SessionId { incarnation: 7, counter: 2 };
    let other_fence = ledger.claim(Claim::login(other.code, session, BEGUN, 1)).await.expect("claims").fence;
    let lost_at = Some(Duration::from_secs(500));
    let absent = Absent { fence: other_fence, pile: other, version: None, lost_at, reason, orders: vec![] };
    departed.left(begun, absent);
    let told = watch(departed, &ledger, 1).await;
    assert!(matches!(&told[0], EventKind::PileOffline { pile, .. } if pile.code != code));
    let (stored, _) = ledger.order(code, serial).await.expect("reads").expect("there");
    assert_eq!(stored.state, OrderState::Requested);
}
