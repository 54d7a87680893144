//! The documents of groups: who is in one, and which partitions are whose. Changed by compare-and-set, by whoever has cause
//! to, so that no node is in charge of a group.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::error::GroupError;
use super::spread::spread;
use crate::domain::WallMs;
use crate::store::document::{self, ConsumerId, Group, GroupStart};
use crate::store::{
    Batch, IndexCursor, IndexName, Indexed, Partition, Position, Precondition, Put, Scan, Store, StoreError,
};

#[derive(Clone)]
pub struct Registry {
    pub store: Arc<dyn Store>,
    /// The node's clock: only told, never compared with another node's but for idleness of days.
    pub now: fn() -> WallMs,
}

impl Registry {
    /// As it is stored, deleted or not.
    pub async fn stored(&self, name: &str) -> Result<Option<(Group, u64)>, StoreError> {
        let key = document::group_key(name);
        let stored = self.store.get(key.clone()).await?;
        stored.map(|stored| Ok((document::read_group(&key, &stored.value)?, stored.version))).transpose()
    }

    /// One that is not deleted.
    pub async fn find(&self, name: &str) -> Result<Group, GroupError> {
        let found = self.stored(name).await?.map(|(group, _)| group).filter(|group| !group.deleted);
        found.ok_or_else(|| GroupError::Unknown(name.to_owned()))
    }

    /// By name, behind `after`.
    pub async fn list(&self, after: &str, limit: usize) -> Result<Vec<Group>, StoreError> {
        let key = document::group_key(after);
        let after = (!after.is_empty()).then(|| IndexCursor { sort: after.to_owned(), key });
        let (prefix, from, to) = (String::new(), String::new(), String::new());
        let scan = Scan { index: IndexName::Group, prefix, after, from, to, descending: false, limit };
        let found = self.store.list(Partition::GLOBAL, scan).await?.into_iter();
        found.map(|Indexed { cursor, document }| document::read_group(&cursor.key, &document.value)).collect()
    }

    /// `me` is in the group from now on, and has its share; whether this has created it.
    pub async fn join(&self, name: &str, start: GroupStart, me: ConsumerId) -> Result<(Group, bool), GroupError> {
        for _ in 0..ATTEMPTS {
            let stored = self.stored(name).await?;
            let (must, group, created) = match stored {
                Some((group, version)) if !group.deleted => (Some(version), group, false),
                // Asked for anew each time: a start of now is the now of the attempt that succeeds.
                Some((_, version)) => (Some(version), self.begin(name, start).await?, true),
                None => (None, self.begin(name, start).await?, true),
            };
            if group.consumers.len() >= MAX_CONSUMERS {
                return Err(GroupError::Full { group: name.to_owned(), consumers: group.consumers.len() });
            }
            let mut group = group;
            enter(&mut group, me);
            if self.replace(must, &group).await?.is_some() {
                return Ok((group, created));
            }
        }
        Err(kept_changing(name).into())
    }

    /// A group of which the store has lost the document, as it was last known here; somebody else may be faster. All who
    /// were in it still are, since each knows best how far it had come: whoever has left meanwhile is found out by its node.
    pub async fn restore(&self, known: &Group, me: ConsumerId) -> Result<(), StoreError> {
        let mut group = known.clone();
        enter(&mut group, me);
        self.replace(None, &group).await.map(drop)
    }

    /// Applies `change` to the group born at `birth`, if it is there and `change` says that there is something to change.
    /// The group as it is then, and its version.
    pub async fn change(
        &self,
        name: &str,
        birth: u64,
        change: impl Fn(&mut Group) -> bool,
    ) -> Result<Option<(Group, u64)>, StoreError> {
        for _ in 0..ATTEMPTS {
            let Some((mut group, version)) = self.stored(name).await? else { return Ok(None) };
            if group.birth != birth || group.deleted {
                return Ok(None);
            }
            if !change(&mut group) {
                return Ok(Some((group, version)));
            }
            if let Some(version) = self.replace(Some(version), &group).await? {
                return Ok(Some((group, version)));
            }
        }
        Err(kept_changing(name))
    }

    /// Those of `consumers` are in the group no more.
    pub async fn remove(
        &self,
        name: &str,
        birth: u64,
        gone: &[ConsumerId],
    ) -> Result<Option<(Group, u64)>, StoreError> {
        let now = (self.now)();
        let change = |group: &mut Group| {
            let before = group.consumers.len();
            group.consumers.retain(|id| !gone.contains(id));
            let changed = group.consumers.len() != before;
            if changed && group.consumers.is_empty() {
                group.idle_since = Some(now);
            }
            let (assigned, consumers) = (&mut group.assigned, &group.consumers);
            spread(assigned, consumers);
            changed
        };
        self.change(name, birth, change).await
    }

    /// The consumer is in the group no more, if it was.
    pub async fn leave(&self, name: &str, id: ConsumerId) -> Result<(), StoreError> {
        match self.stored(name).await? {
            Some((group, _)) if group.consumers.contains(&id) => self.remove(name, group.birth, &[id]).await.map(drop),
            Some(_) | None => Ok(()),
        }
    }

    /// `me` is in the group.
    pub async fn enter(&self, name: &str, birth: u64, me: ConsumerId) -> Result<Option<(Group, u64)>, StoreError> {
        let change = |group: &mut Group| {
            let absent = !group.consumers.contains(&me);
            enter(group, me);
            absent
        };
        self.change(name, birth, change).await
    }

    /// Its cursors are of no use to a group that is born later, and are deleted.
    pub async fn delete(&self, name: &str) -> Result<(), GroupError> {
        let group = self.find(name).await?;
        let deleted = |group: &mut Group| {
            (group.deleted, group.consumers) = (true, vec![]);
            group.assigned.fill(None);
            true
        };
        if self.change(name, group.birth, deleted).await?.is_none() {
            return Err(GroupError::Unknown(name.to_owned()));
        }
        let partitions = (0..self.store.partitions()).map(Partition);
        try_join_all(partitions.map(|partition| {
            let delete = vec![document::group_cursor_key(name, partition)];
            self.store.commit(partition, Batch { delete, ..batch() })
        }))
        .await?;
        Ok(())
    }

    async fn begin(&self, name: &str, start: GroupStart) -> Result<Group, StoreError> {
        let partitions = (0..self.store.partitions()).map(Partition);
        let store = &*self.store;
        let starts = partitions.map(|partition| async move {
            match start {
                GroupStart::Earliest => Position::earliest(store, partition).await,
                GroupStart::Now => Position::end(store, partition).await,
                GroupStart::Time(at) => Position::before(store, partition, at).await,
            }
        });
        let now = (self.now)();
        let starts = try_join_all(starts).await?;
        let birth = getrandom::u64().unwrap_or_else(|_| now.0.unsigned_abs());
        Ok(Group {
            name: name.to_owned(),
            birth,
            created_at: now,
            start,
            assigned: vec![None; starts.len()],
            starts,
            consumers: vec![],
            idle_since: None,
            lapsed: false,
            deleted: false,
        })
    }

    /// Above all before, those that the store has lost among them: as clocks go on, and the one before plus one.
    pub fn next_lease(&self, lease: u64) -> u64 {
        (lease + 1).max((self.now)().0.unsigned_abs())
    }

    /// Its new version; `None` if the document is not (any more) the one with `version` (`None` = absent).
    async fn replace(&self, version: Option<u64>, group: &Group) -> Result<Option<u64>, StoreError> {
        let put = document::put_group(group, (self.now)());
        put_if(&*self.store, Partition::GLOBAL, put, version).await
    }
}

/// The document's new version; `None` if it is not the one with `version` (any more).
pub async fn put_if(
    store: &dyn Store,
    partition: Partition,
    put: Put,
    version: Option<u64>,
) -> Result<Option<u64>, StoreError> {
    let must = match version {
        Some(version) => Precondition::Version(put.key.clone(), version),
        None => Precondition::Absent(put.key.clone()),
    };
    match store.commit(partition, Batch { require: vec![must], put: vec![put], ..batch() }).await {
        Ok(committed) => Ok(committed.versions.first().copied()),
        Err(StoreError::Conflict { .. }) => Ok(None),
        Err(
            error @ (StoreError::Unavailable(_)
            | StoreError::Contested { .. }
            | StoreError::Superseded { .. }
            | StoreError::Invalid(_)),
        ) => Err(error),
    }
}

fn enter(group: &mut Group, me: ConsumerId) {
    if !group.consumers.contains(&me) {
        group.consumers.push(me);
    }
    (group.idle_since, group.lapsed) = (None, false);
    let (assigned, consumers) = (&mut group.assigned, &group.consumers);
    spread(assigned, consumers);
}

fn batch() -> Batch {
    Batch { id: None, require: vec![], put: vec![], delete: vec![], append: vec![] }
}

fn kept_changing(name: &str) -> StoreError {
    StoreError::Unavailable(format!("group {name} kept changing"))
}

/// Consumers that have no partition wait for one; more of them than this are a mistake.
const MAX_CONSUMERS: usize = 1000;
/// Each round somebody else has succeeded.
const ATTEMPTS: usize = 64;
