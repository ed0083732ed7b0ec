//! The sensitivity under adversarial gradients, the rounding's statistics, and the way to the ring and back.

#![allow(clippy::unwrap_used)]

use alloc::vec;
use alloc::vec::Vec;

use rand_core::Rng;

use super::*;
use crate::noise::{BulkRng, DiscreteGaussian};

const DEMO: EncodingParams = EncodingParams {
    dimension: 44_949,
    clip: 1.0,
    scale: 848.0,
    metrics_share: 0.05,
    loss_max: 5.0,
    beta: 0.01,
};

fn encoding(dimension: u32, clip: f64, scale: f64, beta: f64) -> Encoding {
    Encoding::new(EncodingParams { dimension, clip, scale, beta, ..DEMO }).unwrap()
}

/// One patient's integers, if the patient was counted.
fn alone(encoding: &Encoding, gradient: &[f32], loss: f32, correct: bool, key: u8) -> Option<Vec<i64>> {
    let mut lot = LotSum::new(encoding);
    match lot.add_patient(gradient, loss, correct, &mut BulkRng::new([key; 32])).unwrap() {
        Patient::Counted => Some(lot.values().to_vec()),
        Patient::Dropped => None,
    }
}

#[test]
fn a_lot_has_the_rate_that_the_plan_says() {
    let mut rng = BulkRng::new([1; 32]);
    let lots: Vec<Vec<usize>> = (0..200).map(|_| draw_lot(0.05, 10_000, &mut rng)).collect();
    let drawn: usize = lots.iter().map(Vec::len).sum();
    // 100,000 expected; the standard deviation is 308.
    assert!(drawn.abs_diff(100_000) < 1_600, "{drawn}");
    // Sizes vary as a binomial's do, 475, and each patient is drawn as often as any other: neither holds for lots of
    // one size, or of the first that come.
    let spread = lots.iter().map(|lot| (lot.len() as f64 - 500.0).powi(2)).sum::<f64>() / 200.0;
    assert!((300.0..700.0).contains(&spread), "{spread}");
    let late = lots.iter().flatten().filter(|&&patient| patient >= 5_000).count();
    assert!(late.abs_diff(50_000) < 1_200, "{late}");
    assert_eq!(draw_lot(1.0, 3, &mut rng), [0, 1, 2]);
    assert!(draw_lot(1e-12, 1000, &mut rng).is_empty() && draw_lot(f64::NAN, 1000, &mut rng).is_empty());
}

/// Time and randomness that the noise takes cannot tell of the data: the sampler is not even shown them. Two lots, one
/// empty, one full, get the same noise from one key, and leave the generator at one place.
#[test]
fn noise_is_drawn_without_a_look_at_the_data() {
    let encoding = encoding(500, 1.0, 200.0, 0.01);
    let noise = DiscreteGaussian::new(50.0).unwrap();
    let mut full = LotSum::new(&encoding);
    let mut rng = BulkRng::new([13; 32]);
    for patient in 0..40u8 {
        let gradient: Vec<f32> = (0..500).map(|_| rng.next_u32() as i32 as f32 * 1e-10).collect();
        assert_eq!(full.add_patient(&gradient, 1.0, patient % 2 == 0, &mut rng), Ok(Patient::Counted));
    }
    let sum = full.values().to_vec();
    assert!(sum.iter().any(|&value| value != 0));
    let finish = |lot: LotSum| {
        let mut rng = BulkRng::new([14; 32]);
        let values = centered_sum(&lot.finish(1 << 30, &noise, 32, &mut rng).unwrap(), 32);
        (values, rng.next_u64())
    };
    let ((with, after), (alone, after_alone)) = (finish(full), finish(LotSum::new(&encoding)));
    assert_eq!(after, after_alone);
    assert!(with.iter().zip(&sum).zip(&alone).all(|((with, sum), alone)| with - sum == *alone));
}

fn norm_squared(values: &[i64]) -> u128 {
    values.iter().map(|&z| u128::from(z.unsigned_abs()).pow(2)).sum()
}

#[test]
fn the_bound_is_the_written_formula() {
    let encoding = Encoding::new(DEMO).unwrap();
    let (c, d) = (848.0f64, 44_951.0f64);
    let expected = c * c + d / 4.0 + libm::sqrt(2.0 * libm::log(100.0)) * (c + libm::sqrt(d) / 2.0);
    assert_eq!(encoding.integer_bound_squared(), expected as u64);
    assert_eq!(encoding.integer_bound_squared(), 733_237);
    let bound = encoding.integer_bound();
    assert!(bound * bound >= 733_237.0 && bound * bound < 733_237.001);
    // s·C = 4√d costs about 1 %, 8√d about 0.4 %.
    assert!((1.005..1.015).contains(&(bound / 848.0)));
    let wide = Encoding::new(EncodingParams { scale: 1696.0, ..DEMO }).unwrap().integer_bound() / 1696.0;
    assert!((1.002..1.005).contains(&wide), "{wide}");
    // Few coordinates and a tiny β: rounding can add no more than √d, and that is the smaller bound.
    let certain = self::encoding(1, 1.0, 10.0, 1e-30).integer_bound();
    assert!((certain - libm::sqrt(137.0)).abs() < 1e-9, "⌊(10 + √3)²⌋ = ⌊137.6⌋, {certain}");
}

#[test]
fn no_gradient_gets_past_the_bound() {
    let mut rng = BulkRng::new([1; 32]);
    for (round, dimension) in [1u32, 2, 7, 2_047, 2_049, 10_000].into_iter().cycle().take(60).enumerate() {
        let d = dimension as usize;
        let clip = [1.0, 1e-3, 37.5][round % 3];
        // From scales at which rounding is nearly everything to fine ones.
        let scale = [4.0, 0.2, 64.0, 1.0][round % 4] * (1.0 + libm::sqrt(d as f64)).max(6.0) / clip;
        let encoding = encoding(dimension, clip, scale, [0.01, 0.5, 1e-12][round % 3]);
        let noisy: Vec<f32> = (0..d).map(|_| rng.next_u32() as i32 as f32 * 1e-9).collect();
        let at_clip = (clip * libm::sqrt(0.95 / d as f64)) as f32;
        let mut spike = vec![0.0; d];
        spike[d / 2] = f32::MAX;
        // Half a unit on every coordinate: the rounding's variance is greatest.
        let halves = vec![(0.5 / scale) as f32; d];
        let gradients = [
            noisy,
            vec![at_clip; d],
            vec![-at_clip * 1.0001; d],
            vec![f32::MAX; d],
            vec![f32::MIN; d],
            vec![f32::MIN_POSITIVE / 8.0; d],
            vec![0.0; d],
            spike,
            halves,
        ];
        for gradient in gradients {
            for (loss, correct) in [(0.0, false), (1e30, true), (-1.0, true)] {
                let values = alone(&encoding, &gradient, loss, correct, round as u8).unwrap();
                let norm = norm_squared(&values);
                let bound = encoding.integer_bound_squared();
                assert!(norm <= u128::from(bound), "round {round}: {norm} > {bound}");
            }
        }
    }
}

#[test]
fn what_is_not_finite_is_dropped_and_leaves_no_trace() {
    let encoding = encoding(100, 1.0, 50.0, 0.01);
    let good = vec![0.01f32; 100];
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in [0, 50, 99] {
            let mut gradient = good.clone();
            gradient[place] = bad;
            assert_eq!(alone(&encoding, &gradient, 1.0, true, 2), None);
        }
        assert_eq!(alone(&encoding, &good, bad, true, 2), None);
    }
    let mut lot = LotSum::new(&encoding);
    let mut rng = BulkRng::new([3; 32]);
    assert_eq!(lot.add_patient(&[f32::NAN; 100], 1.0, true, &mut rng), Ok(Patient::Dropped));
    assert!(lot.values().iter().all(|&z| z == 0));
    let short = lot.add_patient(&good[..99], 1.0, true, &mut rng);
    assert_eq!(short, Err(EncodingError::Length { expected: 100, got: 99 }));
    assert!(lot.values().iter().all(|&z| z == 0));
}

#[test]
fn rounding_is_the_written_floor() {
    let mut rng = BulkRng::new([4; 32]);
    for _ in 0..100_000 {
        let shift = rng.next_u32() % 46;
        let whole = (rng.next_u64() as i64) >> 18 >> shift;
        let random = rng.next_u32() as u16;
        let expected = (whole + i64::from(random)) >> 16;
        assert_eq!(i64::from(round::round(whole as f64, random)), expected, "{whole} {random}");
    }
    assert_eq!(round::round(-0.4, 0), 0);
    assert_eq!(round::round(-65_536.0, 65_535), -1);
    assert_eq!(round::round(-65_537.0, 0), -2);
    assert_eq!(round::round(65_535.0, 1), 1);
}

/// Means, variances and products of neighbouring coordinates over many roundings of one vector.
#[test]
fn rounding_is_unbiased_and_independent() {
    const TIMES: usize = 20_000;
    let values: Vec<f32> = (0..64).map(|i| (i as f32 - 32.0) * 0.173).collect();
    let mut rng = BulkRng::new([5; 32]);
    let (mut sums, mut squares, mut products) = ([0i64; 64], [0.0f64; 64], [0.0f64; 63]);
    let mut out = [0i32; 64];
    for _ in 0..TIMES {
        let norm = round::stochastic(&values, 1.0, &mut out, &mut rng);
        assert_eq!(norm, out.iter().map(|&z| (z * z) as u64).sum::<u64>());
        let error = |i: usize| f64::from(out[i]) - f64::from(values[i]);
        for i in 0..64 {
            sums[i] += i64::from(out[i]);
            squares[i] += error(i) * error(i);
            if i > 0 {
                products[i - 1] += error(i - 1) * error(i);
            }
        }
    }
    let n = TIMES as f64;
    for i in 0..64 {
        let value = f64::from(values[i]);
        let part = value - libm::floor(value);
        let variance = part * (1.0 - part);
        let mean = sums[i] as f64 / n;
        assert!((mean - value).abs() < 5.0 * libm::sqrt(variance / n) + 1e-5, "{value} → {mean}");
        assert!((squares[i] / n - variance).abs() < 5.0 * 0.5 / libm::sqrt(n), "{value}");
    }
    // A product of independent errors has mean 0 and a standard deviation of at most 1/4.
    for (i, product) in products.iter().enumerate() {
        assert!((product / n).abs() < 5.0 * 0.25 / libm::sqrt(n), "{i} and {}", i + 1);
    }
}

/// At a scale where rounding exceeds the bound often, refused draws are drawn again, not let through and not
/// lost: counted here by how many random bytes went.
#[test]
fn a_rounding_over_the_bound_is_drawn_again() {
    struct Counting(BulkRng, usize);
    impl rand_core::TryRng for Counting {
        type Error = core::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            self.0.try_next_u32()
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            self.0.try_next_u64()
        }
        fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
            self.1 += dst.len();
            self.0.try_fill_bytes(dst)
        }
    }
    impl rand_core::TryCryptoRng for Counting {}

    // Every coordinate at half a unit and the whole at the clip: about one rounding in 130 is too long.
    let params = EncodingParams { dimension: 998, scale: 15.82, metrics_share: 1e-6, beta: 0.5, ..DEMO };
    let encoding = Encoding::new(params).unwrap();
    let gradient = vec![1.0f32; 998];
    let mut rng = Counting(BulkRng::new([6; 32]), 0);
    for _ in 0..4_000 {
        let mut lot = LotSum::new(&encoding);
        assert_eq!(lot.add_patient(&gradient, 0.0, false, &mut rng), Ok(Patient::Counted));
        assert!(norm_squared(lot.values()) <= u128::from(encoding.integer_bound_squared()));
    }
    let again = rng.1 as f64 / (2.0 * 1_000.0) - 4_000.0;
    assert!((8.0..80.0).contains(&again), "{again} of 4,000 drawn again");
}

#[test]
fn a_clipped_patient_keeps_its_direction_and_a_small_one_its_length() {
    let encoding = encoding(1_000, 2.0, 4_000.0, 0.01);
    let direction: Vec<f32> = (0..1_000).map(|i| libm::sinf(i as f32)).collect();
    let norm = libm::sqrt(direction.iter().map(|&v| f64::from(v) * f64::from(v)).sum());
    for (length, kept) in [(1.0, 1.0), (1e6, 2.0 * libm::sqrt(0.95) * (1.0 - 1.0 / 1024.0))] {
        let gradient: Vec<f32> = direction.iter().map(|&v| (f64::from(v) / norm * length) as f32).collect();
        let values = alone(&encoding, &gradient, 0.0, false, 7).unwrap();
        for (&z, &v) in values.iter().zip(&direction) {
            let expected = f64::from(v) / norm * kept * 4_000.0;
            assert!((z as f64 - expected).abs() < 1.0 + 1e-3, "{z} for {expected}");
        }
    }
}

#[test]
fn metrics_come_back_out_of_the_sum() {
    let encoding = encoding(500, 1.0, 200.0, 0.01);
    let mut lot = LotSum::new(&encoding);
    let mut rng = BulkRng::new([8; 32]);
    for patient in 0..400 {
        let loss = [0.5, 1.5, 99.0, -3.0][patient % 4];
        assert_eq!(lot.add_patient(&[0.01; 500], loss, patient % 4 == 0, &mut rng), Ok(Patient::Counted));
    }
    let sum = lot.values().to_vec();
    // Losses are clipped to [0, 5]: mean (0.5 + 1.5 + 5 + 0)/4. A quarter is correct.
    let metrics = encoding.metrics(&sum, 400.0, 1, 1, 0.0).unwrap();
    assert!((metrics.loss - 1.75).abs() < 0.02, "{metrics:?}");
    assert!((metrics.accuracy - 0.25).abs() < 0.004, "{metrics:?}");
    // Of a plan for five organizations with 500 patients together, four survived.
    let part = encoding.metrics(&sum, 500.0, 4, 5, 10.0).unwrap();
    assert!((part.loss - metrics.loss).abs() < 1e-12);
    let unit = 200.0 * libm::sqrt(0.05 / 2.0) * (1.0 - 1.0 / 1024.0);
    assert!((part.accuracy_deviation - 10.0 / unit / 400.0).abs() < 1e-12);
    assert!((part.loss_deviation - 5.0 * 10.0 / unit / 400.0).abs() < 1e-12);
    assert_eq!(encoding.metrics(&sum[1..], 500.0, 4, 5, 0.0), None);
    assert_eq!(encoding.metrics(&sum, 500.0, 0, 5, 0.0), None);
    assert_eq!(encoding.metrics(&sum, 500.0, 1, 0, 0.0), None);
    assert_eq!(encoding.metrics(&sum, f64::NAN, 1, 1, 0.0), None);
}

#[test]
fn a_sum_from_elsewhere_is_taken_up_to_the_bound_exactly() {
    let encoding = encoding(3, 1.0, 100.0, 0.01);
    let squared = encoding.integer_bound_squared();
    let root = libm::floor(libm::sqrt(squared as f64)) as i64;
    let check = |values: [i64; 5], patients| LotSum::from_clipped(&encoding, values.to_vec(), patients).err();
    assert_eq!(check([root, 0, 0, 0, 0], 1), None);
    assert!(matches!(check([root + 1, 0, 0, 0, 0], 1), Some(EncodingError::Norm { .. })));
    assert_eq!(check([0, -7 * root, 0, 0, 0], 7), None);
    assert!(check([0, -7 * root, 0, 0, 7], 6).is_some(), "metrics count, and so does every patient");
    // An empty lot's sum is zero.
    assert_eq!(check([0; 5], 0), None);
    assert!(check([0, 0, 1, 0, 0], 0).is_some());
    // Values whose squares do not fit are not wrapped into small ones.
    for value in [i64::MIN, i64::MAX, 1 << 32, 1 << 62] {
        assert!(check([value; 5], 1_000_000).is_some(), "{value}");
    }
    let error = LotSum::from_clipped(&encoding, vec![0; 4], 1).unwrap_err();
    assert_eq!(error, EncodingError::Length { expected: 5, got: 4 });
    // What was summed here passes, and then counts like any other.
    let mut lot = LotSum::new(&encoding);
    let mut rng = BulkRng::new([15; 32]);
    for _ in 0..50 {
        assert_eq!(lot.add_patient(&[3.0, 0.0, -4.0], 5.0, true, &mut rng), Ok(Patient::Counted));
    }
    let values = lot.values().to_vec();
    let mut taken = LotSum::from_clipped(&encoding, values.clone(), 50).unwrap();
    assert_eq!(taken.values(), values);
    assert_eq!(taken.add_patient(&[0.1; 3], 0.0, false, &mut rng), Ok(Patient::Counted));
}

#[test]
fn an_empty_lot_still_carries_noise() {
    let encoding = encoding(20_000, 1.0, 600.0, 0.01);
    let noise = DiscreteGaussian::new(300.0).unwrap();
    let ring = LotSum::new(&encoding).finish(1_000_000, &noise, 24, &mut BulkRng::new([9; 32])).unwrap();
    assert_eq!(ring.len(), 20_002);
    assert!(ring.iter().all(|&value| value < 1 << 24));
    let values = centered_sum(&ring, 24);
    let variance = values.iter().map(|&v| (v * v) as f64).sum::<f64>() / 20_002.0;
    assert!((variance / 90_000.0 - 1.0).abs() < 5.0 * libm::sqrt(2.0 / 20_002.0), "{variance}");
}

#[test]
fn finishing_clamps_adds_noise_and_reduces() {
    let encoding = encoding(3, 1.0, 1e6, 0.01);
    let noise = DiscreteGaussian::new(2.5).unwrap();
    let finish = |clamp, width| {
        let mut lot = LotSum::new(&encoding);
        let mut rng = BulkRng::new([10; 32]);
        assert_eq!(lot.add_patient(&[0.9, -0.2, 0.0], 5.0, true, &mut rng), Ok(Patient::Counted));
        lot.finish(clamp, &noise, width, &mut BulkRng::new([11; 32]))
    };
    let wide = centered_sum(&finish(1 << 40, 32).unwrap(), 32);
    assert!((wide[0] - 900_000).abs() < 30 && (wide[1] + 200_000).abs() < 30 && wide[2].abs() < 30);
    let clamped = centered_sum(&finish(150_000, 32).unwrap(), 32);
    assert!((clamped[0] - 150_000).abs() < 30 && (clamped[1] + 150_000).abs() < 30);
    assert_eq!(wide[2], clamped[2]);
    // A narrow ring wraps, and nothing else.
    let narrow = centered_sum(&finish(1 << 40, 18).unwrap(), 18);
    assert!(narrow.iter().zip(&wide).all(|(n, w)| (w - n) % (1 << 18) == 0 && n.abs() <= 1 << 17));
    assert!(finish(1, 1).is_err() && finish(1, 33).is_err() && finish(-1, 20).is_err());
}

/// Noise comes after the clamp: a clamp on the noisy sum would show how large the private sum is.
#[test]
fn noise_is_not_clamped() {
    let encoding = encoding(1_000, 1.0, 200.0, 0.01);
    let noise = DiscreteGaussian::new(500.0).unwrap();
    let ring = LotSum::new(&encoding).finish(0, &noise, 20, &mut BulkRng::new([12; 32])).unwrap();
    assert!(centered_sum(&ring, 20).iter().any(|v| v.abs() > 500));
}

#[test]
fn lifting_is_two_complement_at_every_width() {
    for width in 1..=32u32 {
        let half = 1i64 << (width - 1);
        let ring = 1i64 << width;
        for value in [-half, -half + 1, -1, 0, 1.min(half - 1), half - 1] {
            assert_eq!(centered((value.rem_euclid(ring)) as u32, width), value, "width {width}");
        }
    }
    assert_eq!(centered(0xffff_fff8, 4), -8, "bits above the width are ignored");
    assert_eq!(centered(5, 0), 0);
}

#[test]
fn clamp_and_ring_follow_the_lot() {
    let encoding = Encoding::new(DEMO).unwrap();
    let clamp = encoding.clamp(100.0).unwrap();
    assert_eq!(clamp, (encoding.integer_bound() * 190.0) as i64);
    // Five organizations of about a hundred patients a lot: 21 bits.
    assert_eq!(encoding.ring_width(5, 102.4, 395.0).unwrap(), 21);
    let width = |n, lot, sigma| encoding.ring_width(n, lot, sigma).unwrap();
    assert!(width(10, 102.4, 395.0) > 21 && width(5, 300.0, 395.0) > 21 && width(5, 102.4, 1e6) > 21);
    // The ring holds what it must, and is no wider than it must be.
    let needed = 2.0 * (5.0 * encoding.clamp(102.4).unwrap() as f64 + 8.6 * libm::sqrt(5.0) * 395.0);
    assert!((1u64 << 21) as f64 > needed && ((1u64 << 20) as f64) < needed);
    assert!(matches!(encoding.ring_width(1_000, 1e5, 395.0), Err(EncodingError::RingTooNarrow(_))));
    assert!(encoding.ring_width(0, 100.0, 395.0).is_err());
    assert!(encoding.ring_width(5, 0.0, 395.0).is_err() && encoding.ring_width(5, 100.0, f64::NAN).is_err());
    assert!(encoding.clamp(f64::INFINITY).is_err() && encoding.clamp(1e30).is_err());
}

#[test]
fn one_contribution_is_bounded_like_a_patient_and_carries_parts_of_correct() {
    let encoding = encoding(500, 1.0, 200.0, 0.01);
    let mut rng = BulkRng::new([13; 32]);
    for delta in [[3.0f32; 500], [1e-3; 500], [f32::MAX; 500]] {
        let mut lot = LotSum::new(&encoding);
        assert_eq!(lot.add_contribution(&delta, 2.5, 0.75, &mut rng), Ok(Patient::Counted));
        assert!(norm_squared(lot.values()) <= u128::from(encoding.integer_bound_squared()));
        assert!(lot.values().iter().all(|value| value.abs() <= encoding.clamp_of_one()));
        let metrics = encoding.metrics(lot.values(), 1.0, 1, 1, 0.0).unwrap();
        // A ring unit is 1/31.6 of the accuracy here.
        assert!((metrics.accuracy - 0.75).abs() < 0.04 && (metrics.loss - 2.5).abs() < 0.2, "{metrics:?}");
    }
    let mut lot = LotSum::new(&encoding);
    for (delta, accuracy) in [(f32::NAN, 0.5), (0.1, f32::NAN)] {
        assert_eq!(lot.add_contribution(&[delta; 500], 1.0, accuracy, &mut rng), Ok(Patient::Dropped));
    }
    assert!(lot.values().iter().all(|&value| value == 0));
    // Δ of the example is 856.293.
    assert_eq!(Encoding::new(DEMO).unwrap().clamp_of_one(), 856);
}

#[test]
fn a_step_of_its_own_is_the_sum_with_noise_and_nothing_else() {
    let encoding = encoding(20_000, 1.0, 600.0, 0.01);
    let noise = DiscreteGaussian::new(900.0).unwrap();
    let noisy = LotSum::new(&encoding).finish_here(&noise, &mut BulkRng::new([14; 32]));
    let variance = noisy.iter().map(|&v| (v * v) as f64).sum::<f64>() / 20_002.0;
    assert!((variance / 810_000.0 - 1.0).abs() < 5.0 * libm::sqrt(2.0 / 20_002.0), "{variance}");
    let mut lot = LotSum::new(&encoding);
    assert_eq!(
        lot.add_patient(&[0.005; 20_000], 1.0, true, &mut BulkRng::new([15; 32])),
        Ok(Patient::Counted)
    );
    let plain = lot.values().to_vec();
    let sum = lot.finish_here(&noise, &mut BulkRng::new([14; 32]));
    assert!(sum.iter().zip(&plain).zip(&noisy).all(|((sum, plain), noise)| sum - plain == *noise));
}

#[test]
fn a_delta_is_encoded_without_randomness_and_never_wraps() {
    let encoding = encoding(3, 2.0, 100.0, 0.01);
    assert_eq!(encoding.delta_clamp(), 200);
    let encode = |delta: &[f32], loss, accuracy| {
        let (ring, counted) = encoding.encode_delta(delta, loss, accuracy, 12).unwrap();
        assert!(ring.iter().all(|&value| value < 1 << 12));
        (centered_sum(&ring, 12), counted)
    };
    let (values, counted) = encode(&[0.125, -0.135, 1.0], 2.0, 0.5);
    // To the nearest, ties to even.
    assert_eq!((&values[..3], counted), (&[12, -14, 100][..], Patient::Counted));
    let metrics = encoding.metrics(&values, 1.0, 1, 1, 0.0).unwrap();
    assert!((metrics.accuracy - 0.5).abs() < 0.02 && (metrics.loss - 2.0).abs() < 0.1, "{metrics:?}");
    // A long one keeps its direction and no more than the clip.
    let (long, _) = encode(&[3e10, 0.0, -4e10], 0.0, 0.0);
    let limit = 200.0 * libm::sqrt(0.95) * (1.0 - 1.0 / 1024.0);
    assert!((long[0] as f64 - 0.6 * limit).abs() <= 0.5 && (long[2] as f64 + 0.8 * limit).abs() <= 0.5);
    // Metrics that noise carried away stop at the clamp, and so does their sum over all organizations.
    let (far, _) = encode(&[0.0; 3], 1e9, -1e9);
    assert_eq!(far, [0, 0, 0, 200, -200]);
    let width = encoding.ring_width_for(10, encoding.delta_clamp(), 0.0).unwrap();
    assert_eq!(width, 12, "2·10·200 = 4000 values need 12 bits");
    let wrapped = centered((10 * 200u32) & ((1 << width) - 1), width);
    assert_eq!(wrapped, 2000);
    for (delta, loss) in [([f32::NAN; 3], 0.0), ([f32::MAX; 3], f64::INFINITY), ([0.0; 3], f64::NAN)] {
        assert_eq!(encode(&delta, loss, 0.0), (vec![0; 5], Patient::Dropped));
    }
    assert!(encoding.encode_delta(&[0.0; 2], 0.0, 0.0, 12).is_err());
    assert!(encoding.encode_delta(&[0.0; 3], 0.0, 0.0, 33).is_err());
}

#[test]
fn quantiles_are_the_known_ones() {
    let at = |d: f64| bound::gaussian_quantile(libm::exp2(-40.0) / d);
    assert!((at(4.5e4) - 8.49).abs() < 0.01 && (at(1e7) - 9.10).abs() < 0.01);
    assert!((bound::gaussian_quantile(0.05) - 1.959_963_985).abs() < 2e-9);
}

#[test]
fn parameters_out_of_range_are_refused() {
    for bad in [
        EncodingParams { dimension: 0, ..DEMO },
        EncodingParams { dimension: u32::MAX, ..DEMO },
        EncodingParams { clip: 0.0, ..DEMO },
        EncodingParams { clip: f64::NAN, ..DEMO },
        EncodingParams { scale: -1.0, ..DEMO },
        EncodingParams { scale: 1e300, ..DEMO },
        EncodingParams { clip: 1e-9, ..DEMO },
        EncodingParams { metrics_share: 0.0, ..DEMO },
        EncodingParams { metrics_share: 1.0, ..DEMO },
        EncodingParams { loss_max: f64::INFINITY, ..DEMO },
        EncodingParams { beta: 0.0, ..DEMO },
        EncodingParams { beta: 0.9, ..DEMO },
    ] {
        assert!(matches!(Encoding::new(bad), Err(EncodingError::OutOfRange { .. })), "{bad:?}");
    }
    let error = Encoding::new(EncodingParams { clip: 0.0, ..DEMO }).unwrap_err();
    assert_eq!(alloc::format!("{error}"), "clip is 0; it must be finite and above 0");
}
