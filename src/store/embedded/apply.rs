//! The contract's operations within a transaction. In each, every check comes before the first write.

use bytes::Bytes;
use redb::ReadableTable;

use super::layout::{BatchRow, Failure, PileRow, Row, age_key, document_key, log_key, session_key};
use super::read::{claimable_orders, due};
use super::tables::{NOTHING, Tables, log_end};
use crate::domain::{Epoch, Fence, PileCode};
use crate::store::{
    Batch, BatchId, Claim, Claimed, Committed, Held, IndexEntry, IndexName, Key, Kind, Offset, Partition, Precondition,
    Put, Settled, Settlement, StoreError,
};

impl Tables<'_> {
    pub(super) fn commit(&mut self, batch: &Batch, fingerprint: u64) -> Result<Committed, Failure> {
        let last = match batch.id {
            Some(id) => self.last_batch(id)?,
            None => None,
        };
        if let (Some(id), Some(last)) = (batch.id, &last) {
            if last.n == id.n && last.fingerprint == fingerprint {
                return Ok(last.result.clone());
            }
            if last.n >= id.n {
                let why = format!("batch {} of session {}: the last one was {}", id.n, id.session, last.n);
                return Err(StoreError::Invalid(why).into());
            }
        }
        batch.require.iter().try_for_each(|precondition| self.require(precondition))?;

        let mut result = Committed::default();
        for put in &batch.put {
            result.versions.push(self.put(put, None)?);
        }
        for key in &batch.delete {
            self.delete(key)?;
        }
        for append in &batch.append {
            result.offsets.push(self.append(append)?);
        }
        if let Some(id) = batch.id {
            self.remember(id, last.map(|last| last.hour), fingerprint, &result)?;
        }
        Ok(result)
    }

    pub(super) fn claim(&mut self, claim: Claim) -> Result<Claimed, Failure> {
        let Claim { pile, session, now_ms, identity, held } = claim;
        let document = self.row(&Key::of_pile(Kind::Pile, pile, vec![]))?;
        let open_orders = claimable_orders(&self.indexes, &self.documents, self.partition(pile), pile)?;
        let mut row = self.pile(pile)?;
        let (before, was) = (row.owner, row.fence());
        match held {
            Held::Nothing if before == Some(session) => {}
            Held::Nothing => {
                row.take_over(&claim)?;
                row.previous = row.fence();
                row.epoch = Epoch(now_ms.max(row.epoch.0 + 1));
            }
            Held::Fence { fence, .. } if row.epoch > fence.epoch => {
                if before != Some(session) {
                    return Err(StoreError::Superseded { pile }.into());
                }
            }
            Held::Fence { fence, anew } if anew || was != Some(fence) => {
                if before != Some(session) {
                    row.previous = was;
                }
                row.epoch = Epoch(fence.epoch.0 + 1);
            }
            Held::Fence { .. } => {}
        }
        let fence = Fence { session, epoch: row.epoch };
        if was != Some(fence) {
            row.superseded.retain(|other| *other != session);
            row.superseded.extend(before.filter(|before| *before != session));
            row.superseded.drain(..row.superseded.len().saturating_sub(Claim::REMEMBERED));
            (row.owner, row.identity) = (Some(session), identity);
            self.put_owner(pile, before, &row)?;
        }
        let previous = row.previous;
        Ok(Claimed { fence, previous, pile: document.map(Row::versioned), open_orders })
    }

    pub(super) fn release(&mut self, pile: PileCode, fence: Fence) -> Result<bool, Failure> {
        let mut row = self.pile(pile)?;
        if row.fence() != Some(fence) {
            return Ok(false);
        }
        row.superseded.extend(row.owner.take());
        row.superseded.drain(..row.superseded.len().saturating_sub(Claim::REMEMBERED));
        row.previous = None;
        self.put_owner(pile, Some(fence.session), &row)?;
        Ok(true)
    }

    pub(super) fn settle(&mut self, settlement: &Settlement) -> Result<Settled, Failure> {
        let Settlement { record, digest, value: _, due: _, order, order_is, events, conflict, conflict_event } =
            settlement;
        let Some(stored) = self.row(record)? else {
            self.require(order_is)?;
            self.put(&settlement.record_put(), Some(*digest))?;
            self.put(order, None)?;
            for event in events {
                self.append(event)?;
            }
            return Ok(Settled::First);
        };
        if stored.digest == Some(*digest) {
            return Ok(Settled::Again);
        }
        if self.row(&conflict.key)?.is_some()
            || self.conflicts(record, conflict.key.kind)?.len() >= Settlement::MAX_CONFLICTS
        {
            return Ok(Settled::Conflict { first: false });
        }
        self.put(conflict, None)?;
        self.append(conflict_event)?;
        Ok(Settled::Conflict { first: true })
    }

    /// Those kept beside `record`; no more are looked for than are kept.
    fn conflicts(&self, record: &Key, kind: Kind) -> Result<Vec<Key>, Failure> {
        let all = document_key(&Key { kind, ..record.clone() });
        let mut found = vec![];
        for row in self.documents.range::<&[u8]>(&*all..)?.take(Settlement::MAX_CONFLICTS) {
            if let Some(digest) = row?.0.value().strip_prefix(&*all) {
                found.push(Key { kind, id: [&record.id, digest].concat(), ..record.clone() });
            }
        }
        Ok(found)
    }

    pub(super) fn expire(&mut self, partition: Partition, before: &str, limit: usize) -> Result<usize, Failure> {
        let due = due(&self.indexes, partition, before, limit)?;
        for key in &due {
            let Some(Row { digest, indexes, .. }) = self.row(key)? else { continue };
            let later = indexes.iter().filter_map(|entry| entry.split_first());
            let later = later.filter(|(n, sort)| **n == IndexName::Expiry as u8 && *sort >= before.as_bytes());
            let text = |sort: &[u8]| String::from_utf8_lossy(sort).into_owned();
            let later = later.map(|(_, sort)| IndexEntry { index: IndexName::Expiry, sort: text(sort) });
            let indexes: Vec<_> = later.collect();
            if !indexes.is_empty() {
                self.put(&Put { key: key.clone(), value: Bytes::new(), indexes }, digest)?;
                continue;
            }
            self.delete(key)?;
            if key.kind == Kind::Record {
                let conflicts = self.conflicts(key, Kind::RecordConflict)?;
                conflicts.iter().try_for_each(|conflict| self.delete(conflict))?;
            }
        }
        Ok(due.len())
    }

    pub(super) fn trim(&mut self, partition: Partition, before: Offset, limit: usize) -> Result<usize, Failure> {
        let (start, end) = (log_key(partition, 0), log_key(partition, before.min(log_end(&self.log_ends, partition)?)));
        let old = self.log.range::<&[u8]>(&start[..]..&end[..])?.take(limit);
        let old = old.map(|entry| Ok(entry?.0.value().to_vec())).collect::<Result<Vec<_>, Failure>>()?;
        for key in &old {
            self.written = true;
            self.log.remove(&**key)?;
        }
        Ok(old.len())
    }

    fn require(&self, precondition: &Precondition) -> Result<(), Failure> {
        let (holds, current) = match precondition {
            Precondition::Absent(key) => {
                let row = self.row(key)?;
                (row.is_none(), row)
            }
            Precondition::Version(key, version) => {
                let row = self.row(key)?;
                (row.as_ref().is_some_and(|row| row.version == *version), row)
            }
            Precondition::Owner(pile, fence) => (self.pile(*pile)?.fence() == Some(*fence), None),
        };
        if holds {
            return Ok(());
        }
        let current = current.map(Row::versioned);
        Err(StoreError::Conflict { failed: Box::new(precondition.clone()), current }.into())
    }

    fn last_batch(&self, id: BatchId) -> Result<Option<BatchRow>, Failure> {
        let key = session_key(id.session);
        self.batches.get(&key[..])?.map(|row| BatchRow::decode(row.value())).transpose()
    }

    /// Keeps the result, and forgets a few sessions that have not written for long: more than one per new one, so that
    /// their number stays that of the sessions of a day.
    fn remember(
        &mut self,
        id: BatchId,
        last_hour: Option<u32>,
        fingerprint: u64,
        result: &Committed,
    ) -> Result<(), Failure> {
        self.written = true;
        let hour = self.hour;
        let session = session_key(id.session);
        let row = BatchRow { n: id.n, fingerprint, hour, result: result.clone() };
        self.batches.insert(&session[..], &*row.encode())?;
        if last_hour != Some(hour) {
            if let Some(last) = last_hour {
                self.batch_age.remove(&*age_key(last, &session))?;
            }
            self.batch_age.insert(&*age_key(hour, &session), NOTHING)?;
        }

        let oldest_kept = hour.saturating_sub((BatchId::KEPT_MS / 3_600_000) as u32);
        let end = age_key(oldest_kept, &[]);
        let old = self.batch_age.range::<&[u8]>(..&*end)?.take(2);
        let old = old.map(|entry| Ok(entry?.0.value().to_vec())).collect::<Result<Vec<_>, Failure>>()?;
        for age in old {
            self.batch_age.remove(&*age)?;
            self.batches.remove(age.get(4..).unwrap_or_default())?;
        }
        Ok(())
    }
}

impl PileRow {
    /// Counts a login that takes the pile from another identity; refuses it if that has happened too often lately, or if
    /// it is the late copy of one that is over.
    fn take_over(&mut self, claim: &Claim) -> Result<(), StoreError> {
        if self.superseded.contains(&claim.session) {
            return Err(StoreError::Superseded { pile: claim.pile });
        }
        if self.owner.is_none() || self.identity == claim.identity {
            return Ok(());
        }
        self.takeovers.retain(|at| at + Claim::CONTEST_MS > claim.now_ms);
        if self.takeovers.len() >= Claim::TAKEOVERS {
            return Err(StoreError::Contested { pile: claim.pile });
        }
        self.takeovers.push(claim.now_ms);
        Ok(())
    }
}
