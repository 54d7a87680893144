//! Getting to the server that answers for the data: directly, through Sentinels, or to all masters of a Cluster.

use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, FromRedisValue, RedisError, RedisResult};
use redis::{Value, from_redis_value};

use super::address::{self, Address, Route};

/// Cheap to clone; all clones share their sockets.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// How a Redis is put together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Standalone,
    Sentinel,
    Cluster,
}

/// A connection, and what belongs to it.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) connection: Connection,
    pub(super) mode: Mode,
    /// Servers of which each hears everything that is published.
    listeners: Vec<Client>,
}

/// A master of a Cluster and the first and last slot of one of its ranges.
pub(super) struct Range {
    pub(super) slots: (u16, u16),
    pub(super) host: String,
    pub(super) port: u16,
}

impl Connection {
    pub(super) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::One(connection) => connection.send_packed_command(command).await,
            Self::Cluster(connection) => redis::aio::ConnectionLike::req_packed_command(connection, command).await,
        };
        answer.and_then(Value::extract_error)
    }

    /// To one master of a Cluster; a server that stands alone is its own master.
    pub(super) async fn send_to(&mut self, host: &str, port: u16, command: Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::One(connection) => connection.send_packed_command(&command).await,
            Self::Cluster(connection) => {
                let to = SingleNodeRoutingInfo::ByAddress { host: host.to_owned(), port };
                connection.route_command(command, RoutingInfo::SingleNode(to)).await
            }
        };
        answer.and_then(Value::extract_error)
    }

    /// Who answers for which slots; `None` without a Cluster.
    pub(super) async fn ranges(&mut self) -> RedisResult<Option<Vec<Range>>> {
        let Self::Cluster(connection) = self else { return Ok(None) };
        let to = RoutingInfo::SingleNode(SingleNodeRoutingInfo::RandomPrimary);
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let slots = connection.route_command(command, to).await.and_then(Value::extract_error)?;
        let slots: Vec<Vec<Value>> = from_redis_value(slots)?;
        slots.into_iter().map(range).collect::<RedisResult<_>>().map(Some)
    }
}

impl Connected {
    /// Bounded by `limit`, and not by the sum of many.
    pub(super) async fn connect(address: &Address, limit: Duration) -> RedisResult<Self> {
        match tokio::time::timeout(limit, connect(address, limit)).await {
            Ok(connected) => connected,
            Err(_) => Err(failed(format!("no connection within {limit:?}"))),
        }
    }

    /// A socket of its own that hears what is published on `channel`.
    pub(super) async fn listen(&self, channel: &str, limit: Duration) -> RedisResult<PubSub> {
        let mut last = failed("no server is known".to_owned());
        for client in &self.listeners {
            let listening = async {
                let mut listener = client.get_async_pubsub().await?;
                listener.subscribe(channel).await?;
                Ok(listener)
            };
            match tokio::time::timeout(limit, listening).await {
                Ok(Ok(listener)) => return Ok(listener),
                Ok(Err(error)) => last = error,
                Err(_) => last = failed(format!("no subscription within {limit:?}")),
            }
        }
        Err(last)
    }
}

async fn connect(address: &Address, limit: Duration) -> RedisResult<Connected> {
    match &address.route {
        Route::One(info) => {
            let client = address.client(info.clone())?;
            let mut connection = open(&client, limit).await?;
            let about: String = ask(&mut connection, redis::cmd("INFO").arg("cluster")).await?;
            if about.lines().any(|line| line.trim() == "cluster_enabled:1") {
                return cluster(address, std::slice::from_ref(info), limit).await;
            }
            must_be_master(&mut connection).await?;
            let connection = Connection::One(connection);
            Ok(Connected { connection, mode: Mode::Standalone, listeners: vec![client] })
        }
        Route::Cluster(seeds) => cluster(address, seeds, limit).await,
        Route::Sentinel { sentinels, name, server } => {
            let mut last = failed("no Sentinel is known".to_owned());
            for sentinel in sentinels {
                match through(address, sentinel, name, server, limit / 3).await {
                    Ok(connected) => return Ok(connected),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}

/// Sentinels learn of a fail-over one after the other, so a server that says it is no master (any more) is none, whatever
/// this Sentinel believes.
async fn through(
    address: &Address,
    sentinel: &ConnectionInfo,
    name: &str,
    server: &ConnectionInfo,
    limit: Duration,
) -> RedisResult<Connected> {
    let connecting = async {
        let mut sentinel = open(&address.client(sentinel.clone())?, limit).await?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let Some((host, port)) = ask::<Option<(String, u16)>>(&mut sentinel, &question).await? else {
            return Err(failed(format!("Sentinel knows no master {name:?}")));
        };
        let client = address.client(address::at(server, host, port))?;
        let mut connection = open(&client, limit).await?;
        must_be_master(&mut connection).await?;
        let connection = Connection::One(connection);
        Ok(Connected { connection, mode: Mode::Sentinel, listeners: vec![client] })
    };
    tokio::time::timeout(limit, connecting).await.unwrap_or_else(|_| Err(failed(format!("no answer within {limit:?}"))))
}

async fn cluster(address: &Address, seeds: &[ConnectionInfo], limit: Duration) -> RedisResult<Connected> {
    let mut client: ClusterClientBuilder = ClusterClient::builder(seeds.to_vec());
    if let Some(certificates) = address.certificates() {
        client = client.certs(certificates);
    }
    // The defaults are 16 retries with pauses of up to eleven minutes.
    let client = client
        .retries(3)
        .min_retry_wait(20)
        .max_retry_wait(200)
        .connection_timeout(limit / 2)
        .response_timeout(limit)
        .overall_response_timeout(Some(limit))
        .build()?;
    let mut connection = Connection::Cluster(client.get_async_connection().await?);
    let seed = seeds.first().ok_or_else(|| failed("no server is known".to_owned()))?;
    let ranges = connection.ranges().await?.unwrap_or_default();
    let masters = ranges.into_iter().map(|range| address::at(seed, range.host, range.port));
    let listeners = seeds.iter().cloned().chain(masters).map(|info| address.client(info)).collect::<Result<_, _>>()?;
    Ok(Connected { connection, mode: Mode::Cluster, listeners })
}

/// The library's own limit for answers is off: every call has one around it.
async fn open(client: &Client, limit: Duration) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(limit)).set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await
}

async fn ask<T: FromRedisValue>(connection: &mut MultiplexedConnection, command: &Cmd) -> RedisResult<T> {
    let answer = connection.send_packed_command(command).await?.extract_error()?;
    Ok(from_redis_value(answer)?)
}

async fn must_be_master(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    let about: String = ask(connection, redis::cmd("INFO").arg("replication")).await?;
    if about.lines().any(|line| line.trim() == "role:master") {
        return Ok(());
    }
    Err(failed("the server is a replica".to_owned()))
}

fn range(entry: Vec<Value>) -> RedisResult<Range> {
    let mut entry = entry.into_iter();
    let (Some(first), Some(last), Some(Value::Array(master))) = (entry.next(), entry.next(), entry.next()) else {
        return Err(failed("CLUSTER SLOTS cannot be read".to_owned()));
    };
    let mut master = master.into_iter();
    let (Some(host), Some(port)) = (master.next(), master.next()) else {
        return Err(failed("CLUSTER SLOTS names no master".to_owned()));
    };
    let slots = (from_redis_value(first)?, from_redis_value(last)?);
    Ok(Range { slots, host: from_redis_value(host)?, port: from_redis_value(port)? })
}

pub(super) fn failed(why: String) -> RedisError {
    (ErrorKind::Io, "not reached", why).into()
}
