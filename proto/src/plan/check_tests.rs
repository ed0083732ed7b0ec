//! Plans that do not work: each is refused with its arithmetic, and the plan proposed instead is checked.

#![allow(clippy::unwrap_used)]

use consilium_crypto::digest::Digest;

use super::*;

fn good() -> Plan {
    let nothing = Digest([0; 32]);
    let tensor = |name: &str, shape| Tensor { name: name.into(), shape, bound: 0.0, trained: true };
    Plan {
        version: 1,
        job: "job".parse().unwrap(),
        roster: nothing,
        rounds: 40,
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
        cohort: Cohort { organizations: 5, colluders: 1, min_survivors: 4, allow_no_colluders: false },
        privacy: Privacy {
            unit: PrivacyUnit::Patient,
            note: String::new(),
            delta: 1e-5,
            epsilon: 4.0,
            sampling_rate: 0.05,
            expected_lot: 500.0,
            largest_lot: 120.0,
            clip: 1.0,
            noise_multiplier: 1.0,
            i_accept_no_privacy: false,
            local: None,
        },
        encoding: Encoding {
            scale: 128.0,
            ring_bits: 19,
            metrics_share: 0.05,
            loss_max: 4.0,
            rounding_beta: 0.01,
        },
        optimizer: Optimizer::Sgd { learning_rate: 0.5 },
        evaluation: Evaluation { organization: "site-1".parse().unwrap(), every_rounds: 1, max_examples: 10 },
        deadlines: Deadlines {
            wait_s: 600,
            advertise_s: 30,
            share_s: 30,
            input_s: 600,
            vote_s: 30,
            unmask_s: 30,
            grace_s: 10,
            upload_grace_s: None,
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
            tensors: vec![tensor("head.bias", vec![2]), tensor("head.weight", vec![2, 384])],
        },
    }
}

fn hours(organization: &str, from: &str, to: &str) -> Hours {
    Hours {
        organization: organization.parse().unwrap(),
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
    }
}

/// What is wrong, and for each proposal its changes.
fn refused(plan: &Plan) -> (String, Vec<Vec<String>>) {
    let error = plan.check().unwrap_err().to_string();
    let proposals = plan.proposals();
    for proposal in &proposals {
        // The proposal is what it says: written, read and checked by whoever follows it.
        let (read, _) = Plan::parse(&proposal.plan.to_text().unwrap()).unwrap();
        read.check().unwrap();
        assert_eq!(read, proposal.plan);
        assert!(!proposal.changes.is_empty());
    }
    let shown = |proposal: &Proposal| proposal.changes.iter().map(Change::to_string).collect();
    (error, proposals.iter().map(shown).collect())
}

#[test]
fn a_plan_that_works_is_left_alone() {
    let plan = good();
    plan.check().unwrap();
    assert!(plan.proposals().is_empty());
    // What is not declared leaves no trace in the text that is signed.
    assert!(!plan.to_text().unwrap().contains("hours"));
}

#[test]
fn each_broken_bound_is_refused_with_its_arithmetic_and_a_plan_that_works() {
    type Break = fn(&mut Plan);
    let cases: [(Break, &[&str], &[&str]); 14] = [
        (
            |plan| plan.encoding.ring_bits = 15,
            &[
                "encoding.ring_bits is 15",
                "could wrap",
                "⌊log₂ 2(n·B + k·√n·σ_i)⌋ + 1 = 19",
                "n = 5",
                "L = 120",
            ],
            &["encoding.ring_bits = 19 (was 15)"],
        ),
        (
            |plan| {
                plan.encoding.scale = 1.0;
                plan.privacy.noise_multiplier = 0.1;
            },
            &["σ_i = √((z·Δ)² + 2.5²)/√h", "must be above 2.5", "h = 3"],
            &["encoding.scale = "],
        ),
        (
            |plan| {
                plan.cohort.organizations = 4;
                plan.privacy.expected_lot = 400.0;
                plan.cohort.colluders = 3;
            },
            &["cohort.min_survivors is 4", "h = m_min − max(t_c, 1) = 4 − 3 = 1"],
            &["cohort.colluders = 2 (was 3)"],
        ),
        (
            |plan| {
                plan.cohort.organizations = 3;
                plan.privacy.expected_lot = 300.0;
                plan.cohort.min_survivors = 2;
            },
            &["cohort.min_survivors is 2", "r = ⌊(3 + 1)/2⌋ + 1 = 3"],
            &["cohort.min_survivors = 3 (was 2)"],
        ),
        (
            |plan| plan.hours = vec![hours("a", "08:00", "12:00"), hours("b", "11:55", "18:00")],
            &["a 08:00-12:00, b 11:55-18:00", "11:55-12:00 UTC, 5 minutes", "may take 12"],
            &["hours of "],
        ),
        (
            |plan| plan.hours = vec![hours("a", "08:00", "12:00"), hours("b", "13:00", "18:00")],
            &["share not a minute"],
            &["hours of "],
        ),
        (|plan| plan.hours = vec![hours("a", "08:00", "08:00")], &["same minute", "24:00"], &["hours of a"]),
        (|plan| plan.privacy.clip = 0.0, &["privacy.clip is 0"], &["privacy.clip = 1.0 (was 0.0)"]),
        (|plan| plan.privacy.clip = f64::NAN, &["privacy.clip is NaN"], &["privacy.clip = 1.0"]),
        (
            |plan| plan.privacy.delta = 1e-4,
            &["privacy.delta is 0.0001", "10000 patients", "below 1.0e-4"],
            &["privacy.delta = 9e-5 (was 0.0001)"],
        ),
        (|plan| plan.privacy.delta = 0.0, &["privacy.delta is 0"], &["privacy.delta = 9e-5"]),
        (
            |plan| plan.privacy.largest_lot = 60.0,
            &["5 organizations with lots of at most 60 make 300", "at least expected_lot / n = 100"],
            &["privacy.largest_lot = 100.0 (was 60.0)"],
        ),
        (
            |plan| plan.encoding.scale = 1e7,
            &["encoding.scale is 10000000", "the sampler goes to 2²⁰"],
            &["encoding.scale = ", "encoding.ring_bits = "],
        ),
        (
            |plan| plan.encoding.rounding_beta = 0.0,
            &["encoding.rounding_beta is 0", "above 0"],
            &["encoding.rounding_beta = 0.01 (was 0.0)"],
        ),
    ];
    for (number, (damage, words, changed)) in cases.into_iter().enumerate() {
        let mut plan = good();
        damage(&mut plan);
        let (error, proposals) = refused(&plan);
        for word in words {
            assert!(error.contains(word), "case {number}: \"{word}\" is not in {error}");
        }
        let first =
            proposals.first().unwrap_or_else(|| panic!("case {number}: nothing proposed for {error}"));
        for change in changed {
            assert!(
                first.iter().any(|shown| shown.starts_with(change)),
                "case {number}: {change} not in {first:?}"
            );
        }
    }
}

#[test]
fn fewer_than_two_honest_contributors_are_refused() {
    let mut plan = good();
    plan.cohort = Cohort { organizations: 4, colluders: 2, min_survivors: 4, allow_no_colluders: false };
    plan.privacy.expected_lot = 400.0;
    plan.check().unwrap();
    // r = ⌊(3 + 1)/2⌋ + 1 = 3 of 3, and h = 2; with t_c = 0 allowed, r = 2 and h = 1.
    plan.cohort = Cohort { organizations: 3, colluders: 0, min_survivors: 2, allow_no_colluders: true };
    plan.privacy.expected_lot = 300.0;
    let (error, proposals) = refused(&plan);
    assert!(error.contains("h = m_min − max(t_c, 1) = 2 − 1 = 1"), "{error}");
    assert_eq!(proposals[0], ["cohort.min_survivors = 3 (was 2)"]);
}

#[test]
fn a_budget_that_ends_too_early_has_three_ways_out() {
    let mut plan = good();
    plan.privacy.epsilon = 1.5;
    let (error, proposals) = refused(&plan);
    for word in [
        "privacy.epsilon is 1.5",
        "needs 44: 40 rounds and 4 in reserve",
        "z_eff = √(h·σ_i² − 6.25)/Δ = √(3·",
    ] {
        assert!(error.contains(word), "\"{word}\" is not in {error}");
    }
    let fields: Vec<_> =
        proposals.iter().map(|changes| changes[0].split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(fields, ["privacy.noise_multiplier", "rounds", "privacy.epsilon"], "{proposals:?}");

    // Each is the nearest of its kind: a step back towards the plan is refused.
    let proposals = plan.proposals();
    let mut less = proposals[0].plan.clone();
    less.privacy.noise_multiplier -= 0.002;
    assert!(less.check().is_err());
    let mut longer = proposals[1].plan.clone();
    longer.rounds += 1;
    assert!(longer.check().is_err());
    let mut poorer = proposals[2].plan.clone();
    poorer.privacy.epsilon -= 0.01;
    assert!(poorer.check().is_err());

    // A budget that pays for nothing at all: no number of rounds is proposed.
    plan.privacy.epsilon = 0.01;
    let (error, proposals) = refused(&plan);
    assert!(error.contains("pays for 0 attempts"), "{error}");
    assert!(proposals.iter().flatten().all(|change| !change.starts_with("rounds")), "{proposals:?}");
}

#[test]
fn the_reserve_is_a_tenth_where_rounds_may_be_tried_again() {
    assert_eq!(
        [(60, 2), (60, 1), (1, 2), (5, 16), (61, 2)]
            .map(|(r, a)| attempts_to_pay(r, &Retries { max_attempts: a, reserve: None })),
        [66, 60, 2, 6, 68]
    );
    // Exactly the rounds, and no more.
    let mut plan = good();
    let derived = plan.derive().unwrap();
    let spent = |attempts| derived.guarantees(attempts, 1e-5).unwrap().central;
    plan.privacy.epsilon = (spent(40) + spent(41)) / 2.0;
    assert!(plan.check().is_err());
    plan.retries.max_attempts = 1;
    plan.check().unwrap();
}

#[test]
fn a_budget_that_is_none_is_replaced_by_what_the_plan_costs() {
    for epsilon in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let mut plan = good();
        plan.privacy.epsilon = epsilon;
        let (error, proposals) = refused(&plan);
        assert!(error.contains("privacy.epsilon is"), "{error}");
        assert_eq!(proposals.len(), 1, "{proposals:?}");
        assert!(proposals[0][0].starts_with("privacy.epsilon = "), "{proposals:?}");
    }
}

#[test]
fn several_faults_are_cured_together_and_what_only_people_know_is_not_guessed() {
    let mut plan = good();
    plan.encoding.ring_bits = 9;
    plan.privacy.clip = -1.0;
    plan.privacy.delta = 0.5;
    plan.deadlines.vote_s = 0;
    let (_, proposals) = refused(&plan);
    assert_eq!(
        proposals[0],
        [
            "privacy.delta = 9e-5 (was 0.5)",
            "privacy.clip = 1.0 (was -1.0)",
            "encoding.ring_bits = 19 (was 9)",
            "deadlines.vote_s = 1 (was 0)"
        ]
    );
    for damage in [
        |plan: &mut Plan| plan.privacy.sampling_rate = f64::NAN,
        |plan: &mut Plan| plan.privacy.sampling_rate = 0.0,
        |plan: &mut Plan| plan.privacy.expected_lot = 0.0,
        |plan: &mut Plan| plan.cohort.organizations = 2,
        |plan: &mut Plan| plan.version = 2,
        |plan: &mut Plan| plan.task.labels.clear(),
    ] {
        let mut plan = good();
        damage(&mut plan);
        let (error, proposals) = refused(&plan);
        assert!(proposals.is_empty(), "{error}: {proposals:?}");
    }
}

#[test]
fn hours_are_part_of_the_text() {
    let mut plan = good();
    plan.hours = vec![hours("site-1", "20:00", "06:00"), hours("site-2", "00:00", "24:00")];
    let text = plan.to_text().unwrap();
    assert!(text.contains("[[hours]]") && text.contains("to = \"24:00\""), "{text}");
    assert_eq!(Plan::parse(&text).unwrap().0, plan);
    let error = Plan::parse(&text.replace("20:00", "8pm")).unwrap_err().to_string();
    assert!(error.contains("\"8pm\" is no time of day"), "{error}");
}
