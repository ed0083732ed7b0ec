//! A plan that does not work: why, and the nearest ones that do.

use std::{fmt, io::Write, path::Path};

use consilium_proto::plan::{Change, Plan, PlanError, Proposal};
use serde_json::{Value, json};

use crate::cli::{Failure, write_json};

/// Why a plan is refused, and what to change.
pub(super) struct Refusal<'a> {
    error: &'a PlanError,
    proposals: Vec<Proposal>,
}

impl<'a> Refusal<'a> {
    pub(super) fn new(plan: &Plan, error: &'a PlanError) -> Self {
        Self { error, proposals: plan.proposals() }
    }

    /// As a command's end: with `--json`, everything goes to the output first.
    pub(super) fn report(&self, path: &Path, json: bool, out: &mut dyn Write) -> Failure {
        if !json {
            return Failure::in_file(path, self);
        }
        match write_json(
            out,
            &json!({"plan": path, "refused": self.error_json(), "proposals": self.proposals_json()}),
        ) {
            Ok(()) => Failure::in_file(path, self.error),
            Err(failure) => failure,
        }
    }

    fn error_json(&self) -> Value {
        match self.error {
            PlanError::Rule { field, value, rule } => json!({"field": field, "value": value, "rule": rule}),
            other => json!({"rule": other.to_string()}),
        }
    }

    fn proposals_json(&self) -> Value {
        let change = |change: &Change| json!({"field": change.field, "from": change.from, "to": change.to});
        let proposal = |proposal: &Proposal| {
            let changes: Vec<_> = proposal.changes.iter().map(change).collect();
            json!({
                "changes": changes, "rounds": proposal.plan.rounds, "epsilon_budget": proposal.plan.privacy.epsilon,
                "noise_multiplier": proposal.derived.mechanisms.map(|both| both.central.noise_multiplier()),
            })
        };
        self.proposals.iter().map(proposal).collect()
    }
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        let Some((first, others)) = self.proposals.split_first() else {
            return write!(f, "\nNo change is proposed: only people can know what is meant.");
        };
        write!(f, "\nA plan that works, checked, has")?;
        for (number, proposal) in std::iter::once(first).chain(others).enumerate() {
            if number > 0 {
                write!(f, "\nor")?;
            }
            for change in &proposal.changes {
                write!(f, "\n  {change}")?;
            }
        }
        Ok(())
    }
}
