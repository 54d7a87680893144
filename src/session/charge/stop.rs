//! Stopping by 0x36.

use std::time::Duration;

use crate::domain::command::StopProof;
use crate::domain::order::{AnomalyKind, Happening, StopCause};
use crate::domain::{CommandError, Gun, Order, Reply, Serial};
use crate::session::held::Held;
use crate::session::io::Out;
use crate::session::pending::{Await, CommandId, RETRY};
use crate::session::state::Session;
use crate::session::translate::{stop_outcome, wire_gun, wire_pile};
use crate::session::{LateStart, Now};
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
        if self.provisional.is_some() {
            return self.stop_provisionally(now, id, serial, deadline, out);
        }
        let Some(held) = self.held(serial) else {
            return Err(CommandError::OrderNotActive { serial, state: "not open".into() });
        };
        if held.unsent.is_some() {
            return Err(CommandError::PileBusy { why: "its start is being written".into(), retry_after: Some(RETRY) });
        }
        if !held.order.may_be_stopped() {
            return Err(CommandError::OrderNotActive { serial, state: held.order.state.name().into() });
        }
        let gun = self.gun_to_stop(&held.order);
        if self.meets_stranger(gun, serial) {
            return Err(CommandError::OrderNotActive { serial, state: "its gun charges another order".into() });
        }
        let sequence = out.command(self.stop_frame(gun), deadline);
        self.pending.push(id, Await::Stop(gun, serial), deadline, sequence);
        self.happened(now, serial, Happening::StopRequested(StopCause::Caller), out);
        Ok(())
    }

    /// What would have been stopped, had the session been told as it happened, and still charges.
    pub(in crate::session) fn stop_what_charges(&mut self, now: Now, out: &mut Out) {
        let charged: Vec<_> = self.charged.iter().map(|(_, serial)| *serial).collect();
        for serial in charged {
            self.stop_as_planned(now, serial, out);
            let late = |held: &Held| {
                let order = &held.order;
                let late = order.anomalies.iter().any(|anomaly| anomaly.kind == AnomalyKind::LateStart);
                late && order.stop.is_none() && order.may_be_stopped()
            };
            if self.held(serial).is_some_and(late) {
                self.started_late(now, serial, out);
            }
            self.keep_together(now, serial, out);
        }
    }

    /// An order that had failed charges after all.
    pub(in crate::session) fn started_late(&mut self, now: Now, serial: Serial, out: &mut Out) {
        match self.policy.config.late_start {
            LateStart::Stop => self.stop_by_itself(now, serial, StopCause::LateStart, out),
            LateStart::Adopt => {}
        }
    }

    /// 0x36 without a caller, if the gun charges this order now; repeated like any other while the pile charges on.
    pub(in crate::session) fn stop_by_itself(&mut self, now: Now, serial: Serial, cause: StopCause, out: &mut Out) {
        if self.catching_up || self.has_ended() || self.held(serial).is_none() {
            return;
        }
        let Some(gun) = self.charged_on(serial) else { return };
        out.repeat(self.stop_frame(gun));
        self.happened(now, serial, Happening::StopRequested(cause), out);
    }

    /// Where 0x36 meets this order: on the gun the pile charges it on, as far as that is known.
    pub(in crate::session) fn gun_to_stop(&self, order: &Order) -> Gun {
        self.charged_on(order.serial).unwrap_or(order.gun)
    }

    /// Whether the gun charges another order.
    pub(in crate::session) fn meets_stranger(&self, gun: Gun, serial: Serial) -> bool {
        self.charged.iter().any(|(of, charged)| *of == gun && *charged != serial)
    }

    pub(in crate::session) fn stop_frame(&self, gun: Gun) -> wire::RemoteStop {
        wire::RemoteStop { pile_code: wire_pile(self.pile.code), gun_no: wire_gun(gun) }
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
        self.stop_accepted(now, answer, out);
        // The gun it was charged on may have gone idle since.
        let asked = |h: &&Held| self.pending.holds(|what| what == Await::Stop(gun, h.order.serial));
        let stopping = self.stopping(gun).or_else(|| self.orders.iter().find(asked));
        let Some(order) = stopping.map(|held| Box::new(held.order.clone())) else { return };
        let result = stop_outcome(answer).map(|()| Reply::Stopped { order, confirmed_by: StopProof::Answer });
        self.answer(|what| matches!(what, Await::Stop(of, _) if of == gun), Some(sequence), &result, out);
    }

    /// What 0x35 means for the order that is being stopped.
    pub(in crate::session) fn stop_accepted(&mut self, now: Now, answer: &wire::RemoteStopResponse, out: &mut Out) {
        let stopping = self.gun(answer.gun_no).and_then(|gun| self.stopping(gun)).map(|held| held.order.serial);
        if let (Some(serial), Ok(())) = (stopping, stop_outcome(answer)) {
            self.happened(now, serial, Happening::StopAccepted, out);
        }
    }

    /// 0x35 names a gun only: an order whose charge has ended, but whose record is overdue, is not meant.
    fn stopping(&self, gun: Gun) -> Option<&Held> {
        let meant = |h: &&Held| h.order.stop.is_some() && h.occupies_gun() && self.gun_to_stop(&h.order) == gun;
        // What was last seen to charge there comes first.
        self.orders.iter().filter(meant).min_by_key(|h| self.charged_on(h.order.serial) != Some(gun))
    }

    /// Whoever wants it stopped, on whichever gun, need not wait for 0x35.
    pub(in crate::session) fn answer_stop(
        &mut self,
        serial: Serial,
        result: &Result<Reply, CommandError>,
        out: &mut Out,
    ) {
        self.answer(|what| matches!(what, Await::Stop(_, of) if of == serial), None, result, out);
    }
}
