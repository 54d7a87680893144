//! Telling other nodes that a pile has logged in here, until they have heard it.
//!
//! The newest login of a pile is all there is to tell: what was to be told before is forgotten. One task sends; a node
//! that does not answer is asked again, later and later, until it does or its lease has run out.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::members::{Found, Members};
use super::message;
use super::peers::{Failed, Peers};
use crate::domain::{Fence, PileCode};
use crate::observe;
use crate::session::{Evicted, Eviction, Neighbours, Sessions, Whom};

/// What is to be told. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Evictions(Arc<Inner>);

struct Inner {
    me: u64,
    members: Members,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    waiting: HashMap<PileCode, Waiting>,
    /// When to send what, to whom. What has been settled or replaced meanwhile is passed over when its time comes.
    due: BTreeSet<(Instant, PileCode, u64)>,
}

struct Waiting {
    eviction: Eviction,
    /// Runs that have not answered.
    to: HashMap<u64, Try>,
}

#[derive(Clone, Copy)]
struct Try {
    /// `None` while it is under way.
    at: Option<Instant>,
    /// How long to wait if this one fails.
    pause: Duration,
}

/// One message to one run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Letter {
    eviction: Eviction,
    to: u64,
}

/// What became of it.
enum Sent {
    Answered(Evicted),
    /// Nobody is there to be told.
    Gone,
    Failed,
}

impl Neighbours for Evictions {
    fn evict(&self, eviction: Eviction) {
        let to: Vec<u64> = match eviction.whom {
            Whom::Run(run) => vec![run],
            Whom::Anybody => self.0.members.view().others(self.0.me).map(|member| member.incarnation).collect(),
        };
        let now = Instant::now();
        let first = Try { at: Some(now), pause: FIRST_PAUSE };
        let to: HashMap<_, _> = to.into_iter().filter(|run| *run != self.0.me).map(|run| (run, first)).collect();
        let mut state = self.lock();
        let State { waiting, due } = &mut *state;
        if to.is_empty() || waiting.get(&eviction.pile).is_some_and(|there| there.eviction.by.epoch > eviction.by.epoch)
        {
            return;
        }
        if waiting.len() >= MOST && !waiting.contains_key(&eviction.pile) {
            // The older session cannot write any more, and finds that out by its next try.
            observe::eviction("given_up");
            tracing::warn!(pile = %eviction.pile, "too many evictions wait: one is left out");
            return;
        }
        due.extend(to.keys().map(|run| (now, eviction.pile, *run)));
        waiting.insert(eviction.pile, Waiting { eviction, to });
        drop(state);
        self.0.changed.notify_one();
    }
}

impl Evictions {
    /// `me` is this run.
    pub fn new(me: u64, members: Members) -> Self {
        Self(Arc::new(Inner { me, members, state: Mutex::default(), changed: Notify::new() }))
    }

    /// Sends, for as long as it is polled.
    pub async fn run(self, peers: Peers, sessions: Sessions) {
        let mut sending = JoinSet::new();
        loop {
            let room = AT_ONCE - sending.len();
            let (due, next) = self.take_due(Instant::now(), room);
            for Letter { eviction, to } in due {
                // As it is now: a pile that is heard all the time must not look silent because another node is slow.
                let heard_ms_ago = sessions.heard_ms_ago(eviction.pile, eviction.by);
                let in_its_name = heard_ms_ago.is_some() || eviction.whom != Whom::Anybody;
                let eviction = Eviction { heard_ms_ago: heard_ms_ago.unwrap_or(eviction.heard_ms_ago), ..eviction };
                let letter = Letter { eviction, to };
                let (members, peers) = (self.0.members.clone(), peers.clone());
                sending.spawn(async move {
                    // The guess has become a claim, or has ended: there is nothing to be told in its name.
                    let sent = if in_its_name { send(&members, &peers, letter).await } else { Sent::Gone };
                    (letter, sent)
                });
            }
            let next = next.filter(|_| sending.len() < AT_ONCE);
            let next_due = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = next_due => {}
                () = self.0.changed.notified() => {}
                Some(sent) = sending.join_next() => {
                    if let Ok((letter, sent)) = sent {
                        self.sent(letter, &sent, &sessions);
                    }
                }
            }
        }
    }

    /// What is to be sent now, and when to look again.
    fn take_due(&self, now: Instant, room: usize) -> (Vec<Letter>, Option<Instant>) {
        let mut letters = vec![];
        let mut state = self.lock();
        let State { waiting, due } = &mut *state;
        while letters.len() < room
            && let Some(&(at, pile, to)) = due.first()
            && at <= now
        {
            due.pop_first();
            let Some(there) = waiting.get_mut(&pile) else { continue };
            let Some(this) = there.to.get_mut(&to).filter(|this| this.at == Some(at)) else { continue };
            this.at = None;
            letters.push(Letter { eviction: there.eviction, to });
        }
        (letters, due.first().map(|(at, ..)| *at))
    }

    fn sent(&self, letter: Letter, sent: &Sent, sessions: &Sessions) {
        let Letter { eviction: Eviction { pile, by, .. }, to } = letter;
        match sent {
            Sent::Answered(evicted) => {
                let outcome = match evicted {
                    Evicted::Ended => "ended",
                    Evicted::NotHere => "not_here",
                    Evicted::HeardLater => "heard_later",
                };
                observe::eviction(outcome);
                tracing::info!(%pile, epoch = by.epoch.0, outcome, "older session elsewhere");
                self.done(pile, by, to);
                if matches!(evicted, Evicted::HeardLater) {
                    sessions.end_provisional(pile, by);
                }
            }
            Sent::Gone => {
                observe::eviction("gone");
                self.done(pile, by, to);
            }
            Sent::Failed => {
                observe::eviction("again");
                let mut state = self.lock();
                let State { waiting, due } = &mut *state;
                let there = waiting.get_mut(&pile).filter(|there| there.eviction.by == by);
                if let Some(this) = there.and_then(|there| there.to.get_mut(&to)) {
                    let at = Instant::now() + this.pause;
                    *this = Try { at: Some(at), pause: (this.pause * 2).min(LONGEST_PAUSE) };
                    due.insert((at, pile, to));
                }
            }
        }
    }

    fn done(&self, pile: PileCode, by: Fence, to: u64) {
        let mut state = self.lock();
        if let Some(there) = state.waiting.get_mut(&pile).filter(|there| there.eviction.by == by) {
            there.to.remove(&to);
            if there.to.is_empty() {
                state.waiting.remove(&pile);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // After a panic while the lock was held an entry may be in one of the two only: it is passed over, or kept until
        // the pile logs in again.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send(members: &Members, peers: &Peers, letter: Letter) -> Sent {
    let member = match members.find(letter.to).await {
        Found::Living(member) => member,
        Found::Gone => return Sent::Gone,
        Found::Unknown => return Sent::Failed,
    };
    let answer = match peers.to(&member) {
        Ok(peer) => peer.evict(message::write_eviction(&letter.eviction), Instant::now() + PATIENCE).await,
        Err(failed) => Err(failed),
    };
    match answer.map(message::read_evicted) {
        Ok(Ok(evicted)) => Sent::Answered(evicted),
        // It has answered; asking again would not make the answer clearer.
        Ok(Err(unreadable)) => {
            tracing::warn!(node = %member.node, %unreadable, "an eviction was answered with what nobody understands");
            Sent::Answered(Evicted::NotHere)
        }
        Err(failed) => {
            let failed: Failed = failed;
            tracing::debug!(node = %member.node, ?failed, "an eviction was not answered");
            Sent::Failed
        }
    }
}

/// Piles of which something is to be told.
const MOST: usize = 100_000;
const AT_ONCE: usize = 64;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Config;
    use crate::domain::{Epoch, SessionId};
    use crate::store::embedded::{self, Embedded};
    use crate::store::ledger::Ledger;
    use crate::store::{Member, PARTITIONS};

    const ME: u64 = 1;

    fn evictions(dir: &std::path::Path) -> Evictions {
        let store = Embedded::open(embedded::Config { partitions: PARTITIONS, ..embedded::Config::new(dir.join("s")) });
        let me = Member {
            incarnation: ME,
            node: "a".into(),
            peer: "127.0.0.1:1".into(),
            version: String::new(),
            draining: false,
            started_at_ms: 0,
        };
        let ledger = Ledger::new(Arc::new(store.expect("a store")));
        Evictions::new(ME, Members::new(Config::default(), ledger, me))
    }

    fn eviction(epoch: u64, whom: Whom) -> Eviction {
        let by = Fence { session: SessionId { incarnation: ME, counter: epoch }, epoch: Epoch(epoch) };
        Eviction { pile: "32010600019236".parse().expect("a pile"), by, heard_ms_ago: 5, whom }
    }

    fn due(evictions: &Evictions) -> Vec<(u64, u64)> {
        let (letters, _) = evictions.take_due(Instant::now(), AT_ONCE);
        letters.iter().map(|letter| (letter.eviction.by.epoch.0, letter.to)).collect()
    }

    #[tokio::test]
    async fn only_the_newest_login_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let evictions = evictions(dir.path());
        evictions.evict(eviction(2, Whom::Run(7)));
        evictions.evict(eviction(3, Whom::Run(8)));
        evictions.evict(eviction(1, Whom::Run(9)));
        assert_eq!(due(&evictions), [(3, 8)]);
        assert_eq!(due(&evictions), [], "it is under way");
        // A session of this very run ends without a word from elsewhere; and nobody is there to be asked for all.
        evictions.evict(eviction(4, Whom::Run(ME)));
        evictions.evict(eviction(4, Whom::Anybody));
        assert_eq!(due(&evictions), []);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_asked_again_later_and_later() {
        let dir = tempfile::tempdir().expect("a directory");
        let (evictions, sessions) = (evictions(dir.path()), Sessions::new(ME));
        evictions.evict(eviction(2, Whom::Run(7)));
        let mut pauses = vec![];
        for _ in 0..7 {
            let (letters, _) = evictions.take_due(Instant::now(), AT_ONCE);
            let [letter] = letters[..] else { panic!("{letters:?}") };
            evictions.sent(letter, &Sent::Failed, &sessions);
            let (early, next) = evictions.take_due(Instant::now(), AT_ONCE);
            assert_eq!(early, []);
            let pause = next.expect("again") - Instant::now();
            pauses.push(pause.as_millis());
            tokio::time::advance(pause).await;
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
        let (letters, _) = evictions.take_due(Instant::now(), AT_ONCE);
        evictions.sent(letters[0], &Sent::Answered(Evicted::NotHere), &sessions);
        assert!(evictions.lock().waiting.is_empty() && evictions.lock().due.is_empty());
    }
}
