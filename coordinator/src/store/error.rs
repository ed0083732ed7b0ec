//! What can go wrong in a store. Each message names the cure.

use std::{error::Error, io, path::PathBuf};

use consilium_crypto::digest::Digest;
use consilium_proto::ids::Id;
use thiserror::Error;

/// Why a store did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// No space is left.
    #[error(
        "the disk that holds {} is full; what was stored is whole: free some space and start the coordinator again",
        .place.display()
    )]
    DiskFull {
        /// The store's folder.
        place: PathBuf,
    },
    /// What is there is not what was written.
    #[error(
        "the store is damaged: {what}; keep the folder for a look at it, restore it from the last backup, and check the disk"
    )]
    Corrupt {
        /// What does not hold.
        what: String,
    },
    /// Another process has it open.
    #[error(
        "{}: another process has this store open; one coordinator runs per store: stop the other one first",
        .place.display()
    )]
    Locked {
        /// The store's folder.
        place: PathBuf,
    },
    /// It holds another job.
    #[error(
        "{}: this store holds the job with plan {held}, and the plan given is {asked}; \
         give each job a store of its own, or the plan that this one was started with",
        .place.display()
    )]
    OtherJob {
        /// The store's folder.
        place: PathBuf,
        /// Digest of the plan it was made for.
        held: Digest,
        /// Digest of the plan it was opened for.
        asked: Digest,
    },
    /// It was written by a later version.
    #[error(
        "{}: the store has format {found}, and this software writes {known}; run the version that wrote it, or a later one",
        .place.display()
    )]
    Format {
        /// The store's folder.
        place: PathBuf,
        /// Its format.
        found: i64,
        /// This software's.
        known: i64,
    },
    /// The format before this software's.
    #[error(
        "{}: the store has format {found}, and this software writes {known}; look at what would change with \
         `consilium-coordinator store migrate --dry-run`, then run it without",
        .place.display()
    )]
    Before {
        /// The store's folder.
        place: PathBuf,
        /// Its format.
        found: i64,
        /// This software's.
        known: i64,
    },
    /// A migration cannot be taken back.
    #[error(
        "{}: {more} events were recorded since the migration, and the version before could not read them; go on with this version",
        .place.display()
    )]
    GoneOn {
        /// The store's folder.
        place: PathBuf,
        /// Events since.
        more: u64,
    },
    /// There is no store.
    #[error("{}: there is no store here; correct `state` in the config, or start the coordinator once", .place.display())]
    Missing {
        /// The folder.
        place: PathBuf,
    },
    /// A chunk out of order.
    #[error(
        "chunk {got} of {org}'s masked input in round {round} attempt {attempt} came where chunk {expected} is next; send from \
         there"
    )]
    ChunkOrder {
        /// Whose.
        org: Id,
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// Next index.
        expected: u32,
        /// Index that came.
        got: u32,
    },
    /// A chunk of a wrong length.
    #[error("chunk {index} of {org}'s masked input has {got} bytes, and the plan makes it {expected}")]
    ChunkLength {
        /// Whose.
        org: Id,
        /// Index.
        index: u32,
        /// Bytes by the plan; 0: there is no such chunk.
        expected: usize,
        /// Bytes that came.
        got: usize,
    },
    /// A repeat with other bytes.
    #[error(
        "chunk {index} of {org}'s masked input came again with other bytes; a client sends one vector per attempt, so this one is \
         not to be believed"
    )]
    ChunkConflict {
        /// Whose.
        org: Id,
        /// Index.
        index: u32,
    },
    /// A chunk that is not held.
    #[error(
        "chunk {index} of {org}'s masked input in round {round} attempt {attempt} is not held; {held} are"
    )]
    ChunkMissing {
        /// Whose.
        org: Id,
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// Index asked for.
        index: u32,
        /// Chunks held.
        held: u32,
    },
    /// A round is released once.
    #[error("round {round} has a release already; a sum is published once")]
    ReleaseExists {
        /// Round.
        round: u32,
    },
    /// No release for the round.
    #[error("round {round} has no release")]
    ReleaseMissing {
        /// Round.
        round: u32,
    },
    /// A number that no column holds.
    #[error("{field} is {value}, more than a store holds")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The caller could not use an event during a replay.
    #[error("event {sequence} cannot be used: {source}")]
    Event {
        /// Its sequence.
        sequence: u64,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The file system refused.
    #[error("{}: cannot be {doing}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// "opened", "read", "written", "synced" or "removed".
        doing: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The database refused.
    #[error("{}: the database cannot go on: {why}", .place.display())]
    Database {
        /// The store's folder.
        place: PathBuf,
        /// What it said.
        why: String,
    },
}

impl StoreError {
    /// Whether the store refused the call and is as it was before; the caller may go on.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::ChunkOrder { .. }
            | Self::ChunkLength { .. }
            | Self::ChunkConflict { .. }
            | Self::ChunkMissing { .. }
            | Self::ReleaseExists { .. }
            | Self::ReleaseMissing { .. }
            | Self::TooLarge { .. }
            | Self::OtherJob { .. }
            | Self::Missing { .. }
            | Self::Before { .. }
            | Self::GoneOn { .. }
            | Self::Locked { .. } => true,
            Self::DiskFull { .. }
            | Self::Corrupt { .. }
            | Self::Format { .. }
            | Self::Event { .. }
            | Self::Io { .. }
            | Self::Database { .. } => false,
        }
    }

    /// From the operating system: a full disk is named, everything else as it is.
    pub(crate) fn io(
        place: &std::path::Path,
        path: &std::path::Path,
        doing: &'static str,
        source: io::Error,
    ) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { place: place.to_owned() }
            }
            _ => Self::Io { path: path.to_owned(), doing, source },
        }
    }

    /// From SQLite.
    pub(super) fn database(place: &std::path::Path, error: &rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        use rusqlite::ErrorCode as Code;
        let place = place.to_owned();
        // A column of another type or out of range: nothing that this software wrote.
        let column = matches!(
            error,
            E::InvalidColumnType(..)
                | E::IntegralValueOutOfRange(..)
                | E::FromSqlConversionFailure(..)
                | E::QueryReturnedNoRows
        );
        if column {
            return Self::Corrupt { what: format!("{}: {error}", place.display()) };
        }
        match error.sqlite_error_code() {
            Some(Code::DiskFull) => Self::DiskFull { place },
            Some(Code::DatabaseCorrupt | Code::NotADatabase) => {
                Self::Corrupt { what: format!("{}: {error}", place.display()) }
            }
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => Self::Locked { place },
            _ => Self::Database { place, why: error.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_full_disk_is_named_whoever_noticed_it() {
        let place = Path::new("/srv/job");
        // ENOSPC, EDQUOT.
        for errno in [28, 122] {
            let error =
                StoreError::io(place, &place.join("a"), "written", io::Error::from_raw_os_error(errno));
            assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
        }
        let full =
            rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None);
        let error = StoreError::database(place, &full);
        assert!(error.to_string().contains("/srv/job is full"), "{error}");
        assert!(!error.is_refusal());
    }
}
