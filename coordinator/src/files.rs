//! Files that must be private, whole, or both.
//!
//! A private file is refused when others may read it. A document is replaced by writing beside it, syncing, and
//! renaming, so that a reader meets the old text or the new, and a power cut loses neither. Assumes a local POSIX file
//! system; on one that does not keep permissions, the check of a private file has nothing to check.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use consilium_crypto::secret::Secret;
use thiserror::Error;

/// Most bytes of a private key file: an identity has about 1 KiB.
const MAX_PRIVATE_BYTES: u64 = 64 << 10;

/// What is wrong with a file.
#[derive(Debug, Error)]
pub enum FileError {
    /// It is not there.
    #[error("{}: there is no such file; check the path (relative ones start in {})", .path.display(), here())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// It is there already, and is never overwritten.
    #[error("{}: exists already and is not overwritten; choose another place, or move it away first", .path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// Others can read a private file.
    #[error(
        "{}: its mode {mode:04o} lets others at a private key; run `chmod 600 {}`, and make new keys if anybody else \
         uses this machine",
        .path.display(), .path.display()
    )]
    NotPrivate {
        /// The path.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is longer than any honest file of its kind.
    #[error("{}: has {bytes} bytes, and at most {most} are read; this is not the file it is taken for", .path.display())]
    TooLarge {
        /// The path.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The cap.
        most: u64,
    },
    /// It is not text.
    #[error("{}: is not UTF-8 text", .path.display())]
    NotText {
        /// The path.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{}: cannot be {doing}: {source}{}", .path.display(), cure(.source))]
    Io {
        /// The path.
        path: PathBuf,
        /// "read" or "written".
        doing: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

fn here() -> String {
    std::env::current_dir().map_or_else(|_| "the current folder".to_owned(), |dir| dir.display().to_string())
}

fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space and run it again",
        io::ErrorKind::PermissionDenied => "; run it as the user who owns it",
        io::ErrorKind::ReadOnlyFilesystem => "; choose a place that can be written",
        _ => "",
    }
}

fn failed(path: &Path, doing: &'static str, source: io::Error) -> FileError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound if doing == "read" => FileError::Missing { path },
        io::ErrorKind::AlreadyExists => FileError::Exists { path },
        _ => FileError::Io { path, doing, source },
    }
}

/// Reads a text file of at most `most` bytes.
///
/// # Errors
///
/// [`FileError`].
pub fn read_text(path: &Path, most: u64) -> Result<String, FileError> {
    let mut file = open(path)?;
    text_of(&mut file, path, most)
}

/// Reads a private text file, such as an identity.
///
/// # Errors
///
/// [`FileError::NotPrivate`] when its group or others have any permission on it; otherwise [`FileError`].
pub fn read_private(path: &Path) -> Result<Secret<String>, FileError> {
    let mut file = open(path)?;
    // Asked of the open file, not of the path: nothing can be exchanged in between.
    private_mode(&file, path)?;
    text_of(&mut file, path, MAX_PRIVATE_BYTES).map(Secret::new)
}

#[cfg(unix)]
fn private_mode(file: &File, path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata().map_err(|e| failed(path, "read", e))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::NotPrivate { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn private_mode(_file: &File, _path: &Path) -> Result<(), FileError> {
    Ok(())
}

fn open(path: &Path) -> Result<File, FileError> {
    let file = File::open(path).map_err(|e| failed(path, "read", e))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        let source = io::Error::new(io::ErrorKind::IsADirectory, "it is a folder");
        return Err(FileError::Io { path: path.to_owned(), doing: "read", source });
    }
    Ok(file)
}

fn text_of(file: &mut File, path: &Path, most: u64) -> Result<String, FileError> {
    let bytes = file.metadata().map_err(|e| failed(path, "read", e))?.len();
    if bytes > most {
        return Err(FileError::TooLarge { path: path.to_owned(), bytes, most });
    }
    // The whole capacity at once: a private text must not leave copies behind in outgrown buffers.
    let mut text = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0).saturating_add(1));
    file.take(most).read_to_end(&mut text).map_err(|e| failed(path, "read", e))?;
    String::from_utf8(text).map_err(|_| FileError::NotText { path: path.to_owned() })
}

/// Writes a new file that only its owner can read, durably. Never overwrites.
///
/// # Errors
///
/// [`FileError::Exists`], or [`FileError::Io`]; then no file is left behind.
pub fn create_private(path: &Path, text: &str) -> Result<(), FileError> {
    create(path, text, 0o600)
}

/// Writes a new file, durably. Never overwrites.
///
/// # Errors
///
/// As [`create_private`].
pub fn create_public(path: &Path, text: &str) -> Result<(), FileError> {
    create(path, text, 0o644)
}

fn create(path: &Path, text: &str, mode: u32) -> Result<(), FileError> {
    let wrong = |e| failed(path, "written", e);
    let mut file = new_file(path, mode).map_err(wrong)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a key is no key; the next try would meet `Exists`.
        let _ = std::fs::remove_file(path);
        return Err(wrong(error));
    }
    sync_folder(folder_of(path)).map_err(wrong)
}

#[cfg(unix)]
fn new_file(path: &Path, mode: u32) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

#[cfg(not(unix))]
fn new_file(path: &Path, _mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Replaces a file, or creates it: written beside, synced, renamed, and the folder synced.
///
/// # Errors
///
/// [`FileError::Io`]; the old file is then as it was.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace(path, bytes).map_err(|e| failed(path, "written", e))
}

/// As [`write_atomic`], with the operating system's own error.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name: OsString = path.file_name().unwrap_or_default().to_owned();
    name.push(TEMPORARY);
    let beside = path.with_file_name(name);
    let written = File::create(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&beside);
        return Err(error);
    }
    sync_folder(folder_of(path))
}

/// What a file that is being written ends in; after a crash such files mean nothing.
pub(crate) const TEMPORARY: &str = ".new";

/// Makes a folder's entries durable: a new file is only as durable as its name.
///
/// # Errors
///
/// What the operating system says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// The folder that a path lies in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_private_file_that_others_can_read_is_refused_with_its_mode_and_the_cure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.toml");
        create_private(&path, "secret").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_private(&path).unwrap().expose(), "secret");
        for mode in [0o640, 0o604, 0o610, 0o602] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = read_private(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("{mode:04o}")), "{error}");
            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
    }

    #[test]
    fn a_key_is_never_overwritten_and_a_document_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        create_private(&path, "one").unwrap();
        assert!(matches!(create_private(&path, "two"), Err(FileError::Exists { .. })));
        assert!(matches!(create_public(&path, "two"), Err(FileError::Exists { .. })));
        assert_eq!(read_text(&path, 10).unwrap(), "one");
        write_atomic(&path, b"three").unwrap();
        assert_eq!(read_text(&path, 10).unwrap(), "three");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert!(matches!(read_text(&path, 10), Err(FileError::Missing { .. })));
        std::fs::write(&path, [0xff; 11]).unwrap();
        assert!(matches!(read_text(&path, 10), Err(FileError::TooLarge { bytes: 11, most: 10, .. })));
        assert!(matches!(read_text(&path, 20), Err(FileError::NotText { .. })));
        assert!(read_text(folder.path(), 20).unwrap_err().to_string().contains("folder"));
    }
}
