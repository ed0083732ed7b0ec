//! What a round and a session need of an aggregation protocol, and nothing more.
//!
//! The coordinator's round and the client's session carry messages, wait, persist and repeat. Which protocol's messages they carry is
//! behind these four traits, so that another one can stand beside [`secagg`](crate::secagg) without touching round, session or
//! wire. What all protocols share is the [`Attempt`] (who takes part, under which keys, with which numbers, in which context), chunks
//! of at most [`CHUNK_ELEMENTS`](crate::secagg::CHUNK_ELEMENTS), and the vocabulary of [`Step`]s: a protocol goes through some of
//! them in order, begins with [`Step::Advertise`] or [`Step::Input`], and the plan's deadlines and the wire's step numbers are
//! those of the steps that it has. A one-shot protocol has two, [`Step::Input`] and [`Step::Unmask`].
//!
//! What every implementation must keep, because round and session rely on it:
//!
//! - both machines are functions of what they were given, in order; replaying it gives the same machine;
//! - a participant says one word a step, masks one vector, and offers no way to say a second;
//! - a collector names only members whose proof convicts them in anybody's eyes.

use alloc::{boxed::Box, collections::BTreeSet, string::String, sync::Arc, vec::Vec};
use core::fmt;

use rand_core::CryptoRng;

use crate::{
    digest::Digest,
    ring::{self, RingVector, STREAMS},
    secagg::{
        Attempt, LedgerHead, Position, SetupError, Step, UnmaskError,
        client::{MaskedInput, Reply},
    },
    sign::SigningKey,
    workers::Workers,
};

/// A protocol: how both sides of an attempt begin.
pub trait Protocol: fmt::Debug + Send + Sync {
    /// The coordinator's side.
    fn collect(&self, attempt: Arc<Attempt>) -> Box<dyn Collecting>;

    /// A member's side.
    ///
    /// # Errors
    ///
    /// When `me` is not in the cohort, `key` is not the roster's, or `rng` is broken.
    fn join(
        &self,
        attempt: Arc<Attempt>,
        me: Position,
        key: &SigningKey,
        ledger: LedgerHead,
        rng: &mut dyn CryptoRng,
    ) -> Result<Joined, SetupError>;

    /// Whether members see each other's signed ledgers ([`Participating::ledger_heads`]), keep them, and so can tell one whose state was
    /// restored from an old copy. Where they do not, nobody holds anything of anybody, and asking would cost `n²` signatures
    /// for nothing.
    fn carries_ledgers(&self) -> bool {
        true
    }
}

/// A member's side at its beginning.
#[derive(Debug)]
pub struct Joined {
    /// The machine.
    pub participant: Box<dyn Participating>,
    /// Its first word, if it has one before anything is delivered.
    pub word: Option<(Step, Vec<u8>)>,
}

/// A member's side of one attempt. See [`Participant`](crate::secagg::client::Participant).
pub trait Participating: fmt::Debug + Send {
    /// Takes the delivery that opens `step` and gives this member's word in that step, or asks for the update.
    ///
    /// # Errors
    ///
    /// [`Declined::Refused`] ends the member's part; [`Declined::OutOfTurn`] leaves it as it was.
    fn deliver(
        &mut self,
        step: Step,
        delivery: &[u8],
        key: &SigningKey,
        rng: &mut dyn CryptoRng,
    ) -> Result<Reply, Declined>;

    /// Whether [`mask`](Self::mask) is what comes next.
    fn wants_update(&self) -> bool;

    /// Masks the update with the hands of `workers`; the bytes do not depend on them.
    ///
    /// # Errors
    ///
    /// As [`deliver`](Self::deliver).
    fn mask(
        &mut self,
        update: RingVector,
        key: &SigningKey,
        workers: &dyn Workers,
    ) -> Result<MaskedInput, Declined>;

    /// What every member said about its ledger, once this member knows; never, in a protocol that does not carry it.
    fn ledger_heads(&self) -> Option<&[(Position, LedgerHead)]>;
}

/// Why a member does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declined {
    /// A step that is not next: nothing was read.
    OutOfTurn,
    /// What was delivered is not good, or the update does not have the plan's shape.
    Refused {
        /// The number of the check in the manual's table.
        check: &'static str,
        /// In words.
        why: String,
        /// What convicts a member, for [`Collecting::complain`]; empty if nothing does.
        complaint: Vec<u8>,
    },
}

/// The coordinator's side of one attempt. See [`Collector`](crate::secagg::coordinator::Collector).
pub trait Collecting: fmt::Debug + Send {
    /// The attempt's public facts.
    fn attempt(&self) -> &Arc<Attempt>;

    /// The step being collected; the last one when the attempt has ended.
    fn step(&self) -> Step;

    /// Who may speak in this step.
    fn expected(&self) -> &BTreeSet<Position>;

    /// Who has spoken in this step; in [`Step::Input`], whose vector is complete.
    fn received(&self) -> &BTreeSet<Position>;

    /// Fewest members with which the step can be closed.
    fn needed(&self) -> usize;

    /// Takes a body that `from` sent in `step`; the same one again is fine.
    ///
    /// # Errors
    ///
    /// Why it counts for nothing.
    fn accept(&mut self, from: Position, step: Step, body: &[u8]) -> Result<(), Unaccepted>;

    /// Judges a member's complaint; what it proves is among the [`proofs`](Self::proofs) then. Whether it convicts anybody.
    fn complain(&mut self, from: Position, complaint: &[u8]) -> bool;

    /// What convicts members, in order, once a member and check.
    fn proofs(&self) -> Vec<Accusation<'_>>;

    /// The digest that `from` committed to for a chunk, once its header is accepted.
    fn chunk_digest(&self, from: Position, index: u32) -> Option<Digest>;

    /// Says that every chunk of `from` is stored, durably, and matches its digest.
    fn input_complete(&mut self, from: Position);

    /// Freezes the step's set and opens the next step, or ends the attempt: [`sum`](Self::sum) has the result then.
    ///
    /// # Errors
    ///
    /// When the attempt has failed; [`proofs`](Self::proofs) say through whom, if anybody.
    fn close(&mut self) -> Result<(), Broken>;

    /// The body that opens the step for `to`, the same however often it is asked for.
    fn delivery(&self, to: Position) -> Option<Vec<u8>>;

    /// Whose vectors are in the sum, sorted, once that is fixed.
    fn survivors(&self) -> &[Position];

    /// What takes the masks off, once the last step is closed.
    fn sum(&self) -> Option<Arc<dyn Unmasking>>;
}

/// Why a body counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unaccepted {
    /// The number of the check in the manual's table.
    pub check: &'static str,
    /// Whether its sender broke the protocol, as opposed to being late.
    pub misbehaved: bool,
}

/// An attempt that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// Whom evidence convicts, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accusation<'a> {
    /// The member.
    pub culprit: Position,
    /// The number of the check in the manual's table.
    pub check: &'static str,
    /// What convicts it.
    pub evidence: &'a [u8],
}

/// What turns the masked vectors into their sum. See [`Revealed`](crate::secagg::Revealed).
pub trait Unmasking: fmt::Debug + Send + Sync {
    /// The attempt's public facts.
    fn attempt(&self) -> &Arc<Attempt>;

    /// Whose vectors the sum is of, sorted.
    fn survivors(&self) -> &[Position];

    /// Takes the masks off the sum of all survivors' chunks `index`, and reduces it.
    fn remove_masks(&self, index: u32, sum: &mut [u32]);

    /// What lets an auditor do it again; published with the sum.
    fn public_record(&self) -> Vec<u8>;
}

impl dyn Unmasking + '_ {
    /// Computes chunk `index` of the sum into `out`. `input` is asked once for each survivor, in order, for that survivor's packed
    /// chunk, to be written into the (empty) buffer given.
    ///
    /// # Errors
    ///
    /// When there is no such chunk, `input` fails, or a chunk is not well packed.
    pub fn unmask_chunk<E>(
        &self,
        index: u32,
        input: impl FnMut(Position, &mut Vec<u8>) -> Result<(), E>,
        out: &mut Vec<u32>,
    ) -> Result<(), UnmaskError<E>> {
        self.sum_chunk(index, input, out)?;
        self.remove_masks(index, out);
        Ok(())
    }

    /// The first half of `unmask_chunk`: the survivors' chunks `index` added up, their masks still
    /// on. [`remove_masks`](Unmasking::remove_masks) is the other half, and may run on another thread.
    ///
    /// # Errors
    ///
    /// As `unmask_chunk`.
    pub fn sum_chunk<E>(
        &self,
        index: u32,
        mut input: impl FnMut(Position, &mut Vec<u8>) -> Result<(), E>,
        out: &mut Vec<u32>,
    ) -> Result<(), UnmaskError<E>> {
        let params = self.attempt().params();
        let elements = params.chunk_elements(index);
        if elements == 0 {
            return Err(UnmaskError::NoChunk { index });
        }
        out.clear();
        out.resize(elements, 0);
        let bad = |survivor| move |error| UnmaskError::Chunk { survivor, index, error };
        let mut packed = [const { Vec::new() }; STREAMS];
        for some in self.survivors().chunks(STREAMS) {
            for (survivor, packed) in some.iter().zip(&mut packed) {
                packed.clear();
                input(*survivor, packed).map_err(UnmaskError::Input)?;
                ring::check_packed(params.ring(), packed, elements).map_err(bad(*survivor))?;
            }
            let packed = packed.each_ref().map(Vec::as_slice);
            // Neither can fail: there is one at least, and each was checked as it came.
            let (Some(first), Some(packed)) = (some.first(), packed.get(..some.len())) else { break };
            ring::unpack_add_all(params.ring(), packed, out).map_err(bad(*first))?;
        }
        Ok(())
    }
}
