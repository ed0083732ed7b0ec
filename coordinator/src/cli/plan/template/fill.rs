//! From a template to a plan: what follows from roster and model, and what was left out.

use consilium_crypto::{
    digest::Digest, privacy::noise_multiplier, release::ARITHMETIC_VERSION, ring::RingWidth,
};
use consilium_proto::{
    plan::{
        Adapter, AdapterMode, Cohort, Deadlines, Encoding, Evaluation, Model, Plan, Privacy, PrivacyUnit,
        Retries, Task, attempts_to_pay,
    },
    roster::Roster,
};
use rand::TryRng as _;

use super::{AdapterPart, CohortPart, DeadlinesPart, EncodingPart, PrivacyPart, Template};
use crate::cli::plan::{
    model::{Model as Folder, Targets},
    refusal::Refusal,
};

impl Template {
    /// The plan that this template means for a roster and a model.
    pub(in crate::cli::plan) fn fill(
        self,
        roster: &Roster,
        roster_digest: Digest,
        model: &Folder,
    ) -> Result<Plan, String> {
        let cohort = self.cohort.fill(roster)?;
        if roster.organizations.iter().all(|party| party.id != self.evaluation.organization) {
            return Err(format!(
                "evaluation.organization: {} is not an organization of the roster",
                self.evaluation.organization
            ));
        }
        if let Some(strange) = self
            .hours
            .iter()
            .find(|hours| roster.organizations.iter().all(|party| party.id != hours.organization))
        {
            return Err(format!("hours: {} is not an organization of the roster", strange.organization));
        }
        let labels = self.task.labels.unwrap_or_default();
        let adapter = self.adapter.fill(model, &labels)?;
        let retries = Retries { max_attempts: self.retries.max_attempts.unwrap_or(2) };
        let privacy = self.privacy.fill(attempts_to_pay(self.rounds, retries.max_attempts))?;
        let trained = adapter.tensors.iter().filter(|tensor| tensor.trained);
        let dimension = trained.map(|t| t.shape.iter().map(|&axis| f64::from(axis)).product::<f64>()).sum();
        let encoding = self.encoding.fill(dimension, privacy.clip, labels.len());
        let narrowest = encoding.1;
        let mut plan = Plan {
            version: 1,
            job: self.job,
            roster: roster_digest,
            rounds: self.rounds,
            arithmetic: ARITHMETIC_VERSION,
            model: Model {
                name: self.model.name,
                config: model.config,
                tokenizer: model.tokenizer,
                weights: model.weights,
                pooling: self.model.pooling,
                max_tokens: self.model.max_tokens,
            },
            task: Task { labels, max_records_per_patient: self.task.max_records_per_patient },
            cohort,
            privacy,
            encoding: encoding.0,
            optimizer: self.optimizer,
            evaluation: Evaluation {
                organization: self.evaluation.organization,
                every_rounds: self.evaluation.every_rounds.unwrap_or(5),
                max_examples: self.evaluation.max_examples.unwrap_or(1000),
            },
            deadlines: self.deadlines.fill(),
            retries,
            hours: self.hours,
            adapter,
        };
        let derived = plan.derive().map_err(|e| Refusal::new(&plan, &e).to_string())?;
        if narrowest {
            let needed = derived
                .encoding
                .ring_width(plan.cohort.organizations, plan.privacy.largest_lot, derived.sigma_share)
                .map_err(|e| e.to_string())?;
            plan.encoding.ring_bits = needed.max(RingWidth::MIN);
        }
        Ok(plan)
    }
}

impl CohortPart {
    pub(super) fn fill(self, roster: &Roster) -> Result<Cohort, String> {
        let listed = u32::try_from(roster.organizations.len()).unwrap_or(u32::MAX);
        let n = self.organizations.unwrap_or(listed);
        if n != listed {
            return Err(format!(
                "cohort.organizations is {n}; the roster lists {listed}, and all are invited"
            ));
        }
        let t_c = self.colluders.unwrap_or((n.saturating_sub(1) / 3).max(1));
        // With few organizations the quorum alone does not leave two honest contributors.
        let quorum = n.saturating_add(t_c) / 2 + 1;
        let least = quorum.max(t_c.max(1).saturating_add(2)).min(n);
        Ok(Cohort {
            organizations: n,
            colluders: t_c,
            min_survivors: self.min_survivors.unwrap_or(least),
            allow_no_colluders: self.allow_no_colluders,
        })
    }
}

impl PrivacyPart {
    /// With noise, where the template leaves it out, for that many attempts.
    pub(super) fn fill(self, attempts: u64) -> Result<Privacy, String> {
        let noise_multiplier = match self.noise_multiplier {
            Some(z) => z,
            None => noise_multiplier(self.epsilon, self.delta, self.sampling_rate, attempts)
                .map_err(|e| format!("privacy: {e}"))?,
        };
        Ok(Privacy {
            unit: self.unit.unwrap_or(PrivacyUnit::Patient),
            note: self.note,
            delta: self.delta,
            epsilon: self.epsilon,
            sampling_rate: self.sampling_rate,
            expected_lot: self.expected_lot,
            largest_lot: self.largest_lot,
            clip: self.clip.unwrap_or(1.0),
            noise_multiplier,
        })
    }
}

impl EncodingPart {
    /// And whether the ring is to be the narrowest that fits.
    pub(super) fn fill(self, dimension: f64, clip: f64, labels: usize) -> (Encoding, bool) {
        let least = 4.0 * dimension.sqrt() / clip;
        let encoding = Encoding {
            scale: self.scale.unwrap_or_else(|| least.log2().ceil().exp2()),
            ring_bits: self.ring_bits.unwrap_or(RingWidth::MAX),
            metrics_share: self.metrics_share.unwrap_or(0.05),
            loss_max: self.loss_max.unwrap_or_else(|| (2.0 * (labels.max(2) as f64).ln()).ceil()),
            rounding_beta: self.rounding_beta.unwrap_or(0.01),
        };
        (encoding, self.ring_bits.is_none())
    }
}

impl DeadlinesPart {
    pub(super) fn fill(self) -> Deadlines {
        Deadlines {
            wait_s: self.wait_s.unwrap_or(600),
            advertise_s: self.advertise_s.unwrap_or(30),
            share_s: self.share_s.unwrap_or(30),
            input_s: self.input_s.unwrap_or(600),
            vote_s: self.vote_s.unwrap_or(30),
            unmask_s: self.unmask_s.unwrap_or(30),
            grace_s: self.grace_s.unwrap_or(10),
        }
    }
}

impl AdapterPart {
    pub(super) fn fill(self, model: &Folder, labels: &[String]) -> Result<Adapter, String> {
        let seed = match self.seed {
            Some(text) => text.parse().map_err(|e| format!("adapter.seed: {e}"))?,
            None => {
                let mut seed = [0; 32];
                rand::rngs::SysRng
                    .try_fill_bytes(&mut seed)
                    .map_err(|e| format!("the operating system gives no random bytes: {e}"))?;
                Digest(seed)
            }
        };
        let tensors = model.adapter(&Targets {
            rank: self.rank,
            modules: &self.target_modules,
            layers: self.layers.as_deref(),
            labels: u32::try_from(labels.len()).unwrap_or(u32::MAX),
        })?;
        Ok(Adapter {
            mode: self.mode.unwrap_or(AdapterMode::Ffa),
            rank: self.rank,
            alpha: self.alpha,
            rslora: self.rslora,
            target_modules: self.target_modules,
            layers: self.layers,
            seed,
            tensors,
        })
    }
}
