//! The store behind the journal, and what can be wrong with it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures_util::future::BoxFuture;
use pileway::domain::{Fence, PileCode};
use pileway::store::embedded::{Config, Embedded};
use pileway::store::{
    Batch, Claim, Claimed, Committed, Entry, Indexed, Key, Lease, Offset, Orphan, Partition, Renewed, Scan, Settled,
    Settlement, Store, StoreError, Versioned,
};
use tempfile::TempDir;
use tokio::sync::{Notify, OwnedRwLockWriteGuard, broadcast};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    Here,
    /// No call gets there.
    Away,
    /// The same, and that is known without asking.
    Gone,
    /// Calls get there and are carried out, and nobody is told; only refusals are heard.
    Mute,
    /// Whatever would be written is at fault.
    Refusing,
}

pub struct Far {
    place: RwLock<Place>,
    mood: Mutex<Mood>,
    /// Writes, as far as they were carried out, in order.
    done: Mutex<Vec<Call>>,
    /// Held by a test that wants calls to hang.
    gate: Arc<tokio::sync::RwLock<()>>,
    asked: Notify,
    hanging: AtomicUsize,
    /// Calls while it was gone.
    in_vain: AtomicUsize,
}

#[derive(Clone)]
struct Place {
    store: Arc<Embedded>,
    _dir: Arc<TempDir>,
}

#[derive(Clone)]
enum Call {
    Commit(Partition, Batch),
    Claim(Claim),
    Release(PileCode, Fence),
    Settle(Box<Settlement>),
}

impl Call {
    fn writes(&self) -> bool {
        match self {
            Self::Commit(_, batch) => !batch.put.is_empty() || !batch.append.is_empty(),
            Self::Claim(_) | Self::Release(..) | Self::Settle(_) => true,
        }
    }
}

enum Answer {
    Committed(Committed),
    Claimed(Box<Claimed>),
    Released(bool),
    Settled(Settled),
}

impl Far {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            place: RwLock::new(place()),
            mood: Mutex::new(Mood::Here),
            done: Mutex::default(),
            gate: Arc::default(),
            asked: Notify::new(),
            hanging: AtomicUsize::new(0),
            in_vain: AtomicUsize::new(0),
        })
    }

    pub fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    /// Writes hang until what is returned is dropped.
    pub fn hold(&self) -> OwnedRwLockWriteGuard<()> {
        self.gate.clone().try_write_owned().expect("nobody calls yet")
    }

    /// Returns when a write has come that hangs.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Writes that have come to hang.
    pub fn hanging(&self) -> usize {
        self.hanging.load(Ordering::SeqCst)
    }

    /// Calls that have come while it was gone.
    pub fn in_vain(&self) -> usize {
        self.in_vain.load(Ordering::SeqCst)
    }

    pub fn partition(&self, pile: PileCode) -> Partition {
        Partition::of(pile, self.partitions())
    }

    /// The last `n` writes never happened.
    pub fn lose(&self, n: usize) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let left = done.len() - n;
        done.truncate(left);
        let (new, calls) = (place(), done.clone());
        let store = new.store.clone();
        let replay = async {
            for call in calls {
                perform(&store, call).await.expect("as the first time");
            }
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(replay));
        *self.place.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    fn store(&self) -> Arc<Embedded> {
        self.place.read().unwrap_or_else(PoisonError::into_inner).store.clone()
    }

    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, call: Call) -> Result<Answer, StoreError> {
        if self.gate.try_read().is_err() {
            self.hanging.fetch_add(1, Ordering::SeqCst);
            self.asked.notify_one();
        }
        let _open = self.gate.read().await;
        match self.mood() {
            Mood::Away => return Err(away()),
            Mood::Gone => return Err(self.gone()),
            Mood::Refusing if call.writes() => return Err(StoreError::Invalid("refused".to_owned())),
            Mood::Here | Mood::Mute | Mood::Refusing => {}
        }
        let answer = perform(&self.store(), call.clone()).await?;
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        if self.mood() == Mood::Mute { Err(away()) } else { Ok(answer) }
    }

    fn gone(&self) -> StoreError {
        self.in_vain.fetch_add(1, Ordering::SeqCst);
        away()
    }

    /// Reads of a mute store are as lost as its answers.
    async fn read<T>(&self, read: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        match self.mood() {
            Mood::Away | Mood::Mute => Err(away()),
            Mood::Gone => Err(self.gone()),
            Mood::Here | Mood::Refusing => read.await,
        }
    }
}

fn place() -> Place {
    let dir = Arc::new(tempfile::tempdir().expect("a directory"));
    Place { store: Arc::new(Embedded::open(Config::new(dir.path())).expect("opens")), _dir: dir }
}

async fn perform(store: &Embedded, call: Call) -> Result<Answer, StoreError> {
    Ok(match call {
        Call::Commit(partition, batch) => Answer::Committed(store.commit(partition, batch).await?),
        Call::Claim(claim) => Answer::Claimed(Box::new(store.claim(claim).await?)),
        Call::Release(pile, fence) => Answer::Released(store.release(pile, fence).await?),
        Call::Settle(settlement) => Answer::Settled(store.settle(*settlement).await?),
    })
}

fn away() -> StoreError {
    StoreError::Unavailable("away".to_owned())
}

impl Store for Far {
    fn commit(&self, partition: Partition, batch: Batch) -> BoxFuture<'_, Result<Committed, StoreError>> {
        Box::pin(async move {
            let Answer::Committed(done) = self.write(Call::Commit(partition, batch)).await? else { unreachable!() };
            Ok(done)
        })
    }

    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, StoreError>> {
        Box::pin(async move {
            let Answer::Claimed(claimed) = self.write(Call::Claim(claim)).await? else { unreachable!() };
            Ok(*claimed)
        })
    }

    fn release(&self, pile: PileCode, fence: Fence) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            let Answer::Released(released) = self.write(Call::Release(pile, fence)).await? else { unreachable!() };
            Ok(released)
        })
    }

    fn settle(&self, settlement: Settlement) -> BoxFuture<'_, Result<Settled, StoreError>> {
        Box::pin(async move {
            let call = Call::Settle(Box::new(settlement));
            let Answer::Settled(settled) = self.write(call).await? else { unreachable!() };
            Ok(settled)
        })
    }

    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>> {
        Box::pin(async move {
            let store = self.store();
            self.read(store.get(key)).await
        })
    }

    fn owner(&self, pile: PileCode) -> BoxFuture<'_, Result<Option<Fence>, StoreError>> {
        Box::pin(async move {
            let store = self.store();
            self.read(store.owner(pile)).await
        })
    }

    fn list(&self, partition: Partition, scan: Scan) -> BoxFuture<'_, Result<Vec<Indexed>, StoreError>> {
        Box::pin(async move {
            let store = self.store();
            self.read(store.list(partition, scan)).await
        })
    }

    fn read_log(
        &self,
        partition: Partition,
        after: Offset,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Arc<Entry>>, StoreError>> {
        Box::pin(async move {
            let store = self.store();
            self.read(store.read_log(partition, after, limit)).await
        })
    }

    fn log_end(&self, partition: Partition) -> BoxFuture<'_, Result<Offset, StoreError>> {
        Box::pin(async move {
            let store = self.store();
            self.read(store.log_end(partition)).await
        })
    }

    fn feed(&self) -> broadcast::Receiver<Arc<Entry>> {
        self.store().feed()
    }

    fn trim(&self, partition: Partition, before: Offset, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move {
            let store = self.store();
            self.read(store.trim(partition, before, limit)).await
        })
    }

    fn expire(&self, partition: Partition, before: String, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move {
            let store = self.store();
            self.read(store.expire(partition, before, limit)).await
        })
    }

    fn renew(&self, lease: Lease) -> BoxFuture<'_, Result<Renewed, StoreError>> {
        Box::pin(async move {
            let store = self.store();
            self.read(store.renew(lease)).await
        })
    }

    fn retire(&self, incarnation: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let store = self.store();
            self.read(store.retire(incarnation)).await
        })
    }

    fn orphans(
        &self,
        partition: Partition,
        living: Vec<u64>,
        after: Option<Orphan>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Orphan>, StoreError>> {
        Box::pin(async move {
            let store = self.store();
            self.read(store.orphans(partition, living, after, limit)).await
        })
    }

    fn lineage(&self) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        Box::pin(async move {
            let store = self.store();
            self.read(store.lineage()).await
        })
    }

    fn partitions(&self) -> u16 {
        self.store().partitions()
    }

    /// It finds out by being asked.
    fn health(&self) -> Result<(), StoreError> {
        if self.mood() == Mood::Gone { Err(away()) } else { Ok(()) }
    }
}
