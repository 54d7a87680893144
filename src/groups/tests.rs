//! Consumers of one group over a store in memory, in paused time.

pub mod memory;
mod sharing;
mod delivering;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::consumer::Delivering;
use super::error::GroupError;
use super::flight::Delivery;
use super::holding::Consumer;
use super::registry::Registry;
use super::share::Gone;
use crate::domain::WallMs;
use crate::store::Partition;
use crate::store::document::{ConsumerId, GroupStart};
use memory::{Glass, Memory, PARTITIONS};

/// A consumer, with the store as it sees it, and whom it takes for dead.
struct Seat {
    id: ConsumerId,
    glass: Arc<Glass>,
    registry: Registry,
    consumer: Arc<Consumer>,
    dead_to_it: Arc<Mutex<BTreeSet<ConsumerId>>>,
    deliveries: mpsc::Receiver<Result<Delivery, GroupError>>,
    task: JoinHandle<Result<(), GroupError>>,
}

impl Seat {
    async fn take(memory: &Arc<Memory>, number: u64, max_in_flight: usize) -> Self {
        Self::behind(Glass::on(memory, number), number, max_in_flight).await
    }

    async fn behind(glass: Arc<Glass>, number: u64, max_in_flight: usize) -> Self {
        let id = id(number);
        let registry = Registry { store: glass.clone(), now: || WallMs(1_000_000) };
        let (group, _) = registry.join(GROUP, GroupStart::Earliest, id).await.expect("joins");
        let consumer = Arc::new(Consumer::new(id, group.birth));
        let (queue, deliveries) = mpsc::channel(16);
        let dead_to_it: Arc<Mutex<BTreeSet<ConsumerId>>> = Arc::default();
        let dead = dead_to_it.clone();
        let gone: Arc<Gone> = Arc::new(move |mut ids: Vec<ConsumerId>| {
            ids.retain(|id| dead.lock().expect("held briefly").contains(id));
            Box::pin(std::future::ready(ids))
        });
        let (of, to) = (consumer.clone(), registry.clone());
        let task = tokio::spawn(Delivering { consumer: of, registry: to, group, max_in_flight, queue, gone }.run());
        Self { id, glass, registry, consumer, dead_to_it, deliveries, task }
    }

    fn takes_for_dead(&self, others: &[ConsumerId]) {
        *self.dead_to_it.lock().expect("held briefly") = others.iter().copied().collect();
    }

    async fn leave(self) {
        drop(self.deliveries);
        let _ = self.task.await;
        self.registry.leave(GROUP, self.id).await.expect("leaves");
    }
}

pub fn id(number: u64) -> ConsumerId {
    ConsumerId { incarnation: number, number: 1 }
}

/// Who holds what, by the documents.
fn held(memory: &Memory) -> BTreeMap<ConsumerId, BTreeSet<Partition>> {
    let mut held: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for partition in (0..PARTITIONS).map(Partition) {
        if let Some(holder) = memory.cursor(GROUP, partition).and_then(|cursor| cursor.holder) {
            held.entry(holder).or_default().insert(partition);
        }
    }
    held
}

/// Whether everybody holds what the group says is its, and believes just that.
fn settled(memory: &Memory, seats: &[Seat]) -> Result<(), String> {
    let group = memory.group(GROUP).ok_or("no group")?;
    let held = held(memory);
    for seat in seats {
        let its = |(_, whose): &(usize, &Option<ConsumerId>)| **whose == Some(seat.id);
        let assigned: BTreeSet<_> =
            group.assigned.iter().enumerate().filter(its).map(|(at, _)| Partition(at as u16)).collect();
        let stored = held.get(&seat.id).cloned().unwrap_or_default();
        let mut believed = BTreeSet::new();
        for (partition, held) in &*seat.consumer.held() {
            if memory.cursor(GROUP, *partition).is_none_or(|cursor| cursor.lease != held.lease) {
                return Err(format!("{:?} believes that it holds {partition} under {}", seat.id, held.lease));
            }
            believed.insert(*partition);
        }
        if assigned.is_empty() || assigned != stored || stored != believed {
            return Err(format!("{:?}: assigned {assigned:?}, stored {stored:?}, believed {believed:?}", seat.id));
        }
    }
    Ok(())
}

/// Waits until it is so, and sees that it stays so.
async fn settles(memory: &Memory, seats: &[Seat], what: &str) {
    let began = Instant::now();
    while let Err(not_yet) = settled(memory, seats) {
        assert!(began.elapsed() < SETTLES, "{what}: not settled after {:?}: {not_yet}", began.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    let since = Instant::now();
    while since.elapsed() < STAYS {
        let now = settled(memory, seats);
        assert!(now.is_ok(), "{what}: settled, and then, after {:?}, not: {now:?}", since.elapsed());
        sleep(Duration::from_millis(500)).await;
    }
}

const GROUP: &str = "g";
const SETTLES: Duration = Duration::from_secs(30);
/// Longer than every belief takes to be looked after by turns.
const STAYS: Duration = Duration::from_secs(20);
