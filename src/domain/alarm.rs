//! Faults a gun reports, one by one: raised when a bit of 0x13's fault word appears, cleared when it goes.

use super::units::WallMs;

/// A fault that stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Alarm {
    pub fault: Fault,
    /// The first 0x13 that reported it.
    pub raised_at: WallMs,
}

/// The faults 0x13 has a name for, in the order of their bits. Reserved bits raise nothing: they are in the raw word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Fault {
    EmergencyStop,
    NoRectifierModule,
    OutletOverTemp,
    AcSurgeProtection,
    Dc20CommLost,
    Fc08CommLost,
    MeterCommLost,
    CardReaderCommLost,
    Rc10CommLost,
    FanController,
    DcFuse,
    HvContactor,
    DoorOpen,
}

impl Fault {
    pub const ALL: [Self; 13] = [
        Self::EmergencyStop,
        Self::NoRectifierModule,
        Self::OutletOverTemp,
        Self::AcSurgeProtection,
        Self::Dc20CommLost,
        Self::Fc08CommLost,
        Self::MeterCommLost,
        Self::CardReaderCommLost,
        Self::Rc10CommLost,
        Self::FanController,
        Self::DcFuse,
        Self::HvContactor,
        Self::DoorOpen,
    ];

    /// Its bit in the fault word; bit 0 = Bit1 of the document.
    pub fn bit(self) -> u8 {
        self as u8
    }

    pub fn from_bit(bit: u8) -> Option<Self> {
        Self::ALL.get(usize::from(bit)).copied()
    }

    pub fn is_set_in(self, word: u16) -> bool {
        word >> self.bit() & 1 == 1
    }

    /// The same word as in live measurements.
    pub fn name(self) -> &'static str {
        match self {
            Self::EmergencyStop => "emergency_stop",
            Self::NoRectifierModule => "no_rectifier_module",
            Self::OutletOverTemp => "outlet_over_temp",
            Self::AcSurgeProtection => "ac_surge_protection",
            Self::Dc20CommLost => "dc20_comm_lost",
            Self::Fc08CommLost => "fc08_comm_lost",
            Self::MeterCommLost => "meter_comm_lost",
            Self::CardReaderCommLost => "card_reader_comm_lost",
            Self::Rc10CommLost => "rc10_comm_lost",
            Self::FanController => "fan_controller",
            Self::DcFuse => "dc_fuse",
            Self::HvContactor => "hv_contactor",
            Self::DoorOpen => "door_open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_place_in_the_word() {
        for (bit, fault) in (0..).zip(Fault::ALL) {
            assert_eq!((fault.bit(), Fault::from_bit(bit)), (bit, Some(fault)));
            assert!(fault.is_set_in(1 << bit) && !fault.is_set_in(!(1 << bit)));
        }
        assert_eq!(Fault::from_bit(13), None, "reserved");
    }
}
