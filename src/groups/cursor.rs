//! The cursor of a group in one partition, and who holds it: compare-and-set on one document, so that whoever has lost the
//! partition can neither move the cursor nor give it back.

use super::error::GroupError;
use super::registry::put_if;
use crate::store::document::{self, ConsumerId, Group, GroupCursor};
use crate::store::{Offset, Partition, Position, Store, StoreError};

/// A cursor as it is stored, and its version; `None` if it is not stored yet.
pub type Stored = (GroupCursor, Option<u64>);

/// What is stored of a partition, or what it begins with: `otherwise`, where the group began, or further on.
pub async fn stored(
    store: &dyn Store,
    group: &Group,
    partition: Partition,
    otherwise: Option<Position>,
) -> Result<Stored, StoreError> {
    let (found, version) = find(store, &group.name, group.birth, partition).await?;
    let start = otherwise.or_else(|| group.starts.get(usize::from(partition.0)).copied()).unwrap_or_default();
    let (birth, delivered) = (group.birth, start.offset);
    let fresh = GroupCursor { birth, acknowledged: start, delivered, lease: 0, holder: None, lost_to: None };
    Ok((found.unwrap_or(fresh), version))
}

async fn find(
    store: &dyn Store,
    name: &str,
    birth: u64,
    partition: Partition,
) -> Result<(Option<GroupCursor>, Option<u64>), StoreError> {
    let key = document::group_cursor_key(name, partition);
    let Some(found) = store.get(key.clone()).await? else { return Ok((None, None)) };
    let cursor = document::read_group_cursor(&key, &found.value)?;
    // That of a group of this name which was deleted is none.
    Ok((Some(cursor).filter(|cursor| cursor.birth == birth), Some(found.version)))
}

/// Stores `cursor` in the place of one with `version`; its new version, or `None` if another is there.
pub async fn replace(
    store: &dyn Store,
    name: &str,
    partition: Partition,
    cursor: &GroupCursor,
    version: Option<u64>,
) -> Result<Option<u64>, StoreError> {
    put_if(store, partition, document::put_group_cursor(name, partition, cursor), version).await
}

/// What a consumer acknowledges.
pub struct Acknowledged<'a> {
    /// Of the group.
    pub name: &'a str,
    pub birth: u64,
    pub partition: Partition,
    pub consumer: ConsumerId,
    pub lease: u64,
    pub position: Position,
    /// How far has been delivered, if that is known here.
    pub delivered: u64,
}

/// Moves the cursor on, never back, if the consumer still holds the partition under this lease. `known` saves a read.
pub async fn acknowledge(
    store: &dyn Store,
    what: Acknowledged<'_>,
    mut known: Option<Stored>,
) -> Result<Stored, GroupError> {
    let Acknowledged { name, birth, partition, consumer, lease, position, delivered } = what;
    let not_yours = || GroupError::CursorNotYours { group: name.to_owned(), partition };
    for _ in 0..ATTEMPTS {
        let (cursor, version) = if let Some(known) = known.take() {
            known
        } else {
            let (cursor, version) = find(store, name, birth, partition).await?;
            (cursor.ok_or_else(not_yours)?, version)
        };
        if cursor.holder != Some(consumer) || cursor.lease != lease {
            return Err(not_yours());
        }
        if position.offset <= cursor.acknowledged.offset {
            return Ok((cursor, version));
        }
        let delivered = delivered.max(position.offset).max(cursor.delivered);
        // What was delivered under this lease was delivered behind the gap.
        let moved = GroupCursor { acknowledged: position, delivered, lost_to: None, ..cursor };
        if let Some(version) = replace(store, name, partition, &moved, version).await? {
            return Ok((moved, Some(version)));
        }
    }
    Err(kept_changing(name, partition).into())
}

/// The partition is nobody's, if it is still `consumer`'s under `lease`; `delivered` is how far it has come. `known` saves a
/// read.
pub async fn give_back(
    store: &dyn Store,
    (name, birth): (&str, u64),
    partition: Partition,
    (consumer, lease): (ConsumerId, u64),
    delivered: Offset,
    mut known: Option<Stored>,
) -> Result<(), StoreError> {
    for _ in 0..ATTEMPTS {
        let (cursor, version) = if let Some(known) = known.take() {
            known
        } else {
            let (cursor, version) = find(store, name, birth, partition).await?;
            let Some(cursor) = cursor else { return Ok(()) };
            (cursor, version)
        };
        if cursor.holder != Some(consumer) || cursor.lease != lease {
            return Ok(());
        }
        let free = GroupCursor { holder: None, delivered: delivered.max(cursor.delivered), ..cursor };
        if replace(store, name, partition, &free, version).await?.is_some() {
            return Ok(());
        }
    }
    Err(kept_changing(name, partition))
}

fn kept_changing(name: &str, partition: Partition) -> StoreError {
    StoreError::Unavailable(format!("the cursor of group {name} in partition {partition} kept changing"))
}

const ATTEMPTS: usize = 16;
