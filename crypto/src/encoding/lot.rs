//! The running sum of one organization's lot, and its last step: clamp, noise, ring.

use alloc::vec::Vec;
use core::fmt;

use rand_core::CryptoRng;
use zeroize::Zeroize;

use super::{Encoding, EncodingError, METRIC_COORDINATES, centered, round};
use crate::noise::DiscreteGaussian;

/// A norm is clipped to this part of its bound, so that float error rarely makes the integer check fail.
pub(super) const MARGIN: f64 = 1.0 - 1.0 / 1024.0;

/// Roundings drawn before a patient is given up. Each is refused with probability `β` at most (0.5 in the
/// worst admissible plan), so this happens to no vector that was clipped right.
const ATTEMPTS: u32 = 256;

/// What became of a patient. How many were dropped never leaves the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Patient {
    /// Added to the sum.
    Counted,
    /// The gradient or the loss was infinite or not a number: nothing was added.
    Dropped,
}

/// Draws a lot: each of `patients` patients, by number, independently with probability `rate`, rounded down to a
/// multiple of 2⁻⁶⁴ (Poisson sampling). Amplification rests on nobody else's knowing who was drawn: `rng` must be
/// seeded by the operating system.
pub fn draw_lot(rate: f64, patients: usize, rng: &mut impl CryptoRng) -> Vec<usize> {
    if rate >= 1.0 {
        return (0..patients).collect();
    }
    // The cast saturates and drops the fraction, so the rate is never above the plan's; not a number draws nobody.
    let below = (rate * 18_446_744_073_709_551_616.0) as u64;
    (0..patients).filter(|_| rng.next_u64() < below).collect()
}

/// The sum of a lot's clipped and rounded vectors. Wiped on drop: it holds patients' data without noise.
pub struct LotSum<'a> {
    encoding: &'a Encoding,
    sum: Vec<i64>,
    /// One patient's integers.
    scratch: Vec<i32>,
}

impl<'a> LotSum<'a> {
    /// An empty lot.
    pub fn new(encoding: &'a Encoding) -> Self {
        let length = encoding.vector_len();
        Self { encoding, sum: alloc::vec![0; length], scratch: alloc::vec![0; length] }
    }

    /// A lot that somebody else has clipped, rounded and summed: [`Encoding::vector_len`] values, the metrics last, of
    /// `patients` patients. That each of them was clipped cannot be seen in a sum; what every sum of clipped vectors keeps to
    /// is checked, exactly: its norm is at most `Δ · patients` (triangle inequality).
    ///
    /// # Errors
    ///
    /// Another length, or [`EncodingError::Norm`].
    pub fn from_clipped(
        encoding: &'a Encoding,
        values: Vec<i64>,
        patients: usize,
    ) -> Result<Self, EncodingError> {
        // In the wrapper first, so that the values are wiped however this ends.
        let lot = Self { encoding, sum: values, scratch: Vec::new() };
        let (expected, got) = (encoding.vector_len(), lot.sum.len());
        if got != expected {
            return Err(EncodingError::Length { expected, got });
        }
        // What saturates is above every bound: Δ² is below 2⁶⁴, and patients count up to 2³².
        let square = |value: &i64| {
            let magnitude = u128::from(value.unsigned_abs());
            magnitude.saturating_mul(magnitude)
        };
        let squared = lot.sum.iter().map(square).fold(0u128, u128::saturating_add);
        let patients = u128::from(u32::try_from(patients).unwrap_or(u32::MAX));
        let bound = u128::from(encoding.integer_bound_squared()).saturating_mul(patients * patients);
        if squared > bound {
            return Err(EncodingError::Norm {
                norm: libm::sqrt(squared as f64),
                bound: libm::sqrt(bound as f64),
            });
        }
        Ok(lot)
    }

    /// Clips, scales, rounds and adds one patient: the gradient of all of the patient's records together,
    /// the mean loss over them, and whether the patient was classified correctly.
    ///
    /// # Errors
    ///
    /// A gradient whose length is not the plan's dimension.
    pub fn add_patient(
        &mut self,
        gradient: &[f32],
        loss: f32,
        correct: bool,
        rng: &mut impl CryptoRng,
    ) -> Result<Patient, EncodingError> {
        self.add(gradient, loss, if correct { 1.0 } else { 0.0 }, rng)
    }

    /// The same for one organization's whole contribution: its delta, and the mean loss and accuracy of its
    /// local training. A sum of one such vector is what the `organization` unit sends. One that is not finite
    /// counts as zero, which is what the guarantee compares a contribution with.
    ///
    /// # Errors
    ///
    /// A delta whose length is not the plan's dimension.
    pub fn add_contribution(
        &mut self,
        delta: &[f32],
        loss: f32,
        accuracy: f32,
        rng: &mut impl CryptoRng,
    ) -> Result<Patient, EncodingError> {
        self.add(delta, loss, accuracy, rng)
    }

    fn add(
        &mut self,
        gradient: &[f32],
        loss: f32,
        correct: f32,
        rng: &mut impl CryptoRng,
    ) -> Result<Patient, EncodingError> {
        let params = self.encoding.params();
        let expected = params.dimension as usize;
        if gradient.len() != expected {
            return Err(EncodingError::Length { expected, got: gradient.len() });
        }
        // Empty in a lot that came from elsewhere.
        self.scratch.resize(self.encoding.vector_len(), 0);
        let norm_squared = round::norm_squared(gradient);
        if !norm_squared.is_finite() || !loss.is_finite() || !correct.is_finite() {
            return Ok(Patient::Dropped);
        }
        let norm = libm::sqrt(norm_squared);
        let limit = self.encoding.gradient_limit();
        let shrink = if norm > limit { limit / norm } else { 1.0 };
        let factor = params.scale * shrink;
        let metrics = self.encoding.metric_values(loss, correct);
        let bound = self.encoding.integer_bound_squared();
        let (trained, riding) = self.scratch.split_at_mut(expected);
        for _ in 0..ATTEMPTS {
            let mut total = round::stochastic(gradient, factor, trained, rng);
            total += round::stochastic(&metrics, params.scale, riding, rng);
            if total <= bound {
                for (sum, &value) in self.sum.iter_mut().zip(&self.scratch) {
                    // Values are below 2³⁰: 2³³ patients, which no loop reaches, before this could wrap.
                    *sum = sum.wrapping_add(i64::from(value));
                }
                return Ok(Patient::Counted);
            }
        }
        Ok(Patient::Dropped)
    }

    /// Adds noise (fresh, also to an empty lot) and gives the noisy sum of a step that an organization takes by
    /// itself, centred, for its own use: `patient-local`, where `noise` has the whole scale `σ`. Neither clamp nor
    /// ring: nothing of it is sent as it is. `rng` must be seeded by the operating system.
    pub fn finish_here(mut self, noise: &DiscreteGaussian, rng: &mut impl CryptoRng) -> Vec<i64> {
        noise.add_to(&mut self.sum, rng);
        core::mem::take(&mut self.sum)
    }

    #[cfg(test)]
    pub(super) fn values(&self) -> &[i64] {
        &self.sum
    }

    /// Clamps each coordinate to `±clamp`, adds the organization's share of noise (fresh, also to an empty
    /// lot) and reduces modulo `2^width`. `rng` must be seeded by the operating system.
    ///
    /// # Errors
    ///
    /// `width` not in `2..=32`, or `clamp` negative.
    pub fn finish(
        mut self,
        clamp: i64,
        noise: &DiscreteGaussian,
        width: u32,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u32>, EncodingError> {
        if !(2..=32).contains(&width) {
            let value = f64::from(width);
            return Err(EncodingError::OutOfRange { field: "width", value, range: "2 to 32 bits" });
        }
        if clamp < 0 {
            let value = clamp as f64;
            return Err(EncodingError::OutOfRange { field: "clamp", value, range: "at least 0" });
        }
        for value in &mut self.sum {
            *value = (*value).clamp(-clamp, clamp);
        }
        noise.add_to(&mut self.sum, rng);
        let mask = u32::MAX >> (32 - width);
        Ok(self.sum.iter().map(|&value| value as u32 & mask).collect())
    }
}

impl Drop for LotSum<'_> {
    fn drop(&mut self) {
        self.sum.zeroize();
        self.scratch.zeroize();
    }
}

impl zeroize::ZeroizeOnDrop for LotSum<'_> {}

impl fmt::Debug for LotSum<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LotSum(<redacted>)")
    }
}

/// Lifts a whole released ring vector; see [`centered`].
pub fn centered_sum(values: &[u32], width: u32) -> Vec<i64> {
    values.iter().map(|&value| centered(value, width)).collect()
}

const _: () = assert!(METRIC_COORDINATES == 2, "add_patient passes two metrics");
