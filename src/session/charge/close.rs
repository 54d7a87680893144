//! Ending an order whose record never comes. Nothing goes to the pile; the caller is answered once it is durable.

use std::time::Duration;

use crate::domain::order::{Close, Happening};
use crate::domain::{CommandError, Order, OrderState, Reply, Serial};
use crate::session::Now;
use crate::session::io::Out;
use crate::session::pending::{Await, CommandId, RETRY};
use crate::session::state::Session;

impl Session {
    pub(in crate::session) fn close(
        &mut self,
        now: Now,
        id: CommandId,
        (serial, close): (Serial, Close),
        deadline: Duration,
        out: &mut Out,
    ) -> Result<(), CommandError> {
        if self.provisional.is_some() {
            let reason = "the pile has logged in while the store could not be asked".into();
            return Err(CommandError::StoreUnavailable { reason });
        }
        let Some(held) = self.held(serial) else {
            // What this session does not hold it does not write either: whoever asked may close it in the store.
            return Err(CommandError::OrderNotHeld { serial });
        };
        if held.unsent.is_some() {
            return Err(CommandError::PileBusy { why: "its start is being written".into(), retry_after: Some(RETRY) });
        }
        if held.order.state == OrderState::ClosedWithoutRecord && !held.dirty && !self.jobs.is_writing(serial) {
            // Done and durable. It is held for the other gun of its vehicle only, and nothing more is written of it.
            return Err(CommandError::OrderNotHeld { serial });
        }
        close.check(&held.order, now.wall)?;
        self.pending.push(id, Await::Close(serial), deadline, [0, 0]);
        self.happened(now, serial, Happening::Closed(Box::new(close)), out);
        Ok(())
    }

    /// The order is as it will stay: who wanted it closed is told whether it is, and who waits for anything else of it
    /// that it will not come.
    pub(in crate::session) fn answer_close(&mut self, order: &Order, out: &mut Out) {
        let serial = order.serial;
        let not_active = Err(CommandError::OrderNotActive { serial, state: order.state.name().into() });
        let closed =
            if order.closing.is_some() { Ok(Reply::Closed(Box::new(order.clone()))) } else { not_active.clone() };
        self.answer_all(Await::Close(serial), &closed, out);
        self.answer_all(Await::Plan(serial), &not_active, out);
        if order.state == OrderState::ClosedWithoutRecord {
            self.answer_stop(serial, &not_active, out);
            self.answer_all(Await::Start(serial), &Ok(Reply::Started(Box::new(order.clone()))), out);
            self.answer_as_it_stays(order, out);
        }
    }
}
