//! Which tilt to use: `θ` with `θ·K'(θ) − K(θ) = ln 1/δ`, `K(θ) = ln E[e^{θ·loss}]` of the composition.
//!
//! That `θ` minimizes Chernoff's bound `(K(θ) + ln 1/δ)/θ` on `ε`. It need not be exact: any `θ` gives a valid
//! answer, a good one gives a tight one. So a coarse quadrature serves here.

use alloc::vec::Vec;

use super::pair::{Direction, Pair};
use crate::privacy::Step;

/// Width of the coarse quadrature, in deviations.
const COARSE: f64 = 0.1;

/// A tilt, and the composed loss under it: mean and standard deviation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tilt {
    pub(super) theta: f64,
    pub(super) mean: f64,
    pub(super) deviation: f64,
}

/// Losses and logarithms of masses of one pair, on a coarse quadrature, taken `count` times. Logarithms, because far
/// from both means, where `e^{θ·loss}` puts the weight when there is little noise, the masses themselves underflow.
pub(in crate::privacy) struct Coarse {
    points: Vec<(f64, f64)>,
    count: f64,
}

impl Coarse {
    fn new(pair: &Pair, reach: f64, count: f64) -> Self {
        Self::over(pair, pair.range(reach), count)
    }

    /// For Rényi orders up to `most`: `e^{(α−1)·loss}` moves the mass to about `x = α`.
    pub(in crate::privacy) fn for_orders(step: &Step, most: f64) -> Self {
        let pair = Pair::new(step.sampling_rate, step.noise_multiplier, Direction::Remove);
        let (from, to) = pair.range(13.0);
        Self::over(&pair, (from, to + most), step.count as f64)
    }

    /// `ln E[e^{θ·loss}]` of all the steps.
    pub(in crate::privacy) fn log_moment(&self, theta: f64) -> f64 {
        let [k, _, _] = self.cumulants(theta);
        k
    }

    fn over(pair: &Pair, (from, to): (f64, f64), count: f64) -> Self {
        let pieces = libm::ceil((to - from) / (COARSE * pair.z)).max(1.0);
        let width = (to - from) / pieces;
        let mut points = Vec::new();
        for piece in 0..pieces as u32 {
            let start = from + f64::from(piece) * width;
            pair.nodes(start, start + width, |x, width| {
                let ratio = pair.log_ratio(x);
                let loss = if pair.direction == Direction::Remove { ratio } else { -ratio };
                points.push((loss, pair.log_density(x) + libm::log(width)));
            });
        }
        Self { points, count }
    }

    /// `K`, `K'`, `K''` at `theta`.
    fn cumulants(&self, theta: f64) -> [f64; 3] {
        let exponents = self.points.iter().map(|&(loss, log_mass)| theta * loss + log_mass);
        let greatest = exponents.fold(f64::NEG_INFINITY, f64::max);
        let (mut zeroth, mut first, mut second) = (0.0, 0.0, 0.0);
        for &(loss, log_mass) in &self.points {
            let weight = libm::exp(theta * loss + log_mass - greatest);
            zeroth += weight;
            first += weight * loss;
            second += weight * loss * loss;
        }
        let mean = first / zeroth;
        let variance = (second / zeroth - mean * mean).max(0.0);
        [self.count * (greatest + libm::log(zeroth)), self.count * mean, self.count * variance]
    }
}

/// The tilts of a composition.
pub(super) struct Tilts(Vec<Coarse>);

impl Tilts {
    pub(super) fn new(pairs: &[(Pair, f64)], reach: f64) -> Self {
        Self(pairs.iter().map(|(pair, count)| Coarse::new(pair, reach, *count)).collect())
    }

    /// The tilt that is best for `delta`.
    pub(super) fn best(&self, delta: f64) -> Tilt {
        let wanted = -libm::log(delta);
        // θK' − K grows with θ: bisect on a logarithmic scale.
        let (mut low, mut high) = (-30.0f64, 30.0f64);
        while high - low > 1e-3 {
            let middle = (low + high) / 2.0;
            let theta = libm::exp(middle);
            let [k, mean, _] = self.cumulants(theta);
            if theta * mean - k < wanted { low = middle } else { high = middle }
        }
        self.at(libm::exp((low + high) / 2.0))
    }

    /// The tilt with this `theta`.
    pub(super) fn at(&self, theta: f64) -> Tilt {
        let [_, mean, variance] = self.cumulants(theta);
        Tilt { theta, mean, deviation: libm::sqrt(variance) }
    }

    fn cumulants(&self, theta: f64) -> [f64; 3] {
        self.0.iter().map(|one| one.cumulants(theta)).fold([0.0; 3], |sum, next| {
            let ([a, b, c], [d, e, f]) = (sum, next);
            [a + d, b + e, c + f]
        })
    }
}
