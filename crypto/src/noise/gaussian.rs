//! The discrete Gaussian sampler: one table look-up for most integers, an exact comparison for the rest.
//!
//! A 32-bit random word is 14 bits of table index and 18 bits of which the low `b` choose an integer in the
//! block. About one word in fifty leads to a rim (see [`super::table`]); there, the index gets 50 further
//! bits, and the height `T` is compared with `C·ρ(x)`, lazily: in binary64 if the two differ by more than
//! its error, and in as many bits as it takes if not ([`super::exact`]).
//!
//! # The tails
//!
//! The right tail begins at `X = J·W ≥ 7σ`, the left one at `−X − 1`. Each is cut into blocks of `B = 2^m·W ≥ σ`
//! integers, and has a mass `g ≥ C·ρ(X)·2^(m+1)`. Block `k` is chosen with probability `2^−(k+1)` and an `x` in it
//! uniformly, so that each integer gets `g·2^−(k+1)/B`; `x` is taken with probability
//! `C·ρ(x)·2^(m+k+1)/g`, which leaves `C·ρ(x)/W`, as in the blocks. That probability is at most 1: for `x` in
//! block `k`, `ρ(x) ≤ ρ(X)·exp(−k·X·B/σ²) ≤ ρ(X)·2^−k`, as `X·B/σ² ≥ 7`.

use core::fmt;

use rand_core::CryptoRng;
use zeroize::Zeroize;

use super::NoiseError;
use super::exact::{Target, below_target};
use super::table::{Cell, INDEX_BITS, SLOW, STEP_BITS, Table, tail_block_bits};

/// Least `σ` of a sampler.
pub const MIN_SIGMA: f64 = 0.5;
/// Greatest `σ` of a sampler, 2²⁰.
pub const MAX_SIGMA: f64 = 1_048_576.0;

/// Words drawn at a time: 4 KiB.
const WORDS: usize = 1024;

/// An exact sampler of `P(x) ∝ exp(−x²/2σ²)` over the integers.
pub struct DiscreteGaussian {
    sigma: f64,
    table: Table,
    /// Low bits of a word that choose within a block.
    offset_mask: u32,
}

impl DiscreteGaussian {
    /// Prepares the tables for `sigma`, taken as exactly the number that it is. Costs some 0.1 ms: make one
    /// for a vector, not one for a coordinate.
    ///
    /// # Errors
    ///
    /// `sigma` outside [`MIN_SIGMA`]`..=`[`MAX_SIGMA`].
    pub fn new(sigma: f64) -> Result<Self, NoiseError> {
        if !(MIN_SIGMA..=MAX_SIGMA).contains(&sigma) {
            return Err(NoiseError::Sigma(sigma));
        }
        Ok(Self::with_table(sigma, Table::new(sigma)))
    }

    pub(super) fn with_table(sigma: f64, table: Table) -> Self {
        let offset_mask = (1u32 << table.block_bits) - 1;
        Self { sigma, table, offset_mask }
    }

    /// `σ`. The variance is at most `σ²`, and equal to it but for `10⁻²⁰` from `σ = 2` on.
    pub fn sigma(&self) -> f64 {
        self.sigma
    }

    /// Draws one integer.
    pub fn sample(&self, rng: &mut impl CryptoRng) -> i64 {
        let word = rng.next_u32();
        match self.quick(word) {
            Some(x) => x,
            None => self.slow(word, rng),
        }
    }

    /// Overwrites `out` with independent draws.
    pub fn fill(&self, out: &mut [i64], rng: &mut impl CryptoRng) {
        out.fill(0);
        self.add_to(out, rng);
    }

    /// Adds an independent draw to each value, wrapping at the ends of the type.
    pub fn add_to(&self, values: &mut [i64], rng: &mut impl CryptoRng) {
        let mut bytes = [0u8; 4 * WORDS];
        for values in values.chunks_mut(WORDS) {
            let (random, _) = bytes.split_at_mut(4 * values.len());
            rng.fill_bytes(random);
            for (value, &word) in values.iter_mut().zip(random.as_chunks::<4>().0) {
                let word = u32::from_le_bytes(word);
                let x = match self.quick(word) {
                    Some(x) => x,
                    None => self.slow(word, rng),
                };
                *value = value.wrapping_add(x);
            }
        }
        bytes.zeroize();
    }

    /// The floor of a block, for most words.
    #[inline]
    fn quick(&self, word: u32) -> Option<i64> {
        // The table has 2^INDEX_BITS entries, so `get` always finds one.
        let block = self.table.fast.get((word >> (32 - INDEX_BITS)) as usize).copied();
        let block = block.unwrap_or(SLOW);
        let x = (i64::from(block) << self.table.block_bits) + i64::from(word & self.offset_mask);
        (block != SLOW).then_some(x)
    }

    /// Continues a word that `quick` could not decide; starts over with new words until one is taken.
    #[cold]
    fn slow(&self, mut word: u32, rng: &mut impl CryptoRng) -> i64 {
        loop {
            let index = u64::from(word >> (32 - INDEX_BITS));
            let draw = (index << STEP_BITS) | (rng.next_u64() >> INDEX_BITS);
            let offset = i64::from(word & self.offset_mask);
            let candidate = match self.table.locate(draw) {
                Cell::Rim { start, height } => self.rim(start + offset, height, rng),
                Cell::Tail { left, offset } => self.tail(left, offset, rng),
                Cell::Nothing => None,
            };
            if let Some(x) = candidate {
                return x;
            }
            word = rng.next_u32();
            if let Some(x) = self.quick(word) {
                return x;
            }
        }
    }

    fn rim(&self, x: i64, height: u64, rng: &mut impl CryptoRng) -> Option<i64> {
        below_target(height, 0, &self.target(x), rng).then_some(x)
    }

    /// One try in a tail, from the place in its mass.
    fn tail(&self, left: bool, offset: u64, rng: &mut impl CryptoRng) -> Option<i64> {
        let block_bits = self.table.block_bits;
        let tail_bits = tail_block_bits(self.sigma, block_bits);
        let mut block = 0u32;
        while rng.next_u32() & 1 == 1 {
            block += 1;
        }
        let within = rng.next_u64() & ((1 << tail_bits) - 1);
        // A block number near 2³² has probability 2^−(2³²): no overflow in 64 bits.
        let x = self.table.reach + (i64::from(block) << tail_bits) + within as i64;
        let x = if left { -1 - x } else { x };
        let halvings = (tail_bits - block_bits) + block + 1;
        below_target(offset, halvings, &self.target(x), rng).then_some(x)
    }

    fn target(&self, x: i64) -> Target {
        Target { x, sigma: self.sigma, scale: self.table.scale }
    }
}

impl fmt::Debug for DiscreteGaussian {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiscreteGaussian").field("sigma", &self.sigma).finish_non_exhaustive()
    }
}
