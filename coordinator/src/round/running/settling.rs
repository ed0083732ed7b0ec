//! When a step has waited long enough, and what its end leads to.

use consilium_crypto::secagg::Step;
use consilium_proto::{ids::Id, plan::Plan};

use super::Running;
use crate::round::{Effect, Event, code, history::Absent, members::Members};

/// What came of looking at the step.
pub(crate) enum Settled {
    /// Nothing: the round waits.
    Wait,
    /// A step ended.
    Moved,
    /// The attempt ended.
    Failed { code: &'static str },
}

impl Running {
    /// Ends the step if everybody answered, or if enough did and nothing will come from the rest; fails the attempt if
    /// the minimum is out of reach.
    pub(crate) fn settle(
        &mut self,
        members: &Members,
        plan: &Plan,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) -> Settled {
        if self.aggregating {
            return Settled::Wait;
        }
        let failed = |code| Settled::Failed { code };
        let late = now_ms >= self.deadline_ms(plan);
        let (received, needed) = (self.collector.received().len(), self.collector.needed());
        if received < needed {
            // Whoever is away may come back with its secrets; whoever declined will not speak again.
            let declined = members.unwilling().filter(|id| self.is_missing(id)).count();
            let possible = self.unheard().saturating_sub(declined);
            let hopeless = received + possible < needed;
            return match (late, hopeless) {
                (_, true) => failed(code::TOO_MANY_REFUSALS),
                (true, false) => failed(code::TOO_FEW_ANSWERS),
                (false, false) => Settled::Wait,
            };
        }
        // A quorum of answers is all that unmasking takes: each was checked when it came.
        let answered = self.step() == Step::Unmask;
        let gone = |id: &Id| {
            let begun = self.position(id).is_some_and(|position| self.holds(position));
            if begun { members.is_gone_uploading(id, now_ms) } else { members.is_gone(id, now_ms) }
        };
        // Counted first: to go through all who are missing at every message would cost the square of their number.
        let all_gone = || self.unheard() <= members.perhaps_gone() && self.missing().all(gone);
        let over = answered || late || all_gone();
        if over { self.close(now_ms, effects) } else { Settled::Wait }
    }

    fn close(&mut self, now_ms: u64, effects: &mut Vec<Effect>) -> Settled {
        let step = self.step();
        effects.push(self.record(Event::Closed { step: step as u32 }));
        if let Some(failed) = self.closed(step, now_ms) {
            self.blame(effects);
            return failed;
        }
        if self.aggregating {
            effects.extend(self.aggregation().map(Effect::Aggregate));
            return Settled::Wait;
        }
        let expected: Vec<_> = self.collector.expected().iter().copied().collect();
        for position in expected {
            self.deliver(position, effects);
        }
        Settled::Moved
    }

    /// Freezes the step's set, now or in a replay.
    pub(super) fn closed(&mut self, step: Step, now_ms: u64) -> Option<Settled> {
        if step != Step::Unmask {
            let absent: Vec<_> = self.missing().map(|id| Absent::new(id.clone(), step)).collect();
            self.absent.extend(absent);
        }
        if self.collector.close().is_err() {
            return Some(Settled::Failed { code: code::MISBEHAVIOUR });
        }
        self.step_ends_ms.push(now_ms);
        self.debit_pending |= step != Step::Input && self.step() == Step::Input;
        self.debited |= self.debit_pending;
        self.aggregating = self.collector.sum().is_some();
        None
    }
}
