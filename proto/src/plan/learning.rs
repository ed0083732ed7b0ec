//! Rules on what is learned and with which adapter, as far as they need no model.

use super::{AdapterMode, Plan, PlanError, Pooling, PrivacyUnit, TargetModules, TaskKind, rule};

pub(super) fn check(plan: &Plan) -> Result<(), PlanError> {
    labels(plan)?;
    class_weights(plan)?;
    let (kind, pooling) = (plan.task.kind, plan.model.pooling);
    let fits = (kind == TaskKind::NextToken) == (pooling == Pooling::None);
    rule(fits, "model.pooling", &format!("{pooling:?}").to_lowercase(), || {
        match kind {
            TaskKind::NextToken => {
                "with task.kind = \"next-token\" every token's vector is used: write pooling = \"none\""
            }
            _ => "a text's label needs one vector: write pooling = \"mean\" or \"cls\"",
        }
        .into()
    })?;
    targets(plan)?;
    mode(plan)?;
    dropout(plan)?;
    local(plan)
}

fn labels(plan: &Plan) -> Result<(), PlanError> {
    let task = &plan.task;
    let count = task.labels.len();
    if task.kind == TaskKind::NextToken {
        return rule(count == 0, "task.labels count", &count, || {
            "next-token predicts the text itself and has no labels: leave them out".into()
        });
    }
    rule((2..=10_000).contains(&count), "task.labels count", &count, || "it must be 2 to 10000".into())?;
    let mut sorted = task.labels.clone();
    sorted.sort();
    let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]);
    rule(twice.is_none(), "task.labels", &twice.map_or("", |pair| &pair[0]), || {
        "a label is listed twice".into()
    })?;
    let cut = task.labels.iter().find(|label| {
        task.kind == TaskKind::MultiLabel
            && (label.contains(';') || label.trim() != *label || label.is_empty())
    });
    rule(cut.is_none(), "task.labels", &cut.map_or("", String::as_str), || {
        "where a text has several labels, `;` separates them and blanks around it do not count: no label may contain one or begin \
         or end with blanks"
            .into()
    })
}

fn class_weights(plan: &Plan) -> Result<(), PlanError> {
    let (weights, task) = (&plan.task.class_weights, &plan.task);
    let fits = weights.is_empty() || (weights.len() == task.labels.len() && task.kind != TaskKind::NextToken);
    rule(fits, "task.class_weights count", &weights.len(), || {
        format!("one weight for each of the {} labels, or none at all", task.labels.len())
    })?;
    let usable = |weight: &f64| (1e-3..=1e3).contains(weight);
    let strange = weights.iter().find(|weight| !usable(weight));
    rule(strange.is_none(), "task.class_weights", &strange.copied().unwrap_or_default(), || {
        "a weight must be 0.001 to 1000; leave a label out instead of giving it no weight".into()
    })
}

fn targets(plan: &Plan) -> Result<(), PlanError> {
    let adapter = &plan.adapter;
    if let Err(why) = adapter.target_modules.matcher() {
        return rule(false, "adapter.target_modules", &"not usable", || why);
    }
    let pattern = matches!(adapter.target_modules, TargetModules::Pattern(_));
    rule(!pattern || adapter.layers.is_none(), "adapter.layers", &"given beside a pattern", || {
        "a pattern says by itself which layers are meant (as in peft, where layers_to_transform goes with names only): leave layers out"
            .into()
    })?;
    let head_only = adapter.target_modules.is_empty();
    rule(!head_only || plan.task.kind != TaskKind::NextToken, "adapter.target_modules", &"[]", || {
        "next-token has no head to train: name a module".into()
    })
}

/// The tensors are trained as the mode says, and there are factors for it to choose between.
fn mode(plan: &Plan) -> Result<(), PlanError> {
    let (mode, adapter) = (plan.adapter.mode, &plan.adapter);
    let word = format!("{mode:?}").to_lowercase();
    rule(mode == AdapterMode::Ffa || !adapter.target_modules.is_empty(), "adapter.mode", &word, || {
        "the head alone is trained, and it has no factors A and B to average: leave mode out, or name target_modules".into()
    })?;
    let frozen = adapter.tensors.iter().find(|tensor| mode != AdapterMode::Ffa && !tensor.trained);
    rule(frozen.is_none(), "adapter.tensor", &frozen.map_or("", |tensor| &tensor.name), || {
        format!("it is frozen, and mode = \"{word}\" trains every factor")
    })
}

fn dropout(plan: &Plan) -> Result<(), PlanError> {
    let (dropout, unit) = (plan.adapter.dropout, plan.privacy.unit);
    rule((0.0..1.0).contains(&dropout), "adapter.dropout", &dropout, || "it must be 0 to below 1".into())?;
    let patients = matches!(unit, PrivacyUnit::Patient | PrivacyUnit::PatientLocal);
    rule(dropout == 0.0 || !patients, "adapter.dropout", &dropout, || {
        format!(
            "the unit {} clips each patient's own gradient and hides it in noise. Dropout would add noise of its own to that gradient \
             without any privacy for it, so the clipping norm would be spent on chance; and what a patient's gradient is would depend \
             on draws that nobody can repeat when it is checked against a reference. The noise already regularizes: write dropout = 0",
            match unit {
                PrivacyUnit::Patient => "\"patient\"",
                _ => "\"patient-local\"",
            }
        )
    })
}

/// What stays at home must be something, must leave something to share, and must not undermine a promise to patients.
fn local(plan: &Plan) -> Result<(), PlanError> {
    let (adapter, unit) = (&plan.adapter, plan.privacy.unit);
    if adapter.local.is_empty() {
        return Ok(());
    }
    let shown = format!("{:?}", adapter.local);
    let refuse = |holds, why: &str| rule(holds, "adapter.local", &shown, || why.into());
    let patients = matches!(unit, PrivacyUnit::Patient | PrivacyUnit::PatientLocal);
    rule(!patients, "adapter.local", &shown, || {
        format!(
            "the unit \"{unit}\" promises that one patient moves a sum by no more than the clip. A head that stays at home learns from \
             records without noise, and all patients' gradients of what is shared are computed through it: one patient would move \
             all of them, and ε would be a false promise. Leave local out (the head is then trained under the same noise), or protect \
             organizations: unit = \"organization\""
        )
    })?;
    refuse(adapter.local == ["head"], "the head alone can stay at home: write [\"head\"], or leave it out")?;
    let trained = |tensor: &&super::Tensor| tensor.trained;
    let heads =
        adapter.tensors.iter().filter(trained).filter(|tensor| adapter.is_local(&tensor.name)).count();
    refuse(heads > 0, "no trained tensor's name begins with head.: there is nothing to keep at home")?;
    refuse(
        adapter.shared().any(|tensor| tensor.trained),
        "nothing would be left to share: name target_modules",
    )?;
    refuse(
        adapter.start.is_none(),
        "a job that goes on from an adapter takes its head too: leave start or local out",
    )
}
