//! The adapter inside libtorch: its factors, and the weights with `s·B·A` added.
//!
//! Merging changes nothing but the last bits: `(W + s·B·A)·x = W·x + s·B·(A·x)`.

use tch::Tensor;

use super::encoder::{Encoder, Place};
use crate::model::{AdapterTensor, AdapterTensors, TensorKind};
use crate::trainer::TrainError;

/// One layer's four matrices, merged where adapted, shared with the encoder where not.
pub(super) struct LayerWeights {
    pub(super) qkv: Tensor,
    pub(super) attention_output: Tensor,
    pub(super) intermediate: Tensor,
    pub(super) output: Tensor,
}

impl LayerWeights {
    /// The encoder's own, without an adapter.
    pub(super) fn plain(encoder: &Encoder, index: usize) -> Self {
        // Indexing safety: callers count through `layers`.
        let layer = &encoder.layers[index];
        Self {
            qkv: layer.qkv.weight.shallow_clone(),
            attention_output: layer.attention_output.weight.shallow_clone(),
            intermediate: layer.intermediate.weight.shallow_clone(),
            output: layer.output.weight.shallow_clone(),
        }
    }
}

/// The adapter's values, ready for a lot.
pub(super) struct Merged {
    /// In name order, each in its shape.
    tensors: Vec<(AdapterTensor, Tensor)>,
    pub(super) layers: Vec<LayerWeights>,
    pub(super) scaling: f64,
}

impl Merged {
    /// Checks the values against `expected` and merges them.
    pub(super) fn new(
        encoder: &Encoder,
        expected: &[AdapterTensor],
        scaling: f64,
        values: &AdapterTensors,
    ) -> Result<Self, TrainError> {
        values.check(expected)?;
        let mut tensors = Vec::with_capacity(expected.len());
        for tensor in expected {
            let shape: Vec<i64> = tensor.shape.iter().map(|&size| size as i64).collect();
            // `check` has found every name.
            let flat = Tensor::f_from_slice(values.values(&tensor.name).unwrap_or_default())?;
            tensors.push((tensor.clone(), flat.f_reshape(&shape)?));
        }
        let mut merged = Self { tensors, layers: Vec::new(), scaling };
        merged.layers =
            (0..encoder.layers.len()).map(|layer| merged.layer(encoder, layer)).collect::<Result<_, _>>()?;
        Ok(merged)
    }

    /// A tensor of the adapter by what it is.
    pub(super) fn tensor(&self, kind: TensorKind) -> Option<&Tensor> {
        self.tensors.iter().find(|(tensor, _)| tensor.kind == kind).map(|(_, values)| values)
    }

    fn layer(&self, encoder: &Encoder, index: usize) -> Result<LayerWeights, TrainError> {
        let mut weights = LayerWeights::plain(encoder, index);
        let mut qkv_is_own = false;
        for (tensor, b) in &self.tensors {
            let TensorKind::B { layer, module } = tensor.kind else { continue };
            if layer != index {
                continue;
            }
            let Some(a) = self.tensor(TensorKind::A { layer, module }) else { continue };
            let b = b.f_mul_scalar(self.scaling)?;
            match Place::of(module) {
                (Place::Qkv, third) => {
                    if !qkv_is_own {
                        weights.qkv = weights.qkv.f_add_scalar(0.0)?;
                        qkv_is_own = true;
                    }
                    let d = encoder.config().hidden_size as i64;
                    let mut rows = weights.qkv.f_narrow(0, third.unwrap_or(0) as i64 * d, d)?;
                    let _ = rows.f_addmm_(&b, a)?;
                }
                (Place::AttentionOutput, _) => {
                    weights.attention_output = weights.attention_output.f_addmm(&b, a)?;
                }
                (Place::Intermediate, _) => {
                    weights.intermediate = weights.intermediate.f_addmm(&b, a)?;
                }
                (Place::Output, _) => weights.output = weights.output.f_addmm(&b, a)?,
            }
        }
        Ok(weights)
    }
}
