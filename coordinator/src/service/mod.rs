//! The coordinator as a process: sockets, TLS, gRPC, one thread that owns the job.
//!
//! ```text
//! TCP → TLS pinned by the roster → gRPC ─ requests → engine thread: machine + store ─ messages → streams
//! ```
//!
//! The engine is the only place where the round machine and the store meet: it makes records durable, then
//! speaks. Everything else here carries bytes to it and back, one request in flight per session, so that a flood of one
//! member's messages waits in that member's own connection.

mod aggregation;
mod engine;
mod listener;
mod operator;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use consilium_proto::{
    MAX_MESSAGE_BYTES,
    identity::Identity,
    pinning,
    plan::VerifiedPlan,
    roster::VerifiedRoster,
    wire::{aggregation_server::AggregationServer, operator_server::OperatorServer},
};
use thiserror::Error;
use tokio::net::TcpListener;
use tonic::transport::Server;

use crate::{
    round::RecoveryError,
    store::{InputLayout, SqliteStore, StoreError, StoredJob},
};
use engine::Engine;
pub use listener::Traffic;

/// How often a silent connection is asked whether it is still there, and how long it may take to say so.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// What a coordinator needs to serve one job.
pub struct Service {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// The coordinator's own keys.
    pub identity: Arc<Identity>,
    /// Who belongs.
    pub roster: Arc<VerifiedRoster>,
    /// What is done.
    pub plan: Arc<VerifiedPlan>,
}

/// Why the coordinator stopped.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; stop what uses the port, or change `listen`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The identity does not make a TLS server.
    #[error("the identity's TLS key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store's records do not fit.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The server failed.
    #[error("the server stopped: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The engine stopped first; its own error was logged.
    #[error("the engine stopped: {0}")]
    Engine(String),
}

impl Service {
    /// Serves until `shutdown` completes or something fails. State lives in `folder`; a restart goes on in the same step
    /// of the same round.
    ///
    /// # Errors
    ///
    /// [`ServiceError`].
    pub async fn run(
        self,
        folder: &Path,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServiceError> {
        let Self { listen, identity, roster, plan } = self;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| ServiceError::Listen { address: listen, source })?;
        let tls = Arc::new(pinning::server_config(&identity, roster.clone())?);
        let traffic = Arc::new(Traffic::default());
        let job = StoredJob { plan: plan.digest(), input: InputLayout::of_plan(plan.derived()) };
        let store = SqliteStore::open(folder, &job)?;
        let (engine, handle, stopped) =
            Engine::start(identity, roster.clone(), plan, store, traffic.clone())?;
        let address = listener.local_addr().unwrap_or(listen);
        tracing::info!(%address, "listening");
        let incoming = listener::incoming(listener, tls, roster, traffic);
        let aggregation = AggregationServer::new(aggregation::Service::new(handle.clone()))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let operator = OperatorServer::new(operator::Service::new(handle));
        let mut failed = None;
        let ended = async {
            tokio::select! {
                () = shutdown => {}
                why = stopped => failed = Some(why.unwrap_or_else(|_| "it panicked".into())),
            }
        };
        Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .tcp_nodelay(true)
            .add_service(aggregation)
            .add_service(operator)
            .serve_with_incoming_shutdown(incoming, engine.closing(ended))
            .await?;
        engine.join();
        failed.map_or(Ok(()), |why| Err(ServiceError::Engine(why)))
    }
}
