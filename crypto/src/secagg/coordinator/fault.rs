//! What a member can do wrong, and how an attempt fails.

use alloc::vec::Vec;
use core::fmt;

use crate::secagg::{Flaw, Position, Step};

/// Why a member's body is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A body for a step that is over or not open yet. Slow, not dishonest.
    OutOfTurn {
        /// The open step.
        now: Step,
        /// The body's step.
        got: Step,
    },
    /// A member this step is not open to. Late in a step before, not dishonest.
    NotExpected {
        /// The step.
        step: Step,
    },
    /// A body that is not good.
    Flawed(Flaw),
    /// A second, different word in one step, properly signed.
    Equivocation {
        /// The step.
        step: Step,
    },
    /// A vote on something other than the survivors' headers shown.
    OtherBallot,
    /// An answer with a share that is not the one its dealer committed to.
    BadShare {
        /// The dealer.
        dealer: Position,
    },
    /// A complaint of a box that is good.
    FalseComplaint,
    /// A box that does not hold the committed shares; a recipient's complaint proves it.
    BadDeal,
}

impl From<Flaw> for Fault {
    fn from(flaw: Flaw) -> Self {
        Self::Flawed(flaw)
    }
}

impl From<crate::codec::CodecError> for Fault {
    fn from(error: crate::codec::CodecError) -> Self {
        Self::Flawed(Flaw::Malformed(error))
    }
}

impl Fault {
    /// Whether the sender broke the protocol, as opposed to being late.
    pub fn is_misbehaviour(&self) -> bool {
        match self {
            Self::OutOfTurn { .. } | Self::NotExpected { .. } => false,
            Self::Flawed(_)
            | Self::Equivocation { .. }
            | Self::OtherBallot
            | Self::BadShare { .. }
            | Self::FalseComplaint
            | Self::BadDeal => true,
        }
    }

    /// The number of the check in the manual's table.
    pub fn check(&self) -> &'static str {
        match self {
            Self::OutOfTurn { .. } => "C1",
            Self::NotExpected { .. } => "C2",
            Self::Equivocation { .. } => "C3",
            Self::Flawed(flaw) => match flaw {
                Flaw::Malformed(_) => "C4",
                Flaw::Sender { .. } => "C5",
                Flaw::Signature => "C6",
                Flaw::Point { .. } => "C7",
                Flaw::RepeatedKey { .. } => "C8",
                Flaw::OtherTranscript { .. } => "C9",
                Flaw::Root => "C10",
                Flaw::Length { .. } => "C11",
                Flaw::Revoked => "C17",
            },
            Self::OtherBallot => "C12",
            Self::BadShare { .. } => "C13",
            Self::FalseComplaint => "C14",
            Self::BadDeal => "C15",
        }
    }

    pub(super) fn same_kind(&self, other: &Self) -> bool {
        self.check() == other.check()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.check())?;
        match self {
            Self::OutOfTurn { now, got } => write!(f, "body for step {got} while step {now} is open"),
            Self::NotExpected { step } => write!(f, "step {step} is not open to this member"),
            Self::Flawed(flaw) => flaw.fmt(f),
            Self::Equivocation { step } => write!(f, "a second, different body in step {step}"),
            Self::OtherBallot => f.write_str("vote on something other than what was shown"),
            Self::BadShare { dealer } => {
                write!(f, "share of {dealer} is not the one it committed to")
            }
            Self::FalseComplaint => f.write_str("a complaint of a good box"),
            Self::BadDeal => f.write_str("a box that does not hold the committed shares"),
        }
    }
}

impl core::error::Error for Fault {}

/// An attempt that cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub why: Why,
    /// Members that provably misbehaved, sorted. May be empty: silence is no proof.
    pub culprits: Vec<Position>,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// Too few members in a step.
    TooFew {
        /// The step.
        step: Step,
        /// Members that spoke.
        got: usize,
        /// Members needed.
        needed: usize,
    },
    /// Committed shares that do not give the secret of their dealer's public point; the culprits are the
    /// dealers.
    InconsistentShares,
    /// The attempt had ended before.
    AlreadyEnded,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::TooFew { step, got, needed } => {
                write!(f, "step {step}: {got} members spoke, {needed} are needed")?;
            }
            Why::InconsistentShares => f.write_str("dealt shares do not give their secrets back")?,
            Why::AlreadyEnded => f.write_str("the attempt had ended before")?,
        }
        match self.culprits.as_slice() {
            [] => Ok(()),
            culprits => write!(f, "; misbehaved: {culprits:?}"),
        }
    }
}

impl core::error::Error for Failure {}
