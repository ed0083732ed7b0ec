//! Rényi accounting (Mironov 2017; Mironov, Talwar, Zhang 2019 for the sampled Gaussian), as other tools do it.
//!
//! With order `α`, `E[e^{(α−1)·loss}]` of one step is `Σ_k C(α,k)·(1−q)^{α−k}·q^k·e^{k(k−1)/2z²}` for an integer
//! `α`; the same formula holds exactly for a discrete Gaussian and integer shifts, which makes it a check
//! on the other accountant that shares none of its code. Orders that are not integers are integrated numerically. The orders
//! are those of Google's `dp-accounting`; so is the conversion to `ε` (Canonne, Kamath, Steinke 2020, arXiv 2004.00010v4,
//! proposition 12): `ε = R(α) + ln((α−1)/α) − (ln δ + ln α)/(α−1)`.
//!
//! Removing a unit is the worse direction at every order (Mironov, Talwar, Zhang 2019, section 3).

use super::Step;
use super::pld::Coarse;

/// `ε` at `delta`: the least over all orders.
pub(super) fn epsilon(steps: &[Step], delta: f64) -> f64 {
    if steps.is_empty() {
        return 0.0;
    }
    let gap: f64 = steps.iter().map(|step| step.count as f64 * step.gap).sum();
    let delta = delta * libm::exp(-gap);
    let tenths = (11..110u32).map(|tenths| f64::from(tenths) / 10.0);
    let whole = (11..64u32).chain([128, 256, 512, 1024]).map(f64::from);
    let coarse: alloc::vec::Vec<_> =
        steps.iter().map(|step| (step, Coarse::for_orders(step, 11.0))).collect();
    let fractional = tenths.map(|alpha| {
        let sum = coarse.iter().map(|(step, coarse)| match exact(step, alpha) {
            Some(log) => step.count as f64 * log,
            None => coarse.log_moment(alpha - 1.0),
        });
        convert(sum.sum(), alpha, delta)
    });
    let integer = whole.map(|alpha| {
        let sum = steps.iter().map(|step| step.count as f64 * exact(step, alpha).unwrap_or(f64::INFINITY));
        convert(sum.sum(), alpha, delta)
    });
    fractional.chain(integer).fold(f64::INFINITY, f64::min).max(0.0) + 2.0 * gap
}

/// From `ln E[e^{(α−1)·loss}]` of all steps.
fn convert(log_moment: f64, alpha: f64, delta: f64) -> f64 {
    (log_moment - libm::log(delta) - libm::log(alpha)) / (alpha - 1.0) + libm::log1p(-1.0 / alpha)
}

/// One step's `ln E[e^{(α−1)·loss}]` in closed form, where there is one.
fn exact(step: &Step, alpha: f64) -> Option<f64> {
    let (q, z) = (step.sampling_rate, step.noise_multiplier);
    if q >= 1.0 {
        return Some(alpha * (alpha - 1.0) / (2.0 * z * z));
    }
    if libm::floor(alpha) != alpha {
        return None;
    }
    let term = |k: u32| {
        let k = f64::from(k);
        libm::lgamma(alpha + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(alpha - k + 1.0)
            + (alpha - k) * libm::log1p(-q)
            + k * libm::log(q)
            + k * (k - 1.0) / (2.0 * z * z)
    };
    let orders = 0..=alpha as u32;
    let greatest = orders.clone().map(term).fold(f64::NEG_INFINITY, f64::max);
    Some(greatest + libm::log(orders.map(|k| libm::exp(term(k) - greatest)).sum::<f64>()))
}
