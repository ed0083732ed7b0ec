//! A trainer of the organization's own, in another process: any model, any framework.
//!
//! The client dials it (`link.rs`) and asks; it answers with a sum over patients whose vectors *it* has clipped and rounded, with a change
//! of weights, or with scores. `trainer.proto` is the contract.
//!
//! **What it is trusted with:** this organization's own records, and the clip. It has none of the organization's keys, opens no
//! connection (it listens), sees no other organization's data, and adds no noise: the client draws the lot from the operating
//! system's generator and adds the noise to what comes back. **What is checked** of every answer (`answer.rs`): that it belongs to this
//! question, names and shapes of its tensors, its length, finite numbers, zeros where a round lets a factor rest; and that a sum is no
//! longer than `Δ · patients`, which every sum of clipped vectors keeps to. That each single patient was clipped nobody can see in a sum, so the manifest says who
//! answers for it.
//!
//! **What it can cost:** an attempt. Whatever breaks, is late or is refused ends the attempt for this organization with a
//! named error; the round goes on without it if the plan's minimum of survivors is there, and waits or fails as the plan says if not. The
//! next attempt begins with a new connection.

mod answer;
mod error;
mod link;
mod seen;
#[cfg(test)]
mod tests;
pub mod tls;

use std::{
    future::Future,
    ops::Range,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use consilium_crypto::digest::Digest;
use consilium_proto::{
    TRAINER_VERSION,
    plan::{PrivacyUnit, VerifiedPlan},
    trainer_wire::{
        Clipping, DeltaTask, EvaluateTask, OpenRequest, Patients, Question, QuestionPart, SumTask, Tensor,
        question::Task, question_part::Part, trainer_client::TrainerClient,
    },
};
use rand::{TryRng as _, rngs::SysRng};
use tonic::{Status, transport::Channel};

use self::answer::{Answered, Reader, Wanted, shortened};
use super::{Attempt, ClippedSum, Evaluation, OwnDelta, PatientGradient, TrainError, Trainer};
use crate::{files::FileError, model::AdapterTensors};

pub use error::{ExternalError, Problem};
pub use link::Place;
pub use seen::{SEEN, SeenTrainer, read_seen};

/// Bytes of values in one message.
const PART_BYTES: usize = 1 << 20;
/// Ids in one message: of at most 1 KiB each.
const PART_IDS: usize = 1000;
/// How often it is asked whether anybody still waits.
const LOOK: Duration = Duration::from_millis(100);

/// What a trainer outside this process is asked with.
pub struct Setup<'a> {
    /// The plan.
    pub plan: &'a Arc<VerifiedPlan>,
    /// Its text, as it was signed.
    pub plan_text: String,
    /// Where it listens.
    pub place: Place,
    /// Ids of this organization's patients, by their numbers.
    pub patients: Vec<String>,
    /// Longest wait for one answer; absent: the plan's time for the step.
    pub answer: Option<Duration>,
    /// The only code that is asked, if the config pins one.
    pub digest: Option<Digest>,
    /// The job's folder, where it is noted who was asked; absent where nothing comes of it.
    pub folder: Option<&'a Path>,
}

/// The client's side of a trainer outside this process.
pub struct ExternalTrainer {
    place: Place,
    open: OpenRequest,
    /// Of `open`, those that are trained.
    trained: Vec<Tensor>,
    dimension: usize,
    /// `Δ`, for the width of a sum's values.
    bound: f64,
    /// What a delta is asked for with.
    local: DeltaTask,
    patients: Vec<String>,
    answer: Duration,
    digest: Option<Digest>,
    seen: seen::Seen,
    attempt: Option<Attempt>,
    connection: Option<TrainerClient<Channel>>,
    /// Made on the thread that trains, which is none of another runtime's.
    runtime: Option<tokio::runtime::Runtime>,
}

impl ExternalTrainer {
    /// Dials nobody yet.
    ///
    /// # Errors
    ///
    /// A record of earlier trainers that cannot be read.
    pub fn new(setup: Setup<'_>) -> Result<Self, FileError> {
        let Setup { plan, plan_text, place, patients, answer, digest, folder } = setup;
        let (document, derived) = (plan.document(), plan.derived());
        let encoding = &derived.encoding;
        let sums = matches!(document.privacy.unit, PrivacyUnit::Patient | PrivacyUnit::PatientLocal);
        let clipping = Clipping {
            limit: encoding.gradient_limit(),
            scale: encoding.params().scale,
            bound_squared: encoding.integer_bound_squared(),
            metric_unit: encoding.metric_unit(),
            loss_max: encoding.params().loss_max,
        };
        let tensors: Vec<Tensor> = (derived.manifest.tensors().iter())
            .map(|spec| Tensor { name: spec.name.clone(), shape: spec.shape.clone(), trained: spec.trained })
            .collect();
        let local = document.privacy.local.as_ref().map(|local| DeltaTask {
            steps: local.steps,
            learning_rate: local.learning_rate,
            sampling_rate: document.privacy.sampling_rate,
            proximal: local.proximal,
        });
        Ok(Self {
            place,
            trained: tensors.iter().filter(|tensor| tensor.trained).cloned().collect(),
            open: OpenRequest {
                version: TRAINER_VERSION,
                job: document.job.to_string(),
                plan_digest: plan.digest().0.to_vec(),
                plan: plan_text,
                tensors,
                clipping: sums.then_some(clipping),
            },
            dimension: derived.manifest.dimension(),
            bound: encoding.integer_bound(),
            // Units that ask for deltas have it.
            local: local.unwrap_or_default(),
            patients,
            answer: answer.unwrap_or(Duration::from_secs(document.deadlines.input_s.into())),
            digest,
            seen: seen::Seen::open(folder)?,
            attempt: None,
            connection: None,
            runtime: None,
        })
    }

    /// Asks who it is, and whether it takes the plan.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with it.
    pub fn introduce(&mut self) -> Result<SeenTrainer, TrainError> {
        self.connection = None;
        let (place, digest) = (self.place.clone(), self.digest);
        let opening = open(place, self.open.clone(), digest);
        let (connection, name, digest) = self.wait(opening)?;
        self.connection = Some(connection);
        Ok(SeenTrainer { from_round: self.round(), name, digest: digest.to_string() })
    }

    fn round(&self) -> u32 {
        self.attempt.as_ref().map_or(0, |attempt| attempt.round)
    }

    /// Runs a conversation on this thread, as long as it may take and somebody waits for it.
    fn wait<T>(&mut self, talk: impl Future<Output = Result<T, Problem>>) -> Result<T, TrainError> {
        let runtime = match self.runtime.take() {
            Some(runtime) => Ok(runtime),
            None => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        };
        let result = match runtime {
            Err(error) => Err(Problem::Machine(error)),
            Ok(runtime) => {
                let within = self.within();
                let called_off = called_off(self.attempt.as_ref());
                let result = runtime.block_on(async {
                    tokio::select! {
                        biased;
                        result = talk => result,
                        () = tokio::time::sleep(within) => Err(Problem::TooLate(within)),
                        () = called_off => Err(Problem::CalledOff),
                    }
                });
                self.runtime = Some(runtime);
                result
            }
        };
        result.map_err(|problem| {
            // Whatever state it is in, the next question begins anew.
            self.connection = None;
            ExternalError { at: self.place.to_string(), problem }.into()
        })
    }

    /// How long an answer may take from now on.
    fn within(&self) -> Duration {
        let left = |attempt: &Attempt| attempt.deadline.saturating_duration_since(Instant::now());
        self.attempt.as_ref().map_or(self.answer, |attempt| left(attempt).min(self.answer))
    }

    fn ask(
        &mut self,
        wanted: Wanted,
        task: Task,
        adapter: &AdapterTensors,
        patients: &[usize],
        still: &[Range<usize>],
    ) -> Result<Answered, TrainError> {
        let ids = self.ids(patients)?;
        let values = self.values(adapter)?;
        if self.connection.is_none() {
            let who = self.introduce()?;
            let noted = self.seen.note(who.from_round, &who.name, who.digest);
            noted.map_err(|error| ExternalError { at: self.place.to_string(), problem: error.into() })?;
        }
        let connection = self.connection.take();
        let mut id = [0; 16];
        SysRng
            .try_fill_bytes(&mut id)
            .map_err(|error| Problem::Machine(std::io::Error::other(error)))
            .map_err(|problem| ExternalError { at: self.place.to_string(), problem })?;
        let question = Question {
            id: id.to_vec(),
            round: self.round(),
            attempt: self.attempt.as_ref().map_or(0, |attempt| attempt.attempt),
            patients: ids.len() as u64,
            values_bytes: values.len() as u64,
            within_ms: self.within().as_millis() as u64,
            task: Some(task),
            resting: answer::resting(&self.trained, still).map(|(tensor, _)| tensor.name.clone()).collect(),
        };
        let parts = parts(question, ids, values);
        let (trained, dimension) = (self.trained.clone(), self.dimension);
        let (connection, answered) = self.wait(async move {
            let mut connection = connection.ok_or(Problem::Malformed("no connection"))?;
            let mut reader = Reader::new(&id, wanted, &trained, dimension);
            let stream = tokio_stream::iter(parts);
            let mut answer = connection.compute(stream).await.map_err(said)?.into_inner();
            while let Some(part) = answer.message().await.map_err(said)? {
                reader.take(part)?;
            }
            Ok((connection, reader.finish()?))
        })?;
        self.connection = Some(connection);
        Ok(answered)
    }

    fn ids(&self, patients: &[usize]) -> Result<Vec<String>, TrainError> {
        let missing = |patient| TrainError::NoSuchPatient { patient, patients: self.patients.len() };
        patients.iter().map(|&p| self.patients.get(p).cloned().ok_or_else(|| missing(p))).collect()
    }

    /// All tensors, flat, in name order.
    fn values(&self, adapter: &AdapterTensors) -> Result<Vec<u8>, TrainError> {
        let mut bytes = Vec::new();
        for tensor in &self.open.tensors {
            let values = adapter.values(&tensor.name).unwrap_or_default();
            let expected = tensor.shape.iter().map(|&axis| axis as usize).product::<usize>();
            if values.len() != expected {
                let problem = format!("holds {} numbers, expected {expected}", values.len());
                return Err(crate::model::ModelError::Tensor { tensor: tensor.name.clone(), problem }.into());
            }
            bytes.reserve(4 * values.len());
            values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        }
        Ok(bytes)
    }

    fn named(&self, problem: Problem) -> TrainError {
        ExternalError { at: self.place.to_string(), problem }.into()
    }
}

impl std::fmt::Debug for ExternalTrainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExternalTrainer").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Trainer for ExternalTrainer {
    fn patients(&self) -> usize {
        self.patients.len()
    }

    fn dimension(&self) -> usize {
        self.dimension
    }

    fn begin(&mut self, attempt: Attempt) {
        // A trainer that was started anew has nothing of the old connection.
        self.connection = None;
        self.attempt = Some(attempt);
    }

    fn clips(&self) -> bool {
        true
    }

    fn sum(
        &mut self,
        adapter: &AdapterTensors,
        patients: &[usize],
        still: &[Range<usize>],
    ) -> Result<ClippedSum, TrainError> {
        let width = if self.bound * (patients.len() as f64) < f64::from(i32::MAX) { 4 } else { 8 };
        let task = Task::Sum(SumTask { value_bytes: width as u32 });
        let answered = self.ask(Wanted::Sum { width }, task, adapter, patients, still)?;
        let values = answered.sum().map_err(|problem| self.named(problem))?;
        answer::check_rest(&self.trained, still, &values).map_err(|problem| self.named(problem))?;
        Ok(ClippedSum { values, patients: patients.len() })
    }

    fn delta(
        &mut self,
        adapter: &AdapterTensors,
        patients: &[usize],
        still: &[Range<usize>],
    ) -> Result<OwnDelta, TrainError> {
        let answered = self.ask(Wanted::Delta, Task::Delta(self.local), adapter, patients, still)?;
        let (delta, loss, accuracy) = answered.delta().map_err(|problem| self.named(problem))?;
        answer::check_rest(&self.trained, still, &delta).map_err(|problem| self.named(problem))?;
        Ok(OwnDelta { delta, loss, accuracy })
    }

    fn lot(
        &mut self,
        _: &AdapterTensors,
        _: &[usize],
        _: &mut dyn FnMut(PatientGradient<'_>),
    ) -> Result<(), TrainError> {
        Err(TrainError::SumsOnly)
    }

    fn evaluate(&mut self, adapter: &AdapterTensors, limit: Option<usize>) -> Result<Evaluation, TrainError> {
        let task = Task::Evaluate(EvaluateTask { limit: limit.map_or(u64::MAX, |limit| limit as u64) });
        let answered = self.ask(Wanted::Scores, task, adapter, &[], &[])?;
        let (examples, loss, accuracy, macro_accuracy) =
            answered.scores().map_err(|problem| self.named(problem))?;
        Ok(Evaluation { examples, loss, accuracy, macro_accuracy, per_label: Vec::new() })
    }
}

/// Ends when nobody waits any longer.
async fn called_off(attempt: Option<&Attempt>) {
    match attempt {
        Some(attempt) => {
            while (attempt.wanted)() {
                tokio::time::sleep(LOOK).await;
            }
        }
        None => std::future::pending().await,
    }
}

/// Dials, and asks who it is.
async fn open(
    place: Place,
    request: OpenRequest,
    pinned: Option<Digest>,
) -> Result<(TrainerClient<Channel>, String, Digest), Problem> {
    let mut connection = TrainerClient::new(link::channel(&place).await?);
    let expected = request.plan_digest.clone();
    let reply = connection.open(request).await.map_err(said)?.into_inner();
    if reply.version != TRAINER_VERSION {
        return Err(Problem::Version(reply.version));
    }
    if reply.plan_digest != expected {
        return Err(Problem::OtherPlan);
    }
    let printable = reply.name.chars().all(|c| !c.is_control());
    if !printable || !(1..=100).contains(&reply.name.chars().count()) {
        return Err(Problem::Name(shortened(&reply.name)));
    }
    let digest = <[u8; 32]>::try_from(reply.digest.as_slice()).map(Digest);
    let found = digest.map_err(|_| Problem::Malformed("its code's digest has not 32 bytes"))?;
    match pinned {
        Some(pinned) if pinned != found => Err(Problem::OtherCode { found, pinned }),
        _ => Ok((connection, reply.name, found)),
    }
}

fn parts(question: Question, ids: Vec<String>, values: Vec<u8>) -> Vec<QuestionPart> {
    let part = |part| QuestionPart { part: Some(part) };
    let mut parts = vec![part(Part::Question(question))];
    parts.extend(ids.chunks(PART_IDS).map(|ids| part(Part::Patients(Patients { ids: ids.to_vec() }))));
    parts.extend(values.chunks(PART_BYTES).map(|values| part(Part::Values(values.to_vec()))));
    parts
}

/// What the trainer said, or what the connection said for it.
fn said(status: Status) -> Problem {
    use std::error::Error as _;
    match status.source() {
        // It came from this side's own transport.
        Some(source) => Problem::BrokeOff(link::causes(source)),
        None => Problem::Failed(shortened(status.message())),
    }
}
