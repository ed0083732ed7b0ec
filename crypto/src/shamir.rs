//! Shamir's secret sharing over the Ristretto scalar field.
//!
//! Shamir, "How to share a secret" (1979). A secret is the value at zero of a polynomial of degree below `r`; the share of
//! party `x` is the value at `x`, a small positive integer. Any `r` shares give the secret, fewer say nothing about it.
//!
//! The polynomial is drawn by its forward differences at zero (its coefficients in Newton's basis of binomials, `f(x) = Σ
//! c_k · C(x, k)`, with `c_0` the secret): as with powers of `x`, uniform coefficients are a uniform polynomial, for the basis change is
//! invertible in a field this large. But one party's share follows from the one before it by additions alone, so that a thousand shares
//! cost a fifteenth of what Horner's rule takes. Coefficients are uniform **zero included**: drawing the leading
//! one again when it is zero tells everyone which values the secret cannot have (RUSTSEC-2024-0398).
//!
//! Does not detect wrong shares: the protocol checks every share against its dealer's commitment, and
//! every reconstructed secret against its public point.

use alloc::vec::Vec;
use core::{cell::Cell, fmt};

use curve25519_dalek::scalar::Scalar;
use rand_core::CryptoRng;
use zeroize::Zeroize;

use crate::{group::random_scalar, secret::Secret};

/// Every party's share of one secret.
pub struct Shares(Secret<Vec<Scalar>>);

impl Shares {
    /// Shares `secret` among the parties 1 to `parties`, so that `threshold` shares give it back. A threshold of zero
    /// counts as one.
    pub fn deal(secret: &Secret<Scalar>, threshold: usize, parties: usize, rng: &mut impl CryptoRng) -> Self {
        Self(Secret::build(|shares: &mut Vec<Scalar>| {
            // Reserved at once: growing would leave unwiped copies behind.
            shares.reserve_exact(parties);
            drop(Secret::build(|differences: &mut Vec<Scalar>| {
                differences.reserve_exact(threshold.max(1));
                differences.push(*secret.expose());
                for _ in 1..threshold {
                    differences.push(*random_scalar(rng).expose());
                }
                for left in (0..parties).rev() {
                    step(differences, left);
                    shares.extend(differences.first());
                }
            }));
        }))
    }

    /// The share of party `x`; `None` for party zero, whose share would be the secret, and beyond the last.
    pub fn expose(&self, x: u64) -> Option<&Scalar> {
        self.0.expose().get(usize::try_from(x.checked_sub(1)?).ok()?)
    }
}

/// Takes the differences at one place to those at the next, as far as the values at the `left` places after that depend on
/// them: `Δ^k f(x + 1) = Δ^k f(x) + Δ^(k+1) f(x)`.
fn step(differences: &mut [Scalar], left: usize) {
    for pair in Cell::from_mut(differences).as_slice_of_cells().windows(2).take(left.saturating_add(1)) {
        if let [this, next] = pair {
            this.set(this.get() + next.get());
        }
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

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shares(<redacted>)")
    }
}

impl Zeroize for Weights {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests;
