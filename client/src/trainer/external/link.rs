//! The way to a trainer: this client dials, the trainer listens.
//!
//! - **Unix socket:** whoever can open it can play the trainer, and would learn patients' ids. So the process behind it must
//!   run as this client's own user, or as the one that the config names.
//! - **TCP:** TLS 1.3, both sides known by the digest of their public key and by nothing else (`tls.rs`).

use std::{fmt, io, os::unix::fs::MetadataExt as _, path::PathBuf, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::{Problem, tls};

const CONNECT: Duration = Duration::from_secs(10);
/// Flow-control window, bytes: a sum of ten million values flows without a pause for permission.
const WINDOW: u32 = 8 << 20;

/// Where a trainer listens.
#[derive(Clone)]
pub enum Place {
    /// A Unix socket.
    Socket {
        /// Its path.
        path: PathBuf,
        /// User id of the process behind it; absent: this process's own.
        user: Option<u32>,
    },
    /// A node that sees only this client.
    Tcp {
        /// `host:port`.
        address: String,
        /// What proves either side to the other.
        tls: Arc<rustls::ClientConfig>,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { path, .. } => write!(f, "{}", path.display()),
            Self::Tcp { address, .. } => f.write_str(address),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self})")
    }
}

/// A connection, or why there is none.
pub(super) async fn channel(place: &Place) -> Result<Channel, Problem> {
    // No name is looked up by it: the connector knows where to go.
    let endpoint = Endpoint::from_static("http://trainer")
        .connect_timeout(CONNECT)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    let connected = match place.clone() {
        Place::Socket { path, user } => {
            let dial = move |_: Uri| {
                let path = path.clone();
                async move {
                    let stream = UnixStream::connect(&path).await?;
                    check_user(&stream, user)?;
                    Ok::<_, io::Error>(TokioIo::new(stream))
                }
            };
            endpoint.connect_with_connector(service_fn(dial)).await
        }
        Place::Tcp { address, tls } => {
            let dial = move |_: Uri| {
                let (address, tls) = (address.clone(), TlsConnector::from(tls.clone()));
                async move {
                    let tcp = TcpStream::connect(&address).await?;
                    tcp.set_nodelay(true)?;
                    let name = ServerName::try_from(tls::NAME).map_err(io::Error::other)?;
                    Ok::<_, io::Error>(TokioIo::new(tls.connect(name, tcp).await?))
                }
            };
            endpoint.connect_with_connector(service_fn(dial)).await
        }
    };
    connected.map_err(|error| Problem::Unreachable(causes(&error)))
}

fn check_user(stream: &UnixStream, user: Option<u32>) -> io::Result<()> {
    let own = || std::fs::metadata("/proc/self").map(|own| own.uid());
    let expected = user.map_or_else(own, Ok)?;
    let found = stream.peer_cred()?.uid();
    if found == expected {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("the process behind the socket runs as user {found}, not {expected} (external.user)"),
    ))
}

/// Every cause, innermost last.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words.push_str(": ");
        words.push_str(&cause.to_string());
        source = cause.source();
    }
    words
}
