//! The accountant against reference values, closed forms, and itself.

#![allow(clippy::unwrap_used)]

use alloc::vec::Vec;

use super::*;

fn composed(steps: &[(f64, f64, u64)]) -> Composition {
    let mut composition = Composition::new();
    for &(sampling_rate, noise_multiplier, count) in steps {
        composition.push(Step { sampling_rate, noise_multiplier, count, gap: 0.0 }).unwrap();
    }
    composition
}

/// Steps as (`q`, `z`, how many), `δ`, then `ε` by Rényi orders and by privacy-loss distributions: Google's
/// `dp-accounting` 0.6.0, the latter with its connected dots at 10⁻⁴ or 10⁻⁵.
type Reference = (&'static [(f64, f64, u64)], f64, f64, f64);
const REFERENCE: [Reference; 17] = [
    (&[(1.0, 1.0, 1)], 1e-5, 4.728507, 4.377178),
    (&[(1.0, 4.0, 10)], 1e-5, 3.617100, 3.341409),
    (&[(1.0, 10.0, 100)], 1e-5, 4.728507, 4.377178),
    (&[(0.01, 1.0, 1000)], 1e-5, 2.101367, 1.828244),
    (&[(0.1, 2.0, 100)], 1e-6, 2.914174, 2.675036),
    (&[(0.001, 0.5, 100)], 1e-5, 3.598125, 2.108646),
    (&[(0.05, 0.8, 60)], 1e-5, 5.600806, 4.741866),
    (&[(0.05, 1.03, 60)], 1e-5, 3.158099, 2.680813),
    (&[(0.01, 1.0, 10_000)], 1e-5, 6.712757, 6.187745),
    (&[(0.5, 3.0, 50)], 1e-8, 7.918963, 7.478250),
    (&[(1.0, 0.3, 1)], 1e-5, 20.392520, 19.130768),
    (&[(0.1, 0.4, 3)], 1e-6, 17.888375, 15.807815),
    (&[(0.0005, 1.2, 20_000)], 1e-6, 0.544151, 0.279760),
    (&[(0.02, 1.1, 300), (0.1, 2.5, 40), (1.0, 8.0, 4)], 1e-5, 2.598875, 2.333527),
    (&[(0.01, 0.7, 1)], 1e-5, 2.133106, 0.851644),
    (&[(0.2, 5.0, 10)], 1e-2, 0.200543, 0.140876),
    (&[(0.01, 2.0, 100)], 1e-12, 0.717646, 0.414866),
];

/// The published table by Rényi orders, to four digits.
#[test]
fn the_table_of_renyi_bounds_is_met() {
    for (steps, delta, rdp, _) in REFERENCE.into_iter().take(5) {
        let loose = composed(steps).epsilon_rdp(delta).unwrap();
        assert!((loose - rdp).abs() < 1e-5, "{steps:?}: {loose}, reference {rdp}");
    }
}

#[test]
fn reference_values_are_met() {
    for (steps, delta, rdp, pld) in REFERENCE {
        let composition = composed(steps);
        let loose = composition.epsilon_rdp(delta).unwrap();
        // At some fractional orders the reference's series is high by up to 5·10⁻⁴; the integral is not.
        assert!(loose < rdp + 1e-4, "{steps:?}: {loose} by Rényi orders, reference {rdp}");
        assert!(loose > rdp * 0.9995 - 1e-4, "{steps:?}: {loose} by Rényi orders, reference {rdp}");
        let tight = composition.epsilon(delta).unwrap();
        // The reference is an upper bound too, some 10⁻⁵ above the truth.
        assert!(tight > pld * (1.0 - 1e-5) - 1e-6, "{steps:?}: {tight} is under the reference {pld}");
        assert!(tight < pld * 1.01, "{steps:?}: {tight} is far above the reference {pld}");
    }
}

/// `P(N(0, 1) > t)`.
fn upper(t: f64) -> f64 {
    0.5 * libm::erfc(t / core::f64::consts::SQRT_2)
}

/// `ε` at which a decreasing `δ(ε)` is `delta`.
fn solve(delta: f64, curve: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 1e4);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if curve(middle) > delta { low = middle } else { high = middle }
    }
    low
}

/// Without sampling, `T` steps are one Gaussian of `z/√T`, whose curve is known (Balle and Wang 2018, theorem 8).
#[test]
fn the_gaussian_is_never_under_its_closed_form() {
    for z in [0.3, 1.0, 40.0] {
        for count in [1, 2, 30] {
            for delta in [0.1, 1e-5, 1e-40] {
                let one = z / libm::sqrt(count as f64);
                let exact = solve(delta, |epsilon: f64| {
                    let (near, far) = (epsilon * one - 0.5 / one, epsilon * one + 0.5 / one);
                    upper(near) - libm::exp(epsilon + libm::log(upper(far)))
                });
                let bound = composed(&[(1.0, z, count)]).epsilon(delta).unwrap();
                assert!(bound >= exact * (1.0 - 1e-12), "z {z}, {count}, {delta}: {bound} < {exact}");
                assert!(bound <= exact * 1.002 + 1e-9, "z {z}, {count}, {delta}: {bound} > {exact}");
            }
        }
    }
}

/// One sampled step: both directions' curves are known.
#[test]
fn one_sampled_step_is_never_under_its_closed_form() {
    for q in [0.001, 0.3, 0.99] {
        for z in [0.3, 2.0] {
            for delta in [1e-2, 1e-5, 1e-9] {
                // A(x > t) and B(x > t) at the place where ln(A/B) is ±ε.
                let place = |ratio: f64| 0.5 + z * z * libm::log1p(libm::expm1(ratio) / q);
                let b = |t: f64| upper(t / z);
                let a = |t: f64| (1.0 - q) * upper(t / z) + q * upper((t - 1.0) / z);
                let removed = solve(delta, |e| a(place(e)) - libm::exp(e) * b(place(e)));
                let added = solve(delta, |e| {
                    if libm::exp(-e) <= 1.0 - q {
                        return 0.0;
                    }
                    let t = place(-e);
                    (1.0 - b(t)) - libm::exp(e) * (1.0 - a(t))
                });
                let exact = removed.max(added);
                let bound = composed(&[(q, z, 1)]).epsilon(delta).unwrap();
                assert!(bound >= exact - 1e-12, "q {q}, z {z}, {delta}: {bound} < {exact}");
                assert!(bound <= exact * 1.002 + 1e-6, "q {q}, z {z}, {delta}: {bound} > {exact}");
            }
        }
    }
}

/// Another way to the truth for a few sampled steps: convolve a fine optimistic grid by plain sums.
/// Rounding every loss *down* gives a lower bound on `δ`, hence on `ε`.
#[test]
fn composed_sampled_steps_are_not_under_an_optimistic_grid() {
    let (q, z, h) = (0.05, 0.8, 0.004);
    let density = |x: f64| libm::exp(-x * x / (2.0 * z * z)) / (z * 2.506_628_274_631);
    let mut one = alloc::collections::BTreeMap::<i64, f64>::new();
    for i in 0..60_000 {
        let x = -6.0 + 14.0 * (f64::from(i) + 0.5) / 60_000.0;
        let loss = libm::log1p(q * libm::expm1((2.0 * x - 1.0) / (2.0 * z * z)));
        let mass = ((1.0 - q) * density(x) + q * density(x - 1.0)) * 14.0 / 60_000.0;
        *one.entry(libm::floor(loss / h) as i64).or_default() += mass;
    }
    let mut sum: Vec<(i64, f64)> = alloc::vec![(0, 1.0)];
    for _ in 0..3 {
        let mut next = alloc::collections::BTreeMap::<i64, f64>::new();
        for &(i, p) in &sum {
            for (&j, &r) in &one {
                *next.entry(i + j).or_default() += p * r;
            }
        }
        sum = next.into_iter().filter(|&(_, p)| p > 1e-18).collect();
    }
    let optimistic = solve(1e-5, |e| {
        let gained = |l: f64| if l > e { 1.0 - libm::exp(e - l) } else { 0.0 };
        sum.iter().map(|&(i, p)| p * gained(i as f64 * h)).sum()
    });
    let bound = composed(&[(q, z, 3)]).epsilon(1e-5).unwrap();
    assert!(bound > optimistic, "{bound} < {optimistic}");
    assert!(bound < optimistic + 3.0 * h + 0.002, "{bound} is far above {optimistic}");
}

#[test]
fn the_tighter_bound_is_under_the_looser_one() {
    for q in [1e-4, 0.01, 0.3] {
        for z in [0.5, 2.0] {
            for count in [1, 1_000] {
                for delta in [1e-4, 1e-9] {
                    let composition = composed(&[(q, z, count)]);
                    let (tight, loose) =
                        (composition.epsilon(delta).unwrap(), composition.epsilon_rdp(delta).unwrap());
                    assert!(tight <= loose * 1.001, "q {q} z {z} T {count} δ {delta}: {tight} > {loose}");
                    assert!(tight > 0.2 * loose - 0.4, "q {q} z {z} T {count} δ {delta}: {tight} ≪ {loose}");
                }
            }
        }
    }
}

/// With little noise, the weight of `E[e^{(α−1)·loss}]` lies where densities underflow. There, for `q·e^{1/2z²} ≫ 1`, it is
/// `q^α·e^{α(α−1)/2z²}` but for a factor that is next to 1.
#[test]
fn renyi_orders_are_right_where_densities_underflow() {
    for (q, z) in [(1e-9, 0.01), (1e-3, 0.05), (0.3, 0.02)] {
        let delta = 1e-5;
        let order = |alpha: f64| {
            let moment = alpha * libm::log(q) + alpha * (alpha - 1.0) / (2.0 * z * z);
            (moment - libm::log(delta) - libm::log(alpha)) / (alpha - 1.0) + libm::log1p(-1.0 / alpha)
        };
        let known = (11..110).map(|tenths| order(f64::from(tenths) / 10.0)).fold(f64::INFINITY, f64::min);
        let loose = composed(&[(q, z, 1)]).epsilon_rdp(delta).unwrap();
        assert!((loose / known - 1.0).abs() < 1e-3, "q {q}, z {z}: {loose}, known {known}");
    }
}

#[test]
fn more_of_anything_bad_is_worse() {
    let epsilon = |q, z, count, delta| composed(&[(q, z, count)]).epsilon(delta).unwrap();
    let base = epsilon(0.05, 1.0, 60, 1e-5);
    assert!(epsilon(0.05, 1.0, 61, 1e-5) > base);
    assert!(epsilon(0.051, 1.0, 60, 1e-5) > base);
    assert!(epsilon(0.05, 0.99, 60, 1e-5) > base);
    assert!(epsilon(0.05, 1.0, 60, 0.9e-5) > base);
    let mut with_gap = Composition::new();
    with_gap.push(Step { sampling_rate: 0.05, noise_multiplier: 1.0, count: 60, gap: 1e-6 }).unwrap();
    let gapped = with_gap.epsilon(1e-5).unwrap();
    assert!(gapped > base + 1e-4 && gapped < base + 2e-4, "{gapped} over {base}");
}

#[test]
fn ten_thousand_steps_of_sixteen_kinds() {
    let steps: Vec<(f64, f64, u64)> =
        (0..16).map(|i| (0.005 + 0.001 * f64::from(i), 0.9 + 0.05 * f64::from(i), 625)).collect();
    let composition = composed(&steps);
    let (tight, loose) = (composition.epsilon(1e-5).unwrap(), composition.epsilon_rdp(1e-5).unwrap());
    assert!(tight < loose && tight > 0.85 * loose, "{tight} of {loose}");
}

#[test]
fn equal_steps_are_counted_together_and_order_does_not_matter() {
    let one = composed(&[(0.1, 2.0, 60), (0.2, 3.0, 5), (0.1, 2.0, 40)]);
    assert_eq!(one.steps().len(), 2);
    assert_eq!(one.count(), 105);
    let other = composed(&[(0.2, 3.0, 5), (0.1, 2.0, 100)]);
    let (a, b) = (one.epsilon(1e-6).unwrap(), other.epsilon(1e-6).unwrap());
    assert!((a - b).abs() < 1e-9);
    assert_eq!(Composition::new().epsilon(1e-6).unwrap(), 0.0);
    assert_eq!(Composition::new().epsilon_rdp(1e-6).unwrap(), 0.0);
}

#[test]
fn the_least_noise_keeps_the_budget_and_a_thousandth_less_does_not() {
    for (epsilon, delta, q, steps) in [(4.0, 1e-5, 0.05, 60), (1.0, 1e-6, 0.01, 500), (8.0, 1e-5, 1.0, 20)] {
        let z = noise_multiplier(epsilon, delta, q, steps).unwrap();
        assert!(composed(&[(q, z, steps)]).epsilon(delta).unwrap() <= epsilon);
        assert!(composed(&[(q, z - 0.001, steps)]).epsilon(delta).unwrap() > epsilon);
    }
    let never = noise_multiplier(1e-9, 1e-12, 1.0, 1_000);
    assert!(matches!(never, Err(PrivacyError::Unreachable { .. })), "{never:?}");
}

#[test]
fn remaining_steps_are_the_last_that_fit() {
    let step = Step { sampling_rate: 0.05, noise_multiplier: 1.0, count: 0, gap: 0.0 };
    let spent = composed(&[(0.05, 1.0, 10), (0.1, 2.0, 5)]);
    let more = spent.remaining(step, 4.0, 1e-5, 1_000).unwrap();
    let after = |count| {
        let mut composition = spent.clone();
        composition.push(Step { count, ..step }).unwrap();
        composition.epsilon(1e-5).unwrap()
    };
    assert!(after(more) <= 4.0 && after(more + 1) > 4.0, "{more}");
    assert_eq!(spent.remaining(step, 0.5, 1e-5, 1_000).unwrap(), 0);
    assert_eq!(spent.remaining(step, 40.0, 1e-5, 30).unwrap(), 30);
}

/// The example that the plan's numbers are checked with: five organizations, threshold such that three
/// honest shares are in every sum, 44,949 coordinates.
#[test]
fn a_mechanism_has_two_guarantees() {
    let sensitivity = 860.0;
    let params = MechanismParams {
        sampling_rate: 512.0 / 9496.0,
        sigma_i: 0.8 * sensitivity / libm::sqrt(3.0),
        shares: 3,
        sensitivity,
        dimension: 44_951,
    };
    let coordinator = Mechanism::new(params).unwrap();
    let everybody = Mechanism::new(MechanismParams { shares: 1, ..params }).unwrap();
    assert!((coordinator.noise_multiplier() - 0.8).abs() < 1e-4 && coordinator.noise_multiplier() < 0.8);
    assert!(coordinator.gap() < 1e-18 && everybody.gap() < 1e-18);
    let epsilon = |mechanism: &Mechanism| {
        let mut composition = Composition::new();
        composition.push(mechanism.steps(60)).unwrap();
        composition.epsilon(1e-5).unwrap()
    };
    let (central, local) = (epsilon(&coordinator), epsilon(&everybody));
    assert!((4.5..5.5).contains(&central), "{central}");
    assert!((15.0..20.0).contains(&local), "{local}");
}

/// At `σ_i = 2.5` the gap is what the formula says: 10·exp(−2π²·6.25/2) a coordinate for two shares.
#[test]
fn the_gap_follows_its_formula() {
    let params =
        MechanismParams { sampling_rate: 1.0, sigma_i: 2.5, shares: 2, sensitivity: 1.0, dimension: 1_000 };
    let gap = Mechanism::new(params).unwrap().gap();
    assert!((gap / (1_000.0 * 10.0 * 1.623e-27) - 1.0).abs() < 0.01, "{gap}");
    let alone = Mechanism::new(MechanismParams { shares: 1, sigma_i: 3.0, ..params }).unwrap();
    assert!(alone.gap() < 1e-48);
    assert!((alone.noise_multiplier() - libm::sqrt(9.0 - 6.25)).abs() < 1e-12);
}

#[test]
fn numbers_out_of_range_are_refused() {
    let good =
        MechanismParams { sampling_rate: 0.1, sigma_i: 100.0, shares: 3, sensitivity: 100.0, dimension: 10 };
    assert!(Mechanism::new(good).is_ok());
    for bad in [
        MechanismParams { sampling_rate: 0.0, ..good },
        MechanismParams { sampling_rate: 1.1, ..good },
        MechanismParams { sampling_rate: f64::NAN, ..good },
        MechanismParams { sigma_i: 2.4, ..good },
        MechanismParams { sigma_i: f64::INFINITY, ..good },
        MechanismParams { shares: 0, ..good },
        MechanismParams { sensitivity: 0.0, ..good },
        MechanismParams { sensitivity: 1e9, ..good },
        MechanismParams { dimension: 0, ..good },
    ] {
        assert!(Mechanism::new(bad).is_err(), "{bad:?}");
    }
    let step = Step { sampling_rate: 0.1, noise_multiplier: 1.0, count: 1, gap: 0.0 };
    for bad in [
        Step { sampling_rate: -0.1, ..step },
        Step { noise_multiplier: 0.0, ..step },
        Step { noise_multiplier: f64::NAN, ..step },
        Step { gap: -1.0, ..step },
        Step { count: 2_000_000_000, ..step },
    ] {
        assert!(Composition::new().push(bad).is_err(), "{bad:?}");
    }
    for delta in [0.0, 1.0, -1e-5, f64::NAN] {
        assert!(composed(&[(0.1, 1.0, 1)]).epsilon(delta).is_err());
        assert!(composed(&[(0.1, 1.0, 1)]).epsilon_rdp(delta).is_err());
    }
    assert!(noise_multiplier(0.0, 1e-5, 0.1, 10).is_err());
    assert!(noise_multiplier(1.0, 1e-5, 2.0, 10).is_err());
}
