//! The end: the line that scripts read, and the file that says what it belongs to.

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::scenario::End;

/// The one line that scripts read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Digest of the adapter that everybody ended with; null if the job did not end.
    pub adapter_digest: Option<String>,
    /// Digest over the whole event log.
    pub log_digest: String,
    /// Rounds with a released sum.
    pub rounds: usize,
    /// Virtual time in all.
    pub virtual_seconds: f64,
    /// Wall time in all.
    pub seconds: f64,
    /// Whether it ended as the scenario says.
    pub expected_end: bool,
}

/// What `result.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Result {
    /// The final line.
    #[serde(flatten)]
    pub line: Line,
    /// How it ended.
    pub end: End,
    /// Why, where there is more to say.
    pub why: Option<String>,
    /// What its attack came to, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attack: Option<crate::attack::Outcome>,
    /// The scenario's name.
    pub name: String,
    /// The seed.
    pub seed: u64,
    /// Digest over everything in the scenario but its name and where files are kept.
    pub scenario_digest: String,
    /// Fingerprint of the plan that followed from it.
    pub plan_digest: String,
    /// Trained parameters.
    pub dimension: usize,
    /// Processor time of the simulation's thread.
    pub cpu_seconds: f64,
    /// What computed it.
    pub versions: Versions,
}

/// What computed a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// Of this software.
    pub consilium: &'static str,
    /// Recipe of the deterministic release.
    pub arithmetic: u32,
    /// Whether libtorch is built in.
    pub torch: bool,
    /// Operating system and processor.
    pub platform: String,
}

impl Versions {
    /// Of this program.
    pub fn own() -> Self {
        Self {
            consilium: env!("CARGO_PKG_VERSION"),
            arithmetic: consilium_crypto::release::ARITHMETIC_VERSION,
            torch: cfg!(feature = "torch"),
            platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

/// Processor time of this thread: a simulation computes in one, libtorch included.
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
