//! `baseline`: ordinary training on one file, without noise and without the others.

use std::path::PathBuf;

use crate::{
    config::{Loaded, adapter_tensors_of, today, trainer_spec},
    result,
    trainer::{LocalRecipe, TorchModel},
};
use clap::Args;
use consilium_proto::release::initial_state;
use serde::Serialize;

use super::{Failure, data, output};

#[derive(Debug, Args)]
pub(crate) struct Baseline {
    /// The client's configuration: plan, model, columns.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Train on this file instead of the config's `data.path` (columns as in `[data]`).
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Passes over the data.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    epochs: u32,
    /// Adam's step size.
    #[arg(long, value_name = "RATE")]
    learning_rate: f64,
    /// Records a step.
    #[arg(long, value_name = "N", default_value_t = 64)]
    lot: usize,
    /// Decides the order of the records, nothing else.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Folder for the result: `adapter/`, `head.safetensors`, `labels.txt`.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Trained {
    records: usize,
    patients: usize,
    steps: usize,
    /// Mean training loss of each epoch, nats.
    losses: Vec<f64>,
    out: PathBuf,
}

impl Baseline {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let loaded = Loaded::load(&self.config, today())?;
        let path = self.data.as_ref().unwrap_or(&loaded.config.data.path);
        let data = data::training_set(&loaded, path)?;
        let model =
            TorchModel::load(loaded.model()?, trainer_spec(loaded.plan.document(), &loaded.config.training))?;
        let mut prepared = model.prepare(&data)?;
        // The job's own start, so that only the data and the noise differ.
        let mut start = adapter_tensors_of(&initial_state(&loaded.plan).map_err(Failure::local)?);
        for (name, values) in loaded.plan.initial_local().map_err(Failure::local)? {
            start.insert(name, values);
        }
        let (epochs, lot) = (self.epochs, self.lot);
        let recipe = LocalRecipe { epochs, lot, learning_rate: self.learning_rate, seed: self.seed };
        let (mut losses, mut steps, mut sum) = (Vec::new(), 0, 0.0);
        let each = data.len().div_ceil(lot.max(1));
        let trained = model.train_local(&start, &mut prepared, &recipe, &mut |step, _, loss| {
            // The last step of an epoch may hold fewer records.
            let records = if step % each == 0 { data.len() - (each - 1) * lot } else { lot };
            sum += loss * records as f64;
            steps = step;
            if step % each == 0 {
                losses.push(sum / data.len() as f64);
                sum = 0.0;
                eprintln!(
                    "epoch {} of {epochs}: loss {:.4}",
                    step / each,
                    losses.last().copied().unwrap_or(0.0)
                );
            }
        })?;
        result::write_files(&self.out, &loaded, &trained)?;
        let trained =
            Trained { records: data.len(), patients: data.patients(), steps, losses, out: self.out.clone() };
        if self.json {
            return output::print_json(&trained);
        }
        output::print(&format!(
            "trained alone on {} records of {} patients, {} steps, without noise: {}\nThis adapter is not private; it \
             stays at home.\n",
            trained.records,
            trained.patients,
            trained.steps,
            trained.out.display()
        ))
    }
}
