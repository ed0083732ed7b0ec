//! One step's dominating pair: densities, privacy loss, and integration over both.
//!
//! `ln(A/B)(x) = ln(1 − q + q·e^u)` with `u = (2x − 1)/2z²` grows with `x`. When a unit is removed, the loss is
//! `ln(A/B)` under `A`; when one is added, it is `−ln(A/B)` under `B`.

/// Which of two neighbours has the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// The mechanism ran with the unit; the other neighbour is without.
    Remove,
    /// It ran without.
    Add,
}

/// The pair for sampling rate `q` and noise multiplier `z`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    q: f64,
    pub(super) z: f64,
    pub(super) direction: Direction,
}

/// Nodes and weights of Gauss and Legendre's rule with two points on [−1, 1].
const TWO: [(f64, f64); 2] = [(-0.577_350_269_189_625_8, 1.0), (0.577_350_269_189_625_8, 1.0)];
/// The same with four points.
const FOUR: [(f64, f64); 4] = [
    (-0.861_136_311_594_052_6, 0.347_854_845_137_453_85),
    (-0.339_981_043_584_856_26, 0.652_145_154_862_546_2),
    (0.339_981_043_584_856_26, 0.652_145_154_862_546_2),
    (0.861_136_311_594_052_6, 0.347_854_845_137_453_85),
];

impl Pair {
    pub(super) fn new(q: f64, z: f64, direction: Direction) -> Self {
        Self { q, z, direction }
    }

    /// `ln(A/B)` at `x`, to a few units in the last place of 1 or of itself.
    pub(super) fn log_ratio(&self, x: f64) -> f64 {
        let u = (2.0 * x - 1.0) / (2.0 * self.z * self.z);
        if self.q >= 1.0 {
            return u;
        }
        let change = self.q * libm::expm1(u);
        if u > 1.0 {
            u + libm::log(self.q + (1.0 - self.q) * libm::exp(-u))
        } else if change > -0.5 {
            libm::log1p(change)
        } else {
            libm::log((1.0 - self.q) + self.q * libm::exp(u))
        }
    }

    /// The `x` at which `ln(A/B)` is about `ratio`; `None` if it is larger everywhere.
    pub(super) fn place(&self, ratio: f64) -> Option<f64> {
        let change = libm::expm1(ratio) / self.q;
        let u = if self.q >= 1.0 {
            ratio
        } else if ratio > 600.0 {
            ratio - libm::log(self.q)
        } else if change > -1.0 {
            libm::log1p(change)
        } else {
            return None;
        };
        Some(0.5 + self.z * self.z * u)
    }

    /// The density at `x` of the distribution that the mechanism ran with.
    pub(super) fn density(&self, x: f64) -> f64 {
        let gaussian = |x: f64| {
            let t = x / self.z;
            libm::exp(-0.5 * t * t) / (self.z * 2.506_628_274_631_000_5)
        };
        match self.direction {
            Direction::Remove => (1.0 - self.q) * gaussian(x) + self.q * gaussian(x - 1.0),
            Direction::Add => gaussian(x),
        }
    }

    /// `ln density(x)`, also where the density underflows.
    pub(super) fn log_density(&self, x: f64) -> f64 {
        let t = x / self.z;
        let without = -0.5 * t * t - libm::log(self.z * 2.506_628_274_631_000_5);
        match self.direction {
            Direction::Remove => without + self.log_ratio(x),
            Direction::Add => without,
        }
    }

    /// The range that holds all but the two tails beyond `reach` deviations.
    pub(super) fn range(&self, reach: f64) -> (f64, f64) {
        let far = reach * self.z;
        match self.direction {
            Direction::Remove => (-far, 1.0 + far),
            Direction::Add => (-far, far),
        }
    }

    /// Calls `each` with a point and its mass for the integral of `density` over `[from, to]`.
    ///
    /// A piece narrower than a thousandth of a deviation takes two points, whose relative error is at most
    /// `10⁻¹²/4320` times the fourth Hermite polynomial: 10⁻¹² within 9 deviations, 5·10⁻¹² within 12.
    pub(super) fn integrate(&self, from: f64, to: f64, mut each: impl FnMut(f64, f64)) {
        self.nodes(from, to, |x, width| each(x, self.density(x) * width));
    }

    /// The points of that integral, each with the width it stands for.
    pub(super) fn nodes(&self, from: f64, to: f64, mut each: impl FnMut(f64, f64)) {
        let (middle, half) = ((from + to) / 2.0, (to - from) / 2.0);
        let rule: &[(f64, f64)] = if to - from < 1e-3 * self.z { &TWO } else { &FOUR };
        for &(node, weight) in rule {
            each(middle + half * node, weight * half);
        }
    }
}
