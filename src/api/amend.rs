//! What a caller wants of an order, whether or not its pile is there.
//!
//! ```text
//!   a session holds the order? ──▶ it does it
//!      no ──▶ the stored order is changed, if it is still what was judged
//!               └─▶ a session that has come meanwhile is told, so that it does not go on with what it had loaded
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep};

use super::Context;
use super::error::ApiError;
use crate::domain::order::Change;
use crate::domain::{Command, CommandError, Order, PileCode, Reply, Serial, WallMs};
use crate::store::ledger::Amended;

/// Who did it.
pub(super) enum Amendment {
    BySession(Reply),
    InStore(Box<Order>),
}

impl Context {
    /// `command` is what a session does of it, `change` the same for an order nobody holds. Both may happen, and any
    /// number of times: they have to come to the same.
    pub(super) async fn amend(
        &self,
        (pile, serial): (PileCode, Serial),
        command: Command,
        change: impl Fn(WallMs, &mut Order) -> Result<Vec<Change>, CommandError>,
        deadline: Instant,
    ) -> Result<Amendment, ApiError> {
        match self.cluster.execute(pile, command.clone(), deadline).await {
            Ok(reply) => return Ok(Amendment::BySession(reply)),
            Err(error) if nobody_holds_it(&error) => {}
            Err(error) => return Err(error.into()),
        }
        let now = wall();
        match self.ledger.amend(pile, serial, now, |order| change(now, order)).await? {
            Amended::Unknown => Err(ApiError::OrderUnknown { pile, serial }),
            Amended::Refused(error) => Err(error.into()),
            Amended::Done(order) => {
                self.tell_newcomer(pile, command, deadline).await;
                Ok(Amendment::InStore(order))
            }
        }
    }

    /// Whether another order of the pile, as far as is stored, has the gun of this one: a stop names a gun only.
    pub(super) async fn gun_is_elses(&self, pile: PileCode, serial: Serial) -> Result<bool, ApiError> {
        let open = self.ledger.open_orders(pile).await?;
        let Some(gun) = open.iter().find(|(order, _)| order.serial == serial).map(|(order, _)| order.gun) else {
            return Ok(false);
        };
        Ok(open.iter().any(|(order, _)| order.gun == gun && order.serial != serial && order.occupies_gun()))
    }

    /// A session that logged in while the order was written has loaded it as it was before. Told the same command, it
    /// writes, is refused, and takes what is stored. One that is found too late learns it with its own next write.
    async fn tell_newcomer(&self, pile: PileCode, command: Command, deadline: Instant) {
        for _ in 0..LOOKS {
            let owned = matches!(self.ledger.owner(pile).await, Ok(Some(_)));
            if !owned || Instant::now() + LOOK_AGAIN >= deadline {
                return;
            }
            match self.cluster.execute(pile, command.clone(), deadline).await {
                Err(CommandError::PileOffline { .. }) => sleep(LOOK_AGAIN).await,
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// No session has the order, and what one may have done about it comes to the same.
fn nobody_holds_it(error: &CommandError) -> bool {
    match error {
        CommandError::PileOffline { .. }
        | CommandError::PileUnknown
        | CommandError::OrderNotHeld { .. }
        | CommandError::SessionLost { .. } => true,
        CommandError::PileBusy { .. }
        | CommandError::PileRejected { .. }
        | CommandError::GunBusy { .. }
        | CommandError::GunUnknown { .. }
        | CommandError::OrderNotActive { .. }
        | CommandError::OrderActive { .. }
        | CommandError::OutcomeUnknown { .. }
        | CommandError::NodeLost { .. }
        | CommandError::Unsupported { .. }
        | CommandError::UnsupportedByPile { .. }
        | CommandError::TariffNotCurrent { .. }
        | CommandError::DeadlinePassed
        | CommandError::StoreUnavailable { .. }
        | CommandError::RequestReused { .. }
        | CommandError::SerialTaken { .. } => false,
    }
}

pub(super) fn wall() -> WallMs {
    WallMs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64)
}

/// How often a newcomer is looked for; its login is known to the store a moment before it can be asked.
const LOOKS: usize = 10;
const LOOK_AGAIN: Duration = Duration::from_millis(50);
