//! The configuration of a node: every component's section, composed.
//!
//! Defaults < file < environment < flags. The commented default file is the one place that lists keys and defaults; what
//! it does not list does not exist. Problems are collected, not met one by one, and each names key, value, reason and
//! where the value came from.

mod nodes;
mod retention;
mod tariff;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, de};
use toml::{Table, Value};

use crate::domain::Tariff;
use crate::domain::units::UtcOffset;
use crate::settings::{Problem, duration};
use crate::{api, cluster, groups, observe, session};

pub use nodes::{Drain, Durability, Node, Redis};
pub use retention::Retention;

/// A whole and valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub node: Node,
    pub pile: Pile,
    pub grpc: api::Config,
    pub authorizer: api::authorizer::Config,
    pub login: api::authorizer::login::Config,
    pub redis: Redis,
    pub peer: cluster::PeerConfig,
    pub cluster: cluster::Config,
    pub events: groups::Config,
    pub drain: Drain,
    pub store: Store,
    pub retention: Retention,
    pub log: Log,
    pub tariff: Tariff,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Pile {
    pub listen: SocketAddr,
    #[serde(deserialize_with = "utc_offset")]
    pub utc_offset: UtcOffset,
    #[serde(flatten)]
    pub session: session::Config,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    pub data_dir: PathBuf,
    pub cache_mib: u32,
    #[serde(with = "duration")]
    pub time_limit: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub format: observe::Format,
}

/// Everything that is wrong, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(Vec<String>);

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many = if self.0.len() == 1 { "problem" } else { "problems" };
        write!(f, "{} {many} in the configuration", self.0.len())?;
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// The commented default file, as `pileway config` prints it.
pub const DEFAULT_FILE: &str = include_str!("config/default.toml");

impl Config {
    /// Reads the file, if there is one, then `environment`, then `flags`: flag, dotted key and text.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: impl IntoIterator<Item = (&'static str, &'static str, String)>,
    ) -> Result<Self, ConfigError> {
        let mut layers = Layers::new();
        if let Some(path) = file {
            layers.file(path);
        }
        for (name, value) in environment {
            layers.environment(&name, &value);
        }
        for (flag, key, value) in flags {
            layers.set(key, &value, &format!("flag {flag}"));
        }
        layers.finish()
    }

    /// The defaults alone.
    pub fn defaults() -> Self {
        Self::load(None, [], []).expect("the embedded default file is valid: a test loads it")
    }
}

/// Values as they are laid over each other, and what was wrong with them.
struct Layers {
    values: Table,
    /// Which key was set by what, for errors found later.
    origins: Vec<(String, String)>,
    problems: Vec<String>,
}

impl Layers {
    fn new() -> Self {
        let values = DEFAULT_FILE.parse().expect("the embedded default file is TOML: a test loads it");
        Self { values, origins: vec![], problems: vec![] }
    }

    fn file(&mut self, path: &Path) {
        let origin = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.problems.push(format!("--config = \"{origin}\": {error}")),
        };
        match text.parse::<Table>() {
            Ok(table) => self.lay_over("", &table, &origin),
            Err(error) => {
                // Without the line itself, which may hold a secret.
                let line = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
                self.problems.push(format!("{origin}: not TOML: line {line}: {}", one_line(error.message())));
            }
        }
    }

    fn lay_over(&mut self, prefix: &str, table: &Table, origin: &str) {
        for (name, value) in table {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match (value, slot(&mut self.values, &key)) {
                (Value::Table(inner), Some(Value::Table(_))) => self.lay_over(&key, inner, origin),
                (_, Some(Value::Table(_))) => self.wrong(&key, &value.to_string(), "is a section, not a value", origin),
                (_, Some(there)) if there.type_str() != value.type_str() => {
                    let reason = format!("must be {}", article(there));
                    self.wrong(&key, &value.to_string(), &reason, origin);
                }
                (_, Some(there)) => {
                    *there = value.clone();
                    self.origins.push((key, origin.to_owned()));
                }
                (_, None) => self.wrong(&key, &value.to_string(), "unknown key", origin),
            }
        }
    }

    fn environment(&mut self, name: &str, value: &str) {
        let Some(rest) = name.strip_prefix("PILEWAY_") else { return };
        // What tests and benches are told by is not configuration, and neither is what Kubernetes tells every container
        // about services whose names begin like ours.
        let for_tests = rest.starts_with("TEST_") || rest.starts_with("BENCH_");
        let of_a_service = ["SERVICE_HOST", "SERVICE_PORT", "PORT"]
            .iter()
            .any(|word| rest == *word || rest.starts_with(&format!("{word}_")) || rest.contains(&format!("_{word}")));
        if for_tests || (of_a_service && !rest.contains("__")) {
            return;
        }
        let key = rest.to_lowercase().replace("__", ".");
        if slot(&mut self.values, &key).is_none() {
            // Its value is somebody else's business, and may be a secret.
            return self.problems.push(format!("environment variable {name}: unknown key {key}"));
        }
        self.set(&key, value, &format!("environment variable {name}"));
    }

    /// A value given as text, read as what its default is.
    fn set(&mut self, key: &str, text: &str, origin: &str) {
        let Some(there) = slot(&mut self.values, key) else {
            return self.wrong(key, text, "unknown key", origin);
        };
        let value = match there {
            Value::String(_) => Some(Value::String(text.to_owned())),
            Value::Integer(_) => text.parse().ok().map(Value::Integer),
            Value::Boolean(_) => text.parse().ok().map(Value::Boolean),
            Value::Array(_) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Some(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
            }
            Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
        };
        if let Some(value) = value {
            *there = value;
            self.origins.push((key.to_owned(), origin.to_owned()));
        } else {
            let reason = format!("must be {}", article(there));
            self.wrong(key, text, &reason, origin);
        }
    }

    fn finish(mut self) -> Result<Config, ConfigError> {
        let node = self.section::<Node>("node");
        let redis = self.section::<Redis>("redis");
        let peer = self.section::<cluster::PeerConfig>("peer");
        let cluster = self.section::<cluster::Config>("cluster");
        let drain = self.section::<Drain>("drain");
        let events = self.section::<groups::Config>("events");
        let pile = self.section::<Pile>("pile");
        let grpc = self.section::<api::Config>("grpc");
        let authorizer = self.section::<api::authorizer::Config>("authorizer");
        let login = self.section::<api::authorizer::login::Config>("login");
        let store = self.section::<Store>("store");
        let retention = self.section::<Retention>("retention");
        let log = self.section::<Log>("log");
        let tariff = tariff::read(&self.values);
        if let Some(pile) = &pile {
            self.found("pile", pile.session.problems());
        }
        if let Some(grpc) = &grpc {
            self.found("grpc", grpc.problems());
        }
        if let Some(authorizer) = &authorizer {
            self.found("authorizer", authorizer.problems());
        }
        if let Some(login) = &login {
            self.found("login", login.problems());
        }
        if let Some(store) = &store {
            self.found("store", store.problems());
        }
        if let Some(retention) = &retention {
            self.found("retention", retention.problems());
        }
        if let Some(redis) = &redis {
            self.found("redis", redis.problems());
        }
        // A node that stands alone opens no port for others.
        if let (Some(peer), true) = (&peer, redis.as_ref().is_some_and(Redis::is_set)) {
            self.found("peer", peer.problems());
        }
        if let Some(cluster) = &cluster {
            self.found("cluster", cluster.problems());
        }
        if let Some(events) = &events {
            self.found("events", events.problems());
        }
        if let Some(drain) = &drain {
            self.found("drain", drain.problems());
        }
        let tariff = tariff.map_err(|problems| self.problems.extend(problems)).ok();
        // What could not be read is a problem.
        let whole = || {
            Some(Config {
                node: node?,
                pile: pile?,
                grpc: grpc?,
                authorizer: authorizer?,
                login: login?,
                redis: redis?,
                peer: peer?,
                cluster: cluster?,
                events: events?,
                drain: drain?,
                store: store?,
                retention: retention?,
                log: log?,
                tariff: tariff?,
            })
        };
        match whole() {
            Some(config) if self.problems.is_empty() => Ok(config),
            _ => Err(ConfigError(self.problems)),
        }
    }

    /// Reads a section value by value, so that every bad one is named.
    fn section<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let defaults: Table = DEFAULT_FILE.parse().expect("the embedded default file is TOML");
        let (Some(Value::Table(mut values)), Some(Value::Table(defaults))) =
            (self.values.get(name).cloned(), defaults.get(name))
        else {
            return None;
        };
        for (key, default) in defaults {
            let mut only_this = defaults.clone();
            let value = values.get(key).unwrap_or(default).clone();
            only_this.insert(key.clone(), value.clone());
            if let Err(error) = only_this.try_into::<T>() {
                let full = format!("{name}.{key}");
                let origin = self.origin(&full);
                self.wrong(&full, &value.to_string(), &one_line(error.message()), &origin);
                // So that the ranges of the other values are looked at too.
                values.insert(key.clone(), default.clone());
            }
        }
        values.retain(|key, _| defaults.contains_key(key));
        values.try_into().map_err(|error| self.problems.push(format!("{name}: {error}"))).ok()
    }

    fn found(&mut self, section: &str, problems: Vec<Problem>) {
        for Problem { key, value, reason } in problems {
            let key = format!("{section}.{key}");
            let origin = self.origin(&key);
            self.wrong(&key, &value, reason, &origin);
        }
    }

    fn origin(&self, key: &str) -> String {
        let last = self.origins.iter().rev().find(|(set, _)| set == key);
        last.map_or_else(|| "default".to_owned(), |(_, origin)| origin.clone())
    }

    fn wrong(&mut self, key: &str, value: &str, reason: &str, origin: &str) {
        let value = if may_hold_a_secret(key) { "(secret)" } else { value.trim_matches('"') };
        self.problems.push(format!("{key} = \"{value}\" ({origin}): {reason}"));
    }
}

impl Store {
    fn problems(&self) -> Vec<Problem> {
        let mut found = vec![];
        if !(4..=65_536).contains(&self.cache_mib) {
            found.push(Problem { key: "cache_mib", value: self.cache_mib.to_string(), reason: "must be 4 to 65536" });
        }
        if !(Duration::from_millis(100)..=Duration::from_mins(5)).contains(&self.time_limit) {
            let value = format!("{:?}", self.time_limit);
            found.push(Problem { key: "time_limit", value, reason: "must be 100ms to 5m" });
        }
        found
    }
}

fn slot<'a>(table: &'a mut Table, key: &str) -> Option<&'a mut Value> {
    match key.split_once('.') {
        None => table.get_mut(key),
        Some((section, rest)) => slot(table.get_mut(section)?.as_table_mut()?, rest),
    }
}

fn article(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(_) => "a whole number",
        Value::Boolean(_) => "true or false",
        Value::Array(_) => "a list of texts",
        Value::Table(_) => "a section",
        Value::Float(_) => "a number",
        Value::Datetime(_) => "a time",
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

fn utc_offset<'de, D: Deserializer<'de>>(from: D) -> Result<UtcOffset, D::Error> {
    let text = String::deserialize(from)?;
    UtcOffset::parse(&text).ok_or_else(|| de::Error::custom("must be an offset like +08:00, -14:00 to +14:00"))
}

/// Whether the key is a secret's, or is one that was meant to be: the name of its section, or one that is not in it.
fn may_hold_a_secret(key: &str) -> bool {
    let known = || DEFAULT_FILE.parse::<Table>().is_ok_and(|mut defaults| slot(&mut defaults, key).is_some());
    SECRET.iter().any(|secret| {
        let section = secret.split('.').next().unwrap_or_default();
        key == *secret
            || key == section
            || (key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.')) && !known())
    })
}

/// What no error repeats.
const SECRET: &[&str] = &["peer.secret", "redis.url", "authorizer.token", "login.token"];

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(environment: &[(&str, &str)]) -> Vec<String> {
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load(None, environment, []).map_or_else(|error| error.0, |_| vec![])
    }

    #[test]
    fn the_default_file_lists_every_default_and_is_valid() {
        let config = Config::defaults();
        assert_eq!(config.pile.session, session::Config::default());
        assert_eq!(config.grpc, api::Config::default());
        assert_eq!(config.login, api::authorizer::login::Config::default());
        assert_eq!(config.authorizer, api::authorizer::Config::default());
        assert_eq!(config.cluster, cluster::Config::default());
        assert_eq!(config.peer, cluster::PeerConfig::default());
    }

    #[test]
    fn no_error_repeats_a_secret() {
        let dir = tempfile::tempdir().expect("a directory");
        let check = |text: &str, environment: &[(&str, &str)]| {
            let path = dir.path().join("pileway.toml");
            std::fs::write(&path, text).expect("written");
            let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            let error = Config::load(Some(&path), environment, []).expect_err(text).to_string();
            assert!(!error.contains("hunter"), "{error}");
        };
        check("[peer]\nsecret = \"hunter two\"\n[redis]\nurl = \"redis://x\"\n", &[]);
        check("[peer]\nsecret = [\"hunter\"]\n", &[]);
        check("[redis]\nurl = \"redis://:hunter@x\"\ntime_limit = \"0s\"\n", &[]);
        check("[peer]\nsecret = hunter\n", &[]);
        check("[peer]\n", &[("PILEWAY_PEER__SECRET_", "hunter")]);
        check("[peer]\nsecert = \"hunter\"\n[redis]\nuri = \"redis://:hunter@x\"\n", &[]);
        check("redis = \"redis://:hunter@x\"\npeer = \"hunter\"\n", &[]);
        check("[peer]\n", &[("PILEWAY_REDIS", "redis://:hunter@x"), ("PILEWAY_PEER", "hunter")]);
        let config = [("PILEWAY_PEER__SECRET".to_owned(), "hunter".to_owned())];
        let config = Config::load(None, config, []).expect("valid");
        assert!(!format!("{config:?}").contains("hunter"));
        assert_eq!(config.peer.secret.reveal(), "hunter");
    }

    #[test]
    fn every_problem_is_named_at_once_with_key_value_reason_and_origin() {
        let found = problems(&[
            ("PILEWAY_PILE__LOST_AFTER", "soon"),
            ("PILEWAY_PILE__MAILBOX", "0"),
            ("PILEWAY_GRPC__LISTEN", "nowhere"),
            ("PILEWAY_GRPC_LISTEN", "127.0.0.1:1"),
            ("PILEWAY_STORE__CACHE_MIB", "many"),
            ("PILEWAY_TARIFF__PEAK__ENERGY", "1.000001"),
            ("PILEWAY_LOG__FORMAT", "xml"),
            ("PATH", "/bin"),
            ("PILEWAY_PORT", "tcp://10.0.0.1:8768"),
            ("PILEWAY_PORT_8768_TCP_ADDR", "10.0.0.1"),
            ("PILEWAY_GRPC_SERVICE_HOST", "10.0.0.1"),
            ("PILEWAY_TEST_PYTHON", "python3"),
        ]);
        let expected = [
            "environment variable PILEWAY_GRPC_LISTEN: unknown key grpc_listen",
            "store.cache_mib = \"many\" (environment variable PILEWAY_STORE__CACHE_MIB): must be a whole number",
            "pile.lost_after = \"soon\" (environment variable PILEWAY_PILE__LOST_AFTER): must be a duration",
            "grpc.listen = \"nowhere\" (environment variable PILEWAY_GRPC__LISTEN): ",
            "log.format = \"xml\" (environment variable PILEWAY_LOG__FORMAT): ",
            "pile.mailbox = \"0\" (environment variable PILEWAY_PILE__MAILBOX): must be 1 to 1024",
            "tariff.peak.energy = \"1.000001\"",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for start in expected {
            assert!(found.iter().any(|line| line.starts_with(start)), "{start} is not in {found:#?}");
        }
        let found = problems(&[("PILEWAY_PILE__MAILBOX", "0"), ("PILEWAY_PILE__CLOSE_AFTER", "10s")]);
        assert_eq!(found.len(), 2, "{found:#?}");
    }

    #[test]
    fn what_is_over_is_kept_as_long_as_configured() {
        use crate::store::ledger::Retention as Kept;
        let load = |orders: &str| {
            let orders = ("PILEWAY_RETENTION__ORDERS".to_owned(), orders.to_owned());
            Config::load(None, [orders], []).map(|config| config.retention.kept())
        };
        assert_eq!(Config::defaults().retention.kept(), Kept::default(), "the same without a file");
        let days = |days: u64| Duration::from_hours(24 * days);
        assert_eq!(load("30d"), Ok(Kept { orders: days(30), tombstones: days(400) }));
        assert_eq!(load("36h").map(|retention| retention.orders), Ok(Duration::from_hours(36)));
        for bad in ["23h", "3651d", "d", "-1d", "14"] {
            let error = load(bad).expect_err("refused").to_string();
            assert!(error.contains("retention.orders") && error.contains("must be"), "{error}");
        }
    }

    #[test]
    fn later_layers_win() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("pileway.toml");
        std::fs::write(&path, "[pile]\nmailbox = 3\nlost_after = \"20s\"\n").expect("written");
        let environment = [("PILEWAY_PILE__LOST_AFTER".to_owned(), "30s".to_owned())];
        let flags = [("--pile-listen", "pile.listen", "127.0.0.1:0".to_owned())];
        let config = Config::load(Some(&path), environment, flags).expect("valid");
        assert_eq!(config.pile.session.mailbox, 3);
        assert_eq!(config.pile.session.lost_after, Duration::from_secs(30));
        assert_eq!(config.pile.listen, "127.0.0.1:0".parse().expect("address"));
    }

    #[test]
    fn a_file_with_unknown_keys_or_wrong_types_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("pileway.toml");
        std::fs::write(&path, "[pile]\nmailbox = \"3\"\nlisten_on = 1\n[radish]\nurl = \"x\"\n").expect("written");
        let error = Config::load(Some(&path), [], []).expect_err("refused").to_string();
        for part in ["pile.mailbox = \"3\"", "must be a whole number", "pile.listen_on", "radish", "unknown key"] {
            assert!(error.contains(part), "{part} is not in {error}");
        }
        assert!(Config::load(Some(&dir.path().join("none.toml")), [], []).is_err());
    }
}
