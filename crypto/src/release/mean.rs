//! The mean update out of the ring sum.
//!
//! Each coordinate of the sum is an integer in ring units: the plan's scale `s` times the sum of clipped
//! gradients, plus noise. It is divided by `s·L·|S|/n`, where `L` is the lot that all `n` organizations of
//! the plan together are expected to draw and `|S|` is how many of them survived the round. The number of
//! patients that were actually drawn is private, so nothing is ever divided by it. Where organizations send deltas,
//! the sum is divided by `s·|S|`: each survivor counts alike.

use alloc::vec::Vec;

use super::{ReleaseError, require};

/// The mean of the trained coordinates, as every party computes it: the divisor is
/// `scale · expected_lot · survivors / n`, evaluated left to right in binary64; each quotient is one
/// binary64 division of the (exactly converted) sum, rounded once more to binary32.
///
/// `sum` holds the centred ring values of the trained coordinates only, without metrics; `scale` is in ring
/// units per unit of gradient; `expected_lot` in patients, over all `n` organizations.
///
/// # Errors
///
/// `scale` or `expected_lot` not finite and positive, `survivors` not in `1..=n`, a coordinate of magnitude
/// above 2⁵³ (not representable, and no honest ring sum reaches it), a mean beyond binary32.
pub fn mean_from_sum(
    sum: &[i64],
    scale: f64,
    expected_lot: f64,
    survivors: u32,
    n: u32,
) -> Result<Vec<f32>, ReleaseError> {
    let positive = |x: f64| x.is_finite() && x > 0.0;
    require(positive(scale), "scale", scale, "finite and above 0")?;
    require(positive(expected_lot), "expected_lot", expected_lot, "finite and above 0")?;
    let known = (1..=n).contains(&survivors);
    require(known, "survivors", f64::from(survivors), "at least 1 and at most the cohort")?;
    let divisor = scale * expected_lot * f64::from(survivors) / f64::from(n);
    require(positive(divisor), "scale · expected_lot", divisor, "finite and above 0")?;
    divide(sum, divisor)
}

/// The mean of the survivors' deltas: as [`mean_from_sum`], with the divisor `scale · survivors`.
///
/// # Errors
///
/// `scale` not finite and positive, `survivors` 0, and a coordinate as in [`mean_from_sum`].
pub fn mean_of_deltas(sum: &[i64], scale: f64, survivors: u32) -> Result<Vec<f32>, ReleaseError> {
    let positive = |x: f64| x.is_finite() && x > 0.0;
    require(positive(scale), "scale", scale, "finite and above 0")?;
    require(survivors > 0, "survivors", f64::from(survivors), "at least 1")?;
    let divisor = scale * f64::from(survivors);
    require(positive(divisor), "scale · survivors", divisor, "finite and above 0")?;
    divide(sum, divisor)
}

fn divide(sum: &[i64], divisor: f64) -> Result<Vec<f32>, ReleaseError> {
    sum.iter()
        .enumerate()
        .map(|(index, &value)| {
            let exact = value.unsigned_abs() <= 1 << 53;
            let mean = (value as f64 / divisor) as f32;
            if exact && mean.is_finite() {
                Ok(mean)
            } else {
                Err(ReleaseError::NotFinite { what: "the mean update", index })
            }
        })
        .collect()
}
