//! Piles, their sessions and what happens to them.

use super::{coded, integer, position, timestamp};
use crate::api::pb;
use crate::domain::alarm::Alarm;
use crate::domain::event::OfflineReason;
use crate::domain::pile::{GunState, GunStatus, Identity, Pile, Presence, SessionSeen, TariffOnPile};
use crate::domain::units::UtcOffset;
use crate::domain::{EventKind, Gun, PileCode, WallMs};
use crate::store::Stamped;

/// `live` is the pile's session, if it has one and that is known: it knows better when the pile was last seen.
pub fn pile(pile: Pile, live: Option<&SessionSeen>) -> pb::Pile {
    let Pile { code, identity, presence: there, presence_since, last_seen, first_seen, address, guns, tariff } = pile;
    let Identity { pile_type, gun_count, protocol_version, software_version, network_type, iccid, operator } = identity;
    let last_seen = live.map_or(last_seen, |live| live.last_seen.max(last_seen));
    pb::Pile {
        name: format!("piles/{code}"),
        pile: code.to_string(),
        pile_type: Some(coded(pile_type, PILE_TYPES)),
        gun_count: i32::from(gun_count),
        protocol_version: format!("{}.{}", protocol_version / 10, protocol_version % 10),
        software_version,
        iccid: if iccid.bytes().all(|digit| digit == b'0') { String::new() } else { iccid },
        network: Some(coded(network_type, NETWORKS)),
        operator: Some(coded(operator, OPERATORS)),
        presence: presence(there).into(),
        presence_since: Some(timestamp(presence_since)),
        first_seen: Some(timestamp(first_seen)),
        last_seen: Some(timestamp(last_seen)),
        address,
        guns: guns.into_iter().map(|status| gun(reachable(status, there, presence_since))).collect(),
        tariff: tariff_on_pile(tariff),
        session: live.map(session),
    }
}

/// What happened, if it is about the pile itself.
pub fn event(
    stamped: &Stamped,
    live: impl Fn(PileCode) -> Option<SessionSeen>,
    zone: UtcOffset,
) -> Option<pb::PileEvent> {
    let (change, reason, after) = match &stamped.event.kind {
        EventKind::PileOnline(pile) => (pb::PileChange::Online, None, pile),
        EventKind::PileOffline { pile, reason } => (pb::PileChange::Offline, Some(*reason), pile),
        EventKind::GunChanged(pile) => (pb::PileChange::Gun, None, pile),
        EventKind::AlarmRaised { pile, .. } => (pb::PileChange::AlarmRaised, None, pile),
        EventKind::AlarmCleared { pile, .. } => (pb::PileChange::AlarmCleared, None, pile),
        EventKind::DuplicatePileCode { pile, .. } => (pb::PileChange::DuplicateCode, None, pile),
        EventKind::Order { .. } | EventKind::Bms { .. } | EventKind::RecordConflict { .. } => return None,
    };
    let (duplicate, alarm) = match &stamped.event.kind {
        EventKind::DuplicatePileCode { pile: _, address, iccid } => {
            (Some(pb::DuplicatePile { address: address.clone(), iccid: iccid.clone() }), None)
        }
        EventKind::AlarmRaised { pile: _, gun, alarm } | EventKind::AlarmCleared { pile: _, gun, alarm } => {
            (None, Some(gun_alarm(*gun, *alarm)))
        }
        EventKind::PileOnline(_)
        | EventKind::PileOffline { .. }
        | EventKind::GunChanged(_)
        | EventKind::Order { .. }
        | EventKind::Bms { .. }
        | EventKind::RecordConflict { .. } => (None, None),
    };
    Some(pb::PileEvent {
        duplicate,
        alarm,
        position: Some(position(stamped, zone)),
        change: change.into(),
        offline_reason: reason.map_or(pb::OfflineReason::Unspecified, offline_reason).into(),
        pile: Some(pile(after.as_ref().clone(), live(after.code).as_ref())),
    })
}

pub fn presence(presence: Presence) -> pb::PilePresence {
    match presence {
        Presence::Online => pb::PilePresence::Online,
        Presence::Offline => pb::PilePresence::Offline,
    }
}

fn session(live: &SessionSeen) -> pb::PileSession {
    let SessionSeen { node, fence, connected_at, last_seen, address, frames, swapped_crc_frames, refused_frames } =
        live;
    pb::PileSession {
        session_id: fence.session.to_string(),
        epoch: integer(fence.epoch.0),
        connected_at: Some(timestamp(*connected_at)),
        last_seen: Some(timestamp(*last_seen)),
        address: address.clone(),
        frames: integer(*frames),
        swapped_crc_frames: integer(*swapped_crc_frames),
        refused_frames: integer(*refused_frames),
        node: node.clone(),
    }
}

/// What is stored is what the gun last did. While its pile is offline nobody knows that, and callers are told so.
fn reachable(status: GunStatus, there: Presence, since: WallMs) -> GunStatus {
    match (there, status.state) {
        (Presence::Online, _) | (Presence::Offline, GunState::Offline) => status,
        (Presence::Offline, _) => GunStatus { state: GunState::Offline, since: since.max(status.since), ..status },
    }
}

fn gun(status: GunStatus) -> pb::GunStatus {
    let GunStatus { gun, state, faults, since, alarms } = status;
    pb::GunStatus {
        gun: i32::from(gun.number()),
        state: gun_state(state).into(),
        fault_bits: i32::from(faults),
        since: Some(timestamp(since)),
        alarms: alarms.into_iter().map(|alarm| gun_alarm(gun, alarm)).collect(),
    }
}

/// A fault that stands, or stood.
pub fn gun_alarm(gun: Gun, alarm: Alarm) -> pb::GunAlarm {
    let Alarm { fault, raised_at } = alarm;
    pb::GunAlarm {
        gun: i32::from(gun.number()),
        fault: fault.name().to_owned(),
        fault_bit: i32::from(fault.bit()),
        raised_at: Some(timestamp(raised_at)),
    }
}

fn gun_state(state: GunState) -> pb::GunState {
    match state {
        GunState::Offline => pb::GunState::Offline,
        GunState::Idle => pb::GunState::Idle,
        GunState::Plugged => pb::GunState::Plugged,
        GunState::Starting => pb::GunState::Starting,
        GunState::Charging => pb::GunState::Charging,
        GunState::Finished => pb::GunState::Finished,
        GunState::Fault => pb::GunState::Fault,
        GunState::OutOfService => pb::GunState::OutOfService,
    }
}

fn tariff_on_pile(tariff: TariffOnPile) -> Option<pb::TariffOnPile> {
    // The fingerprint is ours alone: it names no tariff a caller could ask for.
    let TariffOnPile { fingerprint: _, number, confirmed } = tariff;
    (number != 0).then(|| pb::TariffOnPile { number: format!("{number:04x}"), confirmed })
}

fn offline_reason(reason: OfflineReason) -> pb::OfflineReason {
    match reason {
        OfflineReason::Silent => pb::OfflineReason::Silent,
        OfflineReason::Disconnected => pb::OfflineReason::Disconnected,
        OfflineReason::NodeLost => pb::OfflineReason::NodeLost,
    }
}

/// 0x01 `pile_type`.
const PILE_TYPES: &[(u8, &str)] = &[(0x00, "DC"), (0x01, "AC")];
/// 0x01 `network_type`.
const NETWORKS: &[(u8, &str)] = &[(0x00, "SIM card"), (0x01, "LAN"), (0x02, "WAN"), (0x03, "other")];
/// 0x01 `operator`; 0x01 is not assigned.
const OPERATORS: &[(u8, &str)] =
    &[(0x00, "China Mobile"), (0x02, "China Telecom"), (0x03, "China Unicom"), (0x04, "other")];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alarm::Fault;
    use crate::domain::{Epoch, Event, Fence, SessionId};
    use crate::store::Partition;

    fn example() -> Pile {
        Pile {
            code: "32010600019236".parse().expect("code"),
            identity: Identity { protocol_version: 16, operator: 1, gun_count: 2, ..Identity::default() },
            presence: Presence::Online,
            presence_since: WallMs(1000),
            last_seen: WallMs(2000),
            first_seen: WallMs(500),
            address: "127.0.0.1:4000".into(),
            guns: vec![GunStatus {
                gun: Gun::new(1).expect("gun"),
                state: GunState::Fault,
                faults: 0x8001,
                since: WallMs(1),
                alarms: vec![emergency()],
            }],
            tariff: TariffOnPile::default(),
        }
    }

    fn emergency() -> Alarm {
        Alarm { fault: Fault::EmergencyStop, raised_at: WallMs(77) }
    }

    fn stamped(kind: EventKind) -> Stamped {
        let event = Event { pile: example().code, recorded_at: WallMs(3000), pile_time: None, kind };
        Stamped { partition: Partition(0), offset: 1, epoch: Epoch(1), seq: 1, late: false, event }
    }

    #[test]
    fn an_alarm_is_told_with_the_pile_after_it() {
        let zone = UtcOffset::from_seconds(0).expect("zone");
        let (gun, alarm) = (Gun::new(1).expect("gun"), emergency());
        let expected = pb::GunAlarm {
            gun: 1,
            fault: "emergency_stop".into(),
            fault_bit: 0,
            raised_at: Some(timestamp(WallMs(77))),
        };
        let raised = stamped(EventKind::AlarmRaised { pile: Box::new(example()), gun, alarm });
        let told = event(&raised, |_| None, zone).expect("about the pile");
        assert_eq!((told.change(), &told.alarm), (pb::PileChange::AlarmRaised, &Some(expected.clone())));
        assert_eq!(told.pile.expect("after it").guns[0].alarms, std::slice::from_ref(&expected));
        let mut after = example();
        after.guns[0].alarms.clear();
        let cleared = stamped(EventKind::AlarmCleared { pile: Box::new(after), gun, alarm });
        let told = event(&cleared, |_| None, zone).expect("about the pile");
        assert_eq!((told.change(), told.alarm), (pb::PileChange::AlarmCleared, Some(expected)));
        assert_eq!(told.pile.expect("after it").guns[0].alarms, []);
    }

    #[test]
    fn a_pile_is_told_as_it_introduced_itself() {
        let told = pile(example(), None);
        assert_eq!(told.name, "piles/32010600019236");
        assert_eq!(told.protocol_version, "1.6");
        assert_eq!(told.pile_type, Some(pb::NamedCode { code: 0, name: "DC".into() }));
        assert_eq!(told.operator, Some(pb::NamedCode { code: 1, name: String::new() }), "unknown values survive");
        assert_eq!(told.guns[0].fault_bits, 0x8001);
        assert_eq!((told.tariff, told.session), (None, None));
        let tariff = TariffOnPile { fingerprint: 7, number: 0x02f0, confirmed: true };
        let told = pile(Pile { tariff, ..example() }, None);
        assert_eq!(told.tariff, Some(pb::TariffOnPile { number: "02f0".into(), confirmed: true }));
    }

    #[test]
    fn the_guns_of_an_offline_pile_are_offline() {
        let at = |gun, state, since| {
            let unheard = GunStatus::unheard(Gun::new(gun).expect("gun"), since);
            GunStatus { state, faults: 1, ..unheard }
        };
        let guns = vec![at(1, GunState::Charging, WallMs(1)), at(2, GunState::Offline, WallMs(2))];
        let away = Pile { presence: Presence::Offline, presence_since: WallMs(3000), guns, ..example() };
        let offline = |gun, since| pb::GunStatus {
            gun,
            state: pb::GunState::Offline.into(),
            fault_bits: 1,
            since: Some(timestamp(since)),
            alarms: vec![],
        };
        let expected = [offline(1, WallMs(3000)), offline(2, WallMs(2))];
        assert_eq!(pile(away.clone(), None).guns, expected);
        let kind = EventKind::PileOffline { pile: Box::new(away.clone()), reason: OfflineReason::Silent };
        let stamped = stamped(kind);
        let told = event(&stamped, |_| None, UtcOffset::from_seconds(0).expect("zone")).expect("about the pile");
        assert_eq!(told.pile.expect("after the change").guns, expected);
        let back = Pile { presence: Presence::Online, ..away };
        assert_eq!(pile(back, None).guns[0].state(), pb::GunState::Charging);
    }

    #[test]
    fn a_live_session_knows_better_when_the_pile_was_last_seen() {
        let live = SessionSeen {
            node: "a".into(),
            fence: Fence { session: SessionId { incarnation: 1, counter: 2 }, epoch: Epoch(9) },
            connected_at: WallMs(1500),
            last_seen: WallMs(3000),
            address: "127.0.0.1:4000".into(),
            frames: 3,
            swapped_crc_frames: 1,
            refused_frames: 0,
        };
        let told = pile(example(), Some(&live));
        assert_eq!(told.last_seen, Some(timestamp(WallMs(3000))));
        let session = told.session.expect("session");
        assert_eq!((session.session_id.as_str(), session.epoch), ("0000000000000001-2", 9));
        assert_eq!(session.node, "a");
    }
}
