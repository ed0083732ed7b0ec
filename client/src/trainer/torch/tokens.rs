//! The loss of the next token, and its gradient, without keeping the vocabulary's probabilities.
//!
//! A text's loss is the mean cross-entropy of its tokens but the first, each predicted from those before it. Logits of a whole block
//! would take `rows × vocabulary` numbers several times over; a piece of the block at a time takes a few megabytes, and its gradient
//! is written down at once: `∂x = w·(softmax(x·Vᵀ) − onehot)·V`, with `w` one over the text's predictions. No graph is needed for it.
//! (The same idea as "cut cross-entropy"; Wijmans et al., 2024.)

use tch::{Kind, Tensor};

use super::loss::Scores;
use super::network::read_f32;
use super::{Prepared, TorchModel};
use crate::trainer::TrainError;
use crate::trainer::batches::Block;

/// Rows whose logits are in memory together.
const ROWS: usize = 130;
/// Rows whose probabilities are computed together: of fifty thousand words each, in single precision, less than a megabyte.
const NEAR: usize = 4;

/// What each row of a block is to predict.
struct Wanted {
    /// The next token; 0 where there is none.
    tokens: Vec<i64>,
    /// One over the text's predictions; 0 where there is none.
    weights: Vec<f32>,
}

impl TorchModel {
    /// Scores of the block's records, and with `gradient` that of their summed loss with respect to `x` `[n, d]`, outside any graph.
    pub(super) fn next_tokens(
        &self,
        x: &Tensor,
        data: &Prepared,
        block: &Block,
        gradient: bool,
    ) -> Result<(Scores, Option<Tensor>), TrainError> {
        let _no_grad = tch::no_grad_guard();
        let vocabulary = self.network.vocabulary()?;
        let device = self.network.device();
        let wanted = Wanted::of(data, block);
        let (mut losses, mut right, mut slopes) = (Vec::new(), Vec::new(), Vec::new());
        let mut values = Vec::new();
        for begin in (0..block.rows).step_by(ROWS) {
            let rows = ROWS.min(block.rows - begin);
            let part = x.f_narrow(0, begin as i64, rows as i64)?;
            let tokens = Tensor::f_from_slice(&wanted.tokens[begin..begin + rows])?.f_to_device(device)?;
            let tokens = tokens.f_unsqueeze(1)?;
            let weights = Tensor::f_from_slice(&wanted.weights[begin..begin + rows])?.f_to_device(device)?;
            let weights = weights.f_unsqueeze(1)?;
            let logits = part.f_linear::<Tensor>(vocabulary, None)?;
            // A few rows at a time stay in the processor's cache through all that is done with them.
            for first in (0..rows).step_by(NEAR) {
                let near = |of: &Tensor| of.f_narrow(0, first as i64, NEAR.min(rows - first) as i64);
                let (mut narrow, tokens) = (near(&logits)?, near(&tokens)?);
                // In single precision already, it is the same memory, and all of this happens in place.
                let mut wide = narrow.f_to_kind(Kind::Float)?;
                let (most, best) = wide.f_max_dim(1, true)?;
                let own = wide.f_gather(1, &tokens, false)?;
                let mut powers = wide.f_sub_(&most)?.f_exp_()?;
                let sum = powers.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?;
                read_f32(&sum.f_log()?.f_add_(&most)?.f_sub_(&own)?, &mut values)?;
                losses.extend_from_slice(&values);
                read_f32(&best.f_eq_tensor(&tokens)?, &mut values)?;
                right.extend_from_slice(&values);
                if gradient {
                    let weights = near(&weights)?;
                    let mut slope = powers.f_mul_(&weights.f_div(&sum)?)?;
                    narrow.f_copy_(&slope.f_scatter_add_(1, &tokens, &weights.f_neg()?)?)?;
                }
            }
            if gradient {
                slopes.push(logits.f_matmul(vocabulary)?);
            }
        }
        let gradient = if gradient { Some(Tensor::f_cat(&slopes, 0)?) } else { None };
        Ok((scores(data, block, &losses, &right), gradient))
    }
}

impl Wanted {
    fn of(data: &Prepared, block: &Block) -> Self {
        let (mut tokens, mut weights) = (vec![0; block.rows], vec![0.0; block.rows]);
        let mut row = 0;
        for &record in &block.records {
            let ids = data.ids(record);
            for (place, next) in ids.iter().skip(1).enumerate() {
                tokens[row + place] = i64::from(*next);
                weights[row + place] = 1.0 / (ids.len() - 1) as f32;
            }
            row += ids.len();
        }
        Self { tokens, weights }
    }
}

/// From rows to records. A text of one token predicts nothing: no loss, nothing right.
fn scores(data: &Prepared, block: &Block, losses: &[f32], right: &[f32]) -> Scores {
    let mut scores = Scores::default();
    let mut row = 0;
    for &record in &block.records {
        let length = data.tokens(record);
        let predictions = length - 1;
        let mean = |values: &[f32]| {
            let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
            (sum / predictions.max(1) as f64) as f32
        };
        scores.losses.push(mean(&losses[row..row + predictions]));
        scores.hits.push(mean(&right[row..row + predictions]));
        scores.predictions.push(predictions);
        row += length;
    }
    scores
}
