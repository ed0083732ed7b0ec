//! What an organization encodes in an attempt, noise included: one lot, or, in units in which organizations send deltas,
//! what its local steps came to (`local.rs`).
//!
//! One lot: draw patients, sum their clipped gradients, add this organization's noise. The draw is Poisson sampling at the
//! plan's public rate, from the operating system's generator: a seed that the coordinator knew would void the
//! amplification. An empty lot still yields noise.

use std::ops::Range;

use consilium_crypto::{
    encoding::{LotSum, Patient, draw_lot},
    noise::{BulkRng, DiscreteGaussian},
    release::AdapterState,
    ring::RingVector,
};
use consilium_proto::plan::{PrivacyUnit, VerifiedPlan};
use rand::{CryptoRng, Rng as _};

use super::local;
use crate::{model::AdapterTensors, trainer::Trainer};

/// A lot that could not be made. What was computed of it is thrown away; nothing has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LotFailed(
    /// The code that the coordinator is told.
    pub &'static str,
);

pub(super) fn failed(code: &'static str, why: &dyn std::fmt::Display) -> LotFailed {
    tracing::error!(%why, "lot failed");
    LotFailed(code)
}

/// Draws a lot, or takes the plan's local steps, and encodes what came of it, noise included. How many patients were drawn or
/// dropped stays in here. What comes out is sent once, in one attempt: the next one draws everything anew.
///
/// # Errors
///
/// [`LotFailed`], after logging the cause locally.
pub fn encode_lot(
    plan: &VerifiedPlan,
    trainer: &mut dyn Trainer,
    adapter: &AdapterState,
    os: &mut impl CryptoRng,
) -> Result<RingVector, LotFailed> {
    let mut rng = BulkRng::from_crypto_rng(os);
    let derived = plan.derived();
    let values = match plan.document().privacy.unit {
        PrivacyUnit::Patient => {
            let sum = sum_lot(plan, trainer, &tensors(adapter), &adapter.still(), &mut rng)?;
            let noise = noise(plan)?;
            sum.finish(derived.clamp, &noise, derived.ring.bits(), &mut rng)
                .map_err(|error| failed("encoding", &error))?
        }
        PrivacyUnit::PatientLocal => local::noisy_steps(plan, trainer, adapter, &mut rng)?,
        PrivacyUnit::Organization => local::contribution(plan, trainer, adapter, &mut rng)?,
        PrivacyUnit::None => local::without_noise(plan, trainer, adapter, &mut rng)?,
    };
    RingVector::new(derived.ring, values).map_err(|error| failed("encoding", &error))
}

/// The sampler of this organization's noise.
pub(super) fn noise(plan: &VerifiedPlan) -> Result<DiscreteGaussian, LotFailed> {
    DiscreteGaussian::new(plan.derived().sigma_share).map_err(|error| failed("noise", &error))
}

/// A fresh lot, clipped, rounded and summed, here or by a trainer that does so; without noise yet. Coordinates that rest (`still`) are taken
/// out of each patient's gradient before it is clipped here: they must not use up its norm.
pub(super) fn sum_lot<'a>(
    plan: &'a VerifiedPlan,
    trainer: &mut dyn Trainer,
    adapter: &AdapterTensors,
    still: &[Range<usize>],
    rng: &mut BulkRng,
) -> Result<LotSum<'a>, LotFailed> {
    let lot = draw_lot(plan.document().privacy.sampling_rate, trainer.patients(), rng);
    if trainer.clips() {
        let sum = trainer.sum(adapter, &lot, still).map_err(|error| failed(error.code(), &error))?;
        let refused = |error| failed("trainer", &format_args!("the trainer's answer is refused: {error}"));
        return LotSum::from_clipped(&plan.derived().encoding, sum.values, sum.patients).map_err(refused);
    }
    let mut sum = LotSum::new(&plan.derived().encoding);
    let mut wrong = None;
    let mut dropped = false;
    let mut moving = Vec::new();
    trainer
        .lot(adapter, &lot, &mut |patient| match sum.add_patient(
            without(patient.gradient, still, &mut moving),
            patient.loss,
            right(patient.correct, rng),
            rng,
        ) {
            Ok(Patient::Counted) => {}
            Ok(Patient::Dropped) => dropped = true,
            Err(error) => wrong = Some(error),
        })
        .map_err(|error| failed(error.code(), &error))?;
    if let Some(error) = wrong {
        return Err(failed("encoding", &error));
    }
    if dropped {
        // Whether it happens depends on the data, and logs are often collected: only for who looks for it on this machine.
        tracing::debug!("a patient without a finite gradient was left out of this lot");
    }
    Ok(sum)
}

/// The gradient, with zeros for the coordinates that rest.
fn without<'a>(gradient: &'a [f32], still: &[Range<usize>], room: &'a mut Vec<f32>) -> &'a [f32] {
    if still.is_empty() {
        return gradient;
    }
    room.clear();
    room.extend_from_slice(gradient);
    for range in still {
        room.get_mut(range.clone()).into_iter().for_each(|rests| rests.fill(0.0));
    }
    room
}

/// A patient counts as right or not. Where a part of its records, or of its next tokens, is right, a draw decides, so that the sum over
/// patients is right in the mean.
fn right(part: f32, rng: &mut BulkRng) -> bool {
    match part {
        0.0 => false,
        1.0 => true,
        part => (rng.next_u32() >> 8) as f32 / (1 << 24) as f32 <= part,
    }
}

/// The adapter in the trainer's form.
pub fn tensors(adapter: &AdapterState) -> AdapterTensors {
    let mut tensors = AdapterTensors::new();
    for (spec, values) in adapter.tensors() {
        tensors.insert(spec.name.clone(), values.to_vec());
    }
    tensors
}

#[cfg(test)]
#[path = "lot_tests.rs"]
mod of_whole_lots;
