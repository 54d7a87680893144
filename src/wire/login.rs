//! Login and heartbeat.

use super::field::{Ascii, Bcd, GunNo, PileCode, ProtocolVersion, open_enum};
use super::table::frames;

frames! {
    /// First frame after every connect; nothing else before it is answered.
    0x01 Up LoginRequest [30] {
        0  pile_code: PileCode,
        7  pile_type: PileType,
        8  gun_count: u8,
        9  protocol_version: ProtocolVersion,
        10 software_version: Ascii<8>,
        18 network_type: NetworkType,
        19 sim_card: Bcd<10>,
        29 operator: Operator,
    }

    /// After a rejection the platform closes the connection.
    0x02 Down LoginResponse [8] {
        0  pile_code: PileCode,
        7  result: LoginResult,
    }

    /// Every 10 s; most piles send one per gun. Three missed answers and the pile reconnects.
    0x03 Up Heartbeat [9] {
        0  pile_code: PileCode,
        7  gun_no: GunNo,
        8  gun_status: GunHealth,
    }

    /// Echoes pile code, gun and sequence.
    0x04 Down HeartbeatResponse [9] {
        0  pile_code: PileCode,
        7  gun_no: GunNo,
        8  ack: u8,
    }
}

open_enum! {
    /// Kind of pile; 0x94 numbers them differently, see `PileModel`.
    PileType {
        0x00 Dc "DC",
        0x01 Ac "AC",
    }

    /// How the pile is connected.
    NetworkType {
        0x00 SimCard "SIM card",
        0x01 Lan "LAN",
        0x02 Wan "WAN",
        0x03 Other "other",
    }

    /// Whose SIM card it is; 0x01 is not assigned.
    Operator {
        0x00 ChinaMobile "China Mobile",
        0x02 ChinaTelecom "China Telecom",
        0x03 ChinaUnicom "China Unicom",
        0x04 Other "other",
    }

    /// Result of a login.
    LoginResult {
        0x00 Accepted "login accepted",
        0x01 Rejected "login rejected",
    }

    /// A gun's state in a heartbeat.
    GunHealth {
        0x00 Normal "normal",
        0x01 Fault "fault",
    }
}
