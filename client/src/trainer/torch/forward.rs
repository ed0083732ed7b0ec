//! From records to what the loss is computed from: the frozen part (computed once, kept), then the trained part.

use tch::{Kind, Tensor};

use super::layout::{Layout, fill_up};
use super::merged::{LayerWeights, Merged};
use super::network::{Place, Tap, Taps, read_f32};
use super::{Prepared, TorchModel};
use crate::model::{AdapterTensors, Pooling, TaskKind, TensorKind};
use crate::trainer::TrainError;
use crate::trainer::batches::{self, Block, Shape};

/// Records whose frozen states are at hand at a time, beyond the cache.
const CHUNK: usize = 1024;

/// A block on its way: inputs in, what the loss is computed from out.
pub(super) struct Forward {
    pub(super) out: Out,
    pub(super) taps: Vec<Tap>,
    /// Absent if records are one vector each.
    pub(super) layout: Option<Layout>,
}

/// What the loss is computed from.
pub(super) enum Out {
    /// One vector a record. Rows beyond the block's records are filler.
    Head {
        /// `[places, d]`
        pooled: Tensor,
        /// `[places, labels]`
        logits: Tensor,
    },
    /// One vector a token, `[n, d]`.
    Tokens(Tensor),
}

impl TorchModel {
    pub(super) fn merge(&self, adapter: &AdapterTensors) -> Result<Merged, TrainError> {
        Merged::new(&self.network, &self.tensors, &self.spec.adapter, adapter)
    }

    /// Whether the frozen part ends after pooling: only the head is trained.
    pub(super) fn pooled_only(&self) -> bool {
        self.frozen == self.network.layers.len()
    }

    /// The shape of blocks, of whatever is computed.
    pub(super) fn shape(&self) -> Shape {
        let rows =
            if self.network.config().architecture.is_causal() { Shape::DECODER } else { Shape::ENCODER };
        Shape { rows, records: self.spec.max_physical_batch as usize }
    }

    /// Blocks of fixed shape for the trained part.
    pub(super) fn blocks(&self, data: &Prepared, records: &[usize]) -> Vec<Block> {
        if self.pooled_only() {
            batches::pooled(self.shape(), records)
        } else {
            batches::fixed(self.shape(), records, &|record| data.tokens(record))
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
        let d = self.network.config().hidden_size;
        let mut passing = Vec::new();
        let mut values = Vec::new();
        for block in batches::fixed(self.shape(), &missing, &|record| data.tokens(record)) {
            let texts: Vec<&[u32]> = block.records.iter().map(|&record| data.ids(record)).collect();
            let (mut x, layout) = self.lower(&texts, block.rows, self.frozen)?;
            if self.pooled_only() {
                x = self.pool(x, &layout)?;
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
        let mut ids = vec![i64::from(self.network.config().pad_token_id); rows];
        for (id, &token) in ids.iter_mut().zip(texts.iter().copied().flatten()) {
            *id = i64::from(token);
        }
        let lengths: Vec<usize> = texts.iter().map(|text| text.len()).collect();
        let device = self.network.device();
        let layout = Layout::new(&lengths, rows, device)?;
        let mut x = self.network.embed(&Tensor::f_from_slice(&ids)?.f_to_device(device)?, &layout.places)?;
        for layer in 0..layers {
            let weights = LayerWeights::plain(&self.network, layer);
            x = self.network.layer(layer, &weights, &x, &layout, &mut Taps::Off)?;
        }
        Ok((x, layout))
    }

    /// States after the last layer → one vector a text, in single precision.
    fn pool(&self, x: Tensor, layout: &Layout) -> Result<Tensor, TrainError> {
        let x = self.network.finish(x)?.f_to_kind(Kind::Float)?;
        match self.spec.adapter.pooling {
            Pooling::Mean => layout.mean(&x),
            Pooling::Cls => layout.first(&x),
            Pooling::None => Err(TrainError::Torch("this task pools nothing".to_owned())),
        }
    }

    /// The trained part, from frozen states on. Keeps the products that `taps` names, if there are any.
    pub(super) fn forward(
        &self,
        merged: &Merged,
        data: &Prepared,
        block: &Block,
        taps: &[(usize, Place)],
    ) -> Result<Forward, TrainError> {
        let d = self.network.config().hidden_size;
        let mut values = Vec::with_capacity(block.rows * d);
        for &record in &block.records {
            values.extend_from_slice(data.state(record).unwrap_or_default());
        }
        values.resize(block.rows * d, 0.0);
        let device = self.network.device();
        let x =
            Tensor::f_from_slice(&values)?.f_reshape([block.rows as i64, d as i64])?.f_to_device(device)?;
        let mut taps =
            if taps.is_empty() { Taps::Off } else { Taps::On { wanted: taps.to_vec(), found: Vec::new() } };
        let (x, layout) = if self.pooled_only() {
            (x, None)
        } else {
            let lengths: Vec<usize> = block.records.iter().map(|&record| data.tokens(record)).collect();
            let at = Layout::new(&lengths, block.rows, device)?;
            let mut x = x.f_to_kind(self.network.kind())?;
            for layer in self.frozen..self.network.layers.len() {
                x = self.network.layer(layer, &merged.layers[layer], &x, &at, &mut taps)?;
            }
            (x, Some(at))
        };
        let out = match (&layout, self.spec.adapter.task) {
            (_, TaskKind::NextToken) => Out::Tokens(self.network.finish(x)?),
            (None, _) => self.head(merged, x)?,
            (Some(at), _) => self.head(merged, fill_up(&self.pool(x, at)?, block.places)?)?,
        };
        let taps = match taps {
            Taps::Off => Vec::new(),
            Taps::On { found, .. } => found,
        };
        Ok(Forward { out, taps, layout })
    }

    fn head(&self, merged: &Merged, pooled: Tensor) -> Result<Out, TrainError> {
        let missing = || TrainError::Torch("the head was not read".to_owned());
        let weight = merged.tensor(TensorKind::HeadWeight).ok_or_else(missing)?;
        let bias = merged.tensor(TensorKind::HeadBias).ok_or_else(missing)?;
        let logits = pooled.f_linear(weight, Some(bias))?;
        Ok(Out::Head { pooled, logits })
    }
}
