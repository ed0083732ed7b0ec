//! The test suite of [`Store`]: what every implementation must do, whatever it is built on.
//!
//! [`check`] opens stores through a [`Backend`] and tries each clause on a fresh place. It returns the first clause that
//! does not hold instead of panicking, so that a test can also show that a broken store is found out. It cannot cut the
//! power: each implementation tests for itself what a torn write leaves behind.

use std::fmt;

use consilium_crypto::digest::Digest;
use consilium_proto::ids::Id;

use super::{EventRecord, InputLayout, NewEvent, ReleaseRow, Store, StoreError, StoredJob};

/// Where an implementation's stores live during the tests.
pub trait Backend {
    /// The implementation.
    type Store: Store;

    /// Opens the one place, as after a restart; makes the store if the place is empty.
    ///
    /// # Errors
    ///
    /// What the implementation says.
    fn open(&mut self, job: &StoredJob) -> Result<Self::Store, StoreError>;

    /// Empties the place.
    fn wipe(&mut self);
}

/// A clause of the contract that does not hold.
#[derive(Debug)]
pub struct Broken {
    /// The clause.
    pub clause: &'static str,
    /// What happened instead.
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store breaks \"{}\": {}", self.clause, self.what)
    }
}

impl std::error::Error for Broken {}

type Clause<B> = fn(&mut B) -> Result<(), String>;

/// Tries every clause.
///
/// # Errors
///
/// The first clause that does not hold.
pub fn check<B: Backend>(backend: &mut B) -> Result<(), Broken> {
    let clauses: [(&'static str, Clause<B>); 10] = [
        ("events come back in order, whole, after a restart", events_come_back),
        ("a replay ends at its caller's error", replay_stops),
        ("chunks are taken in order and come back after a restart", chunks_come_back),
        ("a repeat is taken only if it is identical", repeats_are_compared),
        ("chunks have the plan's lengths", lengths_are_checked),
        ("inputs of organizations and attempts are kept apart", inputs_are_apart),
        ("a release comes back whole, after a restart", releases_come_back),
        ("a round is released once, and its events go with it", released_once),
        ("a store holds one job", one_job),
        ("one process has it open", one_process),
    ];
    for (clause, run) in clauses {
        backend.wipe();
        run(backend).map_err(|what| Broken { clause, what })?;
    }
    Ok(())
}

fn job(plan: u8) -> StoredJob {
    // Three chunks: two of 48 bytes, one of 5.
    let input = InputLayout { chunk_bytes: 48, total_bytes: 101 };
    StoredJob { plan: Digest([plan; 32]), input }
}

fn chunk(seed: u8, index: u32) -> Vec<u8> {
    let length = job(0).input.chunk_len(index).unwrap_or(0);
    (0..length).map(|at| seed.wrapping_mul(31).wrapping_add(at as u8).wrapping_add(index as u8)).collect()
}

fn org(name: &str) -> Result<Id, String> {
    name.parse().map_err(words)
}

fn words(error: impl fmt::Display) -> String {
    error.to_string()
}

fn same<T: PartialEq + fmt::Debug>(what: &str, got: &T, expected: &T) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("{what}: got {got:?}, expected {expected:?}")) }
}

fn refused<T>(
    what: &str,
    result: Result<T, StoreError>,
    as_expected: fn(&StoreError) -> bool,
) -> Result<(), String> {
    match result {
        Ok(_) => Err(format!("{what} was taken")),
        Err(error) if as_expected(&error) => Ok(()),
        Err(error) => Err(format!("{what} was refused as \"{error}\"")),
    }
}

fn event(round: u32, kind: &str, body: &[u8]) -> NewEvent {
    NewEvent {
        round,
        attempt: 1,
        kind: kind.to_owned(),
        body: body.to_vec(),
        at_ms: 1_700_000_000_000 + u64::from(round),
    }
}

fn events(store: &impl Store) -> Result<Vec<EventRecord>, String> {
    let mut all = Vec::new();
    store
        .replay(&mut |event| {
            all.push(event);
            Ok(())
        })
        .map_err(words)?;
    Ok(all)
}

fn records(new: &[NewEvent]) -> Vec<EventRecord> {
    let record = |(sequence, new): (u64, &NewEvent)| {
        let NewEvent { round, attempt, kind, body, at_ms } = new.clone();
        EventRecord { sequence, round, attempt, kind, body, at_ms }
    };
    (1..).zip(new).map(record).collect()
}

fn events_come_back<B: Backend>(backend: &mut B) -> Result<(), String> {
    let all = [
        event(1, "opened", b""),
        event(1, "advert", &[0, 255, 10, 13]),
        event(1, "advert", &vec![7; 300_000]),
        event(2, "päivä", b"\0"),
        NewEvent { round: u32::MAX, attempt: u32::MAX, kind: String::new(), body: vec![], at_ms: 0 },
    ];
    let [first, second, ..] = &all;
    let mut store = backend.open(&job(1)).map_err(words)?;
    same("a new store's events", &events(&store)?, &vec![])?;
    store.append(&[]).map_err(words)?;
    store.append(std::slice::from_ref(first)).map_err(words)?;
    store.append(std::slice::from_ref(second)).map_err(words)?;
    same("before a restart", &events(&store)?, &records(&[first.clone(), second.clone()]))?;
    drop(store);
    let mut store = backend.open(&job(1)).map_err(words)?;
    store.append(all.get(2..).unwrap_or_default()).map_err(words)?;
    drop(store);
    let store = backend.open(&job(1)).map_err(words)?;
    same("after two restarts", &events(&store)?, &records(&all))
}

fn replay_stops<B: Backend>(backend: &mut B) -> Result<(), String> {
    let mut store = backend.open(&job(1)).map_err(words)?;
    store.append(&[event(1, "a", b""), event(2, "b", b""), event(3, "c", b"")]).map_err(words)?;
    let mut seen = 0;
    let result = store.replay(&mut |event| {
        seen += 1;
        if event.sequence == 2 { Err(StoreError::Event { sequence: 2, source: "no".into() }) } else { Ok(()) }
    });
    refused("an event that its caller refuses", result, |e| {
        matches!(e, StoreError::Event { sequence: 2, .. })
    })?;
    same("events seen", &seen, &2)
}

fn read(store: &impl Store, round: u32, attempt: u32, org: &Id, index: u32) -> Result<Vec<u8>, String> {
    let mut out = vec![9; 3];
    store.read_chunk(round, attempt, org, index, &mut out).map_err(words)?;
    Ok(out)
}

fn chunks_come_back<B: Backend>(backend: &mut B) -> Result<(), String> {
    let a = org("a")?;
    let mut store = backend.open(&job(1)).map_err(words)?;
    same("chunks held at first", &store.chunks_held(1, 1, &a).map_err(words)?, &0)?;
    store.sync_input(1, 1, &a).map_err(words)?;
    let early = store.put_chunk(1, 1, &a, 1, &chunk(1, 1));
    refused("chunk 1 before chunk 0", early, |e| {
        matches!(e, StoreError::ChunkOrder { expected: 0, got: 1, .. })
    })?;
    store.put_chunk(1, 1, &a, 0, &chunk(1, 0)).map_err(words)?;
    store.sync_input(1, 1, &a).map_err(words)?;
    drop(store);
    let mut store = backend.open(&job(1)).map_err(words)?;
    same("chunks held after a restart", &store.chunks_held(1, 1, &a).map_err(words)?, &1)?;
    let mut out = Vec::new();
    let missing = store.read_chunk(1, 1, &a, 1, &mut out);
    refused("reading a chunk that is not held", missing, |e| {
        matches!(e, StoreError::ChunkMissing { held: 1, .. })
    })?;
    for index in 1..3 {
        store.put_chunk(1, 1, &a, index, &chunk(1, index)).map_err(words)?;
    }
    store.sync_input(1, 1, &a).map_err(words)?;
    drop(store);
    let mut store = backend.open(&job(1)).map_err(words)?;
    for index in 0..3 {
        same("a chunk", &read(&store, 1, 1, &a, index)?, &chunk(1, index))?;
    }
    store.drop_attempt_inputs(1, 1).map_err(words)?;
    same("chunks held after the drop", &store.chunks_held(1, 1, &a).map_err(words)?, &0)?;
    store.drop_attempt_inputs(1, 1).map_err(words)
}

fn repeats_are_compared<B: Backend>(backend: &mut B) -> Result<(), String> {
    let a = org("a")?;
    let mut store = backend.open(&job(1)).map_err(words)?;
    for index in 0..2 {
        store.put_chunk(1, 1, &a, index, &chunk(1, index)).map_err(words)?;
    }
    store.put_chunk(1, 1, &a, 0, &chunk(1, 0)).map_err(words)?;
    let other = store.put_chunk(1, 1, &a, 0, &chunk(2, 0));
    refused("a repeat with other bytes", other, |e| matches!(e, StoreError::ChunkConflict { index: 0, .. }))?;
    same("chunks held", &store.chunks_held(1, 1, &a).map_err(words)?, &2)?;
    same("the chunk", &read(&store, 1, 1, &a, 0)?, &chunk(1, 0))
}

fn lengths_are_checked<B: Backend>(backend: &mut B) -> Result<(), String> {
    let a = org("a")?;
    let wrong: fn(&StoreError) -> bool = |e| matches!(e, StoreError::ChunkLength { .. });
    let mut store = backend.open(&job(1)).map_err(words)?;
    refused("a short chunk", store.put_chunk(1, 1, &a, 0, &[0; 47]), wrong)?;
    refused("a long chunk", store.put_chunk(1, 1, &a, 0, &[0; 49]), wrong)?;
    refused("an empty chunk", store.put_chunk(1, 1, &a, 0, &[]), wrong)?;
    for index in 0..2 {
        store.put_chunk(1, 1, &a, index, &chunk(1, index)).map_err(words)?;
    }
    refused("a long last chunk", store.put_chunk(1, 1, &a, 2, &[0; 48]), wrong)?;
    store.put_chunk(1, 1, &a, 2, &chunk(1, 2)).map_err(words)?;
    refused("a chunk past the last", store.put_chunk(1, 1, &a, 3, &[0; 48]), wrong)?;
    refused("an empty chunk past the last", store.put_chunk(1, 1, &a, 3, &[]), wrong)?;
    same("chunks held", &store.chunks_held(1, 1, &a).map_err(words)?, &3)
}

fn inputs_are_apart<B: Backend>(backend: &mut B) -> Result<(), String> {
    let inputs =
        [(1, 1, org("a")?), (1, 1, org("b")?), (1, 2, org("a")?), (2, 1, org("a")?), (1, 11, org("a")?)];
    let mut store = backend.open(&job(1)).map_err(words)?;
    for (seed, (round, attempt, org)) in (1..).zip(&inputs) {
        store.put_chunk(*round, *attempt, org, 0, &chunk(seed, 0)).map_err(words)?;
        store.sync_input(*round, *attempt, org).map_err(words)?;
    }
    for (seed, (round, attempt, org)) in (1..).zip(&inputs) {
        same("a chunk", &read(&store, *round, *attempt, org, 0)?, &chunk(seed, 0))?;
    }
    store.drop_attempt_inputs(1, 1).map_err(words)?;
    drop(store);
    let store = backend.open(&job(1)).map_err(words)?;
    for ((round, attempt, org), expected) in inputs.iter().zip([0, 0, 1, 1, 1]) {
        let held = store.chunks_held(*round, *attempt, org).map_err(words)?;
        same(&format!("chunks of {org} in {round}.{attempt} after dropping 1.1"), &held, &expected)?;
    }
    Ok(())
}

fn row(round: u32) -> ReleaseRow {
    let sum = (0..5000u32).map(|at| (at * (round + 3)) as u8).collect();
    ReleaseRow { round, head: vec![round as u8; 70], signature: vec![5; 64], sum }
}

fn releases_come_back<B: Backend>(backend: &mut B) -> Result<(), String> {
    let mut store = backend.open(&job(1)).map_err(words)?;
    same("a round without release", &store.release(1).map_err(words)?, &None)?;
    same("rounds", &store.releases_from(0).map_err(words)?, &vec![])?;
    let mut out = Vec::new();
    refused("reading no sum", store.read_sum(1, 0, 10, &mut out), |e| {
        matches!(e, StoreError::ReleaseMissing { round: 1 })
    })?;
    for round in [1, 2, 4, 300] {
        store.put_release(&[event(round, "released", b"")], &row(round)).map_err(words)?;
    }
    drop(store);
    let store = backend.open(&job(1)).map_err(words)?;
    same("the release of round 4", &store.release(4).map_err(words)?, &Some(row(4)))?;
    same("the release of round 3", &store.release(3).map_err(words)?, &None)?;
    same("rounds from 2", &store.releases_from(2).map_err(words)?, &vec![2, 4, 300])?;
    same("rounds from 301", &store.releases_from(301).map_err(words)?, &vec![])?;
    same("events", &events(&store)?.len(), &4)?;
    let head = store.release_head(4).map_err(words)?.ok_or("the head of round 4 is gone")?;
    same("the head", &(head.head, head.signature, head.sum_bytes), &(row(4).head, row(4).signature, 5000))?;
    for (offset, bytes, expected) in
        [(0, 10, 0..10), (4990, 100, 4990..5000), (5000, 1, 5000..5000), (9000, 1, 0..0)]
    {
        store.read_sum(4, offset, bytes, &mut out).map_err(words)?;
        let expected = row(4).sum.get(expected).unwrap_or_default().to_vec();
        same("a piece of the sum", &out, &expected)?;
    }
    Ok(())
}

fn released_once<B: Backend>(backend: &mut B) -> Result<(), String> {
    let mut store = backend.open(&job(1)).map_err(words)?;
    store.put_release(&[event(1, "released", b"first")], &row(1)).map_err(words)?;
    for again in [row(1), ReleaseRow { sum: vec![1, 2, 3], ..row(1) }] {
        let result = store.put_release(&[event(1, "released", b"second")], &again);
        refused("a second release", result, |e| matches!(e, StoreError::ReleaseExists { round: 1 }))?;
    }
    store.append(&[event(1, "after", b"")]).map_err(words)?;
    drop(store);
    let store = backend.open(&job(1)).map_err(words)?;
    same("the release", &store.release(1).map_err(words)?, &Some(row(1)))?;
    same("events", &events(&store)?, &records(&[event(1, "released", b"first"), event(1, "after", b"")]))
}

fn one_job<B: Backend>(backend: &mut B) -> Result<(), String> {
    let mut store = backend.open(&job(1)).map_err(words)?;
    store.append(&[event(1, "a", b"")]).map_err(words)?;
    drop(store);
    let other = backend.open(&job(2));
    refused("another plan", other, |e| {
        let text = e.to_string();
        let named =
            text.contains(&Digest([1; 32]).to_string()) && text.contains(&Digest([2; 32]).to_string());
        matches!(e, StoreError::OtherJob { .. }) && named
    })?;
    let store = backend.open(&job(1)).map_err(words)?;
    same("events", &events(&store)?.len(), &1)
}

fn one_process<B: Backend>(backend: &mut B) -> Result<(), String> {
    let store = backend.open(&job(1)).map_err(words)?;
    refused("a second opening", backend.open(&job(1)), |e| matches!(e, StoreError::Locked { .. }))?;
    drop(store);
    backend.open(&job(1)).map_err(words).map(drop)
}
