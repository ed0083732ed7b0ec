//! The plain sum that secrecy is measured against: a coordinator that is shown every vector.
//!
//! It takes the same calls over the same TLS and HTTP/2 settings, hashes each chunk, keeps it in the same store in the same
//! way (one acknowledgement after each, one sync a member, one commit a batch), applies the sum to the adapter, and signs
//! and publishes it. What it leaves out is what secrecy costs: adverts, deals, headers, votes, answers, masks. It is part of
//! the bench and of nothing else: no release binary holds it.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
};

use consilium_coordinator::{
    config::{Config, Loaded},
    round::Event,
    store::{InputLayout, NewEvent, ReleaseRow, SqliteStore, Store as _, StoredJob},
};
use consilium_crypto::{digest::Digest, ring};
use consilium_proto::{
    MAX_MESSAGE_BYTES,
    ids::Id,
    pinning,
    release::{apply_sum, initial_state, sign_head},
    roster::Caller,
    wire::{
        ChallengeReply, ChallengeRequest, ClientMessage, CoordinatorMessage, ReleaseHead, ReleasePart,
        Released, ReleasesRequest, RestoreReceipt, UploadPart, UploadReceipt, UploadWanted, Welcome,
        aggregation_server::{Aggregation, AggregationServer},
        coordinator_message::Kind,
    },
};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::mpsc, sync::oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, service::Routes};
use tower::Service as _;

use crate::Result;

/// The argument that makes the bench's program this server.
pub const WORD: &str = "plain-server";

type Out = mpsc::Sender<Result<CoordinatorMessage, Status>>;

enum Asked {
    Came { from: Id, out: Out },
    Chunk { from: Id, index: u32, bytes: Vec<u8>, digest: Digest, done: oneshot::Sender<()> },
    Stop,
}

/// Serves until SIGTERM.
pub fn serve(config: &Path) -> Result<()> {
    tracing_subscriber::fmt().json().flatten_event(true).with_writer(std::io::stderr).init();
    let loaded = Config::load(config)?;
    let job = StoredJob { plan: loaded.plan.digest(), input: InputLayout::of_plan(loaded.plan.derived()) };
    let store = SqliteStore::open(&loaded.state, &job)?;
    let tls = TlsAcceptor::from(Arc::new(pinning::server_config(&loaded.identity, loaded.roster.clone())?));
    let (listen, roster, limits) = (loaded.listen, loaded.roster.clone(), loaded.limits);
    let (ask, inbox) = channel();
    let engine = std::thread::spawn(move || run(&loaded, store, job.input, &inbox).unwrap());
    let service = AggregationServer::new(Plain(ask.clone())).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let routes = Routes::new(service).prepare();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async move {
        let listener = TcpListener::bind(listen).await?;
        tracing::info!(address = %listener.local_addr()?, "listening");
        let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        loop {
            let (tcp, _) = tokio::select! {
                tcp = listener.accept() => tcp?,
                _ = end.recv() => return Ok::<_, std::io::Error>(()),
            };
            let (tls, roster, routes) = (tls.clone(), roster.clone(), routes.clone());
            tokio::spawn(async move {
                tcp.set_nodelay(true)?;
                let stream = tls.accept(tcp).await?;
                let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
                let key = consilium_proto::identity::key_digest(&certificate).unwrap();
                let caller = roster.caller(&key, jiff::civil::date(2026, 1, 1)).unwrap();
                let calls =
                    hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
                        request.extensions_mut().insert(caller.clone());
                        let answer = routes.clone().call(request);
                        async move { Ok::<_, Infallible>(answer.await.unwrap()) }
                    });
                let served = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .initial_stream_window_size(limits.window_bytes)
                    .initial_connection_window_size(2 * limits.window_bytes)
                    .serve_connection(TokioIo::new(stream), calls);
                drop(served.await);
                Ok::<_, std::io::Error>(())
            });
        }
    })?;
    drop(ask.send(Asked::Stop));
    drop(engine.join());
    Ok(())
}

/// The thread that owns the store: persist, then speak, in batches, as the product does.
fn run(loaded: &Loaded, mut store: SqliteStore, layout: InputLayout, inbox: &Receiver<Asked>) -> Result<()> {
    let (plan, cohort) = (&loaded.plan, loaded.plan.cohort().to_vec());
    let mut state = initial_state(plan)?;
    let mut sessions: BTreeMap<Id, Out> = BTreeMap::new();
    let (mut round, mut stored) = (1, 0);
    loop {
        let Ok(first) = inbox.recv() else { return Ok(()) };
        let (mut events, mut replies) = (Vec::new(), Vec::new());
        for asked in std::iter::once(first).chain(inbox.try_iter().take(256)) {
            match asked {
                Asked::Stop => return Ok(()),
                Asked::Came { from, out } => {
                    say(&out, Kind::Welcome(Welcome::default()));
                    sessions.insert(from, out);
                    if sessions.len() == cohort.len() {
                        sessions.values().for_each(|out| want(out, round));
                    }
                }
                Asked::Chunk { from, index, bytes, digest, done } => {
                    // Where the product compares with the header.
                    std::hint::black_box(digest);
                    store.put_chunk(round, 1, &from, index, &bytes)?;
                    if index + 1 == layout.chunks() {
                        store.sync_input(round, 1, &from)?;
                        let bytes = layout.total_bytes() as u64;
                        events.push(event(round, &Event::Stored { from, bytes }));
                        stored += 1;
                    }
                    replies.push(done);
                }
            }
        }
        store.append(&events)?;
        for done in replies {
            // The caller may have gone.
            let _ = done.send(());
        }
        if stored < cohort.len() {
            continue;
        }
        store.append(&[event(round, &Event::Closed { step: 3 })])?;
        let before = state.adapter_digest();
        let sum = sum(plan.derived().ring, plan.derived().vector_len, layout, &cohort, |id, index, out| {
            store.read_chunk(round, 1, id, index, out)
        })?;
        apply_sum(plan, &mut state, &sum, cohort.len())?;
        let head = ReleaseHead {
            plan_digest: plan.digest().0.to_vec(),
            round,
            attempt: 1,
            survivors: cohort.iter().map(Id::to_string).collect(),
            sum_digest: Digest::of(&sum).0.to_vec(),
            sum_bytes: sum.len() as u64,
            adapter_before: before.0.to_vec(),
            adapter_after: state.adapter_digest().0.to_vec(),
            optimizer_after: state.optimizer_digest().0.to_vec(),
            evidence: Vec::new(),
        };
        let signed = sign_head(&head, &loaded.roster, loaded.identity.signing_key());
        let row = ReleaseRow { round, head: signed.head, signature: signed.signature, sum };
        store.put_release(
            &[event(round, &Event::Released { survivors: cohort.clone(), logged: None })],
            &row,
        )?;
        sessions.values().for_each(|out| say(out, Kind::Released(Released { round })));
        store.drop_attempt_inputs(round, 1)?;
        (round, stored) = (round + 1, 0);
        if round <= plan.document().rounds {
            sessions.values().for_each(|out| want(out, round));
        }
    }
}

fn sum<E: std::error::Error + 'static>(
    width: ring::RingWidth,
    length: usize,
    layout: InputLayout,
    cohort: &[Id],
    mut read: impl FnMut(&Id, u32, &mut Vec<u8>) -> Result<(), E>,
) -> Result<Vec<u8>> {
    let (mut sum, mut packed) = (Vec::with_capacity(layout.total_bytes()), Vec::new());
    for index in 0..layout.chunks() {
        let first = index as usize * consilium_crypto::secagg::CHUNK_ELEMENTS;
        let mut values = vec![0; consilium_crypto::secagg::CHUNK_ELEMENTS.min(length - first)];
        for id in cohort {
            read(id, index, &mut packed)?;
            ring::unpack_add(width, &packed, &mut values).map_err(|error| error.to_string())?;
        }
        values.iter_mut().for_each(|value| *value &= width.mask());
        ring::pack(width, &values, &mut sum);
    }
    Ok(sum)
}

fn event(round: u32, event: &Event) -> NewEvent {
    NewEvent { round, attempt: 1, kind: event.kind().to_owned(), body: event.encode(), at_ms: 0 }
}

fn say(out: &Out, kind: Kind) {
    drop(out.try_send(Ok(CoordinatorMessage { kind: Some(kind) })));
}

fn want(out: &Out, round: u32) {
    say(out, Kind::UploadWanted(UploadWanted { round, attempt: 1, next_chunk: 0 }));
}

struct Plain(Sender<Asked>);

impl Plain {
    fn from<T>(request: &Request<T>) -> Id {
        match request.extensions().get::<Caller>() {
            Some(caller) => caller.id().clone(),
            None => unreachable!("every connection has one"),
        }
    }
}

type Stream_<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Aggregation for Plain {
    type SessionStream = Stream_<CoordinatorMessage>;
    type ReleasesStream = Stream_<ReleasePart>;

    async fn challenge(&self, _: Request<ChallengeRequest>) -> Result<Response<ChallengeReply>, Status> {
        Err(Status::unimplemented("callers are known by their keys"))
    }

    async fn session(
        &self,
        request: Request<Streaming<ClientMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let from = Self::from(&request);
        let (out, messages) = mpsc::channel(256);
        let mut incoming = request.into_inner();
        tokio::spawn(async move { while let Ok(Some(_)) = incoming.message().await {} });
        drop(self.0.send(Asked::Came { from, out }));
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    async fn upload(
        &self,
        request: Request<Streaming<UploadPart>>,
    ) -> Result<Response<UploadReceipt>, Status> {
        let from = Self::from(&request);
        let mut parts = request.into_inner();
        let mut chunks = 0;
        while let Some(part) = parts.message().await? {
            chunks = part.index + 1;
            let (done, wait) = oneshot::channel();
            let digest = Digest::of(&part.chunk);
            let (index, bytes) = (part.index, part.chunk);
            drop(self.0.send(Asked::Chunk { from: from.clone(), index, bytes, digest, done }));
            wait.await.map_err(|_| Status::unavailable("stopping"))?;
        }
        Ok(Response::new(UploadReceipt { chunks }))
    }

    async fn restore(&self, _: Request<Streaming<ReleasePart>>) -> Result<Response<RestoreReceipt>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn releases(&self, _: Request<ReleasesRequest>) -> Result<Response<Self::ReleasesStream>, Status> {
        Err(Status::unimplemented("sums are read from the store"))
    }
}
