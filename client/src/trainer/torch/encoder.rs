//! A layer of an encoder: post-norm (Vaswani et al., 2017; Devlin et al., 2018), as `transformers` computes it in evaluation mode.

use tch::Tensor;

use super::attention::{Sight, attend};
use super::layout::Layout;
use super::merged::LayerWeights;
use super::network::{Network, Place, Taps, uneven};
use crate::model::Activation;
use crate::trainer::TrainError;

impl Network {
    pub(super) fn encoder_layer(
        &self,
        index: usize,
        weights: &LayerWeights,
        x: &Tensor,
        layout: &Layout,
        taps: &mut Taps,
    ) -> Result<Tensor, TrainError> {
        // Indexing safety: callers count through `layers`.
        let (layer, config) = (&self.layers[index], self.config());
        let qkv = weights.qkv.apply(x, &layer.qkv, (index, Place::Qkv), taps)?;
        let mixed = self.attend_both_ways(&qkv, layout)?;
        let at = (index, Place::AttentionOutput);
        let attended = weights.attention_output.apply(&mixed, &layer.attention_output, at, taps)?;
        let x = layer.attention_norm.apply(&attended.f_add(x)?, config)?;

        let wide = weights.intermediate.apply(&x, &layer.intermediate, (index, Place::Intermediate), taps)?;
        let active = self.activate(&wide)?;
        let narrow = weights.output.apply(&active, &layer.output, (index, Place::Output), taps)?;
        layer.output_norm.apply(&narrow.f_add(&x)?, config)
    }

    fn attend_both_ways(&self, qkv: &Tensor, layout: &Layout) -> Result<Tensor, TrainError> {
        let (heads, width) = (self.config().heads as i64, self.config().head_width as i64);
        let mut groups = Vec::with_capacity(layout.groups.len());
        for group in &layout.groups {
            let (b, t) = (group.b, group.t);
            let split = group.pad(qkv)?.f_view([b, t, 3, heads, width])?.f_permute([2, 0, 3, 1, 4])?;
            let parts = split.f_contiguous()?.f_unbind(0)?;
            let [q, k, v] = parts.as_slice() else { return Err(uneven()) };
            let mixed = attend(q, k, v, &Sight::Text(&group.mask))?;
            groups.push(mixed.f_transpose(1, 2)?.f_reshape([b * t, heads * width])?);
        }
        layout.pack(&groups)
    }

    fn activate(&self, x: &Tensor) -> Result<Tensor, TrainError> {
        Ok(match self.config().activation {
            Activation::Gelu => x.f_gelu("none")?,
            Activation::GeluTanh => x.f_gelu("tanh")?,
            Activation::Relu => x.f_relu()?,
            Activation::Silu => x.f_silu()?,
        })
    }
}
