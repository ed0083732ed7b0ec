//! The demo's recipe over pooled data: a Poisson lot, clipped and rounded patient by patient, the whole discrete Gaussian noise on the
//! sum, Adam on its mean. Five organizations with shares of the noise come to the same distribution (the manual's privacy page).

use std::time::Instant;

use consilium_crypto::{
    encoding::{LotSum, centered_sum, draw_lot},
    noise::{BulkRng, DiscreteGaussian},
    release::mean_from_sum,
};
use rand::{SeedableRng as _, rngs::StdRng};
use serde::Deserialize;

use super::{Failure, Job, values_of};

/// Numbers that both sides share.
#[derive(Deserialize)]
pub(super) struct Recipe {
    pub(super) rounds: u32,
    pub(super) sampling_rate: f64,
    pub(super) clip: f64,
    pub(super) noise_multiplier: f64,
    pub(super) learning_rate: f32,
}

/// One accuracy on the test set for each seed, as JSON.
pub(super) fn train(job: &Job) -> Result<(), Failure> {
    let (folder, model, mut data) = job.torch()?;
    let mut test = model.prepare(&job.dataset(&job.test)?)?;
    let encoding = job.encoding(model.dimension())?;
    let recipe = &job.recipe;
    let lot_size = recipe.sampling_rate * data.patients() as f64;
    let noise = DiscreteGaussian::new(recipe.noise_multiplier * encoding.integer_bound())?;
    let clamp = encoding.clamp(lot_size)?;
    let begin = Instant::now();
    let mut accuracies = Vec::new();
    for &seed in &job.seeds {
        let mut state = job.initial(&folder, seed)?;
        // Drawn by the seed, so that a run can be repeated; a client draws from the operating system.
        let mut rng = BulkRng::from_crypto_rng(&mut StdRng::seed_from_u64(seed.into()));
        for _ in 0..recipe.rounds {
            let lot = draw_lot(recipe.sampling_rate, data.patients(), &mut rng);
            let mut sum = LotSum::new(&encoding);
            let mut wrong = None;
            model.gradients(&values_of(&state), &mut data, &lot, &mut |p| {
                if let Err(error) =
                    sum.add_patient(p.gradient, p.loss, p.correct >= 0.5, &mut rng).map(|_| ())
                {
                    wrong = Some(error);
                }
            })?;
            if let Some(error) = wrong {
                return Err(error.into());
            }
            let ring = sum.finish(clamp, &noise, 32, &mut rng)?;
            let mean = mean_from_sum(&centered_sum(&ring, 32), encoding.params().scale, lot_size, 1, 1)?;
            // The metrics ride behind the coordinates.
            state.apply(&mean[..model.dimension()])?;
        }
        let scored = model.evaluate(&values_of(&state), &mut test, None)?;
        eprintln!("seed {seed}: {:.4} after {:.0} s", scored.accuracy, begin.elapsed().as_secs_f64());
        accuracies.push(scored.accuracy);
    }
    println!("{}", serde_json::to_string(&accuracies)?);
    Ok(())
}
