//! Evidence: what convicts a member in the eyes of anybody who has the roster, the plan and the announcement.
//!
//! Four offences can be proven, because each leaves something under the offender's own signature that no honest member
//! can ever have signed. Everything else that a [collector](super::coordinator) refuses it refuses without
//! proof: a body with a bad signature, say, may have been made up by whoever shows it, and a deal on other adverts may be the
//! honest answer to a coordinator that equivocates.
//!
//! ```text
//! evidence  = version u8 ‖ kind u8 ‖
//!   kind 1  bytes(adverts' delivery) ‖ bytes(complaint)
//!   kind 2  step u8 ‖ accused u16 ‖ bytes(signed word) ‖ bytes(another signed word of the same step)
//!   kind 3  bytes(adverts' delivery) ‖ bytes(deal headers' front of a delivery) ‖ bytes(input headers' delivery)
//!           ‖ accused u16 ‖ bytes(answer) ‖ dealer u16 ‖ leaf of the dealer's tree at the accused's place
//!   kind 4  bytes(adverts' delivery) ‖ dealer's header 133 ‖ secret u8 (0 masking key, 1 self-mask seed) ‖ count u32
//!           ‖ for each of r recipients by position: recipient u16 ‖ leaf ‖ share 32 ‖ salt 32
//! leaf      = SHA-256(sealed) 32 ‖ commitments 64 ‖ path 32 each
//! ```
//!
//! Evidence of kind 1 reveals what the complaint reveals, of kind 4 the shares that were released anyway, of the
//! others nothing.

use alloc::{sync::Arc, vec::Vec};
use core::fmt;

use super::{
    Attempt, Flaw, Position, Refusal, Step,
    blame::{Dismissed, judge_by},
    messages::{
        Adverts, Answer, DealHeader, DealHeaders, DealtLeaf, InputHeaders, authenticate, message_of,
        read_next, read_position,
    },
    opening::{Kind, Place, Revelation},
};
use crate::{
    codec::{CodecError, Reader, Writer},
    group::scalar_from_bytes,
    shamir::Weights,
};

const VERSION: u8 = 1;
const COMPLAINT: u8 = 1;
const TWO_WORDS: u8 = 2;
const BAD_SHARE: u8 = 3;
const NO_SECRET: u8 = 4;

/// Most bytes of evidence: what a cohort of 1000 needs, twice.
pub const MAX_EVIDENCE_BYTES: usize = 1 << 20;

/// What a member did, provably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offence {
    /// Signed two different words in one step.
    TwoWords,
    /// Answered with a share that is not the one its dealer committed to.
    BadShare,
    /// Complained of a good box.
    FalseComplaint,
    /// Sealed a box that does not open to the committed shares.
    BadDeal,
    /// Committed to shares that do not give the secret of its public point.
    InconsistentShares,
}

impl Offence {
    /// The number of the check in the manual's table.
    pub const fn check(self) -> &'static str {
        match self {
            Self::TwoWords => "C3",
            Self::BadShare => "C13",
            Self::FalseComplaint => "C14",
            Self::BadDeal => "C15",
            Self::InconsistentShares => "C16",
        }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TwoWords => "signed two different words in one step",
            Self::BadShare => "released a share that is not the committed one",
            Self::FalseComplaint => "complained of a good box",
            Self::BadDeal => "sealed a box that does not hold the committed shares",
            Self::InconsistentShares => "committed to shares that do not give its secret",
        })
    }
}

/// Who is convicted of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conviction {
    /// The member.
    pub culprit: Position,
    /// Its offence.
    pub offence: Offence,
}

/// One member's offence, as a collector found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Who did what.
    pub conviction: Conviction,
    /// What [`verify`] takes.
    pub evidence: Vec<u8>,
}

/// Verifies evidence about an attempt. Believes nothing but the attempt's public facts.
///
/// # Errors
///
/// When the evidence convicts nobody.
pub fn verify(attempt: &Attempt, evidence: &[u8]) -> Result<Conviction, NotEvidence> {
    let mut r = Reader::new(evidence);
    if evidence.len() > MAX_EVIDENCE_BYTES {
        return Err(r.invalid("length").into());
    }
    if r.u8("version")? != VERSION {
        return Err(r.invalid("version").into());
    }
    let conviction = match r.u8("kind")? {
        COMPLAINT => complaint(attempt, &mut r)?,
        TWO_WORDS => two_words(attempt, &mut r)?,
        BAD_SHARE => bad_share(attempt, &mut r)?,
        NO_SECRET => no_secret(attempt, &mut r)?,
        _ => return Err(r.invalid("kind").into()),
    };
    r.finish()?;
    Ok(conviction)
}

fn begun(kind: u8) -> Writer {
    let mut w = Writer::new();
    w.u8(VERSION).u8(kind);
    w
}

fn read_adverts(attempt: &Attempt, r: &mut Reader<'_>) -> Result<Arc<Adverts>, NotEvidence> {
    Ok(Adverts::verify(attempt, r.bytes("adverts", MAX_EVIDENCE_BYTES)?)?)
}

// Kind 1.

pub(super) fn of_complaint(adverts: &Adverts, complaint: &[u8]) -> Vec<u8> {
    begun(COMPLAINT).bytes(&adverts.delivery()).bytes(complaint).finish()
}

fn complaint(attempt: &Attempt, r: &mut Reader<'_>) -> Result<Conviction, NotEvidence> {
    let adverts = read_adverts(attempt, r)?;
    let judged = judge_by(attempt, &adverts, r.bytes("complaint", MAX_EVIDENCE_BYTES)?);
    judged.map_err(NotEvidence::Complaint)
}

// Kind 2.

/// `first` and `second` are the signed parts of two bodies: headers in steps 2 and 3, whole bodies otherwise.
pub(super) fn of_two_words(step: Step, accused: Position, first: &[u8], second: &[u8]) -> Vec<u8> {
    begun(TWO_WORDS).u8(step.number()).u16(accused.0).bytes(first).bytes(second).finish()
}

fn two_words(attempt: &Attempt, r: &mut Reader<'_>) -> Result<Conviction, NotEvidence> {
    let number = r.u8("step")?;
    let step = Step::from_number(number).ok_or_else(|| r.invalid("step"))?;
    let culprit = read_position(r, attempt)?;
    let words = [r.bytes("first word", MAX_EVIDENCE_BYTES)?, r.bytes("second word", MAX_EVIDENCE_BYTES)?];
    let mut messages = Vec::with_capacity(words.len());
    for word in words {
        authenticate(attempt, step, culprit, word)?;
        messages.push(message_of(step, word));
    }
    // A second signature under one message is no second word.
    match messages.as_slice() {
        [Some(first), Some(second)] if first != second => {
            Ok(Conviction { culprit, offence: Offence::TwoWords })
        }
        _ => Err(NotEvidence::Unfounded),
    }
}

// Kind 3.

/// What an answer is held against.
pub(super) struct Shown<'a> {
    pub(super) adverts: &'a Adverts,
    pub(super) dealers: &'a DealHeaders,
    pub(super) headers: &'a InputHeaders,
}

pub(super) fn of_bad_share(
    shown: &Shown<'_>,
    accused: Position,
    answer: &[u8],
    dealer: Position,
    leaf: &DealtLeaf,
) -> Vec<u8> {
    let mut front = Writer::new();
    shown.dealers.write(&mut front);
    let mut w = begun(BAD_SHARE);
    w.bytes(&shown.adverts.delivery()).bytes(&front.finish()).bytes(&shown.headers.delivery());
    w.u16(accused.0).bytes(answer).u16(dealer.0);
    leaf.write(&mut w);
    w.finish()
}

fn bad_share(attempt: &Attempt, r: &mut Reader<'_>) -> Result<Conviction, NotEvidence> {
    let adverts = read_adverts(attempt, r)?;
    let mut front = Reader::new(r.bytes("deal headers", MAX_EVIDENCE_BYTES)?);
    let dealers = DealHeaders::verify(attempt, &adverts, &mut front)?;
    front.finish()?;
    let dealt = |member| dealers.of(member).is_some();
    let headers = r.bytes("input headers", MAX_EVIDENCE_BYTES)?;
    let headers = InputHeaders::verify(attempt, dealers.hash(), dealt, headers)?;
    let culprit = read_position(r, attempt)?;
    let answer = r.bytes("answer", MAX_EVIDENCE_BYTES)?;
    let dealer = read_position(r, attempt)?;
    let leaf = DealtLeaf::read(r, attempt, culprit)?;

    authenticate(attempt, Step::Unmask, culprit, answer)?;
    let answer = Answer::parse(attempt, dealers.dealers().len(), answer)?;
    // The hash binds the survivors, the dealers and the adverts that the answer was given for.
    if &answer.headers != headers.hash() {
        return Err(Flaw::OtherTranscript { hash: "headers hash" }.into());
    }
    let shown = dealers.dealers().zip(&answer.revelations).find(|(of, _)| *of == dealer);
    let (Some((_, revelation)), Some(header)) = (shown, dealers.of(dealer)) else {
        return Err(r.invalid("dealer").into());
    };
    if !leaf.is_under(&header.root, attempt, culprit) {
        return Err(NotEvidence::NotUnderRoot);
    }
    let kind = Kind::for_survivor(headers.survivors().contains(&dealer));
    let place = Place { attempt, dealer, recipient: culprit };
    if *leaf.commitments.of(kind) == revelation.commitment(&place, kind) {
        return Err(NotEvidence::Unfounded);
    }
    Ok(Conviction { culprit, offence: Offence::BadShare })
}

// Kind 4.

/// One opened commitment.
pub(super) struct Opened {
    pub(super) recipient: Position,
    pub(super) leaf: DealtLeaf,
    pub(super) revelation: Revelation,
}

pub(super) fn of_no_secret(
    adverts: &Adverts,
    header: &DealHeader,
    kind: Kind,
    opened: impl ExactSizeIterator<Item = Opened>,
) -> Vec<u8> {
    let mut w = begun(NO_SECRET);
    w.bytes(&adverts.delivery()).raw(&header.body).u8(u8::from(kind == Kind::Seed)).count(opened.len());
    for Opened { recipient, leaf, revelation } in opened {
        w.u16(recipient.0);
        leaf.write(&mut w);
        w.raw(revelation.share()).raw(revelation.salt());
    }
    w.finish()
}

fn no_secret(attempt: &Attempt, r: &mut Reader<'_>) -> Result<Conviction, NotEvidence> {
    let adverts = read_adverts(attempt, r)?;
    let header = r.raw("dealer's header", DealHeader::LEN)?;
    let culprit = DealHeader::named(attempt, header)?;
    authenticate(attempt, Step::Share, culprit, header)?;
    let header = DealHeader::parse(attempt, adverts.hash(), header)?;
    let kind = match r.u8("secret")? {
        0 => Kind::Mask,
        1 => Kind::Seed,
        _ => return Err(r.invalid("secret").into()),
    };
    let quorum = usize::from(attempt.params().quorum());
    let count = r.count("shares", quorum, 2 + 32 + 64 + 64)?;
    if count != quorum {
        return Err(r.invalid("shares").into());
    }
    let (mut last, mut parties, mut shares) = (None, Vec::new(), Vec::new());
    for _ in 0..count {
        let recipient = read_next(r, attempt, &mut last)?;
        let leaf = DealtLeaf::read(r, attempt, recipient)?;
        let revelation = Revelation::new(&r.array("share")?, &r.array("salt")?);
        if adverts.of(recipient).is_none() {
            return Err(r.invalid("recipient").into());
        }
        let place = Place { attempt, dealer: culprit, recipient };
        let committed = *leaf.commitments.of(kind) == revelation.commitment(&place, kind);
        if !leaf.is_under(&header.root, attempt, recipient) || !committed {
            return Err(NotEvidence::NotUnderRoot);
        }
        parties.push(recipient.x());
        shares.push(scalar_from_bytes(revelation.share()));
    }
    // A committed share that is no scalar gives no secret either.
    let shares: Option<Vec<_>> = shares.iter().map(Option::as_ref).collect();
    let secret = match (shares, Weights::new(&parties)) {
        (Some(shares), Ok(weights)) => weights.combine(shares.into_iter()).ok(),
        _ => None,
    };
    let point = adverts.of(culprit).map(|advert| match kind {
        Kind::Mask => &advert.mask,
        Kind::Seed => &advert.commitment,
    });
    let Some(point) = point else { return Err(r.invalid("dealer").into()) };
    if secret.is_some_and(|secret| point.belongs_to(&secret)) {
        return Err(NotEvidence::Unfounded);
    }
    Ok(Conviction { culprit, offence: Offence::InconsistentShares })
}

/// Why evidence convicts nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotEvidence {
    /// Bytes that are none.
    Malformed(CodecError),
    /// What was shown to the members does not verify.
    Shown(Refusal),
    /// The accused's or the dealer's own word does not verify.
    Word(Flaw),
    /// The complaint convicts nobody.
    Complaint(Dismissed),
    /// A commitment that is not the one its dealer signed, or a share that is not the committed one.
    NotUnderRoot,
    /// Everything verifies, and nobody did anything wrong.
    Unfounded,
}

impl From<CodecError> for NotEvidence {
    fn from(error: CodecError) -> Self {
        Self::Malformed(error)
    }
}

impl From<Refusal> for NotEvidence {
    fn from(refusal: Refusal) -> Self {
        Self::Shown(refusal)
    }
}

impl From<Flaw> for NotEvidence {
    fn from(flaw: Flaw) -> Self {
        Self::Word(flaw)
    }
}

impl fmt::Display for NotEvidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it convicts nobody: ")?;
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::Shown(refusal) => refusal.fmt(f),
            Self::Word(flaw) => write!(f, "a member's word {flaw}"),
            Self::Complaint(dismissed) => dismissed.fmt(f),
            Self::NotUnderRoot => f.write_str("a share or commitment shown is not the one its dealer signed"),
            Self::Unfounded => f.write_str("everything shown is as it should be"),
        }
    }
}

impl core::error::Error for NotEvidence {}
