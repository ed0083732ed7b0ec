//! The session against coordinators that lie, repeat themselves, or go away.

mod announcements;
#[path = "../../../../crypto/tests/clear_sum/mod.rs"]
mod clear_sum;
mod consortium;
mod once;
mod releases;
mod restored;
mod words;

use consilium_crypto::{
    digest::Digest,
    ring::RingVector,
    secagg::{
        LedgerHead, Position, Step,
        client::{Participant, Reply},
        coordinator::Collector,
    },
};
use consilium_proto::{announcement::Announcement, ids::Id, wire::coordinator_message::Kind as Heard};
use prost::Message as _;
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;
use crate::ledger::{Debit, LedgerState};
use consortium::{Consortium, name};

/// The session under test is this organization's; it is the evaluator as well.
const ME: usize = 1;

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
