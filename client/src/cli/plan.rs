//! `plan`: explain, approve or reject what a job asks of this organization, and rehearse it.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use consilium_crypto::digest::Digest;
use rand::{rand_core::UnwrapErr, rngs::SysRng};
use serde::Serialize;

use super::{ConfiguredJson, Failure, Person, decide, egress::open_ledger, explain, output};
use crate::{
    config::{Config, Loaded, today},
    decisions::Act,
    files::{self, FileError},
    rehearse::{self, Sent},
    run::{kept_adapter, lot::encode_lot, trainer},
};

/// Fewest digits of a fingerprint that name a plan.
const FEWEST_DIGITS: usize = 12;
/// The plan that was approved last, in a job's folder: what a new one is compared with.
pub(crate) const APPROVED: &str = "approved-plan.toml";

#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// Say in words what the plan asks of this organization, and what changed since the one that was approved last.
    #[command(after_help = "Example:\n  consilium-client plan explain --config client.toml")]
    Explain(ConfiguredJson),
    /// Say yes to the plan with this fingerprint, and to no other text.
    #[command(
        after_help = "Example:\n  consilium-client plan approve 1f0c5e1a9b2d --config client.toml --by \"Dr Ada Byron\"\n\nThe fingerprint \
        stands in `plan explain`. A client that waits begins within a second."
    )]
    Approve(Answer),
    /// Say no to it. A client that waits ends; one that takes part leaves its attempt and ends.
    #[command(
        after_help = "Example:\n  consilium-client plan reject 1f0c5e1a9b2d --config client.toml --by \"Dr Ada Byron\" \\\n      --reason \
        \"the ethics board has not met\""
    )]
    Reject(Answer),
    /// Train one lot and write what would be sent to a folder. Nothing is sent and nothing is spent.
    #[command(
        after_help = "Example:\n  consilium-client plan rehearse --config client.toml --out rehearsal\n\nEverybody else is played by stand-ins in \
        this process, under keys of the moment: as many vectors are masked as the cohort has members."
    )]
    Rehearse(Rehearse),
}

#[derive(Debug, Args)]
pub(crate) struct Answer {
    /// The plan's fingerprint, or its first digits, 12 at least.
    fingerprint: String,
    #[command(flatten)]
    person: Person,
}

#[derive(Debug, Args)]
pub(crate) struct Rehearse {
    #[command(flatten)]
    common: ConfiguredJson,
    /// Folder for the messages; must not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl PlanCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Explain(command) => explain::explain(&command),
            Self::Approve(command) => command.run(Act::Approve),
            Self::Reject(command) => command.run(Act::Reject),
            Self::Rehearse(command) => command.run(),
        }
    }
}

impl Answer {
    fn run(self, act: Act) -> Result<(), Failure> {
        let config = Config::load(&self.person.config)?;
        let roster = config.open_roster()?;
        let plan = config.open_plan(&roster)?;
        let digest = plan.digest().to_string();
        let named = self.fingerprint.to_ascii_lowercase();
        if named.len() < FEWEST_DIGITS {
            return Err(Failure::refused(format!(
                "{named}: name the plan by {FEWEST_DIGITS} digits of its fingerprint at least; `consilium-client plan explain` shows it"
            )));
        }
        if !digest.starts_with(&named) {
            return Err(Failure::refused(format!(
                "the plan at hand is {digest}, not {named}: it changed since it was read; read it again with `consilium-client plan explain`"
            )));
        }
        if act == Act::Approve {
            // What is approved must be able to run.
            let policy = config.open_policy()?;
            config.check_policy(&policy, &plan, &roster)?;
            let folder = config.job_folder(&plan);
            std::fs::create_dir_all(&folder).map_err(|source| FileError::io("create", &folder, source))?;
            let text = files::read_text(&config.plan, consilium_proto::signed::MAX_DOCUMENT_BYTES as u64)?;
            decide::decide(act, &self.person)?;
            return Ok(files::write_atomic(&folder.join(APPROVED), text.as_bytes())?);
        }
        decide::decide(act, &self.person)
    }
}

#[derive(Serialize)]
struct Rehearsed {
    folder: PathBuf,
    files: Vec<File>,
    bytes: usize,
}

#[derive(Serialize)]
struct File {
    file: String,
    step: &'static str,
    bytes: usize,
    sha256: String,
}

impl Rehearse {
    fn run(self) -> Result<(), Failure> {
        let Loaded { config, policy, identity, roster, plan, model } =
            Loaded::load(&self.common.configured.config, today())?;
        if self.out.exists() {
            return Err(FileError::Exists { path: self.out }.into());
        }
        let state = config.job_folder(&plan);
        let (round, adapter) = match kept_adapter(&state, &plan)? {
            Some((round, adapter)) => (round + 1, adapter),
            None => (1, consilium_proto::release::initial_state(&plan).map_err(Failure::refused)?),
        };
        let ledger = open_ledger(&config)?;
        let mut trainer = trainer(&config, &policy, &identity, &plan, model.as_ref(), false)?;
        let rng = &mut UnwrapErr(SysRng);
        let update = encode_lot(&plan, trainer.as_mut(), &adapter, rng).map_err(|failed| {
            Failure::local(format!(
                "the lot could not be trained ({}); `consilium-client check` looks for the cause",
                failed.0
            ))
        })?;
        let sent = rehearse::rehearse((&roster, &plan), &identity.id, ledger.head(), round, update, rng)
            .map_err(Failure::local)?;
        let rehearsed = write(&self.out, &sent)?;
        if self.common.json {
            return output::print_json(&rehearsed);
        }
        let mut rows = vec![["file", "step", "bytes", "sha256"].map(str::to_owned).to_vec()];
        rows.extend(rehearsed.files.iter().map(|it| {
            vec![
                it.file.clone(),
                it.step.to_owned(),
                it.bytes.to_string(),
                format!("{}…", it.sha256.get(..16).unwrap_or_default()),
            ]
        }));
        output::print(&format!(
            "{}\n{}: what would leave in an attempt of round {round}, {} bytes in {} messages\nNothing was sent, nothing was spent. The keys of \
             this rehearsal are gone: nobody can take the masks off these bytes.\n",
            output::table(&rows),
            self.out.display(),
            rehearsed.bytes,
            rehearsed.files.len()
        ))
    }
}

/// One file a message, and a table of them.
fn write(folder: &Path, sent: &[Sent]) -> Result<Rehearsed, Failure> {
    DirBuilder::new().mode(0o700).create(folder).map_err(|source| FileError::io("create", folder, source))?;
    let mut index = "file,step,bytes,sha256\n".to_owned();
    let (mut files, mut bytes) = (Vec::new(), 0);
    for (number, Sent { step, bytes: message }) in (1..).zip(sent) {
        let file = format!("{number:03}-{}.bin", step.as_str());
        files::write_atomic(&folder.join(&file), message)?;
        let sha256 = Digest::of(message).to_string();
        index += &format!("{file},{},{},{sha256}\n", step.as_str(), message.len());
        bytes += message.len();
        files.push(File { file, step: step.as_str(), bytes: message.len(), sha256 });
    }
    files::write_atomic(&folder.join("index.csv"), index.as_bytes())?;
    Ok(Rehearsed { folder: folder.to_path_buf(), files, bytes })
}
