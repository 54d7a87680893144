//! A session with everything around it: the pile, the clock, the callers and the store.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::ledger::{Mode, Store};
pub use super::samples::*;
use crate::domain::command::{ParallelStart, Start, When};
use crate::domain::order::Close;
use crate::domain::pile::GunState;
use crate::domain::{Command, CommandError, Fence, OrderState, Period, Reply, Serial, SessionId, Telemetry, WallMs};
use crate::session::absent::Absent;
use crate::session::authority::{ChargeAsk, Denial, Verdict};
use crate::session::io::{Done, LedgerCall};
use crate::session::io::{EndReason, Input, Out, Output, Reassertion};
use crate::session::pending::CommandId;
use crate::session::state::Session;
use crate::session::{Config, Now, Policy};
use crate::wire::{self, Frame, Packet, Sequence};

const ADDRESS: &str = "10.0.0.1:4711";

/// One pile with one session, seen from everywhere.
pub struct Pile {
    pub session: Session,
    pub store: Rc<RefCell<Store>>,
    pub mode: Mode,
    clock: Rc<Cell<Now>>,
    sessions: Rc<Cell<u64>>,
    version: u64,
    policy: Arc<Policy>,
    out: Out,
    /// What the ledger has been asked and has not answered.
    pub calls: VecDeque<LedgerCall>,
    /// What the authority has been asked; it says no to everything unless it is told to wait.
    pub asked: VecDeque<ChargeAsk>,
    pub authority_waits: bool,
    /// Whether it may log in has been asked.
    pub knocked: bool,
    received: VecDeque<Down>,
    pub replies: BTreeMap<u64, Result<Reply, CommandError>>,
    pub published: Vec<Telemetry>,
    pub ended: Option<EndReason>,
    pub registered: Option<Fence>,
    /// Whom a claim has taken the pile from that was won too late.
    pub evicted: Option<Fence>,
    /// What it said of being asked whether the pile is ours.
    pub reasserted: Vec<Reassertion>,
    /// It would tell that its pile code is used twice.
    pub duplicate: bool,
    /// The sequences of what was sent to the pile without being an answer.
    asking: BTreeSet<[u8; 2]>,
    commands: u64,
    sequence: u16,
}

/// What all sessions of a test share: the store, the clock, how many sessions there were, and the protocol version their
/// pile speaks.
type Shared = (Rc<RefCell<Store>>, Rc<Cell<Now>>, Rc<Cell<u64>>, u64);

/// A frame to the pile.
#[derive(Clone, Debug)]
pub struct Down {
    /// When it was sent.
    pub at: Duration,
    pub sequence: Sequence,
    pub frame: Frame,
}

impl Pile {
    /// Logged in, nothing left to do, 0x02 received.
    pub fn online() -> Self {
        let mut pile = Self::connecting(Mode::Prompt);
        assert_eq!(pile.receives(0x02).get("result"), 0);
        pile.receives_nothing();
        pile
    }

    /// Has sent 0x01 for the first time.
    pub fn connecting(mode: Mode) -> Self {
        Self::with_tariff(mode, 100_000)
    }

    pub fn with_tariff(mode: Mode, energy_price: u32) -> Self {
        let clock = Now { mono: Duration::from_secs(100), wall: WallMs(1_700_000_000_000) };
        let shared = (Rc::default(), Rc::new(Cell::new(clock)), Rc::default(), V16);
        Self::log_in(mode, policy(energy_price), ADDRESS, shared)
    }

    /// Logged in, with other settings.
    pub fn online_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::online_as(V16, change)
    }

    /// The same pile with another protocol version.
    pub fn online_as(version: u64, change: impl FnOnce(&mut Config)) -> Self {
        let mut policy = policy(100_000).as_ref().clone();
        change(&mut policy.config);
        let clock = Now { mono: Duration::from_secs(100), wall: WallMs(1_700_000_000_000) };
        let shared = (Rc::default(), Rc::new(Cell::new(clock)), Rc::default(), version);
        let mut pile = Self::log_in(Mode::Prompt, Arc::new(policy), ADDRESS, shared);
        pile.receives(0x02);
        pile
    }

    /// The same pile, on another connection.
    pub fn elsewhere(&self) -> Self {
        self.elsewhere_with(self.policy.clone())
    }

    pub fn elsewhere_with(&self, policy: Arc<Policy>) -> Self {
        Self::log_in(self.mode, policy, ADDRESS, self.shared())
    }

    /// The same, calling from another address.
    pub fn elsewhere_from(&self, address: &str) -> Self {
        Self::log_in(self.mode, self.policy.clone(), address, self.shared())
    }

    /// The same, and the store takes its time.
    pub fn elsewhere_slow(&self) -> Self {
        Self::log_in(Mode::Slow, self.policy.clone(), ADDRESS, self.shared())
    }

    fn shared(&self) -> Shared {
        (self.store.clone(), self.clock.clone(), self.sessions.clone(), self.version)
    }

    /// What is left for whoever watches over piles without a session.
    pub fn absent(self) -> Option<Absent> {
        self.session.into_absent(Duration::ZERO)
    }

    fn log_in(mode: Mode, policy: Arc<Policy>, address: &str, (store, clock, sessions, version): Shared) -> Self {
        sessions.set(sessions.get() + 1);
        let id = SessionId { incarnation: 1, counter: sessions.get() };
        let Frame::LoginRequest(request) = login_of(2, version) else { unreachable!("0x01 is a login") };
        let mut out = Out::default();
        let login = (code(), &request, Sequence([0x99, 0x88]));
        let session = Session::login(policy.clone(), id, login, address.into(), clock.get(), 7, &mut out);
        let mut pile = Self {
            session,
            store,
            mode,
            clock,
            sessions,
            version,
            policy,
            out,
            calls: VecDeque::new(),
            asked: VecDeque::new(),
            authority_waits: false,
            knocked: false,
            received: VecDeque::new(),
            replies: BTreeMap::new(),
            published: vec![],
            ended: None,
            registered: None,
            evicted: None,
            reasserted: vec![],
            duplicate: false,
            asking: BTreeSet::new(),
            commands: 0,
            sequence: 500,
        };
        pile.perform();
        pile.settle_down();
        pile
    }

    pub fn now(&self) -> Now {
        self.clock.get()
    }

    // ---- the pile

    /// A frame of this pile with these fields, all others zero; the serial by name, too.
    pub fn sends(&mut self, code: u8, fields: &[(&str, u64)]) -> Sequence {
        self.sends_of(Serial::NONE, code, fields)
    }

    pub fn sends_of(&mut self, serial: Serial, code: u8, fields: &[(&str, u64)]) -> Sequence {
        self.sequence += 1;
        let sequence = Sequence(self.sequence.to_be_bytes());
        self.sends_frame(sequence, frame(code, serial, fields));
        sequence
    }

    pub fn sends_frame(&mut self, sequence: Sequence, frame: Frame) {
        let (crc, counting) = (wire::CrcOrder::LowFirst, wire::LengthCounting::Normal);
        let packet = Packet { sequence, frame, tail: Bytes::new(), crc, counting };
        self.input(Input::Frame(Box::new(packet)));
    }

    /// Says so in another 0x01.
    pub fn speaks(&mut self, version: u64) {
        let login = frame(0x01, Serial::NONE, &[("gun_count", 2), ("protocol_version", version)]);
        self.sends_frame(Sequence([1, 1]), login);
        self.receives(0x02);
    }

    /// 0x33 yes.
    pub fn accepts(&mut self, serial: Serial) {
        self.sends_of(serial, 0x33, &[("gun_no", 1), ("start_result", 1)]);
    }

    /// 0x33 no.
    pub fn refuses(&mut self, serial: Serial, reason: u64) {
        self.sends_of(serial, 0x33, &[("gun_no", 1), ("fail_reason", reason)]);
    }

    /// 0x13 that charges.
    pub fn charges(&mut self, serial: Serial) {
        self.sends_of(serial, 0x13, &[("gun_no", 1), ("status", 3), ("gun_plugged", 1), ("energy", 1000)]);
    }

    /// 0x13 that does not.
    pub fn idles(&mut self) {
        self.sends(0x13, &[("gun_no", 1), ("status", 2)]);
    }

    /// A bill of 10 kWh, by the tariff.
    pub fn bills(&mut self, serial: Serial) -> Sequence {
        self.bills_with(serial, 0x41)
    }

    pub fn bills_with(&mut self, serial: Serial, stop_reason: u64) -> Sequence {
        self.bills_as(serial, stop_reason, 0)
    }

    pub fn bills_as(&mut self, serial: Serial, stop_reason: u64, start_type: u64) -> Sequence {
        let unit = self.policy.tariff.prices_of(Period::Flat).unit();
        let (energy, amount) = if stop_reason == 0x41 { (100_000, u64::from(unit.0)) } else { (0, 0) };
        let fields = [
            ("gun_no", 1),
            ("stop_reason", stop_reason),
            ("start_type", start_type),
            ("flat_unit_price", u64::from(unit.0)),
            ("flat_energy", energy),
            ("flat_loss_energy", energy),
            ("flat_amount", amount),
            ("meter_end", energy),
            ("total_energy", energy),
            ("total_loss_energy", energy),
            ("total_amount", amount),
        ];
        self.sends_of(serial, 0x3B, &fields)
    }

    /// The next frame the pile gets; it must be of this type.
    #[track_caller]
    pub fn receives(&mut self, code: u8) -> Down {
        let down = self.received.pop_front().unwrap_or_else(|| panic!("nothing was sent instead of {code:#04x}"));
        assert_eq!(down.frame.code(), code, "{down:?}");
        down
    }

    #[track_caller]
    pub fn receives_nothing(&self) {
        assert!(self.received.is_empty(), "sent: {:?}", self.received);
    }

    pub fn all_received(&mut self) -> Vec<Down> {
        self.received.drain(..).collect()
    }

    /// What of this type has been sent and not been looked at.
    pub fn waiting(&self, code: u8) -> impl Iterator<Item = &Down> {
        self.received.iter().filter(move |down| down.frame.code() == code)
    }

    pub fn received(&self) -> usize {
        self.received.len()
    }

    // ---- callers

    pub fn command(&mut self, command: Command, within: u64) -> u64 {
        self.commands += 1;
        let deadline = self.now().mono + Duration::from_secs(within);
        self.input(Input::Command { id: CommandId(self.commands), command, deadline });
        self.commands
    }

    pub fn start(&mut self, start: &Start) -> u64 {
        self.command(Command::StartCharging(Box::new(start.clone())), 30)
    }

    pub fn start_parallel(&mut self, start: &ParallelStart) -> u64 {
        self.command(Command::StartParallelCharging(Box::new(start.clone())), 30)
    }

    pub fn stop(&mut self, serial: Serial) -> u64 {
        self.command(Command::StopCharging { serial }, 10)
    }

    pub fn close(&mut self, serial: Serial, force: bool) -> u64 {
        let close = Box::new(Close { reason: "never billed".into(), given: None, force });
        self.command(Command::CloseOrder { serial, close }, 10)
    }

    pub fn disconnect(&mut self, when: When) -> u64 {
        self.command(Command::Disconnect { when }, 10)
    }

    #[track_caller]
    pub fn reply(&mut self, command: u64) -> Result<Reply, CommandError> {
        self.replies.remove(&command).unwrap_or_else(|| panic!("command {command} has no answer"))
    }

    #[track_caller]
    pub fn started(&mut self, command: u64) -> OrderState {
        match self.reply(command) {
            Ok(Reply::Started(order)) => order.state,
            other => panic!("not started: {other:?}"),
        }
    }

    #[track_caller]
    pub fn waits_still(&self, command: u64) {
        assert!(!self.replies.contains_key(&command), "answered: {:?}", self.replies[&command]);
    }

    /// Asked for, durable, 0x34 received, not answered.
    pub fn starting(&mut self) -> (u64, Serial) {
        let id = self.start(&request(self.commands as u8 + 1));
        (id, self.receives(0x34).serial())
    }

    /// An order that charges on gun 1.
    pub fn charging(&mut self) -> Serial {
        let (id, serial) = self.starting();
        self.accepts(serial);
        self.charges(serial);
        assert_eq!(self.started(id), OrderState::Starting);
        serial
    }

    // ---- time

    /// Time passes; the timer goes off whenever the session asked for it.
    pub fn advance(&mut self, seconds: u64) {
        self.advance_by(Duration::from_secs(seconds));
    }

    pub fn advance_by(&mut self, time: Duration) {
        let until = self.now().mono + time;
        let mut at_once = 0;
        while let Some(due) = self.session.due(self.now()).filter(|due| *due <= until) {
            self.move_clock(due.saturating_sub(self.now().mono));
            self.input(Input::Timer);
            let next = self.session.due(self.now());
            // What the store answers meanwhile may be overdue in its turn.
            at_once = if next.is_some_and(|next| next <= self.now().mono) { at_once + 1 } else { 0 };
            assert!(at_once < 4, "the timer spins at {:?}", self.now());
        }
        self.move_clock(until.saturating_sub(self.now().mono));
    }

    fn move_clock(&self, by: Duration) {
        let Now { mono, wall } = self.now();
        self.clock.set(Now { mono: mono + by, wall: wall.plus_ms(by.as_millis() as u64) });
    }

    // ---- the store

    /// It answers what it has been asked, and everything after that, promptly.
    pub fn store_returns(&mut self) {
        self.mode = Mode::Prompt;
        self.settle_down();
    }

    /// It answers the one call that is under way.
    pub fn store_answers(&mut self) {
        self.store_answers_as(Mode::Prompt);
    }

    pub fn store_answers_as(&mut self, mode: Mode) {
        let call = self.calls.pop_front().expect("the store has been asked something");
        let done = self.store.borrow_mut().answer(&call, mode);
        self.input(Input::Done(done));
    }

    pub fn store_says(&mut self, done: Done) {
        self.calls.pop_front().expect("the store has been asked something");
        self.input(Input::Done(done));
    }

    pub fn order_state(&self, serial: Serial) -> OrderState {
        self.store.borrow().order(serial).state
    }

    pub fn events(&self) -> Vec<&'static str> {
        self.store.borrow().events.iter().map(name).collect()
    }

    pub fn gun_state(&self, number: u8) -> GunState {
        let store = self.store.borrow();
        let (pile, _) = store.pile.as_ref().expect("the pile is stored");
        pile.guns.iter().find(|status| status.gun == gun(number)).expect("a gun of the pile").state
    }

    // ---- the connection

    pub fn ends(&mut self, reason: EndReason) {
        self.input(Input::End(reason));
    }

    pub fn input(&mut self, input: Input) {
        self.session.apply(self.now(), input, &mut self.out);
        self.perform();
        self.settle_down();
    }

    fn perform(&mut self) {
        for output in self.out.list.drain(..) {
            match output {
                Output::Send { sequence, frame, until } => {
                    let at = self.clock.get().mono;
                    assert!(until.is_none_or(|until| at < until), "past its deadline: {frame:?}");
                    let once = !ASKING.contains(&frame.code()) || self.asking.insert(sequence.0);
                    assert!(once, "a sequence is used again: {frame:?}");
                    self.received.push_back(Down { at, sequence, frame });
                }
                Output::Ledger(call) => {
                    self.calls.push_back(call);
                    assert_eq!(self.calls.len(), 1, "one call of a pile at a time");
                }
                Output::Admit(_) => self.knocked = true,
                Output::Authorise(ask) => self.asked.push_back(*ask),
                Output::Register { fence, previous: _, claim: _ } => self.registered = Some(fence),
                Output::ClaimedInVain { fence: _, previous } => self.evicted = Some(previous),
                Output::RegisterProvisionally(guess) => self.registered = Some(guess),
                Output::Reasserted(what) => self.reasserted.push(what),
                Output::Duplicate => self.duplicate = true,
                Output::Publish(telemetry) => self.published.push(*telemetry),
                Output::Reply { to, result } => {
                    assert!(self.replies.insert(to.0, result).is_none(), "command {} was answered twice", to.0);
                }
                Output::Ended { reason, fence } => {
                    assert_eq!(self.ended.replace(reason), None, "it ends once");
                    assert_eq!(fence, self.registered, "what was registered is what must be taken back");
                }
            }
        }
    }

    /// The store answers until it has nothing left to do, unless it is slow; and so does the authority.
    fn settle_down(&mut self) {
        while !self.authority_waits
            && let Some(ask) = self.asked.pop_front()
        {
            let no = Ok(Verdict::Deny(Denial::unknown(&ask.shown)));
            self.session.apply(self.now(), Input::Done(Done::Authorised(ask.serial, no)), &mut self.out);
            self.perform();
        }
        while self.mode != Mode::Slow
            && let Some(call) = self.calls.pop_front()
        {
            let done = self.store.borrow_mut().answer(&call, self.mode);
            self.session.apply(self.now(), Input::Done(done), &mut self.out);
            self.perform();
        }
    }
}

impl Down {
    /// A field of the frame as a little-endian number.
    #[track_caller]
    pub fn get(&self, field: &str) -> u64 {
        let (from, len) = place(&self.frame, field);
        let mut body = BytesMut::new();
        self.frame.encode_body(&mut body);
        body[from..from + len].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte))
    }

    #[track_caller]
    pub fn serial(&self) -> Serial {
        Serial::from_bytes(self.frame.serial().expect("a frame with a serial").0)
    }
}

/// The version most piles speak.
const V16: u64 = 16;

/// Frames that are no answers: what the pile says to them carries their sequence.
const ASKING: [u8; 9] = [0x12, 0x34, 0x36, 0x42, 0x56, 0x58, 0x92, 0xA4, 0xA8];

fn place(frame: &Frame, field: &str) -> (usize, usize) {
    let spec = frame.spec().fields.iter().find(|spec| spec.name == field);
    let spec = spec.unwrap_or_else(|| panic!("{} has no {field}", frame.spec().name));
    (spec.offset, spec.len.expect("a fixed field"))
}
