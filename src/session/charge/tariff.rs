//! A start that insists on a tariff: the pile gets it first (0x58), and starts if it says yes (0x57).

use std::time::Duration;

use crate::domain::CommandError;
use crate::domain::pile::TariffOnPile;
use crate::session::Now;
use crate::session::held::{Awaiting, TariffPush};
use crate::session::io::{Out, Output};
use crate::session::pending::{Await, CommandId};
use crate::session::state::Session;
use crate::session::translate::{accepted, tariff_set};
use crate::wire::{self, Sequence};

impl Session {
    /// Whether the pile has confirmed this tariff. An error if it is not the one piles are given.
    pub(in crate::session) fn bills_with(&self, expected: u64) -> Result<bool, CommandError> {
        let current = self.policy.tariff.fingerprint();
        if expected != current {
            return Err(CommandError::TariffNotCurrent { expected, current });
        }
        let TariffOnPile { fingerprint, number: _, confirmed } = self.pile.tariff;
        Ok(confirmed && fingerprint == expected)
    }

    /// Nothing of the start is stored before the pile has the tariff; one 0x58 serves all who wait for it.
    pub(in crate::session) fn start_after_tariff(
        &mut self,
        now: Now,
        id: CommandId,
        start: Awaiting,
        deadline: Duration,
        out: &mut Out,
    ) {
        let asked = self.pending.sequence_of(|what| what == Await::Tariff);
        let before = self.pile.tariff;
        let push = self.tariff_push.get_or_insert_with(|| Box::new(TariffPush { before, starts: vec![] }));
        // Those whose callers have gone need not wait for a pile that never answers.
        push.starts.retain(|(_, _, until)| *until > now.mono);
        push.starts.push((id, start, deadline));
        let sequence = asked.unwrap_or_else(|| {
            let given = self.pile.tariff.allocate(self.policy.tariff.fingerprint(), self.reported_tariff);
            if given != self.pile.tariff {
                self.pile.tariff = given;
                self.jobs.pile_changed();
            }
            out.command(tariff_set(self.pile.code, given.number, &self.policy.tariff), deadline)
        });
        self.pending.push(id, Await::Tariff, deadline, sequence);
    }

    /// 0x57. There is one tariff to say yes to, so that a late yes is as good as any. A late no says nothing of the 0x58
    /// that has been written since.
    pub(in crate::session) fn tariff_answer(
        &mut self,
        now: Now,
        answer: &wire::TariffSetResponse,
        sequence: Sequence,
        out: &mut Out,
    ) {
        let taken = accepted(0x57, answer.result).is_ok();
        let waiting = self.pending.take(|what| what == Await::Tariff, (!taken).then_some(sequence.0));
        if !taken && self.pending.holds(|what| what == Await::Tariff) {
            return;
        }
        let Some(push) = self.tariff_push.take() else { return };
        let TariffPush { before, starts } = *push;
        self.pile.tariff = if taken { TariffOnPile { confirmed: true, ..self.pile.tariff } } else { before };
        self.jobs.pile_changed();
        for (id, start, deadline) in starts.into_iter().filter(|(id, _, _)| waiting.contains(id)) {
            let current = self.policy.tariff.fingerprint();
            let begun = if !taken {
                Err(CommandError::TariffNotCurrent { expected: start.expected_tariff().unwrap_or(current), current })
            } else if self.draining.is_some() {
                Err(CommandError::SessionLost { written: false })
            } else {
                match start {
                    Awaiting::One(start) => self.start(now, id, *start, deadline, out),
                    Awaiting::Both(start) => self.start_parallel(now, id, *start, deadline, out),
                }
            };
            if let Err(error) = begun {
                out.list.push(Output::Reply { to: id, result: Err(error) });
            }
        }
    }
}
