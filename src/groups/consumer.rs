//! One consumer of a group: a stream of one client, and the partitions that are its for now.
//!
//! ```text
//!   group document ──look──▶ whose is what ──▶ take, give back (cursor documents)
//!   feed, log ──▶ reading ──▶ outbox ──▶ the client ──Acknowledge──▶ cursor ──▶ room for more
//! ```
//!
//! It looks at the group's document every second, and at once when another consumer of this node has changed it; nothing is
//! asked for a partition in which nothing happens. A partition that is somebody else's from now on is given back when what
//! was delivered is acknowledged, or a moment later; until then the other waits, so that mostly nothing comes twice. Whoever
//! does not give back in time loses it all the same: the lease in the cursor's document decides whose word counts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, MissedTickBehavior};

use super::cursor::{self, Stored};
use super::error::GroupError;
use super::holding::{Consumer, Held};
use super::registry::Registry;
use crate::observe;
use crate::store::document::{ConsumerId, Group, GroupCursor};
use crate::store::{Entry, Gap, GapReason, Offset, Partition, Position, StoreError, recorded_at};

/// What a client is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delivery {
    Event {
        entry: Arc<Entry>,
        /// Behind the event, to be acknowledged.
        position: Position,
        /// Of the group, and of the lease it is delivered under.
        birth: u64,
        lease: u64,
    },
    Gap(Gap),
}

/// The task of a consumer.
pub struct Delivering {
    pub consumer: Arc<Consumer>,
    pub registry: Registry,
    /// As it was last seen.
    pub group: Group,
    pub max_in_flight: usize,
    pub queue: mpsc::Sender<Result<Delivery, GroupError>>,
    /// Whether a consumer is one no more, as far as can be told without asking.
    pub gone: Box<dyn Fn(ConsumerId) -> bool + Send + Sync>,
}

struct Running {
    it: Delivering,
    feed: broadcast::Receiver<Arc<Entry>>,
    reading: BTreeMap<Partition, Reading>,
    /// Partitions whose log has to be read before the feed means anything, the longest waiting first.
    behind: VecDeque<Partition>,
    outbox: VecDeque<Delivery>,
    leaving: BTreeMap<Partition, Leaving>,
    /// Since when a partition that is to be this one's is held by another.
    waiting: BTreeMap<Partition, Instant>,
    /// How far partitions had come that were lost without being given back: acknowledged, and delivered.
    remembered: BTreeMap<Partition, (Position, Position)>,
    /// The store does not answer: until the next look.
    away: bool,
}

struct Reading {
    held: Arc<Held>,
    acknowledged: Position,
    sent: Position,
    /// Delivered, oldest first. All together at most `max_in_flight`.
    unacknowledged: VecDeque<Offset>,
    newest: Offset,
    /// Up to here somebody has been delivered it before.
    again_until: Offset,
    /// What had been delivered when the partition was lost: whether that is still there has to be looked at.
    check: Option<Position>,
}

struct Leaving {
    held: Arc<Held>,
    since: Instant,
}

impl Delivering {
    /// Until the client goes, or the group.
    pub async fn run(self) -> Result<(), GroupError> {
        let feed = self.registry.store.feed();
        let running = Running {
            it: self,
            feed,
            reading: BTreeMap::new(),
            behind: VecDeque::new(),
            outbox: VecDeque::new(),
            leaving: BTreeMap::new(),
            waiting: BTreeMap::new(),
            remembered: BTreeMap::new(),
            away: false,
        };
        running.run().await
    }
}

impl Running {
    async fn run(mut self) -> Result<(), GroupError> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let queue = self.it.queue.clone();
        loop {
            self.note_acknowledged();
            if self.outbox.is_empty() {
                self.fill().await;
            }
            tokio::select! {
                place = queue.reserve(), if !self.outbox.is_empty() => {
                    let Ok(place) = place else { return Ok(()) };
                    if let Some(delivery) = self.outbox.pop_front() {
                        place.send(Ok(delivery));
                    }
                }
                entry = self.feed.recv() => self.fed(entry),
                () = self.it.consumer.moved.notified() => {}
                () = self.it.consumer.look.notified() => self.look(&mut looks).await?,
                _ = looks.tick() => self.look(&mut looks).await?,
                () = queue.closed() => return Ok(()),
            }
        }
    }

    fn fed(&mut self, entry: Result<Arc<Entry>, RecvError>) {
        match entry {
            Ok(entry) => {
                let room = self.room();
                let (partition, waits) = (entry.partition, self.behind.contains(&entry.partition));
                let Some(reading) = self.reading.get_mut(&partition) else { return };
                reading.newest = reading.newest.max(entry.offset);
                if entry.offset <= reading.sent.offset || waits {
                    return;
                }
                if entry.offset == reading.sent.offset + 1 && room > 0 && self.outbox.len() < READ_AT_ONCE {
                    self.outbox.push_back(reading.send(entry, &self.it.group));
                } else {
                    self.behind.push_back(partition);
                }
            }
            Err(RecvError::Lagged(_)) => self.behind = self.reading.keys().copied().collect(),
            // A store that cannot stand by what its feed has told ends it.
            Err(RecvError::Closed) => {
                self.feed = self.it.registry.store.feed();
                self.behind = self.reading.keys().copied().collect();
            }
        }
    }

    /// Reads what is next of the partition that has waited longest.
    async fn fill(&mut self) {
        while self.outbox.is_empty() && !self.away {
            let room = self.room();
            if room == 0 {
                return;
            }
            let Some(partition) = self.behind.pop_front() else { return };
            let Some(reading) = self.reading.get(&partition) else { continue };
            if let Some(delivered) = reading.check {
                self.look_whether_lost(partition, delivered).await;
                continue;
            }
            let limit = room.min(READ_AT_ONCE);
            match reading.sent.read_on(&*self.it.registry.store, partition, limit).await {
                Ok((gap, entries)) => {
                    if entries.len() == limit {
                        self.behind.push_back(partition);
                    }
                    self.take_in(partition, gap, entries).await;
                }
                Err(error) => {
                    tracing::debug!(%partition, %error, "events cannot be read");
                    self.behind.push_front(partition);
                    self.away = true;
                }
            }
        }
    }

    /// What was delivered and not acknowledged may be lost without a trace, since the cursor has not seen it.
    async fn look_whether_lost(&mut self, partition: Partition, delivered: Position) {
        self.behind.push_front(partition);
        match delivered.read_on(&*self.it.registry.store, partition, 1).await {
            Ok((gap, _)) => {
                if let Some(reading) = self.reading.get_mut(&partition) {
                    reading.check = None;
                }
                let lost = gap.filter(|gap| gap.reason == GapReason::Lost);
                self.take_in(partition, lost, vec![]).await;
            }
            Err(error) => {
                tracing::debug!(%partition, %error, "events cannot be read");
                self.away = true;
            }
        }
    }

    async fn take_in(&mut self, partition: Partition, gap: Option<Gap>, entries: Vec<Arc<Entry>>) {
        if let Some(gap) = gap {
            let Gap { partition: _, from, to, reason } = gap;
            // Offsets of the log that is lost say nothing any more: those of the new one have to count.
            if reason == GapReason::Lost && !self.begin_again(partition, gap).await {
                return;
            }
            let name = &self.it.group.name;
            tracing::warn!(group = name, %partition, from, to, reason = reason.name(), "a group misses events");
            observe::events_gap(name, reason.name());
            self.outbox.push_back(Delivery::Gap(gap));
        }
        let Some(reading) = self.reading.get_mut(&partition) else { return };
        for entry in entries {
            self.outbox.push_back(reading.send(entry, &self.it.group));
        }
    }

    /// Puts the cursor where a log that was lost goes on, under a new lease; it says so until something behind it is
    /// acknowledged. False if the partition is not held any more.
    async fn begin_again(&mut self, partition: Partition, gap: Gap) -> bool {
        let Some(reading) = self.reading.get(&partition) else { return false };
        let held = reading.held.clone();
        let on = Position { offset: gap.from - 1, ..Position::START };
        let known = held.stored.lock().await.take();
        let Some((cursor, version)) = known else {
            self.drop_partition(partition);
            return false;
        };
        let lease = self.next_lease(cursor.lease);
        let lost_to = cursor.lost_to.max(Some(gap.to));
        let anew = GroupCursor { acknowledged: on, delivered: on.offset, lease, lost_to, ..cursor };
        let (store, name) = (&*self.it.registry.store, &self.it.group.name);
        if let Ok(Some(version)) = cursor::replace(store, name, partition, &anew, version).await {
            self.hold(partition, (anew, Some(version)), on.offset);
            return true;
        }
        // Without its document, or with another one: it is taken again.
        self.drop_partition(partition);
        false
    }

    /// What is the group's, and what of it is this one's.
    async fn look(&mut self, looks: &mut tokio::time::Interval) -> Result<(), GroupError> {
        match self.look_at_group().await {
            Ok(true) => {}
            Ok(false) => looks.reset_after(LOOK_AGAIN),
            Err(GroupError::Store(error)) => {
                // What is held is delivered all the same.
                tracing::debug!(group = self.it.group.name, %error, "a group cannot be looked at");
            }
            Err(
                error @ (GroupError::Unknown(_)
                | GroupError::Full { .. }
                | GroupError::CursorUnknown { .. }
                | GroupError::CursorNotYours { .. }),
            ) => return Err(error),
        }
        let open = self
            .reading
            .values()
            .map(|reading| reading.newest.max(reading.sent.offset).saturating_sub(reading.acknowledged.offset));
        observe::events_unacknowledged(&self.it.group.name, open.sum());
        Ok(())
    }

    /// Whether everything is as it should be, so that the next look can wait.
    async fn look_at_group(&mut self) -> Result<bool, GroupError> {
        let (me, registry) = (self.it.consumer.id, self.it.registry.clone());
        let name = self.it.group.name.clone();
        let unknown = || GroupError::Unknown(name.clone());
        let Some((group, _)) = registry.stored(&name).await? else {
            // A group that was deleted says so: this one was lost, and with it its cursors.
            let held: Vec<_> = self.reading.keys().copied().collect();
            for partition in held {
                self.drop_partition(partition);
            }
            registry.restore(&self.it.group, me).await?;
            return Ok(false);
        };
        if group.deleted || group.birth != self.it.consumer.birth {
            return Err(unknown());
        }
        self.away = false;
        let gone: Vec<_> = group.consumers.iter().copied().filter(|id| *id != me && (self.it.gone)(*id)).collect();
        let mut group = group;
        if !gone.is_empty() {
            group = registry.remove(&name, group.birth, &gone).await?.ok_or_else(unknown)?;
        }
        if !group.consumers.contains(&me) {
            group = registry.enter(&name, group.birth, me).await?.ok_or_else(unknown)?;
        }
        self.it.group = group;
        self.drop_what_was_lost();
        self.give_back().await;
        let adopted = self.adopt_foreign_acknowledgements().await;
        let all_taken = self.take_what_is_mine().await?;
        adopted?;
        Ok(all_taken && self.leaving.is_empty())
    }

    /// Acknowledgements have found that others hold it.
    fn drop_what_was_lost(&mut self) {
        let held: Vec<_> = {
            let held = self.it.consumer.held();
            let is_held = |partition: &Partition, lease| held.get(partition).is_some_and(|held| held.lease == lease);
            self.leaving.retain(|partition, leaving| is_held(partition, leaving.held.lease));
            let lost = self.reading.iter().filter(|(partition, reading)| !is_held(partition, reading.held.lease));
            lost.map(|(partition, _)| *partition).collect()
        };
        for partition in held {
            self.drop_partition(partition);
        }
    }

    async fn give_back(&mut self) {
        let mine = |partition: &Partition| {
            self.it.group.assigned.get(usize::from(partition.0)).copied().flatten() == Some(self.it.consumer.id)
        };
        let others: Vec<_> = self.reading.keys().copied().filter(|partition| !mine(partition)).collect();
        for partition in others {
            if let Some(Reading { held, .. }) = self.reading.remove(&partition) {
                self.leaving.insert(partition, Leaving { held, since: Instant::now() });
            }
            // What the client has not been given it need not acknowledge.
            self.outbox.retain(|delivery| match delivery {
                Delivery::Event { entry, .. } => entry.partition != partition,
                Delivery::Gap(gap) => gap.partition != partition,
            });
        }
        let done = self.leaving.iter().filter(|(_, Leaving { held, since })| {
            let all = held.acknowledged.load(Ordering::Acquire) >= held.delivered.load(Ordering::Acquire);
            all || since.elapsed() >= GIVE_BACK_AFTER
        });
        let done: Vec<_> = done.map(|(partition, leaving)| (*partition, leaving.held.clone())).collect();
        let (registry, name) = (&self.it.registry, &self.it.group.name);
        let given = join_all(done.into_iter().map(|(partition, held)| async move {
            let known = held.stored.lock().await.take();
            let Some((cursor, version)) = known else { return Some(partition) };
            let delivered = held.delivered.load(Ordering::Acquire).max(cursor.delivered);
            let free = GroupCursor { holder: None, delivered, ..cursor };
            // Another one there: it is not this one's to give back any more.
            let given = cursor::replace(&*registry.store, name, partition, &free, version).await;
            given.is_ok().then_some(partition)
        }));
        for partition in given.await.into_iter().flatten() {
            self.leaving.remove(&partition);
            self.it.consumer.held().remove(&partition);
        }
    }

    /// Any node takes acknowledgements, and only that one hears that they are refused because somebody else has taken the
    /// partition: so this is looked for, room left or not.
    async fn adopt_foreign_acknowledgements(&mut self) -> Result<(), StoreError> {
        let (registry, group) = (&self.it.registry, &self.it.group);
        let open = self.reading.iter().filter(|(_, reading)| !reading.unacknowledged.is_empty());
        let asked = open.map(|(partition, reading)| async move {
            let mut stored = reading.held.stored.lock().await;
            let now = cursor::stored(&*registry.store, group, *partition, None).await?;
            let still = now.0.lease == reading.held.lease;
            if still {
                reading.held.acknowledged.store(now.0.acknowledged.offset, Ordering::Release);
                *stored = Some(now);
            }
            Ok((!still).then_some(*partition))
        });
        let asked = join_all(asked).await;
        for partition in asked.iter().flatten().flatten() {
            self.drop_partition(*partition);
        }
        asked.into_iter().try_for_each(|asked| asked.map(drop))
    }

    /// False if some of it is held by others.
    async fn take_what_is_mine(&mut self) -> Result<bool, StoreError> {
        let me = self.it.consumer.id;
        let mine = self.it.group.assigned.iter().enumerate().filter(|(_, whose)| **whose == Some(me));
        let wanted: Vec<_> = mine
            .map(|(number, _)| Partition(number as u16))
            .filter(|partition| !self.reading.contains_key(partition) && !self.leaving.contains_key(partition))
            .collect();
        let now = Instant::now();
        self.waiting.retain(|partition, _| wanted.contains(partition));
        for partition in &wanted {
            self.waiting.entry(*partition).or_insert(now);
        }
        let taking = wanted.iter().map(|partition| self.take(*partition));
        let taken = join_all(taking).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let all = taken.iter().all(Option::is_some);
        for (partition, stored) in wanted.into_iter().zip(taken).filter_map(|(at, taken)| Some((at, taken?))) {
            let (before, (now, version)) = stored;
            self.waiting.remove(&partition);
            self.hold(partition, (now, version), before.delivered);
            // Whoever was to be told may have gone before it was.
            let (from, reason) = (now.acknowledged.offset + 1, GapReason::Lost);
            self.outbox.extend(now.lost_to.map(|to| Delivery::Gap(Gap { partition, from, to, reason })));
            if let (Some((_, sent)), Some(reading)) =
                (self.remembered.remove(&partition), self.reading.get_mut(&partition))
            {
                reading.check = Some(sent);
            }
            self.behind.push_back(partition);
        }
        Ok(all)
    }

    /// The cursor before, and as it is now; `None` if somebody else holds it.
    async fn take(&self, partition: Partition) -> Result<Option<(GroupCursor, Stored)>, StoreError> {
        let (store, group, me) = (&*self.it.registry.store, &self.it.group, self.it.consumer.id);
        let remembered = self.remembered.get(&partition).map(|(acknowledged, _)| *acknowledged);
        let (cursor, version) = cursor::stored(store, group, partition, remembered).await?;
        let others = cursor.holder.filter(|holder| *holder != me && group.consumers.contains(holder));
        let waited = self.waiting.get(&partition).map_or(Duration::ZERO, Instant::elapsed);
        if others.is_some() && waited < TAKE_AFTER {
            return Ok(None);
        }
        let taken = GroupCursor { holder: Some(me), lease: self.next_lease(cursor.lease), ..cursor };
        let version = cursor::replace(store, &group.name, partition, &taken, version).await?;
        Ok(version.map(|version| (cursor, (taken, Some(version)))))
    }

    fn hold(&mut self, partition: Partition, stored: Stored, again_until: Offset) {
        let GroupCursor { acknowledged, lease, .. } = stored.0;
        let held = Arc::new(Held {
            lease,
            stored: tokio::sync::Mutex::new(Some(stored)),
            acknowledged: AtomicU64::new(acknowledged.offset),
            delivered: AtomicU64::new(acknowledged.offset),
        });
        self.it.consumer.held().insert(partition, held.clone());
        let unacknowledged = VecDeque::new();
        let (sent, newest) = (acknowledged, acknowledged.offset);
        self.reading
            .insert(partition, Reading { held, acknowledged, sent, unacknowledged, newest, again_until, check: None });
    }

    /// Somebody else's by now, or its document is lost.
    fn drop_partition(&mut self, partition: Partition) {
        if let Some(reading) = self.reading.remove(&partition) {
            let sent = reading.check.unwrap_or(reading.sent);
            self.remembered.insert(partition, (reading.acknowledged, sent));
        }
        self.it.consumer.held().remove(&partition);
        self.it.consumer.look.notify_one();
    }

    fn note_acknowledged(&mut self) {
        for reading in self.reading.values_mut() {
            let done = reading.held.acknowledged.load(Ordering::Acquire);
            while reading.unacknowledged.front().is_some_and(|offset| *offset <= done) {
                reading.unacknowledged.pop_front();
            }
            if done > reading.acknowledged.offset {
                // Its mark is in the document; here it only serves to begin again if that is lost.
                let mark = reading.sent.mark.filter(|_| done == reading.sent.offset);
                reading.acknowledged = Position { offset: done, mark, at: reading.sent.at };
            }
        }
    }

    fn room(&self) -> usize {
        let open: usize = self.reading.values().map(|reading| reading.unacknowledged.len()).sum();
        self.it.max_in_flight.saturating_sub(open)
    }

    /// Above all before, those that the store has lost among them: as clocks go on, and the one before plus one.
    fn next_lease(&self, lease: u64) -> u64 {
        (lease + 1).max((self.it.registry.now)().0.unsigned_abs())
    }
}

impl Reading {
    fn send(&mut self, entry: Arc<Entry>, group: &Group) -> Delivery {
        self.sent = Position::behind(&entry, recorded_at(&entry, self.sent.at));
        self.unacknowledged.push_back(entry.offset);
        self.newest = self.newest.max(entry.offset);
        self.held.delivered.store(entry.offset, Ordering::Release);
        observe::event_delivered(&group.name, entry.offset <= self.again_until);
        Delivery::Event { position: self.sent, entry, birth: group.birth, lease: self.held.lease }
    }
}

/// How soon a consumer finds out that others have come or gone on other nodes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same while something changes hands.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// What was delivered of a partition that is to be given back may be acknowledged for so long.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(2);
/// A partition that is not given back for so long is taken.
const TAKE_AFTER: Duration = Duration::from_secs(5);
const READ_AT_ONCE: usize = 128;
