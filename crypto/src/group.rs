//! The Ristretto group: public points, secret scalars, key agreement, and proofs of equal logarithms.
//!
//! RFC 9496 (ristretto255). The group has prime order, so once a point is canonical and not the identity
//! there is no small subgroup to fear and an exchange with a checked point is never the identity.
//!
//! Assumes the gap Diffie–Hellman problem is hard in the group and that the caller's generator is sound.
//! Operations on secrets are constant-time; checks on public points are not.

use core::{cmp::Ordering, fmt};

use curve25519_dalek::{
    ristretto::{CompressedRistretto, RistrettoPoint},
    scalar::Scalar,
};
use rand_core::CryptoRng;
use zeroize::Zeroize;

use crate::{
    digest::{Digest, Transcript},
    kdf,
    secret::Secret,
};

/// A uniform scalar, zero included: 64 random bytes reduced modulo the group order (bias below 2^-250).
///
/// Nothing is drawn again. A generator that "avoids zero" makes shares leak (RUSTSEC-2024-0398).
pub fn random_scalar(rng: &mut impl CryptoRng) -> Secret<Scalar> {
    let wide = Secret::fill([0; 64], |wide| rng.fill_bytes(wide));
    Secret::new(Scalar::from_bytes_mod_order_wide(wide.expose()))
}

/// Reads a scalar's canonical 32 bytes; `None` for any other spelling.
pub fn scalar_from_bytes(bytes: &[u8; 32]) -> Option<Secret<Scalar>> {
    Option::<Scalar>::from(Scalar::from_canonical_bytes(*bytes)).map(Secret::new)
}

/// A Ristretto point, checked: canonical, and not the identity. The public half of a [`KeyPair`].
#[derive(Clone, Copy)]
pub struct PublicPoint {
    point: RistrettoPoint,
    bytes: [u8; 32],
}

impl PublicPoint {
    /// Checks 32 bytes.
    ///
    /// # Errors
    ///
    /// When they are not a canonical encoding, or encode the identity.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, BadPoint> {
        let point = CompressedRistretto(bytes).decompress().ok_or(BadPoint::NotCanonical)?;
        Self::checked(point, bytes)
    }

    /// The point's canonical bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Whether this is `secret · G`.
    pub fn belongs_to(&self, secret: &Secret<Scalar>) -> bool {
        RistrettoPoint::mul_base(secret.expose()) == self.point
    }

    fn of(secret: &Secret<Scalar>) -> Result<Self, BadPoint> {
        let point = RistrettoPoint::mul_base(secret.expose());
        Self::checked(point, point.compress().to_bytes())
    }

    fn checked(point: RistrettoPoint, bytes: [u8; 32]) -> Result<Self, BadPoint> {
        // The identity has one canonical encoding: all zeros.
        if bytes == [0; 32] { Err(BadPoint::Identity) } else { Ok(Self { point, bytes }) }
    }
}

impl PartialEq for PublicPoint {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for PublicPoint {}

impl PartialOrd for PublicPoint {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicPoint {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes.cmp(&other.bytes)
    }
}

impl fmt::Debug for PublicPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicPoint({})", Digest(self.bytes))
    }
}

/// Why 32 bytes are no usable point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPoint {
    /// No point has this encoding, or it is a second spelling of one.
    NotCanonical,
    /// The identity: an exchange with it has no secret in it.
    Identity,
}

impl fmt::Display for BadPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotCanonical => "not the canonical encoding of a Ristretto point",
            Self::Identity => "the identity point",
        })
    }
}

impl core::error::Error for BadPoint {}

/// A secret scalar and its point.
///
/// # Security
///
/// Made for one attempt and never written to disk. Only [`public`](Self::public) may travel.
#[derive(Debug)]
pub struct KeyPair {
    secret: Secret<Scalar>,
    public: PublicPoint,
}

impl KeyPair {
    /// A fresh pair.
    ///
    /// # Errors
    ///
    /// [`BadPoint::Identity`] when the scalar is zero, which a sound generator never shows anybody.
    pub fn generate(rng: &mut impl CryptoRng) -> Result<Self, BadPoint> {
        Self::from_secret(random_scalar(rng))
    }

    /// The pair of a known scalar.
    ///
    /// # Errors
    ///
    /// [`BadPoint::Identity`] when it is zero.
    pub fn from_secret(secret: Secret<Scalar>) -> Result<Self, BadPoint> {
        let public = PublicPoint::of(&secret)?;
        Ok(Self { secret, public })
    }

    /// The public half.
    pub fn public(&self) -> &PublicPoint {
        &self.public
    }

    /// The secret half.
    pub fn secret(&self) -> &Secret<Scalar> {
        &self.secret
    }

    /// The Diffie–Hellman secret with `peer`: the canonical bytes of `secret · peer`. Not uniform: derive
    /// keys from it, never use it as one.
    pub fn agree(&self, peer: &PublicPoint) -> Secret<[u8; 32]> {
        let mut point = peer.point * self.secret.expose();
        let mut compressed = point.compress();
        let shared = Secret::build(|bytes: &mut [u8; 32]| bytes.copy_from_slice(compressed.as_bytes()));
        point.zeroize();
        compressed.zeroize();
        shared
    }

    /// Proves that `self.agree(peer)` is what it is, without telling the secret scalar. `bound` is
    /// whatever the proof is to be tied to.
    pub fn prove_agreement(&self, peer: &PublicPoint, bound: &Digest) -> AgreementProof {
        let statement = statement(&self.public, peer, self.agree(peer).expose(), bound);
        // The nonce is derived from the secret and the statement, so that a weak generator cannot repeat it.
        let seed = kdf::derive::<32>(self.secret.expose().as_bytes(), &statement);
        let nonce = Secret::new(wide_scalar("consilium/1/agreement-nonce", seed.expose()));
        let commitments = [RistrettoPoint::mul_base(nonce.expose()), peer.point * nonce.expose()];
        let challenge = challenge(&statement, &commitments);
        let response = nonce.expose() + challenge * self.secret.expose();
        AgreementProof { challenge: challenge.to_bytes(), response: response.to_bytes() }
    }
}

/// A proof that one scalar takes the generator to one point and a peer's point to another (Chaum–Pedersen,
/// made non-interactive by hashing).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgreementProof {
    challenge: [u8; 32],
    response: [u8; 32],
}

impl AgreementProof {
    /// Length in bytes.
    pub const LEN: usize = 64;

    /// Challenge and response, 32 bytes each.
    pub fn to_bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        let (challenge, response) = bytes.split_at_mut(32);
        challenge.copy_from_slice(&self.challenge);
        response.copy_from_slice(&self.response);
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote. Says nothing until it is verified.
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        let mut proof = Self { challenge: [0; 32], response: [0; 32] };
        let (challenge, response) = bytes.split_at(32);
        proof.challenge.copy_from_slice(challenge);
        proof.response.copy_from_slice(response);
        proof
    }

    /// Whether `shared` is the Diffie–Hellman secret of `prover` and `peer`, tied to `bound`.
    pub fn holds(&self, prover: &PublicPoint, peer: &PublicPoint, shared: &[u8; 32], bound: &Digest) -> bool {
        let parts = (
            Option::<Scalar>::from(Scalar::from_canonical_bytes(self.challenge)),
            Option::<Scalar>::from(Scalar::from_canonical_bytes(self.response)),
            CompressedRistretto(*shared).decompress(),
        );
        let (Some(c), Some(s), Some(shared_point)) = parts else {
            return false;
        };
        let commitments =
            [RistrettoPoint::mul_base(&s) - prover.point * c, peer.point * s - shared_point * c];
        challenge(&statement(prover, peer, shared, bound), &commitments) == c
    }
}

fn statement(prover: &PublicPoint, peer: &PublicPoint, shared: &[u8; 32], bound: &Digest) -> Digest {
    Transcript::new("consilium/1/agreement")
        .digest(bound)
        .bytes(&prover.bytes)
        .bytes(&peer.bytes)
        .bytes(shared)
        .finish()
}

fn challenge(statement: &Digest, commitments: &[RistrettoPoint; 2]) -> Scalar {
    let transcript = commitments
        .iter()
        .fold(Transcript::new("consilium/1/agreement-challenge").digest(statement), |transcript, point| {
            transcript.bytes(point.compress().as_bytes())
        });
    wide_scalar("consilium/1/agreement-scalar", transcript.finish().as_bytes())
}

/// A scalar from 64 bytes of hash, so that the reduction is without bias.
fn wide_scalar(label: &'static str, seed: &[u8; 32]) -> Scalar {
    let mut wide = [0; 64];
    for (half, index) in wide.chunks_exact_mut(32).zip(0..) {
        half.copy_from_slice(Transcript::new(label).bytes(seed).u64(index).finish().as_bytes());
    }
    let scalar = Scalar::from_bytes_mod_order_wide(&wide);
    wide.zeroize();
    scalar
}

#[cfg(test)]
mod tests;
