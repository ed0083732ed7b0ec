//! `consilium privacy curve`: ε against rounds.

use std::{io::Write, path::PathBuf};

use clap::Args;
use consilium_crypto::privacy::Composition;
use serde_json::json;

use super::{
    MechanismArgs, Seen, delta, positive, shown, spent, steps,
    svg::{Chart, Series},
};
use crate::{
    cli::{Failure, table::Table, write_json},
    files,
};

/// How ε grows with rounds, as a table and as a picture.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consilium privacy curve --sampling-rate 0.05 --noise-multiplier 1.03 --steps 60 --delta 1e-5
  consilium privacy curve --sampling-rate 0.0539 --discrete-sigma 508.9 --honest 3 --sensitivity 856.293 \\
      --dimension 44951 --steps 200 --delta 1e-5 --budget 6 --svg curve.svg")]
pub(in crate::cli) struct Curve {
    #[command(flatten)]
    mechanism: MechanismArgs,
    /// Steps T at the curve's end, at most 10⁹.
    #[arg(long, value_name = "T", value_parser = steps())]
    steps: u64,
    /// δ, the probability with which the promise may fail.
    #[arg(long, value_name = "D", value_parser = delta, allow_hyphen_values = true)]
    delta: f64,
    /// A budget ε to compare with: how many steps it pays for.
    #[arg(long, value_name = "E", value_parser = positive, allow_hyphen_values = true)]
    budget: Option<f64>,
    /// Points of the curve; each costs a fraction of a second.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..=1000))]
    points: u64,
    /// Draw it into this file; never overwritten.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Curve {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        if let Some(path) = self.svg.as_ref().filter(|path| path.exists()) {
            return Err(files::FileError::Exists { path: path.clone() }.into());
        }
        let seen = self.mechanism.seen()?;
        let rounds = places(self.steps, self.points);
        // For each round: both bounds of each who sees.
        let curve = rounds
            .iter()
            .map(|&count| seen.iter().map(|seen| spent(seen.step, count, self.delta)).collect())
            .collect::<Result<Vec<Vec<(f64, f64)>>, Failure>>()?;
        let pays = match (self.budget, seen.first()) {
            (Some(budget), Some(seen)) => Some(
                Composition::new()
                    .remaining(seen.step, budget, self.delta, self.steps)
                    .map_err(Failure::refused)?,
            ),
            _ => None,
        };
        if let Some(path) = &self.svg {
            files::create_public(path, &self.chart(&seen, &rounds, &curve).to_string())?;
        }
        if self.json {
            let points: Vec<_> = rounds
                .iter()
                .zip(&curve)
                .map(|(count, row)| {
                    let mut point = serde_json::Map::new();
                    point.insert("rounds".into(), json!(count));
                    for (suffix, (tight, loose)) in ["", "_local"].iter().zip(row) {
                        point.insert(format!("epsilon{suffix}"), json!(tight));
                        point.insert(format!("epsilon{suffix}_rdp"), json!(loose));
                    }
                    point
                })
                .collect();
            return write_json(
                out,
                &json!({"delta": self.delta, "points": points, "budget": self.budget, "budget_pays_for": pays, "svg": self.svg}),
            );
        }
        for (number, seen) in (1..).zip(&seen) {
            writeln!(
                out,
                "ε_{number}: {}, q = {}, z = {:.5}",
                seen.who, seen.step.sampling_rate, seen.step.noise_multiplier
            )?;
        }
        writeln!(out, "at δ = {:e}\n", self.delta)?;
        let headings = ["rounds", "ε_1", "by Rényi orders", "ε_2", "by Rényi orders"];
        let mut table = Table::new(headings.get(..1 + 2 * seen.len()).unwrap_or(&headings));
        for (count, row) in rounds.iter().zip(&curve) {
            let bounds = row.iter().flat_map(|(tight, loose)| [shown(*tight), shown(*loose)]);
            table.row(std::iter::once(count.to_string()).chain(bounds));
        }
        write!(out, "{table}")?;
        if let (Some(budget), Some(pays)) = (self.budget, pays) {
            let most = if pays == self.steps { "at least " } else { "" };
            writeln!(out, "\na budget ε_1 = {budget} pays for {most}{pays} rounds")?;
        }
        if let Some(path) = &self.svg {
            writeln!(out, "\n{}", path.display())?;
        }
        Ok(())
    }
}

impl Curve {
    /// The picture: one line for each who sees, and one by Rényi orders.
    fn chart(&self, seen: &[Seen], rounds: &[u64], curve: &[Vec<(f64, f64)>]) -> Chart {
        let line = |name: &str, bounds: Vec<f64>| Series {
            name: name.to_owned(),
            points: rounds.iter().map(|&count| count as f64).zip(bounds).collect(),
        };
        let tight =
            |place: usize| curve.iter().filter_map(move |row| row.get(place)).map(|(tight, _)| *tight);
        let loose = curve.iter().filter_map(|row| row.first()).map(|(_, loose)| *loose);
        let mut series: Vec<_> =
            seen.iter().enumerate().map(|(place, seen)| line(seen.who, tight(place).collect())).collect();
        series.push(line("the first, by Rényi orders", loose.collect()));
        let numbers: Vec<_> = seen.iter().map(|seen| format!("{:.4}", seen.step.noise_multiplier)).collect();
        let title = format!(
            "ε against rounds: q = {}, z = {}, δ = {:e}",
            self.mechanism.sampling_rate,
            numbers.join(" and "),
            self.delta
        );
        Chart { title, series, budget: self.budget }
    }
}

/// `points` numbers of rounds, evenly from near 1 to `last`, without two alike.
fn places(last: u64, points: u64) -> Vec<u64> {
    let mut places: Vec<_> = (1..=points).map(|point| (last * point / points).max(1)).collect();
    places.insert(0, 1);
    places.dedup();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_end_where_they_must() {
        assert_eq!(places(60, 3), [1, 20, 40, 60]);
        assert_eq!(places(1, 20), [1]);
        assert_eq!(places(4, 20), [1, 2, 3, 4]);
        assert_eq!(places(1_000_000_000, 2), [1, 500_000_000, 1_000_000_000]);
    }
}
