//! The one who sees everything, and holds every party to what it promised.
//!
//! A simulation sees what no party may: each organization's encoded update. So it can compare every released sum with the
//! plain sum of what its survivors encoded. And it sees every word that leaves an organization, across its crashes:
//! one word a step and attempt, one masked vector, one debit, and nothing at all before they were recorded.

use std::{collections::BTreeMap, sync::Arc};

use consilium_client::ledger::Debit;
use consilium_crypto::{digest::Digest, release::AdapterState, ring::RingVector};
use consilium_proto::{
    ids::Id,
    plan::VerifiedPlan,
    release::{VerifiedHead, unpack_sum},
    wire::{self, client_message::Kind as Say},
};
use thiserror::Error;

use crate::attack::{Seen, VICTIM};

/// A promise that was broken. Finding one is what simulations are for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Violation {
    /// An organization said two things in one step.
    #[error(
        "organization {organization} said two different things in step {step} of round {round} attempt {attempt}"
    )]
    TwoWords {
        /// Who, from 0.
        organization: usize,
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// Step.
        step: u32,
    },
    /// Two masked vectors under one mask.
    #[error(
        "organization {organization} uploaded two different chunks {index} in round {round} attempt {attempt}"
    )]
    TwoVectors {
        /// Who, from 0.
        organization: usize,
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// Which chunk.
        index: u32,
    },
    /// Two debits for one attempt.
    #[error("organization {organization} debited round {round} attempt {attempt} twice")]
    TwoDebits {
        /// Who, from 0.
        organization: usize,
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
    },
    /// A masked byte without a debit.
    #[error(
        "organization {organization} sent a masked input of round {round} attempt {attempt} without a debit"
    )]
    NoDebit {
        /// Who, from 0.
        organization: usize,
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
    },
    /// An answer, and then another attempt of the same round.
    #[error(
        "organization {organization} joined attempt {attempt} of round {round} after it had opened an earlier one"
    )]
    JoinedAgain {
        /// Who, from 0.
        organization: usize,
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
    },
    /// A released sum that is not the survivors'.
    #[error("the released sum of round {round} is not the sum of what its {survivors} survivors encoded")]
    WrongSum {
        /// Round.
        round: u32,
        /// How many they are.
        survivors: usize,
    },
    /// A release that does not verify.
    #[error("the release of round {round} does not verify: {why}")]
    BadRelease {
        /// Round.
        round: u32,
        /// Why.
        why: String,
    },
}

/// Everything that was said and encoded.
#[derive(Default)]
pub struct Watch {
    words: BTreeMap<(usize, u32, u32, u32), Digest>,
    chunks: BTreeMap<(usize, u32, u32, u32), Digest>,
    debits: BTreeMap<(usize, u32, u32), ()>,
    /// What organizations encoded in attempts that may still be released.
    encoded: BTreeMap<(u32, u32, usize), Vec<u32>>,
    sums: u32,
    violations: Vec<Violation>,
    /// What an attack is held against, where there is one.
    seen: Option<Seen>,
}

const INPUT: u32 = 3;
const UNMASK: u32 = 5;

impl Watch {
    /// Promises broken so far.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Released sums that were compared.
    pub fn sums(&self) -> u32 {
        self.sums
    }

    /// Notes down what an attack is held against.
    pub(crate) fn note(&mut self) {
        self.seen = Some(Seen::default());
    }

    pub(crate) fn seen(&self) -> Option<&Seen> {
        self.seen.as_ref()
    }

    pub(crate) fn trains(
        &mut self,
        organization: usize,
        (round, attempt): (u32, u32),
        adapter: &Arc<AdapterState>,
        update: &RingVector,
    ) {
        if let Some(seen) = self.seen.as_mut().filter(|_| organization == VICTIM) {
            seen.trains(round, attempt, adapter, update.values());
        }
    }

    /// How many different words an organization said in a step.
    pub fn said(&self, organization: usize, round: u32, attempt: u32, step: u32) -> bool {
        self.words.contains_key(&(organization, round, attempt, step))
    }

    pub(crate) fn encoded(&mut self, organization: usize, round: u32, attempt: u32, update: &RingVector) {
        self.encoded.insert((round, attempt, organization), update.values().to_vec());
    }

    pub(crate) fn debited(&mut self, organization: usize, debit: &Debit) {
        let (round, attempt) = (debit.round, debit.attempt);
        if self.debits.insert((organization, round, attempt), ()).is_some() {
            self.violations.push(Violation::TwoDebits { organization, round, attempt });
        }
    }

    pub(crate) fn leaves(&mut self, organization: usize, say: &Say) {
        let Say::Protocol(message) = say else { return };
        let (round, attempt, step) = (message.round, message.attempt, message.step);
        let digest = Digest::of(&message.body);
        if *self.words.entry((organization, round, attempt, step)).or_insert(digest) != digest {
            self.violations.push(Violation::TwoWords { organization, round, attempt, step });
        }
        if step == INPUT && !self.debits.contains_key(&(organization, round, attempt)) {
            self.violations.push(Violation::NoDebit { organization, round, attempt });
        }
        let earlier = (1..attempt).any(|earlier| self.said(organization, round, earlier, UNMASK));
        if earlier && step == 1 {
            self.violations.push(Violation::JoinedAgain { organization, round, attempt });
        }
    }

    pub(crate) fn uploads(&mut self, organization: usize, part: &wire::UploadPart) {
        let (round, attempt, index) = (part.round, part.attempt, part.index);
        if let Some(seen) = self.seen.as_mut().filter(|_| organization == VICTIM) {
            seen.uploads(part);
        }
        let digest = Digest::of(&part.chunk);
        if *self.chunks.entry((organization, round, attempt, index)).or_insert(digest) != digest {
            self.violations.push(Violation::TwoVectors { organization, round, attempt, index });
        }
        if !self.debits.contains_key(&(organization, round, attempt)) {
            self.violations.push(Violation::NoDebit { organization, round, attempt });
        }
    }

    /// An attempt ended without a sum.
    pub(crate) fn failed(&mut self, round: u32, attempt: u32) {
        self.encoded.retain(|(r, a, _), _| (*r, *a) != (round, attempt));
    }

    /// A sum was published: compares it with the plain one.
    pub(crate) fn released(
        &mut self,
        plan: &VerifiedPlan,
        organizations: &[Id],
        head: &VerifiedHead,
        sum: &[u8],
    ) {
        let (round, attempt) = (head.round, head.attempt);
        if let (Some(seen), Ok(values)) = (&mut self.seen, unpack_sum(plan, sum)) {
            seen.released(round, attempt, values);
        }
        let mask = plan.derived().ring.mask();
        let mut plain = vec![0u32; plan.derived().vector_len];
        let mut complete = true;
        for survivor in head.survivors.iter() {
            let position = organizations.binary_search(survivor).unwrap_or(usize::MAX);
            match self.encoded.get(&(round, attempt, position)) {
                Some(values) => {
                    plain.iter_mut().zip(values).for_each(|(sum, value)| *sum = sum.wrapping_add(*value))
                }
                None => complete = false,
            }
        }
        plain.iter_mut().for_each(|value| *value &= mask);
        if !complete || unpack_sum(plan, sum) != Ok(plain) {
            self.violations.push(Violation::WrongSum { round, survivors: head.survivors.len() });
        }
        self.sums += 1;
        self.encoded.retain(|(r, _, _), _| *r > round);
    }

    pub(crate) fn bad_release(&mut self, round: u32, why: String) {
        self.violations.push(Violation::BadRelease { round, why });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(round: u32, attempt: u32, step: u32, body: u8) -> Say {
        Say::Protocol(wire::ProtocolMessage { round, attempt, step, body: vec![body] })
    }

    #[test]
    fn a_second_word_is_seen_and_a_repeated_one_is_not_one() {
        let mut watch = Watch::default();
        watch.leaves(0, &word(1, 1, 4, 7));
        watch.leaves(0, &word(1, 1, 4, 7));
        watch.leaves(1, &word(1, 1, 4, 8));
        assert_eq!(watch.violations(), []);
        watch.leaves(0, &word(1, 1, 4, 8));
        assert_eq!(
            watch.violations(),
            [Violation::TwoWords { organization: 0, round: 1, attempt: 1, step: 4 }]
        );
    }

    #[test]
    fn masked_bytes_need_a_debit_and_have_one_content() {
        let part = |chunk: u8| wire::UploadPart { round: 1, attempt: 1, index: 0, chunk: vec![chunk] };
        let mut watch = Watch::default();
        watch.leaves(2, &word(1, 1, 3, 0));
        assert_eq!(watch.violations(), [Violation::NoDebit { organization: 2, round: 1, attempt: 1 }]);
        let mut watch = Watch::default();
        watch.debits.insert((2, 1, 1), ());
        watch.uploads(2, &part(1));
        watch.uploads(2, &part(1));
        assert_eq!(watch.violations(), []);
        watch.uploads(2, &part(2));
        assert_eq!(
            watch.violations(),
            [Violation::TwoVectors { organization: 2, round: 1, attempt: 1, index: 0 }]
        );
    }

    #[test]
    fn who_has_opened_an_attempt_joins_no_other_of_its_round() {
        let mut watch = Watch::default();
        watch.leaves(0, &word(1, 1, 5, 1));
        watch.leaves(0, &word(2, 1, 1, 1));
        assert_eq!(watch.violations(), []);
        watch.leaves(0, &word(1, 2, 1, 1));
        assert_eq!(watch.violations(), [Violation::JoinedAgain { organization: 0, round: 1, attempt: 2 }]);
    }
}
