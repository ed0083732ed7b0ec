//! A layer of a Llama-family decoder (Touvron et al., 2023), as `transformers` computes it: RMSNorm before each part, rotary positions
//! (Su et al., 2021) in the two halves of a head, grouped-query attention, SwiGLU (Shazeer, 2020).
//!
//! A text's padding stands after it, and a token sees only what stands before it: so the causal mask is all the mask there is.

use tch::Tensor;

use super::attention::{Sight, attend};
use super::layout::Layout;
use super::merged::LayerWeights;
use super::network::{Network, Place, Taps, uneven};
use crate::model::ModelConfig;
use crate::trainer::TrainError;

/// Cosine and sine of each place's angles, `[places, head width]` each: place `p`'s `i`-th and `i + w/2`-th numbers turn by `p·θ^(−2i/w)`.
/// The first half of the sines is negative: they multiply the other half of a head.
pub(super) fn turns(config: &ModelConfig, places: usize) -> Result<(Tensor, Tensor), TrainError> {
    let half = config.head_width / 2;
    let angle = |place: usize, i: usize| {
        let frequency = config.rope_theta.powf(-((2 * i) as f64) / config.head_width as f64) as f32;
        // In single precision, as transformers has it.
        f64::from(place as f32 * frequency)
    };
    let mut table = [Vec::new(), Vec::new()];
    for place in 0..places {
        for i in 0..2 * half {
            let (sin, cos) = angle(place, i % half).sin_cos();
            table[0].push(cos as f32);
            table[1].push(if i < half { -sin } else { sin } as f32);
        }
    }
    let shape = [places as i64, config.head_width as i64];
    let [cos, sin] = table.map(|values| Tensor::f_from_slice(&values).and_then(|flat| flat.f_reshape(shape)));
    Ok((cos?, sin?))
}

impl Network {
    pub(super) fn decoder_layer(
        &self,
        index: usize,
        weights: &LayerWeights,
        turns: &(Tensor, Tensor),
        x: &Tensor,
        layout: &Layout,
        taps: &mut Taps,
    ) -> Result<Tensor, TrainError> {
        // Indexing safety: callers count through `layers`.
        let (layer, config) = (&self.layers[index], self.config());
        let h = layer.attention_norm.apply(x, config)?;
        let qkv = weights.qkv.apply(&h, &layer.qkv, (index, Place::Qkv), taps)?;
        let mixed = self.attend_backwards(&qkv, turns, layout)?;
        let at = (index, Place::AttentionOutput);
        let x = weights.attention_output.apply(&mixed, &layer.attention_output, at, taps)?.f_add(x)?;

        let h = layer.output_norm.apply(&x, config)?;
        let wide = weights.intermediate.apply(&h, &layer.intermediate, (index, Place::Intermediate), taps)?;
        let halves = wide.f_chunk(2, 1)?;
        let [gate, gated] = halves.as_slice() else { return Err(uneven()) };
        let active = gate.f_silu()?.f_mul(gated)?;
        let narrow = weights.output.apply(&active, &layer.output, (index, Place::Output), taps)?;
        Ok(narrow.f_add(&x)?)
    }

    fn attend_backwards(
        &self,
        qkv: &Tensor,
        (cos, sin): &(Tensor, Tensor),
        layout: &Layout,
    ) -> Result<Tensor, TrainError> {
        let config = self.config();
        let (heads, key_heads, width) =
            (config.heads as i64, config.key_heads as i64, config.head_width as i64);
        let (n, turned) = (qkv.size2()?.0, (heads + key_heads) * width);
        // Queries and keys turn with their places, values do not. (Split and put together, not cut out: the gradient of a cut is as large
        // as what it was cut from, and mostly zeros.)
        let parts = qkv.f_split_with_sizes([turned, key_heads * width], 1)?;
        let [qk, values] = parts.as_slice() else { return Err(uneven()) };
        let qk = qk.f_reshape([n, heads + key_heads, width])?;
        let at = |table: &Tensor| table.f_index_select(0, &layout.places)?.f_unsqueeze(1);
        let turned_qk = qk.f_mul(&at(cos)?)?.f_addcmul(&qk.f_roll([width / 2], [2])?, &at(sin)?)?;
        let qkv = Tensor::f_cat(&[&turned_qk.f_reshape([n, turned])?, values], 1)?;

        let mut groups = Vec::with_capacity(layout.groups.len());
        for group in &layout.groups {
            let (b, t) = (group.b, group.t);
            let split = group.pad(&qkv)?.f_view([b, t, heads + 2 * key_heads, width])?.f_transpose(1, 2)?;
            let parts = split.f_split_with_sizes([heads, key_heads, key_heads], 1)?;
            let [q, k, v] = parts.as_slice() else { return Err(uneven()) };
            let mixed = attend(q, k, v, &Sight::Before)?;
            groups.push(mixed.f_transpose(1, 2)?.f_reshape([b * t, heads * width])?);
        }
        layout.pack(&groups)
    }
}
