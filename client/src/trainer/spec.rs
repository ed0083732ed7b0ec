//! What a trainer is told and what it answers. No libtorch here.

use std::{fmt, ops::Range, str::FromStr, sync::Arc, time::Instant};

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::model::{AdapterSpec, AdapterTensor, AdapterTensors, TensorKind};

use super::TrainError;

/// Settings of the built-in trainer.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainerSpec {
    /// The adapter, from the plan.
    pub adapter: AdapterSpec,
    /// Which of its tensors are trained, from the plan.
    pub trained: Trained,
    /// Most bytes of frozen states to keep in memory. More saves time (with the top half of a six-layer encoder adapted, about half of it);
    /// a record takes `tokens × hidden size × 4` bytes, or `hidden size × 4` if only the head is trained.
    pub cache_bytes: u64,
    /// libtorch threads of this process, 1 to 256. One, unless the machine runs just one client: threads that wait for each other on
    /// busy cores made a step 7 to 15 times slower.
    pub threads: u32,
    /// Most records whose gradients are in memory together, at least 1. Fewer need less memory and more time, and change no bit.
    pub max_physical_batch: u32,
    /// How the frozen base model is held.
    pub base: Base,
    /// Where it is computed.
    pub device: Device,
}

/// How the frozen base model is held. The adapter, its gradients and the loss are single precision always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// Single precision.
    #[default]
    F32,
    /// The upper half of it: half the memory, and a fraction of the time where the processor multiplies it by itself (AVX-512 BF16,
    /// AMX). States and gradients then carry three digits, far above the noise.
    Bf16,
}

/// Where the model is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// A graphics card, counted from 0; needs a libtorch that was built for it.
    Cuda(u32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let index =
            text.strip_prefix("cuda:").and_then(|index| index.parse().ok().filter(|index| *index < 256));
        match (text, index) {
            ("cpu", _) => Ok(Self::Cpu),
            (_, Some(index)) => Ok(Self::Cuda(index)),
            _ => Err(format!(
                "`{text}` is no device; write \"cpu\", or \"cuda:0\" for the first graphics card"
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Device {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Which tensors of the adapter are trained; the others stay as they are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trained {
    /// `lora_A`: `alternate` in its turn, `both`.
    pub a: bool,
    /// `lora_B`: `ffa`, `both`, `alternate` in its turn.
    pub b: bool,
    /// The head's weight and bias.
    pub head: bool,
}

impl Trained {
    /// FFA-LoRA (Sun et al., 2024): `B` and the head; `A` stays as drawn.
    pub const FFA: Self = Self { a: false, b: true, head: true };
    /// `A`, `B` and the head.
    pub const BOTH: Self = Self { a: true, b: true, head: true };

    /// Whether this tensor is trained.
    pub fn contains(self, kind: TensorKind) -> bool {
        match kind {
            TensorKind::A { .. } => self.a,
            TensorKind::B { .. } => self.b,
            TensorKind::HeadWeight | TensorKind::HeadBias => self.head,
        }
    }

    /// How many numbers are trained: the length `d` of a gradient.
    pub fn dimension(self, tensors: &[AdapterTensor]) -> usize {
        tensors.iter().filter(|t| self.contains(t.kind)).map(AdapterTensor::elements).sum()
    }
}

/// One patient's share of a lot.
#[derive(Clone, Copy, Debug)]
pub struct PatientGradient<'a> {
    /// The patient's number in the data set.
    pub patient: usize,
    /// The gradient of the patient's summed loss, **not clipped**: all trained tensors in name order, each row-major, flat. Where
    /// it is not finite, whoever sums it leaves this patient out.
    pub gradient: &'a [f32],
    /// Mean loss of the patient's records, in nats; a text's own is a mean over its labels or next tokens, where it has several. Finite, or
    /// as above.
    pub loss: f32,
    /// Fraction of the patient's records that are right: the largest logit is the label's; with several labels, all are decided
    /// rightly; of next tokens, the mean of the texts' fractions.
    pub correct: f32,
}

/// Scores of an adapter on a test set.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// How many records were scored.
    pub examples: usize,
    /// Mean loss, in nats: of records, or of next tokens.
    pub loss: f64,
    /// Fraction scored right: of records (with several labels, where all are decided rightly), or of next tokens.
    pub accuracy: f64,
    /// Mean of the per-label fractions, over the labels that occur; of next tokens, the mean of the texts' own fractions.
    pub macro_accuracy: f64,
    /// Per label of the plan's list; with several labels, how many of those who have it were found.
    pub per_label: Vec<LabelScore>,
}

/// Scores of one label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LabelScore {
    /// Records with this label.
    pub examples: usize,
    /// Of those, scored right.
    pub correct: usize,
}

impl Evaluation {
    /// From per-label counts and the summed loss; `None` without any example.
    pub fn from_counts(per_label: Vec<LabelScore>, summed_loss: f64) -> Option<Self> {
        let examples: usize = per_label.iter().map(|score| score.examples).sum();
        if examples == 0 {
            return None;
        }
        let correct: usize = per_label.iter().map(|score| score.correct).sum();
        let seen: Vec<f64> = per_label
            .iter()
            .filter(|score| score.examples > 0)
            .map(|score| score.correct as f64 / score.examples as f64)
            .collect();
        Some(Self {
            examples,
            loss: summed_loss / examples as f64,
            accuracy: correct as f64 / examples as f64,
            macro_accuracy: seen.iter().sum::<f64>() / seen.len() as f64,
            per_label,
        })
    }
}

/// How to train locally, without noise and without anybody else (the baselines).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalRecipe {
    /// Passes over the data, at least 1.
    pub epochs: u32,
    /// Records a step, at least 1.
    pub lot: usize,
    /// Adam's step size; above 0.
    pub learning_rate: f64,
    /// Decides the order of the records, nothing else. Not secret.
    pub seed: u64,
}

/// The attempt that is about to be trained for.
#[derive(Clone)]
pub struct Attempt {
    /// Round, counted from 1.
    pub round: u32,
    /// Attempt at it, counted from 1; 0: an evaluation.
    pub attempt: u32,
    /// When whatever is not done is of no use any more.
    pub deadline: Instant,
    /// Whether anybody still waits for it. Asked now and then, by whoever waits for long.
    pub wanted: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("round", &self.round)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// A lot from a trainer that clips by itself.
pub struct ClippedSum {
    /// Clipped, rounded and summed: all trained tensors in name order, then the two metrics; ring units, without noise.
    pub values: Vec<i64>,
    /// How many patients it was asked for. How many it counted is its own affair.
    pub patients: usize,
}

/// A change of weights from a trainer that takes its local steps by itself.
pub struct OwnDelta {
    /// All trained tensors in name order, flat. Not clipped.
    pub delta: Vec<f32>,
    /// Mean cross-entropy over the patients that were looked at, nats.
    pub loss: f64,
    /// Fraction of them scored right.
    pub accuracy: f64,
}

/// Computes gradients and scores beside the data. The session owns one and calls it from a blocking thread.
pub trait Trainer: Send {
    /// How many patients a lot may draw from.
    fn patients(&self) -> usize;

    /// Length of [`PatientGradient::gradient`].
    fn dimension(&self) -> usize;

    /// Does ahead of time what the first lots and evaluations would otherwise do: worth calling while waiting for the others. Asks
    /// `go_on(records done, records in all)` now and then, and stops when it says no. May be left out, and called again.
    ///
    /// # Errors
    /// A failing libtorch.
    fn warm_up(&mut self, go_on: &mut dyn FnMut(usize, usize) -> bool) -> Result<(), TrainError> {
        let _ = go_on;
        Ok(())
    }

    /// Told before anything is asked for an attempt, or for an evaluation.
    fn begin(&mut self, attempt: Attempt) {
        let _ = attempt;
    }

    /// Whether this trainer clips, rounds and sums by itself, out of this process's sight. Then [`Trainer::sum`] and
    /// [`Trainer::delta`] are asked for, and [`Trainer::lot`] never is.
    fn clips(&self) -> bool {
        false
    }

    /// A lot from a trainer that [clips](Trainer::clips). Its norm has not been looked at. Coordinates that rest (`still`, in order) are zero.
    ///
    /// # Errors
    /// A patient that does not exist; whatever is wrong with the trainer or its answer.
    fn sum(
        &mut self,
        adapter: &AdapterTensors,
        patients: &[usize],
        still: &[Range<usize>],
    ) -> Result<ClippedSum, TrainError> {
        let _ = (adapter, patients, still);
        Err(TrainError::ClipsNot)
    }

    /// The plan's local steps over these patients, from a trainer that [clips](Trainer::clips). Finite, of the right length, and zero where
    /// coordinates rest.
    ///
    /// # Errors
    /// As [`Trainer::sum`].
    fn delta(
        &mut self,
        adapter: &AdapterTensors,
        patients: &[usize],
        still: &[Range<usize>],
    ) -> Result<OwnDelta, TrainError> {
        let _ = (adapter, patients, still);
        Err(TrainError::ClipsNot)
    }

    /// Calls `each` exactly once for every patient of the lot, in an order of its own. An empty lot calls nothing.
    ///
    /// # Errors
    /// Adapter values that do not fit, a patient that does not exist (both before the first call of `each`), or a failing libtorch: then the lot is incomplete and what `each` was given must be thrown away.
    fn lot(
        &mut self,
        adapter: &AdapterTensors,
        patients: &[usize],
        each: &mut dyn FnMut(PatientGradient<'_>),
    ) -> Result<(), TrainError>;

    /// Scores the adapter on the test set, or on `limit` records evenly spread over it (the same ones every time).
    ///
    /// # Errors
    /// [`TrainError::NoTestSet`], and as [`Trainer::lot`].
    fn evaluate(&mut self, adapter: &AdapterTensors, limit: Option<usize>) -> Result<Evaluation, TrainError>;
}

impl<T: Trainer + ?Sized> Trainer for Box<T> {
    fn patients(&self) -> usize {
        (**self).patients()
    }

    fn dimension(&self) -> usize {
        (**self).dimension()
    }

    fn warm_up(&mut self, go_on: &mut dyn FnMut(usize, usize) -> bool) -> Result<(), TrainError> {
        (**self).warm_up(go_on)
    }

    fn begin(&mut self, attempt: Attempt) {
        (**self).begin(attempt);
    }

    fn clips(&self) -> bool {
        (**self).clips()
    }

    fn sum(
        &mut self,
        adapter: &AdapterTensors,
        patients: &[usize],
        still: &[Range<usize>],
    ) -> Result<ClippedSum, TrainError> {
        (**self).sum(adapter, patients, still)
    }

    fn delta(
        &mut self,
        adapter: &AdapterTensors,
        patients: &[usize],
        still: &[Range<usize>],
    ) -> Result<OwnDelta, TrainError> {
        (**self).delta(adapter, patients, still)
    }

    fn lot(
        &mut self,
        adapter: &AdapterTensors,
        patients: &[usize],
        each: &mut dyn FnMut(PatientGradient<'_>),
    ) -> Result<(), TrainError> {
        (**self).lot(adapter, patients, each)
    }

    fn evaluate(&mut self, adapter: &AdapterTensors, limit: Option<usize>) -> Result<Evaluation, TrainError> {
        (**self).evaluate(adapter, limit)
    }
}
