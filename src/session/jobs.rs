//! What a session has for the store: one job at a time, the rest queued and bounded.
//!
//! Documents are written as they are when their turn comes, so a slow store makes batches larger, not queues longer.
//! A job that was not known to be done is repeated under the same batch id, which makes it happen once.

use std::collections::VecDeque;
use std::time::Duration;

use super::Now;
use super::charge::Held;
use super::state::{EndReason, Out, Output, Phase, Session};
use crate::domain::order::Metered;
use crate::domain::{CommandError, Event, EventKind, Fence, Gun, Order, PileCode, Record, Serial, SessionId, WallMs};
use crate::store::ledger::{Document, Expect, Login, SettledOrder, StartAttempt, Write, WriteError};
use crate::store::{BatchId, StoreError};
use crate::wire::Sequence;

/// What the ledger is asked to do.
#[derive(Clone)]
pub enum LedgerCall {
    Claim { pile: PileCode, session: SessionId, now: WallMs },
    Write(Box<Write>),
    Settle { record: Box<Record>, latest: Option<Box<(Order, u64)>>, now: WallMs },
    LookUp { pile: PileCode, serial: Serial },
}

/// What came of it.
pub enum Done {
    Claimed(Result<Box<Login>, StoreError>),
    Written(Result<Vec<u64>, WriteError>),
    Settled(Result<Box<SettledOrder>, StoreError>),
    LookedUp(Result<Option<Box<(Order, u64)>>, StoreError>),
}

/// Waits for its turn.
pub enum Job {
    /// A new order with its request id, before 0x34.
    Create {
        serial: Serial,
        attempt: StartAttempt,
    },
    Settle(Box<Settling>),
    LookUp {
        gun: Gun,
        serial: Serial,
        metered: Metered,
    },
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
    fence: Option<Fence>,
    pile_dirty: bool,
    events: VecDeque<Event>,
    queue: VecDeque<Job>,
    running: Option<Running>,
    batches: u64,
    /// The running job's call, to be made again at this time.
    again: Option<(Duration, LedgerCall)>,
}

enum Running {
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
}

impl Jobs {
    const MAX_QUEUE: usize = 64;
    const MAX_EVENTS: usize = 256;
    /// A batch is bounded in operations and bytes; an event carries an order of up to about 2 KiB.
    const EVENTS_PER_BATCH: usize = 16;

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
            Job::Create { .. } | Job::LookUp { .. } => None,
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

    pub fn pile_changed(&mut self) {
        self.pile_dirty = true;
    }

    /// Kept until it is durable. A store that takes nothing for so long that the bound is met costs the oldest gun
    /// states first: they are in the presence document too.
    pub fn event(&mut self, event: Event) {
        if self.events.len() >= Self::MAX_EVENTS {
            let inside = self.running_events();
            let gun_state = |e: &Event| matches!(e.kind, EventKind::GunChanged(_));
            let victim = self.events.iter().skip(inside).position(gun_state).map_or(inside, |at| at + inside);
            let lost = self.events.remove(victim);
            tracing::error!(pile = %event.pile, lost = ?lost.map(|e| e.kind), "event queue full: the store takes nothing");
        }
        self.events.push_back(event);
    }

    /// What the session was registered under, also once it has ended.
    pub fn fence(&self) -> Option<Fence> {
        self.fence
    }

    pub fn due(&self) -> Option<Duration> {
        self.again.as_ref().map(|(at, _)| *at)
    }

    pub fn is_idle(&self) -> bool {
        self.running.is_none() && self.queue.is_empty() && self.events.is_empty() && !self.pile_dirty
    }

    fn running_events(&self) -> usize {
        match &self.running {
            Some(Running::Flush { events, .. }) => *events,
            _ => 0,
        }
    }

    fn batch(&mut self, session: SessionId) -> BatchId {
        self.batches += 1;
        BatchId { session, n: self.batches }
    }
}

impl Session {
    /// Starts the next job if none is running.
    pub(super) fn jobs_go_on(&mut self, now: Now, out: &mut Out) {
        if let Phase::Live(fence) = self.phase {
            self.jobs.fence = Some(fence);
        }
        let Some(fence) = self.jobs.fence else { return };
        if self.jobs.running.is_some() {
            if let Some((_, call)) = self.jobs.again.take_if(|(at, _)| *at <= now.mono) {
                out.list.push(Output::Ledger(call));
            }
            return;
        }
        // Changes first: the event log tells things in the order they happened.
        let call = if self.has_changes() { Some(self.flush(fence)) } else { self.next_job(fence, now) };
        out.list.extend(call.map(Output::Ledger));
    }

    fn has_changes(&self) -> bool {
        self.jobs.pile_dirty || !self.jobs.events.is_empty() || self.orders.iter().any(|held| held.dirty)
    }

    fn flush(&mut self, fence: Fence) -> LedgerCall {
        let mut documents = vec![];
        let pile = std::mem::take(&mut self.jobs.pile_dirty);
        if pile {
            documents.push((Document::Pile(Box::new(self.pile.clone())), expect(self.jobs.pile_version)));
        }
        let mut orders = vec![];
        for held in self.orders.iter_mut().filter(|held| held.dirty).take(Jobs::EVENTS_PER_BATCH) {
            held.dirty = false;
            orders.push(held.order.serial);
            documents.push((Document::Order(Box::new(held.order.clone())), expect(held.version)));
        }
        let events: Vec<_> = self.jobs.events.iter().take(Jobs::EVENTS_PER_BATCH).cloned().collect();
        let count = events.len();
        let write = Box::new(self.write(fence, documents, events));
        self.jobs.running = Some(Running::Flush { pile, orders, events: count, write: write.clone() });
        LedgerCall::Write(write)
    }

    fn next_job(&mut self, fence: Fence, now: Now) -> Option<LedgerCall> {
        let (running, call) = match self.jobs.queue.pop_front()? {
            Job::Create { serial, attempt } => {
                let order = self.held(serial)?.order.clone();
                let kind =
                    EventKind::Order { order: Box::new(order.clone()), change: crate::domain::order::Change::Created };
                let created = Event { pile: self.pile.code, recorded_at: now.wall, pile_time: None, kind };
                let documents = vec![
                    (Document::StartAttempt(attempt), Expect::Absent),
                    (Document::Order(Box::new(order)), Expect::Absent),
                ];
                let write = Box::new(self.write(fence, documents, vec![created]));
                (Running::Create { serial, write: write.clone() }, LedgerCall::Write(write))
            }
            Job::Settle(settling) => {
                let record = Box::new(settling.record.clone());
                let stored = |held: &Held| Some(Box::new((held.order.clone(), held.version?)));
                let latest = self.held(record.serial).and_then(stored);
                (Running::Settle(settling), LedgerCall::Settle { record, latest, now: now.wall })
            }
            Job::LookUp { gun, serial, metered } => {
                let call = LedgerCall::LookUp { pile: self.pile.code, serial };
                (Running::LookUp { gun, serial, metered }, call)
            }
        };
        self.jobs.running = Some(running);
        Some(call)
    }

    fn write(&mut self, fence: Fence, documents: Vec<(Document, Expect)>, events: Vec<Event>) -> Write {
        Write { id: self.jobs.batch(self.id), pile: self.pile.code, fence: Some(fence), documents, events }
    }

    /// A batch has been written, or not.
    pub(super) fn written(&mut self, now: Now, result: Result<Vec<u64>, WriteError>, out: &mut Out) {
        match self.jobs.running.take() {
            Some(Running::Flush { pile, orders, events, write }) => {
                self.flushed(now, (pile, orders, events, write), result, out);
            }
            Some(Running::Create { serial, write }) => self.create_done(now, serial, write, result, out),
            other @ (Some(Running::Settle(_) | Running::LookUp { .. }) | None) => self.jobs.running = other,
        }
    }

    fn flushed(
        &mut self,
        now: Now,
        (pile, orders, events, write): (bool, Vec<Serial>, usize, Box<Write>),
        result: Result<Vec<u64>, WriteError>,
        out: &mut Out,
    ) {
        match result {
            Ok(versions) => {
                let mut versions = versions.into_iter();
                if pile {
                    self.jobs.pile_version = versions.next();
                }
                for (serial, version) in orders.into_iter().zip(versions) {
                    if let Some(held) = self.orders.iter_mut().find(|h| h.order.serial == serial) {
                        held.version = Some(version);
                    }
                }
                self.jobs.events.drain(..events);
                // Idle sessions are many, and their next event is minutes away.
                self.jobs.events.shrink_to_fit();
                self.forget_closed();
            }
            Err(WriteError::Conflict { at, current }) => {
                self.jobs.pile_dirty |= pile;
                for serial in orders {
                    if let Some(held) = self.orders.iter_mut().find(|h| h.order.serial == serial) {
                        held.dirty = true;
                    }
                }
                self.merge(&write.documents[at].0, current);
            }
            Err(WriteError::Fenced) => self.superseded(out),
            Err(WriteError::Store(StoreError::Unavailable(reason))) if self.phase != Phase::Ended => {
                tracing::warn!(pile = %self.pile.code, reason, "store unavailable, will write again");
                self.jobs.again = Some((now.mono + AGAIN, LedgerCall::Write(write.clone())));
                self.jobs.running = Some(Running::Flush { pile, orders, events, write });
            }
            Err(WriteError::Store(error)) => {
                // Not to be repeated: the session has ended, or the batch itself is at fault.
                tracing::error!(pile = %self.pile.code, %error, "changes not written");
                self.jobs.events.drain(..events);
            }
        }
    }

    /// Somebody else wrote the document – a settlement on another path, an operator: what is absorbing stays, of
    /// the rest the owner's view is the newer one.
    fn merge(&mut self, ours: &Document, current: Option<(Document, u64)>) {
        match (ours, current) {
            (Document::Pile(_), current) => self.jobs.pile_version = current.map(|(_, version)| version),
            (Document::Order(order), Some((Document::Order(theirs), version))) => {
                if theirs.state.is_open() || theirs.state == crate::domain::OrderState::Failed {
                    if let Some(held) = self.orders.iter_mut().find(|h| h.order.serial == order.serial) {
                        held.version = Some(version);
                    }
                } else {
                    self.forget(order.serial);
                }
            }
            (Document::Order(order), _) => {
                if let Some(held) = self.orders.iter_mut().find(|h| h.order.serial == order.serial) {
                    held.version = None;
                }
            }
            (Document::StartAttempt(_), _) => {}
        }
    }

    fn create_done(
        &mut self,
        now: Now,
        serial: Serial,
        write: Box<Write>,
        result: Result<Vec<u64>, WriteError>,
        out: &mut Out,
    ) {
        match result {
            Ok(versions) => self.created(now, serial, versions.last().copied().unwrap_or(1), out),
            Err(WriteError::Conflict { current: Some((Document::StartAttempt(before), _)), .. }) => {
                self.attempt_exists(serial, &before, out);
            }
            Err(WriteError::Conflict { .. }) => self.serial_taken(now, serial, out),
            Err(WriteError::Fenced) => {
                self.start_failed(serial, &CommandError::SessionLost { written: false }, out);
                self.superseded(out);
            }
            Err(WriteError::Store(error)) => {
                let reason = error.to_string();
                self.start_failed(serial, &CommandError::StoreUnavailable { reason }, out);
                if matches!(error, StoreError::Unavailable(_)) && self.phase != Phase::Ended {
                    // It may have been written all the same. Finding out is what makes the order fail cleanly.
                    self.withdraw(serial);
                    self.jobs.again = Some((now.mono + AGAIN, LedgerCall::Write(write.clone())));
                    self.jobs.running = Some(Running::Create { serial, write });
                } else {
                    self.forget(serial);
                }
            }
        }
    }

    /// A newer owner has written: this session is over.
    fn superseded(&mut self, out: &mut Out) {
        self.jobs.pile_dirty = false;
        self.jobs.events.clear();
        self.jobs.queue.retain(|job| matches!(job, Job::Settle(_)));
        self.orders.clear();
        self.end(EndReason::TakenOver, out);
    }

    pub(super) fn settle_done(&mut self, result: Result<Box<SettledOrder>, StoreError>, out: &mut Out) {
        let Some(Running::Settle(settling)) = self.jobs.running.take() else { return };
        match result {
            Ok(settled) => self.settled(*settling, *settled, out),
            // No 0x40: the pile keeps the record and repeats it.
            Err(error) => {
                tracing::error!(pile = %self.pile.code, serial = %settling.record.serial, %error, "record not settled");
            }
        }
    }

    pub(super) fn look_up_done(
        &mut self,
        now: Now,
        result: Result<Option<Box<(Order, u64)>>, StoreError>,
        out: &mut Out,
    ) {
        let Some(Running::LookUp { gun, serial, metered }) = self.jobs.running.take() else { return };
        match result {
            Ok(found) => self.looked_up(now, (gun, serial, metered), found.map(|found| *found), out),
            // The pile repeats the serial, and then it is looked up again.
            Err(_) => self.jobs.looked_up.retain(|(g, _)| *g != gun),
        }
    }

    /// Starts that have not reached the store never will.
    pub(super) fn drop_starts(&mut self) {
        self.jobs.queue.retain(|job| matches!(job, Job::Settle(_)));
        let running = match &self.jobs.running {
            Some(Running::Create { serial, .. }) => Some(*serial),
            _ => None,
        };
        self.orders.retain(|h| h.unsent.is_none() || Some(h.order.serial) == running);
    }
}

fn expect(version: Option<u64>) -> Expect {
    version.map_or(Expect::Absent, Expect::Version)
}

/// After a time-out of the store.
const AGAIN: Duration = Duration::from_secs(1);
