//! A plan's template: what a person decides. What follows from the roster and the model is filled in.

mod fill;
mod help;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use consilium_proto::{
    ids::Id,
    plan::{
        AdapterMode, DataDeclaration, Hours, Local, Optimizer, Pooling, PrivacyUnit, Retention,
        TargetModules, TaskKind, Tensor,
    },
};
use serde::Deserialize;

use crate::cli::{Failure, read_document};
pub(super) use help::HELP;

/// A template, read and resolved against its folder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Template {
    job: Id,
    rounds: u32,
    model: ModelPart,
    task: TaskPart,
    #[serde(default)]
    cohort: CohortPart,
    privacy: PrivacyPart,
    #[serde(default)]
    encoding: EncodingPart,
    optimizer: Optimizer,
    evaluation: EvaluationPart,
    #[serde(default)]
    deadlines: DeadlinesPart,
    #[serde(default)]
    retries: RetriesPart,
    #[serde(default)]
    hours: Vec<Hours>,
    #[serde(default)]
    retention: Option<Retention>,
    #[serde(default)]
    data: Vec<DataDeclaration>,
    adapter: AdapterPart,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelPart {
    name: String,
    pooling: Option<Pooling>,
    max_tokens: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskPart {
    #[serde(default)]
    kind: TaskKind,
    #[serde(default)]
    class_weights: Vec<f64>,
    labels: Option<Vec<String>>,
    labels_file: Option<PathBuf>,
    #[serde(default = "one")]
    max_records_per_patient: u32,
}

fn one() -> u32 {
    1
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CohortPart {
    organizations: Option<u32>,
    colluders: Option<u32>,
    min_survivors: Option<u32>,
    #[serde(default)]
    allow_no_colluders: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrivacyPart {
    unit: Option<PrivacyUnit>,
    #[serde(default)]
    note: String,
    epsilon: Option<f64>,
    delta: Option<f64>,
    sampling_rate: f64,
    expected_lot: Option<f64>,
    largest_lot: Option<f64>,
    clip: Option<f64>,
    noise_multiplier: Option<f64>,
    #[serde(default)]
    i_accept_no_privacy: bool,
    local: Option<Local>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct EncodingPart {
    scale: Option<f64>,
    ring_bits: Option<u32>,
    metrics_share: Option<f64>,
    loss_max: Option<f64>,
    rounding_beta: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EvaluationPart {
    organization: Id,
    every_rounds: Option<u32>,
    max_examples: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeadlinesPart {
    wait_s: Option<u32>,
    advertise_s: Option<u32>,
    share_s: Option<u32>,
    input_s: Option<u32>,
    vote_s: Option<u32>,
    unmask_s: Option<u32>,
    grace_s: Option<u32>,
    upload_grace_s: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetriesPart {
    max_attempts: Option<u32>,
    reserve: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AdapterPart {
    mode: Option<AdapterMode>,
    rank: Option<u32>,
    alpha: Option<f64>,
    #[serde(default)]
    rslora: bool,
    target_modules: Option<TargetModules>,
    layers: Option<Vec<u32>>,
    #[serde(default)]
    dropout: f64,
    start: Option<PathBuf>,
    #[serde(default)]
    local: Vec<String>,
    seed: Option<String>,
    /// Instead of what follows from modules: the tensors of a trainer of the organizations' own.
    #[serde(default, rename = "tensor")]
    tensors: Vec<Tensor>,
}

impl Template {
    /// Whether it lists its tensors itself, so that nothing about the model must be known.
    pub(super) fn names_tensors(&self) -> bool {
        !self.adapter.tensors.is_empty()
    }
}

/// Reads a template and the label file that it names.
pub(super) fn read(path: &Path) -> Result<Template, Failure> {
    let text = read_document(path)?;
    let mut template: Template = toml::from_str(&text).map_err(|e| Failure::in_file(path, e))?;
    template.adapter.start = template.adapter.start.take().map(|start| path.with_file_name("").join(start));
    let task = &mut template.task;
    match (&task.labels, &task.labels_file) {
        (Some(_), None) => {}
        (None, None) if task.kind == TaskKind::NextToken => {}
        (None, Some(file)) => {
            let file = path.with_file_name("").join(file);
            let text = read_document(&file)?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            task.labels = Some(lines.map(str::to_owned).collect());
        }
        _ => {
            return Err(Failure::in_file(path, "task: give either labels or labels_file"));
        }
    }
    Ok(template)
}
