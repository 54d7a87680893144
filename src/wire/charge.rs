//! Starting, stopping and billing a charge.

use super::field::{
    Amount, Ascii, Balance, Bcd, Cp56Time2a, Energy, GunNo, Kilowatts, MeterEnergy, Opaque, Percent, PileCode, Price,
    Serial, VinReversed, open_enum,
};
use super::live::YesNo;
use super::table::frames;

frames! {
    /// Somebody swiped a card or plugged in a car with a VIN: may it charge?
    0x31 Up StartRequest [51] {
        0  pile_code: PileCode,
        7  gun_no: GunNo,
        8  start_mode: StartMode,
        9  need_password: YesNo,
        10 account_or_card: Opaque<8>,
        18 password: Opaque<16>,
        34 vin: VinReversed,
    }

    /// The answer to 0x31.
    0x32 Down StartConfirm [38] {
        0  transaction_serial: Serial,
        16 pile_code: PileCode,
        23 gun_no: GunNo,
        24 logical_card: Bcd<8>,
        32 balance: Balance,
        36 auth_result: Outcome,
        37 fail_reason: AuthFailure,
    }

    /// The answer to 0x34; a second one may follow when the gun is plugged in late (A23).
    0x33 Up RemoteStartResponse [26] {
        0  transaction_serial: Serial,
        16 pile_code: PileCode,
        23 gun_no: GunNo,
        24 start_result: Outcome,
        25 fail_reason: StartFailure,
    }

    /// Starts charging from the app.
    0x34 Down RemoteStart [44] {
        0  transaction_serial: Serial,
        16 pile_code: PileCode,
        23 gun_no: GunNo,
        24 logical_card: Bcd<8>,
        32 physical_card: Opaque<8>,
        40 balance: Balance,
    }

    /// The answer to 0x36; nobody may wait for it (A24).
    0x35 Up RemoteStopResponse [10] {
        0  pile_code: PileCode,
        7  gun_no: GunNo,
        8  stop_result: Outcome,
        9  fail_reason: StopFailure,
    }

    /// Stops charging; closes the order at once.
    0x36 Down RemoteStop [8] {
        0  pile_code: PileCode,
        7  gun_no: GunNo,
    }

    /// The bill of one charge (V1.5, V1.6), repeated until 0x40.
    0x3B Up TransactionRecord [158] {
        0   transaction_serial: Serial,
        16  pile_code: PileCode,
        23  gun_no: GunNo,
        24  start_time: Cp56Time2a,
        31  end_time: Cp56Time2a,
        38  sharp_unit_price: Price,
        42  sharp_energy: Energy,
        46  sharp_loss_energy: Energy,
        50  sharp_amount: Amount,
        54  peak_unit_price: Price,
        58  peak_energy: Energy,
        62  peak_loss_energy: Energy,
        66  peak_amount: Amount,
        70  flat_unit_price: Price,
        74  flat_energy: Energy,
        78  flat_loss_energy: Energy,
        82  flat_amount: Amount,
        86  valley_unit_price: Price,
        90  valley_energy: Energy,
        94  valley_loss_energy: Energy,
        98  valley_amount: Amount,
        102 meter_start: MeterEnergy,
        107 meter_end: MeterEnergy,
        112 total_energy: Energy,
        116 total_loss_energy: Energy,
        120 total_amount: Amount,
        124 vin: Ascii<17>,
        141 start_type: StartType,
        142 trade_time: Cp56Time2a,
        149 stop_reason: StopReason,
        150 physical_card: Opaque<8>,
    }

    /// The record is stored; also acknowledges 0x3F and 0x3D.
    0x40 Down TransactionRecordAck [17] {
        0  transaction_serial: Serial,
        16 result: RecordResult,
    }

    /// The answer to 0x42.
    0x41 Up BalanceUpdateResponse [16] {
        0  pile_code: PileCode,
        7  physical_card: Opaque<8>,
        15 result: BalanceResult,
    }

    /// A new balance during a charge, after a top-up.
    0x42 Down BalanceUpdate [20] {
        0  pile_code: PileCode,
        7  gun_no: GunNo,
        8  physical_card: Opaque<8>,
        16 new_balance: Balance,
    }

    /// The record of V1.4: meter readings of four bytes.
    0x3F Up TransactionRecordV14 [156] {
        0   transaction_serial: Serial,
        16  pile_code: PileCode,
        23  gun_no: GunNo,
        24  start_time: Cp56Time2a,
        31  end_time: Cp56Time2a,
        38  sharp_unit_price: Price,
        42  sharp_energy: Energy,
        46  sharp_loss_energy: Energy,
        50  sharp_amount: Amount,
        54  peak_unit_price: Price,
        58  peak_energy: Energy,
        62  peak_loss_energy: Energy,
        66  peak_amount: Amount,
        70  flat_unit_price: Price,
        74  flat_energy: Energy,
        78  flat_loss_energy: Energy,
        82  flat_amount: Amount,
        86  valley_unit_price: Price,
        90  valley_energy: Energy,
        94  valley_loss_energy: Energy,
        98  valley_amount: Amount,
        102 meter_start: Energy,
        106 meter_end: Energy,
        110 total_energy: Energy,
        114 total_loss_energy: Energy,
        118 total_amount: Amount,
        122 vin: Ascii<17>,
        139 start_type: StartType,
        140 trade_time: Cp56Time2a,
        147 stop_reason: StopReason,
        148 physical_card: Opaque<8>,
    }

    /// The record of V1.7: meter evidence in front of the prices.
    0x3D Up TransactionRecordV17 [201] {
        0   transaction_serial: Serial,
        16  pile_code: PileCode,
        23  gun_no: GunNo,
        24  start_time: Cp56Time2a,
        31  end_time: Cp56Time2a,
        38  meter_no: Bcd<6>,
        44  meter_cipher: Opaque<34>,
        78  meter_protocol_version: Opaque<2>,
        80  meter_encryption: u8,
        81  sharp_unit_price: Price,
        85  sharp_energy: Energy,
        89  sharp_loss_energy: Energy,
        93  sharp_amount: Amount,
        97  peak_unit_price: Price,
        101 peak_energy: Energy,
        105 peak_loss_energy: Energy,
        109 peak_amount: Amount,
        113 flat_unit_price: Price,
        117 flat_energy: Energy,
        121 flat_loss_energy: Energy,
        125 flat_amount: Amount,
        129 valley_unit_price: Price,
        133 valley_energy: Energy,
        137 valley_loss_energy: Energy,
        141 valley_amount: Amount,
        145 meter_start: MeterEnergy,
        150 meter_end: MeterEnergy,
        155 total_energy: Energy,
        159 total_loss_energy: Energy,
        163 total_amount: Amount,
        167 vin: Ascii<17>,
        184 start_type: StartType,
        185 trade_time: Cp56Time2a,
        192 stop_reason: StopReason,
        193 physical_card: Opaque<8>,
    }

    /// Replaces 0x31, same body.
    0xA5 Up StartRequestV18 [51] {
        0  pile_code: PileCode,
        7  gun_no: GunNo,
        8  start_mode: StartMode,
        9  need_password: YesNo,
        10 account_or_card: Opaque<8>,
        18 password: Opaque<16>,
        34 vin: VinReversed,
    }

    /// Replaces 0x32, with limits; 0 means none.
    0xA6 Down StartConfirmV18 [45] {
        0  transaction_serial: Serial,
        16 pile_code: PileCode,
        23 gun_no: GunNo,
        24 logical_card: Bcd<8>,
        32 balance: Balance,
        36 max_power: Kilowatts,
        38 soc_limit: Percent,
        39 energy_limit: Energy,
        43 auth_result: Outcome,
        44 fail_reason: AuthFailure,
    }

    /// Replaces 0x33, same body.
    0xA7 Up RemoteStartResponseV18 [26] {
        0  transaction_serial: Serial,
        16 pile_code: PileCode,
        23 gun_no: GunNo,
        24 start_result: Outcome,
        25 fail_reason: StartFailure,
    }

    /// Replaces 0x34, with limits; 0 means none.
    0xA8 Down RemoteStartV18 [51] {
        0  transaction_serial: Serial,
        16 pile_code: PileCode,
        23 gun_no: GunNo,
        24 logical_card: Bcd<8>,
        32 physical_card: Opaque<8>,
        40 balance: Balance,
        44 max_power: Kilowatts,
        46 soc_limit: Percent,
        47 energy_limit: Energy,
    }
}

open_enum! {
    /// How a charge is asked for at the pile.
    StartMode {
        0x01 Card "card",
        0x02 Account "account (declared but not supported)",
        0x03 Vin "VIN",
    }

    /// Success or failure; note that 0 is failure.
    Outcome {
        0x00 Failure "failure",
        0x01 Success "success",
    }

    /// Why a start request was refused. Typed BCD in the document, but a plain byte (A22).
    AuthFailure {
        0x00 None "none (not in the table; send it on success)",
        0x01 NoSuchAccount "account does not exist",
        0x02 AccountFrozen "account frozen",
        0x03 InsufficientBalance "insufficient balance",
        0x04 CardUnsettled "card has an unsettled record",
        0x05 PileDisabled "pile disabled",
        0x06 NotOnThisPile "account may not charge on this pile",
        0x07 WrongPassword "wrong password",
        0x08 NoCapacity "station capacity insufficient",
        0x09 VinUnknown "VIN unknown to the system",
        0x0A PileUnsettled "pile has an unsettled record",
        0x0B NoCardCharging "pile does not support card charging",
    }

    /// Why a remote start failed (A22).
    StartFailure {
        0x00 None "none",
        0x01 WrongPileCode "pile code does not match",
        0x02 AlreadyCharging "gun already charging",
        0x03 EquipmentFault "equipment fault",
        0x04 EquipmentOffline "equipment offline",
        0x05 NotPluggedIn "gun not plugged in",
    }

    /// Why a remote stop failed.
    StopFailure {
        0x00 None "none",
        0x01 WrongPileCode "pile code does not match",
        0x02 NotCharging "gun is not charging",
        0x03 Other "other",
    }

    /// How a charge was started, in the record. Piles send others: 0x03 for VIN, 0x09 (A28).
    StartType {
        0x01 App "app",
        0x02 Card "card",
        0x04 OfflineCard "offline card",
        0x05 Vin "VIN",
    }

    /// What became of a record. 0x01 is not known to make a pile keep or drop it (A27).
    RecordResult {
        0x00 UploadAccepted "upload accepted",
        0x01 IllegalRecord "illegal record",
    }

    /// Result of a balance update.
    BalanceResult {
        0x00 Updated "updated",
        0x01 WrongPileCode "wrong pile code",
        0x02 WrongCardNumber "wrong card number",
    }

    /// Why a charge ended, in the record. 0x00 and vendor codes above 0x90 occur (A28).
    StopReason {
        0x40 FinishedByApp "Finished: stopped remotely from the app",
        0x41 FinishedFull "Finished: SOC reached 100 %",
        0x42 FinishedEnergy "Finished: energy target reached",
        0x43 FinishedAmount "Finished: amount target reached",
        0x44 FinishedTime "Finished: time target reached",
        0x45 FinishedByHand "Finished: stopped manually at the pile",
        0x46 FinishedOther46 "Finished: other (reserved)",
        0x47 FinishedOther47 "Finished: other (reserved)",
        0x48 FinishedOther48 "Finished: other (reserved)",
        0x49 FinishedOther49 "Finished: other (reserved)",
        0x4A StartFailedPileControlSystemFault "Start failed: pile control system fault (needs reboot or recovers by itself)",
        0x4B StartFailedControlPilotDisconnected "Start failed: control pilot disconnected",
        0x4C StartFailedCircuitBreakerTripped "Start failed: circuit breaker tripped",
        0x4D StartFailedMeterCommunicationLost "Start failed: meter communication lost",
        0x4E StartFailedInsufficientBalance "Start failed: insufficient balance",
        0x4F StartFailedChargingModuleFault "Start failed: charging module fault",
        0x50 StartFailedEmergencyStopActive "Start failed: emergency stop active",
        0x51 StartFailedSurgeArresterAbnormal "Start failed: surge arrester abnormal",
        0x52 StartFailedBmsNotReady "Start failed: BMS not ready",
        0x53 StartFailedTemperatureAbnormal "Start failed: temperature abnormal",
        0x54 StartFailedBatteryReversePolarity "Start failed: battery reverse polarity",
        0x55 StartFailedElectronicLockAbnormal "Start failed: electronic lock abnormal",
        0x56 StartFailedContactorDidNotClose "Start failed: contactor did not close",
        0x57 StartFailedInsulationAbnormal "Start failed: insulation abnormal",
        0x58 StartFailedReserved58 "Start failed: reserved",
        0x59 StartFailedNoBhm "Start failed: timeout waiting for BMS handshake (BHM)",
        0x5A StartFailedNoBrm "Start failed: timeout waiting for BMS/vehicle identification (BRM)",
        0x5B StartFailedNoBcp "Start failed: timeout waiting for battery charge parameters (BCP)",
        0x5C StartFailedNoBro "Start failed: timeout waiting for BMS ready (BRO AA)",
        0x5D StartFailedNoBcs "Start failed: timeout waiting for battery charge status (BCS)",
        0x5E StartFailedNoBcl "Start failed: timeout waiting for battery charge demand (BCL)",
        0x5F StartFailedNoBsm "Start failed: timeout waiting for battery state (BSM)",
        0x60 StartFailedBatteryVoltageInBhm "Start failed: GB2015 – battery voltage present during BHM phase",
        0x61 StartFailedBatteryVoltageDiffers "Start failed: GB2015 – at BRO_AA the real battery voltage differs from BCP by more than 5 %",
        0x62 StartFailedBroFellBack "Start failed: GB2015 – BRO_AA fell back to BRO_00 during pre-charge",
        0x63 StartFailedNoHostConfiguration "Start failed: timeout waiting for the host configuration message",
        0x64 StartFailedChargerNotReady "Start failed: charger not ready, CRO AA not sent (old GB)",
        0x65 StartFailedOther65 "Start failed: other (reserved)",
        0x66 StartFailedOther66 "Start failed: other (reserved)",
        0x67 StartFailedOther67 "Start failed: other (reserved)",
        0x68 StartFailedOther68 "Start failed: other (reserved)",
        0x69 StartFailedOther69 "Start failed: other (reserved)",
        0x6A AbortedSystemLocked "Aborted: system locked",
        0x6B AbortedControlPilotDisconnected "Aborted: control pilot disconnected",
        0x6C AbortedCircuitBreakerTripped "Aborted: circuit breaker tripped",
        0x6D AbortedMeterCommunicationLost "Aborted: meter communication lost",
        0x6E AbortedInsufficientBalance "Aborted: insufficient balance",
        0x6F AbortedAcProtectionTripped "Aborted: AC protection tripped",
        0x70 AbortedDcProtectionTripped "Aborted: DC protection tripped",
        0x71 AbortedChargingModuleFault "Aborted: charging module fault",
        0x72 AbortedEmergencyStop "Aborted: emergency stop",
        0x73 AbortedSurgeArresterAbnormal "Aborted: surge arrester abnormal",
        0x74 AbortedTemperatureAbnormal "Aborted: temperature abnormal",
        0x75 AbortedOutputAbnormal "Aborted: output abnormal",
        0x76 AbortedNoChargingCurrent "Aborted: no charging current",
        0x77 AbortedElectronicLockAbnormal "Aborted: electronic lock abnormal",
        0x78 AbortedReserved78 "Aborted: reserved",
        0x79 AbortedTotalChargeVoltageAbnormal "Aborted: total charge voltage abnormal",
        0x7A AbortedTotalChargeCurrentAbnormal "Aborted: total charge current abnormal",
        0x7B AbortedCellChargeVoltageAbnormal "Aborted: cell charge voltage abnormal",
        0x7C AbortedBatteryPackOverTemperature "Aborted: battery pack over temperature",
        0x7D AbortedHighestCellVoltageAbnormal "Aborted: highest cell voltage abnormal",
        0x7E AbortedHighestPackOverTemperature "Aborted: highest pack over temperature",
        0x7F AbortedBmvCellVoltageAbnormal "Aborted: BMV cell voltage abnormal",
        0x80 AbortedBmtPackOverTemperature "Aborted: BMT pack over temperature",
        0x81 AbortedBatteryStateAbnormal "Aborted: battery state abnormal",
        0x82 AbortedVehicleForbadeCharging "Aborted: vehicle forbade charging",
        0x83 AbortedPileLostPower "Aborted: pile lost power",
        0x84 AbortedNoBcs "Aborted: timeout of battery charge status (BCS)",
        0x85 AbortedNoBcl "Aborted: timeout of battery charge demand (BCL)",
        0x86 AbortedNoBsm "Aborted: timeout of battery state (BSM)",
        0x87 AbortedNoBst "Aborted: timeout of BMS stop message (BST)",
        0x88 AbortedNoBsd "Aborted: timeout of BMS statistics (BSD)",
        0x89 AbortedNoCcs "Aborted: timeout of the opposite side's CCS message",
        0x8A AbortedOther8a "Aborted: other (reserved)",
        0x8B AbortedOther8b "Aborted: other (reserved)",
        0x8C AbortedOther8c "Aborted: other (reserved)",
        0x8D AbortedOther8d "Aborted: other (reserved)",
        0x8E AbortedOther8e "Aborted: other (reserved)",
        0x8F AbortedOther8f "Aborted: other (reserved)",
        0x90 UnknownReason "Stopped for an unknown reason",
    }
}
