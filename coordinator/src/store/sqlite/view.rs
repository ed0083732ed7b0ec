//! A store as it is at one moment, read while another process serves from it.
//!
//! SQLite's write-ahead log gives a reader one consistent state for as long as its transaction is open. A sum's file is written
//! before its row and never changed, so every row that is seen has its file; masked inputs may go while they are read, when their
//! attempt ends.

use std::{ops::Deref, path::Path};

use rusqlite::{Connection, OpenFlags};

use super::{
    SqliteStore,
    events::last_event,
    migration::copy_to,
    opening::{FORMAT, FORMAT_BEFORE, Trouble, check, same_job},
};
use crate::store::{StoreError, StoredJob, inputs::Inputs};

/// What a store held when the view was opened. Takes no lock and writes nothing.
#[derive(Debug)]
pub struct StoreView(SqliteStore);

impl StoreView {
    /// Opens a view of the store in `folder`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] when there is none; otherwise as [`SqliteStore::open`].
    pub fn open(folder: &Path, job: &StoredJob) -> Result<Self, StoreError> {
        let path = folder.join("job.sqlite");
        if !path.is_file() {
            return Err(StoreError::Missing { place: folder.to_owned() });
        }
        let opened = || -> Result<_, Trouble> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let database = Connection::open_with_flags(&path, flags)?;
            check(&database, folder, &[FORMAT_BEFORE, FORMAT])?;
            database.pragma_update(None, "query_only", true)?;
            database.pragma_update(None, "mmap_size", 0)?;
            // The moment is that of the first read.
            database.execute_batch("BEGIN")?;
            same_job(&database, folder, job)?;
            let last = last_event(&database, job.plan)?;
            Ok((database, last))
        };
        let (database, last) = opened().map_err(|error| error.at(folder))?;
        let inputs = Inputs::view(folder, job.input);
        Ok(Self(SqliteStore { place: folder.to_owned(), database, inputs, plan: job.plan, last, lock: None }))
    }
}

/// Copies the database of the store in `folder`, as it is at one moment, also while another process serves from it.
///
/// # Errors
///
/// As [`StoreView::open`].
pub(crate) fn copy_database(folder: &Path, job: &StoredJob, to: &Path) -> Result<(), StoreError> {
    let path = folder.join("job.sqlite");
    if !path.is_file() {
        return Err(StoreError::Missing { place: folder.to_owned() });
    }
    let copied = || -> Result<(), Trouble> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(&path, flags)?;
        check(&database, folder, &[FORMAT])?;
        same_job(&database, folder, job)?;
        Ok(copy_to(&database, to)?)
    };
    copied().map_err(|trouble| trouble.at(folder))
}

/// An attempt that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Round.
    pub round: u32,
    /// Attempt.
    pub attempt: u32,
    /// Whether its sum was published.
    pub with_sum: bool,
    /// When, Unix milliseconds.
    pub at_ms: u64,
}

impl StoreView {
    /// Every attempt that has ended, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn ended(&self) -> Result<Vec<Ended>, StoreError> {
        let read = || -> rusqlite::Result<Vec<Ended>> {
            let mut query = self.database.prepare(
                "SELECT round, attempt, kind, at_ms FROM event WHERE kind IN ('released', 'returned', 'failed') \
                 ORDER BY sequence",
            )?;
            let ended = query.query_map([], |row| {
                let kind: String = row.get(2)?;
                let at_ms = u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0);
                Ok(Ended { round: row.get(0)?, attempt: row.get(1)?, with_sum: kind != "failed", at_ms })
            })?;
            ended.collect()
        };
        read().map_err(|error| self.failed(&error))
    }
}

impl Deref for StoreView {
    type Target = SqliteStore;

    fn deref(&self) -> &SqliteStore {
        &self.0
    }
}
