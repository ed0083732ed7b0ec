//! The embedded store: one folder, one SQLite database, files beside it.
//!
//! Write-ahead log with `synchronous=FULL`: in that mode NORMAL loses the last commits at a power cut, and votes among
//! them. A step's events go into one transaction. Each event carries a link, the hash of the link before it and of
//! itself, so that a replay notices a row that changed, moved or vanished. A sum is written to a file and synced before
//! the transaction that names its digest; a file without a row means nothing and is written over.

use std::{
    fs::{DirBuilder, File, TryLockError},
    os::unix::fs::{DirBuilderExt as _, FileExt as _},
    path::{Path, PathBuf},
};

use consilium_crypto::digest::{Digest, Transcript};
use consilium_proto::ids::Id;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{
    EachEvent, EventRecord, InputLayout, NewEvent, ReleaseHead, ReleaseRow, Store, StoreError, StoredJob,
    inputs::Inputs,
};
use crate::files::{TEMPORARY, folder_of, replace, sync_folder};

/// Format of the folder and of the tables, in `PRAGMA user_version`.
const FORMAT: i64 = 1;
/// "cons", in `PRAGMA application_id`.
const APPLICATION: i64 = 0x636f_6e73;

const TABLES: &str = "
    CREATE TABLE job (
        plan        BLOB NOT NULL,
        chunk_bytes BIGINT NOT NULL,
        total_bytes BIGINT NOT NULL
    );
    CREATE TABLE event (
        sequence BIGINT PRIMARY KEY,
        round    BIGINT NOT NULL,
        attempt  BIGINT NOT NULL,
        kind     TEXT NOT NULL,
        body     BLOB NOT NULL,
        at_ms    BIGINT NOT NULL,
        link     BLOB NOT NULL
    );
    CREATE TABLE release (
        round      BIGINT PRIMARY KEY,
        head       BLOB NOT NULL,
        signature  BLOB NOT NULL,
        sum_bytes  BIGINT NOT NULL,
        sum_digest BLOB NOT NULL
    );
";

/// A store in a folder of its own.
pub struct SqliteStore {
    place: PathBuf,
    database: Connection,
    inputs: Inputs,
    plan: Digest,
    /// Of the last event.
    last: (u64, Digest),
    /// Held as long as the store is open.
    _lock: File,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore")
            .field("place", &self.place)
            .field("events", &self.last.0)
            .finish_non_exhaustive()
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
        let database = connect(folder, job).map_err(|e| match e {
            Opening::Database(e) => StoreError::database(folder, &e),
            Opening::Refused(e) => e,
        })?;
        for path in [folder, folder_of(folder)] {
            sync_folder(path).map_err(|e| wrong(path, "synced", e))?;
        }
        let last = last_event(&database, job.plan).map_err(|e| StoreError::database(folder, &e))?;
        Ok(Self { place: folder.to_owned(), database, inputs, plan: job.plan, last, _lock: lock })
    }

    /// How many events the store holds.
    pub fn events(&self) -> u64 {
        self.last.0
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
                Opening::Database(e) => failed(e),
                Opening::Refused(e) => e,
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
        let failed = |e: rusqlite::Error| self.failed(&e);
        let mut query = self
            .database
            .prepare("SELECT sequence, round, attempt, kind, body, at_ms, link FROM event ORDER BY sequence")
            .map_err(failed)?;
        let mut rows = query.query([]).map_err(failed)?;
        let (mut sequence, mut link) = (0, first_link(self.plan));
        while let Some(row) = rows.next().map_err(failed)? {
            sequence += 1;
            let (event, stored) = event_of(row).map_err(failed)?;
            let new = next_link(&link, sequence, &event);
            if event_sequence(row).map_err(failed)? != Some(sequence) || stored != new.as_bytes() {
                return Err(StoreError::Corrupt {
                    what: format!("event {sequence} is not what was appended"),
                });
            }
            link = new;
            let NewEvent { round, attempt, kind, body, at_ms } = event;
            each(EventRecord { sequence, round, attempt, kind, body, at_ms })?;
        }
        if (sequence, link) != self.last {
            return Err(StoreError::Corrupt {
                what: format!("events end at {sequence}, not at {}", self.last.0),
            });
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

fn lost_sum(place: &Path, path: &Path, round: u32, error: std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::UnexpectedEof => StoreError::Corrupt {
            what: format!("{}, the sum of round {round}, is missing or cut short", path.display()),
        },
        _ => StoreError::io(place, path, "read", error),
    }
}

fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let wrong = |e| StoreError::io(folder, &path, "opened", e);
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(wrong)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { place: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(StoreError::io(folder, &path, "locked", error)),
    }
}

/// Files that a crash left half written.
fn remove_unfinished(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(TEMPORARY) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

enum Opening {
    Database(rusqlite::Error),
    Refused(StoreError),
}

impl From<rusqlite::Error> for Opening {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

fn connect(folder: &Path, job: &StoredJob) -> Result<Connection, Opening> {
    let mut database = Connection::open(folder.join("job.sqlite"))?;
    let format: i64 = database.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i64 = database.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let empty = (format, application) == (0, 0);
    if !empty && application != APPLICATION {
        let what = format!("{} is not a coordinator's store", folder.join("job.sqlite").display());
        return Err(Opening::Refused(StoreError::Corrupt { what }));
    }
    if !empty && format != FORMAT {
        let place = folder.to_owned();
        return Err(Opening::Refused(StoreError::Format { place, found: format, known: FORMAT }));
    }
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.pragma_update(None, "foreign_keys", true)?;
    // Mapped pages would count as resident memory.
    database.pragma_update(None, "mmap_size", 0)?;
    database.pragma_update(None, "journal_size_limit", 64 << 20)?;
    if empty {
        create(&mut database, job)?;
    }
    same_job(&database, folder, job)?;
    Ok(database)
}

/// All in one transaction: a store is either not made yet or whole.
fn create(database: &mut Connection, job: &StoredJob) -> Result<(), Opening> {
    let transaction = database.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute(
        "INSERT INTO job (plan, chunk_bytes, total_bytes) VALUES (?1, ?2, ?3)",
        params![
            job.plan.as_bytes().as_slice(),
            number("chunk_bytes", job.input.chunk_bytes() as u64).map_err(Opening::Refused)?,
            number("total_bytes", job.input.total_bytes() as u64).map_err(Opening::Refused)?
        ],
    )?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()?;
    Ok(())
}

fn same_job(database: &Connection, folder: &Path, job: &StoredJob) -> Result<(), Opening> {
    let (plan, chunk, total): (Vec<u8>, i64, i64) =
        database.query_row("SELECT plan, chunk_bytes, total_bytes FROM job", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    let corrupt = |what: &str| Opening::Refused(StoreError::Corrupt { what: what.to_owned() });
    let held = Digest(plan.try_into().map_err(|_| corrupt("the plan's digest is not 32 bytes"))?);
    if held != job.plan {
        let place = folder.to_owned();
        return Err(Opening::Refused(StoreError::OtherJob { place, held, asked: job.plan }));
    }
    let layout = usize::try_from(chunk).ok().zip(usize::try_from(total).ok());
    if layout.and_then(|(chunk, total)| InputLayout::new(chunk, total)) != Some(job.input) {
        return Err(corrupt("its chunks are not as long as the plan makes them"));
    }
    Ok(())
}

fn last_event(database: &Connection, plan: Digest) -> rusqlite::Result<(u64, Digest)> {
    let last = database
        .query_row("SELECT sequence, link FROM event ORDER BY sequence DESC LIMIT 1", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 32]>(1)?))
        })
        .optional()?;
    Ok(match last {
        Some((sequence, link)) => (u64::try_from(sequence).unwrap_or(0), Digest(link)),
        None => (0, first_link(plan)),
    })
}

fn insert(
    transaction: &Transaction<'_>,
    (sequence, link): (u64, Digest),
    event: &NewEvent,
) -> Result<(u64, Digest), Opening> {
    let sequence = sequence + 1;
    let link = next_link(&link, sequence, event);
    let at_ms = number("at_ms", event.at_ms).map_err(Opening::Refused)?;
    let place = number("sequence", sequence).map_err(Opening::Refused)?;
    transaction
        .prepare_cached(
            "INSERT INTO event (sequence, round, attempt, kind, body, at_ms, link) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            place,
            i64::from(event.round),
            i64::from(event.attempt),
            event.kind,
            event.body,
            at_ms,
            link.as_bytes().as_slice()
        ])?;
    Ok((sequence, link))
}

fn number(field: &'static str, value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::TooLarge { field, value })
}

fn event_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<(NewEvent, Vec<u8>)> {
    let at_ms = u64::try_from(row.get::<_, i64>(5)?).unwrap_or(0);
    let event =
        NewEvent { round: row.get(1)?, attempt: row.get(2)?, kind: row.get(3)?, body: row.get(4)?, at_ms };
    Ok((event, row.get(6)?))
}

fn event_sequence(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<u64>> {
    Ok(u64::try_from(row.get::<_, i64>(0)?).ok())
}

fn first_link(plan: Digest) -> Digest {
    Transcript::new("consilium/1/store").digest(&plan).finish()
}

fn next_link(before: &Digest, sequence: u64, event: &NewEvent) -> Digest {
    Transcript::new("consilium/1/store-event")
        .digest(before)
        .u64(sequence)
        .u64(event.round.into())
        .u64(event.attempt.into())
        .bytes(event.kind.as_bytes())
        .bytes(&event.body)
        .u64(event.at_ms)
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> StoredJob {
        StoredJob { plan: Digest([1; 32]), input: InputLayout::new(48, 101).unwrap() }
    }

    fn event(body: Vec<u8>) -> NewEvent {
        NewEvent { round: 1, attempt: 1, kind: "a".into(), body, at_ms: 1 }
    }

    #[test]
    fn commits_are_synced() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path(), &job()).unwrap();
        let pragma = |name: &str| -> String {
            let value: rusqlite::types::Value =
                store.database.pragma_query_value(None, name, |row| row.get(0)).unwrap();
            format!("{value:?}")
        };
        assert_eq!(pragma("journal_mode"), r#"Text("wal")"#);
        assert_eq!(pragma("synchronous"), "Integer(2)", "2 is FULL");
        assert_eq!(pragma("foreign_keys"), "Integer(1)");
    }

    #[test]
    fn a_full_disk_loses_nothing_and_takes_nothing_by_halves() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(folder.path(), &job()).unwrap();
        store.append(&[event(vec![1])]).unwrap();
        let pages: i64 = store.database.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        store.database.pragma_update(None, "max_page_count", pages + 2).unwrap();
        let error = store.append(&[event(vec![2]), event(vec![3; 100_000])]).unwrap_err();
        assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
        store.database.pragma_update(None, "max_page_count", pages + 1000).unwrap();
        store.append(&[event(vec![4])]).unwrap();
        drop(store);
        let store = SqliteStore::open(folder.path(), &job()).unwrap();
        let mut bodies = Vec::new();
        store
            .replay(&mut |event| {
                bodies.push((event.sequence, event.body));
                Ok(())
            })
            .unwrap();
        assert_eq!(bodies, [(1, vec![1]), (2, vec![4])]);
    }
}
