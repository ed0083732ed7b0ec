//! How fast this machine computes per-patient gradients, and how much memory that takes.
//!
//! `cargo run --release -p consilium-client --example titles_per_second -- MODEL_FOLDER DATA.csv LABELS.txt [LOT]`
//!
//! Per choice of adapted layers: records a *processor* second (other programs do not count; elsewhere than on Linux, a second) with a cold and a warm cache of frozen states, for lots of LOT (102) patients
//! on one thread; then ordinary local training. Columns of the data: `patient_id`, `text`, `label`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use consilium_client::data::{DataConfig, Dataset};
use consilium_client::model::{AdapterSpec, ModelFolder, Pooling, TargetModules, TaskKind, adapter_tensors};
use consilium_client::trainer::{Base, Device, LocalRecipe, TorchModel, Trained, TrainerSpec};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, data, labels, rest @ ..] = arguments.as_slice() else {
        return Err("usage: titles_per_second MODEL_FOLDER DATA.csv LABELS.txt [LOT]".into());
    };
    let lot: usize = rest.first().map_or(Ok(102), |lot| lot.parse())?;
    let labels: Vec<String> = std::fs::read_to_string(labels)?.lines().map(str::to_owned).collect();
    let start = Instant::now();
    let folder = ModelFolder::open(Path::new(model))?;
    let data = Dataset::load(&columns(data.into()), &labels, 1)?;
    println!("{data:?}; model and data checked in {:.2} s", start.elapsed().as_secs_f64());
    println!(
        "{:>14} {:>8} {:>10} {:>10} {:>10} {:>9}",
        "layers", "d", "cold /s", "warm /s", "train /s", "RSS MiB"
    );
    let all = folder.config().layers as u32;
    for first in (0..=all).rev() {
        measure(&folder, &data, &labels, first, lot)?;
    }
    Ok(())
}

/// With layers `first..` adapted; the head alone if there is none.
fn measure(
    folder: &ModelFolder,
    data: &Dataset,
    labels: &[String],
    first: u32,
    lot: usize,
) -> Result<(), Failure> {
    let layers: Vec<u32> = (first..folder.config().layers as u32).collect();
    let targets = if layers.is_empty() { TargetModules::default() } else { ["query", "value"].into() };
    let name = if layers.is_empty() { "head only".to_owned() } else { format!("{first} and up") };
    let adapter = AdapterSpec {
        rank: 8,
        alpha: 16.0,
        use_rslora: false,
        target_modules: targets,
        layers: Some(layers),
        dropout: 0.0,
        pooling: Pooling::Mean,
        max_tokens: 64,
        task: TaskKind::SingleLabel,
        labels: labels.len(),
        class_weights: Vec::new(),
    };
    let start = adapter_tensors(folder.config(), &adapter)?
        .into_iter()
        .map(|tensor| (tensor.name.clone(), vec![0.01; tensor.elements()]))
        .collect();
    let spec = TrainerSpec {
        adapter,
        trained: Trained::FFA,
        cache_bytes: 1 << 30,
        threads: 1,
        max_physical_batch: 48,
        base: Base::F32,
        device: Device::Cpu,
    };
    let model = TorchModel::load(folder, spec)?;
    let mut prepared = model.prepare(data)?;
    // Every k-th patient, so that all lengths and labels are there.
    let patients: Vec<usize> = (0..data.patients()).collect();
    let lots: Vec<Vec<usize>> =
        (0..3).map(|k| patients.iter().copied().skip(k).step_by(data.patients() / lot).collect()).collect();
    let mut pass = || -> Result<f64, Failure> {
        let (mut sum, begin) = (0.0, Clock::start());
        for lot in &lots {
            model.gradients(&start, &mut prepared, lot, &mut |p| sum += f64::from(p.gradient[0]))?;
        }
        Ok(lots.iter().map(Vec::len).sum::<usize>() as f64 / begin.seconds())
    };
    let (cold, warm) = (pass()?, pass()?.max(pass()?));
    let recipe = LocalRecipe { epochs: 1, lot: 64, learning_rate: 1e-3, seed: 1 };
    let mut steps = Vec::new();
    // The first epoch fills the cache.
    model.train_local(&start, &mut prepared, &recipe, &mut |_, _, _| ())?;
    let begin = Clock::start();
    model.train_local(&start, &mut prepared, &recipe, &mut |step, _, _| steps.push(step))?;
    let train = data.len() as f64 / begin.seconds();
    println!(
        "{name:>14} {:>8} {cold:>10.0} {warm:>10.0} {train:>10.0} {:>9}",
        model.dimension(),
        resident_mib()
    );
    Ok(())
}

fn columns(path: PathBuf) -> DataConfig {
    DataConfig {
        path,
        text_column: "text".to_owned(),
        label_column: "label".to_owned(),
        patient_column: "patient_id".to_owned(),
    }
}

/// Processor time of this process; wall time where that cannot be read.
struct Clock {
    wall: Instant,
    ticks: Option<u64>,
}

impl Clock {
    fn start() -> Self {
        Self { wall: Instant::now(), ticks: Self::ticks() }
    }

    fn seconds(&self) -> f64 {
        match (self.ticks, Self::ticks()) {
            (Some(before), Some(now)) => (now - before).max(1) as f64 / 100.0,
            _ => self.wall.elapsed().as_secs_f64(),
        }
    }

    /// User and system time in hundredths of a second.
    fn ticks() -> Option<u64> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
    }
}

/// Linux only; elsewhere 0.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) >> 10
}
