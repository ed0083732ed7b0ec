//! The record of a job: written beside a coordinator that serves, checked offline, bent in every way.
#![allow(clippy::unwrap_used)]

#[path = "generator/mod.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, unused_imports)]
mod generator;
#[path = "service/server.rs"]
#[allow(dead_code)]
mod server;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use consilium_coordinator::{
    prune::{due, prune},
    record::{
        Contents, Listed,
        verify::{Broken, Report, verify},
    },
};
use consilium_crypto::digest::Digest;
use consilium_proto::{
    log::{LogHead, NewEntry},
    plan::Guarantees,
    release::{VerifiedHead, apply_sum, initial_state, sign_head},
    wire::{self, SignedAuditEntry, SignedReleaseHead, audit_entry},
};
use generator::{Consortium, Shape};
use prost::Message as _;
use server::Server;

/// A job of three rounds, and its records, with and without masked inputs.
struct Job {
    server: Server,
    folder: tempfile::TempDir,
}

impl Job {
    async fn run(shape: Shape) -> Self {
        let server = Server::start(&shape, "");
        let mut members = server.members(0..usize::from(shape.members)).await;
        for round in 1..=shape.rounds {
            // From the second round on one of them is away.
            if round == 2 {
                members.pop();
            }
            members = server.complete(members, round).await;
        }
        Self { server, folder: tempfile::tempdir().unwrap() }
    }

    fn pin(&self) -> Digest {
        self.server.consortium.roster.genesis()
    }

    fn consortium(&self) -> &Consortium {
        &self.server.consortium
    }

    /// Written while the process serves.
    fn record(&self, name: &str, more: &[&str]) -> PathBuf {
        let out = self.folder.path().join(name);
        let config = self.server.state().with_file_name("coordinator.toml");
        let output = Command::new(env!("CARGO_BIN_EXE_consilium-coordinator"))
            .arg("record")
            .arg("--config")
            .arg(config)
            .arg("--out")
            .arg(&out)
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        out
    }

    fn check(&self, record: &Path) -> Result<Report, Broken> {
        verify(record, &self.pin(), None)
    }
}

fn consilium(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_consilium")).args(arguments).output().unwrap()
}

fn small(keep_inputs_h: u32) -> Shape {
    Shape { dimension: 1500, keep_inputs_h, ..Shape::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_holds_and_says_what_it_could_not_recompute() {
    let job = Job::run(small(24)).await;
    let record = job.record("record", &["--inputs"]);
    let report = job.check(&record).unwrap();
    assert_eq!(report.releases.len(), 3);
    assert!(report.releases.iter().all(|release| release.from_inputs));
    assert_eq!(report.releases[0].survivors.len(), 5);
    assert_eq!(report.releases[2].survivors.len(), 4);
    assert_eq!((report.log.sequence, report.debited, report.failures), (3, 3, 0));
    assert!(report.spent.central > 0.0 && report.spent.local > report.spent.central);
    assert!(report.not_recomputed.iter().all(|line| !line.contains("sum")), "{:?}", report.not_recomputed);
    // The same from the command line, in words and for programs.
    let pin = job.pin().to_string();
    let said = consilium(&["verify", record.to_str().unwrap(), "--pin", &pin]);
    let words = String::from_utf8(said.stdout).unwrap();
    assert!(said.status.success() && words.contains("3 sums recomputed from masked inputs"), "{words}");
    let said = consilium(&["verify", record.to_str().unwrap(), "--pin", &pin, "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!((value["holds"].as_bool(), value["releases"].as_array().unwrap().len()), (Some(true), 3));
    assert_eq!(value["adapter"].as_str().unwrap(), report.adapter.0.to_string());
    // Another consortium's pin, and a folder that is none.
    let said = consilium(&["verify", record.to_str().unwrap(), "--pin", &"0".repeat(64)]);
    assert_eq!(said.status.code(), Some(1));
    assert!(String::from_utf8(said.stderr).unwrap().contains("roster.toml"));
    assert_eq!(consilium(&["verify", "/nowhere", "--pin", &pin]).status.code(), Some(1));

    // Without masked inputs, the last sum has the coordinator's word alone, and the report says so.
    let bare = job.record("bare", &[]);
    let report = job.check(&bare).unwrap();
    let lines = report.not_recomputed.join("\n");
    assert!(lines.contains("the sums of rounds 1-3 from masked inputs"), "{lines}");
    assert!(lines.contains("whether the sum of round 3 is its members'"), "{lines}");
    // A record is made once, and into no folder that is there.
    let config = job.server.state().with_file_name("coordinator.toml");
    let again = Command::new(env!("CARGO_BIN_EXE_consilium-coordinator"))
        .args(["record", "--config", config.to_str().unwrap(), "--out", bare.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(1));
    bill_of_materials(&record, &report);
}

/// The bill has what CycloneDX 1.6 requires, and the manifest the job's facts.
fn bill_of_materials(record: &Path, report: &Report) {
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(record.join(name)).unwrap()).unwrap()
    };
    let bill = read("mlbom.cdx.json");
    assert_eq!((bill["bomFormat"].as_str(), bill["specVersion"].as_str()), (Some("CycloneDX"), Some("1.6")));
    let subject = &bill["metadata"]["component"];
    assert_eq!(subject["type"], "machine-learning-model");
    assert_eq!(subject["hashes"][0]["content"], report.adapter.0.to_string());
    let references: Vec<_> = bill["components"].as_array().unwrap().iter().map(|it| &it["bom-ref"]).collect();
    let used = bill["dependencies"][0]["dependsOn"].as_array().unwrap();
    assert!(!used.is_empty() && used.iter().all(|it| references.contains(&it)));
    let serial = bill["serialNumber"].as_str().unwrap().strip_prefix("urn:uuid:").unwrap();
    let parts: Vec<_> = serial.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12]);
    let manifest = read("manifest.json");
    assert_eq!(manifest["organizations"][4]["in_sums"], 1);
    assert_eq!(manifest["organizations"][0]["in_sums"], 3);
    let software = manifest["software"].to_string();
    assert!(software.contains("consilium-coordinator") && software.contains("generated"), "{software}");
}

/// All files of a record.
fn files(record: &Path) -> Vec<String> {
    let list = Contents::parse(&fs::read_to_string(record.join("contents")).unwrap()).unwrap();
    list.paths().map(str::to_owned).chain(["contents".into(), "contents.sig".into()]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_flipped_byte_anywhere_is_found() {
    let job = Job::run(small(24)).await;
    let record = job.record("record", &["--inputs"]);
    let mut flips = 0;
    for name in files(&record) {
        let path = record.join(&name);
        let whole = fs::read(&path).unwrap();
        // Every byte of what is short, and about two hundred of what is long, at places that follow no pattern of the format.
        let step = (whole.len() / 211).max(1);
        for at in (0..whole.len()).step_by(step) {
            let mut bent = whole.clone();
            bent[at] ^= [1u8, 0x20, 0x80, 0xff][flips % 4];
            fs::write(&path, &bent).unwrap();
            let found = job.check(&record);
            assert!(found.is_err(), "{name}: byte {at} was bent and nobody noticed");
            flips += 1;
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(job.check(&record).is_err(), "{name}: its last byte is gone");
        fs::remove_file(&path).unwrap();
        assert!(job.check(&record).is_err(), "{name} is gone");
        fs::write(&path, &whole).unwrap();
    }
    assert!(flips > 2000, "{flips}");
    fs::write(record.join("releases/round-9.sum"), b"more").unwrap();
    assert_eq!(job.check(&record).unwrap_err().what, "releases/round-9.sum");
    fs::remove_file(record.join("releases/round-9.sum")).unwrap();
    job.check(&record).unwrap();
}

/// Lists and signs a bent record as its coordinator could.
fn listed_again(job: &Job, record: &Path) {
    let list = Contents::parse(&fs::read_to_string(record.join("contents")).unwrap()).unwrap();
    let mut again = Contents::default();
    for path in list.paths().filter(|path| record.join(path).exists()) {
        let bytes = fs::read(record.join(path)).unwrap();
        again.add(path.to_owned(), Listed { digest: Digest::of(&bytes), bytes: bytes.len() as u64 });
    }
    let Consortium { coordinator, roster, plan, .. } = job.consortium();
    fs::write(record.join("contents"), again.to_text()).unwrap();
    fs::write(record.join("contents.sig"), again.sign(roster, plan, coordinator.signing_key())).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_contents_no_longer_say_the_chain_does() {
    let job = Job::run(small(24)).await;
    let record = job.record("record", &["--inputs"]);
    let list = fs::read(record.join("contents")).unwrap();
    let signature = fs::read(record.join("contents.sig")).unwrap();
    let mut flips = 0;
    // Lines of signatures that a quorum does not need are nobody's word; everything else is somebody's.
    for name in files(&record).into_iter().filter(|name| !name.ends_with(".sig") && name != "contents") {
        let path = record.join(&name);
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by((whole.len() / 13).max(1)) {
            let mut bent = whole.clone();
            bent[at] ^= 1;
            fs::write(&path, &bent).unwrap();
            listed_again(&job, &record);
            let found = job.check(&record);
            assert!(found.is_err(), "{name}: byte {at} was bent and listed again");
            flips += 1;
        }
        fs::write(&path, &whole).unwrap();
    }
    assert!(flips > 200, "{flips}");
    fs::write(record.join("contents"), list).unwrap();
    fs::write(record.join("contents.sig"), signature).unwrap();
    job.check(&record).unwrap();
}

/// What a coordinator that lies afterwards can do: another sum for a round, and everything that follows from it computed and
/// signed again.
fn rewritten(job: &Job, record: &Path, round: u32) {
    let Consortium { coordinator, roster, plan, .. } = job.consortium();
    let key = coordinator.signing_key();
    let (mut state, mut log) = (initial_state(plan).unwrap(), LogHead::empty(roster, plan));
    let mut frames = Vec::new();
    for now in 1..=3 {
        let path = record.join(format!("releases/round-{now}.head"));
        let signed = SignedReleaseHead::decode(fs::read(&path).unwrap().as_slice()).unwrap();
        let mut head = wire::ReleaseHead::decode(signed.head.as_slice()).unwrap();
        let survivors = VerifiedHead::verify(&signed, roster, plan).unwrap().survivors.len();
        let sum_path = record.join(format!("releases/round-{now}.sum"));
        let mut sum = fs::read(&sum_path).unwrap();
        if now == round {
            sum[3] ^= 1;
            fs::write(&sum_path, &sum).unwrap();
        }
        head.sum_digest = Digest::of(&sum).0.to_vec();
        head.adapter_before = state.adapter_digest().0.to_vec();
        apply_sum(plan, &mut state, &sum, survivors).unwrap();
        head.adapter_after = state.adapter_digest().0.to_vec();
        head.optimizer_after = state.optimizer_digest().0.to_vec();
        let signed = sign_head(&head, roster, key);
        fs::write(&path, signed.encode_to_vec()).unwrap();
        let what = audit_entry::What::Released(wire::AuditedRelease {
            announcement: None,
            head_digest: Digest::of(&signed.head).0.to_vec(),
            evidence_digest: Digest::of(&head.evidence).0.to_vec(),
            sum_digest: head.sum_digest.clone(),
            adapter_before: head.adapter_before.clone(),
            adapter_after: head.adapter_after.clone(),
            optimizer_after: head.optimizer_after.clone(),
            versions: Vec::new(),
        });
        let entry = NewEntry { at_ms: 1, round: now, attempt: 1, debited: now.into(), spent: None, what };
        let entry: SignedAuditEntry = log.append(entry, "liar 1", roster, plan, key);
        let bytes = entry.encode_to_vec();
        frames.extend((bytes.len() as u32).to_le_bytes());
        frames.extend(bytes);
    }
    fs::write(record.join("log"), frames).unwrap();
    listed_again(job, record);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_lies_afterwards_is_contradicted_by_what_members_signed() {
    let job = Job::run(small(24)).await;
    // Of an earlier round: the next round's evidence was signed from another adapter.
    let record = job.record("early", &[]);
    rewritten(&job, &record, 1);
    let found = job.check(&record).unwrap_err();
    assert_eq!(found.what, "releases/round-2.head, what its members signed");
    // Of the last round, while the masked inputs are kept: they add up to something else.
    let record = job.record("last", &["--inputs"]);
    rewritten(&job, &record, 3);
    let found = job.check(&record).unwrap_err();
    assert_eq!((found.what.as_str(), found.why.contains("another sum")), ("releases/round-3.sum", true));
    // Of the last round, and nobody kept them: only its manifest says otherwise, and that, too, can be signed again. This is
    // the limit that the report names.
    let record = job.record("unkept", &[]);
    rewritten(&job, &record, 3);
    assert_eq!(job.check(&record).unwrap_err().what, "manifest.json");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_did_stands_in_the_record_under_their_own_key() {
    let shape = Shape { rounds: 1, ..small(0) };
    let server = Server::start(&shape, "");
    server.says("job pause --reason 'a leaking roof' --yes", 0, &["job-pause, number 1"]);
    server.says("job resume --reason 'mended' --yes", 0, &["job-resume, number 2"]);
    let members = server.members(0..5).await;
    server.complete(members, 1).await;
    let job = Job { server, folder: tempfile::tempdir().unwrap() };
    let record = job.record("record", &[]);
    let report = job.check(&record).unwrap();
    assert_eq!((report.acts, report.releases.len()), (2, 1));
    let Consortium { coordinator, operator, viewer, roster, plan, .. } = job.consortium();
    let whole = fs::read(record.join("log")).unwrap();

    // A coordinator that writes itself another log: words that nobody signed, somebody else's, one act twice.
    let rewrite = |bend: &dyn Fn(usize, &mut wire::AuditedAct)| {
        let (mut rest, mut log, mut frames) = (whole.as_slice(), LogHead::empty(roster, plan), Vec::new());
        let mut number = 0;
        while let Some((length, more)) = rest.split_first_chunk::<4>() {
            let (bytes, more) = more.split_at(u32::from_le_bytes(*length) as usize);
            rest = more;
            let signed = SignedAuditEntry::decode(bytes).unwrap();
            let entry = wire::AuditEntry::decode(signed.entry.as_slice()).unwrap();
            let mut what = entry.what.unwrap();
            if let audit_entry::What::Act(act) = &mut what {
                bend(number, act);
                number += 1;
            }
            let new = NewEntry {
                at_ms: entry.at_ms,
                round: entry.round,
                attempt: entry.attempt,
                debited: entry.debited,
                spent: entry.epsilon.zip(entry.epsilon_local).map(|(central, local)| Guarantees {
                    central,
                    local,
                    delta: plan.document().privacy.delta,
                }),
                what,
            };
            let bytes =
                log.append(new, &entry.software, roster, plan, coordinator.signing_key()).encode_to_vec();
            frames.extend((bytes.len() as u32).to_le_bytes());
            frames.extend(bytes);
        }
        assert_eq!(number, 2);
        fs::write(record.join("log"), frames).unwrap();
        listed_again(&job, &record);
        job.check(&record)
    };
    assert!(rewrite(&|_, _| ()).is_ok_and(|report| report.acts == 2));
    let action = |identity: &consilium_proto::identity::Identity, number: u64| {
        let what = consilium_proto::action::What::JobPause;
        let operator = identity.id.clone();
        let action =
            consilium_proto::action::Action { number, operator, at_ms: 1, what, reason: "none".into() };
        action.sign(&plan.digest(), identity.signing_key())
    };
    let put = |act: &mut wire::AuditedAct, by: &str, signed: wire::SignedAction| {
        *act = wire::AuditedAct { by: by.into(), act: signed.action, signature: signed.signature };
    };
    for (case, bend) in [
        (
            "entry 1",
            &(|n: usize, act: &mut wire::AuditedAct| {
                if n == 0 {
                    act.signature[5] ^= 1
                }
            }) as &dyn Fn(usize, &mut wire::AuditedAct),
        ),
        ("entry 2", &|n, act| {
            if n == 1 {
                put(act, viewer.id.as_str(), action(viewer, 2))
            }
        }),
        ("entry 2", &|n, act| {
            if n == 1 {
                put(act, viewer.id.as_str(), action(operator, 2))
            }
        }),
        ("entry 2", &|n, act| {
            if n == 1 {
                put(act, operator.id.as_str(), action(operator, 1))
            }
        }),
        ("entry 1", &|n, act| {
            if n == 0 {
                put(act, operator.id.as_str(), action(coordinator, 1))
            }
        }),
    ] {
        let found = rewrite(bend).unwrap_err();
        assert_eq!(found.what, format!("{case} of the log"), "{}", found.why);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_retention_no_masked_input_outlives_its_release() {
    let job = Job::run(small(0)).await;
    let inputs = job.server.state().join("inputs");
    let left: Vec<_> = fs::read_dir(inputs).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    let report = job.check(&job.record("record", &["--inputs"])).unwrap();
    assert!(report.releases.iter().all(|release| !release.from_inputs));
}

#[tokio::test(flavor = "multi_thread")]
async fn masked_inputs_past_their_time_are_pruned_and_nothing_else() {
    let job = Job::run(small(24)).await;
    let (state, plan) = (job.server.state(), &job.consortium().plan);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    assert_eq!(due(&state, plan, now).unwrap(), []);
    let command = || {
        Command::new(env!("CARGO_BIN_EXE_consilium-coordinator"))
            .args(["prune", "--dry-run", "--config"])
            .arg(state.with_file_name("coordinator.toml"))
            .output()
            .unwrap()
    };
    let said = command();
    assert!(
        said.status.success() && String::from_utf8(said.stdout).unwrap().contains("of 0 attempts"),
        "{:?}",
        said.stderr
    );
    // An hour before the day is over, and an hour after; twice, because what is gone is not due.
    let hour = 3_600_000;
    assert_eq!(prune(&state, plan, now + 23 * hour).unwrap(), []);
    let gone = prune(&state, plan, now + 25 * hour).unwrap();
    assert_eq!(gone.iter().map(|due| (due.round, due.attempt)).collect::<Vec<_>>(), [(1, 1), (2, 1), (3, 1)]);
    assert!(gone.iter().all(|due| due.bytes > 0 && !due.folder.exists()));
    assert_eq!(prune(&state, plan, now + 25 * hour).unwrap(), []);
    // The sums and the log are all there, for members that were away and for whoever checks.
    let report = job.check(&job.record("record", &["--inputs"])).unwrap();
    assert_eq!(report.releases.len(), 3);
    assert!(report.releases.iter().all(|release| !release.from_inputs));
}
