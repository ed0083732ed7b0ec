//! What the full-screen view knows: the last status, what moved since the one before, and what went wrong.

use std::{collections::VecDeque, time::Duration};

use consilium_proto::{plan::VerifiedPlan, wire};

/// Notes that are kept.
const NOTES: usize = 50;

/// Everything that is drawn.
#[derive(Default)]
pub(super) struct Model {
    pub(super) status: wire::JobStatus,
    /// Since the last status.
    pub(super) since: Duration,
    /// Bytes a second, in and out, over the last updates.
    pub(super) rates: Option<(f64, f64)>,
    /// What happened to the connection and to attempts, newest last.
    pub(super) notes: VecDeque<String>,
    /// Of the signed plan, where one is at hand.
    pub(super) budget: Option<f64>,
    pub(super) note: String,
    /// Whose view it is.
    pub(super) address: String,
    /// The connection is broken; what is shown is old.
    pub(super) stale: bool,
    last_attempt: (u32, u32),
}

impl Model {
    pub(super) fn new(address: &str, plan: Option<&VerifiedPlan>) -> Self {
        let document = plan.map(VerifiedPlan::document);
        Self {
            address: address.to_owned(),
            budget: document.map(|plan| plan.privacy.epsilon).filter(|epsilon| *epsilon > 0.0),
            note: document.map(|plan| plan.privacy.note.clone()).unwrap_or_default(),
            ..Self::default()
        }
    }

    /// Takes a newer status.
    pub(super) fn update(&mut self, status: wire::JobStatus) {
        let took = status.now_ms.saturating_sub(self.status.now_ms) as f64 / 1e3;
        let same_process = status.bytes_in >= self.status.bytes_in && self.status.now_ms > 0;
        if same_process && took >= 0.2 {
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / took;
            let new =
                (rate(status.bytes_in, self.status.bytes_in), rate(status.bytes_out, self.status.bytes_out));
            // Smoothed, so that a burst can be read.
            self.rates = Some(self.rates.map_or(new, |old| ((old.0 + new.0) / 2.0, (old.1 + new.1) / 2.0)));
        }
        if let Some(last) = status.recent.last() {
            let attempt = (last.round, last.attempt);
            if self.last_attempt != (0, 0) && attempt > self.last_attempt && last.outcome != "released" {
                self.note(format!("round {}, attempt {}: {}", last.round, last.attempt, last.outcome));
            }
            self.last_attempt = attempt;
        }
        self.stale = false;
        self.since = Duration::ZERO;
        self.status = status;
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.notes.push_back(text.into());
        if self.notes.len() > NOTES {
            self.notes.pop_front();
        }
    }

    /// The budget: the signed plan's, or else as the coordinator tells it.
    pub(super) fn epsilon_budget(&self) -> Option<f64> {
        self.budget.or(Some(self.status.epsilon_budget).filter(|epsilon| *epsilon > 0.0))
    }
}
