//! States that were restored from an old copy or lost, coordinators that hide it, and peers that lie about it.

use consilium_proto::wire::{HeldAdvert, StateStatement};
use prost::Message as _;

use super::*;
use crate::{
    journal::Journal,
    ledger::LedgerFile,
    recover::{RecoverError, recover},
};

/// A client whose state is what is given, connected, and asked nothing yet: its nonce, too.
fn fresh(consortium: Consortium, events: &[Event], ledger: LedgerState) -> (Client, Vec<u8>) {
    let session = started_with(&consortium, events, ledger, Held::default());
    let rng = StdRng::seed_from_u64(41);
    let mut client = Client { consortium, session, rng, journal: events.to_vec(), debits: Vec::new() };
    client.hand(Input::Connected);
    let effects = client.hear(client.welcome(0));
    let nonce = effects.iter().find_map(|effect| match effect {
        Effect::Say(Say::StateQuery(query)) => Some(query.nonce.clone()),
        _ => None,
    });
    (client, nonce.expect("it asks before anything else"))
}

fn empty() -> LedgerState {
    ledger_of(&[])
}

/// One advert of the session's organization, as a peer keeps it.
fn copy(consortium: &Consortium, announcement: &Announcement, advert: &[u8]) -> HeldAdvert {
    let facts = announcement.facts(&consortium.roster, &consortium.plan).unwrap();
    HeldAdvert {
        member: name(ME).to_string(),
        job: "job".into(),
        plan_digest: consortium.plan.digest().0.to_vec(),
        round: announcement.round,
        attempt: announcement.attempt,
        adapter_digest: announcement.adapter.0.to_vec(),
        optimizer_digest: announcement.optimizer.0.to_vec(),
        context: facts.ctx().0.to_vec(),
        advert: advert.to_vec(),
    }
}

/// A statement of a peer about the session's organization.
fn statement(
    consortium: &Consortium,
    from: usize,
    nonce: &[u8],
    held: &[HeldAdvert],
) -> wire::SignedStateStatement {
    let statement =
        StateStatement { about: name(ME).to_string(), nonce: nonce.to_vec(), held: held.to_vec() }
            .encode_to_vec();
    let (key, plan) = (consortium.organizations[from].signing_key(), consortium.plan.digest());
    let signature =
        consilium_crypto::sign::sign(key, "state-statement", &plan, name(from).as_str(), &statement)
            .0
            .to_vec();
    wire::SignedStateStatement { from: name(from).to_string(), statement, signature }
}

fn told(statements: Vec<wire::SignedStateStatement>) -> Heard {
    Heard::StateStatements(wire::StateStatements { statements })
}

/// What a client did before its state was lost: its consortium, journal, debits, and the copy that its peers keep.
struct Before {
    consortium: Consortium,
    journal: Vec<Event>,
    debits: Vec<Debit>,
    copy: HeldAdvert,
}

/// One whole attempt, of round 2.
fn before() -> Before {
    let Through { client, effects, .. } = through(2, 1, 5);
    let announcement = client.consortium.announce(2, 1, &client.state());
    let copy = copy(&client.consortium, &announcement, &said(&effects[0], 1).body);
    let Client { consortium, journal, debits, .. } = client;
    Before { consortium, journal, debits, copy }
}

fn lost_of(journal: &[Event]) -> Vec<Lost> {
    Recorded::from_events(journal).restored().to_vec()
}

#[test]
fn a_lost_or_restored_state_is_found_whichever_part_of_it_is_old() {
    for has_ledger in [false, true] {
        let Before { consortium, debits, copy, .. } = before();
        let ledger = if has_ledger { ledger_of(&debits) } else { empty() };
        let (mut client, nonce) = fresh(consortium, &[], ledger);
        let answers =
            [0, 2].map(|from| statement(&client.consortium, from, &nonce, std::slice::from_ref(&copy)));
        assert!(words(&client.announce(3, 1)).is_empty(), "it waits");
        let effects = client.hear(told(answers.to_vec()));
        let words = words(&effects);
        assert_eq!(words[..2], ["record restored", "refuse state-restored"], "{words:?}");
        assert!(
            words[2].contains("older than what its peers hold") && words[2].contains("state recover"),
            "{words:?}"
        );
        assert_eq!(words.len(), 3);
        assert!(client.session.is_restored());
        let recorded = Recorded::from_events(&client.journal);
        assert_eq!((client.journal.len(), recorded.restored()[0].round), (1, 2));
        // What is there is not charged again.
        let ledger = client.session.ledger();
        let charged =
            crate::recover::charges(&recorded, ledger, &client.consortium.plan, &[], false).unwrap();
        assert_eq!((charged.0.len(), charged.1), (usize::from(!has_ledger), Some((2, 1))));
    }
    // Of a ledger alone that is older than its own journal nobody else need say a word.
    let Before { consortium, journal, debits, .. } = before();
    assert_eq!(crate::recover::behind_journal(&journal, &ledger_of(&debits), &consortium.plan), None);
    let lost = crate::recover::behind_journal(&journal, &empty(), &consortium.plan).unwrap();
    assert_eq!((lost.round, lost.attempt, lost.length), (2, 1, 0));
    let recorded = Recorded::from_events(&[Event::Restored { lost: vec![lost] }]);
    let (charged, _) = crate::recover::charges(&recorded, &empty(), &consortium.plan, &[], false).unwrap();
    assert_eq!(charged, debits, "what was lost is what comes back");
}

#[test]
fn once_found_it_takes_part_in_nothing_whoever_says_what_afterwards() {
    let Before { consortium, copy, .. } = before();
    let (mut client, nonce) = fresh(consortium, &[], empty());
    let answers = [0, 2].map(|from| statement(&client.consortium, from, &nonce, std::slice::from_ref(&copy)));
    client.hear(told(answers.to_vec()));
    for _ in 0..2 {
        let nothing = [0, 2].map(|from| statement(&client.consortium, from, &nonce, &[]));
        assert!(words(&client.hear(told(nothing.to_vec()))).is_empty());
        assert!(words(&client.announce(3, 1)).is_empty(), "it joins nothing");
        // Nor does a new process, which knows it from its journal.
        client.restart();
        client.hand(Input::Connected);
        let welcome = client.welcome(0);
        assert!(words(&client.hear(welcome)).is_empty(), "there is nothing to ask");
        assert!(client.session.is_restored());
    }
}

#[test]
fn a_coordinator_that_loses_answers_gains_nothing() {
    let Before { consortium, copy, .. } = before();
    let (mut client, nonce) = fresh(consortium, &[], empty());
    assert!(words(&client.announce(3, 1)).is_empty());
    let of = |client: &Client, from, nonce: &[u8]| statement(&client.consortium, from, nonce, &[]);
    let honest = of(&client, 0, &nonce);
    let mut forged = of(&client, 2, &nonce);
    forged.signature[0] ^= 1;
    let renamed = wire::SignedStateStatement { from: name(2).to_string(), ..honest.clone() };
    let own = of(&client, ME, &nonce);
    let old = of(&client, 2, &[0; 32]);
    let about_another = {
        let statement = StateStatement { about: name(0).to_string(), nonce: nonce.clone(), held: Vec::new() }
            .encode_to_vec();
        let (key, plan) = (client.consortium.organizations[2].signing_key(), client.consortium.plan.digest());
        let signature =
            consilium_crypto::sign::sign(key, "state-statement", &plan, name(2).as_str(), &statement)
                .0
                .to_vec();
        wire::SignedStateStatement { from: name(2).to_string(), statement, signature }
    };
    let stranger = wire::SignedStateStatement { from: "nobody".into(), ..honest.clone() };
    // One member's word, however often and under whichever name, is one member's word: two are needed.
    for others in [honest.clone(), forged, renamed, own, old, about_another, stranger] {
        let effects = client.hear(told(vec![honest.clone(), others]));
        assert_eq!(words(&effects), ["say query"], "it goes on asking");
        assert!(words(&client.announce(3, 1)).is_empty(), "and joins nothing");
    }
    // If the question or its answers were lost, the next attempt puts it again.
    assert_eq!(words(&client.announce(3, 2)), ["say query"]);
    assert!(words(&client.announce(3, 2)).is_empty());
    assert!(client.journal.is_empty());
    // The one answer that was held back settles it.
    let last = statement(&client.consortium, 2, &nonce, &[copy]);
    let effects = words(&client.hear(told(vec![last])));
    assert_eq!(effects[..2], ["record restored", "refuse state-restored"]);
}

#[test]
fn nobody_can_make_a_healthy_client_stop() {
    let Before { consortium, journal, debits, copy } = before();
    let other = Consortium::with(999.0);
    let announcement = consortium.announce(4, 1, &AdapterState::clone(&initial(&consortium)));
    let facts = Arc::new(announcement.facts(&consortium.roster, &consortium.plan).unwrap());
    let far = LedgerHead { length: 900, salted_head: Digest([1; 32]) };
    let key = consortium.organizations[2].signing_key();
    let (_, theirs) =
        Participant::start(facts, Position(2), key, far, &mut StdRng::seed_from_u64(5)).unwrap();
    let mut lies = Vec::new();
    // A copy of a peer's own advert, an advert of this client with another ledger, and its real advert in another attempt's place.
    lies.push(self::copy(&consortium, &announcement, &theirs));
    let mut longer = copy.clone();
    longer.advert[101] ^= 0x40;
    lies.push(longer);
    for (round, attempt) in [(3, 1), (2, 2), (0, 0), (u32::MAX, 1)] {
        lies.push(HeldAdvert { round, attempt, ..copy.clone() });
    }
    let elsewhere = self::copy(&consortium, &announcement, &copy.advert);
    lies.push(elsewhere);
    lies.push(HeldAdvert { plan_digest: vec![7; 32], job: "x".repeat(1000), ..copy.clone() });
    lies.push(HeldAdvert { plan_digest: vec![7; 3], ..copy.clone() });
    lies.push(HeldAdvert { advert: Vec::new(), ..copy.clone() });
    lies.push(HeldAdvert::default());
    drop(other);
    let (mut client, nonce) = fresh(consortium, &journal, ledger_of(&debits));
    let recorded = client.journal.len();
    assert!(words(&client.announce(3, 1)).is_empty());
    let statements = vec![
        statement(&client.consortium, 0, &nonce, &lies),
        statement(&client.consortium, 2, &nonce, std::slice::from_ref(&copy)),
    ];
    let joined = words(&client.hear(told(statements)));
    assert_eq!(
        joined,
        ["record joined", "say 1", "train"],
        "its own word of round 2 is no more than it knows"
    );
    assert_eq!(client.journal.len(), recorded + 1);
}

#[test]
fn a_consortium_that_starts_for_the_first_time_holds_nothing_and_begins() {
    let (mut client, nonce) = fresh(Consortium::new(), &[], empty());
    // Unproven itself, it answers the others.
    let asked =
        |about: usize| wire::StateQuery { about: name(about).to_string(), nonce: vec![about as u8; 32] };
    let strange = wire::StateQuery { about: "nobody".into(), nonce: vec![9; 32] };
    let queries = vec![asked(0), asked(ME), asked(2), strange];
    let effects = client.hear(Heard::StateQueries(wire::StateQueries { queries }));
    let [Effect::Say(Say::StateStatements(answers))] = &effects[..] else { panic!("{effects:?}") };
    let about: Vec<_> = answers
        .statements
        .iter()
        .map(|signed| StateStatement::decode(signed.statement.as_slice()).unwrap())
        .map(|statement| (statement.about, statement.nonce[0], statement.held.len()))
        .collect();
    assert_eq!(about, [("org-0".to_owned(), 0, 0), ("org-2".to_owned(), 2, 0)], "and nobody else");
    let none = [0, 2].map(|from| statement(&client.consortium, from, &nonce, &[]));
    assert!(words(&client.hear(told(none.to_vec()))).is_empty());
    assert_eq!(words(&client.announce(1, 1)), ["record joined", "say 1", "train"]);
    // A reconnect asks nothing more.
    client.hand(Input::Disconnected);
    client.hand(Input::Connected);
    let welcome = client.welcome(0);
    assert!(words(&client.hear(welcome)).is_empty());
}

#[test]
fn what_is_kept_of_peers_is_durable_before_the_deal_and_convicts_them() {
    let Through { mut client, effects, told, .. } = through(1, 1, 2);
    assert_eq!(words(&effects[1]), ["keep peers", "say 2"]);
    let Some(Effect::KeepPeers(file)) = effects[1].first() else { panic!("{effects:?}") };
    let kept = Held::read(file).unwrap();
    let query = wire::StateQuery { about: name(0).to_string(), nonce: vec![3; 32] };
    let ask = Heard::StateQueries(wire::StateQueries { queries: vec![query] });
    let answer = |effects: &[Effect]| match effects {
        [Effect::Say(Say::StateStatements(all))] => {
            StateStatement::decode(all.statements[0].statement.as_slice()).unwrap().held
        }
        other => panic!("{other:?}"),
    };
    let held = answer(&client.hear(ask.clone()));
    assert_eq!((held.len(), held[0].round, held[0].attempt), (1, 1, 1));
    let shown = consilium_crypto::secagg::delivered_adverts(&told[0].body);
    assert_eq!(held[0].advert, shown[0].1);
    let word = super::super::held::OwnWord::verify(
        &held[0],
        &name(0),
        &client.consortium.roster,
        &client.consortium.plan,
    );
    assert_eq!(word.map(|word| (word.round, word.ledger.length)), Some((1, 0)));
    // A new process says the same from its file.
    let session = started_with(&client.consortium, &client.journal, empty(), kept.clone());
    client.session = session;
    assert_eq!(answer(&client.hear(ask)), held);
    assert_eq!(kept.to_bytes(&client.consortium.plan.digest()), *file);
    for index in 0..file.len() {
        let mut bent = file.clone();
        bent[index] ^= 1;
        assert_eq!(Held::read(&bent), Err(BadHeld), "byte {index}");
        assert_eq!(Held::read(&file[..index]), Err(BadHeld), "cut at {index}");
    }
}

/// The state on a real disk, so that recovering is what the command does.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn new(events: &[Event]) -> Self {
        let disk = Self { folder: tempfile::tempdir().unwrap() };
        disk.journal().0.append(events).unwrap();
        disk
    }

    fn journal(&self) -> (Journal<Event>, Vec<Event>) {
        Journal::open(&self.folder.path().join("session.jsonl"), "job job of org-1").unwrap()
    }

    fn ledger(&self) -> (LedgerFile, LedgerState) {
        LedgerFile::open(&self.folder.path().join("ledger.journal"), &name(ME), &mut rand::rng()).unwrap()
    }

    fn recover(
        &self,
        plan: &VerifiedPlan,
        elsewhere: bool,
    ) -> Result<crate::recover::Recovery, RecoverError> {
        let ((mut journal, events), (mut file, mut ledger)) = (self.journal(), self.ledger());
        recover(&Recorded::from_events(&events), (&mut file, &mut ledger), &mut journal, plan, &[], elsewhere)
    }
}

#[test]
fn recovering_charges_the_gap_in_full_and_fences_every_attempt_that_peers_hold() {
    let Before { consortium, copy, .. } = before();
    // Peers hold the advert of round 3, attempt 2, of a ledger with four debits.
    let announcement = consortium.announce(3, 2, &initial(&consortium));
    let facts = Arc::new(announcement.facts(&consortium.roster, &consortium.plan).unwrap());
    let spent: Vec<_> = [(1, 1), (1, 2), (2, 1), (3, 1)]
        .map(|(round, attempt)| Debit::of(&consortium.plan, round, attempt))
        .to_vec();
    let (key, head) = (consortium.organizations[ME].signing_key(), ledger_of(&spent).head());
    let (_, advert) =
        Participant::start(facts, Position(ME as u16), key, head, &mut StdRng::seed_from_u64(6)).unwrap();
    let copies = [copy, self::copy(&consortium, &announcement, &advert)];
    let (mut client, nonce) = fresh(consortium, &[], empty());
    let answers = |client: &Client, nonce: &[u8]| {
        told(vec![
            statement(&client.consortium, 0, nonce, &copies[..1]),
            statement(&client.consortium, 2, nonce, &copies[1..]),
        ])
    };
    let heard = answers(&client, &nonce);
    client.hear(heard);
    let lost = lost_of(&client.journal);
    assert_eq!(
        (lost.len(), lost[0].round, lost[0].attempt, lost[0].length),
        (1, 3, 2, 4),
        "the furthest counts"
    );

    let disk = Disk::new(&client.journal);
    let plan = client.consortium.plan.clone();
    let recovery = disk.recover(&plan, false).unwrap();
    // Four that were told of, and one for the attempt itself.
    assert_eq!((recovery.debits["job"], recovery.fence), (5, Some((3, 2))));
    let ((journal, events), (file, ledger)) = (disk.journal(), disk.ledger());
    drop((journal, file));
    assert_eq!(ledger.length(), 5);
    let five = plan.derived().guarantees(5, 1e-5).unwrap();
    assert_eq!(ledger.spent(&"job".parse().unwrap()).epsilon, five.central);
    assert!(matches!(disk.recover(&plan, false), Err(RecoverError::NotRestored)), "once is enough");

    // It takes part again, though peers still hold what they held; and in nothing that they have seen it in.
    let Client { consortium, .. } = client;
    let (mut client, nonce) = fresh(consortium, &events, ledger);
    let heard = answers(&client, &nonce);
    assert!(words(&client.hear(heard)).is_empty(), "it is proven");
    for (round, attempt) in [(1, 1), (2, 1), (3, 1)] {
        assert_declined(&client.announce(round, attempt), "old-attempt");
    }
    assert_declined(&client.announce(3, 2), "restarted");
    assert_eq!(words(&client.announce(3, 3)), ["record joined", "say 1", "train"]);
}

#[test]
fn recovering_that_dies_anywhere_is_done_again_and_charges_nothing_twice() {
    let Before { consortium, copy, .. } = before();
    let plan = consortium.plan.clone();
    let lost = Lost {
        job: "job".into(),
        plan: plan.digest().to_string(),
        round: 3,
        attempt: 1,
        length: 3,
        head: Digest([4; 32]).to_string(),
    };
    drop(copy);
    // Dead after so many of the durable steps: the mark, four debits, the ledger's mark, the journal's last word.
    for steps in 0..=6 {
        let disk = Disk::new(&[Event::Restored { lost: vec![lost.clone()] }]);
        {
            let ((mut journal, events), (mut file, mut ledger)) = (disk.journal(), disk.ledger());
            let recorded = Recorded::from_events(&events);
            let (debits, _) = crate::recover::charges(&recorded, &ledger, &plan, &[], false).unwrap();
            assert_eq!(debits.len(), 4);
            if steps >= 1 {
                journal.append(&[Event::Recovering { length: 4 }]).unwrap();
            }
            for debit in debits.into_iter().take(usize::saturating_sub(steps, 1)) {
                ledger.debit(debit.clone()).unwrap();
                file.append(&debit).unwrap();
            }
            if steps >= 6 {
                file.recovered().unwrap();
            }
        }
        disk.recover(&plan, false).unwrap();
        let ((_, events), (_, ledger)) = (disk.journal(), disk.ledger());
        assert_eq!(ledger.length(), 4, "dead after {steps} steps");
        let recorded = Recorded::from_events(&events);
        assert_eq!((recorded.fence, recorded.restored().len()), ((3, 1), 0));
        assert_eq!(ledger.told_at(3), None, "what peers were told is not this ledger's to explain");
    }
}

#[test]
fn another_jobs_advert_counts_too_unless_the_operator_says_that_it_was_other_data() {
    let (consortium, other) = (Consortium::new(), Consortium::with(999.0));
    let announcement = other.announce(2, 1, &initial(&other));
    let facts = Arc::new(announcement.facts(&other.roster, &other.plan).unwrap());
    let (key, head) =
        (other.organizations[ME].signing_key(), LedgerHead { length: 50, salted_head: Digest([2; 32]) });
    let (_, advert) =
        Participant::start(facts, Position(ME as u16), key, head, &mut StdRng::seed_from_u64(6)).unwrap();
    let copy = copy(&other, &announcement, &advert);
    let (mut client, nonce) = fresh(consortium, &[], empty());
    let answers = |client: &Client, nonce: &[u8]| {
        told(
            [0, 2]
                .map(|from| statement(&client.consortium, from, nonce, std::slice::from_ref(&copy)))
                .to_vec(),
        )
    };
    let heard = answers(&client, &nonce);
    let effects = words(&client.hear(heard));
    assert_eq!(effects[0], "record restored");
    assert!(
        effects[1].contains("ledger of 50 debits") && effects[1].contains("another data set"),
        "{effects:?}"
    );

    let disk = Disk::new(&client.journal);
    let plan = client.consortium.plan.clone();
    let error = disk.recover(&plan, false).unwrap_err();
    assert!(matches!(error, RecoverError::NoPlan { length: 50, .. }), "{error}");
    assert!(error.to_string().contains("--other-data-set"), "{error}");
    let recovery = disk.recover(&plan, true).unwrap();
    assert!(recovery.debits.is_empty() && recovery.fence.is_none(), "{recovery:?}");
    let ((_, events), (_, ledger)) = (disk.journal(), disk.ledger());
    let Client { consortium, .. } = client;
    let (mut client, nonce) = fresh(consortium, &events, ledger);
    let heard = answers(&client, &nonce);
    assert!(words(&client.hear(heard)).is_empty());
    assert_eq!(words(&client.announce(1, 1)), ["record joined", "say 1", "train"]);
}

#[test]
fn more_debits_than_the_job_had_attempts_are_not_made_up() {
    let consortium = Consortium::new();
    let lost = Lost {
        job: "job".into(),
        plan: consortium.plan.digest().to_string(),
        round: 1,
        attempt: 2,
        length: 7,
        head: Digest([4; 32]).to_string(),
    };
    let disk = Disk::new(&[Event::Restored { lost: vec![lost] }]);
    let error = disk.recover(&consortium.plan, false).unwrap_err();
    assert!(matches!(error, RecoverError::TooMany { lost: 8, possible: 2, .. }), "{error}");
    assert!(error.to_string().contains("newest backup"), "{error}");
    assert_eq!(disk.ledger().1.length(), 0, "nothing was charged");
}
