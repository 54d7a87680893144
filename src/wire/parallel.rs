//! Parallel charging: one vehicle on two guns of a pile, one frame per gun.

use super::charge::{AuthFailure, Outcome, StartFailure, StartMode};
use super::field::{Balance, Bcd, GunNo, Opaque, PileCode, Serial, VinReversed, open_enum};
use super::live::YesNo;
use super::table::frames;

frames! {
    /// 0x31 for a vehicle on two guns, one frame per gun.
    0xA1 Up ParallelStartRequest [58] {
        0  pile_code: PileCode,
        7  gun_no: GunNo,
        8  start_mode: StartMode,
        9  need_password: YesNo,
        10 account_or_card: Opaque<8>,
        18 password: Opaque<16>,
        34 vin: VinReversed,
        51 gun_role: GunRole,
        52 parallel_no: Bcd<6>,
    }

    /// The answer to 0xA1.
    0xA2 Down ParallelStartConfirm [44] {
        0  transaction_serial: Serial,
        16 pile_code: PileCode,
        23 gun_no: GunNo,
        24 logical_card: Bcd<8>,
        32 balance: Balance,
        36 auth_result: Outcome,
        37 fail_reason: AuthFailure,
        38 parallel_no: Bcd<6>,
    }

    /// The answer to 0xA4, one frame per gun (A29).
    0xA3 Up ParallelRemoteStartResponse [33] {
        0  transaction_serial: Serial,
        16 pile_code: PileCode,
        23 gun_no: GunNo,
        24 start_result: Outcome,
        25 fail_reason: StartFailure,
        26 gun_role: GunRole,
        27 parallel_no: Bcd<6>,
    }

    /// 0x34 for a vehicle on two guns, one frame per gun (A29).
    0xA4 Down ParallelRemoteStart [50] {
        0  transaction_serial: Serial,
        16 pile_code: PileCode,
        23 gun_no: GunNo,
        24 logical_card: Bcd<8>,
        32 physical_card: Opaque<8>,
        40 balance: Balance,
        44 parallel_no: Bcd<6>,
    }
}

open_enum! {
    /// Which of the two guns of a parallel charge.
    GunRole {
        0x00 Main "main gun",
        0x01 Auxiliary "auxiliary gun",
    }
}
