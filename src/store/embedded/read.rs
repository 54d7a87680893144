//! Reads: of a snapshot, or of a write transaction as far as it has come.

use std::ops::Bound;
use std::sync::Arc;

use redb::ReadTransaction;

use super::layout::{
    self, Bytewise, DOCUMENTS, Failure, INDEXES, LOG, LOG_ENDS, OWNED, PILES, damaged, document_key, index_cursor,
    index_key, index_prefix, log_entry, log_key, owned_key,
};
use super::tables;
use crate::domain::{Fence, PileCode};
use crate::store::{Claimed, Entry, IndexName, Indexed, Key, Offset, Orphan, Partition, Scan, Versioned};

pub(super) fn get(transaction: &ReadTransaction, key: &Key) -> Result<Option<Versioned>, Failure> {
    let documents = transaction.open_table(DOCUMENTS)?;
    Ok(tables::row(&documents, &document_key(key))?.map(super::layout::Row::versioned))
}

pub(super) fn owner(transaction: &ReadTransaction, pile: PileCode) -> Result<Option<Fence>, Failure> {
    let piles = transaction.open_table(PILES)?;
    Ok(tables::pile_row(&piles, pile)?.fence())
}

pub(super) fn orphans(
    transaction: &ReadTransaction,
    partition: Partition,
    living: &[u64],
    after: Option<Orphan>,
    limit: usize,
) -> Result<Vec<Orphan>, Failure> {
    let (owned, piles) = (transaction.open_table(OWNED)?, transaction.open_table(PILES)?);
    let start = match after {
        Some(Orphan { pile, fence }) => Bound::Excluded(owned_key(partition, fence.session.incarnation, pile).to_vec()),
        None => Bound::Included(partition.0.to_be_bytes().to_vec()),
    };
    let end = [&partition.0.to_be_bytes()[..], &[0xFF; 16]].concat();
    let mut found = Vec::new();
    for row in owned.range::<&[u8]>((start.as_ref().map(|key| &key[..]), Bound::Included(&end[..])))? {
        if found.len() >= limit {
            break;
        }
        let (incarnation, pile) = layout::owned(row?.0.value())?;
        let fence = tables::pile_row(&piles, pile)?.fence();
        found.extend(fence.filter(|_| !living.contains(&incarnation)).map(|fence| Orphan { pile, fence }));
    }
    Ok(found)
}

pub(super) fn list(transaction: &ReadTransaction, partition: Partition, scan: &Scan) -> Result<Vec<Indexed>, Failure> {
    scan_index(&transaction.open_table(INDEXES)?, &transaction.open_table(DOCUMENTS)?, partition, scan)
}

pub(super) fn log(
    transaction: &ReadTransaction,
    partition: Partition,
    after: Offset,
    limit: usize,
) -> Result<Vec<Arc<Entry>>, Failure> {
    let log = transaction.open_table(LOG)?;
    let (after, end) = (log_key(partition, after), log_key(partition, Offset::MAX));
    let entries = log.range::<&[u8]>((Bound::Excluded(&after[..]), Bound::Included(&end[..])))?.take(limit);
    entries
        .map(|entry| entry.map_err(Failure::from).and_then(|(key, value)| log_entry(key.value(), value.value())))
        .collect()
}

pub(super) fn log_end(transaction: &ReadTransaction, partition: Partition) -> Result<Offset, Failure> {
    tables::log_end(&transaction.open_table(LOG_ENDS)?, partition)
}

pub(super) fn anything_due(transaction: &ReadTransaction, partition: Partition, before: &str) -> Result<bool, Failure> {
    Ok(!due(&transaction.open_table(INDEXES)?, partition, before, 1)?.is_empty())
}

/// Documents to delete: expiry below `before`, oldest first.
pub(super) fn due(
    indexes: &impl Bytewise,
    partition: Partition,
    before: &str,
    limit: usize,
) -> Result<Vec<Key>, Failure> {
    let start = index_prefix(partition, IndexName::Expiry);
    let end = [&start[..], before.as_bytes()].concat();
    let entries = indexes.range::<&[u8]>(&start[..]..&*end)?.take(limit);
    entries.map(|entry| Ok(index_cursor(entry?.0.value())?.0.key)).collect()
}

pub(super) fn claimable_orders(
    indexes: &impl Bytewise,
    documents: &impl Bytewise,
    partition: Partition,
    pile: PileCode,
) -> Result<Vec<(Key, Versioned)>, Failure> {
    let scan = Scan {
        index: IndexName::OrderOpen,
        prefix: pile.to_string(),
        after: None,
        from: String::new(),
        to: String::new(),
        descending: true,
        limit: Claimed::MAX_OPEN_ORDERS,
    };
    let mut orders = scan_index(indexes, documents, partition, &scan)?;
    orders.reverse();
    Ok(orders.into_iter().map(|indexed| (indexed.cursor.key, indexed.document)).collect())
}

fn scan_index(
    indexes: &impl Bytewise,
    documents: &impl Bytewise,
    partition: Partition,
    scan: &Scan,
) -> Result<Vec<Indexed>, Failure> {
    let Scan { index, prefix, after, from, to, descending, limit } = scan;
    let base = index_prefix(partition, *index);
    let within = |sort: &str, end: &[u8]| [&base[..], sort.as_bytes(), end].concat();

    // An entry is its sort string, NUL, and a key. No string has a NUL or the byte 0xFF in it, so "sort, 0x01" lies
    // behind all entries with exactly this string, and "prefix, 0xFF" behind all that begin with it.
    let mut low = within(prefix, &[]).max(within(from, &[]));
    let mut high = within(prefix, &[0xFF]);
    if !to.is_empty() {
        high = high.min(within(to, &[1]));
    }
    if let Some(after) = after {
        let entry = [&[*index as u8], after.sort.as_bytes()].concat();
        let at = index_key(partition, &entry, &document_key(&after.key));
        if *descending {
            high = high.min(at);
        } else {
            // The first possible key behind `at`.
            low = low.max([&*at, &[0]].concat());
        }
    }
    if low >= high {
        return Ok(vec![]);
    }

    let range = indexes.range::<&[u8]>(&*low..&*high)?;
    let found = |entry: Result<(redb::AccessGuard<'_, &'static [u8]>, _), redb::StorageError>| {
        let (key, _) = entry?;
        let (cursor, document) = index_cursor(key.value())?;
        let document = tables::row(documents, document)?.ok_or_else(damaged)?.versioned();
        Ok(Indexed { cursor, document })
    };
    if *descending { range.rev().take(*limit).map(found).collect() } else { range.take(*limit).map(found).collect() }
}
