//! What a vehicle's battery management (BMS) and the charger say of a DC charge once: at its beginning, when something
//! goes wrong, and at its end. Never acknowledged, never repeated on purpose; AC piles have none of it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::units::WallMs;

/// The latest of each kind, as an order keeps it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Vehicle {
    pub handshake: Option<Said<Handshake>>,
    pub parameters: Option<Said<Parameters>>,
    pub statistics: Option<Said<Statistics>>,
    pub error: Option<Said<Missed>>,
    pub bms_stop: Option<Said<StopReasons>>,
    pub charger_stop: Option<Said<StopReasons>>,
}

/// What was said, and when the frame came.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Said<T> {
    pub at: WallMs,
    pub what: T,
}

/// One frame of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BmsReport {
    /// 0x15
    Handshake(Handshake),
    /// 0x17
    Parameters(Parameters),
    /// 0x19
    Statistics(Statistics),
    /// 0x1B
    Error(Missed),
    /// 0x1D
    BmsStop(StopReasons),
    /// 0x21
    ChargerStop(StopReasons),
}

/// 0x15: who the vehicle is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Handshake {
    /// As on the wire: V1.1 is 01 01 00 (A40).
    pub bms_version: [u8; 3],
    /// Raw: 0x01 lead-acid ... 0x08 lithium titanate, 0xFF other.
    pub battery_type: u8,
    pub rated_capacity_mah: u32,
    pub rated_voltage_mv: u32,
    pub battery_vendor: String,
    /// The vendor's own number.
    pub battery_pack: [u8; 4],
    pub production_year: u16,
    pub production_month: u8,
    pub production_day: u8,
    pub charge_cycles: u32,
    /// Raw: 0 leased, 1 owned by the vehicle.
    pub ownership: u8,
    /// In reading order; empty if the vehicle told none.
    pub vin: String,
    /// As on the wire: serial number, day, month, year high byte first (A40).
    pub software_version: [u8; 8],
}

/// 0x17: what the battery takes, and what the pile can give.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Parameters {
    pub max_cell_voltage_mv: u32,
    pub max_current_ma: u32,
    pub nominal_energy_wh: u32,
    pub max_voltage_mv: u32,
    pub max_celsius: i16,
    /// In 0.1 %.
    pub soc_permille: u16,
    pub voltage_mv: u32,
    pub pile_max_voltage_mv: u32,
    pub pile_min_voltage_mv: u32,
    pub pile_max_current_ma: u32,
    pub pile_min_current_ma: u32,
}

/// 0x19: how the charge went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Statistics {
    pub soc_percent: u8,
    pub min_cell_voltage_mv: u32,
    pub max_cell_voltage_mv: u32,
    pub min_celsius: i16,
    pub max_celsius: i16,
    pub charge_minutes: u16,
    pub energy_wh: u32,
    pub charger_no: u32,
}

/// 0x1B: which messages of the other side were missed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Missed {
    /// By the BMS, from the charger.
    pub by_bms: Vec<Flag>,
    /// By the charger, from the BMS.
    pub by_charger: Vec<Flag>,
}

/// 0x1D, 0x21: why one side ended the charge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StopReasons {
    pub causes: Vec<Flag>,
    pub faults: Vec<Flag>,
    pub errors: Vec<Flag>,
}

/// A member of a bit field that is not "normal".
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Flag {
    /// As the frame's table has it.
    pub name: Cow<'static, str>,
    /// 1 it is so, 2 the state cannot be trusted, 3 not defined; of `bms_other` and `charger_other`, six raw bits.
    pub value: u8,
}

impl Vehicle {
    /// False if it is word for word what is known: a frame that came twice, which is nothing new.
    pub fn take(&mut self, at: WallMs, report: &BmsReport) -> bool {
        match report {
            BmsReport::Handshake(what) => said(&mut self.handshake, at, what),
            BmsReport::Parameters(what) => said(&mut self.parameters, at, what),
            BmsReport::Statistics(what) => said(&mut self.statistics, at, what),
            BmsReport::Error(what) => said(&mut self.error, at, what),
            BmsReport::BmsStop(what) => said(&mut self.bms_stop, at, what),
            BmsReport::ChargerStop(what) => said(&mut self.charger_stop, at, what),
        }
    }

    /// What is known of one charge from two sides: of each kind, what came later.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        Self {
            handshake: later(self.handshake, other.handshake),
            parameters: later(self.parameters, other.parameters),
            statistics: later(self.statistics, other.statistics),
            error: later(self.error, other.error),
            bms_stop: later(self.bms_stop, other.bms_stop),
            charger_stop: later(self.charger_stop, other.charger_stop),
        }
    }
}

fn said<T: Clone + PartialEq>(known: &mut Option<Said<T>>, at: WallMs, what: &T) -> bool {
    let new = known.as_ref().is_none_or(|known| known.what != *what);
    if new {
        *known = Some(Said { at, what: what.clone() });
    }
    new
}

fn later<T>(one: Option<Said<T>>, other: Option<Said<T>>) -> Option<Said<T>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.at > one.at { other } else { one }),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed(value: u8) -> BmsReport {
        let by_bms = vec![Flag { name: "charger_ready_timeout".into(), value }];
        BmsReport::Error(Missed { by_bms, by_charger: vec![] })
    }

    #[test]
    fn what_is_said_again_in_the_same_words_is_nothing_new() {
        let mut vehicle = Vehicle::default();
        assert!(vehicle.take(WallMs(1), &missed(1)));
        assert!(!vehicle.take(WallMs(2), &missed(1)));
        assert_eq!(vehicle.error.as_ref().expect("said").at, WallMs(1));
        assert!(vehicle.take(WallMs(3), &missed(2)), "another error");
        assert_eq!(vehicle.error.as_ref().expect("said").at, WallMs(3));
    }

    #[test]
    fn of_two_sides_the_later_word_counts() {
        let of = |at, report: &BmsReport| {
            let mut vehicle = Vehicle::default();
            assert!(vehicle.take(WallMs(at), report));
            vehicle
        };
        let (early, late) = (of(1, &missed(1)), of(2, &missed(2)));
        assert_eq!(early.clone().merged(late.clone()), late);
        assert_eq!(late.clone().merged(early), late);
        let reasons = StopReasons { causes: vec![], faults: vec![], errors: vec![] };
        let both = late.clone().merged(of(1, &BmsReport::BmsStop(reasons)));
        assert!(both.error == late.error && both.bms_stop.is_some());
    }
}
