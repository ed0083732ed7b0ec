//! Which trainers this organization's contributions to a job came from: what the result's manifest says of them.
//!
//! One line of JSON each, written before the first answer of that trainer is used. What a trainer says of itself is believed
//! as far as its owner is.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};

/// The file in a job's folder.
pub const SEEN: &str = "trainers.jsonl";
/// Largest file that is read, bytes: a trainer whose code changes before every round for ever is not recorded for ever.
const MAX_SEEN_BYTES: u64 = 16 << 20;

/// A trainer by its own account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenTrainer {
    /// The first round that it was asked in; 0: to evaluate only, so far.
    pub from_round: u32,
    /// Its name.
    pub name: String,
    /// SHA-256 of its code, hexadecimal.
    pub digest: String,
}

/// The list of a job, which grows.
#[derive(Debug)]
pub(super) struct Seen {
    /// Absent: nothing is written, because nothing comes of it.
    path: Option<PathBuf>,
    list: Vec<SeenTrainer>,
}

impl Seen {
    pub(super) fn open(folder: Option<&Path>) -> Result<Self, FileError> {
        let list = folder.map_or(Ok(Vec::new()), read_seen)?;
        Ok(Self { path: folder.map(|folder| folder.join(SEEN)), list })
    }

    /// Notes a trainer, unless it was the last one noted.
    pub(super) fn note(&mut self, round: u32, name: &str, digest: String) -> Result<(), FileError> {
        let last = self.list.last();
        if last.is_some_and(|last| last.name == name && last.digest == digest && last.from_round > 0) {
            return Ok(());
        }
        let mut list = self.list.clone();
        list.push(SeenTrainer { from_round: round, name: name.to_owned(), digest });
        // Unwrap safety: strings and a number serialize.
        let text: String =
            list.iter().map(|seen| serde_json::to_string(seen).unwrap_or_default() + "\n").collect();
        if let Some(path) = &self.path {
            files::write_atomic(path, text.as_bytes())?;
        }
        self.list = list;
        Ok(())
    }
}

/// Reads the list of a job, oldest first; empty if no trainer outside the client took part.
///
/// # Errors
///
/// A file that cannot be read, or is damaged.
pub fn read_seen(folder: &Path) -> Result<Vec<SeenTrainer>, FileError> {
    let path = folder.join(SEEN);
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let text = files::read_text(&path, MAX_SEEN_BYTES)?;
    let damaged = |error: serde_json::Error| FileError::io("read", &path, error.into());
    text.lines().map(|line| serde_json::from_str(line).map_err(damaged)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_noted_once_and_survives() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_seen(folder.path()).unwrap(), []);
        let note = |round, name: &str, digest: &str| {
            // As after a restart.
            Seen::open(Some(folder.path())).unwrap().note(round, name, digest.to_owned()).unwrap();
        };
        note(1, "a", "01");
        note(2, "a", "01");
        note(3, "a", "02");
        note(4, "a", "01");
        let rounds: Vec<_> = read_seen(folder.path()).unwrap().iter().map(|seen| seen.from_round).collect();
        assert_eq!(rounds, [1, 3, 4]);
        std::fs::write(folder.path().join(SEEN), "{").unwrap();
        assert!(read_seen(folder.path()).is_err());
    }
}
