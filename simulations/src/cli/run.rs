//! `consilium-sim run`.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;

use super::flags::Flags;
use crate::{
    log::Log,
    out::Folder,
    run::{Failure, Outcome, run},
    scenario::{
        Scenario, Verdict,
        text::{BadText, Draft},
    },
};

/// What to run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consilium-sim run simulations/scenarios/hospitals-100.toml --out runs/hospitals
  consilium-sim run simulations/scenarios/hospitals-100.toml --set clients.dropout=0.3 --seed 7 --json
  consilium-sim run --organizations 100 --dimension 45000 --dropout 0.2
  consilium-sim run --organizations 5 --rounds 2 --crash 7 --crash 30 --log events.txt
  consilium-sim run --loss 0.01 --stragglers 0.1 --seed 7 --json
  consilium-sim run --unit patient-local --local-steps 8 --rounds 5

The same scenario gives the same digests. A run that fails prints the command that repeats it.")]
pub(super) struct Run {
    /// The scenario; without one, fifty organizations on quiet lines learn the convex task for three rounds.
    scenario: Option<PathBuf>,
    /// Sets a field of the scenario: network.loss=0.01; may be given several times.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    flags: Flags,
    /// Keep what comes of it in this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Another run may be in that folder, and goes.
    #[arg(long, requires = "out")]
    overwrite: bool,
    /// Write the event log to this file.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// End with one line of JSON instead of a table.
    #[arg(long)]
    json: bool,
}

impl Run {
    /// The scenario that file and flags describe.
    pub(super) fn scenario(&self) -> Result<Scenario, BadText> {
        let mut draft = match &self.scenario {
            Some(path) => Draft::read(path)?,
            None => Draft::parse("", "the command line")?,
        };
        // The flags last: a kind that is set takes its table's other fields with it.
        for assignment in self.set.iter().chain(&self.flags.assignments()) {
            draft.set(assignment)?;
        }
        draft.scenario()
    }

    pub(super) fn main(&self) -> ExitCode {
        let usage = |why: &dyn std::fmt::Display| {
            eprintln!("consilium-sim: {why}");
            ExitCode::from(2)
        };
        let scenario = match self.scenario() {
            Ok(scenario) => scenario,
            Err(why) => return usage(&why),
        };
        // Before a folder is made for what cannot be run.
        if let Err(why) = scenario.check() {
            return usage(&why);
        }
        match self.run(&scenario) {
            Ok(outcome) => self.tell(&outcome),
            Err(Failure::Refused(why)) => usage(&why),
            Err(why @ Failure::Out(_)) => {
                eprintln!("consilium-sim: {why}");
                ExitCode::from(3)
            }
            Err(why @ Failure::Task(_)) => {
                eprintln!("consilium-sim: {why}\nagain with: {}", self.again());
                ExitCode::FAILURE
            }
        }
    }

    fn run(&self, scenario: &Scenario) -> Result<Outcome, Failure> {
        let folder = self.out.as_ref().map(|path| Folder::create(path, self.overwrite)).transpose()?;
        let failed = |source| crate::out::OutError {
            path: self.log.clone().unwrap_or_default(),
            source,
            kept: "the rest is whole".into(),
        };
        let log = match &self.log {
            None => Log::default(),
            Some(path) => Log::to(Box::new(BufWriter::new(File::create(path).map_err(failed)?))),
        };
        run(scenario, folder.as_ref(), log, &mut |progress| eprintln!("{progress}"))
    }

    fn tell(&self, outcome: &Outcome) -> ExitCode {
        let result = &outcome.result;
        let text = if self.json {
            // Unwrap safety: numbers and words.
            serde_json::to_string(&result.line).unwrap_or_default()
        } else {
            outcome
                .report
                .as_ref()
                .map_or_else(|| format!("log     {}", result.line.log_digest), ToString::to_string)
        };
        // Whoever read the output may have gone: not a failure.
        drop(writeln!(std::io::stdout(), "{text}"));
        if let Some(attack) = &result.attack {
            let verdict = match attack.verdict {
                Verdict::Succeeds => "succeeds",
                Verdict::Fails => "fails",
                Verdict::NeverTried => "was never made",
            };
            eprintln!("consilium-sim: the attack {verdict}: {}", attack.words);
        }
        if result.line.expected_end {
            return ExitCode::SUCCESS;
        }
        let why = result.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        eprintln!("consilium-sim: it ended \"{}\"{why}\nagain with: {}", result.end.name(), self.again());
        ExitCode::FAILURE
    }

    /// The one command that repeats this run: on the scenario as it was run, if that was kept.
    fn again(&self) -> String {
        match &self.out {
            Some(out) => {
                format!("consilium-sim run {}", quoted(&out.join("scenario.toml").display().to_string()))
            }
            None => std::env::args().map(|word| quoted(&word)).collect::<Vec<_>>().join(" "),
        }
    }
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_come_through_a_shell() {
        assert_eq!(quoted("--set=a=1"), "--set=a=1");
        assert_eq!(quoted("it's [1, 2]"), r"'it'\''s [1, 2]'");
    }
}
