//! The embedded store: one folder, one SQLite database, files beside it.
//!
//! Write-ahead log with `synchronous=FULL`: in that mode NORMAL loses the last commits at a power cut, and votes among
//! them. A step's events go into one transaction. Each event carries a link, the hash of the link before it and of
//! itself, so that a replay notices a row that changed, moved or vanished. A sum is written to a file and synced before
//! the transaction that names its digest; a file without a row means nothing and is written over.

mod events;
pub mod migration;
mod opening;
#[cfg(test)]
mod tests;
mod view;

use std::{
    fs::{DirBuilder, File},
    os::unix::fs::{DirBuilderExt as _, FileExt as _},
    path::{Path, PathBuf},
};

use consilium_crypto::digest::Digest;
use consilium_proto::ids::Id;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use self::{
    events::{event_of, first_link, insert, last_event, next_link},
    opening::{Trouble, connect, lock, remove_unfinished},
};
use super::{
    EachEvent, EventRecord, NewEvent, ReleaseHead, ReleaseRow, Store, StoreError, StoredJob, inputs::Inputs,
};
use crate::files::{folder_of, replace, sync_folder};
pub(crate) use view::copy_database;
pub use view::{Ended, StoreView};

/// A store in a folder of its own.
pub struct SqliteStore {
    place: PathBuf,
    database: Connection,
    inputs: Inputs,
    plan: Digest,
    /// Of the last event.
    last: (u64, Digest),
    /// Held as long as the store is open; none in a view.
    lock: Option<File>,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore")
            .field("place", &self.place)
            .field("events", &self.last.0)
            .finish_non_exhaustive()
    }
}

impl Drop for SqliteStore {
    /// Closing the file is not enough: a process that is just being spawned holds a copy of it until it executes.
    fn drop(&mut self) {
        let _ = self.lock.as_ref().map(File::unlock);
    }
}

impl SqliteStore {
    /// Opens the store in `folder` for a job; makes both if there is nothing yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] when another process has it open, [`StoreError::OtherJob`], [`StoreError::Format`],
    /// [`StoreError::Corrupt`], or what the file system says.
    pub fn open(folder: &Path, job: &StoredJob) -> Result<Self, StoreError> {
        let wrong = |path: &Path, doing, e| StoreError::io(folder, path, doing, e);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| wrong(folder, "made", e))?;
        let lock = lock(folder)?;
        let sums = folder.join("sums");
        std::fs::create_dir_all(&sums).map_err(|e| wrong(&sums, "made", e))?;
        let inputs = Inputs::open(folder, job.input)?;
        remove_unfinished(&sums).map_err(|e| wrong(&sums, "read", e))?;
        let database = connect(folder, job).map_err(|trouble| trouble.at(folder))?;
        for path in [folder, folder_of(folder)] {
            sync_folder(path).map_err(|e| wrong(path, "synced", e))?;
        }
        let last = last_event(&database, job.plan).map_err(|e| StoreError::database(folder, &e))?;
        Ok(Self { place: folder.to_owned(), database, inputs, plan: job.plan, last, lock: Some(lock) })
    }

    /// How many events the store holds.
    pub fn events(&self) -> u64 {
        self.last.0
    }

    /// Walks the chain of a store's events on a connection of its own, beside a process that may have it open; how many there
    /// are.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] names the first event that is not what was appended.
    pub fn walk(folder: &Path, job: &StoredJob) -> Result<u64, StoreError> {
        let path = folder.join("job.sqlite");
        let database = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .map_err(|e| StoreError::database(folder, &e))?;
        Ok(walk(&database, folder, job.plan, &mut |_| Ok(()))?.0)
    }

    fn failed(&self, error: &rusqlite::Error) -> StoreError {
        StoreError::database(&self.place, error)
    }

    fn sum_path(&self, round: u32) -> PathBuf {
        self.place.join("sums").join(format!("round-{round}.sum"))
    }

    fn write(&mut self, events: &[NewEvent], release: Option<&ReleaseRow>) -> Result<(), StoreError> {
        let place = self.place.clone();
        let failed = |e: rusqlite::Error| StoreError::database(&place, &e);
        let transaction = self.database.transaction().map_err(failed)?;
        let mut last = self.last;
        for event in events {
            last = insert(&transaction, last, event).map_err(|e| match e {
                Trouble::Database(e) => failed(e),
                Trouble::Refused(e) => e,
            })?;
        }
        if let Some(row) = release {
            let digest = Digest::of(&row.sum);
            transaction
                .execute(
                    "INSERT INTO release (round, head, signature, sum_bytes, sum_digest) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![
                        i64::from(row.round),
                        row.head,
                        row.signature,
                        number("the sum's length", row.sum.len() as u64)?,
                        digest.as_bytes().as_slice()
                    ],
                )
                .map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        self.last = last;
        Ok(())
    }

    fn head_row(&self, round: u32) -> Result<Option<(ReleaseHead, Vec<u8>)>, StoreError> {
        self.database
            .prepare_cached("SELECT head, signature, sum_bytes, sum_digest FROM release WHERE round = ?1")
            .and_then(|mut query| {
                query
                    .query_row([i64::from(round)], |row| {
                        let sum_bytes = u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0);
                        let head =
                            ReleaseHead { round, head: row.get(0)?, signature: row.get(1)?, sum_bytes };
                        Ok((head, row.get(3)?))
                    })
                    .optional()
            })
            .map_err(|e| self.failed(&e))
    }
}

impl Store for SqliteStore {
    fn append(&mut self, events: &[NewEvent]) -> Result<(), StoreError> {
        if events.is_empty() { Ok(()) } else { self.write(events, None) }
    }

    fn replay(&self, each: EachEvent<'_>) -> Result<(), StoreError> {
        let end = walk(&self.database, &self.place, self.plan, each)?;
        if end != self.last {
            let (ends, last) = (end.0, self.last.0);
            return Err(StoreError::Corrupt { what: format!("events end at {ends}, not at {last}") });
        }
        Ok(())
    }

    fn put_chunk(
        &mut self,
        round: u32,
        attempt: u32,
        org: &Id,
        index: u32,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        self.inputs.put((round, attempt, org.clone()), index, bytes)
    }

    fn chunks_held(&self, round: u32, attempt: u32, org: &Id) -> Result<u32, StoreError> {
        self.inputs.held(&(round, attempt, org.clone()))
    }

    fn sync_input(&mut self, round: u32, attempt: u32, org: &Id) -> Result<(), StoreError> {
        self.inputs.sync(&(round, attempt, org.clone()))
    }

    fn read_chunk(
        &self,
        round: u32,
        attempt: u32,
        org: &Id,
        index: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        self.inputs.read(&(round, attempt, org.clone()), index, out)
    }

    fn drop_attempt_inputs(&mut self, round: u32, attempt: u32) -> Result<(), StoreError> {
        self.inputs.drop_attempt(round, attempt)
    }

    fn put_release(&mut self, events: &[NewEvent], row: &ReleaseRow) -> Result<(), StoreError> {
        if self.head_row(row.round)?.is_some() {
            return Err(StoreError::ReleaseExists { round: row.round });
        }
        let path = self.sum_path(row.round);
        replace(&path, &row.sum).map_err(|e| StoreError::io(&self.place, &path, "written", e))?;
        self.write(events, Some(row))
    }

    fn release_head(&self, round: u32) -> Result<Option<ReleaseHead>, StoreError> {
        Ok(self.head_row(round)?.map(|(head, _)| head))
    }

    fn read_sum(&self, round: u32, offset: u64, bytes: usize, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let (head, _) = self.head_row(round)?.ok_or(StoreError::ReleaseMissing { round })?;
        let left = usize::try_from(head.sum_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        out.clear();
        out.resize(left.min(bytes), 0);
        let path = self.sum_path(round);
        let read = File::open(&path).and_then(|file| file.read_exact_at(out, offset));
        read.map_err(|e| lost_sum(&self.place, &path, round, e))
    }

    fn release(&self, round: u32) -> Result<Option<ReleaseRow>, StoreError> {
        let Some((ReleaseHead { head, signature, sum_bytes, .. }, digest)) = self.head_row(round)? else {
            return Ok(None);
        };
        let mut sum = Vec::new();
        self.read_sum(round, 0, usize::try_from(sum_bytes).unwrap_or(usize::MAX), &mut sum)?;
        if digest != Digest::of(&sum).as_bytes() {
            return Err(StoreError::Corrupt {
                what: format!("the sum of round {round} is not what was put"),
            });
        }
        Ok(Some(ReleaseRow { round, head, signature, sum }))
    }

    fn releases_from(&self, round: u32) -> Result<Vec<u32>, StoreError> {
        let rounds = |connection: &Connection| -> rusqlite::Result<Vec<u32>> {
            let mut query =
                connection.prepare_cached("SELECT round FROM release WHERE round >= ?1 ORDER BY round")?;
            query.query_map([i64::from(round)], |row| row.get(0))?.collect()
        };
        rounds(&self.database).map_err(|e| self.failed(&e))
    }
}

/// Passes every event on, in order, as long as the chain holds; sequence and link of the last.
fn walk(
    database: &Connection,
    folder: &Path,
    plan: Digest,
    each: EachEvent<'_>,
) -> Result<(u64, Digest), StoreError> {
    let failed = |e: rusqlite::Error| StoreError::database(folder, &e);
    let mut query = database
        .prepare("SELECT sequence, round, attempt, kind, body, at_ms, link FROM event ORDER BY sequence")
        .map_err(failed)?;
    let mut rows = query.query([]).map_err(failed)?;
    let (mut sequence, mut link) = (0, first_link(plan));
    while let Some(row) = rows.next().map_err(failed)? {
        sequence += 1;
        let (place, event, stored) = event_of(row).map_err(failed)?;
        let new = next_link(&link, sequence, &event);
        if place != sequence || stored != new.as_bytes() {
            let what = format!("event {sequence} is not what was appended");
            return Err(StoreError::Corrupt { what });
        }
        link = new;
        let NewEvent { round, attempt, kind, body, at_ms } = event;
        each(EventRecord { sequence, round, attempt, kind, body, at_ms })?;
    }
    Ok((sequence, link))
}

fn lost_sum(place: &Path, path: &Path, round: u32, error: std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::UnexpectedEof => StoreError::Corrupt {
            what: format!("{}, the sum of round {round}, is missing or cut short", path.display()),
        },
        _ => StoreError::io(place, path, "read", error),
    }
}

/// A number as a column holds it.
fn number(field: &'static str, value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::TooLarge { field, value })
}
