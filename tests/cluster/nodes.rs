//! Several nodes in one process over one store. Each has a runtime of its own, so that one can be killed, or stand still,
//! without the others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use pileway::app::{App, Stores, Unfinished};
use pileway::config::Config;
use pileway::settings::Secret;
use pileway::store::embedded::{self, Embedded};
use pileway::store::ledger::Ledger;
use pileway::store::{PARTITIONS, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::common::{Api, Pile, within};

/// What the nodes share.
pub struct Shared {
    pub store: Arc<dyn Store>,
    dir: TempDir,
}

impl Shared {
    pub fn new() -> Self {
        Self::over(|store| store)
    }

    /// Over what is made of a plain store.
    pub fn over(wrap: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>) -> Self {
        let dir = TempDir::new().expect("a directory");
        Self { store: wrap(Arc::new(open(&dir, "shared"))), dir }
    }

    /// A node with short times: a lease of a second.
    pub async fn node(&self, name: &str) -> Node {
        self.node_with(name, |_| {}).await
    }

    pub async fn node_with(&self, name: &str, change: impl FnOnce(&mut Config)) -> Node {
        let mut config = Config::defaults();
        name.clone_into(&mut config.node.id);
        config.pile.listen = any();
        config.grpc.listen = any();
        config.peer.listen = any();
        config.peer.secret = Secret::new("known-to-all-of-us");
        config.cluster.lease_ttl = Duration::from_secs(1);
        config.cluster.renew_every = Duration::from_millis(200);
        config.cluster.sweep_every = Duration::from_millis(100);
        config.cluster.sweep_grace = Duration::from_millis(500);
        config.drain.settle = Some(Duration::ZERO);
        change(&mut config);
        let disk = Arc::new(open(&self.dir, &format!("{name}-{}", getrandom::u64().expect("randomness"))));
        let stores = Stores::over(Ledger::new(self.store.clone()), disk, true);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let started = runtime.spawn(App::start_on(config, stores));
        let app = within("a node", started).await.expect("no panic").expect("it starts");
        let (piles, grpc, peer) = (app.piles, app.grpc, app.peer.expect("a peer port"));
        let api = Api::at(grpc).await;
        Node { name: name.to_owned(), piles, grpc, peer, api, app: Some(app), runtime: Some(runtime) }
    }
}

/// Killed when dropped.
pub struct Node {
    pub name: String,
    pub piles: SocketAddr,
    pub grpc: SocketAddr,
    pub peer: SocketAddr,
    pub api: Api,
    app: Option<App>,
    runtime: Option<Runtime>,
}

impl Node {
    /// A pile with two guns logs in here.
    pub async fn pile(&self, code: &str) -> Pile {
        let pile = Pile::login_at(self.piles, code, 2).await;
        self.api.session_begins(code).await;
        pile
    }

    /// Everything of it ends at once, its sockets too; its lease stays until it runs out.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Waits until somebody wants it to drain, and does it.
    pub async fn drained(mut self) -> Result<(), Unfinished> {
        let app = self.app.take().expect("it runs");
        let wanted = app.drain_wanted();
        let draining = self.runtime.as_ref().expect("it runs").spawn(async move {
            wanted.await;
            app.drain().await
        });
        within("the end of a node", draining).await.expect("no panic")
    }

    /// It stands still until what is returned is dropped: its only worker does nothing else.
    pub async fn freeze(&self) -> mpsc::Sender<()> {
        let (thaw, thawed) = mpsc::channel::<()>();
        let (stands, standing) = tokio::sync::oneshot::channel();
        self.runtime.as_ref().expect("it runs").spawn(async move {
            let _ = stands.send(());
            let _ = thawed.recv();
        });
        within("a node to stand still", standing).await.expect("it stands still");
        thaw
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn open(dir: &TempDir, name: &str) -> Embedded {
    let config = embedded::Config { partitions: PARTITIONS, ..embedded::Config::new(dir.path().join(name)) };
    Embedded::open(config).expect("a store")
}

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
