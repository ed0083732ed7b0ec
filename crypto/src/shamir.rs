//! Shamir's secret sharing over the Ristretto scalar field.
//!
//! Shamir, "How to share a secret" (1979). A secret is the value at zero of a polynomial of degree `r - 1`
//! whose other coefficients are uniform, **zero included**: drawing the leading coefficient again when it is
//! zero tells everyone which values the secret cannot have (RUSTSEC-2024-0398). The share of party `x` is the
//! value at `x`, a small positive integer; any `r` shares give the secret, fewer say nothing about it.
//!
//! Does not detect wrong shares: the protocol checks every share against its dealer's commitment, and
//! every reconstructed secret against its public point.

use alloc::vec::Vec;
use core::fmt;

use curve25519_dalek::scalar::Scalar;
use rand_core::CryptoRng;
use zeroize::Zeroize;

use crate::{group::random_scalar, secret::Secret};

/// A secret polynomial of degree `r - 1`.
pub struct Polynomial {
    /// Constant term first.
    coefficients: Secret<Vec<Scalar>>,
}

impl Polynomial {
    /// Shares `secret` so that `threshold` shares give it back. A threshold of zero counts as one.
    pub fn new(secret: &Secret<Scalar>, threshold: usize, rng: &mut impl CryptoRng) -> Self {
        let coefficients = Secret::build(|coefficients: &mut Vec<Scalar>| {
            // Reserved at once: growing would leave unwiped copies behind.
            coefficients.reserve_exact(threshold.max(1));
            coefficients.push(*secret.expose());
            for _ in 1..threshold {
                coefficients.push(*random_scalar(rng).expose());
            }
        });
        Self { coefficients }
    }

    /// The share of party `x`. Party zero does not exist: its share would be the secret.
    pub fn share(&self, x: u64) -> Secret<Scalar> {
        debug_assert_ne!(x, 0, "the share at zero is the secret");
        let x = Scalar::from(x);
        Secret::build(|share: &mut Scalar| {
            for coefficient in self.coefficients.expose().iter().rev() {
                *share = *share * x + coefficient;
            }
        })
    }
}

/// What each party's share counts for when a secret is put together: Lagrange's coefficients at zero for a
/// fixed set of parties.
#[derive(Clone, Debug)]
pub struct Weights(Vec<Scalar>);

impl Weights {
    /// For the parties `xs`, in the order in which their shares will come. Takes `xs.len()^2` small products.
    ///
    /// # Errors
    ///
    /// When there are none, one is zero, two are equal, or one exceeds 65536.
    pub fn new(xs: &[u64]) -> Result<Self, ShamirError> {
        if xs.is_empty() {
            return Err(ShamirError::NoParties);
        }
        for (index, x) in xs.iter().enumerate() {
            let seen = xs.iter().take(index).any(|other| other == x);
            if *x == 0 || *x > 65536 || seen {
                return Err(ShamirError::BadParty { x: *x });
            }
        }
        // weight_i = prod_{j != i} x_j / (x_j - x_i) = (prod_j x_j) / (x_i * prod_{j != i} (x_j - x_i))
        let product = xs.iter().fold(Scalar::ONE, |product, x| product * Scalar::from(*x));
        let mut weights: Vec<Scalar> = xs.iter().map(|x| denominator(*x, xs)).collect();
        // Nonzero, as the batch inversion needs: the parties are distinct and not zero.
        Scalar::invert_batch_alloc(&mut weights);
        weights.iter_mut().for_each(|weight| *weight *= product);
        Ok(Self(weights))
    }

    /// The secret of these shares, one per party, in the order of [`new`](Self::new).
    ///
    /// # Errors
    ///
    /// When there are more or fewer shares than parties.
    pub fn combine<'a>(
        &self,
        shares: impl ExactSizeIterator<Item = &'a Secret<Scalar>>,
    ) -> Result<Secret<Scalar>, ShamirError> {
        if shares.len() != self.0.len() {
            return Err(ShamirError::ShareCount { expected: self.0.len(), got: shares.len() });
        }
        Ok(Secret::build(|secret: &mut Scalar| {
            for (weight, share) in self.0.iter().zip(shares) {
                *secret += weight * share.expose();
            }
        }))
    }
}

/// `x * prod_{other != x} (other - x)`. Differences are below 2^17, so three of them fit a `u64` before the
/// field has to multiply.
fn denominator(x: u64, xs: &[u64]) -> Scalar {
    let (mut product, mut small, mut negative) = (Scalar::from(x), 1u64, false);
    for other in xs.iter().filter(|other| **other != x) {
        negative ^= *other < x;
        small *= other.abs_diff(x);
        if small >> 47 != 0 {
            product *= Scalar::from(small);
            small = 1;
        }
    }
    product *= Scalar::from(small);
    if negative { -product } else { product }
}

/// What can be wrong with a set of shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShamirError {
    /// No parties at all.
    NoParties,
    /// A party that is zero, too large, or named twice.
    BadParty {
        /// Its `x`.
        x: u64,
    },
    /// A number of shares that is not the number of parties.
    ShareCount {
        /// Parties.
        expected: usize,
        /// Shares.
        got: usize,
    },
}

impl fmt::Display for ShamirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoParties => f.write_str("no parties to take shares from"),
            Self::BadParty { x } => {
                write!(f, "party {x} is outside 1..=65536 or named twice")
            }
            Self::ShareCount { expected, got } => {
                write!(f, "{got} shares for {expected} parties; give one each")
            }
        }
    }
}

impl core::error::Error for ShamirError {}

impl fmt::Debug for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Polynomial(<redacted>)")
    }
}

impl Zeroize for Weights {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests;
