//! `consilium status` and `consilium rounds`: what the coordinator sees, and nothing that acts.

use std::io::Write;

use clap::Args;
use consilium_proto::{plan::VerifiedPlan, wire};

use super::{
    Failure, json,
    paint::NO_PRIVACY,
    table::{Table, bytes, clean, epsilon, span},
    target::{TargetArgs, block_on},
    words, write_json,
};

/// Shows the job as the coordinator sees it now.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium status --config operator.toml
  consilium status --identity identity.toml --roster roster.toml --pin $(cat pin.txt) \\
      --coordinator council.example:7433 --json")]
pub(super) struct Status {
    #[command(flatten)]
    target: TargetArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let target = self.target.resolve()?;
        let status = block_on(async {
            let (mut client, link) = target.client().await?;
            link.answer(client.status(wire::StatusRequest {})).await
        })?;
        if self.json {
            return write_json(out, &json::status(&status, target.plan.as_ref()));
        }
        for line in frame(&status, target.plan.as_ref(), 5) {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

/// Lists every attempt so far, oldest first.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium rounds --config operator.toml
  consilium rounds --config operator.toml --json | jq '.[-1].test.accuracy'")]
pub(super) struct Rounds {
    #[command(flatten)]
    target: TargetArgs,
    /// Print JSON: a list.
    #[arg(long)]
    json: bool,
}

impl Rounds {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let target = self.target.resolve()?;
        let reply = block_on(async {
            let (mut client, link) = target.client().await?;
            link.answer(client.rounds(wire::RoundsRequest {})).await
        })?;
        if self.json {
            return write_json(out, &reply.rounds.iter().map(json::round).collect::<Vec<_>>());
        }
        if reply.rounds.is_empty() {
            writeln!(out, "no round has ended yet")?;
            return Ok(());
        }
        for line in rounds_table(&reply.rounds) {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

/// The table of ended attempts, with a line above it that says whose views its columns are.
pub(super) fn rounds_table(rounds: &[wire::RoundSummary]) -> Vec<String> {
    let mut evaluators: Vec<_> =
        rounds.iter().map(|round| clean(&round.evaluator)).filter(|id| !id.is_empty()).collect();
    evaluators.sort();
    evaluators.dedup();
    let evaluator = if evaluators.is_empty() { "nobody yet".to_owned() } else { evaluators.join(", ") };
    let mut table = Table::new(&[
        "round",
        "try",
        "outcome",
        "survivors",
        "train loss",
        "train acc",
        "test loss",
        "test acc",
        "ε",
        "ε others",
        "ε wasted",
        "bytes",
        "seconds",
    ]);
    for round in rounds {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
        let spent = |pick: fn(&wire::Privacy) -> f64| {
            round.spent.as_ref().map_or("-".to_owned(), |p| epsilon(pick(p)))
        };
        let mut outcome = clean(&round.outcome);
        if !round.culprits.is_empty() {
            outcome.push_str(&format!(" ({})", clean(&round.culprits.join(", "))));
        }
        table.row([
            round.round.to_string(),
            round.attempt.to_string(),
            outcome,
            if round.survivors.is_empty() { "-".to_owned() } else { round.survivors.len().to_string() },
            number(round.train_loss),
            number(round.train_accuracy),
            number(round.test_loss),
            number(round.test_accuracy),
            spent(|p| p.epsilon),
            spent(|p| p.epsilon_local),
            round.epsilon_wasted.map_or("-".to_owned(), epsilon),
            bytes(round.upload_bytes),
            format!("{:.1}", round.seconds),
        ]);
    }
    let mut lines = vec![format!(
        "train: {}; test: {evaluator} on the public test set; ε so far, and wasted on attempts without a sum: the coordinator's count",
        json::TRAINING_VIEW
    )];
    lines.extend(table.lines());
    lines.extend(unbounded(rounds));
    lines
}

/// The red line, if nothing bounds what some of these attempts tell.
pub(super) fn unbounded(rounds: &[wire::RoundSummary]) -> Option<String> {
    let endless = |round: &wire::RoundSummary| {
        round
            .spent
            .as_ref()
            .is_some_and(|spent| !spent.epsilon.is_finite() || !spent.epsilon_local.is_finite())
    };
    rounds.iter().any(endless).then(|| format!("{NO_PRIVACY}: no ε bounds what these sums tell of a patient"))
}

/// The whole view: what goes on now, the members, progress, and the last `rows` ended attempts.
pub(super) fn frame(status: &wire::JobStatus, plan: Option<&VerifiedPlan>, rows: usize) -> Vec<String> {
    let mut lines = vec![now(status), "as the coordinator sees it".to_owned(), progress(status)];
    lines.extend(members(status));
    lines.push(format!(
        "bytes: {} of masked inputs, {} in and {} out in all; {} since the first attempt",
        bytes(status.upload_bytes),
        bytes(status.bytes_in),
        bytes(status.bytes_out),
        span(status.seconds)
    ));
    lines.extend(privacy(status, plan));
    lines.extend(warnings(status));
    if !status.recent.is_empty() {
        lines.push(String::new());
        let from = status.recent.len().saturating_sub(rows);
        lines.extend(rounds_table(status.recent.get(from..).unwrap_or_default()));
    }
    lines
}

/// The job's state in one line.
pub(super) fn now(status: &wire::JobStatus) -> String {
    let job = clean(&status.job);
    if status.step.is_empty() {
        return format!("{job}: {}", clean(&status.state));
    }
    let deadline = if status.deadline_seconds > 0.0 {
        format!(", {} to the deadline", span(status.deadline_seconds))
    } else {
        String::new()
    };
    format!(
        "{job}: {}, round {} of {}, attempt {}, step {} for {}{deadline}",
        clean(&status.state),
        status.round,
        status.rounds,
        status.attempt,
        clean(&status.step),
        span(status.step_seconds)
    )
}

const BAR: usize = 40;

/// A bar over the job's rounds, with the time that is left at the pace of the last ones.
pub(super) fn progress(status: &wire::JobStatus) -> String {
    let rounds = status.rounds.max(1);
    let finished = status.state == "finished";
    let done = if finished { rounds } else { status.round.saturating_sub(1).min(rounds) };
    let filled = BAR * done as usize / rounds as usize;
    let left = left(status);
    let share = 100 * u64::from(done) / u64::from(rounds);
    format!("[{}{}] {done}/{rounds} rounds, {share} %{left}", "█".repeat(filled), "░".repeat(BAR - filled))
}

/// The time that is left, in words; empty where nobody can tell.
pub(super) fn left(status: &wire::JobStatus) -> String {
    let rounds = status.rounds.saturating_sub(status.round.saturating_sub(1));
    match pace(&status.recent) {
        Some(seconds) if status.state != "finished" => {
            format!(", about {} left", span(seconds * f64::from(rounds)))
        }
        _ => String::new(),
    }
}

/// Seconds a round takes, failed attempts included; from the last attempts.
fn pace(recent: &[wire::RoundSummary]) -> Option<f64> {
    let last = recent.get(recent.len().saturating_sub(16)..)?;
    let mut rounds: Vec<_> = last.iter().map(|round| round.round).collect();
    rounds.dedup();
    let seconds: f64 = last.iter().map(|round| round.seconds).sum();
    (!rounds.is_empty()).then(|| seconds / rounds.len() as f64)
}

fn members(status: &wire::JobStatus) -> Vec<String> {
    let online = status.members.iter().filter(|member| member.online).count();
    let named = |pick: fn(&wire::MemberStatus) -> bool| {
        let ids: Vec<_> = status.members.iter().filter(|m| pick(m)).map(|m| clean(&m.id)).collect();
        if ids.len() > 12 { format!("{} of them", ids.len()) } else { ids.join(", ") }
    };
    let mut line = format!("members: {online} of {} online", status.members.len());
    for (word, ids) in
        [("done", named(|m| m.done)), ("awaited", named(|m| m.awaited)), ("offline", named(|m| !m.online))]
    {
        if !ids.is_empty() {
            line.push_str(&format!("; {word}: {ids}"));
        }
    }
    let refusals = status.members.iter().filter(|member| !member.refusal.is_empty());
    let mut lines = vec![line];
    lines.extend(refusals.map(|m| {
        format!(
            "  {} takes no part: {}: {}",
            clean(&m.id),
            clean(&m.refusal),
            words::absence(&clean(&m.refusal))
        )
    }));
    lines
}

/// What somebody should look at: a hold, wasted ε, and what the coordinator says of its own machine.
pub(super) fn warnings(status: &wire::JobStatus) -> Vec<String> {
    let mut lines = Vec::new();
    let hold = words::hold(&status.hold);
    if !hold.is_empty() {
        lines.push(format!("HELD: {hold}"));
    }
    if let Some(wasted) = status.wasted.as_ref().filter(|wasted| wasted.epsilon > 0.0) {
        lines.push(format!(
            "wasted: ε = {} on attempts without a sum; {} may still be repeated at a cost",
            epsilon(wasted.epsilon),
            status.reserve_left
        ));
    }
    let Some(health) = &status.health else { return lines };
    if health.chain_holds == Some(false) {
        lines.push("RECORD: its chain does not hold; see `consilium doctor`".to_owned());
    }
    if let Some(seconds) = health.disk_full_seconds.filter(|seconds| *seconds < 86_400.0) {
        lines.push(format!("DISK: the coordinator's is full in {} at this pace", span(seconds)));
    }
    for key in &health.keys {
        lines.push(match key.days {
            days if days < 0 => format!("KEY: {}'s has ended", clean(&key.id)),
            days => format!("KEY: {}'s ends in {days} days", clean(&key.id)),
        });
    }
    lines
}

fn privacy(status: &wire::JobStatus, plan: Option<&VerifiedPlan>) -> Vec<String> {
    let unit = clean(&status.privacy_unit).replacen("patient-local", "patient, whoever colludes", 1);
    let mut lines = Vec::new();
    if unit.split(' ').next() == Some("none") {
        lines.push(format!(
            "{NO_PRIVACY}: unit {unit}: no noise is added, ε = none against the coordinator, ε = none against everybody else"
        ));
    } else if let Some(spent) = &status.spent {
        let budget = plan.map_or_else(String::new, |plan| format!(" of {}", plan.document().privacy.epsilon));
        let colluders = plan.map_or_else(
            || "its tolerated colluders".to_owned(),
            |plan| format!("{} colluding members", plan.document().cohort.colluders),
        );
        lines.push(format!(
            "privacy of one {unit}: ε = {}{budget} against the coordinator with {colluders}, ε = {} against everybody else \
             together, δ = {:e}",
            epsilon(spent.epsilon),
            epsilon(spent.epsilon_local),
            spent.delta
        ));
    } else if !unit.is_empty() {
        lines.push(format!("privacy of one {unit}: nothing spent yet"));
    }
    if let Some(plan) = plan {
        let note = &plan.document().privacy.note;
        if !note.is_empty() {
            lines.push(format!("note: {}", clean(note)));
        }
    }
    lines
}
