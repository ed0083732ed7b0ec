//! From a template to a plan: what follows from roster and model, and what was left out.

use consilium_crypto::{
    digest::Digest, privacy::noise_multiplier, release::ARITHMETIC_VERSION, ring::RingWidth,
};
use consilium_proto::{
    plan::{
        Adapter, AdapterMode, Cohort, Deadlines, Encoding, Evaluation, Model, Plan, Pooling, Privacy,
        PrivacyUnit, Retries, TargetModules, Task, TaskKind, attempts_to_pay,
    },
    roster::Roster,
};
use rand::TryRng as _;

use super::{AdapterPart, CohortPart, DeadlinesPart, EncodingPart, PrivacyPart, Template};
use crate::cli::plan::{
    model::{Model as Folder, Targets},
    refusal::Refusal,
    start,
};

impl Template {
    /// The plan that this template means for a roster and a model, and the file that its adapter goes on from.
    pub(in crate::cli::plan) fn fill(
        self,
        roster: &Roster,
        roster_digest: Digest,
        model: &Folder,
    ) -> Result<(Plan, Option<Vec<u8>>), String> {
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
        let from = self.adapter.start.clone();
        let mut adapter = self.adapter.fill(model, &labels)?;
        let start = match from {
            Some(from) => Some(start::file(&from, &adapter, &model.weights).map_err(|e| e.to_string())?),
            None => None,
        };
        adapter.start = start.as_deref().map(Digest::of);
        let retries =
            Retries { max_attempts: self.retries.max_attempts.unwrap_or(2), reserve: self.retries.reserve };
        let mut privacy = self.privacy.fill(attempts_to_pay(self.rounds, &retries))?;
        let trained = adapter.shared().filter(|tensor| tensor.trained);
        let dimension = trained.map(|t| t.shape.iter().map(|&axis| f64::from(axis)).product::<f64>()).sum();
        fill_local(&mut privacy, dimension, cohort.organizations);
        let beta = self.encoding.rounding_beta;
        let kind = self.task.kind;
        let loss_max = kind.loss_max(labels.len());
        let (mut encoding, narrowest) = self.encoding.fill(dimension, privacy.clip, loss_max);
        let pooling = match (self.model.pooling, kind) {
            (Some(pooling), _) => pooling,
            (None, TaskKind::NextToken) => Pooling::None,
            (None, _) => return Err("model.pooling is missing: \"mean\" or \"cls\"".into()),
        };
        if privacy.unit == PrivacyUnit::None {
            // Nothing is rounded at random; one that is given is the plan's to refuse.
            encoding.rounding_beta = beta.unwrap_or(0.0);
        }
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
                pooling,
                max_tokens: self.model.max_tokens,
            },
            task: Task {
                kind,
                labels,
                class_weights: self.task.class_weights,
                max_records_per_patient: self.task.max_records_per_patient,
            },
            cohort,
            privacy,
            encoding,
            optimizer: self.optimizer,
            evaluation: Evaluation {
                organization: self.evaluation.organization,
                every_rounds: self.evaluation.every_rounds.unwrap_or(5),
                max_examples: self.evaluation.max_examples.unwrap_or(1000),
            },
            deadlines: self.deadlines.fill(),
            retries,
            hours: self.hours,
            retention: self.retention,
            data: self.data,
            adapter,
        };
        let derived = plan.derive().map_err(|e| Refusal::new(&plan, &e).to_string())?;
        if narrowest {
            plan.encoding.ring_bits = derived.ring_needed.max(RingWidth::MIN);
        }
        Ok((plan, start))
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
        let unit = self.unit.unwrap_or(PrivacyUnit::Patient);
        // What is left out and needed is refused by the plan, with the unit's name.
        let (epsilon, delta) = (self.epsilon.unwrap_or(0.0), self.delta.unwrap_or(0.0));
        let noise_multiplier = match self.noise_multiplier {
            Some(z) => z,
            None if unit == PrivacyUnit::None || self.epsilon.is_none() || self.delta.is_none() => 0.0,
            None => {
                let (rate, steps) = match unit {
                    PrivacyUnit::PatientLocal => (
                        self.sampling_rate,
                        attempts * u64::from(self.local.as_ref().map_or(1, |local| local.steps)),
                    ),
                    PrivacyUnit::Organization => (1.0, attempts),
                    PrivacyUnit::Patient | PrivacyUnit::None => (self.sampling_rate, attempts),
                };
                noise_multiplier(epsilon, delta, rate, steps).map_err(|e| format!("privacy: {e}"))?
            }
        };
        Ok(Privacy {
            unit,
            note: self.note,
            delta,
            epsilon,
            sampling_rate: self.sampling_rate,
            expected_lot: self.expected_lot.unwrap_or(0.0),
            largest_lot: self.largest_lot.unwrap_or(0.0),
            clip: self.clip.unwrap_or(1.0),
            noise_multiplier,
            i_accept_no_privacy: self.i_accept_no_privacy,
            local: self.local,
        })
    }
}

/// What `patient-local` needs and a template may leave out: room for the finished delta (its steps' clipped gradients at an
/// organization twice the mean, and their noise), and a scale at which rounding is far below that noise.
fn fill_local(privacy: &mut Privacy, dimension: f64, organizations: u32) {
    if privacy.unit != PrivacyUnit::PatientLocal {
        return;
    }
    let lot = privacy.expected_lot / f64::from(organizations);
    let (z, clip) = (privacy.noise_multiplier, privacy.clip);
    let Some(local) = &mut privacy.local else { return };
    let steps = f64::from(local.steps);
    // Of one coordinate of the delta.
    let noise = local.learning_rate * steps.sqrt() * z * clip / lot;
    let moved = local.learning_rate * steps * 2.0 * clip;
    local.update_clip.get_or_insert(moved + 1.5 * noise * dimension.sqrt());
    local.update_scale.get_or_insert_with(|| (16.0 / noise).log2().ceil().exp2());
}

impl EncodingPart {
    /// And whether the ring is to be the narrowest that fits.
    pub(super) fn fill(self, dimension: f64, clip: f64, loss_max: f64) -> (Encoding, bool) {
        let least = 4.0 * dimension.sqrt() / clip;
        let encoding = Encoding {
            scale: self.scale.unwrap_or_else(|| least.log2().ceil().exp2()),
            ring_bits: self.ring_bits.unwrap_or(RingWidth::MAX),
            metrics_share: self.metrics_share.unwrap_or(0.05),
            loss_max: self.loss_max.unwrap_or(loss_max),
            rounding_beta: self.rounding_beta.unwrap_or(0.01),
        };
        (encoding, self.ring_bits.is_none())
    }
}

impl DeadlinesPart {
    pub(super) fn fill(self) -> Deadlines {
        let grace_s = self.grace_s.unwrap_or(10);
        Deadlines {
            wait_s: self.wait_s.unwrap_or(600),
            advertise_s: self.advertise_s.unwrap_or(30),
            share_s: self.share_s.unwrap_or(30),
            input_s: self.input_s.unwrap_or(600),
            vote_s: self.vote_s.unwrap_or(30),
            unmask_s: self.unmask_s.unwrap_or(30),
            grace_s,
            // Minutes without a line cost nobody the ε that is spent already.
            upload_grace_s: Some(self.upload_grace_s.unwrap_or(600.max(grace_s))),
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
        let mode = self.mode.unwrap_or(AdapterMode::Ffa);
        if !self.tensors.is_empty() {
            let (mut tensors, rslora) = (self.tensors, self.rslora);
            let modules = self.rank.is_some() || self.alpha.is_some() || self.target_modules.is_some();
            if modules || rslora || self.layers.is_some() || self.dropout != 0.0 {
                return Err(
                    "adapter: give either [[adapter.tensor]] or rank, alpha and target_modules".into()
                );
            }
            tensors.sort_by(|a, b| a.name.cmp(&b.name));
            return Ok(Adapter {
                mode,
                local: self.local,
                // Numbers of modules that it has not.
                rank: 1,
                alpha: 1.0,
                rslora,
                target_modules: TargetModules::default(),
                layers: None,
                dropout: 0.0,
                seed,
                start: None,
                tensors,
            });
        }
        let missing =
            |field| format!("adapter.{field} is missing; give it, or list every [[adapter.tensor]]");
        let rank = self.rank.ok_or_else(|| missing("rank"))?;
        let alpha = self.alpha.ok_or_else(|| missing("alpha"))?;
        let target_modules = self.target_modules.ok_or_else(|| missing("target_modules"))?;
        let tensors = model.adapter(&Targets {
            rank,
            modules: &target_modules,
            layers: self.layers.as_deref(),
            labels: u32::try_from(labels.len()).unwrap_or(u32::MAX),
            mode,
        })?;
        let (rslora, layers, dropout) = (self.rslora, self.layers, self.dropout);
        Ok(Adapter {
            mode,
            rank,
            alpha,
            rslora,
            target_modules,
            layers,
            dropout,
            seed,
            start: None,
            local: self.local,
            tensors,
        })
    }
}
