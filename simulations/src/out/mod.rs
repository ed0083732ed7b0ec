//! What a run leaves behind: a folder of files that anybody can read.
//!
//! | file | holds |
//! |---|---|
//! | `scenario.toml` | the scenario as run, every default written out |
//! | `partition.jsonl` | who had which records |
//! | `rounds.jsonl` | one line for each round, written when the round is over ([`rounds::Row`]) |
//! | `organizations.jsonl` | one line for each organization ([`organizations::Row`]) |
//! | `result.json` | the final line, and what it belongs to ([`result::Result`]); written last, so a run without it did not end |
//! | `data/` | each organization's records, for a task that has real ones |

mod lines;
pub mod organizations;
pub mod result;
pub mod rounds;

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

pub use lines::Lines;

/// A file that could not be written.
#[derive(Debug, Error)]
#[error("{path} could not be written: {source}; {kept}")]
pub struct OutError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
    /// What is there all the same.
    pub kept: String,
}

/// Writes a whole file, or leaves what was there.
///
/// # Errors
///
/// [`OutError`].
pub fn write_whole(path: &Path, bytes: &[u8], kept: &str) -> Result<(), OutError> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, path));
    written.map_err(|source| {
        // Half a file helps nobody, and takes what little room there is.
        drop(std::fs::remove_file(&part));
        OutError { path: path.to_path_buf(), source, kept: kept.into() }
    })
}

/// The folder of a run.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

/// What a run leaves, but for its records.
const FILES: [&str; 5] =
    ["scenario.toml", "partition.jsonl", "rounds.jsonl", "organizations.jsonl", "result.json"];

impl Folder {
    /// A folder in which no run is, or with `overwrite` one whose run will go once the new one [begins](Self::clear).
    ///
    /// # Errors
    ///
    /// [`OutError`].
    pub fn create(path: &Path, overwrite: bool) -> Result<Self, OutError> {
        let there = FILES.iter().map(|name| path.join(name)).find(|file| file.exists());
        if let Some(path) = there.filter(|_| !overwrite) {
            let source = io::Error::new(
                io::ErrorKind::AlreadyExists,
                "another run is in this folder; name another folder, or say --overwrite",
            );
            return Err(OutError { path, source, kept: "nothing was run".into() });
        }
        Ok(Self { path: path.to_path_buf() })
    }

    /// Takes away what an earlier run has left.
    ///
    /// # Errors
    ///
    /// [`OutError`].
    pub fn clear(&self) -> Result<(), OutError> {
        let gone = |path: PathBuf, removed: io::Result<()>| match removed {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(OutError { path, source, kept: "nothing was run".into() })
            }
            _ => Ok(()),
        };
        for name in FILES {
            let file = self.path.join(name);
            gone(file.clone(), std::fs::remove_file(&file))?;
        }
        gone(self.data(), std::fs::remove_dir_all(self.data()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a task with real records keeps each organization's.
    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Writes a whole file, or leaves none.
    ///
    /// # Errors
    ///
    /// [`OutError`].
    pub fn write(&self, name: &str, text: &str, kept: &str) -> Result<(), OutError> {
        write_whole(&self.path.join(name), text.as_bytes(), kept)
    }

    /// A file of lines.
    ///
    /// # Errors
    ///
    /// [`OutError`].
    pub fn lines(&self, name: &str) -> Result<Lines, OutError> {
        Lines::create(&self.path.join(name))
    }
}
