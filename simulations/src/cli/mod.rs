//! The command line of `consilium-sim`.

mod flags;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Virtual organizations, networks and time over the code that hospitals run.
#[derive(Debug, Parser)]
#[command(
    name = "consilium-sim",
    version,
    after_help = "\
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
    Run(run::Run),
}

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let Command::Run(run) = Arguments::parse().command;
    run.main()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_its_examples_parse() {
        Arguments::command().debug_assert();
        let help = Arguments::command().find_subcommand_mut("run").unwrap().render_long_help().to_string();
        let examples: Vec<_> =
            help.lines().map(str::trim).filter(|line| line.starts_with("consilium-sim run")).collect();
        assert_eq!(examples.len(), 6, "{help}");
        for example in examples {
            let words = example.split_whitespace();
            let words = words.map(|word| match word.strip_prefix("simulations/") {
                Some(file) => format!("{}/{file}", env!("CARGO_MANIFEST_DIR")),
                None => word.to_owned(),
            });
            let Command::Run(run) = Arguments::try_parse_from(words).unwrap().command;
            run.scenario().unwrap().check().unwrap();
        }
    }
}
