//! Tariffs: four price classes, and the class of each half hour.

use super::charge::Outcome;
use super::field::{Field, Kind, PileCode, Price, TariffNo, open_enum};
use super::table::frames;

frames! {
    /// "Is my tariff still the current one?" Repeated until answered; some piles skip it.
    0x05 Up TariffCheckRequest [9] {
        0  pile_code: PileCode,
        7  tariff_model_no: TariffNo,
    }

    /// `DiffersFromPlatform` makes the pile fetch the tariff with 0x09.
    0x06 Down TariffCheckResponse [10] {
        0  pile_code: PileCode,
        7  tariff_model_no: TariffNo,
        9  result: TariffCheck,
    }

    /// Repeated until 0x0A arrives; without a tariff a pile must not charge.
    0x09 Up TariffRequest [7] {
        0  pile_code: PileCode,
    }

    /// Four price classes and the class of each half hour of the day.
    0x0A Down TariffResponse [90] {
        0  pile_code: PileCode,
        7  tariff_model_no: TariffNo,
        9  sharp_energy_price: Price,
        13 sharp_service_price: Price,
        17 peak_energy_price: Price,
        21 peak_service_price: Price,
        25 flat_energy_price: Price,
        29 flat_service_price: Price,
        33 valley_energy_price: Price,
        37 valley_service_price: Price,
        41 loss_ratio: u8,
        42 period_rate: PeriodRates,
    }

    /// The answer to 0x58.
    0x57 Up TariffSetResponse [8] {
        0  pile_code: PileCode,
        7  result: Outcome,
    }

    /// Pushes a tariff; the body of 0x0A.
    0x58 Down TariffSet [90] {
        0  pile_code: PileCode,
        7  tariff_model_no: TariffNo,
        9  sharp_energy_price: Price,
        13 sharp_service_price: Price,
        17 peak_energy_price: Price,
        21 peak_service_price: Price,
        25 flat_energy_price: Price,
        29 flat_service_price: Price,
        33 valley_energy_price: Price,
        37 valley_service_price: Price,
        41 loss_ratio: u8,
        42 period_rate: PeriodRates,
    }
}

open_enum! {
    /// Whether the pile's tariff is the platform's.
    TariffCheck {
        0x00 Same "same as platform",
        0x01 Differs "differs from platform",
    }

    /// Price class of one half hour.
    PeriodRate {
        0x00 Sharp "sharp (尖)",
        0x01 Peak "peak (峰)",
        0x02 Flat "flat (平)",
        0x03 Valley "valley (谷)",
    }
}

/// The price class of each half hour: index 0 is 00:00–00:30, index 47 is 23:30–24:00.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeriodRates(pub [PeriodRate; 48]);

impl Field for PeriodRates {
    const WIDTH: usize = 48;
    const KIND: Kind = Kind::LabelArray(PeriodRate::LABELS);

    fn read(bytes: &[u8]) -> Self {
        let mut rates = [PeriodRate::Sharp; 48];
        rates.iter_mut().zip(bytes).for_each(|(rate, byte)| *rate = PeriodRate::from_raw(*byte));
        Self(rates)
    }

    fn write(&self, out: &mut [u8]) {
        out.iter_mut().zip(self.0).for_each(|(byte, rate)| *byte = rate.raw());
    }
}
