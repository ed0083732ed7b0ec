//! Where there is no head to train instead: a causal decoder learns to continue titles, next token by next token. Equal titles
//! count once; those of every tenth three-character category are held out. Nothing of this was tuned.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use consilium_client::{
    model::{AdapterSpec, ModelFolder, Pooling, TargetModules, TaskKind},
    trainer::Base,
};

use super::steps::{Experiment, Failure, dataset};

/// The upper layers that are adapted.
const LAYERS: usize = 8;

/// Rank 8 on query and value.
///
/// # Errors
///
/// Titles that cannot be read.
pub(super) fn experiment(folder: ModelFolder, titles: &Path) -> Result<Experiment, Failure> {
    let (learn, held_out) = texts(titles)?;
    let unlabelled =
        |texts: &[String]| dataset(TaskKind::NextToken, &[], texts.iter().map(|text| (text.as_str(), "")));
    let layers = folder.config().layers;
    let adapter = AdapterSpec {
        rank: 8,
        alpha: 16.0,
        use_rslora: false,
        target_modules: TargetModules::from(["q_proj", "v_proj"]),
        layers: Some((layers.saturating_sub(LAYERS) as u32..layers as u32).collect()),
        dropout: 0.0,
        pooling: Pooling::None,
        max_tokens: 48,
        task: TaskKind::NextToken,
        labels: 0,
        class_weights: Vec::new(),
    };
    Ok(Experiment {
        folder,
        adapter,
        base: Base::Bf16,
        cache_bytes: 256 << 20,
        learn: unlabelled(&learn)?,
        held_out: unlabelled(&held_out)?,
        scored: Some(300),
        rounds: 30,
        lot: 128.0,
        rate: 0.01,
        delta: 1e-6,
    })
}

/// Titles to learn from and held-out ones, each once.
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
