//! `ε` from privacy-loss distributions: an upper bound, tight to well under a percent.
//!
//! The steps are the dominating pairs of the Poisson-subsampled Gaussian under adding or removing one unit
//! (Zhu, Dong, Wang, AISTATS 2022, arXiv 2106.08567): `A = (1−q)·N(0, z²) + q·N(1, z²)` against `B = N(0, z²)`, in both
//! directions; the answer is the larger one. What happens to one direction:
//!
//! 1. **Grid** ([`grid`]). Each step's loss distribution is moved to multiples of a width `h` such that
//!    its curve of `δ` over `e^ε` becomes the chords between grid points, which lie above it ("connect the
//!    dots", Doroshenko, Ghazi, Kamath, Kumar, Manurangsi, PoPETs 2022). So the grid's distribution dominates
//!    the true one, and composing dominating pairs dominates the composition.
//! 2. **Tilt** ([`tilt`]). Masses are multiplied by `e^{θ·loss}` and normalized, with the `θ` (the Rényi order
//!    less one) that is best for this `δ`. That centres the composed distribution near the `ε` asked for, so
//!    that Fourier's absolute errors are small against the tail that matters.
//! 3. **Convolve** ([`convolve`]). A Fourier transform over a window of the composed loss; what falls out
//!    of the window wraps into it, which only adds to `δ`, and what should have been above it is bounded by
//!    Chernoff and added. Rounding errors of the transforms are bounded from the computed spectrum and added.
//! 4. **Read** `ε` off, by exact interpolation inside a cell.
//!
//! Binary64 error elsewhere is covered by widening: masses by `10⁻¹¹` of themselves, losses by
//! `4·10⁻¹⁵·(1 + |loss|) + 10⁻⁹·h` upwards. Mass beyond the range that is integrated counts as infinite loss.

mod convolve;
mod fourier;
mod grid;
mod pair;
mod tilt;

use alloc::vec::Vec;

use super::Step;
use pair::{Direction, Pair};
pub(super) use tilt::Coarse;

/// Least `δ` that is answered.
pub(super) const LEAST_DELTA: f64 = 1e-100;

/// The upper bound on `ε` at `delta`, which lies in `LEAST_DELTA..1`. The steps are checked.
pub(super) fn epsilon(steps: &[Step], delta: f64) -> f64 {
    let count = steps.iter().map(|step| step.count).sum::<u64>() as f64;
    let gap: f64 = steps.iter().map(|step| step.count as f64 * step.gap).sum();
    // Beyond this many deviations there is a millionth of δ, over all steps.
    let reach = upper_tail_inverse(delta * 1e-6 / count.max(1.0));
    let infinite = count * 2.0 * upper_tail(reach);
    // Pairs within e^{±g}: δ(ε) ≤ e^g·δ'(ε − 2g).
    let left = delta * libm::exp(-gap) * (1.0 - 1e-15) - infinite;
    let one_way = |direction| {
        let pairs: Vec<(Pair, f64)> = steps
            .iter()
            .map(|step| (Pair::new(step.sampling_rate, step.noise_multiplier, direction), step.count as f64))
            .collect();
        convolve::epsilon(&pairs, reach, left)
    };
    if steps.is_empty() {
        return 0.0;
    }
    let removed = one_way(Direction::Remove);
    // Without sampling the two directions mirror each other.
    let sampled = steps.iter().any(|step| step.sampling_rate < 1.0);
    let added = if sampled { one_way(Direction::Add) } else { 0.0 };
    (removed.max(added) + 2.0 * gap).max(0.0)
}

/// `P(N(0, 1) > t)`, rounded up.
fn upper_tail(t: f64) -> f64 {
    0.5 * libm::erfc(t / core::f64::consts::SQRT_2) * (1.0 + 1e-9)
}

/// A `t` with `P(N(0, 1) > t) ≤ p`, at most 37.
fn upper_tail_inverse(p: f64) -> f64 {
    let (mut low, mut high) = (0.0, 37.0);
    while high - low > 1e-3 {
        let middle = (low + high) / 2.0;
        if upper_tail(middle) > p { low = middle } else { high = middle }
    }
    high
}
