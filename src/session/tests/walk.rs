//! A walk at random through everything that can happen to a pile's orders: frames, commands, time, disconnects, moves to
//! other nodes, a store that is slow, away, or loses what it had. No reachable state loses an order, none settles twice,
//! every breach of a rule is reported once. Seeded: a failure names its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::harness::*;
use super::ledger::Mode;
use crate::domain::command::{NewBalance, When};
use crate::domain::order::{AnomalyKind, Change, Close, Happening};
use crate::domain::{Command, Energy, Epoch, Fence, Order, OrderState, RequestId, Serial, SessionId};
use crate::session::io::{EndReason, Input, Patience};

#[test]
fn whatever_happens_in_whatever_order_the_promises_hold() {
    for seed in 1..=800 {
        Walk::new(seed).run(300);
    }
}

struct Walk {
    /// The newest session of the pile.
    pile: Pile,
    /// Those it has replaced, while they have something left for the store.
    older: Vec<Pile>,
    random: u64,
    /// Until when 0x34 may be written for a request id.
    deadlines: BTreeMap<RequestId, Duration>,
    /// Serials that were named in a 0x34, and the requests behind them.
    started: BTreeSet<Serial>,
    requests: BTreeSet<RequestId>,
    /// Every order the store has ever had, but for those it has lost itself.
    known: BTreeSet<Serial>,
    /// Those that were forgotten with their only witness: what becomes of such a serial is another order.
    lost: BTreeSet<Serial>,
    /// Of the newest session.
    commands: BTreeSet<u64>,
    trace: Vec<String>,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut pile = Pile::online();
        pile.mode = Mode::Slow;
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let (deadlines, started, requests, known, lost, commands) = Default::default();
        let trace = vec![format!("seed {seed}")];
        Self { pile, older: vec![], random, deadlines, started, requests, known, lost, commands, trace }
    }

    fn run(mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
            self.check();
        }
        self.log_in_again();
        for mut old in std::mem::take(&mut self.older) {
            if old.ended.is_none() {
                old.ends(EndReason::TakenOver);
            }
            old.store_returns();
            // What waits to be written again is.
            old.advance(2);
            let frames = old.all_received();
            self.check_received(frames);
            assert!(old.session.is_done(), "something is left: {:#?}", self.trace);
        }
        let store = self.pile.store.borrow();
        for (serial, (order, _)) in &store.orders {
            let changes = store.changes(*serial);
            let settlements = changes.iter().filter(|change| **change == Change::Settled).count();
            let once = usize::from(order.state == OrderState::Settled);
            assert_eq!(settlements, once, "{serial} settles {settlements} times: {:#?}", self.trace);
            assert_eq!(store.records.contains_key(serial), once == 1, "{serial}: {:#?}", self.trace);
            let settled = changes.iter().position(|change| *change == Change::Settled);
            let after = settled.map_or(&[][..], |at| &changes[at + 1..]);
            let found = order.bill.as_ref().is_some_and(|bill| !bill.audit.is_empty());
            let found = found.then_some(Change::Anomaly(AnomalyKind::BillMismatch));
            let late = order.record_after_close.map(|_| Change::Anomaly(AnomalyKind::RecordAfterClose));
            assert_eq!(
                after,
                found.into_iter().chain(late).collect::<Vec<_>>(),
                "{serial} goes on after SETTLED: {:#?}",
                self.trace
            );
            self.check_breaches(order, &changes);
            let other = order.parallel.map(|other| other.serial).filter(|other| !self.lost.contains(other));
            assert!(other.is_none_or(|other| store.orders.contains_key(&other)), "half a start: {:#?}", self.trace);
            // What is stored of an order was told with it; a bill overtakes what waits to be told.
            let told = |change| settled.is_some() || store.changes(*serial).contains(&change);
            // A charge that goes on after a breach is no news.
            let broken = !order.anomalies.is_empty();
            let charged = order.charging_at.is_none() || broken || told(Change::Charging);
            assert!(charged, "{serial}: {:#?}", self.trace);
            assert!(order.stop.is_none() || told(Change::StopRequested), "{serial}: {:#?}", self.trace);
            assert!(order.failure.is_none() || told(Change::Failed), "{serial}: {:#?}", self.trace);
            assert!(order.closing.is_none() || told(Change::Closed), "{serial}: {:#?}", self.trace);
        }
        let open = store.orders.values().filter(|(order, _)| order.state.is_open()).map(|(order, _)| order.serial);
        let (claims, session) = (store.owner.map(|owner| owner.session), &self.pile.session);
        if claims == Some(session.id()) && session.fence() == store.owner && session.provisional.is_none() {
            let held = |serial: &Serial| session.orders.iter().any(|held| held.order.serial == *serial);
            // A session holds so many; the others are read when their record comes.
            let forgotten = open.filter(|serial| !held(serial)).count();
            assert!(forgotten == 0 || session.orders.len() >= 63, "open, and not held: {:#?}", self.trace);
        }
    }

    /// Each kind at most once, and what is stored of a breach was told.
    fn check_breaches(&self, order: &Order, changes: &[Change]) {
        let serial = order.serial;
        for kind in AnomalyKind::ALL {
            let told = changes.iter().filter(|change| **change == Change::Anomaly(kind)).count();
            let kept = order.anomalies.iter().filter(|anomaly| anomaly.kind == kind).count();
            assert!(
                told <= 1 || self.lost.contains(&serial),
                "{serial}: {kind:?} told {told} times: {:#?}",
                self.trace
            );
            assert!(kept <= 1, "{serial}: {kind:?} kept {kept} times: {:#?}", self.trace);
            // A bill overtakes what waits to be told; a conflicting one has an event of its own.
            let silent = order.state == OrderState::Settled || kind == AnomalyKind::RecordConflict;
            assert!(
                silent || told == kept || self.lost.contains(&serial),
                "{serial}: {kind:?} told {told} times, kept {kept}: {:#?}",
                self.trace
            );
        }
    }

    /// On another connection; the old one is told at once, later, or by the store.
    fn log_in_again(&mut self) {
        self.trace.push("logs in again".into());
        let mut new = self.pile.elsewhere_slow();
        // Now and then the store cannot be asked: the session is provisional.
        let mode = [Mode::Away, Mode::LosesAnswers, Mode::Prompt, Mode::Prompt][self.below(4) as usize];
        self.trace.push(format!("the store is {mode:?}"));
        new.store_answers_as(mode);
        let mut old = std::mem::replace(&mut self.pile, new);
        if old.ended.is_none() {
            old.ends(EndReason::TakenOver);
        }
        for id in std::mem::take(&mut self.commands) {
            assert!(old.replies.contains_key(&id), "command {id} has no answer: {:#?}", self.trace);
        }
        self.older.push(old);
    }

    fn step(&mut self) {
        let (gun, serial, yes) = (self.below(3), self.any_serial(), self.below(2));
        let of_gun = [("gun_no", gun)];
        if self.pile.ended.is_some() && self.below(4) == 0 {
            self.log_in_again();
        }
        if let Some(old) = self.older.last_mut().filter(|old| !old.calls.is_empty()) {
            old.store_answers();
        }
        let (what, seldom) = (self.below(40), self.below(40) == 0);
        self.trace.push(format!(
            "{what} gun {gun} {serial} {yes} {:?} {:?}",
            self.pile.calls.len(),
            self.pile.now().mono
        ));
        let pile = &mut self.pile;
        match what {
            0 => drop(pile.sends(0x03, &[("gun_no", gun), ("gun_status", yes)])),
            1 => drop(pile.sends(0x05, &[("tariff_model_no", gun)])),
            2 => drop(pile.sends(0x09, &[])),
            3..=6 => drop(pile.sends_of(serial, 0x13, &[("gun_no", gun), ("status", 3), ("energy", yes)])),
            7 | 8 => drop(pile.sends(0x13, &[("gun_no", gun), ("status", 2), ("gun_plugged", yes)])),
            9 => drop(pile.sends_of(serial, 0x13, &[("gun_no", gun), ("status", yes)])),
            10 | 11 => pile.accepts(serial),
            12 => pile.refuses(serial, 5),
            13 => pile.refuses(serial, 3),
            14 => drop(pile.sends(0x35, &[("gun_no", gun), ("stop_result", yes)])),
            15 => drop(pile.sends_of(serial, 0x19, &of_gun)),
            16 | 17 => drop(pile.bills_with(serial, 0x41 + yes)),
            18 => drop(pile.sends([0x31, 0xA1, 0xA5][gun as usize], &[("gun_no", 1)])),
            19 if yes == 1 => drop(pile.sends(0x41, &[])),
            19 => drop(pile.sends([0x91, 0x55, 0x23][gun as usize], &[])),
            20 => pile.sends_frame(crate::wire::Sequence([0, 1]), login_request(2)),
            21..=24 => self.ask(gun, serial, yes == 0),
            25 => pile.input([Input::Silent, Input::Heard].into_iter().nth(yes as usize).expect("one of two")),
            27 | 28 => self.wait(yes * 20 + gun),
            29 if gun == 0 => self.wait(60),
            30 if gun == 0 && yes == 0 => self.somebody_else_writes(serial),
            30 if gun == 1 && yes == 0 => self.somebody_amends(serial),
            31 if seldom => pile.store.borrow_mut().owner = None,
            31 if gun == 0 => pile.ends(
                [EndReason::ConnectionClosed, EndReason::TakenOver, EndReason::HeardElsewhere]
                    [self.random as usize % 3],
            ),
            26 if yes == 0 && gun == 0 => pile.input(Input::Reassert { anew: seldom }),
            32 if gun == 0 => self.store_loses_writes(),
            32 if gun == 1 && yes == 0 => self.somebody_claims(),
            39 if seldom => pile.input(Input::Drain([Patience::Idle, Patience::Answers][yes as usize])),
            _ if pile.calls.is_empty() => self.wait(1),
            33 => pile.store_answers_as(Mode::Away),
            34 => pile.store_answers_as(Mode::LosesAnswers),
            _ => pile.store_answers(),
        }
    }

    fn ask(&mut self, n: u64, serial: Serial, own: bool) {
        let within = 1 + self.below(40);
        let command = match self.below(10) {
            0 => Command::ReadTelemetry { gun: gun(n as u8 + 1) },
            1 => Command::SyncClock,
            2 => Command::Reboot { when: When::WhenIdle },
            3 if self.below(10) == 0 => Command::Disconnect { when: When::WhenIdle },
            4 => Command::StopCharging { serial },
            6 => Command::UpdateBalance(NewBalance { serial, fen: 5, physical_card: [0; 8] }),
            5 if own => {
                let close = Close { reason: String::new(), given: None, force: self.below(4) == 0 };
                Command::CloseOrder { serial, close: Box::new(close) }
            }
            5 => Command::StopAtLogin { serial, expires_at: self.pile.now().wall.plus_ms(within * 1000) },
            7 => {
                let start = parallel_request(self.below(30) as u8);
                self.may_be_written(start.request_id, within);
                Command::StartParallelCharging(Box::new(start))
            }
            _ => {
                let mut start = request(self.below(30) as u8);
                start.gun = gun(n as u8 + 1);
                start.limits.duration_s = (self.below(4) == 0).then_some(30);
                start.limits.energy = (self.below(4) == 0).then_some(Energy(1));
                start.serial = own.then_some(serial).filter(|_| self.below(10) == 0);
                self.may_be_written(start.request_id, within);
                Command::StartCharging(Box::new(start))
            }
        };
        let id = self.pile.command(command, within);
        self.commands.insert(id);
    }

    fn may_be_written(&mut self, id: RequestId, within: u64) {
        let deadline = self.pile.now().mono + Duration::from_secs(within);
        let known = self.deadlines.entry(id).or_insert(deadline);
        *known = deadline.max(*known);
    }

    /// Time passes without the harness's own timer: the session asks for it.
    fn wait(&mut self, seconds: u64) {
        self.pile.advance(seconds);
    }

    fn somebody_else_writes(&mut self, serial: Serial) {
        let mut store = self.pile.store.borrow_mut();
        if let Some((_, version)) = store.orders.get_mut(&serial) {
            *version += 7;
        }
        if let Some((_, version)) = store.pile.as_mut() {
            *version += 7;
        }
    }

    /// Who has asked elsewhere and found no session: the order is closed, or its stop planned, in the store.
    fn somebody_amends(&mut self, serial: Serial) {
        let (now, close) = (self.pile.now().wall, self.below(2) == 0);
        let mut store = self.pile.store.borrow_mut();
        let Some((order, _)) = store.orders.get(&serial) else { return };
        if close {
            let close = Close { reason: String::new(), given: None, force: false };
            if close.check(order, now).is_ok() {
                store.amend(serial, now, Happening::Closed(Box::new(close)));
            }
        } else if order.may_be_stopped() {
            store.amend(serial, now, Happening::StopPlanned { expires_at: now.plus_ms(20_000) });
        }
    }

    /// Another server answers for the partition, and has not got all of what the last one acknowledged. The node notices,
    /// and says again what it holds.
    fn store_loses_writes(&mut self) {
        let Self { pile, trace, .. } = self;
        // What is under way when it happens may be lost with its only witness: a bill that settles an order the store
        // does not have any more says nothing of who started it.
        let quiet = |pile: &mut Pile| {
            for _ in 0..3 {
                while !pile.calls.is_empty() {
                    pile.store_answers();
                }
                pile.advance(1);
            }
        };
        quiet(pile);
        if pile.session.standing().is_none() || pile.session.provisional.is_some() {
            return;
        }
        let stored = pile.session.orders.iter().filter(|held| held.version.is_some() && held.order.request.is_some());
        let open: Vec<_> = stored.map(|held| held.order.serial).collect();
        let requests: Vec<_> = pile.session.orders.iter().filter_map(|held| Some(held.order.request?.id)).collect();
        pile.store.borrow_mut().loses(&open);
        pile.input(Input::Reassert { anew: true });
        quiet(pile);
        if pile.ended.is_some() {
            // The only witness has gone: what was lost may start again.
            self.requests.retain(|id| !requests.contains(id));
            self.started.retain(|serial| !open.contains(serial));
            self.known.retain(|serial| !open.contains(serial));
            self.lost.extend(open);
            return;
        }
        let store = pile.store.borrow();
        let missing = |serial: &&Serial| !store.orders.contains_key(serial);
        assert_eq!(open.iter().find(missing), None, "not put again: {trace:#?}");
        let owner = store.owner.expect("somebody");
        assert_eq!(pile.registered, Some(owner), "{trace:#?}");
    }

    /// On another node.
    fn somebody_claims(&mut self) {
        let mut store = self.pile.store.borrow_mut();
        store.epoch += 1;
        let session = SessionId { incarnation: 9, counter: 1 };
        store.owner = Some(Fence { session, epoch: Epoch(store.epoch) });
    }

    fn check(&mut self) {
        let provisional = self.pile.session.provisional.is_some();
        let started = self.started.len();
        let frames = self.older.iter_mut().chain([&mut self.pile]).flat_map(Pile::all_received).collect();
        self.check_received(frames);
        assert!(!provisional || self.started.len() == started, "a start without a claim: {:#?}", self.trace);
        let store = self.pile.store.borrow();
        let gone = self.known.iter().find(|serial| !store.orders.contains_key(serial));
        assert_eq!(gone, None, "an order is lost: {:#?}", self.trace);
        self.known.extend(store.orders.keys().copied());
        drop(store);
        let session = &self.pile.session;
        assert!(session.orders.len() <= 64, "{:#?}", self.trace);
        assert!(session.jobs.is_bounded(), "{:#?}", self.trace);
    }

    fn check_received(&mut self, frames: Vec<Down>) {
        let starts: Vec<_> = frames.iter().filter(|down| down.frame.code() == 0xA4).map(Down::serial).collect();
        for down in frames {
            let pile = &self.pile;
            match down.frame.code() {
                0x34 | 0xA4 => {
                    let serial = down.serial();
                    assert!(self.started.insert(serial), "0x34 twice: {:#?}", self.trace);
                    let store = pile.store.borrow();
                    let order = store.orders.get(&serial).map(|(order, _)| order);
                    let order = order.unwrap_or_else(|| panic!("0x34 before the order: {:#?}", self.trace));
                    let id = order.request.expect("its request id").id;
                    assert!(down.at < self.deadlines[&id], "0x34 too late: {:#?}", self.trace);
                    let twice = !self.requests.insert(id) && order.leads();
                    assert!(!twice, "one request started twice: {:#?}", self.trace);
                    let alone = order.parallel.is_some_and(|other| !starts.contains(&other.serial));
                    assert!(!alone, "one gun of two started: {:#?}", self.trace);
                }
                0x40 => {
                    let settled = pile.store.borrow().records.contains_key(&down.serial());
                    assert!(settled, "0x40 before the record: {:#?}", self.trace);
                }
                _ => {}
            }
        }
    }

    fn any_serial(&mut self) -> Serial {
        let n = self.below(6);
        let known: Vec<_> = self.started.iter().rev().take(6).copied().collect();
        known.get(n as usize).copied().unwrap_or_else(|| foreign(n as u8 % 3))
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) % n
    }
}
