//! From recorded events back to the machine.

use std::{collections::BTreeMap, sync::Arc};

use consilium_proto::{
    action::Action,
    identity::Identity,
    log::LogHead,
    plan::VerifiedPlan,
    release::{VerifiedHead, initial_state},
    roster::VerifiedRoster,
    wire,
};
use thiserror::Error;

use super::{
    Behind, Control, Effect, Event, FiveSteps, Hold, Job, Phase, Summary, code, members::Members,
    running::Running, witness::Witnesses,
};

/// One recorded event, and when.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Round.
    pub round: u32,
    /// Attempt.
    pub attempt: u32,
    /// What happened.
    pub event: Event,
    /// Unix milliseconds.
    pub at_ms: u64,
}

/// Why a store could not be replayed.
#[derive(Debug, Error)]
#[error(
    "the recorded events of round {round} attempt {attempt} cannot be replayed: {why}; restore the state folder from its backup"
)]
pub struct RecoveryError {
    /// Round.
    pub round: u32,
    /// Attempt.
    pub attempt: u32,
    /// What did not fit.
    pub why: String,
}

impl Job {
    /// A job at its beginning.
    ///
    /// # Errors
    ///
    /// When the plan's adapter cannot be drawn; a verified plan's can.
    pub fn new(
        identity: Arc<Identity>,
        roster: Arc<VerifiedRoster>,
        plan: Arc<VerifiedPlan>,
        now_ms: u64,
    ) -> Result<Self, RecoveryError> {
        let state =
            initial_state(&plan).map_err(|e| RecoveryError { round: 0, attempt: 0, why: e.to_string() })?;
        let deadlines = &plan.document().deadlines;
        let grace_s = (deadlines.grace_s, deadlines.upload_grace_s.unwrap_or(deadlines.grace_s));
        let grace_ms = (u64::from(grace_s.0) * 1000, u64::from(grace_s.1) * 1000);
        let members = Members::new(plan.cohort(), grace_ms, now_ms);
        let log = LogHead::empty(&roster, &plan);
        Ok(Self {
            identity,
            roster,
            protocol: Arc::new(FiveSteps),
            state,
            members,
            witnesses: Witnesses::new(plan.derived().parameters.witnesses()),
            plan,
            phase: Phase::Waiting { round: 1, attempt: 1, since_ms: now_ms },
            released_round: 0,
            releases: 0,
            debited: 0,
            wasted: 0,
            control: Control::default(),
            guarantees: BTreeMap::new(),
            history: Vec::new(),
            started_ms: None,
            upload_bytes: 0,
            evidence: Vec::new(),
            log,
            behind: Behind::default(),
            room: true,
        })
    }

    /// Applies one recorded event. `release` looks up a published round in the store.
    ///
    /// # Errors
    ///
    /// [`RecoveryError`] when the event does not fit what came before: the store was altered or damaged.
    pub fn replay(
        &mut self,
        recovered: Recovered,
        release: &mut dyn FnMut(u32) -> Option<(wire::SignedReleaseHead, Vec<u8>)>,
    ) -> Result<(), RecoveryError> {
        let Recovered { round, attempt, event, at_ms } = recovered;
        let broken = |why: String| RecoveryError { round, attempt, why };
        match &event {
            Event::Opened(_) => {
                let running = self.opened(&event, round, attempt, at_ms).map_err(broken)?;
                self.phase = Phase::Running(Box::new(running));
            }
            Event::Released { logged, .. } => {
                self.relogged(logged.as_ref()).map_err(broken)?;
                let (_, metrics) = self.applied_again(release(round)).map_err(broken)?;
                self.released(Some(metrics), at_ms);
            }
            Event::Returned { debited, logged, .. } => {
                self.relogged(logged.as_ref()).map_err(broken)?;
                let (head, metrics) = self.applied_again(release(round)).map_err(broken)?;
                self.debited = *debited;
                self.note_returned(&head, metrics, at_ms);
            }
            Event::Seen { debited, logged } => {
                self.relogged(logged.as_ref()).map_err(broken)?;
                self.debited = *debited;
                self.after_failure(round, attempt, at_ms);
            }
            Event::Failed { code, culprits, logged } => {
                self.has_started();
                self.relogged(logged.as_ref()).map_err(broken)?;
                self.count_overtaken(code);
                let summary = match &self.phase {
                    Phase::Running(running) => running.summary(),
                    _ => Summary { round, attempt, started_ms: at_ms, ..Summary::default() },
                };
                self.failed(summary, code, culprits.clone(), at_ms);
                if code == code::TOO_FEW_ONLINE {
                    self.next_round(round, at_ms);
                } else {
                    self.after_failure(round, attempt, at_ms);
                }
            }
            Event::Logged(entry) => self.relogged(Some(entry)).map_err(broken)?,
            Event::Evaluated(evaluation) => {
                self.evaluated(evaluation);
            }
            Event::Acted(signed) => {
                // Its signature was verified before it was recorded, under the roster of that day.
                let action = Action::read(signed, &self.plan.digest()).map_err(|e| broken(e.to_string()))?;
                self.apply(&action.what, at_ms);
            }
            Event::Pardoned => self.members.pardon(round),
            Event::Declined { from, code } => {
                self.members.refused(from, code.clone());
            }
            Event::Accepted { .. } | Event::Stored { .. } | Event::Blamed { .. } | Event::Closed { .. } => {
                let Phase::Running(running) = &mut self.phase else {
                    return Err(broken(format!("event \"{}\" outside an attempt", event.kind())));
                };
                running.replay(&event, at_ms).map_err(broken)?;
                self.debited += running.newly_debited();
                self.note_blame(&event);
            }
        }
        Ok(())
    }

    /// Applies a published sum from the store to the adapter; its head, and loss and accuracy of everybody's training.
    fn applied_again(
        &mut self,
        kept: Option<(wire::SignedReleaseHead, Vec<u8>)>,
    ) -> Result<(VerifiedHead, (f64, f64)), String> {
        let (head, sum) = kept.ok_or("its sum is missing")?;
        let head = VerifiedHead::verify(&head, &self.roster, &self.plan).map_err(|e| e.to_string())?;
        let metrics = head.replay(&self.plan, &mut self.state, &sum).map_err(|e| e.to_string())?;
        Ok((head, (metrics.loss, metrics.accuracy)))
    }

    /// What to do first after the last event was replayed: the work that a crash interrupted.
    pub fn resume(&mut self, now_ms: u64) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Waiting { since_ms, .. } => *since_ms = now_ms,
            Phase::Running(running) => running.resume(now_ms),
            Phase::Finished => {}
        }
        match &self.phase {
            Phase::Running(running) if running.is_releasing() => {
                running.aggregation().map(Effect::Aggregate).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// A job that has begun does not wait to be started, whatever its configuration says now.
    fn has_started(&mut self) {
        if self.control.hold == Hold::NotStarted {
            self.control.hold = Hold::No;
        }
    }

    pub(super) fn opened(
        &mut self,
        event: &Event,
        round: u32,
        attempt: u32,
        at_ms: u64,
    ) -> Result<Running, String> {
        let Event::Opened(announcement) = event else { return Err("not an announcement".into()) };
        self.has_started();
        self.leave_out(round);
        self.members.forget_refusals();
        let mut running = Running::open(announcement, &self.roster, &self.plan, &*self.protocol, at_ms)?;
        if !running.is(round, attempt) {
            return Err("the announcement is of another attempt".into());
        }
        self.started_ms.get_or_insert(at_ms);
        self.debited += running.newly_debited();
        Ok(running)
    }
}
