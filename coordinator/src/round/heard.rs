//! What members say, taken in: greetings, messages of the protocol, chunks, refusals, results.

use consilium_crypto::secagg::Step;
use consilium_proto::{
    OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION,
    evidence::Evidence,
    ids::Id,
    wire::{self, coordinator_message::Kind},
};

use super::{ChunkRefused, Effect, Event, HashedPart, Job, Phase, history::Summary, running::Refused};

/// Longest complaint that is read, bytes: one in a cohort of 1000 has about 730.
const MAX_COMPLAINT_BYTES: usize = 2048;

impl Job {
    pub(super) fn hello(&mut self, from: Id, hello: wire::Hello, now_ms: u64, effects: &mut Vec<Effect>) {
        let refuse = |code: &str| Kind::Goodbye(wire::Goodbye { code: code.into() });
        let served = OLDEST_PROTOCOL_VERSION..=PROTOCOL_VERSION;
        let refusal = if !served.contains(&hello.protocol_version) {
            Some(refuse("protocol-version"))
        } else if hello.roster_digest != self.roster.digest().0 {
            Some(refuse("other-roster"))
        } else if hello.plan_digest != self.plan.digest().0 {
            Some(refuse("other-plan"))
        } else {
            None
        };
        if let Some(message) = refusal {
            effects.push(Effect::Send { to: from.clone(), message });
            effects.push(Effect::Close { to: from });
            return;
        }
        let software = hello.software.chars().filter(|c| c.is_ascii_graphic()).take(32).collect();
        // The way here makes it look behind, never ahead.
        let skew_ms = (hello.clock_ms > 0).then(|| hello.clock_ms as i64 - now_ms as i64);
        self.members.came(&from, software, hello.protocol_version, skew_ms);
        let welcome = wire::Welcome {
            roster_digest: self.roster.digest().0.to_vec(),
            plan_digest: self.plan.digest().0.to_vec(),
            released_round: self.released_round,
        };
        effects.push(Effect::Send { to: from.clone(), message: Kind::Welcome(welcome) });
        self.greeted(&from, hello.newest.as_ref(), hello.applied_round, now_ms, effects);
        match &self.phase {
            Phase::Running(_) if self.members.is_excluded(&from) => {}
            Phase::Running(running) => {
                self.witnesses.greet(&from, effects);
                running.greet(&from, effects);
            }
            Phase::Finished => effects.push(Effect::Send { to: from, message: self.ended() }),
            Phase::Waiting { .. } => {}
        }
    }

    pub(super) fn protocol(&mut self, from: &Id, message: wire::ProtocolMessage, effects: &mut Vec<Effect>) {
        let refused = match &mut self.phase {
            Phase::Running(_) if self.members.is_excluded(from) => Some("excluded"),
            Phase::Running(running) => {
                // Who advertises has been told enough. A word of a later step may be an old one that is repeated.
                if message.step == Step::Advertise as u32 {
                    self.witnesses.satisfied(from);
                }
                let begun = effects.len();
                let refused = running.protocol(from, message, effects).err();
                if let Some(Refused { code, misbehaviour: true }) = refused {
                    self.members.misbehaved(from, code);
                }
                self.note_blames(effects.get(begun..).unwrap_or_default());
                refused.map(|refused| refused.code)
            }
            Phase::Waiting { .. } | Phase::Finished => Some("no-attempt"),
        };
        effects.extend(refused.map(|code| Effect::Refused { from: from.clone(), code }));
    }

    pub(super) fn held(
        &mut self,
        from: &Id,
        round: u32,
        attempt: u32,
        chunks: u32,
        effects: &mut Vec<Effect>,
    ) {
        if let Phase::Running(running) = &mut self.phase
            && running.is(round, attempt)
        {
            running.held(from, chunks, effects);
        }
    }

    /// Handles one chunk of a masked input.
    ///
    /// # Errors
    ///
    /// [`ChunkRefused`] says what was wrong with it; nothing changes then.
    pub fn handle_chunk(
        &mut self,
        from: &Id,
        part: impl Into<HashedPart>,
        now_ms: u64,
    ) -> Result<Vec<Effect>, ChunkRefused> {
        let Phase::Running(running) = &mut self.phase else { return Err(ChunkRefused("no-attempt")) };
        let mut effects = Vec::new();
        running.chunk(from, part.into(), &mut effects)?;
        self.members.seen(from, now_ms);
        self.advance(now_ms, &mut effects);
        self.farewell(false, &mut effects);
        Ok(effects)
    }

    /// Notes the evidence among what is to be recorded.
    pub(super) fn note_blames(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Record { event, .. } = effect {
                self.note_blame(event);
            }
        }
    }

    pub(super) fn note_blame(&mut self, event: &Event) {
        if let Event::Blamed { culprit, check, evidence } = event
            && let Phase::Running(running) = &self.phase
        {
            self.evidence.push(running.exhibit(culprit, check, evidence));
            self.members.convicted(culprit);
        }
    }

    /// What convicts members of this job, oldest first.
    pub fn evidence(&self) -> &[Evidence] {
        &self.evidence
    }

    pub(super) fn refusal(&mut self, from: &Id, refusal: wire::Refusal, effects: &mut Vec<Effect>) {
        if let Phase::Running(running) = &mut self.phase
            && running.is(refusal.round, refusal.attempt)
        {
            let begun = effects.len();
            if (1..=MAX_COMPLAINT_BYTES).contains(&refusal.complaint.len()) {
                running.complaint(from, &refusal.complaint, effects);
            }
            self.note_blames(effects.get(begun..).unwrap_or_default());
            let plain = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-';
            let code: String = refusal.code.chars().filter(plain).take(48).collect();
            // Its first word stands, so that a member that goes on declining does not fill the record.
            if self.members.refused(from, code.clone()) {
                let event = Event::Declined { from: from.clone(), code };
                effects.push(Effect::Record { round: refusal.round, attempt: refusal.attempt, event });
            }
        }
    }

    pub(super) fn evaluation(&mut self, from: &Id, evaluation: wire::Evaluation, effects: &mut Vec<Effect>) {
        let shares =
            [evaluation.accuracy, evaluation.macro_accuracy].iter().all(|share| (0.0..=1.0).contains(share));
        let plausible = shares && evaluation.loss.is_finite() && evaluation.loss >= 0.0;
        if *from != self.plan.document().evaluation.organization || !plausible {
            return;
        }
        if let Some(attempt) = self.evaluated(&evaluation) {
            let (round, event) = (evaluation.round, Event::Evaluated(evaluation));
            effects.push(Effect::Record { round, attempt, event });
        }
    }

    /// Notes a result; the attempt it belongs to, unless the round was not released or has its result already.
    pub(super) fn evaluated(&mut self, evaluation: &wire::Evaluation) -> Option<u32> {
        let released =
            |s: &&mut Summary| s.round == evaluation.round && s.adapter.is_some() && s.evaluation.is_none();
        let summary = self.history.iter_mut().rev().find(released)?;
        summary.evaluation = Some(*evaluation);
        summary.evaluator = Some(self.plan.document().evaluation.organization.clone());
        Some(summary.attempt)
    }
}
