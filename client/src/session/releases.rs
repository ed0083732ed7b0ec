//! Published sums, applied one by one; the public test set; the end of the job.

use std::sync::Arc;

use consilium_crypto::release::AdapterState;
use consilium_proto::{release::VerifiedHead, wire};
use rand::CryptoRng;

use super::{Effect, Session, stop};

impl Session {
    pub(super) fn want(&mut self, published: u32, effects: &mut Vec<Effect>) {
        self.published_round = self.published_round.max(published);
        // Without a connection the next Welcome asks again.
        if self.applied_round < self.published_round && !self.fetching && self.connected {
            self.fetching = true;
            effects.push(Effect::Fetch { from_round: self.applied_round + 1 });
        }
    }

    pub(super) fn release(
        &mut self,
        signed: wire::SignedReleaseHead,
        sum: Vec<u8>,
        effects: &mut Vec<Effect>,
    ) {
        let head = match VerifiedHead::verify(&signed, &self.roster, &self.plan) {
            Ok(head) => head,
            Err(refused) => return effects.push(stop(refused.check(), &refused)),
        };
        if head.round <= self.applied_round {
            return;
        }
        let mut next = AdapterState::clone(&self.state);
        match head.replay(&self.plan, &mut next, &sum) {
            Err(refused) => effects.push(stop(refused.check(), &refused)),
            Ok(metrics) => {
                self.state = Arc::new(next);
                self.applied_round = head.round;
                self.published_round = self.published_round.max(head.round);
                let (round, adapter, survivors) = (head.round, self.state.clone(), head.survivors.len());
                effects.push(Effect::KeepRelease { round, head: signed, sum });
                effects.push(Effect::Applied { round, adapter, metrics, survivors });
            }
        }
    }

    pub(super) fn caught_up(&mut self, rng: &mut impl CryptoRng, effects: &mut Vec<Effect>) {
        if self.applied_round < self.published_round {
            return self.want(self.published_round, effects);
        }
        self.maybe_evaluate(effects);
        self.announced(rng, effects);
        self.maybe_finished(effects);
    }

    pub(super) fn maybe_evaluate(&mut self, effects: &mut Vec<Effect>) {
        let document = self.plan.document();
        let (round, every) = (self.applied_round, document.evaluation.every_rounds);
        // The last release is evaluated even if the rounds after it came to nothing.
        let due = round.is_multiple_of(every) || round == document.rounds || self.job_ended;
        if due && round > self.evaluated_round && document.evaluation.organization == self.identity.id {
            self.evaluated_round = round;
            self.evaluating += 1;
            effects.push(Effect::Evaluate { round, adapter: self.state.clone() });
        }
    }

    pub(super) fn maybe_finished(&mut self, effects: &mut Vec<Effect>) {
        let done = self.job_ended && !self.fetching && self.applied_round >= self.published_round;
        if done && self.evaluating == 0 {
            effects.push(Effect::Finished);
        }
    }
}
