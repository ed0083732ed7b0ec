//! The thread that trains: libtorch is blocking and keeps its own state, so it has a thread of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use consilium_crypto::{release::AdapterState, ring::RingVector};
use consilium_proto::{plan::VerifiedPlan, wire};
use rand::{rand_core::UnwrapErr, rngs::SysRng};
use tokio::sync::mpsc;

use super::lot::{LotFailed, encode_lot, tensors};
use crate::{
    session::Input,
    trainer::{Attempt, Trainer, home::tells_scores},
};

/// In the place of a ticket: nothing is wanted any more, the process ends.
const STOPPED: u64 = u64::MAX;

enum Order {
    Train { ticket: u64, round: u32, attempt: u32, adapter: Arc<AdapterState> },
    Evaluate { round: u32, adapter: Arc<AdapterState> },
}

/// The way to the training thread.
pub(super) struct Worker {
    orders: Option<Sender<Order>>,
    /// The only ticket that is still wanted.
    current: Arc<AtomicU64>,
    next: u64,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(super) fn start(
        plan: Arc<VerifiedPlan>,
        trainer: Box<dyn Trainer>,
        #[cfg(feature = "test-hooks")] hook: std::path::PathBuf,
    ) -> std::io::Result<(Self, mpsc::UnboundedReceiver<Input>)> {
        let (orders, inbox) = channel();
        let (report, reports) = mpsc::unbounded_channel();
        let current = Arc::new(AtomicU64::new(0));
        let core = Core {
            plan,
            trainer,
            report,
            current: current.clone(),
            #[cfg(feature = "test-hooks")]
            hook,
        };
        let thread = std::thread::Builder::new().name("trainer".into()).spawn(move || core.run(&inbox))?;
        Ok((Self { orders: Some(orders), current, next: 0, thread: Some(thread) }, reports))
    }

    pub(super) fn train(&mut self, round: u32, attempt: u32, adapter: Arc<AdapterState>) {
        self.next += 1;
        self.current.store(self.next, Ordering::Relaxed);
        self.order(Order::Train { ticket: self.next, round, attempt, adapter });
    }

    pub(super) fn evaluate(&self, round: u32, adapter: Arc<AdapterState>) {
        self.order(Order::Evaluate { round, adapter });
    }

    pub(super) fn stop_training(&self) {
        self.current.store(0, Ordering::Relaxed);
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            drop(orders.send(order));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.current.store(STOPPED, Ordering::Relaxed);
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Core {
    plan: Arc<VerifiedPlan>,
    trainer: Box<dyn Trainer>,
    report: mpsc::UnboundedSender<Input>,
    current: Arc<AtomicU64>,
    #[cfg(feature = "test-hooks")]
    hook: std::path::PathBuf,
}

impl Core {
    fn run(mut self, inbox: &Receiver<Order>) {
        while let Ok(order) = inbox.recv() {
            let report = match order {
                // Called off while it waited.
                Order::Train { ticket, .. } if self.current.load(Ordering::Relaxed) != ticket => continue,
                Order::Train { ticket, round, attempt, adapter } => {
                    self.begin(round, attempt, move |current| current == ticket);
                    self.train(round, attempt, &adapter)
                }
                Order::Evaluate { round, adapter } => {
                    self.begin(round, 0, |current| current != STOPPED);
                    match self.evaluate(round, &adapter) {
                        Some(evaluation) => Input::Evaluated(evaluation),
                        None => continue,
                    }
                }
            };
            if self.report.send(report).is_err() {
                return;
            }
        }
    }

    /// What is not there when the step for inputs ends would be of no use.
    fn begin(&mut self, round: u32, attempt: u32, wanted: impl Fn(u64) -> bool + Send + Sync + 'static) {
        let deadline = Instant::now() + Duration::from_secs(self.plan.document().deadlines.input_s.into());
        let current = self.current.clone();
        let wanted = Arc::new(move || wanted(current.load(Ordering::Relaxed)));
        self.trainer.begin(Attempt { round, attempt, deadline, wanted });
    }

    fn train(&mut self, round: u32, attempt: u32, adapter: &AdapterState) -> Input {
        tracing::info!(round, attempt, event = "train-began");
        #[cfg(feature = "test-hooks")]
        super::hook::pause();
        let update = self.lot(round, attempt, adapter);
        tracing::info!(round, attempt, event = "train-ended");
        #[cfg(feature = "test-hooks")]
        if let Ok(update) = &update {
            super::hook::keep(&self.hook, round, attempt, update);
        }
        Input::Trained { round, attempt, update: update.map_err(|failed| failed.0) }
    }

    #[cfg(not(feature = "test-hooks"))]
    fn lot(&mut self, _: u32, _: u32, adapter: &AdapterState) -> Result<RingVector, LotFailed> {
        encode_lot(&self.plan, self.trainer.as_mut(), adapter, &mut UnwrapErr(SysRng))
    }

    #[cfg(feature = "test-hooks")]
    fn lot(&mut self, round: u32, attempt: u32, adapter: &AdapterState) -> Result<RingVector, LotFailed> {
        match super::hook::lot_generator(round, attempt) {
            Some(mut seeded) => encode_lot(&self.plan, self.trainer.as_mut(), adapter, &mut seeded),
            None => encode_lot(&self.plan, self.trainer.as_mut(), adapter, &mut UnwrapErr(SysRng)),
        }
    }

    fn evaluate(&mut self, round: u32, adapter: &AdapterState) -> Option<wire::Evaluation> {
        if !tells_scores(&self.plan) {
            tracing::warn!(
                round,
                event = "evaluation-at-home",
                "not told: the head that stays at home has learned from records without noise, and so would its score; \
                 consilium-client evaluate shows it here"
            );
            return Some(wire::Evaluation { round, loss: f32::NAN, ..Default::default() });
        }
        tracing::info!(round, event = "evaluate-began");
        let most = self.plan.document().evaluation.max_examples as usize;
        let result = self.trainer.evaluate(&tensors(adapter), Some(most));
        tracing::info!(round, event = "evaluate-ended");
        match result {
            Ok(score) => Some(wire::Evaluation {
                round,
                loss: score.loss as f32,
                accuracy: score.accuracy as f32,
                macro_accuracy: score.macro_accuracy as f32,
                examples: u32::try_from(score.examples).unwrap_or(u32::MAX),
            }),
            Err(error) => {
                tracing::error!(%error, "evaluation failed");
                // The session counts evaluations under way, so a failed one is reported as not finite, which nobody accepts.
                Some(wire::Evaluation { round, loss: f32::NAN, ..Default::default() })
            }
        }
    }
}
