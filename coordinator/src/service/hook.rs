//! Test builds only: the process dies at an exact event, so that a test can try every one of them. Release binaries are built
//! without this module.
//!
//! `CONSILIUM_TEST_DIE=7:before` (or `7:after`) means: just before (after) the seventh event of the first round that begins in this
//! process has become durable. A round that has fewer says so, and nobody dies. Results on the test set come when they come: they
//! are not counted, and `0` means the first of them.

use std::sync::{Mutex, PoisonError};

use crate::{round::Event, store::NewEvent};

/// Events of the round that began in this process; none before it begins, and none again once it is over.
static SEEN: Mutex<(Option<u64>, bool)> = Mutex::new((None, false));

fn wanted() -> Option<(u64, String)> {
    let text = std::env::var("CONSILIUM_TEST_DIE").ok()?;
    let (event, when) = text.split_once(':')?;
    Some((event.parse().ok()?, when.to_owned()))
}

/// Makes records durable, and may die before or after.
pub(super) fn durable<T>(records: &[NewEvent], write: impl FnOnce() -> T) -> T {
    let Some((target, when)) = wanted() else { return write() };
    let hit = records.iter().find(|record| counts(record) == Some(target));
    if let Some(record) = hit.filter(|_| when == "before") {
        die(record, &when);
    }
    let written = write();
    if let Some(record) = hit {
        die(record, &when);
    }
    written
}

/// The number of an event in its round.
fn counts(record: &NewEvent) -> Option<u64> {
    if record.kind == "evaluated" {
        return Some(0);
    }
    let (seen, over) = &mut *SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if record.kind == "opened" && record.attempt == 1 {
        if seen.is_some() && !*over {
            tracing::warn!(events = *seen, "the round has no such event");
            *over = true;
        }
        seen.get_or_insert(0);
    }
    let seen = seen.as_mut().filter(|_| !*over)?;
    *seen += 1;
    Some(*seen)
}

fn die(record: &NewEvent, when: &str) {
    let step = match Event::decode(&record.kind, &record.body) {
        Ok(Event::Accepted { step, .. } | Event::Closed { step }) => step,
        _ => 0,
    };
    tracing::warn!(kind = record.kind, step, round = record.round, attempt = record.attempt, when, "dies");
    // Like SIGKILL: nothing of this process runs after it.
    std::process::abort();
}
