//! One round's mechanism, as the accountant sees it.
//!
//! `shares` organizations each add discrete Gaussian noise of scale `σ_i` to integer vectors of sensitivity
//! `Δ` in `d` coordinates. Two facts turn that into a continuous Gaussian:
//!
//! 1. The sum of `h` discrete Gaussians of scale `σ_i` is within `e^{±τ}` a coordinate of one of scale
//!    `σ = √h·σ_i`, with `τ = 10·Σ_{k=1}^{h−1} exp(−2π²σ_i²·k/(k+1))` (Kairouz, Liu, Steinke 2021, arXiv 2102.06387).
//! 2. A discrete Gaussian of scale `σ` around an integer is within `e^{±η}` a coordinate of this
//!    post-processing of a continuous one: add continuous noise of variance `σ² − r²`, then round with a
//!    discrete Gaussian of scale `r = 2.5` (Peikert 2010, theorem 3.1). The rounding's normalizer at a real
//!    point `c` is `Σ_j exp(−(j−c)²/2r²) = r√(2π)·(1 + 2Σ_k exp(−2π²r²k²)·cos 2πkc)`, by Poisson summation, so
//!    with `θ = 2·exp(−2π²·6.25)·1.01 < 10⁻⁵³` the densities' ratio lies in `(1−θ)/(1+θ)` to `(1+θ)/(1−θ)`, and `η ≤ 3θ`.
//!
//! What is accounted is the continuous Gaussian of noise multiplier `z_eff = √(σ² − 6.25)/Δ`, and the *gap*
//! `d·(τ + η)` by which a step's two output distributions may each deviate, pointwise in logarithm.

use super::{PrivacyError, Step, require};

/// Least scale of one organization's share, in ring units: below it the sum of shares is not close enough to
/// one discrete Gaussian.
pub const LEAST_SHARE: f64 = 2.5;

/// `r²`.
const ROUNDING_VARIANCE: f64 = 6.25;
/// `η`, with room to spare.
const ROUNDING_GAP: f64 = 1e-52;

/// The public numbers of one round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MechanismParams {
    /// Poisson sampling rate `q` of the protected units, above 0 and at most 1.
    pub sampling_rate: f64,
    /// Scale `σ_i` of one organization's discrete Gaussian share, ring units, at least [`LEAST_SHARE`].
    pub sigma_i: f64,
    /// How many shares the adversary does not know. Against the coordinator and `t_c` colluding clients:
    /// the plan's `h`. Against everybody else together: 1, the organization's own share alone.
    pub shares: u32,
    /// `Δ`, the exact sensitivity in ring units: [`crate::encoding::Encoding::integer_bound`].
    pub sensitivity: f64,
    /// Coordinates of the encoded vector, metrics included.
    pub dimension: u64,
}

/// A checked mechanism.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mechanism {
    params: MechanismParams,
}

impl Mechanism {
    /// Checks the numbers.
    ///
    /// # Errors
    ///
    /// A number out of its range; `σ_i` below [`LEAST_SHARE`]; noise so small against the sensitivity that
    /// no `ε` would be reported (`z_eff` below 0.01).
    pub fn new(params: MechanismParams) -> Result<Self, PrivacyError> {
        let MechanismParams { sampling_rate, sigma_i, shares, sensitivity, dimension } = params;
        let holds = sampling_rate > 0.0 && sampling_rate <= 1.0;
        require(holds, "sampling_rate", sampling_rate, "above 0 and at most 1")?;
        let holds = sigma_i.is_finite() && sigma_i >= LEAST_SHARE;
        require(holds, "sigma_i", sigma_i, "at least 2.5 ring units; raise the scale")?;
        require((1..=1 << 20).contains(&shares), "shares", f64::from(shares), "1 to 2²⁰")?;
        let holds = sensitivity.is_finite() && sensitivity > 0.0;
        require(holds, "sensitivity", sensitivity, "finite and above 0")?;
        let holds = (1..=1 << 40).contains(&dimension);
        require(holds, "dimension", dimension as f64, "1 to 2⁴⁰")?;
        let mechanism = Self { params };
        let z = mechanism.noise_multiplier();
        require(z >= 0.01, "the effective noise multiplier", z, "at least 0.01; add noise")?;
        Ok(mechanism)
    }

    /// The numbers as given.
    pub fn params(&self) -> &MechanismParams {
        &self.params
    }

    /// `σ`: the scale of the noise that the adversary does not know, in ring units.
    pub fn sigma(&self) -> f64 {
        libm::sqrt(f64::from(self.params.shares)) * self.params.sigma_i
    }

    /// `z_eff = √(σ² − 6.25)/Δ`, rounded down.
    pub fn noise_multiplier(&self) -> f64 {
        let MechanismParams { sigma_i, shares, sensitivity, .. } = self.params;
        let variance = f64::from(shares) * sigma_i * sigma_i;
        // Each operation errs by a part in 2⁵³; take more than all of them together away.
        let z = libm::sqrt((variance * (1.0 - 1e-15) - ROUNDING_VARIANCE).max(0.0)) / sensitivity;
        z * (1.0 - 1e-15)
    }

    /// `d·(τ + η)`, the pointwise gap of one step (see the module).
    pub fn gap(&self) -> f64 {
        let MechanismParams { sigma_i, shares, dimension, .. } = self.params;
        let exponent = -2.0 * core::f64::consts::PI * core::f64::consts::PI * sigma_i * sigma_i;
        let tau: f64 = (1..shares).map(|k| libm::exp(exponent * f64::from(k) / (f64::from(k) + 1.0))).sum();
        dimension as f64 * (10.0 * tau + ROUNDING_GAP) * (1.0 + 1e-9)
    }

    /// `count` steps of this mechanism, for a [`super::Composition`] or a ledger's entry.
    pub fn steps(&self, count: u64) -> Step {
        Step {
            sampling_rate: self.params.sampling_rate,
            noise_multiplier: self.noise_multiplier(),
            count,
            gap: self.gap(),
        }
    }
}
