//! This client's spans of each attempt, appended to a file on this machine: see [`consilium_proto::trace`].
//!
//! Nothing is sent. A round's trace id follows from plan and round, so whoever puts this file beside the coordinator's has one
//! trace of both. A span says when this client came to which step, and the code with which it declined; nothing of its data.

use std::{fs::OpenOptions, io::Write as _, path::PathBuf};

use consilium_proto::{
    ids::Id,
    plan::VerifiedPlan,
    trace::{Place, Span, Tracer},
};
use serde_json::json;

use crate::{link::now_ms, session::Effect};

/// Writes an attempt's spans when it ends.
pub struct Traces {
    path: PathBuf,
    tracer: Tracer,
    who: Id,
    attempt: Option<Attempt>,
}

struct Attempt {
    round: u32,
    attempt: u32,
    began_ms: u64,
    /// What was reached, and when.
    marks: Vec<(&'static str, u64)>,
}

impl Traces {
    /// Appends to `path`.
    pub fn new(path: PathBuf, plan: &VerifiedPlan, who: Id) -> Self {
        let job = plan.document().job.as_str();
        let tracer = Tracer::new(plan.digest(), job, "consilium-client", who.as_str());
        Self { path, tracer, who, attempt: None }
    }

    /// Notes what the session is about to do.
    pub(super) fn note(&mut self, effect: &Effect) {
        let now = now_ms();
        match effect {
            Effect::Train { round, attempt, .. } => self.reached(*round, *attempt, "joined", now),
            Effect::Reached { round, attempt, what } => self.reached(*round, *attempt, what, now),
            Effect::Applied { round, .. } if self.is_in(*round) => self.ended("", now),
            Effect::Declined { round, code, .. } if self.is_in(*round) => self.ended(code, now),
            _ => {}
        }
    }

    fn is_in(&self, round: u32) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.round == round)
    }

    fn reached(&mut self, round: u32, attempt: u32, what: &'static str, now: u64) {
        let same = self.attempt.as_ref().is_some_and(|it| (it.round, it.attempt) == (round, attempt));
        if !same {
            // The one before ended without a word to this client.
            self.ended("no-end", now);
            self.attempt = Some(Attempt { round, attempt, began_ms: now, marks: Vec::new() });
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.marks.push((what, now));
        }
    }

    fn ended(&mut self, failed: &str, now: u64) {
        let Some(ended) = self.attempt.take() else { return };
        let (round, who) = (ended.round, self.who.as_str());
        let own = Place { attempt: ended.attempt, name: "client", who };
        let span = |place, parent, began_ms, ended_ms, failed| {
            let attributes = vec![("consilium.organization", json!(who))];
            Span { round, place, parent: Some(parent), began_ms, ended_ms, attributes, failed }
        };
        let mut spans = vec![span(own, Place::attempt(ended.attempt), ended.began_ms, now, failed)];
        let mut at = ended.began_ms;
        for (what, reached) in ended.marks {
            let place = Place { attempt: ended.attempt, name: what, who };
            spans.push(span(place, own, at, reached, ""));
            at = reached;
        }
        let line = self.tracer.line(&spans);
        let file = OpenOptions::new().create(true).append(true).open(&self.path);
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
            tracing::warn!(%error, path = %self.path.display(), "traces cannot be written");
        }
    }
}
