//! The partitions a consumer holds, and what it acknowledges of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::cursor::{self, Acknowledged, Stored};
use super::error::GroupError;
use super::registry::Registry;
use crate::store::document::ConsumerId;
use crate::store::{Partition, Position};

/// What the task of a consumer and those who acknowledge have in common.
pub struct Consumer {
    pub id: ConsumerId,
    pub birth: u64,
    held: Mutex<BTreeMap<Partition, Arc<Held>>>,
    /// Something was acknowledged.
    pub moved: Notify,
    /// The group's document may have changed.
    pub look: Notify,
}

/// A partition under one lease.
pub struct Held {
    pub lease: u64,
    /// As it is stored, if that is known. Locked while it changes: one acknowledgement of a partition at a time.
    pub stored: tokio::sync::Mutex<Option<Stored>>,
    pub acknowledged: AtomicU64,
    pub delivered: AtomicU64,
}

impl Consumer {
    pub fn new(id: ConsumerId, birth: u64) -> Self {
        Self { id, birth, held: Mutex::default(), moved: Notify::new(), look: Notify::new() }
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
        let delivered = held.delivered.load(Ordering::Acquire);
        let what = Acknowledged { name, birth: self.birth, partition, consumer: self.id, lease, position, delivered };
        let moved = cursor::acknowledge(&*registry.store, what, known).await;
        match &moved {
            Ok(now) => {
                held.acknowledged.store(now.0.acknowledged.offset, Ordering::Release);
                *stored = Some(*now);
            }
            Err(GroupError::CursorNotYours { .. }) => {
                let mut all = self.held();
                // Meanwhile it may have been taken again, and what is held now is not what was lost.
                if all.get(&partition).is_some_and(|now| now.lease == lease) {
                    all.remove(&partition);
                }
            }
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

    pub fn held(&self) -> MutexGuard<'_, BTreeMap<Partition, Arc<Held>>> {
        // A panic while the lock was held cannot leave a map half changed.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::WallMs;
    use crate::store::document::GroupCursor;
    use crate::store::embedded::{Config, Embedded};

    fn held(lease: u64) -> Arc<Held> {
        let (stored, acknowledged, delivered) = Default::default();
        Arc::new(Held { lease, stored, acknowledged, delivered })
    }

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
        let before = held(1);
        consumer.held().insert(at, before.clone());

        // It waits for another acknowledgement, and meanwhile the partition is lost and taken again.
        let busy = before.stored.lock().await;
        let taken = async {
            consumer.held().insert(at, held(2));
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
