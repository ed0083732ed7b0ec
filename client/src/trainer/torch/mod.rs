//! The built-in trainer: a frozen base model, the adapter's factors, per-patient gradients. See [`super`] for the method.

mod attention;
mod decoder;
mod encoder;
mod evaluate;
mod forward;
mod gradient;
mod layout;
mod local;
mod loss;
mod merged;
mod network;
mod prepared;
mod tokens;

use self::network::{Network, Place};
pub use self::prepared::Prepared;
use super::TrainError;
use super::spec::{Base, Device, Evaluation, PatientGradient, Trainer, TrainerSpec};
use crate::data::Dataset;
use crate::model::{AdapterTensor, AdapterTensors, ModelFolder, TensorKind, TextTokenizer, adapter_tensors};

/// A loaded base model and the description of its adapter. One per process; several data sets may be prepared for it.
pub struct TorchModel {
    network: Network,
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
        if spec.max_physical_batch == 0 {
            return Err(TrainError::Setting {
                field: "max_physical_batch",
                value: "0".to_owned(),
                problem: "must be at least 1",
            });
        }
        let device = device(spec.device)?;
        let kind = match spec.base {
            Base::F32 => tch::Kind::Float,
            Base::Bf16 => tch::Kind::BFloat16,
        };
        tch::set_num_threads(threads);
        let mut taps: Vec<(usize, Place)> = Vec::new();
        let mut frozen = folder.config().layers;
        for tensor in &tensors {
            if let TensorKind::A { layer, module } | TensorKind::B { layer, module } = tensor.kind {
                frozen = frozen.min(layer);
                let at = (layer, Place::of(module, folder.config()).0);
                if spec.trained.contains(tensor.kind) && !taps.contains(&at) {
                    taps.push(at);
                }
            }
        }
        Ok(Self {
            network: Network::load(folder, kind, device, spec.adapter.max_tokens)?,
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
}

/// libtorch's own name of a device, if this libtorch has it.
fn device(wanted: Device) -> Result<tch::Device, TrainError> {
    let Device::Cuda(index) = wanted else { return Ok(tch::Device::Cpu) };
    let count = tch::Cuda::device_count();
    if i64::from(index) < count {
        return Ok(tch::Device::Cuda(index as usize));
    }
    Err(TrainError::NoDevice { wanted, count })
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
