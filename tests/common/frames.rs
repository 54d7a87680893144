//! Frames as an ordinary pile sends them.

use pileway::wire::*;

/// 14 digits to wire bytes.
pub fn code(pile: &str) -> PileCode {
    pile.parse().expect("14 digits")
}

pub fn login(pile: &str, guns: u8) -> LoginRequest {
    LoginRequest {
        pile_code: code(pile),
        pile_type: PileType::Dc,
        gun_count: guns,
        protocol_version: ProtocolVersion(16),
        software_version: Ascii::new("V4.1.50").expect("fits"),
        network_type: NetworkType::SimCard,
        sim_card: "89860000000000000001".parse().expect("20 digits"),
        operator: Operator::ChinaTelecom,
    }
}

pub fn heartbeat(pile: &str) -> Heartbeat {
    Heartbeat { pile_code: code(pile), gun_no: GunNo(1), gun_status: GunHealth::Normal }
}

/// 0x13 of a gun that is idle and not plugged in.
pub fn idle(pile: &str, gun: u8) -> RealtimeData {
    RealtimeData {
        transaction_serial: Serial::ZERO,
        pile_code: code(pile),
        gun_no: GunNo::from_number(gun),
        status: GunStatus::Idle,
        gun_returned: GunReturned::Yes,
        gun_plugged: YesNo::No,
        output_voltage: Volts(0),
        output_current: Amps(0),
        gun_cable_temp: TempOrNone(70),
        gun_cable_code: Opaque::ZERO,
        soc: Percent(0),
        battery_max_temp: TempOrNone(0),
        charge_minutes: Minutes(0),
        remaining_minutes: Minutes(0),
        energy: Energy(0),
        loss_energy: Energy(0),
        amount: Amount(0),
        hardware_faults: HardwareFaults(0),
    }
}

/// 0x13 of a gun that charges: 400.0 V, 100.0 A, 55 %.
pub fn charging(pile: &str, gun: u8, serial: Serial, energy: u32) -> RealtimeData {
    RealtimeData {
        transaction_serial: serial,
        status: GunStatus::Charging,
        gun_returned: GunReturned::No,
        gun_plugged: YesNo::Yes,
        output_voltage: Volts(4000),
        output_current: Amps(1000),
        soc: Percent(55),
        battery_max_temp: TempOrNone(80),
        charge_minutes: Minutes(3),
        remaining_minutes: Minutes(42),
        energy: Energy(energy),
        loss_energy: Energy(energy),
        amount: Amount(energy * 7 / 5),
        ..idle(pile, gun)
    }
}

pub fn start_answer(pile: &str, gun: u8, serial: Serial, reason: StartFailure) -> RemoteStartResponse {
    let start_result = if reason == StartFailure::None { Outcome::Success } else { Outcome::Failure };
    RemoteStartResponse {
        transaction_serial: serial,
        pile_code: code(pile),
        gun_no: GunNo::from_number(gun),
        start_result,
        fail_reason: reason,
    }
}

/// 0xA3
pub fn parallel_answer(start: &ParallelRemoteStart, reason: StartFailure) -> ParallelRemoteStartResponse {
    ParallelRemoteStartResponse {
        transaction_serial: start.transaction_serial,
        pile_code: start.pile_code,
        gun_no: start.gun_no,
        start_result: if reason == StartFailure::None { Outcome::Success } else { Outcome::Failure },
        fail_reason: reason,
        gun_role: if start.gun_no == GunNo(1) { GunRole::Main } else { GunRole::Auxiliary },
        parallel_no: start.parallel_no,
    }
}

pub fn stop_answer(pile: &str, gun: u8, reason: StopFailure) -> RemoteStopResponse {
    let stop_result = if reason == StopFailure::None { Outcome::Success } else { Outcome::Failure };
    RemoteStopResponse { pile_code: code(pile), gun_no: GunNo::from_number(gun), stop_result, fail_reason: reason }
}

/// 0x3B: `energy` × 0.0001 kWh in the peak hours at 1.40000 CNY, stopped remotely.
pub fn record(pile: &str, gun: u8, serial: Serial, energy: u32) -> TransactionRecord {
    let amount = Amount(energy * 7 / 5);
    TransactionRecord {
        transaction_serial: serial,
        pile_code: code(pile),
        gun_no: GunNo::from_number(gun),
        start_time: time(8, 30),
        end_time: time(8, 45),
        sharp_unit_price: Price(160_000),
        sharp_energy: Energy(0),
        sharp_loss_energy: Energy(0),
        sharp_amount: Amount(0),
        peak_unit_price: Price(140_000),
        peak_energy: Energy(energy),
        peak_loss_energy: Energy(energy),
        peak_amount: amount,
        flat_unit_price: Price(110_000),
        flat_energy: Energy(0),
        flat_loss_energy: Energy(0),
        flat_amount: Amount(0),
        valley_unit_price: Price(70_000),
        valley_energy: Energy(0),
        valley_loss_energy: Energy(0),
        valley_amount: Amount(0),
        meter_start: MeterEnergy::from_milliwatt_hours(500_000_000),
        meter_end: MeterEnergy::from_milliwatt_hours(500_000_000 + u64::from(energy) * 100),
        total_energy: Energy(energy),
        total_loss_energy: Energy(energy),
        total_amount: amount,
        vin: Ascii::new("LSVAA4182E2184847").expect("fits"),
        start_type: StartType::App,
        trade_time: time(8, 45),
        stop_reason: StopReason::FinishedByApp,
        physical_card: Opaque::ZERO,
    }
}

/// The same bill as V1.4 sends it.
pub fn record_v14(pile: &str, gun: u8, serial: Serial, energy: u32) -> TransactionRecordV14 {
    let new = record(pile, gun, serial, energy);
    TransactionRecordV14 {
        transaction_serial: new.transaction_serial,
        pile_code: new.pile_code,
        gun_no: new.gun_no,
        start_time: new.start_time,
        end_time: new.end_time,
        sharp_unit_price: new.sharp_unit_price,
        sharp_energy: new.sharp_energy,
        sharp_loss_energy: new.sharp_loss_energy,
        sharp_amount: new.sharp_amount,
        peak_unit_price: new.peak_unit_price,
        peak_energy: new.peak_energy,
        peak_loss_energy: new.peak_loss_energy,
        peak_amount: new.peak_amount,
        flat_unit_price: new.flat_unit_price,
        flat_energy: new.flat_energy,
        flat_loss_energy: new.flat_loss_energy,
        flat_amount: new.flat_amount,
        valley_unit_price: new.valley_unit_price,
        valley_energy: new.valley_energy,
        valley_loss_energy: new.valley_loss_energy,
        valley_amount: new.valley_amount,
        meter_start: Energy(50_000),
        meter_end: Energy(50_000 + energy),
        total_energy: new.total_energy,
        total_loss_energy: new.total_loss_energy,
        total_amount: new.total_amount,
        vin: new.vin,
        start_type: new.start_type,
        trade_time: new.trade_time,
        stop_reason: new.stop_reason,
        physical_card: new.physical_card,
    }
}

/// The same bill as V1.7 sends it.
pub fn record_v17(pile: &str, gun: u8, serial: Serial, energy: u32) -> TransactionRecordV17 {
    let new = record(pile, gun, serial, energy);
    TransactionRecordV17 {
        transaction_serial: new.transaction_serial,
        pile_code: new.pile_code,
        gun_no: new.gun_no,
        start_time: new.start_time,
        end_time: new.end_time,
        meter_no: Bcd::ZERO,
        meter_cipher: Opaque([7; 34]),
        meter_protocol_version: Opaque::ZERO,
        meter_encryption: 1,
        sharp_unit_price: new.sharp_unit_price,
        sharp_energy: new.sharp_energy,
        sharp_loss_energy: new.sharp_loss_energy,
        sharp_amount: new.sharp_amount,
        peak_unit_price: new.peak_unit_price,
        peak_energy: new.peak_energy,
        peak_loss_energy: new.peak_loss_energy,
        peak_amount: new.peak_amount,
        flat_unit_price: new.flat_unit_price,
        flat_energy: new.flat_energy,
        flat_loss_energy: new.flat_loss_energy,
        flat_amount: new.flat_amount,
        valley_unit_price: new.valley_unit_price,
        valley_energy: new.valley_energy,
        valley_loss_energy: new.valley_loss_energy,
        valley_amount: new.valley_amount,
        meter_start: new.meter_start,
        meter_end: new.meter_end,
        total_energy: new.total_energy,
        total_loss_energy: new.total_loss_energy,
        total_amount: new.total_amount,
        vin: new.vin,
        start_type: new.start_type,
        trade_time: new.trade_time,
        stop_reason: new.stop_reason,
        physical_card: new.physical_card,
    }
}

fn time(hour: u8, minute: u8) -> Cp56Time2a {
    let civil = Civil { year: 2026, month: 5, day: 17, hour, minute, second: 0, millisecond: 0, day_of_week: 0 };
    Cp56Time2a::from_civil(civil).expect("a time the wire can say")
}
