//! The roster and the plan of the members on the bench.

use consilium_crypto::release::ARITHMETIC_VERSION;
use consilium_proto::{
    plan::{
        Adapter, AdapterMode, Cohort, Deadlines, Encoding, Evaluation, Model, Optimizer, Pooling, Privacy,
        PrivacyUnit, Retries, TargetModules, Task, Tensor,
    },
    roster::{Party, Roster},
    signed::{Kind as Document, Signatures, fingerprint},
};

use super::*;

pub(super) fn documents(
    identities: &[Arc<Identity>],
    coordinator: &Identity,
    operator: &Identity,
    change: impl FnOnce(&mut Plan),
) -> (VerifiedRoster, VerifiedPlan) {
    let party = |identity: &Identity| Party {
        id: identity.id.clone(),
        signing_key: identity.signing_key().verifying_key(),
        tls_key: Digest::of(identity.id.as_str().as_bytes()),
        valid_until: jiff::civil::date(2120, 1, 1),
    };
    let sign = |kind, text: &str| {
        let mut signatures = Signatures::default();
        identities.iter().for_each(|it| signatures.add(kind, text, &it.id, it.signing_key()));
        signatures
    };
    let n = identities.len();
    let roster = Roster {
        version: 1,
        consortium: "test".parse().unwrap(),
        previous: None,
        quorum: 2 * n / 3 + 1,
        coordinator: party(coordinator),
        organizations: identities.iter().map(|it| party(it)).collect(),
        operators: vec![party(operator)],
        coordinator_next: None,
        viewers: Vec::new(),
        plan_signers: Vec::new(),
        simulated: false,
    };
    let text = roster.to_text().unwrap();
    let roster =
        Roster::verify(&text, &sign(Document::Roster, &text), &fingerprint(Document::Roster, &text)).unwrap();
    let tensor = |name: &str, shape| Tensor { name: name.into(), shape, bound: 0.0, trained: true };
    let nothing = Digest([0; 32]);
    let mut plan = Plan {
        version: 1,
        job: "job".parse().unwrap(),
        roster: roster.digest(),
        rounds: 3,
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
        cohort: Cohort { organizations: n as u32, colluders: 1, min_survivors: 4, allow_no_colluders: false },
        privacy: Privacy {
            unit: PrivacyUnit::Patient,
            note: String::new(),
            delta: 1e-5,
            epsilon: 1000.0,
            sampling_rate: 0.1,
            expected_lot: 50.0,
            largest_lot: 10.0,
            clip: 1.0,
            noise_multiplier: 1.0,
            i_accept_no_privacy: false,
            local: None,
        },
        encoding: Encoding {
            scale: 64.0,
            ring_bits: 24,
            metrics_share: 0.05,
            loss_max: 8.0,
            rounding_beta: 0.01,
        },
        optimizer: Optimizer::Sgd { learning_rate: 0.5 },
        evaluation: Evaluation { organization: name(1), every_rounds: 1, max_examples: 10 },
        deadlines: Deadlines {
            wait_s: (WAIT_MS / 1000) as u32,
            advertise_s: 30,
            share_s: 30,
            input_s: 30,
            vote_s: 30,
            unmask_s: 30,
            grace_s: (GRACE_MS / 1000) as u32,
            upload_grace_s: Some((UPLOAD_GRACE_MS / 1000) as u32),
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
    };
    change(&mut plan);
    let text = plan.to_text().unwrap();
    let plan = Plan::verify(&text, &sign(Document::Plan, &text), &roster).unwrap();
    (roster, plan)
}
