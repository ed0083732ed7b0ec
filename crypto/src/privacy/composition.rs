//! Steps composed, and the questions one asks of them.

use alloc::vec::Vec;
use core::cmp::Ordering;

use super::{PrivacyError, pld, rdp, require};

/// Some number of equal steps: a Poisson-subsampled Gaussian with sensitivity 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Sampling rate `q`, above 0 and at most 1.
    pub sampling_rate: f64,
    /// Noise multiplier `z`: standard deviation over sensitivity, 0.01 to 10⁶.
    pub noise_multiplier: f64,
    /// How many such steps.
    pub count: u64,
    /// Pointwise gap of one step (see [`super::Mechanism::gap`]); 0 for a continuous Gaussian.
    pub gap: f64,
}

/// A list of steps. Equal ones are counted together, and the order in which they came leaves no trace: not even in the
/// last bit of `ε`, which two parties who read one ledger differently must agree on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Composition {
    /// Sorted, without two of one kind.
    steps: Vec<Step>,
}

impl Composition {
    /// Nothing yet: `ε = 0`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds steps.
    ///
    /// # Errors
    ///
    /// A field out of its range; more than 10⁹ steps in all.
    pub fn push(&mut self, step: Step) -> Result<(), PrivacyError> {
        let (q, z) = (step.sampling_rate, step.noise_multiplier);
        require(q > 0.0 && q <= 1.0, "sampling_rate", q, "above 0 and at most 1")?;
        require((0.01..=1e6).contains(&z), "noise_multiplier", z, "from 0.01 to 10⁶")?;
        require((0.0..=1e-3).contains(&step.gap), "gap", step.gap, "from 0 to 10⁻³")?;
        let total = self.count().saturating_add(step.count);
        require(total <= 1_000_000_000, "the number of steps", total as f64, "at most 10⁹")?;
        match self.steps.binary_search_by(|old| order(old, &step)) {
            Ok(place) => {
                if let Some(old) = self.steps.get_mut(place) {
                    old.count += step.count;
                }
            }
            Err(place) if step.count > 0 => self.steps.insert(place, step),
            Err(_) => {}
        }
        Ok(())
    }

    /// The distinct steps, in an order that does not depend on how they came.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How many steps in all.
    pub fn count(&self) -> u64 {
        self.steps.iter().fold(0, |count, step| count.saturating_add(step.count))
    }

    /// An upper bound on `ε` at this `δ`, from privacy-loss distributions.
    ///
    /// # Errors
    ///
    /// `δ` not from 10⁻¹⁰⁰ to below 1.
    pub fn epsilon(&self, delta: f64) -> Result<f64, PrivacyError> {
        check_delta(delta)?;
        Ok(pld::epsilon(&self.steps, delta))
    }

    /// An upper bound on `ε` at this `δ` from Rényi divergences: looser, and what other accountants print.
    ///
    /// # Errors
    ///
    /// `δ` not from 10⁻¹⁰⁰ to below 1.
    pub fn epsilon_rdp(&self, delta: f64) -> Result<f64, PrivacyError> {
        check_delta(delta)?;
        Ok(rdp::epsilon(&self.steps, delta))
    }

    /// How many more of `step` fit (its own count is ignored) while `ε` stays at most `epsilon` at `delta`:
    /// 0 if not even one does, at most `most`.
    ///
    /// # Errors
    ///
    /// As [`Composition::epsilon`] and [`Composition::push`].
    pub fn remaining(&self, step: Step, epsilon: f64, delta: f64, most: u64) -> Result<u64, PrivacyError> {
        let fits = |count: u64| {
            let mut longer = self.clone();
            longer.push(Step { count, ..step })?;
            Ok::<bool, PrivacyError>(longer.epsilon(delta)? <= epsilon)
        };
        if fits(most)? {
            return Ok(most);
        }
        // `low` fits (0 by definition of the answer), `high` does not.
        let (mut low, mut high) = (0, most);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if fits(middle)? { low = middle } else { high = middle }
        }
        Ok(low)
    }
}

/// By kind, whatever the count.
fn order(a: &Step, b: &Step) -> Ordering {
    // Zeros of either sign are one number: the checks leave no other values that compare equal and differ.
    let by = |a: f64, b: f64| (a + 0.0).total_cmp(&(b + 0.0));
    by(a.sampling_rate, b.sampling_rate)
        .then(by(a.noise_multiplier, b.noise_multiplier))
        .then(by(a.gap, b.gap))
}

fn check_delta(delta: f64) -> Result<(), PrivacyError> {
    require((pld::LEAST_DELTA..1.0).contains(&delta), "delta", delta, "from 10⁻¹⁰⁰ to below 1")
}

/// The least noise multiplier, to 10⁻³ and rounded up, with which `steps` steps at sampling rate `q` keep
/// `ε ≤ epsilon` at `delta`.
///
/// # Errors
///
/// A number out of its range; a budget that no multiplier up to 10⁶ keeps.
pub fn noise_multiplier(
    epsilon: f64,
    delta: f64,
    sampling_rate: f64,
    steps: u64,
) -> Result<f64, PrivacyError> {
    let holds = epsilon.is_finite() && epsilon > 0.0;
    require(holds, "epsilon", epsilon, "finite and above 0")?;
    let steps_at = |thousandths: u64| {
        let noise_multiplier = thousandths as f64 / 1000.0;
        let mut composition = Composition::new();
        composition.push(Step { sampling_rate, noise_multiplier, count: steps, gap: 0.0 })?;
        Ok::<_, PrivacyError>(composition)
    };
    // Rényi orders are quick and loose: they say about where to look.
    let (mut low, mut high) = (LEAST_THOUSANDTHS - 1, LEAST_THOUSANDTHS);
    while high < MOST_THOUSANDTHS && steps_at(high)?.epsilon_rdp(delta)? > epsilon {
        (low, high) = (high, (high * 2).min(MOST_THOUSANDTHS));
    }
    while high - low > high / 64 + 1 {
        let middle = low + (high - low) / 2;
        if steps_at(middle)?.epsilon_rdp(delta)? <= epsilon { high = middle } else { low = middle }
    }
    // Make `high` keep the budget and `low` break it by the tight bound.
    let spent = |thousandths: u64| steps_at(thousandths)?.epsilon(delta);
    while spent(high)? > epsilon {
        if high == MOST_THOUSANDTHS {
            return Err(PrivacyError::Unreachable { epsilon, greatest: 1e6 });
        }
        (low, high) = (high, (high * 2).min(MOST_THOUSANDTHS));
    }
    while low >= LEAST_THOUSANDTHS && spent(low)? <= epsilon {
        (low, high) = ((low - low / 8).min(low - 1), low);
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if spent(middle)? <= epsilon { high = middle } else { low = middle }
    }
    Ok(high as f64 / 1000.0)
}

/// The accountant's range of noise multipliers, 0.01 to 10⁶, in thousandths.
const LEAST_THOUSANDTHS: u64 = 10;
const MOST_THOUSANDTHS: u64 = 1_000_000_000;
