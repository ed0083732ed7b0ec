//! What a hospital's people type: explain, approve, pause, leave, look, export. By the real binary, without a coordinator.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)]

mod cli_support;
mod link_support;

use std::{fs, process::Command, sync::Arc};

use cli_support::{Consortium, id};
use consilium_client::{
    egress::{Destination, EGRESS_FILE, Egress},
    journal::Journal,
    ledger::{Debit, LEDGER_FILE, LedgerFile},
    link::{Link, LinkEvent, Route, Target},
};
use consilium_proto::wire::{self, client_message::Kind as Say};
use link_support::Listener;
use serde_json::Value;

/// What a command printed, error and all, and how it ended.
fn run(consortium: &Consortium, words: &[&str]) -> (i32, String) {
    let ran = Command::new(env!("CARGO_BIN_EXE_consilium-client"))
        .args(words)
        .args(["--config", "site-1.toml"])
        .current_dir(consortium.folder.path())
        .env_remove("HTTPS_PROXY")
        .env_remove("https_proxy")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (ran.status.code().unwrap(), text(&ran.stdout) + &text(&ran.stderr))
}

#[track_caller]
fn ok(consortium: &Consortium, words: &[&str]) -> String {
    let (code, text) = run(consortium, words);
    assert_eq!(code, 0, "{words:?}: {text}");
    text
}

#[track_caller]
fn json(consortium: &Consortium, words: &[&str]) -> Value {
    serde_json::from_str(&ok(consortium, &[words, &["--json"]].concat())).unwrap()
}

#[track_caller]
fn refused(consortium: &Consortium, words: &[&str], parts: &[&str]) {
    let (code, text) = run(consortium, words);
    assert_ne!(code, 0, "{words:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{words:?}: {part:?} is missing in {text}");
    }
}

const BY: [&str; 2] = ["--by", "Dr Ada"];

/// A decision, by somebody.
fn act<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [words, &BY].concat()
}

#[test]
fn a_plan_is_explained_and_answered_by_its_fingerprint() {
    let consortium = Consortium::new();
    let text = ok(&consortium, &["plan", "explain"]);
    let fingerprint = consortium.verified().1.digest().to_string();
    for part in [
        "Job demo of clinics",
        &fingerprint,
        "signed by        site-1, site-2, site-3",
        "3 labels apart (infection, fracture, neoplasm), with tiny",
        "20 rounds, at most 3 attempts each",
        "to 127.0.0.1:7400 and nowhere else",
        "protects         one patient (a title stands for a patient): ε = ",
        "nobody has answered yet; the client waits and dials nothing",
        &format!("plan approve {} --config site-1.toml", &fingerprint[..12]),
    ] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    assert!(!consortium.path("site-1-state").exists(), "looking writes nothing");

    for (digits, part) in [(&fingerprint[..8], "12 digits"), ("000000000000", "it changed since it was read")]
    {
        refused(&consortium, &[&["plan", "approve", digits][..], &BY].concat(), &[part]);
    }
    let yes = [&["plan", "approve", &fingerprint[..12]][..], &BY].concat();
    assert!(ok(&consortium, &yes).contains("job demo: approved by Dr Ada"));
    assert_eq!(json(&consortium, &["status"])["approval"], "approved");
    assert!(
        ok(&consortium, &["plan", "explain"])
            .contains("Nothing changed since the plan that was approved last.")
    );

    // A line of the policy that forbids the plan forbids a yes.
    consortium.edit("site-1.toml", "plan = ", "policy = \"policy.toml\"\nplan = ");
    fs::write(consortium.path("policy.toml"), "epsilon_per_job = 0.5\n").unwrap();
    refused(&consortium, &yes, &["policy.toml", "epsilon_per_job"]);
    assert!(ok(&consortium, &["plan", "explain"]).contains("FORBIDS line 1, `epsilon_per_job = 0.5`"));
    let no = [&["plan", "reject", &fingerprint[..12], "--reason", "too dear"][..], &BY].concat();
    assert!(ok(&consortium, &no).contains("rejected by Dr Ada"));
    assert_eq!(json(&consortium, &["status"])["approval"], "rejected");
}

#[test]
fn decisions_hold_until_they_are_taken_back_or_for_good() {
    let consortium = Consortium::new();
    consortium.edit("site-1.toml", "plan = ", "approval = \"auto\"\nplan = ");
    refused(&consortium, &act(&["resume"]), &["neither paused nor stopped"]);
    let text = ok(&consortium, &act(&["stop", "--reason", "an incident"]));
    assert!(
        text.contains("job demo: stopped by Dr Ada") && text.contains("no client is running here"),
        "{text}"
    );
    refused(&consortium, &["run"], &["stopped here by Dr Ada", "an incident"]);
    let halted = json(&consortium, &["status"])["halted"].as_str().unwrap().to_owned();
    assert!(halted.starts_with("stopped by Dr Ada"), "{halted}");
    ok(&consortium, &act(&["resume"]));
    assert_eq!(json(&consortium, &["status"])["halted"], Value::Null);
    refused(&consortium, &act(&["leave", "--confirm", "demon"]), &["the job is demo", "nothing was decided"]);
    ok(&consortium, &act(&["leave", "--confirm", "demo", "--reason", "consent withdrawn"]));
    refused(&consortium, &act(&["resume"]), &["no way back"]);
    refused(&consortium, &["run"], &["left here by Dr Ada"]);
    let words = "x".repeat(501);
    refused(&consortium, &act(&["pause", "--reason", &words]), &["--reason", "500"]);
}

/// A state in which site-1 has said hello, and sent a vector that was paid for.
fn something_left(consortium: &Consortium) {
    let (roster, plan) = consortium.verified();
    let state = consortium.path("site-1-state");
    fs::create_dir_all(&state).unwrap();
    let (mut file, mut ledger) =
        LedgerFile::open(&state.join(LEDGER_FILE), &id("titles"), &mut rand::rng()).unwrap();
    file.append(&Debit::of(&plan, 1, 1)).unwrap();
    ledger.debit(Debit::of(&plan, 1, 1)).unwrap();
    let roster = Arc::new(roster);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (_, address) = Listener::start(&consortium.identities[3], roster.clone()).await;
        let destination = Destination { coordinator: "127.0.0.1:7400".into(), proxy: None };
        let egress = Egress::open(&state, &id("site-1"), destination, &plan, &ledger).unwrap();
        let target = Target::new(&address, Route::Direct, &consortium.identities[0], roster).unwrap();
        let mut link = Link::start(target, egress.clone());
        while !matches!(link.next().await.unwrap(), LinkEvent::Connected) {}
        link.say(Say::Hello(wire::Hello::default())).await;
        let header = wire::ProtocolMessage { round: 1, attempt: 1, step: 3, body: vec![8; 90] };
        link.say(Say::Protocol(header)).await;
        while !matches!(link.next().await.unwrap(), LinkEvent::Heard(_)) {}
        link.upload(1, 1, Arc::new(vec![vec![1; 500], vec![2; 100]]), 0).await;
        while egress.totals().0 < 4 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        link.close().await;
    });
}

#[test]
fn what_left_is_listed_exported_and_verified() {
    let consortium = Consortium::new();
    assert_eq!(ok(&consortium, &["egress", "list"]), "Nothing has left.\n");
    something_left(&consortium);
    let listed = json(&consortium, &["egress", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), 4, "{listed}");
    assert_eq!(json(&consortium, &["egress", "list", "--last", "1"])[0]["step"], "chunk");
    assert_eq!(json(&consortium, &["egress", "list", "--round", "1"]).as_array().unwrap().len(), 3);
    let table = ok(&consortium, &["egress", "list"]);
    let cells: Vec<&str> = table.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(cells[2..5], ["127.0.0.1:7400", "demo", "1"], "{table}");

    let verified = json(&consortium, &["egress", "verify"]);
    assert_eq!(
        (&verified["messages"], &verified["attempts"], &verified["unused_debits"]),
        (&4.into(), &1.into(), &0.into())
    );
    ok(&consortium, &["egress", "export", "--out", "left.csv"]);
    let csv = fs::read_to_string(consortium.path("left.csv")).unwrap();
    assert_eq!(csv.lines().count(), 5);
    assert!(csv.lines().all(|line| line.split(',').count() == 11), "{csv}");
    assert!(csv.contains(listed[3]["sha256"].as_str().unwrap()));
    refused(&consortium, &["egress", "export", "--out", "left.csv"], &["left.csv", "not overwritten"]);
    ok(&consortium, &["egress", "export", "--out", "left.jsonl", "--format", "jsonl"]);
    let lines = fs::read_to_string(consortium.path("left.jsonl")).unwrap();
    assert!(
        lines
            .lines()
            .all(|line| serde_json::from_str::<Value>(line).unwrap()["destination"] == "127.0.0.1:7400")
    );

    // One byte, anywhere, and it is found.
    let path = consortium.path("site-1-state").join(EGRESS_FILE);
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len() - 1).step_by(397) {
        let mut bent = whole.clone();
        bent[at] ^= 1;
        fs::write(&path, &bent).unwrap();
        refused(&consortium, &["egress", "verify"], &[EGRESS_FILE]);
    }
    // A line taken out in the middle, too.
    let mut fewer: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    fewer.remove(2);
    fs::write(&path, fewer.concat()).unwrap();
    refused(&consortium, &["egress", "verify"], &["line 3"]);
    // And a ledger that does not know of the vector.
    fs::write(&path, &whole).unwrap();
    fs::remove_file(consortium.path("site-1-state").join(LEDGER_FILE)).unwrap();
    refused(&consortium, &["egress", "verify"], &["message 2", "entry 1 of the ledger, which has 0"]);
}

#[test]
fn the_hospital_has_its_own_view() {
    let consortium = Consortium::new();
    something_left(&consortium);
    let status = json(&consortium, &["status"]);
    assert_eq!(status["view"], "the files of site-1");
    assert_eq!(
        (&status["phase"], &status["messages_sent"], &status["debits"]),
        (&"not-running".into(), &4.into(), &1.into())
    );
    let spent = consortium.verified().1.derived().guarantees(1, 1e-5).unwrap();
    assert_eq!(status["epsilon_spent"].as_f64(), Some(spent.central));
    assert!(ok(&consortium, &["status"]).contains("site-1 in job demo of clinics, by the files of site-1"));

    ok(&consortium, &["metrics", "--out", "site.prom"]);
    let metrics = fs::read_to_string(consortium.path("site.prom")).unwrap();
    let bytes = status["bytes_sent"].as_u64().unwrap();
    assert!(
        metrics.contains(&format!(
            "consilium_client_egress_bytes_total{{organization=\"site-1\",job=\"demo\"}} {bytes}\n"
        )),
        "{metrics}"
    );
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("consilium_client_") && value.parse::<f64>().is_ok(), "{line}");
        let kind = format!("# TYPE {} ", name.split('{').next().unwrap());
        assert!(metrics.contains(&kind), "{line}");
    }
}

#[test]
fn doctor_names_what_is_wrong_and_who_opens_tls() {
    let consortium = Consortium::new();
    let (code, text) = run(&consortium, &["doctor", "--offline"]);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("WARNING  approval     nobody has approved the plan")
            && text.contains("cure: consilium-client plan explain"),
        "{text}"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let roster = Arc::new(consortium.verified().0);
    let listen =
        |identity: usize| runtime.block_on(Listener::start(&consortium.identities[identity], roster.clone()));
    let (listener, address) = listen(3);
    consortium.edit("site-1.toml", "127.0.0.1:7400", &address);
    let text = ok(&consortium, &["doctor"]);
    assert!(text.contains("who answers  the coordinator, with the key that the roster lists"), "{text}");
    assert!(listener.received.all().is_empty(), "it says nothing");
    // A box on the way, with a certificate of its own.
    let (_box, other) = listen(1);
    consortium.edit("site-1.toml", &address, &other);
    let (code, text) = run(&consortium, &["doctor"]);
    assert_eq!(code, 3, "{text}");
    for part in [
        "FAILED   who answers",
        "signed by CN=",
        "Request to exempt one destination from TLS inspection",
        &format!("destination       {other}, TCP, outgoing only"),
        &roster.coordinator().tls_key.to_string(),
    ] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    // Nobody at all; and a journal that somebody has edited.
    consortium.edit("site-1.toml", &other, "127.0.0.1:1");
    let state = consortium.path("site-1-state");
    fs::create_dir_all(&state).unwrap();
    drop(Journal::<Value>::open(&state.join(EGRESS_FILE), "what left site-2").unwrap());
    let (code, text) = run(&consortium, &["doctor"]);
    assert!(code == 3 && text.contains("the firewall must let TCP out to 127.0.0.1:1"), "{text}");
    assert!(text.contains("FAILED   what left") && text.contains("belongs to what left site-2"), "{text}");
}

#[test]
fn a_rehearsal_writes_every_message_and_spends_nothing() {
    let consortium = Consortium::new();
    let told = json(&consortium, &["plan", "rehearse", "--out", "rehearsal"]);
    let steps: Vec<&str> =
        told["files"].as_array().unwrap().iter().map(|file| file["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["hello", "advertise", "share", "input", "chunk", "vote", "unmask"]);
    let plan = consortium.verified().1;
    let masked = plan.derived().ring.packed_len(plan.derived().vector_len);
    let chunk = fs::read(consortium.path("rehearsal/005-chunk.bin")).unwrap();
    assert!((masked..masked + 20).contains(&chunk.len()), "{} bytes for {masked}", chunk.len());
    assert!(!consortium.path("site-1-state").exists(), "nothing was spent, nothing was recorded");
    refused(&consortium, &["plan", "rehearse", "--out", "rehearsal"], &["rehearsal", "not overwritten"]);
    // Another rehearsal masks with other keys.
    json(&consortium, &["plan", "rehearse", "--out", "again"]);
    assert_ne!(fs::read(consortium.path("again/005-chunk.bin")).unwrap(), chunk);
}
