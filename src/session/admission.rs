//! Who may log in at all, as sessions see it.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::authority::Unanswered;
use crate::domain::pile::Identity;
use crate::domain::{PileCode, WallMs};

/// Decides whether a pile may log in. Until it has, the pile is not claimed: a stranger must not take it from its owner.
pub trait Doorkeeper: Send + Sync + 'static {
    fn admit(&self, knock: Knock) -> BoxFuture<'static, Result<Admission, Unanswered>>;

    /// The metric label: how it decides.
    fn mode(&self) -> &'static str;
}

/// A pile wants to log in: 0x01.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Knock {
    pub pile: PileCode,
    pub identity: Identity,
    /// Where it calls from, `ip:port`.
    pub address: String,
    pub at: WallMs,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    Admitted,
    Refused,
}

/// What sessions do about logins if not every pile may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitting {
    /// How long the doorkeeper may take.
    pub deadline: Duration,
    /// What counts if it does not answer.
    pub fallback: Admission,
}

/// Every pile may log in, and nobody asks.
pub struct OpenDoor;

impl Doorkeeper for OpenDoor {
    fn admit(&self, _: Knock) -> BoxFuture<'static, Result<Admission, Unanswered>> {
        Box::pin(std::future::ready(Ok(Admission::Admitted)))
    }

    fn mode(&self) -> &'static str {
        "open"
    }
}
