//! Tariffs: what a kilowatt-hour costs at which time of day. What a charge costs is in [`cost`].

pub mod cost;

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use super::units::Price;

/// One of the four price classes every YKC tariff has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// 尖
    Sharp,
    /// 峰
    Peak,
    /// 平
    Flat,
    /// 谷
    Valley,
}

impl Period {
    /// In the order of the wire: index = the rate number of 0x0A.
    pub const ALL: [Self; 4] = [Self::Sharp, Self::Peak, Self::Flat, Self::Valley];

    pub fn index(self) -> usize {
        self as usize
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Sharp => "sharp",
            Self::Peak => "peak",
            Self::Flat => "flat",
            Self::Valley => "valley",
        }
    }
}

/// The two prices of a price class, each in 0.00001 CNY/kWh.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct PricePair {
    pub energy: Price,
    pub service: Price,
}

impl PricePair {
    /// What the pile bills and reports per period: energy price + service price.
    pub fn unit(self) -> Price {
        self.energy + self.service
    }
}

/// A tariff as 0x0A and 0x58 can carry it: four price pairs and a class for each half hour of the day.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Tariff {
    /// By [`Period::index`].
    pub prices: [PricePair; 4],
    /// Index 0 = 00:00–00:30 … index 47 = 23:30–24:00, on the pile's wall clock.
    #[serde(with = "half_hours")]
    pub half_hours: [Period; 48],
}

impl Tariff {
    pub fn prices_of(&self, period: Period) -> PricePair {
        self.prices[period.index()]
    }

    /// The class in force at `local`.
    pub fn period_at(&self, local: DateTime) -> Period {
        let slot = local.hour() as usize * 2 + usize::from(local.minute() >= 30);
        self.half_hours[slot]
    }

    /// Names the contents: two tariffs with the same prices and hours have the same fingerprint (FNV-1a, 64 bit).
    pub fn fingerprint(&self) -> u64 {
        let prices = self.prices.iter().flat_map(|p| [p.energy.0, p.service.0]).flat_map(u32::to_be_bytes);
        let hours = self.half_hours.iter().map(|p| *p as u8);
        prices.chain(hours).fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
    }
}

/// serde knows arrays of up to 32 only.
mod half_hours {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use super::Period;

    pub fn serialize<S: Serializer>(hours: &[Period; 48], to: S) -> Result<S::Ok, S::Error> {
        hours.as_slice().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[Period; 48], D::Error> {
        let hours = Vec::<Period>::deserialize(from)?;
        hours.try_into().map_err(|_| de::Error::custom("a day has 48 half hours"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_changes_on_the_half_hour() {
        let mut tariff = Tariff { prices: [PricePair::default(); 4], half_hours: [Period::Valley; 48] };
        tariff.half_hours[47] = Period::Sharp;
        let at = |h, m| tariff.period_at(jiff::civil::date(2026, 1, 1).at(h, m, 59, 0));
        assert_eq!(at(23, 29), Period::Valley);
        assert_eq!(at(23, 30), Period::Sharp);
        assert_eq!(at(0, 0), Period::Valley);
    }

    #[test]
    fn every_price_and_hour_counts_in_the_fingerprint() {
        let base = Tariff { prices: [PricePair::default(); 4], half_hours: [Period::Flat; 48] };
        for n in 0..4 {
            let mut other = base.clone();
            other.prices[n].service = Price(1);
            assert_ne!(base.fingerprint(), other.fingerprint());
        }
        let mut other = base.clone();
        other.half_hours[13] = Period::Peak;
        assert_ne!(base.fingerprint(), other.fingerprint());
    }
}
