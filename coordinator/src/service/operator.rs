//! The operators' side of the service: questions only.

use std::{pin::Pin, sync::Arc, time::Duration};

use consilium_proto::{
    roster::Caller,
    wire::{
        Evidence, EvidenceRequest, JobStatus, RoundsReply, RoundsRequest, StatusRequest,
        operator_server::Operator,
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

impl Service {
    /// The call that an operator begins.
    fn begin<T>(&self, request: &Request<T>) -> Result<Call, Status> {
        match request.extensions().get::<Peer>() {
            Some(Peer { caller: Caller::Operator(_), account }) => account.call(),
            other => {
                let id = other.map(|peer| &peer.account.id);
                self.gate.refusals.note(code::NOT_ALLOWED, id, "not an operator");
                Err(Status::permission_denied("only the roster's operators may call this"))
            }
        }
    }
}

#[tonic::async_trait]
impl Operator for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<JobStatus, Status>> + Send>>;

    type EvidenceStream = Pin<Box<dyn Stream<Item = Result<Evidence, Status>> + Send>>;

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<JobStatus>, Status> {
        let _call = self.begin(&request)?;
        Ok(Response::new(self.engine.status().await?))
    }

    async fn rounds(&self, request: Request<RoundsRequest>) -> Result<Response<RoundsReply>, Status> {
        let _call = self.begin(&request)?;
        Ok(Response::new(self.engine.rounds().await?))
    }

    async fn evidence(
        &self,
        request: Request<EvidenceRequest>,
    ) -> Result<Response<Self::EvidenceStream>, Status> {
        let call = self.begin(&request)?;
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
        let call = self.begin(&request)?;
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
}
