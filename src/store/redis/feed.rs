//! What has been appended, on any node, for those who listen here; nothing is asked of Redis while nobody does.
//!
//! Every script that appends publishes the number of its partition. That may get lost, so the ends of all logs are looked
//! at every few seconds as well, and after every new connection. What this node itself appends is handed on at once if it
//! is next in its log; who has the answer then finds the event.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use redis::aio::PubSubStream;
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, MissedTickBehavior};

use super::layout::What;
use super::link::Link;
use super::read;
use super::write::Appended;
use crate::store::{Entry, Offset, Partition, StoreError};

/// The end of a log as it was last seen. What the entry there was tells a log that was lost and has grown again.
#[derive(Clone)]
struct Last {
    offset: Offset,
    what: Option<What>,
}

impl Last {
    fn of(entry: &Entry) -> Self {
        Self { offset: entry.offset, what: Some(What::of(entry)) }
    }
}

/// What a look at the end of a log finds.
enum Look {
    First { end: Offset },
    Lost { seen: Last, end: Offset },
    Behind,
    Same,
}

pub(super) struct Feed {
    listeners: Mutex<broadcast::Sender<Arc<Entry>>>,
    capacity: usize,
    wanted: Notify,
    /// By partition: the last entry that was handed on; `None` before the first look.
    seen: Mutex<Vec<Option<Last>>>,
}

impl Feed {
    pub(super) fn new(partitions: u16, capacity: usize) -> Self {
        let capacity = capacity.max(1);
        let (listeners, _) = broadcast::channel(capacity);
        let seen = Mutex::new(vec![None; usize::from(partitions)]);
        Self { listeners: Mutex::new(listeners), capacity, wanted: Notify::new(), seen }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<Entry>> {
        let listener = self.listeners().subscribe();
        self.wanted.notify_one();
        listener
    }

    /// What this node has just appended. If it is not next, or not behind what was seen last, all of it is left to the log,
    /// which has to be read then: what the script published sees to that.
    pub(super) fn appended(&self, appended: &Appended) {
        let Appended { entries, behind } = appended;
        if !self.is_wanted() {
            return;
        }
        let Some(first) = entries.first() else { return };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = seen.get_mut(usize::from(first.partition.0)) else { return };
        if seen.as_ref().is_some_and(|seen| seen.offset + 1 != first.offset || seen.what != *behind) {
            return;
        }
        for entry in entries {
            *seen = Some(Last::of(entry));
            // Nobody listens any more: fine.
            let _ = self.listeners().send(entry.clone());
        }
    }

    /// Follows all logs whenever somebody listens, until the link ends.
    pub(super) async fn follow(self: Arc<Self>, link: Arc<Link>) {
        let following = async {
            loop {
                if !self.is_wanted() {
                    self.seen.lock().unwrap_or_else(PoisonError::into_inner).fill(None);
                    self.wanted.notified().await;
                    continue;
                }
                if let Err(error) = self.follow_one(&link).await {
                    tracing::debug!(%error, "the feed has lost its connection");
                    self.pause(&link).await;
                }
            }
        };
        link.ended.run_until_cancelled(following).await;
    }

    /// Until nobody listens (`Ok`) or the connection is lost.
    async fn follow_one(&self, link: &Link) -> Result<(), StoreError> {
        let (mut sink, mut published) = link.listen().await?.split();
        let (mut renewed, mut anew) = (link.renewed(), true);
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once: what was appended before the subscription.
        while self.is_wanted() {
            tokio::select! {
                message = published.next() => {
                    let Some(message) = message else { return Err(lost()) };
                    let mut partitions: BTreeSet<_> = partition(&message, self.partitions()).into_iter().collect();
                    self.take_waiting(&mut published, &mut partitions);
                    let reading = partitions.into_iter().map(|partition| self.catch_up(link, partition));
                    join_all(reading).await.into_iter().collect::<Result<(), _>>()?;
                }
                _ = tick.tick() => {
                    // A server that hangs does not close its sockets.
                    let pong = tokio::time::timeout(link.limit, sink.ping::<redis::Value>());
                    pong.await.map_err(|_| lost())?.map_err(|_| lost())?;
                    self.look_at_all(link, anew).await?;
                    anew = false;
                }
                // Perhaps to another server, and this one still talks to the old one.
                _ = renewed.changed() => return Err(lost()),
            }
        }
        Ok(())
    }

    /// A burst of appends is one read per partition.
    fn take_waiting(&self, published: &mut PubSubStream, partitions: &mut BTreeSet<Partition>) {
        while let Some(Some(message)) = published.next().now_or_never() {
            partitions.extend(partition(&message, self.partitions()));
        }
    }

    /// `anew` over a new connection: perhaps to another server, whose log is as long and not the same.
    async fn look_at_all(&self, link: &Link, anew: bool) -> Result<(), StoreError> {
        let looking = (0..self.partitions()).map(Partition).map(|partition| async move {
            match self.compare(partition, read::log_end(link, partition)).await? {
                Look::First { end } => self.begin(link, partition, end).await,
                Look::Lost { seen, end } => {
                    self.begin_again(partition, &seen, end);
                    Ok(())
                }
                Look::Behind => self.catch_up(link, partition).await,
                Look::Same if anew => self.catch_up(link, partition).await,
                Look::Same => Ok(()),
            }
        });
        join_all(looking).await.into_iter().collect()
    }

    /// What was seen of a log, and its `end`, which is asked for only then: what is handed on meanwhile may be behind the
    /// answer, and is no loss.
    async fn compare(
        &self,
        partition: Partition,
        end: impl Future<Output = Result<Offset, StoreError>>,
    ) -> Result<Look, StoreError> {
        let seen = self.seen(partition);
        let end = end.await?;
        Ok(match seen {
            None => Look::First { end },
            Some(seen) if seen.offset > end => Look::Lost { seen, end },
            Some(seen) if seen.offset < end => Look::Behind,
            Some(_) => Look::Same,
        })
    }

    /// Between the subscription of a listener and this first look, entries may have been appended that nobody handed on.
    /// So the newest one is, however old it is: who has not seen it learns from its offset that something is missing.
    async fn begin(&self, link: &Link, partition: Partition, end: Offset) -> Result<(), StoreError> {
        let newest = read::log(link, partition, end.saturating_sub(1), 1).await?;
        self.hand_on(partition, &newest);
        // Nothing in it, or nothing any more.
        self.change(partition, |seen| seen.or(Some(Last { offset: end, what: None })));
        Ok(())
    }

    async fn catch_up(&self, link: &Link, partition: Partition) -> Result<(), StoreError> {
        loop {
            let Some(seen) = self.seen(partition) else {
                return self.begin(link, partition, read::log_end(link, partition).await?).await;
            };
            // With the entry that was seen last: it must still be the same one.
            let (after, more) = if seen.what.is_some() { (seen.offset.saturating_sub(1), 1) } else { (seen.offset, 0) };
            let mut entries = read::log(link, partition, after, READ_AT_ONCE + more).await?;
            if entries.first().is_some_and(|first| first.offset == seen.offset) {
                let there = entries.remove(0);
                if seen.what.as_ref() != Some(&What::of(&there)) {
                    self.begin_again(partition, &seen, read::log_end(link, partition).await?);
                    return Ok(());
                }
            }
            self.hand_on(partition, &entries);
            if entries.is_empty() {
                let end = read::log_end(link, partition).await?;
                if end < seen.offset {
                    self.begin_again(partition, &seen, end);
                }
            }
            if entries.len() < READ_AT_ONCE {
                return Ok(());
            }
        }
    }

    /// After a fail-over to a copy that was behind, offsets that have been handed on come a second time. So everybody's
    /// feed ends here, which tells them that what they know of the logs may not be so.
    fn begin_again(&self, partition: Partition, seen: &Last, end: Offset) {
        let was = seen.offset;
        tracing::warn!(%partition, seen = was, end, "a log has lost its end, which was acknowledged");
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = seen.get_mut(usize::from(partition.0)) {
            // The next look begins with its newest.
            *seen = None;
        }
        // Before anything else is handed on: who listens must not be told anew while what it knew has not ended.
        *self.listeners() = broadcast::channel(self.capacity).0;
    }

    /// As they are in the log; what was handed on meanwhile is left out.
    fn hand_on(&self, partition: Partition, entries: &[Arc<Entry>]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = seen.get_mut(usize::from(partition.0)) else { return };
        for entry in entries {
            if seen.as_ref().is_none_or(|seen| entry.offset > seen.offset) {
                *seen = Some(Last::of(entry));
                let _ = self.listeners().send(entry.clone());
            }
        }
    }

    /// Until there is a new connection, or it is time to try again.
    async fn pause(&self, link: &Link) {
        let mut renewed = link.renewed();
        let until = Instant::now() + TRY_AGAIN;
        // Both ends mean the same.
        let _ = tokio::time::timeout_at(until, renewed.changed()).await;
    }

    fn seen(&self, partition: Partition) -> Option<Last> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(usize::from(partition.0)).cloned().flatten()
    }

    fn change(&self, partition: Partition, change: impl FnOnce(Option<Last>) -> Option<Last>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = seen.get_mut(usize::from(partition.0)) {
            *seen = change(seen.take());
        }
    }

    fn is_wanted(&self) -> bool {
        self.listeners().receiver_count() > 0
    }

    fn listeners(&self) -> MutexGuard<'_, broadcast::Sender<Arc<Entry>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partitions(&self) -> u16 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len() as u16
    }
}

/// Anybody may publish anything.
fn partition(message: &redis::Msg, partitions: u16) -> Option<Partition> {
    let number = std::str::from_utf8(message.get_payload_bytes()).ok()?.parse().ok()?;
    (number < partitions).then_some(Partition(number))
}

fn lost() -> StoreError {
    StoreError::Unavailable("the feed has lost its connection".to_owned())
}

const LOOK_EVERY: Duration = Duration::from_secs(3);
const TRY_AGAIN: Duration = Duration::from_secs(1);
const READ_AT_ONCE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_appended_here_while_the_end_is_asked_for_is_no_loss() {
        let feed = Feed::new(1, 4);
        let listener = feed.subscribe();
        feed.change(Partition(0), |_| Some(Last { offset: 9, what: None }));
        let asked = async {
            let (pile, payload) = (format!("{:014}", 1).parse().expect("14 digits"), bytes::Bytes::new());
            let entry =
                Entry { partition: Partition(0), offset: 10, pile, epoch: crate::domain::Epoch(1), seq: 1, payload };
            feed.hand_on(Partition(0), &[Arc::new(entry)]);
            Ok(9)
        };
        assert!(matches!(feed.compare(Partition(0), asked).await, Ok(Look::Same)));
        assert!(matches!(feed.compare(Partition(0), async { Ok(9) }).await, Ok(Look::Lost { end: 9, .. })));
        drop(listener);
    }

    #[test]
    fn nothing_is_handed_on_between_the_end_of_a_log_and_the_end_of_its_feed() {
        let feed = Arc::new(Feed::new(1, 4));
        let mut before = feed.subscribe();
        let last = Last { offset: 9, what: None };
        feed.change(Partition(0), |_| Some(last.clone()));
        // The channel cannot be replaced yet.
        let listeners = feed.listeners();
        let again = feed.clone();
        let beginning = std::thread::spawn(move || again.begin_again(Partition(0), &last, 3));
        // Whoever hands something on looks here first: it waits, many times over, or still sees the log as it was.
        let mut waited = 0;
        while waited < 1000 {
            match feed.seen.try_lock() {
                Ok(seen) => assert!(seen[0].is_some(), "forgotten, and the feed goes on"),
                Err(_) => waited += 1,
            }
            std::thread::yield_now();
        }
        drop(listeners);
        beginning.join().expect("no panic");
        assert!(feed.seen(Partition(0)).is_none());
        assert!(matches!(before.try_recv(), Err(broadcast::error::TryRecvError::Closed)));
    }
}
