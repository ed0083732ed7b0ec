//! The clients' side of the service.

use std::pin::Pin;

use consilium_proto::{
    ids::Id,
    roster::Caller,
    wire::{
        ClientMessage, CoordinatorMessage, ReleasePart, ReleasesRequest, UploadPart, UploadReceipt,
        aggregation_server::Aggregation, client_message::Kind, release_part,
    },
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::engine::{Handle, Said};
use crate::round::Input;

/// Messages queued for one member before its session counts as stuck and is closed.
const QUEUE: usize = 256;
/// Most bytes of a sum in one message.
const SUM_PART: usize = 1 << 20;

pub(super) struct Service {
    engine: Handle,
}

impl Service {
    pub(super) fn new(engine: Handle) -> Self {
        Self { engine }
    }
}

/// The organization that the connection's TLS key proves.
fn organization<T>(request: &Request<T>) -> Result<Id, Status> {
    match request.extensions().get::<Caller>() {
        Some(Caller::Organization(id)) => Ok(id.clone()),
        _ => Err(Status::permission_denied("only member organizations may call this")),
    }
}

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Aggregation for Service {
    type SessionStream = Out<CoordinatorMessage>;
    type ReleasesStream = Out<ReleasePart>;

    async fn session(
        &self,
        request: Request<Streaming<ClientMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let from = organization(&request)?;
        let mut incoming = request.into_inner();
        let (out, messages) = mpsc::channel(QUEUE);
        let engine = self.engine.clone();
        tokio::spawn(async move {
            let session = engine.next_session();
            // Dropped by the engine when it ends this session: superseded, refused, stuck, or the process stops.
            let (alive, mut ended) = oneshot::channel();
            if engine.say(Said::Attached { from: from.clone(), session, out, alive }).await.is_err() {
                return;
            }
            let mut greeted = false;
            loop {
                let message = tokio::select! {
                    message = incoming.message() => message,
                    _ = &mut ended => break,
                };
                let Ok(Some(ClientMessage { kind: Some(kind) })) = message else { break };
                let from = from.clone();
                let input = match (kind, greeted) {
                    (Kind::Hello(hello), false) => Input::Hello { from, hello },
                    (Kind::Protocol(message), true) => Input::Protocol { from, message },
                    (Kind::Refusal(refusal), true) => Input::Refusal { from, refusal },
                    (Kind::StateQuery(query), true) => Input::StateQuery { from, query },
                    (Kind::StateStatements(statements), true) => Input::StateStatements { from, statements },
                    (Kind::Evaluation(evaluation), true) => Input::Evaluation { from, evaluation },
                    _ => break,
                };
                greeted = true;
                if engine.say(Said::Input { session, input }).await.is_err() {
                    break;
                }
            }
            drop(engine.say(Said::Detached { from, session }).await);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    async fn upload(
        &self,
        request: Request<Streaming<UploadPart>>,
    ) -> Result<Response<UploadReceipt>, Status> {
        let from = organization(&request)?;
        let mut parts = request.into_inner();
        let mut chunks = 0;
        while let Some(part) = parts.message().await? {
            chunks = part.index.saturating_add(1);
            self.engine.chunk(from.clone(), part).await?;
        }
        Ok(Response::new(UploadReceipt { chunks }))
    }

    async fn releases(
        &self,
        request: Request<ReleasesRequest>,
    ) -> Result<Response<Self::ReleasesStream>, Status> {
        organization(&request)?;
        let from_round = request.into_inner().from_round;
        let engine = self.engine.clone();
        let (out, parts) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut next = from_round.max(1);
            // One release at a time: memory stays that of one sum, however long the client was away.
            while let Ok(Some(release)) = engine.release_from(next).await {
                next = release.round.saturating_add(1);
                let head = release_part::Kind::Head(release.head);
                let sums = release.sum.chunks(SUM_PART).map(|part| release_part::Kind::Sum(part.to_vec()));
                for kind in std::iter::once(head).chain(sums) {
                    if out.send(Ok(ReleasePart { kind: Some(kind) })).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(parts))))
    }
}
