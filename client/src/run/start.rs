//! From a checked configuration to a running client.

use std::sync::Arc;

use consilium_proto::ids::Id;
use rand::{rand_core::UnwrapErr, rngs::SysRng};
use thiserror::Error;

use super::{Client, kept_adapter};
use crate::{
    config::{Loaded, trainer_spec},
    data::{DataError, Dataset},
    files::{FileError, FolderLock},
    journal::{Journal, JournalError},
    ledger::{Budget, LedgerError, LedgerFile},
    link::{ConnectError, Target},
    session::{Recorded, Session, Start},
    trainer::{TorchTrainer, TrainError},
};

const JOURNAL: &str = "session.jsonl";

/// Why a client could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// A folder or file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The session's journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The privacy ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The records.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The trainer.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The link.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The plan's arithmetic.
    #[error("the plan's adapter cannot be drawn: {0}")]
    Plan(String),
}

impl Client {
    /// Opens state, ledger, data and model. The lock keeps a second process off the same state; keep it until the end.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn start(loaded: Loaded) -> Result<(Self, FolderLock), StartError> {
        let Loaded { config, identity, roster, plan, model } = loaded;
        let state = config.job_folder(&plan);
        std::fs::create_dir_all(&state).map_err(|source| FileError::io("create", &state, source))?;
        let lock = FolderLock::acquire(&config.state)?;
        config.remember_roster(&roster)?;
        let (journal, events) =
            Journal::open(&state.join(JOURNAL), &belongs_to(&plan.document().job, &identity.id))?;
        let (ledger, spent) = LedgerFile::open(&config.ledger(), &config.data.name, &mut UnwrapErr(SysRng))?;
        let document = plan.document();
        let most = document.task.max_records_per_patient as usize;
        let records = Dataset::load(&config.data.source(), &document.task.labels, most)?;
        let test = match &config.evaluation {
            Some(source) if document.evaluation.organization == identity.id => {
                Some(Dataset::load(source, &document.task.labels, usize::MAX)?)
            }
            _ => None,
        };
        let spec = trainer_spec(document, &config.training);
        let trainer = Box::new(TorchTrainer::new(&model, spec, &records, test.as_ref())?);
        let target = Target::new(&config.coordinator, &identity, roster.clone())?;
        let session = Session::new(Start {
            identity: Arc::new(identity),
            roster,
            plan: plan.clone(),
            ledger: spent,
            budget: config.total_budget().map(|(epsilon, delta)| Budget { epsilon, delta }),
            recorded: Recorded::from_events(&events),
            kept: kept_adapter(&state, &plan)?,
        })
        .map_err(StartError::Plan)?;
        Ok((Self { target, plan, session, journal, ledger, state, trainer }, lock))
    }
}

fn belongs_to(job: &Id, organization: &Id) -> String {
    format!("job {job} of {organization}")
}
