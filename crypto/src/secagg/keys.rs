//! What keys are derived from: every purpose string of the protocol, in one place.
//!
//! Each is a transcript over a label, the context, the step's hash and everything that tells one use from
//! another, so that no two uses share a key.

use super::{Attempt, Position};
use crate::{
    codec::Writer,
    digest::{Digest, Transcript},
    group::{KeyPair, PublicPoint},
    mask::{MaskSeed, Sign},
    secret::Secret,
};
use alloc::vec::Vec;
use curve25519_dalek::scalar::Scalar;

/// From whom to whom a box goes, and in which exchange.
pub(super) struct Route<'a> {
    pub(super) attempt: &'a Attempt,
    pub(super) step1: &'a Digest,
    pub(super) dealer: (Position, &'a PublicPoint),
    pub(super) recipient: (Position, &'a PublicPoint),
}

impl Route<'_> {
    /// What the sealing key is derived for.
    pub(super) fn purpose(&self) -> Digest {
        Transcript::new("consilium/1/seal")
            .digest(self.attempt.ctx())
            .digest(self.step1)
            .bytes(self.attempt.id(self.dealer.0).as_bytes())
            .bytes(self.attempt.id(self.recipient.0).as_bytes())
            .bytes(self.dealer.1.as_bytes())
            .bytes(self.recipient.1.as_bytes())
            .finish()
    }

    /// The associated data of the box.
    pub(super) fn associated_data(&self) -> Vec<u8> {
        Writer::new()
            .digest(self.attempt.ctx())
            .digest(self.step1)
            .str(self.attempt.id(self.dealer.0))
            .str(self.attempt.id(self.recipient.0))
            .finish()
    }
}

/// The self-mask of a member with seed scalar `b`.
pub(super) fn self_mask(attempt: &Attempt, step2: &Digest, member: Position, b: &Secret<Scalar>) -> MaskSeed {
    let purpose = Transcript::new("consilium/1/self-mask")
        .digest(attempt.ctx())
        .digest(step2)
        .bytes(attempt.id(member).as_bytes())
        .finish();
    seed(attempt, b.expose().as_bytes(), &purpose)
}

/// The mask that `own` shares with a peer, and which way it goes into the vector of `own`: the lower position
/// adds, the higher subtracts.
pub(super) fn pair_mask(
    attempt: &Attempt,
    step2: &Digest,
    own: (Position, &KeyPair),
    peer: (Position, &PublicPoint),
) -> (Sign, MaskSeed) {
    let own_public = (own.0, own.1.public());
    let (sign, lower, higher) =
        if own.0 < peer.0 { (Sign::Add, own_public, peer) } else { (Sign::Subtract, peer, own_public) };
    let purpose = Transcript::new("consilium/1/pair-mask")
        .digest(attempt.ctx())
        .digest(step2)
        .bytes(attempt.id(lower.0).as_bytes())
        .bytes(attempt.id(higher.0).as_bytes())
        .bytes(lower.1.as_bytes())
        .bytes(higher.1.as_bytes())
        .finish();
    (sign, seed(attempt, own.1.agree(peer.1).expose(), &purpose))
}

#[cfg(not(feature = "test-walls"))]
fn seed(_: &Attempt, secret: &[u8], purpose: &Digest) -> MaskSeed {
    MaskSeed::new(secret, purpose)
}

#[cfg(feature = "test-walls")]
fn seed(attempt: &Attempt, secret: &[u8], purpose: &Digest) -> MaskSeed {
    if attempt.walls().wide_mask_seed {
        return MaskSeed::new(secret, purpose);
    }
    let wide = Transcript::new("narrow").bytes(secret).digest(purpose).finish();
    super::walls::narrow_seed(u16::from_le_bytes([wide.0[0], wide.0[1]]))
}
