//! The built-in trainer: a frozen encoder, merged factors, per-patient gradients. See [`super`] for the method.

mod encoder;
mod gradient;
mod local;
mod merged;
mod prepared;

use tch::Tensor;

use self::encoder::{Encoder, Place, Rows, Tap, Taps};
use self::merged::{LayerWeights, Merged};
pub use self::prepared::Prepared;
use super::TrainError;
use super::batches::{self, MicroBatch};
use super::spec::{Evaluation, LabelScore, PatientGradient, Trainer, TrainerSpec};
use crate::data::Dataset;
use crate::model::{
    AdapterTensor, AdapterTensors, ModelFolder, Pooling, TensorKind, TextTokenizer, adapter_tensors,
};

/// Records that are worked on between two looks at the cache's cap.
const CHUNK: usize = 512;

/// A loaded encoder and the description of its adapter. One per process; several data sets may be prepared for it.
pub struct TorchModel {
    encoder: Encoder,
    tokenizer: TextTokenizer,
    spec: TrainerSpec,
    /// All tensors of the adapter, in name order.
    tensors: Vec<AdapterTensor>,
    /// The first adapted layer; the number of layers if only the head is trained.
    frozen: usize,
    /// Products whose outputs' gradients are wanted.
    taps: Vec<(usize, Place)>,
}

impl std::fmt::Debug for TorchModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TorchModel").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// A micro-batch on its way: inputs in, logits out.
struct Forward {
    /// `[b, d]`
    pooled: Tensor,
    /// `[b, labels]`
    logits: Tensor,
    taps: Vec<Tap>,
}

/// A micro-batch's losses.
struct Losses {
    /// Cross-entropy of every row, fillers included, inside the graph.
    rows: Tensor,
    /// The same per record.
    values: Vec<f32>,
    /// Per record, whether its largest logit is the label's.
    hits: Vec<bool>,
}

impl TorchModel {
    /// Reads the weights and sets this process's number of libtorch threads.
    ///
    /// # Errors
    /// An adapter that does not fit the model, a setting out of range, a weights file that changed since it was checked.
    pub fn load(folder: &ModelFolder, spec: TrainerSpec) -> Result<Self, TrainError> {
        let tensors = adapter_tensors(folder.config(), &spec.adapter)?;
        let threads = match i32::try_from(spec.threads) {
            Ok(threads @ 1..=256) => threads,
            _ => {
                return Err(TrainError::Setting {
                    field: "threads",
                    value: spec.threads.to_string(),
                    problem: "must be 1 to 256",
                });
            }
        };
        if spec.trained.dimension(&tensors) == 0 {
            return Err(TrainError::Setting {
                field: "trained",
                value: format!("{:?}", spec.trained),
                problem: "trains no tensor of this adapter; name lora_A, lora_B or head",
            });
        }
        tch::set_num_threads(threads);
        let mut taps: Vec<(usize, Place)> = Vec::new();
        let mut frozen = folder.config().layers;
        for tensor in &tensors {
            if let TensorKind::A { layer, module } | TensorKind::B { layer, module } = tensor.kind {
                frozen = frozen.min(layer);
                let at = (layer, Place::of(module).0);
                if spec.trained.contains(tensor.kind) && !taps.contains(&at) {
                    taps.push(at);
                }
            }
        }
        Ok(Self {
            encoder: Encoder::load(folder)?,
            tokenizer: folder.tokenizer(spec.adapter.max_tokens)?,
            spec,
            tensors,
            frozen,
            taps,
        })
    }

    /// All tensors of the adapter, in name order.
    pub fn tensors(&self) -> &[AdapterTensor] {
        &self.tensors
    }

    /// Length of a gradient.
    pub fn dimension(&self) -> usize {
        self.spec.trained.dimension(&self.tensors)
    }

    /// Tokenizes a data set.
    ///
    /// # Errors
    /// [`TrainError::Labels`] if the data was loaded with another label list than the plan's.
    pub fn prepare(&self, data: &Dataset) -> Result<Prepared, TrainError> {
        if data.labels() != self.spec.adapter.labels {
            return Err(TrainError::Labels { found: data.labels(), expected: self.spec.adapter.labels });
        }
        Prepared::new(data, &self.tokenizer, self.spec.cache_bytes)
    }

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
        let mut scores = vec![LabelScore::default(); self.spec.adapter.labels];
        let mut summed = 0f64;
        self.chunks(data, &chosen, |data, chunk| {
            for batch in self.batches(data, chunk) {
                let forward = self.forward(&merged, data, &batch, Vec::new())?;
                let losses = self.losses(&forward, data, &batch)?;
                let scored = losses.values.into_iter().zip(losses.hits);
                for (&record, (loss, hit)) in batch.records.iter().zip(scored) {
                    // Labels were looked up in the list of that length.
                    let score = &mut scores[data.label(record) as usize];
                    score.examples += 1;
                    score.correct += usize::from(hit);
                    summed += f64::from(loss);
                }
            }
            Ok(())
        })?;
        if !summed.is_finite() {
            return Err(TrainError::NotFinite { what: "the test loss" });
        }
        Evaluation::from_counts(scores, summed).ok_or(TrainError::NoTestSet)
    }

    /// Each record's logits `[labels]`, in the records' order: for tests and tools.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn logits(&self, adapter: &AdapterTensors, data: &mut Prepared) -> Result<Vec<Vec<f32>>, TrainError> {
        let _no_grad = tch::no_grad_guard();
        let merged = self.merge(adapter)?;
        let all: Vec<usize> = (0..data.len()).collect();
        let mut logits = vec![Vec::new(); data.len()];
        self.chunks(data, &all, |data, chunk| {
            for batch in self.batches(data, chunk) {
                let forward = self.forward(&merged, data, &batch, Vec::new())?;
                for (row, &record) in batch.records.iter().enumerate() {
                    encoder::read_f32(&forward.logits.f_get(row as i64)?, &mut logits[record])?;
                }
            }
            Ok(())
        })?;
        Ok(logits)
    }

    /// The bare encoder's last hidden states for one text, token by token, `[tokens][hidden size]`: for tests and tools.
    ///
    /// # Errors
    /// A text the tokenizer fails on, or a failing libtorch.
    pub fn hidden_states(&self, text: &str) -> Result<Vec<Vec<f32>>, TrainError> {
        let _no_grad = tch::no_grad_guard();
        let tokens = self.tokenizer.encode(text)?;
        let padded = batches::padded_length(tokens.len(), self.longest());
        let ids = encoder::ids(&[&tokens], 1, padded, self.encoder.config().pad_token_id)?;
        let rows = Rows::new(&[tokens.len()], padded)?;
        let x = self.lower(&ids, &rows, self.encoder.layers.len())?;
        let mut values = Vec::new();
        encoder::read_f32(&x, &mut values)?;
        let d = self.encoder.config().hidden_size;
        Ok(values.chunks_exact(d).take(tokens.len()).map(<[f32]>::to_vec).collect())
    }

    /// Embeddings and the first `layers` layers, without an adapter.
    fn lower(&self, ids: &Tensor, rows: &Rows, layers: usize) -> Result<Tensor, TrainError> {
        let mut x = self.encoder.embed(ids)?;
        for layer in 0..layers {
            let weights = LayerWeights::plain(&self.encoder, layer);
            x = self.encoder.layer(layer, &weights, &x, rows, &mut Taps::Off)?;
        }
        Ok(x)
    }

    fn merge(&self, adapter: &AdapterTensors) -> Result<Merged, TrainError> {
        let scaling = self.spec.adapter.scaling();
        Merged::new(&self.encoder, &self.tensors, scaling, adapter)
    }

    /// Whether the frozen part ends after pooling: only the head is trained.
    fn pooled_only(&self) -> bool {
        self.frozen == self.encoder.layers.len()
    }

    /// Micro-batches of fixed shape for the trained part.
    fn batches(&self, data: &Prepared, records: &[usize]) -> Vec<MicroBatch> {
        if self.pooled_only() {
            batches::pooled(records)
        } else {
            batches::fixed(records, &|record| data.tokens(record), self.longest())
        }
    }

    fn longest(&self) -> usize {
        self.encoder.config().max_tokens()
    }

    /// Walks through `records` in chunks whose frozen states are at hand during `work`.
    fn chunks(
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
        for batch in batches::fixed(&missing, &|r| data.tokens(r), self.longest()) {
            let texts: Vec<&[u32]> = batch.records.iter().map(|&r| data.ids(r)).collect();
            let pad = self.encoder.config().pad_token_id;
            let ids = encoder::ids(&texts, batch.rows, batch.length, pad)?;
            let rows = Rows::new(&lengths(&batch, |r| data.tokens(r)), batch.length)?;
            let mut x = self.lower(&ids, &rows, self.frozen)?;
            let stride = if self.pooled_only() {
                x = self.pool(&x, &rows)?;
                d
            } else {
                batch.length * d
            };
            encoder::read_f32(&x, &mut values)?;
            for (row, &record) in batch.records.iter().enumerate() {
                let kept = if self.pooled_only() { d } else { data.tokens(record) * d };
                let states = values[row * stride..][..kept].into();
                if !data.keep(record, states) {
                    passing.push(record);
                }
            }
        }
        Ok(passing)
    }

    fn pool(&self, x: &Tensor, rows: &Rows) -> Result<Tensor, TrainError> {
        match self.spec.adapter.pooling {
            Pooling::Mean => rows.mean(x),
            Pooling::Cls => Ok(x.f_select(1, 0)?.f_contiguous()?),
        }
    }

    /// The trained part, from frozen states to logits. Records the products in `taps` if there are any and gradients are on.
    fn forward(
        &self,
        merged: &Merged,
        data: &Prepared,
        batch: &MicroBatch,
        taps: Vec<(usize, Place)>,
    ) -> Result<Forward, TrainError> {
        let d = self.encoder.config().hidden_size;
        let (b, t) = (batch.rows, batch.length);
        let mut values = vec![0f32; b * t * d];
        for (row, &record) in batch.records.iter().enumerate() {
            let states = data.state(record).unwrap_or_default();
            values[row * t * d..][..states.len()].copy_from_slice(states);
        }
        let x = Tensor::f_from_slice(&values)?;
        let mut taps = if taps.is_empty() { Taps::Off } else { Taps::On { wanted: taps, found: Vec::new() } };
        let pooled = if self.pooled_only() {
            x.f_reshape([b as i64, d as i64])?
        } else {
            let rows = Rows::new(&lengths(batch, |r| data.tokens(r)), t)?;
            let mut x = x.f_reshape([b as i64, t as i64, d as i64])?;
            for layer in self.frozen..self.encoder.layers.len() {
                x = self.encoder.layer(layer, &merged.layers[layer], &x, &rows, &mut taps)?;
            }
            self.pool(&x, &rows)?
        };
        let missing = || TrainError::Torch("the head was not read".to_owned());
        let weight = merged.tensor(TensorKind::HeadWeight).ok_or_else(missing)?;
        let bias = merged.tensor(TensorKind::HeadBias).ok_or_else(missing)?;
        let logits = pooled.f_linear(weight, Some(bias))?;
        let taps = match taps {
            Taps::Off => Vec::new(),
            Taps::On { found, .. } => found,
        };
        Ok(Forward { pooled, logits, taps })
    }

    /// Compares the logits with the records' labels.
    fn losses(&self, forward: &Forward, data: &Prepared, batch: &MicroBatch) -> Result<Losses, TrainError> {
        let mut labels = vec![0i64; forward.logits.size2()?.0 as usize];
        for (slot, &record) in labels.iter_mut().zip(&batch.records) {
            *slot = i64::from(data.label(record));
        }
        let targets = Tensor::f_from_slice(&labels)?;
        let each =
            forward.logits.f_cross_entropy_loss::<Tensor>(&targets, None, tch::Reduction::None, -100, 0.0)?;
        let mut values = Vec::new();
        encoder::read_f32(&each.f_detach()?, &mut values)?;
        let best = Vec::<i64>::try_from(forward.logits.f_argmax(1, false)?)?;
        let hits = best.iter().zip(&labels).take(batch.records.len()).map(|(b, l)| b == l).collect();
        values.truncate(batch.records.len());
        Ok(Losses { rows: each, values, hits })
    }
}

/// Lengths of all rows, 0 for fillers.
fn lengths(batch: &MicroBatch, tokens: impl Fn(usize) -> usize) -> Vec<usize> {
    let mut lengths: Vec<usize> = batch.records.iter().map(|&record| tokens(record)).collect();
    lengths.resize(batch.rows, 0);
    lengths
}

/// The `i`-th of `take` numbers spread evenly over `0..all`.
fn spread(i: usize, take: usize, all: usize) -> usize {
    // Wide enough: both factors are lengths of lists in memory.
    (i as u128 * all as u128 / take.max(1) as u128) as usize
}

/// The built-in trainer, as the session owns it: a model, the organization's data and perhaps a public test set.
#[derive(Debug)]
pub struct TorchTrainer {
    model: TorchModel,
    train: Prepared,
    test: Option<Prepared>,
}

impl TorchTrainer {
    /// Loads the model and tokenizes the data.
    ///
    /// # Errors
    /// As [`TorchModel::load`] and [`TorchModel::prepare`].
    pub fn new(
        folder: &ModelFolder,
        spec: TrainerSpec,
        train: &Dataset,
        test: Option<&Dataset>,
    ) -> Result<Self, TrainError> {
        let model = TorchModel::load(folder, spec)?;
        let train = model.prepare(train)?;
        let test = test.map(|test| model.prepare(test)).transpose()?;
        Ok(Self { model, train, test })
    }

    /// The model, for what the trait does not offer.
    pub fn model(&self) -> &TorchModel {
        &self.model
    }
}

impl Trainer for TorchTrainer {
    fn patients(&self) -> usize {
        self.train.patients()
    }

    fn dimension(&self) -> usize {
        self.model.dimension()
    }

    fn lot(
        &mut self,
        adapter: &AdapterTensors,
        patients: &[usize],
        each: &mut dyn FnMut(PatientGradient<'_>),
    ) -> Result<(), TrainError> {
        self.model.gradients(adapter, &mut self.train, patients, each)
    }

    fn evaluate(&mut self, adapter: &AdapterTensors, limit: Option<usize>) -> Result<Evaluation, TrainError> {
        let test = self.test.as_mut().ok_or(TrainError::NoTestSet)?;
        self.model.evaluate(adapter, test, limit)
    }
}
