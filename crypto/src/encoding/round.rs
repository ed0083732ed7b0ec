//! The hot loops of encoding: squared norms, and stochastic rounding of one patient's coordinates.
//!
//! Rounding works on 2¹⁶ths. A scaled coordinate `y` becomes the integer `Y = round(y·2¹⁶)`, and the result
//! is `⌊(Y + r)/2¹⁶⌋` for a fresh uniform 16-bit `r`: its mean is `Y/2¹⁶` exactly, which is within 2⁻¹⁷ of
//! `y`. Coordinates draw independently.
//!
//! To let the compiler use vector instructions, the float is turned into an integer by adding `1.5·2⁵²`,
//! which puts `2⁵¹ + Y` into the low 52 bits; the caller guarantees `|y| < 2³⁰`, so `|Y| < 2⁴⁶`.

use rand_core::CryptoRng;
use zeroize::Zeroize;

/// Coordinates per draw of random bytes.
const CHUNK: usize = 2048;
/// `1.5·2⁵²`.
const MAGIC: f64 = 6_755_399_441_055_744.0;

/// `Σ g²` in binary64; not finite if some value is not (or is so huge that clipping it is meaningless).
pub(super) fn norm_squared(values: &[f32]) -> f64 {
    // Eight running sums, so that additions need not wait for one another.
    let mut sums = [0.0f64; 8];
    let mut chunks = values.chunks_exact(8);
    for chunk in &mut chunks {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    let rest: f64 = chunks.remainder().iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    sums.iter().sum::<f64>() + rest
}

/// Rounds `value · factor` for each value into `out` (same length) and returns the exact squared norm of the
/// integers. The caller guarantees that every product is below 2³⁰ in magnitude.
pub(super) fn stochastic(values: &[f32], factor: f64, out: &mut [i32], rng: &mut impl CryptoRng) -> u64 {
    let mut bytes = [0u8; 2 * CHUNK];
    let mut norm = 0u64;
    for (values, out) in values.chunks(CHUNK).zip(out.chunks_mut(CHUNK)) {
        let (random, _) = bytes.split_at_mut(2 * values.len());
        rng.fill_bytes(random);
        let factor = factor * 65_536.0;
        let random = random.as_chunks::<2>().0;
        for ((&value, out), &random) in values.iter().zip(out.iter_mut()).zip(random) {
            *out = round(f64::from(value) * factor, u16::from_le_bytes(random));
        }
        // The sum is near the squared scaled norm, below 2⁵⁷: nothing wraps, and unchecked sums vectorize.
        norm = out.iter().fold(norm, |norm, &z| norm.wrapping_add(square(z)));
    }
    bytes.zeroize();
    norm
}

/// `⌊(round(y16) + r)/2¹⁶⌋` for `|y16| < 2⁴⁶`.
#[inline]
pub(super) fn round(y16: f64, random: u16) -> i32 {
    const OFFSET: u64 = MAGIC.to_bits() >> 16;
    let biased = (y16 + MAGIC).to_bits().wrapping_add(u64::from(random));
    // `MAGIC`'s low 16 bits are zero, so the shift floors the integer and leaves the offset whole.
    (biased >> 16).wrapping_sub(OFFSET) as i32
}

#[inline]
fn square(z: i32) -> u64 {
    let magnitude = u64::from(z.unsigned_abs());
    magnitude.wrapping_mul(magnitude)
}
