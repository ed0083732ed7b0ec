//! A line that delivers the streams of one HTTP/2 connection in another order than they were sent in.
//!
//! Within a stream the order stays, or it would not be HTTP/2 (RFC 9113, section 5); between streams nothing promises one. TCP and
//! TLS do not let anybody in between reorder anything, so this one holds the keys of both ends: a test may.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use consilium_proto::pinning;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{Consortium, audit::documents};

/// How long a frame is held at most.
const HELD_MS: u64 = 60;
/// What every HTTP/2 connection begins with.
const PREFACE: usize = 24;
const DATA: u8 = 0;
const GOAWAY: u8 = 7;

/// Such a line, of one site.
pub struct Shuffle {
    address: String,
    overtaken: Arc<AtomicU64>,
    _runtime: Runtime,
}

impl Shuffle {
    /// A line of this site to the coordinator.
    pub fn of(consortium: &Consortium, site: usize) -> Self {
        let roster = Arc::new(documents(consortium).0);
        let server = pinning::server_config(consortium.identity("coordinator"), roster.clone());
        let client = pinning::client_config(consortium.identity(&format!("site-{site}")), roster);
        let acceptor = TlsAcceptor::from(Arc::new(server.expect("the coordinator's keys")));
        let connector = TlsConnector::from(Arc::new(client.expect("the site's keys")));
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (target, overtaken) = (consortium.address.clone(), Arc::<AtomicU64>::default());
        let (count, seed) = (overtaken.clone(), site as u64);
        runtime.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let passing =
                    pass(near, target.clone(), acceptor.clone(), connector.clone(), seed, count.clone());
                tokio::spawn(passing);
            }
        });
        Self { address, overtaken, _runtime: runtime }
    }

    /// Where to dial.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How many frames overtook one that was sent before them.
    pub fn overtaken(&self) -> u64 {
        self.overtaken.load(Ordering::Relaxed)
    }
}

async fn pass(
    near: TcpStream,
    target: String,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    seed: u64,
    overtaken: Arc<AtomicU64>,
) -> io::Result<()> {
    let far = TcpStream::connect(target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let name = pinning::SERVER_NAME.try_into().map_err(io::Error::other)?;
    let (near, far) = (acceptor.accept(near).await?, connector.connect(name, far).await?);
    let ((near_read, near_write), (mut far_read, mut far_write)) = (split(near), split(far));
    let mut near_read = near_read;
    let mut preface = [0; PREFACE];
    near_read.read_exact(&mut preface).await?;
    far_write.write_all(&preface).await?;
    far_write.flush().await?;
    let up = relay(&mut near_read, far_write, seed, &overtaken);
    let down = relay(&mut far_read, near_write, seed + 100, &overtaken);
    // Either end's end is the connection's.
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

/// A frame (RFC 9113, section 4.1) and the stream it belongs to.
struct Frame {
    kind: u8,
    stream: u32,
    bytes: Vec<u8>,
}

async fn frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let mut head = [0; 9];
    from.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut bytes = head.to_vec();
    bytes.resize(9 + length, 0);
    from.read_exact(&mut bytes[9..]).await?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
    Ok(Frame { kind: head[3], stream, bytes })
}

/// Frames that wait: when they are due, how many came before them, and their bytes, in order within their stream.
type Held = BTreeMap<u32, VecDeque<(Instant, u64, Vec<u8>)>>;

async fn relay(
    from: &mut (impl AsyncRead + Unpin),
    mut to: impl AsyncWrite + Unpin,
    seed: u64,
    overtaken: &AtomicU64,
) -> io::Result<()> {
    // Frames are read whole here and handed on: reading one must not be cancelled halfway.
    let (put, mut frames) = mpsc::channel::<Frame>(64);
    let reading = async {
        while let Ok(frame) = frame(from).await {
            if put.send(frame).await.is_err() {
                break;
            }
        }
        drop(put);
        std::future::pending::<()>().await;
    };
    let writing = async {
        let (mut held, mut came, mut random) = (Held::new(), 0u64, seed + 1);
        loop {
            let due = held.values().filter_map(|queue| queue.front()).map(|(due, ..)| *due).min();
            let frame = tokio::select! {
                frame = frames.recv() => frame,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    release(&mut held, &mut to, overtaken, |_, due| due <= Instant::now()).await?;
                    continue;
                }
            };
            let Some(Frame { kind, stream, bytes }) = frame else {
                return release(&mut held, &mut to, overtaken, |_, _| true).await;
            };
            came += 1;
            if kind == DATA {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let due = Instant::now() + Duration::from_millis((random >> 33) % HELD_MS);
                held.entry(stream).or_default().push_back((due, came, bytes));
                continue;
            }
            // Whatever else a stream says comes after its data; headers share one state and keep their order.
            release(&mut held, &mut to, overtaken, |of, _| of == stream || kind == GOAWAY).await?;
            to.write_all(&bytes).await?;
            to.flush().await?;
        }
    };
    tokio::select! {
        written = writing => written,
        () = reading => Ok(()),
    }
}

/// Writes the first frames of each stream for which `goes` holds.
async fn release(
    held: &mut Held,
    to: &mut (impl AsyncWrite + Unpin),
    overtaken: &AtomicU64,
    goes: impl Fn(u32, Instant) -> bool,
) -> io::Result<()> {
    let streams: Vec<u32> = held.keys().copied().collect();
    for stream in streams {
        while let Some((due, number, _)) = held.get(&stream).and_then(VecDeque::front) {
            if !goes(stream, *due) {
                break;
            }
            let number = *number;
            let earlier = held.values().flatten().any(|(_, other, _)| *other < number);
            overtaken.fetch_add(earlier.into(), Ordering::Relaxed);
            if let Some((_, _, bytes)) = held.get_mut(&stream).and_then(VecDeque::pop_front) {
                to.write_all(&bytes).await?;
            }
        }
    }
    held.retain(|_, queue| !queue.is_empty());
    to.flush().await
}
