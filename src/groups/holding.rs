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
            Err(GroupError::CursorNotYours { .. }) => drop(self.held().remove(&partition)),
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
