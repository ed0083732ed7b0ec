//! Why a client refuses to go on.
//!
//! Every refusal has the number of the check it failed, as in the manual's table, and says who is to blame. A
//! refused delivery ends the client's part in the attempt.

use alloc::{string::String, vec::Vec};
use core::fmt;

use super::{Flaw, Position, Step};
use crate::codec::CodecError;

/// Why a client refuses what it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// A delivery that is not one.
    Malformed {
        /// The step whose results it should show.
        step: Step,
        /// What is wrong.
        error: CodecError,
    },
    /// A member's message, as the coordinator shows it, is not good.
    Shown {
        /// The step the message belongs to.
        step: Step,
        /// Whose message it is said to be.
        member: Position,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// The client's own message is missing or was altered.
    Own {
        /// The step the message belongs to.
        step: Step,
    },
    /// A member that was not in the step before.
    Outsider {
        /// The step whose set it appears in.
        step: Step,
        /// The member.
        member: Position,
    },
    /// Fewer members than the plan's minimum.
    TooFew {
        /// The step whose set is too small.
        step: Step,
        /// Members shown.
        got: usize,
        /// The minimum.
        least: u16,
    },
    /// A sealed share that is not under its dealer's root: not what the dealer signed.
    NotUnderRoot {
        /// The dealer.
        dealer: Position,
    },
    /// A sealed share that is what its dealer signed, but does not open, or opens to something other than
    /// what the dealer committed to.
    BadDeal {
        /// The dealer.
        dealer: Position,
        /// What is wrong with it.
        what: BadDeal,
        /// Proof for others, for [`blame::judge`](super::blame::judge).
        complaint: Vec<u8>,
    },
    /// A vote counted for somebody who is not a survivor.
    VoterNotSurvivor {
        /// The voter.
        voter: Position,
    },
    /// Fewer votes than the quorum.
    NoQuorum {
        /// Votes shown.
        votes: usize,
        /// The quorum.
        quorum: u16,
    },
    /// Votes on another survivor set than the one this client voted for.
    OtherVote,
    /// A step that is not next. Nothing was read; the client's state is as before.
    OutOfTurn {
        /// The step whose delivery the client waits for; none when its part has ended or it waits for an
        /// update.
        next: Option<Step>,
        /// The step delivered.
        got: Step,
    },
    /// The update to be masked does not have the plan's shape.
    Update(String),
}

/// What a dealer did wrong to one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadDeal {
    /// The box does not open under the key agreed with the dealer.
    DoesNotOpen,
    /// The shares are not canonical scalars.
    NotScalars,
    /// The shares are not the committed ones.
    NotCommitted,
}

/// Who is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blame {
    /// This client or whoever drives it, or nobody: a reconnecting coordinator repeats itself.
    Local,
    /// The coordinator, which shows only what it verified if it is honest.
    Coordinator,
    /// A member, provably.
    Member(Position),
}

impl Refusal {
    pub(super) fn malformed(step: Step) -> impl Fn(CodecError) -> Self {
        move |error| Self::Malformed { step, error }
    }

    pub(super) fn shown(step: Step, member: Position, flaw: Flaw) -> Self {
        match flaw {
            Flaw::Malformed(error) => Self::Malformed { step, error },
            flaw => Self::Shown { step, member, flaw },
        }
    }

    /// The number of the check in the manual's table.
    pub fn check(&self) -> &'static str {
        match self {
            Self::Malformed { step: Step::Advertise, .. } => "A1",
            Self::Shown { step: Step::Advertise, flaw: Flaw::Point { .. }, .. } => "A3",
            Self::Shown { step: Step::Advertise, flaw: Flaw::RepeatedKey { .. }, .. } => "A4",
            Self::Shown { step: Step::Advertise, flaw: Flaw::Revoked, .. } => "A7",
            Self::Shown { step: Step::Advertise, .. } => "A2",
            Self::Own { step: Step::Advertise } => "A5",
            Self::TooFew { step: Step::Advertise, .. } => "A6",

            Self::Malformed { step: Step::Share, .. } => "D1",
            Self::Outsider { step: Step::Advertise | Step::Share, .. } => "D2",
            Self::TooFew { step: Step::Share, .. } => "D3",
            Self::Shown { step: Step::Share, flaw: Flaw::OtherTranscript { .. }, .. } => "D4",
            Self::Shown { step: Step::Share, .. } => "D5",
            Self::Own { step: Step::Share } => "D6",
            Self::NotUnderRoot { .. } => "D7",
            Self::BadDeal { what: BadDeal::DoesNotOpen, .. } => "D8",
            Self::BadDeal { what: BadDeal::NotScalars | BadDeal::NotCommitted, .. } => "D9",

            Self::Malformed { step: Step::Input, .. } => "H1",
            Self::Own { step: Step::Input | Step::Vote | Step::Unmask } => "H2",
            Self::Outsider { step: Step::Input, .. } => "H3",
            Self::TooFew { step: Step::Input, .. } => "H4",
            Self::Shown { step: Step::Input, flaw: Flaw::OtherTranscript { .. }, .. } => "H6",
            Self::Shown { step: Step::Input, flaw: Flaw::Length { .. }, .. } => "H7",
            Self::Shown { step: Step::Input, .. } => "H5",

            Self::Malformed { step: Step::Vote | Step::Unmask, .. } => "V1",
            Self::Outsider { step: Step::Vote | Step::Unmask, .. } => "V2",
            Self::TooFew { step: Step::Vote | Step::Unmask, .. } => "V3",
            Self::VoterNotSurvivor { .. } => "V4",
            Self::NoQuorum { .. } => "V5",
            Self::Shown { step: Step::Vote | Step::Unmask, .. } => "V6",
            Self::OtherVote => "V7",

            Self::OutOfTurn { .. } => "T1",
            Self::Update(_) => "L1",
        }
    }

    /// Who is to blame. An honest coordinator verifies what it passes on, so whatever it shows that is not
    /// good is its own doing; only a box under the dealer's own signature convicts a member.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Malformed { .. }
            | Self::Shown { .. }
            | Self::Own { .. }
            | Self::Outsider { .. }
            | Self::TooFew { .. }
            | Self::NotUnderRoot { .. }
            | Self::VoterNotSurvivor { .. }
            | Self::NoQuorum { .. }
            | Self::OtherVote => Blame::Coordinator,
            Self::BadDeal { dealer, .. } => Blame::Member(*dealer),
            Self::OutOfTurn { .. } | Self::Update(_) => Blame::Local,
        }
    }

    /// Proof against a dealer, to be shown to the coordinator and the other members. It reveals the sealing
    /// secret of this client and that dealer, which is worth nothing once the attempt is over.
    pub fn complaint(&self) -> Option<&[u8]> {
        match self {
            Self::BadDeal { complaint, .. } => Some(complaint),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.check())?;
        match self {
            Self::Malformed { step, error } => write!(f, "results of step {step}: {error}"),
            Self::Shown { step, member, flaw } => {
                write!(f, "message of {member} in step {step}: {flaw}")
            }
            Self::Own { step } => write!(f, "own message in step {step} is missing or altered"),
            Self::Outsider { step, member } => {
                write!(f, "{member} appears in step {step} but was not in the step before")
            }
            Self::TooFew { step, got, least } => {
                write!(f, "{got} members in step {step}, the plan wants at least {least}")
            }
            Self::NotUnderRoot { dealer } => {
                write!(f, "the sealed share of {dealer} is not under the root it signed")
            }
            Self::BadDeal { dealer, what, .. } => write!(f, "the sealed share of {dealer} {what}"),
            Self::VoterNotSurvivor { voter } => {
                write!(f, "a vote of {voter}, who is not among the survivors")
            }
            Self::NoQuorum { votes, quorum } => {
                write!(f, "{votes} votes where {quorum} make a quorum")
            }
            Self::OtherVote => f.write_str("votes on another survivor set than the one voted for"),
            Self::OutOfTurn { next: Some(next), got } => {
                write!(f, "delivery for step {got} while waiting for step {next}")
            }
            Self::OutOfTurn { next: None, got } => {
                write!(f, "delivery for step {got}, which this client does not wait for")
            }
            Self::Update(what) => f.write_str(what),
        }
    }
}

impl core::error::Error for Refusal {}

impl fmt::Display for BadDeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DoesNotOpen => "does not open",
            Self::NotScalars => "holds shares that are not canonical scalars",
            Self::NotCommitted => "holds other shares than those committed to",
        })
    }
}
