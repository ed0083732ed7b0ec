//! `plan explain`: what a plan asks of this organization, in words, before anybody says yes.

use consilium_proto::{
    ids::Id,
    plan::{PrivacyUnit, VerifiedPlan},
    roster::VerifiedRoster,
    signed::MAX_DOCUMENT_BYTES,
};
use serde::Serialize;

use super::{ConfiguredJson, Failure, egress::open_ledger, output, plan::APPROVED};
use crate::{
    config::Config,
    decisions::{Act, Decided, Decisions},
    files,
    ledger::LedgerState,
    policy::Verdict,
};

#[derive(Serialize)]
struct Explained {
    job: String,
    consortium: String,
    fingerprint: String,
    /// "manual" or "auto".
    approval: &'static str,
    /// What was decided about this text, if anything was.
    answer: Option<Decided>,
    /// The pause, stop or leave that holds.
    halted: Option<Decided>,
    signed_by: Vec<String>,
    cohort: Vec<String>,
    coordinator: String,
    rounds: u32,
    max_attempts: u32,
    labels: Vec<String>,
    model: String,
    max_records_per_patient: u32,
    unit: PrivacyUnit,
    note: String,
    colluders: u32,
    min_survivors: u32,
    sampling_rate: f64,
    delta: f64,
    epsilon_budget: f64,
    /// If every round takes one attempt; `null` where nothing bounds it.
    epsilon_after_all_rounds: f64,
    epsilon_local_after_all_rounds: f64,
    /// What this data set has spent on all jobs so far.
    epsilon_spent: f64,
    trained_parameters: usize,
    masked_bytes_per_attempt: usize,
    evaluates: bool,
    hours: Vec<String>,
    policy: Vec<String>,
    forbidden: Vec<String>,
    /// Lines that came and went since the plan that was approved last; absent: none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<String>>,
}

pub(crate) fn explain(command: &ConfiguredJson) -> Result<(), Failure> {
    let path = &command.configured.config;
    let config = Config::load(path)?;
    let roster = config.open_roster()?;
    let plan = config.open_plan(&roster)?;
    let explained = look(&config, &roster, &plan)?;
    if command.json {
        return output::print_json(&explained);
    }
    output::print(&explained.text(&path.display().to_string()))
}

fn look(config: &Config, roster: &VerifiedRoster, plan: &VerifiedPlan) -> Result<Explained, Failure> {
    let (document, derived) = (plan.document(), plan.derived());
    let key = config.open_identity()?.signing_key().verifying_key();
    let decisions = Decisions::read(&config.state, &config.organization)?;
    let standing = decisions.standing(&document.job, &plan.digest(), &key);
    let policy = config.open_policy()?;
    let valid_by = |signers: &[Id]| config.valid_by(signers, roster);
    let verdicts = policy.explain(Some((plan, &valid_by)));
    let privacy = &document.privacy;
    let all = derived.guarantees(document.rounds.into(), privacy.delta).ok();
    let (central, local) = all.map_or((f64::INFINITY, f64::INFINITY), |all| (all.central, all.local));
    let ledger: LedgerState = open_ledger(config)?;
    let spent = ledger.spent_in_all(policy.total_budget().map(|(_, delta)| delta));
    let signatures =
        files::read_text(&crate::config::signature_path(&config.plan), MAX_DOCUMENT_BYTES as u64)?;
    let signers =
        signatures.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(' ').next());
    Ok(Explained {
        job: document.job.to_string(),
        consortium: roster.document().consortium.to_string(),
        fingerprint: plan.digest().to_string(),
        approval: config.approval.as_str(),
        answer: standing.answer().cloned(),
        halted: standing.halted().cloned(),
        signed_by: signers.filter(|id| !id.is_empty()).map(str::to_owned).collect(),
        cohort: plan.cohort().iter().map(Id::to_string).collect(),
        coordinator: config.coordinator.clone(),
        rounds: document.rounds,
        max_attempts: document.retries.max_attempts,
        labels: document.task.labels.clone(),
        model: document.model.name.clone(),
        max_records_per_patient: document.task.max_records_per_patient,
        unit: privacy.unit,
        note: privacy.note.clone(),
        colluders: document.cohort.colluders,
        min_survivors: document.cohort.min_survivors,
        sampling_rate: privacy.sampling_rate,
        delta: privacy.delta,
        epsilon_budget: privacy.epsilon,
        epsilon_after_all_rounds: central,
        epsilon_local_after_all_rounds: local,
        epsilon_spent: spent.epsilon,
        trained_parameters: derived.manifest.dimension(),
        masked_bytes_per_attempt: derived.ring.packed_len(derived.vector_len),
        evaluates: document.evaluation.organization == config.organization,
        hours: document.hours.iter().map(ToString::to_string).collect(),
        policy: verdicts.iter().map(|verdict| verdict.meaning.clone()).collect(),
        forbidden: verdicts.iter().filter_map(forbidden).collect(),
        changes: changes(config, plan)?,
    })
}

fn forbidden(verdict: &Verdict) -> Option<String> {
    let forbids = verdict.forbids.as_ref()?;
    Some(format!("line {}, `{}`: {forbids}", verdict.line, verdict.text))
}

/// What differs from the plan that was approved last, line by line: TOML tables are few and flat, so lines say it well.
fn changes(config: &Config, plan: &VerifiedPlan) -> Result<Option<Vec<String>>, Failure> {
    let approved = config.job_folder(plan).join(APPROVED);
    if !approved.is_file() {
        return Ok(None);
    }
    let most = MAX_DOCUMENT_BYTES as u64;
    let (before, now) = (files::read_text(&approved, most)?, files::read_text(&config.plan, most)?);
    Ok(Some(differences(&before, &now)))
}

/// Lines of `before` that are not in `now`, and the other way round, each under its table.
fn differences(before: &str, now: &str) -> Vec<String> {
    let lines = |text: &str| -> Vec<String> {
        let mut table = String::new();
        let mut all = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with('[') && !line.contains('=') {
                table = format!("{line} ");
            } else {
                all.push(format!("{table}{line}"));
            }
        }
        all
    };
    let (before, now) = (lines(before), lines(now));
    let missing = |from: &[String], of: &[String], sign: char| -> Vec<String> {
        let mut rest = of.to_vec();
        let gone = from.iter().filter(|line| match rest.iter().position(|other| other == *line) {
            Some(at) => {
                rest.swap_remove(at);
                false
            }
            None => true,
        });
        gone.map(|line| format!("{sign} {line}")).collect()
    };
    let mut changes = missing(&before, &now, '-');
    changes.extend(missing(&now, &before, '+'));
    changes
}

impl Explained {
    fn text(&self, config: &str) -> String {
        let Self { job, consortium, fingerprint, rounds, max_attempts, coordinator, .. } = self;
        let mut text = format!("Job {job} of {consortium}\nfingerprint {fingerprint}\n\n");
        text += &format!("signed by        {}\n", self.signed_by.join(", "));
        text += &format!("takes part       {}\n", self.cohort.join(", "));
        text += &format!(
            "learns           to tell {} labels apart ({}), with {}\n",
            self.labels.len(),
            some(&self.labels),
            self.model
        );
        text += &format!(
            "how long         {rounds} rounds, at most {max_attempts} attempts each{}\n",
            if self.hours.is_empty() { String::new() } else { format!("; hours {}", self.hours.join(", ")) }
        );
        text += &format!(
            "uses             your records, at most {} a patient; a lot draws each patient with probability {}\n",
            self.max_records_per_patient, self.sampling_rate
        );
        text += &format!(
            "sends            to {coordinator} and nowhere else: keys, shares, votes, and {} masked bytes an attempt, a clipped and noisy \
             change of {} parameters; `plan rehearse` writes them to the disk{}\n",
            self.masked_bytes_per_attempt,
            self.trained_parameters,
            if self.evaluates { "; and the result on the public test set" } else { "" }
        );
        text += &format!(
            "who learns what  the coordinator and all members: the sum over those who survive, {} at least; nobody your own part of it, even if \
             the coordinator and {} members work together\n",
            self.min_survivors, self.colluders
        );
        text += &self.privacy();
        text += &format!(
            "\nyour policy      {}\n",
            if self.policy.is_empty() { "none: whatever is signed is allowed" } else { "" }
        );
        for line in &self.policy {
            text += &format!("  {line}\n");
        }
        for line in &self.forbidden {
            text += &format!("  {} {line}\n", output::red("FORBIDS"));
        }
        if let Some(changes) = &self.changes {
            text += match changes.is_empty() {
                true => "\nNothing changed since the plan that was approved last.\n",
                false => "\nChanged since the plan that was approved last:\n",
            };
            for line in changes {
                text += &format!("  {line}\n");
            }
        }
        text + "\n" + &self.standing(config)
    }

    fn privacy(&self) -> String {
        if self.unit == PrivacyUnit::None {
            return format!(
                "protects         {}: the unit is none, no noise is added\n",
                output::red("NOBODY, NO PRIVACY")
            );
        }
        let note = if self.note.is_empty() { String::new() } else { format!(" ({})", self.note) };
        format!(
            "protects         one {}{note}: ε = {} against the coordinator and its colluders, {} against everybody else together, \
             δ = {:e}, after all rounds at one attempt each; never above ε = {}; all jobs on this data have spent ε = {} so far\n",
            self.unit.name(),
            output::epsilon(self.epsilon_after_all_rounds),
            output::epsilon(self.epsilon_local_after_all_rounds),
            self.delta,
            self.epsilon_budget,
            output::epsilon(self.epsilon_spent)
        )
    }

    /// What was decided, and what can be.
    fn standing(&self, config: &str) -> String {
        let said = |it: &Decided, what| {
            let reason = if it.reason.is_empty() { String::new() } else { format!(": {}", it.reason) };
            format!("{what} by {} on {:.0}{reason}\n", it.by, it.time)
        };
        let mut text = match &self.answer {
            Some(it) if it.act == Act::Approve => said(it, "approved"),
            Some(it) => said(it, "rejected"),
            None if self.approval == "auto" => {
                "approval = \"auto\": it runs without anybody's yes\n".to_owned()
            }
            None => "nobody has answered yet; the client waits and dials nothing\n".to_owned(),
        };
        if let Some(it) = &self.halted {
            text += &said(it, it.act.code());
        }
        let short = self.fingerprint.get(..12).unwrap_or_default();
        text + &format!(
            "  yes   consilium-client plan approve {short} --config {config} --by NAME\n  no    consilium-client plan reject {short} \
             --config {config} --by NAME --reason TEXT\n"
        )
    }
}

/// The first few of many.
fn some(words: &[String]) -> String {
    match words {
        [first, second, third, _, ..] => format!("{first}, {second}, {third}, …"),
        few => few.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_shown_under_their_table() {
        let before = "rounds = 60\n[privacy]\nepsilon = 5.0\ndelta = 1e-5\n[[adapter.tensors]]\nname = \"a\"\n[[adapter.tensors]]\nname = \"b\"\n";
        let now = before
            .replace("epsilon = 5.0", "epsilon = 9.0")
            .replace("[[adapter.tensors]]\nname = \"b\"\n", "");
        assert_eq!(
            differences(before, &now),
            ["- [privacy] epsilon = 5.0", "- [[adapter.tensors]] name = \"b\"", "+ [privacy] epsilon = 9.0"]
        );
        assert!(differences(before, before).is_empty());
    }
}
