//! The session's own checks: the word that goes over the wire, the number in the manual's table, and who is to blame.
//!
//! The checks of the aggregation protocol, of announcements and of releases carry their numbers themselves.

use std::fmt;

/// Who is to blame for a refusal of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The coordinator: an honest one would not have sent it.
    Coordinator,
    /// Nobody: this client went away, or has nothing left to spend.
    Nobody,
}

/// A check of the session, by the word that the coordinator is told.
pub(crate) struct Check<'a>(pub(crate) &'a str);

impl Check<'_> {
    /// The number in the manual's table; empty for a word that has none.
    pub(crate) fn check(&self) -> &'static str {
        match self.0 {
            "old-attempt" => "S6",
            "restarted" => "S7",
            "answered-already" => "S8",
            "other-adapter" => "S9",
            "other-optimizer" => "S10",
            "budget" => "S11",
            "other-documents" => "S12",
            _ => "",
        }
    }

    /// Who is to blame.
    pub(crate) fn blame(&self) -> Blame {
        match self.0 {
            "old-attempt" | "other-adapter" | "other-optimizer" | "other-documents" => Blame::Coordinator,
            _ => Blame::Nobody,
        }
    }

    /// What goes into this client's log.
    pub(crate) fn words(&self, why: impl fmt::Display) -> String {
        match (self.check(), self.blame()) {
            ("", _) => why.to_string(),
            (check, Blame::Nobody) => format!("{check}: {why}"),
            (check, Blame::Coordinator) => format!("{check}, the coordinator's doing: {why}"),
        }
    }
}

/// What goes into this client's log when a check of an announcement or a release fails: the coordinator's doing, always.
pub(crate) fn coordinators_doing(check: &str, why: impl fmt::Display) -> String {
    format!("{check}, the coordinator's doing: {why}")
}
