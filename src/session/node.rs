//! What the connections of a node have in common.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::departed::Departed;
use super::neighbours::Neighbours;
use super::{Now, Policy, Sessions};
use crate::domain::WallMs;
use crate::hub::Hub;
use crate::store::ledger::Ledger;

/// What every connection of a node shares.
pub struct Node {
    pub policy: Arc<Policy>,
    pub sessions: Sessions,
    pub ledger: Ledger,
    pub hub: Hub,
    pub departed: Departed,
    pub neighbours: Arc<dyn Neighbours>,
    /// Monotonic time counts from here.
    pub started: Instant,
}

impl Node {
    pub fn now(&self) -> Now {
        // A clock before 1970 is no worse than one in 1970.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: self.started.elapsed(), wall: WallMs(wall.as_millis() as i64) }
    }
}
