//! The client as a process: the session's loop, its journal and ledger, the link and the training thread.
//!
//! One loop (`driver`) owns the session and executes its effects in order; a record or a debit is on the disk before the next effect
//! runs. Nothing here decides anything.

mod driver;
#[cfg(feature = "test-hooks")]
mod hook;
#[cfg(not(feature = "test-hooks"))]
mod hook {
    //! Where test builds may die.
    pub(super) fn durable<T>(_: &'static str, write: impl FnOnce() -> T) -> T {
        write()
    }
}
mod local;
pub mod lot;
#[cfg(feature = "torch")]
mod start;
mod traces;
mod worker;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use consilium_crypto::release::AdapterState;
use consilium_proto::plan::VerifiedPlan;
use thiserror::Error;

use crate::{
    decisions::{Decided, DecisionError, Watch},
    egress::{Egress, EgressError},
    files::FileError,
    journal::{Journal, JournalError},
    ledger::{LedgerError, LedgerFile},
    link::Target,
    live::LiveFile,
    policy::Policy,
    session::{Event, Held, Session},
    trainer::Trainer,
};
#[cfg(feature = "torch")]
pub use start::{StartError, open_journal, plan_text, trainer};
pub use traces::Traces;

/// What a running client is made of.
pub struct Client {
    /// Whom to dial.
    pub target: Target,
    /// What is done.
    pub plan: Arc<VerifiedPlan>,
    /// What this organization allows.
    pub policy: Policy,
    /// The session, at its start.
    pub session: Session,
    /// Its journal.
    pub journal: Journal<Event>,
    /// The data set's ledger.
    pub ledger: LedgerFile,
    /// The journal of what leaves.
    pub egress: Egress,
    /// What people here decide about the plan.
    pub decisions: Watch,
    /// What it is doing, for `status`.
    pub live: LiveFile,
    /// Where the adapter is kept between starts.
    pub state: PathBuf,
    /// Who trains.
    pub trainer: Box<dyn Trainer>,
    /// Where spans go, if anywhere.
    pub traces: Option<Traces>,
}

/// Why a client stopped before the job's end.
#[derive(Debug, Error)]
pub enum RunError {
    /// The journal cannot record.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The ledger cannot record.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// What leaves cannot be recorded, and so nothing does.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// What people here decided cannot be read.
    #[error(transparent)]
    Decision(#[from] DecisionError),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The training thread could not be started.
    #[error("the training thread could not be started: {0}")]
    Thread(std::io::Error),
    /// The state is older than what peers hold of it.
    #[error("{0}")]
    Restored(String),
    /// The coordinator is not to be worked with.
    #[error("{0}")]
    Stopped(String),
}

/// How a client ended without an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every round is done and applied.
    Finished,
    /// The process was asked to end.
    Interrupted,
    /// A person at this organization stopped it, left the job or rejected the plan.
    Ended(Decided),
}

/// Seconds since 1970 by this machine's clock, which may be anywhere.
fn unix_s() -> i64 {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => seconds(since),
        Err(before) => -seconds(before.duration()),
    }
}

/// Peers' adverts, in a job's folder.
const PEERS: &str = "peers.bin";

/// What is kept of the peers, of all jobs in a state folder.
///
/// # Errors
///
/// [`FileError`] when the folder or a file cannot be read, or a file is damaged.
pub fn held_of_peers(state: &Path) -> Result<Held, FileError> {
    let mut held = Held::default();
    let folders = std::fs::read_dir(state).map_err(|source| FileError::io("read", state, source))?;
    for folder in folders {
        let path = folder.map_err(|source| FileError::io("read", state, source))?.path().join(PEERS);
        if path.is_file() {
            let bytes = std::fs::read(&path).map_err(|source| FileError::io("read", &path, source))?;
            let damaged =
                |bad: crate::session::BadHeld| std::io::Error::new(std::io::ErrorKind::InvalidData, bad);
            held.extend(Held::read(&bytes).map_err(|bad| FileError::io("read", &path, damaged(bad)))?);
        }
    }
    Ok(held)
}

const KEPT: &str = "adapter.bin";

/// The adapter that was kept in a state folder, with its round.
///
/// # Errors
///
/// [`FileError`] when the file cannot be read. A file that does not fit the plan counts as none: the published sums
/// give the adapter again.
pub fn kept_adapter(state: &Path, plan: &VerifiedPlan) -> Result<Option<(u32, AdapterState)>, FileError> {
    let path = state.join(KEPT);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = std::fs::read(&path).map_err(|source| FileError::io("read", &path, source))?;
    let Some((round, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    Ok(AdapterState::from_bytes(&plan.derived().manifest, rest)
        .ok()
        .map(|state| (u32::from_le_bytes(*round), state)))
}
