//! One vehicle on two guns: what happens to one gun happens to the other, once more and in plain words.
//!
//! Both charge or none, and both end together. Whichever may still charge is stopped once the other one has been stopped,
//! or, where a caller has started both, once it has begun and the other one has not come about. A 0x36 names a gun only:
//! where a stranger charges on it, none is sent until the order is seen to charge again.

use std::collections::BTreeMap;

use super::Walk;
use super::said::{Known, Said};
use crate::domain::order::StopCause;
use crate::domain::{Gun, Order, OrderState, Serial};
use crate::session::state::Phase;

/// What of an order concerns the other gun of its vehicle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gist {
    pub state: OrderState,
    stopped: bool,
    /// It was stopped because the other gun had not come about, so that its own yes counts for nothing. Once it has charged
    /// there is more than a yes.
    taken_back: bool,
    accepted: bool,
    charged: bool,
    failed: bool,
    /// It is abnormal, and its charge was seen to end.
    over: bool,
}

impl Gist {
    pub fn of(order: &Order) -> Self {
        Self {
            state: order.state,
            stopped: order.stop.is_some(),
            taken_back: order.stop.is_some_and(|stop| stop.takes_back) && order.charging_at.is_none(),
            accepted: order.accepted_at.is_some(),
            charged: order.charging_at.is_some(),
            failed: order.failure.is_some(),
            over: order.state == OrderState::Abnormal && order.ended_at.is_some(),
        }
    }

    /// What a frame about it makes of it that puts it in this state, if nothing comes of that for the other gun.
    pub fn after(before: &Order, said: Option<Said>, state: OrderState, planned: bool) -> Self {
        use OrderState::{Abnormal, Failed, Finished, Starting, Stopping};
        let was = Self::of(before);
        let (open, new) = (before.state.is_open(), before.state != state);
        let failed = was.failed || (new && state == Failed);
        match said {
            None | Some(Said::Fails(_) | Said::AnswersStop(..)) => was,
            Some(Said::Accepts(_)) => Self { state, accepted: was.accepted || open, ..was },
            Some(Said::Charges(..)) => {
                let late = before.state == Failed;
                let stopped = was.stopped || state == Stopping || (planned && state == Abnormal);
                let (accepted, failed) = (was.accepted || late, was.failed && !late);
                let charged = was.charged || late || (open && before.state != Finished);
                let taken_back = was.taken_back && !charged;
                Self { state, stopped, taken_back, accepted, charged, failed, over: false }
            }
            Some(Said::Idles(_) | Said::Ends(_)) => Self { state, over: state == Abnormal, ..was },
            Some(Said::Refuses(..)) => Self { state, failed, ..was },
            Some(Said::Asks(..)) => Self { state, accepted: was.accepted || state == Starting, failed, ..was },
            // One for nothing, of a start that the pile says has failed.
            Some(Said::Bills(_, reason)) => {
                Self { state, failed: was.failed || (new && reason == 0x4B), over: was.over && !new, ..was }
            }
        }
    }

    pub fn is_taken_back(self) -> bool {
        self.taken_back
    }

    fn may_be_stopped(self) -> bool {
        use OrderState::{Abnormal, Charging, Requested, Starting, Stopping, WaitingForPlug};
        let going = matches!(self.state, Requested | WaitingForPlug | Starting | Charging | Stopping);
        (going || (self.state == Abnormal && !self.over)) && !self.stopped
    }

    fn never_came_about(self) -> bool {
        let unanswered = self.state == OrderState::ClosedWithoutRecord && !self.accepted;
        (self.failed || unanswered) && !self.charged
    }

    /// Whether it has to end because of the other one.
    fn ends_with(self, other: Self, caller_wants_both: bool) -> bool {
        let alone = caller_wants_both && (self.accepted || self.charged) && other.never_came_about();
        self.may_be_stopped() && (other.stopped || alone)
    }

    fn stop(&mut self, other: Self) {
        (self.stopped, self.taken_back) = (true, other.never_came_about() && !self.charged);
        if self.state != OrderState::Abnormal {
            self.state = OrderState::Stopping;
        }
    }
}

impl Walk {
    /// Stops what has to end because of what the frame has made of the other gun: whatever becomes of one of two is the
    /// occasion, and so is every 0x13 that charges one.
    pub fn end_together(&self, known: &BTreeMap<Serial, Known>, gists: &mut BTreeMap<Serial, Gist>, said: Said) {
        let happens = |serial: &Serial, gists: &BTreeMap<Serial, Gist>| {
            let Known { order, held, .. } = &known[serial];
            let again = match said {
                Said::Charges(_, charged) => charged == *serial && (*held || order.state == OrderState::Failed),
                Said::Bills(billed, _) => billed == *serial && self.nature.calm,
                _ => false,
            };
            again || gists[serial] != Gist::of(order)
        };
        let pairs = known.values().flat_map(|one| known.values().map(move |other| (&one.order, &other.order)));
        for (one, other) in pairs.filter(|(one, other)| are_one_vehicle(one, other)) {
            let (serial, other_serial) = (one.serial, other.serial);
            let occasion = happens(&serial, gists) || happens(&other_serial, gists);
            let (gist, beside) = (gists[&serial], gists[&other_serial]);
            if occasion
                && known[&serial].opened
                && gist.ends_with(beside, one.parallel.is_some())
                && !self.charges_a_stranger(one)
            {
                gists.get_mut(&serial).expect("it is known").stop(beside);
            }
        }
    }

    /// Whether a 0x36 would meet somebody else.
    fn charges_a_stranger(&self, order: &Order) -> bool {
        let charges = self.charged.values().any(|charged| *charged == order.serial);
        !charges && self.charged.contains_key(&order.gun)
    }

    /// A frame has stopped this one because of the other gun: that is all that has become of it, and a 0x36 says so to the
    /// gun that charges it, or is to.
    pub fn check_stopped(&self, (before, after): (&Order, &Order), told: &[Gun], context: &dyn Fn() -> String) {
        let Some(stop) = after.stop else { panic!("not stopped: {}", context()) };
        let guns = self.guns_to_stop(after);
        assert!(guns.iter().any(|gun| told.contains(gun)), "no 0x36 among {told:?}: {}", context());
        assert!(stop.sent == 1 && after.stop_at_login.is_none(), "{}", context());
        assert_eq!(stop.cause, StopCause::OtherGun, "{}", context());
        let (state, updated_at) = (after.state, after.updated_at);
        let only =
            Order { stop: Some(stop), state, updated_at, stop_at_login: None, plug_deadline: None, ..before.clone() };
        assert_eq!(only, *after, "{}", context());
    }

    /// The two guns of the vehicle that was started last say or do something, each in its own way.
    pub fn both_guns_go_on(&mut self) {
        let number = |order: &Order| order.parallel.map(|parallel| (order.created_at, parallel.number));
        let store = self.pile.store.borrow();
        let newest = store.orders.values().filter_map(|(order, _)| number(order)).max();
        let both = store.orders.values().map(|(order, _)| order).filter(|order| number(order) == newest);
        let both: Vec<_> =
            both.filter(|order| order.parallel.is_some()).map(|order| (order.gun, order.serial)).collect();
        drop(store);
        for (gun, serial) in both {
            match self.below(8) {
                0..3 => self.frame(Said::Accepts(serial)),
                3 => self.frame(Said::Refuses(serial, 2)),
                4 => self.frame(Said::Refuses(serial, 5)),
                5 => self.frame(Said::Idles(gun)),
                _ => self.frame(Said::Charges(gun, serial)),
            }
        }
    }

    /// Whatever the reason was, and whenever: of two guns none charges on that should have ended with the other.
    pub fn check_together(&self) {
        let session = &self.pile.session;
        if !matches!(session.phase, Phase::Live(_)) {
            return;
        }
        let store = self.pile.store.borrow();
        let held = session.orders.iter().filter(|held| held.unsent.is_none()).map(|held| &held.order);
        let known = |serial: Serial| session.orders.iter().any(|held| held.order.serial == serial);
        let stored = store.orders.values().map(|(order, _)| order).filter(|_| self.was_calm);
        let others: Vec<_> = held.clone().chain(stored.filter(|order| !known(order.serial))).collect();
        for order in held.filter(|order| self.charged.values().any(|charged| *charged == order.serial)) {
            let beside = others.iter().filter(|other| are_one_vehicle(order, other));
            for other in beside {
                let alone = Gist::of(order).ends_with(Gist::of(other), order.parallel.is_some());
                assert!(!alone, "{order:#?} goes on without {other:#?}");
            }
        }
    }
}

/// Whether a caller, or the pile, wants both for one vehicle.
fn are_one_vehicle(one: &Order, other: &Order) -> bool {
    if let (Some(beside), Some(beside_other)) = (one.parallel, other.parallel) {
        return beside.serial == other.serial && beside_other.serial == one.serial;
    }
    let number = |order: &Order| order.at_pile.as_ref().and_then(|at_pile| at_pile.parallel_no);
    let same = number(one).is_some_and(|number_of_one| number_of_one != [0; 6] && number(other) == Some(number_of_one));
    same && one.gun != other.gun && one.created_at.0.abs_diff(other.created_at.0) < 90_000
}
