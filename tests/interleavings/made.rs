//! Documents and events.

use pileway::domain::order::Change;
use pileway::domain::pile::{Identity, Presence, TariffOnPile};
use pileway::domain::record::RecordedPeriod;
use pileway::domain::{Amount, Energy, Event, EventKind, Gun, Order, Pile, PileCode, Record, Serial, WallMs};
use pileway::store::ledger::{Document, Expect, StartAttempt};

pub fn gun() -> Gun {
    Gun::new(1).expect("a gun")
}

pub fn of(order: &Order, change: Change, now: WallMs) -> Event {
    event(order.pile, EventKind::Order { order: Box::new(order.clone()), change }, now)
}

pub fn event(pile: PileCode, kind: EventKind, now: WallMs) -> Event {
    Event { pile, recorded_at: now, pile_time: None, kind }
}

pub fn presence(code: PileCode, presence: Presence, now: WallMs) -> Pile {
    Pile {
        code,
        identity: Identity { gun_count: 1, ..Identity::default() },
        presence,
        presence_since: now,
        last_seen: now,
        first_seen: now,
        address: "10.0.0.1:5".to_owned(),
        guns: vec![],
        tariff: TariffOnPile::default(),
    }
}

pub fn record(pile: PileCode, serial: Serial) -> Record {
    let zero = Energy(0);
    Record {
        pile,
        gun: gun(),
        serial,
        started: None,
        ended: None,
        traded: None,
        periods: [RecordedPeriod::default(); 4],
        meter_start: zero,
        meter_end: zero,
        total_energy: zero,
        total_loss_energy: zero,
        total_amount: Amount(0),
        vin: String::new(),
        start_type: 1,
        stop_reason: 0x40,
        stop_reason_name: String::new(),
        physical_card: [0; 8],
        code: 0x3B,
        body: serial.bytes().to_vec(),
    }
}

/// What a start leaves in the store besides its order.
pub fn attempt(order: &Order) -> Option<(Document, Expect)> {
    StartAttempt::of(order).map(|attempt| (Document::StartAttempt(attempt), Expect::Absent))
}
