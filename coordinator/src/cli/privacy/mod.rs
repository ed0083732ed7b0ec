//! `consilium privacy`: the accountant, for whoever wants to recompute an ε. No network, no configuration, no plan.

mod curve;
mod epsilon;
mod noise;
mod svg;

use std::io::Write;

use clap::{Args, Subcommand};
use consilium_crypto::privacy::{Composition, LEAST_SHARE, Mechanism, MechanismParams, PrivacyError, Step};

use super::Failure;

/// Computes what a mechanism spends, from its public numbers alone.
///
/// Every ε is an upper bound, for patients of whom each is drawn into a lot with probability q, and whom nobody sees drawn.
/// The page on privacy in the manual explains the numbers.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  consilium privacy epsilon --sampling-rate 0.05 --noise-multiplier 1.03 --steps 60 --delta 1e-5
  consilium privacy noise --epsilon 4 --delta 1e-5 --sampling-rate 0.05 --steps 60
  consilium privacy curve --sampling-rate 0.05 --noise-multiplier 1.03 --steps 60 --delta 1e-5 --svg curve.svg")]
pub(super) enum Privacy {
    Epsilon(epsilon::Epsilon),
    Noise(noise::Noise),
    Curve(curve::Curve),
}

impl Privacy {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Self::Epsilon(command) => command.run(out),
            Self::Noise(command) => command.run(out),
            Self::Curve(command) => command.run(out),
        }
    }
}

/// One step's mechanism: a continuous Gaussian, or what really runs.
#[derive(Debug, Args)]
struct MechanismArgs {
    /// Probability q with which each patient is drawn into a lot; above 0 and at most 1.
    #[arg(long, value_name = "Q", value_parser = sampling_rate, allow_hyphen_values = true)]
    sampling_rate: f64,
    /// Noise multiplier z of a continuous Gaussian: standard deviation over sensitivity; 0.01 to 10⁶.
    #[arg(
        long, value_name = "Z", value_parser = noise_multiplier, allow_hyphen_values = true,
        required_unless_present = "discrete_sigma", conflicts_with = "discrete_sigma"
    )]
    noise_multiplier: Option<f64>,
    /// Or the real mechanism: the scale σ_i of one organization's discrete Gaussian, ring units, at least 2.5.
    #[arg(
        long, value_name = "SIGMA", value_parser = discrete_sigma, allow_hyphen_values = true,
        requires_all = ["sensitivity", "dimension"]
    )]
    discrete_sigma: Option<f64>,
    /// Its sensitivity Δ, ring units.
    #[arg(long, value_name = "UNITS", value_parser = positive, allow_hyphen_values = true, requires = "discrete_sigma")]
    sensitivity: Option<f64>,
    /// Coordinates of the encoded vector: trained ones, and two metrics.
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u64).range(1..=1 << 40), requires = "discrete_sigma")]
    dimension: Option<u64>,
    /// Honest contributors h guaranteed in every sum, whose noise the coordinator and its colluders do not know.
    #[arg(
        long, value_name = "H", value_parser = clap::value_parser!(u32).range(1..=1 << 20), requires = "discrete_sigma",
        default_value_t = 1, hide_default_value = true
    )]
    honest: u32,
}

/// One step, as an adversary sees it.
struct Seen {
    /// By whom.
    who: &'static str,
    step: Step,
}

impl MechanismArgs {
    /// The step against the coordinator and its colluders (the only one of a continuous Gaussian), then, where more
    /// than one organization adds noise, against everybody else together.
    fn seen(&self) -> Result<Vec<Seen>, Failure> {
        let (Some(sigma_i), Some(sensitivity), Some(dimension)) =
            (self.discrete_sigma, self.sensitivity, self.dimension)
        else {
            let noise_multiplier = self.noise_multiplier.unwrap_or_default();
            let step = Step { sampling_rate: self.sampling_rate, noise_multiplier, count: 1, gap: 0.0 };
            return Ok(vec![Seen { who: "against whoever sees the sums", step }]);
        };
        let seen = |who, shares| {
            let sampling_rate = self.sampling_rate;
            Mechanism::new(MechanismParams { sampling_rate, sigma_i, shares, sensitivity, dimension })
                .map(|mechanism| Seen { who, step: mechanism.steps(1) })
                .map_err(Failure::refused)
        };
        let everybody = "against everybody else together";
        if self.honest == 1 {
            return Ok(vec![seen(everybody, 1)?]);
        }
        Ok(vec![seen("against the coordinator and its colluders", self.honest)?, seen(everybody, 1)?])
    }
}

/// `ε` by privacy-loss distributions, and by Rényi orders.
fn spent(step: Step, count: u64, delta: f64) -> Result<(f64, f64), Failure> {
    let bounds = || -> Result<(f64, f64), PrivacyError> {
        let mut all = Composition::new();
        all.push(Step { count, ..step })?;
        Ok((all.epsilon(delta)?, all.epsilon_rdp(delta)?))
    };
    let (tight, loose) = bounds().map_err(Failure::refused)?;
    if !(tight.is_finite() && loose.is_finite()) {
        return Err(Failure::Refused(format!("{count} steps spend more ε than can be computed; add noise")));
    }
    Ok((tight, loose))
}

/// An upper bound to four decimals, rounded up.
fn shown(epsilon: f64) -> String {
    format!("{:.4}", (epsilon * 1e4 - 1e-9).ceil() / 1e4 + 0.0)
}

fn number(text: &str, holds: impl Fn(f64) -> bool, range: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("it must be a number {range}"))?;
    if holds(value) { Ok(value) } else { Err(format!("it must be {range}")) }
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, |x| x.is_finite() && x > 0.0, "finite and above 0")
}

fn sampling_rate(text: &str) -> Result<f64, String> {
    number(text, |q| q > 0.0 && q <= 1.0, "above 0 and at most 1")
}

fn noise_multiplier(text: &str) -> Result<f64, String> {
    number(text, |z| (0.01..=1e6).contains(&z), "from 0.01 to 1000000")
}

fn discrete_sigma(text: &str) -> Result<f64, String> {
    let range = "finite and at least 2.5 ring units, below which a sum of discrete Gaussians is not close enough to one; \
                 raise the plan's encoding.scale";
    number(text, |sigma| sigma.is_finite() && sigma >= LEAST_SHARE, range)
}

fn delta(text: &str) -> Result<f64, String> {
    number(
        text,
        |d| (1e-100..1.0).contains(&d),
        "from 1e-100 to below 1, and below one over the number of patients",
    )
}

/// Steps, 1 to 10⁹.
fn steps() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=1_000_000_000)
}
