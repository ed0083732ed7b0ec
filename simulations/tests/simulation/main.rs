//! Whole jobs under a virtual clock: many organizations, crashes at every record, broken lines, absent members.

#![allow(clippy::unwrap_used)]

mod crashes;
mod files;
mod lines;
mod outages;
mod plain;
mod sampling;
mod strategies;
#[cfg(feature = "torch")]
mod texts;
mod units;
mod waiting;
mod whole;

use consilium_simulations::{Report, Scenario, SimulationError, World, log::Log, scenario::TaskKind};

/// Runs a scenario to its end.
fn run(scenario: &Scenario) -> (World, Report) {
    try_run(scenario).unwrap_or_else(|error| panic!("{error}\n{scenario:?}"))
}

fn try_run(scenario: &Scenario) -> Result<(World, Report), SimulationError> {
    let mut world = World::new(scenario.clone(), Log::default())?;
    let report = world.run(&mut |_| {})?;
    Ok((world, report))
}

/// A small and quick task.
fn small(organizations: u32, rounds: u32) -> Scenario {
    let mut scenario = convex(organizations, rounds, 60);
    scenario.privacy.lot = 5.0;
    scenario
}

/// The convex task with so many parameters.
fn convex(organizations: u32, rounds: u32, dimension: u32) -> Scenario {
    Scenario { task: TaskKind::Convex { dimension }, ..Scenario::new(organizations, rounds) }
}

/// What became of every attempt: round, attempt, outcome, survivors.
fn outcomes(report: &Report) -> Vec<(u32, u32, &str, usize)> {
    let of = |it: &'_ consilium_proto::wire::RoundSummary| (it.round, it.attempt, it.survivors.len());
    report
        .attempts
        .iter()
        .map(|it| {
            let (round, attempt, survivors) = of(it);
            (round, attempt, it.outcome.as_str(), survivors)
        })
        .collect()
}
