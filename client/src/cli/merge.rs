//! `merge`: a model with an adapter inside. Needs no plan and no configuration.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Failure, output};
use crate::{export::merge, model::ModelFolder};

#[derive(Debug, Args)]
pub(crate) struct Merge {
    /// The base model's folder: config.json, tokenizer.json, model.safetensors.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The adapter's PEFT folder.
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// Folder for the merged model; never overwritten.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Merged {
    out: PathBuf,
    /// Weights that the adapter changed.
    changed: usize,
    /// SHA-256 of the merged model.safetensors.
    weights: String,
}

impl Merge {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let model = ModelFolder::open(&self.model).map_err(Failure::refused)?;
        let changed = merge(&model, &self.adapter, &self.out).map_err(Failure::refused)?;
        // Read as a stranger's: what was written is a model.
        let weights = ModelFolder::open(&self.out).map_err(Failure::refused)?.digests().weights;
        let merged = Merged { out: self.out, changed, weights: hex::encode(weights) };
        if self.json {
            return output::print_json(&merged);
        }
        output::print(&format!(
            "{}: the model with the adapter inside, {} weights changed, model.safetensors {}\n",
            merged.out.display(),
            merged.changed,
            merged.weights
        ))
    }
}
