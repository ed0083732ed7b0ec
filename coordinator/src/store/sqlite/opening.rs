//! Trouble a store: the lock, the settings, the tables, and whether it is the right job's.

use std::{
    fs::{File, TryLockError},
    path::Path,
};

use consilium_crypto::digest::Digest;
use rusqlite::{Connection, params};

use super::number;
use crate::{
    files::TEMPORARY,
    store::{InputLayout, StoreError, StoredJob},
};

/// Format of the folder and of the tables, in `PRAGMA user_version`. Since 2 there are entries of the signed log among the events.
pub(super) const FORMAT: i64 = 2;
/// The format before, which can be read, and migrated from.
pub(super) const FORMAT_BEFORE: i64 = 1;
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
    CREATE TABLE migration (
        from_format BIGINT NOT NULL,
        sequence    BIGINT NOT NULL,
        at_ms       BIGINT NOT NULL
    );
    CREATE TABLE release (
        round      BIGINT PRIMARY KEY,
        head       BLOB NOT NULL,
        signature  BLOB NOT NULL,
        sum_bytes  BIGINT NOT NULL,
        sum_digest BLOB NOT NULL
    );
";

pub(super) fn lock(folder: &Path) -> Result<File, StoreError> {
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
pub(super) fn remove_unfinished(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(TEMPORARY) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// What went wrong: for the caller to put a place to, or said already.
pub(super) enum Trouble {
    Database(rusqlite::Error),
    Refused(StoreError),
}

impl Trouble {
    /// With the store's folder put to it.
    pub(super) fn at(self, folder: &Path) -> StoreError {
        match self {
            Self::Database(error) => StoreError::database(folder, &error),
            Self::Refused(error) => error,
        }
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

pub(super) fn connect(folder: &Path, job: &StoredJob) -> Result<Connection, Trouble> {
    let mut database = Connection::open(folder.join("job.sqlite"))?;
    let empty = numbers(&database)? == (0, 0);
    if !empty {
        check(&database, folder, &[FORMAT])?;
    }
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.pragma_update(None, "foreign_keys", true)?;
    // Mapped pages would count as resident memory.
    database.pragma_update(None, "mmap_size", 0)?;
    // Events are appended and hardly ever read again: 256 KiB of pages are enough, and 2 MiB would count as memory.
    database.pragma_update(None, "cache_size", -256)?;
    database.pragma_update(None, "journal_size_limit", 64 << 20)?;
    if empty {
        create(&mut database, job)?;
    }
    same_job(&database, folder, job)?;
    Ok(database)
}

/// Format and application id.
fn numbers(database: &Connection) -> rusqlite::Result<(i64, i64)> {
    let number = |name| database.pragma_query_value(None, name, |row| row.get(0));
    Ok((number("user_version")?, number("application_id")?))
}

/// The format, if it is a store and of one of these.
pub(super) fn check(database: &Connection, folder: &Path, known: &[i64]) -> Result<i64, Trouble> {
    let (format, application) = numbers(database)?;
    if application != APPLICATION {
        let what = format!("{} is not a coordinator's store", folder.join("job.sqlite").display());
        return Err(Trouble::Refused(StoreError::Corrupt { what }));
    }
    if known.contains(&format) {
        return Ok(format);
    }
    let place = folder.to_owned();
    Err(Trouble::Refused(match format {
        FORMAT_BEFORE => StoreError::Before { place, found: format, known: FORMAT },
        _ => StoreError::Format { place, found: format, known: FORMAT },
    }))
}

/// All in one transaction: a store is either not made yet or whole.
fn create(database: &mut Connection, job: &StoredJob) -> Result<(), Trouble> {
    let transaction = database.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute(
        "INSERT INTO job (plan, chunk_bytes, total_bytes) VALUES (?1, ?2, ?3)",
        params![
            job.plan.as_bytes().as_slice(),
            number("chunk_bytes", job.input.chunk_bytes() as u64).map_err(Trouble::Refused)?,
            number("total_bytes", job.input.total_bytes() as u64).map_err(Trouble::Refused)?
        ],
    )?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()?;
    Ok(())
}

pub(super) fn same_job(database: &Connection, folder: &Path, job: &StoredJob) -> Result<(), Trouble> {
    let (plan, chunk, total): (Vec<u8>, i64, i64) =
        database.query_row("SELECT plan, chunk_bytes, total_bytes FROM job", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    let corrupt = |what: &str| Trouble::Refused(StoreError::Corrupt { what: what.to_owned() });
    let held = Digest(plan.try_into().map_err(|_| corrupt("the plan's digest is not 32 bytes"))?);
    if held != job.plan {
        let place = folder.to_owned();
        return Err(Trouble::Refused(StoreError::OtherJob { place, held, asked: job.plan }));
    }
    let layout = usize::try_from(chunk).ok().zip(usize::try_from(total).ok());
    if layout.and_then(|(chunk, total)| InputLayout::new(chunk, total)) != Some(job.input) {
        return Err(corrupt("its chunks are not as long as the plan makes them"));
    }
    Ok(())
}
