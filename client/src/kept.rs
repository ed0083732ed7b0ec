//! What a client keeps of what the coordinator published: its releases and its newest announcement. With them a coordinator that has
//! lost its state, or the end of it, gets back what it signed itself.
//!
//! All of it is public. A release costs its sum's bytes of disk space; a folder that was emptied costs nothing but this help.

use std::path::{Path, PathBuf};

use consilium_proto::wire::{SignedAnnouncement, SignedReleaseHead};
use prost::Message as _;

use crate::files::{self, FileError};

const FOLDER: &str = "releases";
const NEWEST: &str = "newest.bin";
/// Longest files that are read, bytes.
const MAX_HEAD: u64 = 64 << 20;
const MAX_ANNOUNCEMENT: u64 = 1 << 20;

/// A kept release: the files of its head and of its sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Round.
    pub round: u32,
    /// File of the encoded [`SignedReleaseHead`].
    pub head: PathBuf,
    /// File of the packed sum.
    pub sum: PathBuf,
}

impl Kept {
    fn at(state: &Path, round: u32) -> Self {
        let file = |end: &str| state.join(FOLDER).join(format!("round-{round}.{end}"));
        Self { round, head: file("head"), sum: file("sum") }
    }

    /// The signed head.
    ///
    /// # Errors
    ///
    /// [`FileError`]; a damaged file is one that cannot be read.
    pub fn read_head(&self) -> Result<SignedReleaseHead, FileError> {
        let bytes = files::read_bytes(&self.head, MAX_HEAD)?;
        SignedReleaseHead::decode(bytes.as_slice()).map_err(|error| damaged(&self.head, error))
    }
}

fn damaged(path: &Path, error: prost::DecodeError) -> FileError {
    FileError::io("read", path, std::io::Error::new(std::io::ErrorKind::InvalidData, error))
}

/// Keeps a release: first its sum, then its head, so that a head has its sum.
///
/// # Errors
///
/// [`FileError`].
pub fn release(state: &Path, round: u32, head: &SignedReleaseHead, sum: &[u8]) -> Result<(), FileError> {
    let (kept, folder) = (Kept::at(state, round), state.join(FOLDER));
    std::fs::create_dir_all(&folder).map_err(|source| FileError::io("create", &folder, source))?;
    files::write_atomic(&kept.sum, sum)?;
    files::write_atomic(&kept.head, &head.encode_to_vec())
}

/// The kept releases from a round on, in order.
///
/// # Errors
///
/// [`FileError`] when the folder cannot be read; without one there are none.
pub fn releases_from(state: &Path, from_round: u32) -> Result<Vec<Kept>, FileError> {
    let folder = state.join(FOLDER);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let wrong = |source| FileError::io("read", &folder, source);
    let mut all = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(wrong)? {
        let name = entry.map_err(wrong)?.file_name();
        let round = name.to_str().and_then(|name| name.strip_prefix("round-")?.strip_suffix(".head"));
        let round = round.and_then(|round| round.parse().ok()).filter(|round| *round >= from_round);
        all.extend(round.map(|round| Kept::at(state, round)));
    }
    all.sort_by_key(|kept| kept.round);
    Ok(all)
}

/// Keeps the newest announcement.
///
/// # Errors
///
/// [`FileError`].
pub fn announcement(state: &Path, signed: &SignedAnnouncement) -> Result<(), FileError> {
    files::write_atomic(&state.join(NEWEST), &signed.encode_to_vec())
}

/// The newest announcement that was kept.
///
/// # Errors
///
/// [`FileError`] when there is a file that cannot be read.
pub fn newest(state: &Path) -> Result<Option<SignedAnnouncement>, FileError> {
    let path = state.join(NEWEST);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = files::read_bytes(&path, MAX_ANNOUNCEMENT)?;
    SignedAnnouncement::decode(bytes.as_slice()).map(Some).map_err(|error| damaged(&path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_in_order() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(releases_from(folder.path(), 1).unwrap(), []);
        assert_eq!(newest(folder.path()).unwrap(), None);
        let head = |round: u8| SignedReleaseHead { head: vec![round; 9], signature: vec![7; 64] };
        for round in [10, 9, 2] {
            release(folder.path(), round.into(), &head(round), &[round; 100]).unwrap();
        }
        std::fs::write(folder.path().join("releases/round-3.sum"), b"half").unwrap();
        let kept = releases_from(folder.path(), 3).unwrap();
        assert_eq!(kept.iter().map(|kept| kept.round).collect::<Vec<_>>(), [9, 10]);
        assert_eq!(kept[0].read_head().unwrap(), head(9));
        let signed = SignedAnnouncement { announcement: vec![1, 2], signature: vec![3; 64] };
        announcement(folder.path(), &signed).unwrap();
        assert_eq!(newest(folder.path()).unwrap(), Some(signed));
    }
}
