//! How far a charge may go, and how long what was paid for lasts.

use serde::{Deserialize, Serialize};

use super::{Change, Metered, Order, OrderState, StopCause};
use crate::domain::units::{Amount, Energy, WallMs};

/// What a caller wants a charge to end at, whichever comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Limits {
    pub amount: Option<Amount>,
    pub energy: Option<Energy>,
    /// Counted from the first 0x13 that charges, by our clock.
    pub duration_s: Option<u32>,
    pub soc_percent: Option<u8>,
    /// Only a pile can hold it.
    pub max_power_w: Option<u32>,
    /// Energy and SOC went out with the start (V1.8): the pile ends the charge at them by itself.
    pub by_pile: bool,
}

/// The balance will not last long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BalanceLow {
    /// When that was noticed.
    pub at: WallMs,
    /// When it will be used up, at the rate of the last two 0x13.
    pub eta: WallMs,
}

impl Limits {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Order {
    /// The limit a charge has reached that nobody but us ends it at.
    pub fn limit_reached(&self, now: WallMs) -> Option<StopCause> {
        if self.state != OrderState::Charging {
            return None;
        }
        let Limits { amount, energy, duration_s: _, soc_percent, max_power_w: _, by_pile } = self.limits?;
        let seen = |reached: &dyn Fn(&Metered) -> bool| self.last.as_ref().is_some_and(reached);
        if amount.is_some_and(|limit| seen(&|last| last.amount >= limit)) {
            Some(StopCause::LimitAmount)
        } else if !by_pile && energy.is_some_and(|limit| seen(&|last| last.energy >= limit)) {
            Some(StopCause::LimitEnergy)
        } else if !by_pile && soc_percent.is_some_and(|limit| seen(&|last| last.soc_percent >= limit)) {
            Some(StopCause::LimitSoc)
        } else if self.duration_due().is_some_and(|due| due <= now) {
            Some(StopCause::LimitDuration)
        } else {
            None
        }
    }

    /// When a charge has lasted as long as it may. Nothing but a 0x36 follows from it, so that it is nothing for
    /// [`Order::due`], which also counts for piles that are away.
    pub fn duration_due(&self) -> Option<WallMs> {
        let seconds = self.limits.and_then(|limits| limits.duration_s)?;
        let charging = self.charging_at.filter(|_| self.state == OrderState::Charging)?;
        Some(charging.plus_ms(u64::from(seconds) * 1000))
    }

    /// When the balance is used up if the charge goes on as between `before` and the last 0x13, or is already; `None` if
    /// nobody knows.
    pub fn balance_lasts_until(&self, before: Metered) -> Option<WallMs> {
        let (balance, last) = (i128::from(self.balance_fen?) * 100, self.last?);
        let left = balance - i128::from(last.amount.0);
        if left <= 0 {
            return Some(last.at);
        }
        let (spent, within) = (i128::from(last.amount.0) - i128::from(before.amount.0), last.at.since(before.at));
        if spent <= 0 || within < CLOSEST_MS {
            return None;
        }
        let ms = left * i128::from(within) / spent;
        Some(last.at.plus_ms(u64::try_from(ms).unwrap_or(u64::MAX / 2).min(LONG_MS)))
    }

    /// Once, until the balance changes.
    pub(super) fn balance_is_low(&mut self, now: WallMs, eta: WallMs) -> Vec<Change> {
        if self.balance_low.is_some() || self.state != OrderState::Charging {
            return vec![];
        }
        self.balance_low = Some(BalanceLow { at: now, eta });
        vec![Change::BalanceLow]
    }

    pub(super) fn balance_updated(&mut self, fen: u32) -> Vec<Change> {
        self.balance_fen = Some(fen);
        self.balance_low = None;
        vec![]
    }
}

/// Measurements closer to each other than this, as when one was asked for, say little of a rate.
const CLOSEST_MS: u64 = 5_000;
/// A year: longer than any charge.
const LONG_MS: u64 = 365 * 24 * 3_600_000;
