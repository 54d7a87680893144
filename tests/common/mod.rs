//! What end-to-end tests share: a node as a process of its own, piles that do what the test says, and the public API.
//!
//! Hardly anything here waits for time to pass. Every wait is for something to happen, with a limit generous enough for the
//! slowest machine; to show that something does *not* happen, a test waits for what comes after it.
#![allow(dead_code, unused_imports, reason = "every test binary uses its own part of it")]

pub mod api;
pub mod frames;
pub mod node;
pub mod pile;
pub mod redis;

use std::time::{Duration, Instant};

pub use api::{Api, reason};
pub use node::Node;
pub use pile::Pile;

/// Longer than anything takes that works at all.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for `future`, and fails with `what` if it takes for ever.
#[track_caller]
pub fn within<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let place = std::panic::Location::caller();
    async move {
        let Ok(output) = tokio::time::timeout(PATIENCE, future).await else {
            panic!("{place}: waited {PATIENCE:?} in vain for {what}");
        };
        output
    }
}

/// Asks until the answer is something.
#[track_caller]
pub fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> impl Future<Output = T> {
    let asking = async move {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            // Each question goes over a socket, so the other side gets to run.
            tokio::task::yield_now().await;
        }
    };
    within(what, asking)
}

/// Waits until `time` has passed since `since`: for tests that are about a time as such, an outage of a minute, a lease.
pub async fn has_passed(time: Duration, since: Instant) {
    tokio::time::sleep_until((since + time).into()).await;
}

/// Repeatable chance: splitmix64.
pub struct Chance(u64);

impl Chance {
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// From `PILEWAY_TEST_SEED`, or new; printed, so that a failure can be repeated.
    pub fn seeded() -> Self {
        let given = std::env::var("PILEWAY_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| getrandom::u64().expect("randomness"));
        eprintln!("PILEWAY_TEST_SEED={seed}");
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}
