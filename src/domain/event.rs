//! What happened and must not be lost.

use jiff::civil::DateTime;

use super::alarm::Alarm;
use super::ids::{Gun, PileCode, Serial};
use super::order::{Change, Order};
use super::pile::Pile;
use super::units::WallMs;
use super::vehicle::BmsReport;

/// An event as its author knows it; the store adds the position (pile, epoch, seq) that makes it unique.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    pub pile: PileCode,
    pub recorded_at: WallMs,
    /// The pile's own clock, where the frame behind the event said it.
    pub pile_time: Option<DateTime>,
    pub kind: EventKind,
}

/// Each carries the resource after the change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EventKind {
    PileOnline(Box<Pile>),
    PileOffline {
        pile: Box<Pile>,
        reason: OfflineReason,
    },
    /// A gun's state or fault word changed.
    GunChanged(Box<Pile>),
    /// A fault appeared in 0x13.
    AlarmRaised {
        pile: Box<Pile>,
        gun: Gun,
        alarm: Alarm,
    },
    /// A fault is gone from 0x13.
    AlarmCleared {
        pile: Box<Pile>,
        gun: Gun,
        alarm: Alarm,
    },
    Order {
        order: Box<Order>,
        change: Change,
    },
    /// What a vehicle or the charger says once of a charge (0x15, 0x17, 0x19, 0x1B, 0x1D, 0x21).
    Bms {
        gun: Gun,
        serial: Serial,
        report: Box<BmsReport>,
        /// After it; `None` if no order of this serial is open here.
        order: Option<Box<Order>>,
    },
    /// Two devices use one pile code, and one of them was turned away.
    DuplicatePileCode {
        /// As it is stored: mostly, of the other device.
        pile: Box<Pile>,
        /// Where the device that was turned away called from.
        address: String,
        /// Its SIM card, 20 hex digits.
        iccid: String,
    },
    /// A record that differs from the one that settled its order; kept beside it.
    RecordConflict {
        serial: Serial,
    },
}

impl EventKind {
    /// For a log: what it is, without what it holds – cards and VINs among it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PileOnline(_) => "pile_online",
            Self::PileOffline { .. } => "pile_offline",
            Self::GunChanged(_) => "gun_changed",
            Self::AlarmRaised { .. } => "alarm_raised",
            Self::AlarmCleared { .. } => "alarm_cleared",
            Self::Order { .. } => "order",
            Self::Bms { .. } => "bms",
            Self::DuplicatePileCode { .. } => "duplicate_pile_code",
            Self::RecordConflict { .. } => "record_conflict",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OfflineReason {
    /// No valid frame for 40 s on an open connection.
    Silent,
    /// The connection ended and the pile did not come back within 40 s.
    Disconnected,
    /// The run of the node that held it is over, and the pile did not come back, on whatever node.
    NodeLost,
}

impl OfflineReason {
    pub fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Disconnected => "disconnected",
            Self::NodeLost => "node_lost",
        }
    }
}
