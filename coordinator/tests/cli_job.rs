//! `status`, `rounds` and `watch` with the real binary against a small coordinator: canned answers, real sockets, real
//! mutual TLS pinned by a roster.
#![allow(clippy::unwrap_used)]

mod cli_common;

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use cli_common::{Desk, Said, consortium, plan, said};
use consilium_proto::{
    identity::Identity,
    pinning,
    roster::{Roster, VerifiedRoster},
    signed::Signatures,
    wire::{
        self, JobStatus, MemberStatus, Privacy, RoundSummary,
        operator_server::{Operator, OperatorServer},
    },
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// What the coordinator will say.
#[derive(Clone, Default)]
struct Script {
    updates: Vec<JobStatus>,
    refuse: bool,
    evidence: Vec<wire::Evidence>,
    /// Leave the watch stream open after the last update.
    linger: bool,
}

#[tonic::async_trait]
impl Operator for Script {
    async fn status(&self, _: Request<wire::StatusRequest>) -> Result<Response<JobStatus>, Status> {
        if self.refuse {
            return Err(Status::permission_denied("not an \x1b[31moperator"));
        }
        Ok(Response::new(self.updates.first().cloned().unwrap_or_default()))
    }

    async fn rounds(&self, _: Request<wire::RoundsRequest>) -> Result<Response<wire::RoundsReply>, Status> {
        let rounds = self.updates.last().map(|status| status.recent.clone()).unwrap_or_default();
        Ok(Response::new(wire::RoundsReply { rounds }))
    }

    type EvidenceStream = ReceiverStream<Result<wire::Evidence, Status>>;

    async fn evidence(
        &self,
        _: Request<wire::EvidenceRequest>,
    ) -> Result<Response<Self::EvidenceStream>, Status> {
        let (send, receive) = mpsc::channel(4);
        for evidence in self.evidence.clone() {
            send.try_send(Ok(evidence)).unwrap();
        }
        Ok(Response::new(ReceiverStream::new(receive)))
    }

    type LogStream = ReceiverStream<Result<wire::LogEntry, Status>>;

    async fn log(&self, _: Request<wire::LogRequest>) -> Result<Response<Self::LogStream>, Status> {
        Err(Status::unimplemented("see the tests with a real coordinator"))
    }

    async fn act(&self, _: Request<wire::ActRequest>) -> Result<Response<wire::ActReply>, Status> {
        Err(Status::unimplemented("see the tests with a real coordinator"))
    }

    type WatchStream = ReceiverStream<Result<JobStatus, Status>>;

    async fn watch(&self, _: Request<wire::StatusRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (send, receive) = mpsc::channel(4);
        let script = self.clone();
        tokio::spawn(async move {
            for status in script.updates {
                if send.send(Ok(status)).await.is_err() {
                    return;
                }
            }
            if script.linger {
                std::future::pending::<()>().await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receive)))
    }
}

/// A running coordinator; dies when dropped.
struct Running {
    port: u16,
    /// Calls so far are nobody's business; connections are.
    connections: Arc<Mutex<u32>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.take();
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn serve(desk: &Desk, identity: &str, script: Script, port: u16) -> Running {
    let identity = Identity::parse(&desk.read(&format!("{identity}/identity.toml"))).unwrap();
    let config = pinning::server_config(&identity, Arc::new(verified(desk))).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (stop, mut stopped) = oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let connections = Arc::new(Mutex::new(0));
    let count = connections.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
            tell.send(listener.local_addr().unwrap().port()).unwrap();
            let (incoming, accepted) = mpsc::channel(8);
            tokio::spawn(async move {
                while let Ok((tcp, _)) = listener.accept().await {
                    *count.lock().unwrap() += 1;
                    let (acceptor, incoming) = (acceptor.clone(), incoming.clone());
                    tokio::spawn(async move {
                        let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                        // tonic knows a duplex stream's address (none), and no TLS stream's.
                        let (mut near, far) = tokio::io::duplex(1 << 16);
                        let _ = incoming.send(Ok::<_, std::io::Error>(far)).await;
                        let _ = tokio::io::copy_bidirectional(&mut tls, &mut near).await;
                    });
                }
            });
            let server = tonic::transport::Server::builder()
                .add_service(OperatorServer::new(script))
                .serve_with_incoming(ReceiverStream::new(accepted));
            tokio::select! {
                _ = server => {}
                _ = &mut stopped => {}
            }
        });
    });
    let port = told.recv().unwrap();
    Running { port, connections, stop: Some(stop), thread: Some(thread) }
}

fn verified(desk: &Desk) -> VerifiedRoster {
    let text = desk.read("roster.toml");
    let pin = desk.ok("roster fingerprint roster.toml").trim().parse().unwrap();
    Roster::verify(&text, &Signatures::parse(&desk.read("roster.toml.sig")).unwrap(), &pin).unwrap()
}

/// A desk with a consortium, a signed plan and an operator.toml for `port`.
fn desk() -> (Desk, String) {
    let desk = Desk::new();
    let pin = consortium(&desk);
    plan(&desk);
    (desk, pin)
}

fn configure(desk: &Desk, pin: &str, port: u16) {
    desk.write(
        "operator.toml",
        &format!(
            "identity = \"ada/identity.toml\"\nroster = \"roster.toml\"\npin = \"{pin}\"\n\
             coordinator = \"127.0.0.1:{port}\"\nplan = \"plan.toml\"\n"
        ),
    );
}

fn member(id: &str, online: bool, done: bool) -> MemberStatus {
    MemberStatus {
        id: id.into(),
        online,
        done,
        awaited: !done,
        software: "0.1.0".into(),
        protocol_version: 3,
        ..MemberStatus::default()
    }
}

fn released(round: u32) -> RoundSummary {
    RoundSummary {
        round,
        attempt: 1,
        outcome: "released".into(),
        survivors: vec!["site-1".into(), "site-2".into(), "site-3".into()],
        train_loss: Some(3.0 - f64::from(round) / 10.0),
        train_accuracy: Some(0.1 * f64::from(round)),
        spent: Some(spent(round)),
        upload_bytes: 118_002,
        seconds: 4.0,
        step_seconds: vec![0.1, 0.2, 3.0, 0.3, 0.3, 0.1],
        started_ms: 1_800_000_000_000,
        adapter_digest: vec![0xab; 32],
        ..RoundSummary::default()
    }
}

fn spent(round: u32) -> Privacy {
    let round = f64::from(round);
    Privacy { epsilon: 0.401 * round, epsilon_local: 1.5 * round, delta: 1e-5 }
}

fn running(round: u32, recent: Vec<RoundSummary>) -> JobStatus {
    JobStatus {
        job: "chapters".into(),
        state: "running".into(),
        round,
        rounds: 3,
        attempt: 1,
        step: "input".into(),
        step_seconds: 1.5,
        deadline_seconds: 598.5,
        members: vec![
            member("site-1", true, true),
            member("site-2", true, false),
            member("site-3", false, false),
        ],
        spent: recent.last().and_then(|round| round.spent),
        recent,
        upload_bytes: 354_006,
        bytes_in: 400_000,
        bytes_out: 500_000,
        seconds: 12.5,
        privacy_unit: "patient".into(),
        ..JobStatus::default()
    }
}

fn finished(recent: Vec<RoundSummary>) -> JobStatus {
    JobStatus { state: "finished".into(), step: String::new(), ..running(3, recent) }
}

fn tested(round: RoundSummary) -> RoundSummary {
    RoundSummary {
        test_loss: Some(2.5),
        test_accuracy: Some(0.66),
        test_macro_accuracy: Some(0.61),
        evaluator: "site-1".into(),
        ..round
    }
}

#[test]
fn status_says_what_goes_on_whose_view_it_is_and_what_it_cost() {
    let (desk, pin) = desk();
    let mut status = running(3, vec![released(1), tested(released(2))]);
    status.members[1].refusal = "budget".into();
    let server = serve(&desk, "coordinator", Script { updates: vec![status], ..Script::default() }, 0);
    configure(&desk, &pin, server.port);
    let out = desk.ok("status --config operator.toml");
    for words in [
        "chapters: running, round 3 of 3, attempt 1, step input for 1.5 s, 9 min 59 s to the deadline",
        "2/3 rounds, 66 %, about 4.0 s left",
        "members: 2 of 3 online; done: site-1; awaited: site-2, site-3; offline: site-3",
        "site-2 takes no part: budget: the attempt would pass its budget",
        "354.0 kB of masked inputs, 400.0 kB in and 500.0 kB out in all; 12.5 s since",
        "privacy of one patient: ε = 0.81 of 6 against the coordinator with 1 colluding members, ε = 3.00 against everybody else",
        "note: a title stands for a patient",
        "train: all organizations, from the noisy sum; test: site-1 on the public test set",
        "0.660",
    ] {
        assert!(out.contains(words), "\"{words}\" is not in\n{out}");
    }

    // The same from flags alone, without a plan; and as JSON.
    let flags = format!(
        "--identity ada/identity.toml --roster roster.toml --pin {pin} --coordinator 127.0.0.1:{}",
        server.port
    );
    let out = desk.ok(&format!("status {flags}"));
    assert!(!out.contains("note:") && out.contains("its tolerated colluders"), "{out}");
    let json = desk.json("status --config operator.toml --json");
    assert_eq!(json["step"], "input");
    assert_eq!(json["privacy_note"], "a title stands for a patient");
    assert_eq!(json["members"][1]["refusal"], "budget");
    assert_eq!(json["members"][0]["refusal"], serde_json::Value::Null);
    assert_eq!(json["recent"][1]["test"]["view"], "site-1");
    assert_eq!(json["recent"][1]["train"]["view"], "all organizations, from the noisy sum");
    assert_eq!(json["recent"][0]["test"], serde_json::Value::Null);
    assert_eq!(json["recent"][0]["step_seconds"]["input"], 3.0);
}

#[test]
fn rounds_lists_failed_attempts_beside_released_ones() {
    let (desk, pin) = desk();
    let failed = RoundSummary {
        round: 2,
        attempt: 1,
        outcome: "too-few".into(),
        culprits: vec!["site-3\x1b]0;gotcha\x07".into()],
        spent: Some(spent(2)),
        seconds: 30.0,
        ..RoundSummary::default()
    };
    let recent = vec![released(1), failed, RoundSummary { attempt: 2, ..tested(released(2)) }];
    let server =
        serve(&desk, "coordinator", Script { updates: vec![running(3, recent)], ..Script::default() }, 0);
    configure(&desk, &pin, server.port);
    let out = desk.ok("rounds --config operator.toml");
    assert_eq!(out.lines().count(), 5, "{out}");
    assert!(out.contains("too-few (site-3]0;gotcha)"), "control characters are taken out: {out:?}");
    assert!(!out.contains('\x1b'));
    let json = desk.json("rounds --config operator.toml --json");
    assert_eq!(json.as_array().unwrap().len(), 3);
    assert_eq!(json[1]["train"], serde_json::Value::Null);
    assert_eq!(json[2]["test"]["macro_accuracy"], 0.61);
    assert_eq!(json[0]["adapter"].as_str().unwrap().len(), 64);
}

#[test]
fn watch_prints_a_line_for_each_round_and_ends_with_the_job() {
    let (desk, pin) = desk();
    let updates = vec![
        running(1, vec![]),
        running(2, vec![released(1)]),
        running(2, vec![released(1)]),
        running(3, vec![tested(released(1)), released(2)]),
        finished(vec![tested(released(1)), released(2), tested(released(3))]),
    ];
    let server = serve(&desk, "coordinator", Script { updates, linger: true, ..Script::default() }, 0);
    configure(&desk, &pin, server.port);
    let out = desk.ok("watch --config operator.toml");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 7, "{out}");
    assert!(lines[0].starts_with("chapters: running, round 1 of 3"), "{out}");
    assert_eq!(lines[1], "note: a title stands for a patient");
    assert_eq!(
        lines[2],
        "round 1/3  released  3/3 survivors  train (all, noisy) loss 2.900 accuracy 0.100  ε 0.41 (others 1.50)  118.0 kB  4.0 s"
    );
    assert_eq!(
        lines[3], "round 1/3  test (site-1) loss 2.500 accuracy 0.660 macro 0.610",
        "a late test result has its own line"
    );
    assert!(lines[4].starts_with("round 2/3  released") && !lines[4].contains("test"), "{out}");
    assert!(lines[5].contains("test (site-1) loss 2.500"), "{out}");
    assert!(lines[6].contains("finished") && lines[6].contains("3/3 rounds, 100 %"), "{out}");
    assert!(!out.contains('\x1b'), "no escapes on a pipe");

    let said = desk.run("watch --config operator.toml --json");
    assert_eq!(said.code, 0);
    let objects: Vec<serde_json::Value> =
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 5);
    assert_eq!(objects[4]["state"], "finished");
}

#[test]
fn watch_outlives_a_restart_of_the_coordinator() {
    let (desk, pin) = desk();
    let first = Script { updates: vec![running(2, vec![released(1)])], linger: true, ..Script::default() };
    let server = serve(&desk, "coordinator", first, 0);
    let port = server.port;
    configure(&desk, &pin, port);
    let mut child = desk
        .command("watch --config operator.toml")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().map(Result::unwrap);
    while !next().unwrap().starts_with("round 1/3") {}
    drop(server);
    std::thread::sleep(Duration::from_millis(300));
    let second =
        Script { updates: vec![finished(vec![released(1), released(2), released(3)])], ..Script::default() };
    let server = serve(&desk, "coordinator", second, port);
    let rest: Vec<_> = std::iter::from_fn(next).collect();
    let said = said(child.wait_with_output().unwrap());
    assert_eq!(said.code, 0, "{said:?}");
    assert!(rest[0].starts_with("round 2/3") && rest[1].starts_with("round 3/3"), "nothing twice: {rest:?}");
    assert!(said.err.contains("trying again in 0.5 s"), "{}", said.err);
    assert_eq!(*server.connections.lock().unwrap(), 1);
}

#[test]
fn watch_may_begin_a_moment_before_the_coordinator() {
    let (desk, pin) = desk();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    configure(&desk, &pin, port);
    let child = desk
        .command("watch --config operator.toml --json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(800));
    let script = Script { updates: vec![finished(vec![released(1)])], ..Script::default() };
    let _server = serve(&desk, "coordinator", script, port);
    let said = said(child.wait_with_output().unwrap());
    assert_eq!((said.code, said.out.lines().count()), (0, 1), "{said:?}");
}

#[test]
fn watch_gives_up_in_time_on_a_coordinator_that_went_away() {
    let (desk, pin) = desk();
    let script = Script { updates: vec![running(1, vec![])], ..Script::default() };
    let server = serve(&desk, "coordinator", script, 0);
    configure(&desk, &pin, server.port);
    // The stream ends at once each time: never finished, never unreachable for long.
    let mut child = desk
        .command("watch --config operator.toml --give-up-s 1")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(child.try_wait().unwrap().is_none(), "it goes on while somebody answers");
    drop(server);
    let start = Instant::now();
    let said = said(child.wait_with_output().unwrap());
    assert_eq!(said.code, 3, "{said:?}");
    assert!(start.elapsed() < Duration::from_secs(8));
}

fn refused(desk: &Desk, line: &str, code: i32) -> Said {
    let start = Instant::now();
    let said = desk.run(line);
    assert_eq!((said.code, said.out.as_str()), (code, ""), "{line}: {said:?}");
    assert!(!said.err.contains("panicked") && start.elapsed() < Duration::from_secs(9));
    said
}

#[test]
fn whose_fault_a_failed_connection_is_is_said() {
    let (desk, pin) = desk();
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    configure(&desk, &pin, unused);
    for command in ["status", "rounds", "watch"] {
        let said = refused(&desk, &format!("{command} --config operator.toml"), 3);
        assert!(said.err.contains(&format!("no coordinator answers at 127.0.0.1:{unused}")), "{}", said.err);
        assert_eq!(
            said.err.contains("trying again"),
            command == "watch",
            "a watch gives a starting coordinator a moment"
        );
    }

    // Somebody else of the consortium answers in the coordinator's place.
    let impostor = serve(&desk, "site-1", Script::default(), 0);
    configure(&desk, &pin, impostor.port);
    let said = refused(&desk, "status --config operator.toml", 1);
    assert!(
        said.err.contains("does not show the key that the roster lists for the coordinator"),
        "{}",
        said.err
    );

    // The coordinator answers and says no.
    let strict = serve(&desk, "coordinator", Script { refuse: true, ..Script::default() }, 0);
    configure(&desk, &pin, strict.port);
    let said = refused(&desk, "status --config operator.toml", 1);
    assert!(said.err.contains("does not answer this identity (not an [31moperator)"), "{:?}", said.err);

    // A key that no roster lists is refused before anything is sent.
    let before = *strict.connections.lock().unwrap();
    desk.ok("keygen --id eve --out eve");
    let said = refused(&desk, "status --config operator.toml --identity eve/identity.toml", 1);
    assert!(said.err.contains("is not in the roster"), "{}", said.err);
    assert_eq!(*strict.connections.lock().unwrap(), before);
}

#[test]
fn a_coordinator_with_another_roster_refuses_the_key_and_that_is_said() {
    let (desk, pin) = desk();
    // The coordinator's roster was built without ada.
    let others = Desk::new();
    for name in ["coordinator", "site-1", "site-2", "site-3"] {
        std::fs::create_dir(others.path(name)).unwrap();
        for file in ["party.toml", "identity.toml"] {
            std::fs::copy(desk.path(name).join(file), others.path(name).join(file)).unwrap();
        }
    }
    others.ok("roster build --consortium heart --coordinator coordinator/party.toml \
         --organization site-1/party.toml site-2/party.toml site-3/party.toml --out roster.toml");
    for id in ["site-1", "site-2", "site-3"] {
        others.ok(&format!("sign roster roster.toml --identity {id}/identity.toml"));
    }
    let server = serve(&others, "coordinator", Script::default(), 0);
    configure(&desk, &pin, server.port);
    for command in ["status", "watch"] {
        let said = refused(&desk, &format!("{command} --config operator.toml"), 1);
        assert!(said.err.contains("does not accept this identity's key"), "{}", said.err);
    }
}

#[test]
fn a_bad_operator_file_is_named() {
    let (desk, pin) = desk();
    configure(&desk, &pin, 1);
    let good = desk.read("operator.toml");
    for (change, expected) in [
        (good.clone() + "surprise = 1\n", "unknown field `surprise`"),
        (good.replace(&pin, "12"), "64 lowercase hexadecimal digits"),
        (good.replace(&pin, &"0".repeat(64)), "pins 0000"),
        (good.replace("127.0.0.1:1", "localhost"), "is not host:port"),
        (good.replace("roster.toml", "lost.toml"), "lost.toml: there is no such file"),
        (good.replace("plan.toml", "roster.toml"), "does not parse"),
        (good.lines().skip(1).map(|l| l.to_owned() + "\n").collect(), "no identity is given"),
    ] {
        desk.write("operator.toml", &change);
        let error = desk.refused("status --config operator.toml");
        assert!(error.contains(expected), "{expected}: {error}");
    }
    desk.write("operator.toml", &good);
    let private = desk.path("ada/identity.toml");
    std::fs::set_permissions(&private, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    assert!(desk.refused("status --config operator.toml").contains("chmod 600"));
}

#[test]
fn evidence_is_exported_one_file_each_and_nothing_else_is_written() {
    let (desk, pin) = desk();
    let told = |culprit: &str| wire::Evidence {
        round: 1,
        attempt: 2,
        culprit: culprit.into(),
        check: "C3/../x".into(),
        evidence: vec![7; 9],
        ..wire::Evidence::default()
    };
    let script = Script { evidence: vec![told("site-2"), told("../site-3")], ..Script::default() };
    let running = serve(&desk, "coordinator", script, 0);
    configure(&desk, &pin, running.port);
    for _ in 0..2 {
        let out = desk.ok("blame export --config operator.toml --out evidence");
        assert_eq!(out, "evidence/round-1-attempt-2-site-2-c3x.toml\n");
    }
    assert_eq!(std::fs::read_dir(desk.path("evidence")).unwrap().count(), 1);
    let json = desk.json("blame export --config operator.toml --out evidence --json");
    assert_eq!(json.as_array().unwrap().len(), 1);
    drop(running);
    let running = serve(&desk, "coordinator", Script::default(), 0);
    configure(&desk, &pin, running.port);
    let out = desk.ok("blame export --config operator.toml --out evidence");
    assert_eq!(out, "the coordinator has evidence against nobody\n");
}
