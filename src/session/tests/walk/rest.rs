//! The end of a walk: everything that waits is done, time decides what it decides, and no order is in a state that
//! nothing leads out of.

use super::Walk;
use super::said::Said;
use super::wish::start_type_of;
use crate::domain::order::Close;
use crate::domain::{Command, OrderState, Serial};
use crate::session::state::Phase;
use crate::session::tests::harness::*;
use crate::session::tests::ledger::Mode;

impl Walk {
    pub fn come_to_rest(&mut self) {
        self.trace.push("comes to rest".into());
        self.quiet_down();
        self.check_held();
        self.trace.push("and logs in for the last time".into());
        self.nature.calm = true;
        // What the store could not take was not acknowledged, and the pile would bill it again.
        self.unanswered.clear();
        self.log_in_again();
        self.quiet_down();
        assert!(matches!(self.pile.session.phase, Phase::Live(_)));
        self.check_held();
        for number in [1, 2, 1, 2] {
            self.frame(Said::Idles(gun(number)));
            self.wait(1);
        }
        self.wait(600);
        self.check();
        self.check_held();
        let mut open = vec![];
        for (order, _) in self.pile.store.borrow().orders.values() {
            let ended = !order.state.is_open() || order.state == OrderState::Abnormal;
            assert!(ended, "still {order:#?}");
            if order.state != OrderState::Settled {
                open.push((order.serial, order.state));
            }
        }
        for (n, (serial, state)) in open.into_iter().enumerate() {
            match n % 3 {
                0 if state.is_open() => self.end_without_a_bill(serial),
                0 => {}
                1 => self.frame(Said::Bills(serial, 0x41)),
                _ => self.bill_twice(serial),
            }
            self.check();
        }
        self.wait(60);
        self.check();
        self.check_presence();
    }

    /// The store answers again, and everybody has told it what they had to.
    fn quiet_down(&mut self) {
        self.pile.store_returns();
        for _ in 0..4 {
            self.pile.advance(2);
            for old in &mut self.older {
                old.store_returns();
                old.advance(2);
            }
            self.finish_older();
        }
        assert!(self.older.is_empty(), "something is left");
        self.check();
    }

    /// Who has the pile has all of its open orders.
    fn check_held(&self) {
        let (store, session) = (self.pile.store.borrow(), &self.pile.session);
        if session.fence().is_none() || session.fence() != store.owner || session.provisional.is_some() {
            return;
        }
        let open = store.orders.values().filter(|(order, _)| order.state.is_open()).map(|(order, _)| order.serial);
        let held = |serial: &Serial| session.orders.iter().any(|held| held.order.serial == *serial);
        // A session holds so many; the others are read when their record comes.
        let forgotten: Vec<_> = open.filter(|serial| !held(serial)).collect();
        assert!(forgotten.is_empty() || session.orders.len() >= 63, "not held: {forgotten:?}");
    }

    fn end_without_a_bill(&mut self, serial: Serial) {
        let close = Box::new(Close { reason: String::new(), given: None, force: true });
        let id = self.pile.command(Command::CloseOrder { serial, close }, 10);
        assert!(self.pile.reply(id).is_ok());
        assert_eq!(self.pile.order_state(serial), OrderState::ClosedWithoutRecord);
    }

    /// The second copy comes while the first is on its way to the store: both are answered.
    fn bill_twice(&mut self, serial: Serial) {
        self.pile.mode = Mode::Slow;
        let copies = [0; 2].map(|_| self.pile.bills_as(serial, 0x41, start_type_of(serial).into()));
        assert_eq!(self.pile.received(), 0);
        self.unanswered.extend(copies.map(|sequence| (sequence.0, (serial, 0x41))));
        self.pile.store_returns();
        assert_eq!(self.pile.received(), 2, "each copy is answered");
        assert_eq!(self.pile.order_state(serial), OrderState::Settled);
    }
}
