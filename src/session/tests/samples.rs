//! What frames, starts and policies look like in these transcripts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::command::{GunStart, ParallelStart, Start};
use crate::domain::order::Limits;
use crate::domain::tariff::PricePair;
use crate::domain::units::UtcOffset;
use crate::domain::{EventKind, Gun, Period, PileCode, Price, RequestId, Serial, Tariff};
use crate::session::authority::Asking;
use crate::session::{Config, Policy};
use crate::wire::{self, Frame};

pub const PILE: &str = "32010600019236";

/// A start on gun 1 under request id `n`.
pub fn request(n: u8) -> Start {
    Start {
        gun: gun(1),
        request_id: RequestId::from_bytes([n; 16]),
        serial: None,
        order_id: format!("order {n}"),
        attributes: BTreeMap::new(),
        logical_card: [0; 8],
        physical_card: [0; 8],
        balance_fen: 10_000,
        limits: Limits::default(),
        expected_tariff: None,
    }
}

/// A start on both guns under request id `n`.
pub fn parallel_request(n: u8) -> ParallelStart {
    let Start { request_id, order_id, attributes, logical_card, physical_card, .. } = request(n);
    let guns = [1, 2].map(|number| GunStart {
        gun: gun(number),
        serial: None,
        balance_fen: 10_000 * u32::from(number),
        limits: Limits::default(),
    });
    ParallelStart { guns, request_id, order_id, attributes, logical_card, physical_card, expected_tariff: None }
}

pub fn policy(energy_price: u32) -> Arc<Policy> {
    let price = PricePair { energy: Price(energy_price), service: Price(40_000) };
    let tariff = Tariff { prices: [price; 4], half_hours: [Period::Flat; 48] };
    let offset = UtcOffset::parse("+08:00").expect("an offset");
    let (config, asking, curves_kept) = (Config::default(), Asking::default(), Duration::from_hours(48));
    Arc::new(Policy { config, tariff, offset, asking, admitting: None, curves_kept })
}

/// 0x01 of a DC pile.
pub fn login_request(guns: u8) -> Frame {
    login_of(guns, 16)
}

pub fn login_of(guns: u8, version: u64) -> Frame {
    frame(0x01, Serial::NONE, &[("gun_count", guns.into()), ("protocol_version", version)])
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

/// An event in a word.
pub fn name(event: &EventKind) -> &'static str {
    match event {
        EventKind::PileOnline(_) => "online",
        EventKind::PileOffline { .. } => "offline",
        EventKind::GunChanged(_) => "gun",
        EventKind::AlarmRaised { .. } => "alarm",
        EventKind::AlarmCleared { .. } => "no alarm",
        EventKind::Order { .. } => "order",
        EventKind::Bms { .. } => "bms",
        EventKind::RecordConflict { .. } => "conflict",
        EventKind::DuplicatePileCode { .. } => "duplicate",
    }
}
