//! The composed loss in a window, and `ε` read off it.

use alloc::vec::Vec;

use super::fourier::{Complex, Fourier};
use super::grid::{Grid, MOST_CELLS};
use super::pair::Pair;
use super::tilt::{Tilt, Tilts};

/// Half the window, in deviations of the tilted composed loss.
const HALF_WINDOW: f64 = 8.0;
/// Cells to one step's deviation that are aimed at: the grid then adds a part in 2,400 to the variance.
const CELLS_PER_DEVIATION: f64 = 40.0;

/// A spectrum's magnitude that is not worth computing.
const NEGLIGIBLE: f64 = 1e-40;
/// Gentler tilts tried when the best one's window does not reach down to the answer.
const RETRIES: u32 = 6;

/// An `ε ≥ 0` with `δ(ε) ≤ delta` for `count` steps of each pair, cut at `reach` deviations, as small as
/// the grid can tell.
pub(super) fn epsilon(pairs: &[(Pair, f64)], reach: f64, delta: f64) -> f64 {
    let count: f64 = pairs.iter().map(|&(_, count)| count).sum();
    let cells = 2.0 * HALF_WINDOW * libm::sqrt(count) * CELLS_PER_DEVIATION;
    let log_size = (libm::ceil(libm::log2(cells)) as u32).clamp(14, 20);
    let fourier = Fourier::new(log_size);
    let tilts = Tilts::new(pairs, reach);
    let mut tilt = tilts.best(delta);
    let mut least = f64::INFINITY;
    for _ in 0..RETRIES {
        let h = cell_width(pairs, reach, &tilt, f64::from(1u32 << log_size));
        let tilted: Vec<Tilted> = pairs
            .iter()
            .map(|(pair, count)| Tilted::new(Grid::new(pair, reach, h), tilt.theta, *count as u64))
            .collect();
        match Window::new(&tilted, &tilt, h, &fourier).epsilon(delta) {
            Found::Crossing(epsilon) => return epsilon.min(least),
            Found::Below(bottom) => least = least.min(bottom),
        }
        tilt = tilts.at(tilt.theta / 8.0);
    }
    least
}

/// The window over the number of cells, wide enough that no step has too many cells.
fn cell_width(pairs: &[(Pair, f64)], reach: f64, tilt: &Tilt, size: f64) -> f64 {
    let span = |pair: &Pair| {
        let (from, to) = pair.range(reach);
        pair.log_ratio(to) - pair.log_ratio(from)
    };
    let widest = pairs.iter().map(|(pair, _)| span(pair)).fold(0.0, f64::max);
    let all: f64 = pairs.iter().map(|(pair, count)| count * span(pair)).sum();
    // A sum of few steps may fit whole.
    let window = (2.0 * HALF_WINDOW * tilt.deviation).min(all);
    // Cells are numbered: a mean of a billion steps far from zero must not have a number past 2⁵⁰.
    let numbered = tilt.mean.abs() * libm::exp2(-50.0);
    (window / (size - 4.0)).max(widest / MOST_CELLS).max(numbered).max(1e-13)
}

/// One step's grid, tilted and normalized, and how often it is taken.
struct Tilted {
    grid: Grid,
    count: u64,
    /// `ln Σ mass·e^{θ·loss}` of the grid before tilting, rounded up.
    log_moment: f64,
}

impl Tilted {
    fn new(mut grid: Grid, theta: f64, count: u64) -> Self {
        let log_moment = grid.log_moment(theta);
        let h = grid.h;
        for (i, mass) in (grid.first..).zip(&mut grid.masses) {
            *mass *= libm::exp(theta * (i as f64 * h) - log_moment);
        }
        Self { grid, count, log_moment }
    }

    /// The spectrum of the tilted grid, wrapped around the transform's size.
    fn spectrum(&self, fourier: &Fourier) -> Vec<Complex> {
        let mut data = alloc::vec![Complex::default(); fourier.size()];
        for (i, _, mass) in self.grid.cells() {
            let place = i.rem_euclid(fourier.size() as i64) as usize;
            if let Some(value) = data.get_mut(place) {
                value.re += mass;
            }
        }
        fourier.transform(&mut data);
        data
    }
}

/// The tilted composed masses at losses `(first + j)·h`.
struct Window {
    first: i64,
    h: f64,
    masses: Vec<f64>,
    theta: f64,
    /// `Σ count·log_moment`.
    log_moment: f64,
    /// Greatest error of any mass.
    error: f64,
    /// `ln` of a bound on the tilted mass above the window.
    log_above: f64,
}

impl Window {
    fn new(tilted: &[Tilted], tilt: &Tilt, h: f64, fourier: &Fourier) -> Self {
        let size = fourier.size();
        // The masses are real: a spectrum's second half mirrors its first.
        let half = size / 2 + 1;
        let mut product = alloc::vec![Complex::ONE; half];
        // An upper bound on each product's magnitude, and on its relative error.
        let mut bounds = alloc::vec![(1.0f64, 0.0f64); half];
        let eta = fourier.error_bound();
        for one in tilted {
            let spectrum = one.spectrum(fourier);
            for ((product, bound), value) in product.iter_mut().zip(&mut bounds).zip(spectrum) {
                let magnitude = value.magnitude() + eta;
                let power = Complex { re: magnitude, im: 0.0 }.power(one.count).re;
                if bound.0 * power < NEGLIGIBLE {
                    // Nothing is left of this frequency: take 0, wrong by the bound at most.
                    (*product, *bound) = (Complex::default(), (bound.0 * power, 1.0));
                    continue;
                }
                *product = *product * value.power(one.count);
                // (a + η)^T − a^T ≤ (a + η)^T·T·η/(a + η); each multiplication adds less than 4u.
                let relative =
                    one.count as f64 * (eta / magnitude + 2.0 * f64::EPSILON) + 128.0 * f64::EPSILON;
                *bound = (bound.0 * power, bound.1 + relative);
            }
        }
        let n = size as f64;
        let error =
            2.0 / n * bounds.iter().map(|(bound, relative)| bound * (relative.min(1.0) + eta)).sum::<f64>();
        // The inverse transform is the transform of the conjugate; only the real part is wanted.
        let conjugate = product.iter().map(|value| Complex { im: -value.im, ..*value });
        let mirrored = product.iter().skip(1).take(size / 2 - 1).rev().copied();
        let mut product: Vec<Complex> = conjugate.chain(mirrored).collect();
        fourier.transform(&mut product);
        let (mut least, mut most) = (0i128, 0i128);
        for Tilted { grid, count, .. } in tilted {
            least += i128::from(grid.first) * i128::from(*count);
            most += i128::from(grid.last()) * i128::from(*count);
        }
        // A sum of few steps fits whole; else the window's middle is the tilted mean.
        let whole = most - least < size as i128;
        let middle = libm::floor(tilt.mean / h) as i64;
        let first = if whole { least as i64 } else { middle - (size / 2) as i64 };
        let masses = (first..)
            .take(size)
            .map(|i| {
                let place = i.rem_euclid(size as i64) as usize;
                product.get(place).map_or(0.0, |value| value.re / n)
            })
            .collect();
        let top = (first + size as i64 - 1) as f64 * h;
        let log_above = if whole { f64::NEG_INFINITY } else { log_above(tilted, tilt, top) };
        Self {
            first,
            h,
            masses,
            theta: tilt.theta,
            log_moment: tilted.iter().map(|one| one.count as f64 * one.log_moment).sum(),
            error: error * (1.0 + 1e-9),
            log_above,
        }
    }

    /// Walks down from the top until `δ` passes `delta`.
    fn epsilon(&self, delta: f64) -> Found {
        // Chernoff's bound needs no window.
        let chernoff = (self.log_moment - libm::log(delta)) / self.theta;
        let last = self.first + self.masses.len() as i64 - 1;
        // Everything above the window, as if at infinite loss under the untilted measure.
        let top = last as f64 * self.h;
        let above = libm::exp(self.log_moment - self.theta * top + self.log_above);
        // Mass from here up, the same weighted by e^(here − loss), and what of it is the transforms' error.
        let (mut mass, mut weighted, mut error) = (above, 0.0, 0.0);
        let shrink = libm::exp(-self.h);
        for (down, &tilted) in (0i64..).zip(self.masses.iter().rev()) {
            let loss = (last - down) as f64 * self.h;
            if loss < 0.0 {
                return Found::Crossing(0.0);
            }
            let untilt = libm::exp(self.log_moment - self.theta * loss);
            let untilted = untilt * (tilted + self.error).max(0.0);
            mass += untilted;
            weighted = weighted * shrink + untilted;
            error += untilt * self.error;
            // Rounding of two sums of positive terms, and of their difference.
            let reserve = mass * 1e-12;
            if mass + reserve - weighted * shrink > delta {
                // δ(ε) = mass − e^(ε − loss)·weighted within the cell below this loss.
                let inside = (mass + reserve - delta) / weighted;
                let epsilon = if inside > 0.0 { loss + libm::log(inside).min(0.0) } else { loss };
                let epsilon = (epsilon * (1.0 + 1e-14)).min(chernoff).max(0.0);
                // Far below the tilted mean errors drown the masses: a gentler tilt sees further.
                let drowned = error > 1e-3 * delta;
                return if drowned { Found::Below(epsilon) } else { Found::Crossing(epsilon) };
            }
        }
        Found::Below((self.first as f64 * self.h).min(chernoff).max(0.0))
    }
}

/// What the walk through a window found.
enum Found {
    /// The answer.
    Crossing(f64),
    /// A loss where `δ` is still kept: the answer is at most this, and probably lower.
    Below(f64),
}

/// `ln` of Chernoff's bound on the tilted mass above `top`, over a few further tilts.
fn log_above(tilted: &[Tilted], tilt: &Tilt, top: f64) -> f64 {
    [2.0, 4.0, 8.0, 12.0]
        .iter()
        .map(|steps| {
            let further = steps / tilt.deviation.max(1e-300);
            tilted.iter().map(|one| one.count as f64 * one.grid.log_moment(further)).sum::<f64>()
                - further * top
        })
        .fold(0.0, f64::min)
}
