//! One lot: draw patients, sum their clipped gradients, add this organization's noise.
//!
//! The draw is Poisson sampling at the plan's public rate, from the operating system's generator: a seed that the
//! coordinator knew would void the amplification. An empty lot still yields noise.

use consilium_crypto::{
    encoding::{LotSum, Patient, draw_lot},
    noise::{BulkRng, DiscreteGaussian},
    release::AdapterState,
    ring::RingVector,
};
use consilium_proto::plan::VerifiedPlan;
use rand::CryptoRng;

use crate::{model::AdapterTensors, trainer::Trainer};

/// A lot that could not be made. What was computed of it is thrown away; nothing has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LotFailed(
    /// The code that the coordinator is told.
    pub &'static str,
);

/// Draws a lot and encodes it, noise included. How many patients were drawn or dropped stays in here.
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
    let (document, derived) = (plan.document(), plan.derived());
    let failed = |code, why: &dyn std::fmt::Display| {
        tracing::error!(%why, "lot failed");
        LotFailed(code)
    };
    let lot = draw_lot(document.privacy.sampling_rate, trainer.patients(), &mut rng);
    let tensors = tensors(adapter);
    let mut sum = LotSum::new(&derived.encoding);
    let mut wrong = None;
    let mut dropped = 0usize;
    trainer
        .lot(&tensors, &lot, &mut |patient| match sum.add_patient(
            patient.gradient,
            patient.loss,
            patient.correct >= 0.5,
            &mut rng,
        ) {
            Ok(Patient::Counted) => {}
            Ok(Patient::Dropped) => dropped += 1,
            Err(error) => wrong = Some(error),
        })
        .map_err(|error| failed("training", &error))?;
    if let Some(error) = wrong {
        return Err(failed("encoding", &error));
    }
    if dropped > 0 {
        // Local log only: the number depends on the data.
        tracing::warn!("some patients had no finite gradient and were left out of this lot");
    }
    let clamp =
        derived.encoding.clamp(document.privacy.largest_lot).map_err(|error| failed("encoding", &error))?;
    let noise = DiscreteGaussian::new(derived.sigma_share).map_err(|error| failed("noise", &error))?;
    let values = sum
        .finish(clamp, &noise, derived.ring.bits(), &mut rng)
        .map_err(|error| failed("encoding", &error))?;
    RingVector::new(derived.ring, values).map_err(|error| failed("encoding", &error))
}

/// The adapter in the trainer's form.
pub fn tensors(adapter: &AdapterState) -> AdapterTensors {
    let mut tensors = AdapterTensors::new();
    for (spec, values) in adapter.tensors() {
        tensors.insert(spec.name.clone(), values.to_vec());
    }
    tensors
}
