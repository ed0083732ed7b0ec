//! The ledger's file cut anywhere and changed anywhere. `tests/ledger_crash.rs` kills its process and fills its disk.

use std::{fs, path::Path};

use super::*;
use crate::{
    config::support::{Consortium, id},
    journal::JournalError,
};
use consilium_proto::plan::VerifiedPlan;

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
