//! A head that stays at home (FedPer; Arivazhagan et al., 2019, arXiv 1912.00818): the factors are everybody's, the head is this
//! organization's own.
//!
//! [`Personal`] stands before another trainer. It completes every adapter with the head that is kept here, hands on the gradients of
//! what is shared, and after each lot takes one step of plain gradient descent on the head alone, at the plan's local rate. Nothing of
//! the head is in what is handed on except through the shared gradients, and the plan allows it only in units that promise nothing to
//! single patients.
//!
//! What is kept (`head.local.safetensors` in the job's folder) has learned from records without noise. It is written before a lot's
//! result is handed on, is never sent, and goes on from where it stood when an attempt fails: a step of a lost attempt is not taken back.

use std::path::{Path, PathBuf};

use consilium_proto::plan::{PrivacyUnit, Tensor, VerifiedPlan};

use super::{Attempt, Evaluation, PatientGradient, TrainError, Trainer};
use crate::{
    export::{self, ExportError},
    model::AdapterTensors,
};

/// Name of the kept head, in the job's folder and wherever it is exported to.
pub const HEAD_AT_HOME: &str = "head.local.safetensors";

/// What the file says of itself, in its metadata.
const NOT_PRIVATE: (&str, &str) = (
    "consilium.privacy",
    "none: learned from one organization's records without noise; not part of the result",
);

/// Whether the evaluator's scores may be told to the coordinator. A score of a head that learned from records without noise is a number
/// about those records: where organizations are promised that their contribution is hidden, it stays at home too.
pub fn tells_scores(plan: &VerifiedPlan) -> bool {
    let document = plan.document();
    document.adapter.local.is_empty() || document.privacy.unit == PrivacyUnit::None
}

/// The tensors that stay at home, with their values.
#[derive(Debug)]
pub struct Home {
    tensors: Vec<Tensor>,
    values: AdapterTensors,
    /// Absent in a rehearsal, which leaves no trace.
    path: Option<PathBuf>,
}

impl Home {
    /// As kept in the job's folder, or as the plan's seed draws them; nothing where the plan shares everything.
    ///
    /// # Errors
    ///
    /// A kept file that contradicts itself or the plan; a plan that cannot be laid out.
    pub fn open(plan: &VerifiedPlan, folder: &Path, keeps: bool) -> Result<Option<Self>, ExportError> {
        let Some(mut home) = Self::drawn(plan)? else { return Ok(None) };
        let path = folder.join(HEAD_AT_HOME);
        if path.is_file() {
            home.values = export::read_plain(&path, &home.tensors)?;
        }
        home.path = keeps.then_some(path);
        Ok(Some(home))
    }

    /// As the plan's seed draws them, and kept nowhere but in memory; nothing where the plan shares everything.
    ///
    /// # Errors
    ///
    /// A plan that cannot be laid out.
    pub fn drawn(plan: &VerifiedPlan) -> Result<Option<Self>, ExportError> {
        let adapter = &plan.document().adapter;
        let tensors: Vec<Tensor> =
            adapter.tensors.iter().filter(|tensor| adapter.is_local(&tensor.name)).cloned().collect();
        if tensors.is_empty() {
            return Ok(None);
        }
        let drawn = plan.initial_local().map_err(|error| ExportError::Malformed {
            file: HEAD_AT_HOME.into(),
            problem: format!("the plan's head cannot be drawn: {error}"),
        })?;
        Ok(Some(Self { tensors, values: drawn.into_iter().collect(), path: None }))
    }

    /// Their values.
    pub fn values(&self) -> &AdapterTensors {
        &self.values
    }

    /// An adapter with these tensors in it.
    pub fn complete(&self, shared: &AdapterTensors) -> AdapterTensors {
        let mut all = shared.clone();
        for (name, values) in self.values.iter() {
            all.insert(name.to_owned(), values.to_vec());
        }
        all
    }

    /// Writes them for whoever is to have them.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ExportError> {
        export::write_plain(path, &self.tensors, &self.values, Some(NOT_PRIVATE))
    }

    fn keep(&self) -> Result<(), ExportError> {
        self.path.as_deref().map_or(Ok(()), |path| self.write(path))
    }
}

/// A trainer whose head stays at home.
#[derive(Debug)]
pub struct Personal<T> {
    trainer: T,
    home: Home,
    /// Step size of the head's own descent.
    rate: f64,
    /// The trained tensors in the order of coordinates: whether they stay at home, and how many numbers they hold.
    runs: Vec<(bool, usize)>,
}

impl<T: Trainer> Personal<T> {
    /// `trainer` trains what is shared and the head alike.
    pub fn new(trainer: T, home: Home, plan: &VerifiedPlan) -> Self {
        let document = plan.document();
        let adapter = &document.adapter;
        let size = |tensor: &Tensor| tensor.shape.iter().map(|&axis| axis as usize).product();
        let trained = adapter.tensors.iter().filter(|tensor| tensor.trained);
        let runs = trained.map(|tensor| (adapter.is_local(&tensor.name), size(tensor))).collect();
        // The plan's rules ask for [privacy.local] in the units that allow this.
        let rate = document.privacy.local.as_ref().map_or(0.0, |local| local.learning_rate);
        Self { trainer, home, rate, runs }
    }

    /// What stays at home, as it stands.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Goes on from another head: what a client does that has lost its own.
    pub fn goes_on_from(&mut self, home: Home) {
        self.home = home;
    }

    fn step(&mut self, sums: &[f64], patients: u64) -> Result<(), TrainError> {
        let mut sums = sums.iter();
        let rate = self.rate / patients as f64;
        for tensor in &self.home.tensors {
            let values = self.home.values.values_mut(&tensor.name).into_iter().flatten();
            for (value, sum) in values.zip(&mut sums) {
                *value = (f64::from(*value) - rate * sum) as f32;
            }
        }
        self.home.keep().map_err(TrainError::AtHome)
    }
}

/// Takes a gradient apart: what is shared into one list, what stays at home added to the other.
fn part(runs: &[(bool, usize)], gradient: &[f32], shared: &mut Vec<f32>, own: &mut [f64]) {
    shared.clear();
    let (mut rest, mut at) = (gradient, 0);
    for &(local, size) in runs {
        let (run, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        if local {
            own[at..].iter_mut().zip(run).for_each(|(sum, g)| *sum += f64::from(*g));
            at += size;
        } else {
            shared.extend_from_slice(run);
        }
    }
}

impl<T: Trainer> Trainer for Personal<T> {
    fn patients(&self) -> usize {
        self.trainer.patients()
    }

    fn dimension(&self) -> usize {
        self.runs.iter().filter(|(local, _)| !local).map(|(_, size)| size).sum()
    }

    fn warm_up(&mut self, go_on: &mut dyn FnMut(usize, usize) -> bool) -> Result<(), TrainError> {
        self.trainer.warm_up(go_on)
    }

    fn begin(&mut self, attempt: Attempt) {
        self.trainer.begin(attempt);
    }

    fn lot(
        &mut self,
        adapter: &AdapterTensors,
        patients: &[usize],
        each: &mut dyn FnMut(PatientGradient<'_>),
    ) -> Result<(), TrainError> {
        let all = self.home.complete(adapter);
        let own = self.runs.iter().filter(|(local, _)| *local).map(|(_, size)| size).sum();
        let (mut sums, mut counted, mut shared) = (vec![0f64; own], 0u64, Vec::new());
        let mut nothing = vec![0f64; own];
        let runs = &self.runs;
        self.trainer.lot(&all, patients, &mut |patient| {
            // One broken record must not cost the head.
            let sound = patient.loss.is_finite() && patient.gradient.iter().all(|g| g.is_finite());
            part(runs, patient.gradient, &mut shared, if sound { &mut sums } else { &mut nothing });
            counted += u64::from(sound);
            each(PatientGradient { gradient: &shared, ..patient });
        })?;
        if counted == 0 { Ok(()) } else { self.step(&sums, counted) }
    }

    fn evaluate(&mut self, adapter: &AdapterTensors, limit: Option<usize>) -> Result<Evaluation, TrainError> {
        self.trainer.evaluate(&self.home.complete(adapter), limit)
    }
}

#[cfg(test)]
#[path = "home_tests.rs"]
mod tests;
