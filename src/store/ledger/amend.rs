//! Changing an order of a pile that has no session.
//!
//! Everything else about an order is written by its pile's owner. What an operator wants of an order must not wait for a
//! pile that may never come back: it is written here, by whichever node is asked, on the condition that the order is still
//! what was judged. An owner that writes the order after that finds the version changed, and merges.

use super::settling::order_event;
use super::{Ledger, Told};
use crate::domain::order::Change;
use crate::domain::{CommandError, Order, OrderState, PileCode, Serial, WallMs};
use crate::store::document;
use crate::store::{Append, Batch, Precondition, StoreError};

/// What came of [`Ledger::amend`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Amended {
    /// As it is stored now, changed or not.
    Done(Box<Order>),
    Refused(CommandError),
    /// There is no such order.
    Unknown,
}

impl Ledger {
    /// Applies `change` to the stored order, and stores what it makes of it with an event for each change. It is asked
    /// again whenever the order has changed meanwhile.
    pub async fn amend(
        &self,
        pile: PileCode,
        serial: Serial,
        now: WallMs,
        change: impl Fn(&mut Order) -> Result<Vec<Change>, CommandError>,
    ) -> Result<Amended, StoreError> {
        for _ in 0..ATTEMPTS {
            let Some((mut order, version)) = self.order(pile, serial).await? else { return Ok(Amended::Unknown) };
            let changes = match change(&mut order) {
                Ok(changes) if changes.is_empty() => return Ok(Amended::Done(Box::new(order))),
                Ok(changes) => changes,
                Err(refused) => return Ok(Amended::Refused(refused)),
            };
            match self.put_amended(&order, version, &changes, now).await {
                Ok(()) => return Ok(Amended::Done(Box::new(order))),
                Err(StoreError::Conflict { .. }) => {}
                Err(
                    error @ (StoreError::Unavailable(_)
                    | StoreError::Contested { .. }
                    | StoreError::Superseded { .. }
                    | StoreError::Invalid(_)),
                ) => return Err(error),
            }
        }
        Err(StoreError::Unavailable(format!("order {serial} of pile {pile} kept changing")))
    }

    /// Callers were told of this copy of an order, and the log says so, but it came too late to be stored: their wishes are
    /// put on the order as it is now. `false` if there is nothing to do any more.
    pub(super) async fn keep_word(&self, told: &Order, now: WallMs) -> Result<bool, StoreError> {
        for _ in 0..ATTEMPTS {
            let Some((mut order, version)) = self.order(told.pile, told.serial).await? else { return Ok(false) };
            if !order.keeps_word_of(told, now) {
                return Ok(false);
            }
            match self.store.commit(self.partition(order.pile), self.amended(&order, version, vec![])).await {
                Ok(_) => return Ok(true),
                Err(StoreError::Conflict { .. }) => {}
                Err(
                    error @ (StoreError::Unavailable(_)
                    | StoreError::Contested { .. }
                    | StoreError::Superseded { .. }
                    | StoreError::Invalid(_)),
                ) => return Err(error),
            }
        }
        Err(StoreError::Unavailable(format!("order {} of pile {} kept changing", told.serial, told.pile)))
    }

    async fn put_amended(
        &self,
        order: &Order,
        version: u64,
        changes: &[Change],
        now: WallMs,
    ) -> Result<(), StoreError> {
        let append = changes.iter().map(|change| Told::AtOnce.append(&order_event(order, *change, now))).collect();
        let commit = self.store.commit(self.partition(order.pile), self.amended(order, version, append));
        match &self.journal {
            None => commit.await.map(drop),
            // What waits there is older, and would be refused if this went before it.
            Some(journal) => self.behind_nothing(journal, order.pile, commit).await.map(drop),
        }
    }

    fn amended(&self, order: &Order, version: u64, append: Vec<Append>) -> Batch {
        let put = document::put_order(order, &self.retention);
        let mut require = vec![Precondition::Version(put.key.clone(), version)];
        // Its record may be in the store while the order is still in somebody's journal.
        if order.state != OrderState::Settled {
            require.push(Precondition::Absent(document::record_key(order.pile, order.serial)));
        }
        Batch { id: None, require, put: vec![put], delete: vec![], append }
    }
}

/// How often an order may change between being read and being written. Without a session hardly anything changes it.
const ATTEMPTS: usize = 8;
