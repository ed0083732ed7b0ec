//! The frozen encoder in libtorch: embeddings and post-norm transformer layers (Vaswani et al., 2017; Devlin et al., 2018),
//! as `transformers` computes them in evaluation mode. The three projections of attention are one matrix product.
//!
//! Shapes: `n` packed rows (tokens), `d` hidden size; attention works on groups of texts (`layout.rs`).

use std::collections::HashMap;

use tch::{Kind, Tensor};

use super::layout::Layout;
use super::merged::LayerWeights;
use crate::model::{Activation, EncoderConfig, ModelFolder, Module};
use crate::trainer::TrainError;

pub(super) struct Encoder {
    config: EncoderConfig,
    words: Tensor,
    /// Position plus token-type embedding of the rows in use.
    places: Tensor,
    norm: Norm,
    pub(super) layers: Vec<Layer>,
}

pub(super) struct Layer {
    /// Query, key and value stacked: `[3d, d]`.
    pub(super) qkv: Dense,
    pub(super) attention_output: Dense,
    attention_norm: Norm,
    pub(super) intermediate: Dense,
    pub(super) output: Dense,
    output_norm: Norm,
}

pub(super) struct Dense {
    pub(super) weight: Tensor,
    bias: Tensor,
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
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

impl Place {
    /// Where a module's outputs are: the product, and the third of it for query, key and value.
    pub(super) fn of(module: Module) -> (Self, Option<usize>) {
        match module {
            Module::Query => (Self::Qkv, Some(0)),
            Module::Key => (Self::Qkv, Some(1)),
            Module::Value => (Self::Qkv, Some(2)),
            Module::AttentionOutput => (Self::AttentionOutput, None),
            Module::Intermediate => (Self::Intermediate, None),
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
    fn keep(
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

impl Encoder {
    /// Reads the weights; holds one f32 copy of them.
    pub(super) fn load(folder: &ModelFolder) -> Result<Self, TrainError> {
        let mut tensors = HashMap::new();
        let mut failed = None;
        folder.weights().read(&mut |name, shape, values| {
            let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
            match Tensor::f_from_slice(&values).and_then(|flat| flat.f_reshape(&shape)) {
                Ok(tensor) => drop(tensors.insert(name.to_owned(), tensor)),
                Err(error) => failed = Some(error),
            }
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        let mut tensors = Named(tensors);
        let config = folder.config().clone();
        let first = config.first_position() as i64;
        let types = tensors.take("embeddings.token_type_embeddings.weight")?;
        let positions = tensors.take("embeddings.position_embeddings.weight")?;
        let places = positions.f_narrow(0, first, config.max_tokens() as i64)?.f_add(&types.f_get(0)?)?;
        let layers = (0..config.layers).map(|layer| tensors.layer(layer)).collect::<Result<_, _>>()?;
        Ok(Self {
            words: tensors.take("embeddings.word_embeddings.weight")?,
            places,
            norm: tensors.norm("embeddings")?,
            layers,
            config,
        })
    }

    pub(super) fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Token ids and their places in their texts, both `[n]` → states `[n, d]` before the first layer.
    pub(super) fn embed(&self, ids: &Tensor, places: &Tensor) -> Result<Tensor, TrainError> {
        let words = self.words.f_index_select(0, ids)?;
        self.norm.apply(&words.f_add(&self.places.f_index_select(0, places)?)?, &self.config)
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
        // Indexing safety: callers count through `layers`.
        let layer = &self.layers[index];
        let qkv = x.f_linear(&weights.qkv, Some(&layer.qkv.bias))?;
        let qkv = taps.keep(index, Place::Qkv, x, qkv)?;
        let mixed = self.attend(&qkv, layout)?;
        let attended = mixed.f_linear(&weights.attention_output, Some(&layer.attention_output.bias))?;
        let attended = taps.keep(index, Place::AttentionOutput, &mixed, attended)?;
        let x = layer.attention_norm.apply(&attended.f_add(x)?, &self.config)?;

        let wide = x.f_linear(&weights.intermediate, Some(&layer.intermediate.bias))?;
        let wide = taps.keep(index, Place::Intermediate, &x, wide)?;
        let active = self.activate(&wide)?;
        let narrow = active.f_linear(&weights.output, Some(&layer.output.bias))?;
        let narrow = taps.keep(index, Place::Output, &active, narrow)?;
        layer.output_norm.apply(&narrow.f_add(&x)?, &self.config)
    }

    fn attend(&self, qkv: &Tensor, layout: &Layout) -> Result<Tensor, TrainError> {
        let heads = self.config.heads as i64;
        let width = self.config.hidden_size as i64 / heads;
        let mut groups = Vec::with_capacity(layout.groups.len());
        for group in &layout.groups {
            let (b, t) = (group.b, group.t);
            let split = group.pad(qkv)?.f_view([b, t, 3, heads, width])?.f_permute([2, 0, 3, 1, 4])?;
            let (q, k, v) = (split.f_get(0)?, split.f_get(1)?, split.f_get(2)?);
            let mask = Some(&group.mask);
            let mixed = Tensor::f_scaled_dot_product_attention(&q, &k, &v, mask, 0.0, false, None, false)?;
            groups.push(mixed.f_transpose(1, 2)?.f_reshape([b * t, heads * width])?);
        }
        layout.pack(&groups)
    }

    fn activate(&self, x: &Tensor) -> Result<Tensor, TrainError> {
        Ok(match self.config.activation {
            Activation::Gelu => x.f_gelu("none")?,
            Activation::GeluTanh => x.f_gelu("tanh")?,
            Activation::Relu => x.f_relu()?,
        })
    }
}

impl Norm {
    fn apply(&self, x: &Tensor, config: &EncoderConfig) -> Result<Tensor, TrainError> {
        let (d, eps) = (config.hidden_size as i64, config.layer_norm_eps);
        Ok(x.f_layer_norm([d], Some(&self.weight), Some(&self.bias), eps, false)?)
    }
}

/// Tensors by the bare encoder's names; [`ModelFolder`] has checked that all are there.
struct Named(HashMap<String, Tensor>);

impl Named {
    fn take(&mut self, name: &str) -> Result<Tensor, TrainError> {
        self.0.remove(name).ok_or_else(|| TrainError::Torch(format!("tensor `{name}` was not read")))
    }

    fn dense(&mut self, name: &str) -> Result<Dense, TrainError> {
        Ok(Dense { weight: self.take(&format!("{name}.weight"))?, bias: self.take(&format!("{name}.bias"))? })
    }

    fn norm(&mut self, name: &str) -> Result<Norm, TrainError> {
        Ok(Norm {
            weight: self.take(&format!("{name}.LayerNorm.weight"))?,
            bias: self.take(&format!("{name}.LayerNorm.bias"))?,
        })
    }

    fn layer(&mut self, index: usize) -> Result<Layer, TrainError> {
        let at = format!("encoder.layer.{index}");
        let part = |module: Module| format!("{at}.{}", module.path());
        let parts = [
            self.dense(&part(Module::Query))?,
            self.dense(&part(Module::Key))?,
            self.dense(&part(Module::Value))?,
        ];
        let [weights, biases] = [parts.each_ref().map(|p| &p.weight), parts.each_ref().map(|p| &p.bias)];
        Ok(Layer {
            qkv: Dense { weight: Tensor::f_cat(&weights, 0)?, bias: Tensor::f_cat(&biases, 0)? },
            attention_output: self.dense(&part(Module::AttentionOutput))?,
            attention_norm: self.norm(&format!("{at}.attention.output"))?,
            intermediate: self.dense(&part(Module::Intermediate))?,
            output: self.dense(&part(Module::Output))?,
            output_norm: self.norm(&format!("{at}.output"))?,
        })
    }
}

/// The values of a tensor of any shape, row-major.
pub(super) fn read_f32(tensor: &Tensor, into: &mut Vec<f32>) -> Result<(), TrainError> {
    let tensor = tensor.f_to_kind(Kind::Float)?.f_contiguous()?;
    into.resize(tensor.numel(), 0.0);
    let length = into.len();
    tensor.f_copy_data(into, length)?;
    Ok(())
}
