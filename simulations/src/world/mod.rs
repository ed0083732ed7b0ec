//! One virtual clock, one queue, and everybody on it.
//!
//! Things happen in the order in which they are due (`queue`). A turn of a machine takes no virtual time; messages, training
//! and restarts do. Everything runs in one thread.

mod error;
mod lines;
mod processes;
mod queue;
mod turns;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use consilium_client::{ledger::LedgerState, model::AdapterTensors};
use consilium_proto::{
    ids::Id,
    wire::{self, RoundSummary},
};

use crate::{
    at_home::Beside,
    attack::{self, Attacking},
    behaviour::Behaviour,
    client_host::ClientHost,
    consortium::Consortium,
    coordinator_host::CoordinatorHost,
    log::Log,
    network::{Line, Micros},
    report::{Progress, Report},
    scenario::{Mishap, Refused, Scenario, micros},
    seeds::Seeds,
    task::{Study, TaskError},
    watch::Watch,
};
pub use error::SimulationError;
use queue::{Happening, Queue};

/// Bytes that were put on lines, whether they arrived or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Towards the coordinator.
    pub up: u64,
    /// From it.
    pub down: u64,
}

/// A simulation under way.
pub struct World {
    scenario: Scenario,
    seeds: Seeds,
    study: Study,
    consortium: Consortium,
    now: Micros,
    queue: Queue,
    tick: Option<Micros>,
    limit: Micros,
    coordinator: CoordinatorHost,
    /// The coordinator's sessions: the connection of each organization that it has greeted or is about to.
    sessions: BTreeMap<usize, u64>,
    ids: Vec<Id>,
    clients: Vec<ClientHost>,
    behaviour: Vec<Behaviour>,
    lines: Vec<Line>,
    /// By how many cuts of the network each organization is cut off now.
    barred: Vec<u32>,
    /// Requests for releases that are not answered in full yet.
    fetches: Vec<u32>,
    /// Attempts that were opened, over the whole job.
    opened: u64,
    /// Who takes part in a round, where not all do; and in which.
    sample: Option<(u32, BTreeSet<usize>)>,
    /// Who dies in the attempt under way, once it has dealt.
    doomed: BTreeSet<usize>,
    mishaps: Vec<Mishap>,
    traffic: Traffic,
    /// What the coordinator said last.
    last_said: Option<(wire::coordinator_message::Kind, Arc<queue::Packet>)>,
    watch: Watch,
    attacking: Option<Attacking>,
    log: Log,
    started: Instant,
    /// An attempt has ended.
    ended: bool,
    /// Attempts that were told of.
    told: usize,
    /// Organizations for which the job is over, and those that never come.
    finished: usize,
    absent: usize,
    /// Who stopped, and why.
    stopped: Option<(Id, String)>,
}

impl World {
    /// A world in which nothing has happened yet, with a task that keeps no files.
    ///
    /// # Errors
    ///
    /// [`Refused`], when the scenario cannot work.
    pub fn new(scenario: Scenario, log: Log) -> Result<Self, Refused> {
        scenario.check()?;
        let study = Study::new(&scenario, Path::new(""))?;
        Self::with_study(scenario, study, log)
    }

    /// A world in which nothing has happened yet.
    ///
    /// # Errors
    ///
    /// [`Refused`], when the scenario cannot work.
    pub fn with_study(scenario: Scenario, study: Study, log: Log) -> Result<Self, Refused> {
        let started = Instant::now();
        scenario.check()?;
        let consortium = Consortium::found(&scenario, &study)?;
        let n = scenario.organizations as usize;
        let answers = Arc::new(LedgerState::new(consortium.coordinator.id.clone(), [0; 32]));
        let attacking = Attacking::of(&scenario, &consortium);
        let mut clients = Vec::with_capacity(n);
        for index in 0..n {
            let flipped =
                attacking.as_ref().filter(|it| it.flips(index)).and_then(|_| study.task.flipped(index));
            let trainer = match flipped {
                Some(trainer) => trainer,
                None => study.task.trainer(index).map_err(|error| Refused::Task(error.to_string()))?,
            };
            let beside = Beside::of(&consortium.plan, trainer);
            let beside = beside.map_err(|error| Refused::Task(error.to_string()))?;
            let client = ClientHost::new(&scenario, &consortium, index, beside, answers.clone());
            clients.extend(client.map(|client| match &attacking {
                Some(attacking) => client.corrupted(attacking),
                None => client,
            }));
        }
        let behaviour = Behaviour::of_all(&scenario);
        let seeds = Seeds::new(scenario.seed);
        let line = |(index, behaviour): (usize, &Behaviour)| Line::new(seeds, index, behaviour);
        let late = &scenario.faults.late;
        let mut coordinator = CoordinatorHost::new(&consortium, &scenario);
        let mut watch = Watch::default();
        if let Some(attacking) = &attacking {
            coordinator = coordinator.corrupted(attacking);
            watch.note();
        }
        let mut world = Self {
            coordinator,
            sessions: BTreeMap::new(),
            ids: consortium.organizations.iter().map(|identity| identity.id.clone()).collect(),
            lines: behaviour.iter().enumerate().map(line).collect(),
            barred: vec![0; n],
            fetches: vec![0; n],
            opened: 0,
            sample: None,
            doomed: BTreeSet::new(),
            mishaps: scenario.faults.mishaps.clone(),
            traffic: Traffic::default(),
            last_said: None,
            watch,
            attacking,
            limit: limit(&scenario, &behaviour),
            absent: late.values().filter(|late| **late == Duration::MAX).count(),
            seeds,
            consortium,
            now: 0,
            queue: Queue::default(),
            tick: None,
            clients,
            behaviour,
            log,
            started,
            ended: false,
            told: 0,
            finished: 0,
            stopped: None,
            study,
            scenario,
        };
        world.queue.push(0, Happening::CoordinatorStarts);
        for (number, cut) in world.scenario.network.cuts.iter().enumerate() {
            world.queue.push(micros(cut.from_s), Happening::CutBegins(number));
            world.queue.push(micros(cut.until_s), Happening::CutEnds(number));
        }
        for index in 0..n {
            let late = world.scenario.faults.late.get(&index).copied().unwrap_or_default();
            if late != Duration::MAX {
                world.queue.push(micros(late.as_secs_f64()), Happening::Starts(index));
            }
        }
        Ok(world)
    }

    /// Runs to the job's end. `progress` is told whenever an attempt ends.
    ///
    /// # Errors
    ///
    /// [`SimulationError`]: a broken promise, or an end that is none.
    pub fn run(&mut self, progress: &mut dyn FnMut(&Progress)) -> Result<Report, SimulationError> {
        while let Some(attempt) = self.next_attempt()? {
            let wall = self.started.elapsed().as_secs_f64();
            progress(&Progress::new(&attempt, self.scenario.rounds, self.seconds(), wall));
        }
        self.report()
    }

    /// Runs until an attempt ends, and gives what it came to; `None` when the job is over.
    ///
    /// # Errors
    ///
    /// As [`World::run`].
    pub fn next_attempt(&mut self) -> Result<Option<RoundSummary>, SimulationError> {
        loop {
            if let Some(attempt) = self.news() {
                return Ok(Some(attempt));
            }
            if self.is_over() {
                return Ok(None);
            }
            self.step()?;
        }
    }

    /// Whether the job is over for everybody who takes part in it.
    pub fn is_over(&self) -> bool {
        self.finished + self.absent >= self.clients.len()
            && !self.queue.is_any_rising()
            && self.coordinator.job().is_some_and(|job| job.is_finished())
    }

    /// Lets the next thing happen.
    ///
    /// # Errors
    ///
    /// As [`World::run`].
    pub fn step(&mut self) -> Result<(), SimulationError> {
        let stuck = SimulationError::Stuck(self.seconds());
        let Some((at, what)) = self.queue.pop() else { return Err(stuck) };
        if at > self.limit {
            return Err(stuck);
        }
        self.now = at;
        self.happen(what)?;
        match self.watch.violations().first() {
            Some(violation) => Err(SimulationError::Violation(violation.clone())),
            None => Ok(()),
        }
    }

    /// Lets everything happen that is due until then, and sets the clock to it.
    ///
    /// # Errors
    ///
    /// As [`World::run`].
    pub fn run_until(&mut self, time: Duration) -> Result<(), SimulationError> {
        let until = micros(time.as_secs_f64());
        while self.queue.next().is_some_and(|at| at <= until) {
            self.step()?;
        }
        self.now = self.now.max(until);
        Ok(())
    }

    /// Virtual seconds so far.
    pub fn seconds(&self) -> f64 {
        self.now as f64 / 1e6
    }

    /// The scenario.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The task and who has what of it.
    pub fn study(&self) -> &Study {
        &self.study
    }

    /// The coordinator.
    pub fn coordinator(&self) -> &CoordinatorHost {
        &self.coordinator
    }

    /// The operator's view now; `None` while the coordinator is down.
    pub fn status(&mut self) -> Option<wire::JobStatus> {
        self.coordinator.status(self.now)
    }

    /// The organizations, in the cohort's order.
    pub fn clients(&self) -> &[ClientHost] {
        &self.clients
    }

    /// The coordinator's adapter as an organization uses it: with its own head, where heads stay at home. `None` while the
    /// coordinator is down.
    pub fn adapter_of(&self, index: usize) -> Option<AdapterTensors> {
        let state = self.coordinator.job()?.state();
        Some(self.clients.get(index)?.complete(state))
    }

    /// How an organization behaves.
    pub fn behaviour(&self, index: usize) -> Option<&Behaviour> {
        self.behaviour.get(index)
    }

    /// Bytes so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// What was seen.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// What the scenario's attack came to, if it has one.
    ///
    /// # Errors
    ///
    /// [`TaskError`], when the task cannot be asked again.
    pub fn attack(&self) -> Result<Option<attack::Outcome>, TaskError> {
        self.attacking.as_ref().map(|attacking| attacking.outcome(self)).transpose()
    }

    /// The event log.
    pub fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    /// The consortium.
    pub fn consortium(&self) -> &Consortium {
        &self.consortium
    }

    fn id(&self, index: usize) -> Id {
        let made = || crate::consortium::organization(u32::try_from(index).unwrap_or(u32::MAX));
        self.ids.get(index).cloned().unwrap_or_else(made)
    }

    fn index(&self, id: &Id) -> Option<usize> {
        self.ids.binary_search(id).ok()
    }

    /// The client's end of this connection is open.
    fn is_connected(&self, index: usize, connection: u64) -> bool {
        let up = self.clients.get(index).is_some_and(ClientHost::is_up);
        up && self.lines.get(index).and_then(Line::connection) == Some(connection)
    }

    /// What an attempt that has ended and was not told of yet came to.
    fn news(&mut self) -> Option<RoundSummary> {
        let job = self.coordinator.job().filter(|_| self.ended)?;
        let mut rounds = job.rounds().rounds;
        if self.told + 1 >= rounds.len() {
            self.ended = false;
        }
        if self.told >= rounds.len() {
            return None;
        }
        self.told += 1;
        Some(rounds.swap_remove(self.told - 1))
    }

    /// What the simulation came to, once it [is over](World::is_over).
    ///
    /// # Errors
    ///
    /// [`SimulationError::Apart`].
    pub fn report(&mut self) -> Result<Report, SimulationError> {
        let stuck = SimulationError::Stuck(self.seconds());
        let job = self.coordinator.job().ok_or(stuck)?;
        let adapter = job.state().adapter_digest();
        let apart =
            self.clients.iter().find(|client| client.applied().is_some_and(|(_, own)| own != adapter));
        if let Some(client) = apart {
            return Err(SimulationError::Apart { who: client.id().clone() });
        }
        let rounds = job.rounds().rounds;
        Ok(Report {
            adapter_digest: adapter,
            log_digest: self.log.digest(),
            attempts: rounds,
            sums: self.watch.sums(),
            virtual_seconds: self.seconds(),
            seconds: self.started.elapsed().as_secs_f64(),
        })
    }
}

/// When a job that is not over is stuck: all deadlines of all attempts, and everybody's absences.
fn limit(scenario: &Scenario, behaviour: &[Behaviour]) -> Micros {
    let attempt = scenario.deadlines.attempt_s() + 60;
    let attempts = u64::from(scenario.rounds) * u64::from(scenario.cohort.max_attempts) + 1;
    let late = scenario.faults.late.values().filter(|late| **late != Duration::MAX).max();
    let late = micros(late.copied().unwrap_or_default().as_secs_f64());
    let cuts = scenario.network.cuts.iter().map(|cut| micros(cut.until_s)).max().unwrap_or(0);
    let deaths = scenario.faults.coordinator.len() as u64 + 2;
    let restart = behaviour.iter().map(|behaviour| behaviour.restart).max().unwrap_or(0);
    let restart = restart.max(micros(scenario.clients.restart_s));
    (attempts * attempt * 1_000_000)
        .saturating_add(late)
        .saturating_add(cuts)
        .saturating_add(deaths.saturating_mul(restart))
}
