//! Walls that a test may take down, to show what each is for. Exists only with the feature `test-walls`.
//!
//! A test that an attack fails says little unless the same attack succeeds once the wall it should break on
//! is gone.

use super::client::{Ready, Voted};

/// Which walls stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walls {
    /// The context reaches every signature, share and mask. Without: members shown different models add up as
    /// if nothing were.
    pub context: bool,
    /// A client adds its self-mask. Without: one that was called dropped is open to whoever reconstructs its
    /// masking key.
    pub self_mask: bool,
    /// Mask seeds have all their bits. Without: they have sixteen.
    pub wide_mask_seed: bool,
    /// A client releases one kind of share for each member. Without: it appends the other kind to its answer.
    pub one_kind: bool,
    /// A client answers only for a survivor set with a quorum of votes. Without: for any set it is shown.
    pub votes: bool,
}

impl Walls {
    /// All of them, as in every other build.
    pub const fn standing() -> Self {
        Self { context: true, self_mask: true, wide_mask_seed: true, one_kind: true, votes: true }
    }
}

impl Ready {
    /// A copy of the round's secrets, as if they had been written to disk: what a restarted client would
    /// upload a second vector from.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        self.copy()
    }
}

impl Voted {
    /// A copy of the secrets left after voting.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        self.copy()
    }
}

/// The mask seed of a build without [`Walls::wide_mask_seed`]: sixteen bits, the rest zero.
#[must_use]
pub fn narrow_seed(bits: u16) -> crate::mask::MaskSeed {
    let mut bytes = [0; 48];
    let [low, high] = bits.to_le_bytes();
    bytes[0] = low;
    bytes[1] = high;
    crate::mask::MaskSeed::from_bytes(crate::secret::Secret::new(bytes))
}
