//! Stopping a charge whose pile is away: the wish waits with the order, until the pile is seen to charge it.

use serde::{Deserialize, Serialize};

use super::{Change, Order, OrderState};
use crate::domain::units::WallMs;

/// A stop that waits for the pile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StopAtLogin {
    pub requested_at: WallMs,
    /// From then on the charge is nobody's business any more.
    pub expires_at: WallMs,
}

impl Order {
    /// A charge that was seen to end leaves its gun to the next one, even if its record is overdue.
    pub fn occupies_gun(&self) -> bool {
        match self.state {
            OrderState::Abnormal => self.ended_at.is_none(),
            state => state.is_open(),
        }
    }

    /// Whether there is, or may be, a charge to stop.
    pub fn may_be_stopped(&self) -> bool {
        self.occupies_gun() && self.state != OrderState::Finished
    }

    /// A stop to send as soon as the pile is seen to charge this order.
    pub fn planned_stop(&self, now: WallMs) -> Option<StopAtLogin> {
        self.stop_at_login.filter(|plan| self.may_be_stopped() && now < plan.expires_at)
    }

    pub(super) fn plan_due(&self) -> Option<WallMs> {
        self.stop_at_login.filter(|_| self.may_be_stopped()).map(|plan| plan.expires_at)
    }

    /// The last word counts, also about how long it stands.
    pub(super) fn plan_stop(&mut self, now: WallMs, expires_at: WallMs) -> Vec<Change> {
        if !self.may_be_stopped() || self.stop_at_login.is_some_and(|plan| plan.expires_at == expires_at) {
            return vec![];
        }
        self.stop_at_login = Some(StopAtLogin { requested_at: now, expires_at });
        vec![Change::StopPlanned]
    }

    /// Takes on what a caller was told of `other`, a copy of this order that came too late to be stored: how it began, and
    /// that it is closed, or is to be stopped. Whether that changes anything.
    pub fn keeps_word_of(&mut self, other: &Self, now: WallMs) -> bool {
        let learned = self.state.is_open() && self.learns_beginning(other);
        if let Some(closing) = other.closing.as_ref().filter(|_| other.state == OrderState::ClosedWithoutRecord) {
            return self.closed(closing.clone()) || learned;
        }
        let free = self.may_be_stopped() && self.stop.is_none() && self.stop_at_login.is_none();
        let plan = other.stop_at_login.filter(|plan| free && now < plan.expires_at);
        self.stop_at_login = self.stop_at_login.or(plan);
        plan.is_some() || learned
    }

    pub(super) fn drop_expired_plan(&mut self, now: WallMs) -> Vec<Change> {
        if self.plan_due().is_none_or(|due| now < due) {
            return vec![];
        }
        self.stop_at_login = None;
        vec![Change::StopExpired]
    }

    /// The pile still charged when it was last heard: what is next is another 0x36, and without the pile there is nobody
    /// to send it to.
    fn waits_for_pile(&self) -> bool {
        self.state == OrderState::Stopping && self.stop.is_some_and(|stop| stop.still_charging)
    }

    /// The next moment at which time alone decides something, of a pile that is away.
    pub fn due_without_pile(&self) -> Option<WallMs> {
        if self.waits_for_pile() { self.plan_due() } else { self.due() }
    }

    /// What time has decided by now, of a pile that is away.
    pub fn tick_without_pile(&mut self, now: WallMs) -> Vec<Change> {
        let what = if self.waits_for_pile() { super::Happening::PlanExpires } else { super::Happening::Tick };
        self.apply(now, what)
    }
}
