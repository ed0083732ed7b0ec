//! What the running client is doing, in a file beside its journals: what `status` and `metrics` show without asking anybody.
//!
//! It is rewritten whole whenever something changes, and promises nothing: what must not be forgotten stands in the journals.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use consilium_proto::plan::VerifiedPlan;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};

/// Name of the file in a job's folder.
pub const LIVE_FILE: &str = "live.json";
const MAX_BYTES: u64 = 1 << 20;

/// What a client is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Live {
    /// The process.
    pub pid: u32,
    /// Version of its software.
    pub software: String,
    /// Fingerprint of the plan.
    pub plan: String,
    /// When it started.
    pub started: Timestamp,
    /// When this was written.
    pub written: Timestamp,
    /// What it does: `waiting-for-approval`, `dialling`, `connected`, `paused`, `ended`.
    pub phase: String,
    /// Since when.
    pub since: Timestamp,
    /// Why the last connection ended.
    pub last_error: Option<String>,
    /// When something was heard last.
    pub heard: Option<Timestamp>,
    /// Round and attempt that it joined last; 0: none.
    pub round: u32,
    /// Attempt.
    pub attempt: u32,
    /// What it said last in that attempt.
    pub reached: String,
    /// The last round whose adapter it has computed.
    pub applied_round: u32,
    /// Attempts joined since it started.
    pub joined: u64,
    /// Attempts declined or left since then, by code.
    pub declined: BTreeMap<String, u64>,
    /// Connections lost since then.
    pub disconnects: u64,
}

impl Live {
    /// A process that has just started.
    pub fn new(plan: &VerifiedPlan, phase: &str) -> Self {
        let now = Timestamp::now();
        Self {
            pid: std::process::id(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
            plan: plan.digest().to_string(),
            started: now,
            written: now,
            phase: phase.to_owned(),
            since: now,
            last_error: None,
            heard: None,
            round: 0,
            attempt: 0,
            reached: String::new(),
            applied_round: 0,
            joined: 0,
            declined: BTreeMap::new(),
            disconnects: 0,
        }
    }

    /// Reads what was written last in a job's folder, if anything was.
    pub fn read(folder: &Path) -> Option<Self> {
        let text = files::read_text(&folder.join(LIVE_FILE), MAX_BYTES).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Changes what it does.
    pub fn turn(&mut self, phase: &str) {
        if self.phase != phase {
            (self.phase, self.since) = (phase.to_owned(), Timestamp::now());
        }
    }

    /// Notes an attempt declined or left.
    pub fn decline(&mut self, code: &str) {
        *self.declined.entry(code.to_owned()).or_default() += 1;
    }
}

/// The file, and what was written into it.
#[derive(Debug)]
pub struct LiveFile {
    path: PathBuf,
    written: Option<Live>,
    /// What is to be written.
    pub live: Live,
}

impl LiveFile {
    /// The file in a job's folder.
    pub fn new(folder: &Path, live: Live) -> Self {
        Self { path: folder.join(LIVE_FILE), written: None, live }
    }

    /// Writes what has changed.
    ///
    /// # Errors
    ///
    /// [`FileError::Io`].
    pub fn flush(&mut self) -> Result<(), FileError> {
        if self.written.as_ref() == Some(&self.live) {
            return Ok(());
        }
        self.live.written = Timestamp::now();
        // Unwrap safety: plain fields serialize to JSON.
        let text = serde_json::to_string(&self.live).unwrap_or_default();
        files::write_whole(&self.path, text.as_bytes())?;
        self.written = Some(self.live.clone());
        Ok(())
    }
}
