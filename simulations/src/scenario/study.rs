//! What is learned, from whose records, what is measured, and how it should end.

use std::path::PathBuf;

use consilium_proto::plan::AdapterMode;
use serde::{Deserialize, Serialize};

/// What is learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TaskKind {
    /// Softmax regression on made-up patients: convex, real training, no libtorch. See [`crate::task::convex`].
    Convex {
        /// Trained parameters, at least; the task has the next number that it can have. Default: 1000.
        #[serde(default = "dimension")]
        dimension: u32,
    },
    /// A mean to be found, patient by patient, at next to no cost: for whoever studies the protocol alone. See
    /// [`crate::task::synthetic`].
    Synthetic {
        /// Trained parameters, exactly. Default: 1000.
        #[serde(default = "dimension")]
        dimension: u32,
    },
    /// The demo's task: a LoRA adapter and a head on a frozen encoder in libtorch, which tell the chapter from a code's title.
    /// Needs the cargo feature `torch`.
    Texts(Texts),
}

impl Default for TaskKind {
    fn default() -> Self {
        Self::Convex { dimension: dimension() }
    }
}

fn dimension() -> u32 {
    1000
}

/// The demo's task. Paths begin at the scenario's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Texts {
    /// The encoder's folder, as `make setup` fetches it. Default: .cache/model, looked for in the folders above.
    pub model: PathBuf,
    /// The titles, as `make setup` fetches them. Default: .cache/icd10/titles.csv, looked for in the folders above.
    pub titles: PathBuf,
    /// Training titles of each chapter, at most. Default: 460.
    pub per_label: u32,
    /// Public test titles of each chapter, at most; of categories that nobody trains on. Default: 55.
    pub test_per_label: u32,
    /// LoRA's rank. Default: 8.
    pub rank: u32,
    /// `lora_alpha`. Default: 8.
    pub alpha: f64,
    /// Adapted modules; none: the head alone is trained. Default: "query", "value".
    pub target_modules: Vec<String>,
    /// Adapted layers. `[5]`: the top one of six
    pub layers: Vec<u32>,
    /// Which factors are averaged: "ffa", "alternate" or "both", as a plan's `adapter.mode`. Default: "ffa".
    pub aggregation: AdapterMode,
    /// Texts are cut to so many tokens. Default: 64.
    pub max_tokens: u32,
    /// Most memory for what is computed once per text and kept, megabytes, over all organizations. Default: 1000.
    pub cache_mb: u64,
}

impl Default for Texts {
    fn default() -> Self {
        Self {
            model: ".cache/model".into(),
            titles: ".cache/icd10/titles.csv".into(),
            per_label: 460,
            test_per_label: 55,
            rank: 8,
            alpha: 8.0,
            target_modules: vec!["query".into(), "value".into()],
            layers: vec![5],
            aggregation: AdapterMode::Ffa,
            max_tokens: 64,
            cache_mb: 1000,
        }
    }
}

/// How records are dealt to organizations. Every record goes to exactly one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Partition {
    /// Shuffled and dealt like cards: equal sizes, equal mixes.
    #[default]
    Iid,
    /// Each label's records by shares drawn from a symmetric Dirichlet distribution (Hsu et al., 2019).
    Dirichlet {
        /// Concentration: 100 is nearly even, 0.3 is the demo's, 0.01 gives each label to one organization.
        alpha: f64,
    },
    /// By a key that the records have by nature, the ICD chapter: each organization is a specialist in one or a few; where
    /// organizations are more than keys, those of a key share its records evenly.
    Natural,
    /// Equal mixes, unequal sizes: shares drawn from a symmetric Dirichlet distribution.
    Quantity {
        /// Concentration.
        alpha: f64,
    },
    /// Equal sizes and mixes, but each organization's records look different: an offset of its own on made-up features,
    /// abbreviations of its own in texts.
    FeatureShift {
        /// How different: the offset in units of the features' own spread; the part of the vocabulary that is abbreviated.
        strength: f64,
    },
}

/// What is measured beside the protocol, by the one who sees everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Evaluation {
    /// The adapter is scored on the public test set after every so many rounds, and after the last. Default: 1.
    pub every_rounds: u32,
    /// Whether each organization also trains alone, and fine-tunes what came out, both without noise, and all three are scored
    /// on records of its own that were kept from training. Default: false.
    pub organizations: bool,
    /// Part of each organization's records that is kept for that. Nothing is kept unless `organizations` is true. Default: 0.2.
    pub own_test: f64,
    /// How organizations train alone.
    pub alone: Alone,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self { every_rounds: 1, organizations: false, own_test: 0.2, alone: Alone::default() }
    }
}

/// Ordinary training without noise and without the others: Adam.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alone {
    /// Passes over its own records, from the job's start. Default: 20.
    pub epochs: u32,
    /// Passes over its own records, from what came out of the federation. Default: 3.
    pub fine_tune_epochs: u32,
    /// Records a step. Default: 64.
    pub lot: u32,
    /// Step size. Default: 0.01.
    pub learning_rate: f64,
}

impl Default for Alone {
    fn default() -> Self {
        Self { epochs: 20, fine_tune_epochs: 3, lot: 64, learning_rate: 0.01 }
    }
}

/// How a simulation should end. One that ends otherwise has failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// The end.
    pub end: End,
    /// What should come of the attack, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attack: Option<super::Verdict>,
    /// Words that must occur in the reason, if there is one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub because: String,
}

/// How a simulation can end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Every round was released, every promise kept, and all ended with one adapter.
    #[default]
    Released,
    /// The job is over, every promise was kept and all ended with one adapter, but some rounds were given up.
    GaveUp,
    /// An organization refused to go on with this coordinator.
    Stopped,
    /// A promise was broken: what simulations are there to find.
    Broken,
    /// Somebody ended with another adapter.
    Apart,
    /// Nothing more happens, and the job is not over.
    Stuck,
    /// A process could not start from its own disk.
    NoStart,
}

impl End {
    /// The word in a scenario.
    pub fn name(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::GaveUp => "gave-up",
            Self::Stopped => "stopped",
            Self::Broken => "broken",
            Self::Apart => "apart",
            Self::Stuck => "stuck",
            Self::NoStart => "no-start",
        }
    }
}
