//! What frames say of orders, and what they must make of them: a second, plain account of the order machine, which
//! knows of no store, no versions and no sessions.

use std::collections::BTreeMap;

use super::Walk;
use super::said::{Known, ODD, Said};
use super::vehicle::Gist;
use super::wish::{is_told_yes, start_type_of};
use crate::domain::order::{AnomalyKind, Change, Metered, Origin};
use crate::domain::{Gun, Order, OrderState, Serial, WallMs};
use crate::session::held::Held;
use crate::session::state::Phase;
use crate::session::tests::harness::*;
use crate::wire::Sequence;

impl Walk {
    /// Says it, and looks at what has become of all orders.
    pub fn frame(&mut self, said: Said) {
        self.trace.push(format!("{said:?}"));
        let meter = [self.below(3) * 1500, self.below(3) * 1200, 40 * self.below(3)];
        let provisional = self.pile.session.provisional.is_some();
        if matches!(said, Said::Asks(..)) {
            self.check_sent();
        }
        let (heard, before) = (self.pile.session.fence().is_some(), self.orders_as_they_are());
        let stops = self.pile.waiting(0x36).count();
        let sequence = self.send(said, meter);
        let now = self.pile.now().wall;
        if heard && provisional {
            self.kept.push((said, now));
        }
        match said {
            Said::Charges(gun, serial) if heard => drop(self.charged.insert(gun, serial)),
            Said::Idles(gun) | Said::Fails(gun) if heard => drop(self.charged.remove(&gun)),
            Said::Asks(gun, wish) if heard => self.wished(gun, wish, sequence),
            Said::Bills(serial, reason) if heard => drop(self.unanswered.insert(sequence, (serial, reason))),
            _ => {}
        }
        let (Some(before_all), Some(after)) = (before, self.orders_as_they_are()) else { return };
        let about = |known: &Known| {
            Some(said).filter(|said| known.opened && said.is_about(&known.order, &self.guns_to_stop(&known.order)))
        };
        let alone = before_all.iter().map(|(serial, known)| {
            let metered = after.get(serial).and_then(|known| known.order.last);
            let state = self.state_after(&known.order, about(known), metered, now);
            let planned = known.order.stop_at_login.is_some_and(|plan| now < plan.expires_at);
            (*serial, Gist::after(&known.order, about(known), state, planned))
        });
        let alone: BTreeMap<_, _> = alone.collect();
        let mut together = alone.clone();
        self.end_together(&before_all, &mut together, said);
        let told: Vec<_> = self.pile.waiting(0x36).map(|down| gun(down.get("gun_no") as u8)).collect();
        let told = &told[stops.min(told.len())..];
        let mut ended = vec![];
        for (serial, known) in &before_all {
            let Some(Known { order: after, held, .. }) = after.get(serial) else { continue };
            // What was metered of an order that is over is forgotten with it.
            let last = if known.held && !held { after.last } else { known.order.last };
            let before = &Order { last, ..known.order.clone() };
            let context = || format!("{said:?} makes of {before:#?} this: {after:#?}");
            let wanted = together[serial];
            assert_eq!((after.state, Gist::of(after)), (wanted.state, wanted), "{}", context());
            if wanted != alone[serial] {
                ended.push(if wanted.is_taken_back() { "taken back" } else { "stopped" });
            }
            if wanted != alone[serial] && about(known).is_none() {
                self.check_stopped((before, after), told, &context);
                continue;
            }
            let guns = self.guns_to_stop(after);
            let on_gun = |known: &&Known| {
                let order = &known.order;
                order.stop.is_some() && self.guns_to_stop(order).iter().any(|gun| guns.contains(gun))
            };
            let alone = before_all.values().filter(on_gun).count() < 2 && guns.len() == 1;
            Self::check_parts((before, alone), about(known), after, now, &context);
        }
        for how in ended {
            self.reached.one("other gun", how);
        }
        if let (true, Said::Bills(serial, _)) = (self.nature.calm, said) {
            assert_eq!(self.pile.order_state(serial), OrderState::Settled);
        }
        if let (true, Said::Charges(_, serial)) = (self.nature.calm, said) {
            // Whoever charges has an order, and if nobody here has made it, that is a breach.
            let store = self.pile.store.borrow();
            let stranger = !before_all.contains_key(&serial);
            let told = store.changes(serial).contains(&Change::Anomaly(AnomalyKind::UnknownSerial));
            assert!(!stranger || told, "adopted in silence");
        }
    }

    /// What a session heard before it owned the pile has happened, as of its own time, as soon as it does.
    pub fn check_kept(&mut self) {
        if !matches!(self.pile.session.phase, Phase::Live(_)) {
            return;
        }
        for (said, at) in std::mem::take(&mut self.kept) {
            let (Said::Accepts(serial) | Said::Charges(_, serial)) = said else { continue };
            let held = self.pile.session.orders.iter().find(|held| held.order.serial == serial);
            // What is not known is being looked up, and what has ended does not begin.
            let Some(order) = held.map(|held| &held.order).filter(|order| order.created_at < at) else { continue };
            let ended = matches!(order.state, OrderState::Finished | OrderState::Abnormal);
            // One that had failed begins when it charges.
            let late = order.anomalies.iter().any(|anomaly| anomaly.kind == AnomalyKind::LateStart);
            let open = order.state.is_open() && order.failure.is_none() && !ended && !late;
            let since = if let Said::Accepts(_) = said { order.accepted_at } else { order.charging_at };
            assert!(!open || since.is_some_and(|since| since <= at), "{said:?} at {at:?} is forgotten: {order:#?}");
            self.reached.one("provisional", if open { "caught up" } else { "too late" });
        }
    }

    /// It is stopped where it charges, and 0x35 answers for that gun; one of two, if the pile says so of both.
    pub fn guns_to_stop(&self, order: &Order) -> Vec<Gun> {
        let charged = self.charged.iter().filter(|(_, charged)| **charged == order.serial);
        let guns: Vec<_> = charged.map(|(gun, _)| *gun).collect();
        if guns.is_empty() { vec![order.gun] } else { guns }
    }

    fn send(&mut self, said: Said, [energy, amount, soc]: [u64; 3]) -> [u8; 2] {
        let answer = |serial| {
            let parallel =
                self.pile.session.orders.iter().any(|h| h.order.serial == serial && h.order.parallel.is_some());
            if parallel {
                0xA3
            } else if self.nature.v18 {
                0xA7
            } else {
                0x33
            }
        };
        let code = if let Said::Accepts(serial) | Said::Refuses(serial, _) = said { answer(serial) } else { 0 };
        let v18 = self.nature.v18;
        let pile = &mut self.pile;
        let n = |gun: Gun| u64::from(gun.number());
        let sequence = match said {
            Said::Charges(gun, serial) => {
                let fields = [("gun_no", n(gun)), ("status", 3), ("gun_plugged", 1), ("soc", soc)];
                let metered = [("energy", energy), ("amount", amount)];
                pile.sends_of(serial, 0x13, &[&fields[..], &metered[..]].concat())
            }
            Said::Idles(gun) => pile.sends(0x13, &[("gun_no", n(gun)), ("status", 2), ("gun_plugged", 1)]),
            Said::Fails(gun) => pile.sends(0x13, &[("gun_no", n(gun)), ("status", energy / 1500 % 2)]),
            Said::Accepts(serial) => pile.sends_of(serial, code, &[("gun_no", 1), ("start_result", 1)]),
            Said::Refuses(serial, ODD) => pile.sends_of(serial, code, &[("gun_no", 1), ("start_result", 7)]),
            Said::Refuses(serial, reason) => pile.sends_of(serial, code, &[("gun_no", 1), ("fail_reason", reason)]),
            Said::AnswersStop(gun, result) => pile.sends(0x35, &[("gun_no", n(gun)), ("stop_result", result)]),
            Said::Ends(serial) => pile.sends_of(serial, 0x19, &[("gun_no", 1)]),
            Said::Bills(serial, reason) => pile.bills_as(serial, reason.into(), start_type_of(serial).into()),
            Said::Asks(gun, wish) => {
                // Far from those of other frames, and two of a step differ.
                let sequence = Sequence((0x8000 | (2 * self.steps + n(gun)) as u16).to_be_bytes());
                pile.sends_frame(sequence, wish.frame(gun, v18));
                sequence
            }
        };
        sequence.0
    }

    /// Every order, where it is known what a frame makes of them: in the memory of a session that owns its pile, or in a
    /// store that answers at once.
    fn orders_as_they_are(&self) -> Option<BTreeMap<Serial, Known>> {
        let session = &self.pile.session;
        if !matches!(session.phase, Phase::Live(_)) {
            return None;
        }
        let mut orders = BTreeMap::new();
        if self.nature.calm {
            let store = self.pile.store.borrow();
            let known = |order: &Order| Known { order: order.clone(), opened: true, held: false };
            orders.extend(store.orders.iter().map(|(serial, (order, _))| (*serial, known(order))));
        }
        let known = |held: &Held| Known { order: held.order.clone(), opened: held.unsent.is_none(), held: true };
        orders.extend(session.orders.iter().map(|held| (held.order.serial, known(held))));
        Some(orders)
    }

    /// What its state must be now.
    fn state_after(&self, before: &Order, said: Option<Said>, metered: Option<Metered>, now: WallMs) -> OrderState {
        use OrderState::{
            Abnormal, Charging, Failed, Finished, Requested, Settled, Starting, Stopping, WaitingForPlug,
        };
        let asked_at_pile = matches!(before.origin, Origin::Card | Origin::Vin);
        let taken_back = before.stop.is_some_and(|stop| stop.takes_back);
        let yes_counts = before.accepted_at.is_some() && !asked_at_pile && !taken_back;
        let never_ran = before.charging_at.is_none() && !yes_counts;
        let Some(said) = said else { return before.state };
        match (said, before.state) {
            (Said::Accepts(_), Requested | WaitingForPlug) => Starting,
            (Said::Refuses(_, 5), Requested | WaitingForPlug) => WaitingForPlug,
            (Said::Refuses(..), Requested | WaitingForPlug | Starting) => Failed,
            (Said::Refuses(..), Stopping | Finished) if never_ran => Failed,
            (Said::Charges(..), Requested | WaitingForPlug | Starting | Charging | Failed) => {
                let late = before.state == Failed && !self.nature.adopts;
                if late || is_to_stop(before, metered, now) { Stopping } else { Charging }
            }
            (Said::Idles(_), Charging) if before.idle_seen > 0 => Abnormal,
            (Said::Idles(_), Stopping) | (Said::Ends(_), Starting | Charging | Stopping) => Finished,
            (Said::Bills(..), _) if self.nature.calm => Settled,
            // Somebody at the pile asks anew: he does not charge under the yes he had. The same wish again is
            // the same one, and told yes if that has not been done yet.
            // One gun of a vehicle is denied: none charges.
            (Said::Asks(gun, _), Requested | Starting) if is_told_yes(before) && gun != before.gun => {
                let denied = self.pile.waiting(0xA2).any(|down| down.get("auth_result") == 0);
                if denied { Failed } else { before.state }
            }
            (Said::Asks(_, wish), Requested | Starting)
                if is_told_yes(before) && self.pile.session.draining.is_none() =>
            {
                if wish.is_of(before) && now.since(before.created_at) < 60_000 { Starting } else { Failed }
            }
            (_, same) => same,
        }
    }

    /// What else must have changed, and that nothing has that the frame does not speak of.
    fn check_parts(
        (before, alone): (&Order, bool),
        said: Option<Said>,
        after: &Order,
        now: WallMs,
        context: &dyn Fn() -> String,
    ) {
        let stopping = before.state == OrderState::Stopping;
        let right = match said {
            None | Some(Said::Fails(_)) => before == after,
            Some(Said::Accepts(_)) => !before.state.is_open() || after.accepted_at.is_some(),
            Some(Said::Charges(..)) => {
                let open = before.state.is_open() && before.state != OrderState::Finished;
                let runs = !open || after.charging_at.is_some();
                let goes = matches!(before.state, OrderState::Abnormal | OrderState::Stopping);
                let again = !goes || after.ended_at.is_none();
                // One idle frame in between counts anew.
                let again = again && (!open || after.idle_seen == 0);
                let goes_on =
                    !stopping || after.stop.is_some_and(|stop| stop.still_charging || stop.last_sent_at == now);
                let planned = before.stop_at_login.is_some_and(|plan| now < plan.expires_at) && open;
                runs && again && goes_on && (!planned || after.stop_at_login.is_none() && after.stop.is_some())
            }
            Some(Said::Idles(_) | Said::Ends(_)) => {
                let ended = before.state == OrderState::Abnormal && before.ended_at.is_some();
                let ends = matches!(before.state, OrderState::Abnormal | OrderState::Stopping);
                if ended { before.ended_at == after.ended_at } else { !ends || after.ended_at.is_some() }
            }
            Some(Said::AnswersStop(_, result)) => {
                // If two are being stopped, or one on two guns, it is for one of them.
                let taken = after.ended_at.is_some() && after.stop.is_some_and(|stop| !stop.still_charging);
                let unchanged = before == after;
                if result == 1 { !stopping || taken || (!alone && unchanged) } else { unchanged }
            }
            Some(Said::Refuses(..) | Said::Bills(..) | Said::Asks(..)) => true,
        };
        assert!(right, "{}", context());
        // A breach is found once.
        for kind in AnomalyKind::ALL {
            let kept = after.anomalies.iter().filter(|anomaly| anomaly.kind == kind).count();
            assert!(kept <= 1, "{kind:?} {}", context());
        }
        let has = |kind| after.anomalies.iter().any(|anomaly| anomaly.kind == kind);
        let is_late = before.state == OrderState::Failed && matches!(said, Some(Said::Charges(..)));
        assert!(!is_late || has(AnomalyKind::LateStart), "{}", context());
        let idles = before.state != after.state && after.state == OrderState::Abnormal;
        assert!(!idles || has(AnomalyKind::IdleWhileCharging), "{}", context());
    }
}

/// Whether pileway stops by itself what charges now.
fn is_to_stop(before: &Order, metered: Option<Metered>, now: WallMs) -> bool {
    let planned = before.stop_at_login.is_some_and(|plan| now < plan.expires_at);
    let by_limit = before.limits.zip(metered).is_some_and(|(limits, last)| {
        let charging_at = before.charging_at.filter(|_| before.state != OrderState::Failed).unwrap_or(now);
        let too_long = limits.duration_s.is_some_and(|s| now.since(charging_at) >= u64::from(s) * 1000);
        let too_dear = limits.amount.is_some_and(|limit| last.amount >= limit);
        let too_much = limits.energy.is_some_and(|limit| last.energy >= limit);
        let too_full = limits.soc_percent.is_some_and(|limit| last.soc_percent >= limit);
        too_long || too_dear || (!limits.by_pile && (too_much || too_full))
    });
    planned || by_limit
}
