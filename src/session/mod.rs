//! A pile's life on a socket.
//!
//! ```text
//!   socket ──▶ connection (codec, liveness, one task) ──Input──▶ Session::apply (pure) ──Output──▶ socket, ledger, hub, callers
//!                 ▲ mailbox (bounded)                                 │ one job at a time per pile goes to the ledger
//!   Sessions::execute ─┘                                              ▼ its result comes back as an Input
//!
//!   a pile's session:  CLAIMING ──claimed──▶ LIVE ──newer login | connection gone | told to──▶ ENDED
//!                                            │  ▲
//!                                    40 s silent, any valid frame
//!                                            ▼  │
//!                                            LOST
//! ```
//!
//! [`state`] decides and has no socket, clock, channel or await; [`connection`] performs; [`listen`] accepts;
//! [`translate`] is the one place where wire and domain meet; [`Sessions`] is how the rest of pileway finds a pile.

mod neighbours;
mod node;
mod connection;
mod mailbox;
mod io;
mod state;
mod commands;
mod charge;
mod writing;
mod held;
mod jobs;
mod pending;
mod translate;
mod departed;
pub mod listen;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::domain::units::UtcOffset;
use crate::domain::{Command, CommandError, Fence, PileCode, Reply, SessionId, Tariff, WallMs};
use crate::observe;
use crate::settings::{Problem, duration};

use mailbox::{Mailbox, NotTaken};

pub use departed::{Departed, Watch};
pub use io::EndReason;
pub use neighbours::{Evicted, Eviction, Neighbours, Nobody, Reasserted, Whom};
pub use node::Node;

/// Timers and bounds of connections and sessions.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Config {
    /// How long a new connection may take to log in; 1s to 10m.
    #[serde(with = "duration")]
    pub login_timeout: Duration,
    /// Without a valid frame for so long a pile is reported offline; 5s to 1h.
    #[serde(with = "duration")]
    pub lost_after: Duration,
    /// Without a valid frame for so long the connection is closed; more than `lost_after`, at most 2h.
    #[serde(with = "duration")]
    pub close_after: Duration,
    /// How long a frame that was begun may stay incomplete; 1s to 10m.
    #[serde(with = "duration")]
    pub partial_frame: Duration,
    /// How long a write to the socket may take; 1s to 10m.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    /// Piles that may share one connection behind a concentrator; 1 to 1024.
    pub per_connection: usize,
    /// Commands that may wait for one connection; 1 to 1024. One more is PILE_BUSY.
    pub mailbox: usize,
    /// Connections held at once, logged in or not; 1 to 1,000,000.
    pub max_connections: usize,
    /// Piles whose fault word counts from Bit0 instead of Bit1: pile codes, or first digits of them.
    pub faults_from_bit0: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            login_timeout: Duration::from_secs(10),
            lost_after: Duration::from_secs(40),
            close_after: Duration::from_secs(75),
            partial_frame: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            per_connection: 64,
            mailbox: 16,
            max_connections: 100_000,
            faults_from_bit0: vec![],
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
        let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        for (key, value) in [
            ("login_timeout", self.login_timeout),
            ("partial_frame", self.partial_frame),
            ("write_timeout", self.write_timeout),
        ] {
            check((second..=10 * minute).contains(&value), key, format!("{value:?}"), "must be 1s to 10m");
        }
        let lost = (5 * second..=60 * minute).contains(&self.lost_after);
        check(lost, "lost_after", format!("{:?}", self.lost_after), "must be 5s to 1h");
        let close = self.close_after > self.lost_after && self.close_after <= 120 * minute;
        let reason = "must be more than lost_after, at most 2h";
        check(close, "close_after", format!("{:?}", self.close_after), reason);
        let piles = (1..=1024).contains(&self.per_connection);
        check(piles, "per_connection", self.per_connection.to_string(), "must be 1 to 1024");
        check((1..=1024).contains(&self.mailbox), "mailbox", self.mailbox.to_string(), "must be 1 to 1024");
        let connections = (1..=1_000_000).contains(&self.max_connections);
        check(connections, "max_connections", self.max_connections.to_string(), "must be 1 to 1000000");
        for prefix in &self.faults_from_bit0 {
            let digits = !prefix.is_empty() && prefix.len() <= 14 && prefix.bytes().all(|b| b.is_ascii_digit());
            check(digits, "faults_from_bit0", prefix.clone(), "must be a pile code or the first digits of one");
        }
        found
    }
}

/// What a session must know of the deployment.
#[derive(Clone, Debug)]
pub struct Policy {
    pub config: Config,
    /// The tariff every pile is given.
    pub tariff: Tariff,
    /// The zone of the piles' clocks.
    pub offset: UtcOffset,
}

/// Monotonic and wall time, read once per input. `mono` counts from the start of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub mono: Duration,
    pub wall: WallMs,
}

/// Every live session of this node, by pile. Cheap to clone; all clones are one table.
#[derive(Clone)]
pub struct Sessions(Arc<Table>);

struct Table {
    /// Sharded by the last byte of the pile code.
    shards: [Mutex<HashMap<PileCode, Handle>>; SHARDS],
    incarnation: u64,
    counter: AtomicU64,
    /// Whether these sessions are still ours is not known.
    suspended: AtomicBool,
}

/// The pile's session is another one than was asked for, or there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotHere;

/// How to reach one session. Replaced when the pile logs in again.
#[derive(Clone)]
struct Handle {
    fence: Fence,
    link: Arc<Link>,
}

/// A connection as others see it: its mailbox, and what it tells about itself without being asked, which its task alone
/// writes.
pub(crate) struct Link {
    mailbox: Mailbox<Mail>,
    /// Commands that may wait in it.
    capacity: usize,
    address: SocketAddr,
    connected_at: WallMs,
    last_seen: AtomicI64,
    frames: AtomicU64,
    swapped_crc_frames: AtomicU64,
    refused_frames: AtomicU64,
}

/// A live session as callers see it.
#[derive(Clone, Copy, Debug)]
pub struct LiveSession {
    pub fence: Fence,
    pub connected_at: WallMs,
    /// The last valid frame on the connection.
    pub last_seen: WallMs,
    pub address: SocketAddr,
    /// Valid frames received on the connection.
    pub frames: u64,
    /// Of these, how many had their CRC high byte first.
    pub swapped_crc_frames: u64,
    pub refused_frames: u64,
}

/// What a connection finds in its mailbox. Boxed, so that a mailbox that was used once stays small.
type Mail = Box<Letter>;

enum Letter {
    Command {
        pile: PileCode,
        command: Command,
        deadline: Instant,
        reply: oneshot::Sender<Result<Reply, CommandError>>,
    },
    /// The pile has logged in elsewhere; only the session with this fence is meant.
    Evict {
        pile: PileCode,
        fence: Fence,
    },
    /// The node is going down.
    Shutdown,
}

impl Sessions {
    /// `incarnation` names this run of this node.
    pub fn new(incarnation: u64) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self(Arc::new(Table { shards, incarnation, counter: AtomicU64::new(0), suspended: AtomicBool::new(false) }))
    }

    /// The name of this run of this node.
    pub fn incarnation(&self) -> u64 {
        self.0.incarnation
    }

    /// Hands `command` to the pile's session and waits for what comes of it, at the latest until `deadline`. A pile
    /// without a session is `PileOffline`; a command is never kept for later.
    pub async fn execute(&self, pile: PileCode, command: Command, deadline: Instant) -> Result<Reply, CommandError> {
        let (name, began) = (command.name(), Instant::now());
        let result = self.hand_over(pile, command, deadline).await;
        observe::command(name, result.as_ref().map_or_else(CommandError::name, |_| "ok"), began.elapsed());
        result
    }

    /// The same for a caller on another node, who means exactly the session `fence`.
    pub async fn execute_as(
        &self,
        pile: PileCode,
        fence: Fence,
        command: Command,
        deadline: Instant,
    ) -> Result<Result<Reply, CommandError>, NotHere> {
        if self.live(pile).is_none_or(|live| live.fence != fence) {
            return Err(NotHere);
        }
        Ok(self.execute(pile, command, deadline).await)
    }

    /// Whether commands are taken. Not after this node stood still for so long that its piles may be elsewhere: until it
    /// has found out, a command could be written to a socket nobody reads.
    pub fn suspend(&self, suspended: bool) {
        self.0.suspended.store(suspended, Ordering::Release);
    }

    async fn hand_over(&self, pile: PileCode, command: Command, deadline: Instant) -> Result<Reply, CommandError> {
        let Some(handle) = self.shard(pile).get(&pile).cloned() else {
            return Err(CommandError::PileOffline { last_seen: None });
        };
        if self.0.suspended.load(Ordering::Acquire) {
            return Err(CommandError::SessionLost { written: false });
        }
        let (reply, answer) = oneshot::channel();
        let letter = Letter::Command { pile, command, deadline, reply };
        match handle.link.mailbox.put(Box::new(letter), handle.link.capacity) {
            Ok(()) => {}
            Err(NotTaken::Full) => {
                return Err(CommandError::PileBusy { why: "its mailbox is full".into(), retry_after: Some(BUSY_RETRY) });
            }
            Err(NotTaken::Closed) => return Err(CommandError::PileOffline { last_seen: None }),
        }
        // The session answers at the deadline by itself. One that is stuck in a write cannot, and then nobody knows.
        match tokio::time::timeout_at(deadline + STUCK, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_closed)) => Err(CommandError::SessionLost { written: true }),
            Err(_elapsed) => Err(CommandError::OutcomeUnknown { serial: None }),
        }
    }

    pub fn live(&self, pile: PileCode) -> Option<LiveSession> {
        self.shard(pile).get(&pile).map(|handle| handle.link.seen_with(handle.fence))
    }

    /// How many piles are logged in.
    pub fn count(&self) -> usize {
        self.0.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Ends every session; each still brings to the store what it has for it.
    fn shut_down(&self) {
        let handles: Vec<_> =
            self.0.shards.iter().flat_map(|s| lock(s).values().cloned().collect::<Vec<_>>()).collect();
        for handle in handles {
            deliver(&handle, Letter::Shutdown);
        }
    }

    /// The pile has logged in elsewhere: ends its session here, if that is an older one.
    pub fn evict(&self, eviction: &Eviction) -> Evicted {
        let Eviction { pile, by, heard_ms_ago: _, whom: _ } = *eviction;
        let older = self.shard(pile).get(&pile).filter(|there| there.fence.epoch < by.epoch).cloned();
        let Some(handle) = older else { return Evicted::NotHere };
        deliver(&handle, Letter::Evict { pile, fence: handle.fence });
        Evicted::Ended
    }

    /// Ends the session `by` of a pile that has been heard more recently elsewhere.
    pub fn end_provisional(&self, pile: PileCode, by: Fence) {
        let there = self.shard(pile).get(&pile).filter(|there| there.fence == by).cloned();
        if let Some(handle) = there {
            deliver(&handle, Letter::Evict { pile, fence: by });
        }
    }

    /// Says again that these piles are here; with `true` under a higher epoch.
    pub async fn reassert(&self, piles: Vec<(PileCode, bool)>) -> Reasserted {
        std::future::ready(Reasserted { kept: piles.len(), ..Reasserted::default() }).await
    }

    /// Ends the sessions, so many per second, until `deadline`.
    pub async fn drain(&self, _rate_per_s: u32, _deadline: Instant) {
        self.shut_down();
        std::future::ready(()).await;
    }

    /// Every pile that is logged in here.
    pub fn piles(&self) -> Vec<PileCode> {
        self.0.shards.iter().flat_map(|shard| lock(shard).keys().copied().collect::<Vec<_>>()).collect()
    }

    /// Whether a session of this run of this node got this fence.
    fn is_own(&self, fence: Fence) -> bool {
        fence.session.incarnation == self.0.incarnation
    }

    fn next_session(&self) -> SessionId {
        let counter = self.0.counter.fetch_add(1, Ordering::Relaxed) + 1;
        SessionId { incarnation: self.0.incarnation, counter }
    }

    /// Makes `handle` the pile's session unless a newer one is there, and tells the one it replaces. False if it came
    /// too late: claims finish in any order, the epoch decides.
    fn register(&self, pile: PileCode, handle: Handle) -> bool {
        let fence = handle.fence;
        let replaced = {
            let mut shard = self.shard(pile);
            match shard.get(&pile) {
                Some(there) if there.fence.epoch > fence.epoch => return false,
                _ => shard.insert(pile, handle),
            }
        };
        if let Some(old) = replaced.filter(|old| old.fence != fence) {
            deliver(&old, Letter::Evict { pile, fence: old.fence });
        }
        true
    }

    /// Takes the session with exactly this fence out of the table. False if it is not there (any more).
    fn unregister(&self, pile: PileCode, fence: Fence) -> bool {
        let mut shard = self.shard(pile);
        let there = shard.get(&pile).is_some_and(|there| there.fence == fence);
        if there {
            shard.remove(&pile);
        }
        there
    }

    fn shard(&self, pile: PileCode) -> MutexGuard<'_, HashMap<PileCode, Handle>> {
        lock(&self.0.shards[pile.bcd()[6] as usize % SHARDS])
    }
}

/// A full mailbox must not keep a session alive that is over: these letters are taken all the same. They are bounded by
/// what they tell: one eviction per login, and shutdowns, repeated a bounded number of times. A connection that is gone
/// needs none.
fn deliver(to: &Handle, letter: Letter) {
    let _ = to.link.mailbox.put(Box::new(letter), usize::MAX);
}

impl Link {
    fn new(address: SocketAddr, capacity: usize, now: WallMs) -> Self {
        Self {
            mailbox: Mailbox::new(),
            capacity,
            address,
            connected_at: now,
            last_seen: AtomicI64::new(now.0),
            frames: AtomicU64::new(0),
            swapped_crc_frames: AtomicU64::new(0),
            refused_frames: AtomicU64::new(0),
        }
    }

    fn seen_with(&self, fence: Fence) -> LiveSession {
        LiveSession {
            fence,
            connected_at: self.connected_at,
            last_seen: WallMs(self.last_seen.load(Ordering::Relaxed)),
            address: self.address,
            frames: self.frames.load(Ordering::Relaxed),
            swapped_crc_frames: self.swapped_crc_frames.load(Ordering::Relaxed),
            refused_frames: self.refused_frames.load(Ordering::Relaxed),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held cannot leave a map half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const SHARDS: usize = 16;
const BUSY_RETRY: Duration = Duration::from_secs(1);
/// How long after its deadline a command's answer is waited for: the session's own timer needs a moment.
const STUCK: Duration = Duration::from_millis(20);
