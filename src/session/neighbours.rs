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
    /// How long ago the pile was last heard here, by this node's monotonic clock.
    pub heard_ms_ago: u64,
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

/// What became of an [`Eviction`] where it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evicted {
    Ended,
    NotHere,
    /// Nobody knows whose login is newer, and this node has heard the pile more recently.
    HeardLater,
}

/// What became of sessions that said again that they are there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reasserted {
    pub kept: usize,
    /// Newer ones exist elsewhere: these have ended.
    pub lost: usize,
    /// The store did not answer; to be asked again.
    pub unknown: usize,
}

/// A node that stands alone.
pub struct Nobody;

impl Neighbours for Nobody {
    fn evict(&self, _: Eviction) {}
}
