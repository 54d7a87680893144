//! One TCP connection: its codec, its liveness, and the sessions of the piles logged in on it.
//!
//! The loop is `select → apply → perform`. Only the write to the socket is awaited, and that with a time-out; what a
//! session has for the store is started and comes back as an input, so that a slow store delays neither other piles on
//! this connection nor this pile's heartbeats.

mod perform;

use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{BoxFuture, OptionFuture};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep_until, timeout};
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;

use super::io::{Done, EndReason, Input, Out, Output, Reassertion};
use super::node::Node;
use super::pending::CommandId;
use super::state::Session;
use super::translate::{self, wire_pile};
use super::{Letter, Link, Mail, Now};
use crate::domain::{CommandError, Fence, PileCode, Reply, SessionId};
use crate::observe;
use crate::wire::{self, Codec, CrcOrder, Direction, Frame, Packet, Refused};

/// Runs until the connection is gone and everything its piles had for the store is there, or given up. `shutdown` ends
/// it while no pile of it can be found in the table of sessions; after that, [`Letter::Shutdown`] does.
pub(super) fn run(
    node: Arc<Node>,
    socket: TcpStream,
    address: SocketAddr,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> {
    // Made outside of the future, and lent to what runs within: an async fn holds its arguments twice.
    let mut connection = Connection::new(node, socket, address);
    async move { connection.run(&shutdown).await }
}

struct Connection {
    node: Arc<Node>,
    link: Arc<Link>,
    framed: Framed<TcpStream, Codec>,
    sessions: Vec<Session>,
    /// Bounded: a session has at most one of the ledger at a time, and one of the authority per gun.
    calls: FuturesUnordered<BoxFuture<'static, (SessionId, Done)>>,
    /// Bounded by what the sessions let wait.
    callers: Vec<(CommandId, oneshot::Sender<Result<Reply, CommandError>>)>,
    next_command: u64,
    out: Out,
    opened: Duration,
    last_frame: Duration,
    silent: bool,
    /// The oldest moment at which the frame that is begun now may have begun.
    partial_since: Option<Duration>,
    timer: Pin<Box<Sleep>>,
    /// Until when what waits to be written may be.
    write_by: Option<Duration>,
    /// How often this node had stood still when everything that lay in the socket had been read.
    standstills: u64,
    /// Whoever asked whether a pile is still ours. Bounded by what others ask.
    reassertions: Vec<(SessionId, oneshot::Sender<Reassertion>)>,
    /// Set when the socket is done with: until then what is left for the store may still get there.
    closing: Option<Duration>,
}

/// What the select names; the loop acts.
enum Event {
    Item(Option<Result<Result<Packet, Refused>, std::io::Error>>),
    Done(SessionId, Done),
    Mail(Mail),
    Timer,
}

impl Connection {
    fn new(node: Arc<Node>, socket: TcpStream, address: SocketAddr) -> Self {
        let now = node.now();
        Self {
            link: Arc::new(Link::new(address, node.policy.config.mailbox, node.started, now)),
            framed: Framed::with_capacity(socket, Codec::new(), READ_BUFFER),
            sessions: Vec::new(),
            calls: FuturesUnordered::new(),
            callers: Vec::new(),
            next_command: 0,
            out: Out::default(),
            opened: now.mono,
            last_frame: now.mono,
            silent: false,
            partial_since: None,
            timer: Box::pin(sleep_until(node.started + now.mono)),
            write_by: None,
            standstills: node.sessions.standstills(now.mono),
            reassertions: Vec::new(),
            closing: None,
            node,
        }
    }

    async fn run(&mut self, shutdown: &CancellationToken) {
        loop {
            self.arm();
            let unknown = self.closing.is_none() && self.sessions.iter().all(|session| session.fence().is_none());
            // Every arm is cancel-safe and only names what happened.
            let event = tokio::select! {
                item = self.framed.next(), if self.closing.is_none() => Event::Item(item),
                Some((session, done)) = self.calls.next() => Event::Done(session, done),
                mail = self.link.mailbox.next() => Event::Mail(mail),
                () = &mut self.timer => Event::Timer,
                () = shutdown.cancelled(), if unknown => Event::Mail(Box::new(Letter::Shutdown)),
            };
            let now = self.node.now();
            self.happened(now, event);
            self.read_what_is_there(now);
            self.write().await;
            self.leave_behind(now);
            if self.is_over(now) {
                return;
            }
        }
    }

    fn happened(&mut self, now: Now, event: Event) {
        match event {
            Event::Item(item) => self.item(now, item),
            Event::Done(id, done) => {
                if let Some(at) = self.sessions.iter().position(|s| s.id() == id) {
                    self.apply(now, at, Input::Done(done));
                }
            }
            Event::Mail(letter) => self.letter(now, *letter),
            Event::Timer => self.time_has_come(now),
        }
    }

    /// What has arrived is heard before its absence is judged; and time in which this node stood still – frozen, or
    /// starved – is no silence of the pile.
    fn time_has_come(&mut self, now: Now) {
        let late = (self.node.started + now.mono).saturating_duration_since(self.timer.deadline());
        if late > STOOD_STILL {
            self.last_frame = (self.last_frame + late).min(now.mono);
            self.partial_since = self.partial_since.map(|since| (since + late).min(now.mono));
        }
        if self.read_what_is_there(now) {
            self.tick(now);
        }
    }

    /// Frames that have arrived together are answered together: one flush for all of them. False if there may be more.
    fn read_what_is_there(&mut self, now: Now) -> bool {
        for _ in 0..FRAMES_PER_FLUSH {
            if self.closing.is_some() {
                return true;
            }
            match self.framed.next().now_or_never() {
                Some(item) => self.item(now, item),
                None => return true,
            }
        }
        false
    }

    fn item(&mut self, now: Now, item: Option<Result<Result<Packet, Refused>, std::io::Error>>) {
        match item {
            Some(Ok(Ok(packet))) => {
                self.valid_frame(now);
                self.packet(now, packet);
            }
            Some(Ok(Err(refused))) => {
                if refused.arrived_whole() {
                    self.valid_frame(now);
                }
                tracing::debug!(address = %self.link.address, %refused, "frame refused");
                self.refused(refused.reason());
            }
            Some(Err(error)) => {
                tracing::debug!(address = %self.link.address, %error, "connection failed");
                self.close(now, EndReason::ConnectionClosed);
            }
            None => self.close(now, EndReason::ConnectionClosed),
        }
        self.partial_since = Codec::partial(self.framed.read_buffer()).then_some(now.mono);
    }

    /// Any valid frame is a sign of life of every pile on the connection (A36).
    fn valid_frame(&mut self, now: Now) {
        self.last_frame = now.mono;
        self.link.hears(now);
        if std::mem::take(&mut self.silent) {
            self.apply_to_all(now, || Input::Heard);
        }
    }

    fn refused(&mut self, reason: &'static str) {
        self.link.refused_frames.fetch_add(1, Ordering::Relaxed);
        observe::frame_refused(reason);
    }

    fn packet(&mut self, now: Now, packet: Packet) {
        observe::frame_received(packet.frame.spec().name);
        if packet.crc == CrcOrder::HighFirst {
            observe::swapped_crc();
            let before = self.link.swapped_crc_frames.fetch_add(1, Ordering::Relaxed);
            if before == 0 {
                tracing::info!(address = %self.link.address, "pile sends its crc high byte first");
            }
        }
        let spec = packet.frame.spec();
        if spec.direction == Direction::Down {
            return self.refused("wrong_direction");
        }
        let Some(pile) = packet.frame.pile_code().and_then(translate::pile) else {
            return self.refused("no_pile_code");
        };
        let session = self.sessions.iter().position(|s| s.pile_code() == pile && !s.has_ended());
        match (session, &packet.frame) {
            // Between 0x01 and 0x02 it is not logged in yet; what matters is sent again.
            (Some(at), frame) if self.sessions[at].fence().is_none() && !matches!(frame, Frame::LoginRequest(_)) => {
                self.refused("not_logged_in");
            }
            (Some(at), _) => self.apply(now, at, Input::Frame(Box::new(packet))),
            (None, Frame::LoginRequest(request)) => self.login(now, pile, request, packet.sequence),
            // Nothing else is answered before a login, and only piles that did may speak here.
            (None, _) => self.refused("not_logged_in"),
        }
    }

    fn login(&mut self, now: Now, pile: PileCode, request: &wire::LoginRequest, sequence: wire::Sequence) {
        if self.sessions.len() >= self.node.policy.config.per_connection {
            let result = wire::LoginResult::Rejected;
            let frame = wire::LoginResponse { pile_code: wire_pile(pile), result }.into();
            self.perform(now, Output::Send { sequence, frame, until: None }, None);
            observe::login("rejected");
            tracing::warn!(%pile, address = %self.link.address, "login rejected: too many piles on one connection");
            return;
        }
        let id = self.node.sessions.next_session();
        let address = self.link.address.to_string();
        let policy = self.node.policy.clone();
        let login = (pile, request, sequence);
        let session = Session::login(policy, id, login, address, now, random(), &mut self.out);
        // Nearly every connection has one pile: it need not hold room for four.
        self.sessions.reserve_exact(1);
        self.sessions.push(session);
        self.perform_all(now, self.sessions.len() - 1);
    }

    fn letter(&mut self, now: Now, letter: Letter) {
        match letter {
            Letter::Command { pile, command, deadline, reply } => {
                let Some(at) = self.sessions.iter().position(|s| s.pile_code() == pile && !s.has_ended()) else {
                    // Nobody there to be told: the caller has gone.
                    let _ = reply.send(Err(CommandError::PileOffline { last_seen: None }));
                    return;
                };
                if !self.has_caught_up(now) {
                    let _ = reply.send(Err(CommandError::SessionLost { written: false }));
                    return;
                }
                self.next_command += 1;
                let id = CommandId(self.next_command);
                self.callers.push((id, reply));
                let deadline = deadline.saturating_duration_since(self.node.started);
                self.apply(now, at, Input::Command { id, command, deadline });
            }
            Letter::Evict { pile, fence, reason } => {
                if let Some(at) = self.session(pile, fence) {
                    self.apply(now, at, Input::End(reason));
                }
            }
            Letter::Reassert { pile, fence, anew, reply } => {
                // Otherwise it is dropped, which tells that the session is not here.
                if let Some(at) = self.session(pile, fence) {
                    self.reassertions.push((self.sessions[at].id(), reply));
                    self.apply(now, at, Input::Reassert { anew });
                }
            }
            Letter::Drain { pile, fence, patience } => {
                if let Some(at) = self.session(pile, fence) {
                    self.apply(now, at, Input::Drain(patience));
                }
            }
            Letter::Shutdown => self.close(now, EndReason::Shutdown),
        }
    }

    fn session(&self, pile: PileCode, fence: Fence) -> Option<usize> {
        self.sessions.iter().position(|s| s.pile_code() == pile && s.fence() == Some(fence))
    }

    /// After this node stood still, what lies in the socket is read before anything new is written: it may say that the
    /// pile has gone, or has long been elsewhere. The runtime learns late what has arrived, so the socket itself is asked.
    fn has_caught_up(&mut self, now: Now) -> bool {
        let standstills = self.node.sessions.standstills(now.mono);
        if standstills == self.standstills {
            return true;
        }
        if !self.read_what_is_there(now) || self.closing.is_some() {
            return false;
        }
        let waiting = socket2::SockRef::from(self.framed.get_ref()).peek(&mut [MaybeUninit::uninit()]);
        if waiting.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock) {
            self.standstills = standstills;
        }
        self.standstills == standstills
    }

    fn tick(&mut self, now: Now) {
        let config = &self.node.policy.config;
        let quiet = now.mono.saturating_sub(self.last_frame);
        let partial = self.partial_since.map(|since| now.mono.saturating_sub(since));
        let logged_in = !self.sessions.is_empty();
        if self.closing.is_none() {
            // Frames without a login are no reason to wait longer for it.
            if !logged_in && now.mono.saturating_sub(self.opened) >= config.login_timeout {
                tracing::debug!(address = %self.link.address, "no login in time");
                return self.close(now, EndReason::Silent);
            }
            if quiet >= config.close_after {
                return self.close(now, EndReason::Silent);
            }
            if partial.is_some_and(|since| since >= config.partial_frame) {
                return self.close(now, EndReason::PartialFrame);
            }
            if self.partial_since.is_none() && Codec::partial(self.framed.read_buffer()) {
                self.partial_since = Some(now.mono);
            }
            if quiet >= config.lost_after && !std::mem::replace(&mut self.silent, true) {
                self.apply_to_all(now, || Input::Silent);
            }
        }
        self.apply_to_all(now, || Input::Timer);
    }

    /// Every session ends; nothing is read or written any more.
    fn close(&mut self, now: Now, reason: EndReason) {
        if self.closing.is_none() {
            self.closing = Some(now.mono + LINGER);
            self.hang_up();
            self.apply_to_all(now, || Input::End(reason));
        }
    }

    /// The pile sees the end at once, even while something is left for the store.
    fn hang_up(&self) {
        // It may have hung up itself.
        let _ = socket2::SockRef::from(self.framed.get_ref()).shutdown(Shutdown::Both);
    }

    fn apply_to_all(&mut self, now: Now, input: impl Fn() -> Input) {
        for at in 0..self.sessions.len() {
            self.apply(now, at, input());
        }
    }

    fn apply(&mut self, now: Now, at: usize, input: Input) {
        self.sessions[at].apply(now, input, &mut self.out);
        self.perform_all(now, at);
    }

    async fn write(&mut self) {
        if self.framed.write_buffer().is_empty() {
            return;
        }
        // A command must not leave after its deadline, whatever the pile's window is waiting for.
        let now = self.node.now();
        let left = self.write_by.take().map_or(Duration::MAX, |due| due.saturating_sub(now.mono));
        let limit = self.node.policy.config.write_timeout.min(left);
        // Not even tried if no time is left.
        let reason = match timeout(limit, OptionFuture::from((!left.is_zero()).then(|| self.framed.flush()))).await {
            Ok(Some(Ok(()))) => return,
            Ok(Some(Err(_))) => EndReason::ConnectionClosed,
            Ok(None) | Err(_) => EndReason::WriteTimeout,
        };
        self.framed.write_buffer_mut().clear();
        self.close(self.node.now(), reason);
    }

    /// Sessions that are over and have nothing left for the store. Whoever watches over absent piles takes theirs.
    fn leave_behind(&mut self, now: Now) {
        let mut at = 0;
        while at < self.sessions.len() {
            if !self.sessions[at].is_done() && !self.given_up(now) {
                at += 1;
                continue;
            }
            let session = self.sessions.swap_remove(at);
            let lost_at = self.last_frame + self.node.policy.config.lost_after;
            if let Some(absent) = session.into_absent(lost_at) {
                self.node.departed.left(now, absent);
            }
            // A connection lives as long as piles use it.
            if self.sessions.is_empty() && self.closing.is_none() {
                self.closing = Some(now.mono);
            }
        }
        if self.closing.is_none() && !self.sessions.is_empty() && self.sessions.iter().all(Session::has_ended) {
            self.closing = Some(now.mono + LINGER);
            self.hang_up();
        }
    }

    fn given_up(&self, now: Now) -> bool {
        self.closing.is_some_and(|until| now.mono >= until)
    }

    fn is_over(&self, now: Now) -> bool {
        self.closing.is_some() && (self.sessions.is_empty() || self.given_up(now))
    }

    /// Arms the timer for the next thing that is due. A deadline that only moved away is left where it is: the timer
    /// then fires once for nothing, which is cheaper than moving it with every frame.
    fn arm(&mut self) {
        let now = self.node.now();
        let config = &self.node.policy.config;
        let sessions = self.sessions.iter().filter_map(|s| s.due(now));
        let own = match self.closing {
            Some(until) => until,
            None if self.sessions.is_empty() => self.opened + config.login_timeout,
            None => {
                let quiet = if self.silent { config.close_after } else { config.lost_after };
                (self.last_frame + quiet).min(now.mono + config.partial_frame)
            }
        };
        let due = self.node.started + sessions.fold(own, Duration::min).max(now.mono);
        if self.timer.is_elapsed() || due < self.timer.deadline() {
            self.timer.as_mut().reset(due);
        }
    }
}

impl Drop for Connection {
    /// Whoever still waits for an answer, or writes to the mailbox now, hears that nobody is there.
    fn drop(&mut self) {
        // What was never read was never done. (A letter that comes in between is dropped, and its caller told less.)
        while let Some(letter) = self.link.mailbox.next().now_or_never() {
            if let Letter::Command { reply, .. } = *letter {
                // A caller who has gone needs no answer.
                let _ = reply.send(Err(CommandError::SessionLost { written: false }));
            }
        }
        self.link.mailbox.close();
    }
}

/// Seeds the digits of serials; that they differ between sessions is all that is asked of it.
fn random() -> u64 {
    getrandom::u64().unwrap_or(0x9E37_79B9_7F4A_7C15)
}

/// Nearly all frames are shorter; a longer one makes the buffer grow once.
const READ_BUFFER: usize = 512;
const FRAMES_PER_FLUSH: usize = 64;
/// How long what a session that is over still has for the store may take to get there: longer than a store is usually
/// away. A node that shuts down does not wait for so long.
const LINGER: Duration = Duration::from_mins(5);
/// A timer that fires this late did not run.
const STOOD_STILL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
