//! The operator's terminal: the `consilium` binary, and nothing that can open an organization's update.
//!
//! Four kinds of commands. Those on documents (keys, roster, plan, signatures, evidence) read and write files and touch no network.
//! `privacy` computes, and reads nothing; `adapter` reads and writes PEFT folders. Those that look at a job (`status`, `rounds`, `round`, `members`, `watch`, `why`, `logs`,
//! `doctor`, `blame export`) only read what the coordinator shows to the roster's operators and viewers. Those that act on it (`job`,
//! `round abort`, `member`) need `--yes`, have `--dry-run`, take a reason, and are signed with the operator's own key. Every table
//! has `--json`; every number says whose view it is.
//!
//! Exit codes are a promise, listed in `consilium --help`.

mod act;
mod adapter;
mod blame;
mod connect;
mod doctor;
mod failure;
mod job;
mod json;
mod keys;
mod logs;
mod members;
mod org;
mod paint;
mod plan;
mod privacy;
mod roster;
mod round;
mod shell;
mod sign;
mod table;
mod target;
mod verify;
mod view;
mod watch;
mod why;
mod words;

use std::{
    io::{IsTerminal as _, Write},
    path::Path,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use consilium_crypto::digest::Digest;
use consilium_proto::signed::{MAX_DOCUMENT_BYTES, Signatures};

use crate::files;
pub use connect::{ConnectError, Link, connect};
pub use failure::Failure;

const EXIT_CODES: &str = "\
Exit codes:
  0  done; `watch`: the job is finished, or you left
  1  refused or failed; the message names what and the cure; `doctor`: something is wrong
  2  the command line is wrong, or an acting command was given without --yes: nothing was done
  3  the coordinator cannot be reached

Example, a consortium from nothing:
  consilium keygen --id coordinator --out keys/coordinator
  consilium roster build --consortium heart --coordinator keys/coordinator/party.toml \\
      --organization site-1.toml site-2.toml site-3.toml --operator keys/ada/party.toml --out roster.toml
  consilium roster fingerprint roster.toml
  consilium plan new --template template.toml --roster roster.toml --model MODEL --out plan.toml
  consilium watch --config operator.toml";

/// Keys, rosters, plans, and the running job: looked at, explained, and acted on.
#[derive(Debug, Parser)]
#[command(name = "consilium", version, about, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Keygen(keys::Keygen),
    #[command(subcommand)]
    Org(org::Org),
    #[command(subcommand)]
    Roster(roster::Roster),
    Sign(sign::Sign),
    #[command(subcommand)]
    Plan(plan::Plan),
    #[command(subcommand)]
    Privacy(privacy::Privacy),
    #[command(subcommand)]
    Adapter(adapter::Adapter),
    #[command(subcommand)]
    Blame(blame::Blame),
    Verify(verify::Verify),
    Status(view::Status),
    Rounds(view::Rounds),
    Round(round::Round),
    Members(members::Members),
    Watch(watch::Watch),
    Why(why::Why),
    Logs(logs::Logs),
    Doctor(doctor::Doctor),
    #[command(subcommand)]
    Job(job::Job),
    #[command(subcommand)]
    Member(members::Member),
    Completions(shell::Completions),
    Man(shell::Man),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let stdout = std::io::stdout();
    // Colours for people only, and not for those who asked for none (no-color.org).
    let plain = !stdout.is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let mut out: Box<dyn Write> = if plain { Box::new(stdout) } else { Box::new(paint::Paint::new(stdout)) };
    let result = run(cli, out.as_mut());
    // What is left is the painter's last line; a reader that has gone is no failure.
    let _ = out.flush();
    match result {
        Ok(()) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "consilium: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn run(cli: Cli, out: &mut dyn Write) -> Result<(), Failure> {
    match cli.command {
        Command::Keygen(command) => command.run(out),
        Command::Org(command) => command.run(out),
        Command::Roster(command) => command.run(out),
        Command::Sign(command) => command.run(out),
        Command::Plan(command) => command.run(out),
        Command::Privacy(command) => command.run(out),
        Command::Adapter(command) => command.run(out),
        Command::Blame(command) => command.run(out),
        Command::Verify(command) => command.run(out),
        Command::Status(command) => command.run(out),
        Command::Rounds(command) => command.run(out),
        Command::Round(command) => command.run(out),
        Command::Members(command) => command.run(out),
        Command::Why(command) => command.run(out),
        Command::Logs(command) => command.run(out),
        Command::Doctor(command) => command.run(out),
        Command::Job(command) => command.run(out),
        Command::Member(command) => command.run(out),
        Command::Completions(command) => command.run(out),
        Command::Man(command) => command.run(out),
        Command::Watch(command) => {
            let terminal = std::io::stdout().is_terminal();
            command.run(out, terminal)
        }
    }
}

/// A document's text.
fn read_document(path: &Path) -> Result<String, Failure> {
    Ok(files::read_text(path, MAX_DOCUMENT_BYTES as u64)?)
}

/// `FILE.sig`.
fn signature_path(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// The signatures beside a document; none if there is no such file yet.
fn read_signatures(path: &Path) -> Result<Signatures, Failure> {
    let path = signature_path(path);
    match files::read_text(&path, MAX_DOCUMENT_BYTES as u64) {
        Ok(text) => Signatures::parse(&text).map_err(|e| Failure::in_file(&path, e)),
        Err(files::FileError::Missing { .. }) => Ok(Signatures::default()),
        Err(error) => Err(error.into()),
    }
}

fn parse_digest(text: &str) -> Result<Digest, String> {
    text.trim().parse().map_err(|e: consilium_crypto::digest::NotADigest| e.to_string())
}

fn today() -> jiff::civil::Date {
    jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date()
}

/// Writes a JSON value as text, one line at the end.
fn write_json(out: &mut dyn Write, value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::refused)?;
    writeln!(out, "{text}")?;
    Ok(())
}
