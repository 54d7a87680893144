//! What a session wants done, done.

use futures_util::future::BoxFuture;

use super::Connection;
use crate::domain::SessionId;
use crate::observe;
use crate::session::io::{Done, EndReason, Input, LedgerCall, Output};
use crate::session::neighbours::{Eviction, Whom};
use crate::session::{Handle, Now};
use crate::store::ledger::Ledger;
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
    }

    pub(super) fn perform(&mut self, now: Now, output: Output, at: Option<usize>) {
        match output {
            Output::Send { sequence, frame } => {
                if self.closing.is_some() {
                    return;
                }
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
            Output::Register { fence, previous } => {
                let Some(at) = at else { return };
                let pile = self.sessions[at].pile_code();
                let handle = Handle { fence, provisional: false, link: self.link.clone() };
                if self.node.sessions.register(pile, handle) {
                    self.node.departed.came_back(pile);
                    let elsewhere =
                        previous.filter(|previous| previous.session.incarnation != fence.session.incarnation);
                    if let Some(previous) = elsewhere {
                        let whom = Whom::Run(previous.session.incarnation);
                        self.node.neighbours.evict(Eviction { pile, by: fence, whom });
                    }
                    observe::login("accepted");
                    tracing::info!(%pile, address = %self.link.address, epoch = fence.epoch.0, "pile logged in");
                } else {
                    observe::login("too_late");
                    self.sessions[at].apply(now, Input::End(EndReason::TakenOver), &mut self.out);
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
                tracing::info!(%pile, address = %self.link.address, reason = reason.name(), "session ended");
                observe::session_ended(reason.name());
                // What a newer session has measured stays.
                if fence.is_some_and(|fence| self.node.sessions.unregister(pile, fence)) {
                    self.node.hub.forget(pile);
                }
            }
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
        };
        (session, done)
    })
}
