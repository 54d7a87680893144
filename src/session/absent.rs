//! A pile without a session, and what time decides about it: that it is offline, and what becomes of its open orders.

use std::time::Duration;

use super::Now;
use super::held::tell_operator;
use crate::domain::event::OfflineReason;
use crate::domain::pile::Presence;
use crate::domain::{Event, EventKind, Fence, Order, Pile};
use crate::store::ledger::{Document, Expect};

/// A pile without a session, as its last one left it.
pub struct Absent {
    pub fence: Fence,
    pub pile: Pile,
    pub version: Option<u64>,
    /// When to report it offline, on the node's monotonic clock; `None`: that has been done.
    pub lost_at: Option<Duration>,
    pub reason: OfflineReason,
    /// Its open orders and their stored versions.
    pub orders: Vec<(Order, u64)>,
    /// It has logged in elsewhere, where the store could not be asked: until the store says that this fence still
    /// stands, time decides nothing.
    pub elsewhere: bool,
    /// Of how many losses of writes the watch had heard when it last made sure that its orders are stored.
    pub losses: u64,
}

impl Absent {
    /// Whether it knows the order, and how that began.
    pub fn has(&self, order: &Order) -> bool {
        self.orders.iter().any(|(ours, _)| ours.serial == order.serial && ours.knows_beginning_of(order))
    }

    pub fn orders(self) -> impl Iterator<Item = Order> {
        self.orders.into_iter().map(|(order, _)| order)
    }

    /// When time decides something about it.
    pub fn due(&self, now: Now) -> Option<Duration> {
        let orders = self.orders.iter().filter_map(|(order, _)| order.due_without_pile()).min();
        let orders = orders.map(|due| now.mono + Duration::from_millis(due.since(now.wall)));
        [self.lost_at, orders].into_iter().flatten().min()
    }

    /// What is due now, as it should be stored and told.
    pub fn decide(&self, now: Now) -> Option<(Document, Expect, Vec<Event>)> {
        if self.lost_at.is_some_and(|at| at <= now.mono) {
            let mut pile = self.pile.clone();
            pile.presence = Presence::Offline;
            pile.presence_since = now.wall;
            let kind = EventKind::PileOffline { pile: Box::new(pile.clone()), reason: self.reason };
            let expect = self.version.map_or(Expect::Absent, Expect::Version);
            return Some((Document::Pile(Box::new(pile)), expect, vec![self.event(now, kind)]));
        }
        let (order, version, changes) = self.orders.iter().find_map(|(order, version)| {
            let mut order = order.clone();
            let changes = order.tick_without_pile(now.wall);
            (!changes.is_empty()).then_some((order, *version, changes))
        })?;
        let events = changes.into_iter().map(|change| {
            tell_operator(&order, change);
            self.event(now, EventKind::Order { order: Box::new(order.clone()), change })
        });
        let events = events.collect();
        Some((Document::Order(Box::new(order)), Expect::Version(version), events))
    }

    pub fn written(&mut self, document: Document, version: Option<u64>) {
        match document {
            Document::Pile(pile) => {
                tracing::info!(pile = %pile.code, reason = self.reason.name(), "pile offline");
                self.pile = *pile;
                self.version = version;
                self.lost_at = None;
            }
            Document::Order(order) => {
                if let Some(held) = self.orders.iter_mut().find(|(held, _)| held.serial == order.serial) {
                    *held = (*order, version.unwrap_or(held.1 + 1));
                }
                self.orders.retain(|(held, _)| held.state.is_open());
            }
            Document::StartAttempt(_) => {}
        }
    }

    /// Somebody else has written the document: what is stored counts.
    pub fn conflict(&mut self, ours: Document, current: Option<(Document, u64)>) {
        match (ours, current) {
            (Document::Pile(_), Some((Document::Pile(stored), version))) => {
                // An earlier attempt that was thought to have failed may have got there: once is enough.
                if stored.presence == Presence::Offline {
                    self.lost_at = None;
                }
                (self.pile, self.version) = (*stored, Some(version));
            }
            (Document::Pile(_), _) => self.version = None,
            (Document::Order(order), current) => {
                self.orders.retain(|(held, _)| held.serial != order.serial);
                if let Some((Document::Order(stored), version)) = current
                    && stored.state.is_open()
                {
                    self.orders.push((*stored, version));
                }
            }
            (Document::StartAttempt(_), _) => {}
        }
    }

    fn event(&self, now: Now, kind: EventKind) -> Event {
        Event { pile: self.pile.code, recorded_at: now.wall, pile_time: None, kind }
    }
}
