//! The events of the log.

use super::field::{self, Unreadable, bad, clock, clock_text, enumerated, enumeration, packed, required};
use super::{v1, vehicle};
use crate::domain::alarm::Alarm;
use crate::domain::event::OfflineReason;
use crate::domain::order::Change;
use crate::domain::{Event, EventKind, Gun, Pile, WallMs};

/// An event as it is in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredEvent {
    pub event: Event,
    /// It waited in a node's journal: what the log tells before it may have happened after it.
    pub late: bool,
}

/// What is read of an event whatever happened: also of a kind that only a newer pileway knows. Fields of [`v1::Event`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Envelope {
    /// When its author knew of it, unix milliseconds.
    #[prost(int64, tag = "2")]
    pub recorded_at_ms: i64,
    /// As [`StoredEvent::late`].
    #[prost(bool, tag = "10")]
    pub late: bool,
}

impl From<&Event> for v1::Event {
    fn from(event: &Event) -> Self {
        let Event { pile, recorded_at, pile_time, kind } = event;
        Self {
            pile: packed(&pile.bcd()),
            recorded_at_ms: recorded_at.0,
            pile_time: clock_text(*pile_time),
            kind: Some(kind.into()),
            // The author of an event does not know; [`super::late`] is what says so.
            late: false,
        }
    }
}

impl TryFrom<v1::Event> for StoredEvent {
    type Error = Unreadable;

    fn try_from(stored: v1::Event) -> Result<Self, Unreadable> {
        let v1::Event { pile, recorded_at_ms, pile_time, kind, late } = stored;
        let event = Event {
            pile: field::pile(&pile)?,
            recorded_at: WallMs(recorded_at_ms),
            pile_time: clock("pile_time", pile_time)?,
            // Also what an event of a newer pileway looks like.
            kind: required("kind", kind)?.try_into()?,
        };
        Ok(Self { event, late })
    }
}

impl From<&EventKind> for v1::event::Kind {
    fn from(kind: &EventKind) -> Self {
        let stored = |pile: &Pile| v1::Pile::from(pile);
        match kind {
            EventKind::PileOnline(pile) => Self::PileOnline(stored(pile)),
            EventKind::PileOffline { pile, reason } => {
                let reason = v1::OfflineReason::from(*reason).into();
                Self::PileOffline(v1::PileOffline { pile: Some(stored(pile)), reason })
            }
            EventKind::GunChanged(pile) => Self::GunChanged(stored(pile)),
            EventKind::AlarmRaised { pile, gun, alarm } => Self::AlarmRaised(alarm_changed(pile, *gun, alarm)),
            EventKind::AlarmCleared { pile, gun, alarm } => Self::AlarmCleared(alarm_changed(pile, *gun, alarm)),
            EventKind::DuplicatePileCode { pile, address, iccid } => {
                let (address, iccid) = (address.clone(), iccid.clone());
                Self::DuplicatePileCode(v1::DuplicatePileCode { pile: Some(stored(pile)), address, iccid })
            }
            EventKind::Order { order, change } => {
                let (change, anomaly) = change_numbers(*change);
                let order = Some(v1::Order::from(&**order));
                Self::Order(v1::OrderChanged { order, change: change.into(), anomaly: anomaly.into() })
            }
            EventKind::Bms { gun, serial, report, order } => Self::BmsReported(v1::BmsReported {
                gun: u32::from(gun.number()),
                serial: packed(&serial.bytes()),
                order: order.as_deref().map(Into::into),
                report: Some((&**report).into()),
            }),
            EventKind::RecordConflict { serial } => {
                Self::RecordConflict(v1::RecordConflict { serial: packed(&serial.bytes()) })
            }
        }
    }
}

impl TryFrom<v1::event::Kind> for EventKind {
    type Error = Unreadable;

    fn try_from(stored: v1::event::Kind) -> Result<Self, Unreadable> {
        use v1::event::Kind;
        let read = |pile: v1::Pile| Pile::try_from(pile).map(Box::new);
        Ok(match stored {
            Kind::PileOnline(pile) => Self::PileOnline(read(pile)?),
            Kind::PileOffline(v1::PileOffline { pile, reason }) => Self::PileOffline {
                pile: read(required("pile_offline.pile", pile)?)?,
                reason: enumerated::<v1::OfflineReason, _>("pile_offline.reason", reason)?,
            },
            Kind::GunChanged(pile) => Self::GunChanged(read(pile)?),
            Kind::AlarmRaised(changed) => {
                let (pile, gun, alarm) = read_alarm_changed(changed)?;
                Self::AlarmRaised { pile, gun, alarm }
            }
            Kind::AlarmCleared(changed) => {
                let (pile, gun, alarm) = read_alarm_changed(changed)?;
                Self::AlarmCleared { pile, gun, alarm }
            }
            Kind::DuplicatePileCode(v1::DuplicatePileCode { pile, address, iccid }) => {
                let pile = read(required("duplicate_pile_code.pile", pile)?)?;
                Self::DuplicatePileCode { pile, address, iccid }
            }
            Kind::Order(v1::OrderChanged { order, change, anomaly }) => Self::Order {
                order: Box::new(required("order.order", order)?.try_into()?),
                change: read_change(change, anomaly)?,
            },
            Kind::BmsReported(v1::BmsReported { gun, serial, order, report }) => Self::Bms {
                gun: field::gun(gun)?,
                serial: field::serial(&serial)?,
                report: Box::new(vehicle::report(report)?),
                order: order.map(|order| order.try_into().map(Box::new)).transpose()?,
            },
            Kind::RecordConflict(v1::RecordConflict { serial }) => {
                Self::RecordConflict { serial: field::serial(&serial)? }
            }
        })
    }
}

fn alarm_changed(pile: &Pile, gun: Gun, alarm: &Alarm) -> v1::AlarmChanged {
    v1::AlarmChanged { pile: Some(pile.into()), gun: u32::from(gun.number()), alarm: Some(alarm.into()) }
}

fn read_alarm_changed(stored: v1::AlarmChanged) -> Result<(Box<Pile>, Gun, Alarm), Unreadable> {
    let v1::AlarmChanged { pile, gun, alarm } = stored;
    let pile = Box::new(required("alarm.pile", pile)?.try_into()?);
    Ok((pile, field::gun(gun)?, required("alarm.alarm", alarm)?.try_into()?))
}

fn change_numbers(change: Change) -> (v1::OrderChange, v1::AnomalyKind) {
    let plain = |change| (change, v1::AnomalyKind::Unspecified);
    match change {
        Change::Created => plain(v1::OrderChange::Created),
        Change::WaitingForPlug => plain(v1::OrderChange::WaitingForPlug),
        Change::Accepted => plain(v1::OrderChange::Accepted),
        Change::Charging => plain(v1::OrderChange::Charging),
        Change::StopRequested => plain(v1::OrderChange::StopRequested),
        Change::RepeatStop => plain(v1::OrderChange::RepeatStop),
        Change::Finished => plain(v1::OrderChange::Finished),
        Change::Failed => plain(v1::OrderChange::Failed),
        Change::Anomaly(kind) => (v1::OrderChange::Anomaly, kind.into()),
        Change::Settled => plain(v1::OrderChange::Settled),
        Change::Closed => plain(v1::OrderChange::Closed),
        Change::StopPlanned => plain(v1::OrderChange::StopPlanned),
        Change::StopExpired => plain(v1::OrderChange::StopExpired),
        Change::BalanceLow => plain(v1::OrderChange::BalanceLow),
    }
}

fn read_change(change: i32, anomaly: i32) -> Result<Change, Unreadable> {
    Ok(match v1::OrderChange::try_from(change).map_err(|_| bad("order.change", change))? {
        v1::OrderChange::Created => Change::Created,
        v1::OrderChange::WaitingForPlug => Change::WaitingForPlug,
        v1::OrderChange::Accepted => Change::Accepted,
        v1::OrderChange::Charging => Change::Charging,
        v1::OrderChange::StopRequested => Change::StopRequested,
        v1::OrderChange::RepeatStop => Change::RepeatStop,
        v1::OrderChange::Finished => Change::Finished,
        v1::OrderChange::Failed => Change::Failed,
        v1::OrderChange::Anomaly => Change::Anomaly(enumerated::<v1::AnomalyKind, _>("order.anomaly", anomaly)?),
        v1::OrderChange::Settled => Change::Settled,
        v1::OrderChange::Closed => Change::Closed,
        v1::OrderChange::StopPlanned => Change::StopPlanned,
        v1::OrderChange::StopExpired => Change::StopExpired,
        v1::OrderChange::BalanceLow => Change::BalanceLow,
        v1::OrderChange::Unspecified => return required("order.change", None),
    })
}

enumeration!(OfflineReason, OfflineReason: Silent Disconnected NodeLost);
