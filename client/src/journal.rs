//! An append-only text file in which every byte is accounted for.
//!
//! One line a record: `<64 hexadecimal digits> <compact JSON>\n`. The digits are the chain,
//! `c_i = H("consilium/1/journal", c_{i−1}, JSON bytes)`. The first line names whom the journal belongs to, and `c_0`
//! is a digest over that name, so a journal of another job, organization or data set is refused by its name, and
//! a changed, missing, added or swapped byte is found by the line in which it stands.
//!
//! **Durability.** [`Journal::append`] returns after `fdatasync`; only then may anything that depends on the record leave
//! the process. A write that fails (disk full) is cut off again. After a *sync* that failed, nobody knows what the disk
//! holds, and a later sync may report success without it (Rebello et al., "Can Applications Recover from fsync
//! Failures?", USENIX ATC 2020): the journal then refuses everything until the process starts again.
//!
//! **Torn tails.** A process that dies, or a machine that loses power, inside an append leaves a beginning of what was
//! to be written: a last line without its newline, or with blocks of zeros that were never filled. [`Journal::open`] cuts
//! that line off and says so ([`Journal::torn`]). Everything else that does not fit is an error: a record that was
//! confirmed once is never dropped in silence.
//!
//! The chain finds accidents. Who can write the file can also write a new chain; against that, other members hold the
//! ledger's head. The file is not encrypted: nothing secret may become a record.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Read, Write},
    marker::PhantomData,
    path::{Path, PathBuf},
};

use consilium_crypto::digest::{Digest, Transcript};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::files::{self, FileError};

/// Longest line, bytes. The largest record, an answer in a cohort of 1000, has less than one million.
pub const MAX_LINE_BYTES: usize = 16 << 20;

const DIGITS: usize = 2 * Digest::LEN;

/// A journal that is open for appending, locked against every other process.
pub struct Journal<T> {
    path: PathBuf,
    media: Box<dyn Media>,
    chain: Digest,
    records: u64,
    /// Length of the file up to the last confirmed record.
    bytes: u64,
    torn: Option<Torn>,
    /// Why nothing more may be appended.
    refusing: Option<&'static str>,
    record: PhantomData<fn(&T)>,
}

/// A torn last line that was found, and cut off if the journal was opened for appending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The line, counted from 1; the first one names the owner.
    pub line: u64,
    /// Its length, bytes.
    pub bytes: u64,
}

/// What a journal holds, read without touching it.
#[derive(Debug)]
pub struct Contents<T> {
    /// The records, oldest first.
    pub records: Vec<T>,
    /// The chain after the last of them.
    pub chain: Digest,
    /// A torn last line, which is not among the records.
    pub torn: Option<Torn>,
    bytes: u64,
}

/// Why a journal was refused; a local fault.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Opening, reading or creating failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// It belongs to somebody else.
    #[error(
        "{}: this journal belongs to {found}, and {expected} was asked for; correct the state folder or the name in the \
         config, and do not edit the journal",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whom the file names.
        found: String,
        /// Who was asked for.
        expected: String,
    },
    /// A line does not fit.
    #[error(
        "{}, line {line}: {problem}; what this file recorded must not be forgotten: keep a copy, restore the state folder \
         from its newest backup, and never delete it or continue without it",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A whole line whose content this software does not understand.
    #[error("{}, line {line}: undamaged, but not understood ({problem}); use the version that wrote it, or a newer one", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What the parser said.
        problem: String,
    },
    /// Another process appends to it.
    #[error("{}: another process has this journal open; stop it first", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A record that cannot be written as one line of at most [`MAX_LINE_BYTES`]. Nothing was written.
    #[error("{}: a record cannot be written ({problem}); this is a defect of this software, please report it", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// Writing failed; nothing was appended.
    #[error(
        "{}: cannot append: {source}; nothing was recorded and nothing was sent{}",
        path.display(),
        if *restored { ": free some space on this disk, then it goes on" } else { ", and the half-written line could \
            not be cut off: free some space on this disk and start the client again" }
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
        /// Whether the file ends after its last confirmed record again.
        restored: bool,
    },
    /// Syncing failed; whether the records are on the disk is unknown.
    #[error(
        "{}: the disk did not confirm a record: {source}; nothing was sent, and nothing more is recorded until the client \
         is started again: check the disk first",
        path.display()
    )]
    Sync {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// An earlier failure has closed the journal.
    #[error("{}: nothing more is recorded since {since}; check the disk and start the client again", path.display())]
    Refusing {
        /// The file.
        path: PathBuf,
        /// What happened.
        since: &'static str,
    },
}

/// Where lines go. A file, or a test's idea of a disk.
trait Media: Send {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
    fn truncate(&mut self, bytes: u64) -> io::Result<()>;
}

impl Media for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)?;
        self.sync_all()
    }
}

impl<T: Serialize + DeserializeOwned> Journal<T> {
    /// Opens the journal of `belongs_to` (a phrase for people, the same at every start: "job x of y"), or creates it. Gives
    /// every record, oldest first. A torn last line is cut off; see [`Journal::torn`].
    ///
    /// # Errors
    ///
    /// [`JournalError`]: the journal of another, a line that does not fit, a file that is open elsewhere.
    pub fn open(path: &Path, belongs_to: &str) -> Result<(Self, Vec<T>), JournalError> {
        let (mut file, new) = open_or_create(path, belongs_to)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse { path: path.to_path_buf() }),
            Err(TryLockError::Error(source)) => return Err(io_failed(path, "lock")(source)),
        }
        let contents: Contents<T> = read_lines(&file, path, belongs_to)?;
        if contents.torn.is_some() {
            Media::truncate(&mut file, contents.bytes)
                .map_err(io_failed(path, "cut the torn last line off"))?;
        } else if !new {
            // What an earlier process wrote and did not live to see confirmed is confirmed before anybody relies on it.
            Media::sync(&mut file).map_err(io_failed(path, "sync"))?;
        }
        let journal = Self {
            path: path.to_path_buf(),
            media: Box::new(file),
            chain: contents.chain,
            records: contents.records.len() as u64,
            bytes: contents.bytes,
            torn: contents.torn,
            refusing: None,
            record: PhantomData,
        };
        Ok((journal, contents.records))
    }

    /// Reads and checks a journal, changing nothing, whether or not a client has it open.
    ///
    /// # Errors
    ///
    /// As [`Journal::open`]; a file that is not there is an error here.
    pub fn read(path: &Path, belongs_to: &str) -> Result<Contents<T>, JournalError> {
        let file = File::open(path).map_err(io_failed(path, "open"))?;
        read_lines(&file, path, belongs_to)
    }

    /// Appends all records, in order, and waits until the disk has confirmed them: one sync for all. After a crash inside,
    /// the first few of them may be there, the rest not.
    ///
    /// # Errors
    ///
    /// [`JournalError::Write`] leaves the journal as it was; [`JournalError::Sync`] closes it for good;
    /// [`JournalError::Refusing`] after that.
    pub fn append(&mut self, records: &[T]) -> Result<(), JournalError> {
        if let Some(since) = self.refusing {
            return Err(JournalError::Refusing { path: self.path.clone(), since });
        }
        let (mut lines, mut chain) = (Vec::new(), self.chain);
        for record in records {
            let refused = |problem| JournalError::Record { path: self.path.clone(), problem };
            let json = serde_json::to_vec(record).map_err(|error| refused(error.to_string()))?;
            if json.len() > MAX_LINE_BYTES - DIGITS - 2 {
                return Err(refused(format!("it has {} bytes", json.len())));
            }
            chain = push_line(&mut lines, &chain, &json);
        }
        if let Err(source) = self.media.write(&lines) {
            let restored = self.media.truncate(self.bytes).is_ok();
            if !restored {
                self.refusing = Some("a half-written line could not be cut off");
            }
            return Err(JournalError::Write { path: self.path.clone(), source, restored });
        }
        if let Err(source) = self.media.sync() {
            self.refusing = Some("the disk did not confirm a record");
            return Err(JournalError::Sync { path: self.path.clone(), source });
        }
        self.chain = chain;
        self.bytes += lines.len() as u64;
        self.records += records.len() as u64;
        Ok(())
    }
}

impl<T> Journal<T> {
    /// How many records there are, and the chain after the last of them.
    pub fn head(&self) -> (u64, Digest) {
        (self.records, self.chain)
    }

    /// The torn last line that [`Journal::open`] cut off, if there was one.
    pub fn torn(&self) -> Option<Torn> {
        self.torn
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
impl<T> Journal<T> {
    /// From now on the disk is full.
    pub(crate) fn break_disk(&mut self) {
        struct Full;
        impl Media for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<()> {
                Err(io::ErrorKind::StorageFull.into())
            }

            fn sync(&mut self) -> io::Result<()> {
                Ok(())
            }

            fn truncate(&mut self, _: u64) -> io::Result<()> {
                Ok(())
            }
        }
        self.media = Box::new(Full);
    }
}

impl<T> std::fmt::Debug for Journal<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Journal({}, {} records)", self.path.display(), self.records)
    }
}

/// The first line's content.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Owner {
    /// Version of this format: 1.
    journal: u32,
    belongs_to: String,
}

fn first_chain(belongs_to: &str) -> Digest {
    Transcript::new("consilium/1/journal-of").bytes(belongs_to.as_bytes()).finish()
}

fn next_chain(previous: &Digest, json: &[u8]) -> Digest {
    Transcript::new("consilium/1/journal").digest(previous).bytes(json).finish()
}

/// Appends a line; gives the chain after it.
fn push_line(lines: &mut Vec<u8>, previous: &Digest, json: &[u8]) -> Digest {
    let chain = next_chain(previous, json);
    lines.extend_from_slice(chain.to_string().as_bytes());
    lines.push(b' ');
    lines.extend_from_slice(json);
    lines.push(b'\n');
    chain
}

fn io_failed<'a>(path: &'a Path, doing: &'static str) -> impl Fn(io::Error) -> JournalError + 'a {
    move |source| FileError::io(doing, path, source).into()
}

fn open_or_create(path: &Path, belongs_to: &str) -> Result<(File, bool), JournalError> {
    let open = || OpenOptions::new().read(true).append(true).open(path);
    let new = match open() {
        Ok(file) => return Ok((file, false)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(io_failed(path, "open")(error)),
    };
    let owner = Owner { journal: 1, belongs_to: belongs_to.to_owned() };
    let json = serde_json::to_vec(&owner).unwrap_or_default();
    let mut line = Vec::new();
    push_line(&mut line, &first_chain(belongs_to), &json);
    // All of it or nothing, so that a first line is never torn.
    files::write_atomic(path, &line)?;
    Ok((open().map_err(io_failed(path, "open"))?, new))
}

fn read_lines<T: DeserializeOwned>(
    file: &File,
    path: &Path,
    belongs_to: &str,
) -> Result<Contents<T>, JournalError> {
    let mut reader = BufReader::new(file);
    let mut contents = Contents { records: Vec::new(), chain: first_chain(belongs_to), torn: None, bytes: 0 };
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let most = MAX_LINE_BYTES as u64 + 1;
        reader.by_ref().take(most).read_until(b'\n', &mut line).map_err(io_failed(path, "read"))?;
        let damaged = |problem| JournalError::Damaged { path: path.to_path_buf(), line: number, problem };
        if line.is_empty() {
            if number == 1 {
                return Err(damaged("the file is empty, and not even its first line is there"));
            }
            break;
        }
        let last = reader.fill_buf().map_err(io_failed(path, "read"))?.is_empty();
        let (chain, json) = match whole(&line, &contents.chain) {
            Ok(whole) => whole,
            Err(problem) if number == 1 => {
                return Err(foreign(&line, path, belongs_to).unwrap_or_else(|| damaged(problem)));
            }
            Err(_) if last && is_torn(&line, &contents.chain) => {
                contents.torn = Some(Torn { line: number, bytes: line.len() as u64 });
                break;
            }
            Err(problem) => return Err(damaged(problem)),
        };
        let unreadable = |error: serde_json::Error| JournalError::Unreadable {
            path: path.to_path_buf(),
            line: number,
            problem: error.to_string(),
        };
        if number > 1 {
            contents.records.push(serde_json::from_slice(json).map_err(unreadable)?);
        } else {
            // The name was part of the chain already; this is about the format's version.
            let owner: Owner = serde_json::from_slice(json).map_err(unreadable)?;
            if owner.journal != 1 {
                let problem = format!("it is of format {}", owner.journal);
                return Err(JournalError::Unreadable { path: path.to_path_buf(), line: number, problem });
            }
        }
        contents.chain = chain;
        contents.bytes += line.len() as u64;
    }
    Ok(contents)
}

/// Splits a line that fits after `previous` into its chain and its JSON.
fn whole<'a>(line: &'a [u8], previous: &Digest) -> Result<(Digest, &'a [u8]), &'static str> {
    let inner = line.strip_suffix(b"\n").ok_or("it has no end")?;
    let (digits, rest) = inner.split_at_checked(DIGITS).ok_or("it is shorter than any record")?;
    let json = rest.strip_prefix(b" ").ok_or("it is not a digest, a space and a record")?;
    let told: Digest = str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or("it does not begin with a digest")?;
    let chain = next_chain(previous, json);
    if chain != told {
        return Err(
            "its digest does not follow from the line before and its own text: one of the two was changed",
        );
    }
    Ok((chain, json))
}

/// Whether a last line that does not fit can be what a crash leaves: its newline, or whole blocks of it, never arrived.
/// A record that *was* whole and has something else in its newline's place was changed later, and is not torn.
fn is_torn(line: &[u8], previous: &Digest) -> bool {
    let unfinished = line.last() != Some(&b'\n') || line.contains(&0);
    let record = line.get(DIGITS + 1..).unwrap_or_default();
    let mut values = serde_json::Deserializer::from_slice(record).into_iter::<serde::de::IgnoredAny>();
    let changed = matches!(values.next(), Some(Ok(_))) && {
        let end = DIGITS + 1 + values.byte_offset();
        let mut mended = line.get(..end).unwrap_or_default().to_vec();
        mended.push(b'\n');
        line.len() > end && whole(&mended, previous).is_ok()
    };
    unfinished && !changed
}

/// The error for a first line that is whole, and another's.
fn foreign(line: &[u8], path: &Path, expected: &str) -> Option<JournalError> {
    let json = line.get(DIGITS + 1..)?;
    let Owner { belongs_to: found, .. } = serde_json::from_slice(json).ok()?;
    whole(line, &first_chain(&found)).ok()?;
    Some(JournalError::Foreign { path: path.to_path_buf(), found, expected: expected.to_owned() })
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
