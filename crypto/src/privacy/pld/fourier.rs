//! A fast Fourier transform over powers of two (Cooley and Tukey, 1965), with an error bound.
//!
//! Every output is a sum of inputs times roots of unity, built in `log₂ n` stages of one multiplication and
//! one addition; with roots correct to a unit in the last place, each stage adds at most about `5u` times the
//! sum of the inputs' magnitudes (`u = 2⁻⁵³`; Higham, "Accuracy and Stability", theorem 24.2). [`error_bound`]
//! is three times that.

use alloc::vec::Vec;
use core::ops::{Add, Mul, Sub};

/// A complex number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Complex {
    pub(super) re: f64,
    pub(super) im: f64,
}

impl Complex {
    pub(super) const ONE: Self = Self { re: 1.0, im: 0.0 };

    pub(super) fn magnitude(self) -> f64 {
        libm::sqrt(self.re * self.re + self.im * self.im)
    }

    /// By repeated squaring.
    pub(super) fn power(self, mut exponent: u64) -> Self {
        let (mut result, mut square) = (Self::ONE, self);
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = result * square;
            }
            square = square * square;
            exponent >>= 1;
        }
        result
    }
}

impl Add for Complex {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { re: self.re + other.re, im: self.im + other.im }
    }
}

impl Sub for Complex {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { re: self.re - other.re, im: self.im - other.im }
    }
}

impl Mul for Complex {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self { re: self.re * other.re - self.im * other.im, im: self.re * other.im + self.im * other.re }
    }
}

/// Roots of unity for transforms of one size.
pub(super) struct Fourier {
    size: usize,
    /// For each stage, the roots that it needs, one after another.
    roots: Vec<Vec<Complex>>,
}

impl Fourier {
    /// For transforms of `2^log_size` numbers.
    pub(super) fn new(log_size: u32) -> Self {
        let roots = (0..log_size)
            .map(|stage| {
                let half = 1u32 << stage;
                (0..half)
                    .map(|k| {
                        let angle = -core::f64::consts::PI * f64::from(k) / f64::from(half);
                        let (im, re) = libm::sincos(angle);
                        Complex { re, im }
                    })
                    .collect()
            })
            .collect();
        Self { size: 1 << log_size, roots }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// `X_k = Σ_j x_j·e^{−2πijk/n}`, in place. `data` must have the transform's size.
    pub(super) fn transform(&self, data: &mut [Complex]) {
        let bits = self.size.trailing_zeros();
        for i in 0..data.len() {
            let j = i.reverse_bits() >> (usize::BITS - bits).min(usize::BITS - 1);
            if i < j && j < data.len() {
                data.swap(i, j);
            }
        }
        for roots in &self.roots {
            for pair in data.chunks_exact_mut(2 * roots.len()) {
                let (low, high) = pair.split_at_mut(roots.len());
                for ((a, b), &root) in low.iter_mut().zip(high).zip(roots) {
                    let turned = *b * root;
                    (*a, *b) = (*a + turned, *a - turned);
                }
            }
        }
    }

    /// Greatest error of any output, for inputs whose magnitudes sum to 1.
    pub(super) fn error_bound(&self) -> f64 {
        16.0 * f64::EPSILON / 2.0 * f64::from(self.size.trailing_zeros().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_transform_it_says() {
        for log_size in [1, 2, 3, 6] {
            let n = 1usize << log_size;
            let input: Vec<Complex> =
                (0..n).map(|i| Complex { re: 1.0 / (i + 1) as f64, im: (i * 7 % 5) as f64 / 9.0 }).collect();
            let mut fast = input.clone();
            let fourier = Fourier::new(log_size);
            fourier.transform(&mut fast);
            let sum: f64 = input.iter().map(|x| x.magnitude()).sum();
            for (k, &value) in fast.iter().enumerate() {
                let plain = input.iter().enumerate().fold(Complex::default(), |total, (j, &x)| {
                    let angle = -2.0 * core::f64::consts::PI * (j * k % n) as f64 / n as f64;
                    let (im, re) = libm::sincos(angle);
                    total + x * Complex { re, im }
                });
                assert!((plain - value).magnitude() < 2.0 * sum * fourier.error_bound());
            }
        }
    }

    #[test]
    fn large_transforms_stay_within_their_error_bound() {
        // A shifted unit impulse has a spectrum that is known exactly.
        let fourier = Fourier::new(14);
        let mut data = alloc::vec![Complex::default(); fourier.size()];
        data[4097] = Complex::ONE;
        fourier.transform(&mut data);
        for (k, &value) in data.iter().enumerate() {
            let angle = -2.0 * core::f64::consts::PI * (4097 * k % 16_384) as f64 / 16_384.0;
            let (im, re) = libm::sincos(angle);
            assert!((value - Complex { re, im }).magnitude() < fourier.error_bound());
        }
    }

    #[test]
    fn powers_are_products() {
        let x = Complex { re: 0.6, im: 0.7 };
        let mut product = Complex::ONE;
        for exponent in 0..40 {
            assert!((x.power(exponent) - product).magnitude() < 1e-13);
            product = product * x;
        }
    }
}
