//! Probabilities of test statistics, for tests alone: a threshold means what it says.
//!
//! The noise's unit tests and its comparison with OpenDP share this file. Nothing here is used to draw noise.

/// `P(χ² > x)` with `freedom` degrees of freedom: the regularized upper incomplete gamma function, by its series below
/// the mean and by Legendre's continued fraction above it.
pub(crate) fn chi_squared_tail(x: f64, freedom: f64) -> f64 {
    let (a, x) = (freedom / 2.0, x / 2.0);
    if x <= 0.0 {
        return 1.0;
    }
    let factor = libm::exp(a * libm::log(x) - x - libm::lgamma(a));
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        while term > sum * 1e-16 {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        return 1.0 - factor * sum;
    }
    // Lentz's method.
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1e300, 1.0 / b);
    let mut fraction = d;
    for i in 1..10_000 {
        let i = f64::from(i);
        let numerator = -i * (i - a);
        b += 2.0;
        d = 1.0 / (numerator * d + b);
        c = b + numerator / c;
        fraction *= c * d;
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    factor * fraction
}

/// `P(X ≥ k)` for `n` trials of probability `p`, strictly between 0 and 1, by summation.
pub(crate) fn binomial_tail(k: u64, n: u64, p: f64) -> f64 {
    let term = |i: u64| {
        let (i, n) = (i as f64, n as f64);
        let ways = libm::lgamma(n + 1.0) - libm::lgamma(i + 1.0) - libm::lgamma(n - i + 1.0);
        libm::exp(ways + i * libm::log(p) + (n - i) * libm::log1p(-p))
    };
    (k..=n).map(term).sum()
}
