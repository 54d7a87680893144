//! A gun: what is plugged in, what is being charged, and when it reports.
//!
//! ```text
//!   Idle ──0x34, plugged──> Charging ──stop, full, balance, fault, unplugged──> Idle (record in the outbox)
//!    │ 0x34, not plugged──> WaitingForPlug ──plugged within 60 s──> Charging
//!    │ 0x34, answered late > Answering ──then as for 0x34
//!    └ card, VIN ─────────> Asking (0x31, 0xA1) ──0x32 success──> Charging
//! ```

use std::time::Duration;

use super::charge::{Charge, Order};
use super::clock::Now;
use super::config::PileConfig;
use super::rng::Rng;
use crate::wire::{Bcd, GunNo, GunRole, LockState, Opaque, Sequence};

/// A gun.
#[derive(Debug)]
pub(super) struct Gun {
    pub(super) no: u8,
    pub(super) plugged: bool,
    /// Bits of 0x13.
    pub(super) faults: u16,
    pub(super) phase: Phase,
    /// The next periodic report.
    pub(super) report_at: Duration,
    /// The meter: only grows, 0.0001 kWh.
    pub(super) meter: u64,
    pub(super) lock: LockState,
    pub(super) caps: Caps,
    pub(super) auto: Option<Duration>,
    /// When the running charge ends by itself.
    pub(super) end_at: Option<Duration>,
}

#[derive(Debug)]
pub(super) enum Phase {
    Idle,
    Asking(Box<Asking>),
    Answering(Box<Request>, Duration),
    WaitingForPlug(Box<Request>, Duration),
    Charging(Box<Charge>),
}

/// A start request from the pile, until 0x32.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) card: Option<Opaque<8>>,
    pub(super) again_at: Duration,
    pub(super) asked: u8,
    /// The number of a parallel charge, if it is one.
    pub(super) parallel: Option<Bcd<6>>,
    /// What the platform has said yes to; the other guns of the parallel charge wait for theirs.
    pub(super) granted: Option<Order>,
}

/// A start command from the platform.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) sequence: Sequence,
    /// As received: the answer repeats it.
    pub(super) gun_no: GunNo,
    pub(super) dialect: Dialect,
    pub(super) order: Order,
}

/// Which frames the start command and its answer are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    /// 0x34 → 0x33
    V16,
    /// 0xA8 → 0xA7
    V18,
    /// 0xA4 → 0xA3
    Parallel(GunRole, Bcd<6>),
}

/// Limits of a gun's power.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Caps {
    /// 0x52 of V1.8: W, until this real instant.
    pub(super) session: Option<(u32, Duration)>,
    /// 0x60: W, within these milliseconds of the day (from > to spans midnight).
    pub(super) default: Option<(u32, i64, i64)>,
}

impl Gun {
    pub(super) fn new(no: u8, config: &PileConfig, now: Now, rng: &mut Rng) -> Self {
        Self {
            no,
            plugged: config.plugged,
            faults: 0,
            phase: Phase::Idle,
            report_at: now.mono,
            meter: rng.below(50_000_000),
            lock: LockState::Lowered,
            caps: Caps::default(),
            auto: config.auto_charge.map(|auto| now.mono + config.start_after + rng.span(auto.every)),
            end_at: None,
        }
    }

    pub(super) fn deadline(&self, online: bool) -> Option<Duration> {
        let phase = match &self.phase {
            Phase::Idle => None,
            Phase::Asking(asking) => Some(asking.again_at),
            Phase::Answering(_, at) | Phase::WaitingForPlug(_, at) => Some(*at),
            // Metering goes on without a connection: what ends a charge does not wait for one.
            Phase::Charging(_) => Some(self.end_at.map_or(self.report_at, |at| at.min(self.report_at))),
        };
        let report = online.then_some(self.report_at);
        [phase, report, self.auto].into_iter().flatten().min()
    }

    pub(super) fn charge(&self) -> Option<&Charge> {
        if let Phase::Charging(charge) = &self.phase { Some(charge) } else { None }
    }

    pub(super) fn number(&self) -> GunNo {
        GunNo::from_number(self.no)
    }
}

/// The 0xA4 of one attempt, until all guns have the same answer.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) number: Bcd<6>,
    /// Which gun, and what to answer. At most one per gun.
    pub(super) requests: Vec<(usize, Request)>,
    /// Of what it waits for.
    pub(super) until: Duration,
    pub(super) waits_for: WaitsFor,
}

/// Why an attempt is not over yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WaitsFor {
    /// The command for the other gun.
    Sibling,
    /// Nothing: it is answered late.
    Nothing,
    /// All were told that something is not plugged in.
    Plug,
}

impl Attempt {
    pub(super) fn deadline(&self) -> Duration {
        self.until
    }
}
