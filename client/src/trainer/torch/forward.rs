//! From records to logits: the frozen part (computed once, kept), then the trained part.

use tch::Tensor;

use super::encoder::{Place, Tap, Taps, read_f32};
use super::layout::{Layout, fill_up};
use super::merged::{LayerWeights, Merged};
use super::{Prepared, TorchModel};
use crate::model::{AdapterTensors, Pooling, TensorKind};
use crate::trainer::TrainError;
use crate::trainer::batches::{self, Block};

/// Records whose frozen states are at hand at a time, beyond the cache.
const CHUNK: usize = 1024;

/// A block on its way: inputs in, logits out. Rows of `pooled` and `logits` beyond the block's records are filler.
pub(super) struct Forward {
    /// `[places, d]`
    pub(super) pooled: Tensor,
    /// `[places, labels]`
    pub(super) logits: Tensor,
    pub(super) taps: Vec<Tap>,
    /// Absent if records are one vector each.
    pub(super) layout: Option<Layout>,
}

/// A block's losses.
pub(super) struct Losses {
    /// Cross-entropy of every place, fillers included, inside the graph.
    pub(super) places: Tensor,
    /// The same per record.
    pub(super) values: Vec<f32>,
    /// Per record, whether its largest logit is the label's.
    pub(super) hits: Vec<bool>,
}

impl TorchModel {
    pub(super) fn merge(&self, adapter: &AdapterTensors) -> Result<Merged, TrainError> {
        let scaling = self.spec.adapter.scaling();
        Merged::new(&self.encoder, &self.tensors, scaling, adapter)
    }

    /// Whether the frozen part ends after pooling: only the head is trained.
    pub(super) fn pooled_only(&self) -> bool {
        self.frozen == self.encoder.layers.len()
    }

    /// Blocks of fixed shape for the trained part.
    pub(super) fn blocks(&self, data: &Prepared, records: &[usize]) -> Vec<Block> {
        if self.pooled_only() {
            batches::pooled(records)
        } else {
            batches::fixed(records, &|record| data.tokens(record))
        }
    }

    /// Walks through `records` in chunks whose frozen states are at hand during `work`.
    pub(super) fn chunks(
        &self,
        data: &mut Prepared,
        records: &[usize],
        mut work: impl FnMut(&Prepared, &[usize]) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        for chunk in records.chunks(CHUNK) {
            let passing = self.freeze(data, chunk)?;
            let done = work(data, chunk);
            data.forget(&passing);
            done?;
        }
        Ok(())
    }

    /// Computes the frozen states that are missing; returns whether all of them are kept.
    pub(super) fn fits(&self, data: &mut Prepared, records: &[usize]) -> Result<bool, TrainError> {
        let passing = self.freeze(data, records)?;
        data.forget(&passing);
        Ok(passing.is_empty())
    }

    /// Computes the frozen states that are missing. Returns the records whose states do not fit under the cap.
    fn freeze(&self, data: &mut Prepared, records: &[usize]) -> Result<Vec<usize>, TrainError> {
        let _no_grad = tch::no_grad_guard();
        let mut missing: Vec<usize> =
            records.iter().copied().filter(|&record| data.state(record).is_none()).collect();
        missing.sort_unstable();
        missing.dedup();
        let d = self.encoder.config().hidden_size;
        let mut passing = Vec::new();
        let mut values = Vec::new();
        for block in batches::fixed(&missing, &|record| data.tokens(record)) {
            let texts: Vec<&[u32]> = block.records.iter().map(|&record| data.ids(record)).collect();
            let (mut x, layout) = self.lower(&texts, block.rows, self.frozen)?;
            if self.pooled_only() {
                x = self.pool(&x, &layout)?;
            }
            read_f32(&x, &mut values)?;
            let mut rest = values.as_slice();
            for &record in &block.records {
                let rows = if self.pooled_only() { 1 } else { data.tokens(record) };
                let (states, after) = rest.split_at(rows * d);
                rest = after;
                if !data.keep(record, states.into()) {
                    passing.push(record);
                }
            }
        }
        Ok(passing)
    }

    /// Embeddings and the first `layers` layers, without an adapter: packed states `[rows, d]`. The texts come shortest first.
    pub(super) fn lower(
        &self,
        texts: &[&[u32]],
        rows: usize,
        layers: usize,
    ) -> Result<(Tensor, Layout), TrainError> {
        let mut ids = vec![i64::from(self.encoder.config().pad_token_id); rows];
        let mut places = vec![0i64; rows];
        let text = texts.iter().flat_map(|text| text.iter().enumerate());
        for ((id, place), (position, &token)) in ids.iter_mut().zip(&mut places).zip(text) {
            *id = i64::from(token);
            *place = position as i64;
        }
        let lengths: Vec<usize> = texts.iter().map(|text| text.len()).collect();
        let layout = Layout::new(&lengths, rows)?;
        let (ids, places) = (Tensor::f_from_slice(&ids)?, Tensor::f_from_slice(&places)?);
        let mut x = self.encoder.embed(&ids, &places)?;
        for layer in 0..layers {
            let weights = LayerWeights::plain(&self.encoder, layer);
            x = self.encoder.layer(layer, &weights, &x, &layout, &mut Taps::Off)?;
        }
        Ok((x, layout))
    }

    fn pool(&self, x: &Tensor, layout: &Layout) -> Result<Tensor, TrainError> {
        match self.spec.adapter.pooling {
            Pooling::Mean => layout.mean(x),
            Pooling::Cls => layout.first(x),
        }
    }

    /// The trained part, from frozen states to logits. Keeps the products that `taps` names, if there are any.
    pub(super) fn forward(
        &self,
        merged: &Merged,
        data: &Prepared,
        block: &Block,
        taps: &[(usize, Place)],
    ) -> Result<Forward, TrainError> {
        let d = self.encoder.config().hidden_size;
        let mut values = Vec::with_capacity(block.rows * d);
        for &record in &block.records {
            values.extend_from_slice(data.state(record).unwrap_or_default());
        }
        values.resize(block.rows * d, 0.0);
        let mut x = Tensor::f_from_slice(&values)?.f_reshape([block.rows as i64, d as i64])?;
        let mut taps =
            if taps.is_empty() { Taps::Off } else { Taps::On { wanted: taps.to_vec(), found: Vec::new() } };
        let mut layout = None;
        if !self.pooled_only() {
            let lengths: Vec<usize> = block.records.iter().map(|&record| data.tokens(record)).collect();
            let at = Layout::new(&lengths, block.rows)?;
            for layer in self.frozen..self.encoder.layers.len() {
                x = self.encoder.layer(layer, &merged.layers[layer], &x, &at, &mut taps)?;
            }
            x = fill_up(&self.pool(&x, &at)?, block.places)?;
            layout = Some(at);
        }
        let missing = || TrainError::Torch("the head was not read".to_owned());
        let weight = merged.tensor(TensorKind::HeadWeight).ok_or_else(missing)?;
        let bias = merged.tensor(TensorKind::HeadBias).ok_or_else(missing)?;
        let logits = x.f_linear(weight, Some(bias))?;
        let taps = match taps {
            Taps::Off => Vec::new(),
            Taps::On { found, .. } => found,
        };
        Ok(Forward { pooled: x, logits, taps, layout })
    }

    /// Compares the logits with the records' labels.
    pub(super) fn losses(
        &self,
        forward: &Forward,
        data: &Prepared,
        block: &Block,
    ) -> Result<Losses, TrainError> {
        let mut labels = vec![0i64; block.places];
        for (slot, &record) in labels.iter_mut().zip(&block.records) {
            *slot = i64::from(data.label(record));
        }
        let targets = Tensor::f_from_slice(&labels)?;
        let places =
            forward.logits.f_cross_entropy_loss::<Tensor>(&targets, None, tch::Reduction::None, -100, 0.0)?;
        let mut values = Vec::new();
        read_f32(&places.f_detach()?, &mut values)?;
        values.truncate(block.records.len());
        let best = Vec::<i64>::try_from(forward.logits.f_argmax(1, false)?)?;
        let hits = best.iter().zip(&labels).take(values.len()).map(|(best, label)| best == label).collect();
        Ok(Losses { places, values, hits })
    }
}
