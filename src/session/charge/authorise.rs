//! Who may charge with a card or a VIN at the pile.

use crate::session::io::Out;
use crate::session::state::Session;
use crate::session::translate::wire_pile;
use crate::wire::{self, Sequence};

/// Authorisation at the pile: nobody here knows cards or VINs, so nobody may charge with one.
impl Session {
    pub(in crate::session) fn deny_start(&self, sequence: Sequence, gun_no: wire::GunNo, out: &mut Out) {
        let denial = wire::StartConfirm {
            transaction_serial: wire::Serial::ZERO,
            pile_code: wire_pile(self.pile.code),
            gun_no,
            logical_card: wire::Bcd::ZERO,
            balance: wire::Balance(0),
            auth_result: wire::Outcome::Failure,
            fail_reason: wire::AuthFailure::NoSuchAccount,
        };
        out.reply(sequence, denial);
    }

    pub(in crate::session) fn deny_start_v18(&self, sequence: Sequence, gun_no: wire::GunNo, out: &mut Out) {
        let denial = wire::StartConfirmV18 {
            transaction_serial: wire::Serial::ZERO,
            pile_code: wire_pile(self.pile.code),
            gun_no,
            logical_card: wire::Bcd::ZERO,
            balance: wire::Balance(0),
            max_power: wire::Kilowatts(0),
            soc_limit: wire::Percent(0),
            energy_limit: wire::Energy(0),
            auth_result: wire::Outcome::Failure,
            fail_reason: wire::AuthFailure::NoSuchAccount,
        };
        out.reply(sequence, denial);
    }

    pub(in crate::session) fn deny_parallel(
        &self,
        sequence: Sequence,
        ask: &wire::ParallelStartRequest,
        out: &mut Out,
    ) {
        let denial = wire::ParallelStartConfirm {
            transaction_serial: wire::Serial::ZERO,
            pile_code: wire_pile(self.pile.code),
            gun_no: ask.gun_no,
            logical_card: wire::Bcd::ZERO,
            balance: wire::Balance(0),
            auth_result: wire::Outcome::Failure,
            fail_reason: wire::AuthFailure::NoSuchAccount,
            parallel_no: ask.parallel_no,
        };
        out.reply(sequence, denial);
    }
}
