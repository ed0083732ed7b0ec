//! How a tensor starts: zeros, or uniform values that every party draws alike from the plan's public seed.
//!
//! The draw, in full: a ChaCha20 keystream (20 rounds, the original 64-bit counter and 64-bit nonce, both
//! little-endian; Bernstein 2008) under the seed as key, with the tensor's index in the manifest as nonce and
//! the counter from 0. It is read as little-endian 32-bit words `u`, one for each value in row-major order;
//! the value is `bound · ((u >> 8)·2⁻²³ − 1)`. Everything up to the product is exact in binary32, and the
//! product is rounded once: values lie in `[−bound, bound)` on 2²⁴ points.
//!
//! The seed is public. Nothing secret may start this way.

use chacha20::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

/// How a tensor's values are set before the first round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All zeros: LoRA's `B`, a head's bias.
    Zeros,
    /// Independent and uniform in `[−bound, bound)`: LoRA's frozen `A`, a head's weight. `peft` draws `A`
    /// with `bound = 1/√in_features` (Kaiming uniform with `a = √5`).
    Uniform {
        /// Half the width, finite and at least 0.
        bound: f32,
    },
}

impl Init {
    /// Fills `values`, the tensor at `index` of the manifest.
    pub(super) fn fill(self, seed: &[u8; 32], index: u64, values: &mut [f32]) {
        match self {
            Self::Zeros => values.fill(0.0),
            Self::Uniform { bound } => {
                let mut stream = ChaCha20Rng::from_seed(*seed);
                stream.set_stream(index);
                for value in values {
                    *value = bound * unit(stream.next_u32());
                }
            }
        }
    }
}

/// The written map from a random word to `[−1, 1)`: `(u >> 8)·2⁻²³ − 1`.
fn unit(word: u32) -> f32 {
    const STEP: f32 = 1.0 / 8_388_608.0;
    (word >> 8) as f32 * STEP - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_hits_its_written_points() {
        assert_eq!(unit(0), -1.0);
        assert_eq!(unit(0xff), -1.0);
        assert_eq!(unit(0x100), -1.0 + 1.0 / 8_388_608.0);
        assert_eq!(unit(0x8000_0000), 0.0);
        assert_eq!(unit(u32::MAX), 1.0 - 1.0 / 8_388_608.0);
    }

    #[test]
    fn the_stream_is_chacha20_as_published() {
        // Key 0, nonce 0, counter 0: the first keystream words of ChaCha20 (76b8e0ad a0f13d90 …).
        let mut values = [0.0f32; 2];
        Init::Uniform { bound: 2.0 }.fill(&[0; 32], 0, &mut values);
        assert_eq!(values, [2.0 * unit(0xade0_b876), 2.0 * unit(0x903d_f1a0)]);
        let mut other = [0.0f32; 2];
        Init::Uniform { bound: 2.0 }.fill(&[0; 32], 1, &mut other);
        assert_ne!(values, other);
    }
}
