//! One upload: the chunks of a masked input, in order, each acknowledged before the next is taken.
//!
//! Memory does not grow with the number of uploads that the coordinator could not keep up with: only so many are read at
//! full speed, the others wait in their connections. An upload whose chunks take long to arrive is limited by its own line:
//! it gives its turn back and is read beside the others from then on, one chunk in memory, so that slow lines, or members
//! that trickle, hold nobody up.

use std::{sync::Arc, time::Duration};

use consilium_proto::wire::UploadPart;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout},
};
use tonic::{Status, Streaming};

use super::{
    aggregation::unreadable,
    engine::Handle,
    gate::{Account, Gate, stopping},
    refusals::code,
    sizes::Sizes,
};
use crate::{limits::seconds, round::HashedPart};

/// How long one chunk may take to arrive in an upload that keeps its turn, and all of them together.
const TURN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

pub(super) struct Upload {
    pub(super) engine: Handle,
    pub(super) gate: Arc<Gate>,
    pub(super) sizes: Sizes,
    pub(super) account: Arc<Account>,
    pub(super) parts: Streaming<UploadPart>,
}

/// What the client is told, and the code if it is to be counted as refused.
type Ended = (Option<&'static str>, Status);

fn refused(code: &'static str, status: impl FnOnce(String) -> Status, why: &str) -> Ended {
    (Some(code), status(format!("{code}: {why}")))
}

impl Upload {
    /// Takes chunks until the last; the number that is held then.
    pub(super) async fn run(mut self) -> Result<u32, Ended> {
        let mut number = 0;
        self.account.upload.send_modify(|newest| {
            *newest += 1;
            number = *newest;
        });
        let mut newest = self.account.upload.subscribe();
        let mut draining = self.gate.draining();
        tokio::select! {
            ended = self.take_all() => ended,
            _ = newest.wait_for(|newest| *newest != number) => {
                // Not a fault of the line: the client is to leave it at that.
                Err(refused(code::UPLOAD_REPLACED, Status::failed_precondition, "a newer upload goes on"))
            }
            () = stopping(&mut draining) => Err((None, Status::unavailable("the coordinator is stopping"))),
        }
    }

    async fn take_all(&mut self) -> Result<u32, Ended> {
        let mut turn = Some(self.turn().await?);
        let mut patience = TURN.1;
        let mut last: Option<u32> = None;
        loop {
            let Some(part) = self.next(&mut turn, &mut patience).await? else { break };
            if last.is_some_and(|last| part.index <= last) {
                let why = "a chunk that this upload has brought already";
                return Err(refused(code::CHUNK_REPEATED, Status::failed_precondition, why));
            }
            last = Some(part.index);
            // Hashed here, so that the thread that owns the job is not kept busy by it.
            let part = HashedPart::from(part);
            // What was handed over is finished, even if this call is cut meanwhile: its turn goes with it.
            let (back, taken) = self.engine.chunk(self.account.id.clone(), part, turn.take()).await;
            turn = back;
            taken?;
        }
        let held = last.map_or(0, |last| last.saturating_add(1));
        if held == self.sizes.chunks() {
            return Ok(held);
        }
        let why = "the upload ended before its last chunk; begin again where it is wanted";
        Err(refused(code::CHUNKS_MISSING, Status::aborted, why))
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Ended> {
        let turn = self.gate.uploads.clone().acquire_owned().await;
        turn.map_err(|_| (None, Status::unavailable("the coordinator is stopping")))
    }

    /// The next chunk; gives the turn back if it takes too long to arrive.
    async fn next(
        &mut self,
        turn: &mut Option<OwnedSemaphorePermit>,
        patience: &mut Duration,
    ) -> Result<Option<UploadPart>, Ended> {
        let (stall, began) = (seconds(self.gate.limits.stall_s), Instant::now());
        let long = TURN.0.min(*patience);
        let arrived = timeout(stall, async {
            let mut next = std::pin::pin!(self.parts.message());
            tokio::select! {
                part = next.as_mut() => return part,
                () = sleep(long) => drop(turn.take()),
            }
            next.await
        });
        let arrived = arrived.await;
        *patience = patience.saturating_sub(began.elapsed());
        match arrived {
            Err(_) => {
                let why = "no whole chunk arrived in time";
                Err(refused(code::UPLOAD_STALLED, Status::deadline_exceeded, why))
            }
            Ok(Ok(part)) => Ok(part),
            Ok(Err(status)) => Err((unreadable(&status), status)),
        }
    }
}
