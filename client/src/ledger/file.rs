//! The ledger on disk: a journal of the data set.

use std::{collections::BTreeSet, fmt, path::Path};

use consilium_crypto::{digest::Digest, secret::Secret};
use consilium_proto::ids::Id;
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Debit, LedgerRefusal, LedgerState};
use crate::journal::{Journal, JournalError, Torn};

/// Name of the ledger's file in the state folder: one for all jobs.
pub const LEDGER_FILE: &str = "ledger.journal";

/// One line of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Entry {
    /// The first: whose ledger this is, and the salt of its heads (64 hexadecimal digits).
    Opened { data_set: Id, salt: Salt },
    /// One attempt.
    Debit(Debit),
    /// What stands before this was put together after a loss; see [`crate::recover`].
    Recovered {},
}

/// The salt as hexadecimal digits. Not printed: who knows it can tell from a salted head what was spent on other jobs.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Salt([u8; 32]);

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl TryFrom<String> for Salt {
    type Error = consilium_crypto::digest::NotADigest;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(|digest: Digest| Self(digest.0))
    }
}

impl From<Salt> for String {
    fn from(bytes: Salt) -> Self {
        Digest(bytes.0).to_string()
    }
}

/// Why a ledger's file was refused; a local fault.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The journal does not open or does not take an entry.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An entry does not belong where it stands.
    #[error(
        "{path}, line {line}: {problem}; restore the state folder from its newest backup, and never delete the ledger"
    )]
    Entry {
        /// The file.
        path: String,
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// The attempt must not be debited.
    #[error(transparent)]
    Refused(#[from] LedgerRefusal),
}

/// The ledger's file, open for appending. Whoever holds it also holds the [`LedgerState`] and appends what it entered.
#[derive(Debug)]
pub struct LedgerFile {
    journal: Journal<Entry>,
    /// A second guard against a second debit: what is written here cannot be taken back.
    written: BTreeSet<(String, u32, u32)>,
}

impl LedgerFile {
    /// Opens the ledger of `data_set`, or creates it with a salt from `rng` (the operating system's generator).
    ///
    /// # Errors
    ///
    /// [`LedgerError`]: another data set's ledger, a damaged line, an entry that contradicts itself or repeats an attempt.
    pub fn open(
        path: &Path,
        data_set: &Id,
        rng: &mut impl CryptoRng,
    ) -> Result<(Self, LedgerState), LedgerError> {
        let (mut journal, mut entries) = Journal::open(path, &owner(data_set))?;
        if entries.is_empty() {
            let salt = Secret::<[u8; 32]>::build(|bytes| rng.fill_bytes(bytes));
            let first = Entry::Opened { data_set: data_set.clone(), salt: Salt(*salt.expose()) };
            journal.append(std::slice::from_ref(&first))?;
            entries.push(first);
        }
        let state = assemble(path, data_set, entries)?;
        let written = state.debits().iter().map(Debit::key).collect();
        Ok((Self { journal, written }, state))
    }

    /// Reads and checks a ledger, changing nothing, whether or not a client is running. Also gives a torn last line, which
    /// counts for nothing: it was never confirmed, so nothing of its attempt has left.
    ///
    /// # Errors
    ///
    /// As [`LedgerFile::open`]; a file that is not there is an error here.
    pub fn read(path: &Path, data_set: &Id) -> Result<(LedgerState, Option<Torn>), LedgerError> {
        let contents = Journal::read(path, &owner(data_set))?;
        if contents.records.is_empty() {
            // The process died between creating the file and drawing its salt: nothing was spent, nobody was told a head.
            return Ok((LedgerState::new(data_set.clone(), [0; 32]), contents.torn));
        }
        Ok((assemble(path, data_set, contents.records)?, contents.torn))
    }

    /// Makes a debit durable. Nothing of the attempt may leave before this has returned.
    ///
    /// # Errors
    ///
    /// [`LedgerRefusal::Twice`] through [`LedgerError::Refused`]; [`LedgerError::Journal`], after which nothing may be sent.
    pub fn append(&mut self, debit: &Debit) -> Result<(), LedgerError> {
        let key = debit.key();
        if self.written.contains(&key) {
            return Err(LedgerRefusal::Twice { round: debit.round, attempt: debit.attempt }.into());
        }
        self.journal.append(&[Entry::Debit(debit.clone())])?;
        self.written.insert(key);
        Ok(())
    }

    /// Notes durably what [`LedgerState::recovered`] notes.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Journal`].
    pub fn recovered(&mut self) -> Result<(), LedgerError> {
        Ok(self.journal.append(&[Entry::Recovered {}])?)
    }

    /// The torn last line that opening has cut off, if there was one.
    pub fn torn(&self) -> Option<Torn> {
        self.journal.torn()
    }
}

fn owner(data_set: &Id) -> String {
    format!("the data set {data_set}")
}

fn assemble(path: &Path, data_set: &Id, entries: Vec<Entry>) -> Result<LedgerState, LedgerError> {
    let mut state: Option<LedgerState> = None;
    // The journal's first line names its owner, so the first entry stands in line 2.
    for (line, entry) in (2..).zip(entries) {
        let refused =
            |problem: String| LedgerError::Entry { path: path.display().to_string(), line, problem };
        match (&mut state, entry) {
            (None, Entry::Opened { data_set: named, salt }) if named == *data_set => {
                state = Some(LedgerState::new(named, salt.0));
            }
            (Some(state), Entry::Debit(debit)) => {
                state.debit(debit).map_err(|refusal| refused(refusal.to_string()))?;
            }
            (Some(state), Entry::Recovered {}) => state.recovered(),
            (None, _) => return Err(refused(format!("the first entry must open the ledger of {data_set}"))),
            (Some(_), Entry::Opened { .. }) => {
                return Err(refused("a ledger is opened once, and this opens it again".to_owned()));
            }
        }
    }
    state.ok_or_else(|| LedgerError::Entry {
        path: path.display().to_string(),
        line: 2,
        problem: "the entry that opens the ledger is missing".to_owned(),
    })
}
