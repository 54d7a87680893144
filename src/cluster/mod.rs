//! Which node holds a pile, and how to reach it.
//!
//! ```text
//!   api ──Command──▶ Router ──▶ here: Sessions ◀────────────── peer port (serve) ◀── other nodes
//!                      │ └────▶ owners (remembered), the store (owner)
//!                      └──────▶ peers ──one hop──▶ the node that holds the session
//!
//!   Members      this run's lease, and who else has one: everybody above asks it whether a run is there
//!   Reasserter   says again which piles are here, when the store may have forgotten; freeze: after standing still
//!   Evictions    tells other nodes of logins here, until they have heard it
//!   sweep        what dead runs left behind, found by one of the living
//!   Watch        measurements of all nodes
//! ```
//!
//! A node that stands alone (embedded store) is a cluster of one: the same way of a command, and none of the tasks.

mod config;
mod accept;
mod caller;
mod message;
mod here;
mod owners;
mod reassert;
mod members;
mod freeze;
mod peers;
mod route;
mod evict;
mod sweep;
mod watch;
mod serve;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use accept::accept;
pub use caller::{Caller, REQUEST_ID};
pub use config::{Config, Peer as PeerConfig, Tls};
pub use members::View;
pub use peers::{Credentials, CredentialsError};
pub use route::Place;
pub use serve::Error;
pub use watch::Watch;

use crate::domain::pile::SessionSeen;
use crate::domain::{Command, CommandError, PileCode, Reply};
use crate::hub::{Filter, Hub};
use crate::session::{Neighbours, Nobody, Node, Sessions};
use crate::store::ledger::Ledger;
use crate::store::{Member, StoreError};

use evict::Evictions;
use here::Here;
use members::Members;
use owners::Owners;
use peers::{Failed, Peers};
use reassert::Reasserter;
use route::Router;

/// The cluster, seen from one of its nodes. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    config: Config,
    credentials: Credentials,
    alone: bool,
    router: Router,
    evictions: Evictions,
    /// Somebody wants this node to end.
    drain: CancellationToken,
}

/// What a cluster stands on.
pub struct Parts {
    pub config: Config,
    pub credentials: Credentials,
    /// This run, as others are to see it; `peer` is empty if the node stands alone.
    pub me: Member,
    pub sessions: Sessions,
    pub ledger: Ledger,
    pub hub: Hub,
}

/// One run of a node, as people are told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeSeen {
    pub member: Member,
    /// Piles logged in; `None` if it did not say so in time.
    pub sessions: Option<u64>,
    /// It is this one.
    pub here: bool,
}

/// Why a node cannot be told to drain.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DrainError {
    #[error("no node {0} is up")]
    Unknown(String),
    #[error("node {node} does not answer: {reason}")]
    Unreachable { node: String, reason: String },
}

impl Cluster {
    pub fn new(parts: Parts) -> Self {
        let Parts { config, credentials, me, sessions, ledger, hub } = parts;
        let (alone, incarnation, node) = (me.peer.is_empty(), me.incarnation, me.node.clone());
        let members = Members::new(config.clone(), ledger.clone(), me);
        let router = Router {
            here: Here { sessions, hub, node },
            ledger,
            members: members.clone(),
            peers: Peers::new(credentials.clone(), config.in_flight),
            owners: Owners::new(config.owner_cache),
        };
        let evictions = Evictions::new(incarnation, members);
        let drain = CancellationToken::new();
        Self(Arc::new(Inner { config, credentials, alone, router, evictions, drain }))
    }

    /// How sessions tell other nodes of logins here.
    pub fn neighbours(&self) -> Arc<dyn Neighbours> {
        if self.0.alone { Arc::new(Nobody) } else { Arc::new(self.0.evictions.clone()) }
    }

    /// Waits until others can see this run: before that it may not serve, since what it owned would be taken for left
    /// behind.
    pub async fn joined(&self) -> bool {
        self.0.router.members.refresh().await
    }

    /// What a node that stands alone finds left behind by its last run.
    pub async fn take_all(node: &Node) -> Result<(), StoreError> {
        sweep::take_all(node).await
    }

    /// Everything a cluster does by itself, for as long as it is polled.
    pub async fn keep(self, node: Arc<Node>) {
        let Inner { config, router, evictions, alone, .. } = &*self.0;
        let (members, sessions) = (router.members.clone(), router.here.sessions.clone());
        let reasserter = Reasserter::new(sessions.clone(), node.departed.clone(), router.ledger.clone());
        let keeping = members.clone().keep(reasserter.clone());
        if *alone {
            return keeping.await;
        }
        tokio::join!(
            keeping,
            reasserter.clone().run(),
            freeze::watch(members.clone(), sessions.clone(), reasserter, config.lease_ttl),
            evictions.clone().run(router.peers.clone(), sessions),
            sweep::run(config.clone(), members.clone(), node),
            self.close_what_is_gone(),
        );
    }

    /// Answers other nodes until `shutdown`.
    pub async fn serve(self, node: Arc<Node>, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
        let Inner { router, credentials, drain, .. } = &*self.0;
        let (here, credentials, drain) = (router.here.clone(), credentials.clone(), drain.clone());
        serve::serve(serve::Desk { node, here, credentials, drain, shutdown }, listener).await
    }

    /// The pile's own answer, from whichever node holds it.
    pub async fn execute(&self, pile: PileCode, command: Command, deadline: Instant) -> Result<Reply, CommandError> {
        self.0.router.execute(pile, command, deadline).await
    }

    /// The pile's session, if it has one and its node says so in time.
    pub async fn session(&self, pile: PileCode, deadline: Instant) -> Option<SessionSeen> {
        if let Some(here) = self.session_here(pile) {
            return Some(here);
        }
        match self.0.router.deliver(pile, Command::ReadSession, deadline).await {
            Ok(Reply::Session(seen)) => Some(*seen),
            Ok(_) | Err(_) => None,
        }
    }

    /// The pile's session on this node.
    pub fn session_here(&self, pile: PileCode) -> Option<SessionSeen> {
        self.0.router.here.seen(pile)
    }

    /// Where the pile's newest session is.
    pub async fn place(&self, pile: PileCode, deadline: Instant) -> Result<Place, CommandError> {
        self.0.router.place(pile, deadline).await
    }

    /// Measurements of all nodes.
    pub fn watch(&self, filter: Filter) -> Watch {
        let Router { here, members, peers, .. } = &self.0.router;
        Watch::begin(&here.hub, filter, members.clone(), peers.clone(), here.sessions.incarnation())
    }

    /// Everybody who is there, by name and run; asked for their sessions until `deadline`.
    pub async fn nodes(&self, deadline: Instant) -> Vec<NodeSeen> {
        // As it was last known, if the store is away.
        let _ = tokio::time::timeout_at(deadline, self.0.router.members.refresh()).await;
        let view = self.0.router.members.view();
        let asked = view.members.values().map(|member| self.seen(member.clone(), deadline));
        let mut nodes = join_all(asked).await;
        nodes.sort_by(|a, b| (&a.member.node, a.member.incarnation).cmp(&(&b.member.node, b.member.incarnation)));
        nodes
    }

    /// Which of these runs are over. Each must have been there before this is asked: one that is not in the table may have
    /// begun a moment ago, so the store is asked, and whoever is not in its answer has no lease any more. While the store
    /// is away, and for a while after it, nobody is gone.
    pub async fn gone(&self, incarnations: BTreeSet<u64>) -> BTreeSet<u64> {
        let Inner { alone, router, config, .. } = &*self.0;
        if *alone {
            let me = self.me().incarnation;
            return incarnations.into_iter().filter(|incarnation| *incarnation != me).collect();
        }
        let missing = |mut incarnations: BTreeSet<u64>| {
            let view = router.members.view();
            // After the store was away everybody has the time to come back first.
            let steady = view.steady_since.is_some_and(|since| since.elapsed() >= 2 * config.renew_every);
            incarnations.retain(|incarnation| steady && !view.members.contains_key(incarnation));
            incarnations
        };
        let missing_before = missing(incarnations);
        if missing_before.is_empty() || !router.members.refresh().await {
            return BTreeSet::new();
        }
        missing(missing_before)
    }

    /// This run.
    pub fn me(&self) -> Member {
        self.0.router.members.me()
    }

    /// Has a node begin its ordered end: one that is up, by its name or its run. Of several runs with one name the
    /// oldest is meant: the other is there to replace it.
    pub async fn drain(&self, name: &str, deadline: Instant) -> Result<NodeSeen, DrainError> {
        let _ = tokio::time::timeout_at(deadline, self.0.router.members.refresh()).await;
        let view = self.0.router.members.view();
        let named = |member: &&Member| member.node == name || format!("{:016x}", member.incarnation) == name;
        let found = view.members.values().filter(named).min_by_key(|member| member.started_at_ms);
        let mut member = found.cloned().ok_or_else(|| DrainError::Unknown(name.to_owned()))?;
        member.draining = true;
        if member.incarnation == self.me().incarnation {
            self.0.drain.cancel();
        } else {
            let told = match self.0.router.peers.to(&member) {
                Ok(peer) => peer.drain(deadline).await,
                Err(failed) => Err(failed),
            };
            let unreachable =
                |failed: Failed| DrainError::Unreachable { node: member.node.clone(), reason: format!("{failed:?}") };
            told.map_err(unreachable)?;
        }
        Ok(self.seen(member, deadline).await)
    }

    /// Waits until somebody wants this node to drain.
    pub async fn drain_wanted(&self) {
        self.0.drain.cancelled().await;
    }

    /// From now on others are told that this run takes no new piles. False if the store could not be told.
    pub async fn set_draining(&self) -> bool {
        self.0.router.members.set_draining().await
    }

    /// This run is over for all others.
    pub async fn retire(&self) -> Result<(), StoreError> {
        self.0.router.members.retire().await
    }

    async fn seen(&self, member: Member, deadline: Instant) -> NodeSeen {
        let Router { here, peers, members, .. } = &self.0.router;
        if member.incarnation == here.sessions.incarnation() {
            let sessions = Some(here.sessions.count() as u64);
            return NodeSeen {
                member: Member { draining: members.me().draining || member.draining, ..member },
                sessions,
                here: true,
            };
        }
        let deadline = deadline.min(Instant::now() + STATUS);
        let sessions = match peers.to(&member) {
            Ok(peer) => peer.status(deadline).await.ok().map(|status| status.sessions),
            Err(_) => None,
        };
        NodeSeen { member, sessions, here: false }
    }

    /// The connections to those who are gone.
    async fn close_what_is_gone(&self) {
        let mut changes = self.0.router.members.changes();
        loop {
            self.0.router.peers.keep_only(&changes.borrow_and_update());
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

/// How long ListNodes waits for a node to say how many sessions it has.
const STATUS: Duration = Duration::from_secs(1);
