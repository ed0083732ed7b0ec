//! Corrupt members: the deployed client, with a participant of its own behind it.

use std::sync::Arc;

use consilium_crypto::{
    protocol::{Collecting, Declined, Joined, Participating, Protocol},
    ring::RingVector,
    secagg::{
        Attempt, LedgerHead, Position, SetupError, Step,
        client::{MaskedInput, Reply},
    },
    sign::{self, SigningKey},
    workers::Workers,
};
use rand::CryptoRng;

/// What a corrupt member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mischief {
    /// Its words are random bytes from this step on.
    Garbage(Step),
    /// It releases shares that it was not dealt, under its signature.
    BadShares,
}

/// The member's side of a corrupt protocol.
#[derive(Debug)]
pub(super) struct Mischievous {
    pub(super) honest: Arc<dyn Protocol>,
    pub(super) mischief: Mischief,
}

impl Protocol for Mischievous {
    fn collect(&self, attempt: Arc<Attempt>) -> Box<dyn Collecting> {
        self.honest.collect(attempt)
    }

    fn join(
        &self,
        attempt: Arc<Attempt>,
        me: Position,
        key: &SigningKey,
        ledger: LedgerHead,
        rng: &mut dyn CryptoRng,
    ) -> Result<Joined, SetupError> {
        let joined = self.honest.join(attempt.clone(), me, key, ledger, rng)?;
        let mut participant = Participant { inner: joined.participant, attempt, me, mischief: self.mischief };
        let word = joined.word.map(|(step, body)| (step, participant.corrupt(step, body, key, rng)));
        Ok(Joined { participant: Box::new(participant), word })
    }

    fn carries_ledgers(&self) -> bool {
        self.honest.carries_ledgers()
    }
}

#[derive(Debug)]
struct Participant {
    inner: Box<dyn Participating>,
    attempt: Arc<Attempt>,
    me: Position,
    mischief: Mischief,
}

/// Head, position and headers hash of an answer.
const ANSWER_FRONT: usize = 3 + 2 + 32;
const SIGNATURE: usize = 64;

impl Participant {
    fn corrupt(
        &mut self,
        step: Step,
        mut body: Vec<u8>,
        key: &SigningKey,
        rng: &mut dyn CryptoRng,
    ) -> Vec<u8> {
        match self.mischief {
            Mischief::Garbage(from) if step.number() >= from.number() => rng.fill_bytes(&mut body),
            Mischief::BadShares if step == Step::Unmask => {
                let signed = body.len().saturating_sub(SIGNATURE);
                // The lowest bit of its share of the first dealer's secret: still a number, and not the one it was dealt.
                body.get_mut(ANSWER_FRONT).into_iter().for_each(|byte| *byte ^= 1);
                let id = self.attempt.member(self.me).map(|member| member.id.to_string()).unwrap_or_default();
                let front = body.get(..signed).unwrap_or_default();
                let signature = sign::sign(key, "answer", self.attempt.ctx(), &id, front);
                body.truncate(signed);
                body.extend_from_slice(&signature.0);
            }
            Mischief::Garbage(_) | Mischief::BadShares => {}
        }
        body
    }
}

impl Participating for Participant {
    fn deliver(
        &mut self,
        step: Step,
        delivery: &[u8],
        key: &SigningKey,
        rng: &mut dyn CryptoRng,
    ) -> Result<Reply, Declined> {
        Ok(match self.inner.deliver(step, delivery, key, rng)? {
            Reply::Send(body) => Reply::Send(self.corrupt(step, body, key, rng)),
            other => other,
        })
    }

    fn wants_update(&self) -> bool {
        self.inner.wants_update()
    }

    fn mask(
        &mut self,
        update: RingVector,
        key: &SigningKey,
        workers: &dyn Workers,
    ) -> Result<MaskedInput, Declined> {
        let mut input = self.inner.mask(update, key, workers)?;
        if let Mischief::Garbage(from) = self.mischief
            && from.number() <= Step::Input.number()
        {
            // No generator here; that it is no header is all that matters.
            input.header.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(37) ^ 0x5a);
        }
        Ok(input)
    }

    fn ledger_heads(&self) -> Option<&[(Position, LedgerHead)]> {
        self.inner.ledger_heads()
    }
}
