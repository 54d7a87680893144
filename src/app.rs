//! The composition root: builds a node from its configuration, starts it, and ends it in order.
//!
//! Start: store → listeners → tasks. End: piles first (each session brings to the store what it has for it), then the
//! API, then the store. A task that ends by itself ends the node.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::config::Config;
use crate::domain::WallMs;
use crate::hub::Hub;
use crate::session::{self, Departed, Drain, Nobody, Node, Policy, Sessions, Watch};
use crate::store::embedded::{self, Embedded, OpenError};
use crate::store::ledger::{self, Ledger};
use crate::store::{PARTITIONS, Partition, Scan, Store, StoreError};

/// A node that serves.
pub struct App {
    /// Where piles connect.
    pub piles: SocketAddr,
    /// Where internal services call.
    pub grpc: SocketAddr,
    store: Arc<Embedded>,
    stop_piles: CancellationToken,
    stop_api: CancellationToken,
    /// Ends only when it is told to.
    pile_port: JoinSet<()>,
    api_port: JoinSet<Result<(), api::Error>>,
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
    #[error("{key} = \"{address}\": cannot listen")]
    Listen { key: &'static str, address: SocketAddr, source: io::Error },
}

/// Why a node that served does not any more.
#[derive(Debug, thiserror::Error)]
pub enum Died {
    #[error("the gRPC API ended")]
    Api(#[source] Option<api::Error>),
    #[error("the store's writer ended: nothing can be stored")]
    Store,
    #[error("the task \"{0}\" ended")]
    Task(&'static str),
}

impl App {
    pub async fn start(config: Config) -> Result<Self, StartError> {
        // Nobody else could take the piles of a node that stands alone.
        let Config { pile, grpc, drain: _, store, log: _, tariff } = config;
        let store = Arc::new(Embedded::open(embedded::Config {
            partitions: PARTITIONS,
            cache_bytes: store.cache_mib as usize * 1024 * 1024,
            time_limit: store.time_limit,
            ..embedded::Config::new(store.data_dir)
        })?);
        let ledger = Ledger::new(store.clone());
        let pile_listener = listen("pile.listen", pile.listen).await?;
        let grpc_listener = listen("grpc.listen", grpc.listen).await?;
        let piles = address(&pile_listener, "pile.listen", pile.listen)?;
        let grpc_address = address(&grpc_listener, "grpc.listen", grpc.listen)?;

        let (sessions, hub, departed) = (Sessions::new(incarnation()), Hub::default(), Departed::default());
        let (started, offset, lost_after) = (Instant::now(), pile.utc_offset, pile.session.lost_after);
        let node = Arc::new(Node {
            policy: Arc::new(Policy { config: pile.session, tariff, offset }),
            sessions: sessions.clone(),
            ledger: ledger.clone(),
            hub: hub.clone(),
            departed: departed.clone(),
            neighbours: Arc::new(Nobody),
            started,
        });
        adopt_orphans(&node, &*store).await?;

        let (stop_piles, stop_api) = (CancellationToken::new(), CancellationToken::new());
        let mut pile_port = JoinSet::new();
        pile_port.spawn(session::listen::run(node.clone(), pile_listener, stop_piles.clone(), Drain::AT_ONCE));
        let mut api_port = JoinSet::new();
        let services = api::Services { sessions: sessions.clone(), ledger: ledger.clone(), hub, offset };
        api_port.spawn(api::serve(grpc, grpc_listener, services, stop_api.clone()));
        let mut keepers = JoinSet::new();
        let watch = Watch { sessions, ledger: ledger.clone(), started, lost_after };
        keepers.spawn(departed.run(watch, move || node.now()));
        keepers.spawn(ledger::housekeep(ledger, HOUSEKEEPING, wall));
        Ok(Self { piles, grpc: grpc_address, store, stop_piles, stop_api, pile_port, api_port, keepers })
    }

    /// Returns only if something ended that should not have.
    pub async fn died(&mut self) -> Died {
        tokio::select! {
            Some(_) = self.pile_port.join_next() => Died::Task("pile port"),
            Some(ended) = self.api_port.join_next() => Died::Api(ended.ok().and_then(Result::err)),
            Some(_) = self.keepers.join_next() => Died::Task("keeper"),
            () = self.store.closed() => Died::Store,
        }
    }

    pub async fn shut_down(mut self) {
        self.stop_piles.cancel();
        while self.pile_port.join_next().await.is_some() {}
        self.stop_api.cancel();
        while self.api_port.join_next().await.is_some() {}
        self.keepers.shutdown().await;
        self.store.close().await;
    }
}

/// What earlier runs left behind.
async fn adopt_orphans(node: &Node, store: &dyn Store) -> Result<(), StoreError> {
    let living = vec![node.sessions.incarnation()];
    for partition in (0..store.partitions()).map(Partition) {
        let mut after = None;
        loop {
            let orphans = store.orphans(partition, living.clone(), after, Scan::MAX_LIMIT).await?;
            for orphan in &orphans {
                node.departed.adopt(&node.ledger, node.now(), *orphan, node.policy.config.lost_after).await?;
            }
            after = orphans.last().copied();
            if orphans.len() < Scan::MAX_LIMIT {
                break;
            }
        }
    }
    Ok(())
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
        app.store.close().await;
        let died = tokio::time::timeout(Duration::from_secs(20), app.died()).await;
        assert!(matches!(died, Ok(Died::Store)), "{died:?}");
        app.shut_down().await;
    }
}
