//! What others do to the store: nodes that were asked while the pile was away, nodes that think they have it, and servers
//! that take over from each other.

use std::collections::btree_map::Entry;

use super::Walk;
use super::wish::start_type_of;
use crate::domain::order::{Change, Close, Happening};
use crate::domain::{Epoch, EventKind, Fence, Order, OrderState, Record, Serial, SessionId};
use crate::session::io::{Input, LedgerCall};
use crate::session::tests::harness::*;
use crate::session::translate;
use crate::store::ledger::{Document, Expect};

impl Walk {
    pub fn somebody_else_writes(&mut self) {
        let serial = self.serial();
        if self.nature.calm || !self.chance(4) {
            return;
        }
        let mut store = self.pile.store.borrow_mut();
        if let Some((_, version)) = store.orders.get_mut(&serial) {
            *version += 7;
        }
        if let Some((_, version)) = store.pile.as_mut() {
            *version += 7;
        }
    }

    /// Another node has given out the same digits in the same second.
    pub fn somebody_takes_the_serial(&mut self) {
        let Some(LedgerCall::Write(write)) = self.pile.calls.front() else { return };
        let create = write.documents.iter().find_map(|(document, expect)| match document {
            Document::Order(order) if *expect == Expect::Absent && order.state == OrderState::Requested => Some(order),
            _ => None,
        });
        let Some(order) = create else { return };
        let mut theirs = Order::requested(code(), order.gun, order.serial, order.created_at);
        theirs.apply(order.created_at, Happening::NotSent);
        let mut store = self.pile.store.borrow_mut();
        if let Entry::Vacant(free) = store.orders.entry(order.serial) {
            free.insert((theirs.clone(), 1));
            store.events.push(EventKind::Order { order: Box::new(theirs), change: Change::Failed });
            self.reached.one("elsewhere", "serial taken");
        }
    }

    pub fn somebody_amends(&mut self) {
        if !self.nature.calm {
            let serial = self.serial();
            self.amend(serial);
        }
    }

    /// Who has asked elsewhere and found no session: the order is closed, or its stop planned, in the store.
    pub fn amend(&mut self, serial: Serial) {
        let (now, close, seconds) = (self.pile.now().wall, self.chance(3), 1 + self.below(60));
        let mut store = self.pile.store.borrow_mut();
        let Some((order, _)) = store.orders.get(&serial) else { return };
        if close {
            let close = Close { reason: String::new(), given: None, force: false };
            if close.check(order, now).is_ok() {
                store.amend(serial, now, Happening::Closed(Box::new(close)));
                self.reached.one("elsewhere", "closed");
            }
        } else if order.may_be_stopped() {
            store.amend(serial, now, Happening::StopPlanned { expires_at: now.plus_ms(seconds * 1000) });
            self.reached.one("elsewhere", "stop planned");
        }
    }

    pub fn somebody_settles(&mut self) {
        if !self.nature.calm && self.chance(4) {
            let serial = self.serial();
            self.settle(serial);
        }
    }

    /// The record came to another node, which knows the order only from the store.
    pub fn settle(&mut self, serial: Serial) {
        let record = record(serial);
        let now = self.pile.now().wall;
        self.pile.store.borrow_mut().settle(&record, None, now);
        self.reached.one("elsewhere", "settled");
    }

    /// On another node.
    pub fn somebody_claims(&mut self) {
        if self.nature.calm || !self.chance(6) {
            return;
        }
        let mut store = self.pile.store.borrow_mut();
        store.epoch += 1;
        let session = SessionId { incarnation: 9, counter: 1 };
        store.owner = Some(Fence { session, epoch: Epoch(store.epoch) });
    }

    pub fn somebody_releases(&mut self) {
        if !self.nature.calm && self.chance(20) {
            self.pile.store.borrow_mut().owner = None;
        }
    }

    /// Another server answers for the partition, and has not got all of what the last one acknowledged. The node notices,
    /// and says again what it holds; if the pile has gone elsewhere meanwhile, so does the session that had it.
    pub fn store_loses_writes(&mut self) {
        if self.nature.calm || !self.chance(3) {
            return;
        }
        // What is under way when it happens may be lost with its only witness: a bill that settles an order the store
        // does not have any more says nothing of who started it.
        self.be_quiet();
        if self.pile.session.standing().is_none() || self.pile.session.provisional.is_some() {
            return;
        }
        // Who hangs up leaves those to the watch that have not ended.
        let hangs_up = self.chance(3);
        let session = &self.pile.session;
        let asked = |order: &Order| order.request.is_some() || order.at_pile.is_some();
        let ours = |order: &Order| asked(order) && (!hangs_up || order.state.is_open());
        let stored = session.orders.iter().filter(|held| held.version.is_some() && ours(&held.order));
        // So may a stop that was planned where nobody knew of the session.
        let store = self.pile.store.borrow();
        let plan = |serial| store.orders.get(serial).and_then(|(order, _)| order.stop_at_login);
        let known = stored.filter(|held| plan(&held.order.serial) == held.order.stop_at_login);
        let open: Vec<_> = known.map(|held| held.order.serial).collect();
        drop(store);
        self.check_sent();
        self.check_replies();
        let before = self.pile.store.borrow().orders.clone();
        self.pile.store.borrow_mut().loses(&open);
        self.lost.extend(&open);
        self.reached.one("lost", if open.is_empty() { "nothing" } else { "orders" });
        let elsewhere = self.chance(2);
        if elsewhere {
            self.somebody_claims_after_a_loss();
        }
        // Until it hears of it, things go on: what is to be told of them has not been told when it loses the pile.
        if self.chance(2) {
            let seconds = self.below(100);
            self.wait(seconds);
        }
        if hangs_up {
            self.hang_up_after_a_loss();
        } else {
            self.pile.input(Input::Reassert { anew: true });
            self.be_quiet();
        }
        let store = self.pile.store.borrow();
        for serial in &open {
            let order = store.orders.get(serial).map(|(order, _)| order);
            let order = order.unwrap_or_else(|| panic!("{serial} is not put again"));
            let attempt = order.request.is_none_or(|request| store.attempts.contains_key(&request.id));
            assert!(attempt, "{serial} may start again");
            // It is what it was, or what time has made of it.
            let (was, is) = (&before[serial].0, order);
            let same = (was.created_at, was.request, &was.at_pile) == (is.created_at, is.request, &is.at_pile);
            assert!(same, "{was:#?} has come back as {is:#?}");
        }
        let ended = self.pile.ended.is_some();
        assert!(ended || hangs_up || self.pile.registered == store.owner);
        let how = match (hangs_up, elsewhere) {
            (true, true) => "and left to somebody else",
            (true, false) => "and watched over",
            (false, _) if ended => "and remembered",
            (false, _) => "and put again",
        };
        self.reached.one("lost", how);
    }

    fn somebody_claims_after_a_loss(&mut self) {
        let mut store = self.pile.store.borrow_mut();
        store.epoch += 2;
        let session = SessionId { incarnation: 9, counter: 2 };
        store.owner = Some(Fence { session, epoch: Epoch(store.epoch) });
    }

    pub fn be_quiet(&mut self) {
        for _ in 0..3 {
            while !self.pile.calls.is_empty() {
                self.pile.store_answers();
            }
            self.pile.advance(1);
        }
    }
}

fn record(serial: Serial) -> Record {
    let fields = [("gun_no", 1), ("stop_reason", 0x40), ("start_type", start_type_of(serial).into())];
    let frame = frame(0x3B, serial, &fields);
    translate::record(&frame, Vec::new, code(), 2).expect("a record")
}
