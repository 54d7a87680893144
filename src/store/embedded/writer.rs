//! The one thread that writes.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use redb::Database;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::layout::Failure;
use super::tables::Tables;
use crate::store::{Entry, StoreError};

pub(super) enum Message {
    Job(Job),
    /// Take nothing more, carry out what waits, end.
    Close,
}

/// One operation: applied within the group's transaction, answered after its commit. The error is the disk's.
pub(super) type Job = Box<dyn FnOnce(&mut Tables<'_>) -> Result<Answer, String> + Send>;
/// Called with how the group's commit went.
pub(super) type Answer = Box<dyn FnOnce(Result<(), &str>) + Send>;

pub(super) fn job<T, F>(operation: F, reply: oneshot::Sender<Result<T, StoreError>>) -> Job
where
    T: Send + 'static,
    F: FnOnce(&mut Tables<'_>) -> Result<T, Failure> + Send + 'static,
{
    Box::new(move |tables| {
        if reply.is_closed() {
            // The caller was told that it took too long. Not doing it now is kinder than doing it late.
            return Ok(Box::new(|_| ()));
        }
        let outcome = match operation(tables) {
            Ok(value) => Ok(value),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Disk(why)) => {
                let _ = reply.send(Err(StoreError::Unavailable(why.clone())));
                return Err(why);
            }
        };
        Ok(Box::new(move |durable| {
            // A refusal may rest on what the same group wrote: it holds only if that became durable.
            let answer = durable.map_err(|why| StoreError::Unavailable(why.to_owned())).and(outcome);
            let _ = reply.send(answer);
        }))
    })
}

pub(super) struct Writer {
    pub(super) database: Arc<Database>,
    pub(super) waiting: mpsc::Receiver<Message>,
    pub(super) feed: broadcast::Sender<Arc<Entry>>,
    pub(super) partitions: u16,
}

impl Writer {
    pub(super) fn start(self) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("pileway-store".to_owned()).spawn(move || {
            // Whoever waits gets `Unavailable`: the queue and all reply slots are dropped with the panic.
            if catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
                tracing::error!("the store's writer panicked: nothing can be stored until a restart");
            }
        })
    }

    fn run(mut self) {
        let mut group = Vec::with_capacity(MAX_GROUP);
        let mut failing = false;
        while let Some(first) = self.waiting.blocking_recv() {
            self.take(first, &mut group);
            while group.len() < MAX_GROUP {
                let Ok(next) = self.waiting.try_recv() else { break };
                self.take(next, &mut group);
            }
            let outcome = self.commit(&mut group);
            match (&outcome, failing) {
                (Err(why), false) => tracing::error!(%why, "the store cannot write"),
                (Ok(()), true) => tracing::info!("the store can write again"),
                (Err(_), true) | (Ok(()), false) => {}
            }
            failing = outcome.is_err();
        }
    }

    fn take(&mut self, message: Message, group: &mut Vec<Job>) {
        match message {
            Message::Job(job) => group.push(job),
            Message::Close => self.waiting.close(),
        }
    }

    /// One transaction, one fsync; then the feed, then the answers: whoever has an answer can find its events.
    fn commit(&self, group: &mut Vec<Job>) -> Result<(), String> {
        let mut answers = Vec::with_capacity(group.len());
        let outcome = self.apply(group, &mut answers);
        // Jobs that were not reached are dropped, which answers them.
        group.clear();
        match outcome {
            Ok(entries) => {
                for entry in entries {
                    // Fails only if nobody listens.
                    let _ = self.feed.send(entry);
                }
                for answer in answers {
                    answer(Ok(()));
                }
                Ok(())
            }
            Err(why) => {
                for answer in answers {
                    answer(Err(&why));
                }
                Err(why)
            }
        }
    }

    fn apply(&self, group: &mut Vec<Job>, answers: &mut Vec<Answer>) -> Result<Vec<Arc<Entry>>, String> {
        fn disk(error: impl Into<redb::Error>) -> String {
            error.into().to_string()
        }
        // Durability::Immediate is redb's default: commit returns after fsync.
        let transaction = self.database.begin_write().map_err(disk)?;
        let mut tables = Tables::open(&transaction, self.partitions).map_err(disk)?;
        for job in group.drain(..) {
            answers.push(job(&mut tables)?);
        }
        let written = tables.finish();
        match written {
            Some(entries) => transaction.commit().map_err(disk).map(|()| entries),
            None => transaction.abort().map_err(disk).map(|()| Vec::new()),
        }
    }
}

/// More would make the first of a group wait noticeably for the last.
const MAX_GROUP: usize = 256;
