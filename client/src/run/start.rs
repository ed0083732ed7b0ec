//! From a checked configuration to a running client.

use std::{path::Path, sync::Arc};

use consilium_proto::{
    identity::Identity,
    ids::Id,
    plan::VerifiedPlan,
    signed::{Kind, MAX_DOCUMENT_BYTES, fingerprint},
};
use rand::{rand_core::UnwrapErr, rngs::SysRng};
use thiserror::Error;

use super::{Client, Traces, held_of_peers, kept_adapter};
use crate::{
    config::{
        Config, ConfigError, DeltaError, Loaded, Transport, check_delta, delta_of_patients, trainer_spec,
    },
    data::{DataError, Dataset, OptOut},
    decisions::Watch,
    egress::{Destination, Egress},
    files::{self, FileError, FolderLock},
    journal::{Journal, JournalError},
    kept,
    ledger::{Budget, LedgerError, LedgerFile},
    link::{Proxy, ProxyError},
    live::{Live, LiveFile},
    model::ModelFolder,
    policy::Policy,
    recover::behind_journal,
    session::{Event, Recorded, Session, Start, restored},
    trainer::{
        Consenting, ExternalTrainer, Home, Personal, TorchTrainer, TrainError, Trainer, external::Setup,
    },
};

const JOURNAL: &str = "session.jsonl";

/// Why a client could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration, as far as it is looked at last.
    #[error(transparent)]
    Config(Box<ConfigError>),
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
    /// The way to the proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The state is older than what peers hold of it.
    #[error("{0}")]
    Restored(String),
    /// A `δ` that is no promise to this many patients.
    #[error(transparent)]
    Delta(#[from] DeltaError),
    /// The plan's arithmetic, or its text.
    #[error("the plan cannot be used: {0}")]
    Plan(String),
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(Box::new(error))
    }
}

impl Client {
    /// Opens state, ledger, data and model. The lock keeps a second process off the same state; keep it until the end.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn start(loaded: Loaded) -> Result<(Self, FolderLock), StartError> {
        let Loaded { config, policy, identity, roster, plan, model } = loaded;
        let state = config.job_folder(&plan);
        std::fs::create_dir_all(&state).map_err(|source| FileError::io("create", &state, source))?;
        let lock = FolderLock::acquire(&config.state)?;
        config.remember_roster(&roster)?;
        let (mut journal, events) = open_journal(&state, &plan.document().job, &identity.id)?;
        let recorded = Recorded::from_events(&events);
        if !recorded.restored().is_empty() {
            return Err(StartError::Restored(restored(recorded.restored())));
        }
        let (ledger, spent) = LedgerFile::open(&config.ledger(), &config.data.name, &mut UnwrapErr(SysRng))?;
        if let Some(lost) = behind_journal(&events, &spent, &plan) {
            let lost = vec![lost];
            journal.append(&[Event::Restored { lost: lost.clone() }])?;
            return Err(StartError::Restored(restored(&lost)));
        }
        let trainer = trainer(&config, &policy, &identity, &plan, model.as_ref(), true)?;
        let route = config.route()?;
        let destination = Destination {
            coordinator: config.coordinator.clone(),
            proxy: route.proxy().map(|proxy: &Proxy| proxy.address().to_owned()),
        };
        let egress = Egress::open(&config.state, &identity.id, destination, &plan, &spent)?;
        let asks = config.approval.asks();
        let decisions = Watch::new(&config.state, &identity, &plan.document().job, plan.digest(), asks);
        let live = LiveFile::new(&state, Live::new(&plan, "starting"));
        let traces = config.traces.clone().map(|path| Traces::new(path, &plan, identity.id.clone()));
        let identity = Arc::new(identity);
        let target = config.target(route, &identity, &roster, &plan.digest())?;
        if config.transport == Transport::Inspected {
            tracing::warn!(
                event = "inspected",
                "what is sent can be read by the box that opens TLS on the way"
            );
        }
        let session = Session::new(Start {
            identity,
            roster,
            plan: plan.clone(),
            ledger: spent,
            budget: policy.total_budget().map(|(epsilon, delta)| Budget { epsilon, delta }),
            budget_everybody_else: policy
                .total_budget_everybody_else()
                .map(|(epsilon, delta)| Budget { epsilon, delta }),
            recorded,
            held: held_of_peers(&config.state)?,
            kept: kept_adapter(&state, &plan)?,
            newest: kept::newest(&state)?,
        })
        .map_err(StartError::Plan)?;
        let client = Self {
            target,
            plan,
            policy,
            session,
            journal,
            ledger,
            egress,
            decisions,
            live,
            state,
            trainer,
            traces,
        };
        Ok((client, lock))
    }
}

/// The trainer: the built-in one over the records (and the test set, if this organization evaluates), or the way to one outside
/// the client. Without `keeps`, a head that stays at home learns nothing from it: a rehearsal leaves no trace.
///
/// # Errors
///
/// [`StartError`].
pub fn trainer(
    config: &Config,
    policy: &Policy,
    identity: &Identity,
    plan: &Arc<VerifiedPlan>,
    model: Option<&ModelFolder>,
    keeps: bool,
) -> Result<Box<dyn Trainer>, StartError> {
    let document = plan.document();
    let check = |patients: &Dataset| {
        check_delta(delta_of_patients(&document.privacy), policy.total_budget(), patients.patients())
    };
    if let Some(external) = &config.external {
        // It has the records; the client knows the patients.
        let patients = Dataset::load_patients(&config.data.source())?;
        check(&patients)?;
        let folder = config.job_folder(plan);
        let trainer = ExternalTrainer::new(Setup {
            plan,
            plan_text: plan_text(config, plan)?,
            place: external.place()?,
            patients: patients.patient_ids(),
            answer: external.answer(),
            digest: external.digest,
            // Absent in a rehearsal, which leaves no trace.
            folder: folder.is_dir().then_some(folder.as_path()),
        })?;
        return Ok(consenting(trainer, config, &patients));
    }
    let task = &document.task;
    let most = task.max_records_per_patient as usize;
    let records = Dataset::load_for(&config.data.source(), task.kind, &task.labels, most)?;
    check(&records)?;
    let test = match &config.evaluation {
        Some(source) if document.evaluation.organization == identity.id => {
            Some(Dataset::load_for(source, task.kind, &task.labels, usize::MAX)?)
        }
        _ => None,
    };
    let spec = trainer_spec(document, &config.training);
    let trainer = TorchTrainer::new(model.ok_or(ConfigError::NoModel)?, spec, &records, test.as_ref())?;
    let home = Home::open(plan, &config.job_folder(plan), keeps).map_err(TrainError::AtHome)?;
    Ok(match home {
        Some(home) => consenting(Personal::new(trainer, home, plan), config, &records),
        None => consenting(trainer, config, &records),
    })
}

fn consenting<T: Trainer + 'static>(trainer: T, config: &Config, data: &Dataset) -> Box<dyn Trainer> {
    match &config.data.opt_out {
        Some(path) => Box::new(Consenting::new(trainer, OptOut::new(path.clone(), data))),
        None => Box::new(trainer),
    }
}

/// The plan's text, byte for byte as it was verified.
///
/// # Errors
///
/// When the file has changed since.
pub fn plan_text(config: &Config, plan: &VerifiedPlan) -> Result<String, StartError> {
    let text = files::read_text(&config.plan, MAX_DOCUMENT_BYTES as u64)?;
    if fingerprint(Kind::Plan, &text) == plan.digest() {
        return Ok(text);
    }
    Err(StartError::Plan("its file has just been changed; start again".into()))
}

/// The session's journal in a job's folder.
///
/// # Errors
///
/// [`JournalError`].
pub fn open_journal(
    folder: &Path,
    job: &Id,
    organization: &Id,
) -> Result<(Journal<Event>, Vec<Event>), JournalError> {
    Journal::open(&folder.join(JOURNAL), &belongs_to(job, organization))
}

fn belongs_to(job: &Id, organization: &Id) -> String {
    format!("job {job} of {organization}")
}
