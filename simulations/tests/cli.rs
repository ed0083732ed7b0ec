//! The command line as a process: what it prints, how it ends, and a disk that fills.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

const SIM: &str = env!("CARGO_BIN_EXE_consilium-sim");

fn sim(words: &[&str]) -> Output {
    Command::new(SIM).args(words).output().unwrap()
}

fn last_line(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const QUICK: [&str; 8] = ["run", "--organizations", "4", "--rounds", "2", "--dimension", "60", "--json"];

#[test]
fn the_last_line_has_what_scripts_read() {
    let (one, two) = (sim(&QUICK), sim(&QUICK));
    assert_eq!(one.status.code(), Some(0), "{}", errors(&one));
    let (one, two) = (last_line(&one), last_line(&two));
    let keys: Vec<_> = one.as_object().unwrap().keys().cloned().collect();
    let expected = ["adapter_digest", "expected_end", "log_digest", "rounds", "seconds", "virtual_seconds"];
    let mut sorted = keys.clone();
    sorted.sort();
    assert_eq!(sorted, expected);
    for key in ["adapter_digest", "log_digest", "rounds", "virtual_seconds", "expected_end"] {
        assert_eq!(one[key], two[key], "{key}");
    }
    assert_eq!((&one["rounds"], &one["expected_end"]), (&2.into(), &true.into()));
}

#[test]
fn a_run_that_fails_prints_the_command_that_repeats_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut words = QUICK.to_vec();
    words.extend(["--set", "expect.end=stopped", "--out", out.to_str().unwrap()]);
    let first = sim(&words);
    assert_eq!(first.status.code(), Some(1));
    let text = errors(&first);
    let again = text.lines().find_map(|line| line.strip_prefix("again with: ")).unwrap();
    assert!(text.contains("it ended \"released\""), "{text}");
    let mut words: Vec<&str> = again.split(' ').skip(1).collect();
    words.push("--json");
    let second = sim(&words);
    assert_eq!(second.status.code(), Some(1));
    for key in ["adapter_digest", "log_digest"] {
        assert_eq!(last_line(&first)[key], last_line(&second)[key], "{key}");
    }
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for (set, expected) in [
        (
            "clients.dropout=0.9",
            "⌈0.9 · 4⌉ = 4 organizations would drop out, and n − m_min = 4 − 3 = 1 may be silent",
        ),
        (
            "cohort.min_survivors=5",
            "cohort.min_survivors is 5: it must be from r = ⌊(4 + 1)/2⌋ + 1 = 3 to n = 4",
        ),
        ("network.speed=3", "unknown field `speed`"),
        ("privacy.epsilon=0.5", "privacy.epsilon is 0.5: 2 rounds spend ε = "),
    ] {
        let mut words = QUICK.to_vec();
        words.extend(["--set", set, "--out", out.to_str().unwrap()]);
        let refused = sim(&words);
        assert_eq!(refused.status.code(), Some(2), "{set}");
        assert!(errors(&refused).contains(expected), "{set}: {}", errors(&refused));
        assert!(!out.exists(), "{set}");
    }
    let mut words = QUICK.to_vec();
    words.extend(["--set", "partition.kind=quantity", "--set", "partition.alpha=0.001"]);
    words.extend(["--set", "privacy.lot=1", "--out", out.to_str().unwrap()]);
    let refused = sim(&words);
    assert_eq!(refused.status.code(), Some(2));
    assert!(!out.exists());
    assert!(
        errors(&refused).contains("has 0 of 8 records: 8 records for 4 organizations are 2.0 each"),
        "{}",
        errors(&refused)
    );
}

#[test]
fn a_second_run_in_one_folder_must_be_meant() {
    let folder = tempfile::tempdir().unwrap();
    let mut words = QUICK.to_vec();
    words.extend(["--out", folder.path().to_str().unwrap()]);
    assert_eq!(sim(&words).status.code(), Some(0));
    let refused = sim(&words);
    assert_eq!(refused.status.code(), Some(3));
    assert!(errors(&refused).contains("another run is in this folder"), "{}", errors(&refused));
    words.push("--overwrite");
    assert_eq!(sim(&words).status.code(), Some(0));

    // One that is refused leaves what was there.
    let before = fs::read(folder.path().join("result.json")).unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    let mut unfit = words.clone();
    unfit.extend(["--set", "partition.kind=quantity", "--set", "partition.alpha=0.001"]);
    unfit.extend(["--set", "privacy.lot=1"]);
    assert_eq!(sim(&unfit).status.code(), Some(2));
    assert_eq!(fs::read(folder.path().join("result.json")).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6);
    // One that is run leaves nothing of it, records of an earlier run's task neither.
    assert_eq!(sim(&words).status.code(), Some(0));
    assert!(!folder.path().join("data").exists());
}

#[test]
fn a_budget_that_is_meant_to_run_out_may() {
    let mut words = QUICK.to_vec();
    words.extend(["--set", "privacy.epsilon=0.5", "--set", "expect.end=gave-up"]);
    let spent = sim(&words);
    assert_eq!(spent.status.code(), Some(0), "{}", errors(&spent));
    assert_eq!(last_line(&spent)["rounds"], 0);
}

#[test]
fn a_log_that_cannot_be_written_is_said() {
    let mut words = QUICK.to_vec();
    words.extend(["--log", "/dev/full"]);
    let full = sim(&words);
    assert_eq!(full.status.code(), Some(3));
    assert!(errors(&full).contains("the log could not be written"), "{}", errors(&full));
}

/// What the tests of the release binaries of client and coordinator look for, and must not find.
#[test]
fn predictable_randomness_can_be_seen_in_a_binary() {
    let binary = fs::read(SIM).unwrap();
    let needle = "consilium/1/simulation";
    assert!(binary.windows(needle.len()).any(|window| window == needle.as_bytes()));
}

/// No file may pass this size: the kernel's answer is another error than a full disk's, and comes at the same place.
#[test]
fn a_disk_that_fills_leaves_whole_lines_and_a_clear_word() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    // Blocks of 1024 bytes: two or three rounds' lines.
    let script = "trap '' XFSZ; ulimit -f 2; exec \"$0\" \"$@\"";
    let full = Command::new("bash")
        .args([
            "-c",
            script,
            SIM,
            "run",
            "--organizations",
            "4",
            "--rounds",
            "20",
            "--dimension",
            "60",
            "--out",
        ])
        .arg(&out)
        .output()
        .unwrap();
    let text = errors(&full);
    assert_eq!(full.status.code(), Some(3), "{text}");
    let rounds = fs::read_to_string(out.join("rounds.jsonl")).unwrap();
    let whole = rounds.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
    assert!(whole >= 2 && rounds.ends_with('\n') && rounds.lines().count() == whole, "{rounds}");
    let expected = format!("its first {whole} lines are whole");
    assert!(text.contains("rounds.jsonl could not be written") && text.contains(&expected), "{text}");
    assert!(!out.join("result.json").exists(), "a run that did not end has no result");
    assert!(Path::new(&out.join("scenario.toml")).exists());
}
