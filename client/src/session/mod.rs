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
mod event;
mod held;
mod proof;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use consilium_crypto::{
    protocol::Protocol,
    release::AdapterState,
    ring::RingVector,
    secagg::{FiveSteps, Step},
};
use consilium_proto::{
    PROTOCOL_VERSION,
    announcement::Announcement,
    identity::Identity,
    plan::VerifiedPlan,
    release::{VerifiedHead, initial_state},
    roster::VerifiedRoster,
    wire::{self, client_message::Kind as Say, coordinator_message::Kind as Heard},
};
use rand::CryptoRng;

use crate::{
    ledger::{Budget, Debit, LedgerState, Outlook},
    threads::Threads,
};
use active::Active;
use check::Check;
pub use event::{Event, Lost, Recorded};
pub use held::{BadHeld, Held};
use proof::Proof;
pub use proof::restored;

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The stream to the coordinator is open.
    Connected,
    /// It closed.
    Disconnected,
    /// The coordinator said something.
    Heard(Heard),
    /// A published release arrived, in order.
    Release {
        /// Its signed head.
        head: wire::SignedReleaseHead,
        /// Its packed sum.
        sum: Vec<u8>,
    },
    /// All releases that were asked for have arrived, or the stream broke: ask again if more are needed.
    ReleasesEnded,
    /// The lot of an attempt is trained and encoded, noise included; or why not.
    Trained {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// Ring values, or the code of a local fault.
        update: Result<RingVector, &'static str>,
    },
    /// The public test set was evaluated.
    Evaluated(wire::Evaluation),
}

/// What to do.
#[derive(Debug)]
pub enum Effect {
    /// Make this durable before anything that follows.
    Record(Event),
    /// Debit the ledger, durably, before anything that follows.
    Debit(Box<Debit>),
    /// Make this durable before anything that follows, in the place of what was kept: the job's file of peers' adverts.
    KeepPeers(Vec<u8>),
    /// Make this durable before anything that follows, in the place of what was kept: the newest announcement that was accepted,
    /// which a coordinator that has lost its state is shown.
    KeepAnnouncement(wire::SignedAnnouncement),
    /// Keep a release that was applied: whoever has lost it can have it back.
    KeepRelease {
        /// Round.
        round: u32,
        /// Its signed head.
        head: wire::SignedReleaseHead,
        /// Its packed sum.
        sum: Vec<u8>,
    },
    /// The coordinator has lost releases: send those that are kept, from a round on.
    Return {
        /// First round wanted.
        from_round: u32,
    },
    /// Say this to the coordinator.
    Say(Say),
    /// Draw a lot and train it from this adapter; come back with [`Input::Trained`]. Replaces whatever was training.
    Train {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// The adapter the round starts from.
        adapter: Arc<AdapterState>,
    },
    /// What is training is not needed any more.
    StopTraining,
    /// Upload these chunks from an index on.
    Upload {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// The masked vector, packed, in chunks.
        chunks: Arc<Vec<Vec<u8>>>,
        /// First chunk wanted.
        from: u32,
    },
    /// Fetch published releases from a round on; come back with [`Input::Release`] for each.
    Fetch {
        /// First round wanted.
        from_round: u32,
    },
    /// The adapter after a released round, recomputed here: keep it.
    Applied {
        /// Round.
        round: u32,
        /// The adapter.
        adapter: Arc<AdapterState>,
        /// What the noisy sum says about everybody's training together.
        metrics: consilium_crypto::encoding::Metrics,
        /// How many organizations are in the sum.
        survivors: usize,
    },
    /// Evaluate the public test set; come back with [`Input::Evaluated`].
    Evaluate {
        /// Round whose adapter it is.
        round: u32,
        /// The adapter.
        adapter: Arc<AdapterState>,
    },
    /// This client declined or left an attempt, for the log.
    Declined {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// The check that failed.
        code: String,
        /// In words; stays here.
        why: String,
    },
    /// What the attempt that is being joined leads to, for the log.
    Outlook {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// The last round that fits into every budget, if each takes one attempt from now on.
        last_round: u64,
        /// What is spent after it.
        outlook: Outlook,
    },
    /// A step was reached, for the log.
    Reached {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// What was said.
        what: &'static str,
    },
    /// The job is over, and everything published is applied.
    Finished,
    /// This client cannot go on with this coordinator: stop, and say why.
    Stop(String),
}

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

    fn hello(&self) -> wire::Hello {
        wire::Hello { newest: self.newest.clone(), ..hello(&self.roster, &self.plan, self.applied_round) }
    }

    fn heard(&mut self, heard: Heard, rng: &mut impl CryptoRng, effects: &mut Vec<Effect>) {
        match heard {
            Heard::Welcome(welcome) => {
                let same = welcome.roster_digest == self.roster.digest().0
                    && welcome.plan_digest == self.plan.digest().0;
                if !same {
                    effects.push(Effect::Stop(other_documents()));
                    return;
                }
                effects.extend(self.evaluation.map(|again| Effect::Say(Say::Evaluation(again))));
                self.ask(rng, effects);
                self.want(welcome.released_round, effects);
                if !self.fetching {
                    self.maybe_evaluate(effects);
                }
            }
            Heard::StateQueries(queries) => self.asked(&queries, effects),
            Heard::StateStatements(statements) => self.answered(&statements, rng, effects),
            Heard::Announcement(signed) => {
                self.pending = Some(signed);
                if !self.fetching {
                    self.announced(rng, effects);
                }
            }
            Heard::Protocol(message) => self.delivered(message, rng, effects),
            Heard::Receipt(_) => {}
            Heard::ReleasesWanted(wanted) => effects.push(Effect::Return { from_round: wanted.from_round }),
            Heard::UploadWanted(wanted) => {
                let of_ours = |active: &&Active| active.is(wanted.round, wanted.attempt);
                if let Some(chunks) = self.active.as_ref().filter(of_ours).and_then(Active::chunks) {
                    let (round, attempt, from) = (wanted.round, wanted.attempt, wanted.next_chunk);
                    effects.push(Effect::Upload { round, attempt, chunks, from });
                }
            }
            Heard::Released(released) => {
                if self.active.as_ref().is_some_and(|active| active.round <= released.round) {
                    self.leave(effects);
                }
                self.want(released.round, effects);
            }
            Heard::AttemptEnded(ended) => {
                if self.active.as_ref().is_some_and(|active| active.is(ended.round, ended.attempt)) {
                    self.leave(effects);
                }
            }
            Heard::JobEnded(_) => {
                self.job_ended = true;
                self.leave(effects);
                if !self.fetching {
                    self.maybe_evaluate(effects);
                }
                self.maybe_finished(effects);
            }
            Heard::Goodbye(goodbye) => {
                let why = match goodbye.code.as_str() {
                    "other-plan" | "other-roster" => other_documents(),
                    "protocol-version" => {
                        "the coordinator speaks another version; upgrade the older side".into()
                    }
                    _ => "the coordinator closed the session".into(),
                };
                effects.push(Effect::Stop(why));
            }
        }
    }

    fn want(&mut self, published: u32, effects: &mut Vec<Effect>) {
        self.published_round = self.published_round.max(published);
        // Without a connection the next Welcome asks again.
        if self.applied_round < self.published_round && !self.fetching && self.connected {
            self.fetching = true;
            effects.push(Effect::Fetch { from_round: self.applied_round + 1 });
        }
    }

    fn release(&mut self, signed: wire::SignedReleaseHead, sum: Vec<u8>, effects: &mut Vec<Effect>) {
        let head = match VerifiedHead::verify(&signed, &self.roster, &self.plan) {
            Ok(head) => head,
            Err(refused) => return effects.push(stop(refused.check(), &refused)),
        };
        if head.round <= self.applied_round {
            return;
        }
        let mut next = AdapterState::clone(&self.state);
        match head.replay(&self.plan, &mut next, &sum) {
            Err(refused) => effects.push(stop(refused.check(), &refused)),
            Ok(metrics) => {
                self.state = Arc::new(next);
                self.applied_round = head.round;
                self.published_round = self.published_round.max(head.round);
                let (round, adapter, survivors) = (head.round, self.state.clone(), head.survivors.len());
                effects.push(Effect::KeepRelease { round, head: signed, sum });
                effects.push(Effect::Applied { round, adapter, metrics, survivors });
            }
        }
    }

    fn caught_up(&mut self, rng: &mut impl CryptoRng, effects: &mut Vec<Effect>) {
        if self.applied_round < self.published_round {
            return self.want(self.published_round, effects);
        }
        self.maybe_evaluate(effects);
        self.announced(rng, effects);
        self.maybe_finished(effects);
    }

    fn maybe_evaluate(&mut self, effects: &mut Vec<Effect>) {
        let document = self.plan.document();
        let (round, every) = (self.applied_round, document.evaluation.every_rounds);
        // The last release is evaluated even if the rounds after it came to nothing.
        let due = round.is_multiple_of(every) || round == document.rounds || self.job_ended;
        if due && round > self.evaluated_round && document.evaluation.organization == self.identity.id {
            self.evaluated_round = round;
            self.evaluating += 1;
            effects.push(Effect::Evaluate { round, adapter: self.state.clone() });
        }
    }

    fn maybe_finished(&mut self, effects: &mut Vec<Effect>) {
        let done = self.job_ended && !self.fetching && self.applied_round >= self.published_round;
        if done && self.evaluating == 0 {
            effects.push(Effect::Finished);
        }
    }

    /// Answers the announcement that waits, if there is one.
    fn announced(&mut self, rng: &mut impl CryptoRng, effects: &mut Vec<Effect>) {
        let Some(signed) = self.pending.take() else { return };
        let announcement = match Announcement::verify(&signed, &self.roster, &self.plan) {
            Ok(announcement) => announcement,
            Err(refused) => return effects.push(stop(refused.check(), &refused)),
        };
        let (round, attempt) = (announcement.round, announcement.attempt);
        if let Some(active) = self.active.as_ref().filter(|active| active.is(round, attempt)) {
            // A reconnect. Every later step is delivered again, but nothing delivers the first: its word may be lost.
            return effects.extend(active.opening());
        }
        let decline = |code: &'static str, why: String| {
            let refusal = wire::Refusal { round, attempt, code: code.into(), complaint: Vec::new() };
            let why = Check(code).words(why);
            [Effect::Declined { round, attempt, code: code.into(), why }, Effect::Say(Say::Refusal(refusal))]
        };
        if let Some((code, why)) = &self.halted {
            return effects.extend(decline(code, why.clone()));
        }
        if (round, attempt) < self.recorded.fence {
            let (r, a) = self.recorded.fence;
            let why = format!("attempts only go forward, and round {r} attempt {a} was accepted already");
            return effects.extend(decline("old-attempt", why));
        }
        if (round, attempt) == self.recorded.fence {
            // Before the refusal: a round that is short of one vote must not fail while the vote stands in the journal.
            self.repeat(round, attempt, Step::Vote, effects);
            self.repeat(round, attempt, Step::Unmask, effects);
            let why = "this attempt was accepted before and its secrets are gone; it is sat out".into();
            return effects.extend(decline("restarted", why));
        }
        if self.recorded.answer.is_some() && self.recorded.fence.0 == round {
            let why = "this client has helped to open an attempt of this round already".into();
            return effects.extend(decline("answered-already", why));
        }
        if let Some((code, why)) = &self.barred {
            return effects.extend(decline(code, why.clone()));
        }
        let (adapter, optimizer) = (self.state.adapter_digest(), self.state.optimizer_digest());
        for (code, what, told, own) in [
            ("other-adapter", "adapter", announcement.adapter, adapter),
            ("other-optimizer", "optimizer state", announcement.optimizer, optimizer),
        ] {
            if told != own {
                let why = format!(
                    "round {round} was announced from {what} {told}, and this client computed {own} from the published sums"
                );
                return effects.extend(decline(code, why));
            }
        }
        let budget = self.budget.map(|budget| (budget.epsilon, budget.delta));
        let outlook = match self.ledger.admits(&self.plan, budget) {
            Ok(outlook) => outlook,
            Err(refusal) => return effects.extend(decline("budget", refusal.to_string())),
        };
        if let Some(budget) = self.budget_everybody_else
            && let Err(refusal) = self.ledger.admits_against_everybody_else(&self.plan, budget)
        {
            return effects.extend(decline("budget", refusal.to_string()));
        }
        if self.protocol.carries_ledgers() && !self.proof.is_proven() {
            // Joined as soon as enough peers have said what they hold of this client; never, if that is more than it knows.
            self.pending = Some(signed);
            return self.wait_for_witnesses(round, attempt, rng, effects);
        }
        self.leave(effects);
        effects.push(Effect::Outlook { round, attempt, last_round: outlook.last_round(round), outlook });
        self.join(signed, &announcement, rng, effects);
    }

    fn join(
        &mut self,
        signed: wire::SignedAnnouncement,
        announcement: &Announcement,
        rng: &mut impl CryptoRng,
        effects: &mut Vec<Effect>,
    ) {
        let (round, attempt) = (announcement.round, announcement.attempt);
        let (ledger, protocol) = (self.ledger.head(), &*self.protocol);
        match Active::join(announcement, &self.roster, &self.plan, &self.identity, ledger, protocol, rng) {
            Err(why) => effects.push(Effect::Stop(why)),
            Ok(active) => {
                effects.push(Effect::KeepAnnouncement(signed.clone()));
                self.newest = Some(signed);
                self.record(Event::Joined { round, attempt }, effects);
                effects.extend(active.opening());
                effects.push(Effect::Train { round, attempt, adapter: self.state.clone() });
                self.active = Some(active);
            }
        }
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

/// The greeting of a connection.
pub(crate) fn hello(roster: &VerifiedRoster, plan: &VerifiedPlan, applied_round: u32) -> wire::Hello {
    wire::Hello {
        protocol_version: PROTOCOL_VERSION,
        roster_digest: roster.digest().0.to_vec(),
        plan_digest: plan.digest().0.to_vec(),
        applied_round,
        software: env!("CARGO_PKG_VERSION").into(),
        newest: None,
        // The session has no clock; whoever sends it does.
        clock_ms: 0,
    }
}

fn stop(check: &str, why: &dyn std::fmt::Display) -> Effect {
    Effect::Stop(check::coordinators_doing(check, why))
}

fn other_documents() -> String {
    let why = "the coordinator runs another roster or plan than this client verified; compare fingerprints with the operator";
    Check("other-documents").words(why)
}
