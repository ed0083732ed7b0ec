//! A convex task that needs no libtorch: softmax regression on synthetic patients, through the same [`Trainer`] that a
//! deployment's lots are drawn with.
//!
//! A patient of label `y` has the features `x = (centre_y + 2u)/√f`, with `centre_y` and `u` uniform in `[−1, 1)^f`; `centre` is the
//! same for everybody, `u` the patient's own. Where features are shifted, each organization adds an offset of its own. The
//! gradient of the cross-entropy is `(softmax(W·x + b) − e_y) ⊗ (x, 1)`. Features are drawn again from the patient's seed
//! whenever they are needed, so that a thousand organizations fit into memory. Floating point runs in index order, `exp` and
//! `ln` come from software (`libm`): the same seed gives the same bytes.

use std::sync::Arc;

use chacha20::ChaCha8Rng;
use consilium_client::{
    model::AdapterTensors,
    trainer::{Evaluation, LabelScore, PatientGradient, TrainError, Trainer},
};
use rand::{Rng as _, SeedableRng as _};

use super::{On, Site, Task, TaskError, alone, made_up};
use crate::{
    partition::Dealt,
    scenario::Alone,
    scores::{Score, Tally},
    seeds::Seeds,
};

/// Name of the head's bias.
pub const BIAS: &str = "head.bias";
/// Name of the head's weight.
pub const WEIGHT: &str = "head.weight";

/// Labels and features of the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Labels `c`.
    pub labels: u32,
    /// Features `f`.
    pub features: u32,
}

impl Shape {
    /// `c · (f + 1)`.
    pub fn parameters(self) -> u32 {
        self.labels * (self.features + 1)
    }
}

/// The smallest task with at least so many parameters: ten labels, or two for less than forty.
pub fn shape(parameters: u32) -> Shape {
    let labels = if parameters < 40 { 2 } else { 10 };
    let features = (parameters.div_ceil(labels).max(2) - 1).min(1 << 24);
    Shape { labels, features }
}

/// What all organizations share.
pub struct Convex {
    shape: Shape,
    seeds: Seeds,
    /// `c × f`, row-major.
    centres: Vec<f32>,
    /// How far apart organizations' features are.
    shift: f32,
    dealt: Arc<Dealt>,
}

/// Whose features: the public test set's, or an organization's.
#[derive(Clone, Copy)]
enum Whose {
    Public,
    Of(usize),
}

#[derive(Clone, Copy)]
struct Patient {
    label: usize,
    /// The record's number.
    number: u32,
}

/// Patients of the public test set.
const TEST: u32 = 500;
/// Patients whom nobody has, to hold an attack's guesses against.
const OUTSIDERS: u32 = 200;

impl Convex {
    /// The task of a seed, for organizations that have these records. `shift` is a feature shift's strength.
    pub fn new(shape: Shape, seeds: Seeds, shift: f64, dealt: Arc<Dealt>) -> Arc<Self> {
        let mut rng = seeds.rng("centres", 0, 0);
        let centres = (0..shape.labels * shape.features).map(|_| unit(rng.next_u32())).collect();
        Arc::new(Self { shape, seeds, centres, shift: shift as f32, dealt })
    }

    fn public(&self) -> impl Iterator<Item = Patient> {
        let labels = self.shape.labels;
        (0..TEST).map(move |number| Patient { label: (number % labels) as usize, number })
    }

    fn patients(&self, records: &[u32]) -> Vec<Patient> {
        let label = |number: u32| self.dealt.labels.get(number as usize).map_or(0, |label| *label as usize);
        records.iter().map(|&number| Patient { label: label(number), number }).collect()
    }

    /// Writes a patient's features.
    fn features(&self, whose: Whose, patient: Patient, out: &mut [f32]) {
        let features = out.len();
        let norm = 1.0 / (features as f32).sqrt();
        let purpose = if matches!(whose, Whose::Public) { "test" } else { "patient" };
        let mut rng = ChaCha8Rng::from_seed(self.seeds.bytes(purpose, patient.number.into(), 0));
        let centre = self.centres.chunks_exact(features).nth(patient.label).unwrap_or_default();
        for (x, centre) in out.iter_mut().zip(centre) {
            *x = (centre + 2.0 * unit(rng.next_u32())) * norm;
        }
        if let (Whose::Of(organization), true) = (whose, self.shift > 0.0) {
            let mut rng = ChaCha8Rng::from_seed(self.seeds.bytes("shift", organization as u64, 0));
            out.iter_mut().for_each(|x| *x += self.shift * 2.0 * unit(rng.next_u32()) * norm);
        }
    }
}

/// The task as the simulation sees it.
pub struct Whole(pub Arc<Convex>);

impl Task for Whole {
    fn describe(&self, plan: &mut consilium_proto::plan::Plan) {
        let Shape { labels, features } = self.0.shape;
        plan.task.labels = (0..labels).map(|label| format!("label-{label}")).collect();
        plan.adapter.tensors = vec![made_up(BIAS, vec![labels]), made_up(WEIGHT, vec![labels, features])];
    }

    fn trainer(&self, organization: usize) -> Result<Box<dyn Trainer>, TaskError> {
        let records = self.0.dealt.own.get(organization).map_or(&[][..], |own| &own.train);
        Ok(Box::new(Organization::new(self.0.clone(), organization, records)))
    }

    fn flipped(&self, organization: usize) -> Option<Box<dyn Trainer>> {
        let records = self.0.dealt.own.get(organization).map_or(&[][..], |own| &own.train);
        let own = Organization::new(self.0.clone(), organization, records);
        Some(Box::new(Organization { flips: true, ..own }))
    }

    fn outsiders(&self) -> Option<Box<dyn Trainer>> {
        // Numbers that were never dealt.
        let first = u32::try_from(self.0.dealt.labels.len()).ok()?;
        let labels = self.0.shape.labels;
        let patient =
            |number: u32| Patient { label: (number % labels) as usize, number: first.saturating_add(number) };
        let own = Organization::new(self.0.clone(), 0, &[]);
        Some(Box::new(Organization { patients: (0..OUTSIDERS).map(patient).collect(), ..own }))
    }

    fn score(&self, adapter: &AdapterTensors, on: On) -> Result<Option<Score>, TaskError> {
        let task = &self.0;
        let (whose, patients) = match on {
            On::Public => (Whose::Public, task.public().collect()),
            On::OwnTest(index) => {
                (Whose::Of(index), task.patients(task.dealt.own.get(index).map_or(&[][..], |own| &own.test)))
            }
        };
        let mut organization = Organization::new(task.clone(), 0, &[]);
        let mut tally = Tally::new(task.shape.labels as usize);
        let values = Values::of(adapter, task.shape)?;
        for patient in patients {
            task.features(whose, patient, &mut organization.features);
            let (_, loss, answer) = organization.probabilities(&values, patient.label);
            tally.add(patient.label, answer, f64::from(loss));
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
        let site = Site { seeds: self.0.seeds, organization };
        alone::train(self.trainer(organization)?.as_mut(), start, site, recipe, epochs)
    }
}

/// `[−1, 1)` on 2²⁴ points.
fn unit(word: u32) -> f32 {
    (word >> 8) as f32 / 8_388_608.0 - 1.0
}

/// One organization's data, and the trainer beside it.
pub struct Organization {
    task: Arc<Convex>,
    index: usize,
    patients: Vec<Patient>,
    features: Vec<f32>,
    gradient: Vec<f32>,
    /// Whether it calls every label by the next one's name.
    flips: bool,
}

impl Organization {
    /// An organization that trains on these records.
    pub fn new(task: Arc<Convex>, index: usize, records: &[u32]) -> Self {
        let patients = task.patients(records);
        let features = vec![0.0; task.shape.features as usize];
        let gradient = vec![0.0; task.shape.parameters() as usize];
        Self { task, index, patients, features, gradient, flips: false }
    }

    /// Logits, softmax and loss of the features at hand.
    fn probabilities(&self, adapter: &Values<'_>, label: usize) -> (Vec<f32>, f32, usize) {
        let rows = adapter.weight.chunks_exact(self.features.len()).zip(adapter.bias);
        let dot = |row: &[f32]| row.iter().zip(&self.features).fold(0.0, |sum, (w, x)| sum + w * x);
        let mut logits: Vec<f32> = rows.map(|(row, bias)| dot(row) + bias).collect();
        let (best, top) =
            logits.iter().copied().enumerate().fold((0, f32::MIN), |best, (label, logit)| {
                if logit > best.1 { (label, logit) } else { best }
            });
        logits.iter_mut().for_each(|logit| *logit = libm::expf(*logit - top));
        let total: f32 = logits.iter().sum();
        logits.iter_mut().for_each(|p| *p /= total);
        let loss = -libm::logf(logits.get(label).copied().unwrap_or(1.0).max(f32::MIN_POSITIVE));
        (logits, loss, best)
    }
}

/// The adapter's two tensors.
struct Values<'a> {
    bias: &'a [f32],
    weight: &'a [f32],
}

impl<'a> Values<'a> {
    fn of(adapter: &'a AdapterTensors, shape: Shape) -> Result<Self, TrainError> {
        let tensor = |name, elements: u32| {
            let values = adapter.values(name).unwrap_or_default();
            if values.len() == elements as usize {
                return Ok(values);
            }
            let value = format!("{} values", values.len());
            Err(TrainError::Setting { field: name, value, problem: "the plan's adapter is not this task's" })
        };
        Ok(Self { bias: tensor(BIAS, shape.labels)?, weight: tensor(WEIGHT, shape.labels * shape.features)? })
    }
}

impl Trainer for Organization {
    fn patients(&self) -> usize {
        self.patients.len()
    }

    fn dimension(&self) -> usize {
        self.gradient.len()
    }

    fn lot(
        &mut self,
        adapter: &AdapterTensors,
        patients: &[usize],
        each: &mut dyn FnMut(PatientGradient<'_>),
    ) -> Result<(), TrainError> {
        let values = Values::of(adapter, self.task.shape)?;
        let task = self.task.clone();
        for &number in patients {
            let unknown = TrainError::NoSuchPatient { patient: number, patients: self.patients.len() };
            let patient = *self.patients.get(number).ok_or(unknown)?;
            task.features(Whose::Of(self.index), patient, &mut self.features);
            let labels = task.shape.labels as usize;
            let label = if self.flips { (patient.label + 1) % labels } else { patient.label };
            let (mut error, loss, best) = self.probabilities(&values, label);
            if let Some(p) = error.get_mut(label) {
                *p -= 1.0;
            }
            let (bias, weight) = self.gradient.split_at_mut(error.len());
            bias.copy_from_slice(&error);
            for (row, error) in weight.chunks_exact_mut(self.features.len()).zip(&error) {
                row.iter_mut().zip(&self.features).for_each(|(g, x)| *g = error * x);
            }
            let correct = if best == label { 1.0 } else { 0.0 };
            each(PatientGradient { patient: number, gradient: &self.gradient, loss, correct });
        }
        Ok(())
    }

    fn evaluate(&mut self, adapter: &AdapterTensors, limit: Option<usize>) -> Result<Evaluation, TrainError> {
        let values = Values::of(adapter, self.task.shape)?;
        let task = self.task.clone();
        let mut per_label = vec![LabelScore::default(); task.shape.labels as usize];
        let mut summed = 0.0;
        for patient in task.public().take(limit.unwrap_or(usize::MAX)) {
            task.features(Whose::Public, patient, &mut self.features);
            let (_, loss, best) = self.probabilities(&values, patient.label);
            summed += f64::from(loss);
            if let Some(score) = per_label.get_mut(patient.label) {
                score.examples += 1;
                score.correct += usize::from(best == patient.label);
            }
        }
        Evaluation::from_counts(per_label, summed).ok_or(TrainError::NoTestSet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(shape: Shape, at: impl Fn(usize) -> f32) -> AdapterTensors {
        let bias: Vec<f32> = (0..shape.labels as usize).map(&at).collect();
        let weight = (bias.len()..shape.parameters() as usize).map(&at).collect();
        let mut adapter = AdapterTensors::new();
        adapter.insert(BIAS.to_owned(), bias);
        adapter.insert(WEIGHT.to_owned(), weight);
        adapter
    }

    fn task(shape: Shape, seed: u64, records: u32) -> Arc<Convex> {
        let labels = (0..records).map(|record| record % shape.labels).collect();
        let dealt = Dealt { own: Vec::new(), labels, kinds: shape.labels as usize };
        Convex::new(shape, Seeds::new(seed), 0.0, Arc::new(dealt))
    }

    fn first(trainer: &mut Organization, adapter: &AdapterTensors) -> (Vec<f32>, f32) {
        let mut seen = Vec::new();
        trainer
            .lot(adapter, &[0], &mut |patient| seen.push((patient.gradient.to_vec(), patient.loss)))
            .unwrap();
        assert_eq!(seen.len(), 1);
        seen.swap_remove(0)
    }

    #[test]
    fn shapes_have_at_least_what_was_asked_for() {
        for parameters in [1, 4, 39, 40, 41, 1000, 45_000] {
            let shape = shape(parameters);
            assert!(shape.parameters() >= parameters && shape.parameters() < parameters + 10, "{parameters}");
            assert!(shape.features >= 1);
        }
    }

    #[test]
    fn the_gradient_is_the_losss() {
        let shape = shape(30);
        let mut trainer = Organization::new(task(shape, 3, 4), 0, &[0, 1, 2, 3]);
        let start = |index: usize| ((index * 7) % 5) as f32 / 10.0;
        let (gradient, _) = first(&mut trainer, &adapter(shape, start));
        for (index, slope) in gradient.into_iter().enumerate() {
            let step = 1e-2;
            let mut loss = |by: f32| {
                first(&mut trainer, &adapter(shape, |i| start(i) + if i == index { by } else { 0.0 })).1
            };
            let measured = (loss(step) - loss(-step)) / (2.0 * step);
            assert!((measured - slope).abs() < 2e-4, "coordinate {index}: {measured} and {slope}");
        }
    }

    #[test]
    fn the_task_can_be_learned() {
        let shape = shape(400);
        let records: Vec<u32> = (0..300).collect();
        let mut trainer = Organization::new(task(shape, 5, 300), 0, &records);
        let all: Vec<usize> = (0..300).collect();
        let mut values = vec![0.0f32; shape.parameters() as usize];
        let score = |trainer: &mut Organization, values: &[f32]| {
            trainer.evaluate(&adapter(shape, |index| values[index]), None).unwrap().accuracy
        };
        let before = score(&mut trainer, &values);
        for _ in 0..40 {
            let mut step = vec![0.0f32; values.len()];
            let now = adapter(shape, |index| values[index]);
            trainer
                .lot(&now, &all, &mut |patient| {
                    step.iter_mut().zip(patient.gradient).for_each(|(s, g)| *s += g)
                })
                .unwrap();
            values.iter_mut().zip(&step).for_each(|(value, step)| *value -= 5.0 * step / 300.0);
        }
        let after = score(&mut trainer, &values);
        assert!(before < 0.2 && after > 0.4, "{before} to {after}");
    }
}
