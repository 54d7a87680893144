//! How far a charge may go: what the pile is not told, or does not understand, is watched here.

use crate::domain::command::Start;
use crate::domain::order::{Happening, Limits, Metered};
use crate::domain::{CommandError, OrderState, Serial};
use crate::session::Now;
use crate::session::io::Out;
use crate::session::state::Session;
use crate::session::translate::{wire_gun, wire_pile, wire_serial};
use crate::wire::{self, Frame};

impl Session {
    /// What is agreed of a start, if the pile can keep it.
    pub(in crate::session) fn agreed(&self, limits: Limits) -> Result<Option<Limits>, CommandError> {
        let version = self.pile.identity.protocol_version;
        if limits.max_power_w.is_some() && !self.speaks_v18() {
            return Err(CommandError::UnsupportedByPile { what: "power limit of a charge".into(), version });
        }
        Ok((!limits.is_none()).then_some(Limits { by_pile: self.speaks_v18(), ..limits }))
    }

    /// 0x34, or 0xA8 with what it has room for.
    pub(in crate::session) fn remote_start(&self, serial: Serial, start: &Start) -> Frame {
        let transaction_serial = wire_serial(serial);
        let (pile_code, gun_no) = (wire_pile(self.pile.code), wire_gun(start.gun));
        let logical_card = wire::Bcd(start.logical_card);
        let physical_card = wire::Opaque(start.physical_card);
        let balance = wire::Balance(start.balance_fen);
        if !self.speaks_v18() {
            return wire::RemoteStart { transaction_serial, pile_code, gun_no, logical_card, physical_card, balance }
                .into();
        }
        let Limits { amount: _, energy, duration_s: _, soc_percent, max_power_w, by_pile: _ } = start.limits;
        wire::RemoteStartV18 {
            transaction_serial,
            pile_code,
            gun_no,
            logical_card,
            physical_card,
            balance,
            max_power: wire::Kilowatts(max_power_w.map_or(0, |watts| (watts / 1000) as u16)),
            soc_limit: wire::Percent(soc_percent.unwrap_or(0)),
            energy_limit: wire::Energy(energy.map_or(0, |energy| energy.0 as u32)),
        }
        .into()
    }

    fn speaks_v18(&self) -> bool {
        self.pile.identity.protocol_version >= V18
    }

    /// A 0x13 has charged this order, and `before` was what the one before it had metered.
    pub(in crate::session) fn supervise(&mut self, now: Now, serial: Serial, before: Option<Metered>, out: &mut Out) {
        self.stop_at_limit(now, serial, out);
        let soon = self.policy.config.balance_low;
        let Some(held) = self.held(serial).filter(|held| held.order.state == OrderState::Charging) else { return };
        let eta = before.and_then(|before| held.order.balance_lasts_until(before));
        if let Some(eta) = eta.filter(|eta| !soon.is_zero() && *eta <= now.wall.plus_ms(soon.as_millis() as u64)) {
            self.happened(now, serial, Happening::BalanceRunsLow { eta }, out);
        }
    }

    /// 0x36, if it has come as far as it may.
    pub(in crate::session) fn stop_at_limit(&mut self, now: Now, serial: Serial, out: &mut Out) {
        let reached = self.held(serial).and_then(|held| held.order.limit_reached(now.wall));
        if let Some(cause) = reached {
            self.stop_by_itself(now, serial, cause, out);
        }
    }
}

/// The first protocol version with 0xA8.
const V18: u8 = 18;
