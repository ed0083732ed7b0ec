//! The collecting side: takes members' bodies, closes steps, and says what each member is to be shown.
//!
//! A [`Collector`] is a function of the bodies it accepted and the calls made, in order: feeding the same
//! ones to a fresh collector gives the same state, which is how a coordinator recovers from a crash. It
//! verifies everything it passes on, so that what a client refuses to see can only come from a coordinator
//! that is not this one. It holds no secret until a quorum has answered, and then only what everybody may
//! know.
//!
//! It does not decide *when* to close a step, keeps no chunk, and knows no time.

mod fault;
mod phases;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};

pub use fault::{Failure, Fault, Why};
use phases::{Advertise, Phase};

use super::{
    Attempt, Position, Revealed, Step,
    blame::{Dismissed, accuser, judge_by},
    evidence::{self, Conviction, Offence, Proof},
    messages::{authenticate, message_of, signed_part},
};
use crate::digest::Digest;

/// Every body accepted: its digest, to tell a repetition from a second word, and what its sender signed of it, to prove the
/// second.
#[derive(Debug, Default)]
struct Words(BTreeMap<(Step, Position), (Digest, Vec<u8>)>);

impl Words {
    fn is(&self, step: Step, from: Position, digest: &Digest) -> bool {
        self.0.get(&(step, from)).is_some_and(|(said, _)| said == digest)
    }

    /// The signed part of what was said in a step.
    fn of(&self, step: Step, from: Position) -> Option<&[u8]> {
        self.0.get(&(step, from)).map(|(_, word)| word.as_slice())
    }
}

/// The coordinator's side of one attempt.
#[derive(Debug)]
pub struct Collector {
    attempt: Arc<Attempt>,
    phase: Phase,
    said: Words,
    faults: Vec<(Position, Fault)>,
    proofs: Vec<Proof>,
    /// Members whose complaint was judged, for or against them.
    complained: BTreeSet<Position>,
    survivors: Vec<Position>,
}

impl Collector {
    /// Begins collecting adverts.
    pub fn new(attempt: Arc<Attempt>) -> Self {
        let phase = Phase::Advertise(Advertise::new(&attempt));
        Self {
            attempt,
            phase,
            said: Words::default(),
            faults: Vec::new(),
            proofs: Vec::new(),
            complained: BTreeSet::new(),
            survivors: Vec::new(),
        }
    }

    /// The attempt's public facts.
    pub fn attempt(&self) -> &Arc<Attempt> {
        &self.attempt
    }

    /// The step being collected. Stays at the last one when the attempt has ended, either way.
    pub fn step(&self) -> Step {
        self.phase.step()
    }

    /// Who may speak in this step. In [`Step::Unmask`] that is everyone who dealt, but a quorum of answers is
    /// all that is needed, and whoever dropped out is not likely to answer: do not wait for
    /// [`complete`](Self::complete) there.
    pub fn expected(&self) -> &BTreeSet<Position> {
        self.phase.expected()
    }

    /// Who has spoken in this step. In [`Step::Input`]: whose header is accepted *and* whose chunks are
    /// complete.
    pub fn received(&self) -> &BTreeSet<Position> {
        self.phase.received()
    }

    /// Whether everyone expected has spoken.
    pub fn complete(&self) -> bool {
        self.received().len() == self.expected().len()
    }

    /// Whether enough have spoken for the step to be closed: `m_min` in the first three steps, the quorum in
    /// the last two.
    pub fn enough(&self) -> bool {
        self.received().len() >= self.needed()
    }

    /// Fewest members with which the step can be closed.
    pub fn needed(&self) -> usize {
        let params = self.attempt.params();
        usize::from(match self.step() {
            Step::Advertise | Step::Share | Step::Input => params.m_min(),
            Step::Vote | Step::Unmask => params.quorum(),
        })
    }

    /// Takes a body that `from` sent in `step`. A byte-for-byte repetition of one accepted before is fine,
    /// whenever it comes.
    ///
    /// # Errors
    ///
    /// Checks C1 to C13 of the manual. The fault is also kept in [`faults`](Self::faults) if the sender is to
    /// blame for it; the collector's state is otherwise as before.
    pub fn accept(&mut self, from: Position, step: Step, body: &[u8]) -> Result<(), Fault> {
        let result = self.try_accept(from, step, body);
        if let Err(fault) = &result
            && fault.is_misbehaviour()
        {
            self.prove(from, step, body, fault);
            self.note(from, fault.clone());
        }
        result
    }

    /// One entry a member and kind: a flood of rubbish must not fill memory.
    fn note(&mut self, from: Position, fault: Fault) {
        if !self.faults.iter().any(|(who, seen)| *who == from && seen.same_kind(&fault)) {
            self.faults.push((from, fault));
        }
    }

    /// Keeps what convicts a member of this fault in anybody's eyes, if something does.
    fn prove(&mut self, from: Position, step: Step, body: &[u8], fault: &Fault) {
        let (offence, evidence) = match fault {
            Fault::Equivocation { .. } => {
                let Some(first) = self.said.of(step, from) else { return };
                let second = signed_part(step, body);
                // Under one signed header, only what is not signed differs.
                if message_of(step, first) == message_of(step, second) {
                    return;
                }
                (Offence::TwoWords, Some(evidence::of_two_words(step, from, first, second)))
            }
            Fault::BadShare { dealer } => {
                (Offence::BadShare, self.phase.bad_share(&self.attempt, from, body, *dealer))
            }
            _ => return,
        };
        if let Some(evidence) = evidence {
            self.keep(Proof { conviction: Conviction { culprit: from, offence }, evidence });
        }
    }

    fn keep(&mut self, proof: Proof) {
        if !self.proofs.iter().any(|kept| kept.conviction == proof.conviction) {
            self.proofs.push(proof);
        }
    }

    /// Judges the complaint that `from` makes of a box dealt to it, and keeps what convicts the dealer, or the accuser.
    ///
    /// # Errors
    ///
    /// When it convicts nobody: see [`judge`](super::blame::judge); or when it is not the sender's own and first.
    pub fn complain(&mut self, from: Position, complaint: &[u8]) -> Result<Conviction, Dismissed> {
        let Some(adverts) = self.phase.adverts() else { return Err(Dismissed::OutOfTurn) };
        if accuser(&self.attempt, complaint)? != from || !self.complained.insert(from) {
            return Err(Dismissed::NotItsOwn);
        }
        let conviction = judge_by(&self.attempt, adverts, complaint)?;
        let evidence = evidence::of_complaint(adverts, complaint);
        let fault = match conviction.offence {
            Offence::FalseComplaint => Fault::FalseComplaint,
            _ => Fault::BadDeal,
        };
        self.note(conviction.culprit, fault);
        self.keep(Proof { conviction, evidence });
        Ok(conviction)
    }

    /// What convicts members in the eyes of anybody, once a member and offence, in order.
    pub fn proofs(&self) -> &[Proof] {
        &self.proofs
    }

    fn try_accept(&mut self, from: Position, step: Step, body: &[u8]) -> Result<(), Fault> {
        let digest = Digest::of(body);
        if self.said.is(step, from, &digest) {
            return Ok(());
        }
        if self.attempt.member(from).is_none() {
            return Err(Fault::NotExpected { step });
        }
        authenticate(&self.attempt, step, from, body)?;
        if self.said.of(step, from).is_some() {
            return Err(Fault::Equivocation { step });
        }
        if step != self.step() || self.phase.has_ended() {
            return Err(Fault::OutOfTurn { now: self.step(), got: step });
        }
        if !self.expected().contains(&from) {
            return Err(Fault::NotExpected { step });
        }
        self.phase.accept(&self.attempt, from, body)?;
        self.said.0.insert((step, from), (digest, signed_part(step, body).to_vec()));
        Ok(())
    }

    /// Chunks in a masked vector.
    pub fn chunk_count(&self) -> u32 {
        self.attempt.params().chunk_count()
    }

    /// Bytes of chunk `index`; zero beyond the last.
    pub fn chunk_len(&self, index: u32) -> usize {
        self.attempt.params().chunk_len(index)
    }

    /// The digest that `from` committed to for chunk `index`, from the moment its header is accepted. A chunk
    /// with another digest is not to be stored.
    pub fn chunk_digest(&self, from: Position, index: u32) -> Option<Digest> {
        self.phase.chunks(from)?.get(usize::try_from(index).ok()?).copied()
    }

    /// Says that every chunk of `from` is stored, durably, and matches its digest. Without an accepted
    /// header, or outside [`Step::Input`], this does nothing.
    pub fn input_complete(&mut self, from: Position) {
        self.phase.input_complete(from);
    }

    /// Freezes the step's set and opens the next step. Closing [`Step::Unmask`] reconstructs the secrets and
    /// checks each against its public point; [`revealed`](Self::revealed) has the result.
    ///
    /// # Errors
    ///
    /// When too few have spoken, or a dealer's shares do not give the secret of its public point. The attempt
    /// has then failed for good. Answers are held against their commitments as they arrive, so a bad one
    /// counts for nothing here and a quorum of good ones is all it takes.
    pub fn close(&mut self) -> Result<(), Failure> {
        if self.phase.has_ended() {
            return Err(Failure { why: Why::AlreadyEnded, culprits: Vec::new() });
        }
        let (step, got, needed) = (self.step(), self.received().len(), self.needed());
        if got < needed {
            let culprits = self.culprits();
            self.phase.fail();
            return Err(Failure { why: Why::TooFew { step, got, needed }, culprits });
        }
        let phase = core::mem::take(&mut self.phase);
        match phase.close(&self.attempt, &self.said) {
            Ok(next) => self.phase = next,
            Err((failed, failure, proofs)) => {
                self.phase = *failed;
                proofs.into_iter().for_each(|proof| self.keep(proof));
                return Err(failure);
            }
        }
        if let Some(survivors) = self.phase.survivors() {
            self.survivors = survivors.to_vec();
        }
        Ok(())
    }

    /// Members that misbehaved so far, once each.
    fn culprits(&self) -> Vec<Position> {
        let culprits: BTreeSet<Position> = self.faults.iter().map(|(who, _)| *who).collect();
        culprits.into_iter().collect()
    }

    /// The body that opens the current step for `to`: the same one however often it is asked for, so that a
    /// reconnected client can be served again. None in [`Step::Advertise`], for members the step is not open
    /// to, and after the end.
    pub fn delivery(&self, to: Position) -> Option<Vec<u8>> {
        if !self.expected().contains(&to) || self.phase.has_ended() {
            return None;
        }
        self.phase.delivery(to)
    }

    /// The survivors, sorted, once step 3 is closed; empty before.
    pub fn survivors(&self) -> &[Position] {
        &self.survivors
    }

    /// What members did wrong, at most once a member and kind, in order.
    pub fn faults(&self) -> &[(Position, Fault)] {
        &self.faults
    }

    /// The adverts of step 1 as they were shown to everyone: what [`blame::judge`](super::blame::judge)
    /// needs.
    pub fn adverts(&self) -> Option<Vec<u8>> {
        self.phase.adverts().map(super::messages::Adverts::delivery)
    }

    /// What takes the masks off, once step 5 is closed.
    pub fn revealed(&self) -> Option<&Arc<Revealed>> {
        match &self.phase {
            Phase::Done(done) => Some(&done.revealed),
            _ => None,
        }
    }
}
