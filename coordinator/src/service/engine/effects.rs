//! Persist, then speak: the machine's effects, carried out.

use std::num::NonZeroUsize;

use consilium_proto::wire::CoordinatorMessage;

use super::{Core, now_ms};
#[cfg(feature = "test-hooks")]
use crate::service::hook::durable;
use crate::{
    round::{Aggregation, Effect, Event, Input, Publication},
    store::{NewEvent, ReleaseRow, Store, StoreError},
};

/// Where test builds may die.
#[cfg(not(feature = "test-hooks"))]
fn durable<T>(_: &[NewEvent], write: impl FnOnce() -> T) -> T {
    write()
}

impl<S: Store> Core<S> {
    /// Executes effects: all that must be durable first, in one commit, then what is said, then what comes back as
    /// further input.
    pub(super) fn execute(&mut self, effects: Vec<Effect>) -> Result<(), StoreError> {
        let mut todo = effects;
        while !todo.is_empty() {
            let (mut records, mut sends, mut later) = (Vec::new(), Vec::new(), Vec::new());
            for effect in todo {
                match effect {
                    Effect::Record { round, attempt, event } => {
                        if let Event::Failed { code, culprits, .. } = &event {
                            tracing::warn!(round, attempt, code, ?culprits, "attempt failed");
                        }
                        if let Event::Blamed { culprit, check, .. } = &event {
                            tracing::warn!(round, attempt, %culprit, check, "member convicted");
                        }
                        records.push(self.new_event(round, attempt, &event));
                    }
                    Effect::PutChunk { round, attempt, from, index, bytes } => {
                        self.store.put_chunk(round, attempt, &from, index, &bytes)?;
                    }
                    Effect::SyncInput { round, attempt, from } => {
                        self.store.sync_input(round, attempt, &from)?
                    }
                    Effect::Publish(publication) => {
                        let Publication { round, attempt, event, .. } = publication.as_ref();
                        records.push(self.new_event(*round, *attempt, event));
                        let row = ReleaseRow {
                            round: publication.round,
                            head: publication.head.head,
                            signature: publication.head.signature,
                            sum: publication.sum,
                        };
                        let records = std::mem::take(&mut records);
                        durable(&records, || self.store.put_release(&records, &row))?;
                        tracing::info!(round = publication.round, attempt = publication.attempt, "released");
                    }
                    Effect::Refused { from, code } => {
                        self.shared.gate.refusals.note(code, Some(&from), "a message of the protocol");
                    }
                    Effect::Send { .. } | Effect::Close { .. } => sends.push(effect),
                    Effect::AskUpload { .. } | Effect::Aggregate(_) | Effect::DropInputs { .. } => {
                        later.push(effect)
                    }
                }
            }
            if !records.is_empty() {
                durable(&records, || self.store.append(&records))?;
            }
            for effect in sends {
                self.speak(effect);
            }
            todo = Vec::new();
            for effect in later {
                todo.extend(self.come_back(effect)?);
            }
        }
        Ok(())
    }

    fn new_event(&mut self, round: u32, attempt: u32, event: &Event) -> NewEvent {
        let at_ms = now_ms();
        self.recent.note(round, attempt, at_ms, event);
        NewEvent { round, attempt, kind: event.kind().to_owned(), body: event.encode(), at_ms }
    }

    fn speak(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, message } => {
                let Some(session) = self.sessions.get(&to) else { return };
                let message = CoordinatorMessage { kind: Some(message) };
                if session.out.try_send(Box::new(Ok(message))).is_err() {
                    // It does not read: close, so that it comes back and is told where the round stands.
                    self.sessions.remove(&to);
                }
            }
            Effect::Close { to } => drop(self.sessions.remove(&to)),
            _ => {}
        }
    }

    fn come_back(&mut self, effect: Effect) -> Result<Vec<Effect>, StoreError> {
        Ok(match effect {
            Effect::AskUpload { from, round, attempt } => {
                let chunks = self.store.chunks_held(round, attempt, &from)?;
                self.job.handle(Input::Held { from, round, attempt, chunks }, now_ms())
            }
            Effect::Aggregate(aggregation) => {
                let (round, attempt) = (aggregation.round, aggregation.attempt);
                crate::memory::give_back();
                let sum = self.aggregate(&aggregation);
                self.job.handle(Input::Summed { round, attempt, sum }, now_ms())
            }
            Effect::DropInputs { round, attempt } => {
                self.store.drop_attempt_inputs(round, attempt)?;
                Vec::new()
            }
            _ => Vec::new(),
        })
    }

    /// The exact ring sum, packed, by all processors there are.
    fn aggregate(&self, work: &Aggregation) -> Result<Vec<u8>, String> {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        work.sum(threads, |id, index, out| {
            self.store.read_chunk(work.round, work.attempt, id, index, out).map_err(|e| e.to_string())
        })
    }
}
