//! One simulation from its scenario to its end, and what it leaves behind.

use std::{path::PathBuf, time::Instant};

use consilium_proto::{
    plan::{PrivacyUnit, VerifiedPlan},
    wire::RoundSummary,
};
use thiserror::Error;

use crate::{
    log::Log,
    out::{
        Folder, Lines, OutError, organizations,
        result::{self, Line, Versions, cpu_seconds},
        rounds::{Rounds, Row},
    },
    report::{Progress, Report},
    scenario::{End, Refused, Scenario, check::range},
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
    Refused(Refused),
    /// A file could not be written.
    #[error(transparent)]
    Out(#[from] OutError),
    /// The task failed in the middle.
    #[error("the task failed: {0}")]
    Task(#[from] TaskError),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Write(full) => Self::Out(full),
            refused => Self::Refused(refused),
        }
    }
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
    let scratch = Scratch::new(out)?;
    let study = Study::new(scenario, scratch.path())?;
    let mut world = World::with_study(scenario.clone(), study, log)?;
    lasts(scenario, &world.consortium().plan)?;
    let mut writer = match out {
        Some(folder) => Some(Writer::begin(folder, scratch, scenario, world.study())?),
        None => None,
    };
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
    world.log().flush().map_err(|source| OutError {
        path: "the log".into(),
        source,
        kept: "rounds.jsonl and organizations.jsonl are whole".into(),
    })?;
    if let Some(folder) = out {
        // Unwrap safety: numbers and words.
        let text = serde_json::to_string_pretty(&result).unwrap_or_default() + "\n";
        folder.write("result.json", &text, "rounds.jsonl and organizations.jsonl are whole")?;
    }
    Ok(Outcome { result, report })
}

/// A budget that does not pay for the rounds is meant, or a mistake: the scenario says which.
fn lasts(scenario: &Scenario, plan: &VerifiedPlan) -> Result<(), Refused> {
    let (privacy, rounds) = (&plan.document().privacy, scenario.rounds);
    if scenario.expect.end != End::Released || privacy.unit == PrivacyUnit::None {
        return Ok(());
    }
    // Arithmetic that the accountant cannot do is refused by the first attempt, in its own words.
    let Ok(spent) = plan.derived().guarantees(u64::from(rounds), privacy.delta) else { return Ok(()) };
    range(spent.central <= privacy.epsilon, "privacy.epsilon", &privacy.epsilon, || {
        format!(
            "{rounds} rounds spend ε = {:.3} at δ = {}; allow that much, run fewer rounds, add noise (privacy.noise_multiplier), or \
             say expect.end = \"gave-up\" if the budget shall run out",
            spent.central, privacy.delta
        )
    })
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
    fn begin(
        folder: &Folder,
        scratch: Scratch,
        scenario: &Scenario,
        study: &Study,
    ) -> Result<Self, OutError> {
        folder.clear()?;
        scratch.keep()?;
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

/// Where a task keeps each organization's records until the run begins: beside the run's folder's `data/`, or in a folder that goes
/// with the run.
struct Scratch {
    made: tempfile::TempDir,
    kept: Option<PathBuf>,
    /// The run's folder, which goes again if nothing is run. After `made`, which is in it.
    unused: Option<Unused>,
}

/// A folder that goes with this, if it is empty.
struct Unused(PathBuf);

impl Drop for Unused {
    fn drop(&mut self) {
        // One that holds something stays.
        drop(std::fs::remove_dir(&self.0));
    }
}

impl Scratch {
    fn new(out: Option<&Folder>) -> Result<Self, OutError> {
        let beside = out.map(|folder| folder.path().to_path_buf());
        let path = beside.clone().unwrap_or_else(std::env::temp_dir);
        let made = match &beside {
            Some(beside) => std::fs::create_dir_all(beside)
                .and_then(|()| tempfile::Builder::new().prefix("data.").tempdir_in(beside)),
            None => tempfile::tempdir(),
        };
        let failed = |source| OutError { path, source, kept: "nothing was run".into() };
        let unused = out.map(|folder| Unused(folder.path().to_path_buf()));
        Ok(Self { made: made.map_err(failed)?, kept: out.map(Folder::data), unused })
    }

    fn path(&self) -> &std::path::Path {
        self.made.path()
    }

    /// The run begins: the records get their place, if there are any.
    fn keep(self) -> Result<(), OutError> {
        let Some(kept) = self.kept else { return Ok(()) };
        std::mem::forget(self.unused);
        let any = std::fs::read_dir(self.made.path()).is_ok_and(|mut entries| entries.next().is_some());
        if any {
            let failed = |source| OutError { path: kept.clone(), source, kept: "nothing was run".into() };
            std::fs::rename(self.made.path(), &kept).map_err(failed)?;
            // It has moved: there is nothing left to remove.
            let _ = self.made.keep();
        }
        Ok(())
    }
}
