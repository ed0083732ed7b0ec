//! `model.safetensors` against `config.json`: every tensor the encoder needs, each of the right shape, and no tensor that
//! neither the encoder nor one of the usual heads explains (a leftover layer means that the two files do not match).
//!
//! Accepted spellings: an optional `bert.` or `roberta.` before each name, and `gamma`/`beta` for the layer norms' weight
//! and bias, as older checkpoints have them.

use std::collections::BTreeMap;
use std::path::Path;

use super::config::EncoderConfig;
use super::error::ModelError;
use super::safetensors::{CheckedTensors, EachTensor, Element};
use super::{MAX_WEIGHTS_BYTES, open_file};

const PREFIXES: [&str; 3] = ["", "bert.", "roberta."];
/// Heads and buffers that checkpoints carry beside the encoder; skipped.
const SKIPPED: [&str; 6] =
    ["pooler.", "cls.", "lm_head.", "classifier.", "embeddings.position_ids", "embeddings.token_type_ids"];
const CURE: &str = "config.json and model.safetensors must come from the same model";

/// A weights file that holds exactly the encoder which the configuration describes.
#[derive(Debug)]
pub struct EncoderWeights {
    file: CheckedTensors,
    /// Name in the file → name as the bare encoder calls it.
    names: BTreeMap<String, String>,
    has_pooler: bool,
}

impl EncoderWeights {
    /// Opens and checks `model.safetensors` in `folder`.
    ///
    /// # Errors
    /// See [`super::ModelFolder::open`].
    pub fn open(folder: &Path, config: &EncoderConfig) -> Result<Self, ModelError> {
        // For the error that names the folder and what it should hold.
        drop(open_file(folder, "model.safetensors")?);
        let file = CheckedTensors::open(&folder.join("model.safetensors"), MAX_WEIGHTS_BYTES)?;
        let prefix = PREFIXES
            .into_iter()
            .find(|p| file.tensors().contains_key(&format!("{p}embeddings.word_embeddings.weight")))
            .unwrap_or_default();

        let mut names = BTreeMap::new();
        for (name, expected) in expected(config) {
            let spelled = spelling(&file, prefix, &name).ok_or_else(|| ModelError::MissingTensor {
                file: file.path().to_path_buf(),
                tensor: name.clone(),
                cure: CURE,
            })?;
            // Indexing safety: `spelling` returns names of the file only.
            let entry = &file.tensors()[&spelled];
            if entry.shape != expected {
                return Err(ModelError::Shape {
                    file: file.path().to_path_buf(),
                    tensor: spelled,
                    found: entry.shape.clone(),
                    expected,
                    cure: CURE,
                });
            }
            if let Element::Other(found) = &entry.element {
                return Err(ModelError::ElementType {
                    file: file.path().to_path_buf(),
                    tensor: spelled,
                    found: found.clone(),
                });
            }
            names.insert(spelled, name);
        }
        refuse_leftovers(&file, prefix, &names)?;
        let has_pooler = file.tensors().contains_key(&format!("{prefix}pooler.dense.weight"));
        Ok(Self { file, names, has_pooler })
    }

    /// SHA-256 of the file.
    pub fn digest(&self) -> [u8; 32] {
        self.file.digest()
    }

    /// Whether the file has a pooler, a linear layer that this crate does not use but `peft` would adapt.
    pub fn has_pooler(&self) -> bool {
        self.has_pooler
    }

    /// Reads all tensors of the encoder as f32, named as the bare encoder names them
    /// (`embeddings.…`, `encoder.layer.{i}.…`), in the file's order.
    ///
    /// # Errors
    /// [`ModelError::Changed`] or [`ModelError::Io`]; what was read must then be thrown away.
    pub fn read(&self, each: &mut EachTensor<'_>) -> Result<(), ModelError> {
        self.file.read(&|name| self.names.contains_key(name), &mut |spelled, shape, values| {
            if let Some(name) = self.names.get(spelled) {
                each(name, shape, values);
            }
        })
    }
}

/// Every tensor of the bare encoder with its shape.
pub(super) fn expected(config: &EncoderConfig) -> Vec<(String, Vec<usize>)> {
    let d = config.hidden_size;
    let mut tensors = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![config.vocab_size, d]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![config.position_rows, d]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![config.type_rows, d]),
        ("embeddings.LayerNorm.weight".to_owned(), vec![d]),
        ("embeddings.LayerNorm.bias".to_owned(), vec![d]),
    ];
    for layer in 0..config.layers {
        for module in super::Module::ALL {
            let (outputs, inputs) = module.shape(config);
            let name = format!("encoder.layer.{layer}.{}", module.path());
            tensors.push((format!("{name}.weight"), vec![outputs, inputs]));
            tensors.push((format!("{name}.bias"), vec![outputs]));
        }
        for norm in ["attention.output", "output"] {
            for part in ["weight", "bias"] {
                tensors.push((format!("encoder.layer.{layer}.{norm}.LayerNorm.{part}"), vec![d]));
            }
        }
    }
    tensors
}

fn spelling(file: &CheckedTensors, prefix: &str, name: &str) -> Option<String> {
    let modern = format!("{prefix}{name}");
    if file.tensors().contains_key(&modern) {
        return Some(modern);
    }
    let old =
        modern.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
    file.tensors().contains_key(&old).then_some(old)
}

fn refuse_leftovers(
    file: &CheckedTensors,
    prefix: &str,
    names: &BTreeMap<String, String>,
) -> Result<(), ModelError> {
    let leftover = file.tensors().keys().find(|name| {
        let bare = name.strip_prefix(prefix).unwrap_or(name);
        !names.contains_key(*name) && !SKIPPED.iter().any(|skipped| bare.starts_with(skipped))
    });
    match leftover {
        None => Ok(()),
        Some(name) => Err(ModelError::UnexpectedTensor {
            file: file.path().to_path_buf(),
            tensor: name.clone(),
            cure: CURE,
        }),
    }
}
