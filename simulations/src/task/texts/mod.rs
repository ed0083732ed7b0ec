//! The demo's task: a LoRA adapter and a head on a frozen encoder, in libtorch, which tell the chapter from a code's title.
//!
//! All virtual organizations share one copy of the encoder; each has its own tokens and its own cache of what the frozen
//! layers make of them. Gradients, caches and shapes are the deployed trainer's.

mod titles;

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use consilium_client::{
    config::{Training, trained},
    data::{DataConfig, Dataset},
    model::{AdapterSpec, AdapterTensors, ModelFolder, Pooling, TensorKind, adapter_tensors},
    trainer::{
        Base, Device, Evaluation, LocalRecipe, PatientGradient, Prepared, TorchModel, TrainError, Trained,
        Trainer, TrainerSpec,
    },
};
use consilium_crypto::digest::Digest;
use consilium_proto::plan::{self, Plan, Tensor};

use super::{On, Study, Task, TaskError};
use crate::{
    consortium::organization,
    out::OutError,
    partition::{Dealt, Own},
    scenario::{Alone, Partition, Refused, Scenario, Texts, range},
    scores::{Score, Tally},
};
use titles::{CHAPTERS, Title, abbreviated, split};

/// A set of titles: tokens, cache and labels.
struct Set {
    prepared: Mutex<Prepared>,
    labels: Vec<u32>,
}

/// One organization's.
struct Site {
    train: Arc<Set>,
    own_test: Option<Arc<Set>>,
}

/// The task.
struct Whole {
    /// The one copy.
    model: Arc<Mutex<TorchModel>>,
    digests: consilium_client::model::ModelDigests,
    spec: AdapterSpec,
    texts: Texts,
    tensors: Vec<Tensor>,
    public: Arc<Set>,
    sites: Vec<Site>,
    seed: u64,
}

impl From<consilium_client::model::ModelError> for TaskError {
    fn from(error: consilium_client::model::ModelError) -> Self {
        Self(error.to_string())
    }
}

impl From<consilium_client::data::DataError> for TaskError {
    fn from(error: consilium_client::data::DataError) -> Self {
        Self(error.to_string())
    }
}

/// Reads titles and encoder, deals the titles, and writes each organization's into a file of its own in `folder`.
pub(super) fn study(scenario: &Scenario, texts: &Texts, folder: &Path) -> Result<Study, Refused> {
    let refused = |error: TaskError| Refused::Task(error.to_string());
    let split = split(texts, scenario.seed).map_err(refused)?;
    let labels = split.train.iter().map(|title| title.label).collect();
    let dealt = Arc::new(Dealt::deal(scenario, labels, CHAPTERS.len())?);
    let lot = scenario.privacy.lot * f64::from(scenario.organizations);
    let rate = lot / dealt.trained_on() as f64;
    range(rate <= 1.0, "privacy.lot", &scenario.privacy.lot, || {
        format!(
            "a lot of {} of each of {} organizations are {lot} titles, and {} are trained on",
            scenario.privacy.lot,
            scenario.organizations,
            dealt.trained_on()
        )
    })?;
    let largest_lot = rate * dealt.largest() as f64;
    let task = Whole::new(scenario, texts, &split, &dealt, folder)?;
    Ok(Study { task: Box::new(task), dealt, rate, largest_lot })
}

impl Whole {
    fn new(
        scenario: &Scenario,
        texts: &Texts,
        split: &titles::Split,
        dealt: &Dealt,
        folder: &Path,
    ) -> Result<Self, Refused> {
        let shown = ModelFolder::open(&texts.model).map_err(task)?;
        let spec = AdapterSpec {
            rank: texts.rank as usize,
            alpha: texts.alpha,
            use_rslora: false,
            target_modules: texts.target_modules.clone().into(),
            layers: (!texts.target_modules.is_empty()).then(|| texts.layers.clone()),
            dropout: 0.0,
            pooling: Pooling::Mean,
            max_tokens: texts.max_tokens as usize,
            task: plan::TaskKind::SingleLabel,
            labels: CHAPTERS.len(),
            class_weights: Vec::new(),
        };
        let n = u64::from(scenario.organizations);
        let trained = trained_by(texts.aggregation);
        let trainer = TrainerSpec {
            adapter: spec.clone(),
            trained,
            // Each set of titles has a cache of its own; none needs more than its part.
            cache_bytes: (texts.cache_mb << 20) / (n + 1),
            threads: 1,
            max_physical_batch: Training::DEFAULT_PHYSICAL_BATCH,
            base: Base::F32,
            device: Device::Cpu,
        };
        let model = TorchModel::load(&shown, trainer).map_err(task)?;
        let tensors = tensors(&shown, &spec, trained).map_err(task)?;
        std::fs::create_dir_all(folder).map_err(|source| full(folder, source))?;
        let list: String = CHAPTERS.iter().map(|(_, label)| format!("{label}\n")).collect();
        write(&folder.join("labels.txt"), &list)?;
        let strength = match scenario.partition {
            Partition::FeatureShift { strength } => strength,
            _ => 0.0,
        };
        let public: Vec<Title> = split.test.clone();
        let public = set(&model, &folder.join("test.csv"), &public)?;
        let mut sites = Vec::with_capacity(dealt.own.len());
        for (index, Own { train, test }) in dealt.own.iter().enumerate() {
            let name = organization(u32::try_from(index).unwrap_or(u32::MAX));
            let written = |records: &[u32]| -> Vec<Title> {
                let title = |record: &u32| split.train.get(*record as usize).cloned();
                let mut titles: Vec<Title> = records.iter().filter_map(title).collect();
                for title in titles.iter_mut().filter(|_| strength > 0.0) {
                    title.text = abbreviated(&title.text, scenario.seed, index, strength);
                }
                titles
            };
            let train = set(&model, &folder.join(format!("{name}.csv")), &written(train))?;
            let own_test = match test.as_slice() {
                [] => None,
                records => Some(set(&model, &folder.join(format!("{name}-test.csv")), &written(records))?),
            };
            sites.push(Site { train, own_test });
        }
        let (model, texts, seed) = (Arc::new(Mutex::new(model)), texts.clone(), scenario.seed);
        Ok(Self { model, digests: shown.digests(), spec, texts, tensors, public, sites, seed })
    }

    fn site(&self, organization: usize) -> Result<&Site, TaskError> {
        self.sites
            .get(organization)
            .ok_or_else(|| TaskError(format!("there is no organization {organization}")))
    }

    fn model(&self) -> std::sync::MutexGuard<'_, TorchModel> {
        // Whoever panicked with the lock held has ended the simulation.
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn task(error: impl Into<TaskError>) -> Refused {
    Refused::Task(error.into().to_string())
}

fn full(path: &Path, source: io::Error) -> Refused {
    Refused::Write(OutError { path: path.to_path_buf(), source, kept: "nothing was run".into() })
}

fn write(path: &Path, text: &str) -> Result<(), Refused> {
    std::fs::write(path, text).map_err(|source| full(path, source))
}

/// Writes titles as a client reads them, and reads them as a client does.
fn set(model: &TorchModel, path: &Path, titles: &[Title]) -> Result<Arc<Set>, Refused> {
    let failed = |error: csv::Error| full(path, io::Error::other(error));
    let mut table = csv::Writer::from_path(path).map_err(failed)?;
    table.write_record(["patient_id", "text", "label"]).map_err(failed)?;
    let labels: Vec<String> = CHAPTERS.iter().map(|(_, label)| (*label).to_owned()).collect();
    for title in titles {
        let label = labels.get(title.label as usize).map_or("", String::as_str);
        table.write_record([&title.code, &title.text, label]).map_err(failed)?;
    }
    table.flush().map_err(|error| failed(error.into()))?;
    let config = DataConfig {
        path: path.to_path_buf(),
        text_column: "text".into(),
        label_column: "label".into(),
        patient_column: "patient_id".into(),
    };
    let data = Dataset::load(&config, &labels, 1).map_err(task)?;
    let labels = titles.iter().map(|title| title.label).collect();
    Ok(Arc::new(Set { prepared: Mutex::new(model.prepare(&data).map_err(task)?), labels }))
}

/// What a mode trains.
fn trained_by(mode: plan::AdapterMode) -> Trained {
    match mode {
        plan::AdapterMode::Ffa => Trained::FFA,
        plan::AdapterMode::Both | plan::AdapterMode::Alternate => Trained::BOTH,
    }
}

/// The adapter's tensors as a plan lists them: `A` and the head's weight start within `1/√inputs`, the rest at zero.
fn tensors(folder: &ModelFolder, spec: &AdapterSpec, trained: Trained) -> Result<Vec<Tensor>, TaskError> {
    let bound = |inputs: usize| (1.0 / (inputs as f64).sqrt()) as f32;
    let tensor = |tensor: consilium_client::model::AdapterTensor| {
        let inputs = tensor.shape.last().copied().unwrap_or(1);
        let bound = match tensor.kind {
            TensorKind::A { .. } | TensorKind::HeadWeight => bound(inputs),
            TensorKind::B { .. } | TensorKind::HeadBias => 0.0,
        };
        let shape = tensor.shape.iter().map(|&axis| u32::try_from(axis).unwrap_or(u32::MAX)).collect();
        Tensor { trained: trained.contains(tensor.kind), name: tensor.name, shape, bound }
    };
    Ok(adapter_tensors(folder.config(), spec)?.into_iter().map(tensor).collect())
}

impl Task for Whole {
    fn describe(&self, plan: &mut Plan) {
        let digests = &self.digests;
        plan.model = plan::Model {
            name: "sentence-transformers/all-MiniLM-L6-v2".into(),
            config: Digest(digests.config),
            tokenizer: Digest(digests.tokenizer),
            weights: Digest(digests.weights),
            pooling: plan::Pooling::Mean,
            max_tokens: self.texts.max_tokens,
        };
        plan.task.labels = CHAPTERS.iter().map(|(_, label)| (*label).to_owned()).collect();
        plan.privacy.note = "a title stands for a patient".into();
        plan.adapter.mode = self.texts.aggregation;
        plan.adapter.rank = self.texts.rank;
        plan.adapter.alpha = self.texts.alpha;
        plan.adapter.target_modules = self.texts.target_modules.clone().into();
        plan.adapter.layers = self.spec.layers.clone();
        plan.adapter.tensors = self.tensors.clone();
        debug_assert_eq!(trained(plan), trained_by(self.texts.aggregation));
    }

    fn trainer(&self, organization: usize) -> Result<Box<dyn Trainer>, TaskError> {
        let train = self.site(organization)?.train.clone();
        let test = (organization == 0).then(|| self.public.clone());
        let dimension = self.model().dimension();
        Ok(Box::new(Beside { model: self.model.clone(), train, test, dimension }))
    }

    fn score(&self, adapter: &AdapterTensors, on: On) -> Result<Option<Score>, TaskError> {
        let set = match on {
            On::Public => &self.public,
            On::OwnTest(organization) => match &self.site(organization)?.own_test {
                Some(set) => set,
                None => return Ok(None),
            },
        };
        let model = self.model();
        let mut prepared = set.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        let logits = model.logits(adapter, &mut prepared)?;
        let mut tally = Tally::new(CHAPTERS.len());
        for (logits, label) in logits.iter().zip(&set.labels) {
            tally.add_logits(*label as usize, logits);
        }
        Ok(tally.score())
    }

    fn alone(
        &self,
        start: &AdapterTensors,
        organization: usize,
        recipe: &Alone,
        epochs: u32,
    ) -> Result<AdapterTensors, TaskError> {
        let recipe = LocalRecipe {
            epochs,
            lot: recipe.lot.max(1) as usize,
            learning_rate: recipe.learning_rate,
            seed: self.seed,
        };
        let set = &self.site(organization)?.train;
        let model = self.model();
        let mut prepared = set.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(model.train_local(start, &mut prepared, &recipe, &mut |_, _, _| {})?)
    }
}

/// The trainer beside one organization's titles.
struct Beside {
    model: Arc<Mutex<TorchModel>>,
    train: Arc<Set>,
    test: Option<Arc<Set>>,
    dimension: usize,
}

impl Trainer for Beside {
    fn patients(&self) -> usize {
        self.train.labels.len()
    }

    fn dimension(&self) -> usize {
        self.dimension
    }

    fn lot(
        &mut self,
        adapter: &AdapterTensors,
        patients: &[usize],
        each: &mut dyn FnMut(PatientGradient<'_>),
    ) -> Result<(), TrainError> {
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let mut prepared = self.train.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        model.gradients(adapter, &mut prepared, patients, each)
    }

    fn evaluate(&mut self, adapter: &AdapterTensors, limit: Option<usize>) -> Result<Evaluation, TrainError> {
        let test = self.test.as_ref().ok_or(TrainError::NoTestSet)?;
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let mut prepared = test.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        model.evaluate(adapter, &mut prepared, limit)
    }
}
