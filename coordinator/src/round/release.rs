//! The end of a successful attempt: sum, step, publication.

use consilium_crypto::digest::Digest;
use consilium_proto::{
    release::{apply_sum, sign_head},
    wire::{self, coordinator_message::Kind},
};

use super::{Effect, Event, Job, Phase, code};

/// A release and its event, to be made durable together.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Round.
    pub round: u32,
    /// Attempt.
    pub attempt: u32,
    /// The signed head.
    pub head: wire::SignedReleaseHead,
    /// The packed sum.
    pub sum: Vec<u8>,
    /// [`Event::Released`].
    pub event: Event,
}

impl Job {
    pub(super) fn summed(
        &mut self,
        round: u32,
        attempt: u32,
        sum: Result<Vec<u8>, String>,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Phase::Running(running) = &self.phase else { return };
        if !running.is(round, attempt) || !running.is_releasing() {
            return;
        }
        let Ok(sum) = sum else { return self.fail(code::STORE, now_ms, effects) };
        let survivors = running.survivors();
        // In place: a copy of the largest adapter would double the coordinator's memory.
        let before = self.state.adapter_digest();
        let Ok(metrics) = apply_sum(&self.plan, &mut self.state, &sum, survivors.len()) else {
            return self.fail(code::NOT_APPLICABLE, now_ms, effects);
        };
        let head = wire::ReleaseHead {
            plan_digest: self.plan.digest().0.to_vec(),
            round,
            attempt,
            survivors: survivors.iter().map(|id| id.to_string()).collect(),
            sum_digest: Digest::of(&sum).0.to_vec(),
            sum_bytes: sum.len() as u64,
            adapter_before: before.0.to_vec(),
            adapter_after: self.state.adapter_digest().0.to_vec(),
            optimizer_after: self.state.optimizer_digest().0.to_vec(),
            evidence: running.evidence(),
        };
        let announcement = running.announcement().clone();
        let signed = sign_head(&head, &self.roster, self.identity.signing_key());
        let logged = Some(self.logged_release(&head, &signed.head, Some(announcement), now_ms));
        let (head, event) = (signed, Event::Released { survivors, logged });
        effects.push(Effect::Publish(Box::new(Publication { round, attempt, head, sum, event })));
        for id in self.plan.cohort() {
            effects.push(Effect::Send { to: id.clone(), message: Kind::Released(wire::Released { round }) });
        }
        if self.plan.document().retention.is_none() {
            effects.push(Effect::DropInputs { round, attempt });
        }
        self.released(Some((metrics.loss, metrics.accuracy)), now_ms);
    }

    /// Moves on after a release, now or in a replay; `self.state` is the new one already.
    pub(super) fn released(&mut self, metrics: Option<(f64, f64)>, now_ms: u64) {
        let Phase::Running(running) = &self.phase else { return };
        let (round, mut summary) = (running.round, running.summary());
        self.upload_bytes += running.uploaded();
        summary.outcome = "released".into();
        summary.ended_ms = now_ms;
        summary.train_loss = metrics.map(|(loss, _)| loss);
        summary.train_accuracy = metrics.map(|(_, accuracy)| accuracy);
        summary.adapter = Some(self.state.adapter_digest().0);
        summary.debited = self.debited;
        summary.is_debited = running.is_debited();
        self.settle_absences(round, &mut summary);
        self.history.push(summary);
        self.released_round = round;
        self.releases += 1;
        self.next_round(round, now_ms);
    }
}
