//! What the session records before it speaks.
//!
//! Round secrets are never among it: after a restart the client sits the attempt out, and may only repeat a vote or an
//! answer that stands here.

use std::collections::BTreeSet;

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
    /// Peers hold later words of this organization than its state knows of: it was restored, and takes part in nothing until
    /// it has been recovered.
    Restored {
        /// Those words.
        lost: Vec<Lost>,
    },
    /// What was lost is being charged.
    Recovering {
        /// Length of the ledger when it is.
        length: u64,
    },
    /// It has been charged, and no attempt up to this one will be joined.
    Recovered {
        /// Round.
        round: u32,
        /// Attempt.
        attempt: u32,
        /// Fingerprints of plans whose adverts, so the operator says, were about another data set.
        other_data_sets: Vec<String>,
    },
}

impl Event {
    /// The word it is recorded under.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Joined { .. } => "joined",
            Self::Header { .. } => "header",
            Self::Voted { .. } => "voted",
            Self::Answered { .. } => "answered",
            Self::Restored { .. } => "restored",
            Self::Recovering { .. } => "recovering",
            Self::Recovered { .. } => "recovered",
        }
    }
}

/// One of this organization's own words that its state does not know of: an advert that peers hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    /// The job's name, as the peer gives it.
    pub job: String,
    /// Fingerprint of its plan, hexadecimal.
    pub plan: String,
    /// Round; under another plan than the current one, as the peer gives it.
    pub round: u32,
    /// Attempt; likewise.
    pub attempt: u32,
    /// Debits in the ledger when the attempt was joined.
    pub length: u64,
    /// The ledger's salted head then, hexadecimal.
    pub head: String,
}

/// What the journal says about the last attempt that was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Round and attempt; (0, 0) before the first.
    pub fence: (u32, u32),
    pub(crate) vote: Option<Vec<u8>>,
    pub(crate) answer: Option<Vec<u8>>,
    restored: Vec<Lost>,
    recovering: Option<u64>,
    pub(crate) other_data_sets: BTreeSet<String>,
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

    /// What peers hold that this state does not know of; empty unless it was restored and has not been recovered.
    pub fn restored(&self) -> &[Lost] {
        &self.restored
    }

    /// Length of the ledger once what was lost is charged, if charging has begun.
    pub fn recovering(&self) -> Option<u64> {
        self.recovering
    }

    pub(crate) fn note(&mut self, event: &Event) {
        match event {
            Event::Joined { round, attempt } => {
                (self.fence, self.vote, self.answer) = ((*round, *attempt), None, None);
            }
            Event::Restored { lost } => (self.restored, self.recovering) = (lost.clone(), None),
            Event::Recovering { length } => self.recovering = Some(*length),
            Event::Recovered { round, attempt, other_data_sets } => {
                (self.restored, self.recovering) = (Vec::new(), None);
                self.other_data_sets.extend(other_data_sets.iter().cloned());
                if (*round, *attempt) > self.fence {
                    (self.fence, self.vote, self.answer) = ((*round, *attempt), None, None);
                }
            }
            Event::Header { .. } => {}
            Event::Voted { body, .. } => self.vote = hex::decode(body).ok(),
            Event::Answered { body, .. } => self.answer = hex::decode(body).ok(),
        }
    }
}
