//! Parallel charging: one vehicle on two guns (8.11).

use super::charge::Order;
use super::gun::{Dialect, Request};
use super::pile::{Cx, Pile};
use crate::wire::{GunRole, Outcome, ParallelRemoteStart, Sequence, StartFailure, StartType};

impl Pile {
    /// 0xA4 for one of the guns; the lower number is the main gun.
    pub(super) fn parallel_start(&mut self, cx: &mut Cx, sequence: Sequence, row: ParallelRemoteStart) {
        let ParallelRemoteStart {
            transaction_serial,
            pile_code,
            gun_no,
            logical_card: _,
            physical_card,
            balance,
            parallel_no,
        } = row;
        let gun = self.addressed_gun(pile_code, gun_no);
        let role = if gun == Some(0) { GunRole::Main } else { GunRole::Auxiliary };
        let mut order = Order::unlimited(transaction_serial, StartType::App, physical_card);
        order.balance = u64::from(balance.raw()) * 100;
        let request = Request { sequence, gun_no, dialect: Dialect::Parallel(role, parallel_no), order };
        match gun {
            Some(index) => self.remote_start(cx, index, request),
            None => self.answer_start(cx, &request, Outcome::Failure, StartFailure::WrongPileCode),
        }
    }
}
