//! Federated learning without secure aggregation, to compare with: vectors travel in the clear.
//!
//! The round and the session of a deployment, its announcements, ledgers, uploads and releases; only the aggregation protocol
//! behind them is another one, of a single step. It protects nothing, and no deployed binary has it.

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
        Attempt, CHUNK_ELEMENTS, FiveSteps, LedgerHead, Position, SetupError, Step, chunk_digest,
        client::{MaskedInput, Reply},
    },
    sign::SigningKey,
    workers::Workers,
};
use rand::CryptoRng;

use crate::scenario::{self, Scenario};

/// The protocol that a scenario names.
pub(crate) fn protocol(scenario: &Scenario) -> Arc<dyn Protocol> {
    match scenario.protocol {
        scenario::Protocol::Secure => Arc::new(FiveSteps),
        scenario::Protocol::Plain => Arc::new(Plain),
    }
}

/// Everybody sends its vector, and the coordinator adds up what it has.
#[derive(Debug)]
pub struct Plain;

impl Protocol for Plain {
    fn collect(&self, attempt: Arc<Attempt>) -> Box<dyn Collecting> {
        let expected = attempt.positions().collect();
        let (received, headers) = (BTreeSet::new(), BTreeMap::new());
        Box::new(Collector { attempt, expected, received, headers, survivors: Vec::new(), ended: false })
    }

    fn join(
        &self,
        attempt: Arc<Attempt>,
        _: Position,
        _: &SigningKey,
        _: LedgerHead,
        _: &mut dyn CryptoRng,
    ) -> Result<Joined, SetupError> {
        Ok(Joined { participant: Box::new(Sender { attempt, sent: false }), word: None })
    }

    fn carries_ledgers(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct Sender {
    attempt: Arc<Attempt>,
    sent: bool,
}

impl Participating for Sender {
    fn deliver(
        &mut self,
        _: Step,
        _: &[u8],
        _: &SigningKey,
        _: &mut dyn CryptoRng,
    ) -> Result<Reply, Declined> {
        Err(Declined::OutOfTurn)
    }

    fn wants_update(&self) -> bool {
        !self.sent
    }

    fn mask(&mut self, update: RingVector, _: &SigningKey, _: &dyn Workers) -> Result<MaskedInput, Declined> {
        if std::mem::replace(&mut self.sent, true) {
            return Err(Declined::OutOfTurn);
        }
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
struct Collector {
    attempt: Arc<Attempt>,
    expected: BTreeSet<Position>,
    received: BTreeSet<Position>,
    headers: BTreeMap<Position, Vec<u8>>,
    survivors: Vec<Position>,
    ended: bool,
}

impl Collecting for Collector {
    fn attempt(&self) -> &Arc<Attempt> {
        &self.attempt
    }

    fn step(&self) -> Step {
        Step::Input
    }

    fn expected(&self) -> &BTreeSet<Position> {
        &self.expected
    }

    fn received(&self) -> &BTreeSet<Position> {
        &self.received
    }

    fn needed(&self) -> usize {
        usize::from(self.attempt.params().m_min())
    }

    fn accept(&mut self, from: Position, step: Step, body: &[u8]) -> Result<(), Unaccepted> {
        if self.ended || step != Step::Input || !self.expected.contains(&from) {
            return Err(Unaccepted { check: "late", misbehaved: false });
        }
        let whole = body.len() == Digest::LEN * self.attempt.params().chunk_count() as usize;
        let first = self.headers.get(&from).is_none_or(|first| first == body);
        if !whole || !first {
            return Err(Unaccepted { check: "header", misbehaved: true });
        }
        self.headers.entry(from).or_insert_with(|| body.to_vec());
        Ok(())
    }

    fn complain(&mut self, _: Position, _: &[u8]) -> bool {
        false
    }

    fn proofs(&self) -> Vec<Accusation<'_>> {
        Vec::new()
    }

    fn chunk_digest(&self, from: Position, index: u32) -> Option<Digest> {
        let at = index as usize * Digest::LEN;
        let digest = self.headers.get(&from)?.get(at..at + Digest::LEN)?;
        Some(Digest(digest.try_into().ok()?))
    }

    fn input_complete(&mut self, from: Position) {
        if !self.ended && self.headers.contains_key(&from) {
            self.received.insert(from);
        }
    }

    fn close(&mut self) -> Result<(), Broken> {
        if self.ended || self.received.len() < self.needed() {
            self.ended = true;
            return Err(Broken);
        }
        self.ended = true;
        self.survivors = self.received.iter().copied().collect();
        Ok(())
    }

    fn delivery(&self, _: Position) -> Option<Vec<u8>> {
        None
    }

    fn survivors(&self) -> &[Position] {
        &self.survivors
    }

    fn sum(&self) -> Option<Arc<dyn Unmasking>> {
        if self.survivors.is_empty() {
            return None;
        }
        Some(Arc::new(InTheClear { attempt: self.attempt.clone(), survivors: self.survivors.clone() }))
    }
}

#[derive(Debug)]
struct InTheClear {
    attempt: Arc<Attempt>,
    survivors: Vec<Position>,
}

impl Unmasking for InTheClear {
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
