//! The status as Prometheus reads it.
//!
//! A number that the coordinator does not know is left out; one that has no bound (ε without noise, a disk that does not
//! fill, a backup that was never made) is `+Inf`.

use std::{collections::BTreeMap, fmt::Write as _};

use consilium_proto::wire::{Health, JobStatus, MemberStatus};

/// One name's lines.
struct Metric<'a> {
    out: &'a mut String,
    name: &'static str,
}

impl Metric<'_> {
    fn value(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Self {
        let labels: Vec<_> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        // Unwrap safety: writing to a String does not fail.
        let _ = match value {
            value if value.is_nan() => writeln!(self.out, "{}{labels} NaN", self.name),
            value if value == f64::INFINITY => writeln!(self.out, "{}{labels} +Inf", self.name),
            value => writeln!(self.out, "{}{labels} {value}", self.name),
        };
        self
    }
}

/// A label's text: what came from a member is an id or a code already; this makes sure.
fn escaped(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\')).take(64).collect()
}

struct Page(String);

impl Page {
    fn gauge(&mut self, name: &'static str, help: &str) -> Metric<'_> {
        self.head(name, "gauge", help)
    }

    fn counter(&mut self, name: &'static str, help: &str) -> Metric<'_> {
        self.head(name, "counter", help)
    }

    fn head(&mut self, name: &'static str, kind: &str, help: &str) -> Metric<'_> {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Metric { out: &mut self.0, name }
    }

    fn one(&mut self, name: &'static str, help: &str, value: f64) {
        self.gauge(name, help).value(&[], value);
    }
}

/// The whole page.
pub(super) fn render(status: &JobStatus) -> String {
    let mut page = Page(String::new());
    job(&mut page, status);
    attempts(&mut page, status);
    privacy(&mut page, status);
    members(&mut page, status);
    let mut refused =
        page.counter("consilium_refusals_total", "Refused in the last hour's kinds, by code and party.");
    for problem in &status.problems {
        refused.value(&[("code", &problem.code), ("member", &problem.who)], problem.total as f64);
    }
    if let Some(health) = &status.health {
        machine(&mut page, health);
    }
    page.0
}

fn job(page: &mut Page, status: &JobStatus) {
    page.gauge("consilium_info", "The coordinator and its job.")
        .value(&[("version", &status.software), ("job", &status.job)], 1.0);
    page.gauge("consilium_state", "waiting, running, held or finished; and the hold.")
        .value(&[("state", &status.state), ("hold", &status.hold)], 1.0);
    page.one("consilium_round", "The round at hand.", status.round.into());
    page.one("consilium_rounds", "Rounds in the plan.", status.rounds.into());
    page.one("consilium_attempt", "The attempt at hand.", status.attempt.into());
    page.gauge("consilium_step_seconds", "Since the step began.")
        .value(&[("step", &status.step)], status.step_seconds);
    let whole = status.step_seconds + status.deadline_seconds;
    let ratio = if status.at_deadline.is_empty() || whole <= 0.0 { 0.0 } else { status.step_seconds / whole };
    page.one(
        "consilium_step_deadline_ratio",
        "Part of the step's time that has passed; 0 where none runs.",
        ratio,
    );
    page.one("consilium_answers", "Answers of this step that are held.", status.answers.into());
    page.one("consilium_answers_needed", "Answers that this step needs.", status.needed.into());
    page.one(
        "consilium_actions_total",
        "Instructions of operators that were carried out.",
        status.actions as f64,
    );
    page.counter("consilium_received_bytes_total", "All bytes in, TLS excluded.")
        .value(&[], status.bytes_in as f64);
    page.counter("consilium_sent_bytes_total", "All bytes out, TLS excluded.")
        .value(&[], status.bytes_out as f64);
    page.counter("consilium_masked_input_bytes_total", "Bytes of whole masked inputs.")
        .value(&[], status.upload_bytes as f64);
}

fn attempts(page: &mut Page, status: &JobStatus) {
    let mut outcomes = BTreeMap::<&str, u32>::new();
    for round in &status.recent {
        *outcomes.entry(&round.outcome).or_default() += 1;
    }
    let mut ended = page.gauge("consilium_attempts_ended", "The last attempts, at most 512, by outcome.");
    for (outcome, times) in outcomes {
        ended.value(&[("outcome", outcome)], times.into());
    }
    let in_a_row = status.recent.iter().rev().take_while(|round| round.outcome != "released").count();
    page.one(
        "consilium_failed_attempts_in_a_row",
        "Attempts without a sum since the last release.",
        in_a_row as f64,
    );
    let Some(last) = status.recent.iter().rfind(|round| round.outcome == "released") else { return };
    let margin = last.survivors.len() as f64 - f64::from(status.min_survivors);
    page.one("consilium_survivors", "Survivors of the last release.", last.survivors.len() as f64);
    page.one("consilium_survivors_margin", "How many more than the plan's minimum.", margin);
    for (name, help, value) in [
        ("consilium_train_loss", "Of all organizations, from the noisy sum.", last.train_loss),
        ("consilium_train_accuracy", "Of all organizations, from the noisy sum.", last.train_accuracy),
    ] {
        if let Some(value) = value {
            page.one(name, help, value);
        }
    }
    let Some(tested) = status.recent.iter().rfind(|round| round.test_accuracy.is_some()) else { return };
    page.one(
        "consilium_test_loss",
        "The evaluator's, on the public test set.",
        tested.test_loss.unwrap_or(f64::NAN),
    );
    let accuracy = tested.test_accuracy.unwrap_or(f64::NAN);
    page.one("consilium_test_accuracy", "The evaluator's, on the public test set.", accuracy);
}

fn privacy(page: &mut Page, status: &JobStatus) {
    let budget = status.epsilon_budget;
    if let Some(spent) = &status.spent {
        page.one(
            "consilium_epsilon_spent",
            "Against the coordinator with the tolerated colluders.",
            spent.epsilon,
        );
        page.one("consilium_epsilon_spent_others", "Against everybody else together.", spent.epsilon_local);
        if budget > 0.0 {
            let left = ((budget - spent.epsilon) / budget).max(0.0);
            page.one("consilium_epsilon_left_ratio", "Part of the budget that is left.", left);
        }
    }
    if budget > 0.0 {
        page.one("consilium_epsilon_budget", "The plan's.", budget);
    }
    if let Some(wasted) = &status.wasted {
        page.one("consilium_epsilon_wasted", "Spent on attempts without a sum.", wasted.epsilon);
        if budget > 0.0 {
            page.one("consilium_epsilon_wasted_ratio", "The same, over the budget.", wasted.epsilon / budget);
        }
    }
    page.one(
        "consilium_retries_left",
        "Attempts that may be repeated at a cost.",
        status.reserve_left.into(),
    );
}

/// What the coordinator may know of one member, and nothing else.
fn members(page: &mut Page, status: &JobStatus) {
    let all = &status.members;
    let online = all.iter().filter(|member| member.online).count();
    page.one("consilium_members_online", "Members with a session.", online as f64);
    let mut each = |name, kind: &str, help: &str, value: &dyn Fn(&MemberStatus) -> Option<f64>| {
        let mut metric = page.head(name, kind, help);
        for member in all {
            if let Some(value) = value(member) {
                metric.value(&[("member", &member.id)], value);
            }
        }
    };
    let flag = |on: bool| Some(f64::from(u8::from(on)));
    each("consilium_member_online", "gauge", "It has a session.", &|m| flag(m.online));
    each("consilium_member_awaited", "gauge", "The round waits for it.", &|m| flag(m.awaited));
    each("consilium_member_last_seen_seconds", "gauge", "Since it last said anything.", &|m| {
        (m.last_seen_ms > 0).then(|| status.now_ms.saturating_sub(m.last_seen_ms) as f64 / 1e3)
    });
    each("consilium_member_clock_skew_seconds", "gauge", "Its clock less the coordinator's.", &|m| {
        m.clock_skew_ms.map(|ms| ms as f64 / 1e3)
    });
    each("consilium_member_received_bytes_total", "counter", "Bytes from it.", &|m| Some(m.bytes_in as f64));
    each("consilium_member_sent_bytes_total", "counter", "Bytes to it.", &|m| Some(m.bytes_out as f64));
    each("consilium_member_disconnects_total", "counter", "Sessions that ended.", &|m| {
        Some(m.disconnects.into())
    });
    each("consilium_member_disconnects_last_hour", "gauge", "Sessions that ended in the last hour.", &|m| {
        Some(m.disconnects_hour.into())
    });
    each("consilium_member_sits_out_rounds", "gauge", "Rounds that it still sits out.", &|m| {
        Some(m.sits_out.into())
    });
    let mut told = page.gauge("consilium_member_info", "Its step, version and refusal code.");
    for member in all {
        let labels = [
            ("member", &*member.id),
            ("version", &member.software),
            ("step", &member.step),
            ("code", &member.refusal),
        ];
        told.value(&labels, 1.0);
    }
}

fn machine(page: &mut Page, health: &Health) {
    if let Some(free) = health.disk_free_bytes {
        page.one("consilium_disk_free_bytes", "Of the disk that the state stands on.", free as f64);
        let full = health.disk_full_seconds.unwrap_or(f64::INFINITY);
        page.one("consilium_disk_full_seconds", "Until it is full at the pace of the last hour.", full);
    }
    if let Some(holds) = health.chain_holds {
        page.one(
            "consilium_record_chain_holds",
            "1: the chain of links held when it was last walked.",
            holds.into(),
        );
    }
    if let Some(ago) = health.chain_checked_seconds {
        page.one("consilium_record_checked_seconds", "Since it was last walked.", ago);
    }
    let backup = health.backup_seconds.unwrap_or(f64::INFINITY);
    page.one("consilium_backup_age_seconds", "Since the newest backup.", backup);
    let mut keys = page.gauge("consilium_key_days_left", "Of keys that end within 30 days, or have ended.");
    for key in &health.keys {
        keys.value(&[("party", &key.id), ("role", &key.role)], key.days.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_leave_its_quotes() {
        let member =
            MemberStatus { id: "a".into(), software: "1\"} 9\nx\\".into(), ..MemberStatus::default() };
        let page = render(&JobStatus { members: vec![member], ..JobStatus::default() });
        assert!(
            page.contains("consilium_member_info{member=\"a\",version=\"1}9x\",step=\"\",code=\"\"} 1\n"),
            "{page}"
        );
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let value = line.rsplit(' ').next().unwrap();
            assert!(
                line.starts_with("consilium_") && (value == "+Inf" || value.parse::<f64>().is_ok()),
                "{line}"
            );
        }
    }

    #[test]
    fn what_is_not_known_is_left_out_and_what_has_no_bound_is_infinite() {
        let page = render(&JobStatus { health: Some(Health::default()), ..JobStatus::default() });
        assert!(page.contains("consilium_backup_age_seconds +Inf"), "{page}");
        for name in ["disk_free_bytes", "record_chain_holds", "epsilon_spent", "survivors_margin"] {
            assert!(
                !page.lines().any(|line| line.starts_with(&format!("consilium_{name} "))),
                "{name}\n{page}"
            );
        }
    }
}
