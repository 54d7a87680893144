//! What a pile does with its guns: plug, swipe, start, meter, stop, bill.

use std::sync::Arc;
use std::time::Duration;

use super::charge::{Charge, Order};
use super::clock::date_time;
use super::config::{AutoCharge, Behaviour};
use super::gun::{Asking, Dialect, Phase, Request};
use super::pile::{Cx, Pile};
use super::stats::{Count, known};
use super::vehicle::Vehicle;
use crate::domain;
use crate::wire::{
    Frame, Opaque, Outcome, ParallelRemoteStartResponse, RemoteStartResponse, RemoteStartResponseV18, Serial,
    StartConfirm, StartFailure, StartType, StopReason,
};

impl Pile {
    pub(super) fn tick_gun(&mut self, cx: &mut Cx, index: usize) {
        let now = cx.now.mono;
        self.meter(cx, index);
        if self.guns[index].charge().is_some() && self.guns[index].end_at.is_some_and(|at| at <= now) {
            self.finish(cx, index, StopReason::FinishedTime);
        }
        match &mut self.guns[index].phase {
            Phase::Asking(asking) if asking.again_at <= now => {
                if asking.asked >= ASK_TIMES {
                    let parallel = asking.parallel;
                    self.guns[index].phase = Phase::Idle;
                    self.give_up_parallel(parallel);
                } else {
                    self.ask(cx, index);
                }
            }
            Phase::Answering(request, at) if *at <= now => {
                let request = (**request).clone();
                self.guns[index].phase = Phase::Idle;
                self.start(cx, index, request);
            }
            Phase::WaitingForPlug(_, until) if *until <= now => self.guns[index].phase = Phase::Idle,
            Phase::Idle | Phase::Asking(_) | Phase::Answering(..) | Phase::WaitingForPlug(..) | Phase::Charging(_) => {}
        }
        self.tick_auto(cx, index);
        if self.guns[index].report_at <= now {
            self.report(cx, index);
            if self.guns[index].charge().is_some() && self.config.dc {
                self.report_bms(cx, index);
            }
        }
    }

    fn tick_auto(&mut self, cx: &mut Cx, index: usize) {
        let now = cx.now.mono;
        let (Some(AutoCharge { every, stop_after }), Some(at)) = (self.config.auto_charge, self.guns[index].auto)
        else {
            return;
        };
        if at > now {
            return;
        }
        if self.guns[index].charge().is_some() {
            // Only a charge with a time limit is stopped by hand; another vehicle waits for the others to end.
            if stop_after.is_some() {
                self.end(cx, index, StopReason::FinishedByHand);
            }
            self.guns[index].auto = Some(now + stop_after.map_or(every, |after| every.saturating_sub(after)));
            return;
        }
        self.guns[index].auto = Some(now + stop_after.unwrap_or(every));
        if self.ready() && matches!(self.guns[index].phase, Phase::Idle) {
            let card = self.auto_card(index);
            self.swipe(cx, index, Some(card));
        }
    }

    /// Each gun of each pile has its own driver.
    fn auto_card(&self, index: usize) -> Opaque<8> {
        let mut card = [0; 8];
        card[1..].copy_from_slice(&self.code.0);
        card[0] = self.guns[index].no;
        Opaque(card)
    }

    /// Meters a running charge up to now, and ends it if something did.
    pub(super) fn meter(&mut self, cx: &mut Cx, index: usize) {
        let limit = self.limit(cx, index);
        let clock = self.clock;
        let Phase::Charging(charge) = &mut self.guns[index].phase else { return };
        if let Some(reason) = charge.advance(&clock, clock.sim(cx.now.mono), limit) {
            self.finish(cx, index, reason);
        }
    }

    /// What the gun may give now, in W.
    pub(super) fn limit(&self, cx: &Cx, index: usize) -> u32 {
        let power = if self.config.dc { Vehicle::DC_POWER } else { Vehicle::AC_POWER };
        let mut limit = power * u32::from(self.power_percent) / 100;
        let caps = self.guns[index].caps;
        if let Some((watts, _)) = caps.session.filter(|(_, until)| cx.now.mono < *until) {
            limit = limit.min(watts);
        }
        if let Some((watts, from, to)) = caps.default {
            let time = self.clock.local(self.clock.sim(cx.now.mono)).rem_euclid(DAY);
            let within = if from <= to { (from..to).contains(&time) } else { time >= from || time < to };
            if within {
                limit = limit.min(watts);
            }
        }
        limit
    }

    pub(super) fn plug(&mut self, cx: &mut Cx, index: usize, plugged: bool) {
        if self.guns[index].plugged == plugged {
            return;
        }
        self.meter(cx, index);
        self.guns[index].plugged = plugged;
        if !plugged {
            // The next vehicle must not charge on this account.
            self.end(cx, index, StopReason::AbortedControlPilotDisconnected);
        }
        self.report(cx, index);
        if let Phase::WaitingForPlug(request, _) = &self.guns[index].phase
            && plugged
        {
            let request = (**request).clone();
            self.guns[index].phase = Phase::Idle;
            self.start(cx, index, request);
        }
    }

    pub(super) fn fault(&mut self, cx: &mut Cx, index: usize, bits: u16) {
        if self.guns[index].faults == bits {
            return;
        }
        self.meter(cx, index);
        self.guns[index].faults = bits;
        if bits != 0 {
            self.end(cx, index, fault_reason(bits));
        }
        self.report(cx, index);
    }

    pub(super) fn stop_by_hand(&mut self, cx: &mut Cx, index: usize) {
        self.end(cx, index, StopReason::FinishedByHand);
    }

    /// A card, or the vehicle by its VIN, at the gun.
    pub(super) fn swipe(&mut self, cx: &mut Cx, index: usize, card: Option<Opaque<8>>) {
        match &self.guns[index].phase {
            Phase::Charging(charge) => {
                if card.is_some_and(|card| card == charge.order.card) {
                    self.end(cx, index, StopReason::FinishedByHand);
                }
            }
            Phase::Asking(_) | Phase::Answering(..) | Phase::WaitingForPlug(..) => {}
            Phase::Idle if self.ready() => {
                self.guns[index].phase = Phase::Asking(Box::new(Asking {
                    card,
                    again_at: cx.now.mono,
                    asked: 0,
                    parallel: None,
                    granted: None,
                }));
                self.ask(cx, index);
            }
            Phase::Idle => {
                if let Some(card) = card.filter(|card| self.cards.contains(card) && self.may_charge(index).is_ok()) {
                    let serial = self.own_serial(cx, index);
                    self.begin(cx, index, Order::unlimited(serial, StartType::OfflineCard, card));
                }
            }
        }
    }

    pub(super) fn ask(&mut self, cx: &mut Cx, index: usize) {
        let Phase::Asking(asking) = &mut self.guns[index].phase else { return };
        asking.asked += 1;
        asking.again_at = cx.now.mono + ASK_AGAIN;
        let (card, parallel) = (asking.card, asking.parallel);
        if asking.granted.is_some() {
            return;
        }
        cx.count(Count::StartAsked);
        let frame = match parallel {
            Some(number) => self.parallel_request(index, card, number),
            None => self.start_request(index, card),
        };
        self.send(cx, frame);
    }

    /// 0x32, or 0xA6 with its limits.
    pub(super) fn start_confirm(&mut self, cx: &mut Cx, row: &StartConfirm, limits: impl FnOnce(&mut Order)) {
        let Some(index) = self.gun_index(row.gun_no.number(self.config.guns)) else { return };
        let Phase::Asking(asking) = &self.guns[index].phase else { return };
        let card = asking.card;
        self.guns[index].phase = Phase::Idle;
        let accepted = row.auth_result == Outcome::Success;
        let anyway = self.has(Behaviour::ChargeAlthoughRefused);
        if !(accepted || anyway) || self.may_charge(index).is_err() {
            cx.count(Count::StartRefused);
            return;
        }
        let serial = if row.transaction_serial.is_zero() { self.own_serial(cx, index) } else { row.transaction_serial };
        let start_type = if card.is_some() { StartType::Card } else { StartType::Vin };
        let mut order = Order::unlimited(serial, start_type, card.unwrap_or(Opaque::ZERO));
        if accepted {
            order.balance = u64::from(row.balance.raw()) * 100;
            limits(&mut order);
        }
        self.begin(cx, index, order);
    }

    /// 0x34 or 0xA8, once its gun is known to exist.
    pub(super) fn remote_start(&mut self, cx: &mut Cx, index: usize, request: Request) {
        match self.answers_late() {
            Some(after) if self.guns[index].charge().is_none() => {
                self.guns[index].phase = Phase::Answering(Box::new(request), cx.now.mono + after);
            }
            Some(_) | None => self.start(cx, index, request),
        }
    }

    fn start(&mut self, cx: &mut Cx, index: usize, request: Request) {
        self.meter(cx, index);
        if let Some(reason) = self.fails_starts() {
            return self.fail_start(cx, index, request.order, reason);
        }
        let refused = self.refuses();
        match self.verdict(index) {
            Ok(()) => {
                self.answer_start(cx, &request, Outcome::Success, StartFailure::None);
                self.begin(cx, index, request.order);
            }
            Err(reason) => {
                self.answer_start(cx, &request, Outcome::Failure, reason);
                if refused.is_none() && reason == StartFailure::NotPluggedIn {
                    // Answered again, and started, if somebody plugs in in time.
                    let until = cx.now.mono + LATE_PLUG;
                    self.guns[index].phase = Phase::WaitingForPlug(Box::new(request), until);
                } else if self.has(Behaviour::ChargeAlthoughRefused)
                    && self.guns[index].charge().is_none()
                    && self.tariff.is_some()
                {
                    self.begin(cx, index, request.order);
                }
            }
        }
    }

    pub(super) fn answer_start(
        &mut self,
        cx: &mut Cx,
        request: &Request,
        start_result: Outcome,
        fail_reason: StartFailure,
    ) {
        cx.count(if start_result == Outcome::Success { Count::StartAccepted } else { Count::StartRefused });
        let (transaction_serial, pile_code) = (request.order.serial, self.code);
        let gun_no = request.gun_no;
        let answer: Frame = match request.dialect {
            Dialect::V16 => {
                RemoteStartResponse { transaction_serial, pile_code, gun_no, start_result, fail_reason }.into()
            }
            Dialect::V18 => {
                RemoteStartResponseV18 { transaction_serial, pile_code, gun_no, start_result, fail_reason }.into()
            }
            Dialect::Parallel(gun_role, parallel_no) => ParallelRemoteStartResponse {
                transaction_serial,
                pile_code,
                gun_no,
                start_result,
                fail_reason,
                gun_role,
                parallel_no,
            }
            .into(),
        };
        self.reply(cx, request.sequence, answer);
    }

    /// What a start command is answered.
    pub(super) fn verdict(&self, index: usize) -> Result<(), StartFailure> {
        self.refuses().map_or_else(|| self.may_charge(index), Err)
    }

    pub(super) fn answers_late(&self) -> Option<Duration> {
        self.behaviour(|b| if let Behaviour::AnswerStartLate(after) = b { Some(*after) } else { None })
    }

    pub(super) fn fails_starts(&self) -> Option<StopReason> {
        self.behaviour(
            |b| if let Behaviour::FailStart(reason) = b { Some(StopReason::from_raw(*reason)) } else { None },
        )
    }

    pub(super) fn refuses(&self) -> Option<StartFailure> {
        self.behaviour(|b| {
            if let Behaviour::RefuseStart(reason) = b { Some(StartFailure::from_raw(*reason)) } else { None }
        })
    }

    /// Whether a gun could charge now; if not, the reason as in 0x33.
    pub(super) fn may_charge(&self, index: usize) -> Result<(), StartFailure> {
        let gun = &self.guns[index];
        if gun.charge().is_some() {
            Err(StartFailure::AlreadyCharging)
        } else if gun.faults != 0 || self.out_of_service || self.tariff.is_none() {
            // Without a tariff a pile must not charge; the protocol has no reason of its own for it.
            Err(StartFailure::EquipmentFault)
        } else if !gun.plugged {
            Err(StartFailure::NotPluggedIn)
        } else {
            Ok(())
        }
    }

    /// Current flows. The caller knows that it may.
    pub(super) fn begin(&mut self, cx: &mut Cx, index: usize, order: Order) {
        let Some(tariff) = self.tariff.clone() else { return };
        let charge = self.new_charge(cx, order, tariff);
        cx.count(Count::ChargeStarted(known(charge.order.serial)));
        self.guns[index].phase = Phase::Charging(Box::new(charge));
        self.guns[index].end_at = self.config.charge_for.map(|span| cx.now.mono + span);
        self.report(cx, index);
        if self.config.dc {
            self.report_vehicle(cx, index);
            self.report_bms(cx, index);
        }
    }

    fn new_charge(&mut self, cx: &Cx, order: Order, tariff: Arc<domain::Tariff>) -> Charge {
        let start_soc =
            self.config.soc.map_or_else(|| 150 + self.rng.below(351) as u32, |soc| u32::from(soc.min(100)) * 10);
        let capacity = u64::from(self.config.battery_kwh.max(1)) * 10_000;
        let vehicle = Vehicle { dc: self.config.dc, capacity, start_soc };
        Charge::new(order, vehicle, (tariff, self.loss_percent), &self.clock, self.clock.sim(cx.now.mono))
    }

    /// A start that comes to nothing still owes a record.
    pub(super) fn fail_start(&mut self, cx: &mut Cx, index: usize, order: Order, reason: StopReason) {
        let tariff = self.tariff.clone().unwrap_or_else(|| {
            Arc::new(domain::Tariff { prices: Default::default(), half_hours: [domain::Period::Flat; 48] })
        });
        let charge = self.new_charge(cx, order, tariff);
        cx.count(Count::StartRefused);
        self.keep_record(cx, index, &charge, reason);
        self.guns[index].phase = Phase::Idle;
    }

    /// Ends a charge, if there is one, after metering it up to now.
    pub(super) fn end(&mut self, cx: &mut Cx, index: usize, reason: StopReason) {
        self.meter(cx, index);
        self.finish(cx, index, reason);
    }

    /// What follows the end: 0x19, the record, and 0x13 "idle".
    fn finish(&mut self, cx: &mut Cx, index: usize, reason: StopReason) {
        let Phase::Charging(charge) = std::mem::replace(&mut self.guns[index].phase, Phase::Idle) else { return };
        self.guns[index].caps.session = None;
        let bill = charge.bill();
        cx.count(Count::ChargeFinished { energy: bill.total_energy(), amount: bill.total_amount() });
        if self.config.dc {
            self.report_end(cx, index, &charge, reason);
        }
        self.keep_record(cx, index, &charge, reason);
        self.guns[index].meter += bill.total_energy();
        self.send_records(cx);
        self.report(cx, index);
        self.end_siblings(cx, charge.order.parallel, reason);
    }

    fn keep_record(&mut self, cx: &mut Cx, index: usize, charge: &Charge, reason: StopReason) {
        let record = self.record(cx, index, charge, reason);
        let serial = charge.order.serial;
        cx.count(Count::RecordMade(known(serial)));
        if let Some(lost) = self.outbox.keep(serial, record, cx.now.mono) {
            cx.count(Count::RecordLost(known(lost)));
        }
    }

    /// By the rule of §4: pile code, gun, local time, a counter.
    pub(super) fn own_serial(&mut self, cx: &Cx, index: usize) -> Serial {
        self.own_serials = self.own_serials.wrapping_add(1);
        let local = date_time(self.clock.local(self.clock.sim(cx.now.mono)));
        let Ok(gun) = domain::Gun::new(self.guns[index].no) else { return Serial::ZERO };
        Serial(domain::Serial::compose(self.config.code, gun, local, self.own_serials).bytes())
    }
}

impl Order {
    /// Nothing but the battery ends it.
    pub(super) fn unlimited(serial: Serial, start_type: StartType, card: Opaque<8>) -> Self {
        Self {
            serial,
            start_type,
            card,
            balance: u64::MAX,
            max_power: None,
            soc_limit: None,
            energy_limit: None,
            parallel: None,
        }
    }
}

/// The stop reason of a hardware fault in mid-charge, by the lowest bit of 0x13.
fn fault_reason(bits: u16) -> StopReason {
    match bits.trailing_zeros() {
        0 => StopReason::AbortedEmergencyStop,
        1 | 4 | 9 => StopReason::AbortedChargingModuleFault,
        2 => StopReason::AbortedTemperatureAbnormal,
        3 => StopReason::AbortedSurgeArresterAbnormal,
        6 => StopReason::AbortedMeterCommunicationLost,
        10 | 11 => StopReason::AbortedDcProtectionTripped,
        _ => StopReason::UnknownReason,
    }
}

/// A gun may be plugged in so long after 0x34 (6.3), real time.
pub(super) const LATE_PLUG: Duration = Duration::from_mins(1);
/// 0x31 is repeated: 60 s in all (8.4).
const ASK_AGAIN: Duration = Duration::from_secs(15);
const ASK_TIMES: u8 = 4;
/// Milliseconds.
const DAY: i64 = 86_400_000;
