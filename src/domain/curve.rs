//! The charging curve: how a charge went, moment by moment, as far as its pile reported it.
//!
//! It is kept in chunks of a few minutes, each named by its first moment: whoever holds the pile next goes on with chunks
//! of its own, and none of them overwrites another.

use serde::{Deserialize, Serialize};

use super::ids::{Gun, PileCode, Serial};
use super::units::{Amount, Energy, WallMs};

/// Some consecutive moments of one charge. Never empty, oldest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk {
    pub pile: PileCode,
    pub gun: Gun,
    pub serial: Serial,
    pub points: Vec<Point>,
}

impl Chunk {
    /// What a chunk holds at most: far more than a pile reports in the time a chunk is for. It bounds what a charge costs
    /// in memory while its chunk cannot be stored.
    pub const MAX_POINTS: usize = 64;

    /// What tells the chunks of a charge apart: its first moment.
    pub fn number(&self) -> u64 {
        self.points.first().map_or(0, |point| point.at.0.max(0).cast_unsigned())
    }
}

/// One moment: a 0x13, and what of 0x23 and 0x25 came with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Point {
    /// When the 0x13 arrived.
    pub at: WallMs,
    /// Since the beginning of the charge.
    pub energy: Energy,
    /// Since the beginning of the charge, by the pile's tariff.
    pub amount: Amount,
    /// AC piles do not know it.
    pub soc_percent: Option<u8>,
    pub voltage_mv: u32,
    pub current_ma: u32,
    pub cable_celsius: Option<i16>,
    pub battery_max_celsius: Option<i16>,
    pub demand: Option<Demanded>,
    pub extremes: Option<Extremes>,
}

impl Point {
    /// Output power in watts: voltage × current.
    pub fn power_w(&self) -> u32 {
        (u64::from(self.voltage_mv) * u64::from(self.current_ma) / 1_000_000) as u32
    }
}

/// What of 0x23 belongs to a curve.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Demanded {
    pub voltage_mv: u32,
    pub current_ma: u32,
    /// Raw: 1 constant voltage, 2 constant current.
    pub charge_mode: u8,
    pub max_cell_voltage_mv: u32,
}

/// What of 0x25 belongs to a curve.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Extremes {
    pub max_celsius: i16,
    pub min_celsius: i16,
}

/// One curve from its chunks, and from what is not in a chunk yet; a moment that is in several is told once.
pub fn merged(chunks: Vec<Chunk>, latest: Vec<Point>) -> Vec<Point> {
    let mut points: Vec<_> = chunks.into_iter().flat_map(|chunk| chunk.points).chain(latest).collect();
    points.sort_by_key(|point| point.at);
    points.dedup_by_key(|point| point.at);
    points
}

/// Whether something is missing between two consecutive moments. Piles report every 15 s.
pub fn has_gap(before: &Point, after: &Point) -> bool {
    after.at.since(before.at) > GAP_MS
}

const GAP_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at: i64) -> Point {
        Point {
            at: WallMs(at),
            energy: Energy(1),
            amount: Amount(2),
            soc_percent: None,
            voltage_mv: 400_100,
            current_ma: 120_000,
            cable_celsius: None,
            battery_max_celsius: None,
            demand: None,
            extremes: None,
        }
    }

    fn chunk(moments: &[i64]) -> Chunk {
        let (pile, gun) = ("32010600019236".parse().expect("code"), Gun::new(1).expect("gun"));
        let points = moments.iter().map(|at| point(*at)).collect();
        Chunk { pile, gun, serial: Serial::from_bytes([1; 16]), points }
    }

    #[test]
    fn a_moment_that_is_in_several_chunks_is_told_once_and_in_its_place() {
        let told = merged(vec![chunk(&[30, 45]), chunk(&[0, 15])], vec![point(45), point(60)]);
        assert_eq!(told.iter().map(|point| point.at.0).collect::<Vec<_>>(), [0, 15, 30, 45, 60]);
        assert_eq!((chunk(&[30, 45]).number(), chunk(&[]).number()), (30, 0));
    }

    #[test]
    fn more_than_a_minute_between_two_moments_is_a_gap() {
        assert!(!has_gap(&point(5), &point(60_005)));
        assert!(has_gap(&point(5), &point(60_006)));
        assert_eq!(point(0).power_w(), 48_012);
    }
}
