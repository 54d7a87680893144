//! A journal whose disk is full.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::domain::record::RecordedPeriod;
use crate::domain::{Amount, Energy, Gun, Price, SessionId, WallMs};
use crate::store::embedded::tests::on_a_disk_that_fills_up;
use crate::store::embedded::{Config, Embedded};

pub(crate) const NOW: WallMs = WallMs(1_760_000_000_000);

/// A ledger whose store is there and whose journal's disk is full as soon as the flag says so.
async fn ledger(dir: &Path) -> (Ledger, Arc<AtomicBool>) {
    let store = Embedded::open(Config::new(dir.join("store"))).expect("opens");
    let place = dir.join("journal");
    std::fs::create_dir(&place).expect("a directory");
    let (disk, full) = on_a_disk_that_fills_up(&place);
    let clock: super::super::journal::Clock = Arc::new(|| NOW);
    let journal =
        Journal::on(disk, place, (Duration::from_hours(1), Duration::from_mins(1)), clock).await.expect("opens");
    (Ledger::with_journal(Arc::new(store), journal), full)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_journal_cannot_be_written_no_record_is_acknowledged_and_nothing_starts() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ledger, full) = ledger(dir.path()).await;
    assert_eq!(ledger.journal_health(), Ok(()));
    let session = SessionId { incarnation: 1, counter: 1 };
    let fence = ledger.claim(Claim::login(pile(), session, NOW, 1)).await.expect("claims").fence;
    let start = |n| Write { fence: Some(fence), ..start(n) };
    ledger.write(start(1)).await.expect("starts while the disk has room");

    full.store(true, Ordering::SeqCst);
    for n in 0..8 {
        let refused = ledger.settle(record(n), None, NOW).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "acknowledged from a full disk: {refused:?}");
        assert_eq!(ledger.record(pile(), serial(n)).await, Ok(None), "nor does the store have it");
    }
    assert!(ledger.journal_health().is_err());
    let refused = ledger.write(start(2)).await;
    assert!(matches!(refused, Err(WriteError::Store(StoreError::Unavailable(_)))), "started: {refused:?}");
    // Nor does a charge that somebody at the pile has asked for, without a request id.
    let alone = |order| Write { documents: vec![(Document::Order(Box::new(order)), Expect::Absent)], ..start(3) };
    let refused = ledger.write(alone(Order::requested(pile(), gun(), serial(3), NOW))).await;
    assert!(matches!(refused, Err(WriteError::Store(StoreError::Unavailable(_)))), "started: {refused:?}");
    // Anything else needs no journal while the store is there.
    let mut order = Order::adopted(pile(), gun(), serial(3), NOW);
    order.state = OrderState::Charging;
    let adopted = alone(order);
    assert_eq!(ledger.write(adopted).await, Ok(vec![1]));
    // Nor does an order that is put again, which the pile has had for long.
    let again = Write { fence: None, ..start(5) };
    assert_eq!(ledger.write(again).await, Ok(vec![1, 1]));
    assert_eq!(ledger.journal_depth(), 0, "nobody was told that anything waits");

    full.store(false, Ordering::SeqCst);
    let mended = async {
        while ledger.journal_health().is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), mended).await.expect("mended by itself");
    let settled = ledger.settle(record(1), None, NOW).await.expect("settles");
    assert_eq!(settled.outcome, Settled::First);
    ledger.write(start(6)).await.expect("starts again");
    ledger.drain_round().await;
    assert_eq!(ledger.journal_depth(), 0);
}

fn pile() -> PileCode {
    PileCode::from_bcd([0; 7]).expect("a pile")
}

fn gun() -> Gun {
    Gun::new(1).expect("a gun")
}

fn serial(n: u8) -> Serial {
    Serial::from_bytes([n; 16])
}

fn start(n: u8) -> Write {
    let order = Order::requested(pile(), gun(), serial(n), NOW);
    let id = RequestId::from_bytes([n; 16]);
    let attempt = StartAttempt { pile: pile(), id, arguments: 1, serial: serial(n), created_at: NOW };
    Write {
        id: BatchId { session: SessionId { incarnation: 1, counter: 1 }, n: u64::from(n) },
        pile: pile(),
        fence: None,
        documents: vec![
            (Document::StartAttempt(attempt), Expect::Absent),
            (Document::Order(Box::new(order)), Expect::Absent),
        ],
        events: vec![],
    }
}

pub(crate) fn record(n: u8) -> Record {
    let none = RecordedPeriod { unit_price: Price(0), energy: Energy(0), loss_energy: Energy(0), amount: Amount(0) };
    Record {
        pile: pile(),
        gun: gun(),
        serial: serial(n),
        started: None,
        ended: None,
        traded: None,
        periods: [none; 4],
        meter_start: Energy(0),
        meter_end: Energy(0),
        total_energy: Energy(0),
        total_loss_energy: Energy(0),
        total_amount: Amount(0),
        vin: String::new(),
        start_type: 1,
        stop_reason: 0x40,
        stop_reason_name: String::new(),
        physical_card: [0; 8],
        code: 0x3B,
        body: vec![n; 150],
    }
}
