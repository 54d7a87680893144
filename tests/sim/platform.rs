//! A platform that looks at one pile under a virtual clock, and the frames it sends.

use std::time::Duration;

use bytes::Bytes;
use pileway::domain::WallMs;
use pileway::sim::{Action, Count, Input, Now, Output, Pile, PileConfig};
use pileway::wire::*;

pub(crate) const CODE: PileCode = PileCode([0x32, 0x01, 0x06, 0x00, 0x01, 0x92, 0x36]);
pub(crate) const GUN: GunNo = GunNo(1);
pub(crate) const CARD: Opaque<8> = Opaque([0, 0, 0, 0, 0xD1, 0x4B, 0x0A, 0x54]);
/// 2026-01-01T00:00:00Z.
pub(crate) const START: i64 = 1_767_225_600_000;

/// No frame.
pub(crate) const NOTHING: [u8; 0] = [];

/// A platform that looks at one pile, and can wait as long as it likes.
pub(crate) struct Platform {
    pub(crate) pile: Pile,
    pub(crate) mono: Duration,
    /// What the pile sent, and when.
    pub(crate) sent: Vec<(Duration, Outgoing)>,
    /// What else it wanted.
    pub(crate) wanted: Vec<&'static str>,
    pub(crate) counts: Vec<Count>,
}

impl Platform {
    pub(crate) fn new(change: impl FnOnce(&mut PileConfig)) -> Self {
        let mut config = PileConfig::new("32010600019236".parse().expect("a code"));
        config.soc = Some(20);
        change(&mut config);
        let pile = Pile::new(config, now(Duration::ZERO));
        Self { pile, mono: Duration::ZERO, sent: Vec::new(), wanted: Vec::new(), counts: Vec::new() }
    }

    /// Logged in, with the tariff of [`tariff`], and everything sent so far forgotten.
    pub(crate) fn ready(change: impl FnOnce(&mut PileConfig)) -> Self {
        let mut platform = Self::new(change);
        platform.connect();
        platform.log_in();
        platform.send(tariff());
        assert!(platform.pile.ready());
        platform.sent.clear();
        platform
    }

    pub(crate) fn connect(&mut self) {
        self.wait(Duration::ZERO);
        assert_eq!(self.wanted.pop(), Some("connect"));
        self.apply(Input::Connected);
    }

    pub(crate) fn log_in(&mut self) {
        self.send(LoginResponse { pile_code: CODE, result: LoginResult::Accepted });
    }

    pub(crate) fn apply(&mut self, input: Input) {
        let mut out = Vec::new();
        self.pile.apply(now(self.mono), input, &mut out);
        for output in out {
            match output {
                Output::Send(outgoing) => self.sent.push((self.mono, outgoing)),
                Output::Connect => self.wanted.push("connect"),
                Output::Close => self.wanted.push("close"),
                Output::Forget => self.wanted.push("forget"),
                Output::CloseForgotten => self.wanted.push("close forgotten"),
                Output::Count(count) => self.counts.push(count),
            }
        }
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.apply(Input::Act(action));
    }

    pub(crate) fn send(&mut self, frame: impl Into<Frame>) {
        self.send_as(Sequence([0xAB, 0xCD]), frame);
    }

    pub(crate) fn send_as(&mut self, sequence: Sequence, frame: impl Into<Frame>) {
        let (crc, counting) = (CrcOrder::LowFirst, LengthCounting::Normal);
        self.apply(Input::Frame(Packet { sequence, frame: frame.into(), tail: Bytes::new(), crc, counting }));
    }

    /// Lets time pass, heartbeats answered.
    pub(crate) fn wait(&mut self, span: Duration) {
        self.pass(span, true);
    }

    pub(crate) fn pass(&mut self, span: Duration, answer: bool) {
        let end = self.mono + span;
        while let Some(at) = self.pile.deadline().filter(|at| *at <= end) {
            self.mono = self.mono.max(at);
            let before = self.sent.len();
            self.apply(Input::Timer);
            assert!(
                self.pile.deadline().is_none_or(|next| next > self.mono),
                "a deadline that has passed is not due again"
            );
            if answer && self.sent[before..].iter().any(|(_, frame)| code(frame) == 0x03) {
                self.send(HeartbeatResponse { pile_code: CODE, gun_no: GUN, ack: 0 });
            }
        }
        self.mono = end;
    }

    /// Everything sent since the last look, as type bytes, without heartbeats.
    pub(crate) fn codes(&mut self) -> Vec<u8> {
        self.take().iter().map(|(_, frame)| code(frame)).filter(|code| *code != 0x03).collect()
    }

    /// How many of a kind were sent since the last look.
    pub(crate) fn count(&self, wanted: u8) -> usize {
        self.sent.iter().filter(|(_, frame)| code(frame) == wanted).count()
    }

    pub(crate) fn take(&mut self) -> Vec<(Duration, Outgoing)> {
        std::mem::take(&mut self.sent)
    }

    pub(crate) fn start(&mut self, serial: u8, balance: u32) {
        self.send(start(serial, balance));
    }

    pub(crate) fn stop(&mut self) {
        self.send(RemoteStop { pile_code: CODE, gun_no: GUN });
    }

    /// The last frame of a kind.
    pub(crate) fn last<T>(&self, pick: impl Fn(&Frame) -> Option<T>) -> T {
        self.sent.iter().rev().find_map(|(_, outgoing)| pick(frame(outgoing))).expect("such a frame was sent")
    }

    pub(crate) fn record(&self) -> TransactionRecord {
        self.last(|frame| if let Frame::TransactionRecord(row) = frame { Some(row.clone()) } else { None })
    }

    pub(crate) fn live(&self) -> RealtimeData {
        self.last(|frame| if let Frame::RealtimeData(row) = frame { Some(row.clone()) } else { None })
    }
}

pub(crate) fn now(mono: Duration) -> Now {
    Now { mono, wall: WallMs(START).plus_ms(mono.as_millis() as u64) }
}

pub(crate) fn frame(outgoing: &Outgoing) -> &Frame {
    match &outgoing.payload {
        Payload::Frame { frame, .. } => frame,
        Payload::Raw { .. } => panic!("piles send frames of the table"),
    }
}

pub(crate) fn code(outgoing: &Outgoing) -> u8 {
    frame(outgoing).code()
}

pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn start(serial: u8, balance: u32) -> RemoteStart {
    RemoteStart {
        transaction_serial: Serial([serial; 16]),
        pile_code: CODE,
        gun_no: GUN,
        logical_card: Bcd::ZERO,
        physical_card: CARD,
        balance: Balance(balance),
    }
}

/// Peak 1.6 CNY/kWh all day, but valley 0.70001 from midnight to 08:00.
pub(crate) fn tariff() -> TariffResponse {
    let mut rates = [PeriodRate::Peak; 48];
    rates[..16].fill(PeriodRate::Valley);
    TariffResponse {
        pile_code: CODE,
        tariff_model_no: TariffNo([1, 0]),
        sharp_energy_price: Price(150_000),
        sharp_service_price: Price(40_000),
        peak_energy_price: Price(120_000),
        peak_service_price: Price(40_000),
        flat_energy_price: Price(100_000),
        flat_service_price: Price(40_000),
        valley_energy_price: Price(30_001),
        valley_service_price: Price(40_000),
        loss_ratio: 0,
        period_rate: PeriodRates(rates),
    }
}

pub(crate) fn time(day: u8, hour: u8, minute: u8) -> Cp56Time2a {
    let civil = Civil { year: 2026, month: 3, day, hour, minute, second: 0, millisecond: 0, day_of_week: 0 };
    Cp56Time2a::from_civil(civil).expect("a time")
}
