//! Where an adapter comes from, for those who are handed one: a manifest in plain JSON, and the same facts as a CycloneDX
//! machine-learning bill of materials (ECMA-424, version 1.6).
//!
//! Both are functions of verified facts, so an auditor computes them again and compares. Everything in them is public.

use consilium_crypto::digest::{Digest, Transcript};
use serde_json::{Value, json};

use crate::{
    ids::Id,
    plan::{Guarantees, PrivacyUnit, TaskKind, VerifiedPlan},
    roster::VerifiedRoster,
};

/// The manifest's name beside an adapter.
pub const MANIFEST: &str = "manifest.json";
/// The bill of materials' name beside it.
pub const BILL: &str = "mlbom.cdx.json";

/// What is known of an adapter when it is handed on.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Who belonged.
    pub roster: &'a VerifiedRoster,
    /// What was done.
    pub plan: &'a VerifiedPlan,
    /// The round after which the adapter stands; 0: it is the start.
    pub round: u32,
    /// Rounds with a published sum, this one included.
    pub releases: u32,
    /// Attempts debited.
    pub attempts: u64,
    /// What they cost.
    pub spent: Guarantees,
    /// Whose view that is.
    pub view: String,
    /// The adapter.
    pub adapter: Digest,
    /// The optimizer's state beside it.
    pub optimizer: Digest,
    /// In how many sums each organization is, where that is known.
    pub organizations: Vec<(Id, Option<u32>)>,
    /// What was run: a name and a version each.
    pub software: Vec<(String, String)>,
    /// The signed log behind it: its entries and the hash of the last; none where it is not at hand.
    pub log: Option<(u64, Digest)>,
}

impl Facts<'_> {
    /// The manifest.
    pub fn manifest(&self) -> Value {
        let plan = self.plan.document();
        let declared = plan.data.iter().map(|data| {
            json!({
                "organization": data.organization.as_str(),
                "description": data.description,
                "basis": data.basis,
            })
        });
        let organizations = self.organizations.iter().map(|(id, sums)| match sums {
            Some(sums) => json!({ "id": id.as_str(), "in_sums": sums }),
            None => json!({ "id": id.as_str() }),
        });
        let software =
            self.software.iter().map(|(name, version)| json!({ "name": name, "version": version }));
        json!({
            "format": "consilium adapter manifest 1",
            "consortium": self.roster.document().consortium.as_str(),
            "job": plan.job.as_str(),
            "roster": { "version": self.roster.version(), "digest": self.roster.digest().to_string() },
            "plan": self.plan.digest().to_string(),
            "round": self.round,
            "rounds_planned": plan.rounds,
            "releases": self.releases,
            "adapter": self.adapter.to_string(),
            "optimizer": self.optimizer.to_string(),
            "base_model": {
                "name": plan.model.name,
                "config": plan.model.config.to_string(),
                "tokenizer": plan.model.tokenizer.to_string(),
                "weights": plan.model.weights.to_string(),
            },
            "organizations": organizations.collect::<Vec<_>>(),
            "data": declared.collect::<Vec<_>>(),
            "privacy": self.privacy(),
            "software": software.collect::<Vec<_>>(),
            "log": self.log.map(|(entries, head)| json!({ "entries": entries, "head": head.to_string() })),
        })
    }

    /// Infinite ε is `null`: JSON has no such number, and nothing bounds it.
    fn privacy(&self) -> Value {
        let privacy = &self.plan.document().privacy;
        json!({
            "view": self.view,
            "unit": privacy.unit.to_string(),
            "protects": privacy.unit.protects(),
            "note": privacy.note,
            "epsilon": self.spent.central,
            "epsilon_local": self.spent.local,
            "delta": self.spent.delta,
            "attempts": self.attempts,
            "budget": privacy.epsilon,
            "sampling_rate": privacy.sampling_rate,
            "noise_multiplier": privacy.noise_multiplier,
        })
    }

    /// The bill of materials. Its serial number follows from plan, round and adapter, so the same adapter has the same bill.
    pub fn bill(&self) -> Value {
        let plan = self.plan.document();
        let hash = |digest: &Digest| json!([{ "alg": "SHA-256", "content": digest.to_string() }]);
        let (base, adapter) =
            (format!("base-model:{}", plan.model.weights), format!("adapter:{}", self.adapter));
        let mut components = vec![json!({
            "type": "machine-learning-model",
            "bom-ref": base,
            "name": plan.model.name,
            "hashes": hash(&plan.model.weights),
            "properties": [
                { "name": "consilium:config", "value": plan.model.config.to_string() },
                { "name": "consilium:tokenizer", "value": plan.model.tokenizer.to_string() },
            ],
        })];
        let mut used = vec![base.clone()];
        let mut sets = Vec::new();
        for data in &plan.data {
            let name = format!("data:{}", data.organization);
            components.push(json!({
                "type": "data",
                "bom-ref": name,
                "name": data.organization.as_str(),
                "description": data.description,
                "data": [{
                    "type": "dataset",
                    "name": data.organization.as_str(),
                    "description": data.description,
                    "sensitiveData": [plan.privacy.unit.protects()],
                    "governance": { "owners": [{ "organization": { "name": data.organization.as_str() } }] },
                }],
                "properties": [{ "name": "consilium:basis", "value": data.basis }],
            }));
            sets.push(json!({ "ref": name }));
            used.push(name);
        }
        for (name, version) in &self.software {
            let reference = format!("software:{name}:{version}");
            components.push(json!({
                "type": "application", "bom-ref": reference, "name": name, "version": version,
            }));
            used.push(reference);
        }
        let organizations: Vec<_> = self.organizations.iter().map(|(id, _)| id.as_str()).collect();
        json!({
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": self.serial(),
            "version": 1,
            "metadata": {
                "component": {
                    "type": "machine-learning-model",
                    "bom-ref": adapter,
                    "group": self.roster.document().consortium.as_str(),
                    "name": plan.job.as_str(),
                    "version": format!("round-{}", self.round),
                    "hashes": hash(&self.adapter),
                    "modelCard": {
                        "modelParameters": {
                            "approach": { "type": "supervised" },
                            "task": match plan.task.kind {
                                TaskKind::NextToken => "text-generation",
                                TaskKind::SingleLabel | TaskKind::MultiLabel => "text-classification",
                            },
                            "architectureFamily": "transformer with LoRA",
                            "modelArchitecture": plan.model.name,
                            "datasets": sets,
                        },
                        "considerations": {
                            "technicalLimitations": [
                                "An organization may have trained on data that are not as declared: nobody else sees them.",
                            ],
                            "ethicalConsiderations": [{
                                "name": "privacy",
                                "mitigationStrategy": self.strategy(),
                            }],
                        },
                    },
                    "properties": [
                        { "name": "consilium:plan", "value": self.plan.digest().to_string() },
                        { "name": "consilium:roster", "value": self.roster.digest().to_string() },
                        { "name": "consilium:organizations", "value": organizations.join(" ") },
                        { "name": "consilium:releases", "value": self.releases.to_string() },
                        { "name": "consilium:optimizer", "value": self.optimizer.to_string() },
                    ],
                },
            },
            "components": components,
            "dependencies": [{ "ref": adapter, "dependsOn": used }],
        })
    }

    fn strategy(&self) -> String {
        let privacy = &self.plan.document().privacy;
        if privacy.unit == PrivacyUnit::None {
            return "None: the plan adds no noise, and the adapter protects nobody's data.".into();
        }
        format!(
            "Differential privacy, unit {} ({}), after {} attempts: epsilon {:.4} against the coordinator and its colluders, {:.4} \
             against everybody else together, delta {:e}.",
            privacy.unit,
            privacy.unit.protects(),
            self.attempts,
            self.spent.central,
            self.spent.local,
            self.spent.delta
        )
    }

    /// A UUID of version 8 (RFC 9562): 122 bits of a digest.
    fn serial(&self) -> String {
        let digest = Transcript::new("consilium/1/bill-of-materials")
            .digest(&self.plan.digest())
            .u64(self.round.into())
            .digest(&self.adapter)
            .finish();
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(&digest.0).for_each(|(to, from)| *to = *from);
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let hex = hex::encode(bytes);
        format!(
            "urn:uuid:{}-{}-{}-{}-{}",
            hex.get(..8).unwrap_or_default(),
            hex.get(8..12).unwrap_or_default(),
            hex.get(12..16).unwrap_or_default(),
            hex.get(16..20).unwrap_or_default(),
            hex.get(20..).unwrap_or_default()
        )
    }
}
