//! The accountant through its public face: against closed forms and exact sums that share none of its arithmetic, and
//! against what any accountant must obey.

use consilium_crypto::noise::BulkRng;
use consilium_crypto::privacy::{Composition, Mechanism, MechanismParams, Step};
use rand::Rng;

fn composed(steps: &[(f64, f64, u64)]) -> Composition {
    let mut composition = Composition::new();
    for &(sampling_rate, noise_multiplier, count) in steps {
        composition.push(Step { sampling_rate, noise_multiplier, count, gap: 0.0 }).expect("in range");
    }
    composition
}

fn epsilon(steps: &[(f64, f64, u64)], delta: f64) -> f64 {
    composed(steps).epsilon(delta).expect("in range")
}

/// `ln P(N(0, 1) > t)`: far out by the asymptotic series, where the error function underflows.
fn log_tail(t: f64) -> f64 {
    if t < 25.0 {
        return (0.5 * libm::erfc(t / std::f64::consts::SQRT_2)).ln();
    }
    let x = 1.0 / (t * t);
    let series = -x * (1.0 - 3.0 * x * (1.0 - 5.0 * x * (1.0 - 7.0 * x)));
    -t * t / 2.0 - (t * 2.506_628_274_631_000_5).ln() + series.ln_1p()
}

/// The least `ε` with `curve(ε) ≤ delta`, for a decreasing curve.
fn solve(delta: f64, most: f64, curve: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, most);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if curve(middle) > delta { low = middle } else { high = middle }
    }
    low
}

/// `T` steps without sampling are one Gaussian of multiplier `z/√T`, whose curve is known: with `μ = √T/z`,
/// `δ(ε) = Φ(μ/2 − ε/μ) − e^ε·Φ(−μ/2 − ε/μ)` (Balle and Wang, "Improving the Gaussian Mechanism", ICML 2018, theorem 8).
#[test]
fn without_sampling_it_meets_the_analytic_gaussian() {
    for z in [0.3, 0.7, 1.0, 3.0, 20.0, 300.0] {
        for count in [1u64, 10, 1_000] {
            for delta in [1e-2, 1e-5, 1e-9, 1e-25] {
                let mu = (count as f64).sqrt() / z;
                let exact = solve(delta, mu * mu + 60.0 * mu, |e| {
                    let near = log_tail(e / mu - mu / 2.0);
                    // A difference of near equals, as ratio.
                    -near.exp() * (e + log_tail(e / mu + mu / 2.0) - near).exp_m1()
                });
                let bound = epsilon(&[(1.0, z, count)], delta);
                let case = format!("z {z}, T {count}, δ {delta}: {bound}, exactly {exact}");
                assert!(bound >= exact * (1.0 - 1e-11), "under: {case}");
                assert!(bound <= exact * 1.003 + 1e-9, "loose: {case}");
            }
        }
    }
}

/// The discrete Gaussian's probabilities from `−reach` to `reach`, by summation.
fn discrete_gaussian(sigma: f64, reach: i64) -> Vec<f64> {
    let weight = |x: i64| (-(x as f64 / sigma).powi(2) / 2.0).exp();
    let total: f64 = (-reach..=reach).map(weight).sum();
    (-reach..=reach).map(|x| weight(x) / total).collect()
}

fn convolved(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; a.len() + b.len() - 1];
    for (i, x) in a.iter().enumerate() {
        for (j, y) in b.iter().enumerate() {
            out[i + j] += x * y;
        }
    }
    out
}

/// The real thing, with nothing continuous in it: a sum of `h` discrete Gaussians, with a sampled integer shift or
/// without. `δ(ε) = Σ_x max(0, P(x) − e^ε·Q(x))` in both directions, summed over the integers.
#[test]
fn the_discrete_mechanism_is_never_under_its_exact_curve() {
    for (sigma_i, shares) in [(2.5, 2u32), (3.0, 1), (4.0, 3), (20.0, 1), (20.0, 2)] {
        let one = discrete_gaussian(sigma_i, (14.0 * sigma_i) as i64);
        let without = (1..shares).fold(one.clone(), |sum, _| convolved(&sum, &one));
        for (shift, rate) in [(1usize, 1.0), (3, 1.0), (3, 0.1), (10, 0.02), (20, 0.5)] {
            let pad = vec![0.0; shift];
            let here = [without.clone(), pad.clone()].concat();
            let moved = [pad, without.clone()].concat();
            let with: Vec<f64> = here.iter().zip(&moved).map(|(x, y)| (1.0 - rate) * x + rate * y).collect();
            let curve = |p: &[f64], q: &[f64], e: f64| -> f64 {
                p.iter().zip(q).map(|(p, q)| (p - e.exp() * q).max(0.0)).sum()
            };
            for delta in [1e-3, 1e-7] {
                let exact = [(&with, &here), (&here, &with)]
                    .map(|(p, q)| solve(delta, 400.0, |e| curve(p, q, e)))
                    .into_iter()
                    .fold(0.0, f64::max);
                let mechanism = Mechanism::new(MechanismParams {
                    sampling_rate: rate,
                    sigma_i,
                    shares,
                    sensitivity: shift as f64,
                    dimension: 1,
                })
                .expect("in range");
                let mut composition = Composition::new();
                composition.push(mechanism.steps(1)).expect("in range");
                let bound = composition.epsilon(delta).expect("in range");
                let case =
                    format!("σ_i {sigma_i} × {shares}, Δ {shift}, q {rate}, δ {delta}: {bound} for {exact}");
                assert!(bound >= exact - 1e-9, "under: {case}");
                // 6.25 less variance costs a lot near 2.5, and next to nothing at scales that plans have.
                if sigma_i >= 20.0 {
                    assert!(bound <= exact * 1.03 + 0.01, "loose: {case}");
                }
            }
        }
    }
}

/// A reproducible number between two others, evenly on a logarithmic scale.
fn between(rng: &mut BulkRng, low: f64, high: f64) -> f64 {
    let part = (rng.next_u32() as f64 + 0.5) / 4_294_967_296.0;
    low * (high / low).powf(part)
}

#[test]
fn more_of_anything_bad_is_never_better() {
    let mut rng = BulkRng::new([1; 32]);
    for _ in 0..24 {
        let q = between(&mut rng, 1e-3, 0.9);
        let z = between(&mut rng, 0.4, 8.0);
        let count = between(&mut rng, 1.0, 3_000.0) as u64;
        let delta = between(&mut rng, 1e-10, 1e-2);
        let base = epsilon(&[(q, z, count)], delta);
        let case = format!("q {q}, z {z}, T {count}, δ {delta}: {base}");
        for (what, worse) in [
            ("q", epsilon(&[(q * 1.1, z, count)], delta)),
            ("1/z", epsilon(&[(q, z / 1.1, count)], delta)),
            ("T", epsilon(&[(q, z, count + count.div_ceil(10))], delta)),
            ("1/δ", epsilon(&[(q, z, count)], delta / 2.0)),
            ("another kind", epsilon(&[(q, z, count), (0.1, 2.0, 1)], delta)),
        ] {
            assert!(worse >= base, "more {what} is better: {worse} after {case}");
        }
    }
}

#[test]
fn order_leaves_no_trace_and_parts_bound_the_whole() {
    let mut rng = BulkRng::new([2; 32]);
    for _ in 0..6 {
        let mut steps: Vec<(f64, f64, u64)> = (0..7)
            .map(|_| {
                let (q, z) = (between(&mut rng, 1e-3, 1.0), between(&mut rng, 0.6, 6.0));
                (q, z, between(&mut rng, 1.0, 60.0) as u64)
            })
            .collect();
        // One kind in two places.
        steps.push(steps[0]);
        let whole = composed(&steps);
        let ask = |all: &Composition| {
            (all.epsilon(1e-6).expect("in range"), all.epsilon_rdp(1e-6).expect("in range"))
        };
        let answers = ask(&whole);
        for _ in 0..4 {
            // Fisher and Yates.
            for last in (1..steps.len()).rev() {
                steps.swap(last, rng.next_u32() as usize % (last + 1));
            }
            let shuffled = composed(&steps);
            assert_eq!(shuffled, whole);
            assert_eq!(ask(&shuffled), answers, "to the last bit");
        }
        let (first, second) = steps.split_at(4);
        let parts = epsilon(first, 5e-7) + epsilon(second, 5e-7);
        assert!(answers.0 <= parts, "{answers:?} is more than its parts {parts}");
    }
}

/// At the ends of every range it answers, with an upper bound next to the one by Rényi orders or below it.
#[test]
fn the_ends_of_the_ranges_are_answered() {
    for q in [1e-9, 1e-3, 1.0] {
        for z in [0.01, 1e6] {
            for count in [1, 1_000_000_000] {
                for delta in [1e-100, 0.999] {
                    let composition = composed(&[(q, z, count)]);
                    let tight = composition.epsilon(delta).expect("in range");
                    let loose = composition.epsilon_rdp(delta).expect("in range");
                    let case =
                        format!("q {q}, z {z}, T {count}, δ {delta}: {tight}, by Rényi orders {loose}");
                    assert!(tight >= 0.0 && loose >= 0.0, "{case}");
                    assert!(tight <= loose * 1.05 + 1e-6, "{case}");
                }
            }
        }
    }
}
