//! Each line forbids what it says, and the refusal shows the line.

use std::{collections::BTreeSet, fs};

use jiff::civil::date;

use super::*;
use crate::config::{
    Config, Loaded,
    support::{Consortium, Draft},
};

fn with_policy(text: &str, change: impl FnOnce(&mut Draft)) -> Consortium {
    let consortium = Consortium::with(change);
    fs::write(consortium.path("policy.toml"), text).unwrap();
    consortium.edit("site-1.toml", "state =", "policy = \"policy.toml\"\nstate =");
    consortium
}

fn load(consortium: &Consortium) -> Result<Loaded, ConfigError> {
    Loaded::load(&consortium.path("site-1.toml"), date(2026, 11, 23))
}

/// The refusal's file, line and text, and why.
fn forbidden(consortium: &Consortium) -> Forbidden {
    match load(consortium) {
        Err(ConfigError::Forbidden(forbidden)) => forbidden,
        Err(error) => panic!("refused for something else: {error}"),
        Ok(_) => panic!("was allowed: {}", fs::read_to_string(consortium.path("policy.toml")).unwrap()),
    }
}

#[test]
fn every_line_forbids_what_it_says_and_is_shown() {
    let digest = "ab".repeat(32);
    let models = format!("models = [\"{digest}\"]");
    // A line, the same line allowing the plan, and what the refusal must say. The plan: ε = 6, δ = 1e-5, three organizations,
    // m_min = 3, t_c = 1, so h = 2, three attempts.
    let weights = |consortium: &Consortium| format!("models = [\"{}\"]", consortium.plan.model.weights);
    type Allowing<'a> = &'a dyn Fn(&Consortium) -> String;
    let cases: [(&str, Allowing<'_>, [&str; 2]); 11] = [
        ("epsilon_per_job = 5.9", &|_| "epsilon_per_job = 6".into(), ["ε = 6", "privacy.epsilon"]),
        (
            "epsilon_per_job_everybody_else = 6",
            &|_| "epsilon_per_job_everybody_else = 1000".into(),
            ["budget pays for", "against them"],
        ),
        ("delta_per_job = 9e-6", &|_| "delta_per_job = 1e-5".into(), ["1e-5", "privacy.delta"]),
        ("least_cohort = 4", &|_| "least_cohort = 3".into(), ["has 3", "cohort.organizations"]),
        ("least_survivors = 4", &|_| "least_survivors = 3".into(), ["3 survivors", "cohort.min_survivors"]),
        ("least_honest = 3", &|_| "least_honest = 2".into(), ["h = m_min − max(t_c, 1) = 2", "guarantees"]),
        ("max_attempts = 2", &|_| "max_attempts = 3".into(), ["allows 3", "retries.max_attempts"]),
        (&models, &weights, ["trains tiny", "model.weights"]),
        (
            "plan_signers = [\"site-1\", \"site-2\"]",
            &|_| "plan_signers = [\"site-3\", \"site-1\", \"site-2\"]".into(),
            ["with theirs alone", "missing: site-3"],
        ),
        ("plan_signers = [\"nobody\"]", &|_| String::new(), ["has 0 (nobody)", "missing: site-1"]),
        ("epsilon_per_job = 0.5 # not more", &|_| "# epsilon_per_job = 0.5".into(), ["ε = 6", "0.5"]),
    ];
    for (line, allowing, parts) in cases {
        let consortium = with_policy(&format!("# ours\n\n  {line}\n"), |_| {});
        let refusal = forbidden(&consortium);
        assert_eq!((refusal.line, refusal.text.as_str()), (3, line));
        let text = refusal.to_string();
        assert!(text.contains(&format!("policy.toml:3: `{line}`")), "{text}");
        for part in parts {
            assert!(text.contains(part), "{part:?} is missing in: {text}");
        }
        let allowing = allowing(&consortium);
        fs::write(consortium.path("policy.toml"), format!("# ours\n\n{allowing}\n")).unwrap();
        load(&consortium).unwrap_or_else(|error| panic!("{allowing}: {error}"));
    }
}

#[test]
fn only_listed_units_are_allowed() {
    // Parsed as the plan's own words; a unit that this version does not know is refused by its name.
    let consortium = with_policy("units = [\"patient\"]\n", |_| {});
    load(&consortium).unwrap();
    let consortium = with_policy("units = [\"hospital-wing\"]\n", |_| {});
    let error = load(&consortium).unwrap_err().to_string();
    assert!(error.contains("hospital-wing") && error.contains("line 1"), "{error}");
}

#[test]
fn the_first_line_that_forbids_is_the_one_that_is_named() {
    let consortium = with_policy("least_honest = 5\nleast_cohort = 9\n", |_| {});
    assert_eq!(forbidden(&consortium).line, 1);
    let consortium = with_policy("least_cohort = 9\nleast_honest = 5\n", |_| {});
    assert_eq!(forbidden(&consortium).text, "least_cohort = 9");
}

#[test]
fn a_policy_is_read_before_any_plan() {
    let consortium = with_policy("least_honst = 5\n", |_| {});
    fs::write(consortium.path("plan.toml"), "not a plan").unwrap();
    fs::write(consortium.path("roster.toml"), "not a roster").unwrap();
    let error = load(&consortium).unwrap_err().to_string();
    assert!(error.contains("policy.toml") && error.contains("line 1"), "{error}");
    assert!(error.contains("did you mean `least_honest`?"), "{error}");
    fs::remove_file(consortium.path("policy.toml")).unwrap();
    let error = load(&consortium).unwrap_err().to_string();
    assert!(error.contains("config: policy") && error.contains("policy.example.toml"), "{error}");
}

#[test]
fn lines_that_make_no_sense_are_refused_with_their_number() {
    for (line, part) in [
        ("epsilon_per_job = 0.0", "above 0"),
        ("epsilon_per_job = nan", "above 0"),
        ("epsilon_total = -1", "above 0"),
        ("epsilon_total = 3.0", "go together"),
        ("delta_total = 1e-6", "go together"),
        ("epsilon_total_everybody_else = 9.0", "stands beside epsilon_total"),
        ("epsilon_per_job_everybody_else = 0", "above 0"),
        ("delta_per_job = 0.5", "number of patients"),
        ("max_attempts = 0", "at least 1"),
        ("units = []", "forbids everything"),
        ("plan_signers = []", "forbids everything"),
        ("hours = []", "forbids everything"),
        ("hours = [\"noon\"]", "\"noon\" is no window"),
        ("models = [\"tiny\"]", "64 lowercase hexadecimal digits"),
    ] {
        let error = Policy::parse(Path::new("p.toml"), format!("\n{line}\n")).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, ConfigError::PolicyLine { line: 2, .. }), "{text}");
        assert!(text.starts_with(&format!("p.toml:2: `{line}`")) && text.contains(part), "{text}");
    }
}

#[test]
fn hours_are_held_to_before_every_attempt_and_show_what_the_clock_says() {
    let text = "least_cohort = 3\nhours = [\"Mon-Fri 20:00-06:00\"]\n".to_owned();
    let policy = Policy::parse(Path::new("p.toml"), text).unwrap();
    // Tuesday, 24 November 2026, 12:00 UTC.
    let noon = 1_795_521_600;
    let refusal = policy.allows_at(noon).unwrap_err();
    assert_eq!(refusal.line, 2);
    assert!(refusal.why.contains("clock shows Tue 12:00 UTC"), "{}", refusal.why);
    // A clock that jumps is believed as it is read, each time anew: nothing of it is kept.
    assert_eq!(policy.allows_at(noon + 8 * 3600), Ok(()));
    assert!(policy.allows_at(noon).is_err());
    assert_eq!(policy.allows_at(noon - 8 * 3600), Ok(()));
    assert_eq!(Policy::default().allows_at(noon), Ok(()));
}

#[test]
fn a_policy_explains_itself() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("policy.example.toml")).unwrap();
    let example = Policy::parse(Path::new("policy.example.toml"), text.clone()).unwrap();
    assert_eq!(example.total_budget(), Some((12.0, 1e-5)));
    let explained = example.explain(None);
    assert!(explained.is_sorted_by_key(|verdict| verdict.line));
    assert!(explained.iter().all(|verdict| verdict.forbids.is_none() && !verdict.meaning.is_empty()));
    // The example shows every field there is: an unknown one makes serde list the known ones.
    let message = toml::from_str::<Rules>("zzz = 1").unwrap_err().message().to_owned();
    let fields: BTreeSet<&str> = message.split('`').skip(3).step_by(2).collect();
    assert_eq!(fields.len(), 14, "{message}");
    for field in fields {
        assert!(text.lines().any(|line| line.starts_with(&format!("{field} ="))), "{field} is not shown");
    }
    // And every rule is judged: all but the δ that goes with its ε.
    assert_eq!(explained.len(), 13);

    let consortium = with_policy("least_cohort = 9\nmax_attempts = 3\nhours = [\"00:00-24:00\"]\n", |_| {});
    let config = Config::load(&consortium.path("site-1.toml")).unwrap();
    let (roster, plan) = consortium.verified();
    let valid_by = |signers: &[Id]| config.valid_by(signers, &roster);
    let explained = config.open_policy().unwrap().explain(Some((&plan, &valid_by)));
    let forbids: Vec<_> = explained.iter().map(|verdict| verdict.forbids.is_some()).collect();
    assert_eq!(forbids, [true, false, false]);
}
