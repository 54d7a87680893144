//! Charging curves, chunk by chunk. They are not worth money: they go to the store or not at all, never to the journal.

use super::{Ledger, WriteError};
use crate::domain::curve::Chunk;
use crate::domain::{Fence, PileCode, Serial, WallMs};
use crate::store::{Batch, IndexName, Precondition, Scan, StoreError, document};

impl Ledger {
    /// Stores a chunk until `expires`; with a fence, for the pile's owner only. The same chunk again, with more moments in it, replaces what
    /// was there. While the store is away, or older writes of the pile wait for it, nothing happens.
    pub async fn keep_curve(&self, chunk: &Chunk, fence: Option<Fence>, expires: WallMs) -> Result<(), WriteError> {
        let pile = chunk.pile;
        // Nobody's turn is held while a store that is known to be away is asked.
        self.store.health()?;
        let batch = Batch {
            id: None,
            require: fence.map(|fence| Precondition::Owner(pile, fence)).into_iter().collect(),
            put: vec![document::put_curve(chunk, expires)],
            delete: vec![],
            append: vec![],
        };
        let commit = self.store.commit(self.partition(pile), batch);
        let kept = match &self.journal {
            None => commit.await,
            Some(journal) => self.behind_nothing(journal, pile, commit).await,
        };
        match kept {
            Ok(_) => Ok(()),
            // There is no other precondition.
            Err(StoreError::Conflict { .. }) => Err(WriteError::Fenced),
            Err(
                error @ (StoreError::Unavailable(_)
                | StoreError::Contested { .. }
                | StoreError::Superseded { .. }
                | StoreError::Invalid(_)),
            ) => Err(error.into()),
        }
    }

    /// What is stored of a charge's curve, oldest first; at most the first [`Scan::MAX_LIMIT`] chunks, three days of them.
    pub async fn curve(&self, pile: PileCode, serial: Serial) -> Result<Vec<Chunk>, StoreError> {
        let scan = Scan {
            index: IndexName::Curve,
            prefix: document::curve_prefix(pile, serial),
            after: None,
            from: String::new(),
            to: String::new(),
            descending: false,
            limit: Scan::MAX_LIMIT,
        };
        let found = self.store.list(self.partition(pile), scan).await?;
        found.into_iter().map(|found| document::read_curve(&found.cursor.key, &found.document.value)).collect()
    }
}
