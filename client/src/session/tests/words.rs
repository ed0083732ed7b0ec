//! What is said and heard within an attempt.

use super::*;

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
