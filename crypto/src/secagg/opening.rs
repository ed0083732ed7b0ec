//! What a dealer deals to one recipient, and how it is committed to.
//!
//! A recipient gets a share of the dealer's masking key, a share of its self-mask seed, and a salt. The
//! dealer commits to both shares separately, each under a salt of its own derived from the one sealed, so
//! that showing one kind later says nothing of the other. The commitments and the box's hash make the leaf of
//! the dealer's tree.

use subtle::{Choice, ConstantTimeEq};

use super::{Attempt, Position};
use crate::{
    digest::{Digest, Transcript},
    kdf,
    merkle::{Leaf, leaf},
    seal,
    secret::Secret,
};

/// Bytes of an opening before sealing: two shares and a salt.
pub(super) const OPENING_LEN: usize = 96;
/// Bytes of a sealed opening.
pub(super) const SEALED_LEN: usize = OPENING_LEN + seal::OVERHEAD;

/// Which of a dealer's two secrets a share belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The masking key, asked for when the dealer is not among the survivors.
    Mask,
    /// The self-mask seed, asked for when it is.
    Seed,
}

impl Kind {
    /// Which kind is released for a member that survived or did not.
    pub(super) fn for_survivor(survived: bool) -> Self {
        if survived { Self::Seed } else { Self::Mask }
    }

    #[cfg(feature = "test-walls")]
    pub(super) fn other(self) -> Self {
        Self::for_survivor(self == Self::Mask)
    }

    fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Mask => ("consilium/1/open-mask", "consilium/1/salt-mask"),
            Self::Seed => ("consilium/1/open-seed", "consilium/1/salt-seed"),
        }
    }
}

/// One dealer's shares for one recipient, with the salt.
#[derive(Debug)]
pub(super) struct Opening {
    bytes: Secret<[u8; OPENING_LEN]>,
}

impl Opening {
    pub(super) fn new(mask: &[u8; 32], seed: &[u8; 32], salt: &[u8; 32]) -> Self {
        let bytes = Secret::fill([0; OPENING_LEN], |bytes| {
            for (part, from) in bytes.as_chunks_mut().0.iter_mut().zip([mask, seed, salt]) {
                *part = *from;
            }
        });
        Self { bytes }
    }

    /// Reads an unsealed opening; `None` when it has the wrong length.
    pub(super) fn from_unsealed(unsealed: &[u8]) -> Option<Self> {
        let (parts, rest) = unsealed.as_chunks::<32>();
        match (parts, rest) {
            ([mask, seed, salt], []) => Some(Self::new(mask, seed, salt)),
            _ => None,
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8; OPENING_LEN] {
        self.bytes.expose()
    }

    /// The share of one kind, as 32 bytes, and the salt that opens its commitment and no other.
    pub(super) fn reveal(&self, kind: Kind) -> Revelation {
        let parts = self.bytes.expose().as_chunks::<32>().0;
        let [mask, seed, salt] = parts else {
            // An opening has three parts by its type.
            return Revelation::new(&[0; 32], &[0; 32]);
        };
        let label = kind.labels().1;
        let salt = kdf::derive(salt, &Transcript::new(label).finish());
        let share = match kind {
            Kind::Mask => mask,
            Kind::Seed => seed,
        };
        Revelation::new(share, salt.expose())
    }

    pub(super) fn commitments(&self, place: &Place<'_>) -> Commitments {
        Commitments {
            mask: self.reveal(Kind::Mask).commitment(place, Kind::Mask),
            seed: self.reveal(Kind::Seed).commitment(place, Kind::Seed),
        }
    }

    #[cfg(feature = "test-walls")]
    pub(super) fn copy(&self) -> Self {
        Self { bytes: Secret::new(*self.bytes.expose()) }
    }
}

/// One share and its salt: what is released when masks are taken off. Secret until then: a dealer and its
/// recipients compute both kinds, and release one.
pub(super) struct Revelation(Secret<[[u8; 32]; 2]>);

impl Revelation {
    pub(super) const LEN: usize = 64;

    pub(super) fn new(share: &[u8; 32], salt: &[u8; 32]) -> Self {
        Self(Secret::build(|parts: &mut [[u8; 32]; 2]| *parts = [*share, *salt]))
    }

    pub(super) fn share(&self) -> &[u8; 32] {
        let [share, _] = self.0.expose();
        share
    }

    pub(super) fn salt(&self) -> &[u8; 32] {
        let [_, salt] = self.0.expose();
        salt
    }

    pub(super) fn commitment(&self, place: &Place<'_>, kind: Kind) -> Digest {
        Transcript::new(kind.labels().0)
            .digest(place.attempt.ctx())
            .bytes(place.attempt.id(place.dealer).as_bytes())
            .bytes(place.attempt.id(place.recipient).as_bytes())
            .bytes(self.share())
            .bytes(self.salt())
            .finish()
    }
}

/// From whom to whom a share goes.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) attempt: &'a Attempt,
    pub(super) dealer: Position,
    pub(super) recipient: Position,
}

/// A dealer's commitments to the two shares of one recipient. Compared by [`same`](Self::same) only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commitments {
    pub(super) mask: Digest,
    pub(super) seed: Digest,
}

impl Commitments {
    pub(super) const LEN: usize = 64;

    pub(super) fn of(&self, kind: Kind) -> &Digest {
        match kind {
            Kind::Mask => &self.mask,
            Kind::Seed => &self.seed,
        }
    }

    /// Whether these are the same, in constant time: one side was computed from secrets.
    pub(super) fn same(&self, other: &Self) -> bool {
        let equal: Choice = self.mask.0.ct_eq(&other.mask.0) & self.seed.0.ct_eq(&other.seed.0);
        equal.into()
    }

    /// The leaf that stands for this recipient. `sealed` is empty for the dealer itself, which needs no box.
    pub(super) fn leaf(&self, sealed: &[u8]) -> Leaf {
        self.leaf_of(&Digest::of(sealed))
    }

    /// As [`leaf`](Self::leaf), from the digest of the box.
    pub(super) fn leaf_of(&self, sealed: &Digest) -> Leaf {
        leaf(DEAL_TREE, &[&sealed.0, &self.mask.0, &self.seed.0])
    }
}

const DEAL_TREE: &str = "consilium/1/deal";

/// The leaf of a recipient that advertised nothing.
pub(super) fn empty_leaf() -> Leaf {
    leaf(DEAL_TREE, &[])
}
