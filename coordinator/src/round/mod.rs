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

mod advance;
pub mod code;
mod control;
mod cost;
mod effect;
mod ending;
mod event;
mod heard;
mod history;
mod input;
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

use consilium_crypto::{protocol::Protocol, release::AdapterState, secagg::FiveSteps};
use consilium_proto::{
    evidence::Evidence,
    identity::Identity,
    log::LogHead,
    plan::{Guarantees, VerifiedPlan},
    roster::VerifiedRoster,
};

pub use control::{ActRefused, Acted};
use control::{Control, Hold};
pub use effect::{Aggregation, Effect};
pub use event::{BadEvent, Event};
use history::Summary;
pub use input::{ChunkRefused, HashedPart, Input};
use members::Members;
pub use recovery::{Recovered, RecoveryError};
pub use release::Publication;
use restored::Behind;
use running::Running;
use status::step_name;
use witness::Witnesses;

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
}
