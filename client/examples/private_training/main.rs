//! What LoRA learns under privacy where a head alone does not: two tasks on ICD-10-CM titles, a title for a patient.
//!
//! ```text
//! cargo run --release -p consilium-client --example private_training -- complications MODEL TITLES.csv OUT.jsonl --train lora
//! cargo run --release -p consilium-client --example private_training -- next-token MODEL TITLES.csv OUT.jsonl
//! ```
//!
//! `complications` ([`complications`]): an encoder (`.cache/model`) tells which diagnoses count as complications, from `.cache/complications/titles.csv`;
//! `--train head` trains the head alone, `--train lora` LoRA and the head. `next-token` ([`next_token`]): a causal decoder
//! (`.cache/smollm2`) continues the titles of `.cache/icd10/titles.csv`.
//!
//! One process takes the steps of a job in the unit `patient` ([`steps`]), with the noise that all organizations' shares add up to. Each
//! seed appends one line of JSON to OUT.jsonl.

mod complications;
mod next_token;
mod steps;

use std::{fs, io::Write as _, path::PathBuf};

use clap::{Args, Parser};
use consilium_client::model::ModelFolder;
use serde_json::Value;

use complications::Fold;
use steps::{Experiment, Failure};

/// Trains under differential privacy in one process and scores held-out titles.
#[derive(Parser)]
enum Task {
    /// Which diagnoses count as complications.
    Complications {
        #[command(flatten)]
        common: Common,
        /// `head` alone, or `lora` and the head.
        #[arg(long, default_value = "lora")]
        train: complications::Trained,
        /// Score the titles that are kept for tuning instead of the test titles.
        #[arg(long)]
        validate: bool,
    },
    /// The next token of a title.
    NextToken {
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Args)]
struct Common {
    /// A Hugging Face folder.
    model: PathBuf,
    /// The titles.
    titles: PathBuf,
    /// One line of JSON is appended for each seed.
    out: PathBuf,
    /// What is spent over all rounds, at the task's δ; `inf` adds no noise.
    #[arg(long, default_value_t = 4.0)]
    epsilon: f64,
    /// Adam's rates in the place of the task's own; one run for each and each seed.
    #[arg(long = "rate")]
    rates: Vec<f32>,
    /// One run each, below 256.
    #[arg(long = "seed", default_values_t = [1, 2, 3])]
    seeds: Vec<u8>,
}

fn main() -> Result<(), Failure> {
    match Task::parse() {
        Task::Complications { common, train, validate } => {
            let fold = if validate { Fold::Validation } else { Fold::Test };
            let folder = ModelFolder::open(&common.model)?;
            run(&common, complications::experiment(folder, &common.titles, train, fold)?)
        }
        Task::NextToken { common } => {
            let folder = ModelFolder::open(&common.model)?;
            run(&common, next_token::experiment(folder, &common.titles)?)
        }
    }
}

fn run(common: &Common, experiment: Experiment) -> Result<(), Failure> {
    let mut job = experiment.job(common.epsilon)?;
    let own = [experiment.rate];
    let rates = if common.rates.is_empty() { &own[..] } else { &common.rates };
    for (&rate, &seed) in rates.iter().flat_map(|rate| common.seeds.iter().map(move |seed| (rate, seed))) {
        let line: Value = job.run(rate, seed)?;
        println!("{line}");
        let mut out = fs::OpenOptions::new().create(true).append(true).open(&common.out)?;
        writeln!(out, "{line}")?;
    }
    Ok(())
}
