//! One lot: draw patients, sum their clipped gradients, add this organization's noise.
//!
//! The draw is Poisson sampling at the plan's public rate, from the operating system's generator: a seed that the
//! coordinator knew would void the amplification. An empty lot still yields noise.

use consilium_crypto::{
    encoding::{LotSum, Patient},
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
    let failed = |code: &'static str, why: &dyn std::fmt::Display| {
        tracing::error!(%why, "lot failed");
        LotFailed(code)
    };
    let lot = draw(document.privacy.sampling_rate, trainer.patients(), &mut rng);
    let tensors = tensors(adapter);
    let mut sum = LotSum::new(&derived.encoding);
    let mut wrong = None;
    let mut dropped = false;
    trainer
        .lot(&tensors, &lot, &mut |patient| match sum.add_patient(
            patient.gradient,
            patient.loss,
            patient.correct >= 0.5,
            &mut rng,
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
    let clamp =
        derived.encoding.clamp(document.privacy.largest_lot).map_err(|error| failed("encoding", &error))?;
    let noise = DiscreteGaussian::new(derived.sigma_share).map_err(|error| failed("noise", &error))?;
    let values = sum
        .finish(clamp, &noise, derived.ring.bits(), &mut rng)
        .map_err(|error| failed("encoding", &error))?;
    RingVector::new(derived.ring, values).map_err(|error| failed("encoding", &error))
}

/// Each patient independently with probability `rate`, rounded down to a multiple of 2⁻⁶⁴.
fn draw(rate: f64, patients: usize, rng: &mut impl CryptoRng) -> Vec<usize> {
    if rate >= 1.0 {
        return (0..patients).collect();
    }
    // The cast saturates and drops the fraction, so the rate is never above the plan's.
    let below = (rate * 18_446_744_073_709_551_616.0) as u64;
    (0..patients).filter(|_| rng.next_u64() < below).collect()
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
mod tests {
    use super::*;

    #[test]
    fn a_lot_has_the_rate_that_the_plan_says() {
        let mut rng = BulkRng::new([1; 32]);
        let drawn: usize = (0..200).map(|_| draw(0.05, 10_000, &mut rng).len()).sum();
        // 100,000 expected; the standard deviation is 308.
        assert!(drawn.abs_diff(100_000) < 1_600, "{drawn}");
        assert_eq!(draw(1.0, 3, &mut rng), [0, 1, 2]);
        assert!(draw(1e-12, 1000, &mut rng).is_empty());
    }
}

#[cfg(test)]
#[path = "lot_tests.rs"]
mod of_whole_lots;
