//! An organization as a process: session machine, journal, ledger, kept adapter, trainer. It can die after any record.
//!
//! Journal and ledger are kept in the encodings that a deployed client writes to its disk, and a process that starts
//! again knows nothing but them.

use std::{collections::BTreeSet, sync::Arc};

use chacha20::ChaCha20Rng;
use consilium_client::{
    config::adapter_tensors_of,
    ledger::{Debit, LedgerState},
    model::AdapterTensors,
    run::lot::encode_lot,
    session::{Effect, Event, Held, Input, Recorded, Session, Start},
    trainer::home::tells_scores,
};
use consilium_crypto::{digest::Digest, protocol::Protocol, release::AdapterState, ring::RingVector};
use consilium_proto::{
    identity::Identity,
    ids::Id,
    plan::VerifiedPlan,
    roster::VerifiedRoster,
    wire::{self, client_message::Kind as Say},
};

use crate::{
    at_home::Beside,
    attack::{Attacking, denied},
    consortium::Consortium,
    coordinator_host::Surroundings,
    plain::protocol,
    scenario::Scenario,
    seeds::Seeds,
};

/// The code with which an organization declines a round that it was not drawn for.
const NOT_SAMPLED: &str = "not-sampled";

/// What a turn asks the world for, in order.
pub(crate) enum Act {
    Say(Say),
    Upload { round: u32, attempt: u32, chunks: Arc<Vec<Vec<u8>>>, from: u32 },
    Fetch { from_round: u32 },
    Train { ticket: u64 },
    Evaluate { round: u32, adapter: Arc<AdapterState> },
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Goes,
    /// The process died: what it had not said by then was never said.
    Died,
    /// The job is over for it, either way.
    Over,
}

/// Whether an organization's process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    /// Not running now.
    Down,
    /// Running.
    Up,
    /// Every published round is applied.
    Finished,
    /// It refuses to go on with this coordinator.
    Stopped(String),
}

/// What a process starts from, besides its own disk.
struct Given {
    identity: Arc<Identity>,
    roster: Arc<VerifiedRoster>,
    plan: Arc<VerifiedPlan>,
    seeds: Seeds,
    /// Every organization asks the accountant the same questions: here they are answered once.
    answers: Arc<LedgerState>,
    /// How updates are added up.
    protocol: Arc<dyn Protocol>,
}

/// One organization.
pub struct ClientHost {
    index: usize,
    name: String,
    given: Given,
    session: Option<Session>,
    life: Life,
    starts: u64,
    rng: ChaCha20Rng,
    beside: Beside,
    /// The lot that is wanted, with its ticket.
    training: Option<(u64, u32, u32, Arc<AdapterState>)>,
    tickets: u64,
    journal: Vec<String>,
    debits: Vec<String>,
    kept: Option<(u32, Vec<u8>)>,
    /// Its file of peers' adverts.
    peers: Option<Vec<u8>>,
    forgetful: bool,
    deaths: BTreeSet<u64>,
    declined: Vec<(u32, u32, String)>,
    /// By what it multiplies its updates, if it is corrupt.
    factor: Option<i32>,
    /// Of whom it says that it holds nothing, if it is corrupt.
    denies: Option<Id>,
    /// Whether its disk is gone when it comes back from its next death.
    loses_disk: bool,
}

impl ClientHost {
    pub(crate) fn new(
        scenario: &Scenario,
        consortium: &Consortium,
        index: usize,
        beside: Beside,
        answers: Arc<LedgerState>,
    ) -> Option<Self> {
        let identity = consortium.organizations.get(index)?.clone();
        let seeds = Seeds::new(scenario.seed);
        Some(Self {
            index,
            name: identity.id.to_string(),
            given: Given {
                identity,
                roster: consortium.roster.clone(),
                plan: consortium.plan.clone(),
                seeds,
                answers,
                protocol: protocol(scenario),
            },
            session: None,
            life: Life::Down,
            starts: 0,
            rng: seeds.rng("client", index as u64, 0),
            beside,
            training: None,
            tickets: 0,
            journal: Vec::new(),
            debits: Vec::new(),
            kept: None,
            peers: None,
            forgetful: scenario.faults.forgetful.contains(&index),
            deaths: scenario.faults.clients.get(&index).cloned().unwrap_or_default(),
            declined: Vec::new(),
            factor: None,
            denies: None,
            loses_disk: false,
        })
    }

    /// Makes it what an attack needs it to be.
    pub(crate) fn corrupted(mut self, attacking: &Attacking) -> Self {
        self.given.protocol = attacking.of_member(self.index, self.given.protocol.clone());
        self.factor = attacking.factor(self.index);
        self.denies = attacking.denies(self.index);
        self
    }

    /// Its disk is gone when it comes back from its next death.
    pub(crate) fn lose_disk(&mut self) {
        self.loses_disk = true;
    }

    /// Its id.
    pub fn id(&self) -> &Id {
        &self.given.identity.id
    }

    /// Whether its process runs.
    pub fn life(&self) -> &Life {
        &self.life
    }

    /// How often its process was started.
    pub fn starts(&self) -> u64 {
        self.starts
    }

    /// The last round it applied, and the adapter's digest after it; `None` while its process is down.
    pub fn applied(&self) -> Option<(u32, Digest)> {
        self.session.as_ref().map(|session| (session.applied().0, session.applied().1.adapter_digest()))
    }

    /// Its records and debits so far.
    pub fn records(&self) -> u64 {
        (self.journal.len() + self.debits.len()) as u64
    }

    /// The debits on its disk.
    ///
    /// # Errors
    ///
    /// In words, when a line is none.
    pub fn debits(&self) -> Result<Vec<Debit>, String> {
        lines(&self.debits)
    }

    /// Attempts it declined, with the check that failed.
    pub fn declined(&self) -> &[(u32, u32, String)] {
        &self.declined
    }

    /// An adapter as this organization uses it: with its own head, where heads stay at home.
    pub fn complete(&self, shared: &AdapterState) -> AdapterTensors {
        self.beside.complete(shared)
    }

    /// From the next input on it joins nothing, because it was not drawn for this round; or it does again.
    pub(crate) fn sits_out(&mut self, round: Option<u32>) {
        let why =
            |round| (NOT_SAMPLED, format!("another sample of the organizations was drawn for round {round}"));
        self.session.iter_mut().for_each(|session| session.bar(round.map(why)));
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_up(&self) -> bool {
        self.life == Life::Up
    }

    /// Starts the process from what is on its disk.
    pub(crate) fn start(&mut self, around: &mut Surroundings<'_>) -> Result<(), String> {
        let Given { identity, roster, plan, seeds, answers, protocol } = &self.given;
        let index = self.index as u64;
        let events: Vec<Event> = lines(&self.journal)?;
        let debits: Vec<Debit> = lines(&self.debits)?;
        let salt = seeds.bytes("ledger-salt", index, 0);
        let ledger = LedgerState::from_debits(identity.id.clone(), salt, debits)
            .map_err(|error| error.to_string())?
            .sharing_answers(answers);
        let manifest = &plan.derived().manifest;
        let kept = self.kept.as_ref().and_then(|(round, bytes)| {
            AdapterState::from_bytes(manifest, bytes).ok().map(|state| (*round, state))
        });
        let held = self.peers.as_ref().map_or_else(|| Ok(Held::default()), |bytes| Held::read(bytes));
        let held = held.map_err(|error| error.to_string())?;
        let session = Session::new(Start {
            identity: identity.clone(),
            roster: roster.clone(),
            plan: plan.clone(),
            ledger,
            budget: None,
            budget_everybody_else: None,
            recorded: Recorded::from_events(&events),
            held,
            kept,
            newest: None,
        })?;
        self.session = Some(session.with_protocol(protocol.clone()));
        self.starts += 1;
        // Never the generator of an earlier process: its keys were drawn from that one.
        self.rng = seeds.rng("client", index, self.starts);
        self.life = Life::Up;
        around.log.line(around.now, &self.name, &format!("starts with {} records", self.records()), &[]);
        Ok(())
    }

    /// Kills the process.
    pub(crate) fn die(&mut self, around: &mut Surroundings<'_>) {
        around.log.line(around.now, &self.name, "dies", &[]);
        self.session = None;
        self.training = None;
        self.life = Life::Down;
        if self.forgetful {
            self.kept = None;
        }
        if std::mem::take(&mut self.loses_disk) {
            self.journal.clear();
            self.debits.clear();
            (self.kept, self.peers) = (None, None);
            self.beside.loses_disk(&self.given.plan);
        }
    }

    /// Hands an input to the machine and executes what comes out, in order.
    pub(crate) fn handle(&mut self, input: Input, around: &mut Surroundings<'_>) -> (Vec<Act>, After) {
        let Some(session) = self.session.as_mut().filter(|_| self.life == Life::Up) else {
            return (Vec::new(), After::Goes);
        };
        let effects = session.handle(input, &mut self.rng);
        let (mut acts, mut after) = (Vec::new(), After::Goes);
        for effect in effects {
            match effect {
                Effect::Record(event) => {
                    let line = serde_json::to_string(&event).unwrap_or_default();
                    around.log.line(around.now, &self.name, "records", line.as_bytes());
                    self.journal.push(line);
                    if self.dies_now(around) {
                        return (acts, After::Died);
                    }
                }
                Effect::Debit(debit) => {
                    let line = serde_json::to_string(&debit).unwrap_or_default();
                    around.log.line(around.now, &self.name, "debits", line.as_bytes());
                    around.watch.debited(self.index, &debit);
                    self.debits.push(line);
                    if self.dies_now(around) {
                        return (acts, After::Died);
                    }
                }
                Effect::KeepPeers(bytes) => self.peers = Some(bytes),
                // No simulated coordinator loses its disk.
                Effect::KeepAnnouncement(_) | Effect::KeepRelease { .. } | Effect::Return { .. } => {}
                Effect::Say(Say::StateStatements(said)) => {
                    let said = match &self.denies {
                        Some(victim) => denied(said, victim, &self.given.identity, &self.given.plan),
                        None => said,
                    };
                    acts.push(Act::Say(Say::StateStatements(said)));
                }
                Effect::Say(say) => acts.push(Act::Say(say)),
                Effect::Train { round, attempt, adapter } => {
                    self.tickets += 1;
                    self.training = Some((self.tickets, round, attempt, adapter));
                    acts.push(Act::Train { ticket: self.tickets });
                }
                Effect::StopTraining => self.training = None,
                Effect::Upload { round, attempt, chunks, from } => {
                    acts.push(Act::Upload { round, attempt, chunks, from });
                }
                Effect::Fetch { from_round } => acts.push(Act::Fetch { from_round }),
                Effect::Applied { round, adapter, .. } => {
                    let digest = adapter.adapter_digest();
                    around.log.line(around.now, &self.name, &format!("applied {round}"), digest.as_bytes());
                    self.kept = Some((round, adapter.to_bytes()));
                }
                Effect::Evaluate { round, adapter } => acts.push(Act::Evaluate { round, adapter }),
                Effect::Declined { round, attempt, code, .. } => {
                    around.log.line(
                        around.now,
                        &self.name,
                        &format!("declines {round}.{attempt}: {code}"),
                        &[],
                    );
                    self.declined.push((round, attempt, code));
                }
                Effect::Reached { .. } | Effect::Outlook { .. } => {}
                Effect::Finished => {
                    around.log.line(around.now, &self.name, "finished", &[]);
                    self.life = Life::Finished;
                    after = After::Over;
                }
                Effect::Stop(why) => {
                    around.log.line(around.now, &self.name, &format!("stops: {why}"), &[]);
                    self.life = Life::Stopped(why);
                    after = After::Over;
                }
            }
        }
        (acts, after)
    }

    fn dies_now(&mut self, around: &mut Surroundings<'_>) -> bool {
        let now = self.deaths.remove(&self.records());
        if now {
            self.die(around);
        }
        now
    }

    /// The lot of a ticket, if it is still wanted: drawn, clipped, rounded and noised by the deployed client's own code.
    pub(crate) fn train(&mut self, ticket: u64, around: &mut Surroundings<'_>) -> Option<Input> {
        let (wanted, round, attempt, adapter) = self.training.take()?;
        if wanted != ticket {
            self.training = Some((wanted, round, attempt, adapter));
            return None;
        }
        // A stream of its own: what a lot draws does not depend on what was said before it.
        let number = u64::from(round) << 32 | u64::from(attempt);
        let mut rng = self.given.seeds.rng("lot", self.index as u64, number);
        let update = encode_lot(&self.given.plan, self.beside.trainer(), &adapter, &mut rng);
        let update = update.map(|update| match self.factor {
            Some(factor) => scaled(&update, factor),
            None => update,
        });
        if let Ok(update) = &update {
            around.watch.trains(self.index, (round, attempt), &adapter, update);
            around.watch.encoded(self.index, round, attempt, update);
        }
        Some(Input::Trained { round, attempt, update: update.map_err(|failed| failed.0) })
    }

    /// The public test set's result, unless it has to stay at home.
    pub(crate) fn evaluate(&mut self, round: u32, adapter: &AdapterState) -> Input {
        let most = self.given.plan.document().evaluation.max_examples as usize;
        let tells = tells_scores(&self.given.plan);
        let score = tells.then(|| self.beside.trainer().evaluate(&adapter_tensors_of(adapter), Some(most)));
        Input::Evaluated(match score {
            Some(Ok(score)) => wire::Evaluation {
                round,
                loss: score.loss as f32,
                accuracy: score.accuracy as f32,
                macro_accuracy: score.macro_accuracy as f32,
                examples: u32::try_from(score.examples).unwrap_or(u32::MAX),
            },
            _ => wire::Evaluation { round, loss: f32::NAN, ..Default::default() },
        })
    }
}

/// An update multiplied, in the ring.
fn scaled(update: &RingVector, factor: i32) -> RingVector {
    let values = update.values().iter().map(|value| value.wrapping_mul(factor as u32)).collect();
    RingVector::reduced(update.width(), values)
}

fn lines<T: serde::de::DeserializeOwned>(lines: &[String]) -> Result<Vec<T>, String> {
    lines.iter().map(|line| serde_json::from_str(line).map_err(|error| error.to_string())).collect()
}
