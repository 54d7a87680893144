//! A store that remembers what it was asked to write, so that it can be asked again.

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use pileway::domain::{Fence, PileCode};
use pileway::store::{
    Batch, Claim, Claimed, Committed, Entry, Indexed, Key, Lease, Offset, Orphan, Partition, Renewed, Scan, Settled,
    Settlement, Store, StoreError, Versioned,
};
use tokio::sync::broadcast;

pub struct Recorder {
    inner: Arc<dyn Store>,
    calls: Mutex<Vec<Call>>,
}

/// A write, exactly as it was sent.
#[derive(Clone, Debug)]
pub enum Call {
    Commit(Partition, Batch),
    Claim(Claim),
    Release(PileCode, Fence),
    Settle(Box<Settlement>),
}

impl Recorder {
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, calls: Mutex::default() }
    }

    /// The newest writes, newest first.
    pub fn latest(&self, count: usize) -> Vec<Call> {
        self.calls.lock().expect("no panic").iter().rev().take(count).cloned().collect()
    }

    pub fn forget(&self) {
        self.calls.lock().expect("no panic").clear();
    }

    /// Sends it again, as a client that has lost the answer does. What comes of it is nobody's business.
    pub async fn send_again(&self, call: Call) {
        match call {
            Call::Commit(partition, batch) => drop(self.inner.commit(partition, batch).await),
            Call::Claim(claim) => drop(self.inner.claim(claim).await),
            Call::Release(pile, fence) => drop(self.inner.release(pile, fence).await),
            Call::Settle(settlement) => drop(self.inner.settle(*settlement).await),
        }
    }

    fn record(&self, call: Call) {
        self.calls.lock().expect("no panic").push(call);
    }
}

impl Store for Recorder {
    fn commit(&self, partition: Partition, batch: Batch) -> BoxFuture<'_, Result<Committed, StoreError>> {
        self.record(Call::Commit(partition, batch.clone()));
        self.inner.commit(partition, batch)
    }

    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, StoreError>> {
        self.record(Call::Claim(claim));
        self.inner.claim(claim)
    }

    fn release(&self, pile: PileCode, fence: Fence) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.record(Call::Release(pile, fence));
        self.inner.release(pile, fence)
    }

    fn settle(&self, settlement: Settlement) -> BoxFuture<'_, Result<Settled, StoreError>> {
        self.record(Call::Settle(Box::new(settlement.clone())));
        self.inner.settle(settlement)
    }

    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>> {
        self.inner.get(key)
    }

    fn owner(&self, pile: PileCode) -> BoxFuture<'_, Result<Option<Fence>, StoreError>> {
        self.inner.owner(pile)
    }

    fn list(&self, partition: Partition, scan: Scan) -> BoxFuture<'_, Result<Vec<Indexed>, StoreError>> {
        self.inner.list(partition, scan)
    }

    fn read_log(
        &self,
        partition: Partition,
        after: Offset,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Arc<Entry>>, StoreError>> {
        self.inner.read_log(partition, after, limit)
    }

    fn log_end(&self, partition: Partition) -> BoxFuture<'_, Result<Offset, StoreError>> {
        self.inner.log_end(partition)
    }

    fn feed(&self) -> broadcast::Receiver<Arc<Entry>> {
        self.inner.feed()
    }

    fn expire(&self, partition: Partition, before: String, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.inner.expire(partition, before, limit)
    }

    fn trim(&self, partition: Partition, before: Offset, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.inner.trim(partition, before, limit)
    }

    fn renew(&self, lease: Lease) -> BoxFuture<'_, Result<Renewed, StoreError>> {
        self.inner.renew(lease)
    }

    fn retire(&self, incarnation: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.retire(incarnation)
    }

    fn orphans(
        &self,
        partition: Partition,
        living: Vec<u64>,
        after: Option<Orphan>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Orphan>, StoreError>> {
        self.inner.orphans(partition, living, after, limit)
    }

    fn lineage(&self) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        self.inner.lineage()
    }

    fn partitions(&self) -> u16 {
        self.inner.partitions()
    }

    fn health(&self) -> Result<(), StoreError> {
        self.inner.health()
    }
}
