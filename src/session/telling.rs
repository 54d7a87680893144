//! What an event is about and what it weighs: which of them may share a batch, and with which documents.

use crate::domain::{Event, EventKind, Order, Pile, Serial};
use crate::store::Batch;

pub fn is_about_pile(kind: &EventKind) -> bool {
    match kind {
        EventKind::PileOnline(_)
        | EventKind::PileOffline { .. }
        | EventKind::GunChanged(_)
        | EventKind::AlarmRaised { .. }
        | EventKind::AlarmCleared { .. } => true,
        EventKind::Order { .. }
        | EventKind::Bms { .. }
        | EventKind::RecordConflict { .. }
        | EventKind::DuplicatePileCode { .. } => false,
    }
}

pub fn is_about_order(kind: &EventKind, serial: Serial) -> bool {
    order_of(kind).is_some_and(|order| order.serial == serial)
}

/// Whether one happening has changed the order in both ways: a document that says one says the other, too.
pub fn is_told_with(one: &Event, next: &Event) -> bool {
    let (EventKind::Order { order, .. }, EventKind::Order { order: next, .. }) = (&one.kind, &next.kind) else {
        return false;
    };
    order.serial == next.serial && order.updated_at == next.updated_at
}

/// The order it is about, as it was when this was told.
pub fn order_of(kind: &EventKind) -> Option<&Order> {
    match kind {
        EventKind::Order { order, .. } => Some(order),
        EventKind::Bms { order, .. } => order.as_deref(),
        EventKind::PileOnline(_)
        | EventKind::PileOffline { .. }
        | EventKind::GunChanged(_)
        | EventKind::AlarmRaised { .. }
        | EventKind::AlarmCleared { .. }
        | EventKind::RecordConflict { .. }
        | EventKind::DuplicatePileCode { .. } => None,
    }
}

/// At least what it takes in a batch, in bytes.
pub fn weight_of(kind: &EventKind) -> usize {
    match kind {
        EventKind::PileOnline(pile)
        | EventKind::PileOffline { pile, .. }
        | EventKind::GunChanged(pile)
        | EventKind::AlarmRaised { pile, .. }
        | EventKind::AlarmCleared { pile, .. }
        | EventKind::DuplicatePileCode { pile, .. } => weight_of_pile(pile),
        EventKind::Order { order, .. } => weight_of_order(order),
        EventKind::Bms { order, .. } => 1024 + order.as_ref().map_or(0, |order| weight_of_order(order)),
        EventKind::RecordConflict { .. } => 64,
    }
}

pub fn weight_of_pile(pile: &Pile) -> usize {
    512 + 32 * pile.guns.len() + 16 * pile.alarms()
}

pub fn weight_of_order(order: &Order) -> usize {
    let attributes = order.attributes.iter().map(|(key, value)| 16 + key.len() + value.len());
    let vehicle = if order.vehicle.is_some() { 2048 } else { 0 };
    1024 + vehicle + order.order_id.len() + attributes.sum::<usize>()
}

/// Documents and events of one batch, each: it is bounded in operations.
pub const PER_BATCH: usize = 16;
/// What a batch may weigh before one more event goes in: it is bounded in bytes, and refused whole beyond.
pub const BATCH_WEIGHT: usize = Batch::MAX_BYTES / 2;
