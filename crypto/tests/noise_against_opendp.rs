//! The table-driven sampler and OpenDP's exact sampler draw from one distribution.
//!
//! OpenDP's sampler is the oracle (Canonne, Kamath, Steinke 2020, in rational arithmetic). Its generator is seeded by the
//! operating system, so every run is a new experiment and thresholds are wide: three statistics at five scales, each
//! refused with a chance of 10⁻¹⁰ or less, make a false alarm in fewer than one of 10⁸ runs, with room for the
//! approximations in them.

use consilium_crypto::noise::{BulkRng, DiscreteGaussian};
use opendp::traits::samplers::sample_discrete_gaussian;

#[path = "../src/noise/statistics.rs"]
mod statistics;
use statistics::{binomial_tail, chi_squared_tail};

const THEIRS: usize = 20_000;
const OURS: usize = 200_000;
const CHANCE: f64 = 1e-10;

fn opendp(sigma: f64) -> Vec<i64> {
    (0..THEIRS)
        .map(|_| {
            let draw = sample_discrete_gaussian(sigma.try_into().expect("finite")).expect("entropy");
            i64::try_from(draw).expect("a draw near zero")
        })
        .collect()
}

fn ours(sigma: f64) -> Vec<i64> {
    let mut out = vec![0; OURS];
    let mut rng = BulkRng::new([11; 32]);
    DiscreteGaussian::new(sigma).expect("in range").fill(&mut out, &mut rng);
    out
}

#[test]
fn two_samples_of_one_distribution() {
    for sigma in [0.5, 2.5, 10.0, 1e3, 1e5] {
        let (mut a, mut b) = (opendp(sigma), ours(sigma));
        same_shape(sigma, &a, &b);
        same_tails(sigma, &a, &b);
        a.sort_unstable();
        b.sort_unstable();
        same_steps(sigma, &a, &b);
    }
}

/// The two-sample χ² over cells of an eighth of `σ`, the last ones open from 2.5σ: some sixty draws or more expected in each.
fn same_shape(sigma: f64, a: &[i64], b: &[i64]) {
    // Whole integers in each.
    let step = (sigma / 8.0).ceil();
    let reach = (2.5 * sigma / step) as i64;
    let cell = |x: i64| (((x as f64 / step).round() as i64).clamp(-reach, reach) + reach) as usize;
    let mut cells = vec![(0.0f64, 0.0f64); 2 * reach as usize + 1];
    a.iter().for_each(|&x| cells[cell(x)].0 += 1.0);
    b.iter().for_each(|&x| cells[cell(x)].1 += 1.0);
    let ratio = (b.len() as f64 / a.len() as f64).sqrt();
    let statistic: f64 = cells.iter().map(|(x, y)| (x * ratio - y / ratio).powi(2) / (x + y)).sum();
    // The thinnest expect 57: fewer than 15 come about once in 10¹⁰ cells.
    assert!(cells.iter().all(|(x, _)| *x >= 15.0), "σ = {sigma}: thin cells {cells:?}");
    let chance = chi_squared_tail(statistic, (cells.len() - 1) as f64);
    assert!(chance > CHANCE, "σ = {sigma}: χ² = {statistic} for {} cells: {chance}", cells.len());
}

/// Beyond 3σ, exactly: of all draws out there, each is OpenDP's with a known probability.
fn same_tails(sigma: f64, a: &[i64], b: &[i64]) {
    let beyond = |draws: &[i64]| draws.iter().filter(|x| x.abs() as f64 >= 3.0 * sigma).count() as u64;
    let (x, y) = (beyond(a), beyond(b));
    let part = a.len() as f64 / (a.len() + b.len()) as f64;
    let (many, few) = (binomial_tail(x, x + y, part), binomial_tail(y, x + y, 1.0 - part));
    assert!(many > CHANCE / 2.0 && few > CHANCE / 2.0, "σ = {sigma}: {x} and {y} beyond 3σ: {many}, {few}");
}

/// Kolmogorov and Smirnov: `P(√(nm/(n+m))·D > λ) ≤ 2·exp(−2λ²)` for continuous distributions, and less for discrete ones.
fn same_steps(sigma: f64, a: &[i64], b: &[i64]) {
    let part = |sorted: &[i64], x: i64| sorted.partition_point(|&y| y <= x) as f64 / sorted.len() as f64;
    let furthest = a.iter().chain(b).map(|&x| (part(a, x) - part(b, x)).abs()).fold(0.0, f64::max);
    let (n, m) = (a.len() as f64, b.len() as f64);
    let chance = 2.0 * (-2.0 * furthest * furthest * n * m / (n + m)).exp();
    assert!(chance > CHANCE, "σ = {sigma}: steps {furthest} apart: {chance}");
}
