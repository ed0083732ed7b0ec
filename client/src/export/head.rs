//! The classifier head as a safetensors file: `head.weight` `[labels, d]` and `head.bias` `[labels]`.

use std::path::Path;

use super::{ExportError, read_tensors, write_tensors};
use crate::model::{AdapterSpec, AdapterTensor, AdapterTensors, ModelConfig, TensorKind, adapter_tensors};

/// Writes the head among `values`.
///
/// # Errors
/// Values that do not fit the plan, or a file that cannot be written; then the old file is as it was.
pub fn write_head(
    path: &Path,
    config: &ModelConfig,
    spec: &AdapterSpec,
    values: &AdapterTensors,
) -> Result<(), ExportError> {
    let all = adapter_tensors(config, spec)?;
    values.check(&all)?;
    write_tensors(path, &of_head(&all), values, None, None)
}

/// Reads a head, checked against the plan.
///
/// # Errors
/// A file that contradicts itself or the plan, or holds a value that is not finite.
pub fn read_head(
    path: &Path,
    config: &ModelConfig,
    spec: &AdapterSpec,
) -> Result<AdapterTensors, ExportError> {
    read_tensors(path, &of_head(&adapter_tensors(config, spec)?), None)
}

fn of_head(all: &[AdapterTensor]) -> Vec<&AdapterTensor> {
    all.iter().filter(|tensor| matches!(tensor.kind, TensorKind::HeadWeight | TensorKind::HeadBias)).collect()
}
