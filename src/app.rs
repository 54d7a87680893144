//! The composition root: builds a node from its configuration, starts it, and ends it in order.
//!
//! Start: stores → listeners → the cluster knows of this run → tasks. End: no new callers → no new piles → the sessions,
//! paced (each brings to the store what it has for it) → nothing left on the disk → this run is over for all others → API
//! and peer port → stores. A task that ends by itself ends the node.

mod stores;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use stores::Stores;

use crate::api;
use crate::api::authorizer::AuthorizerError;
use crate::api::authorizer::login::LoginError;
use crate::cluster::{self, Cluster, Credentials, CredentialsError};
use crate::config::{Config, Drain};
use crate::domain::WallMs;
use crate::groups::Groups;
use crate::hub::Hub;
use crate::session::{self, Departed, Node, Policy, Sessions, Watch};
use crate::store::embedded::OpenError;
use crate::store::{Member, StoreError, journal, ledger, redis};

/// A node that serves.
pub struct App {
    /// Where piles connect.
    pub piles: SocketAddr,
    /// Where internal services call.
    pub grpc: SocketAddr,
    /// Where other nodes call, if there may be any.
    pub peer: Option<SocketAddr>,
    stores: Stores,
    cluster: Cluster,
    groups: Groups,
    drain: Drain,
    draining: CancellationToken,
    stop_piles: CancellationToken,
    stop_api: CancellationToken,
    /// Ends only when it is told to.
    pile_port: JoinSet<()>,
    api_port: JoinSet<Result<(), api::Error>>,
    peer_port: JoinSet<Result<(), cluster::Error>>,
    /// Run as long as the node does.
    keepers: JoinSet<()>,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("store.data_dir")]
    Store(#[from] OpenError),
    #[error("cannot read the store")]
    Read(#[from] StoreError),
    #[error("store.data_dir")]
    Journal(#[from] journal::OpenError),
    #[error("redis.url")]
    Redis(#[from] redis::OpenError),
    #[error(transparent)]
    Authorizer(#[from] AuthorizerError),
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("{key} = \"{address}\": cannot listen")]
    Listen { key: &'static str, address: SocketAddr, source: io::Error },
}

/// Why a node that served does not any more.
#[derive(Debug, thiserror::Error)]
pub enum Died {
    #[error("the gRPC API ended")]
    Api(#[source] Option<api::Error>),
    #[error("the peer port ended")]
    Peer(#[source] Option<cluster::Error>),
    #[error("the store's writer ended: nothing can be stored")]
    Store,
    #[error("the task \"{0}\" ended")]
    Task(&'static str),
}

/// A node has ended, and something is left on its disk that the store does not have: it is brought there by its next
/// start, or by whoever gets the disk.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{entries} entries of the journal are not in the store yet")]
pub struct Unfinished {
    pub entries: usize,
}

impl App {
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let stores = Stores::open(&config).await?;
        let started = Self::start_on(config, stores.clone()).await;
        if started.is_err() {
            // Whoever tries again finds nothing held and nothing to repair.
            stores.close().await;
        }
        started
    }

    /// Over stores that are open.
    pub async fn start_on(config: Config, stores: Stores) -> Result<Self, StartError> {
        let Config {
            node,
            pile,
            grpc,
            authorizer,
            login,
            redis: _,
            peer,
            cluster,
            events,
            drain,
            store: _,
            retention,
            log: _,
            tariff,
        } = config;
        let ledger = stores.ledger.clone();
        let (authority, asking) = api::authorizer::authority(&authorizer, pile.utc_offset)?;
        let (doorkeeper, admitting) = api::authorizer::login::doorkeeper(&login)?;
        let pile_listener = listen("pile.listen", pile.listen).await?;
        let grpc_listener = listen("grpc.listen", grpc.listen).await?;
        let peer_listener = if stores.shared { Some(listen("peer.listen", peer.listen).await?) } else { None };
        let piles = address(&pile_listener, "pile.listen", pile.listen)?;
        let grpc_address = address(&grpc_listener, "grpc.listen", grpc.listen)?;
        let peer_address =
            peer_listener.as_ref().map(|there| address(there, "peer.listen", peer.listen)).transpose()?;

        let (sessions, hub, departed) = (Sessions::new(incarnation()), Hub::default(), Departed::default());
        let me = Member {
            incarnation: sessions.incarnation(),
            node: node.name(),
            peer: peer_address.map(|at| peer.advertise_at(at.port())).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            draining: false,
            started_at_ms: wall().0.unsigned_abs(),
        };
        let cluster = Cluster::new(cluster::Parts {
            config: cluster,
            credentials: if stores.shared { Credentials::load(&peer)? } else { Credentials::default() },
            me,
            sessions: sessions.clone(),
            ledger: ledger.clone(),
            hub: hub.clone(),
        });
        let (started, offset, lost_after) = (Instant::now(), pile.utc_offset, pile.session.lost_after);
        let for_estimates = Arc::new(tariff.clone());
        let node = Arc::new(Node {
            policy: Arc::new(Policy {
                config: pile.session,
                tariff,
                offset,
                asking,
                admitting,
                curves_kept: retention.curves,
            }),
            sessions: sessions.clone(),
            ledger: ledger.clone(),
            hub,
            departed: departed.clone(),
            neighbours: cluster.neighbours(),
            authority,
            doorkeeper,
            started,
        });

        let (stop_piles, stop_api, draining) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let (mut keepers, mut peer_port) = (JoinSet::new(), JoinSet::new());
        keepers.spawn(cluster.clone().keep(node.clone()));
        if let Some(listener) = peer_listener {
            peer_port.spawn(cluster.clone().serve(node.clone(), listener, stop_api.clone()));
        } else {
            Cluster::take_all(&node).await?;
        }
        if !cluster.joined().await {
            tracing::warn!("the store does not answer yet: other nodes do not know of this one");
        }
        let watch = Watch { sessions: sessions.clone(), ledger: ledger.clone(), started, lost_after };
        let now = node.clone();
        keepers.spawn(departed.run(watch, move || now.now()));
        keepers.spawn(ledger::housekeep(ledger.clone(), HOUSEKEEPING, wall));
        let mut pile_port = JoinSet::new();
        // Nobody else could take the piles of a node that stands alone.
        let handed_over = if stores.shared {
            session::Drain { rate: drain.rate, limit: drain.limit }
        } else {
            session::Drain::AT_ONCE
        };
        pile_port.spawn(session::listen::run(node, pile_listener, stop_piles.clone(), handed_over));
        keepers.spawn(ledger.clone().drain());
        let mut api_port = JoinSet::new();
        let groups = Groups::new(events, cluster.clone(), &ledger, wall, stop_api.clone());
        keepers.spawn(groups.clone().keep());
        let services = api::Services {
            cluster: cluster.clone(),
            ledger,
            groups: groups.clone(),
            offset,
            tariff: for_estimates,
            curves_kept: retention.curves,
            draining: draining.clone(),
        };
        api_port.spawn(api::serve(grpc, grpc_listener, services, stop_api.clone()));
        Ok(Self {
            piles,
            grpc: grpc_address,
            peer: peer_address,
            stores,
            cluster,
            groups,
            drain,
            draining,
            stop_piles,
            stop_api,
            pile_port,
            api_port,
            peer_port,
            keepers,
        })
    }

    /// Returns only if something ended that should not have.
    pub async fn died(&mut self) -> Died {
        tokio::select! {
            Some(_) = self.pile_port.join_next() => Died::Task("pile port"),
            Some(ended) = self.api_port.join_next() => Died::Api(ended.ok().and_then(Result::err)),
            Some(ended) = self.peer_port.join_next() => Died::Peer(ended.ok().and_then(Result::err)),
            Some(_) = self.keepers.join_next() => Died::Task("keeper"),
            () = self.stores.closed() => Died::Store,
        }
    }

    /// Waits until somebody wants this node to drain.
    pub fn drain_wanted(&self) -> impl Future<Output = ()> + use<> {
        let cluster = self.cluster.clone();
        async move { cluster.drain_wanted().await }
    }

    /// The ordered end: callers first get the time to notice that this node is not ready any more.
    pub async fn drain(mut self) -> Result<(), Unfinished> {
        self.draining.cancel();
        if timeout(TELL, self.cluster.set_draining()).await != Ok(true) {
            tracing::warn!("other nodes could not be told that this one drains");
        }
        let settle = self.drain.settle.unwrap_or(if self.stores.shared { SETTLE } else { Duration::ZERO });
        tokio::select! {
            () = sleep(settle) => {}
            died = self.died() => tracing::error!(%died, "ended while callers were given time to leave"),
        }
        self.shut_down().await
    }

    /// The same at once.
    pub async fn shut_down(mut self) -> Result<(), Unfinished> {
        self.draining.cancel();
        self.stop_piles.cancel();
        while self.pile_port.join_next().await.is_some() {}
        // What this disk alone knows should not stay behind.
        let _ = timeout(LAST_ENTRIES, self.stores.ledger.drained()).await;
        if let Err(error) = self.cluster.retire().await {
            tracing::warn!(%error, "this run ends for others only when its lease runs out");
        }
        self.stop_api.cancel();
        while self.api_port.join_next().await.is_some() {}
        // So that others take over at once.
        let _ = timeout(TELL, self.groups.left()).await;
        while self.peer_port.join_next().await.is_some() {}
        self.keepers.shutdown().await;
        // Counted when nobody is left who writes: absent piles were watched over until now.
        let entries = self.stores.ledger.journal_depth();
        self.stores.close().await;
        if entries > 0 { Err(Unfinished { entries }) } else { Ok(()) }
    }
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { key, address, source })
}

fn address(listener: &TcpListener, key: &'static str, asked: SocketAddr) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen { key, address: asked, source })
}

/// Names this run of this node: unlike any other run's name, with all the certainty that 64 random bits give.
fn incarnation() -> u64 {
    getrandom::u64().unwrap_or_else(|_| wall().0.unsigned_abs())
}

fn wall() -> WallMs {
    WallMs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64)
}

const HOUSEKEEPING: Duration = Duration::from_mins(1);
/// Where there are other nodes, there are load balancers, and these look every so often.
const SETTLE: Duration = Duration::from_secs(20);
const TELL: Duration = Duration::from_secs(2);
/// For what the journal still has for the store.
const LAST_ENTRIES: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_whose_store_does_not_write_any_more_ends() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::defaults();
        dir.path().clone_into(&mut config.store.data_dir);
        config.pile.listen.set_port(0);
        config.grpc.listen.set_port(0);
        let mut app = App::start(config).await.expect("starts");
        app.stores.close().await;
        let died = tokio::time::timeout(Duration::from_secs(20), app.died()).await;
        assert!(matches!(died, Ok(Died::Store)), "{died:?}");
        app.shut_down().await.expect("nothing is left");
    }
}
