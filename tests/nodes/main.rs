//! Three node processes and a Redis as one service, while processes are killed, frozen and cut off.
//!
//! Piles are simulated in this process, so that what they have seen – every start, every stop, every acknowledgement, and
//! when – can be compared with what callers were told and what is stored.

#[path = "../common/mod.rs"]
mod common;
mod chaos;
mod consumers;
mod forgotten;
mod frozen;
mod killed;
mod load;
mod outage;
mod power;
mod quiet;
mod rolling;
mod routed;
mod stored;
mod takeover;
mod trio;

/// Thousands of piles and several processes on one machine: one such test at a time, so that none waits for another.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
