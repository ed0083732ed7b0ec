//! The way to the engine: what is asked of it, and how any number of tasks ask.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
    mpsc::Sender,
};

use consilium_proto::{
    ids::Id,
    plan::Guarantees,
    wire::{
        ActReply, ActRequest, CoordinatorMessage, Evidence, JobStatus, LogEntry, RoundsReply,
        SignedReleaseHead,
    },
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tonic::Status;

use crate::round::{ActRefused, HashedPart, Input};

/// Something for a session. Boxed, because a queue has room for 32 of them from its first on.
pub(in crate::service) type Told = Box<Result<CoordinatorMessage, Status>>;

/// What a session says to the engine.
pub(in crate::service) enum Said {
    Attached { from: Id, session: u64, out: mpsc::Sender<Told>, alive: oneshot::Sender<()> },
    Input { session: u64, input: Input },
    Detached { from: Id, session: u64 },
}

/// A published round, without its sum.
pub(in crate::service) struct Published {
    pub(in crate::service) round: u32,
    pub(in crate::service) head: SignedReleaseHead,
    pub(in crate::service) sum_bytes: u64,
}

/// What came of a chunk: a code, if it is to be counted as refused, and what the client is told.
pub(super) type Taken = Result<(), (Option<&'static str>, Status)>;

/// A place among the uploads that are read at full speed; it goes where the chunk goes, so that chunks in memory are
/// counted wherever they are.
pub(super) type Turn = Option<OwnedSemaphorePermit>;

pub(super) enum Request {
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
pub(in crate::service) struct Handle {
    pub(super) requests: Sender<Request>,
    pub(super) sessions: Arc<AtomicU64>,
    pub(super) changes: watch::Receiver<u64>,
}

pub(super) fn stopped<E>(_: E) -> Status {
    Status::unavailable("the coordinator is stopping")
}

impl Handle {
    pub(in crate::service) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    pub(in crate::service) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Says something and waits until it is durable: one request in flight per session bounds memory.
    pub(in crate::service) async fn say(&self, said: Said) -> Result<(), Status> {
        let (done, wait) = oneshot::channel();
        self.requests.send(Request::Said(said, done)).map_err(stopped)?;
        wait.await.map_err(stopped)
    }

    /// Hands a chunk over, and with it the upload's turn, which comes back.
    pub(in crate::service) async fn chunk(&self, from: Id, part: HashedPart, turn: Turn) -> (Turn, Taken) {
        let (done, wait) = oneshot::channel();
        let stopped = || (None, Err((None, stopped(()))));
        if self.requests.send(Request::Chunk { from, part, turn, done }).is_err() {
            return stopped();
        }
        wait.await.unwrap_or_else(|_| stopped())
    }

    /// The first published round from `round` on.
    pub(in crate::service) async fn release_from(&self, round: u32) -> Result<Option<Published>, Status> {
        let (reply, wait) = oneshot::channel();
        self.requests.send(Request::ReleaseFrom { round, reply }).map_err(stopped)?;
        wait.await.map_err(stopped)
    }

    /// At most `bytes` bytes of a published sum.
    pub(in crate::service) async fn sum_part(
        &self,
        round: u32,
        offset: u64,
        bytes: usize,
    ) -> Result<Vec<u8>, Status> {
        let (reply, wait) = oneshot::channel();
        self.requests.send(Request::SumPart { round, offset, bytes, reply }).map_err(stopped)?;
        wait.await.map_err(stopped)?
    }

    /// Says that a member has given back what it had.
    pub(in crate::service) async fn gave_all(&self, from: Id) -> Result<(), Status> {
        let (done, wait) = oneshot::channel();
        self.requests.send(Request::GaveAll { from, done }).map_err(stopped)?;
        wait.await.map_err(stopped)
    }

    /// Hands over a release that came back from a member, and waits until it is durable.
    pub(in crate::service) async fn returned(
        &self,
        from: Id,
        head: SignedReleaseHead,
        sum: Vec<u8>,
    ) -> Result<Result<(), &'static str>, Status> {
        let (reply, wait) = oneshot::channel();
        self.requests.send(Request::Returned { from, head, sum, reply }).map_err(stopped)?;
        wait.await.map_err(stopped)
    }

    pub(in crate::service) async fn status(&self) -> Result<JobStatus, Status> {
        let (reply, wait) = oneshot::channel();
        self.requests.send(Request::Status(reply)).map_err(stopped)?;
        wait.await.map_err(stopped)
    }

    /// One piece of evidence, counted from 0; none past the last.
    pub(in crate::service) async fn evidence(&self, index: usize) -> Result<Option<Evidence>, Status> {
        let (reply, wait) = oneshot::channel();
        self.requests.send(Request::Evidence { index, reply }).map_err(stopped)?;
        wait.await.map_err(stopped)
    }

    /// A portion of the record's end, from a sequence on.
    pub(in crate::service) async fn log(&self, from: u64) -> Result<Vec<LogEntry>, Status> {
        let (reply, wait) = oneshot::channel();
        self.requests.send(Request::Log { from, reply }).map_err(stopped)?;
        wait.await.map_err(stopped)
    }

    /// Has an operator's instruction carried out, or judged; answered once it is durable.
    pub(in crate::service) async fn act(&self, caller: Id, request: ActRequest) -> Result<ActReply, Status> {
        let (reply, wait) = oneshot::channel();
        self.requests.send(Request::Act { caller, request, reply }).map_err(stopped)?;
        wait.await.map_err(stopped)?.map_err(|refused| Status::failed_precondition(refused.0))
    }

    pub(in crate::service) async fn rounds(&self) -> Result<RoundsReply, Status> {
        let (reply, wait) = oneshot::channel();
        self.requests.send(Request::Rounds(reply)).map_err(stopped)?;
        wait.await.map_err(stopped)
    }
}
