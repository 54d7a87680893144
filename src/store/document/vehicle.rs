//! What vehicles said, as it is on orders and in the log.

use super::field::{Unreadable, bytes, packed, required, small};
use super::v1;
use crate::domain::WallMs;
use crate::domain::vehicle::{BmsReport, Flag, Handshake, Missed, Parameters, Said, Statistics, StopReasons, Vehicle};

impl From<&Vehicle> for v1::Vehicle {
    fn from(vehicle: &Vehicle) -> Self {
        let Vehicle { handshake, parameters, statistics, error, bms_stop, charger_stop } = vehicle;
        let (handshake, handshake_at_ms) = stored(handshake.as_ref());
        let (parameters, parameters_at_ms) = stored(parameters.as_ref());
        let (statistics, statistics_at_ms) = stored(statistics.as_ref());
        let (error, error_at_ms) = stored(error.as_ref());
        let (bms_stop, bms_stop_at_ms) = stored(bms_stop.as_ref());
        let (charger_stop, charger_stop_at_ms) = stored(charger_stop.as_ref());
        Self {
            handshake,
            handshake_at_ms,
            parameters,
            parameters_at_ms,
            statistics,
            statistics_at_ms,
            error,
            error_at_ms,
            bms_stop,
            bms_stop_at_ms,
            charger_stop,
            charger_stop_at_ms,
        }
    }
}

impl TryFrom<v1::Vehicle> for Vehicle {
    type Error = Unreadable;

    fn try_from(stored: v1::Vehicle) -> Result<Self, Unreadable> {
        let v1::Vehicle {
            handshake,
            handshake_at_ms,
            parameters,
            parameters_at_ms,
            statistics,
            statistics_at_ms,
            error,
            error_at_ms,
            bms_stop,
            bms_stop_at_ms,
            charger_stop,
            charger_stop_at_ms,
        } = stored;
        Ok(Self {
            handshake: said(handshake, handshake_at_ms)?,
            parameters: said(parameters, parameters_at_ms)?,
            statistics: said(statistics, statistics_at_ms)?,
            error: said(error, error_at_ms)?,
            bms_stop: said(bms_stop, bms_stop_at_ms)?,
            charger_stop: said(charger_stop, charger_stop_at_ms)?,
        })
    }
}

impl From<&BmsReport> for v1::bms_reported::Report {
    fn from(report: &BmsReport) -> Self {
        match report {
            BmsReport::Handshake(what) => Self::Handshake(what.into()),
            BmsReport::Parameters(what) => Self::Parameters(what.into()),
            BmsReport::Statistics(what) => Self::Statistics(what.into()),
            BmsReport::Error(what) => Self::Error(what.into()),
            BmsReport::BmsStop(what) => Self::BmsStop(what.into()),
            BmsReport::ChargerStop(what) => Self::ChargerStop(what.into()),
        }
    }
}

impl TryFrom<v1::bms_reported::Report> for BmsReport {
    type Error = Unreadable;

    fn try_from(stored: v1::bms_reported::Report) -> Result<Self, Unreadable> {
        use v1::bms_reported::Report;
        Ok(match stored {
            Report::Handshake(what) => Self::Handshake(what.try_into()?),
            Report::Parameters(what) => Self::Parameters(what.try_into()?),
            Report::Statistics(what) => Self::Statistics(what.try_into()?),
            Report::Error(what) => Self::Error(what.try_into()?),
            Report::BmsStop(what) => Self::BmsStop(what.try_into()?),
            Report::ChargerStop(what) => Self::ChargerStop(what.try_into()?),
        })
    }
}

impl From<&Handshake> for v1::BmsHandshake {
    fn from(what: &Handshake) -> Self {
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
        Self {
            bms_version: packed(bms_version),
            battery_type: u32::from(*battery_type),
            rated_capacity_mah: *rated_capacity_mah,
            rated_voltage_mv: *rated_voltage_mv,
            battery_vendor: battery_vendor.clone(),
            battery_pack: packed(battery_pack),
            production_year: u32::from(*production_year),
            production_month: u32::from(*production_month),
            production_day: u32::from(*production_day),
            charge_cycles: *charge_cycles,
            ownership: u32::from(*ownership),
            vin: vin.clone(),
            software_version: packed(software_version),
        }
    }
}

impl TryFrom<v1::BmsHandshake> for Handshake {
    type Error = Unreadable;

    fn try_from(stored: v1::BmsHandshake) -> Result<Self, Unreadable> {
        let v1::BmsHandshake {
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
        } = stored;
        Ok(Self {
            bms_version: bytes("handshake.bms_version", &bms_version)?,
            battery_type: small("handshake.battery_type", battery_type)?,
            rated_capacity_mah,
            rated_voltage_mv,
            battery_vendor,
            battery_pack: bytes("handshake.battery_pack", &battery_pack)?,
            production_year: small("handshake.production_year", production_year)?,
            production_month: small("handshake.production_month", production_month)?,
            production_day: small("handshake.production_day", production_day)?,
            charge_cycles,
            ownership: small("handshake.ownership", ownership)?,
            vin,
            software_version: bytes("handshake.software_version", &software_version)?,
        })
    }
}

impl From<&Parameters> for v1::BmsParameters {
    fn from(what: &Parameters) -> Self {
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
        } = *what;
        Self {
            max_cell_voltage_mv,
            max_current_ma,
            nominal_energy_wh,
            max_voltage_mv,
            max_celsius: i32::from(max_celsius),
            soc_permille: u32::from(soc_permille),
            voltage_mv,
            pile_max_voltage_mv,
            pile_min_voltage_mv,
            pile_max_current_ma,
            pile_min_current_ma,
        }
    }
}

impl TryFrom<v1::BmsParameters> for Parameters {
    type Error = Unreadable;

    fn try_from(stored: v1::BmsParameters) -> Result<Self, Unreadable> {
        let v1::BmsParameters {
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
        } = stored;
        Ok(Self {
            max_cell_voltage_mv,
            max_current_ma,
            nominal_energy_wh,
            max_voltage_mv,
            max_celsius: celsius("parameters.max_celsius", max_celsius)?,
            soc_permille: small("parameters.soc_permille", soc_permille)?,
            voltage_mv,
            pile_max_voltage_mv,
            pile_min_voltage_mv,
            pile_max_current_ma,
            pile_min_current_ma,
        })
    }
}

impl From<&Statistics> for v1::ChargeEndStatistics {
    fn from(what: &Statistics) -> Self {
        let Statistics {
            soc_percent,
            min_cell_voltage_mv,
            max_cell_voltage_mv,
            min_celsius,
            max_celsius,
            charge_minutes,
            energy_wh,
            charger_no,
        } = *what;
        Self {
            soc_percent: u32::from(soc_percent),
            min_cell_voltage_mv,
            max_cell_voltage_mv,
            min_celsius: i32::from(min_celsius),
            max_celsius: i32::from(max_celsius),
            charge_minutes: u32::from(charge_minutes),
            energy_wh,
            charger_no,
        }
    }
}

impl TryFrom<v1::ChargeEndStatistics> for Statistics {
    type Error = Unreadable;

    fn try_from(stored: v1::ChargeEndStatistics) -> Result<Self, Unreadable> {
        let v1::ChargeEndStatistics {
            soc_percent,
            min_cell_voltage_mv,
            max_cell_voltage_mv,
            min_celsius,
            max_celsius,
            charge_minutes,
            energy_wh,
            charger_no,
        } = stored;
        Ok(Self {
            soc_percent: small("statistics.soc_percent", soc_percent)?,
            min_cell_voltage_mv,
            max_cell_voltage_mv,
            min_celsius: celsius("statistics.min_celsius", min_celsius)?,
            max_celsius: celsius("statistics.max_celsius", max_celsius)?,
            charge_minutes: small("statistics.charge_minutes", charge_minutes)?,
            energy_wh,
            charger_no,
        })
    }
}

impl From<&Missed> for v1::BmsError {
    fn from(what: &Missed) -> Self {
        let Missed { by_bms, by_charger } = what;
        Self { by_bms: flags(by_bms), by_charger: flags(by_charger) }
    }
}

impl TryFrom<v1::BmsError> for Missed {
    type Error = Unreadable;

    fn try_from(stored: v1::BmsError) -> Result<Self, Unreadable> {
        let v1::BmsError { by_bms, by_charger } = stored;
        Ok(Self { by_bms: read_flags(by_bms)?, by_charger: read_flags(by_charger)? })
    }
}

impl From<&StopReasons> for v1::StopReasons {
    fn from(what: &StopReasons) -> Self {
        let StopReasons { causes, faults, errors } = what;
        Self { causes: flags(causes), faults: flags(faults), errors: flags(errors) }
    }
}

impl TryFrom<v1::StopReasons> for StopReasons {
    type Error = Unreadable;

    fn try_from(stored: v1::StopReasons) -> Result<Self, Unreadable> {
        let v1::StopReasons { causes, faults, errors } = stored;
        Ok(Self { causes: read_flags(causes)?, faults: read_flags(faults)?, errors: read_flags(errors)? })
    }
}

pub(super) fn report(stored: Option<v1::bms_reported::Report>) -> Result<BmsReport, Unreadable> {
    // Also what a report of a newer pileway looks like.
    required("bms.report", stored)?.try_into()
}

fn stored<'a, T, S: From<&'a T>>(said: Option<&'a Said<T>>) -> (Option<S>, i64) {
    (said.map(|said| S::from(&said.what)), said.map_or(0, |said| said.at.0))
}

fn said<S, T: TryFrom<S, Error = Unreadable>>(stored: Option<S>, at_ms: i64) -> Result<Option<Said<T>>, Unreadable> {
    stored.map(|stored| Ok(Said { at: WallMs(at_ms), what: stored.try_into()? })).transpose()
}

fn flags(flags: &[Flag]) -> Vec<v1::VehicleFlag> {
    let stored = |Flag { name, value }: &Flag| v1::VehicleFlag { name: name.to_string(), value: u32::from(*value) };
    flags.iter().map(stored).collect()
}

fn read_flags(stored: Vec<v1::VehicleFlag>) -> Result<Vec<Flag>, Unreadable> {
    let read = |v1::VehicleFlag { name, value }| Ok(Flag { name: name.into(), value: small("flag.value", value)? });
    stored.into_iter().map(read).collect()
}

fn celsius(field: &str, value: i32) -> Result<i16, Unreadable> {
    i16::try_from(value).map_err(|_| super::field::bad(field, value))
}
