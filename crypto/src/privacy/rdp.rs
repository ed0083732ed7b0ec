//! Rényi accounting.

use super::Step;

/// `ε` at `δ` from integer orders: `log E[e^{(α−1)L}] = log Σ_k C(α,k)(1−q)^{α−k}q^k·exp(k(k−1)/2z²)`.
pub(super) fn epsilon(steps: &[Step], delta: f64) -> f64 {
    if steps.is_empty() {
        return 0.0;
    }
    (2..=256u32)
        .map(|order| {
            let alpha = f64::from(order);
            let moment: f64 = steps.iter().map(|step| step.count as f64 * log_moment(step, order)).sum();
            (moment - libm::log(delta * alpha)) / (alpha - 1.0) + libm::log1p(-1.0 / alpha)
        })
        .fold(f64::INFINITY, f64::min)
        .max(0.0)
}

fn log_moment(step: &Step, order: u32) -> f64 {
    let (q, z, alpha) = (step.sampling_rate, step.noise_multiplier, f64::from(order));
    if q >= 1.0 {
        return alpha * (alpha - 1.0) / (2.0 * z * z);
    }
    let term = |k: u32| {
        let k = f64::from(k);
        libm::lgamma(alpha + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(alpha - k + 1.0)
            + (alpha - k) * libm::log1p(-q)
            + k * libm::log(q)
            + k * (k - 1.0) / (2.0 * z * z)
    };
    let greatest = (0..=order).map(term).fold(f64::NEG_INFINITY, f64::max);
    greatest + libm::log((0..=order).map(|k| libm::exp(term(k) - greatest)).sum::<f64>())
}
