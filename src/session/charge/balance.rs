//! The account's balance in mid-charge: 0x42 and 0x41.

use std::time::Duration;

use crate::domain::command::NewBalance;
use crate::domain::order::Happening;
use crate::domain::{CommandError, OrderState, Reply, Serial};
use crate::session::Now;
use crate::session::io::Out;
use crate::session::pending::{Await, CommandId, RETRY};
use crate::session::state::Session;
use crate::session::translate::{balance_outcome, wire_gun, wire_pile};
use crate::wire::{self, Sequence};

impl Session {
    pub(in crate::session) fn update_balance(
        &mut self,
        id: CommandId,
        update: NewBalance,
        deadline: Duration,
        out: &mut Out,
    ) -> Result<(), CommandError> {
        let NewBalance { serial, fen, physical_card } = update;
        if self.provisional.is_some() {
            let reason = "the pile has logged in while the store could not be asked".into();
            return Err(CommandError::StoreUnavailable { reason });
        }
        let Some(held) = self.held(serial) else {
            return Err(CommandError::OrderNotActive { serial, state: "not open".into() });
        };
        if held.unsent.is_some() {
            return Err(CommandError::PileBusy { why: "its start is being written".into(), retry_after: Some(RETRY) });
        }
        match held.order.state {
            OrderState::Requested | OrderState::WaitingForPlug | OrderState::Starting | OrderState::Charging => {}
            state @ (OrderState::Stopping
            | OrderState::Finished
            | OrderState::Abnormal
            | OrderState::Failed
            | OrderState::Settled
            | OrderState::ClosedWithoutRecord) => {
                return Err(CommandError::OrderNotActive { serial, state: state.name().into() });
            }
        }
        let gun = held.order.gun;
        self.alone(|what| matches!(what, Await::Balance(..)), "a new balance is waiting for its answer")?;
        let frame = wire::BalanceUpdate {
            pile_code: wire_pile(self.pile.code),
            gun_no: wire_gun(gun),
            physical_card: wire::Opaque(physical_card),
            new_balance: wire::Balance(fen),
        };
        let sequence = out.command(frame, deadline);
        self.pending.push(id, Await::Balance(serial, fen), deadline, sequence);
        Ok(())
    }

    /// 0x41. One that comes after its caller has given up is not attributed to anything: it does not say to what it is the
    /// answer.
    pub(in crate::session) fn balance_answer(
        &mut self,
        now: Now,
        answer: &wire::BalanceUpdateResponse,
        sequence: Sequence,
        out: &mut Out,
    ) {
        let Some(Await::Balance(serial, fen)) =
            self.pending.answered_by(|what| matches!(what, Await::Balance(..)), sequence.0)
        else {
            return;
        };
        let result = balance_outcome(answer).and_then(|()| self.balance_taken(now, serial, fen, out));
        self.answer(|what| matches!(what, Await::Balance(..)), Some(sequence), &result, out);
    }

    fn balance_taken(&mut self, now: Now, serial: Serial, fen: u32, out: &mut Out) -> Result<Reply, CommandError> {
        self.happened(now, serial, Happening::BalanceUpdated { fen }, out);
        let Some(held) = self.orders.iter_mut().find(|held| held.order.serial == serial) else {
            // It has been settled while the answer was on its way.
            return Err(CommandError::OrderNotActive { serial, state: "not open".into() });
        };
        held.dirty = true;
        Ok(Reply::BalanceUpdated(Box::new(held.order.clone())))
    }
}
