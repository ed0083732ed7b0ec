//! `policy.toml`: what this organization allows, whatever a plan says.
//!
//! The file is the organization's alone: it is read before any plan, never sent, and nobody else's signature changes it. A plan
//! that it forbids is refused before anything is dialled, with the line that forbids it: file, number and text. What can
//! only be known later is held to it later: hours before every attempt, budgets before every debit.
//!
//! An absent field forbids nothing. Unknown fields are refused, because a misspelt limit would be no limit.

mod hours;
mod rules;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use consilium_crypto::digest::Digest;
use consilium_proto::{
    ids::Id,
    plan::{PrivacyUnit, VerifiedPlan},
};
use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

use crate::{config::ConfigError, files};
pub use hours::Hours;
use rules::Facts;
pub use rules::ValidBy;

/// Largest policy file that is read, bytes.
pub const MAX_POLICY_BYTES: u64 = 1 << 20;

/// The fields of the file. Each forbids something; absent, it forbids nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    /// Greatest `ε` that one job's plan may spend, against the coordinator with the tolerated colluders.
    epsilon_per_job: Option<Spanned<f64>>,
    /// Greatest `ε` that one job's plan may spend against everybody else together.
    epsilon_per_job_everybody_else: Option<Spanned<f64>>,
    /// Greatest `δ` of one job's plan.
    delta_per_job: Option<Spanned<f64>>,
    /// Greatest `ε` of this data set over all jobs together, at `delta_total`.
    epsilon_total: Option<Spanned<f64>>,
    /// Greatest `ε` of this data set over all jobs together against everybody else together, at `delta_total`.
    epsilon_total_everybody_else: Option<Spanned<f64>>,
    /// The `δ` of `epsilon_total`.
    delta_total: Option<Spanned<f64>>,
    /// Fewest organizations in a plan's cohort.
    least_cohort: Option<Spanned<u32>>,
    /// Fewest survivors in a sum.
    least_survivors: Option<Spanned<u32>>,
    /// Fewest honest contributors that are guaranteed in every sum, `h`.
    least_honest: Option<Spanned<u32>>,
    /// Privacy units that a plan may have.
    units: Option<Spanned<Vec<PrivacyUnit>>>,
    /// SHA-256 of `model.safetensors` of every base model that may be trained.
    models: Option<Spanned<Vec<String>>>,
    /// Whose signatures on a plan count.
    plan_signers: Option<Spanned<Vec<Id>>>,
    /// When this client takes part, UTC.
    hours: Option<Spanned<Vec<String>>>,
    /// Most attempts of a round.
    max_attempts: Option<Spanned<u32>>,
}

/// This organization's policy, checked. [`Policy::default`] forbids nothing.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    path: PathBuf,
    text: String,
    rules: Rules,
    hours: Option<Hours>,
    models: Option<BTreeSet<Digest>>,
}

/// A line of the policy that forbids what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}:{line}: `{text}` forbids this: {why}; changing the line is this organization's decision alone", path.display())]
pub struct Forbidden {
    /// The policy's file.
    pub path: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// Its text, without the space around it.
    pub text: String,
    /// What it met, with both numbers.
    pub why: String,
}

/// What one line of the policy says about a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The line, counted from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
    /// What it does, in words.
    pub meaning: String,
    /// Why it forbids the plan; `None`: it does not.
    pub forbids: Option<String>,
}

impl Policy {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: not readable, an unknown field (with the nearest known one), a value out of range with its line.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = files::read_text(path, MAX_POLICY_BYTES)?;
        Self::parse(path, text)
    }

    fn parse(path: &Path, text: String) -> Result<Self, ConfigError> {
        let rules: Rules = toml::from_str(&text).map_err(|error| ConfigError::parse(path, &error))?;
        let mut policy = Self { path: path.to_path_buf(), text, rules, hours: None, models: None };
        policy.check()?;
        Ok(policy)
    }

    fn check(&mut self) -> Result<(), ConfigError> {
        let rules = &self.rules;
        let refuse = |span: Range<usize>, rule: String| {
            let Forbidden { path, line, text, .. } = self.forbidden(span, String::new());
            Err(ConfigError::PolicyLine { path, line, text, rule })
        };
        let epsilons = [
            &rules.epsilon_per_job,
            &rules.epsilon_per_job_everybody_else,
            &rules.epsilon_total,
            &rules.epsilon_total_everybody_else,
        ];
        for value in epsilons.into_iter().flatten() {
            if !(value.get_ref().is_finite() && *value.get_ref() > 0.0) {
                let rule = "it must be above 0; to forbid every job, do not run the client".to_owned();
                return refuse(value.span(), rule);
            }
        }
        for value in [&rules.delta_per_job, &rules.delta_total].into_iter().flatten() {
            if !(*value.get_ref() > 0.0 && *value.get_ref() < 0.01) {
                let rule = "it must be above 0 and below one over the number of patients".to_owned();
                return refuse(value.span(), rule);
            }
        }
        if let (Some(more), None) = (&rules.epsilon_total_everybody_else, &rules.epsilon_total) {
            let rule = "it stands beside epsilon_total and delta_total: write those as well".to_owned();
            return refuse(more.span(), rule);
        }
        if let (Some(alone), None) | (None, Some(alone)) = (&rules.epsilon_total, &rules.delta_total) {
            let rule =
                "epsilon_total and delta_total go together: an ε means nothing without its δ".to_owned();
            return refuse(alone.span(), rule);
        }
        if let Some(value) = rules.max_attempts.as_ref().filter(|value| *value.get_ref() == 0) {
            return refuse(value.span(), "it must be at least 1".to_owned());
        }
        let empty = [
            rules.units.as_ref().map(|list| (list.span(), list.get_ref().is_empty())),
            rules.models.as_ref().map(|list| (list.span(), list.get_ref().is_empty())),
            rules.plan_signers.as_ref().map(|list| (list.span(), list.get_ref().is_empty())),
            rules.hours.as_ref().map(|list| (list.span(), list.get_ref().is_empty())),
        ];
        if let Some((span, _)) = empty.into_iter().flatten().find(|(_, empty)| *empty) {
            return refuse(span, "an empty list forbids everything: remove the line, or fill it".to_owned());
        }
        let mut models = None;
        if let Some(list) = &rules.models {
            let parsed: Result<BTreeSet<Digest>, _> =
                list.get_ref().iter().map(|digits| digits.parse::<Digest>().map_err(|_| digits)).collect();
            match parsed {
                Ok(known) => models = Some(known),
                Err(digits) => {
                    return refuse(list.span(), format!("{digits:?} is not 64 lowercase hexadecimal digits"));
                }
            }
        }
        let hours = match &rules.hours {
            None => None,
            Some(list) => match Hours::parse(list.get_ref()) {
                Ok(hours) => Some(hours),
                Err(rule) => return refuse(list.span(), rule),
            },
        };
        (self.models, self.hours) = (models, hours);
        Ok(())
    }

    /// The line in which a value begins, with what it met.
    fn forbidden(&self, span: Range<usize>, why: String) -> Forbidden {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let text = self.text.lines().nth(line - 1).unwrap_or_default().trim().to_owned();
        Forbidden { path: self.path.clone(), line, text, why }
    }

    /// The file; empty for a policy that forbids nothing because there is none.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The budget over all jobs of this data set, `ε` and `δ`, if there is one.
    pub fn total_budget(&self) -> Option<(f64, f64)> {
        let value = |field: &Option<Spanned<f64>>| field.as_ref().map(|value| *value.get_ref());
        Some((value(&self.rules.epsilon_total)?, value(&self.rules.delta_total)?))
    }

    /// The same against everybody else together, if the policy bounds that.
    pub fn total_budget_everybody_else(&self) -> Option<(f64, f64)> {
        let (_, delta) = self.total_budget()?;
        Some((*self.rules.epsilon_total_everybody_else.as_ref()?.get_ref(), delta))
    }

    /// Whether this client takes part at this time: Unix seconds by this machine's clock.
    ///
    /// # Errors
    ///
    /// [`Forbidden`], naming the time that the clock shows: a clock that has jumped is told by it.
    pub fn allows_at(&self, unix_s: i64) -> Result<(), Forbidden> {
        match (&self.hours, &self.rules.hours) {
            (Some(hours), Some(list)) if !hours.contain(unix_s) => {
                let why = format!("this machine's clock shows {} UTC", hours::shown(unix_s));
                Err(self.forbidden(list.span(), why))
            }
            _ => Ok(()),
        }
    }

    /// Checks a plan. `valid_by` says whether the plan would still be valid if only these signers' lines counted.
    ///
    /// # Errors
    ///
    /// The first [`Forbidden`], in the file's order.
    pub fn allows(
        &self,
        plan: &VerifiedPlan,
        valid_by: &dyn Fn(&[Id]) -> Result<(), String>,
    ) -> Result<(), Forbidden> {
        let facts = Facts::of(plan, valid_by);
        let mut verdicts = self.judge(&facts);
        verdicts.sort_by_key(|(span, _, _)| span.start);
        let first = verdicts.into_iter().find_map(|(span, _, why)| why.map(|why| (span, why)));
        first.map_or(Ok(()), |(span, why)| Err(self.forbidden(span, why)))
    }

    /// What every line says about a plan, in the file's order; without a plan, what it means.
    pub fn explain(&self, plan: Option<(&VerifiedPlan, ValidBy<'_>)>) -> Vec<Verdict> {
        let facts = plan.map_or_else(Facts::unknown, |(plan, valid_by)| Facts::of(plan, valid_by));
        let mut verdicts = self.judge(&facts);
        verdicts.sort_by_key(|(span, _, _)| span.start);
        let verdict = |(span, meaning, forbids)| {
            let Forbidden { line, text, .. } = self.forbidden(span, String::new());
            Verdict { line, text, meaning, forbids }
        };
        verdicts.into_iter().map(verdict).collect()
    }
}

fn listed<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}
