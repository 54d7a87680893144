//! What a pile shows to somebody in front of it.

use super::pile::Pile;
use crate::domain::Serial;

/// A pile as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// Logged in.
    pub online: bool,
    /// Stays away until it is resumed.
    pub held: bool,
    /// Logged in, and tariff, stored records and first telemetry are through.
    pub ready: bool,
    /// The number of the tariff it has; zero: none.
    pub tariff_no: [u8; 2],
    /// Records that wait for 0x40.
    pub unacked: usize,
    /// Cards that may charge offline.
    pub cards: usize,
    /// 0x52 has put it out of service.
    pub out_of_service: bool,
    /// Every gun, gun 1 first.
    pub guns: Vec<GunView>,
}

/// A gun as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GunView {
    /// Whether a vehicle is plugged in.
    pub plugged: bool,
    /// Bits of 0x13.
    pub faults: u16,
    /// The running charge, as last metered.
    pub charge: Option<ChargeView>,
    /// The meter after the last charge, 0.0001 kWh.
    pub meter: u64,
}

/// A charge as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChargeView {
    /// The order.
    pub serial: Serial,
    /// 0.0001 kWh.
    pub energy: u64,
    /// 0.0001 CNY.
    pub amount: u64,
}

impl Pile {
    /// What it shows now.
    pub fn view(&self) -> View {
        let guns = self.guns.iter().map(|gun| GunView {
            plugged: gun.plugged,
            faults: gun.faults,
            charge: gun.charge().map(|charge| {
                let bill = charge.bill();
                let serial = Serial::from_bytes(charge.order.serial.0);
                ChargeView { serial, energy: bill.total_energy(), amount: bill.total_amount() }
            }),
            meter: gun.meter,
        });
        View {
            online: self.online(),
            held: self.held(),
            ready: self.ready(),
            tariff_no: self.tariff_no.0,
            unacked: self.unacked(),
            cards: self.cards.len(),
            out_of_service: self.out_of_service,
            guns: guns.collect(),
        }
    }
}
