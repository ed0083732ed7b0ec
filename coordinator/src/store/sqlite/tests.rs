//! What only the inside can show: the durability settings, and a disk that is full.

use super::*;
use crate::store::InputLayout;

fn job() -> StoredJob {
    StoredJob { plan: Digest([1; 32]), input: InputLayout::new(48, 101).unwrap() }
}

fn event(body: Vec<u8>) -> NewEvent {
    NewEvent { round: 1, attempt: 1, kind: "a".into(), body, at_ms: 1 }
}

#[test]
fn commits_are_synced() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path(), &job()).unwrap();
    let pragma = |name: &str| -> String {
        let value: rusqlite::types::Value =
            store.database.pragma_query_value(None, name, |row| row.get(0)).unwrap();
        format!("{value:?}")
    };
    assert_eq!(pragma("journal_mode"), r#"Text("wal")"#);
    assert_eq!(pragma("synchronous"), "Integer(2)", "2 is FULL");
    assert_eq!(pragma("foreign_keys"), "Integer(1)");
}

#[test]
fn a_full_disk_loses_nothing_and_takes_nothing_by_halves() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(folder.path(), &job()).unwrap();
    store.append(&[event(vec![1])]).unwrap();
    let pages: i64 = store.database.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store.database.pragma_update(None, "max_page_count", pages + 2).unwrap();
    let error = store.append(&[event(vec![2]), event(vec![3; 100_000])]).unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    store.database.pragma_update(None, "max_page_count", pages + 1000).unwrap();
    store.append(&[event(vec![4])]).unwrap();
    drop(store);
    let store = SqliteStore::open(folder.path(), &job()).unwrap();
    let mut bodies = Vec::new();
    store
        .replay(&mut |event| {
            bodies.push((event.sequence, event.body));
            Ok(())
        })
        .unwrap();
    assert_eq!(bodies, [(1, vec![1]), (2, vec![4])]);
}

#[test]
fn a_sum_that_does_not_fit_leaves_no_release() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(folder.path(), &job()).unwrap();
    let row = |sum| ReleaseRow { round: 1, head: vec![1], signature: vec![2], sum };
    // A device that is always full, in the place where the sum is written first.
    let beside = folder.path().join("sums/round-1.sum.new");
    std::os::unix::fs::symlink("/dev/full", &beside).unwrap();
    let error = store.put_release(&[event(vec![1])], &row(vec![7; 9000])).unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    assert_eq!((store.releases_from(1).unwrap(), store.events()), (vec![], 0));
    let _ = std::fs::remove_file(&beside);
    store.put_release(&[event(vec![1])], &row(vec![7; 9000])).unwrap();
    assert_eq!(store.release(1).unwrap().unwrap().sum, vec![7; 9000]);
}
