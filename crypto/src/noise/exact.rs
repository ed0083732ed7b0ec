//! Whether a uniform number lies below `C·exp(−x²/2σ²)`, decided exactly.
//!
//! The number is `T = (t + f)·2^−k` with `f` uniform in `[0, 1)`, whose bits are drawn only as they are needed.
//! Binary64 decides unless the two sides are within a part in 2⁴⁰; then both are enclosed in intervals
//! of 192, 384, 768 … bits until the intervals part. They do part: `exp` of a rational other than 0 is
//! transcendental (Lindemann), so the sides are never equal, and for `x = 0` both ends are integers.
//!
//! The second step happens about once in 2³⁵ draws. It is tested by calling it directly.

use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::natural::Natural;
use super::table::MARGIN;

/// `C·exp(−x²/2σ²)`: `scale` is `C`.
pub(super) struct Target {
    pub(super) x: i64,
    pub(super) sigma: f64,
    pub(super) scale: u64,
}

/// Whether `(t + f)·2^−k < target`, `f` being drawn from `rng`.
pub(super) fn below_target(t: u64, k: u32, target: &Target, rng: &mut impl CryptoRng) -> bool {
    let ratio = target.x as f64 / target.sigma;
    let value = target.scale as f64 * libm::exp(-0.5 * ratio * ratio);
    // 2^−k as a float is exact down to 2^−1022; past that, or if the exponential has lost digits, decide exactly.
    if k <= 900 && value > 1e-280 {
        let unit = libm::exp2(-f64::from(k));
        let (low, high) = (t as f64 * unit, (t as f64 + 1.0) * unit);
        if high * (1.0 + MARGIN) < value * (1.0 - MARGIN) {
            return true;
        }
        if low * (1.0 - MARGIN) > value * (1.0 + MARGIN) {
            return false;
        }
    }
    below_target_exactly(t, k, target, rng)
}

/// The same by intervals alone.
pub(super) fn below_target_exactly(t: u64, k: u32, target: &Target, rng: &mut impl CryptoRng) -> bool {
    let mut fraction: Vec<u64> = Vec::new();
    let mut bits = 192;
    loop {
        // T·2^k lies in [low, low + 1]·2^−bits.
        while (fraction.len() as u32) * 64 < bits {
            fraction.push(rng.next_u64());
        }
        let low =
            fraction.iter().fold(Natural::from(t), |number, &word| number.shl(64).add(&Natural::from(word)));
        let high = low.add(&Natural::from(1));
        let (exp_low, exp_high) = exp_interval(target.x, target.sigma, bits + k);
        // C·exp·2^k in units of 2^−bits is C·exp in units of 2^−(bits + k).
        let scale = Natural::from(target.scale);
        if high <= exp_low.mul(&scale) {
            return true;
        }
        if low >= exp_high.mul(&scale) {
            return false;
        }
        bits *= 2;
    }
}

/// Integers around `exp(−x²/2σ²)·2^bits`.
pub(super) fn exp_interval(x: i64, sigma: f64, bits: u32) -> (Natural, Natural) {
    let one = Natural::from(1);
    if x == 0 {
        return (one.shl(bits), one.shl(bits));
    }
    let (least, most) = exponent_interval(x, sigma, bits);
    // A larger exponent is a smaller exponential.
    let (low, low_error) = exp_negative(&most, bits);
    let (high, high_error) = exp_negative(&least, bits);
    (low.saturating_sub(&low_error), high.add(&high_error))
}

/// Integers around `x²/2σ²·2^bits`. `σ = m·2^e` exactly, so the exponent is `x²·2^(−2e−1)/m²`.
fn exponent_interval(x: i64, sigma: f64, bits: u32) -> (Natural, Natural) {
    let (mantissa, exponent) = dyadic(sigma);
    let magnitude = Natural::from(x.unsigned_abs());
    let (mut numerator, mut denominator) =
        (magnitude.mul(&magnitude), Natural::from(mantissa).mul(&Natural::from(mantissa)));
    let shift = i64::from(bits) - 2 * i64::from(exponent) - 1;
    match u32::try_from(shift) {
        Ok(shift) => numerator = numerator.shl(shift),
        Err(_) => denominator = denominator.shl(shift.unsigned_abs() as u32),
    }
    let quotient = numerator.div(&denominator);
    let next = quotient.add(&Natural::from(1));
    (quotient, next)
}

/// `σ = m·2^e` with an integer `m` below 2⁵³.
fn dyadic(sigma: f64) -> (u64, i32) {
    let bits = sigma.to_bits();
    // Samplers have σ ≥ 1/2: a normal number.
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1075;
    ((bits & ((1 << 52) - 1)) | (1 << 52), exponent)
}

/// `exp(−y)` for `y = number·2^−bits`, in the same units, and a bound on its error.
///
/// Halve `y` until it is below 2⁻⁸, sum the series there with `bits` binary digits, and square back. With one
/// unit being `2^−bits`: each term of the series carries at most 2 units (its own truncation, and the previous
/// term's divided down), and a square of `a ≤ 1` with error `e` has error at most `2e + e² + 1`, which is at most
/// `2e + 2` while `e² < 1`.
fn exp_negative(number: &Natural, bits: u32) -> (Natural, Natural) {
    let whole_bits = number.bit_length().saturating_sub(bits);
    let halvings = whole_bits + 8;
    // Truncating `y/2^halvings` moves the exponential by at most one unit.
    let small = number.shr(halvings);
    let mut term = Natural::from(1).shl(bits);
    let (mut positive, mut negative) = (term.clone(), Natural::from(0));
    let mut order = 1u64;
    while !term.is_zero() {
        term = term.mul(&small).shr(bits).div(&Natural::from(order));
        if order % 2 == 1 {
            negative = negative.add(&term);
        } else {
            positive = positive.add(&term);
        }
        order += 1;
    }
    let mut value = positive.saturating_sub(&negative);
    // What the series leaves out after the last term is below one unit.
    let mut error = Natural::from(2 * order + 2);
    for _ in 0..halvings {
        value = value.mul(&value).shr(bits);
        error = error.shl(1).add(&Natural::from(2));
    }
    (value, error)
}
