//! The coordinator's spans: a round, its attempts, their steps.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
};

use consilium_proto::{
    plan::VerifiedPlan,
    trace::{Place, Span, Tracer},
    wire::RoundSummary,
};
use serde_json::json;

/// The steps of an attempt, in the order of [`RoundSummary::step_seconds`].
const STEPS: [&str; 6] = ["advertise", "share", "input", "vote", "unmask", "release"];

/// Writes spans of ended attempts to a file.
pub(crate) struct Traces {
    path: PathBuf,
    tracer: Tracer,
    /// Attempts of the record that were written, or ended before the process began.
    written: usize,
    /// When the round at hand began, if that was seen.
    round_began: Option<(u32, u64)>,
}

impl Traces {
    /// `ended`: attempts that have ended already.
    pub(crate) fn new(path: &Path, plan: &VerifiedPlan, coordinator: &str, ended: usize) -> Self {
        let job = plan.document().job.as_str();
        let tracer = Tracer::new(plan.digest(), job, "consilium-coordinator", coordinator);
        Self { path: path.to_owned(), tracer, written: ended, round_began: None }
    }

    /// Writes what ended since the last call. `round_now`: the round that the job has come to.
    pub(crate) fn write(&mut self, ended: &[RoundSummary], round_now: u32, finished: bool) {
        for (index, attempt) in ended.iter().enumerate().skip(self.written) {
            let next = ended.get(index + 1).map_or(round_now, |next| next.round);
            let is_last = next != attempt.round || (finished && index + 1 == ended.len());
            let line = self.attempt(attempt, is_last);
            let file = OpenOptions::new().create(true).append(true).open(&self.path);
            if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
                tracing::warn!(%error, "traces cannot be written");
            }
        }
        self.written = ended.len();
    }

    fn attempt(&mut self, attempt: &RoundSummary, is_last: bool) -> String {
        let round = attempt.round;
        let took = |seconds: f64| (seconds * 1e3).round().max(0.0) as u64;
        let ended_ms = attempt.started_ms.saturating_add(took(attempt.seconds));
        let began = self.round_began.filter(|(number, _)| *number == round);
        let (_, round_began_ms) = *self.round_began.insert(began.unwrap_or((round, attempt.started_ms)));
        let own = Place::attempt(attempt.attempt);
        let failed = if attempt.outcome == "released" { "" } else { attempt.outcome.as_str() };
        let mut spans = vec![Span {
            round,
            place: own,
            parent: Some(Place::ROUND),
            began_ms: attempt.started_ms,
            ended_ms,
            attributes: vec![
                ("consilium.outcome", json!(attempt.outcome)),
                ("consilium.survivors", json!(attempt.survivors.len())),
                ("consilium.masked_input_bytes", json!(attempt.upload_bytes)),
            ],
            failed,
        }];
        let mut at = attempt.started_ms;
        for (name, seconds) in STEPS.into_iter().zip(&attempt.step_seconds) {
            let until = at.saturating_add(took(*seconds));
            let place = Place { attempt: attempt.attempt, name, who: "" };
            let absent: Vec<_> = attempt
                .absent
                .iter()
                .filter(|absent| absent.step == name)
                .map(|absent| &*absent.id)
                .collect();
            let attributes =
                vec![("consilium.step", json!(name)), ("consilium.absent", json!(absent.join(",")))];
            spans.push(Span {
                round,
                place,
                parent: Some(own),
                began_ms: at,
                ended_ms: until,
                attributes,
                failed: "",
            });
            at = until;
        }
        if is_last {
            spans.push(Span {
                round,
                place: Place::ROUND,
                parent: None,
                began_ms: round_began_ms,
                ended_ms,
                attributes: Vec::new(),
                failed,
            });
        }
        self.tracer.line(&spans)
    }
}
