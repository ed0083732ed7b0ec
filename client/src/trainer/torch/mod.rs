//! The built-in trainer: a frozen encoder, merged factors, per-patient gradients. See [`super`] for the method.

mod encoder;
mod forward;
mod gradient;
mod layout;
mod local;
mod merged;
mod prepared;

use self::encoder::{Encoder, Place};
pub use self::prepared::Prepared;
use super::TrainError;
use super::spec::{Evaluation, LabelScore, PatientGradient, Trainer, TrainerSpec};
use crate::data::Dataset;
use crate::model::{AdapterTensor, AdapterTensors, ModelFolder, TensorKind, TextTokenizer, adapter_tensors};

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

    /// Computes frozen states until all are kept, the cap is reached, or `go_on(records done)` says no; returns whether it never did.
    ///
    /// # Errors
    /// A failing libtorch.
    pub fn warm_up(
        &self,
        data: &mut Prepared,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<bool, TrainError> {
        let all: Vec<usize> = (0..data.len()).collect();
        let mut done = 0;
        for part in all.chunks(256) {
            if !go_on(done) {
                return Ok(false);
            }
            if !self.fits(data, part)? {
                return Ok(true);
            }
            done += part.len();
        }
        Ok(go_on(done))
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
            for block in self.blocks(data, chunk) {
                let forward = self.forward(&merged, data, &block, &[])?;
                let losses = self.losses(&forward, data, &block)?;
                let scored = losses.values.into_iter().zip(losses.hits);
                for (&record, (loss, hit)) in block.records.iter().zip(scored) {
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
            for block in self.blocks(data, chunk) {
                let forward = self.forward(&merged, data, &block, &[])?;
                for (row, &record) in block.records.iter().enumerate() {
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
        let (x, _) = self.lower(&[&tokens], tokens.len() + 1, self.encoder.layers.len())?;
        let mut values = Vec::new();
        encoder::read_f32(&x, &mut values)?;
        let d = self.encoder.config().hidden_size;
        Ok(values.chunks_exact(d).take(tokens.len()).map(<[f32]>::to_vec).collect())
    }
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

    fn warm_up(&mut self, go_on: &mut dyn FnMut(usize, usize) -> bool) -> Result<(), TrainError> {
        let test = self.test.as_ref().map_or(0, Prepared::len);
        let (train, all) = (self.train.len(), self.train.len() + test);
        let mut before = 0;
        for data in [Some(&mut self.train), self.test.as_mut()].into_iter().flatten() {
            if !self.model.warm_up(data, &mut |done| go_on(before + done, all))? {
                return Ok(());
            }
            before = train;
        }
        Ok(())
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
