//! Settings: work parameters, power, clock, QR code.

use super::charge::Outcome;
use super::field::{
    CountedText, Cp56Time2a, GunIndex, GunNo, Kilowatts, Minutes, Percent, PileCode, TextToEnd, open_enum,
};
use super::table::frames;

frames! {
    /// The answer to 0x52.
    0x51 Up WorkParamsResponse [8] {
        0  pile_code: PileCode,
        7  result: Outcome,
    }

    /// Puts a pile out of service or limits its power, 30..=100 %; 0 % leaves it unchanged (A33).
    0x52 Down WorkParamsSet [9] {
        0  pile_code: PileCode,
        7  work_enable: WorkEnable,
        8  max_power_percent: Percent,
    }

    /// The answer to 0x56; some devices send zeros as time (A37).
    0x55 Up TimeSyncResponse [14] {
        0  pile_code: PileCode,
        7  time: Cp56Time2a,
    }

    /// Sets the pile's clock.
    0x56 Down TimeSync [14] {
        0  pile_code: PileCode,
        7  time: Cp56Time2a,
    }

    /// What the pile puts in front of its code in the QR code it shows.
    0xF0 Down QrPrefixSet [9..] {
        0  pile_code: PileCode,
        7  format: QrFormat,
        .. 8 [prefix_length] prefix: CountedText<1>,
    }

    /// The answer to 0xF0. Sources disagree on which value is success (A30).
    0xF1 Up QrPrefixResponse [8] {
        0  pile_code: PileCode,
        7  result: QrResult,
    }

    /// V1.8: limits the power of the running session of one gun (A33).
    0x52 Down PowerSetV18 ("v1.8") [13] {
        0  pile_code: PileCode,
        7  gun_no: GunNo,
        8  max_power: Kilowatts,
        10 priority: u8,
        11 duration: Minutes,
    }

    /// The answer to the V1.8 form of 0x52.
    0x51 Up PowerSetResponseV18 ("v1.8") [9] {
        0  pile_code: PileCode,
        7  gun_no: GunNo,
        8  result: Outcome,
    }

    /// V1.8: default power limit of one gun with a time window.
    0x60 Down DefaultPowerSet [24] {
        0  pile_code: PileCode,
        7  gun_no: GunNo,
        8  max_power: Kilowatts,
        10 start_time: Cp56Time2a,
        17 end_time: Cp56Time2a,
    }

    /// The answer to 0x60; same length as the dialect's 0x59, so it depends on what was sent (A31).
    0x59 Up DefaultPowerResponse [9] {
        0  pile_code: PileCode,
        7  gun_no: GunNo,
        8  result: Outcome,
    }

    /// Dialect: the whole QR text of one gun.
    0x5A Down QrSet5a ("qr_dialect") [8..] {
        0  pile_code: PileCode,
        7  gun_no: GunNo,
        .. 8 qr_text: TextToEnd,
    }

    /// Dialect: the answer to 0x5A, told from the answer to 0x60 by what was sent (A31).
    0x59 Up QrSetResponse59 ("qr_dialect") [9] {
        0  pile_code: PileCode,
        7  gun_no: GunNo,
        8  result: u8,
    }

    /// Dialect: the whole QR text of one gun, without a pile code.
    0x9C Down QrSet9c ("qr_dialect") [3..] {
        0  gun_no: GunIndex,
        .. 1 [qr_length] qr_text: CountedText<2>,
    }

    /// Dialect: the answer to 0x9C.
    0x9B Up QrSetResponse9b ("qr_dialect") [9] {
        0  pile_code: PileCode,
        7  gun_no: GunNo,
        8  result: u8,
    }
}

open_enum! {
    /// Whether a pile works; inverted, 0 is "works" (A33).
    WorkEnable {
        0x00 Normal "normal operation",
        0x01 OutOfService "out of service: lock the pile",
    }

    /// What the pile shows behind the prefix (A30).
    QrFormat {
        0x00 PrefixPile "QR text = prefix + pile code",
        0x01 PrefixPileGun "QR text = prefix + pile code + 2-digit gun number",
    }

    /// Result of a QR command; sources contradict each other (A30).
    QrResult {
        0x00 Zero "success (sample CRC, D-D, D-E, one vendor text) / failure (two texts)",
        0x01 One "error / success – see ambiguity A30",
    }
}
