//! What an operator can set about the API, and what is refused before anything binds.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::{Problem, duration};

/// Durations are text: `10s`, `500ms`, `2m`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port of the gRPC API; port 0 takes a free one. Plaintext, therefore loopback unless
    /// `allow_insecure` is set.
    pub listen: SocketAddr,
    /// Serve plaintext on an address that is not loopback: anybody who reaches it may start and stop charges.
    pub allow_insecure: bool,
    /// The deadline of a call that brings none; 100ms to 1h.
    #[serde(with = "duration")]
    pub default_deadline: Duration,
    /// The same for StartCharging and StartParallelCharging, which wait for the pile to lock and check; 100ms to 1h.
    #[serde(with = "duration")]
    pub start_deadline: Duration,
    /// Largest request in bytes; 4096 to 4194304. What is larger is refused with OUT_OF_RANGE.
    pub max_request_bytes: usize,
    /// Calls and watches in flight per connection; 1 to 100000. A client's next one waits on its side.
    pub max_concurrent_streams: u32,
    /// How often an idle connection is asked whether it is alive; 1s to 1h.
    #[serde(with = "duration")]
    pub keepalive_interval: Duration,
    /// How long it may take to answer before it is closed; 1s to 5m.
    #[serde(with = "duration")]
    pub keepalive_timeout: Duration,
    /// How long calls in flight may still run once the node shuts down; 0s to 5m.
    #[serde(with = "duration")]
    pub shutdown_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 50051)),
            allow_insecure: false,
            default_deadline: Duration::from_secs(10),
            start_deadline: Duration::from_secs(30),
            max_request_bytes: 256 * 1024,
            max_concurrent_streams: 1024,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// Every value that cannot be served with, all at once.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !self.allow_insecure && !self.listen.ip().to_canonical().is_loopback() {
            problems.push(Problem {
                key: "listen",
                value: self.listen.to_string(),
                reason: "is not a loopback address and the API is plaintext; set grpc.allow_insecure to serve it anyway",
            });
        }
        let mut range = |key, value: Duration, from: Duration, to: Duration, reason| {
            if value < from || value > to {
                problems.push(Problem { key, value: format!("{value:?}"), reason });
            }
        };
        let (second, minute, hour) = (Duration::from_secs(1), Duration::from_mins(1), Duration::from_hours(1));
        range("default_deadline", self.default_deadline, second / 10, hour, "must be 100ms to 1h");
        range("start_deadline", self.start_deadline, second / 10, hour, "must be 100ms to 1h");
        range("keepalive_interval", self.keepalive_interval, second, hour, "must be 1s to 1h");
        range("keepalive_timeout", self.keepalive_timeout, second, 5 * minute, "must be 1s to 5m");
        range("shutdown_grace", self.shutdown_grace, Duration::ZERO, 5 * minute, "must be 0s to 5m");
        if !(4096..=4 * 1024 * 1024).contains(&self.max_request_bytes) {
            let value = self.max_request_bytes.to_string();
            problems.push(Problem { key: "max_request_bytes", value, reason: "must be 4096 to 4194304" });
        }
        if !(1..=100_000).contains(&self.max_concurrent_streams) {
            let value = self.max_concurrent_streams.to_string();
            problems.push(Problem { key: "max_concurrent_streams", value, reason: "must be 1 to 100000" });
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_is_for_loopback_unless_asked_for() {
        let check = |listen: &str, allow_insecure, accepted: bool| {
            let config = Config { listen: listen.parse().expect(listen), allow_insecure, ..Config::default() };
            let keys: Vec<_> = config.problems().iter().map(|p| p.key).collect();
            assert_eq!(keys, if accepted { vec![] } else { vec!["listen"] }, "{listen}");
        };
        check("127.0.0.1:0", false, true);
        check("127.9.9.9:1", false, true);
        check("[::1]:50051", false, true);
        check("[::ffff:127.0.0.1]:50051", false, true);
        check("0.0.0.0:50051", false, false);
        check("[::]:50051", false, false);
        check("10.1.2.3:50051", false, false);
        check("0.0.0.0:50051", true, true);
    }

    #[test]
    fn all_bad_values_are_named_at_once() {
        let bad = Config {
            default_deadline: Duration::ZERO,
            max_request_bytes: 1,
            max_concurrent_streams: 0,
            ..Config::default()
        };
        let problems: Vec<_> = bad.problems().iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "default_deadline = \"0ns\": must be 100ms to 1h",
                "max_request_bytes = \"1\": must be 4096 to 4194304",
                "max_concurrent_streams = \"0\": must be 1 to 100000",
            ]
        );
    }

    #[test]
    fn a_file_may_set_some_of_it_and_the_defaults_survive_a_round_trip() {
        let config: Config = toml::from_str("listen = \"[::1]:0\"\nstart_deadline = \"1m 30s\"").expect("toml");
        assert_eq!(config.start_deadline, Duration::from_secs(90));
        assert_eq!(config.default_deadline, Duration::from_secs(10));
        let text = toml::to_string(&config).expect("toml");
        assert_eq!(toml::from_str::<Config>(&text).expect("toml"), config);
        for bad in ["start_deadline = \"soon\"", "start_deadline = \"-1s\"", "listne = \"\""] {
            assert!(toml::from_str::<Config>(bad).is_err(), "{bad}");
        }
    }
}
