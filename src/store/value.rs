//! What goes into the calls of the contract and comes out of them.

use std::time::Duration;

use bytes::Bytes;

use super::{Append, IndexName, Key, Precondition, Put, Versioned};
use crate::domain::{Fence, PileCode, SessionId, WallMs};

/// A login, or a session that says again that it is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    pub pile: PileCode,
    pub session: SessionId,
    /// The claimer's clock: the epoch becomes max(stored + 1, this).
    pub now_ms: u64,
    /// Tells two devices with one pile code apart: a hash of where it calls from and of its SIM card.
    ///
    /// A login that would take the pile from a session with another identity is refused with
    /// [`StoreError::Contested`] if that has happened [`Claim::TAKEOVERS`] times in the last [`Claim::CONTEST_MS`].
    pub identity: u64,
    pub held: Held,
}

impl Claim {
    /// Times a pile may go back and forth between two identities ...
    pub const TAKEOVERS: usize = 3;
    /// ... within this time.
    pub const CONTEST_MS: u64 = 5 * 60 * 1000;
    /// Owners of a pile that are remembered after they were superseded.
    pub const REMEMBERED: usize = 8;

    pub fn login(pile: PileCode, session: SessionId, now: WallMs, identity: u64) -> Self {
        Self { pile, session, now_ms: now.0.max(0).cast_unsigned(), identity, held: Held::Nothing }
    }
}

/// What a session that claims held before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// Nothing: a login. The newest one wins.
    Nothing,
    /// This fence, which the store may have forgotten. If a higher epoch is stored under another session, somebody newer
    /// is or was there: [`StoreError::Superseded`], and nothing changes. Otherwise the session is the owner. The fence
    /// stays what it was if exactly that is stored, unless `anew`: after a loss of writes the pile's events must not
    /// repeat an (epoch, seq), so the epoch goes up. A higher epoch of the session itself is the answer to an earlier
    /// attempt, and is given again. In all other cases the epoch goes up too.
    Fence { fence: Fence, anew: bool },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claimed {
    pub fence: Fence,
    pub previous: Option<Fence>,
    /// The pile document, if the pile was here before.
    pub pile: Option<Versioned>,
    /// Its open orders by gun and serial ([`IndexName::OrderOpen`]). At most [`Claimed::MAX_OPEN_ORDERS`], the highest:
    /// orders whose record never comes stay open, and a login must stay cheap.
    pub open_orders: Vec<(Key, Versioned)>,
}

impl Claimed {
    pub const MAX_OPEN_ORDERS: usize = 256;
}

/// One run of one node, as others see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub incarnation: u64,
    /// What people call the node; stays the same over runs.
    pub node: String,
    /// Where other nodes reach it (`host:port`); empty if it stands alone.
    pub peer: String,
    /// Of pileway.
    pub version: String,
    /// It is going down and takes no new piles.
    pub draining: bool,
    pub started_at_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    pub member: Member,
    pub ttl: Duration,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Renewed {
    /// The lease had not been there: the first renewal, or it had run out, or the store has lost it.
    pub fresh: bool,
    /// Everybody whose lease has not run out, by incarnation; the renewer among them.
    pub members: Vec<Member>,
}

/// A pile owned by a session of a run that is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Orphan {
    pub pile: PileCode,
    pub fence: Fence,
}

/// The bounds of a [`Batch`] hold here too, and everything is of one pile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settlement {
    /// The immutable record: key and bytes. What is there already is compared by `digest`.
    pub record: Key,
    pub digest: [u8; 32],
    pub value: Bytes,
    /// When the record shrinks to its digest, and when that goes too: sort strings of [`IndexName::Expiry`].
    pub due: [String; 2],
    /// The order as it is once settled, and what must hold for it: [`Precondition::Absent`] or
    /// [`Precondition::Version`]. Checked only if the record is new.
    pub order: Put,
    pub order_is: Precondition,
    /// Appended with the order, in this order: 1 to [`Settlement::MAX_EVENTS`].
    pub events: Vec<Append>,
    /// Kept and appended instead, if a record with another digest is there: once per key, so the key is the record's id
    /// and then the digest, and at most [`Settlement::MAX_CONFLICTS`] of a record.
    pub conflict: Put,
    pub conflict_event: Append,
}

impl Settlement {
    /// That it is settled, and what its record gives cause to say.
    pub const MAX_EVENTS: usize = 8;
    /// Who sends so many different records of one order would send them for ever.
    pub const MAX_CONFLICTS: usize = 16;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settled {
    /// This call settled the order.
    First,
    /// The same record was there.
    Again,
    /// Another record was there; this one is kept beside it. `first` is false if it was kept before, or is not kept
    /// because [`Settlement::MAX_CONFLICTS`] others are.
    Conflict { first: bool },
    /// The record is durable in the node's journal and gets to the store later. A [`ledger`] with a journal answers
    /// this, a store never does.
    Journaled,
}

impl Settled {
    /// The metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Again => "again",
            Self::Conflict { .. } => "conflict",
            Self::Journaled => "journaled",
        }
    }
}

/// A range of one index, by prefix. All bounds hold together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scan {
    pub index: IndexName,
    pub prefix: String,
    /// Exclusive start within the prefix: only entries after this one (before it, if descending).
    pub after: Option<IndexCursor>,
    /// Inclusive bounds on the sort string; empty = none.
    pub from: String,
    pub to: String,
    pub descending: bool,
    /// At most [`Scan::MAX_LIMIT`].
    pub limit: usize,
}

impl Scan {
    pub const MAX_LIMIT: usize = 1024;
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct IndexCursor {
    pub sort: String,
    pub key: Key,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Indexed {
    pub cursor: IndexCursor,
    pub document: Versioned,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// A precondition did not hold. `current` is the document as it is (for a fence: none).
    #[error("precondition {failed:?} does not hold")]
    Conflict { failed: Box<Precondition>, current: Option<Versioned> },
    /// Time-out, full disk, failing disk, shutting down: nothing is known to be durable.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// The pile goes back and forth between two devices that both call themselves so ([`Claim::identity`]).
    #[error("two devices use pile code {pile}; this one has to wait")]
    Contested { pile: PileCode },
    /// Somebody newer holds the pile, or has held it.
    #[error("a newer login has taken pile {pile}")]
    Superseded { pile: PileCode },
    /// A batch beyond its bounds, a value that cannot be read: a defect on our side.
    #[error("store refused: {0}")]
    Invalid(String),
}
