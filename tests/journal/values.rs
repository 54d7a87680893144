//! Short names for what the tests write.

use pileway::domain::order::Change;
use pileway::domain::record::RecordedPeriod;
use pileway::domain::{
    Amount, Energy, Event, EventKind, Fence, Gun, Order, PileCode, Price, Record, RequestId, Serial, SessionId, WallMs,
};
use pileway::store::ledger::{Document, Expect, StartAttempt, Write};
use pileway::store::{BatchId, Partition, Store, document};

pub const NOW: WallMs = WallMs(1_760_000_000_000);

pub fn pile(n: u64) -> PileCode {
    format!("{n:014}").parse().expect("14 digits")
}

pub fn session(counter: u64) -> SessionId {
    SessionId { incarnation: 7, counter }
}

pub fn order(pile: PileCode, n: u64) -> Order {
    let mut serial = [0; 16];
    serial[..7].copy_from_slice(&pile.bcd());
    serial[8..].copy_from_slice(&n.to_be_bytes());
    Order::requested(pile, gun(), Serial::from_bytes(serial), NOW)
}

pub fn of(order: &Order) -> Document {
    Document::Order(Box::new(order.clone()))
}

pub fn attempt(order: &Order, n: u8) -> Document {
    let id = RequestId::from_bytes([n; 16]);
    let Order { pile, serial, .. } = *order;
    Document::StartAttempt(StartAttempt { pile, id, arguments: 1, serial, created_at: NOW })
}

pub fn event(order: &Order, change: Change) -> Event {
    let kind = EventKind::Order { order: Box::new(order.clone()), change };
    Event { pile: order.pile, recorded_at: NOW, pile_time: None, kind }
}

/// Batch `n` of session `counter`, about pile 1.
pub fn write(counter: u64, n: u64, fence: Fence, documents: Vec<(Document, Expect)>, events: Vec<Event>) -> Write {
    let id = BatchId { session: session(counter), n };
    Write { id, pile: pile(1), fence: Some(fence), documents, events }
}

/// Batch `n` of session `counter`, one event about any pile.
pub fn write_of(pile: PileCode, counter: u64, n: u64, fence: Fence) -> Write {
    let events = vec![event(&order(pile, 1), Change::Created)];
    Write { pile, ..write(counter, n, fence, vec![], events) }
}

/// What the log tells of a pile's orders: what happened, when, and whether it is late. Fails on a number that is missing
/// or there twice.
pub async fn told(store: &dyn Store, pile: PileCode) -> Vec<(Change, WallMs, bool)> {
    let partition = Partition::of(pile, store.partitions());
    let entries = store.read_log(partition, 0, 1024).await.expect("reads");
    let of_pile = entries.into_iter().filter(|entry| entry.pile == pile);
    let mut told = vec![];
    for (seq, entry) in (1..).zip(of_pile) {
        assert_eq!(entry.seq, seq, "gapless");
        let document::StoredEvent { event, late } =
            document::read_stored_event("of the log", &entry.payload).expect("reads");
        if let EventKind::Order { change, .. } = event.kind {
            told.push((change, event.recorded_at, late));
        }
    }
    told
}

fn gun() -> Gun {
    Gun::new(1).expect("a gun")
}

/// What the pile bills for `order`; another `variant` bills something else.
pub fn record(order: &Order, variant: u8) -> Record {
    let period = RecordedPeriod { unit_price: Price(1), energy: Energy(1), loss_energy: Energy(1), amount: Amount(1) };
    Record {
        pile: order.pile,
        gun: order.gun,
        serial: order.serial,
        started: None,
        ended: None,
        traded: None,
        periods: [period; 4],
        meter_start: Energy(1),
        meter_end: Energy(5),
        total_energy: Energy(4),
        total_loss_energy: Energy(4),
        total_amount: Amount(4),
        vin: String::new(),
        start_type: 1,
        stop_reason: 0x40,
        stop_reason_name: "Finished".to_owned(),
        physical_card: [1; 8],
        code: 0x3B,
        body: [&[variant], &order.serial.bytes()[..], &[0; 140]].concat(),
    }
}
