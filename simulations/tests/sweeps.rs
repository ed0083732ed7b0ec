//! `consilium-sim sweep` as a process: what it leaves, that it goes on, and a disk that fills.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};

use parquet::{
    file::reader::{FileReader as _, SerializedFileReader},
    record::Field,
};
use serde_json::Value;

const SIM: &str = env!("CARGO_BIN_EXE_consilium-sim");

/// A scenario of four organizations that takes no time, with a grid of two by two.
const SMALL: &str = "
name = \"small\"
organizations = 4
rounds = 2
[task]
kind = \"convex\"
dimension = 40
[privacy]
lot = 5.0
[evaluation]
organizations = true
[sweep]
seeds = 2
[sweep.grid]
privacy.noise_multiplier = [0.5, 2]
protocol = [\"secure\", \"plain\"]
";

fn sweep(folder: &Path, more: &[&str]) -> Output {
    let scenario = folder.join("small.toml");
    fs::write(&scenario, SMALL).unwrap();
    let mut words = vec!["sweep", scenario.to_str().unwrap(), "--json", "--out"];
    let out = folder.join("out");
    words.push(out.to_str().unwrap());
    words.extend(more);
    Command::new(SIM).args(words).output().unwrap()
}

fn last_line(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    serde_json::from_str(text.lines().last().unwrap_or_default())
        .unwrap_or_else(|_| panic!("{}", errors(output)))
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn rows(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Without what a clock measured.
fn timeless(rows: Vec<Value>) -> Vec<Value> {
    let bare = |mut row: Value| {
        for field in ["seconds", "cpu_seconds"] {
            row.as_object_mut().unwrap().remove(field);
        }
        row
    };
    rows.into_iter().map(bare).collect()
}

#[test]
fn every_run_has_its_row_in_both_formats() {
    let folder = tempfile::tempdir().unwrap();
    let output = sweep(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let line = last_line(&output);
    assert_eq!((line["runs"].as_u64(), line["reused"].as_u64()), (Some(8), Some(0)));
    assert_eq!(line["points"].as_array().unwrap().len(), 4, "{line}");
    let out = folder.path().join("out");
    let runs = rows(&out.join("runs.jsonl"));
    let of = |row: &Value| (row["seed"].as_u64(), row["point"].as_u64());
    let seen: BTreeSet<_> = runs.iter().map(of).collect();
    assert_eq!((runs.len(), seen.len()), (8, 8));
    for row in &runs {
        assert!(row["accuracy"].as_f64().unwrap() > 0.0, "{row}");
        assert_eq!(
            (row["end"].as_str(), row["released"].as_u64(), row["n"].as_u64()),
            (Some("released"), Some(2), Some(4))
        );
        let noisy = row["privacy.noise_multiplier"].as_f64().unwrap() > 1.0;
        assert_eq!(row["point"].as_u64().unwrap() > 2, noisy, "{row}");
    }
    // More noise is a smaller epsilon; a plain run costs as much as a secure one.
    let epsilon = |noise: f64| {
        let of = runs.iter().filter(|row| row["privacy.noise_multiplier"].as_f64() == Some(noise));
        of.map(|row| row["epsilon_against_colluders"].as_f64().unwrap()).fold(0.0, f64::max)
    };
    assert!(epsilon(2.0) < epsilon(0.5));
    assert_eq!(rows(&out.join("rounds.jsonl")).len(), 16);
    let organizations = rows(&out.join("organizations.jsonl"));
    assert_eq!(organizations.len(), 32);
    assert!(organizations.iter().all(|row| row["alone_accuracy"].is_number()), "{}", organizations[0]);
    // Parquet says the same, column by column.
    for name in ["runs", "rounds", "organizations"] {
        let lines = rows(&out.join(format!("{name}.jsonl")));
        let file = fs::File::open(out.join(format!("{name}.parquet"))).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let read: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(read.len(), lines.len(), "{name}");
        for (row, line) in read.iter().zip(&lines) {
            assert_eq!(row.len(), line.as_object().unwrap().len());
            for (column, field) in row.get_column_iter() {
                let expected = &line[column.as_str()];
                let same = match field {
                    Field::Null => expected.is_null(),
                    Field::Bool(value) => expected.as_bool() == Some(*value),
                    Field::Long(value) => expected.as_i64() == Some(*value),
                    // Without another feature serde_json reads the last digit as it likes.
                    Field::Double(value) => (expected.as_f64().unwrap() - value).abs() <= value.abs() * 1e-15,
                    Field::Str(value) => expected.as_str() == Some(value),
                    other => panic!("{column}: {other}"),
                };
                assert!(same, "{name} {column}: {field} and {expected}");
            }
        }
    }
    // A run of the sweep is the run that the command makes of its scenario.
    let run = runs.last().unwrap();
    let scenario = out.join("runs").join(run["run"].as_str().unwrap()).join("scenario.toml");
    let again = Command::new(SIM).args(["run", scenario.to_str().unwrap(), "--json"]).output().unwrap();
    assert_eq!(last_line(&again)["log_digest"], run["log_digest"]);
}

#[test]
fn a_sweep_goes_on_where_it_was_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    // One seed first; then one of its runs loses its end, as if the process had been killed in the middle.
    let first = sweep(folder.path(), &["--seeds", "1", "--jobs", "1"]);
    assert_eq!(first.status.code(), Some(0), "{}", errors(&first));
    let before = rows(&out.join("runs.jsonl"));
    let torn = out.join("runs").join(before[1]["run"].as_str().unwrap());
    fs::remove_file(torn.join("result.json")).unwrap();
    fs::write(torn.join("rounds.jsonl"), "{\"round\": 1, \"outc").unwrap();
    let kept = |row: &Value| out.join("runs").join(row["run"].as_str().unwrap()).join("result.json");
    let stamp = |row: &Value| fs::metadata(kept(row)).unwrap().modified().unwrap();
    let stamps: Vec<_> = [0, 2, 3].map(|at| stamp(&before[at])).into();
    let second = sweep(folder.path(), &[]);
    assert_eq!(second.status.code(), Some(0), "{}", errors(&second));
    let line = last_line(&second);
    assert_eq!((line["runs"].as_u64(), line["reused"].as_u64()), (Some(8), Some(3)));
    assert!(
        errors(&second).contains("3 from before") && errors(&second).contains("8/8 runs"),
        "{}",
        errors(&second)
    );
    assert_eq!(stamps, [0, 2, 3].map(|at| stamp(&before[at])), "what was whole was not touched");
    // And it came to what an undisturbed one comes to.
    let fresh = tempfile::tempdir().unwrap();
    sweep(fresh.path(), &["--jobs", "3"]);
    for name in ["runs.jsonl", "rounds.jsonl", "organizations.jsonl"] {
        let read = |folder: &Path| timeless(rows(&folder.join("out").join(name)));
        assert_eq!(read(folder.path()), read(fresh.path()), "{name}");
    }
}

/// No file may pass this size: the kernel's answer is another error than a full disk's, and comes at the same place.
#[test]
fn a_disk_that_fills_leaves_whole_runs_and_a_clear_word() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("small.toml");
    // The last two points have so many rounds that their lines do not fit into four kilobytes.
    let long = SMALL
        .replace("protocol = [\"secure\", \"plain\"]", "rounds = [1, 30]")
        .replace("seeds = 2", "seeds = 1");
    fs::write(&scenario, long).unwrap();
    let out = folder.path().join("out");
    let script = "trap '' XFSZ; ulimit -f 6; exec \"$0\" \"$@\"";
    let words = ["-c", script, SIM, "sweep", scenario.to_str().unwrap(), "--jobs", "1", "--out"];
    let full = Command::new("bash").args(words).arg(&out).output().unwrap();
    let text = errors(&full);
    assert_eq!(full.status.code(), Some(3), "{text}");
    assert!(text.contains("rounds.jsonl could not be written"), "{text}");
    assert!(text.contains("1 of 4 runs are whole in") && text.contains("the same command goes on"), "{text}");
    let runs = rows(&out.join("runs.jsonl"));
    assert_eq!(runs.len(), 1, "the table holds what is whole");
    // With room it goes on.
    let words = ["sweep", scenario.to_str().unwrap(), "--json", "--out", out.to_str().unwrap()];
    let rest = Command::new(SIM).args(words).output().unwrap();
    assert_eq!(last_line(&rest)["reused"], 1, "{}", errors(&rest));
    assert_eq!(rows(&out.join("runs.jsonl")).len(), 4);
}

#[test]
fn a_sweep_that_cannot_work_is_refused_before_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    for (vary, expected) in [
        (
            "clients.dropout=0,0.9",
            "protocol = \"secure\"): clients.dropout is 0.9: ⌈0.9 · 4⌉ = 4 organizations would drop out",
        ),
        ("seed=1,2", "seed cannot be varied"),
        ("network.speed=3", "unknown field `speed`"),
        ("network.loss", "sets nothing"),
    ] {
        let refused = sweep(folder.path(), &["--vary", vary]);
        assert_eq!(refused.status.code(), Some(2), "{vary}");
        assert!(errors(&refused).contains(expected), "{vary}: {}", errors(&refused));
        assert!(!folder.path().join("out").exists(), "{vary}");
    }
}

#[test]
fn a_run_that_ends_otherwise_is_counted_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["--set", "expect.end=stopped", "--seeds", "1", "--set", "evaluation.organizations=false"];
    let output = sweep(folder.path(), &words);
    assert_eq!(output.status.code(), Some(1));
    let line = last_line(&output);
    assert_eq!((line["unexpected"].as_u64(), line["expected_end"].as_bool()), (Some(4), Some(false)));
    assert!(errors(&output).contains("again with: consilium-sim run "), "{}", errors(&output));
}
