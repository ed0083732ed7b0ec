//! Test builds only: keeps what was encoded beside the state, so that a test can compare the released sum with the plain
//! sum of what the survivors encoded. Release binaries are built without this module.

use std::path::Path;

use consilium_crypto::ring::RingVector;

pub(super) fn keep(folder: &Path, round: u32, attempt: u32, update: &RingVector) {
    let bytes: Vec<u8> = update.values().iter().flat_map(|value| value.to_le_bytes()).collect();
    let path = folder.join(format!("encoded-{round}-{attempt}.u32"));
    if let Err(error) = std::fs::write(&path, bytes) {
        tracing::error!(%error, "the test hook could not write");
    }
}

/// Makes training last as long as the environment says, so that a test can kill a client in the middle of it.
pub(super) fn pause() {
    let wanted = std::env::var("CONSILIUM_TEST_TRAIN_MS").ok().and_then(|text| text.parse().ok());
    std::thread::sleep(std::time::Duration::from_millis(wanted.unwrap_or(0)));
}
