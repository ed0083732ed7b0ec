//! The steps of a job in the unit `patient`, without its processes: a Poisson lot, each patient's gradient clipped and rounded, the whole
//! discrete Gaussian noise on the sum, Adam on its mean. Organizations with shares of the noise come to the same distribution (the
//! manual's privacy page).

use std::{fs, time::Instant};

use consilium_client::{
    data::{DataConfig, Dataset},
    model::{AdapterSpec, AdapterTensors, ModelFolder, TaskKind, TensorKind, adapter_tensors},
    trainer::{Base, Device, Prepared, TorchModel, Trained, TrainerSpec},
};
use consilium_crypto::{
    encoding::{Encoding, EncodingParams, LotSum, centered_sum, draw_lot},
    noise::{BulkRng, DiscreteGaussian},
    privacy::noise_multiplier,
    release::{AdapterState, Init, Manifest, Optimizer, TensorSpec, mean_from_sum},
};
use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

pub(super) type Failure = Box<dyn std::error::Error>;

const CLIP: f64 = 1.0;
/// Noise that costs nothing: `ε = ∞`.
const NO_NOISE: f64 = 0.02;

/// What is trained on what, and how.
pub(super) struct Experiment {
    pub(super) folder: ModelFolder,
    pub(super) adapter: AdapterSpec,
    pub(super) base: Base,
    pub(super) cache_bytes: u64,
    pub(super) learn: Dataset,
    pub(super) held_out: Dataset,
    /// Held-out records that are scored; all where there is none.
    pub(super) scored: Option<usize>,
    pub(super) rounds: u32,
    /// Expected patients in a lot.
    pub(super) lot: f64,
    /// Adam's rate, unless another is asked for.
    pub(super) rate: f32,
    pub(super) delta: f64,
}

/// An experiment at one ε, its model loaded.
pub(super) struct Job<'a> {
    experiment: &'a Experiment,
    torch: TorchModel,
    learn: Prepared,
    held_out: Prepared,
    encoding: Encoding,
    noise: DiscreteGaussian,
    manifest: Manifest,
    sampling_rate: f64,
    /// What every line of the result begins with.
    said: Value,
}

impl Experiment {
    /// Loads the model and derives the noise from `epsilon`.
    ///
    /// # Errors
    ///
    /// What the model's folder or the numbers do not allow.
    pub(super) fn job(&self, epsilon: f64) -> Result<Job<'_>, Failure> {
        let settings = TrainerSpec {
            adapter: self.adapter.clone(),
            trained: Trained::FFA,
            cache_bytes: self.cache_bytes,
            threads: 1,
            max_physical_batch: 48,
            base: self.base,
            device: Device::Cpu,
        };
        let torch = TorchModel::load(&self.folder, settings)?;
        let (learn, held_out) = (torch.prepare(&self.learn)?, torch.prepare(&self.held_out)?);
        let sampling_rate = self.lot / learn.patients() as f64;
        let multiplier = match epsilon.is_finite() {
            true => noise_multiplier(epsilon, self.delta, sampling_rate, u64::from(self.rounds))?,
            false => NO_NOISE,
        };
        let dimension = torch.dimension();
        let encoding = Encoding::new(EncodingParams {
            dimension: u32::try_from(dimension)?,
            clip: CLIP,
            scale: (4.0 * (dimension as f64).sqrt() / CLIP).log2().ceil().exp2(),
            metrics_share: 0.05,
            loss_max: self.adapter.task.loss_max(self.adapter.labels),
            beta: 0.01,
        })?;
        let noise = DiscreteGaussian::new(multiplier * encoding.integer_bound())?;
        let said = json!({
            "epsilon": epsilon.is_finite().then_some(epsilon), "delta": self.delta, "noise_multiplier": multiplier,
            "rounds": self.rounds, "lot": self.lot, "patients": learn.patients(), "trained": dimension,
        });
        let manifest = self.manifest()?;
        Ok(Job { experiment: self, torch, learn, held_out, encoding, noise, manifest, sampling_rate, said })
    }

    /// The tensors as a plan lists them: `A` and a head start uniformly, `B` and the bias at zero.
    fn manifest(&self) -> Result<Manifest, Failure> {
        let tensors = adapter_tensors(self.folder.config(), &self.adapter)?.into_iter().map(|tensor| {
            let inputs = tensor.shape.last().copied().unwrap_or(1) as f32;
            let uniform = matches!(tensor.kind, TensorKind::A { .. } | TensorKind::HeadWeight);
            TensorSpec {
                trained: Trained::FFA.contains(tensor.kind),
                init: if uniform { Init::Uniform { bound: 1.0 / inputs.sqrt() } } else { Init::Zeros },
                shape: tensor.shape.iter().map(|&axis| axis as u32).collect(),
                name: tensor.name,
            }
        });
        Ok(Manifest::new(tensors.collect())?)
    }
}

impl Job<'_> {
    /// One run: held-out loss in nats and accuracy, before and after.
    ///
    /// # Errors
    ///
    /// What training or a release refuses.
    pub(super) fn run(&mut self, rate: f32, seed: u8) -> Result<Value, Failure> {
        let began = Instant::now();
        let Experiment { rounds, lot, scored, .. } = *self.experiment;
        let mut state = AdapterState::initial(&self.manifest, &[seed; 32], Optimizer::adam(rate))?;
        let before = self.torch.evaluate(&values(&state), &mut self.held_out, scored)?;
        // Drawn by the seed, so that a run can be repeated; a client draws from the operating system.
        let mut rng = BulkRng::from_crypto_rng(&mut StdRng::seed_from_u64(seed.into()));
        for _ in 0..rounds {
            let patients = draw_lot(self.sampling_rate, self.learn.patients(), &mut rng);
            let mut sum = LotSum::new(&self.encoding);
            let mut wrong = None;
            self.torch.gradients(&values(&state), &mut self.learn, &patients, &mut |p| {
                let added = sum.add_patient(p.gradient, p.loss, p.correct >= 0.5, &mut rng);
                wrong = wrong.take().or(added.err());
            })?;
            if let Some(error) = wrong {
                return Err(error.into());
            }
            let ring = sum.finish(self.encoding.clamp(lot)?, &self.noise, 32, &mut rng)?;
            let scale = self.encoding.params().scale;
            let mean = mean_from_sum(&centered_sum(&ring, 32), scale, lot, 1, 1)?;
            // The metrics ride behind the coordinates.
            state.apply(&mean[..self.torch.dimension()])?;
        }
        let after = self.torch.evaluate(&values(&state), &mut self.held_out, scored)?;
        let mut line = self.said.clone();
        for (name, value) in [
            ("rate", json!(rate)),
            ("seed", json!(seed)),
            ("held_out", json!(after.examples)),
            ("loss_before", json!(before.loss)),
            ("loss_after", json!(after.loss)),
            ("accuracy_before", json!(before.accuracy)),
            ("accuracy_after", json!(after.accuracy)),
            ("seconds", json!(began.elapsed().as_secs_f64().round())),
        ] {
            line[name] = value;
        }
        Ok(line)
    }
}

fn values(state: &AdapterState) -> AdapterTensors {
    state.tensors().map(|(tensor, values)| (tensor.name.clone(), values.to_vec())).collect()
}

/// Each text a patient's only record, with its label where the task has labels.
///
/// # Errors
///
/// No texts, or a label that is not in the list.
pub(super) fn dataset<'a>(
    task: TaskKind,
    labels: &[String],
    texts: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Dataset, Failure> {
    let path = std::env::temp_dir().join(format!("private-training-{}.jsonl", std::process::id()));
    let lines = texts
        .enumerate()
        .map(|(i, (text, label))| format!("{}\n", json!({"text": text, "label": label, "patient": i})));
    fs::write(&path, lines.collect::<String>())?;
    let [text_column, label_column, patient_column] = ["text", "label", "patient"].map(str::to_owned);
    let config = DataConfig { path: path.clone(), text_column, label_column, patient_column };
    let data = Dataset::load_for(&config, task, labels, 1);
    fs::remove_file(path)?;
    Ok(data?)
}
