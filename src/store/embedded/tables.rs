//! The tables of one write transaction, and the few things every operation does with them.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use redb::{Database, ReadableTable, Table, TableError, WriteTransaction};

use super::OpenError;
use super::layout::{
    BATCH_AGE, BATCHES, Bytewise, DOCUMENTS, Failure, INDEXES, LOG, LOG_ENDS, META, OWNED, PILES, PileRow, Row, TRIAL,
    document_key, index_key, log_key, log_value, number, owned_key,
};
use crate::domain::{PileCode, SessionId};
use crate::store::{Append, Entry, Key, Offset, Partition, Put};

pub(super) struct Tables<'t> {
    pub(super) documents: Bytes<'t>,
    pub(super) indexes: Bytes<'t>,
    pub(super) log: Bytes<'t>,
    pub(super) log_ends: Bytes<'t>,
    pub(super) piles: Bytes<'t>,
    owned: Bytes<'t>,
    pub(super) batches: Bytes<'t>,
    pub(super) batch_age: Bytes<'t>,
    pub(super) partitions: u16,
    /// Hours since 1970, for the age of batch ids.
    pub(super) hour: u32,
    /// Whether there is anything to commit.
    pub(super) written: bool,
    appended: Vec<Arc<Entry>>,
}

type Bytes<'t> = Table<'t, &'static [u8], &'static [u8]>;

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction, partitions: u16) -> Result<Self, TableError> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            documents: transaction.open_table(DOCUMENTS)?,
            indexes: transaction.open_table(INDEXES)?,
            log: transaction.open_table(LOG)?,
            log_ends: transaction.open_table(LOG_ENDS)?,
            piles: transaction.open_table(PILES)?,
            owned: transaction.open_table(OWNED)?,
            batches: transaction.open_table(BATCHES)?,
            batch_age: transaction.open_table(BATCH_AGE)?,
            partitions,
            hour: (since_1970.as_secs() / 3600) as u32,
            written: false,
            appended: Vec::new(),
        })
    }

    /// What was appended, in order; `None` if nothing at all was written.
    pub(super) fn finish(self) -> Option<Vec<Arc<Entry>>> {
        self.written.then_some(self.appended)
    }

    pub(super) fn partition(&self, pile: PileCode) -> Partition {
        Partition::of(pile, self.partitions)
    }

    pub(super) fn row(&self, key: &Key) -> Result<Option<Row>, Failure> {
        row(&self.documents, &document_key(key))
    }

    /// Stores the document under its next version and makes its index entries exactly those of `put`.
    pub(super) fn put(&mut self, put: &Put, digest: Option<[u8; 32]>) -> Result<u64, Failure> {
        self.written = true;
        let Put { key, value, indexes } = put;
        let document = document_key(key);
        let partition = key.of.partition(self.partitions);
        let old = row(&self.documents, &document)?;
        let version = old.as_ref().map_or(1, |row| row.version + 1);

        let entry = |e: &crate::store::IndexEntry| [&[e.index as u8], e.sort.as_bytes()].concat();
        let mut new: Vec<Vec<u8>> = indexes.iter().map(entry).collect();
        new.sort();
        new.dedup();
        let old = old.map(|row| row.indexes).unwrap_or_default();
        for gone in old.iter().filter(|entry| !new.contains(entry)) {
            self.indexes.remove(&*index_key(partition, gone, &document))?;
        }
        for added in new.iter().filter(|entry| !old.contains(entry)) {
            self.indexes.insert(&*index_key(partition, added, &document), NOTHING)?;
        }
        let row = Row { version, digest, indexes: new, value: value.clone() };
        self.documents.insert(&*document, &*row.encode())?;
        Ok(version)
    }

    pub(super) fn delete(&mut self, key: &Key) -> Result<(), Failure> {
        let document = document_key(key);
        let Some(old) = row(&self.documents, &document)? else { return Ok(()) };
        self.written = true;
        let partition = key.of.partition(self.partitions);
        for entry in &old.indexes {
            self.indexes.remove(&*index_key(partition, entry, &document))?;
        }
        self.documents.remove(&*document)?;
        Ok(())
    }

    /// Offset, epoch and seq are the store's to give; one writer is what makes them gapless.
    pub(super) fn append(&mut self, append: &Append) -> Result<Offset, Failure> {
        self.written = true;
        let Append { pile, payload } = append;
        let partition = self.partition(*pile);
        let offset = log_end(&self.log_ends, partition)? + 1;
        let mut row = self.pile(*pile)?;
        row.seq += 1;
        self.put_pile(*pile, &row)?;
        let (epoch, seq) = (row.epoch, row.seq);
        let entry = Entry { partition, offset, pile: *pile, epoch, seq, payload: payload.clone() };
        self.log.insert(&log_key(partition, offset)[..], &*log_value(&entry))?;
        self.log_ends.insert(&partition.0.to_be_bytes()[..], &offset.to_be_bytes()[..])?;
        self.appended.push(Arc::new(entry));
        Ok(offset)
    }

    pub(super) fn pile(&self, pile: PileCode) -> Result<PileRow, Failure> {
        pile_row(&self.piles, pile)
    }

    /// Makes `row.owner` the pile's owner, also in the list of what each run owns.
    pub(super) fn put_owner(&mut self, pile: PileCode, old: Option<SessionId>, row: &PileRow) -> Result<(), Failure> {
        let partition = self.partition(pile);
        if let Some(old) = old {
            self.owned.remove(&owned_key(partition, old.incarnation, pile)[..])?;
        }
        if let Some(new) = row.owner {
            self.owned.insert(&owned_key(partition, new.incarnation, pile)[..], NOTHING)?;
        }
        self.put_pile(pile, row)
    }

    pub(super) fn put_pile(&mut self, pile: PileCode, row: &PileRow) -> Result<(), Failure> {
        self.written = true;
        self.piles.insert(&pile.bcd()[..], &*row.encode())?;
        Ok(())
    }
}

pub(super) fn row(documents: &impl Bytewise, document: &[u8]) -> Result<Option<Row>, Failure> {
    documents.get(document)?.map(|row| Row::decode(row.value())).transpose()
}

pub(super) fn pile_row(piles: &impl Bytewise, pile: PileCode) -> Result<PileRow, Failure> {
    let row = piles.get(&pile.bcd()[..])?.map(|row| PileRow::decode(row.value())).transpose()?;
    Ok(row.unwrap_or_default())
}

pub(super) fn log_end(log_ends: &impl Bytewise, partition: Partition) -> Result<Offset, Failure> {
    let end = log_ends.get(&partition.0.to_be_bytes()[..])?.map(|end| number(end.value())).transpose()?;
    Ok(end.unwrap_or(0))
}

/// Makes a new file ours, or checks that an old one is.
pub(super) fn prepare(database: &Database, path: &Path, partitions: u16) -> Result<(), OpenError> {
    let found = stamped(database, partitions)
        .map_err(|error| OpenError::Database { path: path.to_owned(), source: Box::new(error) })?;
    match found {
        (FORMAT, found) if found == u64::from(partitions) => Ok(()),
        (FORMAT, found) => Err(OpenError::Partitions { path: path.to_owned(), found, configured: partitions }),
        (found, _) => Err(OpenError::Format { path: path.to_owned(), found, known: FORMAT }),
    }
}

/// Format and partitions as they are in the file; written if it is new.
fn stamped(database: &Database, partitions: u16) -> Result<(u64, u64), redb::Error> {
    let transaction = database.begin_write()?;
    let mut meta = transaction.open_table(META)?;
    let read = |name| -> Result<Option<u64>, redb::StorageError> { Ok(meta.get(name)?.map(|number| number.value())) };
    if let (Some(format), Some(partitions)) = (read("format")?, read("partitions")?) {
        drop(meta);
        transaction.abort()?;
        return Ok((format, partitions));
    }
    meta.insert("format", FORMAT)?;
    meta.insert("partitions", u64::from(partitions))?;
    drop(meta);
    // Readers expect every table to be there.
    drop(Tables::open(&transaction, partitions)?);
    transaction.commit()?;
    Ok((FORMAT, u64::from(partitions)))
}

/// Writes something, and takes it away again. Not little: in a full file there is always room for little.
pub(super) fn try_write(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(TRIAL)?.insert(NOTHING, &*vec![0; TRIAL_BYTES])?;
    transaction.commit()?;
    let transaction = database.begin_write()?;
    transaction.delete_table(TRIAL)?;
    Ok(transaction.commit()?)
}

/// Of the layout; a file with another number is not touched.
const FORMAT: u64 = 2;
/// As much as many a group of writes. Just below a power of two, to which redb rounds up: a trial should not itself fill
/// a disk that has little room.
const TRIAL_BYTES: usize = 250 * 1024;
pub(super) const NOTHING: &[u8] = &[];
