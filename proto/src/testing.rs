//! A consortium for tests: organizations, their keys, and documents signed by whom a test likes.

use consilium_crypto::{digest::Digest, release::ARITHMETIC_VERSION, sign::SigningKey};
use jiff::civil::date;

use crate::{
    ids::Id,
    plan::{
        Adapter, AdapterMode, Cohort, Deadlines, Encoding, Evaluation, Model, Optimizer, Plan, Pooling,
        Privacy, PrivacyUnit, Retries, TargetModules, Task, Tensor,
    },
    roster::{Party, Roster, chain::Version},
    signed::{Kind, Signatures, fingerprint},
};

pub(crate) fn id(index: usize) -> Id {
    format!("org-{index}").parse().unwrap()
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32])
}

pub(crate) fn party(id: &Id, seed: u8) -> Party {
    Party {
        id: id.clone(),
        signing_key: key(seed).verifying_key(),
        tls_key: Digest([seed; 32]),
        valid_until: date(2120, 1, 1),
    }
}

/// Five organizations, whose keys have the seeds 1 to 5; quorum 4. The coordinator's seed is 99.
pub(crate) fn roster() -> Roster {
    Roster {
        version: 1,
        consortium: "test".parse().unwrap(),
        previous: None,
        quorum: 4,
        coordinator: party(&"coordinator".parse().unwrap(), 99),
        organizations: (0..5).map(|index| party(&id(index), index as u8 + 1)).collect(),
        operators: Vec::new(),
        coordinator_next: None,
        viewers: Vec::new(),
        plan_signers: Vec::new(),
        simulated: false,
    }
}

/// Signatures of organizations with the keys of these seeds.
pub(crate) fn signed(kind: Kind, text: &str, by: &[(usize, u8)]) -> Signatures {
    let mut signatures = Signatures::default();
    by.iter().for_each(|(index, seed)| signatures.add(kind, text, &id(*index), &key(*seed)));
    signatures
}

/// Everybody with the key of the first version.
pub(crate) const ALL: [(usize, u8); 5] = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)];

pub(crate) fn version(roster: &Roster, by: &[(usize, u8)]) -> Version {
    let text = roster.to_text().unwrap();
    let signatures = signed(Kind::Roster, &text, by);
    Version { text, signatures }
}

pub(crate) fn pin(version: &Version) -> Digest {
    fingerprint(Kind::Roster, &version.text)
}

/// A plan for `n` organizations under a roster.
pub(crate) fn plan(roster: Digest, n: u32) -> Plan {
    let tensor = |name: &str, shape| Tensor { name: name.into(), shape, bound: 0.0, trained: true };
    let nothing = Digest([0; 32]);
    Plan {
        version: 1,
        job: "job".parse().unwrap(),
        roster,
        rounds: 4,
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
        cohort: Cohort { organizations: n, colluders: 1, min_survivors: n - 1, allow_no_colluders: false },
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
        evaluation: Evaluation { organization: id(1), every_rounds: 2, max_examples: 10 },
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
        retries: Retries { max_attempts: 3, reserve: None },
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
