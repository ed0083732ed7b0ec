//! The ledger's process killed at any instant, and its disk full: by real processes, and by the operating system's own refusal.
#![allow(clippy::unwrap_used)]

mod cli_support;

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use cli_support::{Consortium, id};
use consilium_client::ledger::{Debit, LEDGER_FILE, LedgerError, LedgerFile, LedgerState};

const CHILD: &str = "CONSILIUM_TEST_LEDGER";
const DEBIT: &str = "CONSILIUM_TEST_DEBIT";

/// One test at a time: a process that is being started holds this one's open files, and their locks, for a moment.
static ALONE: Mutex<()> = Mutex::new(());

fn first_debit() -> Debit {
    Debit::of(&Consortium::new().verified().1, 1, 1)
}

fn open(path: &Path) -> Result<(LedgerFile, LedgerState), LedgerError> {
    LedgerFile::open(path, &id("titles"), &mut rand::rng())
}

/// Not a test of its own: the process that the next tests kill or starve. Says every debit once it is confirmed.
#[test]
#[ignore = "the other tests start it"]
fn child() {
    let (Ok(path), Ok(debit)) = (env::var(CHILD), env::var(DEBIT)) else { return };
    let debit: Debit = serde_json::from_str(&debit).unwrap();
    let (mut file, state) = open(Path::new(&path)).unwrap();
    println!("opened {}", state.length());
    for round in state.length() as u32 + 1..=200_000 {
        match file.append(&Debit { round, ..debit.clone() }) {
            Ok(()) => println!("confirmed {round}"),
            Err(error) => {
                println!("failed {error}");
                return;
            }
        }
    }
}

fn start(path: &Path, debit: &Debit, limit: Option<u64>) -> Command {
    let limit = limit.map_or(String::new(), |blocks| format!("trap '' XFSZ; ulimit -f {blocks}; "));
    let mut command = Command::new("bash");
    command
        .arg("-c")
        .arg(format!("{limit}exec \"$0\" child --exact --ignored --nocapture"))
        .arg(env::current_exe().unwrap())
        .env(CHILD, path)
        .env(DEBIT, serde_json::to_string(debit).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

#[test]
fn a_process_killed_at_any_instant_leaves_every_confirmed_debit_and_at_most_one_more() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(LEDGER_FILE);
    let (debit, mut confirmed) = (first_debit(), 0);
    for kill in 0..12 {
        let mut child = start(&path, &debit, None).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // Killed while it goes on: between a confirmation and the next, wherever the two processes happen to be.
        let until = confirmed + 1 + kill * 3;
        for line in lines.by_ref() {
            let Some(round) = line.strip_prefix("confirmed ") else { continue };
            confirmed = round.parse::<u64>().unwrap();
            if confirmed >= until {
                break;
            }
        }
        child.kill().unwrap();
        let rest =
            lines.filter_map(|line| line.strip_prefix("confirmed ").and_then(|round| round.parse().ok()));
        confirmed = rest.last().unwrap_or(confirmed);
        child.wait().unwrap();
        let (_, state) = open(&path).unwrap();
        assert!(
            (confirmed..=confirmed + 1).contains(&state.length()),
            "{confirmed} were confirmed, {} are there",
            state.length()
        );
        let rounds: Vec<u32> = state.debits().iter().map(|debit| debit.round).collect();
        assert_eq!(rounds, (1..=state.length() as u32).collect::<Vec<_>>());
        confirmed = state.length();
    }
}

#[test]
fn a_disk_that_is_full_confirms_nothing_that_it_does_not_hold() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (folder, debit) = (tempfile::tempdir().unwrap(), first_debit());
    for blocks in 1..=12 {
        let path = folder.path().join(format!("{blocks}-{LEDGER_FILE}"));
        open(&path).unwrap();
        // The operating system refuses to let the file grow past so many blocks of 1024 bytes, in the middle of a line.
        let out = start(&path, &debit, Some(blocks)).output().unwrap();
        let out = String::from_utf8(out.stdout).unwrap();
        let confirmed = out.lines().filter(|line| line.starts_with("confirmed ")).count() as u64;
        let failed = out.lines().find(|line| line.starts_with("failed ")).unwrap_or_else(|| panic!("{out}"));
        assert!(failed.contains("nothing was recorded and nothing was sent"), "{failed}");
        let (mut file, state) = open(&path).unwrap();
        assert_eq!((state.length(), file.torn()), (confirmed, None), "the half-written line was cut off");
        file.append(&Debit { round: confirmed as u32 + 1, ..debit.clone() }).unwrap();
    }
}
