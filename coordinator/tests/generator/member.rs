//! One generated member: the protocol's own client behind a session.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use consilium_crypto::{
    digest::Digest,
    ring::RingVector,
    secagg::{
        LedgerHead, Position, Step,
        client::{MaskedInput, Participant, Reply},
    },
};
use consilium_proto::{
    MAX_MESSAGE_BYTES, PROTOCOL_VERSION,
    announcement::Announcement,
    identity::Identity,
    plan::VerifiedPlan,
    roster::VerifiedRoster,
    wire::{
        self, ClientMessage, CoordinatorMessage, ReleasesRequest, UploadPart,
        aggregation_client::AggregationClient, client_message::Kind as Say,
        coordinator_message::Kind as Heard, release_part,
    },
};
use rand::{rand_core::UnwrapErr, rngs::SysRng};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::{StreamExt as _, iter, wrappers::ReceiverStream};
use tonic::{Status, Streaming, transport::Channel};

use super::{Consortium, Wire, channel};

/// The update of member `index`: element `j` is `40503·j + 2654435761·index`, reduced.
pub fn update(plan: &VerifiedPlan, index: usize) -> RingVector {
    let derived = plan.derived();
    let own = (index as u32).wrapping_mul(2_654_435_761);
    let mask = u32::MAX >> (32 - derived.ring.bits());
    let values = (0..derived.vector_len as u32).map(|j| j.wrapping_mul(40_503).wrapping_add(own) & mask);
    RingVector::new(derived.ring, values.collect()).expect("reduced values")
}

/// Element `j` of the sum over the members with these numbers, as a function.
pub fn expected_sum(plan: &VerifiedPlan, members: impl Iterator<Item = usize>) -> impl Fn(usize) -> u32 {
    let mask = u32::MAX >> (32 - plan.derived().ring.bits());
    let (mut count, mut own) = (0u32, 0u32);
    for index in members {
        count += 1;
        own = own.wrapping_add((index as u32).wrapping_mul(2_654_435_761));
    }
    move |j| (j as u32).wrapping_mul(40_503).wrapping_mul(count).wrapping_add(own) & mask
}

impl Default for Kept {
    fn default() -> Self {
        Self { version: PROTOCOL_VERSION, newest: None, releases: Vec::new() }
    }
}

/// What went wrong, in words.
#[derive(Debug)]
pub struct Failed(pub String);

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Self(format!("{:?}: {}", status.code(), status.message()))
    }
}

fn failed(error: impl std::fmt::Display) -> Failed {
    Failed(error.to_string())
}

/// What a member met that is for the caller to act on.
#[derive(Debug, PartialEq)]
pub enum Said {
    /// The header is accepted; chunks are wanted from here on.
    UploadWanted(u32),
    /// The round is published.
    Released(u32),
    /// The attempt failed.
    AttemptEnded(String),
}

/// A member with an open session.
pub struct Member {
    pub index: usize,
    pub identity: Arc<Identity>,
    pub client: AggregationClient<Channel>,
    pub wire: Arc<Wire>,
    plan: Arc<VerifiedPlan>,
    roster: Arc<VerifiedRoster>,
    say: mpsc::Sender<ClientMessage>,
    incoming: Streaming<CoordinatorMessage>,
    participant: Participant,
    pub round: u32,
    pub attempt: u32,
    /// This attempt's masked vector, once it exists.
    pub masked: Option<Arc<MaskedInput>>,
    /// Masking is work: so many members do it at once.
    pub masking: Option<Arc<Semaphore>>,
    /// What it keeps of what was published.
    pub kept: Kept,
}

/// What a member keeps of what the coordinator published.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Version of the wire contract that it speaks.
    pub version: u32,
    /// The newest announcement that it accepted.
    pub newest: Option<wire::SignedAnnouncement>,
    /// Releases, oldest first.
    pub releases: Vec<(u32, wire::SignedReleaseHead, Vec<u8>)>,
}

impl Member {
    /// Dials, opens a session and greets.
    pub async fn connect(consortium: &Consortium, index: usize, address: SocketAddr) -> Result<Self, Failed> {
        Self::connect_with(consortium, index, address, Kept::default()).await
    }

    /// The same, with what it has kept.
    pub async fn connect_with(
        consortium: &Consortium,
        index: usize,
        address: SocketAddr,
        kept: Kept,
    ) -> Result<Self, Failed> {
        Self::greet(consortium, index, address, kept, 0).await
    }

    /// The same with a clock that says so many Unix milliseconds; 0: it does not say.
    pub async fn connect_at(
        consortium: &Consortium,
        index: usize,
        address: SocketAddr,
        clock_ms: u64,
    ) -> Result<Self, Failed> {
        Self::greet(consortium, index, address, Kept::default(), clock_ms).await
    }

    async fn greet(
        consortium: &Consortium,
        index: usize,
        address: SocketAddr,
        kept: Kept,
        clock_ms: u64,
    ) -> Result<Self, Failed> {
        let (identity, wire) = (consortium.organizations[index].clone(), Arc::<Wire>::default());
        let (roster, plan) = (consortium.roster.clone(), consortium.plan.clone());
        let channel = channel(address, &identity, roster.clone(), wire.clone()).await.map_err(failed)?;
        let mut client = AggregationClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let (say, outgoing) = mpsc::channel(4);
        let hello = wire::Hello {
            protocol_version: kept.version,
            roster_digest: roster.digest().0.to_vec(),
            plan_digest: plan.digest().0.to_vec(),
            applied_round: kept.releases.last().map_or(0, |(round, ..)| *round),
            software: "generated".into(),
            newest: kept.newest.clone(),
            clock_ms,
        };
        say.send(ClientMessage { kind: Some(Say::Hello(hello)) }).await.map_err(failed)?;
        let mut incoming = client.session(ReceiverStream::new(outgoing)).await?.into_inner();
        match incoming.message().await? {
            Some(CoordinatorMessage { kind: Some(Heard::Welcome(_)) }) => {}
            other => return Err(Failed(format!("expected a welcome, got {other:?}"))),
        }
        let (participant, masked) = (Participant::Ended, None);
        let (round, attempt, masking) = (0, 0, None);
        Ok(Self {
            index,
            identity,
            client,
            wire,
            plan,
            roster,
            say,
            incoming,
            participant,
            round,
            attempt,
            masked,
            masking,
            kept,
        })
    }

    /// Opens a new session and goes on where this one was: what a client does that lost its connection.
    pub async fn reconnect(self, consortium: &Consortium, address: SocketAddr) -> Result<Self, Failed> {
        let mut next = Self::connect_with(consortium, self.index, address, self.kept).await?;
        next.participant = self.participant;
        (next.round, next.attempt, next.masked, next.masking) =
            (self.round, self.attempt, self.masked, self.masking);
        Ok(next)
    }

    /// What is done.
    pub fn plan(&self) -> &VerifiedPlan {
        &self.plan
    }

    /// What the coordinator says next.
    pub async fn hear(&mut self) -> Result<Heard, Failed> {
        let message = self.incoming.message().await?.ok_or_else(|| Failed("the session ended".into()))?;
        message.kind.ok_or_else(|| Failed("an empty message".into()))
    }

    /// Says something on the session.
    pub async fn say(&self, kind: Say) -> Result<(), Failed> {
        self.say.send(ClientMessage { kind: Some(kind) }).await.map_err(failed)
    }

    fn body(&self, step: Step, body: Vec<u8>) -> Say {
        let (round, attempt, step) = (self.round, self.attempt, step as u32);
        Say::Protocol(wire::ProtocolMessage { round, attempt, step, body })
    }

    /// Listens and answers honestly until there is something to decide.
    pub async fn go(&mut self) -> Result<Said, Failed> {
        loop {
            match self.hear().await? {
                Heard::Announcement(signed) => self.announced(&signed).await?,
                Heard::Protocol(message) => self.delivered(message).await?,
                Heard::UploadWanted(wanted) => return Ok(Said::UploadWanted(wanted.next_chunk)),
                Heard::Released(released) => return Ok(Said::Released(released.round)),
                Heard::AttemptEnded(ended) => return Ok(Said::AttemptEnded(ended.code)),
                Heard::Goodbye(goodbye) => return Err(Failed(goodbye.code)),
                // It keeps nothing of others and asks nothing of them: all members here are as new as it is.
                Heard::StateQueries(_) | Heard::StateStatements(_) => {}
                Heard::ReleasesWanted(wanted) => self.give_back(wanted.from_round),
                Heard::Welcome(_) | Heard::Receipt(_) | Heard::JobEnded(_) => {}
            }
        }
    }

    async fn announced(&mut self, signed: &wire::SignedAnnouncement) -> Result<(), Failed> {
        let announcement = Announcement::verify(signed, &self.roster, &self.plan).map_err(failed)?;
        if (announcement.round, announcement.attempt) == (self.round, self.attempt) {
            return Ok(());
        }
        if (announcement.round, announcement.attempt) < (self.round, self.attempt) {
            let (round, attempt) = (announcement.round, announcement.attempt);
            return Err(Failed(format!("attempt {round}.{attempt} was announced again")));
        }
        let facts = Arc::new(announcement.facts(&self.roster, &self.plan).map_err(failed)?);
        let ledger = LedgerHead { length: 0, salted_head: Digest([7; 32]) };
        let me = Position(self.index as u16);
        let key = self.identity.signing_key();
        let started = Participant::start(facts, me, key, ledger, &mut UnwrapErr(SysRng));
        let (participant, body) = started.map_err(failed)?;
        (self.participant, self.masked) = (participant, None);
        (self.round, self.attempt) = (announcement.round, announcement.attempt);
        self.kept.newest = Some(signed.clone());
        self.say(self.body(Step::Advertise, body)).await
    }

    async fn delivered(&mut self, message: wire::ProtocolMessage) -> Result<(), Failed> {
        let step = u8::try_from(message.step).ok().and_then(Step::from_number);
        let step = step.ok_or_else(|| Failed("an unknown step".into()))?;
        let identity = self.identity.clone();
        let key = identity.signing_key();
        let reply = self.participant.deliver(step, &message.body, key, &mut UnwrapErr(SysRng));
        let body = match reply.map_err(failed)? {
            Reply::Send(body) => body,
            Reply::UpdateWanted => {
                let _turn = match &self.masking {
                    Some(turns) => Some(turns.clone().acquire_owned().await.map_err(failed)?),
                    None => None,
                };
                let (plan, index) = (self.plan.clone(), self.index);
                let mut participant = std::mem::replace(&mut self.participant, Participant::Ended);
                let work = tokio::task::spawn_blocking(move || {
                    let masked = participant.mask(update(&plan, index), identity.signing_key());
                    masked.map(|masked| (participant, masked))
                });
                let (participant, masked) = work.await.map_err(failed)?.map_err(failed)?;
                self.participant = participant;
                let header = masked.header.clone();
                self.masked = Some(Arc::new(masked));
                header
            }
        };
        self.say(self.body(step, body)).await
    }

    /// A part of this attempt's upload.
    pub fn part(&self, index: u32) -> UploadPart {
        let masked = self.masked.as_ref().expect("a masked vector");
        let chunk = masked.chunks[index as usize].clone();
        UploadPart { round: self.round, attempt: self.attempt, index, chunk }
    }

    /// Uploads parts as they are; what the coordinator holds then.
    pub async fn send(&self, parts: Vec<UploadPart>) -> Result<u32, Status> {
        Ok(self.client.clone().upload(iter(parts)).await?.into_inner().chunks)
    }

    /// Uploads the whole vector from a chunk on, each chunk made when it is wanted; the bytes that this put on the wire.
    pub async fn upload(&self, from: u32) -> Result<u64, Failed> {
        let before = self.wire.sent.load(Ordering::Relaxed);
        let masked = self.masked.clone().ok_or_else(|| Failed("nothing to upload".into()))?;
        let (round, attempt, last) = (self.round, self.attempt, masked.chunks.len() as u32);
        let parts = iter(from..last).map(move |index| {
            let chunk = masked.chunks[index as usize].clone();
            UploadPart { round, attempt, index, chunk }
        });
        let receipt = self.client.clone().upload(parts).await?.into_inner();
        if receipt.chunks != last {
            return Err(Failed(format!("{} of {last} chunks are held", receipt.chunks)));
        }
        Ok(self.wire.sent.load(Ordering::Relaxed) - before)
    }

    /// A whole round; the bytes of the upload.
    pub async fn round(&mut self) -> Result<u64, Failed> {
        let mut uploaded = 0;
        loop {
            match self.go().await? {
                Said::UploadWanted(from) => uploaded += self.upload(from).await?,
                Said::Released(_) => return Ok(uploaded),
                Said::AttemptEnded(code) => return Err(Failed(format!("the attempt ended: {code}"))),
            }
        }
    }

    /// Keeps a published round, as a client does when it has applied it.
    pub async fn keep(&mut self, round: u32) -> Result<(), Failed> {
        let mut parts = self.client.releases(ReleasesRequest { from_round: round }).await?.into_inner();
        let mut kept: Option<(wire::SignedReleaseHead, Vec<u8>)> = None;
        while let Some(part) = parts.message().await? {
            match (part.kind, &mut kept) {
                (Some(release_part::Kind::Head(head)), None) => kept = Some((head, Vec::new())),
                (Some(release_part::Kind::Sum(bytes)), Some((_, sum))) => sum.extend_from_slice(&bytes),
                _ => break,
            }
        }
        let (head, sum) = kept.ok_or_else(|| Failed(format!("round {round} is not published")))?;
        self.kept.releases.push((round, head, sum));
        Ok(())
    }

    /// Gives kept releases back, from a round on.
    fn give_back(&self, from_round: u32) {
        let kept = self.kept.releases.clone().into_iter().filter(move |(round, ..)| *round >= from_round);
        let parts = kept.flat_map(|(_, head, sum)| {
            let sum: Vec<_> = sum.chunks(50_000).map(|part| release_part::Kind::Sum(part.to_vec())).collect();
            [release_part::Kind::Head(head)].into_iter().chain(sum)
        });
        let parts: Vec<_> = parts.map(|kind| wire::ReleasePart { kind: Some(kind) }).collect();
        let mut client = self.client.clone();
        tokio::spawn(async move { client.restore(iter(parts)).await });
    }

    /// Reads the published sum of a round; its packed bytes.
    pub async fn sum(&mut self, round: u32) -> Result<Vec<u8>, Failed> {
        let mut parts = self.client.releases(ReleasesRequest { from_round: round }).await?.into_inner();
        let (mut heads, mut sum) = (0, Vec::new());
        while let Some(part) = parts.message().await? {
            match part.kind {
                Some(release_part::Kind::Head(_)) => heads += 1,
                Some(release_part::Kind::Sum(bytes)) if heads == 1 => sum.extend_from_slice(&bytes),
                _ => {}
            }
        }
        Ok(sum)
    }
}
