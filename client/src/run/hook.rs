//! Test builds only: keeps what was encoded beside the state, so that a test can compare the released sum with the plain
//! sum of what the survivors encoded; tells what is said; dies where a test wants it to; draws lots as a simulation did. Release
//! binaries are built without this module.

use std::path::Path;

use chacha20::{ChaCha20Rng, rand_core::SeedableRng as _};
use consilium_crypto::{digest::Digest, ring::RingVector};
use consilium_proto::wire::client_message::Kind as Say;

/// Makes something durable, and dies just before or after where `CONSILIUM_TEST_DIE` says so: `debit:before`, `voted:after`.
pub(super) fn durable<T>(what: &'static str, write: impl FnOnce() -> T) -> T {
    die_at(what, "before");
    let written = write();
    die_at(what, "after");
    written
}

fn die_at(what: &'static str, when: &str) {
    if std::env::var("CONSILIUM_TEST_DIE").is_ok_and(|wanted| wanted == format!("{what}:{when}")) {
        tracing::warn!(event = "dies", what, when);
        // Like SIGKILL: nothing of this process runs after it.
        std::process::abort();
    }
}

/// Tells what is about to be said in a step of an attempt.
pub(super) fn says(say: &Say) {
    if let Say::Protocol(message) = say {
        let digest = Digest::of(&message.body);
        tracing::info!(event = "says", round = message.round, attempt = message.attempt, step = message.step, %digest);
    }
}

/// Tells that masked bytes are about to leave, and which.
pub(super) fn uploads(round: u32, attempt: u32, chunks: &[Vec<u8>]) {
    let digest = Digest::of(&chunks.concat());
    tracing::info!(event = "uploads", round, attempt, %digest);
}

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

/// What a lot is drawn from, where a test says so: the file that `CONSILIUM_TEST_LOT_SEEDS` names has lines of round, attempt and 32
/// bytes in hexadecimal digits.
pub(super) fn lot_generator(round: u32, attempt: u32) -> Option<ChaCha20Rng> {
    let text = std::fs::read_to_string(std::env::var_os("CONSILIUM_TEST_LOT_SEEDS")?).ok()?;
    let wanted = format!("{round} {attempt} ");
    let seed = hex::decode(text.lines().find_map(|line| line.strip_prefix(&wanted))?).ok()?;
    Some(ChaCha20Rng::from_seed(seed.try_into().ok()?))
}
