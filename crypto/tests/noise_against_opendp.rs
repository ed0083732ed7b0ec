//! The table-driven sampler and OpenDP's exact sampler draw from one distribution.
//!
//! OpenDP's sampler is the oracle (Canonne, Kamath, Steinke 2020, in rational arithmetic). Its generator is
//! seeded by the operating system here, so the threshold is wide: a false alarm once in about 10⁹ runs.

use consilium_crypto::noise::{BulkRng, DiscreteGaussian};
use opendp::traits::samplers::sample_discrete_gaussian;

fn opendp(sigma: f64, count: usize) -> Vec<i64> {
    (0..count)
        .map(|_| {
            let draw = sample_discrete_gaussian(sigma.try_into().expect("finite")).expect("entropy");
            i64::try_from(draw).expect("a draw near zero")
        })
        .collect()
}

fn ours(sigma: f64, count: usize) -> Vec<i64> {
    let mut out = vec![0; count];
    let mut rng = BulkRng::new([11; 32]);
    DiscreteGaussian::new(sigma).expect("in range").fill(&mut out, &mut rng);
    out
}

#[test]
fn two_samples_of_one_distribution() {
    for sigma in [0.5, 2.5, 10.0, 1e3, 1e5] {
        let (a, b) = (opendp(sigma, 20_000), ours(sigma, 200_000));
        let step = (sigma / 8.0).max(1.0);
        let bin = |x: i64| ((x as f64 / step).floor() as i64).clamp(-24, 24);
        let mut counts = std::collections::BTreeMap::<i64, (f64, f64)>::new();
        a.iter().for_each(|&x| counts.entry(bin(x)).or_default().0 += 1.0);
        b.iter().for_each(|&x| counts.entry(bin(x)).or_default().1 += 1.0);
        // The two-sample statistic over bins with enough in them.
        let ratio = (b.len() as f64 / a.len() as f64).sqrt();
        let terms: Vec<f64> = counts
            .values()
            .filter(|(x, y)| x + y > 40.0)
            .map(|(x, y)| (x * ratio - y / ratio).powi(2) / (x + y))
            .collect();
        let freedom = terms.len() as f64;
        let statistic: f64 = terms.iter().sum();
        assert!(freedom >= 3.0, "σ = {sigma}: too few bins");
        let deviations = (statistic - freedom) / (2.0 * freedom).sqrt();
        assert!(deviations < 8.0, "σ = {sigma}: χ² = {statistic} for {freedom}");
    }
}
