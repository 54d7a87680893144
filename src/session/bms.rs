//! What a vehicle's BMS, or the charger, says once of a charge: told as it comes, and kept on the order.

use super::Now;
use super::held::Held;
use super::state::Session;
use super::translate::{self, bms_report};
use crate::domain::{EventKind, Serial};
use crate::wire::Frame;

impl Session {
    /// 0x15, 0x17, 0x19, 0x1B, 0x1D, 0x21: each is told once. What says the same as the last of its kind is a repetition.
    pub(super) fn bms(&mut self, now: Now, frame: &Frame) {
        let Some((serial, gun_no, report)) = bms_report(frame) else { return };
        let Some(gun) = self.gun(gun_no) else { return };
        let serial = translate::serial(serial);
        let opened = |held: &&mut Held| held.order.serial == serial && held.unsent.is_none();
        let order = if let Some(held) = self.orders.iter_mut().find(opened) {
            if !held.order.vehicle.get_or_insert_default().take(now.wall, &report) {
                return;
            }
            held.order.updated_at = now.wall;
            held.dirty = true;
            Some(Box::new(held.order.clone()))
        } else if self.vehicles.say(now.wall, (gun, serial), &report) {
            None
        } else {
            return;
        };
        self.event(now, None, EventKind::Bms { gun, serial, report: Box::new(report), order });
    }

    /// The order was in the store. What its vehicle has said meanwhile has been told already.
    pub(super) fn vehicle_found(&mut self, serial: Serial) {
        let Some(said) = self.vehicles.take(serial) else { return };
        let Some(held) = self.orders.iter_mut().find(|held| held.order.serial == serial) else { return };
        let before = held.order.vehicle.take().unwrap_or_default();
        held.order.vehicle = Some(Box::new(before.merged(*said)));
        held.dirty = true;
    }
}
