//! How long things are kept.

use std::time::Duration;

use serde::Deserialize;

use crate::settings::{Problem, duration};
use crate::store::ledger;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Chunks of charging curves, from when each was written; 10m to 720h.
    #[serde(with = "duration")]
    pub curves: Duration,
    /// [`ledger::Retention::orders`]
    #[serde(with = "duration")]
    pub orders: Duration,
    /// [`ledger::Retention::tombstones`]
    #[serde(with = "duration")]
    pub tombstones: Duration,
}

impl Retention {
    /// What the ledger has to know of it.
    pub fn kept(self) -> ledger::Retention {
        let Self { curves: _, orders, tombstones } = self;
        ledger::Retention { orders, tombstones }
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut found = self.kept().problems();
        if !(Duration::from_mins(10)..=Duration::from_hours(720)).contains(&self.curves) {
            let value = format!("{:?}", self.curves);
            found.push(Problem { key: "curves", value, reason: "must be 10m to 720h" });
        }
        found
    }
}
