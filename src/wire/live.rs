//! Live data of a gun and of the vehicle on it.

use super::field::{
    Amount, AmpHours, Amps, AmpsOffset, Ascii, CellVolts, Energy, EnergyTenths, GunNo, Labels, Minutes, Opaque,
    Ordinal, Percent, PercentTenths, PileCode, ProductionYear, Serial, Temp, TempOrNone, U24, Volts, bits, open_enum,
};
use super::table::frames;

frames! {
    /// Asks for one 0x13 of one gun.
    0x12 Down RealtimeQuery [8] {
        0  pile_code: PileCode,
        7  gun_no: GunNo,
    }

    /// Live data of one gun: every 15 s while charging, every 5 min when idle, at once on a change.
    0x13 Up RealtimeData [60] {
        0  transaction_serial: Serial,
        16 pile_code: PileCode,
        23 gun_no: GunNo,
        24 status: GunStatus,
        25 gun_returned: GunReturned,
        26 gun_plugged: YesNo,
        27 output_voltage: Volts,
        29 output_current: Amps,
        31 gun_cable_temp: TempOrNone,
        32 gun_cable_code: Opaque<8>,
        40 soc: Percent,
        41 battery_max_temp: TempOrNone,
        42 charge_minutes: Minutes,
        44 remaining_minutes: Minutes,
        46 energy: Energy,
        50 loss_energy: Energy,
        54 amount: Amount,
        58 hardware_faults: HardwareFaults,
    }

    /// GB/T 27930 BRM, once per DC session. The byte order of both version fields is not that of other fields (A40).
    0x15 Up BmsHandshake [73] {
        0  transaction_serial: Serial,
        16 pile_code: PileCode,
        23 gun_no: GunNo,
        24 bms_protocol_version: Opaque<3>,
        27 battery_type: BatteryType,
        28 rated_capacity: AmpHours,
        30 rated_voltage: Volts,
        32 battery_vendor: Ascii<4>,
        36 battery_pack_no: Opaque<4>,
        40 production_year: ProductionYear,
        41 production_month: u8,
        42 production_day: u8,
        43 charge_cycles: U24,
        46 ownership: Ownership,
        47 reserved: u8,
        48 vin: Ascii<17>,
        65 bms_software_version: Opaque<8>,
    }

    /// GB/T 27930 BCP and the pile's output limits, once per DC session.
    0x17 Up BmsParameters [45] {
        0  transaction_serial: Serial,
        16 pile_code: PileCode,
        23 gun_no: GunNo,
        24 max_cell_voltage: CellVolts,
        26 max_charge_current: AmpsOffset,
        28 nominal_energy: EnergyTenths,
        30 max_total_voltage: Volts,
        32 max_temp: Temp,
        33 soc: PercentTenths,
        35 battery_voltage: Volts,
        37 pile_max_output_voltage: Volts,
        39 pile_min_output_voltage: Volts,
        41 pile_max_output_current: AmpsOffset,
        43 pile_min_output_current: AmpsOffset,
    }

    /// GB/T 27930 BSD and CSD, once at the end of a DC session, before 0x3B.
    0x19 Up BmsChargeEnd [39] {
        0  transaction_serial: Serial,
        16 pile_code: PileCode,
        23 gun_no: GunNo,
        24 stop_soc: Percent,
        25 min_cell_voltage: CellVolts,
        27 max_cell_voltage: CellVolts,
        29 min_temp: Temp,
        30 max_temp: Temp,
        31 charge_minutes: Minutes,
        33 output_energy: EnergyTenths,
        35 charger_no: u32,
    }

    /// GB/T 27930 BEM (four bytes) and CEM (four bytes), when an error occurs.
    0x1B Up BmsError [32] {
        0  transaction_serial: Serial,
        16 pile_code: PileCode,
        23 gun_no: GunNo,
        24 bem_byte1: BemByte1,
        25 bem_byte2: BemByte2,
        26 bem_byte3: BemByte3,
        27 bem_byte4: BemByte4,
        28 cem_byte1: CemByte1,
        29 cem_byte2: CemByte2,
        30 cem_byte3: CemByte3,
        31 cem_byte4: CemByte4,
    }

    /// GB/T 27930 BST: why the vehicle stopped.
    0x1D Up BmsStop [28] {
        0  transaction_serial: Serial,
        16 pile_code: PileCode,
        23 gun_no: GunNo,
        24 stop_cause: BmsStopCause,
        25 stop_faults: BmsStopFaults,
        27 stop_errors: BmsStopErrors,
    }

    /// GB/T 27930 CST: why the charger stopped.
    0x21 Up ChargerStop [28] {
        0  transaction_serial: Serial,
        16 pile_code: PileCode,
        23 gun_no: GunNo,
        24 stop_cause: ChargerStopCause,
        25 stop_faults: ChargerStopFaults,
        27 stop_errors: ChargerStopErrors,
    }

    /// BCL, BCS and the pile's own output, every 15 s while DC charging.
    0x23 Up BmsDemandAndOutput [44] {
        0  transaction_serial: Serial,
        16 pile_code: PileCode,
        23 gun_no: GunNo,
        24 bms_voltage_demand: Volts,
        26 bms_current_demand: AmpsOffset,
        28 charge_mode: ChargeMode,
        29 bms_measured_voltage: Volts,
        31 bms_measured_current: AmpsOffset,
        33 max_cell_voltage_and_group: CellVoltageAndGroup,
        35 soc: Percent,
        36 remaining_minutes: Minutes,
        38 pile_output_voltage: Volts,
        40 pile_output_current: AmpsOffset,
        42 charge_minutes: Minutes,
    }

    /// GB/T 27930 BSM, every 15 s while DC charging.
    0x25 Up BmsInfo [31] {
        0  transaction_serial: Serial,
        16 pile_code: PileCode,
        23 gun_no: GunNo,
        24 max_cell_voltage_no: Ordinal,
        25 max_temp: Temp,
        26 max_temp_point_no: Ordinal,
        27 min_temp: Temp,
        28 min_temp_point_no: Ordinal,
        29 state_byte1: BatteryStateByte1,
        30 state_byte2: BatteryStateByte2,
    }
}

open_enum! {
    /// A gun's state in 0x13.
    GunStatus {
        0x00 Offline "offline",
        0x01 Fault "fault",
        0x02 Idle "idle",
        0x03 Charging "charging",
    }

    /// Whether the gun hangs in its holster.
    GunReturned {
        0x00 No "no",
        0x01 Yes "yes",
        0x02 NoSensor "unknown (no holster sensor)",
    }

    /// A yes or a no.
    YesNo {
        0x00 No "no",
        0x01 Yes "yes",
    }

    /// Battery chemistry.
    BatteryType {
        0x01 LeadAcid "lead-acid",
        0x02 NickelMetalHydride "nickel-metal hydride (document: 氢电池)",
        0x03 LithiumIronPhosphate "lithium iron phosphate",
        0x04 LithiumManganeseOxide "lithium manganese oxide",
        0x05 LithiumCobaltOxide "lithium cobalt oxide",
        0x06 Ternary "ternary (NMC/NCA)",
        0x07 LithiumPolymer "lithium polymer",
        0x08 LithiumTitanate "lithium titanate",
        0xFF Other "other",
    }

    /// Who owns the battery.
    Ownership {
        0x00 Leased "leased",
        0x01 Owned "owned by the vehicle",
    }

    /// How the BMS wants to be charged.
    ChargeMode {
        0x01 ConstantVoltage "constant voltage",
        0x02 ConstantCurrent "constant current",
    }
}

bits! {
    /// `hardware_faults` of 0x13.
    HardwareFaults: u16 {
        0 1 emergency_stop,
        1 1 no_rectifier_module,
        2 1 outlet_over_temp,
        3 1 ac_surge_protection,
        4 1 dc20_comm_lost,
        5 1 fc08_comm_lost,
        6 1 meter_comm_lost,
        7 1 card_reader_comm_lost,
        8 1 rc10_comm_lost,
        9 1 fan_controller,
        10 1 dc_fuse,
        11 1 hv_contactor,
        12 1 door_open,
        13 3 reserved,
    }

    /// `bem_byte1` of 0x1B.
    BemByte1: u8 {
        0 2 spn2560_00_timeout: TIMEOUT,
        2 2 spn2560_aa_timeout: TIMEOUT,
        4 4 reserved1,
    }

    /// `bem_byte2` of 0x1B.
    BemByte2: u8 {
        0 2 time_sync_max_output_timeout: TIMEOUT,
        2 2 charger_ready_timeout: TIMEOUT,
        4 4 reserved2,
    }

    /// `bem_byte3` of 0x1B.
    BemByte3: u8 {
        0 2 charger_status_timeout: TIMEOUT,
        2 2 charger_stop_timeout: TIMEOUT,
        4 4 reserved3,
    }

    /// `bem_byte4` of 0x1B.
    BemByte4: u8 {
        0 2 charger_statistics_timeout: TIMEOUT,
        2 6 bms_other,
    }

    /// `cem_byte1` of 0x1B.
    CemByte1: u8 {
        0 2 brm_timeout: TIMEOUT,
        2 6 reserved4,
    }

    /// `cem_byte2` of 0x1B.
    CemByte2: u8 {
        0 2 bcp_timeout: TIMEOUT,
        2 2 bro_timeout: TIMEOUT,
        4 4 reserved5,
    }

    /// `cem_byte3` of 0x1B.
    CemByte3: u8 {
        0 2 bcs_timeout: TIMEOUT,
        2 2 bcl_timeout: TIMEOUT,
        4 2 bst_timeout: TIMEOUT,
        6 2 reserved6,
    }

    /// `cem_byte4` of 0x1B.
    CemByte4: u8 {
        0 2 bsd_timeout: TIMEOUT,
        2 6 charger_other,
    }

    /// `stop_cause` of 0x1D.
    BmsStopCause: u8 {
        0 2 soc_target_reached: YES_FAULT,
        2 2 total_voltage_reached: YES_FAULT,
        4 2 cell_voltage_reached: YES_FAULT,
        6 2 charger_initiated: YES_FAULT,
    }

    /// `stop_faults` of 0x1D.
    BmsStopFaults: u16 {
        0 2 insulation: YES_FAULT,
        2 2 output_connector_over_temp: YES_FAULT,
        4 2 bms_component_over_temp: YES_FAULT,
        6 2 charging_connector: YES_FAULT,
        8 2 battery_over_temp: YES_FAULT,
        10 2 hv_relay: YES_FAULT,
        12 2 detection_point2_voltage: YES_FAULT,
        14 2 other: YES_FAULT,
    }

    /// `stop_errors` of 0x1D.
    BmsStopErrors: u8 {
        0 2 over_current: YES_FAULT,
        2 2 voltage_abnormal: YES_FAULT,
        4 4 reserved,
    }

    /// `stop_cause` of 0x21.
    ChargerStopCause: u8 {
        0 2 set_condition_reached: YES_FAULT,
        2 2 manual: YES_FAULT,
        4 2 abnormal: YES_FAULT,
        6 2 bms_initiated: YES_FAULT,
    }

    /// `stop_faults` of 0x21.
    ChargerStopFaults: u16 {
        0 2 charger_over_temp: YES_FAULT,
        2 2 charging_connector: YES_FAULT,
        4 2 charger_internal_over_temp: YES_FAULT,
        6 2 energy_cannot_be_delivered: YES_FAULT,
        8 2 emergency_stop: YES_FAULT,
        10 2 other: YES_FAULT,
        12 4 reserved,
    }

    /// `stop_errors` of 0x21.
    ChargerStopErrors: u8 {
        0 2 current_mismatch: YES_FAULT,
        2 2 voltage_abnormal: YES_FAULT,
        4 4 reserved,
    }

    /// `max_cell_voltage_and_group` of 0x23.
    CellVoltageAndGroup: u16 {
        0 12 max_cell_voltage = 2 "V",
        12 4 max_cell_group,
    }

    /// `state_byte1` of 0x25.
    BatteryStateByte1: u8 {
        0 2 cell_voltage: HIGH_LOW,
        2 2 soc_state: HIGH_LOW,
        4 2 over_current: OVER_CURRENT,
        6 2 over_temp: OVER_TEMP,
    }

    /// `state_byte2` of 0x25.
    BatteryStateByte2: u8 {
        0 2 insulation: ABNORMAL,
        2 2 output_connector: ABNORMAL,
        4 2 charge_permission: PERMISSION,
        6 2 reserved,
    }
}

impl HardwareFaults {
    /// Read as by piles whose Bit1 is mask 0x0002, with Bit0 reserved (A12).
    #[must_use]
    pub const fn shifted(self) -> Self {
        Self(self.0 >> 1)
    }
}

/// What the BMS or the charger did not receive in time.
const TIMEOUT: Labels = &[(0, "normal"), (1, "timeout"), (2, "untrusted state"), (3, "not defined")];

/// A cause of a stop. The document gives the positions only; the meaning is from GB/T 27930.
const YES_FAULT: Labels = &[(0, "no / normal"), (1, "yes / fault"), (2, "untrusted state"), (3, "not defined")];

const HIGH_LOW: Labels = &[(0, "normal"), (1, "too high"), (2, "too low")];
const OVER_CURRENT: Labels = &[(0, "normal"), (1, "over-current"), (2, "untrusted state")];
const OVER_TEMP: Labels = &[(0, "normal"), (1, "over-temperature"), (2, "untrusted state")];
const ABNORMAL: Labels = &[(0, "normal"), (1, "abnormal"), (2, "untrusted state")];
const PERMISSION: Labels = &[(0, "forbidden"), (1, "allowed")];
