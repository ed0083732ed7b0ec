//! `model.safetensors` against `config.json`: every tensor the model needs, each of the right shape, and no tensor that
//! neither the model nor one of the usual heads explains (a leftover layer means that the two files do not match).
//!
//! Accepted spellings: an optional `bert.` or `roberta.` before each name, and `gamma`/`beta` for the layer norms' weight
//! and bias, as older checkpoints have them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use super::config::{Architecture, ModelConfig};
use super::error::ModelError;
use super::module::{Module, layer_name};
use super::safetensors::{ChangeTensor, CheckedTensors, EachTensor, Element};
use super::{MAX_WEIGHTS_BYTES, open_file};

const PREFIXES: [&str; 3] = ["", "bert.", "roberta."];
/// Heads and buffers that checkpoints carry beside the encoder; skipped.
const SKIPPED: [&str; 6] =
    ["pooler.", "cls.", "lm_head.", "classifier.", "embeddings.position_ids", "embeddings.token_type_ids"];
/// What a decoder's checkpoint may carry beside it: the output where it is tied to the embedding, and buffers of older versions.
const SKIPPED_BESIDE_DECODER: [&str; 1] = ["lm_head.weight"];
const CURE: &str = "config.json and model.safetensors must come from the same model";

/// A weights file that holds exactly the model which the configuration describes.
#[derive(Debug)]
pub struct ModelWeights {
    file: CheckedTensors,
    /// Name in the file → name as the bare encoder, or the decoder with its output, calls it.
    names: BTreeMap<String, String>,
    has_pooler: bool,
}

impl ModelWeights {
    /// Opens and checks `model.safetensors` in `folder`.
    ///
    /// # Errors
    /// See [`super::ModelFolder::open`].
    pub fn open(folder: &Path, config: &ModelConfig) -> Result<Self, ModelError> {
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
        refuse_leftovers(&file, prefix, &names, config.architecture)?;
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

    /// Writes the file again with the weights of some modules changed: `change(name, shape, values)` is called for each tensor of
    /// `wanted`, by the names that [`Self::read`] gives. Heads and whatever else the file holds are copied as they are.
    ///
    /// # Errors
    /// As [`CheckedTensors::rewrite`].
    pub fn rewrite(
        &self,
        out: &mut dyn Write,
        wanted: &dyn Fn(&str) -> bool,
        change: &mut ChangeTensor<'_>,
    ) -> Result<(), ModelError> {
        let named = |spelled: &str| self.names.get(spelled).is_some_and(|name| wanted(name));
        self.file.rewrite(out, &named, &mut |spelled, shape, values| {
            if let Some(name) = self.names.get(spelled) {
                change(name, shape, values);
            }
        })
    }

    /// Reads all tensors of the model as f32, named as the bare encoder names them
    /// (`embeddings.…`, `encoder.layer.{i}.…`), or the decoder with its output (`model.layers.{i}.…`), in the file's order.
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

/// Every tensor of the bare encoder, or of the decoder with its output, with its shape.
pub(super) fn expected(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let (d, architecture) = (config.hidden_size, config.architecture);
    let mut tensors: Vec<(String, Vec<usize>)> = Vec::new();
    let mut add = |name: &str, shape: &[usize]| tensors.push((name.to_owned(), shape.to_vec()));
    if architecture == Architecture::Llama {
        add("model.embed_tokens.weight", &[config.vocab_size, d]);
        add("model.norm.weight", &[d]);
        if !config.tied {
            add("lm_head.weight", &[config.vocab_size, d]);
        }
    } else {
        add("embeddings.word_embeddings.weight", &[config.vocab_size, d]);
        add("embeddings.position_embeddings.weight", &[config.position_rows, d]);
        add("embeddings.token_type_embeddings.weight", &[config.type_rows, d]);
        add("embeddings.LayerNorm.weight", &[d]);
        add("embeddings.LayerNorm.bias", &[d]);
    }
    for layer in 0..config.layers {
        for module in Module::of(architecture) {
            let (outputs, inputs) = module.shape(config);
            let name = module.name(architecture, layer);
            add(&format!("{name}.weight"), &[outputs, inputs]);
            if architecture != Architecture::Llama {
                add(&format!("{name}.bias"), &[outputs]);
            }
        }
        let at = layer_name(architecture, layer);
        if architecture == Architecture::Llama {
            add(&format!("{at}.input_layernorm.weight"), &[d]);
            add(&format!("{at}.post_attention_layernorm.weight"), &[d]);
            continue;
        }
        for norm in ["attention.output", "output"] {
            for part in ["weight", "bias"] {
                add(&format!("{at}.{norm}.LayerNorm.{part}"), &[d]);
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
    architecture: Architecture,
) -> Result<(), ModelError> {
    let known: &[&str] = if architecture.is_causal() { &SKIPPED_BESIDE_DECODER } else { &SKIPPED };
    let leftover = file.tensors().keys().find(|name| {
        let bare = name.strip_prefix(prefix).unwrap_or(name);
        let buffer = architecture.is_causal() && bare.ends_with(".rotary_emb.inv_freq");
        !names.contains_key(*name) && !buffer && !known.iter().any(|skipped| bare.starts_with(skipped))
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
