//! One task per pile: the socket and the clock around [`Pile`].
//!
//! A pile that has nothing to say costs its task, a socket and its state: buffers live only while there is something in
//! them, so that one process can hold tens of thousands.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::codec::Decoder;

use super::clock::Now;
use super::config::PileConfig;
use super::notes::Notes;
use super::pile::{Action, Input, Output, Pile};
use super::stats::{Count, Stats, Trouble};
use super::view::View;
use crate::domain::{PileCode, WallMs};
use crate::wire::Codec;

/// A running pile. It ends when the handle is dropped.
#[derive(Debug)]
pub struct Handle {
    code: PileCode,
    actions: mpsc::Sender<Action>,
    view: watch::Receiver<View>,
    stats: Arc<Stats>,
    notes: Arc<Mutex<Notes>>,
    task: JoinHandle<()>,
}

/// Starts a pile that connects to the addresses (`HOST:PORT`) in turn, and counts for itself.
pub fn spawn(config: PileConfig, addresses: Vec<String>) -> Handle {
    let stats = Arc::new(Stats::new(addresses.len()));
    spawn_counting(config, addresses.into(), 0, stats)
}

/// Starts a pile that counts together with others, and begins with the address number `first`.
pub(super) fn spawn_counting(config: PileConfig, addresses: Arc<[String]>, first: usize, stats: Arc<Stats>) -> Handle {
    // One person at the pile does one thing at a time.
    let (actions, inbox) = mpsc::channel(4);
    let clock = HostClock::start();
    let (code, room) = (config.code, config.notes);
    let notes = Arc::default();
    let pile = Pile::new(config, clock.now());
    let (publish, view) = watch::channel(pile.view());
    let actor = Actor {
        pile,
        clock,
        inbox,
        publish,
        stats: stats.clone(),
        notes: Arc::clone(&notes),
        room,
        place: first % addresses.len().max(1),
        next_address: first,
        addresses,
        awaiting: 0,
        link: None,
        forgotten: VecDeque::new(),
        out: Vec::new(),
    };
    Handle { code, actions, view, stats, notes, task: tokio::spawn(actor.run()) }
}

impl Handle {
    /// The pile's name.
    pub fn code(&self) -> PileCode {
        self.code
    }

    /// Does something at the pile. Waits while it connects; ends when the pile has taken note, not when it has acted.
    pub async fn act(&self, action: Action) {
        // A pile that has ended has nobody in front of it.
        let _ = self.actions.send(action).await;
    }

    /// Closes the pile's connections, and keeps it away until [`resume`](Self::resume). Ends when they are closed.
    pub async fn hold(&self) {
        self.act(Action::Hold).await;
        // A pile that has ended is away as well.
        let _ = self.wait_for(|view| view.held).await;
    }

    /// Lets a held pile connect again.
    pub async fn resume(&self) {
        self.act(Action::Resume).await;
    }

    /// Makes the pile forget its connection without closing it, and log in anew at the next address.
    pub async fn half_open(&self) {
        self.act(Action::HalfOpen).await;
    }

    /// A copy of what the pile remembers; empty unless [`PileConfig::notes`] says how much.
    pub fn notes(&self) -> Notes {
        self.with_notes(Notes::clone)
    }

    /// Looks at what the pile remembers, which waits meanwhile.
    pub fn with_notes<T>(&self, look: impl FnOnce(&Notes) -> T) -> T {
        look(&self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the pile shows now.
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Waits until the pile shows what `wanted` looks for, and returns it; `None` if the pile ends before. Set a time-out.
    pub async fn wait_for(&self, wanted: impl FnMut(&View) -> bool) -> Option<View> {
        self.view.clone().wait_for(wanted).await.ok().map(|view| view.clone())
    }

    /// What it has counted; shared if it was spawned so.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Ends the pile and closes its connection.
    pub async fn stop(mut self) {
        self.task.abort();
        // Aborted is what was asked for.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Actor {
    pile: Pile,
    clock: HostClock,
    inbox: mpsc::Receiver<Action>,
    publish: watch::Sender<View>,
    stats: Arc<Stats>,
    notes: Arc<Mutex<Notes>>,
    /// Notes of each kind; 0: none are taken.
    room: usize,
    addresses: Arc<[String]>,
    next_address: usize,
    /// The address of the last attempt; what is counted is counted there.
    place: usize,
    /// Unacknowledged records that `stats` has at that address.
    awaiting: usize,
    link: Option<Link>,
    /// Half-open ones: nobody reads them, nobody writes to them.
    forgotten: VecDeque<TcpStream>,
    out: Vec<Output>,
}

struct Link {
    stream: TcpStream,
    codec: Codec,
    buffer: BytesMut,
}

/// What `select!` names; `take` acts on it.
enum Woken {
    Readable,
    Act(Action),
    Timer,
    Abandoned,
}

impl Actor {
    async fn run(mut self) {
        loop {
            let deadline = self.pile.deadline().map(|at| self.clock.instant(at));
            let woken = tokio::select! {
                () = readable(self.link.as_ref()) => Woken::Readable,
                action = self.inbox.recv() => action.map_or(Woken::Abandoned, Woken::Act),
                () = sleep(deadline) => Woken::Timer,
            };
            match woken {
                Woken::Readable => self.read(),
                Woken::Act(action) => self.apply(Input::Act(action)),
                Woken::Timer => self.apply(Input::Timer),
                Woken::Abandoned => return,
            }
            // What is done may cause more to do.
            while !self.out.is_empty() {
                self.perform().await;
            }
            self.show();
        }
    }

    fn apply(&mut self, input: Input) {
        self.pile.apply(self.clock.now(), input, &mut self.out);
    }

    /// Takes every frame that is there.
    fn read(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        let end = loop {
            link.buffer.reserve(READ);
            match link.stream.try_read_buf(&mut link.buffer) {
                Ok(0) => break Some(Trouble::ClosedByPlatform),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break None,
                Err(_) => break Some(Trouble::ConnectionBroken),
            }
            loop {
                match link.codec.decode(&mut link.buffer) {
                    Ok(Some(Ok(packet))) => self.apply(Input::Frame(packet)),
                    Ok(Some(Err(_refused))) => self.stats.refused(self.place),
                    // The codec has no errors of its own.
                    Ok(None) | Err(_) => break,
                }
            }
        };
        if let Some(trouble) = end {
            self.count(Count::Trouble(trouble));
            // What the pile wanted to say has nobody to hear it.
            self.out.retain(|output| matches!(output, Output::Count(_)));
            return self.apply(Input::Closed);
        }
        if link.buffer.is_empty() {
            link.buffer = BytesMut::new();
        }
        self.link = Some(link);
    }

    /// Does what the pile wants done; all frames in one write.
    async fn perform(&mut self) {
        let mut frames = BytesMut::new();
        let mut number = 0;
        let mut connect = false;
        for output in std::mem::take(&mut self.out) {
            match output {
                Output::Send(outgoing) => {
                    // Bodies are made from rows, which fit a frame.
                    number += u64::from(outgoing.write(&mut frames).is_ok());
                }
                Output::Count(count) => self.count(count),
                Output::Connect => connect = true,
                Output::Close => {
                    self.write(&mut frames, &mut number).await;
                    self.link = None;
                }
                Output::Forget => {
                    self.write(&mut frames, &mut number).await;
                    self.forget();
                }
                Output::CloseForgotten => self.forgotten.clear(),
            }
        }
        self.write(&mut frames, &mut number).await;
        if connect {
            self.connect().await;
        }
    }

    async fn write(&mut self, frames: &mut BytesMut, number: &mut u64) {
        let Some(link) = self.link.as_mut().filter(|_| !frames.is_empty()) else { return };
        let trouble = match timeout(PATIENCE, link.stream.write_all(frames)).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some(Trouble::ConnectionBroken),
            Err(_) => Some(Trouble::WriteTimedOut),
        };
        frames.clear();
        match trouble {
            None => self.stats.sent(self.place, *number),
            Some(trouble) => {
                self.count(Count::Trouble(trouble));
                self.link = None;
                self.apply(Input::Closed);
            }
        }
        *number = 0;
    }

    async fn connect(&mut self) {
        let place = self.next_address % self.addresses.len().max(1);
        let Some(address) = self.addresses.get(place) else { return };
        self.next_address = place + 1;
        if place != self.place {
            self.stats.leave(self.place, self.awaiting);
            self.stats.await_at(place, self.awaiting);
            self.place = place;
        }
        let trouble = match timeout(PATIENCE, TcpStream::connect(address.as_str())).await {
            Ok(Ok(stream)) => {
                // Frames are small and answers are waited for. Where it cannot be set, all works the same, later.
                let _ = stream.set_nodelay(true);
                self.link = Some(Link { stream, codec: Codec::new(), buffer: BytesMut::new() });
                return self.apply(Input::Connected);
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Trouble::ConnectionRefused,
            Ok(Err(error)) if matches!(error.raw_os_error(), Some(ENFILE | EMFILE)) => Trouble::OutOfDescriptors,
            Ok(Err(_)) => Trouble::ConnectFailed,
            Err(_) => Trouble::ConnectTimedOut,
        };
        self.count(Count::Trouble(trouble));
        self.apply(Input::ConnectFailed);
    }

    /// Leaves the connection to itself. A pile has few ports for this: the oldest is closed.
    fn forget(&mut self) {
        if self.forgotten.len() == HALF_OPEN {
            self.forgotten.pop_front();
        }
        self.forgotten.extend(self.link.take().map(|link| link.stream));
    }

    fn count(&self, count: Count) {
        self.stats.count(self.place, count);
        if self.room > 0 {
            let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            notes.take(self.room, Instant::now(), count);
        }
    }

    fn show(&mut self) {
        let awaiting = self.pile.unacked();
        if awaiting != self.awaiting {
            // Added before it is taken away: the gauge never goes below 0.
            self.stats.await_at(self.place, awaiting);
            self.stats.leave(self.place, self.awaiting);
            self.awaiting = awaiting;
        }
        let view = self.pile.view();
        self.publish.send_if_modified(|shown| {
            let changed = *shown != view;
            if changed {
                *shown = view;
            }
            changed
        });
    }
}

async fn readable(link: Option<&Link>) {
    match link {
        // An error is found by the read that follows.
        Some(link) => drop(link.stream.readable().await),
        None => pending().await,
    }
}

async fn sleep(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// The host's clocks, as [`Now`].
struct HostClock {
    start: Instant,
    wall: i64,
}

impl HostClock {
    fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), wall: i64::try_from(since_epoch.as_millis()).unwrap_or(0) }
    }

    fn now(&self) -> Now {
        let mono = self.start.elapsed();
        Now { mono, wall: WallMs(self.wall).plus_ms(mono.as_millis() as u64) }
    }

    fn instant(&self, mono: Duration) -> Instant {
        self.start + mono
    }
}

/// Room for what a platform usually sends at once.
const READ: usize = 512;

/// Too many open files, in the system and in the process: the same numbers on every Unix, and no `io::ErrorKind`.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// Connections of one pile left half-open at a time.
const HALF_OPEN: usize = 4;

/// For a connect, and for a write to a platform that does not read.
const PATIENCE: Duration = Duration::from_secs(10);
