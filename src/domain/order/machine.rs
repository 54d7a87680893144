//! How an order moves on: what each happening does in each state, and when time itself is one.

use super::{Anomaly, AnomalyKind, Change, Failure, Happening, Metered, Order, OrderState, Origin, Stop, StopCause};
use crate::domain::record::audit::{Facts, audit};
use crate::domain::record::{Bill, Record};
use crate::domain::units::WallMs;

impl Order {
    /// The next moment at which [`Happening::Tick`] would change something.
    pub fn due(&self) -> Option<WallMs> {
        [self.rule_due(), self.plan_due()].into_iter().flatten().min()
    }

    fn rule_due(&self) -> Option<WallMs> {
        let start_due = self.created_at.plus_ms(START_MS);
        match self.state {
            OrderState::Requested | OrderState::Starting => Some(start_due),
            OrderState::WaitingForPlug => self.plug_deadline.or(Some(start_due)),
            OrderState::Charging => self.answer_missing().then_some(start_due),
            OrderState::Stopping => self.stop.map(|stop| self.stop_due(stop)),
            OrderState::Finished => self.ended_at.map(|at| at.plus_ms(RECORD_MS)),
            OrderState::Abnormal | OrderState::Failed | OrderState::Settled | OrderState::ClosedWithoutRecord => None,
        }
    }

    /// Moves the order on. An empty answer means that nothing changed that anybody must know or keep.
    pub fn apply(&mut self, now: WallMs, what: Happening) -> Vec<Change> {
        let changes = match what {
            Happening::Accepted => self.accepted(now),
            Happening::Confirmed => self.confirmed(now),
            Happening::CalledOff => self.called_off(),
            Happening::Rejected { code, name } => self.rejected(now, code, name),
            Happening::Charging(metered) => self.charging(now, metered),
            Happening::Idle => self.idle(now),
            Happening::ChargeEnded => self.charge_ended(now),
            Happening::StopRequested(cause) => self.stop_requested(now, cause),
            Happening::TakenBack => self.taken_back(now),
            Happening::StopAccepted => self.stop_accepted(now),
            Happening::Recorded(record) => self.recorded(now, *record),
            Happening::ConflictingRecord => self.breach(now, AnomalyKind::RecordConflict).into_iter().collect(),
            Happening::NotSent => self.not_sent(),
            Happening::Closed(close) => self.close(now, *close),
            Happening::StopPlanned { expires_at } => self.plan_stop(now, expires_at),
            Happening::BalanceUpdated { fen } => self.balance_updated(fen),
            Happening::BalanceRunsLow { eta } => self.balance_is_low(now, eta),
            Happening::PlanExpires => self.drop_expired_plan(now),
            Happening::Tick => {
                let mut changes = self.drop_expired_plan(now);
                changes.extend(self.tick(now));
                changes
            }
        };
        if !changes.is_empty() {
            self.updated_at = now;
        }
        changes
    }

    fn accepted(&mut self, now: WallMs) -> Vec<Change> {
        if self.accepted_at.is_some() || !self.state.is_open() {
            return vec![];
        }
        self.accepted_at = Some(now);
        self.plug_deadline = None;
        if matches!(self.state, OrderState::Requested | OrderState::WaitingForPlug) {
            self.state = OrderState::Starting;
        }
        vec![Change::Accepted]
    }

    fn confirmed(&mut self, now: WallMs) -> Vec<Change> {
        if self.state != OrderState::Requested {
            return vec![];
        }
        self.accepted_at = Some(now);
        self.state = OrderState::Starting;
        vec![Change::Accepted]
    }

    fn called_off(&mut self) -> Vec<Change> {
        match self.state {
            OrderState::Requested | OrderState::Starting => self.fail(Failure::NotSent),
            _ => vec![],
        }
    }

    fn rejected(&mut self, now: WallMs, code: u8, name: String) -> Vec<Change> {
        match self.state {
            OrderState::Requested if code == NOT_PLUGGED_IN => {
                self.state = OrderState::WaitingForPlug;
                self.plug_deadline = Some(now.plus_ms(PLUG_MS));
                vec![Change::WaitingForPlug]
            }
            OrderState::WaitingForPlug if code == NOT_PLUGGED_IN => vec![],
            OrderState::Requested | OrderState::WaitingForPlug | OrderState::Starting => {
                self.fail(Failure::Rejected { code, name })
            }
            // Stopped before the pile had answered the start: nothing runs that could still end.
            OrderState::Stopping | OrderState::Finished if self.never_started() => {
                self.fail(Failure::Rejected { code, name })
            }
            _ => vec![],
        }
    }

    fn charging(&mut self, now: WallMs, metered: Metered) -> Vec<Change> {
        self.last = Some(metered);
        self.idle_seen = 0;
        match self.state {
            OrderState::Requested | OrderState::WaitingForPlug | OrderState::Starting => {
                self.state = OrderState::Charging;
                self.charging_at = Some(now);
                vec![Change::Charging]
            }
            OrderState::Failed => {
                self.state = OrderState::Charging;
                self.charging_at = Some(now);
                self.failure = None;
                self.accepted_at = self.accepted_at.or(Some(now));
                let breach = self.breach(now, AnomalyKind::LateStart);
                [Change::Charging].into_iter().chain(breach).collect()
            }
            OrderState::Stopping => {
                if let Some(stop) = &mut self.stop {
                    stop.still_charging = true;
                }
                // Whatever 0x35 said, it has not ended.
                self.ended_at = None;
                if self.charging_at.is_some() {
                    return vec![];
                }
                self.charging_at = Some(now);
                vec![Change::Charging]
            }
            OrderState::Abnormal => {
                // It holds its gun again until that is seen to end.
                self.ended_at = None;
                self.charging_at = self.charging_at.or(Some(now));
                vec![]
            }
            OrderState::Charging | OrderState::Finished | OrderState::Settled | OrderState::ClosedWithoutRecord => {
                vec![]
            }
        }
    }

    fn idle(&mut self, now: WallMs) -> Vec<Change> {
        match self.state {
            OrderState::Charging => {
                self.idle_seen = self.idle_seen.saturating_add(1);
                if self.idle_seen < 2 {
                    return vec![];
                }
                self.ended_at = self.ended_at.or(Some(now));
                self.state = OrderState::Abnormal;
                self.breach(now, AnomalyKind::IdleWhileCharging).into_iter().collect()
            }
            OrderState::Stopping => self.finish(now),
            OrderState::Abnormal => self.ended_abnormally(now),
            _ => vec![],
        }
    }

    fn charge_ended(&mut self, now: WallMs) -> Vec<Change> {
        match self.state {
            OrderState::Starting | OrderState::Charging | OrderState::Stopping => self.finish(now),
            OrderState::Abnormal => self.ended_abnormally(now),
            _ => vec![],
        }
    }

    fn stop_requested(&mut self, now: WallMs, cause: StopCause) -> Vec<Change> {
        // A plan that has been carried out must not be found again, nor expire.
        let mut news = self.stop.is_none() || self.stop_at_login.is_some();
        // Whoever wanted it, it is done.
        self.stop_at_login = None;
        let sent = self.stop.map_or(0, |stop| stop.sent);
        let (requested_at, cause) = self.stop.map_or((now, cause), |stop| (stop.requested_at, stop.cause));
        let sent = sent.saturating_add(1);
        let takes_back = self.stop.is_some_and(|stop| stop.takes_back);
        self.stop = Some(Stop { requested_at, last_sent_at: now, sent, still_charging: false, cause, takes_back });
        match self.state {
            OrderState::Requested | OrderState::WaitingForPlug | OrderState::Starting | OrderState::Charging => {
                self.plug_deadline = None;
                self.state = OrderState::Stopping;
                // Also for the second time, if it failed in between and started late.
                news = true;
            }
            OrderState::Stopping
            | OrderState::Finished
            | OrderState::Abnormal
            | OrderState::Failed
            | OrderState::Settled
            | OrderState::ClosedWithoutRecord => {}
        }
        if news { vec![Change::StopRequested] } else { vec![] }
    }

    fn taken_back(&mut self, now: WallMs) -> Vec<Change> {
        let first = self.stop.is_none();
        let changes = self.stop_requested(now, StopCause::OtherGun);
        if let Some(stop) = &mut self.stop {
            stop.takes_back |= first;
        }
        changes
    }

    fn stop_accepted(&mut self, now: WallMs) -> Vec<Change> {
        if self.state == OrderState::Stopping {
            self.ended_at = self.ended_at.or(Some(now));
            // It is younger than the 0x13 that made us doubt.
            if let Some(stop) = &mut self.stop {
                stop.still_charging = false;
            }
        }
        vec![]
    }

    fn recorded(&mut self, now: WallMs, record: Record) -> Vec<Change> {
        if self.state == OrderState::Settled {
            return vec![];
        }
        if record.is_failed_start() && self.failure.is_none() {
            self.failure =
                Some(Failure::FailedOnPile { code: record.stop_reason, name: record.stop_reason_name.clone() });
        }
        let findings = audit(&record, &self.facts(now));
        if self.origin == Origin::Pile {
            self.origin = Origin::of_record(&record);
        }
        let mismatch = if findings.is_empty() { None } else { self.breach(now, AnomalyKind::BillMismatch) };
        self.record_after_close = self.closing.as_ref().map(|closing| closing.exceeded_by(&record));
        let late = self.closing.is_some().then(|| self.breach(now, AnomalyKind::RecordAfterClose)).flatten();
        self.bill = Some(Bill::new(record, self.tariff.as_ref(), findings));
        self.ended_at = self.ended_at.or(Some(now));
        self.settled_at = Some(now);
        self.plug_deadline = None;
        self.state = OrderState::Settled;
        [Change::Settled].into_iter().chain(mismatch).chain(late).collect()
    }

    /// What its record is held against.
    fn facts(&self, now: WallMs) -> Facts<'_> {
        let (start_types, not_before) = match self.origin {
            Origin::Platform => (STARTED_REMOTELY, Some(self.created_at)),
            Origin::Card => (STARTED_BY_CARD, Some(self.created_at)),
            Origin::Vin => (STARTED_BY_VIN, Some(self.created_at)),
            // It may have begun long before anybody here heard of it, and in any way.
            Origin::Pile | Origin::OfflineCard => (&[][..], None),
        };
        Facts {
            gun: self.gun,
            start_types,
            not_before,
            charging: self.charging_at.zip(self.last.map(|last| last.at)),
            ended_at: self.ended_at,
            now,
            metered: self.last.map(|last| (last.energy, last.amount)),
            tariff: self.tariff.as_ref(),
        }
    }

    fn not_sent(&mut self) -> Vec<Change> {
        match self.state {
            OrderState::Requested => self.fail(Failure::NotSent),
            _ => vec![],
        }
    }

    fn tick(&mut self, now: WallMs) -> Vec<Change> {
        if self.rule_due().is_none_or(|due| now < due) {
            return vec![];
        }
        match self.state {
            OrderState::Requested | OrderState::Starting => {
                let breach = self.breach(now, AnomalyKind::StartTimeout);
                breach.into_iter().chain(self.fail(Failure::NoStart)).collect()
            }
            OrderState::WaitingForPlug => self.fail(Failure::NotPluggedIn),
            OrderState::Charging => self.breach(now, AnomalyKind::StartTimeout).into_iter().collect(),
            OrderState::Stopping => self.stop_tick(now),
            OrderState::Finished => self.record_overdue(now),
            OrderState::Abnormal | OrderState::Failed | OrderState::Settled | OrderState::ClosedWithoutRecord => vec![],
        }
    }

    /// STOPPING ends in one of three ways: the pile ended the charge, it goes on charging, or nothing is heard of it.
    fn stop_tick(&mut self, now: WallMs) -> Vec<Change> {
        let Some(stop) = self.stop else { return vec![] };
        if stop.still_charging && stop.sent <= STOP_REPEATS {
            self.stop = Some(Stop { last_sent_at: now, sent: stop.sent + 1, still_charging: false, ..stop });
            return vec![Change::RepeatStop];
        }
        if !stop.still_charging {
            return self.record_overdue(now);
        }
        self.state = OrderState::Abnormal;
        self.breach(now, AnomalyKind::StopNotObeyed).into_iter().collect()
    }

    /// No record within 30 s. One that was stopped before anything was heard of it owes none.
    fn record_overdue(&mut self, now: WallMs) -> Vec<Change> {
        if self.never_started() {
            return self.fail(Failure::NoStart);
        }
        self.state = OrderState::Abnormal;
        self.breach(now, AnomalyKind::RecordOverdue).into_iter().collect()
    }

    fn stop_due(&self, stop: Stop) -> WallMs {
        if stop.still_charging {
            return stop.last_sent_at.plus_ms(STOP_REPEAT_MS);
        }
        self.ended_at.unwrap_or_default().max(stop.last_sent_at).plus_ms(RECORD_MS)
    }

    fn finish(&mut self, now: WallMs) -> Vec<Change> {
        self.ended_at = self.ended_at.or(Some(now));
        self.state = OrderState::Finished;
        vec![Change::Finished]
    }

    /// It stays ABNORMAL, since a rule was broken, but its gun is free for the next charge.
    fn ended_abnormally(&mut self, now: WallMs) -> Vec<Change> {
        if self.ended_at.is_some() {
            return vec![];
        }
        self.ended_at = Some(now);
        vec![Change::Finished]
    }

    /// The pile has neither said yes nor charged. That it was told yes says nothing: nobody may have confirmed. Nor does
    /// the yes of a gun that was stopped because the other one of its vehicle did not start: it should not have either.
    /// One that was stopped because the other one was stopped owes what that one owes.
    fn never_started(&self) -> bool {
        let taken_back = self.stop.is_some_and(|stop| stop.takes_back);
        (self.accepted_at.is_none() || self.origin.is_confirmed() || taken_back) && self.charging_at.is_none()
    }

    fn fail(&mut self, failure: Failure) -> Vec<Change> {
        self.failure = Some(failure);
        self.plug_deadline = None;
        self.state = OrderState::Failed;
        vec![Change::Failed]
    }

    /// Charging, although the pile never answered 0x34 and the 90 s have not been judged yet.
    fn answer_missing(&self) -> bool {
        self.origin == Origin::Platform
            && self.accepted_at.is_none()
            && !self.anomalies.iter().any(|a| a.kind == AnomalyKind::StartTimeout)
    }

    /// Reports each kind of breach once per order.
    fn breach(&mut self, now: WallMs, kind: AnomalyKind) -> Option<Change> {
        if self.anomalies.iter().any(|a| a.kind == kind) {
            return None;
        }
        self.anomalies.push(Anomaly { kind, at: now });
        Some(Change::Anomaly(kind))
    }
}

/// `start_type` of what 0x34 started.
const STARTED_REMOTELY: &[u8] = &[1];
/// Of what was confirmed at the pile. Some piles call a start by VIN 3 (A28).
const STARTED_BY_CARD: &[u8] = &[2];
const STARTED_BY_VIN: &[u8] = &[5, 3];
/// 0x33 reason 5.
const NOT_PLUGGED_IN: u8 = 5;
/// 0x33 and a charging 0x13 must come within 90 s of 0x34.
pub(super) const START_MS: u64 = 90_000;
/// A second 0x33 must come within 60 s of "not plugged in".
const PLUG_MS: u64 = 60_000;
/// The record must come within 30 s of the end.
pub(super) const RECORD_MS: u64 = 30_000;
/// 0x36 is repeated every 5 s, three times, while 0x13 still charges the serial.
const STOP_REPEAT_MS: u64 = 5_000;
const STOP_REPEATS: u8 = 3;
