//! The round state machine: what the coordinator does, without doing it.
//!
//! Sans-IO. What happened comes in ([`Input`], with the time); what to do comes out ([`Effect`]), in order: first what
//! must be durable, then what may be said. Whoever drives it executes the effects of a batch of inputs in that order,
//! makes all records durable before the first send, and calls again with [`Input::Tick`] no later than
//! [`Job::next_wake_ms`].
//!
//! A job walks `waiting → advertise → share → input → vote → unmask → released → waiting …`; an attempt that fails goes
//! back to waiting with the next attempt, or with the next round once the plan's attempts are used up.
//!
//! The aggregation protocol itself is the collector's business: messages pass through here unread. Nothing here can open
//! an organization's update.

pub mod code;
mod control;
mod cost;
mod ending;
mod event;
mod history;
mod log;
mod members;
mod recovery;
mod release;
mod restored;
mod running;
mod status;
mod sum;
#[cfg(test)]
mod tests;
mod witness;

use std::{collections::BTreeMap, sync::Arc};

use consilium_crypto::{
    digest::Digest,
    protocol::{Protocol, Unmasking},
    release::AdapterState,
    secagg::{FiveSteps, Position, Step, chunk_digest},
};
use consilium_proto::{
    OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION,
    evidence::Evidence,
    identity::Identity,
    ids::Id,
    log::LogHead,
    plan::{Guarantees, VerifiedPlan},
    roster::VerifiedRoster,
    wire::{self, coordinator_message::Kind},
};

pub use control::{ActRefused, Acted};
use control::{Control, Hold};
pub use event::{BadEvent, Event};
use history::Summary;
use members::Members;
pub use recovery::{Recovered, RecoveryError};
pub use release::Publication;
use restored::Behind;
use running::{Refused, Running};
use status::step_name;
use witness::Witnesses;

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A member opened a session; the sender is the one that its TLS key proves.
    Hello {
        /// Who.
        from: Id,
        /// Its first message.
        hello: wire::Hello,
    },
    /// A member's session closed.
    Gone {
        /// Whose.
        from: Id,
    },
    /// A protocol message arrived.
    Protocol {
        /// From whom.
        from: Id,
        /// The message.
        message: wire::ProtocolMessage,
    },
    /// A member declined an attempt.
    Refusal {
        /// Who.
        from: Id,
        /// Its reason.
        refusal: wire::Refusal,
    },
    /// A result on the public test set arrived.
    Evaluation {
        /// From whom.
        from: Id,
        /// The result.
        evaluation: wire::Evaluation,
    },
    /// A member that has just started asks what the others hold of it.
    StateQuery {
        /// Who.
        from: Id,
        /// Its question.
        query: wire::StateQuery,
    },
    /// A member answers such questions.
    StateStatements {
        /// Who.
        from: Id,
        /// Its answers.
        statements: wire::StateStatements,
    },
    /// The store's answer to [`Effect::AskUpload`]: how many chunks it holds durably.
    Held {
        /// Whose.
        from: Id,
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// Chunks, from the first.
        chunks: u32,
    },
    /// The answer to [`Effect::Aggregate`]: the packed sum, or what the store could not read.
    Summed {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// The sum.
        sum: Result<Vec<u8>, String>,
    },
    /// Time passed.
    Tick,
}

impl Input {
    /// The member whose word it is.
    fn from(&self) -> Option<&Id> {
        match self {
            Self::Hello { from, .. }
            | Self::Gone { from }
            | Self::Protocol { from, .. }
            | Self::Refusal { from, .. }
            | Self::Evaluation { from, .. }
            | Self::StateQuery { from, .. }
            | Self::StateStatements { from, .. } => Some(from),
            Self::Held { .. } | Self::Summed { .. } | Self::Tick => None,
        }
    }
}

/// What to do.
#[derive(Debug)]
pub enum Effect {
    /// Make this durable before any later send.
    Record {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// What happened.
        event: Event,
    },
    /// Keep a chunk of a masked input.
    PutChunk {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// Whose.
        from: Id,
        /// Index, from 0 and in order.
        index: u32,
        /// Its bytes, already checked against the signed header.
        bytes: Vec<u8>,
    },
    /// Make a member's chunks durable.
    SyncInput {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// Whose.
        from: Id,
    },
    /// Make a release durable, together with its event.
    Publish(Box<Publication>),
    /// Say this to a member; dropped if it is not connected.
    Send {
        /// To whom.
        to: Id,
        /// What.
        message: Kind,
    },
    /// Look up how many chunks are held and come back with [`Input::Held`].
    AskUpload {
        /// Whose.
        from: Id,
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
    },
    /// Sum the survivors' masked inputs, take the masks off, and come back with [`Input::Summed`].
    Aggregate(Aggregation),
    /// The attempt's masked inputs are not needed any more.
    DropInputs {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
    },
    /// A member's message was refused: for the log and the counters.
    Refused {
        /// Whose.
        from: Id,
        /// `no-attempt`, `other-attempt`, `other-step`, `not-in-cohort`, or the number of the check in the manual's table.
        code: &'static str,
    },
    /// Close a member's session after what was sent.
    Close {
        /// Whose.
        to: Id,
    },
}

/// What it takes to compute one sum.
#[derive(Clone, Debug)]
pub struct Aggregation {
    /// Round.
    pub round: u32,
    /// Attempt.
    pub attempt: u32,
    /// What takes the masks off.
    pub revealed: Arc<dyn Unmasking>,
    /// Chunks in a masked input.
    pub chunks: u32,
    /// Ids by position.
    pub ids: Arc<[Id]>,
}

impl Aggregation {
    /// The id at a position of the cohort.
    pub fn id(&self, position: Position) -> Option<&Id> {
        self.ids.get(position.index())
    }
}

/// A part of an upload, and the digest of its chunk. Hashing is most of what an upload costs, so it is done where the
/// part arrives, by as many threads as serve connections, and not where the round waits. That this is the digest of that
/// chunk follows from the only way to make one.
#[derive(Clone, Debug)]
pub struct HashedPart {
    part: wire::UploadPart,
    digest: Digest,
}

impl From<wire::UploadPart> for HashedPart {
    fn from(part: wire::UploadPart) -> Self {
        let digest = chunk_digest(&part.chunk);
        Self { part, digest }
    }
}

/// Why a chunk was refused; the upload ends with this word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRefused(pub &'static str);

enum Phase {
    /// For enough members to be online.
    Waiting {
        round: u32,
        attempt: u32,
        since_ms: u64,
    },
    Running(Box<Running>),
    Finished,
}

/// One job from its first round to its last.
pub struct Job {
    identity: Arc<Identity>,
    roster: Arc<VerifiedRoster>,
    plan: Arc<VerifiedPlan>,
    protocol: Arc<dyn Protocol>,
    state: AdapterState,
    members: Members,
    witnesses: Witnesses,
    phase: Phase,
    /// Last round with a published sum, and how many there are.
    released_round: u32,
    releases: u32,
    /// Attempts whose masked inputs may have left a client: each costs ε.
    debited: u64,
    /// Those among them that ended without a sum.
    wasted: u64,
    control: Control,
    guarantees: BTreeMap<u64, Guarantees>,
    history: Vec<Summary>,
    started_ms: Option<u64>,
    upload_bytes: u64,
    /// What convicts members, oldest first.
    evidence: Vec<Evidence>,
    /// Where the signed log stands.
    log: LogHead,
    /// What members hold and this coordinator does not.
    behind: Behind,
    /// Whether the disk has room for another attempt.
    room: bool,
}

/// Longest complaint that is read, bytes: one in a cohort of 1000 has about 730.
const MAX_COMPLAINT_BYTES: usize = 2048;

impl Job {
    /// The same job over another aggregation protocol than [secure aggregation in five steps](FiveSteps).
    #[must_use]
    pub fn with_protocol(mut self, protocol: Arc<dyn Protocol>) -> Self {
        self.protocol = protocol;
        self
    }

    /// Handles one input and says what to do.
    pub fn handle(&mut self, input: Input, now_ms: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        let was_finished = self.is_finished();
        if let Some(from) = input.from() {
            self.members.seen(from, now_ms);
        }
        match input {
            Input::Hello { from, hello } => self.hello(from, hello, now_ms, &mut effects),
            Input::Gone { from } => {
                self.members.left(&from, now_ms);
                self.witnesses.left(&from, &self.members, &mut effects);
                self.claims_nothing(&from, now_ms, &mut effects);
            }
            Input::StateQuery { from, query } => {
                let running = matches!(self.phase, Phase::Running(_));
                self.witnesses.asked(&from, &query, running, &self.members, &mut effects);
            }
            Input::StateStatements { from, statements } => {
                self.witnesses.answered(&from, statements, &self.members, &mut effects);
            }
            Input::Protocol { from, message } => self.protocol(&from, message, &mut effects),
            Input::Refusal { from, refusal } => self.refusal(&from, refusal, &mut effects),
            Input::Evaluation { from, evaluation } => self.evaluation(&from, evaluation, &mut effects),
            Input::Held { from, round, attempt, chunks } => {
                self.held(&from, round, attempt, chunks, &mut effects)
            }
            Input::Summed { round, attempt, sum } => self.summed(round, attempt, sum, now_ms, &mut effects),
            Input::Tick => {}
        }
        self.advance(now_ms, &mut effects);
        self.farewell(was_finished, &mut effects);
        effects
    }

    /// When [`Input::Tick`] is due at the latest, Unix milliseconds.
    pub fn next_wake_ms(&self, now_ms: u64) -> Option<u64> {
        let deadline = match &self.phase {
            Phase::Waiting { .. } if self.is_held() => return None,
            Phase::Waiting { since_ms, .. } => since_ms + self.wait_ms(),
            Phase::Running(running) => running.deadline_ms(self.plan.document()),
            Phase::Finished => return None,
        };
        let deadline = self.patience_ms().map_or(deadline, |patience| patience.min(deadline));
        Some(self.members.next_grace_ms(now_ms).map_or(deadline, |grace| grace.min(deadline)))
    }

    /// Says whether the disk has room for another attempt: none begins without. The driver knows, and says so before every input.
    pub fn set_room(&mut self, room: bool) {
        self.room = room;
    }

    /// Whether an attempt ever began.
    pub fn has_begun(&self) -> bool {
        self.started_ms.is_some()
    }

    /// Whether every round is done.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished)
    }

    /// The adapter after the last release.
    pub fn state(&self) -> &AdapterState {
        &self.state
    }

    fn wait_ms(&self) -> u64 {
        u64::from(self.plan.document().deadlines.wait_s) * 1000
    }

    fn hello(&mut self, from: Id, hello: wire::Hello, now_ms: u64, effects: &mut Vec<Effect>) {
        let refuse = |code: &str| Kind::Goodbye(wire::Goodbye { code: code.into() });
        let served = OLDEST_PROTOCOL_VERSION..=PROTOCOL_VERSION;
        let refusal = if !served.contains(&hello.protocol_version) {
            Some(refuse("protocol-version"))
        } else if hello.roster_digest != self.roster.digest().0 {
            Some(refuse("other-roster"))
        } else if hello.plan_digest != self.plan.digest().0 {
            Some(refuse("other-plan"))
        } else {
            None
        };
        if let Some(message) = refusal {
            effects.push(Effect::Send { to: from.clone(), message });
            effects.push(Effect::Close { to: from });
            return;
        }
        let software = hello.software.chars().filter(|c| c.is_ascii_graphic()).take(32).collect();
        // The way here makes it look behind, never ahead.
        let skew_ms = (hello.clock_ms > 0).then(|| hello.clock_ms as i64 - now_ms as i64);
        self.members.came(&from, software, hello.protocol_version, skew_ms);
        let welcome = wire::Welcome {
            roster_digest: self.roster.digest().0.to_vec(),
            plan_digest: self.plan.digest().0.to_vec(),
            released_round: self.released_round,
        };
        effects.push(Effect::Send { to: from.clone(), message: Kind::Welcome(welcome) });
        self.greeted(&from, hello.newest.as_ref(), hello.applied_round, now_ms, effects);
        match &self.phase {
            Phase::Running(_) if self.members.is_excluded(&from) => {}
            Phase::Running(running) => {
                self.witnesses.greet(&from, effects);
                running.greet(&from, effects);
            }
            Phase::Finished => effects.push(Effect::Send { to: from, message: self.ended() }),
            Phase::Waiting { .. } => {}
        }
    }

    fn protocol(&mut self, from: &Id, message: wire::ProtocolMessage, effects: &mut Vec<Effect>) {
        let refused = match &mut self.phase {
            Phase::Running(_) if self.members.is_excluded(from) => Some("excluded"),
            Phase::Running(running) => {
                // Who advertises has been told enough. A word of a later step may be an old one that is repeated.
                if message.step == Step::Advertise as u32 {
                    self.witnesses.satisfied(from);
                }
                let begun = effects.len();
                let refused = running.protocol(from, message, effects).err();
                if let Some(Refused { code, misbehaviour: true }) = refused {
                    self.members.misbehaved(from, code);
                }
                self.note_blames(effects.get(begun..).unwrap_or_default());
                refused.map(|refused| refused.code)
            }
            Phase::Waiting { .. } | Phase::Finished => Some("no-attempt"),
        };
        effects.extend(refused.map(|code| Effect::Refused { from: from.clone(), code }));
    }

    fn held(&mut self, from: &Id, round: u32, attempt: u32, chunks: u32, effects: &mut Vec<Effect>) {
        if let Phase::Running(running) = &mut self.phase
            && running.is(round, attempt)
        {
            running.held(from, chunks, effects);
        }
    }

    /// Handles one chunk of a masked input.
    ///
    /// # Errors
    ///
    /// [`ChunkRefused`] says what was wrong with it; nothing changes then.
    pub fn handle_chunk(
        &mut self,
        from: &Id,
        part: impl Into<HashedPart>,
        now_ms: u64,
    ) -> Result<Vec<Effect>, ChunkRefused> {
        let Phase::Running(running) = &mut self.phase else { return Err(ChunkRefused("no-attempt")) };
        let mut effects = Vec::new();
        running.chunk(from, part.into(), &mut effects)?;
        self.members.seen(from, now_ms);
        self.advance(now_ms, &mut effects);
        self.farewell(false, &mut effects);
        Ok(effects)
    }

    /// Notes the evidence among what is to be recorded.
    fn note_blames(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Record { event, .. } = effect {
                self.note_blame(event);
            }
        }
    }

    fn note_blame(&mut self, event: &Event) {
        if let Event::Blamed { culprit, check, evidence } = event
            && let Phase::Running(running) = &self.phase
        {
            self.evidence.push(running.exhibit(culprit, check, evidence));
            self.members.convicted(culprit);
        }
    }

    /// What convicts members of this job, oldest first.
    pub fn evidence(&self) -> &[Evidence] {
        &self.evidence
    }

    fn refusal(&mut self, from: &Id, refusal: wire::Refusal, effects: &mut Vec<Effect>) {
        if let Phase::Running(running) = &mut self.phase
            && running.is(refusal.round, refusal.attempt)
        {
            let begun = effects.len();
            if (1..=MAX_COMPLAINT_BYTES).contains(&refusal.complaint.len()) {
                running.complaint(from, &refusal.complaint, effects);
            }
            self.note_blames(effects.get(begun..).unwrap_or_default());
            let plain = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-';
            let code: String = refusal.code.chars().filter(plain).take(48).collect();
            // Its first word stands, so that a member that goes on declining does not fill the record.
            if self.members.refused(from, code.clone()) {
                let event = Event::Declined { from: from.clone(), code };
                effects.push(Effect::Record { round: refusal.round, attempt: refusal.attempt, event });
            }
        }
    }

    fn evaluation(&mut self, from: &Id, evaluation: wire::Evaluation, effects: &mut Vec<Effect>) {
        let shares =
            [evaluation.accuracy, evaluation.macro_accuracy].iter().all(|share| (0.0..=1.0).contains(share));
        let plausible = shares && evaluation.loss.is_finite() && evaluation.loss >= 0.0;
        if *from != self.plan.document().evaluation.organization || !plausible {
            return;
        }
        if let Some(attempt) = self.evaluated(&evaluation) {
            let (round, event) = (evaluation.round, Event::Evaluated(evaluation));
            effects.push(Effect::Record { round, attempt, event });
        }
    }

    /// Notes a result; the attempt it belongs to, unless the round was not released or has its result already.
    fn evaluated(&mut self, evaluation: &wire::Evaluation) -> Option<u32> {
        let released =
            |s: &&mut Summary| s.round == evaluation.round && s.adapter.is_some() && s.evaluation.is_none();
        let summary = self.history.iter_mut().rev().find(released)?;
        summary.evaluation = Some(*evaluation);
        summary.evaluator = Some(self.plan.document().evaluation.organization.clone());
        Some(summary.attempt)
    }

    /// Tells everybody once that the job is over.
    fn farewell(&self, was_finished: bool, effects: &mut Vec<Effect>) {
        if self.is_finished() && !was_finished {
            for id in self.plan.cohort() {
                effects.push(Effect::Send { to: id.clone(), message: self.ended() });
            }
        }
    }

    /// Goes on as far as time and what is known allow.
    fn advance(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
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
                        running::Settled::Wait => false,
                        running::Settled::Moved => {
                            self.debited += running.newly_debited();
                            true
                        }
                        running::Settled::Failed { code } => {
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
    fn leave_out(&mut self, round: u32) {
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

    fn ended(&self) -> Kind {
        Kind::JobEnded(wire::JobEnded { releases: self.releases })
    }
}
