//! From the plan's words to the trainer's, and whether the plan's tensors are those of its model.

use consilium_crypto::release::AdapterState;
use consilium_proto::plan::{AdapterMode, Plan, Privacy, PrivacyUnit};
use thiserror::Error;

use super::{ConfigError, Training};
use crate::{
    model::{AdapterSpec, AdapterTensors, ModelConfig, adapter_tensors},
    trainer::{Trained, TrainerSpec},
};

/// The adapter's description, as the trainer takes it.
pub fn adapter_spec(plan: &Plan) -> AdapterSpec {
    let adapter = &plan.adapter;
    AdapterSpec {
        rank: adapter.rank as usize,
        alpha: adapter.alpha,
        use_rslora: adapter.rslora,
        target_modules: adapter.target_modules.clone(),
        layers: adapter.layers.clone(),
        dropout: adapter.dropout,
        pooling: plan.model.pooling,
        max_tokens: plan.model.max_tokens as usize,
        task: plan.task.kind,
        labels: plan.task.labels.len(),
        class_weights: plan.task.class_weights.clone(),
    }
}

/// Which tensors the plan's mode trains.
pub fn trained(plan: &Plan) -> Trained {
    match plan.adapter.mode {
        AdapterMode::Ffa => Trained::FFA,
        // What rests in a step is taken out of the gradient where lots are summed.
        AdapterMode::Both | AdapterMode::Alternate => Trained::BOTH,
    }
}

/// The built-in trainer's settings: the adapter from the plan, the machine's share from the config.
pub fn trainer_spec(plan: &Plan, training: &Training) -> TrainerSpec {
    TrainerSpec {
        adapter: adapter_spec(plan),
        trained: trained(plan),
        cache_bytes: training.cache_bytes(),
        threads: training.threads,
        max_physical_batch: training.max_physical_batch,
        base: training.base,
        device: training.device,
    }
}

/// Checks that the plan lists exactly the tensors that its adapter has on this model, trained as its mode says: the order
/// of coordinates in an update follows from that list.
///
/// # Errors
///
/// [`ConfigError::Model`] when the adapter does not fit the model at all; [`ConfigError::Tensors`] naming the first tensor
/// that differs.
pub fn check_tensors(plan: &Plan, model: &ModelConfig) -> Result<(), ConfigError> {
    let expected = adapter_tensors(model, &adapter_spec(plan))?;
    let refuse =
        |tensor: &str, problem: String| Err(ConfigError::Tensors { tensor: tensor.to_owned(), problem });
    for tensor in &expected {
        let Some(listed) = plan.adapter.tensors.iter().find(|listed| listed.name == tensor.name) else {
            return refuse(&tensor.name, "is missing".to_owned());
        };
        if !listed.shape.iter().map(|&axis| axis as usize).eq(tensor.shape.iter().copied()) {
            return refuse(
                &tensor.name,
                format!("has shape {:?}, expected {:?}", listed.shape, tensor.shape),
            );
        }
        let should = trained(plan).contains(tensor.kind);
        if listed.trained != should {
            let (is, not) = if should { ("must", "is not") } else { ("must not", "is") };
            return refuse(&tensor.name, format!("{not} marked as trained, and {is} be in this mode"));
        }
    }
    let known = |name: &str| expected.iter().any(|tensor| tensor.name == name);
    match plan.adapter.tensors.iter().find(|listed| !known(&listed.name)) {
        Some(stray) => refuse(&stray.name, "is not one of this adapter's".to_owned()),
        None => Ok(()),
    }
}

/// A `δ` that promises nothing, because it is not below one over the number of patients: a mechanism that publishes one
/// patient's record whole would keep it. Shown to the organization's own operator only, since the number is private.
#[derive(Clone, Debug, PartialEq, Error)]
#[error(
    "{field} is {delta:e}, and this data set has {patients} patients: δ must be below 1/{patients} = {:.1e}; {cure}",
    1.0 / *patients as f64
)]
pub struct DeltaError {
    /// Whose `δ`.
    pub field: &'static str,
    /// Its value.
    pub delta: f64,
    /// In the data set.
    pub patients: usize,
    /// What to do.
    pub cure: &'static str,
}

/// The plan's `δ` where it is about patients; 0 where it is about organizations, or nothing is promised.
pub fn delta_of_patients(privacy: &Privacy) -> f64 {
    match privacy.unit {
        PrivacyUnit::Patient | PrivacyUnit::PatientLocal => privacy.delta,
        PrivacyUnit::Organization | PrivacyUnit::None => 0.0,
    }
}

/// Checks the plan's `δ`, and that of the organization's total budget, against the number of its patients.
///
/// # Errors
///
/// [`DeltaError`], which names the field.
pub fn check_delta(plan: f64, total: Option<(f64, f64)>, patients: usize) -> Result<(), DeltaError> {
    let total = total.map(|(_, delta)| ("delta_total", delta, "lower it in the policy"));
    let plan = ("the plan's privacy.delta", plan, "the consortium must sign a plan with a lower one");
    for (field, delta, cure) in std::iter::once(plan).chain(total) {
        if delta * patients as f64 >= 1.0 {
            return Err(DeltaError { field, delta, patients, cure });
        }
    }
    Ok(())
}

/// The values of an adapter between two rounds, as the trainer takes them.
pub fn adapter_tensors_of(state: &AdapterState) -> AdapterTensors {
    state.tensors().map(|(tensor, values)| (tensor.name.clone(), values.to_vec())).collect()
}
