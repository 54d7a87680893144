//! What a session decides: inputs in, outputs out. No socket, no clock, no channel, no await.
//!
//! This file holds login, frames, tariff and the end; owning the pile is in [`claims`], doing without in [`provisional`],
//! presence and guns in [`presence`], plain commands in [`super::commands`], orders in [`super::charge`], what
//! vehicles say in [`super::bms`], what goes to the store in [`super::jobs`].

mod claims;
mod provisional;
mod presence;

use std::sync::Arc;
use std::time::Duration;

use super::absent::Absent;
use super::asks::Asks;
use super::authority::Unanswered;
use super::curves::Curves;
use super::held::{Held, NOT_STORED, TariffPush};
use super::io::{Done, EndReason, Input, Out, Output, Patience};
use super::jobs::{Job, Jobs};
use super::pending::{Await, CommandId, Pending};
use super::translate::{self, accepted, wire_pile};
use super::vehicles::UnknownVehicles;
use super::{Now, Policy};
use crate::domain::event::OfflineReason;
use crate::domain::pile::{GunState, Presence};
use crate::domain::telemetry::Measured;
use crate::domain::{
    CommandError, Event, EventKind, Fence, Gun, Order, Pile, PileCode, Reply, Serial, SessionId, Telemetry,
};
use crate::wire::{self, Frame, Packet, Sequence};

use provisional::Provisional;

/// One login of one pile.
pub struct Session {
    pub(super) policy: Arc<Policy>,
    pub(super) id: SessionId,
    pub(super) phase: Phase,
    /// The presence document as it should be stored.
    pub(super) pile: Pile,
    pub(super) orders: Vec<Held>,
    pub(super) pending: Pending,
    pub(super) jobs: Jobs,
    /// Who wants to charge with a card or a VIN.
    pub(super) asks: Asks,
    /// Whether the pile may log in is being asked, and until when.
    pub(super) admission: Option<Duration>,
    /// What 0x05 last named; 0 until it did.
    pub(super) reported_tariff: u16,
    pub(super) tariff_push: Option<Box<TariffPush>>,
    /// Waits until no gun charges, until its deadline.
    pub(super) disconnect: Option<(CommandId, Duration)>,
    /// For the digits of new serials.
    pub(super) random: u64,
    pub(super) taken_over: bool,
    /// Heard on another connection, of which nobody knows yet whether it will own the pile.
    heard_elsewhere: bool,
    /// While the pile is served without having been claimed.
    pub(super) provisional: Option<Box<Provisional>>,
    /// Charges that were stopped then, of serials that are being looked up.
    stops: Vec<(Now, Serial)>,
    pub(super) vehicles: UnknownVehicles,
    /// What the last 0x13 of each gun charged: 0x36 names a gun only, and must not meet a stranger.
    pub(super) charged: Vec<(Gun, Serial)>,
    /// Frames from before the claim are being judged: they say what was, and nothing is stopped for that.
    pub(super) catching_up: bool,
    pub(super) curves: Curves,
    /// What it was last counted as: its connection does that.
    pub(super) counted: Option<&'static str>,
    /// The node is going down, and what it still waits for.
    pub(super) draining: Option<Patience>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// The claim is on its way; 0x02 will answer this sequence.
    Claiming(Sequence),
    /// The store could not be asked whether the pile is ours; the fence is a guess.
    Provisional(Fence),
    Live(Fence),
    /// Nothing more goes to the pile; what is queued for the store still gets there.
    Ended,
}

impl Session {
    /// A session begins with 0x01. `random` seeds the digits of its serials.
    pub fn login(
        policy: Arc<Policy>,
        id: SessionId,
        (pile, request, sequence): (PileCode, &wire::LoginRequest, Sequence),
        address: String,
        now: Now,
        random: u64,
        out: &mut Out,
    ) -> Self {
        let identity = translate::identity(request);
        let mut session = Self {
            policy,
            id,
            phase: Phase::Claiming(sequence),
            pile: presence::new_pile(pile, identity, address, now.wall),
            orders: vec![],
            pending: Pending::default(),
            jobs: Jobs::default(),
            admission: None,
            asks: Asks::default(),
            reported_tariff: 0,
            tariff_push: None,
            disconnect: None,
            random: random | 1,
            taken_over: false,
            heard_elsewhere: false,
            provisional: None,
            stops: vec![],
            vehicles: UnknownVehicles::default(),
            charged: vec![],
            catching_up: false,
            curves: Curves::default(),
            counted: None,
            draining: None,
        };
        session.knock(now, out);
        session
    }

    pub fn apply(&mut self, now: Now, input: Input, out: &mut Out) {
        match input {
            Input::Frame(packet) => self.frame(now, *packet, out),
            Input::Done(done) => self.done(now, done, out),
            Input::Command { id, command, deadline } => self.command(now, id, command, deadline, out),
            Input::Silent => self.silent(now),
            Input::Heard => self.heard(now),
            Input::Timer => self.timer(now, out),
            Input::Reassert { anew } => self.reassert(now, anew, out),
            Input::Drain(patience) => self.draining = self.draining.max(Some(patience)),
            Input::TellDuplicate => self.jobs.push(Job::TellDuplicate),
            Input::End(reason) => self.end(reason, out),
        }

        self.disconnect_if_idle(out);
        self.drain_if_ready(out);
        self.curves_end_with_session(now);
        self.jobs_go_on(now, out);
    }

    /// When [`Input::Timer`] should come at the latest.
    pub fn due(&self, now: Now) -> Option<Duration> {
        if self.phase == Phase::Ended {
            return self.jobs.due();
        }
        let orders = self.orders.iter().filter_map(Held::due).min();
        let orders = orders.map(|due| now.mono + Duration::from_millis(due.since(now.wall)));
        let disconnect = self.disconnect.map(|(_, deadline)| deadline);
        let lasting = self.charged.iter().filter_map(|(_, serial)| self.held(*serial)?.order.duration_due()).min();
        let lasting = lasting.map(|due| now.mono + Duration::from_millis(due.since(now.wall)));
        let own = [lasting, self.pending.due(), self.jobs.due(), self.asks.due(), self.curve_due(), self.admission];
        own.into_iter().chain([orders, disconnect]).flatten().min()
    }

    pub fn pile_code(&self) -> PileCode {
        self.pile.code
    }

    pub fn fence(&self) -> Option<Fence> {
        match self.phase {
            Phase::Live(fence) | Phase::Provisional(fence) => Some(fence),
            Phase::Claiming(_) | Phase::Ended => None,
        }
    }

    /// What a session is counted as; `None` before its login is answered, and after its end.
    pub fn standing(&self) -> Option<&'static str> {
        match (self.phase, self.pile.presence) {
            (Phase::Claiming(_) | Phase::Ended, _) => None,
            (Phase::Provisional(_), _) => Some("provisional"),
            (Phase::Live(_), Presence::Online) => Some("live"),
            (Phase::Live(_), Presence::Offline) => Some("lost"),
        }
    }

    pub fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Ended, and nothing left for the store.
    pub fn is_done(&self) -> bool {
        self.has_ended() && self.jobs.is_idle() && self.curves.is_empty()
    }

    /// What is left for whoever watches over the pile now; `None` if the pile is somebody else's, never was ours, or is
    /// handed over.
    pub fn into_absent(self, lost_at: Duration) -> Option<Absent> {
        let fence = self.jobs.fence.filter(|_| !self.taken_over && self.draining.is_none())?;
        let lost_at = (self.pile.presence == Presence::Online).then_some(lost_at);
        let stored = self.orders.into_iter().filter(|held| held.order.state.is_open() && held.unsent.is_none());
        let version_of = |held: &Held| held.version.or(held.lost.then_some(NOT_STORED));
        let orders = stored.filter_map(|held| Some((version_of(&held)?, held.order))).map(|(v, order)| (order, v));
        let orders = orders.collect();
        let (version, reason) = (self.jobs.pile_version, OfflineReason::Disconnected);
        let (elsewhere, losses) = (self.heard_elsewhere, 0);
        Some(Absent { fence, pile: self.pile, version, lost_at, reason, orders, elsewhere, losses })
    }

    /// Whether it knows the order, and how that began.
    pub fn has(&self, order: &Order) -> bool {
        self.held(order.serial).is_some_and(|held| held.order.knows_beginning_of(order))
    }

    pub fn id(&self) -> SessionId {
        self.id
    }

    fn frame(&mut self, now: Now, packet: Packet, out: &mut Out) {
        let Packet { sequence, frame, tail, crc: _, counting: _ } = packet;
        if self.fence().is_none() {
            return;
        }
        self.pile.last_seen = now.wall;
        if self.kept_back(now, sequence, &frame, out) {
            return;
        }
        match &frame {
            Frame::LoginRequest(again) => self.login_again(now, sequence, again, out),
            Frame::Heartbeat(heartbeat) => self.heartbeat(now, sequence, heartbeat, out),
            Frame::TariffCheckRequest(check) => self.tariff_check(sequence, check, out),
            Frame::TariffRequest(_) => self.tariff_request(sequence, out),
            Frame::RealtimeData(data) => self.realtime(now, data, out),
            Frame::BmsDemandAndOutput(data) => {
                if let Some(gun) = self.gun(data.gun_no) {
                    self.publish(now, translate::demand(self.pile.code, gun, now.wall, data), out);
                }
            }
            Frame::BmsInfo(data) => {
                if let Some(gun) = self.gun(data.gun_no) {
                    self.publish(now, translate::battery(self.pile.code, gun, now.wall, data), out);
                }
            }
            Frame::GroundLockStatus(data) => {
                if let Some(telemetry) = translate::ground_lock(self.pile.code, now.wall, data) {
                    self.publish(now, telemetry, out);
                }
            }
            Frame::BmsHandshake(_)
            | Frame::BmsParameters(_)
            | Frame::BmsError(_)
            | Frame::BmsStop(_)
            | Frame::ChargerStop(_) => self.bms(now, &frame),
            Frame::BmsChargeEnd(end) => {
                self.bms(now, &frame);
                self.charge_ended(now, end.transaction_serial, out);
            }
            Frame::RemoteStartResponse(answer) => {
                let (serial, reason) = (answer.transaction_serial, answer.fail_reason);
                self.start_answer(now, (serial, answer.start_result, reason), out);
            }
            Frame::RemoteStartResponseV18(answer) => {
                let (serial, reason) = (answer.transaction_serial, answer.fail_reason);
                self.start_answer(now, (serial, answer.start_result, reason), out);
            }
            Frame::ParallelRemoteStartResponse(answer) => {
                let (serial, reason) = (answer.transaction_serial, answer.fail_reason);
                self.start_answer(now, (serial, answer.start_result, reason), out);
            }
            Frame::RemoteStopResponse(answer) => self.stop_answer(now, answer, sequence, out),
            Frame::StartRequest(_) | Frame::StartRequestV18(_) | Frame::ParallelStartRequest(_) => {
                self.start_asked(now, now.mono, (sequence, &frame), out);
            }
            Frame::TransactionRecord(_) | Frame::TransactionRecordV14(_) | Frame::TransactionRecordV17(_) => {
                if let Some(serial) = frame.serial() {
                    self.curves.end_of(now, translate::serial(serial));
                }
                self.record(sequence, &frame, &tail);
            }
            Frame::TariffSetResponse(answer) => self.tariff_answer(now, answer, sequence, out),
            Frame::BalanceUpdateResponse(answer) => self.balance_answer(now, answer, sequence, out),
            Frame::RebootResponse(answer) => {
                let result = accepted(0x91, answer.result).map(|()| Reply::RebootAccepted);
                self.answer(|what| what == Await::Reboot, Some(sequence), &result, out);
            }
            Frame::TimeSyncResponse(answer) => {
                let result = Ok(Reply::Clock { pile_time: translate::local_time(answer.time) });
                self.answer(|what| what == Await::Clock, Some(sequence), &result, out);
            }
            // Frames no part of pileway asks for yet, and frames only a platform sends.
            _ => {}
        }
    }

    /// A pile that has missed 0x02 repeats 0x01 on the same connection.
    fn login_again(&mut self, now: Now, sequence: Sequence, request: &wire::LoginRequest, out: &mut Out) {
        let identity = translate::identity(request);
        if identity != self.pile.identity {
            let guns = presence::guns(&identity, &self.pile.guns, self.pile.last_seen);
            let known = std::mem::replace(&mut self.pile.guns, guns);
            self.pile.identity = identity;
            self.clear_alarms_of_lost(now, known);
            self.jobs.pile_changed();
        }
        out.reply(sequence, login_response(self.pile.code));
    }

    fn heartbeat(&mut self, now: Now, sequence: Sequence, heartbeat: &wire::Heartbeat, out: &mut Out) {
        let &wire::Heartbeat { pile_code, gun_no, gun_status } = heartbeat;
        out.reply(sequence, wire::HeartbeatResponse { pile_code, gun_no, ack: 0 });
        if gun_status == wire::GunHealth::Fault && self.provisional.is_none() {
            self.faulty(now, gun_no);
        }
    }

    /// 0x03 speaks for one gun only, and does not say what the fault is: 0x13 does, and ends it (A36).
    fn faulty(&mut self, now: Now, gun_no: wire::GunNo) {
        if let Some(gun) = self.gun(gun_no) {
            let faults = self.gun_status(gun).map_or(0, |status| status.faults);
            self.set_gun(now, gun, GunState::Fault, faults);
        }
    }

    fn tariff_check(&mut self, sequence: Sequence, check: &wire::TariffCheckRequest, out: &mut Out) {
        let &wire::TariffCheckRequest { pile_code, tariff_model_no } = check;
        self.reported_tariff = translate::number_of_tariff(tariff_model_no);
        let same = self.pile.tariff.is_current(self.policy.tariff.fingerprint(), self.reported_tariff);
        if same && !self.pile.tariff.confirmed {
            self.pile.tariff.confirmed = true;
            self.jobs.pile_changed();
        }
        let result = if same { wire::TariffCheck::Same } else { wire::TariffCheck::Differs };
        out.reply(sequence, wire::TariffCheckResponse { pile_code, tariff_model_no, result });
    }

    fn tariff_request(&mut self, sequence: Sequence, out: &mut Out) {
        let given = self.pile.tariff.allocate(self.policy.tariff.fingerprint(), self.reported_tariff);
        if given != self.pile.tariff {
            self.pile.tariff = given;
            self.jobs.pile_changed();
        }
        let response = translate::tariff_response(self.pile.code, given.number, &self.policy.tariff);
        out.reply(sequence, response);
    }

    fn realtime(&mut self, now: Now, data: &wire::RealtimeData, out: &mut Out) {
        let Some(gun) = self.gun(data.gun_no) else { return };
        let telemetry = if self.provisional.is_some() {
            translate::live(self.pile.code, gun, now.wall, data, self.faults_from_bit0())
        } else {
            self.observed(now, gun, data, out)
        };
        let asked = |what| what == Await::Telemetry(gun);
        if self.pending.holds(asked) {
            // Whatever made the pile send it, it is what the caller wants to know: none is too late.
            let result = Ok(Reply::Telemetry(Box::new(telemetry.clone())));
            self.answer(asked, None, &result, out);
        }
        self.publish(now, telemetry, out);
    }

    /// What a 0x13 means for its gun and orders.
    fn observed(&mut self, now: Now, gun: Gun, data: &wire::RealtimeData, out: &mut Out) -> Telemetry {
        let telemetry = translate::live(self.pile.code, gun, now.wall, data, self.faults_from_bit0());
        if let Measured::Live(live) = &telemetry.measured {
            self.metered(now, gun, data, live.status, out);
            self.report_gun(now, gun, self.gun_state(gun, live), live.fault_bits);
        }
        telemetry
    }

    fn publish(&mut self, now: Now, telemetry: Telemetry, out: &mut Out) {
        self.curve(now, &telemetry);
        out.list.push(Output::Publish(Box::new(telemetry)));
    }

    fn timer(&mut self, now: Now, out: &mut Out) {
        if self.phase == Phase::Ended {
            return;
        }
        for (to, what) in self.pending.expire(now.mono) {
            let error = self.gave_up(what);
            out.list.push(Output::Reply { to, result: Err(error) });
        }
        if self.admission.is_some_and(|until| until <= now.mono) {
            self.admitted(now, Err(Unanswered::TimedOut), out);
        }
        self.disconnect_timer(now, out);
        self.ask_timers(now, out);
        self.order_timers(now, out);
    }

    pub(super) fn end(&mut self, reason: EndReason, out: &mut Out) {
        if self.phase == Phase::Ended {
            return;
        }
        let waiting = self.pending.drain();
        for (to, what) in waiting {
            let result = Err(CommandError::SessionLost { written: self.was_written(what) });
            out.list.push(Output::Reply { to, result });
        }
        if let Some((to, _)) = self.disconnect.take() {
            // What the caller wanted has come about by itself.
            out.list.push(Output::Reply { to, result: Ok(Reply::Disconnected) });
        }
        self.asks.clear();
        self.admission = None;
        let fence = self.fence();
        self.phase = Phase::Ended;
        self.taken_over = reason == EndReason::TakenOver;
        self.heard_elsewhere = reason == EndReason::HeardElsewhere;
        // Nobody asks any more whether the fence still stands: the next write finds out.
        (self.jobs.claim, self.jobs.fenced) = (None, false);
        if self.jobs.fence.is_none() {
            // Nothing of it can be written any more: the pile's next session finds out what has become of its guns.
            self.provisional = None;
            self.jobs.pile_dirty = false;
        }
        self.drop_starts();
        if self.taken_over || self.draining.is_some() {
            self.remember_orders();
        }
        out.list.push(Output::Ended { reason, fence });
    }

    fn done(&mut self, now: Now, done: Done, out: &mut Out) {
        match done {
            Done::Claimed(result) if std::mem::take(&mut self.jobs.claiming) => self.login_claimed(now, result, out),
            Done::Claimed(result) => self.claimed_again(now, result, out),
            Done::Written(result) => self.written(now, result, out),
            Done::Settled(result) => self.settle_done(now, result, out),
            Done::LookedUp(result) => self.look_up_done(now, result, out),
            Done::Admitted(result) => self.admitted(now, result, out),
            Done::Authorised(serial, result) => self.authorised(now, serial, result, out),
            Done::CurveKept(result) => self.curve_kept(now, result),
        }
    }

    /// A session that is told to goes as soon as nobody needs it. The last thing of every input.
    fn drain_if_ready(&mut self, out: &mut Out) {
        let answering = || {
            self.asks.pending()
                || self.pending.holds(|what| matches!(what, Await::Start(_) | Await::Parallel(_) | Await::Stop(..)))
        };
        let ready = match self.draining {
            None => false,
            Some(Patience::Idle) => !answering() && !self.is_busy(),
            Some(Patience::Answers) => !answering(),
        };
        if ready {
            self.end(EndReason::Drained, out);
        }
    }

    /// Differs between sessions, and from call to call.
    pub(super) fn any_number(&mut self) -> u16 {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 48) as u16
    }

    pub(super) fn event(&mut self, now: Now, pile_time: Option<jiff::civil::DateTime>, kind: EventKind) {
        self.jobs.event(Event { pile: self.pile.code, recorded_at: now.wall, pile_time, kind });
    }

    fn faults_from_bit0(&self) -> bool {
        let prefixes = &self.policy.config.faults_from_bit0;
        !prefixes.is_empty() && {
            let code = self.pile.code.to_string();
            prefixes.iter().any(|prefix| code.starts_with(prefix.as_str()))
        }
    }
}

fn login_response(pile: PileCode) -> wire::LoginResponse {
    wire::LoginResponse { pile_code: wire_pile(pile), result: wire::LoginResult::Accepted }
}
