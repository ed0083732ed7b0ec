//! Files that must not be read by others, and files that must not be half written.
//!
//! - [`read_private`]: an identity file, refused while anybody but its owner can open it;
//! - [`write_atomic`] and [`create_private`]: after they return, the bytes survive a power cut; when they fail or the
//!   process dies, the old file is whole (temporary file, fsync, rename, fsync of the folder);
//! - [`FolderLock`]: one process at a time works on a state folder.
//!
//! Assumes a POSIX file system that keeps what `fsync` confirmed. Locks are advisory: they hold among processes of this
//! software. Not for network file systems that do not honour `flock`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use consilium_crypto::{
    digest::{Digest, Hasher},
    secret::Secret,
};
use thiserror::Error;

/// Largest private file that is read, bytes. An identity has about one thousand.
pub const MAX_PRIVATE_BYTES: u64 = 64 << 10;

/// Name of the file inside a state folder on which its lock is held.
const LOCK_NAME: &str = "lock";

/// How often, and how far apart, a lock is tried for.
const PROBES: u32 = 5;
const PROBE: Duration = Duration::from_millis(20);

/// What went wrong with a file; a local fault.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refused.
    #[error("{}: cannot {doing} it: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done, a verb.
        doing: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// A private file that others can read.
    #[error(
        "{}: its mode is {mode:04o}, so others on this machine can read the private keys in it; run: chmod 600 {}",
        path.display(), path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Larger than any honest file of its kind.
    #[error("{}: has more than {most} bytes; this is not the file it should be, check the path", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The cap, bytes.
        most: u64,
    },
    /// Not UTF-8.
    #[error("{}: is not UTF-8 text; check the path", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// It would have been overwritten.
    #[error("{}: exists already and is not overwritten; move it away or choose another name", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Another process works on the folder.
    #[error(
        "{}: another process{} works on this state folder; stop it first, or give this client a folder of its own",
        path.display(), holder.as_deref().map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Process id of the holder, where it is known.
        holder: Option<String>,
    },
}

impl FileError {
    /// What the operating system said while `path` was to be opened, read, written (a verb).
    pub fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), doing, source }
    }
}

fn failed<'a>(path: &'a Path, doing: &'static str) -> impl Fn(io::Error) -> FileError + 'a {
    move |source| FileError::io(doing, path, source)
}

/// Reads a file of at most `most` bytes.
///
/// # Errors
///
/// [`FileError::Io`], [`FileError::TooLarge`].
pub fn read_bytes(path: &Path, most: u64) -> Result<Vec<u8>, FileError> {
    let mut file = File::open(path).map_err(failed(path, "open"))?;
    read_open(path, &mut file, most)
}

/// SHA-256 of a file of any size, read in pieces; of nothing, if there is no such file: a model without a tokenizer has one
/// like that in its plan.
///
/// # Errors
///
/// [`FileError::Io`].
pub fn digest_or_nothing(path: &Path) -> Result<Digest, FileError> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Digest::of(&[])),
        opened => opened.map_err(failed(path, "open"))?,
    };
    let (mut hasher, mut piece) = (Hasher::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut piece).map_err(failed(path, "read"))? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(piece.get(..read).unwrap_or_default()),
        }
    }
}

/// Reads a text file of at most `most` bytes.
///
/// # Errors
///
/// As [`read_bytes`]; [`FileError::NotText`].
pub fn read_text(path: &Path, most: u64) -> Result<String, FileError> {
    String::from_utf8(read_bytes(path, most)?).map_err(|_| FileError::NotText { path: path.to_path_buf() })
}

/// Reads a file that holds secrets. The permissions checked are those of the file that was opened, not of whatever the
/// path names a moment later.
///
/// # Errors
///
/// [`FileError::Exposed`] when group or others have any right to it; otherwise as [`read_text`].
pub fn read_private(path: &Path) -> Result<Secret<String>, FileError> {
    let mut file = File::open(path).map_err(failed(path, "open"))?;
    let mode = file.metadata().map_err(failed(path, "inspect"))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::Exposed { path: path.to_path_buf(), mode });
    }
    let bytes = Secret::new(read_open(path, &mut file, MAX_PRIVATE_BYTES)?);
    let text = str::from_utf8(bytes.expose()).map_err(|_| FileError::NotText { path: path.to_path_buf() })?;
    Ok(Secret::new(text.to_owned()))
}

fn read_open(path: &Path, file: &mut File, most: u64) -> Result<Vec<u8>, FileError> {
    // Room for all of it from the start, so that a growing buffer leaves no copies of secrets behind.
    let length = file.metadata().map_err(failed(path, "inspect"))?.len().min(most);
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0).saturating_add(32));
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(failed(path, "read"))?;
    if bytes.len() as u64 > most {
        return Err(FileError::TooLarge { path: path.to_path_buf(), most });
    }
    Ok(bytes)
}

/// Replaces a file by `bytes`, durably: a reader, or a restart after a power cut, sees the old file or the new one, both
/// whole. Its mode becomes 0644 less the process's mask.
///
/// # Errors
///
/// [`FileError::Io`]; the old file is then as it was.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = write_temporary(path, bytes, 0o666)?;
    let renamed = fs::rename(&temporary, path).map_err(failed(path, "replace"));
    if renamed.is_err() {
        // It is only litter now; that it cannot be removed is not what the caller must hear about.
        let _ = fs::remove_file(&temporary);
    }
    renamed?;
    sync_folder(path)
}

/// Replaces a file by `bytes`, whole but not durably: a reader sees the old file or the new one; after a power cut it may be either, or
/// neither. For what is only looked at.
///
/// # Errors
///
/// [`FileError::Io`].
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", process::id()));
    fs::write(&temporary, bytes).map_err(failed(&temporary, "write"))?;
    fs::rename(&temporary, path).map_err(failed(path, "replace"))
}

/// Creates a file that only its owner can read, durably and with its mode set from the first byte on.
///
/// # Errors
///
/// [`FileError::Exists`] rather than overwriting anything; [`FileError::Io`].
pub fn create_private(path: &Path, secret: &Secret<String>) -> Result<(), FileError> {
    let temporary = write_temporary(path, secret.expose().as_bytes(), 0o600)?;
    // A link, unlike a rename, does not replace what is there.
    let linked = fs::hard_link(&temporary, path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => FileError::Exists { path: path.to_path_buf() },
        _ => FileError::Io { path: path.to_path_buf(), doing: "create", source },
    });
    let _ = fs::remove_file(&temporary);
    linked?;
    sync_folder(path)
}

fn write_temporary(path: &Path, bytes: &[u8], mode: u32) -> Result<PathBuf, FileError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", process::id()));
    // Left behind by a process of the same number that died.
    let _ = fs::remove_file(&temporary);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&temporary);
        FileError::Io { path: path.to_path_buf(), doing: "write", source }
    })?;
    Ok(temporary)
}

/// Makes the folder entry of `path` durable.
///
/// # Errors
///
/// [`FileError::Io`].
pub fn sync_folder(path: &Path) -> Result<(), FileError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder, "sync"))
}

/// A state folder that belongs to this process until the value is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    /// Closing it releases the lock.
    _file: File,
}

impl FolderLock {
    /// Creates the folder (mode 0700) if need be and locks it.
    ///
    /// # Errors
    ///
    /// [`FileError::Locked`] when another process, or another value in this one, holds it; [`FileError::Io`].
    pub fn acquire(folder: &Path) -> Result<Self, FileError> {
        if !folder.is_dir() {
            let create = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            create.map_err(failed(folder, "create"))?;
            sync_folder(folder)?;
        }
        let path = folder.join(LOCK_NAME);
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open.map_err(failed(&path, "open"))?;
        let mut tries = 0..PROBES;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                // Whoever only looks whether it is held holds it for a moment.
                Err(TryLockError::WouldBlock) if tries.next().is_some() => thread::sleep(PROBE),
                Err(TryLockError::WouldBlock) => {
                    return Err(FileError::Locked { path: folder.to_path_buf(), holder: holder(&mut file) });
                }
                Err(TryLockError::Error(source)) => return Err(failed(&path, "lock")(source)),
            }
        }
        // The number is for the message above only.
        let write = file.set_len(0).and_then(|()| write!(file, "{}", process::id()));
        write.map_err(failed(&path, "write"))?;
        Ok(Self { path: folder.to_path_buf(), _file: file })
    }

    /// Whether a process works on the folder just now.
    pub fn is_held(folder: &Path) -> bool {
        let file = File::open(folder.join(LOCK_NAME));
        file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// The locked folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn holder(file: &mut File) -> Option<String> {
    let mut pid = String::new();
    file.take(20).read_to_string(&mut pid).ok()?;
    pid.bytes().all(|byte| byte.is_ascii_digit()).then_some(pid).filter(|pid| !pid.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_private_file_is_read_only_while_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site-1.key");
        create_private(&path, &Secret::new("secret = 1\n".to_owned())).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_private(&path).unwrap().expose(), "secret = 1\n");
        for mode in [0o640, 0o604, 0o620, 0o610] {
            set_mode(&path, mode);
            let error = read_private(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("{mode:04o}")), "{error}");
            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
        set_mode(&path, 0o400);
        assert!(read_private(&path).is_ok());
    }

    #[test]
    fn a_private_file_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "old").unwrap();
        let error = create_private(&path, &Secret::new("new".to_owned())).unwrap_err();
        assert!(matches!(error, FileError::Exists { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no litter");
    }

    #[test]
    fn a_replaced_file_is_whole_and_a_failed_one_leaves_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.bin");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        let occupied = folder.path().join("folder");
        fs::create_dir_all(occupied.join("full")).unwrap();
        assert!(write_atomic(&occupied, b"x").is_err());
        let missing = folder.path().join("absent/state.bin");
        assert!(write_atomic(&missing, b"x").unwrap_err().to_string().contains("absent/state.bin"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no litter");
    }

    #[test]
    fn sizes_and_encodings_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_text(&path, 5).unwrap(), "12345");
        assert!(matches!(read_text(&path, 4), Err(FileError::TooLarge { most: 4, .. })));
        fs::write(&path, [0xff]).unwrap();
        assert!(matches!(read_text(&path, 4), Err(FileError::NotText { .. })));
    }

    #[test]
    fn a_folder_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/state");
        let lock = FolderLock::acquire(&state).unwrap();
        assert_eq!(lock.path(), state);
        assert!(FolderLock::is_held(&state));
        let error = FolderLock::acquire(&state).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", process::id())), "{error}");
        drop(lock);
        assert!(!FolderLock::is_held(&state) && !FolderLock::is_held(folder.path()));
        FolderLock::acquire(&state).unwrap();
    }
}
