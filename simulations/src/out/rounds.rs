//! One line for each round.

use std::time::Instant;

use consilium_crypto::privacy::{Composition, Mechanism, Step};
use consilium_proto::{
    plan::{Guarantees, PrivacyUnit, VerifiedPlan},
    wire::RoundSummary,
};
use serde::Serialize;

use crate::{
    scenario::Protocol,
    scores::Score,
    task::{On, TaskError},
    world::{Traffic, World},
};

/// What a round came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Round, from 1.
    pub round: u32,
    /// `released`, or why its last attempt failed.
    pub outcome: String,
    /// Attempts that it took.
    pub attempts: u32,
    /// Organizations whose updates are in the sum; 0 if there is none.
    pub survivors: usize,
    /// Organizations that were to take part and are not in the sum.
    pub dropped: usize,
    /// Cross-entropy of the new adapter on the public test set, nats; null in a round that is not evaluated.
    pub loss: Option<f64>,
    /// Part of the public test set that it scores right.
    pub accuracy: Option<f64>,
    /// Macro-averaged F1 there.
    pub macro_f1: Option<f64>,
    /// Loss of all survivors' training, from the noisy sum.
    pub train_loss: Option<f64>,
    /// Accuracy of all survivors' training, from the noisy sum.
    pub train_accuracy: Option<f64>,
    /// What all rounds so far have cost; null where the unit is `none`.
    pub epsilon: Option<Epsilon>,
    /// `δ` of all three.
    pub delta: Option<f64>,
    /// Bytes put on lines towards the coordinator in this round.
    pub bytes_up: u64,
    /// Bytes put on lines from the coordinator in this round.
    pub bytes_down: u64,
    /// Virtual time that the round took, waiting and retries included.
    pub virtual_seconds: f64,
    /// Wall time that computing it took.
    pub seconds: f64,
    /// Processor time of the simulation's thread.
    pub cpu_seconds: f64,
}

/// What rounds have cost, against three kinds of adversary.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Epsilon {
    /// Against whoever sees the released sums and colludes with nobody: all survivors' noise counts.
    pub all_honest: Option<f64>,
    /// Against the coordinator with the tolerated `t_c` colluders: the plan's guarantee.
    pub against_colluders: Option<f64>,
    /// Against everybody else together: an organization's own noise alone.
    pub against_everybody_else: Option<f64>,
}

/// Turns attempts into rounds.
pub struct Rounds {
    pending: Option<Pending>,
    spent: Composition,
    /// Attempts that cost something.
    debited: u64,
    begun: Begun,
}

struct Pending {
    last: RoundSummary,
    attempts: u32,
}

struct Begun {
    traffic: Traffic,
    virtual_seconds: f64,
    wall: Instant,
    cpu: f64,
}

impl Rounds {
    /// Before the first round.
    pub fn new(world: &World) -> Self {
        Self { pending: None, spent: Composition::new(), debited: 0, begun: Begun::now(world) }
    }

    /// Takes an attempt that has just ended; the round that is over with it, or was over before it.
    ///
    /// # Errors
    ///
    /// [`TaskError`], when the adapter cannot be scored.
    pub fn attempt(&mut self, world: &World, attempt: RoundSummary) -> Result<Vec<Row>, TaskError> {
        let mut rows = Vec::new();
        if self.pending.as_ref().is_some_and(|pending| pending.last.round != attempt.round) {
            rows.extend(self.finish(world)?);
        }
        self.debit(world, &attempt);
        let attempts = self.pending.as_ref().map_or(0, |pending| pending.attempts) + 1;
        let released = attempt.outcome == RELEASED;
        self.pending = Some(Pending { last: attempt, attempts });
        if released {
            rows.extend(self.finish(world)?);
        }
        Ok(rows)
    }

    /// The round that nobody came back to, if there is one.
    ///
    /// # Errors
    ///
    /// As [`Rounds::attempt`].
    pub fn finish(&mut self, world: &World) -> Result<Option<Row>, TaskError> {
        let Some(Pending { last, attempts }) = self.pending.take() else { return Ok(None) };
        // What is computed for this row is no part of a round.
        let ended = Begun::now(world);
        let score = self.score(world, &last)?;
        let spent = self.guarantees(&world.consortium().plan);
        let row = Row {
            round: last.round,
            attempts,
            survivors: last.survivors.len(),
            dropped: (world.scenario().sampled() as usize).saturating_sub(last.survivors.len()),
            outcome: last.outcome,
            loss: score.map(|score| score.loss),
            accuracy: score.map(|score| score.accuracy),
            macro_f1: score.and_then(|score| score.macro_f1),
            train_loss: last.train_loss,
            train_accuracy: last.train_accuracy,
            epsilon: spent.map(|spent| Epsilon {
                all_honest: self.spent.epsilon(spent.delta).ok(),
                against_colluders: Some(spent.central),
                against_everybody_else: Some(spent.local),
            }),
            delta: spent.map(|spent| spent.delta),
            bytes_up: ended.traffic.up - self.begun.traffic.up,
            bytes_down: ended.traffic.down - self.begun.traffic.down,
            virtual_seconds: ended.virtual_seconds - self.begun.virtual_seconds,
            seconds: (ended.wall - self.begun.wall).as_secs_f64(),
            cpu_seconds: ended.cpu - self.begun.cpu,
        };
        self.begun = Begun::now(world);
        Ok(Some(row))
    }

    fn score(&self, world: &World, last: &RoundSummary) -> Result<Option<Score>, TaskError> {
        let every = world.scenario().evaluation.every_rounds;
        let due = last.round.is_multiple_of(every) || last.round == world.scenario().rounds;
        // Where heads stay at home, with the evaluator's.
        match world.adapter_of(0) {
            Some(adapter) if due && last.outcome == RELEASED => {
                world.study().task.score(&adapter, On::Public)
            }
            _ => Ok(None),
        }
    }

    /// What the attempts so far have cost by the plan's own account; `None` where nobody is protected, or nothing bounds it.
    fn guarantees(&self, plan: &VerifiedPlan) -> Option<Guarantees> {
        let privacy = &plan.document().privacy;
        if privacy.unit == PrivacyUnit::None {
            return None;
        }
        plan.derived().guarantees(self.debited, privacy.delta).ok()
    }

    /// An attempt from which a masked byte may have left costs what its survivors' noise leaves; one without survivors, what
    /// the fewest would.
    fn debit(&mut self, world: &World, attempt: &RoundSummary) {
        let secure = world.scenario().protocol == Protocol::Secure;
        // Two steps ended before the masked inputs were asked for.
        if secure && attempt.step_seconds.len() <= 2 {
            return;
        }
        let plan = &world.consortium().plan;
        let fewest = plan.document().cohort.min_survivors;
        let shares = u32::try_from(attempt.survivors.len()).unwrap_or(u32::MAX).max(fewest);
        self.debited += 1;
        if let Some(step) = step(plan, shares) {
            // Out of range only if the plan's own numbers are, and then the round has no guarantee either.
            drop(self.spent.push(step));
        }
    }
}

const RELEASED: &str = "released";

/// One attempt in which so many shares of noise are unknown.
fn step(plan: &VerifiedPlan, shares: u32) -> Option<Step> {
    let mechanisms = plan.derived().mechanisms.as_ref()?;
    let params = *mechanisms.central.params();
    let shares =
        if plan.document().privacy.unit == PrivacyUnit::PatientLocal { params.shares } else { shares };
    let mechanism = Mechanism::new(consilium_crypto::privacy::MechanismParams { shares, ..params }).ok()?;
    Some(mechanism.steps(mechanisms.steps))
}

impl Begun {
    fn now(world: &World) -> Self {
        Self {
            traffic: world.traffic(),
            virtual_seconds: world.seconds(),
            wall: Instant::now(),
            cpu: super::result::cpu_seconds(),
        }
    }
}
