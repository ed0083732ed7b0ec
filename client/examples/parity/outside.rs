//! The Python example that a reader copies (`client/python/examples/peft_opacus.py`), asked as a client asks it, over `outside.sock` beside the
//! job, where `parity.py` keeps it: its sum of clipped gradients beside the built-in trainer's, of the same patients and adapter.

use std::{sync::Arc, time::Duration};

use consilium_client::{
    model::ModelFolder,
    trainer::{
        ExternalTrainer, Trainer as _,
        external::{Place, Setup},
    },
};
use consilium_crypto::{
    digest::Digest,
    encoding::{LotSum, centered_sum},
    noise::{BulkRng, DiscreteGaussian},
    release::Init,
};
use consilium_proto::plan::{Adapter, AdapterMode, Model, Pooling, Task, Tensor};
use rand::{rand_core::UnwrapErr, rngs::SysRng};

use super::{
    Failure, Job,
    plan::{About, signed_plan},
};

/// Prints both sums' distance and size in ring units. Each side rounds every patient's numbers at random, by less than one unit.
pub(super) fn outside(job: &Job) -> Result<(), Failure> {
    let (folder, model, mut data) = job.torch()?;
    let values = job.read_values(&folder)?;
    // So fine that what is left between the two sums is not the rounding.
    let encoding = job.finer_encoding(model.dimension(), 64.0)?;
    let (plan, plan_text) =
        signed_plan(job.about(&folder)?, job.patients.len() as f64, encoding.params().scale)?;
    let mut trainer = ExternalTrainer::new(Setup {
        plan: &Arc::new(plan),
        plan_text,
        place: Place::Socket { path: job.out.join("outside.sock"), user: None },
        patients: job.dataset(&job.data)?.patient_ids(),
        answer: Some(Duration::from_secs(300)),
        digest: None,
        folder: None,
    })?;
    let theirs = trainer.sum(&values, &job.patients, &[])?;

    let mut rng = BulkRng::from_crypto_rng(&mut UnwrapErr(SysRng));
    let mut ours = LotSum::new(&encoding);
    let mut wrong = None;
    model.gradients(&values, &mut data, &job.patients, &mut |p| {
        if let Err(error) = ours.add_patient(p.gradient, p.loss, p.correct >= 0.5, &mut rng) {
            wrong = Some(error);
        }
    })?;
    if let Some(error) = wrong {
        return Err(error.into());
    }
    // A sum is not to be looked at without noise; this much is next to none.
    let (noise, clamp) = (DiscreteGaussian::new(1.0)?, encoding.clamp(job.patients.len() as f64)?);
    let mut opened =
        |sum: LotSum| Ok::<_, Failure>(centered_sum(&sum.finish(clamp, &noise, 32, &mut rng)?, 32));
    let theirs = opened(LotSum::from_clipped(&encoding, theirs.values, theirs.patients)?)?;
    let ours = opened(ours)?;
    let apart = || ours.iter().zip(&theirs).map(|(ours, theirs)| (ours - theirs) as f64);
    println!(
        "{}",
        serde_json::json!({
            "patients": job.patients.len(), "dimension": model.dimension(),
            "largest_difference_units": apart().map(f64::abs).fold(0.0, f64::max),
            "distance_units": norm(apart()), "norm_units": norm(ours.iter().map(|&value| value as f64)),
            // The two metrics ride behind the coordinates.
            "correct_units": [ours.last(), theirs.last()],
        })
    );
    Ok(())
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

impl Job {
    /// The job as a plan says it.
    fn about(&self, folder: &ModelFolder) -> Result<About, Failure> {
        let (digests, part) = (folder.digests(), &self.adapter);
        let tensors = self.manifest(folder)?;
        let tensors = tensors.tensors().iter().map(|tensor| Tensor {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            bound: match tensor.init {
                Init::Uniform { bound } => bound,
                Init::Zeros => 0.0,
            },
            trained: tensor.trained,
        });
        Ok(About {
            model: Model {
                name: "encoder".into(),
                config: Digest(digests.config),
                tokenizer: Digest(digests.tokenizer),
                weights: Digest(digests.weights),
                pooling: Pooling::Mean,
                max_tokens: part.max_tokens.try_into()?,
            },
            task: Task { labels: self.label_list()?, max_records_per_patient: 1, ..Task::default() },
            adapter: Adapter {
                mode: AdapterMode::Ffa,
                rank: part.rank.try_into()?,
                alpha: part.alpha,
                rslora: false,
                target_modules: part.target_modules.clone().into(),
                layers: Some(part.layers.clone()),
                dropout: 0.0,
                local: Vec::new(),
                start: None,
                seed: Digest([7; 32]),
                tensors: tensors.collect(),
            },
        })
    }
}
