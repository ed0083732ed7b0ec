//! Which announcements are answered, and which are declined, by the number of the check.

use super::*;

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
