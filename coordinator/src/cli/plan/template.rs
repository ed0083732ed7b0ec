//! A plan's template: what a person decides. What follows from the roster and the model is filled in.

use std::path::{Path, PathBuf};

use consilium_crypto::{
    digest::Digest, privacy::noise_multiplier, release::ARITHMETIC_VERSION, ring::RingWidth,
};
use consilium_proto::{
    ids::Id,
    plan::{
        Adapter, AdapterMode, Cohort, Deadlines, Encoding, Evaluation, Model, Optimizer, Plan, Pooling,
        Privacy, PrivacyUnit, Retries, Task,
    },
    roster::Roster,
};
use rand::TryRng as _;
use serde::Deserialize;

use super::model::{Model as Folder, Targets};
use crate::cli::{Failure, read_document};

/// Shown by `plan new --help`.
pub(super) const HELP: &str = r#"Example:
  consilium plan new --template template.toml --roster roster.toml --model models/minilm --out plan.toml

A template with every field. Lines that begin with # show a default; unknown fields are refused.

  job = "chapters"
  rounds = 60                      # each spends privacy

  [model]
  name = "sentence-transformers/all-MiniLM-L6-v2"   # for people
  pooling = "mean"                 # or "cls"
  max_tokens = 64                  # texts are cut; more costs time

  [task]
  labels_file = "labels.txt"       # one a line, beside the template; or labels = ["…", "…"]
  # max_records_per_patient = 1    # later ones are left out

  [cohort]
  # organizations = 5              # n: the roster's
  # colluders = 1                  # t_c: max(1, ⌊(n−1)/3⌋)
  # min_survivors = 4              # m_min: ⌊(n + t_c)/2⌋ + 1; more costs availability, and less noise is needed
  # allow_no_colluders = false     # must be true for colluders = 0

  [privacy]
  # unit = "patient"               # whom the guarantee protects
  # note = ""                      # what a record stands for; shown wherever ε is
  epsilon = 6.0                    # the job's budget
  delta = 1e-5                     # below one over the number of patients
  sampling_rate = 0.05             # q: probability with which a patient is drawn into a round's lot
  expected_lot = 512.0             # patients drawn in a round by all together: q × all patients
  largest_lot = 128.0              # by the largest organization
  # clip = 1.0                     # norm of one patient's gradient
  # noise_multiplier = 1.03        # z: the least that keeps epsilon for all rounds, and a tenth more for retries

  [encoding]
  # scale = 1024.0                 # ring units per unit of gradient: least power of two ≥ 4·√d / clip
  # ring_bits = 21                 # w: the least that fits
  # metrics_share = 0.05           # part of the squared norm that loss and accuracy ride on
  # loss_max = 7.0                 # losses above count as this: ⌈2·ln(labels)⌉
  # rounding_beta = 0.01           # how often a rounding is drawn again

  [optimizer]
  kind = "adam"                    # or kind = "sgd" with learning_rate alone
  learning_rate = 0.02
  beta1 = 0.9
  beta2 = 0.999
  epsilon = 1e-8

  [evaluation]
  organization = "site-1"          # who evaluates the public test set
  # every_rounds = 5
  # max_examples = 1000

  [deadlines]                      # seconds
  # wait_s = 600
  # advertise_s = 30
  # share_s = 30
  # input_s = 600                  # train and upload
  # vote_s = 30
  # unmask_s = 30
  # grace_s = 10                   # how long a closed connection is waited for

  [retries]
  # max_attempts = 2               # a round's; each spends privacy

  [adapter]
  # mode = "ffa"                   # B is trained, A drawn once and frozen
  rank = 8
  alpha = 16.0
  # rslora = false
  target_modules = ["query", "value"]   # [] trains the head alone
  # layers = [4, 5]                # all
  # seed = "…"                     # 64 hexadecimal digits, public: drawn"#;

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
    adapter: AdapterPart,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelPart {
    name: String,
    pooling: Pooling,
    max_tokens: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskPart {
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
    epsilon: f64,
    delta: f64,
    sampling_rate: f64,
    expected_lot: f64,
    largest_lot: f64,
    clip: Option<f64>,
    noise_multiplier: Option<f64>,
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
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetriesPart {
    max_attempts: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AdapterPart {
    mode: Option<AdapterMode>,
    rank: u32,
    alpha: f64,
    #[serde(default)]
    rslora: bool,
    target_modules: Vec<String>,
    layers: Option<Vec<u32>>,
    seed: Option<String>,
}

/// Reads a template and the label file that it names.
pub(super) fn read(path: &Path) -> Result<Template, Failure> {
    let text = read_document(path)?;
    let mut template: Template = toml::from_str(&text).map_err(|e| Failure::in_file(path, e))?;
    let task = &mut template.task;
    match (&task.labels, &task.labels_file) {
        (Some(_), None) => {}
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

impl Template {
    /// The plan that this template means for a roster and a model.
    pub(super) fn fill(self, roster: &Roster, roster_digest: Digest, model: &Folder) -> Result<Plan, String> {
        let cohort = self.cohort.fill(roster)?;
        if roster.organizations.iter().all(|party| party.id != self.evaluation.organization) {
            return Err(format!(
                "evaluation.organization: {} is not an organization of the roster",
                self.evaluation.organization
            ));
        }
        let labels = self.task.labels.unwrap_or_default();
        let adapter = self.adapter.fill(model, &labels)?;
        let privacy = self.privacy.fill(self.rounds)?;
        let trained = adapter.tensors.iter().filter(|tensor| tensor.trained);
        let dimension = trained.map(|t| t.shape.iter().map(|&axis| f64::from(axis)).product::<f64>()).sum();
        let encoding = self.encoding.fill(dimension, privacy.clip, labels.len());
        let narrowest = encoding.1;
        let mut plan = Plan {
            version: 1,
            job: self.job,
            roster: roster_digest,
            rounds: self.rounds,
            arithmetic: ARITHMETIC_VERSION,
            model: Model {
                name: self.model.name,
                config: model.config,
                tokenizer: model.tokenizer,
                weights: model.weights,
                pooling: self.model.pooling,
                max_tokens: self.model.max_tokens,
            },
            task: Task { labels, max_records_per_patient: self.task.max_records_per_patient },
            cohort,
            privacy,
            encoding: encoding.0,
            optimizer: self.optimizer,
            evaluation: Evaluation {
                organization: self.evaluation.organization,
                every_rounds: self.evaluation.every_rounds.unwrap_or(5),
                max_examples: self.evaluation.max_examples.unwrap_or(1000),
            },
            deadlines: self.deadlines.fill(),
            retries: Retries { max_attempts: self.retries.max_attempts.unwrap_or(2) },
            adapter,
        };
        let derived = plan.derive().map_err(|e| e.to_string())?;
        if narrowest {
            let needed = derived
                .encoding
                .ring_width(plan.cohort.organizations, plan.privacy.largest_lot, derived.sigma_share)
                .map_err(|e| e.to_string())?;
            plan.encoding.ring_bits = needed.max(RingWidth::MIN);
        }
        Ok(plan)
    }
}

impl CohortPart {
    fn fill(self, roster: &Roster) -> Result<Cohort, String> {
        let listed = u32::try_from(roster.organizations.len()).unwrap_or(u32::MAX);
        let n = self.organizations.unwrap_or(listed);
        if n != listed {
            return Err(format!(
                "cohort.organizations is {n}; the roster lists {listed}, and all are invited"
            ));
        }
        let t_c = self.colluders.unwrap_or((n.saturating_sub(1) / 3).max(1));
        // With few organizations the quorum alone does not leave two honest contributors.
        let quorum = n.saturating_add(t_c) / 2 + 1;
        let least = quorum.max(t_c.max(1).saturating_add(2)).min(n);
        Ok(Cohort {
            organizations: n,
            colluders: t_c,
            min_survivors: self.min_survivors.unwrap_or(least),
            allow_no_colluders: self.allow_no_colluders,
        })
    }
}

impl PrivacyPart {
    fn fill(self, rounds: u32) -> Result<Privacy, String> {
        let noise_multiplier = match self.noise_multiplier {
            Some(z) => z,
            None => {
                let attempts = u64::from(rounds) + u64::from(rounds.div_ceil(10));
                noise_multiplier(self.epsilon, self.delta, self.sampling_rate, attempts)
                    .map_err(|e| format!("privacy: {e}"))?
            }
        };
        Ok(Privacy {
            unit: self.unit.unwrap_or(PrivacyUnit::Patient),
            note: self.note,
            delta: self.delta,
            epsilon: self.epsilon,
            sampling_rate: self.sampling_rate,
            expected_lot: self.expected_lot,
            largest_lot: self.largest_lot,
            clip: self.clip.unwrap_or(1.0),
            noise_multiplier,
        })
    }
}

impl EncodingPart {
    /// And whether the ring is to be the narrowest that fits.
    fn fill(self, dimension: f64, clip: f64, labels: usize) -> (Encoding, bool) {
        let least = 4.0 * dimension.sqrt() / clip;
        let encoding = Encoding {
            scale: self.scale.unwrap_or_else(|| least.log2().ceil().exp2()),
            ring_bits: self.ring_bits.unwrap_or(RingWidth::MAX),
            metrics_share: self.metrics_share.unwrap_or(0.05),
            loss_max: self.loss_max.unwrap_or_else(|| (2.0 * (labels.max(2) as f64).ln()).ceil()),
            rounding_beta: self.rounding_beta.unwrap_or(0.01),
        };
        (encoding, self.ring_bits.is_none())
    }
}

impl DeadlinesPart {
    fn fill(self) -> Deadlines {
        Deadlines {
            wait_s: self.wait_s.unwrap_or(600),
            advertise_s: self.advertise_s.unwrap_or(30),
            share_s: self.share_s.unwrap_or(30),
            input_s: self.input_s.unwrap_or(600),
            vote_s: self.vote_s.unwrap_or(30),
            unmask_s: self.unmask_s.unwrap_or(30),
            grace_s: self.grace_s.unwrap_or(10),
        }
    }
}

impl AdapterPart {
    fn fill(self, model: &Folder, labels: &[String]) -> Result<Adapter, String> {
        let seed = match self.seed {
            Some(text) => text.parse().map_err(|e| format!("adapter.seed: {e}"))?,
            None => {
                let mut seed = [0; 32];
                rand::rngs::SysRng
                    .try_fill_bytes(&mut seed)
                    .map_err(|e| format!("the operating system gives no random bytes: {e}"))?;
                Digest(seed)
            }
        };
        let tensors = model.adapter(&Targets {
            rank: self.rank,
            modules: &self.target_modules,
            layers: self.layers.as_deref(),
            labels: u32::try_from(labels.len()).unwrap_or(u32::MAX),
        })?;
        Ok(Adapter {
            mode: self.mode.unwrap_or(AdapterMode::Ffa),
            rank: self.rank,
            alpha: self.alpha,
            rslora: self.rslora,
            target_modules: self.target_modules,
            layers: self.layers,
            seed,
            tensors,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_in_the_help_is_a_template_and_its_defaults_are_named_rightly() {
        let shown: String = HELP
            .lines()
            .skip_while(|line| !line.contains("job = "))
            .map(|line| line.trim_start())
            .filter(|line| !line.contains("seed = "))
            .fold(String::new(), |all, line| all + line + "\n");
        let template: Template = toml::from_str(&shown).unwrap();
        assert_eq!(template.rounds, 60);
        // With the comment marks gone, every field is one that the template knows.
        let all = shown.replace("# ", "");
        let all: String = all
            .lines()
            .map(|line| {
                // A field's own explanation follows two spaces or more.
                let end = line.find("   ").unwrap_or(line.len());
                line[..end].to_owned() + "\n"
            })
            .collect();
        let full: Template = toml::from_str(&all).unwrap_or_else(|e| panic!("{e}\n{all}"));
        let defaults = DeadlinesPart::default().fill();
        assert_eq!(full.deadlines.fill(), defaults);
        assert_eq!(full.retries.max_attempts, Some(2));
        assert_eq!(full.evaluation.every_rounds, Some(5));
        let (shown, _) = full.encoding.fill(44_949.0, 1.0, 21);
        let (meant, narrowest) = EncodingPart::default().fill(44_949.0, 1.0, 21);
        assert!(narrowest);
        assert_eq!(Encoding { ring_bits: 32, ..shown }, meant);
    }
}
