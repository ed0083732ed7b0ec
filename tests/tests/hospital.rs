//! What a hospital sees and decides, with real processes: what left, who said yes, who left and how that looks to the others.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use consilium_client::egress::{self, Step};
use consilium_coordinator::{
    round::Event,
    store::{InputLayout, SqliteStore, Store as _, StoredJob},
};
use consilium_crypto::digest::Digest;
use consilium_proto::{
    plan::Plan,
    roster::Roster,
    signed::{Kind, Signatures, fingerprint},
    wire::{ClientMessage, ProtocolMessage, client_message::Kind as Say},
};
use consilium_tests::{Consortium, Process, Shape, wait_until};
use prost::Message as _;
use serde_json::Value;

const CLIENT: &str = env!("CARGO_BIN_EXE_hooked-client");

fn coordinator(consortium: &Consortium) -> Process {
    let config = consortium.path("coordinator.toml");
    let log = consortium.path("coordinator.log");
    Process::start(env!("CARGO_BIN_EXE_hooked-coordinator"), &["--config", config.to_str().unwrap()], log)
}

fn config(consortium: &Consortium, site: usize) -> String {
    consortium.path(&format!("site-{site}.toml")).display().to_string()
}

fn client(consortium: &Consortium, site: usize) -> Process {
    let log = consortium.path(&format!("site-{site}.log"));
    Process::start(CLIENT, &["run", "--config", &config(consortium, site)], log)
}

/// A command of a site's own client; what it printed, and how it ended.
fn command(consortium: &Consortium, site: usize, words: &[&str]) -> (i32, String) {
    let config = config(consortium, site);
    let ran = Command::new(CLIENT).args(words).args(["--config", &config]).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    (ran.status.code().unwrap(), text)
}

fn json(consortium: &Consortium, site: usize, words: &[&str]) -> Value {
    let (code, text) = command(consortium, site, &[words, &["--json"]].concat());
    assert_eq!(code, 0, "{words:?}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words:?}: {error}: {text}"))
}

fn decide(consortium: &Consortium, site: usize, words: &[&str]) {
    let (code, text) =
        command(consortium, site, &[words, &["--by", "Dr Ada", "--reason", "a test"]].concat());
    assert_eq!(code, 0, "{words:?}: {text}");
    assert!(text.contains("signed"), "{text}");
}

fn plan_of(consortium: &Consortium) -> consilium_proto::plan::VerifiedPlan {
    let text = |name: &str| fs::read_to_string(consortium.path(name)).unwrap();
    let signatures = |name: &str| Signatures::parse(&text(name)).unwrap();
    let pin = fingerprint(Kind::Roster, &text("roster.toml"));
    let roster = Roster::verify(&text("roster.toml"), &signatures("roster.toml.sig"), &pin).unwrap();
    Plan::verify(&text("plan.toml"), &signatures("plan.toml.sig"), &roster).unwrap()
}

/// Every event of the stopped coordinator.
fn events(consortium: &Consortium) -> Vec<(u32, u32, Event)> {
    let plan = plan_of(consortium);
    let job = StoredJob { plan: plan.digest(), input: InputLayout::of_plan(plan.derived()) };
    let store = SqliteStore::open(&consortium.path("coordinator"), &job).unwrap();
    let mut events = Vec::new();
    store
        .replay(&mut |kept| {
            let event = Event::decode(&kept.kind, &kept.body).unwrap();
            events.push((kept.round, kept.attempt, event));
            Ok(())
        })
        .unwrap();
    events
}

/// Bytes by step of a rehearsal's table.
fn rehearsed(folder: &Path) -> BTreeMap<String, Vec<u64>> {
    let mut steps: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in fs::read_to_string(folder.join("index.csv")).unwrap().lines().skip(1) {
        let cells: Vec<_> = line.split(',').collect();
        let bytes = fs::read(folder.join(cells[0])).unwrap();
        assert_eq!(Digest::of(&bytes).to_string(), cells[3], "{line}");
        assert_eq!(bytes.len().to_string(), cells[2], "{line}");
        steps.entry(cells[1].to_owned()).or_default().push(bytes.len() as u64);
    }
    steps
}

#[test]
fn everything_that_the_coordinator_holds_has_a_line_where_it_left_and_a_rehearsal_showed_it() {
    let consortium = Consortium::found(&Shape { rounds: 2, ..Shape::default() });
    let out = consortium.path("rehearsal");
    let told = json(&consortium, 2, &["plan", "rehearse", "--out", out.to_str().unwrap()]);
    assert!(told["bytes"].as_u64().unwrap() > 0);
    assert!(!consortium.path("state-2/ledger.journal").exists(), "a rehearsal spends nothing");
    assert!(!consortium.path("state-2/egress.journal").exists(), "and sends nothing");

    let mut coordinator = coordinator(&consortium);
    let mut clients: Vec<_> = (1..=5).map(|site| client(&consortium, site)).collect();
    for client in &mut clients {
        assert!(client.wait().success(), "{}", client.text());
    }
    assert!(coordinator.terminate().success(), "{}", coordinator.text());

    let plan = plan_of(&consortium);
    let mut held: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (round, attempt, event) in events(&consortium) {
        if let Event::Accepted { from, step, body } = event {
            let said = Say::Protocol(ProtocolMessage { round, attempt, step, body });
            let message = ClientMessage { kind: Some(said) }.encode_to_vec();
            held.entry(from.to_string()).or_default().insert(Digest::of(&message).to_string());
        }
    }
    assert_eq!(held.len(), 5);
    for (site, digests) in &held {
        let number = site.strip_prefix("site-").unwrap();
        let state = consortium.path(&format!("state-{number}"));
        let lines = egress::read(&state, &site.parse().unwrap()).unwrap().lines;
        let written: BTreeSet<_> = lines.iter().map(|it| it.line.sha256.clone()).collect();
        assert!(digests.is_subset(&written), "{site}: the coordinator holds a message without a line");
        let verified = json(&consortium, number.parse().unwrap(), &["egress", "verify"]);
        assert_eq!((&verified["ok"], &verified["attempts"]), (&true.into(), &2.into()), "{verified}");
        let masked = plan.derived().ring.packed_len(plan.derived().vector_len) as u64;
        let chunks = verified["steps"]["chunk"]["bytes"].as_u64().unwrap();
        assert!((2 * masked..2 * masked + 100).contains(&chunks), "{chunks} bytes, two vectors of {masked}");
    }

    // What was rehearsed is what left, step by step, byte for byte in length.
    let lines = egress::read(&consortium.path("state-2"), &"site-2".parse().unwrap()).unwrap().lines;
    let mut sent: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let of_attempt =
        |step: Step| step == Step::Hello || (step != Step::StateQuery && step != Step::StateStatements);
    for it in lines.iter().filter(|it| it.line.round <= 1 && of_attempt(it.line.step)) {
        if it.line.step != Step::ReleasesRequest {
            sent.entry(it.line.step.as_str().to_owned()).or_default().push(it.line.bytes);
        }
    }
    assert_eq!(rehearsed(&out), sent);
}

#[test]
fn a_plan_waits_for_a_yes_and_nothing_is_dialled_before() {
    let consortium = Consortium::found(&Shape { rounds: 2, ..Shape::default() });
    let text = fs::read_to_string(consortium.path("site-3.toml")).unwrap();
    consortium.write("site-3.toml", &text.replace("approval = \"auto\"\n", ""));
    let mut coordinator = coordinator(&consortium);
    let mut clients: Vec<_> = (1..=5).map(|site| client(&consortium, site)).collect();
    let waits = || (json(&consortium, 3, &["status"])["phase"] == "waiting-for-approval").then_some(());
    wait_until("a client that waits", || clients[2].text(), waits);
    clients[0].wait_for("applied", 1);
    assert!(!consortium.path("state-3/egress.journal").exists(), "nothing has left");

    let explained = json(&consortium, 3, &["plan", "explain"]);
    let fingerprint = explained["fingerprint"].as_str().unwrap().to_owned();
    let wrong = format!("{}0", &fingerprint[..11]);
    let other = if wrong[..] == fingerprint[..12] { format!("{}1", &fingerprint[..11]) } else { wrong };
    let (code, text) = command(&consortium, 3, &["plan", "approve", &other, "--by", "Dr Ada"]);
    assert!(code == 3 && text.contains("it changed since it was read"), "{code}: {text}");
    decide(&consortium, 3, &["plan", "approve", &fingerprint[..12]]);
    for client in &mut clients {
        assert!(client.wait().success(), "{}", client.text());
    }
    assert!(coordinator.terminate().success());
    let status = json(&consortium, 3, &["status"]);
    assert_eq!((&status["approval"], &status["applied_round"]), (&"approved".into(), &2.into()), "{status}");

    // Another text is another plan.
    let mut changed = consortium.plan.clone();
    changed.privacy.epsilon = 49.0;
    consortium.sign(Kind::Plan, "plan.toml", &changed.to_text().unwrap());
    let explained = json(&consortium, 3, &["plan", "explain"]);
    assert_eq!(explained["answer"], Value::Null);
    let changes = explained["changes"].to_string();
    assert!(
        changes.contains("- [privacy] epsilon = 50") && changes.contains("+ [privacy] epsilon = 49"),
        "{changes}"
    );
    decide(&consortium, 3, &["plan", "reject", &explained["fingerprint"].as_str().unwrap()[..12]]);
    let (code, text) = command(&consortium, 3, &["run"]);
    assert!(code == 3 && text.contains("rejected here by Dr Ada"), "{code}: {text}");
}

#[test]
fn who_pauses_stops_or_leaves_is_refused_to_the_others_and_no_fault() {
    let consortium = Consortium::found(&Shape { rounds: 40, ..Shape::default() });
    let mut coordinator = coordinator(&consortium);
    let mut clients: Vec<_> = (1..=5).map(|site| client(&consortium, site)).collect();

    let lines = |site: usize| {
        let folder = consortium.path(&format!("state-{site}"));
        egress::read(&folder, &format!("site-{site}").parse().unwrap()).unwrap().lines
    };
    clients[3].wait_for("shared", 1);
    decide(&consortium, 4, &["pause"]);
    let left_before = lines(4).len();
    assert_eq!(json(&consortium, 4, &["status"])["phase"], "paused");
    // It declines what comes, and learns what the others publish without it.
    let declined = clients[3].wait_for("declined", 1);
    assert_eq!(declined["code"], "paused");
    let round = declined["round"].as_u64().unwrap();
    clients[3].wait_for("applied", round + 1);
    for it in lines(4).split_off(left_before) {
        let harmless =
            [Step::Hello, Step::Refusal, Step::ReleasesRequest, Step::StateQuery, Step::StateStatements];
        assert!(harmless.contains(&it.line.step), "a paused client sent {:?}", it.line);
    }
    decide(&consortium, 4, &["resume"]);
    let joined = clients[3].wait_for("joined", round + 1)["round"].as_u64().unwrap();

    // Stopped in mid-attempt: it ends by itself, well, and does not start again.
    clients[4].wait_for("shared", joined + 1);
    decide(&consortium, 5, &["stop"]);
    assert!(clients[4].wait().success(), "{}", clients[4].text());
    let (code, text) = command(&consortium, 5, &["run"]);
    assert!(code == 3 && text.contains("was stopped here by Dr Ada"), "{code}: {text}");

    for client in clients.iter_mut().take(4) {
        assert!(client.wait().success(), "{}", client.text());
    }
    assert!(coordinator.terminate().success());
    for (_, _, event) in events(&consortium) {
        match event {
            Event::Failed { code, culprits, .. } => {
                assert!(culprits.is_empty(), "{code}: somebody is blamed: {culprits:?}");
            }
            Event::Blamed { culprit, .. } => panic!("{culprit} is blamed"),
            _ => {}
        }
    }

    // Leaving is for good.
    let (code, text) = command(&consortium, 2, &["leave", "--by", "Dr Ada", "--confirm", "another"]);
    assert!(code == 3 && text.contains("nothing was decided"), "{code}: {text}");
    decide(&consortium, 2, &["leave", "--confirm", "small"]);
    let (code, text) = command(&consortium, 2, &["resume", "--by", "Dr Ada"]);
    assert!(code == 3 && text.contains("no way back"), "{code}: {text}");
    let (code, _) = command(&consortium, 2, &["run"]);
    assert_eq!(code, 3);
}
