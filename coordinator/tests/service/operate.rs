//! The operator's terminal against a real coordinator: a transcript of every command that looks at a job or acts on it.

use consilium_proto::wire::operator_client::OperatorClient;
use serde_json::Value;

use crate::{
    generator::{Member, Said, Shape},
    server::{Server, wait_for},
};

const SHAPE: Shape = Shape {
    members: 5,
    dimension: 2_000,
    ring_bits: 24,
    rounds: 4,
    deadline_s: 600,
    grace_s: 1,
    adam: false,
    wait_s: 600,
    epsilon: 1000.0,
    key_days: &[],
    keep_inputs_h: 0,
    upload_grace_s: 0,
    top: "start = \"manual\"",
};

/// Everybody up to the upload; these upload.
pub(crate) async fn up_to_input(members: Vec<Member>, uploads: usize) -> Vec<Member> {
    let running: Vec<_> = members
        .into_iter()
        .map(|mut member| {
            tokio::spawn(async move {
                assert_eq!(member.go().await.unwrap(), Said::UploadWanted(0));
                if member.index < uploads {
                    member.upload(0).await.unwrap();
                }
                member
            })
        })
        .collect();
    let mut back = Vec::new();
    for member in running {
        back.push(member.await.unwrap());
    }
    back
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_explains_and_acts_and_each_act_is_signed_and_recorded() {
    let server = Server::start(&SHAPE, "");
    let members = server.members(0..5).await;

    // Held until somebody starts it, and every view says so.
    server.says("status", 0, &["generated: held, round 1 of 4", "HELD: the job waits to be started"]);
    let why = server.says("why", 0, &["held          the job waits to be started: `consilium job start`"]);
    assert!(why.out.contains("what helps    consilium job start"), "{}", why.out);

    // Nothing happens without --yes, and a dry run says the same as the deed.
    let reason = "--reason 'all five have called in'";
    let would = "the first attempt begins as soon as 4 members are online";
    let said =
        server.says(&format!("job start {reason}"), 2, &["nothing was done", would, "repeat it with --yes"]);
    assert_eq!(said.out, "");
    server.says(&format!("job start {reason} --dry-run"), 0, &["job-start would be number 1", would]);
    server.says("job start --reason '' --yes", 1, &["reason must have 1 to 200 characters"]);
    assert!(server.terminal("job start --yes --config operator.toml").err.contains("--reason"));
    server.says("status", 0, &["held"]);
    server.says(&format!("job start {reason} --yes"), 0, &["job-start, number 1 in the job's record", would]);
    server.says(&format!("job start {reason} --yes"), 1, &["the job has started already"]);

    // Three of four answers are in: why tells whom it waits for and what comes next.
    let members = up_to_input(members, 3).await;
    let why = server.says(
        "why",
        0,
        &[
            "round 1 of 4, attempt 1: running, step input",
            "needs         4 answers, and has 3",
            "waits for     org-0003: awaited, at share, last seen",
            "waits for     org-0004: awaited",
            "the attempt fails, and the round is tried again (attempt 2 of 2)",
            "this attempt has cost privacy already",
            "consilium round abort",
        ],
    );
    assert!(!why.out.contains("waits for     org-0000"), "{}", why.out);
    let json = server.says("why --json", 0, &[]).json();
    assert_eq!((&json["now"]["needed"], &json["now"]["answers"]), (&4.into(), &3.into()));
    assert_eq!(json["now"]["waits_for"][0]["id"], "org-0003");
    assert_eq!(json["view"], "the coordinator");
    server.says("why 3", 1, &["no attempt of round 3 has begun; the job stands at round 1 of 4"]);

    // What is known of each member.
    server.says(
        "members",
        0,
        &["the coordinator's view, all of it", "org-0000  done", "org-0003  awaited", "generated"],
    );
    let json = server.says("members --json", 0, &[]).json();
    assert_eq!((&json[0]["step"], &json[3]["step"]), (&"input".into(), &"share".into()));
    assert!(json[0]["bytes_in"].as_u64().unwrap() > json[3]["bytes_in"].as_u64().unwrap());

    // A viewer looks and does not act; nobody else does either.
    for line in ["status", "rounds", "members", "why", "logs"] {
        let said = server.terminal(&format!("{line} --config viewer.toml"));
        assert_eq!(said.code, 0, "{line}: {said:?}");
    }
    let said = server.terminal("job pause --config viewer.toml --reason 'I should not' --yes");
    assert!(said.code == 1 && said.err.contains("only the roster's operators may call this"), "{said:?}");
    server.refused("not-allowed", "viewer", 1);
    let mut organization = OperatorClient::new(server.channel(&server.consortium.organizations[0]).await);
    let refused = organization.status(consilium_proto::wire::StatusRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);

    // Suspended from the next attempt on; never below the minimum of four.
    let line = "member suspend org-0004 --reason 'its disk fails' --yes";
    server.says(
        line,
        0,
        &["member-suspend, number 2", "from the next attempt on; 4 members stay, and 4 are needed"],
    );
    let line = "member suspend org-0003 --reason 'this too' --yes";
    server.says(line, 1, &["without org-0003 only 3 members could take part, and the plan needs 4"]);
    server.says("members", 0, &["suspended from the next attempt on"]);

    // The attempt is ended by hand, and the next one begins without the suspended member.
    let line = "round abort --reason 'two sites are stuck'";
    server.says(
        &format!("{line} --dry-run"),
        0,
        &["what it has cost in privacy is lost, and the round is tried again"],
    );
    server.says(&format!("{line} --yes"), 0, &["round-abort, number 3"]);
    let running: Vec<_> = members
        .into_iter()
        .take(4)
        .map(|mut member| {
            tokio::spawn(async move {
                assert_eq!(member.go().await.unwrap(), Said::AttemptEnded("operator-abort".into()));
                member.round().await.unwrap();
                member
            })
        })
        .collect();
    let mut members = Vec::new();
    for member in running {
        members.push(member.await.unwrap());
    }
    server.check(&mut members[0], 1, &[0, 1, 2, 3]).await;

    // The round, explained.
    let known = || server.says("round 1 --json", 0, &[]).json();
    wait_for(
        "the cost of the first attempts",
        || known().to_string(),
        || known()["attempts"][0]["epsilon_wasted"].as_f64().map(|wasted| assert!(wasted > 0.0)),
    );
    server.says(
        "round 1",
        0,
        &[
            "round 1, attempt 1: operator-abort: an operator ended it",
            "for nothing; ε =",
            "round 1, attempt 2: released",
            "survivors     4: org-0000, org-0001, org-0002, org-0003",
            "org-0004  advertise  suspended  an operator suspended it: `consilium member resume`",
        ],
    );
    server.says("round 4", 1, &["no attempt of round 4 has ended"]);
    server.says("rounds", 0, &["ε wasted", "operator-abort"]);
    server.says("why 1", 0, &["round 1, attempt 1: operator-abort"]);

    server.says("member resume org-0004 --reason 'new disk' --yes", 0, &["member-resume, number 4"]);
    server.says("job pause --reason 'maintenance' --yes", 0, &["job-pause, number 5", "goes on to its end"]);
    server.says("job resume --reason 'done' --yes", 0, &["job-resume, number 6"]);

    // Each instruction stands in the record, under the person's own key.
    let acted = server.says("logs --kind acted", 0, &[]);
    let lines: Vec<_> = acted.out.lines().collect();
    assert_eq!(lines.len(), 6, "{}", acted.out);
    for (line, words) in lines.iter().zip([
        "job-start: all five have called in",
        "member-suspend org-0004: its disk fails",
        "round-abort: two sites are stuck",
        "member-resume org-0004: new disk",
        "job-pause: maintenance",
        "job-resume: done",
    ]) {
        assert!(line.contains("operator") && line.contains(&format!("{words} (signature holds)")), "{line}");
    }
    let json = server.says("logs --json --who org-0002", 0, &[]);
    let kinds: Vec<_> = json.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
    assert!(kinds.iter().all(|it| it["who"] == "org-0002") && kinds.iter().any(|it| it["step"] == "vote"));

    let spent = || server.says("status --json", 0, &[]).json();
    wait_for(
        "the cost of all attempts",
        || spent().to_string(),
        || spent()["wasted"]["epsilon"].as_f64().filter(|wasted| *wasted > 0.0).map(|_| ()),
    );
    // Doctor names what is to be mended, and that alone is a failure that is wrong.
    let doctor = server.says(
        "doctor",
        0,
        &["ok       roster", "its chain holds", "none was ever made", "backup create"],
    );
    assert!(doctor.out.contains("operator is operator in the roster"), "{}", doctor.out);
    let json = server.says("doctor --json", 0, &[]).json();
    assert!(
        json.as_array().unwrap().iter().any(|it| it["check"] == "wasted" && it["state"] == "warning"),
        "{json}"
    );
    let said = server.terminal("doctor --coordinator-config coordinator.toml");
    assert!(said.code == 0 && said.out.contains("events, their chain holds"), "{said:?}");
    let said = server.terminal("doctor --config nothing.toml");
    assert!(
        said.code == 1 && said.out.contains("wrong    config") && said.err.contains("1 of 1 checks"),
        "{said:?}"
    );

    server.says("job stop --reason 'the study is closed' --yes", 0, &["the job ends for good when attempt"]);
    server.says("round abort --reason 'at once' --yes", 0, &["and the job ends with it"]);
    server.says("status", 0, &["generated: finished", "HELD: an operator stopped the job for good"]);
    server.says("job resume --reason 'no' --yes", 1, &["the job is finished"]);
    let watched = server.says("watch", 0, &["generated: finished"]);
    assert!(
        watched.out.contains("round 1/4  released") || watched.out.contains("round 1/4  attempt 2  released")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_decided_survives_a_restart() {
    let mut server = Server::start(&SHAPE, "");
    server.says("member suspend org-0001 --reason 'away' --yes", 0, &["number 1"]);
    server.says("job start --reason 'go' --yes", 0, &["number 2"]);
    server.says("job pause --reason 'wait' --yes", 0, &["number 3"]);
    let before = server.says("logs --json", 0, &[]).out;
    server.kill();
    server.again();
    server.says("status", 0, &["held", "HELD: an operator paused the job"]);
    server.says("members", 0, &["suspended"]);
    assert_eq!(server.says("logs --json", 0, &[]).out, before, "the record is the same");
    server.says("job resume --reason 'go on' --yes", 0, &["number 4"]);
}
