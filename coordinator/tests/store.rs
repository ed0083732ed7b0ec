//! The embedded store against the contract, against what a crash leaves behind, and against damage.
#![allow(clippy::unwrap_used)]

use std::{
    fs::OpenOptions,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use consilium_coordinator::store::{
    EachEvent, InputLayout, NewEvent, ReleaseHead, ReleaseRow, SqliteStore, Store, StoreError, StoredJob,
    contract::{self, Backend},
};
use consilium_crypto::digest::Digest;
use consilium_proto::ids::Id;
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }
}

impl Backend for Folder {
    type Store = SqliteStore;

    fn open(&mut self, job: &StoredJob) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(&self.path(), job)
    }

    fn wipe(&mut self) {
        let _ = std::fs::remove_dir_all(self.path());
    }
}

#[test]
fn the_embedded_store_keeps_the_contract() {
    contract::check(&mut Folder::new()).unwrap();
}

/// A store with one fault, to see that the contract finds it.
struct Faulty {
    inner: SqliteStore,
    fault: Fault,
    appended: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    LosesEveryThirdEvent,
    ReplaysOn,
    TakesAnyRepeat,
    ForgetsToDrop,
    DropsEverything,
    KeepsEventsOfARefusedRelease,
    BendsTheSum,
}

type Taken = Result<(), StoreError>;

impl Store for Faulty {
    fn append(&mut self, events: &[NewEvent]) -> Taken {
        if self.fault != Fault::LosesEveryThirdEvent {
            return self.inner.append(events);
        }
        for event in events {
            self.appended += 1;
            if !self.appended.is_multiple_of(3) {
                self.inner.append(std::slice::from_ref(event))?;
            }
        }
        Ok(())
    }
    fn replay(&self, each: EachEvent<'_>) -> Taken {
        if self.fault == Fault::ReplaysOn {
            return self.inner.replay(&mut |event| {
                let _ = each(event);
                Ok(())
            });
        }
        self.inner.replay(each)
    }
    fn put_chunk(&mut self, round: u32, attempt: u32, org: &Id, index: u32, bytes: &[u8]) -> Taken {
        if self.fault == Fault::TakesAnyRepeat && index < self.inner.chunks_held(round, attempt, org)? {
            return Ok(());
        }
        self.inner.put_chunk(round, attempt, org, index, bytes)
    }
    fn chunks_held(&self, round: u32, attempt: u32, org: &Id) -> Result<u32, StoreError> {
        self.inner.chunks_held(round, attempt, org)
    }
    fn sync_input(&mut self, round: u32, attempt: u32, org: &Id) -> Taken {
        self.inner.sync_input(round, attempt, org)
    }
    fn read_chunk(&self, round: u32, attempt: u32, org: &Id, index: u32, out: &mut Vec<u8>) -> Taken {
        self.inner.read_chunk(round, attempt, org, index, out)
    }
    fn drop_attempt_inputs(&mut self, round: u32, attempt: u32) -> Taken {
        match self.fault {
            Fault::ForgetsToDrop => Ok(()),
            Fault::DropsEverything => {
                (1..=2).try_for_each(|attempt| self.inner.drop_attempt_inputs(round, attempt))
            }
            _ => self.inner.drop_attempt_inputs(round, attempt),
        }
    }
    fn put_release(&mut self, events: &[NewEvent], row: &ReleaseRow) -> Taken {
        if self.fault == Fault::KeepsEventsOfARefusedRelease {
            self.inner.append(events)?;
            return self.inner.put_release(&[], row);
        }
        let mut row = row.clone();
        if self.fault == Fault::BendsTheSum {
            row.sum[4999] ^= 1;
        }
        self.inner.put_release(events, &row)
    }
    fn release_head(&self, round: u32) -> Result<Option<ReleaseHead>, StoreError> {
        self.inner.release_head(round)
    }
    fn read_sum(&self, round: u32, offset: u64, bytes: usize, out: &mut Vec<u8>) -> Taken {
        self.inner.read_sum(round, offset, bytes, out)
    }
    fn release(&self, round: u32) -> Result<Option<ReleaseRow>, StoreError> {
        self.inner.release(round)
    }
    fn releases_from(&self, round: u32) -> Result<Vec<u32>, StoreError> {
        self.inner.releases_from(round)
    }
}

struct FaultyFolder(Folder, Fault);

impl Backend for FaultyFolder {
    type Store = Faulty;

    fn open(&mut self, job: &StoredJob) -> Result<Faulty, StoreError> {
        Ok(Faulty { inner: self.0.open(job)?, fault: self.1, appended: 0 })
    }

    fn wipe(&mut self) {
        self.0.wipe();
    }
}

#[test]
fn the_contract_finds_each_fault() {
    use Fault as F;
    for (fault, clause) in [
        (F::LosesEveryThirdEvent, "events come back"),
        (F::ReplaysOn, "a replay ends"),
        (F::TakesAnyRepeat, "a repeat is taken only"),
        (F::ForgetsToDrop, "chunks are taken in order"),
        (F::DropsEverything, "kept apart"),
        (F::KeepsEventsOfARefusedRelease, "released once"),
        (F::BendsTheSum, "a release comes back"),
    ] {
        let broken = contract::check(&mut FaultyFolder(Folder::new(), fault)).unwrap_err();
        assert!(broken.clause.contains(clause), "{fault:?} was found as {broken}");
    }
}

const CHUNK: usize = 1000;

fn job() -> StoredJob {
    StoredJob { plan: Digest([3; 32]), input: InputLayout::new(CHUNK, 10 * CHUNK + 7).unwrap() }
}

fn site() -> Id {
    "site-1".parse().unwrap()
}

fn event(kind: &str, body: Vec<u8>) -> NewEvent {
    NewEvent { round: 1, attempt: 1, kind: kind.to_owned(), body, at_ms: 5 }
}

fn chunk_file(folder: &Folder) -> PathBuf {
    folder.path().join("inputs/round-1-attempt-1/site-1.chunks")
}

fn filled(folder: &mut Folder, chunks: u32) -> SqliteStore {
    let mut store = folder.open(&job()).unwrap();
    for index in 0..chunks {
        store.put_chunk(1, 1, &site(), index, &[index as u8; CHUNK]).unwrap();
    }
    store.sync_input(1, 1, &site()).unwrap();
    store
}

/// Does to a file what a crash might.
type Tear = fn(&Path);

#[test]
fn a_torn_tail_does_not_count_and_is_written_over() {
    let frame = CHUNK as u64 + 4;
    let tails: [(&str, Tear); 4] = [
        ("half a frame", |path| append(path, &[3; 500])),
        ("a frame of zeros, as a power cut leaves it", |path| append(path, &[0; CHUNK + 4])),
        ("more than a frame", |path| append(path, &[7; 3 * CHUNK])),
        ("the last frame's end cut off", |path| {
            let length = std::fs::metadata(path).unwrap().len();
            OpenOptions::new().write(true).open(path).unwrap().set_len(length - 1).unwrap();
        }),
    ];
    for (what, tear) in tails {
        let mut folder = Folder::new();
        drop(filled(&mut folder, 3));
        tear(&chunk_file(&folder));
        let mut store = folder.open(&job()).unwrap();
        let held = store.chunks_held(1, 1, &site()).unwrap();
        assert_eq!(held, if what.starts_with("the last") { 2 } else { 3 }, "{what}");
        for index in held..10 {
            store.put_chunk(1, 1, &site(), index, &[index as u8; CHUNK]).unwrap();
        }
        store.put_chunk(1, 1, &site(), 10, &[10; 7]).unwrap();
        store.sync_input(1, 1, &site()).unwrap();
        drop(store);
        assert_eq!(std::fs::metadata(chunk_file(&folder)).unwrap().len(), 10 * frame + 7 + 4, "{what}");
        let store = folder.open(&job()).unwrap();
        assert_eq!(store.chunks_held(1, 1, &site()).unwrap(), 11);
        let mut out = Vec::new();
        for index in 0..10 {
            store.read_chunk(1, 1, &site(), index, &mut out).unwrap();
            assert_eq!(out, [index as u8; CHUNK], "{what}");
        }
    }
}

#[test]
fn what_stood_behind_a_torn_chunk_does_not_come_back() {
    let mut folder = Folder::new();
    drop(filled(&mut folder, 3));
    let file = OpenOptions::new().write(true).open(chunk_file(&folder)).unwrap();
    file.write_all_at(&[0xff; 10], CHUNK as u64 + 100).unwrap();
    let mut store = folder.open(&job()).unwrap();
    assert_eq!(store.chunks_held(1, 1, &site()).unwrap(), 1);
    store.put_chunk(1, 1, &site(), 1, &[1; CHUNK]).unwrap();
    drop(store);
    let store = folder.open(&job()).unwrap();
    assert_eq!(store.chunks_held(1, 1, &site()).unwrap(), 2, "chunk 2 was never put again");
}

fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn a_chunk_in_the_wrong_place_is_not_sound() {
    let mut folder = Folder::new();
    drop(filled(&mut folder, 3));
    let other = folder.path().join("inputs/round-1-attempt-1/site-2.chunks");
    std::fs::copy(chunk_file(&folder), other).unwrap();
    let store = folder.open(&job()).unwrap();
    assert_eq!(store.chunks_held(1, 1, &"site-2".parse().unwrap()).unwrap(), 0);
}

#[test]
fn damage_is_named_and_never_handed_out() {
    let mut folder = Folder::new();
    let mut store = filled(&mut folder, 3);
    let row = ReleaseRow { round: 1, head: vec![1], signature: vec![2], sum: vec![3; 100] };
    store.put_release(&[event("released", vec![])], &row).unwrap();

    let file = OpenOptions::new().write(true).open(chunk_file(&folder)).unwrap();
    file.write_all_at(&[0xff], 1500).unwrap();
    let mut out = Vec::new();
    let error = store.read_chunk(1, 1, &site(), 1, &mut out).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }) && error.to_string().contains("chunk 1"), "{error}");
    assert!(!error.is_refusal());
    drop(store);

    std::fs::write(folder.path().join("sums/round-1.sum"), [4; 100]).unwrap();
    let store = folder.open(&job()).unwrap();
    assert!(matches!(store.release(1), Err(StoreError::Corrupt { .. })));
    std::fs::remove_file(folder.path().join("sums/round-1.sum")).unwrap();
    assert!(store.release(1).unwrap_err().to_string().contains("round 1"));
    drop(store);

    std::fs::write(folder.path().join("job.sqlite"), vec![b'x'; 8192]).unwrap();
    let error = folder.open(&job()).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[test]
fn an_event_that_was_changed_moved_or_removed_is_found() {
    for change in [
        "UPDATE event SET body = x'00' WHERE sequence = 2",
        "UPDATE event SET at_ms = 6 WHERE sequence = 2",
        "UPDATE event SET round = -1 WHERE sequence = 2",
        "DELETE FROM event WHERE sequence = 2",
        "UPDATE event SET sequence = 100 WHERE sequence = 1; UPDATE event SET sequence = 1 WHERE sequence = 2; \
         UPDATE event SET sequence = 2 WHERE sequence = 100",
    ] {
        let mut folder = Folder::new();
        let mut store = folder.open(&job()).unwrap();
        for body in 1..=4 {
            store.append(&[event("a", vec![body])]).unwrap();
        }
        drop(store);
        let database = rusqlite::Connection::open(folder.path().join("job.sqlite")).unwrap();
        database.execute_batch(change).unwrap();
        drop(database);
        let store = folder.open(&job()).unwrap();
        let error = store.replay(&mut |_| Ok(())).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{change}: {error}");
    }
}

#[test]
fn a_store_of_a_later_format_or_of_something_else_is_refused_by_name() {
    let mut folder = Folder::new();
    drop(folder.open(&job()).unwrap());
    let database = rusqlite::Connection::open(folder.path().join("job.sqlite")).unwrap();
    database.pragma_update(None, "user_version", 3).unwrap();
    drop(database);
    let error = folder.open(&job()).unwrap_err();
    assert!(matches!(error, StoreError::Format { found: 3, known: 2, .. }), "{error}");
    folder.wipe();
    std::fs::create_dir(folder.path()).unwrap();
    let database = rusqlite::Connection::open(folder.path().join("job.sqlite")).unwrap();
    database.pragma_update(None, "user_version", 1).unwrap();
    drop(database);
    assert!(folder.open(&job()).unwrap_err().to_string().contains("not a coordinator's store"));
}

/// Not a test: the process that the next one kills. Says on standard output what is durable.
#[test]
#[ignore = "run by the test below"]
fn writes_until_it_is_killed() {
    let Ok(folder) = std::env::var("STORE_TO_FILL") else { return };
    let mut store = SqliteStore::open(Path::new(&folder), &job()).unwrap();
    for step in 1u32.. {
        store.append(&[event("a", step.to_le_bytes().to_vec()), event("b", vec![0; 5000])]).unwrap();
        let attempt = step.div_ceil(10);
        let index = (step - 1) % 10;
        store.put_chunk(1, attempt, &site(), index, &[step as u8; CHUNK]).unwrap();
        store.sync_input(1, attempt, &site()).unwrap();
        let row = ReleaseRow { round: step, head: vec![1], signature: vec![2], sum: vec![step as u8; 3000] };
        store.put_release(&[event("c", vec![])], &row).unwrap();
        println!("durable {step}");
    }
}

#[test]
fn nothing_that_was_durable_is_lost_by_a_kill() {
    for run in 0..4 {
        let mut folder = Folder::new();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_until_it_is_killed", "--ignored", "--nocapture"])
            .env("STORE_TO_FILL", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut durable = 0;
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines {
            let line = line.unwrap();
            let Some((_, step)) = line.split_once("durable ") else { continue };
            durable = step.parse::<u32>().unwrap();
            if durable == 3 + 7 * run {
                std::thread::sleep(std::time::Duration::from_micros(700 * u64::from(run)));
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(durable >= 3);

        let mut store = folder.open(&job()).unwrap();
        let mut events = 0;
        store
            .replay(&mut |_| {
                events += 1;
                Ok(())
            })
            .unwrap();
        assert!(events >= 3 * durable, "{events} events, {durable} steps");
        let mut out = Vec::new();
        for step in 1..=durable {
            store.read_chunk(1, step.div_ceil(10), &site(), (step - 1) % 10, &mut out).unwrap();
            assert_eq!(out, [step as u8; CHUNK]);
            assert_eq!(store.release(step).unwrap().unwrap().sum, vec![step as u8; 3000]);
        }
        // And it goes on where it was.
        let attempt = (durable + 1).div_ceil(10) + 1;
        store.put_chunk(1, attempt, &site(), 0, &[1; CHUNK]).unwrap();
        store.append(&[event("d", vec![])]).unwrap();
    }
}
