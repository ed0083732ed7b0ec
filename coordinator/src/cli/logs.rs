//! `consilium logs`: the job's record, as far as the coordinator keeps it at hand.

use std::io::Write;

use clap::Args;
use consilium_crypto::digest::Digest;
use consilium_proto::{action::Action, wire};
use serde_json::json;

use super::{
    Failure,
    table::clean,
    target::{Target, TargetArgs, block_on},
    words,
};

/// Shows what the coordinator recorded: attempts, answers by member and step, failures, and what operators did.
///
/// The last 8192 events; each line is the coordinator's word, except that instructions of operators are verified here, with
/// the roster, and marked. What a message held is not in the record that is shown.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium logs --config operator.toml
  consilium logs --config operator.toml --kind acted
  consilium logs --config operator.toml --follow --who site-2
  consilium logs --config operator.toml --json | jq -r 'select(.kind == \"failed\") | .code'")]
pub(super) struct Logs {
    #[command(flatten)]
    target: TargetArgs,
    /// First event wanted, counted from 1; default: the oldest at hand.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    from: u64,
    /// Only events of this kind: opened, accepted, stored, closed, released, declined, blamed, failed, evaluated, pardoned,
    /// acted.
    #[arg(long)]
    kind: Option<String>,
    /// Only events of this member or operator.
    #[arg(long, value_name = "ID")]
    who: Option<String>,
    /// Stay, and show events as they come.
    #[arg(long)]
    follow: bool,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

impl Logs {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let target = self.target.resolve()?;
        block_on(async {
            let (mut client, link) = target.client().await?;
            let request = wire::LogRequest { from: self.from, follow: self.follow };
            let mut entries = link.answer(client.log(request)).await?;
            while let Some(entry) = entries.message().await.map_err(|status| link.failed(&status))? {
                let shown = Shown::of(&entry, &target);
                if self.kind.as_ref().is_some_and(|kind| *kind != entry.kind)
                    || self.who.as_ref().is_some_and(|who| *who != shown.who)
                {
                    continue;
                }
                if self.json {
                    writeln!(out, "{}", shown.json(&entry))?;
                } else {
                    writeln!(out, "{}", shown.line(&entry))?;
                }
                out.flush()?;
            }
            Ok(())
        })
    }
}

/// What a line adds to an entry.
struct Shown {
    at: String,
    who: String,
    action: Option<(String, String, &'static str)>,
}

impl Shown {
    fn of(entry: &wire::LogEntry, target: &Target) -> Self {
        let at = i64::try_from(entry.at_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let at = at.map_or("-".to_owned(), |at| format!("{at:.3}"));
        let Some(signed) = &entry.action else {
            return Self { at, who: clean(&entry.who), action: None };
        };
        // Under the plan at hand, or else under the one that the instruction names.
        let named = <wire::Action as prost::Message>::decode(signed.action.as_slice()).ok();
        let named = named.and_then(|action| action.plan_digest.try_into().ok()).map(Digest);
        let plan = target.plan.as_ref().map(|plan| plan.digest()).or(named).unwrap_or(Digest([0; 32]));
        let (action, holds) = match Action::verify(signed, &target.roster, &plan) {
            Ok(action) => (Some(action), "signature holds"),
            Err(_) => (Action::read(signed, &plan).ok(), "SIGNATURE DOES NOT HOLD"),
        };
        let Some(action) = action else {
            return Self { at, who: String::new(), action: Some((String::new(), String::new(), holds)) };
        };
        let verb = match action.what.member() {
            Some(member) => format!("{} {member}", action.what.verb()),
            None => action.what.verb().to_owned(),
        };
        Self { at, who: action.operator.to_string(), action: Some((verb, clean(&action.reason), holds)) }
    }

    fn line(&self, entry: &wire::LogEntry) -> String {
        let place = match (entry.round, entry.attempt) {
            (0, _) => "-".to_owned(),
            (round, attempt) => format!("{round}.{attempt}"),
        };
        let mut line = format!(
            "{:>6}  {}  {place:<6} {:<9} {:<12} {}",
            entry.sequence,
            self.at,
            clean(&entry.kind),
            self.who,
            clean(&entry.step)
        );
        if let Some((verb, reason, holds)) = &self.action {
            line.push_str(&format!("{verb}: {reason} ({holds})"));
        }
        let code = clean(&entry.code);
        if !code.is_empty() {
            let meaning = match entry.kind.as_str() {
                "failed" => words::outcome(&code),
                "declined" => words::absence(&code),
                _ => "the check of that number in the manual's table",
            };
            line.push_str(&format!("{code}: {meaning}"));
        }
        line.trim_end().to_owned()
    }

    fn json(&self, entry: &wire::LogEntry) -> serde_json::Value {
        let words = |text: &str| Some(clean(text)).filter(|text| !text.is_empty());
        let action = self.action.as_ref().map(|(verb, reason, holds)| {
            json!({"action": verb, "reason": reason, "signature_holds": *holds == "signature holds"})
        });
        json!({
            "sequence": entry.sequence, "at": self.at, "round": entry.round, "attempt": entry.attempt,
            "kind": clean(&entry.kind), "who": words(&self.who), "step": words(&entry.step), "code": words(&entry.code),
            "operator": action, "view": "the coordinator",
        })
    }
}
