//! The crash matrix: real processes, dead just before and just after every event and every record of a round.
//!
//! The programs are test builds that end themselves at an exact place, as SIGKILL would. A job goes on meanwhile: whoever died
//! is started again at once, to die at the next place in the next round that it takes part in.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, thread::sleep, time::Duration, time::Instant};

use consilium_tests::{Shape, Trial};
use serde_json::Value;

/// What a client makes durable in a round, in order.
const RECORDS: [&str; 9] =
    ["announcement", "joined", "peers", "debit", "header", "voted", "answered", "release", "kept"];
/// Whose client dies.
const WHO: usize = 3;

/// Where the coordinator has died.
#[derive(Default)]
struct Matrix {
    /// Kind of event, step, before or after.
    places: BTreeSet<(String, u64, String)>,
    /// How often it has.
    coordinator: u32,
}

/// Starts whoever died again, until the client has died everywhere, and the coordinator at every kind of event; its turn
/// goes through the events of a round by their numbers, and begins anew if deaths of the client have shifted them.
fn die_everywhere(trial: &mut Trial, when: Option<&str>, records: &[String]) -> Matrix {
    let (mut matrix, mut event, mut next) = (Matrix::default(), 0, 0);
    let (mut enough, mut past, mut seen) = (when.is_none(), false, 0);
    let place = |event: u32| when.map(|when| format!("{event}:{when}"));
    let record = |next: usize| records.get(next).map(String::as_str);
    trial.coordinator.kill();
    trial.restart_coordinator(place(event).as_deref());
    trial.clients[WHO - 1].kill();
    trial.restart_client(WHO, record(0));
    let began = Instant::now();
    while !enough || next < records.len() {
        assert!(
            began.elapsed() < Duration::from_secs(600),
            "event {event}, record {next}: {}",
            trial.coordinator.text()
        );
        let ended = trial.coordinator.ended();
        for line in trial.coordinator.news() {
            if line["message"] == "dies" {
                let text = |field: &str| line[field].as_str().unwrap().to_owned();
                matrix.places.insert((text("kind"), line["step"].as_u64().unwrap(), text("when")));
                matrix.coordinator += 1;
            }
            past |= line["message"] == "the round has no such event";
        }
        if past && !enough {
            enough = when.is_some_and(|when| expected(when).is_subset(&matrix.places));
            if !enough {
                (event, past) = (0, false);
                trial.coordinator.kill();
                trial.restart_coordinator(place(event).as_deref());
            }
        }
        if let Some(status) = ended {
            // By its own hand and at its place: anything else would be a failure to start or to serve.
            let log = trial.coordinator.text();
            seen += 1;
            assert!(status.code().is_none() && matrix.coordinator == seen, "event {event}: {status}: {log}");
            event += 1;
            trial.restart_coordinator(place(event).as_deref());
        }
        if let Some(status) = trial.clients[WHO - 1].ended() {
            assert!(status.code().is_none(), "{status}: {}", trial.client(WHO).text());
            next += 1;
            trial.restart_client(WHO, record(next));
        }
        for site in (1..=5).filter(|site| *site != WHO) {
            let ended = trial.clients[site - 1].ended();
            assert!(ended.is_none(), "site-{site} ended: {}", trial.client(site).text());
        }
        sleep(Duration::from_millis(10));
    }
    // A round in peace, from the same adapter as everybody.
    let last =
        trial.coordinator.events().iter().filter_map(|line: &Value| line["round"].as_u64()).max().unwrap();
    trial.released(last + 1);
    trial.client(WHO).wait_for("applied", last + 1);
    matrix
}

/// Every kind of event that a round without faults has, with its step.
fn expected(when: &str) -> BTreeSet<(String, u64, String)> {
    let steps = (1..=5).flat_map(|step| [("accepted", step), ("closed", step)]);
    let others = [("opened", 0), ("stored", 0), ("released", 0), ("evaluated", 0)];
    steps.chain(others).map(|(kind, step)| (kind.to_owned(), step, when.to_owned())).collect()
}

fn everywhere() -> Vec<String> {
    RECORDS.iter().flat_map(|what| ["before", "after"].map(|when| format!("{what}:{when}"))).collect()
}

/// Everybody is waited for, so that every round has all its events.
fn trial() -> Trial {
    Trial::start_eager(&Shape { rounds: 2000, epsilon: 1e6, grace_s: 60, ..Shape::default() })
}

#[test]
fn the_coordinator_dies_just_after_every_event_and_loses_nothing() {
    let mut trial = trial();
    let matrix = die_everywhere(&mut trial, Some("after"), &[]);
    assert!(expected("after").is_subset(&matrix.places), "{:?}", matrix.places);
    // 1 announcement, 5 of each of 3 messages, 5 vectors, 5 votes, at least 4 answers, 5 ends of steps, 1 release.
    assert!(matrix.coordinator >= 36, "{}", matrix.coordinator);
    let audit = trial.stop();
    println!("the coordinator died {} times: {audit:?}", matrix.coordinator);
    // Nothing is lost by a restart, so nothing has to be tried again.
    assert_eq!(audit.failed.len(), 0, "{:?}", audit.failed);
    assert!(audit.released.values().all(|(attempt, _)| *attempt == 1));
}

#[test]
fn a_client_dies_just_before_and_just_after_every_record() {
    let mut trial = trial();
    let places = everywhere();
    die_everywhere(&mut trial, None, &places);
    let audit = trial.stop();
    println!("{audit:?}");
    assert_eq!(audit.failed.len(), 0, "four of five are enough: {:?}", audit.failed);
    // Died between its debit and its header, or just before the header: paid, and nothing left.
    assert!(audit.paid_for_nothing >= 2, "{audit:?}");
}

#[test]
fn coordinator_and_client_die_together_at_every_event_and_record() {
    let mut trial = trial();
    let places: Vec<_> = everywhere().into_iter().cycle().take(2 * 18).collect();
    let matrix = die_everywhere(&mut trial, Some("before"), &places);
    assert!(expected("before").is_subset(&matrix.places), "{:?}", matrix.places);
    let audit = trial.stop();
    println!("the coordinator died {} times: {audit:?}", matrix.coordinator);
    // Every round ended in the right sum, at the latest after a clean retry; the audit has compared the sums.
    let rounds: Vec<_> = audit.released.keys().copied().collect();
    assert_eq!(rounds, (1..=rounds.len() as u32).collect::<Vec<_>>(), "{:?}", audit.failed);
}
