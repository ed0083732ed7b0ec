//! Published sums, results on the public test set, and what is shown to a coordinator that has lost them.

use super::*;

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
