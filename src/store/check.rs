//! Bounds of the contract, checked before anything reaches a store: the same for every implementation.

use std::collections::BTreeSet;

use super::{
    Append, Batch, IndexEntry, IndexName, Key, Of, Partition, Precondition, Put, Scan, Settlement, StoreError,
};

impl Batch {
    pub(super) fn check(&self, partition: Partition, partitions: u16) -> Result<(), StoreError> {
        let Self { id: _, require, put, delete, append } = self;
        let operations = require.len() + put.len() + delete.len() + append.len();
        if operations > Self::MAX_OPERATIONS {
            return refuse(format!("{operations} operations, at most {} fit a batch", Self::MAX_OPERATIONS));
        }
        check_bytes(put.iter(), append.iter())?;

        let here = |of: Of| of.partition(partitions) == partition;
        let keys = put.iter().map(|p| &p.key).chain(delete);
        let required = require.iter().map(Precondition::of);
        let all = keys.clone().map(|k| k.of).chain(required).chain(append.iter().map(|a| Of::Pile(a.pile)));
        if let Some(stray) = all.into_iter().find(|of| !here(*of)) {
            return refuse(format!("{stray} is not in partition {partition}"));
        }

        let mut written = BTreeSet::new();
        for key in keys {
            key.check()?;
            if !written.insert(key) {
                return refuse(format!("{key:?} is written twice"));
            }
        }
        put.iter().try_for_each(Put::check)
    }
}

impl Settlement {
    /// The record as a document; its digest goes with it.
    pub(super) fn record_put(&self) -> Put {
        let expiry = |sort: &String| IndexEntry { index: IndexName::Expiry, sort: sort.clone() };
        Put { key: self.record.clone(), value: self.value.clone(), indexes: self.due.iter().map(expiry).collect() }
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        let Self { record, digest: _, value, due: _, order, order_is, events, conflict, conflict_event } = self;
        check_bytes([order, conflict].into_iter(), events.iter().chain([conflict_event]))?;
        if events.is_empty() || events.len() > Self::MAX_EVENTS {
            return refuse(format!("a settlement with {} events: 1 to {}", events.len(), Self::MAX_EVENTS));
        }
        if value.len() > Batch::MAX_BYTES {
            return refuse(format!("a record of {} bytes", value.len()));
        }
        let told = Of::Pile(conflict_event.pile);
        let all = [order.key.of, conflict.key.of, told, order_is.of()];
        let mut all = all.into_iter().chain(events.iter().map(|event| Of::Pile(event.pile)));
        if let Some(stray) = all.find(|of| *of != record.of) {
            return refuse(format!("a record of {} with something of {stray}", record.of));
        }
        match order_is {
            Precondition::Absent(key) | Precondition::Version(key, _) if *key == order.key => {}
            other => return refuse(format!("{other:?} says nothing about {:?}", order.key)),
        }
        if !conflict.key.id.starts_with(&record.id) {
            return refuse(format!("{:?} is not counted as a conflict of {record:?}", conflict.key));
        }
        self.record_put().check()?;
        order.check()?;
        conflict.check()
    }
}

impl Scan {
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.limit > Self::MAX_LIMIT {
            return refuse(format!("a scan of {}, at most {}", self.limit, Self::MAX_LIMIT));
        }
        Ok(())
    }
}

impl Put {
    fn check(&self) -> Result<(), StoreError> {
        let Self { key, value: _, indexes } = self;
        key.check()?;
        if indexes.len() > Self::MAX_INDEXES {
            return refuse(format!("{} index entries, at most {}", indexes.len(), Self::MAX_INDEXES));
        }
        let bad = |entry: &&IndexEntry| entry.sort.len() > IndexEntry::MAX_SORT || entry.sort.contains('\0');
        match indexes.iter().find(bad) {
            Some(entry) => refuse(format!("a sort string of {:?} is too long or has a NUL", entry.index)),
            None => Ok(()),
        }
    }
}

impl Key {
    fn check(&self) -> Result<(), StoreError> {
        if self.id.len() > Self::MAX_ID {
            return refuse(format!("a key of {} bytes, at most {}", self.id.len(), Self::MAX_ID));
        }
        Ok(())
    }
}

impl Precondition {
    fn of(&self) -> Of {
        match self {
            Self::Absent(key) | Self::Version(key, _) => key.of,
            Self::Owner(pile, _) => Of::Pile(*pile),
        }
    }
}

fn check_bytes<'a>(
    puts: impl Iterator<Item = &'a Put>,
    appends: impl Iterator<Item = &'a Append>,
) -> Result<(), StoreError> {
    let bytes = puts.map(|p| p.value.len()).sum::<usize>() + appends.map(|a| a.payload.len()).sum::<usize>();
    if bytes > Batch::MAX_BYTES {
        return refuse(format!("{bytes} bytes, at most {} fit a batch", Batch::MAX_BYTES));
    }
    Ok(())
}

fn refuse(why: String) -> Result<(), StoreError> {
    Err(StoreError::Invalid(why))
}
