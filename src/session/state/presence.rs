//! Whether a pile is there, and what its guns do.

use super::Session;
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
        let Some(status) = self.gun_status(gun) else { return };
        if status.state != state || status.faults != faults {
            *status = GunStatus { gun, state, faults, since: now.wall };
            self.jobs.pile_changed();
            self.event(now, None, EventKind::GunChanged(Box::new(self.pile.clone())));
        }
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
    let status = |gun| GunStatus { gun, state: GunState::Offline, faults: 0, since: now };
    let fresh = numbers.filter_map(|n| Gun::new(n).ok()).map(status);
    fresh.enumerate().map(|(n, new)| known.get(n).copied().unwrap_or(new)).collect()
}
