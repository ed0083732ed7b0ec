//! The command line. Results go to standard output (tables for people, `--json` for machines), everything else to standard
//! error. No secret is ever an argument, and none is ever printed.

mod baseline;
mod check;
mod data;
mod decide;
mod doctor;
mod egress;
mod evaluate;
mod explain;
mod export;
mod failure;
mod keygen;
mod ledger;
mod logging;
mod merge;
mod metrics;
mod output;
mod plan;
mod policy;
mod run;
mod sign;
mod state;
mod status;
mod trainer;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};
use consilium_proto::signed::Kind;

use crate::decisions::Act;
use decide::Person;
use failure::Failure;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  this machine failed: disk, memory, training
  2  the command line is wrong
  3  refused: config, key, roster, plan, model, data or adapter
  4  the privacy ledger: the budget is spent, the ledger does not verify, or the state was restored from an old copy
  5  the coordinator or another party cannot be worked with";

/// The process an organization runs beside its data: trains, encrypts, takes part in rounds.
#[derive(Debug, Parser)]
#[command(name = "consilium-client", version, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take part in the job until it is over.
    #[command(
        after_help = "Example:\n  consilium-client run --config client.toml\n\nSIGINT and SIGTERM end it cleanly; \
        started again, it goes on where it stopped."
    )]
    Run(Configured),
    /// Make every check that `run` makes first, and say what would happen. No network; nothing is written.
    #[command(
        after_help = "Examples:\n  consilium-client check --config client.toml\n  consilium-client check --config \
        client.toml --json | jq .outlook"
    )]
    Check(ConfiguredJson),
    /// What the plan asks, whether a person here says yes to it, and a rehearsal.
    #[command(subcommand)]
    Plan(plan::PlanCommand),
    /// Take part in nothing for now: leaves the attempt under way at once, and stays connected.
    #[command(
        after_help = "Example:\n  consilium-client pause --config client.toml --by \"Dr Ada Byron\" --reason \"maintenance\"\n\nPeers see a \
        refusal (code paused). `resume` ends it."
    )]
    Pause(Person),
    /// Take part again after `pause` or `stop`.
    #[command(after_help = "Example:\n  consilium-client resume --config client.toml --by \"Dr Ada Byron\"")]
    Resume(Person),
    /// Leave the attempt under way at once and end; not started again until `resume`.
    #[command(
        after_help = "Example:\n  consilium-client stop --config client.toml --by \"Dr Ada Byron\" --reason \"an incident\"\n\nPeers see a \
        refusal (code stopped)."
    )]
    Stop(Person),
    /// Leave the job for good: the attempt under way at once, and every later one under this plan.
    #[command(
        after_help = "Example:\n  consilium-client leave --config client.toml --by \"Dr Ada Byron\" --reason \"consent withdrawn\" \\\n      \
        --confirm letters-2027\n\nPeers see a refusal (code left). What the published adapters have learned from this organization stays in \
        them, and what the ledger holds stays spent."
    )]
    Leave(decide::Leaving),
    /// What this client is doing, as this organization sees it.
    #[command(
        after_help = "Examples:\n  consilium-client status --config client.toml\n  consilium-client status --config client.toml --json | \
        jq .phase"
    )]
    Status(ConfiguredJson),
    /// What is wrong with this installation, and how to mend it; looks who answers at the coordinator's address.
    #[command(
        after_help = "Examples:\n  consilium-client doctor --config client.toml\n  consilium-client doctor --config client.toml --offline \
        --json\n\nIt opens one connection, to the coordinator's address, shows no certificate and says nothing. It ends with 3 if \
        something has failed."
    )]
    Doctor(doctor::Doctor),
    /// This organization's own numbers in Prometheus' text format. No port is opened: let a file collector read them.
    #[command(
        after_help = "Example:\n  consilium-client metrics --config client.toml --out /var/lib/node_exporter/consilium.prom"
    )]
    Metrics(metrics::Metrics),
    /// What left the building, message by message.
    #[command(subcommand)]
    Egress(egress::EgressCommand),
    /// Explain this organization's policy line by line, and what each line says about the plan.
    #[command(
        after_help = "Examples:\n  consilium-client policy --config client.toml\n  consilium-client policy --config client.toml \
        --json | jq .allowed\n\nIt ends with 3 if a line forbids the plan. policy.example.toml shows every line there is."
    )]
    Policy(ConfiguredJson),
    /// Make this organization's keys: the private ones, and the public entry for the roster.
    #[command(
        after_help = "Example:\n  consilium-client keygen --id site-1 --out keys/site-1\n\nSend party.toml to whoever draws up \
        the roster. identity.toml never leaves this organization."
    )]
    Keygen(keygen::Keygen),
    /// Sign a roster or a plan; the signature is put into FILE.sig beside those already there.
    #[command(
        after_help = "Examples:\n  consilium-client sign roster roster.toml --identity keys/site-1/identity.toml\n  consilium-client \
        sign plan plan.toml --identity keys/site-1/identity.toml\n\nRead the document first: what you sign is its text, byte for byte."
    )]
    Sign(sign::Sign),
    /// Print a document's fingerprint, to be compared by telephone.
    #[command(after_help = "Example:\n  consilium-client fingerprint roster roster.toml")]
    Fingerprint(sign::Fingerprint),
    /// What this data set's privacy has cost so far.
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Whether this client's state is as new as what its peers hold, and what to do if it is not.
    #[command(subcommand)]
    State(state::StateCommand),
    /// A trainer of this organization's own, outside the client: ask who it is, make keys for the way to it.
    #[command(subcommand)]
    Trainer(trainer::TrainerCommand),
    /// Score an adapter on a labelled file.
    #[command(
        after_help = "Examples:\n  consilium-client evaluate --config client.toml --adapter result --data test.csv\n  \
        consilium-client evaluate --config client.toml --adapter result/adapter --head result/head.safetensors \\\n      \
        --data test.csv --mix-of site-1.csv --json"
    )]
    Evaluate(evaluate::Evaluate),
    /// Train on this organization's data alone, without noise: what it could do without the others.
    #[command(
        after_help = "Example:\n  consilium-client baseline --config client.toml --epochs 5 --learning-rate 0.005 \
        --out alone\n\nNothing of this is private; keep the result at home."
    )]
    Baseline(baseline::Baseline),
    /// Write the adapter after the last round that this client has applied.
    #[command(
        after_help = "Example:\n  consilium-client export --config client.toml --out result\n\nOUT receives adapter/ \
        (a PEFT folder), head.safetensors, labels.txt and a signed manifest.json."
    )]
    Export(export::Export),
    /// Write a base model with an adapter inside it, for programs that know nothing of adapters.
    #[command(
        after_help = "Example:\n  consilium-client merge --model models/smollm2 --adapter result/adapter --out merged\n\nThe sum is \
        rounded to the model's own element type. An adapter that names other base weights is refused."
    )]
    Merge(merge::Merge),
}

/// A command that needs the configuration.
#[derive(Debug, Args)]
struct Configured {
    /// The client's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// The same, with a choice of output.
#[derive(Debug, Args)]
struct ConfiguredJson {
    #[command(flatten)]
    configured: Configured,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// A document that a consortium signs.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Document {
    /// Who belongs to the consortium.
    Roster,
    /// What a job does.
    Plan,
}

impl Document {
    fn kind(self) -> Kind {
        match self {
            Self::Roster => Kind::Roster,
            Self::Plan => Kind::Plan,
        }
    }
}

/// Runs the command line to its end.
pub fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(Configured { config }) => run::run(&config),
        Command::Check(ConfiguredJson { configured, json }) => check::check(&configured.config, json),
        Command::Plan(command) => command.run(),
        Command::Pause(person) => decide::decide(Act::Pause, &person),
        Command::Resume(person) => decide::decide(Act::Resume, &person),
        Command::Stop(person) => decide::decide(Act::Stop, &person),
        Command::Leave(command) => command.run(),
        Command::Status(command) => status::status(&command),
        Command::Doctor(command) => command.run(),
        Command::Metrics(command) => command.run(),
        Command::Egress(command) => command.run(),
        Command::Policy(command) => policy::policy(&command),
        Command::Keygen(command) => command.run(),
        Command::Sign(command) => command.run(),
        Command::Fingerprint(command) => command.run(),
        Command::Ledger(command) => command.run(),
        Command::State(command) => command.run(),
        Command::Trainer(command) => command.run(),
        Command::Evaluate(command) => command.run(),
        Command::Baseline(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Merge(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
