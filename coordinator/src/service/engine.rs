//! The thread that owns the job: machine and store, persist, then speak.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use consilium_proto::{
    identity::Identity,
    ids::Id,
    plan::{Guarantees, VerifiedPlan},
    roster::VerifiedRoster,
    wire::{
        ActReply, ActRequest, CoordinatorMessage, Evidence, JobStatus, LogEntry, RoundsReply,
        SignedReleaseHead,
    },
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tonic::Status;

#[cfg(feature = "test-hooks")]
use super::hook::durable;
use super::{ServiceError, Traffic, gate::Gate, health::Machine, observe::traces::Traces, recent::Recent};
use crate::{
    disk::Disk,
    round::{
        ActRefused, Aggregation, Effect, Event, HashedPart, Input, Job, Publication, Recovered, RecoveryError,
    },
    store::{EventRecord, NewEvent, ReleaseRow, Store, StoreError},
};

/// Requests handled before their effects are made durable together.
const BATCH: usize = 256;

/// How many times as long as it worked the accountant rests, and how long at most.
const ACCOUNTANT_RESTS: u32 = 19;
const ACCOUNTANT_RESTS_AT_MOST: Duration = Duration::from_secs(10);

/// Where test builds may die.
#[cfg(not(feature = "test-hooks"))]
fn durable<T>(_: &[NewEvent], write: impl FnOnce() -> T) -> T {
    write()
}

/// Something for a session. Boxed, because a queue has room for 32 of them from its first on.
pub(super) type Told = Box<Result<CoordinatorMessage, Status>>;

/// What a session says to the engine.
pub(super) enum Said {
    Attached { from: Id, session: u64, out: mpsc::Sender<Told>, alive: oneshot::Sender<()> },
    Input { session: u64, input: Input },
    Detached { from: Id, session: u64 },
}

/// A published round, without its sum.
pub(super) struct Published {
    pub(super) round: u32,
    pub(super) head: SignedReleaseHead,
    pub(super) sum_bytes: u64,
}

/// What came of a chunk: a code, if it is to be counted as refused, and what the client is told.
type Taken = Result<(), (Option<&'static str>, Status)>;

/// A place among the uploads that are read at full speed; it goes where the chunk goes, so that chunks in memory are
/// counted wherever they are.
type Turn = Option<OwnedSemaphorePermit>;

enum Request {
    Said(Said, oneshot::Sender<()>),
    Chunk {
        from: Id,
        part: HashedPart,
        turn: Turn,
        done: oneshot::Sender<(Turn, Taken)>,
    },
    ReleaseFrom {
        round: u32,
        reply: oneshot::Sender<Option<Published>>,
    },
    SumPart {
        round: u32,
        offset: u64,
        bytes: usize,
        reply: oneshot::Sender<Result<Vec<u8>, Status>>,
    },
    GaveAll {
        from: Id,
        done: oneshot::Sender<()>,
    },
    Returned {
        from: Id,
        head: SignedReleaseHead,
        sum: Vec<u8>,
        reply: oneshot::Sender<Result<(), &'static str>>,
    },
    Status(oneshot::Sender<JobStatus>),
    Rounds(oneshot::Sender<RoundsReply>),
    Evidence {
        index: usize,
        reply: oneshot::Sender<Option<Evidence>>,
    },
    Log {
        from: u64,
        reply: oneshot::Sender<Vec<LogEntry>>,
    },
    Act {
        caller: Id,
        request: ActRequest,
        reply: oneshot::Sender<Result<ActReply, ActRefused>>,
    },
    Cost {
        attempts: u64,
        cost: Guarantees,
    },
    /// The accountant has rested.
    AccountAgain,
    Stop,
}

/// The way to the engine, for any number of tasks.
#[derive(Clone)]
pub(super) struct Handle {
    requests: Sender<Request>,
    sessions: Arc<AtomicU64>,
    changes: watch::Receiver<u64>,
}

fn stopped<E>(_: E) -> Status {
    Status::unavailable("the coordinator is stopping")
}

impl Handle {
    pub(super) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Says something and waits until it is durable: one request in flight per session bounds memory.
    pub(super) async fn say(&self, said: Said) -> Result<(), Status> {
        let (done, wait) = oneshot::channel();
        self.requests.send(Request::Said(said, done)).map_err(stopped)?;
        wait.await.map_err(stopped)
    }

    /// Hands a chunk over, and with it the upload's turn, which comes back.
    pub(super) async fn chunk(&self, from: Id, part: HashedPart, turn: Turn) -> (Turn, Taken) {
        let (done, wait) = oneshot::channel();
        let stopped = || (None, Err((None, stopped(()))));
        if self.requests.send(Request::Chunk { from, part, turn, done }).is_err() {
            return stopped();
        }
        wait.await.unwrap_or_else(|_| stopped())
    }

    /// The first published round from `round` on.
    pub(super) async fn release_from(&self, round: u32) -> Result<Option<Published>, Status> {
        let (reply, wait) = oneshot::channel();
        self.requests.send(Request::ReleaseFrom { round, reply }).map_err(stopped)?;
        wait.await.map_err(stopped)
    }

    /// At most `bytes` bytes of a published sum.
    pub(super) async fn sum_part(&self, round: u32, offset: u64, bytes: usize) -> Result<Vec<u8>, Status> {
        let (reply, wait) = oneshot::channel();
        self.requests.send(Request::SumPart { round, offset, bytes, reply }).map_err(stopped)?;
        wait.await.map_err(stopped)?
    }

    /// Says that a member has given back what it had.
    pub(super) async fn gave_all(&self, from: Id) -> Result<(), Status> {
        let (done, wait) = oneshot::channel();
        self.requests.send(Request::GaveAll { from, done }).map_err(stopped)?;
        wait.await.map_err(stopped)
    }

    /// Hands over a release that came back from a member, and waits until it is durable.
    pub(super) async fn returned(
        &self,
        from: Id,
        head: SignedReleaseHead,
        sum: Vec<u8>,
    ) -> Result<Result<(), &'static str>, Status> {
        let (reply, wait) = oneshot::channel();
        self.requests.send(Request::Returned { from, head, sum, reply }).map_err(stopped)?;
        wait.await.map_err(stopped)
    }

    pub(super) async fn status(&self) -> Result<JobStatus, Status> {
        let (reply, wait) = oneshot::channel();
        self.requests.send(Request::Status(reply)).map_err(stopped)?;
        wait.await.map_err(stopped)
    }

    /// One piece of evidence, counted from 0; none past the last.
    pub(super) async fn evidence(&self, index: usize) -> Result<Option<Evidence>, Status> {
        let (reply, wait) = oneshot::channel();
        self.requests.send(Request::Evidence { index, reply }).map_err(stopped)?;
        wait.await.map_err(stopped)
    }

    /// A portion of the record's end, from a sequence on.
    pub(super) async fn log(&self, from: u64) -> Result<Vec<LogEntry>, Status> {
        let (reply, wait) = oneshot::channel();
        self.requests.send(Request::Log { from, reply }).map_err(stopped)?;
        wait.await.map_err(stopped)
    }

    /// Has an operator's instruction carried out, or judged; answered once it is durable.
    pub(super) async fn act(&self, caller: Id, request: ActRequest) -> Result<ActReply, Status> {
        let (reply, wait) = oneshot::channel();
        self.requests.send(Request::Act { caller, request, reply }).map_err(stopped)?;
        wait.await.map_err(stopped)?.map_err(|refused| Status::failed_precondition(refused.0))
    }

    pub(super) async fn rounds(&self) -> Result<RoundsReply, Status> {
        let (reply, wait) = oneshot::channel();
        self.requests.send(Request::Rounds(reply)).map_err(stopped)?;
        wait.await.map_err(stopped)
    }
}

/// What the engine looks at, and others fill.
pub(super) struct Shared {
    pub(super) traffic: Arc<Traffic>,
    pub(super) gate: Arc<Gate>,
    pub(super) machine: Arc<Machine>,
    /// The first attempt begins when an operator says so.
    pub(super) wait_for_start: bool,
    /// File for spans.
    pub(super) traces: Option<PathBuf>,
}

/// The running thread.
pub(super) struct Engine {
    requests: Sender<Request>,
    thread: JoinHandle<()>,
}

impl Engine {
    /// Rebuilds the job from the store and starts the thread. The last value is filled if it fails.
    pub(super) fn start(
        identity: Arc<Identity>,
        roster: Arc<VerifiedRoster>,
        plan: Arc<VerifiedPlan>,
        store: impl Store + 'static,
        disk: Disk,
        shared: Shared,
    ) -> Result<(Self, Handle, oneshot::Receiver<String>), ServiceError> {
        let coordinator = identity.id.clone();
        let mut job = Job::new(identity, roster, plan.clone(), now_ms())?;
        if shared.wait_for_start {
            job.wait_for_start();
        }
        let mut recent = Recent::default();
        let events = recover_and(&mut job, &store, &mut recent)?;
        tracing::info!(events, "state recovered");
        let coordinator = coordinator.as_str();
        let traces = shared.traces.as_deref();
        let traces = traces.map(|path| Traces::new(path, &plan, coordinator, job.rounds().rounds.len()));
        let (requests, inbox) = channel();
        let (changed, changes) = watch::channel(0);
        let (failed, stopped) = oneshot::channel();
        let sessions = BTreeMap::new();
        let mut core = Core {
            job,
            store,
            sessions,
            shared,
            recent,
            traces,
            changed,
            plan,
            requests: requests.clone(),
            accounting: false,
            disk,
            room: true,
        };
        let thread = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || {
                if let Err(error) = core.run(&inbox) {
                    tracing::error!(%error, "engine stopped");
                    let _ = failed.send(error.to_string());
                }
            })
            .map_err(|e| ServiceError::Engine(e.to_string()))?;
        let handle = Handle { requests: requests.clone(), sessions: Arc::default(), changes };
        Ok((Self { requests, thread }, handle, stopped))
    }

    /// Finishes what was accepted, then ends every session with the reason, and the thread.
    pub(super) fn stop(&self) {
        drop(self.requests.send(Request::Stop));
    }

    /// Waits for the thread's end.
    pub(super) fn join(self) {
        self.stop();
        drop(self.thread.join());
    }
}

/// Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Rebuilds a job from a store's events; how many there are.
pub(crate) fn recover(job: &mut Job, store: &impl Store) -> Result<u64, ServiceError> {
    recover_and(job, store, &mut Recent::default())
}

fn recover_and(job: &mut Job, store: &impl Store, recent: &mut Recent) -> Result<u64, ServiceError> {
    let mut events = 0;
    let mut failed: Option<RecoveryError> = None;
    let broken = |record: &EventRecord, why: String| RecoveryError {
        round: record.round,
        attempt: record.attempt,
        why,
    };
    store.replay(&mut |record| {
        events += 1;
        if failed.is_some() {
            return Ok(());
        }
        let event = match Event::decode(&record.kind, &record.body) {
            Ok(event) => event,
            Err(error) => {
                failed = Some(broken(&record, error.to_string()));
                return Ok(());
            }
        };
        recent.note(record.round, record.attempt, record.at_ms, &event);
        let recovered =
            Recovered { round: record.round, attempt: record.attempt, event, at_ms: record.at_ms };
        let mut release = |round| {
            let row = store.release(round).ok().flatten()?;
            Some((SignedReleaseHead { head: row.head, signature: row.signature }, row.sum))
        };
        if let Err(error) = job.replay(recovered, &mut release) {
            failed = Some(error);
        }
        Ok(())
    })?;
    failed.map_or(Ok(events), |error| Err(error.into()))
}

fn published(store: &impl Store, from: u32) -> Result<Option<Published>, StoreError> {
    let Some(round) = store.releases_from(from)?.first().copied() else { return Ok(None) };
    Ok(store.release_head(round)?.map(|row| {
        let head = SignedReleaseHead { head: row.head, signature: row.signature };
        Published { round: row.round, head, sum_bytes: row.sum_bytes }
    }))
}

struct Session {
    number: u64,
    out: mpsc::Sender<Told>,
    _alive: oneshot::Sender<()>,
}

struct Core<S> {
    job: Job,
    store: S,
    sessions: BTreeMap<Id, Session>,
    shared: Shared,
    recent: Recent,
    traces: Option<Traces>,
    changed: watch::Sender<u64>,
    plan: Arc<VerifiedPlan>,
    requests: Sender<Request>,
    /// A cost is being computed.
    accounting: bool,
    disk: Disk,
    /// Whether the disk had room for another attempt when it was last looked at.
    room: bool,
}

/// What is answered once a batch is durable.
enum Reply {
    Returned(oneshot::Sender<Result<(), &'static str>>, Result<(), &'static str>),
    Done(oneshot::Sender<()>),
    Chunk(oneshot::Sender<(Turn, Taken)>, (Turn, Taken)),
    Act(oneshot::Sender<Result<ActReply, ActRefused>>, Result<ActReply, ActRefused>),
}

impl<S: Store> Core<S> {
    fn run(&mut self, inbox: &Receiver<Request>) -> Result<(), StoreError> {
        let effects = self.job.resume(now_ms());
        self.execute(effects)?;
        loop {
            let now = now_ms();
            let most = if self.room { 60_000 } else { 1_000 };
            let wake = self.job.next_wake_ms(now).map_or(most, |at| at.saturating_sub(now).min(most));
            let first = match inbox.recv_timeout(Duration::from_millis(wake.max(1))) {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let (mut effects, mut replies) = (Vec::new(), Vec::new());
            self.look_at_disk();
            if first.is_none() {
                effects = self.job.handle(Input::Tick, now_ms());
            }
            let mut stop = false;
            for request in first.into_iter().chain(inbox.try_iter().take(BATCH)) {
                stop = matches!(request, Request::Stop);
                if stop {
                    break;
                }
                self.request(request, &mut effects, &mut replies);
            }
            let moved = !effects.is_empty();
            self.execute(effects)?;
            for reply in replies {
                match reply {
                    Reply::Done(done) => drop(done.send(())),
                    Reply::Returned(done, taken) => drop(done.send(taken)),
                    Reply::Chunk(done, taken) => drop(done.send(taken)),
                    Reply::Act(done, acted) => drop(done.send(acted)),
                }
            }
            if stop {
                self.farewell();
                return Ok(());
            }
            self.account();
            if moved && let Some(traces) = &mut self.traces {
                let round = self.job.status(now_ms()).round;
                traces.write(&self.job.rounds().rounds, round, self.job.is_finished());
            }
            if moved {
                self.changed.send_modify(|count| *count += 1);
            }
        }
    }

    fn look_at_disk(&mut self) {
        let room = self.disk.room(self.job.has_begun());
        if room.is_enough() != self.room {
            self.room = room.is_enough();
            let (free, needed) = (room.free.unwrap_or(0), room.needed);
            if self.room {
                tracing::info!(free, needed, "the disk has room again");
            } else {
                tracing::warn!(
                    free,
                    needed,
                    "no attempt begins: the disk has no room for it above the reserve"
                );
            }
        }
        self.job.set_room(self.room);
    }

    fn request(&mut self, request: Request, effects: &mut Vec<Effect>, replies: &mut Vec<Reply>) {
        let now = now_ms();
        match request {
            Request::Said(said, done) => {
                match said {
                    Said::Attached { from, session, out, alive } => {
                        // A second session of one member ends the first: the newer one is the live one.
                        self.sessions.insert(from, Session { number: session, out, _alive: alive });
                    }
                    Said::Input { session, input } => {
                        if self.is_current(&input, session) {
                            effects.extend(self.job.handle(input, now));
                        }
                    }
                    Said::Detached { from, session } => {
                        if self.sessions.get(&from).is_none_or(|current| current.number == session) {
                            self.sessions.remove(&from);
                            effects.extend(self.job.handle(Input::Gone { from }, now));
                        }
                    }
                }
                replies.push(Reply::Done(done));
            }
            Request::Chunk { from, part, turn, done } => {
                let taken = match self.job.handle_chunk(&from, part, now) {
                    Ok(more) => {
                        effects.extend(more);
                        Ok(())
                    }
                    Err(refused) => Err((Some(refused.0), Status::failed_precondition(refused.0))),
                };
                replies.push(Reply::Chunk(done, (turn, taken)));
            }
            Request::ReleaseFrom { round, reply } => {
                let release = published(&self.store, round).unwrap_or_else(|error| {
                    tracing::error!(%error, round, "a published round cannot be read");
                    None
                });
                drop(reply.send(release));
            }
            Request::SumPart { round, offset, bytes, reply } => {
                let mut part = Vec::new();
                let read = self.store.read_sum(round, offset, bytes, &mut part);
                drop(reply.send(read.map(|()| part).map_err(|error| {
                    tracing::error!(%error, round, "a published sum cannot be read");
                    Status::data_loss("the sum cannot be read")
                })));
            }
            Request::GaveAll { from, done } => {
                effects.extend(self.job.gave_all(&from, now));
                replies.push(Reply::Done(done));
            }
            Request::Returned { from, head, sum, reply } => {
                let taken = self.job.returned(&from, head, sum, now);
                replies.push(Reply::Returned(reply, taken.map(|more| effects.extend(more))));
            }
            Request::Status(reply) => {
                let _ = reply.send(self.status(now));
            }
            Request::Log { from, reply } => drop(reply.send(self.recent.from(from))),
            Request::Act { caller, request, reply } => {
                let signed = request.action.unwrap_or_default();
                let acted = self.job.act(&signed, &caller, request.dry_run, now).map(|acted| {
                    effects.extend(acted.effects);
                    ActReply { number: acted.number, effect: acted.effect }
                });
                replies.push(Reply::Act(reply, acted));
            }
            Request::Rounds(reply) => drop(reply.send(self.job.rounds())),
            Request::Evidence { index, reply } => {
                let _ = reply.send(self.job.evidence().get(index).map(|evidence| evidence.to_wire()));
            }
            Request::Cost { attempts, cost } => {
                self.job.note_cost(attempts, cost);
            }
            Request::AccountAgain => self.accounting = false,
            Request::Stop => {}
        }
    }

    /// What the job says, and what only the driver knows.
    fn status(&self, now_ms: u64) -> JobStatus {
        let mut status = self.job.status(now_ms);
        (status.bytes_in, status.bytes_out) = self.shared.traffic.read();
        for member in &mut status.members {
            (member.bytes_in, member.bytes_out) = self.shared.gate.bytes_of(&member.id);
        }
        status.health = Some(self.shared.machine.health(now_ms));
        status.problems = self.shared.gate.refusals.problems();
        status
    }

    /// Ends every session with a reason that clients can tell from a lost line.
    fn farewell(&mut self) {
        tracing::info!(sessions = self.sessions.len(), "drained: what was accepted is durable, sessions end");
        for session in std::mem::take(&mut self.sessions).into_values() {
            drop(session.out.try_send(Box::new(Err(stopped(())))));
        }
    }

    /// Computes what the attempts so far cost, on a thread of its own: nobody waits for it. It rests after each computation,
    /// so that rounds that follow one another in a moment do not share their processors with it.
    fn account(&mut self) {
        let Some(attempts) = self.job.unknown_cost().filter(|_| !self.accounting) else { return };
        self.accounting = true;
        let (plan, requests) = (self.plan.clone(), self.requests.clone());
        let named = std::thread::Builder::new().name("accountant".into());
        let started = named.spawn(move || {
            let (began, delta) = (Instant::now(), plan.document().privacy.delta);
            // A loss that cannot be bounded is shown as what it is.
            let endless = Guarantees { central: f64::INFINITY, local: f64::INFINITY, delta };
            let cost = plan.derived().guarantees(attempts, delta).unwrap_or(endless);
            drop(requests.send(Request::Cost { attempts, cost }));
            std::thread::sleep(
                began.elapsed().saturating_mul(ACCOUNTANT_RESTS).min(ACCOUNTANT_RESTS_AT_MOST),
            );
            drop(requests.send(Request::AccountAgain));
        });
        // Without a thread there is nothing to show, and the next turn tries again.
        self.accounting = started.is_ok();
    }

    fn is_current(&self, input: &Input, session: u64) -> bool {
        let from = match input {
            Input::Hello { from, .. }
            | Input::Protocol { from, .. }
            | Input::Refusal { from, .. }
            | Input::Evaluation { from, .. }
            | Input::StateQuery { from, .. }
            | Input::StateStatements { from, .. } => from,
            _ => return false,
        };
        self.sessions.get(from).is_some_and(|current| current.number == session)
    }

    /// Executes effects: all that must be durable first, in one commit, then what is said, then what comes back as
    /// further input.
    fn execute(&mut self, effects: Vec<Effect>) -> Result<(), StoreError> {
        let mut todo = effects;
        while !todo.is_empty() {
            let (mut records, mut sends, mut later) = (Vec::new(), Vec::new(), Vec::new());
            for effect in todo {
                match effect {
                    Effect::Record { round, attempt, event } => {
                        if let Event::Failed { code, culprits, .. } = &event {
                            tracing::warn!(round, attempt, code, ?culprits, "attempt failed");
                        }
                        if let Event::Blamed { culprit, check, .. } = &event {
                            tracing::warn!(round, attempt, %culprit, check, "member convicted");
                        }
                        records.push(self.new_event(round, attempt, &event));
                    }
                    Effect::PutChunk { round, attempt, from, index, bytes } => {
                        self.store.put_chunk(round, attempt, &from, index, &bytes)?;
                    }
                    Effect::SyncInput { round, attempt, from } => {
                        self.store.sync_input(round, attempt, &from)?
                    }
                    Effect::Publish(publication) => {
                        let Publication { round, attempt, event, .. } = publication.as_ref();
                        records.push(self.new_event(*round, *attempt, event));
                        let row = ReleaseRow {
                            round: publication.round,
                            head: publication.head.head,
                            signature: publication.head.signature,
                            sum: publication.sum,
                        };
                        let records = std::mem::take(&mut records);
                        durable(&records, || self.store.put_release(&records, &row))?;
                        tracing::info!(round = publication.round, attempt = publication.attempt, "released");
                    }
                    Effect::Refused { from, code } => {
                        self.shared.gate.refusals.note(code, Some(&from), "a message of the protocol");
                    }
                    Effect::Send { .. } | Effect::Close { .. } => sends.push(effect),
                    Effect::AskUpload { .. } | Effect::Aggregate(_) | Effect::DropInputs { .. } => {
                        later.push(effect)
                    }
                }
            }
            if !records.is_empty() {
                durable(&records, || self.store.append(&records))?;
            }
            for effect in sends {
                self.speak(effect);
            }
            todo = Vec::new();
            for effect in later {
                todo.extend(self.come_back(effect)?);
            }
        }
        Ok(())
    }

    fn new_event(&mut self, round: u32, attempt: u32, event: &Event) -> NewEvent {
        let at_ms = now_ms();
        self.recent.note(round, attempt, at_ms, event);
        NewEvent { round, attempt, kind: event.kind().to_owned(), body: event.encode(), at_ms }
    }

    fn speak(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, message } => {
                let Some(session) = self.sessions.get(&to) else { return };
                let message = CoordinatorMessage { kind: Some(message) };
                if session.out.try_send(Box::new(Ok(message))).is_err() {
                    // It does not read: close, so that it comes back and is told where the round stands.
                    self.sessions.remove(&to);
                }
            }
            Effect::Close { to } => drop(self.sessions.remove(&to)),
            _ => {}
        }
    }

    fn come_back(&mut self, effect: Effect) -> Result<Vec<Effect>, StoreError> {
        Ok(match effect {
            Effect::AskUpload { from, round, attempt } => {
                let chunks = self.store.chunks_held(round, attempt, &from)?;
                self.job.handle(Input::Held { from, round, attempt, chunks }, now_ms())
            }
            Effect::Aggregate(aggregation) => {
                let (round, attempt) = (aggregation.round, aggregation.attempt);
                crate::memory::give_back();
                let sum = self.aggregate(&aggregation);
                self.job.handle(Input::Summed { round, attempt, sum }, now_ms())
            }
            Effect::DropInputs { round, attempt } => {
                self.store.drop_attempt_inputs(round, attempt)?;
                Vec::new()
            }
            _ => Vec::new(),
        })
    }

    /// The exact ring sum, packed, by all processors there are.
    fn aggregate(&self, work: &Aggregation) -> Result<Vec<u8>, String> {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        work.sum(threads, |id, index, out| {
            self.store.read_chunk(work.round, work.attempt, id, index, out).map_err(|e| e.to_string())
        })
    }
}
