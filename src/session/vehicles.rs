//! What vehicles said of charges whose orders are not here, or not yet.

use crate::domain::vehicle::{BmsReport, Vehicle};
use crate::domain::{Gun, Serial, WallMs};

/// At most one per gun: the latest charge somebody spoke of. An order that begins at the pile is met with its first
/// charging 0x13, and that comes after the vehicle has introduced itself.
#[derive(Default)]
pub struct UnknownVehicles(Vec<UnknownVehicle>);

struct UnknownVehicle {
    gun: Gun,
    serial: Serial,
    vehicle: Box<Vehicle>,
}

impl UnknownVehicles {
    /// False if it is a repetition.
    pub fn say(&mut self, now: WallMs, (gun, serial): (Gun, Serial), report: &BmsReport) -> bool {
        if let Some(known) = self.0.iter_mut().find(|known| known.gun == gun && known.serial == serial) {
            return known.vehicle.take(now, report);
        }
        let mut vehicle = Box::<Vehicle>::default();
        vehicle.take(now, report);
        self.0.retain(|known| known.gun != gun);
        self.0.push(UnknownVehicle { gun, serial, vehicle });
        true
    }

    /// Its order has been met.
    pub fn take(&mut self, serial: Serial) -> Option<Box<Vehicle>> {
        let at = self.0.iter().position(|known| known.serial == serial)?;
        Some(self.0.swap_remove(at).vehicle)
    }

    /// The charge is over, whosever it was. Idle sessions are many: nothing is kept for them.
    pub fn leave(&mut self, gun: Gun) {
        self.0.retain(|known| known.gun != gun);
        if self.0.is_empty() {
            self.0.shrink_to_fit();
        }
    }

    #[cfg(test)]
    pub fn room(&self) -> (usize, usize) {
        (self.0.len(), self.0.capacity())
    }
}
