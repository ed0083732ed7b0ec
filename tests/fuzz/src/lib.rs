//! Fuzz functions: plain `fn(&[u8])`, one for each decoder of bytes from outside, and one that reads its bytes as a program
//! of deliveries against both protocol machines. Each asserts what must hold whatever the bytes are; the least is that
//! nothing panics.
//!
//! The ordinary tests of this package run them over their seeds and over seeded mutations of these ([`Mutator`]);
//! cargo-fuzz wraps the same functions for longer runs (see the README). No target needs libtorch.
// Test code in all but name: a panic is how a target reports.
#![allow(clippy::unwrap_used, missing_docs)]

mod documents;
mod files;
#[path = "../../../crypto/tests/secagg_vectors/inputs.rs"]
#[allow(dead_code, unreachable_pub)]
mod inputs;
mod mutate;
#[path = "../../../crypto/tests/secagg_vectors/run.rs"]
#[allow(dead_code, unreachable_pub)]
mod run;
mod secagg;
mod sequence;
#[path = "../../../client/tests/cli_support/mod.rs"]
#[allow(clippy::duplicate_mod)]
mod support;

pub use mutate::Mutator;

/// One fuzz function.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and its corpus' folder.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]),
    /// Inputs that get far, to mutate.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Mutations in an ordinary test: about two seconds' worth on one core.
    pub runs: u64,
}

/// Every target.
pub const TARGETS: [Target; 24] = [
    target("secagg_client", secagg::client, secagg::client_seeds, 2_500),
    target("secagg_collector", secagg::collector, secagg::collector_seeds, 20_000),
    target("secagg_complaint", secagg::complaint, secagg::complaint_seeds, 4_000),
    target("secagg_record", secagg::record, secagg::record_seeds, 6_000),
    target("secagg_sequence", sequence::sequence, sequence::seeds, 600),
    target("points_and_proofs", secagg::points, secagg::point_seeds, 50_000),
    target("ring", secagg::ring, secagg::ring_seeds, 500_000),
    target("roster", documents::roster, documents::roster_seeds, 50_000),
    target("plan", documents::plan, documents::plan_seeds, 40_000),
    target("signatures", documents::signatures, documents::signature_seeds, 300_000),
    target("identity", documents::identity, documents::identity_seeds, 80_000),
    target("announcement", documents::announcement, documents::announcement_seeds, 15_000),
    target("release_head", documents::release_head, documents::release_head_seeds, 15_000),
    target("release_replay", documents::release_replay, documents::release_replay_seeds, 40_000),
    target("adapter_state", documents::adapter_state, documents::adapter_state_seeds, 100_000),
    target("wire", documents::wire_messages, documents::wire_seeds, 500_000),
    target("store_event", documents::store_event, documents::store_event_seeds, 200_000),
    target("safetensors", files::safetensors, files::safetensors_seeds, 3_000),
    target("adapter_folder", files::adapter_folder, files::adapter_folder_seeds, 2_000),
    target("model_folder", files::model_folder, files::model_folder_seeds, 1_000),
    target("records", files::records, files::records_seeds, 3_000),
    target("journal", files::journal, files::journal_seeds, 1_000),
    target("ledger", files::ledger, files::ledger_seeds, 1_000),
    target("client_config", files::client_config, files::client_config_seeds, 5_000),
];

const fn target(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>, runs: u64) -> Target {
    Target { name, run, seeds, runs }
}

/// The target of this name.
pub fn find(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}

/// A first byte that selects, and the rest.
fn select(data: &[u8], choices: usize) -> Option<(usize, &[u8])> {
    let (first, rest) = data.split_first()?;
    Some((usize::from(*first) % choices, rest))
}

fn selected(choice: usize, rest: impl AsRef<[u8]>) -> Vec<u8> {
    [&[choice as u8][..], rest.as_ref()].concat()
}
