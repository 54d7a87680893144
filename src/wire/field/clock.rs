//! CP56Time2a, the seven-byte time of IEC 60870-5-4.

use std::fmt;

use super::ident::write_hex;
use super::{Field, Kind};

/// A wall-clock time as sent: the seven bytes, week day and flag bits included (A37). The time zone is not on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cp56Time2a(pub [u8; 7]);

/// The civil time of a [`Cp56Time2a`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Civil {
    /// 2000..=2099 can be sent.
    pub year: u16,
    /// 1..=12
    pub month: u8,
    /// 1..=31
    pub day: u8,
    /// 0..=23
    pub hour: u8,
    /// 0..=59
    pub minute: u8,
    /// 0..=59
    pub second: u8,
    /// 0..=999
    pub millisecond: u16,
    /// As sent: 1 Monday … 7 Sunday, 0 not used. Real piles are a day off, so nothing may depend on it.
    pub day_of_week: u8,
}

impl Cp56Time2a {
    /// "No time".
    pub const ZERO: Self = Self([0; 7]);

    /// Whether all seven bytes are zero, which means "no time".
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 7]
    }

    /// The civil time; `None` for zeros and for dates and times that do not exist.
    pub fn civil(&self) -> Option<Civil> {
        let [low, high, minute, hour, day, month, year] = self.0;
        let millis = u16::from_le_bytes([low, high]);
        let civil = Civil {
            year: 2000 + u16::from(year & 0x7F),
            month: month & 0x0F,
            day: day & 0x1F,
            hour: hour & 0x1F,
            minute: minute & 0x3F,
            second: (millis / 1000) as u8,
            millisecond: millis % 1000,
            day_of_week: day >> 5,
        };
        civil.exists().then_some(civil)
    }

    /// From a civil time, with the week day computed and the flag bits zero. `None` if it does not exist or lies
    /// outside 2000..=2127.
    pub fn from_civil(civil: Civil) -> Option<Self> {
        if !civil.exists() || !(2000..=2127).contains(&civil.year) {
            return None;
        }
        let [low, high] = (u16::from(civil.second) * 1000 + civil.millisecond).to_le_bytes();
        let day = civil.weekday() << 5 | civil.day;
        Some(Self([low, high, civil.minute, civil.hour, day, civil.month, (civil.year - 2000) as u8]))
    }
}

impl Civil {
    fn exists(&self) -> bool {
        (1..=12).contains(&self.month)
            && (1..=self.days_in_month()).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second < 60
            && self.millisecond < 1000
    }

    fn days_in_month(&self) -> u8 {
        match self.month {
            4 | 6 | 9 | 11 => 30,
            2 if self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400)) => 29,
            2 => 28,
            _ => 31,
        }
    }

    /// 1 Monday … 7 Sunday, computed (Sakamoto's method), whatever `day_of_week` says. The time must exist.
    fn weekday(&self) -> u8 {
        const SHIFT: [u16; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        let year = self.year - u16::from(self.month < 3);
        let shift = SHIFT[usize::from(self.month.clamp(1, 12) - 1)];
        match (year + year / 4 - year / 100 + year / 400 + shift + u16::from(self.day)) % 7 {
            0 => 7,
            day => day as u8,
        }
    }
}

impl Field for Cp56Time2a {
    const WIDTH: usize = 7;
    const KIND: Kind = Kind::Time;
    #[inline]
    fn read(bytes: &[u8]) -> Self {
        let mut raw = [0; 7];
        raw.copy_from_slice(bytes);
        Self(raw)
    }
    #[inline]
    fn write(&self, out: &mut [u8]) {
        out.copy_from_slice(&self.0);
    }
}

impl fmt::Display for Civil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second, millisecond, day_of_week: _ } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}")
    }
}

impl fmt::Debug for Cp56Time2a {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.civil() {
            Some(civil) => civil.fmt(f),
            None => write_hex(&self.0, f),
        }
    }
}
