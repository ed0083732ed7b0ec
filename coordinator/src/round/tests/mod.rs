//! The round, driven by hand: one input at a time, with the protocol's own clients as members.

mod acts;
mod blame;
mod documents;
mod other_protocol;
mod recovery;
mod waiting;
mod words;

use std::collections::BTreeMap;

use consilium_crypto::{
    digest::Digest,
    ring::{self, RingVector},
    secagg::{
        LedgerHead, Position, Step,
        client::{Participant, Reply},
    },
};
use consilium_proto::{
    PROTOCOL_VERSION,
    announcement::Announcement,
    ids::Id,
    plan::Plan,
    wire::{self, coordinator_message::Kind},
};
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;
use documents::documents;

const GRACE_MS: u64 = 5_000;

const UPLOAD_GRACE_MS: u64 = 20_000;

const WAIT_MS: u64 = 60_000;

const STEP_MS: u64 = 30_000;

fn name(index: usize) -> Id {
    format!("org-{index}").parse().unwrap()
}

/// A job with five members, its disk, and everything that was said.
struct Bench {
    job: Job,
    now: u64,
    coordinator: Arc<Identity>,
    operator: Arc<Identity>,
    identities: Vec<Arc<Identity>>,
    roster: Arc<VerifiedRoster>,
    plan: Arc<VerifiedPlan>,
    protocol: Arc<dyn Protocol>,
    rng: StdRng,
    members: Vec<Option<Participant>>,
    masked: BTreeMap<Id, Vec<Vec<u8>>>,
    recorded: Vec<Recovered>,
    releases: BTreeMap<u32, Publication>,
    stored: BTreeMap<Id, Vec<Vec<u8>>>,
    /// The last thing that each member was told.
    told: BTreeMap<Id, Kind>,
    closed: Vec<Id>,
    aggregations: Vec<Aggregation>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| ())
    }

    /// Under a plan that differs.
    fn with(change: impl FnOnce(&mut Plan)) -> Self {
        let identity =
            |id: &str, seed| Arc::new(Identity::generate(id.parse().unwrap(), [seed; 32]).unwrap());
        let (coordinator, operator) = (identity("coordinator", 99), identity("ada", 98));
        let identities: Vec<_> =
            (0..5u8).map(|index| identity(name(index.into()).as_str(), index + 1)).collect();
        let (roster, plan) = documents(&identities, &coordinator, &operator, change);
        let (roster, plan) = (Arc::new(roster), Arc::new(plan));
        let now = 1_000_000;
        Self {
            job: Job::new(coordinator.clone(), roster.clone(), plan.clone(), now).unwrap(),
            now,
            coordinator,
            operator,
            identities,
            roster,
            plan,
            protocol: Arc::new(FiveSteps),
            rng: StdRng::seed_from_u64(5),
            members: (0..5).map(|_| None).collect(),
            masked: BTreeMap::new(),
            recorded: Vec::new(),
            releases: BTreeMap::new(),
            stored: BTreeMap::new(),
            told: BTreeMap::new(),
            closed: Vec::new(),
            aggregations: Vec::new(),
        }
    }

    /// Hands an input to the machine; the kinds of the events that it recorded.
    fn hand(&mut self, input: Input) -> Vec<&'static str> {
        let effects = self.job.handle(input, self.now);
        self.execute(effects)
    }

    fn execute(&mut self, effects: Vec<Effect>) -> Vec<&'static str> {
        let mut kinds = Vec::new();
        for effect in effects {
            match effect {
                Effect::Record { round, attempt, event } => {
                    kinds.push(event.kind());
                    self.recorded.push(Recovered { round, attempt, event, at_ms: self.now });
                }
                Effect::Publish(publication) => {
                    kinds.push(publication.event.kind());
                    let (round, attempt, event) =
                        (publication.round, publication.attempt, publication.event.clone());
                    self.recorded.push(Recovered { round, attempt, event, at_ms: self.now });
                    self.releases.insert(round, *publication);
                }
                Effect::PutChunk { from, index, bytes, .. } => {
                    let chunks = self.stored.entry(from).or_default();
                    assert_eq!(chunks.len(), index as usize);
                    chunks.push(bytes);
                }
                Effect::Send { to, message } => drop(self.told.insert(to, message)),
                Effect::Close { to } => self.closed.push(to),
                Effect::AskUpload { from, round, attempt } => {
                    let chunks = self.stored.get(&from).map_or(0, Vec::len) as u32;
                    kinds.extend(self.hand(Input::Held { from, round, attempt, chunks }));
                }
                Effect::Aggregate(work) => self.aggregations.push(work),
                Effect::SyncInput { .. } | Effect::Refused { .. } => {}
                Effect::DropInputs { .. } => self.stored.clear(),
            }
        }
        kinds
    }

    fn wait(&mut self, ms: u64) -> Vec<&'static str> {
        self.now += ms;
        self.hand(Input::Tick)
    }

    fn comes(&mut self, index: usize) -> Vec<&'static str> {
        self.hand(Input::Hello { from: name(index), hello: self.greeting() })
    }

    fn greeting(&self) -> wire::Hello {
        wire::Hello {
            protocol_version: PROTOCOL_VERSION,
            roster_digest: self.roster.digest().0.to_vec(),
            plan_digest: self.plan.digest().0.to_vec(),
            applied_round: 0,
            software: "test".into(),
            clock_ms: 0,
            newest: None,
        }
    }

    fn goes(&mut self, index: usize) -> Vec<&'static str> {
        self.hand(Input::Gone { from: name(index) })
    }

    fn refuses(&mut self, index: usize) -> Vec<&'static str> {
        let status = self.job.status(self.now);
        let refusal = wire::Refusal {
            round: status.round,
            attempt: status.attempt,
            code: "test".into(),
            ..Default::default()
        };
        self.hand(Input::Refusal { from: name(index), refusal })
    }

    fn all_come(&mut self) {
        (0..5).for_each(|index| drop(self.comes(index)));
    }

    /// The honest word of a member to what it was last told.
    fn word(&mut self, index: usize) -> wire::ProtocolMessage {
        let key = self.identities[index].clone();
        let key = key.signing_key();
        match self.told[&name(index)].clone() {
            Kind::Announcement(signed) => {
                let announcement = Announcement::verify(&signed, &self.roster, &self.plan).unwrap();
                let facts = Arc::new(announcement.facts(&self.roster, &self.plan).unwrap());
                let ledger = LedgerHead { length: 0, salted_head: Digest([7; 32]) };
                let me = Position(index as u16);
                let (member, body) = Participant::start(facts, me, key, ledger, &mut self.rng).unwrap();
                self.members[index] = Some(member);
                let (round, attempt) = (announcement.round, announcement.attempt);
                wire::ProtocolMessage { round, attempt, step: 1, body }
            }
            Kind::Protocol(told) => {
                let member = self.members[index].as_mut().unwrap();
                let step = Step::from_number(told.step as u8).unwrap();
                let body = match member.deliver(step, &told.body, key, &mut self.rng).unwrap() {
                    Reply::Send(body) => body,
                    Reply::UpdateWanted => {
                        let derived = self.plan.derived();
                        // Everybody's update is as many ones as its number counts.
                        let values = vec![index as u32 + 1; derived.vector_len];
                        let update = RingVector::new(derived.ring, values).unwrap();
                        let masked = member.mask(update, key).unwrap();
                        self.masked.insert(name(index), masked.chunks);
                        masked.header
                    }
                };
                wire::ProtocolMessage { body, ..told }
            }
            other => panic!("{index} was told {other:?}"),
        }
    }

    fn speaks(&mut self, index: usize) -> Vec<&'static str> {
        let message = self.word(index);
        let (round, attempt, input) = (message.round, message.attempt, message.step == 3);
        let mut kinds = self.hand(Input::Protocol { from: name(index), message });
        if input {
            for (chunk, part) in (0..).zip(self.masked[&name(index)].clone()) {
                let part = wire::UploadPart { round, attempt, index: chunk, chunk: part };
                let effects = self.job.handle_chunk(&name(index), part, self.now).unwrap();
                kinds.extend(self.execute(effects));
            }
        }
        kinds
    }

    fn step(&mut self) -> String {
        self.job.status(self.now).step
    }

    /// Everybody speaks in every step up to, and without, this one.
    fn up_to(&mut self, step: &str) {
        while self.step() != step {
            for index in 0..5 {
                if self.step() == step {
                    return;
                }
                self.speaks(index);
            }
        }
    }

    /// The sum that the last aggregation asks for, handed back.
    fn sums(&mut self) -> Vec<&'static str> {
        let work = self.aggregations.pop().expect("an aggregation was asked for");
        let (mut sum, mut values) = (Vec::new(), Vec::new());
        for index in 0..work.chunks {
            let mut read = |position, out: &mut Vec<u8>| {
                let id = work.id(position).ok_or("position")?;
                out.extend_from_slice(&self.stored[id][index as usize]);
                Ok::<(), &str>(())
            };
            work.revealed.unmask_chunk(index, &mut read, &mut values).unwrap();
            ring::pack(self.plan.derived().ring, &values, &mut sum);
        }
        self.hand(Input::Summed { round: work.round, attempt: work.attempt, sum: Ok(sum) })
    }

    /// A machine rebuilt from the first so many events.
    fn rebuilt(&self, events: usize) -> Job {
        let (id, roster, plan) = (self.coordinator.clone(), self.roster.clone(), self.plan.clone());
        let mut job = Job::new(id, roster, plan, self.now).unwrap().with_protocol(self.protocol.clone());
        let mut release = |round| self.releases.get(&round).map(|it| (it.head.clone(), it.sum.clone()));
        for recovered in self.recorded.iter().take(events) {
            let bytes = recovered.event.encode();
            let event = Event::decode(recovered.event.kind(), &bytes).unwrap();
            job.replay(Recovered { event, ..recovered.clone() }, &mut release).unwrap();
        }
        job
    }
}

fn outcomes(job: &Job) -> Vec<(u32, u32, String)> {
    job.rounds().rounds.into_iter().map(|it| (it.round, it.attempt, it.outcome)).collect()
}
