//! The job plan: everything that is fixed for a job, in one signed text.
//!
//! A plan is signed by a quorum of the roster or by the plan signers it names, never by the coordinator. Whatever a
//! round does must follow from it; what does not is refused by every client.

mod check;
#[cfg(test)]
mod check_tests;
mod derived;
mod hours;
mod learning;
#[cfg(test)]
mod learning_tests;
mod repair;
mod sections;
#[cfg(test)]
mod signature_tests;
mod start;
mod targets;
#[cfg(test)]
mod tests;
mod units;

use std::{collections::BTreeMap, sync::Arc};

use consilium_crypto::{digest::Digest, release::ARITHMETIC_VERSION};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use check::attempts_to_pay;
pub use derived::{Derived, Guarantees};
pub use hours::{Hours, TimeOfDay, Window, common_window};
pub use repair::{Change, Proposal};
pub use sections::{
    Adapter, AdapterMode, Cohort, DataDeclaration, Deadlines, Encoding, Evaluation, Local, Model, Optimizer,
    Pooling, Privacy, PrivacyUnit, Retention, Retries, Task, TaskKind, Tensor,
};
pub use start::MAX_START_BYTES;
pub use targets::{Matcher, TargetModules};
pub use units::Mechanisms;

use crate::{
    ids::Id,
    known::Known,
    roster::VerifiedRoster,
    signed::{Kind, MAX_DOCUMENT_BYTES, SignatureError, Signatures, fingerprint},
    text,
};

/// The plan's text, parsed. Nothing about it is believed yet; [`Plan::verify`] makes it so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of this document's format: 1.
    pub version: u32,
    /// Name of the job.
    pub job: Id,
    /// Fingerprint of the version of the roster that the job runs under.
    #[serde(with = "text::digest")]
    pub roster: Digest,
    /// Rounds, each of which spends privacy.
    pub rounds: u32,
    /// Recipe of the deterministic release: 1.
    pub arithmetic: u32,
    /// The frozen base model.
    pub model: Model,
    /// What is learned.
    pub task: Task,
    /// Who takes part.
    pub cohort: Cohort,
    /// Whose privacy, and how much.
    pub privacy: Privacy,
    /// How gradients become ring values.
    pub encoding: Encoding,
    /// What the mean does to the adapter.
    pub optimizer: Optimizer,
    /// Who evaluates.
    pub evaluation: Evaluation,
    /// How long each step may take.
    pub deadlines: Deadlines,
    /// How often a round may be tried.
    pub retries: Retries,
    /// When organizations take part, where they say so; checked for a window in common.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hours: Vec<Hours>,
    /// How long masked inputs are kept; absent: they go with the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// What organizations declare about their data, where they do; at most one each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<DataDeclaration>,
    /// Which tensors are trained.
    pub adapter: Adapter,
}

/// Why a plan was refused.
#[derive(Debug, Error)]
pub enum PlanError {
    /// Not TOML of this shape.
    #[error("the plan does not parse: {0}")]
    Parse(#[from] toml::de::Error),
    /// Larger than [`MAX_DOCUMENT_BYTES`].
    #[error("the plan has {0} bytes; at most {MAX_DOCUMENT_BYTES} are read")]
    TooLarge(usize),
    /// A rule does not hold.
    #[error("the plan's {field} is {value}: {rule}")]
    Rule {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it must hold, and how to get there.
        rule: String,
    },
    /// The plan belongs to another roster.
    #[error(
        "the plan was made for roster {plan}, and this is roster {roster}; make the plan again for this roster"
    )]
    OtherRoster {
        /// Named by the plan.
        plan: Digest,
        /// At hand.
        roster: Digest,
    },
    /// The plan belongs to an older version of the roster's chain.
    #[error(
        "the plan was made for version {made} of the roster, and the chain has come to version {newest}; make the plan again for this \
         version, and have it signed"
    )]
    OldRoster {
        /// Named by the plan.
        made: u32,
        /// At hand.
        newest: u32,
    },
    /// Signatures are missing or bad.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl PlanError {
    /// The number of the check in the manual's table. As with a roster, nothing proves who brought the text.
    pub const fn check(&self) -> &'static str {
        match self {
            Self::Parse(_) | Self::TooLarge(_) | Self::Signature(SignatureError::Line { .. }) => "J1",
            Self::Rule { .. } => "J2",
            Self::OtherRoster { .. } | Self::OldRoster { .. } => "J3",
            Self::Signature(SignatureError::Bad { .. }) => "J4",
            Self::Signature(SignatureError::TooFew { .. }) => "J5",
        }
    }
}

impl Plan {
    /// Parses the text and checks every rule that needs nothing but the plan.
    ///
    /// # Errors
    ///
    /// [`PlanError::Parse`] with line and column, [`PlanError::TooLarge`], or the first [`PlanError::Rule`] broken, with
    /// the arithmetic.
    pub fn parse(text: &str) -> Result<(Self, Derived), PlanError> {
        let plan = Self::read(text)?;
        let derived = plan.derive()?;
        Ok((plan, derived))
    }

    /// Parses the text and checks no rule: for whoever looks for the cure.
    ///
    /// # Errors
    ///
    /// [`PlanError::Parse`] or [`PlanError::TooLarge`].
    pub fn read(text: &str) -> Result<Self, PlanError> {
        if text.len() > MAX_DOCUMENT_BYTES {
            return Err(PlanError::TooLarge(text.len()));
        }
        Ok(toml::from_str(text)?)
    }

    /// The text to sign.
    ///
    /// # Errors
    ///
    /// As [`Plan::parse`]: nothing is written that would not be read.
    pub fn to_text(&self) -> Result<String, PlanError> {
        self.derive()?;
        // Unwrap safety: every field serializes to plain TOML.
        Ok(toml::to_string_pretty(self).unwrap_or_default())
    }

    /// Checks every rule and computes what follows from the plan's numbers.
    ///
    /// # Errors
    ///
    /// The first [`PlanError::Rule`] broken.
    pub fn derive(&self) -> Result<Derived, PlanError> {
        rule(self.version == 1, "version", &self.version, || "this software reads version 1".into())?;
        rule(self.arithmetic == ARITHMETIC_VERSION, "arithmetic", &self.arithmetic, || {
            format!("this software computes recipe {ARITHMETIC_VERSION}")
        })?;
        Derived::new(self)
    }

    /// Verifies a plan against its roster.
    ///
    /// # Errors
    ///
    /// As [`Plan::parse`], [`PlanError::OtherRoster`], [`PlanError::OldRoster`], or [`PlanError::Signature`] when neither a quorum of organizations
    /// nor (where the roster names any) every plan signer has signed.
    pub fn verify(
        text: &str,
        signatures: &Signatures,
        roster: &VerifiedRoster,
    ) -> Result<VerifiedPlan, PlanError> {
        let (plan, derived) = Self::parse(text)?;
        if let Some(made) = roster.version_of(&plan.roster).filter(|made| *made < roster.version()) {
            return Err(PlanError::OldRoster { made, newest: roster.version() });
        }
        if plan.roster != roster.digest() {
            return Err(PlanError::OtherRoster { plan: plan.roster, roster: roster.digest() });
        }
        let cohort: Arc<[Id]> = roster.cohort().into();
        let n = plan.cohort.organizations;
        rule(n as usize == cohort.len(), "cohort.organizations", &n, || {
            format!("the roster lists {}, and every one of them is invited", cohort.len())
        })?;
        let evaluator = &plan.evaluation.organization;
        rule(roster.organization(evaluator).is_some(), "evaluation.organization", evaluator, || {
            "it must be one of the roster's organizations".into()
        })?;
        let strange = plan.hours.iter().find(|hours| roster.organization(&hours.organization).is_none());
        rule(strange.is_none(), "hours", &strange.map_or(String::new(), Hours::to_string), || {
            "it must be of one of the roster's organizations".into()
        })?;
        let strange = plan.data.iter().find(|data| roster.organization(&data.organization).is_none());
        rule(strange.is_none(), "data", &strange.map_or("", |data| data.organization.as_str()), || {
            "it must be of one of the roster's organizations".into()
        })?;
        let document = roster.document();
        let (whom, keys, needed): (_, BTreeMap<_, _>, _) = if document.plan_signers.is_empty() {
            let keys =
                document.organizations.iter().map(|party| (party.id.clone(), party.signing_key)).collect();
            ("the roster's organizations", keys, document.quorum)
        } else {
            let keys: BTreeMap<_, _> =
                document.plan_signers.iter().map(|signer| (signer.id.clone(), signer.signing_key)).collect();
            let needed = keys.len();
            ("the roster's plan signers", keys, needed)
        };
        signatures.verify(Kind::Plan, text, whom, &keys, needed)?;
        Ok(VerifiedPlan {
            plan,
            derived,
            digest: fingerprint(Kind::Plan, text),
            cohort,
            known: Arc::default(),
            start: None,
        })
    }
}

fn rule(
    holds: bool,
    field: &'static str,
    value: &dyn ToString,
    rule: impl FnOnce() -> String,
) -> Result<(), PlanError> {
    if holds { Ok(()) } else { Err(PlanError::Rule { field, value: value.to_string(), rule: rule() }) }
}

/// A plan whose rules hold and whose signatures the roster asks for.
#[derive(Clone, Debug)]
pub struct VerifiedPlan {
    plan: Plan,
    derived: Derived,
    digest: Digest,
    cohort: Arc<[Id]>,
    known: Arc<Known>,
    /// What the job goes on from, where the plan names it and it has been read.
    start: Option<Arc<start::Start>>,
}

impl VerifiedPlan {
    /// Digest of the text, part of every round's context.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The document.
    pub fn document(&self) -> &Plan {
        &self.plan
    }

    /// What follows from its numbers.
    pub fn derived(&self) -> &Derived {
        &self.derived
    }

    /// The cohort of every round, sorted: the whole roster.
    pub fn cohort(&self) -> &[Id] {
        &self.cohort
    }

    /// The same, to be shared.
    pub fn whole_cohort(&self) -> Arc<[Id]> {
        self.cohort.clone()
    }

    /// What was verified last under this plan.
    pub(crate) fn known(&self) -> &Known {
        &self.known
    }
}
