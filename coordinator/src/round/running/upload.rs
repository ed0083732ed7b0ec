//! Masked inputs, chunk by chunk.

use consilium_crypto::secagg::{Position, Step};
use consilium_proto::{
    ids::Id,
    wire::{self, coordinator_message::Kind},
};

use super::Running;
use crate::round::{ChunkRefused, Effect, Event, HashedPart};

impl Running {
    /// The store's word on how many chunks of a masked input it holds: the upload goes on from there.
    pub(crate) fn held(&mut self, from: &Id, chunks: u32, effects: &mut Vec<Effect>) {
        let Some(position) = self.position(from) else { return };
        if self.collector.chunk_digest(position, 0).is_none() || self.collector.received().contains(&position)
        {
            return;
        }
        self.next_chunk.insert(position, chunks);
        if chunks >= self.params().chunk_count() {
            self.stored(from, position, effects);
        } else {
            let (round, attempt) = (self.round, self.attempt);
            let wanted = wire::UploadWanted { round, attempt, next_chunk: chunks };
            effects.push(Effect::Send { to: from.clone(), message: Kind::UploadWanted(wanted) });
        }
    }

    pub(crate) fn chunk(
        &mut self,
        from: &Id,
        HashedPart { part, digest }: HashedPart,
        effects: &mut Vec<Effect>,
    ) -> Result<(), ChunkRefused> {
        if !self.is(part.round, part.attempt) || self.step() != Step::Input {
            return Err(ChunkRefused("no-attempt"));
        }
        let position = self.position(from).ok_or(ChunkRefused("not-in-cohort"))?;
        let next = *self.next_chunk.get(&position).ok_or(ChunkRefused("header-first"))?;
        if part.index < next {
            return Ok(());
        }
        if part.index > next {
            return Err(ChunkRefused("out-of-order"));
        }
        let expected =
            self.collector.chunk_digest(position, part.index).ok_or(ChunkRefused("past-the-end"))?;
        if part.chunk.len() != self.params().chunk_len(part.index) {
            return Err(ChunkRefused("wrong-length"));
        }
        if digest != expected {
            return Err(ChunkRefused("not-as-announced"));
        }
        let (round, attempt) = (self.round, self.attempt);
        effects.push(Effect::PutChunk { round, attempt, from: from.clone(), index: next, bytes: part.chunk });
        self.next_chunk.insert(position, next + 1);
        if next + 1 == self.params().chunk_count() {
            self.stored(from, position, effects);
        }
        Ok(())
    }

    fn stored(&mut self, from: &Id, position: Position, effects: &mut Vec<Effect>) {
        let bytes = self.input_bytes();
        let (round, attempt) = (self.round, self.attempt);
        effects.push(Effect::SyncInput { round, attempt, from: from.clone() });
        effects.push(self.record(Event::Stored { from: from.clone(), bytes }));
        effects.push(self.receipt(from, Step::Input));
        self.collector.input_complete(position);
        self.uploaded += bytes;
    }

    fn input_bytes(&self) -> u64 {
        (0..self.params().chunk_count()).map(|index| self.params().chunk_len(index) as u64).sum()
    }

    /// Bytes of masked inputs that were received whole.
    pub(crate) fn uploaded(&self) -> u64 {
        self.uploaded
    }
}
