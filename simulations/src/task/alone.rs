//! Ordinary training through a [`Trainer`], without noise and without anybody else: Adam (Kingma and Ba, 2015) with its usual
//! constants, on the mean gradient of shuffled batches. For tasks that need no libtorch; the encoder's own is in the client.

use consilium_client::{model::AdapterTensors, trainer::Trainer};
use rand::seq::SliceRandom as _;

use super::{Site, TaskError};
use crate::scenario::Alone;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Trains from `start` on all of the trainer's patients; every tensor of `start` is trained.
///
/// # Errors
///
/// The trainer's.
pub fn train(
    trainer: &mut dyn Trainer,
    start: &AdapterTensors,
    site: Site,
    recipe: &Alone,
    epochs: u32,
) -> Result<AdapterTensors, TaskError> {
    let names: Vec<String> = start.iter().map(|(name, _)| name.to_owned()).collect();
    let dimension = trainer.dimension();
    let (mut mean, mut square) = (vec![0f64; dimension], vec![0f64; dimension]);
    let (mut decay1, mut decay2) = (1.0, 1.0);
    let mut adapter = start.clone();
    let mut order: Vec<usize> = (0..trainer.patients()).collect();
    for epoch in 0..epochs {
        order.shuffle(&mut site.seeds.rng("alone", site.organization as u64, epoch.into()));
        for lot in order.chunks(recipe.lot.max(1) as usize) {
            let mut sum = vec![0f64; dimension];
            trainer.lot(&adapter, lot, &mut |patient| {
                sum.iter_mut().zip(patient.gradient).for_each(|(sum, g)| *sum += f64::from(*g));
            })?;
            decay1 *= BETA1;
            decay2 *= BETA2;
            let mut state = sum.iter().zip(mean.iter_mut().zip(&mut square));
            for name in &names {
                for value in adapter.values_mut(name).into_iter().flatten() {
                    let Some((sum, (mean, square))) = state.next() else { break };
                    let g = sum / lot.len() as f64;
                    *mean += (1.0 - BETA1) * (g - *mean);
                    *square += (1.0 - BETA2) * (g * g - *square);
                    let (m, v) = (*mean / (1.0 - decay1), *square / (1.0 - decay2));
                    *value -= (recipe.learning_rate * m / (libm::sqrt(v) + EPSILON)) as f32;
                }
            }
        }
    }
    Ok(adapter)
}
