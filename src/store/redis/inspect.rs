//! Whether this Redis can be trusted with what a store is for.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use futures_util::future::try_join_all;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value, from_redis_value};

use super::connection::{Connected, Connection, Mode, failed};
use super::layout::{Keys, tag};
use super::{Durability, OpenError, script};
use crate::store::Partition;

/// What was found at the last connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    pub version: Version,
    pub mode: Mode,
    /// `None` where CONFIG may not be read; of a Cluster, what its masters agree on.
    pub appendonly: Option<String>,
    pub appendfsync: Option<String>,
    pub maxmemory_policy: Option<String>,
    pub partitions: u16,
    /// If not, why acknowledged writes may be lost.
    pub safe: Result<(), Vec<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl Version {
    /// The first one that has every command the scripts use, and sets the type of their errors.
    pub const OLDEST: Self = Self { major: 7, minor: 0, patch: 0 };

    fn read(text: &str) -> Option<Self> {
        // Builds may call themselves 7.4.0-rc1.
        let mut numbers = text.split(['.', '-']).map(|number| number.parse().ok());
        let (major, minor) = (numbers.next()??, numbers.next()??);
        Some(Self { major, minor, patch: numbers.next().flatten().unwrap_or(0) })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

pub(super) enum Trouble {
    /// It may be better in a moment.
    Failed(RedisError),
    /// It stays so until somebody changes something.
    Refused(OpenError),
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        Self::Failed(error)
    }
}

/// What the checks are about.
#[derive(Clone)]
pub(super) struct Expected {
    pub(super) url: String,
    pub(super) partitions: u16,
    pub(super) durability: Durability,
}

/// Looks at every master, and makes a new Redis ours or checks that it is.
pub(super) async fn inspect(connected: &mut Connected, keys: &Keys, expected: &Expected) -> Result<Report, Trouble> {
    let mut servers = Vec::new();
    for (host, port) in masters(&mut connected.connection).await? {
        servers.push(look(&mut connected.connection, &host, port).await?);
    }
    let oldest = servers.iter().map(|server| server.version).min();
    let version = oldest.ok_or_else(|| failed("no master is known".to_owned()))?;
    let Expected { url, partitions, durability } = expected.clone();
    if version < Version::OLDEST {
        return Err(Trouble::Refused(OpenError::Version { url, found: version }));
    }
    belongs_to_us(&mut connected.connection, keys, expected).await?;

    let problems: Vec<_> = servers.iter().flat_map(|server| server.problems(durability)).collect();
    let agreed = |setting: &str| {
        let first = servers.first()?.settings.as_ref()?.get(setting)?;
        let same = |server: &Server| server.settings.as_ref().and_then(|all| all.get(setting)) == Some(first);
        servers.iter().all(same).then(|| first.clone())
    };
    Ok(Report {
        version,
        mode: connected.mode,
        appendonly: agreed("appendonly"),
        appendfsync: agreed("appendfsync"),
        maxmemory_policy: agreed("maxmemory-policy"),
        partitions,
        safe: if problems.is_empty() { Ok(()) } else { Err(problems) },
    })
}

/// Whether it takes writes now, wherever we have any.
pub(super) async fn try_write(connection: &Connection, keys: &Keys, partitions: u16) -> RedisResult<()> {
    let mut bases = vec![keys.global()];
    if matches!(connection, Connection::Cluster(_)) {
        bases.extend((0..partitions).map(|partition| keys.base(Partition(partition))));
    }
    let trials = bases.into_iter().map(|base| {
        let trial = script::TRIAL.on(&base).key(format!("{base}trial:string")).arg(keys.channel());
        let mut connection = connection.clone();
        async move { trial.send(&mut connection).await }
    });
    try_join_all(trials).await.map(drop)
}

/// A number per partition that changes with the server that answers for it, with each of its starts, and when somebody has
/// emptied it.
pub(super) async fn lineage(connection: &mut Connection, keys: &Keys, partitions: u16) -> RedisResult<Vec<u64>> {
    let born = meta(connection, keys, partitions).await?.pop();
    let ranges = connection.ranges().await?;
    let mut known = BTreeMap::new();
    for (host, port) in masters(connection).await? {
        let about = info(connection, &host, port, &["server", "replication"]).await?;
        let mut hash = DefaultHasher::new();
        born.hash(&mut hash);
        for field in ["run_id", "master_replid"] {
            about.get(field).ok_or_else(|| failed(format!("INFO has no {field}")))?.hash(&mut hash);
        }
        known.insert((host, port), hash.finish());
    }
    let Some(ranges) = ranges else {
        let one = known.into_values().next().ok_or_else(|| failed("no server is known".to_owned()))?;
        return Ok(vec![one; usize::from(partitions)]);
    };
    let of = |partition| {
        let slot = slot(partition);
        let range = ranges.iter().find(|range| (range.slots.0..=range.slots.1).contains(&slot))?;
        known.get(&(range.host.clone(), range.port)).copied()
    };
    let lineage: Option<Vec<u64>> = (0..partitions).map(Partition).map(of).collect();
    lineage.ok_or_else(|| failed("not every slot has a master".to_owned()))
}

/// What one server says of itself. `settings` is `None` where CONFIG may not be read.
struct Server {
    /// Of a Cluster.
    name: String,
    version: Version,
    settings: Option<BTreeMap<String, String>>,
}

impl Server {
    fn problems(&self, durability: Durability) -> Vec<String> {
        let Self { name, version: _, settings } = self;
        let Some(settings) = settings else {
            return match durability {
                Durability::Asserted => vec![],
                Durability::Checked => vec![format!("{name}CONFIG may not be read, so nothing is known")],
            };
        };
        let is = |setting: &str| settings.get(setting).map_or("unknown", String::as_str);
        let mut problems = Vec::new();
        if is("appendonly") != "yes" {
            let loss = if is("save").is_empty() { "nothing survives a restart" } else { "a crash loses minutes" };
            problems.push(format!("{name}appendonly is {}: {loss}", is("appendonly")));
        } else if !["always", "everysec"].contains(&is("appendfsync")) {
            problems.push(format!("{name}appendfsync is {}: a power failure loses half a minute", is("appendfsync")));
        }
        if is("maxmemory-policy") != "noeviction" {
            problems.push(format!("{name}maxmemory-policy is {}: a full memory loses keys", is("maxmemory-policy")));
        }
        problems
    }
}

async fn look(connection: &mut Connection, host: &str, port: u16) -> RedisResult<Server> {
    let about = info(connection, host, port, &["server"]).await?;
    let version = about.get("redis_version").and_then(|text| Version::read(text));
    let version = version.ok_or_else(|| failed("INFO names no version".to_owned()))?;
    let mut question = redis::cmd("CONFIG");
    question.arg("GET").arg(&["appendonly", "appendfsync", "maxmemory-policy", "save"]);
    let settings = match connection.send_to(host, port, question).await {
        Ok(settings) => Some(from_redis_value(settings)?),
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => None,
        // Where Redis is a service, the command may have another name.
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError) => None,
        Err(error) => return Err(error),
    };
    let name = if host.is_empty() { String::new() } else { format!("{host}:{port}: ") };
    Ok(Server { name, version, settings })
}

async fn belongs_to_us(connection: &mut Connection, keys: &Keys, expected: &Expected) -> Result<(), Trouble> {
    let Expected { url, partitions, durability: _ } = expected.clone();
    let found = meta(connection, keys, partitions).await?;
    match &*found {
        [format, ..] if *format != FORMAT.to_string() => {
            Err(Trouble::Refused(OpenError::Format { url, found: format.clone(), known: FORMAT }))
        }
        [_, found, _] if *found != partitions.to_string() => {
            Err(Trouble::Refused(OpenError::Partitions { url, found: found.clone(), configured: partitions }))
        }
        [_, _, _] => Ok(()),
        _ => Err(failed("meta cannot be read".to_owned()).into()),
    }
}

/// Format, partitions, and a number made up when they were first written: another one says that everything was deleted.
async fn meta(connection: &mut Connection, keys: &Keys, partitions: u16) -> RedisResult<Vec<String>> {
    let born = getrandom::u64().map_err(|error| failed(format!("no random numbers: {error}")))?;
    let meta = script::META.on(&keys.global()).key(format!("{}meta", keys.global()));
    let meta = meta.number(FORMAT).number(partitions).arg(format!("{born:016x}"));
    Ok(from_redis_value(meta.send(connection).await?)?)
}

/// Host and port of each; both empty for the one server of a connection to one.
async fn masters(connection: &mut Connection) -> RedisResult<Vec<(String, u16)>> {
    let Some(ranges) = connection.ranges().await? else { return Ok(vec![(String::new(), 0)]) };
    let mut masters: Vec<_> = ranges.into_iter().map(|range| (range.host, range.port)).collect();
    masters.sort();
    masters.dedup();
    Ok(masters)
}

async fn info(
    connection: &mut Connection,
    host: &str,
    port: u16,
    sections: &[&str],
) -> RedisResult<BTreeMap<String, String>> {
    let mut question: Cmd = redis::cmd("INFO");
    question.arg(sections);
    let answer: Value = connection.send_to(host, port, question).await?;
    let text: String = from_redis_value(answer)?;
    let fields = text.lines().filter_map(|line| line.trim().split_once(':'));
    Ok(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn slot(partition: Partition) -> u16 {
    crc::Crc::<u16>::new(&crc::CRC_16_XMODEM).checksum(tag(partition).as_bytes()) % SLOTS
}

const SLOTS: u16 = 16384;
/// Of the layout; a Redis with another number is not touched.
const FORMAT: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        let version = |text| Version::read(text).expect("a version");
        assert_eq!(version("7.0.15").to_string(), "7.0.15");
        assert_eq!(version("7.4-rc1"), Version { major: 7, minor: 4, patch: 0 });
        assert_eq!(version("255.255.255").major, 255, "what a build from unstable sources says");
        for old in ["6.2.14", "5.0.0", "6.999.0"] {
            assert!(version(old) < Version::OLDEST, "{old}");
        }
        for new in ["7.0.0", "7.0.15", "8.2.1", "9.1.2"] {
            assert!(version(new) >= Version::OLDEST, "{new}");
        }
        for none in ["", "seven", "7", "7.x"] {
            assert_eq!(Version::read(none), None, "{none}");
        }
    }

    #[test]
    fn settings_that_lose_writes_are_named() {
        let problems = |settings: &[(&str, &str)]| {
            let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let server = Server { name: String::new(), version: Version::OLDEST, settings: Some(settings) };
            server.problems(Durability::Asserted)
        };
        let good = [("appendonly", "yes"), ("appendfsync", "everysec"), ("maxmemory-policy", "noeviction")];
        assert_eq!(problems(&good), [""; 0]);
        let cases = [
            ([("appendonly", "no"), ("save", ""), good[2]], "appendonly is no: nothing survives"),
            ([("appendonly", "no"), ("save", "3600 1"), good[2]], "appendonly is no: a crash loses"),
            ([good[0], ("appendfsync", "no"), good[2]], "appendfsync is no"),
            ([good[0], good[1], ("maxmemory-policy", "allkeys-lru")], "maxmemory-policy is allkeys-lru"),
        ];
        for (settings, problem) in cases {
            let found = problems(&settings);
            assert!(matches!(&*found, [only] if only.starts_with(problem)), "{settings:?}: {found:?}");
        }
    }
}
