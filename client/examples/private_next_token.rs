//! What LoRA learns where there is no head to learn instead: the next token of ICD-10-CM titles, under privacy.
//!
//! `cargo run --release -p consilium-client --example private_next_token -- MODEL TITLES.csv OUT.jsonl [EPSILON [SEED…]]`
//!
//! MODEL is a causal decoder's folder (`.cache/smollm2`), TITLES.csv the cache's `icd10/titles.csv`. A title stands for a patient; equal ones
//! count once; those of every tenth three-character category are held out. One process takes the steps of a job in the unit `patient`: a
//! Poisson lot, each patient's gradient clipped and rounded, the whole discrete Gaussian noise on the sum, Adam on its mean. Organizations
//! with shares of the noise come to the same distribution (the manual's privacy page). ROUNDS, LOT and the rate below; EPSILON
//! (4, at δ = 10⁻⁶) sets the noise; `inf` adds none.
//!
//! Each seed appends one line of JSON to OUT.jsonl: held-out loss (nats a token) and accuracy before and after.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::Path,
    time::Instant,
};

use consilium_client::{
    data::{DataConfig, Dataset},
    model::{
        AdapterSpec, AdapterTensors, ModelFolder, Pooling, TargetModules, TaskKind, TensorKind,
        adapter_tensors,
    },
    trainer::{Base, Device, TorchModel, Trained, TrainerSpec},
};
use consilium_crypto::{
    encoding::{Encoding, EncodingParams, LotSum, centered_sum, draw_lot},
    noise::{BulkRng, DiscreteGaussian},
    privacy::noise_multiplier,
    release::{AdapterState, Init, Manifest, Optimizer, TensorSpec, mean_from_sum},
};
use consilium_proto::plan::TaskKind as Task;
use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::json;

const ROUNDS: u32 = 30;
/// Expected patients in a lot.
const LOT: f64 = 128.0;
const RATE: f32 = 0.01;
const CLIP: f64 = 1.0;
const DELTA: f64 = 1e-6;
/// The upper layers that are adapted.
const LAYERS: usize = 8;
const TOKENS: usize = 48;
/// Held-out titles that are scored.
const SCORED: usize = 300;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, titles, out, rest @ ..] = arguments.as_slice() else {
        return Err("usage: private_next_token MODEL TITLES.csv OUT.jsonl [EPSILON [SEED…]]".into());
    };
    let epsilon: f64 = rest.first().map_or(Ok(4.0), |epsilon| epsilon.parse())?;
    let seeds: Vec<u8> = rest.iter().skip(1).map(|seed| seed.parse()).collect::<Result<_, _>>()?;
    let seeds = if seeds.is_empty() { vec![1, 2, 3] } else { seeds };
    let folder = ModelFolder::open(Path::new(model))?;
    let (learn, held) = texts(Path::new(titles))?;
    let (train, test) = (dataset(&learn)?, dataset(&held)?);
    let adapter = adapter(&folder);
    let settings = TrainerSpec {
        adapter: adapter.clone(),
        trained: Trained::FFA,
        cache_bytes: 256 << 20,
        threads: 1,
        max_physical_batch: 48,
        base: Base::Bf16,
        device: Device::Cpu,
    };
    let torch = TorchModel::load(&folder, settings)?;
    let (mut train, mut test) = (torch.prepare(&train)?, torch.prepare(&test)?);
    let rate = LOT / train.patients() as f64;
    let multiplier = match epsilon.is_finite() {
        true => noise_multiplier(epsilon, DELTA, rate, u64::from(ROUNDS))?,
        // Noise that costs nothing.
        false => 0.02,
    };
    let encoding = Encoding::new(EncodingParams {
        dimension: u32::try_from(torch.dimension())?,
        clip: CLIP,
        scale: (4.0 * (torch.dimension() as f64).sqrt() / CLIP).log2().ceil().exp2(),
        metrics_share: 0.05,
        loss_max: Task::NextToken.loss_max(0),
        beta: 0.01,
    })?;
    let noise = DiscreteGaussian::new(multiplier * encoding.integer_bound())?;
    let manifest = manifest(&folder, &adapter)?;
    for seed in seeds {
        let began = Instant::now();
        let mut state = AdapterState::initial(&manifest, &[seed; 32], Optimizer::adam(RATE))?;
        let before = torch.evaluate(&values(&state), &mut test, Some(SCORED))?;
        // Drawn by the seed, so that a run can be repeated; a client draws from the operating system.
        let mut rng = BulkRng::from_crypto_rng(&mut StdRng::seed_from_u64(seed.into()));
        for _ in 0..ROUNDS {
            let lot = draw_lot(rate, train.patients(), &mut rng);
            let mut sum = LotSum::new(&encoding);
            let mut wrong = None;
            torch.gradients(&values(&state), &mut train, &lot, &mut |p| {
                let added = sum.add_patient(p.gradient, p.loss, p.correct >= 0.5, &mut rng);
                wrong = wrong.take().or(added.err());
            })?;
            if let Some(error) = wrong {
                return Err(error.into());
            }
            let ring = sum.finish(encoding.clamp(LOT)?, &noise, 32, &mut rng)?;
            let mean = mean_from_sum(&centered_sum(&ring, 32), encoding.params().scale, LOT, 1, 1)?;
            state.apply(&mean[..torch.dimension()])?;
        }
        let after = torch.evaluate(&values(&state), &mut test, Some(SCORED))?;
        let line = json!({
            "epsilon": epsilon.is_finite().then_some(epsilon), "noise_multiplier": multiplier, "seed": seed,
            "patients": train.patients(), "trained": torch.dimension(), "held_out": after.examples,
            "loss_before": before.loss, "loss_after": after.loss,
            "accuracy_before": before.accuracy, "accuracy_after": after.accuracy,
            "seconds": began.elapsed().as_secs_f64(),
        });
        println!("{line}");
        writeln!(fs::OpenOptions::new().create(true).append(true).open(out)?, "{line}")?;
    }
    Ok(())
}

fn adapter(folder: &ModelFolder) -> AdapterSpec {
    let layers = folder.config().layers;
    AdapterSpec {
        rank: 8,
        alpha: 16.0,
        use_rslora: false,
        target_modules: TargetModules::from(["q_proj", "v_proj"]),
        layers: Some((layers.saturating_sub(LAYERS) as u32..layers as u32).collect()),
        dropout: 0.0,
        pooling: Pooling::None,
        max_tokens: TOKENS,
        task: TaskKind::NextToken,
        labels: 0,
        class_weights: Vec::new(),
    }
}

/// The tensors as a plan lists them: `A` starts uniformly, `B` at zero.
fn manifest(folder: &ModelFolder, spec: &AdapterSpec) -> Result<Manifest, Failure> {
    let tensors = adapter_tensors(folder.config(), spec)?.into_iter().map(|tensor| {
        let inputs = tensor.shape.last().copied().unwrap_or(1) as f32;
        let a = matches!(tensor.kind, TensorKind::A { .. });
        TensorSpec {
            trained: !a,
            init: if a { Init::Uniform { bound: 1.0 / inputs.sqrt() } } else { Init::Zeros },
            shape: tensor.shape.iter().map(|&axis| axis as u32).collect(),
            name: tensor.name,
        }
    });
    Ok(Manifest::new(tensors.collect())?)
}

fn values(state: &AdapterState) -> AdapterTensors {
    state.tensors().map(|(tensor, values)| (tensor.name.clone(), values.to_vec())).collect()
}

/// Titles to learn from and held-out ones, each once; the latter in an order that mixes categories.
fn texts(path: &Path) -> Result<(Vec<String>, Vec<String>), Failure> {
    let mut reader = csv::Reader::from_path(path)?;
    let head = reader.headers()?.clone();
    let column = |name: &str| head.iter().position(|h| h == name).ok_or(format!("no column {name}"));
    let (category, title) = (column("category")?, column("title")?);
    let (mut numbers, mut seen) = (BTreeMap::new(), BTreeSet::new());
    let (mut learn, mut held) = (Vec::new(), Vec::new());
    for row in reader.records() {
        let row = row?;
        let next = numbers.len();
        let number = *numbers.entry(row[category].to_owned()).or_insert(next);
        if seen.insert(row[title].to_lowercase()) {
            if number % 10 == 0 {
                held.push(row[title].to_owned())
            } else {
                learn.push(row[title].to_owned())
            }
        }
    }
    Ok((learn, held))
}

fn dataset(texts: &[String]) -> Result<Dataset, Failure> {
    let path = std::env::temp_dir().join(format!("private-next-token-{}.jsonl", std::process::id()));
    let lines =
        texts.iter().enumerate().map(|(i, text)| format!("{}\n", json!({"text": text, "patient": i})));
    fs::write(&path, lines.collect::<String>())?;
    let config = DataConfig {
        path: path.clone(),
        text_column: "text".to_owned(),
        label_column: String::new(),
        patient_column: "patient".to_owned(),
    };
    let data = Dataset::load_for(&config, TaskKind::NextToken, &[], 1);
    fs::remove_file(path)?;
    Ok(data?)
}
