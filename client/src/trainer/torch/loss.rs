//! What a block's records lose, and how many they get right: by their labels (here), or by their own next tokens (`tokens.rs`).

use tch::{Kind, Reduction, Tensor};

use super::network::read_f32;
use super::{Prepared, TorchModel};
use crate::model::TaskKind;
use crate::trainer::TrainError;
use crate::trainer::batches::Block;

/// A block's scores, record by record.
#[derive(Debug, Default)]
pub(super) struct Scores {
    /// Loss: cross-entropy, or its mean over labels or next tokens.
    pub(super) losses: Vec<f32>,
    /// Part that is right: 0 or 1 with one label; of next tokens, the fraction; with several labels, 1 if all are right.
    pub(super) hits: Vec<f32>,
    /// How many predictions the two are means over: next tokens; 1 otherwise.
    pub(super) predictions: Vec<usize>,
    /// With several labels, each record's own that were found: `[records][labels]`, flat.
    pub(super) found: Vec<bool>,
}

impl TorchModel {
    /// Compares logits with the records' labels. Returns every place's loss, fillers included, inside the graph, and the scores.
    pub(super) fn label_losses(
        &self,
        logits: &Tensor,
        data: &Prepared,
        block: &Block,
    ) -> Result<(Tensor, Scores), TrainError> {
        match self.spec.adapter.task {
            TaskKind::MultiLabel => self.several(logits, data, block),
            _ => self.one(logits, data, block),
        }
    }

    fn one(&self, logits: &Tensor, data: &Prepared, block: &Block) -> Result<(Tensor, Scores), TrainError> {
        let mut labels = vec![0i64; block.places];
        for (slot, &record) in labels.iter_mut().zip(&block.records) {
            *slot = data.labels(record).first().map_or(0, |&label| i64::from(label));
        }
        let targets = Tensor::f_from_slice(&labels)?.f_to_device(self.network.device())?;
        let places =
            logits.f_cross_entropy_loss(&targets, self.class_weights()?, Reduction::None, -100, 0.0)?;
        let best = Vec::<i64>::try_from(logits.f_argmax(1, false)?.f_to_device(tch::Device::Cpu)?)?;
        let records = block.records.len();
        let right = |(best, label): (&i64, &i64)| if best == label { 1.0 } else { 0.0 };
        let scores = Scores {
            losses: first(&places, records)?,
            hits: best.iter().zip(&labels).take(records).map(right).collect(),
            predictions: vec![1; records],
            found: Vec::new(),
        };
        Ok((places, scores))
    }

    /// Binary cross-entropy (the mean over labels), as `transformers` has it for `multi_label_classification`.
    fn several(
        &self,
        logits: &Tensor,
        data: &Prepared,
        block: &Block,
    ) -> Result<(Tensor, Scores), TrainError> {
        let labels = self.spec.adapter.labels;
        let mut wanted = vec![0f32; block.places * labels];
        for (row, &record) in wanted.chunks_exact_mut(labels).zip(&block.records) {
            for &label in data.labels(record) {
                // Labels were looked up in the list of that length.
                row[label as usize] = 1.0;
            }
        }
        let shape = [block.places as i64, labels as i64];
        let targets = Tensor::f_from_slice(&wanted)?.f_reshape(shape)?.f_to_device(self.network.device())?;
        let weights = self.class_weights()?;
        let each = logits.f_binary_cross_entropy_with_logits(&targets, None, weights, Reduction::None)?;
        let places = each.f_mean_dim([1i64].as_slice(), false, Kind::Float)?;
        let records = block.records.len();
        let mut values = Vec::new();
        read_f32(&logits.f_detach()?, &mut values)?;
        let mut scores =
            Scores { losses: first(&places, records)?, predictions: vec![1; records], ..Scores::default() };
        let rows = values.chunks_exact(labels).zip(wanted.chunks_exact(labels)).take(records);
        for (logits, wanted) in rows {
            let all = logits.iter().zip(wanted).all(|(logit, wanted)| (*logit > 0.0) == (*wanted > 0.0));
            scores.hits.push(if all { 1.0 } else { 0.0 });
            scores
                .found
                .extend(logits.iter().zip(wanted).map(|(logit, wanted)| *logit > 0.0 && *wanted > 0.0));
        }
        Ok((places, scores))
    }

    fn class_weights(&self) -> Result<Option<Tensor>, TrainError> {
        let weights: Vec<f32> = self.spec.adapter.class_weights.iter().map(|&weight| weight as f32).collect();
        if weights.is_empty() {
            return Ok(None);
        }
        Ok(Some(Tensor::f_from_slice(&weights)?.f_to_device(self.network.device())?))
    }
}

/// The losses of the records, without those of fillers.
fn first(places: &Tensor, records: usize) -> Result<Vec<f32>, TrainError> {
    let mut values = Vec::new();
    read_f32(&places.f_detach()?, &mut values)?;
    values.truncate(records);
    Ok(values)
}
