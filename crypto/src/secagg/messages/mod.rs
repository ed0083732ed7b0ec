//! The protocol's messages: their bytes, and the sets of them that clients and auditors verify.
//!
//! Every body opens with three bytes: version, step, and who speaks (a member or the coordinator). What a
//! member signs is a prefix of its body; what the coordinator passes on it passes on verbatim, signature and
//! all.

mod advert;
mod answer;
mod deal;
mod held;
mod input;
mod shown;
mod vote;

use core::fmt;

pub use advert::LedgerHead;
pub(super) use advert::{Advert, Adverts, KeysSeen, own_advert};
pub(super) use answer::{Answer, answer_body};
pub(super) use deal::{Deal, DealHeader, DealHeaders, DealtLeaf, DealtLeaves, Parcel, header_body};
pub use held::{advertised_ledger, delivered_adverts};
pub(super) use input::{InputHeader, InputHeaders, input_body};
pub(super) use shown::Shown;
pub(super) use vote::{Ballot, Votes, vote_body};

use super::{Attempt, Position, Step};
use crate::{
    codec::{CodecError, Reader, Writer},
    group::BadPoint,
    sign::{self, Signature, SigningKey},
};
use alloc::vec::Vec;

/// The version every body carries.
const VERSION: u8 = 1;

/// Who speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Speaker {
    Member = 0,
    Coordinator = 1,
}

/// The three bytes every body opens with.
pub(super) const HEAD_LEN: usize = 3;

pub(super) fn write_head(w: &mut Writer, step: Step, speaker: Speaker) {
    w.u8(VERSION).u8(step.number()).u8(speaker as u8);
}

pub(super) fn read_head(r: &mut Reader<'_>, step: Step, speaker: Speaker) -> Result<(), CodecError> {
    for (field, expected) in [("version", VERSION), ("step", step.number()), ("speaker", speaker as u8)] {
        if r.u8(field)? != expected {
            return Err(r.invalid(field));
        }
    }
    Ok(())
}

/// Reads a position within the cohort.
pub(super) fn read_position(r: &mut Reader<'_>, attempt: &Attempt) -> Result<Position, CodecError> {
    let position = Position(r.u16("position")?);
    if position.0 < attempt.params().n() { Ok(position) } else { Err(r.invalid("position")) }
}

/// Reads a position that comes after `last`: lists are sorted, so that nobody is named twice.
pub(super) fn read_next(
    r: &mut Reader<'_>,
    attempt: &Attempt,
    last: &mut Option<Position>,
) -> Result<Position, CodecError> {
    let position = read_position(r, attempt)?;
    if last.is_some_and(|last| position <= last) {
        return Err(r.invalid("position (sorted, once each)"));
    }
    *last = Some(position);
    Ok(position)
}

pub(super) fn write_positions<'a>(w: &mut Writer, positions: impl ExactSizeIterator<Item = &'a Position>) {
    w.count(positions.len());
    positions.for_each(|position| {
        w.u16(position.0);
    });
}

pub(super) fn read_positions(r: &mut Reader<'_>, attempt: &Attempt) -> Result<Vec<Position>, CodecError> {
    let count = r.count("positions", usize::from(attempt.params().n()), 2)?;
    let mut last = None;
    (0..count).map(|_| read_next(r, attempt, &mut last)).collect()
}

/// Signs what `w` holds so far and appends the signature.
pub(super) fn sign_and_append(
    w: &mut Writer,
    step: Step,
    attempt: &Attempt,
    sender: Position,
    key: &SigningKey,
) {
    let signature = sign::sign(key, label(step), attempt.ctx(), attempt.id(sender), w.as_slice());
    w.raw(&signature.0);
}

/// Verifies a member's signature on `signed`.
pub(super) fn check_signature(
    signed: &[u8],
    step: Step,
    attempt: &Attempt,
    sender: Position,
    signature: &Signature,
) -> Result<(), Flaw> {
    let member = attempt.member(sender).ok_or(Flaw::Signature)?;
    if attempt.is_silenced(sender) {
        return Err(Flaw::Revoked);
    }
    let (ctx, id) = (attempt.ctx(), member.id.as_str());
    sign::verify(&member.key, label(step), ctx, id, signed, signature).map_err(|_| Flaw::Signature)
}

const fn label(step: Step) -> &'static str {
    match step {
        Step::Advertise => "advert",
        Step::Share => "deal",
        Step::Input => "input",
        Step::Vote => "vote",
        Step::Unmask => "answer",
    }
}

/// Checks that a body names `sender` and carries its signature. For steps 2 and 3 the header is all that is
/// signed; the rest of the body is held against the header's root when it is read. Nothing else is checked.
pub(super) fn authenticate(attempt: &Attempt, step: Step, sender: Position, body: &[u8]) -> Result<(), Flaw> {
    let mut r = Reader::new(body);
    // Votes name nobody, so that all voters sign the same ballot; the signature tells.
    if step != Step::Vote {
        r.raw("head", HEAD_LEN)?;
        let named = Position(r.u16("position")?);
        if named != sender {
            return Err(Flaw::Sender { named });
        }
    }
    let covered = Reader::new(body).raw("header", signed_len(step, body))?;
    let Some((signed, signature)) = covered.split_last_chunk::<{ Signature::LEN }>() else {
        return Err(r.invalid("signature").into());
    };
    check_signature(signed, step, attempt, sender, &Signature(*signature))
}

/// Bytes at the front of a body that are signed, signature included: the header in steps 2 and 3, everything otherwise.
fn signed_len(step: Step, body: &[u8]) -> usize {
    match step {
        Step::Share => deal::HEADER_LEN,
        Step::Input => input::HEADER_LEN,
        Step::Advertise | Step::Vote | Step::Unmask => body.len(),
    }
}

/// The part of an authenticated body that its sender signed, with the signature.
pub(super) fn signed_part(step: Step, body: &[u8]) -> &[u8] {
    body.get(..signed_len(step, body)).unwrap_or(body)
}

/// What a signed part says, without the signature.
pub(super) fn message_of(step: Step, body: &[u8]) -> Option<&[u8]> {
    signed_part(step, body).split_last_chunk::<{ Signature::LEN }>().map(|(message, _)| message)
}

/// What can be wrong with one member's message, whoever looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// Bytes that are no such message.
    Malformed(CodecError),
    /// A message that names another sender.
    Sender {
        /// Whom it names.
        named: Position,
    },
    /// A signature that does not verify under the member's roster key and this attempt's context.
    Signature,
    /// A signature under a key that its organization has revoked.
    Revoked,
    /// A public key that is no usable point.
    Point {
        /// Which key.
        key: &'static str,
        /// What is wrong with it.
        bad: BadPoint,
    },
    /// A public key that stands in this or another member's advert already.
    RepeatedKey {
        /// Which key.
        key: &'static str,
        /// Whose advert had it first.
        with: Position,
    },
    /// A message bound to another transcript than the one it is shown in.
    OtherTranscript {
        /// Which hash differs.
        hash: &'static str,
    },
    /// A masked vector of another length than the plan's.
    Length {
        /// Bytes expected.
        expected: u64,
        /// Bytes named.
        got: u64,
    },
    /// A list that does not add up to the root its header signs.
    Root,
}

impl From<CodecError> for Flaw {
    fn from(error: CodecError) -> Self {
        Self::Malformed(error)
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::Sender { named } => write!(f, "names {named} as its sender"),
            Self::Signature => f.write_str("signature does not verify under the roster key and this context"),
            Self::Revoked => f.write_str("is signed with a key that its organization has revoked"),
            Self::Point { key, bad } => write!(f, "{key} key is {bad}"),
            Self::RepeatedKey { key, with } => {
                write!(f, "{key} key stands in the advert of {with} already")
            }
            Self::OtherTranscript { hash } => write!(f, "carries another {hash}"),
            Self::Length { expected, got } => {
                write!(f, "names a masked vector of {got} bytes, the plan makes it {expected}")
            }
            Self::Root => f.write_str("list does not add up to the root in its header"),
        }
    }
}

impl core::error::Error for Flaw {}
