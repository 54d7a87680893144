//! Deleting what is due.

use std::time::Duration;

use super::Ledger;
use crate::domain::WallMs;
use crate::store::{Partition, StoreError, document};

impl Ledger {
    /// Deletes what is due, at most [`EXPIRE_LIMIT`] documents of each partition; how many it deleted.
    pub async fn expire(&self, now: WallMs) -> Result<usize, StoreError> {
        let (mut deleted, mut failed) = (0, None);
        let partitions = (0..self.store.partitions()).map(Partition);
        for partition in partitions.chain([Partition::GLOBAL]) {
            match self.store.expire(partition, document::sortable(now), EXPIRE_LIMIT).await {
                Ok(here) => deleted += here,
                // The others go on.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(deleted), Err)
    }
}

/// Deletes what is due, forever; `now` is the node's clock. What one round leaves, the next takes.
pub async fn housekeep(ledger: Ledger, every: Duration, now: impl Fn() -> WallMs) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match ledger.expire(now()).await {
            Ok(0) => {}
            Ok(deleted) => tracing::debug!(deleted, "expired documents deleted"),
            Err(error) => tracing::warn!(%error, "housekeeping failed, will try again"),
        }
    }
}

/// Documents of one partition deleted by one [`Ledger::expire`].
pub const EXPIRE_LIMIT: usize = 256;
