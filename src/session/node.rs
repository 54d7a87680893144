//! What the connections of a node have in common.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::admission::Doorkeeper;
use super::authority::Authority;
use super::departed::Departed;
use super::neighbours::{Evicted, Eviction, Neighbours, Whom};
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
    pub authority: Arc<dyn Authority>,
    pub doorkeeper: Arc<dyn Doorkeeper>,
    /// Monotonic time counts from here.
    pub started: Instant,
}

impl Node {
    /// The pile has logged in on another node: it ends what is here of it, and is not watched over here any more. What
    /// is to be answered.
    pub fn evict(&self, eviction: Eviction) -> Evicted {
        let evicted = self.sessions.evict(eviction);
        if evicted != Evicted::HeardLater {
            match eviction.whom {
                Whom::Run(_) => self.departed.claimed_elsewhere(eviction.pile, eviction.by),
                Whom::Anybody => self.departed.heard_elsewhere(eviction.pile),
            }
        }
        evicted
    }

    pub fn now(&self) -> Now {
        // A clock before 1970 is no worse than one in 1970.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: self.started.elapsed(), wall: WallMs(wall.as_millis() as i64) }
    }
}
