//! Which partitions are a consumer's: what it is to have, and what it has.
//!
//! ```text
//!   group document ──look──▶ whose each partition is to be ──▶ take, give back, look whether it still is (cursor documents)
//!                                                                 │
//!                                             Consumer: what it believes that it holds ──▶ flight
//! ```
//!
//! The group's document says whose a partition is *to be*, its cursor's document whose it *is*; a consumer has a belief of
//! the second, and delivers by that. So that the three come to agree, whatever has happened:
//!
//! * Who is not to have a partition gives it back: when what was delivered of it is acknowledged, or a moment later.
//! * Who is to have it takes it: when it is nobody's, or its holder does not give it back for long, or its holder is not in
//!   the group. The last two only if the group's document, read *after* the cursor, is still the one that is acted on: a
//!   holder that is not in an older one may have come since.
//! * A belief is looked after: at every look where something is in flight; everywhere when the group's document has
//!   changed, or this consumer was not in it, or has not looked for long; and of all others a few at every look, by turns,
//!   since a write that was slow may come after all of these. One that finds another lease in the document ends.
//! * Nobody is removed from a group while it lives: see [`Gone`]. Whoever is removed all the same enters again.
//!
//! When nobody comes, goes or fails any more, the first ends what is held wrongly, the third what is believed wrongly, and
//! the second does the rest; nothing then changes a thing. `tests/sharing.rs` holds it to that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};

use super::cursor;
use super::error::GroupError;
use super::holding::{Consumer, Held};
use super::registry::Registry;
use crate::store::document::{ConsumerId, Group, GroupCursor};
use crate::store::{Partition, StoreError};

/// Which of them are consumers no more. They were in a group's document that was read before this is asked, so each has
/// had its node's lease before: whoever has none *now* is gone.
pub type Gone = dyn Fn(Vec<ConsumerId>) -> BoxFuture<'static, Vec<ConsumerId>> + Send + Sync;

pub struct Share {
    consumer: Arc<Consumer>,
    registry: Registry,
    /// As it was last seen, and its version.
    group: Group,
    version: Option<u64>,
    gone: Arc<Gone>,
    /// Since when a partition that is to be this one's is held by another.
    waiting: BTreeMap<Partition, Instant>,
    /// Since when one is to be given back.
    leaving: BTreeMap<Partition, Instant>,
    /// When the last look that saw the group began.
    looked: Option<Instant>,
    /// Whose turn it is to be looked after.
    turn: u16,
    /// How soon acknowledgements that went through other nodes are looked for while nothing else can be delivered.
    pause: Duration,
}

/// What became of a partition at a look.
enum Step {
    /// As it is to be.
    Done,
    /// The same, and acknowledged further than was known: through another node.
    Further,
    /// Not yet.
    Waits,
    Failed(StoreError),
}

impl Share {
    pub fn new(consumer: Arc<Consumer>, registry: Registry, group: Group, gone: Arc<Gone>) -> Self {
        let (waiting, leaving) = (BTreeMap::new(), BTreeMap::new());
        let (version, looked, turn, pause) = (None, None, 0, LOOK_EVERY);
        Self { consumer, registry, group, version, gone, waiting, leaving, looked, turn, pause }
    }

    /// Until the group is no more.
    pub async fn run(mut self) -> Result<(), GroupError> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut full = self.consumer.full.subscribe();
        let consumer = self.consumer.clone();
        loop {
            let pause = self.pause;
            let stalled = async {
                if full.wait_for(|full| *full).await.is_ok() {
                    sleep(pause).await;
                }
            };
            tokio::select! {
                () = consumer.look.notified() => self.look(&mut looks).await?,
                _ = looks.tick() => self.look(&mut looks).await?,
                () = stalled => self.look_for_acknowledgements().await,
            }
        }
    }

    async fn look(&mut self, looks: &mut Interval) -> Result<(), GroupError> {
        match self.look_at_group().await {
            Ok(true) => {}
            Ok(false) => looks.reset_after(LOOK_AGAIN),
            Err(GroupError::Store(error)) => {
                // What is held is delivered all the same.
                tracing::debug!(group = self.group.name, %error, "a group cannot be looked at");
            }
            Err(
                error @ (GroupError::Unknown(_)
                | GroupError::Full { .. }
                | GroupError::CursorUnknown { .. }
                | GroupError::CursorNotYours { .. }),
            ) => return Err(error),
        }
        Ok(())
    }

    /// Whether everything is as it should be, so that the next look can wait.
    async fn look_at_group(&mut self) -> Result<bool, GroupError> {
        let (began, me, registry) = (Instant::now(), self.consumer.id, self.registry.clone());
        let name = self.group.name.clone();
        let unknown = || GroupError::Unknown(name.clone());
        let Some(found) = registry.stored(&name).await? else {
            // A group that was deleted says so: this one was lost, and with it its cursors.
            let held: Vec<_> = self.consumer.held().iter().map(|(at, held)| (*at, held.lease)).collect();
            for (partition, lease) in held {
                self.consumer.lose(partition, lease);
            }
            registry.restore(&self.group, me).await?;
            return Ok(false);
        };
        let (mut group, mut version) = found;
        if group.deleted || group.birth != self.consumer.birth {
            return Err(unknown());
        }
        let others: Vec<_> = group.consumers.iter().copied().filter(|id| *id != me).collect();
        let gone = if others.is_empty() { vec![] } else { (self.gone)(others).await };
        if !gone.is_empty() {
            (group, version) = registry.remove(&name, group.birth, &gone).await?.ok_or_else(unknown)?;
        }
        let absent = !group.consumers.contains(&me);
        if absent {
            (group, version) = registry.enter(&name, group.birth, me).await?.ok_or_else(unknown)?;
        }
        let late = self.looked.is_none_or(|before| before.elapsed() >= LATE);
        let doubtful = absent || late || self.version != Some(version) || self.group != group;
        (self.group, self.version, self.looked) = (group, Some(version), Some(began));
        Ok(self.agree(doubtful).await)
    }

    /// Takes, gives back and looks after, all partitions at once: one that fails or hangs keeps no other waiting. Whether
    /// all is as it is to be.
    async fn agree(&mut self, doubtful: bool) -> bool {
        let me = self.consumer.id;
        let held = self.consumer.held().clone();
        let mine = |at: &Partition| self.group.assigned.get(usize::from(at.0)) == Some(&Some(me));
        let now = Instant::now();
        let partitions = (0..self.registry.store.partitions()).map(Partition);
        let wanted: Vec<_> = partitions.filter(|at| mine(at) && !held.contains_key(at)).collect();
        let leaving = held.keys().filter(|at| !mine(at) || self.leaving.contains_key(at)).copied();
        // What was begun is ended: one that is to be this one's again meanwhile is given back, and taken.
        let leaving = leaving.map(|at| (at, self.leaving.get(&at).copied().unwrap_or(now))).collect();
        let waiting = wanted.iter().map(|at| (*at, self.waiting.get(at).copied().unwrap_or(now))).collect();
        // Whoever has it from now on knows better.
        self.consumer.remembered().retain(|at, _| mine(at));
        (self.leaving, self.waiting) = (leaving, waiting);

        let total = self.registry.store.partitions();
        let (turn, each) = (self.turn, total.div_ceil(TURNS));
        self.turn = (turn + each) % total.max(1);
        let steps = held.iter().map(|(at, held)| {
            let (at, held) = (*at, held.clone());
            let its_turn = (at.0 + total - turn) % total < each;
            let since = self.leaving.get(&at).copied();
            let it = &*self;
            Box::pin(async move {
                match since {
                    Some(since) => it.give_back(at, &held, since).await,
                    None if doubtful || its_turn || is_open(&held) => {
                        let further = it.look_after(at, &held).await;
                        further.map(|further| if further { Step::Further } else { Step::Done })
                    }
                    None => Ok(Step::Done),
                }
                .unwrap_or_else(Step::Failed)
            }) as BoxFuture<'_, Step>
        });
        let takes = wanted.iter().map(|at| {
            let it = &*self;
            let at = *at;
            Box::pin(async move { it.take(at).await.unwrap_or_else(Step::Failed) }) as BoxFuture<'_, Step>
        });
        let steps = join_all(steps.chain(takes)).await;
        let (mut all, mut failed) = (true, None);
        for step in steps {
            match step {
                Step::Done => {}
                Step::Further => self.pause = LOOK_WHEN_FULL,
                Step::Waits => all = false,
                Step::Failed(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed {
            // The others are as they should be, and these have their turn at the next look.
            tracing::debug!(group = self.group.name, %error, "a group's partitions cannot all be looked at");
        }
        all
    }

    /// What is acknowledged through other nodes, which make no room here, and where it is refused because somebody else has
    /// the partition. Whether it is this one's, and further than was known.
    async fn look_after(&self, partition: Partition, held: &Arc<Held>) -> Result<bool, StoreError> {
        let mut stored = held.stored.lock().await;
        let now = cursor::stored(&*self.registry.store, &self.group, partition, None).await?;
        if now.0.lease != held.lease || now.0.holder != Some(self.consumer.id) {
            self.consumer.lose(partition, held.lease);
            return Ok(false);
        }
        let further = held.note_acknowledged(now.0.acknowledged);
        *stored = Some(now);
        if further {
            self.consumer.moved.notify_one();
        }
        Ok(further)
    }

    /// They go through other nodes, or there are none: then it is looked for less and less often.
    async fn look_for_acknowledgements(&mut self) {
        let held = self.consumer.held().clone();
        let open = held.iter().filter(|(_, held)| is_open(held));
        let looked = join_all(open.map(|(at, held)| self.look_after(*at, held))).await;
        let some = looked.iter().any(|further| matches!(further, Ok(true)));
        self.pause = if some { LOOK_WHEN_FULL } else { (2 * self.pause).min(LOOK_EVERY) };
    }

    async fn give_back(&self, partition: Partition, held: &Arc<Held>, since: Instant) -> Result<Step, StoreError> {
        held.close();
        self.consumer.moved.notify_one();
        if is_open(held) && since.elapsed() < GIVE_BACK_AFTER {
            self.look_after(partition, held).await?;
            if is_open(held) {
                return Ok(Step::Waits);
            }
        }
        let mut stored = held.stored.lock().await;
        let known = stored.take();
        let (group, holder) = ((&*self.group.name, self.group.birth), (self.consumer.id, held.lease));
        let delivered = held.progress().delivered.offset;
        cursor::give_back(&*self.registry.store, group, partition, holder, delivered, known).await?;
        self.consumer.give_up(partition, held.lease);
        // If it is to be this one's again meanwhile, it is taken at the next look.
        let again = self.group.assigned.get(usize::from(partition.0)) == Some(&Some(self.consumer.id));
        Ok(if again { Step::Waits } else { Step::Done })
    }

    async fn take(&self, partition: Partition) -> Result<Step, StoreError> {
        let (store, group, me) = (&*self.registry.store, &self.group, self.consumer.id);
        let remembered = self.consumer.remembered().get(&partition).copied();
        let otherwise = remembered.map(|before| before.acknowledged);
        let (cursor, version) = cursor::stored(store, group, partition, otherwise).await?;
        if let Some(other) = cursor.holder.filter(|holder| *holder != me) {
            let waited = self.waiting.get(&partition).map_or(Duration::ZERO, Instant::elapsed);
            if group.consumers.contains(&other) && waited < TAKE_AFTER {
                return Ok(Step::Waits);
            }
            let now = self.registry.stored(&group.name).await?;
            if now.map(|(_, version)| version) != self.version {
                return Ok(Step::Waits);
            }
        }
        let taken = GroupCursor { holder: Some(me), lease: self.registry.next_lease(cursor.lease), ..cursor };
        let Some(version) = cursor::replace(store, &group.name, partition, &taken, version).await? else {
            return Ok(Step::Waits);
        };
        // Another lease since: whoever had it answers for what it delivered.
        let check = remembered.filter(|before| cursor.lease <= before.lease).map(|before| before.delivered);
        self.consumer.remembered().remove(&partition);
        self.consumer.hold(partition, (taken, Some(version)), cursor.delivered, check);
        Ok(Step::Done)
    }
}

/// Whether something was delivered that is not acknowledged, as far as is known here.
fn is_open(held: &Held) -> bool {
    let progress = held.progress();
    progress.acknowledged.offset < progress.delivered.offset
}

/// How soon a consumer finds out that others have come or gone on other nodes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same while something changes hands.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Acknowledgements through other nodes, while they come and are waited for.
const LOOK_WHEN_FULL: Duration = Duration::from_millis(20);
/// What was delivered of a partition that is to be given back may be acknowledged for so long.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(2);
/// A partition that is not given back for so long is taken.
const TAKE_AFTER: Duration = Duration::from_secs(5);
/// Who has not looked for so long may have lost everything; less than [`TAKE_AFTER`].
const LATE: Duration = Duration::from_secs(3);
/// Within so many looks every belief is looked after.
const TURNS: u16 = 16;
