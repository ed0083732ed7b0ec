//! `consilium-sim sweep`.

use std::{
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use serde_json::json;

use crate::{
    left::Points,
    scenario::{Scenario, SweptSeeds, text::Draft},
    sweep::{
        Done, Stopped, Sweeping, Swept,
        planned::{BadSweep, Planned, plan},
        progress::Progress,
    },
    table,
};

/// What to sweep over.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consilium-sim sweep simulations/scenarios/epsilon-sweep.toml --out runs/epsilon
  consilium-sim sweep simulations/scenarios/epsilon-sweep.toml --out runs/two --vary rounds=5,20
  consilium-sim sweep simulations/scenarios/epsilon-sweep.toml --out n --vary organizations=10,50
  consilium-sim sweep --out runs/d --vary task.dimension=100,1000 --seeds 3 --json

Runs that are in the folder already are not repeated: the same command goes on with an interrupted sweep, and one with more \
values or seeds runs those. Every run is the one that `consilium-sim run` makes of the same scenario.")]
pub(super) struct Sweep {
    /// The scenario; its [sweep] table says what varies.
    scenario: Option<PathBuf>,
    /// The sweep's folder.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Varies a field: network.loss=0,0.01,0.05; several make a grid.
    #[arg(long, value_name = "FIELD=VALUES")]
    vary: Vec<String>,
    /// Sets a field of all runs.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// How many seeds each point is run with. [the scenario's, or 5]
    #[arg(long, value_name = "N")]
    seeds: Option<u32>,
    /// Runs at the same time. [as many as there are processors]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Repeat runs that are there already.
    #[arg(long)]
    again: bool,
    /// End with one line of JSON instead of a table.
    #[arg(long)]
    json: bool,
}

impl Sweep {
    /// The scenario with its sweep, and all runs.
    pub(super) fn plan(&self) -> Result<(Scenario, Vec<Planned>), BadSweep> {
        let mut draft = match &self.scenario {
            Some(path) => Draft::read(path)?,
            None => Draft::parse("", "the command line")?,
        };
        for assignment in &self.set {
            draft.set(assignment)?;
        }
        let mut base = draft.scenario()?;
        for assignment in &self.vary {
            base.sweep.vary(assignment)?;
        }
        if let Some(seeds) = self.seeds {
            base.sweep.seeds = SweptSeeds::Count(seeds);
        }
        let plan = plan(&draft, &base.sweep)?;
        Ok((base, plan))
    }

    pub(super) fn main(&self) -> ExitCode {
        let (base, plan) = match self.plan() {
            Ok(it) => it,
            Err(why) => {
                eprintln!("consilium-sim: {why}");
                return ExitCode::from(2);
            }
        };
        let full = |why: &dyn std::fmt::Display| {
            eprintln!("consilium-sim: {why}");
            ExitCode::from(3)
        };
        let sweeping = match Sweeping::open(&self.out, &base) {
            Ok(sweeping) => sweeping,
            Err(why) => return full(&why),
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let mut bar = Bar { terminal: std::io::stderr().is_terminal() };
        let swept =
            sweeping.sweep(&plan, self.jobs.unwrap_or(processors), self.again, &mut |progress, done| {
                bar.show(progress, done)
            });
        bar.end();
        match swept {
            Ok(swept) => self.tell(&swept),
            Err(why @ Stopped::Out { .. }) => full(&why),
            Err(why @ Stopped::Unread(_)) => full(&why),
        }
    }

    fn tell(&self, swept: &Swept) -> ExitCode {
        let unexpected = swept.runs.iter().filter(|(_, left)| !table::is_expected(left)).count();
        let good = unexpected == 0 && swept.failed.is_empty();
        let points = Points::of(swept.runs.iter().map(|(_, left)| left.clone()).collect());
        let text = if self.json {
            json!({
                "runs": swept.runs.len(),
                "reused": swept.reused,
                "unexpected": unexpected,
                "failed": swept.failed.len(),
                "folder": self.out,
                "points": table::json(&points),
                "expected_end": good,
            })
            .to_string()
        } else {
            table::text(&points)
        };
        // Whoever read the output may have gone: not a failure.
        drop(writeln!(std::io::stdout(), "{text}"));
        for done in &swept.failed {
            eprintln!(
                "consilium-sim: point {} seed {} came to no end: {}\nagain with: consilium-sim run {}",
                done.point,
                done.seed,
                done.end,
                super::run::quoted(&done.scenario.display().to_string())
            );
        }
        for (run, left) in swept.runs.iter().filter(|(_, left)| !table::is_expected(left)) {
            let word = |field: &str| left.result.get(field).and_then(|it| it.as_str()).unwrap_or_default();
            eprintln!(
                "consilium-sim: point {} seed {} ended \"{}\" {}\nagain with: consilium-sim run {}",
                run.point,
                run.scenario.seed,
                word("end"),
                word("why"),
                super::run::quoted(&left.folder.join("scenario.toml").display().to_string())
            );
        }
        if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// One line that is written over on a terminal, and a line for each run elsewhere.
struct Bar {
    terminal: bool,
}

impl Bar {
    fn show(&mut self, progress: &Progress, done: Option<&Done>) {
        let line = progress.line();
        let mut out = std::io::stderr();
        // Whoever read it may have gone: not a failure.
        match (self.terminal, done) {
            (true, _) => {
                drop(write!(out, "\r{line}\u{1b}[K").and_then(|()| out.flush()));
            }
            (false, Some(done)) => {
                drop(writeln!(out, "{line}; point {} seed {}: {}", done.point, done.seed, done.end));
            }
            (false, None) => {}
        }
    }

    fn end(&mut self) {
        if self.terminal {
            drop(writeln!(std::io::stderr()));
        }
    }
}
