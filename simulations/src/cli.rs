//! The command line of `consilium-sim`.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use consilium_proto::plan::PrivacyUnit;

use crate::{
    log::Log,
    report::Report,
    scenario::{Scenario, quorum},
    world::{SimulationError, World},
};

/// Virtual organizations, networks and time over the code that hospitals run.
#[derive(Debug, Parser)]
#[command(
    name = "consilium-sim",
    version,
    after_help = "\
Exit codes: 0 every round was released and every promise kept, 1 not so, 2 wrong usage or a scenario that cannot work."
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one simulation.
    Run(Run),
}

/// What to run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consilium-sim run
  consilium-sim run --organizations 100 --dimension 45000 --dropout 0.2
  consilium-sim run --organizations 5 --rounds 2 --crash 7 --crash 30 --log events.txt
  consilium-sim run --loss 0.01 --stragglers 0.1 --seed 7 --json
  consilium-sim run --unit patient-local --local-steps 8 --rounds 5

The same flags give the same digests. A run that fails prints the command that repeats it.")]
pub struct Run {
    /// Organizations in every cohort, 3 to 1000.
    #[arg(long, default_value_t = 50)]
    organizations: u32,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Trained parameters, at least; the task has the next number that it can have.
    #[arg(long, default_value_t = 1000)]
    dimension: u32,
    /// Corrupt members tolerated beside the coordinator [default: a third].
    #[arg(long)]
    colluders: Option<u32>,
    /// Fewest survivors of a round [default: the quorum of votes].
    #[arg(long)]
    min_survivors: Option<u32>,
    /// Part of the organizations that die in each attempt after dealing their shares, and come back.
    #[arg(long, default_value_t = 0.0)]
    dropout: f64,
    /// Part of the organizations that train slowly.
    #[arg(long, default_value_t = 0.0)]
    stragglers: f64,
    /// How many times slower stragglers train.
    #[arg(long, default_value_t = 3.0)]
    straggle: f64,
    /// Probability with which a message breaks its connection.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// The coordinator dies after its n-th recorded event, and comes back; may be given several times.
    #[arg(long, value_name = "N")]
    crash: Vec<u64>,
    /// One-way latencies, least and greatest, milliseconds.
    #[arg(long, num_args = 2, value_names = ["LEAST", "MOST"], default_values_t = [5, 120])]
    latency_ms: Vec<u64>,
    /// Bandwidth of an organization's line, megabits a second each way.
    #[arg(long, default_value_t = 100.0)]
    bandwidth: f64,
    /// How long an ordinary organization trains, virtual seconds.
    #[arg(long, default_value_t = 10.0)]
    training: f64,
    /// Expected lot of an organization, patients.
    #[arg(long, default_value_t = 30.0)]
    lot: f64,
    /// Whom the plan protects: patient, patient-local, organization, none.
    #[arg(long, value_name = "UNIT", default_value = "patient", value_parser = unit)]
    unit: PrivacyUnit,
    /// Steps that each organization takes by itself in a round; every unit but patient.
    #[arg(long, default_value_t = 4)]
    local_steps: u32,
    /// Step size of those.
    #[arg(long, default_value_t = 1.0)]
    local_rate: f64,
    /// Decides everything that is drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the event log to this file.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// End with one line of JSON instead of a table.
    #[arg(long)]
    json: bool,
}

fn unit(word: &str) -> Result<PrivacyUnit, String> {
    let units =
        [PrivacyUnit::Patient, PrivacyUnit::PatientLocal, PrivacyUnit::Organization, PrivacyUnit::None];
    let known = units.into_iter().find(|unit| unit.name() == word);
    known.ok_or_else(|| format!("it must be one of {}", units.map(PrivacyUnit::name).join(", ")))
}

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let Command::Run(run) = Arguments::parse().command;
    match run.run() {
        Ok(report) => {
            let whole = report.released().count() == run.rounds as usize;
            let text = if run.json { report.json() } else { report.to_string() };
            if writeln!(std::io::stdout(), "{text}").is_err() || whole {
                // Whoever read the output has gone: not a failure.
                return ExitCode::SUCCESS;
            }
            eprintln!("consilium-sim: not every round was released; again with: {}", again());
            ExitCode::FAILURE
        }
        Err(Failure::Usage(why)) => {
            eprintln!("consilium-sim: {why}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(why)) => {
            eprintln!("consilium-sim: {why}\nagain with: {}", again());
            ExitCode::FAILURE
        }
    }
}

/// The command line as it was given.
fn again() -> String {
    std::env::args().collect::<Vec<_>>().join(" ")
}

enum Failure {
    Usage(String),
    Failed(String),
}

impl Run {
    /// The scenario that the flags describe.
    ///
    /// # Errors
    ///
    /// When a number is no duration.
    fn scenario(&self) -> Result<Scenario, String> {
        let mut scenario = Scenario::new(self.organizations, self.rounds);
        let colluders = self.colluders.unwrap_or(scenario.colluders);
        scenario.colluders = colluders;
        scenario.min_survivors = self.min_survivors.unwrap_or_else(|| quorum(self.organizations, colluders));
        scenario.dimension = self.dimension;
        scenario.dropout = self.dropout;
        scenario.stragglers = self.stragglers;
        scenario.straggle = self.straggle;
        scenario.connection_loss = self.loss;
        scenario.faults.coordinator = self.crash.iter().copied().collect();
        if let [least, most] = self.latency_ms[..] {
            scenario.latency = (Duration::from_millis(least), Duration::from_millis(most));
        }
        let bytes = self.bandwidth * 125_000.0;
        scenario.bandwidth = bytes as u64;
        scenario.training = Duration::try_from_secs_f64(self.training)
            .map_err(|error| format!("training is {}: {error}", self.training))?;
        scenario.lot = self.lot;
        (scenario.unit, scenario.local_steps, scenario.local_rate) =
            (self.unit, self.local_steps, self.local_rate);
        scenario.seed = self.seed;
        Ok(scenario)
    }

    fn run(&self) -> Result<Report, Failure> {
        let scenario = self.scenario().map_err(Failure::Usage)?;
        let log = match &self.log {
            None => Log::default(),
            Some(path) => {
                let file = File::create(path);
                let file = file.map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
                Log::to(Box::new(BufWriter::new(file)))
            }
        };
        let mut world = World::new(scenario, log).map_err(|refused| Failure::Usage(refused.to_string()))?;
        let result = world.run(&mut |progress| eprintln!("{progress}"));
        let written = world.log().flush();
        let report = result.map_err(|error| match error {
            SimulationError::Refused(refused) => Failure::Usage(refused.to_string()),
            other => Failure::Failed(other.to_string()),
        })?;
        written.map_err(|error| Failure::Failed(format!("the event log could not be written: {error}")))?;
        Ok(report)
    }
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
        assert_eq!(examples.len(), 5, "{help}");
        for example in examples {
            let Command::Run(run) = Arguments::try_parse_from(example.split_whitespace()).unwrap().command;
            run.scenario().unwrap().check().unwrap();
        }
    }
}
