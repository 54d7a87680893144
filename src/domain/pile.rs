//! A pile as it introduced itself, and what is known of it now.

use serde::{Deserialize, Serialize};

use super::alarm::{Alarm, Fault};
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

impl Pile {
    /// More than a real pile ever has at once. It bounds the document, of which every event about the pile has a copy;
    /// what would go beyond it is in the fault words.
    pub const MAX_ALARMS: usize = 256;

    pub fn alarms(&self) -> usize {
        self.guns.iter().map(|status| status.alarms.len()).sum()
    }
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
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GunStatus {
    pub gun: Gun,
    pub state: GunState,
    /// Raw fault word of the last 0x13; bit 0 = Bit1 of the document.
    pub faults: u16,
    /// When state or fault word became what they are.
    pub since: WallMs,
    /// What stands, each fault once. Only a 0x13 raises or clears it: a pile that is away, or has just logged in, has the
    /// faults it had.
    pub alarms: Vec<Alarm>,
}

impl GunStatus {
    /// A gun nothing has been heard of.
    pub fn unheard(gun: Gun, now: WallMs) -> Self {
        Self { gun, state: GunState::Offline, faults: 0, since: now, alarms: vec![] }
    }

    /// What a 0x13 with this fault word raises, at most `room` of it, and what it clears. Nothing changes by it yet.
    pub fn changed_alarms(&self, word: u16, room: usize, now: WallMs) -> (Vec<Alarm>, Vec<Alarm>) {
        let cleared: Vec<_> = self.alarms.iter().filter(|alarm| !alarm.fault.is_set_in(word)).copied().collect();
        let stands = |fault: Fault| self.alarms.iter().any(|alarm| alarm.fault == fault);
        let new = Fault::ALL.into_iter().filter(|fault| fault.is_set_in(word) && !stands(*fault));
        let raised = new.take(room + cleared.len()).map(|fault| Alarm { fault, raised_at: now }).collect();
        (raised, cleared)
    }
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
    fn a_fault_word_raises_what_is_new_and_clears_what_is_gone() {
        let stands = |bits: &[u8], at| {
            let alarm = |bit: &u8| Alarm { fault: Fault::from_bit(*bit).expect("named"), raised_at: WallMs(at) };
            bits.iter().map(alarm).collect::<Vec<_>>()
        };
        let unheard = GunStatus::unheard(Gun::new(1).expect("gun"), WallMs(0));
        let gun = GunStatus { alarms: stands(&[0, 2], 1), ..unheard };
        assert_eq!(gun.changed_alarms(0b101, 9, WallMs(5)), (vec![], vec![]));
        assert_eq!(gun.changed_alarms(0b011, 9, WallMs(5)), (stands(&[1], 5), stands(&[2], 1)));
        assert_eq!(gun.changed_alarms(0, 9, WallMs(5)), (vec![], stands(&[0, 2], 1)));
        assert_eq!(gun.changed_alarms(0xE005, 9, WallMs(5)), (vec![], vec![]), "reserved bits raise nothing");
        assert_eq!(gun.changed_alarms(0b1_1101, 1, WallMs(5)), (stands(&[3], 5), vec![]), "no more than there is room");
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
