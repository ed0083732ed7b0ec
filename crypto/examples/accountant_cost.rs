//! What the accountant costs: seconds for ten thousand steps of one and of sixteen parameter sets, and for
//! finding a noise multiplier.
//!
//! `cargo run --release -p consilium-crypto --example accountant_cost`

use std::time::Instant;

use consilium_crypto::privacy::{Composition, Step, noise_multiplier};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for sets in [1u64, 4, 16] {
        let mut composition = Composition::new();
        for set in 0..sets {
            let sampling_rate = 0.005 + 0.001 * set as f64;
            let noise_multiplier = 0.9 + 0.05 * set as f64;
            composition.push(Step { sampling_rate, noise_multiplier, count: 10_000 / sets, gap: 0.0 })?;
        }
        let start = Instant::now();
        let epsilon = composition.epsilon(1e-5)?;
        let pld = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let rdp = composition.epsilon_rdp(1e-5)?;
        println!(
            "{sets:2} sets, 10^4 steps: epsilon {epsilon:.6} in {pld:.3} s; by Rényi orders {rdp:.6} in {:.3} s",
            start.elapsed().as_secs_f64()
        );
    }
    let start = Instant::now();
    let z = noise_multiplier(4.0, 1e-5, 0.01, 10_000)?;
    println!("noise multiplier {z} in {:.3} s", start.elapsed().as_secs_f64());
    Ok(())
}
