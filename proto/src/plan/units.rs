//! What the privacy unit makes of a plan: which fields mean something, how much noise there is and who knows it.
//!
//! | unit | a step's sensitivity `Δ` bounds | noise in a sum | accounted, a round |
//! |---|---|---|---|
//! | `patient` | one patient's gradient | `h` shares of `σ/√h` | one step at rate `q` |
//! | `patient-local` | one patient's gradient | `σ` in every local step | `steps` steps at rate `q`, own noise alone |
//! | `organization` | one organization's delta | `h` shares of `σ/√h` | one step at rate 1 |
//! | `none` | nothing | none | nothing: `ε` is none |

use std::fmt;

use consilium_crypto::{
    encoding::{self, EncodingParams},
    noise,
    privacy::{Mechanism, MechanismParams, Step},
};

use super::{Local, Optimizer, Plan, PlanError, PrivacyUnit, derived::broken, rule};

/// Smallest scale of one organization's noise, ring units, below which a sum of discrete Gaussians is no longer within
/// 10⁻¹⁸ of one (Kairouz, Liu, Steinke 2021).
const MIN_SIGMA: f64 = 2.5;

/// `β` where nothing is rounded at random and the number is not looked at.
const NO_BETA: f64 = 0.01;

impl PrivacyUnit {
    /// The word in a plan.
    pub fn name(self) -> &'static str {
        match self {
            Self::Patient => "patient",
            Self::PatientLocal => "patient-local",
            Self::Organization => "organization",
            Self::None => "none",
        }
    }

    /// Whether organizations train by themselves and send a change of weights, not a gradient.
    pub fn sends_deltas(self) -> bool {
        self != Self::Patient
    }

    /// Whom the guarantee protects, for people.
    pub fn protects(self) -> &'static str {
        match self {
            Self::Patient => "one patient",
            Self::PatientLocal => "one patient, even if every other party colludes",
            Self::Organization => "one organization's whole contribution",
            Self::None => "NOBODY: no noise is added, ε is none",
        }
    }
}

impl fmt::Display for PrivacyUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One attempt, as the two kinds of adversary see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mechanisms {
    /// One noisy step as the coordinator with `t_c` colluders sees it: the noise of `h` survivors is unknown to them, or, in
    /// `patient-local`, that of one.
    pub central: Mechanism,
    /// One noisy step as everybody else together sees it: one organization's own noise alone.
    pub local: Mechanism,
    /// Noisy steps in an attempt: the local steps in `patient-local`, else 1.
    pub steps: u64,
}

impl Mechanisms {
    /// What so many attempts cost: against the coordinator with its colluders, and against everybody else together.
    pub fn attempts(&self, count: u64) -> (Step, Step) {
        let steps = count.saturating_mul(self.steps);
        (self.central.steps(steps), self.local.steps(steps))
    }
}

/// Refuses fields that the unit does not have, and asks for those that it needs.
pub(super) fn check(plan: &Plan) -> Result<(), PlanError> {
    let (p, unit) = (&plan.privacy, plan.privacy.unit);
    let none = unit == PrivacyUnit::None;
    let deltas = unit.sends_deltas();
    rule(p.i_accept_no_privacy == none, "privacy.i_accept_no_privacy", &p.i_accept_no_privacy, || {
        if none {
            "unit = \"none\" protects nobody; if that is meant, write i_accept_no_privacy = true".into()
        } else {
            format!("it means nothing for unit = \"{unit}\": leave it out")
        }
    })?;
    let numbers = [
        ("privacy.delta", p.delta, !none),
        ("privacy.epsilon", p.epsilon, !none),
        ("privacy.noise_multiplier", p.noise_multiplier, !none),
        (
            "privacy.expected_lot",
            p.expected_lot,
            matches!(unit, PrivacyUnit::Patient | PrivacyUnit::PatientLocal),
        ),
        ("privacy.largest_lot", p.largest_lot, !deltas),
        ("encoding.rounding_beta", plan.encoding.rounding_beta, !none),
    ];
    for (field, value, meant) in numbers {
        if meant {
            rule(value.is_finite() && value > 0.0, field, &value, || {
                format!("it must be above 0 for unit = \"{unit}\"")
            })?;
        } else {
            rule(value == 0.0, field, &value, || {
                format!("it means nothing for unit = \"{unit}\": leave it out")
            })?;
        }
    }
    if none {
        return check_rest(plan);
    }
    let (whose, many) = match unit {
        PrivacyUnit::Organization => ("the cohort has", f64::from(plan.cohort.organizations)),
        _ => ("expected_lot / sampling_rate makes", p.expected_lot / p.sampling_rate),
    };
    let units = if unit == PrivacyUnit::Organization { "organizations" } else { "patients" };
    rule(p.delta < 0.01 && p.delta < 1.0 / many, "privacy.delta", &p.delta, || {
        format!("{whose} {many:.0} {units}; delta must be below {:.1e}", (1.0 / many).min(0.01))
    })?;
    check_rest(plan)
}

fn check_rest(plan: &Plan) -> Result<(), PlanError> {
    let unit = plan.privacy.unit;
    let kind = match plan.optimizer {
        Optimizer::Adam { .. } => "adam",
        Optimizer::Sgd { .. } => "sgd",
        Optimizer::FedAvg { .. } => "fedavg",
        Optimizer::FedAvgM { .. } => "fedavgm",
    };
    let others: &[&str] = if unit.sends_deltas() { &["sgd"] } else { &["fedavg", "fedavgm"] };
    rule(!others.contains(&kind), "optimizer.kind", &kind, || {
        let (what, instead) = if unit.sends_deltas() {
            ("deltas", "\"fedavg\", \"fedavgm\"")
        } else {
            ("gradients", "\"sgd\"")
        };
        format!("organizations send {what} for unit = \"{unit}\": write {instead} or \"adam\"")
    })?;
    let Some(local) = &plan.privacy.local else {
        return rule(!unit.sends_deltas(), "privacy.local", &"absent", || {
            format!("unit = \"{unit}\" trains locally: write [privacy.local] with steps and learning_rate")
        });
    };
    rule(unit.sends_deltas(), "privacy.local", &"given", || {
        "unit = \"patient\" takes one step a round, together: leave it out".into()
    })?;
    let Local { steps, learning_rate, proximal, update_clip, update_scale } = local;
    rule((1..=10_000).contains(steps), "privacy.local.steps", steps, || "it must be 1 to 10000".into())?;
    rule(
        learning_rate.is_finite() && *learning_rate > 0.0,
        "privacy.local.learning_rate",
        learning_rate,
        || "it must be above 0".into(),
    )?;
    rule(proximal.is_finite() && *proximal >= 0.0, "privacy.local.proximal", proximal, || {
        "it must be above 0, or absent".into()
    })?;
    rule(*proximal == 0.0 || *steps > 1, "privacy.local.proximal", proximal, || {
        "one local step begins where the round does, and the proximal term is zero there: take more steps, or leave it out".into()
    })?;
    // Beyond it a step throws the weights further past w₀ than they were from it.
    let pull = proximal * learning_rate;
    rule(pull < 2.0, "privacy.local.proximal", proximal, || {
        format!(
            "proximal · learning_rate = {proximal} · {learning_rate} = {pull} must be below 2, or local steps run away from the start"
        )
    })?;
    for (field, value) in
        [("privacy.local.update_clip", update_clip), ("privacy.local.update_scale", update_scale)]
    {
        let shown = value.map_or("absent".to_owned(), |value| value.to_string());
        if unit == PrivacyUnit::PatientLocal {
            rule(value.is_some_and(|value| value.is_finite() && value > 0.0), field, &shown, || {
                "it must be above 0 for unit = \"patient-local\"".into()
            })?;
        } else {
            rule(value.is_none(), field, &shown, || {
                format!("it means nothing for unit = \"{unit}\": leave it out")
            })?;
        }
    }
    Ok(())
}

/// How the protected unit's vector, and what is sent, become ring values.
pub(super) fn encodings(
    plan: &Plan,
    dimension: u32,
) -> Result<(encoding::Encoding, encoding::Encoding), PlanError> {
    let (p, e) = (&plan.privacy, &plan.encoding);
    let params = EncodingParams {
        dimension,
        clip: p.clip,
        scale: e.scale,
        metrics_share: e.metrics_share,
        loss_max: e.loss_max,
        beta: if p.unit == PrivacyUnit::None { NO_BETA } else { e.rounding_beta },
    };
    let one = encoding::Encoding::new(params).map_err(|error| broken("encoding", &error))?;
    let sent = match &p.local {
        Some(Local { update_clip: Some(clip), update_scale: Some(scale), .. }) => {
            encoding::Encoding::new(EncodingParams { clip: *clip, scale: *scale, ..params })
                .map_err(|error| broken("privacy.local", &error))?
        }
        _ => one,
    };
    Ok((one, sent))
}

/// The noise of a unit.
pub(super) struct Noise {
    /// That the guarantee against the coordinator counts on, ring units; 0 in `none`.
    pub(super) sigma: f64,
    /// Of one organization, ring units.
    pub(super) sigma_share: f64,
    pub(super) mechanisms: Option<Mechanisms>,
}

impl Noise {
    /// `encoding` is the protected unit's, `honest` the plan's `h`.
    pub(super) fn new(plan: &Plan, encoding: &encoding::Encoding, honest: u32) -> Result<Self, PlanError> {
        let (p, unit) = (&plan.privacy, plan.privacy.unit);
        if unit == PrivacyUnit::None {
            return Ok(Self { sigma: 0.0, sigma_share: 0.0, mechanisms: None });
        }
        let (shares, sampling_rate, steps) = match unit {
            PrivacyUnit::Patient => (honest, p.sampling_rate, 1),
            PrivacyUnit::PatientLocal => {
                (1, p.sampling_rate, p.local.as_ref().map_or(1, |local| local.steps.into()))
            }
            PrivacyUnit::Organization | PrivacyUnit::None => (honest, 1.0, 1),
        };
        let bound = encoding.integer_bound();
        let target = p.noise_multiplier * bound;
        let sigma = (target * target + MIN_SIGMA * MIN_SIGMA).sqrt();
        let sigma_share = sigma / f64::from(shares).sqrt();
        let scale = plan.encoding.scale;
        rule(sigma_share > MIN_SIGMA, "privacy.noise_multiplier", &p.noise_multiplier, || {
            format!(
                "one organization's noise has scale σ_i = √((z·Δ)² + 2.5²)/√h = {sigma_share:.3} with Δ = {bound:.1}, \
                 h = {shares}; it must be above {MIN_SIGMA}: raise encoding.scale to {}",
                scale * 4.0
            )
        })?;
        rule(sigma_share <= noise::MAX_SIGMA, "encoding.scale", &scale, || {
            format!(
                "one organization's noise has scale σ_i = {sigma_share:.0} ring units with Δ = {bound:.0}, and the sampler \
                 goes to 2²⁰: lower the scale"
            )
        })?;
        let mechanism = |shares| {
            Mechanism::new(MechanismParams {
                sampling_rate,
                sigma_i: sigma_share,
                shares,
                sensitivity: bound,
                dimension: encoding.vector_len() as u64,
            })
            .map_err(|error| broken("privacy", &error))
        };
        let mechanisms = Mechanisms { central: mechanism(shares)?, local: mechanism(1)?, steps };
        Ok(Self { sigma, sigma_share, mechanisms: Some(mechanisms) })
    }
}

/// Clamp of one organization's coordinates, and the scale of its noise in what it sends.
pub(super) fn sent(
    plan: &Plan,
    one: &encoding::Encoding,
    sent: &encoding::Encoding,
    sigma_share: f64,
) -> Result<(i64, f64), PlanError> {
    Ok(match plan.privacy.unit {
        PrivacyUnit::Patient => {
            let clamp = one.clamp(plan.privacy.largest_lot).map_err(|error| broken("encoding", &error))?;
            (clamp, sigma_share)
        }
        PrivacyUnit::Organization => (one.clamp_of_one(), sigma_share),
        PrivacyUnit::PatientLocal | PrivacyUnit::None => (sent.delta_clamp(), 0.0),
    })
}

/// Scale of the noise that one organization's metrics carry in what it sends, ring units.
pub(super) fn metrics_sigma(
    plan: &Plan,
    one: &encoding::Encoding,
    sent: &encoding::Encoding,
    sigma_share: f64,
) -> f64 {
    let Some(local) = plan.privacy.local.as_ref().filter(|_| plan.privacy.unit == PrivacyUnit::PatientLocal)
    else {
        return sigma_share;
    };
    // A step's noisy metrics are divided by the expected lot, averaged over the steps, and scaled anew.
    let lot = plan.privacy.expected_lot / f64::from(plan.cohort.organizations);
    let unit = |encoding: &encoding::Encoding| encoding.params().scale * encoding.params().clip;
    sigma_share / (unit(one) * lot) / f64::from(local.steps).sqrt() * unit(sent)
}
