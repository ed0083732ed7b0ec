//! One connection of a party: HTTP/2, its calls, its end.

use std::{
    convert::Infallible,
    error::Error,
    future::ready,
    io,
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use consilium_proto::roster::Caller;
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
    time::sleep,
};
use tokio_rustls::server::TlsStream;
use tonic::{body::Body, service::Routes};
use tower::Service as _;

use super::{
    asked::{Asked, Peers, Rules},
    gate::{Gate, Stranger, stopping},
    refusals::code,
};
use crate::limits::seconds;

/// What every HTTP/2 connection begins with (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Most bytes of one call's headers; gRPC's have a few hundred.
const HEADER_BYTES: u32 = 8 << 10;
/// Answers that one call may have waiting to be sent.
const SEND_BYTES: usize = 64 << 10;

/// Bytes in and out since the process began, TLS excluded.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Received.
    pub received: AtomicU64,
    /// Sent.
    pub sent: AtomicU64,
}

impl Traffic {
    /// Received and sent.
    pub fn read(&self) -> (u64, u64) {
        (self.received.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed))
    }
}

/// Whose connection it is, or how that will be found out.
pub(super) enum Who {
    /// The party whose TLS key it showed.
    Known(Caller),
    /// Nobody yet: a member will sign the challenge. Until then it keeps its place in the row of strangers.
    Asked { rules: Rules, stranger: Stranger, replaced: oneshot::Receiver<()> },
}

/// Serves calls until the connection ends, is replaced by a newer one, or the coordinator stops.
pub(super) async fn serve(accepted: Accepted, who: Who, gate: &Arc<Gate>, routes: Routes) {
    let limits = &gate.limits;
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .keep_alive_interval(seconds(limits.keepalive_s))
        .keep_alive_timeout(seconds(limits.keepalive_s))
        // A few more than the account allows, so that the refusal comes with a name.
        .max_concurrent_streams(limits.calls.saturating_add(4))
        .initial_stream_window_size(limits.window_bytes)
        // An upload that waits leaves room for the session beside it.
        .initial_connection_window_size(limits.window_bytes.saturating_mul(2))
        .max_header_list_size(HEADER_BYTES)
        .max_send_buf_size(SEND_BYTES);
    let (peers, mut admitted) = Peers::new(gate.clone(), accepted.party.clone());
    let (asked, mut stranger, mut replaced) = match who {
        Who::Known(caller) => {
            peers.admit(caller);
            // Not asked, and never replaced as a stranger.
            (None, None, oneshot::channel().1)
        }
        Who::Asked { rules, stranger, replaced } => (Some(Asked::new(rules)), Some(stranger), replaced),
    };
    let mut late = pin!(sleep(seconds(limits.handshake_s)));
    let calls = Calls { routes, peers, asked };
    let mut served = pin!(http.serve_connection(TokioIo::new(accepted), calls));
    let mut draining = gate.draining();
    let (mut asked_to_end, mut known) = (false, None);
    let end = loop {
        tokio::select! {
            biased;
            Ok(peer) = &mut admitted, if known.is_none() => {
                tracing::info!(id = %peer.id, "connected");
                replaced = peer.replaced;
                known = Some((peer.id, peer.connection));
                stranger = None;
            }
            _ = &mut replaced, if known.is_some() || stranger.is_some() => break None,
            () = late.as_mut(), if known.is_none() => {
                gate.refusals.note(code::HANDSHAKE_LATE, None, "it did not sign the challenge in time");
                break None;
            }
            end = served.as_mut() => break Some(end),
            () = stopping(&mut draining), if !asked_to_end => {
                served.as_mut().graceful_shutdown();
                asked_to_end = true;
            }
        }
    };
    drop(stranger);
    let Some((id, connection)) = known else { return };
    drop(connection);
    match end {
        None if !asked_to_end => {
            gate.refusals.note(code::CONNECTION_REPLACED, Some(&id), "it opened a newer one");
        }
        Some(Err(error)) => match misbehaviour(&error) {
            Some(code) => gate.refusals.note(code, Some(&id), &words(&error)),
            None => tracing::info!(%id, why = words(&error), "disconnected"),
        },
        None | Some(Ok(())) => tracing::info!(%id, "disconnected"),
    }
}

/// The code of an end that is the peer's doing; none when the line was cut.
fn misbehaviour(error: &hyper::Error) -> Option<&'static str> {
    if error.is_timeout() {
        return Some(code::CONNECTION_DEAD);
    }
    let http2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    http2.filter(|error| error.is_library()).map(|_| code::HTTP2_BROKEN)
}

fn words(error: &hyper::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Hands each call to its service, with whose it is.
struct Calls {
    routes: Routes,
    peers: Peers,
    asked: Option<Asked>,
}

impl hyper::service::Service<http::Request<Incoming>> for Calls {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: http::Request<Incoming>) -> Self::Future {
        // A router is always ready.
        let mut routes = self.routes.clone();
        if let Some(asked) = &self.asked {
            if let Some(question) = asked.question(&request) {
                return Box::pin(async move { routes.call(question).await });
            }
            if let Err(status) = asked.introduce(&self.peers, request.headers()) {
                return Box::pin(ready(Ok(status.into_http())));
            }
        }
        if let Some(peer) = self.peers.known() {
            request.extensions_mut().insert(peer.clone());
        }
        Box::pin(async move { routes.call(request).await })
    }
}

/// An introduced connection: gives the preface again, which was read to know that it is HTTP/2, and counts bytes.
pub(super) struct Accepted {
    /// Boxed: what passes it on would otherwise have room for it several times over, for every stranger.
    tls: Box<TlsStream<TcpStream>>,
    again: &'static [u8],
    traffic: Arc<Traffic>,
    /// Of whose connection it is, once that is known.
    party: Arc<OnceLock<Arc<Traffic>>>,
}

impl Accepted {
    pub(super) fn new(tls: TlsStream<TcpStream>, traffic: Arc<Traffic>) -> Self {
        Self { tls: Box::new(tls), again: PREFACE, party: Arc::default(), traffic }
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.again.is_empty() {
            let (now, later) = self.again.split_at(self.again.len().min(buf.remaining()));
            buf.put_slice(now);
            self.again = later;
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(self.tls.as_mut()).poll_read(cx, buf);
        let read = (buf.filled().len() - before) as u64;
        self.traffic.received.fetch_add(read, Ordering::Relaxed);
        if let Some(party) = self.party.get() {
            party.received.fetch_add(read, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(self.tls.as_mut()).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = &polled {
            self.traffic.sent.fetch_add(*written as u64, Ordering::Relaxed);
            if let Some(party) = self.party.get() {
                party.sent.fetch_add(*written as u64, Ordering::Relaxed);
            }
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.tls.as_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.tls.as_mut()).poll_shutdown(cx)
    }
}
