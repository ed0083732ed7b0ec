//! Per-patient gradients of a lot.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::encoder::{Place, Tap, read_f32};
use super::forward::{Forward, Losses};
use super::layout::Group;
use super::merged::Merged;
use super::{Prepared, TorchModel};
use crate::model::{AdapterTensors, TensorKind};
use crate::trainer::batches::Block;
use crate::trainer::{PatientGradient, TrainError};

/// Most bytes of unfinished sums of patients with several records.
const PENDING_BYTES: usize = 128 << 20;

/// A patient whose records have not all been seen.
struct Pending {
    gradient: Vec<f32>,
    loss: f64,
    correct: usize,
    seen: usize,
}

/// A block after its backward pass.
pub(super) struct Backward {
    forward: Forward,
    losses: Losses,
    /// Of the logits: `[places, labels]`.
    logits: Tensor,
    /// Of each tap's output, in the taps' order: `[n, out]`.
    taps: Vec<Tensor>,
}

impl TorchModel {
    /// Calls `each` once per patient of the lot (a patient named twice counts once).
    ///
    /// # Errors
    /// See [`crate::trainer::Trainer::lot`].
    pub fn gradients(
        &self,
        adapter: &AdapterTensors,
        data: &mut Prepared,
        patients: &[usize],
        each: &mut dyn FnMut(PatientGradient<'_>),
    ) -> Result<(), TrainError> {
        let merged = tch::no_grad(|| self.merge(adapter))?;
        let mut lot = patients.to_vec();
        lot.sort_unstable();
        lot.dedup();
        for &patient in &lot {
            data.of_patient(patient)?;
        }
        let together = (PENDING_BYTES / (4 * self.dimension())).max(1);
        let (single, several): (Vec<usize>, Vec<usize>) =
            lot.into_iter().partition(|&p| data.of_patient(p).is_ok_and(|range| range.len() == 1));
        self.group(&merged, data, &single, each)?;
        for group in several.chunks(together) {
            self.group(&merged, data, group, each)?;
        }
        Ok(())
    }

    fn group(
        &self,
        merged: &Merged,
        data: &mut Prepared,
        patients: &[usize],
        each: &mut dyn FnMut(PatientGradient<'_>),
    ) -> Result<(), TrainError> {
        let mut records = Vec::new();
        for &patient in patients {
            records.extend(data.of_patient(patient)?);
        }
        let dimension = self.dimension();
        let mut pending = BTreeMap::new();
        let mut flat = Vec::new();
        self.chunks(data, &records, |data, chunk| {
            for block in self.blocks(data, chunk) {
                let backward = self.backward(merged, data, &block)?;
                self.per_record(merged, &backward, &mut flat)?;
                let rows = flat.chunks_exact(dimension);
                let scored = backward.losses.values.iter().zip(&backward.losses.hits);
                for ((&record, gradient), (&loss, &hit)) in block.records.iter().zip(rows).zip(scored) {
                    let patient = data.owner(record);
                    let all = data.of_patient(patient)?.len();
                    if all == 1 {
                        each(PatientGradient {
                            patient,
                            gradient,
                            loss,
                            correct: if hit { 1.0 } else { 0.0 },
                        });
                        continue;
                    }
                    add(&mut pending, patient, gradient, loss, hit);
                    if pending.get(&patient).is_some_and(|sum| sum.seen == all) {
                        finish(&mut pending, patient, each);
                    }
                }
            }
            Ok(())
        })
    }

    /// Forward, and one backward pass of the rows' summed loss down to the first tap.
    pub(super) fn backward(
        &self,
        merged: &Merged,
        data: &Prepared,
        block: &Block,
    ) -> Result<Backward, TrainError> {
        tch::with_grad(|| {
            let mut forward = self.forward(merged, data, block, &self.taps)?;
            if !forward.logits.requires_grad() {
                forward.logits = forward.logits.f_detach()?.set_requires_grad(true);
            }
            let losses = self.losses(&forward, data, block)?;
            let wanted: Vec<&Tensor> =
                forward.taps.iter().map(|tap| &tap.output).chain(std::iter::once(&forward.logits)).collect();
            let summed = losses.places.f_sum(Kind::Float)?;
            let mut taps = Tensor::f_run_backward(&[summed], &wanted, false, false)?;
            let logits = taps.pop().ok_or_else(|| TrainError::Torch("no gradient came back".to_owned()))?;
            forward.pooled = forward.pooled.f_detach()?;
            Ok(Backward { forward, losses, logits, taps })
        })
    }

    /// Every record's gradient, all trained tensors in name order: `[records, dimension]`, flat.
    fn per_record(
        &self,
        merged: &Merged,
        backward: &Backward,
        flat: &mut Vec<f32>,
    ) -> Result<(), TrainError> {
        let _no_grad = tch::no_grad_guard();
        let records = backward.losses.values.len() as i64;
        let logits = backward.logits.f_narrow(0, 0, records)?;
        let mut parts = Vec::new();
        for tensor in self.tensors.iter().filter(|tensor| self.spec.trained.contains(tensor.kind)) {
            let part = match tensor.kind {
                TensorKind::HeadBias => logits.shallow_clone(),
                TensorKind::HeadWeight => {
                    let pooled = backward.forward.pooled.f_narrow(0, 0, records)?.f_unsqueeze(1)?;
                    logits.f_unsqueeze(2)?.f_mul(&pooled)?
                }
                TensorKind::A { .. } | TensorKind::B { .. } => self.factor(merged, backward, tensor.kind)?,
            };
            parts.push(part.f_reshape([records, -1])?);
        }
        read_f32(&Tensor::f_cat(&parts, 1)?, flat)
    }

    /// One factor's gradient for every record: `[records, out, r]` or `[records, r, in]`.
    fn factor(&self, merged: &Merged, backward: &Backward, kind: TensorKind) -> Result<Tensor, TrainError> {
        let factors = self.factors(merged, backward, kind)?;
        let layout = backward.forward.layout.as_ref();
        let layout = layout.ok_or_else(|| TrainError::Torch("a layout was not kept".to_owned()))?;
        layout.each_text(|group: &Group| {
            // The filler row's gradient is zero, so a group's padding adds nothing.
            let (left, right) = (group.pad(&factors.left)?, group.pad(&factors.right)?);
            Ok(left.f_transpose(1, 2)?.f_bmm(&right)?)
        })
    }

    /// The two matrices `[n, …]` whose rows' outer products, summed over a record's tokens, are its gradient of a factor.
    pub(super) fn factors(
        &self,
        merged: &Merged,
        backward: &Backward,
        kind: TensorKind,
    ) -> Result<Factors, TrainError> {
        let (TensorKind::A { layer, module } | TensorKind::B { layer, module }) = kind else {
            return Err(TrainError::Torch("the head is no factor".to_owned()));
        };
        let (place, third) = Place::of(module);
        let is_here = |tap: &Tap| tap.layer == layer && tap.place == place;
        let (tap, dy) = backward
            .forward
            .taps
            .iter()
            .zip(&backward.taps)
            .find(|(tap, _)| is_here(tap))
            .ok_or_else(|| TrainError::Torch("a layer's gradient was not kept".to_owned()))?;
        let dy = match third {
            Some(third) => {
                let d = self.encoder.config().hidden_size as i64;
                dy.f_narrow(1, third as i64 * d, d)?
            }
            None => dy.shallow_clone(),
        };
        let x = tap.input.shallow_clone();
        let other = other_factor(merged, kind)?.f_mul_scalar(merged.scaling)?;
        Ok(match kind {
            TensorKind::A { .. } => Factors { left: dy.f_mm(&other)?, right: x },
            _ => Factors { left: dy, right: x.f_mm(&other.f_tr()?)? },
        })
    }
}

/// See [`TorchModel::factors`]. For `B`: `dy` and `s·x·Aᵀ`; for `A`: `s·dy·B` and `x`.
pub(super) struct Factors {
    pub(super) left: Tensor,
    pub(super) right: Tensor,
}

impl Backward {
    pub(super) fn losses(&self) -> &Losses {
        &self.losses
    }

    pub(super) fn head(&self) -> (&Tensor, &Tensor) {
        (&self.forward.pooled, &self.logits)
    }
}

/// `A` for a `B`, `B` for an `A`.
fn other_factor(merged: &Merged, kind: TensorKind) -> Result<&Tensor, TrainError> {
    let other = match kind {
        TensorKind::A { layer, module } => TensorKind::B { layer, module },
        TensorKind::B { layer, module } => TensorKind::A { layer, module },
        head => head,
    };
    merged.tensor(other).ok_or_else(|| TrainError::Torch("a factor was not read".to_owned()))
}

fn add(pending: &mut BTreeMap<usize, Pending>, patient: usize, gradient: &[f32], loss: f32, hit: bool) {
    let sum = pending.entry(patient).or_insert_with(|| Pending {
        gradient: vec![0.0; gradient.len()],
        loss: 0.0,
        correct: 0,
        seen: 0,
    });
    for (total, part) in sum.gradient.iter_mut().zip(gradient) {
        *total += part;
    }
    sum.loss += f64::from(loss);
    sum.correct += usize::from(hit);
    sum.seen += 1;
}

fn finish(pending: &mut BTreeMap<usize, Pending>, patient: usize, each: &mut dyn FnMut(PatientGradient<'_>)) {
    let Some(sum) = pending.remove(&patient) else { return };
    let loss = (sum.loss / sum.seen as f64) as f32;
    each(PatientGradient {
        patient,
        gradient: &sum.gradient,
        loss,
        correct: sum.correct as f32 / sum.seen as f32,
    });
}
