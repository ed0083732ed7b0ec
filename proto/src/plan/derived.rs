//! What follows from a plan's numbers, checked with the arithmetic shown.

use std::collections::BTreeSet;

use consilium_crypto::{
    encoding,
    privacy::{Composition, PrivacyError, Step},
    release::{self, Init, Manifest, TensorSpec},
    ring::RingWidth,
    secagg::Params,
};

use crate::roster::DEPLOYED_COHORT;

use super::{
    Hours, Optimizer, Plan, PlanError, PrivacyUnit, Tensor, common_window,
    hours::DAY,
    learning, rule,
    sections::turn,
    units::{self, Mechanisms, Noise},
};

/// Numbers and checked types that follow from a plan; the same for everyone.
#[derive(Clone, Debug)]
pub struct Derived {
    /// The adapter's tensors.
    pub manifest: Manifest,
    /// The server optimizer.
    pub optimizer: release::Optimizer,
    /// How one patient's gradient (one organization's delta, in `organization` and `none`) becomes ring values; its integer
    /// bound is the sensitivity `Δ`.
    pub encoding: encoding::Encoding,
    /// How what an organization sends becomes ring values: the same, but for `patient-local`, where it is the finished
    /// delta.
    pub update: encoding::Encoding,
    /// Clamp of each coordinate that one organization sends, before its noise, ring units.
    pub clamp: i64,
    /// The narrowest ring that holds the sum, bits, before the ring's own minimum.
    pub ring_needed: u32,
    /// The ring.
    pub ring: RingWidth,
    /// The aggregation protocol's parameters.
    pub parameters: Params,
    /// Quorum of votes and Shamir threshold, `r = ⌊(n + t_c)/2⌋ + 1`.
    pub threshold: u32,
    /// Honest contributors guaranteed, `h = m_min − max(t_c, 1)`.
    pub honest: u32,
    /// Scale of the noise that the guarantee against the coordinator counts on, ring units: `σ = √((z·Δ)² + 2.5²)`, so that
    /// the effective multiplier after smoothing is the plan's `z`. 0 in `none`.
    pub sigma: f64,
    /// Scale of the noise that each organization draws, ring units: `σ_i = σ/√h`, and `σ` itself in `patient-local`.
    pub sigma_share: f64,
    /// Scale of the noise of one organization's two metric coordinates in the sum, ring units.
    pub metrics_sigma: f64,
    /// What one attempt releases, as the accountant sees it; `None` for the unit `none`, which has no guarantee.
    pub mechanisms: Option<Mechanisms>,
    /// Length of an encoded update: trained coordinates and metrics.
    pub vector_len: usize,
}

impl Derived {
    pub(super) fn new(plan: &Plan) -> Result<Self, PlanError> {
        ranges(plan)?;
        learning::check(plan)?;
        window(plan)?;
        let (threshold, honest) = cohort(plan)?;
        let manifest = manifest(plan)?;
        let optimizer = optimizer(plan)?;
        let e = &plan.encoding;
        let dimension = u32::try_from(manifest.dimension()).unwrap_or(u32::MAX);
        let (encoding, update) = units::encodings(plan, dimension)?;
        let Noise { sigma, sigma_share, mechanisms } = Noise::new(plan, &encoding, honest)?;
        let (clamp, sent_sigma) = units::sent(plan, &encoding, &update, sigma_share)?;
        let n = plan.cohort.organizations;
        let needed =
            update.ring_width_for(n, clamp, sent_sigma).map_err(|error| broken("encoding", &error))?;
        rule(e.ring_bits >= needed, "encoding.ring_bits", &e.ring_bits, || {
            format!(
                "a sum could wrap: w = ⌊log₂ 2(n·B + k·√n·σ_i)⌋ + 1 = {needed} bits are needed, with n = {n}, \
                 B = {}{clamp}, σ_i = {sent_sigma:.1}",
                match plan.privacy.unit {
                    PrivacyUnit::Patient => format!(
                        "⌊Δ·(L + 9√L)⌋ with Δ = {:.1} and L = {}, ",
                        encoding.integer_bound(),
                        plan.privacy.largest_lot
                    ),
                    _ => String::new(),
                }
            )
        })?;
        let ring = RingWidth::new(e.ring_bits).map_err(|error| broken("encoding.ring_bits", &error))?;
        let vector_len = update.vector_len();
        let small = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
        let c = &plan.cohort;
        let parameters = Params::new(
            small(n),
            small(c.colluders),
            small(c.min_survivors),
            ring,
            dimension.saturating_add(2),
        )
        .map_err(|error| broken("cohort", &error))?;
        Ok(Self {
            manifest,
            optimizer,
            encoding,
            update,
            clamp,
            ring_needed: needed,
            ring,
            parameters,
            threshold,
            honest,
            sigma,
            sigma_share,
            metrics_sigma: units::metrics_sigma(plan, &encoding, &update, sigma_share),
            mechanisms,
            vector_len,
        })
    }
}

/// What a number of attempts costs, at the plan's δ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guarantees {
    /// ε against the coordinator together with the tolerated colluders; infinite where there is no guarantee.
    pub central: f64,
    /// ε against everybody else together; infinite where there is no guarantee.
    pub local: f64,
    /// δ of both.
    pub delta: f64,
}

impl Guarantees {
    /// No guarantee at all.
    pub const NONE: Self = Self { central: f64::INFINITY, local: f64::INFINITY, delta: 0.0 };
}

impl Derived {
    /// The two guarantees after `attempts` attempts from which a byte left. A fraction of a second; keep the result. For
    /// the unit `none`, [`Guarantees::NONE`].
    ///
    /// # Errors
    ///
    /// When the accountant cannot bound the loss: too many attempts for so little noise.
    pub fn guarantees(&self, attempts: u64, delta: f64) -> Result<Guarantees, PrivacyError> {
        let Some(mechanisms) = &self.mechanisms else { return Ok(Guarantees::NONE) };
        let epsilon = |step: Step| {
            let mut all = Composition::new();
            all.push(step)?;
            if attempts == 0 { Ok(0.0) } else { all.epsilon(delta) }
        };
        let (central, local) = mechanisms.attempts(attempts);
        Ok(Guarantees { central: epsilon(central)?, local: epsilon(local)?, delta })
    }
}

pub(super) fn broken(field: &'static str, error: &dyn std::error::Error) -> PlanError {
    PlanError::Rule { field, value: "not usable".into(), rule: error.to_string() }
}

fn ranges(plan: &Plan) -> Result<(), PlanError> {
    let within = |field, value: u32, low: u32, high: u32| {
        rule((low..=high).contains(&value), field, &value, || format!("it must be {low} to {high}"))
    };
    within("rounds", plan.rounds, 1, 100_000)?;
    within("model.max_tokens", plan.model.max_tokens, 4, 4096)?;
    within("task.max_records_per_patient", plan.task.max_records_per_patient, 1, 10_000)?;
    within("evaluation.every_rounds", plan.evaluation.every_rounds, 1, 100_000)?;
    within("evaluation.max_examples", plan.evaluation.max_examples, 1, 1_000_000)?;
    within("retries.max_attempts", plan.retries.max_attempts, 1, 16)?;
    let d = &plan.deadlines;
    for (field, seconds) in [
        ("deadlines.wait_s", d.wait_s),
        ("deadlines.advertise_s", d.advertise_s),
        ("deadlines.share_s", d.share_s),
        ("deadlines.input_s", d.input_s),
        ("deadlines.vote_s", d.vote_s),
        ("deadlines.unmask_s", d.unmask_s),
    ] {
        within(field, seconds, 1, 604_800)?;
    }
    within("deadlines.grace_s", d.grace_s, 0, 3600)?;
    within("deadlines.upload_grace_s", d.upload_grace_s.unwrap_or(d.grace_s), d.grace_s, 604_800)?;
    let mut declared = BTreeSet::new();
    for data in &plan.data {
        let plain = |text: &str| text.chars().count() <= 1000 && !text.chars().any(char::is_control);
        let fits = !data.description.is_empty() && plain(&data.description) && plain(&data.basis);
        rule(fits, "data", &data.organization, || {
            "its description must have 1 to 1,000 characters and its basis at most as many, on one line each"
                .into()
        })?;
        rule(declared.insert(&data.organization), "data", &data.organization, || {
            "it is declared twice; put both into one description".into()
        })?;
    }
    if let Some(retention) = &plan.retention {
        within("retention.masked_inputs_h", retention.masked_inputs_h, 1, 87_600)?;
    }
    let p = &plan.privacy;
    let positive = |x: f64| x.is_finite() && x > 0.0;
    let above = |field, value: f64| rule(positive(value), field, &value, || "it must be above 0".into());
    above("privacy.clip", p.clip)?;
    rule(p.sampling_rate > 0.0 && p.sampling_rate <= 1.0, "privacy.sampling_rate", &p.sampling_rate, || {
        "it must be above 0 and at most 1".into()
    })?;
    units::check(plan)
}

impl Plan {
    /// Minutes that one attempt may take, every step to its deadline; rounded up.
    pub(super) fn attempt_minutes(&self) -> u16 {
        let d = &self.deadlines;
        let seconds: u64 =
            [d.advertise_s, d.share_s, d.input_s, d.vote_s, d.unmask_s].iter().map(|&s| u64::from(s)).sum();
        u16::try_from(seconds.div_ceil(60)).unwrap_or(u16::MAX)
    }
}

/// Declared hours leave a window in which an attempt fits.
fn window(plan: &Plan) -> Result<(), PlanError> {
    let declared = || plan.hours.iter().map(Hours::to_string).collect::<Vec<_>>().join(", ");
    let empty = plan.hours.iter().find(|hours| hours.length() == 0);
    rule(empty.is_none(), "hours", &empty.map_or(String::new(), Hours::to_string), || {
        "from and to are the same minute; for the whole day write from \"00:00\" to \"24:00\"".into()
    })?;
    let needed = plan.attempt_minutes();
    let common = common_window(&plan.hours);
    let enough = common.is_some_and(|window| window.minutes >= needed.min(DAY));
    rule(plan.hours.is_empty() || enough, "hours", &declared(), || {
        let shared = match common {
            None => "the organizations share not a minute".to_owned(),
            Some(window) => {
                format!("the longest window that all share is {window}, {} minutes", window.minutes)
            }
        };
        format!(
            "{shared}; one attempt may take {needed} (advertise_s + share_s + input_s + vote_s + unmask_s): widen somebody's \
             hours or shorten deadlines"
        )
    })
}

fn cohort(plan: &Plan) -> Result<(u32, u32), PlanError> {
    let c = &plan.cohort;
    let (n, t_c, m_min) = (c.organizations, c.colluders, c.min_survivors);
    // Of those that are not simulated the roster allows fewer.
    rule((3..=u32::from(Params::MAX_COHORT)).contains(&n), "cohort.organizations", &n, || {
        format!("it must be 3 to {DEPLOYED_COHORT}, or to {} in a simulation", Params::MAX_COHORT)
    })?;
    rule(t_c > 0 || c.allow_no_colluders, "cohort.colluders", &t_c, || {
        "0 means that no member may share what it knows with the coordinator; \
         if that is meant, write allow_no_colluders = true"
            .into()
    })?;
    let threshold = n.saturating_add(t_c) / 2 + 1;
    rule(threshold <= n, "cohort.colluders", &t_c, || {
        format!(
            "r = ⌊(n + t_c)/2⌋ + 1 = {threshold} votes are more than the {n} members; at most {} fit",
            n.saturating_sub(2)
        )
    })?;
    rule((threshold..=n).contains(&m_min), "cohort.min_survivors", &m_min, || {
        format!("it must be r = ⌊({n} + {t_c})/2⌋ + 1 = {threshold} to n = {n}")
    })?;
    let honest = m_min.saturating_sub(t_c.max(1));
    rule(honest >= 2, "cohort.min_survivors", &m_min, || {
        format!(
            "h = m_min − max(t_c, 1) = {m_min} − {} = {honest} honest contributors are guaranteed; at least 2 are needed: \
             raise it",
            t_c.max(1)
        )
    })?;
    Ok((threshold, honest))
}

/// The manifest's entries for the plan's.
pub(super) fn listed<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Vec<TensorSpec> {
    tensors
        .map(|tensor| TensorSpec {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            init: if tensor.bound == 0.0 { Init::Zeros } else { Init::Uniform { bound: tensor.bound } },
            trained: tensor.trained,
        })
        .collect()
}

/// Of what is shared: that alone is summed, released and compared.
fn manifest(plan: &Plan) -> Result<Manifest, PlanError> {
    let tensors = listed(plan.adapter.shared());
    rule((1..=4096).contains(&plan.adapter.rank), "adapter.rank", &plan.adapter.rank, || {
        "it must be 1 to 4096".into()
    })?;
    let alpha = plan.adapter.alpha;
    rule(alpha.is_finite() && alpha > 0.0, "adapter.alpha", &alpha, || "it must be above 0".into())?;
    let manifest = Manifest::new(tensors).map_err(|error| broken("adapter.tensor", &error))?;
    let mode = plan.adapter.mode;
    Ok(manifest.in_turns(|tensor| turn(mode, &tensor.name)))
}

fn optimizer(plan: &Plan) -> Result<release::Optimizer, PlanError> {
    let optimizer = match plan.optimizer {
        Optimizer::Adam { learning_rate, beta1, beta2, epsilon } => {
            release::Optimizer::Adam { learning_rate, beta1, beta2, epsilon }
        }
        Optimizer::Sgd { learning_rate } => release::Optimizer::Sgd { learning_rate },
        Optimizer::FedAvg { learning_rate } => release::Optimizer::FedAvg { learning_rate },
        Optimizer::FedAvgM { learning_rate, momentum } => {
            release::Optimizer::FedAvgM { learning_rate, momentum }
        }
    };
    optimizer.check().map_err(|error| broken("optimizer", &error))?;
    Ok(optimizer)
}
