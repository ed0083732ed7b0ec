//! Room on the disk: what a job will take, what an attempt takes, and what is kept free whatever happens.
//!
//! No attempt begins that would touch the reserve, so that what runs can always be finished and what happened can always be recorded.

use std::path::{Path, PathBuf};

use consilium_proto::plan::VerifiedPlan;
use serde::Deserialize;

use crate::store::InputLayout;

/// The `[disk]` table of `coordinator.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Mebibytes that are kept free on the disk of the state folder: 256. No attempt begins that would not leave them.
    pub reserve_mb: u64,
    /// Begin a job although the disk cannot hold all of it: false. It stops at the reserve until there is more room.
    pub start_anyway: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { reserve_mb: 256, start_anyway: false }
    }
}

/// What a plan's attempts and rounds take, bytes; an estimate from above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// One attempt, while it runs: everybody's masked input, the recorded messages, the sum.
    pub attempt: u64,
    /// The whole job at its end, masked inputs that the plan keeps included, and one attempt beside it.
    pub job: u64,
}

/// Bytes that a member's messages take for each member of the cohort: a sealed share with its path, an answer's share, a place in
/// a vote, an advert and its headers in the evidence.
const PAIR: u64 = 1500;
/// Bytes that they take besides.
const MEMBER: u64 = 4096;

impl Forecast {
    /// Of a plan.
    pub fn of(plan: &VerifiedPlan) -> Self {
        let (document, input) = (plan.document(), InputLayout::of_plan(plan.derived()));
        let members = u64::from(document.cohort.organizations);
        let (chunks, sum) = (u64::from(input.chunks()), input.total_bytes() as u64);
        let inputs = members * (sum + 4 * chunks);
        let messages = members * (members * PAIR + MEMBER + 64 * chunks);
        // What is written goes through the write-ahead log first.
        let attempt = inputs + sum + 2 * messages;
        let rounds = u64::from(document.rounds);
        let kept = if document.retention.is_some() { rounds * inputs } else { 0 };
        let attempts = rounds + rounds.div_ceil(10);
        Self { attempt, job: rounds * sum + attempts * messages + kept + attempt }
    }
}

/// The disk of one state folder.
#[derive(Clone, Debug)]
pub struct Disk {
    folder: PathBuf,
    settings: Settings,
    forecast: Forecast,
}

/// Whether an attempt may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Free bytes; none if the system does not say, and then it is not asked for more.
    pub free: Option<u64>,
    /// Bytes that must be free.
    pub needed: u64,
}

impl Room {
    /// Whether there is enough.
    pub fn is_enough(&self) -> bool {
        self.free.is_none_or(|free| free >= self.needed)
    }
}

impl Disk {
    /// The disk that a plan's state lies on.
    pub fn new(folder: &Path, settings: Settings, plan: &VerifiedPlan) -> Self {
        Self { folder: folder.to_owned(), settings, forecast: Forecast::of(plan) }
    }

    /// What the plan takes.
    pub fn forecast(&self) -> Forecast {
        self.forecast
    }

    /// Room for the next attempt; for the whole job while it has not begun.
    pub fn room(&self, begun: bool) -> Room {
        let whole = !begun && !self.settings.start_anyway;
        let wanted = if whole { self.forecast.job } else { self.forecast.attempt };
        Room {
            free: self.free(),
            needed: wanted.saturating_add(self.settings.reserve_mb.saturating_mul(1 << 20)),
        }
    }

    fn free(&self) -> Option<u64> {
        let stat = rustix::fs::statvfs(&self.folder).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
