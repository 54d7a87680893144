//! Other nodes, as sessions see them.

use crate::domain::{Fence, PileCode};

/// Tells other nodes what they must know of a login here. Nothing of it waits.
pub trait Neighbours: Send + Sync + 'static {
    /// Tried until it is answered or the run it is meant for is over.
    fn evict(&self, eviction: Eviction);
}

/// `pile` has logged in here, as `by`: whoever holds it with a lower epoch has to end its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Eviction {
    pub pile: PileCode,
    pub by: Fence,
    pub whom: Whom,
}

/// Who may hold a session of the pile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whom {
    /// The run the store names.
    Run(u64),
    /// Anybody: the store could not be asked, so `by` is a guess ([`crate::session`]: provisional sessions).
    Anybody,
}

/// A node that stands alone.
pub struct Nobody;

impl Neighbours for Nobody {
    fn evict(&self, _: Eviction) {}
}
