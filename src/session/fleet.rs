//! What a node does with its sessions as a whole: it says that they are still there, gives up those that are elsewhere,
//! hands them all over before it goes, and notices when it stood still.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::io::{EndReason, Patience, Reassertion};
use super::neighbours::{Evicted, Eviction, Whom};
use super::{Handle, Letter, Link, Pulse, Sessions, deliver, lock};
use crate::domain::{Epoch, Fence, PileCode, SessionId};
use std::sync::{Arc, Mutex};

/// What became of piles that were said to be ours.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reasserted {
    pub kept: usize,
    /// Somebody newer has them, or they have left meanwhile.
    pub lost: usize,
    /// The store does not say. Their sessions ask it again by themselves.
    pub unknown: Vec<PileCode>,
}

/// Saying again that piles are ours.
impl Sessions {
    /// Claims again the piles that are here, each in its turn behind what its session has begun; `true` if the store may
    /// have lost writes of the pile. Ends what somebody newer has. Provisional sessions are claimed anyway, so that they
    /// count as unknown.
    pub async fn reassert(&self, piles: Vec<(PileCode, bool)>) -> Reasserted {
        let answers =
            stream::iter(piles).map(|(pile, anew)| async move { (pile, self.reassert_one(pile, anew).await) });
        let mut answers = std::pin::pin!(answers.buffer_unordered(REASSERTED_AT_ONCE));
        let mut all = Reasserted::default();
        while let Some((pile, answer)) = answers.next().await {
            match answer {
                Reassertion::Kept => all.kept += 1,
                Reassertion::Lost => all.lost += 1,
                Reassertion::Unknown => all.unknown.push(pile),
            }
        }
        all
    }

    async fn reassert_one(&self, pile: PileCode, anew: bool) -> Reassertion {
        let Some(handle) = self.shard(pile).get(&pile).cloned() else { return Reassertion::Lost };
        let (reply, answer) = oneshot::channel();
        deliver(&handle, Letter::Reassert { pile, fence: handle.fence, anew, reply });
        match timeout(REASSERTION, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_gone)) => Reassertion::Lost,
            Err(_elapsed) => Reassertion::Unknown,
        }
    }
}

/// Piles that are elsewhere.
impl Sessions {
    /// The pile has logged in on another node: ends its session here if that is the older one.
    pub fn evict(&self, eviction: Eviction) -> Evicted {
        let Eviction { pile, by, whom, heard_ms_ago } = eviction;
        let there = self.shard(pile).get(&pile).filter(|there| there.fence.session != by.session).cloned();
        let Some(handle) = there else { return Evicted::NotHere };
        let reason = match whom {
            // What is a guess here cannot be compared with what the store said: it will say it here too.
            Whom::Run(_) if handle.fence.epoch >= by.epoch => return Evicted::NotHere,
            Whom::Run(_) => EndReason::TakenOver,
            Whom::Anybody if handle.link.heard_ms_ago() < heard_ms_ago => return Evicted::HeardLater,
            Whom::Anybody => EndReason::HeardElsewhere,
        };
        deliver(&handle, Letter::Evict { pile, fence: handle.fence, reason });
        Evicted::Ended
    }

    /// Another node has heard the pile later than the session here that was known as `by`: ends it, unless it has claimed
    /// the pile meanwhile.
    pub fn end_provisional(&self, pile: PileCode, by: Fence) {
        let here = self.shard(pile).get(&pile).filter(|there| there.provisional && there.fence == by).cloned();
        if let Some(handle) = here {
            deliver(&handle, Letter::Evict { pile, fence: handle.fence, reason: EndReason::HeardElsewhere });
        }
    }

    /// How long ago the session `fence` has heard the pile; `None` if it is not here (any more), and nobody is to be
    /// evicted in its name.
    pub fn heard_ms_ago(&self, pile: PileCode, fence: Fence) -> Option<u64> {
        let shard = self.shard(pile);
        shard.get(&pile).filter(|there| there.fence == fence).map(|there| there.link.heard_ms_ago())
    }

    /// Makes the session findable whose claim the store could not answer: under `guess`, or just above the session it
    /// takes the pile from. `None` if a newer login of the pile is there.
    pub(super) fn register_guess(&self, pile: PileCode, guess: Fence, link: Arc<Link>) -> Option<Fence> {
        let (fence, replaced) = {
            let mut shard = self.shard(pile);
            let there = shard.get(&pile);
            if there.is_some_and(|there| is_newer(there.fence.session, guess.session)) {
                return None;
            }
            let above = there.map_or(0, |there| there.fence.epoch.0 + 1);
            let fence = Fence { epoch: Epoch(guess.epoch.0.max(above)), ..guess };
            (fence, shard.insert(pile, Handle { fence, provisional: true, link }))
        };
        if let Some(old) = replaced {
            deliver(&old, Letter::Evict { pile, fence: old.fence, reason: EndReason::HeardElsewhere });
        }
        Some(fence)
    }

    /// Makes `handle` the pile's session unless a newer one is there, and tells the one it replaces. `None` if it came
    /// too late, otherwise whether there was one.
    pub(super) fn register(&self, pile: PileCode, handle: Handle) -> Option<bool> {
        let fence = handle.fence;
        let replaced = {
            let mut shard = self.shard(pile);
            match shard.get(&pile) {
                // The same, under another fence.
                Some(there) if there.fence.session == fence.session => {}
                // A guess says nothing about who was first; the order of logins does.
                Some(there) if there.provisional && is_newer(there.fence.session, fence.session) => return None,
                // Claims finish in any order, the epoch decides.
                Some(there) if !there.provisional && there.fence.epoch > fence.epoch => return None,
                Some(_) | None => {}
            }
            shard.insert(pile, handle)
        };
        let old = replaced.filter(|old| old.fence.session != fence.session);
        if let Some(old) = &old {
            deliver(old, Letter::Evict { pile, fence: old.fence, reason: EndReason::TakenOver });
        }
        Some(old.is_some())
    }
}

/// Going down.
impl Sessions {
    /// Ends sessions at this pace, so that their piles come to other nodes one after another: first those whose guns do
    /// nothing, then all others, each as soon as no start or stop of it waits for its answer. Nothing is reported offline:
    /// whoever sweeps up after this node watches over piles that do not come back. Returns when all have ended, or at
    /// the deadline. A pace of 0 ends nothing.
    pub async fn drain(&self, rate_per_s: u32, deadline: Instant) {
        if rate_per_s == 0 {
            return;
        }
        // Timers are not exact enough for more turns a second.
        let at_once = (rate_per_s / TURNS_PER_S).max(1);
        let mut turn = interval(Duration::from_secs(1) * at_once / rate_per_s);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for patience in [Patience::Idle, Patience::Answers] {
            for some in self.handles().chunks(at_once as usize) {
                turn.tick().await;
                if Instant::now() >= deadline {
                    return;
                }
                for (pile, handle) in some {
                    deliver(handle, Letter::Drain { pile: *pile, fence: handle.fence, patience });
                }
            }
        }
        while self.count() > 0 && Instant::now() < deadline {
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Ends every session at once; each still brings to the store what it has for it.
    pub(super) fn shut_down(&self) {
        for (_, handle) in self.handles() {
            deliver(&handle, Letter::Shutdown);
        }
    }

    fn handles(&self) -> Vec<(PileCode, Handle)> {
        let all = |shard: &HashMap<PileCode, Handle>| {
            shard.iter().map(|(pile, handle)| (*pile, handle.clone())).collect::<Vec<_>>()
        };
        self.0.shards.iter().flat_map(|shard| all(&lock(shard))).collect()
    }
}

/// Standing still.
impl Sessions {
    /// To be called every [`BEAT`]: time that is missing between two calls is time in which nothing ran here.
    pub(super) fn beat(&self, now: Duration) {
        let now = now.as_millis() as u64;
        let before = self.0.beat.load(Ordering::Acquire);
        // Counted first: who looks in between sees one too many rather than none.
        if now.saturating_sub(before) > STOOD_STILL_MS {
            self.0.standstills.fetch_add(1, Ordering::AcqRel);
        }
        self.0.beat.store(now, Ordering::Release);

        let now = Instant::now();
        let mut pulse = lock(&self.0.pulse);
        let catches_up_until = match *pulse {
            Some(Pulse { last, .. }) if now - last > STOOD_STILL => Some(now + CATCHING_UP),
            Some(Pulse { catches_up_until, .. }) => catches_up_until,
            None => None,
        };
        *pulse = Some(Pulse { last: now, catches_up_until });
    }

    /// Whether this node stands still, or did a moment ago. A caller's request says how long it may take and not since
    /// when: one that lay in a socket meanwhile may be older than its caller's patience, and looks new.
    pub fn catches_up(&self) -> bool {
        let now = Instant::now();
        lock(&self.0.pulse).is_some_and(|Pulse { last, catches_up_until }| {
            now.saturating_duration_since(last) > STOOD_STILL || catches_up_until.is_some_and(|until| now < until)
        })
    }

    /// How often this node has stood still for more than a second. What lay in sockets then may say that a pile has
    /// gone, so that whoever sees a new number reads first.
    pub(super) fn standstills(&self, now: Duration) -> u64 {
        let now = now.as_millis() as u64;
        let stands = now.saturating_sub(self.0.beat.load(Ordering::Acquire)) > STOOD_STILL_MS;
        self.0.standstills.load(Ordering::Acquire) + u64::from(stands)
    }
}

/// Two devices with one pile code.
impl Sessions {
    /// Whether to tell that a device was turned away because of its pile code: not if that was told lately. Pile codes
    /// are for anybody to make up, so there is room for some only.
    pub(super) fn tells_duplicate(&self, pile: PileCode, now: Duration) -> bool {
        tells(&self.0.duplicates, pile, now)
    }

    /// The same of a pile that may not log in: it tries again and again.
    pub(super) fn tells_refused(&self, pile: PileCode, now: Duration) -> bool {
        tells(&self.0.refused, pile, now)
    }

    /// Whether the pile has logged in here after `session` was begun.
    pub(super) fn has_newer(&self, pile: PileCode, session: SessionId) -> bool {
        self.live(pile).is_some_and(|live| is_newer(live.fence.session, session))
    }
}

fn tells(told: &Mutex<HashMap<PileCode, Duration>>, pile: PileCode, now: Duration) -> bool {
    let mut told = lock(told);
    told.retain(|_, at| now.saturating_sub(*at) < TOLD_AGAIN);
    if told.contains_key(&pile) || told.len() >= MAX_TOLD {
        return false;
    }
    told.insert(pile, now);
    true
}

/// Of two sessions of one run.
fn is_newer(this: SessionId, than: SessionId) -> bool {
    this.incarnation == than.incarnation && this.counter > than.counter
}

/// How often [`Sessions::beat`] is called.
pub(super) const BEAT: Duration = Duration::from_millis(250);
const STOOD_STILL_MS: u64 = 1000;
const STOOD_STILL: Duration = Duration::from_millis(STOOD_STILL_MS);
/// Far longer than reading what lies in the sockets of callers takes.
const CATCHING_UP: Duration = Duration::from_secs(1);
const REASSERTED_AT_ONCE: usize = 64;
/// How long a session may take to say whether a pile is still ours: what it has begun comes first.
const REASSERTION: Duration = Duration::from_secs(10);
const TURNS_PER_S: u32 = 50;
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const TOLD_AGAIN: Duration = Duration::from_mins(5);
const MAX_TOLD: usize = 1024;
