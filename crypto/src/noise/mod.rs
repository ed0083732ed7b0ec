//! Exact discrete Gaussian noise, and the generator of random bits behind it.
//!
//! [`DiscreteGaussian`] draws integers `x` with probability proportional to `exp(−x²/2σ²)` over all of `Z`
//! (Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020, section 1),
//! from tables that are exact by construction: no probability is rounded, so no `δ` is spent on the sampler.
//! `σ` is taken as the dyadic rational that the binary64 number is.
//!
//! [`BulkRng`] stretches 32 bytes of the operating system's randomness into the gigabytes that a large
//! noise vector takes.
//!
//! Assumes that the generator's output cannot be told from uniform bits. Time depends on the noise that is
//! drawn (a rejection is slower), never on the data that the noise protects: a sampler is told a scale and how many
//! integers are wanted, both public, and its draws are added to values that it never reads for anything else. What time
//! tells of the noise is which coordinates took the slow path, one in fifty, which says next to nothing of a sum of a
//! million draws. Noise that has been drawn must be wiped by whoever holds it.

mod bulk;
mod exact;
mod gaussian;
mod natural;
#[cfg(test)]
mod statistics;
mod table;
#[cfg(test)]
mod tests;

use core::fmt;

pub use bulk::BulkRng;
pub use gaussian::{DiscreteGaussian, MAX_SIGMA, MIN_SIGMA};

/// Why a sampler could not be made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NoiseError {
    /// The scale is not in [`MIN_SIGMA`]`..=`[`MAX_SIGMA`].
    Sigma(f64),
}

impl fmt::Display for NoiseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sigma(sigma) => write!(
                f,
                "the noise scale sigma is {sigma} ring units; it must lie in {MIN_SIGMA} to {MAX_SIGMA}: change the plan's scale"
            ),
        }
    }
}

impl core::error::Error for NoiseError {}
