//! `consilium verify`: a job's record, checked without a connection.

use std::{io::Write, path::PathBuf};

use clap::Args;
use consilium_crypto::digest::Digest;
use serde_json::{Value, json};

use super::{Failure, parse_digest, write_json};
use crate::record::verify::{Broken, Report, verify};

/// Checks the record of a job offline, from the roster's fingerprint to the final adapter, and names the first thing that does
/// not hold.
///
/// Every signature, the log's chain, every sum's effect on the adapter, and the sums themselves where masked inputs are kept, are
/// computed again. What could not be is listed. Exit code 0: everything that can be checked holds; 1: something does not.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium-coordinator record --config coordinator.toml --out record     # whoever has the state
  consilium verify record --pin $(cat pin.txt)
  consilium verify record --pin $(cat pin.txt) --adapter result           # and an adapter that was handed on")]
pub(super) struct Verify {
    /// The record's folder.
    folder: PathBuf,
    /// The roster's fingerprint, as it was compared out of band: the one thing that is believed.
    #[arg(long, value_name = "FINGERPRINT", value_parser = parse_digest)]
    pin: Digest,
    /// A folder as `consilium-client export` writes it: its signature, its files and every tensor are checked, too.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        match verify(&self.folder, &self.pin, self.adapter.as_deref()) {
            Ok(report) if self.json => write_json(out, &value(&report)),
            Ok(report) => Ok(words(&report, out)?),
            Err(Broken { what, why }) => {
                if self.json {
                    write_json(out, &json!({ "holds": false, "first": { "what": what, "why": why } }))?;
                }
                Err(Failure::Refused(format!("this does not hold: {what}: {why}")))
            }
        }
    }
}

fn value(report: &Report) -> Value {
    let releases = report.releases.iter().map(|it| {
        json!({
            "round": it.round, "attempt": it.attempt, "survivors": it.survivors, "adapter": it.adapter.to_string(),
            "sum_recomputed": it.from_inputs,
        })
    });
    json!({
        "holds": true,
        "job": report.job,
        "roster": { "version": report.roster.0, "fingerprint": report.roster.1.to_string() },
        "plan": report.plan.to_string(),
        "files": report.files,
        "log": { "entries": report.log.sequence, "head": report.log.digest.to_string() },
        "releases": releases.collect::<Vec<_>>(),
        "failed_attempts": report.failures,
        "acts": report.acts,
        "attempts_debited": report.debited,
        "epsilon": report.spent.central,
        "epsilon_local": report.spent.local,
        "delta": report.spent.delta,
        "adapter": report.adapter.0.to_string(),
        "optimizer": report.adapter.1.to_string(),
        "handed_on": report.result.as_ref().map(|(by, round)| json!({ "by": by, "round": round })),
        "not_recomputed": report.not_recomputed,
    })
}

fn words(report: &Report, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "holds: job {}, plan {}", report.job, report.plan)?;
    writeln!(out, "  roster   version {}, fingerprint {}", report.roster.0, report.roster.1)?;
    writeln!(out, "  log      {} entries, head {}", report.log.sequence, report.log.digest)?;
    let from_inputs = report.releases.iter().filter(|it| it.from_inputs).count();
    writeln!(
        out,
        "  rounds   {} released, {} attempts without a sum; {from_inputs} sums recomputed from masked inputs",
        report.releases.len(),
        report.failures
    )?;
    writeln!(
        out,
        "  privacy  {} attempts debited: ε = {:.3} against the coordinator, {:.3} against everybody else, δ = {:e}",
        report.debited, report.spent.central, report.spent.local, report.spent.delta
    )?;
    writeln!(out, "  adapter  {}, recomputed", report.adapter.0)?;
    if let Some((by, round)) = &report.result {
        writeln!(out, "  handed on by {by} after round {round}: every tensor is what the sums give")?;
    }
    writeln!(out, "not recomputed:")?;
    report.not_recomputed.iter().try_for_each(|line| writeln!(out, "  {line}"))
}
