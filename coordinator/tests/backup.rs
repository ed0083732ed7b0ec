//! Backups made while the coordinator serves, and coordinators that come back from an old one, or from nothing.
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
    record::verify::{Report, verify},
    round::Event,
    store::{EventRecord, InputLayout, NewEvent, SqliteStore, Store as _, StoredJob},
};
use generator::{Consortium, Kept, Member, Said, Shape};
use server::Server;

fn shape(rounds: u32) -> Shape {
    Shape { dimension: 70_000, rounds, ..Shape::default() }
}

fn folder(server: &Server) -> PathBuf {
    server.state().parent().unwrap().to_owned()
}

/// `consilium-coordinator` beside the one that serves, with its configuration.
fn run(server: &Server, arguments: &[&str]) -> Output {
    let config = folder(server).join("coordinator.toml");
    Command::new(env!("CARGO_BIN_EXE_consilium-coordinator"))
        .args(arguments)
        .arg("--config")
        .arg(config)
        .output()
        .unwrap()
}

fn done(server: &Server, arguments: &[&str]) -> String {
    let output = run(server, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(server: &Server, arguments: &[&str]) -> String {
    let output = run(server, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn record(server: &Server, name: &str) -> Report {
    let out = folder(server).join(name);
    done(server, &["record", "--out", text(&out)]);
    verify(&out, &server.consortium.roster.genesis(), None).unwrap()
}

/// A round of all, to its end; everybody keeps what was published.
async fn round(server: &Server, members: Vec<Member>, round: u32) -> Vec<Member> {
    let mut members = server.complete(members, round).await;
    for member in &mut members {
        member.keep(round).await.unwrap();
    }
    members
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_made_while_serving_and_damage_to_it_is_named() {
    let mut server = Server::start(&shape(3), "");
    let members = round(&server, server.members(0..5).await, 1).await;
    let backup = folder(&server).join("backup");
    // While the next round is under way.
    let going = tokio::spawn(until(members, (2, 1)));
    let said = done(&server, &["backup", "create", "--out", text(&backup), "--json"]);
    let value: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((value["releases"].as_u64(), value["entries"].as_u64()), (Some(1), Some(1)));
    assert!(server.state().join("last-backup").is_file());
    done(&server, &["backup", "verify", text(&backup)]);
    assert!(refused(&server, &["backup", "create", "--out", text(&backup)]).contains("exists"));
    for name in ["job.sqlite", "sums/round-1.sum", "contents", "contents.sig", "plan.toml"] {
        let path = backup.join(name);
        let whole = fs::read(&path).unwrap();
        let mut bent = whole.clone();
        bent[whole.len() / 2] ^= 1;
        fs::write(&path, bent).unwrap();
        let why = refused(&server, &["backup", "verify", text(&backup)]);
        assert!(why.contains("use another backup"), "{name}: {why}");
        fs::write(&path, whole).unwrap();
    }
    assert!(refused(&server, &["backup", "restore", text(&backup)]).contains("move it away first"));
    drop(going.await.unwrap());
    server.kill();
    fs::remove_dir_all(server.state()).unwrap();
    done(&server, &["backup", "restore", text(&backup)]);
    assert!(server.state().join("sums/round-1.sum").is_file());
    server.again();
    assert_eq!(record(&server, "record").releases.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_old_backup_in_mid_job_goes_on_behind_everything_its_members_have_seen() {
    let mut server = Server::start(&shape(5), "");
    let mut members = round(&server, server.members(0..5).await, 1).await;
    let backup = folder(&server).join("backup");
    done(&server, &["backup", "create", "--out", text(&backup)]);
    for now in 2..=3 {
        members = round(&server, members, now).await;
    }
    // In the middle of round 4 the machine is lost.
    let members = until(members, (4, 1)).await;
    server.kill();
    fs::remove_dir_all(server.state()).unwrap();
    done(&server, &["backup", "restore", text(&backup)]);
    server.again();
    let mut back = Vec::new();
    for member in members {
        // A member that meets an attempt it has seen before fails.
        back.push(member.reconnect(&server.consortium, server.address).await.unwrap());
    }
    let back = until(back, (4, 2)).await;
    let back = finish(&server, back, 4).await;
    let mut back = finish(&server, back, 5).await;
    for before in 1..=5 {
        server.check(&mut back[0], before, &[0, 1, 2, 3, 4]).await;
    }
    let report = record(&server, "record");
    let attempts: Vec<_> = report.releases.iter().map(|it| (it.round, it.attempt)).collect();
    assert_eq!(attempts, [(1, 1), (2, 1), (3, 1), (4, 2), (5, 1)]);
    // Rounds 1 to 3, the attempt that was lost, and two more.
    assert_eq!(report.debited, 6);
    let lines = report.not_recomputed.join("\n");
    assert!(lines.contains("before it lost them"), "{lines}");
    // And after another restart it is the same job.
    server.terminate();
    assert!(server.end().success());
    server.again();
    assert_eq!(record(&server, "again").adapter, report.adapter);
}

/// Everybody is told of this attempt, and asked for its vector.
async fn until(members: Vec<Member>, attempt: (u32, u32)) -> Vec<Member> {
    let mut back = Vec::new();
    let running: Vec<_> = members
        .into_iter()
        .map(|mut member| {
            tokio::spawn(async move {
                loop {
                    let said = member.go().await.unwrap();
                    if (member.round, member.attempt) == attempt && said == Said::UploadWanted(0) {
                        return member;
                    }
                }
            })
        })
        .collect();
    for member in running {
        back.push(member.await.unwrap());
    }
    back
}

/// The round of an attempt that has asked for its vectors, or of the next, to its end.
async fn finish(server: &Server, members: Vec<Member>, round: u32) -> Vec<Member> {
    let running: Vec<_> = members
        .into_iter()
        .map(|mut member| {
            tokio::spawn(async move {
                if member.round == round && member.masked.is_some() {
                    member.upload(0).await.unwrap();
                }
                loop {
                    match member.go().await.unwrap() {
                        Said::UploadWanted(from) => drop(member.upload(from).await.unwrap()),
                        Said::Released(told) if told == round => return member,
                        Said::Released(_) => {}
                        Said::AttemptEnded(code) => panic!("{code}"),
                    }
                }
            })
        })
        .collect();
    let mut back = Vec::new();
    for member in running {
        back.push(member.await.unwrap());
    }
    server.check(&mut back[0], round, &[0, 1, 2, 3, 4]).await;
    back
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_coordinator_with_the_next_key_rebuilds_what_was_signed() {
    let mut server = Server::start(&shape(3), "");
    let mut members = round(&server, server.members(0..5).await, 1).await;
    members = round(&server, members, 2).await;
    server.kill();
    // Its state and its key are gone; nobody signs a roster.
    fs::remove_dir_all(server.state()).unwrap();
    Consortium::write_identity(&folder(&server), &server.consortium.next);
    server.again();
    let mut back = Vec::new();
    for mut member in members {
        // The first has lost its copies; the last lies about what it has applied.
        match member.index {
            0 => member.kept.releases.clear(),
            4 => {
                let (_, head, sum) = member.kept.releases.pop().unwrap();
                member.kept.releases.push((3, head, sum[1..].to_vec()));
            }
            _ => {}
        }
        back.push(member.reconnect(&server.consortium, server.address).await.unwrap());
    }
    let back = until(back, (3, 1)).await;
    let mut back = finish(&server, back, 3).await;
    server.check(&mut back[0], 1, &[0, 1, 2, 3, 4]).await;
    server.check(&mut back[0], 2, &[0, 1, 2, 3, 4]).await;
    let report = record(&server, "record");
    assert_eq!(report.releases.len(), 3);
    assert_eq!(report.debited, 3);
}

/// Turns a store into what the version before left: its format, and no entries of the log among its events.
fn as_before(server: &Server) {
    let plan = &server.consortium.plan;
    let job = StoredJob { plan: plan.digest(), input: InputLayout::of_plan(plan.derived()) };
    let (new, old) = (server.state(), folder(server).join("old"));
    let store = SqliteStore::open(&new, &job).unwrap();
    let mut before = SqliteStore::open(&old, &job).unwrap();
    let mut events = Vec::new();
    store
        .replay(&mut |record| {
            events.push(record);
            Ok(())
        })
        .unwrap();
    for record in events {
        let mut event = Event::decode(&record.kind, &record.body).unwrap();
        if let Event::Released { logged, .. } | Event::Failed { logged, .. } = &mut event {
            *logged = None;
        }
        let (kind, body) = (record.kind.clone(), event.encode());
        let EventRecord { round, attempt, at_ms, .. } = record;
        let new = NewEvent { round, attempt, kind, body, at_ms };
        match event {
            Event::Released { .. } => {
                before.put_release(&[new], &store.release(round).unwrap().unwrap()).unwrap()
            }
            _ => before.append(&[new]).unwrap(),
        }
    }
    drop((store, before));
    let database = rusqlite::Connection::open(old.join("job.sqlite")).unwrap();
    database.execute_batch("DROP TABLE migration; PRAGMA user_version = 1").unwrap();
    drop(database);
    fs::remove_dir_all(&new).unwrap();
    fs::rename(old, new).unwrap();
}

fn format(server: &Server) -> i64 {
    let database = rusqlite::Connection::open(server.state().join("job.sqlite")).unwrap();
    database.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_format_before_is_migrated_and_rolled_back_until_the_first_new_round() {
    let mut server = Server::start(&shape(3), "");
    let members = round(&server, server.members(0..5).await, 1).await;
    server.kill();
    as_before(&server);
    assert_eq!(format(&server), 1);
    // It is not served as it is, and the message says what to do.
    let why = refused(&server, &[]);
    assert!(why.contains("store migrate --dry-run"), "{why}");
    let said = done(&server, &["store", "migrate", "--dry-run"]);
    assert!(said.contains("format 1 would become 2"), "{said}");
    assert_eq!(format(&server), 1);
    done(&server, &["store", "migrate"]);
    assert_eq!(format(&server), 2);
    assert!(server.state().join("job.sqlite.format-1").is_file());
    assert!(done(&server, &["store", "migrate"]).contains("nothing to do"));
    done(&server, &["store", "rollback"]);
    assert_eq!(format(&server), 1);
    assert!(refused(&server, &["store", "rollback"]).contains("format 1"));
    done(&server, &["store", "migrate"]);
    // It goes on where the version before stopped.
    server.again();
    let mut back = Vec::new();
    for member in members {
        back.push(member.reconnect(&server.consortium, server.address).await.unwrap());
    }
    let back = finish(&server, back, 2).await;
    drop(finish(&server, back, 3).await);
    let report = record(&server, "record");
    assert_eq!((report.releases.len(), report.log.sequence), (3, 2));
    let lines = report.not_recomputed.join("\n");
    assert!(lines.contains("when rounds 1 were released: they are from before the log"), "{lines}");
    server.terminate();
    assert!(server.end().success());
    let why = refused(&server, &["store", "rollback"]);
    assert!(why.contains("events were recorded since the migration"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_version_before_takes_part_and_is_shown_as_such() {
    let server = Server::start(&shape(1), "");
    let mut members = server.members(0..4).await;
    members.push(
        Member::connect_with(&server.consortium, 4, server.address, Kept { version: 2, ..Kept::default() })
            .await
            .unwrap(),
    );
    drop(server.complete(members, 1).await);
    let why =
        Member::connect_with(&server.consortium, 0, server.address, Kept { version: 1, ..Kept::default() });
    assert!(why.await.is_err(), "two versions apart");
}
