//! What left the building: one line for every message, written before it leaves.
//!
//! The journal is a [`crate::journal`] of the organization, hash-chained like its ledger: time, destination, job, round, attempt, step,
//! size, SHA-256 of the message, and the ledger's entry that paid for it. It is kept where no message can pass it by: [`Recording`]
//! stands between the generated gRPC client and the connection, reads every message out of the bytes that are about to be framed, and hands
//! them on only when their lines are on the disk. A message that cannot be named is not sent, and neither is a byte of a masked
//! vector whose attempt has no entry in the ledger.
//!
//! What has no line, because it is no message: the TLS handshake with this organization's certificate, gRPC's own headers (method,
//! content type, user agent), and the connection's pings and window updates.
//!
//! The digest is over the message as protobuf: the bytes that both ends have in hand, before TLS and after it.

mod body;
mod read;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use consilium_crypto::{digest::Digest, secagg};
use consilium_proto::{
    ids::Id,
    plan::VerifiedPlan,
    wire::{
        ChallengeRequest, ClientMessage, ReleasePart, ReleasesRequest, UploadPart,
        client_message::Kind as Say,
    },
};
use jiff::Timestamp;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    journal::{Journal, JournalError},
    ledger::LedgerState,
};
pub use body::Recording;
pub use read::{EgressProblem, Left, Numbered, Summary, Verdict, read, verify};

/// Name of the journal's file in the state folder: one for all jobs.
pub const EGRESS_FILE: &str = "egress.journal";

/// What a message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// A question for the challenge of a connection that is opened on the way; empty.
    Challenge,
    /// Greeting of a connection: versions and fingerprints.
    Hello,
    /// Step 1: fresh public keys, and the salted head of the ledger.
    Advertise,
    /// Step 2: shares of secrets, sealed to each peer.
    Share,
    /// Step 3: the signed header of the masked vector.
    Input,
    /// Step 3: a chunk of the masked vector.
    Chunk,
    /// Step 4: the vote on who survived.
    Vote,
    /// Step 5: what takes the masks off the sum.
    Unmask,
    /// An attempt declined or left, by code.
    Refusal,
    /// The public test set's result.
    Evaluation,
    /// A question to peers: what they hold of this organization.
    StateQuery,
    /// Answers to peers that asked the same.
    StateStatements,
    /// A request for published sums.
    ReleasesRequest,
    /// A part of a published sum on its way back to a coordinator that has lost it.
    ReturnedRelease,
}

impl Step {
    /// The word in tables and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Challenge => "challenge",
            Self::Hello => "hello",
            Self::Advertise => "advertise",
            Self::Share => "share",
            Self::Input => "input",
            Self::Chunk => "chunk",
            Self::Vote => "vote",
            Self::Unmask => "unmask",
            Self::Refusal => "refusal",
            Self::Evaluation => "evaluation",
            Self::StateQuery => "state-query",
            Self::StateStatements => "state-statements",
            Self::ReleasesRequest => "releases-request",
            Self::ReturnedRelease => "returned-release",
        }
    }

    /// Whether it carries the masked vector, or commits to it: what the ledger must have paid for.
    pub fn is_masked(self) -> bool {
        matches!(self, Self::Input | Self::Chunk)
    }

    /// A step of the protocol.
    pub fn of(step: secagg::Step) -> Self {
        match step {
            secagg::Step::Advertise => Self::Advertise,
            secagg::Step::Share => Self::Share,
            secagg::Step::Input => Self::Input,
            secagg::Step::Vote => Self::Vote,
            secagg::Step::Unmask => Self::Unmask,
        }
    }

    fn of_protocol(number: u32) -> Option<Self> {
        u8::try_from(number).ok().and_then(secagg::Step::from_number).map(Self::of)
    }
}

/// One message that left, or was about to when the process died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// When the line was written, by this machine's clock.
    pub time: Timestamp,
    /// Whom the message was for: the coordinator's address.
    pub destination: String,
    /// The proxy that the connection went through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// The job.
    pub job: Id,
    /// Round; 0 for what belongs to none.
    pub round: u32,
    /// Attempt; likewise.
    pub attempt: u32,
    /// What it was.
    pub step: Step,
    /// Length of the message, bytes.
    pub bytes: u64,
    /// SHA-256 of the message, 64 hexadecimal digits.
    pub sha256: String,
    /// The ledger's entry that paid for the attempt, counted from 1; absent while nothing was spent.
    pub ledger: Option<u64>,
}

/// Why a message did not leave.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EgressError {
    /// The line could not be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A byte of a masked vector that nobody paid for.
    #[error(
        "round {round} attempt {attempt}: a masked vector was about to leave without an entry in the privacy ledger; it was held back. This \
         is a defect of this software, please report it"
    )]
    Unpaid {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
    },
    /// A message that this journal has no name for.
    #[error("{path}: {problem}; it was held back. This is a defect of this software, please report it")]
    Unknown {
        /// The gRPC method.
        path: String,
        /// What does not fit.
        problem: &'static str,
    },
}

/// The journal of what leaves, open for appending; shared by the client's loop and its link.
#[derive(Clone, Debug)]
pub struct Egress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    destination: String,
    proxy: Option<String>,
    job: Id,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    journal: Journal<Line>,
    /// Entries of the ledger by round and attempt of this plan.
    entries: BTreeMap<(u32, u32), u64>,
    /// Nothing leaves any more.
    stopped: bool,
    /// Why, until it is asked for.
    failed: Option<EgressError>,
    bytes: u64,
}

/// Where messages go.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The coordinator, `host:port`.
    pub coordinator: String,
    /// The proxy in between, `host:port`.
    pub proxy: Option<String>,
}

impl Egress {
    /// Opens the journal in the state folder, or creates it. `ledger` is what was spent before.
    ///
    /// # Errors
    ///
    /// [`JournalError`]: another organization's journal, a damaged line, a file that is open elsewhere.
    pub fn open(
        state: &Path,
        organization: &Id,
        destination: Destination,
        plan: &VerifiedPlan,
        ledger: &LedgerState,
    ) -> Result<Self, JournalError> {
        let (journal, lines) = Journal::<Line>::open(&state.join(EGRESS_FILE), &owner(organization))?;
        let digest = plan.digest().to_string();
        let of_plan = (1u64..).zip(ledger.debits()).filter(|(_, debit)| debit.plan == digest);
        let entries = of_plan.map(|(entry, debit)| ((debit.round, debit.attempt), entry)).collect();
        let bytes = lines.iter().map(|line| line.bytes).sum();
        Ok(Self(Arc::new(Shared {
            destination: destination.coordinator,
            proxy: destination.proxy,
            job: plan.document().job.clone(),
            inner: Mutex::new(Inner { journal, entries, stopped: false, failed: None, bytes }),
        })))
    }

    /// Says which entry of the ledger paid for an attempt, once it is durable.
    pub fn paid(&self, round: u32, attempt: u32, entry: u64) {
        self.inner().entries.insert((round, attempt), entry);
    }

    /// Why nothing leaves any more, if that is so; once.
    pub fn take_failure(&self) -> Option<EgressError> {
        self.inner().failed.take()
    }

    /// How many messages are in the journal, and how many bytes they have.
    pub fn totals(&self) -> (u64, u64) {
        let inner = self.inner();
        (inner.journal.head().0, inner.bytes)
    }

    /// Writes the lines of messages to a gRPC method; they may leave once this has returned `Ok`.
    fn note(&self, path: &str, messages: &[&[u8]]) -> Result<(), Held> {
        let mut inner = self.inner();
        if inner.stopped {
            return Err(Held);
        }
        inner.note(&self.0, path, messages).map_err(|error| {
            tracing::error!(event = "egress", %error, "nothing leaves any more");
            (inner.stopped, inner.failed) = (true, Some(error));
            Held
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A thread that panicked here has appended a line or has not; the journal knows which.
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message was not let out; why stands in [`Egress::take_failure`].
#[derive(Clone, Copy, Debug)]
struct Held;

impl Inner {
    fn note(&mut self, shared: &Shared, path: &str, messages: &[&[u8]]) -> Result<(), EgressError> {
        let mut lines = Vec::with_capacity(messages.len());
        for message in messages {
            let Said { step, round, attempt } = Said::parse(path, message)?;
            let ledger = self.entries.get(&(round, attempt)).copied();
            if step.is_masked() && ledger.is_none() {
                return Err(EgressError::Unpaid { round, attempt });
            }
            lines.push(Line {
                time: Timestamp::now(),
                destination: shared.destination.clone(),
                proxy: shared.proxy.clone(),
                job: shared.job.clone(),
                round,
                attempt,
                step,
                bytes: message.len() as u64,
                sha256: Digest::of(message).to_string(),
                ledger,
            });
        }
        self.journal.append(&lines)?;
        self.bytes += lines.iter().map(|line| line.bytes).sum::<u64>();
        Ok(())
    }
}

/// What a message says it is.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    step: Step,
    round: u32,
    attempt: u32,
}

impl Said {
    fn parse(path: &str, message: &[u8]) -> Result<Self, EgressError> {
        let unknown = |problem| EgressError::Unknown { path: path.to_owned(), problem };
        let unreadable = |_| unknown("the message does not parse");
        let said = |step, round, attempt| Self { step, round, attempt };
        match path.rsplit('/').next() {
            Some("Session") => {
                let kind = ClientMessage::decode(message).map_err(unreadable)?.kind;
                Ok(match kind.ok_or_else(|| unknown("the message is empty"))? {
                    Say::Hello(_) => said(Step::Hello, 0, 0),
                    Say::Protocol(said_now) => {
                        let step = Step::of_protocol(said_now.step);
                        let step = step.ok_or_else(|| unknown("the protocol has no such step"))?;
                        said(step, said_now.round, said_now.attempt)
                    }
                    Say::Refusal(refusal) => said(Step::Refusal, refusal.round, refusal.attempt),
                    Say::Evaluation(evaluation) => said(Step::Evaluation, evaluation.round, 0),
                    Say::StateQuery(_) => said(Step::StateQuery, 0, 0),
                    Say::StateStatements(_) => said(Step::StateStatements, 0, 0),
                })
            }
            Some("Upload") => {
                let part = UploadPart::decode(message).map_err(unreadable)?;
                Ok(said(Step::Chunk, part.round, part.attempt))
            }
            Some("Releases") => {
                ReleasesRequest::decode(message).map_err(unreadable)?;
                Ok(said(Step::ReleasesRequest, 0, 0))
            }
            Some("Challenge") => {
                ChallengeRequest::decode(message).map_err(unreadable)?;
                Ok(said(Step::Challenge, 0, 0))
            }
            Some("Restore") => {
                ReleasePart::decode(message).map_err(unreadable)?;
                Ok(said(Step::ReturnedRelease, 0, 0))
            }
            _ => Err(unknown("no message is sent to this method")),
        }
    }
}

fn owner(organization: &Id) -> String {
    format!("what left {organization}")
}
