//! The settings of connections and sessions.

use std::time::Duration;

use serde::Deserialize;

use crate::settings::{Problem, duration};

/// Timers and bounds of connections and sessions.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Config {
    /// How long a new connection may take to log in; 1s to 10m.
    #[serde(with = "duration")]
    pub login_timeout: Duration,
    /// Without a valid frame for so long a pile is reported offline; 5s to 1h.
    #[serde(with = "duration")]
    pub lost_after: Duration,
    /// Without a valid frame for so long the connection is closed; more than `lost_after`, at most 2h.
    #[serde(with = "duration")]
    pub close_after: Duration,
    /// How long a frame that was begun may stay incomplete; 1s to 10m.
    #[serde(with = "duration")]
    pub partial_frame: Duration,
    /// How long a write to the socket may take; 1s to 10m.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    /// Piles that may share one connection behind a concentrator; 1 to 1024.
    pub per_connection: usize,
    /// Commands that may wait for one connection; 1 to 1024. One more is PILE_BUSY.
    pub mailbox: usize,
    /// Connections held at once, logged in or not; 1 to 1,000,000.
    pub max_connections: usize,
    /// Piles whose fault word counts from Bit0 instead of Bit1: pile codes, or first digits of them.
    pub faults_from_bit0: Vec<String>,
    /// What to do with an order that had failed and charges after all.
    pub late_start: LateStart,
    /// A charge whose balance lasts no longer than this is told; at most 1h, 0s = never.
    #[serde(with = "duration")]
    pub balance_low: Duration,
}

/// An order has failed – its pile refused it, or was silent for 90 s – and energy flows all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LateStart {
    /// Its caller has been told that nothing charges: 0x36.
    Stop,
    /// It charges like any other.
    Adopt,
}

/// How a node hands its piles over before it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Sessions ended per second; 0: all at once, which is right where nobody else could take the piles.
    pub rate: u32,
    /// How long all of it may take; what is left then is ended at once. 1s to 1h.
    pub limit: Duration,
}

impl Drain {
    /// Nobody could take the piles.
    pub const AT_ONCE: Self = Self { rate: 0, limit: Duration::ZERO };
}

impl Default for Config {
    fn default() -> Self {
        Self {
            login_timeout: Duration::from_secs(10),
            lost_after: Duration::from_secs(40),
            close_after: Duration::from_secs(75),
            partial_frame: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            per_connection: 64,
            mailbox: 16,
            max_connections: 100_000,
            faults_from_bit0: vec![],
            late_start: LateStart::Stop,
            balance_low: Duration::from_mins(5),
        }
    }
}

impl Config {
    /// Every value that cannot be served with, all at once.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = vec![];
        let mut check = |ok: bool, key, value: String, reason| {
            if !ok {
                found.push(Problem { key, value, reason });
            }
        };
        let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        for (key, value) in [
            ("login_timeout", self.login_timeout),
            ("partial_frame", self.partial_frame),
            ("write_timeout", self.write_timeout),
        ] {
            check((second..=10 * minute).contains(&value), key, format!("{value:?}"), "must be 1s to 10m");
        }
        let lost = (5 * second..=60 * minute).contains(&self.lost_after);
        check(lost, "lost_after", format!("{:?}", self.lost_after), "must be 5s to 1h");
        let close = self.close_after > self.lost_after && self.close_after <= 120 * minute;
        let reason = "must be more than lost_after, at most 2h";
        check(close, "close_after", format!("{:?}", self.close_after), reason);
        let piles = (1..=1024).contains(&self.per_connection);
        check(piles, "per_connection", self.per_connection.to_string(), "must be 1 to 1024");
        check((1..=1024).contains(&self.mailbox), "mailbox", self.mailbox.to_string(), "must be 1 to 1024");
        let connections = (1..=1_000_000).contains(&self.max_connections);
        check(connections, "max_connections", self.max_connections.to_string(), "must be 1 to 1000000");
        let soon = self.balance_low <= 60 * minute;
        check(soon, "balance_low", format!("{:?}", self.balance_low), "must be 0s to 1h");
        for prefix in &self.faults_from_bit0 {
            let digits = !prefix.is_empty() && prefix.len() <= 14 && prefix.bytes().all(|b| b.is_ascii_digit());
            check(digits, "faults_from_bit0", prefix.clone(), "must be a pile code or the first digits of one");
        }
        found
    }
}
