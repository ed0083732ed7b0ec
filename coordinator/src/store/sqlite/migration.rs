//! From the format before to this one, and back as long as nothing was recorded since.
//!
//! Nothing that was recorded changes: events, links and releases stay as they are, byte for byte. What changes is which software
//! may write: an older one would meet events that it cannot read. The database is copied beside itself first.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::{
    events::last_event,
    number,
    opening::{FORMAT, FORMAT_BEFORE, Trouble, check, lock, same_job},
};
use crate::{
    files::sync_folder,
    store::{StoreError, StoredJob},
};

/// What a migration does, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Format that was found.
    pub from: i64,
    /// Format afterwards; the same if there is nothing to do.
    pub to: i64,
    /// Events, which stay as they are.
    pub events: u64,
    /// The copy that was, or would be, made first.
    pub copy: PathBuf,
    /// Its length, bytes.
    pub copy_bytes: u64,
}

const TABLE: &str = "
    CREATE TABLE migration (
        from_format BIGINT NOT NULL,
        sequence    BIGINT NOT NULL,
        at_ms       BIGINT NOT NULL
    );
";

struct Open {
    database: Connection,
    found: i64,
    /// Held until the end.
    _lock: std::fs::File,
}

fn open(folder: &Path, job: &StoredJob) -> Result<Open, StoreError> {
    let path = folder.join("job.sqlite");
    if !path.is_file() {
        return Err(StoreError::Missing { place: folder.to_owned() });
    }
    let lock = lock(folder)?;
    let opened = || -> Result<_, Trouble> {
        let database = Connection::open(&path)?;
        let found = check(&database, folder, &[FORMAT_BEFORE, FORMAT])?;
        same_job(&database, folder, job)?;
        database.pragma_update(None, "synchronous", "FULL")?;
        Ok((database, found))
    };
    let (database, found) = opened().map_err(|trouble| trouble.at(folder))?;
    Ok(Open { database, found, _lock: lock })
}

/// Migrates the store in `folder`, which nobody may have open; only says what it would do if `dry_run`.
///
/// # Errors
///
/// [`StoreError`]; the store is then as it was.
pub fn migrate(folder: &Path, job: &StoredJob, dry_run: bool, now_ms: u64) -> Result<Migration, StoreError> {
    let Open { mut database, found, _lock } = open(folder, job)?;
    let failed = |error: rusqlite::Error| StoreError::database(folder, &error);
    let (events, _) = last_event(&database, job.plan).map_err(failed)?;
    let copy = folder.join(format!("job.sqlite.format-{found}"));
    let pragma = |name| database.pragma_query_value::<i64, _>(None, name, |row| row.get(0));
    let pages = pragma("page_count").map_err(failed)?;
    let bytes = pages.saturating_mul(pragma("page_size").map_err(failed)?);
    let copy_bytes = u64::try_from(bytes).unwrap_or(0);
    let migration = Migration { from: found, to: FORMAT, events, copy, copy_bytes };
    if dry_run || found == FORMAT {
        return Ok(migration);
    }
    // One that an earlier, interrupted try left is of the same content: nothing was recorded in between.
    if migration.copy.exists() {
        std::fs::remove_file(&migration.copy)
            .map_err(|e| StoreError::io(folder, &migration.copy, "removed", e))?;
    }
    copy_to(&database, &migration.copy).map_err(failed)?;
    let synced = std::fs::File::open(&migration.copy).and_then(|file| file.sync_all());
    synced
        .and_then(|()| sync_folder(folder))
        .map_err(|e| StoreError::io(folder, &migration.copy, "synced", e))?;
    let transaction = database.transaction().map_err(failed)?;
    transaction.execute_batch(TABLE).map_err(failed)?;
    transaction
        .execute(
            "INSERT INTO migration (from_format, sequence, at_ms) VALUES (?1, ?2, ?3)",
            params![found, number("sequence", events)?, number("at_ms", now_ms)?],
        )
        .and_then(|_| transaction.pragma_update(None, "user_version", FORMAT))
        .map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(migration)
}

/// Takes a migration back, as long as nothing was recorded since; events that were. The format that the store has then.
///
/// # Errors
///
/// [`StoreError::GoneOn`] when something was recorded; [`StoreError::Format`] when it was not migrated.
pub fn roll_back(folder: &Path, job: &StoredJob) -> Result<i64, StoreError> {
    let Open { mut database, found, _lock } = open(folder, job)?;
    let failed = |error: rusqlite::Error| StoreError::database(folder, &error);
    let (events, _) = last_event(&database, job.plan).map_err(failed)?;
    let place = folder.to_owned();
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
    let before = (found == FORMAT)
        .then(|| {
            let latest = "SELECT from_format, sequence FROM migration ORDER BY at_ms DESC LIMIT 1";
            database.query_row(latest, [], row)
        })
        .and_then(Result::ok);
    let Some((from, sequence)) = before else {
        return Err(StoreError::Format { place, found, known: FORMAT_BEFORE });
    };
    let more = events.saturating_sub(u64::try_from(sequence).unwrap_or(0));
    if more > 0 {
        return Err(StoreError::GoneOn { place, more });
    }
    let transaction = database.transaction().map_err(failed)?;
    transaction
        .execute_batch("DROP TABLE migration")
        .and_then(|()| transaction.pragma_update(None, "user_version", from))
        .map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(from)
}

/// A whole copy of a database as it is at this moment.
pub(super) fn copy_to(database: &Connection, path: &Path) -> rusqlite::Result<()> {
    database.execute("VACUUM INTO ?1", [path.to_string_lossy()]).map(drop)
}
