//! Attacks, on the deployed code: a corrupt coordinator or corrupt members behind the honest machines' own seams, and what
//! they come to.
//!
//! An attack that fails proves little. So each one is also run with what should stop it gone: with more colluders than the plan
//! tolerates, without secure aggregation, without noise. There it succeeds, or its scenario says that nothing stops it. What it
//! comes to is compared with what only the simulation knows.

mod coordinator;
mod inference;
mod knowledge;
mod members;
mod outcome;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use consilium_crypto::{
    digest::Digest,
    protocol::Protocol,
    release::AdapterState,
    secagg::{Attempt, Step},
    sign::sign,
};
use consilium_proto::{
    identity::Identity,
    ids::Id,
    plan::VerifiedPlan,
    wire::{
        SignedStateStatement, StateStatement, StateStatements, UploadPart, Welcome,
        coordinator_message::Kind as Heard,
    },
};
use prost::Message as _;

use crate::{
    consortium::Consortium,
    scenario::{Attack, Scenario},
};
use coordinator::{Colluding, Corrupt, Story};
use knowledge::Knowledge;
use members::{Mischief, Mischievous};
pub use outcome::Outcome;

/// The victim: the first organization.
pub(crate) const VICTIM: usize = 0;

/// What the corrupt parties know together, attempt by attempt.
#[derive(Default)]
struct Mind {
    attempts: Vec<Known>,
}

struct Known {
    ctx: Digest,
    knowledge: Knowledge,
    /// The first chunk's digest of the victim's vector, once the coordinator holds it.
    held: Option<Digest>,
}

impl Mind {
    fn attempt(&mut self, attempt: &Attempt) -> &mut Knowledge {
        let at = self.attempts.iter().position(|known| known.ctx == *attempt.ctx());
        let at = at.unwrap_or_else(|| {
            let (ctx, knowledge) = (*attempt.ctx(), Knowledge::of(attempt));
            self.attempts.push(Known { ctx, knowledge, held: None });
            self.attempts.len() - 1
        });
        // Either found or pushed.
        #[allow(clippy::indexing_slicing)]
        &mut self.attempts[at].knowledge
    }

    fn of(&mut self, ctx: &Digest) -> Option<&mut Knowledge> {
        self.attempts.iter_mut().find(|known| known.ctx == *ctx).map(|known| &mut known.knowledge)
    }

    fn holds(&mut self, ctx: &Digest, first_chunk: Digest) {
        let known = self.attempts.iter_mut().find(|known| known.ctx == *ctx);
        known.into_iter().for_each(|known| known.held = Some(first_chunk));
    }
}

impl std::fmt::Debug for Mind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mind").field("attempts", &self.attempts.len()).finish()
    }
}

fn lock(mind: &Mutex<Mind>) -> MutexGuard<'_, Mind> {
    mind.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An attack under way.
pub(crate) struct Attacking {
    what: Attack,
    /// Who works for it: the last members of the cohort.
    members: BTreeMap<usize, Arc<Identity>>,
    victim: Id,
    mind: Arc<Mutex<Mind>>,
    /// What was said to each member so far, and to whom it was all said again.
    said: BTreeMap<Id, Vec<Heard>>,
    again: BTreeSet<Id>,
    replayed: u64,
    lost: bool,
}

impl Attacking {
    /// The scenario's attack, if it has one.
    pub(crate) fn of(scenario: &Scenario, consortium: &Consortium) -> Option<Self> {
        let what = scenario.attack.clone()?;
        let first = consortium.organizations.len().checked_sub(what.members() as usize)?;
        let members = consortium.organizations.iter().cloned().enumerate().skip(first).collect();
        let victim = consortium.organizations.get(VICTIM)?.id.clone();
        let (mind, said, again, replayed, lost) = Default::default();
        Some(Self { what, members, victim, mind, said, again, replayed, lost })
    }

    fn is_corrupt(&self, organization: usize) -> bool {
        self.members.contains_key(&organization)
    }

    /// The protocol that the coordinator runs.
    pub(crate) fn of_coordinator(&self, honest: Arc<dyn Protocol>) -> Arc<dyn Protocol> {
        let story = match self.what {
            Attack::Lie { .. } => Story::Lies,
            Attack::Equivocate { .. } => Story::Equivocates,
            Attack::Isolate { .. } => Story::Isolates,
            _ => return honest,
        };
        let colluders = self.members.values().cloned().collect();
        Arc::new(Corrupt { honest, story, mind: self.mind.clone(), victim: self.victim.clone(), colluders })
    }

    /// The protocol that a member runs.
    pub(crate) fn of_member(&self, organization: usize, honest: Arc<dyn Protocol>) -> Arc<dyn Protocol> {
        if !self.is_corrupt(organization) {
            return honest;
        }
        match self.what {
            Attack::Lie { .. } | Attack::Equivocate { .. } | Attack::Isolate { .. } => {
                Arc::new(Colluding { honest, mind: self.mind.clone() })
            }
            Attack::Garbage { step, .. } => {
                let step = Step::ALL.into_iter().find(|it| it.number() == step).unwrap_or(Step::Share);
                Arc::new(Mischievous { honest, mischief: Mischief::Garbage(step) })
            }
            Attack::BadShares { .. } => Arc::new(Mischievous { honest, mischief: Mischief::BadShares }),
            _ => honest,
        }
    }

    /// By what a member multiplies its update.
    pub(crate) fn factor(&self, organization: usize) -> Option<i32> {
        match self.what {
            Attack::Scaled { factor, .. } if self.is_corrupt(organization) => Some(factor),
            _ => None,
        }
    }

    /// Whether a member calls labels by other names.
    pub(crate) fn flips(&self, organization: usize) -> bool {
        matches!(self.what, Attack::Flipped { .. }) && self.is_corrupt(organization)
    }

    /// Whether a member loses its disk now that it has sent its vector; once.
    pub(crate) fn loses_disk(&mut self, organization: usize) -> bool {
        let now = matches!(self.what, Attack::Replay { lost_disk: true, .. }) && organization == VICTIM;
        now && !std::mem::replace(&mut self.lost, true)
    }

    /// Of whom a member denies that it holds anything.
    pub(crate) fn denies(&self, organization: usize) -> Option<Id> {
        let denies = matches!(self.what, Attack::Replay { .. }) && self.is_corrupt(organization);
        denies.then(|| self.victim.clone())
    }

    /// What the coordinator says in the place of this message. Where members collude, a victim that has lost its disk hears nothing but
    /// that no round was released yet, what the colluders say that they hold of it, and the first round's invitation.
    pub(crate) fn instead(&mut self, to: &Id, message: Heard) -> Vec<Heard> {
        if !(self.lost && *to == self.victim && !self.members.is_empty()) {
            return vec![message];
        }
        match message {
            Heard::Welcome(welcome) => {
                let said = self.said.get(to).into_iter().flatten();
                let again: Vec<Heard> =
                    said.filter(|it| matches!(it, Heard::Announcement(_))).take(1).cloned().collect();
                self.replayed += again.len() as u64;
                let mut all = vec![Heard::Welcome(Welcome { released_round: 0, ..welcome })];
                all.extend(again);
                all
            }
            Heard::StateStatements(mut said) => {
                let colludes = |from: &str| self.members.values().any(|member| member.id.as_str() == from);
                said.statements.retain(|statement| colludes(&statement.from));
                if said.statements.is_empty() { Vec::new() } else { vec![Heard::StateStatements(said)] }
            }
            Heard::StateQueries(_) => vec![message],
            _ => Vec::new(),
        }
    }

    /// What the coordinator says before this message: everything that it said to this member in the first round, again.
    pub(crate) fn replays(&mut self, to: &Id, message: &Heard) -> Vec<Heard> {
        if !matches!(self.what, Attack::Replay { .. }) {
            return Vec::new();
        }
        match message {
            Heard::Protocol(word) if word.round > 1 => {
                if !self.again.insert(to.clone()) {
                    return Vec::new();
                }
                let again = self.said.remove(to).unwrap_or_default();
                self.replayed += again.len() as u64;
                again
            }
            Heard::Protocol(_) | Heard::Announcement(_) => {
                if !self.again.contains(to) {
                    self.said.entry(to.clone()).or_default().push(message.clone());
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}

/// A member's answers to who asks what it holds of them, with nothing in the one to the victim, signed as all are.
pub(crate) fn denied(
    said: StateStatements,
    victim: &Id,
    identity: &Identity,
    plan: &VerifiedPlan,
) -> StateStatements {
    let nothing = |signed: SignedStateStatement| match StateStatement::decode(signed.statement.as_slice()) {
        Ok(statement) if statement.about == victim.as_str() => {
            let statement = StateStatement { held: Vec::new(), ..statement }.encode_to_vec();
            let (key, me) = (identity.signing_key(), identity.id.as_str());
            let signature = sign(key, "state-statement", &plan.digest(), me, &statement).0.to_vec();
            SignedStateStatement { statement, signature, ..signed }
        }
        _ => signed,
    };
    StateStatements { statements: said.statements.into_iter().map(nothing).collect() }
}

/// What the simulation notes down of the victim, and what the coordinator sees.
#[derive(Default)]
pub(crate) struct Seen {
    /// From which adapter the victim trained, and what it encoded: by round and attempt.
    trained: BTreeMap<(u32, u32), (Arc<AdapterState>, Vec<u32>)>,
    /// Its vector as it left, chunk by chunk.
    sent: BTreeMap<(u32, u32), BTreeMap<u32, Vec<u8>>>,
    /// Released sums by round: of which attempt, and what.
    sums: BTreeMap<u32, (u32, Vec<u32>)>,
}

impl Seen {
    pub(crate) fn trains(&mut self, round: u32, attempt: u32, adapter: &Arc<AdapterState>, update: &[u32]) {
        self.trained.insert((round, attempt), (adapter.clone(), update.to_vec()));
    }

    pub(crate) fn uploads(&mut self, part: &UploadPart) {
        let chunks = self.sent.entry((part.round, part.attempt)).or_default();
        chunks.insert(part.index, part.chunk.clone());
    }

    pub(crate) fn released(&mut self, round: u32, attempt: u32, sum: Vec<u32>) {
        self.sums.insert(round, (attempt, sum));
    }
}
