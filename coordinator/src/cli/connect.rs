//! One mutually authenticated connection to the coordinator that the roster names, and words for what can go wrong on it.
//!
//! tonic's own TLS settings take no custom verifier, so the connector dials and shakes hands itself; the channel speaks
//! HTTP/2 over whatever it returns. Dialling again after a break is the caller's business.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use consilium_proto::{identity::Identity, pinning, roster::VerifiedRoster};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

/// For name resolution, TCP and TLS together.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which nothing moved for so long is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nothing answers there.
    #[error(
        "no coordinator answers at {address}: {why}; check that it runs, the address, and the firewall between"
    )]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the operating system said.
        why: String,
    },
    /// Something answers that is not the coordinator of the roster.
    #[error(
        "{address} answers, but does not show the key that the roster lists for the coordinator ({why}); check the address and \
         the roster, and whether something in between opens TLS connections"
    )]
    NotTheCoordinator {
        /// Host and port.
        address: String,
        /// What the handshake said.
        why: String,
    },
    /// The coordinator does not accept the identity's key.
    #[error(
        "the coordinator at {address} does not accept this identity's key ({why}); it must stand in the coordinator's own copy of \
         the roster and be within its days"
    )]
    KeyRefused {
        /// Host and port.
        address: String,
        /// What the handshake said.
        why: String,
    },
    /// The identity's own key is unusable.
    #[error("the identity's TLS key cannot be used: {0}")]
    Identity(rustls::Error),
}

impl ConnectError {
    /// Whether trying again later may help.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// What is known of one connection beside its channel.
#[derive(Clone, Debug)]
pub struct Link {
    pub(super) address: String,
    alert: Arc<OnceLock<String>>,
}

impl Link {
    /// Whether the coordinator refused this identity's key. In TLS 1.3 it says so only after the client has finished, so
    /// the first call fails, and not the connecting.
    pub fn refused(&self) -> Option<ConnectError> {
        let why = self.alert.get()?.clone();
        Some(ConnectError::KeyRefused { address: self.address.clone(), why })
    }
}

/// Connects to the roster's coordinator at `address` (`host:port`), showing `identity`'s TLS key. The channel carries one
/// connection and is of no use once that has broken.
///
/// # Errors
///
/// [`ConnectError`]; see also [`Link::refused`].
pub async fn connect(
    address: &str,
    identity: &Identity,
    roster: Arc<VerifiedRoster>,
) -> Result<(Channel, Link), ConnectError> {
    let config = pinning::client_config(identity, roster).map_err(ConnectError::Identity)?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = tokio::time::timeout(DIAL_TIMEOUT, dial(address, &connector)).await.map_err(|_| {
        ConnectError::Unreachable {
            address: address.to_owned(),
            why: format!("no answer within {} s", DIAL_TIMEOUT.as_secs()),
        }
    })??;
    let alert = Arc::new(OnceLock::new());
    let link = Link { address: address.to_owned(), alert: alert.clone() };
    // The connection is made already; the channel gets it once.
    let mut stream = Some(TokioIo::new(Heard { stream, broken: None, alert }));
    let service = tower::service_fn(move |_| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    let channel = Endpoint::from_static("http://consilium")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(service)
        .await
        .map_err(|e| link.refused().unwrap_or_else(|| from_chain(address, &e)))?;
    Ok((channel, link))
}

async fn dial(address: &str, connector: &TlsConnector) -> Result<TlsStream<TcpStream>, ConnectError> {
    let tcp = TcpStream::connect(address)
        .await
        .map_err(|e| ConnectError::Unreachable { address: address.to_owned(), why: e.to_string() })?;
    // Small messages go out at once; a connection that cannot be set so works as well.
    let _ = tcp.set_nodelay(true);
    // Unwrap safety: a constant that is a DNS name; a test connects with it.
    let name = ServerName::try_from(pinning::SERVER_NAME)
        .map_err(|e| ConnectError::Unreachable { address: address.to_owned(), why: e.to_string() })?;
    connector.connect(name, tcp).await.map_err(|e| from_chain(address, &e))
}

/// Finds the TLS error under an error, and so whose fault it is.
fn from_chain(address: &str, error: &(dyn Error + 'static)) -> ConnectError {
    let address = address.to_owned();
    match tls_error(error) {
        Some(tls @ rustls::Error::AlertReceived(_)) => {
            ConnectError::KeyRefused { address, why: tls.to_string() }
        }
        Some(tls) => ConnectError::NotTheCoordinator { address, why: tls.to_string() },
        None => ConnectError::Unreachable { address, why: innermost(error) },
    }
}

fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        // An io::Error's source skips the error that it wraps.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(tls) = wrapped.and_then(|wrapped| wrapped.downcast_ref::<rustls::Error>()) {
            return Some(tls);
        }
        next = match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// A stream that remembers a TLS alert: the channel above it reports only that the connection is gone.
struct Heard {
    stream: TlsStream<TcpStream>,
    /// Why writing failed; what had arrived before that is read to its end first, because the alert is in it.
    broken: Option<io::Error>,
    alert: Arc<OnceLock<String>>,
}

impl Heard {
    fn remember(&self, error: &io::Error) {
        if let Some(tls @ rustls::Error::AlertReceived(_)) = tls_error(error) {
            let _ = self.alert.set(tls.to_string());
        }
    }

    /// Whoever refuses a key says so and closes at once. The next write then fails before the reactor has noticed that
    /// there is something to read; on a dead connection it soon does.
    fn after_failed_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let mut space = [0; 1024];
        loop {
            let mut into = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut into)) {
                Ok(()) if into.filled().is_empty() => break,
                Ok(()) => {}
                Err(alert) => {
                    self.remember(&alert);
                    break;
                }
            }
        }
        Poll::Ready(self.broken.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()))
    }

    fn write_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TlsStream<TcpStream>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.broken.is_none() {
            match ready!(write(Pin::new(&mut self.stream), cx)) {
                Ok(done) => return Poll::Ready(Ok(done)),
                Err(error) => self.broken = Some(error),
            }
        }
        self.after_failed_write(cx).map(Err)
    }
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, into));
        Poll::Ready(read.inspect_err(|error| self.remember(error)))
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write_with(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_with(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
