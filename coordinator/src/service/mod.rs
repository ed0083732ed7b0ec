//! The coordinator as a process: sockets, TLS, gRPC, one thread that owns the job.
//!
//! ```text
//! TCP → TLS pinned by the roster → gRPC ─ requests → engine thread: machine + store ─ messages → streams
//!  gate: how many strangers, connections and calls, how fast, how long                (refused by name)
//! ```
//!
//! The engine is the only place where the round machine and the store meet: it makes records durable, then
//! speaks. Everything else here carries bytes to it and back, one request in flight per session, so that a flood of one
//! member's messages waits in that member's own connection.

mod aggregation;
mod asked;
mod connection;
mod engine;
mod gate;
mod health;
#[cfg(feature = "test-hooks")]
mod hook;
mod listener;
mod observe;
mod operator;
mod parties;
mod recent;
mod refusals;
mod restore;
mod sizes;
mod upload;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use consilium_proto::{
    MAX_MESSAGE_BYTES,
    identity::Identity,
    pinning,
    plan::VerifiedPlan,
    roster::VerifiedRoster,
    wire::{aggregation_server::AggregationServer, operator_server::OperatorServer},
};
use thiserror::Error;
use tokio::{net::TcpListener, time::timeout};
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;

use crate::{
    config::Observe,
    disk::{self, Disk},
    limits::{Limits, seconds},
    prune::prune,
    round::RecoveryError,
    store::{InputLayout, SqliteStore, StoreError, StoredJob},
};
use asked::Rules;
pub use connection::Traffic;
use engine::{Engine, Shared};
pub(crate) use engine::{now_ms, recover};
use gate::{Gate, stopping};
use health::Machine;
pub(crate) use health::days_left;
use listener::{By, Door};
use sizes::Sizes;

/// The address for members whose own network opens TLS: what is spoken there is TLS with a certificate that their box accepts.
pub struct Inspected {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Certificate and key.
    pub tls: Arc<rustls::ServerConfig>,
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServiceError> {
    TcpListener::bind(address).await.map_err(|source| ServiceError::Listen { address, source })
}

/// What a coordinator needs to serve one job.
pub struct Service {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// The second address, for members whose own network opens TLS.
    pub inspected: Option<Inspected>,
    /// The coordinator's own keys.
    pub identity: Arc<Identity>,
    /// Who belongs.
    pub roster: Arc<VerifiedRoster>,
    /// What is done.
    pub plan: Arc<VerifiedPlan>,
    /// What anybody may use.
    pub limits: Limits,
    /// How much of the disk is kept free.
    pub disk: disk::Settings,
    /// The first attempt begins when an operator says so.
    pub wait_for_start: bool,
    /// What other machines may watch.
    pub observe: Observe,
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
    /// The engine stopped first; its own error was logged.
    #[error("the engine stopped: {0}")]
    Engine(String),
}

/// How often what may be forgotten is looked for.
const FORGET: Duration = Duration::from_secs(600);

/// Removes masked inputs whose time is over, for as long as the process runs.
async fn forget(folder: PathBuf, plan: Arc<VerifiedPlan>) {
    let mut ticks = tokio::time::interval(FORGET);
    loop {
        ticks.tick().await;
        let (folder, plan) = (folder.clone(), plan.clone());
        let pruned = tokio::task::spawn_blocking(move || prune(&folder, &plan, now_ms())).await;
        match pruned {
            Ok(Ok(gone)) if gone.is_empty() => {}
            Ok(Ok(gone)) => tracing::info!(attempts = gone.len(), "masked inputs past their time removed"),
            Ok(Err(error)) => tracing::warn!(%error, "masked inputs past their time could not be removed"),
            Err(_) => return,
        }
    }
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
        let Self { listen, inspected, identity, roster, plan, limits, disk, wait_for_start, observe } = self;
        let disk = Disk::new(folder, disk, &plan);
        let open_files = limits.raise_open_files();
        let listener = bind(listen).await?;
        let second = match inspected {
            Some(Inspected { listen, tls }) => Some((bind(listen).await?, TlsAcceptor::from(tls))),
            None => None,
        };
        let tls = TlsAcceptor::from(Arc::new(pinning::server_config(&identity, roster.clone())?));
        let (traffic, gate) = (Arc::<Traffic>::default(), Gate::new(limits));
        let job = StoredJob { plan: plan.digest(), input: InputLayout::of_plan(plan.derived()) };
        let store = SqliteStore::open(folder, &job)?;
        let sizes = Sizes::new(plan.derived().parameters);
        let machine = Machine::new(folder, job, roster.clone());
        let looking = tokio::spawn(
            machine.clone().look_on(seconds(observe.look_s.max(1)), seconds(observe.walk_s.max(1))),
        );
        let shared = Shared {
            traffic: traffic.clone(),
            gate: gate.clone(),
            machine,
            wait_for_start,
            traces: observe.traces,
        };
        let (engine, handle, stopped) =
            Engine::start(identity, roster.clone(), plan.clone(), store, disk, shared)?;
        let rules = Rules { roster: roster.clone(), plan: plan.digest() };
        tokio::spawn(forget(folder.to_owned(), plan));
        let address = listener.local_addr().unwrap_or(listen);
        tracing::info!(%address, open_files, "listening");
        let aggregation = aggregation::Service { engine: handle.clone(), gate: gate.clone(), sizes };
        let aggregation = AggregationServer::new(aggregation)
            .max_decoding_message_size(sizes.most())
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let metrics = match observe.metrics {
            Some(address) => {
                let listener = bind(address).await?;
                tracing::info!(address = %listener.local_addr().unwrap_or(address), "metrics");
                Some(tokio::spawn(observe::http::serve(listener, handle.clone())))
            }
            None => None,
        };
        let operator = operator::Service { engine: handle, gate: gate.clone() };
        let (health, reflection) = parties::services(&gate).await;
        let routes = Routes::new(aggregation)
            .add_service(OperatorServer::new(operator))
            .add_service(health)
            .add_service(reflection)
            .prepare();
        let door = Door { tls, by: By::Key(roster), gate: gate.clone(), routes, traffic };
        let second = second.map(|(listener, tls)| {
            let address = listener.local_addr().ok().map(tracing::field::display);
            tracing::warn!(address, "open for members whose own network opens TLS");
            let door = Door { tls, by: By::Challenge(rules), ..door.clone() };
            let mut draining = gate.draining();
            tokio::spawn(async move {
                let mut all_ended = listener::accept(listener, door, stopping(&mut draining)).await;
                all_ended.recv().await;
            })
        });
        let mut failed = None;
        let ended = async {
            tokio::select! {
                () = shutdown => {}
                why = stopped => failed = Some(why.unwrap_or_else(|_| "it panicked".into())),
            }
        };
        let mut all_ended = listener::accept(listener, door, ended).await;
        tracing::info!(connections = gate.connections(), "draining: no new connections, calls may end");
        gate.drain();
        engine.stop();
        let drained = async {
            all_ended.recv().await;
            if let Some(second) = second {
                drop(second.await);
            }
        };
        if timeout(seconds(limits.drain_s), drained).await.is_err() {
            tracing::warn!(connections = gate.connections(), "these did not end in time and are cut");
            gate.close();
        }
        engine.join();
        looking.abort();
        metrics.iter().for_each(tokio::task::JoinHandle::abort);
        gate.refusals.flush();
        tracing::info!("stopped");
        failed.map_or(Ok(()), |why| Err(ServiceError::Engine(why)))
    }
}
