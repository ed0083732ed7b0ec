//! Members' messages, written from the manual's byte formats alone.
//!
//! The cohort that surrounds the one real client is generated: its members hold real keys and real shares, and
//! what they say passes every check, but nothing is computed that neither the client nor the coordinator can see.

use consilium_crypto::{
    digest::{Digest, Transcript},
    group::{KeyPair, PublicPoint},
    mask::{MaskSeed, Sign},
    merkle::{self, Leaf, Tree},
    seal::SealKey,
    secagg::Attempt,
    secret::Secret,
    sign::{SigningKey, sign},
};
use hkdf::Hkdf;
use sha2::Sha256;

/// Which of a dealer's two secrets a share belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Mask,
    Seed,
}

pub const DEAL_HEADER: usize = 133;
pub const SEALED: usize = 112;
const HEADS: [&str; 6] = ["", "advert", "deal", "input", "vote", "answer"];

/// Appends the signature of member `me` to the body of a step.
pub fn signed(attempt: &Attempt, me: u16, key: &SigningKey, step: usize, mut body: Vec<u8>) -> Vec<u8> {
    let signature = sign(key, HEADS[step], attempt.ctx(), id(attempt, me), &body);
    body.extend_from_slice(&signature.0);
    body
}

pub fn id(attempt: &Attempt, position: u16) -> &str {
    attempt.members()[usize::from(position)].id.as_str()
}

fn head(step: u8, me: u16) -> Vec<u8> {
    let [low, high] = me.to_le_bytes();
    vec![1, step, 0, low, high]
}

/// Sealing key, masking key, commitment.
pub fn advert(me: u16, keys: [&PublicPoint; 3]) -> Vec<u8> {
    let mut body = head(1, me);
    keys.iter().for_each(|key| body.extend_from_slice(key.as_bytes()));
    body.extend_from_slice(&[0; 8 + 32]);
    body
}

/// The three public keys in an advert.
pub fn advertised(advert: &[u8]) -> [PublicPoint; 3] {
    std::array::from_fn(|i| {
        let bytes: [u8; 32] = advert[5 + 32 * i..][..32].try_into().expect("32 bytes");
        PublicPoint::from_bytes(bytes).expect("a point the client made")
    })
}

pub fn deal_header(me: u16, step1: &Digest, root: &Digest) -> Vec<u8> {
    [head(2, me).as_slice(), step1.as_bytes(), root.as_bytes()].concat()
}

pub fn input_header(me: u16, step2: &Digest, digests: &[Digest], total: u64) -> Vec<u8> {
    let root =
        Tree::new(digests.iter().map(|digest| merkle::leaf("consilium/1/chunks", &[&digest.0]))).root();
    [head(3, me).as_slice(), step2.as_bytes(), root.as_bytes(), &total.to_le_bytes()].concat()
}

pub fn answer(me: u16, headers: &Digest) -> Vec<u8> {
    [head(5, me).as_slice(), headers.as_bytes()].concat()
}

/// The hash that closes a step: over the transcript before it and all bodies.
pub fn step_hash(
    label: &'static str,
    before: &Digest,
    bodies: impl Iterator<Item = impl AsRef<[u8]>>,
) -> Digest {
    let mut all = Vec::new();
    bodies.for_each(|body| all.extend_from_slice(body.as_ref()));
    Transcript::new(label).digest(before).bytes(&all).finish()
}

/// The salt under which one kind of share is committed to, out of the one that was sealed.
pub fn kind_salt(salt: &[u8; 32], kind: Kind) -> [u8; 32] {
    let label = match kind {
        Kind::Mask => "consilium/1/salt-mask",
        Kind::Seed => "consilium/1/salt-seed",
    };
    let mut out = [0; 32];
    let expanded =
        Hkdf::<Sha256>::new(None, salt).expand(Transcript::new(label).finish().as_bytes(), &mut out);
    expanded.expect("32 bytes fit");
    out
}

pub fn commitment(
    attempt: &Attempt,
    (dealer, recipient): (u16, u16),
    kind: Kind,
    share: &[u8],
    salt: &[u8],
) -> Digest {
    let label = match kind {
        Kind::Mask => "consilium/1/open-mask",
        Kind::Seed => "consilium/1/open-seed",
    };
    Transcript::new(label)
        .digest(attempt.ctx())
        .bytes(id(attempt, dealer).as_bytes())
        .bytes(id(attempt, recipient).as_bytes())
        .bytes(share)
        .bytes(salt)
        .finish()
}

pub fn deal_leaf(sealed: &[u8], mask: &Digest, seed: &Digest) -> Leaf {
    merkle::leaf("consilium/1/deal", &[&Digest::of(sealed).0, &mask.0, &seed.0])
}

/// The key and associated data of the box from `dealer` to `recipient`; `own` is either's sealing pair.
pub fn box_key(
    attempt: &Attempt,
    step1: &Digest,
    dealer: (u16, &PublicPoint),
    recipient: (u16, &PublicPoint),
    shared: &Secret<[u8; 32]>,
) -> (SealKey, Vec<u8>) {
    let (from, to) = (id(attempt, dealer.0).as_bytes(), id(attempt, recipient.0).as_bytes());
    let purpose = Transcript::new("consilium/1/seal")
        .digest(attempt.ctx())
        .digest(step1)
        .bytes(from)
        .bytes(to)
        .bytes(dealer.1.as_bytes())
        .bytes(recipient.1.as_bytes())
        .finish();
    let mut data = [attempt.ctx().as_bytes().as_slice(), step1.as_bytes()].concat();
    for id in [from, to] {
        data.extend_from_slice(&u32::try_from(id.len()).expect("a short id").to_le_bytes());
        data.extend_from_slice(id);
    }
    (SealKey::new(shared, &purpose), data)
}

pub fn self_mask(attempt: &Attempt, step2: &Digest, me: u16, own: &KeyPair) -> MaskSeed {
    let purpose = Transcript::new("consilium/1/self-mask")
        .digest(attempt.ctx())
        .digest(step2)
        .bytes(id(attempt, me).as_bytes())
        .finish();
    MaskSeed::new(own.secret().expose().as_bytes(), &purpose)
}

/// The mask between `own` and `peer`, and which way it goes into the vector of `own`.
pub fn pair_mask(
    attempt: &Attempt,
    step2: &Digest,
    own: (u16, &KeyPair),
    peer: (u16, &PublicPoint),
) -> (Sign, MaskSeed) {
    let mine = (own.0, own.1.public());
    let (sign, lower, higher) =
        if own.0 < peer.0 { (Sign::Add, mine, peer) } else { (Sign::Subtract, peer, mine) };
    let purpose = Transcript::new("consilium/1/pair-mask")
        .digest(attempt.ctx())
        .digest(step2)
        .bytes(id(attempt, lower.0).as_bytes())
        .bytes(id(attempt, higher.0).as_bytes())
        .bytes(lower.1.as_bytes())
        .bytes(higher.1.as_bytes())
        .finish();
    (sign, MaskSeed::new(own.1.agree(peer.1).expose(), &purpose))
}
