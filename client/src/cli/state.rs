//! `state recover`: when peers hold later words of this organization than its own state knows of.

use std::path::PathBuf;

use crate::{
    config::{Config, signature_path},
    files::{self, FolderLock},
    ledger::LedgerFile,
    recover::{self, RecoverError},
    run::open_journal,
    session::{Recorded, restored},
};
use clap::{Args, Subcommand};
use consilium_proto::{
    plan::{Plan, VerifiedPlan},
    roster::VerifiedRoster,
    signed::{MAX_DOCUMENT_BYTES, Signatures},
};
use rand::{rand_core::UnwrapErr, rngs::SysRng};
use serde::Serialize;

use super::{ConfiguredJson, Failure, output};

#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// Charge the debits that were lost, in full, and fence off every attempt that peers have seen this client in.
    #[command(
        after_help = "Examples:\n  consilium-client state recover --config client.toml --dry-run\n  consilium-client state recover \
        --config client.toml --yes\n\nFirst look for a newer backup of the state folder: it costs nothing, and recovering costs \
        what was spent once more, at most one attempt too much. It needs the client stopped, and no network: what peers hold \
        was recorded when the client stopped."
    )]
    Recover(Recover),
}

#[derive(Debug, Args)]
pub(crate) struct Recover {
    #[command(flatten)]
    common: ConfiguredJson,
    /// The signed plan of another job that ran on this data set and of which debits are lost; may be repeated.
    #[arg(long, value_name = "PLAN")]
    also: Vec<PathBuf>,
    /// Jobs whose plans are not named ran on another data set, and nothing of this one was spent in them.
    #[arg(long)]
    other_data_set: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do it.
    #[arg(long, conflicts_with = "dry_run", required_unless_present = "dry_run")]
    yes: bool,
}

#[derive(Serialize)]
struct Recovered {
    done: bool,
    /// Debits charged, by job.
    debits: std::collections::BTreeMap<String, u64>,
    /// No attempt up to this one is joined.
    fence: Option<(u32, u32)>,
    ledger_length: u64,
    epsilon: f64,
    delta: f64,
}

impl StateCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Recover(command) => command.run(),
        }
    }
}

impl Recover {
    fn run(self) -> Result<(), Failure> {
        let config = Config::load(&self.common.configured.config)?;
        let roster = config.open_roster()?;
        let plan = config.open_plan(&roster)?;
        let also: Vec<VerifiedPlan> =
            self.also.iter().map(|path| other_plan(path, &roster)).collect::<Result<_, _>>()?;
        let folder = config.job_folder(&plan);
        let job = &plan.document().job;
        if !folder.is_dir() {
            let folder = folder.display();
            return Err(Failure::refused(format!(
                "{folder}: there is no state of job {job}; {}",
                RecoverError::NotRestored
            )));
        }
        let _lock = FolderLock::acquire(&config.state)?;
        let (mut journal, events) = open_journal(&folder, job, &config.organization)?;
        let recorded = Recorded::from_events(&events);
        let (mut file, mut ledger) =
            LedgerFile::open(&config.ledger(), &config.data.name, &mut UnwrapErr(SysRng))?;
        let lost = recorded.restored().to_vec();
        let elsewhere = self.other_data_set;
        let recovery = if self.dry_run {
            let (debits, fence) = recover::charges(&recorded, &ledger, &plan, &also, elsewhere)?;
            for debit in &debits {
                ledger.debit(debit.clone()).map_err(Failure::refused)?;
            }
            recover::summary(&debits, fence)
        } else {
            recover::recover(&recorded, (&mut file, &mut ledger), &mut journal, &plan, &also, elsewhere)?
        };
        let total = config.open_policy()?.total_budget();
        let spent = ledger.spent_in_all(total.map(|(_, delta)| delta));
        let shown = Recovered {
            done: self.yes,
            debits: recovery.debits,
            fence: recovery.fence,
            ledger_length: ledger.length(),
            epsilon: spent.epsilon,
            delta: spent.delta,
        };
        if self.common.json {
            return output::print_json(&shown);
        }
        output::print(&shown.text(&restored(&lost)))
    }
}

impl Recovered {
    fn text(&self, why: &str) -> String {
        let (charged, fenced) =
            if self.done { ("charged", "fenced off") } else { ("would charge", "would fence off") };
        let mut text = format!("{why}\n\n");
        for (job, debits) in &self.debits {
            text += &format!("{charged} {debits} debits to job {job}\n");
        }
        if self.debits.is_empty() {
            text += "no debit is missing\n";
        }
        if let Some((round, attempt)) = self.fence {
            text += &format!("{fenced} every attempt up to round {round} attempt {attempt}\n");
        }
        let Self { ledger_length, epsilon, delta, .. } = self;
        text += &format!(
            "the ledger then has {ledger_length} debits: ε = {epsilon:.4} at δ = {delta:e} over all jobs\n"
        );
        text + if self.done { "This client may take part again.\n" } else { "Nothing was changed.\n" }
    }
}

fn other_plan(path: &std::path::Path, roster: &VerifiedRoster) -> Result<VerifiedPlan, Failure> {
    let text = files::read_text(path, MAX_DOCUMENT_BYTES as u64)?;
    let signatures = files::read_text(&signature_path(path), MAX_DOCUMENT_BYTES as u64)?;
    let refused = |why: String| Failure::refused(format!("{}: {why}", path.display()));
    let signatures = Signatures::parse(&signatures).map_err(|error| refused(error.to_string()))?;
    Plan::verify(&text, &signatures, roster).map_err(|error| refused(error.to_string()))
}

impl From<RecoverError> for Failure {
    fn from(error: RecoverError) -> Self {
        match error {
            RecoverError::Ledger(error) => error.into(),
            RecoverError::Journal(error) => error.into(),
            error => Self::refused(error),
        }
    }
}
