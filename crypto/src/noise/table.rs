//! The sampler's tables.
//!
//! The integers are cut into *blocks* of `W = 2^b` neighbours, from `−J·W` to `J·W`, and two tails. Fix a
//! scale `C`, an integer below 2⁶⁴. A block `j` gets the target mass `C·ρ(x)/W` at each `x`, with
//! `ρ(x) = exp(−x²/2σ²)`. One draw is a uniform number below 2⁶⁴, which falls into
//!
//! - the *floor* of a block: `A_j ≤ C·min ρ`, a multiple of the fast table's step. Every `x` of the block is
//!   equally likely and is taken as it is;
//! - the *rim* of a block: `A_j` up to some `B_j ≥ C·max ρ`. The height `T` within the rim is uniform;
//!   `x` is taken if `T < C·ρ(x)`, and the whole draw starts over if not;
//! - the *tail* on either side (see [`super::gaussian`]), or nothing: start over.
//!
//! What is taken at `x` is `A_j/W + (C·ρ(x) − A_j)/W = C·ρ(x)/W`: exactly proportional to `ρ(x)`, whatever `C`,
//! `A_j` and `B_j` are, as long as `A_j ≤ C·ρ(x) ≤ B_j` on the block. Those two inequalities are all that
//! floating point is trusted with here, with a margin of 2⁻⁴⁰ where its error is below 2⁻⁴⁴.

use alloc::vec::Vec;

/// Bits of the fast table's index. 2¹⁴ entries of two bytes.
pub(super) const INDEX_BITS: u32 = 14;
/// Log₂ of the fast table's step in units of the 64-bit draw.
pub(super) const STEP_BITS: u32 = 64 - INDEX_BITS;
/// Marks the entries of the fast table that lead to the rims and tails.
pub(super) const SLOW: i16 = i16::MIN;
/// Relative margin for what binary64 computes.
pub(super) const MARGIN: f64 = 1.0 / 1_099_511_627_776.0;

/// Blocks reach to about this many `σ`; the tails take over there.
const REACH: f64 = 7.0;
/// Blocks are at most `σ/2^FINENESS` wide (but at least one integer).
const FINENESS: i32 = 5;

/// Where a draw that is not on a floor lands.
pub(super) enum Cell {
    /// In the rim of the block that begins at `start`: accept `x` if `T < C·ρ(x)`, `T` at `height` and above.
    Rim { start: i64, height: u64 },
    /// In a tail, `offset` into its mass.
    Tail { left: bool, offset: u64 },
    /// Nowhere: start over.
    Nothing,
}

/// Fast table and rims for one `σ`.
pub(super) struct Table {
    /// `b`.
    pub(super) block_bits: u32,
    /// `J·W`: the tails begin at `J·W` and at `−J·W − 1`.
    pub(super) reach: i64,
    /// `C`.
    pub(super) scale: u64,
    /// Mass of one tail.
    pub(super) tail: u64,
    /// Block numbers, each as often as its floor has steps, then [`SLOW`].
    pub(super) fast: Vec<i16>,
    /// Floors together.
    floors_total: u64,
    /// For each block, from `−J`: where its rim ends (cumulative from 0), and its floor.
    rims: Vec<(u64, u64)>,
}

impl Table {
    /// Builds the tables. `sigma` lies in the sampler's range.
    pub(super) fn new(sigma: f64) -> Self {
        Self::with_reach(sigma, REACH)
    }

    /// The same with the tails beginning at about `reach` times `sigma`, at least 1: tests make them heavy.
    pub(super) fn with_reach(sigma: f64, reach: f64) -> Self {
        let block_bits = (libm::ilogb(sigma) - FINENESS).max(0) as u32;
        let width = 1i64 << block_bits;
        let half = libm::ceil(reach * sigma / width as f64) as i64;
        let reach = half * width;
        let weight = |x: i64| {
            let ratio = x as f64 / sigma;
            libm::exp(-0.5 * ratio * ratio)
        };
        // Least and greatest weight of each block: at its ends, the block that begins at 0 included.
        let blocks: Vec<(f64, f64)> = (-half..half)
            .map(|j| {
                let (first, last) = (weight(j * width), weight(j * width + width - 1));
                (first.min(last), first.max(last))
            })
            .collect();
        let tail_blocks = tail_block_bits(sigma, block_bits) - block_bits;
        // A tail's block 0 has `C·ρ(reach)/W` at most on each of its 2^m·W integers, and half the tail's mass.
        let tail_weight = weight(reach) * (2u64 << tail_blocks) as f64;
        let total: f64 = blocks.iter().map(|block| block.1).sum::<f64>() + 2.0 * tail_weight;
        // Leave 2⁻²⁰ for the margins, the roundings up by one, and this sum's own error.
        let scale = (18_446_744_073_709_551_616.0 / total * (1.0 - libm::exp2(-20.0))) as u64;
        let scaled = scale as f64;
        let above = |weight: f64| (scaled * weight * (1.0 + MARGIN)) as u64 + 1;
        let below = |weight: f64| (scaled * weight * (1.0 - MARGIN)) as u64;
        let tail = above(tail_weight);
        let floors: Vec<u64> =
            blocks.iter().map(|&(least, _)| below(least) >> STEP_BITS << STEP_BITS).collect();
        let mut fast = Vec::with_capacity(1 << INDEX_BITS);
        for (j, floor) in (-half..half).zip(&floors) {
            // At most 2·7·2⁶ blocks: the number fits, and never equals `SLOW`.
            fast.extend(core::iter::repeat_n(j as i16, (floor >> STEP_BITS) as usize));
        }
        fast.resize(1 << INDEX_BITS, SLOW);
        let mut end = 0u64;
        let rims = blocks
            .iter()
            .zip(&floors)
            .map(|(&(_, greatest), &floor)| {
                end += above(greatest) - floor;
                (end, floor)
            })
            .collect();
        Self { block_bits, reach, scale, tail, fast, floors_total: floors.iter().sum(), rims }
    }

    /// Floor and top of each block, from the first.
    #[cfg(test)]
    pub(super) fn blocks(&self) -> impl Iterator<Item = (u64, u64)> {
        self.rims.iter().scan(0, |begin, &(end, floor)| {
            let top = floor + (end - *begin);
            *begin = end;
            Some((floor, top))
        })
    }

    /// Where the 64-bit draw `draw` lands that is above all floors.
    pub(super) fn locate(&self, draw: u64) -> Cell {
        let rest = draw.saturating_sub(self.floors_total);
        let index = self.rims.partition_point(|&(end, _)| end <= rest);
        let begin = index.checked_sub(1).and_then(|i| self.rims.get(i)).map_or(0, |rim| rim.0);
        if let Some(&(_, floor)) = self.rims.get(index) {
            let start = ((index as i64) << self.block_bits) - self.reach;
            return Cell::Rim { start, height: floor + (rest - begin) };
        }
        let beyond = rest - begin;
        if beyond < self.tail {
            Cell::Tail { left: false, offset: beyond }
        } else if beyond - self.tail < self.tail {
            Cell::Tail { left: true, offset: beyond - self.tail }
        } else {
            Cell::Nothing
        }
    }
}

/// Log₂ of the width of a tail's blocks: the least power of two that is at least `σ` and `W`.
pub(super) fn tail_block_bits(sigma: f64, block_bits: u32) -> u32 {
    let floor = libm::ilogb(sigma).max(0) as u32;
    let exact = libm::exp2(f64::from(floor)) >= sigma;
    (if exact { floor } else { floor + 1 }).max(block_bits)
}
