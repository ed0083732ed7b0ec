//! The record of a job: a folder that people who were not in the room can check without asking anybody.
//!
//! | file | what |
//! |---|---|
//! | `contents`, `contents.sig` | every other file with its SHA-256 and length, signed by the coordinator |
//! | `roster.toml` …, `plan.toml`, each with `.sig` | the documents, as the consortium signed them |
//! | `log` | the signed log, entry by entry |
//! | `releases/round-R.head`, `.sum` | what was published: signed head with its evidence, and the sum |
//! | `inputs/round-R-attempt-A/ORG.masked` | masked vectors, where the plan keeps them |
//! | `manifest.json`, `mlbom.cdx.json` | where the adapter comes from |
//!
//! [`export`] writes it from a coordinator's state, also while that is served; [`verify`] believes nothing of it but the roster's
//! pinned fingerprint.

mod adapter;
mod contents;
pub mod export;
mod frames;
pub mod verify;

use consilium_crypto::digest::Digest;

pub(crate) use contents::{CONTENTS, SIGNATURE, measure, walk};
pub use contents::{Contents, Listed};

/// The roster's first version in the folder.
pub const ROSTER: &str = "roster.toml";
/// The plan.
pub const PLAN: &str = "plan.toml";
/// The values that the plan goes on from, where it names some.
pub(crate) const START: &str = "plan.toml.start";
/// The signed log.
pub const LOG: &str = "log";

fn head_path(round: u32) -> String {
    format!("releases/round-{round}.head")
}

fn sum_path(round: u32) -> String {
    format!("releases/round-{round}.sum")
}

fn input_path(round: u32, attempt: u32, org: &str) -> String {
    format!("inputs/round-{round}-attempt-{attempt}/{org}.masked")
}

/// Rounds for which heads are listed, ascending.
fn rounds(contents: &Contents) -> Vec<u32> {
    let round = |path: &str| path.strip_prefix("releases/round-")?.strip_suffix(".head")?.parse().ok();
    let mut rounds: Vec<u32> = contents.paths().filter_map(round).collect();
    rounds.sort_unstable();
    rounds
}

/// What a signature of the coordinator over the contents is made in: the plan, so that no other job's passes.
const SIGNED_AS: &str = "record";

fn context(plan: &Digest) -> Digest {
    *plan
}
