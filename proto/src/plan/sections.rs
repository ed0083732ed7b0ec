//! The plan's sections, as they stand in the text. Every field says what turning it costs.

use consilium_crypto::{digest::Digest, release::Turn};
use serde::{Deserialize, Serialize};

use super::TargetModules;
use crate::{ids::Id, text};

/// The frozen base model: what every client must hold, byte for byte.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// A name for people; it also stands in the adapter's `base_model_name_or_path`.
    pub name: String,
    /// SHA-256 of `config.json`.
    #[serde(with = "text::digest")]
    pub config: Digest,
    /// SHA-256 of `tokenizer.json`.
    #[serde(with = "text::digest")]
    pub tokenizer: Digest,
    /// SHA-256 of `model.safetensors`.
    #[serde(with = "text::digest")]
    pub weights: Digest,
    /// How token vectors become one vector for the head.
    pub pooling: Pooling,
    /// Texts are cut to this many tokens, specials included. More costs time and memory in proportion.
    pub max_tokens: u32,
}

/// How token vectors become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Mean over the text's tokens.
    Mean,
    /// The first token's vector.
    Cls,
    /// Not at all: each token's vector tells the next token. With `task.kind = "next-token"`, and only there.
    None,
}

/// What is learned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// What is learned of a text; absent: one label.
    #[serde(default, skip_serializing_if = "TaskKind::is_default")]
    pub kind: TaskKind,
    /// The labels, in the order of the head's rows; 2 to 10,000, and none with `next-token`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// How much each label weighs in the loss, in the labels' order; absent: all alike. `single-label`: a text's loss is multiplied by
    /// its label's weight; `multi-label`: only the part for a label that the text has (`pos_weight` in PyTorch). Rare labels
    /// gain; with a fixed clipping norm, the others lose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_weights: Vec<f64>,
    /// Most records that one patient contributes to a gradient; later ones are left out. More helps patients with many
    /// records and costs time.
    pub max_records_per_patient: u32,
}

/// What is learned of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// Exactly one label: cross-entropy.
    #[default]
    SingleLabel,
    /// Any number of labels: binary cross-entropy, the mean over labels.
    MultiLabel,
    /// The next token, at every place of the text: cross-entropy, the mean over a text's tokens. Needs a causal decoder.
    NextToken,
}

impl TaskKind {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The largest loss that is worth telling apart, nats: where a template names none. `labels` as the task has them.
    pub fn loss_max(self, labels: usize) -> f64 {
        match self {
            Self::SingleLabel => (2.0 * (labels.max(2) as f64).ln()).ceil(),
            // A coin's is ln 2.
            Self::MultiLabel => 2.0,
            // Of a vocabulary of fifty thousand, guessed blindly: 10.8.
            Self::NextToken => 12.0,
        }
    }
}

/// Which tensors are trained and how they start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adapter {
    /// What is averaged; see the training page of the manual.
    pub mode: AdapterMode,
    /// LoRA's `r`, as in `peft`. More is more expressive, and more coordinates for the noise to fall on.
    pub rank: u32,
    /// `lora_alpha`, as in `peft`: the product is scaled by `alpha / rank`.
    pub alpha: f64,
    /// `use_rslora`, as in `peft`: scale by `alpha / √rank` instead.
    pub rslora: bool,
    /// `target_modules`, as in `peft`: a list of last parts of module names, or one pattern over whole names. An empty list: the head
    /// alone is trained.
    pub target_modules: TargetModules,
    /// `layers_to_transform`, as in `peft`; absent: all. Layers below the first adapted one are computed once per text
    /// and kept, so fewer adapted layers at the top make rounds faster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<u32>>,
    /// `lora_dropout`, as in `peft`: the part of an adapted layer's inputs that a training step sets to zero before `A`. Only in
    /// units in which organizations send deltas without noise of their own.
    #[serde(default, skip_serializing_if = "is_absent")]
    pub dropout: f64,
    /// 32 bytes, public, from which the frozen `A` and the head's start are drawn.
    #[serde(with = "text::digest")]
    pub seed: Digest,
    /// SHA-256 of a safetensors file with values that the job goes on from, beside the plan as `PLAN.start`; absent: all tensors start as
    /// drawn. Tensors that it does not hold still do.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "text::optional_digest")]
    pub start: Option<Digest>,
    /// What stays at home: `["head"]`, or nothing. Each organization then trains a head of its own that nobody else ever sees
    /// (FedPer, arXiv 1912.00818), and the factors alone are summed. Only in units that do not protect single patients: such a head
    /// learns from records without noise, and every gradient depends on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local: Vec<String>,
    /// Every tensor of the adapter, sorted by name; those that stay at home too.
    #[serde(rename = "tensor")]
    pub tensors: Vec<Tensor>,
}

impl Adapter {
    /// Whether the tensor of this name stays at home.
    pub fn is_local(&self, tensor: &str) -> bool {
        self.local
            .iter()
            .any(|part| tensor.strip_prefix(part.as_str()).is_some_and(|rest| rest.starts_with('.')))
    }

    /// The tensors that everybody has alike: those of a release.
    pub fn shared(&self) -> impl Iterator<Item = &Tensor> {
        self.tensors.iter().filter(|tensor| !self.is_local(&tensor.name))
    }
}

/// Which factors are trained and summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterMode {
    /// `B` only; `A` is drawn once and frozen (FFA-LoRA, arXiv 2403.12313): the one in which a sum of updates is exact
    /// and noise enters linearly.
    Ffa,
    /// `A` and `B` at once: the mean of each. What is averaged is not the product, so organizations that differ pull the mean of the
    /// products away from the product of the means, and noise enters quadratically; there are more coordinates, too.
    Both,
    /// `B` in a job's first step, `A` in the second, and so on in turn; the head in all (RoLoRA, arXiv 2409.02346). Each step's mean is
    /// exact. An update has the coordinates of both, and those that rest are zero and are not applied.
    Alternate,
}

/// Whether a tensor is a LoRA factor `A`, by its name in `peft`.
fn is_a(name: &str) -> bool {
    name.contains(".lora_A.") || name.contains(".lora_embedding_A")
}

/// When a trained tensor moves.
pub(super) fn turn(mode: AdapterMode, name: &str) -> Turn {
    let b = name.contains(".lora_B.") || name.contains(".lora_embedding_B");
    match mode {
        AdapterMode::Ffa | AdapterMode::Both => Turn::Every,
        AdapterMode::Alternate if is_a(name) => Turn::Even,
        AdapterMode::Alternate if b => Turn::Odd,
        AdapterMode::Alternate => Turn::Every,
    }
}

/// One tensor of the adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tensor {
    /// Its name in the safetensors file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<u32>,
    /// Half the width of the uniform distribution it starts from; 0: it starts at zero.
    pub bound: f32,
    /// Whether it is trained; a frozen tensor costs nothing in a round.
    pub trained: bool,
}

/// Whose privacy, and how much of it the job may spend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privacy {
    /// Whose participation the guarantee hides.
    pub unit: PrivacyUnit,
    /// What one data record stands for, for people; shown wherever ε is shown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// `δ`, below one over the number of patients (`organization`: of organizations). Not in `none`.
    #[serde(default, skip_serializing_if = "is_absent")]
    pub delta: f64,
    /// The job's budget `ε` at `delta`, against the coordinator with the tolerated colluders; a client refuses the
    /// attempt that would pass it. Not in `none`.
    #[serde(default, skip_serializing_if = "is_absent")]
    pub epsilon: f64,
    /// Probability with which each patient is drawn into a lot. Less costs rounds, more costs ε; in `organization` and
    /// `none` it is the part of the patients that a local step looks at, and costs time only.
    pub sampling_rate: f64,
    /// Lot that all organizations together are expected to draw, patients; a public number that divides the sum. In
    /// `patient-local` each organization divides its own sum by a cohort's share of it, `expected_lot / n`. Not in
    /// `organization` and `none`.
    #[serde(default, skip_serializing_if = "is_absent")]
    pub expected_lot: f64,
    /// Largest expected lot of any one organization, patients; sets the clamp and the ring's width. Only in `patient`.
    #[serde(default, skip_serializing_if = "is_absent")]
    pub largest_lot: f64,
    /// Clipping norm `C` of one patient's gradient and metrics together; in `organization` and `none`, of one
    /// organization's delta and metrics.
    pub clip: f64,
    /// Noise multiplier `z = σ/Δ` of the noise that the guaranteed honest survivors add together; in `patient-local`, that
    /// each organization adds alone to every step. More costs accuracy. Not in `none`.
    #[serde(default, skip_serializing_if = "is_absent")]
    pub noise_multiplier: f64,
    /// Must be true for `unit = "none"`, and absent otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub i_accept_no_privacy: bool,
    /// Training between two rounds, in units in which organizations send deltas; not in `patient`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Local>,
}

/// A number that a unit does not have stands as 0 and is left out of the text.
fn is_absent(value: &f64) -> bool {
    *value == 0.0
}

/// What each organization does by itself in a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Local {
    /// Steps of plain gradient descent, 1 to 10,000. More make rounds fewer and worth more; in `patient-local` each
    /// costs ε.
    pub steps: u32,
    /// Step size of a local step.
    pub learning_rate: f64,
    /// FedProx (Li et al., 2020): `μ` of the term `μ/2·‖w − w₀‖²` that holds every local step to the adapter `w₀` from which the round
    /// starts; absent: none. Needs two steps at least, for the first begins at `w₀`.
    #[serde(default, skip_serializing_if = "is_absent")]
    pub proximal: f64,
    /// Norm to which the finished delta is clipped; sets the ring's width, no guarantee. Only in `patient-local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_clip: Option<f64>,
    /// Ring units per unit of the delta. Coarse ones round the noise away and the signal with it. Only in
    /// `patient-local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_scale: Option<f64>,
}

/// Whose participation the guarantee hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrivacyUnit {
    /// One patient, all of that patient's records at one organization; noise is added together, one step a round.
    Patient,
    /// One patient, even if every other party colludes: each organization adds the whole noise, any number of steps.
    PatientLocal,
    /// One organization's whole contribution; that it takes part is public.
    Organization,
    /// Nobody: no noise. Sums stay masked.
    None,
}

/// How gradients become ring values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoding {
    /// Ring units per unit of gradient, a power of two. More costs bits on the wire; `scale · clip ≥ 4·√dimension` keeps
    /// the cost of rounding near 1 %.
    pub scale: f64,
    /// Width `w` of the ring, bits; each coordinate costs `w/8` bytes of upload.
    pub ring_bits: u32,
    /// Part of the squared clipping norm that loss and accuracy ride on.
    pub metrics_share: f64,
    /// Losses above this count as this, nats.
    pub loss_max: f64,
    /// Probability with which a patient's rounding is drawn again. Not in `none`, where nothing is rounded at random.
    #[serde(default, skip_serializing_if = "is_absent")]
    pub rounding_beta: f64,
}

/// Who takes part and how many may be silent or corrupt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cohort {
    /// Organizations in a round, `n`: the whole roster.
    pub organizations: u32,
    /// Corrupt members tolerated beside the coordinator, `t_c`. More costs tolerated dropouts and noise.
    pub colluders: u32,
    /// Fewest survivors whose sum a client helps to open, `m_min`.
    pub min_survivors: u32,
    /// Must be true for `colluders = 0`, which is shown in red.
    #[serde(default)]
    pub allow_no_colluders: bool,
}

/// What the released mean does to the adapter. Deterministic, so that every client recomputes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Optimizer {
    /// Adam (Kingma and Ba, 2015) on the mean gradient, or on the negative of the mean delta.
    Adam {
        /// Step size.
        learning_rate: f32,
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the denominator.
        epsilon: f32,
    },
    /// Plain gradient descent on the mean gradient; only in `patient`.
    Sgd {
        /// Step size.
        learning_rate: f32,
    },
    /// Federated averaging (McMahan et al., 2017): adds the mean delta; only where organizations send deltas.
    FedAvg {
        /// Server rate; 1 is plain averaging.
        learning_rate: f32,
    },
    /// Federated averaging with server momentum (Hsu, Qi and Brown, 2019); only where organizations send deltas.
    FedAvgM {
        /// Server rate.
        learning_rate: f32,
        /// How much of the earlier steps goes on.
        momentum: f32,
    },
}

/// Who evaluates the adapter on the public test set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// The organization whose result counts; its view is named beside the number.
    pub organization: Id,
    /// After every so many rounds, and after the last.
    pub every_rounds: u32,
    /// At most this many examples.
    pub max_examples: u32,
}

/// How long each step may take, seconds. A step that everybody has answered ends at once; a step whose missing members
/// are all disconnected ends after `grace_s` (`upload_grace_s` in the middle of their uploads), if enough have answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deadlines {
    /// For the minimum of members to come online before an attempt; then the round fails.
    pub wait_s: u32,
    /// Advertise keys.
    pub advertise_s: u32,
    /// Deal shares.
    pub share_s: u32,
    /// Train and upload the masked input: the longest by far.
    pub input_s: u32,
    /// Vote on the survivors.
    pub vote_s: u32,
    /// Release shares.
    pub unmask_s: u32,
    /// How long a closed connection is waited for.
    pub grace_s: u32,
    /// The same for a member whose masked input has begun to arrive: its ε is spent, and when its line is back it goes on at the
    /// chunk where it stopped. Left out, as long as `grace_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_grace_s: Option<u32>,
}

/// Retries cost privacy, so they are rationed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retries {
    /// Attempts a round may take, the first included.
    pub max_attempts: u32,
    /// Attempts beyond one a round that may cost privacy, over the whole job: the budget is kept for them, and once they are
    /// used up no round is repeated that has cost something. Absent: a tenth of the rounds, where a round may be repeated at
    /// all. More costs noise, or rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<u32>,
}

impl Retries {
    /// The reserve of a job of `rounds` rounds, in attempts.
    pub fn reserve(&self, rounds: u32) -> u64 {
        let most = u64::from(rounds) * u64::from(self.max_attempts.saturating_sub(1));
        u64::from(self.reserve.unwrap_or(rounds.div_ceil(10))).min(most)
    }
}

/// How long the coordinator keeps what only an auditor needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Hours for which the masked inputs of a released round are kept, 1 to 87,600: so long can anybody who is given them
    /// recompute its sum. Each round costs the cohort's uploads in disk space meanwhile. Without this section they are
    /// dropped with the release.
    pub masked_inputs_h: u32,
}

/// What an organization says about the data it trains on. Nobody else can check it; with the plan it is signed, and it stands in
/// the manifest of every adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataDeclaration {
    /// Whose data.
    pub organization: Id,
    /// What they are and where they come from, 1 to 1,000 characters of plain text: "discharge letters, cardiology, 2019-2024".
    pub description: String,
    /// On what ground they are used, at most 1,000 characters: a law, a consent, an ethics vote.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub basis: String,
}
