//! What leaves the training: files that everybody's tools read.
//!
//! An adapter becomes a PEFT folder for the *bare encoder* (feature extraction), byte for byte as `peft` 0.21 writes it; the
//! classifier head becomes a safetensors file of its own, because `peft`'s sequence-classification head assumes another pooling.
//! Both can be read back to resume, and are then checked like any file from a stranger. Every file is replaced as a whole.
//!
//! [`merge`] writes a model with the adapter inside, for whoever serves it without `peft`.

mod head;
mod merge;
mod peft;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use consilium_proto::plan::Tensor;
use safetensors::tensor::{Dtype, TensorView};

use crate::files::{FileError, write_atomic};
use crate::model::{AdapterTensor, AdapterTensors, CheckedTensors, ModelError, TensorKind};

pub use head::{read_head, write_head};
pub use merge::merge;
pub use peft::{ADAPTER_CONFIG, ADAPTER_MODEL, BASE_WEIGHTS, described, read_peft_folder, write_peft_folder};

/// Largest adapter or head that is read, in bytes.
pub const MAX_ADAPTER_BYTES: u64 = 1 << 30;

/// Why an adapter could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// Writing failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The tensors, as a file or in memory, do not fit the plan.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The plan trains the head only.
    #[error("the plan adapts no layer (target_modules is empty): there is a head, and no PEFT folder")]
    NoAdapter,
    /// `adapter_config.json` says something else than the plan.
    #[error("{}: {field} is {found}, the plan says {expected}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// The field.
        field: &'static str,
        /// What the file says.
        found: String,
        /// What the plan says.
        expected: String,
    },
    /// The adapter names other base weights.
    #[error(
        "{}: was trained on base weights {found}, and this base model's are {expected}; on other weights its products mean nothing: \
         take the model it names, or another adapter",
        file.display()
    )]
    OtherBase {
        /// The adapter's tensors.
        file: PathBuf,
        /// SHA-256 that they name.
        found: String,
        /// SHA-256 of the model's weights.
        expected: String,
    },
    /// `adapter_config.json` does not parse, or the tensors cannot be laid out as safetensors.
    #[error("{}: {problem}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Writes the listed tensors by their names in the plan, with one entry of metadata.
///
/// # Errors
/// Values that do not fit the plan, or a file that cannot be written.
pub fn write_plain(
    path: &Path,
    tensors: &[Tensor],
    values: &AdapterTensors,
    note: Option<(&str, &str)>,
) -> Result<(), ExportError> {
    let tensors: Vec<AdapterTensor> = tensors.iter().map(plain).collect();
    values.check(&tensors)?;
    write_tensors(path, &tensors.iter().collect::<Vec<_>>(), values, note, None)
}

/// Reads what [`write_plain`] wrote.
///
/// # Errors
/// A file that contradicts itself or the list, or holds a value that is not finite.
pub fn read_plain(path: &Path, tensors: &[Tensor]) -> Result<AdapterTensors, ExportError> {
    let tensors: Vec<AdapterTensor> = tensors.iter().map(plain).collect();
    read_tensors(path, &tensors.iter().collect::<Vec<_>>(), None)
}

/// Of a model that is not known here.
fn plain(tensor: &Tensor) -> AdapterTensor {
    AdapterTensor {
        name: tensor.name.clone(),
        shape: tensor.shape.iter().map(|&axis| axis as usize).collect(),
        // Means nothing here.
        kind: TensorKind::HeadWeight,
    }
}

/// Metadata of PyTorch's own files.
const TORCH: (&str, &str) = ("format", "pt");

/// Writes the named tensors as f32 safetensors, with one entry of metadata; with `base`, naming the base model's weights.
fn write_tensors(
    path: &Path,
    tensors: &[&AdapterTensor],
    values: &AdapterTensors,
    note: Option<(&str, &str)>,
    base: Option<[u8; 32]>,
) -> Result<(), ExportError> {
    let malformed = |problem: String| ExportError::Malformed { file: path.to_path_buf(), problem };
    let mut bytes = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let values = values.values(&tensor.name).unwrap_or_default();
        bytes.push(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
    }
    let mut views = Vec::with_capacity(tensors.len());
    for (tensor, bytes) in tensors.iter().zip(&bytes) {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)
            .map_err(|error| malformed(format!("tensor `{}`: {error}", tensor.name)))?;
        views.push((tensor.name.as_str(), view));
    }
    let note = note.map(|(key, value)| HashMap::from([(key.to_owned(), value.to_owned())]));
    let mut file = safetensors::serialize(views, note).map_err(|error| malformed(error.to_string()))?;
    if let Some(base) = base {
        name_base(&mut file, base).ok_or_else(|| malformed("cannot name the base model".to_owned()))?;
    }
    Ok(write_atomic(path, &file)?)
}

/// Puts the digest of the base model's weights first among a file's metadata. By hand, because the library keeps metadata in a map whose
/// order is drawn anew in every process, and two organizations must write the same bytes.
fn name_base(file: &mut Vec<u8>, base: [u8; 32]) -> Option<()> {
    const BEGIN: &[u8] = br#"{"__metadata__":{"#;
    let length = usize::try_from(u64::from_le_bytes(*file.first_chunk::<8>()?)).ok()?;
    let header = file.get(8..8 + length)?;
    let rest = header.strip_prefix(BEGIN)?;
    let entry = format!("\"{BASE_WEIGHTS}\":\"{}\",", hex::encode(base));
    let mut named = [BEGIN, entry.as_bytes(), rest.trim_ascii_end()].concat();
    // Tensors begin at a multiple of eight.
    named.resize(named.len().next_multiple_of(8), b' ');
    let size = (named.len() as u64).to_le_bytes();
    file.splice(..8 + length, size.into_iter().chain(named));
    Some(())
}

/// Reads exactly the named tensors.
fn read_tensors(
    path: &Path,
    tensors: &[&AdapterTensor],
    base: Option<[u8; 32]>,
) -> Result<AdapterTensors, ExportError> {
    const CURE: &str = "the adapter was made for another model or with other settings than the plan's";
    let file = CheckedTensors::open(path, MAX_ADAPTER_BYTES)?;
    if let (Some(found), Some(expected)) = (file.metadata().get(BASE_WEIGHTS), base.map(hex::encode))
        && *found != expected
    {
        let (file, found) = (path.to_path_buf(), found.chars().take(64).collect());
        return Err(ExportError::OtherBase { file, found, expected });
    }
    for tensor in tensors {
        let found = file.tensors().get(&tensor.name).ok_or_else(|| ModelError::MissingTensor {
            file: path.to_path_buf(),
            tensor: tensor.name.clone(),
            cure: CURE,
        })?;
        if found.shape != tensor.shape {
            return Err(ExportError::Model(ModelError::Shape {
                file: path.to_path_buf(),
                tensor: tensor.name.clone(),
                found: found.shape.clone(),
                expected: tensor.shape.clone(),
                cure: CURE,
            }));
        }
    }
    if let Some(name) = file.tensors().keys().find(|name| tensors.iter().all(|t| t.name != **name)) {
        return Err(ExportError::Model(ModelError::UnexpectedTensor {
            file: path.to_path_buf(),
            tensor: name.clone(),
            cure: CURE,
        }));
    }
    let mut values = AdapterTensors::new();
    file.read(&|_| true, &mut |name, _, numbers| {
        values.insert(name.to_owned(), numbers);
    })?;
    Ok(values)
}

#[cfg(test)]
mod tests;
