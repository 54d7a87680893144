//! The typed door: domain values in, domain values out. What it adds to the store is meaning: which documents and
//! events go together, what a record does to its order, and what is tried again.

mod settling;
mod journaled;
mod drain;
mod housekeeping;
mod amend;
mod curves;

use std::fmt;
use std::sync::Arc;

use super::{
    Batch, BatchId, Claim, Key, Kind, Partition, Precondition, Put, Settled, Store, StoreError, Versioned, document,
};
use crate::domain::{Event, Fence, Order, OrderState, Pile, PileCode, Record, RequestId, Serial};

pub use super::document::{Retention, StartAttempt};
use super::journal::Journal;
pub use amend::Amended;
pub use drain::Round;
pub use housekeeping::{EXPIRE_LIMIT, housekeep};
pub use journaled::Resettled;
use settling::{Told, merged};

#[derive(Clone)]
pub struct Ledger {
    store: Arc<dyn Store>,
    /// `None` if the store is this node's own disk: then store and journal are one.
    journal: Option<Journal>,
    retention: Retention,
}

/// What a session learns when it becomes the pile's owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    pub fence: Fence,
    /// Whose session this login ends.
    pub previous: Option<Fence>,
    pub pile: Option<(Pile, u64)>,
    /// By gun and serial.
    pub open_orders: Vec<(Order, u64)>,
}

/// Documents and events that become durable together, or not at all. All of one pile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// The same write again, under the same id, returns what it returned.
    pub id: BatchId,
    pub pile: PileCode,
    /// What must still be the pile's owner; `None` for what anybody may write.
    pub fence: Option<Fence>,
    pub documents: Vec<(Document, Expect)>,
    pub events: Vec<Event>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Document {
    Pile(Box<Pile>),
    Order(Box<Order>),
    StartAttempt(StartAttempt),
}

/// What a document must be in the store for a write to happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    Absent,
    Version(u64),
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WriteError {
    /// `documents[at]` is not what was expected; `current` is what is stored instead.
    #[error("document {at} of the write has changed")]
    Conflict { at: usize, current: Option<(Document, u64)> },
    /// Another session owns the pile by now: the writer's is over.
    #[error("the pile has another owner")]
    Fenced,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The order as it is stored after a settlement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SettledOrder {
    pub outcome: Settled,
    /// `None` when a copy came after the order itself had expired.
    pub order: Option<Order>,
    /// 0 without an order.
    pub version: u64,
}

impl Ledger {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, journal: None, retention: Retention::default() }
    }

    /// For a store that may be away: what it cannot be given waits in `journal`, until [`Ledger::drain`] brings it.
    pub fn with_journal(store: Arc<dyn Store>, journal: Journal) -> Self {
        Self { store, journal: Some(journal), retention: Retention::default() }
    }

    /// The same, and what it writes is kept so long.
    #[must_use]
    pub fn keeping(self, retention: Retention) -> Self {
        Self { retention, ..self }
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// A login, or a session that says again that it is there: [`Store::claim`]. While something of the pile waits in the
    /// journal it is [`StoreError::Unavailable`]: a new owner would fence off what the old one had written.
    pub async fn claim(&self, claim: Claim) -> Result<Login, StoreError> {
        let pile = claim.pile;
        let claimed = match &self.journal {
            None => self.store.claim(claim).await?,
            Some(journal) => self.behind_nothing(journal, pile, self.store.claim(claim)).await?,
        };
        let key = document::pile_key(pile);
        let document = claimed.pile.map(|stored| versioned(stored, |value| document::read_pile(&key, value)));
        let orders = claimed.open_orders.into_iter();
        let orders = orders.map(|(key, stored)| versioned(stored, |value| document::read_order(&key, value)));
        Ok(Login {
            fence: claimed.fence,
            previous: claimed.previous,
            pile: document.transpose()?,
            open_orders: orders.collect::<Result<_, _>>()?,
        })
    }

    /// False if `fence` is not the owner (any more). Waits for nothing, as [`Ledger::claim`] does not.
    pub async fn release(&self, pile: PileCode, fence: Fence) -> Result<bool, StoreError> {
        match &self.journal {
            None => self.store.release(pile, fence).await,
            Some(journal) => self.behind_nothing(journal, pile, self.store.release(pile, fence)).await,
        }
    }

    /// The new versions of `write.documents`, in order. With a journal a store that is away is no error: the write is
    /// durable on this node, and the versions are those it will get.
    pub async fn write(&self, write: Write) -> Result<Vec<u64>, WriteError> {
        let Write { id, pile, fence, documents, events } = write;
        let stray = documents.iter().map(|(d, _)| d.pile()).chain(events.iter().map(|e| e.pile)).find(|p| *p != pile);
        if let Some(stray) = stray {
            return Err(StoreError::Invalid(format!("a write for pile {pile} with something of pile {stray}")).into());
        }

        let mut batch = Batch::new(id);
        // First, so that a session that is over learns this rather than what its successor has written.
        batch.require.extend(fence.map(|fence| Precondition::Owner(pile, fence)));
        for (document, expect) in &documents {
            let put = document.put(&self.retention);
            batch.require.push(expect.of(&put));
            // A version says little if the document was made anew in between, as it is when a record settles an order
            // that is still in a journal. That it is settled says its record.
            batch.require.extend(document.unless_settled());
            batch.put.push(put);
        }
        batch.append = events.iter().map(document::append).collect();

        let puts: Vec<_> = batch.put.iter().map(|put| put.key.clone()).collect();
        let written = match &self.journal {
            None => self.store.commit(self.partition(pile), batch).await.map(|committed| committed.versions),
            Some(journal) => {
                // Without a fence an order is put that the pile has had for long.
                let starts =
                    fence.is_some() && documents.iter().any(|(document, expect)| document.starts_charge(*expect));
                self.write_journaled(journal, pile, batch, starts).await
            }
        };
        let (failed, current) = match written {
            Ok(versions) => return Ok(versions),
            Err(StoreError::Conflict { failed, current }) => (failed, current),
            Err(
                error @ (StoreError::Unavailable(_)
                | StoreError::Contested { .. }
                | StoreError::Superseded { .. }
                | StoreError::Invalid(_)),
            ) => {
                return Err(error.into());
            }
        };
        let key = match *failed {
            Precondition::Owner(..) => return Err(WriteError::Fenced),
            Precondition::Absent(key) | Precondition::Version(key, _) => key,
        };
        if key.kind == Kind::Record {
            return Err(self.settled_meanwhile(&key, &puts).await?);
        }
        let at = puts.iter().position(|put| *put == key);
        let at = at.ok_or_else(|| StoreError::Invalid(format!("a conflict about {key:?}, which was not written")))?;
        let current = current.map(|stored| versioned(stored, |value| documents[at].0.read_same_kind(&key, value)));
        Err(WriteError::Conflict { at, current: current.transpose()? })
    }

    /// A write of an order that its record has settled.
    async fn settled_meanwhile(&self, record: &Key, puts: &[Key]) -> Result<WriteError, StoreError> {
        let at = puts.iter().position(|put| put.kind == Kind::Order && put.id == record.id);
        let at =
            at.ok_or_else(|| StoreError::Invalid(format!("a conflict about {record:?}, whose order was not written")))?;
        let current = self.store.get(puts[at].clone()).await?;
        let current = current.map(|stored| versioned(stored, |value| document::read_order(&puts[at], value)));
        let current = current.transpose()?.map(|(order, version)| (Document::Order(Box::new(order)), version));
        Ok(WriteError::Conflict { at, current })
    }

    pub async fn pile(&self, pile: PileCode) -> Result<Option<Pile>, StoreError> {
        Ok(self.pile_versioned(pile).await?.map(|(pile, _)| pile))
    }

    pub async fn pile_versioned(&self, pile: PileCode) -> Result<Option<(Pile, u64)>, StoreError> {
        let key = document::pile_key(pile);
        let stored = self.store.get(key.clone()).await?;
        stored.map(|stored| versioned(stored, |value| document::read_pile(&key, value))).transpose()
    }

    pub async fn owner(&self, pile: PileCode) -> Result<Option<Fence>, StoreError> {
        self.store.owner(pile).await
    }

    pub async fn order(&self, pile: PileCode, serial: Serial) -> Result<Option<(Order, u64)>, StoreError> {
        let key = document::order_key(pile, serial);
        let stored = self.store.get(key.clone()).await?;
        stored.map(|stored| versioned(stored, |value| document::read_order(&key, value))).transpose()
    }

    /// The record that settled an order, as it was received; `None` also once it has shrunk to what tells a copy.
    pub async fn record(&self, pile: PileCode, serial: Serial) -> Result<Option<Record>, StoreError> {
        let key = document::record_key(pile, serial);
        let stored = self.store.get(key.clone()).await?;
        let stored = stored.filter(|stored| !stored.value.is_empty());
        stored.map(|stored| document::read_record(&key, &stored.value)).transpose()
    }

    pub async fn start_attempt(&self, pile: PileCode, id: RequestId) -> Result<Option<StartAttempt>, StoreError> {
        let key = document::start_attempt_key(pile, id);
        let stored = self.store.get(key.clone()).await?;
        stored.map(|stored| document::read_start_attempt(&key, &stored.value)).transpose()
    }

    fn partition(&self, pile: PileCode) -> Partition {
        Partition::of(pile, self.store.partitions())
    }
}

impl Document {
    fn pile(&self) -> PileCode {
        match self {
            Self::Pile(pile) => pile.code,
            Self::Order(order) => order.pile,
            Self::StartAttempt(attempt) => attempt.pile,
        }
    }

    fn put(&self, retention: &Retention) -> Put {
        match self {
            Self::Pile(pile) => document::put_pile(pile),
            Self::Order(order) => document::put_order(order, retention),
            Self::StartAttempt(attempt) => document::put_start_attempt(attempt),
        }
    }

    /// What must hold for an order that says it is not settled.
    fn unless_settled(&self) -> Option<Precondition> {
        match self {
            Self::Order(order) if order.state != OrderState::Settled => {
                Some(Precondition::Absent(document::record_key(order.pile, order.serial)))
            }
            Self::Order(_) | Self::Pile(_) | Self::StartAttempt(_) => None,
        }
    }

    fn read_same_kind(&self, key: &Key, value: &[u8]) -> Result<Self, StoreError> {
        Ok(match self {
            Self::Pile(_) => Self::Pile(Box::new(document::read_pile(key, value)?)),
            Self::Order(_) => Self::Order(Box::new(document::read_order(key, value)?)),
            Self::StartAttempt(_) => Self::StartAttempt(document::read_start_attempt(key, value)?),
        })
    }
}

impl Expect {
    fn of(self, put: &Put) -> Precondition {
        match self {
            Self::Absent => Precondition::Absent(put.key.clone()),
            Self::Version(version) => Precondition::Version(put.key.clone(), version),
        }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("partitions", &self.store.partitions()).finish_non_exhaustive()
    }
}

fn versioned<T>(stored: Versioned, read: impl FnOnce(&[u8]) -> Result<T, StoreError>) -> Result<(T, u64), StoreError> {
    let Versioned { version, value } = stored;
    Ok((read(&value)?, version))
}

#[cfg(test)]
pub(crate) mod tests;
