//! Putting again what the store may have lost of an order.
//!
//! A fail-over may lose writes that were acknowledged, and then only who held the order last knows of it. Whoever has the
//! pile by then must neither start it again nor bill it to nobody. So it is put again, under no fence; what is there
//! already stays as it is.

use super::telling::{BATCH_WEIGHT, PER_BATCH, weight_of, weight_of_order};
use crate::domain::{Event, Order, PileCode};
use crate::store::ledger::{Document, Expect, StartAttempt, Write, WriteError};
use crate::store::{BatchId, StoreError};

/// An order on its way back into the store.
#[derive(Clone)]
pub struct Putting {
    write: Write,
    /// What was not yet told of the order when its holder lost the pile, and does not fit into `write`.
    untold: Vec<Event>,
}

impl Putting {
    /// The order, what has started it, and what is still to be told of it: only if the order is not there, since otherwise
    /// somebody else tells its life.
    pub fn of(order: Box<Order>, untold: Vec<Event>, id: BatchId) -> Self {
        let (pile, weight) = (order.pile, weight_of_order(&order));
        let attempt = StartAttempt::of(&order).map(|attempt| (Document::StartAttempt(attempt), Expect::Absent));
        let documents = attempt.into_iter().chain([(Document::Order(order), Expect::Absent)]).collect();
        Self::batch(pile, documents, untold, id, weight)
    }

    pub fn write(&self) -> Write {
        self.write.clone()
    }

    /// What is left to do after the store has answered, as the batch `next`.
    pub fn answered(&self, result: Result<Vec<u64>, WriteError>, next: BatchId) -> Result<Option<Self>, StoreError> {
        let Write { pile, ref documents, .. } = self.write;
        match result {
            Ok(_) if self.untold.is_empty() => Ok(None),
            Ok(_) => Ok(Some(Self::batch(pile, vec![], self.untold.clone(), next, 0))),
            // Mostly the start is still known: nothing was lost. But whoever has the pile may have found the order by its
            // serial, or by its bill, without learning what started it: then that alone is put again.
            Err(WriteError::Conflict { at, current }) => {
                let refused_order = matches!(documents[at].0, Document::Order(_));
                let mut left = documents.clone();
                // It learns how it began, too. Its owner finds it changed, and merges; a bill stays as it is.
                if let ((Document::Order(ours), _), Some((Document::Order(mut theirs), version))) =
                    (left.remove(at), current)
                    && theirs.state.is_open()
                    && theirs.learns_beginning(&ours)
                {
                    left.push((Document::Order(theirs), Expect::Version(version)));
                }
                let goes_on = refused_order && !left.is_empty();
                Ok(goes_on.then(|| Self::batch(pile, left, vec![], next, 0)))
            }
            Err(WriteError::Fenced) => Ok(None),
            Err(WriteError::Store(error)) => Err(error),
        }
    }

    /// As many of the events as one batch may hold, and at least one.
    fn batch(
        pile: PileCode,
        documents: Vec<(Document, Expect)>,
        mut events: Vec<Event>,
        id: BatchId,
        mut weight: usize,
    ) -> Self {
        let fits = |event: &&Event| {
            let fits = weight < BATCH_WEIGHT;
            weight += weight_of(&event.kind);
            fits
        };
        let fitting = events.iter().take(PER_BATCH).take_while(fits).count().max(1);
        let untold = events.split_off(fitting.min(events.len()));
        Self { write: Write { id, pile, fence: None, documents, events }, untold }
    }
}
