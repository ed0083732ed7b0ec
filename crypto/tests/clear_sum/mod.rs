//! A second protocol, of two steps and without any secrecy, to show that round and session know none in particular: everybody sends
//! its vector in the clear, then agrees to the survivors. For tests only; it protects nothing.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use consilium_crypto::{
    digest::Digest,
    protocol::{
        Accusation, Broken, Collecting, Declined, Joined, Participating, Protocol, Unaccepted, Unmasking,
    },
    ring::{self, RingVector},
    secagg::{
        Attempt, CHUNK_ELEMENTS, LedgerHead, Position, SetupError, Step, chunk_digest,
        client::{MaskedInput, Reply},
    },
    sign::SigningKey,
    workers::Workers,
};

#[derive(Debug)]
pub struct ClearSum;

impl Protocol for ClearSum {
    fn collect(&self, attempt: Arc<Attempt>) -> Box<dyn Collecting> {
        let roll = Roll { expected: attempt.positions().collect(), received: BTreeSet::new() };
        let (step, chunks) = (Step::Input, BTreeMap::new());
        Box::new(Collector { attempt, step, roll, chunks, survivors: Vec::new(), ended: false, sum: None })
    }

    fn join(
        &self,
        attempt: Arc<Attempt>,
        _: Position,
        _: &SigningKey,
        _: LedgerHead,
        _: &mut dyn rand::CryptoRng,
    ) -> Result<Joined, SetupError> {
        Ok(Joined { participant: Box::new(Member { attempt, next: Step::Input }), word: None })
    }
}

#[derive(Debug)]
struct Member {
    attempt: Arc<Attempt>,
    next: Step,
}

impl Participating for Member {
    fn deliver(
        &mut self,
        step: Step,
        delivery: &[u8],
        _: &SigningKey,
        _: &mut dyn rand::CryptoRng,
    ) -> Result<Reply, Declined> {
        if step != Step::Unmask || self.next != Step::Unmask {
            return Err(Declined::OutOfTurn);
        }
        if delivery.len() < usize::from(self.attempt.params().m_min()) {
            return Err(Declined::Refused { check: "X1", why: "too few".into(), complaint: Vec::new() });
        }
        self.next = Step::Vote;
        Ok(Reply::Send(delivery.to_vec()))
    }

    fn wants_update(&self) -> bool {
        self.next == Step::Input
    }

    fn mask(&mut self, update: RingVector, _: &SigningKey, _: &dyn Workers) -> Result<MaskedInput, Declined> {
        self.next = Step::Unmask;
        let width = self.attempt.params().ring();
        let pack = |values: &[u32]| {
            let mut packed = Vec::new();
            ring::pack(width, values, &mut packed);
            packed
        };
        let chunks: Vec<Vec<u8>> = update.values().chunks(CHUNK_ELEMENTS).map(pack).collect();
        let header = chunks.iter().flat_map(|chunk| chunk_digest(chunk).0).collect();
        Ok(MaskedInput { header, chunks })
    }

    fn ledger_heads(&self) -> Option<&[(Position, LedgerHead)]> {
        None
    }
}

#[derive(Debug)]
struct Roll {
    expected: BTreeSet<Position>,
    received: BTreeSet<Position>,
}

#[derive(Debug)]
struct Collector {
    attempt: Arc<Attempt>,
    step: Step,
    roll: Roll,
    chunks: BTreeMap<Position, Vec<u8>>,
    survivors: Vec<Position>,
    ended: bool,
    sum: Option<Arc<Plain>>,
}

impl Collecting for Collector {
    fn attempt(&self) -> &Arc<Attempt> {
        &self.attempt
    }

    fn step(&self) -> Step {
        self.step
    }

    fn expected(&self) -> &BTreeSet<Position> {
        &self.roll.expected
    }

    fn received(&self) -> &BTreeSet<Position> {
        &self.roll.received
    }

    fn needed(&self) -> usize {
        let params = self.attempt.params();
        usize::from(if self.step == Step::Input { params.m_min() } else { params.quorum() })
    }

    fn accept(&mut self, from: Position, step: Step, body: &[u8]) -> Result<(), Unaccepted> {
        if step != self.step || !self.roll.expected.contains(&from) {
            return Err(Unaccepted { check: "X2", misbehaved: false });
        }
        let good = match step {
            Step::Input => {
                let first = self.chunks.entry(from).or_insert_with(|| body.to_vec());
                first.as_slice() == body && body.len() == 32 * self.attempt.params().chunk_count() as usize
            }
            _ => body == self.delivery(from).unwrap(),
        };
        if !good {
            return Err(Unaccepted { check: "X3", misbehaved: true });
        }
        if step != Step::Input {
            self.roll.received.insert(from);
        }
        Ok(())
    }

    fn complain(&mut self, _: Position, _: &[u8]) -> bool {
        false
    }

    fn proofs(&self) -> Vec<Accusation<'_>> {
        Vec::new()
    }

    fn chunk_digest(&self, from: Position, index: u32) -> Option<Digest> {
        let at = index as usize * 32;
        let digest = self.chunks.get(&from)?.get(at..at + 32)?;
        Some(Digest(digest.try_into().ok()?))
    }

    fn input_complete(&mut self, from: Position) {
        if self.step == Step::Input && self.chunks.contains_key(&from) {
            self.roll.received.insert(from);
        }
    }

    fn close(&mut self) -> Result<(), Broken> {
        if self.ended || self.roll.received.len() < self.needed() {
            self.ended = true;
            return Err(Broken);
        }
        if self.step == Step::Input {
            self.survivors = self.roll.received.iter().copied().collect();
            self.roll.expected = std::mem::take(&mut self.roll.received);
            self.step = Step::Unmask;
        } else {
            self.ended = true;
            let (attempt, survivors) = (self.attempt.clone(), self.survivors.clone());
            self.sum = Some(Arc::new(Plain { attempt, survivors }));
        }
        Ok(())
    }

    fn delivery(&self, _: Position) -> Option<Vec<u8>> {
        (self.step == Step::Unmask).then(|| self.survivors.iter().map(|at| at.0 as u8).collect())
    }

    fn survivors(&self) -> &[Position] {
        &self.survivors
    }

    fn sum(&self) -> Option<Arc<dyn Unmasking>> {
        self.sum.clone().map(|sum| sum as Arc<dyn Unmasking>)
    }
}

#[derive(Debug)]
struct Plain {
    attempt: Arc<Attempt>,
    survivors: Vec<Position>,
}

impl Unmasking for Plain {
    fn attempt(&self) -> &Arc<Attempt> {
        &self.attempt
    }

    fn survivors(&self) -> &[Position] {
        &self.survivors
    }

    fn remove_masks(&self, _: u32, sum: &mut [u32]) {
        let mask = self.attempt.params().ring().mask();
        sum.iter_mut().for_each(|element| *element &= mask);
    }

    fn public_record(&self) -> Vec<u8> {
        b"in the clear".to_vec()
    }
}
