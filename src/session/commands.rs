//! What callers ask of a session besides starting and stopping, and how they get their answers.

use std::time::Duration;

use super::Now;
use super::held::Held;
use super::io::{EndReason, Out, Output};
use super::pending::{Await, CommandId, RETRY};
use super::state::{Phase, Session};
use super::translate::{self, wire_gun, wire_pile};
use crate::domain::command::When;
use crate::domain::pile::Presence;
use crate::domain::{Command, CommandError, Gun, Reply};
use crate::wire::{self, Sequence};

impl Session {
    pub(super) fn command(&mut self, now: Now, id: CommandId, command: Command, deadline: Duration, out: &mut Out) {
        let there = matches!(self.phase, Phase::Live(_) | Phase::Provisional(_));
        let silent = self.pile.presence == Presence::Offline && command.needs_pile();
        let refused = if !there || silent {
            Some(CommandError::PileOffline { last_seen: Some(self.pile.last_seen) })
        } else if now.mono >= deadline {
            Some(CommandError::DeadlinePassed)
        } else if self.pending.is_full() {
            Some(CommandError::PileBusy {
                why: "too many commands wait for its answer".into(),
                retry_after: Some(RETRY),
            })
        } else {
            None
        };
        if let Some(error) = refused {
            out.list.push(Output::Reply { to: id, result: Err(error) });
            return;
        }
        let refused = match command {
            // Whoever takes the pile over does it.
            Command::StartCharging(_) | Command::StartParallelCharging(_) if self.draining.is_some() => {
                Err(CommandError::SessionLost { written: false })
            }
            Command::StartCharging(_) | Command::StartParallelCharging(_) if self.provisional.is_some() => {
                Err(CommandError::StoreUnavailable {
                    reason: "the pile has logged in while the store could not be asked".into(),
                })
            }
            Command::StartCharging(start) => self.start(now, id, *start, deadline, out),
            Command::StartParallelCharging(start) => self.start_parallel(now, id, *start, deadline, out),
            Command::StopCharging { serial } => self.stop(now, id, serial, deadline, out),
            Command::UpdateBalance(update) => self.update_balance(id, update, deadline, out),
            Command::StopAtLogin { serial, expires_at } => self.plan_stop(now, id, (serial, expires_at), deadline, out),
            Command::CloseOrder { serial, close } => self.close(now, id, (serial, *close), deadline, out),
            Command::ReadOrder { serial } => {
                let order = self.held(serial).filter(|held| held.version.is_some()).map(|held| held.order.clone());
                out.list.push(Output::Reply { to: id, result: Ok(Reply::Order(order.map(Box::new))) });
                Ok(())
            }
            Command::ReadCurve { serial } => {
                let points = self.curves.points(serial);
                out.list.push(Output::Reply { to: id, result: Ok(Reply::Curve(points)) });
                Ok(())
            }
            // The table of sessions answers it before it gets here.
            Command::ReadSession => Err(CommandError::Unsupported { what: command.name().into() }),
            Command::ReadTelemetry { gun } => self.read_telemetry(id, gun, deadline, out),
            Command::Reboot { when } => self.reboot(id, when, deadline, out),
            Command::SyncClock => self.sync_clock(now, id, deadline, out),
            Command::Disconnect { when } => self.disconnect(id, when, deadline, out),
        };
        if let Err(error) = refused {
            out.list.push(Output::Reply { to: id, result: Err(error) });
        }
    }

    fn read_telemetry(
        &mut self,
        id: CommandId,
        gun: Gun,
        deadline: Duration,
        out: &mut Out,
    ) -> Result<(), CommandError> {
        self.check_gun(gun)?;
        let asked = |what| what == Await::Telemetry(gun);
        // One question serves everybody who waits for its answer.
        let frame = wire::RealtimeQuery { pile_code: wire_pile(self.pile.code), gun_no: wire_gun(gun) };
        let sequence = self.pending.sequence_of(asked).unwrap_or_else(|| out.command(frame, deadline));
        self.pending.push(id, Await::Telemetry(gun), deadline, sequence);
        Ok(())
    }

    fn reboot(&mut self, id: CommandId, when: When, deadline: Duration, out: &mut Out) -> Result<(), CommandError> {
        self.alone(|what| what == Await::Reboot, "a reboot is waiting for its answer")?;
        let when = match when {
            When::Immediately => wire::When::Immediately,
            When::WhenIdle => wire::When::WhenIdle,
        };
        let sequence = out.command(wire::Reboot { pile_code: wire_pile(self.pile.code), when }, deadline);
        self.pending.push(id, Await::Reboot, deadline, sequence);
        Ok(())
    }

    fn sync_clock(&mut self, now: Now, id: CommandId, deadline: Duration, out: &mut Out) -> Result<(), CommandError> {
        self.alone(|what| what == Await::Clock, "a clock setting is waiting for its answer")?;
        let time = translate::wire_time(now.wall.local(self.policy.offset));
        let sequence = out.command(wire::TimeSync { pile_code: wire_pile(self.pile.code), time }, deadline);
        self.pending.push(id, Await::Clock, deadline, sequence);
        Ok(())
    }

    fn disconnect(&mut self, id: CommandId, when: When, deadline: Duration, out: &mut Out) -> Result<(), CommandError> {
        match when {
            When::Immediately => {
                out.list.push(Output::Reply { to: id, result: Ok(Reply::Disconnected) });
                self.end(EndReason::Disconnected, out);
            }
            When::WhenIdle if self.disconnect.is_some() => {
                return Err(CommandError::PileBusy {
                    why: "a disconnect waits for idle guns".into(),
                    retry_after: None,
                });
            }
            When::WhenIdle => self.disconnect = Some((id, deadline)),
        }
        Ok(())
    }

    /// Ends the session if somebody waits for idle guns and they are. The last thing of every input.
    pub(super) fn disconnect_if_idle(&mut self, out: &mut Out) {
        if self.disconnect.is_some() && !self.is_busy() {
            // Who waits is answered by the end.
            self.end(EndReason::Disconnected, out);
        }
    }

    /// Whether a gun charges, or is about to, as far as is known.
    pub(super) fn is_busy(&self) -> bool {
        self.orders.iter().any(Held::occupies_gun) || self.seems_to_charge()
    }

    /// A disconnect that waits for idle guns does not wait past its deadline.
    pub(super) fn disconnect_timer(&mut self, now: Now, out: &mut Out) {
        if let Some((to, _)) = self.disconnect.take_if(|(_, deadline)| *deadline <= now.mono) {
            out.list.push(Output::Reply { to, result: Err(CommandError::DeadlinePassed) });
        }
    }

    /// Answers everybody who waits for this; with a sequence, unless it is that of a command that was given up.
    pub(super) fn answer(
        &mut self,
        answers: impl Fn(Await) -> bool,
        sequence: Option<Sequence>,
        result: &Result<Reply, CommandError>,
        out: &mut Out,
    ) {
        for to in self.pending.take(answers, sequence.map(|sequence| sequence.0)) {
            out.list.push(Output::Reply { to, result: result.clone() });
        }
    }

    pub(super) fn alone(&self, same: impl Fn(Await) -> bool, why: &'static str) -> Result<(), CommandError> {
        if self.pending.holds(same) {
            return Err(CommandError::PileBusy { why: why.into(), retry_after: Some(RETRY) });
        }
        Ok(())
    }

    pub(super) fn check_gun(&self, gun: Gun) -> Result<(), CommandError> {
        let guns = self.pile.guns.len() as u8;
        if gun.number() > guns { Err(CommandError::GunUnknown { gun, guns }) } else { Ok(()) }
    }
}
