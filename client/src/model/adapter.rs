//! The adapter: which tensors a plan trains, from the configuration alone.
//!
//! LoRA (Hu et al., 2021): a linear layer `y = W·x + b` becomes `y = W·x + b + s·B·(A·x)` with `A` of shape `[r, in]`, `B` of
//! shape `[out, r]`, `s = α/r`, or `α/√r` with `use_rslora` (Kalajdzievski, 2023). Names are those that `peft` gives the bare
//! encoder, `base_model.model.encoder.layer.{i}.{module}.lora_A.weight`; a target matches as in `peft`: the module's path equals it or ends in `.` and it.
//! The classifier head is `head.weight` `[labels, d]` and `head.bias` `[labels]`. **Name order** (bytewise) is the order in which
//! trained tensors are laid flat, everywhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::EncoderConfig;
use super::error::ModelError;

/// Name of the head's weight.
pub const HEAD_WEIGHT: &str = "head.weight";
/// Name of the head's bias.
pub const HEAD_BIAS: &str = "head.bias";

/// How token states become one vector per text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The mean over all tokens of the text, its special tokens included.
    Mean,
    /// The first token's last hidden state (no pooler layer).
    Cls,
}

/// What the plan says about the adapter and the head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterSpec {
    /// `r` in `peft`, 1 to 1024 and at most the layer's smaller side.
    pub rank: usize,
    /// `lora_alpha` in `peft`; above 0.
    pub alpha: f64,
    /// Scale by `α/√r` instead of `α/r`.
    pub use_rslora: bool,
    /// Names of linear layers; empty: only the head is trained.
    pub target_modules: Vec<String>,
    /// Layers that are adapted, counted from 0; absent: all. `layers_to_transform` in `peft`.
    pub layers: Option<Vec<u32>>,
    /// How token states become one vector.
    pub pooling: Pooling,
    /// Texts are cut to this many tokens, special tokens included.
    pub max_tokens: usize,
    /// How many labels the head tells apart, 2 to 100,000.
    pub labels: usize,
}

impl AdapterSpec {
    /// The factor `s` before `B·A`.
    pub fn scaling(&self) -> f64 {
        let rank = self.rank as f64;
        if self.use_rslora { self.alpha / rank.sqrt() } else { self.alpha / rank }
    }
}

/// The linear layers inside one transformer layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Module {
    /// `attention.self.query`
    Query,
    /// `attention.self.key`
    Key,
    /// `attention.self.value`
    Value,
    /// `attention.output.dense`
    AttentionOutput,
    /// `intermediate.dense`
    Intermediate,
    /// `output.dense`
    Output,
}

impl Module {
    /// All of them, in the order in which they are applied.
    pub const ALL: [Self; 6] =
        [Self::Query, Self::Key, Self::Value, Self::AttentionOutput, Self::Intermediate, Self::Output];

    /// Its path inside `encoder.layer.{i}`.
    pub fn path(self) -> &'static str {
        match self {
            Self::Query => "attention.self.query",
            Self::Key => "attention.self.key",
            Self::Value => "attention.self.value",
            Self::AttentionOutput => "attention.output.dense",
            Self::Intermediate => "intermediate.dense",
            Self::Output => "output.dense",
        }
    }

    /// `(outputs, inputs)` of its weight.
    pub fn shape(self, config: &EncoderConfig) -> (usize, usize) {
        let (d, wide) = (config.hidden_size, config.intermediate_size);
        match self {
            Self::Query | Self::Key | Self::Value | Self::AttentionOutput => (d, d),
            Self::Intermediate => (wide, d),
            Self::Output => (d, wide),
        }
    }
}

/// What a tensor of the adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorKind {
    /// `lora_A` of a module in a layer.
    A {
        /// The layer, counted from 0.
        layer: usize,
        /// The module.
        module: Module,
    },
    /// `lora_B` of a module in a layer.
    B {
        /// The layer, counted from 0.
        layer: usize,
        /// The module.
        module: Module,
    },
    /// The head's weight.
    HeadWeight,
    /// The head's bias.
    HeadBias,
}

/// One tensor of the adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterTensor {
    /// Its name.
    pub name: String,
    /// Its shape, row-major.
    pub shape: Vec<usize>,
    /// What it is.
    pub kind: TensorKind,
}

impl AdapterTensor {
    /// How many numbers it holds.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Every tensor of the adapter, in name order.
///
/// # Errors
/// A number out of range, a layer the model does not have, or a target that matches nothing.
pub fn adapter_tensors(config: &EncoderConfig, spec: &AdapterSpec) -> Result<Vec<AdapterTensor>, ModelError> {
    check_spec(config, spec)?;
    let mut tensors = vec![
        AdapterTensor {
            name: HEAD_WEIGHT.to_owned(),
            shape: vec![spec.labels, config.hidden_size],
            kind: TensorKind::HeadWeight,
        },
        AdapterTensor { name: HEAD_BIAS.to_owned(), shape: vec![spec.labels], kind: TensorKind::HeadBias },
    ];
    let modules = matched_modules(config, spec)?;
    for layer in adapted_layers(config, spec) {
        for &module in &modules {
            let (outputs, inputs) = module.shape(config);
            let name = format!("base_model.model.encoder.layer.{layer}.{}", module.path());
            tensors.push(AdapterTensor {
                name: format!("{name}.lora_A.weight"),
                shape: vec![spec.rank, inputs],
                kind: TensorKind::A { layer, module },
            });
            tensors.push(AdapterTensor {
                name: format!("{name}.lora_B.weight"),
                shape: vec![outputs, spec.rank],
                kind: TensorKind::B { layer, module },
            });
        }
    }
    tensors.sort_by(|x, y| x.name.cmp(&y.name));
    Ok(tensors)
}

fn check_spec(config: &EncoderConfig, spec: &AdapterSpec) -> Result<(), ModelError> {
    let refuse = |field, value: String, problem: String| Err(ModelError::Adapter { field, value, problem });
    if !(2..=100_000).contains(&spec.labels) {
        return refuse("labels", spec.labels.to_string(), "must be 2 to 100000".to_owned());
    }
    if !(3..=config.max_tokens()).contains(&spec.max_tokens) {
        return Err(ModelError::TooManyTokens { wanted: spec.max_tokens, most: config.max_tokens() });
    }
    if spec.target_modules.is_empty() {
        return Ok(());
    }
    let most = config.hidden_size.min(config.intermediate_size).min(1024);
    if !(1..=most).contains(&spec.rank) {
        return refuse("rank", spec.rank.to_string(), format!("must be 1 to {most}"));
    }
    if !(spec.alpha > 0.0 && spec.alpha <= 1e6) {
        return refuse("alpha", spec.alpha.to_string(), "must be above 0, at most 1e6".to_owned());
    }
    if let Some(layers) = &spec.layers {
        if layers.is_empty() {
            return refuse(
                "layers",
                "[]".to_owned(),
                "names no layer; leave it out to adapt all, or empty target_modules to train the head only"
                    .to_owned(),
            );
        }
        for (index, &layer) in layers.iter().enumerate() {
            if layer as usize >= config.layers {
                return refuse(
                    "layers",
                    layer.to_string(),
                    format!("the model has layers 0 to {}", config.layers - 1),
                );
            }
            if layers[..index].contains(&layer) {
                return refuse("layers", layer.to_string(), "is named twice".to_owned());
            }
        }
    }
    Ok(())
}

fn adapted_layers(config: &EncoderConfig, spec: &AdapterSpec) -> Vec<usize> {
    let mut layers: Vec<usize> = match &spec.layers {
        Some(layers) => layers.iter().map(|&layer| layer as usize).collect(),
        None => (0..config.layers).collect(),
    };
    layers.sort_unstable();
    layers
}

fn matched_modules(config: &EncoderConfig, spec: &AdapterSpec) -> Result<Vec<Module>, ModelError> {
    let mut modules = Vec::new();
    for target in &spec.target_modules {
        let matched = Module::ALL.into_iter().filter(|module| matches(module.path(), target));
        let before = modules.len();
        modules.extend(matched);
        if modules.len() == before {
            return Err(ModelError::NoSuchModule {
                target: target.clone(),
                known: Module::ALL.iter().map(|module| module.path()).collect(),
            });
        }
        // `peft` would adapt the pooler too, and then miss its tensors; with `layers` it does not look outside the layers.
        if spec.layers.is_none() && matches("pooler.dense", target) {
            return Err(ModelError::Adapter {
                field: "target_modules",
                value: target.clone(),
                problem: format!(
                    "also means the pooler, which is not trained here; name attention.output.dense, intermediate.dense or \
                     output.dense, or set layers = [0, …, {}]",
                    config.layers - 1
                ),
            });
        }
    }
    modules.sort_unstable();
    modules.dedup();
    Ok(modules)
}

fn matches(path: &str, target: &str) -> bool {
    path == target
        || path.strip_suffix(target).is_some_and(|before| before.ends_with('.') && !target.is_empty())
}

/// The adapter's values by name, each flat and row-major. Says nothing about completeness: see [`AdapterTensors::check`].
#[derive(Clone, Default, PartialEq)]
pub struct AdapterTensors(BTreeMap<String, Vec<f32>>);

impl std::fmt::Debug for AdapterTensors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, values)| (name, values.len()))).finish()
    }
}

impl AdapterTensors {
    /// No tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one tensor; returns the values it had.
    pub fn insert(&mut self, name: String, values: Vec<f32>) -> Option<Vec<f32>> {
        self.0.insert(name, values)
    }

    /// One tensor's values.
    pub fn values(&self, name: &str) -> Option<&[f32]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// One tensor's values, to change them.
    pub fn values_mut(&mut self, name: &str) -> Option<&mut [f32]> {
        self.0.get_mut(name).map(Vec::as_mut_slice)
    }

    /// Names and values, in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[f32])> {
        self.0.iter().map(|(name, values)| (name.as_str(), values.as_slice()))
    }

    /// Checks that these are exactly the `expected` tensors, each of the right size and finite.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] naming the first tensor that is missing, not expected, of a wrong size, or not finite.
    pub fn check(&self, expected: &[AdapterTensor]) -> Result<(), ModelError> {
        let refuse =
            |tensor: &str, problem: String| Err(ModelError::Tensor { tensor: tensor.to_owned(), problem });
        for tensor in expected {
            let Some(values) = self.values(&tensor.name) else {
                return refuse(&tensor.name, "is missing".to_owned());
            };
            if values.len() != tensor.elements() {
                return refuse(
                    &tensor.name,
                    format!("holds {} numbers, expected {:?}", values.len(), tensor.shape),
                );
            }
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return refuse(&tensor.name, format!("element {index} is {}", values[index]));
            }
        }
        if self.0.len() != expected.len() {
            let stray = self.0.keys().find(|name| expected.iter().all(|t| &t.name != *name));
            return refuse(stray.map_or("", String::as_str), "is not part of this adapter".to_owned());
        }
        Ok(())
    }
}

impl FromIterator<(String, Vec<f32>)> for AdapterTensors {
    fn from_iter<I: IntoIterator<Item = (String, Vec<f32>)>>(tensors: I) -> Self {
        Self(tensors.into_iter().collect())
    }
}
