//! Each line of the policy against a plan.

use std::ops::Range;

use consilium_crypto::{
    digest::Digest,
    privacy::{Composition, Step},
};
use consilium_proto::{
    ids::Id,
    plan::{PrivacyUnit, VerifiedPlan},
};
use toml::Spanned;

use super::{Policy, listed};

/// What the rules look at. Every field is `None` when no plan is at hand.
pub(super) struct Facts<'a> {
    epsilon: Option<f64>,
    /// Against everybody else together, of as many attempts as the plan's budget pays for.
    everybody_else: Option<f64>,
    delta: Option<f64>,
    cohort: Option<u32>,
    survivors: Option<u32>,
    honest: Option<u32>,
    unit: Option<PrivacyUnit>,
    weights: Option<(Digest, &'a str)>,
    attempts: Option<u32>,
    valid_by: Option<ValidBy<'a>>,
}

/// Whether a plan would still be valid if only these signers' lines counted; in words, why not.
pub type ValidBy<'a> = &'a dyn Fn(&[Id]) -> Result<(), String>;

/// Where a line stands, what it means, and why it forbids the plan.
type Judged = (Range<usize>, String, Option<String>);

impl<'a> Facts<'a> {
    pub(super) fn of(plan: &'a VerifiedPlan, valid_by: ValidBy<'a>) -> Self {
        let (document, derived) = (plan.document(), plan.derived());
        Self {
            // Without noise there is no ε, and every limit is passed.
            epsilon: Some(match document.privacy.unit {
                PrivacyUnit::None => f64::INFINITY,
                _ => document.privacy.epsilon,
            }),
            everybody_else: Some(everybody_else(plan)),
            delta: Some(document.privacy.delta),
            cohort: Some(document.cohort.organizations),
            survivors: Some(document.cohort.min_survivors),
            honest: Some(derived.honest),
            unit: Some(document.privacy.unit),
            weights: Some((document.model.weights, document.model.name.as_str())),
            attempts: Some(document.retries.max_attempts),
            valid_by: Some(valid_by),
        }
    }

    pub(super) fn unknown() -> Self {
        Self {
            epsilon: None,
            everybody_else: None,
            delta: None,
            cohort: None,
            survivors: None,
            honest: None,
            unit: None,
            weights: None,
            attempts: None,
            valid_by: None,
        }
    }
}

impl Policy {
    /// Every line of the file, judged; in no order.
    pub(super) fn judge(&self, facts: &Facts<'_>) -> Vec<Judged> {
        let rules = &self.rules;
        let mut judged = Vec::new();
        judged.extend(above(
            &rules.epsilon_per_job,
            |most| format!("a plan may spend at most ε = {most}"),
            facts.epsilon,
            |has| format!("the plan may spend ε = {has} (privacy.epsilon)"),
        ));
        judged.extend(above(
            &rules.epsilon_per_job_everybody_else,
            |most| format!("a plan may spend at most ε = {most} against everybody else together"),
            facts.everybody_else,
            |has| format!("the attempts that the plan's budget pays for spend ε = {has:.4} against them"),
        ));
        judged.extend(above(
            &rules.delta_per_job,
            |most| format!("a plan's δ is at most {most:e}"),
            facts.delta,
            |has| format!("the plan's δ is {has:e} (privacy.delta)"),
        ));
        if let (Some(epsilon), Some(delta)) = (&rules.epsilon_total, &rules.delta_total) {
            let meaning = format!(
                "all jobs on this data set together spend at most ε = {} at δ = {:e}; checked before every attempt",
                epsilon.get_ref(),
                delta.get_ref()
            );
            judged.push((epsilon.span(), meaning, None));
        }
        if let (Some(epsilon), Some(delta)) = (&rules.epsilon_total_everybody_else, &rules.delta_total) {
            let meaning = format!(
                "all jobs on this data set together spend at most ε = {} against everybody else together, at δ = {:e}; \
                 checked before every attempt",
                epsilon.get_ref(),
                delta.get_ref()
            );
            judged.push((epsilon.span(), meaning, None));
        }
        judged.extend(below(
            &rules.least_cohort,
            |least| format!("a cohort has at least {least} organizations"),
            facts.cohort,
            |has| format!("the plan's cohort has {has} (cohort.organizations)"),
        ));
        judged.extend(below(
            &rules.least_survivors,
            |least| format!("a sum is over at least {least} organizations"),
            facts.survivors,
            |has| format!("the plan accepts {has} survivors (cohort.min_survivors)"),
        ));
        judged.extend(below(
            &rules.least_honest,
            |least| format!("at least h = {least} honest contributors are guaranteed in every sum"),
            facts.honest,
            |has| format!("the plan guarantees h = m_min − max(t_c, 1) = {has}"),
        ));
        judged.extend(above(
            &rules.max_attempts,
            |most| format!("a round has at most {most} attempts, each of which costs ε"),
            facts.attempts,
            |has| format!("the plan allows {has} (retries.max_attempts)"),
        ));
        if let Some(units) = &rules.units {
            let names = listed(&units.get_ref().iter().map(|unit| name(*unit)).collect::<Vec<_>>());
            let why = facts
                .unit
                .filter(|unit| !units.get_ref().contains(unit))
                .map(|unit| format!("the plan protects one {} (privacy.unit)", name(unit)));
            judged.push((units.span(), format!("a plan protects one of: {names}"), why));
        }
        if let (Some(list), Some(known)) = (&rules.models, &self.models) {
            let meaning =
                format!("one of {} base models is trained, known by the SHA-256 of its weights", known.len());
            let why =
                facts.weights.filter(|(weights, _)| !known.contains(weights)).map(|(weights, model)| {
                    format!(
                        "the plan trains {model}, whose weights have the digest {weights} (model.weights)"
                    )
                });
            judged.push((list.span(), meaning, why));
        }
        if let Some(list) = &rules.plan_signers {
            let signers = list.get_ref();
            let meaning = format!("only signatures of {} count on a plan", listed(signers));
            let why = facts.valid_by.and_then(|valid_by| valid_by(signers).err());
            judged.push((list.span(), meaning, why.map(|why| format!("with theirs alone, {why}"))));
        }
        if let Some(list) = &rules.hours {
            let meaning = format!(
                "this client takes part only in {} UTC; checked before every attempt",
                list.get_ref().join(", ")
            );
            judged.push((list.span(), meaning, None));
        }
        judged
    }
}

/// ε against everybody else together, of as many attempts as the plan allows and its budget pays for; infinite where
/// nothing bounds it.
fn everybody_else(plan: &VerifiedPlan) -> f64 {
    let (document, derived) = (plan.document(), plan.derived());
    let (privacy, Some(mechanisms)) = (&document.privacy, &derived.mechanisms) else { return f64::INFINITY };
    let most = u64::from(document.rounds) * u64::from(document.retries.max_attempts);
    let (step, _) = mechanisms.attempts(1);
    // In steps, of which an attempt may have several; what is left over pays for no whole attempt.
    let pays = Composition::new()
        .remaining(
            Step { count: 1, ..step },
            privacy.epsilon,
            privacy.delta,
            most.saturating_mul(mechanisms.steps),
        )
        .map(|steps| steps / mechanisms.steps);
    let spent = pays.and_then(|attempts| derived.guarantees(attempts, privacy.delta));
    spent.map_or(f64::INFINITY, |spent| spent.local)
}

fn name(unit: PrivacyUnit) -> String {
    // The word of the plan's text, whatever units this version knows.
    toml::Value::try_from(unit).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn above<T: Copy + PartialOrd>(
    rule: &Option<Spanned<T>>,
    meaning: impl Fn(T) -> String,
    has: Option<T>,
    why: impl Fn(T) -> String,
) -> Option<Judged> {
    let rule = rule.as_ref()?;
    let limit = *rule.get_ref();
    Some((rule.span(), meaning(limit), has.filter(|has| *has > limit).map(why)))
}

fn below<T: Copy + PartialOrd>(
    rule: &Option<Spanned<T>>,
    meaning: impl Fn(T) -> String,
    has: Option<T>,
    why: impl Fn(T) -> String,
) -> Option<Judged> {
    let rule = rule.as_ref()?;
    let limit = *rule.get_ref();
    Some((rule.span(), meaning(limit), has.filter(|has| *has < limit).map(why)))
}
