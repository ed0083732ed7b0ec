//! Where a simulation's randomness comes from: one number.
//!
//! Every stream has a purpose and two indices, and its key is a digest over them and the seed, so that no stream depends
//! on how much another one was used. The same seed gives the same keys, lots, noise, latencies and crashes.
//!
//! Predictable on purpose: nothing that a simulation computes protects anybody.

use chacha20::ChaCha20Rng;
use consilium_crypto::digest::Transcript;
use rand::SeedableRng;

/// A simulation's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds(u64);

impl Seeds {
    /// All streams of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 32 bytes for one purpose.
    pub fn bytes(self, purpose: &'static str, first: u64, second: u64) -> [u8; 32] {
        Transcript::new("consilium/1/simulation")
            .u64(self.0)
            .bytes(purpose.as_bytes())
            .u64(first)
            .u64(second)
            .finish()
            .0
    }

    /// A generator for one purpose.
    pub fn rng(self, purpose: &'static str, first: u64, second: u64) -> ChaCha20Rng {
        ChaCha20Rng::from_seed(self.bytes(purpose, first, second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purpose_has_its_own_stream() {
        let a = Seeds::new(1);
        assert_eq!(a.bytes("x", 1, 2), a.bytes("x", 1, 2));
        let others =
            [a.bytes("x", 2, 1), a.bytes("x", 1, 3), a.bytes("y", 1, 2), Seeds::new(2).bytes("x", 1, 2)];
        assert!(others.iter().all(|other| *other != a.bytes("x", 1, 2)));
    }
}
