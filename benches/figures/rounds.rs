//! What several rounds come to.

use serde::Serialize;

use crate::load::turns::Turns;

/// Medians of all rounds.
#[derive(Clone, Copy, Serialize)]
pub struct Speed {
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

impl Speed {
    pub fn of(rounds: &[Turns]) -> Self {
        let middle = |value: fn(&Turns) -> f64| median(rounds.iter().map(value));
        Self { per_second: middle(|r| r.per_second), p50_us: middle(|r| r.p50_us), p99_us: middle(|r| r.p99_us) }
    }
}

/// Of two things measured in turns.
#[derive(Clone, Copy, Serialize)]
pub struct Ratio {
    /// The median of the rounds' ratios, since the two halves of a round share what else the machine was doing.
    pub ratio: f64,
    /// The lowest and the highest of them: how quiet the machine was.
    pub ratios: [f64; 2],
}

impl Ratio {
    pub fn of_turns(ours: &[Turns], others: &[Turns]) -> Self {
        Self::of(ours.iter().zip(others).map(|(ours, other)| (ours.per_second, other.per_second)))
    }

    /// Of each round, the two speeds.
    pub fn of(rounds: impl Iterator<Item = (f64, f64)>) -> Self {
        let ratios = sorted(rounds.map(|(one, other)| one / other));
        Self { ratio: ratios[ratios.len() / 2], ratios: [ratios[0], ratios[ratios.len() - 1]] }
    }
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let values = sorted(values);
    values[values.len() / 2]
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}
