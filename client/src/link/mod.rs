//! The way to the coordinator: TLS pinned by the roster, one session stream, uploads, published releases.
//!
//! The client only ever dials out. A connection that fails or falls silent is made again, with a delay that doubles up to
//! half a minute and is drawn at random, so that a thousand clients do not come back in the same moment. Every message leaves a line in
//! the journal of what left ([`crate::egress`]) before it leaves.

mod connect;
mod give_back;
mod inspected;
mod names;
mod peek;
mod proxy;
mod transfer;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use consilium_proto::{
    MAX_MESSAGE_BYTES,
    wire::{
        ClientMessage, Hello, SignedReleaseHead, aggregation_client::AggregationClient,
        client_message::Kind as Say, coordinator_message::Kind as Heard,
    },
};
use rand::RngExt as _;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};

use crate::{
    egress::{Egress, Recording},
    kept::Kept,
};
pub use connect::{ConnectError, KEEPALIVE, Target, server_name};
use inspected::Proving;
pub use inspected::Signer;
pub use peek::{Seen, look};
pub use proxy::{Proxy, ProxyError, Route};
use transfer::{fetch, upload};

/// The generated client, over a connection whose every message is written down first.
type Client = AggregationClient<Recording<Proving<Channel>>>;

/// What the link reports.
#[derive(Debug)]
pub enum LinkEvent {
    /// The session stream is open.
    Connected,
    /// The coordinator said something.
    Heard(Heard),
    /// The session is gone; the link is dialling again.
    Disconnected {
        /// Why.
        why: String,
        /// How long until the next try.
        retry: Duration,
    },
    /// A published release arrived.
    Release {
        /// Head.
        head: SignedReleaseHead,
        /// Packed sum.
        sum: Vec<u8>,
    },
    /// The releases that were asked for are all there, or the stream broke.
    ReleasesEnded,
}

/// Shortest and longest time between two tries.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// A session that lasted this long resets the delay.
const STEADY: Duration = Duration::from_secs(10);
/// Longest time that a link which is being closed waits for its last words to be taken.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Messages under way in each direction.
const QUEUE: usize = 64;

/// A link that dials until it is dropped.
pub struct Link {
    events: mpsc::Receiver<LinkEvent>,
    say: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

enum Order {
    Say(Say),
    Upload { round: u32, attempt: u32, chunks: Arc<Vec<Vec<u8>>>, from: u32 },
    Fetch { from_round: u32, sum_bytes: usize },
    StopUploads,
    Close,
    GiveBack(Vec<Kept>),
}

impl Link {
    /// Starts dialling.
    pub fn start(target: Target, egress: Egress) -> Self {
        let (report, events) = mpsc::channel(QUEUE);
        let (say, orders) = mpsc::channel(QUEUE);
        let task = tokio::spawn(dial(target, egress, report, orders));
        Self { events, say, task }
    }

    /// The next thing that happened.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        self.events.recv().await
    }

    /// Says something on the session; lost if it is not open, and then the coordinator asks again.
    pub async fn say(&self, say: Say) {
        drop(self.say.send(Order::Say(say)).await);
    }

    /// Uploads chunks from an index on.
    pub async fn upload(&self, round: u32, attempt: u32, chunks: Arc<Vec<Vec<u8>>>, from: u32) {
        drop(self.say.send(Order::Upload { round, attempt, chunks, from }).await);
    }

    /// Gives the coordinator releases back that it has lost.
    pub async fn give_back(&self, releases: Vec<Kept>) {
        drop(self.say.send(Order::GiveBack(releases)).await);
    }

    /// Fetches releases from a round on, each with a sum of `sum_bytes`.
    pub async fn fetch(&self, from_round: u32, sum_bytes: usize) {
        drop(self.say.send(Order::Fetch { from_round, sum_bytes }).await);
    }

    /// Breaks off every upload under way.
    pub async fn stop_uploads(&self) {
        drop(self.say.send(Order::StopUploads).await);
    }

    /// Ends the session, what was said last included, and the link with it.
    pub async fn close(mut self) {
        drop(self.say.send(Order::Close).await);
        let drained = async { while self.events.recv().await.is_some() {} };
        // A coordinator that does not answer keeps nobody.
        drop(timeout(LAST_WORDS, drained).await);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A greeting as it leaves: with this machine's clock. Only the operator's table reads it: nothing believes a time that somebody says.
pub fn greeting(hello: Hello) -> Say {
    Say::Hello(Hello { clock_ms: now_ms(), ..hello })
}

/// Unix milliseconds, by this machine's clock.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

async fn dial(
    target: Target,
    egress: Egress,
    report: mpsc::Sender<LinkEvent>,
    mut orders: mpsc::Receiver<Order>,
) {
    let mut backoff = BACKOFF.0;
    loop {
        let began = Instant::now();
        let why = match connect::channel(&target, &egress).await {
            Ok(channel) => {
                let client = AggregationClient::new(Recording::new(channel, egress.clone()))
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(MAX_MESSAGE_BYTES);
                match converse(client, &report, &mut orders).await {
                    Ended::Lost(why) => why,
                    Ended::Dropped => return,
                }
            }
            Err(error) => error.to_string(),
        };
        if began.elapsed() > STEADY {
            backoff = BACKOFF.0;
        }
        let retry = backoff.mul_f64(rand::rng().random_range(0.5..1.0));
        backoff = (backoff * 2).min(longest());
        if report.send(LinkEvent::Disconnected { why, retry }).await.is_err() {
            return;
        }
        tokio::select! {
            () = sleep(retry) => {}
            () = closed(&mut orders) => return,
        }
    }
}

/// Completes when the link is to end; what else is ordered between two sessions is void.
async fn closed(orders: &mut mpsc::Receiver<Order>) {
    while !matches!(orders.recv().await, None | Some(Order::Close)) {}
}

/// The longest time between two tries; test builds can be less patient.
fn longest() -> Duration {
    #[cfg(feature = "test-hooks")]
    if let Some(ms) = std::env::var("CONSILIUM_TEST_BACKOFF_MS").ok().and_then(|text| text.parse().ok()) {
        return Duration::from_millis(ms);
    }
    BACKOFF.1
}

enum Ended {
    Lost(String),
    /// Nobody listens any more.
    Dropped,
}

/// One session, from its opening to its loss.
async fn converse(
    mut client: Client,
    report: &mpsc::Sender<LinkEvent>,
    orders: &mut mpsc::Receiver<Order>,
) -> Ended {
    // What was ordered for an earlier session is void: the coordinator will ask again.
    while let Ok(order) = orders.try_recv() {
        if matches!(order, Order::Close) {
            return Ended::Dropped;
        }
    }
    let (out, outgoing) = mpsc::channel(QUEUE);
    // The stream opens with the first message, so the greeting must be on its way before the answer is awaited.
    if report.send(LinkEvent::Connected).await.is_err() {
        return Ended::Dropped;
    }
    let hello = loop {
        match orders.recv().await {
            Some(Order::Say(Say::Hello(hello))) => break greeting(hello),
            None | Some(Order::Close) => return Ended::Dropped,
            // Ordered before the greeting, for the session that was lost.
            Some(_) => {}
        }
    };
    if out.send(ClientMessage { kind: Some(hello) }).await.is_err() {
        return Ended::Lost("the stream closed".into());
    }
    let mut incoming = match client.session(ReceiverStream::new(outgoing)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return Ended::Lost(words(&status)),
    };
    let (failed, mut failures) = mpsc::channel::<String>(1);
    // They end with the session.
    let mut uploads = JoinSet::new();
    loop {
        tokio::select! {
            message = incoming.message() => match message {
                Ok(Some(message)) => {
                    let Some(heard) = message.kind else { continue };
                    if report.send(LinkEvent::Heard(heard)).await.is_err() {
                        return Ended::Dropped;
                    }
                }
                Ok(None) => return Ended::Lost("the coordinator closed the session".into()),
                Err(status) => return Ended::Lost(words(&status)),
            },
            order = orders.recv() => match order {
                None => return Ended::Dropped,
                Some(Order::Close) => {
                    uploads.abort_all();
                    // What was said goes out before the stream's end does, and the coordinator ends its half after that.
                    drop(out);
                    while let Ok(Some(_)) = incoming.message().await {}
                    return Ended::Dropped;
                }
                Some(Order::StopUploads) => uploads.abort_all(),
                Some(Order::Say(say)) => {
                    if out.send(ClientMessage { kind: Some(say) }).await.is_err() {
                        return Ended::Lost("the stream closed".into());
                    }
                }
                Some(Order::Upload { round, attempt, chunks, from }) => {
                    let (client, failed) = (client.clone(), failed.clone());
                    uploads.spawn(async move {
                        if let Err(status) = upload(client, round, attempt, &chunks, from).await {
                            drop(failed.try_send(words(&status)));
                        }
                    });
                }
                Some(Order::GiveBack(releases)) => {
                    let client = client.clone();
                    tokio::spawn(async move {
                        if let Err(status) = give_back::give_back(client, releases).await {
                            tracing::warn!(why = words(&status), "giving releases back stopped");
                        }
                    });
                }
                Some(Order::Fetch { from_round, sum_bytes }) => {
                    tokio::spawn(fetch(client.clone(), from_round, sum_bytes, report.clone()));
                }
            },
            // A new session makes the coordinator ask for the upload again, from where it stopped.
            Some(why) = failures.recv() => return Ended::Lost(why),
        }
    }
}

fn words(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
