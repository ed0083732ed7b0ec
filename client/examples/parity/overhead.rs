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
    plan::{Adapter, AdapterMode, Model, Pooling, TargetModules, Task, Tensor},
    release::initial_state,
};
use rand::{rand_core::UnwrapErr, rngs::SysRng};

use super::{
    Failure, Job,
    plan::{About, signed_plan},
    values_of,
};

/// Trained coordinates.
const SIDE: u32 = 1000;

pub(super) fn overhead(job: &Job) -> Result<(), Failure> {
    let (plan, plan_text) = signed_plan(square(), job.patients.len() as f64, 4096.0)?;
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

/// A plan with one square tensor, of no model.
fn square() -> About {
    let nothing = Digest::of(&[]);
    About {
        model: Model {
            name: "none".into(),
            config: nothing,
            tokenizer: nothing,
            weights: nothing,
            pooling: Pooling::Mean,
            max_tokens: 64,
        },
        task: Task { labels: vec!["a".into(), "b".into()], max_records_per_patient: 1, ..Task::default() },
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
    }
}
