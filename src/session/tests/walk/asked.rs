//! What callers and drivers ask for, and whether what they are told is true.

use std::time::Duration;

use super::Walk;
use crate::domain::command::{NewBalance, Start, StopProof, When};
use crate::domain::driver::GrantedLimits;
use crate::domain::order::{Change, Close, Limits, StartRequest};
use crate::domain::{Amount, Command, CommandError, Energy, Order, OrderState, Reply, Serial};
use crate::session::authority::{Denial, Grant, Unanswered, Verdict};
use crate::session::held::Held;
use crate::session::io::{Done, Input};
use crate::session::pending::Await;
use crate::session::state::Phase;
use crate::session::tests::harness::*;

/// A caller who waits.
#[derive(Debug)]
pub struct Asked {
    deadline: Duration,
    start: Option<StartRequest>,
    stop: Option<Serial>,
    /// Of a start: it names its serial.
    named: bool,
    /// Whether what he wants has gone to the pile; `None` of a retry, which may join what was written.
    written: Option<bool>,
}

impl Walk {
    pub fn asks_to_start(&mut self) {
        let start = self.any_start();
        self.ask(Command::StartCharging(Box::new(start)));
    }

    pub fn asks_to_start_with_tariff(&mut self) {
        let fingerprint = policy(100_000).tariff.fingerprint() ^ u64::from(self.chance(8));
        let start = Start { expected_tariff: Some(fingerprint), ..self.any_start() };
        self.ask(Command::StartCharging(Box::new(start)));
    }

    pub fn asks_to_start_both(&mut self) {
        let start = parallel_request(self.below(40) as u8);
        self.ask(Command::StartParallelCharging(Box::new(start)));
    }

    fn any_start(&mut self) -> Start {
        let mut start = request(self.below(40) as u8);
        // The same id comes with the same arguments, mostly.
        let n = start.request_id.bytes()[0] ^ u8::from(self.chance(30));
        start.gun = gun(1 + n % 2);
        start.balance_fen = [10_000, 30][usize::from(n / 2 % 2)];
        start.limits = match n / 4 % 8 {
            0 => Limits { duration_s: Some(30), ..Limits::default() },
            1 => Limits { energy: Some(Energy(3000)), ..Limits::default() },
            2 => Limits { soc_percent: Some(80), ..Limits::default() },
            3 => Limits { amount: Some(Amount(2400)), ..Limits::default() },
            _ => Limits::default(),
        };
        if self.chance(20) {
            start.serial = Some(self.serial());
        }
        start
    }

    pub fn asks_to_stop(&mut self) {
        let serial = self.serial();
        self.stopped = Some(serial);
        self.ask(Command::StopCharging { serial });
    }

    pub fn asks_to_stop_at_login(&mut self) {
        let (serial, seconds) = (self.serial(), 1 + self.below(60));
        let expires_at = self.pile.now().wall.plus_ms(seconds * 1000);
        self.ask(Command::StopAtLogin { serial, expires_at });
    }

    pub fn asks_to_close(&mut self) {
        let close = Close { reason: String::new(), given: None, force: self.chance(4) };
        let serial = self.serial();
        self.ask(Command::CloseOrder { serial, close: Box::new(close) });
    }

    pub fn asks_for_a_new_balance(&mut self) {
        let (serial, fen) = (self.serial(), [5, 100_000][self.below(2) as usize]);
        self.balances += 1;
        self.ask(Command::UpdateBalance(NewBalance { serial, fen, physical_card: [0; 8] }));
    }

    pub fn asks_for_something_else(&mut self) {
        let gun = self.any_gun();
        let command = match self.below(24) {
            0..8 => Command::ReadTelemetry { gun },
            8..16 => Command::SyncClock,
            16..23 => Command::Reboot { when: When::WhenIdle },
            _ => Command::Disconnect { when: When::WhenIdle },
        };
        self.ask(command);
    }

    fn ask(&mut self, command: Command) {
        let within = 1 + self.below(40);
        let start = match &command {
            Command::StartCharging(start) => Some(StartRequest { id: start.request_id, arguments: start.arguments() }),
            Command::StartParallelCharging(start) => {
                Some(StartRequest { id: start.request_id, arguments: start.arguments() })
            }
            _ => None,
        };
        let stop = match command {
            // Whether there is such an order will be known later.
            Command::StopCharging { serial } if self.pile.session.provisional.is_none() => Some(serial),
            _ => None,
        };
        let named = matches!(&command, Command::StartCharging(start) if start.serial.is_some());
        let deadline = self.pile.now().mono + Duration::from_secs(within);
        let provisional = self.pile.session.provisional.is_some();
        self.trace.push(format!("{command:?}"));
        let id = self.pile.command(command, within);
        let written = start.is_none_or(|start| !self.requests.contains(&start.id)).then_some(false);
        let refused = !provisional || start.is_none() || self.pile.replies.contains_key(&id);
        assert!(refused, "a session that owns nothing takes a start");
        self.commands.insert(id, Asked { deadline, start, stop, named, written });
    }

    /// 0x57. A pile that refuses the tariff starts nothing, and everybody who waited for that hears so.
    pub fn answers_a_tariff(&mut self) {
        let yes = !self.chance(3);
        let asked = self.commands.len();
        self.pile.sends(0x57, &[("result", yes.into())]);
        let session = &self.pile.session;
        let waits = matches!(session.phase, Phase::Live(_)) && session.pending.holds(|what| what == Await::Tariff);
        assert!(!waits, "one of {asked} still waits for a tariff");
    }

    /// Of what it was asked first: yes, no, or nothing that can be used.
    pub fn authority_answers(&mut self) {
        let Some(ask) = self.pile.asked.pop_front() else { return };
        let limits = GrantedLimits { max_power_kw: 60, soc_percent: 80, energy: 2000 * self.below(2) as u32 };
        let result = match self.below(8) {
            0 => Err(Unanswered::Failed),
            1 => Ok(Verdict::Deny(Denial::AccountFrozen)),
            _ => Ok(Verdict::Allow(Box::new(Grant { balance_fen: 30, limits, ..Grant::default() }))),
        };
        self.trace.push(format!("{} {result:?}", ask.serial));
        if matches!(result, Ok(Verdict::Allow(_))) {
            self.allowed(ask.gun, ask.serial);
        }
        self.pile.input(Input::Done(Done::Authorised(ask.serial, result)));
    }

    /// A start leaves: somebody waits for it, and still does.
    pub fn check_start(&mut self, order: &Order, at: Duration) {
        let request = order.request.expect("its request id");
        let waiting = self.commands.values_mut().filter(|asked| asked.start == Some(request));
        let mut somebody = false;
        for asked in waiting {
            somebody |= at < asked.deadline;
            asked.written = Some(true);
        }
        assert!(somebody, "nobody waits for this start any more");
        let twice = !self.requests.insert(request.id) && order.leads();
        assert!(!twice, "one request started twice");
    }

    /// Who has asked has been answered by now, and what he was told is so.
    pub fn check_replies(&mut self) {
        let replies = &self.pile.replies;
        let answered: Vec<_> = self.commands.extract_if(.., |id, _| replies.contains_key(id)).collect();
        for (id, asked) in answered {
            let (kind, name) = match &self.pile.replies[&id] {
                Ok(reply) => ("reply", self.check_reply(reply)),
                Err(error) => ("error", Self::check_error(error, &asked)),
            };
            self.reached.one(kind, name);
        }
        let now = self.pile.now().mono;
        let late = self.commands.values().find(|asked| asked.deadline <= now);
        assert!(late.is_none(), "no answer in time: {late:?}");
        let in_vain = self.commands.values().find(|asked| self.waits_in_vain(asked));
        assert!(in_vain.is_none(), "nobody will answer {in_vain:?}");
    }

    /// What he waits for cannot come any more.
    fn waits_in_vain(&self, asked: &Asked) -> bool {
        let session = &self.pile.session;
        if !matches!(session.phase, Phase::Live(_)) {
            return false;
        }
        let failed = |held: &&Held| held.unsent.is_none() && held.order.state == OrderState::Failed;
        let of_start =
            |held: &&Held| asked.start.is_some() && held.order.request == asked.start && held.order.parallel.is_none();
        let stop_of = |held: &&Held| asked.stop == Some(held.order.serial);
        session.orders.iter().filter(failed).any(|held| of_start(&held) || stop_of(&held))
    }

    /// What somebody was told is durable.
    fn check_reply(&self, reply: &Reply) -> &'static str {
        let store = self.pile.store.borrow();
        let (name, so) = match reply {
            Reply::Started(order) => ("started", store.orders.contains_key(&order.serial)),
            Reply::ParallelStarted(orders) => {
                ("started both", orders.iter().all(|order| store.orders.contains_key(&order.serial)))
            }
            Reply::StartedBefore { serial } => ("started before", store.orders.contains_key(serial)),
            Reply::Stopped { order, confirmed_by: StopProof::Record } => {
                ("stopped by a record", store.records.contains_key(&order.serial))
            }
            // The pile's own answer, whatever the store has of it.
            Reply::Stopped { order: _, confirmed_by: StopProof::Answer } => ("stopped by an answer", true),
            Reply::StopPlanned(order) => ("stop planned", store.changes(order.serial).contains(&Change::StopPlanned)),
            Reply::Closed(order) => {
                ("closed", store.order(order.serial).closing.is_some() && !store.order(order.serial).state.is_open())
            }
            Reply::BalanceUpdated(_) => ("balance updated", true),
            Reply::Order(_) | Reply::Curve(_) | Reply::Session(_) | Reply::Telemetry(_) => ("read", true),
            Reply::RebootAccepted | Reply::Clock { .. } | Reply::Disconnected => ("done", true),
        };
        assert!(so, "not so: {reply:?}");
        name
    }

    /// Nobody is told that nothing was written if it was. A session that has found the order cannot know whether the one
    /// before it wrote anything: it says so.
    fn check_error(error: &CommandError, asked: &Asked) -> &'static str {
        let nothing = matches!(error, CommandError::SessionLost { written: false } | CommandError::DeadlinePassed);
        let so = !nothing || asked.start.is_none() || asked.written != Some(true);
        assert!(so, "not so: {error:?} {asked:?}");
        let chosen = asked.start.is_none() || asked.named || !matches!(error, CommandError::SerialTaken { .. });
        assert!(chosen, "another serial would have done: {asked:?}");
        error.name()
    }
}
