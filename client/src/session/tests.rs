//! The session against coordinators that lie, repeat themselves, or go away.

#[path = "../../../crypto/tests/clear_sum/mod.rs"]
mod clear_sum;
mod restored;

use std::collections::BTreeSet;

use consilium_crypto::{
    digest::Digest,
    release::ARITHMETIC_VERSION,
    ring,
    secagg::{
        LedgerHead, Position,
        client::{Participant, Reply},
        coordinator::Collector,
    },
};
use consilium_proto::{
    ids::Id,
    plan::{
        Adapter, AdapterMode, Cohort, Deadlines, Encoding, Evaluation, Model, Optimizer, Plan, Pooling,
        Privacy, PrivacyUnit, Retries, TargetModules, Task, Tensor,
    },
    release::{apply_sum, sign_head},
    roster::{Party, Roster},
    signed::{Kind as Document, Signatures, fingerprint},
};
use prost::Message as _;
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;
use crate::ledger::LedgerState;

/// The session under test is this organization's; it is the evaluator as well.
const ME: usize = 1;

fn name(index: usize) -> Id {
    format!("org-{index}").parse().unwrap()
}

/// Three organizations and their documents. Nobody is to spare: a round needs all three.
struct Consortium {
    coordinator: Arc<Identity>,
    organizations: Vec<Arc<Identity>>,
    roster: Arc<VerifiedRoster>,
    plan: Arc<VerifiedPlan>,
}

impl Consortium {
    fn new() -> Self {
        Self::with(1000.0)
    }

    /// With a budget of `epsilon`.
    fn with(epsilon: f64) -> Self {
        let identity =
            |id: &str, seed| Arc::new(Identity::generate(id.parse().unwrap(), [seed; 32]).unwrap());
        let coordinator = identity("coordinator", 99);
        let organizations: Vec<_> = (0..3u8).map(|i| identity(name(i.into()).as_str(), i + 1)).collect();
        let party = |identity: &Identity| Party {
            id: identity.id.clone(),
            signing_key: identity.signing_key().verifying_key(),
            tls_key: Digest::of(identity.id.as_str().as_bytes()),
            valid_until: jiff::civil::date(2120, 1, 1),
        };
        let sign = |kind, text: &str| {
            let mut signatures = Signatures::default();
            organizations.iter().for_each(|it| signatures.add(kind, text, &it.id, it.signing_key()));
            signatures
        };
        let roster = Roster {
            version: 1,
            consortium: "test".parse().unwrap(),
            previous: None,
            quorum: 3,
            coordinator: party(&coordinator),
            organizations: organizations.iter().map(|it| party(it)).collect(),
            operators: Vec::new(),
            coordinator_next: None,
            viewers: Vec::new(),
            plan_signers: Vec::new(),
            simulated: false,
        };
        let text = roster.to_text().unwrap();
        let pin = fingerprint(Document::Roster, &text);
        let roster = Roster::verify(&text, &sign(Document::Roster, &text), &pin).unwrap();
        let text = plan(&roster, epsilon).to_text().unwrap();
        let plan = Plan::verify(&text, &sign(Document::Plan, &text), &roster).unwrap();
        Self { coordinator, organizations, roster: Arc::new(roster), plan: Arc::new(plan) }
    }

    fn announce(&self, round: u32, attempt: u32, state: &AdapterState) -> Announcement {
        let cohort = self.plan.whole_cohort();
        let (adapter, optimizer) = (state.adapter_digest(), state.optimizer_digest());
        Announcement { round, attempt, cohort, adapter, optimizer }
    }

    fn sign(&self, announcement: &Announcement) -> Heard {
        Heard::Announcement(announcement.sign(&self.roster, &self.plan, self.coordinator.signing_key()))
    }

    /// A release of `values` on `state`, signed after `change`.
    fn release(
        &self,
        round: u32,
        state: &mut AdapterState,
        value: u32,
        change: &dyn Fn(&mut wire::ReleaseHead),
    ) -> (wire::SignedReleaseHead, Vec<u8>) {
        let derived = self.plan.derived();
        let mut sum = Vec::new();
        ring::pack(derived.ring, &vec![value; derived.vector_len], &mut sum);
        let before = state.adapter_digest();
        apply_sum(&self.plan, state, &sum, 3).unwrap();
        let mut head = wire::ReleaseHead {
            plan_digest: self.plan.digest().0.to_vec(),
            round,
            attempt: 1,
            survivors: self.plan.cohort().iter().map(Id::to_string).collect(),
            sum_digest: Digest::of(&sum).0.to_vec(),
            sum_bytes: sum.len() as u64,
            adapter_before: before.0.to_vec(),
            adapter_after: state.adapter_digest().0.to_vec(),
            optimizer_after: state.optimizer_digest().0.to_vec(),
            evidence: Vec::new(),
        };
        change(&mut head);
        (sign_head(&head, &self.roster, self.coordinator.signing_key()), sum)
    }
}

fn plan(roster: &VerifiedRoster, epsilon: f64) -> Plan {
    let tensor = |name: &str, shape| Tensor { name: name.into(), shape, bound: 0.0, trained: true };
    let nothing = Digest([0; 32]);
    Plan {
        version: 1,
        job: "job".parse().unwrap(),
        roster: roster.digest(),
        rounds: 4,
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
        cohort: Cohort { organizations: 3, colluders: 1, min_survivors: 3, allow_no_colluders: false },
        privacy: Privacy {
            unit: PrivacyUnit::Patient,
            note: String::new(),
            delta: 1e-5,
            epsilon,
            sampling_rate: 0.1,
            expected_lot: 30.0,
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
        evaluation: Evaluation { organization: name(ME), every_rounds: 2, max_examples: 10 },
        deadlines: Deadlines {
            wait_s: 60,
            advertise_s: 30,
            share_s: 30,
            input_s: 30,
            vote_s: 30,
            unmask_s: 30,
            grace_s: 5,
            upload_grace_s: None,
        },
        retries: Retries { max_attempts: 3, reserve: None },
        hours: Vec::new(),
        retention: None,
        data: Vec::new(),
        adapter: Adapter {
            mode: AdapterMode::Ffa,
            rank: 1,
            alpha: 1.0,
            rslora: false,
            target_modules: TargetModules::default(),
            dropout: 0.0,
            local: Vec::new(),
            start: None,
            layers: None,
            seed: nothing,
            tensors: vec![tensor("head.bias", vec![2]), tensor("head.weight", vec![2, 3])],
        },
    }
}

/// A session and what its driver made durable.
struct Client {
    consortium: Consortium,
    session: Session,
    rng: StdRng,
    journal: Vec<Event>,
    debits: Vec<Debit>,
}

impl Client {
    fn new() -> Self {
        Self::of(Consortium::new())
    }

    fn of(consortium: Consortium) -> Self {
        let session = started(&consortium, &[], &[]);
        let mut client = Self {
            consortium,
            session,
            rng: StdRng::seed_from_u64(3),
            journal: Vec::new(),
            debits: Vec::new(),
        };
        client.connect(0);
        client
    }

    /// A new process on the same disk; the kept adapter is lost.
    fn restart(&mut self) {
        self.session = started(&self.consortium, &self.journal, &self.debits);
        self.rng = StdRng::seed_from_u64(4 + self.journal.len() as u64);
    }

    /// Opens a session with a coordinator that has published up to `released_round`.
    fn connect(&mut self, released_round: u32) -> Vec<Effect> {
        let effects = self.hand(Input::Connected);
        assert!(matches!(effects[..], [Effect::Say(Say::Hello(_))]), "{effects:?}");
        let mut effects = self.hear(self.welcome(released_round));
        // A new process asks the others what they hold of it; here they hold nothing.
        let asks = |effect: &Effect| matches!(effect, Effect::Say(Say::StateQuery(_)));
        if let Some(at) = effects.iter().position(asks)
            && let Effect::Say(Say::StateQuery(query)) = effects.remove(at)
        {
            let statements = [0, 2].map(|from| self.nothing_held(from, &query.nonce)).to_vec();
            effects.extend(self.hear(Heard::StateStatements(wire::StateStatements { statements })));
        }
        effects
    }

    fn welcome(&self, released_round: u32) -> Heard {
        Heard::Welcome(wire::Welcome {
            roster_digest: self.consortium.roster.digest().0.to_vec(),
            plan_digest: self.consortium.plan.digest().0.to_vec(),
            released_round,
        })
    }

    fn nothing_held(&self, from: usize, nonce: &[u8]) -> wire::SignedStateStatement {
        let about = name(ME).to_string();
        let statement =
            wire::StateStatement { about, nonce: nonce.to_vec(), held: Vec::new() }.encode_to_vec();
        let Consortium { organizations, plan, .. } = &self.consortium;
        let (key, from) = (organizations[from].signing_key(), name(from).to_string());
        let signature =
            consilium_crypto::sign::sign(key, "state-statement", &plan.digest(), &from, &statement)
                .0
                .to_vec();
        wire::SignedStateStatement { from, statement, signature }
    }

    fn hand(&mut self, input: Input) -> Vec<Effect> {
        let effects = self.session.handle(input, &mut self.rng);
        for effect in &effects {
            match effect {
                Effect::Record(event) => self.journal.push(event.clone()),
                Effect::Debit(debit) => self.debits.push(Debit::clone(debit)),
                _ => {}
            }
        }
        effects
    }

    fn hear(&mut self, heard: Heard) -> Vec<Effect> {
        self.hand(Input::Heard(heard))
    }

    fn state(&self) -> AdapterState {
        AdapterState::clone(self.session.applied().1)
    }

    fn announce(&mut self, round: u32, attempt: u32) -> Vec<Effect> {
        let announcement = self.consortium.announce(round, attempt, &self.state());
        let heard = self.consortium.sign(&announcement);
        self.hear(heard)
    }
}

fn started(consortium: &Consortium, events: &[Event], debits: &[Debit]) -> Session {
    started_with(consortium, events, ledger_of(debits), Held::default())
}

fn ledger_of(debits: &[Debit]) -> LedgerState {
    LedgerState::from_debits(name(ME), [9; 32], debits.iter().cloned()).unwrap()
}

fn initial(consortium: &Consortium) -> AdapterState {
    initial_state(&consortium.plan).unwrap()
}

fn started_with(consortium: &Consortium, events: &[Event], ledger: LedgerState, held: Held) -> Session {
    Session::new(Start {
        identity: consortium.organizations[ME].clone(),
        roster: consortium.roster.clone(),
        plan: consortium.plan.clone(),
        ledger,
        budget: None,
        budget_everybody_else: None,
        recorded: Recorded::from_events(events),
        held,
        kept: None,
        newest: None,
    })
    .unwrap()
}

/// The words of the log: what was recorded, debited and said, in order.
fn words(effects: &[Effect]) -> Vec<String> {
    // What is published and kept is no step of a session.
    let published = |it: &&Effect| matches!(it, Effect::KeepAnnouncement(_) | Effect::KeepRelease { .. });
    effects
        .iter()
        .filter(|effect| !published(effect))
        .map(|effect| match effect {
            Effect::KeepAnnouncement(_) | Effect::KeepRelease { .. } => "keep".into(),
            Effect::Return { from_round } => format!("return {from_round}"),
            Effect::Record(Event::Joined { .. }) => "record joined".into(),
            Effect::Record(Event::Header { .. }) => "record header".into(),
            Effect::Record(Event::Voted { .. }) => "record voted".into(),
            Effect::Record(Event::Answered { .. }) => "record answered".into(),
            Effect::Record(Event::Restored { .. }) => "record restored".into(),
            Effect::Record(Event::Recovering { .. } | Event::Recovered { .. }) => "record recovery".into(),
            Effect::KeepPeers(_) => "keep peers".into(),
            Effect::Debit(_) => "debit".into(),
            Effect::Say(Say::Protocol(message)) => format!("say {}", message.step),
            Effect::Say(Say::Refusal(refusal)) => format!("refuse {}", refusal.code),
            Effect::Say(Say::Evaluation(_)) => "say evaluation".into(),
            Effect::Say(Say::Hello(_)) => "say hello".into(),
            Effect::Say(Say::StateQuery(_)) => "say query".into(),
            Effect::Say(Say::StateStatements(_)) => "say statements".into(),
            Effect::Train { .. } => "train".into(),
            Effect::StopTraining => "stop training".into(),
            Effect::Upload { .. } => "upload".into(),
            Effect::Fetch { from_round } => format!("fetch {from_round}"),
            Effect::Applied { round, .. } => format!("applied {round}"),
            Effect::Evaluate { round, .. } => format!("evaluate {round}"),
            Effect::Finished => "finished".into(),
            Effect::Stop(why) => format!("stop: {why}"),
            Effect::Declined { .. } | Effect::Reached { .. } | Effect::Outlook { .. } => String::new(),
        })
        .filter(|word| !word.is_empty())
        .collect()
}

/// Asserts a refusal: the word for the coordinator and nothing else, least of all a record, a debit or a byte.
#[track_caller]
fn assert_declined(effects: &[Effect], code: &str) {
    assert_eq!(words(effects), [format!("refuse {code}")]);
    let named =
        effects.iter().any(|effect| matches!(effect, Effect::Declined { code: named, .. } if named == code));
    assert!(named, "the log names it: {effects:?}");
}

#[track_caller]
fn assert_stopped(effects: &[Effect], why: &str) {
    assert!(matches!(effects, [Effect::Stop(words)] if words.contains(why)), "{why}: {effects:?}");
}

/// The other two members and an honest coordinator.
struct Others {
    /// Their first words.
    adverts: Vec<Vec<u8>>,
    collector: Collector,
    members: Vec<Option<Participant>>,
    rng: StdRng,
}

impl Others {
    /// Of an attempt that was announced.
    fn join(consortium: &Consortium, announcement: &Announcement) -> Self {
        let facts = Arc::new(announcement.facts(&consortium.roster, &consortium.plan).unwrap());
        let mut rng = StdRng::seed_from_u64(77);
        let mut collector = Collector::new(facts.clone());
        let mut adverts = vec![Vec::new(); 3];
        let members = (0..3).map(|index| {
            let ledger = LedgerHead { length: 0, salted_head: Digest([1; 32]) };
            let me = Position(index as u16);
            let key = consortium.organizations[index].signing_key();
            let other =
                (index != ME).then(|| Participant::start(facts.clone(), me, key, ledger, &mut rng).unwrap());
            other.map(|(member, advert)| {
                collector.accept(me, Step::Advertise, &advert).unwrap();
                adverts[index] = advert;
                member
            })
        });
        let members = members.collect();
        Self { adverts, collector, members, rng }
    }

    fn advert(&self, index: usize) -> &[u8] {
        &self.adverts[index]
    }

    /// The coordinator takes the session's word, closes the step, and lets the others speak in the next one; what the
    /// session is told.
    fn next(&mut self, consortium: &Consortium, word: &wire::ProtocolMessage) -> wire::ProtocolMessage {
        let step = Step::from_number(word.step as u8).unwrap();
        let me = Position(ME as u16);
        self.collector.accept(me, step, &word.body).unwrap();
        self.collector.input_complete(me);
        self.collector.close().unwrap();
        let next = self.collector.step();
        for (index, member) in (0u16..).zip(&mut self.members) {
            let Some(member) = member else { continue };
            let at = Position(index);
            let key = consortium.organizations[usize::from(index)].signing_key();
            let delivery = self.collector.delivery(at).unwrap();
            let body = match member.deliver(next, &delivery, key, &mut self.rng).unwrap() {
                Reply::Send(body) => body,
                Reply::UpdateWanted => member.mask(zeros(consortium), key).unwrap().header,
            };
            self.collector.accept(at, next, &body).unwrap();
            self.collector.input_complete(at);
        }
        let body = self.collector.delivery(me).unwrap();
        wire::ProtocolMessage { step: next as u32, body, ..word.clone() }
    }
}

fn zeros(consortium: &Consortium) -> RingVector {
    RingVector::zeros(consortium.plan.derived().ring, consortium.plan.derived().vector_len)
}

fn said(effects: &[Effect], step: u32) -> wire::ProtocolMessage {
    let word = effects.iter().find_map(|effect| match effect {
        Effect::Say(Say::Protocol(message)) if message.step == step => Some(message.clone()),
        _ => None,
    });
    word.unwrap_or_else(|| panic!("step {step} was not said: {effects:?}"))
}

/// A session that has gone through an attempt up to, and with, the word of a step.
struct Through {
    client: Client,
    others: Others,
    /// What it was told, by step, and the effects that followed.
    told: Vec<wire::ProtocolMessage>,
    effects: Vec<Vec<Effect>>,
}

fn through(round: u32, attempt: u32, last: u32) -> Through {
    let mut client = Client::new();
    let announcement = client.consortium.announce(round, attempt, &client.state());
    let effects = client.announce(round, attempt);
    let mut others = Others::join(&client.consortium, &announcement);
    let (mut told, mut all) = (Vec::new(), vec![effects]);
    for step in 1..last {
        let word = said(all.last().unwrap(), step);
        let delivery = others.next(&client.consortium, &word);
        told.push(delivery.clone());
        let mut effects = client.hear(Heard::Protocol(delivery));
        if step == 2 {
            assert!(words(&effects).is_empty(), "the lot is not trained yet");
            let update = Ok(zeros(&client.consortium));
            effects = client.hand(Input::Trained { round, attempt, update });
        }
        all.push(effects);
    }
    Through { client, others, told, effects: all }
}

#[test]
fn every_word_is_recorded_before_it_is_said() {
    let Through { mut others, client, effects, .. } = through(1, 1, 5);
    let all: Vec<_> = effects.iter().map(|effects| words(effects)).collect();
    assert_eq!(all[0], ["record joined", "say 1", "train"]);
    assert_eq!(all[1], ["keep peers", "say 2"]);
    assert_eq!(all[2], ["debit", "record header", "say 3"]);
    assert_eq!(all[3], ["record voted", "say 4"]);
    assert_eq!(all[4], ["record answered", "say 5", "stop training"]);
    // And the words are good: the masks come off.
    others.collector.accept(Position(ME as u16), Step::Unmask, &said(&effects[4], 5).body).unwrap();
    others.collector.close().unwrap();
    assert_eq!(client.debits.len(), 1);
}

#[test]
fn s9_another_adapter_than_the_recomputed_one() {
    let mut client = Client::new();
    let mut announcement = client.consortium.announce(1, 1, &client.state());
    announcement.adapter = Digest([5; 32]);
    let heard = client.consortium.sign(&announcement);
    let effects = client.hear(heard);
    assert_declined(&effects, "other-adapter");
    blames_the_coordinator(&effects, "S9");
    // It has not been accepted, so the honest announcement of the same attempt still is.
    assert_eq!(words(&client.announce(1, 1)), ["record joined", "say 1", "train"]);
}

#[test]
fn s6_attempts_only_go_forward() {
    let mut client = Client::new();
    let first = client.announce(2, 2);
    let again = client.announce(2, 2);
    assert_eq!(words(&again), ["say 1"], "the same invitation after a reconnect: the word may be lost");
    assert_eq!(said(&again, 1), said(&first, 1));
    for (round, attempt) in [(2, 1), (1, 1), (1, 3)] {
        assert_declined(&client.announce(round, attempt), "old-attempt");
    }
    // A new process knows it as well; of the attempt itself its secrets are gone.
    client.restart();
    client.connect(0);
    assert_declined(&client.announce(2, 1), "old-attempt");
    assert_declined(&client.announce(2, 2), "restarted");
    assert_eq!(words(&client.announce(2, 3)), ["record joined", "say 1", "train"]);
    // The next attempt takes the place of the one under way, whose secrets and training end first.
    assert_eq!(words(&client.announce(3, 1)), ["stop training", "record joined", "say 1", "train"]);
}

#[test]
fn s6_an_invitation_replayed_although_everything_else_fits() {
    let mut client = Client::new();
    let old = client.consortium.sign(&client.consortium.announce(1, 1, &client.state()));
    client.hear(old.clone());
    client.announce(1, 2);
    let effects = client.hear(old);
    assert_declined(&effects, "old-attempt");
    blames_the_coordinator(&effects, "S6");
}

/// The log's words for a refusal.
fn named(effects: &[Effect]) -> &str {
    let why = effects.iter().find_map(|effect| match effect {
        Effect::Declined { why, .. } | Effect::Stop(why) => Some(why.as_str()),
        _ => None,
    });
    why.unwrap_or_else(|| panic!("nothing was refused: {effects:?}"))
}

/// This check refused it, and says who is to blame.
#[track_caller]
fn blames_the_coordinator(effects: &[Effect], check: &str) {
    let why = named(effects);
    assert!(why.starts_with(&format!("{check}, the coordinator's doing: ")), "{why}");
}

#[test]
fn s10_another_optimizer_state_than_the_recomputed_one() {
    let mut client = Client::new();
    let mut announcement = client.consortium.announce(1, 1, &client.state());
    announcement.optimizer = Digest([5; 32]);
    let heard = client.consortium.sign(&announcement);
    let effects = client.hear(heard);
    assert_declined(&effects, "other-optimizer");
    blames_the_coordinator(&effects, "S10");
}

#[test]
fn s1_an_announcement_that_is_none() {
    let mut client = Client::new();
    let Consortium { roster, plan, coordinator, .. } = &client.consortium;
    let id = roster.coordinator().id.as_str();
    let short = wire::Announcement { plan_digest: vec![1; 31], ..Default::default() };
    for announcement in [vec![0xff; 40], prost::Message::encode_to_vec(&short)] {
        let key = coordinator.signing_key();
        let signature = consilium_crypto::sign::sign(key, "announcement", &plan.digest(), id, &announcement);
        let signed = wire::SignedAnnouncement { announcement, signature: signature.0.to_vec() };
        let heard = Input::Heard(Heard::Announcement(signed));
        blames_the_coordinator(&client.session.handle(heard, &mut client.rng), "S1");
    }
    assert!(client.journal.is_empty());
}

#[test]
fn s2_an_announcement_that_the_coordinator_did_not_sign() {
    let mut client = Client::new();
    let good = client.consortium.announce(1, 1, &client.state());
    let Consortium { roster, plan, organizations, .. } = &client.consortium;
    // A member's, one that was altered on the way, and one of another job of the same coordinator.
    let forged = good.sign(roster, plan, organizations[0].signing_key());
    let mut altered = good.sign(roster, plan, client.consortium.coordinator.signing_key());
    *altered.announcement.last_mut().unwrap() ^= 1;
    let Heard::Announcement(other) = Consortium::with(999.0).sign(&good) else { panic!() };
    for signed in [forged, altered, other] {
        blames_the_coordinator(&client.hear(Heard::Announcement(signed)), "S2");
    }
    assert!(client.journal.is_empty() && client.debits.is_empty());
}

/// The coordinator shows this client another plan or another roster than it verified, under a signature that holds here.
#[test]
fn s3_an_announcement_of_another_plan_or_roster() {
    let mut client = Client::new();
    let good = client.consortium.announce(1, 1, &client.state());
    let Consortium { roster, plan, coordinator, .. } = &client.consortium;
    let id = roster.coordinator().id.as_str();
    let told = |plan_digest: Digest, roster_digest: Digest| wire::Announcement {
        plan_digest: plan_digest.0.to_vec(),
        roster_digest: roster_digest.0.to_vec(),
        round: 1,
        attempt: 1,
        cohort: good.cohort.iter().map(Id::to_string).collect(),
        adapter_digest: good.adapter.0.to_vec(),
        optimizer_digest: good.optimizer.0.to_vec(),
    };
    let other = Digest([5; 32]);
    let announcements = [told(other, roster.digest()), told(plan.digest(), other)].map(|told| {
        let announcement = prost::Message::encode_to_vec(&told);
        let key = coordinator.signing_key();
        let signature = consilium_crypto::sign::sign(key, "announcement", &plan.digest(), id, &announcement);
        wire::SignedAnnouncement { announcement, signature: signature.0.to_vec() }
    });
    for signed in announcements {
        blames_the_coordinator(&client.hear(Heard::Announcement(signed)), "S3");
    }
    assert!(client.journal.is_empty());
}

#[test]
fn s7_no_fresh_deal_after_a_crash() {
    for last in 1..=2 {
        let Through { mut client, told, .. } = through(1, 1, last);
        client.restart();
        client.connect(0);
        let effects = client.announce(1, 1);
        assert_declined(&effects, "restarted");
        assert!(named(&effects).starts_with("S7: "), "nobody is to blame: {}", named(&effects));
        for delivery in told {
            assert!(client.hear(Heard::Protocol(delivery)).is_empty(), "no deal leaves it again");
        }
    }
}

#[test]
fn s7_no_second_vector_after_a_crash() {
    let Through { mut client, told, .. } = through(1, 1, 3);
    client.restart();
    client.connect(0);
    assert_declined(&client.announce(1, 1), "restarted");
    for delivery in told {
        assert!(client.hear(Heard::Protocol(delivery)).is_empty());
    }
    let update = Ok(zeros(&client.consortium));
    assert!(client.hand(Input::Trained { round: 1, attempt: 1, update }).is_empty());
    let wanted = wire::UploadWanted { round: 1, attempt: 1, next_chunk: 0 };
    assert!(client.hear(Heard::UploadWanted(wanted)).is_empty());
    assert_eq!(client.debits.len(), 1);
}

/// After a crash the coordinator shows other survivors: what it gets is the recorded vote, byte for byte.
#[test]
fn s7_no_second_vote_after_a_crash() {
    let Through { mut client, told, effects, .. } = through(1, 1, 4);
    let before = said(&effects[3], 4);
    client.restart();
    client.connect(0);
    let mut other = told[2].clone();
    assert_eq!(other.step, 4);
    *other.body.last_mut().unwrap() ^= 1;
    for delivery in [other, told[2].clone()] {
        assert_eq!(said(&client.hear(Heard::Protocol(delivery)), 4), before);
    }
}

/// What members said in another round, another attempt and another job does not verify in this one.
#[test]
fn a2_adverts_replayed_across_rounds_attempts_and_jobs() {
    for (round, attempt, epsilon) in [(2, 1, 1000.0), (1, 2, 1000.0), (1, 1, 999.0)] {
        let elsewhere = Consortium::with(epsilon);
        let mut client = Client::new();
        let announcement = elsewhere.announce(round, attempt, &client.state());
        let old = Others::join(&elsewhere, &announcement);
        let now = client.consortium.announce(1, 1, &client.state());
        let word = said(&client.announce(1, 1), 1);
        let mut others = Others::join(&client.consortium, &now);
        let mut delivery = others.next(&client.consortium, &word);
        // One peer's advert of the other attempt in place of its own.
        let advert = 205;
        let replayed = old.advert(0);
        delivery.body[7..7 + advert].copy_from_slice(replayed);
        let refused = words(&client.hear(Heard::Protocol(delivery)));
        assert_eq!(refused[0], "refuse check-a2", "round {round} attempt {attempt} ε {epsilon}");
    }
}

#[test]
fn s4_a_cohort_that_does_not_follow_from_the_plan() {
    let mut client = Client::new();
    let good = client.consortium.announce(1, 1, &client.state());
    let mut smaller = good.clone();
    smaller.cohort = good.cohort[..good.cohort.len() - 1].into();
    let mut stranger = good.clone();
    Arc::make_mut(&mut stranger.cohort)[2] = "org-9".parse().unwrap();
    for announcement in [smaller, stranger] {
        let heard = client.consortium.sign(&announcement);
        let effects = client.hear(heard);
        assert_stopped(&effects, "the announced cohort does not follow from the plan");
        blames_the_coordinator(&effects, "S4");
    }
    assert!(client.journal.is_empty() && client.debits.is_empty());
}

#[test]
fn s5_a_round_or_attempt_that_the_plan_does_not_have() {
    let mut client = Client::new();
    let good = client.consortium.announce(1, 1, &client.state());
    for (round, attempt) in [(0, 1), (5, 1), (1, 0), (1, 4)] {
        let heard = client.consortium.sign(&Announcement { round, attempt, ..good.clone() });
        let effects = client.hear(heard);
        assert_stopped(&effects, "is not in the plan");
        blames_the_coordinator(&effects, "S5");
    }
    assert!(client.journal.is_empty() && client.debits.is_empty());
}

#[test]
fn s13_to_s19_an_altered_release_changes_nothing() {
    type Change = (&'static str, &'static str, fn(&mut wire::ReleaseHead));
    let changes: [Change; 8] = [
        ("S13", "not the plan's", |head| head.sum_bytes += 1),
        ("S18", "starts from adapter", |head| head.adapter_before = vec![1; 32]),
        ("S19", "claims adapter", |head| head.adapter_after = vec![1; 32]),
        ("S19", "claims adapter", |head| head.optimizer_after = vec![1; 32]),
        ("S17", "does not match its digest", |head| head.sum_digest = vec![1; 32]),
        ("S16", "fewer than the plan allows", |head| drop(head.survivors.pop())),
        ("S16", "fewer than the plan allows", |head| head.survivors[2] = "org-9".into()),
        // The plan is part of what is signed: another one's release does not verify under this one.
        ("S14", "not signed", |head| head.plan_digest = vec![1; 32]),
    ];
    for (check, why, change) in changes {
        let mut client = Client::new();
        let before = client.state();
        let (head, sum) = client.consortium.release(1, &mut client.state(), 3, &change);
        let effects = client.hand(Input::Release { head, sum });
        assert_stopped(&effects, why);
        blames_the_coordinator(&effects, check);
        assert_eq!(client.state(), before);
        assert_eq!(client.session.applied().0, 0);
    }
    let mut client = Client::new();
    let before = client.state();
    let (head, sum) = client.consortium.release(1, &mut client.state(), 3, &|_| {});
    let mut bent = sum.clone();
    bent[0] ^= 1;
    assert_stopped(
        &client.hand(Input::Release { head: head.clone(), sum: bent }),
        "does not match its digest",
    );
    let mut forged = head.clone();
    forged.signature[0] ^= 1;
    assert_stopped(&client.hand(Input::Release { head: forged, sum: sum.clone() }), "not signed");
    assert_eq!(client.state(), before);
    assert_eq!(words(&client.hand(Input::Release { head, sum })), ["applied 1"]);
    assert_ne!(client.state(), before);
}

/// Signed for this plan, and made for another.
#[test]
fn s15_a_release_of_another_plan() {
    let mut client = Client::new();
    let (signed, sum) = client.consortium.release(1, &mut client.state(), 3, &|_| {});
    let mut head = <wire::ReleaseHead as prost::Message>::decode(signed.head.as_slice()).unwrap();
    head.plan_digest = vec![1; 32];
    let head = prost::Message::encode_to_vec(&head);
    let Consortium { roster, plan, coordinator, .. } = &client.consortium;
    let id = roster.coordinator().id.as_str();
    let signature =
        consilium_crypto::sign::sign(coordinator.signing_key(), "release", &plan.digest(), id, &head);
    let head = wire::SignedReleaseHead { head, signature: signature.0.to_vec() };
    blames_the_coordinator(&client.hand(Input::Release { head, sum }), "S15");
    assert_eq!(client.session.applied().0, 0);
}

/// The head names a sum that it does not have: too short for the adapter, and with the right digest.
#[test]
fn s20_a_sum_that_cannot_be_applied() {
    let mut client = Client::new();
    let before = client.state();
    let short = vec![1, 2, 3];
    let digest = Digest::of(&short).0.to_vec();
    let (head, _) =
        client.consortium.release(1, &mut client.state(), 3, &|head| head.sum_digest = digest.clone());
    blames_the_coordinator(&client.hand(Input::Release { head, sum: short }), "S20");
    assert_eq!(client.state(), before);
}

#[test]
fn a_restarted_client_repeats_what_it_recorded_and_says_nothing_else() {
    // Said until the crash: only the keys; also the shares and the vector; also the vote; also the answer.
    let repeats: [&[&str]; 5] = [&[], &[], &[], &["say 4"], &["say 4", "say 5"]];
    for (last, repeats) in (1..).zip(repeats) {
        let Through { mut client, told, effects, .. } = through(1, 1, last);
        client.restart();
        client.connect(0);
        let again = client.announce(1, 1);
        let expected: Vec<_> =
            repeats.iter().map(|word| (*word).to_owned()).chain(["refuse restarted".into()]).collect();
        assert_eq!(words(&again), expected, "after step {last}");
        // Byte for byte what was said before, also when the step is delivered again.
        for step in [4, 5] {
            let before = effects.get(step as usize - 1).map(|effects| said(effects, step));
            if let Some(before) = before {
                assert_eq!(said(&again, step), before);
                let delivery = told.iter().find(|told| told.step == step).unwrap().clone();
                assert_eq!(said(&client.hear(Heard::Protocol(delivery)), step), before);
            }
        }
        // Whatever else it is told of this attempt, it has nothing to say.
        for delivery in told.iter().filter(|told| told.step < 4) {
            assert!(client.hear(Heard::Protocol(delivery.clone())).is_empty(), "step {}", delivery.step);
        }
        let update = Ok(zeros(&client.consortium));
        assert!(client.hand(Input::Trained { round: 1, attempt: 1, update }).is_empty());
        assert_eq!(client.debits.len(), usize::from(last >= 3));
    }
}

#[test]
fn s8_who_has_helped_to_open_an_attempt_joins_no_other_of_that_round() {
    let Through { mut client, .. } = through(1, 1, 5);
    let effects = client.announce(1, 2);
    assert_declined(&effects, "answered-already");
    assert!(named(&effects).starts_with("S8: "));
    client.restart();
    client.connect(0);
    assert_declined(&client.announce(1, 2), "answered-already");
    assert_eq!(words(&client.announce(2, 1)), ["record joined", "say 1", "train"]);
}

#[test]
fn a_message_that_comes_twice_is_answered_with_the_same_bytes() {
    let Through { mut client, told, effects, .. } = through(1, 1, 5);
    let (records, debits) = (client.journal.len(), client.debits.len());
    for (delivery, effects) in told.iter().zip(&effects[1..]) {
        // After a reconnect in the middle of the step.
        client.hand(Input::Disconnected);
        client.connect(0);
        let again = client.hear(Heard::Protocol(delivery.clone()));
        assert_eq!(words(&again), [format!("say {}", delivery.step)]);
        assert_eq!(said(&again, delivery.step), said(effects, delivery.step));
    }
    assert_eq!((client.journal.len(), client.debits.len()), (records, debits));
}

#[test]
fn an_upload_goes_on_from_where_the_coordinator_wants_it() {
    let Through { mut client, .. } = through(1, 1, 3);
    let wanted =
        |round, next_chunk| Heard::UploadWanted(wire::UploadWanted { round, attempt: 1, next_chunk });
    for from in [0, 1] {
        let effects = client.hear(wanted(1, from));
        assert!(
            matches!(&effects[..], [Effect::Upload { from: chunk, .. }] if *chunk == from),
            "{effects:?}"
        );
    }
    assert!(client.hear(wanted(2, 0)).is_empty());
    client.restart();
    assert!(client.hear(wanted(1, 0)).is_empty(), "a new process has no vector to upload");
}

#[test]
fn a_bent_message_of_the_protocol_ends_the_attempt_with_its_checks_number() {
    for (last, family) in [(1, "check-a"), (2, "check-d"), (3, "check-h"), (4, "check-v")] {
        let Through { mut client, mut others, effects, .. } = through(1, 1, last);
        let word = said(effects.last().unwrap(), last);
        let mut delivery = others.next(&client.consortium, &word);
        *delivery.body.last_mut().unwrap() ^= 1;
        let (records, debits) = (client.journal.len(), client.debits.len());
        let refused = words(&client.hear(Heard::Protocol(delivery.clone())));
        assert!(refused[0].starts_with(&format!("refuse {family}")), "{refused:?}");
        assert!(refused[1..].iter().all(|word| word == "stop training"), "{refused:?}");
        assert_eq!((client.journal.len(), client.debits.len()), (records, debits), "{family}");
        // The attempt is over for it: the honest message finds nobody.
        *delivery.body.last_mut().unwrap() ^= 1;
        let after = words(&client.hear(Heard::Protocol(delivery)));
        assert!(after.is_empty(), "{after:?}");
    }
}

#[test]
fn s11_an_attempt_that_would_pass_the_budget() {
    let derived = Consortium::new().plan.derived().clone();
    let one = derived.guarantees(1, 1e-5).unwrap().central;
    let mut client = Client::of(Consortium::with(one * 1.01));
    let effects = client.announce(1, 1);
    assert_eq!(words(&effects), ["record joined", "say 1", "train"]);
    let last = effects.iter().find_map(|effect| match effect {
        Effect::Outlook { last_round, .. } => Some(*last_round),
        _ => None,
    });
    assert_eq!(last, Some(1), "it says which round will be the last");
    // The attempt reaches its debit; the next one would be too much.
    client.debits.push(Debit::of(&client.consortium.plan, 1, 1));
    client.restart();
    client.connect(0);
    let effects = client.announce(1, 2);
    assert_declined(&effects, "budget");
    assert!(named(&effects).starts_with("S11: "));
    assert_eq!(client.journal.len(), 1);
}

#[test]
fn it_catches_up_before_it_answers_an_invitation() {
    let mut client = Client::new();
    let mut state = client.state();
    let releases: Vec<_> =
        (1..=3).map(|round| client.consortium.release(round, &mut state, round, &|_| {})).collect();
    client.hand(Input::Disconnected);
    assert_eq!(words(&client.connect(3)), ["fetch 1"]);
    let invitation = client.consortium.sign(&client.consortium.announce(4, 1, &state));
    assert!(client.hear(invitation.clone()).is_empty(), "not before it has the adapter");
    // The connection breaks on the way; what had arrived counts, and the rest is asked for again.
    let (head, sum) = releases[0].clone();
    assert_eq!(words(&client.hand(Input::Release { head, sum })), ["applied 1"]);
    assert!(client.hand(Input::Disconnected).is_empty());
    assert!(client.hand(Input::ReleasesEnded).is_empty(), "there is nobody to ask");
    assert_eq!(words(&client.connect(3)), ["fetch 2"]);
    client.hear(invitation);
    for (head, sum) in releases {
        client.hand(Input::Release { head, sum });
    }
    assert_eq!(client.session.applied().0, 3);
    assert_eq!(words(&client.hand(Input::ReleasesEnded)), ["record joined", "say 1", "train"]);
}

#[test]
fn a_result_is_said_again_until_the_end_and_every_due_round_is_evaluated() {
    let mut client = Client::new();
    let mut state = client.state();
    let releases: Vec<_> =
        (1..=3).map(|round| client.consortium.release(round, &mut state, round, &|_| {})).collect();
    let publish = |client: &mut Client, round: u32| {
        assert_eq!(
            words(&client.hear(Heard::Released(wire::Released { round }))),
            [format!("fetch {round}")]
        );
        let (head, sum) = releases[round as usize - 1].clone();
        client.hand(Input::Release { head, sum });
        words(&client.hand(Input::ReleasesEnded))
    };
    assert!(publish(&mut client, 1).is_empty(), "every second round is evaluated");
    assert_eq!(publish(&mut client, 2), ["evaluate 2"]);
    let result = wire::Evaluation { round: 2, loss: 0.1, accuracy: 0.5, macro_accuracy: 0.5, examples: 4 };
    client.hand(Input::Disconnected);
    client.hand(Input::Evaluated(result));
    // Nobody heard it: it is said again.
    assert_eq!(words(&client.connect(2)), ["say evaluation"]);
    // The job ends with round 4 failed: the last adapter there is gets its result.
    assert!(publish(&mut client, 3).is_empty());
    assert_eq!(words(&client.hear(Heard::JobEnded(wire::JobEnded { releases: 3 }))), ["evaluate 3"]);
    let last = wire::Evaluation { round: 3, ..result };
    assert_eq!(words(&client.hand(Input::Evaluated(last))), ["say evaluation", "finished"]);
    // A process that starts between a release and its evaluation makes up for it.
    let mut late = Client::new();
    late.hand(Input::Disconnected);
    late.connect(2);
    for (head, sum) in releases.iter().take(2).cloned() {
        late.hand(Input::Release { head, sum });
    }
    assert_eq!(words(&late.hand(Input::ReleasesEnded)), ["evaluate 2"]);
}

#[test]
fn s12_a_coordinator_with_other_documents() {
    let mut client = Client::new();
    let welcome = wire::Welcome { roster_digest: vec![0; 32], plan_digest: vec![0; 32], released_round: 0 };
    let effects = client.hear(Heard::Welcome(welcome));
    assert_stopped(&effects, "another roster or plan");
    blames_the_coordinator(&effects, "S12");
    let goodbye = |code: &str| Heard::Goodbye(wire::Goodbye { code: code.into() });
    assert_stopped(&client.hear(goodbye("other-plan")), "another roster or plan");
    assert_stopped(&client.hear(goodbye("protocol-version")), "upgrade the older side");
}

#[test]
fn the_records_have_distinct_names_that_survive_their_text() {
    let Through { client, .. } = through(1, 1, 5);
    let lines: Vec<_> = client.journal.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
    let kinds: BTreeSet<_> = lines.iter().map(|line| line.split(',').next().unwrap().to_owned()).collect();
    assert_eq!(kinds.len(), 4, "{lines:?}");
    let back: Vec<Event> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(back, client.journal);
    assert_eq!(Recorded::from_events(&back), Recorded::from_events(&client.journal));
}

#[test]
fn an_organizations_own_hours_keep_it_from_joining() {
    let mut client = Client::new();
    client.session.bar(Some(("hours", "policy.toml:2: `hours = [...]` forbids this".into())));
    assert_declined(&client.announce(1, 1), "hours");
    assert!(client.journal.is_empty());
    // Asked again when the clock says otherwise, and of what it has joined it finishes.
    client.session.bar(None);
    assert_eq!(words(&client.announce(1, 1)), ["record joined", "say 1", "train"]);
    client.session.bar(Some(("hours", String::new())));
    assert_eq!(words(&client.announce(1, 1)), ["say 1"]);
}

#[test]
fn whoever_is_halted_leaves_at_once_by_a_refusal_and_says_no_word_more() {
    let halt = |client: &mut Client, why: Option<&'static str>| {
        let why = why.map(|code| (code, "Dr Ada decided so".to_owned()));
        let effects = client.session.halt(why, &mut client.rng);
        assert!(!effects.iter().any(|it| matches!(it, Effect::Record(_) | Effect::Debit(_))), "{effects:?}");
        words(&effects)
    };
    // Before the first step, with an attempt under way, and with its vote recorded: by now the masks may come off only with its answer.
    let mut client = Client::new();
    assert!(halt(&mut client, Some("paused")).is_empty(), "nothing is under way");
    assert_declined(&client.announce(1, 1), "paused");
    assert!(halt(&mut client, None).is_empty());
    assert_eq!(
        words(&client.announce(1, 1)),
        ["record joined", "say 1", "train"],
        "it was not accepted before"
    );
    assert_eq!(halt(&mut client, Some("stopped")), ["refuse stopped", "stop training"]);
    assert_declined(&client.announce(1, 2), "stopped");

    let Through { mut client, mut others, effects, told } = through(1, 1, 4);
    let vote = said(effects.last().unwrap(), 4);
    let next = others.next(&client.consortium, &vote);
    assert_eq!(halt(&mut client, Some("left")), ["refuse left", "stop training"]);
    assert!(client.hear(Heard::Protocol(next)).is_empty(), "no answer, although it has voted");
    let again = told.last().unwrap().clone();
    assert!(client.hear(Heard::Protocol(again)).is_empty(), "and not its vote once more");
    client.session.handle(Input::Disconnected, &mut client.rng);
    client.connect(0);
    assert_declined(&client.announce(1, 1), "left");
}

#[test]
fn words_and_sizes_do_not_depend_on_the_data() {
    // The same client and coordinator twice; only what was trained differs, from a lot of nobody to the largest there is.
    let run = |fill: u32| {
        let mut client = Client::new();
        let announcement = client.consortium.announce(1, 1, &client.state());
        let mut effects = client.announce(1, 1);
        let mut others = Others::join(&client.consortium, &announcement);
        let mut said_all = Vec::new();
        for step in 1..=5 {
            if step > 1 {
                let word = said(&effects, step - 1);
                let delivery = others.next(&client.consortium, &word);
                effects = client.hear(Heard::Protocol(delivery));
            }
            if step == 3 {
                let zeros = zeros(&client.consortium);
                let values = vec![fill; zeros.len()];
                let update = Ok(RingVector::new(zeros.width(), values).unwrap());
                effects = client.hand(Input::Trained { round: 1, attempt: 1, update });
            }
            let says = effects.iter().filter_map(|effect| match effect {
                Effect::Say(say) => Some(wire::ClientMessage { kind: Some(say.clone()) }.encode_to_vec()),
                _ => None,
            });
            said_all.push(says.collect::<Vec<_>>());
        }
        (said_all, client.debits)
    };
    let ((quiet, debits), (loud, same_debits)) = (run(0), run((1 << 24) - 1));
    // Up to the masked vector every byte is the same; from there on, digests and signatures differ, and no length does.
    assert_eq!(quiet[..2], loud[..2]);
    assert_ne!(quiet[2], loud[2]);
    let lengths = |said: &[Vec<Vec<u8>>]| -> Vec<Vec<usize>> {
        said.iter().map(|step| step.iter().map(Vec::len).collect()).collect()
    };
    assert_eq!(lengths(&quiet), lengths(&loud));
    assert_eq!(debits, same_debits, "what is debited follows from the plan alone");
}

/// The same session over another protocol: two steps, first of which is the masked vector.
#[test]
fn a_protocol_of_two_steps_runs_through_the_same_session() {
    let mut client = Client::new();
    let session = |client: &Client| {
        started(&client.consortium, &client.journal, &client.debits)
            .with_protocol(Arc::new(clear_sum::ClearSum))
    };
    client.session = session(&client);
    client.connect(0);
    assert_eq!(words(&client.announce(1, 1)), ["record joined", "train"]);
    assert!(words(&client.announce(1, 1)).is_empty(), "it has no first word to repeat");
    let update = Ok(zeros(&client.consortium));
    let effects = client.hand(Input::Trained { round: 1, attempt: 1, update });
    assert_eq!(words(&effects), ["debit", "record header", "say 3"]);
    assert_eq!(said(&effects, 3).body.len(), 32);
    let wanted = wire::UploadWanted { round: 1, attempt: 1, next_chunk: 0 };
    assert_eq!(words(&client.hear(Heard::UploadWanted(wanted))), ["upload"]);
    let survivors = |body| wire::ProtocolMessage { round: 1, attempt: 1, step: 5, body };
    let effects = client.hear(Heard::Protocol(survivors(vec![0, 1, 2])));
    assert_eq!(words(&effects), ["record answered", "say 5", "stop training"]);
    // A new process repeats the answer and sits the rest out.
    client.session = session(&client);
    client.connect(0);
    let again = client.announce(1, 1);
    assert_eq!(words(&again), ["say 5", "refuse restarted"]);
    assert_eq!(said(&again, 5), said(&effects, 5));
    // And a check that fails is told by its number.
    client.announce(2, 1);
    let update = Ok(zeros(&client.consortium));
    client.hand(Input::Trained { round: 2, attempt: 1, update });
    let few = wire::ProtocolMessage { round: 2, ..survivors(vec![0]) };
    assert_eq!(words(&client.hear(Heard::Protocol(few)))[0], "refuse check-x1");
}

/// What a coordinator published comes back to it: kept before it counts here, shown in every greeting.
#[test]
fn a_coordinator_that_lost_its_state_is_shown_what_it_signed() {
    let mut client = Client::new();
    let mut state = client.state();
    let (head, sum) = client.consortium.release(1, &mut state, 1, &|_| {});
    client.hear(Heard::Released(wire::Released { round: 1 }));
    let effects = client.hand(Input::Release { head: head.clone(), sum: sum.clone() });
    let [Effect::KeepRelease { round: 1, head: kept, sum: bytes }, Effect::Applied { .. }] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!((kept, bytes), (&head, &sum));
    client.hand(Input::ReleasesEnded);
    let invitation = client.consortium.sign(&client.consortium.announce(2, 1, &state));
    let Heard::Announcement(signed) = invitation.clone() else { panic!("{invitation:?}") };
    let effects = client.hear(invitation);
    let at = |wanted: fn(&Effect) -> bool| effects.iter().position(wanted).unwrap();
    let kept = at(|it| matches!(it, Effect::KeepAnnouncement(_)));
    assert!(kept < at(|it| matches!(it, Effect::Record(_))));
    client.hand(Input::Disconnected);
    let effects = client.hand(Input::Connected);
    let [Effect::Say(Say::Hello(hello))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((hello.applied_round, hello.newest.as_ref()), (1, Some(&signed)));
    let wanted = wire::ReleasesWanted { from_round: 1 };
    assert_eq!(words(&client.hear(Heard::ReleasesWanted(wanted))), ["return 1"]);
}
