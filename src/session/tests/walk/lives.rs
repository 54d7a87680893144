//! What was told of each order from its beginning to its end, and what is stored of it.

use std::collections::{BTreeMap, BTreeSet};

use super::Walk;
use crate::domain::order::{AnomalyKind, Change, Failure, Origin};
use crate::domain::{EventKind, Order, OrderState, Serial, WallMs};

/// A change and the order as it was told with it.
type Told = (Change, Order);

impl Walk {
    pub fn check_lives(&mut self) {
        let store = self.pile.store.clone();
        let store = store.borrow();
        let mut told: BTreeMap<Serial, Vec<Told>> = BTreeMap::new();
        for event in &store.events {
            if let EventKind::Order { order, change } = event {
                told.entry(order.serial).or_default().push((*change, order.as_ref().clone()));
            }
        }
        for (serial, (order, _)) in &store.orders {
            let told = told.remove(serial).unwrap_or_default();
            let settlements = told.iter().filter(|(change, _)| *change == Change::Settled).count();
            let once = usize::from(order.state == OrderState::Settled);
            assert_eq!(settlements, once, "{serial} settles {settlements} times");
            assert_eq!(store.records.contains_key(serial), once == 1, "{serial}");
            let conflicts = store.records.get(serial).is_some_and(|records| records.len() > 1);
            assert_eq!(conflicts, has(order, AnomalyKind::RecordConflict), "{serial}");
            let other = order.parallel.map(|other| other.serial).filter(|other| !self.lost.contains(other));
            assert!(other.is_none_or(|other| store.orders.contains_key(&other)), "half a start: {order:#?}");
            self.check_told(order, &told);
            self.check_breaches(order, &told);
            self.check_origin(order);
            self.count(order, &told);
        }
        assert!(told.is_empty(), "told of orders that are not there: {told:#?}");
    }

    /// Nothing is told twice, or too early, and what is stored was told.
    fn check_told(&self, order: &Order, told: &[Told]) {
        let serial = order.serial;
        let context = || {
            let changes: Vec<_> = told.iter().map(|(change, then)| (change, then.updated_at)).collect();
            format!("{order:#?} {changes:#?}")
        };
        let (mut before, mut ended) = (BTreeSet::new(), None);
        for (at, (change, then)) in told.iter().enumerate() {
            let again = !before.insert((format!("{change:?}"), then.updated_at));
            assert!(!again, "{change:?} told again: {}", context());
            assert!(*change != Change::Created || at == 0, "begins again: {}", context());
            if *change == Change::Finished {
                // What has ended ends again only if it has charged in between.
                assert!(then.last.map(|last| last.at) > ended || ended.is_none(), "ends again: {}", context());
                ended = then.ended_at;
            }
            assert_eq!(too_early(*change, then), None, "{change:?} of {then:#?} {}", context());
        }
        let changes: Vec<_> = told.iter().map(|(change, _)| *change).collect();
        let settled = changes.iter().position(|change| *change == Change::Settled);
        let after = settled.map_or(&[][..], |at| &changes[at + 1..]);
        let late = [
            (AnomalyKind::BillMismatch, order.bill.as_ref().is_some_and(|bill| !bill.audit.is_empty())),
            (AnomalyKind::RecordAfterClose, order.record_after_close.is_some()),
            (AnomalyKind::RecordConflict, has(order, AnomalyKind::RecordConflict)),
        ];
        let late = late.into_iter().filter(|(_, is)| *is).map(|(kind, _)| Change::Anomaly(kind));
        assert_eq!(after, late.collect::<Vec<_>>(), "{serial} goes on after SETTLED: {}", context());
        let count = |wanted: Change| changes.iter().filter(|change| **change == wanted).count();
        assert_eq!(count(Change::RepeatStop), 0, "one more 0x36 is no news: {}", context());
        let (failures, starts) = (count(Change::Failed), count(Change::Charging));
        assert!(failures <= 1 + count(Change::Anomaly(AnomalyKind::LateStart)), "{}", context());
        assert!(starts <= 1 + failures, "charges twice: {}", context());
        let last = told.last().map(|(_, order)| order);
        if self.is_exact(order) {
            assert_eq!(last.map(|last| last.state), Some(order.state), "{}", context());
            // A stop that fails, and a stop of what failed, is told each time it moves the order.
            let balance = order.balance_low.is_none() || count(Change::BalanceLow) > 0;
            assert!(balance && count(Change::BalanceLow) <= 1 + self.balances, "{}", context());
            assert!(order.stop_at_login.is_some() || !is_dropped(told), "a planned stop is lost: {}", context());
            let planned = count(Change::StopPlanned) >= count(Change::StopExpired);
            assert!(planned && (order.stop_at_login.is_none() || count(Change::StopPlanned) > 0), "{}", context());
            assert!(
                order.accepted_at.is_none() || count(Change::Accepted) > 0 || late_starter(&changes),
                "{}",
                context()
            );
        }
        // What is stored of an order was told with it; a bill overtakes what waits to be told.
        let silent = settled.is_some() && !self.is_exact(order);
        let was = |change| silent || count(change) > 0;
        assert!(order.charging_at.is_none() || was(Change::Charging) || !order.anomalies.is_empty(), "{}", context());
        assert!(order.stop.is_none() || was(Change::StopRequested), "{}", context());
        let on_pile = matches!(order.failure, Some(Failure::FailedOnPile { .. }));
        assert!(order.failure.is_none() || on_pile || was(Change::Failed), "{}", context());
        assert!(order.closing.is_none() || was(Change::Closed), "{}", context());
    }

    /// Each kind at most once, and what is stored of a breach was told.
    fn check_breaches(&self, order: &Order, told: &[Told]) {
        let serial = order.serial;
        for kind in AnomalyKind::ALL {
            let told = told.iter().filter(|(change, _)| *change == Change::Anomaly(kind)).count();
            let kept = order.anomalies.iter().filter(|anomaly| anomaly.kind == kind).count();
            assert!(kept <= 1, "{serial}: {kind:?} kept {kept} times");
            assert!(told <= 1, "{serial}: {kind:?} told {told} times");
            // A bill that nobody here has asked for is told by its settlement.
            let by_bill = kind == AnomalyKind::UnknownSerial && order.charging_at.is_none();
            let same = told == kept || by_bill || !self.is_exact(order);
            assert!(same, "{serial}: {kind:?} told {told} times, kept {kept}");
        }
        let breaches = told.iter().any(|(change, _)| matches!(change, Change::Anomaly(_)));
        let nobodys = matches!(order.origin, Origin::Pile) && !breaches && order.charging_at.is_some();
        assert!(!nobodys || !self.is_exact(order), "adopted in silence: {order:#?}");
        let platform = order.origin == Origin::Platform;
        let unanswered = matches!(order.failure, Some(Failure::NoStart)) && order.stop.is_none() && platform;
        assert!(!unanswered || has(order, AnomalyKind::StartTimeout), "{order:#?}");
        assert!(order.state != OrderState::Abnormal || breaches, "abnormal in silence: {order:#?}");
    }

    /// Whether everything that is kept of it must have been told.
    fn is_exact(&self, order: &Order) -> bool {
        order.state != OrderState::Settled || self.was_calm
    }

    fn count(&mut self, order: &Order, told: &[Told]) {
        self.reached.one("ends as", order.state.name());
        for (change, then) in told {
            self.reached.one("told", &format!("{change:?}"));
            self.reached.one("state", then.state.name());
        }
        if let Some(failure) = &order.failure {
            let name = format!("{failure:?}");
            self.reached.one("failure", name.split([' ', '{']).next().expect("a name"));
        }
        if let Some(stop) = order.stop {
            self.reached.one("stopped by", &format!("{:?}", stop.cause));
        }
        self.reached.one("made by", &format!("{:?}", order.origin));
    }
}

fn has(order: &Order, kind: AnomalyKind) -> bool {
    order.anomalies.iter().any(|anomaly| anomaly.kind == kind)
}

/// Whether the last planned stop was neither carried out, nor has expired, nor was overtaken by the end of the charge.
fn is_dropped(told: &[Told]) -> bool {
    let Some(at) = told.iter().rposition(|(change, _)| *change == Change::StopPlanned) else { return false };
    let plan = told[at].1.stop_at_login;
    // Who did not know of it when the order ended tells later that it has expired.
    let after = &told[at + 1..];
    let done = after.iter().any(|(change, _)| matches!(change, Change::StopExpired | Change::StopRequested));
    let ends = after.iter().find(|(_, then)| !then.may_be_stopped());
    !done && ends.zip(plan).is_none_or(|((_, then), plan)| then.updated_at > plan.expires_at)
}

/// It was taken to be accepted because it charged.
fn late_starter(changes: &[Change]) -> bool {
    changes.contains(&Change::Anomaly(AnomalyKind::LateStart))
}

/// Why this cannot be known yet, of an order as it was told.
fn too_early(change: Change, then: &Order) -> Option<&'static str> {
    let at = then.updated_at;
    let passed = |since: WallMs, seconds: u64| at.since(since) >= seconds * 1000;
    let stop = then.stop;
    match change {
        Change::Anomaly(AnomalyKind::StartTimeout) if !passed(then.created_at, 90) => Some("90 s have not passed"),
        Change::Anomaly(AnomalyKind::RecordOverdue) => {
            let since = stop.map(|stop| stop.last_sent_at).max(then.ended_at);
            let overdue =
                since.is_some_and(|since| passed(since, 30)) || then.ended_at.is_some_and(|at| passed(at, 30));
            if never_ran(then) { Some("it owes none") } else { (!overdue).then_some("its record is not due yet") }
        }
        Change::Anomaly(AnomalyKind::StopNotObeyed) if stop.is_none_or(|stop| stop.sent < 4) => Some("too few 0x36"),
        Change::Anomaly(AnomalyKind::StopNotObeyed) if stop.is_some_and(|stop| !passed(stop.last_sent_at, 5)) => {
            Some("5 s have not passed")
        }
        Change::Anomaly(AnomalyKind::IdleWhileCharging) if then.idle_seen < 2 => Some("idle once"),
        Change::Failed => match &then.failure {
            Some(Failure::NoStart) => {
                let ended = then.ended_at.or(stop.map(|stop| stop.last_sent_at));
                let given_up = ended.map_or(passed(then.created_at, 90), |ended| passed(ended, 30));
                (!given_up).then_some("it may still start")
            }
            Some(Failure::NotPluggedIn) if !passed(then.created_at, 60) => Some("60 s have not passed"),
            Some(_) => None,
            None => Some("it does not say why"),
        },
        _ => None,
    }
}

/// The pile has neither charged it nor said a yes that counts.
fn never_ran(order: &Order) -> bool {
    let asked_at_pile = matches!(order.origin, Origin::Card | Origin::Vin);
    let taken_back = order.stop.is_some_and(|stop| stop.takes_back);
    order.charging_at.is_none() && (order.accepted_at.is_none() || asked_at_pile || taken_back)
}
