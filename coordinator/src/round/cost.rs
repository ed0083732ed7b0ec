//! What attempts cost in privacy: all of them, and those without a sum.

use consilium_proto::{plan::Guarantees, wire};

use super::{Job, history::Summary};

impl Job {
    /// The latest number of debited attempts whose cost nobody has computed yet. Computing it takes a moment, so the driver does
    /// it beside the round and comes back with [`Job::note_cost`].
    pub fn unknown_cost(&self) -> Option<u64> {
        let wasted = self.history.iter().filter(|summary| summary.is_debited && summary.adapter.is_none());
        let all = self.history.iter().map(|summary| summary.debited);
        let all = all.chain([self.debited, self.debited - self.wasted.min(self.debited)]);
        all.chain(wasted.map(|summary| summary.debited.saturating_sub(1)))
            .filter(|count| *count > 0 && !self.guarantees.contains_key(count))
            .max()
    }

    /// Notes what a number of attempts costs.
    pub fn note_cost(&mut self, attempts: u64, cost: Guarantees) {
        self.guarantees.insert(attempts, cost);
    }

    /// The two guarantees if every one of these attempts counts.
    pub(super) fn cost(&self, attempts: u64) -> Option<Guarantees> {
        if self.plan.derived().mechanisms.is_none() {
            return Some(Guarantees::NONE);
        }
        let nothing = Guarantees { central: 0.0, local: 0.0, delta: self.plan.document().privacy.delta };
        if attempts == 0 { Some(nothing) } else { self.guarantees.get(&attempts).copied() }
    }

    /// What attempts without a sum have cost: everything, less what the others alone would have.
    pub(super) fn wasted(&self) -> Option<Guarantees> {
        if self.wasted == 0 || self.plan.derived().mechanisms.is_none() {
            let delta = self.plan.document().privacy.delta;
            return Some(Guarantees { central: 0.0, local: 0.0, delta });
        }
        let (all, without) = (self.cost(self.debited)?, self.cost(self.debited.checked_sub(self.wasted)?)?);
        Some(Guarantees {
            central: (all.central - without.central).max(0.0),
            local: (all.local - without.local).max(0.0),
            delta: all.delta,
        })
    }

    /// An ended attempt in the wire's form.
    pub(super) fn summary(&self, summary: &Summary) -> wire::RoundSummary {
        let spent = self.cost(summary.debited);
        let lost = summary.is_debited && summary.adapter.is_none();
        let before = summary.debited.checked_sub(1).filter(|_| lost).and_then(|count| self.cost(count));
        let wasted = spent.zip(before).map(|(spent, before)| (spent.central - before.central).max(0.0));
        let wasted = wasted.filter(|_| self.plan.derived().mechanisms.is_some());
        wire::RoundSummary { epsilon_wasted: wasted, ..summary.wire(spent) }
    }
}
