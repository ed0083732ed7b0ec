//! `consilium why`: what a round waits for, since when, what happens next, and which commands help.

use std::io::Write;

use clap::Args;
use consilium_proto::{plan::VerifiedPlan, wire};
use serde_json::json;

use super::{
    Failure, json,
    members::{seen, state},
    round,
    table::{clean, epsilon, span},
    target::{TargetArgs, block_on},
    words, write_json,
};

/// Says why the job does not go on, or why a round ended as it did.
///
/// Without a number, of the round that runs: the step, what it still needs, whom it waits for and since when, codes with
/// which members declined, what happens at the deadline, what it has cost in privacy, and which commands help.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium why --config operator.toml
  consilium why 7 --config operator.toml --json")]
pub(super) struct Why {
    /// An ended round, from 1.
    round: Option<u32>,
    #[command(flatten)]
    target: TargetArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Why {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let target = self.target.resolve()?;
        let (status, rounds) = block_on(async {
            let (mut client, link) = target.client().await?;
            let status = link.answer(client.status(wire::StatusRequest {})).await?;
            let rounds = link.answer(client.rounds(wire::RoundsRequest {})).await?;
            Ok((status, rounds.rounds))
        })?;
        let current = status.round;
        let number = self.round.unwrap_or(current);
        let ended: Vec<_> = rounds.iter().filter(|round| round.round == number).collect();
        let runs = number == current && status.state != "finished";
        if ended.is_empty() && !runs {
            return Err(Failure::Refused(format!(
                "no attempt of round {number} has begun; the job stands at round {current} of {}",
                status.rounds
            )));
        }
        let now = runs.then(|| Now::of(&status));
        if self.json {
            let attempts: Vec<_> = ended.iter().map(|round| json::round(round)).collect();
            let now = now.map(|now| now.json(&status));
            return write_json(
                out,
                &json!({"round": number, "now": now, "ended": attempts, "view": "the coordinator"}),
            );
        }
        if let Some(now) = now {
            for line in now.lines(&status, target.plan.as_ref()) {
                writeln!(out, "{line}")?;
            }
        }
        for attempt in ended {
            for line in round::lines(attempt) {
                writeln!(out, "{line}")?;
            }
        }
        Ok(())
    }
}

/// The running round, explained.
struct Now {
    awaited: Vec<(String, String)>,
    declined: Vec<(String, String)>,
    commands: Vec<String>,
}

impl Now {
    fn of(status: &wire::JobStatus) -> Self {
        let awaited = status.members.iter().filter(|member| member.awaited);
        let awaited = awaited.map(|member| {
            let at =
                if member.step.is_empty() { String::new() } else { format!(", at {}", clean(&member.step)) };
            (clean(&member.id), format!("{}{at}, last seen {}", state(member), seen(member, status.now_ms)))
        });
        let declined = status.members.iter().filter(|member| !member.refusal.is_empty());
        let declined = declined.map(|member| (clean(&member.id), clean(&member.refusal)));
        let mut now = Self { awaited: awaited.collect(), declined: declined.collect(), commands: Vec::new() };
        now.commands = now.help(status);
        now
    }

    /// Commands that help, the likeliest first.
    fn help(&self, status: &wire::JobStatus) -> Vec<String> {
        let mut commands = Vec::new();
        match status.hold.as_str() {
            "not-started" => commands.push("consilium job start --reason … --yes".to_owned()),
            "paused" => commands.push("consilium job resume --reason … --yes".to_owned()),
            _ => {}
        }
        let suspended = status.members.iter().filter(|member| member.suspended);
        commands.extend(
            suspended.map(|member| format!("consilium member resume {} --reason … --yes", clean(&member.id))),
        );
        commands.push("consilium members".to_owned());
        if !self.awaited.is_empty() {
            commands
                .push("at a member that is awaited: consilium-client check --config client.toml".to_owned());
        }
        if status.state == "running" {
            commands.push("consilium round abort --reason … --dry-run".to_owned());
        }
        commands.push("consilium logs --follow".to_owned());
        commands.push("consilium doctor".to_owned());
        commands
    }

    fn json(&self, status: &wire::JobStatus) -> serde_json::Value {
        let waits: Vec<_> =
            self.awaited.iter().map(|(id, where_)| json!({"id": id, "state": where_})).collect();
        let declined: Vec<_> = self
            .declined
            .iter()
            .map(|(id, code)| json!({"id": id, "code": code, "meaning": words::absence(code)}))
            .collect();
        json!({
            "state": status.state, "hold": status.hold, "attempt": status.attempt, "step": status.step,
            "answers": status.answers, "needed": status.needed, "waits_for": waits, "declined": declined,
            "since_seconds": status.step_seconds, "deadline_seconds": status.deadline_seconds,
            "at_deadline": status.at_deadline, "debited": status.debited,
            "spent": json::privacy(status.spent.as_ref()), "wasted": json::privacy(status.wasted.as_ref()),
            "commands": self.commands,
        })
    }

    fn lines(&self, status: &wire::JobStatus, plan: Option<&VerifiedPlan>) -> Vec<String> {
        let step = clean(&status.step);
        let mut lines = vec![format!(
            "round {} of {}, attempt {}: {}, step {step}; as the coordinator sees it",
            status.round,
            status.rounds,
            status.attempt,
            clean(&status.state)
        )];
        let hold = words::hold(&status.hold);
        if !hold.is_empty() {
            lines.push(format!("  held          {hold}"));
        }
        lines.push(format!("  since         {}", span(status.step_seconds)));
        lines.push(match step.as_str() {
            "release" => "  needs         nothing more: the sum is being made".to_owned(),
            "wait" => format!("  needs         {} members online, and has {}", status.needed, status.answers),
            _ => format!("  needs         {} answers, and has {}", status.needed, status.answers),
        });
        for (id, where_) in &self.awaited {
            lines.push(format!("  waits for     {id}: {where_}"));
        }
        for (id, code) in &self.declined {
            lines.push(format!("  declined      {id}: {code}: {}", words::absence(code)));
        }
        let then = words::at_deadline(&status.at_deadline, status.attempt, status.max_attempts);
        lines.push(match status.at_deadline.as_str() {
            "" => format!("  deadline      {then}"),
            _ => format!("  deadline      in {}: {then}", span(status.deadline_seconds)),
        });
        lines.push(format!("  cost          {}", cost(status, plan)));
        for (index, command) in self.commands.iter().enumerate() {
            let word = if index == 0 { "what helps" } else { "" };
            lines.push(format!("  {word:<13} {command}"));
        }
        lines
    }
}

/// What was spent, and what of it for nothing.
fn cost(status: &wire::JobStatus, plan: Option<&VerifiedPlan>) -> String {
    let attempt = match (status.step.as_str(), status.debited) {
        ("wait", _) => "no attempt runs",
        (_, true) => "this attempt has cost privacy already",
        (_, false) => "this attempt has cost no privacy yet",
    };
    let budget = plan.map_or(status.epsilon_budget, |plan| plan.document().privacy.epsilon);
    let of = if budget > 0.0 { format!(" of {budget}") } else { String::new() };
    let number = |privacy: Option<&wire::Privacy>| {
        privacy.map_or("not computed yet".to_owned(), |privacy| epsilon(privacy.epsilon))
    };
    format!(
        "{attempt}; ε = {}{of} spent, {} of it for nothing; {} may still be repeated at a cost",
        number(status.spent.as_ref()),
        number(status.wasted.as_ref()),
        match status.reserve_left {
            u32::MAX => "any number of attempts".to_owned(),
            1 => "1 attempt".to_owned(),
            left => format!("{left} attempts"),
        }
    )
}
