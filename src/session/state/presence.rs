//! Whether a pile is there, and what its guns do.

use super::Session;
use crate::domain::alarm::Alarm;
use crate::domain::event::OfflineReason;
use crate::domain::pile::{GunState, GunStatus, Identity, Presence, TariffOnPile};
use crate::domain::telemetry::{Live, Status};
use crate::domain::{EventKind, Gun, Pile, PileCode, WallMs};
use crate::session::Now;
use crate::session::device::host;
use crate::session::state::Phase;
use crate::session::translate::gun;
use crate::wire;

impl Session {
    pub(super) fn silent(&mut self, now: Now) {
        if self.fence().is_none() || self.pile.presence == Presence::Offline {
            return;
        }
        self.set_presence(now, Presence::Offline);
        // Until the pile is claimed, nobody knows what was told of it before.
        if matches!(self.phase, Phase::Live(_)) {
            let (pile, reason) = (Box::new(self.pile.clone()), OfflineReason::Silent);
            tracing::info!(pile = %self.pile.code, reason = reason.name(), "pile offline");
            self.event(now, None, EventKind::PileOffline { pile, reason });
        }
    }

    pub(super) fn heard(&mut self, now: Now) {
        if self.fence().is_none() || self.pile.presence == Presence::Online {
            return;
        }
        self.set_presence(now, Presence::Online);
        if matches!(self.phase, Phase::Live(_)) {
            tracing::info!(pile = %self.pile.code, "pile heard of again");
            self.event(now, None, EventKind::PileOnline(Box::new(self.pile.clone())));
        }
    }

    fn set_presence(&mut self, now: Now, presence: Presence) {
        self.pile.presence = presence;
        self.pile.presence_since = now.wall;
        self.jobs.pile_changed();
    }

    pub(in crate::session) fn gun(&self, number: wire::GunNo) -> Option<Gun> {
        gun(number, self.pile.identity.gun_count)
    }

    pub(super) fn gun_status(&mut self, gun: Gun) -> Option<&mut GunStatus> {
        self.pile.guns.iter_mut().find(|status| status.gun == gun)
    }

    pub(super) fn gun_state(&self, gun: Gun, live: &Live) -> GunState {
        match live.status {
            Status::Offline => GunState::Offline,
            Status::Fault => GunState::Fault,
            Status::Charging => GunState::Charging,
            Status::Idle | Status::Unknown(_) => self.resting_state(gun, live.gun_plugged),
        }
    }

    pub(super) fn set_gun(&mut self, now: Now, gun: Gun, state: GunState, faults: u16) {
        if self.change_gun(now, gun, state, faults) {
            self.gun_changed(now);
        }
    }

    /// What a 0x13 says of its gun: the state, and which faults stand. All of it is on the pile that each of the events
    /// carries.
    pub(super) fn report_gun(&mut self, now: Now, gun: Gun, state: GunState, faults: u16) {
        let room = Pile::MAX_ALARMS.saturating_sub(self.pile.alarms());
        let Some(status) = self.gun_status(gun) else { return };
        let (raised, cleared) = status.changed_alarms(faults, room, now.wall);
        status.alarms.retain(|alarm| !cleared.contains(alarm));
        status.alarms.extend(&raised);
        if self.change_gun(now, gun, state, faults) {
            self.gun_changed(now);
        }
        if raised.is_empty() && cleared.is_empty() {
            return;
        }
        self.jobs.pile_changed();
        self.tell_cleared(now, gun, cleared);
        for alarm in raised {
            tracing::info!(pile = %self.pile.code, %gun, fault = alarm.fault.name(), "alarm raised");
            let pile = Box::new(self.pile.clone());
            self.event(now, None, EventKind::AlarmRaised { pile, gun, alarm });
        }
    }

    /// Of guns the pile does not name any more, nothing stands either.
    pub(super) fn clear_alarms_of_lost(&mut self, now: Now, known: Vec<GunStatus>) {
        for GunStatus { gun, alarms, .. } in known.into_iter().skip(self.pile.guns.len()) {
            self.tell_cleared(now, gun, alarms);
        }
    }

    fn tell_cleared(&mut self, now: Now, gun: Gun, cleared: Vec<Alarm>) {
        for alarm in cleared {
            tracing::info!(pile = %self.pile.code, %gun, fault = alarm.fault.name(), "alarm cleared");
            let pile = Box::new(self.pile.clone());
            self.event(now, None, EventKind::AlarmCleared { pile, gun, alarm });
        }
    }

    fn change_gun(&mut self, now: Now, gun: Gun, state: GunState, faults: u16) -> bool {
        let Some(status) = self.gun_status(gun) else { return false };
        let changed = status.state != state || status.faults != faults;
        if changed {
            (status.state, status.faults, status.since) = (state, faults, now.wall);
        }
        changed
    }

    fn gun_changed(&mut self, now: Now) {
        self.jobs.pile_changed();
        self.event(now, None, EventKind::GunChanged(Box::new(self.pile.clone())));
    }
}

/// A pile nobody has met before.
pub(super) fn new_pile(code: PileCode, identity: Identity, address: String, now: WallMs) -> Pile {
    Pile {
        code,
        guns: guns(&identity, &[], now),
        identity,
        presence: Presence::Online,
        presence_since: now,
        last_seen: now,
        first_seen: now,
        address,
        tariff: TariffOnPile::default(),
    }
}

/// Whether `pile` need not be written: but for what changes with every connection, it is stored.
pub(super) fn says_the_same(stored: &Pile, pile: &Pile) -> bool {
    let same_host = host(&stored.address) == host(&pile.address);
    same_host && Pile { last_seen: pile.last_seen, address: pile.address.clone(), ..stored.clone() } == *pile
}

/// As many guns as 0x01 says, at least one; what is known of them is kept.
pub(super) fn guns(identity: &Identity, known: &[GunStatus], now: WallMs) -> Vec<GunStatus> {
    let numbers = 1..=identity.gun_count.max(1);
    let fresh = numbers.filter_map(|n| Gun::new(n).ok()).map(|gun| GunStatus::unheard(gun, now));
    fresh.enumerate().map(|(n, new)| known.get(n).cloned().unwrap_or(new)).collect()
}
