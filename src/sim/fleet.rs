//! Thousands of piles in one process, and what came of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::actor::{Handle, spawn_counting};
use super::config::PileConfig;
use super::notes::Ledger;
use super::pile::Action;
use super::stats::{Counters, Place, Stats, Trouble};
use super::view::View;
use crate::domain::PileCode;

/// A fleet of piles that differ only in their codes, their randomness and when they start.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// `HOST:PORT` of the platform; pile number n starts with address n modulo their number, and takes the next whenever
    /// a connection ends or does not come about.
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
    addresses: Arc<[String]>,
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
    /// Address by address, as they were given.
    pub addresses: Vec<AddressReport>,
}

/// What came of the connections to one address.
#[derive(Clone, Debug, Serialize)]
pub struct AddressReport {
    /// `HOST:PORT`.
    pub address: String,
    /// Piles that are logged in there now.
    pub online: u64,
    /// Accepted logins.
    pub logins: u64,
    /// Of them, logins of piles that had been logged in before, here or elsewhere.
    pub reconnects: u64,
    /// Rejected logins.
    pub logins_refused: u64,
    /// Records sent for the first time.
    pub records_sent: u64,
    /// Further transmissions, of records first sent here or elsewhere.
    pub records_repeated: u64,
    /// Records acknowledged with result 0.
    pub records_acked: u64,
    /// Records that wait for 0x40 at piles whose last connection, or attempt at one, was to this address.
    pub records_awaiting: u64,
    /// Frames received whole.
    pub frames_in: u64,
    /// Frames sent.
    pub frames_out: u64,
    /// What went wrong there, by kind.
    pub errors: BTreeMap<&'static str, u64>,
}

impl AddressReport {
    fn new(address: &str, place: &Place) -> Self {
        let counters = place.counters();
        Self {
            address: address.to_owned(),
            online: online(&counters),
            logins: counters.logins,
            reconnects: counters.reconnects,
            logins_refused: place.trouble(Trouble::LoginRejected),
            records_sent: counters.records_sent,
            records_repeated: counters.records_repeated,
            records_acked: counters.records_acked,
            records_awaiting: place.awaiting(),
            frames_in: counters.frames_in,
            frames_out: counters.frames_out,
            errors: errors(Trouble::ALL.into_iter().map(|trouble| (trouble, place.trouble(trouble)))),
        }
    }
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
        let stats = Arc::new(Stats::new(config.connect.len()));
        let pause = Duration::from_secs(1) / config.connect_rate.max(1);
        let addresses: Arc<[String]> = config.connect.clone().into();
        let piles = (0..config.piles).filter_map(|n| {
            let code = config.code(n)?;
            let first = &config.first;
            let (start_after, seed) = (first.start_after + pause * n, first.seed.wrapping_add(u64::from(n)));
            let pile = PileConfig { code, start_after, seed, ..first.clone() };
            // Each pile has another address first: the fleet is spread over all of them.
            Some(spawn_counting(pile, addresses.clone(), n as usize, stats.clone()))
        });
        let piles = piles.collect();
        Self { piles, addresses, stats, started: Instant::now() }
    }

    /// Every pile, in the order of their codes.
    pub fn piles(&self) -> &[Handle] {
        &self.piles
    }

    /// The pile of this code.
    pub fn pile(&self, code: PileCode) -> Option<&Handle> {
        let at = self.piles.binary_search_by_key(&code, Handle::code).ok()?;
        self.piles.get(at)
    }

    /// Does something at the piles of these numbers, one after the other.
    pub async fn act(&self, piles: Range<usize>, action: &Action) {
        for pile in self.some(piles) {
            pile.act(action.clone()).await;
        }
    }

    /// Closes the connections of the piles of these numbers, and keeps them away until they are resumed. Ends when all
    /// are closed.
    pub async fn hold(&self, piles: Range<usize>) {
        self.act(piles.clone(), &Action::Hold).await;
        self.wait_for(piles, |view| view.held).await;
    }

    /// Lets held piles connect again.
    pub async fn resume(&self, piles: Range<usize>) {
        self.act(piles, &Action::Resume).await;
    }

    /// Waits until each pile of these numbers has shown what `wanted` looks for. Set a time-out.
    pub async fn wait_for(&self, piles: Range<usize>, mut wanted: impl FnMut(&View) -> bool) {
        for pile in self.some(piles) {
            // A pile that has ended shows nothing any more.
            let _ = pile.wait_for(&mut wanted).await;
        }
    }

    /// Waits until `wanted` holds of the fleet as a whole, looking a hundred times a second. Set a time-out.
    pub async fn until(&self, mut wanted: impl FnMut(&Self) -> bool) {
        while !wanted(self) {
            sleep(LOOK_AGAIN).await;
        }
    }

    fn some(&self, piles: Range<usize>) -> &[Handle] {
        let end = piles.end.min(self.piles.len());
        self.piles.get(piles.start.min(end)..end).unwrap_or_default()
    }

    /// Piles that are logged in now.
    pub fn online(&self) -> u64 {
        online(&self.stats.counters())
    }

    /// A copy of what all piles remember; empty unless [`PileConfig::notes`] says how much. For the end: to wait for
    /// something, [`stats`](Self::stats) costs less.
    pub fn ledger(&self) -> Ledger {
        Ledger { piles: self.piles.iter().map(|pile| (pile.code(), pile.notes())).collect() }
    }

    /// What all have counted together.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What came of it so far.
    pub fn report(&self) -> Report {
        let counters = self.stats.counters();
        let piles = self.piles.len() as u64;
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
            online: online(&counters),
            logged_in: counters.logins.saturating_sub(counters.reconnects),
            charging: counters.charges_started.saturating_sub(counters.charges_finished),
            records_unacked: counters.records_sent.saturating_sub(counters.records_acked),
            energy_kwh: ten_thousandths(counters.energy),
            amount_cny: ten_thousandths(counters.amount),
            heartbeat_ms,
            counters,
            errors: errors(self.stats.troubles()),
            addresses: self
                .addresses
                .iter()
                .zip(self.stats.places())
                .map(|(address, place)| AddressReport::new(address, place))
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

fn online(counters: &Counters) -> u64 {
    counters.logins.saturating_sub(counters.offlines)
}

fn errors(troubles: impl Iterator<Item = (Trouble, u64)>) -> BTreeMap<&'static str, u64> {
    troubles.filter(|(_, count)| *count > 0).map(|(trouble, count)| (trouble.name(), count)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "shown to people; the counters beside it are exact")]
fn ten_thousandths(number: u64) -> f64 {
    number as f64 / 10_000.0
}

/// Between two looks at a whole fleet.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
