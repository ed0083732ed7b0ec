//! Answers that are refused, each by its name; and that an honest answer after it counts again.

use consilium_proto::trainer_wire::{Delta, Scores, Sum, answer::Result as Outcome};

use super::{
    fake::{head, values},
    *,
};

fn refused(unit: PrivacyUnit, cases: &[(Behaviour, &str)]) {
    let bench = Bench::of(unit);
    let mut trainer = bench.trainer(|_| {});
    for (behaviour, expected) in cases {
        let fake = bench.fake(behaviour.clone());
        trainer.begin(attempt(&Arc::new(AtomicBool::new(true))));
        let text = bench.refusal(&mut trainer);
        assert!(text.contains(expected), "{behaviour:?}: {text}");
        assert!(text.starts_with(&format!("the trainer at {} ", bench.socket.display())), "{text}");
        drop(fake);
    }
    // What came before costs nothing any more.
    let _honest = bench.fake(Behaviour::Honest);
    bench.encode(&mut trainer).unwrap();
}

#[test]
fn another_tensor_set_is_refused_by_name() {
    refused(
        PrivacyUnit::Patient,
        &[
            (Behaviour::Tensors(|tensors| tensors[0].name = "other".into()), "other stands where"),
            (Behaviour::Tensors(|tensors| tensors.swap(0, 1)), "stands where"),
            (Behaviour::Tensors(|tensors| tensors[1].shape.reverse()), "has shape"),
            (Behaviour::Tensors(|tensors| tensors[1].shape = vec![7; 100_000]), "has shape"),
            (Behaviour::Tensors(|tensors| drop(tensors.pop())), "is missing"),
            (Behaviour::Tensors(|tensors| tensors.extend(tensors.last().cloned())), "is one too many"),
            (Behaviour::Tensors(Vec::clear), "is missing"),
        ],
    );
}

#[test]
fn an_answer_that_is_no_whole_answer_to_this_question_is_refused() {
    refused(
        PrivacyUnit::Patient,
        &[
            (Behaviour::Parts(|parts| parts.extend(parts.clone())), "answered twice"),
            (Behaviour::Parts(|parts| parts.push(parts[1].clone())), "answered twice"),
            (Behaviour::Parts(|parts| parts.insert(1, parts[0].clone())), "answered twice"),
            (Behaviour::Parts(|parts| head(parts).id[3] ^= 1), "answered another question"),
            (Behaviour::Parts(|parts| head(parts).id.clear()), "answered another question"),
            (Behaviour::Parts(|parts| drop(parts.pop())), "ended its answer after"),
            (Behaviour::Parts(|parts| values(parts).truncate(8)), "ended its answer after"),
            (Behaviour::Parts(Vec::clear), "ended its answer after 0 of"),
            (Behaviour::Parts(|parts| drop(parts.remove(0))), "values before the answer's head"),
            (Behaviour::Parts(|parts| parts[1].part = None), "a part that holds nothing"),
            (Behaviour::Parts(|parts| head(parts).result = None), "a head without a result"),
            (
                Behaviour::Parts(|parts| head(parts).result = Some(Outcome::Delta(Delta::default()))),
                "was asked for a sum and answered something else",
            ),
            (
                Behaviour::Parts(|parts| head(parts).result = Some(Outcome::Scores(Scores::default()))),
                "was asked for a sum and answered something else",
            ),
            (Behaviour::Fails, "failed: a [2J patient was broken; its own log says more"),
            (Behaviour::DiesInTheMiddle, "broke off"),
        ],
    );
}

#[test]
fn who_it_is_not_is_not_asked() {
    refused(
        PrivacyUnit::Patient,
        &[
            (
                Behaviour::Introduces(|reply| reply.version = 1),
                "speaks version 1 of the trainer's contract, and this client version 2",
            ),
            (Behaviour::Introduces(|reply| reply.plan_digest[0] ^= 1), "is set up for another plan"),
            (Behaviour::Introduces(|reply| reply.name.clear()), "a name has 1 to 100"),
            (Behaviour::Introduces(|reply| reply.name = "x\ny".into()), "a name has 1 to 100"),
            (Behaviour::Introduces(|reply| reply.digest.clear()), "has not 32 bytes"),
        ],
    );
    let bench = Bench::of(PrivacyUnit::Patient);
    let fake = bench.fake(Behaviour::Honest);
    let mut pinned = bench.trainer(|setup| setup.digest = Some(Digest([6; 32])));
    let text = bench.refusal(&mut pinned);
    assert!(text.contains("external.digest pins 0606") && text.contains("digest 0505"), "{text}");
    assert!(fake.asked.lock().unwrap().is_empty(), "no patient's id has left");
    bench
        .trainer(|setup| setup.digest = Some(Digest([5; 32])))
        .sum(&tensors(&bench.state), &[0], &[])
        .unwrap();
}

/// The sum of three patients that were not clipped: one unit above `3·Δ` is refused, and the plan's own arithmetic decides.
#[test]
fn too_large_a_norm_is_refused() {
    for unit in [PrivacyUnit::Patient, PrivacyUnit::PatientLocal] {
        let bench = Bench::of(unit);
        let mut trainer = bench.trainer(|_| {});
        for behaviour in [
            Behaviour::Parts(|parts| values(parts)[..4].copy_from_slice(&i32::MAX.to_le_bytes())),
            Behaviour::Parts(|parts| values(parts)[..4].copy_from_slice(&i32::MIN.to_le_bytes())),
            Behaviour::Parts(|parts| {
                head(parts).result = Some(Outcome::Sum(Sum { loss: i64::MIN, correct: 0 }));
            }),
        ] {
            let _fake = bench.fake(behaviour);
            assert_eq!(bench.encode(&mut trainer), Err(LotFailed("trainer")));
        }
        let _honest = bench.fake(Behaviour::Honest);
        bench.encode(&mut trainer).unwrap();
    }
}

#[test]
fn what_is_not_finite_is_refused() {
    fn float(parts: &mut [consilium_proto::trainer_wire::AnswerPart], value: f32) {
        values(parts)[8..12].copy_from_slice(&value.to_le_bytes());
    }
    fn result(loss: f64, accuracy: f64) -> Option<Outcome> {
        Some(Outcome::Delta(Delta { loss, accuracy }))
    }
    for unit in [PrivacyUnit::Organization, PrivacyUnit::None] {
        refused(
            unit,
            &[
                (
                    Behaviour::Parts(|parts| float(parts, f32::INFINITY)),
                    "a delta that is not a finite number",
                ),
                (Behaviour::Parts(|parts| float(parts, f32::NAN)), "a delta that is not a finite number"),
                (
                    Behaviour::Parts(|parts| head(parts).result = result(f64::NAN, 0.5)),
                    "a loss that is not a finite number",
                ),
                (Behaviour::Parts(|parts| head(parts).result = result(0.5, 1.5)), "accuracy = 1.5"),
                (Behaviour::Parts(|parts| head(parts).result = result(0.5, f64::NAN)), "accuracy = NaN"),
                (
                    Behaviour::Parts(|parts| head(parts).result = Some(Outcome::Sum(Sum::default()))),
                    "was asked for a delta and answered something else",
                ),
            ],
        );
    }
}

/// A delta is clipped by the client, so a long one costs the organization its length and nobody anything else.
#[test]
fn a_long_delta_is_clipped_here() {
    let bench = Bench::of(PrivacyUnit::None);
    let mut trainer = bench.trainer(|_| {});
    let _fake =
        bench.fake(Behaviour::Parts(|parts| values(parts)[..4].copy_from_slice(&1e30f32.to_le_bytes())));
    let ring = bench.encode(&mut trainer).unwrap();
    let bits = bench.plan.derived().ring.bits();
    let values = consilium_crypto::encoding::centered_sum(&ring, bits);
    let squared: i64 = values.iter().map(|value| value * value).sum();
    let params = *bench.plan.derived().update.params();
    let bound = params.scale * params.clip;
    assert!((squared as f64).sqrt() <= bound + 1.0 && values.iter().any(|&value| value > 0), "{bound}");
}

#[test]
fn scores_that_no_score_can_be_are_refused() {
    let bench = Bench::of(PrivacyUnit::Patient);
    let adapter = tensors(&bench.state);
    let mut trainer = bench.trainer(|_| {});
    for (scores, expected) in [
        (Scores { examples: 0, loss: 0.1, accuracy: 0.5, macro_accuracy: 0.5 }, "examples = 0"),
        (
            Scores { examples: 1, loss: f64::INFINITY, accuracy: 0.5, macro_accuracy: 0.5 },
            "a loss that is not",
        ),
        (Scores { examples: 1, loss: 0.1, accuracy: -0.1, macro_accuracy: 0.5 }, "accuracy = -0.1"),
        (Scores { examples: 1, loss: 0.1, accuracy: 0.1, macro_accuracy: 7.0 }, "macro_accuracy = 7"),
    ] {
        let mut reader = Reader::new(b"id", Wanted::Scores, &[], 0);
        let answer = consilium_proto::trainer_wire::Answer {
            id: b"id".to_vec(),
            tensors: Vec::new(),
            result: Some(Outcome::Scores(scores)),
        };
        reader.take(fake::part(consilium_proto::trainer_wire::answer_part::Part::Answer(answer))).unwrap();
        let text = reader.finish().unwrap().scores().unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
    let _fake = bench.fake(Behaviour::Honest);
    let scores = trainer.evaluate(&adapter, Some(7)).unwrap();
    assert_eq!((scores.examples, scores.accuracy), (40, 0.6));
}
