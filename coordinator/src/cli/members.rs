//! `consilium members` and `consilium member`: what the coordinator knows of each, and who is left out.

use std::io::Write;

use clap::{Args, Subcommand};
use consilium_proto::{action::What, ids::Id, wire};

use super::{
    Failure,
    act::ActArgs,
    json,
    table::{Table, bytes, clean, span},
    target::{TargetArgs, block_on},
    words, write_json,
};

/// Lists the members and all that the coordinator knows of each.
///
/// Which is: whether it is online, when it last spoke, its step, version and clock, its bytes, how often its session ended,
/// and the code with which it declined. Nothing about its data: the coordinator does not know it.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium members --config operator.toml
  consilium members --config operator.toml --json | jq -r '.[] | select(.online | not) | .id'")]
pub(super) struct Members {
    #[command(flatten)]
    target: TargetArgs,
    /// Print JSON: a list.
    #[arg(long)]
    json: bool,
}

impl Members {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let target = self.target.resolve()?;
        let status = block_on(async {
            let (mut client, link) = target.client().await?;
            link.answer(client.status(wire::StatusRequest {})).await
        })?;
        if self.json {
            return write_json(out, &status.members.iter().map(json::member).collect::<Vec<_>>());
        }
        for line in table(&status) {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

/// The table, with a line above it that says whose view it is.
pub(super) fn table(status: &wire::JobStatus) -> Vec<String> {
    let mut table = Table::new(&[
        "id",
        "state",
        "last seen",
        "step",
        "version",
        "wire",
        "clock",
        "from it",
        "to it",
        "ends/h",
        "note",
    ]);
    for member in &status.members {
        let code = clean(&member.refusal);
        let mut note =
            if code.is_empty() { String::new() } else { format!("{code}: {}", words::absence(&code)) };
        if member.suspended && code != "suspended" {
            note = format!("suspended from the next attempt on; {note}");
        }
        if member.sits_out > 0 {
            note = format!("sits out {} rounds; {note}", member.sits_out);
        }
        table.row([
            clean(&member.id),
            state(member).into(),
            seen(member, status.now_ms),
            if member.step.is_empty() { "-".into() } else { clean(&member.step) },
            if member.software.is_empty() { "-".into() } else { clean(&member.software) },
            if member.protocol_version == 0 { "-".into() } else { member.protocol_version.to_string() },
            member.clock_skew_ms.map_or("-".into(), skew),
            bytes(member.bytes_in),
            bytes(member.bytes_out),
            member.disconnects_hour.to_string(),
            note.trim_end_matches("; ").to_owned(),
        ]);
    }
    let mut lines = vec![
        "the coordinator's view, all of it; clock: theirs against its own; bytes: since its process began"
            .to_owned(),
    ];
    lines.extend(table.lines());
    lines
}

/// One word for where a member stands.
pub(super) fn state(member: &wire::MemberStatus) -> &'static str {
    match (member.online, member.done, member.awaited) {
        (false, _, true) => "away, awaited",
        (false, ..) => "away",
        (true, _, true) => "awaited",
        (true, true, false) => "done",
        (true, false, false) => "online",
    }
}

/// How long ago it spoke.
pub(super) fn seen(member: &wire::MemberStatus, now_ms: u64) -> String {
    if member.last_seen_ms == 0 {
        return "never".into();
    }
    format!("{} ago", span(now_ms.saturating_sub(member.last_seen_ms) as f64 / 1e3))
}

pub(super) fn skew(ms: i64) -> String {
    let seconds = ms as f64 / 1e3;
    if ms.abs() < 1000 { format!("{seconds:+.2} s") } else { format!("{seconds:+.0} s") }
}

/// Leaves a member out of the next attempts, or invites it again. The roster stays as it is.
#[derive(Debug, Subcommand)]
pub(super) enum Member {
    /// Leaves a member out from the next attempt on; the running one goes on with it. Refused where fewer than the plan's
    /// minimum would be left.
    #[command(after_help = "\
Example:
  consilium member suspend site-2 --config operator.toml --reason 'its disk fails' --dry-run
  consilium member suspend site-2 --config operator.toml --reason 'its disk fails' --yes")]
    Suspend(Named),
    /// Invites a suspended member again from the next attempt on.
    #[command(after_help = "\
Example:
  consilium member resume site-2 --config operator.toml --reason 'new disk' --yes")]
    Resume(Named),
}

#[derive(Debug, Args)]
pub(super) struct Named {
    /// Which member.
    id: Id,
    #[command(flatten)]
    act: ActArgs,
}

impl Member {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Self::Suspend(Named { id, act }) => act.run(out, |_| Ok(What::MemberSuspend(id))),
            Self::Resume(Named { id, act }) => act.run(out, |_| Ok(What::MemberResume(id))),
        }
    }
}
