//! What a session has for the store: one job at a time, the rest queued and bounded.
//!
//! Documents are written as they are when their turn comes, so a slow store makes batches larger, not queues longer.
//! A job that was not known to be done is repeated under the same batch id, which makes it happen once.

use std::collections::VecDeque;
use std::time::Duration;

use super::io::LedgerCall;
use super::remember::Putting;
use crate::domain::curve::Chunk;
use crate::domain::order::{Change, Metered, StopAtLogin};
use crate::domain::pile::Presence;
use crate::domain::{Event, EventKind, Fence, Gun, Order, Record, Serial, SessionId};
use crate::store::BatchId;
use crate::store::ledger::Write;
use crate::wire::Sequence;

/// Waits for its turn.
pub enum Job {
    /// A new order, with its request id if it has one, before the pile hears of it; and that of the vehicle's other gun.
    Create {
        serial: Serial,
    },
    Settle(Box<Settling>),
    LookUp {
        gun: Gun,
        serial: Serial,
        metered: Metered,
    },
    /// What has become of the order of the vehicle's other gun.
    LookUpCompanion {
        serial: Serial,
        companion: Serial,
    },
    /// That another device was turned away, which uses this pile code.
    TellDuplicate,
    /// An order of a session that is over, in case the store has lost it, and what was not told of it yet: its request id
    /// must not start again.
    Remember(Box<Order>, Vec<Event>),
}

/// When to claim the pile again: because it could not be claimed at its login, or to say that it is still there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NextClaim {
    pub at: Duration,
    /// The store may have lost writes.
    pub anew: bool,
}

/// A record on its way to the store, and who waits for its 0x40.
pub struct Settling {
    pub record: Record,
    pub acks: Vec<Sequence>,
}

#[derive(Default)]
pub struct Jobs {
    /// Of the presence document; `None` until it is stored.
    pub pile_version: Option<u64>,
    /// Serials the store has been asked about, the last one of each gun: a pile repeats them every 15 s.
    pub looked_up: Vec<(Gun, Serial)>,
    /// The claim has not been answered yet.
    pub claiming: bool,
    /// What the session was registered under, also once it has ended.
    pub fence: Option<Fence>,
    /// Before everything else that is for the store, as soon as its time has come.
    pub(super) claim: Option<NextClaim>,
    /// The store has refused the fence, and does not say yet whether somebody newer is there: only records go on.
    pub(super) fenced: bool,
    pub(super) pile_dirty: bool,
    pub(super) events: VecDeque<Event>,
    pub(super) queue: VecDeque<Job>,
    pub(super) running: Option<Running>,
    pub(super) batches: u64,
    /// The running job's call, to be made again at this time.
    pub(super) again: Option<(Duration, LedgerCall)>,
}

pub enum Running {
    /// Not the one of the login.
    Claim {
        anew: bool,
    },
    TellDuplicate {
        call: Box<LedgerCall>,
    },
    Remember(Box<Putting>),
    /// Changed documents and the first `events` events.
    Flush {
        pile: bool,
        orders: Vec<Serial>,
        events: usize,
        write: Box<Write>,
    },
    Create {
        serial: Serial,
        write: Box<Write>,
    },
    Settle(Box<Settling>),
    LookUp {
        gun: Gun,
        serial: Serial,
        metered: Metered,
    },
    LookUpCompanion {
        serial: Serial,
    },
    KeepCurve(Box<Chunk>),
}

impl Jobs {
    pub(super) const MAX_QUEUE: usize = 64;
    pub(super) const MAX_EVENTS: usize = 256;

    pub fn push(&mut self, job: Job) {
        self.queue.push_back(job);
    }

    pub fn is_full(&self) -> bool {
        self.queue.len() >= Self::MAX_QUEUE
    }

    /// A record to settle. If its queue is full it is not answered, and the pile repeats it.
    pub fn settle(&mut self, record: Record, sequence: Sequence) {
        let waiting = self.queue.iter_mut().filter_map(|job| match job {
            Job::Settle(settling) => Some(settling),
            Job::Create { .. }
            | Job::LookUp { .. }
            | Job::LookUpCompanion { .. }
            | Job::TellDuplicate
            | Job::Remember(..) => None,
        });
        let running = match &mut self.running {
            Some(Running::Settle(settling)) => Some(settling),
            _ => None,
        };
        if let Some(same) =
            waiting.chain(running).find(|s| s.record.serial == record.serial && s.record.same_as(&record))
        {
            if same.acks.len() < Self::MAX_QUEUE {
                same.acks.push(sequence);
            }
        } else if !self.is_full() {
            self.push(Job::Settle(Box::new(Settling { record, acks: vec![sequence] })));
        }
    }

    /// Whether the store is being asked, or will be, about the companion of this order.
    pub fn asks_for_companion(&self, of: Serial) -> bool {
        let running = matches!(self.running, Some(Running::LookUpCompanion { serial }) if serial == of);
        running || self.queue.iter().any(|job| matches!(job, Job::LookUpCompanion { serial, .. } if *serial == of))
    }

    pub fn pile_changed(&mut self) {
        self.pile_dirty = true;
    }

    /// Kept until it is durable. A store that takes nothing for so long that the bound is met costs the oldest gun
    /// states first, then alarms: what they have led to is in the presence document too. Then what vehicles say: the
    /// latest is on the order.
    pub fn event(&mut self, event: Event) {
        if self.events.len() >= Self::MAX_EVENTS {
            let inside = self.running_events();
            let oldest = |of: fn(&EventKind) -> bool| self.events.iter().skip(inside).position(|e| of(&e.kind));
            let gun_state = oldest(|kind| matches!(kind, EventKind::GunChanged(_)));
            let alarm = |kind: &_| matches!(kind, EventKind::AlarmRaised { .. } | EventKind::AlarmCleared { .. });
            let vehicle = |kind: &_| matches!(kind, EventKind::Bms { .. });
            let victim = gun_state.or_else(|| oldest(alarm)).or_else(|| oldest(vehicle));
            let victim = victim.map_or(inside, |at| at + inside);
            let lost = self.events.remove(victim);
            let lost = lost.map_or("nothing", |event| event.kind.name());
            tracing::error!(pile = %event.pile, lost, "event queue full: the store takes nothing");
        }
        self.events.push_back(event);
    }

    /// Order events of this serial that wait. Only while no write is running. What its vehicle said is not the order's
    /// life: it is told, without an order that has moved on.
    pub fn drop_events_of(&mut self, serial: Serial) {
        self.events.retain(|event| !matches!(&event.kind, EventKind::Order { order, .. } if order.serial == serial));
        for event in &mut self.events {
            if let EventKind::Bms { serial: of, order, .. } = &mut event.kind
                && *of == serial
            {
                *order = None;
            }
        }
    }

    /// The order of this serial has had a planned stop that what waits to be told of it does not know, until the stop was
    /// planned anew or carried out.
    pub fn plan_found(&mut self, serial: Serial, plan: StopAtLogin) {
        for event in &mut self.events {
            let EventKind::Order { order, change } = &mut event.kind else { continue };
            if order.serial != serial {
                continue;
            }
            if order.stop_at_login.is_some() || matches!(change, Change::StopExpired | Change::StopRequested) {
                return;
            }
            order.stop_at_login = Some(plan);
        }
    }

    /// What waits to be told of the order is told with how it began.
    pub fn beginning_found(&mut self, of: &Order) {
        for event in &mut self.events {
            if let EventKind::Order { order, .. } | EventKind::Bms { order: Some(order), .. } = &mut event.kind
                && order.serial == of.serial
            {
                order.learns_beginning(of);
            }
        }
    }

    pub fn due(&self) -> Option<Duration> {
        let claim = self.claim.filter(|_| self.running.is_none()).map(|claim| claim.at);
        self.again.as_ref().map(|(at, _)| *at).or(claim)
    }

    pub fn is_idle(&self) -> bool {
        !self.claiming && self.running.is_none() && self.queue.is_empty() && self.events.is_empty() && !self.pile_dirty
    }

    #[cfg(test)]
    pub fn is_bounded(&self) -> bool {
        self.queue.len() <= Self::MAX_QUEUE && self.events.len() <= Self::MAX_EVENTS && self.looked_up.len() <= 255
    }

    /// The presence that will have been told when all that waits has been.
    pub fn told_presence(&self) -> Option<Presence> {
        self.events.iter().rev().find_map(|event| match event.kind {
            EventKind::PileOnline(_) => Some(Presence::Online),
            EventKind::PileOffline { .. } => Some(Presence::Offline),
            EventKind::GunChanged(_)
            | EventKind::AlarmRaised { .. }
            | EventKind::AlarmCleared { .. }
            | EventKind::Bms { .. }
            | EventKind::Order { .. }
            | EventKind::RecordConflict { .. }
            | EventKind::DuplicatePileCode { .. } => None,
        })
    }

    /// Whether a flush is under way with this order in it.
    pub(super) fn is_writing(&self, serial: Serial) -> bool {
        matches!(&self.running, Some(Running::Flush { orders, .. }) if orders.contains(&serial))
    }

    pub(super) fn running_events(&self) -> usize {
        match &self.running {
            Some(Running::Flush { events, .. }) => *events,
            _ => 0,
        }
    }

    pub(super) fn batch(&mut self, session: SessionId) -> BatchId {
        self.batches += 1;
        BatchId { session, n: self.batches }
    }
}
