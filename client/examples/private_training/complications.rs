//! Where an encoder's vectors do not say it: which diagnoses count as a complication or comorbidity beside another diagnosis (Medicare's
//! tables 6I and 6J). That is no matter of topic but of several things together: a broken wrist counts at the first encounter, and
//! later if it has not healed or has healed badly, but not while it heals; a broken finger at the first encounter only if the fracture is open.
//!
//! A title stands for a patient. Rates were tuned on titles that are neither learned from nor tested with (`--validate`), the same ones for both.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use clap::ValueEnum;
use consilium_client::{
    model::{AdapterSpec, ModelFolder, Pooling, TaskKind},
    trainer::Base,
};
use sha2::{Digest as _, Sha256};

use super::steps::{Experiment, Failure, dataset};

const LABELS: [&str; 2] = ["counts", "does not count"];
/// The upper layers that are adapted.
const LAYERS: u32 = 2;
/// Of a grid of .003, .01, .03, .1 (and .3 for the head), the best for either.
const RATE: f32 = 0.03;

/// What is trained.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Trained {
    /// The head alone, on the encoder's own vectors.
    Head,
    /// LoRA on every matrix of the upper layers, and the head.
    Lora,
}

/// Which titles are scored; neither are learned from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    /// To tune by.
    Validation,
    /// To report.
    Test,
}

/// A title and whether it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Title {
    pub(super) code: String,
    pub(super) category: String,
    pub(super) text: String,
    pub(super) counts: bool,
}

/// Titles by what they are for. No category and no text is in two of them.
pub(super) struct Split {
    pub(super) learn: Vec<Title>,
    pub(super) validation: Vec<Title>,
    pub(super) test: Vec<Title>,
}

/// The settings that tuning chose.
///
/// # Errors
///
/// Titles that cannot be read.
pub(super) fn experiment(
    folder: ModelFolder,
    titles: &Path,
    trained: Trained,
    fold: Fold,
) -> Result<Experiment, Failure> {
    let Split { learn, validation, test } = split(read(titles)?);
    let held_out = if fold == Fold::Validation { validation } else { test };
    let labels = LABELS.map(str::to_owned);
    let labelled = |titles: &[Title]| {
        let label = |title: &Title| LABELS[usize::from(!title.counts)];
        dataset(
            TaskKind::SingleLabel,
            &labels,
            titles.iter().map(|title| (title.text.as_str(), label(title))),
        )
    };
    let depth = folder.config().layers as u32;
    let (targets, layers): (&[&str], _) = match trained {
        Trained::Head => (&[], Vec::new()),
        Trained::Lora => {
            let first = depth.saturating_sub(LAYERS);
            (&["query", "key", "value", "dense"], (first..depth).collect())
        }
    };
    let adapter = AdapterSpec {
        rank: 8,
        alpha: 16.0,
        use_rslora: false,
        target_modules: targets.iter().map(|&target| target.to_owned()).collect::<Vec<_>>().into(),
        layers: Some(layers),
        dropout: 0.0,
        pooling: Pooling::Mean,
        max_tokens: 48,
        task: TaskKind::SingleLabel,
        labels: LABELS.len(),
        class_weights: Vec::new(),
    };
    Ok(Experiment {
        folder,
        adapter,
        base: Base::Bf16,
        cache_bytes: 3 << 30,
        learn: labelled(&learn)?,
        held_out: labelled(&held_out)?,
        scored: None,
        rounds: 40,
        lot: 2048.0,
        rate: RATE,
        delta: 1e-5,
    })
}

/// Titles in the order of their codes, equal ones (but for case) once.
fn read(path: &Path) -> Result<Vec<Title>, Failure> {
    let mut reader = csv::Reader::from_path(path)?;
    let head = reader.headers()?.clone();
    let column = |name: &str| head.iter().position(|h| h == name).ok_or(format!("no column {name}"));
    let (code, category, counts_as, title) =
        (column("code")?, column("category")?, column("counts_as")?, column("title")?);
    let mut seen = BTreeSet::new();
    let mut titles = Vec::new();
    for row in reader.records() {
        let row = row?;
        if seen.insert(row[title].to_lowercase()) {
            titles.push(Title {
                code: row[code].to_owned(),
                category: row[category].to_owned(),
                text: row[title].to_owned(),
                counts: &row[counts_as] != "none",
            });
        }
    }
    Ok(titles)
}

/// Every tenth three-character category is for the test, the one after it for tuning. In each part all titles that count, and as many
/// that do not, drawn by the digests of their codes, so that guessing is right half the time.
pub(super) fn split(titles: Vec<Title>) -> Split {
    let mut numbers = BTreeMap::new();
    let [mut learn, mut validation, mut test] = [const { Vec::new() }; 3];
    for title in titles {
        let next = numbers.len();
        match *numbers.entry(title.category.clone()).or_insert(next) % 10 {
            0 => test.push(title),
            1 => validation.push(title),
            _ => learn.push(title),
        }
    }
    Split { learn: balanced(learn), validation: balanced(validation), test: balanced(test) }
}

fn balanced(mut titles: Vec<Title>) -> Vec<Title> {
    titles.sort_by_cached_key(|title| <[u8; 32]>::from(Sha256::digest(&title.code)));
    let counting = titles.iter().filter(|title| title.counts).count();
    let each = counting.min(titles.len() - counting);
    let mut left = [each; 2];
    titles.retain(|title| {
        let left = &mut left[usize::from(title.counts)];
        let keep = *left > 0;
        *left = left.saturating_sub(1);
        keep
    });
    titles
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Forty categories of ten titles, three of which count; every category has a title that the first one has, too, in capitals.
    fn table() -> String {
        let mut rows = "code,category,counts_as,title\n".to_owned();
        for category in 0..40 {
            for title in 0..10 {
                let counts_as = ["mcc", "cc", "cc", "none"][title.min(3)];
                rows += &format!(
                    "C{category:02}{title},C{category:02},{counts_as},\"title {title}, of {category}\"\n"
                );
            }
            let shared = if category == 0 { "shared" } else { "SHARED" };
            rows += &format!("C{category:02}X,C{category:02},none,{shared}\n");
        }
        rows
    }

    #[test]
    fn no_category_and_no_title_is_both_learned_from_and_scored() {
        let path = std::env::temp_dir().join(format!("complications-{}.csv", std::process::id()));
        std::fs::write(&path, table()).unwrap();
        let titles = read(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(titles.len(), 401, "the shared title once");
        let Split { learn, validation, test } = split(titles);
        assert_eq!([learn.len(), validation.len(), test.len()], [32 * 6, 4 * 6, 4 * 6]);
        let parts = [&learn, &validation, &test];
        for (i, part) in parts.iter().enumerate() {
            assert_eq!(part.iter().filter(|title| title.counts).count() * 2, part.len(), "balanced");
            for other in &parts[i + 1..] {
                for title in *part {
                    assert!(other.iter().all(|o| o.category != title.category));
                    assert!(other.iter().all(|o| o.text.to_lowercase() != title.text.to_lowercase()));
                }
            }
        }
    }

    #[test]
    fn which_titles_are_drawn_follows_from_their_codes() {
        let title = |i: usize| Title {
            code: format!("A{i:03}"),
            category: "A00".to_owned(),
            text: format!("title {i}"),
            counts: i < 5,
        };
        let drawn = balanced((0..50).map(title).collect());
        assert_eq!(drawn, balanced((0..50).rev().map(title).collect()));
        assert_eq!(drawn.iter().filter(|title| title.counts).count(), 5);
        assert_eq!(drawn.len(), 10);
    }
}
