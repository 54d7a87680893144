//! What a node must know of being one of several.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use crate::settings::{Problem, Secret, duration};

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// What people call it; empty = the name of its machine.
    pub id: String,
}

/// Where nodes keep what they share.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// Empty: none, and the node stands alone on its embedded store. May hold a password.
    pub url: Secret,
    /// How long a call may take before it counts as failed; 100ms to 5m.
    #[serde(with = "duration")]
    pub time_limit: Duration,
    /// What is known of its persistence where it does not say.
    pub durability: Durability,
    /// Who signs its certificate, PEM; empty = whom the system trusts.
    pub ca_file: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// What it says about itself counts; if it does not say, it counts as unsafe.
    Checked,
    /// The operator vouches for it.
    Asserted,
}

/// How a node ends.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// How long it goes on serving after it has reported itself not ready; `None` = 20 s with other nodes, 0 s alone.
    #[serde(deserialize_with = "settle")]
    pub settle: Option<Duration>,
    /// Sessions ended per second; 1 to 100,000.
    pub rate: u32,
    /// How long that may take; what is left then is ended at once. 1s to 1h.
    #[serde(with = "duration")]
    pub limit: Duration,
}

impl Node {
    /// What people call this node.
    pub fn name(&self) -> String {
        let of_machine = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let name = if self.id.is_empty() { of_machine() } else { Some(self.id.clone()) };
        name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "pileway".into())
    }
}

impl Redis {
    /// Whether there is one: then there may be other nodes.
    pub fn is_set(&self) -> bool {
        !self.url.is_empty()
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut found = vec![];
        if !(Duration::from_millis(100)..=Duration::from_mins(5)).contains(&self.time_limit) {
            let value = format!("{:?}", self.time_limit);
            found.push(Problem { key: "time_limit", value, reason: "must be 100ms to 5m" });
        }
        found
    }
}

impl Drain {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut found = vec![];
        if self.settle.is_some_and(|settle| settle > Duration::from_mins(10)) {
            let value = format!("{:?}", self.settle.unwrap_or_default());
            found.push(Problem { key: "settle", value, reason: "must be 0s to 10m" });
        }
        if !(1..=100_000).contains(&self.rate) {
            found.push(Problem { key: "rate", value: self.rate.to_string(), reason: "must be 1 to 100000" });
        }
        if !(Duration::from_secs(1)..=Duration::from_hours(1)).contains(&self.limit) {
            found.push(Problem { key: "limit", value: format!("{:?}", self.limit), reason: "must be 1s to 1h" });
        }
        found
    }
}

fn settle<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Ok(None);
    }
    duration::deserialize(de::value::StringDeserializer::new(text)).map(Some)
}
