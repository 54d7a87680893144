//! Parallel charging: one vehicle on two guns, with one answer for both (6.9, 8.11).

use std::time::Duration;

use super::charge::Order;
use super::charging::LATE_PLUG;
use super::config::Behaviour;
use super::gun::{Asking, Attempt, Dialect, Gun, Phase, Request, WaitsFor};
use super::pile::{Cx, Pile};
use super::stats::Count;
use crate::wire::{
    Bcd, Frame, GunRole, Opaque, Outcome, ParallelRemoteStart, ParallelStartConfirm, ParallelStartRequest, Sequence,
    StartFailure, StartRequest, StartType, StopReason,
};

impl Pile {
    /// One card for the vehicle on the first two guns: 0xA1 for each.
    pub(super) fn swipe_parallel(&mut self, cx: &mut Cx, card: Opaque<8>) {
        let free = |gun: &Gun| matches!(gun.phase, Phase::Idle);
        if self.guns.len() < VEHICLE_GUNS || !self.ready() || !self.guns[..VEHICLE_GUNS].iter().all(free) {
            return;
        }
        // `YYMMDDhhmmss` of the pile's clock, as in its serials.
        let mut number = [0; 6];
        number.copy_from_slice(&self.own_serial(cx, 0).0[8..14]);
        for index in 0..VEHICLE_GUNS {
            let (again_at, parallel) = (cx.now.mono, Some(Bcd(number)));
            let asking = Asking { card: Some(card), again_at, asked: 0, parallel, granted: None };
            self.guns[index].phase = Phase::Asking(Box::new(asking));
            self.ask(cx, index);
        }
    }

    pub(super) fn parallel_request(&self, index: usize, card: Option<Opaque<8>>, parallel_no: Bcd<6>) -> Frame {
        let StartRequest { pile_code, gun_no, start_mode, need_password, account_or_card, password, vin } =
            self.wish(index, card);
        let gun_role = if index == 0 { GunRole::Main } else { GunRole::Auxiliary };
        ParallelStartRequest {
            pile_code,
            gun_no,
            start_mode,
            need_password,
            account_or_card,
            password,
            vin,
            gun_role,
            parallel_no,
        }
        .into()
    }

    /// 0xA2: the vehicle charges once the platform has said yes to all its guns, and not at all if it says no to one.
    pub(super) fn parallel_confirm(&mut self, cx: &mut Cx, row: &ParallelStartConfirm) {
        let ParallelStartConfirm {
            transaction_serial,
            pile_code: _,
            gun_no,
            logical_card: _,
            balance,
            auth_result,
            fail_reason: _,
            parallel_no,
        } = *row;
        let Some(index) = self.gun_index(gun_no.number(self.config.guns)) else { return };
        let Phase::Asking(asking) = &mut self.guns[index].phase else { return };
        if asking.parallel != Some(parallel_no) {
            return;
        }
        if auth_result != Outcome::Success {
            cx.count(Count::StartRefused);
            return self.give_up_parallel(Some(parallel_no));
        }
        let mut order = Order::unlimited(transaction_serial, StartType::Card, asking.card.unwrap_or(Opaque::ZERO));
        order.balance = u64::from(balance.raw()) * 100;
        order.parallel = Some(parallel_no);
        asking.granted = Some(order);
        let of_vehicle: Vec<_> = (0..self.guns.len()).filter(|index| self.asks_with(*index, parallel_no)).collect();
        let granted = |gun: &Gun| matches!(&gun.phase, Phase::Asking(asking) if asking.granted.is_some());
        if !of_vehicle.iter().all(|index| granted(&self.guns[*index])) {
            return;
        }
        if of_vehicle.iter().any(|index| self.may_charge(*index).is_err()) {
            cx.count(Count::StartRefused);
            return self.give_up_parallel(Some(parallel_no));
        }
        for index in of_vehicle {
            if let Phase::Asking(asking) = std::mem::replace(&mut self.guns[index].phase, Phase::Idle)
                && let Some(order) = asking.granted
            {
                self.begin(cx, index, order);
            }
        }
    }

    /// None of its guns charges.
    pub(super) fn give_up_parallel(&mut self, parallel: Option<Bcd<6>>) {
        let Some(number) = parallel else { return };
        for index in 0..self.guns.len() {
            if self.asks_with(index, number) {
                self.guns[index].phase = Phase::Idle;
            }
        }
    }

    fn asks_with(&self, index: usize, number: Bcd<6>) -> bool {
        matches!(&self.guns[index].phase, Phase::Asking(asking) if asking.parallel == Some(number))
    }

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
            let waits_for = WaitsFor::Sibling;
            Box::new(Attempt { number: parallel_no, requests: Vec::new(), until, waits_for })
        });
        attempt.requests.retain(|(other, _)| *other != index);
        attempt.requests.push((index, request));
        self.parallel = Some(attempt);
    }

    /// Answers an attempt as soon as there is one answer for all its guns.
    pub(super) fn tick_parallel(&mut self, cx: &mut Cx) {
        let Some(mut attempt) = self.parallel.take() else { return };
        let over = attempt.until <= cx.now.mono;
        let go_on = match attempt.waits_for {
            WaitsFor::Sibling => attempt.requests.len() == VEHICLE_GUNS || over,
            WaitsFor::Nothing => over,
            WaitsFor::Plug if attempt.requests.iter().all(|(index, _)| self.verdict(*index).is_ok()) => true,
            // Nobody has plugged in: it is forgotten.
            WaitsFor::Plug if over => return,
            WaitsFor::Plug => false,
        };
        let late = self.answers_late().filter(|_| go_on && attempt.waits_for == WaitsFor::Sibling);
        if let Some(after) = late {
            (attempt.waits_for, attempt.until) = (WaitsFor::Nothing, cx.now.mono + after);
        }
        if !go_on || late.is_some() {
            self.parallel = Some(attempt);
            return;
        }
        for (index, _) in &attempt.requests {
            self.meter(cx, *index);
        }
        if let Some(reason) = self.fails_starts() {
            for (index, request) in attempt.requests {
                self.fail_start(cx, index, request.order, reason);
            }
            return;
        }
        match attempt.requests.iter().find_map(|(index, _)| self.verdict(*index).err()) {
            None => self.start_together(cx, attempt.requests),
            Some(reason) => self.refuse_together(cx, attempt, reason),
        }
    }

    /// Unless the pile misbehaves, all of them.
    fn start_together(&mut self, cx: &mut Cx, mut requests: Vec<(usize, Request)>) {
        let refused = self.behaviour(|b| if let Behaviour::RefuseSecond(reason) = b { Some(*reason) } else { None });
        if let Some(reason) = refused {
            let (first, others): (Vec<_>, Vec<_>) = requests.into_iter().partition(|(index, _)| *index == 0);
            for (_, request) in &others {
                self.answer_start(cx, request, Outcome::Failure, StartFailure::from_raw(reason));
            }
            requests = first;
        }
        for (_, request) in &requests {
            self.answer_start(cx, request, Outcome::Success, StartFailure::None);
        }
        for (index, request) in requests {
            self.begin(cx, index, request.order);
        }
    }

    fn refuse_together(&mut self, cx: &mut Cx, mut attempt: Box<Attempt>, reason: StartFailure) {
        for (_, request) in &attempt.requests {
            self.answer_start(cx, request, Outcome::Failure, reason);
        }
        if self.refuses().is_none() && reason == StartFailure::NotPluggedIn {
            (attempt.waits_for, attempt.until) = (WaitsFor::Plug, cx.now.mono + LATE_PLUG);
            self.parallel = Some(attempt);
        } else if self.has(Behaviour::ChargeAlthoughRefused) && self.tariff.is_some() {
            for (index, request) in attempt.requests {
                if self.guns[index].charge().is_none() {
                    self.begin(cx, index, request.order);
                }
            }
        }
    }

    /// Somebody has stopped one of its guns before it began.
    pub(super) fn drop_attempt(&mut self, index: usize) {
        self.parallel.take_if(|attempt| attempt.requests.iter().any(|(of, _)| *of == index));
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

/// The guns one vehicle has.
const VEHICLE_GUNS: usize = 2;
/// The commands for the guns of one attempt come together.
const SIBLING: Duration = Duration::from_secs(5);
