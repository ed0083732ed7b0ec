//! This protocol behind the traits that round and session know.

use alloc::{boxed::Box, collections::BTreeSet, string::ToString as _, sync::Arc, vec::Vec};

use rand_core::CryptoRng;

use super::{
    Attempt, LedgerHead, Position, Refusal, Revealed, SetupError, Step,
    client::{MaskedInput, Participant, Reply},
    coordinator::Collector,
    evidence::Proof,
};
use crate::{
    digest::Digest,
    protocol::{
        Accusation, Broken, Collecting, Declined, Joined, Participating, Protocol, Unaccepted, Unmasking,
    },
    ring::RingVector,
    sign::SigningKey,
    workers::Workers,
};

/// Secure aggregation in five steps, as [`Protocol`].
#[derive(Clone, Copy, Debug, Default)]
pub struct FiveSteps;

impl Protocol for FiveSteps {
    fn collect(&self, attempt: Arc<Attempt>) -> Box<dyn Collecting> {
        Box::new(Collector::new(attempt))
    }

    fn join(
        &self,
        attempt: Arc<Attempt>,
        me: Position,
        key: &SigningKey,
        ledger: LedgerHead,
        mut rng: &mut dyn CryptoRng,
    ) -> Result<Joined, SetupError> {
        let (participant, advert) = Participant::start(attempt, me, key, ledger, &mut rng)?;
        Ok(Joined { participant: Box::new(participant), word: Some((Step::Advertise, advert)) })
    }
}

impl From<Refusal> for Declined {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::OutOfTurn { .. } => Self::OutOfTurn,
            refusal => Self::Refused {
                check: refusal.check(),
                why: refusal.to_string(),
                complaint: refusal.complaint().map(<[u8]>::to_vec).unwrap_or_default(),
            },
        }
    }
}

impl Participating for Participant {
    fn deliver(
        &mut self,
        step: Step,
        delivery: &[u8],
        key: &SigningKey,
        mut rng: &mut dyn CryptoRng,
    ) -> Result<Reply, Declined> {
        Ok(Self::deliver(self, step, delivery, key, &mut rng)?)
    }

    fn wants_update(&self) -> bool {
        matches!(self, Self::Ready(_))
    }

    fn mask(
        &mut self,
        update: RingVector,
        key: &SigningKey,
        workers: &dyn Workers,
    ) -> Result<MaskedInput, Declined> {
        Ok(self.mask_on(update, key, workers)?)
    }

    fn ledger_heads(&self) -> Option<&[(Position, LedgerHead)]> {
        Self::ledger_heads(self)
    }
}

impl Collecting for Collector {
    fn attempt(&self) -> &Arc<Attempt> {
        Self::attempt(self)
    }

    fn step(&self) -> Step {
        Self::step(self)
    }

    fn expected(&self) -> &BTreeSet<Position> {
        Self::expected(self)
    }

    fn received(&self) -> &BTreeSet<Position> {
        Self::received(self)
    }

    fn needed(&self) -> usize {
        Self::needed(self)
    }

    fn accept(&mut self, from: Position, step: Step, body: &[u8]) -> Result<(), Unaccepted> {
        Self::accept(self, from, step, body)
            .map_err(|fault| Unaccepted { check: fault.check(), misbehaved: fault.is_misbehaviour() })
    }

    fn complain(&mut self, from: Position, complaint: &[u8]) -> bool {
        Self::complain(self, from, complaint).is_ok()
    }

    fn proofs(&self) -> Vec<Accusation<'_>> {
        let mut all = Vec::new();
        for Proof { conviction, evidence } in Self::proofs(self) {
            let (culprit, check) = (conviction.culprit, conviction.offence.check());
            all.push(Accusation { culprit, check, evidence });
        }
        all
    }

    fn chunk_digest(&self, from: Position, index: u32) -> Option<Digest> {
        Self::chunk_digest(self, from, index)
    }

    fn input_complete(&mut self, from: Position) {
        Self::input_complete(self, from);
    }

    fn close(&mut self) -> Result<(), Broken> {
        Self::close(self).map_err(|_| Broken)
    }

    fn delivery(&self, to: Position) -> Option<Vec<u8>> {
        Self::delivery(self, to)
    }

    fn survivors(&self) -> &[Position] {
        Self::survivors(self)
    }

    fn sum(&self) -> Option<Arc<dyn Unmasking>> {
        self.revealed().map(|revealed| revealed.clone() as Arc<dyn Unmasking>)
    }
}

impl Unmasking for Revealed {
    fn attempt(&self) -> &Arc<Attempt> {
        Self::attempt(self)
    }

    fn survivors(&self) -> &[Position] {
        Self::survivors(self)
    }

    fn remove_masks(&self, index: u32, sum: &mut [u32]) {
        Self::remove_masks(self, index, sum);
    }

    fn public_record(&self) -> Vec<u8> {
        Self::public_record(self)
    }
}
