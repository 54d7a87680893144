//! One consumer of a group: a stream of one client, and the partitions that are its for now.
//!
//! ```text
//!   share ──what is held──▶ flight ──▶ the client ──Acknowledge──▶ cursor ──▶ room for more
//!   feed, log ─────────────▶ ┘
//! ```
//!
//! Nothing is asked for a partition in which nothing happens but, now and then, whether it is still this one's ([`Share`]).
//! Logs are read all at once, each by itself: one that fails or hangs keeps no other waiting. Whoever does not give a
//! partition back in time loses it all the same: the lease in the cursor's document decides whose word counts.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use super::error::GroupError;
use super::flight::{Delivery, Flight, ToRead};
use super::holding::Consumer;
use super::registry::Registry;
use super::share::{Gone, Share};
use crate::observe::{self, UnacknowledgedEvents};
use crate::store::document::Group;
use crate::store::{Entry, Gap, GapReason, Partition, StoreError};

/// The task of a consumer.
pub struct Delivering {
    pub consumer: Arc<Consumer>,
    pub registry: Registry,
    /// As it was last seen.
    pub group: Group,
    pub max_in_flight: usize,
    pub queue: mpsc::Sender<Result<Delivery, GroupError>>,
    pub gone: Arc<Gone>,
}

struct Running {
    consumer: Arc<Consumer>,
    registry: Registry,
    group: String,
    queue: mpsc::Sender<Result<Delivery, GroupError>>,
    flight: Flight,
    feed: broadcast::Receiver<Arc<Entry>>,
    /// At most one of each partition.
    reads: FuturesUnordered<BoxFuture<'static, Read>>,
    /// Could not be read, and under which lease: until the next try.
    failed: Vec<(Partition, u64)>,
}

/// What became of reading a log.
struct Read {
    partition: Partition,
    lease: u64,
    result: Result<Found, StoreError>,
}

enum Found {
    Entries(Option<Gap>, Vec<Arc<Entry>>),
    /// The log has lost its end, and the partition is held anew, or not at all.
    Lost,
}

impl Delivering {
    /// Until the client goes, or the group.
    pub async fn run(self) -> Result<(), GroupError> {
        let Self { consumer, registry, group, max_in_flight, queue, gone } = self;
        let feed = registry.store.feed();
        let flight = Flight::new(group.name.clone(), group.birth, max_in_flight);
        let name = group.name.clone();
        let share = Share::new(consumer.clone(), registry.clone(), group, gone);
        let (reads, failed) = (FuturesUnordered::new(), vec![]);
        let running = Running { consumer, registry, group: name, queue, flight, feed, reads, failed };
        tokio::select! {
            ended = share.run() => ended,
            () = running.run() => Ok(()),
        }
    }
}

impl Running {
    async fn run(mut self) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unacknowledged = UnacknowledgedEvents::of(&self.group);
        let (queue, consumer) = (self.queue.clone(), self.consumer.clone());
        loop {
            for to_read in self.flight.start_reading() {
                self.reads.push(self.read(to_read));
            }
            let full = self.flight.is_full();
            consumer.full.send_if_modified(|was| std::mem::replace(was, full) != full);
            tokio::select! {
                place = queue.reserve(), if self.flight.has_next() => {
                    let Ok(place) = place else { return };
                    if let Some(delivery) = self.flight.next() {
                        place.send(Ok(delivery));
                    }
                }
                entry = self.feed.recv() => self.fed(entry),
                Some(read) = self.reads.next() => self.take_in(read),
                () = consumer.moved.notified() => self.flight.follow(&consumer.held()),
                _ = ticks.tick() => {
                    for (partition, lease) in self.failed.drain(..) {
                        self.flight.read_again(partition, lease);
                    }
                    unacknowledged.are(self.flight.unacknowledged());
                }
                () = queue.closed() => return,
            }
        }
    }

    fn fed(&mut self, entry: Result<Arc<Entry>, RecvError>) {
        match entry {
            Ok(entry) => self.flight.fed(entry),
            Err(RecvError::Lagged(_)) => self.flight.fall_behind(),
            // A store that cannot stand by what its feed has told ends it.
            Err(RecvError::Closed) => {
                self.feed = self.registry.store.feed();
                self.flight.fall_behind();
            }
        }
    }

    fn read(&self, ToRead { partition, held, from }: ToRead) -> BoxFuture<'static, Read> {
        let (consumer, registry, group) = (self.consumer.clone(), self.registry.clone(), self.group.clone());
        let (limit, lease) = (self.flight.limit(), held.lease);
        Box::pin(async move {
            let store = &*registry.store;
            let reading = async {
                // What was delivered and not acknowledged may be lost without a trace, since the cursor has not seen it.
                if let Some(delivered) = held.progress().check {
                    let (gap, _) = delivered.read_on(store, partition, 1).await?;
                    if let Some(gap) = gap.filter(|gap| gap.reason == GapReason::Lost) {
                        return Ok((Some(gap), vec![]));
                    }
                    held.checked();
                }
                from.read_on(store, partition, limit).await
            };
            let result = match reading.await {
                // Offsets of the log that is lost say nothing any more: those of the new one have to count.
                Ok((Some(gap @ Gap { reason: GapReason::Lost, .. }), _)) => {
                    if consumer.begin_again(&registry, &group, &held, gap).await {
                        missing(&group, gap);
                    }
                    Ok(Found::Lost)
                }
                Ok((gap, entries)) => Ok(Found::Entries(gap, entries)),
                Err(error) => Err(error),
            };
            Read { partition, lease, result }
        })
    }

    fn take_in(&mut self, Read { partition, lease, result }: Read) {
        match result {
            Ok(Found::Entries(gap, entries)) => {
                if let Some(gap) = gap {
                    missing(&self.group, gap);
                }
                self.flight.read(partition, lease, gap, entries);
            }
            Ok(Found::Lost) => self.flight.follow(&self.consumer.held()),
            Err(error) => {
                tracing::debug!(%partition, %error, "events cannot be read");
                self.failed.push((partition, lease));
            }
        }
    }
}

fn missing(group: &str, gap: Gap) {
    let Gap { partition, from, to, reason } = gap;
    tracing::warn!(group, %partition, from, to, reason = reason.name(), "a group misses events");
    observe::events_gap(group, reason.name());
}

/// How soon a log that could not be read is tried again, and the metric of what is open is brought up to date.
const EVERY: Duration = Duration::from_secs(1);
