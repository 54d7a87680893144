//! The partitions a consumer holds: how far each has come, and what is acknowledged of it.
//!
//! ```text
//!   share ──hold, close, lose──▶ Consumer ◀──deliver── flight
//!                                   ▲
//!                                   └──acknowledge── clients, through this node
//! ```
//!
//! What is in here is what this consumer believes. It is true for as long as the cursor's document has its lease; whoever
//! finds another one there says so ([`Consumer::lose`]), and all others follow.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::cursor::{self, Acknowledged, Stored};
use super::error::GroupError;
use super::registry::Registry;
use crate::store::document::{ConsumerId, GroupCursor};
use crate::store::{Gap, GapReason, Offset, Partition, Position};

/// What the tasks of a consumer and those who acknowledge have in common.
pub struct Consumer {
    pub id: ConsumerId,
    pub birth: u64,
    held: Mutex<BTreeMap<Partition, Arc<Held>>>,
    remembered: Mutex<BTreeMap<Partition, Remembered>>,
    /// Something was acknowledged, or is held, or is not any more.
    pub moved: Notify,
    /// The group's document may have changed, or what is held.
    pub look: Notify,
    /// As much is delivered as may be, and nothing can be delivered until some of it is acknowledged.
    pub full: watch::Sender<bool>,
}

/// A partition under one lease.
pub struct Held {
    pub lease: u64,
    /// As it is stored, if that is known. Locked while it changes: one acknowledgement of a partition at a time.
    pub stored: tokio::sync::Mutex<Option<Stored>>,
    /// Up to here somebody has been delivered it before.
    pub again_until: Offset,
    /// What the client is to be told first.
    pub gap: Option<Gap>,
    progress: Mutex<Progress>,
}

#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub acknowledged: Position,
    /// Behind what the client was given.
    pub delivered: Position,
    /// What was delivered under the lease before this one, which was lost: whether that is still in the log has to be
    /// looked at, since the cursor has not seen it.
    pub check: Option<Position>,
    /// It is to be given back: nothing more is delivered of it.
    pub closed: bool,
}

/// How far a partition had come that was lost without being given back.
#[derive(Clone, Copy, Debug)]
pub struct Remembered {
    pub lease: u64,
    pub acknowledged: Position,
    pub delivered: Position,
}

impl Consumer {
    pub fn new(id: ConsumerId, birth: u64) -> Self {
        let (held, remembered) = Default::default();
        let (moved, look, full) = (Notify::new(), Notify::new(), watch::Sender::new(false));
        Self { id, birth, held, remembered, moved, look, full }
    }

    /// Of something that was delivered here.
    pub async fn acknowledge(
        &self,
        registry: &Registry,
        name: &str,
        partition: Partition,
        lease: u64,
        position: Position,
    ) -> Result<(), GroupError> {
        let not_yours = || GroupError::CursorNotYours { group: name.to_owned(), partition };
        let held = self.held().get(&partition).filter(|held| held.lease == lease).cloned().ok_or_else(not_yours)?;
        let mut stored = held.stored.lock().await;
        // Not known any more if this call is given up in the middle.
        let known = stored.take();
        let delivered = held.progress().delivered.offset;
        let what = Acknowledged { name, birth: self.birth, partition, consumer: self.id, lease, position, delivered };
        let moved = cursor::acknowledge(&*registry.store, what, known).await;
        match &moved {
            Ok(now) => {
                held.note_acknowledged(now.0.acknowledged);
                *stored = Some(*now);
            }
            Err(GroupError::CursorNotYours { .. }) => self.lose(partition, lease),
            // Whether it is stored is not known; the next one finds out.
            Err(
                GroupError::Store(_)
                | GroupError::Unknown(_)
                | GroupError::Full { .. }
                | GroupError::CursorUnknown { .. },
            ) => {}
        }
        self.moved.notify_one();
        moved.map(drop)
    }

    /// It is this one's from now on, as `stored` says.
    pub fn hold(&self, partition: Partition, stored: Stored, again_until: Offset, check: Option<Position>) {
        let GroupCursor { acknowledged, lease, lost_to, .. } = stored.0;
        let (from, reason) = (acknowledged.offset + 1, GapReason::Lost);
        let held = Arc::new(Held {
            lease,
            stored: tokio::sync::Mutex::new(Some(stored)),
            again_until,
            // Whoever was to be told may have gone before it was.
            gap: lost_to.map(|to| Gap { partition, from, to, reason }),
            progress: Mutex::new(Progress { acknowledged, delivered: acknowledged, check, closed: false }),
        });
        self.held().insert(partition, held);
        self.moved.notify_one();
    }

    /// Puts the cursor where a log that was lost goes on, under a new lease; it says so until something behind it is
    /// acknowledged. False if the partition is not held any more.
    pub async fn begin_again(&self, registry: &Registry, name: &str, held: &Held, gap: Gap) -> bool {
        let Gap { partition, from, to, reason: _ } = gap;
        let known = held.stored.lock().await.take();
        if let Some((cursor, version)) = known.filter(|(cursor, _)| cursor.lease == held.lease) {
            let acknowledged = Position { offset: from - 1, ..Position::START };
            let (delivered, lease) = (acknowledged.offset, registry.next_lease(cursor.lease));
            let lost_to = cursor.lost_to.max(Some(to));
            let anew = GroupCursor { acknowledged, delivered, lease, lost_to, ..cursor };
            let replaced = cursor::replace(&*registry.store, name, partition, &anew, version).await;
            if let Ok(Some(version)) = replaced {
                let still = self.held().get(&partition).is_some_and(|now| now.lease == held.lease);
                if still {
                    self.hold(partition, (anew, Some(version)), delivered, None);
                    return true;
                }
            }
        }
        // Without its document, or with another one: it is taken again, and looked at again.
        self.lose(partition, held.lease);
        false
    }

    /// It has been given back.
    pub fn give_up(&self, partition: Partition, lease: u64) {
        drop(self.remove(partition, lease));
        self.moved.notify_one();
    }

    /// Somebody else's by now, or its document is lost. What is held under another lease than this one is not what was lost.
    pub fn lose(&self, partition: Partition, lease: u64) {
        let Some(held) = self.remove(partition, lease) else { return };
        let Progress { acknowledged, delivered, check, closed: _ } = held.progress();
        let delivered = check.unwrap_or(delivered);
        self.remembered().insert(partition, Remembered { lease, acknowledged, delivered });
        self.look.notify_one();
        self.moved.notify_one();
    }

    /// Not what is held under another lease.
    fn remove(&self, partition: Partition, lease: u64) -> Option<Arc<Held>> {
        let mut all = self.held();
        all.get(&partition).is_some_and(|held| held.lease == lease).then_some(())?;
        all.remove(&partition)
    }

    pub fn held(&self) -> MutexGuard<'_, BTreeMap<Partition, Arc<Held>>> {
        // A panic while the lock was held cannot leave a map half changed.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn remembered(&self) -> MutexGuard<'_, BTreeMap<Partition, Remembered>> {
        // The same.
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    pub fn progress(&self) -> Progress {
        *self.lock()
    }

    /// The client is given what is before `position`. False if it must not be any more.
    pub fn deliver(&self, position: Position) -> bool {
        let mut progress = self.lock();
        if !progress.closed {
            progress.delivered = position;
        }
        !progress.closed
    }

    /// Nothing more is delivered of it.
    pub fn close(&self) {
        self.lock().closed = true;
    }

    /// What was delivered under the lease before is still there.
    pub fn checked(&self) {
        self.lock().check = None;
    }

    /// Whether it is further than was known.
    pub fn note_acknowledged(&self, position: Position) -> bool {
        let mut progress = self.lock();
        let further = position.offset > progress.acknowledged.offset;
        if further {
            progress.acknowledged = position;
        }
        further
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        // A panic while the lock was held cannot leave it half changed.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::WallMs;
    use crate::store::document::GroupCursor;
    use crate::store::embedded::{Config, Embedded};

    #[tokio::test]
    async fn what_is_acknowledged_too_late_takes_nothing_from_who_has_the_partition_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Arc::new(Embedded::open(Config::new(dir.path())).expect("opens"));
        let registry = Registry { store, now: || WallMs(0) };
        let (me, at) = (ConsumerId { incarnation: 1, number: 1 }, Partition(3));
        let position = Position { offset: 5, ..Position::START };
        let again = GroupCursor {
            birth: 7,
            acknowledged: Position::START,
            delivered: 5,
            lease: 2,
            holder: Some(me),
            lost_to: None,
        };
        assert!(cursor::replace(&*registry.store, "g", at, &again, None).await.expect("stores").is_some());
        let consumer = Consumer::new(me, 7);
        let hold = |lease| consumer.hold(at, (GroupCursor { lease, ..again }, None), 0, None);
        hold(1);
        let before = consumer.held().get(&at).cloned().expect("it is held");

        // It waits for another acknowledgement, and meanwhile the partition is lost and taken again.
        let busy = before.stored.lock().await;
        let taken = async {
            hold(2);
            drop(busy);
        };
        let (late, ()) = tokio::join!(consumer.acknowledge(&registry, "g", at, 1, position), taken);
        assert!(matches!(late, Err(GroupError::CursorNotYours { .. })), "{late:?}");
        assert_eq!(consumer.held().get(&at).map(|held| held.lease), Some(2));
        consumer.acknowledge(&registry, "g", at, 2, position).await.expect("this lease counts");

        // A lease that is lost in the store is lost here.
        let others = GroupCursor { lease: 3, ..again };
        let key = crate::store::document::group_cursor_key("g", at);
        let version = registry.store.get(key).await.expect("reads").map(|stored| stored.version);
        assert!(cursor::replace(&*registry.store, "g", at, &others, version).await.expect("stores").is_some());
        let further = Position { offset: 6, ..Position::START };
        let lost = consumer.acknowledge(&registry, "g", at, 2, further).await;
        assert!(matches!(lost, Err(GroupError::CursorNotYours { .. })), "{lost:?}");
        assert!(consumer.held().is_empty());
    }
}
