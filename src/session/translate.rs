//! The one place where wire and domain meet.
//!
//! Every conversion destructures its frame without `..`, so that a new field stops the build where it must be handled.

mod bms;

use std::borrow::Cow;

use jiff::civil::DateTime;

use crate::domain::order::Metered;
use crate::domain::pile::Identity;
use crate::domain::record::RecordedPeriod;
use crate::domain::telemetry::{Battery, Demand, GroundLock, Live, Measured, Status};
use crate::domain::{self, CommandError, Gun, Period, PileCode, Record, Serial, Tariff, Telemetry, WallMs};
use crate::wire;

pub use bms::bms_report;

/// The pile a frame names, if that is a code anybody can use.
pub fn pile(code: wire::PileCode) -> Option<PileCode> {
    PileCode::from_bcd(code.0).ok()
}

pub fn wire_pile(pile: PileCode) -> wire::PileCode {
    wire::PileCode(pile.bcd())
}

/// The gun a frame names on a pile with `guns` guns; gun 0 is none.
pub fn gun(number: wire::GunNo, guns: u8) -> Option<Gun> {
    Gun::new(number.number(guns)).ok()
}

pub fn wire_gun(gun: Gun) -> wire::GunNo {
    wire::GunNo::from_number(gun.number())
}

pub fn serial(serial: wire::Serial) -> Serial {
    Serial::from_bytes(serial.0)
}

pub fn wire_serial(serial: Serial) -> wire::Serial {
    wire::Serial(serial.bytes())
}

/// The pile's wall clock; `None` for zeros and for times that do not exist.
pub fn local_time(time: wire::Cp56Time2a) -> Option<DateTime> {
    let wire::Civil { year, month, day, hour, minute, second, millisecond, day_of_week: _ } = time.civil()?;
    let nanos = i32::from(millisecond) * 1_000_000;
    let small = |part: u8| i8::try_from(part).ok();
    let (month, day) = (small(month)?, small(day)?);
    DateTime::new(i16::try_from(year).ok()?, month, day, small(hour)?, small(minute)?, small(second)?, nanos).ok()
}

/// All zero for times the wire cannot say (years outside 2000–2127).
pub fn wire_time(local: DateTime) -> wire::Cp56Time2a {
    let civil = wire::Civil {
        year: local.year().unsigned_abs(),
        month: local.month().unsigned_abs(),
        day: local.day().unsigned_abs(),
        hour: local.hour().unsigned_abs(),
        minute: local.minute().unsigned_abs(),
        second: local.second().unsigned_abs(),
        millisecond: local.millisecond().unsigned_abs(),
        day_of_week: 0,
    };
    wire::Cp56Time2a::from_civil(civil).unwrap_or(wire::Cp56Time2a::ZERO)
}

/// 0x01.
pub fn identity(frame: &wire::LoginRequest) -> Identity {
    let wire::LoginRequest {
        pile_code: _,
        pile_type,
        gun_count,
        protocol_version,
        software_version,
        network_type,
        sim_card,
        operator,
    } = frame;
    Identity {
        pile_type: pile_type.raw(),
        gun_count: *gun_count,
        protocol_version: protocol_version.raw(),
        software_version: software_version.text(),
        network_type: network_type.raw(),
        iccid: sim_card.to_string(),
        operator: operator.raw(),
    }
}

/// 0x0A, as the tariff under this number.
pub fn tariff_response(pile: PileCode, number: u16, tariff: &Tariff) -> wire::TariffResponse {
    let price = |p: domain::Price| wire::Price(p.0);
    let [sharp, peak, flat, valley] = tariff.prices;
    wire::TariffResponse {
        pile_code: wire_pile(pile),
        tariff_model_no: tariff_number(number),
        sharp_energy_price: price(sharp.energy),
        sharp_service_price: price(sharp.service),
        peak_energy_price: price(peak.energy),
        peak_service_price: price(peak.service),
        flat_energy_price: price(flat.energy),
        flat_service_price: price(flat.service),
        valley_energy_price: price(valley.energy),
        valley_service_price: price(valley.service),
        loss_ratio: 0,
        period_rate: wire::PeriodRates(tariff.half_hours.map(|period| match period {
            Period::Sharp => wire::PeriodRate::Sharp,
            Period::Peak => wire::PeriodRate::Peak,
            Period::Flat => wire::PeriodRate::Flat,
            Period::Valley => wire::PeriodRate::Valley,
        })),
    }
}

/// Tariff numbers are opaque on the wire; ours count big-endian, so that they read like the document's `01 00`.
pub fn tariff_number(number: u16) -> wire::TariffNo {
    wire::TariffNo(number.to_be_bytes())
}

pub fn number_of_tariff(number: wire::TariffNo) -> u16 {
    u16::from_be_bytes(number.0)
}

/// 0x13. `from_bit0`: this pile numbers its fault bits from 0 instead of 1 (A12).
pub fn live(pile: PileCode, gun: Gun, at: WallMs, frame: &wire::RealtimeData, from_bit0: bool) -> Telemetry {
    let wire::RealtimeData {
        transaction_serial,
        pile_code: _,
        gun_no: _,
        status,
        gun_returned,
        gun_plugged,
        output_voltage,
        output_current,
        gun_cable_temp,
        gun_cable_code: _,
        soc,
        battery_max_temp,
        charge_minutes,
        remaining_minutes,
        energy,
        loss_energy,
        amount,
        hardware_faults,
    } = *frame;
    let faults = if from_bit0 { hardware_faults.shifted() } else { hardware_faults };
    let charging = status == wire::GunStatus::Charging;
    let measured = Live {
        status: match status {
            wire::GunStatus::Offline => Status::Offline,
            wire::GunStatus::Fault => Status::Fault,
            wire::GunStatus::Idle => Status::Idle,
            wire::GunStatus::Charging => Status::Charging,
            wire::GunStatus::Unknown(raw) => Status::Unknown(raw),
        },
        gun_returned: match gun_returned {
            wire::GunReturned::No => Some(false),
            wire::GunReturned::Yes => Some(true),
            wire::GunReturned::NoSensor | wire::GunReturned::Unknown(_) => None,
        },
        gun_plugged: gun_plugged == wire::YesNo::Yes,
        voltage_mv: output_voltage.millivolts(),
        current_ma: output_current.milliamps(),
        cable_celsius: gun_cable_temp.celsius(),
        // Idle guns and AC piles send 0 for what they do not know.
        soc_percent: (charging && soc.raw() != 0).then_some(soc.raw()),
        battery_max_celsius: battery_max_temp.celsius(),
        charge_minutes: charge_minutes.raw(),
        remaining_minutes: (charging && remaining_minutes.raw() != 0).then_some(remaining_minutes.raw()),
        energy: domain::Energy(energy.raw().into()),
        loss_energy: domain::Energy(loss_energy.raw().into()),
        amount: domain::Amount(amount.raw().into()),
        fault_bits: faults.0,
        faults: names_of_set(wire::HardwareFaults::MEMBERS, faults.0),
    };
    Telemetry { pile, gun, serial: named(transaction_serial), at, measured: Measured::Live(measured) }
}

/// What an order keeps of a 0x13.
pub fn metered(at: WallMs, frame: &wire::RealtimeData) -> Metered {
    Metered {
        at,
        energy: domain::Energy(frame.energy.raw().into()),
        amount: domain::Amount(frame.amount.raw().into()),
        soc_percent: frame.soc.raw(),
    }
}

/// 0x23
pub fn demand(pile: PileCode, gun: Gun, at: WallMs, frame: &wire::BmsDemandAndOutput) -> Telemetry {
    let wire::BmsDemandAndOutput {
        transaction_serial,
        pile_code: _,
        gun_no: _,
        bms_voltage_demand,
        bms_current_demand,
        charge_mode,
        bms_measured_voltage,
        bms_measured_current,
        max_cell_voltage_and_group,
        soc,
        remaining_minutes,
        pile_output_voltage,
        pile_output_current,
        charge_minutes,
    } = *frame;
    let measured = Demand {
        voltage_demand_mv: bms_voltage_demand.millivolts(),
        current_demand_ma: bms_current_demand.milliamps(),
        charge_mode: charge_mode.raw(),
        voltage_measured_mv: bms_measured_voltage.millivolts(),
        current_measured_ma: bms_measured_current.milliamps(),
        max_cell_voltage_mv: u32::from(max_cell_voltage_and_group.max_cell_voltage()) * 10,
        max_cell_group: max_cell_voltage_and_group.max_cell_group() as u8,
        soc_percent: soc.raw(),
        remaining_minutes: remaining_minutes.raw(),
        output_voltage_mv: pile_output_voltage.millivolts(),
        output_current_ma: pile_output_current.milliamps(),
        charge_minutes: charge_minutes.raw(),
    };
    Telemetry { pile, gun, serial: named(transaction_serial), at, measured: Measured::Demand(measured) }
}

/// 0x25
pub fn battery(pile: PileCode, gun: Gun, at: WallMs, frame: &wire::BmsInfo) -> Telemetry {
    let wire::BmsInfo {
        transaction_serial,
        pile_code: _,
        gun_no: _,
        max_cell_voltage_no,
        max_temp,
        max_temp_point_no,
        min_temp,
        min_temp_point_no,
        state_byte1,
        state_byte2,
    } = *frame;
    let mut warnings = names_of_set(wire::BatteryStateByte1::MEMBERS, state_byte1.0.into());
    warnings.extend(names_of_set(wire::BatteryStateByte2::MEMBERS, state_byte2.0.into()));
    warnings.retain(|name| *name != "charge_permission");
    let measured = Battery {
        max_cell_voltage_no: u16::from(max_cell_voltage_no.raw()) + 1,
        max_celsius: max_temp.celsius(),
        max_celsius_point_no: u16::from(max_temp_point_no.raw()) + 1,
        min_celsius: min_temp.celsius(),
        min_celsius_point_no: u16::from(min_temp_point_no.raw()) + 1,
        warnings,
        charging_allowed: state_byte2.charge_permission() == 1,
    };
    Telemetry { pile, gun, serial: named(transaction_serial), at, measured: Measured::Battery(measured) }
}

/// 0x61
pub fn ground_lock(pile: PileCode, at: WallMs, frame: &wire::GroundLockStatus) -> Option<Telemetry> {
    let wire::GroundLockStatus { pile_code: _, gun_no, lock_state, space_state, battery_percent, alarm, reserved: _ } =
        *frame;
    let measured = GroundLock {
        lock_state: lock_state.raw(),
        space_state: space_state.raw(),
        battery_percent: battery_percent.raw(),
        alarm: alarm.raw(),
    };
    let gun = Gun::new(gun_no.0).ok()?;
    Some(Telemetry { pile, gun, serial: None, at, measured: Measured::GroundLock(measured) })
}

/// The three layouts of a record differ in their meter fields and in what V1.7 adds; what a bill needs is in all.
macro_rules! record {
    ($frame:expr, $code:expr, $body:expr, $pile:expr, $gun:expr, $Layout:ident { $($meter_evidence:ident)* }, $meter:expr) => {{
        let wire::$Layout {
            transaction_serial,
            pile_code: _,
            gun_no: _,
            start_time,
            end_time,
            $($meter_evidence: _,)*
            sharp_unit_price,
            sharp_energy,
            sharp_loss_energy,
            sharp_amount,
            peak_unit_price,
            peak_energy,
            peak_loss_energy,
            peak_amount,
            flat_unit_price,
            flat_energy,
            flat_loss_energy,
            flat_amount,
            valley_unit_price,
            valley_energy,
            valley_loss_energy,
            valley_amount,
            meter_start,
            meter_end,
            total_energy,
            total_loss_energy,
            total_amount,
            vin,
            start_type,
            trade_time,
            stop_reason,
            physical_card,
        } = $frame;
        Record {
            pile: $pile,
            gun: $gun,
            serial: serial(*transaction_serial),
            started: local_time(*start_time),
            ended: local_time(*end_time),
            traded: local_time(*trade_time),
            periods: [
                period(*sharp_unit_price, *sharp_energy, *sharp_loss_energy, *sharp_amount),
                period(*peak_unit_price, *peak_energy, *peak_loss_energy, *peak_amount),
                period(*flat_unit_price, *flat_energy, *flat_loss_energy, *flat_amount),
                period(*valley_unit_price, *valley_energy, *valley_loss_energy, *valley_amount),
            ],
            meter_start: $meter(meter_start),
            meter_end: $meter(meter_end),
            total_energy: domain::Energy(total_energy.raw().into()),
            total_loss_energy: domain::Energy(total_loss_energy.raw().into()),
            total_amount: domain::Amount(total_amount.raw().into()),
            vin: vin.text(),
            start_type: start_type.raw(),
            stop_reason: stop_reason.raw(),
            stop_reason_name: stop_reason.label().unwrap_or_default().to_owned(),
            physical_card: physical_card.0,
            code: $code,
            body: $body,
        }
    }};
}

/// A record frame with its gun; `None` if the frame is no record.
pub fn record(frame: &wire::Frame, body: impl FnOnce() -> Vec<u8>, pile: PileCode, guns: u8) -> Option<Record> {
    // A record of gun 0 is still a bill: it is kept under gun 1 rather than lost.
    let known = |number: wire::GunNo| gun(number, guns).or_else(|| Gun::new(1).ok());
    match frame {
        wire::Frame::TransactionRecord(r) => {
            let meter = |m: &wire::MeterEnergy| domain::Energy(m.raw());
            Some(record!(r, frame.code(), body(), pile, known(r.gun_no)?, TransactionRecord {}, meter))
        }
        wire::Frame::TransactionRecordV14(r) => {
            let meter = |m: &wire::Energy| domain::Energy(m.raw().into());
            Some(record!(r, frame.code(), body(), pile, known(r.gun_no)?, TransactionRecordV14 {}, meter))
        }
        wire::Frame::TransactionRecordV17(r) => {
            let meter = |m: &wire::MeterEnergy| domain::Energy(m.raw());
            Some(
                record!(r, frame.code(), body(), pile, known(r.gun_no)?, TransactionRecordV17 { meter_no meter_cipher meter_protocol_version meter_encryption }, meter),
            )
        }
        _ => None,
    }
}

/// A result byte that can only be yes or no, as the answer to a command.
pub fn accepted(frame: u8, outcome: wire::Outcome) -> Result<(), CommandError> {
    match outcome {
        wire::Outcome::Success => Ok(()),
        wire::Outcome::Failure | wire::Outcome::Unknown(_) => {
            let name = outcome.label().unwrap_or("unknown result").to_owned();
            Err(CommandError::PileRejected { frame, code: outcome.raw(), name })
        }
    }
}

/// 0x41
pub fn balance_outcome(answer: &wire::BalanceUpdateResponse) -> Result<(), CommandError> {
    match answer.result {
        wire::BalanceResult::Updated => Ok(()),
        refused @ (wire::BalanceResult::WrongPileCode
        | wire::BalanceResult::WrongCardNumber
        | wire::BalanceResult::Unknown(_)) => Err(CommandError::PileRejected {
            frame: 0x41,
            code: refused.raw(),
            name: refused.label().unwrap_or("unknown result").to_owned(),
        }),
    }
}

/// 0x35
pub fn stop_outcome(answer: &wire::RemoteStopResponse) -> Result<(), CommandError> {
    accepted(0x35, answer.stop_result).map_err(|_| CommandError::PileRejected {
        frame: 0x35,
        code: answer.fail_reason.raw(),
        name: answer.fail_reason.label().unwrap_or("unknown reason").to_owned(),
    })
}

fn period(unit_price: wire::Price, energy: wire::Energy, loss: wire::Energy, amount: wire::Amount) -> RecordedPeriod {
    RecordedPeriod {
        unit_price: domain::Price(unit_price.raw()),
        energy: domain::Energy(energy.raw().into()),
        loss_energy: domain::Energy(loss.raw().into()),
        amount: domain::Amount(amount.raw().into()),
    }
}

/// All zero names no transaction.
fn named(transaction: wire::Serial) -> Option<Serial> {
    (!transaction.is_zero()).then(|| serial(transaction))
}

fn names_of_set(members: &'static [wire::BitSpec], raw: u16) -> Vec<Cow<'static, str>> {
    let set = members.iter().filter(|member| !member.is_reserved() && member.of(raw) != 0);
    set.map(|member| member.name.into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alarm::Fault;

    #[test]
    fn alarms_are_named_as_the_bits_of_0x13_are() {
        let named: Vec<_> = wire::HardwareFaults::MEMBERS.iter().filter(|member| !member.is_reserved()).collect();
        assert_eq!(named.len(), Fault::ALL.len());
        for (member, fault) in named.into_iter().zip(Fault::ALL) {
            assert_eq!((member.lo, member.len, member.name), (fault.bit(), 1, fault.name()));
        }
    }
}
