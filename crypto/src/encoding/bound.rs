//! The integer sensitivity, the clamp and the ring's width, from public numbers only.
//!
//! Everything is computed in binary64 with `libm`, which is software: every party gets the same integers.

use super::EncodingError;

/// `⌊Δ²⌋` for a scaled clipping norm `c = s·C` and `d` coordinates:
/// `Δ² = min( c² + d/4 + √(2 ln 1/β)·(c + √d/2), (c + √d)² )`
/// (Kairouz, Liu, Steinke 2021, equation for the conditional rounding, with granularity 1).
pub(super) fn squared(c: f64, coordinates: usize, beta: f64) -> u64 {
    let d = coordinates as f64;
    let root_d = libm::sqrt(d);
    let deviation = libm::sqrt(2.0 * libm::log(1.0 / beta));
    let likely = c * c + d / 4.0 + deviation * (c + root_d / 2.0);
    let certain = (c + root_d) * (c + root_d);
    // The caller bounds c by 2²⁸ and d by 2²⁸ + 2: below 2⁵⁸.
    libm::floor(likely.min(certain)) as u64
}

/// A binary64 number at or above `√squared`.
pub(super) fn root_up(squared: u64) -> f64 {
    // The conversion and the root each err by half a unit in the last place at most.
    libm::sqrt(squared as f64).next_up().next_up()
}

pub(super) fn clamp(bound: f64, expected_lot: f64) -> Result<i64, EncodingError> {
    let field = "expected_lot";
    if !(expected_lot.is_finite() && expected_lot > 0.0) {
        let range = "finite and above 0";
        return Err(EncodingError::OutOfRange { field, value: expected_lot, range });
    }
    let clamp = libm::floor(bound * (expected_lot + 9.0 * libm::sqrt(expected_lot)));
    if clamp > 1_099_511_627_776.0 {
        let range = "small enough for a clamp below 2⁴⁰";
        return Err(EncodingError::OutOfRange { field, value: expected_lot, range });
    }
    Ok(clamp as i64)
}

pub(super) fn ring_width(n: u32, clamp: i64, sigma_i: f64, coordinates: usize) -> Result<u32, EncodingError> {
    if n == 0 {
        return Err(EncodingError::OutOfRange { field: "n", value: 0.0, range: "at least 1" });
    }
    if !(sigma_i.is_finite() && sigma_i >= 0.0) {
        let range = "finite and at least 0";
        return Err(EncodingError::OutOfRange { field: "sigma_i", value: sigma_i, range });
    }
    let n = f64::from(n);
    let quantile = gaussian_quantile(libm::exp2(-40.0) / coordinates as f64);
    let span = 2.0 * (n * clamp as f64 + quantile * libm::sqrt(n) * sigma_i);
    let width = libm::floor(libm::log2(span)) as u32 + 1;
    if width > 32 { Err(EncodingError::RingTooNarrow(width)) } else { Ok(width.max(2)) }
}

/// The `k` at which `P(|N(0, 1)| > k) = p`, rounded up within 10⁻⁹, for `p` in `(0, 1)`.
pub(super) fn gaussian_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (0.0f64, 40.0f64);
    while high - low > 1e-9 {
        let middle = (low + high) / 2.0;
        if libm::erfc(middle / core::f64::consts::SQRT_2) > p { low = middle } else { high = middle }
    }
    high
}
