//! The database in its place: opened, and opened again when redb has given it up.
//!
//! After any I/O error redb refuses all that would touch the file again, however short the trouble was ("close and
//! re-open the database"). So the writer puts a new [`Database`] in the old one's place, and readers take what is there.

use std::sync::{Mutex, PoisonError, RwLock};

use redb::{Database, ReadTransaction, ReadableDatabase};

use super::layout::Failure;
use super::{OpenError, tables};

pub(super) type Open = Box<dyn Fn() -> Result<Database, OpenError> + Send + Sync>;

pub(super) struct Disk {
    open: Open,
    /// `None` while it cannot be opened.
    pub(super) database: RwLock<Option<Database>>,
    /// Why nothing can be written; `None` while it can.
    trouble: Mutex<Option<String>>,
}

impl Disk {
    pub(super) fn open(open: Open) -> Result<Self, OpenError> {
        let database = RwLock::new(Some(open()?));
        Ok(Self { open, database, trouble: Mutex::new(None) })
    }

    /// What it gives lives on without the database, so nobody holds up its replacement.
    pub(super) fn begin_read(&self) -> Result<ReadTransaction, Failure> {
        match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            Some(database) => database.begin_read().map_err(Failure::disk),
            None => Err(Failure::Disk(self.trouble().unwrap_or_default())),
        }
    }

    /// Fails with why it could not be opened; then there is none until the next try.
    pub(super) fn reopen(&self) -> Result<(), String> {
        // Neither closing nor opening happens under the lock: redb may verify the whole file, and readers are to learn
        // at once that they cannot read.
        let old = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(old);
        let new = (self.open)().map_err(|error| error.to_string())?;
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = Some(new);
        Ok(())
    }

    /// Writes something, to see whether it becomes durable.
    pub(super) fn try_write(&self) -> Result<(), String> {
        match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            Some(database) => tables::try_write(database).map_err(|error| error.to_string()),
            None => Err("the database is not open".to_owned()),
        }
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}
