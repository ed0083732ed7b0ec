//! Every alert: the fault is injected, the metric crosses the threshold that `alerts.yaml` names, and the first command of
//! its runbook names the cause.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    generator::{Consortium, Failed, Member, Shape},
    operate::up_to_input,
    server::{Server, wait_for},
};

const TOP: &str = "[observe]\nmetrics = \"127.0.0.1:0\"\nlook_s = 1\nwalk_s = 1";

const SHAPE: Shape = Shape {
    members: 5,
    dimension: 2_000,
    ring_bits: 24,
    rounds: 40,
    deadline_s: 600,
    grace_s: 1,
    adam: false,
    wait_s: 600,
    epsilon: 1000.0,
    key_days: &[],
    keep_inputs_h: 0,
    upload_grace_s: 0,
    top: TOP,
};

/// One rule, as far as these tests evaluate it.
#[derive(Clone, Debug)]
struct Alert {
    name: String,
    expr: String,
    runbook: PathBuf,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn alerts() -> Vec<Alert> {
    let text = fs::read_to_string(root().join("observe/alerts.yaml")).unwrap();
    let mut all: Vec<Alert> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            all.push(Alert { name: name.into(), expr: String::new(), runbook: PathBuf::new() });
        } else if let Some(expr) = line.strip_prefix("expr: ") {
            all.last_mut().unwrap().expr = expr.into();
        } else if let Some(page) = line.strip_prefix("runbook: coordinator/") {
            all.last_mut().unwrap().runbook = root().join(page);
        }
    }
    all
}

fn alert(name: &str) -> Alert {
    alerts().into_iter().find(|alert| alert.name == name).unwrap_or_else(|| panic!("no alert {name}"))
}

impl Alert {
    /// Metric, whether its size counts alone, comparison, threshold; none for `absent(…)`.
    fn rule(&self) -> Option<(&str, bool, char, f64)> {
        let mut words = self.expr.split(' ');
        let (metric, comparison, threshold) = (words.next()?, words.next()?, words.next()?);
        assert!(words.next().is_none() && ["<", ">"].contains(&comparison), "{}", self.expr);
        let inner = metric.strip_prefix("abs(").and_then(|metric| metric.strip_suffix(')'));
        let threshold = threshold.parse().unwrap();
        Some((inner.unwrap_or(metric), inner.is_some(), comparison.chars().next()?, threshold))
    }

    /// Whether a sample on this page is beyond the threshold.
    fn fires(&self, page: &str) -> bool {
        let (metric, size, comparison, threshold) = self.rule().unwrap();
        let samples = page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            (name.split('{').next() == Some(metric))
                .then(|| value.replace("+Inf", "inf").parse::<f64>().unwrap())
        });
        let beyond = |value: f64| match comparison {
            '<' => value < threshold,
            _ => value > threshold,
        };
        samples.map(|value| if size { value.abs() } else { value }).any(beyond)
    }

    /// The first command of its runbook, without the program's name and the configuration.
    fn command(&self) -> String {
        let page = fs::read_to_string(&self.runbook).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let line = page.lines().find_map(|line| line.strip_prefix("$ consilium ")).unwrap();
        line.strip_suffix(" --config operator.toml").unwrap().to_owned()
    }

    /// Waits until it fires, and has the runbook's command name the cause.
    fn fires_and_names(&self, server: &Server, causes: &[&str]) {
        wait_for(
            &format!("{} to fire", self.name),
            || server.metrics(),
            || self.fires(&server.metrics()).then_some(()),
        );
        let said = server.terminal(&format!("{} --config operator.toml", self.command()));
        for cause in causes {
            let all = format!("{}{}", said.out, said.err);
            assert!(
                all.contains(cause),
                "{}: \"{cause}\" is not in what {} said:\n{all}",
                self.name,
                self.command()
            );
        }
    }

    fn is_silent(&self, server: &Server) {
        let page = server.metrics();
        assert!(!self.fires(&page), "{} fires without a fault:\n{page}", self.name);
    }
}

#[test]
fn every_alert_has_a_rule_that_is_understood_a_runbook_and_a_test() {
    let tests = include_str!("alerts.rs");
    let alerts = alerts();
    assert_eq!(alerts.len(), 14);
    for alert in &alerts {
        if alert.rule().is_none() {
            assert_eq!(alert.expr, "absent(consilium_info)");
        }
        alert.command();
        assert!(tests.contains(&format!("alert(\"{}\")", alert.name)), "{} has no test", alert.name);
    }
    let pages = fs::read_dir(root().join("docs/runbooks")).unwrap();
    let pages: BTreeSet<_> = pages.map(|page| page.unwrap().path()).collect();
    assert_eq!(pages, alerts.iter().map(|alert| alert.runbook.clone()).collect(), "a page without an alert");
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let server = Server::start(&SHAPE, "");
    let page = server.metrics();
    let dashboard = fs::read_to_string(root().join("observe/dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let source = include_str!("../../src/service/observe/metrics.rs");
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expr = target["expr"].as_str().unwrap();
            let start = expr.find("consilium_").unwrap();
            let name: String =
                expr[start..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            assert!(page.contains(&name) || source.contains(&format!("\"{name}\"")), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_are_away_flap_or_have_a_wrong_clock() {
    let server = Server::start(&SHAPE, "");
    let (flapping, clock) = (alert("MemberFlapping"), alert("ClockSkew"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let connect = |index, clock_ms| Member::connect_at(&server.consortium, index, server.address, clock_ms);
    let _right = connect(1, now).await.unwrap();
    flapping.is_silent(&server);
    clock.is_silent(&server);
    let _wrong = connect(0, now - 120_000).await.unwrap();
    clock.fires_and_names(&server, &["warning  clock", "org-0000's is -1"]);
    for time in 1..=8 {
        drop(connect(2, now).await.unwrap());
        // One that came back before its end was seen would have replaced its session instead.
        let seen = format!("consilium_member_disconnects_total{{member=\"org-0002\"}} {time}\n");
        wait_for("the session's end", || server.metrics(), || server.metrics().contains(&seen).then_some(()));
    }
    flapping.fires_and_names(&server, &["org-0002's session ended", "times in the last hour"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_is_stuck_and_rounds_that_fail() {
    let server = Server::start(&Shape { wait_s: 10, ..SHAPE }, "");
    let _members = server.members(0..3).await;
    let (stuck, failing) = (alert("RoundStuck"), alert("RoundsFailing"));
    failing.is_silent(&server);
    stuck.fires_and_names(
        &server,
        &["needs         4 members online, and has 3", "waits for     org-0003: away"],
    );
    failing.fires_and_names(
        &server,
        &[
            "attempts ended without a sum, the last with too-few-online",
            "3 of 5 online, 4 needed; away: org-0003, org-0004",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn survivors_near_the_minimum_a_budget_that_ends_and_epsilon_for_nothing() {
    let (near, ending, wasted) =
        (alert("SurvivorsNearMinimum"), alert("BudgetEnding"), alert("EpsilonWasted"));
    // A budget that one attempt nearly spends.
    let cost = Consortium::found(&SHAPE).plan.derived().guarantees(1, 1e-5).unwrap().central;
    let server = Server::start(&Shape { epsilon: cost * 1.05, ..SHAPE }, "");
    let members = server.members(0..4).await;
    for alert in [&near, &ending, &wasted] {
        alert.is_silent(&server);
    }
    let members = server.complete(members, 1).await;
    near.fires_and_names(
        &server,
        &["4 in the sum of round 1, 4 needed", "absent: org-0004 from step advertise on"],
    );
    ending.fires_and_names(&server, &["warning  budget", "is spent"]);
    wasted.is_silent(&server);
    // The next attempt has cost something when it is ended.
    let _members = up_to_input(members, 0).await;
    server.says("round abort --reason 'a test' --yes", 0, &["is lost"]);
    wasted.fires_and_names(&server, &["warning  wasted", "was spent on attempts without a sum"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_end() {
    for (name, days, words) in [
        ("KeyEndsIn30Days", &[20][..], "org-0000's end in 20 days"),
        ("KeyEndsIn7Days", &[5], "org-0000's end in 5 days"),
        ("KeyEndsIn1Day", &[0], "org-0000's end in 0 days"),
    ] {
        let server = Server::start(&Shape { key_days: days, ..SHAPE }, "");
        alert(name).fires_and_names(&server, &["warning  keys", words]);
        // Those for less time are silent.
        let sooner = [alert("KeyEndsIn30Days"), alert("KeyEndsIn7Days"), alert("KeyEndsIn1Day")];
        for alert in sooner.iter().skip_while(|alert| alert.name != name).skip(1) {
            alert.is_silent(&server);
        }
    }
    let server = Server::start(&SHAPE, "");
    alert("KeyEndsIn30Days").is_silent(&server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_a_record_that_was_altered_and_no_backup() {
    let server = Server::start(&SHAPE, "");
    server.says("member suspend org-0001 --reason 'an event' --yes", 0, &[]);
    let (disk, chain, backup) = (alert("DiskFullWithinADay"), alert("RecordChainBroken"), alert("NoBackup"));
    let known = || server.metrics().contains("consilium_record_chain_holds 1").then_some(());
    wait_for("the chain to be walked", || server.metrics(), known);
    chain.is_silent(&server);

    backup.fires_and_names(&server, &["backup", "none was ever made"]);
    fs::write(server.state().join("last-backup"), "").unwrap();
    let silent = || (!backup.fires(&server.metrics())).then_some(());
    wait_for("the backup to be seen", || server.metrics(), silent);

    // Space goes faster than a disk of any size lasts for a day. It is taken, not written.
    let ballast = server.state().join("ballast");
    let file = fs::File::create(&ballast).unwrap();
    let mut length = 0;
    wait_for(
        "the disk to fill",
        || server.metrics(),
        || {
            if length < 6 << 30 {
                rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), length, 1 << 24).unwrap();
                length += 1 << 24;
            }
            disk.fires(&server.metrics()).then_some(())
        },
    );
    disk.fires_and_names(&server, &["wrong    disk", "at this pace"]);
    drop(file);
    fs::remove_file(&ballast).unwrap();

    let database = rusqlite::Connection::open(server.state().join("job.sqlite")).unwrap();
    database.execute("UPDATE event SET at_ms = at_ms + 1 WHERE sequence = 1", []).unwrap();
    chain.fires_and_names(&server, &["wrong    record", "altered or damaged"]);
    let said = server.terminal("doctor --coordinator-config coordinator.toml");
    assert!(said.code == 1 && said.out.contains("event 1 is not what was appended"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_down() {
    let mut server = Server::start(&SHAPE, "");
    let down = alert("CoordinatorDown");
    assert!(server.metrics().contains("\nconsilium_info{"), "absent() is false while it answers");
    server.kill();
    let said = server.terminal(&format!("{} --config operator.toml", down.command()));
    assert!(said.code == 1 && said.out.contains("no coordinator answers"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_read_and_nothing_else_is_there() {
    let server = Server::start(&SHAPE, "");
    let address = server.lines("metrics")[0]["address"].as_str().unwrap().to_owned();
    let ask = |request: &str| {
        use std::io::{Read as _, Write as _};
        let mut tcp = std::net::TcpStream::connect(&address).unwrap();
        tcp.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        let _ = tcp.read_to_string(&mut text);
        text.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 200 OK");
    assert_eq!(ask("GET /state HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 404 Not Found");
    assert_eq!(
        ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
        "HTTP/1.1 405 Method Not Allowed"
    );
    assert!(ask("\0\0\0\0\r\n\r\n").starts_with("HTTP/1.1 400"));
    let many: Vec<_> = (0..50).map(|_| std::net::TcpStream::connect(&address)).collect();
    drop(many);
    wait_for("an answer after a flood", String::new, || {
        (ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") == "HTTP/1.1 200 OK").then_some(())
    });
    let Err(Failed(_)) = Member::connect(&server.consortium, 0, address.parse().unwrap()).await else {
        panic!("a member was served on the metrics' port")
    };
}
