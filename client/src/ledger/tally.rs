//! Entries counted by equal parameters, and answers kept: recomposing is exact and need not be slow.

use std::sync::{Mutex, PoisonError};

use consilium_crypto::privacy::{Composition, Mechanism, PrivacyError, Step};
use consilium_proto::plan::PrivacyUnit;

use super::{Budget, Debit};

/// How many answers of each kind are kept.
const KEPT: usize = 64;

/// Debits that one question concerns.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// As the coordinator with the tolerated colluders sees them.
    pub(super) central: Composition,
    /// As everybody else together does.
    pub(super) local: Composition,
    /// Attempts.
    pub(super) debits: u64,
    /// The smallest `δ` among them, at which all of them are accounted; 0 without any.
    pub(super) delta: f64,
    /// No `ε` bounds them: one of them had no noise, or they protect different units and are not counted as a patient's.
    pub(super) unbounded: bool,
    /// Whom the first of them protects.
    unit: Option<PrivacyUnit>,
}

impl Tally {
    /// Counts a debit of a job in the job's own unit; on an error nothing is counted.
    pub(super) fn add(&mut self, debit: &Debit) -> Result<(), PrivacyError> {
        let mixed = self.unit.is_some_and(|unit| whose(unit) != whose(debit.unit));
        self.count(debit, debit.mechanisms()?)?;
        self.unbounded |= mixed;
        Ok(())
    }

    /// Counts a debit of any job as one patient is protected by it; on an error nothing is counted.
    pub(super) fn add_for_a_patient(&mut self, debit: &Debit) -> Result<(), PrivacyError> {
        self.count(debit, debit.mechanisms_for_a_patient()?)
    }

    fn count(&mut self, debit: &Debit, step: Option<(Mechanism, Mechanism)>) -> Result<(), PrivacyError> {
        let mut next = self.clone();
        next.unit = next.unit.or(Some(debit.unit));
        next.debits += 1;
        match step {
            None => next.unbounded = true,
            Some((central, local)) => {
                next.central.push(central.steps(debit.steps))?;
                next.local.push(local.steps(debit.steps))?;
                next.delta = if next.delta == 0.0 { debit.delta } else { next.delta.min(debit.delta) };
            }
        }
        *self = next;
        Ok(())
    }
}

/// Two units whose `ε` mean the same have the same answer.
fn whose(unit: PrivacyUnit) -> u8 {
    match unit {
        PrivacyUnit::Patient | PrivacyUnit::PatientLocal => 0,
        PrivacyUnit::Organization => 1,
        PrivacyUnit::None => 2,
    }
}

/// Answers of the accountant, newest last.
#[derive(Debug, Default)]
pub(super) struct Memo(Mutex<Answers>);

#[derive(Debug, Default)]
struct Answers {
    epsilons: Vec<(Composition, f64, f64)>,
    capacities: Vec<Capacity>,
}

/// How many of `step` fit beside `others`, in all.
#[derive(Debug)]
struct Capacity {
    others: Composition,
    step: Step,
    budget: Budget,
    fit: u64,
    /// Whether the search ended at its limit, so that more may fit.
    at_least: bool,
}

impl Memo {
    /// `ε` of a composition; 0 for an empty one.
    pub(super) fn epsilon(&self, steps: &Composition, delta: f64) -> Result<f64, PrivacyError> {
        if steps.steps().is_empty() {
            return Ok(0.0);
        }
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |(of, at, _): &&(Composition, f64, f64)| *at == delta && of == steps;
        if let Some((_, _, epsilon)) = answers.epsilons.iter().find(known) {
            return Ok(*epsilon);
        }
        let epsilon = steps.epsilon(delta)?;
        keep(&mut answers.epsilons, (steps.clone(), delta, epsilon));
        Ok(epsilon)
    }

    /// How many more of `step` fit into `budget` after `spent`, looking no further than `most`.
    ///
    /// After one of them is debited, one fewer fits, whatever the curve of `ε` looks like: so the search runs once for a
    /// plan, not once a round.
    pub(super) fn remaining(
        &self,
        spent: &Composition,
        step: Step,
        budget: Budget,
        most: u64,
    ) -> Result<u64, PrivacyError> {
        let step = Step { count: 1, ..step };
        let same = |other: &Step| Step { count: 1, ..*other } == step;
        let (mut others, mut taken) = (Composition::new(), 0);
        for other in spent.steps() {
            if same(other) {
                taken = other.count;
            } else {
                others.push(*other)?;
            }
        }
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = answers.capacities.iter().find(|capacity| {
            (capacity.step, capacity.budget, &capacity.others) == (step, budget, &others)
                && !(capacity.at_least && capacity.fit <= taken)
        });
        if let Some(capacity) = known {
            return Ok(capacity.fit.saturating_sub(taken).min(most));
        }
        let more = spent.remaining(step, budget.epsilon, budget.delta, most)?;
        let fit = taken.saturating_add(more);
        keep(&mut answers.capacities, Capacity { others, step, budget, fit, at_least: more == most });
        Ok(more)
    }
}

fn keep<A>(answers: &mut Vec<A>, answer: A) {
    if answers.len() >= KEPT {
        answers.remove(0);
    }
    answers.push(answer);
}
