use super::*;
use crate::testing::{Zeros, rng};
use alloc::vec;

fn scalar(value: u64) -> Secret<Scalar> {
    Secret::new(Scalar::from(value))
}

fn share(shares: &Shares, x: u64) -> Scalar {
    *shares.expose(x).unwrap()
}

fn reconstruct(shares: &Shares, xs: &[u64]) -> Scalar {
    let shares: Vec<_> = xs.iter().map(|x| Secret::new(share(shares, *x))).collect();
    *Weights::new(xs).unwrap().combine(shares.iter()).unwrap().expose()
}

#[test]
fn any_threshold_of_shares_gives_the_secret() {
    let mut rng = rng(1);
    for (threshold, xs) in [
        (1, vec![7]),
        (2, vec![1, 2]),
        (3, vec![5, 1, 3]),
        (4, vec![10, 2, 9, 1000]),
        (7, vec![1, 2, 3, 4, 5, 6, 65536]),
    ] {
        let secret = random_scalar(&mut rng);
        let parties = *xs.iter().max().unwrap() as usize + 10;
        let shares = Shares::deal(&secret, threshold, parties, &mut rng);
        assert_eq!(&reconstruct(&shares, &xs), secret.expose());
        if threshold > 1 {
            assert_ne!(&reconstruct(&shares, &xs[1..]), secret.expose(), "one too few");
        }
        let more: Vec<u64> = (1..=threshold as u64 + 3).collect();
        assert_eq!(&reconstruct(&shares, &more), secret.expose(), "more do no harm");
        assert!(shares.expose(0).is_none() && shares.expose(parties as u64 + 1).is_none());
        assert!(shares.expose(parties as u64).is_some());
    }
}

#[test]
fn large_cohorts_work_as_the_small_do() {
    let mut rng = rng(2);
    let secret = random_scalar(&mut rng);
    let shares = Shares::deal(&secret, 667, 1000, &mut rng);
    let xs: Vec<u64> = (1..=1000).filter(|x| x % 3 != 0).collect();
    assert_eq!(xs.len(), 667);
    assert_eq!(&reconstruct(&shares, &xs), secret.expose());
}

/// Additions give what the definition says: `Σ c_k · C(x, k)` over the coefficients as they were drawn.
#[test]
fn a_share_is_the_polynomials_value() {
    for threshold in [1, 2, 3, 7, 12] {
        let (secret, parties) = (scalar(77), 20);
        let mut same = rng(9);
        let shares = Shares::deal(&secret, threshold, parties, &mut same);
        let mut same = rng(9);
        let drawn: Vec<Scalar> = (1..threshold).map(|_| *random_scalar(&mut same).expose()).collect();
        for x in 1..=parties as u64 {
            let (mut value, mut binomial) = (*secret.expose(), 1);
            for (k, coefficient) in (1..).zip(&drawn) {
                binomial = if k > x { 0 } else { binomial * (x - k + 1) / k };
                value += coefficient * Scalar::from(binomial);
            }
            assert_eq!(share(&shares, x), value, "threshold {threshold}, party {x}");
        }
    }
}

/// Written out by hand: f(x) = 5 + 3x over parties 2 and 4 has f(2) = 11, f(4) = 17, weights 2 and -1.
#[test]
fn a_case_small_enough_to_check_by_hand() {
    let weights = Weights::new(&[2, 4]).unwrap();
    assert_eq!(weights.0, [Scalar::from(2u64), -Scalar::ONE]);
    let shares = [scalar(11), scalar(17)];
    assert_eq!(weights.combine(shares.iter()).unwrap().expose(), &Scalar::from(5u64));
}

#[test]
fn impossible_parties_are_refused() {
    assert_eq!(Weights::new(&[]).unwrap_err(), ShamirError::NoParties);
    assert_eq!(Weights::new(&[1, 0]).unwrap_err(), ShamirError::BadParty { x: 0 });
    assert_eq!(Weights::new(&[3, 1, 3]).unwrap_err(), ShamirError::BadParty { x: 3 });
    assert_eq!(Weights::new(&[65537]).unwrap_err(), ShamirError::BadParty { x: 65537 });
    let one = [scalar(1)];
    let error = Weights::new(&[1, 2]).unwrap().combine(one.iter()).unwrap_err();
    assert_eq!(error, ShamirError::ShareCount { expected: 2, got: 1 });
}

/// The coefficients of a polynomial through the shares of parties 1..=r, by solving for them in the open.
fn coefficients_from_shares(shares: &[Scalar]) -> Vec<Scalar> {
    let mut coefficients = vec![Scalar::ZERO; shares.len()];
    for (i, share) in shares.iter().enumerate() {
        // The i-th Lagrange basis polynomial, expanded.
        let (mut basis, mut denominator) = (vec![Scalar::ONE], Scalar::ONE);
        for j in (0..shares.len()).filter(|j| *j != i) {
            let root = Scalar::from(j as u64 + 1);
            denominator *= Scalar::from(i as u64 + 1) - root;
            basis.insert(0, Scalar::ZERO);
            for k in 0..basis.len() - 1 {
                let next = basis[k + 1];
                basis[k] -= next * root;
            }
        }
        let scale = share * denominator.invert();
        coefficients.iter_mut().zip(&basis).for_each(|(c, b)| *c += b * scale);
    }
    coefficients
}

/// Every coefficient but the constant is uniform: chi-square over 16 cells of its low bits and of its high
/// bits, recovered from the shares alone.
#[test]
fn coefficients_are_uniform() {
    const DRAWS: usize = 4096;
    let mut rng = rng(3);
    let mut cells = [[0u32; 16]; 4];
    for _ in 0..DRAWS {
        let dealt = Shares::deal(&scalar(42), 3, 3, &mut rng);
        let shares: Vec<Scalar> = (1..=3).map(|x| share(&dealt, x)).collect();
        let found = coefficients_from_shares(&shares);
        assert_eq!(found[0], Scalar::from(42u64));
        for (index, coefficient) in found[1..].iter().enumerate() {
            // The order is just above 2^252, so bits 248..252 of a uniform scalar are uniform, too.
            let bytes = coefficient.as_bytes();
            cells[2 * index][usize::from(bytes[0] & 15)] += 1;
            cells[2 * index + 1][usize::from(bytes[31] & 15)] += 1;
        }
    }
    let expected = DRAWS as f64 / 16.0;
    for cells in cells {
        let chi_square: f64 =
            cells.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
        // 15 degrees of freedom: above 50 with probability 1.2e-5, below 2 with 3.5e-5.
        assert!((2.0..50.0).contains(&chi_square), "{chi_square}: {cells:?}");
    }
}

/// How far the bytes of some coefficients are from uniform: a chi-square with 255 degrees of freedom for each
/// of the 31 bytes below the order's top, summed, in standard deviations from its mean; and how many bytes are
/// zero, in standard deviations from one in 256.
fn byte_statistics(coefficients: &[Scalar]) -> (f64, f64) {
    let expected = coefficients.len() as f64 / 256.0;
    let (mut chi_square, mut zeros) = (0.0, 0u32);
    for byte in 0..31 {
        let mut cells = [0u32; 256];
        coefficients.iter().for_each(|c| cells[usize::from(c.as_bytes()[byte])] += 1);
        chi_square +=
            cells.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum::<f64>();
        zeros += cells[0];
    }
    let (freedom, bytes) = (31.0 * 255.0, coefficients.len() as f64 * 31.0);
    let deviation = (bytes / 256.0 * (255.0 / 256.0)).sqrt();
    ((chi_square - freedom) / (2.0 * freedom).sqrt(), (f64::from(zeros) - bytes / 256.0) / deviation)
}

/// Every byte of every coefficient is uniform, zero as likely as any other value, for a secret of zero as for
/// any other. The same statistic finds the defect of RUSTSEC-2024-0398: leading coefficients drawn again where
/// they are zero, which in its field of 256 elements means bytes that are never zero.
#[test]
fn no_value_is_avoided_zero_least_of_all() {
    let mut rng = rng(5);
    for secret in [0, 42] {
        let mut found = [Vec::new(), Vec::new()];
        for _ in 0..20_000 {
            let shares = Shares::deal(&scalar(secret), 3, 3, &mut rng);
            // f(1), f(2) and f(0) give both coefficients of a polynomial of degree two.
            let [one, two] = [1, 2].map(|x| share(&shares, x) - Scalar::from(secret));
            let leading = (two - one - one) * Scalar::from(2u64).invert();
            found[0].push(one - leading);
            found[1].push(leading);
        }
        for coefficients in &found {
            let (chi_square, zeros) = byte_statistics(coefficients);
            // Six deviations: about one run in 10^8 for each.
            assert!(chi_square.abs() < 6.0, "chi-square {chi_square} deviations off");
            assert!(zeros.abs() < 6.0, "zero bytes {zeros} deviations off");
        }
    }
    let avoiding = |rng: &mut chacha20::ChaCha20Rng| loop {
        let drawn = *random_scalar(rng).expose();
        let mut bytes = drawn.to_bytes();
        bytes[..31].iter_mut().for_each(|byte| {
            while *byte == 0 {
                *byte = random_scalar(rng).expose().as_bytes()[0];
            }
        });
        if let Some(scalar) = Option::<Scalar>::from(Scalar::from_canonical_bytes(bytes)) {
            break scalar;
        }
    };
    let biased: Vec<Scalar> = (0..20_000).map(|_| avoiding(&mut rng)).collect();
    let (chi_square, zeros) = byte_statistics(&biased);
    assert!(chi_square > 6.0 && zeros < -6.0, "the test would not see the defect: {chi_square}, {zeros}");
}

/// A random word of zero gives the coefficient zero; nothing is drawn again. (A generator of zeros makes a
/// redrawing implementation loop for ever or skip the value.)
#[test]
fn zero_is_a_coefficient_like_any_other() {
    let dealt = Shares::deal(&scalar(9), 4, 5, &mut Zeros);
    for x in 1..=5 {
        assert_eq!(share(&dealt, x), Scalar::from(9u64), "the constant polynomial");
    }
    let mut rng = LeadingZero { words: 0, inner: rng(4) };
    let dealt = Shares::deal(&scalar(9), 3, 3, &mut rng);
    let shares: Vec<Scalar> = (1..=3).map(|x| share(&dealt, x)).collect();
    let found = coefficients_from_shares(&shares);
    assert_ne!(found[1], Scalar::ZERO);
    assert_eq!(found[2], Scalar::ZERO, "the leading coefficient, taken as drawn");
}

/// One sound draw, then one of zeros.
struct LeadingZero {
    words: usize,
    inner: chacha20::ChaCha20Rng,
}

impl rand_core::TryRng for LeadingZero {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        unreachable!("scalars are drawn as bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        unreachable!("scalars are drawn as bytes")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.words += 1;
        match self.words {
            1 => self.inner.try_fill_bytes(bytes),
            2 => {
                bytes.fill(0);
                Ok(())
            }
            _ => panic!("a coefficient was drawn again"),
        }
    }
}

impl rand_core::TryCryptoRng for LeadingZero {}
