//! What each request does to the machine, and what it is answered.

use consilium_proto::wire::{ActReply, JobStatus, SignedReleaseHead};
use tokio::sync::oneshot;
use tonic::Status;

use super::{
    Core, Session, now_ms,
    queue::{Published, Request, Said, Taken, Turn},
};
use crate::{
    round::{ActRefused, Effect, Input},
    store::{Store, StoreError},
};

/// What is answered once a batch is durable.
pub(super) enum Reply {
    Returned(oneshot::Sender<Result<(), &'static str>>, Result<(), &'static str>),
    Done(oneshot::Sender<()>),
    Chunk(oneshot::Sender<(Turn, Taken)>, (Turn, Taken)),
    Act(oneshot::Sender<Result<ActReply, ActRefused>>, Result<ActReply, ActRefused>),
}

impl<S: Store> Core<S> {
    pub(super) fn request(&mut self, request: Request, effects: &mut Vec<Effect>, replies: &mut Vec<Reply>) {
        let now = now_ms();
        match request {
            Request::Said(said, done) => {
                match said {
                    Said::Attached { from, session, out, alive } => {
                        // A second session of one member ends the first: the newer one is the live one.
                        self.sessions.insert(from, Session { number: session, out, _alive: alive });
                    }
                    Said::Input { session, input } => {
                        if self.is_current(&input, session) {
                            effects.extend(self.job.handle(input, now));
                        }
                    }
                    Said::Detached { from, session } => {
                        if self.sessions.get(&from).is_none_or(|current| current.number == session) {
                            self.sessions.remove(&from);
                            effects.extend(self.job.handle(Input::Gone { from }, now));
                        }
                    }
                }
                replies.push(Reply::Done(done));
            }
            Request::Chunk { from, part, turn, done } => {
                let taken = match self.job.handle_chunk(&from, part, now) {
                    Ok(more) => {
                        effects.extend(more);
                        Ok(())
                    }
                    Err(refused) => Err((Some(refused.0), Status::failed_precondition(refused.0))),
                };
                replies.push(Reply::Chunk(done, (turn, taken)));
            }
            Request::ReleaseFrom { round, reply } => {
                let release = published(&self.store, round).unwrap_or_else(|error| {
                    tracing::error!(%error, round, "a published round cannot be read");
                    None
                });
                drop(reply.send(release));
            }
            Request::SumPart { round, offset, bytes, reply } => {
                let mut part = Vec::new();
                let read = self.store.read_sum(round, offset, bytes, &mut part);
                drop(reply.send(read.map(|()| part).map_err(|error| {
                    tracing::error!(%error, round, "a published sum cannot be read");
                    Status::data_loss("the sum cannot be read")
                })));
            }
            Request::GaveAll { from, done } => {
                effects.extend(self.job.gave_all(&from, now));
                replies.push(Reply::Done(done));
            }
            Request::Returned { from, head, sum, reply } => {
                let taken = self.job.returned(&from, head, sum, now);
                replies.push(Reply::Returned(reply, taken.map(|more| effects.extend(more))));
            }
            Request::Status(reply) => {
                let _ = reply.send(self.status(now));
            }
            Request::Log { from, reply } => drop(reply.send(self.recent.from(from))),
            Request::Act { caller, request, reply } => {
                let signed = request.action.unwrap_or_default();
                let acted = self.job.act(&signed, &caller, request.dry_run, now).map(|acted| {
                    effects.extend(acted.effects);
                    ActReply { number: acted.number, effect: acted.effect }
                });
                replies.push(Reply::Act(reply, acted));
            }
            Request::Rounds(reply) => drop(reply.send(self.job.rounds())),
            Request::Evidence { index, reply } => {
                let _ = reply.send(self.job.evidence().get(index).map(|evidence| evidence.to_wire()));
            }
            Request::Cost { attempts, cost } => {
                self.job.note_cost(attempts, cost);
            }
            Request::AccountAgain => self.accounting = false,
            Request::Stop => {}
        }
    }

    /// What the job says, and what only the driver knows.
    fn status(&self, now_ms: u64) -> JobStatus {
        let mut status = self.job.status(now_ms);
        (status.bytes_in, status.bytes_out) = self.shared.traffic.read();
        for member in &mut status.members {
            (member.bytes_in, member.bytes_out) = self.shared.gate.bytes_of(&member.id);
        }
        status.health = Some(self.shared.machine.health(now_ms));
        status.problems = self.shared.gate.refusals.problems();
        status
    }
    fn is_current(&self, input: &Input, session: u64) -> bool {
        let from = match input {
            Input::Hello { from, .. }
            | Input::Protocol { from, .. }
            | Input::Refusal { from, .. }
            | Input::Evaluation { from, .. }
            | Input::StateQuery { from, .. }
            | Input::StateStatements { from, .. } => from,
            _ => return false,
        };
        self.sessions.get(from).is_some_and(|current| current.number == session)
    }
}

fn published(store: &impl Store, from: u32) -> Result<Option<Published>, StoreError> {
    let Some(round) = store.releases_from(from)?.first().copied() else { return Ok(None) };
    Ok(store.release_head(round)?.map(|row| {
        let head = SignedReleaseHead { head: row.head, signature: row.signature };
        Published { round: row.round, head, sum_bytes: row.sum_bytes }
    }))
}
