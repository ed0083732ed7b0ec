//! Connections as a party, with their bytes counted where they leave.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use consilium_proto::{identity::Identity, pinning, roster::VerifiedRoster};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

/// Bytes on the wire: all framing, TLS included.
#[derive(Debug, Default)]
pub struct Wire {
    pub sent: AtomicU64,
    pub received: AtomicU64,
}

/// A TLS connection as `identity`, pinned by the roster.
pub async fn tls(
    address: SocketAddr,
    identity: &Identity,
    roster: Arc<VerifiedRoster>,
    wire: Arc<Wire>,
) -> io::Result<TlsStream<Counted>> {
    let config = pinning::client_config(identity, roster).map_err(io::Error::other)?;
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(pinning::SERVER_NAME).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, Counted { tcp, wire }).await
}

/// A gRPC channel over one such connection; it is not made again when it breaks.
pub async fn channel(
    address: SocketAddr,
    identity: &Identity,
    roster: Arc<VerifiedRoster>,
    wire: Arc<Wire>,
) -> Result<Channel, Box<dyn std::error::Error + Send + Sync>> {
    let mut stream = Some(TokioIo::new(tls(address, identity, roster, wire).await?));
    let once = tower::service_fn(move |_| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    // As the real client does.
    let keepalive = Duration::from_secs(10);
    let endpoint = Endpoint::from_static("http://consilium")
        .http2_keep_alive_interval(keepalive)
        .keep_alive_timeout(keepalive)
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_with_connector(once).await?)
}

/// A TCP stream that counts.
pub struct Counted {
    tcp: TcpStream,
    wire: Arc<Wire>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.tcp).poll_read(cx, buf);
        self.wire.received.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tcp).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = &polled {
            self.wire.sent.fetch_add(*written as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
