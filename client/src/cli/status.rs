//! `status`: what this client is doing, from its own files, as this organization sees it.

use std::collections::BTreeMap;

use consilium_proto::{plan::VerifiedPlan, roster::VerifiedRoster};
use jiff::Timestamp;
use serde::Serialize;

use super::{ConfiguredJson, Failure, egress::open_ledger, output};
use crate::{
    config::{Config, today},
    decisions::{Act, Decisions, Leave},
    egress,
    files::FolderLock,
    live::Live,
};

/// Everything that `status` shows and `metrics` counts.
#[derive(Serialize)]
pub(crate) struct Status {
    pub(crate) organization: String,
    pub(crate) consortium: String,
    pub(crate) job: String,
    pub(crate) plan: String,
    pub(crate) software: &'static str,
    /// Whose view every number is.
    pub(crate) view: String,
    /// `not-running`, or what the running process does.
    pub(crate) phase: String,
    pub(crate) since: Option<Timestamp>,
    pub(crate) pid: Option<u32>,
    /// `approved`, `rejected`, `waiting`, `auto`.
    pub(crate) approval: &'static str,
    /// `paused`, `stopped` or `left`, by whom, when and why.
    pub(crate) halted: Option<String>,
    pub(crate) rounds: u32,
    pub(crate) applied_round: u32,
    pub(crate) round: u32,
    pub(crate) attempt: u32,
    pub(crate) reached: String,
    pub(crate) heard: Option<Timestamp>,
    pub(crate) last_error: Option<String>,
    pub(crate) joined: u64,
    pub(crate) declined: BTreeMap<String, u64>,
    pub(crate) disconnects: u64,
    pub(crate) debits: u64,
    pub(crate) epsilon_spent: f64,
    pub(crate) epsilon_budget: f64,
    pub(crate) delta: f64,
    pub(crate) epsilon_spent_all_jobs: f64,
    pub(crate) epsilon_budget_all_jobs: Option<f64>,
    pub(crate) messages_sent: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) last_sent: Option<String>,
    pub(crate) last_sent_at: Option<Timestamp>,
    /// Until this organization's keys, and the coordinator's, end.
    pub(crate) key_days_left: i32,
    pub(crate) coordinator_key_days_left: i32,
    pub(crate) disk_free_bytes: Option<u64>,
}

impl Status {
    /// Looks at every file; changes none and asks nobody.
    pub(crate) fn look(config: &Config) -> Result<Self, Failure> {
        let roster = config.open_roster()?;
        let plan = config.open_plan(&roster)?;
        let (job, document) = (&plan.document().job, plan.document());
        let key = config.open_identity()?.signing_key().verifying_key();
        let standing =
            Decisions::read(&config.state, &config.organization)?.standing(job, &plan.digest(), &key);
        let running = FolderLock::is_held(&config.state);
        let live =
            Live::read(&config.job_folder(&plan)).filter(|live| live.plan == plan.digest().to_string());
        let waits =
            live.as_ref().is_some_and(|live| live.phase == "waiting-for-approval" && is_alive(live.pid));
        let applied =
            crate::run::kept_adapter(&config.job_folder(&plan), &plan)?.map_or(0, |(round, _)| round);
        let ledger = open_ledger(config)?;
        let total = config.open_policy()?.total_budget();
        let spent = ledger.spent(job);
        let in_all = ledger.spent_in_all(total.map(|(_, delta)| delta));
        let lines = egress::read(&config.state, &config.organization)?.lines;
        let last = lines.last().map(|last| &last.line);
        let shown = live.as_ref().filter(|_| running || waits);
        let (own, coordinator) = days_left(config, &roster);
        Ok(Self {
            organization: config.organization.to_string(),
            consortium: roster.document().consortium.to_string(),
            job: job.to_string(),
            plan: plan.digest().to_string(),
            software: env!("CARGO_PKG_VERSION"),
            view: format!("the files of {}", config.organization),
            phase: shown.map_or_else(|| "not-running".to_owned(), |live| live.phase.clone()),
            since: shown.map(|live| live.since),
            pid: shown.map(|live| live.pid),
            approval: match (standing.answer(), config.approval.asks()) {
                (Some(answer), _) if answer.act == Act::Approve => "approved",
                (Some(_), _) => "rejected",
                (None, true) => "waiting",
                (None, false) => "auto",
            },
            halted: match standing.leave(false) {
                Leave::Pause(it) | Leave::End(it) => {
                    Some(format!("{} by {} on {:.0}: {}", it.act.code(), it.by, it.time, it.reason))
                }
                Leave::Go | Leave::Wait => None,
            },
            rounds: document.rounds,
            applied_round: applied,
            round: live.as_ref().map_or(0, |live| live.round),
            attempt: live.as_ref().map_or(0, |live| live.attempt),
            reached: live.as_ref().map_or_else(String::new, |live| live.reached.clone()),
            heard: live.as_ref().and_then(|live| live.heard),
            last_error: live.as_ref().and_then(|live| live.last_error.clone()),
            joined: live.as_ref().map_or(0, |live| live.joined),
            declined: live.as_ref().map_or_else(BTreeMap::new, |live| live.declined.clone()),
            disconnects: live.as_ref().map_or(0, |live| live.disconnects),
            debits: ledger.length(),
            epsilon_spent: spent.epsilon,
            epsilon_budget: document.privacy.epsilon,
            delta: document.privacy.delta,
            epsilon_spent_all_jobs: in_all.epsilon,
            epsilon_budget_all_jobs: total.map(|(epsilon, _)| epsilon),
            messages_sent: lines.len() as u64,
            bytes_sent: lines.iter().map(|it| it.line.bytes).sum(),
            last_sent: last.map(|line| format!("{} of round {}", line.step.as_str(), line.round)),
            last_sent_at: last.map(|line| line.time),
            key_days_left: own,
            coordinator_key_days_left: coordinator,
            disk_free_bytes: disk_free(config, &plan),
        })
    }

    fn text(&self) -> String {
        let when =
            |time: Option<Timestamp>| time.map_or_else(|| "never".to_owned(), |time| format!("{time:.0}"));
        let mut text =
            format!("{} in job {} of {}, by {}\n\n", self.organization, self.job, self.consortium, self.view);
        let mut line = |name: &str, value: String| text += &format!("{name:<14} {value}\n");
        let since = self.since.map_or_else(String::new, |since| format!(" since {since:.0}"));
        let pid = self.pid.map_or_else(String::new, |pid| format!(", pid {pid}"));
        line("client", format!("{}{since}{pid}, version {}", self.phase, self.software));
        line("plan", format!("{}, {}", self.plan, self.approval));
        if let Some(halted) = &self.halted {
            line("halted", halted.clone());
        }
        line("rounds", format!("{} of {} applied", self.applied_round, self.rounds));
        if self.round > 0 {
            line("last joined", format!("round {} attempt {}: {}", self.round, self.attempt, self.reached));
        }
        let codes = |(code, count): (&String, &u64)| format!("{code} {count}");
        let declined: Vec<_> = self.declined.iter().map(codes).collect();
        let declined = if declined.is_empty() { "none".to_owned() } else { declined.join(", ") };
        line(
            "since start",
            format!("{} joined; declined or left: {declined}; {} disconnects", self.joined, self.disconnects),
        );
        line("heard", when(self.heard));
        if let Some(error) = &self.last_error {
            line("last trouble", error.clone());
        }
        line(
            "privacy",
            format!(
                "ε = {} of {} in this job at δ = {:e}; all jobs {}{}; {} debits",
                output::epsilon(self.epsilon_spent),
                self.epsilon_budget,
                self.delta,
                output::epsilon(self.epsilon_spent_all_jobs),
                self.epsilon_budget_all_jobs.map_or_else(String::new, |budget| format!(" of {budget}")),
                self.debits
            ),
        );
        let last = self
            .last_sent
            .as_ref()
            .map_or_else(String::new, |last| format!("; last: {last}, {}", when(self.last_sent_at)));
        line("sent", format!("{} messages, {} bytes{last}", self.messages_sent, self.bytes_sent));
        line(
            "keys",
            format!("{} days left; the coordinator's {}", self.key_days_left, self.coordinator_key_days_left),
        );
        if let Some(free) = self.disk_free_bytes {
            line("disk", format!("{} MiB free where the state is", free >> 20));
        }
        text
    }
}

pub(crate) fn status(command: &ConfiguredJson) -> Result<(), Failure> {
    let status = Status::look(&Config::load(&command.configured.config)?)?;
    if command.json {
        return output::print_json(&status);
    }
    output::print(&status.text())
}

/// Days until this organization's entry and the coordinator's end; negative afterwards.
pub(crate) fn days_left(config: &Config, roster: &VerifiedRoster) -> (i32, i32) {
    let days = |until: jiff::civil::Date| today().until(until).map_or(0, |span| span.get_days());
    let own = roster.organization(&config.organization).map_or(0, |party| days(party.valid_until));
    (own, days(roster.coordinator().valid_until))
}

/// Free bytes on the disk of the state folder, or of where it will be.
pub(crate) fn disk_free(config: &Config, plan: &VerifiedPlan) -> Option<u64> {
    let folder = config.job_folder(plan);
    let there = folder.ancestors().find(|folder| folder.is_dir())?;
    let disk = rustix::fs::statvfs(there).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

/// Whether a process of this number exists; it may be another's by now.
fn is_alive(pid: u32) -> bool {
    std::path::Path::new("/proc").join(pid.to_string()).is_dir()
}
