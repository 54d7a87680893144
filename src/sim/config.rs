//! What a simulated pile is, and in which ways it misbehaves.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::domain::PileCode;
use crate::domain::units::UtcOffset;

/// One simulated pile.
#[derive(Clone, Debug)]
pub struct PileConfig {
    /// The pile's name.
    pub code: PileCode,
    /// Guns, 1..=99.
    pub guns: u8,
    /// DC (120 kW, with a BMS) or AC (7 kW, without).
    pub dc: bool,
    /// Version × 10 as in 0x01: 15 = V1.5. Up to 14 records are 0x3F, from 17 on 0x3D, else 0x3B; from 18 on card starts are
    /// 0xA5.
    pub protocol_version: u8,
    /// How many times faster than real time the pile's wall clock and meter run, from 1. Link timers stay real.
    pub speed: u32,
    /// Whether a vehicle is plugged into each gun at the start.
    pub plugged: bool,
    /// The vehicle's state of charge when a charge begins, in per cent; `None`: random, 15..=50.
    pub soc: Option<u8>,
    /// The vehicle's battery in kWh, from 1.
    pub battery_kwh: u16,
    /// The zone of the pile's clock until 0x56 sets it.
    pub zone: UtcOffset,
    /// Every charge ends by itself after so long in real time, as if the driver had set a time (stop reason 0x44); `None`:
    /// only the battery, a limit or somebody ends it. Short ones make many records.
    pub charge_for: Option<Duration>,
    /// How often a record is sent until 0x40, from its first transmission on; `None`: by the book, which gives up after
    /// five until the next login (8.7). Some piles never give up.
    pub repeat_records: Option<Duration>,
    /// Charges nobody has to ask for; `None`: only what the platform or a [`Handle`](super::Handle) starts.
    pub auto_charge: Option<AutoCharge>,
    /// In which ways it misbehaves.
    pub behaviours: Vec<Behaviour>,
    /// How long to wait before the first connect, real time: spreads the logins of a fleet.
    pub start_after: Duration,
    /// How long to wait before another connect.
    pub reconnect: Reconnect,
    /// From 0x03 to 0x03, real time. Three rounds without any 0x04 end the connection.
    pub heartbeat: Duration,
    /// 0x01, 0x05 and 0x09 are repeated after so long without an answer. Three unanswered 0x01 end the connection.
    pub login_again: Duration,
    /// How many orders, and how many commands, the pile's [`Notes`](super::Notes) hold; the oldest go. 0: it takes none,
    /// and ten thousands of piles may run for weeks.
    pub notes: usize,
    /// Makes its random choices repeatable.
    pub seed: u64,
}

impl PileConfig {
    /// A V1.6 DC pile with one gun, plugged in, in real time, without misbehaviour.
    pub fn new(code: PileCode) -> Self {
        Self {
            code,
            guns: 1,
            dc: true,
            protocol_version: 16,
            speed: 1,
            plugged: true,
            soc: None,
            battery_kwh: 60,
            zone: UtcOffset::from_seconds(8 * 3600).expect("8 h is a valid offset"),
            charge_for: None,
            repeat_records: None,
            auto_charge: None,
            behaviours: Vec::new(),
            start_after: Duration::ZERO,
            reconnect: Reconnect::default(),
            heartbeat: Duration::from_secs(10),
            login_again: Duration::from_secs(10),
            notes: 0,
            seed: code.bcd().iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte)),
        }
    }
}

/// The pause between the end of a connection and the next attempt, at the next address.
///
/// It doubles with every attempt that does not come to a login, and begins anew after one. Up to half of it is added at
/// random, so that the piles of a node that went away do not all come at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reconnect {
    /// After a connection with a login.
    pub min: Duration,
    /// The pause grows no longer than this; after a rejection it is this at once.
    pub max: Duration,
}

impl Default for Reconnect {
    /// 1 s and 30 s.
    fn default() -> Self {
        Self { min: Duration::from_secs(1), max: Duration::from_secs(30) }
    }
}

impl Reconnect {
    /// The pause before attempt number `attempt` after the last login, from 0.
    pub(super) fn pause(self, attempt: u32) -> Duration {
        self.min.saturating_mul(1 << attempt.min(20)).min(self.max)
    }
}

/// A driver who swipes a card again and again.
#[derive(Clone, Copy, Debug)]
pub struct AutoCharge {
    /// From the swipe of one charge to the next on the same gun, real time. The first comes at a random point of it.
    pub every: Duration,
    /// Stopped by hand after so long in real time; `None`: charges until the vehicle is full or the balance is spent.
    pub stop_after: Option<Duration>,
}

/// A way in which a pile does not do what the protocol says. Written as `name` or `name=value`, see [`FromStr`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behaviour {
    /// `ignore=0x34`: frames of this type are neither answered nor obeyed.
    Ignore(u8),
    /// `late-start=20`: answers 0x34, 0xA8 and 0xA4 so many seconds late, and starts then.
    AnswerStartLate(Duration),
    /// `refuse-start=3`: answers every start with failure and this reason.
    RefuseStart(u8),
    /// `refuse-second=3`: of a start on two guns, says no with this reason for the second one and charges on the first.
    RefuseSecond(u8),
    /// `charge-although-refused`: charges after its own refusal in 0x33, and after the platform's in 0x32.
    ChargeAlthoughRefused,
    /// `fail-start=0x52`: no 0x33 or 0xA3, but at once a record with this stop reason (A23).
    FailStart(u8),
    /// `never-stop`: answers 0x36 with success and goes on charging.
    NeverStop,
    /// `swapped-crc`: sends the CRC high byte first (A2).
    SwappedCrc,
    /// `zero-sequence`: every frame has sequence 0 (A5).
    ZeroSequence,
    /// `drop-every=60`: closes the connection so many seconds after each login.
    DropEvery(Duration),
    /// `half-open-every=60`: leaves the connection open but forgotten so many seconds after each login, and logs in anew.
    HalfOpenEvery(Duration),
    /// `silent-after=60`: stops sending so many seconds after each login, without closing.
    SilentAfter(Duration),
    /// `no-record`: never sends a record.
    NoRecord,
    /// `record-twice`: sends every record twice in a row.
    RecordTwice,
    /// `report-idle`: its 0x13 say "idle" in mid-charge.
    ReportIdle,
    /// `overcharge=100`: adds this, in 0.0001 CNY, to the total of every record.
    Overcharge(u32),
    /// `bms-error`: reports a communication error between charger and vehicle, 0x1B, at the end of every DC charge.
    BmsError,
}

impl Behaviour {
    /// Every behaviour as it is written, for help texts.
    pub const SYNTAX: [&'static str; 17] = [
        "ignore=CODE",
        "late-start=SECONDS",
        "refuse-start=REASON",
        "refuse-second=REASON",
        "charge-although-refused",
        "fail-start=STOP_REASON",
        "never-stop",
        "swapped-crc",
        "zero-sequence",
        "drop-every=SECONDS",
        "half-open-every=SECONDS",
        "silent-after=SECONDS",
        "no-record",
        "record-twice",
        "report-idle",
        "overcharge=AMOUNT",
        "bms-error",
    ];
}

/// A behaviour that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{value}\": {reason}")]
pub struct BadBehaviour {
    /// What was given.
    pub value: String,
    /// What is wrong with it.
    pub reason: String,
}

impl FromStr for Behaviour {
    type Err = BadBehaviour;

    fn from_str(text: &str) -> Result<Self, BadBehaviour> {
        let bad = |reason: &str| BadBehaviour { value: text.to_owned(), reason: reason.to_owned() };
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let number = || -> Result<u32, BadBehaviour> {
            let value = value.ok_or_else(|| bad("needs a value: name=value"))?;
            let parsed = value.strip_prefix("0x").map_or_else(|| value.parse(), |hex| u32::from_str_radix(hex, 16));
            parsed.map_err(|_| bad("the value must be a number, decimal or 0x…"))
        };
        let byte = || number().and_then(|n| u8::try_from(n).map_err(|_| bad("the value must be 0..=255")));
        let seconds = || number().map(|n| Duration::from_secs(n.into()));
        let plain = |behaviour| if value.is_none() { Ok(behaviour) } else { Err(bad("takes no value")) };
        match name {
            "ignore" => byte().map(Self::Ignore),
            "late-start" => seconds().map(Self::AnswerStartLate),
            "refuse-start" => byte().map(Self::RefuseStart),
            "refuse-second" => byte().map(Self::RefuseSecond),
            "charge-although-refused" => plain(Self::ChargeAlthoughRefused),
            "fail-start" => byte().map(Self::FailStart),
            "never-stop" => plain(Self::NeverStop),
            "swapped-crc" => plain(Self::SwappedCrc),
            "zero-sequence" => plain(Self::ZeroSequence),
            "drop-every" => seconds().map(Self::DropEvery),
            "half-open-every" => seconds().map(Self::HalfOpenEvery),
            "silent-after" => seconds().map(Self::SilentAfter),
            "no-record" => plain(Self::NoRecord),
            "record-twice" => plain(Self::RecordTwice),
            "report-idle" => plain(Self::ReportIdle),
            "overcharge" => number().map(Self::Overcharge),
            "bms-error" => plain(Self::BmsError),
            _ => Err(bad(&format!("must be one of {}", Self::SYNTAX.join(", ")))),
        }
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ignore(code) => write!(f, "ignore={code:#04x}"),
            Self::AnswerStartLate(after) => write!(f, "late-start={}", after.as_secs()),
            Self::RefuseStart(reason) => write!(f, "refuse-start={reason}"),
            Self::RefuseSecond(reason) => write!(f, "refuse-second={reason}"),
            Self::ChargeAlthoughRefused => f.write_str("charge-although-refused"),
            Self::FailStart(reason) => write!(f, "fail-start={reason:#04x}"),
            Self::NeverStop => f.write_str("never-stop"),
            Self::SwappedCrc => f.write_str("swapped-crc"),
            Self::ZeroSequence => f.write_str("zero-sequence"),
            Self::DropEvery(after) => write!(f, "drop-every={}", after.as_secs()),
            Self::HalfOpenEvery(after) => write!(f, "half-open-every={}", after.as_secs()),
            Self::SilentAfter(after) => write!(f, "silent-after={}", after.as_secs()),
            Self::NoRecord => f.write_str("no-record"),
            Self::RecordTwice => f.write_str("record-twice"),
            Self::ReportIdle => f.write_str("report-idle"),
            Self::Overcharge(amount) => write!(f, "overcharge={amount}"),
            Self::BmsError => f.write_str("bms-error"),
        }
    }
}
