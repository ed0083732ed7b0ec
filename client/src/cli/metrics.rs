//! `metrics`: this organization's own numbers in Prometheus' text exposition format, for a file collector. The client opens no
//! port, and nothing here leaves by itself.

use std::{fmt::Write as _, path::PathBuf};

use clap::Args;

use super::{Configured, Failure, output, status::Status};
use crate::{config::Config, files};

#[derive(Debug, Args)]
pub(crate) struct Metrics {
    #[command(flatten)]
    common: Configured,
    /// File that is replaced, whole, by the numbers; standard output unless given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Metrics {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let text = exposition(&Status::look(&Config::load(&self.common.config)?)?);
        match self.out {
            Some(path) => Ok(files::write_atomic(&path, text.as_bytes())?),
            None => output::print(&text),
        }
    }
}

/// `# HELP`, `# TYPE` and one line for each number.
fn exposition(status: &Status) -> String {
    let mut text = String::new();
    let mut number = |name: &str, kind: &str, help: &str, value: f64| {
        let value = if value.is_infinite() { "+Inf".to_owned() } else { value.to_string() };
        // Unwrap safety: writing to a String does not fail. Organization and job are ids: nothing in them needs an escape.
        let _ = writeln!(
            text,
            "# HELP consilium_client_{name} {help}\n# TYPE consilium_client_{name} {kind}\nconsilium_client_{name}{{organization=\"{}\",job=\"{}\"}} {value}",
            status.organization, status.job
        );
    };
    let yes = |holds: bool| f64::from(u8::from(holds));
    number("running", "gauge", "1 while a client works on this state.", yes(status.phase != "not-running"));
    number(
        "connected",
        "gauge",
        "1 while its session is open.",
        yes(["connected", "paused"].contains(&status.phase.as_str())),
    );
    number(
        "approved",
        "gauge",
        "1 while the plan may run.",
        yes(["approved", "auto"].contains(&status.approval)),
    );
    number("halted", "gauge", "1 while it is paused, stopped or has left.", yes(status.halted.is_some()));
    number("rounds", "gauge", "Rounds in the plan.", status.rounds.into());
    number(
        "applied_round",
        "gauge",
        "Last round whose adapter was computed here.",
        status.applied_round.into(),
    );
    number("joined_total", "counter", "Attempts joined since the client started.", status.joined as f64);
    number(
        "disconnects_total",
        "counter",
        "Connections lost since the client started.",
        status.disconnects as f64,
    );
    number("ledger_debits", "counter", "Entries of the privacy ledger, all jobs.", status.debits as f64);
    number("epsilon_spent", "gauge", "Epsilon that this job has spent.", status.epsilon_spent);
    number("epsilon_budget", "gauge", "Epsilon that its plan allows.", status.epsilon_budget);
    number(
        "epsilon_spent_all_jobs",
        "gauge",
        "Epsilon that all jobs have spent.",
        status.epsilon_spent_all_jobs,
    );
    number(
        "egress_messages_total",
        "counter",
        "Messages in the journal of what left.",
        status.messages_sent as f64,
    );
    number("egress_bytes_total", "counter", "Their length, bytes.", status.bytes_sent as f64);
    number("key_days_left", "gauge", "Days until this organization's keys end.", status.key_days_left.into());
    number(
        "coordinator_key_days_left",
        "gauge",
        "Days until the coordinator's keys end.",
        status.coordinator_key_days_left.into(),
    );
    if let Some(free) = status.disk_free_bytes {
        number("disk_free_bytes", "gauge", "Free bytes where the state is.", free as f64);
    }
    if !status.declined.is_empty() {
        let name = "consilium_client_declined_total";
        text += &format!(
            "# HELP {name} Attempts declined or left since the client started, by code.\n# TYPE {name} counter\n"
        );
        for (code, count) in &status.declined {
            text += &format!(
                "{name}{{organization=\"{}\",job=\"{}\",code=\"{code}\"}} {count}\n",
                status.organization, status.job
            );
        }
    }
    text
}
