//! `consilium privacy noise`: from ε to noise.

use std::io::Write;

use clap::Args;
use consilium_crypto::privacy::{Step, noise_multiplier};
use serde_json::json;

use super::{delta, positive, sampling_rate, shown, spent, steps};
use crate::cli::{Failure, write_json};

/// The least noise multiplier that keeps a budget, to a thousandth and rounded up.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium privacy noise --epsilon 4 --delta 1e-5 --sampling-rate 0.05 --steps 60")]
pub(in crate::cli) struct Noise {
    /// The budget ε.
    #[arg(long, value_name = "E", value_parser = positive, allow_hyphen_values = true)]
    epsilon: f64,
    /// δ, the probability with which the promise may fail.
    #[arg(long, value_name = "D", value_parser = delta, allow_hyphen_values = true)]
    delta: f64,
    /// Probability q with which each patient is drawn into a lot; above 0 and at most 1.
    #[arg(long, value_name = "Q", value_parser = sampling_rate, allow_hyphen_values = true)]
    sampling_rate: f64,
    /// Steps T that the budget must pay for, retries included; at most 10⁹.
    #[arg(long, value_name = "T", value_parser = steps())]
    steps: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Noise {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let Self { epsilon, delta, sampling_rate, steps, json } = self;
        let least = noise_multiplier(epsilon, delta, sampling_rate, steps).map_err(Failure::refused)?;
        let spends = |noise_multiplier| {
            spent(Step { sampling_rate, noise_multiplier, count: 1, gap: 0.0 }, steps, delta)
                .map(|(tight, _)| tight)
        };
        let spent = spends(least)?;
        if json {
            return write_json(out, &json!({"noise_multiplier": least, "epsilon": spent, "delta": delta}));
        }
        writeln!(
            out,
            "z = {least:.3} keeps ε ≤ {epsilon} at δ = {delta:e} for {steps} steps with q = {sampling_rate}: it spends {}",
            shown(spent)
        )?;
        Ok(())
    }
}
