//! The client as a process: the session's loop, its journal and ledger, the link and the training thread.
//!
//! One loop owns the session and executes its effects in order; a record or a debit is on the disk before the next effect
//! runs. Nothing here decides anything.

#[cfg(feature = "test-hooks")]
mod hook;
pub mod lot;
#[cfg(feature = "torch")]
mod start;
mod worker;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use consilium_crypto::release::AdapterState;
use consilium_proto::plan::VerifiedPlan;
use rand::{rand_core::UnwrapErr, rngs::SysRng};
use thiserror::Error;

use crate::{
    files::{self, FileError},
    journal::{Journal, JournalError},
    ledger::{LedgerError, LedgerFile},
    link::{Link, LinkEvent, Target},
    policy::Policy,
    session::{Effect, Event, Held, Input, Session},
    trainer::Trainer,
};
#[cfg(feature = "torch")]
pub use start::{StartError, open_journal};
use worker::Worker;

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
    /// Where the adapter is kept between starts.
    pub state: PathBuf,
    /// Who trains.
    pub trainer: Box<dyn Trainer>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every round is done and applied.
    Finished,
    /// It was asked to stop.
    Interrupted,
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

impl Client {
    /// Takes part until the job is over, `shutdown` completes, or something cannot be recorded.
    ///
    /// # Errors
    ///
    /// [`RunError`]. Whatever it is, what was recorded stays true and a later start goes on from there.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<Outcome, RunError> {
        let (mut worker, mut reports) = Worker::start(
            self.plan.clone(),
            self.trainer,
            #[cfg(feature = "test-hooks")]
            self.state.clone(),
        )
        .map_err(RunError::Thread)?;
        let mut link = Link::start(self.target);
        let sum_bytes = self.plan.derived().ring.packed_len(self.plan.derived().vector_len);
        tokio::pin!(shutdown);
        loop {
            let input = tokio::select! {
                () = &mut shutdown => {
                    tracing::info!(event = "interrupted");
                    return Ok(Outcome::Interrupted);
                }
                Some(report) = reports.recv() => report,
                event = link.next() => match event {
                    Some(LinkEvent::Connected) => Input::Connected,
                    Some(LinkEvent::Heard(heard)) => Input::Heard(heard),
                    Some(LinkEvent::Release { head, sum }) => Input::Release { head, sum },
                    Some(LinkEvent::ReleasesEnded) => Input::ReleasesEnded,
                    Some(LinkEvent::Disconnected { why, retry }) => {
                        tracing::warn!(event = "disconnected", why, retry_ms = retry.as_millis() as u64);
                        Input::Disconnected
                    }
                    None => return Err(RunError::Stopped("the link ended".into())),
                },
            };
            self.session.bar(self.policy.allows_at(unix_s()).err().map(|line| ("hours", line.to_string())));
            for effect in self.session.handle(input, &mut UnwrapErr(SysRng)) {
                match effect {
                    Effect::Record(event) => self.journal.append(&[event])?,
                    Effect::Debit(debit) => self.ledger.append(&debit)?,
                    Effect::KeepPeers(bytes) => files::write_atomic(&self.state.join(PEERS), &bytes)?,
                    Effect::Say(say) => link.say(say).await,
                    Effect::Train { round, attempt, adapter } => {
                        tracing::info!(event = "joined", round, attempt);
                        worker.train(round, attempt, adapter);
                    }
                    Effect::StopTraining => worker.stop_training(),
                    Effect::Upload { round, attempt, chunks, from } => {
                        link.upload(round, attempt, chunks, from).await
                    }
                    Effect::Fetch { from_round } => link.fetch(from_round, sum_bytes).await,
                    Effect::Applied { round, adapter, metrics, survivors } => {
                        let mut bytes = round.to_le_bytes().to_vec();
                        bytes.extend(adapter.to_bytes());
                        files::write_atomic(&self.state.join(KEPT), &bytes)?;
                        tracing::info!(
                            event = "applied",
                            round,
                            survivors,
                            train_loss = metrics.loss,
                            train_accuracy = metrics.accuracy,
                            adapter = %adapter.adapter_digest(),
                        );
                    }
                    Effect::Evaluate { round, adapter } => worker.evaluate(round, adapter),
                    Effect::Declined { round, attempt, code, why } => {
                        tracing::warn!(event = "declined", round, attempt, code, why);
                    }
                    Effect::Outlook { round, attempt, last_round, outlook } => tracing::info!(
                        event = "budget",
                        round,
                        attempt,
                        epsilon_after = outlook.epsilon_after,
                        total_after = outlook.total_after,
                        last_round = last_round.min(self.plan.document().rounds.into()),
                    ),
                    Effect::Reached { round, attempt, what } => tracing::info!(event = what, round, attempt),
                    Effect::Finished => {
                        tracing::info!(event = "finished");
                        return Ok(Outcome::Finished);
                    }
                    Effect::Stop(why) if self.session.is_restored() => return Err(RunError::Restored(why)),
                    Effect::Stop(why) => return Err(RunError::Stopped(why)),
                }
            }
        }
    }
}
