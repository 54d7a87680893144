//! What an operator can set about a cluster, and what is refused before anything binds.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::settings::{Problem, Secret, duration};

/// Times of membership.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Without a renewal for so long a run of a node counts as over; 1s to 5m.
    #[serde(with = "duration")]
    pub lease_ttl: Duration,
    /// How often the lease is renewed; 100ms to a third of `lease_ttl`.
    #[serde(with = "duration")]
    pub renew_every: Duration,
    /// How often the piles of runs that are over are looked for; 100ms to 10m.
    #[serde(with = "duration")]
    pub sweep_every: Duration,
    /// Nobody looks for them earlier than `lease_ttl` and this after its own start, or after the store was away; 0s to
    /// 10m.
    #[serde(with = "duration")]
    pub sweep_grace: Duration,
    /// Owners remembered so that the store is not asked for each command; 1 to 10,000,000.
    pub owner_cache: usize,
    /// Calls in flight to one other node; 1 to 100,000. One more is PILE_BUSY.
    pub in_flight: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease_ttl: Duration::from_secs(10),
            renew_every: Duration::from_secs(3),
            sweep_every: Duration::from_secs(5),
            sweep_grace: Duration::from_secs(10),
            owner_cache: 100_000,
            in_flight: 1024,
        }
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
        let (tenth, second, minute) = (Duration::from_millis(100), Duration::from_secs(1), Duration::from_mins(1));
        let ttl = (second..=5 * minute).contains(&self.lease_ttl);
        check(ttl, "lease_ttl", format!("{:?}", self.lease_ttl), "must be 1s to 5m");
        let renew = (tenth..=self.lease_ttl / 3).contains(&self.renew_every);
        check(renew, "renew_every", format!("{:?}", self.renew_every), "must be 100ms to a third of lease_ttl");
        let sweep = (tenth..=10 * minute).contains(&self.sweep_every);
        check(sweep, "sweep_every", format!("{:?}", self.sweep_every), "must be 100ms to 10m");
        check(self.sweep_grace <= 10 * minute, "sweep_grace", format!("{:?}", self.sweep_grace), "must be 0s to 10m");
        let cache = (1..=10_000_000).contains(&self.owner_cache);
        check(cache, "owner_cache", self.owner_cache.to_string(), "must be 1 to 10000000");
        let flight = (1..=100_000).contains(&self.in_flight);
        check(flight, "in_flight", self.in_flight.to_string(), "must be 1 to 100000");
        found
    }
}

/// The port where other nodes call. Only nodes with a common store have one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    pub listen: SocketAddr,
    /// Where others reach it, `host` or `host:port`; empty = `listen`.
    pub advertise: String,
    /// What every node of the cluster knows, and nobody else.
    pub secret: Secret,
    /// Serve beyond loopback with neither a secret nor TLS.
    pub allow_insecure: bool,
    pub tls: Tls,
}

/// Files in PEM; all of them or none. With them, nodes prove to each other who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Who signs the certificates of all nodes.
    pub ca: PathBuf,
    /// This node's, valid for the host it is advertised as.
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 50052)),
            advertise: String::new(),
            secret: Secret::default(),
            allow_insecure: false,
            tls: Tls::default(),
        }
    }
}

impl Peer {
    /// Every value that cannot be served with, all at once. Only asked where the port is opened at all.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = vec![];
        let beyond = !self.listen.ip().to_canonical().is_loopback();
        if beyond && self.secret.is_empty() && !self.tls.is_set() && !self.allow_insecure {
            let reason =
                "is not a loopback address: set peer.secret or peer.tls, or peer.allow_insecure to serve anybody";
            found.push(Problem { key: "listen", value: self.listen.to_string(), reason });
        }
        if self.listen.ip().is_unspecified() && self.advertise.is_empty() {
            let reason = "is every address of this machine: set peer.advertise to the one where other nodes reach it";
            found.push(Problem { key: "listen", value: self.listen.to_string(), reason });
        }
        if format!("http://{}", self.advertise_at(1)).parse::<http::Uri>().is_err() {
            let reason = "must be host or host:port";
            found.push(Problem { key: "advertise", value: self.advertise.clone(), reason });
        }
        let files = [&self.tls.ca, &self.tls.cert, &self.tls.key];
        if self.tls.is_set() && files.iter().any(|file| file.as_os_str().is_empty()) {
            let value = format!("{:?}", self.tls);
            found.push(Problem { key: "tls", value, reason: "needs all of ca, cert and key, or none" });
        }
        // It travels as a header.
        if !self.secret.reveal().bytes().all(|b| b.is_ascii_graphic()) {
            let value = format!("{:?}", self.secret);
            found.push(Problem { key: "secret", value, reason: "must be printable ASCII without spaces" });
        }
        found
    }

    /// Where other nodes reach this one, once it listens on `port`.
    pub fn advertise_at(&self, port: u16) -> String {
        if self.advertise.is_empty() {
            return SocketAddr::new(self.listen.ip(), port).to_string();
        }
        // The colons of an IPv6 address stand within brackets.
        let host_end = self.advertise.rfind(']').unwrap_or(0);
        if self.advertise[host_end..].contains(':') {
            self.advertise.clone()
        } else {
            format!("{}:{port}", self.advertise)
        }
    }
}

impl Tls {
    pub fn is_set(&self) -> bool {
        [&self.ca, &self.cert, &self.key].iter().any(|file| !file.as_os_str().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_for_everybody_needs_a_secret_or_a_certificate() {
        let check = |listen: &str, advertise: &str, secret: &str, expected: &[&str]| {
            let listen = listen.parse().expect(listen);
            let peer = Peer { listen, advertise: advertise.into(), secret: Secret::new(secret), ..Peer::default() };
            let keys: Vec<_> = peer.problems().iter().map(|problem| problem.key).collect();
            assert_eq!(keys, expected, "{peer:?}");
        };
        check("127.0.0.1:0", "", "", &[]);
        check("10.0.0.1:50052", "", "", &["listen"]);
        check("10.0.0.1:50052", "", "s3cret", &[]);
        check("0.0.0.0:50052", "", "s3cret", &["listen"]);
        check("0.0.0.0:50052", "node-1.pileway", "s3cret", &[]);
        check("127.0.0.1:0", "not a host", "two words", &["advertise", "secret"]);
    }

    #[test]
    fn what_is_advertised_has_a_port() {
        let at = |advertise: &str| Peer { advertise: advertise.into(), ..Peer::default() }.advertise_at(7);
        assert_eq!(at(""), "127.0.0.1:7");
        assert_eq!(at("node-1"), "node-1:7");
        assert_eq!(at("node-1:9"), "node-1:9");
        assert_eq!(at("[fd00::1]"), "[fd00::1]:7");
        assert_eq!(at("[fd00::1]:9"), "[fd00::1]:9");
    }

    #[test]
    fn a_secret_is_not_printed() {
        let peer = Peer { secret: Secret::new("s3cret"), ..Peer::default() };
        assert!(!format!("{peer:?}").contains("s3cret"));
    }
}
