//! Upkeep: restart, firmware, parking lock.

use super::charge::Outcome;
use super::field::{Ascii, GunIndex, MinutesShort, Opaque, Percent, PileCode, open_enum};
use super::table::frames;

frames! {
    /// State of a parking lock: at once on a change, else every 5 min.
    0x61 Up GroundLockStatus [16] {
        0  pile_code: PileCode,
        7  gun_no: GunIndex,
        8  lock_state: LockState,
        9  space_state: SpaceState,
        10 battery_percent: Percent,
        11 alarm: LockAlarm,
        12 reserved: Opaque<4>,
    }

    /// Raises or lowers a parking lock.
    0x62 Down GroundLockControl [13] {
        0  pile_code: PileCode,
        7  gun_no: GunIndex,
        8  command: LockCommand,
        9  reserved: Opaque<4>,
    }

    /// The answer to 0x62.
    0x63 Up GroundLockResponse [13] {
        0  pile_code: PileCode,
        7  gun_no: GunIndex,
        8  result: Outcome,
        9  reserved: Opaque<4>,
    }

    /// The answer to 0x92.
    0x91 Up RebootResponse [8] {
        0  pile_code: PileCode,
        7  result: Outcome,
    }

    /// Restarts the pile.
    0x92 Down Reboot [8] {
        0  pile_code: PileCode,
        7  when: When,
    }

    /// The answer to 0x94; by the document after the update, from many devices on receipt (A35).
    0x93 Up OtaResponse [8] {
        0  pile_code: PileCode,
        7  status: OtaStatus,
    }

    /// Fetches firmware by FTP. Port and power are little-endian (A35).
    0x94 Down OtaCommand [94] {
        0  pile_code: PileCode,
        7  pile_model: PileModel,
        8  pile_power: u16,
        10 server_address: Ascii<16>,
        26 server_port: u16,
        28 username: Ascii<16>,
        44 password: Ascii<16>,
        60 file_path: Ascii<32>,
        92 when: When,
        93 download_timeout: MinutesShort,
    }
}

open_enum! {
    /// When to do it.
    When {
        0x01 Immediately "immediately",
        0x02 WhenIdle "when idle",
    }

    /// Result of an update.
    OtaStatus {
        0x00 Success "success",
        0x01 WrongPileCode "wrong pile code",
        0x02 WrongModel "program does not match pile model",
        0x03 DownloadTimedOut "download timed out",
    }

    /// Kind of pile in 0x94; 0x01 numbers them differently, see `PileType` (A35).
    PileModel {
        0x01 Dc "DC",
        0x02 Ac "AC",
    }

    /// Position of a parking lock.
    LockState {
        0x00 NotInPosition "not in position",
        0x55 Raised "raised (locked)",
        0xFF Lowered "lowered (unlocked)",
    }

    /// Whether a vehicle stands on the space.
    SpaceState {
        0x00 Free "no vehicle",
        0xFF Parked "vehicle parked",
    }

    /// Alarm of a parking lock.
    LockAlarm {
        0x00 NoAlarm "no alarm",
        0xFF ArmDamaged "arm damaged while standing by",
        0x55 ArmBlocked "arm movement abnormal (not in position)",
    }

    /// What a parking lock shall do.
    LockCommand {
        0x55 Raise "raise",
        0xFF Lower "lower",
    }
}
