//! What drivers show, and what bills say of those who were not asked about.

use crate::domain::driver::{AtPile, Card, Shown, Vin};
use crate::domain::{Gun, Order, OrderState, Serial};
use crate::session::tests::harness::*;
use crate::session::translate::wire_pile;
use crate::wire;

/// What somebody wants to charge with, and on which guns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wish {
    pub means: Means,
    /// Of a vehicle on two guns, the number under which the pile asks for both.
    pub vehicle: Option<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Means {
    Card(u8),
    /// Which of two, and whether it is sent last character first.
    Vin(u8, bool),
}

impl Wish {
    pub fn shown(self) -> Shown {
        match self.means {
            Means::Card(n) => Shown::Card(Card([n + 1, 0, 0, 0, 0, 0, 0, 0])),
            Means::Vin(n, _) => Shown::Vin(Vin(VINS[usize::from(n)].into())),
        }
    }

    pub fn number(self) -> Option<[u8; 6]> {
        self.vehicle.map(|n| [0x24, n, 0, 0, 0, 0]).map(|number| if number[1] == 0 { [0; 6] } else { number })
    }

    /// The same, but for one that says nothing: some piles give none.
    pub fn of_vehicle(self) -> Option<[u8; 6]> {
        self.number().filter(|number| *number != [0; 6])
    }

    /// Whether this is what was granted under this order.
    pub fn is_of(self, order: &Order) -> bool {
        let same = |at_pile: &AtPile| at_pile.shown == self.shown() && at_pile.parallel_no == self.number();
        order.at_pile.as_deref().is_some_and(same)
    }

    /// 0x31 or 0xA5, and 0xA1 for one of two guns.
    pub fn frame(self, gun: Gun, v18: bool) -> wire::Frame {
        let (pile_code, gun_no) = (wire_pile(code()), wire::GunNo(gun.number()));
        let (need_password, password) = (wire::YesNo::No, wire::Opaque::ZERO);
        let (start_mode, account_or_card, vin) = self.fields();
        if let Some(number) = self.number() {
            let gun_role = if gun.number() == 1 { wire::GunRole::Main } else { wire::GunRole::Auxiliary };
            let parallel_no = wire::Bcd(number);
            let ask = wire::ParallelStartRequest {
                pile_code,
                gun_no,
                start_mode,
                need_password,
                account_or_card,
                password,
                vin,
                gun_role,
                parallel_no,
            };
            return ask.into();
        }
        if v18 {
            let ask =
                wire::StartRequestV18 { pile_code, gun_no, start_mode, need_password, account_or_card, password, vin };
            return ask.into();
        }
        wire::StartRequest { pile_code, gun_no, start_mode, need_password, account_or_card, password, vin }.into()
    }

    fn fields(self) -> (wire::StartMode, wire::Opaque<8>, wire::VinReversed) {
        let vin = |text: &str| wire::VinReversed::new(text).expect("17 characters");
        match self.means {
            Means::Card(n) => (wire::StartMode::Card, wire::Opaque([n + 1, 0, 0, 0, 0, 0, 0, 0]), vin("")),
            Means::Vin(n, by_the_book) => {
                let text = VINS[usize::from(n)];
                let reversed: String = text.chars().rev().collect();
                let sent = vin(if by_the_book { text } else { &reversed });
                (wire::StartMode::Vin, wire::Opaque::ZERO, sent)
            }
        }
    }
}

/// It was granted at the pile, and has not charged.
pub fn is_told_yes(order: &Order) -> bool {
    order.at_pile.is_some() && matches!(order.state, OrderState::Requested | OrderState::Starting)
}

/// What the bill of a serial says of who began it; of those that were given out here it says nothing.
pub fn start_type_of(serial: Serial) -> u8 {
    let [from, n, ..] = serial.bytes();
    if from == 0xF0 { [0, 4, 1, 4, 2, 4, 5][usize::from(n) % 7] } else { 0 }
}

/// With their check digits: whichever way they are sent, there is no doubt.
const VINS: [&str; 2] = ["LSVAM4187C2184847", "1M8GDM9AXKP042788"];
