//! What the coordinator may know of one member, and nothing else: in its log, its metrics, its traces, and what it tells
//! operators. The lists here are the promise; whatever is not on them fails the test.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    generator::Shape,
    server::{Server, wait_for},
};

const SHAPE: Shape = Shape {
    members: 5,
    dimension: 2_000,
    ring_bits: 24,
    rounds: 2,
    deadline_s: 600,
    grace_s: 1,
    adam: false,
    wait_s: 600,
    epsilon: 1000.0,
    key_days: &[],
    keep_inputs_h: 0,
    upload_grace_s: 0,
    top: "[observe]\nmetrics = \"127.0.0.1:0\"\ntraces = \"traces.jsonl\"\nlook_s = 1",
};

/// Of one member: online, last seen, step, version, clock, bytes, disconnects, refusal code; and what the coordinator and
/// operators decided about it.
const MEMBER: [&str; 18] = [
    "id",
    "view",
    "online",
    "done",
    "awaited",
    "last_seen_ms",
    "step",
    "software",
    "protocol_version",
    "clock_skew_ms",
    "bytes_in",
    "bytes_out",
    "disconnects",
    "disconnects_hour",
    "refusal",
    "suspended",
    "sits_out",
    "absences",
];

/// Metrics with a member's name on them, and their labels.
const METRICS: [(&str, &str); 12] = [
    ("consilium_member_online", "member"),
    ("consilium_member_awaited", "member"),
    ("consilium_member_last_seen_seconds", "member"),
    ("consilium_member_clock_skew_seconds", "member"),
    ("consilium_member_received_bytes_total", "member"),
    ("consilium_member_sent_bytes_total", "member"),
    ("consilium_member_disconnects_total", "member"),
    ("consilium_member_disconnects_last_hour", "member"),
    ("consilium_member_sits_out_rounds", "member"),
    ("consilium_member_info", "member version step code"),
    ("consilium_refusals_total", "code member"),
    ("consilium_key_days_left", "party role"),
];

/// Fields of log lines.
const LOG: [&str; 24] = [
    "timestamp",
    "level",
    "target",
    "message",
    "address",
    "open_files",
    "events",
    "id",
    "why",
    "code",
    "who",
    "times",
    "total",
    "round",
    "attempt",
    "sessions",
    "connections",
    "operator",
    "number",
    "effect",
    "error",
    "culprits",
    "culprit",
    "check",
];

/// Attributes of spans and of who says them.
const TRACE: [&str; 11] = [
    "service.name",
    "service.version",
    "service.instance.id",
    "consilium.job",
    "consilium.round",
    "consilium.attempt",
    "consilium.outcome",
    "consilium.survivors",
    "consilium.masked_input_bytes",
    "consilium.step",
    "consilium.absent",
];

fn only(what: &str, found: impl IntoIterator<Item = String>, allowed: &[&str]) {
    for key in found {
        assert!(allowed.contains(&key.as_str()), "{what} has \"{key}\", which is not on its list");
    }
}

fn keys(value: &Value) -> Vec<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn log_metrics_traces_and_tables_hold_what_is_on_the_list() {
    let server = Server::start(&SHAPE, "");
    let members = server.members(0..5).await;
    let members = server.complete(members, 1).await;
    let page = server.metrics();
    let tables = server.says("members --json", 0, &[]).json();
    server.says("job pause --reason 'a secret of the operator' --yes", 0, &[]);
    drop(members);
    let traced = || (server.read("traces.jsonl").lines().count() >= 1).then_some(());
    wait_for("the trace of the round", || server.text(), traced);

    for member in tables.as_array().unwrap() {
        only("a member's row", keys(member), &MEMBER);
    }

    let mut with_a_name = BTreeSet::new();
    for line in page.lines().filter(|line| line.contains("org-") && !line.starts_with('#')) {
        let (name, rest) = line.split_once('{').unwrap();
        let labels: Vec<_> =
            rest.split('}').next().unwrap().split("\",").map(|it| it.split('=').next().unwrap()).collect();
        with_a_name.insert((name.to_owned(), labels.join(" ")));
    }
    let expected: BTreeSet<_> =
        METRICS.iter().map(|(name, labels)| ((*name).to_owned(), (*labels).to_owned())).collect();
    let beyond: Vec<_> = with_a_name.difference(&expected).collect();
    assert!(beyond.is_empty(), "metrics of members that are on no list: {beyond:?}");
    assert!(with_a_name.len() >= 9, "{with_a_name:?}");

    for line in server.text().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not structured: {line}"));
        only("a log line", keys(&line), &LOG);
    }
    assert!(
        !server.text().contains("a secret of the operator"),
        "reasons stand in the record, and nowhere else"
    );

    for line in server.read("traces.jsonl").lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let resource = &line["resourceSpans"][0];
        let mut attributes = resource["resource"]["attributes"].as_array().unwrap().clone();
        for span in resource["scopeSpans"][0]["spans"].as_array().unwrap() {
            attributes.extend(span["attributes"].as_array().unwrap().iter().cloned());
        }
        let names = attributes.iter().map(|it| it["key"].as_str().unwrap().to_owned());
        only("a span", names, &TRACE);
    }

    // Nor what went over the wire: a masked chunk, a header's digest, a signature, in any of the usual spellings.
    let everything = format!("{}{page}{}{tables}", server.text(), server.read("traces.jsonl"));
    let long = everything.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() > 32).count();
    assert_eq!(long, 0, "a digest or key in what others may read");
}
