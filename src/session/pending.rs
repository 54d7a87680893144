//! Commands that were written to the pile and wait for its answer.
//!
//! Answers are matched by what they name – type, gun, serial. The sequence is only a hint, since piles echo, swap or
//! ignore it (A5): it serves to recognise the late answer to a command that has been given up.

use std::time::Duration;

use crate::domain::{Gun, Serial};

/// Names a caller who waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct CommandId(pub u64);

/// What the awaited answer names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Await {
    /// 0x33 (or the record) of this serial.
    Start(Serial),
    /// 0xA3 of both orders, of which this one leads; or that one of them has failed.
    Parallel(Serial),
    /// 0x35 of this gun, or the record of this serial.
    Stop(Gun, Serial),
    /// That this order is closed, and durable.
    Close(Serial),
    /// That the stop of this order waits for the pile, and is durable.
    Plan(Serial),
    /// 0x57, for a start that comes after it.
    Tariff,
    /// 0x41, which names neither gun nor order: one at a time, for this one.
    Balance(Serial, u32),
    /// 0x13 of this gun.
    Telemetry(Gun),
    /// 0x91
    Reboot,
    /// 0x55
    Clock,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    who: CommandId,
    what: Await,
    deadline: Duration,
    /// The sequence the command went out with.
    sequence: [u8; 2],
}

/// Bounded: at most [`Pending::MAX`] wait for one pile.
#[derive(Debug, Default)]
pub struct Pending {
    waiting: Vec<Waiting>,
    /// Given up lately: a late answer with this sequence is not the answer to the next command of the same type.
    given_up: Vec<(Await, [u8; 2])>,
}

impl Pending {
    pub const MAX: usize = 16;

    pub fn is_full(&self) -> bool {
        self.waiting.len() >= Self::MAX
    }

    pub fn push(&mut self, who: CommandId, what: Await, deadline: Duration, sequence: [u8; 2]) {
        self.waiting.push(Waiting { who, what, deadline, sequence });
    }

    /// Is the same kind of command already waiting?
    pub fn holds(&self, what: impl Fn(Await) -> bool) -> bool {
        self.waiting.iter().any(|w| what(w.what))
    }

    /// The sequence with which the command that awaits this went out.
    pub fn sequence_of(&self, what: impl Fn(Await) -> bool) -> Option<[u8; 2]> {
        self.waiting.iter().find(|w| what(w.what)).map(|w| w.sequence)
    }

    /// An answer has come: everybody it answers.
    pub fn take(&mut self, answers: impl Fn(Await) -> bool, sequence: Option<[u8; 2]>) -> Vec<CommandId> {
        if let Some(late) =
            sequence.and_then(|s| self.given_up.iter().position(|(what, gone)| answers(*what) && *gone == s))
        {
            let current = self.waiting.iter().any(|w| answers(w.what) && Some(w.sequence) == sequence);
            self.given_up.remove(late);
            if !current {
                return vec![];
            }
        }
        let (answered, rest) = self.waiting.drain(..).partition::<Vec<_>, _>(|w| answers(w.what));
        self.waiting = rest;
        answered.into_iter().map(|w| w.who).collect()
    }

    /// What an answer with this sequence would be the answer to, if it is to anything that waits.
    pub fn answered_by(&self, answers: impl Fn(Await) -> bool, sequence: [u8; 2]) -> Option<Await> {
        let late = self.given_up.iter().any(|(what, gone)| answers(*what) && *gone == sequence);
        let waiting = self.waiting.iter().find(|w| answers(w.what));
        waiting.filter(|w| !late || w.sequence == sequence).map(|w| w.what)
    }

    /// What is awaited has got another name.
    pub fn rename(&mut self, from: Await, to: Await) {
        self.waiting.iter_mut().filter(|w| w.what == from).for_each(|w| w.what = to);
    }

    /// Everybody whose deadline has passed.
    pub fn expire(&mut self, now: Duration) -> Vec<(CommandId, Await)> {
        let (late, rest) = self.waiting.drain(..).partition::<Vec<_>, _>(|w| w.deadline <= now);
        self.waiting = rest;
        self.given_up.extend(late.iter().map(|w| (w.what, w.sequence)));
        let keep_from = self.given_up.len().saturating_sub(Self::MAX);
        self.given_up.drain(..keep_from);
        late.into_iter().map(|w| (w.who, w.what)).collect()
    }

    /// The session ends: everybody.
    pub fn drain(&mut self) -> Vec<(CommandId, Await)> {
        self.waiting.drain(..).map(|w| (w.who, w.what)).collect()
    }

    pub fn due(&self) -> Option<Duration> {
        self.waiting.iter().map(|w| w.deadline).min()
    }
}

/// When a caller may try again what the pile is too busy for.
pub const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const REBOOT: fn(Await) -> bool = |what| what == Await::Reboot;

    #[test]
    fn a_late_answer_does_not_resolve_the_next_command() {
        let mut pending = Pending::default();
        pending.push(CommandId(1), Await::Reboot, Duration::from_secs(1), [1, 0]);
        assert_eq!(pending.expire(Duration::from_secs(1)).len(), 1);
        pending.push(CommandId(2), Await::Reboot, Duration::from_secs(9), [2, 0]);
        assert!(pending.take(REBOOT, Some([1, 0])).is_empty(), "the answer to command 1");
        assert_eq!(pending.take(REBOOT, Some([2, 0])), [CommandId(2)]);
    }

    #[test]
    fn a_pile_that_does_not_echo_sequences_is_answered_all_the_same() {
        let mut pending = Pending::default();
        pending.push(CommandId(1), Await::Reboot, Duration::from_secs(1), [1, 0]);
        assert_eq!(pending.take(REBOOT, Some([0, 0])), [CommandId(1)]);
    }

    #[test]
    fn an_always_zero_sequence_of_ours_and_theirs_still_matches() {
        let mut pending = Pending::default();
        pending.push(CommandId(1), Await::Reboot, Duration::from_secs(1), [0, 0]);
        pending.expire(Duration::from_secs(2));
        pending.push(CommandId(2), Await::Reboot, Duration::from_secs(9), [0, 0]);
        assert_eq!(pending.take(REBOOT, Some([0, 0])), [CommandId(2)]);
    }
}
