//! Loss and accuracy that ride along in the noisy sum, at no further privacy cost.
//!
//! With `a = C·√(κ/2)`, a patient sends `a·loss/loss_max` and `a·correct`: each is at most `a`, so together
//! they stay within `C√κ`, the gradient within `C√(1−κ)`, and the whole within `C`. Read out of the sum, they
//! carry the noise of two coordinates; a mean loss below 0 or an accuracy above 1 is noise, not an error.

use super::lot::MARGIN;
use super::{Encoding, METRIC_COORDINATES};

/// Means over the patients of a round, as the noisy sum tells them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metrics {
    /// Mean clipped loss a patient.
    pub loss: f64,
    /// Fraction of patients classified correctly.
    pub accuracy: f64,
    /// Standard deviation that the noise alone gives the loss (`0` if unknown).
    pub loss_deviation: f64,
    /// Standard deviation that the noise alone gives the accuracy (`0` if unknown).
    pub accuracy_deviation: f64,
}

impl Encoding {
    /// The two metric coordinates of one patient, before scaling; `correct` is a part of 1.
    pub(super) fn metric_values(&self, loss: f32, correct: f32) -> [f32; METRIC_COORDINATES] {
        let unit = self.metric_unit();
        let loss = f64::from(loss).clamp(0.0, self.params.loss_max) / self.params.loss_max;
        [(unit * loss) as f32, (unit * f64::from(correct.clamp(0.0, 1.0))) as f32]
    }

    /// Reads the metrics out of a released sum of [`Encoding::vector_len`] centred coordinates. `expected_lot`
    /// is the plan's, over all `n` organizations; `survivors` of them are in the sum; `sigma` is the scale of
    /// the sum's noise in ring units (0 if it is not wanted). `None` if the length or a number is out of range.
    pub fn metrics(
        &self,
        sum: &[i64],
        expected_lot: f64,
        survivors: u32,
        n: u32,
        sigma: f64,
    ) -> Option<Metrics> {
        let (_, last) = sum.split_last_chunk::<METRIC_COORDINATES>()?;
        if sum.len() != self.vector_len() {
            return None;
        }
        self.metrics_of_last(last, expected_lot, survivors, n, sigma)
    }

    /// As [`Encoding::metrics`], from the last two coordinates of the sum alone.
    pub fn metrics_of_last(
        &self,
        &[loss, correct]: &[i64; METRIC_COORDINATES],
        expected_lot: f64,
        survivors: u32,
        n: u32,
        sigma: f64,
    ) -> Option<Metrics> {
        let patients = expected_lot * f64::from(survivors) / f64::from(n);
        let unit = self.params.scale * self.metric_unit() * patients;
        let usable = unit.is_finite() && unit > 0.0;
        usable.then(|| Metrics {
            loss: loss as f64 / unit * self.params.loss_max,
            accuracy: correct as f64 / unit,
            loss_deviation: sigma / unit * self.params.loss_max,
            accuracy_deviation: sigma / unit,
        })
    }

    /// `a`, with the same margin as the gradient's clip.
    pub fn metric_unit(&self) -> f64 {
        self.params.clip * libm::sqrt(self.params.metrics_share / 2.0) * MARGIN
    }
}
