//! Thousands of piles in one process, and what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::actor::{Handle, spawn_counting};
use super::config::PileConfig;
use super::stats::{Counters, Stats};
use crate::domain::PileCode;

/// A fleet of piles that differ only in their codes, their randomness and when they start.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// `HOST:PORT` of the platform; each pile starts with another one and takes the next after a loss.
    pub connect: Vec<String>,
    /// How many.
    pub piles: u32,
    /// New connections per second, from 1.
    pub connect_rate: u32,
    /// The first pile; the codes of the others count up from it.
    pub first: PileConfig,
}

impl FleetConfig {
    /// One pile; 500 connections per second if there are to be more.
    pub fn new(connect: Vec<String>, first: PileConfig) -> Self {
        Self { connect, piles: 1, connect_rate: 500, first }
    }

    /// The code of the pile number `n`, from 0; `None` behind 99999999999999.
    pub fn code(&self, n: u32) -> Option<PileCode> {
        let first: u64 = self.first.code.to_string().parse().ok()?;
        format!("{:014}", first + u64::from(n)).parse().ok()
    }
}

/// A running fleet. It ends when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    piles: Vec<Handle>,
    stats: Arc<Stats>,
    started: Instant,
}

/// What came of a fleet so far. Serializes as one JSON object.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Since the start, s.
    pub seconds: f64,
    /// Piles that were started.
    pub piles: u64,
    /// Piles that are logged in now.
    pub online: u64,
    /// Piles that have been logged in at least once.
    pub logged_in: u64,
    /// Charges that run now.
    pub charging: u64,
    /// Records sent and not acknowledged.
    pub records_unacked: u64,
    /// Energy of the ended charges, kWh.
    pub energy_kwh: f64,
    /// Amount of the ended charges, CNY.
    pub amount_cny: f64,
    /// From heartbeat to answer; null if none was answered.
    pub heartbeat_ms: Option<Percentiles>,
    /// Everything counted.
    #[serde(flatten)]
    pub counters: Counters,
    /// What went wrong, by kind.
    pub errors: BTreeMap<&'static str, u64>,
}

/// Round trips in ms.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    /// Half are not longer.
    pub p50: f64,
    /// 99 of 100 are not longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Fleet {
    /// Starts all piles; their connects are spread by the rate. Must be called within a tokio runtime.
    pub fn start(config: &FleetConfig) -> Self {
        let stats = Arc::new(Stats::default());
        let pause = Duration::from_secs(1) / config.connect_rate.max(1);
        // Each pile has another address first: the fleet is spread over all of them.
        let turns: Vec<Arc<[String]>> = (0..config.connect.len())
            .map(|turn| {
                let mut addresses = config.connect.clone();
                addresses.rotate_left(turn);
                addresses.into()
            })
            .collect();
        let addresses = |n: u32| turns.get(n as usize % turns.len().max(1)).cloned().unwrap_or_default();
        let piles = (0..config.piles).filter_map(|n| {
            let code = config.code(n)?;
            let first = &config.first;
            let (start_after, seed) = (first.start_after + pause * n, first.seed.wrapping_add(u64::from(n)));
            let pile = PileConfig { code, start_after, seed, ..first.clone() };
            Some(spawn_counting(pile, addresses(n), stats.clone()))
        });
        let piles = piles.collect();
        Self { piles, stats, started: Instant::now() }
    }

    /// Every pile, in the order of their codes.
    pub fn piles(&self) -> &[Handle] {
        &self.piles
    }

    /// What all have counted together.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What came of it so far.
    pub fn report(&self) -> Report {
        let counters = self.stats.counters();
        let piles = self.piles.len() as u64;
        let online = counters.logins.saturating_sub(counters.offlines);
        let round_trips = self.stats.round_trips();
        let millis = |took: Duration| took.as_secs_f64() * 1000.0;
        let percentile = |per_mille| round_trips.percentile(per_mille).map(millis);
        let heartbeat_ms = percentile(500).zip(percentile(990)).map(|(p50, p99)| Percentiles {
            p50,
            p99,
            max: millis(round_trips.longest()),
        });
        Report {
            seconds: self.started.elapsed().as_secs_f64(),
            piles,
            online,
            logged_in: counters.logins.saturating_sub(counters.reconnects),
            charging: counters.charges_started.saturating_sub(counters.charges_finished),
            records_unacked: counters.records_sent.saturating_sub(counters.records_acked),
            energy_kwh: ten_thousandths(counters.energy),
            amount_cny: ten_thousandths(counters.amount),
            heartbeat_ms,
            counters,
            errors: self
                .stats
                .troubles()
                .filter(|(_, count)| *count > 0)
                .map(|(trouble, count)| (trouble.name(), count))
                .collect(),
        }
    }

    /// Ends all piles.
    pub async fn stop(self) {
        for pile in self.piles {
            pile.stop().await;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown to people; the counters beside it are exact")]
fn ten_thousandths(number: u64) -> f64 {
    number as f64 / 10_000.0
}
