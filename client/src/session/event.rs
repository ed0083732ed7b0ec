//! What the session records before it speaks.
//!
//! Round secrets are never among it: after a restart the client sits the attempt out, and may only repeat a vote or an
//! answer that stands here.

use serde::{Deserialize, Serialize};

/// One recorded fact of the session's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// The attempt was accepted; no earlier one will be, and this one not twice.
    Joined {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
    },
    /// The masked vector is fixed: the digest of its signed header.
    Header {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// SHA-256 of the message, hexadecimal.
        digest: String,
    },
    /// The one vote of the attempt, whole.
    Voted {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// The message, hexadecimal.
        body: String,
    },
    /// The answer that took the masks off, whole. What it releases is public from here on; the other half is wiped.
    Answered {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// The message, hexadecimal.
        body: String,
    },
}

/// What the journal says about the last attempt that was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Round and attempt; (0, 0) before the first.
    pub fence: (u32, u32),
    pub(crate) vote: Option<Vec<u8>>,
    pub(crate) answer: Option<Vec<u8>>,
}

impl Recorded {
    /// Reads a journal's events in order.
    pub fn from_events<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut recorded = Self::default();
        for event in events {
            recorded.note(event);
        }
        recorded
    }

    pub(crate) fn note(&mut self, event: &Event) {
        match event {
            Event::Joined { round, attempt } => {
                *self = Self { fence: (*round, *attempt), vote: None, answer: None }
            }
            Event::Header { .. } => {}
            Event::Voted { body, .. } => self.vote = hex::decode(body).ok(),
            Event::Answered { body, .. } => self.answer = hex::decode(body).ok(),
        }
    }
}
