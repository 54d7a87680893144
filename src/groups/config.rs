//! What an operator can set about the log of events, and what is refused before anything binds.

use std::time::Duration;

use serde::Deserialize;

use crate::settings::{Problem, duration};

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Events are kept at least so long, and until every group has acknowledged them; 1m to 8784h (366 days).
    #[serde(with = "duration")]
    pub keep: Duration,
    /// More than so many events of one partition are not kept, whoever has not seen them; 1000 to 1,000,000,000.
    pub max_per_partition: u64,
    /// A group that has had no consumer for so long keeps no event from being deleted any more; 1m to 8784h.
    #[serde(with = "duration")]
    pub idle_group: Duration,
    /// How often what need not be kept is deleted; 100ms to 1h.
    #[serde(with = "duration")]
    pub trim_every: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let week = Duration::from_hours(7 * 24);
        Self { keep: week, max_per_partition: 1_000_000, idle_group: week, trim_every: Duration::from_mins(1) }
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
        let long = Duration::from_mins(1)..=Duration::from_hours(366 * 24);
        check(long.contains(&self.keep), "keep", format!("{:?}", self.keep), "must be 1m to 8784h");
        let idle = long.contains(&self.idle_group);
        check(idle, "idle_group", format!("{:?}", self.idle_group), "must be 1m to 8784h");
        let most = (1000..=1_000_000_000).contains(&self.max_per_partition);
        check(most, "max_per_partition", self.max_per_partition.to_string(), "must be 1000 to 1000000000");
        let often = (Duration::from_millis(100)..=Duration::from_hours(1)).contains(&self.trim_every);
        check(often, "trim_every", format!("{:?}", self.trim_every), "must be 100ms to 1h");
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_value_is_named_with_its_key_its_value_and_why() {
        let config = |keep, max_per_partition, idle_group, trim_every| Config {
            keep: Duration::from_millis(keep),
            max_per_partition,
            idle_group: Duration::from_millis(idle_group),
            trim_every: Duration::from_millis(trim_every),
        };
        let check = |config: Config, expected: &[&str]| {
            let found: Vec<_> = config.problems().iter().map(ToString::to_string).collect();
            assert_eq!(found, expected);
        };
        let (minute, hour) = (60_000, 3_600_000);
        check(Config::default(), &[]);
        check(config(minute, 1000, minute, 100), &[]);
        check(config(8784 * hour, 1_000_000_000, 8784 * hour, hour), &[]);
        let (minutes, bounds) = ("must be 1m to 8784h", "must be 1000 to 1000000000");
        check(
            config(minute - 1, 999, minute - 1, 99),
            &[
                &format!("keep = \"59.999s\": {minutes}"),
                &format!("idle_group = \"59.999s\": {minutes}"),
                &format!("max_per_partition = \"999\": {bounds}"),
                "trim_every = \"99ms\": must be 100ms to 1h",
            ],
        );
        check(
            config(8784 * hour + 1, 1_000_000_001, 8784 * hour + 1, hour + 1),
            &[
                &format!("keep = \"31622400.001s\": {minutes}"),
                &format!("idle_group = \"31622400.001s\": {minutes}"),
                &format!("max_per_partition = \"1000000001\": {bounds}"),
                "trim_every = \"3600.001s\": must be 100ms to 1h",
            ],
        );
    }
}
