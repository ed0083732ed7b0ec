//! The four units: what each asks for, what it refuses, and its arithmetic.

use consilium_crypto::{digest::Digest, privacy::Composition, release::ARITHMETIC_VERSION};

use super::*;

/// Five organizations, `t_c = 1`, `m_min = 4`: `h = 3`. Eight trained coordinates and two metrics.
pub(crate) fn plan(unit: PrivacyUnit) -> Plan {
    let tensor = |name: &str, shape| Tensor { name: name.into(), shape, bound: 0.0, trained: true };
    let nothing = Digest([0; 32]);
    let local = Local { steps: 4, learning_rate: 0.5, proximal: 0.0, update_clip: None, update_scale: None };
    let patient = Privacy {
        unit,
        note: String::new(),
        delta: 1e-5,
        epsilon: 8.0,
        sampling_rate: 0.1,
        expected_lot: 50.0,
        largest_lot: 16.0,
        clip: 1.0,
        noise_multiplier: 1.0,
        i_accept_no_privacy: false,
        local: None,
    };
    let privacy = match unit {
        PrivacyUnit::Patient => patient,
        PrivacyUnit::PatientLocal => Privacy {
            largest_lot: 0.0,
            local: Some(Local { update_clip: Some(2.0), update_scale: Some(256.0), ..local }),
            ..patient
        },
        PrivacyUnit::Organization => {
            Privacy { expected_lot: 0.0, largest_lot: 0.0, local: Some(local), ..patient }
        }
        PrivacyUnit::None => Privacy {
            delta: 0.0,
            epsilon: 0.0,
            expected_lot: 0.0,
            largest_lot: 0.0,
            noise_multiplier: 0.0,
            i_accept_no_privacy: true,
            local: Some(local),
            ..patient
        },
    };
    let rounding_beta = if unit == PrivacyUnit::None { 0.0 } else { 0.01 };
    Plan {
        version: 1,
        job: "job".parse().unwrap(),
        roster: nothing,
        rounds: 10,
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
        privacy,
        encoding: Encoding { scale: 64.0, ring_bits: 24, metrics_share: 0.05, loss_max: 8.0, rounding_beta },
        optimizer: match unit {
            PrivacyUnit::Patient => Optimizer::Sgd { learning_rate: 0.5 },
            _ => Optimizer::FedAvg { learning_rate: 1.0 },
        },
        evaluation: Evaluation { organization: "org-0".parse().unwrap(), every_rounds: 2, max_examples: 10 },
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
            tensors: vec![tensor("head.bias", vec![2]), tensor("head.weight", vec![2, 3])],
        },
    }
}

use PrivacyUnit::{Organization, Patient, PatientLocal};

const ALL: [PrivacyUnit; 4] = [Patient, PatientLocal, Organization, PrivacyUnit::None];

#[test]
fn every_unit_survives_its_text_which_names_only_what_it_has() {
    for unit in ALL {
        let plan = plan(unit);
        let text = plan.to_text().unwrap();
        assert_eq!(Plan::parse(&text).unwrap().0, plan, "{text}");
        assert!(text.contains(&format!("unit = \"{unit}\"")), "{text}");
        let has = |field: &str| text.lines().any(|line| line.starts_with(&format!("{field} = ")));
        for (field, units) in [
            ("delta", &[Patient, PatientLocal, Organization][..]),
            ("epsilon", &[Patient, PatientLocal, Organization]),
            ("expected_lot", &[Patient, PatientLocal]),
            ("largest_lot", &[Patient]),
            ("noise_multiplier", &[Patient, PatientLocal, Organization]),
            ("rounding_beta", &[Patient, PatientLocal, Organization]),
            ("i_accept_no_privacy", &[PrivacyUnit::None]),
            ("steps", &[PatientLocal, Organization, PrivacyUnit::None]),
            ("update_clip", &[PatientLocal]),
            ("sampling_rate", &ALL),
        ] {
            assert_eq!(has(field), units.contains(&unit), "{unit}: {field} in\n{text}");
        }
    }
}

#[test]
fn what_a_unit_does_not_have_is_refused_by_name_and_so_is_what_it_lacks() {
    type Change = fn(&mut Plan);
    let cases: &[(PrivacyUnit, &str, &str, Change)] = &[
        (PatientLocal, "privacy.largest_lot", "means nothing for unit = \"patient-local\"", |p| {
            p.privacy.largest_lot = 3.0
        }),
        (Organization, "privacy.expected_lot", "means nothing", |p| p.privacy.expected_lot = 3.0),
        (Organization, "privacy.largest_lot", "means nothing", |p| p.privacy.largest_lot = 3.0),
        (Organization, "privacy.local.update_clip", "means nothing", |p| {
            p.privacy.local.as_mut().unwrap().update_clip = Some(1.0)
        }),
        (Organization, "privacy.delta", "has 5 organizations", |p| {
            p.privacy.delta = 0.5;
        }),
        (Patient, "privacy.delta", "makes 500 patients", |p| p.privacy.delta = 0.003),
        (PatientLocal, "privacy.delta", "makes 500 patients", |p| p.privacy.delta = 0.003),
        (PrivacyUnit::None, "privacy.delta", "means nothing", |p| p.privacy.delta = 1e-5),
        (PrivacyUnit::None, "privacy.epsilon", "means nothing", |p| p.privacy.epsilon = 1.0),
        (PrivacyUnit::None, "privacy.noise_multiplier", "means nothing", |p| {
            p.privacy.noise_multiplier = 1.0
        }),
        (PrivacyUnit::None, "encoding.rounding_beta", "means nothing", |p| p.encoding.rounding_beta = 0.01),
        (PrivacyUnit::None, "privacy.i_accept_no_privacy", "write i_accept_no_privacy = true", |p| {
            p.privacy.i_accept_no_privacy = false
        }),
        (Patient, "privacy.i_accept_no_privacy", "means nothing", |p| p.privacy.i_accept_no_privacy = true),
        (Patient, "privacy.local", "leave it out", |p| p.privacy.local = plan(Organization).privacy.local),
        (Patient, "privacy.largest_lot", "above 0", |p| p.privacy.largest_lot = 0.0),
        (Patient, "privacy.noise_multiplier", "above 0", |p| p.privacy.noise_multiplier = f64::NAN),
        (Patient, "optimizer.kind", "organizations send gradients", |p| {
            p.optimizer = Optimizer::FedAvg { learning_rate: 1.0 }
        }),
        (Organization, "optimizer.kind", "organizations send deltas", |p| {
            p.optimizer = Optimizer::Sgd { learning_rate: 1.0 }
        }),
        (Patient, "optimizer.kind", "organizations send gradients", |p| {
            p.optimizer = Optimizer::FedAvgM { learning_rate: 1.0, momentum: 0.9 }
        }),
        (Organization, "optimizer", "momentum", |p| {
            p.optimizer = Optimizer::FedAvgM { learning_rate: 1.0, momentum: 1.0 }
        }),
        (Organization, "privacy.local.proximal", "zero there", |p| {
            let local = p.privacy.local.as_mut().unwrap();
            (local.steps, local.proximal) = (1, 0.5);
        }),
        (Organization, "privacy.local.proximal", "above 0", |p| {
            p.privacy.local.as_mut().unwrap().proximal = -0.5
        }),
        (PrivacyUnit::None, "privacy.local.proximal", "4 · 0.5 = 2 must be below 2", |p| {
            p.privacy.local.as_mut().unwrap().proximal = 4.0
        }),
        (Patient, "adapter.mode", "the head alone is trained", |p| p.adapter.mode = AdapterMode::Both),
        (Organization, "adapter.tensor", "it is frozen, and mode = \"alternate\" trains every factor", |p| {
            p.adapter.mode = AdapterMode::Alternate;
            p.adapter.target_modules = ["query"].into();
            p.adapter.tensors[0].trained = false;
        }),
        (PatientLocal, "privacy.local", "[privacy.local]", |p| p.privacy.local = None),
        (PatientLocal, "privacy.local.steps", "1 to 10000", |p| p.privacy.local.as_mut().unwrap().steps = 0),
        (PatientLocal, "privacy.local.learning_rate", "above 0", |p| {
            p.privacy.local.as_mut().unwrap().learning_rate = f64::INFINITY
        }),
        (PatientLocal, "privacy.local.update_scale", "above 0", |p| {
            p.privacy.local.as_mut().unwrap().update_scale = None
        }),
        (PatientLocal, "encoding.ring_bits", "13 bits are needed", |p| p.encoding.ring_bits = 12),
        (Organization, "encoding.scale", "2²⁰", |p| {
            p.encoding.scale = 4e6;
            p.encoding.ring_bits = 32;
        }),
    ];
    for (unit, field, words, change) in cases {
        let mut plan = plan(*unit);
        change(&mut plan);
        match plan.derive().unwrap_err() {
            PlanError::Rule { field: named, rule, .. } => {
                assert_eq!(named, *field, "{unit}: {rule}");
                assert!(rule.contains(words), "{unit}, {field}: {rule}");
            }
            other => panic!("{unit}, {field}: {other}"),
        }
    }
    let text = plan(Patient).to_text().unwrap().replace("unit = \"patient\"", "unit = \"patients\"");
    assert!(Plan::parse(&text).unwrap_err().to_string().contains("unknown variant `patients`"));
}

/// `Δ² = ⌊64² + 10/4 + √(2 ln 100)·(64 + √10/2)⌋ = ⌊4096 + 2.5 + 3.0349·65.581⌋ = ⌊4297.53⌋`.
#[test]
fn the_arithmetic_of_each_unit_is_the_written_one() {
    let bound = 4297f64.sqrt();
    let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{a} is not {b}");
    let sigma = (bound * bound + 6.25).sqrt();

    let derived = plan(Patient).derive().unwrap();
    let mechanisms = derived.mechanisms.unwrap();
    assert_eq!(derived.encoding.integer_bound_squared(), 4297);
    assert_eq!((derived.honest, derived.vector_len, mechanisms.steps), (3, 10, 1));
    near(derived.sigma, sigma);
    near(derived.sigma_share, sigma / 3f64.sqrt());
    near(mechanisms.central.noise_multiplier(), 1.0);
    near(mechanisms.local.noise_multiplier(), (sigma * sigma / 3.0 - 6.25).sqrt() / bound);
    // L + 9√L = 16 + 36.
    assert_eq!(derived.clamp, (52.0 * bound) as i64);
    assert_eq!(derived.update, derived.encoding);
    near(derived.metrics_sigma, derived.sigma_share);

    let derived = plan(PatientLocal).derive().unwrap();
    let mechanisms = derived.mechanisms.unwrap();
    near(derived.encoding.integer_bound(), bound);
    // The whole noise at each organization, however many there are.
    near(derived.sigma, sigma);
    near(derived.sigma_share, sigma);
    near(mechanisms.central.noise_multiplier(), 1.0);
    assert_eq!(mechanisms.central, mechanisms.local, "both guarantees are one number");
    assert_eq!((mechanisms.steps, mechanisms.central.params().sampling_rate), (4, 0.1));
    // 256 · 2, and 2·5·512 = 5120 values in 13 bits.
    assert_eq!((derived.clamp, derived.ring_needed), (512, 13));
    // σ over a lot of 10 by four steps, from 64·1 to 256·2 units.
    near(derived.metrics_sigma, sigma / 64.0 / 10.0 / 2.0 * 512.0);

    let derived = plan(Organization).derive().unwrap();
    let mechanisms = derived.mechanisms.unwrap();
    near(derived.sigma_share, sigma / 3f64.sqrt());
    near(mechanisms.central.noise_multiplier(), 1.0);
    for mechanism in [mechanisms.central, mechanisms.local] {
        let params = mechanism.params();
        assert_eq!((params.sampling_rate, params.dimension), (1.0, 10), "no amplification");
        near(params.sensitivity, bound);
    }
    assert_eq!((mechanisms.central.params().shares, mechanisms.local.params().shares), (3, 1));
    // ⌊Δ⌋ = 65; 2·(5·65 + 7.1·√5·37.9) = 1856 values in 11 bits.
    assert_eq!((derived.clamp, derived.ring_needed, mechanisms.steps), (65, 11, 1));

    let derived = plan(PrivacyUnit::None).derive().unwrap();
    assert!(derived.mechanisms.is_none());
    assert_eq!((derived.sigma, derived.sigma_share, derived.metrics_sigma), (0.0, 0.0, 0.0));
    // 64 · 1; 2·5·64 = 640 values in 10 bits.
    assert_eq!((derived.clamp, derived.ring_needed), (64, 10));
    assert_eq!(derived.guarantees(3, 0.0).unwrap(), Guarantees::NONE);
    assert!(
        derived.guarantees(0, 0.0).unwrap().central.is_infinite(),
        "nothing is promised before it either"
    );
}

/// `P(N(0, 1) ≤ x)` by Simpson's rule from 0.
fn normal(x: f64) -> f64 {
    let (steps, height) = (2000, |t: f64| (-t * t / 2.0).exp());
    let width = x / f64::from(steps);
    let weight = |i| if i == 0 || i == steps { 1.0 } else { 2.0 + 2.0 * f64::from(i % 2) };
    let area: f64 = (0..=steps).map(|i| weight(i) * height(f64::from(i) * width)).sum();
    0.5 + area * width / 3.0 / (2.0 * std::f64::consts::PI).sqrt()
}

/// `ε` at which the Gaussian mechanism with `μ = √T/z` has this `δ` (Balle and Wang 2018).
fn gaussian(mu: f64, delta: f64) -> f64 {
    // Beyond 20, e^ε would magnify the rounding of the tail.
    let (mut low, mut high) = (0.0f64, 20.0f64);
    while high - low > 1e-9 {
        let e = (low + high) / 2.0;
        let spent = normal(mu / 2.0 - e / mu) - e.exp() * normal(-mu / 2.0 - e / mu);
        if spent > delta { low = e } else { high = e }
    }
    high
}

fn at(unit: PrivacyUnit, change: impl FnOnce(&mut Plan)) -> Derived {
    let mut plan = plan(unit);
    change(&mut plan);
    plan.derive().unwrap()
}

#[test]
fn the_guarantees_of_organizations_are_the_gaussians_closed_form() {
    assert!((gaussian(1.0, 1e-5) - 4.377_178).abs() < 1e-4);
    for (z, rounds) in [(1.0, 1), (4.0, 10), (10.0, 100)] {
        let derived = at(Organization, |p| p.privacy.noise_multiplier = z);
        let guarantees = derived.guarantees(rounds, 1e-5).unwrap();
        let root = (rounds as f64).sqrt();
        let alone = derived.mechanisms.unwrap().local.noise_multiplier();
        for (bound, exact) in
            [(guarantees.central, gaussian(root / z, 1e-5)), (guarantees.local, gaussian(root / alone, 1e-5))]
        {
            assert!(
                bound >= exact - 1e-6 && bound < exact * 1.01,
                "z = {z}, {rounds} rounds: {bound}, {exact}"
            );
        }
        assert!(guarantees.local > guarantees.central);
    }
}

#[test]
fn a_local_round_costs_its_steps_against_everybody_alike() {
    // q = 0.01, z = 1, 1,000 steps, δ = 10⁻⁵: 1.828244 by Google's accountant.
    let derived = at(PatientLocal, |p| {
        (p.privacy.sampling_rate, p.privacy.expected_lot) = (0.01, 50.0);
        p.privacy.local.as_mut().unwrap().steps = 10;
    });
    let guarantees = derived.guarantees(100, 1e-5).unwrap();
    assert_eq!(guarantees.central, guarantees.local);
    assert!((guarantees.central / 1.828_244 - 1.0).abs() < 0.01, "{guarantees:?}");
    // The same as so many rounds of one step, and as `patient` when one share is all that counts.
    let one = at(PatientLocal, |p| {
        (p.privacy.sampling_rate, p.privacy.expected_lot) = (0.01, 50.0);
        p.privacy.local.as_mut().unwrap().steps = 1;
    });
    assert_eq!(one.guarantees(1000, 1e-5).unwrap(), guarantees);
    let mut all = Composition::new();
    all.push(derived.mechanisms.unwrap().attempts(100).0).unwrap();
    assert_eq!((all.count(), all.epsilon(1e-5).unwrap()), (1000, guarantees.central));
    // Every step at full sampling: the closed form again.
    let full = at(PatientLocal, |p| {
        (p.privacy.sampling_rate, p.privacy.noise_multiplier) = (1.0, 4.0);
        p.privacy.local.as_mut().unwrap().steps = 5;
    });
    let (bound, exact) = (full.guarantees(2, 1e-5).unwrap().central, gaussian(10f64.sqrt() / 4.0, 1e-5));
    assert!(bound >= exact - 1e-6 && bound < exact * 1.01, "{bound}, {exact}");
}

#[test]
fn factors_take_turns_by_their_names_in_peft() {
    let mut plan = plan(Patient);
    plan.adapter.target_modules = ["query"].into();
    plan.adapter.mode = AdapterMode::Alternate;
    let tensor = |name: &str| Tensor { name: name.into(), shape: vec![2], bound: 0.0, trained: true };
    plan.adapter.tensors =
        ["base_model.model.q.lora_A.weight", "base_model.model.q.lora_B.weight", "head.bias"]
            .map(tensor)
            .into();
    let still = |plan: &Plan, step| plan.derive().unwrap().manifest.still(step);
    let only = |range: std::ops::Range<usize>| Vec::from([range]);
    assert_eq!((still(&plan, 1), still(&plan, 2)), (only(0..2), only(2..4)));
    for mode in [AdapterMode::Both, AdapterMode::Ffa] {
        plan.adapter.mode = mode;
        assert!(still(&plan, 1).is_empty() && still(&plan, 2).is_empty());
    }
}
