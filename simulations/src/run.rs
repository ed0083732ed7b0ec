//! One simulation from its scenario to its end, and what it leaves behind.

use std::{path::PathBuf, time::Instant};

use consilium_proto::wire::RoundSummary;
use thiserror::Error;

use crate::{
    log::Log,
    out::{
        Folder, Lines, OutError, organizations,
        result::{self, Line, Versions, cpu_seconds},
        rounds::{Rounds, Row},
    },
    report::{Progress, Report},
    scenario::{End, Refused, Scenario},
    task::{Study, TaskError},
    world::{SimulationError, World},
};

/// What a simulation came to.
#[derive(Debug)]
pub struct Outcome {
    /// What `result.json` holds.
    pub result: result::Result,
    /// Every attempt and both digests, if the job came to its end.
    pub report: Option<Report>,
}

/// Why there is no outcome.
#[derive(Debug, Error)]
pub enum Failure {
    /// The scenario cannot work; nothing was simulated.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A file could not be written.
    #[error(transparent)]
    Out(#[from] OutError),
    /// The task failed in the middle.
    #[error("the task failed: {0}")]
    Task(#[from] TaskError),
}

/// Runs a scenario. `progress` is told whenever an attempt ends.
///
/// # Errors
///
/// [`Failure`]. An end that the scenario does not expect is no failure, but an [`Outcome`].
pub fn run(
    scenario: &Scenario,
    out: Option<&Folder>,
    log: Log,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Outcome, Failure> {
    let (started, cpu) = (Instant::now(), cpu_seconds());
    scenario.check()?;
    let scratch = Scratch::new(scenario, out)?;
    let study = Study::new(scenario, scratch.path())?;
    let mut writer = match out {
        Some(folder) => Some(Writer::begin(folder, scenario, &study)?),
        None => None,
    };
    let mut world = World::with_study(scenario.clone(), study, log)?;
    if let Some(writer) = &mut writer {
        writer.rounds = Some(Rounds::new(&world));
    }
    let ended = attempts(&mut world, &mut writer, started, progress)?;
    let (report, error) = match ended.and_then(|()| world.report()) {
        Ok(report) => (Some(report), None),
        Err(error) => (None, Some(error)),
    };
    if let Some(writer) = &mut writer {
        writer.end(&world)?;
    }
    let (end, why) = match (&report, &error) {
        (Some(report), _) if report.released().count() == scenario.rounds as usize => (End::Released, None),
        (_, Some(SimulationError::Refused(_))) | (Some(_), _) => (End::GaveUp, None),
        (None, Some(error)) => (error.end().unwrap_or(End::Stuck), Some(error.to_string())),
        (None, None) => (End::Stuck, None),
    };
    let attack = world.attack()?;
    let verdict = attack.as_ref().map(|attack| attack.verdict);
    let expected = end == scenario.expect.end
        && (scenario.expect.attack.is_none() || scenario.expect.attack == verdict)
        && why.as_ref().map_or("", String::as_str).contains(&scenario.expect.because);
    let plan = &world.consortium().plan;
    let (plan_digest, dimension) = (plan.digest().to_string(), plan.derived().manifest.dimension());
    let released = world.coordinator().job().map(|job| job.rounds().rounds);
    let released = released.iter().flatten().filter(|attempt| attempt.outcome == "released").count();
    let result = result::Result {
        line: Line {
            adapter_digest: report.as_ref().map(|report| report.adapter_digest.to_string()),
            log_digest: world.log().digest().to_string(),
            rounds: released,
            virtual_seconds: world.seconds(),
            seconds: started.elapsed().as_secs_f64(),
            expected_end: expected,
        },
        end,
        why,
        attack,
        name: scenario.name.clone(),
        seed: scenario.seed,
        scenario_digest: scenario.digest().to_string(),
        plan_digest,
        dimension,
        cpu_seconds: cpu_seconds() - cpu,
        versions: Versions::own(),
    };
    if let Some(folder) = out {
        // Unwrap safety: numbers and words.
        let text = serde_json::to_string_pretty(&result).unwrap_or_default() + "\n";
        folder.write("result.json", &text, "rounds.jsonl and organizations.jsonl are whole")?;
    }
    Ok(Outcome { result, report })
}

fn attempts(
    world: &mut World,
    writer: &mut Option<Writer>,
    started: Instant,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Result<(), SimulationError>, Failure> {
    loop {
        let attempt = match world.next_attempt() {
            Ok(Some(attempt)) => attempt,
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        let wall = started.elapsed().as_secs_f64();
        progress(&Progress::new(&attempt, world.scenario().rounds, world.seconds(), wall));
        if let Some(writer) = writer {
            writer.attempt(world, attempt)?;
        }
    }
}

/// The files that are written on the way.
struct Writer {
    rounds: Option<Rounds>,
    lines: Lines,
    organizations: Lines,
}

impl Writer {
    fn begin(folder: &Folder, scenario: &Scenario, study: &Study) -> Result<Self, OutError> {
        folder.write("scenario.toml", &scenario.to_text(), "nothing was run")?;
        let mut partition = folder.lines("partition.jsonl")?;
        for line in study.dealt.lines() {
            partition.add(&line)?;
        }
        let (lines, organizations) = (folder.lines("rounds.jsonl")?, folder.lines("organizations.jsonl")?);
        Ok(Self { rounds: None, lines, organizations })
    }

    fn attempt(&mut self, world: &World, attempt: RoundSummary) -> Result<(), Failure> {
        let rows = self.rounds.as_mut().map(|rounds| rounds.attempt(world, attempt)).transpose()?;
        self.add(rows.into_iter().flatten())
    }

    fn add(&mut self, rows: impl IntoIterator<Item = Row>) -> Result<(), Failure> {
        for row in rows {
            // Unwrap safety: numbers and words.
            self.lines.add(&serde_json::to_string(&row).unwrap_or_default())?;
        }
        Ok(())
    }

    fn end(&mut self, world: &World) -> Result<(), Failure> {
        let last = self.rounds.as_mut().map(|rounds| rounds.finish(world)).transpose()?;
        self.add(last.flatten())?;
        let Some(job) = world.coordinator().job() else { return Ok(()) };
        for index in 0..world.clients().len() {
            let row = organizations::row(world, job.state(), index)?;
            self.organizations.add(&serde_json::to_string(&row).unwrap_or_default())?;
        }
        Ok(())
    }
}

/// Where a task keeps each organization's records: in the run's folder, or in one that goes with the run.
enum Scratch {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Scratch {
    fn new(scenario: &Scenario, out: Option<&Folder>) -> Result<Self, OutError> {
        let _ = scenario;
        match out {
            Some(folder) => Ok(Self::Kept(folder.data())),
            None => {
                let made = tempfile::tempdir();
                let path = std::env::temp_dir();
                let failed = |source| OutError { path, source, kept: "nothing was run".into() };
                made.map(Self::Temporary).map_err(failed)
            }
        }
    }

    fn path(&self) -> &std::path::Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}
