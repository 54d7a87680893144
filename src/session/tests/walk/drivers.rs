//! What drivers do at the pile: they show a card, or their vehicle its VIN, and the pile asks; or the pile knows the card,
//! asks nobody, and bills what nobody here has heard of.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Walk;
use super::said::Said;
use super::wish::{Means, Wish, is_told_yes, start_type_of};
use crate::domain::driver::Shown;
use crate::domain::order::{AnomalyKind, Origin};
use crate::domain::{Gun, Order, OrderState, Serial};
use crate::session::state::Phase;
use crate::session::tests::harness::*;

/// What the newest session was asked for last on each gun, as far as that is known.
#[derive(Default)]
pub struct Wishes {
    of: BTreeMap<Gun, Wished>,
    /// Something was asked for before the session owned the pile: what counts of that is its own business.
    unknown: bool,
}

struct Wished {
    wish: Wish,
    since: Duration,
    /// Of the last frame that asked.
    sequence: [u8; 2],
    answer: Option<bool>,
    /// Another gun of the vehicle had been denied when it was asked for.
    doomed: bool,
    /// The session may not know of it any more.
    forgotten: bool,
}

impl Wishes {
    /// Of the vehicle with this number, a gun that has been denied less than a minute after it was asked for.
    fn denied(&self, number: [u8; 6], now: Duration) -> Option<&Wished> {
        let denied = |wished: &&Wished| wished.answer == Some(false) && now < wished.since + SAME_WISH;
        self.of.values().filter(denied).find(|wished| wished.wish.of_vehicle() == Some(number))
    }
}

impl Walk {
    pub fn any_wish(&mut self) -> Wish {
        let n = self.below(2) as u8;
        let means = if self.chance(3) { Means::Vin(n, self.chance(2)) } else { Means::Card(n) };
        Wish { means, vehicle: None }
    }

    pub fn a_card_is_shown(&mut self) {
        let (gun, wish) = (self.any_gun(), self.any_wish());
        self.frame(Said::Asks(gun, wish));
    }

    /// The pile asks for both guns of a vehicle, mostly with the same card, and a moment later for the second.
    pub fn a_vehicle_asks(&mut self) {
        let first = 1 + self.below(2) as u8;
        let vehicle = Some(((self.steps / 20) % 4) as u8);
        let mut wish = Wish { vehicle, ..self.any_wish() };
        for number in [first, 3 - first] {
            self.frame(Said::Asks(gun(number), wish));
            if self.chance(3) {
                self.authority_answers();
            }
            if self.chance(6) {
                wish = Wish { vehicle, ..self.any_wish() };
            }
            if self.chance(6) {
                return;
            }
        }
    }

    /// The session has heard it.
    pub fn wished(&mut self, gun: Gun, wish: Wish, sequence: [u8; 2]) {
        let session = &self.pile.session;
        if session.provisional.is_some() {
            self.wishes.unknown = true;
        }
        // Whoever takes the pile over is asked again.
        if session.draining.is_some() {
            return;
        }
        let now = self.pile.now().mono;
        let goes_on = session.orders.iter().any(|held| held.order.gun == gun && is_told_yes(&held.order));
        if let Some(before) = self.wishes.of.get_mut(&gun)
            && (before.wish.shown(), before.wish.vehicle) == (wish.shown(), wish.vehicle)
            && now < before.since + SAME_WISH
            && !before.forgotten
            && (before.answer != Some(true) || goes_on)
        {
            before.sequence = sequence;
            return;
        }
        let denied = wish.of_vehicle().and_then(|number| self.wishes.denied(number, now)).map(|denied| denied.since);
        let (since, doomed) = (denied.unwrap_or(now), denied.is_some());
        self.wishes.of.insert(gun, Wished { wish, since, sequence, answer: None, doomed, forgotten: false });
    }

    /// The authority allows what would have a serial that is taken: it is forgotten, and the pile asks again, unless the gun is
    /// denied for another reason before.
    pub fn allowed(&mut self, gun: Gun, serial: Serial) {
        if self.pile.store.borrow().orders.contains_key(&serial)
            && let Some(wished) = self.wishes.of.get_mut(&gun)
        {
            wished.forgotten = true;
        }
    }

    /// 0x32, 0xA2, 0xA6: it answers the last question of its gun, in its own form, and no gun of a vehicle is told yes after
    /// another one was told no.
    pub fn check_granted(&mut self, down: &Down) {
        let (gun, yes) = (gun(down.get("gun_no") as u8), down.get("auth_result") == 1);
        let form = match (down.frame.code(), self.nature.v18) {
            (0xA2, _) => "both",
            (0xA6, true) | (0x32, false) => "one",
            _ => panic!("not what the pile understands: {down:?}"),
        };
        self.reached.one(if yes { "told yes" } else { "told no" }, form);
        if self.wishes.unknown {
            return;
        }
        let wished = self.wishes.of.get(&gun).unwrap_or_else(|| panic!("nobody has asked: {down:?}"));
        let number = wished.wish.number();
        assert_eq!(
            (wished.sequence, form == "both"),
            (down.sequence.0, number.is_some()),
            "another question: {down:?}"
        );
        if let Some(number) = number {
            let echo = down.get("parallel_no").to_le_bytes();
            assert_eq!(echo[..6], number, "{down:?}");
            let denied = wished.doomed || self.wishes.denied(number, down.at).is_some();
            assert!(!yes || !denied, "yes for one gun, no for the other: {down:?}");
        }
        assert!(!yes || wished.answer != Some(false), "yes after no: {down:?}");
        if let Some(wished) = self.wishes.of.get_mut(&gun) {
            wished.answer = Some(yes);
        }
    }

    /// Once one gun of a vehicle is denied, none of it waits, and none that was told yes is expected to charge.
    pub fn check_denied(&self, number: [u8; 6]) {
        let session = &self.pile.session;
        if !matches!(session.phase, Phase::Live(_)) {
            return;
        }
        let of_vehicle =
            |order: &Order| order.at_pile.as_ref().is_some_and(|at_pile| at_pile.parallel_no == Some(number));
        let opened = session.orders.iter().filter(|held| held.unsent.is_none()).map(|held| &held.order);
        let alone = opened.into_iter().find(|order| of_vehicle(order) && is_told_yes(order));
        assert!(alone.is_none(), "one gun of its vehicle is denied: {alone:#?}");
        let now = self.pile.now().mono;
        let waits = |wished: &&Wished| wished.wish.of_vehicle() == Some(number) && wished.answer.is_none();
        let waiting = self.wishes.of.values().filter(waits).any(|wished| now < wished.since + SAME_WISH);
        assert!(!waiting || !self.nature.calm || self.wishes.unknown, "one gun is denied, and the other one waits");
    }

    /// The pile knew the card: it has made the serial itself, and mostly nobody hears of it before its bill.
    pub fn bills_an_offline_card(&mut self) {
        let serial = foreign((self.steps / 60 * 2) as u8 + self.below(2) as u8);
        self.frame(Said::Bills(serial, 0x41));
    }

    /// Where it comes from is what the pile has said of it, and whether that is a breach.
    pub fn check_origin(&self, order: &Order) {
        let shown = order.at_pile.as_ref().map(|at_pile| &at_pile.shown);
        let right = match order.origin {
            Origin::Card => matches!(shown, Some(Shown::Card(_)) | None),
            Origin::Vin => matches!(shown, Some(Shown::Vin(_)) | None),
            Origin::Platform | Origin::Pile | Origin::OfflineCard => shown.is_none(),
        };
        assert!(right, "{order:#?}");
        let kept = order.anomalies.iter().any(|anomaly| anomaly.kind == AnomalyKind::UnknownSerial);
        let given_out = order.origin == Origin::Platform || order.at_pile.is_some();
        if given_out || self.lost.contains(&order.serial) {
            assert!(!given_out || !kept, "{order:#?}");
            return;
        }
        let settled = order.state == OrderState::Settled;
        let origin = match start_type_of(order.serial) {
            2 if settled => Origin::Card,
            4 if settled => Origin::OfflineCard,
            5 if settled => Origin::Vin,
            _ => Origin::Pile,
        };
        assert_eq!(order.origin, origin, "{order:#?}");
        // It has charged under a serial that nobody here gave out, or is billed and was not started by an offline card.
        let breach = order.charging_at.is_some() || origin != Origin::OfflineCard;
        assert_eq!(kept, breach, "{order:#?}");
    }
}

/// For so long the same wish on the same gun is the same one.
const SAME_WISH: Duration = Duration::from_mins(1);
