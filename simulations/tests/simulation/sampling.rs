//! Cohort sampling: in every round another part of the organizations takes part.

use std::collections::BTreeSet;

use consilium_proto::plan::PrivacyUnit;
use consilium_simulations::{Scenario, log::Log, out::Folder, run::run as whole_run, scenario::text::Draft};
use serde_json::Value;

use super::{outcomes, run, small};

fn sampled(organizations: u32, rounds: u32, sampling: f64) -> Scenario {
    let mut scenario = small(organizations, rounds);
    (scenario.cohort.colluders, scenario.cohort.sampling) = (Some(1), sampling);
    scenario
}

#[test]
fn another_sample_takes_part_in_each_round_and_pays_for_that_round_alone() {
    // r = ⌊(20 + 1)/2⌋ + 1 = 11 of twenty; thirteen are drawn.
    let scenario = sampled(20, 4, 0.65);
    let (world, report) = run(&scenario);
    let released = |round| (round, 1, "released", 13);
    assert_eq!(outcomes(&report), [released(1), released(2), released(3), released(4)]);
    let survivors: BTreeSet<Vec<String>> =
        report.attempts.iter().map(|attempt| attempt.survivors.clone()).collect();
    assert_eq!(survivors.len(), 4, "each round has a sample of its own");
    // Everybody applies every release, and is debited for the rounds that it was drawn for.
    for client in world.clients() {
        assert_eq!(client.applied(), Some((4, report.adapter_digest)));
        let (name, mut in_sum) = (client.id().to_string(), Vec::new());
        for attempt in report.attempts.iter().filter(|attempt| attempt.survivors.contains(&name)) {
            in_sum.push((attempt.round, attempt.attempt));
        }
        let debits = client.debits().unwrap();
        let paid: Vec<_> = debits.iter().map(|debit| (debit.round, debit.attempt)).collect();
        assert_eq!(paid, in_sum, "{name}");
        let declined = client.declined().iter().filter(|it| it.2 == "not-sampled").count();
        assert_eq!(declined + paid.len(), 4, "{name}");
        // It is debited as if everybody took part: nothing is claimed for having been drawn.
        let central = world.consortium().plan.derived().mechanisms.unwrap().central;
        assert!(debits.iter().all(|debit| debit.sampling_rate == central.params().sampling_rate));
    }
    let (_, again) = run(&scenario);
    assert_eq!((again.adapter_digest, again.log_digest), (report.adapter_digest, report.log_digest));
}

#[test]
fn the_account_is_the_one_of_whole_cohorts() {
    let folder = tempfile::tempdir().unwrap();
    let rows = |name: &str, sampling: f64| -> Vec<Value> {
        let out = Folder::create(&folder.path().join(name), false).unwrap();
        let mut scenario = sampled(12, 3, sampling);
        (scenario.privacy.unit, scenario.privacy.delta) = (PrivacyUnit::Organization, 1e-3);
        assert!(
            whole_run(&scenario, Some(&out), Log::default(), &mut |_| {}).unwrap().result.line.expected_end
        );
        let text = std::fs::read_to_string(folder.path().join(name).join("rounds.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (all, some) = (rows("all", 1.0), rows("some", 0.75));
    for (all, some) in all.iter().zip(&some) {
        assert_eq!((&all["survivors"], &all["dropped"]), (&12.into(), &0.into()));
        assert_eq!((&some["survivors"], &some["dropped"]), (&9.into(), &0.into()));
        for against in ["against_colluders", "against_everybody_else"] {
            assert_eq!(all["epsilon"][against], some["epsilon"][against]);
        }
        // Fewer survivors add less noise.
        let honest = |row: &Value| row["epsilon"]["all_honest"].as_f64().unwrap();
        assert!(honest(some) > honest(all));
    }
    let text = std::fs::read_to_string(folder.path().join("some/organizations.jsonl")).unwrap();
    let members: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(members.iter().map(|member| member["debits"].as_u64().unwrap()).sum::<u64>(), 27);
}

#[test]
fn dropouts_are_of_those_who_take_part() {
    let mut scenario = sampled(20, 5, 0.75);
    scenario.clients.dropout = 0.2;
    let (world, report) = run(&scenario);
    // ⌈0.2 · 15⌉ = 3 of the fifteen. Whoever dies twice sits rounds out, so that a few more may be missing.
    for attempt in report.attempts.iter().filter(|attempt| attempt.outcome == "released") {
        assert!((11..=12).contains(&attempt.survivors.len()), "{:?}", outcomes(&report));
    }
    assert_eq!(report.released().count(), 5, "{:?}", outcomes(&report));
    assert!(world.clients().iter().map(|client| client.starts() - 1).sum::<u64>() >= 12);
}

#[test]
fn sampling_is_a_field_like_any_other() {
    let mut draft = Draft::parse("organizations = 20\n[cohort]\ncolluders = 1\n", "here").unwrap();
    draft.set("cohort.sampling=0.6").unwrap();
    let scenario = draft.scenario().unwrap();
    assert_eq!((scenario.sampled(), scenario.min_survivors()), (12, 11));
    scenario.check().unwrap();
    draft.set("cohort.sampling=0.5").unwrap();
    let refused = draft.scenario().unwrap().check().unwrap_err().to_string();
    assert!(refused.contains("⌈0.5 · 20⌉ = 10"), "{refused}");
}
