//! One step's loss distribution on a grid, never below the true one.
//!
//! A piece of mass `p` at loss `l` in the cell `[i·h, (i+1)·h]` goes to the cell's two ends: the share
//! `(1 − e^{−(l − ih)})/(1 − e^{−h})` to the upper one, the rest to the lower one. Both distributions of the pair
//! keep their mass, so `δ(ε)` is unchanged at grid points and rises to the chord between them.

use alloc::vec::Vec;

use super::pair::{Direction, Pair};

/// Widest piece of the integral, in deviations. The four-point rule's relative error is then below 10⁻¹⁵
/// within 12 deviations: `5.6·10⁻¹⁰·0.01⁷` times the seventh Hermite polynomial.
const FINE: f64 = 0.01;
/// Most cells of one step.
pub(super) const MOST_CELLS: f64 = 131_072.0;
/// What masses are raised by.
const WIDENING: f64 = 1.0 + 1e-11;

/// Masses at losses `(first + j)·h`. Mass at infinite loss is not in it: the caller counts
/// two tails a step.
pub(super) struct Grid {
    pub(super) first: i64,
    pub(super) masses: Vec<f64>,
    pub(super) h: f64,
}

impl Grid {
    /// Discretizes `pair`, cut at `reach` deviations, with cells of width `h`.
    pub(super) fn new(pair: &Pair, reach: f64, h: f64) -> Self {
        let (from, to) = pair.range(reach);
        let (lowest, highest) = (pair.log_ratio(from), pair.log_ratio(to));
        let (mut edge, last) = (libm::floor(lowest / h) as i64, libm::ceil(highest / h) as i64 + 1);
        // A margin of cells on both sides, for losses that are rounded up past an edge.
        let first = match pair.direction {
            Direction::Remove => edge - 2,
            Direction::Add => -last - 2,
        };
        let length = usize::try_from(last - edge).unwrap_or(0) + 5;
        let mut grid = Self { first, masses: alloc::vec![0.0; length], h };
        let whole = -libm::expm1(-h);
        let mut x = from;
        // Pieces end at the cells' edges, so that each has a smooth share; which cell a point belongs to is
        // decided by its own loss, whatever the edges' rounding.
        while x < to {
            let next = match pair.place(edge as f64 * h) {
                Some(next) if next > x => next.min(x + FINE * pair.z).min(to),
                _ if edge < last => {
                    edge += 1;
                    continue;
                }
                _ => (x + FINE * pair.z).min(to),
            };
            pair.integrate(x, next, |x, mass| {
                let ratio = pair.log_ratio(x);
                let slack = 4e-15 * (1.0 + ratio.abs()) + 1e-9 * h;
                let loss = slack + if pair.direction == Direction::Remove { ratio } else { -ratio };
                let lower = libm::floor(loss / h);
                let share = -libm::expm1(-(loss - lower * h).clamp(0.0, h)) / whole;
                let mass = mass * WIDENING;
                grid.add(lower as i64 + 1, mass * share);
                grid.add(lower as i64, mass * (1.0 - share));
            });
            x = next;
        }
        grid.trim();
        grid
    }

    fn add(&mut self, index: i64, mass: f64) {
        // The cells cover the range with room on both sides; mass outside would go to the nearest end.
        let place = usize::try_from(index - self.first).unwrap_or(0);
        debug_assert!(place < self.masses.len(), "cell {index} of {} from {}", self.masses.len(), self.first);
        let place = place.min(self.masses.len().saturating_sub(1));
        if let Some(place) = self.masses.get_mut(place) {
            *place += mass;
        }
    }

    /// Drops empty cells at both ends.
    fn trim(&mut self) {
        while self.masses.last() == Some(&0.0) {
            self.masses.pop();
        }
        let empty = self.masses.iter().take_while(|&&mass| mass == 0.0).count();
        self.masses.drain(..empty);
        self.first += empty as i64;
    }

    /// Number of the last cell.
    pub(super) fn last(&self) -> i64 {
        self.first + self.masses.len() as i64 - 1
    }

    /// Cell numbers with their losses and masses.
    pub(super) fn cells(&self) -> impl Iterator<Item = (i64, f64, f64)> {
        (self.first..).zip(&self.masses).map(|(i, &mass)| (i, i as f64 * self.h, mass))
    }

    /// `ln Σ mass·e^{θ·loss}`, rounded up.
    pub(super) fn log_moment(&self, theta: f64) -> f64 {
        let greatest = self.cells().fold(f64::NEG_INFINITY, |g, (_, loss, _)| g.max(theta * loss));
        let sum: f64 = self.cells().map(|(_, loss, mass)| mass * libm::exp(theta * loss - greatest)).sum();
        greatest + libm::log(sum) + 1e-14 * (1.0 + greatest.abs())
    }
}
