//! The ledger in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use consilium_crypto::{
    digest::{Digest, Transcript},
    privacy::Mechanism,
    secagg::LedgerHead,
    secret::Secret,
};
use consilium_proto::{ids::Id, plan::VerifiedPlan};

use super::{
    Budget, Debit, LedgerRefusal,
    tally::{Memo, Tally},
};

/// All debits of one data set.
#[derive(Debug)]
pub struct LedgerState {
    data_set: Id,
    salt: Secret<[u8; 32]>,
    debits: Vec<Debit>,
    /// The head after so many debits; one more than there are debits.
    heads: Vec<Digest>,
    seen: BTreeSet<(String, u32, u32)>,
    jobs: BTreeMap<Id, Tally>,
    all: Tally,
    memo: Arc<Memo>,
    /// Heads below this length are not those that peers were told.
    told_from: u64,
}

/// What was spent, recomposed from the entries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spent {
    /// `ε` against the coordinator with the tolerated colluders. Infinite if nothing bounds it: an attempt without noise
    /// (unit `none`), a job whose plans protect different units, or more than the accountant can count.
    pub epsilon: f64,
    /// `ε` against everybody else together.
    pub epsilon_local: f64,
    /// At this `δ`: the smallest among the plans concerned. 0 when nothing was spent.
    pub delta: f64,
    /// Attempts debited.
    pub debits: u64,
}

/// What one more attempt leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlook {
    /// The job's `ε` after it, at the plan's `δ`; infinite for the unit `none`.
    pub epsilon_after: f64,
    /// One patient's `ε` after it, over all jobs of the data set, at the total budget's `δ`; `None` without a total budget.
    pub total_after: Option<f64>,
    /// How many more rounds fit after it, of one attempt each; 0: this is the last. Never above the attempts that the plan
    /// still allows.
    pub rounds_left: u64,
}

impl Outlook {
    /// The last round that fits, if this attempt is of `round` and every later round takes one.
    pub fn last_round(&self, round: u32) -> u64 {
        u64::from(round).saturating_add(self.rounds_left)
    }
}

impl LedgerState {
    /// The ledger of a data set that nothing was spent of. `salt` is 32 random bytes, drawn once for the data set's life.
    pub fn new(data_set: Id, salt: [u8; 32]) -> Self {
        let first = Transcript::new("consilium/1/ledger-of").bytes(data_set.as_str().as_bytes()).finish();
        Self {
            data_set,
            salt: Secret::new(salt),
            debits: Vec::new(),
            heads: vec![first],
            seen: BTreeSet::new(),
            jobs: BTreeMap::new(),
            all: Tally::default(),
            memo: Arc::default(),
            told_from: 0,
        }
    }

    /// The ledger with these entries, oldest first.
    ///
    /// # Errors
    ///
    /// As [`LedgerState::debit`], for the first entry that is not one.
    pub fn from_debits(
        data_set: Id,
        salt: [u8; 32],
        debits: impl IntoIterator<Item = Debit>,
    ) -> Result<Self, LedgerRefusal> {
        let mut state = Self::new(data_set, salt);
        debits.into_iter().try_for_each(|debit| state.debit(debit))?;
        Ok(state)
    }

    /// Keeps the accountant's answers in one place with `other`, for whoever holds many ledgers of one job. Answers are the
    /// same either way.
    #[must_use]
    pub fn sharing_answers(mut self, other: &Self) -> Self {
        self.memo = other.memo.clone();
        self
    }

    /// Enters a debit. The caller makes it durable before anything of the attempt leaves the process. Budgets are
    /// [`LedgerState::admits`]'s business: what was spent is entered even if it should not have been.
    ///
    /// # Errors
    ///
    /// [`LedgerRefusal::Twice`], [`LedgerRefusal::Malformed`], [`LedgerRefusal::Unbounded`]; nothing is entered then.
    pub fn debit(&mut self, debit: Debit) -> Result<(), LedgerRefusal> {
        debit.check()?;
        let key = debit.key();
        if self.seen.contains(&key) {
            return Err(LedgerRefusal::Twice { round: debit.round, attempt: debit.attempt });
        }
        let mut job = self.jobs.get(&debit.job).cloned().unwrap_or_default();
        job.add(&debit)?;
        self.all.add_for_a_patient(&debit)?;
        self.jobs.insert(debit.job.clone(), job);
        self.seen.insert(key);
        self.heads.push(debit.head_after(&self.digest()));
        self.debits.push(debit);
        Ok(())
    }

    /// Whether one more attempt of this plan keeps within its job's budget and, over all jobs of this data set, within
    /// `total_budget` (`ε`, `δ`); and what it leads to.
    ///
    /// # Errors
    ///
    /// [`LedgerRefusal::JobBudget`], [`LedgerRefusal::TotalBudget`], with the arithmetic; [`LedgerRefusal::NoGuarantee`] for a
    /// plan of the unit `none` where there is a total budget; [`LedgerRefusal::Unbounded`].
    pub fn admits(
        &self,
        plan: &VerifiedPlan,
        total_budget: Option<(f64, f64)>,
    ) -> Result<Outlook, LedgerRefusal> {
        let document = plan.document();
        let empty = Tally::default();
        let job = self.jobs.get(&document.job).unwrap_or(&empty);
        let attempts = u64::from(document.rounds) * u64::from(document.retries.max_attempts);
        let most = attempts.saturating_sub(job.debits).max(1);
        // The numbers of an attempt are the same in every round.
        let attempt = Debit::of(plan, 1, 1);
        let (Some((step, _)), Some((for_a_patient, _))) =
            (attempt.mechanisms()?, attempt.mechanisms_for_a_patient()?)
        else {
            return match total_budget {
                Some(_) => Err(LedgerRefusal::NoGuarantee { job: document.job.clone() }),
                None => {
                    Ok(Outlook { epsilon_after: f64::INFINITY, total_after: None, rounds_left: most - 1 })
                }
            };
        };
        let budget = Budget { epsilon: document.privacy.epsilon, delta: document.privacy.delta };
        // Whether it fits and what it leads to; how many attempts of several steps each fit.
        let after = |tally: &Tally, step: Mechanism, delta| {
            let mut longer = tally.central.clone();
            longer.push(step.steps(attempt.steps))?;
            if tally.unbounded { Ok(f64::INFINITY) } else { self.memo.epsilon(&longer, delta) }
        };
        let remaining = |tally: &Tally, step: Mechanism, budget| {
            let most = most.saturating_mul(attempt.steps);
            let fit = self.memo.remaining(&tally.central, step.steps(1), budget, most)?;
            Ok::<_, LedgerRefusal>(if tally.unbounded { 0 } else { fit / attempt.steps })
        };
        let epsilon_after = after(job, step, budget.delta)?;
        let mut fit = remaining(job, step, budget)?;
        if fit == 0 {
            let (job, debits) = (document.job.clone(), job.debits);
            return Err(LedgerRefusal::JobBudget { job, epsilon: epsilon_after, budget, debits });
        }
        let mut total_after = None;
        if let Some((epsilon, delta)) = total_budget {
            let budget = Budget { epsilon, delta };
            let epsilon = after(&self.all, for_a_patient, budget.delta)?;
            let all = remaining(&self.all, for_a_patient, budget)?;
            if all == 0 {
                return Err(LedgerRefusal::TotalBudget { epsilon, budget, debits: self.all.debits });
            }
            fit = fit.min(all);
            total_after = Some(epsilon);
        }
        Ok(Outlook { epsilon_after, total_after, rounds_left: fit - 1 })
    }

    /// Whether one more attempt of this plan keeps all jobs of this data set within `budget` against everybody else together:
    /// of this organization's noise alone. `ε` after it.
    ///
    /// # Errors
    ///
    /// [`LedgerRefusal::EverybodyElse`], [`LedgerRefusal::NoGuarantee`], [`LedgerRefusal::Unbounded`].
    pub fn admits_against_everybody_else(
        &self,
        plan: &VerifiedPlan,
        budget: Budget,
    ) -> Result<f64, LedgerRefusal> {
        let attempt = Debit::of(plan, 1, 1);
        let Some((_, step)) = attempt.mechanisms_for_a_patient()? else {
            return Err(LedgerRefusal::NoGuarantee { job: plan.document().job.clone() });
        };
        let mut longer = self.all.local.clone();
        longer.push(step.steps(attempt.steps))?;
        let unbounded = self.all.unbounded;
        let epsilon = if unbounded { f64::INFINITY } else { self.memo.epsilon(&longer, budget.delta)? };
        if epsilon <= budget.epsilon {
            return Ok(epsilon);
        }
        Err(LedgerRefusal::EverybodyElse { epsilon, budget, debits: self.all.debits })
    }

    /// What a job has spent; nothing, if the ledger does not know it.
    pub fn spent(&self, job: &Id) -> Spent {
        self.jobs
            .get(job)
            .map_or_else(|| self.spend_of(&Tally::default(), None), |tally| self.spend_of(tally, None))
    }

    /// What all jobs together have spent of one patient's privacy; an attempt that protects organizations counts with twice its
    /// sensitivity. At `delta`, or at the smallest among their plans.
    pub fn spent_in_all(&self, delta: Option<f64>) -> Spent {
        self.spend_of(&self.all, delta)
    }

    fn spend_of(&self, tally: &Tally, delta: Option<f64>) -> Spent {
        let delta = delta.unwrap_or(tally.delta);
        // What cannot be bounded counts as everything, never as nothing.
        let epsilon = |steps| {
            if tally.unbounded {
                return f64::INFINITY;
            }
            self.memo.epsilon(steps, delta).unwrap_or(f64::INFINITY)
        };
        Spent {
            epsilon: epsilon(&tally.central),
            epsilon_local: epsilon(&tally.local),
            delta,
            debits: tally.debits,
        }
    }

    /// The data set's name.
    pub fn data_set(&self) -> &Id {
        &self.data_set
    }

    /// Every debit, oldest first.
    pub fn debits(&self) -> &[Debit] {
        &self.debits
    }

    /// Whether this attempt has its debit.
    pub fn has(&self, plan: &VerifiedPlan, round: u32, attempt: u32) -> bool {
        self.seen.contains(&(plan.digest().to_string(), round, attempt))
    }

    /// Jobs that have spent anything, sorted.
    pub fn jobs(&self) -> impl Iterator<Item = &Id> {
        self.jobs.keys()
    }

    /// How many debits there are.
    pub fn length(&self) -> u64 {
        self.debits.len() as u64
    }

    /// What peers are told in every advertise message: [`LedgerState::length`] and [`LedgerState::salted_head`].
    pub fn head(&self) -> LedgerHead {
        LedgerHead { length: self.length(), salted_head: self.salted_head() }
    }

    /// `H("consilium/1/ledger-head", salt, length, digest of the entries)`.
    pub fn salted_head(&self) -> Digest {
        self.salted(self.length(), &self.digest())
    }

    /// The salted head that peers were told when there were `length` debits; `None` if there never were so many. A peer's
    /// copy that differs from it shows that this ledger has lost or changed entries.
    pub fn salted_head_at(&self, length: u64) -> Option<Digest> {
        let digest = self.heads.get(usize::try_from(length).ok()?)?;
        Some(self.salted(length, digest))
    }

    /// Notes that what is here was put together after a loss: what peers were told before, it cannot explain.
    pub fn recovered(&mut self) {
        self.told_from = self.length();
    }

    /// As [`LedgerState::salted_head_at`], and also `None` for lengths from before a recovery.
    pub fn told_at(&self, length: u64) -> Option<Digest> {
        if length < self.told_from { None } else { self.salted_head_at(length) }
    }

    /// Digest over the data set's name and every debit. For this organization's eyes only: without the salt it can be
    /// guessed from a few numbers.
    pub fn digest(&self) -> Digest {
        // Unwrap safety: `heads` begins with one and only grows.
        self.heads.last().copied().unwrap_or(Digest([0; 32]))
    }

    fn salted(&self, length: u64, head: &Digest) -> Digest {
        Transcript::new("consilium/1/ledger-head").bytes(self.salt.expose()).u64(length).digest(head).finish()
    }
}
