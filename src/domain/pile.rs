//! A pile as it introduced itself, and what is known of it now.

use serde::{Deserialize, Serialize};

use super::ids::{Fence, Gun, PileCode};
use super::units::WallMs;

/// The presence document of a pile: written on change, never per frame, nor for a login that changes nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pile {
    pub code: PileCode,
    pub identity: Identity,
    pub presence: Presence,
    pub presence_since: WallMs,
    /// The last valid frame before the last write of this document; fresher while a session is live.
    pub last_seen: WallMs,
    pub first_seen: WallMs,
    /// Address of the connection of the last login; stored, its port may be that of an earlier one from the same host.
    pub address: String,
    /// One per gun, in order, from gun 1.
    pub guns: Vec<GunStatus>,
    pub tariff: TariffOnPile,
}

/// What 0x01 says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// Raw: 0 DC, 1 AC; others occur.
    pub pile_type: u8,
    pub gun_count: u8,
    /// Version × 10: 16 = V1.6.
    pub protocol_version: u8,
    pub software_version: String,
    /// Raw: 0 SIM, 1 LAN, 2 WAN, 3 other.
    pub network_type: u8,
    /// 20 hex digits; all zero if the pile has none.
    pub iccid: String,
    /// Raw: 0 China Mobile, 2 China Telecom, 3 China Unicom, 4 other.
    pub operator: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Presence {
    Online,
    /// Silent for 40 s on an open connection, or gone without coming back within 40 s.
    Offline,
}

impl Presence {
    pub fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
        }
    }
}

/// A live session as its node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionSeen {
    /// What people call the node that holds it.
    pub node: String,
    pub fence: Fence,
    pub connected_at: WallMs,
    /// The last valid frame on the connection.
    pub last_seen: WallMs,
    /// Where the pile calls from.
    pub address: String,
    /// Valid frames received on the connection.
    pub frames: u64,
    /// Of these, how many had their CRC high byte first.
    pub swapped_crc_frames: u64,
    pub refused_frames: u64,
}

/// A gun's state, stored on change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GunStatus {
    pub gun: Gun,
    pub state: GunState,
    /// Raw fault word of the last 0x13; bit 0 = Bit1 of the document.
    pub faults: u16,
    pub since: WallMs,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GunState {
    /// The pile is offline, or calls this gun offline, or has not reported it yet.
    Offline,
    Idle,
    Plugged,
    /// An order waits for the pile or the plug.
    Starting,
    Charging,
    /// The charge has ended; the gun is still plugged in or its record is due.
    Finished,
    Fault,
    OutOfService,
}

impl GunState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Idle => "idle",
            Self::Plugged => "plugged",
            Self::Starting => "starting",
            Self::Charging => "charging",
            Self::Finished => "finished",
            Self::Fault => "fault",
            Self::OutOfService => "out_of_service",
        }
    }
}

/// Which tariff the pile holds. 0x0A has no answer: what confirms it is the number in a later 0x05.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TariffOnPile {
    /// Fingerprint of the tariff last given to the pile; 0 = none yet.
    pub fingerprint: u64,
    /// The number it was given under. Allocated by us: differs from what the pile reported before, and per tariff.
    pub number: u16,
    /// The pile has reported this number since.
    pub confirmed: bool,
}

impl TariffOnPile {
    /// A pile may be told "same" only when it names a number under which we gave it exactly this tariff.
    pub fn is_current(&self, fingerprint: u64, reported: u16) -> bool {
        reported != 0 && self.fingerprint == fingerprint && self.number == reported
    }

    /// The number under which to give `fingerprint` to a pile that last reported `reported`.
    #[must_use]
    pub fn allocate(&self, fingerprint: u64, reported: u16) -> Self {
        if self.fingerprint == fingerprint && self.number != 0 {
            return *self;
        }
        let taken = |n: u16| n == 0 || n == self.number || n == reported;
        let mut number = self.number.max(reported).wrapping_add(1);
        while taken(number) {
            number = number.wrapping_add(1);
        }
        Self { fingerprint, number, confirmed: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_never_reused_for_another_tariff_nor_for_what_the_pile_reported() {
        let first = TariffOnPile::default().allocate(7, 1);
        assert_eq!(first.number, 2);
        assert_eq!(first.allocate(7, 1), first, "the same tariff keeps its number while the pile repeats 0x09");
        let second = first.allocate(8, 3);
        assert_eq!(second.number, 4);
        assert_ne!(TariffOnPile { number: u16::MAX, ..first }.allocate(9, 1).number, 0);
    }

    #[test]
    fn same_is_only_said_of_what_we_gave() {
        let given = TariffOnPile { fingerprint: 7, number: 2, confirmed: false };
        assert!(given.is_current(7, 2));
        assert!(!given.is_current(8, 2));
        assert!(!given.is_current(7, 3));
        assert!(!TariffOnPile::default().is_current(0, 0), "first contact always differs");
    }
}
