//! `check`: everything that `run` looks at first, without a network and without writing.

use std::{fmt::Display, path::Path};

use crate::{
    config::{Config, adapter_spec, check_delta, delta_of_patients, today},
    data::Dataset,
    ledger::{Budget, Debit, LedgerFile, LedgerState},
    model::ModelFolder,
    policy::Policy,
};
use consilium_proto::{
    plan::{PrivacyUnit, VerifiedPlan},
    roster::VerifiedRoster,
};
use serde::Serialize;

use super::{Failure, output};

#[derive(Default, Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Check>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outlook: Option<Outlook>,
}

#[derive(Serialize)]
struct Check {
    what: &'static str,
    ok: bool,
    detail: String,
}

/// What would happen.
#[derive(Serialize)]
struct Outlook {
    organization: String,
    consortium: String,
    job: String,
    /// The only address that is dialled.
    coordinator: String,
    rounds: u32,
    max_attempts: u32,
    /// This organization's own view; never sent.
    patients: usize,
    /// Of them, expected in a round's lot.
    expected_lot: f64,
    trained_parameters: usize,
    upload_bytes_per_attempt: usize,
    unit: PrivacyUnit,
    /// Steps that this organization takes by itself in a round; 0: one, together with the others.
    local_steps: u32,
    note: String,
    delta: f64,
    epsilon_budget: f64,
    /// Infinite (`null`) where nothing bounds it. If every round takes one attempt and this organization takes part in all of them.
    epsilon_after_all_rounds: f64,
    epsilon_local_after_all_rounds: f64,
    epsilon_spent: f64,
    /// How many attempts fit into what is left of every budget; 0: it would decline the first.
    attempts_that_fit: u64,
    /// The last round that fits, if every round from here on takes one attempt; absent when none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_round: Option<u64>,
    /// Why no attempt fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_refusal: Option<String>,
    evaluates: bool,
}

impl Report {
    /// Notes a check; gives its value if it passed.
    fn note<T>(
        &mut self,
        what: &'static str,
        result: Result<T, impl Display>,
        detail: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let (ok, detail) = match &result {
            Ok(value) => (true, detail(value)),
            Err(error) => (false, error.to_string()),
        };
        self.checks.push(Check { what, ok, detail });
        result.ok()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for check in &self.checks {
            let mark = if check.ok { "ok    " } else { "FAILED" };
            // Continuation lines of a parser's message stand under its first.
            let detail = check.detail.trim_end().replace('\n', "\n                   ");
            text += &format!("{mark}  {:<9}  {detail}\n", check.what);
        }
        if let Some(outlook) = &self.outlook {
            text += &outlook.text();
        }
        text + "\nNothing was sent and nothing was written.\n"
    }
}

pub(crate) fn check(path: &Path, json: bool) -> Result<(), Failure> {
    let mut report = Report::default();
    look(path, &mut report);
    report.ok = report.checks.iter().all(|check| check.ok);
    let ok = report.ok;
    if json {
        output::print_json(&report)?
    } else {
        output::print(&report.text())?
    }
    if ok { Ok(()) } else { Err(Failure::Printed) }
}

/// Goes as far as it can: a check whose premises failed is left out, all others are made.
fn look(path: &Path, report: &mut Report) -> Option<()> {
    let config = report.note("config", Config::load(path), |_| path.display().to_string())?;
    let identity =
        report.note("identity", config.open_identity(), |identity| format!("{}, private", identity.id));
    let roster = report.note("roster", config.open_roster(), |roster| {
        let document = roster.document();
        let (name, count) = (&document.consortium, document.organizations.len());
        format!("{name}, {count} organizations, fingerprint {}", roster.digest())
    });
    if let (Some(identity), Some(roster)) = (&identity, &roster) {
        report.note("own keys", config.check_entry(identity, roster, today()), |()| {
            let until = roster.organization(&config.organization).map(|party| party.valid_until.to_string());
            format!("listed, valid until {}", until.unwrap_or_default())
        });
    }
    let policy = report.note("policy", config.open_policy(), |policy| match policy.path().as_os_str() {
        path if path.is_empty() => "none: whatever is signed is allowed".to_owned(),
        path => format!("{}: {} lines", path.display(), policy.explain(None).len()),
    });
    let ledger = report.note("ledger", open_ledger(&config), |state| {
        let total = policy.as_ref().and_then(Policy::total_budget);
        let spent = state.spent_in_all(total.map(|(_, delta)| delta));
        match state.length() {
            0 => "nothing has been spent of this data set".to_owned(),
            debits => {
                let epsilon = output::epsilon(spent.epsilon);
                format!("{debits} debits of all jobs, ε = {epsilon} at δ = {:e}", spent.delta)
            }
        }
    });
    let roster = roster?;
    let plan = report.note("plan", config.open_plan(&roster), |plan| {
        let document = plan.document();
        format!("{}, {} rounds, fingerprint {}", document.job, document.rounds, plan.digest())
    })?;
    let policy = policy?;
    report.note("allowed", config.check_policy(&policy, &plan, &roster), |()| {
        "no line of the policy forbids the plan".to_owned()
    });
    let model = report.note("model", config.open_model(&plan), |model| {
        let name = &plan.document().model.name;
        match (model.as_ref().map(ModelFolder::config), &config.model) {
            (Some(encoder), _) => {
                format!(
                    "{name}: {} layers of width {}, as the plan names it",
                    encoder.layers, encoder.hidden_size
                )
            }
            (None, Some(_)) => format!("{name}, as the plan names it; the trainer runs it"),
            (None, None) => format!("{name}: the trainer answers for it"),
        }
    });
    if let Some(Some(model)) = &model {
        check_tokenizer(model, &plan, report);
    }
    let paths = report
        .note("paths", config.check_paths(&plan), |()| "data and test set are where the config says".into());
    paths?;
    let task = &plan.document().task;
    let most = task.max_records_per_patient;
    let load = |source: &_, most| Dataset::load_for(source, task.kind, &task.labels, most);
    let data = if config.is_external() {
        report.note("data", Dataset::load_patients(&config.data.source()), |data| {
            format!("{} patients; their records are the trainer's affair", data.patients())
        })
    } else {
        report.note("data", load(&config.data.source(), most as usize), |data| {
            let (records, patients, dropped) = (data.len(), data.patients(), data.dropped());
            format!("{records} records of {patients} patients; {dropped} above the plan's {most} a patient are left out")
        })
    };
    if let Some(external) = &config.external {
        report.note("trainer", external.place(), |place| {
            format!(
                "listens at {place}; it clips, and the client adds the noise (trainer check asks who it is)"
            )
        });
    }
    if let Some(data) = &data {
        let total = policy.total_budget();
        report.note(
            "delta",
            check_delta(delta_of_patients(&plan.document().privacy), total, data.patients()),
            |()| "δ is below one over the number of patients".to_owned(),
        );
    }
    if let (Some(evaluation), false) = (&config.evaluation, config.is_external()) {
        report.note("test set", load(evaluation, usize::MAX), |data| format!("{} records", data.len()));
    }
    report.outlook = Some(outlook(&config, &policy, &roster, &plan, &data?, &ledger?));
    Some(())
}

fn check_tokenizer(model: &ModelFolder, plan: &VerifiedPlan, report: &mut Report) {
    let most = adapter_spec(plan.document()).max_tokens;
    report.note("tokenizer", model.tokenizer(most), |_| format!("texts are cut to {most} tokens"));
}

fn open_ledger(config: &Config) -> Result<LedgerState, crate::ledger::LedgerError> {
    let path = config.ledger();
    if !path.exists() {
        return Ok(LedgerState::new(config.data.name.clone(), [0; 32]));
    }
    LedgerFile::read(&path, &config.data.name).map(|(state, _)| state)
}

fn outlook(
    config: &Config,
    policy: &Policy,
    roster: &VerifiedRoster,
    plan: &VerifiedPlan,
    data: &Dataset,
    ledger: &LedgerState,
) -> Outlook {
    let (document, derived) = (plan.document(), plan.derived());
    let privacy = &document.privacy;
    let all = derived.guarantees(document.rounds.into(), privacy.delta);
    let (central, local) = all.map_or((f64::INFINITY, f64::INFINITY), |all| (all.central, all.local));
    let admitted = ledger.admits(plan, policy.total_budget()).and_then(|outlook| {
        if let Some((epsilon, delta)) = policy.total_budget_everybody_else() {
            ledger.admits_against_everybody_else(plan, Budget { epsilon, delta })?;
        }
        Ok(outlook)
    });
    let of_job = |debit: &&Debit| debit.job == document.job;
    let next = ledger.debits().iter().filter(of_job).map(|debit| debit.round).max().unwrap_or(0) + 1;
    let last_round = admitted.as_ref().ok().filter(|_| next <= document.rounds);
    let last_round = last_round.map(|outlook| outlook.last_round(next).min(document.rounds.into()));
    Outlook {
        organization: config.organization.to_string(),
        consortium: roster.document().consortium.to_string(),
        job: document.job.to_string(),
        coordinator: config.coordinator.clone(),
        rounds: document.rounds,
        max_attempts: document.retries.max_attempts,
        patients: data.patients(),
        expected_lot: data.patients() as f64 * privacy.sampling_rate,
        trained_parameters: derived.manifest.dimension(),
        upload_bytes_per_attempt: derived.ring.packed_len(derived.vector_len),
        unit: privacy.unit,
        local_steps: privacy.local.as_ref().map_or(0, |local| local.steps),
        note: privacy.note.clone(),
        delta: privacy.delta,
        epsilon_budget: privacy.epsilon,
        epsilon_after_all_rounds: central,
        epsilon_local_after_all_rounds: local,
        epsilon_spent: ledger.spent(&document.job).epsilon,
        attempts_that_fit: admitted.as_ref().map_or(0, |outlook| outlook.rounds_left + 1),
        last_round,
        budget_refusal: admitted.err().map(|refusal| refusal.to_string()),
        evaluates: document.evaluation.organization == config.organization,
    }
}

impl Outlook {
    fn text(&self) -> String {
        let Self { organization, consortium, job, coordinator, rounds, max_attempts, patients, .. } = self;
        let evaluates =
            if self.evaluates { "\n  it evaluates the public test set for everybody" } else { "" };
        format!(
            "\nWhat would happen: {organization} takes part in job {job} of {consortium}\n  \
             it dials {coordinator} and nothing else\n  \
             up to {rounds} rounds, at most {max_attempts} attempts each; a lot draws about {:.1} of {patients} patients (this \
             number stays here)\n  \
             an attempt uploads {} masked bytes for {} trained parameters\n  \
             {}{evaluates}\n",
            self.expected_lot,
            self.upload_bytes_per_attempt,
            self.trained_parameters,
            self.privacy(),
        )
    }

    /// Whom it protects and by how much, two guarantees; or, in red, that it protects nobody.
    fn privacy(&self) -> String {
        let note = if self.note.is_empty() { String::new() } else { format!(" ({})", self.note) };
        let fits = match &self.budget_refusal {
            Some(refusal) => format!("it would decline every attempt: {refusal}"),
            None => {
                let last = self.last_round.map_or(String::new(), |last| {
                    format!("; at one attempt a round, round {last} is the last")
                });
                format!("{} attempts fit into what is left{last}", self.attempts_that_fit)
            }
        };
        if self.unit == PrivacyUnit::None {
            let red = output::red("NO PRIVACY: the unit is none, no noise is added, ε is none");
            return format!(
                "{red}{note}\n  what one patient's records change may show in the published sums; {fits}"
            );
        }
        let steps = match self.local_steps {
            0 => String::new(),
            steps => format!(", {steps} local steps a round"),
        };
        let whom = match self.unit {
            PrivacyUnit::PatientLocal => "patient, whoever colludes",
            unit => unit.name(),
        };
        format!(
            "privacy unit: one {whom}{note}{steps}\n  \
             ε after all rounds, one attempt each: {} against the coordinator with the tolerated colluders, {} against \
             everybody else, δ = {:e}\n  \
             the plan's budget is ε = {}; this job has spent {}; {fits}",
            output::epsilon(self.epsilon_after_all_rounds),
            output::epsilon(self.epsilon_local_after_all_rounds),
            self.delta,
            self.epsilon_budget,
            output::epsilon(self.epsilon_spent)
        )
    }
}
