//! A pile without a session: what the watch decides about it, what operators do to its orders, and bills that come to
//! other nodes meanwhile. The watch's decisions are the real ones; who carries them out is played here, on the clock of
//! the walk.

use std::time::Duration;

use super::time::undecided;
use super::{MOMENT, Walk};
use crate::domain::pile::Presence;
use crate::domain::{EventKind, OrderState, SessionId, WallMs};
use crate::session::absent::Absent;
use crate::session::io::EndReason;
use crate::session::remember::Putting;
use crate::session::tests::harness::*;
use crate::store::ledger::{Document, Write, WriteError};
use crate::store::{BatchId, Claim, Held};

/// How the store takes a write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weather {
    Fair,
    Away,
    LosesAnswers,
}

impl Walk {
    /// A session has ended, and everything it had is with the store.
    pub fn left(&mut self, old: Pile) {
        let back = self.pile.session.fence().is_some() && self.pile.session.provisional.is_none();
        let newer = |absent: &Absent, there: &Absent| there.fence.epoch > absent.fence.epoch;
        if let Some(absent) = old.absent()
            && !back
            && self.absent.as_ref().is_none_or(|there| !newer(&absent, there))
        {
            self.absent = Some(Absent { losses: self.losses, ..absent });
        }
    }

    /// For a while nobody hears of the pile.
    pub fn stay_away(&mut self) {
        self.trace.push("stays away".into());
        self.go_away();
        self.reached.one("away", if self.absent.is_some() { "watched" } else { "somebody else's" });
        for _ in 0..self.below(12) {
            let (seconds, serial) = (1 + self.below(25), self.serial());
            self.trace.push(format!("{seconds} s without a session"));
            self.pile.advance(seconds);
            match self.below(6) {
                0 | 1 => self.amend(serial),
                2 if self.chance(2) => self.settle(serial),
                // A store that has taken over knows nothing of the claim.
                3 if !self.nature.calm => self.pile.store.borrow_mut().owner = None,
                _ => {}
            }
            self.attend();
            self.check();
            self.pile.advance_by(MOMENT);
        }
        if self.nature.calm {
            self.pile.store_returns();
        } else {
            self.pile.store_answers();
        }
    }

    /// The session is done; the pile's next one has only just knocked.
    fn go_away(&mut self) {
        let mut new = self.pile.elsewhere_slow();
        new.authority_waits = true;
        self.check_sent();
        self.check_replies();
        assert_eq!(self.commands.len(), 0, "no answer: {:#?}", self.commands);
        self.charged.clear();
        self.stops_sent.clear();
        self.wishes = super::drivers::Wishes::default();
        self.unanswered.clear();
        self.kept.clear();
        let old = std::mem::replace(&mut self.pile, new);
        self.left(old);
    }

    /// The session hangs up before it could hear that the store has lost writes; the watch hears of it.
    pub fn hang_up_after_a_loss(&mut self) {
        self.pile.ends(EndReason::ConnectionClosed);
        self.be_quiet();
        assert!(self.pile.session.is_done(), "something is left");
        self.go_away();
        // Or nobody hears of it: then it shows when the watch has nothing left to decide.
        let heard = self.chance(2);
        self.losses += u64::from(heard);
        for _ in 0..MINUTES * 60 {
            let losses = self.losses;
            if self.absent.as_ref().is_none_or(|absent| heard && absent.losses == losses) {
                return;
            }
            self.attend();
            self.pile.advance_by(if heard { MOMENT } else { Duration::from_secs(1) });
        }
        panic!("watched for ever: {:#?}", self.absent.as_ref().map(|absent| &absent.orders));
    }

    /// What is due of a pile that is away.
    pub fn attend(&mut self) {
        let Some(mut absent) = self.absent.take() else { return };
        let provisional = self.pile.session.provisional.is_some();
        if self.pile.session.fence().is_some() && !provisional {
            return;
        }
        absent.elsewhere |= provisional;
        let now = self.pile.now();
        let due = absent.due(now);
        let weather = match self.below(8) {
            0 if !self.nature.calm => Weather::Away,
            1 if !self.nature.calm => Weather::LosesAnswers,
            _ => Weather::Fair,
        };
        let doubted = absent.losses < self.losses;
        let later = due.is_some_and(|due| due > now.mono) && !doubted;
        if provisional || later || weather == Weather::Away {
            self.absent = Some(absent);
            return;
        }
        if due.is_none() && !doubted {
            // Nothing will be due either.
            self.check_decided(&absent, now.wall.plus_ms(3_600_000));
            self.reached.one("away", "released");
            self.put_again(&absent);
            return self.pile.store.borrow_mut().release(absent.fence);
        }
        if std::mem::take(&mut absent.elsewhere) {
            if self.pile.store.borrow().owner != Some(absent.fence) {
                return self.judge_anew(&absent);
            }
            absent.lost_at = absent.lost_at.map(|_| now.mono + LOST_AFTER);
        }
        if doubted {
            self.put_again(&absent);
            absent.losses = self.losses;
        }
        let mut decisions = 0;
        while let Some((document, expect, events)) = absent.decide(now) {
            decisions += 1;
            assert!(decisions < 100, "the watch decides for ever: {document:#?}");
            self.steps += 1;
            let session = SessionId { incarnation: 8, counter: self.steps };
            let documents = vec![(document.clone(), expect)];
            let id = BatchId { session, n: 1 };
            let write = Write { id, pile: code(), fence: Some(absent.fence), documents, events };
            let result = self.pile.store.borrow_mut().write(&write);
            match result {
                // What is not known to be written is tried again.
                _ if weather == Weather::LosesAnswers => {
                    self.absent = Some(absent);
                    return;
                }
                Ok(versions) => {
                    self.reached.one("away", "decided");
                    absent.written(document, versions.first().copied());
                }
                Err(WriteError::Fenced) => return self.judge_anew(&absent),
                Err(WriteError::Conflict { current: None, .. }) if matches!(document, Document::Order(_)) => {
                    return self.judge_anew(&absent);
                }
                Err(WriteError::Conflict { current, .. }) => absent.conflict(document, current),
                Err(WriteError::Store(error)) => panic!("{error}"),
            }
        }
        self.check_decided(&absent, now.wall);
        self.absent = Some(absent);
    }

    /// Everything time has decided by now is stored; what needs the pile waits for it.
    fn check_decided(&self, absent: &Absent, now: WallMs) {
        let store = self.pile.store.borrow();
        if store.owner != Some(absent.fence) {
            return;
        }
        for (order, _) in store.orders.values() {
            // That it charges on is known to who heard it last.
            let watched =
                absent.orders.iter().find(|(watched, _)| watched.serial == order.serial).map(|(order, _)| order);
            let stop = watched.and_then(|watched| watched.stop);
            let waits = order.state == OrderState::Stopping && stop.is_some_and(|stop| stop.still_charging);
            let open = order.state.is_open() && !waits && order.stop_at_login.is_none();
            assert!(watched.is_some() || !order.state.is_open(), "nobody watches {order:#?}");
            // So is when it was stopped once more, and that the pile has agreed to it.
            let judged = watched.unwrap_or(order);
            assert!(!open || undecided(judged, now).is_none(), "undecided {judged:#?}");
        }
    }

    /// The fence does not stand any more, or nobody knows whether it does: what is known is put again, and if nobody newer is
    /// there, the pile is taken on as it is stored.
    fn judge_anew(&mut self, absent: &Absent) {
        self.put_again(absent);
        self.adopt_what_is_stored(absent);
    }

    /// The orders the store may have lost.
    fn put_again(&mut self, absent: &Absent) {
        let now = self.pile.now().wall;
        for (order, _) in &absent.orders {
            self.steps += 1;
            let session = SessionId { incarnation: 8, counter: self.steps };
            let mut left = Some(Putting::of(Box::new(order.clone()), vec![], BatchId { session, n: 1 }, now));
            let mut n = 1;
            while let Some(putting) = left {
                n += 1;
                let result = self.pile.store.borrow_mut().write(&putting.write());
                left = putting.answered(result, (BatchId { session, n }, now)).expect("a store that answers");
            }
        }
    }

    fn adopt_what_is_stored(&mut self, absent: &Absent) {
        let owner = self.pile.store.borrow().owner;
        if owner.is_some_and(|owner| owner.epoch > absent.fence.epoch) {
            return;
        }
        let held = Held::Fence { fence: absent.fence, anew: true };
        let now = self.pile.now();
        let claim = Claim { held, ..Claim::login(code(), absent.fence.session, now.wall, 1) };
        let Ok(login) = self.pile.store.borrow_mut().claim(&claim) else { return };
        let stored = login.pile.map(|(pile, version)| (pile, Some(version)));
        let (pile, version) = stored.unwrap_or_else(|| (absent.pile.clone(), None));
        let lost_at = (pile.presence == Presence::Online).then_some(now.mono + LOST_AFTER);
        let (fence, orders, reason) = (login.fence, login.open_orders, absent.reason);
        let (elsewhere, losses) = (false, self.losses);
        self.absent = Some(Absent { fence, pile, version, lost_at, reason, orders, elsewhere, losses });
        self.reached.one("away", "adopted");
    }

    /// It has gone and come back in turn.
    pub fn check_presence(&self) {
        let store = self.pile.store.borrow();
        let told = store.events.iter().filter_map(|event| match event {
            EventKind::PileOnline(_) => Some(true),
            EventKind::PileOffline { .. } => Some(false),
            _ => None,
        });
        let told: Vec<_> = told.collect();
        let twice = told.windows(2).find(|two| two[0] == two[1]);
        assert!(twice.is_none() || !self.was_calm, "told twice: {told:?}");
    }
}

/// Longer than anything is watched.
const MINUTES: u64 = 60;
const LOST_AFTER: Duration = Duration::from_secs(40);
