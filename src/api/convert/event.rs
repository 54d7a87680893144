//! Events of the log as callers see them.

use super::{gap, integer, order, pile, pile_time, timestamp, vehicle};
use crate::api::pb;
use crate::domain::units::UtcOffset;
use crate::domain::{EventKind, PileCode, WallMs};
use crate::groups::{Delivery, Lag, PartitionLag};
use crate::store::document::{ConsumerId, EventCursor, Group, GroupStart, StoredEvent, read_stored_event};
use crate::store::{Entry, Position, Replayed};
use pb::event::Kind;
use pb::subscribe_response::Update;

/// What its cursors are good for: the log, and groups that were delivered it.
pub const CURSOR: &str = "events";

/// One message of a subscription.
pub fn delivery(delivery: Delivery, zone: UtcOffset) -> pb::SubscribeResponse {
    let update = match delivery {
        Delivery::Event { entry, position, birth, lease } => {
            let cursor = EventCursor { positions: vec![(entry.partition, position)], lease: Some((birth, lease)) };
            Update::Event(event(&entry, &cursor, zone).0)
        }
        Delivery::Gap(missing) => Update::Gap(gap(missing)),
    };
    pb::SubscribeResponse { update: Some(update) }
}

pub fn joined(consumer: ConsumerId, group: &Group, created: bool) -> pb::SubscribeResponse {
    let joined = pb::Joined {
        consumer: consumer_name(consumer),
        group: group.name.clone(),
        created,
        start: start(group.start).0.into(),
    };
    pb::SubscribeResponse { update: Some(Update::Joined(joined)) }
}

/// An entry of the log, to resume behind it; and its kind, unless it is one of a newer release.
pub fn listed(entry: &Entry, zone: UtcOffset) -> (pb::Event, pb::EventKind) {
    let at = crate::store::recorded_at(entry, WallMs(0));
    let cursor = EventCursor { positions: vec![(entry.partition, Position::behind(entry, at))], lease: None };
    event(entry, &cursor, zone)
}

/// A page of the log. `about` is what its page token is good for.
pub fn page(replayed: Replayed<pb::Event>, about: &str) -> pb::ListEventsResponse {
    let Replayed { items, gaps, behind, ended } = replayed;
    let cursor = EventCursor { positions: behind, lease: None };
    pb::ListEventsResponse {
        events: items,
        next_page_token: if ended { String::new() } else { cursor.seal(about) },
        cursor: cursor.seal(CURSOR),
        gaps: gaps.into_iter().map(gap).collect(),
    }
}

pub fn group(group: Group) -> pb::EventGroup {
    let Group {
        name,
        birth: _,
        created_at,
        start: began,
        starts: _,
        consumers,
        assigned,
        idle_since,
        lapsed,
        // One that is deleted is told to nobody.
        deleted: _,
    } = group;
    let (began, start_time) = start(began);
    let consumer = |id: ConsumerId| pb::EventConsumer {
        consumer: consumer_name(id),
        partitions: assigned.iter().filter(|whose| **whose == Some(id)).count() as i32,
    };
    pb::EventGroup {
        group: name,
        created_at: Some(timestamp(created_at)),
        start: began.into(),
        start_time: start_time.map(timestamp),
        consumers: consumers.into_iter().map(consumer).collect(),
        idle_since: idle_since.map(timestamp),
        lapsed,
    }
}

pub fn lag(lag: Lag) -> pb::GetLagResponse {
    let Lag { group: of, partitions } = lag;
    let one = |PartitionLag { partition, unacknowledged, oldest, holder }| pb::PartitionLag {
        partition: i32::from(partition.0),
        unacknowledged: integer(unacknowledged),
        oldest_recorded_at: oldest.map(timestamp),
        consumer: holder.map(consumer_name).unwrap_or_default(),
    };
    pb::GetLagResponse {
        group: Some(group(of)),
        unacknowledged: integer(partitions.iter().map(|lag| lag.unacknowledged).sum()),
        partitions: partitions.into_iter().map(one).collect(),
    }
}

pub fn consumer_name(ConsumerId { incarnation, number }: ConsumerId) -> String {
    format!("{incarnation:016x}-{number}")
}

pub fn to_consumer(name: &str) -> Option<ConsumerId> {
    let (incarnation, number) = name.split_once('-')?;
    let id = ConsumerId { incarnation: u64::from_str_radix(incarnation, 16).ok()?, number: number.parse().ok()? };
    (consumer_name(id) == name).then_some(id)
}

fn start(start: GroupStart) -> (pb::GroupStart, Option<WallMs>) {
    match start {
        GroupStart::Earliest => (pb::GroupStart::Earliest, None),
        GroupStart::Now => (pb::GroupStart::Now, None),
        GroupStart::Time(at) => (pb::GroupStart::Time, Some(at)),
    }
}

fn event(entry: &Entry, cursor: &EventCursor, zone: UtcOffset) -> (pb::Event, pb::EventKind) {
    let Entry { partition, offset: _, pile, epoch, seq, payload } = entry;
    let event_id = format!("{pile}-{}-{seq}", epoch.0);
    let bare = pb::Event {
        pile: pile.to_string(),
        partition: i32::from(partition.0),
        epoch: integer(epoch.0),
        seq: integer(*seq),
        cursor: cursor.seal(CURSOR),
        ..pb::Event::default()
    };
    let bare = pb::Event { event_id: event_id.clone(), ..bare };
    let StoredEvent { event, late } = match read_stored_event(&event_id, payload) {
        Ok(read) => read,
        Err(error) => {
            tracing::warn!(%error, "an event cannot be read: callers are told that it is there");
            return (bare, pb::EventKind::Unspecified);
        }
    };
    let (name, kind) = kind(*pile, event.kind, zone);
    let told = pb::Event {
        recorded_at: Some(timestamp(event.recorded_at)),
        pile_time: event.pile_time.map(|local| pile_time(local, zone)),
        late,
        kind: Some(kind),
        ..bare
    };
    (told, name)
}

/// Every kind of event there is, and the name of its filter.
fn kind(of: PileCode, kind: EventKind, zone: UtcOffset) -> (pb::EventKind, Kind) {
    let pile = |pile: crate::domain::Pile| Some(pile::pile(pile, None));
    match kind {
        EventKind::PileOnline(after) => {
            (pb::EventKind::PileOnline, Kind::PileOnline(pb::PileOnline { pile: pile(*after) }))
        }
        EventKind::PileOffline { pile: after, reason } => {
            let reason = pile::offline_reason(reason).into();
            (pb::EventKind::PileOffline, Kind::PileOffline(pb::PileOffline { pile: pile(*after), reason }))
        }
        EventKind::GunChanged(after) => {
            (pb::EventKind::GunChanged, Kind::GunChanged(pb::GunChanged { pile: pile(*after) }))
        }
        EventKind::DuplicatePileCode { pile: after, address, iccid } => {
            let duplicate = Some(pb::DuplicatePile { address, iccid });
            let told = pb::DuplicatePileCode { pile: pile(*after), duplicate };
            (pb::EventKind::DuplicatePileCode, Kind::DuplicatePileCode(told))
        }
        EventKind::AlarmRaised { pile: after, gun, alarm } => {
            let alarm = Some(pile::gun_alarm(gun, alarm));
            (pb::EventKind::AlarmRaised, Kind::AlarmRaised(pb::AlarmRaised { pile: pile(*after), alarm }))
        }
        EventKind::AlarmCleared { pile: after, gun, alarm } => {
            let alarm = Some(pile::gun_alarm(gun, alarm));
            (pb::EventKind::AlarmCleared, Kind::AlarmCleared(pb::AlarmCleared { pile: pile(*after), alarm }))
        }
        EventKind::Bms { gun, serial, report, order: after } => {
            let report = Some(vehicle::reported(of, gun, serial, *report));
            let told = pb::VehicleReported { report, order: after.map(|after| order::order(*after, zone)) };
            (pb::EventKind::VehicleReported, Kind::VehicleReported(told))
        }
        EventKind::Order { order: after, change } => {
            let (change, anomaly) = order::change_and_anomaly(change);
            let told = pb::OrderChanged {
                change: change.into(),
                anomaly: anomaly.into(),
                order: Some(order::order(*after, zone)),
            };
            (pb::EventKind::OrderChanged, Kind::OrderChanged(told))
        }
        EventKind::RecordConflict { serial } => {
            let told = pb::RecordConflict { serial: serial.to_string() };
            (pb::EventKind::RecordConflict, Kind::RecordConflict(told))
        }
    }
}

/// The order's serial, if the event is of one.
pub fn serial_of(event: &pb::Event) -> Option<&str> {
    match event.kind.as_ref()? {
        Kind::OrderChanged(changed) => changed.order.as_ref().map(|order| order.serial.as_str()),
        Kind::RecordConflict(conflict) => Some(&conflict.serial),
        Kind::VehicleReported(reported) => reported.report.as_ref().map(|report| report.serial.as_str()),
        Kind::PileOnline(_)
        | Kind::PileOffline(_)
        | Kind::GunChanged(_)
        | Kind::DuplicatePileCode(_)
        | Kind::AlarmRaised(_)
        | Kind::AlarmCleared(_) => None,
    }
}
