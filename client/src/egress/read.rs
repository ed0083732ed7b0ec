//! Reading the journal of what left, and holding it against the ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use consilium_crypto::digest::Digest;
use consilium_proto::ids::Id;
use serde::Serialize;
use thiserror::Error;

use super::{EGRESS_FILE, Line, Step, owner};
use crate::{
    journal::{Journal, JournalError, Torn},
    ledger::LedgerState,
};

/// A line and its number in the file, counted from 1 for the first message.
#[derive(Clone, Debug, Serialize)]
pub struct Numbered {
    /// The number.
    pub number: u64,
    /// What it says.
    #[serde(flatten)]
    pub line: Line,
}

/// What the journal of an organization holds.
#[derive(Debug, Default)]
pub struct Left {
    /// Every message, oldest first.
    pub lines: Vec<Numbered>,
    /// The chain after the last; absent: there is no journal.
    pub head: Option<Digest>,
    /// A torn last line, which was never confirmed and therefore belongs to a message that did not leave.
    pub torn: Option<Torn>,
}

/// Reads the journal of an organization, whether or not a client is running.
///
/// # Errors
///
/// [`JournalError`]: a byte that does not fit, another organization's journal.
pub fn read(state: &Path, organization: &Id) -> Result<Left, JournalError> {
    let path = state.join(EGRESS_FILE);
    if !path.exists() {
        return Ok(Left::default());
    }
    let contents = Journal::<Line>::read(&path, &owner(organization))?;
    let lines = (1..).zip(contents.records).map(|(number, line)| Numbered { number, line });
    Ok(Left { lines: lines.collect(), head: Some(contents.chain), torn: contents.torn })
}

/// What a verification found.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// Messages.
    pub messages: u64,
    /// Their length together.
    pub bytes: u64,
    /// By step.
    pub steps: BTreeMap<Step, Summary>,
    /// Attempts of which a byte of a masked vector left.
    pub attempts: u64,
    /// Entries of the ledger of which none did: the process died between the two, or the attempt ended.
    pub unused_debits: u64,
}

/// How much of one kind left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Messages.
    pub messages: u64,
    /// Their length together.
    pub bytes: u64,
}

/// A line that does not go with the ledger, or with the lines before it.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{}, message {number}: {problem}", EGRESS_FILE)]
pub struct EgressProblem {
    /// The line, as [`Numbered::number`].
    pub number: u64,
    /// What does not fit.
    pub problem: String,
}

/// Checks that every masked byte was paid for by an entry of the ledger, of that very attempt, and came after its signed header.
/// Whether the lines are those that were written is checked by [`read`].
///
/// # Errors
///
/// The first line that does not fit.
pub fn verify(lines: &[Numbered], ledger: &LedgerState) -> Result<Verdict, EgressProblem> {
    let mut verdict =
        Verdict { messages: 0, bytes: 0, steps: BTreeMap::new(), attempts: 0, unused_debits: 0 };
    let (mut headers, mut used) = (BTreeSet::new(), BTreeSet::new());
    for Numbered { number, line } in lines {
        let problem = |problem: String| EgressProblem { number: *number, problem };
        let (round, attempt) = (line.round, line.attempt);
        let of = format!("job {} round {round} attempt {attempt}", line.job);
        if let Some(entry) = line.ledger {
            let index = usize::try_from(entry).ok().and_then(|entry| entry.checked_sub(1));
            let debit = index.and_then(|index| ledger.debits().get(index));
            let debit = debit.ok_or_else(|| {
                let have = ledger.length();
                problem(format!("{of} was paid for by entry {entry} of the ledger, which has {have}: it was cut short or restored"))
            })?;
            if (&debit.job, debit.round, debit.attempt) != (&line.job, round, attempt) {
                let paid = format!("job {} round {} attempt {}", debit.job, debit.round, debit.attempt);
                return Err(problem(format!("{of}: entry {entry} of the ledger paid for {paid}")));
            }
            if line.step.is_masked() {
                used.insert(entry);
            }
        } else if line.step.is_masked() {
            return Err(problem(format!("{of}: a masked byte without an entry in the ledger")));
        }
        let attempt = (line.job.clone(), round, attempt);
        if line.step == Step::Input {
            headers.insert(attempt);
        } else if line.step == Step::Chunk && !headers.contains(&attempt) {
            return Err(problem(format!("{of}: a chunk before the signed header of its vector")));
        }
        let summary = verdict.steps.entry(line.step).or_default();
        (summary.messages, summary.bytes) = (summary.messages + 1, summary.bytes + line.bytes);
        (verdict.messages, verdict.bytes) = (verdict.messages + 1, verdict.bytes + line.bytes);
    }
    verdict.attempts = used.len() as u64;
    verdict.unused_debits = ledger.length().saturating_sub(verdict.attempts);
    Ok(verdict)
}
