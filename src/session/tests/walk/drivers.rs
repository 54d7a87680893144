//! What drivers do at the pile: they show a card, or their vehicle its VIN, and the pile asks; or the pile knows the card,
//! asks nobody, and bills what nobody here has heard of.

use super::Walk;
use super::frames::Said;
use crate::domain::driver::{Card, Shown, Vin};
use crate::domain::order::{AnomalyKind, Origin};
use crate::domain::{Gun, Order, OrderState, Serial};
use crate::session::tests::harness::*;
use crate::session::translate::wire_pile;
use crate::wire;

/// What somebody wants to charge with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    Card(u8),
    /// Which of two, and whether it is sent last character first.
    Vin(u8, bool),
}

impl Wish {
    pub fn shown(self) -> Shown {
        match self {
            Self::Card(n) => Shown::Card(Card([n + 1, 0, 0, 0, 0, 0, 0, 0])),
            Self::Vin(n, _) => Shown::Vin(Vin(VINS[usize::from(n)].into())),
        }
    }

    /// 0x31, or 0xA5.
    pub fn frame(self, gun: Gun, v18: bool) -> wire::Frame {
        let (pile_code, gun_no) = (wire_pile(code()), wire::GunNo(gun.number()));
        let (need_password, password) = (wire::YesNo::No, wire::Opaque::ZERO);
        let (start_mode, account_or_card, vin) = self.fields();
        if v18 {
            let ask =
                wire::StartRequestV18 { pile_code, gun_no, start_mode, need_password, account_or_card, password, vin };
            return ask.into();
        }
        wire::StartRequest { pile_code, gun_no, start_mode, need_password, account_or_card, password, vin }.into()
    }

    fn fields(self) -> (wire::StartMode, wire::Opaque<8>, wire::VinReversed) {
        let vin = |text: &str| wire::VinReversed::new(text).expect("17 characters");
        match self {
            Self::Card(n) => (wire::StartMode::Card, wire::Opaque([n + 1, 0, 0, 0, 0, 0, 0, 0]), vin("")),
            Self::Vin(n, by_the_book) => {
                let text = VINS[usize::from(n)];
                let reversed: String = text.chars().rev().collect();
                let sent = vin(if by_the_book { text } else { &reversed });
                (wire::StartMode::Vin, wire::Opaque::ZERO, sent)
            }
        }
    }
}

impl Walk {
    pub fn any_wish(&mut self) -> Wish {
        let n = self.below(2) as u8;
        if self.chance(3) { Wish::Vin(n, self.chance(2)) } else { Wish::Card(n) }
    }

    pub fn a_card_is_shown(&mut self) {
        let (gun, wish) = (self.any_gun(), self.any_wish());
        self.frame(Said::Asks(gun, wish));
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

/// What the bill of a serial says of who began it; of those that were given out here it says nothing.
pub fn start_type_of(serial: Serial) -> u8 {
    let [from, n, ..] = serial.bytes();
    if from == 0xF0 { [0, 4, 1, 4, 2, 4, 5][usize::from(n) % 7] } else { 0 }
}

/// Chinese, and with their check digits: whichever way they are sent, there is no doubt.
const VINS: [&str; 2] = ["LSVAM4187C2184847", "1M8GDM9AXKP042788"];
