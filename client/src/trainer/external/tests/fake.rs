//! A trainer that does as it is told, right or wrong.

use std::{
    future::pending,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, mpsc},
};

use consilium_proto::{
    TRAINER_VERSION,
    trainer_wire::{
        Answer, AnswerPart, Delta, OpenReply, OpenRequest, Question, QuestionPart, Scores, Sum, Tensor,
        answer::Result as Outcome,
        answer_part,
        question::Task,
        question_part,
        trainer_server::{Trainer as Service, TrainerServer},
    },
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Runtime,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::{
    Stream, StreamExt as _,
    wrappers::{ReceiverStream, UnixListenerStream},
};
use tonic::{Request, Response, Status, Streaming, transport::Server};

/// What the trainer does with a question, after it has read it whole.
#[derive(Clone, Debug)]
pub(super) enum Behaviour {
    /// Every patient counts one in every coordinate.
    Honest,
    /// The same, and what rests in a round moves with the rest.
    Restless,
    /// The tensors of its answer are these instead of the plan's.
    Tensors(fn(&mut Vec<Tensor>)),
    /// The parts of its honest answer are these instead.
    Parts(fn(&mut Vec<AnswerPart>)),
    /// It says another thing when it is asked who it is.
    Introduces(fn(&mut OpenReply)),
    /// It says that it failed.
    Fails,
    /// It never answers.
    Hangs,
    /// It answers half, and then dies.
    DiesInTheMiddle,
}

/// What a trainer was asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) patients: Vec<String>,
    pub(super) values: Vec<u8>,
}

/// A trainer that listens until it is dropped.
pub(super) struct Fake {
    runtime: Arc<Mutex<Option<Runtime>>>,
    pub(super) asked: Arc<Mutex<Vec<Asked>>>,
    pub(super) opened: Arc<Mutex<Vec<OpenRequest>>>,
}

#[derive(Clone)]
struct Inner {
    behaviour: Behaviour,
    asked: Arc<Mutex<Vec<Asked>>>,
    opened: Arc<Mutex<Vec<OpenRequest>>>,
    die: mpsc::Sender<()>,
}

impl Fake {
    fn new(behaviour: Behaviour) -> (Self, Inner) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let fake = Self {
            runtime: Arc::new(Mutex::new(Some(runtime.unwrap()))),
            asked: Arc::default(),
            opened: Arc::default(),
        };
        let (die, dies) = mpsc::channel();
        let runtime = fake.runtime.clone();
        std::thread::spawn(move || {
            if dies.recv().is_ok() {
                shut_down(&runtime);
            }
        });
        let inner = Inner { behaviour, asked: fake.asked.clone(), opened: fake.opened.clone(), die };
        (fake, inner)
    }

    pub(super) fn listen(socket: &Path, behaviour: Behaviour) -> Self {
        drop(std::fs::remove_file(socket));
        let (fake, inner) = Self::new(behaviour);
        let guard = fake.runtime.lock().unwrap();
        let runtime = guard.as_ref().unwrap();
        let listener = {
            let _inside = runtime.enter();
            UnixListenerStream::new(UnixListener::bind(socket).unwrap())
        };
        runtime.spawn(Server::builder().add_service(TrainerServer::new(inner)).serve_with_incoming(listener));
        drop(guard);
        fake
    }

    /// The same behind TLS; gives the address.
    pub(super) fn listen_tls(config: ServerConfig, behaviour: Behaviour) -> (Self, String) {
        let (fake, inner) = Self::new(behaviour);
        let guard = fake.runtime.lock().unwrap();
        let runtime = guard.as_ref().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (accepted, incoming) = tokio::sync::mpsc::channel(1);
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                if let Ok(mut stream) = acceptor.accept(tcp).await {
                    // The server knows what this is, and not what TLS is.
                    let (mut near, far) = tokio::io::duplex(1 << 16);
                    drop(accepted.send(Ok::<_, std::io::Error>(far)).await);
                    tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut near).await });
                }
            }
        });
        let incoming = ReceiverStream::new(incoming);
        runtime.spawn(Server::builder().add_service(TrainerServer::new(inner)).serve_with_incoming(incoming));
        drop(guard);
        (fake, address)
    }
}

/// Every task is dropped where it stands, and its sockets with it.
fn shut_down(runtime: &Mutex<Option<Runtime>>) {
    if let Some(runtime) = runtime.lock().unwrap().take() {
        runtime.shutdown_background();
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        shut_down(&self.runtime);
    }
}

type Parts = Pin<Box<dyn Stream<Item = Result<AnswerPart, Status>> + Send>>;

#[tonic::async_trait]
impl Service for Inner {
    async fn open(&self, request: Request<OpenRequest>) -> Result<Response<OpenReply>, Status> {
        let request = request.into_inner();
        let mut reply = OpenReply {
            version: TRAINER_VERSION,
            name: "fake".into(),
            digest: vec![5; 32],
            plan_digest: request.plan_digest.clone(),
        };
        self.opened.lock().unwrap().push(request);
        if let Behaviour::Introduces(change) = self.behaviour {
            change(&mut reply);
        }
        Ok(Response::new(reply))
    }

    type ComputeStream = Parts;

    async fn compute(
        &self,
        request: Request<Streaming<QuestionPart>>,
    ) -> Result<Response<Self::ComputeStream>, Status> {
        let asked = read(request.into_inner()).await?;
        self.asked.lock().unwrap().push(asked.clone());
        let mut tensors = self.opened.lock().unwrap().last().unwrap().tensors.clone();
        tensors.retain(|tensor| tensor.trained);
        let mut values = honest_values(&asked, &tensors);
        if !matches!(self.behaviour, Behaviour::Restless) {
            let count: usize = tensors.iter().map(elements).sum();
            let width = values.len() / count;
            let mut rest = values.as_mut_slice();
            for tensor in &tensors {
                let (own, after) = rest.split_at_mut(width * elements(tensor));
                if asked.question.resting.contains(&tensor.name) {
                    own.fill(0);
                }
                rest = after;
            }
        }
        if let Behaviour::Tensors(change) = self.behaviour {
            change(&mut tensors);
        }
        let result = Some(outcome(&asked));
        let head = Answer { id: asked.question.id.clone(), tensors, result };
        let mut parts = vec![part(answer_part::Part::Answer(head))];
        parts.extend(values.chunks(1000).map(|values| part(answer_part::Part::Values(values.to_vec()))));
        match self.behaviour {
            Behaviour::Parts(change) => change(&mut parts),
            Behaviour::Fails => return Err(Status::internal("a\u{1b}[2J patient\nwas broken")),
            Behaviour::Hangs => pending().await,
            Behaviour::DiesInTheMiddle => {
                let die = self.die.clone();
                let half = parts.len() / 2;
                let first = tokio_stream::iter(parts.into_iter().take(half).map(Ok));
                let last = tokio_stream::iter([()]).then(move |()| {
                    let _ = die.send(());
                    pending()
                });
                return Ok(Response::new(Box::pin(first.chain(last))));
            }
            _ => {}
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(parts.into_iter().map(Ok)))))
    }
}

async fn read(mut stream: Streaming<QuestionPart>) -> Result<Asked, Status> {
    let mut asked = Asked::default();
    while let Some(part) = stream.message().await? {
        match part.part {
            Some(question_part::Part::Question(question)) => asked.question = question,
            Some(question_part::Part::Patients(patients)) => asked.patients.extend(patients.ids),
            Some(question_part::Part::Values(values)) => asked.values.extend(values),
            None => return Err(Status::invalid_argument("nothing")),
        }
    }
    assert_eq!(asked.question.patients, asked.patients.len() as u64);
    assert_eq!(asked.question.values_bytes, asked.values.len() as u64);
    Ok(asked)
}

fn elements(tensor: &Tensor) -> usize {
    tensor.shape.iter().product::<u32>() as usize
}

fn honest_values(asked: &Asked, tensors: &[Tensor]) -> Vec<u8> {
    let count = tensors.iter().map(elements).sum();
    let patients = asked.patients.len();
    match &asked.question.task {
        Some(Task::Sum(task)) if task.value_bytes == 8 => (patients as i64).to_le_bytes().repeat(count),
        Some(Task::Sum(_)) => (patients as i32).to_le_bytes().repeat(count),
        Some(Task::Delta(_)) => 0.25f32.to_le_bytes().repeat(count),
        _ => Vec::new(),
    }
}

fn outcome(asked: &Asked) -> Outcome {
    let patients = asked.patients.len() as i64;
    match &asked.question.task {
        Some(Task::Sum(_)) => Outcome::Sum(Sum { loss: patients, correct: 2 * patients }),
        Some(Task::Delta(_)) => Outcome::Delta(Delta { loss: 0.5, accuracy: 0.75 }),
        _ => Outcome::Scores(Scores { examples: 40, loss: 0.7, accuracy: 0.6, macro_accuracy: 0.5 }),
    }
}

pub(super) fn part(part: answer_part::Part) -> AnswerPart {
    AnswerPart { part: Some(part) }
}

/// The head among an answer's parts.
pub(super) fn head(parts: &mut [AnswerPart]) -> &mut Answer {
    match &mut parts[0].part {
        Some(answer_part::Part::Answer(head)) => head,
        _ => panic!("the head stands first"),
    }
}

/// The first values among an answer's parts.
pub(super) fn values(parts: &mut [AnswerPart]) -> &mut Vec<u8> {
    match &mut parts[1].part {
        Some(answer_part::Part::Values(values)) => values,
        _ => panic!("values follow the head"),
    }
}
