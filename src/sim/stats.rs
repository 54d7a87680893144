//! What a pile, or a fleet that shares one [`Stats`], has counted, address by address.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::domain::Serial;
use crate::wire;

/// Something a pile counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    /// 0x02 said "accepted".
    Login {
        /// Not the pile's first.
        again: bool,
    },
    /// An accepted login is over.
    Offline,
    /// A restart by command or loss of power.
    Restart,
    /// A frame arrived whole.
    FrameIn,
    /// A frame arrived that only piles send.
    Misdirected,
    /// A frame arrived that is no answer.
    Command {
        /// Its type.
        code: u8,
        /// The order it names; of 0x36, the one that runs on its gun.
        serial: Option<Serial>,
    },
    /// 0x03 sent.
    HeartbeatSent,
    /// 0x04 received.
    HeartbeatAnswered,
    /// From a 0x03 to its 0x04.
    RoundTrip(Duration),
    /// 0x31 or 0xA5 sent.
    StartAsked,
    /// A start command answered with success.
    StartAccepted,
    /// A start that came to nothing, by either side's decision.
    StartRefused,
    /// 0x36 received.
    StopAsked,
    /// Current flows.
    ChargeStarted(Serial),
    /// Energy in 0.0001 kWh, amount in 0.0001 CNY.
    ChargeFinished {
        /// 0.0001 kWh.
        energy: u64,
        /// 0.0001 CNY.
        amount: u64,
    },
    /// A charge, or a start that failed, has left a record.
    RecordMade(Serial),
    /// A record sent for the first time.
    RecordSent(Serial),
    /// A record sent again.
    RecordRepeated(Serial),
    /// 0x40 with result 0 for a record that was waiting for it.
    RecordAcked(Serial),
    /// A record that nobody has acknowledged made room for a new one.
    RecordLost(Serial),
    /// 0x40 with another result.
    RecordRefused,
    /// A connection was left open and forgotten.
    HalfOpen,
    /// Something went wrong.
    Trouble(Trouble),
}

/// What goes wrong with a pile's link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Nobody listens there.
    ConnectionRefused,
    /// No connection within 10 s.
    ConnectTimedOut,
    /// This process may not open more files: raise its limit.
    OutOfDescriptors,
    /// No connection for another reason: no route, no name.
    ConnectFailed,
    /// 0x02 said "rejected".
    LoginRejected,
    /// No 0x02 in time, 10 s.
    LoginUnanswered,
    /// Three heartbeats without an answer.
    HeartbeatsUnanswered,
    /// The platform closed the connection.
    ClosedByPlatform,
    /// The connection broke.
    ConnectionBroken,
    /// The platform did not read for 10 s.
    WriteTimedOut,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::ConnectionRefused,
        Self::ConnectTimedOut,
        Self::OutOfDescriptors,
        Self::ConnectFailed,
        Self::LoginRejected,
        Self::LoginUnanswered,
        Self::HeartbeatsUnanswered,
        Self::ClosedByPlatform,
        Self::ConnectionBroken,
        Self::WriteTimedOut,
    ];

    /// As in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectTimedOut => "connect_timed_out",
            Self::OutOfDescriptors => "out_of_descriptors",
            Self::ConnectFailed => "connect_failed",
            Self::LoginRejected => "login_rejected",
            Self::LoginUnanswered => "login_unanswered",
            Self::HeartbeatsUnanswered => "heartbeats_unanswered",
            Self::ClosedByPlatform => "closed_by_platform",
            Self::ConnectionBroken => "connection_broken",
            Self::WriteTimedOut => "write_timed_out",
        }
    }
}

/// One list: the atomics, and the same names as plain numbers.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        #[derive(Debug, Default)]
        struct Atomics { $($name: AtomicU64,)+ }

        /// Counts since the start.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)+ }

        impl Atomics {
            fn read(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed),)+ }
            }
        }

        impl Counters {
            fn and(self, other: Self) -> Self {
                Self { $($name: self.$name + other.$name,)+ }
            }
        }
    };
}

counters! {
    /// Accepted logins.
    logins,
    /// Logins after a pile's first.
    reconnects,
    /// Logins that ended.
    offlines,
    /// Restarts by command or loss of power.
    restarts,
    /// Frames received whole.
    frames_in,
    /// Frames sent.
    frames_out,
    /// Frames received that nobody can read, and bytes between frames.
    frames_refused,
    /// Frames received that only piles send.
    frames_misdirected,
    /// Connections left open and forgotten.
    half_opens,
    /// Frames received that are no answers.
    commands,
    /// 0x03 sent.
    heartbeats_sent,
    /// 0x04 received.
    heartbeats_answered,
    /// 0x31 and 0xA5 sent.
    starts_asked,
    /// Start commands answered with success.
    starts_accepted,
    /// Starts that came to nothing.
    starts_refused,
    /// 0x36 received.
    stops_asked,
    /// Charges begun.
    charges_started,
    /// Charges ended.
    charges_finished,
    /// Energy of the ended charges, 0.0001 kWh.
    energy,
    /// Amount of the ended charges, 0.0001 CNY.
    amount,
    /// Records that charges and failed starts have left.
    records_made,
    /// Records sent, each counted once.
    records_sent,
    /// Further transmissions of records.
    records_repeated,
    /// Records acknowledged with result 0.
    records_acked,
    /// Acknowledgements with another result.
    records_refused,
    /// Records that made room for others, unacknowledged.
    records_lost,
}

/// Shared by everything that counts together.
#[derive(Debug)]
pub struct Stats {
    /// One per address, and at least one.
    places: Box<[Place]>,
    round_trips: Histogram,
}

/// What happened at one address, the time on the way to it and after a loss of it included.
#[derive(Debug, Default)]
pub struct Place {
    counters: Atomics,
    troubles: [AtomicU64; Trouble::ALL.len()],
    /// A gauge: piles take what they still have with them when they go elsewhere.
    awaiting: AtomicU64,
}

impl Stats {
    pub(super) fn new(addresses: usize) -> Self {
        Self { places: (0..addresses.max(1)).map(|_| Place::default()).collect(), round_trips: Histogram::default() }
    }

    /// The numbers now, of all addresses together.
    pub fn counters(&self) -> Counters {
        self.places.iter().map(Place::counters).fold(Counters::default(), Counters::and)
    }

    /// How often each trouble occurred, anywhere.
    pub fn troubles(&self) -> impl Iterator<Item = (Trouble, u64)> {
        Trouble::ALL.into_iter().map(|trouble| (trouble, self.places.iter().map(|place| place.trouble(trouble)).sum()))
    }

    /// What happened at each address, in their order.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// From heartbeat to answer.
    pub fn round_trips(&self) -> &Histogram {
        &self.round_trips
    }

    /// Counts something at the address of this number.
    pub(super) fn count(&self, place: usize, count: Count) {
        if let Count::RoundTrip(took) = count {
            self.round_trips.record(took);
        }
        self.places[place].count(count);
    }

    pub(super) fn sent(&self, place: usize, frames: u64) {
        self.places[place].counters.frames_out.fetch_add(frames, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, place: usize) {
        self.places[place].counters.frames_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A pile that waits for so many 0x40 comes to an address or, with so many, leaves it.
    pub(super) fn await_at(&self, place: usize, records: usize) {
        self.places[place].awaiting.fetch_add(records as u64, Ordering::Relaxed);
    }

    pub(super) fn leave(&self, place: usize, records: usize) {
        self.places[place].awaiting.fetch_sub(records as u64, Ordering::Relaxed);
    }
}

impl Place {
    /// The numbers now.
    pub fn counters(&self) -> Counters {
        self.counters.read()
    }

    /// How often a trouble occurred.
    pub fn trouble(&self, trouble: Trouble) -> u64 {
        self.troubles[trouble as usize].load(Ordering::Relaxed)
    }

    /// Records that wait for 0x40 at piles whose last connection, or attempt at one, was here.
    pub fn awaiting(&self) -> u64 {
        self.awaiting.load(Ordering::Relaxed)
    }

    fn count(&self, count: Count) {
        let c = &self.counters;
        let (counter, by) = match count {
            Count::Login { again } => {
                c.reconnects.fetch_add(u64::from(again), Ordering::Relaxed);
                (&c.logins, 1)
            }
            Count::Offline => (&c.offlines, 1),
            Count::Restart => (&c.restarts, 1),
            Count::FrameIn => (&c.frames_in, 1),
            Count::Misdirected => (&c.frames_misdirected, 1),
            Count::Command { code: _, serial: _ } => (&c.commands, 1),
            Count::HeartbeatSent => (&c.heartbeats_sent, 1),
            Count::HeartbeatAnswered => (&c.heartbeats_answered, 1),
            Count::RoundTrip(_) => return,
            Count::StartAsked => (&c.starts_asked, 1),
            Count::StartAccepted => (&c.starts_accepted, 1),
            Count::StartRefused => (&c.starts_refused, 1),
            Count::StopAsked => (&c.stops_asked, 1),
            Count::ChargeStarted(_) => (&c.charges_started, 1),
            Count::ChargeFinished { energy, amount } => {
                c.energy.fetch_add(energy, Ordering::Relaxed);
                c.amount.fetch_add(amount, Ordering::Relaxed);
                (&c.charges_finished, 1)
            }
            Count::RecordMade(_) => (&c.records_made, 1),
            Count::RecordSent(_) => (&c.records_sent, 1),
            Count::RecordRepeated(_) => (&c.records_repeated, 1),
            Count::RecordAcked(_) => (&c.records_acked, 1),
            Count::RecordLost(_) => (&c.records_lost, 1),
            Count::RecordRefused => (&c.records_refused, 1),
            Count::HalfOpen => (&c.half_opens, 1),
            Count::Trouble(trouble) => (&self.troubles[trouble as usize], 1),
        };
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

/// Durations in buckets 1/16 of a power of two wide: a percentile is at most 6 % too high. Up to 2³² µs.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    longest: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, took: Duration) {
        let micros = took.as_micros().min(u128::from(u32::MAX)) as u64;
        self.buckets[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        self.longest.fetch_max(micros, Ordering::Relaxed);
    }

    /// The duration that `per_mille` of all do not exceed; `None` if there are none.
    pub fn percentile(&self, per_mille: u64) -> Option<Duration> {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let wanted = (total * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        let at = counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(Duration::from_micros(upper(at)).min(self.longest()))
    }

    /// The longest of all.
    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.longest.load(Ordering::Relaxed))
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), longest: AtomicU64::new(0) }
    }
}

/// An order as the rest of the crate knows it.
pub(super) fn known(serial: wire::Serial) -> Serial {
    Serial::from_bytes(serial.0)
}

/// 16 exact buckets, then 16 for each of the powers 2⁴ … 2³¹.
const BUCKETS: usize = 16 * 29;

fn bucket(micros: u64) -> usize {
    if micros < 16 {
        return micros as usize;
    }
    let power = micros.ilog2();
    (power as usize - 3) * 16 + ((micros >> (power - 4)) & 15) as usize
}

/// The largest number of a bucket.
fn upper(bucket: usize) -> u64 {
    if bucket < 16 {
        return bucket as u64;
    }
    let (power, sixteenth) = (bucket / 16 + 3, bucket as u64 % 16);
    ((sixteenth + 17) << (power - 4)) - 1
}
