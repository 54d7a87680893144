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
    /// How long ago the pile was heard on the connection of `by`, when this was made. Whoever sends it later asks again:
    /// [`Sessions::heard_ms_ago`](super::Sessions::heard_ms_ago).
    pub heard_ms_ago: u64,
}

/// What an eviction came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evicted {
    /// There was an older session, and it ends.
    Ended,
    /// There is no session, or a newer one.
    NotHere,
    /// `by` is a guess, and the session here has heard the pile later: it is the other one that has to end
    /// ([`Sessions::end_provisional`](super::Sessions::end_provisional)).
    HeardLater,
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
