//! What vehicles and chargers say once of a charge.

use super::{coded, small, timestamp};
use crate::api::pb::{self, bms_reported::Report};
use crate::domain::ids::hex;
use crate::domain::vehicle::{BmsReport, Flag, Handshake, Missed, Parameters, Said, Statistics, StopReasons, Vehicle};
use crate::domain::{Gun, PileCode, Serial};

pub fn vehicle(vehicle: Vehicle) -> pb::Vehicle {
    let Vehicle { handshake: hello, parameters: limits, statistics: end, error, bms_stop, charger_stop } = vehicle;
    let (handshake, handshake_at) = said(hello, handshake);
    let (parameters, parameters_at) = said(limits, parameters);
    let (statistics, statistics_at) = said(end, statistics);
    let (error, error_at) = said(error, missed);
    let (bms_stop, bms_stop_at) = said(bms_stop, reasons);
    let (charger_stop, charger_stop_at) = said(charger_stop, reasons);
    pb::Vehicle {
        handshake,
        handshake_at,
        parameters,
        parameters_at,
        statistics,
        statistics_at,
        error,
        error_at,
        bms_stop,
        bms_stop_at,
        charger_stop,
        charger_stop_at,
    }
}

/// What was said, of which charge.
pub fn reported(pile: PileCode, gun: Gun, serial: Serial, report: BmsReport) -> pb::BmsReported {
    pb::BmsReported {
        pile: pile.to_string(),
        gun: i32::from(gun.number()),
        serial: serial.to_string(),
        report: Some(match report {
            BmsReport::Handshake(what) => Report::Handshake(handshake(what)),
            BmsReport::Parameters(what) => Report::Parameters(parameters(what)),
            BmsReport::Statistics(what) => Report::Statistics(statistics(what)),
            BmsReport::Error(what) => Report::Error(missed(what)),
            BmsReport::BmsStop(what) => Report::BmsStop(reasons(what)),
            BmsReport::ChargerStop(what) => Report::ChargerStop(reasons(what)),
        }),
    }
}

fn said<T, P>(said: Option<Said<T>>, told: impl FnOnce(T) -> P) -> (Option<P>, Option<prost_types::Timestamp>) {
    said.map(|Said { at, what }| (told(what), timestamp(at))).unzip()
}

fn handshake(what: Handshake) -> pb::BmsHandshake {
    let Handshake {
        bms_version,
        battery_type,
        rated_capacity_mah,
        rated_voltage_mv,
        battery_vendor,
        battery_pack,
        production_year,
        production_month,
        production_day,
        charge_cycles,
        ownership,
        vin,
        software_version,
    } = what;
    pb::BmsHandshake {
        bms_version: hex(&bms_version),
        battery_type: Some(coded(battery_type, BATTERY_TYPES)),
        rated_capacity_mah: small(rated_capacity_mah),
        rated_voltage_mv: small(rated_voltage_mv),
        battery_vendor,
        battery_pack: hex(&battery_pack),
        production_year: i32::from(production_year),
        production_month: i32::from(production_month),
        production_day: i32::from(production_day),
        charge_cycles: small(charge_cycles),
        ownership: Some(coded(ownership, OWNERSHIPS)),
        vin,
        software_version: hex(&software_version),
    }
}

fn parameters(what: Parameters) -> pb::BmsParameters {
    let Parameters {
        max_cell_voltage_mv,
        max_current_ma,
        nominal_energy_wh,
        max_voltage_mv,
        max_celsius,
        soc_permille,
        voltage_mv,
        pile_max_voltage_mv,
        pile_min_voltage_mv,
        pile_max_current_ma,
        pile_min_current_ma,
    } = what;
    pb::BmsParameters {
        max_cell_voltage_mv: small(max_cell_voltage_mv),
        max_current_ma: small(max_current_ma),
        nominal_energy_mwh: i64::from(nominal_energy_wh) * 1000,
        max_voltage_mv: small(max_voltage_mv),
        max_celsius: i32::from(max_celsius),
        soc_permille: i32::from(soc_permille),
        voltage_mv: small(voltage_mv),
        pile_max_voltage_mv: small(pile_max_voltage_mv),
        pile_min_voltage_mv: small(pile_min_voltage_mv),
        pile_max_current_ma: small(pile_max_current_ma),
        pile_min_current_ma: small(pile_min_current_ma),
    }
}

fn statistics(what: Statistics) -> pb::ChargeEndStatistics {
    let Statistics {
        soc_percent,
        min_cell_voltage_mv,
        max_cell_voltage_mv,
        min_celsius,
        max_celsius,
        charge_minutes,
        energy_wh,
        charger_no,
    } = what;
    pb::ChargeEndStatistics {
        soc_percent: i32::from(soc_percent),
        min_cell_voltage_mv: small(min_cell_voltage_mv),
        max_cell_voltage_mv: small(max_cell_voltage_mv),
        min_celsius: i32::from(min_celsius),
        max_celsius: i32::from(max_celsius),
        charge_minutes: i32::from(charge_minutes),
        energy_mwh: i64::from(energy_wh) * 1000,
        charger_number: i64::from(charger_no),
    }
}

fn missed(what: Missed) -> pb::BmsError {
    let Missed { by_bms, by_charger } = what;
    pb::BmsError { missed_by_bms: flags(by_bms), missed_by_charger: flags(by_charger) }
}

fn reasons(what: StopReasons) -> pb::ChargeStopReasons {
    let StopReasons { causes, faults, errors } = what;
    pb::ChargeStopReasons { causes: flags(causes), faults: flags(faults), errors: flags(errors) }
}

fn flags(flags: Vec<Flag>) -> Vec<pb::VehicleFlag> {
    let told = |Flag { name, value }| {
        let state = match value {
            _ if NUMBERS.contains(&&*name) => pb::VehicleFlagState::Unspecified,
            1 => pb::VehicleFlagState::Set,
            2 => pb::VehicleFlagState::Untrusted,
            _ => pb::VehicleFlagState::Undefined,
        };
        pb::VehicleFlag { name: name.into_owned(), state: state.into(), value: i32::from(value) }
    };
    flags.into_iter().map(told).collect()
}

/// Members of 0x1B without named values.
const NUMBERS: [&str; 2] = ["bms_other", "charger_other"];
/// 0x15 `battery_type`.
const BATTERY_TYPES: &[(u8, &str)] = &[
    (0x01, "lead-acid"),
    (0x02, "nickel-metal hydride"),
    (0x03, "lithium iron phosphate"),
    (0x04, "lithium manganese oxide"),
    (0x05, "lithium cobalt oxide"),
    (0x06, "ternary (NMC/NCA)"),
    (0x07, "lithium polymer"),
    (0x08, "lithium titanate"),
    (0xFF, "other"),
];
/// 0x15 `ownership`.
const OWNERSHIPS: &[(u8, &str)] = &[(0x00, "leased"), (0x01, "owned by the vehicle")];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::WallMs;

    #[test]
    fn a_flag_is_told_with_what_it_means() {
        let flag = |name: &'static str, value| Flag { name: name.into(), value };
        let by_bms = vec![flag("charger_ready_timeout", 1), flag("bms_other", 1), flag("bms_other", 60)];
        let by_charger = vec![flag("brm_timeout", 2), flag("bcl_timeout", 3)];
        let error = Some(Said { at: WallMs(5), what: Missed { by_bms, by_charger } });
        let told = vehicle(Vehicle { error, ..Vehicle::default() });
        assert_eq!((told.error_at, told.handshake_at), (Some(timestamp(WallMs(5))), None));
        let pb::BmsError { missed_by_bms, missed_by_charger } = told.error.expect("told");
        let states = |flags: &[pb::VehicleFlag]| flags.iter().map(|flag| (flag.state, flag.value)).collect::<Vec<_>>();
        assert_eq!(states(&missed_by_bms), [(1, 1), (0, 1), (0, 60)]);
        assert_eq!(states(&missed_by_charger), [(2, 2), (3, 3)]);
    }

    #[test]
    fn energy_is_told_in_the_same_unit_everywhere() {
        let what = Statistics {
            soc_percent: 80,
            min_cell_voltage_mv: 3_910,
            max_cell_voltage_mv: 3_930,
            min_celsius: -3,
            max_celsius: 31,
            charge_minutes: 40,
            energy_wh: 23_400,
            charger_no: u32::MAX,
        };
        let told = statistics(what);
        assert_eq!((told.energy_mwh, told.charger_number, told.min_celsius), (23_400_000, 4_294_967_295, -3));
    }
}
