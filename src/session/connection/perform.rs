//! What a session wants done, done.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::Connection;
use crate::domain::{Event, EventKind, Fence, PileCode, SessionId, WallMs};
use crate::observe;
use crate::session::admission::{Admission, Doorkeeper, Knock};
use crate::session::authority::{Authority, ChargeAsk, Verdict};
use crate::session::io::{ClaimOf, Done, EndReason, Input, LedgerCall, Output, Reassertion};
use crate::session::neighbours::{Eviction, Whom};
use crate::session::{Handle, Now};
use crate::store::BatchId;
use crate::store::ledger::{Ledger, Write, WriteError};
use crate::wire::Outgoing;

impl Connection {
    pub(super) fn perform_all(&mut self, now: Now, at: usize) {
        // The second time for what performing led to: an end, when the claim came too late. The list is given back, since
        // idle connections are many, and one allocation per frame is not felt.
        for _ in 0..2 {
            for output in std::mem::take(&mut self.out.list) {
                self.perform(now, output, Some(at));
            }
        }
        self.count(at);
    }

    /// Counts the session as what it is now.
    fn count(&mut self, at: usize) {
        let session = &mut self.sessions[at];
        let (before, now) = (session.counted, session.standing());
        if before != now {
            session.counted = now;
            for (state, change) in [(before, -1), (now, 1)] {
                if let Some(state) = state {
                    observe::sessions(state, change);
                }
            }
        }
    }

    pub(super) fn perform(&mut self, now: Now, output: Output, at: Option<usize>) {
        match output {
            Output::Send { sequence, frame, until } => {
                if self.closing.is_some() {
                    return;
                }
                self.write_by = [self.write_by, until].into_iter().flatten().min();
                observe::frame_sent(frame.spec().name);
                let written = Outgoing::new(sequence, frame).write(self.framed.write_buffer_mut());
                if let Err(error) = written {
                    tracing::error!(address = %self.link.address, %error, "frame not sent");
                }
            }
            Output::Ledger(call) => {
                if let Some(at) = at {
                    self.calls.push(perform_call(self.node.ledger.clone(), self.sessions[at].id(), call));
                }
            }
            Output::Authorise(ask) => {
                if let Some(at) = at {
                    self.calls.push(authorise(self.node.authority.clone(), self.sessions[at].id(), *ask));
                }
            }
            Output::Admit(knock) => {
                if let Some(at) = at {
                    self.calls.push(admit(self.node.doorkeeper.clone(), self.sessions[at].id(), *knock));
                }
            }
            Output::Register { fence, previous, claim } => {
                if let Some(at) = at {
                    self.register(now, at, (fence, previous), claim);
                }
            }
            Output::RegisterProvisionally(guess) => {
                if let Some(at) = at {
                    self.register_provisionally(now, at, guess);
                }
            }
            Output::ClaimedInVain { fence, previous } => {
                if let Some(at) = at {
                    self.evict_in_vain(self.sessions[at].pile_code(), fence, previous);
                }
            }
            Output::Reasserted(what) => {
                if let Some(at) = at {
                    self.reasserted(self.sessions[at].id(), what);
                }
            }
            Output::Duplicate => {
                let Some(at) = at else { return };
                let pile = self.sessions[at].pile_code();
                if self.node.sessions.tells_duplicate(pile, now.mono) {
                    let other = self.node.sessions.live(pile).map(|live| live.address.to_string());
                    let other = other.as_deref().unwrap_or("on another node");
                    tracing::warn!(%pile, address = %self.link.address, other, "two devices use one pile code");
                    self.sessions[at].apply(now, Input::TellDuplicate, &mut self.out);
                }
            }
            Output::Publish(telemetry) => self.node.hub.publish(*telemetry),
            Output::Reply { to, result } => {
                if let Some(at) = self.callers.iter().position(|(id, _)| *id == to) {
                    let (_, reply) = self.callers.swap_remove(at);
                    // A caller who has gone needs no answer.
                    let _ = reply.send(result);
                }
            }
            Output::Ended { reason, fence } => {
                let Some(at) = at else { return };
                let pile = self.sessions[at].pile_code();
                if reason != EndReason::Refused {
                    tracing::info!(%pile, address = %self.link.address, reason = reason.name(), "session ended");
                } else if self.node.sessions.tells_refused(pile, now.mono) {
                    tracing::warn!(%pile, address = %self.link.address, "login refused: the pile may not log in");
                }
                observe::session_ended(reason.name());
                self.reasserted(self.sessions[at].id(), Reassertion::Lost);
                // What a newer session has measured stays.
                if fence.is_some_and(|fence| self.node.sessions.unregister(pile, fence)) {
                    self.node.hub.forget(pile);
                }
            }
        }
    }
}

impl Connection {
    fn register(&mut self, now: Now, at: usize, (fence, previous): (Fence, Option<Fence>), claim: ClaimOf) {
        let pile = self.sessions[at].pile_code();
        let handle = Handle { fence, provisional: false, link: self.link.clone() };
        let Some(replaced) = self.node.sessions.register(pile, handle) else {
            if claim == ClaimOf::Login {
                observe::login("too_late");
            }
            return self.sessions[at].apply(now, Input::End(EndReason::TakenOver), &mut self.out);
        };
        self.node.departed.came_back(pile, |order| self.sessions[at].has(order));
        if replaced {
            observe::takeover("here");
        }
        let elsewhere = previous.filter(|previous| previous.session.incarnation != fence.session.incarnation);
        if let Some(previous) = elsewhere {
            observe::takeover("elsewhere");
            self.evict(pile, fence, Whom::Run(previous.session.incarnation));
        }
        let (address, epoch) = (&self.link.address, fence.epoch.0);
        match claim {
            ClaimOf::Login => {
                observe::login("accepted");
                tracing::info!(%pile, %address, epoch, "pile logged in");
            }
            ClaimOf::Provisional => tracing::info!(%pile, %address, epoch, "pile claimed"),
            ClaimOf::Reassertion => tracing::info!(%pile, %address, epoch, "pile claimed again"),
        }
    }

    fn register_provisionally(&mut self, now: Now, at: usize, guess: Fence) {
        let pile = self.sessions[at].pile_code();
        let Some(fence) = self.node.sessions.register_guess(pile, guess, self.link.clone()) else {
            return self.sessions[at].apply(now, Input::End(EndReason::TakenOver), &mut self.out);
        };
        self.sessions[at].registered_as(fence);
        self.node.departed.heard_elsewhere(pile);
        self.evict(pile, fence, Whom::Anybody);
        tracing::info!(%pile, address = %self.link.address, "pile logged in provisionally: the store cannot be asked");
    }

    /// A session the store does not know any more would go on, and commands would go to it.
    fn evict_in_vain(&self, pile: PileCode, by: Fence, previous: Fence) {
        let run = previous.session.incarnation;
        if run == by.session.incarnation {
            let heard_ms_ago = self.link.heard_ms_ago();
            // It may have ended by itself.
            let _ = self.node.sessions.evict(Eviction { pile, by, whom: Whom::Run(run), heard_ms_ago });
        } else {
            self.evict(pile, by, Whom::Run(run));
        }
    }

    fn evict(&self, pile: PileCode, by: Fence, whom: Whom) {
        let heard_ms_ago = self.link.heard_ms_ago();
        self.node.neighbours.evict(Eviction { pile, by, whom, heard_ms_ago });
    }

    /// Tells whoever asked whether a pile is still ours. Who has gone needs no answer.
    fn reasserted(&mut self, session: SessionId, what: Reassertion) {
        for (_, reply) in self.reassertions.extract_if(.., |(of, _)| *of == session) {
            let _ = reply.send(what);
        }
    }
}

fn perform_call(ledger: Ledger, session: SessionId, call: LedgerCall) -> BoxFuture<'static, (SessionId, Done)> {
    Box::pin(async move {
        let done = match call {
            LedgerCall::Claim(claim) => Done::Claimed(ledger.claim(claim).await.map(Box::new)),
            LedgerCall::Write(write) => Done::Written(ledger.write(*write).await),
            LedgerCall::Settle { record, latest, now } => {
                Done::Settled(ledger.settle(*record, latest.map(|l| *l), now).await.map(Box::new))
            }
            LedgerCall::LookUp { pile, serial } => {
                Done::LookedUp(ledger.order(pile, serial).await.map(|found| found.map(Box::new)))
            }
            LedgerCall::KeepCurve { chunk, fence, expires } => {
                Done::CurveKept(ledger.keep_curve(&chunk, fence, expires).await)
            }
            LedgerCall::TellDuplicate { id, pile, address, iccid, now } => {
                Done::Written(tell_duplicate(&ledger, (id, pile), (address, iccid), now).await)
            }
        };
        (session, done)
    })
}

fn authorise(
    authority: Arc<dyn Authority>,
    session: SessionId,
    ask: ChargeAsk,
) -> BoxFuture<'static, (SessionId, Done)> {
    Box::pin(async move {
        let (serial, began) = (ask.serial, Instant::now());
        let result = authority.charge(ask).await;
        let name = match &result {
            Ok(Verdict::Allow(_)) => "allowed",
            Ok(Verdict::Deny(_)) => "denied",
            Err(unanswered) => unanswered.name(),
        };
        observe::authorisation(authority.mode(), name, began.elapsed());
        (session, Done::Authorised(serial, result))
    })
}

fn admit(doorkeeper: Arc<dyn Doorkeeper>, session: SessionId, knock: Knock) -> BoxFuture<'static, (SessionId, Done)> {
    Box::pin(async move {
        let began = Instant::now();
        let result = doorkeeper.admit(knock).await;
        let name = match &result {
            Ok(Admission::Admitted) => "admitted",
            Ok(Admission::Refused) => "refused",
            Err(unanswered) => unanswered.name(),
        };
        observe::admission(doorkeeper.mode(), name, began.elapsed());
        (session, Done::Admitted(result))
    })
}

/// By whom the pile code is used is in the store; without that there is nothing to compare with, and nothing to tell.
async fn tell_duplicate(
    ledger: &Ledger,
    (id, code): (BatchId, PileCode),
    (address, iccid): (String, String),
    now: WallMs,
) -> Result<Vec<u64>, WriteError> {
    let Some(pile) = ledger.pile(code).await? else { return Ok(vec![]) };
    let kind = EventKind::DuplicatePileCode { pile: Box::new(pile), address, iccid };
    let events = vec![Event { pile: code, recorded_at: now, pile_time: None, kind }];
    ledger.write(Write { id, pile: code, fence: None, documents: vec![], events }).await
}
