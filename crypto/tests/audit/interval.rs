//! Exact confidence bounds on a probability (Clopper and Pearson, 1934), from the regularized incomplete beta function.

/// Least probability that `hits` of `trials` are compatible with: were it lower, so many or more would come with a chance
/// below `risk`.
pub(crate) fn at_least(hits: u64, trials: u64, risk: f64) -> f64 {
    if hits == 0 { 0.0 } else { quantile(hits as f64, (trials - hits) as f64 + 1.0, risk) }
}

/// Greatest probability that `hits` of `trials` are compatible with.
pub(crate) fn at_most(hits: u64, trials: u64, risk: f64) -> f64 {
    if hits >= trials { 1.0 } else { 1.0 - quantile((trials - hits) as f64, hits as f64 + 1.0, risk) }
}

/// The `x` at which `I_x(a, b) = p`.
fn quantile(a: f64, b: f64, p: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..90 {
        let middle = (low + high) / 2.0;
        if incomplete_beta(a, b, middle) < p { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// `I_x(a, b)` for `x` in `(0, 1)`, by the continued fraction that converges on its side of the mean.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let log = libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * x.ln() + b * (-x).ln_1p();
    let (mut c, mut d) = (1.0, 1.0 / (1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for m in 1..20_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        for term in [even, odd] {
            d = 1.0 / (1.0 + term * d);
            c = 1.0 + term / c;
            fraction *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    log.exp() * fraction / a
}
