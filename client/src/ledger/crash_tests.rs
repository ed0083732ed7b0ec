//! The ledger against everything that can happen to its file: cut anywhere, killed at any instant, on a disk that is full.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use super::*;
use crate::{
    config::support::{Consortium, id},
    journal::JournalError,
};
use consilium_proto::plan::VerifiedPlan;

const CHILD: &str = "CONSILIUM_TEST_LEDGER";
const DEBIT: &str = "CONSILIUM_TEST_DEBIT";

fn plan() -> VerifiedPlan {
    Consortium::new().verified().1
}

fn open(path: &Path) -> Result<(LedgerFile, LedgerState), LedgerError> {
    LedgerFile::open(path, &id("titles"), &mut rand::rng())
}

#[test]
fn a_ledger_cut_at_any_byte_gives_back_a_prefix_or_an_error_and_never_anything_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(LEDGER_FILE);
    let plan = plan();
    let (mut file, mut state) = open(&path).unwrap();
    for round in 1..=4 {
        let debit = Debit::of(&plan, round, 1);
        state.debit(debit.clone()).unwrap();
        file.append(&debit).unwrap();
    }
    drop(file);
    let whole = fs::read(&path).unwrap();
    let mut opened = 0;
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let lines = whole[..cut].iter().filter(|&&byte| byte == b'\n').count();
        match open(&path) {
            // Line 1 names the owner, line 2 draws the salt: without the second it was never anybody's ledger.
            Ok((_, cut_off)) if lines < 2 => assert_eq!((cut_off.length(), lines), (0, 1), "cut at {cut}"),
            Ok((file, cut_off)) => {
                opened += 1;
                assert_eq!(cut_off.length(), lines as u64 - 2, "cut at {cut}");
                assert_eq!(cut_off.debits(), &state.debits()[..lines - 2], "cut at {cut}");
                assert_eq!(file.torn().is_some(), !whole[..cut].ends_with(b"\n"), "cut at {cut}");
                // Nothing here can tell that later entries are gone. Peers can: they hold a longer ledger's head.
                let told = state.head();
                let seems_whole = cut_off.told_at(told.length) == Some(told.salted_head);
                assert_eq!(seems_whole, lines == 6, "cut at {cut}");
            }
            Err(LedgerError::Journal(JournalError::Damaged { line: 1, .. })) => assert_eq!(lines, 0),
            Err(error) => panic!("cut at {cut}: {error}"),
        }
    }
    assert!(opened > whole.len() / 2);
}

#[test]
fn a_ledger_whose_bytes_change_is_never_a_cheaper_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(LEDGER_FILE);
    let plan = plan();
    let (mut file, _) = open(&path).unwrap();
    (1..=3).for_each(|round| file.append(&Debit::of(&plan, round, 1)).unwrap());
    drop(file);
    let whole = fs::read(&path).unwrap();
    let last = whole[..whole.len() - 1].iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
    for index in 0..last {
        let mut bent = whole.clone();
        bent[index] ^= 1;
        fs::write(&path, &bent).unwrap();
        assert!(open(&path).is_err(), "byte {index}");
        assert!(LedgerFile::read(&path, &id("titles")).is_err(), "byte {index}");
    }
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
        .arg(format!("{limit}exec \"$0\" ledger::crash_tests::child --exact --ignored --nocapture"))
        .arg(env::current_exe().unwrap())
        .env(CHILD, path)
        .env(DEBIT, serde_json::to_string(debit).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

#[test]
fn a_process_killed_at_any_instant_leaves_every_confirmed_debit_and_at_most_one_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(LEDGER_FILE);
    let (debit, mut confirmed) = (Debit::of(&plan(), 1, 1), 0);
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
    let (folder, debit) = (tempfile::tempdir().unwrap(), Debit::of(&plan(), 1, 1));
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
