//! Putting again what the store may have lost of an order.
//!
//! A fail-over may lose writes that were acknowledged, and then only who held the order last knows of it. Whoever has the
//! pile by then must neither start it again nor bill it to nobody. So it is put again, under no fence, if it is not there.
//! If somebody has found it by its serial meanwhile, that order learns how it began; all else of it stays as it is.

use super::telling::{BATCH_WEIGHT, PER_BATCH, weight_of, weight_of_order, weight_of_pile};
use crate::domain::{Event, Order, PileCode, WallMs};
use crate::store::document::START_ATTEMPT_KEPT_MS;
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
    pub fn of(order: Box<Order>, untold: Vec<Event>, id: BatchId, now: WallMs) -> Self {
        let pile = order.pile;
        // One of a day ago has been forgotten rather than lost.
        let attempt =
            StartAttempt::of(&order).filter(|attempt| now < attempt.created_at.plus_ms(START_ATTEMPT_KEPT_MS));
        let attempt = attempt.map(|attempt| (Document::StartAttempt(attempt), Expect::Absent));
        let documents = attempt.into_iter().chain([(Document::Order(order), Expect::Absent)]).collect();
        Self::batch(pile, documents, untold, id)
    }

    pub fn write(&self) -> Write {
        self.write.clone()
    }

    /// What is left to do after the store has answered, as the batch `next`.
    pub fn answered(
        &self,
        result: Result<Vec<u64>, WriteError>,
        (next, now): (BatchId, WallMs),
    ) -> Result<Option<Self>, StoreError> {
        let Write { pile, ref documents, ref events, .. } = self.write;
        match result {
            Ok(versions) => Ok(self.go_on(&versions, next)),
            Err(WriteError::Conflict { at, current }) => {
                let mut left = documents.clone();
                let mut untold = vec![];
                match (left.remove(at).0, current) {
                    // Who has put the attempt has seen to the order, too. Mostly nothing was lost.
                    (Document::StartAttempt(ours), Some((Document::StartAttempt(known), _)))
                        if known.serial == ours.serial && self.is_first() =>
                    {
                        return Ok(None);
                    }
                    // A retry has led to another order, or somebody has put the attempt meanwhile: the order remains.
                    (Document::StartAttempt(_), _) => untold.extend(events.iter().chain(&self.untold).cloned()),
                    // Whoever has the pile has found it by its serial, or by its bill, which stays as it is.
                    (Document::Order(ours), Some((Document::Order(mut theirs), version))) => {
                        if theirs.state.is_open() && theirs.learns_beginning(&ours) {
                            theirs.keeps_word_of(&ours, now);
                            left.push((Document::Order(theirs), Expect::Version(version)));
                        }
                    }
                    (Document::Order(_) | Document::Pile(_), _) => {}
                }
                Ok((!left.is_empty()).then(|| Self::batch(pile, left, untold, next)))
            }
            Err(WriteError::Fenced) => Ok(None),
            Err(WriteError::Store(error)) => Err(error),
        }
    }

    /// Nothing of it has been refused yet.
    fn is_first(&self) -> bool {
        self.write.documents.len() == 2 && self.write.documents.iter().all(|(_, expect)| *expect == Expect::Absent)
    }

    /// The rest of what is to be told, for as long as nobody else has written the order.
    fn go_on(&self, versions: &[u64], next: BatchId) -> Option<Self> {
        if self.untold.is_empty() {
            return None;
        }
        let documents = self.write.documents.iter().zip(versions);
        let order = documents.filter(|((document, _), _)| matches!(document, Document::Order(_)));
        let order = order.map(|((document, _), version)| (document.clone(), Expect::Version(*version))).collect();
        Some(Self::batch(self.write.pile, order, self.untold.clone(), next))
    }

    /// As many of the events as one batch may hold, and at least one.
    fn batch(pile: PileCode, documents: Vec<(Document, Expect)>, mut events: Vec<Event>, id: BatchId) -> Self {
        let mut weight: usize = documents.iter().map(|(document, _)| weight_of_document(document)).sum();
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

fn weight_of_document(document: &Document) -> usize {
    match document {
        Document::Order(order) => weight_of_order(order),
        Document::Pile(pile) => weight_of_pile(pile),
        Document::StartAttempt(_) => 0,
    }
}
