//! `egress`: what left the building.

use std::{fmt::Write as _, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::{Configured, ConfiguredJson, Failure, output};
use crate::{
    config::Config,
    egress::{self, EGRESS_FILE, Left, Line, Numbered, Verdict},
    files::{self, FileError},
    ledger::{LedgerFile, LedgerState},
};

#[derive(Debug, Subcommand)]
pub(crate) enum EgressCommand {
    /// Show every message that left, oldest first.
    #[command(
        after_help = "Examples:\n  consilium-client egress list --config client.toml --last 20\n  consilium-client egress list \
        --config client.toml --round 3 --json | jq '.[].sha256'"
    )]
    List(List),
    /// Write the journal into a file for others: CSV for a spreadsheet, JSON Lines for a SIEM.
    #[command(
        after_help = "Example:\n  consilium-client egress export --config client.toml --out egress.csv\n\nThe file holds times, sizes and \
        digests, and no content."
    )]
    Export(Export),
    /// Check that no line was changed or taken out, and that every masked byte was paid for in the ledger.
    #[command(after_help = "Example:\n  consilium-client egress verify --config client.toml")]
    Verify(ConfiguredJson),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    common: ConfiguredJson,
    /// Only messages of this round.
    #[arg(long)]
    round: Option<u32>,
    /// Only the last so many.
    #[arg(long, value_name = "COUNT")]
    last: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    #[default]
    Csv,
    Jsonl,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    common: Configured,
    /// The file; never overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What it is.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Verified {
    ok: bool,
    /// Digest over every line: compare it with the one noted last time.
    head: Option<String>,
    torn_bytes: u64,
    #[serde(flatten)]
    verdict: Verdict,
}

impl EgressCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::List(command) => command.run(),
            Self::Export(command) => command.run(),
            Self::Verify(command) => verify(&command),
        }
    }
}

impl List {
    fn run(self) -> Result<(), Failure> {
        let config = Config::load(&self.common.configured.config)?;
        let Left { mut lines, .. } = egress::read(&config.state, &config.organization)?;
        lines.retain(|it| self.round.is_none_or(|round| it.line.round == round));
        let lines = lines.split_off(lines.len().saturating_sub(self.last.unwrap_or(usize::MAX)));
        if self.common.json {
            return output::print_json(&lines);
        }
        if lines.is_empty() {
            return output::print("Nothing has left.\n");
        }
        let head = [
            "message",
            "time",
            "destination",
            "job",
            "round",
            "attempt",
            "step",
            "bytes",
            "ledger",
            "sha256",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(lines.iter().map(|Numbered { number, line }| {
            let none = |number: u32| if number == 0 { "-".to_owned() } else { number.to_string() };
            let Line { time, job, round, attempt, step, bytes, ledger, sha256, .. } = line;
            vec![
                number.to_string(),
                format!("{time:.3}"),
                destination(line),
                job.to_string(),
                none(*round),
                none(*attempt),
                step.as_str().to_owned(),
                bytes.to_string(),
                ledger.map_or_else(|| "-".to_owned(), |entry| entry.to_string()),
                format!("{}…", sha256.get(..16).unwrap_or(sha256)),
            ]
        }));
        output::print(&output::table(&rows))
    }
}

fn destination(line: &Line) -> String {
    match &line.proxy {
        None => line.destination.clone(),
        Some(proxy) => format!("{} via {proxy}", line.destination),
    }
}

impl Export {
    fn run(self) -> Result<(), Failure> {
        let config = Config::load(&self.common.config)?;
        let Left { lines, .. } = egress::read(&config.state, &config.organization)?;
        if self.out.exists() {
            return Err(FileError::Exists { path: self.out }.into());
        }
        let mut text = String::new();
        match self.format {
            Format::Csv => {
                text += "message,time,destination,proxy,job,round,attempt,step,bytes,sha256,ledger\n";
                for Numbered { number, line } in &lines {
                    let Line { time, destination, proxy, job, round, attempt, step, bytes, sha256, ledger } =
                        line;
                    let (proxy, step) = (proxy.as_deref().unwrap_or_default(), step.as_str());
                    let ledger = ledger.map(|entry| entry.to_string()).unwrap_or_default();
                    // Unwrap safety: writing to a String does not fail. No field can hold a comma.
                    let _ = writeln!(
                        text,
                        "{number},{time},{destination},{proxy},{job},{round},{attempt},{step},{bytes},{sha256},{ledger}"
                    );
                }
            }
            Format::Jsonl => {
                for line in &lines {
                    text += &serde_json::to_string(line).map_err(Failure::local)?;
                    text.push('\n');
                }
            }
        }
        files::write_atomic(&self.out, text.as_bytes())?;
        output::print(&format!("{}: {} messages\n", self.out.display(), lines.len()))
    }
}

/// The ledger as it stands; an empty one, if nothing was ever spent.
pub(crate) fn open_ledger(config: &Config) -> Result<LedgerState, Failure> {
    let path = config.ledger();
    if !path.exists() {
        return Ok(LedgerState::new(config.data.name.clone(), [0; 32]));
    }
    Ok(LedgerFile::read(&path, &config.data.name)?.0)
}

fn verify(command: &ConfiguredJson) -> Result<(), Failure> {
    let config = Config::load(&command.configured.config)?;
    let Left { lines, head, torn } = egress::read(&config.state, &config.organization)?;
    let ledger = open_ledger(&config)?;
    let path = config.state.join(EGRESS_FILE);
    if lines.is_empty() && ledger.length() > 0 && head.is_none() {
        return Err(Failure::Ledger(format!(
            "{}: there is no journal of what left, and the ledger has {} entries: it was lost, or a version wrote the ledger that \
             kept none; look for it in the state folder's backup",
            path.display(),
            ledger.length()
        )));
    }
    let verdict = egress::verify(&lines, &ledger).map_err(|problem| Failure::Ledger(problem.to_string()))?;
    let verified = Verified {
        ok: true,
        head: head.map(|head| head.to_string()),
        torn_bytes: torn.map_or(0, |torn| torn.bytes),
        verdict,
    };
    if command.json {
        return output::print_json(&verified);
    }
    output::print(&verified.text())
}

impl Verified {
    fn text(&self) -> String {
        let Verdict { messages, bytes, steps, attempts, unused_debits } = &self.verdict;
        let mut text = format!(
            "ok: {messages} messages, {bytes} bytes; every line follows from the one before, and every masked byte was paid for\n"
        );
        let mut rows = vec![["step", "messages", "bytes"].map(str::to_owned).to_vec()];
        rows.extend(steps.iter().map(|(step, sum)| {
            vec![step.as_str().to_owned(), sum.messages.to_string(), sum.bytes.to_string()]
        }));
        if *messages > 0 {
            text += &output::table(&rows);
        }
        text += &format!(
            "{attempts} entries of the ledger paid for a masked vector of which something left; {unused_debits} for one of which nothing did\n"
        );
        if let Some(head) = &self.head {
            text += &format!("head {head}\n");
        }
        if self.torn_bytes > 0 {
            text += &format!(
                "The last line is torn ({} bytes): the process died while writing it, before its message left.\n",
                self.torn_bytes
            );
        }
        text
    }
}
