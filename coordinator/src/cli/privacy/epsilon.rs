//! `consilium privacy epsilon`: from noise to ε.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::{MechanismArgs, delta, shown, spent, steps};
use crate::cli::{Failure, write_json};

/// What a number of steps spends.
///
/// A step is one attempt from which a byte left: a round, or a retry of one. With --discrete-sigma, --sensitivity and
/// --dimension it is the mechanism that really runs, and with --honest both of its guarantees: against the coordinator and its
/// colluders, who do not know the noise of h organizations, and against everybody else together, who do not know one's own.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consilium privacy epsilon --sampling-rate 0.05 --noise-multiplier 1.03 --steps 60 --delta 1e-5
  consilium privacy epsilon --sampling-rate 0.0539 --discrete-sigma 508.9 --honest 3 --sensitivity 856.293 \\
      --dimension 44951 --steps 60 --delta 1e-5 --json")]
pub(in crate::cli) struct Epsilon {
    #[command(flatten)]
    mechanism: MechanismArgs,
    /// Steps T, at most 10⁹.
    #[arg(long, value_name = "T", value_parser = steps())]
    steps: u64,
    /// δ, the probability with which the promise may fail.
    #[arg(long, value_name = "D", value_parser = delta, allow_hyphen_values = true)]
    delta: f64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Epsilon {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let seen = self.mechanism.seen()?;
        let bounds = seen.iter().map(|seen| spent(seen.step, self.steps, self.delta));
        let bounds = bounds.collect::<Result<Vec<_>, _>>()?;
        if self.json {
            let mut value = serde_json::Map::new();
            for (suffix, (seen, (tight, loose))) in ["", "_local"].iter().zip(seen.iter().zip(&bounds)) {
                value.insert(format!("epsilon{suffix}"), json!(tight));
                value.insert(format!("epsilon{suffix}_rdp"), json!(loose));
                if self.mechanism.discrete_sigma.is_some() {
                    value.insert(format!("noise_multiplier{suffix}"), json!(seen.step.noise_multiplier));
                    value.insert(format!("gap{suffix}"), json!(seen.step.gap));
                }
            }
            value.insert("delta".into(), json!(self.delta));
            return write_json(out, &value);
        }
        for (seen, (tight, loose)) in seen.iter().zip(&bounds) {
            writeln!(
                out,
                "{}: ε = {} at δ = {:e} after {} steps with q = {}, z = {:.5} (by Rényi orders {})",
                seen.who,
                shown(*tight),
                self.delta,
                self.steps,
                seen.step.sampling_rate,
                seen.step.noise_multiplier,
                shown(*loose)
            )?;
        }
        Ok(())
    }
}
