//! What the platform sends, and what the pile answers and does: every downlink frame.

use std::time::Duration;

use super::charge::Order;
use super::clock::from_cp56;
use super::config::Behaviour;
use super::gun::{Dialect, Phase, Request};
use super::pile::{Cx, Pile};
use super::stats::{Count, known};
use crate::wire::{
    BalanceResult, BalanceUpdate, BalanceUpdateResponse, CardClear, CardClearResponse, CardQuery, CardQueryResponse,
    CardSync, CardSyncFailure, CardSyncResponse, ClearReason, ClearResult, ClearResults, Cleared, DefaultPowerResponse,
    DefaultPowerSet, Frame, GroundLockControl, GroundLockResponse, GroundLockStatus, GunIndex, GunNo, LockAlarm,
    LockCommand, LockState, Opaque, OtaCommand, OtaResponse, OtaStatus, Outcome, Packet, Percent, PileCode, PileModel,
    PowerSetResponseV18, PowerSetV18, Present, QrPrefixResponse, QrResult, QrSetResponse9b, QrSetResponse59,
    QueryResult, RealtimeQuery, RebootResponse, RecordResult, RemoteStart, RemoteStartV18, RemoteStop,
    RemoteStopResponse, Sequence, SpaceState, StartConfirm, StartConfirmV18, StartFailure, StartType, StopFailure,
    StopReason, TariffSetResponse, TimeSync, TimeSyncResponse, ToEnd, TransactionRecordAck, When, WorkEnable,
    WorkParamsResponse, WorkParamsSet,
};

impl Pile {
    pub(super) fn frame(&mut self, cx: &mut Cx, packet: Packet) {
        let Packet { sequence, frame, tail: _, crc: _, counting: _ } = packet;
        cx.count(Count::FrameIn);
        self.note_command(cx, &frame);
        if self.has(Behaviour::Ignore(frame.code())) {
            return;
        }
        // Before the login is accepted there is no other frame.
        if let Frame::LoginResponse(row) = &frame {
            return self.login_response(cx, row);
        }
        if !self.online() {
            return;
        }
        let addressed = frame.pile_code().is_none_or(|code| code == self.code);
        match frame {
            // These answer a wrong pile code; everything else for somebody else is ignored.
            Frame::RemoteStart(row) => self.remote_start_v16(cx, sequence, &row),
            Frame::RemoteStartV18(row) => self.remote_start_v18(cx, sequence, &row),
            Frame::ParallelRemoteStart(row) => self.parallel_start(cx, sequence, &row),
            Frame::RemoteStop(row) => self.remote_stop(cx, sequence, &row),
            Frame::BalanceUpdate(row) => self.balance_update(cx, sequence, &row),
            _ if !addressed => {}
            Frame::HeartbeatResponse(row) => self.heartbeat_response(cx, &row),
            Frame::TariffCheckResponse(row) => self.tariff_check_response(cx, &row),
            Frame::TariffResponse(row) => self.tariff_response(&row),
            Frame::RealtimeQuery(row) => self.realtime_query(cx, sequence, &row),
            Frame::StartConfirm(row) => self.start_confirm(cx, &row, |_| {}),
            Frame::StartConfirmV18(row) => self.start_confirm_v18(cx, &row),
            Frame::TransactionRecordAck(row) => self.record_ack(cx, &row),
            Frame::CardSync(row) => self.card_sync(cx, sequence, &row),
            Frame::CardClear(row) => self.card_clear(cx, sequence, &row),
            Frame::CardQuery(row) => self.card_query(cx, sequence, &row),
            Frame::WorkParamsSet(row) => self.work_params(cx, sequence, &row),
            Frame::PowerSetV18(row) => self.power_set(cx, sequence, &row),
            Frame::DefaultPowerSet(row) => self.default_power(cx, sequence, &row),
            Frame::TimeSync(row) => self.time_sync(cx, sequence, &row),
            Frame::TariffSet(row) => {
                let result = if self.set_tariff(&row) { Outcome::Success } else { Outcome::Failure };
                self.reply(cx, sequence, TariffSetResponse { pile_code: self.code, result });
            }
            Frame::GroundLockControl(row) => self.ground_lock(cx, sequence, &row),
            Frame::Reboot(row) => {
                self.reply(cx, sequence, RebootResponse { pile_code: self.code, result: Outcome::Success });
                self.restart_at(cx, row.when);
            }
            Frame::OtaCommand(row) => self.ota(cx, sequence, &row),
            Frame::QrPrefixSet(_) => {
                self.reply(cx, sequence, QrPrefixResponse { pile_code: self.code, result: QrResult::Zero });
            }
            Frame::QrSet5a(row) => {
                self.reply(cx, sequence, QrSetResponse59 { pile_code: self.code, gun_no: row.gun_no, result: 1 });
            }
            Frame::QrSet9c(row) => {
                let gun_no = GunNo::from_number(row.gun_no.0);
                self.reply(cx, sequence, QrSetResponse9b { pile_code: self.code, gun_no, result: 1 });
            }
            Frame::ParallelStartConfirm(row) => self.parallel_confirm(cx, &row),
            Frame::LoginResponse(_) => {}
            // What piles send.
            Frame::LoginRequest(_)
            | Frame::Heartbeat(_)
            | Frame::TariffCheckRequest(_)
            | Frame::TariffRequest(_)
            | Frame::RealtimeData(_)
            | Frame::BmsHandshake(_)
            | Frame::BmsParameters(_)
            | Frame::BmsChargeEnd(_)
            | Frame::BmsError(_)
            | Frame::BmsStop(_)
            | Frame::ChargerStop(_)
            | Frame::BmsDemandAndOutput(_)
            | Frame::BmsInfo(_)
            | Frame::StartRequest(_)
            | Frame::RemoteStartResponse(_)
            | Frame::RemoteStopResponse(_)
            | Frame::TransactionRecord(_)
            | Frame::BalanceUpdateResponse(_)
            | Frame::CardSyncResponse(_)
            | Frame::CardClearResponse(_)
            | Frame::CardQueryResponse(_)
            | Frame::WorkParamsResponse(_)
            | Frame::TimeSyncResponse(_)
            | Frame::TariffSetResponse(_)
            | Frame::GroundLockStatus(_)
            | Frame::GroundLockResponse(_)
            | Frame::RebootResponse(_)
            | Frame::OtaResponse(_)
            | Frame::ParallelStartRequest(_)
            | Frame::ParallelRemoteStartResponse(_)
            | Frame::QrPrefixResponse(_)
            | Frame::TransactionRecordV14(_)
            | Frame::TransactionRecordV17(_)
            | Frame::StartRequestV18(_)
            | Frame::RemoteStartResponseV18(_)
            | Frame::PowerSetResponseV18(_)
            | Frame::DefaultPowerResponse(_)
            | Frame::QrSetResponse59(_)
            | Frame::QrSetResponse9b(_) => cx.count(Count::Misdirected),
        }
    }

    /// Counts what is not an answer, before anything is made of it: it has arrived, even if the pile then ignores it.
    fn note_command(&self, cx: &mut Cx, frame: &Frame) {
        if ANSWERS.contains(&frame.code()) {
            return;
        }
        let serial = match frame {
            // 0x36 names a gun only.
            Frame::RemoteStop(row) => self
                .addressed_gun(row.pile_code, row.gun_no)
                .and_then(|index| self.guns[index].charge())
                .map(|charge| charge.order.serial),
            other => other.serial(),
        };
        cx.count(Count::Command { code: frame.code(), serial: serial.map(known) });
    }

    fn remote_start_v16(&mut self, cx: &mut Cx, sequence: Sequence, row: &RemoteStart) {
        let RemoteStart { transaction_serial, pile_code, gun_no, logical_card: _, physical_card, balance } = *row;
        let mut order = Order::unlimited(transaction_serial, StartType::App, physical_card);
        order.balance = u64::from(balance.raw()) * 100;
        self.addressed_start(cx, pile_code, Request { sequence, gun_no, dialect: Dialect::V16, order });
    }

    fn remote_start_v18(&mut self, cx: &mut Cx, sequence: Sequence, row: &RemoteStartV18) {
        let RemoteStartV18 {
            transaction_serial,
            pile_code,
            gun_no,
            logical_card: _,
            physical_card,
            balance,
            max_power,
            soc_limit,
            energy_limit,
        } = *row;
        let mut order = Order::unlimited(transaction_serial, StartType::App, physical_card);
        order.balance = u64::from(balance.raw()) * 100;
        order.limit(max_power.raw(), soc_limit, energy_limit.raw());
        self.addressed_start(cx, pile_code, Request { sequence, gun_no, dialect: Dialect::V18, order });
    }

    fn addressed_start(&mut self, cx: &mut Cx, pile_code: PileCode, request: Request) {
        match self.addressed_gun(pile_code, request.gun_no) {
            Some(index) => self.remote_start(cx, index, request),
            None => self.answer_start(cx, &request, Outcome::Failure, StartFailure::WrongPileCode),
        }
    }

    /// The gun a start is for. A gun the pile does not have is answered like a pile code that is not its own.
    pub(super) fn addressed_gun(&self, pile_code: PileCode, gun_no: GunNo) -> Option<usize> {
        self.gun_index(gun_no.number(self.config.guns)).filter(|_| pile_code == self.code)
    }

    fn start_confirm_v18(&mut self, cx: &mut Cx, row: &StartConfirmV18) {
        let StartConfirmV18 {
            transaction_serial,
            pile_code,
            gun_no,
            logical_card,
            balance,
            max_power,
            soc_limit,
            energy_limit,
            auth_result,
            fail_reason,
        } = *row;
        let row =
            StartConfirm { transaction_serial, pile_code, gun_no, logical_card, balance, auth_result, fail_reason };
        self.start_confirm(cx, &row, |order| order.limit(max_power.raw(), soc_limit, energy_limit.raw()));
    }

    fn remote_stop(&mut self, cx: &mut Cx, sequence: Sequence, row: &RemoteStop) {
        let gun = self.addressed_gun(row.pile_code, row.gun_no);
        if let Some(index) = gun {
            self.meter(cx, index);
        }
        let fail_reason = match gun {
            None => StopFailure::WrongPileCode,
            Some(index) if self.guns[index].charge().is_none() => StopFailure::NotCharging,
            Some(_) => StopFailure::None,
        };
        let stop_result = if fail_reason == StopFailure::None { Outcome::Success } else { Outcome::Failure };
        cx.count(Count::StopAsked);
        self.reply(
            cx,
            sequence,
            RemoteStopResponse { pile_code: self.code, gun_no: row.gun_no, stop_result, fail_reason },
        );
        let Some(index) = gun else { return };
        if let Phase::WaitingForPlug(..) | Phase::Answering(..) = self.guns[index].phase {
            self.guns[index].phase = Phase::Idle;
        }
        self.drop_attempt(index);
        if !self.has(Behaviour::NeverStop) {
            self.end(cx, index, StopReason::FinishedByApp);
        }
    }

    fn record_ack(&mut self, cx: &mut Cx, row: &TransactionRecordAck) {
        // Whether 0x01 lets a pile forget is not said (A27): this one keeps what nobody has.
        if row.result == RecordResult::UploadAccepted {
            if self.outbox.forget(row.transaction_serial) {
                cx.count(Count::RecordAcked(known(row.transaction_serial)));
            }
        } else {
            cx.count(Count::RecordRefused);
        }
    }

    fn realtime_query(&mut self, cx: &mut Cx, sequence: Sequence, row: &RealtimeQuery) {
        let Some(index) = self.gun_index(row.gun_no.number(self.config.guns)) else { return };
        self.meter(cx, index);
        let answer = self.realtime(cx, index);
        self.reply(cx, sequence, answer);
    }

    fn balance_update(&mut self, cx: &mut Cx, sequence: Sequence, row: &BalanceUpdate) {
        let gun = self.gun_index(row.gun_no.number(self.config.guns));
        if let Some(index) = gun {
            self.meter(cx, index);
        }
        let charge = gun.and_then(|index| match &mut self.guns[index].phase {
            Phase::Charging(charge) => Some(charge),
            Phase::Idle | Phase::Asking(_) | Phase::Answering(..) | Phase::WaitingForPlug(..) => None,
        });
        let result = match charge {
            _ if row.pile_code != self.code => BalanceResult::WrongPileCode,
            Some(charge) if row.physical_card.is_zero() || row.physical_card == charge.order.card => {
                charge.order.balance = u64::from(row.new_balance.raw()) * 100;
                BalanceResult::Updated
            }
            Some(_) | None => BalanceResult::WrongCardNumber,
        };
        self.reply(
            cx,
            sequence,
            BalanceUpdateResponse { pile_code: self.code, physical_card: row.physical_card, result },
        );
    }

    fn card_sync(&mut self, cx: &mut Cx, sequence: Sequence, row: &CardSync) {
        let new: Vec<Opaque<8>> =
            row.cards.iter().map(|card| card.physical_card).filter(|card| !self.cards.contains(card)).collect();
        let fits = self.cards.len() + new.len() <= CARDS;
        if fits {
            self.cards.extend(new);
        }
        let (result, fail_reason) = if fits {
            (Outcome::Success, CardSyncFailure::None)
        } else {
            (Outcome::Failure, CardSyncFailure::OutOfStorage)
        };
        self.reply(cx, sequence, CardSyncResponse { pile_code: self.code, result, fail_reason });
    }

    fn card_clear(&mut self, cx: &mut Cx, sequence: Sequence, row: &CardClear) {
        let results = row.cards.iter().map(|card| {
            let before = self.cards.len();
            self.cards.retain(|known| *known != card.physical_card);
            let cleared = if self.cards.len() < before { Cleared::Cleared } else { Cleared::NotCleared };
            ClearResult { physical_card: card.physical_card, cleared, fail_reason: ClearReason::ClearedRowN }
        });
        // As many as were asked about, which the request bounds.
        if let Ok(cards) = ToEnd::new(results.collect()) {
            self.reply(cx, sequence, CardClearResponse { pile_code: self.code, cards: ClearResults::Full(cards) });
        }
    }

    fn card_query(&mut self, cx: &mut Cx, sequence: Sequence, row: &CardQuery) {
        let results = row.cards.iter().map(|card| {
            let present = if self.cards.contains(&card.physical_card) { Present::Present } else { Present::NotPresent };
            QueryResult { physical_card: card.physical_card, present }
        });
        if let Ok(cards) = ToEnd::new(results.collect()) {
            self.reply(cx, sequence, CardQueryResponse { pile_code: self.code, cards });
        }
    }

    fn work_params(&mut self, cx: &mut Cx, sequence: Sequence, row: &WorkParamsSet) {
        self.meter_all(cx);
        self.out_of_service = row.work_enable == WorkEnable::OutOfService;
        // 0 % leaves it unchanged (A33).
        let percent = row.max_power_percent.raw();
        let valid = percent == 0 || (30..=100).contains(&percent);
        if valid && percent != 0 {
            self.power_percent = percent;
        }
        let result = if valid { Outcome::Success } else { Outcome::Failure };
        self.reply(cx, sequence, WorkParamsResponse { pile_code: self.code, result });
    }

    fn power_set(&mut self, cx: &mut Cx, sequence: Sequence, row: &PowerSetV18) {
        self.meter_all(cx);
        let gun = self.gun_index(row.gun_no.number(self.config.guns));
        if let Some(index) = gun {
            let until = cx.now.mono + Duration::from_secs(u64::from(row.duration.raw()) * 60);
            self.guns[index].caps.session = Some((u32::from(row.max_power.raw()) * 1000, until));
        }
        let result = if gun.is_some() { Outcome::Success } else { Outcome::Failure };
        self.reply(cx, sequence, PowerSetResponseV18 { pile_code: self.code, gun_no: row.gun_no, result });
    }

    fn default_power(&mut self, cx: &mut Cx, sequence: Sequence, row: &DefaultPowerSet) {
        self.meter_all(cx);
        let gun = self.gun_index(row.gun_no.number(self.config.guns));
        if let Some(index) = gun {
            // The date is not a part of the window; without times it is the whole day.
            let time = |at| from_cp56(at).map(|local| local.rem_euclid(DAY));
            let window = (time(row.start_time).unwrap_or(0), time(row.end_time).unwrap_or(DAY));
            let watts = u32::from(row.max_power.raw()) * 1000;
            self.guns[index].caps.default = (watts > 0).then_some((watts, window.0, window.1));
        }
        let result = if gun.is_some() { Outcome::Success } else { Outcome::Failure };
        self.reply(cx, sequence, DefaultPowerResponse { pile_code: self.code, gun_no: row.gun_no, result });
    }

    fn time_sync(&mut self, cx: &mut Cx, sequence: Sequence, row: &TimeSync) {
        if let Some(local) = from_cp56(row.time) {
            self.meter_all(cx);
            if self.any_charging() && !self.clock.is_real() {
                // A clock that runs ahead would be set far back: a charge that ends before it began helps nobody.
                self.late_time = Some((cx.now.mono, local));
            } else {
                self.clock.set(cx.now.mono, local);
            }
        }
        self.reply(cx, sequence, TimeSyncResponse { pile_code: self.code, time: row.time });
    }

    fn ground_lock(&mut self, cx: &mut Cx, sequence: Sequence, row: &GroundLockControl) {
        let gun = self.gun_index(row.gun_no.0);
        let wanted = match row.command {
            LockCommand::Raise => Some(LockState::Raised),
            LockCommand::Lower => Some(LockState::Lowered),
            LockCommand::Unknown(_) => None,
        };
        // Nobody raises a lock under a vehicle.
        let state = gun.zip(wanted).filter(|(index, state)| *state == LockState::Lowered || !self.guns[*index].plugged);
        let result = if state.is_some() { Outcome::Success } else { Outcome::Failure };
        self.reply(
            cx,
            sequence,
            GroundLockResponse { pile_code: self.code, gun_no: row.gun_no, result, reserved: Opaque::ZERO },
        );
        if let Some((index, state)) = state {
            self.guns[index].lock = state;
        }
        let Some(index) = gun else { return };
        let gun = &self.guns[index];
        let status = GroundLockStatus {
            pile_code: self.code,
            gun_no: GunIndex(gun.no),
            lock_state: gun.lock,
            space_state: if gun.plugged { SpaceState::Parked } else { SpaceState::Free },
            battery_percent: Percent(87),
            alarm: LockAlarm::NoAlarm,
            reserved: Opaque::ZERO,
        };
        self.send(cx, status);
    }

    fn ota(&mut self, cx: &mut Cx, sequence: Sequence, row: &OtaCommand) {
        let fits = row.pile_model == if self.config.dc { PileModel::Dc } else { PileModel::Ac };
        let status = if fits { OtaStatus::Success } else { OtaStatus::WrongModel };
        // Answered on receipt, as many devices do; the version in the next login is the proof (A35).
        self.reply(cx, sequence, OtaResponse { pile_code: self.code, status });
        if fits {
            self.software = self.software.wrapping_add(1);
            self.restart_at(cx, row.when);
        }
    }

    fn restart_at(&mut self, cx: &mut Cx, when: When) {
        if when == When::WhenIdle && self.any_charging() {
            self.restart_when_idle = true;
        } else {
            self.restart(cx);
        }
    }

    fn meter_all(&mut self, cx: &mut Cx) {
        for index in 0..self.guns.len() {
            self.meter(cx, index);
        }
    }
}

impl Order {
    /// The limits of V1.8 in kW, per cent and 0.0001 kWh; 0 means none.
    fn limit(&mut self, max_power: u16, soc: Percent, energy: u32) {
        self.max_power = (max_power > 0).then(|| u32::from(max_power) * 1000);
        self.soc_limit = (soc.raw() > 0).then(|| u32::from(soc.raw()) * 10);
        self.energy_limit = (energy > 0).then(|| u64::from(energy));
    }
}

/// What answers a pile; everything else that arrives is a command.
const ANSWERS: [u8; 8] = [0x02, 0x04, 0x06, 0x0A, 0x32, 0x40, 0xA2, 0xA6];
/// What a pile can store.
const CARDS: usize = 1000;
/// Milliseconds.
const DAY: i64 = 86_400_000;
