//! Piles, nodes and what can happen to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pileway::domain::order::Change;
use pileway::domain::{EventKind, Fence, Order, OrderState, PileCode, Record, RequestId, Serial, SessionId, WallMs};
use pileway::store::ledger::Ledger;
use pileway::store::redis;
use pileway::store::{Claim, Held, Partition, Store, document};

use crate::common::Chance;
use crate::common::eventually;
use crate::common::redis::Redis;
use crate::recorder::{Call, Recorder};

const PILES: u64 = 3;
const NODES: u64 = 3;
/// How far back a write may be sent again: a connection's worth.
const SENT_AGAIN: usize = 6;
/// Until a caller asks for something new.
const TRIES: u64 = 4;
const DUMP: &str = "dump.rdb";

pub struct World {
    pub redis: Redis,
    pub chance: Chance,
    pub store: Arc<Recorder>,
    pub ledger: Ledger,
    pub now: WallMs,
    pub nodes: Vec<Node>,
    pub piles: Vec<Device>,
    /// On their way: pile, newer session, run that is to hear of it.
    pub evictions: Vec<(PileCode, Fence, u64)>,
    /// Nobody will tell these sessions that they are over: silence will.
    pub silenced: Vec<(PileCode, Fence, u64)>,
    /// The newest claim of each pile since the store was last set back.
    pub owners: BTreeMap<PileCode, Fence>,
    pub snapshot: Option<Vec<u8>>,
    pub runs: u64,
    pub seen: Seen,
}

/// One run of one node.
pub struct Node {
    pub incarnation: u64,
    pub counter: u64,
    pub frozen: bool,
    /// The store was set back, and it has not noticed yet.
    pub behind: bool,
    pub sessions: BTreeMap<PileCode, Session>,
    /// Closed sessions whose piles have not come back to this node.
    pub absent: BTreeMap<PileCode, Session>,
    /// Fsynced; survives the run.
    pub journal: Vec<(Record, Option<Order>)>,
}

pub struct Session {
    pub fence: Fence,
    pub batches: u64,
    pub orders: BTreeMap<Serial, (Order, Option<u64>)>,
}

/// A pile, which knows what really happened.
pub struct Device {
    pub code: PileCode,
    /// Where it is logged in.
    pub current: Option<SessionId>,
    /// What 0x34 it has heard, by request.
    pub started: BTreeMap<RequestId, Vec<Serial>>,
    pub unbilled: Vec<Serial>,
    pub bills: Vec<(Record, bool)>,
    /// Requests the store was set back behind, and the node that knew of them died before it had put them again, or had let
    /// go of the pile before: nobody knows of them any more, and a caller who asks again may start again. It takes both
    /// losses at once.
    pub forgotten: BTreeSet<RequestId>,
}

/// How often what happened.
#[derive(Default, Debug)]
pub struct Seen(BTreeMap<&'static str, u64>);

impl Seen {
    pub fn one(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    pub fn assert_everything_happened(&self) {
        for what in [
            "login",
            "start",
            "start joined",
            "bill",
            "fenced",
            "evicted",
            "released",
            "swept",
            "frozen",
            "superseded",
            "remembered",
            "doubted",
            "adopted",
            "crash",
            "set back",
            "claim sent again",
            "commit sent again",
            "release sent again",
            "settle sent again",
        ] {
            assert!(self.0.contains_key(what), "never happened: {what} ({self:?})");
        }
    }
}

impl World {
    pub async fn new(redis: Redis, chance: Chance) -> Self {
        let store = redis::Redis::open(redis::Config::new(redis.url())).await.expect("an address of redis");
        let store = Arc::new(Recorder::new(Arc::new(store)));
        let ledger = Ledger::new(store.clone());
        let mut world = Self {
            redis,
            chance,
            store,
            ledger,
            now: WallMs(1_760_000_000_000),
            nodes: vec![],
            piles: (1..=PILES).map(Device::new).collect(),
            evictions: vec![],
            silenced: vec![],
            owners: BTreeMap::new(),
            snapshot: None,
            runs: 0,
            seen: Seen::default(),
        };
        for _ in 0..NODES {
            let node = world.new_run(vec![]);
            world.nodes.push(node);
        }
        world
    }

    pub async fn step(&mut self) {
        self.now = self.now.plus_ms(self.chance.below(2000));
        let (pile, node) = (self.chance.below(PILES) as usize, self.chance.below(NODES) as usize);
        match self.chance.below(100) {
            0..20 => self.login(pile, node).await,
            20..36 => self.start(pile, node).await,
            36..48 => self.bill(pile).await,
            48..62 => self.meter(pile, node).await,
            62..74 => self.evict().await,
            74..77 => self.hang_up(pile).await,
            77..81 => self.release(node).await,
            81..85 => self.sweep(pile).await,
            85..88 => self.freeze(node).await,
            88 => self.crash(node).await,
            89 => self.take_snapshot(),
            90 => self.set_back().await,
            91..93 => self.notice(node).await,
            93..95 => self.lose_a_start(pile, node).await,
            _ => self.send_again().await,
        }
    }

    /// Everybody is well, and what is on its way arrives.
    pub async fn come_to_rest(&mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].frozen {
                self.freeze(node).await;
            }
            self.notice(node).await;
        }
        while !self.evictions.is_empty() {
            self.evict().await;
        }
        for pile in 0..self.piles.len() {
            while self.piles[pile].current.is_none() {
                self.login(pile, 0).await;
            }
            while !self.evictions.is_empty() {
                self.evict().await;
            }
            while !self.piles[pile].unbilled.is_empty() || self.piles[pile].bills.iter().any(|(_, acked)| !acked) {
                self.bill(pile).await;
            }
        }
        for (pile, by, run) in std::mem::take(&mut self.silenced) {
            if let Some(node) = self.nodes.iter().position(|node| node.incarnation == run)
                && self.nodes[node].sessions.get(&pile).is_some_and(|there| there.fence.epoch < by.epoch)
            {
                self.over(node, pile, "silent").await;
            }
        }
    }

    pub async fn check(&self) {
        for device in &self.piles {
            let owner = self.ledger.owner(device.code).await.expect("reads");
            let holders = self.nodes.iter().filter_map(|n| n.sessions.get(&device.code));
            let holders: Vec<_> = holders.map(|session| session.fence).collect();
            assert_eq!(holders, owner.iter().copied().collect::<Vec<_>>(), "one owner of {:?}", device.code);
            assert_eq!(device.current, owner.map(|owner| owner.session));
            for (request, serials) in &device.started {
                assert!(serials.len() <= 1, "{request:?} of {} started {serials:?}", device.code);
                if !device.forgotten.contains(request) {
                    let attempt = self.ledger.start_attempt(device.code, *request).await.expect("reads");
                    let stored: Vec<_> = attempt.iter().map(|attempt| attempt.serial).collect();
                    assert_eq!(stored, *serials, "{request:?} of {} would start again", device.code);
                }
            }
            let settled = self.settlements(device.code).await;
            for (record, acked) in &device.bills {
                assert!(acked);
                let order = self.ledger.order(device.code, record.serial).await.expect("reads").expect("an order").0;
                assert_eq!(order.state, OrderState::Settled, "{}", record.serial);
                let stored = self.ledger.record(device.code, record.serial).await.expect("reads");
                assert_eq!(stored.as_ref(), Some(record));
                assert_eq!(settled.get(&record.serial), Some(&1), "settled once: {}", record.serial);
            }
        }
    }

    /// How often the log tells of each settlement; and no number of an event is given twice.
    async fn settlements(&self, pile: PileCode) -> BTreeMap<Serial, u32> {
        let at = Partition::of(pile, self.store.partitions());
        let (mut after, mut settled, mut numbers) = (0, BTreeMap::new(), BTreeSet::new());
        loop {
            let entries = self.store.read_log(at, after, 256).await.expect("reads");
            let Some(last) = entries.last() else { return settled };
            after = last.offset;
            for entry in entries.iter().filter(|entry| entry.pile == pile) {
                assert!(numbers.insert((entry.epoch, entry.seq)), "({:?}, {}) twice", entry.epoch, entry.seq);
                let event = document::read_event("a test", &entry.payload).expect("readable");
                if let EventKind::Order { order, change: Change::Settled } = event.kind {
                    *settled.entry(order.serial).or_default() += 1;
                }
            }
        }
    }

    fn take_snapshot(&mut self) {
        let () = self.redis.cli(&["SAVE"]);
        self.snapshot = Some(std::fs::read(self.redis.data_dir().join(DUMP)).expect("a snapshot"));
    }

    /// A fail-over to a copy that was behind: writes that were acknowledged are gone.
    async fn set_back(&mut self) {
        let Some(snapshot) = self.snapshot.take() else { return };
        let before = self.store.lineage().await.expect("reads");
        self.redis.kill();
        std::fs::write(self.redis.data_dir().join(DUMP), snapshot).expect("writes");
        self.redis.restart();
        eventually("the store to be back", || async { self.store.lineage().await.ok() }).await;
        assert_ne!(self.store.lineage().await.expect("reads"), before, "nodes can notice");
        self.seen.one("set back");
        self.owners.clear();
        self.store.forget();
        for device in &mut self.piles {
            // An order that was found by its serial does not know what started it.
            let known = |serial: &Serial| {
                let asked = |order: &Order| order.serial == *serial && order.request.is_some();
                self.nodes.iter().any(|node| {
                    let there = [node.sessions.get(&device.code), node.absent.get(&device.code)];
                    let mut there = there.into_iter().flatten().flat_map(|there| there.orders.values());
                    there.any(|(order, _)| asked(order))
                        || node.journal.iter().any(|(_, order)| order.as_ref().is_some_and(asked))
                })
            };
            let lost = device.started.iter().filter(|(_, serials)| !serials.iter().all(known));
            let lost: Vec<_> = lost.map(|(request, _)| *request).collect();
            device.forgotten.extend(lost);
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].behind = true;
            if self.chance.below(4) == 0 {
                self.notice(node).await;
            }
        }
    }

    /// The store is set back behind a start, and the pile goes on, or logs in again, before everybody has noticed.
    async fn lose_a_start(&mut self, pile: usize, node: usize) {
        let Some(there) = self.node_of(pile) else { return };
        self.bill(pile).await;
        self.take_snapshot();
        for _ in 0..TRIES {
            self.start(pile, there).await;
        }
        self.set_back().await;
        let node = if self.chance.below(3) == 0 {
            there
        } else {
            self.login(pile, node).await;
            node
        };
        // What it says of an order may be the first the store hears of it.
        for _ in 0..self.chance.below(4) {
            self.meter(pile, node).await;
        }
    }

    async fn send_again(&mut self) {
        let latest = self.store.latest(SENT_AGAIN);
        let Some(call) = latest.get(self.chance.below(latest.len().max(1) as u64) as usize) else { return };
        self.seen.one(match call {
            Call::Commit(..) => "commit sent again",
            Call::Claim(_) => "claim sent again",
            Call::Release(..) => "release sent again",
            Call::Settle(_) => "settle sent again",
        });
        let before = self.owners_stored().await;
        // Nobody says that it is still there for a second after it has gone for forty.
        if let Call::Claim(Claim { pile, held: Held::Fence { .. }, .. }) = call
            && !self.owners.contains_key(pile)
        {
            return;
        }
        self.store.send_again(call.clone()).await;
        assert_eq!(self.owners_stored().await, before, "{call:?} sent again changed an owner");
    }

    async fn owners_stored(&self) -> Vec<Option<Fence>> {
        let mut owners = vec![];
        for device in &self.piles {
            owners.push(self.ledger.owner(device.code).await.expect("reads"));
        }
        owners
    }

    /// A fenced write went through: its author is the newest claimer.
    pub fn wrote(&self, pile: PileCode, fence: Fence) {
        assert_eq!(*self.owners.get(&pile).unwrap_or(&fence), fence, "a stale session of {pile} wrote");
    }

    /// Its session is over, because somebody newer has the pile or the store says so. What it knows of starts it leaves behind:
    /// no loss of writes excuses that one of them is started again.
    pub async fn over(&mut self, node: usize, pile: PileCode, why: &'static str) {
        self.seen.one(why);
        let Some(session) = self.nodes[node].sessions.remove(&pile) else { return };
        let fence = session.fence;
        self.left_behind(session).await;
        for device in self.piles.iter_mut().filter(|device| device.code == pile) {
            // It closes the socket. If the pile was there, it has to log in again.
            device.current = device.current.filter(|current| *current != fence.session);
        }
    }

    pub async fn left_behind(&mut self, mut session: Session) {
        self.leaves_behind(&mut session).await;
    }

    pub async fn leaves_behind(&mut self, session: &mut Session) {
        if session.leave_all_behind(&self.ledger).await {
            self.seen.one("remembered");
        }
    }

    /// Its node is dead. Orders the store was set back behind, and that only this session still knew, are known to nobody from
    /// now on: that takes a loss of writes, and that the node dies before it has put them again.
    pub async fn forget_what_only_it_knew(&mut self, pile: PileCode, session: &Session) {
        for request in session.orders.values().filter_map(|(order, _)| order.request) {
            if self.ledger.start_attempt(pile, request.id).await.expect("reads").is_none() {
                for device in self.piles.iter_mut().filter(|device| device.code == pile) {
                    device.forgotten.insert(request.id);
                }
            }
        }
    }

    pub fn node_of(&self, pile: usize) -> Option<usize> {
        let session = self.piles[pile].current?;
        self.nodes.iter().position(|node| node.incarnation == session.incarnation)
    }

    pub fn new_run(&mut self, journal: Vec<(Record, Option<Order>)>) -> Node {
        self.runs += 1;
        let (sessions, absent) = (BTreeMap::new(), BTreeMap::new());
        Node { incarnation: self.runs, counter: 0, frozen: false, behind: false, sessions, absent, journal }
    }
}

impl Device {
    fn new(n: u64) -> Self {
        let code = format!("{n:014}").parse().expect("14 digits");
        Self {
            code,
            current: None,
            started: BTreeMap::new(),
            unbilled: vec![],
            bills: vec![],
            forgotten: BTreeSet::new(),
        }
    }
}
