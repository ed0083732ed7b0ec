//! One vector, one vote and one answer per attempt, over restarts and repetitions.

use std::collections::BTreeSet;

use super::*;

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
fn the_records_have_distinct_names_that_survive_their_text() {
    let Through { client, .. } = through(1, 1, 5);
    let lines: Vec<_> = client.journal.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
    let kinds: BTreeSet<_> = lines.iter().map(|line| line.split(',').next().unwrap().to_owned()).collect();
    assert_eq!(kinds.len(), 4, "{lines:?}");
    let back: Vec<Event> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(back, client.journal);
    assert_eq!(Recorded::from_events(&back), Recorded::from_events(&client.journal));
}
