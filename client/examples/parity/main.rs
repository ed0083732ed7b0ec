//! The built-in trainer's side of `make parity`: what PEFT and Opacus are compared with.
//!
//! `cargo run --release -p consilium-client --example parity -- TASK JOB.json`, where JOB.json is what `client/parity/parity.py`
//! writes. Tasks: `start` (the adapter that a seed draws), `gradients` (per-patient gradients and logits), `step` (time and peak
//! memory of one step), `overhead` (of a trainer outside the process), `outside` (its sum beside the built-in one's), `train` (the demo's
//! recipe, one accuracy a seed), `adapter` (logits of a PEFT folder written elsewhere). Answers are files named by the job, or one line of JSON.

mod outside;
mod overhead;
mod plan;
mod recipe;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use consilium_client::{
    data::{DataConfig, Dataset},
    export,
    model::{AdapterSpec, AdapterTensors, ModelFolder, Pooling, adapter_tensors},
    trainer::{Base, Device, Prepared, TorchModel, Trained, TrainerSpec},
};
use consilium_crypto::{
    encoding::{Encoding, EncodingParams, LotSum, Patient},
    noise::BulkRng,
    release::{AdapterState, Init, Manifest, Optimizer, TensorSpec},
};
use consilium_proto::plan::TaskKind;
use rand::{rand_core::UnwrapErr, rngs::SysRng};
use serde::Deserialize;

type Failure = Box<dyn std::error::Error>;

/// What every task is about.
#[derive(Deserialize)]
struct Job {
    model: PathBuf,
    data: PathBuf,
    test: PathBuf,
    labels: PathBuf,
    adapter: AdapterPart,
    /// Patients by their places in the data.
    patients: Vec<usize>,
    /// How the frozen model is held.
    #[serde(default)]
    base: Base,
    /// Bytes of frozen states that are kept.
    cache_bytes: u64,
    /// Where the adapter is read from and written to: flat f32 of all tensors in name order.
    values: PathBuf,
    out: PathBuf,
    seeds: Vec<u8>,
    repeats: u32,
    recipe: recipe::Recipe,
}

/// The adapter, as far as it differs between tasks.
#[derive(Deserialize)]
struct AdapterPart {
    rank: usize,
    alpha: f64,
    target_modules: Vec<String>,
    layers: Vec<u32>,
    max_tokens: usize,
    labels: usize,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [task, job] = arguments.as_slice() else { return Err("usage: parity TASK JOB.json".into()) };
    let job: Job = serde_json::from_str(&fs::read_to_string(job)?)?;
    match task.as_str() {
        "start" => start(&job),
        "gradients" => gradients(&job),
        "step" => step(&job),
        "overhead" => overhead::overhead(&job),
        "outside" => outside::outside(&job),
        "train" => recipe::train(&job),
        "adapter" => adapter(&job),
        other => Err(format!("no task {other:?}").into()),
    }
}

impl Job {
    fn spec(&self) -> AdapterSpec {
        let part = &self.adapter;
        AdapterSpec {
            rank: part.rank,
            alpha: part.alpha,
            use_rslora: false,
            target_modules: part.target_modules.clone().into(),
            layers: Some(part.layers.clone()),
            dropout: 0.0,
            pooling: Pooling::Mean,
            max_tokens: part.max_tokens,
            task: TaskKind::SingleLabel,
            labels: part.labels,
            class_weights: Vec::new(),
        }
    }

    fn label_list(&self) -> Result<Vec<String>, Failure> {
        Ok(fs::read_to_string(&self.labels)?.lines().map(str::to_owned).collect())
    }

    fn dataset(&self, path: &Path) -> Result<Dataset, Failure> {
        let [text_column, label_column, patient_column] = ["text", "label", "patient_id"].map(str::to_owned);
        let config = DataConfig { path: path.to_path_buf(), text_column, label_column, patient_column };
        Ok(Dataset::load(&config, &self.label_list()?, 1)?)
    }

    fn torch(&self) -> Result<(ModelFolder, TorchModel, Prepared), Failure> {
        let folder = ModelFolder::open(&self.model)?;
        let spec = TrainerSpec {
            adapter: self.spec(),
            trained: Trained::FFA,
            cache_bytes: self.cache_bytes,
            threads: 1,
            max_physical_batch: 48,
            base: self.base,
            device: Device::Cpu,
        };
        let model = TorchModel::load(&folder, spec)?;
        let data = model.prepare(&self.dataset(&self.data)?)?;
        Ok((folder, model, data))
    }

    /// The tensors as a plan lists them: `A` and the head start uniformly, `B` and the bias at zero.
    fn manifest(&self, folder: &ModelFolder) -> Result<Manifest, Failure> {
        let tensors = adapter_tensors(folder.config(), &self.spec())?.into_iter().map(|tensor| {
            let shape: Vec<u32> = tensor.shape.iter().map(|&axis| axis as u32).collect();
            let starts_at_zero = tensor.name.ends_with("lora_B.weight") || tensor.name == "head.bias";
            let inputs = tensor.shape.last().copied().unwrap_or(1) as f32;
            TensorSpec {
                trained: Trained::FFA.contains(tensor.kind),
                init: if starts_at_zero { Init::Zeros } else { Init::Uniform { bound: 1.0 / inputs.sqrt() } },
                shape,
                name: tensor.name,
            }
        });
        Ok(Manifest::new(tensors.collect())?)
    }

    fn initial(&self, folder: &ModelFolder, seed: u8) -> Result<AdapterState, Failure> {
        Ok(AdapterState::initial(&self.manifest(folder)?, &[seed; 32], self.recipe.optimizer())?)
    }

    fn read_values(&self, folder: &ModelFolder) -> Result<AdapterTensors, Failure> {
        let bytes = fs::read(&self.values)?;
        let mut values = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let tensors = adapter_tensors(folder.config(), &self.spec())?;
        Ok(tensors.iter().map(|t| (t.name.clone(), values.by_ref().take(t.elements()).collect())).collect())
    }

    fn encoding(&self, dimension: usize) -> Result<Encoding, Failure> {
        self.finer_encoding(dimension, 1.0)
    }

    /// Rounded in steps that many times smaller than a plan's.
    fn finer_encoding(&self, dimension: usize, times: f64) -> Result<Encoding, Failure> {
        Ok(Encoding::new(EncodingParams {
            dimension: u32::try_from(dimension)?,
            clip: self.recipe.clip,
            scale: times * (4.0 * (dimension as f64).sqrt() / self.recipe.clip).log2().ceil().exp2(),
            metrics_share: 0.05,
            loss_max: 7.0,
            beta: 0.01,
        })?)
    }
}

fn values_of(state: &AdapterState) -> AdapterTensors {
    state.tensors().map(|(tensor, values)| (tensor.name.clone(), values.to_vec())).collect()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Writes the first seed's adapter, with a small `B` in the place of zeros where the job asks for a gradient of `A` too, and the names.
fn start(job: &Job) -> Result<(), Failure> {
    let folder = ModelFolder::open(&job.model)?;
    let state = job.initial(&folder, job.seeds.first().copied().unwrap_or(1))?;
    let all: Vec<f32> = state.tensors().flat_map(|(_, values)| values.to_vec()).collect();
    fs::write(&job.values, floats(&all))?;
    let shapes: BTreeMap<&str, &[u32]> =
        state.tensors().map(|(tensor, _)| (tensor.name.as_str(), tensor.shape.as_slice())).collect();
    println!("{}", serde_json::to_string(&shapes)?);
    Ok(())
}

/// Per-patient gradients `[patients, d]` of the job's patients, their logits `[patients, labels]`, and the adapter as a PEFT folder.
fn gradients(job: &Job) -> Result<(), Failure> {
    let (folder, model, mut data) = job.torch()?;
    let values = job.read_values(&folder)?;
    let mut rows: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
    model.gradients(&values, &mut data, &job.patients, &mut |p| {
        rows.insert(p.patient, p.gradient.to_vec());
    })?;
    let logits = model.logits(&values, &mut data)?;
    let (mut gradients, mut scores) = (Vec::new(), Vec::new());
    for patient in &job.patients {
        gradients.extend(floats(rows.get(patient).ok_or("a patient without a gradient")?));
        scores.extend(floats(&logits[*patient]));
    }
    fs::create_dir_all(&job.out)?;
    fs::write(job.out.join("gradients.f32"), gradients)?;
    fs::write(job.out.join("logits.f32"), scores)?;
    export::write_peft_folder(
        &job.out.join("adapter"),
        "minilm",
        folder.config(),
        &job.spec(),
        &values,
        None,
    )?;
    export::write_head(&job.out.join("head.safetensors"), folder.config(), &job.spec(), &values)?;
    Ok(())
}

/// Logits with an adapter and a head that `peft` and `safetensors` have written into `out`.
fn adapter(job: &Job) -> Result<(), Failure> {
    let (folder, model, mut data) = job.torch()?;
    let (adapter, head) = (job.out.join("from-peft"), job.out.join("from-peft-head.safetensors"));
    let adapter = export::read_peft_folder(&adapter, folder.config(), &job.spec(), None)?;
    let head = export::read_head(&head, folder.config(), &job.spec())?;
    let all = adapter.iter().chain(head.iter()).map(|(name, values)| (name.to_owned(), values.to_vec()));
    let logits = model.logits(&all.collect(), &mut data)?;
    let chosen: Vec<u8> = job.patients.iter().flat_map(|&patient| floats(&logits[patient])).collect();
    fs::write(job.out.join("logits-from-peft.f32"), chosen)?;
    Ok(())
}

/// Seconds of each repeat of: forward, per-patient gradients, clip (rounding and its exact check included). The first one, which
/// fills the cache and warms the kernels up, is `cold`.
fn step(job: &Job) -> Result<(), Failure> {
    let (folder, model, mut data) = job.torch()?;
    let values = job.read_values(&folder)?;
    let encoding = job.encoding(model.dimension())?;
    let mut rng = BulkRng::from_crypto_rng(&mut UnwrapErr(SysRng));
    let mut seconds = Vec::new();
    for _ in 0..=job.repeats {
        let begin = Instant::now();
        let mut sum = LotSum::new(&encoding);
        let mut counted = 0;
        model.gradients(&values, &mut data, &job.patients, &mut |p| {
            let added = sum.add_patient(p.gradient, p.loss, p.correct >= 0.5, &mut rng);
            counted += usize::from(matches!(added, Ok(Patient::Counted)));
        })?;
        seconds.push(begin.elapsed().as_secs_f64());
        if counted != job.patients.len() {
            return Err(format!("{counted} of {} patients counted", job.patients.len()).into());
        }
    }
    let (cold, warm) = seconds.split_first().ok_or("no repeat")?;
    println!(
        "{}",
        serde_json::json!({"cold_s": cold, "warm_s": warm, "dimension": model.dimension(), "peak_mib": peak_mib()})
    );
    Ok(())
}

/// Most resident memory of this process so far. Linux only; elsewhere 0.
fn peak_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

impl recipe::Recipe {
    fn optimizer(&self) -> Optimizer {
        Optimizer::adam(self.learning_rate)
    }
}
