//! Groups: events delivered at least once, in order per pile, to whoever of a group is there.
//!
//! ```text
//!   api ──▶ Groups ──▶ Delivering (one task per stream) ──▶ share: cursor documents, one per group and partition
//!              │          └──▶ flight: feed, log
//!              ├──▶ registry: the group's document: who is in it, whose is what (spread)
//!              └──▶ retention: what no group needs, and nobody is to be told any more
//! ```
//!
//! No node is in charge of a group: who joins, leaves or finds another gone changes its document by compare-and-set, and
//! all others follow it. Whose word counts in a partition is decided by its cursor's document alone: a consumer that was
//! taken for dead and lives, and any clock that is wrong, can cost events delivered twice, and never one that is not.

mod config;
mod error;
mod spread;
mod registry;
mod cursor;
mod holding;
mod share;
mod flight;
mod consumer;
mod retention;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use config::Config;
pub use error::GroupError;
pub use flight::Delivery;

use crate::cluster::Cluster;
use crate::domain::WallMs;
use crate::store::document::{ConsumerId, Group, GroupStart};
use crate::store::ledger::Ledger;
use crate::store::{Offset, Partition, Position, StoreError, recorded_at};
use consumer::Delivering;
use cursor::Acknowledged;
use holding::Consumer;
use registry::Registry;
use share::Gone;

/// The groups, seen from one node. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Groups(Arc<Inner>);

struct Inner {
    config: Config,
    registry: Registry,
    cluster: Cluster,
    incarnation: u64,
    next: AtomicU64,
    here: Mutex<Here>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// Consumers of this node.
#[derive(Default)]
struct Here {
    groups: BTreeMap<String, Vec<Arc<Consumer>>>,
    /// On their way into a group.
    joining: Vec<ConsumerId>,
}

/// What a client that joined a group reads.
pub struct Subscription {
    pub consumer: ConsumerId,
    pub group: Group,
    pub created: bool,
    /// Ends without an error when the node does.
    pub deliveries: mpsc::Receiver<Result<Delivery, GroupError>>,
}

/// How far a group is behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lag {
    pub group: Group,
    pub partitions: Vec<PartitionLag>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionLag {
    pub partition: Partition,
    /// Kept entries behind the cursor.
    pub unacknowledged: u64,
    /// When the oldest of them was recorded.
    pub oldest: Option<WallMs>,
    pub holder: Option<ConsumerId>,
}

impl Groups {
    /// Streams end with `shutdown`.
    pub fn new(
        config: Config,
        cluster: Cluster,
        ledger: &Ledger,
        now: fn() -> WallMs,
        shutdown: CancellationToken,
    ) -> Self {
        let registry = Registry { store: ledger.store().clone(), now };
        let incarnation = cluster.me().incarnation;
        Self(Arc::new(Inner {
            config,
            registry,
            cluster,
            incarnation,
            next: AtomicU64::new(1),
            here: Mutex::default(),
            tasks: TaskTracker::new(),
            shutdown,
        }))
    }

    /// Joins a group, which is created if it is not there. `max_in_flight` is at least 1.
    pub async fn subscribe(
        &self,
        name: &str,
        start: GroupStart,
        max_in_flight: usize,
    ) -> Result<Subscription, GroupError> {
        let (it, name) = (self.clone(), name.to_owned());
        // A client that goes in the middle must not leave behind a consumer that is in the group and does not exist.
        let joining = self.0.tasks.spawn(async move { it.join(&name, start, max_in_flight).await });
        let lost = |_| StoreError::Unavailable("the task that joins a group has died".to_owned());
        joining.await.map_err(lost)?
    }

    async fn join(self, name: &str, start: GroupStart, max_in_flight: usize) -> Result<Subscription, GroupError> {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let id = ConsumerId { incarnation: self.0.incarnation, number };
        self.0.here().joining.push(id);
        let joined = self.0.registry.join(name, start, id).await;
        let joined = joined.map(|(group, created)| (Arc::new(Consumer::new(id, group.birth)), group, created));
        {
            let mut here = self.0.here();
            here.joining.retain(|other| *other != id);
            if let Ok((consumer, ..)) = &joined {
                here.groups.entry(name.to_owned()).or_default().push(consumer.clone());
            }
        }
        let (consumer, group, created) = match joined {
            Ok(joined) => joined,
            Err(error) => {
                // The store may have taken it all the same.
                let name = name.to_owned();
                self.0.tasks.clone().spawn(async move { self.leave(&name, id).await });
                return Err(error);
            }
        };
        self.look(name);
        let (queue, deliveries) = mpsc::channel(QUEUE);
        let gone = self.gone();
        let registry = self.0.registry.clone();
        let delivering =
            Delivering { consumer, registry, group: group.clone(), max_in_flight, queue: queue.clone(), gone };
        let name = name.to_owned();
        self.0.tasks.clone().spawn(async move {
            if let Some(Err(error)) = self.0.shutdown.run_until_cancelled(delivering.run()).await {
                // A client that has gone meanwhile needs no error.
                let _ = queue.send(Err(error)).await;
            }
            drop(queue);
            self.leave(&name, id).await;
        });
        Ok(Subscription { consumer: id, group, created, deliveries })
    }

    /// Moves the cursor of the partition to `position`, which was delivered under `lease` of the group born at `birth`.
    /// Any node can.
    pub async fn acknowledge(
        &self,
        name: &str,
        consumer: ConsumerId,
        partition: Partition,
        position: Position,
        (birth, lease): (u64, u64),
    ) -> Result<(), GroupError> {
        if partition.0 >= self.0.registry.store.partitions() {
            return Err(GroupError::CursorUnknown { group: name.to_owned() });
        }
        let here = self.0.here().groups.get(name).and_then(|all| all.iter().find(|one| one.id == consumer)).cloned();
        if let Some(here) = here.filter(|here| here.birth == birth) {
            return here.acknowledge(&self.0.registry, name, partition, lease, position).await;
        }
        let group = self.0.registry.find(name).await?;
        if group.birth != birth {
            return Err(GroupError::CursorNotYours { group: name.to_owned(), partition });
        }
        let what = Acknowledged { name, birth, partition, consumer, lease, position, delivered: 0 };
        cursor::acknowledge(&*self.0.registry.store, what, None).await.map(drop)
    }

    pub async fn lag(&self, name: &str) -> Result<Lag, GroupError> {
        let group = self.0.registry.find(name).await?;
        let (store, of) = (&*self.0.registry.store, &group);
        let partitions = (0..store.partitions()).map(Partition).map(|partition| async move {
            let (cursor, _) = cursor::stored(store, of, partition, None).await?;
            let next = store.read_log(partition, cursor.acknowledged.offset, 1).await?;
            let (mut unacknowledged, mut oldest) = (0, None);
            if let Some(next) = next.first() {
                let end: Offset = store.log_end(partition).await?;
                unacknowledged = end.saturating_sub(next.offset) + 1;
                oldest = Some(recorded_at(next, cursor.acknowledged.at));
            }
            let holder = cursor.holder.filter(|holder| of.consumers.contains(holder));
            Ok::<_, StoreError>(PartitionLag { partition, unacknowledged, oldest, holder })
        });
        let partitions = try_join_all(partitions).await?;
        Ok(Lag { group, partitions })
    }

    /// By name, behind `after`.
    pub async fn list(&self, after: &str, limit: usize) -> Result<Vec<Group>, GroupError> {
        Ok(self.0.registry.list(after, limit).await?)
    }

    pub async fn delete(&self, name: &str) -> Result<(), GroupError> {
        self.0.registry.delete(name).await?;
        self.look(name);
        Ok(())
    }

    /// Deletes what need not be kept, for as long as it is polled.
    pub async fn keep(self) {
        let Inner { config, registry, .. } = &*self.0;
        retention::run(config, registry, &*self.gone()).await;
    }

    /// Waits until every consumer has left, after `shutdown`.
    pub async fn left(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Until the group knows: a consumer that is in it and is not there keeps its partitions from others.
    async fn leave(&self, name: &str, id: ConsumerId) {
        {
            let groups = &mut self.0.here().groups;
            if let Some(all) = groups.get_mut(name) {
                all.retain(|one| one.id != id);
            }
            groups.retain(|_, all| !all.is_empty());
        }
        while let Err(error) = self.0.registry.leave(name, id).await {
            tracing::debug!(group = name, %error, "a consumer has gone, and its group cannot be told");
            if self.0.shutdown.is_cancelled() {
                // This run is over for all others soon, and with it its consumers.
                return;
            }
            sleep(TELL_AGAIN).await;
        }
        self.look(name);
    }

    fn gone(&self) -> Arc<Gone> {
        let inner = self.0.clone();
        Arc::new(move |ids| {
            let inner = inner.clone();
            Box::pin(async move { inner.gone(ids).await })
        })
    }

    /// All consumers of the group on this node look at its document.
    fn look(&self, name: &str) {
        if let Some(all) = self.0.here().groups.get(name) {
            for one in all {
                one.look.notify_one();
            }
        }
    }
}

impl Inner {
    /// Those of this node are known here; those of another are gone with its lease.
    async fn gone(&self, mut ids: Vec<ConsumerId>) -> Vec<ConsumerId> {
        let others = ids.iter().map(|id| id.incarnation).filter(|incarnation| *incarnation != self.incarnation);
        let gone = self.cluster.gone(others.collect()).await;
        let here = self.here();
        ids.retain(|id| {
            if id.incarnation != self.incarnation {
                return gone.contains(&id.incarnation);
            }
            !here.joining.contains(id) && !here.groups.values().flatten().any(|one| one.id == *id)
        });
        ids
    }

    fn here(&self) -> MutexGuard<'_, Here> {
        // A panic while the lock was held cannot leave it half changed.
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Deliveries between a consumer's task and its client's connection; all that waits beyond them waits in the log.
const QUEUE: usize = 16;
const TELL_AGAIN: Duration = Duration::from_secs(1);
