//! An order: one charge from its start request to its settled bill.
//!
//! ```text
//!  REQUESTED ──0x33 ok──▶ STARTING ──0x13 charging──▶ CHARGING ──stop──▶ STOPPING ──end──▶ FINISHED ──record──▶ SETTLED
//!     │ ▲ reason 5  └0x32 ok──┤                          │                  │                 │
//!     │ WAITING_FOR_PLUG      │                          └────── rule ──────┴── broken ───────┴──▶ ABNORMAL ──record──▶ SETTLED
//!     └──── no / timeout ─────┴──▶ FAILED  (a record that still comes settles it)
//!
//!  any that owes a record that never comes ──CloseOrder──▶ CLOSED_WITHOUT_RECORD ──record after all──▶ SETTLED
//! ```
//!
//! A record settles an order in any state; SETTLED is absorbing. Every rule of time is a deadline derived from what is
//! stored ([`Order::due`]), so that it survives a restart, and its breach is reported once. The types are here, the
//! transitions in [`machine`], ending without a record in [`closing`], stops that wait for the pile in [`plan`],
//! how far a charge may go in [`limits`], what two guns of one vehicle owe each other in [`parallel`].

mod machine;
mod closing;
mod plan;
mod limits;
mod parallel;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::driver::AtPile;
use super::ids::{Gun, PileCode, RequestId, Serial};
use super::record::{Bill, Record};
use super::tariff::Tariff;
use super::units::{Amount, Energy, WallMs};
use super::vehicle::Vehicle;

pub use closing::{Close, Closing, ClosingSource, RecordAfterClose};
pub use limits::{BalanceLow, Limits};
pub use parallel::{Parallel, vehicle_no};
pub use plan::StopAtLogin;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// Durable; 0x34 is on its way or unanswered, or 0x32 is on its way.
    Requested,
    /// The pile said "not plugged in" (0x33 reason 5) and starts if that changes in time.
    WaitingForPlug,
    /// The pile said yes, or was told yes; no energy seen yet.
    Starting,
    Charging,
    /// 0x36 was sent.
    Stopping,
    /// The pile has ended the charge; its record is due.
    Finished,
    /// A supervised rule was broken; the record may still come.
    Abnormal,
    /// The start did not come about.
    Failed,
    /// The pile's record is durable.
    Settled,
    /// An operator ended the order whose record never came.
    ClosedWithoutRecord,
}

impl OrderState {
    pub const ALL: [Self; 10] = [
        Self::Requested,
        Self::WaitingForPlug,
        Self::Starting,
        Self::Charging,
        Self::Stopping,
        Self::Finished,
        Self::Abnormal,
        Self::Failed,
        Self::Settled,
        Self::ClosedWithoutRecord,
    ];

    /// An open order occupies its gun and is loaded by the pile's next owner.
    pub fn is_open(self) -> bool {
        match self {
            Self::Requested
            | Self::WaitingForPlug
            | Self::Starting
            | Self::Charging
            | Self::Stopping
            | Self::Finished
            | Self::Abnormal => true,
            Self::Failed | Self::Settled | Self::ClosedWithoutRecord => false,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::WaitingForPlug => "waiting_for_plug",
            Self::Starting => "starting",
            Self::Charging => "charging",
            Self::Stopping => "stopping",
            Self::Finished => "finished",
            Self::Abnormal => "abnormal",
            Self::Failed => "failed",
            Self::Settled => "settled",
            Self::ClosedWithoutRecord => "closed_without_record",
        }
    }
}

/// Who made the order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// StartCharging, StartParallelCharging.
    Platform,
    /// The pile charges, or bills, under a serial nobody here gave out.
    Pile,
    /// Somebody swiped a card: 0x31, 0xA1 or 0xA5.
    Card,
    /// The same by the vehicle's VIN.
    Vin,
    /// The pile knew the card, and started without asking: it bills under a serial it made itself.
    OfflineCard,
}

impl Origin {
    /// Who began what nobody here gave a serial for, as the pile says in `start_type`.
    pub fn of_record(record: &Record) -> Self {
        match record.start_type {
            2 => Self::Card,
            4 => Self::OfflineCard,
            5 => Self::Vin,
            _ => Self::Pile,
        }
    }

    /// The pile asked, and was told yes: there is no 0x33.
    pub fn is_confirmed(self) -> bool {
        match self {
            Self::Card | Self::Vin => true,
            Self::Platform | Self::Pile | Self::OfflineCard => false,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Order {
    pub pile: PileCode,
    pub gun: Gun,
    pub serial: Serial,
    pub state: OrderState,
    pub origin: Origin,
    /// The caller's own name for the order; may be empty.
    pub order_id: String,
    /// The caller's own facts, at most 1 KiB.
    pub attributes: BTreeMap<String, String>,
    pub request: Option<StartRequest>,
    /// What was shown and granted, if it was started at the pile.
    pub at_pile: Option<Box<AtPile>>,
    pub created_at: WallMs,
    pub updated_at: WallMs,
    /// When the pile said yes (0x33), or was told yes (0x32, 0xA2, 0xA6).
    pub accepted_at: Option<WallMs>,
    pub plug_deadline: Option<WallMs>,
    /// First 0x13 that charges under this serial.
    pub charging_at: Option<WallMs>,
    pub stop: Option<Stop>,
    /// When the pile was seen to have ended the charge.
    pub ended_at: Option<WallMs>,
    pub settled_at: Option<WallMs>,
    pub failure: Option<Failure>,
    pub anomalies: Vec<Anomaly>,
    /// What the pile billed with, as far as we know: the tariff we had given it when the order began.
    pub tariff: Option<Tariff>,
    pub last: Option<Metered>,
    /// 0x13 frames that called the gun idle since it last charged.
    pub idle_seen: u8,
    pub bill: Option<Bill>,
    /// What the vehicle and the charger said once; DC charges only.
    pub vehicle: Option<Box<Vehicle>>,
    /// How an operator ended it; stays when a record settles it after all.
    #[serde(default)]
    pub closing: Option<Closing>,
    /// What a record that came after the closing says beyond it.
    #[serde(default)]
    pub record_after_close: Option<RecordAfterClose>,
    /// A stop that waits for the pile.
    #[serde(default)]
    pub stop_at_login: Option<StopAtLogin>,
    /// The account's balance as the pile was last told and has not refused it, in 0.01 CNY; `None` if nobody here told it.
    #[serde(default)]
    pub balance_fen: Option<u32>,
    /// That it will soon be used up; `None` again when it is raised.
    #[serde(default)]
    pub balance_low: Option<BalanceLow>,
    #[serde(default)]
    pub limits: Option<Limits>,
    /// The vehicle's other gun, if a caller has started it on two.
    #[serde(default)]
    pub parallel: Option<Parallel>,
}

/// What the caller of StartCharging sent along, so that a retry can be told from a new wish.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StartRequest {
    pub id: RequestId,
    /// Fingerprint of all arguments.
    pub arguments: u64,
}

/// The state of stopping an order by 0x36.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stop {
    pub requested_at: WallMs,
    pub last_sent_at: WallMs,
    pub sent: u8,
    /// The gun charged this serial after `last_sent_at`.
    pub still_charging: bool,
    /// Who wanted it first.
    #[serde(default)]
    pub cause: StopCause,
    /// The other gun of its vehicle had not come about when this was decided, so that this one should not have either:
    /// its yes counts for nothing.
    #[serde(default)]
    pub takes_back: bool,
}

/// Why a charge is stopped by 0x36.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// StopCharging.
    #[default]
    Caller,
    /// It had failed, and charges after all.
    LateStart,
    /// StopCharging while its pile was away.
    AtLogin,
    LimitAmount,
    LimitEnergy,
    LimitDuration,
    LimitSoc,
    /// The other gun of its vehicle is stopped, or has not started.
    OtherGun,
}

impl StopCause {
    pub const ALL: [Self; 8] = [
        Self::Caller,
        Self::LateStart,
        Self::AtLogin,
        Self::LimitAmount,
        Self::LimitEnergy,
        Self::LimitDuration,
        Self::LimitSoc,
        Self::OtherGun,
    ];
}

/// Why a start did not come about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// 0x33 or 0xA3 said no.
    Rejected { code: u8, name: String },
    /// "Not plugged in", and nobody plugged in within 60 s.
    NotPluggedIn,
    /// No answer and no charging within 90 s, or it was stopped before either came.
    NoStart,
    /// The record of a start that failed on the pile.
    FailedOnPile { code: u8, name: String },
    /// The deadline passed, or the store failed, before what opens it could be written; or the start at the pile was
    /// called off.
    NotSent,
}

/// A breach of a supervised rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Anomaly {
    pub kind: AnomalyKind,
    pub at: WallMs,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyKind {
    /// No 0x33, or no charging 0x13, within 90 s of the start request.
    StartTimeout,
    /// Two idle 0x13 in mid-charge.
    IdleWhileCharging,
    /// Still charging after three repeated 0x36.
    StopNotObeyed,
    /// No record within 30 s of the end.
    RecordOverdue,
    /// A failed order charges after all.
    LateStart,
    /// A serial nobody here gave out.
    UnknownSerial,
    /// A second record of the same serial that says something else.
    RecordConflict,
    /// The audit of the record found something: [`Bill::audit`].
    BillMismatch,
    /// The record of an order that had been closed without one.
    RecordAfterClose,
}

impl AnomalyKind {
    pub const ALL: [Self; 9] = [
        Self::StartTimeout,
        Self::IdleWhileCharging,
        Self::StopNotObeyed,
        Self::RecordOverdue,
        Self::LateStart,
        Self::UnknownSerial,
        Self::RecordConflict,
        Self::BillMismatch,
        Self::RecordAfterClose,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::StartTimeout => "start_timeout",
            Self::IdleWhileCharging => "idle_while_charging",
            Self::StopNotObeyed => "stop_not_obeyed",
            Self::RecordOverdue => "record_overdue",
            Self::LateStart => "late_start",
            Self::UnknownSerial => "unknown_serial",
            Self::RecordConflict => "record_conflict",
            Self::BillMismatch => "bill_mismatch",
            Self::RecordAfterClose => "record_after_close",
        }
    }
}

/// What 0x13 last metered for this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Metered {
    pub at: WallMs,
    pub energy: Energy,
    pub amount: Amount,
    pub soc_percent: u8,
}

/// What can happen to an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Happening {
    /// 0x33 said yes.
    Accepted,
    /// The pile was told yes: 0x32, 0xA2 or 0xA6 goes out.
    Confirmed,
    /// The pile will not charge under it although it was told yes: it asks anew, or another gun of the vehicle is denied.
    CalledOff,
    /// 0x33 said no.
    Rejected { code: u8, name: String },
    /// 0x13 charges under this serial.
    Charging(Metered),
    /// 0x13 calls the order's gun idle.
    Idle,
    /// 0x19: the charge has ended.
    ChargeEnded,
    /// It is to be stopped; 0x36 goes out.
    StopRequested(StopCause),
    /// The same, because the other gun of its vehicle has not come about.
    TakenBack,
    /// 0x35 said yes.
    StopAccepted,
    /// The record is about to be made durable.
    Recorded(Box<Record>),
    /// A record under this serial differs from the one that settled it.
    ConflictingRecord,
    /// What opens it was never written and never will be.
    NotSent,
    /// An operator ends it without its record.
    Closed(Box<Close>),
    /// It is to be stopped as soon as its pile is seen to charge it, until `expires_at`.
    StopPlanned { expires_at: WallMs },
    /// 0x41: the pile has taken a new balance.
    BalanceUpdated { fen: u32 },
    /// At this rate the balance lasts until then, which is soon.
    BalanceRunsLow { eta: WallMs },
    /// Time has passed, of which only a planned stop knows.
    PlanExpires,
    /// Time has passed.
    Tick,
}

/// What became of it: each is one event, and `RepeatStop` is one more 0x36.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    Created,
    WaitingForPlug,
    Accepted,
    Charging,
    StopRequested,
    RepeatStop,
    Finished,
    Failed,
    Anomaly(AnomalyKind),
    Settled,
    Closed,
    /// The pile is away; it will be stopped when it is seen to charge again.
    StopPlanned,
    /// The pile has not been seen to charge in time.
    StopExpired,
    BalanceLow,
}

impl Order {
    /// A start the platform wants.
    pub fn requested(pile: PileCode, gun: Gun, serial: Serial, now: WallMs) -> Self {
        Self {
            pile,
            gun,
            serial,
            state: OrderState::Requested,
            origin: Origin::Platform,
            order_id: String::new(),
            attributes: BTreeMap::new(),
            request: None,
            at_pile: None,
            created_at: now,
            updated_at: now,
            accepted_at: None,
            plug_deadline: None,
            charging_at: None,
            stop: None,
            ended_at: None,
            settled_at: None,
            failure: None,
            anomalies: Vec::new(),
            tariff: None,
            last: None,
            idle_seen: 0,
            bill: None,
            vehicle: None,
            closing: None,
            record_after_close: None,
            stop_at_login: None,
            balance_fen: None,
            balance_low: None,
            limits: None,
            parallel: None,
        }
    }

    /// An order first met by its bill. That of an offline card is met in no other way: nothing is wrong with it.
    pub fn billed(record: &Record, now: WallMs) -> Self {
        let mut order = Self::adopted(record.pile, record.gun, record.serial, now);
        if Origin::of_record(record) == Origin::OfflineCard {
            order.anomalies.clear();
        }
        order
    }

    /// An order first met on the pile: it charges, or bills, a serial nobody here gave out. Adopted, never stopped.
    pub fn adopted(pile: PileCode, gun: Gun, serial: Serial, now: WallMs) -> Self {
        let mut order = Self::requested(pile, gun, serial, now);
        order.origin = Origin::Pile;
        order.anomalies.push(Anomaly { kind: AnomalyKind::UnknownSerial, at: now });
        order
    }

    /// Whether it says of its beginning what `other`, the same order, does.
    pub fn knows_beginning_of(&self, other: &Self) -> bool {
        (self.request, &self.at_pile) == (other.request, &other.at_pile)
    }

    /// It was found by its serial, and `other` is the same order with how it began: that is taken on, and what has
    /// happened since stays. Whether that changes anything.
    pub fn learns_beginning(&mut self, other: &Self) -> bool {
        if self.request.is_some() || self.at_pile.is_some() || self.knows_beginning_of(other) {
            return false;
        }
        (self.origin, self.created_at) = (other.origin, other.created_at);
        self.order_id.clone_from(&other.order_id);
        self.attributes.clone_from(&other.attributes);
        (self.request, self.parallel) = (other.request, other.parallel);
        self.at_pile.clone_from(&other.at_pile);
        self.accepted_at = other.accepted_at.or(self.accepted_at);
        self.charging_at = other.charging_at.or(self.charging_at);
        self.tariff = other.tariff.clone().or(self.tariff.take());
        (self.balance_fen, self.limits) = (self.balance_fen.or(other.balance_fen), self.limits.or(other.limits));
        true
    }
}

#[cfg(test)]
mod tests;
