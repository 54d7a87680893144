//! How a session's changes and records get to the store, and what their arrival releases.

use std::time::Duration;

use super::Now;
use super::held::{Held, NOT_STORED};
use super::io::{EndReason, LedgerCall, Out, Output};
use super::jobs::{Job, NextClaim, Running};
use super::pending::Await;
use super::remember::Putting;
use super::state::{Phase, Session};
use super::telling::{
    BATCH_WEIGHT, PER_BATCH, is_about_order, is_about_pile, is_told_with, order_of, weight_of, weight_of_order,
    weight_of_pile,
};
use crate::domain::order::Change;
use crate::domain::{CommandError, Event, EventKind, Fence, Order, OrderState, Pile, Serial};
use crate::observe;
use crate::store::StoreError;
use crate::store::ledger::{Document, Expect, SettledOrder, StartAttempt, Write, WriteError};

impl Session {
    /// Starts the next job if none is running.
    pub(super) fn jobs_go_on(&mut self, now: Now, out: &mut Out) {
        if self.jobs.running.is_some() {
            if let Some((_, call)) = self.jobs.again.take_if(|(at, _)| *at <= now.mono) {
                out.list.push(Output::Ledger(call));
            }
            return;
        }
        if self.jobs.claim.is_some_and(|claim| claim.at <= now.mono) {
            return self.claim_again(out);
        }
        // Changes first: the event log tells things in the order they happened.
        if let Some(fence) = self.jobs.fence.filter(|_| !self.jobs.fenced)
            && self.has_changes()
        {
            let call = self.flush(fence);
            return out.list.push(Output::Ledger(call));
        }
        while let Some(job) = self.next_job() {
            if let Some(call) = self.begin(job, now) {
                return out.list.push(Output::Ledger(call));
            }
        }
        // Last: everything else is worth more.
        if let Some(call) = self.next_curve(now) {
            out.list.push(Output::Ledger(call));
        }
    }

    /// While the fence is in doubt, only what needs none.
    fn next_job(&mut self) -> Option<Job> {
        let fenced = self.jobs.fenced;
        let next = self.jobs.queue.iter().position(|job| !fenced || matches!(job, Job::Settle(_)))?;
        self.jobs.queue.remove(next)
    }

    fn has_changes(&self) -> bool {
        self.jobs.pile_dirty || !self.jobs.events.is_empty() || self.orders.iter().any(|held| held.dirty)
    }

    /// The oldest events, and the documents they lead to: a document says nothing of which the event might still be lost.
    fn flush(&mut self, fence: Fence) -> LedgerCall {
        let (mut documents, mut events) = (vec![], vec![]);
        let (mut weight, mut told) = (0, vec![]);
        for event in &self.jobs.events {
            let full = weight >= BATCH_WEIGHT || events.len() >= PER_BATCH;
            if full && !events.last().is_some_and(|last| is_told_with(last, event)) {
                break;
            }
            weight += weight_of(&event.kind);
            // With the events of an order goes its document, however much else there is: without it they would be told
            // although the order has been settled elsewhere.
            if let Some(order) = order_of(&event.kind).filter(|order| !told.contains(&order.serial)) {
                weight += weight_of_order(order);
                told.push(order.serial);
            }
            events.push(event.clone());
        }
        let later = |about: &dyn Fn(&EventKind) -> bool| {
            self.jobs.events.iter().skip(events.len()).any(|event| about(&event.kind))
        };
        let pile = self.jobs.pile_dirty && !later(&|kind| is_about_pile(kind));
        if pile {
            weight += weight_of_pile(&self.pile);
            documents.push((Document::Pile(Box::new(self.pile.clone())), expect(self.jobs.pile_version)));
        }
        let (mut orders, mut behind) = (vec![], vec![]);
        for held in self.orders.iter().filter(|held| held.dirty) {
            let serial = held.order.serial;
            let is_told = told.contains(&serial);
            if !is_told && (weight >= BATCH_WEIGHT || orders.len() >= PER_BATCH) {
                continue;
            }
            let order = if later(&|kind| is_about_order(kind, serial)) {
                // As it was told last.
                let of = |event: &Event| order_of(&event.kind).filter(|order| order.serial == serial).cloned();
                let Some(then) = events.iter().rev().find_map(of) else { continue };
                behind.push(serial);
                then
            } else {
                held.order.clone()
            };
            if !is_told {
                weight += weight_of_order(&order);
            }
            orders.push(serial);
            documents.push((Document::Order(Box::new(order)), expect(held.version)));
        }
        let lost = self.orders.iter().filter(|held| held.lost && orders.contains(&held.order.serial));
        let attempts = lost.filter_map(|held| StartAttempt::of(&held.order));
        documents.extend(attempts.map(|attempt| (Document::StartAttempt(attempt), Expect::Absent)));
        self.jobs.pile_dirty &= !pile;
        let whole = |serial: &Serial| orders.contains(serial) && !behind.contains(serial);
        self.orders.iter_mut().filter(|h| whole(&h.order.serial)).for_each(|held| held.dirty = false);
        let count = events.len();
        let write = Box::new(self.write(fence, documents, events));
        self.jobs.running = Some(Running::Flush { pile, orders, events: count, write: write.clone() });
        LedgerCall::Write(write)
    }

    /// `None` if there is nothing left to do for it.
    fn begin(&mut self, job: Job, now: Now) -> Option<LedgerCall> {
        let (running, call) = match job {
            Job::Create { serial } => {
                let serials = self.created_with(serial);
                let orders: Vec<_> = serials.into_iter().filter_map(|s| Some(self.held(s)?.order.clone())).collect();
                let attempt = StartAttempt::of(orders.first()?);
                let attempt = attempt.map(|attempt| (Document::StartAttempt(attempt), Expect::Absent));
                let created = orders.iter().map(|order| {
                    let (order, change) = (Box::new(order.clone()), Change::Created);
                    let kind = EventKind::Order { order, change };
                    Event { pile: self.pile.code, recorded_at: now.wall, pile_time: None, kind }
                });
                let created = created.collect();
                let orders = orders.into_iter().map(|order| (Document::Order(Box::new(order)), Expect::Absent));
                let documents = attempt.into_iter().chain(orders).collect();
                let write = Box::new(self.write(self.jobs.fence?, documents, created));
                (Running::Create { serial, write: write.clone() }, LedgerCall::Write(write))
            }
            Job::Settle(settling) => {
                let record = Box::new(settling.record.clone());
                // Also what is not stored yet, or not any more: nobody else knows whose order it is.
                let known = |held: &&Held| held.unsent.is_none();
                let latest = self.held(record.serial).filter(known);
                let latest = latest.map(|held| Box::new((held.order.clone(), held.version.unwrap_or(NOT_STORED))));
                (Running::Settle(settling), LedgerCall::Settle { record, latest, now: now.wall })
            }
            Job::LookUp { gun, serial, metered } => {
                let call = LedgerCall::LookUp { pile: self.pile.code, serial };
                (Running::LookUp { gun, serial, metered }, call)
            }
            Job::LookUpCompanion { serial, companion } => {
                self.held(serial)?;
                let call = LedgerCall::LookUp { pile: self.pile.code, serial: companion };
                (Running::LookUpCompanion { serial }, call)
            }
            Job::Remember(order, untold) => {
                let putting = Putting::of(order, untold, self.jobs.batch(self.id), now.wall);
                let write = Box::new(putting.write());
                (Running::Remember(Box::new(putting)), LedgerCall::Write(write))
            }
            Job::TellDuplicate => {
                let Pile { code, ref address, ref identity, .. } = self.pile;
                let (address, iccid) = (address.clone(), identity.iccid.clone());
                let id = self.jobs.batch(self.id);
                let call = LedgerCall::TellDuplicate { id, pile: code, address, iccid, now: now.wall };
                (Running::TellDuplicate { call: Box::new(call.clone()) }, call)
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
            Some(Running::TellDuplicate { call }) => self.told_duplicate(now, call, result),
            Some(Running::Remember(putting)) => self.remembered(now, *putting, result),
            other @ (Some(
                Running::Settle(_)
                | Running::LookUp { .. }
                | Running::LookUpCompanion { .. }
                | Running::Claim { .. }
                | Running::KeepCurve(_),
            )
            | None) => {
                self.jobs.running = other;
            }
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
                        held.lost = false;
                    }
                }
                self.jobs.events.drain(..events);
                // Idle sessions are many, and their next event is minutes away.
                self.jobs.events.shrink_to_fit();
                self.tell_durable(&write, out);
                self.forget_closed();
            }
            Err(WriteError::Conflict { at, current }) => {
                self.jobs.pile_dirty |= pile;
                for serial in orders {
                    if let Some(held) = self.orders.iter_mut().find(|h| h.order.serial == serial) {
                        held.dirty = true;
                    }
                }
                self.merge(&write.documents[at].0, current, out);
            }
            Err(WriteError::Fenced) => {
                self.jobs.pile_dirty |= pile;
                self.orders.iter_mut().filter(|h| orders.contains(&h.order.serial)).for_each(|h| h.dirty = true);
                self.fence_refused(now);
            }
            // Also after the end, for as long as the connection waits for it.
            Err(WriteError::Store(StoreError::Unavailable(reason))) => {
                // Thousands of piles would say so every second; the store has said it once.
                tracing::debug!(pile = %self.pile.code, reason, "store unavailable, will write again");
                self.jobs.again = Some((now.mono + AGAIN, LedgerCall::Write(write.clone())));
                self.jobs.running = Some(Running::Flush { pile, orders, events, write });
            }
            Err(WriteError::Store(error)) => {
                // Not to be repeated: the batch itself is at fault.
                tracing::error!(pile = %self.pile.code, %error, "changes not written");
                self.jobs.events.drain(..events);
            }
        }
    }

    /// Somebody else wrote the document – a settlement on another path, an operator: what is absorbing stays, of
    /// the rest the owner's view is the newer one.
    fn merge(&mut self, ours: &Document, current: Option<(Document, u64)>, out: &mut Out) {
        match (ours, current) {
            (Document::Pile(_), current) => self.jobs.pile_version = current.map(|(_, version)| version),
            (Document::Order(order), Some((Document::Order(theirs), version))) => {
                if theirs.state.is_open() || theirs.state == OrderState::Failed {
                    if let Some(held) = self.orders.iter_mut().find(|h| h.order.serial == order.serial) {
                        held.finds_stored(&theirs, version, &mut self.jobs);
                    }
                } else {
                    if order.request.is_some() && theirs.request.is_none() {
                        // It was lost, and settled by who did not know what had started it.
                        self.jobs.push(Job::Remember(order.clone(), vec![]));
                    }
                    self.forget(order.serial);
                    self.jobs.drop_events_of(order.serial);
                    self.answer_close(&theirs, out);
                }
            }
            (Document::Order(order), _) => {
                let Some(held) = self.orders.iter_mut().find(|h| h.order.serial == order.serial) else { return };
                held.lost = held.version.take().is_some();
                if !held.lost {
                    // It was to be new, and is not there: it was settled so long ago that only its record is known.
                    self.forget(order.serial);
                    self.jobs.drop_events_of(order.serial);
                }
            }
            (Document::StartAttempt(attempt), _) => {
                if let Some(held) = self.orders.iter_mut().find(|h| h.order.serial == attempt.serial) {
                    held.lost = false;
                }
            }
        }
    }

    /// Who waits for orders of this write to be durable hears that they are.
    fn tell_durable(&mut self, write: &Write, out: &mut Out) {
        for (document, _) in &write.documents {
            if let Document::Order(order) = document
                && self.pending.holds(|what| matches!(what, Await::Close(_) | Await::Plan(_)))
            {
                match order.state {
                    OrderState::ClosedWithoutRecord => self.answer_close(order, out),
                    // What has changed since is not durable yet.
                    _ if self.durable(order.serial).is_some() => self.answer_plan(order, out),
                    _ => {}
                }
            }
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
            Ok(versions) => self.created(now, serial, &versions, out),
            Err(WriteError::Conflict { current: Some((Document::StartAttempt(before), _)), .. }) => {
                self.attempt_exists(serial, &before, out);
            }
            Err(WriteError::Conflict { at, .. }) => {
                let taken = if let Document::Order(order) = &write.documents[at].0 { order.serial } else { serial };
                self.serial_taken(now, serial, taken, out);
            }
            Err(WriteError::Fenced) => {
                self.start_failed(serial, &CommandError::SessionLost { written: false }, out);
                self.forget_created(serial);
                self.fence_refused(now);
            }
            Err(WriteError::Store(error)) => {
                let reason = error.to_string();
                self.start_failed(serial, &CommandError::StoreUnavailable { reason }, out);
                if matches!(error, StoreError::Unavailable(_)) {
                    // It may have been written all the same. Finding out is what makes the order fail cleanly.
                    self.withdraw(serial);
                    self.jobs.again = Some((now.mono + AGAIN, LedgerCall::Write(write.clone())));
                    self.jobs.running = Some(Running::Create { serial, write });
                } else {
                    self.forget_created(serial);
                }
            }
        }
    }

    /// Either a newer owner is there, or the store has lost us: it knows, and is asked by claiming again.
    pub(super) fn fence_refused(&mut self, now: Now) {
        if !matches!(self.phase, Phase::Live(_)) {
            // Who watches over it finds out which, and reports it gone if nobody else does.
            if !self.taken_over && self.draining.is_none() {
                self.remember_orders();
            }
            return self.give_up();
        }
        self.jobs.fenced = true;
        let anew = self.jobs.claim.is_some_and(|claim| claim.anew);
        self.jobs.claim = Some(NextClaim { at: now.mono, anew });
    }

    fn told_duplicate(&mut self, now: Now, call: Box<LedgerCall>, result: Result<Vec<u64>, WriteError>) {
        match result {
            Ok(_) => {}
            Err(WriteError::Store(StoreError::Unavailable(_))) => {
                self.jobs.again = Some((now.mono + AGAIN, (*call).clone()));
                self.jobs.running = Some(Running::TellDuplicate { call });
            }
            Err(error) => {
                tracing::error!(pile = %self.pile.code, %error, "not told that a pile code is used twice");
            }
        }
    }

    fn remembered(&mut self, now: Now, putting: Putting, result: Result<Vec<u64>, WriteError>) {
        let next = self.jobs.batch(self.id);
        let (at, putting) = match putting.answered(result, (next, now.wall)) {
            Ok(None) => return,
            Ok(Some(left)) => (now.mono, left),
            Err(StoreError::Unavailable(_)) => (now.mono + AGAIN, putting),
            Err(error) => {
                tracing::error!(pile = %self.pile.code, %error, "a start is not remembered");
                return;
            }
        };
        self.jobs.again = Some((at, LedgerCall::Write(Box::new(putting.write()))));
        self.jobs.running = Some(Running::Remember(Box::new(putting)));
    }

    /// A newer owner is there, and nobody had told us: this session is over. Records still go their way, and what is to be
    /// remembered; nothing else does.
    pub(super) fn superseded(&mut self, out: &mut Out) {
        // First: who waits is told by the orders whether anything was written.
        self.end(EndReason::TakenOver, out);
        self.taken_over = true;
        self.give_up();
    }

    /// Somebody newer has the pile, or will have it. The store may have lost orders of ours before that, which nobody else
    /// knows: whoever has the pile must not start them again, nor bill them to nobody.
    pub(super) fn remember_orders(&mut self) {
        let stored = |held: &&Held| held.unsent.is_none() && (held.version.is_some() || held.lost);
        let ours = |held: &&Held| held.order.request.is_some() || held.order.at_pile.is_some();
        let orders = self.orders.iter().filter(stored).filter(ours).map(|held| Box::new(held.order.clone()));
        self.jobs.queue.extend(orders.map(|order| Job::Remember(order, vec![])));
    }

    /// Nothing more is written under the fence. What was still to be told of an order is told if it turns out that nobody
    /// else knows the order.
    fn give_up(&mut self) {
        self.jobs.pile_dirty = false;
        self.jobs.queue.retain(|job| matches!(job, Job::Settle(_) | Job::Remember(..)));
        for event in std::mem::take(&mut self.jobs.events) {
            let to = self.jobs.queue.iter_mut().find_map(|job| match job {
                Job::Remember(order, untold) if is_about_order(&event.kind, order.serial) => Some(untold),
                _ => None,
            });
            if let Some(untold) = to {
                untold.push(event);
            }
        }
        self.orders.clear();
    }

    pub(super) fn settle_done(&mut self, now: Now, result: Result<Box<SettledOrder>, StoreError>, out: &mut Out) {
        let Some(Running::Settle(settling)) = self.jobs.running.take() else { return };
        match result {
            Ok(settled) => {
                observe::settlement(settled.outcome.name());
                self.settled(now, *settling, *settled, out);
            }
            // No 0x40: the pile keeps the record and repeats it.
            Err(error) => {
                observe::settlement("failed");
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
        let (gun, serial, metered) = match self.jobs.running.take() {
            Some(Running::LookUp { gun, serial, metered }) => (gun, serial, metered),
            Some(Running::LookUpCompanion { serial }) => {
                if let Ok(found) = result {
                    self.companion_looked_up(now, serial, found.as_ref().map(|found| &found.0), out);
                }
                return;
            }
            _ => return,
        };
        match result {
            Ok(found) => self.looked_up(now, (gun, serial, metered), found.map(|found| *found), out),
            // The pile repeats the serial, and then it is looked up again.
            Err(_) => self.jobs.looked_up.retain(|(g, _)| *g != gun),
        }
    }

    /// Starts that have not reached the store never will.
    pub(super) fn drop_starts(&mut self) {
        self.jobs.queue.retain(|job| matches!(job, Job::Settle(_) | Job::TellDuplicate | Job::Remember(..)));
        let running = match &self.jobs.running {
            Some(Running::Create { serial, .. }) => Some(*serial),
            _ => None,
        };
        let created = running.map(|serial| self.created_with(serial)).unwrap_or_default();
        self.orders.retain(|h| h.unsent.is_none() || created.contains(&h.order.serial));
    }
}

fn expect(version: Option<u64>) -> Expect {
    version.map_or(Expect::Absent, Expect::Version)
}

/// After a time-out of the store.
const AGAIN: Duration = Duration::from_secs(1);
