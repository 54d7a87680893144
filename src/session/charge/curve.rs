//! Curves to the store, when nothing that is worth more waits for it.

use crate::domain::curve::{Demanded, Extremes};
use crate::domain::telemetry::{Measured, Telemetry};
use crate::session::Now;
use crate::session::io::LedgerCall;
use crate::session::jobs::Running;
use crate::session::state::{Phase, Session};
use crate::store::StoreError;
use crate::store::ledger::WriteError;

impl Session {
    /// What a measurement adds to the curve of its charge, whether the pile is claimed yet or not.
    pub(in crate::session) fn curve(&mut self, now: Now, telemetry: &Telemetry) {
        let Telemetry { pile: _, gun, serial, at, measured } = telemetry;
        match (measured, serial) {
            (Measured::Live(live), serial) => self.curves.live(now, *gun, *serial, live),
            (Measured::Demand(demand), Some(serial)) => {
                let demanded = Demanded {
                    voltage_mv: demand.voltage_demand_mv,
                    current_ma: demand.current_demand_ma,
                    charge_mode: demand.charge_mode,
                    max_cell_voltage_mv: demand.max_cell_voltage_mv,
                };
                self.curves.demanded(*at, *serial, demanded);
            }
            (Measured::Battery(battery), Some(serial)) => {
                let extremes = Extremes { max_celsius: battery.max_celsius, min_celsius: battery.min_celsius };
                self.curves.extremes(*at, *serial, extremes);
            }
            (Measured::Demand(_) | Measured::Battery(_) | Measured::GroundLock(_), _) => {}
        }
    }

    /// What there is of its curves a session stores before it goes; whoever comes next begins chunks of its own.
    pub(in crate::session) fn curves_end_with_session(&mut self, now: Now) {
        if self.phase == Phase::Ended {
            self.curves.end_all(now);
        }
    }

    /// When the next chunk can be stored.
    pub(in crate::session) fn curve_due(&self) -> Option<std::time::Duration> {
        let can_write = matches!(self.phase, Phase::Live(_)) && self.jobs.running.is_none() && !self.jobs.fenced;
        self.curves.due().filter(|_| can_write)
    }

    /// The next chunk that is due. A session that has ended may have lost its fence to a newer one; what it has measured
    /// is true all the same, and its chunks have names of their own.
    pub(in crate::session) fn next_curve(&mut self, now: Now) -> Option<LedgerCall> {
        let fence = match self.phase {
            Phase::Live(fence) if !self.jobs.fenced => Some(fence),
            Phase::Ended => None,
            // Somebody newer may be there, and this one would be the wrong one to say so.
            Phase::Live(_) | Phase::Claiming(_) | Phase::Provisional(_) => return None,
        };
        let chunk = self.curves.next(now, self.pile.code)?;
        let expires = now.wall.plus_ms(self.policy.curves_kept.as_millis() as u64);
        self.jobs.running = Some(Running::KeepCurve(Box::new(chunk.clone())));
        Some(LedgerCall::KeepCurve { chunk: Box::new(chunk), fence, expires })
    }

    pub(in crate::session) fn curve_kept(&mut self, now: Now, result: Result<(), WriteError>) {
        let chunk = match self.jobs.running.take() {
            Some(Running::KeepCurve(chunk)) => chunk,
            other => {
                self.jobs.running = other;
                return;
            }
        };
        let over = self.phase == Phase::Ended;
        match result {
            Ok(()) => self.curves.stored(now, &chunk),
            Err(WriteError::Fenced) => {
                self.curves.not_stored(now, &chunk, over);
                self.fence_refused(now);
            }
            Err(WriteError::Store(StoreError::Unavailable(reason))) => {
                tracing::debug!(pile = %self.pile.code, reason, "a curve is not stored yet");
                self.curves.not_stored(now, &chunk, over);
            }
            Err(error @ (WriteError::Store(_) | WriteError::Conflict { .. })) => {
                // Not to be repeated: the chunk itself is at fault.
                tracing::error!(pile = %self.pile.code, serial = %chunk.serial, %error, "a curve is not stored");
                self.curves.stored(now, &chunk);
            }
        }
    }
}
