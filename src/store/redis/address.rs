//! Where Redis is, from a URL. Passwords stay in here: what is shown has none.

use std::fmt;
use std::path::Path;

use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsCertificates};

use super::OpenError;

/// ```text
/// redis://[user:password@]host[:port][/database]                       one server; a node of a Cluster is noticed
/// redis+cluster://[user:password@]host:port[,host:port…]               a Cluster; several hosts always mean one
/// redis+sentinel://[user:password@]host:port[,host:port…]/name[/database]
///                  [?sentinel_user=…&sentinel_password=…]              the master that these Sentinels call `name`
/// ```
///
/// `rediss` instead of `redis` is TLS. User and password are percent-encoded.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) route: Route,
    /// The certificate authority to trust instead of the system's; PEM.
    authority: Option<Vec<u8>>,
    shown: String,
}

#[derive(Clone)]
pub(super) enum Route {
    One(ConnectionInfo),
    Cluster(Vec<ConnectionInfo>),
    Sentinel {
        sentinels: Vec<ConnectionInfo>,
        name: String,
        /// All but the address.
        server: ConnectionInfo,
    },
}

impl Address {
    pub(super) fn read(url: &str, ca_file: Option<&Path>) -> Result<Self, OpenError> {
        let authority = ca_file
            .map(|path| std::fs::read(path).map_err(|source| OpenError::Authority { path: path.to_owned(), source }));
        let (route, shown) = route(url).map_err(|reason| OpenError::Url { url: without_password(url), reason })?;
        Ok(Self { route, authority: authority.transpose()?, shown })
    }

    pub(super) fn client(&self, info: ConnectionInfo) -> redis::RedisResult<Client> {
        match self.certificates() {
            Some(certificates) if is_tls(&info) => Client::build_with_tls(info, certificates),
            _ => Client::open(info),
        }
    }

    pub(super) fn certificates(&self) -> Option<TlsCertificates> {
        let authority = self.authority.clone();
        authority.map(|root| TlsCertificates { client_tls: None, root_cert: Some(root) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// The same server under another address, as Sentinels and Cluster nodes tell it.
pub(super) fn at(info: &ConnectionInfo, host: String, port: u16) -> ConnectionInfo {
    let addr = if is_tls(info) {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    info.clone().set_addr(addr)
}

fn is_tls(info: &ConnectionInfo) -> bool {
    matches!(info.addr(), ConnectionAddr::TcpTls { .. })
}

fn route(url: &str) -> Result<(Route, String), String> {
    let (scheme, rest) = url.split_once("://").ok_or("is no URL: it begins with redis://, for example")?;
    let (tls, how) = match scheme.split_once('+').unwrap_or((scheme, "")) {
        ("redis", how) => ("redis", how),
        ("rediss", how) => ("rediss", how),
        _ => return Err(format!("{scheme}:// is none of redis://, rediss://, +cluster, +sentinel")),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let info = |user: &str, host: &str, database: &str| {
        if host.is_empty() {
            return Err("a host is missing".to_owned());
        }
        let info = format!("{tls}://{user}{host}/{database}").into_connection_info();
        // The library's own words never repeat the URL.
        info.map_err(|error| format!("{host}: {error}"))
    };
    let hosts: Vec<&str> = hosts.split(',').map(str::trim).collect();
    let shown = format!("{scheme}://{}/{path}", hosts.join(",")).trim_end_matches('/').to_owned();

    let sentinel = how == "sentinel";
    let (mut sentinel_user, mut sentinel_password) = ("", "");
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sentinel_user", value)) if sentinel => sentinel_user = value,
            Some(("sentinel_password", value)) if sentinel => sentinel_password = value,
            Some((name, _)) => return Err(format!("there is no parameter {name:?} here")),
            None => return Err("a parameter without a value".to_owned()),
        }
    }
    let route = match how {
        "" if hosts.len() == 1 => Route::One(info(&user, hosts[0], path)?),
        "" | "cluster" if !path.is_empty() => return Err("a Cluster has no databases".to_owned()),
        "" | "cluster" => Route::Cluster(hosts.iter().map(|host| info(&user, host, "")).collect::<Result<_, _>>()?),
        "sentinel" => {
            let (name, database) = path.split_once('/').unwrap_or((path, ""));
            if name.is_empty() {
                return Err("the name of the master is missing: …/name".to_owned());
            }
            let sentinel = match (sentinel_user, sentinel_password) {
                ("", "") => String::new(),
                (user, password) => format!("{user}:{password}@"),
            };
            let port = |host: &str| if has_port(host) { host.to_owned() } else { format!("{host}:26379") };
            let sentinels = hosts.iter().map(|host| info(&sentinel, &port(host), ""));
            let server = info(&user, hosts[0], database)?;
            Route::Sentinel { sentinels: sentinels.collect::<Result<_, _>>()?, name: name.to_owned(), server }
        }
        other => return Err(format!("+{other} is none of +cluster, +sentinel")),
    };
    Ok((route, shown))
}

/// Behind the bracket of an IPv6 address, a colon means a port.
fn has_port(host: &str) -> bool {
    host.rsplit_once(']').map_or(host, |(_, port)| port).contains(':')
}

/// Of any text that was meant to be a URL.
fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Address, OpenError> {
        Address::read(url, None)
    }

    #[test]
    fn every_kind_of_url_is_read() {
        let one = read("redis://me:p%40ss@cache:6380/3").expect("is a URL");
        assert_eq!(one.to_string(), "redis://cache:6380/3");
        let Route::One(info) = &one.route else { panic!("one server") };
        assert_eq!(info.addr().to_string(), "cache:6380");
        let settings = info.redis_settings();
        assert_eq!((settings.username(), settings.password(), settings.db()), (Some("me"), Some("p@ss"), 3));

        for url in ["redis://a:1,b:2", "redis+cluster://a:1,b:2", "rediss+cluster://me:secret@a:1,b:2"] {
            let cluster = read(url).expect("is a URL");
            let Route::Cluster(seeds) = &cluster.route else { panic!("a Cluster: {url}") };
            assert_eq!(seeds.iter().map(|info| info.addr().to_string()).collect::<Vec<_>>(), ["a:1", "b:2"]);
            assert_eq!(is_tls(&seeds[0]), url.starts_with("rediss"));
        }

        let url = "redis+sentinel://me:secret@a:1,[::1],b/main/2?sentinel_user=watch&sentinel_password=p%40ss";
        let sentinel = read(url).expect("is a URL");
        assert_eq!(sentinel.to_string(), "redis+sentinel://a:1,[::1],b/main/2");
        let Route::Sentinel { sentinels, name, server } = &sentinel.route else { panic!("Sentinels") };
        assert_eq!(name, "main");
        assert_eq!(sentinels[0].redis_settings().password(), Some("p@ss"));
        assert_eq!(sentinels[1].addr().to_string(), "::1:26379");
        assert_eq!((server.redis_settings().password(), server.redis_settings().db()), (Some("secret"), 2));
        assert_eq!(at(server, "c".to_owned(), 7).addr().to_string(), "c:7");
    }

    #[test]
    fn what_is_no_url_says_why_and_never_tells_the_password() {
        let cases = [
            ("cache:6379", "is no URL"),
            ("http://a", "http:// is none of"),
            ("redis+ring://a", "+ring is none of"),
            ("redis://me:secret@", "a host is missing"),
            ("redis://me:secret@a:port", "a:port"),
            ("redis://me:secret@a/x", "a: "),
            ("redis+cluster://me:secret@a,b/1", "no databases"),
            ("redis+sentinel://me:secret@a,b", "the name of the master is missing"),
            ("redis+sentinel://a/m?sentinel_pass=secret", "no parameter \"sentinel_pass\""),
            ("redis://a?sentinel_password=secret", "no parameter \"sentinel_password\""),
        ];
        for (url, reason) in cases {
            let error = read(url).err().expect("is refused").to_string();
            assert!(error.contains(reason), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
