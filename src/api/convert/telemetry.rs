//! Measurements.

use super::{amount, coded, energy_mwh, integer, small, timestamp};
use crate::api::pb;
use crate::domain::telemetry::{Battery, Demand, GroundLock, Kind, Live, Measured, Status, Telemetry};
use crate::hub::{Gap, GapReason, Told, Update};

pub fn telemetry(telemetry: &Telemetry) -> pb::Telemetry {
    let Telemetry { pile, gun, serial, at, measured } = telemetry;
    pb::Telemetry {
        pile: pile.to_string(),
        gun: i32::from(gun.number()),
        serial: serial.map(|serial| serial.to_string()).unwrap_or_default(),
        received_at: Some(timestamp(*at)),
        measured: Some(match measured {
            Measured::Live(data) => pb::telemetry::Measured::Live(live(data)),
            Measured::Demand(data) => pb::telemetry::Measured::Demand(demand(data)),
            Measured::Battery(data) => pb::telemetry::Measured::Battery(battery(data)),
            Measured::GroundLock(data) => pb::telemetry::Measured::GroundLock(ground_lock(data)),
        }),
    }
}

pub fn told(told: &Told) -> pb::WatchTelemetryResponse {
    match told {
        Told::Update(Update { telemetry: measured, skipped, snapshot }) => pb::WatchTelemetryResponse {
            telemetry: Some(telemetry(measured)),
            skipped: integer(*skipped),
            snapshot: *snapshot,
            gap: None,
        },
        Told::Gap(Gap { node, reason }) => {
            let reason = match reason {
                GapReason::Unreachable => pb::TelemetryGapReason::Unreachable,
                GapReason::Left => pb::TelemetryGapReason::Left,
                GapReason::Joined => pb::TelemetryGapReason::Joined,
            };
            let gap = pb::TelemetryGap { node: node.clone(), reason: reason.into() };
            pb::WatchTelemetryResponse { gap: Some(gap), ..Default::default() }
        }
    }
}

/// `None`: unspecified, or a kind this version does not know.
pub fn to_kind(kind: i32) -> Option<Kind> {
    match pb::TelemetryKind::try_from(kind).ok()? {
        pb::TelemetryKind::Unspecified => None,
        pb::TelemetryKind::Live => Some(Kind::Live),
        pb::TelemetryKind::Demand => Some(Kind::Demand),
        pb::TelemetryKind::Battery => Some(Kind::Battery),
        pb::TelemetryKind::GroundLock => Some(Kind::GroundLock),
    }
}

fn live(data: &Live) -> pb::LiveData {
    let power_w = data.power_w();
    let Live {
        status: state,
        gun_returned,
        gun_plugged,
        voltage_mv,
        current_ma,
        cable_celsius,
        soc_percent,
        battery_max_celsius,
        charge_minutes,
        remaining_minutes,
        energy,
        loss_energy,
        amount: so_far,
        fault_bits,
        faults,
    } = data;
    pb::LiveData {
        status: Some(coded(status(*state), STATUSES)),
        gun_returned: *gun_returned,
        gun_plugged: *gun_plugged,
        voltage_mv: small(*voltage_mv),
        current_ma: small(*current_ma),
        power_w: small(power_w),
        cable_celsius: cable_celsius.map(i32::from),
        soc_percent: soc_percent.map(i32::from),
        battery_max_celsius: battery_max_celsius.map(i32::from),
        charge_minutes: i32::from(*charge_minutes),
        remaining_minutes: remaining_minutes.map(i32::from),
        energy_mwh: energy_mwh(*energy),
        loss_energy_mwh: energy_mwh(*loss_energy),
        amount: Some(amount(*so_far)),
        fault_bits: i32::from(*fault_bits),
        faults: faults.iter().map(ToString::to_string).collect(),
    }
}

fn demand(data: &Demand) -> pb::DemandData {
    let Demand {
        voltage_demand_mv,
        current_demand_ma,
        charge_mode,
        voltage_measured_mv,
        current_measured_ma,
        max_cell_voltage_mv,
        max_cell_group,
        soc_percent,
        remaining_minutes,
        output_voltage_mv,
        output_current_ma,
        charge_minutes,
    } = data;
    pb::DemandData {
        voltage_demand_mv: small(*voltage_demand_mv),
        current_demand_ma: small(*current_demand_ma),
        charge_mode: Some(coded(*charge_mode, CHARGE_MODES)),
        voltage_measured_mv: small(*voltage_measured_mv),
        current_measured_ma: small(*current_measured_ma),
        max_cell_voltage_mv: small(*max_cell_voltage_mv),
        max_cell_group: i32::from(*max_cell_group),
        soc_percent: i32::from(*soc_percent),
        remaining_minutes: i32::from(*remaining_minutes),
        output_voltage_mv: small(*output_voltage_mv),
        output_current_ma: small(*output_current_ma),
        charge_minutes: i32::from(*charge_minutes),
    }
}

fn battery(data: &Battery) -> pb::BatteryData {
    let Battery {
        max_cell_voltage_no,
        max_celsius,
        max_celsius_point_no,
        min_celsius,
        min_celsius_point_no,
        warnings,
        charging_allowed,
    } = data;
    pb::BatteryData {
        max_cell_voltage_number: i32::from(*max_cell_voltage_no),
        max_celsius: i32::from(*max_celsius),
        max_celsius_point_number: i32::from(*max_celsius_point_no),
        min_celsius: i32::from(*min_celsius),
        min_celsius_point_number: i32::from(*min_celsius_point_no),
        warnings: warnings.iter().map(ToString::to_string).collect(),
        charging_allowed: *charging_allowed,
    }
}

fn ground_lock(data: &GroundLock) -> pb::GroundLockData {
    let GroundLock { lock_state, space_state, battery_percent, alarm } = data;
    pb::GroundLockData {
        lock_state: Some(coded(*lock_state, LOCK_STATES)),
        space_state: Some(coded(*space_state, SPACE_STATES)),
        battery_percent: i32::from(*battery_percent),
        alarm: Some(coded(*alarm, LOCK_ALARMS)),
    }
}

fn status(status: Status) -> u8 {
    match status {
        Status::Offline => 0,
        Status::Fault => 1,
        Status::Idle => 2,
        Status::Charging => 3,
        Status::Unknown(code) => code,
    }
}

/// 0x13 `status`.
const STATUSES: &[(u8, &str)] = &[(0x00, "offline"), (0x01, "fault"), (0x02, "idle"), (0x03, "charging")];
/// 0x23 `charge_mode`.
pub(super) const CHARGE_MODES: &[(u8, &str)] = &[(0x01, "constant voltage"), (0x02, "constant current")];
/// 0x61 `lock_state`.
const LOCK_STATES: &[(u8, &str)] = &[(0x00, "not in position"), (0x55, "raised"), (0xFF, "lowered")];
/// 0x61 `space_state`.
const SPACE_STATES: &[(u8, &str)] = &[(0x00, "no vehicle"), (0xFF, "vehicle parked")];
/// 0x61 `alarm`.
const LOCK_ALARMS: &[(u8, &str)] = &[(0x00, "no alarm"), (0xFF, "arm damaged"), (0x55, "arm movement abnormal")];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Amount, Energy, Gun, WallMs};

    #[test]
    fn no_value_is_absent_and_zero_is_zero() {
        let data = Live {
            status: Status::Unknown(9),
            gun_returned: None,
            gun_plugged: true,
            voltage_mv: 214_300,
            current_ma: 31_800,
            cable_celsius: Some(0),
            soc_percent: None,
            battery_max_celsius: None,
            charge_minutes: 40,
            remaining_minutes: None,
            energy: Energy(46_223),
            loss_energy: Energy(46_223),
            amount: Amount(55_468),
            fault_bits: 1,
            faults: vec!["emergency_stop".into()],
        };
        let told = telemetry(&Telemetry {
            pile: "32010600019236".parse().expect("code"),
            gun: Gun::new(1).expect("gun"),
            serial: None,
            at: WallMs(0),
            measured: Measured::Live(data),
        });
        assert_eq!(told.serial, "");
        let Some(pb::telemetry::Measured::Live(live)) = told.measured else { panic!("{told:?}") };
        assert_eq!(live.status, Some(pb::NamedCode { code: 9, name: String::new() }));
        assert_eq!((live.cable_celsius, live.soc_percent), (Some(0), None));
        assert_eq!((live.power_w, live.energy_mwh), (6814, 4_622_300));
        assert_eq!(live.faults, ["emergency_stop"]);
    }

    #[test]
    fn kinds_are_read_back() {
        assert_eq!([1, 2, 3, 4].map(to_kind), Kind::ALL.map(Some));
        assert_eq!([0, 5, -1].map(to_kind), [None; 3]);
    }
}
