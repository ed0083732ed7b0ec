//! What a trainer outside the process costs beside its own work: the way to it and back (adapter out, sum in), the check of its
//! norm, the noise. It is asked over `overhead.sock` beside the job, where `parity.py` keeps a Python trainer that answers at once
//! with a sum that it has ready.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use consilium_client::trainer::{
    ExternalTrainer, Trainer as _,
    external::{Place, Setup},
};
use consilium_crypto::{
    digest::Digest,
    encoding::LotSum,
    noise::{BulkRng, DiscreteGaussian},
};
use consilium_proto::{
    identity::Identity,
    plan::{
        Adapter, AdapterMode, Cohort, Deadlines, Encoding, Evaluation, Model, Optimizer, Plan, Pooling,
        Privacy, PrivacyUnit, Retries, TargetModules, Task, Tensor, VerifiedPlan,
    },
    release::initial_state,
    roster::Roster,
    signed::{Kind, Signatures, fingerprint},
};
use jiff::civil::date;
use rand::{rand_core::UnwrapErr, rngs::SysRng};

use super::{Failure, Job, values_of};

/// Trained coordinates.
const SIDE: u32 = 1000;

pub(super) fn overhead(job: &Job) -> Result<(), Failure> {
    let (plan, plan_text) = plan(job.patients.len() as f64)?;
    let plan = Arc::new(plan);
    let derived = plan.derived();
    let mut trainer = ExternalTrainer::new(Setup {
        plan: &plan,
        plan_text,
        place: Place::Socket { path: job.out.join("overhead.sock"), user: None },
        patients: job.patients.iter().map(|patient| format!("patient-{patient}")).collect(),
        answer: Some(Duration::from_secs(60)),
        digest: None,
        folder: None,
    })?;
    let adapter = values_of(&initial_state(&plan)?);
    let noise = DiscreteGaussian::new(derived.sigma_share)?;
    let everybody: Vec<usize> = (0..job.patients.len()).collect();
    let mut rng = BulkRng::from_crypto_rng(&mut UnwrapErr(SysRng));
    // The first one dials, too.
    let (mut socket, mut check, mut noised) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..=job.repeats {
        let begin = Instant::now();
        let sum = trainer.sum(&adapter, &everybody, &[])?;
        socket.push(begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        let lot = LotSum::from_clipped(&derived.encoding, sum.values, sum.patients)?;
        check.push(begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        let ring = lot.finish(derived.clamp, &noise, derived.ring.bits(), &mut rng)?;
        noised.push(begin.elapsed().as_secs_f64());
        assert_eq!(ring.len(), (SIDE * SIDE) as usize + 2);
    }
    println!(
        "{}",
        serde_json::json!({
            "dimension": SIDE * SIDE, "patients": job.patients.len(),
            "socket_s": &socket[1..], "check_s": &check[1..], "noise_s": &noised[1..],
        })
    );
    Ok(())
}

/// A plan with one square tensor, signed by its three organizations.
fn plan(lot: f64) -> Result<(VerifiedPlan, String), Failure> {
    let names = ["coordinator", "site-1", "site-2", "site-3"];
    let identities = (1u8..)
        .zip(names)
        .map(|(seed, name)| Ok(Identity::generate(name.parse()?, [seed; 32])?))
        .collect::<Result<Vec<_>, Failure>>()?;
    let until = date(2099, 1, 1);
    let roster = Roster {
        version: 1,
        consortium: "parity".parse()?,
        previous: None,
        quorum: 3,
        coordinator: identities[0].party(until),
        coordinator_next: None,
        organizations: identities[1..].iter().map(|identity| identity.party(until)).collect(),
        operators: Vec::new(),
        plan_signers: Vec::new(),
        simulated: false,
        viewers: Vec::new(),
    };
    let sign = |kind, text: &str| {
        let mut signatures = Signatures::default();
        identities[1..].iter().for_each(|who| signatures.add(kind, text, &who.id, who.signing_key()));
        signatures
    };
    let text = roster.to_text()?;
    let pin = fingerprint(Kind::Roster, &text);
    let roster = Roster::verify(&text, &sign(Kind::Roster, &text), &pin)?;
    let nothing = Digest::of(&[]);
    let plan = Plan {
        version: 1,
        job: "overhead".parse()?,
        roster: pin,
        rounds: 10,
        arithmetic: 1,
        model: Model {
            name: "none".into(),
            config: nothing,
            tokenizer: nothing,
            weights: nothing,
            pooling: Pooling::Mean,
            max_tokens: 64,
        },
        task: Task { labels: vec!["a".into(), "b".into()], max_records_per_patient: 1, ..Task::default() },
        cohort: Cohort { organizations: 3, colluders: 1, min_survivors: 3, allow_no_colluders: false },
        privacy: Privacy {
            unit: PrivacyUnit::Patient,
            note: String::new(),
            delta: 1e-5,
            epsilon: 100.0,
            sampling_rate: 0.05,
            expected_lot: 3.0 * lot,
            largest_lot: lot,
            clip: 1.0,
            noise_multiplier: 1.0,
            i_accept_no_privacy: false,
            local: None,
        },
        encoding: Encoding {
            scale: 4096.0,
            ring_bits: 28,
            metrics_share: 0.05,
            loss_max: 7.0,
            rounding_beta: 0.01,
        },
        optimizer: Optimizer::Sgd { learning_rate: 1.0 },
        evaluation: Evaluation { organization: "site-1".parse()?, every_rounds: 5, max_examples: 100 },
        deadlines: Deadlines {
            wait_s: 60,
            advertise_s: 30,
            share_s: 30,
            input_s: 120,
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
            seed: Digest([7; 32]),
            tensors: vec![Tensor {
                name: "square".into(),
                shape: vec![SIDE, SIDE],
                bound: 0.1,
                trained: true,
            }],
        },
    };
    let text = plan.to_text()?;
    Ok((Plan::verify(&text, &sign(Kind::Plan, &text), &roster)?, text))
}
