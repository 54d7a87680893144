//! What a pile reports: telemetry, the vehicle's data, records.

use std::time::Duration;

use super::charge::Charge;
use super::clock::cp56;
use super::config::Behaviour;
use super::gun::{Gun, Phase};
use super::pile::{Cx, Pile};
use super::vehicle::{Flow, Vehicle};
use crate::wire::{
    Amount, AmpHours, Amps, AmpsOffset, Ascii, BatteryStateByte1, BatteryStateByte2, BatteryType, Bcd, BemByte1,
    BemByte2, BemByte3, BemByte4, BmsChargeEnd, BmsDemandAndOutput, BmsError, BmsHandshake, BmsInfo, BmsParameters,
    BmsStop, BmsStopCause, BmsStopErrors, BmsStopFaults, CellVoltageAndGroup, CellVolts, CemByte1, CemByte2, CemByte3,
    CemByte4, ChargeMode, ChargerStop, ChargerStopCause, ChargerStopErrors, ChargerStopFaults, Energy, EnergyTenths,
    Frame, GunReturned, GunStatus, HardwareFaults, MeterEnergy, Minutes, Opaque, Ordinal, Ownership, Percent,
    PercentTenths, Price, ProductionYear, RealtimeData, Serial, StartMode, StartRequest, StartRequestV18, StopReason,
    Temp, TempOrNone, TransactionRecord, TransactionRecordV14, TransactionRecordV17, U24, VinReversed, Volts, YesNo,
};

impl Pile {
    /// 0x13 of one gun, now; the next periodic one is planned from here.
    pub(super) fn report(&mut self, cx: &mut Cx, index: usize) {
        let row = self.realtime(cx, index);
        self.plan_report(cx, index);
        if self.ready() {
            self.send(cx, row);
        }
    }

    fn plan_report(&mut self, cx: &Cx, index: usize) {
        let interval = match self.guns[index].phase {
            Phase::Charging(_) => self.clock.real(CHARGING_INTERVAL, SHORTEST_INTERVAL),
            Phase::Idle | Phase::Asking(_) | Phase::Answering(..) | Phase::WaitingForPlug(..) => IDLE_INTERVAL,
        };
        self.guns[index].report_at = cx.now.mono + interval;
    }

    /// 0x13 of one gun as it is now.
    pub(super) fn realtime(&self, cx: &Cx, index: usize) -> RealtimeData {
        let gun = &self.guns[index];
        let mut row = RealtimeData {
            transaction_serial: Serial::ZERO,
            pile_code: self.code,
            gun_no: gun.number(),
            status: if gun.faults == 0 { GunStatus::Idle } else { GunStatus::Fault },
            gun_returned: if gun.plugged { GunReturned::No } else { GunReturned::Yes },
            gun_plugged: if gun.plugged { YesNo::Yes } else { YesNo::No },
            output_voltage: Volts(0),
            output_current: Amps(0),
            gun_cable_temp: TempOrNone(0),
            gun_cable_code: Opaque::ZERO,
            soc: Percent(0),
            battery_max_temp: TempOrNone(0),
            charge_minutes: Minutes(0),
            remaining_minutes: Minutes(0),
            energy: Energy(0),
            loss_energy: Energy(0),
            amount: Amount(0),
            hardware_faults: HardwareFaults(gun.faults),
        };
        if let Some(charge) = gun.charge().filter(|_| !self.has(Behaviour::ReportIdle)) {
            let limit = self.limit(cx, index);
            let flow = charge.flow(limit);
            let bill = charge.bill();
            row.transaction_serial = charge.order.serial;
            row.status = GunStatus::Charging;
            row.output_voltage = Volts::from_millivolts(flow.millivolts);
            row.output_current = Amps::from_milliamps(flow.milliamps);
            row.gun_cable_temp = TempOrNone::from_celsius(Some(flow.cable_temp));
            row.charge_minutes = Minutes(charge.minutes());
            row.energy = energy(bill.total_energy());
            row.loss_energy = energy(bill.total_loss_energy());
            row.amount = Amount(saturated(bill.total_amount()));
            if self.config.dc {
                row.soc = Percent((flow.soc / 10) as u8);
                row.battery_max_temp = TempOrNone::from_celsius(Some(flow.battery_temp));
                row.remaining_minutes = Minutes(charge.remaining_minutes(limit));
            }
        }
        row
    }

    /// 0x15 and 0x17, once per charge.
    pub(super) fn report_vehicle(&mut self, cx: &mut Cx, index: usize) {
        let Some(charge) = self.guns[index].charge().filter(|_| self.ready()) else { return };
        let (transaction_serial, pile_code, gun_no) = (charge.order.serial, self.code, self.guns[index].number());
        let vehicle = charge.vehicle;
        let flow = charge.flow(self.limit(cx, index));
        let full = Vehicle::CELLS * 4_150;
        let handshake = BmsHandshake {
            transaction_serial,
            pile_code,
            gun_no,
            bms_protocol_version: Opaque([1, 1, 0]),
            battery_type: BatteryType::LithiumIronPhosphate,
            // 0.0001 kWh / V is 0.1 Ah.
            rated_capacity: AmpHours((vehicle.capacity * 1000 / u64::from(full)) as u16),
            rated_voltage: Volts::from_millivolts(full),
            battery_vendor: Ascii(*b"SIM\0"),
            battery_pack_no: Opaque([0, 0, 0, 1]),
            production_year: ProductionYear(40),
            production_month: 6,
            production_day: 1,
            charge_cycles: U24::from_raw(120),
            ownership: Ownership::Owned,
            reserved: 0,
            vin: self.vin(index),
            bms_software_version: Opaque([0x10, 0x0A, 0x0B, 0x07, 0xDF, 0xFF, 0xFF, 0xFF]),
        };
        let parameters = BmsParameters {
            transaction_serial,
            pile_code,
            gun_no,
            max_cell_voltage: CellVolts::from_millivolts(4_200),
            max_charge_current: AmpsOffset::from_milliamps(Vehicle::MAX_CURRENT),
            nominal_energy: EnergyTenths::from_watt_hours((vehicle.capacity / 10) as u32),
            max_total_voltage: Volts::from_millivolts(Vehicle::CELLS * 4_200),
            max_temp: Temp::from_celsius(55),
            soc: PercentTenths(flow.soc as u16),
            battery_voltage: Volts::from_millivolts(flow.millivolts),
            pile_max_output_voltage: Volts(7_500),
            pile_min_output_voltage: Volts(2_000),
            pile_max_output_current: AmpsOffset::from_milliamps(250_000),
            pile_min_output_current: AmpsOffset::from_milliamps(0),
        };
        self.send(cx, handshake);
        self.send(cx, parameters);
    }

    /// 0x23 and 0x25, as often as 0x13.
    pub(super) fn report_bms(&mut self, cx: &mut Cx, index: usize) {
        let Some(charge) = self.guns[index].charge().filter(|_| self.ready()) else { return };
        let (transaction_serial, pile_code, gun_no) = (charge.order.serial, self.code, self.guns[index].number());
        let limit = self.limit(cx, index);
        let flow = charge.flow(limit);
        let demand = charge.flow(u32::MAX);
        let cell = u16::try_from(flow.millivolts / Vehicle::CELLS / 10).unwrap_or(0) & 0x0FFF;
        let current = AmpsOffset::from_milliamps(flow.milliamps);
        let output = BmsDemandAndOutput {
            transaction_serial,
            pile_code,
            gun_no,
            bms_voltage_demand: Volts::from_millivolts(Vehicle::CELLS * 4_150),
            bms_current_demand: AmpsOffset::from_milliamps(demand.milliamps),
            charge_mode: if flow.constant_voltage { ChargeMode::ConstantVoltage } else { ChargeMode::ConstantCurrent },
            bms_measured_voltage: Volts::from_millivolts(flow.millivolts),
            bms_measured_current: current,
            max_cell_voltage_and_group: CellVoltageAndGroup(cell),
            soc: Percent((flow.soc / 10) as u8),
            remaining_minutes: Minutes(charge.remaining_minutes(limit)),
            pile_output_voltage: Volts::from_millivolts(flow.millivolts),
            pile_output_current: current,
            charge_minutes: Minutes(charge.minutes()),
        };
        let info = BmsInfo {
            transaction_serial,
            pile_code,
            gun_no,
            max_cell_voltage_no: Ordinal(17),
            max_temp: Temp::from_celsius(flow.battery_temp),
            max_temp_point_no: Ordinal(3),
            min_temp: Temp::from_celsius(flow.battery_temp - 2),
            min_temp_point_no: Ordinal(8),
            state_byte1: BatteryStateByte1(0),
            // Charging allowed.
            state_byte2: BatteryStateByte2(0b01_00_00),
        };
        self.send(cx, output);
        self.send(cx, info);
    }

    /// 0x1D when the vehicle ended it, else 0x21, and 0x19.
    pub(super) fn report_end(&mut self, cx: &mut Cx, index: usize, charge: &Charge, reason: StopReason) {
        if !self.ready() {
            return;
        }
        let (transaction_serial, pile_code, gun_no) = (charge.order.serial, self.code, self.guns[index].number());
        let flow: Flow = charge.flow(self.limit(cx, index));
        if self.has(Behaviour::BmsError) {
            let error = BmsError {
                transaction_serial,
                pile_code,
                gun_no,
                bem_byte1: BemByte1(0),
                bem_byte2: BemByte2(0),
                bem_byte3: BemByte3(0),
                bem_byte4: BemByte4(0),
                cem_byte1: CemByte1(0),
                cem_byte2: CemByte2(0),
                // The vehicle's demand did not come in time.
                cem_byte3: CemByte3(0b01_00),
                cem_byte4: CemByte4(0),
            };
            self.send(cx, error);
        }
        if reason == StopReason::FinishedFull {
            let (stop_faults, stop_errors) = (BmsStopFaults(0), BmsStopErrors(0));
            self.send(
                cx,
                BmsStop {
                    transaction_serial,
                    pile_code,
                    gun_no,
                    stop_cause: BmsStopCause(0b01),
                    stop_faults,
                    stop_errors,
                },
            );
        } else {
            let stop_cause = match reason {
                StopReason::FinishedByApp | StopReason::FinishedByHand => ChargerStopCause(0b01_00),
                StopReason::FinishedEnergy | StopReason::FinishedOther46 | StopReason::AbortedInsufficientBalance => {
                    ChargerStopCause(0b01)
                }
                _ => ChargerStopCause(0b01_00_00),
            };
            let stop_faults = ChargerStopFaults(if reason == StopReason::AbortedEmergencyStop { 1 << 8 } else { 0 });
            self.send(
                cx,
                ChargerStop {
                    transaction_serial,
                    pile_code,
                    gun_no,
                    stop_cause,
                    stop_faults,
                    stop_errors: ChargerStopErrors(0),
                },
            );
        }
        let cell = flow.millivolts / Vehicle::CELLS;
        let end = BmsChargeEnd {
            transaction_serial,
            pile_code,
            gun_no,
            stop_soc: Percent((flow.soc / 10) as u8),
            min_cell_voltage: CellVolts::from_millivolts(cell - 20),
            max_cell_voltage: CellVolts::from_millivolts(cell),
            min_temp: Temp::from_celsius(flow.battery_temp - 2),
            max_temp: Temp::from_celsius(flow.battery_temp),
            charge_minutes: Minutes(charge.minutes()),
            output_energy: EnergyTenths::from_watt_hours((charge.total_energy() / 10) as u32),
            charger_no: 1,
        };
        self.send(cx, end);
    }

    /// 0x31, or 0xA5 from V1.8 on.
    pub(super) fn start_request(&self, index: usize, card: Option<Opaque<8>>) -> Frame {
        let row = self.wish(index, card);
        if self.config.protocol_version < 18 {
            return row.into();
        }
        let StartRequest { pile_code, gun_no, start_mode, need_password, account_or_card, password, vin } = row;
        StartRequestV18 { pile_code, gun_no, start_mode, need_password, account_or_card, password, vin }.into()
    }
    /// Who wants to charge.
    pub(super) fn wish(&self, index: usize, card: Option<Opaque<8>>) -> StartRequest {
        StartRequest {
            pile_code: self.code,
            gun_no: self.guns[index].number(),
            start_mode: if card.is_some() { StartMode::Card } else { StartMode::Vin },
            need_password: YesNo::No,
            account_or_card: card.unwrap_or(Opaque::ZERO),
            password: Opaque::ZERO,
            vin: if card.is_some() {
                VinReversed::ZERO
            } else {
                VinReversed::new(&self.vehicle_vin(index)).unwrap_or(VinReversed::ZERO)
            },
        }
    }

    /// The record of a charge in the layout of the pile's version. `charge` no longer runs.
    pub(super) fn record(&self, cx: &Cx, index: usize, charge: &Charge, stop_reason: StopReason) -> Frame {
        let gun: &Gun = &self.guns[index];
        let bill = charge.bill();
        let price = |class: usize| Price(bill.unit_prices[class]);
        let kwh = |class: usize| energy(bill.energies[class]);
        let loss = |class: usize| energy(bill.loss_energies[class]);
        let cny = |class: usize| Amount(saturated(bill.amounts[class]));
        let surcharge = self.behaviour(|b| if let Behaviour::Overcharge(by) = b { Some(u64::from(*by)) } else { None });
        let row = TransactionRecord {
            transaction_serial: charge.order.serial,
            pile_code: self.code,
            gun_no: gun.number(),
            start_time: cp56(charge.started),
            end_time: cp56(charge.local(&self.clock)),
            sharp_unit_price: price(0),
            sharp_energy: kwh(0),
            sharp_loss_energy: loss(0),
            sharp_amount: cny(0),
            peak_unit_price: price(1),
            peak_energy: kwh(1),
            peak_loss_energy: loss(1),
            peak_amount: cny(1),
            flat_unit_price: price(2),
            flat_energy: kwh(2),
            flat_loss_energy: loss(2),
            flat_amount: cny(2),
            valley_unit_price: price(3),
            valley_energy: kwh(3),
            valley_loss_energy: loss(3),
            valley_amount: cny(3),
            meter_start: MeterEnergy::from_raw(gun.meter),
            meter_end: MeterEnergy::from_raw(gun.meter + bill.total_energy()),
            total_energy: energy(bill.total_energy()),
            total_loss_energy: energy(bill.total_loss_energy()),
            total_amount: Amount(saturated(bill.total_amount() + surcharge.unwrap_or(0))),
            vin: self.vin(index),
            start_type: charge.order.start_type,
            trade_time: cp56(self.clock.local(self.clock.sim(cx.now.mono))),
            stop_reason,
            physical_card: charge.order.card,
        };
        match self.config.protocol_version {
            ..=14 => v14(&row).into(),
            15 | 16 => row.into(),
            17.. => v17(&row, self.code.0).into(),
        }
    }

    /// What the pile knows of the vehicle: without a BMS, nothing.
    fn vin(&self, index: usize) -> Ascii<17> {
        if self.config.dc { Ascii::new(&self.vehicle_vin(index)).unwrap_or(Ascii::ZERO) } else { Ascii::ZERO }
    }

    /// Every gun of every pile has its own vehicle; 17 characters without I, O and Q.
    fn vehicle_vin(&self, index: usize) -> String {
        const LETTERS: &[u8; 23] = b"ABCDEFGHJKLMNPRSTUVWXYZ";
        format!("LS{}{}", char::from(LETTERS[index % LETTERS.len()]), self.code)
    }
}

fn energy(units: u64) -> Energy {
    Energy(saturated(units))
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Moves the fields all record layouts share; the meter readings differ in width, V1.7 has more.
macro_rules! same_record {
    ($row:ident => $To:ident { $meter:expr, $($more:ident: $value:expr,)* }) => {{
        let TransactionRecord {
            transaction_serial, pile_code, gun_no, start_time, end_time, sharp_unit_price, sharp_energy, sharp_loss_energy, sharp_amount,
            peak_unit_price, peak_energy, peak_loss_energy, peak_amount, flat_unit_price, flat_energy, flat_loss_energy, flat_amount,
            valley_unit_price, valley_energy, valley_loss_energy, valley_amount, meter_start, meter_end, total_energy, total_loss_energy,
            total_amount, vin, start_type, trade_time, stop_reason, physical_card,
        } = *$row;
        $To {
            transaction_serial, pile_code, gun_no, start_time, end_time, sharp_unit_price, sharp_energy, sharp_loss_energy, sharp_amount,
            peak_unit_price, peak_energy, peak_loss_energy, peak_amount, flat_unit_price, flat_energy, flat_loss_energy, flat_amount,
            valley_unit_price, valley_energy, valley_loss_energy, valley_amount, total_energy, total_loss_energy, total_amount, vin,
            start_type, trade_time, stop_reason, physical_card,
            meter_start: $meter(meter_start),
            meter_end: $meter(meter_end),
            $($more: $value,)*
        }
    }};
}

fn v14(row: &TransactionRecord) -> TransactionRecordV14 {
    same_record!(row => TransactionRecordV14 { |reading: MeterEnergy| energy(reading.raw()), })
}

fn v17(row: &TransactionRecord, code: [u8; 7]) -> TransactionRecordV17 {
    let [_, meter_no @ ..] = code;
    same_record!(row => TransactionRecordV17 {
        |reading: MeterEnergy| reading,
        meter_no: Bcd(meter_no),
        meter_cipher: Opaque::ZERO,
        meter_protocol_version: Opaque::ZERO,
        meter_encryption: 0,
    })
}

/// Simulated time.
const CHARGING_INTERVAL: Duration = Duration::from_secs(15);
/// Real time: no speed makes a pile send more often.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(200);
const IDLE_INTERVAL: Duration = Duration::from_mins(5);
