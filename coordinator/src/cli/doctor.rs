//! `consilium doctor`: what is wrong with this installation, and how to mend it.
//!
//! Every check is made that can be: a broken file keeps nobody from hearing about the network. With `--coordinator-config` it
//! looks at the coordinator's own machine as well.

mod machine;
mod remote;

use std::{io::Write, path::PathBuf};

use clap::Args;
use consilium_proto::{
    identity::key_digest,
    roster::{Party, VerifiedRoster},
};
use jiff::civil::Date;
use serde_json::json;

use super::{
    Failure,
    roster::verified,
    sign::read_identity,
    target::{Named, TargetArgs, read_plan},
    today, write_json,
};
use crate::service::days_left;

/// Says what is wrong with this installation and how to mend it.
///
/// Looks at your files, the way to the coordinator, what the coordinator says of itself and its members, and, with
/// --coordinator-config on the coordinator's own machine, at that machine. Exit code 0: nothing is wrong; 1: something is.
/// Warnings alone are no failure.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium doctor --config operator.toml
  consilium doctor --config operator.toml --json | jq '.[] | select(.state != \"ok\")'
  consilium doctor --coordinator-config /etc/consilium/coordinator.toml")]
pub(super) struct Doctor {
    #[command(flatten)]
    target: TargetArgs,
    /// The coordinator's configuration, on its own machine.
    #[arg(long, value_name = "FILE")]
    coordinator_config: Option<PathBuf>,
    /// Print JSON: a list of checks.
    #[arg(long)]
    json: bool,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok,
    Warning,
    Wrong,
}

/// One check.
struct Check {
    what: &'static str,
    state: State,
    found: String,
    mend: String,
}

/// All checks, in the order in which they were made.
#[derive(Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn ok(&mut self, what: &'static str, found: impl Into<String>) {
        self.0.push(Check { what, state: State::Ok, found: found.into(), mend: String::new() });
    }

    fn warn(&mut self, what: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        self.0.push(Check { what, state: State::Warning, found: found.into(), mend: mend.into() });
    }

    fn wrong(&mut self, what: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        self.0.push(Check { what, state: State::Wrong, found: found.into(), mend: mend.into() });
    }

    /// The value, or a failed check: this program's failures name their cure themselves.
    fn keep<T>(&mut self, what: &'static str, result: Result<T, Failure>) -> Option<T> {
        result.map_err(|failure| self.wrong(what, failure.to_string(), "")).ok()
    }
}

impl Doctor {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut checks = Checks::default();
        if let Some(config) = &self.coordinator_config {
            machine::look(config, &mut checks);
        }
        if self.target.is_given() || self.coordinator_config.is_none() {
            look(self.target, &mut checks);
        }
        let wrong = checks.0.iter().filter(|check| check.state == State::Wrong).count();
        if self.json {
            let checks: Vec<_> = checks.0.iter().map(Check::json).collect();
            write_json(out, &json!(checks))?;
        } else {
            for check in &checks.0 {
                check.write(out)?;
            }
        }
        match wrong {
            0 => Ok(()),
            wrong => {
                Err(Failure::Refused(format!("{wrong} of {} checks found something wrong", checks.0.len())))
            }
        }
    }
}

impl Check {
    fn word(&self) -> &'static str {
        match self.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Wrong => "wrong",
        }
    }

    fn write(&self, out: &mut dyn Write) -> Result<(), Failure> {
        writeln!(out, "{:<8} {:<12} {}", self.word(), self.what, self.found)?;
        if !self.mend.is_empty() {
            writeln!(out, "{:<8} {:<12} mend: {}", "", "", self.mend)?;
        }
        Ok(())
    }

    fn json(&self) -> serde_json::Value {
        let mend = Some(&self.mend).filter(|mend| !mend.is_empty());
        json!({"check": self.what, "state": self.word(), "found": self.found, "mend": mend})
    }
}

/// Looks at an operator's files and, if they allow, at the coordinator.
fn look(target: TargetArgs, checks: &mut Checks) {
    let Some(named) = checks.keep("config", target.named()) else { return };
    checks.ok("config", format!("the coordinator is at {}", named.address));
    let Named { pin, roster: roster_path, identity: identity_path, plan: plan_path, .. } = &named;
    let roster = checks.keep("roster", verified(roster_path, pin));
    let identity = checks.keep("identity", read_identity(identity_path));
    if let Some(roster) = &roster {
        let document = roster.document();
        checks
            .ok("roster", format!("{}, version {}, its chain holds", document.consortium, roster.version()));
        keys(roster, today(), checks);
    }
    let role = roster.as_ref().zip(identity.as_ref()).and_then(|(roster, identity)| {
        let key = key_digest(identity.certificate())?;
        let caller = roster.caller(&key, today()).map_err(|e| Failure::in_file(identity_path, e));
        checks.keep("identity", caller)
    });
    if let Some(role) = &role {
        match role.role() {
            "organization" => checks.wrong(
                "identity",
                format!("{} is an organization of the roster, and no operator or viewer", role.id()),
                "use the identity of one; the roster lists them",
            ),
            role_name => checks.ok("identity", format!("{} is {role_name} in the roster", role.id())),
        }
    }
    if let (Some(path), Some(roster)) = (plan_path, &roster) {
        if let Some(plan) = checks.keep("plan", read_plan(path, roster)) {
            checks.ok("plan", format!("job {}, signed as the roster asks", plan.document().job));
        }
    } else if plan_path.is_none() {
        checks.warn(
            "plan",
            "none is given",
            "give plan in the file, so that acting commands can name the job and its budget is shown as signed",
        );
    }
    if role.is_some() {
        remote::look(target, checks);
    }
}

/// Keys that end soon or have ended.
fn keys(roster: &VerifiedRoster, today: Date, checks: &mut Checks) {
    let document = roster.document();
    let others = document.organizations.iter().chain(&document.operators).chain(&document.viewers);
    let all: Vec<(&Party, i64)> = std::iter::once(&document.coordinator)
        .chain(others)
        .map(|party| (party, days_left(party, today)))
        .collect();
    let mend = "the consortium signs a roster with a later date or a new key: `consilium roster propose`";
    for (party, days) in &all {
        match *days {
            days if days < 0 => {
                checks.wrong("keys", format!("{}'s ended on {}", party.id, party.valid_until), mend);
            }
            days if days <= 30 => {
                checks.warn(
                    "keys",
                    format!("{}'s end in {days} days, on {}", party.id, party.valid_until),
                    mend,
                );
            }
            _ => {}
        }
    }
    if let Some((party, days)) = all.iter().min_by_key(|(_, days)| *days).filter(|(_, days)| *days > 30) {
        checks.ok("keys", format!("all valid; the first to end is {}'s, in {days} days", party.id));
    }
    for id in roster.revoked() {
        checks.warn("keys", format!("{id} has revoked its key"), mend);
    }
}
