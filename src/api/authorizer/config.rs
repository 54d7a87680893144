//! What an operator can set about who may charge with a card or a VIN.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use crate::settings::{Problem, Secret, duration};

/// `[authorizer]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Config {
    pub mode: Mode,
    /// For `allow-list`: the TOML file that names who may.
    pub allow_list: PathBuf,
    #[serde(flatten)]
    pub remote: Remote,
    /// For `grpc`: what counts if nobody answers.
    pub on_failure: OnFailure,
    /// The balance of who is allowed then, in 0.01 CNY.
    #[serde(deserialize_with = "balance")]
    pub on_failure_balance: u32,
}

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Nobody may charge with a card or a VIN.
    Deny,
    /// A file says who may.
    AllowList,
    /// The operator's own service.
    Grpc,
}

/// What counts if the operator's service does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    Deny,
    Allow,
}

/// Where a service of the operator's is, and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Remote {
    /// `http://host:port` or `https://host:port`.
    pub url: String,
    /// Who signs its certificate, PEM; needed for https.
    pub ca_file: PathBuf,
    /// Sent as `authorization: Bearer …`; empty = none.
    pub token: Secret,
    /// The file that holds the token, instead.
    pub token_file: PathBuf,
    /// How long it may take to answer; 100ms to 30s.
    #[serde(with = "duration")]
    pub deadline: Duration,
    /// Questions under way from this node; 1 to 100000. For one more nobody answers.
    pub in_flight: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Deny,
            allow_list: PathBuf::new(),
            remote: Remote::default(),
            on_failure: OnFailure::Deny,
            on_failure_balance: 5_000,
        }
    }
}

impl Default for Remote {
    fn default() -> Self {
        Self {
            url: String::new(),
            ca_file: PathBuf::new(),
            token: Secret::default(),
            token_file: PathBuf::new(),
            deadline: Duration::from_secs(3),
            in_flight: 256,
        }
    }
}

impl Config {
    /// Every value that cannot be served with, all at once.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = vec![];
        match self.mode {
            Mode::AllowList if self.allow_list == Path::new("") => {
                let reason = "must name the file that says who may charge";
                found.push(Problem { key: "allow_list", value: String::new(), reason });
            }
            Mode::Deny | Mode::AllowList => {}
            Mode::Grpc => found.extend(self.remote.problems()),
        }
        found
    }
}

impl Remote {
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = vec![];
        let mut check = |ok: bool, key, value: String, reason| {
            if !ok {
                found.push(Problem { key, value, reason });
            }
        };
        let scheme = self.url.split_once("://").map(|(scheme, _)| scheme);
        let usable = self.url.parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()));
        let known = matches!(scheme, Some("http" | "https"));
        // What else is in it may be a password.
        let bare = !self.url.contains('@');
        let shown = if bare { self.url.clone() } else { "(secret)".to_owned() };
        check(usable && known && bare, "url", shown, "must be http://HOST:PORT or https://HOST:PORT");
        let trusted = scheme != Some("https") || self.ca_file != Path::new("");
        check(trusted, "ca_file", String::new(), "must name who signs the certificate of an https url");
        let one = self.token.is_empty() || self.token_file == Path::new("");
        check(one, "token_file", self.token_file.display().to_string(), "must be empty if there is a token");
        let (least, most) = (Duration::from_millis(100), Duration::from_secs(30));
        let deadline = (least..=most).contains(&self.deadline);
        check(deadline, "deadline", format!("{:?}", self.deadline), "must be 100ms to 30s");
        let in_flight = (1..=100_000).contains(&self.in_flight);
        check(in_flight, "in_flight", self.in_flight.to_string(), "must be 1 to 100000");
        found
    }
}

/// CNY with at most two decimals, as text so that it stays exact: in 0.01 CNY, as 0x32 takes it.
pub(super) fn balance<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let text = String::deserialize(from)?;
    fen(&text).ok_or_else(|| de::Error::custom("must be an amount in CNY like 50.00, up to 42949672.95"))
}

fn fen(text: &str) -> Option<u32> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(decimals) || decimals.len() > 2 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let decimals: u64 = format!("{decimals:0<2}").parse().ok()?;
    u32::try_from(whole.checked_mul(100)?.checked_add(decimals)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_exact() {
        for (text, expected) in [
            ("50.00", Some(5_000)),
            ("0", Some(0)),
            ("0.5", Some(50)),
            ("42949672.95", Some(u32::MAX)),
            ("42949672.96", None),
            ("1.001", None),
            ("-1", None),
            (".5", None),
            ("", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(fen(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_service_is_named_at_once_without_secrets() {
        let keys = |remote: Remote| remote.problems().iter().map(|p| p.key).collect::<Vec<_>>();
        let good = || Remote { url: "http://127.0.0.1:50061".into(), ..Remote::default() };
        assert!(keys(good()).is_empty());
        assert!(keys(Remote { url: "https://auth.example:443".into(), ca_file: "ca.pem".into(), ..good() }).is_empty());
        for url in ["", "auth.example:1", "ftp://auth.example", "http://", "http://me:hunter@auth.example"] {
            let problems = Remote { url: url.into(), ..good() }.problems();
            assert_eq!(problems.iter().map(|p| p.key).collect::<Vec<_>>(), ["url"], "{url}");
            assert!(!problems[0].to_string().contains("hunter"));
        }
        assert_eq!(keys(Remote { url: "https://auth.example".into(), ..good() }), ["ca_file"]);
        let both = Remote { token: Secret::new("t"), token_file: "t".into(), ..good() };
        assert_eq!(
            keys(Remote { deadline: Duration::ZERO, in_flight: 0, ..both }),
            ["token_file", "deadline", "in_flight"]
        );
    }
}
