//! Three organizations, their documents, and what their coordinator signs.

use consilium_crypto::{release::ARITHMETIC_VERSION, ring};
use consilium_proto::{
    plan::{
        Adapter, AdapterMode, Cohort, Deadlines, Encoding, Evaluation, Model, Optimizer, Plan, Pooling,
        Privacy, PrivacyUnit, Retries, TargetModules, Task, Tensor,
    },
    release::{apply_sum, sign_head},
    roster::{Party, Roster},
    signed::{Kind as Document, Signatures, fingerprint},
};

use super::*;

pub(super) fn name(index: usize) -> Id {
    format!("org-{index}").parse().unwrap()
}

/// Three organizations and their documents. Nobody is to spare: a round needs all three.
pub(super) struct Consortium {
    pub(super) coordinator: Arc<Identity>,
    pub(super) organizations: Vec<Arc<Identity>>,
    pub(super) roster: Arc<VerifiedRoster>,
    pub(super) plan: Arc<VerifiedPlan>,
}

impl Consortium {
    pub(super) fn new() -> Self {
        Self::with(1000.0)
    }

    /// With a budget of `epsilon`.
    pub(super) fn with(epsilon: f64) -> Self {
        let identity =
            |id: &str, seed| Arc::new(Identity::generate(id.parse().unwrap(), [seed; 32]).unwrap());
        let coordinator = identity("coordinator", 99);
        let organizations: Vec<_> = (0..3u8).map(|i| identity(name(i.into()).as_str(), i + 1)).collect();
        let party = |identity: &Identity| Party {
            id: identity.id.clone(),
            signing_key: identity.signing_key().verifying_key(),
            tls_key: Digest::of(identity.id.as_str().as_bytes()),
            valid_until: jiff::civil::date(2120, 1, 1),
        };
        let sign = |kind, text: &str| {
            let mut signatures = Signatures::default();
            organizations.iter().for_each(|it| signatures.add(kind, text, &it.id, it.signing_key()));
            signatures
        };
        let roster = Roster {
            version: 1,
            consortium: "test".parse().unwrap(),
            previous: None,
            quorum: 3,
            coordinator: party(&coordinator),
            organizations: organizations.iter().map(|it| party(it)).collect(),
            operators: Vec::new(),
            coordinator_next: None,
            viewers: Vec::new(),
            plan_signers: Vec::new(),
            simulated: false,
        };
        let text = roster.to_text().unwrap();
        let pin = fingerprint(Document::Roster, &text);
        let roster = Roster::verify(&text, &sign(Document::Roster, &text), &pin).unwrap();
        let text = plan(&roster, epsilon).to_text().unwrap();
        let plan = Plan::verify(&text, &sign(Document::Plan, &text), &roster).unwrap();
        Self { coordinator, organizations, roster: Arc::new(roster), plan: Arc::new(plan) }
    }

    pub(super) fn announce(&self, round: u32, attempt: u32, state: &AdapterState) -> Announcement {
        let cohort = self.plan.whole_cohort();
        let (adapter, optimizer) = (state.adapter_digest(), state.optimizer_digest());
        Announcement { round, attempt, cohort, adapter, optimizer }
    }

    pub(super) fn sign(&self, announcement: &Announcement) -> Heard {
        Heard::Announcement(announcement.sign(&self.roster, &self.plan, self.coordinator.signing_key()))
    }

    /// A release of `values` on `state`, signed after `change`.
    pub(super) fn release(
        &self,
        round: u32,
        state: &mut AdapterState,
        value: u32,
        change: &dyn Fn(&mut wire::ReleaseHead),
    ) -> (wire::SignedReleaseHead, Vec<u8>) {
        let derived = self.plan.derived();
        let mut sum = Vec::new();
        ring::pack(derived.ring, &vec![value; derived.vector_len], &mut sum);
        let before = state.adapter_digest();
        apply_sum(&self.plan, state, &sum, 3).unwrap();
        let mut head = wire::ReleaseHead {
            plan_digest: self.plan.digest().0.to_vec(),
            round,
            attempt: 1,
            survivors: self.plan.cohort().iter().map(Id::to_string).collect(),
            sum_digest: Digest::of(&sum).0.to_vec(),
            sum_bytes: sum.len() as u64,
            adapter_before: before.0.to_vec(),
            adapter_after: state.adapter_digest().0.to_vec(),
            optimizer_after: state.optimizer_digest().0.to_vec(),
            evidence: Vec::new(),
        };
        change(&mut head);
        (sign_head(&head, &self.roster, self.coordinator.signing_key()), sum)
    }
}

fn plan(roster: &VerifiedRoster, epsilon: f64) -> Plan {
    let tensor = |name: &str, shape| Tensor { name: name.into(), shape, bound: 0.0, trained: true };
    let nothing = Digest([0; 32]);
    Plan {
        version: 1,
        job: "job".parse().unwrap(),
        roster: roster.digest(),
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
        cohort: Cohort { organizations: 3, colluders: 1, min_survivors: 3, allow_no_colluders: false },
        privacy: Privacy {
            unit: PrivacyUnit::Patient,
            note: String::new(),
            delta: 1e-5,
            epsilon,
            sampling_rate: 0.1,
            expected_lot: 30.0,
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
        evaluation: Evaluation { organization: name(ME), every_rounds: 2, max_examples: 10 },
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
            dropout: 0.0,
            local: Vec::new(),
            start: None,
            layers: None,
            seed: nothing,
            tensors: vec![tensor("head.bias", vec![2]), tensor("head.weight", vec![2, 3])],
        },
    }
}
