//! What members say: once, in order, and by whom it may be said.

use super::*;

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
