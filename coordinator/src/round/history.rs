//! Finished attempts, as the operator's table shows them.

use consilium_proto::{ids::Id, plan::Guarantees, wire};

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
        }
    }
}

/// The two guarantees in the wire's form.
pub(crate) fn privacy(spent: Guarantees) -> wire::Privacy {
    wire::Privacy { epsilon: spent.central, epsilon_local: spent.local, delta: spent.delta }
}
