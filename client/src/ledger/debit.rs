//! One entry: what one attempt spends.

use consilium_crypto::{
    digest::{Digest, Transcript},
    privacy::{Mechanism, MechanismParams, PrivacyError},
};
use consilium_proto::{
    ids::Id,
    plan::{PrivacyUnit, VerifiedPlan},
};
use serde::{Deserialize, Serialize};

use super::LedgerRefusal;

/// How far a recorded multiplier may be from its recomputation, relatively: rounding of different versions, no more.
const TOLERANCE: f64 = 1e-9;

/// One attempt's spend, with everything that a recomputation needs. The journal holds it as one line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debit {
    /// The job.
    pub job: Id,
    /// Fingerprint of its plan, 64 hexadecimal digits.
    pub plan: String,
    /// The round, from 1.
    pub round: u32,
    /// The attempt within the round, from 1.
    pub attempt: u32,
    /// Whose participation is hidden.
    pub unit: PrivacyUnit,
    /// Noisy steps that the attempt releases: the plan's local steps for `patient-local`, 1 for the others.
    pub steps: u64,
    /// Poisson sampling rate `q` of the lot; 1 for `organization`. This and all numbers below are 0 for `none`.
    pub sampling_rate: f64,
    /// Effective noise multiplier `z_eff` against the coordinator and the tolerated colluders.
    pub noise_multiplier: f64,
    /// Effective noise multiplier against everybody else together: this organization's share alone.
    pub local_multiplier: f64,
    /// Scale `σ_i` of one organization's share of noise, ring units.
    pub sigma_share: f64,
    /// How many shares the coordinator and its colluders do not know: the plan's `h`.
    pub shares: u32,
    /// Sensitivity `Δ`, ring units.
    pub sensitivity: f64,
    /// Coordinates of the encoded vector, metrics included.
    pub dimension: u64,
    /// The plan's `δ`.
    pub delta: f64,
}

impl Debit {
    /// What `attempt` of `round` under `plan` spends.
    pub fn of(plan: &VerifiedPlan, round: u32, attempt: u32) -> Self {
        let (document, derived) = (plan.document(), plan.derived());
        let unprotected = Self {
            job: document.job.clone(),
            plan: plan.digest().to_string(),
            round,
            attempt,
            unit: document.privacy.unit,
            steps: 1,
            sampling_rate: 0.0,
            noise_multiplier: 0.0,
            local_multiplier: 0.0,
            sigma_share: 0.0,
            shares: 0,
            sensitivity: 0.0,
            dimension: 0,
            delta: 0.0,
        };
        let Some(mechanisms) = &derived.mechanisms else { return unprotected };
        let params = mechanisms.central.params();
        Self {
            steps: mechanisms.steps,
            sampling_rate: params.sampling_rate,
            noise_multiplier: mechanisms.central.noise_multiplier(),
            local_multiplier: mechanisms.local.noise_multiplier(),
            sigma_share: params.sigma_i,
            shares: params.shares,
            sensitivity: params.sensitivity,
            dimension: params.dimension,
            delta: document.privacy.delta,
            ..unprotected
        }
    }

    /// The mechanism of one step as the coordinator with the tolerated colluders sees it, and as everybody else together does;
    /// `None` for the unit `none`.
    pub(super) fn mechanisms(&self) -> Result<Option<(Mechanism, Mechanism)>, PrivacyError> {
        self.mechanisms_with(self.sensitivity)
    }

    /// The same as one patient is protected by them, which is the unit that all jobs of a data set have in common. Under
    /// `organization` one patient can turn the contribution into any other within the clip: twice as far as from it to zero.
    pub(super) fn mechanisms_for_a_patient(&self) -> Result<Option<(Mechanism, Mechanism)>, PrivacyError> {
        let farther = if self.unit == PrivacyUnit::Organization { 2.0 } else { 1.0 };
        self.mechanisms_with(farther * self.sensitivity)
    }

    fn mechanisms_with(&self, sensitivity: f64) -> Result<Option<(Mechanism, Mechanism)>, PrivacyError> {
        if self.unit == PrivacyUnit::None {
            return Ok(None);
        }
        let seen_by = |shares| {
            Mechanism::new(MechanismParams {
                sampling_rate: self.sampling_rate,
                sigma_i: self.sigma_share,
                shares,
                sensitivity,
                dimension: self.dimension,
            })
        };
        Ok(Some((seen_by(self.shares)?, seen_by(1)?)))
    }

    /// Checks that the entry means something and that its multipliers follow from its scales.
    pub(super) fn check(&self) -> Result<(), LedgerRefusal> {
        let refuse = |field, value: &dyn ToString, problem: &str| {
            Err(LedgerRefusal::Malformed { field, value: value.to_string(), problem: problem.to_owned() })
        };
        if self.plan.parse::<Digest>().is_err() {
            return refuse("plan", &self.plan, "it must be 64 lowercase hexadecimal digits");
        }
        for (field, value) in [("round", self.round), ("attempt", self.attempt)] {
            if value == 0 {
                return refuse(field, &value, "it counts from 1");
            }
        }
        if self.steps == 0 || self.steps > 1_000_000 {
            return refuse("steps", &self.steps, "it must be 1 to 1000000");
        }
        let Some((central, local)) = self.mechanisms()? else { return self.check_unprotected() };
        if !(self.delta > 0.0 && self.delta < 1.0) {
            return refuse("delta", &self.delta, "it must be above 0 and below 1");
        }
        for (field, recorded, computed) in [
            ("noise_multiplier", self.noise_multiplier, central.noise_multiplier()),
            ("local_multiplier", self.local_multiplier, local.noise_multiplier()),
        ] {
            let near = (recorded - computed).abs() <= TOLERANCE * computed;
            if !near {
                return refuse(field, &recorded, &format!("its scales and sensitivity give {computed}"));
            }
        }
        Ok(())
    }

    /// Of an attempt that promises nothing, no number may look as if it did.
    fn check_unprotected(&self) -> Result<(), LedgerRefusal> {
        for (field, value) in [
            ("sampling_rate", self.sampling_rate),
            ("noise_multiplier", self.noise_multiplier),
            ("local_multiplier", self.local_multiplier),
            ("sigma_share", self.sigma_share),
            ("shares", self.shares.into()),
            ("sensitivity", self.sensitivity),
            ("dimension", self.dimension as f64),
            ("delta", self.delta),
        ] {
            if value != 0.0 {
                let problem = "it must be 0 for the unit none, which adds no noise".to_owned();
                return Err(LedgerRefusal::Malformed { field, value: value.to_string(), problem });
            }
        }
        Ok(())
    }

    /// Which attempt this is.
    pub(super) fn key(&self) -> (String, u32, u32) {
        (self.plan.clone(), self.round, self.attempt)
    }

    /// The ledger's head after this entry.
    pub(super) fn head_after(&self, previous: &Digest) -> Digest {
        let transcript = Transcript::new("consilium/1/ledger-entry")
            .digest(previous)
            .bytes(self.job.as_str().as_bytes())
            .bytes(self.plan.as_bytes())
            .u64(self.round.into())
            .u64(self.attempt.into())
            .bytes(self.unit.name().as_bytes())
            .u64(self.steps)
            .u64(self.shares.into())
            .u64(self.dimension);
        [
            self.sampling_rate,
            self.noise_multiplier,
            self.local_multiplier,
            self.sigma_share,
            self.sensitivity,
            self.delta,
        ]
        .into_iter()
        .fold(transcript, |transcript, number| transcript.u64(number.to_bits()))
        .finish()
    }
}
