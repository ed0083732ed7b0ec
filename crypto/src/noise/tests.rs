//! The sampler against the exact distribution: its tables by intervals, its draws by statistics.
//!
//! Seeds are fixed, so a statistic that passes once passes always. With other seeds, a sound sampler would fail one of
//! them once in some 10,000 times: 15 χ² statistics are each refused on either side with a chance of 10⁻⁷ (3·10⁻⁶
//! together), 29 moments and counts at five standard deviations (6·10⁻⁷ each for a normal variable; the fourth moments and
//! the counts beyond 4σ are a little less normal than that).

#![allow(clippy::unwrap_used)]

use alloc::vec;
use alloc::vec::Vec;

use rand_core::{Rng, TryCryptoRng, TryRng};

use super::exact::{Target, below_target, below_target_exactly, exp_interval};
use super::natural::Natural;
use super::statistics::{binomial_tail, chi_squared_tail};
use super::table::{STEP_BITS, Table};
use super::*;

/// `exp(−x²/2σ²)·2^256`, rounded down, by an independent decimal computation of 200 digits.
const EXPONENTIALS: [(f64, i64, &str); 5] = [
    (1.0, 1, "9b4597e37cb04ff3d675a35530cdd767e347bf8ad0e80abbce4ae95861014318"),
    (2.5, 7, "05144e550b3d8bac6b4c22d17a7917156d6dec0897a1cde59c6ee1b06415d310"),
    (1e5, 123_456, "7779a23cf32ced6efc16213ca9f5d0a6d3a649e2b7a97c0ed8409de0f91120ea"),
    (0.7, 3, "0006bb102800712caefdd83bfa5b46a28d88afe5139c69a19e91504643bbc160"),
    (1_048_576.0, 7_340_031, "00000000192d12daa72486616a44df6850c48f2579806807ff6932b704075949"),
];

fn from_hex(text: &str) -> Natural {
    text.as_bytes().chunks(16).fold(Natural::from(0), |number, digits| {
        let word = u64::from_str_radix(core::str::from_utf8(digits).unwrap(), 16).unwrap();
        number.shl(64).add(&Natural::from(word))
    })
}

#[test]
fn exponentials_are_enclosed_to_the_last_digits() {
    for (sigma, x, digits) in EXPONENTIALS {
        let (low, high) = exp_interval(x, sigma, 256);
        let known = from_hex(digits);
        assert!(low <= known && known <= high, "σ = {sigma}, x = {x}");
        assert!(high.saturating_sub(&low).bit_length() < 48, "σ = {sigma}, x = {x}");
    }
    // Far out, and at zero.
    let (low, high) = exp_interval(60, 2.5, 256);
    assert!(low.is_zero() && high.bit_length() < 48);
    assert_eq!(exp_interval(0, 2.5, 100).0, Natural::from(1).shl(100));
}

/// Every inequality that the tables' exactness rests on, checked with 192-bit intervals: floors are below the
/// target mass all over their blocks, rims reach above it, tails cover their first block.
#[test]
fn the_tables_enclose_the_target() {
    for sigma in [0.5, 0.7, 1.0, 2.5, 10.0, 31.9, 32.0, 1e3, 12_345.678, 1e5, 1_048_576.0] {
        let table = Table::new(sigma);
        let width = 1i64 << table.block_bits;
        let scaled = |x: i64| {
            let (low, high) = exp_interval(x, sigma, 192);
            let scale = Natural::from(table.scale);
            (low.mul(&scale), high.mul(&scale))
        };
        let mut starts = -table.reach;
        for (floor, top) in table.blocks() {
            let (first, last) = (scaled(starts), scaled(starts + width - 1));
            for (low, high) in [first, last] {
                assert!(Natural::from(floor).shl(192) <= low, "floor at {starts}, σ = {sigma}");
                assert!(Natural::from(top).shl(192) >= high, "rim at {starts}, σ = {sigma}");
            }
            assert_eq!(floor % (1 << STEP_BITS), 0);
            starts += width;
        }
        assert_eq!(starts, table.reach, "the blocks cover −reach to reach without a hole");
        // Integers of the tail's first block get g/2/(2^m·W); they need C·ρ/W.
        let tail_bits = super::table::tail_block_bits(sigma, table.block_bits) - table.block_bits;
        let needed = scaled(table.reach).1.shl(tail_bits + 1);
        assert!(Natural::from(table.tail).shl(192) >= needed, "tail, σ = {sigma}");
        // The fast table holds each floor, and all masses fit into 64 bits.
        let floors: u128 = table.blocks().map(|(floor, _)| u128::from(floor)).sum();
        let fast = table.fast.iter().filter(|&&j| j != super::table::SLOW).count() as u128;
        assert_eq!(floors, fast << STEP_BITS);
        let total: u128 =
            table.blocks().map(|(_, top)| u128::from(top)).sum::<u128>() + 2 * u128::from(table.tail);
        assert!(total <= 1 << 64, "σ = {sigma}");
        assert!(total > (1 << 64) - (1 << 46), "little is wasted, σ = {sigma}");
        let taken = fast as f64 / table.fast.len() as f64;
        assert!(taken > 0.9 || sigma < 1.0, "{taken} of the words are quick, σ = {sigma}");
    }
}

/// Yields the given words, then zeros.
struct Script(Vec<u64>);
impl TryRng for Script {
    type Error = core::convert::Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        self.try_next_u64().map(|word| word as u32)
    }
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(if self.0.is_empty() { 0 } else { self.0.remove(0) })
    }
    fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Self::Error> {
        unreachable!("the comparison draws words")
    }
}
impl TryCryptoRng for Script {}

/// At a tie in all 64 bits, the next digits of the exponential decide, digit by digit.
#[test]
fn ties_are_broken_by_the_next_digits() {
    for (sigma, x, digits) in EXPONENTIALS {
        let target = Target { x, sigma, scale: 1 << 63 };
        // C·exp = 2^63·e, e = 0.digits: its integer part, and the 192 bits after it.
        let value = from_hex(digits);
        let whole = value.shr(256 - 63);
        let t = u64::from_str_radix(&digits[..16], 16).unwrap() >> 1;
        assert_eq!(whole, Natural::from(t));
        let rest = value.saturating_sub(&whole.shl(256 - 63)).shl(256 - 193);
        let word = |i: u32| {
            let kept = rest.shr(64 * (3 - i)).saturating_sub(&rest.shr(64 * (4 - i)).shl(64));
            (0..64).fold(0u64, |w, b| {
                w | u64::from(!kept.shr(b).saturating_sub(&kept.shr(b + 1).shl(1)).is_zero()) << b
            })
        };
        let (first, second) = (word(0), word(1));
        for decide in [below_target, below_target_exactly] {
            assert!(decide(t, 0, &target, &mut Script(vec![first - 1])), "{sigma} {x}");
            assert!(!decide(t, 0, &target, &mut Script(vec![first + 1])));
            assert!(decide(t, 0, &target, &mut Script(vec![first, second - 1])));
            assert!(!decide(t, 0, &target, &mut Script(vec![first, second + 1])));
            assert!(decide(t - 1, 0, &target, &mut Script(vec![u64::MAX; 9])));
            assert!(!decide(t + 1, 0, &target, &mut Script(vec![])));
            // Halved heights and halved targets are the same question.
            let wide = t << 1;
            if wide >> 1 == t {
                assert!(decide(wide, 1, &target, &mut Script(vec![])));
                assert!(!decide(wide + 2, 1, &target, &mut Script(vec![])));
            }
        }
    }
    let zero = Target { x: 0, sigma: 1.0, scale: 1000 };
    assert!(below_target_exactly(999, 0, &zero, &mut Script(vec![u64::MAX; 9])));
    assert!(!below_target_exactly(1000, 0, &zero, &mut Script(vec![])));
}

/// The same when the first 192 bits tie, which the first round of intervals cannot decide.
#[test]
fn ties_past_the_first_interval_are_broken_too() {
    for (sigma, x, digits) in EXPONENTIALS {
        let word = |i: usize| u64::from_str_radix(&digits[16 * i..16 * (i + 1)], 16).unwrap();
        let target = Target { x, sigma, scale: 1 };
        let script = |last: u64| Script(vec![word(0), word(1), word(2), last]);
        assert!(below_target_exactly(0, 0, &target, &mut script(word(3) - 2)), "{sigma} {x}");
        assert!(!below_target_exactly(0, 0, &target, &mut script(word(3) + 2)), "{sigma} {x}");
    }
}

#[test]
fn both_comparisons_agree() {
    let mut rng = BulkRng::new([3; 32]);
    for _ in 0..2_000 {
        let x = i64::from(rng.next_u32() % 5_000);
        let target = Target { x, sigma: 1e3, scale: rng.next_u64() };
        let t = rng.next_u64() >> (rng.next_u32() % 24);
        let k = rng.next_u32() % 8;
        let quick = below_target(t, k, &target, &mut Script(vec![]));
        assert_eq!(quick, below_target_exactly(t, k, &target, &mut Script(vec![])), "{x} {t} {k}");
    }
}

fn draws(noise: &DiscreteGaussian, count: usize, key: u8) -> Vec<i64> {
    let mut out = vec![0; count];
    noise.fill(&mut out, &mut BulkRng::new([key; 32]));
    out
}

/// The exact distribution: `Σ_{x ∈ [from, to)} exp(−x²/2σ²) / Σ_x exp(−x²/2σ²)` by plain summation out to `12σ`, beyond
/// which lie 10⁻³².
struct Exact {
    reach: i64,
    /// `Σ_{−reach ≤ y < x}`, for each `x` from `−reach`.
    sums: Vec<f64>,
}

impl Exact {
    fn new(sigma: f64) -> Self {
        let reach = libm::ceil(12.0 * sigma) as i64;
        let mut sums = vec![0.0];
        let mut sum = 0.0;
        for x in -reach..=reach {
            sum += libm::exp(-(x as f64 / sigma) * (x as f64 / sigma) / 2.0);
            sums.push(sum);
        }
        Self { reach, sums }
    }

    fn probability(&self, from: i64, to: i64) -> f64 {
        let below = |x: i64| self.sums[(x.clamp(-self.reach, self.reach + 1) + self.reach) as usize];
        (below(to) - below(from)) / self.sums.last().unwrap()
    }
}

/// Pearson's statistic over bins of a twenty-fifth of `σ` (single integers up to `σ = 50`), the last ones open.
fn chi_squared(noise: &DiscreteGaussian, count: usize, key: u8) {
    let sigma = noise.sigma();
    let exact = Exact::new(sigma);
    let step = ((sigma / 25.0) as i64).max(1);
    let bins = (4.0 * sigma / step as f64) as i64;
    let edges: Vec<i64> = (-bins..=bins).map(|bin| bin * step).collect();
    let mut observed = vec![0u64; edges.len() + 1];
    for x in draws(noise, count, key) {
        observed[edges.partition_point(|&edge| edge <= x)] += 1;
    }
    let mut statistic = 0.0;
    for (bin, &seen) in observed.iter().enumerate() {
        let from = if bin == 0 { i64::MIN } else { edges[bin - 1] };
        let to = edges.get(bin).copied().unwrap_or(i64::MAX);
        let expected = count as f64 * exact.probability(from, to);
        statistic += (seen as f64 - expected) * (seen as f64 - expected) / expected;
    }
    let freedom = (observed.len() - 1) as f64;
    let chance = chi_squared_tail(statistic, freedom);
    assert!((1e-7..1.0 - 1e-7).contains(&chance), "σ = {sigma}: χ² = {statistic} for {freedom}: {chance}");
}

/// Against published quantiles: 5 % and 1 % of χ² with 1, 10 and 100 degrees of freedom.
#[test]
fn the_statistics_are_the_known_ones() {
    for (x, freedom, chance) in
        [(3.841_459, 1.0, 0.05), (18.307_038, 10.0, 0.05), (135.806_723, 100.0, 0.01), (9.341_818, 10.0, 0.5)]
    {
        assert!((chi_squared_tail(x, freedom) - chance).abs() < 1e-6, "{x} {freedom}");
    }
    assert!((binomial_tail(60, 100, 0.5) - 0.028_443_966_8).abs() < 1e-9);
    assert!((binomial_tail(0, 10, 0.3) - 1.0).abs() < 1e-12);
}

#[test]
fn draws_fit_the_distribution() {
    for (key, sigma) in (1..).zip([0.5, 1.0, 2.5, 3.7, 10.0, 100.0, 1e3, 1e5]) {
        chi_squared(&DiscreteGaussian::new(sigma).unwrap(), 1_000_000, key);
    }
}

/// With the tails beginning at one σ, a third of all draws come out of them.
#[test]
fn tails_fit_the_distribution() {
    for (key, sigma) in (20..).zip([0.5, 1.0, 2.5, 10.0, 1e3, 1e5]) {
        let heavy = DiscreteGaussian::with_table(sigma, Table::with_reach(sigma, 1.0));
        chi_squared(&heavy, 300_000, key);
    }
}

/// The bins see offsets within a block: every residue of a block's width is equally likely.
#[test]
fn every_integer_of_a_block_is_drawn() {
    let noise = DiscreteGaussian::new(1e3).unwrap();
    let mut residues = [0u32; 32];
    for x in draws(&noise, 320_000, 40) {
        residues[x.rem_euclid(32) as usize] += 1;
    }
    let statistic: f64 = residues.iter().map(|&n| (f64::from(n) - 1e4) * (f64::from(n) - 1e4) / 1e4).sum();
    let chance = chi_squared_tail(statistic, 31.0);
    assert!((1e-7..1.0 - 1e-7).contains(&chance), "{statistic}: {chance}");
}

#[test]
fn moments_and_tails_are_right() {
    let count = 2_000_000;
    let n = count as f64;
    for (key, sigma) in (50..).zip([2.5, 10.0, 1e3, 1e5]) {
        let exact = Exact::new(sigma);
        let values: Vec<f64> = draws(&DiscreteGaussian::new(sigma).unwrap(), count, key)
            .iter()
            .map(|&x| x as f64 / sigma)
            .collect();
        let moment = |power: i32| values.iter().map(|&v| libm::pow(v, f64::from(power))).sum::<f64>() / n;
        // Standard errors of the first four moments of a normal sample: √1, √2, √15, √96 over √n.
        assert!(moment(1).abs() < 5.0 / libm::sqrt(n), "σ = {sigma}");
        assert!((moment(2) - 1.0).abs() < 5.0 * libm::sqrt(2.0 / n), "σ = {sigma}");
        assert!(moment(3).abs() < 5.0 * libm::sqrt(15.0 / n), "σ = {sigma}");
        assert!((moment(4) - 3.0).abs() < 5.0 * libm::sqrt(96.0 / n), "σ = {sigma}");
        for reach in [2.0, 3.0, 4.0] {
            let edge = libm::ceil(reach * sigma) as i64;
            let expected = 2.0 * exact.probability(edge, i64::MAX) * n;
            let seen = values.iter().filter(|v| v.abs() * sigma >= edge as f64 - 1e-6).count() as f64;
            assert!(
                (seen - expected).abs() < 5.0 * libm::sqrt(expected) + 1.0,
                "σ = {sigma}, {reach}: {seen}"
            );
        }
    }
}

#[test]
fn adding_filling_and_sampling_are_one_distribution() {
    let noise = DiscreteGaussian::new(4.0).unwrap();
    let mut added = vec![1_000; 3_000];
    noise.add_to(&mut added, &mut BulkRng::new([9; 32]));
    let mut filled = vec![77; 3_000];
    noise.fill(&mut filled, &mut BulkRng::new([9; 32]));
    assert!(added.iter().zip(&filled).all(|(a, f)| a - 1_000 == *f));
    let mut rng = BulkRng::new([10; 32]);
    let variance = (0..40_000).map(|_| noise.sample(&mut rng).pow(2) as f64).sum::<f64>() / 40_000.0;
    assert!((variance / 16.0 - 1.0).abs() < 5.0 * libm::sqrt(2.0 / 40_000.0));
    let mut ends = [i64::MAX, i64::MIN];
    noise.add_to(&mut ends, &mut rng);
}

#[test]
fn scales_out_of_range_are_refused() {
    for sigma in [0.0, -1.0, 0.49, 1_048_577.0, f64::INFINITY, f64::NAN] {
        let refused = DiscreteGaussian::new(sigma);
        assert!(matches!(refused, Err(NoiseError::Sigma(_))), "{sigma}");
    }
    assert!(DiscreteGaussian::new(MIN_SIGMA).is_ok() && DiscreteGaussian::new(MAX_SIGMA).is_ok());
}
