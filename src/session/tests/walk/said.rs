//! What a pile says, and what is known of an order when it does.

use super::wish::Wish;
use crate::domain::{Gun, Order, Serial};

/// A reason that comes with a result nobody has heard of.
pub const ODD: u64 = 9;

/// What a pile says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
    /// 0x13
    Charges(Gun, Serial),
    /// 0x13
    Idles(Gun),
    /// 0x13 that calls the gun faulty or offline.
    Fails(Gun),
    /// 0x33, 0xA7
    Accepts(Serial),
    /// The same, with its reason.
    Refuses(Serial, u64),
    /// 0x35
    AnswersStop(Gun, u64),
    /// 0x19
    Ends(Serial),
    /// 0x3B
    Bills(Serial, u8),
    /// 0x31, 0xA5, or 0xA1
    Asks(Gun, Wish),
}

/// An order, and what is known of it besides.
pub struct Known {
    pub order: Order,
    /// What opens it has gone to the pile.
    pub opened: bool,
    /// The session has it in its memory.
    pub held: bool,
}

impl Said {
    /// Whether it may move this order, which is being stopped on these guns.
    pub fn is_about(self, order: &Order, stopped_on: &[Gun]) -> bool {
        match self {
            Self::Charges(_, serial)
            | Self::Accepts(serial)
            | Self::Refuses(serial, _)
            | Self::Ends(serial)
            | Self::Bills(serial, _) => serial == order.serial,
            Self::Idles(gun) | Self::Fails(gun) => gun == order.gun,
            Self::Asks(gun, wish) => {
                let number = order.at_pile.as_ref().and_then(|at_pile| at_pile.parallel_no);
                gun == order.gun || (number.is_some() && number == wish.of_vehicle())
            }
            Self::AnswersStop(gun, _) => stopped_on.contains(&gun),
        }
    }
}
