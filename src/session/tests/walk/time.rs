//! What time must have decided: every rule once more, in plain numbers.

use super::Walk;
use crate::domain::order::AnomalyKind;
use crate::domain::{Order, OrderState, WallMs};
use crate::session::state::Phase;

impl Walk {
    /// Of all the session watches over, nothing is overdue; and what a calm store has is what the session knows.
    pub fn check_time(&self) {
        let (session, now) = (&self.pile.session, self.pile.now().wall);
        if !matches!(session.phase, Phase::Live(_)) {
            return;
        }
        for held in session.orders.iter().filter(|held| held.unsent.is_none()) {
            let order = &held.order;
            assert_eq!(undecided(order, now), None, "{now:?} {order:#?}");
            let charged = self.charged.values().any(|serial| *serial == order.serial);
            let limit = order.limits.and_then(|limits| limits.duration_s).filter(|_| charged);
            let lasts = order.charging_at.filter(|_| order.state == OrderState::Charging);
            let too_long = limit.zip(lasts).is_some_and(|(s, since)| now.since(since) >= u64::from(s) * 1000);
            assert!(!too_long, "longer than it may: {order:#?}");
            if self.was_calm && held.version.is_some() {
                let store = self.pile.store.borrow();
                let stored = store.order(order.serial);
                let same = (stored.state, stored.stop_at_login, &stored.anomalies)
                    == (order.state, order.stop_at_login, &order.anomalies);
                assert!(same, "stored as {stored:#?}, known as {order:#?}");
            }
        }
    }
}

/// What should have been decided about an order by now.
pub fn undecided(order: &Order, now: WallMs) -> Option<&'static str> {
    let passed = |since: Option<WallMs>, seconds: u64| since.is_some_and(|since| now >= since.plus_ms(seconds * 1000));
    let has = |kind| order.anomalies.iter().any(|anomaly| anomaly.kind == kind);
    let stop = order.stop;
    let still = stop.is_some_and(|stop| stop.still_charging);
    let sent = stop.map(|stop| stop.last_sent_at);
    match order.state {
        OrderState::Requested | OrderState::Starting if passed(Some(order.created_at), 90) => Some("no start in 90 s"),
        // It became so when it changed last, or before that, whatever it says of its own deadline.
        OrderState::WaitingForPlug if passed(order.plug_deadline, 0) || passed(Some(order.updated_at), 60) => {
            Some("no plug in 60 s")
        }
        OrderState::Charging if order.idle_seen > 1 => Some("idle twice in mid-charge"),
        OrderState::Charging
            if order.origin == crate::domain::order::Origin::Platform
                && order.accepted_at.is_none()
                && passed(Some(order.created_at), 90)
                && !has(AnomalyKind::StartTimeout) =>
        {
            Some("no answer in 90 s")
        }
        OrderState::Stopping if still && passed(sent, 5) => Some("charges 5 s after 0x36"),
        OrderState::Stopping if still && stop.is_some_and(|stop| stop.sent > 20) => Some("0x36 for ever"),
        OrderState::Stopping if !still && passed(sent.max(order.ended_at), 30) => Some("no record 30 s after its stop"),
        OrderState::Finished if passed(order.ended_at, 30) => Some("no record 30 s after its end"),
        OrderState::Abnormal if order.anomalies.is_empty() => Some("abnormal for no reason"),
        state if state.is_open() && state != OrderState::Finished && order.ended_at.is_none() => {
            let plan = order.stop_at_login.map(|plan| plan.expires_at);
            passed(plan, 0).then_some("a stop that has expired")
        }
        _ => None,
    }
}
