//! Live measurements: conflatable, not durable. Integers with the unit in the name; `None` where 0 means "no value".

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::ids::{Gun, PileCode, Serial};
use super::units::{Amount, Energy, WallMs};

/// One measurement of one gun, and when it arrived.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Telemetry {
    pub pile: PileCode,
    pub gun: Gun,
    /// The running order, if the frame names one.
    pub serial: Option<Serial>,
    pub at: WallMs,
    pub measured: Measured,
}

/// By the frame it came in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measured {
    /// 0x13
    Live(Live),
    /// 0x23
    Demand(Demand),
    /// 0x25
    Battery(Battery),
    /// 0x61
    GroundLock(GroundLock),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Live,
    Demand,
    Battery,
    GroundLock,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Live, Self::Demand, Self::Battery, Self::GroundLock];
}

impl Measured {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Live(_) => Kind::Live,
            Self::Demand(_) => Kind::Demand,
            Self::Battery(_) => Kind::Battery,
            Self::GroundLock(_) => Kind::GroundLock,
        }
    }
}

/// 0x13: every 15 s while charging, every 5 min when idle, at once on a change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Live {
    pub status: Status,
    pub gun_returned: Option<bool>,
    pub gun_plugged: bool,
    pub voltage_mv: u32,
    pub current_ma: u32,
    pub cable_celsius: Option<i16>,
    pub soc_percent: Option<u8>,
    pub battery_max_celsius: Option<i16>,
    pub charge_minutes: u16,
    pub remaining_minutes: Option<u16>,
    pub energy: Energy,
    pub loss_energy: Energy,
    pub amount: Amount,
    /// Bit 0 = Bit1 of the document.
    pub fault_bits: u16,
    /// Names of the set bits.
    pub faults: Vec<Cow<'static, str>>,
}

impl Live {
    /// Output power in watts: voltage × current.
    pub fn power_w(&self) -> u32 {
        (u64::from(self.voltage_mv) * u64::from(self.current_ma) / 1_000_000) as u32
    }
}

/// What 0x13 calls the gun.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Offline,
    Fault,
    Idle,
    Charging,
    Unknown(u8),
}

/// 0x23: what the vehicle demands and the pile puts out; every 15 s while DC charging.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Demand {
    pub voltage_demand_mv: u32,
    pub current_demand_ma: u32,
    /// Raw: 1 constant voltage, 2 constant current.
    pub charge_mode: u8,
    pub voltage_measured_mv: u32,
    pub current_measured_ma: u32,
    pub max_cell_voltage_mv: u32,
    pub max_cell_group: u8,
    pub soc_percent: u8,
    pub remaining_minutes: u16,
    pub output_voltage_mv: u32,
    pub output_current_ma: u32,
    pub charge_minutes: u16,
}

/// 0x25: the battery's extremes and warnings; every 15 s while DC charging.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Battery {
    pub max_cell_voltage_no: u16,
    pub max_celsius: i16,
    pub max_celsius_point_no: u16,
    pub min_celsius: i16,
    pub min_celsius_point_no: u16,
    /// Names of the warnings that are not "normal".
    pub warnings: Vec<Cow<'static, str>>,
    pub charging_allowed: bool,
}

/// 0x61: the parking space's ground lock; every 5 min and at once on a change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroundLock {
    /// Raw: 0x00 not in position, 0x55 raised, 0xFF lowered.
    pub lock_state: u8,
    /// Raw: 0x00 no vehicle, 0xFF vehicle parked.
    pub space_state: u8,
    pub battery_percent: u8,
    /// Raw: 0x00 no alarm, 0xFF arm damaged, 0x55 arm movement abnormal.
    pub alarm: u8,
}
