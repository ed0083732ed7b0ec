//! A consortium made of numbers: keys, roster and plan, signed and verified for real.

use std::sync::Arc;

use consilium_crypto::{digest::Digest, release::ARITHMETIC_VERSION};
use consilium_proto::{
    identity::Identity,
    ids::Id,
    plan::{
        Cohort, Encoding, Evaluation, Local, Optimizer, Plan, Privacy, PrivacyUnit, Retries, Task,
        VerifiedPlan,
    },
    roster::{DEPLOYED_COHORT, Party, Roster, VerifiedRoster},
    signed::{Kind, Signatures, fingerprint},
};
use jiff::civil::{Date, date};

use crate::{
    scenario::{Refused, Scenario},
    seeds::Seeds,
    task::{self, Study},
};

/// Who takes part, and in what.
pub struct Consortium {
    /// The coordinator's keys.
    pub coordinator: Arc<Identity>,
    /// The organizations' keys, in the cohort's order.
    pub organizations: Vec<Arc<Identity>>,
    /// The roster, signed by all.
    pub roster: Arc<VerifiedRoster>,
    /// The plan, signed by all.
    pub plan: Arc<VerifiedPlan>,
}

const VALID_UNTIL: Date = date(2120, 1, 1);

impl Consortium {
    /// Makes keys from the seed, and the documents that follow from the scenario.
    ///
    /// # Errors
    ///
    /// [`Refused`], when roster or plan would not be accepted.
    pub fn found(scenario: &Scenario, study: &Study) -> Result<Self, Refused> {
        let seeds = Seeds::new(scenario.seed);
        let identity =
            |id: Id, purpose, index| Identity::generate(id, seeds.bytes(purpose, index, 0)).map(Arc::new);
        let coordinator = identity(id("coordinator"), "coordinator-key", 0)?;
        let organizations = (0..scenario.organizations)
            .map(|index| identity(organization(index), "organization-key", index.into()))
            .collect::<Result<Vec<_>, _>>()?;
        let roster = Roster {
            version: 1,
            consortium: id("simulated"),
            previous: None,
            quorum: 2 * organizations.len() / 3 + 1,
            coordinator: party(&coordinator),
            organizations: organizations.iter().map(|identity| party(identity)).collect(),
            operators: Vec::new(),
            coordinator_next: None,
            viewers: Vec::new(),
            plan_signers: Vec::new(),
            simulated: scenario.organizations > u32::from(DEPLOYED_COHORT),
        };
        let text = roster.to_text()?;
        let signatures = sign(Kind::Roster, &text, &organizations);
        let roster = Arc::new(Roster::verify(&text, &signatures, &fingerprint(Kind::Roster, &text))?);
        let whose = Whose { roster: roster.digest(), job: id("simulation"), evaluator: organization(0) };
        let text = plan_for(scenario, study, whose)?.to_text()?;
        let signatures = sign(Kind::Plan, &text, &organizations);
        let plan = Arc::new(Plan::verify(&text, &signatures, &roster)?);
        Ok(Self { coordinator, organizations, roster, plan })
    }
}

/// The public half. The TLS key is drawn by the TLS library and is no part of a simulation, so a digest of the id stands
/// in for its digest: otherwise no two rosters would be equal.
fn party(identity: &Identity) -> Party {
    let tls_key = Digest::of(format!("no TLS in simulations: {}", identity.id).as_bytes());
    let signing_key = identity.signing_key().verifying_key();
    Party { id: identity.id.clone(), signing_key, tls_key, valid_until: VALID_UNTIL }
}

fn sign(kind: Kind, text: &str, organizations: &[Arc<Identity>]) -> Signatures {
    let mut signatures = Signatures::default();
    signatures.add_all(kind, text, organizations.iter().map(|it| (&it.id, it.signing_key())));
    signatures
}

/// The id of an organization, numbered from 0. Ids sort as their numbers do: beyond four digits a letter comes first.
pub fn organization(index: u32) -> Id {
    let number = index.saturating_add(1);
    id(&if number < 10_000 { format!("org-{number:04}") } else { format!("org-z{number:010}") })
}

fn id(text: &str) -> Id {
    // Unwrap safety: every caller passes lowercase letters, digits and '-'.
    #[allow(clippy::unwrap_used)]
    text.parse().unwrap()
}

/// What a plan says that does not follow from a scenario.
pub(crate) struct Whose {
    /// The roster's fingerprint.
    pub(crate) roster: Digest,
    /// The job's name.
    pub(crate) job: Id,
    /// Who evaluates on the public test set.
    pub(crate) evaluator: Id,
}

/// The plan of the scenario's numbers and of what its task says.
pub(crate) fn plan_for(scenario: &Scenario, study: &Study, whose: Whose) -> Result<Plan, Refused> {
    let seeds = Seeds::new(scenario.seed);
    let privacy = &scenario.privacy;
    let unit = privacy.unit;
    let (none, patients) =
        (unit == PrivacyUnit::None, matches!(unit, PrivacyUnit::Patient | PrivacyUnit::PatientLocal));
    // Of one patient's gradient, or of a delta of so many steps.
    let clip = if unit.sends_deltas() && !patients { f64::from(privacy.local_steps) } else { 1.0 };
    let clip = privacy.clip.unwrap_or(clip);
    let only = |holds: bool, value: f64| if holds { value } else { 0.0 };
    let (model, adapter) = task::no_model(seeds);
    let mut plan = Plan {
        version: 1,
        job: whose.job,
        roster: whose.roster,
        rounds: scenario.rounds,
        arithmetic: ARITHMETIC_VERSION,
        model,
        task: Task { labels: Vec::new(), max_records_per_patient: 1, ..Task::default() },
        cohort: Cohort {
            organizations: scenario.organizations,
            colluders: scenario.colluders(),
            min_survivors: scenario.min_survivors(),
            allow_no_colluders: scenario.colluders() == 0,
        },
        privacy: Privacy {
            unit,
            note: "simulated".into(),
            delta: only(!none, privacy.delta),
            epsilon: only(!none, privacy.epsilon),
            sampling_rate: study.rate,
            expected_lot: only(patients, privacy.lot * f64::from(scenario.organizations)),
            largest_lot: only(unit == PrivacyUnit::Patient, study.largest_lot),
            clip,
            noise_multiplier: only(!none, privacy.noise_multiplier),
            i_accept_no_privacy: none,
            local: None,
        },
        encoding: Encoding {
            scale: 1.0,
            ring_bits: 32,
            metrics_share: 0.05,
            loss_max: 10.0,
            rounding_beta: only(!none, 0.01),
        },
        optimizer: scenario.optimizer.clone().unwrap_or(match unit {
            PrivacyUnit::Patient => Optimizer::Sgd { learning_rate: 2.0 },
            _ => Optimizer::FedAvg { learning_rate: 1.0 },
        }),
        evaluation: Evaluation {
            organization: whose.evaluator,
            every_rounds: scenario.evaluation.every_rounds,
            max_examples: 1000,
        },
        deadlines: scenario.deadlines.of_plan(),
        retries: Retries { max_attempts: scenario.cohort.max_attempts, reserve: None },
        hours: Vec::new(),
        retention: None,
        data: Vec::new(),
        adapter,
    };
    plan.adapter.local = scenario.adapter.local.clone();
    study.task.describe(&mut plan);
    let parameters = dimension(&plan);
    plan.encoding.scale = scale(parameters, clip).max(fine(scenario, clip));
    plan.privacy.local = unit.sends_deltas().then(|| local(scenario, parameters));
    // The width follows from the noise, which follows from the rest.
    let derived = plan.derive()?;
    plan.encoding.ring_bits = derived.ring_needed.max(8);
    Ok(plan)
}

/// Trained parameters that are shared.
fn dimension(plan: &Plan) -> u32 {
    let elements = |shape: &[u32]| shape.iter().fold(1u32, |product, axis| product.saturating_mul(*axis));
    let trained = plan.adapter.shared().filter(|tensor| tensor.trained);
    trained.fold(0, |sum, tensor| sum.saturating_add(elements(&tensor.shape)))
}

/// The local steps. The finished delta's norm is what the steps' clipped gradients and their noise come to, with room.
fn local(scenario: &Scenario, parameters: u32) -> Local {
    let (steps, learning_rate) = (scenario.privacy.local_steps, scenario.privacy.local_rate);
    let proximal = scenario.privacy.proximal;
    if scenario.privacy.unit != PrivacyUnit::PatientLocal {
        return Local { steps, learning_rate, proximal, update_clip: None, update_scale: None };
    }
    let k = f64::from(steps);
    let noise = scenario.privacy.noise_multiplier * (k * f64::from(parameters)).sqrt() / scenario.privacy.lot;
    let update_clip = learning_rate * (k + 1.5 * noise);
    Local {
        steps,
        learning_rate,
        proximal,
        update_clip: Some(update_clip),
        update_scale: Some(scale(parameters, update_clip)),
    }
}

/// The power of two from `4·√h / (z·C)` on, with all organizations for `h`: one's share of the noise, `z·s·C/√h` or more, is then
/// above the 2.5 ring units below which a sum of shares is not accounted for.
fn fine(scenario: &Scenario, clip: f64) -> f64 {
    let privacy = &scenario.privacy;
    if matches!(privacy.unit, PrivacyUnit::None | PrivacyUnit::PatientLocal) {
        return 1.0;
    }
    let least = 4.0 * f64::from(scenario.organizations).sqrt() / (privacy.noise_multiplier * clip);
    let mut scale = 1.0;
    while scale < least && scale < 1e9 {
        scale *= 2.0;
    }
    scale
}

/// The power of two from `4·√d / C` on, at which rounding raises the sensitivity by about one percent.
fn scale(parameters: u32, clip: f64) -> f64 {
    let least = 4.0 * f64::from(parameters).sqrt() / clip;
    let mut scale = 1.0;
    while scale < least {
        scale *= 2.0;
    }
    scale
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn found(scenario: &Scenario) -> Consortium {
        Consortium::found(scenario, &Study::new(scenario, Path::new("")).unwrap()).unwrap()
    }

    #[test]
    fn the_same_numbers_give_the_same_documents() {
        let scenario = Scenario::new(5, 2);
        let (one, two) = (found(&scenario), found(&scenario));
        assert_eq!(one.roster.digest(), two.roster.digest());
        assert_eq!(one.plan.digest(), two.plan.digest());
        let other = found(&Scenario { seed: 2, ..scenario });
        assert_ne!(one.roster.digest(), other.roster.digest());
    }

    #[test]
    fn organizations_are_in_the_order_of_the_cohort() {
        let consortium = found(&Scenario::new(12, 1));
        let ids: Vec<_> = consortium.organizations.iter().map(|identity| identity.id.clone()).collect();
        assert_eq!(ids, consortium.plan.cohort());
        let ids: Vec<_> = (0..20_000).map(organization).collect();
        assert!(ids.is_sorted_by(|one, next| one < next));
    }
}
