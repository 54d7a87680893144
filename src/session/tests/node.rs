//! Over real sockets: a node whose store goes away and comes back.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;

use super::harness::{code, frame, login_request, policy, request};
use crate::domain::pile::Presence;
use crate::domain::{Command, CommandError, Fence, PileCode, Serial, SessionId};
use crate::hub::Hub;
use crate::session::authority::DenyAll;
use crate::session::{Departed, Drain, Eviction, Neighbours, Node, Reasserted, Sessions, Whom, listen};
use crate::store::embedded::{Config, Embedded};
use crate::store::ledger::Ledger;
use crate::store::*;
use crate::wire::{Codec, Frame, Outgoing, Sequence};

/// A store that can be switched off.
pub(super) struct Switched {
    pub(super) store: Embedded,
    pub(super) away: AtomicBool,
    /// How often somebody looked whether it is there.
    pub(super) looked: AtomicUsize,
}

impl Switched {
    pub(super) fn on(dir: &std::path::Path) -> Arc<Self> {
        let store = Embedded::open(Config::new(dir)).expect("opens");
        Arc::new(Self { store, away: AtomicBool::new(false), looked: AtomicUsize::new(0) })
    }
}

macro_rules! switched {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)+) => {
        $(fn $name(&self, $($arg: $type),*) -> BoxFuture<'_, Result<$answer, StoreError>> {
            if self.away.load(Ordering::SeqCst) {
                return async { Err(StoreError::Unavailable("switched off".into())) }.boxed();
            }
            self.store.$name($($arg),*)
        })+
    };
}

impl Store for Switched {
    switched! {
        commit(partition: Partition, batch: Batch) -> Committed;
        claim(claim: Claim) -> Claimed;
        release(pile: PileCode, fence: Fence) -> bool;
        settle(settlement: Settlement) -> Settled;
        get(key: Key) -> Option<Versioned>;
        owner(pile: PileCode) -> Option<Fence>;
        list(partition: Partition, scan: Scan) -> Vec<Indexed>;
        read_log(partition: Partition, after: Offset, limit: usize) -> Vec<Arc<Entry>>;
        log_end(partition: Partition) -> Offset;
        expire(partition: Partition, before: String, limit: usize) -> usize;
        renew(lease: Lease) -> Renewed;
        retire(incarnation: u64) -> ();
        orphans(partition: Partition, living: Vec<u64>, after: Option<Orphan>, limit: usize) -> Vec<Orphan>;
        lineage() -> Vec<u64>;
    }

    fn feed(&self) -> broadcast::Receiver<Arc<Entry>> {
        self.store.feed()
    }

    fn partitions(&self) -> u16 {
        self.store.partitions()
    }

    fn health(&self) -> Result<(), StoreError> {
        self.looked.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("switched off".into()));
        }
        self.store.health()
    }
}

/// Other nodes, as far as they are told anything.
#[derive(Default)]
struct Told(Mutex<Vec<Eviction>>);

impl Neighbours for Told {
    fn evict(&self, eviction: Eviction) {
        self.0.lock().expect("no panic").push(eviction);
    }
}

struct Served {
    node: Arc<Node>,
    store: Arc<Switched>,
    told: Arc<Told>,
    address: std::net::SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Served {
    async fn start(drain: Drain) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Switched::on(dir.path());
        let told = Arc::new(Told::default());
        let node = Arc::new(Node {
            policy: policy(100_000),
            sessions: Sessions::new(7),
            ledger: Ledger::new(store.clone()),
            hub: Hub::default(),
            departed: Departed::default(),
            neighbours: told.clone(),
            authority: Arc::new(DenyAll),
            started: Instant::now(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (address, shutdown) = (listener.local_addr().expect("bound"), CancellationToken::new());
        let task = tokio::spawn(listen::run(node.clone(), listener, shutdown.clone(), drain));
        Self { node, store, told, address, shutdown, task, _dir: dir }
    }

    async fn login(&self) -> Line {
        let socket = TcpStream::connect(self.address).await.expect("connects");
        let mut line = Line(Framed::new(socket, Codec::new()));
        line.send(login_request(2)).await;
        line.expect(0x02).await;
        line
    }

    fn goes_away(&self, away: bool) {
        self.store.away.store(away, Ordering::SeqCst);
    }

    async fn owner(&self) -> Option<Fence> {
        self.store.store.owner(code()).await.expect("reads")
    }
}

/// The pile's side.
struct Line(Framed<TcpStream, Codec>);

impl Line {
    async fn send(&mut self, frame: Frame) {
        self.0.send(Outgoing::new(Sequence([1, 0]), frame)).await.expect("writes");
    }

    async fn expect(&mut self, code: u8) -> Frame {
        let next = timeout(PATIENCE, self.0.next()).await.expect("a frame in time");
        let frame = next.expect("an open socket").expect("framing").expect("a frame").frame;
        assert_eq!(frame.code(), code, "{frame:?}");
        frame
    }

    async fn closed(&mut self) {
        let next = timeout(PATIENCE, self.0.next()).await.expect("an end in time");
        assert!(next.is_none_or(|item| item.is_err()), "something was sent instead");
    }
}

pub(super) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let met = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, met).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_pile_logs_in_while_the_store_is_away_and_is_claimed_on_its_return() {
    let served = Served::start(Drain::AT_ONCE).await;
    let Served { node, told, .. } = &served;
    let mut first = served.login().await;
    let before = node.sessions.live(code()).expect("live");
    until("the pile in the store", async || node.ledger.pile(code()).await.expect("reads").is_some()).await;
    let known = node.ledger.pile(code()).await.expect("reads").expect("stored");
    served.goes_away(true);
    let mut second = served.login().await;
    first.closed().await;
    let here = node.sessions.live(code()).expect("live");
    assert!(here.provisional && here.fence.epoch > before.fence.epoch, "{here:?}");
    let evictions = std::mem::take(&mut *told.0.lock().expect("no panic"));
    let [Eviction { pile, by, whom: Whom::Anybody, .. }] = evictions[..] else { panic!("{evictions:?}") };
    assert_eq!((pile, by), (code(), here.fence));

    let deadline = Instant::now() + PATIENCE;
    let start = Command::StartCharging(Box::new(request(1)));
    let refused = node.sessions.execute(code(), start.clone(), deadline).await;
    assert!(matches!(refused, Err(CommandError::StoreUnavailable { .. })), "{refused:?}");
    second.send(frame(0x03, Serial::NONE, &[("gun_no", 1)])).await;
    second.expect(0x04).await;

    served.goes_away(false);
    until("the claim", async || node.sessions.live(code()).is_some_and(|live| !live.provisional)).await;
    let claimed = node.sessions.live(code()).expect("live").fence;
    assert_eq!((served.owner().await, claimed.session), (Some(claimed), here.fence.session));
    let started = node.sessions.execute(code(), start, deadline);
    let (_, ()) = tokio::join!(timeout(Duration::from_millis(1), started), async { drop(second.expect(0x34).await) });
    assert_eq!(node.departed.watched(), 0, "it is here");
    let stored = node.ledger.pile(code()).await.expect("reads").expect("stored");
    assert_eq!((stored.presence, stored.presence_since), (Presence::Online, known.presence_since), "never offline");
}

#[tokio::test]
async fn a_pile_that_is_said_to_be_here_again_is_found_under_its_new_fence_and_served_on_the_same_socket() {
    let served = Served::start(Drain::AT_ONCE).await;
    let Served { node, .. } = &served;
    let mut line = served.login().await;
    let before = node.sessions.live(code()).expect("live").fence;
    let kept = Reasserted { kept: 1, ..Reasserted::default() };
    assert_eq!(node.sessions.reassert(vec![(code(), false)]).await, kept);
    assert_eq!(node.sessions.live(code()).expect("live").fence, before);
    assert_eq!(node.sessions.reassert(vec![(code(), true)]).await, kept);
    let after = node.sessions.live(code()).expect("live").fence;
    assert!(after.epoch > before.epoch && served.owner().await == Some(after));
    line.send(frame(0x03, Serial::NONE, &[("gun_no", 1)])).await;
    line.expect(0x04).await;
    // Somebody newer has it.
    let theirs = SessionId { incarnation: 9, counter: 1 };
    node.ledger.claim(Claim::login(code(), theirs, node.now().wall.plus_ms(1000), 1)).await.expect("claims");
    let lost = Reasserted { lost: 1, ..Reasserted::default() };
    assert_eq!(node.sessions.reassert(vec![(code(), false)]).await, lost);
    line.closed().await;
}

#[tokio::test]
async fn a_node_that_is_drained_closes_its_sockets_and_leaves_its_piles_to_others() {
    let served = Served::start(Drain { rate: 500, limit: PATIENCE }).await;
    let mut line = served.login().await;
    let owner = served.owner().await;
    served.shutdown.cancel();
    line.closed().await;
    timeout(PATIENCE, served.task).await.expect("ends in time").expect("no panic");
    assert_eq!(served.store.store.owner(code()).await.expect("reads"), owner, "left for the sweep");
    assert_eq!(served.node.departed.watched(), 0);
    let stored = served.node.ledger.pile(code()).await.expect("reads").expect("stored");
    assert_eq!(stored.presence, Presence::Online);
}
