//! The session state machine: what an organization's client does in a job, without doing it. The mirror of the
//! coordinator's round.
//!
//! Sans-IO. What happened comes in ([`Input`]); what to do comes out ([`Effect`]), in order: a record or a debit must be
//! durable before any effect after it is executed. The coordinator is not believed: an announcement must follow from the
//! signed plan, the adapter must be the one that this client computed from published sums, and every message of the
//! protocol is checked by the protocol's own client ([`Participating`](consilium_crypto::protocol::Participating)).
//!
//! Before the first attempt of a process, enough peers must have said what they hold of this client (`proof`): a state that was
//! restored from an old copy is found, and takes part in nothing.
//!
//! One masked vector, one vote and one answer per attempt, ever: the attempt is recorded before the first key leaves, the
//! debit and the header before the first masked byte, the vote and the answer before they are said. After a restart the
//! attempt is sat out.

mod active;
mod check;
mod effect;
mod event;
mod heard;
mod held;
mod input;
mod joining;
mod proof;
mod releases;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use consilium_crypto::{protocol::Protocol, release::AdapterState, secagg::FiveSteps};
use consilium_proto::{
    identity::Identity,
    plan::VerifiedPlan,
    release::initial_state,
    roster::VerifiedRoster,
    wire::{self, client_message::Kind as Say},
};
use rand::CryptoRng;

use crate::{
    ledger::{Budget, LedgerState},
    threads::Threads,
};
use active::Active;
pub use effect::Effect;
pub use event::{Event, Lost, Recorded};
pub(crate) use heard::hello;
pub use held::{BadHeld, Held};
pub use input::Input;
use proof::Proof;
pub use proof::restored;

/// What a session is made of.
pub struct Session {
    identity: Arc<Identity>,
    roster: Arc<VerifiedRoster>,
    plan: Arc<VerifiedPlan>,
    protocol: Arc<dyn Protocol>,
    ledger: LedgerState,
    budget: Option<Budget>,
    budget_everybody_else: Option<Budget>,
    state: Arc<AdapterState>,
    applied_round: u32,
    recorded: Recorded,
    held: Held,
    proof: Proof,
    active: Option<Active>,
    /// Why this client joins nothing just now: a code and words.
    barred: Option<(&'static str, String)>,
    /// Why it says nothing of any attempt until it is told otherwise: a code and words.
    halted: Option<(&'static str, String)>,
    /// The last announcement that could not be answered because releases were still missing.
    pending: Option<wire::SignedAnnouncement>,
    connected: bool,
    /// Releases were asked for on this connection, and have not all arrived.
    fetching: bool,
    /// Highest round that the coordinator says is published.
    published_round: u32,
    job_ended: bool,
    /// Evaluations under way, the last round for which one was begun, and the last result: there is no receipt for it, so it
    /// is said again on every new connection.
    evaluating: u32,
    evaluated_round: u32,
    evaluation: Option<wire::Evaluation>,
    /// The newest announcement that was accepted.
    newest: Option<wire::SignedAnnouncement>,
    /// Whose hands mask the vector.
    threads: Threads,
}

/// What a client knows when it starts.
pub struct Start {
    /// Own keys.
    pub identity: Arc<Identity>,
    /// Who belongs.
    pub roster: Arc<VerifiedRoster>,
    /// What is done.
    pub plan: Arc<VerifiedPlan>,
    /// What was spent.
    pub ledger: LedgerState,
    /// The organization's own total budget over all jobs, if it set one.
    pub budget: Option<Budget>,
    /// The same against everybody else together: of this organization's own noise alone.
    pub budget_everybody_else: Option<Budget>,
    /// The session's journal.
    pub recorded: Recorded,
    /// What is kept of the peers, of all jobs.
    pub held: Held,
    /// The adapter after the last applied round, if one was kept.
    pub kept: Option<(u32, AdapterState)>,
    /// The newest announcement that was accepted, if one was kept.
    pub newest: Option<wire::SignedAnnouncement>,
}

impl Session {
    /// A session that has not met the coordinator yet.
    ///
    /// # Errors
    ///
    /// In words, when the plan's adapter cannot be drawn; a verified plan's can.
    pub fn new(start: Start) -> Result<Self, String> {
        let (applied_round, state) = match start.kept {
            Some(kept) => kept,
            None => (0, initial_state(&start.plan).map_err(|e| e.to_string())?),
        };
        let proof = if start.recorded.restored().is_empty() { Proof::default() } else { Proof::restored() };
        Ok(Self {
            identity: start.identity,
            roster: start.roster,
            plan: start.plan,
            protocol: Arc::new(FiveSteps),
            ledger: start.ledger,
            budget: start.budget,
            budget_everybody_else: start.budget_everybody_else,
            state: Arc::new(state),
            applied_round,
            recorded: start.recorded,
            held: start.held,
            proof,
            active: None,
            barred: None,
            halted: None,
            pending: None,
            connected: false,
            fetching: false,
            published_round: 0,
            job_ended: false,
            evaluating: 0,
            evaluated_round: 0,
            evaluation: None,
            newest: start.newest,
            threads: Threads::ONE,
        })
    }

    /// Masks with so many threads; with one unless told. What is said does not depend on it.
    #[must_use]
    pub fn with_threads(self, threads: Threads) -> Self {
        Self { threads, ..self }
    }

    /// The same session over another aggregation protocol than [secure aggregation in five steps](FiveSteps).
    #[must_use]
    pub fn with_protocol(mut self, protocol: Arc<dyn Protocol>) -> Self {
        self.protocol = protocol;
        self
    }

    /// Handles one input and says what to do. `rng` is the operating system's generator, except in simulations.
    pub fn handle(&mut self, input: Input, rng: &mut impl CryptoRng) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Connected => {
                // What was asked for on an earlier connection may never come.
                (self.connected, self.fetching) = (true, false);
                effects.push(Effect::Say(Say::Hello(self.hello())));
            }
            Input::Disconnected => (self.connected, self.fetching, self.pending) = (false, false, None),
            Input::Heard(heard) => self.heard(heard, rng, &mut effects),
            Input::Release { head, sum } => self.release(head, sum, &mut effects),
            Input::ReleasesEnded => {
                self.fetching = false;
                self.caught_up(rng, &mut effects);
            }
            Input::Trained { round, attempt, update } => self.trained(round, attempt, update, &mut effects),
            Input::Evaluated(evaluation) => {
                self.evaluating = self.evaluating.saturating_sub(1);
                self.evaluation = Some(evaluation);
                effects.push(Effect::Say(Say::Evaluation(evaluation)));
                self.maybe_finished(&mut effects);
            }
        }
        effects
    }

    /// Says whether this organization's own rules keep it from joining an attempt just now, and why: the code that the coordinator
    /// is told, and words that stay here. What it has joined it finishes. The driver knows the time, and says so before every input.
    pub fn bar(&mut self, why: Option<(&'static str, String)>) {
        self.barred = why;
    }

    /// Leaves the attempt under way at once, by a refusal with this code, joins nothing and says no word of an earlier one, until it is
    /// called again with `None`: a person at this organization has decided so. Published sums are still applied, and peers' questions
    /// answered.
    pub fn halt(&mut self, why: Option<(&'static str, String)>, rng: &mut impl CryptoRng) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.halted = why;
        if let Some((code, why)) = self.halted.clone() {
            if let Some(active) = &self.active {
                let (round, attempt) = (active.round, active.attempt());
                self.decline(round, attempt, code.into(), why, &mut effects);
            }
            // One that waits for witnesses is declined too, so that nobody waits for it.
            self.announced(rng, &mut effects);
        }
        effects
    }

    /// The adapter after the last applied round, and that round (0: none).
    pub fn applied(&self) -> (u32, &Arc<AdapterState>) {
        (self.applied_round, &self.state)
    }

    /// Whether peers hold later words of this organization than its state knows of.
    pub fn is_restored(&self) -> bool {
        self.proof.is_restored()
    }

    /// The privacy ledger as this session sees it.
    pub fn ledger(&self) -> &LedgerState {
        &self.ledger
    }

    fn record(&mut self, event: Event, effects: &mut Vec<Effect>) {
        self.recorded.note(&event);
        effects.push(Effect::Record(event));
    }

    /// Forgets the attempt under way, secrets first.
    fn leave(&mut self, effects: &mut Vec<Effect>) {
        if self.active.take().is_some() {
            effects.push(Effect::StopTraining);
        }
    }
}

fn stop(check: &str, why: &dyn std::fmt::Display) -> Effect {
    Effect::Stop(check::coordinators_doing(check, why))
}
