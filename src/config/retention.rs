//! How long things are kept.

use std::time::Duration;

use serde::Deserialize;

use crate::settings::{Problem, duration};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Chunks of charging curves, from when each was written; 10m to 720h.
    #[serde(with = "duration")]
    pub curves: Duration,
}

impl Retention {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut found = vec![];
        if !(Duration::from_mins(10)..=Duration::from_hours(720)).contains(&self.curves) {
            let value = format!("{:?}", self.curves);
            found.push(Problem { key: "curves", value, reason: "must be 10m to 720h" });
        }
        found
    }
}
