//! A plan of three organizations, signed by all of them, in the unit `patient`: what a trainer outside the process is opened with.

use consilium_proto::{
    identity::Identity,
    plan::{
        Adapter, Cohort, Deadlines, Encoding, Evaluation, Model, Optimizer, Plan, Privacy, PrivacyUnit,
        Retries, Task, VerifiedPlan,
    },
    roster::Roster,
    signed::{Kind, Signatures, fingerprint},
};
use jiff::civil::date;

use super::Failure;

/// What differs between plans here.
pub(super) struct About {
    pub(super) model: Model,
    pub(super) task: Task,
    pub(super) adapter: Adapter,
}

/// For lots of `lot` patients at each organization, clipped to norm 1 and rounded in steps of `1/scale`; and its text.
pub(super) fn signed_plan(about: About, lot: f64, scale: f64) -> Result<(VerifiedPlan, String), Failure> {
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
    let plan = Plan {
        version: 1,
        job: "parity".parse()?,
        roster: pin,
        rounds: 10,
        arithmetic: 1,
        model: about.model,
        task: about.task,
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
        encoding: Encoding { scale, ring_bits: 28, metrics_share: 0.05, loss_max: 7.0, rounding_beta: 0.01 },
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
        adapter: about.adapter,
    };
    let text = plan.to_text()?;
    Ok((Plan::verify(&text, &sign(Kind::Plan, &text), &roster)?, text))
}
