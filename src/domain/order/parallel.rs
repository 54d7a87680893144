//! One vehicle on two guns: an order for each, of which both charge or none.
//!
//! A pile starts only if both guns can, and ends both when one is stopped (8.11). Where it does not, we do: whichever gun
//! said yes is stopped when the other's start has not come about, however that is found out – it said no, nobody plugged
//! in, or it let the 90 s pass. A charge on one gun that its caller did not ask for is worse than none. A start that was
//! asked for at the pile is the pile's to keep together: there, only a stop of ours is passed on.

use serde::{Deserialize, Serialize};

use super::machine::START_MS;
use super::{Order, OrderState};
use crate::domain::ids::{Gun, Serial};

/// What an order knows of its vehicle's other gun.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Parallel {
    /// The number both guns were started with: `YYMMDDhhmmss`, packed.
    pub number: [u8; 6],
    pub gun: Gun,
    /// Of the other gun's order.
    pub serial: Serial,
}

impl Order {
    /// The number of a charge of one vehicle on several guns, whoever gave it.
    pub fn parallel_no(&self) -> Option<[u8; 6]> {
        let of_pile = self.at_pile.as_deref().and_then(|at_pile| at_pile.parallel_no);
        of_pile.or(self.parallel.map(|parallel| parallel.number))
    }

    /// Whether the two belong to one vehicle. Where a pile gives the number, some give none, or the same again once their
    /// clock is set back: an order of long ago is another driver's, whether it has settled or not.
    pub fn is_beside(&self, other: &Self) -> bool {
        if let (Some(one), Some(two)) = (self.parallel, other.parallel) {
            return one.serial == other.serial && two.serial == self.serial;
        }
        let number = self.parallel_no().and_then(vehicle_no);
        let at_pile = self.parallel.is_none() && other.parallel.is_none();
        let together = self.created_at.0.abs_diff(other.created_at.0) < START_MS;
        at_pile && number.is_some() && number == other.parallel_no() && self.gun != other.gun && together
    }

    /// Whether it is the one its request id leads to: of two orders, that of the lower gun.
    pub fn leads(&self) -> bool {
        self.parallel.is_none_or(|other| self.gun < other.gun)
    }

    /// Whether the pile has said anything about its start, or nobody waits for that any more.
    pub fn is_answered(&self) -> bool {
        let said_yes = self.accepted_at.is_some() || self.charging_at.is_some();
        said_yes || self.state == OrderState::WaitingForPlug || !self.state.is_open()
    }

    /// Its start has failed, or was ended before the pile had said anything, and it has not charged all the same.
    pub fn never_came_about(&self) -> bool {
        let closed = self.state == OrderState::ClosedWithoutRecord && self.accepted_at.is_none();
        (self.failure.is_some() || closed) && self.charging_at.is_none()
    }

    /// Whether nothing that has become of it is a reason to end the charge on the other gun, now or later.
    pub fn is_no_reason_to_end(&self) -> bool {
        self.is_answered() && !self.never_came_about() && self.stop.is_none()
    }

    /// Whether `other`, which belongs to the same vehicle, is a reason to stop this one.
    pub fn ends_with(&self, other: &Self) -> bool {
        if self.stop.is_some() || !self.may_be_stopped() {
            return false;
        }
        let begun = self.accepted_at.is_some() || self.charging_at.is_some();
        other.stop.is_some() || (self.parallel.is_some() && begun && other.never_came_about())
    }
}

/// The number, if it stands for a vehicle: some piles give none, and their drivers have nothing to do with each other.
pub fn vehicle_no(number: [u8; 6]) -> Option<[u8; 6]> {
    (number != NO_NUMBER).then_some(number)
}

/// What a pile without a number sends.
const NO_NUMBER: [u8; 6] = [0; 6];
