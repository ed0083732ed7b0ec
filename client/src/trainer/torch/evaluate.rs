//! Scores of an adapter on a test set; and logits and states, for tests and tools.

use super::forward::Out;
use super::loss::Scores;
use super::network::read_f32;
use super::{Prepared, TorchModel};
use crate::model::{AdapterTensors, TaskKind};
use crate::trainer::batches::Block;
use crate::trainer::{Evaluation, LabelScore, TrainError};

impl TorchModel {
    /// Scores the adapter on all of `data`, or on `limit` records evenly spread over it.
    ///
    /// # Errors
    /// Adapter values that do not fit or overflow, or a failing libtorch.
    pub fn evaluate(
        &self,
        adapter: &AdapterTensors,
        data: &mut Prepared,
        limit: Option<usize>,
    ) -> Result<Evaluation, TrainError> {
        let _no_grad = tch::no_grad_guard();
        let merged = self.merge(adapter)?;
        let take = limit.unwrap_or(data.len()).min(data.len());
        let chosen: Vec<usize> = (0..take).map(|i| spread(i, take, data.len())).collect();
        let mut tally =
            Tally { labels: vec![LabelScore::default(); self.spec.adapter.labels], ..Tally::default() };
        self.chunks(data, &chosen, |data, chunk| {
            for block in self.blocks(data, chunk) {
                let forward = self.forward(&merged, data, &block, &[])?;
                let scores = match &forward.out {
                    Out::Head { logits, .. } => self.label_losses(logits, data, &block)?.1,
                    Out::Tokens(x) => self.next_tokens(x, data, &block, false)?.0,
                };
                tally.add(self.spec.adapter.task, data, &block, &scores);
            }
            Ok(())
        })?;
        if !tally.loss.is_finite() {
            return Err(TrainError::NotFinite { what: "the test loss" });
        }
        tally.finish(self.spec.adapter.task).ok_or(TrainError::NoTestSet)
    }

    /// Each record's logits in the records' order: `[labels]`, or `[tokens × vocabulary]` where the next token is learned. For tests and
    /// tools.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn logits(&self, adapter: &AdapterTensors, data: &mut Prepared) -> Result<Vec<Vec<f32>>, TrainError> {
        let _no_grad = tch::no_grad_guard();
        let merged = self.merge(adapter)?;
        let all: Vec<usize> = (0..data.len()).collect();
        let mut logits = vec![Vec::new(); data.len()];
        self.chunks(data, &all, |data, chunk| {
            for block in self.blocks(data, chunk) {
                let forward = self.forward(&merged, data, &block, &[])?;
                let mut begin = 0;
                for (row, &record) in block.records.iter().enumerate() {
                    let of_record = match &forward.out {
                        Out::Head { logits, .. } => logits.f_get(row as i64)?,
                        Out::Tokens(x) => {
                            let tokens = data.tokens(record) as i64;
                            let own = x.f_narrow(0, begin, tokens)?;
                            begin += tokens;
                            own.f_linear::<tch::Tensor>(self.network.vocabulary()?, None)?
                        }
                    };
                    read_f32(&of_record, &mut logits[record])?;
                }
            }
            Ok(())
        })?;
        Ok(logits)
    }

    /// The base model's last hidden states for one text, token by token, `[tokens][hidden size]`: for tests and tools.
    ///
    /// # Errors
    /// A text the tokenizer fails on, or a failing libtorch.
    pub fn hidden_states(&self, text: &str) -> Result<Vec<Vec<f32>>, TrainError> {
        let _no_grad = tch::no_grad_guard();
        let tokens = self.tokenizer.encode(text)?;
        let (x, _) = self.lower(&[&tokens], tokens.len() + 1, self.network.layers.len())?;
        let mut values = Vec::new();
        read_f32(&self.network.finish(x)?, &mut values)?;
        let d = self.network.config().hidden_size;
        Ok(values.chunks_exact(d).take(tokens.len()).map(<[f32]>::to_vec).collect())
    }
}

/// Sums over the records scored so far.
#[derive(Default)]
struct Tally {
    /// Where there are labels. With several, a label's examples are the records that have it, and correct is where it was found.
    labels: Vec<LabelScore>,
    records: usize,
    /// Next tokens; as many as records otherwise.
    predictions: usize,
    loss: f64,
    correct: f64,
    /// Sum of the records' own fractions.
    fractions: f64,
}

impl Tally {
    fn add(&mut self, task: TaskKind, data: &Prepared, block: &Block, scores: &Scores) {
        let labels = self.labels.len();
        for (index, &record) in block.records.iter().enumerate() {
            let (loss, hit) = (f64::from(scores.losses[index]), f64::from(scores.hits[index]));
            let predictions = scores.predictions[index];
            // A text of one token has no next one.
            self.records += usize::from(predictions > 0);
            self.predictions += predictions;
            self.loss += loss * predictions as f64;
            self.correct += hit * predictions as f64;
            self.fractions += hit;
            for &label in data.labels(record) {
                // Labels were looked up in the list of that length.
                let score = &mut self.labels[label as usize];
                score.examples += 1;
                score.correct += usize::from(match task {
                    TaskKind::MultiLabel => scores.found[index * labels + label as usize],
                    _ => hit > 0.0,
                });
            }
        }
    }

    fn finish(self, task: TaskKind) -> Option<Evaluation> {
        if task == TaskKind::SingleLabel {
            return Evaluation::from_counts(self.labels, self.loss);
        }
        if self.predictions == 0 {
            return None;
        }
        let mean = |sum: f64| sum / self.predictions as f64;
        let recalls = self.labels.iter().filter(|score| score.examples > 0);
        let recalls: Vec<f64> = recalls.map(|score| score.correct as f64 / score.examples as f64).collect();
        Some(Evaluation {
            examples: self.records,
            loss: mean(self.loss),
            accuracy: mean(self.correct),
            macro_accuracy: match (task, recalls.len()) {
                (TaskKind::MultiLabel, 0) => 0.0,
                (TaskKind::MultiLabel, labels) => recalls.iter().sum::<f64>() / labels as f64,
                _ => self.fractions / self.records as f64,
            },
            per_label: self.labels,
        })
    }
}

/// The `i`-th of `take` numbers spread evenly over `0..all`.
fn spread(i: usize, take: usize, all: usize) -> usize {
    // Wide enough: both factors are lengths of lists in memory.
    (i as u128 * all as u128 / take.max(1) as u128) as usize
}
