//! The way of a command to the one session it is for.
//!
//! ```text
//!   here? ──▶ its mailbox
//!     no ──▶ remembered owner? ──▶ one call to that node ──▶ answer
//!              no │        ▲                └─ NOT_OWNER ─▶ forget it, ask the store, once more
//!                 ▼        │                                        └─ again ─▶ offline
//!               the store ─┴─ nobody, or a run that is over ─▶ offline
//! ```
//!
//! Never a second hop: the node that is asked looks at its own sessions only. Without the store, what is here and what is
//! remembered is all there is.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::{Duration, Instant, sleep_until, timeout_at};

use super::here::Here;
use super::members::{Found, Members};
use super::message;
use super::message::pb::{self, execute_response::Outcome};
use super::owners::Owners;
use super::peers::{Failed, Peers};
use crate::domain::{Command, CommandError, Fence, PileCode, Reply};
use crate::observe;
use crate::store::ledger::Ledger;
use crate::store::{Member, StoreError};

/// Finds the session and has it carry the command out.
pub struct Router {
    pub here: Here,
    pub ledger: Ledger,
    pub members: Members,
    pub peers: Peers,
    pub owners: Owners,
}

/// Where a pile's newest session is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    Here(Fence),
    There(Fence, Member),
    Nowhere,
}

/// What one call to another node came to.
enum Hop {
    Answered(Result<Reply, CommandError>),
    NotDone(NotDone),
}

/// Why another node has certainly done nothing, so that the command may be tried elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NotDone {
    NotOwner,
    Unreachable,
}

impl Router {
    /// The pile's own answer, or why there is none. A pile without a session is either unknown or absent since some time:
    /// the ledger knows, and if it does not answer, "offline" is true all the same.
    pub async fn execute(&self, pile: PileCode, command: Command, deadline: Instant) -> Result<Reply, CommandError> {
        // Another node could not tell how long it lay in a socket of this one.
        if self.here.sessions.catches_up() {
            return Err(CommandError::SessionLost { written: false });
        }
        match self.deliver(pile, command, deadline).await {
            Err(CommandError::PileOffline { last_seen: None }) => {
                let found = timeout_at(deadline, self.ledger.pile(pile)).await;
                Err(match found {
                    Ok(Ok(Some(pile))) => CommandError::PileOffline { last_seen: Some(pile.last_seen) },
                    Ok(Ok(None)) => CommandError::PileUnknown,
                    Ok(Err(_)) | Err(_) => CommandError::PileOffline { last_seen: None },
                })
            }
            other => other,
        }
    }

    /// Without looking up since when a pile is offline.
    pub async fn deliver(&self, pile: PileCode, command: Command, deadline: Instant) -> Result<Reply, CommandError> {
        if let Some(live) = self.here.sessions.live(pile) {
            observe::routed("local");
            match self.here.execute_as(pile, live.fence, command.clone(), deadline).await {
                // It ended, or was replaced, before the command got there: whoever has it now is found like any other.
                Err(_) | Ok(Err(CommandError::PileOffline { last_seen: None })) => {}
                Ok(answer) => return answer,
            }
        }
        let mut tried = None;
        if let Some(fence) = self.owners.get(pile) {
            let found = timeout_at(deadline, self.members.find(fence.session.incarnation)).await;
            if let Ok(Found::Living(member)) = found {
                observe::routed("cached");
                match self.hop(pile, fence, &member, &command, deadline).await {
                    Hop::Answered(answer) => return answer,
                    Hop::NotDone(why) => tried = Some((fence, why)),
                }
            }
            self.owners.forget(pile, fence);
        }
        loop {
            let (fence, member) = match self.registered(pile, deadline).await? {
                Place::Nowhere => return Err(offline()),
                Place::Here(fence) => return self.now_here(pile, fence, command, deadline).await,
                Place::There(fence, member) => (fence, member),
            };
            match tried {
                // Nothing new: the store may know of a login a moment before its node does, but of no way to a node.
                Some((before, NotDone::Unreachable)) if before == fence => {
                    return Err(CommandError::SessionLost { written: false });
                }
                Some((before, NotDone::NotOwner)) if before == fence => {
                    sleep_until(deadline.min(Instant::now() + A_MOMENT)).await;
                }
                Some(_) | None => {}
            }
            observe::routed("registry");
            match self.hop(pile, fence, &member, &command, deadline).await {
                Hop::Answered(answer) => {
                    self.owners.learn(pile, fence);
                    return answer;
                }
                Hop::NotDone(why) if tried.is_none() => tried = Some((fence, why)),
                Hop::NotDone(NotDone::NotOwner) => return Err(offline()),
                Hop::NotDone(NotDone::Unreachable) => return Err(CommandError::SessionLost { written: false }),
            }
        }
    }

    /// Where the pile's newest session is, by the store.
    pub async fn place(&self, pile: PileCode, deadline: Instant) -> Result<Place, CommandError> {
        match self.here.sessions.live(pile) {
            Some(live) => Ok(Place::Here(live.fence)),
            None => self.registered(pile, deadline).await,
        }
    }

    async fn registered(&self, pile: PileCode, deadline: Instant) -> Result<Place, CommandError> {
        let unavailable = |reason: String| {
            observe::routed("unavailable");
            CommandError::StoreUnavailable { reason }
        };
        let owner = match timeout_at(deadline, self.ledger.owner(pile)).await {
            Ok(Ok(owner)) => owner,
            Ok(Err(error)) => return Err(unavailable(reason(&error))),
            Err(_) => return Err(CommandError::DeadlinePassed),
        };
        let Some(fence) = owner else { return Ok(Place::Nowhere) };
        if fence.session.incarnation == self.here.sessions.incarnation() {
            // Its login has ended, or is not told to anybody yet.
            let here = self.here.sessions.live(pile);
            return Ok(here.map_or(Place::Nowhere, |live| Place::Here(live.fence)));
        }
        match timeout_at(deadline, self.members.find(fence.session.incarnation)).await {
            Ok(Found::Living(member)) => Ok(Place::There(fence, member)),
            Ok(Found::Gone) => Ok(Place::Nowhere),
            Ok(Found::Unknown) => Err(unavailable("it does not say which nodes there are".into())),
            Err(_) => Err(CommandError::DeadlinePassed),
        }
    }

    /// The pile has logged in here while it was looked for elsewhere.
    async fn now_here(
        &self,
        pile: PileCode,
        fence: Fence,
        command: Command,
        deadline: Instant,
    ) -> Result<Reply, CommandError> {
        observe::routed("local");
        let answer = self.here.execute_as(pile, fence, command, deadline).await;
        answer.unwrap_or(Err(CommandError::PileOffline { last_seen: None }))
    }

    async fn hop(&self, pile: PileCode, fence: Fence, member: &Member, command: &Command, deadline: Instant) -> Hop {
        let began = Instant::now();
        let remaining = deadline.saturating_duration_since(began);
        if remaining.is_zero() {
            return Hop::Answered(Err(CommandError::DeadlinePassed));
        }
        // The other node answers in time to be heard here in time.
        let remaining = remaining.saturating_sub((remaining / 20).min(ON_THE_WAY));
        let request = pb::ExecuteRequest {
            pile: pile.to_string(),
            fence: Some(message::write_fence(fence)),
            command: message::write(command).into(),
            remaining_ms: remaining.as_millis() as u64,
            deadline_unix_ms: unix_ms() + remaining.as_millis() as i64,
        };
        let outcome = match self.peers.to(member) {
            Ok(peer) => peer.execute(request, deadline).await,
            Err(failed) => Err(failed),
        };
        observe::hop(outcome.as_ref().map_or_else(Failed::name, |_| "ok"), began.elapsed());
        let told = |error: &dyn std::fmt::Display| {
            tracing::info!(%pile, node = %member.node, command = command.name(), %error, "no answer from the pile's node");
        };
        Hop::Answered(match outcome {
            Ok(Outcome::NotOwner(pb::NotOwner {})) => {
                observe::not_owner();
                return Hop::NotDone(NotDone::NotOwner);
            }
            Ok(Outcome::Reply(reply)) => message::read_reply(&reply).map_err(|error| {
                told(&error);
                lost(command)
            }),
            Ok(Outcome::Error(error)) => Err(message::read_error(&error).unwrap_or_else(|unreadable| {
                told(&unreadable);
                lost(command)
            })),
            Err(Failed::Busy) => {
                let why = format!("too many calls to node {} are in flight", member.node).into();
                Err(CommandError::PileBusy { why, retry_after: Some(BUSY_RETRY) })
            }
            Err(Failed::NotSent(error)) => {
                told(&error);
                return Hop::NotDone(NotDone::Unreachable);
            }
            Err(Failed::Vanished(error)) => {
                told(&error);
                Err(lost(command))
            }
            Err(Failed::Late) if command.only_reads() => Err(CommandError::DeadlinePassed),
            Err(Failed::Late) => Err(CommandError::OutcomeUnknown { serial: command.serial() }),
        })
    }
}

/// It was sent, and whether it was carried out nobody can say. What only reads may be repeated as if it had not been.
fn lost(command: &Command) -> CommandError {
    if command.only_reads() {
        CommandError::SessionLost { written: false }
    } else {
        CommandError::NodeLost { serial: command.serial() }
    }
}

fn offline() -> CommandError {
    observe::routed("offline");
    CommandError::PileOffline { last_seen: None }
}

fn reason(error: &StoreError) -> String {
    error.to_string()
}

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

const A_MOMENT: Duration = Duration::from_millis(20);
/// Of the time left, what an answer has to come back from the other node.
const ON_THE_WAY: Duration = Duration::from_millis(20);
const BUSY_RETRY: Duration = Duration::from_secs(1);
