//! Stopping by 0x36.

use std::time::Duration;

use crate::domain::command::StopProof;
use crate::domain::order::Happening;
use crate::domain::{CommandError, Gun, OrderState, Reply, Serial};
use crate::session::Now;
use crate::session::held::Held;
use crate::session::io::Out;
use crate::session::pending::{Await, CommandId, RETRY};
use crate::session::state::Session;
use crate::session::translate::{accepted, wire_gun, wire_pile};
use crate::wire::{self, Sequence};

impl Session {
    pub(in crate::session) fn stop(
        &mut self,
        now: Now,
        id: CommandId,
        serial: Serial,
        deadline: Duration,
        out: &mut Out,
    ) -> Result<(), CommandError> {
        let Some(held) = self.held(serial) else {
            return Err(CommandError::OrderNotActive { serial, state: "not open".into() });
        };
        if held.unsent.is_some() {
            return Err(CommandError::PileBusy { why: "its start is being written".into(), retry_after: Some(RETRY) });
        }
        if !held.occupies_gun() || held.order.state == OrderState::Finished {
            return Err(CommandError::OrderNotActive { serial, state: held.order.state.name().into() });
        }
        let gun = held.order.gun;
        let sequence = self.send_stop(gun, out);
        self.pending.push(id, Await::Stop(gun, serial), deadline, sequence);
        self.happened(now, serial, Happening::StopRequested, out);
        Ok(())
    }

    pub(super) fn send_stop(&mut self, gun: Gun, out: &mut Out) -> [u8; 2] {
        out.command(wire::RemoteStop { pile_code: wire_pile(self.pile.code), gun_no: wire_gun(gun) })
    }

    /// 0x35: reported to who waits for it, and required by nobody (A24).
    pub(in crate::session) fn stop_answer(
        &mut self,
        now: Now,
        answer: &wire::RemoteStopResponse,
        sequence: Sequence,
        out: &mut Out,
    ) {
        let Some(gun) = self.gun(answer.gun_no) else { return };
        // It names a gun only: an order whose charge has ended, but whose record is overdue, is not meant.
        let stopping = |h: &&Held| h.order.gun == gun && h.order.stop.is_some() && h.occupies_gun();
        let Some(serial) = self.orders.iter().find(stopping).map(|held| held.order.serial) else { return };
        let outcome = accepted(0x35, answer.stop_result).map_err(|_| CommandError::PileRejected {
            frame: 0x35,
            code: answer.fail_reason.raw(),
            name: answer.fail_reason.label().unwrap_or("unknown reason").to_owned(),
        });
        if outcome.is_ok() {
            self.happened(now, serial, Happening::StopAccepted, out);
        }
        let Some(held) = self.held(serial) else { return };
        let order = Box::new(held.order.clone());
        let result = outcome.map(|()| Reply::Stopped { order, confirmed_by: StopProof::Answer });
        self.answer(|what| matches!(what, Await::Stop(of, _) if of == gun), Some(sequence), &result, out);
    }
}
