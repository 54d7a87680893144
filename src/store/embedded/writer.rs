//! The one thread that writes.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{self, Runtime};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::disk::Disk;
use super::layout::Failure;
use super::tables::Tables;
use crate::store::{Entry, StoreError};

pub(super) enum Message {
    Job(Job),
    /// Take nothing more, carry out what waits, end.
    Close,
}

/// One operation: applied within the group's transaction, answered after its commit. The error is the disk's. Without a
/// transaction it is told why there is none, and tells its caller.
pub(super) type Job = Box<dyn FnOnce(Result<&mut Tables<'_>, &str>) -> Result<Answer, String> + Send>;
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
        let applied = match tables {
            Ok(tables) => operation(tables),
            Err(why) => Err(Failure::Disk(why.to_owned())),
        };
        let outcome = match applied {
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
    pub(super) disk: Arc<Disk>,
    pub(super) waiting: mpsc::Receiver<Message>,
    pub(super) feed: broadcast::Sender<Arc<Entry>>,
    pub(super) partitions: u16,
    /// Cancelled when the thread ends, however it does.
    pub(super) ended: CancellationToken,
}

impl Writer {
    pub(super) fn start(self) -> io::Result<JoinHandle<()>> {
        let clock = runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new().name("pileway-store".to_owned()).spawn(move || {
            let _ended = self.ended.clone().drop_guard();
            // Whoever waits gets `Unavailable`: the queue and all reply slots are dropped with the panic.
            if catch_unwind(AssertUnwindSafe(|| self.run(&clock))).is_err() {
                tracing::error!("the store's writer panicked: nothing can be stored until a restart");
            }
        })
    }

    fn run(mut self, clock: &Runtime) {
        let mut group = VecDeque::with_capacity(MAX_GROUP);
        let (mut pause, mut mended) = (FIRST_PAUSE, None::<Instant>);
        while let Some(why) = self.write(&mut group) {
            tracing::error!(%why, "the store cannot write");
            // A disk that passes the trial and fails soon after is tried ever more rarely.
            if mended.is_none_or(|at| at.elapsed() > RELAPSE) {
                pause = FIRST_PAUSE;
            }
            let Some(next) = self.mend(why, pause, &mut group, clock) else { break };
            tracing::info!("the store can write again");
            (pause, mended) = (next, Some(Instant::now()));
        }
    }

    /// Until something fails, and why it did; `None` if the store is closed.
    fn write(&mut self, group: &mut VecDeque<Job>) -> Option<String> {
        while let Some(first) = self.waiting.blocking_recv() {
            self.gather(first, group);
            if let Err(why) = self.commit(group) {
                return Some(why);
            }
        }
        None
    }

    /// Until something can be written again, and what the next pause would have been; `None` if the store is closed
    /// before. Meanwhile no operation is tried: each would add a failure, and after a failure readers have to do without
    /// the file until it is open again.
    fn mend(
        &mut self,
        why: String,
        mut pause: Duration,
        group: &mut VecDeque<Job>,
        clock: &Runtime,
    ) -> Option<Duration> {
        let mut trouble = why;
        loop {
            if let Err(why) = self.disk.reopen() {
                trouble = why;
            }
            self.disk.set_trouble(Some(trouble.clone()));
            let until = Instant::now() + pause;
            while let Ok(message) = clock.block_on(async { timeout_at(until, self.waiting.recv()).await }) {
                self.gather(message?, group);
                refuse(group, &trouble);
            }
            pause = (2 * pause).min(LAST_PAUSE);
            match self.disk.try_write() {
                Ok(()) => {
                    self.disk.set_trouble(None);
                    return Some(pause);
                }
                Err(why) => trouble = why,
            }
        }
    }

    fn gather(&mut self, first: Message, group: &mut VecDeque<Job>) {
        self.take(first, group);
        while group.len() < MAX_GROUP {
            let Ok(next) = self.waiting.try_recv() else { break };
            self.take(next, group);
        }
    }

    fn take(&mut self, message: Message, group: &mut VecDeque<Job>) {
        match message {
            Message::Job(job) => group.push_back(job),
            Message::Close => self.waiting.close(),
        }
    }

    /// One transaction, one fsync; then the feed, then the answers: whoever has an answer can find its events.
    fn commit(&self, group: &mut VecDeque<Job>) -> Result<(), String> {
        let mut answers = Vec::with_capacity(group.len());
        let outcome = self.apply(group, &mut answers);
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
                // Before the answers: whoever has one finds the store unhealthy.
                self.disk.set_trouble(Some(why.clone()));
                for answer in answers {
                    answer(Err(&why));
                }
                refuse(group, &why);
                Err(why)
            }
        }
    }

    /// What it does not reach stays in the group.
    fn apply(&self, group: &mut VecDeque<Job>, answers: &mut Vec<Answer>) -> Result<Vec<Arc<Entry>>, String> {
        fn disk(error: impl Into<redb::Error>) -> String {
            error.into().to_string()
        }
        let begun = match &*self.disk.database.read().unwrap_or_else(PoisonError::into_inner) {
            // Durability::Immediate is redb's default: commit returns after fsync.
            Some(database) => database.begin_write().map_err(disk),
            None => Err("the database is not open".to_owned()),
        };
        let transaction = begun?;
        let mut tables = Tables::open(&transaction, self.partitions).map_err(disk)?;
        while let Some(job) = group.pop_front() {
            answers.push(job(Ok(&mut tables))?);
        }
        let written = tables.finish();
        match written {
            Some(entries) => transaction.commit().map_err(disk).map(|()| entries),
            None => transaction.abort().map_err(disk).map(|()| Vec::new()),
        }
    }
}

fn refuse(group: &mut VecDeque<Job>, why: &str) {
    for job in group.drain(..) {
        // Its error is `why` again.
        let _ = job(Err(why));
    }
}

/// More would make the first of a group wait noticeably for the last.
const MAX_GROUP: usize = 256;
/// Before the first try to write again, doubled up to the last: opening a big file that was not closed reads all of it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// A failure so soon after the last one was over is the same trouble.
const RELAPSE: Duration = Duration::from_mins(2);
