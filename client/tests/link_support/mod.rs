//! A coordinator that only listens, and a proxy that tunnels: both in the test's own process.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use consilium_proto::{
    MAX_MESSAGE_BYTES,
    identity::Identity,
    pinning,
    roster::VerifiedRoster,
    wire::{
        ChallengeReply, ChallengeRequest, ClientMessage, CoordinatorMessage, ReleasePart, ReleasesRequest,
        RestoreReceipt, UploadPart, UploadReceipt, Welcome,
        aggregation_server::{Aggregation, AggregationServer},
        coordinator_message::Kind as Heard,
    },
};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::server::Connected};

/// What arrived, in plaintext, in order: every message, encoded again as the sender encoded it.
#[derive(Clone, Default)]
pub struct Received(Arc<Mutex<Vec<Vec<u8>>>>);

impl Received {
    fn push(&self, message: &impl Message) {
        self.0.lock().unwrap().push(message.encode_to_vec());
    }

    pub fn all(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().clone()
    }
}

/// A coordinator that welcomes everybody and says nothing else.
#[derive(Clone, Default)]
pub struct Listener {
    pub received: Received,
    /// Sessions that were opened.
    pub sessions: Arc<AtomicUsize>,
    /// Connections that shook hands.
    pub connections: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl Aggregation for Listener {
    async fn challenge(&self, _: Request<ChallengeRequest>) -> Result<Response<ChallengeReply>, Status> {
        Err(Status::failed_precondition("this port knows its callers by their TLS keys"))
    }

    type SessionStream = ReceiverStream<Result<CoordinatorMessage, Status>>;
    type ReleasesStream = ReceiverStream<Result<ReleasePart, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<ClientMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut incoming = request.into_inner();
        let (out, outgoing) = mpsc::channel(4);
        self.sessions.fetch_add(1, Ordering::Relaxed);
        let received = self.received.clone();
        tokio::spawn(async move {
            let welcome = CoordinatorMessage { kind: Some(Heard::Welcome(Welcome::default())) };
            drop(out.send(Ok(welcome)).await);
            while let Ok(Some(message)) = incoming.message().await {
                received.push(&message);
            }
            drop(out);
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn upload(
        &self,
        request: Request<Streaming<UploadPart>>,
    ) -> Result<Response<UploadReceipt>, Status> {
        let mut incoming = request.into_inner();
        let mut chunks = 0;
        while let Some(part) = incoming.message().await? {
            self.received.push(&part);
            chunks += 1;
        }
        Ok(Response::new(UploadReceipt { chunks }))
    }

    async fn restore(&self, _: Request<Streaming<ReleasePart>>) -> Result<Response<RestoreReceipt>, Status> {
        Err(Status::failed_precondition("nothing was asked for"))
    }

    async fn releases(
        &self,
        request: Request<ReleasesRequest>,
    ) -> Result<Response<Self::ReleasesStream>, Status> {
        self.received.push(request.get_ref());
        Ok(Response::new(ReceiverStream::new(mpsc::channel(1).1)))
    }
}

impl Listener {
    /// Listens with the coordinator's key; gives the address.
    pub async fn start(identity: &Identity, roster: Arc<VerifiedRoster>) -> (Self, String) {
        let listener = Self::default();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let tls = TlsAcceptor::from(Arc::new(pinning::server_config(identity, roster).unwrap()));
        let (accepted, incoming) = mpsc::channel(4);
        let connections = listener.connections.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = socket.accept().await {
                let (tls, accepted, connections) = (tls.clone(), accepted.clone(), connections.clone());
                tokio::spawn(async move {
                    // A caller that only looks at the certificate hangs up.
                    if let Ok(stream) = tls.accept(tcp).await {
                        connections.fetch_add(1, Ordering::Relaxed);
                        drop(accepted.send(Ok::<_, io::Error>(Io(stream))).await);
                    }
                });
            }
        });
        let service = AggregationServer::new(listener.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(ReceiverStream::new(incoming)),
        );
        (listener, address)
    }
}

struct Io(TlsStream<TcpStream>);

impl Connected for Io {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// An HTTP proxy that knows one method, one password and one name, and cuts tunnels through which nothing goes.
#[derive(Clone)]
pub struct Proxy {
    pub address: String,
    /// First lines of all requests.
    pub asked: Arc<Mutex<Vec<String>>>,
    /// Tunnels cut because they were idle.
    pub cut: Arc<AtomicUsize>,
}

/// What the proxy takes `name` for.
pub struct Resolves {
    pub name: &'static str,
    pub address: String,
}

impl Proxy {
    pub async fn start(password: Option<&'static str>, resolves: Resolves, idle: Duration) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            address: socket.local_addr().unwrap().to_string(),
            asked: Arc::default(),
            cut: Arc::default(),
        };
        let (shared, resolves) = (proxy.clone(), Arc::new(resolves));
        tokio::spawn(async move {
            while let Ok((client, _)) = socket.accept().await {
                let (shared, resolves) = (shared.clone(), resolves.clone());
                tokio::spawn(async move { shared.serve(client, password, &resolves, idle).await });
            }
        });
        proxy
    }

    async fn serve(
        &self,
        mut client: TcpStream,
        password: Option<&str>,
        resolves: &Resolves,
        idle: Duration,
    ) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = client.read_u8().await else { return };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let line = head.lines().next().unwrap().to_owned();
        self.asked.lock().unwrap().push(line.clone());
        let shown = head.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: Basic "));
        let answer = match line.split(' ').collect::<Vec<_>>()[..] {
            _ if password.is_some() && shown != password => "407 Proxy Authentication Required",
            ["CONNECT", target, "HTTP/1.1"] if target == resolves.name => "200 Connection established",
            ["CONNECT", ..] => "403 Forbidden",
            _ => "405 Method Not Allowed",
        };
        drop(client.write_all(format!("HTTP/1.1 {answer}\r\nVia: test\r\n\r\n").as_bytes()).await);
        if !answer.starts_with("200") {
            return;
        }
        let mut server = TcpStream::connect(&resolves.address).await.unwrap();
        let (mut up, mut down) = ([0; 4096], [0; 4096]);
        loop {
            let moved = async {
                tokio::select! {
                    read = client.read(&mut up) => pass(read, &up, &mut server).await,
                    read = server.read(&mut down) => pass(read, &down, &mut client).await,
                }
            };
            match timeout(idle, moved).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => {
                    self.cut.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    }
}

/// Passes on what was read; whether the tunnel goes on.
async fn pass(read: io::Result<usize>, bytes: &[u8], to: &mut TcpStream) -> bool {
    match read {
        Ok(length @ 1..) => to.write_all(&bytes[..length]).await.is_ok(),
        _ => false,
    }
}
