//! Local training without noise and without anybody else: what an organization could do alone, and what pooled data would give.
//!
//! The same model code and gradients as a lot, but ordinary batches (summed at once) and Adam (Kingma and Ba, 2015)
//! with its usual constants. Single records, not patients, are shuffled and drawn. Not private, and never sent.

use tch::Tensor;

use super::gradient::Backward;
use super::merged::Merged;
use super::{Prepared, TorchModel, network};
use crate::model::{AdapterTensors, TensorKind};
use crate::trainer::batches;
use crate::trainer::{LocalRecipe, TrainError};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

impl TorchModel {
    /// Trains from `start` and returns the adapter. After every step, `progress(step, steps, mean loss of the step's records)`.
    ///
    /// # Errors
    /// A recipe out of range, adapter values that do not fit or overflow, or a failing libtorch.
    pub fn train_local(
        &self,
        start: &AdapterTensors,
        data: &mut Prepared,
        recipe: &LocalRecipe,
        progress: &mut dyn FnMut(usize, usize, f64),
    ) -> Result<AdapterTensors, TrainError> {
        check(recipe)?;
        start.check(&self.tensors)?;
        let mut adapter = start.clone();
        let mut adam = Adam::new(self.dimension(), recipe.learning_rate);
        let steps = data.len().div_ceil(recipe.lot) * recipe.epochs as usize;
        let mut order: Vec<usize> = (0..data.len()).collect();
        let mut shuffle = Shuffle(recipe.seed);
        let mut step = 0;
        for _ in 0..recipe.epochs {
            shuffle.apply(&mut order);
            for lot in order.chunks(recipe.lot) {
                let merged = tch::no_grad(|| self.merge(&adapter))?;
                let (gradient, loss) = self.batch_gradient(&merged, data, lot)?;
                let change = adam.step(&gradient, lot.len());
                self.apply(&mut adapter, &change);
                step += 1;
                progress(step, steps, loss / lot.len() as f64);
            }
        }
        adapter.check(&self.tensors).map_err(|_| TrainError::NotFinite { what: "the adapter" })?;
        Ok(adapter)
    }

    /// The gradient of the lot's summed loss, flat in name order, and that loss.
    pub(super) fn batch_gradient(
        &self,
        merged: &Merged,
        data: &mut Prepared,
        lot: &[usize],
    ) -> Result<(Vec<f32>, f64), TrainError> {
        let mut sum: Option<Tensor> = None;
        let mut loss = 0f64;
        self.chunks(data, lot, |data, chunk| {
            let plan = if self.pooled_only() {
                batches::pooled(self.shape(), chunk)
            } else {
                batches::snug(self.shape(), chunk, &|record| data.tokens(record))
            };
            for block in plan {
                let backward = self.backward(merged, data, &block)?;
                loss += backward.losses().iter().map(|&l| f64::from(l)).sum::<f64>();
                let part = self.summed(merged, &backward, block.records.len() as i64)?;
                sum = Some(match sum.take() {
                    None => part,
                    Some(mut sum) => sum.f_add_(&part)?,
                });
            }
            Ok(())
        })?;
        let mut flat = vec![0.0; self.dimension()];
        if let Some(sum) = sum {
            network::read_f32(&sum, &mut flat)?;
        }
        if !loss.is_finite() {
            return Err(TrainError::NotFinite { what: "the training loss" });
        }
        Ok((flat, loss))
    }

    /// The records' summed gradient, flat.
    fn summed(&self, merged: &Merged, backward: &Backward, records: i64) -> Result<Tensor, TrainError> {
        let _no_grad = tch::no_grad_guard();
        let head = || -> Result<_, TrainError> {
            let (pooled, logits) = backward.head()?;
            Ok((pooled.f_narrow(0, 0, records)?, logits.f_narrow(0, 0, records)?))
        };
        let mut parts = Vec::new();
        for tensor in self.tensors.iter().filter(|tensor| self.spec.trained.contains(tensor.kind)) {
            let part = match tensor.kind {
                TensorKind::HeadBias => {
                    head()?.1.f_sum_dim_intlist([0i64].as_slice(), false, tch::Kind::Float)?
                }
                TensorKind::HeadWeight => {
                    let (pooled, logits) = head()?;
                    logits.f_tr()?.f_mm(&pooled)?
                }
                TensorKind::A { .. } | TensorKind::B { .. } => {
                    let factors = self.factors(merged, backward, tensor.kind)?;
                    factors.left.f_tr()?.f_mm(&factors.right)?
                }
            };
            parts.push(part.f_reshape([-1])?);
        }
        Ok(Tensor::f_cat(&parts, 0)?)
    }

    /// Adds `change` (flat, trained tensors in name order) to the adapter.
    fn apply(&self, adapter: &mut AdapterTensors, change: &[f32]) {
        let mut rest = change;
        for tensor in self.tensors.iter().filter(|tensor| self.spec.trained.contains(tensor.kind)) {
            let (part, after) = rest.split_at(tensor.elements());
            rest = after;
            for (value, delta) in adapter.values_mut(&tensor.name).into_iter().flatten().zip(part) {
                *value += delta;
            }
        }
    }
}

fn check(recipe: &LocalRecipe) -> Result<(), TrainError> {
    let refuse = |field, value: String, problem| Err(TrainError::Setting { field, value, problem });
    if recipe.epochs == 0 {
        return refuse("epochs", "0".to_owned(), "must be at least 1");
    }
    if recipe.lot == 0 {
        return refuse("lot", "0".to_owned(), "must be at least 1");
    }
    if !(recipe.learning_rate > 0.0 && recipe.learning_rate < 1e3) {
        return refuse("learning_rate", recipe.learning_rate.to_string(), "must be above 0, below 1000");
    }
    Ok(())
}

struct Adam {
    rate: f64,
    mean: Vec<f64>,
    square: Vec<f64>,
    decay1: f64,
    decay2: f64,
}

impl Adam {
    fn new(dimension: usize, rate: f64) -> Self {
        Self { rate, mean: vec![0.0; dimension], square: vec![0.0; dimension], decay1: 1.0, decay2: 1.0 }
    }

    /// The change for a gradient summed over `records`.
    fn step(&mut self, gradient: &[f32], records: usize) -> Vec<f32> {
        self.decay1 *= BETA1;
        self.decay2 *= BETA2;
        let scale = 1.0 / records as f64;
        let state = self.mean.iter_mut().zip(&mut self.square);
        gradient
            .iter()
            .zip(state)
            .map(|(&g, (mean, square))| {
                let g = f64::from(g) * scale;
                *mean += (1.0 - BETA1) * (g - *mean);
                *square += (1.0 - BETA2) * (g * g - *square);
                let (m, v) = (*mean / (1.0 - self.decay1), *square / (1.0 - self.decay2));
                (-self.rate * m / (v.sqrt() + EPSILON)) as f32
            })
            .collect()
    }
}

/// SplitMix64 (Steele et al., 2014) with Fisher and Yates' shuffle: an order that can be repeated, nothing that must be secret.
struct Shuffle(u64);

impl Shuffle {
    fn apply(&mut self, order: &mut [usize]) {
        for i in (1..order.len()).rev() {
            // The bias of a remainder is below 10⁻⁹ here.
            let j = (self.next() % (i as u64 + 1)) as usize;
            order.swap(i, j);
        }
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
