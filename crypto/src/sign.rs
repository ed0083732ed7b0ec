//! Ed25519 signatures over domain-separated transcripts.
//!
//! A signature covers a transcript of a label (`consilium/1/<what>`), a context digest, the sender's id
//! and the hash of the body, so that it can be shown neither in another place, nor for another round, nor for
//! another sender. RFC 8032, verified strictly (`verify_strict`: canonical encodings, no small-order points)
//! and one by one. Batch verification accepts signatures that strict verification refuses, so the two are
//! never mixed, and batches are not used at all.
//!
//! Assumes that keys belong to whom the roster says. Does not check validity times.

use core::{cmp::Ordering, fmt, hash};

use curve25519_dalek::edwards::CompressedEdwardsY;
use ed25519_dalek::Signer as _;
use rand_core::CryptoRng;
use zeroize::Zeroize;

use crate::{
    digest::{Digest, Transcript},
    secret::Secret,
};

/// An Ed25519 signing key: the secret half of a [`VerifyingKey`]. Wiped on drop, never printed.
///
/// # Security
///
/// Never leaves the organization that made it. Its public half belongs in the roster.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key of a 32-byte seed (RFC 8032's secret key).
    pub fn from_seed(mut seed: [u8; 32]) -> Self {
        let key = Self(ed25519_dalek::SigningKey::from_bytes(&seed));
        seed.zeroize();
        key
    }

    /// A fresh key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let seed = Secret::<[u8; 32]>::build(|bytes| rng.fill_bytes(bytes));
        Self(ed25519_dalek::SigningKey::from_bytes(seed.expose()))
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }

    /// The seed, to be written to a key file. The copy is the caller's to guard.
    pub fn seed(&self) -> Secret<[u8; 32]> {
        Secret::build(|bytes: &mut [u8; 32]| bytes.copy_from_slice(self.0.as_bytes()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(<redacted>)")
    }
}

/// An Ed25519 public key, checked: canonical encoding of a curve point that is not of small order.
#[derive(Clone, Copy)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// Checks 32 bytes.
    ///
    /// # Errors
    ///
    /// When they are not the one canonical encoding of a point, or the point's order is small (such a key
    /// signs every message).
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, BadVerifyingKey> {
        let bad = BadVerifyingKey(bytes);
        let point = CompressedEdwardsY(bytes).decompress().ok_or(bad)?;
        if point.compress().as_bytes() != &bytes || point.is_small_order() {
            return Err(bad);
        }
        ed25519_dalek::VerifyingKey::from_bytes(&bytes).map(Self).map_err(|_| bad)
    }

    /// The key's 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for VerifyingKey {}

impl PartialOrd for VerifyingKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for VerifyingKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl hash::Hash for VerifyingKey {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Digest(*self.as_bytes()).fmt(f)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({self})")
    }
}

/// Bytes that are no usable Ed25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadVerifyingKey(pub [u8; 32]);

impl fmt::Display for BadVerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "verifying key {} is not the canonical encoding of an Ed25519 point of large order; \
             have its owner export it again",
            Digest(self.0)
        )
    }
}

impl core::error::Error for BadVerifyingKey {}

/// An Ed25519 signature. Says nothing until [`verify`] has passed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl Signature {
    /// Length in bytes.
    pub const LEN: usize = 64;
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(")?;
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…)")
    }
}

/// Signs `body` as `sender` within `ctx`. `what` names the kind of body, one word per kind
/// (`"roster"`, `"vote"`); it is prefixed with `consilium/1/`.
pub fn sign(key: &SigningKey, what: &'static str, ctx: &Digest, sender: &str, body: &[u8]) -> Signature {
    sign_digest(key, what, ctx, sender, &Digest::of(body))
}

/// [`sign`], when the body's SHA-256 is at hand already.
pub fn sign_digest(
    key: &SigningKey,
    what: &'static str,
    ctx: &Digest,
    sender: &str,
    body: &Digest,
) -> Signature {
    Signature(key.0.sign(&signed_bytes(what, ctx, sender, body).0).to_bytes())
}

/// Verifies a signature made by [`sign`] with the same arguments.
///
/// # Errors
///
/// When it is not one: wrong key, kind, context, sender or body, or a malformed signature.
pub fn verify(
    key: &VerifyingKey,
    what: &'static str,
    ctx: &Digest,
    sender: &str,
    body: &[u8],
    signature: &Signature,
) -> Result<(), BadSignature> {
    verify_digest(key, what, ctx, sender, &Digest::of(body), signature)
}

/// [`verify`], when the body's SHA-256 is at hand already.
///
/// # Errors
///
/// As [`verify`].
pub fn verify_digest(
    key: &VerifyingKey,
    what: &'static str,
    ctx: &Digest,
    sender: &str,
    body: &Digest,
    signature: &Signature,
) -> Result<(), BadSignature> {
    let message = signed_bytes(what, ctx, sender, body);
    let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
    key.0.verify_strict(&message.0, &signature).map_err(|_| BadSignature { what })
}

fn signed_bytes(what: &'static str, ctx: &Digest, sender: &str, body: &Digest) -> Digest {
    Transcript::with_parts(&["consilium/1/", what]).digest(ctx).bytes(sender.as_bytes()).digest(body).finish()
}

/// A signature that does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSignature {
    /// The kind of body it should have covered.
    pub what: &'static str,
}

impl fmt::Display for BadSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signature on `{}` does not verify under the sender's key and this context", self.what)
    }
}

impl core::error::Error for BadSignature {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    const CTX: Digest = Digest([3; 32]);

    fn key() -> SigningKey {
        SigningKey::from_seed([1; 32])
    }

    #[test]
    fn a_signature_holds_for_its_place_and_no_other() {
        let (key, other) = (key(), SigningKey::from_seed([2; 32]));
        let public = key.verifying_key();
        let good = sign(&key, "vote", &CTX, "a", b"body");
        assert_eq!(verify(&public, "vote", &CTX, "a", b"body", &good), Ok(()));
        let refused = Err(BadSignature { what: "vote" });
        assert_eq!(verify(&other.verifying_key(), "vote", &CTX, "a", b"body", &good), refused);
        assert_eq!(verify(&public, "vote", &Digest([4; 32]), "a", b"body", &good), refused);
        assert_eq!(verify(&public, "vote", &CTX, "b", b"body", &good), refused);
        assert_eq!(verify(&public, "vote", &CTX, "a", b"bodY", &good), refused);
        assert!(verify(&public, "advert", &CTX, "a", b"body", &good).is_err());
        for bit in 0..512 {
            let mut bent = good;
            bent.0[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(&public, "vote", &CTX, "a", b"body", &bent), refused, "bit {bit}");
        }
    }

    /// RFC 8032, 7.1, tests 1 to 3: keys from seeds, and signatures over plain messages. What this module
    /// signs is the 32-byte digest of a transcript.
    #[test]
    fn keys_and_signatures_are_the_standards() {
        for (seed, public, message, signature) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
                 5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                "72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                 085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                "af82",
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
                 18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ] {
            let bytes = |text: &str| hex::decode(text).unwrap();
            let key = SigningKey::from_seed(bytes(seed).try_into().unwrap());
            assert_eq!(hex::encode(key.verifying_key().as_bytes()), public);
            let made = key.0.sign(&bytes(message));
            assert_eq!(hex::encode(made.to_bytes()), signature);
            let public = VerifyingKey::from_bytes(bytes(public).try_into().unwrap()).unwrap();
            assert!(public.0.verify_strict(&bytes(message), &made).is_ok());
        }
        let digest = signed_bytes("vote", &CTX, "a", &Digest::of(b"body"));
        assert_eq!(sign(&key(), "vote", &CTX, "a", b"body").0, key().0.sign(&digest.0).to_bytes());
    }

    #[test]
    fn weak_and_second_spellings_of_keys_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(VerifyingKey::from_bytes(identity).is_err(), "small order");
        assert!(VerifyingKey::from_bytes([0; 32]).is_err(), "small order");
        // p + 3 is a second spelling of y = 3, a point of large order.
        let mut three = [0; 32];
        three[0] = 3;
        let mut second = [0xff; 32];
        second[0] = 0xf0;
        second[31] = 0x7f;
        assert!(CompressedEdwardsY(second).decompress().is_some());
        assert!(VerifyingKey::from_bytes(three).is_ok());
        assert_eq!(VerifyingKey::from_bytes(second), Err(BadVerifyingKey(second)));
        let good = *key().verifying_key().as_bytes();
        assert_eq!(VerifyingKey::from_bytes(good), Ok(key().verifying_key()));
    }

    #[test]
    fn the_secret_half_is_not_printed() {
        assert_eq!(format!("{:?}", key()), "SigningKey(<redacted>)");
        assert_eq!(key().seed().expose(), &[1; 32]);
    }
}
