//! Step 3: everything agreed, ready to mask.

use alloc::{format, vec::Vec};

use super::{Adverts, LedgerHead, Masked, Position, Refusal, advertised::Keys, holding::Holding};
use crate::{
    digest::Digest,
    mask::{MaskSeed, Sign},
    ring::{self, RingVector},
    secagg::{
        CHUNK_ELEMENTS, chunk_digest,
        keys::{pair_mask, self_mask},
        messages::{InputHeader, input_body},
    },
    sign::SigningKey,
    workers::{OneThread, Workers},
};

/// A client that has everything it needs to mask its vector.
#[derive(Debug)]
pub struct Ready {
    holding: Holding,
    /// The masks of this attempt, and which way each goes. Used up by [`mask`](Self::mask).
    masks: Vec<(Sign, MaskSeed)>,
}

/// A masked vector, ready to be recorded and sent: nothing of it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskedInput {
    /// The body of step 3: signed header and chunk digests. Goes first.
    pub header: Vec<u8>,
    /// The packed chunks, in order.
    pub chunks: Vec<Vec<u8>>,
}

impl Ready {
    /// Derives the masks; the keys they come from are wiped on the way out.
    pub(super) fn new(holding: Holding, keys: Keys, adverts: &Adverts) -> Self {
        let (attempt, me) = (&holding.seat.attempt, holding.seat.me);
        let mut masks = Vec::with_capacity(holding.openings.len());
        if wall!(attempt, self_mask) {
            let seed = self_mask(attempt, &holding.step2, me, keys.own.secret());
            masks.push((Sign::Add, seed));
        }
        for (peer, _) in holding.openings.iter().filter(|(peer, _)| *peer != me) {
            if let Some(advert) = adverts.of(*peer) {
                let peer = (*peer, &advert.mask);
                masks.push(pair_mask(attempt, &holding.step2, (me, &keys.mask), peer));
            }
        }
        Self { holding, masks }
    }

    /// Masks the update: one vector, once. The masks are gone afterwards.
    ///
    /// # Errors
    ///
    /// [`Refusal::Update`] when the update's ring or length is not the plan's. The attempt is over for this
    /// client then, as after any refusal.
    pub fn mask(self, update: RingVector, key: &SigningKey) -> Result<(Masked, MaskedInput), Refusal> {
        self.mask_on(update, key, &OneThread)
    }

    /// [`mask`](Self::mask) with the hands of `workers`: split by coordinate, a chunk a piece. However many there are,
    /// the bytes are the same.
    ///
    /// # Errors
    ///
    /// As [`mask`](Self::mask).
    pub fn mask_on(
        self,
        update: RingVector,
        key: &SigningKey,
        workers: &dyn Workers,
    ) -> Result<(Masked, MaskedInput), Refusal> {
        let Self { holding, masks } = self;
        let attempt = &holding.seat.attempt;
        let params = attempt.params();
        let (width, length) = (update.width(), update.len());
        if width != params.ring() || u32::try_from(length) != Ok(params.dimension()) {
            return Err(Refusal::Update(format!(
                "update has {length} elements of {width}, the plan wants {} of {}",
                params.dimension(),
                params.ring(),
            )));
        }
        let mut values = update.into_values();
        let pieces = (0..).step_by(CHUNK_ELEMENTS).zip(values.chunks_mut(CHUNK_ELEMENTS)).collect();
        // A chunk at a time, so that the vector passes through the cache once.
        let chunks = workers.map(pieces, &|(first, chunk): (u64, &mut [u32])| {
            for (sign, seed) in &masks {
                seed.apply(*sign, first, chunk);
            }
            let mut packed = Vec::with_capacity(width.packed_len(chunk.len()));
            ring::pack(width, chunk, &mut packed);
            (chunk_digest(&packed), packed)
        });
        let (digests, chunks): (Vec<Digest>, Vec<Vec<u8>>) = chunks.into_iter().unzip();
        drop(masks);
        let header = input_body(attempt, holding.seat.me, &holding.step2, &digests, key);
        let own = InputHeader::front(&header).to_vec();
        Ok((Masked { holding, header: own }, MaskedInput { header, chunks }))
    }

    /// Answers a quorum's votes without having sent a vector.
    ///
    /// # Errors
    ///
    /// Checks V1 to V6 of the manual.
    pub fn on_votes(self, delivery: &[u8], key: &SigningKey) -> Result<Vec<u8>, Refusal> {
        self.holding.answer(None, delivery, key)
    }

    /// What every advertised member, this one included, said about its ledger.
    pub fn ledger_heads(&self) -> &[(Position, LedgerHead)] {
        &self.holding.ledgers
    }

    /// The hash of step 2: what the masks are bound to.
    pub fn step2_hash(&self) -> &Digest {
        &self.holding.step2
    }

    #[cfg(feature = "test-walls")]
    pub(in crate::secagg) fn copy(&self) -> Self {
        let masks = self.masks.iter().map(|(sign, seed)| (*sign, seed.copy())).collect();
        Self { holding: self.holding.copy(), masks }
    }
}
