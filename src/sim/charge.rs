//! One charge: the meter, and the bill with an arithmetic of its own. Integers only.

use std::sync::Arc;

use super::clock::Clock;
use super::vehicle::{Flow, Vehicle};
use crate::domain::tariff::Tariff;
use crate::wire::{Bcd, Opaque, Serial, StartType, StopReason};

/// What the platform – or the pile itself, offline – has agreed to.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) serial: Serial,
    pub(super) start_type: StartType,
    pub(super) card: Opaque<8>,
    /// 0.0001 CNY.
    pub(super) balance: u64,
    /// W.
    pub(super) max_power: Option<u32>,
    /// 0.1 %.
    pub(super) soc_limit: Option<u32>,
    /// 0.0001 kWh.
    pub(super) energy_limit: Option<u64>,
    /// The number of a parallel charge: both its guns have it.
    pub(super) parallel: Option<Bcd<6>>,
}

/// A running charge.
#[derive(Debug)]
pub(super) struct Charge {
    pub(super) order: Order,
    pub(super) vehicle: Vehicle,
    /// The tariff of the start: a new one does not touch a running charge.
    tariff: Arc<Tariff>,
    loss_percent: u8,
    /// Local civil milliseconds.
    pub(super) started: i64,
    started_sim: u64,
    /// Integrated up to here, simulated milliseconds.
    upto: u64,
    /// Energy by price class, 0.0001 kWh.
    energy: [u64; 4],
    /// What is metered but fills no 0.0001 kWh yet, in mJ.
    carry: u64,
}

/// A bill: price, energy and amount of each class, in the units of the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bill {
    /// Energy price + service price, 0.00001 CNY/kWh.
    pub unit_prices: [u32; 4],
    /// 0.0001 kWh.
    pub energies: [u64; 4],
    /// 0.0001 kWh, with the tariff's loss ratio added: what is billed.
    pub loss_energies: [u64; 4],
    /// 0.0001 CNY.
    pub amounts: [u64; 4],
}

impl Charge {
    /// `loss_percent` is the loss ratio that came with the tariff.
    pub(super) fn new(
        order: Order,
        vehicle: Vehicle,
        (tariff, loss_percent): (Arc<Tariff>, u8),
        clock: &Clock,
        sim: u64,
    ) -> Self {
        let started = clock.local(sim);
        Self { order, vehicle, tariff, loss_percent, started, started_sim: sim, upto: sim, energy: [0; 4], carry: 0 }
    }

    /// Meters up to the simulated instant `to`, the pile giving at most `limit` W. Ends early, at the exact moment, when the
    /// balance is spent, a limit is reached or the battery is full.
    pub(super) fn advance(&mut self, clock: &Clock, to: u64, limit: u32) -> Option<StopReason> {
        let limit = self.order.max_power.map_or(limit, |max| max.min(limit));
        // The curve is followed in small steps, but a long span of time does not take for ever.
        let step = (to.saturating_sub(self.upto) / 64).clamp(1_000, 60_000);
        while self.upto < to {
            let local = clock.local(self.upto);
            let class = self.tariff.half_hours[half_hour(local)].index();
            let in_half_hour = (HALF_HOUR - local.rem_euclid(HALF_HOUR)).unsigned_abs();
            let span = step.min(to - self.upto).min(in_half_hour);
            let metered = self.carry + self.flow(limit).watts() * span;
            let units = metered / MJ_PER_UNIT;
            if let Some((units_left, reason)) = self.end_within(class, units) {
                self.energy[class] += units_left;
                self.carry = 0;
                self.upto += (span * units_left).checked_div(units).unwrap_or(0);
                return Some(reason);
            }
            self.energy[class] += units;
            self.carry = metered % MJ_PER_UNIT;
            self.upto += span;
        }
        None
    }

    /// Whether something ends the charge while `units` more are metered in a class: after how many of them, and why.
    fn end_within(&self, class: usize, units: u64) -> Option<(u64, StopReason)> {
        let total = self.total_energy();
        let full = (self.vehicle.energy_to(1000), StopReason::FinishedFull);
        let soc = self.order.soc_limit.map(|soc| (self.vehicle.energy_to(soc), StopReason::FinishedOther46));
        let energy = self.order.energy_limit.map(|energy| (energy, StopReason::FinishedEnergy));
        let (target, reason) =
            [Some(full), soc, energy].into_iter().flatten().min_by_key(|(energy, _)| *energy).unwrap_or(full);
        let energy_ends = (total + units >= target).then(|| (target.saturating_sub(total), reason));
        let within = energy_ends.map_or(units, |(left, _)| left);
        let cost = |units: u64| {
            let mut energy = self.energy;
            energy[class] += units;
            amounts(&self.tariff, with_loss(self.loss_percent, energy)).iter().sum::<u64>()
        };
        if cost(within) < self.order.balance {
            return energy_ends;
        }
        // The most that the balance pays for: nobody is billed what he does not have.
        let (mut low, mut high) = (0, within);
        while low < high {
            let middle = (low + high).div_ceil(2);
            if cost(middle) <= self.order.balance { low = middle } else { high = middle - 1 }
        }
        Some((low, StopReason::AbortedInsufficientBalance))
    }

    /// What flows now, the pile giving at most `limit` W.
    pub(super) fn flow(&self, limit: u32) -> Flow {
        let limit = self.order.max_power.map_or(limit, |max| max.min(limit));
        self.vehicle.flow(self.total_energy(), limit)
    }

    /// 0.0001 kWh.
    pub(super) fn total_energy(&self) -> u64 {
        self.energy.iter().sum()
    }

    /// The bill so far.
    pub(super) fn bill(&self) -> Bill {
        let loss_energies = with_loss(self.loss_percent, self.energy);
        Bill {
            unit_prices: unit_prices(&self.tariff),
            energies: self.energy,
            loss_energies,
            amounts: amounts(&self.tariff, loss_energies),
        }
    }

    /// Simulated minutes since the start.
    pub(super) fn minutes(&self) -> u16 {
        u16::try_from((self.upto - self.started_sim) / 60_000).unwrap_or(u16::MAX)
    }

    /// Minutes until the battery is full at what flows now.
    pub(super) fn remaining_minutes(&self, limit: u32) -> u16 {
        let left = self.vehicle.energy_to(1000).saturating_sub(self.total_energy()) * MJ_PER_UNIT;
        let per_minute = self.flow(limit).watts() * 60_000;
        left.checked_div(per_minute).map_or(0, |minutes| u16::try_from(minutes).unwrap_or(u16::MAX))
    }

    /// Local civil milliseconds of what is metered last.
    pub(super) fn local(&self, clock: &Clock) -> i64 {
        clock.local(self.upto)
    }
}

impl Bill {
    /// 0.0001 kWh.
    pub fn total_energy(&self) -> u64 {
        self.energies.iter().sum()
    }

    /// 0.0001 kWh.
    pub fn total_loss_energy(&self) -> u64 {
        self.loss_energies.iter().sum()
    }

    /// 0.0001 CNY: the sum of the classes' amounts.
    pub fn total_amount(&self) -> u64 {
        self.amounts.iter().sum()
    }
}

fn half_hour(local: i64) -> usize {
    (local.rem_euclid(48 * HALF_HOUR) / HALF_HOUR) as usize % 48
}

fn unit_prices(tariff: &Tariff) -> [u32; 4] {
    tariff.prices.map(|pair| pair.energy.0.saturating_add(pair.service.0))
}

/// The protocol does not say what the ratio's byte means: per cent here, rounded half up, class by class.
fn with_loss(percent: u8, energy: [u64; 4]) -> [u64; 4] {
    energy.map(|energy| (energy * (100 + u64::from(percent)) + 50) / 100)
}

/// 1e-5 CNY/kWh × 1e-4 kWh is 1e-9 CNY; rounded half up to 1e-4 CNY, class by class.
fn amounts(tariff: &Tariff, energy: [u64; 4]) -> [u64; 4] {
    let prices = unit_prices(tariff);
    std::array::from_fn(|class| (u64::from(prices[class]) * energy[class] + 50_000) / 100_000)
}

/// Milliseconds.
const HALF_HOUR: i64 = 1_800_000;

/// 0.0001 kWh is 360 J.
const MJ_PER_UNIT: u64 = 360_000;
