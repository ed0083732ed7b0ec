//! What a job spends, from public numbers alone.
//!
//! `cargo run --release -p consilium-crypto --example epsilon -- RATE SHARE SHARES SENSITIVITY DIMENSION STEPS DELTA`
//!
//! RATE is the sampling rate of patients, SHARE the scale of one organization's noise in ring units, SHARES how
//! many of them the coordinator and its colluders do not know, SENSITIVITY the integer bound in ring units,
//! DIMENSION the encoded vector's length, STEPS the number of attempts. With SHARE alone in place of SHARE …
//! DIMENSION (four arguments in all), it is the noise multiplier of a plain Gaussian.

use consilium_crypto::privacy::{Composition, Mechanism, MechanismParams, Step};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<f64> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    match arguments[..] {
        [sampling_rate, noise_multiplier, steps, delta] => {
            let count = steps as u64;
            report("plain Gaussian", Step { sampling_rate, noise_multiplier, count, gap: 0.0 }, delta)
        }
        [sampling_rate, sigma_i, shares, sensitivity, dimension, steps, delta] => {
            let seen_by = |shares: f64| {
                let (shares, dimension) = (shares as u32, dimension as u64);
                Mechanism::new(MechanismParams { sampling_rate, sigma_i, shares, sensitivity, dimension })
                    .map(|mechanism| mechanism.steps(steps as u64))
            };
            report("against the coordinator and its colluders", seen_by(shares)?, delta)?;
            report("against everybody else together", seen_by(1.0)?, delta)
        }
        _ => Err("give RATE Z STEPS DELTA, or RATE SHARE SHARES SENSITIVITY DIMENSION STEPS DELTA".into()),
    }
}

fn report(who: &str, step: Step, delta: f64) -> Result<(), Box<dyn std::error::Error>> {
    let mut composition = Composition::new();
    composition.push(step)?;
    println!(
        "{who}: noise multiplier {:.6}, gap {:.1e} a step, epsilon {:.4} (by Rényi orders {:.4}) at delta {delta:e}",
        step.noise_multiplier,
        step.gap,
        composition.epsilon(delta)?,
        composition.epsilon_rdp(delta)?
    );
    Ok(())
}
