//! How an attempt ends without a sum, what comes next, and who has to sit out.
//!
//! Retries cost privacy: an attempt from which a masked input may have left costs ε whatever becomes of it. So a round is
//! repeated at most `max_attempts` times, and, once attempts have cost something for nothing, only as long as the plan's
//! reserve lasts; and a member that lets attempts down after it has dealt its shares sits the next rounds out.

use consilium_proto::{
    ids::Id,
    wire::{self, coordinator_message::Kind},
};

use super::{
    Effect, Event, Job, Phase, code,
    control::{Hold, Next},
    history::{Absent, Summary},
};

impl Job {
    pub(super) fn fail(&mut self, code: &'static str, now_ms: u64, effects: &mut Vec<Effect>) {
        self.count_overtaken(code);
        let Phase::Running(running) = &self.phase else { return };
        let (round, attempt) = (running.round, running.attempt);
        let (culprits, summary) = (running.culprits(), running.summary());
        let announcement = Some(running.announcement().clone());
        let logged = Some(self.logged_failure((round, attempt), code, &culprits, announcement, now_ms));
        let event = Event::Failed { code: code.into(), culprits: culprits.clone(), logged };
        effects.push(Effect::Record { round, attempt, event });
        let ended = wire::AttemptEnded {
            round,
            attempt,
            code: code.into(),
            culprits: culprits.iter().map(Id::to_string).collect(),
        };
        for id in self.plan.cohort() {
            effects.push(Effect::Send { to: id.clone(), message: Kind::AttemptEnded(ended.clone()) });
        }
        effects.push(Effect::DropInputs { round, attempt });
        self.failed(summary, code, culprits, now_ms);
        self.after_failure(round, attempt, now_ms);
    }

    /// Notes a failed attempt, now or in a replay.
    pub(super) fn failed(&mut self, mut summary: Summary, code: &str, culprits: Vec<Id>, now_ms: u64) {
        if let Phase::Running(running) = &self.phase {
            // Whoever was missing when it ended made it end, unless something else did.
            if [code::TOO_FEW_ANSWERS, code::TOO_MANY_REFUSALS].contains(&code) {
                let step = running.step();
                summary.absent.extend(running.missing().map(|id| Absent::new(id.clone(), step)));
            }
            summary.is_debited = running.is_debited();
            self.wasted += u64::from(summary.is_debited);
            self.settle_absences(running.round, &mut summary);
        }
        summary.outcome = code.into();
        summary.culprits = culprits;
        summary.ended_ms = now_ms;
        summary.debited = self.debited;
        self.history.push(summary);
    }

    /// Notes who was absent from an ended attempt and why, and who has to sit out for it.
    pub(super) fn settle_absences(&mut self, round: u32, summary: &mut Summary) {
        for absent in &mut summary.absent {
            absent.code = self.members.why_absent(&absent.id);
        }
        if !summary.is_debited {
            return;
        }
        for absent in summary.absent.iter().filter(|absent| absent.cost_privacy()) {
            self.members.let_down(&absent.id, round);
        }
        let there = |id: &&Id| !summary.absent.iter().any(|absent| absent.id == **id);
        for id in summary.survivors.iter().filter(there) {
            self.members.was_there(id);
        }
    }

    /// What comes after an attempt that ended without a sum.
    pub(super) fn after(&self, round: u32, attempt: u32) -> Next {
        let document = self.plan.document();
        let ends = self.control.hold == Hold::Stopping;
        let again = attempt < document.retries.max_attempts && self.reserve_left(round) > 0;
        match () {
            () if ends => Next::End,
            () if again => Next::Retry,
            () if round < document.rounds => Next::Round,
            () => Next::End,
        }
    }

    /// Attempts of this round that the reserve can still pay for, so that every later round can be paid for once. Without
    /// privacy nothing is spent.
    pub(super) fn reserve_left(&self, round: u32) -> u64 {
        let document = self.plan.document();
        if self.plan.derived().mechanisms.is_none() {
            return u64::from(u32::MAX);
        }
        let pays = u64::from(document.rounds) + document.retries.reserve(document.rounds);
        let later = u64::from(document.rounds.saturating_sub(round));
        pays.saturating_sub(self.debited).saturating_sub(later)
    }

    pub(super) fn after_failure(&mut self, round: u32, attempt: u32, now_ms: u64) {
        match self.after(round, attempt) {
            Next::Retry => self.phase = Phase::Waiting { round, attempt: attempt + 1, since_ms: now_ms },
            Next::Round | Next::End => self.next_round(round, now_ms),
        }
    }

    pub(super) fn next_round(&mut self, round: u32, now_ms: u64) {
        if round < self.plan.document().rounds && self.control.hold != Hold::Stopping {
            self.phase = Phase::Waiting { round: round + 1, attempt: 1, since_ms: now_ms };
        } else {
            self.finish();
        }
    }

    pub(super) fn finish(&mut self) {
        if self.control.hold == Hold::Stopping {
            self.control.hold = Hold::Stopped;
        }
        self.phase = Phase::Finished;
    }
}
