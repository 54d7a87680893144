//! The two clocks of a simulated pile: the real one it is driven by, and its own, which may run faster.

use std::time::Duration;

use jiff::civil::DateTime;

use crate::domain::units::{UtcOffset, WallMs};
use crate::wire::{Civil, Cp56Time2a};

/// What time it is outside; given to [`Pile::apply`](super::Pile::apply) so that the pile has no clock of its own to ask.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Since any fixed instant; link timers run on it, in real time.
    pub mono: Duration,
    /// The host's wall clock; a pile that was never told the time starts from it.
    pub wall: WallMs,
}

/// The pile's wall clock and the pace of its meter.
///
/// Simulated time is real time × speed and only grows; charging is integrated along it. The wall clock is simulated time
/// plus an offset that 0x56 moves, so setting the clock never creates or destroys energy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    speed: u32,
    /// Milliseconds from simulated time to local civil time, the latter counted as if it were UTC.
    offset: i64,
}

impl Clock {
    pub(super) fn new(now: Now, speed: u32, zone: UtcOffset) -> Self {
        let mut clock = Self { speed: speed.max(1), offset: 0 };
        clock.set(now.mono, millis(now.wall.local(zone)));
        clock
    }

    /// Simulated milliseconds at a real instant.
    pub(super) fn sim(&self, mono: Duration) -> u64 {
        (mono.as_micros() * u128::from(self.speed) / 1000) as u64
    }

    /// Local civil milliseconds at a simulated instant.
    pub(super) fn local(&self, sim: u64) -> i64 {
        self.offset.saturating_add_unsigned(sim)
    }

    /// Makes the wall clock show `local` at a real instant.
    pub(super) fn set(&mut self, mono: Duration, local: i64) {
        self.offset = local.saturating_sub_unsigned(self.sim(mono));
    }

    /// How long so much simulated time takes, but at least `floor`.
    pub(super) fn real(&self, simulated: Duration, floor: Duration) -> Duration {
        (simulated / self.speed).max(floor.min(simulated))
    }

    /// Whether the clock runs as fast as everybody's.
    pub(super) fn is_real(&self) -> bool {
        self.speed == 1
    }
}

/// Local civil milliseconds as a date and time.
pub(super) fn date_time(local: i64) -> DateTime {
    WallMs(local).local(utc())
}

/// Local civil milliseconds as sent.
pub(super) fn cp56(local: i64) -> Cp56Time2a {
    let at = date_time(local);
    let civil = Civil {
        year: at.year().unsigned_abs(),
        month: at.month().unsigned_abs(),
        day: at.day().unsigned_abs(),
        hour: at.hour().unsigned_abs(),
        minute: at.minute().unsigned_abs(),
        second: at.second().unsigned_abs(),
        millisecond: at.millisecond().unsigned_abs(),
        day_of_week: 0,
    };
    Cp56Time2a::from_civil(civil).unwrap_or(Cp56Time2a::ZERO)
}

/// Local civil milliseconds from what was received; `None` if it is no time.
pub(super) fn from_cp56(time: Cp56Time2a) -> Option<i64> {
    let civil = time.civil()?;
    let part = |value: u8| i8::try_from(value).ok();
    let at = DateTime::new(
        i16::try_from(civil.year).ok()?,
        part(civil.month)?,
        part(civil.day)?,
        part(civil.hour)?,
        part(civil.minute)?,
        part(civil.second)?,
        i32::from(civil.millisecond) * 1_000_000,
    );
    at.ok().map(millis)
}

fn millis(at: DateTime) -> i64 {
    utc().instant(at).map_or(0, |at| at.0)
}

fn utc() -> UtcOffset {
    UtcOffset::from_seconds(0).expect("zero is a valid offset")
}
