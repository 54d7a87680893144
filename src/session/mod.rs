//! A pile's life on a socket.
//!
//! ```text
//!   socket ──▶ connection (codec, liveness, one task) ──Input──▶ Session::apply (pure) ──Output──▶ socket, ledger, hub, callers
//!                 ▲ mailbox (bounded)                                 │ one job at a time per pile goes to the ledger
//!   Sessions::execute ─┘                                              ▼ its result comes back as an Input
//!
//!   a pile's session:  CLAIMING ──claimed──▶ LIVE ──newer login | connection gone | told to──▶ ENDED
//!                         │                  ▲  │  ▲
//!             the store is away              │ 40 s silent, any valid frame
//!                         ▼                  │  ▼  │
//!                     PROVISIONAL ──claimed──┘  LOST
//! ```
//!
//! While the store is away sessions go on, and piles may log in: such a session is *provisional*. It serves what needs
//! no owner, judges nothing and starts nothing; of two of them, on whatever nodes, the one that heard the pile later
//! goes on.
//!
//! [`state`] decides and has no socket, clock, channel or await; [`connection`] performs; [`listen`] accepts;
//! [`translate`] is the one place where wire and domain meet; [`Sessions`] is how the rest of pileway finds a pile.

mod config;
mod neighbours;
pub mod authority;
pub mod admission;
mod node;
mod fleet;
mod connection;
mod mailbox;
mod io;
mod state;
mod commands;
mod charge;
mod bms;
mod writing;
mod telling;
mod remember;
mod held;
mod vehicles;
mod asks;
mod curves;
mod device;
mod jobs;
mod pending;
mod translate;
mod absent;
mod departed;
pub mod listen;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::domain::units::UtcOffset;
use crate::domain::{Command, CommandError, Fence, PileCode, Reply, SessionId, Tariff, WallMs};
use crate::observe;

use io::{Patience, Reassertion};
use mailbox::{Mailbox, NotTaken};

pub use config::{Config, Drain, LateStart};
pub use departed::{Departed, Watch};
pub use fleet::Reasserted;
pub use io::EndReason;
pub use neighbours::{Evicted, Eviction, Neighbours, Nobody, Whom};
pub use node::Node;

/// What a session must know of the deployment.
#[derive(Clone, Debug)]
pub struct Policy {
    pub config: Config,
    /// The tariff every pile is given.
    pub tariff: Tariff,
    /// The zone of the piles' clocks.
    pub offset: UtcOffset,
    pub asking: authority::Asking,
    /// How long chunks of charging curves are kept.
    pub curves_kept: Duration,
    /// `None`: every pile may log in.
    pub admitting: Option<admission::Admitting>,
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
    /// When this node was last seen to run, and how often it stood still before: milliseconds of its monotonic clock.
    beat: AtomicU64,
    standstills: AtomicU64,
    /// The same for callers: `None` before the first beat.
    pulse: Mutex<Option<Pulse>>,
    /// Pile codes that were told to be used twice, and when. Bounded.
    duplicates: Mutex<HashMap<PileCode, Duration>>,
    /// The same of piles that were refused.
    refused: Mutex<HashMap<PileCode, Duration>>,
}

#[derive(Clone, Copy)]
struct Pulse {
    last: Instant,
    /// Until then what is read from callers may have waited while this node stood still.
    catches_up_until: Option<Instant>,
}

/// The pile's session is another one than was asked for, or there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotHere;

/// How to reach one session. Replaced when the pile logs in again.
#[derive(Clone)]
struct Handle {
    fence: Fence,
    /// The fence is a guess.
    provisional: bool,
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
    /// The same on the node's monotonic clock, in milliseconds since `started`.
    heard: AtomicU64,
    started: Instant,
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
    /// The store could not be asked whether the pile is ours: the fence is a guess.
    pub provisional: bool,
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
        reason: EndReason,
    },
    /// Say to the store again that the pile is here; only the session with this fence is meant.
    Reassert {
        pile: PileCode,
        fence: Fence,
        anew: bool,
        reply: oneshot::Sender<Reassertion>,
    },
    /// The node is going down, and this session's turn has come.
    Drain {
        pile: PileCode,
        fence: Fence,
        patience: Patience,
    },
    /// The node is going down.
    Shutdown,
}

impl Sessions {
    /// `incarnation` names this run of this node.
    pub fn new(incarnation: u64) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self(Arc::new(Table {
            shards,
            incarnation,
            counter: AtomicU64::new(0),
            suspended: AtomicBool::new(false),
            beat: AtomicU64::new(0),
            standstills: AtomicU64::new(0),
            pulse: Mutex::default(),
            duplicates: Mutex::default(),
            refused: Mutex::default(),
        }))
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
        if self.0.suspended.load(Ordering::Acquire) || self.catches_up() {
            return Err(CommandError::SessionLost { written: false });
        }
        let (reply, answer) = oneshot::channel();
        let letter = Letter::Command { pile, command, deadline, reply };
        match handle.link.mailbox.put(Box::new(letter), handle.link.capacity) {
            Ok(()) => {}
            Err(NotTaken::Full) => {
                return Err(CommandError::PileBusy {
                    why: "its mailbox is full".into(),
                    retry_after: Some(BUSY_RETRY),
                });
            }
            Err(NotTaken::Closed) => return Err(CommandError::PileOffline { last_seen: None }),
        }
        // The session answers at the deadline by itself. One that is stuck in a write cannot, and then nobody knows. If this
        // goes off late, so has the session's own timer: then it is the node that was late, and the session's turn comes yet.
        let mut until = deadline + STUCK;
        let mut answer = answer;
        loop {
            match tokio::time::timeout_at(until, &mut answer).await {
                Ok(Ok(result)) => return result,
                Ok(Err(_closed)) => return Err(CommandError::SessionLost { written: true }),
                Err(_elapsed) if until == deadline + STUCK && until.elapsed() >= LATE => until = Instant::now() + STUCK,
                Err(_elapsed) => return Err(CommandError::OutcomeUnknown { serial: None }),
            }
        }
    }

    pub fn live(&self, pile: PileCode) -> Option<LiveSession> {
        self.shard(pile).get(&pile).map(|handle| handle.link.seen_with(handle))
    }

    /// How many piles are logged in.
    pub fn count(&self) -> usize {
        self.0.shards.iter().map(|shard| lock(shard).len()).sum()
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
    fn new(address: SocketAddr, capacity: usize, started: Instant, now: Now) -> Self {
        Self {
            mailbox: Mailbox::new(),
            capacity,
            address,
            connected_at: now.wall,
            last_seen: AtomicI64::new(now.wall.0),
            heard: AtomicU64::new(now.mono.as_millis() as u64),
            started,
            frames: AtomicU64::new(0),
            swapped_crc_frames: AtomicU64::new(0),
            refused_frames: AtomicU64::new(0),
        }
    }

    /// A valid frame has come.
    fn hears(&self, now: Now) {
        self.last_seen.store(now.wall.0, Ordering::Relaxed);
        self.heard.store(now.mono.as_millis() as u64, Ordering::Relaxed);
        self.frames.fetch_add(1, Ordering::Relaxed);
    }

    fn heard_ms_ago(&self) -> u64 {
        (self.started.elapsed().as_millis() as u64).saturating_sub(self.heard.load(Ordering::Relaxed))
    }

    fn seen_with(&self, handle: &Handle) -> LiveSession {
        LiveSession {
            fence: handle.fence,
            provisional: handle.provisional,
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
/// A timer is exact to a millisecond. One that goes off so much later had to wait for its node.
const LATE: Duration = Duration::from_millis(5);
