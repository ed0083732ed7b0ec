//! A task that costs next to nothing: a mean to be found. For whoever studies the protocol alone.
//!
//! Patient `i` holds the point `x_i = (centre + 2u_i)/√d`, and the loss of `w` is `½‖w − x_i‖²`, with the gradient `w − x_i`: one
//! pass over the coordinates, no products. A coordinate counts as right when `w` has the centre's sign there. There are no labels;
//! records have one of four kinds all the same, so that they can be dealt by kind.

use std::sync::Arc;

use chacha20::ChaCha8Rng;
use consilium_client::{
    model::AdapterTensors,
    trainer::{Evaluation, LabelScore, PatientGradient, TrainError, Trainer},
};
use consilium_proto::plan::Plan;
use rand::{Rng as _, SeedableRng as _};

use super::{On, Site, Task, TaskError, alone, made_up};
use crate::{partition::Dealt, scenario::Alone, scores::Score, seeds::Seeds};

/// Name of the one tensor.
pub const MEAN: &str = "mean";
/// Kinds of records.
pub const KINDS: u32 = 4;

struct Shared {
    seeds: Seeds,
    shift: f32,
    centre: Vec<f32>,
    dealt: Arc<Dealt>,
}

/// The task.
pub struct Synthetic(Arc<Shared>);

impl Synthetic {
    /// The task of a seed, with so many parameters.
    pub fn new(dimension: u32, seeds: Seeds, shift: f64, dealt: Arc<Dealt>) -> Self {
        let mut centre = vec![0.0; dimension as usize];
        fill(&mut ChaCha8Rng::from_seed(seeds.bytes("centre", 0, 0)), &mut centre);
        Self(Arc::new(Shared { seeds, shift: shift as f32, centre, dealt }))
    }
}

/// Uniform in `[−1, 1)`.
fn fill(rng: &mut ChaCha8Rng, out: &mut [f32]) {
    out.iter_mut().for_each(|x| *x = (rng.next_u32() >> 8) as f32 / 8_388_608.0 - 1.0);
}

impl Shared {
    fn norm(&self) -> f32 {
        1.0 / (self.centre.len() as f32).sqrt()
    }

    fn point(&self, organization: usize, record: u32, out: &mut [f32]) {
        fill(&mut ChaCha8Rng::from_seed(self.seeds.bytes("patient", record.into(), 0)), out);
        let norm = self.norm();
        out.iter_mut().zip(&self.centre).for_each(|(x, centre)| *x = (centre + 2.0 * *x) * norm);
        if self.shift > 0.0 {
            let mut rng = ChaCha8Rng::from_seed(self.seeds.bytes("shift", organization as u64, 0));
            out.iter_mut().for_each(|x| {
                *x += self.shift * ((rng.next_u32() >> 8) as f32 / 4_194_304.0 - 2.0) * norm;
            });
        }
    }

    fn score(&self, adapter: &AdapterTensors) -> Result<Score, TrainError> {
        let (values, norm) = (self.values(adapter)?, self.norm());
        let pairs = values.iter().zip(&self.centre);
        let far = |(w, centre): (&f32, &f32)| f64::from(w - centre * norm) * f64::from(w - centre * norm);
        let right = pairs.clone().filter(|(w, centre)| **w * **centre > 0.0).count();
        let examples = self.centre.len();
        let loss = 0.5 * pairs.map(far).sum::<f64>();
        Ok(Score { loss, accuracy: right as f64 / examples.max(1) as f64, macro_f1: None, examples })
    }

    fn values<'a>(&self, adapter: &'a AdapterTensors) -> Result<&'a [f32], TrainError> {
        let values = adapter.values(MEAN).unwrap_or_default();
        if values.len() == self.centre.len() {
            return Ok(values);
        }
        let value = format!("{} values", values.len());
        Err(TrainError::Setting { field: MEAN, value, problem: "the plan's adapter is not this task's" })
    }
}

impl Task for Synthetic {
    fn describe(&self, plan: &mut Plan) {
        plan.task.labels = (0..KINDS).map(|kind| format!("kind-{kind}")).collect();
        let dimension = u32::try_from(self.0.centre.len()).unwrap_or(u32::MAX);
        plan.adapter.tensors = vec![made_up(MEAN, vec![dimension])];
    }

    fn trainer(&self, organization: usize) -> Result<Box<dyn Trainer>, TaskError> {
        let gradient = vec![0.0; self.0.centre.len()];
        Ok(Box::new(Organization { task: self.0.clone(), index: organization, gradient }))
    }

    fn score(&self, adapter: &AdapterTensors, _: On) -> Result<Option<Score>, TaskError> {
        Ok(Some(self.0.score(adapter)?))
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

struct Organization {
    task: Arc<Shared>,
    index: usize,
    gradient: Vec<f32>,
}

impl Organization {
    fn records(&self) -> &[u32] {
        self.task.dealt.own.get(self.index).map_or(&[][..], |own| &own.train)
    }
}

impl Trainer for Organization {
    fn patients(&self) -> usize {
        self.records().len()
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
        let task = self.task.clone();
        let values = task.values(adapter)?;
        for &patient in patients {
            let unknown = TrainError::NoSuchPatient { patient, patients: self.patients() };
            let record = *self.records().get(patient).ok_or(unknown)?;
            task.point(self.index, record, &mut self.gradient);
            let mut loss = 0.0;
            for (g, w) in self.gradient.iter_mut().zip(values) {
                *g = w - *g;
                loss += *g * *g;
            }
            each(PatientGradient { patient, gradient: &self.gradient, loss: 0.5 * loss, correct: 0.0 });
        }
        Ok(())
    }

    fn evaluate(&mut self, adapter: &AdapterTensors, _: Option<usize>) -> Result<Evaluation, TrainError> {
        let score = self.task.score(adapter)?;
        let correct = (score.accuracy * score.examples as f64).round() as usize;
        let per_label = vec![LabelScore { examples: score.examples, correct }];
        Evaluation::from_counts(per_label, score.loss * score.examples as f64).ok_or(TrainError::NoTestSet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_down_the_gradient_find_the_mean() {
        let dealt = Dealt {
            own: vec![Default::default(); 1],
            labels: (0..400).map(|it| it % KINDS).collect(),
            kinds: 4,
        };
        let mut dealt = dealt;
        dealt.own[0].train = (0..400).collect();
        let task = Synthetic::new(50, Seeds::new(3), 0.0, Arc::new(dealt));
        let mut start = AdapterTensors::new();
        start.insert(MEAN.into(), vec![0.0; 50]);
        let before = task.score(&start, On::Public).unwrap().unwrap();
        let recipe = Alone { lot: 50, learning_rate: 0.01, ..Alone::default() };
        let found = task.alone(&start, 0, &recipe, 10).unwrap();
        let after = task.score(&found, On::Public).unwrap().unwrap();
        assert!(after.loss < before.loss / 5.0 && after.accuracy > 0.9, "{before:?} {after:?}");
    }
}
