//! Finished attempts, as the operator's table shows them.

use consilium_crypto::secagg::Step;
use consilium_proto::{ids::Id, plan::Guarantees, wire};

use super::step_name;

/// A member without which an attempt went on or ended.
#[derive(Clone, Debug)]
pub(crate) struct Absent {
    pub(crate) id: Id,
    /// The first step that it did not answer.
    pub(crate) step: Step,
    /// Why, as far as it said; empty otherwise.
    pub(crate) code: String,
}

impl Absent {
    pub(crate) fn new(id: Id, step: Step) -> Self {
        Self { id, step, code: String::new() }
    }

    fn wire(&self) -> wire::Absence {
        let step = step_name(self.step).into();
        wire::Absence { id: self.id.to_string(), step, code: self.code.clone() }
    }

    /// It had dealt its shares: the attempt cost ε with it in it.
    pub(crate) fn cost_privacy(&self) -> bool {
        matches!(self.step, Step::Input | Step::Vote | Step::Unmask)
    }
}

/// One attempt from its announcement to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) round: u32,
    pub(crate) attempt: u32,
    pub(crate) started_ms: u64,
    pub(crate) ended_ms: u64,
    /// When each step ended, in order.
    pub(crate) step_ends_ms: Vec<u64>,
    pub(crate) outcome: String,
    pub(crate) survivors: Vec<Id>,
    pub(crate) culprits: Vec<Id>,
    pub(crate) train_loss: Option<f64>,
    pub(crate) train_accuracy: Option<f64>,
    pub(crate) evaluation: Option<wire::Evaluation>,
    pub(crate) evaluator: Option<Id>,
    pub(crate) upload_bytes: u64,
    /// Attempts debited by its end.
    pub(crate) debited: u64,
    pub(crate) adapter: Option<[u8; 32]>,
    pub(crate) absent: Vec<Absent>,
    /// It cost ε.
    pub(crate) is_debited: bool,
}

impl Summary {
    /// The wire's form, with what the attempts so far have cost, if that is known yet.
    pub(crate) fn wire(&self, spent: Option<Guarantees>) -> wire::RoundSummary {
        let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e3;
        let mut begins = vec![self.started_ms];
        begins.extend(&self.step_ends_ms);
        let mut ends = self.step_ends_ms.clone();
        ends.push(self.ended_ms);
        let evaluation = self.evaluation.as_ref();
        wire::RoundSummary {
            round: self.round,
            attempt: self.attempt,
            outcome: self.outcome.clone(),
            survivors: self.survivors.iter().map(Id::to_string).collect(),
            culprits: self.culprits.iter().map(Id::to_string).collect(),
            train_loss: self.train_loss,
            train_accuracy: self.train_accuracy,
            test_loss: evaluation.map(|e| e.loss.into()),
            test_accuracy: evaluation.map(|e| e.accuracy.into()),
            test_macro_accuracy: evaluation.map(|e| e.macro_accuracy.into()),
            evaluator: self.evaluator.as_ref().map(Id::to_string).unwrap_or_default(),
            spent: spent.map(privacy),
            upload_bytes: self.upload_bytes,
            seconds: seconds(self.started_ms, self.ended_ms),
            step_seconds: begins.iter().zip(&ends).map(|(&begin, &end)| seconds(begin, end)).collect(),
            started_ms: self.started_ms,
            adapter_digest: self.adapter.map(|digest| digest.to_vec()).unwrap_or_default(),
            absent: self.absent.iter().map(Absent::wire).collect(),
            debited: self.is_debited,
            epsilon_wasted: None,
        }
    }
}

/// The two guarantees in the wire's form.
pub(crate) fn privacy(spent: Guarantees) -> wire::Privacy {
    wire::Privacy { epsilon: spent.central, epsilon_local: spent.local, delta: spent.delta }
}
