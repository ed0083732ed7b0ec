//! Many simulations: every point of a sweep with every seed, side by side, into one folder.
//!
//! | file | holds |
//! |---|---|
//! | `sweep.toml` | the scenario with its `[sweep]` table, as swept |
//! | `runs/…/` | each run's own folder ([`crate::out`]); the name is the seed and a digest over the scenario |
//! | `runs.jsonl`, `runs.parquet` | one row for each run |
//! | `rounds.jsonl`, `rounds.parquet` | one row for each round of each run |
//! | `organizations.jsonl`, `organizations.parquet` | one row for each organization of each run |
//!
//! A run that has its `result.json`, from the same scenario and the same version, is not repeated: an interrupted sweep goes on,
//! and one that gets more values or seeds runs only those. Tables are written whole, from the folders.

pub mod planned;
pub mod progress;
pub mod rows;
pub mod table;

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use thiserror::Error;

use crate::{
    left::{Left, Unread},
    log::Log,
    out::{Folder, OutError, result::Versions, write_whole},
    run::Failure,
    scenario::Scenario,
};
use planned::Planned;
use progress::Progress;

/// Why a sweep did not come to its end.
#[derive(Debug, Error)]
pub enum Stopped {
    /// A file could not be written; what is whole is kept.
    #[error(
        "{source}\n{whole} of {all} runs are whole in {folder}; with room there, the same command goes on from them"
    )]
    Out {
        /// Which, and why.
        source: OutError,
        /// Runs that are whole.
        whole: usize,
        /// All.
        all: usize,
        /// Where.
        folder: PathBuf,
    },
    /// A run's folder holds something else.
    #[error(transparent)]
    Unread(#[from] Unread),
}

/// What came of one run.
#[derive(Clone, Debug)]
pub struct Done {
    /// Its point, from 1.
    pub point: usize,
    /// Its seed.
    pub seed: u64,
    /// How it ended, in a word or a sentence.
    pub end: String,
    /// Whether its scenario expects that.
    pub expected: bool,
    /// Wall time.
    pub seconds: f64,
    /// Its scenario, as a file.
    pub scenario: PathBuf,
}

/// What a sweep came to.
#[derive(Debug)]
pub struct Swept {
    /// All its runs that came to an end, in the plan's order.
    pub runs: Vec<(Planned, Left)>,
    /// How many of them were there before.
    pub reused: usize,
    /// Runs that came to no end, and why.
    pub failed: Vec<Done>,
}

/// The folder of a sweep.
#[derive(Debug)]
pub struct Sweeping {
    path: PathBuf,
}

impl Sweeping {
    /// Makes the folder, or goes on with the sweep that is in it.
    ///
    /// # Errors
    ///
    /// [`OutError`].
    pub fn open(path: &Path, base: &Scenario) -> Result<Self, OutError> {
        let kept = || "nothing was run".to_owned();
        let runs = path.join("runs");
        std::fs::create_dir_all(&runs).map_err(|source| OutError {
            path: runs.clone(),
            source,
            kept: kept(),
        })?;
        write_whole(&path.join("sweep.toml"), base.to_text().as_bytes(), &kept())?;
        Ok(Self { path: path.to_path_buf() })
    }

    fn of(&self, run: &Planned) -> PathBuf {
        self.path.join("runs").join(&run.id)
    }

    /// A run that is there already, from this scenario and this version.
    fn found(&self, run: &Planned) -> Option<Left> {
        let left = Left::read(&self.of(run)).ok()??;
        let is =
            |field: &str, value: &str| left.result.get(field).and_then(|own| own.as_str()) == Some(value);
        let own = serde_json::to_value(Versions::own()).ok()?;
        let same = left.result.get("versions") == Some(&own);
        (same && is("scenario_digest", &run.scenario.digest().to_string())).then_some(left)
    }

    /// Runs what is not there yet, `jobs` at a time. `tell` hears of every run, and of every second that passes.
    ///
    /// # Errors
    ///
    /// [`Stopped`]; what was whole by then is kept, and the tables hold it if they could be written.
    pub fn sweep(
        &self,
        plan: &[Planned],
        jobs: usize,
        again: bool,
        tell: &mut dyn FnMut(&Progress, Option<&Done>),
    ) -> Result<Swept, Stopped> {
        let mut left: Vec<Option<Left>> =
            plan.iter().map(|run| if again { None } else { self.found(run) }).collect();
        let reused = left.iter().flatten().count();
        let missing = left.iter().enumerate().filter(|(_, left)| left.is_none()).map(|(at, _)| at);
        let todo: VecDeque<usize> = missing.collect();
        let mut progress = Progress::new(plan, reused, todo.iter().copied(), jobs);
        tell(&progress, None);
        let (mut failed, mut full) = (Vec::new(), None);
        self.work(plan, todo, jobs, &mut |at, outcome| {
            let Some((at, outcome)) = at.zip(outcome) else {
                tell(&progress, None);
                return;
            };
            let Some(run) = plan.get(at) else { return };
            let (end, expected, seconds) = match outcome {
                Ok(it) => it,
                Err(Failure::Out(error)) => {
                    full.get_or_insert(error);
                    return;
                }
                Err(why) => (why.to_string(), false, 0.0),
            };
            let scenario = self.of(run).join("scenario.toml");
            let done = Done { point: run.point, seed: run.scenario.seed, end, expected, seconds, scenario };
            progress.ended(at, &done);
            tell(&progress, Some(&done));
            match Left::read(&self.of(run)) {
                Ok(Some(own)) => left.get_mut(at).into_iter().for_each(|place| *place = Some(own.clone())),
                _ => failed.push(done),
            }
        });
        let runs: Vec<_> =
            plan.iter().zip(left).filter_map(|(run, left)| Some((run.clone(), left?))).collect();
        let written = self.tables(&runs);
        match full.or(written.err()) {
            Some(source) => Err(Stopped::Out {
                source,
                whole: runs.len(),
                all: plan.len(),
                folder: self.path.join("runs"),
            }),
            None => Ok(Swept { runs, reused, failed }),
        }
    }

    /// `tell` gets each run's number and end, or neither when a second has passed.
    fn work(
        &self,
        plan: &[Planned],
        todo: VecDeque<usize>,
        jobs: usize,
        tell: &mut dyn FnMut(Option<usize>, Option<Ended>),
    ) {
        let jobs = jobs.clamp(1, todo.len().max(1));
        let (todo, full) = (Mutex::new(todo), AtomicBool::new(false));
        let (send, receive) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                let (todo, full, send) = (&todo, &full, send.clone());
                scope.spawn(move || {
                    while !full.load(Ordering::Relaxed) {
                        let next = todo.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some((at, run)) = next.and_then(|at| Some((at, plan.get(at)?))) else { break };
                        let outcome = self.one(run);
                        // Whoever has no room now has none for the next run.
                        full.fetch_or(matches!(outcome, Err(Failure::Out(_))), Ordering::Relaxed);
                        if send.send((at, outcome)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(send);
            loop {
                match receive.recv_timeout(Duration::from_secs(1)) {
                    Ok((at, outcome)) => tell(Some(at), Some(outcome)),
                    Err(mpsc::RecvTimeoutError::Timeout) => tell(None, None),
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                }
            }
        });
    }

    fn one(&self, run: &Planned) -> Ended {
        let started = Instant::now();
        let folder = Folder::create(&self.of(run), true)?;
        let outcome = crate::run::run(&run.scenario, Some(&folder), Log::default(), &mut |_| {})?;
        let result = outcome.result;
        let why = result.why.map(|why| format!(": {why}")).unwrap_or_default();
        let end = format!("{}{why}", result.end.name());
        Ok((end, result.line.expected_end, started.elapsed().as_secs_f64()))
    }

    fn tables(&self, runs: &[(Planned, Left)]) -> Result<(), OutError> {
        let tables = [
            ("runs", rows::runs(runs)),
            ("rounds", rows::rounds(runs)),
            ("organizations", rows::organizations(runs)),
        ];
        for (name, table) in tables {
            let kept = "the runs' own folders are whole";
            let path = |ending: &str| self.path.join(format!("{name}.{ending}"));
            write_whole(&path("jsonl"), table.json_lines().as_bytes(), kept)?;
            let bytes = table.parquet().map_err(|error| OutError {
                path: path("parquet"),
                source: std::io::Error::other(error),
                kept: kept.into(),
            })?;
            write_whole(&path("parquet"), &bytes, kept)?;
        }
        Ok(())
    }
}

/// How a run ended, whether that was expected, and how long it took; or why it did not.
type Ended = Result<(String, bool, f64), Failure>;
