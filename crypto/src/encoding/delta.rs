//! A delta encoded without randomness: for one that is private already, or is not meant to be.
//!
//! In `patient-local` every local step was noisy by itself, so the delta is post-processing of released numbers, and so is
//! whatever happens to it here. In `none` nothing is promised. The delta is clipped to `C·√(1−κ)`, scaled, and rounded to the
//! nearest integer (ties to even); loss and accuracy become the two last coordinates as they do for a patient, but are not
//! clipped to their range, because noise may have carried them out of it. Every coordinate is clamped to `±⌊s·C⌋`, so `n` of
//! them never wrap in a ring of [`Encoding::ring_width_for`] that many.

use alloc::vec::Vec;

use super::lot::MARGIN;
use super::{Encoding, EncodingError, METRIC_COORDINATES, Patient, round};

impl Encoding {
    /// `⌊s·C⌋`: the greatest magnitude of a coordinate of an encoded delta.
    pub fn delta_clamp(&self) -> i64 {
        // At most 2²⁸ by the parameters' check.
        libm::floor(self.params.scale * self.params.clip) as i64
    }

    /// Ring values of `width` bits of a delta (one value a trained coordinate), a mean loss and an accuracy. What is not finite
    /// gives zeros in its place, and [`Patient::Dropped`].
    ///
    /// # Errors
    ///
    /// A delta of another length, or `width` not 2 to 32.
    pub fn encode_delta(
        &self,
        delta: &[f32],
        loss: f64,
        accuracy: f64,
        width: u32,
    ) -> Result<(Vec<u32>, Patient), EncodingError> {
        let expected = self.params.dimension as usize;
        if delta.len() != expected {
            return Err(EncodingError::Length { expected, got: delta.len() });
        }
        if !(2..=32).contains(&width) {
            let value = f64::from(width);
            return Err(EncodingError::OutOfRange { field: "width", value, range: "2 to 32 bits" });
        }
        let (clamp, mask) = (self.delta_clamp() as f64, u32::MAX >> (32 - width));
        // Small enough for the cast, whose low bits are the ring's value.
        let ring = |value: f64| libm::rint(value).clamp(-clamp, clamp) as i64 as u32 & mask;
        let norm_squared = round::norm_squared(delta);
        let riding = self.metric_unit() * self.params.scale;
        let metrics = [riding * loss / self.params.loss_max, riding * accuracy];
        if !norm_squared.is_finite() || !metrics.iter().all(|metric| metric.is_finite()) {
            return Ok((alloc::vec![0; expected + METRIC_COORDINATES], Patient::Dropped));
        }
        let norm = libm::sqrt(norm_squared);
        let limit = self.params.clip * libm::sqrt(1.0 - self.params.metrics_share) * MARGIN;
        let factor = self.params.scale * if norm > limit { limit / norm } else { 1.0 };
        let trained = delta.iter().map(|&value| ring(f64::from(value) * factor));
        Ok((trained.chain(metrics.map(ring)).collect(), Patient::Counted))
    }
}
