//! A trainer that leaves out who has opted out, whatever is asked of it.

use std::ops::Range;

use super::{Attempt, ClippedSum, Evaluation, OwnDelta, PatientGradient, TrainError, Trainer};
use crate::{data::OptOut, model::AdapterTensors};

/// Stands before another trainer and reads the list anew before every lot. There is no other way to that trainer's gradients.
#[derive(Debug)]
pub struct Consenting<T> {
    trainer: T,
    opt_out: OptOut,
}

impl<T: Trainer> Consenting<T> {
    /// `opt_out` must be over the data that `trainer` has.
    pub fn new(trainer: T, opt_out: OptOut) -> Self {
        Self { trainer, opt_out }
    }

    fn left(&mut self, patients: &[usize]) -> Result<Vec<usize>, TrainError> {
        let out = self.opt_out.read()?;
        Ok(patients.iter().copied().filter(|patient| !out.contains(patient)).collect())
    }
}

impl<T: Trainer> Trainer for Consenting<T> {
    fn patients(&self) -> usize {
        self.trainer.patients()
    }

    fn dimension(&self) -> usize {
        self.trainer.dimension()
    }

    fn warm_up(&mut self, go_on: &mut dyn FnMut(usize, usize) -> bool) -> Result<(), TrainError> {
        self.trainer.warm_up(go_on)
    }

    fn lot(
        &mut self,
        adapter: &AdapterTensors,
        patients: &[usize],
        each: &mut dyn FnMut(PatientGradient<'_>),
    ) -> Result<(), TrainError> {
        let patients = self.left(patients)?;
        self.trainer.lot(adapter, &patients, each)
    }

    fn begin(&mut self, attempt: Attempt) {
        self.trainer.begin(attempt);
    }

    fn clips(&self) -> bool {
        self.trainer.clips()
    }

    fn sum(
        &mut self,
        adapter: &AdapterTensors,
        patients: &[usize],
        still: &[Range<usize>],
    ) -> Result<ClippedSum, TrainError> {
        let patients = self.left(patients)?;
        self.trainer.sum(adapter, &patients, still)
    }

    fn delta(
        &mut self,
        adapter: &AdapterTensors,
        patients: &[usize],
        still: &[Range<usize>],
    ) -> Result<OwnDelta, TrainError> {
        let patients = self.left(patients)?;
        self.trainer.delta(adapter, &patients, still)
    }

    fn evaluate(&mut self, adapter: &AdapterTensors, limit: Option<usize>) -> Result<Evaluation, TrainError> {
        self.trainer.evaluate(adapter, limit)
    }
}
