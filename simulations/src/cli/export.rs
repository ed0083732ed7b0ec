//! `consilium-sim export`.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::Args;
use consilium_client::files::read_text;
use consilium_proto::ids::Id;
use consilium_proto::signed::MAX_DOCUMENT_BYTES;
use serde_json::json;

use crate::{
    export::{ExportError, export},
    scenario::text::{BadText, Draft},
};

/// What to export.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consilium-sim export simulations/scenarios/demo.toml --roster roster.toml --out job
  consilium-sim export simulations/scenarios/demo.toml --roster roster.toml --out job --set rounds=20 --job pilot --json

The folder gets plan.toml, which the roster's organizations check and sign (consilium plan check, consilium sign), and data/,
the records that each organization had in the simulation. The roster's organizations, sorted by id, take the places of the
scenario's. Exit codes: 0 done, 2 wrong usage or a scenario that cannot be deployed, 3 a file could not be written.")]
pub(super) struct Export {
    /// The scenario.
    scenario: PathBuf,
    /// The roster's newest version.
    #[arg(long, value_name = "FILE")]
    roster: PathBuf,
    /// A folder for the plan and the records.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the job.
    #[arg(long, value_name = "ID", default_value = "job")]
    job: Id,
    /// Sets a field of the scenario; may be given several times.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Export {
    pub(super) fn main(&self) -> ExitCode {
        let usage = |why: &dyn std::fmt::Display| {
            eprintln!("consilium-sim: {why}");
            ExitCode::from(2)
        };
        let scenario = match self.scenario() {
            Ok(scenario) => scenario,
            Err(why) => return usage(&why),
        };
        let roster = match read_text(&self.roster, MAX_DOCUMENT_BYTES as u64) {
            Ok(roster) => roster,
            Err(why) => return usage(&why),
        };
        let exported = match export(&scenario, &roster, self.job.clone(), &self.out) {
            Ok(exported) => exported,
            Err(why @ ExportError::Write { .. }) => {
                eprintln!("consilium-sim: {why}");
                return ExitCode::from(3);
            }
            Err(why) => return usage(&why),
        };
        if let Some(why) = &exported.warning {
            eprintln!("consilium-sim: whoever signs this plan should know: {why}");
        }
        let (path, data) = (exported.path.display().to_string(), exported.data.display().to_string());
        let text = if self.json {
            json!({ "plan": path, "data": data, "warning": exported.warning }).to_string()
        } else {
            format!(
                "{path}: to be checked and signed by the organizations\n{data}: their records in the simulation"
            )
        };
        // Whoever read the output may have gone: not a failure.
        drop(writeln!(std::io::stdout(), "{text}"));
        ExitCode::SUCCESS
    }

    fn scenario(&self) -> Result<crate::scenario::Scenario, BadText> {
        let mut draft = Draft::read(&self.scenario)?;
        for assignment in &self.set {
            draft.set(assignment)?;
        }
        draft.scenario()
    }
}
