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
        let judge = |order: &mut Order| match change(order) {
            Ok(changes) if changes.is_empty() => Err(None),
            Ok(changes) => {
                let event = |change: Change| Told::AtOnce.append(&order_event(order, change, now));
                Ok(changes.into_iter().map(event).collect())
            }
            Err(refused) => Err(Some(refused)),
        };
        Ok(match self.rewrite(pile, serial, Turn::Awaited, judge).await? {
            Some((order, Ok(()) | Err(None))) => Amended::Done(Box::new(order)),
            Some((_, Err(Some(refused)))) => Amended::Refused(refused),
            None => Amended::Unknown,
        })
    }

    /// Callers were told of this copy of an order, and the log says so, but it came too late to be stored: their wishes are
    /// put on the order as it is now. `false` if there is nothing to do any more.
    pub(super) async fn keep_word(&self, told: &Order, now: WallMs) -> Result<bool, StoreError> {
        let judge = |order: &mut Order| if order.keeps_word_of(told, now) { Ok(vec![]) } else { Err(()) };
        let rewritten = self.rewrite(told.pile, told.serial, Turn::Ours, judge).await?;
        Ok(rewritten.is_some_and(|(_, written)| written.is_ok()))
    }

    /// Stores what `judge` makes of the order, and with it what it wants told, or says why it leaves the order alone; `None`
    /// if there is no such order. It judges again whenever the order has changed since it was read.
    async fn rewrite<R>(
        &self,
        pile: PileCode,
        serial: Serial,
        turn: Turn,
        judge: impl Fn(&mut Order) -> Result<Vec<Append>, R>,
    ) -> Result<Option<(Order, Result<(), R>)>, StoreError> {
        for _ in 0..ATTEMPTS {
            let Some((mut order, version)) = self.order(pile, serial).await? else { return Ok(None) };
            let append = match judge(&mut order) {
                Ok(append) => append,
                Err(left) => return Ok(Some((order, Err(left)))),
            };
            let commit = self.store.commit(self.partition(pile), self.amended(&order, version, append));
            let committed = match (turn, &self.journal) {
                (Turn::Awaited, Some(journal)) => self.behind_nothing(journal, pile, commit).await,
                (Turn::Awaited, None) | (Turn::Ours, _) => commit.await,
            };
            match committed {
                Ok(_) => return Ok(Some((order, Ok(())))),
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

/// Whose turn it is among the writes of the pile.
#[derive(Clone, Copy)]
enum Turn {
    /// What waits in the journal is older, and would be refused if this went before it.
    Awaited,
    /// The journal drains: this stands for what it has come to.
    Ours,
}

/// How often an order may change between being read and being written. Without a session hardly anything changes it.
const ATTEMPTS: usize = 8;
