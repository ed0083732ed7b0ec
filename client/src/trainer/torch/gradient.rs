//! Per-patient gradients of a lot.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::forward::Out;
use super::layout::{Group, Layout};
use super::loss::Scores;
use super::merged::Merged;
use super::network::{Place, Tap, read_f32};
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
    correct: f64,
    seen: usize,
}

/// A block after its backward pass.
pub(super) struct Backward {
    scores: Scores,
    /// Pooled states and the gradients of their logits, `[places, d]` and `[places, labels]`, where there is a head.
    head: Option<(Tensor, Tensor)>,
    layout: Option<Layout>,
    taps: Vec<Tap>,
    /// Of each tap's output, in the taps' order: `[n, out]`.
    slopes: Vec<Tensor>,
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
                let scored = backward.scores.losses.iter().zip(&backward.scores.hits);
                for ((&record, gradient), (&loss, &hit)) in block.records.iter().zip(rows).zip(scored) {
                    let patient = data.owner(record);
                    let all = data.of_patient(patient)?.len();
                    if all == 1 {
                        each(PatientGradient { patient, gradient, loss, correct: hit });
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
            let forward = self.forward(merged, data, block, &self.taps)?;
            let (scores, head, summed) = match forward.out {
                Out::Head { pooled, logits } => {
                    let logits = match logits.requires_grad() {
                        true => logits,
                        false => logits.f_detach()?.set_requires_grad(true),
                    };
                    let (places, scores) = self.label_losses(&logits, data, block)?;
                    (scores, Some((pooled.f_detach()?, logits)), places.f_sum(Kind::Float)?)
                }
                Out::Tokens(x) => {
                    let (scores, slope) = self.next_tokens(&x.f_detach()?, data, block, true)?;
                    let slope = slope.ok_or_else(|| missing("a gradient"))?;
                    // The backward pass begins with a sum; this one's gradient is `slope`, exactly.
                    (scores, None, x.f_mul(&slope)?.f_sum(Kind::Float)?)
                }
            };
            let logits = head.as_ref().map(|(_, logits)| logits);
            let wanted: Vec<&Tensor> = forward.taps.iter().map(|tap| &tap.output).chain(logits).collect();
            let mut slopes = Tensor::f_run_backward(&[summed], &wanted, false, false)?;
            let head = match head {
                None => None,
                Some((pooled, _)) => Some((pooled, slopes.pop().ok_or_else(|| missing("a gradient"))?)),
            };
            Ok(Backward { scores, head, layout: forward.layout, taps: forward.taps, slopes })
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
        let records = backward.scores.losses.len() as i64;
        let mut parts = Vec::new();
        for tensor in self.tensors.iter().filter(|tensor| self.spec.trained.contains(tensor.kind)) {
            let part = match tensor.kind {
                TensorKind::HeadBias => backward.head()?.1.f_narrow(0, 0, records)?,
                TensorKind::HeadWeight => {
                    let (pooled, logits) = backward.head()?;
                    let pooled = pooled.f_narrow(0, 0, records)?.f_unsqueeze(1)?;
                    logits.f_narrow(0, 0, records)?.f_unsqueeze(2)?.f_mul(&pooled)?
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
        let layout = backward.layout.as_ref().ok_or_else(|| missing("a layout"))?;
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
        let (place, rows) = Place::of(module, self.network.config());
        let is_here = |tap: &Tap| tap.layer == layer && tap.place == place;
        let (tap, dy) = backward
            .taps
            .iter()
            .zip(&backward.slopes)
            .find(|(tap, _)| is_here(tap))
            .ok_or_else(|| missing("a layer's gradient"))?;
        let dy = match rows {
            Some((first, count)) => dy.f_narrow(1, first, count)?,
            None => dy.shallow_clone(),
        };
        let (dy, x) = (dy.f_to_kind(Kind::Float)?, tap.input.f_to_kind(Kind::Float)?);
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
    pub(super) fn losses(&self) -> &[f32] {
        &self.scores.losses
    }

    /// Pooled states and the gradients of their logits.
    pub(super) fn head(&self) -> Result<(&Tensor, &Tensor), TrainError> {
        self.head.as_ref().map(|(pooled, logits)| (pooled, logits)).ok_or_else(|| missing("the head"))
    }
}

fn missing(what: &str) -> TrainError {
    TrainError::Torch(format!("{what} was not kept"))
}

/// `A` for a `B`, `B` for an `A`.
fn other_factor(merged: &Merged, kind: TensorKind) -> Result<&Tensor, TrainError> {
    let other = match kind {
        TensorKind::A { layer, module } => TensorKind::B { layer, module },
        TensorKind::B { layer, module } => TensorKind::A { layer, module },
        head => head,
    };
    merged.tensor(other).ok_or_else(|| missing("a factor"))
}

fn add(pending: &mut BTreeMap<usize, Pending>, patient: usize, gradient: &[f32], loss: f32, hit: f32) {
    let sum = pending.entry(patient).or_insert_with(|| Pending {
        gradient: vec![0.0; gradient.len()],
        loss: 0.0,
        correct: 0.0,
        seen: 0,
    });
    for (total, part) in sum.gradient.iter_mut().zip(gradient) {
        *total += part;
    }
    sum.loss += f64::from(loss);
    sum.correct += f64::from(hit);
    sum.seen += 1;
}

fn finish(pending: &mut BTreeMap<usize, Pending>, patient: usize, each: &mut dyn FnMut(PatientGradient<'_>)) {
    let Some(sum) = pending.remove(&patient) else { return };
    let loss = (sum.loss / sum.seen as f64) as f32;
    each(PatientGradient {
        patient,
        gradient: &sum.gradient,
        loss,
        correct: (sum.correct / sum.seen as f64) as f32,
    });
}
