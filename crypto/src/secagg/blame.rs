//! Complaints: proof that a dealer sealed rubbish to a recipient, for others to judge.
//!
//! A recipient whose box does not open shows the box as its dealer signed it (header, path), the
//! Diffie–Hellman secret of the two, and a proof that this is that secret. Whoever knows the adverts can then
//! try the box. A complaint that turns out false convicts whoever made it: nobody else could have made the
//! proof.
//!
//! A complaint reveals everything sealed between the two in this attempt, in both directions. The attempt is
//! over for the accuser by then, and the secrets served no other.
//!
//! ```text
//! complaint = version u8 ‖ accuser u16 ‖ shared secret 32 ‖ proof 64 ‖ dealer's header 133 ‖ parcel
//! parcel    = sealed 112 ‖ commitments 64 ‖ path 32 each
//! ```

use alloc::vec::Vec;
use core::fmt;

use super::{
    Attempt, Flaw, Position, Step,
    evidence::{Conviction, Offence},
    keys::Route,
    messages::{Adverts, DealHeader, DealHeaders, Parcel, authenticate, read_position},
    opening::{Opening, Place},
    refusal::{BadDeal, Refusal},
};
use crate::{
    codec::{CodecError, Reader, Writer},
    digest::{Digest, Transcript},
    group::{AgreementProof, KeyPair, scalar_from_bytes},
    seal::SealKey,
    secret::Secret,
};

const VERSION: u8 = 1;

/// Opens a parcel with the agreed secret and holds it against the dealer's commitments.
pub(super) fn open_parcel(
    route: &Route<'_>,
    shared: &Secret<[u8; 32]>,
    parcel: &Parcel<'_>,
) -> Result<Opening, BadDeal> {
    let key = SealKey::new(shared, &route.purpose());
    let unsealed = key.open(parcel.sealed, &route.associated_data()).map_err(|_| BadDeal::DoesNotOpen)?;
    let opening = Opening::from_unsealed(unsealed.expose()).ok_or(BadDeal::DoesNotOpen)?;
    if !opening.shares_are_canonical() {
        return Err(BadDeal::NotScalars);
    }
    let place = Place { attempt: route.attempt, dealer: route.dealer.0, recipient: route.recipient.0 };
    if !opening.commitments(&place).same(&parcel.commitments) {
        return Err(BadDeal::NotCommitted);
    }
    Ok(opening)
}

/// Writes a complaint of the route's recipient, whose sealing keys are `seal`.
pub(super) fn complain(
    route: &Route<'_>,
    seal: &KeyPair,
    headers: &DealHeaders,
    parcel: &Parcel<'_>,
) -> Vec<u8> {
    let mut w = Writer::new();
    w.u8(VERSION).u16(route.recipient.0.0);
    w.raw(seal.agree(route.dealer.1).expose());
    w.raw(&seal.prove_agreement(route.dealer.1, &bound(route, parcel)).to_bytes());
    if let Some(header) = headers.of(route.dealer.0) {
        w.raw(&header.body);
    }
    parcel.write(&mut w);
    w.finish()
}

/// What the proof is tied to: this box between these two in this exchange.
fn bound(route: &Route<'_>, parcel: &Parcel<'_>) -> Digest {
    Transcript::new("consilium/1/complaint").digest(&route.purpose()).bytes(parcel.sealed).finish()
}

/// Judges a complaint. `adverts` is the delivery that opened step 2 of the attempt. Gives the culprit: the
/// dealer if its box is bad, the accuser if the box is good.
///
/// # Errors
///
/// When the complaint convicts nobody: it is malformed, is about another exchange, shows a box its dealer did
/// not sign, or its proof does not hold.
pub fn judge(attempt: &Attempt, adverts: &[u8], complaint: &[u8]) -> Result<Position, Dismissed> {
    let adverts = Adverts::verify(attempt, adverts).map_err(Dismissed::Adverts)?;
    judge_by(attempt, &adverts, complaint).map(|conviction| conviction.culprit)
}

/// Whose complaint it says it is.
pub(super) fn accuser(attempt: &Attempt, complaint: &[u8]) -> Result<Position, Dismissed> {
    let mut r = Reader::new(complaint);
    r.u8("version")?;
    Ok(read_position(&mut r, attempt)?)
}

/// As [`judge`], by adverts that are verified already.
pub(super) fn judge_by(
    attempt: &Attempt,
    adverts: &Adverts,
    complaint: &[u8],
) -> Result<Conviction, Dismissed> {
    let mut r = Reader::new(complaint);
    if r.u8("version")? != VERSION {
        return Err(r.invalid("version").into());
    }
    let accuser = read_position(&mut r, attempt)?;
    let shared = Secret::new(r.array("shared secret")?);
    let proof = AgreementProof::from_bytes(&r.array("proof")?);
    let header = r.raw("dealer's header", DealHeader::LEN)?;
    let dealer = DealHeader::named(attempt, header)?;
    let header = authenticate(attempt, Step::Share, dealer, header)
        .and_then(|()| DealHeader::parse(attempt, adverts.hash(), header))
        .map_err(Dismissed::Header)?;
    let parcel = Parcel::read(&mut r, attempt, accuser)?;
    r.finish()?;

    let (Some(from), Some(to)) = (adverts.of(dealer), adverts.of(accuser)) else {
        return Err(Dismissed::NotInStep1);
    };
    if !parcel.is_under(&header.root, attempt, accuser) {
        return Err(Dismissed::NotUnderRoot);
    }
    let route = Route {
        attempt,
        step1: adverts.hash(),
        dealer: (dealer, &from.seal),
        recipient: (accuser, &to.seal),
    };
    if !proof.holds(&to.seal, &from.seal, shared.expose(), &bound(&route, &parcel)) {
        return Err(Dismissed::Proof);
    }
    Ok(match open_parcel(&route, &shared, &parcel) {
        Ok(_) => Conviction { culprit: accuser, offence: Offence::FalseComplaint },
        Err(_) => Conviction { culprit: dealer, offence: Offence::BadDeal },
    })
}

impl Opening {
    fn shares_are_canonical(&self) -> bool {
        use super::opening::Kind::{Mask, Seed};
        [Mask, Seed].iter().all(|kind| scalar_from_bytes(self.reveal(*kind).share()).is_some())
    }
}

/// Why a complaint convicts nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dismissed {
    /// The adverts it is judged by are not good.
    Adverts(Refusal),
    /// Bytes that are no complaint.
    Malformed(CodecError),
    /// The dealer's header is not good.
    Header(Flaw),
    /// Accuser or dealer did not advertise.
    NotInStep1,
    /// The box is not what the dealer signed: whoever carried it is to blame, not the dealer.
    NotUnderRoot,
    /// The proof does not hold: anyone could have written this.
    Proof,
    /// It is another member's complaint, or this member's second in the attempt.
    NotItsOwn,
    /// There is nothing to judge it by: the adverts are not known yet, or not any more.
    OutOfTurn,
}

impl From<CodecError> for Dismissed {
    fn from(error: CodecError) -> Self {
        Self::Malformed(error)
    }
}

impl fmt::Display for Dismissed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("complaint dismissed: ")?;
        match self {
            Self::Adverts(refusal) => refusal.fmt(f),
            Self::Malformed(error) => error.fmt(f),
            Self::Header(flaw) => write!(f, "dealer's header: {flaw}"),
            Self::NotInStep1 => f.write_str("accuser or dealer did not advertise"),
            Self::NotUnderRoot => f.write_str("the box shown is not the one the dealer signed"),
            Self::Proof => f.write_str("the proof does not hold"),
            Self::NotItsOwn => f.write_str("it is not the sender's own, or not its first"),
            Self::OutOfTurn => f.write_str("nothing has been dealt, or the attempt is over"),
        }
    }
}

impl core::error::Error for Dismissed {}
