//! The round, driven by hand: one input at a time, with the protocol's own clients as members.

mod acts;
mod blame;
mod other_protocol;

use std::collections::BTreeMap;

use consilium_crypto::{
    digest::Digest,
    release::ARITHMETIC_VERSION,
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
    plan::{
        Adapter, AdapterMode, Cohort, Deadlines, Encoding, Evaluation, Model, Optimizer, Plan, Pooling,
        Privacy, PrivacyUnit, Retries, TargetModules, Task, Tensor,
    },
    release::unpack_sum,
    roster::{Party, Roster},
    signed::{Kind as Document, Signatures, fingerprint},
    wire::{self, coordinator_message::Kind},
};
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;

const GRACE_MS: u64 = 5_000;
const UPLOAD_GRACE_MS: u64 = 20_000;
const WAIT_MS: u64 = 60_000;
const STEP_MS: u64 = 30_000;

fn name(index: usize) -> Id {
    format!("org-{index}").parse().unwrap()
}

fn documents(
    identities: &[Arc<Identity>],
    coordinator: &Identity,
    operator: &Identity,
    change: impl FnOnce(&mut Plan),
) -> (VerifiedRoster, VerifiedPlan) {
    let party = |identity: &Identity| Party {
        id: identity.id.clone(),
        signing_key: identity.signing_key().verifying_key(),
        tls_key: Digest::of(identity.id.as_str().as_bytes()),
        valid_until: jiff::civil::date(2120, 1, 1),
    };
    let sign = |kind, text: &str| {
        let mut signatures = Signatures::default();
        identities.iter().for_each(|it| signatures.add(kind, text, &it.id, it.signing_key()));
        signatures
    };
    let n = identities.len();
    let roster = Roster {
        version: 1,
        consortium: "test".parse().unwrap(),
        previous: None,
        quorum: 2 * n / 3 + 1,
        coordinator: party(coordinator),
        organizations: identities.iter().map(|it| party(it)).collect(),
        operators: vec![party(operator)],
        coordinator_next: None,
        viewers: Vec::new(),
        plan_signers: Vec::new(),
        simulated: false,
    };
    let text = roster.to_text().unwrap();
    let roster =
        Roster::verify(&text, &sign(Document::Roster, &text), &fingerprint(Document::Roster, &text)).unwrap();
    let tensor = |name: &str, shape| Tensor { name: name.into(), shape, bound: 0.0, trained: true };
    let nothing = Digest([0; 32]);
    let mut plan = Plan {
        version: 1,
        job: "job".parse().unwrap(),
        roster: roster.digest(),
        rounds: 3,
        arithmetic: ARITHMETIC_VERSION,
        model: Model {
            name: "none".into(),
            config: nothing,
            tokenizer: nothing,
            weights: nothing,
            pooling: Pooling::Mean,
            max_tokens: 8,
        },
        task: Task { labels: vec!["a".into(), "b".into()], max_records_per_patient: 1, ..Task::default() },
        cohort: Cohort { organizations: n as u32, colluders: 1, min_survivors: 4, allow_no_colluders: false },
        privacy: Privacy {
            unit: PrivacyUnit::Patient,
            note: String::new(),
            delta: 1e-5,
            epsilon: 1000.0,
            sampling_rate: 0.1,
            expected_lot: 50.0,
            largest_lot: 10.0,
            clip: 1.0,
            noise_multiplier: 1.0,
            i_accept_no_privacy: false,
            local: None,
        },
        encoding: Encoding {
            scale: 64.0,
            ring_bits: 24,
            metrics_share: 0.05,
            loss_max: 8.0,
            rounding_beta: 0.01,
        },
        optimizer: Optimizer::Sgd { learning_rate: 0.5 },
        evaluation: Evaluation { organization: name(1), every_rounds: 1, max_examples: 10 },
        deadlines: Deadlines {
            wait_s: (WAIT_MS / 1000) as u32,
            advertise_s: 30,
            share_s: 30,
            input_s: 30,
            vote_s: 30,
            unmask_s: 30,
            grace_s: (GRACE_MS / 1000) as u32,
            upload_grace_s: Some((UPLOAD_GRACE_MS / 1000) as u32),
        },
        retries: Retries { max_attempts: 2, reserve: None },
        hours: Vec::new(),
        retention: None,
        data: Vec::new(),
        adapter: Adapter {
            mode: AdapterMode::Ffa,
            rank: 1,
            alpha: 1.0,
            rslora: false,
            target_modules: TargetModules::default(),
            layers: None,
            dropout: 0.0,
            local: Vec::new(),
            start: None,
            seed: nothing,
            tensors: vec![tensor("head.bias", vec![2]), tensor("head.weight", vec![2, 3])],
        },
    };
    change(&mut plan);
    let text = plan.to_text().unwrap();
    let plan = Plan::verify(&text, &sign(Document::Plan, &text), &roster).unwrap();
    (roster, plan)
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

#[test]
fn too_few_online_are_waited_for_by_name_until_the_deadline() {
    let mut bench = Bench::new();
    for index in [0, 2, 3] {
        assert!(bench.comes(index).is_empty());
    }
    assert!(bench.wait(WAIT_MS - 1).is_empty());
    let status = bench.job.status(bench.now);
    assert_eq!((status.state.as_str(), status.round), ("waiting", 1));
    let awaited: Vec<_> = status.members.iter().filter(|it| it.awaited).map(|it| it.id.as_str()).collect();
    assert_eq!(awaited, ["org-1", "org-4"]);
    assert_eq!(bench.job.next_wake_ms(bench.now), Some(bench.now + 1));
    assert_eq!(bench.wait(1), ["failed"]);
    assert_eq!(outcomes(&bench.job), [(1, 1, code::TOO_FEW_ONLINE.to_owned())]);
    let status = bench.job.status(bench.now);
    assert_eq!((status.state.as_str(), status.round, status.attempt), ("waiting", 2, 1));
    // The fourth comes, the fifth has been away for longer than the grace: the second round begins.
    assert_eq!(bench.comes(1), ["opened"]);
    assert_eq!(bench.step(), "advertise");
}

#[test]
fn a_member_that_is_away_is_waited_for_as_long_as_the_grace() {
    let mut bench = Bench::new();
    for index in 0..4 {
        assert!(bench.comes(index).is_empty());
    }
    assert_eq!(bench.job.next_wake_ms(bench.now), Some(bench.now + GRACE_MS));
    assert!(bench.wait(GRACE_MS - 1).is_empty());
    assert_eq!(bench.wait(1), ["opened"]);
    // The step closes without it, as soon as everybody else has spoken.
    for index in 0..3 {
        assert_eq!(bench.speaks(index), ["accepted"]);
    }
    assert_eq!(bench.speaks(3), ["accepted", "closed"]);
    // And a connection that closes in a step ends its wait in the same way.
    for index in 0..2 {
        bench.speaks(index);
    }
    bench.comes(4);
    assert!(bench.goes(3).is_empty());
    bench.speaks(2);
    assert!(bench.wait(GRACE_MS).is_empty(), "three are below the minimum of four: it may come back");
    bench.comes(3);
    assert_eq!(bench.step(), "share");
    assert_eq!(bench.speaks(3), ["accepted", "closed"]);
}

#[test]
fn with_enough_answers_a_closed_connection_costs_the_grace_and_not_the_deadline() {
    let mut bench = Bench::new();
    bench.all_come();
    bench.up_to("vote");
    (0..4).for_each(|index| drop(bench.speaks(index)));
    assert_eq!(bench.step(), "vote", "the fifth is connected");
    bench.goes(4);
    assert!(bench.wait(GRACE_MS - 1).is_empty());
    assert_eq!(bench.wait(1), ["closed"]);
    assert_eq!(bench.step(), "unmask");
}

#[test]
fn a_member_that_is_cut_off_in_mid_upload_is_waited_for_longer_unless_it_declines() {
    for declines in [false, true] {
        let mut bench = Bench::new();
        bench.all_come();
        bench.up_to("input");
        (0..4).for_each(|index| drop(bench.speaks(index)));
        let message = bench.word(4);
        assert_eq!(bench.hand(Input::Protocol { from: name(4), message }), ["accepted"]);
        bench.goes(4);
        assert!(bench.wait(GRACE_MS).is_empty(), "its header is here, and its chunks may follow");
        let left = UPLOAD_GRACE_MS - GRACE_MS;
        assert_eq!(bench.job.next_wake_ms(bench.now), Some(bench.now + left));
        if declines {
            bench.comes(4);
            assert_eq!(
                bench.refuses(4),
                ["declined", "closed"],
                "its process was restarted: no chunk will follow"
            );
        } else {
            assert!(bench.wait(left - 1).is_empty());
            assert_eq!(bench.wait(1), ["closed"]);
        }
        assert_eq!(bench.step(), "vote");
    }
}

#[test]
fn a_quorum_of_answers_ends_the_last_step() {
    let mut bench = Bench::new();
    bench.all_come();
    bench.up_to("unmask");
    for index in 0..3 {
        assert_eq!(bench.speaks(index), ["accepted"]);
    }
    assert_eq!(bench.speaks(4), ["accepted", "closed"]);
    assert_eq!(bench.step(), "release");
    assert_eq!(bench.sums(), ["released", "opened"]);
    let sum = unpack_sum(&bench.plan, &bench.releases[&1].sum).unwrap();
    assert!(sum.iter().all(|value| *value == 1 + 2 + 3 + 4 + 5), "{sum:?}");
}

#[test]
fn refusals_that_put_the_minimum_out_of_reach_end_the_attempt_at_once() {
    let mut bench = Bench::new();
    bench.all_come();
    bench.speaks(0);
    assert_eq!(bench.refuses(1), ["declined"], "four of five are enough");
    assert_eq!(bench.refuses(2), ["declined", "failed", "opened"]);
    assert_eq!(outcomes(&bench.job), [(1, 1, code::TOO_MANY_REFUSALS.to_owned())]);
    // The refusals belonged to that attempt: in the next one all five may speak.
    assert!(bench.job.status(bench.now).members.iter().all(|it| it.awaited && it.refusal.is_empty()));
    let late = wire::Refusal { round: 1, attempt: 1, code: "late".into(), ..Default::default() };
    bench.hand(Input::Refusal { from: name(3), refusal: late });
    assert!(bench.job.status(bench.now).members.iter().all(|it| it.refusal.is_empty()));
}

#[test]
fn a_step_that_too_few_answer_fails_at_its_deadline() {
    let mut bench = Bench::new();
    bench.all_come();
    (0..3).for_each(|index| drop(bench.speaks(index)));
    assert!(bench.wait(STEP_MS - 1).is_empty());
    assert_eq!(bench.wait(1), ["failed", "opened"]);
    assert_eq!(outcomes(&bench.job), [(1, 1, code::TOO_FEW_ANSWERS.to_owned())]);
    assert!(bench.wait(STEP_MS - 1).is_empty());
    // The plan allows two attempts; then it is the next round's turn.
    assert_eq!(bench.wait(1), ["failed", "opened"]);
    let status = bench.job.status(bench.now);
    assert_eq!((status.round, status.attempt), (2, 1));
}

#[test]
fn a_repeated_message_is_recorded_once_and_receipted_again() {
    let mut bench = Bench::new();
    bench.all_come();
    for (step, number) in [("advertise", 1), ("share", 2), ("vote", 4), ("unmask", 5)] {
        bench.up_to(step);
        let message = bench.word(0);
        let again = Input::Protocol { from: name(0), message: message.clone() };
        assert_eq!(bench.hand(Input::Protocol { from: name(0), message }), ["accepted"], "{step}");
        bench.told.remove(&name(0));
        assert!(bench.hand(again).is_empty(), "{step}");
        let receipt = wire::Receipt { round: 1, attempt: 1, step: number };
        assert_eq!(bench.told[&name(0)], Kind::Receipt(receipt), "{step}");
        for index in 1..5 {
            if bench.step() == step {
                bench.speaks(index);
            }
        }
    }
}

#[test]
fn a_masked_input_is_taken_in_order_as_its_header_says_and_once() {
    let mut bench = Bench::new();
    bench.all_come();
    bench.up_to("input");
    let part = |chunk: Vec<u8>, index| wire::UploadPart { round: 1, attempt: 1, index, chunk };
    let refused = |bench: &mut Bench, part| bench.job.handle_chunk(&name(0), part, bench.now).unwrap_err();
    assert_eq!(refused(&mut bench, part(vec![0], 0)), ChunkRefused("header-first"));
    let message = bench.word(0);
    let header = Input::Protocol { from: name(0), message: message.clone() };
    assert_eq!(bench.hand(header), ["accepted"]);
    assert_eq!(
        bench.told[&name(0)],
        Kind::UploadWanted(wire::UploadWanted { round: 1, attempt: 1, next_chunk: 0 })
    );
    let good = bench.masked[&name(0)][0].clone();
    let mut bent = good.clone();
    bent[0] ^= 1;
    assert_eq!(refused(&mut bench, part(bent, 0)), ChunkRefused("not-as-announced"));
    assert_eq!(refused(&mut bench, part(good[1..].to_vec(), 0)), ChunkRefused("wrong-length"));
    assert_eq!(refused(&mut bench, part(good.clone(), 1)), ChunkRefused("out-of-order"));
    assert_eq!(
        refused(&mut bench, wire::UploadPart { attempt: 2, ..part(good.clone(), 0) }),
        ChunkRefused("no-attempt")
    );
    let stranger =
        bench.job.handle_chunk(&"org-9".parse().unwrap(), part(good.clone(), 0), bench.now).unwrap_err();
    assert_eq!(stranger, ChunkRefused("not-in-cohort"));
    let effects = bench.job.handle_chunk(&name(0), part(good.clone(), 0), bench.now).unwrap();
    assert_eq!(bench.execute(effects), ["stored"]);
    let again = bench.job.handle_chunk(&name(0), part(good, 0), bench.now).unwrap();
    assert!(again.is_empty());
    // The header once more, by a client that lost the receipt.
    assert!(bench.hand(Input::Protocol { from: name(0), message }).is_empty());
    assert_eq!(bench.told[&name(0)], Kind::Receipt(wire::Receipt { round: 1, attempt: 1, step: 3 }));
}

#[test]
fn only_the_evaluators_result_counts_and_only_once() {
    let mut bench = Bench::new();
    bench.all_come();
    let result =
        |round, accuracy| wire::Evaluation { round, loss: 0.5, accuracy, macro_accuracy: 0.4, examples: 9 };
    let says = |bench: &mut Bench, index, evaluation| {
        let kinds = bench.hand(Input::Evaluation { from: name(index), evaluation });
        kinds.len()
    };
    assert_eq!(says(&mut bench, 1, result(1, 0.5)), 0, "nothing is released yet");
    bench.up_to("release");
    bench.sums();
    for index in [0, 2, 3, 4] {
        assert_eq!(says(&mut bench, index, result(1, 0.9)), 0, "org-{index} is not the evaluator");
    }
    assert_eq!(says(&mut bench, 1, result(2, 0.5)), 0, "no such round");
    for bad in [f32::NAN, f32::INFINITY, -0.1, 1.1] {
        assert_eq!(says(&mut bench, 1, result(1, bad)), 0, "{bad}");
    }
    assert_eq!(says(&mut bench, 1, result(1, 0.5)), 1);
    assert_eq!(says(&mut bench, 1, result(1, 0.75)), 0, "the first word stands");
    let round = bench.job.rounds().rounds.remove(0);
    assert_eq!((round.test_accuracy, round.evaluator.as_str()), (Some(0.5), "org-1"));
    // And it survives a restart.
    let rebuilt = bench.rebuilt(bench.recorded.len());
    assert_eq!(rebuilt.rounds().rounds[0].test_accuracy, Some(0.5));
}

#[test]
fn a_client_with_other_documents_is_sent_away_by_name() {
    let mut bench = Bench::new();
    let good = wire::Hello {
        protocol_version: PROTOCOL_VERSION,
        roster_digest: bench.roster.digest().0.to_vec(),
        plan_digest: bench.plan.digest().0.to_vec(),
        ..Default::default()
    };
    for (hello, code) in [
        (wire::Hello { protocol_version: PROTOCOL_VERSION + 1, ..good.clone() }, "protocol-version"),
        (wire::Hello { roster_digest: vec![0; 32], ..good.clone() }, "other-roster"),
        (wire::Hello { plan_digest: vec![0; 32], ..good }, "other-plan"),
    ] {
        bench.hand(Input::Hello { from: name(0), hello });
        assert_eq!(bench.told[&name(0)], Kind::Goodbye(wire::Goodbye { code: code.into() }));
        assert_eq!(bench.closed.pop(), Some(name(0)));
        assert!(bench.job.status(bench.now).members.iter().all(|it| !it.online));
    }
}

#[test]
fn the_recorded_events_are_the_machine() {
    let mut bench = Bench::new();
    bench.all_come();
    bench.up_to("release");
    bench.sums();
    bench.now += 1;
    bench.up_to("share");
    let seen = |job: &mut Job, now| {
        let status = job.status(now);
        let done: Vec<_> = status.members.iter().map(|it| (it.id.clone(), it.done)).collect();
        let spent = status.spent.map(|it| it.epsilon.to_bits());
        let digest = job.state().adapter_digest();
        (status.state, status.round, status.attempt, status.step, done, spent, job.rounds(), digest)
    };
    let mut rebuilt = bench.rebuilt(bench.recorded.len());
    assert_eq!(seen(&mut rebuilt, bench.now), seen(&mut bench.job, bench.now));
    // Every beginning of the record is a machine as well, and a record with a hole is none.
    for events in 0..bench.recorded.len() {
        bench.rebuilt(events);
    }
    let (id, roster, plan) = (bench.coordinator.clone(), bench.roster.clone(), bench.plan.clone());
    let mut broken = Job::new(id, roster, plan, bench.now).unwrap();
    assert!(broken.replay(bench.recorded[1].clone(), &mut |_| None).is_err());
}

#[test]
fn a_restart_gives_the_step_its_time_again_and_finishes_what_was_begun() {
    let mut bench = Bench::new();
    bench.all_come();
    bench.up_to("vote");
    let later = bench.now + 10 * STEP_MS;
    let mut rebuilt = bench.rebuilt(bench.recorded.len());
    assert!(rebuilt.resume(later).is_empty());
    assert!(
        rebuilt.handle(Input::Tick, later).is_empty(),
        "nobody could vote while the coordinator was away"
    );
    assert!(rebuilt.next_wake_ms(later).is_some_and(|wake| wake > later));
    let status = rebuilt.status(later);
    assert_eq!((status.step.as_str(), status.deadline_seconds), ("vote", STEP_MS as f64 / 1000.0));
    // With all answers recorded and no sum published, it computes the sum.
    bench.up_to("release");
    let mut rebuilt = bench.rebuilt(bench.recorded.len());
    assert!(matches!(rebuilt.resume(later)[..], [Effect::Aggregate(_)]));
}

#[test]
fn no_attempt_begins_while_the_disk_has_no_room() {
    let mut bench = Bench::new();
    bench.job.set_room(false);
    bench.all_come();
    assert!(bench.wait(WAIT_MS + 1).is_empty(), "it waits for room, and nobody is late meanwhile");
    assert!(bench.wait(WAIT_MS + 1).is_empty());
    bench.job.set_room(true);
    assert_eq!(bench.wait(1), ["opened"]);
    // An attempt that runs is finished.
    bench.job.set_room(false);
    bench.up_to("release");
    assert_eq!(bench.sums(), ["released"]);
    assert!(bench.wait(1).is_empty());
}

#[test]
fn every_attempt_leaves_an_entry_of_the_log_and_a_replay_goes_on_behind_it() {
    let mut bench = Bench::new();
    bench.all_come();
    bench.up_to("release");
    bench.sums();
    bench.up_to("input");
    // Two decline: the attempt fails.
    bench.refuses(0);
    bench.refuses(1);
    let logged: Vec<_> = bench.recorded.iter().filter_map(|it| it.event.logged()).cloned().collect();
    let mut head = LogHead::empty(&bench.roster, &bench.plan);
    let entries: Vec<_> =
        logged.iter().map(|entry| head.follow(entry, &bench.roster, &bench.plan).unwrap()).collect();
    assert_eq!(entries.iter().map(|it| (it.round, it.attempt)).collect::<Vec<_>>(), [(1, 1), (2, 1)]);
    assert_eq!(entries.iter().map(|it| it.debited).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(bench.job.log_head(), head);
    assert_eq!(bench.rebuilt(bench.recorded.len()).log_head(), head);
    // A store in which an entry was exchanged is not gone on from.
    let (id, roster, plan) = (bench.coordinator.clone(), bench.roster.clone(), bench.plan.clone());
    let mut job = Job::new(id, roster, plan, bench.now).unwrap();
    let mut release = |round| bench.releases.get(&round).map(|it| (it.head.clone(), it.sum.clone()));
    let replayed = bench.recorded.iter().try_for_each(|recovered| {
        let mut recovered = recovered.clone();
        if let Event::Released { logged, .. } = &mut recovered.event {
            *logged = bench.recorded.iter().rev().find_map(|it| it.event.logged()).cloned();
        }
        job.replay(recovered, &mut release)
    });
    assert!(replayed.unwrap_err().why.contains("log"));
}

/// A member that claims what was never published holds the others up a few times, and then no more.
#[test]
fn a_claim_that_comes_to_nothing_is_waited_for_a_few_times() {
    let mut bench = Bench::new();
    let claim = |bench: &mut Bench| {
        let hello = wire::Hello {
            protocol_version: PROTOCOL_VERSION,
            roster_digest: bench.roster.digest().0.to_vec(),
            plan_digest: bench.plan.digest().0.to_vec(),
            applied_round: 3,
            ..Default::default()
        };
        bench.hand(Input::Hello { from: name(4), hello })
    };
    assert!(claim(&mut bench).is_empty());
    assert!(matches!(bench.told[&name(4)], Kind::ReleasesWanted(wire::ReleasesWanted { from_round: 1 })));
    (0..4).for_each(|index| assert!(bench.comes(index).is_empty(), "nothing begins meanwhile"));
    for _ in 0..2 {
        bench.goes(4);
        assert!(claim(&mut bench).is_empty());
    }
    // It says nothing for as long as an upload may take: the round begins without.
    assert_eq!(bench.wait(STEP_MS), ["opened"]);
    // What it hands over unasked, or what nobody signed, is not taken.
    let head = wire::SignedReleaseHead { head: vec![1], signature: vec![2; 64] };
    assert_eq!(bench.job.returned(&name(4), head, Vec::new(), bench.now).unwrap_err(), "not-asked");
    bench.goes(4);
    claim(&mut bench);
    assert!(!matches!(bench.told[&name(4)], Kind::ReleasesWanted(_)), "{:?}", bench.told[&name(4)]);
}
