//! TCP connections become TLS connections that the roster knows.
//!
//! Each handshake runs in its own task with a deadline, so a peer that says nothing delays nobody.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use consilium_proto::{
    identity::key_digest,
    pinning::day_of,
    roster::{Caller, VerifiedRoster},
};
use rustls::pki_types::UnixTime;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// Longest time a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way at once; more wait in the listen queue.
const HANDSHAKES: usize = 512;

/// Bytes in and out since the process began, TLS excluded.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Received.
    pub received: AtomicU64,
    /// Sent.
    pub sent: AtomicU64,
}

/// Connections whose TLS key the roster lists.
pub(super) fn incoming(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    roster: Arc<VerifiedRoster>,
    traffic: Arc<Traffic>,
) -> ReceiverStream<Result<Accepted, std::io::Error>> {
    let (ready, accepted) = mpsc::channel(16);
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(tls);
        let slots = Arc::new(Semaphore::new(HANDSHAKES));
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let tcp = tokio::select! {
                tcp = listener.accept() => tcp,
                () = ready.closed() => return,
            };
            let tcp = match tcp {
                Ok((tcp, _)) => tcp,
                Err(error) => {
                    // Out of file descriptors, most likely: let some close.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (acceptor, roster, traffic, ready) =
                (acceptor.clone(), roster.clone(), traffic.clone(), ready.clone());
            tokio::spawn(async move {
                let _slot = slot;
                match tokio::time::timeout(HANDSHAKE, handshake(tcp, &acceptor, &roster, traffic)).await {
                    Ok(Ok(accepted)) => drop(ready.send(Ok(accepted)).await),
                    Ok(Err(error)) => tracing::info!(%error, "handshake refused"),
                    Err(_) => tracing::info!("handshake took too long"),
                }
            });
        }
    });
    ReceiverStream::new(accepted)
}

async fn handshake(
    tcp: TcpStream,
    acceptor: &TlsAcceptor,
    roster: &VerifiedRoster,
    traffic: Arc<Traffic>,
) -> std::io::Result<Accepted> {
    tcp.set_nodelay(true)?;
    let tls = acceptor.accept(tcp).await?;
    let refused = |why: &str| std::io::Error::new(std::io::ErrorKind::PermissionDenied, why.to_owned());
    let certificates = tls.get_ref().1.peer_certificates();
    let certificate = certificates.and_then(|all| all.first()).ok_or_else(|| refused("no certificate"))?;
    let digest = key_digest(certificate).ok_or_else(|| refused("not a certificate"))?;
    let caller = roster.caller(&digest, day_of(UnixTime::now())).map_err(|e| refused(&e.to_string()))?;
    Ok(Accepted { tls, caller, traffic })
}

/// A connection, whose it is, and the counters of its bytes.
pub(super) struct Accepted {
    tls: TlsStream<TcpStream>,
    caller: Caller,
    traffic: Arc<Traffic>,
}

impl Connected for Accepted {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.tls).poll_read(cx, buf);
        self.traffic.received.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.tls).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = &polled {
            self.traffic.sent.fetch_add(*written as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
