//! What can be wrong with a trainer outside this process. Each costs this organization one attempt, and is shown to its own
//! operator only.

use std::time::Duration;

use consilium_crypto::digest::Digest;
use consilium_proto::TRAINER_VERSION;

use crate::files::FileError;

/// What is wrong, and with which trainer.
#[derive(Debug, thiserror::Error)]
#[error("the trainer at {at} {problem}")]
pub struct ExternalError {
    /// Its socket or address.
    pub at: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Nobody answers, or somebody else.
    #[error("cannot be reached: {0}; start it, or correct [external] in the config")]
    Unreachable(String),
    /// It speaks another version.
    #[error(
        "speaks version {0} of the trainer's contract, and this client version {TRAINER_VERSION}; install the trainer package of this release"
    )]
    Version(u32),
    /// It has read another plan.
    #[error("is set up for another plan; start it anew")]
    OtherPlan,
    /// Its name is none.
    #[error("calls itself {0:?}; a name has 1 to 100 printable characters")]
    Name(String),
    /// It is not the one that the config pins.
    #[error(
        "says that its code has digest {found}, and external.digest pins {pinned}; run the pinned code, or pin this one after reading it"
    )]
    OtherCode {
        /// What it says.
        found: Digest,
        /// What the config says.
        pinned: Digest,
    },
    /// It failed, and said so.
    #[error("failed: {0}; its own log says more")]
    Failed(String),
    /// The connection ended in the middle of a question or an answer.
    #[error("broke off: {0}; it was killed, perhaps, or ran out of memory")]
    BrokeOff(String),
    /// No whole answer in time.
    #[error("did not answer within {} s; give it a faster machine, or the plan a longer deadlines.input_s", .0.as_secs())]
    TooLate(Duration),
    /// The round went on without it.
    #[error("was not waited for any longer: the attempt is over")]
    CalledOff,
    /// An answer to another question.
    #[error("answered another question than it was asked; one of an earlier attempt, perhaps")]
    OtherQuestion,
    /// More than one answer, or values after the last one.
    #[error("answered twice, or more than it was asked for")]
    Twice,
    /// The stream ended before the answer did.
    #[error("ended its answer after {got} of {expected} bytes")]
    Short {
        /// Bytes that came.
        got: usize,
        /// Bytes of a whole answer.
        expected: usize,
    },
    /// Values before a head, or an answer without a result.
    #[error("sent an answer that is not well formed: {0}")]
    Malformed(&'static str),
    /// Another kind of answer.
    #[error("was asked for {0} and answered something else")]
    OtherKind(&'static str),
    /// The tensors are not the plan's.
    #[error("answered with other tensors than the plan's: {tensor} {problem}")]
    Tensors {
        /// The first one that differs.
        tensor: String,
        /// How.
        problem: String,
    },
    /// A tensor that rests in this round was moved.
    #[error(
        "moved {tensor}, which rests in this round (adapter.mode = \"alternate\"); it must leave zeros there, as the question says"
    )]
    Moved {
        /// The first one.
        tensor: String,
    },
    /// Not a number, or infinite.
    #[error("answered with {what} that is not a finite number")]
    NotFinite {
        /// Of which quantity.
        what: &'static str,
    },
    /// A score that no score can be.
    #[error("answered {what} = {value}; it must be {range}")]
    OutOfRange {
        /// Which.
        what: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
    /// Who it is could not be written down.
    #[error("cannot be noted for the manifest: {0}")]
    Record(#[from] FileError),
    /// The machine.
    #[error("cannot be spoken to: {0}")]
    Machine(std::io::Error),
}
