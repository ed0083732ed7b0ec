//! Attention over the texts of a group (Vaswani et al., 2017): softmax of scaled scores, times the values.
//!
//! Short texts are attended to in a few products of whole groups. libtorch's fused kernel makes two products forward and five backward for each
//! text and head, and in half precision each of them is set up anew: for titles of a dozen tokens that took more than a third of a step. Long
//! texts go through the fused kernel, which keeps no scores, and so do those of a few tokens. Which way a text goes follows from its own padded
//! length alone.

use tch::{Kind, Tensor};

use crate::trainer::TrainError;

/// The longest padded text whose scores are kept for the backward pass.
const SHORT: i64 = 128;

/// Multiplications of one text from which on libtorch takes a product of a group by the same kernel, however many texts are in it (its
/// `mkldnn_gemm_min_size`, cubed). Below that the kernel would follow from the other texts.
const MANY: i64 = 16 * 16 * 16;

/// What a token sees.
pub(super) enum Sight<'a> {
    /// Every token of its text: the mask that is added to scores, `[b, 1, 1, t]`, in single precision.
    Text(&'a Tensor),
    /// Itself and what stands before it.
    Before,
}

/// Queries `[b, heads, t, w]`, keys and values `[b, key heads, t, w]` → `[b, heads, t, w]`. Each key head serves as many query heads as
/// there are to one (Ainslie et al., 2023).
pub(super) fn attend(q: &Tensor, k: &Tensor, v: &Tensor, sight: &Sight) -> Result<Tensor, TrainError> {
    let (b, heads, t, width) = q.size4()?;
    let key_heads = k.size4()?.1;
    if t > SHORT || heads * t * t * width <= MANY {
        return fused(q, k, v, heads / key_heads, sight);
    }
    // The query heads of a key head are rows of one product.
    let rows = heads / key_heads * t;
    let scale = 1.0 / (width as f64).sqrt();
    let q = q.f_reshape([b * key_heads, rows, width])?;
    let (k, v) = (k.f_reshape([b * key_heads, t, width])?, v.f_reshape([b * key_heads, t, width])?);
    let scores = q.f_bmm(&k.f_transpose(1, 2)?)?.f_to_kind(Kind::Float)?.f_mul_scalar(scale)?;
    let scores = scores.f_view([b, heads, t, t])?;
    let scores = match sight {
        Sight::Text(mask) => scores.f_add(mask)?,
        Sight::Before => scores.f_add(&later(t, &scores)?)?,
    };
    let seen = scores.f_softmax(-1, Kind::Float)?.f_to_kind(v.kind())?;
    Ok(seen.f_view([b * key_heads, rows, t])?.f_bmm(&v)?.f_view([b, heads, t, width])?)
}

fn fused(q: &Tensor, k: &Tensor, v: &Tensor, sharing: i64, sight: &Sight) -> Result<Tensor, TrainError> {
    let each = |of_groups: &Tensor| match sharing {
        1 => Ok(of_groups.shallow_clone()),
        several => of_groups.f_repeat_interleave_self_int(several, 1, None),
    };
    let (k, v) = (each(k)?, each(v)?);
    let (mask, causal) = match sight {
        Sight::Text(mask) => (Some(mask.f_to_kind(q.kind())?), false),
        Sight::Before => (None, true),
    };
    Ok(Tensor::f_scaled_dot_product_attention(q, &k, &v, mask, 0.0, causal, None, false)?)
}

/// Hugely negative where a token (row) would see a later one (column), else 0: `[t, t]`.
fn later(t: i64, like: &Tensor) -> Result<Tensor, TrainError> {
    let all = Tensor::f_full([t, t], f64::from(super::layout::MASKED), (Kind::Float, like.device()))?;
    Ok(all.f_triu(1)?)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// Both ways give the same mixture and the same gradients, with as many key heads as query heads and with fewer, with padding and with
    /// a token's own future hidden.
    #[test]
    fn short_texts_are_attended_to_like_long_ones() -> Result<(), TrainError> {
        tch::manual_seed(7);
        let (b, t, width) = (3, 5, 64);
        let padding = Tensor::from_slice(&[0f32, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, f32::MIN]);
        let padding = Tensor::cat(&[padding.slice(0, 0, 5, 1), padding], 0).view([b, 1, 1, t]);
        for (heads, key_heads) in [(4, 4), (6, 2)] {
            for sight in [Sight::Text(&padding), Sight::Before] {
                let draw = |heads: i64| {
                    Tensor::randn([b, heads, t, width], (Kind::Float, Device::Cpu)).set_requires_grad(true)
                };
                let parts = [draw(heads), draw(key_heads), draw(key_heads)];
                let [q, k, v] = &parts;
                let slope = Tensor::randn([b, heads, t, width], (Kind::Float, Device::Cpu));
                let run = |mixed: Tensor| -> Result<Vec<Tensor>, TrainError> {
                    let mut all =
                        Tensor::f_run_backward(&[(&mixed * &slope).sum(Kind::Float)], &parts, false, false)?;
                    all.push(mixed.detach());
                    Ok(all)
                };
                let short = run(attend(q, k, v, &sight)?)?;
                let long = run(fused(q, k, v, heads / key_heads, &sight)?)?;
                for (short, long) in short.iter().zip(&long) {
                    let apart = (short - long).abs().max().double_value(&[]);
                    assert!(apart < 1e-5, "{heads} heads, {key_heads} key heads: {apart}");
                    assert!(long.abs().max().double_value(&[]) > 0.01);
                }
            }
        }
        Ok(())
    }

    /// To the last bit: what a text attends to, forward and backward, is the same alone and among others.
    #[test]
    fn a_text_takes_nothing_from_the_others_of_its_group() -> Result<(), TrainError> {
        tch::manual_seed(8);
        tch::set_num_threads(1);
        for (heads, key_heads, width) in [(9, 3, 64), (12, 12, 32), (2, 1, 8)] {
            for (t, kind) in
                [1, 2, 3, 8, 24, 160].into_iter().flat_map(|t| [(t, Kind::Float), (t, Kind::BFloat16)])
            {
                let draw = |heads: i64| {
                    Tensor::randn([3, heads, t, width], (Kind::Float, Device::Cpu)).to_kind(kind)
                };
                let whole = [draw(heads), draw(key_heads), draw(key_heads), draw(heads)];
                let mask = Tensor::zeros([3, 1, 1, t], (Kind::Float, Device::Cpu));
                let run = |first: i64, texts: i64| -> Result<Vec<Tensor>, TrainError> {
                    let part = |of: &Tensor| of.narrow(0, first, texts).contiguous();
                    let inputs = [0, 1, 2].map(|index| part(&whole[index]).set_requires_grad(true));
                    let [q, k, v] = &inputs;
                    let mut all = Vec::new();
                    for sight in [Sight::Text(&part(&mask)), Sight::Before] {
                        let mixed = attend(q, k, v, &sight)?;
                        let loss = (&mixed * part(&whole[3])).sum(Kind::Float);
                        all.extend(Tensor::f_run_backward(&[loss], &inputs, false, false)?);
                        all.push(mixed.detach());
                    }
                    Ok(all)
                };
                let together = run(0, 3)?;
                for text in 0..3 {
                    for (index, (alone, among)) in run(text, 1)?.iter().zip(&together).enumerate() {
                        let same = alone.equal(&among.narrow(0, text, 1));
                        assert!(same, "{heads} heads of {width}, {t} tokens, {kind:?}, text {text}: {index}");
                    }
                }
            }
        }
        Ok(())
    }
}
