//! The adapter: which tensors a plan trains, from the configuration alone.
//!
//! LoRA (Hu et al., 2021): a linear layer `y = W·x + b` becomes `y = W·x + b + s·B·(A·x)` with `A` of shape `[r, in]`, `B` of
//! shape `[out, r]`, `s = α/r`, or `α/√r` with `use_rslora` (Kalajdzievski, 2023). Names are those that `peft` gives the bare
//! encoder, `base_model.model.encoder.layer.{i}.{module}.lora_A.weight`, or the causal decoder with its output,
//! `base_model.model.model.layers.{i}.{module}.lora_A.weight`; targets match as in `peft`.
//! The classifier head is `head.weight` `[labels, d]` and `head.bias` `[labels]`. **Name order** (bytewise) is the order in which
//! trained tensors are laid flat, everywhere.

use std::collections::{BTreeMap, BTreeSet};

pub use consilium_proto::plan::{Pooling, TargetModules, TaskKind};

use super::config::ModelConfig;
use super::error::ModelError;
use super::module::Module;

/// Name of the head's weight.
pub const HEAD_WEIGHT: &str = "head.weight";
/// Name of the head's bias.
pub const HEAD_BIAS: &str = "head.bias";

/// What the plan says about the adapter and the head.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterSpec {
    /// `r` in `peft`, 1 to 1024 and at most the layer's smaller side.
    pub rank: usize,
    /// `lora_alpha` in `peft`; above 0.
    pub alpha: f64,
    /// Scale by `α/√r` instead of `α/r`.
    pub use_rslora: bool,
    /// Linear layers, by names or by a pattern; empty: only the head is trained.
    pub target_modules: TargetModules,
    /// Layers that are adapted, counted from 0; absent: all. `layers_to_transform` in `peft`.
    pub layers: Option<Vec<u32>>,
    /// Part of an adapted layer's inputs that a training step leaves out before `A`; `lora_dropout` in `peft`.
    pub dropout: f64,
    /// How token states become one vector.
    pub pooling: Pooling,
    /// Texts are cut to this many tokens, special tokens included.
    pub max_tokens: usize,
    /// What is learned of a text.
    pub task: TaskKind,
    /// How many labels the head tells apart, 2 to 100,000; 0 without a head.
    pub labels: usize,
    /// Weights of the labels in the loss; empty: all 1.
    pub class_weights: Vec<f64>,
}

impl AdapterSpec {
    /// The factor `s` before `B·A`.
    pub fn scaling(&self) -> f64 {
        let rank = self.rank as f64;
        if self.use_rslora { self.alpha / rank.sqrt() } else { self.alpha / rank }
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
pub fn adapter_tensors(config: &ModelConfig, spec: &AdapterSpec) -> Result<Vec<AdapterTensor>, ModelError> {
    check_spec(config, spec)?;
    let mut tensors = Vec::new();
    if spec.task != TaskKind::NextToken {
        tensors.push(AdapterTensor {
            name: HEAD_WEIGHT.to_owned(),
            shape: vec![spec.labels, config.hidden_size],
            kind: TensorKind::HeadWeight,
        });
        let shape = vec![spec.labels];
        tensors.push(AdapterTensor { name: HEAD_BIAS.to_owned(), shape, kind: TensorKind::HeadBias });
    }
    for (layer, module) in adapted(config, spec)? {
        let (outputs, inputs) = module.shape(config);
        let name = format!("base_model.model.{}", module.name(config.architecture, layer));
        check_rank(&name, spec.rank, outputs.min(inputs))?;
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
    tensors.sort_by(|x, y| x.name.cmp(&y.name));
    Ok(tensors)
}

fn check_spec(config: &ModelConfig, spec: &AdapterSpec) -> Result<(), ModelError> {
    check_task(config, spec)?;
    if !(3..=config.max_tokens()).contains(&spec.max_tokens) {
        return Err(ModelError::TooManyTokens { wanted: spec.max_tokens, most: config.max_tokens() });
    }
    if spec.target_modules.is_empty() {
        return Ok(());
    }
    let refuse = |field, value: String, problem: String| Err(ModelError::Adapter { field, value, problem });
    if !(spec.alpha > 0.0 && spec.alpha <= 1e6) {
        return refuse("alpha", spec.alpha.to_string(), "must be above 0, at most 1e6".to_owned());
    }
    if !(0.0..1.0).contains(&spec.dropout) {
        return refuse("dropout", spec.dropout.to_string(), "must be 0 to below 1".to_owned());
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

/// Whether the model can learn what the task asks of it.
fn check_task(config: &ModelConfig, spec: &AdapterSpec) -> Result<(), ModelError> {
    let refuse = |field, value: &str, problem: String| {
        Err(ModelError::Adapter { field, value: value.to_owned(), problem })
    };
    let causal = config.architecture.is_causal();
    let pooling = format!("{:?}", spec.pooling).to_lowercase();
    match (spec.task, spec.pooling) {
        (TaskKind::NextToken, _) if !causal => refuse(
            "task",
            "next-token",
            "needs a causal decoder (llama); in this model a token sees those after it, too".to_owned(),
        ),
        (TaskKind::NextToken, Pooling::None) if spec.target_modules.is_empty() => {
            refuse("target_modules", "[]", "next-token has no head to train: name a module".to_owned())
        }
        (TaskKind::NextToken, Pooling::None) if spec.labels == 0 => Ok(()),
        (TaskKind::NextToken, Pooling::None) => {
            refuse("labels", &spec.labels.to_string(), "next-token has no labels".to_owned())
        }
        (TaskKind::NextToken, _) | (_, Pooling::None) => refuse(
            "pooling",
            &pooling,
            "next-token goes with `none`, every other task with `mean` or `cls`".to_owned(),
        ),
        (_, Pooling::Cls) if causal => refuse(
            "pooling",
            &pooling,
            "a decoder's first token sees nothing of the text; use mean".to_owned(),
        ),
        _ if !(2..=100_000).contains(&spec.labels) => {
            refuse("labels", &spec.labels.to_string(), "must be 2 to 100000".to_owned())
        }
        _ if !spec.class_weights.is_empty() && spec.class_weights.len() != spec.labels => refuse(
            "class_weights",
            &spec.class_weights.len().to_string(),
            format!("must be one for each of the {} labels, or none", spec.labels),
        ),
        _ => Ok(()),
    }
}

fn check_rank(module: &str, rank: usize, most: usize) -> Result<(), ModelError> {
    let most = most.min(1024);
    if (1..=most).contains(&rank) {
        return Ok(());
    }
    let problem = format!("must be 1 to {most}, the smaller side of {module}");
    Err(ModelError::Adapter { field: "rank", value: rank.to_string(), problem })
}

/// Full names of the modules that a description means on this model; none where it means none.
pub(crate) fn meant(
    config: &ModelConfig,
    targets: &TargetModules,
    layers: Option<&[u32]>,
) -> Result<BTreeSet<String>, String> {
    let matcher = targets.matcher()?;
    let wanted =
        |layer: usize| layers.is_none_or(|layers| layers.iter().any(|&wanted| wanted as usize == layer));
    let of_layer = |layer| Module::of(config.architecture).iter().map(move |module| (layer, module));
    Ok((0..config.layers)
        .filter(|&layer| wanted(layer))
        .flat_map(of_layer)
        .map(|(layer, module)| module.name(config.architecture, layer))
        .filter(|name| matcher.matches(name))
        .collect())
}

/// The target that means a module.
fn naming(targets: &TargetModules, module: &str) -> String {
    match targets {
        TargetModules::Pattern(text) => text.clone(),
        TargetModules::Names(names) => {
            let one = |name: &&String| TargetModules::Names(vec![(*name).clone()]);
            let means = |name: &&String| one(name).matcher().is_ok_and(|matcher| matcher.matches(module));
            names.iter().find(means).cloned().unwrap_or_default()
        }
    }
}

/// The adapted modules, layer by layer.
fn adapted(config: &ModelConfig, spec: &AdapterSpec) -> Result<Vec<(usize, Module)>, ModelError> {
    let architecture = config.architecture;
    let targets = spec.target_modules.matcher().map_err(|problem| ModelError::Adapter {
        field: "target_modules",
        value: "(a pattern)".to_owned(),
        problem,
    })?;
    let everywhere =
        || (0..config.layers).flat_map(|layer| Module::of(architecture).iter().map(move |m| (layer, *m)));
    let names: Vec<String> = everywhere().map(|(layer, module)| module.name(architecture, layer)).collect();
    if spec.target_modules.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(target) = targets.unmatched(names.iter().map(String::as_str)) {
        return Err(ModelError::NoSuchModule {
            target,
            known: Module::of(architecture).iter().map(|module| module.path(architecture)).collect(),
        });
    }
    // `peft` would adapt the pooler too, and then miss its tensors; with `layers` it does not look outside the layers.
    if spec.layers.is_none() && !architecture.is_causal() && targets.matches("pooler.dense") {
        return Err(ModelError::Adapter {
            field: "target_modules",
            value: naming(&spec.target_modules, "pooler.dense"),
            problem: format!(
                "also means the pooler, which is not trained here; name attention.output.dense, intermediate.dense or \
                 output.dense, or set layers = [0, …, {}]",
                config.layers - 1
            ),
        });
    }
    let wanted = |layer: usize| match &spec.layers {
        Some(layers) => layers.iter().any(|&wanted| wanted as usize == layer),
        None => true,
    };
    Ok(everywhere()
        .zip(&names)
        .filter(|((layer, _), name)| wanted(*layer) && targets.matches(name))
        .map(|(place, _)| place)
        .collect())
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
