//! Parallel charging: one vehicle on two guns, with one answer for both (6.9, 8.11).

use std::time::Duration;

use super::charge::Order;
use super::charging::LATE_PLUG;
use super::gun::{Attempt, Dialect, Request};
use super::pile::{Cx, Pile};
use crate::wire::{Bcd, GunRole, Outcome, ParallelRemoteStart, Sequence, StartFailure, StartType, StopReason};

impl Pile {
    /// 0xA4 for one of the guns; the first gun is the main one.
    pub(super) fn parallel_start(&mut self, cx: &mut Cx, sequence: Sequence, row: &ParallelRemoteStart) {
        let ParallelRemoteStart {
            transaction_serial,
            pile_code,
            gun_no,
            logical_card: _,
            physical_card,
            balance,
            parallel_no,
        } = *row;
        let gun = self.addressed_gun(pile_code, gun_no);
        let role = if gun == Some(0) { GunRole::Main } else { GunRole::Auxiliary };
        let mut order = Order::unlimited(transaction_serial, StartType::App, physical_card);
        order.balance = u64::from(balance.raw()) * 100;
        order.parallel = Some(parallel_no);
        let request = Request { sequence, gun_no, dialect: Dialect::Parallel(role, parallel_no), order };
        let Some(index) = gun else {
            return self.answer_start(cx, &request, Outcome::Failure, StartFailure::WrongPileCode);
        };
        let until = cx.now.mono + SIBLING;
        // Another number is another attempt; nobody waits for the old one any more.
        let same = self.parallel.take().filter(|attempt| attempt.number == parallel_no);
        let mut attempt = same.unwrap_or_else(|| {
            Box::new(Attempt { number: parallel_no, requests: Vec::new(), until, told_to_plug: false })
        });
        attempt.requests.retain(|(other, _)| *other != index);
        attempt.requests.push((index, request));
        self.parallel = Some(attempt);
    }

    /// Answers an attempt as soon as there is one answer for all its guns.
    pub(super) fn tick_parallel(&mut self, cx: &mut Cx) {
        let Some(mut attempt) = self.parallel.take() else { return };
        let over = attempt.until <= cx.now.mono;
        if attempt.requests.len() < 2 && !over {
            self.parallel = Some(attempt);
            return;
        }
        let verdict = attempt.requests.iter().find_map(|(index, _)| self.verdict(*index).err());
        match verdict {
            None => {
                for (_, request) in &attempt.requests {
                    self.answer_start(cx, request, Outcome::Success, StartFailure::None);
                }
                for (index, request) in attempt.requests {
                    self.begin(cx, index, request.order);
                }
            }
            Some(_) if attempt.told_to_plug => {
                if !over {
                    self.parallel = Some(attempt);
                }
            }
            Some(reason) => {
                for (_, request) in &attempt.requests {
                    self.answer_start(cx, request, Outcome::Failure, reason);
                }
                if reason == StartFailure::NotPluggedIn {
                    attempt.told_to_plug = true;
                    attempt.until = cx.now.mono + LATE_PLUG;
                    self.parallel = Some(attempt);
                }
            }
        }
    }

    /// One vehicle: when one gun of it ends, all do.
    pub(super) fn end_siblings(&mut self, cx: &mut Cx, parallel: Option<Bcd<6>>, reason: StopReason) {
        let Some(number) = parallel else { return };
        for index in 0..self.guns.len() {
            if self.guns[index].charge().is_some_and(|charge| charge.order.parallel == Some(number)) {
                self.end(cx, index, reason);
            }
        }
    }
}

/// The commands for the guns of one attempt come together.
const SIBLING: Duration = Duration::from_secs(5);
