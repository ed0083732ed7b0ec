//! From patients' gradients to a vector of ring values, with an exact integer sensitivity.
//!
//! One organization, one round (steps 2 to 6 of the mechanism in the privacy page of the manual):
//!
//! 1. each patient's gradient (all records summed) and metrics are clipped, scaled by `s` and rounded to
//!    integers, every coordinate stochastically and on its own; the integer vector's norm is then computed
//!    exactly, and the rounding is drawn again until it is at most `Δ` ([`LotSum::add_patient`]);
//! 2. the lot's sum is clamped, the organization's share of discrete Gaussian noise is added, and the result
//!    is reduced modulo `2^w` ([`LotSum::finish`]);
//! 3. after aggregation a ring value is lifted to the integer nearest zero ([`centered`]), and the two metric
//!    coordinates are read out ([`Encoding::metrics`]).
//!
//! Two privacy units encode what their local steps came to: `organization` as one contribution of a lot of one
//! ([`LotSum::add_contribution`]); `patient-local`, whose steps were private one by one ([`LotSum::finish_here`]), and
//! `none` without randomness ([`Encoding::encode_delta`]).
//!
//! Clipping and conditional rounding follow Kairouz, Liu and Steinke, "The Distributed Discrete Gaussian
//! Mechanism" (ICML 2021, arXiv 2102.06387), section 4, without the rotation and with the rounding drawn per
//! patient. What the accountant uses is the integer `Δ²` that is checked here, so no floating-point error
//! can raise the sensitivity: a wrong float costs accuracy or a patient, never privacy.
//!
//! Assumes that the caller draws the lot with [`draw_lot`] from the operating system's generator, that it adds
//! each patient once, and that it never encodes the same lot or noise twice. Does not mask anything: the
//! output still reveals more than the sum does and goes straight into secure aggregation.

mod bound;
mod delta;
mod lot;
mod metrics;
mod round;
#[cfg(test)]
mod tests;

use core::fmt;

pub use lot::{LotSum, Patient, centered_sum, draw_lot};
pub use metrics::Metrics;

/// Coordinates after the gradient's: clipped loss, then correctness.
pub const METRIC_COORDINATES: usize = 2;

/// What the plan says about encoding. All of it is public.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EncodingParams {
    /// Trained coordinates `d`, without metrics: at least 1.
    pub dimension: u32,
    /// Clipping norm `C`, in units of the gradient, over gradient and metrics together.
    pub clip: f64,
    /// Ring units per unit of gradient, `s`. With `s·C ≥ 4√d`, rounding raises the sensitivity by about 1 %;
    /// at `8√d` by 0.4 %. More costs bits on the wire.
    pub scale: f64,
    /// The part `κ` of the squared clipping norm that metrics ride on, above 0 and below 1; 0.05 by default.
    pub metrics_share: f64,
    /// Losses are clipped to `[0, loss_max]`.
    pub loss_max: f64,
    /// A rounding is drawn again with at most this probability `β`; 0.01 by default.
    pub beta: f64,
}

/// Checked encoding parameters and what follows from them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Encoding {
    params: EncodingParams,
    bound_squared: u64,
}

impl Encoding {
    /// Checks `params` and derives the integer bound.
    ///
    /// # Errors
    ///
    /// A field out of its range, or `scale · clip` above 2²⁸ (no ring of 32 bits could hold a sum).
    pub fn new(params: EncodingParams) -> Result<Self, EncodingError> {
        let EncodingParams { dimension, clip, scale, metrics_share, loss_max, beta } = params;
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let checks = [
            ((1..=1 << 28).contains(&dimension), "dimension", f64::from(dimension), "1 to 2²⁸"),
            (positive(clip), "clip", clip, "finite and above 0"),
            (positive(scale), "scale", scale, "finite and above 0"),
            (
                metrics_share > 0.0 && metrics_share < 1.0,
                "metrics_share",
                metrics_share,
                "above 0 and below 1",
            ),
            (positive(loss_max), "loss_max", loss_max, "finite and above 0"),
            ((1e-30..=0.5).contains(&beta), "beta", beta, "from 10⁻³⁰ to 0.5"),
            (
                (1.0..=268_435_456.0).contains(&(scale * clip)),
                "scale · clip",
                scale * clip,
                "from 1 to 2²⁸; choose the scale near 4·√dimension / clip",
            ),
        ];
        for (holds, field, value, range) in checks {
            if !holds {
                return Err(EncodingError::OutOfRange { field, value, range });
            }
        }
        let coordinates = dimension as usize + METRIC_COORDINATES;
        Ok(Self { params, bound_squared: bound::squared(scale * clip, coordinates, beta) })
    }

    /// The parameters as given.
    pub fn params(&self) -> &EncodingParams {
        &self.params
    }

    /// Coordinates of the encoded vector: the gradient's, then [`METRIC_COORDINATES`].
    pub fn vector_len(&self) -> usize {
        self.params.dimension as usize + METRIC_COORDINATES
    }

    /// `Δ²` exactly: no patient's integer vector has a larger squared norm.
    pub fn integer_bound_squared(&self) -> u64 {
        self.bound_squared
    }

    /// `Δ`, the sensitivity in ring units, rounded up: what the accountant takes.
    pub fn integer_bound(&self) -> f64 {
        bound::root_up(self.bound_squared)
    }

    /// The longest gradient that is not shrunk, in units of the gradient: `C·√(1−κ)`, less a margin for float error.
    pub fn gradient_limit(&self) -> f64 {
        self.params.clip * libm::sqrt(1.0 - self.params.metrics_share) * lot::MARGIN
    }

    /// `B∞ = Δ·(L + 9√L)`, rounded down: the clamp of each coordinate of one organization's sum, for an
    /// expected lot of `L` patients. Clamping moves a coordinate of two neighbouring sums no further apart,
    /// so it costs no privacy.
    ///
    /// # Errors
    ///
    /// `expected_lot` not finite and positive, or a clamp above 2⁴⁰.
    pub fn clamp(&self, expected_lot: f64) -> Result<i64, EncodingError> {
        bound::clamp(self.integer_bound(), expected_lot)
    }

    /// The ring's width `w` in bits for `n` organizations whose largest expected lot is `expected_lot_max`
    /// and whose noise shares have scale `sigma_i`, all in ring units:
    /// `w = ⌊log₂ 2(n·B∞ + k·√n·σ_i)⌋ + 1`, with `k` the two-sided Gaussian quantile at `2⁻⁴⁰` over the number
    /// of coordinates. Wrapping would cost accuracy, never privacy.
    ///
    /// # Errors
    ///
    /// An argument out of range, or a width above 32: lower the scale or the lot.
    pub fn ring_width(&self, n: u32, expected_lot_max: f64, sigma_i: f64) -> Result<u32, EncodingError> {
        self.ring_width_for(n, self.clamp(expected_lot_max)?, sigma_i)
    }

    /// The ring's width for sums in which each of `n` organizations' coordinates are clamped to `±clamp`, with noise shares
    /// of scale `sigma_i` (0: none): `w = ⌊log₂ 2(n·clamp + k·√n·σ_i)⌋ + 1`.
    ///
    /// # Errors
    ///
    /// As [`Encoding::ring_width`].
    pub fn ring_width_for(&self, n: u32, clamp: i64, sigma_i: f64) -> Result<u32, EncodingError> {
        bound::ring_width(n, clamp, sigma_i, self.vector_len())
    }

    /// `⌊Δ⌋`: no coordinate of a single contribution is larger, so clamping to it changes nothing.
    pub fn clamp_of_one(&self) -> i64 {
        // The bound is below 2⁵⁸: the cast is exact enough to be within one, and saturates.
        libm::floor(self.integer_bound()) as i64
    }
}

/// Lifts a value of the ring `Z/2^width` to the integer nearest zero, in `[−2^(w−1), 2^(w−1))`. Bits above
/// the width are ignored. `width` is 1 to 32; a width above 32 counts as 32, and 0 gives 0.
pub fn centered(value: u32, width: u32) -> i64 {
    if width == 0 {
        return 0;
    }
    let unused = 32 - width.min(32);
    // Move the ring's top bit to the sign bit and back.
    i64::from(((value << unused) as i32) >> unused)
}

/// Why encoding was refused.
#[derive(Clone, Debug, PartialEq)]
pub enum EncodingError {
    /// A parameter is out of its range.
    OutOfRange {
        /// The field's name.
        field: &'static str,
        /// What it held.
        value: f64,
        /// What it may hold.
        range: &'static str,
    },
    /// The sum would not fit: the width that it needs, in bits.
    RingTooNarrow(u32),
    /// A vector has the wrong length: a fault of the local trainer or of the caller.
    Length {
        /// Coordinates expected.
        expected: usize,
        /// Coordinates got.
        got: usize,
    },
    /// A sum is longer than any sum of that many clipped vectors: whoever made it did not clip.
    Norm {
        /// The sum's norm, ring units.
        norm: f64,
        /// `Δ · patients`.
        bound: f64,
    },
}

impl fmt::Display for EncodingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { field, value, range } => {
                write!(f, "{field} is {value}; it must be {range}")
            }
            Self::RingTooNarrow(width) => write!(
                f,
                "the sum needs a ring of {width} bits, and 32 is the most; lower the scale or the expected lot"
            ),
            Self::Length { expected, got } => {
                write!(f, "a vector has {got} coordinates where {expected} are expected")
            }
            Self::Norm { norm, bound } => write!(
                f,
                "a sum has norm {norm:.0}, and that of so many clipped vectors is at most {bound:.0}: they were not clipped"
            ),
        }
    }
}

impl core::error::Error for EncodingError {}
