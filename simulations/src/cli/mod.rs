//! The command line of `consilium-sim`.

mod export;
mod flags;
mod report;
mod run;
mod sweep;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Virtual organizations, networks and time over the code that hospitals run.
#[derive(Debug, Parser)]
#[command(
    name = "consilium-sim",
    version,
    after_help = "\
Examples:
  consilium-sim run simulations/scenarios/hospitals-100.toml
  consilium-sim run --organizations 50 --rounds 3 --dimension 1000 --json
  consilium-sim sweep simulations/scenarios/epsilon-sweep.toml --out runs/epsilon
  consilium-sim report runs/epsilon

Exit codes: 0 it ended as the scenario says, 1 it did not, 2 wrong usage or a scenario that cannot work, 3 a file could not be \
written (what was written before is whole)."
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one simulation.
    Run(Box<run::Run>),
    /// Runs many: a grid or list of fields, over seeds, on all cores.
    Sweep(sweep::Sweep),
    /// Draws what runs and sweeps came to: one page, and its pictures for papers.
    Report(report::Report),
    /// Writes the plan of a scenario for real organizations.
    Export(export::Export),
}

/// Runs what the command line says.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(run) => run.main(),
        Command::Sweep(sweep) => sweep.main(),
        Command::Report(report) => report.main(),
        Command::Export(export) => export.main(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// The examples of a command's help, as words; paths begin at the package.
    fn examples(command: &str) -> Vec<Vec<String>> {
        let mut arguments = Arguments::command();
        // Without breaking lines: an example is one line.
        let arguments = arguments.find_subcommand_mut(command).unwrap().clone().term_width(0);
        let help = arguments.max_term_width(0).render_long_help().to_string();
        let begins = format!("consilium-sim {command}");
        let words = |line: &str| {
            let word = |word: &str| match word.strip_prefix("simulations/") {
                Some(file) => format!("{}/{file}", env!("CARGO_MANIFEST_DIR")),
                None => word.to_owned(),
            };
            line.split_whitespace().map(word).collect()
        };
        help.lines().map(str::trim).filter(|line| line.starts_with(&begins)).map(words).collect()
    }

    #[test]
    fn the_command_line_is_consistent_and_its_examples_parse() {
        Arguments::command().debug_assert();
        let (runs, sweeps, reports) = (examples("run"), examples("sweep"), examples("report"));
        assert_eq!((runs.len(), sweeps.len(), reports.len()), (6, 4, 3));
        for example in runs {
            let Command::Run(run) = Arguments::try_parse_from(example).unwrap().command else { panic!() };
            run.scenario().unwrap().check().unwrap();
        }
        for example in sweeps {
            let Command::Sweep(sweep) = Arguments::try_parse_from(example).unwrap().command else { panic!() };
            assert!(sweep.plan().unwrap().1.len() > 5);
        }
        let exports = examples("export");
        assert_eq!(exports.len(), 2);
        for example in exports {
            assert!(matches!(Arguments::try_parse_from(example).unwrap().command, Command::Export(_)));
        }
        for example in reports {
            assert!(matches!(Arguments::try_parse_from(example).unwrap().command, Command::Report(_)));
        }
    }
}
