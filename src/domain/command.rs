//! What a caller can ask of a pile, and every way it can end.

mod parallel;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use super::curve::Point;
use super::ids::{Gun, RequestId, Serial};
use super::order::{Close, Limits, Order, OrderState, StartRequest};
use super::pile::SessionSeen;
use super::telemetry::Telemetry;
use super::units::WallMs;

pub use parallel::{GunStart, ParallelStart};

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// 0x34 → 0x33
    StartCharging(Box<Start>),
    /// 0xA4 → 0xA3, one of each per gun
    StartParallelCharging(Box<ParallelStart>),
    /// 0x36 → 0x35
    StopCharging { serial: Serial },
    /// 0x42 → 0x41
    UpdateBalance(NewBalance),
    /// A stop that waits with the order until its pile is seen to charge it.
    StopAtLogin { serial: Serial, expires_at: WallMs },
    /// Ends an order whose record never comes; nothing goes to the pile.
    CloseOrder { serial: Serial, close: Box<Close> },
    /// The order as its session knows it, which may be ahead of what is stored; nothing goes to the pile.
    ReadOrder { serial: Serial },
    /// What the session has of a charge's curve and has not stored yet; nothing goes to the pile.
    ReadCurve { serial: Serial },
    /// The session itself, which only its node knows; nothing goes to the pile.
    ReadSession,
    /// 0x12 → 0x13
    ReadTelemetry { gun: Gun },
    /// 0x92 → 0x91
    Reboot { when: When },
    /// 0x56 → 0x55
    SyncClock,
    /// Ends the session and closes the connection unless other piles use it.
    Disconnect { when: When },
}

impl Command {
    /// Whether nothing is left undone or done twice if nobody knows what became of it.
    pub fn only_reads(&self) -> bool {
        match self {
            Self::ReadOrder { .. } | Self::ReadCurve { .. } | Self::ReadSession | Self::ReadTelemetry { .. } => true,
            Self::StartCharging(_)
            | Self::StartParallelCharging(_)
            | Self::StopCharging { .. }
            | Self::UpdateBalance(_)
            | Self::StopAtLogin { .. }
            | Self::CloseOrder { .. }
            | Self::Reboot { .. }
            | Self::SyncClock
            | Self::Disconnect { .. } => false,
        }
    }

    /// Whether something has to go to the pile, which must be there for it.
    pub fn needs_pile(&self) -> bool {
        match self {
            Self::StopAtLogin { .. } | Self::CloseOrder { .. } => false,
            // Whether a pile is there is part of the answer.
            Self::ReadOrder { .. }
            | Self::ReadCurve { .. }
            | Self::ReadSession
            | Self::ReadTelemetry { .. }
            | Self::StartCharging(_)
            | Self::StartParallelCharging(_)
            | Self::StopCharging { .. }
            | Self::UpdateBalance(_)
            | Self::Reboot { .. }
            | Self::SyncClock
            | Self::Disconnect { .. } => true,
        }
    }

    /// The order it is about, as far as its caller named one.
    pub fn serial(&self) -> Option<Serial> {
        match self {
            Self::StartCharging(start) => start.serial,
            Self::StartParallelCharging(start) => start.guns[0].serial,
            Self::UpdateBalance(update) => Some(update.serial),
            Self::StopCharging { serial }
            | Self::StopAtLogin { serial, .. }
            | Self::CloseOrder { serial, .. }
            | Self::ReadOrder { serial }
            | Self::ReadCurve { serial } => Some(*serial),
            Self::ReadSession
            | Self::ReadTelemetry { .. }
            | Self::Reboot { .. }
            | Self::SyncClock
            | Self::Disconnect { .. } => None,
        }
    }

    /// The metric label.
    pub fn name(&self) -> &'static str {
        match self {
            Self::StartCharging(_) => "start_charging",
            Self::StartParallelCharging(_) => "start_parallel_charging",
            Self::StopCharging { .. } => "stop_charging",
            Self::UpdateBalance(_) => "update_balance",
            Self::StopAtLogin { .. } => "stop_at_login",
            Self::CloseOrder { .. } => "close_order",
            Self::ReadOrder { .. } => "read_order",
            Self::ReadCurve { .. } => "read_curve",
            Self::ReadSession => "read_session",
            Self::ReadTelemetry { .. } => "read_telemetry",
            Self::Reboot { .. } => "reboot",
            Self::SyncClock => "sync_clock",
            Self::Disconnect { .. } => "disconnect",
        }
    }
}

/// Arguments of a start. With the same `request_id` it starts once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Start {
    pub gun: Gun,
    pub request_id: RequestId,
    /// The caller's own serial; otherwise one is made by the protocol's rule.
    pub serial: Option<Serial>,
    pub order_id: String,
    pub attributes: BTreeMap<String, String>,
    /// Shown on the pile; 16 digits packed, zero if none.
    pub logical_card: [u8; 8],
    /// The card that may stop the charge at the pile; zero if none.
    pub physical_card: [u8; 8],
    /// Account balance in 0.01 CNY; the pile stops when it is used up.
    pub balance_fen: u32,
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// Fingerprint of the tariff the pile must have confirmed before it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_tariff: Option<u64>,
}

impl Start {
    /// What a retry is known by: the same request_id must come with the same arguments.
    pub fn as_request(&self) -> StartRequest {
        StartRequest { id: self.request_id, arguments: self.arguments() }
    }

    /// Fingerprint of all arguments.
    pub fn arguments(&self) -> u64 {
        let mut h = fingerprint(&[]);
        let mut eat = |bytes: &[u8]| h = eaten(h, bytes);
        eat(&[self.gun.number()]);
        eat(&self.serial.map_or([0; 16], |s| s.bytes()));
        eat(self.order_id.as_bytes());
        for (key, value) in &self.attributes {
            eat(key.as_bytes());
            eat(value.as_bytes());
        }
        eat(&self.logical_card);
        eat(&self.physical_card);
        eat(&self.balance_fen.to_be_bytes());
        // What was not there before these were is still the same attempt.
        if !self.limits.is_none() {
            let Limits { amount, energy, duration_s, soc_percent, max_power_w, by_pile: _ } = self.limits;
            let numbers = [
                amount.map(|amount| amount.0.unsigned_abs()),
                energy.map(|energy| energy.0),
                duration_s.map(u64::from),
                soc_percent.map(u64::from),
                max_power_w.map(u64::from),
            ];
            for number in numbers {
                eat(&number.map_or([0xFF; 8], u64::to_be_bytes));
            }
        }
        if let Some(fingerprint) = self.expected_tariff {
            eat(&fingerprint.to_be_bytes());
        }
        h
    }
}

/// FNV-1a of all parts.
fn fingerprint(parts: &[&[u8]]) -> u64 {
    parts.iter().fold(0xcbf2_9ce4_8422_2325, |h, part| eaten(h, part))
}

fn eaten(h: u64, bytes: &[u8]) -> u64 {
    // The length first, so that ("ab", "c") and ("a", "bc") differ.
    let counted = (bytes.len() as u64).to_be_bytes();
    counted.iter().chain(bytes).fold(h, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// Arguments of a new balance during a charge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewBalance {
    pub serial: Serial,
    /// The new total in 0.01 CNY.
    pub fen: u32,
    /// Which the pile compares with the card it charges for; zero if it shall not.
    pub physical_card: [u8; 8],
}

impl Close {
    /// Whether it may end this order. One that has been closed before may be closed again, which changes nothing.
    pub fn check(&self, order: &Order, now: WallMs) -> Result<(), CommandError> {
        let (serial, state) = (order.serial, order.state.name().into());
        if order.closing.is_some() {
            Ok(())
        } else if matches!(order.state, OrderState::Settled | OrderState::ClosedWithoutRecord) {
            Err(CommandError::OrderNotActive { serial, state })
        } else if self.force || order.is_overdue(now) {
            Ok(())
        } else {
            Err(CommandError::OrderActive { serial, state })
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    Immediately,
    /// As soon as no gun charges. A reboot is left to the pile (0x92 value 2); a disconnect waits here.
    WhenIdle,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// STARTING, WAITING_FOR_PLUG, or further on if a retry joins a start that has gone on.
    Started(Box<Order>),
    /// Both orders of a start on two guns, by gun; one may say that it has failed.
    ParallelStarted(Box<[Order; 2]>),
    /// This request_id has been answered before; what became of it is in its order, or in the one it leads to and that
    /// of the other gun.
    StartedBefore {
        serial: Serial,
    },
    Stopped {
        order: Box<Order>,
        confirmed_by: StopProof,
    },
    BalanceUpdated(Box<Order>),
    /// The stop waits for the pile, durably.
    StopPlanned(Box<Order>),
    /// CLOSED_WITHOUT_RECORD, and durable; or SETTLED, if a record has come since it was closed.
    Closed(Box<Order>),
    /// `None`: it is not open here; what is stored is all there is.
    Order(Option<Box<Order>>),
    /// Oldest first; empty if there is none.
    Curve(Vec<Point>),
    Session(Box<SessionSeen>),
    Telemetry(Box<Telemetry>),
    RebootAccepted,
    Clock {
        pile_time: Option<DateTime>,
    },
    Disconnected,
}

/// How we know that the pile has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopProof {
    /// 0x35 said yes.
    Answer,
    /// The record came first.
    Record,
}

/// Why there is no reply. Each variant is one line of the API's error table.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandError {
    #[error("this pile has never logged in here")]
    PileUnknown,
    #[error("the pile has no live session; nothing was written")]
    PileOffline { last_seen: Option<WallMs> },
    #[error("the pile is busy: {why}")]
    PileBusy { why: Cow<'static, str>, retry_after: Option<Duration> },
    #[error("the pile said no: {name} (code {code:#04x} in frame {frame:#04x})")]
    PileRejected { frame: u8, code: u8, name: String },
    #[error("gun {gun} is in use by order {serial}")]
    GunBusy { gun: Gun, serial: Serial },
    #[error("the pile has guns 1 to {guns}, not {gun}")]
    GunUnknown { gun: Gun, guns: u8 },
    #[error("order {serial} is not active: {state}")]
    OrderNotActive { serial: Serial, state: Cow<'static, str> },
    #[error("order {serial} is not held by the pile's session")]
    OrderNotHeld { serial: Serial },
    #[error("order {serial} is {state}: its record is not overdue; close it by force if you know better")]
    OrderActive { serial: Serial, state: Cow<'static, str> },
    #[error("written to the pile, no answer within the deadline; the order or an event will tell")]
    OutcomeUnknown { serial: Option<Serial> },
    #[error("sent to the node that holds the pile, which went away; the order or an event will tell")]
    NodeLost { serial: Option<Serial> },
    #[error("the node that holds the pile cannot do this: {what}")]
    Unsupported { what: String },
    #[error("the pile speaks V{}.{}, which has no {what}", .version / 10, .version % 10)]
    UnsupportedByPile { what: Cow<'static, str>, version: u8 },
    #[error("tariff {expected:016x} is not what the pile bills with; ours is {current:016x}")]
    TariffNotCurrent { expected: u64, current: u64 },
    #[error("the deadline passed before anything was written")]
    DeadlinePassed,
    #[error("the session ended ({})", if *.written { "the command had been written" } else { "nothing was written" })]
    SessionLost { written: bool },
    #[error("the store cannot take the durable step now: {reason}")]
    StoreUnavailable { reason: String },
    #[error("request_id {id} was used before with other arguments")]
    RequestReused { id: RequestId },
    #[error("serial {serial} names an order that exists")]
    SerialTaken { serial: Serial },
}

impl CommandError {
    /// The metric label and, upper-cased, the API's reason.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PileUnknown => "pile_unknown",
            Self::PileOffline { .. } => "pile_offline",
            Self::PileBusy { .. } => "pile_busy",
            Self::PileRejected { .. } => "pile_rejected",
            Self::GunBusy { .. } => "gun_busy",
            Self::GunUnknown { .. } => "gun_unknown",
            Self::OrderNotActive { .. } => "order_not_active",
            Self::OrderNotHeld { .. } => "order_not_held",
            Self::OrderActive { .. } => "order_active",
            Self::OutcomeUnknown { .. } => "outcome_unknown",
            Self::NodeLost { .. } => "node_lost",
            Self::Unsupported { .. } => "unsupported",
            Self::UnsupportedByPile { .. } => "unsupported_by_pile",
            Self::TariffNotCurrent { .. } => "tariff_not_current",
            Self::DeadlinePassed => "deadline_passed",
            Self::SessionLost { .. } => "session_lost",
            Self::StoreUnavailable { .. } => "store_unavailable",
            Self::RequestReused { .. } => "request_reused",
            Self::SerialTaken { .. } => "serial_taken",
        }
    }
}
