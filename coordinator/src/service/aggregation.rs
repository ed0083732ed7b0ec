//! The clients' side of the service.

use std::{pin::Pin, sync::Arc};

use consilium_proto::{
    challenge::Challenge,
    ids::Id,
    roster::Caller,
    wire::{
        ChallengeReply, ChallengeRequest, ClientMessage, CoordinatorMessage, ReleasePart, ReleasesRequest,
        RestoreReceipt, UploadPart, UploadReceipt, aggregation_server::Aggregation, client_message::Kind,
        release_part,
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{
    engine::{Handle, Said, Told},
    gate::{Account, Call, Gate, Peer},
    refusals::code,
    restore::Restore,
    sizes::Sizes,
    upload::Upload,
};
use crate::{limits::seconds, round::Input};

/// Messages queued for one member before its session counts as stuck and is closed.
const QUEUE: usize = 256;
/// Most bytes of a sum in one message. Small, because each reader has a few of them in memory.
const SUM_PART: usize = 64 << 10;

pub(super) struct Service {
    pub(super) engine: Handle,
    pub(super) gate: Arc<Gate>,
    pub(super) sizes: Sizes,
}

/// The organization that the connection's TLS key proves, and the call it begins.
fn begin<T>(gate: &Gate, request: &Request<T>) -> Result<(Arc<Account>, Call), Status> {
    match request.extensions().get::<Peer>() {
        Some(Peer { caller: Caller::Organization(_), account }) => Ok((account.clone(), account.call()?)),
        Some(Peer { account, .. }) => {
            gate.refusals.note(code::NOT_ALLOWED, Some(&account.id), "not a member organization");
            Err(Status::permission_denied("only member organizations may call this"))
        }
        None => Err(Status::permission_denied("only member organizations may call this")),
    }
}

/// The code for a message that could not be read; none if the stream was merely cut.
pub(super) fn unreadable(status: &Status) -> Option<&'static str> {
    match status.code() {
        tonic::Code::OutOfRange => Some(code::TOO_LARGE),
        tonic::Code::Internal | tonic::Code::InvalidArgument => Some(code::NOT_DECODABLE),
        _ => None,
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
        let (account, call) = begin(&self.gate, &request)?;
        let (out, messages) = mpsc::channel(QUEUE);
        let session = Session {
            engine: self.engine.clone(),
            gate: self.gate.clone(),
            sizes: self.sizes,
            account,
            incoming: request.into_inner(),
        };
        tokio::spawn(async move {
            let _call = call;
            if let Err((code, why)) = session.run(out.clone()).await {
                // The reader may be gone or stuck; the code stands in the log either way.
                let told = Status::invalid_argument(format!("{code}: {why}"));
                drop(out.try_send(Box::new(Err(told))));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages).map(|told| *told))))
    }

    async fn upload(
        &self,
        request: Request<Streaming<UploadPart>>,
    ) -> Result<Response<UploadReceipt>, Status> {
        let (account, _call) = begin(&self.gate, &request)?;
        let id = account.id.clone();
        let upload = Upload {
            engine: self.engine.clone(),
            gate: self.gate.clone(),
            sizes: self.sizes,
            account,
            parts: request.into_inner(),
        };
        match upload.run().await {
            Ok(chunks) => Ok(Response::new(UploadReceipt { chunks })),
            Err((code, status)) => {
                if let Some(code) = code {
                    self.gate.refusals.note(code, Some(&id), status.message());
                }
                Err(status)
            }
        }
    }

    async fn restore(
        &self,
        request: Request<Streaming<ReleasePart>>,
    ) -> Result<Response<RestoreReceipt>, Status> {
        let (account, _call) = begin(&self.gate, &request)?;
        let restore = Restore {
            engine: self.engine.clone(),
            gate: self.gate.clone(),
            sum_bytes: self.sizes.input_bytes(),
            id: account.id.clone(),
            parts: request.into_inner(),
        };
        Ok(Response::new(RestoreReceipt { taken: restore.run().await? }))
    }

    async fn challenge(
        &self,
        request: Request<ChallengeRequest>,
    ) -> Result<Response<ChallengeReply>, Status> {
        match request.extensions().get::<Challenge>() {
            Some(Challenge(challenge)) => Ok(Response::new(ChallengeReply { challenge: challenge.to_vec() })),
            None => Err(Status::failed_precondition(
                "this port knows its callers by their TLS keys; set transport = \"pinned\", or dial the inspected port",
            )),
        }
    }

    async fn releases(
        &self,
        request: Request<ReleasesRequest>,
    ) -> Result<Response<Self::ReleasesStream>, Status> {
        let (account, call) = begin(&self.gate, &request)?;
        let from_round = request.into_inner().from_round;
        let (engine, gate) = (self.engine.clone(), self.gate.clone());
        let (out, parts) = mpsc::channel(1);
        tokio::spawn(async move {
            let _call = call;
            send_releases(&engine, &gate, &account.id, from_round.max(1), &out).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(parts))))
    }
}

/// Sends published rounds, part by part: memory stays that of a few parts, however long the client was away and however
/// many read at once. Ends when all are sent or the reader is gone.
async fn send_releases(
    engine: &Handle,
    gate: &Gate,
    id: &Id,
    from_round: u32,
    out: &mpsc::Sender<Result<ReleasePart, Status>>,
) {
    let send = async |kind| {
        let sent = timeout(seconds(gate.limits.stall_s), out.send(Ok(ReleasePart { kind: Some(kind) })));
        match sent.await {
            Ok(sent) => sent.is_ok(),
            Err(_) => {
                gate.refusals.note(code::READER_STALLED, Some(id), "it does not read what it asked for");
                false
            }
        }
    };
    let mut next = from_round;
    while let Ok(Some(release)) = engine.release_from(next).await {
        next = release.round.saturating_add(1);
        if !send(release_part::Kind::Head(release.head)).await {
            return;
        }
        let mut offset = 0;
        while offset < release.sum_bytes {
            let part = match engine.sum_part(release.round, offset, SUM_PART).await {
                Ok(part) if !part.is_empty() => part,
                Ok(_) => return,
                Err(status) => return drop(out.send(Err(status)).await),
            };
            offset += part.len() as u64;
            if !send(release_part::Kind::Sum(part)).await {
                return;
            }
        }
    }
}

/// One member's session, between its opening and its end.
struct Session {
    engine: Handle,
    gate: Arc<Gate>,
    sizes: Sizes,
    account: Arc<Account>,
    incoming: Streaming<ClientMessage>,
}

/// A code and what it means here.
type Refused = (&'static str, String);

impl Session {
    async fn run(mut self, out: mpsc::Sender<Told>) -> Result<(), Refused> {
        let from = self.account.id.clone();
        let session = self.engine.next_session();
        // Dropped by the engine when it ends this session: superseded, refused, stuck, or the process stops.
        let (alive, ended) = oneshot::channel();
        if self.engine.say(Said::Attached { from: from.clone(), session, out, alive }).await.is_err() {
            return Ok(());
        }
        let result = tokio::select! {
            result = self.listen(session) => result,
            _ = ended => Ok(()),
        };
        if let Err((code, why)) = &result {
            self.gate.refusals.note(code, Some(&from), why);
        }
        drop(self.engine.say(Said::Detached { from, session }).await);
        result
    }

    /// Passes messages on, one at a time, until the stream ends.
    async fn listen(&mut self, session: u64) -> Result<(), Refused> {
        let mut greeted = false;
        loop {
            let message = if greeted {
                self.incoming.message().await
            } else {
                let late = |_| (code::HELLO_LATE, "a session's first message must come in time".to_owned());
                timeout(seconds(self.gate.limits.hello_s), self.incoming.message()).await.map_err(late)?
            };
            let kind = match message {
                Ok(Some(ClientMessage { kind: Some(kind) })) => kind,
                Ok(Some(ClientMessage { kind: None })) => {
                    return Err((code::NOT_DECODABLE, "a message of no known kind".into()));
                }
                Ok(None) => return Ok(()),
                Err(status) => match unreadable(&status) {
                    Some(code) => return Err((code, status.message().to_owned())),
                    None => return Ok(()),
                },
            };
            self.sizes.check(&kind).map_err(|why| (code::TOO_LARGE, why))?;
            sleep(self.account.message_delay()).await;
            let from = self.account.id.clone();
            let input = match (kind, greeted) {
                (Kind::Hello(hello), false) => Input::Hello { from, hello },
                (Kind::Protocol(message), true) => Input::Protocol { from, message },
                (Kind::Refusal(refusal), true) => Input::Refusal { from, refusal },
                (Kind::StateQuery(query), true) => Input::StateQuery { from, query },
                (Kind::StateStatements(statements), true) => Input::StateStatements { from, statements },
                (Kind::Evaluation(evaluation), true) => Input::Evaluation { from, evaluation },
                (_, true) => return Err((code::OUT_OF_PLACE, "a second greeting".into())),
                (_, false) => {
                    return Err((code::OUT_OF_PLACE, "the first message must be the greeting".into()));
                }
            };
            greeted = true;
            if self.engine.say(Said::Input { session, input }).await.is_err() {
                return Ok(());
            }
        }
    }
}
