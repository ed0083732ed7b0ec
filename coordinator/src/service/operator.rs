//! The operators' side of the service: questions for operators and viewers, instructions from operators alone.
//!
//! Whoever is not named in [`may`] for a call is refused it: a new call is nobody's until somebody says whose it is.

use std::{pin::Pin, sync::Arc, time::Duration};

use consilium_proto::{
    roster::Caller,
    wire::{
        ActReply, ActRequest, Evidence, EvidenceRequest, JobStatus, LogEntry, LogRequest, RoundsReply,
        RoundsRequest, StatusRequest, operator_server::Operator,
    },
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{
    engine::Handle,
    gate::{Call, Gate, Peer},
    refusals::code,
};

/// Least time between two updates of a watcher.
const PACE: Duration = Duration::from_millis(250);

pub(super) struct Service {
    pub(super) engine: Handle,
    pub(super) gate: Arc<Gate>,
}

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// To look at the job.
    Look,
    /// To act on it.
    Act,
}

/// Whether a party may make a call of this service.
pub(super) fn may(caller: &Caller, asks: Asks) -> bool {
    match (caller, asks) {
        (Caller::Operator(_), Asks::Look | Asks::Act) | (Caller::Viewer(_), Asks::Look) => true,
        (Caller::Viewer(_), Asks::Act) | (Caller::Organization(_), _) => false,
    }
}

impl Service {
    /// The call that somebody begins.
    fn begin<T>(&self, request: &Request<T>, asks: Asks) -> Result<(Caller, Call), Status> {
        match request.extensions().get::<Peer>() {
            Some(Peer { caller, account }) if may(caller, asks) => Ok((caller.clone(), account.call()?)),
            other => {
                let id = other.map(|peer| &peer.account.id);
                let who = if asks == Asks::Act { "operators" } else { "operators and viewers" };
                self.gate.refusals.note(code::NOT_ALLOWED, id, "its role may not make this call");
                Err(Status::permission_denied(format!("only the roster's {who} may call this")))
            }
        }
    }
}

#[tonic::async_trait]
impl Operator for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<JobStatus, Status>> + Send>>;

    type EvidenceStream = Pin<Box<dyn Stream<Item = Result<Evidence, Status>> + Send>>;

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<JobStatus>, Status> {
        let _call = self.begin(&request, Asks::Look)?;
        Ok(Response::new(self.engine.status().await?))
    }

    async fn rounds(&self, request: Request<RoundsRequest>) -> Result<Response<RoundsReply>, Status> {
        let _call = self.begin(&request, Asks::Look)?;
        Ok(Response::new(self.engine.rounds().await?))
    }

    async fn evidence(
        &self,
        request: Request<EvidenceRequest>,
    ) -> Result<Response<Self::EvidenceStream>, Status> {
        let (_, call) = self.begin(&request, Asks::Look)?;
        let engine = self.engine.clone();
        let (out, pieces) = mpsc::channel(1);
        tokio::spawn(async move {
            let _call = call;
            let mut index = 0;
            while let Ok(Some(evidence)) = engine.evidence(index).await {
                index += 1;
                if out.send(Ok(evidence)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(pieces))))
    }

    async fn watch(&self, request: Request<StatusRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (_, call) = self.begin(&request, Asks::Look)?;
        let engine = self.engine.clone();
        let (out, updates) = mpsc::channel(1);
        tokio::spawn(async move {
            let _call = call;
            let mut changes = engine.changes();
            loop {
                let Ok(status) = engine.status().await else { return };
                if out.send(Ok(status)).await.is_err() {
                    return;
                }
                tokio::time::sleep(PACE).await;
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    // The clock in the status moves even when nothing else does.
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = out.closed() => return,
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(updates))))
    }

    type LogStream = Pin<Box<dyn Stream<Item = Result<LogEntry, Status>> + Send>>;

    async fn log(&self, request: Request<LogRequest>) -> Result<Response<Self::LogStream>, Status> {
        let (_, call) = self.begin(&request, Asks::Look)?;
        let LogRequest { from, follow } = request.into_inner();
        let engine = self.engine.clone();
        let (out, entries) = mpsc::channel(16);
        tokio::spawn(async move {
            let _call = call;
            let (mut changes, mut next) = (engine.changes(), from.max(1));
            loop {
                let Ok(portion) = engine.log(next).await else { return };
                let done = portion.is_empty();
                for entry in portion {
                    next = entry.sequence + 1;
                    if out.send(Ok(entry)).await.is_err() {
                        return;
                    }
                }
                if done && !follow {
                    return;
                }
                if done {
                    tokio::select! {
                        changed = changes.changed() => if changed.is_err() { return },
                        () = out.closed() => return,
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(entries))))
    }

    async fn act(&self, request: Request<ActRequest>) -> Result<Response<ActReply>, Status> {
        let (caller, _call) = self.begin(&request, Asks::Act)?;
        let request = request.into_inner();
        let dry_run = request.dry_run;
        let acted = self.engine.act(caller.id().clone(), request).await;
        match &acted {
            Ok(reply) if !dry_run => {
                tracing::warn!(operator = %caller.id(), number = reply.number, effect = reply.effect, "operator acted");
            }
            Ok(_) => {}
            Err(status) => {
                self.gate.refusals.note(code::ACTION_REFUSED, Some(caller.id()), status.message());
            }
        }
        Ok(Response::new(acted?))
    }
}
