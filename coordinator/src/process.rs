//! The `consilium-coordinator` process: arguments, log, signals, exit codes.

mod maintenance;

use std::{io, path::PathBuf, process::ExitCode};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{config::Config, disk::Disk, memory, service::Service};

/// Orchestrates the training rounds of one job, without seeing any organization's update.
///
/// Everything it needs stands in the config file; `consilium` (the operator's command) watches it. On SIGINT and SIGTERM it
/// finishes what it has accepted and stops; it goes on in the same step of the same round when it is started again.
#[derive(Parser)]
#[command(
    name = "consilium-coordinator",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Example:
  consilium-coordinator --config coordinator.toml

Exit codes: 0 stopped or done as asked, 1 failed while serving or refused, 2 wrong usage or configuration."
)]
struct Arguments {
    /// The config file, TOML.
    #[arg(long, required = true)]
    config: Option<PathBuf>,
    /// Check the config, roster and plan, print what would be served, and exit.
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    command: Option<maintenance::Command>,
}

/// Runs the process to its end.
pub fn main() -> ExitCode {
    memory::one_heap();
    let arguments = Arguments::parse();
    if let Some(command) = arguments.command {
        return command.run(&mut std::io::stdout());
    }
    let filter = EnvFilter::try_from_env("CONSILIUM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    // Before anything is opened: from here on, being asked to stop never ends the process by the signal.
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let asked_to_stop = match runtime.block_on(async { stops() }) {
        Ok(asked_to_stop) => asked_to_stop,
        Err(error) => return failed(&error),
    };
    let loaded = match Config::load(&arguments.config.unwrap_or_default()) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("consilium-coordinator: {error}");
            return ExitCode::from(2);
        }
    };
    if arguments.check {
        println!("job {}", loaded.plan.document().job);
        println!("plan {}", loaded.plan.digest());
        println!("roster {}", loaded.roster.digest());
        println!("listens on {}", loaded.listen);
        if let Some(second) = &loaded.inspected {
            println!("listens for inspected connections on {}", second.listen);
        }
        let disk = Disk::new(&loaded.state, loaded.disk, &loaded.plan);
        let (forecast, room) = (disk.forecast(), disk.room(false));
        println!("disk for the whole job {} bytes, for an attempt {} bytes", forecast.job, forecast.attempt);
        let free = room.free.map_or_else(|| "an unknown number of".to_owned(), |free| free.to_string());
        println!("disk free {free} bytes, needed with the reserve {} bytes", room.needed);
        return ExitCode::SUCCESS;
    }
    let service = Service {
        listen: loaded.listen,
        inspected: loaded.inspected,
        identity: loaded.identity,
        roster: loaded.roster,
        plan: loaded.plan,
        limits: loaded.limits,
        disk: loaded.disk,
        wait_for_start: loaded.wait_for_start,
        observe: loaded.observe,
    };
    match runtime.block_on(service.run(&loaded.state, asked_to_stop)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("consilium-coordinator: {error}");
    ExitCode::FAILURE
}

/// Completes when the process is asked to end, also if that was before anybody waited for it.
fn stops() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping");
    })
}
