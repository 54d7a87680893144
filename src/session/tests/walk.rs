//! A walk at random through everything that can happen to a pile's orders: frames, commands, time, disconnects, moves to
//! other nodes, hours without a session, a store that is slow, away, or loses what it had. No reachable state loses an
//! order, none settles twice, every breach of a rule is reported once. Seeded: a failure names its seed.
//!
//! Each walk has a nature: what the pile speaks, what is done about late starts, and whether the store is *calm*. A calm
//! store answers at once, so that what every frame must make of every order is known exactly, and what was told is
//! compared with what is stored, change by change. In a rough one only the promises hold.
//!
//! What happens is here, and what callers ask is in [`asked`], what drivers do at the pile in [`drivers`] and [`wish`], what
//! piles say in [`said`]; what a frame must make of orders is in [`frames`], what time must in [`time`], what two guns of one
//! vehicle owe each other in [`vehicle`], what may go to the pile in [`sent`], the watch over a pile without a session in
//! [`away`], what others do to the store in [`others`], what must hold when everything has come to rest in [`rest`] and
//! [`lives`], and what all walks together must have met in [`reached`].

mod asked;
mod away;
mod drivers;
mod frames;
mod lives;
mod others;
mod reached;
mod rest;
mod said;
mod sent;
mod time;
mod vehicle;
mod wish;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::harness::*;
use super::ledger::Mode;
use crate::domain::order::StopAtLogin;
use crate::domain::{Gun, RequestId, Serial, WallMs};
use crate::session::LateStart;
use crate::session::absent::Absent;
use crate::session::io::{EndReason, Input, Patience};

use reached::Reached;
use said::{ODD, Said};

#[test]
fn whatever_happens_in_whatever_order_the_promises_hold() {
    let mut reached = Reached::default();
    for seed in 1..=WALKS {
        reached.add(Walk::new(seed).run(STEPS_OF_A_WALK));
    }
    // A walk that does not get anywhere proves nothing.
    reached.assert_everything();
}

struct Walk {
    nature: Nature,
    /// The newest session of the pile.
    pile: Pile,
    /// Those it has replaced, while they have something left for the store.
    older: Vec<Pile>,
    /// The pile as its last session left it, while it has none.
    absent: Option<Absent>,
    random: u64,
    steps: u64,
    /// Serials that were named in a 0x34, and the requests behind them.
    started: BTreeSet<Serial>,
    requests: BTreeSet<RequestId>,
    /// Serials the pile was told, in the order in which it was, and their guns.
    told: Vec<(Serial, Gun)>,
    /// Every order the store has ever had.
    known: BTreeSet<Serial>,
    /// Those the store has lost, and was told of again.
    lost: BTreeSet<Serial>,
    /// How often the watch has heard that the store may have lost writes.
    losses: u64,
    /// What callers of the newest session wait for.
    commands: BTreeMap<u64, asked::Asked>,
    /// What the last 0x13 of each gun said in the newest session.
    charged: BTreeMap<Gun, Serial>,
    wishes: drivers::Wishes,
    /// Somebody asked for a 0x36 of this serial in this step.
    stopped: Option<Serial>,
    /// How often the newest session had sent 0x36 for an order when that was last looked at, and the planned stop it had
    /// carried out by then.
    stops_sent: BTreeMap<Serial, (u8, Option<StopAtLogin>)>,
    /// How often a new balance was asked for.
    balances: usize,
    /// What the store was before everything came to rest.
    was_calm: bool,
    /// Bills of the newest session by their sequence, with their stop reasons, until they are answered.
    unanswered: BTreeMap<[u8; 2], (Serial, u8)>,
    /// What was said in the newest session before it owned the pile, and when.
    kept: Vec<(Said, WallMs)>,
    reached: Reached,
    trace: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Nature {
    /// The store answers at once, and nobody else writes.
    calm: bool,
    v18: bool,
    /// Late starts go on.
    adopts: bool,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let nature = Nature { calm: seed.is_multiple_of(3), v18: seed % 4 == 1, adopts: seed.is_multiple_of(5) };
        let mut pile = Pile::online_as(if nature.v18 { 18 } else { 16 }, |config| {
            config.late_start = if nature.adopts { LateStart::Adopt } else { LateStart::Stop };
        });
        pile.authority_waits = true;
        pile.mode = if nature.calm { Mode::Prompt } else { Mode::Slow };
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let (started, requests, told, known, lost, commands, charged, wishes, unanswered, kept, reached) =
            Default::default();
        Self {
            nature,
            pile,
            older: vec![],
            absent: None,
            random,
            steps: 0,
            started,
            requests,
            told,
            known,
            lost,
            losses: 0,
            commands,
            charged,
            wishes,
            stopped: None,
            stops_sent: BTreeMap::new(),
            balances: 0,
            was_calm: nature.calm,
            unanswered,
            kept,
            reached,
            trace: vec![format!("seed {seed}, {nature:?}")],
        }
    }

    fn run(mut self, steps: u64) -> Reached {
        for _ in 0..steps {
            self.step();
            self.check();
        }
        self.come_to_rest();
        self.check_lives();
        std::mem::take(&mut self.reached)
    }

    fn step(&mut self) {
        self.steps += 1;
        self.stopped = None;
        if self.pile.ended.is_some() && self.chance(4) {
            if self.pile.session.is_done() && self.chance(2) { self.stay_away() } else { self.log_in_again() }
        }
        let all: u64 = STEPS.iter().map(|(_, weight, _)| weight).sum();
        let mut at = self.below(all);
        let (name, _, act) = STEPS
            .iter()
            .find(|(_, weight, _)| {
                at < *weight || {
                    at -= weight;
                    false
                }
            })
            .expect("one of them");
        self.trace.push(format!("{name}, {:?} calls, at {:?}", self.pile.calls.len(), self.pile.now().mono));
        self.reached.one("step", name);
        act(self);
        self.finish_older();
        self.attend();
        // No two things happen in the same moment.
        self.pile.advance_by(MOMENT);
    }

    /// On another connection; the old one is told at once, later, or by the store.
    fn log_in_again(&mut self) {
        self.trace.push("logs in again".into());
        self.check();
        let mut new = self.pile.elsewhere_slow();
        new.authority_waits = true;
        // Now and then the store cannot be asked: the session is provisional.
        let modes = [Mode::Away, Mode::LosesAnswers, Mode::Prompt, Mode::Prompt];
        let mode = if self.nature.calm { Mode::Prompt } else { modes[self.below(4) as usize] };
        self.trace.push(format!("the store is {mode:?}"));
        let late = self.chance(2) && !self.nature.calm;
        if !late {
            new.store_answers_as(mode);
        }
        if self.pile.ended.is_none() {
            self.pile.ends(EndReason::TakenOver);
        }
        if late {
            new.store_answers_as(mode);
        }
        self.replace(new);
    }

    /// The newest session has ended, and this one comes after it.
    fn replace(&mut self, new: Pile) {
        self.check_sent();
        self.check_replies();
        let old = std::mem::replace(&mut self.pile, new);
        assert_eq!(self.commands.len(), 0, "no answer: {:#?}", self.commands);
        self.charged.clear();
        self.stops_sent.clear();
        self.wishes = drivers::Wishes::default();
        self.unanswered.clear();
        self.kept.clear();
        self.older.push(old);
        if self.nature.calm {
            self.pile.store_returns();
        }
    }

    /// Sessions that are over do what they have left to do.
    fn finish_older(&mut self) {
        for at in (0..self.older.len()).rev() {
            let old = &mut self.older[at];
            if !old.calls.is_empty() {
                old.store_answers();
            }
            old.advance_by(Duration::ZERO);
            assert_eq!(old.received(), 0, "sent by a session that is over");
            if old.session.is_done() {
                let old = self.older.remove(at);
                self.left(old);
            }
        }
    }

    /// What must hold at any time.
    fn check(&mut self) {
        // What is due is not late yet.
        self.pile.advance_by(Duration::ZERO);
        let provisional = self.pile.session.provisional.is_some();
        let started = self.started.len();
        self.check_sent();
        self.check_replies();
        assert!(!provisional || self.started.len() == started, "a start without a claim");
        let store = self.pile.store.borrow();
        let gone = self.known.iter().find(|serial| !store.orders.contains_key(serial));
        assert_eq!(gone, None, "an order is lost");
        self.known.extend(store.orders.keys().copied());
        drop(store);
        let session = &self.pile.session;
        assert!(session.orders.len() <= 64);
        assert!(session.jobs.is_bounded());
        self.check_time();
        self.check_repeats();
        self.check_kept();
        self.check_together();
    }

    fn wait(&mut self, seconds: u64) {
        self.pile.advance(seconds);
    }

    /// One the pile was told lately, one it was told long ago, or one that nobody here gave out.
    fn serial(&mut self) -> Serial {
        let (which, n, long_ago) = (self.below(8), self.below(3) as usize, self.below(1 + self.told.len() as u64));
        let told = |at: usize| self.told.iter().rev().nth(at).map(|(serial, _)| *serial);
        let lately = told(n).or(told(0));
        let known = if which == 1 { told(long_ago as usize) } else { lately };
        known.filter(|_| which > 0).unwrap_or_else(|| foreign((self.steps / 60 * 2) as u8 + n as u8 % 2))
    }

    /// Mostly the one that was told with it.
    fn gun_of(&mut self, serial: Serial) -> Gun {
        let wrong = self.chance(8);
        let told = self.told.iter().find(|(told, _)| *told == serial).map(|(_, gun)| *gun);
        let right = told.unwrap_or(gun(1 + serial.bytes()[1] % 2));
        if wrong { gun(3 - right.number()) } else { right }
    }

    fn any_gun(&mut self) -> Gun {
        gun(1 + self.below(2) as u8)
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) % n
    }
}

/// Whatever it was that did not hold: how it came to that.
impl Drop for Walk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} steps: {:#?}", self.steps, self.trace);
        }
    }
}

/// A name, how often of all, and what happens.
type Step = (&'static str, u64, fn(&mut Walk));

const STEPS: &[Step] = &[
    ("charges", 5, |walk| {
        let serial = walk.serial();
        let gun = walk.gun_of(serial);
        walk.frame(Said::Charges(gun, serial));
    }),
    ("idles", 3, |walk| {
        let gun = walk.any_gun();
        walk.frame(Said::Idles(gun));
    }),
    ("is faulty or offline", 1, |walk| {
        let gun = walk.any_gun();
        walk.frame(Said::Fails(gun));
    }),
    ("accepts", 3, |walk| {
        let serial = walk.serial();
        walk.frame(Said::Accepts(serial));
    }),
    ("charges on", 1, |walk| {
        let serial = walk.serial();
        let gun = walk.gun_of(serial);
        for _ in 0..2 + walk.below(5) {
            walk.frame(Said::Charges(gun, serial));
            walk.wait(6);
        }
    }),
    ("is not plugged in", 2, |walk| {
        let serial = walk.serial();
        walk.frame(Said::Refuses(serial, 5));
        if walk.chance(3) {
            walk.wait(61);
        }
    }),
    ("refuses", 1, |walk| {
        let serial = walk.serial();
        walk.frame(Said::Refuses(serial, 3));
    }),
    ("answers a start oddly", 1, |walk| {
        let serial = walk.serial();
        walk.frame(Said::Refuses(serial, ODD));
    }),
    ("flickers", 1, |walk| {
        let gun = walk.any_gun();
        for _ in 0..[0, 0, 12][walk.below(3) as usize] {
            walk.frame(Said::Fails(gun));
            walk.frame(Said::Idles(gun));
        }
    }),
    ("answers a stop", 2, |walk| {
        let gun = walk.any_gun();
        let result = walk.below(2);
        walk.frame(Said::AnswersStop(gun, result));
    }),
    ("has ended", 1, |walk| {
        let serial = walk.serial();
        walk.frame(Said::Ends(serial));
    }),
    ("bills", 1, |walk| {
        let serial = walk.serial();
        let reason = 0x41 + u8::from(walk.chance(4));
        walk.frame(Said::Bills(serial, reason));
    }),
    ("bills a start that failed", 1, |walk| {
        let serial = walk.serial();
        if walk.chance(3) {
            walk.frame(Said::Bills(serial, 0x4B));
        }
    }),
    ("a card is shown", 3, Walk::a_card_is_shown),
    ("a vehicle asks", 2, Walk::a_vehicle_asks),
    ("bills an offline card", 1, Walk::bills_an_offline_card),
    ("the authority answers", 2, Walk::authority_answers),
    ("answers a tariff", 1, Walk::answers_a_tariff),
    ("says which tariff it has", 1, |walk| {
        let number = walk.below(2);
        walk.pile.sends(0x05, &[("tariff_model_no", number)]);
        walk.pile.sends(0x09, &[]);
    }),
    ("answers a balance", 1, |walk| {
        let result = walk.below(2);
        walk.pile.sends(0x41, &[("result", result)]);
    }),
    ("something else", 1, |walk| {
        let code = [0x91, 0x55, 0x23, 0x03][walk.below(4) as usize];
        walk.pile.sends(code, &[]);
    }),
    ("repeats its login", 1, |walk| {
        let version = if walk.nature.v18 { 18 } else { 16 };
        walk.pile.sends_frame(crate::wire::Sequence([0, 1]), login_of(2, version));
    }),
    ("start", 4, Walk::asks_to_start),
    ("start on two guns", 3, Walk::asks_to_start_both),
    ("both guns go on", 4, Walk::both_guns_go_on),
    ("start with a tariff", 1, Walk::asks_to_start_with_tariff),
    ("stop", 2, Walk::asks_to_stop),
    ("stop at login", 1, Walk::asks_to_stop_at_login),
    ("close", 1, Walk::asks_to_close),
    ("new balance", 1, Walk::asks_for_a_new_balance),
    ("another command", 1, Walk::asks_for_something_else),
    ("falls silent", 1, |walk| {
        walk.pile.input(Input::Silent);
        walk.wait(2);
        walk.pile.input(Input::Heard);
    }),
    ("a moment", 3, |walk| walk.wait(1)),
    ("a while", 2, |walk| {
        let seconds = 2 + walk.below(30);
        walk.wait(seconds);
    }),
    ("a minute", 1, |walk| {
        if walk.chance(2) {
            walk.wait(60);
        }
    }),
    ("the connection ends", 1, |walk| {
        let reasons = [EndReason::ConnectionClosed, EndReason::Silent, EndReason::TakenOver, EndReason::HeardElsewhere];
        let reason = reasons[walk.below(4) as usize];
        if walk.chance(2) {
            walk.pile.ends(reason);
        }
    }),
    ("moves to another connection", 1, |walk| {
        if walk.chance(6) {
            walk.log_in_again();
        }
    }),
    ("drains", 1, |walk| {
        let patience = [Patience::Idle, Patience::Answers][walk.below(2) as usize];
        if walk.chance(20) {
            walk.pile.input(Input::Drain(patience));
        }
    }),
    ("is asked whose it is", 1, |walk| {
        let anew = walk.chance(8);
        if walk.chance(4) {
            walk.pile.input(Input::Reassert { anew });
        }
    }),
    ("the store answers", 12, |walk| walk.store_answers_as(Mode::Prompt)),
    ("the store is away", 1, |walk| walk.store_answers_as(Mode::Away)),
    ("the store loses an answer", 1, |walk| walk.store_answers_as(Mode::LosesAnswers)),
    ("somebody else writes", 1, Walk::somebody_else_writes),
    ("somebody takes the serial", 1, Walk::somebody_takes_the_serial),
    ("somebody amends an order", 2, Walk::somebody_amends),
    ("somebody settles an order", 1, Walk::somebody_settles),
    ("somebody claims the pile", 1, Walk::somebody_claims),
    ("the pile is released", 1, Walk::somebody_releases),
    ("the store loses writes", 1, Walk::store_loses_writes),
];

impl Walk {
    fn store_answers_as(&mut self, mode: Mode) {
        if self.pile.calls.is_empty() { self.wait(1) } else { self.pile.store_answers_as(mode) }
    }
}

const MOMENT: Duration = Duration::from_millis(1);
const WALKS: u64 = 1000;
const STEPS_OF_A_WALK: u64 = 400;
