//! `consilium round`: one round in full, and its end by hand.

use std::io::Write;

use clap::{Args, Subcommand};
use consilium_proto::{action::What, wire};
use serde_json::json;

use super::{
    Failure,
    act::ActArgs,
    json,
    table::{Table, bytes, clean, epsilon, span},
    target::{TargetArgs, block_on},
    words, write_json,
};

/// Shows one round with all its attempts, or ends the running attempt.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Example:
  consilium round 7 --config operator.toml
  consilium round 7 --config operator.toml --json | jq '.attempts[].absent'
  consilium round abort --config operator.toml --reason 'wrong test set' --yes"
)]
pub(super) struct Round {
    /// Which round, from 1.
    #[arg(required = true)]
    number: Option<u32>,
    #[command(flatten)]
    target: TargetArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<RoundCommand>,
}

#[derive(Debug, Subcommand)]
enum RoundCommand {
    /// Ends the running attempt without a sum. What it has cost in privacy is lost; the round is tried again as far as the
    /// plan allows.
    #[command(after_help = "\
Example:
  consilium round abort --config operator.toml --reason 'site-2 trains on the wrong export' --dry-run
  consilium round abort --config operator.toml --reason 'site-2 trains on the wrong export' --yes")]
    Abort(ActArgs),
}

impl Round {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        if let Some(RoundCommand::Abort(args)) = self.command {
            return args.run(out, |status| {
                if status.state != "running" {
                    return Err(Failure::Refused(
                        "no attempt is running; `job pause` keeps the next from beginning".into(),
                    ));
                }
                Ok(What::RoundAbort { round: status.round, attempt: status.attempt })
            });
        }
        let number = self.number.unwrap_or(0);
        let attempts = attempts(self.target, number)?;
        if self.json {
            let attempts: Vec<_> = attempts.iter().map(json::round).collect();
            return write_json(
                out,
                &json!({"round": number, "attempts": attempts, "view": "the coordinator"}),
            );
        }
        if attempts.is_empty() {
            return Err(Failure::Refused(format!(
                "no attempt of round {number} has ended; `consilium rounds` lists those that have, `consilium why` tells of the \
                 one that runs"
            )));
        }
        for attempt in &attempts {
            for line in lines(attempt) {
                writeln!(out, "{line}")?;
            }
        }
        Ok(())
    }
}

/// The ended attempts of a round.
pub(super) fn attempts(target: TargetArgs, number: u32) -> Result<Vec<wire::RoundSummary>, Failure> {
    let target = target.resolve()?;
    let reply = block_on(async {
        let (mut client, link) = target.client().await?;
        link.answer(client.rounds(wire::RoundsRequest {})).await
    })?;
    Ok(reply.rounds.into_iter().filter(|round| round.round == number).collect())
}

/// One attempt in full.
pub(super) fn lines(round: &wire::RoundSummary) -> Vec<String> {
    let outcome = clean(&round.outcome);
    let mut lines = vec![format!(
        "round {}, attempt {}: {outcome}: {}; as the coordinator counts, all of it",
        round.round,
        round.attempt,
        words::outcome(&outcome)
    )];
    let began =
        i64::try_from(round.started_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let began = began.map_or("-".to_owned(), |at| format!("{at:.0}"));
    let steps = ["advertise", "share", "input", "vote", "unmask", "release"];
    let steps: Vec<_> =
        steps.iter().zip(&round.step_seconds).map(|(step, s)| format!("{step} {}", span(*s))).collect();
    lines.push(format!("  began         {began}, took {}: {}", span(round.seconds), steps.join(", ")));
    if !round.survivors.is_empty() {
        let ids = clean(&round.survivors.join(", "));
        lines.push(format!("  survivors     {}: {ids}", round.survivors.len()));
    }
    if !round.absent.is_empty() {
        let mut table = Table::new(&["  absent", "from step", "code", "meaning"]);
        for absent in &round.absent {
            let code = clean(&absent.code);
            table.row([
                format!("  {}", clean(&absent.id)),
                clean(&absent.step),
                if code.is_empty() { "-".into() } else { code.clone() },
                words::absence(&code).into(),
            ]);
        }
        lines.extend(table.lines());
    }
    if !round.culprits.is_empty() {
        lines
            .push(format!("  convicted     {}: `consilium blame export`", clean(&round.culprits.join(", "))));
    }
    if let Some((loss, accuracy)) = round.train_loss.zip(round.train_accuracy) {
        lines.push(format!(
            "  training      loss {loss:.3}, accuracy {accuracy:.3} ({})",
            json::TRAINING_VIEW
        ));
    }
    if let Some((loss, accuracy)) = round.test_loss.zip(round.test_accuracy) {
        lines.push(format!(
            "  test          loss {loss:.3}, accuracy {accuracy:.3} ({} on the public test set)",
            clean(&round.evaluator)
        ));
    }
    lines.push(format!("  cost          {}", cost(round)));
    lines.push(format!("  masked inputs {}", bytes(round.upload_bytes)));
    lines
}

/// What an attempt cost in privacy.
pub(super) fn cost(round: &wire::RoundSummary) -> String {
    let spent = round.spent.as_ref().map_or("not computed yet".into(), |spent| {
        format!(
            "ε = {} so far ({} against everybody else)",
            epsilon(spent.epsilon),
            epsilon(spent.epsilon_local)
        )
    });
    match (round.debited, round.epsilon_wasted) {
        (false, _) => format!("nothing; {spent}"),
        (true, Some(wasted)) => format!("ε = {} for nothing; {spent}", epsilon(wasted)),
        (true, None) if round.outcome != "released" => format!("debited for nothing; {spent}"),
        (true, None) => format!("debited; {spent}"),
    }
}
