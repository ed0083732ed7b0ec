//! What is done to a coordinator's state beside serving it, also while another process does: its record, its backups.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    backup,
    config::{Config, Loaded},
    prune::{due, prune},
    record::export::export,
    store::{InputLayout, StoredJob, migration},
};

/// A command beside serving.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Record(Record),
    #[command(subcommand)]
    Backup(Backup),
    #[command(subcommand)]
    Store(Store),
    Prune(Prune),
}

/// What a command has to say: for a program, and for a person.
type Said = (Value, String);

/// Why a command did nothing, or not all, and the exit code.
struct Failed {
    code: u8,
    why: String,
}

fn refused(why: impl std::fmt::Display) -> Failed {
    Failed { code: 1, why: why.to_string() }
}

fn load(config: &Path) -> Result<Loaded, Failed> {
    Config::load(config).map_err(|error| Failed { code: 2, why: error.to_string() })
}

impl Command {
    pub(super) fn run(self, out: &mut dyn Write) -> ExitCode {
        let (json, said) = match self {
            Self::Record(command) => (command.json, command.run()),
            Self::Backup(command) => command.run(),
            Self::Store(command) => command.run(),
            Self::Prune(command) => command.run(),
        };
        match said {
            Ok((value, words)) => {
                let text =
                    if json { serde_json::to_string_pretty(&value).unwrap_or_default() } else { words };
                // A reader that has gone is no failure.
                let _ = writeln!(out, "{text}");
                ExitCode::SUCCESS
            }
            Err(Failed { code, why }) => {
                eprintln!("consilium-coordinator: {why}");
                ExitCode::from(code)
            }
        }
    }
}

/// Writes the record of the job so far into a new folder: signed log, releases, documents, manifest, bill of materials.
///
/// May run while the coordinator serves. Anybody checks the folder with `consilium verify`, without asking anybody.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium-coordinator record --config coordinator.toml --out record
  consilium verify record --pin $(cat pin.txt)")]
pub(super) struct Record {
    /// The config file, TOML.
    #[arg(long)]
    config: PathBuf,
    /// The folder; it must not exist yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// With the masked inputs that the plan still keeps, so that sums can be recomputed from them.
    #[arg(long)]
    inputs: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Record {
    fn run(self) -> Result<Said, Failed> {
        let loaded = load(&self.config)?;
        let made = export(&loaded, &self.out, self.inputs).map_err(refused)?;
        let value = json!({
            "record": self.out, "files": made.files, "bytes": made.bytes, "entries": made.entries,
            "releases": made.releases, "releases_with_inputs": made.with_inputs,
        });
        let words = format!(
            "{}: {} releases ({} with masked inputs), {} entries of the log, {} files, {} bytes",
            self.out.display(),
            made.releases,
            made.with_inputs,
            made.entries,
            made.files,
            made.bytes
        );
        Ok((value, words))
    }
}

/// Copies of the state: made while the coordinator serves, verified, put back.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Example:
  consilium-coordinator backup create --config coordinator.toml --out /backup/heart-2026-11-25
  consilium-coordinator backup verify --config coordinator.toml /backup/heart-2026-11-25
  consilium-coordinator backup restore --config coordinator.toml /backup/heart-2026-11-25")]
pub(super) enum Backup {
    /// Makes a backup in a new folder, and verifies it. The coordinator may go on serving.
    Create {
        #[command(flatten)]
        common: Common,
        /// The folder; it must not exist yet.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Checks a backup: every byte, every event, every sum, and that a job follows from them.
    Verify {
        #[command(flatten)]
        common: Common,
        /// The backup.
        folder: PathBuf,
    },
    /// Puts a backup where the configuration's state belongs; that place must be empty. Then start the coordinator: what it lost
    /// since, its clients bring back, and it goes on behind the last attempt that any of them has seen.
    Restore {
        #[command(flatten)]
        common: Common,
        /// The backup.
        folder: PathBuf,
    },
}

/// What all commands take.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// The config file, TOML.
    #[arg(long)]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Backup {
    fn run(self) -> (bool, Result<Said, Failed>) {
        let (common, folder, what): (_, _, fn(&Loaded, &Path) -> _) = match self {
            Self::Create { common, out } => (common, out, backup::create),
            Self::Verify { common, folder } => (common, folder, backup::verify),
            Self::Restore { common, folder } => (common, folder, backup::restore),
        };
        let said = load(&common.config).and_then(|loaded| {
            let held = what(&loaded, &folder).map_err(refused)?;
            let value = json!({
                "backup": folder, "files": held.files, "bytes": held.bytes, "events": held.events,
                "releases": held.releases, "entries": held.entries,
            });
            let words = format!(
                "{}: holds; {} events, {} releases, {} entries of the log, {} files, {} bytes",
                folder.display(),
                held.events,
                held.releases,
                held.entries,
                held.files,
                held.bytes
            );
            Ok((value, words))
        });
        (common.json, said)
    }
}

/// The store's format, before and after an upgrade. The coordinator must not be running.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Example, an upgrade:
  consilium-coordinator backup create --config coordinator.toml --out /backup/before   # the version before
  consilium-coordinator store migrate --config coordinator.toml --dry-run              # the new version
  consilium-coordinator store migrate --config coordinator.toml
  consilium-coordinator store rollback --config coordinator.toml                       # until the first new round")]
pub(super) enum Store {
    /// Brings a store of the format before to this version's; the database is copied beside itself first.
    Migrate {
        #[command(flatten)]
        common: Common,
        /// Say what would be done, and do nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Takes a migration back, so that the version before can go on; refused once anything was recorded since.
    Rollback {
        #[command(flatten)]
        common: Common,
    },
}

impl Store {
    fn run(self) -> (bool, Result<Said, Failed>) {
        match self {
            Self::Migrate { common, dry_run } => (common.json, migrate(&common.config, dry_run)),
            Self::Rollback { common } => (common.json, roll_back(&common.config)),
        }
    }
}

fn stored(loaded: &Loaded) -> StoredJob {
    StoredJob { plan: loaded.plan.digest(), input: InputLayout::of_plan(loaded.plan.derived()) }
}

fn migrate(config: &Path, dry_run: bool) -> Result<Said, Failed> {
    let loaded = load(config)?;
    let now_ms = crate::service::now_ms();
    let done = migration::migrate(&loaded.state, &stored(&loaded), dry_run, now_ms).map_err(refused)?;
    let value = json!({
        "from": done.from, "to": done.to, "events": done.events, "copy": done.copy, "copy_bytes": done.copy_bytes,
        "dry_run": dry_run,
    });
    let words = if done.from == done.to {
        format!(
            "{}: the store has format {} already; there is nothing to do",
            loaded.state.display(),
            done.to
        )
    } else {
        format!(
            "{}: format {} {} {}; {} events stay as they are; {} ({} bytes) {} the database as it was",
            loaded.state.display(),
            done.from,
            if dry_run { "would become" } else { "became" },
            done.to,
            done.events,
            done.copy.display(),
            done.copy_bytes,
            if dry_run { "would be" } else { "is" }
        )
    };
    Ok((value, words))
}

fn roll_back(config: &Path) -> Result<Said, Failed> {
    let loaded = load(config)?;
    let format = migration::roll_back(&loaded.state, &stored(&loaded)).map_err(refused)?;
    let words = format!("{}: the store has format {format} again", loaded.state.display());
    Ok((json!({ "format": format }), words))
}

/// Removes masked inputs whose time is over, as the running coordinator does every ten minutes.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium-coordinator prune --config coordinator.toml --dry-run")]
pub(super) struct Prune {
    #[command(flatten)]
    common: Common,
    /// Say what would go, and remove nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Prune {
    fn run(self) -> (bool, Result<Said, Failed>) {
        let said = load(&self.common.config).and_then(|loaded| {
            let act = if self.dry_run { due } else { prune };
            let all = act(&loaded.state, &loaded.plan, crate::service::now_ms()).map_err(refused)?;
            let list =
                all.iter().map(|it| json!({ "round": it.round, "attempt": it.attempt, "bytes": it.bytes }));
            let value = json!({ "attempts": list.collect::<Vec<_>>(), "dry_run": self.dry_run });
            let bytes: u64 = all.iter().map(|it| it.bytes).sum();
            let verb = if self.dry_run { "would be" } else { "were" };
            Ok((value, format!("masked inputs of {} attempts, {bytes} bytes, {verb} removed", all.len())))
        });
        (self.common.json, said)
    }
}
