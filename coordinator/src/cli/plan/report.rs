//! The numbers that follow from a plan.

use std::fmt;

use consilium_crypto::{digest::Digest, privacy::Composition};
use consilium_proto::plan::{Derived, Mechanisms, Plan, PrivacyUnit, common_window};
use serde::Serialize;

use crate::cli::{
    Failure,
    paint::NO_PRIVACY,
    table::{bytes, epsilon},
};

/// What `plan check` prints. Symbols are those of the manual.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    job: String,
    fingerprint: String,
    rounds: u32,
    max_attempts: u32,
    /// Attempts beyond one a round that the budget is kept for, and what they would cost against the coordinator.
    reserve: u64,
    epsilon_reserve: f64,
    /// `n`.
    organizations: u32,
    /// `t_c`.
    colluders: u32,
    /// `r`: votes, and shares, that a sum needs.
    quorum: u32,
    /// `m_min`.
    min_survivors: u32,
    /// `h`: honest contributors guaranteed.
    honest: u32,
    /// `d`: trained coordinates.
    dimension: usize,
    /// Of the adapter, frozen ones included.
    parameters: usize,
    /// `Δ`, ring units.
    sensitivity: f64,
    /// `s`, ring units per unit of gradient.
    scale: f64,
    /// `σ`, ring units.
    sigma: f64,
    /// `σ_i`, ring units.
    sigma_share: f64,
    /// Effective multiplier against the coordinator with the tolerated colluders.
    noise_multiplier: f64,
    /// Effective multiplier of one organization's own noise.
    noise_multiplier_local: f64,
    /// `w`.
    ring_bits: u32,
    /// Of one masked input.
    upload_bytes: usize,
    upload_bytes_per_parameter: f64,
    privacy_unit: PrivacyUnit,
    /// Local steps of an organization in a round; 0: one step a round, together.
    local_steps: u32,
    note: String,
    delta: f64,
    /// The plan's budget; infinite (`null`) without one.
    epsilon_budget: f64,
    /// Against the coordinator with the tolerated colluders, after all rounds of one attempt each. Infinite (`null`) where
    /// nothing bounds it.
    epsilon: f64,
    /// Against everybody else together.
    epsilon_local: f64,
    /// Attempts that the budget pays for, at most `rounds · max_attempts`.
    attempts_in_budget: u64,
    /// Window that all declared hours share.
    common_hours: Option<String>,
    warnings: Vec<String>,
}

impl Report {
    pub(super) fn new(plan: &Plan, derived: &Derived, digest: Digest) -> Result<Self, Failure> {
        let p = &plan.privacy;
        let accountant =
            |e: consilium_crypto::privacy::PrivacyError| Failure::Refused(format!("the accountant: {e}"));
        let spent = derived.guarantees(plan.rounds.into(), p.delta).map_err(accountant)?;
        let reserve = plan.retries.reserve(plan.rounds);
        let with_reserve =
            derived.guarantees(u64::from(plan.rounds) + reserve, p.delta).map_err(accountant)?;
        // Without a guarantee both are infinite, and their difference is nothing.
        let epsilon_reserve =
            if spent.central.is_finite() { with_reserve.central - spent.central } else { 0.0 };
        let most = u64::from(plan.rounds) * u64::from(plan.retries.max_attempts);
        let attempts_in_budget = match &derived.mechanisms {
            None => most,
            Some(one) => {
                let steps = most.saturating_mul(one.steps);
                let fit = Composition::new().remaining(one.central.steps(1), p.epsilon, p.delta, steps);
                fit.map_err(accountant)? / one.steps
            }
        };
        let multiplier = |pick: fn(&Mechanisms) -> f64| derived.mechanisms.as_ref().map_or(0.0, pick);
        let upload_bytes = derived.ring.packed_len(derived.vector_len);
        let dimension = derived.manifest.dimension();
        let mut warnings = Vec::new();
        if plan.cohort.colluders == 0 {
            warnings.push(
                "t_c = 0: any member that shares what it knows with the coordinator opens updates".to_owned(),
            );
        }
        let rounding = 4.0 * (dimension as f64).sqrt();
        if plan.encoding.scale * p.clip < rounding {
            warnings.push(format!(
                "encoding.scale · privacy.clip = {:.0} is below 4·√d = {rounding:.0}: rounding costs more than 1 % of the noise",
                plan.encoding.scale * p.clip
            ));
        }
        Ok(Self {
            job: plan.job.to_string(),
            fingerprint: digest.to_string(),
            rounds: plan.rounds,
            max_attempts: plan.retries.max_attempts,
            reserve,
            epsilon_reserve,
            organizations: plan.cohort.organizations,
            colluders: plan.cohort.colluders,
            quorum: derived.threshold,
            min_survivors: plan.cohort.min_survivors,
            honest: derived.honest,
            dimension,
            parameters: derived.manifest.parameters(),
            sensitivity: derived.encoding.integer_bound(),
            scale: plan.encoding.scale,
            sigma: derived.sigma,
            sigma_share: derived.sigma_share,
            noise_multiplier: multiplier(|it| it.central.noise_multiplier()),
            noise_multiplier_local: multiplier(|it| it.local.noise_multiplier()),
            ring_bits: derived.ring.bits(),
            upload_bytes,
            upload_bytes_per_parameter: upload_bytes as f64 / dimension as f64,
            privacy_unit: p.unit,
            local_steps: p.local.as_ref().map_or(0, |local| local.steps),
            note: p.note.clone(),
            delta: p.delta,
            epsilon_budget: if p.unit == PrivacyUnit::None { f64::INFINITY } else { p.epsilon },
            epsilon: spent.central,
            epsilon_local: spent.local,
            attempts_in_budget,
            common_hours: common_window(&plan.hours)
                .filter(|_| !plan.hours.is_empty())
                .map(|window| window.to_string()),
            warnings,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { organizations: n, colluders: t, quorum: r, min_survivors: m, honest: h, .. } = self;
        writeln!(f, "job {}, fingerprint {}", self.job, self.fingerprint)?;
        writeln!(f, "{} rounds of at most {} attempts", self.rounds, self.max_attempts)?;
        writeln!(f)?;
        writeln!(f, "organizations            n      {n}")?;
        writeln!(f, "colluders tolerated      t_c    {t}")?;
        writeln!(f, "votes and shares needed  r      {r}")?;
        writeln!(f, "silent members tolerated n − r  {}", n.saturating_sub(*r))?;
        writeln!(f, "fewest survivors         m_min  {m}")?;
        writeln!(f, "honest contributors      h      {h}")?;
        writeln!(
            f,
            "trained coordinates      d      {} of {} in the adapter",
            self.dimension, self.parameters
        )?;
        writeln!(f, "scale                    s      {}", self.scale)?;
        writeln!(f, "sensitivity              Δ      {:.2} ring units", self.sensitivity)?;
        let alone = self.privacy_unit == PrivacyUnit::PatientLocal;
        let whose = if alone { "of one alone" } else { "of h together" };
        writeln!(f, "noise {whose:<19}σ      {:.2} ring units", self.sigma)?;
        writeln!(f, "noise of each            σ_i    {:.2} ring units", self.sigma_share)?;
        writeln!(
            f,
            "noise multiplier         z      {:.4} (own noise alone {:.4})",
            self.noise_multiplier, self.noise_multiplier_local
        )?;
        if self.local_steps > 0 {
            writeln!(f, "local steps, a round            {}", self.local_steps)?;
        }
        writeln!(f, "ring                     w      {} bits", self.ring_bits)?;
        let per = self.upload_bytes_per_parameter;
        writeln!(
            f,
            "upload of each, a round         {} bytes ({}), {per:.2} a trained parameter",
            self.upload_bytes,
            bytes(self.upload_bytes as u64)
        )?;
        writeln!(f)?;
        if self.privacy_unit == PrivacyUnit::None {
            writeln!(f, "{NO_PRIVACY}: protects {}", self.privacy_unit.protects())?;
        } else {
            let whom = self.privacy_unit.protects();
            writeln!(f, "protects {whom}; after all rounds, at δ = {:e}:", self.delta)?;
        }
        if !self.note.is_empty() {
            writeln!(f, "  ({})", self.note)?;
        }
        writeln!(f, "  ε = {}  against the coordinator with {t} colluding members", epsilon(self.epsilon))?;
        writeln!(f, "  ε = {}  against everybody else together", epsilon(self.epsilon_local))?;
        if self.privacy_unit != PrivacyUnit::None {
            let needed = u64::from(self.rounds) + self.reserve;
            writeln!(
                f,
                "  budget ε = {}: pays for {} attempts; {needed} are the rounds and a reserve of {} for retries, ε = {}",
                self.epsilon_budget,
                self.attempts_in_budget,
                self.reserve,
                epsilon(self.epsilon_reserve)
            )?;
        }
        if let Some(window) = &self.common_hours {
            writeln!(f, "all take part {window}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "WARNING: {warning}")?;
        }
        Ok(())
    }
}
