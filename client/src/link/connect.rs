//! One TLS connection to the coordinator.

use std::{sync::Arc, time::Duration};

use consilium_proto::{identity::Identity, pinning, roster::VerifiedRoster};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// How often a silent connection is asked whether it is still there, and how long it may take to say so.
const KEEPALIVE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(10);

/// Whom to dial, and as whom.
#[derive(Clone)]
pub struct Target {
    address: String,
    tls: Arc<rustls::ClientConfig>,
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
    /// The roster's coordinator at `address` (`host:port`), dialled as `identity`.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Tls`].
    pub fn new(
        address: &str,
        identity: &Identity,
        roster: Arc<VerifiedRoster>,
    ) -> Result<Self, ConnectError> {
        let tls = Arc::new(pinning::client_config(identity, roster)?);
        Ok(Self { address: address.to_owned(), tls })
    }
}

pub(super) async fn channel(target: &Target) -> Result<Channel, ConnectError> {
    let address = target.address.clone();
    let uri: Uri = format!("http://{address}").parse().map_err(|_| ConnectError::Address(address.clone()))?;
    let tls = TlsConnector::from(target.tls.clone());
    let dial = {
        let address = address.clone();
        service_fn(move |_: Uri| {
            let (address, tls) = (address.clone(), tls.clone());
            async move {
                let tcp = TcpStream::connect(&address).await?;
                tcp.set_nodelay(true)?;
                let name = ServerName::try_from(pinning::SERVER_NAME).map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, tcp).await?))
            }
        })
    };
    Endpoint::from(uri)
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(dial)
        .await
        .map_err(|error| ConnectError::Dial { address, why: causes(&error) })
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
