//! The pile as a pure state machine: no socket, no clock, no task. [`super::actor`] drives one over TCP.
//!
//! ```text
//!   Down ──timer──> Connecting ──connected──> LoggingIn ──0x02 accepted──> Online
//!    ^                  │ failed: 1 s … 30 s       │ rejected: 30 s,           │ closed, three heartbeats unanswered,
//!    │                  │                          │ unanswered: as failed     │ reboot
//!    └──────────────────┴──────────────────────────┴───────────────────────────┘
//!   any ──hold──> Away ──resume──> Down
//!   Online: 0x05 → 0x06 → (0x09 → 0x0A) → stored records → heartbeats → 0x13 per gun, then commands
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::clock::{Clock, Now};
use super::config::{Behaviour, PileConfig};
use super::gun::{Attempt, Gun, Phase};
use super::link::Link;
use super::outbox::Outbox;
use super::rng::Rng;
use super::stats::{Count, known};
use crate::domain::tariff::Tariff;
use crate::wire::{CrcOrder, Frame, Opaque, Outgoing, Packet, PileCode, Sequence, SequenceCounter, TariffNo};

/// A simulated pile.
#[derive(Debug)]
pub struct Pile {
    pub(super) config: PileConfig,
    pub(super) code: PileCode,
    pub(super) clock: Clock,
    pub(super) rng: Rng,
    pub(super) link: Link,
    sequence: SequenceCounter,
    pub(super) tariff_no: TariffNo,
    pub(super) tariff: Option<Arc<Tariff>>,
    /// What came with the tariff.
    pub(super) loss_percent: u8,
    pub(super) guns: Box<[Gun]>,
    pub(super) outbox: Outbox,
    pub(super) parallel: Option<Box<Attempt>>,
    /// Physical numbers of the cards that may charge offline.
    pub(super) cards: Vec<Opaque<8>>,
    pub(super) out_of_service: bool,
    /// Of the pile's power, from 0x52.
    pub(super) power_percent: u8,
    /// Sends nothing, but keeps the connection.
    pub(super) silent: bool,
    /// Restarts as soon as no gun is charging.
    pub(super) restart_when_idle: bool,
    /// Shown as the software version; an update makes it grow.
    pub(super) software: u8,
    /// A time received in mid-charge: set at this real instant, local civil milliseconds.
    pub(super) late_time: Option<(Duration, i64)>,
    pub(super) was_online: bool,
    /// Counts serials the pile made itself.
    pub(super) own_serials: u16,
}

/// What happens to a pile.
#[expect(clippy::large_enum_variant, reason = "nearly all are frames")]
#[derive(Debug)]
pub enum Input {
    /// The connection asked for with [`Output::Connect`] is up.
    Connected,
    /// It could not be made.
    ConnectFailed,
    /// It is gone.
    Closed,
    /// A frame came in.
    Frame(Packet),
    /// [`Pile::deadline`] has passed.
    Timer,
    /// Somebody stands in front of the pile.
    Act(Action),
}

/// What somebody does at the pile. Guns count from 1; others are ignored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Plugs the gun into a vehicle.
    Plug(u8),
    /// Pulls the gun: ends a charge at once.
    Unplug(u8),
    /// Raises (or with 0 clears) hardware faults of a gun, by the bits of 0x13. A fault ends a charge.
    Fault(u8, u16),
    /// Swipes a card with this physical number: asks to charge, or stops a charge started with it.
    Swipe(u8, [u8; 8]),
    /// Swipes a card for one vehicle on guns 1 and 2: it charges on both or on none.
    SwipeParallel([u8; 8]),
    /// Asks to charge by the vehicle's VIN.
    SwipeVin(u8),
    /// Presses stop.
    Stop(u8),
    /// Stops or resumes sending, without closing the connection.
    Silence(bool),
    /// Drops the connection; the pile reconnects as after any loss.
    Drop,
    /// Forgets the connection without closing it, and logs in anew at the next address at once: what a change of the
    /// mobile network does. The platform keeps a connection on which nobody reads or writes.
    HalfOpen,
    /// Closes every connection, the forgotten ones too, and stays away. Charges go on.
    Hold,
    /// Ends [`Action::Hold`]: the pile connects at once.
    Resume,
    /// Takes the power away; the pile is back after a few seconds.
    Restart,
    /// Replaces the pile's behaviours.
    Behave(Box<[Behaviour]>),
}

/// What the pile wants done, in this order.
#[expect(clippy::large_enum_variant, reason = "nearly all are frames, in a list that is used up at once")]
#[derive(Debug)]
pub enum Output {
    /// Connect to the platform, the next address each time.
    Connect,
    /// Send a frame.
    Send(Outgoing),
    /// Close the connection when everything before is sent.
    Close,
    /// Leave the connection open when everything before is sent, and never look at it again.
    Forget,
    /// Close what was left open.
    CloseForgotten,
    /// Something worth counting.
    Count(Count),
}

/// What every step needs: the time, and where outputs go.
pub(super) struct Cx<'a> {
    pub(super) now: Now,
    pub(super) out: &'a mut Vec<Output>,
}

impl Cx<'_> {
    pub(super) fn count(&mut self, count: Count) {
        self.out.push(Output::Count(count));
    }
}

impl Pile {
    /// A pile that has just got power; its first deadline is the first connect.
    pub fn new(config: PileConfig, now: Now) -> Self {
        let mut rng = Rng::new(config.seed);
        let clock = Clock::new(now, config.speed, config.zone);
        let guns = (1..=config.guns.clamp(1, 99)).map(|no| Gun::new(no, &config, now, &mut rng)).collect();
        Self {
            code: PileCode(config.code.bcd()),
            clock,
            rng,
            link: Link::Down { retry_at: now.mono + config.start_after, attempt: 0 },
            sequence: SequenceCounter::default(),
            tariff_no: TariffNo::ZERO,
            tariff: None,
            loss_percent: 0,
            guns,
            outbox: Outbox::default(),
            parallel: None,
            cards: Vec::new(),
            out_of_service: false,
            power_percent: 100,
            silent: false,
            restart_when_idle: false,
            software: 0,
            late_time: None,
            was_online: false,
            own_serials: 0,
            config,
        }
    }

    /// Takes one input; what follows from it is appended to `out`.
    pub fn apply(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        let cx = &mut Cx { now, out };
        match input {
            Input::Connected => self.connected(cx),
            Input::ConnectFailed | Input::Closed => self.lost(cx),
            Input::Frame(packet) => self.frame(cx, packet),
            Input::Timer => {}
            Input::Act(action) => self.act(cx, action),
        }
        self.tick(cx);
    }

    /// When [`Input::Timer`] is next due, on the clock of [`Now::mono`].
    pub fn deadline(&self) -> Option<Duration> {
        let guns = self.guns.iter().filter_map(|gun| gun.deadline(self.online()));
        let records = self.outbox.deadline().filter(|_| self.may_send_records());
        guns.chain(records)
            .chain(self.parallel.as_ref().map(|attempt| attempt.deadline()))
            .chain(self.link_deadline())
            .min()
    }

    /// Does whatever is due; nothing if nothing is.
    fn tick(&mut self, cx: &mut Cx) {
        self.tick_link(cx);
        for index in 0..self.guns.len() {
            self.tick_gun(cx, index);
        }
        self.tick_parallel(cx);
        self.send_records(cx);
        if self.any_charging() {
            return;
        }
        if let Some((at, local)) = self.late_time.take() {
            self.clock.set(at, local);
        }
        if self.restart_when_idle {
            self.restart(cx);
        }
    }

    fn act(&mut self, cx: &mut Cx, action: Action) {
        match action {
            Action::Plug(gun) => self.with_gun(gun, |pile, index| pile.plug(cx, index, true)),
            Action::Unplug(gun) => self.with_gun(gun, |pile, index| pile.plug(cx, index, false)),
            Action::Fault(gun, bits) => self.with_gun(gun, |pile, index| pile.fault(cx, index, bits)),
            Action::Swipe(gun, card) => self.with_gun(gun, |pile, index| pile.swipe(cx, index, Some(Opaque(card)))),
            Action::SwipeParallel(card) => self.swipe_parallel(cx, Opaque(card)),
            Action::SwipeVin(gun) => self.with_gun(gun, |pile, index| pile.swipe(cx, index, None)),
            Action::Stop(gun) => self.with_gun(gun, |pile, index| pile.stop_by_hand(cx, index)),
            Action::Silence(silent) => self.silent = silent,
            Action::Drop => self.drop_connection(cx),
            Action::HalfOpen => self.forget_connection(cx),
            Action::Hold => self.hold(cx),
            Action::Resume => self.resume(cx),
            Action::Restart => self.restart(cx),
            Action::Behave(behaviours) => self.config.behaviours = behaviours.into_vec(),
        }
    }

    fn with_gun(&mut self, number: u8, mut act: impl FnMut(&mut Self, usize)) {
        if let Some(index) = self.gun_index(number) {
            act(self, index);
        }
    }

    /// Sends on its own account, if the pile may speak at all.
    pub(super) fn send(&mut self, cx: &mut Cx, frame: impl Into<Frame>) {
        let sequence = self.sequence.next_sequence();
        self.put(cx, sequence, frame.into());
    }

    /// Answers a request: the two sequence bytes are copied.
    pub(super) fn reply(&mut self, cx: &mut Cx, sequence: Sequence, frame: impl Into<Frame>) {
        self.put(cx, sequence, frame.into());
    }

    fn put(&mut self, cx: &mut Cx, sequence: Sequence, frame: Frame) {
        if self.silent || !self.link.is_up() {
            return;
        }
        let sequence = if self.has(Behaviour::ZeroSequence) { Sequence::default() } else { sequence };
        let crc = if self.has(Behaviour::SwappedCrc) { CrcOrder::HighFirst } else { CrcOrder::LowFirst };
        cx.out.push(Output::Send(Outgoing { crc, ..Outgoing::new(sequence, frame) }));
    }

    /// A new connection counts from 0.
    pub(super) fn restart_sequence(&mut self) {
        self.sequence = SequenceCounter::default();
    }

    pub(super) fn send_records(&mut self, cx: &mut Cx) {
        if !self.may_send_records() {
            return;
        }
        while let Some((serial, record, first)) = self.outbox.next(cx.now.mono, self.config.repeat_records) {
            let serial = known(serial);
            cx.count(if first { Count::RecordSent(serial) } else { Count::RecordRepeated(serial) });
            if self.has(Behaviour::RecordTwice) {
                cx.count(Count::RecordRepeated(serial));
                self.send(cx, record.clone());
            }
            self.send(cx, record);
        }
    }

    /// While not, records wait: they are neither counted as sent nor forgotten.
    fn may_send_records(&self) -> bool {
        self.ready() && !self.silent && !self.has(Behaviour::NoRecord)
    }

    pub(super) fn has(&self, behaviour: Behaviour) -> bool {
        self.config.behaviours.contains(&behaviour)
    }

    /// The first behaviour that `pick` wants.
    pub(super) fn behaviour<T>(&self, pick: impl FnMut(&Behaviour) -> Option<T>) -> Option<T> {
        self.config.behaviours.iter().find_map(pick)
    }

    pub(super) fn gun_index(&self, number: u8) -> Option<usize> {
        let index = usize::from(number).checked_sub(1)?;
        (index < self.guns.len()).then_some(index)
    }

    pub(super) fn any_charging(&self) -> bool {
        self.guns.iter().any(|gun| matches!(gun.phase, Phase::Charging(_)))
    }

    /// Records that wait for 0x40.
    pub fn unacked(&self) -> usize {
        self.outbox.len()
    }
}
