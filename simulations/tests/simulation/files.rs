//! What a run leaves behind, and that two runs leave the same.

use std::{fs, path::Path};

use consilium_proto::plan::PrivacyUnit;
use consilium_simulations::{
    Scenario,
    log::Log,
    out::Folder,
    run::{Outcome, run},
    scenario::{End, Partition, text::Draft},
};
use serde_json::Value;

use super::{convex, small};

fn kept(scenario: &Scenario, folder: &Path) -> Outcome {
    run(scenario, Some(&Folder::create(folder, false).unwrap()), Log::default(), &mut |_| {}).unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Without what a clock measured.
fn timeless(mut line: Value) -> Value {
    for field in ["seconds", "cpu_seconds"] {
        line.as_object_mut().unwrap().remove(field);
    }
    line
}

fn rough() -> Scenario {
    let mut scenario = small(12, 3);
    scenario.partition = Partition::Dirichlet { alpha: 1.0 };
    scenario.privacy.lot = 20.0;
    (scenario.clients.dropout, scenario.clients.stragglers, scenario.network.loss) = (0.1, 0.2, 0.01);
    scenario.evaluation.organizations = true;
    scenario
}

#[test]
fn two_runs_leave_the_same_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = (kept(&rough(), one.path()), kept(&rough(), two.path()));
    assert_eq!(first.result.line.adapter_digest, second.result.line.adapter_digest);
    assert_eq!(first.result.line.log_digest, second.result.line.log_digest);
    for name in ["scenario.toml", "partition.jsonl", "organizations.jsonl"] {
        let read = |folder: &Path| fs::read(folder.join(name)).unwrap();
        assert_eq!(read(one.path()), read(two.path()), "{name}");
    }
    let rows =
        |folder: &Path| -> Vec<_> { lines(&folder.join("rounds.jsonl")).into_iter().map(timeless).collect() };
    assert_eq!(rows(one.path()), rows(two.path()));
    // And the scenario that was kept is the one that was run.
    let again = Draft::read(&one.path().join("scenario.toml")).unwrap().scenario().unwrap();
    assert_eq!(again, rough());
}

#[test]
fn every_round_and_every_organization_has_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = kept(&rough(), folder.path());
    let rounds = lines(&folder.path().join("rounds.jsonl"));
    assert_eq!(rounds.len(), 3);
    let number = |row: &Value, field: &str| row.pointer(field).and_then(Value::as_f64).unwrap_or(f64::NAN);
    for (index, row) in rounds.iter().enumerate() {
        assert_eq!(number(row, "/round"), (index + 1) as f64, "{row}");
        assert_eq!(number(row, "/survivors") + number(row, "/dropped"), 12.0, "{row}");
        let [honest, colluders, local] =
            ["/epsilon/all_honest", "/epsilon/against_colluders", "/epsilon/against_everybody_else"]
                .map(|field| number(row, field));
        assert!(0.0 < honest && honest < colluders && colluders < local, "{row}");
        for field in ["/loss", "/accuracy", "/macro_f1", "/bytes_up", "/bytes_down", "/virtual_seconds"] {
            assert!(number(row, field) > 0.0, "{field} of {row}");
        }
        assert!(number(row, "/cpu_seconds") >= 0.0 && number(row, "/delta") == 1e-6, "{row}");
    }
    let spent = |index: usize| number(&rounds[index], "/epsilon/all_honest");
    assert!(spent(0) < spent(1) && spent(1) < spent(2));
    let virtual_seconds: f64 = rounds.iter().map(|row| number(row, "/virtual_seconds")).sum();
    assert!(virtual_seconds <= outcome.result.line.virtual_seconds);

    let organizations = lines(&folder.path().join("organizations.jsonl"));
    assert_eq!(organizations.len(), 12);
    for row in &organizations {
        let counts = row["label_counts"].as_array().unwrap();
        let sum: u64 = counts.iter().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(sum, row["examples"].as_u64().unwrap());
        for which in ["alone", "federated", "federated_then_fine_tuned"] {
            assert!(number(row, &format!("/{which}/accuracy")) >= 0.0, "{which} of {row}");
        }
    }
    let mean = |which: &str| {
        let of = |row: &Value| number(row, &format!("/{which}/loss"));
        organizations.iter().map(of).sum::<f64>() / 12.0
    };
    // Three rounds of noise teach little; twenty passes over one's own patients teach much about one's own.
    assert!(mean("alone") < mean("federated") && mean("federated_then_fine_tuned") < mean("federated"));

    let result: Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("result.json")).unwrap()).unwrap();
    assert_eq!(result["expected_end"], Value::Bool(true));
    assert_eq!((result["end"].as_str(), result["rounds"].as_u64()), (Some("released"), Some(3)));
    assert_eq!(result["scenario_digest"], rough().digest().to_string());
    assert_eq!(result["adapter_digest"].as_str().unwrap().len(), 64);
}

#[test]
fn a_run_without_privacy_has_no_epsilon() {
    let folder = tempfile::tempdir().unwrap();
    let mut scenario = convex(4, 1, 60);
    scenario.privacy.unit = PrivacyUnit::None;
    kept(&scenario, folder.path());
    let rounds = lines(&folder.path().join("rounds.jsonl"));
    assert_eq!((&rounds[0]["epsilon"], &rounds[0]["delta"]), (&Value::Null, &Value::Null));
}

#[test]
fn an_end_that_was_not_expected_is_said() {
    // Of three one stays away for longer than all the attempts of the first round.
    let mut scenario = small(3, 2);
    scenario.clients.restart_s = 1000.0;
    scenario.cohort.max_attempts = 1;
    scenario.faults.clients = [(1, [3].into())].into();
    let folder = tempfile::tempdir().unwrap();
    let outcome = kept(&scenario, folder.path());
    assert_eq!((outcome.result.end, outcome.result.line.expected_end), (End::GaveUp, false));
    let rounds = lines(&folder.path().join("rounds.jsonl"));
    assert_eq!(rounds.len(), 2, "{rounds:?}");
    assert_eq!((&rounds[0]["outcome"], &rounds[0]["survivors"]), (&"too-few-answers".into(), &0.into()));
    assert_eq!(rounds[0]["loss"], Value::Null);
    scenario.expect.end = End::GaveUp;
    let again = tempfile::tempdir().unwrap();
    assert!(kept(&scenario, again.path()).result.line.expected_end);
}

/// A round of the scenario in which a fifth of a hundred hospitals dies.
#[test]
fn a_hundred_hospitals_finish_their_round() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/hospitals-100.toml");
    let scenario = Scenario { rounds: 1, ..Draft::read(&file).unwrap().scenario().unwrap() };
    let folder = tempfile::tempdir().unwrap();
    let outcome = kept(&scenario, folder.path());
    assert!(outcome.result.line.expected_end, "{:?}", outcome.result);
    let rounds = lines(&folder.path().join("rounds.jsonl"));
    assert_eq!((&rounds[0]["survivors"], &rounds[0]["dropped"]), (&80.into(), &20.into()));
}

#[test]
fn shifted_features_are_another_task_and_no_shift_is_none() {
    let adapter = |partition| {
        let folder = tempfile::tempdir().unwrap();
        let scenario = Scenario { partition, ..convex(4, 1, 60) };
        kept(&scenario, folder.path()).result.line.adapter_digest.unwrap()
    };
    let plain = adapter(Partition::Iid);
    assert_eq!(adapter(Partition::FeatureShift { strength: 0.0 }), plain);
    assert_ne!(adapter(Partition::FeatureShift { strength: 1.0 }), plain);
}

#[test]
fn the_scenarios_that_come_with_it_can_work() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let scenario: Scenario = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        scenario.check().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(scenario.name, name);
        names.push(name);
    }
    assert_eq!(names.iter().filter(|name| name.starts_with("attack-")).count(), 10);
    for expected in ["demo", "hospitals-100", "organizations-1000", "epsilon-sweep"] {
        assert!(names.iter().any(|name| name == expected), "{expected} is missing");
    }
}
