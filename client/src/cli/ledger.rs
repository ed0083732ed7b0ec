//! `ledger show` and `ledger verify`. Both only read, also while a client is running.

use std::collections::BTreeSet;

use crate::{
    config::Config,
    journal::Torn,
    ledger::{Debit, LedgerFile, LedgerState, Spent},
};
use clap::{Args, Subcommand};
use consilium_proto::ids::Id;
use serde::Serialize;

use super::{ConfiguredJson, Failure, output};

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// What each job has spent, and all of them together.
    #[command(
        after_help = "Example:\n  consilium-client ledger show --config client.toml --json | jq .total.epsilon"
    )]
    Show(Show),
    /// Check every byte of the ledger and recompute every entry.
    #[command(after_help = "Example:\n  consilium-client ledger verify --config client.toml")]
    Verify(ConfiguredJson),
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    common: ConfiguredJson,
    /// Also list every entry.
    #[arg(long)]
    entries: bool,
}

#[derive(Serialize)]
struct Shown {
    data_set: String,
    length: u64,
    jobs: Vec<JobSpend>,
    total: Spend,
    budget: Option<BudgetView>,
    /// Bytes of a torn last line, which was never confirmed and counts for nothing.
    torn_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<Vec<Debit>>,
}

#[derive(Serialize)]
struct BudgetView {
    epsilon: f64,
    delta: f64,
}

#[derive(Serialize)]
struct JobSpend {
    job: String,
    plans: Vec<String>,
    first_round: u32,
    last_round: u32,
    #[serde(flatten)]
    spent: Spend,
}

/// `ε`s are composed from all the entries concerned, never added.
#[derive(Serialize)]
struct Spend {
    debits: u64,
    epsilon: f64,
    epsilon_local: f64,
    delta: f64,
}

impl From<Spent> for Spend {
    fn from(spent: Spent) -> Self {
        let Spent { epsilon, epsilon_local, delta, debits } = spent;
        Self { debits, epsilon, epsilon_local, delta }
    }
}

#[derive(Serialize)]
struct Verified {
    ok: bool,
    data_set: String,
    length: u64,
    digest: String,
    salted_head: String,
    torn_bytes: u64,
}

impl LedgerCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Show(command) => command.run(),
            Self::Verify(command) => verify(&command),
        }
    }
}

impl Show {
    fn run(self) -> Result<(), Failure> {
        let config = Config::load(&self.common.configured.config)?;
        let budget = config.open_policy()?.total_budget();
        let (state, torn) = if config.ledger().exists() {
            LedgerFile::read(&config.ledger(), &config.data.name)?
        } else {
            // A salt is drawn with the first attempt; nothing here shows it.
            (LedgerState::new(config.data.name.clone(), [0; 32]), None)
        };
        let shown = Shown {
            data_set: state.data_set().to_string(),
            length: state.length(),
            jobs: state.jobs().map(|job| of_job(&state, job)).collect(),
            total: state.spent_in_all(budget.map(|(_, delta)| delta)).into(),
            budget: budget.map(|(epsilon, delta)| BudgetView { epsilon, delta }),
            torn_bytes: torn.map_or(0, |torn| torn.bytes),
            entries: self.entries.then(|| state.debits().to_vec()),
        };
        if self.common.json { output::print_json(&shown) } else { output::print(&shown.text()) }
    }
}

fn of_job(state: &LedgerState, job: &Id) -> JobSpend {
    let debits = || state.debits().iter().filter(|debit| debit.job == *job);
    let plans: BTreeSet<&str> = debits().map(|debit| debit.plan.as_str()).collect();
    let rounds = || debits().map(|debit| debit.round);
    JobSpend {
        job: job.to_string(),
        plans: plans.into_iter().map(str::to_owned).collect(),
        first_round: rounds().min().unwrap_or(0),
        last_round: rounds().max().unwrap_or(0),
        spent: state.spent(job).into(),
    }
}

impl Shown {
    fn text(&self) -> String {
        let mut text = format!("Privacy ledger of the data set {}: {} debits\n", self.data_set, self.length);
        if self.length == 0 {
            text += "Nothing has been spent.\n";
        } else {
            text += "ε is composed anew from the entries, per line; values of ε are not added.\n\n";
            let cells = |name: &str, rounds: String, spent: &Spend| {
                let (central, local) =
                    (format!("{:.4}", spent.epsilon), format!("{:.4}", spent.epsilon_local));
                vec![
                    name.to_owned(),
                    rounds,
                    spent.debits.to_string(),
                    central,
                    local,
                    format!("{:e}", spent.delta),
                ]
            };
            let head = ["job", "rounds", "debits", "ε coordinator + colluders", "ε everybody else", "δ"];
            let mut rows = vec![head.map(str::to_owned).to_vec()];
            for job in &self.jobs {
                rows.push(cells(&job.job, format!("{} to {}", job.first_round, job.last_round), &job.spent));
            }
            rows.push(cells("all jobs", String::new(), &self.total));
            text += &output::table(&rows);
        }
        if let Some(budget) = &self.budget {
            text += &format!(
                "\nThis organization's budget over all jobs: ε = {} at δ = {:e}\n",
                budget.epsilon, budget.delta
            );
        }
        if let Some(entries) = self.entries.as_ref().filter(|entries| !entries.is_empty()) {
            let head =
                ["job", "round", "attempt", "q", "z", "z alone", "σ share", "shares", "Δ", "dimension"];
            let mut rows = vec![head.map(str::to_owned).to_vec()];
            rows.extend(entries.iter().map(|debit| {
                vec![
                    debit.job.to_string(),
                    debit.round.to_string(),
                    debit.attempt.to_string(),
                    debit.sampling_rate.to_string(),
                    format!("{:.5}", debit.noise_multiplier),
                    format!("{:.5}", debit.local_multiplier),
                    format!("{:.3}", debit.sigma_share),
                    debit.shares.to_string(),
                    format!("{:.3}", debit.sensitivity),
                    debit.dimension.to_string(),
                ]
            }));
            text += &format!("\n{}", output::table(&rows));
        }
        if self.torn_bytes > 0 {
            text += &torn_note(self.torn_bytes);
        }
        text
    }
}

fn torn_note(bytes: u64) -> String {
    format!(
        "\nThe last line is torn ({bytes} bytes): the process died while writing it, before anything of that attempt was \
         sent. It counts for nothing and is cut off at the next start.\n"
    )
}

fn verify(command: &ConfiguredJson) -> Result<(), Failure> {
    let config = Config::load(&command.configured.config)?;
    let path = config.ledger();
    if !path.exists() {
        return Err(Failure::Ledger(format!(
            "{}: there is no ledger. Before the first attempt that is right; afterwards the state folder was lost: restore \
             it from its backup",
            path.display()
        )));
    }
    let (state, torn): (_, Option<Torn>) = LedgerFile::read(&path, &config.data.name)?;
    let verified = Verified {
        ok: true,
        data_set: state.data_set().to_string(),
        length: state.length(),
        digest: state.digest().to_string(),
        salted_head: state.salted_head().to_string(),
        torn_bytes: torn.map_or(0, |torn| torn.bytes),
    };
    if command.json {
        return output::print_json(&verified);
    }
    let mut text = format!(
        "ok: {} debits of the data set {}; every line follows from the one before, every entry's multipliers follow \
         from its scales, no attempt is debited twice\ndigest       {}\nsalted head  {} (what peers were told)\n",
        verified.length, verified.data_set, verified.digest, verified.salted_head
    );
    if verified.torn_bytes > 0 {
        text += &torn_note(verified.torn_bytes);
    }
    output::print(&text)
}
