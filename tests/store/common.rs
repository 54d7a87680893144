//! Short names for what the suites need all the time.

use std::any::Any;
use std::sync::Arc;

use pileway::domain::{Epoch, Fence, PileCode, SessionId};
use pileway::store::{
    Append, Batch, BatchId, Claim, Held, IndexCursor, IndexEntry, IndexName, Key, Kind, Partition, Put, Scan, Store,
};

/// How long anything may take that is waited for.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// An empty store, and whatever must live as long as it.
pub struct Fresh {
    pub store: Arc<dyn Store>,
    pub _keep: Box<dyn Any + Send>,
}

pub fn pile(n: u64) -> PileCode {
    format!("{n:014}").parse().expect("14 digits")
}

pub fn partition(store: &dyn Store, pile: PileCode) -> Partition {
    Partition::of(pile, store.partitions())
}

pub fn session(counter: u64) -> SessionId {
    SessionId { incarnation: 7, counter }
}

pub fn fence(counter: u64, epoch: u64) -> Fence {
    Fence { session: session(counter), epoch: Epoch(epoch) }
}

pub fn claim(pile: PileCode, counter: u64, now_ms: u64) -> Claim {
    Claim { pile, session: session(counter), now_ms, identity: 1, held: Held::Nothing }
}

/// Batch `n` of session `counter`.
pub fn batch(counter: u64, n: u64) -> Batch {
    Batch::new(BatchId { session: session(counter), n })
}

pub fn key(pile: PileCode, id: &str) -> Key {
    Key::of_pile(Kind::Order, pile, id.as_bytes().to_vec())
}

pub fn put(pile: PileCode, id: &str, value: &str) -> Put {
    Put { key: key(pile, id), value: value.to_owned().into(), indexes: vec![] }
}

pub fn indexed(pile: PileCode, id: &str, indexes: &[(IndexName, &str)]) -> Put {
    let entry = |(index, sort): &(IndexName, &str)| IndexEntry { index: *index, sort: (*sort).to_owned() };
    Put { indexes: indexes.iter().map(entry).collect(), ..put(pile, id, id) }
}

pub fn append(pile: PileCode, payload: &str) -> Append {
    Append { pile, payload: payload.to_owned().into() }
}

pub fn scan(index: IndexName, prefix: &str) -> Scan {
    Scan {
        index,
        prefix: prefix.to_owned(),
        after: None,
        from: String::new(),
        to: String::new(),
        descending: false,
        limit: 100,
    }
}

/// The ids a scan finds, in its order.
pub async fn found(store: &dyn Store, pile: PileCode, scan: Scan) -> Vec<String> {
    let found = store.list(partition(store, pile), scan).await.expect("lists");
    found.into_iter().map(|indexed| String::from_utf8(indexed.cursor.key.id).expect("text")).collect()
}

pub fn after(pile: PileCode, sort: &str, id: &str) -> IndexCursor {
    IndexCursor { sort: sort.to_owned(), key: key(pile, id) }
}
