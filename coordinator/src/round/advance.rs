//! From one phase to the next: when an attempt opens, when its steps end, when the job does.

use consilium_proto::wire::{self, coordinator_message::Kind};

use super::{
    Effect, Event, Job, Phase, code,
    history::Summary,
    running::{Running, Settled},
};

impl Job {
    /// Tells everybody once that the job is over.
    pub(super) fn farewell(&self, was_finished: bool, effects: &mut Vec<Effect>) {
        if self.is_finished() && !was_finished {
            for id in self.plan.cohort() {
                effects.push(Effect::Send { to: id.clone(), message: self.ended() });
            }
        }
    }

    /// Goes on as far as time and what is known allow.
    pub(super) fn advance(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if self.patience_ms().is_some_and(|until| now_ms >= until)
            && let Some(slow) = self.behind.slowest()
        {
            self.claims_nothing(&slow, now_ms, effects);
        }
        loop {
            let begun = effects.len();
            let moved = match &mut self.phase {
                Phase::Finished => false,
                Phase::Waiting { round, attempt, since_ms } => {
                    let (round, attempt, since_ms) = (*round, *attempt, *since_ms);
                    self.try_open(round, attempt, since_ms, now_ms, effects)
                }
                Phase::Running(running) => {
                    match running.settle(&self.members, self.plan.document(), now_ms, effects) {
                        Settled::Wait => false,
                        Settled::Moved => {
                            self.debited += running.newly_debited();
                            true
                        }
                        Settled::Failed { code } => {
                            self.note_blames(effects.get(begun..).unwrap_or_default());
                            self.fail(code, now_ms, effects);
                            true
                        }
                    }
                }
            };
            if !moved {
                return;
            }
        }
    }

    /// Before an attempt of `round`: who does not take part, now or in a replay.
    pub(super) fn leave_out(&mut self, round: u32) {
        let minimum = self.plan.document().cohort.min_survivors as usize;
        let failing = self.history.last().is_some_and(|last| last.adapter.is_none());
        self.members.leave_out(minimum, round, failing);
    }

    fn try_open(
        &mut self,
        round: u32,
        attempt: u32,
        since_ms: u64,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if self.is_held() {
            return false;
        }
        if self.is_behind() || !self.room {
            // Nobody is waited for meanwhile, so nobody is late.
            self.phase = Phase::Waiting { round, attempt, since_ms: now_ms };
            return false;
        }
        let minimum = self.plan.document().cohort.min_survivors as usize;
        self.leave_out(round);
        let settled = self
            .plan
            .cohort()
            .iter()
            .all(|id| self.members.is_online(id) || self.members.is_gone(id, now_ms));
        if settled && self.members.online() < minimum && self.members.online_if_pardoned() >= minimum {
            // Nobody is kept out of a round that cannot do without.
            effects.push(Effect::Record { round, attempt, event: Event::Pardoned });
            self.members.pardon(round);
            self.leave_out(round);
        }
        if self.members.online() >= minimum && settled {
            if self.jump(now_ms, effects) {
                return true;
            }
            let announcement =
                Running::announce(&self.identity, &self.roster, &self.plan, &self.state, round, attempt);
            let event = Event::Opened(announcement);
            if let Ok(running) = self.opened(&event, round, attempt, now_ms) {
                effects.push(Effect::Record { round, attempt, event });
                for id in self.plan.cohort().iter().filter(|id| !self.members.is_excluded(id)) {
                    self.witnesses.greet(id, effects);
                    running.greet(id, effects);
                }
                self.phase = Phase::Running(Box::new(running));
                return true;
            }
        }
        if now_ms >= since_ms + self.wait_ms() {
            let code = code::TOO_FEW_ONLINE;
            let logged = Some(self.logged_failure((round, attempt), code, &[], None, now_ms));
            let event = Event::Failed { code: code.into(), culprits: Vec::new(), logged };
            effects.push(Effect::Record { round, attempt, event });
            let summary = Summary { round, attempt, started_ms: since_ms, ..Summary::default() };
            self.failed(summary, code::TOO_FEW_ONLINE, Vec::new(), now_ms);
            // Nobody came: another attempt of the same round would wait for the same members.
            self.next_round(round, now_ms);
            return true;
        }
        false
    }

    pub(super) fn ended(&self) -> Kind {
        Kind::JobEnded(wire::JobEnded { releases: self.releases })
    }
}
