//! One TLS connection to the coordinator, directly or through a proxy's tunnel.

use std::{io, sync::Arc, time::Duration};

use consilium_proto::{identity::Identity, inspected, pinning, roster::VerifiedRoster};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::{
    inspected::{Proving, Signer},
    proxy::Route,
};
use crate::egress::Egress;

/// How often a silent connection is asked whether it is still there, and how long it may take to say so: what keeps a tunnel
/// alive that a proxy or a firewall cuts after minutes of silence.
pub const KEEPALIVE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(10);

/// The shortest idle time after which proxies and firewalls are known to cut; several pings must fit in.
const IDLE_CUT: Duration = Duration::from_secs(240);
const _: () = assert!(KEEPALIVE.as_secs() * 4 <= IDLE_CUT.as_secs());

/// Whom to dial, and as whom.
#[derive(Clone)]
pub struct Target {
    address: String,
    route: Route,
    keepalive: Duration,
    tls: Arc<rustls::ClientConfig>,
    /// The name that is asked for, and that the certificate must have where the roster's key does not decide.
    name: ServerName<'static>,
    /// Who signs the challenge of a connection that is opened on the way.
    signer: Option<Signer>,
}

/// Why the coordinator could not be reached.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The identity does not make a TLS client.
    #[error("the identity's TLS key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// The address does not parse.
    #[error("coordinator = \"{0}\" is not an address; write host:port")]
    Address(String),
    /// Dialling failed.
    #[error("cannot reach the coordinator at {address}: {why}")]
    Dial {
        /// The address.
        address: String,
        /// Every cause, innermost last.
        why: String,
    },
}

impl Target {
    /// The roster's coordinator at `address` (`host:port`), reached by `route`, dialled as `identity`.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Tls`].
    pub fn new(
        address: &str,
        route: Route,
        identity: &Identity,
        roster: Arc<VerifiedRoster>,
    ) -> Result<Self, ConnectError> {
        let tls = Arc::new(pinning::client_config(identity, roster)?);
        let name = ServerName::try_from(pinning::SERVER_NAME).map_err(|_| unnamed(address))?;
        Ok(Self { address: address.to_owned(), route, keepalive: KEEPALIVE, tls, name, signer: None })
    }

    /// Whoever answers at `address` with a certificate of one of `authorities`: through a box that opens TLS. The name in the
    /// certificate is the address's.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Tls`], [`ConnectError::Address`].
    pub fn inspected(
        address: &str,
        route: Route,
        authorities: Vec<CertificateDer<'static>>,
        signer: Signer,
    ) -> Result<Self, ConnectError> {
        let tls = Arc::new(inspected::client_config(authorities)?);
        let name = server_name(address)?;
        let (address, signer) = (address.to_owned(), Some(signer));
        Ok(Self { address, route, keepalive: KEEPALIVE, tls, name, signer })
    }

    /// The same, with another time between two pings than [`KEEPALIVE`].
    #[must_use]
    pub fn with_keepalive(self, keepalive: Duration) -> Self {
        Self { keepalive, ..self }
    }

    /// The way to it.
    pub fn route(&self) -> &Route {
        &self.route
    }
}

fn unnamed(address: &str) -> ConnectError {
    ConnectError::Address(address.to_owned())
}

/// The name of a host, as a certificate has it.
///
/// # Errors
///
/// [`ConnectError::Address`].
pub fn server_name(address: &str) -> Result<ServerName<'static>, ConnectError> {
    let (host, _) = address.rsplit_once(':').ok_or_else(|| unnamed(address))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(host).map_err(|_| unnamed(address))
}

/// A TCP connection that ends at the coordinator.
pub(super) async fn reach(address: &str, route: &Route) -> io::Result<TcpStream> {
    let tcp = match route {
        Route::Direct => TcpStream::connect(address).await?,
        Route::Through(proxy) => proxy.connect(address).await?,
    };
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// A connection on which this organization is known, or will be by what each call says.
pub(super) async fn channel(target: &Target, egress: &Egress) -> Result<Proving<Channel>, ConnectError> {
    let channel = open(target).await?;
    match &target.signer {
        None => Ok(Proving::by_key(channel)),
        Some(signer) => signer.prove(channel, &target.address, egress).await,
    }
}

async fn open(target: &Target) -> Result<Channel, ConnectError> {
    let address = target.address.clone();
    let uri: Uri = format!("http://{address}").parse().map_err(|_| ConnectError::Address(address.clone()))?;
    let tls = TlsConnector::from(target.tls.clone());
    let dial = {
        let (address, route, name) = (address.clone(), target.route.clone(), target.name.clone());
        service_fn(move |_: Uri| {
            let (address, route, tls, name) = (address.clone(), route.clone(), tls.clone(), name.clone());
            async move {
                let tcp = reach(&address, &route).await?;
                let stream = tls.connect(name, tcp).await.map_err(another_certificate)?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        })
    };
    Endpoint::from(uri)
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(target.keepalive)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(dial)
        .await
        .map_err(|error| ConnectError::Dial { address, why: causes(&error) })
}

/// A certificate that is not the coordinator's usually means that somebody on the way opens TLS.
fn another_certificate(error: io::Error) -> io::Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(_)) => io::Error::other(format!(
            "who answers there does not show the coordinator's key ({error}); `consilium-client doctor` says whose certificate it is"
        )),
        _ => error,
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words.push_str(": ");
        words.push_str(&cause.to_string());
        source = cause.source();
    }
    words
}
