//! Settling: what a record does to its order, whoever brings it how often.

use super::{Ledger, Retention, SettledOrder, versioned};
use crate::domain::order::{Change, Happening};
use crate::domain::{Event, EventKind, Order, PileCode, Record, Serial, WallMs};
use crate::observe;
use crate::store::{Append, Batch, Precondition, Settled, Settlement, StoreError, document};

impl Ledger {
    /// Makes a record durable and its order settled, once, whoever does it how often: a copy is [`Settled::Again`], a
    /// record that says something else is kept beside the first (up to [`Settlement::MAX_CONFLICTS`] of them) and flagged
    /// on the order.
    ///
    /// `latest` is the caller's own copy of the order and the version it rests on, 0 if it is not stored; without it the stored order is
    /// taken, and a serial never seen makes an adopted one. If the stored order has moved on meanwhile, it is taken,
    /// with what only the caller's copy knows, and tried again.
    ///
    /// With a journal the record is durable there before the store is asked, and if the store is away, that is enough:
    /// [`Settled::Journaled`]. If the journal cannot take it, it is an error, whatever the store says.
    pub async fn settle(
        &self,
        record: Record,
        latest: Option<(Order, u64)>,
        now: WallMs,
    ) -> Result<SettledOrder, StoreError> {
        // Boxed: an order with its bill is large, and each step of this holds some.
        match &self.journal {
            None => Box::pin(self.settle_in_store(&record, latest, now, Told::AtOnce)).await,
            Some(journal) => Box::pin(self.settle_journaled(journal, record, latest, now)).await,
        }
    }

    pub(super) async fn settle_in_store(
        &self,
        record: &Record,
        latest: Option<(Order, u64)>,
        now: WallMs,
        told: Told,
    ) -> Result<SettledOrder, StoreError> {
        let ours = latest.as_ref().map(|(order, _)| order.clone());
        let base = match latest {
            Some(latest) => Some(latest),
            None => self.order(record.pile, record.serial).await?,
        };
        self.settle_from(record, base, ours.as_ref(), now, told).await
    }

    /// `base` is the order as it is taken to be stored, `ours` the caller's copy of it.
    pub(super) async fn settle_from(
        &self,
        record: &Record,
        mut base: Option<(Order, u64)>,
        ours: Option<&Order>,
        now: WallMs,
        told: Told,
    ) -> Result<SettledOrder, StoreError> {
        let Record { pile, serial, .. } = *record;
        let key = document::order_key(pile, serial);
        for _ in 0..SETTLE_ATTEMPTS {
            let (mut order, order_is, version) = if let Some((order, version)) = base {
                (order, Precondition::Version(key.clone(), version), version + 1)
            } else {
                // The caller may know an order that the store has lost.
                let order = ours.cloned().unwrap_or_else(|| Order::billed(record, now));
                (order, Precondition::Absent(key.clone()), 1)
            };
            let changes = order.apply(now, Happening::Recorded(Box::new(record.clone())));
            let settlement = settlement(record, (&order, &changes), order_is, (now, told), &self.retention);
            match self.store.settle(settlement).await {
                Ok(outcome @ Settled::First) => {
                    tell_anomalies(&order, &changes);
                    return Ok(SettledOrder { outcome, order: Some(order), version });
                }
                // A store does not answer `Journaled`.
                Ok(outcome @ (Settled::Again | Settled::Journaled)) => {
                    return self.settled(pile, serial, outcome).await;
                }
                Ok(outcome @ Settled::Conflict { .. }) => {
                    self.flag_conflict(pile, serial, now, told).await?;
                    return self.settled(pile, serial, outcome).await;
                }
                Err(StoreError::Conflict { current, .. }) => {
                    let stored = current.map(|stored| versioned(stored, |value| document::read_order(&key, value)));
                    base = stored.transpose()?.map(|(stored, version)| (merged(stored, ours), version));
                }
                Err(
                    error @ (StoreError::Unavailable(_)
                    | StoreError::Contested { .. }
                    | StoreError::Superseded { .. }
                    | StoreError::Invalid(_)),
                ) => {
                    return Err(error);
                }
            }
        }
        Err(StoreError::Unavailable(format!("order {serial} of pile {pile} kept changing while it was settled")))
    }

    async fn settled(&self, pile: PileCode, serial: Serial, outcome: Settled) -> Result<SettledOrder, StoreError> {
        let (order, version) = self.order(pile, serial).await?.unzip();
        Ok(SettledOrder { outcome, order, version: version.unwrap_or(0) })
    }

    /// The anomaly on the order, and its event: once, however often conflicting copies come. Not in the settlement's
    /// own transaction: if it fails in between, the next copy brings it (0x40 has not been sent).
    async fn flag_conflict(&self, pile: PileCode, serial: Serial, now: WallMs, told: Told) -> Result<(), StoreError> {
        for _ in 0..SETTLE_ATTEMPTS {
            let Some((mut order, version)) = self.order(pile, serial).await? else { return Ok(()) };
            let changes = order.apply(now, Happening::ConflictingRecord);
            if changes.is_empty() {
                return Ok(());
            }
            let put = document::put_order(&order, &self.retention);
            let append = changes.iter().map(|change| told.append(&order_event(&order, *change, now)));
            let batch = Batch {
                id: None,
                require: vec![Precondition::Version(put.key.clone(), version)],
                put: vec![put],
                delete: vec![],
                append: append.collect(),
            };
            match self.store.commit(self.partition(pile), batch).await {
                Ok(_) => {
                    tell_anomalies(&order, &changes);
                    return Ok(());
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(
                    error @ (StoreError::Unavailable(_)
                    | StoreError::Contested { .. }
                    | StoreError::Superseded { .. }
                    | StoreError::Invalid(_)),
                ) => {
                    return Err(error);
                }
            }
        }
        Err(StoreError::Unavailable(format!("order {serial} of pile {pile} kept changing while it was flagged")))
    }
}

/// When an event is appended.
#[derive(Clone, Copy)]
pub(super) enum Told {
    /// As it happens.
    AtOnce,
    /// After it has waited in the journal.
    Late,
}

impl Told {
    pub(super) fn append(self, event: &Event) -> Append {
        match self {
            Self::AtOnce => document::append(event),
            Self::Late => document::late(document::append(event)),
        }
    }
}

/// `changes` are empty if the order was settled, and its record is lost.
fn settlement(
    record: &Record,
    (order, changes): (&Order, &[Change]),
    order_is: Precondition,
    (now, told): (WallMs, Told),
    retention: &Retention,
) -> Settlement {
    let Record { pile, serial, .. } = *record;
    let changes = if changes.is_empty() { &[Change::Settled] } else { changes };
    let conflict = EventKind::RecordConflict { serial };
    Settlement {
        record: document::record_key(pile, serial),
        digest: document::record_digest(record),
        value: document::record_value(record),
        due: retention.record_due(now),
        order: document::put_order(order, retention),
        order_is,
        events: changes.iter().map(|change| told.append(&order_event(order, *change, now))).collect(),
        conflict: document::put_record_conflict(record),
        conflict_event: told.append(&Event { pile, recorded_at: now, pile_time: record.traded, kind: conflict }),
    }
}

pub(super) fn order_event(order: &Order, change: Change, now: WallMs) -> Event {
    // The pile's clock is said by the record, and only there.
    let pile_time = match (change, &order.bill) {
        (Change::Settled, Some(bill)) => bill.record.traded,
        _ => None,
    };
    Event {
        pile: order.pile,
        recorded_at: now,
        pile_time,
        kind: EventKind::Order { order: Box::new(order.clone()), change },
    }
}

/// What a record brings to light is counted here, where it becomes stored, whichever way it came.
fn tell_anomalies(order: &Order, changes: &[Change]) {
    let Order { pile, gun, serial, .. } = order;
    for change in changes {
        if let Change::Anomaly(kind) = change {
            observe::anomaly(kind.name());
            tracing::warn!(%pile, %gun, %serial, kind = kind.name(), "order anomaly");
        }
    }
}

/// The stored order with what only the caller's copy knows: sightings are in memory before they are stored, and the
/// tariff decides how the bill is split. Decisions are the stored order's.
pub(super) fn merged(mut stored: Order, ours: Option<&Order>) -> Order {
    let Some(ours) = ours else { return stored };
    if ours.last.map(|m| m.at) > stored.last.map(|m| m.at) {
        stored.last = ours.last;
    }
    stored.tariff = stored.tariff.or_else(|| ours.tariff.clone());
    stored.accepted_at = stored.accepted_at.or(ours.accepted_at);
    stored.charging_at = stored.charging_at.or(ours.charging_at);
    stored.ended_at = stored.ended_at.or(ours.ended_at);
    stored.stop = stored.stop.or(ours.stop);
    stored.vehicle = match (stored.vehicle, ours.vehicle.clone()) {
        (Some(stored), Some(ours)) => Some(Box::new(stored.merged(*ours))),
        (stored, ours) => stored.or(ours),
    };
    stored
}

/// How often a settlement meets an order that has changed since it was read. Only the pile's owner writes the order, so
/// two is already rare.
const SETTLE_ATTEMPTS: usize = 16;
