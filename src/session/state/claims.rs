//! Becoming the pile's owner, and staying it. Where not every pile may log in, CLAIMING begins with asking whether this
//! one may; nothing is claimed before that is known.
//!
//! ```text
//!   0x01 ──▶ CLAIMING ──won──▶ LIVE ◀──won (the fence may be another)── asked again whether it is ours
//!               │  └─another device has the code──▶ ENDED               ▲      │ somebody newer is there ──▶ ENDED
//!               └─the store is away──▶ PROVISIONAL ──won, a second later or an hour──▶ LIVE
//! ```
//!
//! A session asks again when it is told to ([`Input::Reassert`](crate::session::io::Input::Reassert)), and when the store
//! refuses its fence: that may be a newer owner, or a store that has lost or swept what it knew of this one.

use std::time::Duration;

use super::{Phase, Session, login_response, presence};
use crate::domain::event::OfflineReason;
use crate::domain::pile::Presence;
use crate::domain::{Epoch, EventKind, Fence, Order, Pile};
use crate::observe;
use crate::session::Now;
use crate::session::admission::{Admission, Admitting, Knock};
use crate::session::authority::Unanswered;
use crate::session::device::device;
use crate::session::held::{Held, MAX_ORDERS};
use crate::session::io::{ClaimOf, EndReason, LedgerCall, Out, Output, Reassertion};
use crate::session::jobs::{NextClaim, Running};
use crate::store::ledger::Login;
use crate::store::{Claim, Held as HeldFence, StoreError};
use crate::wire::{self, Sequence};

impl Session {
    /// 0x01: the pile is claimed, once it is known that it may log in.
    pub(super) fn knock(&mut self, now: Now, out: &mut Out) {
        let Some(Admitting { deadline, fallback: _ }) = self.policy.admitting else {
            return self.claim_first(now, out);
        };
        self.admission = Some(now.mono + deadline);
        let Pile { code, ref identity, ref address, .. } = self.pile;
        let knock = Knock { pile: code, identity: identity.clone(), address: address.clone(), at: now.wall };
        out.list.push(Output::Admit(Box::new(knock)));
    }

    /// Whoever decides who may log in has, or nobody has.
    pub(super) fn admitted(&mut self, now: Now, result: Result<Admission, Unanswered>, out: &mut Out) {
        let (Phase::Claiming(sequence), Some(_)) = (self.phase, self.admission.take()) else { return };
        let fallback = self.policy.admitting.map_or(Admission::Admitted, |admitting| admitting.fallback);
        match result.unwrap_or(fallback) {
            Admission::Admitted => self.claim_first(now, out),
            Admission::Refused => {
                observe::login("refused");
                let refused =
                    wire::LoginResponse { result: wire::LoginResult::Rejected, ..login_response(self.pile.code) };
                out.reply(sequence, refused);
                self.end(EndReason::Refused, out);
            }
        }
    }

    fn claim_first(&mut self, now: Now, out: &mut Out) {
        self.jobs.claiming = true;
        let device = device(&self.pile.address, &self.pile.identity);
        out.list.push(Output::Ledger(LedgerCall::Claim(Claim::login(self.pile.code, self.id, now.wall, device))));
    }

    /// The claim of the login has been answered.
    pub(super) fn login_claimed(&mut self, now: Now, result: Result<Box<Login>, StoreError>, out: &mut Out) {
        let Phase::Claiming(sequence) = self.phase else {
            if let (Phase::Ended, Ok(login)) = (self.phase, result) {
                self.claimed_in_vain(*login, out);
            }
            return;
        };
        observe::claim(ClaimOf::Login.name(), result_name(&result));
        match result {
            Ok(login) => {
                self.claimed(now, *login, ClaimOf::Login, out);
                out.reply(sequence, login_response(self.pile.code));
                self.ask_before_planned_stops(now, out);
            }
            Err(StoreError::Unavailable(_)) => self.goes_on_provisionally(now, sequence, out),
            Err(StoreError::Contested { .. }) => self.contested(sequence, out),
            // The claim went through before and its answer was lost; the pile has logged in elsewhere since.
            Err(StoreError::Superseded { .. }) => self.end(EndReason::TakenOver, out),
            Err(error @ (StoreError::Conflict { .. } | StoreError::Invalid(_))) => {
                // Nothing is answered: the pile repeats 0x01 sooner than it would after a rejection.
                observe::login("store_unavailable");
                tracing::error!(pile = %self.pile.code, %error, "login not taken: the store refuses it");
                self.end(EndReason::StoreUnavailable, out);
            }
        }
    }

    /// The pile is ours.
    pub(super) fn claimed(&mut self, now: Now, login: Login, claim: ClaimOf, out: &mut Out) {
        let Login { fence, previous, pile: stored, open_orders } = login;
        self.owns(fence);
        self.orders = open_orders.into_iter().map(|(order, version)| Held::stored(order, version)).collect();
        let presence = stored.as_ref().map(|(pile, _)| pile.presence);
        let before = stored.as_ref().map(|(pile, _)| pile.clone());
        if let Some((stored, version)) = stored {
            self.jobs.pile_version = Some(version);
            self.pile.first_seen = stored.first_seen;
            if stored.presence == self.pile.presence {
                self.pile.presence_since = stored.presence_since;
            }
            self.pile.tariff = stored.tariff;
            for (gun, known) in self.pile.guns.iter_mut().zip(&stored.guns) {
                *gun = known.clone();
            }
            self.clear_alarms_of_lost(now, stored.guns);
        }
        // A short reconnect costs the store one script, and this would be the second.
        if before.is_none_or(|before| !presence::says_the_same(&before, &self.pile)) {
            self.jobs.pile_changed();
        }
        match (self.pile.presence, presence) {
            (Presence::Online, Some(Presence::Online)) | (Presence::Offline, Some(Presence::Offline) | None) => {}
            (Presence::Online, Some(Presence::Offline) | None) => self.tell_online(now),
            (Presence::Offline, Some(Presence::Online)) => self.tell_offline(now),
        }
        out.list.push(Output::Register { fence, previous, claim });
    }

    fn owns(&mut self, fence: Fence) {
        self.phase = Phase::Live(fence);
        self.jobs.fence = Some(fence);
        self.jobs.fenced = false;
        self.jobs.claim = None;
    }

    /// The connection went, or another one of the pile came, while the claim was on its way. The pile is ours now, and
    /// nobody else may report it gone, nor act for it.
    fn claimed_in_vain(&mut self, login: Login, out: &mut Out) {
        let Login { fence, previous, pile, open_orders } = login;
        if let Some(previous) = previous {
            out.list.push(Output::ClaimedInVain { fence, previous });
        }
        if let Some((pile, version)) = pile {
            // A session that held it before knows better than the store.
            if self.jobs.fence.is_none() {
                self.pile = pile;
                self.orders = open_orders.into_iter().map(|(order, version)| Held::stored(order, version)).collect();
            }
            self.jobs.pile_version = Some(version);
            self.jobs.fence = Some(fence);
            self.taken_over = false;
        }
    }

    /// The pile goes back and forth between two devices, and this is the one that has to wait.
    fn contested(&mut self, sequence: Sequence, out: &mut Out) {
        observe::login("contested");
        let refused = wire::LoginResponse { result: wire::LoginResult::Rejected, ..login_response(self.pile.code) };
        out.reply(sequence, refused);
        out.list.push(Output::Duplicate);
        self.end(EndReason::Contested, out);
    }

    /// [`Input::Reassert`](crate::session::io::Input::Reassert).
    pub(super) fn reassert(&mut self, now: Now, anew: bool, out: &mut Out) {
        match self.phase {
            Phase::Live(_) => {
                let anew = anew || self.jobs.claim.is_some_and(|claim| claim.anew);
                self.jobs.claim = Some(NextClaim { at: now.mono, anew });
            }
            // It claims by itself.
            Phase::Claiming(_) | Phase::Provisional(_) => out.list.push(Output::Reasserted(Reassertion::Unknown)),
            Phase::Ended => out.list.push(Output::Reasserted(Reassertion::Lost)),
        }
    }

    /// The time for another claim has come.
    pub(in crate::session) fn claim_again(&mut self, out: &mut Out) {
        let Some(NextClaim { anew, .. }) = self.jobs.claim.take() else { return };
        let Some(fence) = self.fence() else { return };
        let claim = Claim {
            pile: self.pile.code,
            session: self.id,
            now_ms: fence.epoch.0,
            identity: device(&self.pile.address, &self.pile.identity),
            // A provisional session's fence is a guess, made when it logged in: whoever came later is newer.
            held: HeldFence::Fence { fence, anew },
        };
        self.jobs.running = Some(Running::Claim { anew });
        out.list.push(Output::Ledger(LedgerCall::Claim(claim)));
    }

    /// A claim that was not the login's has been answered.
    pub(super) fn claimed_again(&mut self, now: Now, result: Result<Box<Login>, StoreError>, out: &mut Out) {
        let anew = match self.jobs.running.take() {
            Some(Running::Claim { anew }) => anew,
            other => {
                self.jobs.running = other;
                return;
            }
        };
        let name = result_name(&result);
        match (self.phase, result) {
            (Phase::Provisional(_), result) => {
                observe::claim(ClaimOf::Provisional.name(), name);
                self.provisionally_claimed(now, result, out);
            }
            (Phase::Live(fence), result) => {
                observe::claim(ClaimOf::Reassertion.name(), name);
                self.reasserted(now, (fence, anew), result, out);
            }
            (Phase::Ended, Ok(login)) => self.claimed_in_vain(*login, out),
            (Phase::Ended | Phase::Claiming(_), _) => {}
        }
    }

    fn provisionally_claimed(&mut self, now: Now, result: Result<Box<Login>, StoreError>, out: &mut Out) {
        match result {
            Ok(login) => {
                self.claimed(now, *login, ClaimOf::Provisional, out);
                self.catch_up(now, out);
                self.ask_before_planned_stops(now, out);
            }
            Err(StoreError::Unavailable(_)) => self.claim_later(now),
            Err(StoreError::Superseded { .. }) => self.end(EndReason::TakenOver, out),
            Err(StoreError::Contested { .. }) => self.end(EndReason::Contested, out),
            Err(error @ (StoreError::Conflict { .. } | StoreError::Invalid(_))) => {
                tracing::error!(pile = %self.pile.code, %error, "pile not claimed: the store refuses it");
                self.end(EndReason::StoreUnavailable, out);
            }
        }
    }

    /// Not at the same moment as all other piles that wait for the store.
    pub(super) fn claim_later(&mut self, now: Now) {
        let jitter = Duration::from_millis(u64::from(self.any_number()) % CLAIM_SPREAD_MS);
        self.jobs.claim = Some(NextClaim { at: now.mono + CLAIM_SOON + jitter, anew: false });
    }

    fn reasserted(
        &mut self,
        now: Now,
        (before, anew): (Fence, bool),
        result: Result<Box<Login>, StoreError>,
        out: &mut Out,
    ) {
        match result {
            Ok(login) => {
                let Login { fence, previous, pile, open_orders } = *login;
                // Somebody may have asked for one more meanwhile.
                let next = self.jobs.claim.take();
                self.owns(fence);
                self.jobs.claim = next;
                if fence != before {
                    let claim = ClaimOf::Reassertion;
                    out.list.push(Output::Register { fence, previous, claim });
                }
                self.compare_pile(now, pile);
                self.compare_orders(open_orders);
                out.list.push(Output::Reasserted(Reassertion::Kept));
            }
            Err(StoreError::Superseded { .. } | StoreError::Contested { .. }) => {
                out.list.push(Output::Reasserted(Reassertion::Lost));
                self.superseded(out);
            }
            Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict { .. } | StoreError::Invalid(_))) => {
                tracing::debug!(pile = %self.pile.code, %error, "not known whether the pile is still ours");
                let anew = anew || self.jobs.claim.is_some_and(|claim| claim.anew);
                self.jobs.claim = Some(NextClaim { at: now.mono + CLAIM_AGAIN, anew });
                out.list.push(Output::Reasserted(Reassertion::Unknown));
            }
        }
    }

    /// What is stored of the pile may be older than what we know, or what a sweep has made of it.
    fn compare_pile(&mut self, now: Now, stored: Option<(Pile, u64)>) {
        self.jobs.pile_version = stored.as_ref().map(|(_, version)| *version);
        let stored = stored.map(|(pile, _)| pile);
        if stored.as_ref().is_some_and(|stored| presence::says_the_same(stored, &self.pile)) {
            return;
        }
        self.jobs.pile_changed();
        // What waits to be told is what will have been told.
        let told = self.jobs.told_presence().or(stored.map(|pile| pile.presence));
        match (self.pile.presence, told) {
            (Presence::Online, Some(Presence::Online)) | (Presence::Offline, Some(Presence::Offline) | None) => {}
            (Presence::Online, Some(Presence::Offline) | None) => {
                tracing::info!(pile = %self.pile.code, "pile was taken for lost");
                self.tell_online(now);
            }
            (Presence::Offline, Some(Presence::Online)) => self.tell_offline(now),
        }
    }

    /// Ours are the newer ones, except for what is absorbing. Those the store does not call open it has closed or lost:
    /// writing them tells which.
    fn compare_orders(&mut self, stored: Vec<(Order, u64)>) {
        for held in self.orders.iter_mut().filter(|held| held.version.is_some()) {
            held.dirty = true;
        }
        for (order, version) in stored {
            let room = self.orders.len() < MAX_ORDERS;
            match self.orders.iter_mut().find(|held| held.order.serial == order.serial) {
                Some(held) => {
                    held.finds_stored(&order, version, &mut self.jobs);
                    held.dirty = held.order != order;
                }
                // Closed here, and the store has lost that.
                None if room => self.orders.push(Held::stored(order, version)),
                None => {}
            }
        }
    }

    fn tell_online(&mut self, now: Now) {
        self.pile.presence_since = now.wall;
        self.event(now, None, EventKind::PileOnline(Box::new(self.pile.clone())));
    }

    fn tell_offline(&mut self, now: Now) {
        let (pile, reason) = (Box::new(self.pile.clone()), OfflineReason::Silent);
        self.event(now, None, EventKind::PileOffline { pile, reason });
    }

    /// No older than the login itself, by this node's clock.
    pub(super) fn guessed_fence(&self, now: Now) -> Fence {
        Fence { session: self.id, epoch: Epoch(now.wall.0.max(0).cast_unsigned()) }
    }
}

/// The metric label.
fn result_name<T>(result: &Result<T, StoreError>) -> &'static str {
    match result {
        Ok(_) => "won",
        Err(StoreError::Superseded { .. }) => "superseded",
        Err(StoreError::Contested { .. }) => "contested",
        Err(StoreError::Unavailable(_)) => "unavailable",
        Err(StoreError::Conflict { .. } | StoreError::Invalid(_)) => "refused",
    }
}

/// How long a store that could not be asked is left alone.
const CLAIM_AGAIN: Duration = Duration::from_secs(1);
/// The same where all piles of a node may wait for it, spread over half a second: at least this ...
const CLAIM_SOON: Duration = Duration::from_millis(750);
/// ... and up to so much more.
const CLAIM_SPREAD_MS: u64 = 500;
