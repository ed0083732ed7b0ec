//! What is learned, and from whose records: a task, dealt to organizations.
//!
//! Every task trains through the deployed [`Trainer`] and the deployed encoding. What a simulation knows beyond that, because
//! it sees everything, is how an adapter scores on each organization's own test, and what an organization comes to alone.

pub mod alone;
pub mod convex;
pub mod synthetic;
#[cfg(feature = "torch")]
pub mod texts;

use std::{path::Path, sync::Arc};

use consilium_client::{
    model::AdapterTensors,
    trainer::{TrainError, Trainer},
};
use consilium_crypto::digest::Digest;
use consilium_proto::plan::{Adapter, AdapterMode, Model, Plan, Pooling, TargetModules, Tensor};
use thiserror::Error;

use crate::{
    partition::Dealt,
    scenario::{Alone, Partition, Refused, Scenario, TaskKind},
    scores::Score,
    seeds::Seeds,
};

/// What went wrong with a task.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct TaskError(pub String);

impl From<TrainError> for TaskError {
    fn from(error: TrainError) -> Self {
        Self(error.to_string())
    }
}

/// On what an adapter is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// The public test set.
    Public,
    /// What an organization, numbered from 0, kept for its own test.
    OwnTest(usize),
}

/// Which random stream an organization's own training draws from.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    pub(crate) seeds: Seeds,
    pub(crate) organization: usize,
}

/// A task whose records have been dealt.
pub trait Task {
    /// Writes model, labels and tensors into a plan.
    fn describe(&self, plan: &mut Plan);

    /// The trainer beside an organization's records; that of organization 0 has the public test set.
    ///
    /// # Errors
    ///
    /// [`TaskError`].
    fn trainer(&self, organization: usize) -> Result<Box<dyn Trainer>, TaskError>;

    /// The trainer of an organization that calls every label by the next one's name; `None` where nobody has written that.
    fn flipped(&self, _organization: usize) -> Option<Box<dyn Trainer>> {
        None
    }

    /// The trainer of patients whom nobody has, from the same source; `None` where there are none.
    fn outsiders(&self) -> Option<Box<dyn Trainer>> {
        None
    }

    /// Scores an adapter; `None` if there is nothing to score it on.
    ///
    /// # Errors
    ///
    /// [`TaskError`].
    fn score(&self, adapter: &AdapterTensors, on: On) -> Result<Option<Score>, TaskError>;

    /// Ordinary training on one organization's records, from `start`, without noise and without the others.
    ///
    /// # Errors
    ///
    /// [`TaskError`].
    fn alone(
        &self,
        start: &AdapterTensors,
        organization: usize,
        recipe: &Alone,
        epochs: u32,
    ) -> Result<AdapterTensors, TaskError>;
}

/// A task, who has what of it, and the numbers of the plan that follow from that.
pub struct Study {
    /// The task.
    pub task: Box<dyn Task>,
    /// Who has what.
    pub dealt: Arc<Dealt>,
    /// Poisson sampling rate of patients.
    pub rate: f64,
    /// Largest expected lot of any organization.
    pub largest_lot: f64,
}

impl std::fmt::Debug for Study {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Study").field("rate", &self.rate).finish_non_exhaustive()
    }
}

impl Study {
    /// Makes or reads the records and deals them. `folder` is where a task with real records keeps each organization's.
    ///
    /// # Errors
    ///
    /// [`Refused`], when somebody would have nothing, or the task's files are not good.
    pub fn new(scenario: &Scenario, folder: &Path) -> Result<Self, Refused> {
        let seeds = Seeds::new(scenario.seed);
        let shift = match scenario.partition {
            Partition::FeatureShift { strength } => strength,
            _ => 0.0,
        };
        match &scenario.task {
            TaskKind::Convex { dimension } => {
                let shape = convex::shape(*dimension);
                let dealt = Arc::new(made_up_records(scenario, shape.labels)?);
                let task = convex::Whole(convex::Convex::new(shape, seeds, shift, dealt.clone()));
                Ok(Self::made_up(scenario, Box::new(task), dealt))
            }
            TaskKind::Synthetic { dimension } => {
                let dealt = Arc::new(made_up_records(scenario, synthetic::KINDS)?);
                let task = synthetic::Synthetic::new(*dimension, seeds, shift, dealt.clone());
                Ok(Self::made_up(scenario, Box::new(task), dealt))
            }
            #[cfg(feature = "torch")]
            TaskKind::Texts(texts) => texts::study(scenario, texts, folder),
            #[cfg(not(feature = "torch"))]
            TaskKind::Texts(_) => {
                let _ = folder;
                Err(Refused::Task(
                    "task.kind is \"texts\", and this consilium-sim was built without libtorch: build it with the feature \
                     torch, or take \"convex\" or \"synthetic\""
                        .into(),
                ))
            }
        }
    }

    fn made_up(scenario: &Scenario, task: Box<dyn Task>, dealt: Arc<Dealt>) -> Self {
        let rate = scenario.privacy.sampling_rate.unwrap_or(crate::scenario::DEFAULT_RATE);
        let largest_lot = rate * dealt.largest() as f64;
        Self { task, dealt, rate, largest_lot }
    }
}

/// So many records for each organization that its expected lot is the scenario's, and what it keeps for its own test.
fn made_up_records(scenario: &Scenario, kinds: u32) -> Result<Dealt, Refused> {
    let rate = scenario.privacy.sampling_rate.unwrap_or(crate::scenario::DEFAULT_RATE);
    let mut each = (scenario.privacy.lot / rate).round().max(1.0);
    if scenario.evaluation.organizations {
        each = (each / (1.0 - scenario.evaluation.own_test)).ceil() + 1.0;
    }
    let records = each * f64::from(scenario.organizations);
    crate::scenario::range(records <= 1e8, "privacy.lot", &scenario.privacy.lot, || {
        format!("{each} patients of each of {} organizations are more than 10⁸", scenario.organizations)
    })?;
    let labels = (0..records as u32).map(|record| record % kinds).collect();
    Dealt::deal(scenario, labels, kinds as usize)
}

/// A trained tensor that starts at zero.
pub(crate) fn made_up(name: &str, shape: Vec<u32>) -> Tensor {
    Tensor { name: name.into(), shape, bound: 0.0, trained: true }
}

/// The plan's sections about a model, where there is none.
pub(crate) fn no_model(seeds: Seeds) -> (Model, Adapter) {
    let nothing = Digest::of(b"the built-in convex task has no base model");
    let model = Model {
        name: "built-in convex task".into(),
        config: nothing,
        tokenizer: nothing,
        weights: nothing,
        pooling: Pooling::Mean,
        max_tokens: 4,
    };
    let adapter = Adapter {
        mode: AdapterMode::Ffa,
        rank: 1,
        alpha: 1.0,
        rslora: false,
        target_modules: TargetModules::default(),
        layers: None,
        dropout: 0.0,
        local: Vec::new(),
        start: None,
        seed: Digest(seeds.bytes("adapter", 0, 0)),
        tensors: Vec::new(),
    };
    (model, adapter)
}
