//! What noise costs: nanoseconds a draw at several scales, the time for ten million coordinates, and the ratio
//! to OpenDP's exact sampler in the same process.
//!
//! `cargo run --release -p consilium-crypto --example noise_cost`

use std::hint::black_box;
use std::time::Instant;

use consilium_crypto::encoding::{Encoding, EncodingParams, LotSum};
use consilium_crypto::noise::{BulkRng, DiscreteGaussian};
use opendp::traits::samplers::sample_discrete_gaussian;
use rand::Rng;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A fixed key: this example measures, it protects nobody.
    let mut rng = BulkRng::new([1; 32]);
    let mut bytes = vec![0u8; 1 << 22];
    let seconds = best_of(5, || rng.fill_bytes(black_box(&mut bytes)));
    println!("random bytes            {:8.2} GB/s", bytes.len() as f64 / seconds / 1e9);

    for sigma in [2.5f64, 10.0, 1e3, 1e5] {
        let noise = DiscreteGaussian::new(sigma)?;
        let mut block = vec![0i64; 1 << 16];
        let ours = best_of(20, || noise.fill(black_box(&mut block), &mut rng)) / block.len() as f64;
        let draws = 2_000;
        let start = Instant::now();
        for _ in 0..draws {
            let scale = sigma.try_into().map_err(|_| "OpenDP refuses the scale")?;
            black_box(sample_discrete_gaussian(scale).map_err(|e| e.to_string())?);
        }
        let theirs = start.elapsed().as_secs_f64() / f64::from(draws);
        println!(
            "sigma {sigma:8}   {:6.2} ns a draw   OpenDP {:8.0} ns   ratio {:6.0}",
            ours * 1e9,
            theirs * 1e9,
            theirs / ours
        );
    }

    let noise = DiscreteGaussian::new(1e3)?;
    let mut vector = vec![0i64; 10_000_000];
    let seconds = best_of(3, || noise.fill(black_box(&mut vector), &mut rng));
    println!("10^7 coordinates        {seconds:8.4} s");
    let seconds = best_of(20, || drop(black_box(DiscreteGaussian::new(black_box(1e5)))));
    println!("tables                  {:8.1} µs", seconds * 1e6);

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
    let seconds = best_of(50, || {
        let _ = black_box(lot.add_patient(black_box(&gradient), 1.0, true, &mut rng));
    });
    println!(
        "one patient             {:8.1} µs, {:.2} ns a coordinate",
        seconds * 1e6,
        seconds * 1e9 / f64::from(dimension)
    );
    Ok(())
}

/// The shortest of `times` runs, in seconds.
fn best_of(times: u32, mut run: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..times {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}
