//! The thread that owns the job: machine and store, persist, then speak.
//!
//! Tasks hand it requests (`queue`); it takes a batch of them to the machine (`requests`), makes what follows durable and
//! only then says it (`effects`).

mod accountant;
mod effects;
mod queue;
mod recovery;
mod requests;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use consilium_proto::{identity::Identity, ids::Id, plan::VerifiedPlan, roster::VerifiedRoster};
use tokio::sync::{mpsc, oneshot, watch};

use super::{ServiceError, Traffic, gate::Gate, health::Machine, observe::traces::Traces, recent::Recent};
use crate::{
    disk::Disk,
    round::{Input, Job},
    store::{Store, StoreError},
};
pub(super) use queue::{Handle, Said, Told};
use queue::{Request, stopped};
pub(crate) use recovery::recover;
use recovery::recover_and;
use requests::Reply;

/// Requests handled before their effects are made durable together.
const BATCH: usize = 256;

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

    /// Ends every session with a reason that clients can tell from a lost line.
    fn farewell(&mut self) {
        tracing::info!(sessions = self.sessions.len(), "drained: what was accepted is durable, sessions end");
        for session in std::mem::take(&mut self.sessions).into_values() {
            drop(session.out.try_send(Box::new(Err(stopped(())))));
        }
    }
}
