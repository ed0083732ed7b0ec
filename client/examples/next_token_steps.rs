//! Fine-tunes a causal decoder on short texts, as a client does in a round: per-patient gradients, clipped, summed, one Adam step.
//!
//! `cargo run --release -p consilium-client --example next_token_steps -- MODEL_FOLDER TITLES.csv OUT [FIRST_LAYER [BASE]]`
//!
//! TITLES.csv is the cache's `icd10/titles.csv` (columns `category`, `title`). A text is the titles of one category in a row, cut to 64
//! tokens; categories are split into texts to learn from and held-out ones by their order. 30 steps of 8 texts, rank 8 on query and
//! value of the layers from FIRST_LAYER (0) on, one thread, BASE `bf16` or `f32`. No noise is added: what it costs and what is learned is the matter here.
//!
//! Prints one JSON object: held-out loss before and after, seconds a step, peak memory; and what libtorch needs in this process for the matrix
//! products of a step alone, which no trainer on it can do without. Writes `OUT/adapter` (a PEFT folder) and `OUT/logits.json`: two held-out
//! texts with their tokens and every fiftieth logit of each, for a comparison with `peft`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use consilium_client::data::{DataConfig, Dataset};
use consilium_client::export::write_peft_folder;
use consilium_client::model::{
    AdapterSpec, AdapterTensors, ModelConfig, ModelFolder, Pooling, TargetModules, TaskKind, TensorKind,
    adapter_tensors,
};
use consilium_client::trainer::{Base, Device, TorchModel, Trained, TrainerSpec};
use serde_json::json;
use tch::{Kind, Tensor};

const STEPS: usize = 30;
const LOT: usize = 8;
const TOKENS: usize = 64;
const CLIP: f64 = 1.0;
const RATE: f64 = 0.01;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, titles, out, rest @ ..] = arguments.as_slice() else {
        return Err("usage: next_token_steps MODEL_FOLDER TITLES.csv OUT [FIRST_LAYER [BASE]]".into());
    };
    let first: usize = rest.first().map_or(Ok(0), |first| first.parse())?;
    let base = match rest.get(1).map(String::as_str) {
        None | Some("bf16") => Base::Bf16,
        Some("f32") => Base::F32,
        Some(other) => return Err(format!("{other}: bf16 or f32").into()),
    };
    let folder = ModelFolder::open(Path::new(model))?;
    let (learn, held) = texts(Path::new(titles))?;
    let (train, test) = (dataset(&learn)?, dataset(&held)?);
    let adapter = AdapterSpec {
        rank: 8,
        alpha: 16.0,
        use_rslora: false,
        target_modules: TargetModules::from(["q_proj", "v_proj"]),
        layers: Some((first as u32..folder.config().layers as u32).collect()),
        dropout: 0.0,
        pooling: Pooling::None,
        max_tokens: TOKENS,
        task: TaskKind::NextToken,
        labels: 0,
        class_weights: Vec::new(),
    };
    let mut values = start(&folder, &adapter)?;
    let settings = TrainerSpec {
        adapter: adapter.clone(),
        trained: Trained::FFA,
        cache_bytes: 256 << 20,
        threads: 1,
        max_physical_batch: 48,
        base,
        device: Device::Cpu,
    };
    let torch = TorchModel::load(&folder, settings)?;
    let (mut train, mut test) = (torch.prepare(&train)?, torch.prepare(&test)?);
    let before = torch.evaluate(&values, &mut test, Some(64))?;
    // What a client does while it waits for the others.
    torch.warm_up(&mut train, &mut |done| done < STEPS * LOT)?;
    let mut adam = Adam::new(torch.dimension());
    let (mut seconds, mut losses) = (Vec::new(), Vec::new());
    for step in 0..STEPS {
        let lot: Vec<usize> = (step * LOT..(step + 1) * LOT).collect();
        let begin = Instant::now();
        let (mut sum, mut loss) = (vec![0f64; torch.dimension()], 0.0);
        torch.gradients(&values, &mut train, &lot, &mut |patient| {
            let norm = patient.gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            let scale = (CLIP / norm).min(1.0);
            sum.iter_mut().zip(patient.gradient).for_each(|(sum, &g)| *sum += scale * f64::from(g));
            loss += f64::from(patient.loss) / LOT as f64;
        })?;
        adam.step(&torch, &mut values, &sum);
        seconds.push(begin.elapsed().as_secs_f64());
        losses.push(loss);
    }
    let after = torch.evaluate(&values, &mut test, Some(64))?;
    write_peft_folder(
        &Path::new(out).join("adapter"),
        model,
        folder.config(),
        &adapter,
        &values,
        Some(folder.digests().weights),
    )?;
    write_logits(&torch, &folder, &values, &held, Path::new(out))?;
    seconds.sort_by(f64::total_cmp);
    let (peak, median) = (peak_mib(), seconds[STEPS / 2]);
    let products = products(folder.config(), first, base)?;
    println!(
        "{}",
        json!({
            "base": format!("{base:?}"), "first_layer": first, "trained": torch.dimension(),
            "held_out_before": before.loss, "held_out_after": after.loss, "fell_by": before.loss - after.loss,
            "median_step_s": median, "fastest_step_s": seconds[0], "slowest_step_s": seconds[STEPS - 1],
            "products_s": products, "step_vs_products": median / products,
            "training_loss": [losses[0], losses[STEPS - 1]], "peak_rss_mib": peak,
        })
    );
    Ok(())
}

/// One text a category; every tenth is held out.
fn texts(titles: &Path) -> Result<(Vec<String>, Vec<String>), Failure> {
    let mut categories: BTreeMap<String, String> = BTreeMap::new();
    let mut reader = csv::Reader::from_path(titles)?;
    let head = reader.headers()?.clone();
    let column = |name: &str| head.iter().position(|h| h == name).ok_or(format!("no column {name}"));
    let (category, title) = (column("category")?, column("title")?);
    for row in reader.records() {
        let row = row?;
        let text = categories.entry(row[category].to_owned()).or_default();
        if text.len() < 600 {
            *text += &row[title];
            *text += "\n";
        }
    }
    // Texts that fill 64 tokens.
    let long = categories.into_values().filter(|text| text.len() > 400);
    let (mut learn, mut held) = (Vec::new(), Vec::new());
    for (index, text) in long.enumerate() {
        if index % 10 == 0 { held.push(text) } else { learn.push(text) }
    }
    // A stride that is prime to their number takes the lots from everywhere.
    let all = learn.len();
    Ok(((0..all).map(|i| learn[i * 101 % all].clone()).collect(), held))
}

fn dataset(texts: &[String]) -> Result<Dataset, Failure> {
    let path = std::env::temp_dir().join(format!("next-token-{}.jsonl", std::process::id()));
    let lines =
        texts.iter().enumerate().map(|(i, text)| format!("{}\n", json!({"text": text, "patient": i})));
    std::fs::write(&path, lines.collect::<String>())?;
    let config = DataConfig {
        path: path.clone(),
        text_column: "text".to_owned(),
        label_column: String::new(),
        patient_column: "patient".to_owned(),
    };
    let data = Dataset::load_for(&config, TaskKind::NextToken, &[], 1);
    std::fs::remove_file(path)?;
    Ok(data?)
}

/// `B` zero, `A` spread as a plan's seed would spread it.
fn start(folder: &ModelFolder, spec: &AdapterSpec) -> Result<AdapterTensors, Failure> {
    let mut state = 1u32;
    let mut values = AdapterTensors::new();
    for tensor in adapter_tensors(folder.config(), spec)? {
        let bound = match tensor.kind {
            TensorKind::A { .. } => 1.0 / (tensor.shape[1] as f32).sqrt(),
            _ => 0.0,
        };
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bound * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
        };
        values.insert(tensor.name.clone(), (0..tensor.elements()).map(|_| draw()).collect());
    }
    Ok(values)
}

struct Adam {
    mean: Vec<f64>,
    square: Vec<f64>,
    steps: i32,
}

impl Adam {
    fn new(dimension: usize) -> Self {
        Self { mean: vec![0.0; dimension], square: vec![0.0; dimension], steps: 0 }
    }

    fn step(&mut self, torch: &TorchModel, values: &mut AdapterTensors, sum: &[f64]) {
        self.steps += 1;
        let (decay1, decay2) = (1.0 - 0.9f64.powi(self.steps), 1.0 - 0.999f64.powi(self.steps));
        let state = self.mean.iter_mut().zip(&mut self.square);
        let mut changes = sum.iter().zip(state).map(|(&g, (mean, square))| {
            let g = g / LOT as f64;
            *mean = 0.9 * *mean + 0.1 * g;
            *square = 0.999 * *square + 0.001 * g * g;
            RATE * (*mean / decay1) / ((*square / decay2).sqrt() + 1e-8)
        });
        for tensor in torch.tensors().iter().filter(|tensor| Trained::FFA.contains(tensor.kind)) {
            for value in values.values_mut(&tensor.name).into_iter().flatten() {
                *value -= changes.next().unwrap_or_default() as f32;
            }
        }
    }
}

/// Seconds for the matrix products of one step, forward and backward, each weight its own as in the model: the best of five.
fn products(config: &ModelConfig, first: usize, base: Base) -> Result<f64, Failure> {
    let kind = if base == Base::Bf16 { Kind::BFloat16 } else { Kind::Float };
    let at = |rows: usize, columns: usize| {
        Tensor::f_rand([rows as i64, columns as i64], (Kind::Float, tch::Device::Cpu))?.f_to_kind(kind)
    };
    let (d, wide) = (config.hidden_size, config.intermediate_size);
    let queries = config.heads * config.head_width;
    let qkv = queries + 2 * config.key_heads * config.head_width;
    let mut weights = Vec::new();
    for _ in first..config.layers {
        for (outputs, inputs) in [(qkv, d), (d, queries), (2 * wide, d), (d, wide)] {
            weights.push(at(outputs, inputs)?);
        }
    }
    weights.push(at(config.vocab_size, d)?);
    let mut inputs = BTreeMap::new();
    for size in [d, queries, qkv, wide, 2 * wide, config.vocab_size] {
        inputs.insert(size as i64, at(LOT * TOKENS, size)?);
    }
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let begin = Instant::now();
        for weight in &weights {
            let (outputs, width) = weight.size2()?;
            drop(inputs[&width].f_linear::<Tensor>(weight, None)?);
            drop(inputs[&outputs].f_matmul(weight)?);
        }
        best = best.min(begin.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn write_logits(
    torch: &TorchModel,
    folder: &ModelFolder,
    values: &AdapterTensors,
    held: &[String],
    out: &Path,
) -> Result<(), Failure> {
    let texts = &held[..2];
    let logits = torch.logits(values, &mut torch.prepare(&dataset(texts)?)?)?;
    let tokenizer = folder.tokenizer(TOKENS)?;
    let mut rows = Vec::new();
    for (text, logits) in texts.iter().zip(logits) {
        let some: Vec<f32> = logits.into_iter().step_by(50).collect();
        rows.push(json!({"text": text, "ids": tokenizer.encode(text)?, "every_50th_logit": some}));
    }
    Ok(std::fs::write(out.join("logits.json"), serde_json::to_string(&rows)?)?)
}

/// Linux only; elsewhere 0.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) >> 10
}
