//! Privacy accounting: from a mechanism's public numbers to `(ε, δ)`, always an upper bound.
//!
//! - [`Mechanism`]: what one round of the discrete Gaussian inside a sum amounts to, as a Poisson-subsampled
//!   continuous Gaussian of noise multiplier `z_eff` and a gap per step.
//! - [`Composition`]: any number of such steps, kept apart, never as added `ε`. [`Composition::epsilon`]
//!   convolves privacy-loss distributions; [`Composition::epsilon_rdp`] is the looser bound by Rényi orders
//!   that other tools report.
//! - [`noise_multiplier`]: the least noise that keeps a budget.
//!
//! Neighbours differ by adding or removing one unit (a patient, or an organization's contribution replaced by
//! zero). Assumes that lots are Poisson samples which the adversary cannot see, that every attempt has a
//! fresh lot and fresh noise, and that the sensitivity is exact (see [`crate::encoding`]). It does not know
//! the ledger: which steps were taken is the caller's record.

mod composition;
mod mechanism;
mod pld;
mod rdp;
#[cfg(test)]
mod tests;

use core::fmt;

pub use composition::{Composition, Step, noise_multiplier};
pub use mechanism::{LEAST_SHARE, Mechanism, MechanismParams};

/// Why an accounting question was refused.
#[derive(Clone, Debug, PartialEq)]
pub enum PrivacyError {
    /// A number is out of its range.
    OutOfRange {
        /// The field's name.
        field: &'static str,
        /// What it held.
        value: f64,
        /// What it may hold.
        range: &'static str,
    },
    /// No noise multiplier up to the given one keeps the budget.
    Unreachable {
        /// The `ε` asked for.
        epsilon: f64,
        /// The greatest noise multiplier tried.
        greatest: f64,
    },
}

impl fmt::Display for PrivacyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { field, value, range } => {
                write!(f, "{field} is {value}; it must be {range}")
            }
            Self::Unreachable { epsilon, greatest } => write!(
                f,
                "no noise multiplier up to {greatest} keeps epsilon at {epsilon}; lower the sampling rate or the steps"
            ),
        }
    }
}

impl core::error::Error for PrivacyError {}

/// Refuses a number outside `range` (`holds` decides), naming the field.
fn require(holds: bool, field: &'static str, value: f64, range: &'static str) -> Result<(), PrivacyError> {
    if holds { Ok(()) } else { Err(PrivacyError::OutOfRange { field, value, range }) }
}
