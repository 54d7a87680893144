//! Stops that wait for the pile: kept with the order, and sent when the pile is seen to charge it.
//!
//! 0x36 names a gun only. A pile that was away may charge somebody else by now, so its gun is asked first (0x12), and what
//! it answers, or says by itself, decides.

use std::time::Duration;

use crate::domain::order::{Happening, StopCause};
use crate::domain::{CommandError, Order, Reply, Serial, WallMs};
use crate::session::Now;
use crate::session::held::Held;
use crate::session::io::Out;
use crate::session::pending::{Await, CommandId, RETRY};
use crate::session::state::Session;
use crate::session::translate::{wire_gun, wire_pile};
use crate::wire;

impl Session {
    /// The pile was away when somebody wanted it stopped; it may be back by now.
    pub(in crate::session) fn plan_stop(
        &mut self,
        now: Now,
        id: CommandId,
        (serial, expires_at): (Serial, WallMs),
        deadline: Duration,
        out: &mut Out,
    ) -> Result<(), CommandError> {
        if self.provisional.is_some() {
            let reason = "the pile has logged in while the store could not be asked".into();
            return Err(CommandError::StoreUnavailable { reason });
        }
        let Some(held) = self.held(serial) else { return Err(CommandError::OrderNotHeld { serial }) };
        if held.unsent.is_some() {
            return Err(CommandError::PileBusy { why: "its start is being written".into(), retry_after: Some(RETRY) });
        }
        let gun = held.order.gun;
        let stranger = |h: &Held| h.order.gun == gun && h.order.serial != serial && h.occupies_gun();
        if !held.order.may_be_stopped() || self.orders.iter().any(stranger) {
            return Err(CommandError::OrderNotActive { serial, state: held.order.state.name().into() });
        }
        self.pending.push(id, Await::Plan(serial), deadline, [0, 0]);
        self.happened(now, serial, Happening::StopPlanned { expires_at }, out);
        // It may have stood already.
        if let Some(order) = self.durable(serial).cloned() {
            self.answer_plan(&order, out);
        }
        self.ask_before_planned_stops(now, out);
        Ok(())
    }

    /// The order, if the store has it as it is.
    pub(in crate::session) fn durable(&self, serial: Serial) -> Option<&Order> {
        let written = |held: &&Held| held.version.is_some() && !held.dirty && !self.jobs.is_writing(serial);
        self.held(serial).filter(written).map(|held| &held.order)
    }

    /// The order is durable as it is: whoever planned its stop is told what has become of that.
    pub(in crate::session) fn answer_plan(&mut self, order: &Order, out: &mut Out) {
        let serial = order.serial;
        let standing = order.stop_at_login.is_some() || order.stop.is_some();
        let result = if standing && order.state.is_open() {
            Ok(Reply::StopPlanned(Box::new(order.clone())))
        } else {
            Err(CommandError::OrderNotActive { serial, state: order.state.name().into() })
        };
        self.answer_all(Await::Plan(serial), &result, out);
    }

    /// The pile is there: what charges on the guns of orders that are to be stopped?
    pub(in crate::session) fn ask_before_planned_stops(&self, now: Now, out: &mut Out) {
        for held in self.orders.iter().filter(|held| held.order.planned_stop(now.wall).is_some()) {
            let (pile_code, gun_no) = (wire_pile(self.pile.code), wire_gun(held.order.gun));
            out.repeat(wire::RealtimeQuery { pile_code, gun_no });
        }
    }

    /// The pile charges this order.
    pub(in crate::session) fn stop_as_planned(&mut self, now: Now, serial: Serial, out: &mut Out) {
        if self.held(serial).is_some_and(|held| held.order.planned_stop(now.wall).is_some()) {
            self.stop_by_itself(now, serial, StopCause::AtLogin, out);
        }
    }
}
