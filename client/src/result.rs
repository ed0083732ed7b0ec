//! The folder in which an adapter is handed on.
//!
//! | file | what |
//! |---|---|
//! | `adapter/` | the LoRA factors as a PEFT folder for the bare encoder; absent if the plan trains the head alone |
//! | `head.safetensors` | the classifier head; absent, as `labels.txt`, if the next token is learned, and where heads stay at home |
//! | `tensors.safetensors` | instead of these two, where the model is one that only an organization's own trainer knows: every tensor, by its name in the plan |
//! | `labels.txt` | the labels, one a line, in the order of the head's rows |
//! | `mlbom.cdx.json` | the same facts for tools: a CycloneDX machine-learning bill of materials |
//! | `manifest.json` | where it comes from: plan, organizations, what they declare about their data, roster, round, model, files with their digests, and the privacy it cost with every number that a recomputation of `ε` needs |
//! | `manifest.json.sig` | the organization's signature over the manifest |
//!
//! A baseline that was trained alone has the first three only: nothing was aggregated, so there is nothing to attest.

use std::{
    fs,
    path::{Path, PathBuf},
};

use consilium_crypto::{digest::Digest, release::AdapterState, sign::sign};
use consilium_proto::{
    plan::{DataDeclaration, Guarantees, PrivacyUnit, TaskKind},
    provenance::{BILL, Facts},
};
use serde::Serialize;
use thiserror::Error;

use crate::{
    config::{ConfigError, Loaded, adapter_spec, adapter_tensors_of, signature_path},
    export::{self, ExportError},
    files::{self, FileError},
    ledger::{Debit, Spent},
    model::{AdapterTensors, MAX_WEIGHTS_BYTES},
    trainer::{
        Home,
        external::{SeenTrainer, read_seen},
        home::HEAD_AT_HOME,
    },
};

/// The PEFT folder inside a result folder.
pub const ADAPTER: &str = "adapter";
/// The head's file.
pub const HEAD: &str = "head.safetensors";
/// Every tensor of the adapter, where the client does not know the model.
pub const TENSORS: &str = "tensors.safetensors";
/// The label list.
pub const LABELS: &str = "labels.txt";
/// The manifest.
pub const MANIFEST: &str = "manifest.json";

/// What a manifest's signature is over, beside the manifest.
const SIGNED_AS: &str = "result-manifest";

/// Why a result could not be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResultError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The adapter's own files.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The config names no model, or one that only a trainer outside the client can run.
    #[error(transparent)]
    Config(Box<ConfigError>),
    /// Nothing stays at home.
    #[error("the plan shares everything: no head stays at home; leave --with-local out")]
    AllShared,
    /// No adapter where one was expected.
    #[error(
        "{}: neither a PEFT folder (with adapter_config.json) nor a result folder (with adapter/); correct the path",
        path.display()
    )]
    NoAdapter {
        /// The folder that was given.
        path: PathBuf,
    },
}

impl From<ConfigError> for ResultError {
    fn from(error: ConfigError) -> Self {
        Self::Config(Box::new(error))
    }
}

/// Writes adapter, head and labels into `folder`, which is made if need be.
///
/// # Errors
///
/// Values that do not fit the plan; files that cannot be written.
pub fn write_files(folder: &Path, loaded: &Loaded, values: &AdapterTensors) -> Result<(), ResultError> {
    let plan = loaded.plan.document();
    fs::create_dir_all(folder).map_err(|source| FileError::io("create", folder, source))?;
    match &loaded.model {
        Some(model) => {
            let (config, spec) = (model.config(), adapter_spec(plan));
            if !spec.target_modules.is_empty() {
                let base = Some(model.digests().weights);
                export::write_peft_folder(
                    &folder.join(ADAPTER),
                    &plan.model.name,
                    config,
                    &spec,
                    values,
                    base,
                )?;
            }
            if plan.task.kind == TaskKind::NextToken {
                return Ok(());
            }
            // A released adapter has no head where heads stay at home; a baseline that was trained here has.
            if plan.adapter.local.is_empty() || values.values("head.weight").is_some() {
                export::write_head(&folder.join(HEAD), config, &spec, values)?;
            }
        }
        None => export::write_plain(&folder.join(TENSORS), &plan.adapter.tensors, values, None)?,
    }
    let labels: String = plan.task.labels.iter().map(|label| format!("{label}\n")).collect();
    files::write_atomic(&folder.join(LABELS), labels.as_bytes())?;
    Ok(())
}

/// Writes the adapter after `round` with its signed manifest. `spent` is what this organization's ledger says about the job.
///
/// # Errors
///
/// As [`write_files`].
pub fn write_release(
    folder: &Path,
    loaded: &Loaded,
    round: u32,
    state: &AdapterState,
    spent: Spent,
) -> Result<Manifest, ResultError> {
    write_files(folder, loaded, &adapter_tensors_of(state))?;
    let bill =
        serde_json::to_string_pretty(&facts(loaded, round, state, spent).bill()).unwrap_or_default() + "\n";
    files::write_atomic(&folder.join(BILL), bill.as_bytes())?;
    let manifest = Manifest::of(folder, loaded, round, state, spent)?;
    // Unwrap safety: strings and finite numbers serialize.
    let text = serde_json::to_string_pretty(&manifest).unwrap_or_default() + "\n";
    let path = folder.join(MANIFEST);
    let (identity, plan) = (&loaded.identity, loaded.plan.digest());
    let signature = sign(identity.signing_key(), SIGNED_AS, &plan, identity.id.as_str(), text.as_bytes());
    let line = format!("{} {}\n", identity.id, hex::encode(signature.0));
    files::write_atomic(&path, text.as_bytes())?;
    files::write_atomic(&signature_path(&path), line.as_bytes())?;
    Ok(manifest)
}

/// What this organization knows of the adapter.
fn facts<'a>(loaded: &'a Loaded, round: u32, state: &AdapterState, spent: Spent) -> Facts<'a> {
    let promised = |epsilon| promised(loaded, epsilon);
    Facts {
        roster: &loaded.roster,
        plan: &loaded.plan,
        round,
        releases: u32::try_from(state.steps()).unwrap_or(u32::MAX),
        attempts: spent.debits,
        spent: Guarantees {
            central: promised(spent.epsilon),
            local: promised(spent.epsilon_local),
            delta: spent.delta,
        },
        view: format!("the privacy ledger of {}", loaded.identity.id),
        adapter: state.adapter_digest(),
        optimizer: state.optimizer_digest(),
        organizations: loaded.plan.cohort().iter().map(|id| (id.clone(), None)).collect(),
        software: vec![("consilium-client".to_owned(), env!("CARGO_PKG_VERSION").to_owned())],
        log: None,
    }
}

/// Nothing is promised of an adapter without noise, whoever took part in which attempt.
fn promised(loaded: &Loaded, epsilon: f64) -> f64 {
    match loaded.plan.document().privacy.unit {
        PrivacyUnit::None => f64::INFINITY,
        _ => epsilon,
    }
}

/// Writes the head that stays at home into `folder`, marked as not private: for this organization's own use. It stands in no manifest.
///
/// # Errors
///
/// [`ResultError::AllShared`]; files.
pub fn write_local(folder: &Path, loaded: &Loaded) -> Result<PathBuf, ResultError> {
    let home = Home::open(&loaded.plan, &loaded.config.job_folder(&loaded.plan), false)?;
    let path = folder.join(HEAD_AT_HOME);
    home.ok_or(ResultError::AllShared)?.write(&path)?;
    Ok(path)
}

/// Reads an adapter back: `adapter` is a PEFT folder or a result folder, `head` the head's file if it is not beside it (where heads stay
/// at home, the one in this client's state).
///
/// # Errors
///
/// [`ResultError::NoAdapter`]; files that contradict themselves or the plan.
pub fn read_files(
    adapter: &Path,
    head: Option<&Path>,
    loaded: &Loaded,
) -> Result<AdapterTensors, ResultError> {
    let (config, spec) = (loaded.model()?.config(), adapter_spec(loaded.plan.document()));
    let peft = |folder: &Path| folder.join(export::ADAPTER_CONFIG).is_file();
    let head_only = spec.target_modules.is_empty();
    let (folder, beside) = if !head_only && peft(adapter) {
        (adapter.to_path_buf(), adapter.parent().unwrap_or(Path::new("")).join(HEAD))
    } else if head_only || peft(&adapter.join(ADAPTER)) {
        (adapter.join(ADAPTER), adapter.join(HEAD))
    } else {
        return Err(ResultError::NoAdapter { path: adapter.to_path_buf() });
    };
    let head = match spec.task {
        TaskKind::NextToken => AdapterTensors::new(),
        _ => match Home::open(&loaded.plan, &loaded.config.job_folder(&loaded.plan), false)? {
            // This organization's own.
            Some(home) if head.is_none() && !beside.is_file() => home.values().clone(),
            _ => export::read_head(head.unwrap_or(&beside), config, &spec)?,
        },
    };
    let factors = match head_only {
        true => AdapterTensors::new(),
        false => export::read_peft_folder(&folder, config, &spec, Some(loaded.model()?.digests().weights))?,
    };
    Ok(factors.iter().chain(head.iter()).map(|(name, values)| (name.to_owned(), values.to_vec())).collect())
}

/// Where a result comes from. Everything in it is public.
#[derive(Clone, Debug, Serialize)]
pub struct Manifest {
    /// Version of this format: 1.
    pub version: u32,
    /// The job.
    pub job: String,
    /// Who exported and signed this.
    pub organization: String,
    /// Fingerprint of the plan.
    pub plan: String,
    /// Fingerprint of the roster.
    pub roster: String,
    /// Round after which the adapter stands.
    pub round: u32,
    /// Digest of the adapter, as clients and coordinator compare it.
    pub adapter_digest: String,
    /// Digest of the optimizer's state beside it.
    pub optimizer_digest: String,
    /// Rounds with a published sum up to there.
    pub releases: u64,
    /// The organizations that were invited to every round.
    pub organizations: Vec<String>,
    /// What organizations declare about their data, as the plan has it.
    pub data: Vec<DataDeclaration>,
    /// The base model.
    pub model: ModelEntry,
    /// Tensors that stay at every organization and are not part of the result.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub local: Vec<String>,
    /// SHA-256 of every file of the result, by path.
    pub files: Vec<FileEntry>,
    /// What it cost.
    pub privacy: PrivacyEntry,
    /// Who trained this organization's contributions, and who clipped them.
    pub training: TrainingEntry,
    /// Version of the software.
    pub software: String,
}

/// The base model in a [`Manifest`].
#[derive(Clone, Debug, Serialize)]
pub struct ModelEntry {
    /// Its name in the plan.
    pub name: String,
    /// SHA-256 of `config.json`.
    pub config: String,
    /// SHA-256 of `tokenizer.json`.
    pub tokenizer: String,
    /// SHA-256 of `model.safetensors`.
    pub weights: String,
}

/// Who computed and clipped this organization's contributions.
#[derive(Clone, Debug, Serialize)]
pub struct TrainingEntry {
    /// "clipping done by the client", or "clipping done by the trainer": who answers for it that no patient counted for more
    /// than the clip.
    pub clipping: String,
    /// Trainers outside the client, by their own account, oldest first; none with the built-in trainer.
    pub trainers: Vec<SeenTrainer>,
}

impl TrainingEntry {
    fn of(loaded: &Loaded) -> Result<Self, FileError> {
        let trainers = read_seen(&loaded.config.job_folder(&loaded.plan))?;
        // A contribution counts as clipped by the client only if none of the job's came from outside it.
        let client = trainers.is_empty() && !loaded.config.is_external();
        // A delta arrives whole, and is clipped here.
        let deltas =
            matches!(loaded.plan.document().privacy.unit, PrivacyUnit::Organization | PrivacyUnit::None);
        let by = if client || deltas { "client" } else { "trainer" };
        Ok(Self { clipping: format!("clipping done by the {by}"), trainers })
    }
}

/// One file of a result.
#[derive(Clone, Debug, Serialize)]
pub struct FileEntry {
    /// Its path in the folder.
    pub path: String,
    /// SHA-256.
    pub sha256: String,
}

/// The privacy that an adapter cost, as this organization's own ledger has it.
#[derive(Clone, Debug, Serialize)]
pub struct PrivacyEntry {
    /// Whose view these numbers are.
    pub view: String,
    /// What one record stands for, as the plan says it.
    pub note: String,
    /// Whom it protects.
    pub unit: PrivacyUnit,
    /// The same in words; for the unit `none`, that it protects nobody.
    pub protects: String,
    /// `ε` against the coordinator with the tolerated colluders. Infinite, which JSON has as `null`, where nothing bounds it.
    pub epsilon: f64,
    /// `ε` against everybody else together.
    pub epsilon_local: f64,
    /// `δ` of both.
    pub delta: f64,
    /// Attempts debited: how many times `step.steps` steps were composed.
    pub debits: u64,
    /// The numbers of an attempt.
    pub step: Debit,
}

impl Manifest {
    fn of(
        folder: &Path,
        loaded: &Loaded,
        round: u32,
        state: &AdapterState,
        spent: Spent,
    ) -> Result<Self, ResultError> {
        let plan = loaded.plan.document();
        let promised = |epsilon| promised(loaded, epsilon);
        let organization = loaded.identity.id.to_string();
        let mut files = Vec::new();
        let adapter = [export::ADAPTER_CONFIG, export::ADAPTER_MODEL].map(|file| format!("{ADAPTER}/{file}"));
        for path in adapter.into_iter().chain([HEAD, TENSORS, LABELS, BILL].map(str::to_owned)) {
            let file = folder.join(&path);
            if file.is_file() {
                let bytes = files::read_bytes(&file, MAX_WEIGHTS_BYTES)?;
                files.push(FileEntry { path, sha256: Digest::of(&bytes).to_string() });
            }
        }
        Ok(Self {
            version: 1,
            job: plan.job.to_string(),
            plan: loaded.plan.digest().to_string(),
            roster: loaded.roster.digest().to_string(),
            round,
            adapter_digest: state.adapter_digest().to_string(),
            optimizer_digest: state.optimizer_digest().to_string(),
            releases: state.steps(),
            organizations: loaded.plan.cohort().iter().map(ToString::to_string).collect(),
            data: plan.data.clone(),
            model: ModelEntry {
                name: plan.model.name.clone(),
                config: plan.model.config.to_string(),
                tokenizer: plan.model.tokenizer.to_string(),
                weights: plan.model.weights.to_string(),
            },
            local: plan.adapter.local.clone(),
            files,
            privacy: PrivacyEntry {
                view: format!("the privacy ledger of {organization}"),
                note: plan.privacy.note.clone(),
                unit: plan.privacy.unit,
                protects: plan.privacy.unit.protects().to_owned(),
                epsilon: promised(spent.epsilon),
                epsilon_local: promised(spent.epsilon_local),
                delta: spent.delta,
                debits: spent.debits,
                // Round and attempt of an entry are not the step's; the count stands above.
                step: Debit::of(&loaded.plan, round, 1),
            },
            training: TrainingEntry::of(loaded)?,
            software: format!("consilium-client {}", env!("CARGO_PKG_VERSION")),
            organization,
        })
    }
}
