//! One trace a round, across the coordinator and every client, put together from the files that each of them writes.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use consilium_tests::{Consortium, Process, Shape};
use serde_json::Value;

/// Who says it, and the span.
fn spans(consortium: &Consortium, file: &str) -> Vec<(String, Value)> {
    let text = fs::read_to_string(consortium.path(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut all = Vec::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let resource = &line["resourceSpans"][0];
        let who = resource["resource"]["attributes"].as_array().unwrap().iter();
        let who = who.clone().find(|it| it["key"] == "service.instance.id").unwrap()["value"]["stringValue"]
            .clone();
        for span in resource["scopeSpans"][0]["spans"].as_array().unwrap() {
            all.push((who.as_str().unwrap().to_owned(), span.clone()));
        }
    }
    all
}

#[test]
fn a_round_is_one_trace_from_the_coordinator_to_every_client() {
    let consortium = Consortium::found(&Shape { rounds: 3, traces: true, ..Shape::default() });
    let start =
        |program, arguments: &[&str], log: &str| Process::start(program, arguments, consortium.path(log));
    let path = |name: &str| consortium.path(name).to_str().unwrap().to_owned();
    let config = path("coordinator.toml");
    let mut coordinator =
        start(env!("CARGO_BIN_EXE_hooked-coordinator"), &["--config", &config], "coordinator.log");
    let mut clients: Vec<_> = (1..=5)
        .map(|site| {
            let config = path(&format!("site-{site}.toml"));
            start(
                env!("CARGO_BIN_EXE_hooked-client"),
                &["run", "--config", &config],
                &format!("site-{site}.log"),
            )
        })
        .collect();
    for client in &mut clients {
        assert!(client.wait().success(), "{}", client.text());
    }
    assert!(coordinator.terminate().success(), "{}", coordinator.text());

    let mut all = spans(&consortium, "traces.jsonl");
    for site in 1..=5 {
        all.extend(spans(&consortium, &format!("traces-{site}.jsonl")));
    }
    let mut traces = BTreeMap::<&str, Vec<&(String, Value)>>::new();
    for span in &all {
        traces.entry(span.1["traceId"].as_str().unwrap()).or_default().push(span);
    }
    assert_eq!(traces.len(), 3, "one trace for each of three rounds");
    for spans in traces.values() {
        let who: BTreeSet<_> = spans.iter().map(|(who, _)| who.as_str()).collect();
        assert_eq!(who, BTreeSet::from(["coordinator", "site-1", "site-2", "site-3", "site-4", "site-5"]));
        let ids: BTreeSet<_> = spans.iter().map(|(_, span)| span["spanId"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), spans.len(), "each span has an id of its own");
        let parents = spans.iter().map(|(_, span)| span["parentSpanId"].as_str().unwrap());
        let (roots, others): (Vec<_>, Vec<_>) = parents.partition(|parent| parent.is_empty());
        assert_eq!(roots.len(), 1, "one root");
        assert!(
            others.iter().all(|parent| ids.contains(parent)),
            "every other span belongs to one that is there"
        );
        let named = |name| spans.iter().filter(|(_, span)| span["name"] == name).count();
        assert_eq!((named("round"), named("client"), named("masked")), (1, 5, 5));
        assert!(spans.iter().all(|(_, span)| span["status"]["code"] == 1), "nothing failed");
    }
}
