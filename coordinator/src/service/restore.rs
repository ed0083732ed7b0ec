//! Releases that come back from a member: one sum in memory at a time, and not more at once than uploads.

use std::sync::Arc;

use consilium_proto::{
    ids::Id,
    wire::{ReleasePart, SignedReleaseHead, release_part},
};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::{engine::Handle, gate::Gate, refusals::code};
use crate::limits::seconds;

pub(super) struct Restore {
    pub(super) engine: Handle,
    pub(super) gate: Arc<Gate>,
    pub(super) sum_bytes: usize,
    pub(super) id: Id,
    pub(super) parts: Streaming<ReleasePart>,
}

impl Restore {
    /// Takes releases until the last; how many there were. Whatever ends it, the next member is asked for what is still missing.
    pub(super) async fn run(mut self) -> Result<u32, Status> {
        let taken = self.take_all().await;
        self.engine.gave_all(self.id.clone()).await?;
        taken
    }

    async fn take_all(&mut self) -> Result<u32, Status> {
        let turn = self.gate.uploads.clone().acquire_owned().await;
        let _turn = turn.map_err(|_| Status::unavailable("the coordinator is stopping"))?;
        let (mut taken, mut current): (u32, Option<(SignedReleaseHead, Vec<u8>)>) = (0, None);
        while let Some(part) = self.part().await? {
            match part.kind {
                Some(release_part::Kind::Head(head)) => current = Some((head, Vec::new())),
                Some(release_part::Kind::Sum(bytes)) => {
                    let out_of_place =
                        || Status::invalid_argument("a sum without a head, or longer than the plan's");
                    let (_, sum) = current.as_mut().ok_or_else(out_of_place)?;
                    if bytes.len() > self.sum_bytes.saturating_sub(sum.len()) {
                        return Err(out_of_place());
                    }
                    sum.extend_from_slice(&bytes);
                }
                None => {}
            }
            if current.as_ref().is_some_and(|(_, sum)| sum.len() == self.sum_bytes)
                && let Some((head, sum)) = current.take()
            {
                match self.engine.returned(self.id.clone(), head, sum).await? {
                    Ok(()) => taken += 1,
                    Err(why) => return Err(Status::failed_precondition(why)),
                }
            }
        }
        Ok(taken)
    }

    async fn part(&mut self) -> Result<Option<ReleasePart>, Status> {
        match timeout(seconds(self.gate.limits.stall_s), self.parts.message()).await {
            Ok(part) => part,
            Err(_) => {
                let why = "no part of a release arrived in time";
                self.gate.refusals.note(code::UPLOAD_STALLED, Some(&self.id), why);
                Err(Status::deadline_exceeded(why))
            }
        }
    }
}
