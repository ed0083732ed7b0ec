//! Local steps between two rounds, for the units in which organizations send a change of weights.
//!
//! - `patient-local`: every step is DP-SGD (Abadi et al., 2016) by itself. A fresh Poisson lot is clipped and rounded patient by
//!   patient exactly as for the `patient` unit, and the *whole* noise `σ` goes onto the integer sum before anything is computed
//!   from it. Loss and accuracy ride inside that sum. So all that follows (the steps, the delta, its clipping and encoding, the
//!   round in which it is sent) is post-processing: it costs nothing and is done without randomness.
//! - `organization`: plain gradient descent on drawn batches; the delta is one contribution, clipped, rounded at random with the
//!   integer check and noised with this organization's share.
//! - `none`: the same without noise.
//!
//! In `patient-local` the number of patients drawn is private, so a noisy sum is divided by `expected_lot / n`, the
//! same at every organization: one that has more patients moves further, as it does in `patient`.

use std::ops::Range;

use consilium_crypto::{
    encoding::{LotSum, Patient, draw_lot},
    noise::BulkRng,
    release::AdapterState,
};
use consilium_proto::plan::{Local, VerifiedPlan};

use super::lot::{LotFailed, failed, noise, sum_lot, tensors};
use crate::{
    model::AdapterTensors,
    trainer::{OwnDelta, Trainer},
};

/// An adapter on its way through local steps.
struct Walk {
    /// What the trainer takes.
    tensors: AdapterTensors,
    /// The trained tensors' names, in the order of coordinates.
    names: Vec<String>,
    start: Vec<f32>,
    /// Coordinates that rest in this round.
    still: Vec<Range<usize>>,
    /// FedProx's `μ`; 0: none.
    proximal: f64,
}

impl Walk {
    fn new(adapter: &AdapterState, recipe: &Local) -> Self {
        let trained = adapter.manifest().tensors().iter().filter(|tensor| tensor.trained);
        Self {
            tensors: tensors(adapter),
            names: trained.map(|tensor| tensor.name.clone()).collect(),
            start: adapter.trained(),
            still: adapter.still(),
            proximal: recipe.proximal,
        }
    }

    /// `w ← w − rate · (g + μ·(w − w₀))`, coordinate by coordinate; what rests stays, whatever noise says.
    fn step(&mut self, rate: f64, gradient: impl IntoIterator<Item = f64>) {
        let mut coordinates = gradient.into_iter().zip(&self.start).enumerate();
        for name in &self.names {
            for (weight, (at, (g, start))) in
                self.tensors.values_mut(name).into_iter().flatten().zip(&mut coordinates)
            {
                if self.still.iter().any(|range| range.contains(&at)) {
                    continue;
                }
                let pull = self.proximal * f64::from(*weight - start);
                *weight = (f64::from(*weight) - rate * (g + pull)) as f32;
            }
        }
    }

    /// The change since the start, flat in the order of coordinates.
    fn delta(&self) -> Vec<f32> {
        let now = self.names.iter().filter_map(|name| self.tensors.values(name)).flatten();
        now.zip(&self.start).map(|(now, start)| now - start).collect()
    }
}

fn recipe(plan: &VerifiedPlan) -> Result<&Local, LotFailed> {
    let missing = || failed("plan", &"the plan has no [privacy.local]");
    plan.document().privacy.local.as_ref().ok_or_else(missing)
}

/// `patient-local`: the encoded delta of steps each of which was noisy by itself.
pub(super) fn noisy_steps(
    plan: &VerifiedPlan,
    trainer: &mut dyn Trainer,
    adapter: &AdapterState,
    rng: &mut BulkRng,
) -> Result<Vec<u32>, LotFailed> {
    let (recipe, derived, document) = (recipe(plan)?, plan.derived(), plan.document());
    let lot = document.privacy.expected_lot / f64::from(document.cohort.organizations);
    let unit = derived.encoding.params().scale * lot;
    let noise = noise(plan)?;
    let mut walk = Walk::new(adapter, recipe);
    let (mut loss, mut accuracy) = (0.0, 0.0);
    for _ in 0..recipe.steps {
        let sum = sum_lot(plan, trainer, &walk.tensors, &walk.still, rng)?.finish_here(&noise, rng);
        // From here on, nothing but noisy numbers.
        if let Some(metrics) = derived.encoding.metrics(&sum, lot, 1, 1, 0.0) {
            loss += metrics.loss / f64::from(recipe.steps);
            accuracy += metrics.accuracy / f64::from(recipe.steps);
        }
        // The walk takes the trained coordinates, which come first, and leaves the metrics.
        walk.step(recipe.learning_rate, sum.iter().map(|&value| value as f64 / unit));
    }
    encode_delta(plan, &walk.delta(), loss, accuracy)
}

/// `organization`: the encoded delta with this organization's share of noise.
pub(super) fn contribution(
    plan: &VerifiedPlan,
    trainer: &mut dyn Trainer,
    adapter: &AdapterState,
    rng: &mut BulkRng,
) -> Result<Vec<u32>, LotFailed> {
    let derived = plan.derived();
    let trained = plain_steps(plan, trainer, adapter, rng)?;
    let mut sum = LotSum::new(&derived.encoding);
    let counted = sum.add_contribution(&trained.delta, trained.loss as f32, trained.accuracy as f32, rng);
    warn_if_dropped(counted.map_err(|error| failed("encoding", &error))?);
    sum.finish(derived.clamp, &noise(plan)?, derived.ring.bits(), rng)
        .map_err(|error| failed("encoding", &error))
}

/// `none`: the encoded delta.
pub(super) fn without_noise(
    plan: &VerifiedPlan,
    trainer: &mut dyn Trainer,
    adapter: &AdapterState,
    rng: &mut BulkRng,
) -> Result<Vec<u32>, LotFailed> {
    tracing::error!(
        event = "no-privacy",
        "NO PRIVACY: this plan's unit is \"none\": no noise is added, and the published sum may tell about single patients"
    );
    let Plain { delta, loss, accuracy } = plain_steps(plan, trainer, adapter, rng)?;
    encode_delta(plan, &delta, loss, accuracy)
}

/// What ordinary training came to.
struct Plain {
    delta: Vec<f32>,
    /// Mean over all patients that were looked at.
    loss: f64,
    accuracy: f64,
}

/// Gradient descent on the mean gradient of drawn batches, or what a trainer that takes its steps by itself makes of the same
/// task. Nothing here is private.
fn plain_steps(
    plan: &VerifiedPlan,
    trainer: &mut dyn Trainer,
    adapter: &AdapterState,
    rng: &mut BulkRng,
) -> Result<Plain, LotFailed> {
    let recipe = recipe(plan)?;
    if trainer.clips() {
        let everybody: Vec<usize> = (0..trainer.patients()).collect();
        let OwnDelta { delta, loss, accuracy } = trainer
            .delta(&tensors(adapter), &everybody, &adapter.still())
            .map_err(|error| failed(error.code(), &error))?;
        return Ok(Plain { delta, loss, accuracy });
    }
    let mut walk = Walk::new(adapter, recipe);
    let (mut loss, mut correct, mut seen) = (0f64, 0f64, 0u64);
    for _ in 0..recipe.steps {
        let lot = draw_lot(plan.document().privacy.sampling_rate, trainer.patients(), rng);
        let (mut sum, mut count) = (vec![0f64; walk.start.len()], 0u64);
        trainer
            .lot(&walk.tensors, &lot, &mut |patient| {
                // One broken record must not cost everybody else's.
                if !patient.loss.is_finite() || patient.gradient.iter().any(|g| !g.is_finite()) {
                    return;
                }
                sum.iter_mut().zip(patient.gradient).for_each(|(sum, g)| *sum += f64::from(*g));
                loss += f64::from(patient.loss);
                correct += f64::from(patient.correct);
                count += 1;
            })
            .map_err(|error| failed(error.code(), &error))?;
        // Nobody was drawn, or nobody who was could be used: a step of no length.
        if count > 0 {
            seen += count;
            walk.step(recipe.learning_rate, sum.iter().map(|sum| sum / count as f64));
        }
    }
    let patients = seen.max(1) as f64;
    Ok(Plain { delta: walk.delta(), loss: loss / patients, accuracy: correct / patients })
}

fn encode_delta(plan: &VerifiedPlan, delta: &[f32], loss: f64, accuracy: f64) -> Result<Vec<u32>, LotFailed> {
    let derived = plan.derived();
    let (values, counted) = derived
        .update
        .encode_delta(delta, loss, accuracy, derived.ring.bits())
        .map_err(|error| failed("encoding", &error))?;
    warn_if_dropped(counted);
    Ok(values)
}

fn warn_if_dropped(counted: Patient) {
    if counted == Patient::Dropped {
        // Local log only.
        tracing::warn!(
            "the delta is not finite and counts as zero; the plan's learning rate may be too large"
        );
    }
}

#[cfg(test)]
mod tests;
