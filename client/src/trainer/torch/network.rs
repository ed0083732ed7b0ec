//! The frozen base model in libtorch, as far as all families are alike: its matrices, where an adapter touches them, and the way from
//! token ids to states. What the families do differently is in `encoder.rs` and `decoder.rs`.
//!
//! Shapes: `n` packed rows (tokens), `d` hidden size; attention works on groups of texts (`layout.rs`). Matrices that take the same input
//! are one: query, key and value; a decoder's gate and the part that it gates.

use std::collections::HashMap;

use tch::{Device, Kind, Tensor};

use super::layout::Layout;
use super::merged::LayerWeights;
use crate::model::{Architecture, ModelConfig, ModelFolder, Module};
use crate::trainer::TrainError;

pub(super) struct Network {
    config: ModelConfig,
    device: Device,
    /// Of weights and of all that is computed with them.
    kind: Kind,
    words: Tensor,
    body: Body,
    pub(super) layers: Vec<Layer>,
}

/// What a family has beside its layers.
pub(super) enum Body {
    Encoder {
        /// Position plus token-type embedding of the rows in use.
        places: Tensor,
        norm: Norm,
    },
    Decoder {
        /// Cosine and sine of a place's angles, `[places, head width]` each.
        turns: (Tensor, Tensor),
        /// After the last layer.
        norm: Norm,
        /// `[vocabulary, d]`: the embedding itself where the two are tied.
        output: Tensor,
    },
}

/// In an encoder norms come after a part, in a decoder before it.
pub(super) struct Layer {
    /// Query, key and value stacked: `[(heads + 2·key heads)·width, d]`.
    pub(super) qkv: Dense,
    pub(super) attention_output: Dense,
    pub(super) attention_norm: Norm,
    /// A decoder's gate stands above it: `[2·wide, d]`.
    pub(super) intermediate: Dense,
    pub(super) output: Dense,
    pub(super) output_norm: Norm,
}

pub(super) struct Dense {
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
}

pub(super) struct Norm {
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
}

/// An adapted layer's place in the computation: its input and its output.
pub(super) struct Tap {
    pub(super) layer: usize,
    pub(super) place: Place,
    /// `[n, in]`, outside the graph.
    pub(super) input: Tensor,
    /// `[n, out]`, inside the graph.
    pub(super) output: Tensor,
}

/// The four matrix products of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Qkv,
    AttentionOutput,
    Intermediate,
    Output,
}

/// A module's outputs among those of its product: where they begin, and how many they are.
pub(super) type Rows = (i64, i64);

impl Place {
    /// Where a module's outputs are: the product, and which part of it where it is stacked.
    pub(super) fn of(module: Module, config: &ModelConfig) -> (Self, Option<Rows>) {
        let (queries, keys) =
            ((config.heads * config.head_width) as i64, (config.key_heads * config.head_width) as i64);
        let wide = config.intermediate_size as i64;
        let gated = config.architecture == Architecture::Llama;
        match module {
            Module::Query => (Self::Qkv, Some((0, queries))),
            Module::Key => (Self::Qkv, Some((queries, keys))),
            Module::Value => (Self::Qkv, Some((queries + keys, keys))),
            Module::AttentionOutput => (Self::AttentionOutput, None),
            Module::Gate => (Self::Intermediate, Some((0, wide))),
            Module::Intermediate => (Self::Intermediate, gated.then_some((wide, wide))),
            Module::Output => (Self::Output, None),
        }
    }
}

/// Collects taps while gradients are wanted.
pub(super) enum Taps {
    /// Forward only.
    Off,
    /// Keep the products that `wanted(layer, place)` names.
    On { wanted: Vec<(usize, Place)>, found: Vec<Tap> },
}

impl Taps {
    pub(super) fn are_on(&self) -> bool {
        matches!(self, Self::On { .. })
    }

    pub(super) fn keep(
        &mut self,
        layer: usize,
        place: Place,
        input: &Tensor,
        output: Tensor,
    ) -> Result<Tensor, TrainError> {
        let Self::On { wanted, found } = self else { return Ok(output) };
        if !wanted.contains(&(layer, place)) {
            return Ok(output);
        }
        // The first adapted product starts the graph; nothing below it is differentiated.
        let output = if output.requires_grad() { output } else { output.f_detach()?.set_requires_grad(true) };
        found.push(Tap { layer, place, input: input.f_detach()?, output: output.shallow_clone() });
        Ok(output)
    }
}

impl Network {
    /// Reads the weights; holds one copy of them, in `kind`, on `device`. `max_tokens` bounds the places that are ever asked for.
    pub(super) fn load(
        folder: &ModelFolder,
        kind: Kind,
        device: Device,
        max_tokens: usize,
    ) -> Result<Self, TrainError> {
        let mut tensors = HashMap::new();
        let mut failed = None;
        folder.weights().read(&mut |name, shape, values| {
            let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
            let tensor = Tensor::f_from_slice(&values)
                .and_then(|flat| flat.f_reshape(&shape))
                .and_then(|tensor| tensor.f_to_kind(kind))
                .and_then(|tensor| tensor.f_to_device(device));
            match tensor {
                Ok(tensor) => drop(tensors.insert(name.to_owned(), tensor)),
                Err(error) => failed = Some(error),
            }
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        let mut tensors = Named(tensors);
        let config = folder.config().clone();
        let layers =
            (0..config.layers).map(|layer| tensors.layer(&config, layer)).collect::<Result<_, _>>()?;
        let (words, body) = if config.architecture == Architecture::Llama {
            let words = tensors.take("model.embed_tokens.weight")?;
            let output = if config.tied { words.shallow_clone() } else { tensors.take("lm_head.weight")? };
            let norm = tensors.rms("model.norm")?;
            let (cos, sin) = super::decoder::turns(&config, max_tokens)?;
            let move_it = |table: Tensor| table.f_to_kind(kind)?.f_to_device(device);
            (words, Body::Decoder { turns: (move_it(cos)?, move_it(sin)?), norm, output })
        } else {
            let first = config.first_position() as i64;
            let types = tensors.take("embeddings.token_type_embeddings.weight")?;
            let positions = tensors.take("embeddings.position_embeddings.weight")?;
            let places = positions.f_narrow(0, first, config.max_tokens() as i64)?.f_add(&types.f_get(0)?)?;
            let words = tensors.take("embeddings.word_embeddings.weight")?;
            (words, Body::Encoder { places, norm: tensors.norm("embeddings")? })
        };
        Ok(Self { config, device, kind, words, body, layers })
    }

    pub(super) fn config(&self) -> &ModelConfig {
        &self.config
    }

    pub(super) fn device(&self) -> Device {
        self.device
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Token ids and their places in their texts, both `[n]` → states `[n, d]` before the first layer.
    pub(super) fn embed(&self, ids: &Tensor, places: &Tensor) -> Result<Tensor, TrainError> {
        let words = self.words.f_index_select(0, ids)?;
        match &self.body {
            Body::Encoder { places: table, norm } => {
                norm.apply(&words.f_add(&table.f_index_select(0, places)?)?, &self.config)
            }
            Body::Decoder { .. } => Ok(words),
        }
    }

    /// One layer: `[n, d]` → `[n, d]`.
    pub(super) fn layer(
        &self,
        index: usize,
        weights: &LayerWeights,
        x: &Tensor,
        layout: &Layout,
        taps: &mut Taps,
    ) -> Result<Tensor, TrainError> {
        match &self.body {
            Body::Encoder { .. } => self.encoder_layer(index, weights, x, layout, taps),
            Body::Decoder { turns, .. } => self.decoder_layer(index, weights, turns, x, layout, taps),
        }
    }

    /// What comes after the last layer: `[n, d]` → `[n, d]`.
    pub(super) fn finish(&self, x: Tensor) -> Result<Tensor, TrainError> {
        match &self.body {
            Body::Encoder { .. } => Ok(x),
            Body::Decoder { norm, .. } => norm.apply(&x, &self.config),
        }
    }

    /// The rows that a state is compared with to tell the next token, `[vocabulary, d]`.
    pub(super) fn vocabulary(&self) -> Result<&Tensor, TrainError> {
        match &self.body {
            Body::Decoder { output, .. } => Ok(output),
            Body::Encoder { .. } => Err(TrainError::Torch("an encoder has no output".to_owned())),
        }
    }
}

impl Norm {
    /// Layer norm (Ba et al., 2016), or RMSNorm (Zhang and Sennrich, 2019) where there is no bias.
    pub(super) fn apply(&self, x: &Tensor, config: &ModelConfig) -> Result<Tensor, TrainError> {
        let (d, eps) = (config.hidden_size as i64, config.norm_eps);
        Ok(match &self.bias {
            Some(bias) => x.f_layer_norm([d], Some(&self.weight), Some(bias), eps, false)?,
            None => x.f_rms_norm([d], Some(&self.weight), Some(eps))?,
        })
    }
}

/// Tensors by the names that [`ModelFolder`] gives them, which has checked that all are there.
struct Named(HashMap<String, Tensor>);

impl Named {
    fn take(&mut self, name: &str) -> Result<Tensor, TrainError> {
        self.0.remove(name).ok_or_else(|| TrainError::Torch(format!("tensor `{name}` was not read")))
    }

    fn norm(&mut self, name: &str) -> Result<Norm, TrainError> {
        Ok(Norm {
            weight: self.take(&format!("{name}.LayerNorm.weight"))?,
            bias: Some(self.take(&format!("{name}.LayerNorm.bias"))?),
        })
    }

    fn rms(&mut self, name: &str) -> Result<Norm, TrainError> {
        Ok(Norm { weight: self.take(&format!("{name}.weight"))?, bias: None })
    }

    /// The named matrices one above the other.
    fn stacked(&mut self, names: &[String], biases: bool) -> Result<Dense, TrainError> {
        let weights =
            names.iter().map(|name| self.take(&format!("{name}.weight"))).collect::<Result<Vec<_>, _>>()?;
        let bias = match biases {
            false => None,
            true => {
                let each = names.iter().map(|name| self.take(&format!("{name}.bias")));
                Some(Tensor::f_cat(&each.collect::<Result<Vec<_>, _>>()?, 0)?)
            }
        };
        Ok(Dense { weight: Tensor::f_cat(&weights, 0)?, bias })
    }

    fn layer(&mut self, config: &ModelConfig, index: usize) -> Result<Layer, TrainError> {
        let architecture = config.architecture;
        let decoder = architecture == Architecture::Llama;
        let name = |module: Module| module.name(architecture, index);
        let wide =
            if decoder { vec![Module::Gate, Module::Intermediate] } else { vec![Module::Intermediate] };
        let mut dense = |modules: &[Module]| {
            let names: Vec<String> = modules.iter().map(|&module| name(module)).collect();
            self.stacked(&names, !decoder)
        };
        let (qkv, attention_output, intermediate, output) = (
            dense(&[Module::Query, Module::Key, Module::Value])?,
            dense(&[Module::AttentionOutput])?,
            dense(&wide)?,
            dense(&[Module::Output])?,
        );
        let (attention_norm, output_norm) = if decoder {
            let at = format!("model.layers.{index}");
            (
                self.rms(&format!("{at}.input_layernorm"))?,
                self.rms(&format!("{at}.post_attention_layernorm"))?,
            )
        } else {
            let at = format!("encoder.layer.{index}");
            (self.norm(&format!("{at}.attention.output"))?, self.norm(&format!("{at}.output"))?)
        };
        Ok(Layer { qkv, attention_output, attention_norm, intermediate, output, output_norm })
    }
}

pub(super) fn uneven() -> TrainError {
    TrainError::Torch("a tensor did not fall into its parts".to_owned())
}

/// The values of a tensor of any shape, row-major.
pub(super) fn read_f32(tensor: &Tensor, into: &mut Vec<f32>) -> Result<(), TrainError> {
    let tensor = tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    into.resize(tensor.numel(), 0.0);
    let length = into.len();
    tensor.f_copy_data(into, length)?;
    Ok(())
}
