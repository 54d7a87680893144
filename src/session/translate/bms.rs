//! The frames of a vehicle's BMS that come once: 0x15 to 0x21.

use crate::domain::vehicle::{BmsReport, Flag, Handshake, Missed, Parameters, Statistics, StopReasons};
use crate::wire::{self, BitSpec, Frame};

/// Which charge on which gun it is about, and what it says; `None` if it is another frame.
pub fn bms_report(frame: &Frame) -> Option<(wire::Serial, wire::GunNo, BmsReport)> {
    Some(match frame {
        Frame::BmsHandshake(row) => (row.transaction_serial, row.gun_no, BmsReport::Handshake(handshake(row))),
        Frame::BmsParameters(row) => (row.transaction_serial, row.gun_no, BmsReport::Parameters(parameters(row))),
        Frame::BmsChargeEnd(row) => (row.transaction_serial, row.gun_no, BmsReport::Statistics(statistics(row))),
        Frame::BmsError(row) => (row.transaction_serial, row.gun_no, BmsReport::Error(missed(row))),
        Frame::BmsStop(row) => (row.transaction_serial, row.gun_no, BmsReport::BmsStop(bms_stop(row))),
        Frame::ChargerStop(row) => (row.transaction_serial, row.gun_no, BmsReport::ChargerStop(charger_stop(row))),
        _ => return None,
    })
}

fn handshake(frame: &wire::BmsHandshake) -> Handshake {
    let wire::BmsHandshake {
        transaction_serial: _,
        pile_code: _,
        gun_no: _,
        bms_protocol_version,
        battery_type,
        rated_capacity,
        rated_voltage,
        battery_vendor,
        battery_pack_no,
        production_year,
        production_month,
        production_day,
        charge_cycles,
        ownership,
        reserved: _,
        vin,
        bms_software_version,
    } = frame;
    Handshake {
        bms_version: bms_protocol_version.0,
        battery_type: battery_type.raw(),
        rated_capacity_mah: u32::from(rated_capacity.raw()) * 100,
        rated_voltage_mv: rated_voltage.millivolts(),
        battery_vendor: battery_vendor.text(),
        battery_pack: battery_pack_no.0,
        production_year: 1985 + u16::from(production_year.raw()),
        production_month: *production_month,
        production_day: *production_day,
        charge_cycles: charge_cycles.raw(),
        ownership: ownership.raw(),
        vin: vin.text(),
        software_version: bms_software_version.0,
    }
}

fn parameters(frame: &wire::BmsParameters) -> Parameters {
    let wire::BmsParameters {
        transaction_serial: _,
        pile_code: _,
        gun_no: _,
        max_cell_voltage,
        max_charge_current,
        nominal_energy,
        max_total_voltage,
        max_temp,
        soc,
        battery_voltage,
        pile_max_output_voltage,
        pile_min_output_voltage,
        pile_max_output_current,
        pile_min_output_current,
    } = *frame;
    Parameters {
        max_cell_voltage_mv: max_cell_voltage.millivolts(),
        max_current_ma: max_charge_current.milliamps(),
        nominal_energy_wh: nominal_energy.watt_hours(),
        max_voltage_mv: max_total_voltage.millivolts(),
        max_celsius: max_temp.celsius(),
        soc_permille: soc.raw(),
        voltage_mv: battery_voltage.millivolts(),
        pile_max_voltage_mv: pile_max_output_voltage.millivolts(),
        pile_min_voltage_mv: pile_min_output_voltage.millivolts(),
        pile_max_current_ma: pile_max_output_current.milliamps(),
        pile_min_current_ma: pile_min_output_current.milliamps(),
    }
}

fn statistics(frame: &wire::BmsChargeEnd) -> Statistics {
    let wire::BmsChargeEnd {
        transaction_serial: _,
        pile_code: _,
        gun_no: _,
        stop_soc,
        min_cell_voltage,
        max_cell_voltage,
        min_temp,
        max_temp,
        charge_minutes,
        output_energy,
        charger_no,
    } = *frame;
    Statistics {
        soc_percent: stop_soc.raw(),
        min_cell_voltage_mv: min_cell_voltage.millivolts(),
        max_cell_voltage_mv: max_cell_voltage.millivolts(),
        min_celsius: min_temp.celsius(),
        max_celsius: max_temp.celsius(),
        charge_minutes: charge_minutes.raw(),
        energy_wh: output_energy.watt_hours(),
        charger_no,
    }
}

fn missed(frame: &wire::BmsError) -> Missed {
    let wire::BmsError {
        transaction_serial: _,
        pile_code: _,
        gun_no: _,
        bem_byte1,
        bem_byte2,
        bem_byte3,
        bem_byte4,
        cem_byte1,
        cem_byte2,
        cem_byte3,
        cem_byte4,
    } = *frame;
    let by_bms = [
        flags(wire::BemByte1::MEMBERS, bem_byte1.0),
        flags(wire::BemByte2::MEMBERS, bem_byte2.0),
        flags(wire::BemByte3::MEMBERS, bem_byte3.0),
        flags(wire::BemByte4::MEMBERS, bem_byte4.0),
    ];
    let by_charger = [
        flags(wire::CemByte1::MEMBERS, cem_byte1.0),
        flags(wire::CemByte2::MEMBERS, cem_byte2.0),
        flags(wire::CemByte3::MEMBERS, cem_byte3.0),
        flags(wire::CemByte4::MEMBERS, cem_byte4.0),
    ];
    Missed { by_bms: by_bms.concat(), by_charger: by_charger.concat() }
}

fn bms_stop(frame: &wire::BmsStop) -> StopReasons {
    let wire::BmsStop { transaction_serial: _, pile_code: _, gun_no: _, stop_cause, stop_faults, stop_errors } = *frame;
    StopReasons {
        causes: flags(wire::BmsStopCause::MEMBERS, stop_cause.0),
        faults: flags(wire::BmsStopFaults::MEMBERS, stop_faults.0),
        errors: flags(wire::BmsStopErrors::MEMBERS, stop_errors.0),
    }
}

fn charger_stop(frame: &wire::ChargerStop) -> StopReasons {
    let wire::ChargerStop { transaction_serial: _, pile_code: _, gun_no: _, stop_cause, stop_faults, stop_errors } =
        *frame;
    StopReasons {
        causes: flags(wire::ChargerStopCause::MEMBERS, stop_cause.0),
        faults: flags(wire::ChargerStopFaults::MEMBERS, stop_faults.0),
        errors: flags(wire::ChargerStopErrors::MEMBERS, stop_errors.0),
    }
}

/// What is not normal, lowest bits first.
fn flags(members: &'static [BitSpec], raw: impl Into<u16>) -> Vec<Flag> {
    let raw = raw.into();
    let set = members.iter().filter(|member| !member.is_reserved() && member.of(raw) != 0);
    // No member is wider than six bits.
    set.map(|member| Flag { name: member.name.into(), value: member.of(raw) as u8 }).collect()
}
