//! One virtual clock, one queue, and everybody on it.
//!
//! Things happen in the order of `(time, sequence)`; the sequence is the order in which they were put into the queue, so
//! nothing depends on how a heap breaks ties. A turn of a machine takes no virtual time; messages, training and
//! restarts do. Everything runs in one thread.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
    time::{Duration, Instant},
};

use consilium_client::{ledger::LedgerState, session::Input as ToClient};
use consilium_coordinator::round::Input as ToCoordinator;
use consilium_crypto::release::AdapterState;
use consilium_proto::{
    ids::Id,
    wire::{
        self, ClientMessage, CoordinatorMessage, client_message::Kind as Say,
        coordinator_message::Kind as Heard,
    },
};
use prost::Message as _;
use rand::{RngExt as _, seq::index};
use thiserror::Error;

use crate::{
    client_host::{Act, After, ClientHost, Life},
    consortium::Consortium,
    coordinator_host::{CoordinatorHost, Spoken, Surroundings, Turn},
    log::Log,
    network::{Fate, Line, Micros},
    report::{Progress, Report},
    scenario::{Accident, Mishap, Refused, SPREAD, Scenario},
    seeds::Seeds,
    task::{self, Organization, Task},
    watch::{Violation, Watch},
};

/// Why a simulation did not come to its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// The scenario cannot work.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A promise was broken.
    #[error("a promise was broken: {0}")]
    Violation(Violation),
    /// A process could not start from its own disk.
    #[error("{who} could not start again: {why}")]
    Start {
        /// Who.
        who: String,
        /// Why.
        why: String,
    },
    /// An organization stopped for good.
    #[error("{who} stopped: {why}")]
    Stopped {
        /// Who.
        who: Id,
        /// Why.
        why: String,
    },
    /// Two organizations, or one and the coordinator, ended with different adapters.
    #[error("{who} ended with another adapter than the coordinator")]
    Apart {
        /// Who.
        who: Id,
    },
    /// Nothing more can happen, and the job is not over; or it takes longer than all deadlines together.
    #[error("nothing more happens after {0:.0} virtual seconds, and the job is not over")]
    Stuck(f64),
}

enum Happening {
    /// The coordinator's process starts.
    CoordinatorStarts,
    /// The coordinator's machine is due, unless it was woken since.
    Tick,
    /// An organization's process starts.
    Starts(usize),
    /// It dies.
    Dies(usize),
    /// It dials.
    Dials(usize),
    /// The handshake is over.
    Connects(usize),
    /// A message arrives.
    Up {
        from: usize,
        connection: u64,
        bytes: Arc<Vec<u8>>,
        after: bool,
    },
    Down {
        to: usize,
        connection: u64,
        bytes: Arc<Vec<u8>>,
        after: bool,
    },
    /// A part of an upload arrives.
    Part {
        from: usize,
        connection: u64,
        part: wire::UploadPart,
    },
    /// A request for releases arrives, and what is sent in reply.
    Asked {
        from: usize,
        connection: u64,
        round: u32,
    },
    Release {
        to: usize,
        connection: u64,
        head: wire::SignedReleaseHead,
        sum: Vec<u8>,
    },
    Released {
        to: usize,
        connection: Option<u64>,
        start: u64,
    },
    /// The coordinator notices that a session is gone.
    Gone {
        from: usize,
        connection: u64,
    },
    /// An organization notices that its session is gone.
    Lost {
        to: usize,
        connection: u64,
    },
    /// A lot would be trained by now.
    Trained {
        organization: usize,
        ticket: u64,
    },
    /// The test set would be evaluated by now.
    Evaluated {
        organization: usize,
        start: u64,
        round: u32,
        adapter: Arc<AdapterState>,
    },
}

struct Due {
    at: Micros,
    sequence: u64,
    what: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// A simulation under way.
pub struct World {
    scenario: Scenario,
    seeds: Seeds,
    consortium: Consortium,
    now: Micros,
    queue: BinaryHeap<Reverse<Due>>,
    sequence: u64,
    tick: Option<Micros>,
    limit: Micros,
    coordinator: CoordinatorHost,
    /// The coordinator's sessions: the connection of each organization that it has greeted or is about to.
    sessions: BTreeMap<usize, u64>,
    clients: Vec<ClientHost>,
    lines: Vec<Line>,
    /// Requests for releases that are not answered in full yet.
    fetches: Vec<u32>,
    factors: Vec<f64>,
    /// Who dies in the attempt under way, once it has dealt.
    doomed: BTreeSet<usize>,
    mishaps: Vec<Mishap>,
    watch: Watch,
    log: Log,
    started: Instant,
    /// An attempt has ended that nobody was told of yet.
    ended: bool,
    /// Messages on their way to the coordinator.
    rising: usize,
}

fn micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX)
}

impl World {
    /// A world in which nothing has happened yet.
    ///
    /// # Errors
    ///
    /// [`Refused`], when the scenario cannot work.
    pub fn new(scenario: Scenario, log: Log) -> Result<Self, Refused> {
        let started = Instant::now();
        scenario.check()?;
        let consortium = Consortium::found(&scenario)?;
        let seeds = Seeds::new(scenario.seed);
        let task = Task::new(task::shape(scenario.dimension), seeds);
        let patients = (scenario.lot / scenario.sampling_rate).round() as usize;
        let n = scenario.organizations as usize;
        let trainer = |index| Organization::new(task.clone(), index as u64, patients);
        let answers = Arc::new(LedgerState::new(consortium.coordinator.id.clone(), [0; 32]));
        let clients: Vec<_> = (0..n)
            .filter_map(|index| {
                ClientHost::new(&scenario, &consortium, index, trainer(index), answers.clone())
            })
            .collect();
        let slow = sample(seeds, "stragglers", 0, 0, n, scenario.slow() as usize);
        let factor = |index| if slow.contains(&index) { scenario.straggle } else { 1.0 };
        let d = &scenario.deadlines;
        let attempt = d.wait_s + d.advertise_s + d.share_s + d.input_s + d.vote_s + d.unmask_s + 60;
        let attempts = u64::from(scenario.rounds) * u64::from(scenario.max_attempts) + 1;
        let late = scenario.faults.late.values().filter(|late| **late != Duration::MAX).max();
        let deaths = scenario.faults.coordinator.len() as u64 + 2;
        let away = micros(late.copied().unwrap_or_default()) + deaths * micros(scenario.restart);
        let mut world = Self {
            coordinator: CoordinatorHost::new(&consortium, scenario.faults.coordinator.clone()),
            sessions: BTreeMap::new(),
            lines: (0..n).map(|index| Line::new(&scenario, index)).collect(),
            fetches: vec![0; n],
            factors: (0..n).map(factor).collect(),
            doomed: BTreeSet::new(),
            mishaps: scenario.faults.mishaps.clone(),
            watch: Watch::default(),
            limit: attempts * u64::from(attempt) * 1_000_000 + away,
            seeds,
            consortium,
            now: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            tick: None,
            clients,
            log,
            started,
            ended: false,
            rising: 0,
            scenario,
        };
        world.push(0, Happening::CoordinatorStarts);
        for index in 0..n {
            let late = world.scenario.faults.late.get(&index).copied().unwrap_or_default();
            if late != Duration::MAX {
                world.push(micros(late), Happening::Starts(index));
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
        while !self.is_over() {
            self.step()?;
            if let Some(news) = self.news() {
                progress(&news);
            }
        }
        self.report()
    }

    /// Whether the job is over for everybody who takes part in it.
    pub fn is_over(&self) -> bool {
        let never = |index| self.scenario.faults.late.get(&index) == Some(&Duration::MAX);
        let over = |(index, client): (usize, &ClientHost)| *client.life() == Life::Finished || never(index);
        let finished = self.coordinator.job().is_some_and(|job| job.is_finished());
        finished && self.rising == 0 && self.clients.iter().enumerate().all(over)
    }

    /// Lets the next thing happen.
    ///
    /// # Errors
    ///
    /// As [`World::run`].
    pub fn step(&mut self) -> Result<(), SimulationError> {
        let stuck = SimulationError::Stuck(self.seconds());
        let Some(Reverse(due)) = self.queue.pop() else { return Err(stuck) };
        if due.at > self.limit {
            return Err(stuck);
        }
        self.now = due.at;
        self.happen(due.what)?;
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
        let until = micros(time);
        while self.queue.peek().is_some_and(|Reverse(due)| due.at <= until) {
            self.step()?;
        }
        self.now = self.now.max(until);
        Ok(())
    }

    /// Virtual seconds so far.
    pub fn seconds(&self) -> f64 {
        self.now as f64 / 1e6
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

    /// What was seen.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// The event log.
    pub fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    /// The consortium.
    pub fn consortium(&self) -> &Consortium {
        &self.consortium
    }

    fn push(&mut self, at: Micros, what: Happening) {
        self.rising += usize::from(matches!(what, Happening::Up { .. }));
        self.sequence += 1;
        self.queue.push(Reverse(Due { at, sequence: self.sequence, what }));
    }

    fn happen(&mut self, what: Happening) -> Result<(), SimulationError> {
        match what {
            Happening::CoordinatorStarts => {
                let mut around = Surroundings { now: self.now, log: &mut self.log, watch: &mut self.watch };
                let turn = self.coordinator.start(&mut around);
                let turn = turn.map_err(|error| SimulationError::Start {
                    who: "the coordinator".into(),
                    why: error.to_string(),
                })?;
                self.coordinator_turn(turn);
            }
            Happening::Tick => {
                if self.tick.is_some_and(|at| at <= self.now) {
                    self.tick = None;
                    self.tell_coordinator(ToCoordinator::Tick);
                }
            }
            Happening::Starts(index) => self.starts(index)?,
            Happening::Dies(index) => self.dies(index),
            Happening::Dials(index) => {
                if self.clients.get(index).is_some_and(ClientHost::is_up)
                    && let Some(line) = self.lines.get(index)
                {
                    let at = self.now + line.handshake();
                    self.push(at, Happening::Connects(index));
                }
            }
            Happening::Connects(index) => self.connects(index),
            Happening::Up { from, connection, bytes, after } => {
                self.rising -= 1;
                self.arrives_up(from, connection, &bytes);
                if after {
                    self.breaks(from);
                }
            }
            Happening::Down { to, connection, bytes, after } => {
                self.arrives_down(to, connection, &bytes);
                if after {
                    self.breaks(to);
                }
            }
            Happening::Part { from, connection, part } => self.part(from, connection, part),
            Happening::Asked { from, connection, round } => self.asked(from, connection, round),
            Happening::Release { to, connection, head, sum } => {
                if self.is_connected(to, connection) {
                    self.tell_client(to, ToClient::Release { head, sum });
                }
            }
            Happening::Released { to, connection, start } => self.fetched(to, connection, start),
            Happening::Gone { from, connection } => {
                if self.sessions.get(&from) == Some(&connection) {
                    self.sessions.remove(&from);
                    let from = self.id(from);
                    self.tell_coordinator(ToCoordinator::Gone { from });
                }
            }
            Happening::Lost { to, connection } => {
                if self.is_connected(to, connection) {
                    self.hangs_up(to);
                }
            }
            Happening::Trained { organization, ticket } => {
                let mut around = Surroundings { now: self.now, log: &mut self.log, watch: &mut self.watch };
                let host = self.clients.get_mut(organization);
                if let Some(input) = host.and_then(|host| host.train(ticket, &mut around)) {
                    self.tell_client(organization, input);
                }
            }
            Happening::Evaluated { organization, start, round, adapter } => {
                let same = |host: &&mut ClientHost| host.is_up() && host.starts() == start;
                if let Some(host) = self.clients.get_mut(organization).filter(same) {
                    let input = host.evaluate(round, &adapter);
                    self.tell_client(organization, input);
                }
            }
        }
        let stopped = self.clients.iter().find_map(|client| match client.life() {
            Life::Stopped(why) => Some((client.id().clone(), why.clone())),
            _ => None,
        });
        stopped.map_or(Ok(()), |(who, why)| Err(SimulationError::Stopped { who, why }))
    }

    fn id(&self, index: usize) -> Id {
        crate::consortium::organization(u32::try_from(index).unwrap_or(u32::MAX))
    }

    fn index(&self, id: &Id) -> Option<usize> {
        self.clients.binary_search_by(|client| client.id().cmp(id)).ok()
    }

    /// The client's end of this connection is open.
    fn is_connected(&self, index: usize, connection: u64) -> bool {
        let up = self.clients.get(index).is_some_and(ClientHost::is_up);
        up && self.lines.get(index).and_then(Line::connection) == Some(connection)
    }

    fn starts(&mut self, index: usize) -> Result<(), SimulationError> {
        let mut around = Surroundings { now: self.now, log: &mut self.log, watch: &mut self.watch };
        let Some(host) = self.clients.get_mut(index) else { return Ok(()) };
        let who = host.name().to_owned();
        host.start(&mut around).map_err(|why| SimulationError::Start { who, why })?;
        self.push(self.now, Happening::Dials(index));
        Ok(())
    }

    /// A process dies by itself; what it had sent arrives, and then the end of its stream.
    fn dies(&mut self, index: usize) {
        let mut around = Surroundings { now: self.now, log: &mut self.log, watch: &mut self.watch };
        match self.clients.get_mut(index) {
            Some(host) if host.is_up() => host.die(&mut around),
            _ => return,
        }
        self.after_death(index);
    }

    fn after_death(&mut self, index: usize) {
        self.leaves(index);
        let back = self.now + micros(self.scenario.restart);
        self.push(back, Happening::Starts(index));
    }

    /// The client's process closes its connection, in good order.
    fn leaves(&mut self, index: usize) {
        if let Some(line) = self.lines.get_mut(index)
            && let Some(connection) = line.connection()
        {
            let at = match line.send(true, 0, self.now) {
                Fate::Arrives { at, .. } => at,
                Fate::Breaks | Fate::Nowhere => self.now + line.latency(),
            };
            line.close(self.now);
            self.push(at, Happening::Gone { from: index, connection });
        }
        if let Some(fetches) = self.fetches.get_mut(index) {
            *fetches = 0;
        }
    }

    fn connects(&mut self, index: usize) {
        if !self.clients.get(index).is_some_and(ClientHost::is_up) {
            return;
        }
        let Some(line) = self.lines.get_mut(index) else { return };
        if line.connection().is_some() {
            return;
        }
        if self.coordinator.job().is_none() {
            let wait = line.close(self.now);
            self.push(self.now + wait, Happening::Dials(index));
            return;
        }
        let connection = line.open(self.now);
        self.sessions.insert(index, connection);
        self.tell_client(index, ToClient::Connected);
    }

    /// The connection breaks, and everything under way is lost.
    fn breaks(&mut self, index: usize) {
        let Some(line) = self.lines.get(index) else { return };
        let (Some(connection), latency) = (line.connection(), line.latency()) else { return };
        let who = self.id(index);
        self.log.line(self.now, who.as_str(), "loses its connection", &[]);
        // Nothing more arrives from it: the coordinator forgets the session's connection now, and notices later.
        self.push(self.now + latency, Happening::Gone { from: index, connection: u64::MAX });
        if self.sessions.get(&index) == Some(&connection) {
            self.sessions.insert(index, u64::MAX);
        }
        self.hangs_up(index);
    }

    /// The client's link notices that its session is gone, and dials again after a while.
    fn hangs_up(&mut self, index: usize) {
        let Some(line) = self.lines.get_mut(index) else { return };
        let wait = line.close(self.now);
        let open = self.fetches.get_mut(index).map(std::mem::take).unwrap_or_default();
        let start = self.clients.get(index).map_or(0, ClientHost::starts);
        for _ in 0..open {
            self.push(self.now + 100_000, Happening::Released { to: index, connection: None, start });
        }
        self.tell_client(index, ToClient::Disconnected);
        self.push(self.now + wait, Happening::Dials(index));
    }

    fn coordinator_dies(&mut self) {
        // What it had sent arrives, and then the end of the stream.
        let sessions = std::mem::take(&mut self.sessions);
        for (index, connection) in sessions {
            let Some(line) = self.lines.get_mut(index) else { continue };
            if line.connection() != Some(connection) {
                continue;
            }
            let at = match line.send(false, 0, self.now) {
                Fate::Arrives { at, .. } => at,
                Fate::Breaks | Fate::Nowhere => self.now + line.latency(),
            };
            self.push(at, Happening::Lost { to: index, connection });
        }
        self.tick = None;
        let back = self.now + micros(self.scenario.restart);
        self.push(back, Happening::CoordinatorStarts);
    }

    fn tell_coordinator(&mut self, input: ToCoordinator) {
        let mut around = Surroundings { now: self.now, log: &mut self.log, watch: &mut self.watch };
        let turn = self.coordinator.handle(input, &mut around);
        self.coordinator_turn(turn);
    }

    fn coordinator_turn(&mut self, turn: Turn) {
        self.ended |= turn.ended;
        if turn.opened {
            self.doom();
        }
        for spoken in turn.spoken {
            match spoken {
                Spoken::Say { to, message } => self.send_down(&to, message),
                Spoken::Close { to } => {
                    if let Some(index) = self.index(&to)
                        && let Some(connection) = self.sessions.remove(&index)
                        && let Some(line) = self.lines.get_mut(index)
                        && let Fate::Arrives { at, .. } = line.send(false, 0, self.now)
                    {
                        self.push(at, Happening::Lost { to: index, connection });
                    }
                }
            }
        }
        if turn.died {
            self.coordinator_dies();
        }
        self.wake();
    }

    /// Puts the machine's next wake-up into the queue, unless an earlier one is there.
    fn wake(&mut self) {
        if let Some(at) = self.coordinator.wake(self.now)
            && self.tick.is_none_or(|tick| at < tick)
        {
            self.tick = Some(at);
            self.push(at, Happening::Tick);
        }
    }

    /// Draws who drops out of the attempt that begins.
    fn doom(&mut self) {
        let count = self.scenario.dropouts() as usize;
        if count == 0 {
            return;
        }
        let attempt = self.coordinator.disk().kinds().filter(|(_, _, kind)| *kind == "opened").count();
        self.doomed = sample(self.seeds, "dropouts", attempt as u64, 0, self.clients.len(), count);
    }

    fn tell_client(&mut self, index: usize, input: ToClient) {
        let mut around = Surroundings { now: self.now, log: &mut self.log, watch: &mut self.watch };
        let Some(host) = self.clients.get_mut(index) else { return };
        let (acts, after) = host.handle(input, &mut around);
        for act in acts {
            self.act(index, act);
        }
        match after {
            After::Goes => {}
            After::Died => self.after_death(index),
            After::Over => self.leaves(index),
        }
    }

    fn act(&mut self, index: usize, act: Act) {
        match act {
            Act::Say(say) => self.send_up(index, say),
            Act::Upload { round, attempt, chunks, from } => {
                for (index_of, chunk) in (0..).zip(chunks.iter()).skip(from as usize) {
                    let part = wire::UploadPart { round, attempt, index: index_of, chunk: chunk.clone() };
                    self.watch.uploads(index, &part);
                    let Some(line) = self.lines.get_mut(index) else { return };
                    match line.send(true, part.encoded_len(), self.now) {
                        Fate::Arrives { at, connection } => {
                            self.push(at, Happening::Part { from: index, connection, part });
                        }
                        Fate::Breaks => return self.breaks(index),
                        Fate::Nowhere => return,
                    }
                }
            }
            Act::Fetch { from_round } => {
                // Without a connection the link drops the order.
                let Some(line) = self.lines.get_mut(index) else { return };
                match line.send(true, 8, self.now) {
                    Fate::Arrives { at, connection } => {
                        if let Some(fetches) = self.fetches.get_mut(index) {
                            *fetches += 1;
                        }
                        self.push(at, Happening::Asked { from: index, connection, round: from_round });
                    }
                    Fate::Breaks => self.breaks(index),
                    Fate::Nowhere => {}
                }
            }
            Act::Train { ticket } => {
                let base =
                    micros(self.scenario.training) as f64 * self.factors.get(index).copied().unwrap_or(1.0);
                let spread =
                    self.seeds.rng("training", index as u64, ticket).random_range(SPREAD.0..SPREAD.1);
                let at = self.now + (base * spread) as Micros;
                self.push(at, Happening::Trained { organization: index, ticket });
            }
            Act::Evaluate { round, adapter } => {
                let start = self.clients.get(index).map_or(0, ClientHost::starts);
                let at = self.now + micros(self.scenario.training) / 4;
                self.push(at, Happening::Evaluated { organization: index, start, round, adapter });
            }
        }
    }

    fn accident(&mut self, organization: usize, round: u32, step: u32, up: bool) -> Option<Accident> {
        let fits = |it: &Mishap| {
            it.organization == organization
                && it.round == round
                && u32::from(it.step.number()) == step
                && it.up == up
        };
        let found = self.mishaps.iter().position(fits)?;
        Some(self.mishaps.swap_remove(found).what)
    }

    fn send_up(&mut self, index: usize, say: Say) {
        self.watch.leaves(index, &say);
        let mut accident = None;
        if let Say::Protocol(message) = &say {
            accident = self.accident(index, message.round, message.step, true);
            if message.step == 2 && self.doomed.remove(&index) {
                self.push(self.now + 1000, Happening::Dies(index));
            }
        }
        let bytes = Arc::new(ClientMessage { kind: Some(say) }.encode_to_vec());
        let Some(line) = self.lines.get_mut(index) else { return };
        match line.send(true, bytes.len(), self.now) {
            _ if accident == Some(Accident::Lost) => self.breaks(index),
            Fate::Arrives { at, connection } => {
                let after = accident == Some(Accident::LostAfter);
                if accident == Some(Accident::Twice) {
                    self.push(at, Happening::Up { from: index, connection, bytes: bytes.clone(), after });
                }
                self.push(at, Happening::Up { from: index, connection, bytes, after });
            }
            Fate::Breaks => self.breaks(index),
            Fate::Nowhere => {}
        }
    }

    fn send_down(&mut self, to: &Id, message: Heard) {
        let Some(index) = self.index(to) else { return };
        let Some(&session) = self.sessions.get(&index) else { return };
        let accident = match &message {
            Heard::Protocol(message) => self.accident(index, message.round, message.step, false),
            _ => None,
        };
        let bytes = Arc::new(CoordinatorMessage { kind: Some(message) }.encode_to_vec());
        let Some(line) = self.lines.get_mut(index) else { return };
        if line.connection() != Some(session) {
            return;
        }
        match line.send(false, bytes.len(), self.now) {
            _ if accident == Some(Accident::Lost) => self.breaks(index),
            Fate::Arrives { at, connection } => {
                let after = accident == Some(Accident::LostAfter);
                if accident == Some(Accident::Twice) {
                    self.push(at, Happening::Down { to: index, connection, bytes: bytes.clone(), after });
                }
                self.push(at, Happening::Down { to: index, connection, bytes, after });
            }
            Fate::Breaks => self.breaks(index),
            Fate::Nowhere => {}
        }
    }

    fn arrives_up(&mut self, from: usize, connection: u64, bytes: &[u8]) {
        if self.sessions.get(&from) != Some(&connection) {
            return;
        }
        let Ok(ClientMessage { kind: Some(kind) }) = ClientMessage::decode(bytes) else { return };
        let who = self.id(from);
        self.log.line(self.now, who.as_str(), "to coordinator", bytes);
        let from = who;
        self.tell_coordinator(match kind {
            Say::Hello(hello) => ToCoordinator::Hello { from, hello },
            Say::Protocol(message) => ToCoordinator::Protocol { from, message },
            Say::Refusal(refusal) => ToCoordinator::Refusal { from, refusal },
            Say::Evaluation(evaluation) => ToCoordinator::Evaluation { from, evaluation },
            Say::StateQuery(query) => ToCoordinator::StateQuery { from, query },
            Say::StateStatements(statements) => ToCoordinator::StateStatements { from, statements },
        });
    }

    fn arrives_down(&mut self, to: usize, connection: u64, bytes: &[u8]) {
        if !self.is_connected(to, connection) {
            return;
        }
        let Ok(CoordinatorMessage { kind: Some(kind) }) = CoordinatorMessage::decode(bytes) else { return };
        let who = self.id(to);
        self.log.line(self.now, who.as_str(), "from coordinator", bytes);
        self.tell_client(to, ToClient::Heard(kind));
    }

    fn part(&mut self, from: usize, connection: u64, part: wire::UploadPart) {
        if self.sessions.get(&from) != Some(&connection) {
            return;
        }
        let who = self.id(from);
        self.log.line(self.now, who.as_str(), &format!("uploads chunk {}", part.index), &part.chunk);
        let mut around = Surroundings { now: self.now, log: &mut self.log, watch: &mut self.watch };
        match self.coordinator.chunk(&who, part, &mut around) {
            Ok(turn) => self.coordinator_turn(turn),
            Err(refused) => {
                self.log.line(self.now, who.as_str(), &format!("chunk refused: {}", refused.0), &[])
            }
        }
    }

    fn asked(&mut self, from: usize, connection: u64, round: u32) {
        if self.sessions.get(&from) != Some(&connection) {
            return;
        }
        let start = self.clients.get(from).map_or(0, ClientHost::starts);
        for (head, sum) in self.coordinator.releases_from(round) {
            let Some(line) = self.lines.get_mut(from) else { return };
            match line.send(false, head.encoded_len() + sum.len(), self.now) {
                Fate::Arrives { at, connection } => {
                    self.push(at, Happening::Release { to: from, connection, head, sum });
                }
                Fate::Breaks => return self.breaks(from),
                Fate::Nowhere => return,
            }
        }
        let Some(line) = self.lines.get_mut(from) else { return };
        match line.send(false, 1, self.now) {
            Fate::Arrives { at, connection } => {
                self.push(at, Happening::Released { to: from, connection: Some(connection), start });
            }
            Fate::Breaks => self.breaks(from),
            Fate::Nowhere => {}
        }
    }

    /// The end of a request for releases, in good order or because its connection broke.
    fn fetched(&mut self, to: usize, connection: Option<u64>, start: u64) {
        match connection {
            Some(connection) if !self.is_connected(to, connection) => return,
            Some(_) => {
                if let Some(fetches) = self.fetches.get_mut(to) {
                    *fetches = fetches.saturating_sub(1);
                }
            }
            None => {}
        }
        if self.clients.get(to).is_some_and(|host| host.starts() == start) {
            self.tell_client(to, ToClient::ReleasesEnded);
        }
    }

    /// What an attempt that has ended since the last call came to.
    fn news(&mut self) -> Option<Progress> {
        let job = self.coordinator.job().filter(|_| self.ended)?;
        self.ended = false;
        let last = job.rounds().rounds.pop()?;
        Some(Progress::new(&last, self.scenario.rounds, self.seconds(), self.started.elapsed().as_secs_f64()))
    }

    fn report(&mut self) -> Result<Report, SimulationError> {
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

/// `count` of `n`, without repetition.
fn sample(
    seeds: Seeds,
    purpose: &'static str,
    first: u64,
    second: u64,
    n: usize,
    count: usize,
) -> BTreeSet<usize> {
    index::sample(&mut seeds.rng(purpose, first, second), n, count.min(n)).into_iter().collect()
}
