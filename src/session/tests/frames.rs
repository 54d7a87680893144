//! Frames of the pile all these tests are about.

use crate::domain::{Gun, PileCode, Serial};
use crate::wire::{self, Frame};

pub const PILE: &str = "32010600019236";

/// 0x01 of a DC pile.
pub fn login_request(guns: u8) -> Frame {
    frame(0x01, Serial::NONE, &[("gun_count", guns.into()), ("protocol_version", 16)])
}

/// All zero but for pile code, serial and these fields.
pub fn frame(frame_code: u8, serial: Serial, fields: &[(&str, u64)]) -> Frame {
    let spec = wire::FRAMES.iter().find(|spec| spec.code == frame_code).expect("a known type");
    let mut body = vec![0; spec.min_body_len];
    let mut put = |field: &str, bytes: &[u8]| {
        let spec = spec.fields.iter().find(|spec| spec.name == field);
        let spec = spec.unwrap_or_else(|| panic!("{frame_code:#04x} has no {field}"));
        let len = spec.len.expect("a fixed field");
        body[spec.offset..spec.offset + len].copy_from_slice(&bytes[..len]);
    };
    put("pile_code", &code().bcd());
    if !serial.is_none() {
        put("transaction_serial", &serial.bytes());
    }
    for (field, value) in fields {
        put(field, &value.to_le_bytes());
    }
    Frame::decode_as(spec, &body).expect("a whole body").frame
}

pub fn code() -> PileCode {
    PILE.parse().expect("a pile code")
}

pub fn gun(number: u8) -> Gun {
    Gun::new(number).expect("a gun")
}

/// A serial nobody here gave out.
pub fn foreign(n: u8) -> Serial {
    Serial::from_bytes([0xF0, n, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
}

/// Where a field is in the body, and how long.
pub fn place(frame: &Frame, field: &str) -> (usize, usize) {
    let spec = frame.spec().fields.iter().find(|spec| spec.name == field);
    let spec = spec.unwrap_or_else(|| panic!("{} has no {field}", frame.spec().name));
    (spec.offset, spec.len.expect("a fixed field"))
}
