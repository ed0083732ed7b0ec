//! What noise and accounting cost.

use std::hint::black_box;

use consilium_crypto::{
    encoding::{Encoding, EncodingParams, LotSum},
    noise::{BulkRng, DiscreteGaussian},
    privacy::{Composition, Step, noise_multiplier},
};
use opendp::traits::samplers::sample_discrete_gaussian;
use serde_json::{Value, json};

use crate::{
    RUNS, Result,
    clock::{best_of, median, seconds},
    report::{Bar, Row},
};

/// Draws of OpenDP's sampler in one run: it takes microseconds each.
const DRAWS: u32 = 2_000;

/// The noise rows, and draws at other scales.
pub fn noise() -> Result<(Vec<Row>, Value)> {
    // A fixed key: this measures, it protects nobody.
    let mut rng = BulkRng::new([1; 32]);
    println!("\nnoise, medians of {RUNS}:");
    let (mut row, mut scales) = (f64::NAN, Vec::new());
    for sigma in [2.5f64, 10.0, 1e3, 1e5] {
        let noise = DiscreteGaussian::new(sigma)?;
        let mut block = vec![0i64; 1 << 20];
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            ours.push(seconds(|| noise.fill(black_box(&mut block), &mut rng)) / block.len() as f64);
            theirs.push(opendp(sigma)? / f64::from(DRAWS));
        }
        let ratio = median(ours.iter().zip(&theirs).map(|(ours, theirs)| theirs / ours).collect());
        let (ours, theirs) = (1e9 * median(ours), 1e9 * median(theirs));
        println!(
            "    sigma {sigma:>8}   {ours:>6.2} ns a draw   OpenDP {theirs:>8.0} ns   ratio {ratio:>6.0}"
        );
        scales.push(json!({ "sigma": sigma, "ns": ours, "opendp_ns": theirs, "ratio": ratio }));
        if sigma == 1e3 {
            row = ratio;
        }
    }
    let noise = DiscreteGaussian::new(1e3)?;
    let mut vector = vec![0i64; 10_000_000];
    let whole = median((0..RUNS).map(|_| seconds(|| noise.fill(black_box(&mut vector), &mut rng))).collect());
    let tables = best_of(20, || drop(black_box(DiscreteGaussian::new(black_box(1e5)))));
    println!("    tables for one sigma {:>8.1} µs, best of 20", 1e6 * tables);
    patient(&mut rng)?;
    let rows = vec![
        Row { key: "noise_vs_opendp", value: row, bar: Bar::AtLeast(30.0) },
        Row { key: "noise_cpu_s.d1e7", value: whole, bar: Bar::AtMost(0.3) },
    ];
    Ok((rows, json!(scales)))
}

fn opendp(sigma: f64) -> Result<f64> {
    let mut failed = None;
    let spent = seconds(|| {
        for _ in 0..DRAWS {
            match sigma
                .try_into()
                .map_err(drop)
                .and_then(|scale| sample_discrete_gaussian(scale).map_err(drop))
            {
                Ok(draw) => drop(black_box(draw)),
                Err(()) => failed = Some("OpenDP refuses the scale"),
            }
        }
    });
    failed.map_or(Ok(spent), |why| Err(why.into()))
}

/// What one patient costs: clipped, rounded and added to the lot.
fn patient(rng: &mut BulkRng) -> Result<()> {
    let dimension = 45_000;
    let encoding = Encoding::new(EncodingParams {
        dimension,
        clip: 1.0,
        scale: 848.0,
        metrics_share: 0.05,
        loss_max: 5.0,
        beta: 0.01,
    })?;
    let gradient: Vec<f32> = (0..dimension).map(|i| ((i * 7919 % 1000) as f32 - 500.0) / 1000.0).collect();
    let mut lot = LotSum::new(&encoding);
    let spent = best_of(50, || {
        let _ = black_box(lot.add_patient(black_box(&gradient), 1.0, true, rng));
    });
    let each = 1e9 * spent / f64::from(dimension);
    println!(
        "    one patient, {dimension} coordinates {:>8.1} µs, {each:.2} ns each, best of 50",
        1e6 * spent
    );
    Ok(())
}

/// The accountant's row: ten thousand rounds of sixteen different kinds.
pub fn accountant() -> Result<Vec<Row>> {
    println!("\naccountant, 10^4 rounds, medians of {RUNS}:");
    let mut row = f64::NAN;
    for sets in [1u64, 4, 16] {
        let mut composition = Composition::new();
        for set in 0..sets {
            let sampling_rate = 0.005 + 0.001 * set as f64;
            let noise_multiplier = 0.9 + 0.05 * set as f64;
            composition.push(Step { sampling_rate, noise_multiplier, count: 10_000 / sets, gap: 0.0 })?;
        }
        let mut epsilon = f64::NAN;
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            runs.push(seconds(|| epsilon = composition.epsilon(1e-5).unwrap_or(f64::NAN)));
        }
        row = median(runs);
        println!("    {sets:>2} parameter sets   {row:.3} s   epsilon {epsilon:.6}");
    }
    let mut z = f64::NAN;
    let inverse = seconds(|| z = noise_multiplier(4.0, 1e-5, 0.01, 10_000).unwrap_or(f64::NAN));
    println!("    noise multiplier for epsilon 4 ({z})   {inverse:.3} s, once");
    Ok(vec![Row { key: "accountant_cpu_s.sets16_rounds1e4", value: row, bar: Bar::AtMost(1.0) }])
}
